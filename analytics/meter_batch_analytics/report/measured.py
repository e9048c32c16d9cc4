"""What was measured in a period, exact and as whole columns: intervals, days, hours and integration periods.

The frame's energies are the floats nearest to exact decimals of at most 15 digits, so they are brought back without
loss: as counts of the smallest decimal that all of them need. Sums are of integers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from ..periods import edges
from .period import local

IMPORT, EXPORT, GROSS = "energy_import", "energy_export", "energy_gross"
LAGGING, LEADING = "reactive_energy_import", "reactive_energy_export"
MOST_DIGITS = 12
_EXACT, _SAFE = 2.0**50, 2.0**62
"""Below, a product of floats still rounds to the right integer; sums stay within 64 bits."""

type Array = Any
"""A column of numpy."""


class Histories(Protocol):
    """What is asked of a site."""

    @property
    def time_zone(self) -> str:
        """Its zone."""

    def tables(
        self,
        points: Sequence[str],
        *,
        since: datetime,
        until: datetime,
        resolution: str,
        quantities: Sequence[str],
    ) -> Iterable[pa.Table]:
        """Frames."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of points, by column. Energies are counts of 10^−digits kWh or kvarh, 0 where `has` is false."""

    places: Mapping[str, int]
    point: Array
    """Place of the point."""
    start: Array
    """Milliseconds since 1970."""
    length_s: Array
    energies: Mapping[str, Array]
    has: Mapping[str, Array]
    digits: int
    known_s: Array
    covered: Array
    """Of days: share of the time that intervals cover."""
    estimated: Array
    suspect: Array
    statistics: Array
    """Whether it came from hourly statistics."""

    def decimal(self, count: Any) -> Decimal:
        """A sum of counts as energy."""
        return Decimal(int(count)).scaleb(-self.digits)

    def sums(self, key: str, groups: Array, count: int) -> tuple[Array, Array]:
        """Sums of an energy by point and group, and how many values each has."""
        size = len(self.places)
        found = np.zeros((size, count), self.energies[key].dtype)
        there = np.zeros((size, count), np.int64)
        mine = self.has[key]
        np.add.at(found, (self.point[mine], groups[mine]), self.energies[key][mine])
        np.add.at(there, (self.point[mine], groups[mine]), 1)
        return found, there

    def seconds(self, values: Array, groups: Array, count: int) -> Array:
        """Sums of seconds by point and group."""
        found = np.zeros((len(self.places), count), np.int64)
        np.add.at(found, (self.point, groups), values)
        return found


def read(site: Histories, points: Sequence[str], since: datetime, until: datetime, resolution: str) -> Rows:
    """The rows of points in a period. Gross energy counts where a meter has no import."""
    places = {id_: place for place, id_ in enumerate(sorted(points))}
    keys = [IMPORT, EXPORT, LAGGING, LEADING]
    found = _table(site, list(places), since, until, resolution, keys) if places else None
    if found is None or not found.num_rows:
        return _rows(None, places)
    column = found[_column(IMPORT)]
    if column.null_count:
        # Meters that count both directions in one register are few: only they are asked again.
        codes, names = _codes(found["point"])
        has = np.unique(codes[column.is_valid().to_numpy()])
        without = sorted(set(names) - {names[one] for one in has})
        if without:
            gross = _table(site, without, since, until, resolution, [GROSS, EXPORT, LAGGING, LEADING])
            if gross is not None and gross.num_rows:
                gross = gross.rename_columns([one.replace(GROSS, IMPORT) for one in gross.column_names])
                keep = pa.array(~np.isin(codes, [names.index(one) for one in without]))
                found = pa.concat_tables([found.filter(keep), gross.select(found.column_names)])
    return _rows(found, places)


def groups(rows: Rows, since: datetime, until: datetime, resolution: Any, zone: tzinfo) -> tuple[Array, Array]:
    """For each row the place of its local hour or day in the period; the beginnings of these, and the last's end."""
    borders = edges(since, until, resolution, zone)
    return np.searchsorted(borders, rows.start, side="right") - 1, borders


