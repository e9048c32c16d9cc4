"""What alarms need of the ledger: the hour that just closed, what is usual, the energy of the day, what is missing.

Only what is of now reaches the rules: what comes late, out of memories or by correction, never makes an alarm.
"""

from __future__ import annotations

import logging
from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import partial
from typing import Final

from homeassistant.core import CALLBACK_TYPE, HassJob, HomeAssistant, callback
from homeassistant.helpers.event import async_call_later
from homeassistant.util import dt as dt_util

from .alarms import SiteAlarms
from .const import DOMAIN
from .engine import DayCalendar, LedgerError, Point, expected_day
from .engine.ledger import Ledger, combine, period_of
from .engine.model.day import country_of
from .engine.model.interval import GROSS, IMPORT, Interval
from .gaps import Gaps
from .ledger import SiteLedger
from .registry import Registry

_LOGGER = logging.getLogger(__name__)

BATCH: Final = 20
"""So many points are looked at in one go: registers that are to be written wait no longer."""
PAUSE_S: Final = 2.0
"""So long after it is told of intervals it looks at them: those of all points close together."""
FRESH: Final = timedelta(minutes=90)
"""What ended longer ago is late. The longest interval is an hour."""
LOOK_S: Final = 60.0
"""So long after the start, and again, it looks whose usual hours are not those of today."""
HOURS_TAUGHT: Final = 7 * 24
REACH: Final = timedelta(days=35)
"""So far back usual days are looked for; it holds five of each class, but for holidays."""
SPREAD_S: Final = 1.0
"""So long the ledger's thread is left to others after the usual hours of one point were added up."""
WHOLE: Final = 0.95
"""So much of the day of a virtual point must be known of all its parts, so that its budget is looked at."""
SECOND: Final = timedelta(seconds=1)
HOUR: Final = timedelta(hours=1)


