"""The sensors: half powers that go up and down, half energies that are counted."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Final

from homeassistant.components.sensor import SensorDeviceClass, SensorEntity, SensorStateClass
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddEntitiesCallback
from homeassistant.helpers.typing import ConfigType, DiscoveryInfoType

COUNT: Final = 20_000
BATCH: Final = 250
EVERY_S: Final = 120.0
"""How often each has a new value."""


async def async_setup_platform(
    hass: HomeAssistant,
    _config: ConfigType,
    async_add_entities: AddEntitiesCallback,
    _discovery_info: DiscoveryInfoType | None = None,
) -> None:
    """Adds them in the background, and lets them live."""

    async def live() -> None:
        sensors = [Foreign(number) for number in range(COUNT)]
        for start in range(0, COUNT, BATCH):
            async_add_entities(sensors[start : start + BATCH])
            await asyncio.sleep(0.05)
        hass.states.async_set("bench_foreign.ready", str(COUNT))
        random = Random(1)
        while True:
            for start in range(0, COUNT, BATCH):
                for sensor in sensors[start : start + BATCH]:
                    if sensor.hass is not None and sensor.entity_id:
                        sensor.go_on(random)
                await asyncio.sleep(EVERY_S * BATCH / COUNT)

    hass.async_create_background_task(live(), "foreign sensors", eager_start=False)


class Foreign(SensorEntity):
    """One of them."""

    _attr_should_poll = False

    def __init__(self, number: int) -> None:
        energy = number % 2 == 0
        self._attr_unique_id = f"foreign{number}"
        self._attr_name = f"Foreign {number}"
        self._attr_device_class = SensorDeviceClass.ENERGY if energy else SensorDeviceClass.POWER
        self._attr_native_unit_of_measurement = "kWh" if energy else "W"
        self._attr_state_class = SensorStateClass.TOTAL_INCREASING if energy else SensorStateClass.MEASUREMENT
        self._value = 0.0
        self._attr_native_value = 0.0

    def go_on(self, random: Random) -> None:
        """A new value."""
        counted = self._attr_state_class is SensorStateClass.TOTAL_INCREASING
        self._value = self._value + random.random() if counted else 1000 * random.random()
        self._attr_native_value = round(self._value, 3)
        self.async_write_ha_state()
