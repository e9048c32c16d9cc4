"""Energy of the hour, the day, the month and the billing period that run now: what the ledger has closed, and a little.

The ledger's final layer since the period began, plus what the register has counted since the last closed boundary: so
restarts, swaps, clock changes and late data need nothing of their own. A period begins when the ledger has closed the
boundary at its start; until then the one before stands still. Of virtual points only what is closed counts: their
parts are not read at one instant.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from enum import StrEnum
from functools import partial

from homeassistant.core import CALLBACK_TYPE, HassJob, HomeAssistant, callback
from homeassistant.helpers.event import async_call_later, async_track_time_interval
from homeassistant.util import dt as dt_util
from homeassistant.util.hass_dict import HassKey

from .const import DOMAIN
from .engine import LedgerError, Point, Reading
from .engine.ledger import Ledger, Sum, combine, period_of
from .engine.model.interval import GROSS, IMPORT, Interval
from .engine.model.obis import Obis
from .query import rows_of
from .registry import Change
from .site import Site

_LOGGER = logging.getLogger(__name__)

SECOND = timedelta(seconds=1)
BATCH = 50
"""So many points are asked for in one go."""
GRACE = timedelta(hours=1)
"""So long after its end what is known of a period is still shown, while the next one has not begun."""
PAUSE_S = 10.0
"""So long after it is told of changes it looks at them: late data come in many batches."""


class Period(StrEnum):
    """What runs now; the value is the key of its entity."""

    HOUR = "energy_this_hour"
    DAY = "energy_today"
    MONTH = "energy_this_month"
    BILLING = "energy_this_billing_period"


@dataclass(frozen=True, slots=True)
class Billing:
    """When a billing period begins: day of the month (1…28) and hour, at the time of the site."""

    day: int = 1
    hour: int = 0


def start_of(period: Period, at: datetime, zone: tzinfo, billing: Billing) -> datetime:
    """When the period that holds an instant began."""
    if period is Period.HOUR:
        return period_of(at, "hour", zone)[0]
    if period is Period.DAY:
        return period_of(at, "day", zone)[0]
    if period is Period.MONTH:
        return period_of(at, "month", zone)[0]
    local = at.astimezone(zone)
    start = datetime(local.year, local.month, billing.day, billing.hour, tzinfo=zone)
    if start.astimezone(UTC) > at:
        last = start - timedelta(days=billing.day)  # a day of the month before
        start = start.replace(year=last.year, month=last.month)
    return start.astimezone(UTC)


def end_of(period: Period, start: datetime, zone: tzinfo, billing: Billing) -> datetime:
    """When the period ends that began at `start`."""
    if period is Period.HOUR:
        return start + timedelta(hours=1)
    if period is Period.DAY:
        return period_of(start, "day", zone)[1]
    # more than any month, less than any two
    return start_of(period, start + timedelta(days=32), zone, billing)


@dataclass(frozen=True, slots=True)
class Closed:
    """What the ledger says of the periods that run at `until`, the end of the last closed interval."""

    until: datetime
    starts: Mapping[Period, datetime]
    sums: Mapping[Period, Decimal]
    known_s: Mapping[Period, int]
    registers: Mapping[Obis, Decimal]
    """At `until`, as the meter showed them; none of a virtual point."""
    last: Interval | None
    """Of a virtual point: the last closed interval."""

    def completeness(self, period: Period) -> float:
        """Share of the closed time of a period that is known."""
        seconds = (self.until - self.starts[period]) // SECOND
        return self.known_s[period] / seconds if seconds > 0 else 1.0

    def since(self, point: Point, reading: Reading) -> Decimal | None:
        """What was counted since, at the primary side; None where that cannot be said before the next boundary."""
        if reading.at <= self.until:
            return Decimal(0)
        register = self.registers.get(reading.obis)
        if register is None or point.meter.since > self.until:
            return None
        counted = Decimal(reading.value) / _factor(point, reading.at) - register
        return counted * _factor(point, self.until) if counted >= 0 else None


def _factor(point: Point, at: datetime) -> Decimal:
    multiplier = point.multiplier_at(at)
    return Decimal(1) if multiplier is None else multiplier.ct * multiplier.pt


def imported(energies: Mapping[Obis, Decimal]) -> Decimal | None:
    """The energy that counts: import, or where a meter does not tell it from export, both."""
    return energies.get(IMPORT, energies.get(GROSS))


type Key = tuple[str, Billing]


@dataclass(frozen=True, slots=True)
class _Sums:
    """Closed sums as of a revision of the ledger."""

    revision: int
    closed: Closed


class Energies:
    """Keeps what is closed of the points that somebody shows, and says when it changes."""

    def __init__(self, site: Site) -> None:
        self._site, self._hass = site, site.hass
        self._listeners: dict[Key, list[Callable[[], None]]] = {}
        self._sums: dict[Key, _Sums] = {}
        self._due: set[Key] = set()
        self._running = False
        self._timer: CALLBACK_TYPE | None = None
        site.ledger.async_listen(self._changed)
        site.registry.async_listen(self._registry_changed)
        async_track_time_interval(self._hass, self._look_for_old, GRACE / 4, cancel_on_shutdown=True)

    @property
    def zone(self) -> tzinfo:
        """The time of the site."""
        return self._site.time_zone or dt_util.get_default_time_zone()

    @callback
    def async_track(self, point: str, billing: Billing, listener: Callable[[], None]) -> CALLBACK_TYPE:
        """Calls the listener whenever what is closed of a point changes; returns what ends that."""
        key = (point, billing)
        listeners = self._listeners.setdefault(key, [])
        listeners.append(listener)
        if key not in self._sums:
            self._ask([key])

        def stop() -> None:
            listeners.remove(listener)
            if not listeners:
                self._listeners.pop(key, None)
                self._sums.pop(key, None)

        return stop

    def closed(self, point: str, billing: Billing) -> Closed | None:
        """What is closed of a point; None while that is not known."""
        sums = self._sums.get((point, billing))
        return None if sums is None else sums.closed

    @callback
    def _look_for_old(self, now: datetime) -> None:
        """Where nothing is closed any more, nobody else says that a period is over."""
        for key, sums in self._sums.items():
            if now - sums.closed.until >= GRACE:
                for listener in list(self._listeners.get(key, ())):
                    listener()

    @callback
    def _registry_changed(self, changes: list[Change]) -> None:
        """Where a formula is another, everything is added up anew."""
        known = self._site.registry.points
        other = {one.id for one in changes if one.before and one.after and one.before.formula != one.after.formula}
        keys = [key for key in self._listeners if key[0] in known and _parts(known, known[key[0]]) & other]
        for key in keys:
            self._sums.pop(key, None)
        self._ask(keys)

    @callback
    def _changed(self, points: set[str]) -> None:
        known = self._site.registry.points
        self._due.update(
            key for key in self._listeners if (point := known.get(key[0])) is not None and _parts(known, point) & points
        )
        if self._due and self._timer is None:
            self._timer = async_call_later(self._hass, PAUSE_S, HassJob(self._paused, cancel_on_shutdown=True))

    @callback
    def _paused(self, _now: datetime) -> None:
        self._timer = None
        self._ask(())

    @callback
    def _ask(self, keys: Iterable[Key]) -> None:
        self._due.update(keys)
        if self._due and not self._running:
            self._running = True
            self._hass.async_create_background_task(self._run(), f"{DOMAIN} energies")

    async def _run(self) -> None:
        try:
            while self._due:
                batch = list(self._due)[:BATCH]
                self._due.difference_update(batch)
                await self._add_up(batch)
        except LedgerError as error:
            # The ledger says itself what is wrong; there is nothing new to show until it writes again.
            _LOGGER.debug("Energies are added up later: %s", error.text)
        finally:
            self._running = False

    async def _add_up(self, batch: Iterable[Key]) -> None:
        points = self._site.registry.points
        known = {key: self._sums.get(key) for key in batch if key[0] in points}
        found = await self._site.ledger.async_call(partial(_added_up, points=points, zone=self.zone, known=known))
        for key, sums in found.items():
            if key in self._listeners:
                before = known[key]
                told = before is None or sums.closed != before.closed
                self._sums[key] = sums
                for listener in list(self._listeners[key]) if told else ():
                    listener()


def _added_up(
    ledger: Ledger, *, points: Mapping[str, Point], zone: tzinfo, known: Mapping[Key, _Sums | None]
) -> dict[Key, _Sums]:
    """What is closed now, by point and billing period; without those of which nothing is. In the ledger's thread."""
    found = {}
    there = [one for one in known.values() if one is not None]
    first = min((start for one in there for start in one.closed.starts.values()), default=None)
    touched = {one: ledger.touched(one, first) for one in {one.revision for one in there} if first is not None}
    for (id_, billing), before in known.items():
        if (until := _until(ledger, points, points[id_])) is None:
            continue
        closed = before.closed if before is not None else None
        if before is not None:
            since = touched[before.revision]
            changed = [since[one] for one in _parts(points, points[id_]) if one in since]
            if min(changed, default=until) < before.closed.until:
                closed = None  # something before its end is another now: all is added up anew
        closed = _closed(ledger, points, points[id_], billing, zone, closed, until)
        found[id_, billing] = _Sums(ledger.revision, closed)
    return found