class AlarmEnergy:
    """Follows the ledger for the rules."""

    def __init__(
        self, hass: HomeAssistant, registry: Registry, ledger: SiteLedger, gaps: Gaps, alarms: SiteAlarms, zone: tzinfo
    ) -> None:
        self._hass, self._registry, self._ledger, self._gaps, self._alarms = hass, registry, ledger, gaps, alarms
        self._zone = zone
        self._calendar = DayCalendar(country_of(registry.time_zone or hass.config.time_zone, hass.config.country))
        self._ends: dict[str, datetime] = {}
        """Until when hours of a point were told."""
        self._taught: set[str] = set()
        self._expected: dict[str, tuple[date, list[float | None]]] = {}
        self._due: set[str] = set()
        self._timer: CALLBACK_TYPE | None = None
        self._running = False

    @callback
    def async_start(self) -> None:
        """Begins to follow."""
        self._ledger.async_listen(self._changed)
        self._gaps.async_listen(self._missing)
        self._look_for_usual(LOOK_S)

    # --- intervals

    @callback
    def _changed(self, points: set[str]) -> None:
        known = self._registry.points
        self._due |= points
        self._due |= {one.id for one in known.values() if one.virtual and not points.isdisjoint(_leaves(known, one))}
        if self._timer is None and not self._running:
            job = HassJob(self._look_soon, cancel_on_shutdown=True)
            self._timer = async_call_later(self._hass, PAUSE_S, job)

    @callback
    def _look_soon(self, _now: datetime) -> None:
        self._timer = None
        self._running = True
        self._hass.async_create_background_task(self._look(), f"{DOMAIN} intervals for alarms")

    async def _look(self) -> None:
        try:
            while self._due:
                batch = {self._due.pop() for _ in range(min(BATCH, len(self._due)))}
                await self._tell(batch)
        except LedgerError as error:
            # The ledger says itself what is wrong; what closes meanwhile is late when it writes again.
            _LOGGER.debug("Intervals are looked at later: %s", error.text)
        finally:
            self._running = False

    async def _tell(self, ids: Iterable[str]) -> None:
        now, points = dt_util.utcnow(), self._registry.points
        day = period_of(now, "day", self._zone)[0]
        since = {id_: max(self._ends.get(id_, now - FRESH), now - FRESH) for id_ in ids if id_ in points}
        budgeted = self._alarms.budgeted(since)
        work = partial(_closed, points=points, since=since, budgeted=budgeted, day=day, now=now, zone=self._zone)
        hours, today = await self._ledger.async_call(work)
        self._ends.update((one.point, one.end) for one in hours)
        for hour in sorted({one.start for one in hours}):
            these = [one for one in hours if one.start == hour]
            self._alarms.async_hours(these, {one.point: self._usual(one) for one in these})
        self._alarms.async_day(today)

    def _usual(self, hour: Interval) -> float | None:
        """What is usual in an hour, kWh; None where nothing is known."""
        local = hour.start.astimezone(self._zone)
        day, hours = self._expected.get(hour.point, (None, []))
        return hours[local.hour] if day == local.date() else None

    # --- what is missing

    @callback
    def _missing(self) -> None:
        self._alarms.async_gaps(self._gaps.shares(self._registry.points, timedelta(days=1)))

    # --- what is usual

    async def _next_usual(self, _now: datetime) -> None:
        """Once a day and point, one point after the other, so that nothing else waits for it."""
        day = dt_util.utcnow().astimezone(self._zone).date()
        point = next((one for one in self._registry.points.values() if self._is_due(one, day)), None)
        if point is not None:
            try:
                hours = await self._expect(point, day)
            except LedgerError:
                point = None  # it says so itself
            else:
                self._teach(point.id, hours)
        self._look_for_usual(LOOK_S if point is None else SPREAD_S)

    @callback
    def _look_for_usual(self, after_s: float) -> None:
        async_call_later(self._hass, after_s, HassJob(self._next_usual, cancel_on_shutdown=True))

    def _is_due(self, point: Point, day: date) -> bool:
        return self._expected.get(point.id, (None,))[0] != day

    @callback
    def _teach(self, id_: str, hours: list[Interval]) -> None:
        """Once after the start, so that rules know what load a point has."""
        if id_ not in self._taught:
            self._taught.add(id_)
            self._alarms.async_hours(hours[-HOURS_TAUGHT:], {})

    async def _expect(self, point: Point, day: date) -> list[Interval]:
        until = datetime.combine(day, datetime.min.time(), self._zone).astimezone(UTC)
        at, hours = until - REACH, list[Interval]()
        # A virtual point may have all the others as its parts: a day at a time.
        step = timedelta(days=1) if point.virtual else REACH
        while at < until:
            edges = [at + hour * HOUR for hour in range(step // HOUR + 1)]
            hours += await self._ledger.async_call(
                partial(sums_of, points=self._registry.points, point=point, edges=edges)
            )
            at += step
        expected = await self._hass.async_add_executor_job(expected_day, hours, day, self._calendar, self._zone)
        self._expected[point.id] = (day, expected)
        return hours


def _closed(
    ledger: Ledger,
    *,
    points: Mapping[str, Point],
    since: Mapping[str, datetime],
    budgeted: Container[str],
    day: datetime,
    now: datetime,
    zone: tzinfo,
) -> tuple[list[Interval], dict[str, float]]:
    """The hours of points that closed since they were told last; energies of the day of those with a budget."""
    known = set(ledger.points)
    hours: list[Interval] = []
    today: dict[str, float] = {}
    for id_, told in since.items():
        point = points[id_]
        ends = [one.end for leaf in _leaves(points, point) if leaf in known and (one := ledger.latest(leaf))]
        if not ends or (until := min(ends)) <= now - FRESH:
            continue
        begin, end = (period_of(one, "hour", zone)[0] for one in (told, until))
        if begin < end:
            edges = [begin + step * HOUR for step in range((end - begin) // HOUR + 1)]
            hours += sums_of(ledger, points=points, point=point, edges=edges)
        if point.virtual:
            until = end  # its parts may be read at different intervals
        if id_ in budgeted and until > day:
            for whole in sums_of(ledger, points=points, point=point, edges=[day, until]):
                # What is missing of a part that is taken away would count as used.
                if not point.virtual or whole.completeness >= WHOLE:
                    energy = whole.energies.get(IMPORT, whole.energies.get(GROSS))
                    today[id_] = float(energy or 0)
    return hours, today


def sums_of(ledger: Ledger, *, points: Mapping[str, Point], point: Point, edges: Sequence[datetime]) -> list[Interval]:
    """A point between each two edges, as far as anything is known; a virtual one worked out from its parts."""
    if point.virtual:
        terms = [points[term.point] for term in point.formula if term.point in points]
        parts = [one for term in terms for one in sums_of(ledger, points=points, point=term, edges=edges)]
        return combine(point.id, point.formula, parts)
    if point.id not in ledger.points:
        return []
    return [
        Interval(point.id, one.start, (one.end - one.start) // SECOND, one.energies, one.flags, known_s=one.known_s)
        for one in ledger.sums(point.id, edges)
        if one.covered_s
    ]


def _leaves(points: Mapping[str, Point], point: Point) -> frozenset[str]:
    """The measured points that one is worked out from; itself, if it is measured."""
    if not point.virtual:
        return frozenset({point.id})
    return frozenset().union(*(_leaves(points, points[term.point]) for term in point.formula if term.point in points))
