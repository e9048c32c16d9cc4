"""A table out of a CSV or XLSX file, as rows of texts. XLSX needs no library: it is XML in a zip."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from pathlib import Path
from xml.etree import ElementTree

_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_MOST = 20_000_000
"""Bytes of a sheet that are read; a data sheet's table is far smaller."""


def read_sheet(path: Path) -> list[list[str]]:
    """The rows of a file, of an XLSX its first sheet; raises ConfigError where it is neither."""
    from meter_batch_engine import ConfigError

    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    if data[:4] == b"PK\x03\x04":
        try:
            return _xlsx(data)
        except (KeyError, ValueError, zipfile.BadZipFile, ElementTree.ParseError) as error:
            raise ConfigError(f"{path}: it is no XLSX that can be read ({error}); save it as CSV") from error
    wide = ("utf-16",) if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ()
    for encoding in (*wide, "utf-8-sig", "gb18030", "cp1252"):
        try:
            text = data.decode(encoding)
        except UnicodeError:
            continue
        if "\0" not in text:
            return _csv(text)
    raise ConfigError(f"{path}: it is neither CSV nor XLSX; save the table as CSV")


def _csv(text: str) -> list[list[str]]:
    first = "\n".join(text.splitlines()[:20])
    separator = max(",;\t|", key=first.count)
    return [list(row) for row in csv.reader(io.StringIO(text), delimiter=separator)]


def _xlsx(data: bytes) -> list[list[str]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = sorted(
            (one for one in archive.namelist() if re.fullmatch(r"xl/worksheets/sheet\d+\.xml", one)),
            key=lambda one: int(re.sub(r"\D", "", one)),
        )
        if not names:
            raise KeyError("no sheet in it")
        for name in (names[0], "xl/sharedStrings.xml"):
            if name in archive.namelist() and archive.getinfo(name).file_size > _MOST:
                raise ValueError("the sheet is too large")
        shared: list[str] = []
        if "xl/sharedStrings.xml" in archive.namelist():
            root = ElementTree.fromstring(archive.read("xl/sharedStrings.xml"))
            shared = ["".join(one.itertext()) for one in root.iter(f"{_MAIN}si")]
        sheet = ElementTree.fromstring(archive.read(names[0]))
    return [_row(row, shared) for row in sheet.iter(f"{_MAIN}row")]


def _row(row: ElementTree.Element, shared: list[str]) -> list[str]:
    cells: list[str] = []
    for cell in row.iter(f"{_MAIN}c"):
        place = _column(cell.get("r", "")) if cell.get("r") else len(cells)
        cells += [""] * (place - len(cells))
        value = cell.find(f"{_MAIN}v")
        if cell.get("t") == "inlineStr":
            cells.append("".join(cell.itertext()))
        elif value is None or value.text is None:
            cells.append("")
        elif cell.get("t") == "s":
            cells.append(shared[int(value.text)])
        else:
            cells.append(value.text)
    return cells


def _column(reference: str) -> int:
    """The index of a cell's column: A1 → 0, AB3 → 27."""
    number = 0
    for letter in re.sub(r"[^A-Z]", "", reference):
        number = 26 * number + ord(letter) - 64
    return min(number - 1, 16_383)
