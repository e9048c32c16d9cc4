"""Registers of points, and how well a line does, as sensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from time import monotonic
from typing import Any, override

from homeassistant.components.sensor import (
    SensorDeviceClass,
    SensorEntity,
    SensorEntityDescription,
    SensorStateClass,
)
from homeassistant.const import EntityCategory
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback
from homeassistant.util import dt as dt_util

from .alarm_entities import site_alarm_sensors
from .completeness import ClockOffset, line_sensors, site_sensors
from .const import CONF_BILLING_DAY, CONF_BILLING_HOUR, Detail
from .coordinator import LineCoordinator
from .energy import GRACE, Billing, Closed, Period, end_of, energies_of, imported, start_of
from .engine import Flag, Point, PollReport
from .engine.model.interval import GROSS, IMPORT
from .engine.model.obis import Obis
from .engine.model.quantity import QUANTITIES, Kind, Measure, Quantity
from .entity import DIGITS, LineEntity, LineEntry, PointEntity, shown_value
from .wording import name_key

PARALLEL_UPDATES = 0
ENOUGH = 0.9
"""Share of the parts of a virtual point that must be known before its energy is shown."""

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

SPARING_S, SPARING = 15.0, 0.05
"""At detail lean, where fleets are large, a value that moves by less than this share is written this seldom: each
state costs Home Assistant's recorder a third of a millisecond. What is counted and what alarms see is not spared."""

# Values that only an electrician asks for are there at detail full, but switched off until somebody wants them.
_OFF_AT_FIRST = {Measure.PHASE_ANGLE, Measure.DISTORTION}


async def async_setup_entry(
    hass: HomeAssistant, entry: LineEntry, async_add_entities: AddConfigEntryEntitiesCallback
) -> None:
    """Adds the sensors of a line and of its points."""
    population = entry.runtime_data
    coordinator = population.coordinator
    async_add_entities(LineSensor(coordinator, description) for description in LINE_SENSORS)
    async_add_entities(line_sensors(coordinator))
    async_add_entities(site_sensors(hass, entry, coordinator.site))
    async_add_entities(site_alarm_sensors(hass, entry, coordinator.site))

    def make(point: Point) -> Iterator[PointEntity]:
        registers = coordinator.registers(point)
        yield from (RegisterSensor(coordinator, point, obis) for obis in registers)
        lean = coordinator.detail(point) is Detail.LEAN
        if point.virtual:
            yield IntervalEnergy(coordinator, point)
            yield from (PeriodEnergy(coordinator, point, one) for one in ((Period.DAY,) if lean else Period))
        elif not lean and {IMPORT, GROSS} & set(registers):
            yield from (PeriodEnergy(coordinator, point, one) for one in Period)
        if not point.virtual and not lean:
            yield ClockOffset(coordinator, point)

    await population.async_attach("sensor", make, async_add_entities)


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
        self._sparing = coordinator.detail(point) is Detail.LEAN
        self._written_at = 0.0
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

    @override
    def _may_wait(self, shown: tuple[bool, object]) -> bool:
        if not self._sparing:
            return False
        now = monotonic()
        was_there, before = self._written if isinstance(self._written, tuple) else (False, None)
        there, value = shown
        # What appears or goes, and all that is counted, is shown at once.
        known = was_there == there and isinstance(before, float) and isinstance(value, float)
        if known and now < self._written_at + SPARING_S and abs(value - before) <= SPARING * abs(before):
            return True
        self._written_at = now
        return False


def billing_of(coordinator: LineCoordinator) -> Billing:
    """When billing periods of a line's points begin."""
    options = coordinator.config_entry.options
    return Billing(int(options.get(CONF_BILLING_DAY, 1)), int(options.get(CONF_BILLING_HOUR, 0)))


