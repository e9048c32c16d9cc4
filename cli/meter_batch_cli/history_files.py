"""What `meter-batch history` writes: tables for people, CSV, XLSX, JSON and Parquet, row group by row group."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meter_batch_analytics import Site

MOST_SHEET_ROWS = 1_000_000
"""A sheet of Excel ends at 1,048,576."""
ROWS_AT_ONCE = 10_000

type Write = Callable[[Any], None]


@contextmanager
def open_writer(
    kind: str, output: Path | None, quantities: Sequence[str] | None, time_zone: str, site: Site
) -> Iterator[Write]:
    """What takes tables. A file has its name only when it is whole; stdout is written as it comes."""
    from meter_batch_analytics.errors import SourceError
    from meter_batch_analytics.frame import quantities_of, schema_of
    from meter_batch_analytics.periods import zone_of

    schema, zone = schema_of(quantities_of(quantities)), zone_of(time_zone)
    names = [name for name in schema.names if name != "point"]
    header = ["point", "name", *names]
    make: Callable[[Any, list[str], _Rows], AbstractContextManager[Write]] = {
        "csv": _csv,
        "json": _json,
        "lines": _lines,
        "table": _table,
        "xlsx": _xlsx,
        "parquet": _parquet,
    }[kind]
    rows = _Rows(names, zone, site)
    if output is None:
        with make(sys.stdout, header, rows) as write:
            yield write
        return
    beside = output.with_name(output.name + ".part")
    try:
        if kind in ("xlsx", "parquet"):
            with make(beside, header, rows) as write:
                yield write
        else:
            encoding = "utf-8-sig" if kind == "csv" else "utf-8"
            with beside.open("w", encoding=encoding, newline="") as file, make(file, header, rows) as write:
                yield write
        beside.replace(output)
    except OSError as error:
        raise SourceError(f"{output} cannot be written: {error.strerror or error}") from error
    finally:
        beside.unlink(missing_ok=True)


class _Rows:
    """Rows of tables as Python values: numbers, texts, and times of a zone."""

    def __init__(self, names: Sequence[str], zone: tzinfo, site: Site) -> None:
        self._names, self._zone, self._site = names, zone, site

    def of(self, table: Any) -> Iterator[list[Any]]:
        """Columns of the header."""
        for first in range(0, table.num_rows, ROWS_AT_ONCE):
            part = table.slice(first, ROWS_AT_ONCE)
            points = part["point"].to_pylist()
            columns = [part[name].to_pylist() for name in self._names]
            for place in [place for place, name in enumerate(self._names) if name in ("start", "end")]:
                columns[place] = [one.astimezone(self._zone) for one in columns[place]]
            for point, *values in zip(points, *columns, strict=True):
                yield [point, self._site.name(point), *values]


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(value)
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


@contextmanager
def _csv(file: Any, header: list[str], rows: _Rows) -> Iterator[Write]:
    writer = csv.writer(file)
    writer.writerow(header)
    yield lambda table: writer.writerows([_text(one) for one in row] for row in rows.of(table))


def _object(header: list[str], row: list[Any]) -> str:
    pairs = zip(header, row, strict=True)
    return json.dumps(
        {key: _text(one) if hasattr(one, "isoformat") else one for key, one in pairs if one is not None and one != ""},
        ensure_ascii=False,
    )


@contextmanager
def _lines(file: Any, header: list[str], rows: _Rows) -> Iterator[Write]:
    yield lambda table: file.writelines(_object(header, row) + "\n" for row in rows.of(table))


@contextmanager
def _json(file: Any, header: list[str], rows: _Rows) -> Iterator[Write]:
    before = "["

    def write(table: Any) -> None:
        nonlocal before
        for row in rows.of(table):
            file.write(f"{before}\n{_object(header, row)}")
            before = ","

    yield write
    file.write("]\n" if before == "," else "[]\n")


@contextmanager
def _table(file: Any, header: list[str], rows: _Rows) -> Iterator[Write]:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    hidden = {"point", "end", "length_s", "revision", "origin", "rule", "source", "voltage_min_v", "voltage_max_v"}

    def write(table: Any) -> None:
        found = list(rows.of(table))
        shown = [
            place
            for place, name in enumerate(header)
            if name not in hidden and any(row[place] not in (None, "") for row in found)
        ]
        screen = Table(*(header[place].replace("_", "\n") for place in shown), box=None)
        for place, column in zip(shown, screen.columns, strict=True):
            column.justify = "right" if any(isinstance(row[place], float) for row in found) else "left"
            column.no_wrap = header[place] != "flags"
        for row in found:
            screen.add_row(*(escape(_short(row[place])) for place in shown))
        Console(file=file, highlight=False, width=None if file.isatty() else 200).print(screen)

    yield write


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.7g}"
    return f"{value:%Y-%m-%d %H:%M}" if hasattr(value, "isoformat") else _text(value)


@contextmanager
def _xlsx(path: Path, header: list[str], rows: _Rows) -> Iterator[Write]:
    import xlsxwriter

    options = {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False}
    book = xlsxwriter.Workbook(os.fspath(path), options)
    # Excel knows no time zones: times are local, the offset stands beside.
    time, bold = book.add_format({"num_format": "yyyy-mm-dd hh:mm"}), book.add_format({"bold": True})
    sheet: Any = None
    line = MOST_SHEET_ROWS

    def write(table: Any) -> None:
        nonlocal sheet, line
        for row in rows.of(table):
            if line >= MOST_SHEET_ROWS:
                sheet, line = book.add_worksheet(f"history {len(book.worksheets()) + 1}"), 1
                sheet.freeze_panes(1, 2)
                sheet.set_column(0, 3, 18)
                sheet.write_row(0, 0, [*header, "utc_offset"], bold)
            for column, value in enumerate([*row, row[2].strftime("%:z")]):
                if hasattr(value, "isoformat"):
                    sheet.write_datetime(line, column, value.replace(tzinfo=None), time)
                elif isinstance(value, str):
                    sheet.write_string(line, column, value)
                elif value is not None:
                    sheet.write_number(line, column, value)
            line += 1

    yield write
    if sheet is None:
        book.add_worksheet("history 1").write_row(0, 0, header, bold)
    book.close()


@contextmanager
def _parquet(path: Path, header: list[str], rows: _Rows) -> Iterator[Write]:
    import pyarrow.parquet as pq

    del header, rows
    writer: Any = None

    def write(table: Any) -> None:
        nonlocal writer
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)

    try:
        yield write
        if writer is None:
            from meter_batch_analytics.frame import USUAL, schema_of

            pq.write_table(schema_of(USUAL).empty_table(), path)
    finally:
        if writer is not None:
            writer.close()
