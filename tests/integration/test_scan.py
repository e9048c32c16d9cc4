"""A line is searched for meters from its options, by an action and over a WebSocket, and found meters become points."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType, UnknownFlow
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import MockConfigEntry
from pytest_homeassistant_custom_component.typing import WebSocketGenerator

from custom_components.meter_batch.const import DOMAIN
from custom_components.meter_batch.coordinator import LineCoordinator
from custom_components.meter_batch.registry import Registry
from custom_components.meter_batch.site import async_get_site

from .conftest import StartFleet, make_point, port_of, wait_for

GATEWAY = """
[[line]]
name = "East"
listen = "tcp://127.0.0.1:0"
protocol = "modbus-tcp"
turnround_ms = 1
[[line.meter]]
address = 3
template = "eastron/sdm630"
[[line.meter]]
address = 7
template = "acrel/adw300"
"""
WIRE = """
[[line]]
name = "South"
listen = "{listen}"
protocol = "{protocol}"
baud = 19200
turnround_ms = 2
"""
METER = """
[[line.meter]]
address = {address}
template = "{template}"
"""

type AddLine = Callable[..., MockConfigEntry]


async def running(hass: HomeAssistant, entry: MockConfigEntry) -> Registry:
    assert await async_setup_component(hass, DOMAIN, {})
    await hass.async_block_till_done()
    assert entry.state is ConfigEntryState.LOADED
    return (await async_get_site(hass)).registry


def coordinator_of(entry: MockConfigEntry) -> LineCoordinator:
    coordinator: LineCoordinator = entry.runtime_data.coordinator
    return coordinator


async def begin(hass: HomeAssistant, entry: MockConfigEntry) -> Any:
    result: Any = await hass.config_entries.options.async_init(entry.entry_id)
    return await go(hass, result, {"next_step_id": "scan"})


async def go(hass: HomeAssistant, result: Any, step: dict[str, Any] | None = None) -> Any:
    return await hass.config_entries.options.async_configure(result["flow_id"], step)


async def over(hass: HomeAssistant, result: Any) -> Any:
    """The page after the search."""
    assert result["type"] is FlowResultType.SHOW_PROGRESS, result

    async def page() -> Any:
        return await hass.config_entries.options.async_configure(result["flow_id"])

    async with asyncio.timeout(30):
        while (shown := await page())["type"] is FlowResultType.SHOW_PROGRESS:
            await asyncio.sleep(0.05)
    return shown


def labels(result: Any, field: str = "meters") -> dict[str, str]:
    """What is offered, by value."""
    chosen = next(value for key, value in result["data_schema"].schema.items() if str(key) == field)
    return {one["value"]: one["label"] for one in chosen.config["options"]}


async def test_found_meters_are_one_click_from_being_points(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: AddLine
) -> None:
    fleet = await start_fleet(GATEWAY)
    entry = add_line(port=port_of(fleet))
    registry = await running(hass, entry)
    result = await begin(hass, entry)
    assert [str(one) for one in result["data_schema"].schema] == ["first", "last"], "the gateway speaks one protocol"
    result = await go(hass, result, {"first": 1, "last": 10})
    assert (result["step_id"], result["progress_action"]) == ("scanning", "search")
    result = await over(hass, result)
    assert result["step_id"] == "found", result
    shown = labels(result)
    print(shown, result["description_placeholders"])
    assert list(shown) == ["modbus 3", "modbus 7"]
    result = await go(hass, result, result["data_schema"]({}))
    print(result)
    assert result["type"] is FlowResultType.CREATE_ENTRY
    print(registry.points)
