"""One coordinator a line: it runs the poller and hands each report to the entities it touches and to the history."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, override

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import CALLBACK_TYPE, Context, HomeAssistant, callback
from homeassistant.exceptions import ConfigEntryNotReady, HomeAssistantError
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers.update_coordinator import DataUpdateCoordinator
from homeassistant.util import dt as dt_util

from . import link
from .causes import Causes
from .const import (
    CONF_BACKFILL,
    CONF_BACKFILL_SHARE,
    CONF_CLOCK_CARE,
    CONF_DETAIL,
    CONF_ENTITY_STATISTICS,
    CONF_FAST,
    CONF_INTERVAL,
    CONF_OWN_PROCESS,
    CONF_SLOW,
    DEFAULT_FAST_S,
    DEFAULT_INTERVAL_MIN,
    DEFAULT_OWN_PROCESS,
    DEFAULT_SLOW_S,
    DOMAIN,
    MANUFACTURER,
    Detail,
)
from .detail import shown
from .engine import (
    ClockReading,
    ConfigError,
    Exchanged,
    FrameError,
    Line,
    LineError,
    LinePlan,
    MeterBatchError,
    MeterError,
    Multiplier,
    NoReply,
    Point,
    Poller,
    PollMeter,
    PollReport,
    PollSettings,
    Refused,
    RemotePoller,
    ScannedMeter,
    ScanPlan,
    ScanProgress,
    ScanResult,
    WrongMeter,
    scan,
)
from .engine.model.obis import Obis
from .engine.model.reading import Reading
from .hourly import kept
from .issues import LineIssues
from .site import Site
from .wording import async_in_words, in_words, message, register_names

_LOGGER = logging.getLogger(__name__)

STRAY = timedelta(seconds=5)
"""So long after a multiplier was changed, readings may still be multiplied by the old one: the ledger is given none."""
HEARD_BADLY = frozenset({"damaged", "wrong_meter"})
"""Reasons that say more than silence: something comes from the meter, or instead of it."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong with a point: a word, and where there is more to say what the engine says or which registers."""

    reason: str
    text: str | None = None
    registers: tuple[Obis, ...] = ()


