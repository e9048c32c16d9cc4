"""Intervals ↔ tables of `schema.ROWS` and `schema.OTHER`. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from meter_batch_engine.model.interval import Interval, Quality
from meter_batch_engine.model.obis import Obis

from .schema import CODES, ENERGIES, OTHER, ROWS

MOST = 2**62
"""Counts stay below, so that no sum of two overflows unnoticed."""
GREATEST = 4 * 10**12
FINEST, HIGHEST = -7, 60
"""Energies have a column to a tenth of a milliwatt-hour and to 12 digits, so that a million of them can be added up;
what is finer or greater stands exactly in the file beside as well."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

BITS = {quality: 1 << place for place, quality in enumerate(Quality)}
"""Of `flags`. New qualities may only be added at the end of `Quality`."""
WITHDRAWN = BITS[Quality.WITHDRAWN]
FLAGS = [frozenset(one for one, bit in BITS.items() if bits & bit) for bits in range(256)]

type Tables = tuple[pa.Table, pa.Table]
"""Rows, and energies of registers that have no column."""


def milliseconds(at: datetime) -> int:
    """As it stands in a file."""
    return (at - EPOCH) // timedelta(milliseconds=1)


def tables_of(intervals: Iterable[Interval]) -> Tables:
    """Rows in the order given, `step` 1. What is seen is rounded to the resolution of its column."""
    columns: dict[str, list[Any]] = {name: [] for name in ROWS.names}
    other: dict[str, list[Any]] = {name: [] for name in OTHER.names}
    for one in intervals:
        exponent, counts, rest = _counts(one)
        start = milliseconds(one.start)
        mean, low, high = one.voltage_mean_v, one.voltage_min_v, one.voltage_max_v
        level = _scaled(mean, 10)
        row = (
            one.point, start, one.length_s, *counts, 1, exponent,
            _scaled(one.demand_max_kw, 1000), level,
            None if level is None or low is None else level - round(low * 10),
            None if level is None or high is None else round(high * 10) - level,
            _scaled(one.power_factor, 1000),
            sum(BITS[flag] for flag in one.flags), one.source, one.rule, one.revision, one.known_s, round(one.skew_s),
        )  # fmt: skip
        for column, value in zip(columns.values(), row, strict=True):
            column.append(value)
        for obis, energy in rest.items():
            count, at, text = _beside(energy)
            for name, value in zip(OTHER.names, (one.point, start, obis, count, at, text), strict=True):
                other[name].append(value)
    return pa.table(columns, schema=ROWS), pa.table(other, schema=OTHER)


def intervals_from(rows: pa.Table, other: pa.Table | None = None) -> Iterator[Interval]:
    """The inverse, exact in energies; also of periods."""
    beside: dict[tuple[str, int], dict[Obis, Decimal]] = {}
    for one in _records(other) if other is not None else ():
        value = Decimal(one["text"]) if one["count"] is None else Decimal(one["count"]).scaleb(one["exponent"])
        beside.setdefault((one["point"], one["start"]), {})[one["register"]] = value
    for one in _records(rows):
        energies = {
            obis: Decimal(one[key] * one["step"]).scaleb(one["exponent"])
            for obis, key in CODES.items()
            if one[key] is not None
        } | beside.get((one["point"], one["start"]), {})
        mean, low, high = one["voltage_mean_dv"], *_extremes(one)
        yield Interval(
            one["point"],
            EPOCH + timedelta(milliseconds=one["start"]),
            one["length_s"],
            energies,
            FLAGS[one["flags"]],
            one["revision"],
            one["source"],
            float(one["skew_s"]),
            one["rule"],
            _unscaled(one["demand_max_w"], 1000),
            _unscaled(low, 10),
            _unscaled(mean, 10),
            _unscaled(high, 10),
            _unscaled(one["power_factor_pm"], 1000),
            one["known_s"],
            (int(one["known_s"] == one["length_s"]), 1),
            one["length_s"] - one.get("covered_s", one["length_s"]),
        )


