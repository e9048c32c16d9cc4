"""Which templates there are: those that are shipped, and a user's own beside them.

An own folder is the process's: `use_folder` says which. One file that is wrong leaves the others alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import TemplateError
from .file_table import did_you_mean
from .loader import load_file, parse_all, read_file
from .schema import Template

FOLDER = Path(__file__).resolve().parent.parent / "templates"


@dataclass(frozen=True, slots=True)
class _Own:
    """What one file of the own folder held."""

    text: str
    template: Template | None
    problems: tuple[TemplateError, ...]


_shipped: dict[str, Template] = {}
_own: dict[Path, _Own] = {}


def available() -> list[str]:
    """The ids of all templates: shipped ones, and those of the own folder that are right."""
    return sorted({*_ids(FOLDER), *_own_templates()})


def load(template_id: str) -> Template:
    """The template of this id, the same object each time; raises TemplateError where there is none or it is wrong."""
    if (found := _shipped.get(template_id)) is not None:
        return found
    if template_id in _ids(FOLDER):
        return _shipped.setdefault(template_id, load_file(FOLDER / f"{template_id}.toml"))
    if (own := _own_templates().get(template_id)) is not None:
        return own
    for path, one in _own.items():
        if f"{path.parent.name}/{path.stem}" == template_id:
            raise one.problems[0]
    hint = did_you_mean(template_id, available())
    raise TemplateError(f'there is no template "{template_id}"{hint}; "meter-batch templates" lists all')


def use_folder(path: Path | None) -> None:
    """Takes the templates of this folder (`<vendor>/<model>.toml`) beside the shipped ones; None for none.

    Called again it reads again: a file that has not changed keeps its object, what has gone is gone. A folder that does
    not exist is empty. Reads the disk; raises nothing: what is wrong is in `problems`.
    """
    read: dict[Path, _Own] = {}
    if path is not None and path.is_dir():
        shipped = _ids(FOLDER)
        read = {file: _read(file, path, shipped, _own.get(file)) for file in sorted(path.rglob("*.toml"))}
    _own.clear()
    _own.update(read)


def problems() -> tuple[TemplateError, ...]:
    """Every mistake in the files of the own folder; the templates in them are not available."""
    return tuple(problem for one in _own.values() for problem in one.problems)


def _read(file: Path, folder: Path, shipped: frozenset[str], before: _Own | None) -> _Own:
    id_ = f"{file.parent.name}/{file.stem}"
    if file.parent.parent != folder:
        return _Own(
            "", None, (TemplateError(f"{file}: it must lie in a folder of its vendor: {folder}/vendor/{file.name}"),)
        )
    if id_ in shipped:
        problem = f'{file}: there is a shipped template "{id_}" already; give the file another name'
        return _Own("", None, (TemplateError(problem),))
    try:
        text = read_file(file)
    except TemplateError as error:
        return _Own("", None, (error,))
    if before is not None and before.text == text:
        return before
    template, wrong = parse_all(text, id_, str(file))
    return _Own(text, template, wrong)


def _ids(folder: Path) -> frozenset[str]:
    return frozenset(f"{path.parent.name}/{path.stem}" for path in folder.glob("*/*.toml"))


def _own_templates() -> dict[str, Template]:
    return {one.template.id: one.template for one in _own.values() if one.template is not None}
