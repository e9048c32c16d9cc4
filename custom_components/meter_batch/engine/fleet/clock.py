"""The clocks of meters: what their labels mean, how they drift, and when one may be put right.

Pure. `offset` is always the meter's clock less the true time: positive where the meter is ahead.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from statistics import median
from zoneinfo import ZoneInfo

SET_FROM_S = 5.0
"""A clock that is less off than this is left alone."""
SET_WITHIN_S = 300.0
"""Broadcast time is for small corrections: five minutes (DL/T 645-2007, 7.10)."""
NOT_OURS_S = 60.0
"""Where most meters of a line agree that we are so far off, it is our clock that is wrong."""
TRUSTED_S = 86_400.0
"""Labels of a clock that is further off than this say nothing: nobody knows since when it is."""
EXACT_S = 1.5
"""Meters show whole seconds and replies take time, so this much is no error of the clock."""
LONG_ENOUGH_S = 6 * 3600
"""Readings that are nearer than this to each other tell no drift: each is known to about a second."""
MOST_READINGS = 400
"""A year of daily readings."""
PAST_MIDNIGHT = timedelta(minutes=10)
QUARTER_S = 900
QUARTER_MARGIN_S = 30


@dataclass(frozen=True, slots=True)
class ClockReading:
    """A meter's clock, read at `at`; `offset_s` is how far it is ahead of the true time. `set`: we put it right."""

    at: datetime
    offset_s: float
    set: bool = False
    drift_s_per_day: float | None = None
    """How fast it runs ahead, by this reading and the one before; None where that is not known."""


@lru_cache(maxsize=256)
def _standard_offset(zone: ZoneInfo, year: int) -> timedelta:
    """The zone's offset without daylight saving: the smaller one of winter and summer."""
    offsets = [datetime(year, month, 15, tzinfo=zone).utcoffset() for month in (1, 7)]
    return min(one for one in offsets if one is not None)


@dataclass(frozen=True, slots=True)
class WallClock:
    """How the clock of a model shows time: local or UTC, with or without daylight saving."""

    zone: ZoneInfo | None = None
    """None for UTC."""
    dst: bool = False

    def shows(self, at: datetime) -> datetime:
        """What a clock that is right shows at an instant (naive)."""
        if self.zone is None:
            return at.astimezone(UTC).replace(tzinfo=None)
        if self.dst:
            return at.astimezone(self.zone).replace(tzinfo=None)
        plain = at.astimezone(UTC).replace(tzinfo=None)
        return plain + _standard_offset(self.zone, plain.year)

    def means(self, shown: datetime) -> tuple[datetime, ...]:
        """The instants at which a clock that is right shows this: two in the hour that comes twice, none in the one
        that is left out.
        """
        if self.zone is None:
            return (shown.replace(tzinfo=UTC),)
        if not self.dst:
            return ((shown - _standard_offset(self.zone, shown.year)).replace(tzinfo=UTC),)
        folds = (shown.replace(tzinfo=self.zone, fold=fold).astimezone(UTC) for fold in (0, 1))
        return tuple(sorted({one for one in folds if self.shows(one) == shown}))

    def sequence(self, labels: Iterable[datetime]) -> list[datetime | None]:
        """The instants of labels that were written one after the other; None where it cannot be told.

        In the hour that comes twice the order tells which time it was, if a label before it does.
        """
        if self.zone is None or not self.dst:
            return [self.means(label)[0] for label in labels]
        found: list[datetime | None] = []
        before: datetime | None = None
        for label in labels:
            instants = self.means(label)
            if len(instants) == 2:
                # Only what follows an instant that is sure can be told apart.
                after = [one for one in instants if before is not None and one > before]
                instants = tuple(after[:1])
            found.append(instants[0] if instants else None)
            before = instants[0] if instants else before
        return found


class MeterClock:
    """What is known of one meter's clock: how it shows time, and how far off it was when."""

    def __init__(self, wall: WallClock) -> None:
        self.wall = wall
        self._history: list[tuple[float, float]] = []
        """True instant and offset from then on; within a stretch between two readings the change is even."""
        self._sets: list[float] = []
        self.newest: ClockReading | None = None

    def read(self, at: datetime, shown: datetime) -> ClockReading | None:
        """Takes a reading: `shown` is what it showed (naive, whole seconds) at `at`. None where that is no time."""
        instants = self.wall.means(shown)
        if not instants:
            return None
        # The seconds that it shows are cut off.
        offset = min(((one - at).total_seconds() + 0.5 for one in instants), key=abs)
        return self.note(at, offset)

    def note(self, at: datetime, offset_s: float) -> ClockReading:
        """Takes an offset as it was read."""
        stamp, drift = at.timestamp(), None
        if self._history:
            old, was = self._history[-1]
            if stamp - old >= LONG_ENOUGH_S and not any(old < one for one in self._sets):
                drift = (offset_s - was) / (stamp - old) * 86_400
        self._history = [*self._history[-MOST_READINGS:], (stamp, offset_s)]
        self.newest = ClockReading(at, offset_s, drift_s_per_day=drift)
        return self.newest

    def was_set(self) -> None:
        """It was put right between the last two readings."""
        assert self.newest is not None
        self._sets.append(self.newest.at.timestamp())
        self.newest = replace(self.newest, set=True)

    @property
    def offset_s(self) -> float:
        """How far it is off now; 0 where that is not known or less than can be told."""
        offset = 0.0 if self.newest is None else self.newest.offset_s
        return offset if abs(offset) > EXACT_S else 0.0

    @property
    def trusted(self) -> bool:
        """False where its labels say nothing."""
        return self.newest is None or abs(self.newest.offset_s) <= TRUSTED_S

    def offset_at(self, at: float) -> float:
        """How far it was off at a true instant, as well as is known: what was read around it, or nearest to it."""
        history = self._history
        if not history:
            return 0.0
        place = bisect_right(history, (at, float("inf")))
        if place == 0:
            offset = history[0][1]
        elif place == len(history):
            offset = history[-1][1]
        else:
            (old, was), (new, is_) = history[place - 1], history[place]
            change = next((one for one in self._sets if old < one <= new), None)
            if change is not None:
                offset = was if at < change else is_
            else:
                offset = was + (is_ - was) * (at - old) / (new - old)
        return offset if abs(offset) > EXACT_S else 0.0

    def steady(self, start: float, end: float) -> bool:
        """True where one offset serves for the whole stretch."""
        return abs(self.offset_at(start) - self.offset_at(end)) < 0.5


def may_set(clock: MeterClock, now: datetime, offsets: Iterable[float]) -> bool:
    """Whether broadcast time may put this clock right at this moment; `offsets` are those of all clocks of the line.

    Only small corrections, not over midnight of the meter's clock, and not over a quarter of an hour, at which meters
    write load records: none would be written twice or left out.
    """
    if clock.newest is None or not SET_FROM_S < abs(clock.newest.offset_s) <= SET_WITHIN_S:
        return False
    known = list(offsets)
    if len(known) >= 3 and abs(median(known)) > NOT_OURS_S:
        return False
    right = clock.wall.shows(now)
    shown = right + timedelta(seconds=clock.newest.offset_s)
    first, last = sorted((right, shown))
    midnight = last.replace(hour=0, minute=0, second=0, microsecond=0)
    if first - midnight < PAST_MIDNIGHT or midnight + timedelta(days=1) - last < PAST_MIDNIGHT:
        return False
    passed = (first - midnight).total_seconds() % QUARTER_S
    return passed >= QUARTER_MARGIN_S and passed + (last - first).total_seconds() <= QUARTER_S - QUARTER_MARGIN_S
