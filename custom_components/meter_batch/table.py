"""Tables in files, as people really make them: CSV from any Excel in any of its encodings and separators, and XLSX.

Row numbers are those Excel shows: the header is 1.
"""

from __future__ import annotations

import csv
import io
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from openpyxl import Workbook, load_workbook
from openpyxl.cell import WriteOnlyCell
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE
from openpyxl.utils import column_index_from_string, get_column_letter
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
    doubts: Mapping[int, Problem] = field(default_factory=dict)
    """By index: cells that do not hold what was typed there. Whether that matters depends on the column."""


@dataclass(frozen=True, slots=True)
class Table:
    """A header and rows; rows whose shape is wrong are problems instead."""

    header: tuple[str, ...]
    rows: tuple[Row, ...]
    problems: tuple[Problem, ...]
    header_row: int = 1


BROKEN = (
    InvalidFileException,
    zipfile.BadZipFile,
    zlib.error,
    SyntaxError,  # what XML parsers raise is one
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    OSError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    MemoryError,
)
"""What openpyxl and what it reads with raise of a workbook that is none, of which it promises nothing."""
MOST_UNPACKED = 100_000_000
"""Bytes that a workbook may unpack to: lists of the most rows have a tenth of it."""
MOST_TITLES = 10
"""So many rows may stand above the header."""


def read_table(data: bytes, file_name: str, max_rows: int, likeness: Callable[[Sequence[str]], int]) -> Table:
    """Reads CSV or XLSX, whichever the bytes are; Unreadable where they are neither.

    The header is the row among the first few that looks most like one; where none does, the first that is not empty.
    """
    if not data.strip():
        raise Unreadable("import_empty")
    doubts: dict[int, dict[int, Problem]] = {}
    if data[:4] == b"PK\x03\x04":
        try:
            records, doubts = _xlsx(data)
        except BROKEN as error:
            raise Unreadable("import_bad_xlsx") from error
    else:
        records = records_of(data, file_name)
    filled = [(number, cells) for number, cells in records if any(cell.strip() for cell in cells)]
    begin = max(range(min(len(filled), MOST_TITLES + 1)), key=lambda at: likeness(filled[at][1]), default=0)
    filled = filled[begin:]
    if len(filled) < 2:  # a header alone
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
            doubted = {index: one for index, one in doubts.get(number, {}).items() if index < len(header)}
            rows.append(Row(number, tuple(cells[: len(header)]), doubted))
    return Table(tuple(header), tuple(rows), tuple(problems), filled[0][0])


def records_of(data: bytes, file_name: str) -> list[tuple[int, list[str]]]:
    """Row numbers and cells of a CSV; Unreadable where it is none."""
    if data[:8] == b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" or file_name.lower().endswith((".ods", ".pdf", ".doc")):
        raise Unreadable("import_old_excel")
    return _csv(_decoded(data))


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


type _Values = list[list[tuple[object, str]]]


def _xlsx(data: bytes) -> tuple[list[tuple[int, list[str]]], dict[int, dict[int, Problem]]]:
    """Row numbers with their cells, and the doubts about cells by row number and index."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        if sum(one.file_size for one in file.infolist()) > MOST_UNPACKED:
            raise Unreadable("import_bad_xlsx")
    shown = _sheet(data, formulas=False)
    width = max(map(len, shown), default=0)
    records = [
        (number, [_cell(value) for value, _ in row] + [""] * (width - len(row))) for number, row in enumerate(shown, 1)
    ]
    doubts: dict[int, dict[int, Problem]] = {}
    for number, (row, written) in enumerate(zip(shown, _sheet(data, formulas=True), strict=True), 1):
        for index, ((value, kind), (_, kind_written)) in enumerate(zip(row, written, strict=True)):
            # a formula whose value is the empty text is of kind "str"
            if value is None and kind_written == "f" and kind != "str":
                doubts.setdefault(number, {})[index] = Problem(number, None, "import_formula", {})
            elif _digits_lost(value):
                lost = Problem(number, None, "import_scientific", {"value": f"{value:.2E}"})
                doubts.setdefault(number, {})[index] = lost
    for first, last, column in _merged(data):
        value = records[first - 1][1][column]
        for number in range(first + 1, min(last, len(records)) + 1):
            cells = records[number - 1][1]
            # that it was is said once
            if value.strip() and any(cell.strip() for cell in cells) and not cells[column].strip():
                cells[column] = value
                merged = Problem(number, None, "import_merged", {"value": value})
                doubts.setdefault(number, {}).setdefault(column, merged)
    # a row of nothing but formulas would pass for an empty one
    for number, cells in records:
        for index, doubt in doubts.get(number, {}).items():
            if doubt.key == "import_formula":
                cells[index] = "="
    return records, doubts


def _sheet(data: bytes, *, formulas: bool) -> _Values:
    """Value and kind of every cell of the first sheet: of a formula itself, or its value when it was last saved."""
    book = load_workbook(io.BytesIO(data), read_only=True, data_only=not formulas)
    try:
        sheet = book.worksheets[0] if book.worksheets else None
        if sheet is None:
            raise Unreadable("import_empty")
        return [[(cell.value, cell.data_type) for cell in row] for row in sheet.rows]
    finally:
        book.close()


_MERGED = re.compile(rb'<mergeCell\b[^>]*\bref="([A-Z]+)([0-9]+):[A-Z]+([0-9]+)"')


def _merged(data: bytes) -> list[tuple[int, int, int]]:
    """First and last row, and column from 0 on, of cells that were merged downwards: only the first has their value."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        if not any(b"<mergeCell " in file.read(name) for name in file.namelist() if "worksheets/sheet" in name):
            return []
    book = load_workbook(io.BytesIO(data), read_only=True)
    path: str = getattr(book.worksheets[0], "_worksheet_path")  # noqa: B009  # what openpyxl reads row by row says nothing of them
    book.close()
    found: list[tuple[int, int, int]] = []
    with zipfile.ZipFile(io.BytesIO(data)) as file, file.open(path) as sheet:
        rest = b""
        while chunk := sheet.read(1 << 20):
            text = rest + chunk
            for column, first, last in _MERGED.findall(text):
                if int(last) > int(first):
                    found.append((int(first), int(last), column_index_from_string(column.decode()) - 1))
            rest = text[-80:]
    return list(dict.fromkeys(found))


def _digits_lost(value: object) -> bool:
    """True of a number that Excel shortened: it keeps 15 digits; of 1.23E+11 in a CSV only zeros are left."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        return False
    return abs(value) >= 10**15 or (abs(value) >= 10**11 and value % 10**8 == 0)


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
    sheet.freeze_panes = "A2"
    for number in range(1, max(map(len, rows), default=0) + 1):
        # of rows that somebody adds below
        column = sheet.column_dimensions[get_column_letter(number)]
        column.number_format, column.width = "@", 16
    for row in rows:
        cells = []
        for text in row:
            cell = WriteOnlyCell(sheet, ILLEGAL_CHARACTERS_RE.sub("", text))
            cell.number_format = "@"
            cell.data_type = "s"  # a name that begins with = is no formula
            cells.append(cell)
        sheet.append(cells)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()
