"""Energies as long-term statistics, hour by hour out of the ledger: one external statistic a register of a point.

A subscriber of the ledger. What it writes follows from the ledger and from what the recorder has stored, so it may be
stopped anywhere and done twice: each run compares and writes only what differs. Late data go to the hours they belong
to, and all sums after them are moved by one statement.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial

from homeassistant.components.recorder.models import StatisticData, StatisticMeanType, StatisticMetaData
from homeassistant.components.recorder.statistics import async_add_external_statistics
from homeassistant.core import CALLBACK_TYPE, HassJob, HomeAssistant, callback
from homeassistant.helpers import translation
from homeassistant.helpers.event import async_call_later
from homeassistant.helpers.recorder import get_instance
from homeassistant.util import dt as dt_util

from . import recorded
from .const import DOMAIN, STATISTICS
from .engine import LedgerError, Point
from .engine.ledger import Ledger, Sum
from .engine.model.interval import Changes, Interval, Quality
from .engine.model.obis import Obis
from .engine.model.quantity import Quantity
from .engine.model.reading import Reading
from .hourly import (
    HOUR_S,
    Job,
    Plan,
    batches_of,
    energy_of,
    hour_of,
    instant,
    jobs_of,
    kept,
    parts_of,
    plan,
    statistic_id,
)
from .intake import Intake, factor
from .ledger import SiteLedger
from .registry import Registry
from .takeover import async_take_over
from .turns import Turns
from .waiting import Waiting

_LOGGER = logging.getLogger(__name__)

CHANGES = 8_000
"""About so many intervals are taken from the ledger at a time."""
MOST_BACKLOG = 500
"""While so much waits for the recorder, it is left alone."""
TRIES = 5
PAUSE_S = 1.0
RETRY = timedelta(minutes=1)
NEVER = datetime.min.replace(tzinfo=UTC)
LOOK = timedelta(seconds=10)
"""How often it is looked whether what waits is to be written."""
LATER = frozenset({Quality.METER_MEMORY, Quality.ESTIMATED})
"""What may become better, or more, while the memory of a meter is read."""


class History:
    """Writes the statistics of all points, in one task."""

    def __init__(self, hass: HomeAssistant, registry: Registry, ledger: SiteLedger, intake: Intake) -> None:
        self._hass, self._registry, self._ledger, self._intake = hass, registry, ledger, intake
        self._has: tuple[int, str | None] | None = None
        """Up to where the ledger was told that the statistics have it."""
        self._waiting = Waiting(hass)
        self._held: dict[str, set[int]] = {}
        """By point, the hours that are left out of what is written now."""
        self._look: CALLBACK_TYPE | None = None
        self._ready = self._running = self._more = False
        self._told: set[str] = set()
        self._begin: dict[str, tuple[Point, Quantity, Reading]] = {}
        self._behind = False

    @property
    def enabled(self) -> bool:
        """False where Home Assistant runs without a recorder."""
        return "recorder" in self._hass.config.components

    @property
    def waits(self) -> bool:
        """True while hours wait for what meters remember."""
        return bool(self._waiting.points)

    @property
    def behind(self) -> bool:
        """True while there is more to write than the last few intervals."""
        return self._behind

    @callback
    def async_start(self) -> None:
        """Begins to follow the ledger; without a recorder nobody is subscribed."""
        self._ledger.async_listen(self._changed)
        self._wake()

    @callback
    def _changed(self, points: set[str]) -> None:
        self._told |= points
        self._wake()

    @callback
    def async_begin(self, point: Point, readings: Iterable[Reading]) -> None:
        """Begins the statistics of a point that has none with its first registers, so that they can be chosen."""
        good = {one.obis: one for one in readings if one.good}
        for quantity in kept(good):
            self._begin[statistic_id(point.id, quantity)] = (point, quantity, good[quantity.obis])
        if self._begin:
            self._wake()

    @callback
    def _wake(self) -> None:
        self._more = True
        # What Home Assistant no longer writes when it stops is written when it starts.
        if not self._running and not self._hass.is_stopping:
            self._running = True
            self._hass.async_create_background_task(self._run(), f"{DOMAIN} statistics")

    async def _run(self) -> None:
        """Writes until nothing is left to write."""
        try:
            while self._more:
                self._more = False
                if not self._ready:
                    await self._prepare()
                    self._ready = True
                if self.enabled:
                    await self._catch_up()
        except LedgerError as error:
            # It says so itself. Somebody may have taken our name off the list of subscribers.
            _LOGGER.debug("Statistics wait for the ledger: %s", error.text)
            self._ready = False
            self._later()
        except _NotStoredError as error:
            _LOGGER.warning("The recorder did not take the statistics %s; they are given to it again", error)
            self._later()
        finally:
            self._running = False
            if self._waiting.points and self._look is None and not self._hass.is_stopping:
                self._look = async_call_later(self._hass, LOOK, HassJob(self._look_again, cancel_on_shutdown=True))

    @callback
    def _look_again(self, _now: datetime) -> None:
        self._look = None
        self._wake()

    @callback
    def _later(self) -> None:
        if not self._hass.is_stopping:
            async_call_later(self._hass, RETRY, HassJob(self._again, cancel_on_shutdown=True))

    @callback
    def _again(self, _now: datetime) -> None:
        self._wake()

    async def _prepare(self) -> None:
        if not self.enabled:
            await self._ledger.async_call(lambda ledger: ledger.unsubscribe(STATISTICS))
            return
        await self._ledger.async_call(lambda ledger: ledger.subscribe(STATISTICS))
        await self._waiting.async_load()
        await async_take_over(self._hass, self._registry, self._ledger)

    async def _catch_up(self) -> None:
        """Writes what changed since the last time, and says so when the recorder has it."""
        await self._begin_new()
        while True:
            self._told.clear()
            changes = await self._ledger.async_call(lambda ledger: ledger.changes(STATISTICS, limit=CHANGES))
            self._behind = changes.more
            if changes.intervals:
                await self._write(changes.intervals)
            await self._waiting.async_save()
            if (upto := (changes.revision, changes.cursor)) != self._has:
                await self._ledger.async_call(partial(_acknowledge, changes=changes))
                self._has = upto
            await self._write_waiting()
            if not changes.more:
                return

    async def _write(self, intervals: Iterable[Interval]) -> None:
        hours: dict[str, set[int]] = {}
        later: dict[str, set[int]] = {}
        registers: dict[str, set[Obis]] = {}
        turns = Turns()
        for one in intervals:
            await turns.pause()
            known = later if one.flags & LATER and self._intake.may_come(one.point) else hours
            known.setdefault(one.point, set()).add(hour_of(one.start))
            registers.setdefault(one.point, set()).update(one.energies)
        now = dt_util.utcnow()
        for point, all_ in later.items():
            if wait := all_ - hours.get(point, set()):
                self._waiting.add(point, wait, registers[point], now)
        for batch in batches_of(self._jobs(hours, registers)):
            await self._live()
            await self._store(batch)

    async def _write_waiting(self) -> None:
        """Writes what waited: what was gathered for a while, and all of a point for which nothing more will come."""
        now = dt_util.utcnow()
        waiting = self._waiting.points
        for gone in waiting.keys() - self._registry.points.keys():
            del waiting[gone]
        whole = {point for point in waiting if not self._intake.may_come(point)}
        due = {point for point in waiting if point in whole or self._waiting.due(point, now)}
        if not due:
            return
        hours = {point: waiting[point].hours if point in whole else waiting[point].soon for point in due}
        self._held, behind, self._behind = {}, self._behind, True
        for batch in batches_of(self._jobs(hours, {point: waiting[point].registers for point in due})):
            while self._intake.busy and not self._hass.is_stopping:  # noqa: ASYNC110
                await asyncio.sleep(PAUSE_S)
            await self._live()
            await self._store(batch)
        self._behind = behind
        for point in due:
            self._waiting.written(point, self._held.get(point, set()), now, all_=point in whole)
        await self._waiting.async_save()

    def _jobs(self, hours: dict[str, set[int]], registers: Mapping[str, set[Obis]]) -> list[Job]:
        points = self._registry.points
        hours = {point: all_ for point, all_ in hours.items() if point in points}
        quantities = {point: kept(registers.get(point, ())) for point in hours}
        # What is worked out from others changes with them; it may be a part itself.
        for _ in points:
            more = {
                id_: new
                for id_, point in points.items()
                if point.virtual
                and (new := set[int]().union(*(hours.get(term.point, set()) for term in point.formula)))
                - hours.get(id_, set())
            }
            if not more:
                break
            for id_, new in more.items():
                hours.setdefault(id_, set()).update(new)
                quantities[id_] = kept(
                    {one.obis for term in points[id_].formula for one in quantities.get(term.point, ())}
                )
        return jobs_of(hours, quantities)

    async def _live(self) -> None:
        """While much is to be caught up with, what comes now does not wait for it."""
        if not self._behind or not self._told:
            return
        points, self._told = self._told, set()
        now = dt_util.utcnow()
        span = hour_of(now - timedelta(minutes=20)), hour_of(now)
        known = await self._ledger.async_call(
            partial(_hours, points=self._registry.points, asked=[(point, span) for point in points])
        )
        registers: dict[str, set[Obis]] = {}
        hours: dict[str, set[int]] = {}
        for (point, hour), one in known.items():
            registers.setdefault(point, set()).update(one.energies)
            # What was gathered has its own time.
            if (wait := self._waiting.points.get(point)) is None or hour not in wait.soon:
                hours.setdefault(point, set()).add(hour)
        for batch in batches_of(self._jobs(hours, registers)):
            await self._store(batch)

    async def _store(self, batch: list[Job]) -> None:
        """Writes a batch until the recorder has it."""
        instance = get_instance(self._hass)
        for _ in range(TRIES):
            while instance.backlog > MOST_BACKLOG:  # noqa: ASYNC110
                await asyncio.sleep(PAUSE_S)
            plans = [(job, one) for job, one in zip(batch, await self._plans(batch), strict=True) if one]
            if not plans:
                return
            states = await self._states(plans)
            for job, one in plans:
                if one.rows:
                    rows = [
                        StatisticData(
                            start=instant(row.start),
                            state=float(states.get((job.id, row.start), row.sum)),
                            sum=float(row.sum),
                        )
                        for row in one.rows
                    ]
                    metadata = await self._metadata(self._registry.points[job.point], job.quantity)
                    async_add_external_statistics(self._hass, metadata, rows)
                for start, by in one.shifts:
                    instance.async_adjust_statistics(job.id, instant(start), float(by), job.quantity.unit)
            # However long its database stands still: nothing is acknowledged before it is written.
            await self._recorded(plans[0][0])
        raise _NotStoredError(", ".join(sorted({job.id for job, _ in plans})[:5]))

    async def _recorded(self, job: Job) -> None:
        """Waits until the recorder has done what it was given."""
        # It may say that it is done while it does the last thing still: let that be one without rows.
        metadata = await self._metadata(self._registry.points[job.point], job.quantity)
        async_add_external_statistics(self._hass, metadata, [])
        await get_instance(self._hass).async_block_till_done()

    async def _plans(self, batch: list[Job]) -> list[Plan]:
        """What is left to write of a batch."""
        stored = await get_instance(self._hass).async_add_executor_job(recorded.stored, self._hass, batch)
        points = self._registry.points
        asked = {
            (job.point, span)
            for job, one in zip(batch, stored, strict=True)
            for span in [(job.hours[0], job.hours[-1]), *((row.start, row.start) for row in one.rows[-1:])]
        }
        parts = {part for point, _ in asked for part in parts_of(points, point)}
        waiting = {part for part in parts if self._intake.may_come(part)}
        known = await self._ledger.async_call(partial(_hours, points=points, asked=asked))
        held = self._hold(known, waiting)
        found = []
        for job, one in zip(batch, stored, strict=True):
            energies = {
                hour: energy
                for hour in {*job.hours, *(row.start for row in one.rows)}
                if (energy := energy_of(points, known, job.point, job.quantity.obis, hour)) is not None
            }
            left = set[int]().union(*(held.get(part, ()) for part in parts_of(points, job.point)))
            energies = {hour: energy for hour, energy in energies.items() if hour not in left}
            virtual = job.point in points and points[job.point].virtual
            # An hour that waits stays as it is, and one of a virtual point of which a part is not there yet.
            changed = [hour for hour in job.hours if hour not in left and (not virtual or hour in energies)]
            if not virtual and (wait := left.intersection(job.hours)):
                self._held.setdefault(job.point, set()).update(wait)
                self._waiting.add(job.point, wait, [job.quantity.obis], dt_util.utcnow())
            found.append(plan(one.before, one.rows, energies, changed) if changed and job.point in points else Plan())
        return found

    def _hold(self, known: Mapping[tuple[str, int], Sum], waiting: Collection[str]) -> dict[str, set[int]]:
        """By point, the hours that are estimated and may be known soon, because a memory is being read."""
        now = dt_util.utcnow()
        held: dict[str, set[int]] = {}
        for (point, hour), one in known.items():
            if point in waiting and one.known_s != one.covered_s and self._waiting.patient(point, now):
                held.setdefault(point, set()).add(hour)
        return held

    async def _states(self, plans: Iterable[tuple[Job, Plan]]) -> dict[tuple[str, int], Decimal]:
        """The registers (× multiplier) at the ends of hours, by statistic and hour."""
        points = self._registry.points
        asked = [
            (job.id, points[job.point], job.quantity.obis, row.start)
            for job, one in plans
            if not points[job.point].virtual
            for row in one.rows
        ]

        def look(ledger: Ledger) -> dict[tuple[str, int], Decimal]:
            found = {}
            for id_, point, obis, start in asked:
                end = instant(start + HOUR_S)
                registers = ledger.register_at(point.id, end)
                if registers is not None and obis in registers:
                    found[id_, start] = registers[obis] * factor(point, end)
            return found

        return await self._ledger.async_call(look)

    async def _begin_new(self) -> None:
        """Writes the first row of statistics that do not exist yet."""
        asked, self._begin = self._begin, {}
        if not asked:
            return
        there = await get_instance(self._hass).async_add_executor_job(recorded.known, self._hass, list(asked))
        for id_, (point, quantity, reading) in asked.items():
            if id_ not in there:
                row = StatisticData(start=instant(hour_of(reading.at)), state=float(reading.value), sum=0.0)
                async_add_external_statistics(self._hass, await self._metadata(point, quantity), [row])
        await get_instance(self._hass).async_block_till_done()

    async def _metadata(self, point: Point, quantity: Quantity) -> StatisticMetaData:
        texts = await translation.async_get_translations(self._hass, self._hass.config.language, "entity", {DOMAIN})
        label = texts.get(f"component.{DOMAIN}.entity.sensor.{quantity.key}.name", quantity.key)
        return StatisticMetaData(
            mean_type=StatisticMeanType.NONE,
            has_sum=True,
            name=f"{point.name} {label}",
            source=DOMAIN,
            statistic_id=statistic_id(point.id, quantity),
            unit_class="energy",
            unit_of_measurement=quantity.unit,
        )


class _NotStoredError(Exception):
    """The recorder did not store what it was given; says which statistics."""


def _acknowledge(ledger: Ledger, changes: Changes) -> None:
    ledger.acknowledge(STATISTICS, changes.revision, changes.cursor)


def _hours(
    ledger: Ledger, points: Mapping[str, Point], asked: Iterable[tuple[str, tuple[int, int]]]
) -> dict[tuple[str, int], Sum]:
    """What the ledger knows of points, each from one hour through another."""
    there = set(ledger.points)
    known: dict[tuple[str, int], Sum] = {}
    for part, first, last in {(part, *span) for point, span in asked for part in parts_of(points, point) & there}:
        starts = range(first, last + HOUR_S, HOUR_S)
        sums = ledger.sums(part, [instant(one) for one in (*starts, last + HOUR_S)])
        known |= {(part, hour): one for hour, one in zip(starts, sums, strict=True) if one.covered_s}
    return known
