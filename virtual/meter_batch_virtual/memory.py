"""What a meter with memory kept, and when: freezes, billing days, load records. Values are recomputed from the past.

All times here are the meter's own wall clock, naive, as they stand in its memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

LOAD_PERIOD = timedelta(minutes=15)
LOAD_MEMORY = timedelta(days=366)
"""Clause 4.1.2: a meter keeps its energy data for a year."""
BILLING_DAYS = 12

_FREEZES: dict[int, tuple[timedelta, int]] = {
    0: (timedelta(days=1), 60),  # timed: set to midnight
    4: (timedelta(hours=1), 254),
    6: (timedelta(days=1), 62),
}
"""Kind of freeze (second byte of 05 kk cc nn) → its period and how many are kept."""


def _floor(at: datetime, period: timedelta) -> datetime:
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight + (at - midnight) // period * period


def freeze_at(kind: int, number: int, now: datetime) -> datetime | None:
    """When the freeze of a kind happened, number 1 being the newest; None where the meter keeps none."""
    period, kept = _FREEZES.get(kind, (timedelta(), 0))
    if not 1 <= number <= kept:
        return None
    return _floor(now, period) - (number - 1) * period


def billing_at(number: int, now: datetime) -> datetime | None:
    """When the billing day of a number was closed: 1 is the newest, first of the month at midnight; None beyond 12."""
    if not 1 <= number <= BILLING_DAYS:
        return None
    months = now.year * 12 + now.month - 1 - (number - 1)
    return now.replace(year=months // 12, month=months % 12 + 1, day=1, hour=0, minute=0, second=0, microsecond=0)


def load_record_times(which: str, count: int, at: datetime | None, now: datetime) -> Iterator[datetime]:
    """The times of the load records that a reader asks for, oldest first: "earliest", "at" (and after), "newest"."""
    newest = _floor(now, LOAD_PERIOD)
    oldest = newest - LOAD_MEMORY
    if which == "newest":
        first = max(oldest, newest - (count - 1) * LOAD_PERIOD)
    elif which == "at" and at is not None:
        first = _floor(at, LOAD_PERIOD)
        first = max(oldest, first if first == at else first + LOAD_PERIOD)
    else:
        first = oldest
    for number in range(count):
        if first + number * LOAD_PERIOD <= newest:
            yield first + number * LOAD_PERIOD
