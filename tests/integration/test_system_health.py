"""The page of system information says how a site is doing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from homeassistant.core import HomeAssistant
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import MockConfigEntry, get_system_health_info

from custom_components.meter_batch.access import SYSTEM
from custom_components.meter_batch.const import DOMAIN
from custom_components.meter_batch.site import async_get_site

from .conftest import StartFleet, make_point, port_of, wait_for

FLEET = """
[[line]]
name = "east"
listen = "tcp://127.0.0.1:0"
protocol = "modbus-tcp"
[[line.meter]]
address = 1
template = "eastron/sdm630"
"""


async def test_lines_meters_and_ledger_are_counted(
    recorder_mock: Any, hass: HomeAssistant, add_line: Callable[..., MockConfigEntry], start_fleet: StartFleet
) -> None:
    assert await async_setup_component(hass, "system_health", {})
    port = port_of(await start_fleet(FLEET))
    east = add_line("East", port=port)
    add_line("West", port=port + 1, disabled=True)
    site = await async_get_site(hass)
    points = [make_point(line=east.entry_id), make_point("p2", "Hall 2", "2", line=east.entry_id)]
    await site.registry.async_apply({point.id: point for point in points}, SYSTEM, "test")
    assert await hass.config_entries.async_setup(east.entry_id)
    coordinator = east.runtime_data.coordinator
    await wait_for(lambda: "p2" in coordinator.silent and "p1" in coordinator.values)
    shown = await get_system_health_info(hass, DOMAIN)
    assert shown["lines_connected"] == "1 / 2"
    assert shown["meters_answering"] == "1 / 2"
    assert shown["points"] == 2
    assert shown["ledger"] == "ok"
    assert shown["intervals_missing"] == 0
    assert "analytics_server" not in shown
    await hass.config_entries.async_unload(east.entry_id)
