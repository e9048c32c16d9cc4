"""Intervals gathered into longer periods, whole columns at once: exact sums, means weighted by time. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo
from typing import Any

import numpy as np
import pyarrow as pa

from ..errors import ArchiveError
from ..periods import Resolution, edges
from .rows import EPOCH, MOST, codes_of, filled
from .schema import ENERGIES, PERIODS, TIME

type Ints = np.ndarray[Any, np.dtype[np.int64]]


def starts_of(table: pa.Table) -> Ints:
    """The starts of rows, in milliseconds since 1970."""
    return table["start"].cast(pa.int64()).to_numpy()  # type: ignore[no-any-return]


def at(milliseconds: int) -> datetime:
    """The inverse of `rows.milliseconds`."""
    return EPOCH + timedelta(milliseconds=milliseconds)


def gathered(table: pa.Table, resolution: Resolution, zone: tzinfo) -> pa.Table:
    """Rows (`schema.ROWS`) or periods, by point and start → periods; each row counts where it starts.

    `length_s` is the whole period's. Energies of a point that differ in exponent are brought to one.
    """
    if table.num_rows == 0:
        return PERIODS.empty_table()
    starts = starts_of(table)
    borders = edges(at(int(starts.min())), at(int(starts.max()) + 1), resolution, zone)
    place = np.searchsorted(borders, starts, side="right") - 1
    codes, points = codes_of(table["point"])
    firsts = np.flatnonzero(np.r_[True, (codes[1:] != codes[:-1]) | (place[1:] != place[:-1])])
    group = np.repeat(np.arange(len(firsts)), np.diff(np.r_[firsts, len(codes)]))
    begins, lengths = borders[:-1], np.diff(borders) // 1000
    columns: dict[str, Any] = {
        "point": pa.DictionaryArray.from_arrays(pa.array(codes[firsts], pa.int32()), pa.array(points)),
        "start": pa.array(begins[place[firsts]]).cast(TIME),
        "length_s": lengths[place[firsts]],
    }
    columns |= _energies(table, firsts, group)
    columns |= _seen(table, firsts)
    flags = table["flags"].to_numpy()
    columns |= {
        "flags": np.bitwise_or.reduceat(flags, firsts),
        "source": _names(table["source"], firsts, ""),
        "rule": _names(table["rule"], firsts, None),
        "revision": np.maximum.reduceat(table["revision"].to_numpy(), firsts),
        "known_s": np.add.reduceat(table["known_s"].to_numpy().astype(np.int64), firsts),
        "skew_s": np.maximum.reduceat(np.abs(table["skew_s"].to_numpy()), firsts),
        "intervals": np.add.reduceat(
            table["intervals"].to_numpy().astype(np.int64)
            if "intervals" in table.column_names
            else np.ones_like(place),
            firsts,
        ),
        "covered_s": np.add.reduceat(
            table["covered_s" if "covered_s" in table.column_names else "length_s"].to_numpy().astype(np.int64),
            firsts,
        ),
    }
    arrays = [_typed(columns[field.name], field.type) for field in PERIODS]
    return pa.table(arrays, schema=PERIODS)


def _typed(values: Any, type_: pa.DataType) -> Any:
    if isinstance(values, np.ma.MaskedArray):
        return pa.array(values.data, mask=np.ma.getmaskarray(values)).cast(type_)
    return values if isinstance(values, pa.Array) and values.type == type_ else pa.array(values).cast(type_)


def _energies(table: pa.Table, firsts: Ints, group: Ints) -> dict[str, Any]:
    exponent = table["exponent"].to_numpy().astype(np.int64)
    step = table["step"].to_numpy().astype(np.int64)
    least = np.minimum.reduceat(exponent, firsts)
    up = exponent - least[group]
    # Where all rows of a group have one step, it stays outside of the sum.
    smallest, greatest = np.minimum.reduceat(step, firsts), np.maximum.reduceat(step, firsts)
    outside = np.where((smallest == greatest) & (np.maximum.reduceat(up, firsts) == 0), smallest, 1)
    times = np.where(outside[group] == step, 1, step)
    columns = {key: filled(table[key], np.int64) for key in ENERGIES}
    greatest = max(np.abs(values).astype(float).max() for values, _ in columns.values()) * times.max()
    if up.max() > 18 or greatest * 10.0 ** up.max() * len(group) >= MOST:
        return _long(columns, (step.astype(object) * 10 ** up.astype(object)), least, firsts)
    found: dict[str, Any] = {"step": outside, "exponent": least}
    for key, (values, there) in columns.items():
        sums = np.add.reduceat(values * times * 10**up, firsts)
        found[key] = np.ma.MaskedArray(sums, ~np.logical_or.reduceat(there, firsts))
    return found


def _long(columns: dict[str, Any], times: Any, exponent: Ints, firsts: Ints) -> dict[str, Any]:
    """Sums that might not fit into 64 bits: exact, and rounded to 18 digits only where they really do not fit."""
    sums = {key: np.add.reduceat(values.astype(object) * times, firsts) for key, (values, _) in columns.items()}
    lacking = [max(0, len(str(max(abs(one) for one in group))) - 18) for group in zip(*sums.values(), strict=True)]
    found: dict[str, Any] = {"step": np.ones_like(exponent), "exponent": exponent + np.array(lacking)}
    for key, (_, there) in columns.items():
        values = [int(one) // 10**digits for one, digits in zip(sums[key], lacking, strict=True)]
        found[key] = np.ma.MaskedArray(np.array(values, dtype=np.int64), ~np.logical_or.reduceat(there, firsts))
    return found


def _seen(table: pa.Table, firsts: Ints) -> dict[str, Any]:
    power, there = filled(table["demand_max_w"], np.int64)
    found: dict[str, Any] = {"demand_max_w": _extreme(np.maximum, power, there, firsts)}
    rows = "voltage_min_dv" not in table.column_names
    mean, has_mean = filled(table["voltage_mean_dv"], np.float64)
    for name, beside, sign, extreme in (
        ("voltage_min_dv", "voltage_below_dv", -1, np.minimum),
        ("voltage_max_dv", "voltage_above_dv", 1, np.maximum),
    ):
        values, there = filled(table[beside if rows else name], np.int64)
        if rows:
            values = mean.astype(np.int64) + sign * values
        found[name] = _extreme(extreme, values, there, firsts)
    length = table["length_s"].to_numpy().astype(np.int64)
    factor, has_factor = filled(table["power_factor_pm"], np.float64)
    for name, weight, values, has in (
        ("voltage_mean_dv", "voltage_s", mean, has_mean),
        ("power_factor_pm", "power_factor_s", factor, has_factor),
    ):
        seconds = np.where(has, length if rows else table[weight].to_numpy().astype(np.int64), 0)
        whole = np.add.reduceat(seconds, firsts)
        with np.errstate(invalid="ignore", divide="ignore"):
            found[name] = np.ma.MaskedArray(np.add.reduceat(values * seconds, firsts) / whole, whole == 0)
        found[weight] = whole
    return found


def _extreme(extreme: Any, values: Ints, there: Any, firsts: Ints) -> Any:
    neutral = -MOST if extreme is np.maximum else MOST
    found = extreme.reduceat(np.where(there, values, neutral), firsts)
    return np.ma.MaskedArray(found, ~np.logical_or.reduceat(there, firsts))


def _names(column: pa.ChunkedArray, firsts: Ints, empty: str | None) -> pa.Array:
    """The different words of each group's names, each once, in order, with a space between; `empty` without any."""
    codes, names = codes_of(column)
    words = sorted({word for name in names if name for word in name.split()})
    if len(words) > 62:
        raise ArchiveError(f"more than 62 sources or rules ({words[0]}, {words[1]} …) cannot be told apart")
    bits = [sum(1 << words.index(word) for word in (name or "").split()) for name in names]
    rows = np.array([*bits, 0], dtype=np.int64)[codes]  # −1, of null, is the last
    masks, place = np.unique(np.bitwise_or.reduceat(rows, firsts), return_inverse=True)
    texts = [" ".join(word for at_, word in enumerate(words) if int(mask) >> at_ & 1) or empty for mask in masks]
    return pa.DictionaryArray.from_arrays(
        pa.array(
            np.array([0 if text is None else n for n, text in enumerate(texts)], dtype=np.int32)[place],
            mask=np.array([text is None for text in texts])[place],
        ),
        pa.array([text or "" for text in texts], pa.string()),
    )
