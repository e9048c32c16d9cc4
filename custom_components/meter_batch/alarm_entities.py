"""Whether there is an alarm at a point, and how many there are at the site."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import override

from homeassistant.components.binary_sensor import BinarySensorEntity
from homeassistant.components.binary_sensor.const import BinarySensorDeviceClass
from homeassistant.components.sensor import SensorEntity, SensorStateClass
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.device_registry import DeviceInfo
from homeassistant.helpers.entity import Entity

from .alarms import SiteAlarms, is_shown
from .completeness import SITE_DEVICE, claim_site, keeps_site
from .const import DOMAIN
from .coordinator import LineCoordinator
from .engine import AlarmState, Change, Finding, Point, Severity
from .entity import LineEntry, PointEntity
from .site import Site

MOST_TEXTS = 10
"""So many alarms stand in an attribute in words; states are no place for long lists."""


class PointAlarm(PointEntity, BinarySensorEntity):
    """On while something is wrong at a point that no other alarm explains and nobody has put aside."""

    _attr_device_class = BinarySensorDeviceClass.PROBLEM
    _unrecorded_attributes = frozenset({"alarms", "unacknowledged"})

    def __init__(self, coordinator: LineCoordinator, point: Point) -> None:
        self._alarms = coordinator.site.alarms
        self._attr_translation_key = "alarm"
        super().__init__(coordinator, point, "alarm")

    @override
    async def async_added_to_hass(self) -> None:
        await super().async_added_to_hass()
        self.async_on_remove(self._alarms.async_follow(self.point.id, self._handle_coordinator_update))

    @property
    @override
    def available(self) -> bool:
        # What was found stays known while the meter is silent: that may be the very alarm.
        return True

    @override
    def _take(self) -> None:
        found = self._alarms.of(self.point.id)
        self._attr_is_on = bool(found)
        self._attr_extra_state_attributes = {
            "severity": found[0].severity.value if found else None,
            "since": min(one.since for one in found).isoformat() if found else None,
            "count": len(found),
            "unacknowledged": sum(one.state is AlarmState.UNACKNOWLEDGED for one in found),
            "alarms": [self._alarms.words.text(one) for one in found[:MOST_TEXTS]],
        }

    @override
    def _shown(self) -> object:
        return self._attr_is_on, *self._attr_extra_state_attributes.values()


class AlarmCount(SensorEntity):
    """How many findings of the site are of a kind."""

    _attr_has_entity_name = True
    _attr_should_poll = False
    _attr_state_class = SensorStateClass.MEASUREMENT

    def __init__(self, alarms: SiteAlarms, key: str, device: DeviceInfo) -> None:
        self._alarms = alarms
        self._attr_unique_id = f"{DOMAIN}_{SITE_DEVICE}_{key}"
        self._attr_translation_key = key
        self._attr_device_info = device
        self._attr_native_value = self._count()

    @override
    async def async_added_to_hass(self) -> None:
        self.async_on_remove(self._alarms.async_listen(self._changed))
        self._attr_native_value = self._count()

    @callback
    def _changed(self, _changes: list[Change]) -> None:
        count = self._count()
        if count != self._attr_native_value:
            self._attr_native_value = count
            self.async_write_ha_state()

    def _count(self) -> int:
        return sum(self._wanted(one) for one in self._alarms.noted)

    @abstractmethod
    def _wanted(self, finding: Finding) -> bool:
        """Whether a finding counts."""


class ActiveAlarms(AlarmCount):
    """That last now, of one severity."""

    def __init__(self, alarms: SiteAlarms, severity: Severity, device: DeviceInfo) -> None:
        self._severity = severity
        super().__init__(alarms, f"alarms_{severity}", device)

    @override
    def _wanted(self, finding: Finding) -> bool:
        return finding.severity is self._severity and is_shown(finding)


class UnacknowledgedAlarms(AlarmCount):
    """That nobody has taken note of, whether they last or not."""

    def __init__(self, alarms: SiteAlarms, device: DeviceInfo) -> None:
        super().__init__(alarms, "alarms_unacknowledged", device)

    @override
    def _wanted(self, finding: Finding) -> bool:
        return finding.state in (AlarmState.UNACKNOWLEDGED, AlarmState.RETURNED)


def site_alarm_sensors(hass: HomeAssistant, entry: LineEntry, site: Site) -> Iterable[Entity]:
    """Counts of the site; none where another line has them already."""
    if not keeps_site(site, entry):
        return ()
    device = claim_site(hass, entry)
    counts: list[Entity] = [ActiveAlarms(site.alarms, severity, device) for severity in Severity]
    return [*counts, UnacknowledgedAlarms(site.alarms, device)]