class LineCoordinator(DataUpdateCoordinator[PollReport]):
    """What is known now of the meters on one line, by point id."""

    config_entry: ConfigEntry

    def __init__(self, hass: HomeAssistant, entry: ConfigEntry, site: Site) -> None:
        super().__init__(hass, _LOGGER, config_entry=entry, name=entry.title, update_interval=None)
        self.site = site
        self.values: dict[str, dict[Obis, Reading]] = {}
        self.problems: dict[str, Trouble] = {}
        self.silent: frozenset[str] = frozenset()
        self.clocks: dict[str, ClockReading] = {}
        self.causes = Causes()
        self.issues = LineIssues(hass, entry, site, self.causes, self._explain)
        self.hub_id = ""
        self.context = Context()
        """Of the report that is shown now: one for all states that it changes."""
        self._listeners_of: dict[str | None, list[CALLBACK_TYPE]] = {}
        self._touched: set[str] = set()
        self._polling: asyncio.Task[None] | None = None
        self._scan: asyncio.Task[ScanResult] | None = None
        self._stopped = False
        self._begun: set[str] = set()
        self._remultiplied: dict[str, datetime] = {}
        """Until when readings may still come that were multiplied as a point no longer is."""
        self._multipliers: dict[str, tuple[Multiplier, ...]] = {}
        self.poller, self.line = self._make_poller()

    def _make_poller(self) -> tuple[Poller | RemotePoller, Line | RemotePoller]:
        """The poller, here or in a process of its own, and what of it is opened and closed."""
        entry, site = self.config_entry, self.site
        options = entry.options
        settings = PollSettings(
            fast_s=float(options.get(CONF_FAST, DEFAULT_FAST_S)),
            slow_s=float(options.get(CONF_SLOW, DEFAULT_SLOW_S)),
            interval_s=self.interval_s,
            budget=options.get(CONF_BACKFILL_SHARE, link.protocol(entry.data).backfill_percent) / 100,
            clock_care=bool(options.get(CONF_CLOCK_CARE, True)),
            time_zone=site.registry.time_zone or self.hass.config.time_zone,
        )
        lessons, serials = dict(site.learned.lessons), dict(site.learned.serials)
        if options.get(CONF_OWN_PROCESS, DEFAULT_OWN_PROCESS):
            plan = LinePlan(
                link.url(entry.data), link.settings(entry.data, options), settings, lessons, self._own(serials)
            )
            remote = site.process.poller(entry.entry_id, plan, self._report)
            return remote, remote
        line = link.make_line(entry.data, options)
        return Poller(line, settings, self._report, lessons=lessons, serials=serials), line

    def _own(self, serials: dict[str, str]) -> dict[str, str]:
        """Those of the points on this line."""
        return {
            point.id: serials[point.id]
            for point, _ in self.site.registry.on_line(self.config_entry.entry_id)
            if point.id in serials
        }

    async def async_trace(self) -> list[Exchanged]:
        """The last exchanges on the line."""
        line = self.line
        return await line.trace() if isinstance(line, RemotePoller) else line.trace

    @property
    def interval_s(self) -> int:
        """The length of the intervals at whose boundaries energies are read."""
        return round(60 * float(self.config_entry.options.get(CONF_INTERVAL, DEFAULT_INTERVAL_MIN)))

    @property
    def backfill(self) -> bool:
        """True where meters' memories are asked for what is missing."""
        return bool(self.config_entry.options.get(CONF_BACKFILL, True))

    @property
    def entity_statistics(self) -> bool:
        """True where the user wants energy entities to have statistics of their own."""
        return bool(self.config_entry.options.get(CONF_ENTITY_STATISTICS, False))

    async def async_start(self) -> None:
        """Opens the line, makes the hub device and begins to poll; ConfigEntryNotReady where the line is not there."""
        entry = self.config_entry
        try:
            await self.line.open()
        except LineError as error:
            await self.line.close()
            raise ConfigEntryNotReady(
                translation_domain=DOMAIN,
                translation_key="line_unavailable",
                translation_placeholders={"line": entry.title, "error": await async_in_words(self.hass, error.text)},
            ) from error
        hub = dr.async_get(self.hass).async_get_or_create(
            config_entry_id=entry.entry_id,
            identifiers={(DOMAIN, entry.entry_id)},
            name=entry.title,
            manufacturer=MANUFACTURER,
            model=link.protocol(entry.data).label,
        )
        self.hub_id = hub.id
        self.async_set_meters()
        entry.async_on_unload(self.site.alarms.rules.async_listen(self.async_set_meters))
        self.issues.async_start()

    @callback
    def async_run(self) -> None:
        """Begins to poll; until the entry is unloaded."""
        entry = self.config_entry
        name = f"{DOMAIN} poller {entry.title}"
        self._polling = entry.async_create_background_task(self.hass, self.poller.run(), name)

    async def async_stop(self) -> None:
        """Stops polling and scanning and lets go of the port."""
        self._stopped = True
        await _ended(self._scan)
        await _ended(self._polling)
        self.site.intake.async_line_gone(self.config_entry.entry_id)
        await self.line.close()

    @property
    def scanning(self) -> bool:
        """True while the line is searched for meters, and so not polled."""
        return self._scan is not None

    async def async_scan(
        self, plan: ScanPlan, progress: Callable[[ScanProgress], None], found: Callable[[ScannedMeter], None]
    ) -> ScanResult:
        """Searches the line for meters. Until then polling pauses and values stay; it goes on whatever happens.

        HomeAssistantError in words where a search is under way, the line fails, or it is unloaded meanwhile.
        """
        title = self.config_entry.title
        if self._scan is not None:
            raise _in_words("scan_running", line=title)
        name = f"{DOMAIN} scan {title}"
        self._scan = task = self.hass.async_create_background_task(self._search(plan, progress, found), name)
        try:
            return await task
        except LineError as error:
            raise _in_words("scan_failed", line=title, error=await async_in_words(self.hass, error.text)) from error
        except asyncio.CancelledError:
            if (current := asyncio.current_task()) is not None and current.cancelling():
                raise
            raise _in_words("scan_ended", line=title) from None

    async def _search(
        self, plan: ScanPlan, progress: Callable[[ScanProgress], None], found: Callable[[ScannedMeter], None]
    ) -> ScanResult:
        try:
            await _ended(self._polling)
            return await scan(partial(link.line_at, self.config_entry.data), plan, progress, found)
        finally:
            if self._polling is not None:
                await asyncio.wait([self._polling])  # where the search was ended before polling was
            self._scan = None
            if not self._stopped and not self.hass.is_stopping:
                self.async_run()

    # --- points ---

    def points(self) -> Iterable[Point]:
        """The points that live on this line: those read on it, and virtual ones."""
        return self.site.registry.at_home(self.config_entry.entry_id)

    def detail(self, point: Point) -> Detail:
        """How many entities a point has."""
        return self.site.detail(point, self.config_entry.options.get(CONF_DETAIL))

    def registers(self, point: Point) -> tuple[Obis, ...]:
        """The registers of a point that have entities."""
        if point.virtual:
            return ()
        template = self.site.templates.get(point.meter.template)
        return () if template is None else shown(template, self.detail(point))

    def wanted(self, point: Point) -> frozenset[Obis]:
        """The registers of a point that are read: for its entities, statistics, the ledger, and rules set for it."""
        template = self.site.templates.get(point.meter.template)
        if template is None:
            return frozenset()
        energies = {one.obis for one in template.registers if one.group == "energy"}
        asked = self.site.alarms.needed(point) & template.by_obis.keys()
        return frozenset({*self.registers(point), *(one.obis for one in kept(template.by_obis)), *energies, *asked})

    @callback
    def async_set_meters(self) -> None:
        """Tells the poller which meters there are; what did not change keeps what was learned of it."""
        meters = []
        for point, route in self.site.registry.on_line(self.config_entry.entry_id):
            if (template := self.site.templates.get(point.meter.template)) is None:
                _LOGGER.error("%s: there is no template %s any more", point.name, point.meter.template)
                continue
            meters.append(
                PollMeter(
                    key=point.id,
                    name=point.name,
                    template=template,
                    address=route.address,
                    protocol=route.protocol,
                    wanted=self.wanted(point),
                    point=point,
                )
            )
        self.poller.set_meters(meters)
        self.causes.polled(meters)
        self.issues.async_update()
        self._note_multipliers(self.points())
        line = self.config_entry.entry_id
        interval = timedelta(seconds=self.interval_s)
        self.site.intake.async_line(
            line, interval, [meter.key for meter in meters], self.poller.set_holes if self.backfill else None
        )
        self.site.alarms.async_registers({meter.key: meter.wanted for meter in meters if meter.wanted is not None})
        there = {meter.key for meter in meters}
        for gone in {*self.values, *self.problems} - there:
            self.async_forget(gone)

    def _note_multipliers(self, points: Iterable[Point]) -> None:
        before, self._multipliers = self._multipliers, {point.id: point.multipliers for point in points}
        for id_, multipliers in self._multipliers.items():
            if before.get(id_, multipliers) != multipliers:
                self._remultiplied[id_] = dt_util.utcnow() + STRAY

    @callback
    def async_forget(self, point: str) -> None:
        """Drops what is known of a point, because another meter is there now or none."""
        self.values.pop(point, None)
        self.problems.pop(point, None)
        self.clocks.pop(point, None)
        self.causes.forget(point)
        self._begun.discard(point)

    @callback
    def async_swapped(self, before: Point, after: Point) -> None:
        """Drops what is known of a point, because its meter is another now, or said to be; tells the ledger."""
        if before.meters and after.meters and before.meter.since != after.meter.since:
            self.site.intake.async_swapped(before, after, self.values.get(after.id, {}).values())
            self.site.learned.async_forget(after.id)
        identity = self.causes.identities.get(after.id)
        self.async_forget(after.id)
        self.causes.entered(after, identity)

    # --- reports ---

    def _report(self, report: PollReport) -> None:
        # Whatever becomes of it, polling goes on.
        self.hass.loop.call_soon(self._on_report, report)

    @callback
    def _on_report(self, report: PollReport) -> None:
        touched = {*report.readings, *report.failed, *report.clocks, *(report.silent ^ self.silent)}
        self.clocks.update(report.clocks)
        points = self.site.registry.points
        for key, readings in report.readings.items():
            if key not in points:
                continue
            known = self.values.setdefault(key, {})
            known.update((reading.obis, reading) for reading in readings if reading.good)
            if bad := tuple(reading.obis for reading in readings if not reading.good):
                self.problems[key] = Trouble("implausible", registers=bad)
            else:
                self.problems.pop(key, None)
        for key, error in report.failed.items():
            self.problems[key] = Trouble(reason(error), error.text)
        for key in report.silent:
            if key not in self.silent and key in points:
                _LOGGER.warning("%s does not answer", points[key].name)
            trouble = self.problems.get(key, Trouble("silent"))
            if trouble.reason not in HEARD_BADLY:
                self.problems[key] = replace(trouble, reason="silent")
        for key in self.silent - report.silent:
            if key in points:
                _LOGGER.info("%s answers again", points[key].name)
        self.silent = report.silent
        touched |= self.issues.async_take(report)
        unusable = {key for key, until in self._remultiplied.items() if report.at < until}
        self.site.learned.async_take(report)
        self._keep(report, unusable)
        self.site.alarms.async_report(self.config_entry.entry_id, report, unusable)
        if not report.health.connected:
            self._line_down(report)
            return
        if not self.last_update_success:
            _LOGGER.info("The line %s is back", self.config_entry.title)
            self._touched = set(points)
        else:
            self._touched = touched
        self.async_set_updated_data(report)

    def _keep(self, report: PollReport, unusable: set[str]) -> None:
        """Passes on what the ledger needs, and the first energies of each point to the statistics."""
        for key, readings in report.readings.items():
            point = self.site.registry.points.get(key)
            if point is not None and key not in self._begun and kept(one.obis for one in readings if one.good):
                self._begun.add(key)
                self.site.history.async_begin(point, readings)
        self.site.intake.async_take(self.config_entry.entry_id, report, unusable)

    def _line_down(self, report: PollReport) -> None:
        self.data = report
        self._touched = set(self.site.registry.points)
        if not self.last_update_success:
            self.async_update_listeners()  # the line is down still, but what is said of it may be new
            return
        # This one goes to the log only, which is English.
        self.async_set_update_error(
            HomeAssistantError(
                translation_domain=DOMAIN,
                translation_key="line_down",
                translation_placeholders={"line": self.config_entry.title, "error": report.health.problem or "?"},
            )
        )

    @callback
    @override
    def async_add_listener(self, update_callback: CALLBACK_TYPE, context: Any = None) -> CALLBACK_TYPE:
        """Also kept by point, so that a report goes to those whom it touches without asking all the others."""
        remove = super().async_add_listener(update_callback, context)
        self._listeners_of.setdefault(context, []).append(update_callback)
        return partial(self._remove_listener, remove, update_callback, context)

    @callback
    def _remove_listener(self, remove: CALLBACK_TYPE, update_callback: CALLBACK_TYPE, context: Any) -> None:
        remove()
        self._listeners_of[context].remove(update_callback)

    @callback
    @override
    def async_update_listeners(self) -> None:
        """Only the entities of points that the report touched; those of the line itself always."""
        self.site.async_values_changed(self._touched)
        self.context = Context()
        for context in (None, *self._touched):
            for update in list(self._listeners_of.get(context, ())):
                update()

    # --- in words ---

    def explanation(self, point: str) -> str | None:
        """What is wrong with a point and what to do, in the language of the house; None where nothing is."""
        if (trouble := self.problems.get(point)) is None:
            return None
        if trouble.registers:
            return message(self.hass, "implausible", registers=register_names(self.hass, trouble.registers))
        return None if trouble.text is None else in_words(self.hass, trouble.text)

    def _explain(self, point: str | None) -> str | None:
        return self.line_explanation() if point is None else self.explanation(point)

    def line_explanation(self) -> str | None:
        """The same for the line as a whole: it may be connected and still have a problem."""
        problem = self.data.health.problem if self.data else None
        return None if problem is None else in_words(self.hass, problem)

    async def async_read_now(self, point: Point, obis: list[Obis] | None) -> list[Reading]:
        """Reads a meter ahead of the schedule; HomeAssistantError in plain words where that fails."""
        if self.scanning:
            raise _in_words("line_scanning", point=point.name, line=self.config_entry.title)
        try:
            readings = await self.poller.read_now(point.id, obis)
        except (ConfigError, MeterError, LineError) as error:
            words = await async_in_words(self.hass, error.text)
            raise _in_words("read_failed", point=point.name, error=words) from error
        return list(readings)

    def good(self, point: str) -> bool:
        """True where values of a point may be shown: the line is up and the meter answers."""
        return self.last_update_success and point not in self.silent


async def _ended(task: asyncio.Task[Any] | None) -> None:
    """Ends a task and waits until it has let go of what it held."""
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _in_words(key: str, /, **placeholders: str) -> HomeAssistantError:
    return HomeAssistantError(translation_domain=DOMAIN, translation_key=key, translation_placeholders=placeholders)


def reason(error: MeterBatchError) -> str:
    """The word for what is wrong with a meter, a state of the problem entity's attribute."""
    for kind, word in (
        (NoReply, "silent"),
        (FrameError, "damaged"),
        (WrongMeter, "wrong_meter"),
        (Refused, "refused"),
    ):
        if isinstance(error, kind):
            return word
    return "other"
