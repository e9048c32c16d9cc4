"""The one tidy frame: what every analysis receives, from ledger, archive or recorder alike.

One row a point and interval (or hour, day, week, month, year), one column a quantity. Wide, not long: analyses compare
quantities of one interval (power factor from two energies, demand beside energy), the flags belong to the interval and
not to each quantity, and a wide frame is a sixth of the rows. `frame.melt(id_vars=…)` makes it long.

Columns, in this order:

| column | what | unit |
|---|---|---|
| point | id of the metering point | |
| start, end | the interval is `[start, end)`, labelled by its start; aware, in the site's or the given time zone | |
| length_s | its length; a local day may have 82,800 or 90,000 | s |
| energy_import_kwh … | energies, by key and unit; at the primary side; NaN where there is none | kWh, kvarh, kVAh |
| demand_mean_kw | import (else gross) energy over the time that its intervals cover | kW |
| demand_max_kw | the highest power that was read | kW |
| voltage_min_v, voltage_mean_v, voltage_max_v | of all phases; means are weighted by time | V |
| power_factor | mean | |
| completeness | share of its time that is measured, from the meter's memory or edited: 0 to 1; an estimate is 0 | |
| flags | measured, meter_memory, estimated, edited, suspect, with spaces between; empty from the recorder | |
| source | poll, memory, edit … | |
| rule | which rule doubts it, empty where none | |
| revision | of the ledger; 0 from the recorder | |
| origin | ledger, archive or recorder | |
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meter_batch_engine.errors import ConfigError
from meter_batch_engine.model.interval import Interval
from meter_batch_engine.model.obis import Obis
from meter_batch_engine.model.quantity import BY_KEY, QUANTITIES, Kind

from .archive.rows import FLAGS, codes_of, filled, milliseconds
from .archive.schema import CODES, NAME, TIME

OBSERVED = ("demand_mean_kw", "demand_max_kw", "voltage_min_v", "voltage_mean_v", "voltage_max_v", "power_factor")
USUAL = (
    "energy_import", "energy_export", "energy_gross",
    "reactive_energy_import", "reactive_energy_export", "reactive_energy_gross",
)  # fmt: skip
"""The energies of a frame where none are asked for."""
ORIGINS = ("ledger", "archive", "recorder")
"""Where rows come from; before all others the one that knows most. See `precedence`."""


def quantities_of(texts: Sequence[str] | None) -> tuple[str, ...]:
    """Keys of energies from keys, OBIS codes or column names; the usual ones without any. What is observed is always
    there. ConfigError where there is no such energy.
    """
    if not texts:
        return USUAL
    found = []
    for text in texts:
        key = QUANTITIES[text].key if text in QUANTITIES else text.strip().casefold()
        if key not in BY_KEY:
            key = next((one for one in BY_KEY if column_of(one) == key), key)
        if key in OBSERVED:
            continue
        if key not in BY_KEY or BY_KEY[key].kind not in (Kind.CUMULATIVE, Kind.BALANCE):
            raise ConfigError(f'"{text}" is no quantity that is kept; there are {", ".join((*USUAL, *OBSERVED))} …')
        found.append(key)
    return tuple(dict.fromkeys(found))


def column_of(key: str) -> str:
    """The name of an energy's column: with its unit."""
    return f"{key}_{BY_KEY[key].unit.lower()}" if key in BY_KEY else key


def schema_of(keys: Sequence[str]) -> pa.Schema:
    """The frame's columns with these energies."""
    number = pa.float64()
    return pa.schema(
        [
            ("point", NAME), ("start", TIME), ("end", TIME), ("length_s", pa.int32()),
            *((column_of(key), number) for key in keys),
            *((name, number) for name in OBSERVED),
            ("completeness", number), ("flags", NAME), ("source", NAME), ("rule", NAME), ("revision", pa.int64()),
            ("origin", NAME),
        ]
    )  # fmt: skip