def _parts(points: Mapping[str, Point], point: Point) -> set[str]:
    """A point with all that it is worked out from."""
    return {point.id}.union(*(_parts(points, points[term.point]) for term in point.formula if term.point in points))


def _until(ledger: Ledger, points: Mapping[str, Point], point: Point) -> datetime | None:
    """Until when a point is closed; a virtual one as far as all its parts are, but for those that never were."""
    if point.virtual:
        ends = [_until(ledger, points, points[term.point]) for term in point.formula if term.point in points]
        return min((end for end in ends if end is not None), default=None)
    latest = ledger.latest(point.id) if point.id in ledger.points else None
    return latest.end if latest else None


def _closed(
    ledger: Ledger,
    points: Mapping[str, Point],
    point: Point,
    billing: Billing,
    zone: tzinfo,
    before: Closed | None,
    until: datetime,
) -> Closed:
    """What is closed at `until`: what was closed `before`, if that is still true, and what came since."""
    # Of a measured point the reading that closes a period belongs to the next one already; of a virtual one nothing
    # does, so the whole of a period is shown until something of the next is closed.
    starts = {period: start_of(period, until - SECOND if point.virtual else until, zone, billing) for period in Period}
    goes_on = {period for period, start in starts.items() if before is not None and before.starts[period] == start}
    since = {period: before.until if before and period in goes_on else start for period, start in starts.items()}
    rows: Sequence[Interval | Sum] = ()
    last = before.last if before is not None else None
    if (first := min(since.values())) < until:
        if point.virtual:
            rows = made = _worked_out(ledger, points, point, first, until, zone)
            last = made[-1] if made else last
        else:
            # Another meter may count import where the one before counted both directions together.
            edges = {*since.values(), *(one.since for one in point.meters), until}
            rows = ledger.sums(point.id, sorted(edge for edge in edges if first <= edge <= until))
    sums, known_s = {}, {}
    for period, start in since.items():
        sums[period], known_s[period] = _sum(rows, start)
        if before is not None and period in goes_on:
            sums[period] += before.sums[period]
            known_s[period] += before.known_s[period]
    registers = {} if point.virtual else ledger.register_at(point.id, until) or {}
    return Closed(until, starts, sums, known_s, registers, last)


