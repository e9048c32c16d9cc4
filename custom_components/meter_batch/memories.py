"""Whether the memory of a meter may still give what the ledger misses, by what its line has said of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from math import ceil

from .engine import PollReport
from .engine.model.interval import Hole

FRESH = timedelta(seconds=5)
"""So long after a line was told what is missing, what it said before counts no more."""
QUIET = timedelta(minutes=1)
"""A line that has had nothing to ask for so long will not come with more."""


class Memories:
    """What is known of the memories of all meters since the start."""

    def __init__(self) -> None:
        self.depths: dict[str, timedelta] = {}
        """How far back each can be asked; zero: it has none."""
        self._complete: set[str] = set()
        """Points of which nothing is missing."""
        self._exhausted: set[str] = set()
        """Points of which their memory does not have what is missing."""
        self._told: dict[str, datetime] = {}
        self._quiet: dict[str, datetime] = {}
        """Since when a line has nothing to ask."""

    def note(self, line: str, report: PollReport) -> None:
        """What a line says."""
        self.depths.update(report.depths)
        for point, holes in report.exhausted.items():
            (self._exhausted.add if holes else self._exhausted.discard)(point)
        if report.backfill.outstanding:
            self._quiet.pop(line, None)
        else:
            self._quiet.setdefault(line, report.at)

    def missing(self, holes: Mapping[str, Sequence[Hole]], interval: timedelta, now: datetime) -> None:
        """What is missing of points, as their line, which reads them once an interval, is told now."""
        length = interval.total_seconds()
        for point, all_ in holes.items():
            some = any(ceil(one.start.timestamp() / length) * length < one.end.timestamp() for one in all_)
            (self._complete.discard if some else self._complete.add)(point)
            self._told[point] = now

    def forget(self, point: str) -> None:
        """Another meter is there now."""
        self.depths.pop(point, None)
        self._exhausted.discard(point)

    def leave(self, line: str, points: Iterable[str]) -> None:
        """A line is read no longer."""
        self._quiet.pop(line, None)
        for point in points:
            self._exhausted.discard(point)

    def may_give(self, line: str, point: str, now: datetime) -> bool:
        """Whether there may be more to come for a point."""
        if self.depths.get(point) == timedelta() or point in self._complete:
            return False
        if (told := self._told.get(point)) is None or now - told < FRESH:
            return True
        quiet = self._quiet.get(line)
        return not (
            point in self._exhausted or (point in self.depths and quiet is not None and now - max(quiet, told) >= QUIET)
        )
