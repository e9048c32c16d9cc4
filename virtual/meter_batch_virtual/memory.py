"""What a meter with memory kept, and when: freezes, billing days, load records. Values are recomputed from the past.

Labels are what the meter's own clock showed: its wall clock, naive, as they stand in its memory. A label comes with the
true instant at which the clock showed it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice

from meter_batch_engine.protocol.dlt645.load_record import LoadRequest

from .clock import MeterClock

LOAD_RECORDS = 366 * 96
"""Clause 4.1.2: a meter keeps its energy data for a year, at 15 min. A shorter period fills the same memory sooner."""
LOAD_MEMORY = timedelta(days=366)
BILLING_DAYS = 12

_FREEZES: dict[int, tuple[timedelta, int]] = {
    0: (timedelta(days=1), 60),  # timed: set to midnight
    4: (timedelta(hours=1), 254),
    6: (timedelta(days=1), 62),
}
"""Kind of freeze (second byte of 05 kk cc nn) → its period and how many are kept."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One entry of a memory: its label by the meter's wall clock, and when that was."""

    label: datetime
    at: datetime


@dataclass(frozen=True, slots=True)
class Memory:
    """Which instants a meter kept. `since` is when the meter that hangs here came, without a memory; None = long ago.

    `load_period` is that of its load records. With `present` false it keeps nothing, as meters without memory do.
    """

    clock: MeterClock
    utc_offset: timedelta
    load_period: timedelta = timedelta(minutes=15)
    since: datetime | None = None
    present: bool = True

    def wall(self, at: datetime) -> datetime:
        """What the meter's clock shows at an instant, naive."""
        return (self.clock.shown(at) + self.utc_offset).replace(tzinfo=None)

    def freeze(self, kind: int, number: int, wall: datetime) -> Kept | None:
        """The freeze of a kind, number 1 being the newest; None where the meter keeps none."""
        period, kept = _FREEZES.get(kind, (timedelta(), 0))
        if not 1 <= number <= kept:
            return None
        newest = _floor(wall, period)
        return self._numbered(number, (newest - back * period for back in range(kept + 1)))

    def billing(self, number: int, wall: datetime) -> Kept | None:
        """The billing day of a number: 1 is the newest, first of the month at midnight; None beyond 12."""
        if not 1 <= number <= BILLING_DAYS:
            return None
        first = _floor(wall, timedelta(days=1)).replace(day=1)
        months = first.year * 12 + first.month - 1
        return self._numbered(
            number,
            (
                first.replace(year=(months - back) // 12, month=(months - back) % 12 + 1)
                for back in range(BILLING_DAYS + 1)
            ),
        )

    def load_records(self, request: LoadRequest, wall: datetime) -> list[Kept]:
        """The load records that a reader asks for, oldest first: "earliest", "at" (and after), "newest"."""
        period = self.load_period
        newest = _floor(wall, period)
        oldest = newest - min(LOAD_RECORDS * period, LOAD_MEMORY)
        if self.since is not None:
            oldest = max(oldest, _floor(self.wall(self.since), period))
        if request.which == "newest":
            backwards = (newest - back * period for back in range((newest - oldest) // period + 1))
            return list(islice(self._those(backwards), request.count))[::-1]
        first = oldest
        if request.which == "at" and request.at is not None:
            first = _floor(request.at, period)
            first = max(oldest, first if first == request.at else first + period)
        forwards = (first + on * period for on in range((newest - first) // period + 1))
        return list(islice(self._those(forwards), request.count))

    def _numbered(self, number: int, labels: Iterable[datetime]) -> Kept | None:
        return next(islice(self._those(labels), number - 1, None), None)

    def _those(self, labels: Iterable[datetime]) -> Iterator[Kept]:
        """The labels that the clock really showed while this meter hung here."""
        if not self.present:
            return
        for label in labels:
            at = self.clock.instant(label.replace(tzinfo=UTC) - self.utc_offset)
            if at is not None and (self.since is None or at >= self.since):
                yield Kept(label, at)


def _floor(at: datetime, period: timedelta) -> datetime:
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight + (at - midnight) // period * period
