"""History as files, written piece by piece: what is in memory does not grow with the answer.

CSV and XLSX for spreadsheets, JSON for whoever reads that, and `wire`: one message of engine/wire.py a line, which
says everything to the last digit.
"""

from __future__ import annotations

import csv
import io
import json
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, override

from openpyxl import Workbook
from openpyxl.cell import WriteOnlyCell
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

from .engine import Point
from .engine.model.interval import Interval
from .engine.wire import encode_intervals
from .query import Query, cell, row_as_dict

CHUNK = 1 << 16
MOST_SHEET_ROWS = 1_000_000
"""A sheet of Excel ends at 1,048,576."""


class Writer:
    """One file in the making. Not for the event loop: each call may take some milliseconds, the last one seconds."""

    media_type: str

    def __init__(self, query: Query) -> None:
        self.query = query
        self.header = ("point", "name", "start", "end", *(_named(query, one) for one in query.columns), *_LAST)

    def head(self) -> bytes:
        """What comes first."""
        return b""

    @abstractmethod
    def rows(self, point: Point, intervals: Sequence[Interval]) -> bytes:
        """Some more rows, of one point."""

    def end(self) -> Iterator[bytes]:
        """What comes last, in pieces."""
        yield b""

    def close(self) -> None:
        """Lets go of what it needed; always called."""


_LAST = ("completeness", "flags", "source", "rule")


def _named(query: Query, column: str) -> str:
    """The header of a column: an energy says its unit, the others do in their names."""
    unit = query.units[column].lower()
    return column if not unit or column.endswith(f"_{unit}") else f"{column}_{unit}"


class CsvWriter(Writer):
    """Text that Excel opens without asking, with times that say how far they are from UTC."""

    media_type = "text/csv; charset=utf-8"

    @override
    def head(self) -> bytes:
        # The mark tells Excel that the text is UTF-8.
        return b"\xef\xbb\xbf" + _csv([self.header])

    @override
    def rows(self, point: Point, intervals: Sequence[Interval]) -> bytes:
        local = self.query.local
        return _csv(
            [
                point.id,
                point.name,
                local(one.start).isoformat(),
                local(one.end).isoformat(),
                *(_text(cell(one, column)) for column in self.query.columns),
                f"{one.completeness:.4f}",
                " ".join(sorted(one.flags)),
                one.source,
                one.rule or "",
            ]
            for one in intervals
        )


def _csv(rows: Iterable[Sequence[str]]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out).writerows(rows)
    return out.getvalue().encode()


def _text(value: Decimal | float | None) -> str:
    if value is None:
        return ""
    return f"{value:f}" if isinstance(value, Decimal) else repr(value)


class JsonWriter(Writer):
    """One array of rows."""

    media_type = "application/json"

    def __init__(self, query: Query) -> None:
        super().__init__(query)
        self._first = True

    @override
    def head(self) -> bytes:
        return b"["

    @override
    def rows(self, point: Point, intervals: Sequence[Interval]) -> bytes:
        texts = []
        for one in intervals:
            row = row_as_dict(self.query, one)
            named = {_named(self.query, key) if key in self.query.units else key: value for key, value in row.items()}
            texts.append(json.dumps({"point": point.id, "name": point.name, **named}, ensure_ascii=False))
        if not texts:
            return b""
        before, self._first = ("\n" if self._first else ",\n"), False
        return (before + ",\n".join(texts)).encode()

    @override
    def end(self) -> Iterator[bytes]:
        yield b"\n]\n"


class WireWriter(Writer):
    """One message a line."""

    media_type = "application/x-ndjson"

    @override
    def rows(self, point: Point, intervals: Sequence[Interval]) -> bytes:
        if not intervals:
            return b""
        return json.dumps(encode_intervals(intervals), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


class XlsxWriter(Writer):
    """A workbook whose times are times of the place that was asked for; it is sent when it is whole."""

    media_type = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"

    def __init__(self, query: Query) -> None:
        super().__init__(query)
        self.header = (*self.header, "utc_offset")
        self._book = Workbook(write_only=True)
        self._count = MOST_SHEET_ROWS
        self._folder = TemporaryDirectory(prefix="meter_batch_")

    @override
    def rows(self, point: Point, intervals: Sequence[Interval]) -> bytes:
        local = self.query.local
        for one in intervals:
            if self._count >= MOST_SHEET_ROWS:
                self._sheet = self._book.create_sheet(f"history {len(self._book.worksheets) + 1}")
                self._sheet.append(list(self.header))
                self._count = 0
            self._count += 1
            start, end = local(one.start), local(one.end)
            self._sheet.append(
                [
                    self._plain(point.id),
                    self._plain(point.name),
                    # Excel knows no time zones.
                    start.replace(tzinfo=None),
                    end.replace(tzinfo=None),
                    *(cell(one, column) for column in self.query.columns),
                    round(one.completeness, 4),
                    " ".join(sorted(one.flags)),
                    one.source,
                    one.rule,
                    _offset(start),
                ]
            )
        return b""

    def _plain(self, text: str) -> Any:
        found = WriteOnlyCell(self._sheet, ILLEGAL_CHARACTERS_RE.sub("", text))
        found.data_type = "s"  # a name that begins with = is no formula
        return found

    @override
    def end(self) -> Iterator[bytes]:
        if not self._book.worksheets:
            self._book.create_sheet("history").append(list(self.header))
        path = Path(self._folder.name) / "history.xlsx"
        self._book.save(path)
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk

    @override
    def close(self) -> None:
        self._folder.cleanup()


def _offset(at: datetime) -> str:
    return at.strftime("%:z")


WRITERS: dict[str, type[Writer]] = {"csv": CsvWriter, "xlsx": XlsxWriter, "json": JsonWriter, "wire": WireWriter}
"""By the name of a format, which but for `wire` is the ending of its files."""
