"""Files of what is shown: CSV and XLSX of tables. Pure.

Tables are as the table widget takes them: `columns` with key, label, unit, digits and kind, `rows` by key. Instants are
milliseconds since 1970 (`kind` "instant") and become local time of the site: with offset in CSV; in XLSX as dates and
times, the time zone in the header. Days (`kind` "day") are dates.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

CSV, XLSX = "text/csv", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
MOST_ROWS = 1_048_575
"""Rows that fit on a sheet beneath its header."""

type Column = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Sheet:
    """One table of a file."""

    name: str
    columns: Sequence[Column]
    rows: Mapping[str, Sequence[Any]]

    @property
    def count(self) -> int:
        """Its rows."""
        return min((len(self.rows[one["key"]]) for one in self.columns), default=0)


def header(column: Column, time_zone: str = "") -> str:
    """What stands over a column: with its unit, over instants their time zone."""
    unit = time_zone if column.get("kind") == "instant" else column.get("unit", "")
    if column.get("kind") == "percent":
        unit = "%"
    return f"{column['label']} ({unit})" if unit else str(column["label"])


def as_csv(sheet: Sheet, time_zone: str) -> bytes:
    """A table as CSV (RFC 4180, UTF-8 with a byte order mark, which Excel asks for). Numbers in full, nothing is empty
    where nothing is known; percent as such.
    """
    zone = ZoneInfo(time_zone)
    sink = io.StringIO(newline="")
    out = csv.writer(sink)
    out.writerow([header(one, time_zone) for one in sheet.columns])
    cells = [[_text(value, one, zone) for value in sheet.rows[one["key"]]] for one in sheet.columns]
    out.writerows(zip(*cells, strict=True))
    return b"\xef\xbb\xbf" + sink.getvalue().encode()


def as_xlsx(
    sheets: Sequence[Sheet], time_zone: str, *, about: Sequence[tuple[str, str]] = (), about_name: str = "i"
) -> bytes:
    """Tables as a workbook: headers with units stay in sight, every column can be filtered, numbers are numbers.

    `about`: what was asked, as rows of a last sheet. What does not fit on a sheet goes on the next.
    """
    import xlsxwriter

    zone = ZoneInfo(time_zone)
    sink = io.BytesIO()
    book = xlsxwriter.Workbook(sink, {"in_memory": True, "nan_inf_to_errors": False})
    # The same table gives the same bytes.
    book.set_properties({"created": datetime(2000, 1, 1, tzinfo=UTC).replace(tzinfo=None)})
    formats = _Formats(book)
    taken: set[str] = set()
    for sheet in sheets:
        for first in range(0, max(1, sheet.count), MOST_ROWS):
            _write(book.add_worksheet(_name(sheet.name, taken)), sheet, first, zone, time_zone, formats)
    if about:
        page = book.add_worksheet(_name(about_name, taken))
        page.set_column(0, 0, 24)
        page.set_column(1, 1, 80)
        for row, (label, text) in enumerate(about):
            page.write_string(row, 0, label, formats.head)
            page.write_string(row, 1, text)
    book.close()
    return sink.getvalue()


class _Formats:
    def __init__(self, book: Any) -> None:
        self._book, self._known = book, dict[str, Any]()
        self.head = book.add_format({"bold": True, "text_wrap": True, "valign": "top", "bottom": 1})

    def of(self, pattern: str) -> Any:
        if pattern not in self._known:
            self._known[pattern] = self._book.add_format({"num_format": pattern})
        return self._known[pattern]


def _write(page: Any, sheet: Sheet, first: int, zone: ZoneInfo, time_zone: str, formats: _Formats) -> None:
    count = min(sheet.count - first, MOST_ROWS)
    for place, column in enumerate(sheet.columns):
        label = header(column, time_zone)
        page.write_string(0, place, label, formats.head)
        kind = column.get("kind")
        values = sheet.rows[column["key"]][first : first + count]
        pattern = _pattern(column)
        style = formats.of(pattern) if pattern else None
        widest = len(label) / 2 + 4
        for row, value in enumerate(values, 1):
            if not _known(value):
                continue
            if kind == "instant":
                page.write_datetime(row, place, _local(value, zone).replace(tzinfo=None), style)
            elif kind == "day":
                page.write_datetime(row, place, _day(value), style)
            elif isinstance(value, str):
                # Never a formula, never a link: what a point is called is only a name.
                page.write_string(row, place, value)
                widest = max(widest, sum(1.9 if one > "\u2e7f" else 1.0 for one in value) + 2)
            else:
                page.write_number(row, place, float(value), style)
        page.set_column(place, place, min(44, max(widest, 17 if kind == "instant" else 11)))
    page.set_row(0, 32)
    page.freeze_panes(1, 1)
    page.autofilter(0, 0, max(count, 1), len(sheet.columns) - 1)


def _pattern(column: Column) -> str:
    match column.get("kind"):
        case "instant":
            return "yyyy-mm-dd hh:mm"
        case "day":
            return "yyyy-mm-dd"
        case "percent":
            return "0." + "0" * int(column.get("digits", 1)) + "%" if column.get("digits", 1) else "0%"
        case "text":
            return ""
        case _:
            digits = int(column.get("digits", 0))
            return "#,##0" + ("." + "0" * digits if digits else "")


def _text(value: Any, column: Column, zone: ZoneInfo) -> str:
    if not _known(value):
        return ""
    match column.get("kind"):
        case "instant":
            return _local(value, zone).isoformat(timespec="minutes")
        case "day":
            return _day(value).date().isoformat()
        case "percent":
            return repr(round(float(value) * 100, 6))
    if isinstance(value, str):
        # A spreadsheet would take it for a formula.
        return f"'{value}" if value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
    number = float(value)
    return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(round(number, 9))


def _known(value: Any) -> bool:
    return value is not None and value == value and value != ""


def _local(value: Any, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(int(value) / 1000, UTC).astimezone(zone)


def _day(value: Any) -> datetime:
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)  # noqa: DTZ001 a cell knows no zone
    return datetime.fromisoformat(str(value)[:10])


def _name(name: str, taken: set[str]) -> str:
    """The name of a sheet: at most 31 characters, none that is forbidden, each once."""
    plain = "".join("-" if one in "[]:*?/\\" else one for one in name).strip("'")[:28] or "1"
    found, number = plain, 2
    while found.casefold() in taken:
        found, number = f"{plain} {number}", number + 1
    taken.add(found.casefold())
    return found
