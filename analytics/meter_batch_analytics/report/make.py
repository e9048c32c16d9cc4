"""One run of the notebook makes all files of a report."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..archive.durable import sync_folder
from ..errors import ReportError
from ..words import language_of
from .facts import Facts
from .files import disk, file_name, known_formats
from .kernel import Kernel

NOTEBOOK = "energy.ipynb"


def notebook() -> Path:
    """The notebook of energy reports: of the installed package, or of a checkout."""
    here = Path(__file__).resolve()
    folders = (here.parents[1] / "reports", here.parents[3] / "reports")
    return next((one / NOTEBOOK for one in folders if (one / NOTEBOOK).is_file()), folders[-1] / NOTEBOOK)


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
    started and ended. ReportError, in words, for an unknown format, a notebook that raises, a missing font, a full
    disk.
    """
    wanted = known_formats(formats)
    with disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=".making-", dir=folder))
    try:
        with disk(folder):
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
        with disk(folder):
            return _published(made, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _published(made: Sequence[Path], folder: Path) -> list[Path]:
    """Gives files their names in `folder`; where one cannot be had, those of this call go again."""
    named: list[Path] = []
    try:
        for one in made:
            named.append(one.replace(folder / one.name))  # noqa: PERF401  (one that fails must not hide the others)
        sync_folder(folder)
    except OSError:
        for one in named:
            one.unlink(missing_ok=True)
        raise
    return named
