"""Sheets of a workbook: how tables, sums and single cells are written. A text is a text, whatever it begins with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from io import BytesIO
from typing import Any

import xlsxwriter
from xlsxwriter.utility import xl_range_abs

from ..words import CHINESE
from .charts import SERIES
from .facts import Facts
from .story import Voice

_FORMATS: dict[str, dict[str, Any]] = {
    "text": {"text_wrap": False},
    "kwh": {"num_format": "#,##0.00"},
    "kw": {"num_format": "#,##0.0"},
    "percent": {"num_format": "0.0%"},
    "factor": {"num_format": "0.00"},
    "price": {"num_format": "#,##0.00####"},
    "number": {"num_format": "#,##0.###"},
    "whole": {"num_format": "#,##0"},
    "day": {"num_format": "yyyy-mm-dd", "align": "left"},
    "at": {"num_format": "yyyy-mm-dd hh:mm", "align": "left"},
}
_WIDTHS = {"text": 18, "percent": 11, "factor": 10, "whole": 9, "at": 17}
_WIDTH = 13
_LEFT = ("text", "day", "at")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a sheet: its head, how it is written, and what a row has there."""

    head: str
    kind: str
    value: Callable[[Any], Any]
    width: int | None = None


class Sheets:
    """A workbook that is being written, with the formats of its cells."""

    def __init__(self, facts: Facts, language: str) -> None:
        self.facts, self.voice = facts, Voice(facts, language)
        self.say = self.voice.say
        self.buffer = BytesIO()
        self.book = xlsxwriter.Workbook(
            self.buffer,
            {
                "in_memory": True,
                "strings_to_formulas": False,
                "strings_to_urls": False,
                "strings_to_numbers": False,
                "default_format_properties": {
                    "font_name": "Microsoft YaHei" if self.voice.language == CHINESE else "Calibri",
                    "font_size": 10,
                },
            },
        )
        digits = facts.cost.digits if facts.cost else 2
        formats = _FORMATS | {"money": {"num_format": "#,##0" + ("." + "0" * digits if digits else "")}}
        self.plain = {kind: self.book.add_format(look) for kind, look in formats.items()}
        line: dict[str, Any] = {"bold": True, "top": 1}
        self.strong = {kind: self.book.add_format(look | line) for kind, look in formats.items()}
        self.bold = self.book.add_format({"bold": True})
        self.title = self.book.add_format({"bold": True, "font_size": 16, "font_color": SERIES[3]})
        self.section = self.book.add_format({"bold": True, "font_size": 12, "font_color": SERIES[3]})
        head = {"bold": True, "text_wrap": True, "valign": "bottom", "bg_color": "#E8EDF2", "bottom": 1}
        self.head = self.book.add_format(head)
        self.number_head = self.book.add_format(head | {"align": "right"})

    def sheet(self, key: str) -> Any:
        """A new sheet, named in the reader's language, that prints on A4 with its name and pages."""
        sheet = self.book.add_worksheet(self.say(f"sheet_{key}"))
        sheet.hide_gridlines(2)
        sheet.set_landscape()
        sheet.set_paper(9)
        sheet.fit_to_pages(1, 0)
        title = f"{self.voice.title} · {self.voice.period}".replace("&", "&&")
        sheet.set_header(f"&L{title}&R&A")
        sheet.set_footer("&R&P / &N")
        return sheet

    def table(
        self, sheet: Any, top: int, columns: Sequence[Column], rows: Sequence[Any], *, filtered: bool = False
    ) -> int:
        """Writes heads and rows; returns the row after the last."""
        for place, column in enumerate(columns):
            sheet.set_column(place, place, column.width or _WIDTHS.get(column.kind, _WIDTH))
            look = self.head if column.kind in _LEFT else self.number_head
            sheet.write_string(top, place, column.head, look)
        sheet.set_row(top, 30)
        for number, one in enumerate(rows, top + 1):
            for place, column in enumerate(columns):
                self.cell(sheet, number, place, column.kind, column.value(one), self.plain)
        end = top + len(rows) + 1
        if top == 0:
            sheet.repeat_rows(0)
            sheet.print_area(0, 0, end, len(columns) - 1)
        if filtered and rows:
            sheet.autofilter(top, 0, end - 1, len(columns) - 1)
        return end

    def summed(self, sheet: Any, columns: Sequence[Column], rows: Sequence[Any]) -> None:
        """A table with the sums of its energies below."""
        end = self.table(sheet, 0, columns, rows, filtered=True)
        sheet.freeze_panes(1, 1)
        sheet.write_string(end, 0, self.say("sum"), self.strong["text"])
        for place, column in enumerate(columns[1:], 1):
            if column.kind != "kwh":
                sheet.write_blank(end, place, None, self.strong["text"])
                continue
            value = sum((number for one in rows if (number := column.value(one)) is not None), Decimal(0))
            formula = f"=SUM({xl_range_abs(1, place, max(1, end - 1), place)})"
            sheet.write_formula(end, place, formula, self.strong["kwh"], float(value))

    def cell(self, sheet: Any, row: int, place: int, kind: str, value: Any, looks: dict[str, Any]) -> None:
        """Writes a value as its column's kind is written; nothing for None."""
        if value is None:
            sheet.write_blank(row, place, None, looks[kind])
        elif isinstance(value, str):
            sheet.write_string(row, place, value, looks[kind])
        elif isinstance(value, datetime):
            local = value.astimezone(self.facts.start.tzinfo).replace(tzinfo=None)
            sheet.write_datetime(row, place, local, looks[kind])
        elif isinstance(value, date):
            sheet.write_datetime(row, place, datetime(value.year, value.month, value.day), looks[kind])  # noqa: DTZ001
        else:
            sheet.write_number(row, place, float(value), looks[kind])
