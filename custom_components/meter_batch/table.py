"""Tables in files, as people really make them: CSV from any Excel in any of its encodings and separators, and XLSX.

Row numbers are those Excel shows: the header is 1.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from openpyxl import Workbook, load_workbook
from openpyxl.cell import WriteOnlyCell
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE
from openpyxl.utils.exceptions import InvalidFileException


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong (or was assumed) where; the text is message `key` of the translations with these placeholders."""

    row: int | None
    column: str | None
    key: str
    placeholders: dict[str, str]


class Unreadable(Exception):
    """The file as a whole is no table."""

    def __init__(self, key: str, **placeholders: str) -> None:
        super().__init__(key)
        self.problem = Problem(None, None, key, placeholders)


@dataclass(frozen=True, slots=True)
class Row:
    """The cells of one row, as many as the header has."""

    number: int
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A header and rows; rows whose shape is wrong are problems instead."""

    header: tuple[str, ...]
    rows: tuple[Row, ...]
    problems: tuple[Problem, ...]


def read_table(data: bytes, file_name: str, max_rows: int) -> Table:
    """Reads CSV or XLSX, whichever the bytes are; Unreadable where they are neither."""
    if not data.strip():
        raise Unreadable("import_empty")
    if data[:4] == b"PK\x03\x04":
        records = _xlsx(data)
    elif data[:8] == b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" or file_name.lower().endswith((".ods", ".pdf", ".doc")):
        raise Unreadable("import_old_excel")
    else:
        records = _csv(_decoded(data))
    filled = [(number, cells) for number, cells in records if any(cell.strip() for cell in cells)]
    if not filled:
        raise Unreadable("import_empty")
    if len(filled) > max_rows + 1:
        raise Unreadable("import_too_long", rows=str(len(filled) - 1), most=str(max_rows))
    header = list(filled[0][1])
    while header and not header[-1].strip():
        header.pop()
    rows, problems = [], []
    for number, cells in filled[1:]:
        if any(cell.strip() for cell in cells[len(header) :]) or len(cells) < len(header):
            problems.append(
                Problem(number, None, "import_row_shape", {"cells": str(len(cells)), "columns": str(len(header))})
            )
        else:
            rows.append(Row(number, tuple(cells[: len(header)])))
    return Table(tuple(header), tuple(rows), tuple(problems))


def _decoded(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        codecs: tuple[str, ...] = ("utf-16",)
    elif b"\0" in data[:200]:
        codecs = ("utf-16-le", "utf-16-be") if data[1:2] == b"\0" else ("utf-16-be", "utf-16-le")
    else:
        # GB 18030 takes in GBK, which is what "CSV" in a Chinese Excel is
        codecs = ("utf-8-sig", "gb18030")
    for codec in codecs:
        try:
            return data.decode(codec)
        except UnicodeDecodeError:
            continue
    raise Unreadable("import_encoding")


def _csv(text: str) -> list[tuple[int, list[str]]]:
    first, _, rest = text.lstrip("\r\n").partition("\n")
    shift = len(text) - len(text.lstrip("\r\n"))
    skipped = text[:shift].count("\n")
    if first.lower().startswith("sep=") and len(first.strip()) == 5:
        separator, body, skipped = first.strip()[4], rest, skipped + 1
    else:
        body = text[shift:]
        separator = max(",;\t", key=first.count)
    # openpyxl and Excel count records, not lines: a quoted cell may hold a line break
    try:
        records = list(csv.reader(io.StringIO(body, newline=""), delimiter=separator, strict=True))
    except csv.Error:
        raise Unreadable("import_bad_quotes", row=str(skipped + _row_of_bad_quotes(body, separator))) from None
    return [(number, cells) for number, cells in enumerate(records, skipped + 1)]


def _row_of_bad_quotes(body: str, separator: str) -> int:
    reader = csv.reader(io.StringIO(body, newline=""), delimiter=separator, strict=True)
    count = 0
    try:
        for _ in reader:
            count += 1
    except csv.Error:
        pass
    return count + 1


def _xlsx(data: bytes) -> list[tuple[int, list[str]]]:
    try:
        book = load_workbook(io.BytesIO(data), read_only=True, data_only=True)
    except (InvalidFileException, KeyError, ValueError, zipfile.BadZipFile, OSError) as error:
        raise Unreadable("import_bad_xlsx") from error
    try:
        sheet = book.worksheets[0] if book.worksheets else None
        if sheet is None:
            raise Unreadable("import_empty")
        records = [(number, [_cell(value) for value in row]) for number, row in enumerate(sheet.values, 1)]
    finally:
        book.close()
    width = max((len(cells) for _, cells in records), default=0)
    return [(number, cells + [""] * (width - len(cells))) for number, cells in records]


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == datetime.min.time() else value.isoformat()
    return str(value)


def write_csv(rows: Sequence[Sequence[str]]) -> str:
    """CSV text that Excel opens without asking: CRLF, and cells quoted where they must be."""
    out = io.StringIO(newline="")
    csv.writer(out).writerows(rows)
    return out.getvalue()


def write_xlsx(rows: Sequence[Sequence[str]]) -> bytes:
    """A workbook with every cell as text, so that no Excel turns a meter number into 1.23E+11."""
    book = Workbook(write_only=True)
    sheet = book.create_sheet("points")
    for row in rows:
        cells = []
        for text in row:
            cell = WriteOnlyCell(sheet, ILLEGAL_CHARACTERS_RE.sub("", text))
            cell.data_type = "s"  # a name that begins with = is no formula
            cells.append(cell)
        sheet.append(cells)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()