def _worked_out(
    ledger: Ledger, points: Mapping[str, Point], point: Point, since: datetime, until: datetime, zone: tzinfo
) -> list[Interval]:
    """A virtual point in whole hours, as far as there are; what is before them and the last hour in intervals."""
    edges = [period_of(since - SECOND, "hour", zone)[1]]
    end = period_of(until - SECOND, "hour", zone)[0]
    while edges[-1] < end:
        edges.append(period_of(edges[-1], "hour", zone)[1])
    rows = []
    for start, stop in ((since, min(edges[0], until)), (edges[-1], until)):
        if start < stop:
            rows += rows_of(
                ledger, points=points, point=point, since=start, until=stop, resolution="interval", zone="UTC"
            )
    return sorted([*rows, *_hours(ledger, points, point, edges)], key=lambda one: one.start)


def _hours(ledger: Ledger, points: Mapping[str, Point], point: Point, edges: Sequence[datetime]) -> list[Interval]:
    if point.virtual:
        terms = [points[term.point] for term in point.formula if term.point in points]
        parts = [one for term in terms for one in _hours(ledger, points, term, edges)]
        return combine(point.id, point.formula, parts)
    if point.id not in ledger.points:
        return []
    return [
        Interval(point.id, one.start, (one.end - one.start) // SECOND, one.energies, one.flags, known_s=one.known_s)
        for one in ledger.sums(point.id, edges)
        if one.covered_s
    ]


def _sum(rows: Iterable[Interval | Sum], since: datetime) -> tuple[Decimal, int]:
    energy, known_s = Decimal(0), 0
    for one in rows:
        if one.start >= since:
            energy += imported(one.energies) or 0
            known_s += one.known_s
    return energy, known_s


ENERGIES: HassKey[Energies] = HassKey(f"{DOMAIN}_energies")


@callback
def energies_of(hass: HomeAssistant, site: Site) -> Energies:
    """The one of this Home Assistant."""
    if ENERGIES not in hass.data:
        hass.data[ENERGIES] = Energies(site)
    return hass.data[ENERGIES]