def from_intervals(intervals: Iterable[Interval], keys: Sequence[str], origin: str) -> pa.Table:
    """Intervals or longer periods as a frame."""
    rows = list(intervals)
    codes: list[Obis] = [BY_KEY[key].obis for key in keys]
    energies = [[_float(one.energies.get(obis)) for one in rows] for obis in codes]
    observed = [[_float(getattr(one, name)) for one in rows] for name in OBSERVED]
    starts = [milliseconds(one.start) for one in rows]
    columns = [
        [one.point for one in rows],
        starts,
        [start + one.length_s * 1000 for start, one in zip(starts, rows, strict=True)],
        [one.length_s for one in rows],
        *energies,
        *observed,
        [one.completeness for one in rows],
        [" ".join(sorted(one.flags)) for one in rows],
        [one.source for one in rows],
        [one.rule or "" for one in rows],
        [one.revision for one in rows],
        [origin] * len(rows),
    ]
    schema = schema_of(keys)
    return pa.table([pa.array(one, field.type) for one, field in zip(columns, schema, strict=True)], schema=schema)


def from_archive(table: pa.Table, keys: Sequence[str], others: pa.Table | None = None) -> pa.Table:
    """Rows or periods of an archive as a frame. `others`: point, start, key, value of energies without a column."""
    start = table["start"].cast(pa.int64()).to_numpy()
    length = table["length_s"].to_numpy().astype(np.int64)
    values: dict[str, Any] = {}
    for key in CODES.values():
        values[key] = _energy(table, key)
    columns: dict[str, Any] = {
        "point": table["point"],
        "start": table["start"],
        "end": pa.array(start + length * 1000).cast(TIME),
        "length_s": table["length_s"],
    }
    for key in keys:
        found = values[key] if key in values else _beside(table, start, key, others)
        columns[column_of(key)] = pa.array(found, from_pandas=True)
    gross = values["energy_import"]
    if "energy_gross" in keys:
        gross = np.where(np.isnan(gross), columns["energy_gross_kwh"].to_numpy(zero_copy_only=False), gross)
    covered = table["covered_s" if "covered_s" in table.column_names else "length_s"].to_numpy().astype(np.int64)
    columns["demand_mean_kw"] = pa.array(gross * 3600 / covered, from_pandas=True)
    columns["demand_max_kw"] = _tenths(table, "demand_max_w", 1000)
    if "voltage_below_dv" in table.column_names:
        mean, there = filled(table["voltage_mean_dv"], np.int64)
        for name, sign, beside in (("min", -1, "voltage_below_dv"), ("max", 1, "voltage_above_dv")):
            by, has = filled(table[beside], np.int64)
            columns[f"voltage_{name}_v"] = pa.array((mean + sign * by) / 10, mask=~(there & has))
    else:
        columns["voltage_min_v"] = _tenths(table, "voltage_min_dv", 10)
        columns["voltage_max_v"] = _tenths(table, "voltage_max_dv", 10)
    columns["voltage_mean_v"] = _tenths(table, "voltage_mean_dv", 10)
    columns["power_factor"] = _tenths(table, "power_factor_pm", 1000)
    columns["completeness"] = pa.array(table["known_s"].to_numpy() / length)
    bits, places = np.unique(table["flags"].to_numpy(), return_inverse=True)
    texts = [" ".join(sorted(FLAGS[one])) for one in bits]
    columns["flags"] = pa.DictionaryArray.from_arrays(pa.array(places.astype(np.int32)), pa.array(texts, pa.string()))
    columns["source"] = table["source"]
    columns["rule"] = table["rule"].cast(pa.string()).fill_null("").dictionary_encode()
    columns["revision"] = table["revision"]
    columns["origin"] = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(start), np.int32)), pa.array(["archive"]))
    schema = schema_of(keys)
    return pa.table([_typed(columns[field.name], field.type) for field in schema], schema=schema)


def ordered(table: pa.Table) -> pa.Table:
    """By point and start."""
    codes, _ = codes_of(table["point"])
    return table.take(pa.array(np.lexsort((table["start"].cast(pa.int64()).to_numpy(), codes))))


