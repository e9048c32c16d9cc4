"""What is missing is told: by entities of the line and of the site, by an action, and to screens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from homeassistant.config_entries import ConfigEntryDisabler
from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers import entity_registry as er
from homeassistant.util import dt as dt_util
from pytest_homeassistant_custom_component.common import MockConfigEntry
from pytest_homeassistant_custom_component.typing import WebSocketGenerator

from custom_components.meter_batch.access import SYSTEM
from custom_components.meter_batch.const import DOMAIN
from custom_components.meter_batch.engine import ClockReading
from custom_components.meter_batch.engine.ledger import Boundary
from custom_components.meter_batch.engine.model.interval import GapReason
from custom_components.meter_batch.intake import identity
from custom_components.meter_batch.site import Site, async_get_site

from .conftest import StartFleet, port_of, wait_for
from .test_live import act

FLEET = """
[[line]]
name = "East"
listen = "tcp://127.0.0.1:0"
protocol = "modbus-tcp"
[[line.meter]]
name = "Main"
address = 1
template = "eastron/sdm630"
memory = false
"""
CLOCK = """
[[line]]
name = "West"
listen = "tcp://127.0.0.1:0"
protocol = "dlt645-2007"
[[line.meter]]
name = "Flat"
address = "000000000012"
template = "generic/dlt645-1ph"
"""
HEADER = """
[[line]]
name = "West"
listen = "tcp://127.0.0.1:0"
protocol = "modbus-tcp"
[[line.meter]]
name = "Flat"
address = 1
template = "eastron/sdm630"
clock_offset_s = 37
"""
POINTS = "name,line,address,template,area\nMain,East,1,eastron/sdm630,Substation\nLater,South,1,eastron/sdm630,Hall\n"


@pytest.fixture
async def site(hass: HomeAssistant, start_fleet: StartFleet, add_line: Callable[..., MockConfigEntry]) -> Site:
    fleet = await start_fleet(FLEET + FLEET.replace("East", "South").replace("Main", "Later"))
    east, south = (add_line(name, port=port_of(fleet, number)) for number, name in enumerate(("East", "South")))
    assert await hass.config_entries.async_setup(east.entry_id)
    await hass.async_block_till_done()
    assert south.state.name == "LOADED"
    assert (await act(hass, "import_points", content=POINTS))["applied"] == 2
    await hass.async_block_till_done()
    return await async_get_site(hass)


async def make_gap(site: Site) -> Any:
    """The last registers of "Main" are three hours old, and then the line was down."""
    point = next(point for point in site.registry.points.values() if point.name == "Main")
    now = dt_util.utcnow().replace(minute=0, second=0, microsecond=0)
    last = now - timedelta(hours=3)
    records = [
        Boundary(point.id, last - timedelta(minutes=15), {"1-0:1.8.0": Decimal(1)}, meter=identity(point)),
        Boundary(point.id, last, {"1-0:1.8.0": Decimal(2)}, meter=identity(point)),
    ]
    await site.ledger.async_call(lambda ledger: ledger.take(records))
    await site.ledger.async_call(lambda ledger: ledger.miss([point.id], now, GapReason.LINE))
    memories = site.intake.memories
    await wait_for(lambda: point.id in memories.depths)  # its line has learned that it has no memory
    memories.depths[point.id] = timedelta(days=10)
    await site.gaps.async_refresh()
    return point, last


async def test_line_and_site_say_how_many_points_have_gaps_since_when(hass: HomeAssistant, site: Site) -> None:
    for entity_id in ("sensor.east_points_with_gaps", "sensor.meter_batch_points_with_gaps"):
        state = hass.states.get(entity_id)
        assert state is not None and state.state == "0", entity_id
    _, last = await make_gap(site)
    await hass.async_block_till_done()
    for entity_id in ("sensor.east_points_with_gaps", "sensor.meter_batch_points_with_gaps"):
        state = hass.states.get(entity_id)
        assert state is not None
        assert (state.state, state.attributes["since"], state.attributes["meters"]) == ("1", last, ["Main"])
        assert state.attributes["missing"] >= 12
    south = hass.states.get("sensor.south_points_with_gaps")
    assert south is not None and south.state == "0"


async def test_a_meter_that_never_answered_has_a_gap_too(hass: HomeAssistant, site: Site) -> None:
    point = next(point for point in site.registry.points.values() if point.name == "Main")
    never = replace(point, id="never", name="Never", routes=(replace(point.routes[0], address="77"),))
    await site.registry.async_apply({"never": never}, SYSTEM, "add")
    await hass.async_block_till_done()
    boundary = dt_util.utcnow().replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    await site.intake._miss(["never"], boundary, GapReason.HOST)
    assert await site.gaps.async_list([never]) == []
    await site.intake._miss(["never"], boundary, GapReason.METER)
    (gap,) = await site.gaps.async_list([never])
    assert (gap["reason"], gap["until"]) == ("meter", None) and gap["missing"] >= 4


async def test_what_is_missing_is_counted_in_the_intervals_of_its_line(hass: HomeAssistant, site: Site) -> None:
    point = next(point for point in site.registry.points.values() if point.name == "Main")
    now = dt_util.utcnow()
    last = now - timedelta(minutes=5)
    records = [
        Boundary(point.id, last - step * timedelta(minutes=1), {"1-0:1.8.0": Decimal(9 - step)}, meter=identity(point))
        for step in range(3)
    ]
    await site.ledger.async_call(lambda ledger: ledger.take(records))
    await site.ledger.async_call(lambda ledger: ledger.miss([point.id], now, GapReason.LINE))
    site.intake.async_line(point.routes[0].line, timedelta(minutes=1), [point.id])
    await site.gaps.async_refresh()
    assert site.gaps.missing([point.id]).intervals == 5
    assert [gap["missing"] for gap in await site.gaps.async_list([point])] == [5]


async def test_the_site_has_a_device_with_the_state_of_the_ledger(hass: HomeAssistant, site: Site) -> None:
    await make_gap(site)
    await hass.async_block_till_done()
    size, pending, problem = (
        hass.states.get(one)
        for one in (
            "sensor.meter_batch_ledger_size",
            "sensor.meter_batch_records_waiting_for_the_ledger",
            "binary_sensor.meter_batch_ledger_problem",
        )
    )
    assert size is not None and float(size.state) > 0
    assert pending is not None and pending.state == "0"
    assert problem is not None and problem.state == "off"
    (device,) = dr.async_get(hass).async_get_devices(identifiers={(DOMAIN, "site")})
    assert (device.entry_type, device.name) == (dr.DeviceEntryType.SERVICE, "Meter Batch")


@pytest.mark.parametrize("how", ["deleted", "disabled"])
async def test_when_the_line_that_bears_the_site_is_gone_the_next_one_does(
    hass: HomeAssistant, site: Site, how: str
) -> None:
    entities = er.async_get(hass)
    before = entities.async_get("sensor.meter_batch_ledger_size")
    assert before is not None and before.config_entry_id is not None
    if how == "deleted":
        await hass.config_entries.async_remove(before.config_entry_id)
    else:
        await hass.config_entries.async_set_disabled_by(before.config_entry_id, ConfigEntryDisabler.USER)
    await hass.async_block_till_done()
    after = entities.async_get("sensor.meter_batch_ledger_size")
    assert after is not None and after.config_entry_id not in (None, before.config_entry_id)
    state = hass.states.get("sensor.meter_batch_ledger_size")
    assert state is not None and state.state != "unavailable"


async def test_gaps_are_listed_with_reason_and_how_long_the_memory_keeps_them(
    hass: HomeAssistant, site: Site, hass_ws_client: WebSocketGenerator
) -> None:
    point, last = await make_gap(site)
    (gap,) = (await act(hass, "list_gaps"))["gaps"]
    assert gap["missing"] >= 12
    assert {key: value for key, value in gap.items() if key != "missing"} == {
        "point": point.id,
        "name": "Main",
        "since": last.isoformat(),
        "until": None,
        "reason": "line",
        "recoverable_until": (last + timedelta(days=10)).isoformat(),
    }
    assert (await act(hass, "list_gaps", points=["Later"])) == {"gaps": []}
    assert len((await act(hass, "list_gaps", areas=["Substation"]))["gaps"]) == 1
    assert len((await act(hass, "list_gaps", lines=["East"]))["gaps"]) == 1
    client = await hass_ws_client(hass)
    await client.send_json_auto_id({"type": "meter_batch/gaps/list", "points": ["Main"]})
    assert (await client.receive_json())["result"]["gaps"] == [gap]


@pytest.mark.parametrize(
    ("fleet", "content", "protocol"),
    [
        (CLOCK, "name,line,address,template\nFlat,West,12,generic/dlt645-1ph\n", "dlt645-2007"),
        (HEADER, "name,line,address,template\nFlat,West,1,eastron/sdm630\n", "modbus-tcp"),
    ],
)
async def test_how_far_a_clock_is_off_is_an_entity_that_is_disabled_at_first(
    hass: HomeAssistant,
    start_fleet: StartFleet,
    add_line: Callable[..., MockConfigEntry],
    fleet: str,
    content: str,
    protocol: str,
) -> None:
    west = add_line("West", port=port_of(await start_fleet(fleet)), protocol=protocol)
    assert await hass.config_entries.async_setup(west.entry_id)
    assert (await act(hass, "import_points", content=content))["applied"] == 1
    await hass.async_block_till_done()
    (point,) = (await async_get_site(hass)).registry.points
    entities = er.async_get(hass)
    entity_id = entities.async_get_entity_id("sensor", DOMAIN, f"{point}_clock_offset")
    assert entity_id is not None
    entry = entities.async_get(entity_id)
    assert entry is not None and entry.disabled_by is er.RegistryEntryDisabler.INTEGRATION
    entities.async_update_entity(entity_id, disabled_by=None)
    assert await hass.config_entries.async_reload(west.entry_id)
    await hass.async_block_till_done()
    coordinator = west.runtime_data.coordinator
    await wait_for(lambda: coordinator.data is not None and coordinator.data.health.connected)
    if protocol == "modbus-tcp":
        # The header of its memory tells it, in whole seconds.
        state = await wait_for(lambda: (one := hass.states.get(entity_id)) and one.state != "unknown" and one)
        assert float(state.state) == pytest.approx(37, abs=1.5)
    coordinator._on_report(replace(coordinator.data, clocks={point: ClockReading(dt_util.utcnow(), 37.24)}))
    state = hass.states.get(entity_id)
    assert state is not None and state.state == "37.2"
