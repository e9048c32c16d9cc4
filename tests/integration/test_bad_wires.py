"""What wires and meters really do: each fault is told of its own meter, in a word, and the rest of the line goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
from homeassistant.core import HomeAssistant
from pytest_homeassistant_custom_component.common import MockConfigEntry

from .conftest import StartFleet, port_of, wait_for
from .test_live import act, value

FLEET = """
[[line]]
name = "East"
listen = "tcp://127.0.0.1:0"
protocol = "{protocol}"
baud = 19200
[[line.meter]]
name = "Good"
address = {good}
template = "{template}"
[[line.meter]]
name = "Bad"
address = {bad}
template = "{template}"
faults = [{fault}]
"""
KINDS = {
    "modbus-rtu": ("1", "2", "eastron/sdm120"),
    "dlt645-2007": ('"000000000001"', '"000000000002"', "generic/dlt645-1ph"),
}


async def set_up(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: Callable[..., MockConfigEntry], protocol: str, fault: str
) -> MockConfigEntry:
    good, bad, template = KINDS[protocol]
    fleet = await start_fleet(FLEET.format(protocol=protocol, good=good, bad=bad, template=template, fault=fault))
    parity = "E" if protocol.startswith("dlt") else "N"
    options = {"fast_s": 1, "slow_s": 10}
    entry = add_line("East", port=port_of(fleet), protocol=protocol, baud=19200, parity=parity, options=options)
    assert await hass.config_entries.async_setup(entry.entry_id)
    rows = f"Good,{good},{template}\nBad,{bad},{template}\n".replace('"', "")
    assert (await act(hass, "import_points", content="name,address,template\n" + rows, line="East"))["applied"] == 2
    await hass.async_block_till_done()
    return entry


@pytest.mark.parametrize(
    ("protocol", "fault"),
    [
        ("modbus-rtu", '{ kind = "half" }'),
        ("dlt645-2007", '{ kind = "noise", place = "instead", bytes = 20 }'),
    ],
)
async def test_a_meter_that_answers_badly_is_a_problem_and_its_neighbour_is_not(
    hass: HomeAssistant,
    start_fleet: StartFleet,
    add_line: Callable[..., MockConfigEntry],
    protocol: str,
    fault: str,
) -> None:
    await set_up(hass, start_fleet, add_line, protocol, fault)
    await wait_for(lambda: value(hass, "sensor.good_active_power") and value(hass, "sensor.good_energy_import"), 20)
    await wait_for(lambda: value(hass, "binary_sensor.bad_problem") == "on", 20)
    assert value(hass, "binary_sensor.good_problem") == "off"
    assert value(hass, "sensor.bad_active_power") is None
    await wait_for(lambda: value(hass, "sensor.east_silent_meters") == "1", 20)
    problem = hass.states.get("binary_sensor.bad_problem")
    assert problem is not None
    assert problem.attributes["reason"] == "damaged", "it is given up, but it is not silent: something comes"
    assert "check baud rate, parity" in problem.attributes["explanation"]


async def test_meters_with_one_address_are_told_at_each_of_them_and_at_the_line_in_the_language_of_the_house(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: Callable[..., MockConfigEntry]
) -> None:
    hass.config.language = "zh-Hans"
    entry = await set_up(hass, start_fleet, add_line, "modbus-rtu", '{ kind = "silent" }')
    coordinator = entry.runtime_data.coordinator
    points = list(coordinator.site.registry.points.values())
    # An import refuses it, but a meter's own address can be changed without us.
    twins = [replace(point, routes=(replace(point.routes[0], address="1"),)) for point in points]
    coordinator.site.registry.points.update((point.id, point) for point in twins)
    await wait_for(lambda: value(hass, "sensor.good_active_power"), 20)

    def told() -> bool:
        coordinator.async_set_meters()  # again and again: a reply that was under way takes the first word back
        return "同为 1" in (explanation(hass, "binary_sensor.good_problem") or "")

    await wait_for(told, 20)
    assert hass.states.get("binary_sensor.good_problem").attributes["reason"] == "other"  # type: ignore[union-attr]
    assert "同为 1" in (explanation(hass, "binary_sensor.bad_problem") or "")
    assert value(hass, "binary_sensor.east_connection") == "on"
    assert "同为 1" in (explanation(hass, "binary_sensor.east_connection") or "")


def explanation(hass: HomeAssistant, entity_id: str) -> str | None:
    state = hass.states.get(entity_id)
    text: str | None = state.attributes.get("explanation") if state else None
    return text


@pytest.mark.parametrize(
    ("protocol", "fault"),
    [
        ("modbus-rtu", '{ kind = "noise", bytes = 6 }'),
        ("modbus-rtu", '{ kind = "echo" }'),
        ("dlt645-2007", '{ kind = "flip", probability = 0.2 }'),
    ],
)
async def test_what_can_be_overcome_is(
    hass: HomeAssistant,
    start_fleet: StartFleet,
    add_line: Callable[..., MockConfigEntry],
    protocol: str,
    fault: str,
) -> None:
    await set_up(hass, start_fleet, add_line, protocol, fault)
    for name in ("good", "bad"):
        await wait_for(lambda name=name: value(hass, f"sensor.{name}_active_power"), 20)
        await wait_for(lambda name=name: value(hass, f"sensor.{name}_energy_import"), 20)


async def test_counters_that_read_zero_for_a_while_do_not_reach_the_entity(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: Callable[..., MockConfigEntry]
) -> None:
    await set_up(hass, start_fleet, add_line, "modbus-rtu", '{ kind = "reboot", from_s = 4, to_s = 9 }')
    energy = float(await wait_for(lambda: value(hass, "sensor.bad_energy_import"), 20) or 0)
    assert energy > 1
    seen: list[tuple[float, bool]] = []
    while not seen or seen[-1][0] != 0:
        answer = await act(hass, "read_now", point="Bad", registers=["energy_import"])
        reading = answer["registers"]["energy_import"]
        seen.append((reading["value"], "flags" in reading))
        await asyncio.sleep(0.05)
    assert seen[-1] == (0, True), "the zero was read, and flagged"
    await wait_for(lambda: "Energy import" in (explanation(hass, "binary_sensor.bad_problem") or ""))
    await hass.async_block_till_done()
    assert float(value(hass, "sensor.bad_energy_import") or 0) == energy
