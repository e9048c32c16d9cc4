"""Registers of points, and how well a line does, as sensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import override

from homeassistant.components.sensor import (
    SensorDeviceClass,
    SensorEntity,
    SensorEntityDescription,
    SensorStateClass,
)
from homeassistant.const import EntityCategory
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .coordinator import LineCoordinator
from .engine import Point, PollReport
from .engine.model.obis import Obis
from .engine.model.quantity import QUANTITIES, Kind, Measure, Quantity
from .entity import DIGITS, LineEntity, LineEntry, PointEntity, shown_value
from .wording import name_key

PARALLEL_UPDATES = 0

_CLASSES = {
    Measure.ACTIVE_ENERGY: SensorDeviceClass.ENERGY,
    Measure.REACTIVE_ENERGY: SensorDeviceClass.REACTIVE_ENERGY,
    Measure.ACTIVE_POWER: SensorDeviceClass.POWER,
    Measure.REACTIVE_POWER: SensorDeviceClass.REACTIVE_POWER,
    Measure.APPARENT_POWER: SensorDeviceClass.APPARENT_POWER,
    Measure.DEMAND: SensorDeviceClass.POWER,
    Measure.VOLTAGE: SensorDeviceClass.VOLTAGE,
    Measure.CURRENT: SensorDeviceClass.CURRENT,
    Measure.POWER_FACTOR: SensorDeviceClass.POWER_FACTOR,
    Measure.FREQUENCY: SensorDeviceClass.FREQUENCY,
    Measure.TEMPERATURE: SensorDeviceClass.TEMPERATURE,
}
"""Home Assistant has no class for apparent energy, angles and distortion."""

# Values that only an electrician asks for are there at detail full, but switched off until somebody wants them.
_OFF_AT_FIRST = {Measure.PHASE_ANGLE, Measure.DISTORTION}


async def async_setup_entry(
    _hass: HomeAssistant, entry: LineEntry, async_add_entities: AddConfigEntryEntitiesCallback
) -> None:
    """Adds the sensors of a line and of its points."""
    population = entry.runtime_data
    coordinator = population.coordinator
    async_add_entities(LineSensor(coordinator, description) for description in LINE_SENSORS)

    def make(point: Point) -> Iterable[RegisterSensor]:
        return (RegisterSensor(coordinator, point, obis) for obis in coordinator.registers(point))

    population.async_attach("sensor", make, async_add_entities)


def describe(quantity: Quantity, *, with_statistics: bool) -> SensorEntityDescription:
    """How a register looks as a sensor."""
    energy = quantity.measure in {Measure.ACTIVE_ENERGY, Measure.REACTIVE_ENERGY, Measure.APPARENT_ENERGY}
    state_class: SensorStateClass | None = SensorStateClass.MEASUREMENT
    if energy and not with_statistics:
        state_class = None  # energies have a statistic of their own (history.py)
    elif energy:
        state_class = SensorStateClass.TOTAL if quantity.kind is Kind.BALANCE else SensorStateClass.TOTAL_INCREASING
    elif quantity.kind is Kind.MAXIMUM:
        state_class = None
    return SensorEntityDescription(
        key=quantity.key,
        translation_key=name_key(quantity),
        device_class=_CLASSES.get(quantity.measure),
        native_unit_of_measurement=quantity.unit or None,
        state_class=state_class,
        suggested_display_precision=DIGITS[quantity.measure],
        entity_registry_enabled_default=quantity.measure not in _OFF_AT_FIRST,
        entity_category=EntityCategory.DIAGNOSTIC if quantity.measure is Measure.TEMPERATURE else None,
    )


class RegisterSensor(PointEntity, SensorEntity):
    """One register of one point."""

    def __init__(self, coordinator: LineCoordinator, point: Point, obis: Obis) -> None:
        quantity = QUANTITIES[obis]
        self._obis = obis
        self.entity_description = describe(quantity, with_statistics=coordinator.entity_statistics)
        if quantity.tariff:
            self._attr_translation_placeholders = {"tariff": str(quantity.tariff)}
        super().__init__(coordinator, point, quantity.key)

    @override
    def _take(self) -> None:
        reading = self.coordinator.values.get(self.point.id, {}).get(self._obis)
        self._attr_native_value = None if reading is None else shown_value(reading)

    @override
    def _shown(self) -> object:
        return self._attr_native_value


@dataclass(frozen=True, kw_only=True)
class LineSensorDescription(SensorEntityDescription):
    """A figure about the line, taken from a report."""

    value: Callable[[PollReport], float | int | None]


def _rounded(value: float | None, digits: int, times: float = 1.0) -> float | None:
    return None if value is None else round(value * times, digits)


LINE_SENSORS = (
    LineSensorDescription(
        key="line_success_rate",
        native_unit_of_measurement="%",
        state_class=SensorStateClass.MEASUREMENT,
        suggested_display_precision=1,
        value=lambda report: _rounded(report.health.success_rate, 1, 100),
    ),
    LineSensorDescription(
        key="line_latency",
        device_class=SensorDeviceClass.DURATION,
        native_unit_of_measurement="ms",
        state_class=SensorStateClass.MEASUREMENT,
        suggested_display_precision=0,
        value=lambda report: _rounded(report.health.latency_s, 0, 1000),
    ),
    LineSensorDescription(
        key="line_cycle",
        device_class=SensorDeviceClass.DURATION,
        native_unit_of_measurement="s",
        state_class=SensorStateClass.MEASUREMENT,
        suggested_display_precision=1,
        value=lambda report: _rounded(report.health.cycle_s, 1),
    ),
    LineSensorDescription(key="line_silent", value=lambda report: len(report.silent)),
    LineSensorDescription(
        key="line_exchanges",
        state_class=SensorStateClass.TOTAL_INCREASING,
        entity_registry_enabled_default=False,
        value=lambda report: report.health.counters.exchanges,
    ),
    LineSensorDescription(
        key="line_timeouts",
        state_class=SensorStateClass.TOTAL_INCREASING,
        entity_registry_enabled_default=False,
        value=lambda report: report.health.counters.timeouts,
    ),
    LineSensorDescription(
        key="line_damaged",
        state_class=SensorStateClass.TOTAL_INCREASING,
        entity_registry_enabled_default=False,
        value=lambda report: report.health.counters.damaged,
    ),
)


class LineSensor(LineEntity, SensorEntity):
    """How well a line does."""

    entity_description: LineSensorDescription
    _attr_entity_category = EntityCategory.DIAGNOSTIC
    _unrecorded_attributes = frozenset({"meters"})

    def __init__(self, coordinator: LineCoordinator, description: LineSensorDescription) -> None:
        super().__init__(coordinator, description.key)
        self.entity_description = description

    @property
    @override
    def native_value(self) -> float | int | None:
        report = self.coordinator.data
        return None if report is None else self.entity_description.value(report)

    @property
    @override
    def extra_state_attributes(self) -> dict[str, list[str]] | None:
        if self.entity_description.key != "line_silent":
            return None
        points = self.coordinator.site.registry.points
        return {"meters": sorted(points[id_].name for id_ in self.coordinator.silent if id_ in points)}
