"""From a wire to the states of Home Assistant: real lines, real bytes, virtual meters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from homeassistant.components.recorder.statistics import list_statistic_ids, statistics_during_period
from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import area_registry as ar
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.recorder import get_instance
from homeassistant.util import dt as dt_util
from pytest_homeassistant_custom_component.common import MockConfigEntry
from pytest_homeassistant_custom_component.components.recorder.common import async_wait_recording_done
from pytest_homeassistant_custom_component.typing import WebSocketGenerator

from custom_components.meter_batch import async_remove_config_entry_device
from custom_components.meter_batch.const import DOMAIN
from custom_components.meter_batch.engine import Snapshot

from .conftest import StartFleet, port_of, wait_for

FLEET = """
[[line]]
name = "East"
listen = "tcp://127.0.0.1:0"
protocol = "modbus-tcp"
[[line.meter]]
name = "Main"
address = 1
template = "eastron/sdm630"
load = "office"
ct = 80
[[line.meter]]
name = "Roof"
address = 2
template = "abb/b23"
load = "pv"

[[line]]
name = "South"
listen = "tcp://127.0.0.1:0"
protocol = "mixed"
baud = 9600
[[line.meter]]
name = "Flat"
address = "000000000012"
template = "generic/dlt645-1ph"
[[line.meter]]
name = "Dead"
address = 3
template = "eastron/sdm120"
faults = [{ kind = "silent" }]
"""

LIST = """name,line,address,template,serial,ct,area,parent
Main,East,1,eastron/sdm630,M-1,80,Substation,
Roof,East,2,abb/b23,,,,Main
Flat,South,12,generic/dlt645-1ph,,,Flats,Main
Dead,South,3,eastron/sdm120,,,,
"""


async def act(hass: HomeAssistant, name: str, **data: Any) -> dict[str, Any]:
    answer = await hass.services.async_call(DOMAIN, name, data, blocking=True, return_response=True)
    assert answer is not None
    return dict(answer)


async def set_up(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: Callable[..., MockConfigEntry]
) -> tuple[Any, MockConfigEntry, MockConfigEntry]:
    fleet = await start_fleet(FLEET)
    options = {"fast_s": 1, "slow_s": 10}
    east = add_line("East", port=port_of(fleet, 0), options=options)
    south = add_line("South", port=port_of(fleet, 1), protocol="mixed", baud=9600, parity="E", options=options)
    assert await hass.config_entries.async_setup(east.entry_id)
    assert south.state is ConfigEntryState.LOADED
    done = await act(hass, "import_points", content=LIST)
    assert done["applied"] == 4, done
    await hass.async_block_till_done()
    return fleet, east, south


def value(hass: HomeAssistant, entity_id: str) -> str | None:
    state = hass.states.get(entity_id)
    return None if state is None or state.state in ("unknown", "unavailable") else state.state


async def test_meters_on_lines_become_devices_with_true_values(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: Callable[..., MockConfigEntry]
) -> None:
    fleet, east, _ = await set_up(hass, start_fleet, add_line)
    await wait_for(
        lambda: value(hass, "sensor.substation_main_energy_import") and value(hass, "sensor.flats_flat_energy_import")
    )
    truth = {one["meter"]: one["registers"] for one in fleet.truth()}

    energy = hass.states.get("sensor.substation_main_energy_import")
    assert energy is not None
    assert Decimal(energy.state) == Decimal(truth["Main"]["1-0:1.8.0"]) * 80
    assert energy.attributes["unit_of_measurement"] == "kWh"
    assert energy.attributes["device_class"] == "energy"
    assert "state_class" not in energy.attributes
    power = await wait_for(lambda: value(hass, "sensor.substation_main_active_power"))
    assert float(power) == pytest.approx(float(truth["Main"]["1-0:16.7.0"]) * 80, abs=0.001)
    assert await wait_for(lambda: value(hass, "sensor.substation_main_voltage_l1"))
    assert Decimal(value(hass, "sensor.flats_flat_energy_import") or "") == Decimal(truth["Flat"]["1-0:1.8.0"])
    assert value(hass, "sensor.roof_energy_export") is not None

    devices = dr.async_get(hass)
    device = devices.async_get_devices(identifiers={(DOMAIN, point_id(hass, "sensor.substation_main_energy_import"))})[
        0
    ]
    assert (device.name, device.serial_number, device.config_entry_id) == ("Main", "M-1", east.entry_id)
    assert device.manufacturer and device.model
    area = ar.async_get(hass).async_get_area(device.area_id or "")
    assert area is not None and area.name == "Substation"
    hub = devices.async_get(device.via_device_id or "")
    assert hub is not None and hub.identifiers == {(DOMAIN, east.entry_id)}


def point_id(hass: HomeAssistant, entity_id: str) -> str:
    entry = er.async_get(hass).async_get(entity_id)
    assert entry is not None
    return entry.unique_id.split("_")[0]


async def test_a_dead_meter_is_a_problem_and_the_others_go_on(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: Callable[..., MockConfigEntry]
) -> None:
    await set_up(hass, start_fleet, add_line)
    await wait_for(lambda: value(hass, "binary_sensor.dead_problem") == "on")
    state = hass.states.get("binary_sensor.dead_problem")
    assert state is not None and state.attributes["reason"] == "silent"
    assert "no reply; check the meter's supply" in state.attributes["explanation"]
    good = hass.states.get("binary_sensor.substation_main_problem")
    assert good is None or good.attributes["explanation"] is None
    await wait_for(lambda: hass.states.get("sensor.dead_energy_import").state == "unavailable")  # type: ignore[union-attr]
    await wait_for(lambda: value(hass, "binary_sensor.flats_flat_problem") == "off")
    await wait_for(lambda: value(hass, "sensor.south_silent_meters") == "1")
    assert hass.states.get("sensor.south_silent_meters").attributes["meters"] == ["Dead"]  # type: ignore[union-attr]
    assert await wait_for(lambda: value(hass, "sensor.south_success_rate"))


async def test_values_and_a_reading_now_are_given_by_actions(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: Callable[..., MockConfigEntry]
) -> None:
    fleet, *_ = await set_up(hass, start_fleet, add_line)
    await wait_for(lambda: value(hass, "sensor.substation_main_energy_import"))
    truth = {one["meter"]: one["registers"] for one in fleet.truth()}
    answer = await act(hass, "get_values", points=["main"], registers=["energy_import"])
    ((_, main),) = answer["points"].items()
    assert main["available"] is True
    assert Decimal(main["registers"]["energy_import"]["exact"]) == Decimal(truth["Main"]["1-0:1.8.0"]) * 80
    answer = await act(hass, "read_now", point="Roof", registers=["1-0:1.8.0", "frequency"])
    assert set(answer["registers"]) == {"energy_import", "frequency"}
    frequency = answer["registers"]["frequency"]["value"]
    assert frequency == pytest.approx(float(truth["Roof"]["1-0:14.7.0"]), abs=0.01)
    answer = await act(hass, "get_values", points=["main"])
    ((_, main),) = answer["points"].items()
    assert main["registers"]["active_power"]["value"] == float(value(hass, "sensor.substation_main_active_power") or 0)


async def test_a_reading_now_says_what_the_meter_does_not_have(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: Callable[..., MockConfigEntry]
) -> None:
    await set_up(hass, start_fleet, add_line)
    await wait_for(lambda: value(hass, "sensor.flats_flat_energy_import"))
    answer = await act(hass, "read_now", point="Flat", registers=["energy_import", "voltage_l3", "current_l2"])
    assert set(answer["registers"]) == {"energy_import"}
    assert answer["absent"] == ["voltage_l3", "current_l2"] or answer["absent"] == ["current_l2", "voltage_l3"]
    assert (await act(hass, "read_now", point="Flat"))["absent"] == []
    with pytest.raises(HomeAssistantError) as refused:
        await act(hass, "read_now", point="Flat", registers=["voltage_l3"])
    assert refused.value.translation_key == "nothing_to_read"
    assert refused.value.translation_placeholders is not None
    assert refused.value.translation_placeholders["registers"] == "Voltage L3"
    assert refused.value.translation_placeholders["point"] == "Flat"


async def test_a_reading_that_fails_says_why_in_words(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: Callable[..., MockConfigEntry]
) -> None:
    await set_up(hass, start_fleet, add_line)
    with pytest.raises(HomeAssistantError) as failed:
        await act(hass, "read_now", point="Dead")
    assert failed.value.translation_key == "read_failed"
    assert failed.value.translation_placeholders is not None
    assert failed.value.translation_placeholders["point"] == "Dead"
    assert "no reply" in failed.value.translation_placeholders["error"]


async def test_renaming_moving_and_swapping_keep_entities_device_and_id(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: Callable[..., MockConfigEntry]
) -> None:
    _, east, south = await set_up(hass, start_fleet, add_line)
    await wait_for(lambda: value(hass, "sensor.roof_energy_import"))
    id_ = point_id(hass, "sensor.roof_energy_import")
    entities = er.async_get(hass)
    before = {one.entity_id: one.unique_id for one in of_point(hass, id_)}
    device = dr.async_get(hass).async_get_devices(identifiers={(DOMAIN, id_)})[0]
    entities.async_update_entity("sensor.roof_energy_import", name="Mine")

    await act(hass, "import_points", content=f"id,name,serial\n{id_},Dach,NEW-1\n")
    await hass.async_block_till_done()
    renamed = dr.async_get(hass).async_get(device.id)
    assert renamed is not None and (renamed.name, renamed.serial_number) == ("Dach", "NEW-1")
    assert {one.entity_id: one.unique_id for one in of_point(hass, id_)} == before

    # The dead meter's place on the other line is taken over by another model.
    await act(hass, "import_points", content=f"id,line,address,serial,template\n{id_},South,9,NEW-2,eastron/sdm630\n")
    await hass.async_block_till_done()
    moved = dr.async_get(hass).async_get(device.id)
    assert moved is not None and moved.config_entry_id == south.entry_id
    hub = dr.async_get(hass).async_get(moved.via_device_id or "")
    assert hub is not None and hub.identifiers == {(DOMAIN, south.entry_id)}
    after = {one.entity_id: one.unique_id for one in of_point(hass, id_)}
    kept = {entity: unique for entity, unique in before.items() if entity in after}
    assert {"sensor.roof_energy_import", "sensor.roof_active_power", "binary_sensor.roof_problem"} <= set(kept)
    assert all(one.config_entry_id == south.entry_id for one in of_point(hass, id_))
    assert entities.async_get("sensor.roof_energy_import").name == "Mine"  # type: ignore[union-attr]
    assert hass.states.get("sensor.roof_energy_import") is not None

    await act(hass, "import_points", content=f"id,line,address,template\n{id_},East,2,abb/b23\n")
    await hass.async_block_till_done()
    await wait_for(lambda: value(hass, "sensor.roof_energy_import"))
    assert {one.entity_id: one.unique_id for one in of_point(hass, id_)} == before
    assert all(one.config_entry_id == east.entry_id for one in of_point(hass, id_))


def of_point(hass: HomeAssistant, id_: str) -> list[er.RegistryEntry]:
    return [one for one in er.async_get(hass).entities.values() if one.unique_id.startswith(f"{id_}_")]


async def test_removing_a_point_removes_its_device_live_and_undo_brings_it_back(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: Callable[..., MockConfigEntry]
) -> None:
    await set_up(hass, start_fleet, add_line)
    await wait_for(lambda: value(hass, "sensor.roof_energy_import"))
    id_ = point_id(hass, "sensor.roof_energy_import")
    done = await act(hass, "import_points", content="\n".join(LIST.splitlines()[:2]), line="East", remove_absent=True)
    assert done["applied"] == 1
    await hass.async_block_till_done()
    assert of_point(hass, id_) == []
    assert hass.states.get("sensor.roof_energy_import") is None
    assert dr.async_get(hass).async_get_devices(identifiers={(DOMAIN, id_)}) == []
    assert (await act(hass, "undo"))["applied"] == 1
    await hass.async_block_till_done()
    assert await wait_for(lambda: value(hass, "sensor.roof_energy_import"))
    assert point_id(hass, "sensor.roof_energy_import") == id_


async def test_detail_decides_which_entities_a_point_has_and_changes_live(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: Callable[..., MockConfigEntry]
) -> None:
    await set_up(hass, start_fleet, add_line)
    id_ = point_id(hass, "sensor.substation_main_energy_import")
    assert hass.states.get("sensor.substation_main_frequency") is None
    await act(hass, "import_points", content="name,detail\nMain,lean\n")
    await hass.async_block_till_done()
    assert {one.unique_id.removeprefix(id_ + "_") for one in of_point(hass, id_)} == {
        "energy_import",
        "active_power",
        "alarm",
        "problem",
    }
    await act(hass, "import_points", content="name,detail\nMain,full\n")
    await hass.async_block_till_done()
    assert len(of_point(hass, id_)) > 30
    assert await wait_for(lambda: value(hass, "sensor.substation_main_frequency"))


async def test_a_line_that_is_lost_is_told_once_and_comes_back(
    hass: HomeAssistant,
    start_fleet: StartFleet,
    add_line: Callable[..., MockConfigEntry],
    caplog: pytest.LogCaptureFixture,
) -> None:
    fleet, east, _ = await set_up(hass, start_fleet, add_line)
    await wait_for(lambda: value(hass, "sensor.substation_main_energy_import"))
    caplog.set_level("INFO", "custom_components.meter_batch")
    port = port_of(fleet, 0)
    await fleet.stop()
    await wait_for(lambda: hass.states.get("sensor.substation_main_energy_import").state == "unavailable")  # type: ignore[union-attr]
    connection = hass.states.get("binary_sensor.east_connection")
    assert connection is not None and connection.state == "off"
    await wait_for(
        lambda: "Nothing listens" in hass.states.get("binary_sensor.east_connection").attributes["explanation"]  # type: ignore[union-attr]
    )
    await asyncio.sleep(1.5)
    assert caplog.text.count("Error requesting East data") == 1
    assert east.state is ConfigEntryState.LOADED
    await start_fleet(FLEET.replace("127.0.0.1:0", f"127.0.0.1:{port}", 1))
    await wait_for(lambda: value(hass, "sensor.substation_main_energy_import"), 30)
    assert caplog.text.count("The line East is back") == 1


async def test_a_line_that_is_not_there_at_the_start_is_tried_again(
    hass: HomeAssistant, socket_enabled: None, add_line: Callable[..., MockConfigEntry]
) -> None:
    entry = add_line("West", port=1)
    assert not await hass.config_entries.async_setup(entry.entry_id)
    assert entry.state is ConfigEntryState.SETUP_RETRY
    assert "West" in (entry.reason or "")


async def test_a_line_can_be_unloaded_and_set_up_again_many_times(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: Callable[..., MockConfigEntry]
) -> None:
    _, east, _ = await set_up(hass, start_fleet, add_line)
    for _ in range(5):
        assert await hass.config_entries.async_unload(east.entry_id)
        assert hass.states.get("sensor.substation_main_energy_import").state == "unavailable"  # type: ignore[union-attr]
        assert await hass.config_entries.async_setup(east.entry_id)
    await hass.async_block_till_done()
    assert await wait_for(lambda: value(hass, "sensor.substation_main_energy_import"))


async def test_a_line_that_is_deleted_leaves_its_points_and_says_so(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: Callable[..., MockConfigEntry]
) -> None:
    fleet, east, _ = await set_up(hass, start_fleet, add_line)
    id_ = point_id(hass, "sensor.substation_main_energy_import")
    await hass.config_entries.async_remove(east.entry_id)
    await hass.async_block_till_done()
    issue = ir.async_get(hass).async_get_issue(DOMAIN, "points_without_line")
    assert issue is not None and issue.translation_placeholders == {"count": "2", "names": "Main, Roof"}
    content = (await act(hass, "export_points"))["content"]
    assert id_ in content
    again = add_line("East", port=port_of(fleet, 0), entry_id="another")
    assert await hass.config_entries.async_setup(again.entry_id)
    await act(hass, "import_points", content=f"id,line,address\n{id_},East,1\n")
    await hass.async_block_till_done()
    assert await wait_for(lambda: value(hass, "sensor.substation_main_energy_import"))
    assert point_id(hass, "sensor.substation_main_energy_import") == id_
    issue = ir.async_get(hass).async_get_issue(DOMAIN, "points_without_line")
    assert issue is not None and issue.translation_placeholders == {"count": "1", "names": "Roof"}


async def test_a_device_can_be_deleted_by_hand_only_when_its_point_is_gone(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: Callable[..., MockConfigEntry]
) -> None:
    _, east, _ = await set_up(hass, start_fleet, add_line)
    device = device_at(hass, "sensor.substation_main_energy_import")
    assert not await async_remove_config_entry_device(hass, east, device)
    stray = dr.async_get(hass).async_get_or_create(config_entry_id=east.entry_id, identifiers={(DOMAIN, "gone")})
    assert await async_remove_config_entry_device(hass, east, stray)


def device_at(hass: HomeAssistant, entity_id: str) -> dr.DeviceEntry:
    return dr.async_get(hass).async_get_devices(identifiers={(DOMAIN, point_id(hass, entity_id))})[0]


async def test_a_new_area_moves_the_device_and_one_chosen_by_hand_stays_otherwise(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: Callable[..., MockConfigEntry]
) -> None:
    await set_up(hass, start_fleet, add_line)
    areas = ar.async_get(hass)
    mine = areas.async_create("Mine")
    dr.async_get(hass).async_update_device(device_at(hass, "sensor.roof_energy_import").id, area_id=mine.id)
    await act(hass, "import_points", content="name,serial\nRoof,R-1\n")
    await hass.async_block_till_done()
    assert device_at(hass, "sensor.roof_energy_import").area_id == mine.id
    await act(hass, "import_points", content="name,area\nRoof,Attic\nMain,\n")
    await hass.async_block_till_done()
    attic = areas.async_get_area_by_name("Attic")
    assert attic is not None and device_at(hass, "sensor.roof_energy_import").area_id == attic.id
    assert device_at(hass, "sensor.substation_main_energy_import").area_id is None


async def test_with_more_than_a_hundred_points_everybody_becomes_lean_and_back(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: Callable[..., MockConfigEntry]
) -> None:
    await set_up(hass, start_fleet, add_line)
    assert hass.states.get("sensor.roof_voltage_l1") is not None
    rows = "".join(f"X{n},South,{n},eastron/sdm120\n" for n in range(10, 107))
    assert (await act(hass, "import_points", content="name,line,address,template\n" + rows))["applied"] == 97
    await hass.async_block_till_done()
    assert hass.states.get("sensor.roof_voltage_l1") is None
    assert hass.states.get("sensor.roof_energy_import") is not None
    assert hass.states.get("sensor.x50_active_power") is not None
    assert hass.states.get("sensor.x50_voltage") is None
    await act(hass, "undo")
    await hass.async_block_till_done()
    assert hass.states.get("sensor.roof_voltage_l1") is not None
    assert hass.states.get("sensor.x50_active_power") is None


async def test_a_user_who_asks_for_it_gets_statistics_of_energy_entities(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: Callable[..., MockConfigEntry]
) -> None:
    _, east, _ = await set_up(hass, start_fleet, add_line)
    hass.config_entries.async_update_entry(east, options={**east.options, "entity_statistics": True})
    await hass.config_entries.async_reload(east.entry_id)
    state = await wait_for(lambda: hass.states.get("sensor.roof_energy_import"))
    await wait_for(lambda: value(hass, "sensor.roof_energy_import"))
    state = hass.states.get("sensor.roof_energy_import")
    assert state is not None and state.attributes["state_class"] == "total_increasing"


async def test_what_a_wire_wants_besides_holds_from_the_next_start_of_the_line_on(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: Callable[..., MockConfigEntry]
) -> None:
    _, _, south = await set_up(hass, start_fleet, add_line)
    hass.config_entries.async_update_entry(south, options={**south.options, "gap_ms": 30, "preamble": 4})
    await hass.config_entries.async_reload(south.entry_id)
    settings = south.runtime_data.coordinator.line.settings
    assert (settings.gap_s, settings.preamble) == (0.03, 4)
    await wait_for(lambda: value(hass, "sensor.flats_flat_active_power"))


async def test_entities_are_not_offered_to_voice_assistants(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: Callable[..., MockConfigEntry]
) -> None:
    await set_up(hass, start_fleet, add_line)
    entry = er.async_get(hass).async_get("sensor.roof_energy_import")
    assert entry is not None and entry.options["conversation"] == {"should_expose": False}


async def test_screens_get_values_in_batches_while_they_change(
    hass: HomeAssistant,
    start_fleet: StartFleet,
    add_line: Callable[..., MockConfigEntry],
    hass_ws_client: WebSocketGenerator,
) -> None:
    await set_up(hass, start_fleet, add_line)
    await wait_for(lambda: value(hass, "sensor.roof_energy_import"))
    client = await hass_ws_client(hass)
    await client.send_json_auto_id({"type": "meter_batch/values/subscribe"})
    assert (await client.receive_json())["success"]
    first = (await client.receive_json())["event"]["points"]
    assert {one["name"] for one in first.values()} == {"Main", "Roof", "Flat", "Dead"}
    second = (await client.receive_json())["event"]["points"]
    assert second and all("registers" in one for one in second.values())
    await client.close()


async def test_what_the_poller_reads_reaches_the_statistics(
    recorder_mock: Any,
    hass: HomeAssistant,
    start_fleet: StartFleet,
    add_line: Callable[..., MockConfigEntry],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("custom_components.meter_batch.intake.LATEST", timedelta(seconds=0.2))
    _, east, _ = await set_up(hass, start_fleet, add_line)
    await wait_for(lambda: value(hass, "sensor.substation_main_energy_import"))
    coordinator = east.runtime_data.coordinator
    ledger, intake = coordinator.site.ledger, coordinator.site.intake
    id_ = point_id(hass, "sensor.substation_main_energy_import")
    statistic = f"meter_batch:{id_}_energy_import"

    async def rows() -> list[Any]:
        await async_wait_recording_done(hass)
        found = await get_instance(hass).async_add_executor_job(
            statistics_during_period, hass, now - timedelta(days=1), None, {statistic}, "hour", None, {"change"}
        )
        return [row["change"] for row in found.get(statistic, [])]

    now = dt_util.utcnow()
    while not (begun := await rows()):  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    assert begun == [0]
    found = await get_instance(hass).async_add_executor_job(list_statistic_ids, hass, {statistic})
    assert found[0]["name"] == "Main Energy import"

    first = now.replace(minute=0, second=0, microsecond=0)
    for step in range(2):
        boundary = first + step * timedelta(minutes=15)
        snapshots = {
            key: Snapshot(boundary, 2.0, tuple(replace(one, value=one.value + 80 * step) for one in known.values()))
            for key, known in coordinator.values.items()
        }
        coordinator._on_report(replace(coordinator.data, readings={}, snapshots=snapshots))
        await wait_for(lambda: not intake._waiting)
    while sum(await rows()) != 80:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    (interval,) = await ledger.async_call(lambda one: one.intervals([id_], first, first + timedelta(hours=1)))
    assert (interval.energies["1-0:1.8.0"], interval.length_s) == (80, 900)


async def test_a_point_whose_model_is_gone_is_told_and_the_rest_goes_on(
    hass: HomeAssistant,
    start_fleet: StartFleet,
    add_line: Callable[..., MockConfigEntry],
    caplog: pytest.LogCaptureFixture,
) -> None:
    _, east, _ = await set_up(hass, start_fleet, add_line)
    site = east.runtime_data.coordinator.site
    del site.templates["abb/b23"]
    east.runtime_data.coordinator.async_set_meters()
    assert "Roof: there is no template abb/b23" in caplog.text
    assert await wait_for(lambda: value(hass, "sensor.substation_main_energy_import"))


async def test_what_administrators_do_to_lines_is_in_the_log(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: Callable[..., MockConfigEntry]
) -> None:
    _, east, _ = await set_up(hass, start_fleet, add_line)
    site = east.runtime_data.coordinator.site
    await hass.config_entries.async_remove(east.entry_id)
    newest, *_ = await site.log.async_read()
    assert (newest["action"], newest["line"], newest["before"]["title"]) == ("remove_line", east.entry_id, "East")


async def test_what_a_hard_end_left_of_points_that_are_gone_is_cleared_when_the_line_runs_again(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: Callable[..., MockConfigEntry]
) -> None:
    _, east, _ = await set_up(hass, start_fleet, add_line)
    devices, entities = dr.async_get(hass), er.async_get(hass)
    # As on the disk after an undo: the point is taken back, its device and entity are written yet.
    ghost = devices.async_get_or_create(config_entry_id=east.entry_id, identifiers={(DOMAIN, "gone")}, name="Ghost")
    entity = entities.async_get_or_create(
        "sensor", DOMAIN, "gone_1-0:1.8.0", config_entry=east, device_id=ghost.id, suggested_object_id="ghost"
    )
    before = {one.id for one in dr.async_entries_for_config_entry(devices, east.entry_id)} - {ghost.id}
    assert await hass.config_entries.async_reload(east.entry_id)
    await hass.async_block_till_done()
    assert {one.id for one in dr.async_entries_for_config_entry(devices, east.entry_id)} == before
    assert entities.async_get(entity.entity_id) is None
