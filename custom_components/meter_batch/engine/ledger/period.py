"""Hours, days, weeks, months and years of a place: intervals gathered into them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Literal

from ..model.interval import Interval, Quality
from ..model.obis import Obis

type Resolution = Literal["interval", "hour", "day", "week", "month", "year"]
RESOLUTIONS: tuple[Resolution, ...] = ("interval", "hour", "day", "week", "month", "year")

HOUR = timedelta(hours=1)


def period_of(at: datetime, resolution: Resolution, zone: tzinfo) -> tuple[datetime, datetime]:
    """The period at the place's own time that holds an instant, as UTC instants; a day may have 23 or 25 hours."""
    local = at.astimezone(zone)
    if resolution in ("interval", "hour"):
        # Not by wall clock: the hour that comes twice is two hours. Some places are half an hour off.
        start = at.astimezone(UTC) - timedelta(
            minutes=local.minute, seconds=local.second, microseconds=local.microsecond
        )
        return start, start + HOUR
    day = local.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    if resolution == "day":
        first, last = day, day + timedelta(days=1)
    elif resolution == "week":
        first = day - timedelta(days=day.weekday())
        last = first + timedelta(days=7)
    elif resolution == "month":
        first = day.replace(day=1)
        last = (first + timedelta(days=32)).replace(day=1)
    else:
        first = day.replace(month=1, day=1)
        last = first.replace(year=first.year + 1)
    return _instant(first, zone), _instant(last, zone)


def _instant(local: datetime, zone: tzinfo) -> datetime:
    return local.replace(tzinfo=zone).astimezone(UTC)


def gather(intervals: Iterable[Interval], resolution: Resolution, zone: tzinfo) -> list[Interval]:
    """Intervals of points → one a point and period, by point and start; each interval counts where it starts."""
    if resolution == "interval":
        return list(intervals)
    return list(gathered(sorted(intervals, key=lambda one: (one.point, one.start)), resolution, zone))


def gathered(intervals: Iterable[Interval], resolution: Resolution, zone: tzinfo) -> Iterator[Interval]:
    """The same of intervals by point and start, one period after the other."""
    if resolution == "interval":
        yield from intervals
        return
    sums: _Sums | None = None
    for one in intervals:
        if sums is None or one.point != sums.first.point or not sums.start <= one.start < sums.end:
            if sums is not None:
                yield sums.interval()
            sums = _Sums(one, *period_of(one.start, resolution, zone))
        sums.add(one)
    if sums is not None:
        yield sums.interval()


def joined(start: datetime, length_s: int, intervals: Sequence[Interval]) -> Interval:
    """Intervals of one point that follow each other as one."""
    sums = _Sums(intervals[0], start, start + timedelta(seconds=length_s))
    for one in intervals:
        sums.add(one)
    return sums.interval()


class _Sums:
    """What a period holds so far."""

    def __init__(self, first: Interval, start: datetime, end: datetime) -> None:
        self.first, self.start, self.end = first, start, end
        self._energies: dict[Obis, Decimal] = {}
        self._flags: set[Quality] = set()
        self._sources: set[str] = set()
        self._rules: set[str] = set()
        self._revision = self._known_s = self._covered_s = 0
        self._skew_s = 0.0
        self._demand: float | None = None
        self._lowest: float | None = None
        self._highest: float | None = None
        self._voltage, self._factor = _Mean(), _Mean()

    def add(self, one: Interval) -> None:
        """One more interval."""
        energies = self._energies
        for obis, energy in one.energies.items():
            energies[obis] = energies[obis] + energy if obis in energies else energy
        self._flags |= one.flags
        self._sources.add(one.source)
        if one.rule:
            self._rules.add(one.rule)
        self._revision = max(self._revision, one.revision)
        self._known_s += one.known_s
        self._covered_s += one.length_s - one.uncovered_s
        self._skew_s = max(self._skew_s, one.skew_s, key=abs)
        if (high := one.demand_max_kw) is not None and (self._demand is None or high > self._demand):
            self._demand = high
        if (high := one.voltage_max_v) is not None and (self._highest is None or high > self._highest):
            self._highest = high
        if (low := one.voltage_min_v) is not None and (self._lowest is None or low < self._lowest):
            self._lowest = low
        self._voltage.add(one.voltage_mean_v, one.length_s)
        self._factor.add(one.power_factor, one.length_s)

    def interval(self) -> Interval:
        """The period."""
        length_s = (self.end - self.start) // timedelta(seconds=1)
        return Interval(
            self.first.point,
            self.start,
            length_s,
            self._energies,
            frozenset(self._flags),
            self._revision,
            " ".join(sorted(self._sources)),
            self._skew_s,
            " ".join(sorted(self._rules)) or None,
            self._demand,
            self._lowest,
            self._voltage.value,
            self._highest,
            self._factor.value,
            self._known_s,
            (int(self._known_s == length_s), 1),
            length_s - self._covered_s,
        )


class _Mean:
    """By time."""

    def __init__(self) -> None:
        self._sum, self._seconds = 0.0, 0

    def add(self, value: float | None, seconds: int) -> None:
        if value is not None:
            self._sum += value * seconds
            self._seconds += seconds

    @property
    def value(self) -> float | None:
        return self._sum / self._seconds if self._seconds else None
