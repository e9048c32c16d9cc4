"""Alarms of a line and of an area as events, for automations, history and the logbook."""

from __future__ import annotations

from datetime import datetime
from typing import override

from homeassistant.components.event import EventEntity
from homeassistant.core import CALLBACK_TYPE, HassJob, HomeAssistant, callback
from homeassistant.helpers import area_registry as ar
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers.device_registry import DeviceInfo
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback
from homeassistant.helpers.event import async_call_later

from .alarm_words import EVENTS, Alarm, audience_of
from .alarms import SiteAlarms
from .analytics import Analytics, AnalyticsEntry
from .completeness import claim_site, keeps_site
from .const import DOMAIN
from .engine import SITE
from .entity import LineEntry
from .place import area_of
from .reports import report_entities
from .site import Site

PARALLEL_UPDATES = 0
PAUSE_S = 1.0


async def async_setup_entry(
    hass: HomeAssistant, entry: LineEntry | AnalyticsEntry, async_add_entities: AddConfigEntryEntitiesCallback
) -> None:
    """Adds the events of reports; or of a line, and the first line also those of the areas and of the site."""
    if isinstance(entry.runtime_data, Analytics):
        async_add_entities(report_entities(entry.runtime_data))
        return
    site = entry.runtime_data.coordinator.site
    async_add_entities([LineAlarms(site.alarms, entry)])
    if keeps_site(site, entry):
        async_add_entities([SiteEvents(site.alarms, claim_site(hass, entry))])
        Areas(hass, entry, site, async_add_entities).async_start()


class AlarmEvents(EventEntity):
    """Base: tells each alarm that is to be told, of those that are of its part of the site."""

    _attr_has_entity_name = True
    _attr_should_poll = False
    _unrecorded_attributes = frozenset({"id", "link", "url"})

    def __init__(self, alarms: SiteAlarms, audience: str, device: DeviceInfo) -> None:
        self._alarms, self._audience = alarms, audience
        self._attr_unique_id = audience
        self._attr_event_types = [*map(str, EVENTS)]
        self._attr_device_info = device

    @override
    async def async_added_to_hass(self) -> None:
        self.async_on_remove(self._alarms.async_listen_events(self._told))

    @callback
    def _told(self, alarm: Alarm) -> None:
        if self._audience in alarm.audience:
            self._trigger_event(alarm.what, alarm.as_attributes())
            self.async_write_ha_state()


class LineAlarms(AlarmEvents):
    """Of the line itself and of the points on it."""

    _attr_translation_key = "line_alarms"

    def __init__(self, alarms: SiteAlarms, entry: LineEntry) -> None:
        device = DeviceInfo(identifiers={(DOMAIN, entry.entry_id)})
        super().__init__(alarms, f"{entry.entry_id}_alarms", device)


class SiteEvents(AlarmEvents):
    """Of everything."""

    _attr_translation_key = "site_alarms"

    def __init__(self, alarms: SiteAlarms, device: DeviceInfo) -> None:
        super().__init__(alarms, audience_of(SITE), device)


class AreaAlarms(AlarmEvents):
    """Of the points in an area."""

    _attr_translation_key = "area_alarms"

    def __init__(self, alarms: SiteAlarms, area: ar.AreaEntry, device: DeviceInfo) -> None:
        super().__init__(alarms, audience_of(f"area_{area.id}"), device)
        self._area = area.id
        self._attr_translation_placeholders = {"area": area.name}

    @override
    async def async_added_to_hass(self) -> None:
        await super().async_added_to_hass()
        # Who chooses the area in an automation means its alarms, too.
        entities = er.async_get(self.hass)
        if (entry := entities.async_get(self.entity_id)) is not None and entry.area_id is None:
            entities.async_update_entity(self.entity_id, area_id=self._area)


class Areas:
    """Keeps events of those areas in which there are points."""

    def __init__(self, hass: HomeAssistant, entry: LineEntry, site: Site, add: AddConfigEntryEntitiesCallback) -> None:
        self._hass, self._entry, self._site, self._add = hass, entry, site, add
        self._device = claim_site(hass, entry)
        self._there: dict[str, AreaAlarms] = {}
        self._timer: CALLBACK_TYPE | None = None

    @callback
    def async_start(self) -> None:
        """Adds those there are now, and follows points and areas until the line ends."""
        self._look()
        self._entry.async_on_unload(self._site.registry.async_listen(self._soon))
        bus = self._hass.bus
        self._entry.async_on_unload(bus.async_listen(ar.EVENT_AREA_REGISTRY_UPDATED, self._soon))
        self._entry.async_on_unload(bus.async_listen(dr.EVENT_DEVICE_REGISTRY_UPDATED, self._soon))
        self._entry.async_on_unload(self._stop)

    @callback
    def _soon(self, _what: object) -> None:
        # A device has its area only after its first entity was added; changes of a list come in hundreds.
        if self._timer is None:
            self._timer = async_call_later(self._hass, PAUSE_S, HassJob(self._look, cancel_on_shutdown=True))

    @callback
    def _stop(self) -> None:
        if self._timer is not None:
            self._timer()

    @callback
    def _look(self, _now: datetime | None = None) -> None:
        self._timer = None
        found = (area_of(self._hass, point) for point in self._site.registry.points.values())
        areas = {area.id: area for area in found if area is not None}
        new = {id_: AreaAlarms(self._site.alarms, areas[id_], self._device) for id_ in areas.keys() - self._there}
        self._there |= new
        if new:
            self._add(new.values())
        for gone in self._there.keys() - areas.keys():
            entity = self._there.pop(gone)
            if entity.entity_id:
                er.async_get(self._hass).async_remove(entity.entity_id)
