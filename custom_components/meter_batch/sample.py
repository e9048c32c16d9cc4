"""Workbooks that help: an empty list with hints and choices, and a file with its problems written into it. Pure."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from openpyxl import Workbook, load_workbook
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE
from openpyxl.comments import Comment
from openpyxl.styles import Alignment, Font, PatternFill
from openpyxl.utils import get_column_letter
from openpyxl.worksheet.datavalidation import DataValidation

from .table import records_of

_BOLD = Font(bold=True)
_HEAD = PatternFill("solid", fgColor="DCE6F1")
_WRONG = PatternFill("solid", fgColor="F8CBAD")
_DOUBT = PatternFill("solid", fgColor="FFF2CC")
_WRAP = Alignment(wrap_text=True, vertical="top")
TEXT = "@"
"""The format of cells that hold text: leading zeros and long numbers stay."""


@dataclass(frozen=True, slots=True)
class Hint:
    """A column: its header, what it means, and an example."""

    header: str
    meaning: str
    example: str


def write_sample(
    hints: Sequence[Hint],
    choices: Mapping[int, Sequence[str]],
    model_column: int,
    models: Sequence[tuple[str, str]],
    names: Mapping[str, str],
) -> bytes:
    """A workbook whose first sheet has the header only; the others explain the columns and list the models."""
    book = Workbook()
    sheet, told, listed = book.worksheets[0], book.create_sheet(names["hints"]), book.create_sheet(names["models"])
    sheet.title = names["points"]
    sheet.freeze_panes = "C2"
    for number, hint in enumerate(hints, 1):
        cell = sheet.cell(1, number, hint.header)
        cell.font, cell.fill = _BOLD, _HEAD
        cell.comment = Comment(hint.meaning, "Meter Batch", height=90, width=280)
        column = sheet.column_dimensions[get_column_letter(number)]
        column.number_format, column.width = TEXT, max(14, len(hint.header.encode()) * 0.9 + 4)
    for at, values in choices.items():
        quoted = ",".join(values)
        if values and len(quoted) < 250 and not any("," in one or '"' in one for one in values):
            _offer(sheet, at, f'"{quoted}"')
    _offer(sheet, model_column, f"'{names['models']}'!$A$1:$A${len(models)}")
    for row, hint in enumerate(hints, 1):
        for column_at, text in enumerate((hint.header, hint.meaning, hint.example), 1):
            cell = told.cell(row, column_at, text)
            cell.number_format, cell.alignment, cell.data_type = TEXT, _WRAP, "s"
        told.cell(row, 1).font = _BOLD
    for letter, width in zip("ABC", (24, 90, 26), strict=True):
        told.column_dimensions[letter].width = width
    for row, (id_, name) in enumerate(models, 1):
        listed.cell(row, 1, id_)
        listed.cell(row, 2, name)
    for letter in "AB":
        listed.column_dimensions[letter].width = 34
    return _saved(book)


def _offer(sheet: object, column: int, formula: str) -> None:
    offer = DataValidation(type="list", formula1=formula, allow_blank=True, showErrorMessage=False)
    letter = get_column_letter(column + 1)
    offer.add(f"{letter}2:{letter}2000")
    sheet.add_data_validation(offer)  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Mark:
    """What to write beside a row: in which cell it is, and whether it is wrong or only assumed."""

    row: int
    column: int | None
    text: str
    wrong: bool


def write_marked(data: bytes, file_name: str, marks: Sequence[Mark], header_row: int, title: str) -> bytes:
    """The user's own file with one more column that says what is wrong; a CSV becomes a workbook of texts.

    Read back, that column is read over.
    """
    if data[:4] == b"PK\x03\x04":
        book = load_workbook(io.BytesIO(data))
        sheet = book.worksheets[0]
    else:
        book = Workbook()
        sheet = book.worksheets[0]
        for number, cells in records_of(data, file_name):
            for at, text in enumerate(cells, 1):
                cell = sheet.cell(number, at, ILLEGAL_CHARACTERS_RE.sub("", text))
                cell.number_format, cell.data_type = TEXT, "s"
    head = [str(cell.value or "").strip() for cell in sheet[header_row]]
    last = head.index(title) + 1 if title in head else len(head) + 1
    for row in range(1, sheet.max_row + 1):
        sheet.cell(row, last).value = None
    sheet.cell(header_row, last, title).font = _BOLD
    sheet.column_dimensions[get_column_letter(last)].width = 70
    for mark in marks:
        beside = sheet.cell(mark.row, last)
        before = f"{beside.value}\n" if beside.value else ""
        beside.value = f"{before}{'✗' if mark.wrong else '⚠'} {mark.text}"
        beside.alignment, beside.data_type = _WRAP, "s"
        if mark.column is not None:
            sheet.cell(mark.row, mark.column + 1).fill = _WRONG if mark.wrong else _DOUBT
    return _saved(book)


def _saved(book: Workbook) -> bytes:
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()
