"""What all lines of a Home Assistant share: the points, the log of changes, the templates, the statistics."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any

from homeassistant.config_entries import ConfigEntry
from homeassistant.const import EVENT_HOMEASSISTANT_FINAL_WRITE
from homeassistant.core import CALLBACK_TYPE, Event, HomeAssistant, callback
from homeassistant.helpers import area_registry as ar
from homeassistant.helpers import translation
from homeassistant.helpers.http import current_request
from homeassistant.helpers.singleton import singleton
from homeassistant.util import dt as dt_util
from homeassistant.util.hass_dict import HassKey

from . import access, own_templates
from .alarm_energy import AlarmEnergy
from .alarm_rules import AlarmRules
from .alarm_store import AlarmStore
from .alarms import SiteAlarms
from .cells import Known, KnownLine, models_by_name
from .const import CONF_PROTOCOL, DETAIL_AUTO, DOMAIN, STANDARD_UP_TO, Detail, LineProtocol
from .engine import Point, PollProcess, Template
from .gaps import Gaps
from .history import History
from .intake import Intake
from .learned import Learned
from .ledger import SiteLedger
from .link import lines
from .operation_log import OperationLog
from .registry import Registry
from .table import Problem

_LOGGER = logging.getLogger(__name__)


@dataclass(slots=True)
class Site:
    """The parts, made once."""

    hass: HomeAssistant
    registry: Registry
    log: OperationLog
    templates: dict[str, Template]
    ledger: SiteLedger
    intake: Intake
    history: History
    gaps: Gaps
    alarms: SiteAlarms
    learned: Learned
    process: PollProcess
    """That polls the lines that want it; it runs only while there are such."""
    populating: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by the line that adds entities: one at a time, so that all lines together do not fill the event loop."""
    keeper: str | None = None
    """The line that bears the entities of the whole site."""
    time_zone: tzinfo | None = None
    """Where it is not Home Assistant's."""
    _value_listeners: list[Callable[[set[str]], None]] = field(default_factory=list)

    @callback
    def async_listen_values(self, listener: Callable[[set[str]], None]) -> CALLBACK_TYPE:
        """Calls the listener with the ids of points of which something new is known; returns what ends that."""
        self._value_listeners.append(listener)
        return lambda: self._value_listeners.remove(listener)

    @callback
    def async_values_changed(self, points: set[str]) -> None:
        """Says that something new is known of these points."""
        for listener in list(self._value_listeners):
            listener(points)

    def known(self, default_line: str | None = None) -> Known:
        """What an import compares a file with."""
        known = {
            entry.entry_id: KnownLine(entry.entry_id, entry.title, LineProtocol(entry.data[CONF_PROTOCOL]))
            for entry in lines(self.hass)
        }
        return Known(
            points=self.registry.points,
            lines=known,
            templates={id_: template.protocol for id_, template in self.templates.items()},
            now=dt_util.utcnow().replace(microsecond=0),
            time_zone=self.time_zone or dt_util.get_default_time_zone(),
            default_line=default_line,
            models=models_by_name((id_, one.vendor, one.model) for id_, one in self.templates.items()),
            areas=tuple(area.name for area in ar.async_get(self.hass).async_list_areas()),
        )

    async def async_read_templates(self) -> None:
        """Reads the own folder of meter models again."""
        await own_templates.async_read(self.hass, self.templates)
        self.intake.templates_changed()

    def detail(self, point: Point, of_line: str | None) -> Detail:
        """How many entities a point has: its own wish, else its line's, else what so many points bear."""
        for wish in (point.detail, of_line):
            if wish and wish != DETAIL_AUTO:
                return Detail(wish)
        return Detail.STANDARD if len(self.registry.points) <= STANDARD_UP_TO else Detail.LEAN

    async def async_texts(self, problems: tuple[Problem, ...] | list[Problem]) -> list[dict[str, Any]]:
        """Problems of an import with their text in Home Assistant's language."""
        language = self.hass.config.language
        texts = await translation.async_get_translations(self.hass, language, "exceptions", {DOMAIN})
        return [
            {
                "row": one.row,
                "column": one.column,
                "problem": one.key,
                "text": texts[f"component.{DOMAIN}.exceptions.{one.key}.message"].format(**one.placeholders),
            }
            for one in problems
        ]


SITE: HassKey[Site] = HassKey(f"{DOMAIN}_site")


@singleton(SITE, async_=True)
async def async_get_site(hass: HomeAssistant) -> Site:
    """The site, read from the disk by whoever asks first."""
    log = OperationLog(hass)

    async def journal(actor: access.Actor, action: str, before: dict[str, Any], after: dict[str, Any]) -> None:
        await log.async_write(actor, action, before=before, after=after)

    registry = Registry(hass, journal)
    await registry.async_load()
    templates: dict[str, Template] = {}
    await own_templates.async_read(hass, templates)
    zone = await dt_util.async_get_time_zone(registry.time_zone) if registry.time_zone else None
    ledger = SiteLedger(hass, registry)
    ledger.async_start()
    intake = Intake(hass, registry, templates, ledger)
    await intake.async_start()
    history = History(hass, registry, ledger, intake)
    history.async_start()
    gaps = Gaps(hass, ledger, intake)
    gaps.async_start()
    rules = AlarmRules(hass, log)
    await rules.async_load()
    alarms = SiteAlarms(hass, registry, templates, rules, AlarmStore(hass))
    await alarms.async_start()
    energy = AlarmEnergy(hass, registry, ledger, gaps, alarms, zone or dt_util.get_default_time_zone())
    energy.async_start()

    learned = Learned(hass)
    await learned.async_load()
    process = PollProcess(lambda text: _LOGGER.warning("The process that polls: %s", text), own_templates.folder(hass))

    async def stop(_event: Event) -> None:
        await process.stop()
        await alarms.async_stop()
        await intake.async_stop()
        await ledger.async_stop()

    hass.bus.async_listen_once(EVENT_HOMEASSISTANT_FINAL_WRITE, stop)
    return Site(hass, registry, log, templates, ledger, intake, history, gaps, alarms, learned, process, time_zone=zone)


def line_as_dict(entry: ConfigEntry) -> dict[str, Any]:
    """A line as the operation log shows it."""
    return {"title": entry.title, "data": dict(entry.data), "options": dict(entry.options)}


def flow_actor(operation: access.Operation) -> access.Actor:
    """Who is in a flow: the user of the request; the system where nobody asked over HTTP."""
    request = current_request.get()
    if request is None or (user := request.get("hass_user")) is None:
        return access.SYSTEM
    return access.check_user(user, operation)
