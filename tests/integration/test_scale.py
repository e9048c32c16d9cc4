"""What keeps Home Assistant quick with a thousand points: few states, and long work a turn at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from homeassistant.core import HomeAssistant
from homeassistant.setup import async_setup_component
from homeassistant.util import dt as dt_util
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.meter_batch import sensor, turns
from custom_components.meter_batch.access import SYSTEM
from custom_components.meter_batch.const import DOMAIN
from custom_components.meter_batch.coordinator import LineCoordinator
from custom_components.meter_batch.engine import BY_KEY, LineHealth, PollReport, Reading
from custom_components.meter_batch.site import Site, async_get_site

from .conftest import StartFleet, make_point, port_of

FLEET = """
[[line]]
name = "East"
listen = "tcp://127.0.0.1:0"
protocol = "modbus-tcp"
[[line.meter]]
address = 1
template = "eastron/sdm630"
faults = [{ kind = "silent" }]
"""
POWER, IMPORT = BY_KEY["active_power"].obis, BY_KEY["energy_import"].obis
UP = LineHealth(connected=True)


@pytest.fixture
async def site(hass: HomeAssistant, start_fleet: StartFleet, add_line: Callable[..., MockConfigEntry]) -> Site:
    """A line whose meters are told here."""
    fleet = await start_fleet(FLEET)
    add_line("East", port=port_of(fleet), entry_id="l1", options={"detail": "lean"})
    assert await async_setup_component(hass, DOMAIN, {})
    return await async_get_site(hass)


async def with_points(hass: HomeAssistant, site: Site, count: int) -> LineCoordinator:
    points = {f"p{number}": make_point(f"p{number}", f"Hall {number}", str(number)) for number in range(1, count + 1)}
    await site.registry.async_apply(points, SYSTEM, "add")
    await hass.async_block_till_done()
    (entry,) = hass.config_entries.async_entries(DOMAIN)
    coordinator = entry.runtime_data.coordinator
    assert isinstance(coordinator, LineCoordinator)
    return coordinator


def tell(coordinator: LineCoordinator, *, points: int = 1, **registers: Any) -> None:
    """A report of the first points."""
    codes = {"power": POWER, "energy": IMPORT}
    now = dt_util.utcnow()
    readings = tuple(Reading(codes[key], value, now) for key, value in registers.items())
    coordinator._on_report(
        PollReport(now, readings={f"p{number}": readings for number in range(1, points + 1)}, health=UP)
    )


def state(hass: HomeAssistant, name: str) -> str:
    found = hass.states.get(f"sensor.{name}")
    assert found is not None
    return found.state


async def test_at_lean_small_changes_wait_and_all_that_matters_is_written_at_once(
    hass: HomeAssistant, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(sensor, "monotonic", lambda: now)
    coordinator = await with_points(hass, site, 1)
    tell(coordinator, power=100.0, energy=Decimal("10.0"))
    assert (state(hass, "hall_1_active_power"), state(hass, "hall_1_energy_import")) == ("100.0", "10.0")
    now += 5
    tell(coordinator, power=101.0, energy=Decimal("10.1"))
    # The last digit of what is counted is shown, a hundredth of a power waits …
    assert (state(hass, "hall_1_active_power"), state(hass, "hall_1_energy_import")) == ("100.0", "10.1")
    now += 5
    tell(coordinator, power=120.0)
    assert state(hass, "hall_1_active_power") == "120.0"
    now += 5
    tell(coordinator, power=121.0)
    assert state(hass, "hall_1_active_power") == "120.0"
    now += 15
    tell(coordinator, power=122.0)
    # … a quarter of a minute.
    assert state(hass, "hall_1_active_power") == "122.0"
    now += 1
    coordinator._on_report(PollReport(dt_util.utcnow(), silent=frozenset({"p1"}), health=UP))
    assert state(hass, "hall_1_active_power") == "unavailable"
    tell(coordinator, power=122.1)
    assert state(hass, "hall_1_active_power") == "122.1"


async def test_alarms_and_answers_see_each_value_although_its_state_waits(hass: HomeAssistant, site: Site) -> None:
    coordinator = await with_points(hass, site, 1)
    tell(coordinator, power=100.0)
    tell(coordinator, power=101.0)
    assert coordinator.values["p1"][POWER].value == 101.0
    answer = await hass.services.async_call(DOMAIN, "get_values", {}, blocking=True, return_response=True)
    assert answer is not None
    assert "101" in str(answer["points"]["p1"])


async def test_a_report_has_one_context_and_asks_only_the_entities_of_its_points(
    hass: HomeAssistant, site: Site
) -> None:
    coordinator = await with_points(hass, site, 3)
    tell(coordinator, points=2, power=100.0, energy=Decimal(1))
    keys = ("active_power", "energy_import")
    states = [hass.states.get(f"sensor.hall_{number}_{key}") for number in (1, 2) for key in keys]
    assert len({one.context.id for one in states if one is not None}) == 1
    asked: list[str] = []
    for key, listeners in coordinator._listeners_of.items():
        listeners.append(lambda key=key: asked.append(str(key)))
    tell(coordinator, points=1, power=50.0)
    assert set(asked) == {"None", "p1"}


async def test_a_point_that_leaves_leaves_nobody_behind_who_listens(hass: HomeAssistant, site: Site) -> None:
    coordinator = await with_points(hass, site, 2)
    assert coordinator._listeners_of["p2"]
    await site.registry.async_apply({"p2": None}, SYSTEM, "remove")
    await hass.async_block_till_done()
    assert coordinator._listeners_of["p2"] == [] and coordinator._listeners_of["p1"]


async def test_rules_and_entities_of_many_points_come_in_turns_and_are_all_there(
    hass: HomeAssistant, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "TURN_S", 0.0)
    others = 0

    async def other() -> None:
        nonlocal others
        while True:
            others += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await with_points(hass, site, 60)
    task.cancel()
    assert others > 60  # at least a turn a point
    assert {one for one in hass.states.async_entity_ids("sensor") if one.endswith("_active_power")} == {
        f"sensor.hall_{number}_active_power" for number in range(1, 61)
    }
    for number in (1, 20, 21, 60):
        assert site.alarms.rule("over_voltage", f"p{number}").enabled
        assert site.alarms.resting(site.registry.points[f"p{number}"])


async def test_a_finding_stays_open_while_rules_are_told_of_points_in_turns(
    hass: HomeAssistant, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    coordinator = await with_points(hass, site, 45)
    coordinator._on_report(
        PollReport(dt_util.utcnow() - timedelta(hours=1), silent=frozenset({"p1", "p45"}), health=UP)
    )
    coordinator._on_report(PollReport(dt_util.utcnow(), silent=frozenset({"p1", "p45"}), health=UP))
    site.alarms._tick(dt_util.utcnow())
    found = {one.subject for one in site.alarms.open if one.kind == "communication_lost"}
    assert found == {"p1", "p45"}
    monkeypatch.setattr(turns, "TURN_S", 0.0)
    renamed = {id_: replace(point, name=f"{point.name} new") for id_, point in site.registry.points.items()}
    await site.registry.async_apply(renamed, SYSTEM, "edit")
    await hass.async_block_till_done()
    assert {one.subject for one in site.alarms.open if one.kind == "communication_lost"} == {"p1", "p45"}
