"""Hours, days, weeks, months and years of a place, for whole columns. Pure.

The same periods as the ledger's (tested): days begin at the place's midnight and may have 23 or 25 hours; an hour that
comes twice is two hours.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from meter_batch_engine.errors import ConfigError

type Resolution = Literal["interval", "hour", "day", "week", "month", "year"]
RESOLUTIONS: tuple[Resolution, ...] = ("interval", "hour", "day", "week", "month", "year")


def resolution_of(text: str) -> Resolution:
    """The resolution of that name; ConfigError where there is none."""
    for one in RESOLUTIONS:
        if one == text:
            return one
    raise ConfigError(f'"{text}" is no resolution; there are {", ".join(RESOLUTIONS)}')


def zone_of(name: str) -> ZoneInfo:
    """An IANA time zone; ConfigError where there is none of that name."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(f'"{name}" is no IANA time zone, for example Europe/Berlin') from error


def begin_of(at: datetime, resolution: Resolution, zone: tzinfo) -> datetime:
    """The instant (UTC) at which the period that holds `at` began."""
    local = at.astimezone(zone)
    if resolution == "interval":
        return at.astimezone(UTC)
    if resolution == "hour":
        # Not by wall clock: some hours come twice, and some places are half an hour off.
        return at.astimezone(UTC) - timedelta(
            minutes=local.minute, seconds=local.second, microseconds=local.microsecond
        )
    day = local.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None, fold=0)
    if resolution == "week":
        day -= timedelta(days=day.weekday())
    elif resolution == "month":
        day = day.replace(day=1)
    elif resolution == "year":
        day = day.replace(month=1, day=1)
    return _instant(day, zone)


def end_of(begin: datetime, resolution: Resolution, zone: tzinfo) -> datetime:
    """The instant at which the period that begins there ends."""
    if resolution in ("interval", "hour"):
        return begin + timedelta(hours=1)
    first = begin.astimezone(zone).replace(tzinfo=None)
    # Some places skip midnight on the day their clocks change: the day then begins at one.
    first = first.replace(hour=0, minute=0)
    if resolution == "day":
        last = first + timedelta(days=1)
    elif resolution == "week":
        last = first + timedelta(days=7)
    elif resolution == "month":
        last = (first + timedelta(days=32)).replace(day=1)
    else:
        last = first.replace(year=first.year + 1)
    return _instant(last, zone)


def edges(since: datetime, until: datetime, resolution: Resolution, zone: tzinfo) -> Any:
    """The beginnings of all periods that meet `[since, until)`, and the end of the last: milliseconds since 1970."""
    import numpy as np

    begin = begin_of(since, resolution, zone)
    found = [begin]
    while found[-1] < until:
        found.append(end_of(found[-1], resolution, zone))
    if len(found) == 1:
        found.append(end_of(begin, resolution, zone))
    return np.array([round(one.timestamp() * 1000) for one in found], dtype=np.int64)


def _instant(local: datetime, zone: tzinfo) -> datetime:
    return local.replace(tzinfo=zone).astimezone(UTC)