class LedgerEnergy(PointEntity, SensorEntity):
    """Energy from the ledger. What it says holds whether the meter answers now or not."""

    _attr_device_class = SensorDeviceClass.ENERGY
    _attr_state_class: SensorStateClass | None = None
    _attr_extra_state_attributes: dict[str, Any] = {}  # noqa: RUF012
    _attr_native_unit_of_measurement = "kWh"
    _attr_suggested_display_precision = 2

    def __init__(self, coordinator: LineCoordinator, point: Point, key: str) -> None:
        self._energies = energies_of(coordinator.hass, coordinator.site)
        self._billing = billing_of(coordinator)
        self._attr_translation_key = key
        super().__init__(coordinator, point, key)

    @override
    async def async_added_to_hass(self) -> None:
        await super().async_added_to_hass()
        track = self._energies.async_track(self.point.id, self._billing, self._handle_coordinator_update)
        self.async_on_remove(track)
        self._take()

    @property
    @override
    def available(self) -> bool:
        # Without a value it is unknown, and says how much is known; without anything closed it is not there.
        return bool(self._attr_extra_state_attributes)

    @override
    def _shown(self) -> object:
        return self._attr_native_value, self._attr_extra_state_attributes


class PeriodEnergy(LedgerEnergy):
    """What a point has used in the hour, day, month or billing period that runs now.

    Without a state class: the statistic of the register (history.py) tells the same of every hour, put right by late
    data, which statistics of states never are; four more of each point would be four more rows an hour. Of a virtual
    point nothing is shown while much of its parts is not known: a difference of estimates says nothing.
    """

    def __init__(self, coordinator: LineCoordinator, point: Point, period: Period) -> None:
        self._period = period
        self._start: datetime | None = None
        self._end: datetime | None = None
        self._again: datetime | None = None
        super().__init__(coordinator, point, period)

    @property
    @override
    def available(self) -> bool:
        # Of a meter that has long been silent there is no energy of today.
        return super().available and self._end is not None and dt_util.utcnow() < self._end + GRACE

    @override
    def _take(self) -> None:
        closed = self._energies.closed(self.point.id, self._billing)
        if closed is None:
            return
        start, energy = closed.starts[self._period], closed.sums[self._period]
        if not self.point.virtual:
            energy = self._with_the_rest(closed, start, energy)
        if self._start != start:
            self._end = end_of(self._period, start, self._energies.zone, self._billing)
        self._start, self._attr_native_value = start, energy
        if self.point.virtual and closed.completeness(self._period) < ENOUGH:
            self._attr_native_value = None
        self._attr_extra_state_attributes = {
            "since": start.isoformat(),
            "completeness": round(closed.completeness(self._period), 4),
        }

    def _with_the_rest(self, closed: Closed, start: datetime, energy: Decimal) -> Decimal:
        """With what was counted after the last closed boundary; where that cannot be said, what was shown stays."""
        known = self.coordinator.values.get(self.point.id, {})
        if (reading := known.get(IMPORT, known.get(GROSS))) is None:
            return energy
        if reading.flags & {Flag.RESET, Flag.ROLL_OVER, Flag.SWAP}:
            self._again = reading.at
        rest = None
        zone = self._energies.zone
        same = reading.at <= closed.until or start_of(self._period, reading.at, zone, self._billing) == start
        if same and (self._again is None or self._again <= closed.until):
            rest = closed.since(self.point, reading)
        if rest is not None:
            return energy + rest
        shown = self._attr_native_value
        return max(energy, shown) if self._start == start and isinstance(shown, Decimal) else energy


class IntervalEnergy(LedgerEnergy):
    """What a virtual point made in the last closed interval, and how much of its parts is known."""

    def __init__(self, coordinator: LineCoordinator, point: Point) -> None:
        super().__init__(coordinator, point, "energy_interval")

    @override
    def _take(self) -> None:
        closed = self._energies.closed(self.point.id, self._billing)
        if closed is None or closed.last is None:
            return
        last = closed.last
        self._attr_native_value = imported(last.energies) if last.completeness >= ENOUGH else None
        self._attr_extra_state_attributes = {
            "start": last.start.isoformat(),
            "end": last.end.isoformat(),
            "completeness": round(last.completeness, 4),
            "parts_known": last.parts[0],
            "parts": last.parts[1],
        }


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
