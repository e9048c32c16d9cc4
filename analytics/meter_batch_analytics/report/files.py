"""A report's files, as its notebook reads and writes them."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from ..errors import ReportError
from ..words import language_of
from .facts import Facts
from .page import FONT, Page, require_font
from .workbook import Workbook

FORMATS = ("pdf", "xlsx", "html")


def file_name(facts: Facts, language: str, format_: str) -> str:
    """The name of a report's file, plain ASCII: energy-monthly-2026-10-en.pdf."""
    return f"energy-{facts.kind}-{facts.period}-{language_of(language)}.{format_}"


def read(file: str) -> Facts:
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
    for one in known_formats(formats):
        path = Path(folder) / file_name(facts, language, one)
        data = ways[one]()
        with disk(path), path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        made[one] = path
    return made


def warm() -> None:
    """Loads fonts and whatever else is paid for once, so that the first report is as quick as the second."""
    import gc

    with suppress(ReportError):
        require_font()
        from weasyprint import HTML

        HTML(string=f'<p style="font-family:{FONT};font-size:9pt">kWh <b>电 1</b>').write_pdf()
    # What was loaded so far stays: nobody has to look through it again and again.
    gc.collect()
    gc.freeze()


def known_formats(formats: Iterable[str]) -> list[str]:
    """Formats, each once. ReportError where there is no such one, or none at all."""
    wanted = list(dict.fromkeys(formats))
    if unknown := [one for one in wanted if one not in FORMATS]:
        raise ReportError(f"there is no format {', '.join(unknown)}; there are {', '.join(FORMATS)}")
    if not wanted:
        raise ReportError(f"no format was asked for; there are {', '.join(FORMATS)}")
    return wanted


class disk:  # noqa: N801  (it is used as a function)
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
