"""One coordinator a line: it runs the poller and hands each report to the entities it touches and to the history."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from datetime import datetime
from typing import override

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant, callback
from homeassistant.exceptions import ConfigEntryNotReady, HomeAssistantError
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers.update_coordinator import DataUpdateCoordinator

from . import link
from .const import (
    CONF_DETAIL,
    CONF_ENTITY_STATISTICS,
    CONF_FAST,
    CONF_INTERVAL,
    CONF_SLOW,
    DEFAULT_FAST_S,
    DEFAULT_INTERVAL_MIN,
    DEFAULT_SLOW_S,
    DOMAIN,
    MANUFACTURER,
    Detail,
)
from .detail import shown
from .engine import (
    ConfigError,
    FrameError,
    LineError,
    MeterBatchError,
    MeterError,
    NoReply,
    Point,
    Poller,
    PollMeter,
    PollReport,
    PollSettings,
    Refused,
    WrongMeter,
)
from .engine.model.obis import Obis
from .engine.model.reading import Reading
from .history import kept
from .site import Site
from .wording import async_in_words

_LOGGER = logging.getLogger(__name__)


class LineCoordinator(DataUpdateCoordinator[PollReport]):
    """What is known now of the meters on one line, by point id."""

    config_entry: ConfigEntry

    def __init__(self, hass: HomeAssistant, entry: ConfigEntry, site: Site) -> None:
        super().__init__(hass, _LOGGER, config_entry=entry, name=entry.title, update_interval=None)
        self.site = site
        self.values: dict[str, dict[Obis, Reading]] = {}
        self.problems: dict[str, str] = {}
        self.silent: frozenset[str] = frozenset()
        self.hub_id = ""
        self._touched: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._begun: set[str] = set()
        self._snapshots: asyncio.Queue[tuple[bool, dict[str, tuple[datetime, tuple[Reading, ...]]]]] = asyncio.Queue()
        self.line = link.make_line(entry.data)
        options = entry.options
        self.poller = Poller(
            self.line,
            PollSettings(
                fast_s=float(options.get(CONF_FAST, DEFAULT_FAST_S)),
                slow_s=float(options.get(CONF_SLOW, DEFAULT_SLOW_S)),
                interval_s=60 * int(options.get(CONF_INTERVAL, DEFAULT_INTERVAL_MIN)),
            ),
            self._on_report,
        )

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

    @callback
    def async_run(self) -> None:
        """Begins to poll; until the entry is unloaded."""
        entry = self.config_entry
        self._tasks = [
            entry.async_create_background_task(self.hass, self.poller.run(), f"{DOMAIN} poller {entry.title}"),
            entry.async_create_background_task(self.hass, self._write_history(), f"{DOMAIN} history {entry.title}"),
        ]

    async def async_stop(self) -> None:
        """Stops polling and lets go of the port."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.line.close()

    # --- points ---

    def points(self) -> Iterable[Point]:
        """The points that are read on this line."""
        return (point for point, _ in self.site.registry.on_line(self.config_entry.entry_id))

    def detail(self, point: Point) -> Detail:
        """How many entities a point has."""
        return self.site.detail(point, self.config_entry.options.get(CONF_DETAIL))

    def registers(self, point: Point) -> tuple[Obis, ...]:
        """The registers of a point that have entities."""
        template = self.site.templates.get(point.meter.template)
        return () if template is None else shown(template, self.detail(point))

    @callback
    def async_set_meters(self) -> None:
        """Tells the poller which meters there are; what did not change keeps what was learned of it."""
        meters = []
        for point, route in self.site.registry.on_line(self.config_entry.entry_id):
            if (template := self.site.templates.get(point.meter.template)) is None:
                _LOGGER.error("%s: there is no template %s any more", point.name, point.meter.template)
                continue
            wanted = {*self.registers(point), *(one.obis for one in kept(one.obis for one in template.registers))}
            meters.append(
                PollMeter(
                    key=point.id,
                    name=point.name,
                    template=template,
                    address=route.address,
                    protocol=route.protocol,
                    wanted=frozenset(wanted),
                    point=point,
                )
            )
        self.poller.set_meters(meters)
        there = {meter.key for meter in meters}
        for gone in self.values.keys() - there:
            del self.values[gone]
            self.problems.pop(gone, None)

    @callback
    def async_forget(self, point: str) -> None:
        """Drops what is known of a point, because another meter is there now or none."""
        self.values.pop(point, None)
        self.problems.pop(point, None)
        self._begun.discard(point)

    # --- reports ---

    @callback
    def _on_report(self, report: PollReport) -> None:
        touched = {*report.readings, *report.failed, *(report.silent ^ self.silent)}
        points = self.site.registry.points
        for key, readings in report.readings.items():
            if key not in points:
                continue
            known = self.values.setdefault(key, {})
            known.update((reading.obis, reading) for reading in readings if reading.good)
            self.site.history.note(points[key], readings)
            if all(reading.good for reading in readings):
                self.problems.pop(key, None)
            else:
                self.problems[key] = "implausible"
        for key, error in report.failed.items():
            self.problems[key] = reason(error)
        for key in report.silent:
            if key not in self.silent and key in points:
                _LOGGER.warning("%s does not answer", points[key].name)
            self.problems[key] = "silent"
        for key in self.silent - report.silent:
            if key in points:
                _LOGGER.info("%s answers again", points[key].name)
        self.silent = report.silent
        self._keep(report)
        if not report.health.connected:
            self._line_down(report)
            return
        if not self.last_update_success:
            _LOGGER.info("The line %s is back", self.config_entry.title)
            self._touched = set(points)
        else:
            self._touched = touched
        self.async_set_updated_data(report)

    def _keep(self, report: PollReport) -> None:
        """Passes on what the statistics need: the first energies of each point, and those of the boundaries."""
        first = {}
        for key, readings in report.readings.items():
            if key not in self._begun and kept(one.obis for one in readings if one.good):
                self._begun.add(key)
                first[key] = (min(one.at for one in readings), readings)
        if first:
            self._snapshots.put_nowait((True, first))
        if report.snapshots:
            snapshots = {key: (one.boundary, tuple(one.readings)) for key, one in report.snapshots.items()}
            self._snapshots.put_nowait((False, snapshots))

    def _line_down(self, report: PollReport) -> None:
        self.data = report
        self._touched = set(self.site.registry.points)
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
    def async_update_listeners(self) -> None:
        """Only the entities of points that the report touched; those of the line itself always."""
        self.site.async_values_changed(self._touched)
        for update, context in list(self._listeners.values()):
            if context is None or context in self._touched:
                update()

    async def _write_history(self) -> None:
        while True:
            first, snapshots = await self._snapshots.get()
            await self.site.history.async_take(snapshots, first=first)

    async def async_read_now(self, point: Point, obis: list[Obis] | None) -> list[Reading]:
        """Reads a meter ahead of the schedule; HomeAssistantError in plain words where that fails."""
        try:
            readings = await self.poller.read_now(point.id, obis)
        except (ConfigError, MeterError, LineError) as error:
            raise HomeAssistantError(
                translation_domain=DOMAIN,
                translation_key="read_failed",
                translation_placeholders={"point": point.name, "error": await async_in_words(self.hass, error.text)},
            ) from error
        return list(readings)

    def good(self, point: str) -> bool:
        """True where values of a point may be shown: the line is up and the meter answers."""
        return self.last_update_success and point not in self.silent


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