def _extremes(one: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Least and greatest voltage, of a row or of a period."""
    if "voltage_min_dv" in one:
        return one["voltage_min_dv"], one["voltage_max_dv"]
    mean, below, above = one["voltage_mean_dv"], one["voltage_below_dv"], one["voltage_above_dv"]
    return None if below is None else mean - below, None if above is None else mean + above


def _records(table: pa.Table) -> Iterator[dict[str, Any]]:
    lists = [
        (column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column).to_pylist()
        for column in table.columns
    ]
    for values in zip(*lists, strict=True):
        yield dict(zip(table.column_names, values, strict=True))


def _counts(one: Interval) -> tuple[int, list[int | None], dict[Obis, Decimal]]:
    """Exponent and counts of the energies that have a column, and what is to be kept beside: also what was rounded."""
    beside = {obis: energy for obis, energy in one.energies.items() if obis not in CODES}
    parts = [_count(one.energies[obis]) if obis in one.energies else None for obis in CODES]
    there = [part for part in parts if part is not None and part[1] < HIGHEST and part[0]]
    exponent = min((max(part[1], FINEST) for part in there), default=0)
    while any(abs(_at(part, exponent)) >= GREATEST for part in there) and exponent < HIGHEST:
        exponent += 1
    counts: list[int | None] = []
    for obis, part in zip(CODES, parts, strict=True):
        count = None if part is None else _at(part, exponent) if part in there or not part[0] else None
        if count is not None and abs(count) >= GREATEST:
            count = None
        if part is not None and (count is None or Decimal(count).scaleb(exponent) != one.energies[obis]):
            beside[obis] = one.energies[obis]
        counts.append(count)
    return exponent, counts, beside


def _at(part: tuple[int, int], exponent: int) -> int:
    """A count at another exponent, rounded where that is coarser."""
    count, own = part
    if own >= exponent:
        return int(count * 10 ** (own - exponent))
    unit = 10 ** (exponent - own)
    return int((2 * count + unit) // (2 * unit))


def _count(value: Decimal) -> tuple[int, int]:
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise TypeError(f"{value} is no energy")
    count = int("".join(map(str, digits)))
    return -count if sign else count, exponent


def _beside(value: Decimal) -> tuple[int | None, int, str | None]:
    count, exponent = _count(value)
    if abs(count) < MOST and abs(exponent) < 30_000:
        return count, exponent, None
    return None, 0, str(value)


def _scaled(value: float | None, times: int) -> int | None:
    return None if value is None else round(value * times)


def _unscaled(value: float | None, times: int) -> float | None:
    return None if value is None else value / times


def counts_of(
    table: pa.Table, key: str
) -> tuple[np.ndarray[Any, np.dtype[np.int64]], np.ndarray[Any, np.dtype[np.bool_]]]:
    """A column of counts with 0 for null, and where it is not null."""
    return filled(table[key], np.int64)


def filled(column: pa.ChunkedArray, type_: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """A column with 0 for null, and where it is not null."""
    if column.null_count == 0:
        return column.to_numpy().astype(type_, copy=False), np.ones(len(column), dtype=bool)
    there = column.is_valid().to_numpy()
    return column.fill_null(0).to_numpy().astype(type_, copy=False), there


def normal(table: pa.Table) -> pa.Table:
    """Rows sorted by point, with one exponent a point and the greatest common `step`; energies stay the same.

    Where one exponent would need more than 64 bits, rows keep their own.
    """
    if table.num_rows == 0:
        return table
    codes = codes_of(table["point"])[0]
    firsts = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]])
    sizes = np.diff(np.r_[firsts, len(codes)])
    exponent = table["exponent"].to_numpy().astype(np.int64)
    step = table["step"].to_numpy().astype(np.int64)
    least = np.repeat(np.minimum.reduceat(exponent, firsts), sizes)
    up = exponent - least
    columns = {key: counts_of(table, key) for key in ENERGIES}
    greatest = np.max([np.abs(values).astype(float) * step for values, _ in columns.values()], axis=0)
    fits = (greatest * 10.0 ** np.minimum(up, 300) < MOST) & (up < 18)
    fits = np.repeat(np.logical_and.reduceat(fits, firsts), sizes)
    factor = np.where(fits, step * 10 ** np.where(fits, up, 0), 1)
    whole = {key: values * factor for key, (values, _) in columns.items()}
    common = np.gcd.reduce([np.gcd.reduceat(values, firsts) for values in whole.values()], axis=0)
    common = np.repeat(np.where(common == 0, 1, common), sizes)
    common = np.where(fits, common, 1)
    for key, (_, there) in columns.items():
        values = pa.array(whole[key] // common, mask=~there)
        table = table.set_column(table.column_names.index(key), ROWS.field(key), values)
    for key, changed in (("step", np.where(fits, common, step)), ("exponent", np.where(fits, least, exponent))):
        field = ROWS.field(key)
        table = table.set_column(table.column_names.index(key), field, pa.array(changed).cast(field.type))
    return table


def codes_of(column: pa.ChunkedArray) -> tuple[np.ndarray[Any, Any], list[str | None]]:
    """A column of names as numbers that sort as the names do (−1 for null), and the names."""
    whole = (column if pa.types.is_dictionary(column.type) else column.dictionary_encode()).unify_dictionaries()
    whole = whole.combine_chunks()
    names = whole.dictionary.to_pylist()
    order = sorted(range(len(names)), key=names.__getitem__)
    rank = np.empty(len(names) + 1, dtype=np.int64)
    rank[order] = np.arange(len(names))
    rank[-1] = -1
    indices = whole.indices.fill_null(len(names)).to_numpy(zero_copy_only=False)
    return rank[indices], [names[place] for place in order]


def ordered(table: pa.Table, then: str | None = None) -> pa.Table:
    """A table by point, start and perhaps one column more."""
    codes, _ = codes_of(table["point"])
    keys = (table["start"].cast(pa.int64()).to_numpy(), codes)
    return table.take(pa.array(np.lexsort(keys if then is None else (table[then].to_numpy(), *keys))))
