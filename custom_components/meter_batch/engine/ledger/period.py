"""Hours, days, weeks, months and years of a place: intervals gathered into them. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
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
    groups: dict[tuple[str, datetime], list[Interval]] = defaultdict(list)
    lengths: dict[datetime, int] = {}
    # The period of an interval is looked up, not worked out, as long as it is the same one.
    start, end = datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)
    for one in intervals:
        if not start <= one.start < end:
            start, end = period_of(one.start, resolution, zone)
            lengths[start] = (end - start) // timedelta(seconds=1)
        groups[one.point, start].append(one)
    return [gathered(start, lengths[start], group) for (_, start), group in sorted(groups.items())]


def gathered(start: datetime, length_s: int, group: list[Interval]) -> Interval:
    """One period from the intervals of one point in it."""
    energies: dict[Obis, Decimal] = {}
    flags: set[Quality] = set()
    for one in group:
        flags |= one.flags
        for obis, energy in one.energies.items():
            energies[obis] = energies.get(obis, Decimal(0)) + energy
    means = [(one.voltage_mean_v, one.length_s) for one in group if one.voltage_mean_v is not None]
    factors = [(one.power_factor, one.length_s) for one in group if one.power_factor is not None]
    return replace(
        group[0],
        start=start,
        length_s=length_s,
        energies=energies,
        flags=frozenset(flags),
        revision=max(one.revision for one in group),
        source=" ".join(sorted({one.source for one in group})),
        skew_s=max((one.skew_s for one in group), key=abs),
        rule=" ".join(sorted({one.rule for one in group if one.rule})) or None,
        demand_max_kw=max((one.demand_max_kw for one in group if one.demand_max_kw is not None), default=None),
        voltage_min_v=min((one.voltage_min_v for one in group if one.voltage_min_v is not None), default=None),
        voltage_mean_v=_mean(means),
        voltage_max_v=max((one.voltage_max_v for one in group if one.voltage_max_v is not None), default=None),
        power_factor=_mean(factors),
        known_s=sum(one.known_s for one in group),
        parts=(int(sum(one.known_s for one in group) == length_s), 1),
    )


def _mean(values: list[tuple[float, int]]) -> float | None:
    whole = sum(seconds for _, seconds in values)
    return sum(value * seconds for value, seconds in values) / whole if whole else None