def precedence(tables: Sequence[pa.Table]) -> pa.Table:
    """One frame of several sources, all of one resolution: **ledger before archive before recorder**, here alone.

    An interval counts from the first source that has it. A longer period counts from the first source, unless a later
    one knows more of it: where a ledger begins in the middle of a month, the archive has all of that month. What only
    meets a part of an interval that a source before has is left out, so nothing is counted twice.
    """
    whole = pa.concat_tables([one for one in tables if one.num_rows] or list(tables[:1])).unify_dictionaries()
    if not whole.num_rows:
        return whole
    names = whole["origin"].cast(pa.string()).to_pylist()
    rank = np.array([ORIGINS.index(one) for one in names])
    codes, _ = codes_of(whole["point"])
    start = whole["start"].cast(pa.int64()).to_numpy()
    end = whole["end"].cast(pa.int64()).to_numpy()
    known = whole["completeness"].to_numpy()
    longer = (end - start) > 3_600_000
    order = np.lexsort((rank, np.where(longer, -np.round(known, 9), 0), start, codes))
    first = np.r_[True, (codes[order][1:] != codes[order][:-1]) | (start[order][1:] != start[order][:-1])]
    kept = order[first]
    for level in range(1, len(ORIGINS)):
        mine = kept[rank[kept] == level]
        above = kept[rank[kept] < level]
        if len(mine) and len(above):
            over = _meets(codes, start, end, mine, above)
            kept = np.concatenate([above, mine[~over], kept[rank[kept] > level]])
    return whole.take(pa.array(kept[np.lexsort((start[kept], codes[kept]))]))


def _meets(codes: Any, start: Any, end: Any, mine: Any, above: Any) -> Any:
    """Which of `mine` share time with any of `above`, of the same point; neither has overlaps of its own."""
    above = above[np.lexsort((start[above], codes[above]))]
    found = np.zeros(len(mine), bool)
    for code in np.unique(codes[mine]):
        those = above[codes[above] == code]
        if not len(those):
            continue
        here = np.flatnonzero(codes[mine] == code)
        before = np.searchsorted(start[those], end[mine[here]], side="left") - 1
        last = np.maximum.accumulate(end[those])
        found[here] = (before >= 0) & (last[np.maximum(before, 0)] > start[mine[here]])
    return found


def to_pandas(table: pa.Table, time_zone: str) -> Any:
    """A frame of pandas, times in a time zone."""
    frame = table.to_pandas()
    for name in ("start", "end"):
        frame[name] = frame[name].dt.tz_convert(time_zone)
    return frame


def _float(value: Any) -> float | None:
    return None if value is None else float(value)


def _energy(table: pa.Table, key: str) -> Any:
    """Counts as numbers: the nearest to the exact decimal."""
    counts, there = filled(table[key], np.int64)
    exponent = table["exponent"].to_numpy().astype(np.int64)
    whole = counts * table["step"].to_numpy()
    # Division by a power of ten rounds once, a product with its inverse would round twice.
    down = np.where(exponent < 0, 10.0 ** np.minimum(-exponent, 300), 1.0)
    up = np.where(exponent > 0, 10.0 ** np.maximum(exponent, 0), 1.0)
    return np.where(there, whole / down * up, np.nan)


def _beside(table: pa.Table, start: Any, key: str, others: pa.Table | None) -> Any:
    found = np.full(len(start), np.nan)
    if others is None or not others.num_rows:
        return found
    mine = others.filter(pc.equal(others["key"], key))
    values = dict(
        zip(
            zip(mine["point"].to_pylist(), mine["start"].cast(pa.int64()).to_pylist(), strict=True),
            mine["value"].to_pylist(),
            strict=True,
        )
    )
    for place, at in enumerate(zip(table["point"].to_pylist(), start.tolist(), strict=True)):
        found[place] = values.get(at, np.nan)
    return found


def _tenths(table: pa.Table, name: str, divisor: int) -> Any:
    values, there = filled(table[name], np.float64)
    return pa.array(values / divisor, mask=~there)


def _typed(column: Any, type_: pa.DataType) -> Any:
    if column.type == type_:
        return column
    return column.cast(type_)
