"""What alarms need of the ledger: the hour that just closed, what is usual, the energy of the day, what is missing.

Only what is of now reaches the rules: what comes late, out of memories or by correction, never makes an alarm.
"""

from __future__ import annotations

import logging
from collections.abc import Container, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import partial
from typing import Final

from homeassistant.core import CALLBACK_TYPE, HassJob, HomeAssistant, callback
from homeassistant.helpers.event import async_call_later
from homeassistant.util import dt as dt_util

from .alarms import SiteAlarms
from .const import DOMAIN
from .engine import DayCalendar, LedgerError, Point, expected_day
from .engine.ledger import Ledger, period_of
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
SECOND: Final = timedelta(seconds=1)
HOUR: Final = timedelta(hours=1)


class AlarmEnergy:
    """Follows the ledger for the rules."""

    def __init__(
        self, hass: HomeAssistant, registry: Registry, ledger: SiteLedger, gaps: Gaps, alarms: SiteAlarms, zone: tzinfo
    ) -> None:
        self._hass, self._registry, self._ledger, self._gaps, self._alarms = hass, registry, ledger, gaps, alarms
        self._zone = zone
        self._calendar = DayCalendar(hass.config.country)
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
        self._due |= points
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
                await self._tell(batch & self._registry.points.keys())
        except LedgerError as error:
            # The ledger says itself what is wrong; what closes meanwhile is late when it writes again.
            _LOGGER.debug("Intervals are looked at later: %s", error.text)
        finally:
            self._running = False

    async def _tell(self, points: Iterable[str]) -> None:
        now = dt_util.utcnow()
        day = period_of(now, "day", self._zone)[0]
        since = {id_: max(self._ends.get(id_, now - FRESH), now - FRESH) for id_ in points}
        budgeted = self._alarms.budgeted(since)
        work = partial(_closed, since=since, budgeted=budgeted, day=day, now=now, zone=self._zone)
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
        id_ = next((id_ for id_, point in self._registry.points.items() if self._is_due(point, day)), None)
        if id_ is not None:
            try:
                hours = await self._ledger.async_call(partial(self._expect, id_=id_, day=day))
            except LedgerError:
                id_ = None  # it says so itself
            else:
                self._teach(id_, hours)
        self._look_for_usual(LOOK_S if id_ is None else SPREAD_S)

    @callback
    def _look_for_usual(self, after_s: float) -> None:
        async_call_later(self._hass, after_s, HassJob(self._next_usual, cancel_on_shutdown=True))

    def _is_due(self, point: Point, day: date) -> bool:
        return not point.virtual and self._expected.get(point.id, (None,))[0] != day

    @callback
    def _teach(self, id_: str, hours: list[Interval]) -> None:
        """Once after the start, so that rules know what load a point has."""
        if id_ not in self._taught:
            self._taught.add(id_)
            self._alarms.async_hours(hours[-HOURS_TAUGHT:], {})

    def _expect(self, ledger: Ledger, id_: str, day: date) -> list[Interval]:
        midnight = datetime.combine(day, datetime.min.time(), self._zone).astimezone(UTC)
        hours = hours_of(ledger, id_, midnight - REACH, midnight)
        self._expected[id_] = (day, expected_day(hours, day, self._calendar, self._zone))
        return hours


def _closed(
    ledger: Ledger,
    *,
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
        if id_ not in known or (latest := ledger.latest(id_)) is None or latest.end <= now - FRESH:
            continue
        begin, end = (period_of(one, "hour", zone)[0] for one in (told, latest.end))
        if begin < end:
            hours += hours_of(ledger, id_, begin, end)
        if id_ in budgeted and latest.end > day:
            (whole,) = ledger.sums(id_, [day, latest.end])
            energy = whole.energies.get(IMPORT, whole.energies.get(GROSS))
            today[id_] = float(energy or 0)
    return hours, today


def hours_of(ledger: Ledger, id_: str, since: datetime, until: datetime) -> list[Interval]:
    """The hours of a point in a period of whole hours, as far as anything is known of them."""
    if id_ not in ledger.points:
        return []
    edges = [since + step * HOUR for step in range((until - since) // HOUR + 1)]
    return [
        Interval(id_, one.start, (one.end - one.start) // SECOND, one.energies, one.flags, known_s=one.known_s)
        for one in ledger.sums(id_, edges)
        if one.covered_s
    ]
