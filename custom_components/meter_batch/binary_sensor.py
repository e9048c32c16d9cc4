"""What is wrong: with a meter, and with the line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import override

from homeassistant.components.binary_sensor import BinarySensorEntity
from homeassistant.components.binary_sensor.const import BinarySensorDeviceClass
from homeassistant.const import EntityCategory
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .alarm_entities import PointAlarm
from .causes import Cause, told
from .completeness import site_binary_sensors
from .coordinator import LineCoordinator
from .engine import Point
from .entity import LineEntity, LineEntry, PointEntity

PARALLEL_UPDATES = 0


async def async_setup_entry(
    hass: HomeAssistant, entry: LineEntry, async_add_entities: AddConfigEntryEntitiesCallback
) -> None:
    """Adds the connection of a line, and of each of its points what is wrong with the meter and with its values."""
    population = entry.runtime_data
    coordinator = population.coordinator
    async_add_entities([LineConnected(coordinator)])
    async_add_entities(site_binary_sensors(hass, entry, coordinator.site))

    def make(point: Point) -> Iterable[PointEntity]:
        if not point.virtual:
            yield Problem(coordinator, point)
        yield PointAlarm(coordinator, point)

    await population.async_attach("binary_sensor", make, async_add_entities)


class Problem(PointEntity, BinarySensorEntity):
    """On while a meter does not answer, answers badly, or sends values that cannot be."""

    _attr_translation_key = "problem"
    _attr_device_class = BinarySensorDeviceClass.PROBLEM
    _attr_entity_category = EntityCategory.DIAGNOSTIC
    _unrecorded_attributes = frozenset({"explanation", "causes"})

    def __init__(self, coordinator: LineCoordinator, point: Point) -> None:
        super().__init__(coordinator, point, "problem")

    @property
    @override
    def available(self) -> bool:
        # A silent meter is the very thing this entity tells; only without the line nothing can be said.
        return self.coordinator.last_update_success

    @override
    def _take(self) -> None:
        point, causes = self.point.id, self.coordinator.causes
        problem = self.coordinator.problems.get(point)
        known = problem is not None or point in self.coordinator.values
        reason = problem.reason if problem else "none"
        if point in causes.swaps:
            reason = "wrong_meter"
        elif problem is None and causes.is_another_model(point):
            reason = "implausible"
        elif problem is None and point in causes.since:
            reason = "other"
        self._attr_is_on = True if reason != "none" else False if known else None
        likeliest = causes.likeliest(point)
        self._attr_extra_state_attributes = {
            "reason": reason,
            "explanation": self.coordinator.explanation(point),
            "cause": None if likeliest is None else likeliest.cause,
            "causes": told(self.coordinator.hass, causes.diagnoses.get(point, ())),
        }

    @override
    def _shown(self) -> object:
        # Likelihoods move with every failure; what is worth a state is another cause.
        shown = self._attr_extra_state_attributes
        return self._attr_is_on, shown["reason"], shown["explanation"], *(one["cause"] for one in shown["causes"])


class LineConnected(LineEntity, BinarySensorEntity):
    """Off while the port or gateway of the line is gone. What else is wrong with the line as a whole stands beside."""

    _attr_device_class = BinarySensorDeviceClass.CONNECTIVITY
    _attr_entity_category = EntityCategory.DIAGNOSTIC
    _unrecorded_attributes = frozenset({"explanation", "causes"})

    def __init__(self, coordinator: LineCoordinator) -> None:
        super().__init__(coordinator, "line_connected")

    @property
    @override
    def is_on(self) -> bool | None:
        report = self.coordinator.data
        return None if report is None else report.health.connected

    @property
    @override
    def extra_state_attributes(self) -> dict[str, str | list[Cause] | None]:
        found = self.coordinator.causes.of_line()
        return {
            "explanation": self.coordinator.line_explanation(),
            "cause": next((one.cause for one in found if not one.handled), None),
            "causes": told(self.coordinator.hass, found),
        }
