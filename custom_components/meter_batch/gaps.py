"""What is missing in the ledger now: looked up when the ledger changed, for entities, the action and the screens."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.helpers.event import async_track_time_interval
from homeassistant.util import dt as dt_util

from .engine import LedgerError, Point
from .engine.model.interval import Gap, GapReason
from .intake import Intake
from .ledger import SiteLedger

EVERY = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Missing:
    """What is missing of some points."""

    points: tuple[str, ...] = ()
    intervals: int = 0
    since: datetime | None = None


class Gaps:
    """Knows the gaps of the site, at most half a minute old."""

    def __init__(self, hass: HomeAssistant, ledger: SiteLedger, intake: Intake) -> None:
        self._hass, self._ledger, self._intake = hass, ledger, intake
        self._gaps: list[Gap] = []
        self._listeners: list[Callable[[], None]] = []
        self._revision = -1

    @callback
    def async_start(self) -> None:
        """Begins to look."""
        async_track_time_interval(self._hass, self._look, EVERY, cancel_on_shutdown=True)

    async def _look(self, _now: datetime) -> None:
        # While something is missing it grows, although nothing is written.
        if self._revision != self._ledger.health.revision or any(gap.end is None for gap in self._gaps):
            await self.async_refresh()
        else:
            self._tell()

    async def async_refresh(self) -> None:
        """Looks now."""
        memory = self._memory
        try:
            gaps = await self._ledger.async_call(lambda ledger: ledger.gaps(memory=memory))
            self._gaps = [self._counted(gap) for gap in gaps]
            self._revision = self._ledger.health.revision
        except LedgerError:
            pass  # it says so itself
        self._tell()

    def _tell(self) -> None:
        for listener in list(self._listeners):
            listener()

    @callback
    def async_listen(self, listener: Callable[[], None]) -> CALLBACK_TYPE:
        """Calls the listener every half minute, whether something changed or not; returns what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    @property
    def _memory(self) -> dict[str, timedelta]:
        """How far back meters remember, of those that do."""
        return {point: depth for point, depth in self._intake.memories.depths.items() if depth}

    def _counted(self, gap: Gap) -> Gap:
        """What is missing, counted in the intervals in which the point is read."""
        if (length := self._intake.interval(gap.point)) is None:
            return gap
        if gap.end is None:
            return replace(gap, missing=max(0, (dt_util.utcnow() - gap.start) // length))
        return replace(gap, missing=-((gap.start - gap.end) // length))

    def missing(self, points: Collection[str]) -> Missing:
        """What is missing of points. What was before they were read first is no alarm and not counted."""
        found = [gap for gap in self._gaps if gap.reason is not GapReason.BEFORE and gap.point in points]
        return Missing(
            tuple(sorted({gap.point for gap in found})),
            sum(gap.missing for gap in found),
            min((gap.start for gap in found), default=None),
        )

    def shares(self, points: Iterable[str], window: timedelta) -> dict[str, float]:
        """The share of the last stretch of time that is missing, by point; without what was before they were read."""
        now = dt_util.utcnow()
        found = dict.fromkeys(points, 0.0)
        for gap in self._gaps:
            missing = min(gap.end or now, now) - max(gap.start, now - window)
            if gap.reason is not GapReason.BEFORE and gap.point in found and missing > timedelta():
                found[gap.point] += missing / window
        return found

    async def async_list(self, points: Iterable[Point]) -> list[dict[str, Any]]:
        """All gaps of points as an answer shows them, oldest first; LedgerError where the ledger is not there."""
        names, memory = {point.id: point.name for point in points}, self._memory

        def look(ledger: Any) -> list[Gap]:
            there = set(ledger.points)
            return list(ledger.gaps([id_ for id_ in names if id_ in there], memory=memory))

        return [gap_as_dict(self._counted(gap), names) for gap in await self._ledger.async_call(look)]


def gap_as_dict(gap: Gap, names: Mapping[str, str]) -> dict[str, Any]:
    """A gap as JSON values."""
    return {
        "point": gap.point,
        "name": names[gap.point],
        "since": gap.start.isoformat(),
        "until": None if gap.end is None else gap.end.isoformat(),
        "reason": gap.reason.value,
        "missing": gap.missing,
        "recoverable_until": None if gap.recoverable_until is None else gap.recoverable_until.isoformat(),
    }
