"""Entities about the ledger: what is missing on a line and on the whole site, back-fill, the ledger itself."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, override

from homeassistant.components.binary_sensor import BinarySensorEntity
from homeassistant.components.binary_sensor.const import BinarySensorDeviceClass
from homeassistant.components.sensor import SensorDeviceClass, SensorEntity, SensorStateClass
from homeassistant.const import EntityCategory
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers.device_registry import DeviceEntryType, DeviceInfo
from homeassistant.helpers.entity import Entity

from .const import DOMAIN, MANUFACTURER
from .coordinator import LineCoordinator
from .engine import Point
from .entity import LineEntry, PointEntity, populations
from .site import Site
from .wording import in_words

SITE_DEVICE = "site"
MOST_NAMES = 20


class LedgerEntity(Entity):
    """Base: looks again every half minute."""

    _attr_has_entity_name = True
    _attr_should_poll = False
    _attr_entity_category = EntityCategory.DIAGNOSTIC

    def __init__(self, site: Site, owner: str, key: str, device: DeviceInfo) -> None:
        self._site = site
        self._attr_unique_id = f"{owner}_{key}"
        self._attr_translation_key = key
        self._attr_device_info = device

    @override
    async def async_added_to_hass(self) -> None:
        self.async_on_remove(self._site.gaps.async_listen(self.async_write_ha_state))


@dataclass(frozen=True, slots=True)
class Scope:
    """A line or all of them."""

    site: Site
    lines: Callable[[], Collection[LineCoordinator]]
    owner: str
    prefix: str
    device: DeviceInfo

    def points(self) -> set[str]:
        """The points in it."""
        return {point.id for line in self.lines() for point in line.points()}

    def entity(self, kind: type[ScopeSensor], key: str) -> ScopeSensor:
        """One of its entities."""
        return kind(self, f"{self.prefix}_{key}")


class ScopeSensor(LedgerEntity, SensorEntity):
    """Something about a line or the site."""

    def __init__(self, scope: Scope, key: str) -> None:
        super().__init__(scope.site, scope.owner, key, scope.device)
        self._scope = scope


class PointsWithGaps(ScopeSensor):
    """How many points have gaps; beside it how many intervals are missing, since when, and of which meters."""

    _unrecorded_attributes = frozenset({"meters"})
    _attr_state_class = SensorStateClass.MEASUREMENT

    @property
    @override
    def native_value(self) -> int:
        return len(self._site.gaps.missing(self._scope.points()).points)

    @property
    @override
    def extra_state_attributes(self) -> dict[str, Any]:
        missing = self._site.gaps.missing(self._scope.points())
        points = self._site.registry.points
        return {
            "missing": missing.intervals,
            "since": missing.since,
            "meters": sorted(points[id_].name for id_ in missing.points)[:MOST_NAMES],
        }


class BackfillOutstanding(ScopeSensor):
    """How many boundaries are still to be read from the meters' memory."""

    _attr_state_class = SensorStateClass.MEASUREMENT

    @property
    @override
    def native_value(self) -> int:
        return sum(line.data.backfill.outstanding for line in self._scope.lines() if line.data is not None)


class BackfillFinish(ScopeSensor):
    """When that will be done, as things are."""

    _attr_device_class = SensorDeviceClass.TIMESTAMP

    @property
    @override
    def native_value(self) -> datetime | None:
        found = [line.data.backfill.finish_at for line in self._scope.lines() if line.data is not None]
        latest = max((one for one in found if one is not None), default=None)
        # To the minute, or it would be another state with every look.
        return None if latest is None else latest.replace(second=0, microsecond=0)


def _of(scope: Scope) -> list[ScopeSensor]:
    return [
        scope.entity(PointsWithGaps, "gaps"),
        scope.entity(BackfillOutstanding, "backfill"),
        scope.entity(BackfillFinish, "backfill_finish"),
    ]


class LedgerSize(LedgerEntity, SensorEntity):
    """How large the file of the ledger is."""

    _attr_device_class = SensorDeviceClass.DATA_SIZE
    _attr_native_unit_of_measurement = "MB"
    _attr_suggested_display_precision = 1
    _attr_state_class = SensorStateClass.MEASUREMENT

    @property
    @override
    def native_value(self) -> float:
        return round(self._site.ledger.health.size_bytes / 1e6, 1)


class LedgerPending(LedgerEntity, SensorEntity):
    """Records that wait in memory because the ledger could not be written."""

    _attr_state_class = SensorStateClass.MEASUREMENT
    _unrecorded_attributes = frozenset({"dropped"})

    @property
    @override
    def native_value(self) -> int:
        return self._site.intake.pending

    @property
    @override
    def extra_state_attributes(self) -> dict[str, int]:
        return {"dropped": self._site.intake.dropped}