def windows(rows: Rows, minutes: int, since: datetime) -> tuple[Array, Array, int]:
    """Energies by point and integration period, 0 where it is not covered wholly; whether it is; and when the first
    begins (milliseconds). Integration periods divide the hours of UTC, as intervals do.
    """
    length = minutes * 60
    begin = int(since.timestamp()) // length * length * 1000
    place = (rows.start - begin) // (length * 1000)
    inside = (rows.start - begin) // 1000 + rows.length_s <= (place + 1) * length
    mine = rows.has[IMPORT] & inside
    count = int(place.max()) + 1 if len(place) else 0
    found = np.zeros((len(rows.places), count), rows.energies[IMPORT].dtype)
    seconds = np.zeros((len(rows.places), count), np.int64)
    at = (rows.point[mine], place[mine])
    np.add.at(found, at, rows.energies[IMPORT][mine])
    np.add.at(seconds, at, rows.length_s[mine])
    whole = seconds == length
    return np.where(whole, found, 0), whole, begin


def instant(milliseconds: Any, zone: tzinfo) -> datetime:
    """Milliseconds since 1970 as an instant by the clocks of a zone."""
    return local(datetime.fromtimestamp(int(milliseconds) / 1000, UTC), zone)


def _table(
    site: Histories, points: Sequence[str], since: datetime, until: datetime, resolution: str, keys: Sequence[str]
) -> pa.Table | None:
    names = ["point", "start", "length_s", *map(_column, keys), "demand_mean_kw", "completeness", "flags", "origin"]
    tables = [
        one.select(names)
        for one in site.tables(points, since=since, until=until, resolution=resolution, quantities=keys)
        if one.num_rows
    ]
    return pa.concat_tables(tables).unify_dictionaries() if tables else None


def _rows(table: pa.Table | None, places: Mapping[str, int]) -> Rows:
    if table is None:
        none, no = np.zeros(0, np.int64), np.zeros(0, bool)
        energies = dict.fromkeys((IMPORT, EXPORT, LAGGING, LEADING), none)
        has = dict.fromkeys(energies, no)
        return Rows(places, none, none, none, energies, has, 0, none, np.zeros(0), no, no, no)
    codes, names = _codes(table["point"])
    floats = {key: _floats(table[_column(key)]) for key in (IMPORT, EXPORT, LAGGING, LEADING)}
    digits = max(_digits(one[~np.isnan(one)]) for one in floats.values())
    has = {key: ~np.isnan(one) for key, one in floats.items()}
    length = table["length_s"].to_numpy().astype(np.int64)
    known = np.rint(_floats(table["completeness"]) * length).astype(np.int64)
    flag, texts = _codes(table["flags"])
    marks = {
        key: np.array([key in text.split() for text in texts] or [False])[flag] for key in ("estimated", "suspect")
    }
    origin, origins = _codes(table["origin"])
    mean = _floats(table["demand_mean_kw"])
    with np.errstate(divide="ignore", invalid="ignore"):
        covered = np.where(mean > 0, floats[IMPORT] * 3600 / mean / length, known / length)
    return Rows(
        places,
        np.array([places[name] for name in names] or [0])[codes],
        table["start"].cast(pa.int64()).to_numpy(),
        length,
        {key: _counts(one, digits) for key, one in floats.items()},
        has,
        digits,
        known,
        np.where(marks["estimated"] & (mean == 0), 1.0, covered),
        marks["estimated"],
        marks["suspect"],
        np.array([name == "recorder" for name in origins] or [False])[origin],
    )


def _column(key: str) -> str:
    return f"{key}_{'kvarh' if 'reactive' in key else 'kwh'}"


def _codes(column: pa.ChunkedArray) -> tuple[Array, list[str]]:
    """A column of names as places in a list of those that occur."""
    whole = column.combine_chunks()
    used, codes = np.unique(whole.indices.to_numpy(zero_copy_only=False), return_inverse=True)
    return codes, [whole.dictionary[int(one)].as_py() for one in used]


def _floats(column: pa.ChunkedArray) -> Array:
    return column.to_numpy().astype(np.float64) if not column.null_count else column.to_numpy()


def _digits(values: Array) -> int:
    """Decimals after which all values are whole; the float nearest to such a decimal is that decimal."""
    for digits in range(MOST_DIGITS):
        if len(values) == 0 or np.all(np.rint(values * 10.0**digits) / 10.0**digits == values):
            return digits
        values = values[np.rint(values * 10.0**digits) / 10.0**digits != values]
    return MOST_DIGITS


def _counts(values: Array, digits: int) -> Array:
    found = np.where(np.isnan(values), 0.0, values)
    greatest = np.abs(found).max() * 10.0**digits if len(found) else 0.0
    if greatest >= _EXACT or greatest * len(found) >= _SAFE:
        # Sums might not fit into 64 bits: integers of any size, slower.
        return np.array([int(Decimal(repr(float(one))).scaleb(digits).to_integral_value()) for one in found], object)
    return np.rint(found * 10.0**digits).astype(np.int64)
