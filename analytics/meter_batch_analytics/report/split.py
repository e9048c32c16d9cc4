"""What was measured, divided: by tariff period, day, hour and integration period, for any sum of points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Literal

import numpy as np

from .facts import Demand, PowerFactor
from .measured import IMPORT, LAGGING, LEADING, Array, Rows, groups, instant, windows
from .period import ReportPeriod
from .tariff import Tariff, rounded_power_factor

type Terms = Mapping[str, int]
"""Measured points with their signs."""
type Resolution = Literal["day", "hour"]

QUARTER_M, HOUR_M = 15, 60


@dataclass(frozen=True, slots=True)
class Place:
    """A day or hour of a sum of points."""

    kwh: Decimal | None
    completeness: float
    estimated_share: float


class Measured:
    """The rows of a period, and the questions that a report asks of them."""

    def __init__(self, rows: Rows, period: ReportPeriod, until: datetime, tariffs: Sequence[Tariff]) -> None:
        self.rows, self.period, self.until, self.tariffs = rows, period, until, tuple(tariffs)
        self._seconds = int((until - period.start).total_seconds())
        self._place: dict[str, Array] = {}
        self._borders: dict[str, Array] = {}
        for key in ("day", "hour"):
            place, borders = groups(rows, period.start, until, key, period.zone)
            self._place[key], self._borders[key] = place, borders
        self._cells: dict[str, tuple[Array, Array, Array, Array]] = {}
        self._splits: dict[tuple[str, str], tuple[list[tuple[int, str]], Array]] = {}
        self._across: dict[str, Array] = {}
        self._windows: dict[int, tuple[Array, Array, int]] = {}
        self._codes: dict[str, tuple[list[tuple[int, str]], Array]] = {}

    # --- sums ---

    def kwh(self, some: Sequence[Terms]) -> Decimal | None:
        """Import of a sum of points; None where nothing is known of any."""
        return self.energy(IMPORT, some)

    def energy(self, key: str, some: Sequence[Terms]) -> Decimal | None:
        """Another energy of a sum of points."""
        found, there = self._totals[key]
        leaves = [(self.rows.places[leaf], sign) for terms in some for leaf, sign in terms.items()]
        if not any(there[place] for place, _ in leaves):
            return None
        return self.rows.decimal(sum(sign * int(found[place]) for place, sign in leaves))

    @cached_property
    def _totals(self) -> dict[str, tuple[Array, Array]]:
        none = np.zeros(len(self.rows.point), np.int64)
        found = {}
        for key in self.rows.energies:
            sums, there = self.rows.sums(key, none, 1)
            found[key] = (sums[:, 0], there[:, 0])
        return found

    def split(self, tariff: Tariff, some: Sequence[Terms]) -> dict[tuple[int, str], Decimal]:
        """kWh by version and period of a tariff; all periods of the versions that apply."""
        keys, sums = self._split(tariff)
        return {
            key: self.rows.decimal(
                sum(sign * int(sums[self.rows.places[leaf], at]) for terms in some for leaf, sign in terms.items())
            )
            for at, key in enumerate(keys)
        }

    def _split(self, tariff: Tariff) -> tuple[list[tuple[int, str]], Array]:
        found = self._splits.get((tariff.id, ""))
        if found is None:
            keys, codes = self._tariff_codes(tariff)
            found = (keys, self.rows.sums(IMPORT, codes, len(keys))[0])
            self._splits[tariff.id, ""] = found
        return found

    def _tariff_codes(self, tariff: Tariff) -> tuple[list[tuple[int, str]], Array]:
        """Keys (version, period), and for each row the place of its key: that of the instant at which it starts."""
        found = self._codes.get(tariff.id)
        if found is not None:
            return found
        starts, place = np.unique(self.rows.start, return_inverse=True)
        spans = {day: tariff.spans(day) for day in self.days}
        versions = sorted({tariff.version_of(day) or 0 for day in self.days})
        keys = [(version, one.key) for version in versions for one in tariff.periods]
        at = {key: number for number, key in enumerate(keys)}
        codes, left = np.zeros(len(starts), np.int64), np.zeros(len(starts), np.int64)
        for number, start in enumerate(starts.tolist()):
            begin = instant(start, self.period.zone)
            minute, day = begin.hour * 60 + begin.minute, begin.date()
            last, period = next((last, key) for first, last, key in spans[day] if first <= minute < last)
            codes[number] = at[tariff.version_of(day) or 0, period]
            left[number] = (last - minute) * 60 - begin.second
        if len(place):
            across = (self.rows.length_s > left[place]) & self.rows.has[IMPORT]
            self._across[tariff.id] = across
            codes = codes[place]
        self._codes[tariff.id] = (keys, codes)
        return self._codes[tariff.id]

    def across_share(self, tariff: Tariff, some: Sequence[Terms]) -> float:
        """Share of the energy that is of intervals which reach into another tariff period than they begin in."""
        self._tariff_codes(tariff)
        kwh, places = self.kwh(some), [self.rows.places[leaf] for one in some for leaf in one]
        if kwh is None or kwh <= 0 or tariff.id not in self._across:
            return 0.0
        mine = self._across[tariff.id] & np.isin(self.rows.point, places)
        return float(self.rows.decimal(self.rows.energies[IMPORT][mine].sum()) / kwh)

    def quality(self, some: Sequence[Terms]) -> tuple[float, float]:
        """Completeness and share of estimates in time: means over the points, of each its least known part."""
        known, guessed = self._known
        found = []
        for terms in some:
            places = [self.rows.places[leaf] for leaf in terms]
            if places:
                found.append((min(known[places]), max(guessed[places])))
        if not found:
            return 0.0, 0.0
        return tuple(min(1.0, float(sum(one) / len(found))) for one in zip(*found, strict=True))  # type: ignore[return-value]

    def covered(self, terms: Terms) -> float:
        """Share of the time for which there is energy, measured or estimated, of its least known part."""
        return min((float(self._covered[self.rows.places[leaf]]) for leaf in terms), default=0.0)

    @cached_property
    def _covered(self) -> Array:
        none = np.zeros(len(self.rows.point), np.int64)
        covered = np.rint(self.rows.covered * self.rows.length_s).astype(np.int64)
        return self.rows.seconds(covered, none, 1)[:, 0] / self._seconds

    @cached_property
    def _known(self) -> tuple[Array, Array]:
        none = np.zeros(len(self.rows.point), np.int64)
        known = self.rows.seconds(self.rows.known_s, none, 1)[:, 0]
        guessed = self.rows.seconds(np.where(self.rows.estimated, self.rows.length_s - self.rows.known_s, 0), none, 1)
        return known / self._seconds, guessed[:, 0] / self._seconds

    def since(self, some: Sequence[Terms]) -> datetime | None:
        """The first instant that is known of a point, where the period began more than an hour before."""
        places = [self.rows.places[leaf] for terms in some for leaf in terms]
        firsts = [self._firsts[place] for place in places if self._firsts[place] >= 0]
        if not firsts:
            return None
        found = instant(max(firsts), self.period.zone)
        return found if found - self.period.start > timedelta(hours=1) else None

    @cached_property
    def _firsts(self) -> Array:
        found = np.full(len(self.rows.places), np.iinfo(np.int64).max)
        np.minimum.at(found, self.rows.point, self.rows.start)
        return np.where(found == np.iinfo(np.int64).max, -1, found)

    def power_factor(self, some: Sequence[Terms]) -> PowerFactor:
        """Of the energies; without a value where a point that has energy counts no reactive energy."""
        with_energy = [one for one in some if self.kwh([one]) is not None]
        kwh, lagging = self.kwh(some), self.energy(LAGGING, some)
        leading = self.energy(LEADING, some)
        if kwh is None or kwh < 0 or any(self.energy(LAGGING, [one]) is None for one in with_energy):
            return PowerFactor(lagging, leading, None, None)
        lag, lead = abs(lagging or Decimal(0)), abs(leading or Decimal(0))
        return PowerFactor(lagging, leading, rounded_power_factor(kwh, lag + lead), rounded_power_factor(kwh, lag))

    # --- power ---

    def demand(self, some: Sequence[Terms], top: int, minutes: int = QUARTER_M) -> Demand:
        """The highest mean power of a sum of points, over whole integration periods.

        Where the integration period holds no whole intervals (they are longer, or of 10 minutes), over an hour.
        """
        places = {
            leaf: self.rows.places[leaf]
            for terms in some
            for leaf in terms
            if self._firsts[self.rows.places[leaf]] >= 0
        }
        if not places:
            return Demand(None, None, minutes)
        lengths = [int(self._longest[place]) for place in places.values()]
        if any(length and minutes * 60 % length for length in lengths):
            minutes = HOUR_M
        energies, whole, begin = self._power(minutes)
        signs = {leaf: sign for one in some for leaf, sign in one.items() if leaf in places}
        sums = sum((sign * energies[places[leaf]] for leaf, sign in signs.items()), np.zeros_like(energies[0]))
        # What is missing of a sum only lowers it: its maximum is still the best that can be said. A difference is known
        # only where all of it is.
        together = np.logical_or if all(sign > 0 for sign in signs.values()) else np.logical_and
        good = np.flatnonzero(together.reduce([whole[place] for place in places.values()]))
        if not len(good):
            return Demand(None, None, minutes)
        order = good[np.lexsort((good, -sums[good].astype(np.float64)))][:top]
        ranked = tuple(
            (
                instant(begin + int(place) * minutes * 60_000, self.period.zone),
                self.rows.decimal(sums[place]) * 60 / minutes,
            )
            for place in order
        )
        kwh = self.kwh(some)
        highest = ranked[0][1]
        mean = None if kwh is None else float(kwh) * 3600 / self._seconds
        factor = None if mean is None or highest <= 0 else mean / float(highest)
        return Demand(highest, ranked[0][0], minutes, ranked if top > 1 else (), None, factor)

    def demand_by_day(self, some: Sequence[Terms]) -> dict[date, Decimal]:
        """The highest of each day."""
        whole = self.demand(some, 1_000_000)
        found: dict[date, Decimal] = {}
        for at, kw in whole.top or ((whole.at, whole.max_kw),):
            if at is not None and kw is not None:
                found.setdefault(at.date(), kw)
        return found

    def _power(self, minutes: int) -> tuple[Array, Array, int]:
        if minutes not in self._windows:
            energies, whole, begin = windows(self.rows, minutes, self.period.start)
            # Of a day that is estimated for the most part nobody knows when it was highest, nor how high.
            at = begin + np.arange(whole.shape[1], dtype=np.int64) * minutes * 60_000
            day = np.searchsorted(self._borders["day"], at, side="right") - 1
            _, _, known, guessed = self._cell("day")
            told = guessed <= known
            if told.shape[1]:
                whole = whole & told[:, np.clip(day, 0, told.shape[1] - 1)]
            self._windows[minutes] = np.where(whole, energies, 0), whole, begin
        return self._windows[minutes]

    @cached_property
    def _longest(self) -> Array:
        """The usual length of a point's intervals: of more than half of them."""
        found = np.zeros(len(self.rows.places), np.int64)
        for length in np.unique(self.rows.length_s):
            share = np.bincount(self.rows.point, self.rows.length_s >= length, len(self.rows.places))
            total = np.bincount(self.rows.point, minlength=len(self.rows.places))
            found[(total > 0) & (share * 2 > total)] = length
        return found

    @property
    def coarse(self) -> int:
        """How many points have intervals longer than a quarter of an hour."""
        return int((self._longest > QUARTER_M * 60).sum())

    # --- series ---

    @cached_property
    def days(self) -> list[date]:
        """The days that have begun."""
        return [instant(one, self.period.zone).date() for one in self._starts("day")]

    @cached_property
    def hours(self) -> list[datetime]:
        """The hours that have begun."""
        return [instant(one, self.period.zone) for one in self._starts("hour")]

    def _starts(self, resolution: str) -> list[int]:
        end = int(self.until.timestamp() * 1000)
        return [int(one) for one in self._borders[resolution][:-1] if one < end]

    def series(self, resolution: Resolution, some: Sequence[Terms], place: int) -> Place:
        """One day or hour of a sum of points."""
        sums, there, known, guessed = self._cell(resolution)
        length = self._length(resolution, place)
        leaves = [(self.rows.places[leaf], sign) for terms in some for leaf, sign in terms.items()]
        quality = [
            (min(known[places, place]) / length, max(guessed[places, place]) / length)
            for terms in some
            if (places := [self.rows.places[leaf] for leaf in terms])
        ]
        mean = [min(1.0, float(sum(one) / len(quality))) for one in zip(*quality, strict=True)] or [0.0, 0.0]
        if not any(there[at, place] for at, _ in leaves):
            return Place(None, mean[0], mean[1])
        return Place(self.rows.decimal(sum(sign * int(sums[at, place]) for at, sign in leaves)), mean[0], mean[1])

    def split_series(
        self, tariff: Tariff, some: Sequence[Terms], resolution: Resolution
    ) -> Iterator[dict[str, Decimal]]:
        """kWh by tariff period of each day or hour."""
        keys, codes = self._tariff_codes(tariff)
        size = len(self._starts(resolution))
        mine = self._splits.get((tariff.id, resolution))
        if mine is None:
            place = self._place[resolution] * len(keys) + codes
            mine = (keys, self.rows.sums(IMPORT, place, size * len(keys))[0])
            self._splits[tariff.id, resolution] = mine
        sums = sum(
            (sign * mine[1][self.rows.places[leaf]] for terms in some for leaf, sign in terms.items()),
            np.zeros(size * len(keys), np.int64),
        )
        for at in range(size):
            found: dict[str, Decimal] = {}
            for number, (_, key) in enumerate(keys):
                if count := sums[at * len(keys) + number]:
                    found[key] = found.get(key, Decimal(0)) + self.rows.decimal(count)
            yield found

    def _cell(self, resolution: Resolution) -> tuple[Array, Array, Array, Array]:
        if resolution not in self._cells:
            place, size = self._place[resolution], len(self._starts(resolution))
            guessed = np.where(self.rows.estimated, self.rows.length_s - self.rows.known_s, 0)
            self._cells[resolution] = (
                *self.rows.sums(IMPORT, place, size),
                self.rows.seconds(self.rows.known_s, place, size),
                self.rows.seconds(guessed, place, size),
            )
        return self._cells[resolution]

    def _length(self, resolution: str, place: int) -> float:
        borders, end = self._borders[resolution], self.until.timestamp() * 1000
        return float(min(borders[place + 1], end) - borders[place]) / 1000

    # --- doubts ---

    @property
    def suspects(self) -> int:
        """Intervals that a rule doubts."""
        return int(self.rows.suspect.sum())

    @property
    def suspect_points(self) -> int:
        """Points that have such."""
        return len(np.unique(self.rows.point[self.rows.suspect]))

    @property
    def statistics_share(self) -> float:
        """Share of the points' time that only hourly statistics know."""
        seconds = int(self.rows.length_s[self.rows.statistics].sum())
        return min(1.0, seconds / self._seconds / max(len(self.rows.places), 1))
