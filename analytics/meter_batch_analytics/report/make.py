"""One run of the notebook makes all files of a report.

`make` is for whoever wants files; `notebook_facts` and `write` are what the notebook itself calls.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ..archive.durable import sync_folder
from ..errors import ReportError
from ..words import language_of
from .facts import Facts
from .kernel import Kernel
from .page import Page
from .workbook import Workbook

FORMATS = ("pdf", "xlsx", "html")
NOTEBOOK = "energy.ipynb"


def notebook() -> Path:
    """The notebook of energy reports: of the installed package, or of a checkout."""
    here = Path(__file__).resolve()
    folders = (here.parents[1] / "reports", here.parents[3] / "reports")
    return next((one / NOTEBOOK for one in folders if (one / NOTEBOOK).is_file()), folders[-1] / NOTEBOOK)


def file_name(facts: Facts, language: str, format_: str) -> str:
    """The name of a report's file, plain ASCII: energy-monthly-2026-10-en.pdf."""
    return f"energy-{facts.kind}-{facts.period}-{language_of(language)}.{format_}"


def make(
    facts: Facts,
    language: str,
    formats: Iterable[str],
    folder: Path,
    *,
    kernel: Kernel | None = None,
    template: Path | None = None,
) -> list[Path]:
    """Makes the files of a report in `folder` by one run of its notebook (or of `template`) and returns their paths.

    All of them appear, or none. The same facts, language and format give the same bytes. Without a `kernel` one is
    started and ended. ReportError, in words, for an unknown format, a notebook that raises, a missing font and a full disk.
    """
    wanted = _formats(formats)
    with _disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=".making-", dir=folder))
    try:
        with _disk(folder):
            source = beside / "facts.json"
            source.write_text(json.dumps(facts.as_dict(), ensure_ascii=False), encoding="utf-8")
        parameters = {
            "facts_file": str(source.resolve()),
            "language": language_of(language),
            "formats": wanted,
            "folder": str(beside.resolve()),
        }
        if kernel is None:
            with Kernel() as own:
                own.run(template or notebook(), parameters)
        else:
            kernel.run(template or notebook(), parameters)
        made = [beside / file_name(facts, language, one) for one in wanted]
        if missing := [one.name for one in made if not one.is_file()]:
            raise ReportError(f"the notebook {(template or notebook()).name} did not write {', '.join(missing)}")
        with _disk(folder):
            return _published(made, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def notebook_facts(file: str) -> Facts:
    """Facts from the file that `make` wrote. ReportError where it is none."""
    try:
        return Facts.from_dict(json.loads(Path(file).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ReportError(f"the facts of the report cannot be read: {file}: {error}") from error


def write(page: Page, formats: Iterable[str], folder: str | Path) -> dict[str, Path]:
    """Writes the files of a report, each by its format. ReportError for an unknown format and a full disk."""
    facts, language = page.facts, page.language
    ways: dict[str, Callable[[], bytes]] = {
        "html": lambda: page.html.encode(),
        "pdf": page.pdf,
        "xlsx": lambda: Workbook(facts, language).bytes(),
    }
    made: dict[str, Path] = {}
    for one in _formats(formats):
        path = Path(folder) / file_name(facts, language, one)
        data = ways[one]()
        with _disk(path), path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        made[one] = path
    return made


def _formats(formats: Iterable[str]) -> list[str]:
    wanted = list(dict.fromkeys(formats))
    if unknown := [one for one in wanted if one not in FORMATS]:
        raise ReportError(f"there is no format {', '.join(unknown)}; there are {', '.join(FORMATS)}")
    if not wanted:
        raise ReportError(f"no format was asked for; there are {', '.join(FORMATS)}")
    return wanted


def _published(made: Sequence[Path], folder: Path) -> list[Path]:
    """Gives files their names in `folder`; where one cannot be had, those of this call go again."""
    named: list[Path] = []
    try:
        for one in made:
            named.append(one.replace(folder / one.name))
        sync_folder(folder)
    except OSError:
        for one in named:
            one.unlink(missing_ok=True)
        raise
    return named


class _disk:
    """Errors of a disk as ReportError, in words."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, at: object) -> None:
        if not isinstance(error, OSError):
            return
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ReportError(f"the disk is full ({self._path}): make room, then make the report again") from error
        raise ReportError(f"{self._path} cannot be written: {error.strerror or error}") from error
