"""The columns of the archive's files, how they are encoded, and how older versions become the present one.

One row a point and interval. Energies are counts: energy = count × step × 10^exponent, in the unit of their quantity.
`step` is the greatest common divisor of a point's counts in a file, so that a transformer ratio costs nothing. What is
seen between boundaries is kept to a tenth of a volt, a watt, a thousandth of power factor and a second of skew.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from meter_batch_engine.model.quantity import BY_KEY

from ..errors import ArchiveError

VERSION = 3
"""1: without voltage_below_dv, voltage_above_dv, power_factor_pm and skew_s; 2: periods without covered_s."""

MARK = "meter_batch_archive"
"""The key under which a file's version stands in its metadata."""

ENERGIES = ("energy_import", "energy_export", "reactive_energy_import", "reactive_energy_export")
"""Energies with a column of their own; others are in the file beside (`OTHER`)."""
CODES = {BY_KEY[key].obis: key for key in ENERGIES}

NAME = pa.dictionary(pa.int32(), pa.string())
TIME = pa.timestamp("ms", "UTC")

ROWS = pa.schema(
    [
        pa.field("point", NAME, nullable=False),
        pa.field("start", TIME, nullable=False),
        pa.field("length_s", pa.int32(), nullable=False),
        *(pa.field(key, pa.int64()) for key in ENERGIES),
        pa.field("step", pa.int64(), nullable=False),
        pa.field("exponent", pa.int8(), nullable=False),
        pa.field("demand_max_w", pa.int64()),
        pa.field("voltage_mean_dv", pa.int32()),
        pa.field("voltage_below_dv", pa.int32()),
        pa.field("voltage_above_dv", pa.int32()),
        pa.field("power_factor_pm", pa.int16()),
        pa.field("flags", pa.uint8(), nullable=False),
        pa.field("source", NAME, nullable=False),
        pa.field("rule", NAME),
        pa.field("revision", pa.int64(), nullable=False),
        pa.field("known_s", pa.int32(), nullable=False),
        pa.field("skew_s", pa.int32(), nullable=False),
    ]
)
"""Intervals. voltage_below_dv and voltage_above_dv: how far the least and the greatest voltage are from the mean."""

OTHER = pa.schema(
    [
        pa.field("point", NAME, nullable=False),
        pa.field("start", TIME, nullable=False),
        pa.field("register", NAME, nullable=False),
        pa.field("count", pa.int64()),
        pa.field("exponent", pa.int16(), nullable=False),
        pa.field("text", pa.string()),
    ]
)
"""Energies of other registers than `ENERGIES`, by OBIS code; `text` in place of a count that 64 bits cannot hold."""

PERIODS = pa.schema(
    [
        pa.field("point", NAME, nullable=False),
        pa.field("start", TIME, nullable=False),
        pa.field("length_s", pa.int32(), nullable=False),
        *(pa.field(key, pa.int64()) for key in ENERGIES),
        pa.field("step", pa.int64(), nullable=False),
        pa.field("exponent", pa.int8(), nullable=False),
        pa.field("demand_max_w", pa.int64()),
        pa.field("voltage_min_dv", pa.int32()),
        pa.field("voltage_mean_dv", pa.float64()),
        pa.field("voltage_max_dv", pa.int32()),
        pa.field("voltage_s", pa.int32(), nullable=False),
        pa.field("power_factor_pm", pa.float64()),
        pa.field("power_factor_s", pa.int32(), nullable=False),
        pa.field("flags", pa.uint8(), nullable=False),
        pa.field("source", NAME, nullable=False),
        pa.field("rule", NAME),
        pa.field("revision", pa.int64(), nullable=False),
        pa.field("known_s", pa.int32(), nullable=False),
        pa.field("skew_s", pa.int32(), nullable=False),
        pa.field("intervals", pa.int32(), nullable=False),
        pa.field("covered_s", pa.int32(), nullable=False),
    ]
)
"""Hours, days, months made of intervals. voltage_s, power_factor_s: seconds that the means stand for; covered_s:
of all intervals together."""

ROLL_UP = PERIODS.append(pa.field("month", pa.int32(), nullable=False))
"""Periods with the month (year × 12 + month − 1, UTC) whose file they were made from; those of one period add up."""

_DELTA = frozenset(
    {"start", "revision", "demand_max_w", "voltage_mean_dv", "count", "voltage_min_dv", "voltage_max_dv", *ENERGIES}
)
_SPLIT = frozenset({"voltage_below_dv", "voltage_above_dv", "power_factor_pm", "skew_s"})


def encoding(schema: pa.Schema) -> dict[str, Any]:
    """How a writer is to encode: as measured in docs/adr/0013-archive.md."""
    columns = {}
    for field in schema:
        if field.name in _SPLIT or pa.types.is_floating(field.type):
            columns[field.name] = "BYTE_STREAM_SPLIT"
        elif field.name in _DELTA:
            columns[field.name] = "DELTA_BINARY_PACKED"
    return {
        "compression": "zstd",
        "compression_level": 1,
        "use_dictionary": [name for name in schema.names if name not in columns],
        "column_encoding": columns,
        "store_schema": False,
        "write_statistics": ["point", "start"],
    }


def version_of(metadata: Mapping[bytes, bytes] | None, path: str) -> int:
    """The schema's version of a file; ArchiveError where it has none or a newer one."""
    text = (metadata or {}).get(MARK.encode(), b"")
    if not text.isdigit():
        raise ArchiveError(f"{path} is no file of an archive")
    if (found := int(text)) > VERSION:
        raise ArchiveError(
            f"{path} was written by a newer Meter Batch (schema {found}, this one knows {VERSION}): update this one"
        )
    return found


def present(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table of an older version, or of a file that left out what it has not, with the present columns.

    Columns that were added are empty (null, or 0 where there is no null). Only the columns that `table` was read with
    and `schema` names are there afterwards.
    """
    columns = []
    for field in schema:
        if field.name in table.column_names:
            columns.append(_as_type(table[field.name], field.type))
        elif field.nullable:
            columns.append(pa.nulls(table.num_rows, field.type))
        else:
            columns.append(pa.repeat(pa.scalar(0, field.type), table.num_rows))
    return pa.table(columns, schema=schema)


def _as_type(column: pa.ChunkedArray, type_: pa.DataType) -> pa.ChunkedArray:
    if column.type == type_:
        return column
    if pa.types.is_dictionary(type_):
        if pa.types.is_dictionary(column.type):
            return column.cast(column.type.value_type).dictionary_encode()
        return column.dictionary_encode()
    return column.cast(type_)
