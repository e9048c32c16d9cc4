"""Entities of points and lines, and the population of a line: which entities there are, kept true to the registry."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, override

from homeassistant.config_entries import ConfigEntry, ConfigEntryState
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers.device_registry import DeviceInfo
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback
from homeassistant.helpers.update_coordinator import CoordinatorEntity

from .cells import write_formula
from .const import DOMAIN, MANUFACTURER, Detail
from .coordinator import LineCoordinator
from .engine import Point
from .engine.model.obis import Obis
from .engine.model.quantity import QUANTITIES, Measure
from .engine.model.reading import Reading
from .link import lines
from .place import device_of
from .turns import Turns

type LineEntry = ConfigEntry[Population]

DIGITS = {
    Measure.ACTIVE_ENERGY: 2,
    Measure.REACTIVE_ENERGY: 2,
    Measure.APPARENT_ENERGY: 2,
    Measure.ACTIVE_POWER: 3,
    Measure.REACTIVE_POWER: 3,
    Measure.APPARENT_POWER: 3,
    Measure.DEMAND: 3,
    Measure.VOLTAGE: 1,
    Measure.CURRENT: 3,
    Measure.POWER_FACTOR: 3,
    Measure.FREQUENCY: 2,
    Measure.PHASE_ANGLE: 1,
    Measure.DISTORTION: 2,
    Measure.TEMPERATURE: 1,
}
"""Decimals shown; instantaneous values are rounded to them, so that noise below makes no new states."""


class MeterBatchEntity(CoordinatorEntity[LineCoordinator]):
    """Base of all entities."""

    _attr_has_entity_name = True

    @override
    def get_initial_entity_options(self) -> er.EntityOptionsType | None:
        # Thousands of meters are not what people talk to their house about, and deciding so for each one later
        # would write the registry once more for each.
        return {**(super().get_initial_entity_options() or {}), "conversation": {"should_expose": False}}


class LineEntity(MeterBatchEntity):
    """Something about the line itself, on its hub device."""

    def __init__(self, coordinator: LineCoordinator, key: str) -> None:
        super().__init__(coordinator)
        entry = coordinator.config_entry
        self._attr_unique_id = f"{entry.entry_id}_{key}"
        self._attr_translation_key = key
        self._attr_device_info = DeviceInfo(identifiers={(DOMAIN, entry.entry_id)})

    @property
    @override
    def available(self) -> bool:
        return self.coordinator.data is not None


class PointEntity(MeterBatchEntity):
    """Something about a point. The point may be renamed, given another meter or another address under it."""

    def __init__(self, coordinator: LineCoordinator, point: Point, key: str) -> None:
        super().__init__(coordinator, context=point.id)
        self.point = point
        self._attr_unique_id = f"{point.id}_{key}"
        self._attr_device_info = device_info(coordinator, point)
        self._written: object = None
        self._take()

    @property
    @override
    def available(self) -> bool:
        return self.coordinator.good(self.point.id)

    @abstractmethod
    def _take(self) -> None:
        """Sets the attributes from what the coordinator knows."""

    @abstractmethod
    def _shown(self) -> object:
        """What is worth writing a state for when it changes."""

    @callback
    @override
    def _handle_coordinator_update(self) -> None:
        self._take()
        shown = (self.available, self._shown())
        if shown != self._written and not self._may_wait(shown):
            self._written = shown
            self.async_set_context(self.coordinator.context)
            self.async_write_ha_state()

    def _may_wait(self, _shown: tuple[bool, object]) -> bool:
        """Whether this change is too small to be written at once; it is written with a later report."""
        return False


def device_info(coordinator: LineCoordinator, point: Point) -> DeviceInfo:
    """The device of a point: the meter that is installed there, or what a virtual one is made of."""
    if point.virtual:
        names = {id_: one.name for id_, one in coordinator.site.registry.points.items()}
        formula = write_formula((term.sign, names.get(term.point, term.point)) for term in point.formula)
        return DeviceInfo(
            identifiers={(DOMAIN, point.id)},
            name=point.name,
            manufacturer=MANUFACTURER,
            model=f"Σ {formula}"[:255],
            model_id=None,
            serial_number=None,
            suggested_area=point.area,
            via_device_id=coordinator.hub_id,
        )
    template = coordinator.site.templates.get(point.meter.template)
    return DeviceInfo(
        identifiers={(DOMAIN, point.id)},
        name=point.name,
        manufacturer=template.vendor if template else None,
        model=template.model if template else point.meter.template,
        model_id=point.meter.template,
        serial_number=point.meter.serial,
        suggested_area=point.area,
        via_device_id=coordinator.hub_id,
    )


def shown_value(reading: Reading) -> Decimal | float:
    """The value as entities and answers show it: a counter to its last digit, what is measured now rounded."""
    if isinstance(reading.value, Decimal):
        return reading.value
    # + 0.0: a power of −0.0 is a power of 0
    return round(float(reading.value), DIGITS[QUANTITIES[reading.obis].measure]) + 0.0


type Maker = Callable[[Point], Iterable[PointEntity]]


class Population:
    """The entities of the points on one line. Changes of the registry are applied live, without a reload."""

    def __init__(self, coordinator: LineCoordinator) -> None:
        self.coordinator = coordinator
        self._hass: HomeAssistant = coordinator.hass
        self._makers: list[tuple[str, Maker, AddConfigEntryEntitiesCallback]] = []
        self._there: dict[str, dict[str, PointEntity]] = {}
        self._made_for: dict[str, tuple[Detail, tuple[Obis, ...]]] = {}

    async def async_attach(self, platform: str, maker: Maker, add: AddConfigEntryEntitiesCallback) -> None:
        """A platform says how it makes the entities of a point, and gets those of all points now."""
        self._makers.append((platform, maker, add))
        async with self.coordinator.site.populating:
            turns = Turns()
            for point in list(self.coordinator.points()):
                self.async_claim(point)
                await turns.pause()
                if new := self._missing(point, maker):
                    add(new)
                    await turns.pause()

    @callback
    def outdated(self, point: Point) -> bool:
        """True where a point should have other entities than it has, because the size of the fleet changed."""
        return self._made_for.get(point.id) != self._made_of(point)

    def _made_of(self, point: Point) -> tuple[Detail, tuple[Obis, ...]]:
        return self.coordinator.detail(point), self.coordinator.registers(point)

    @property
    def there(self) -> frozenset[str]:
        """The points that have entities here."""
        return frozenset(self._there)

    def _missing(self, point: Point, maker: Maker) -> list[PointEntity]:
        there = self._there.setdefault(point.id, {})
        self._made_for[point.id] = self._made_of(point)
        found = [entity for entity in maker(point) if entity.unique_id not in there]
        there.update((entity.unique_id or "", entity) for entity in found)
        return found

    async def async_sync(self, points: Iterable[Point]) -> None:
        """Makes entities and devices of these points what the registry says now."""
        async with self.coordinator.site.populating:
            turns = Turns()
            for point in points:
                self._drop_unwanted(point)
                await turns.pause()
                for _, maker, add in self._makers:
                    if new := self._missing(point, maker):
                        add(new)
                        await turns.pause()

    def _drop_unwanted(self, point: Point) -> None:
        self.async_claim(point)
        there = self._there.setdefault(point.id, {})
        wanted = {entity.unique_id for _, maker, _ in self._makers for entity in maker(point)}
        registry = er.async_get(self._hass)
        for unique_id in [one for one in there if one not in wanted]:
            entity = there.pop(unique_id)
            if entity.entity_id and registry.async_get(entity.entity_id):
                registry.async_remove(entity.entity_id)
        self._forget_unwanted(point, wanted)
        for entity in there.values():
            entity.point = point
            entity._attr_device_info = device_info(self.coordinator, point)

    def _forget_unwanted(self, point: Point, wanted: set[str | None]) -> None:
        """Registry entries of entities that were disabled, or made before a restart, and are no longer wanted."""
        registry = er.async_get(self._hass)
        if (device := self._device(point.id)) is None:
            return
        for entry in er.async_entries_for_device(registry, device.id, include_disabled_entities=True):
            if entry.platform == DOMAIN and entry.unique_id not in wanted:
                registry.async_remove(entry.entity_id)

    async def async_leave(self, point: str) -> None:
        """Takes the entities of a point off this line; their registry entries stay, so that they can move."""
        for entity in self._there.pop(point, {}).values():
            if entity.hass is not None and entity.entity_id:
                await entity.async_remove()
        self.coordinator.async_forget(point)

    def _device(self, point: str) -> dr.DeviceEntry | None:
        return device_of(self._hass, point)

    @callback
    def async_claim(self, point: Point) -> None:
        """Makes the device of a point this line's, with all its entities, and up to date."""
        coordinator = self.coordinator
        if (device := self._device(point.id)) is None:
            return
        entry_id = coordinator.config_entry.entry_id
        devices, entities = dr.async_get(self._hass), er.async_get(self._hass)
        changes: dict[str, Any] = {}
        if device.config_entry_id != entry_id:
            # First the entities: those that the old line still owns when the device leaves it would be removed.
            for entity in er.async_entries_for_device(entities, device.id, include_disabled_entities=True):
                if entity.platform == DOMAIN:
                    entities.async_update_entity(entity.entity_id, config_entry_id=entry_id, device_id=None)
            devices.async_update_device(device.id, new_config_entry_id=entry_id)
            for entity in er.async_entries_for_config_entry(entities, entry_id):
                if entity.unique_id.startswith(f"{point.id}_"):
                    entities.async_update_entity(entity.entity_id, device_id=device.id)
        info = device_info(coordinator, point)
        for key in ("name", "manufacturer", "model", "model_id", "serial_number", "via_device_id"):
            if getattr(device, key) != info.get(key):
                changes[key] = info.get(key)
        if changes:
            devices.async_update_device(device.id, **changes)


@callback
def populations(hass: HomeAssistant) -> dict[str, Population]:
    """The lines that are running, by entry id."""
    return {entry.entry_id: entry.runtime_data for entry in lines(hass) if entry.state is ConfigEntryState.LOADED}