class LedgerProblem(LedgerEntity, BinarySensorEntity):
    """On while the ledger cannot be written."""

    _attr_device_class = BinarySensorDeviceClass.PROBLEM
    _unrecorded_attributes = frozenset({"explanation"})

    @property
    @override
    def is_on(self) -> bool:
        return self._site.ledger.health.problem is not None

    @property
    @override
    def extra_state_attributes(self) -> dict[str, str | None]:
        problem = self._site.ledger.health.problem
        return {"explanation": None if problem is None else in_words(self.hass, problem)}


class ClockOffset(PointEntity, SensorEntity):
    """How far the meter's clock is ahead of the true time."""

    _attr_translation_key = "clock_offset"
    _attr_device_class = SensorDeviceClass.DURATION
    _attr_native_unit_of_measurement = "s"
    _attr_entity_category = EntityCategory.DIAGNOSTIC
    _attr_entity_registry_enabled_default = False
    _attr_state_class = SensorStateClass.MEASUREMENT
    _attr_suggested_display_precision = 0

    def __init__(self, coordinator: LineCoordinator, point: Point) -> None:
        super().__init__(coordinator, point, "clock_offset")

    @override
    def _take(self) -> None:
        clock = self.coordinator.clocks.get(self.point.id)
        self._attr_native_value = None if clock is None else round(clock.offset_s, 1)
        drift = None if clock is None else clock.drift_s_per_day
        self._attr_extra_state_attributes = {
            "read_at": None if clock is None else clock.at,
            "drift_s_per_day": None if drift is None else round(drift, 2),
        }

    @override
    def _shown(self) -> object:
        return self._attr_native_value, self._attr_extra_state_attributes


def line_sensors(coordinator: LineCoordinator) -> Iterable[Entity]:
    """What is missing on a line."""
    entry_id = coordinator.config_entry.entry_id
    device = DeviceInfo(identifiers={(DOMAIN, entry_id)})
    return _of(Scope(coordinator.site, lambda: [coordinator], entry_id, "line", device))


def site_sensors(hass: HomeAssistant, entry: LineEntry, site: Site) -> Iterable[Entity]:
    """The same for the site, and its ledger; none where another line has them already."""
    if not keeps_site(site, entry):
        return ()
    device = claim_site(hass, entry)
    scope = Scope(
        site, lambda: [one.coordinator for one in populations(hass).values()], f"{DOMAIN}_{SITE_DEVICE}", "site", device
    )
    owner = scope.owner
    return [
        *_of(scope),
        LedgerSize(site, owner, "ledger_size", device),
        LedgerPending(site, owner, "ledger_pending", device),
    ]


def site_binary_sensors(hass: HomeAssistant, entry: LineEntry, site: Site) -> Iterable[Entity]:
    """Whether the ledger has a problem."""
    if not keeps_site(site, entry):
        return ()
    return [LedgerProblem(site, f"{DOMAIN}_{SITE_DEVICE}", "ledger_problem", claim_site(hass, entry))]


@callback
def keeps_site(site: Site, entry: LineEntry) -> bool:
    """True of the one line that bears the entities of the site, for a device belongs to one entry: the first to run."""
    site.keeper = site.keeper or entry.entry_id
    return site.keeper == entry.entry_id


@callback
def leave_site(hass: HomeAssistant, site: Site, entry: LineEntry) -> None:
    """A line runs no longer; where it does not come back, another one bears the entities of the site."""
    if site.keeper == entry.entry_id:
        site.keeper = None
    others = [other for other in populations(hass) if other != entry.entry_id]
    if site.keeper is None and others:
        hass.config_entries.async_schedule_reload(others[0])


@callback
def claim_site(hass: HomeAssistant, entry: LineEntry) -> DeviceInfo:
    """The device of the site, made this line's where another bore it."""
    identifier = (DOMAIN, SITE_DEVICE)
    devices, entities = dr.async_get(hass), er.async_get(hass)
    for device in devices.async_get_devices(identifiers={identifier}):
        if device.config_entry_id != entry.entry_id:
            ids = [one.entity_id for one in er.async_entries_for_device(entities, device.id, True)]
            # First the entities: those that the old line still owns when the device leaves it would be removed.
            for entity_id in ids:
                entities.async_update_entity(entity_id, config_entry_id=entry.entry_id, device_id=None)
            devices.async_update_device(device.id, new_config_entry_id=entry.entry_id)
            for entity_id in ids:
                entities.async_update_entity(entity_id, device_id=device.id)
    return DeviceInfo(
        identifiers={identifier}, name=MANUFACTURER, manufacturer=MANUFACTURER, entry_type=DeviceEntryType.SERVICE
    )
