"""A line is searched for meters from its options, by an action and over a WebSocket, and found meters become points."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import Context, HomeAssistant
from homeassistant.data_entry_flow import FlowResultType, UnknownFlow
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError, Unauthorized
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import MockConfigEntry
from pytest_homeassistant_custom_component.typing import WebSocketGenerator

from custom_components.meter_batch import coordinator as coordinator_module
from custom_components.meter_batch import link, scan_steps, scanning
from custom_components.meter_batch.access import SYSTEM
from custom_components.meter_batch.const import DOMAIN
from custom_components.meter_batch.coordinator import LineCoordinator
from custom_components.meter_batch.engine import LineSettings, ScannedMeter, ScanPlan, ScanProgress, ScanResult
from custom_components.meter_batch.engine.sentences import say
from custom_components.meter_batch.importer import dry_run
from custom_components.meter_batch.registry import Registry
from custom_components.meter_batch.site import async_get_site
from custom_components.meter_batch.wording import async_message

from .conftest import StartFleet, make_point, port_of, wait_for

GATEWAY = """
[[line]]
name = "East"
listen = "tcp://127.0.0.1:0"
protocol = "modbus-tcp"
gateway = true
gateway_timeout_s = 0.05
baud = 115200
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
SDM = "eastron/sdm630"

type AddLine = Callable[..., MockConfigEntry]


@pytest.fixture(autouse=True)
def _no_browser_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_steps, "SHOWN_S", 0.0)


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
    assert result["type"] is not FlowResultType.FORM, result

    return await page_where(hass, result, lambda shown: shown["type"] is not FlowResultType.SHOW_PROGRESS)


async def page_where(hass: HomeAssistant, result: Any, holds: Callable[[Any], bool]) -> Any:
    """The first page on which something holds."""
    for _ in range(600):
        if holds(shown := await go(hass, result)):
            return shown
        await asyncio.sleep(0.05)
    raise AssertionError(shown)


def labels(result: Any, field: str = "meters") -> dict[str, str]:
    """What is offered, by value."""
    chosen = next(value for key, value in result["data_schema"].schema.items() if str(key) == field)
    return {one["value"]: one["label"] for one in chosen.config["options"]}


def remarks(result: Any) -> str:
    return str(result["description_placeholders"]["remarks"])


async def test_found_meters_are_one_click_from_being_points_and_one_from_being_none_again(
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
    assert remarks(result) == ""
    shown = labels(result)
    assert list(shown) == ["modbus 3", "modbus 7"]
    assert shown["modbus 3"].startswith("3 · Eastron SDM630 · No. ")
    assert shown["modbus 7"].startswith("7 · Acrel ADW300 · 2")
    assert shown["modbus 7"].endswith(" kWh")
    result = await go(hass, result, result["data_schema"]({}))
    assert result["type"] is FlowResultType.CREATE_ENTRY
    three, seven = registry.points.values()
    assert (three.name, seven.name) == ("Eastron SDM630 3", "Acrel ADW300 7")
    assert (three.meter.template, three.routes[0].address) == ("eastron/sdm630", "3")
    assert three.meter.serial and f"No. {three.meter.serial}" in shown["modbus 3"]
    await hass.async_block_till_done()
    await wait_for(lambda: coordinator_of(entry).values.get(three.id))
    assert [one["action"] for one in await (await async_get_site(hass)).log.async_read()] == [
        "add_scanned",
        "scan_line",
    ]

    # Searched again: they are known, and called by their names; nothing is offered twice.
    result = await begin(hass, entry)
    result = await over(hass, await go(hass, result, {"first": 1, "last": 10}))
    assert (result["type"], result["step_id"]) == (FlowResultType.MENU, "nothing_new")
    assert 'This is "Eastron SDM630 3".' in remarks(result)

    result = await go(hass, result, {"next_step_id": "init"})
    result = await go(hass, result, {"next_step_id": "undo"})
    (step,) = labels(result, "until").values()
    assert "Found meters added" in step
    await go(hass, result, {"until": "0"})
    assert registry.points == {}


async def test_who_chooses_none_adds_none(hass: HomeAssistant, start_fleet: StartFleet, add_line: AddLine) -> None:
    fleet = await start_fleet(GATEWAY)
    registry = await running(hass, entry := add_line(port=port_of(fleet)))
    result = await over(hass, await go(hass, await begin(hass, entry), {"first": 3, "last": 3}))
    assert (await go(hass, result, {"meters": []}))["type"] is FlowResultType.CREATE_ENTRY
    assert registry.points == {}


async def test_names_that_are_taken_are_not_taken_again(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: AddLine
) -> None:
    fleet = await start_fleet(GATEWAY)
    registry = await running(hass, entry := add_line(port=port_of(fleet)))
    site = await async_get_site(hass)
    for number, name in enumerate(("Eastron SDM630 3", "East Eastron SDM630 3", "East Eastron SDM630 3 (2)")):
        point = make_point(f"p{number}", name, str(20 + number), "elsewhere")
        await registry.async_apply({point.id: point}, SYSTEM, "test")
    result = await over(hass, await go(hass, await begin(hass, entry), {"first": 3, "last": 3}))
    await go(hass, result, {"meters": ["modbus 3"]})
    assert registry.find("East Eastron SDM630 3 (3)") is not None
    assert site.registry is registry


async def test_an_address_that_was_taken_meanwhile_is_told_and_the_rest_can_still_be_added(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: AddLine
) -> None:
    fleet = await start_fleet(GATEWAY)
    registry = await running(hass, entry := add_line(port=port_of(fleet)))
    result = await over(hass, await go(hass, await begin(hass, entry), {"first": 1, "last": 8}))
    await registry.async_apply({"p1": make_point("p1", "Hall 1", "7", entry.entry_id)}, SYSTEM, "test")
    result = await go(hass, result, {"meters": ["modbus 3", "modbus 7"]})
    assert (result["step_id"], result["errors"]) == ("found", {"base": "address_twice"})
    assert result["description_placeholders"]["name"] == "Hall 1"
    await go(hass, result, {"meters": ["modbus 3"]})
    assert registry.find("Eastron SDM630 3") is not None


async def test_meters_of_which_several_models_are_possible_are_asked_for_and_no_others(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: AddLine
) -> None:
    fleet = await start_fleet(GATEWAY + METER.format(address=5, template="eastron/sdm120"))
    registry = await running(hass, entry := add_line(port=port_of(fleet)))
    result = await over(hass, await go(hass, await begin(hass, entry), {"first": 3, "last": 5}))
    assert labels(result)["modbus 5"].startswith("5 · Eastron SDM120 / Eastron SDM230 · No. ")
    result = await go(hass, result, {"meters": ["modbus 3", "modbus 5"]})
    assert result["step_id"] == "which_models"
    (field,) = result["data_schema"].schema
    assert str(field).startswith("5 · ")
    assert str(field).endswith(" kWh")
    result = await go(hass, result, {})
    assert result["errors"] == {str(field): "scan_choose_model"}, "nothing is chosen for the user"
    assert list(labels(result, str(field))) == ["eastron/sdm120", "eastron/sdm230"]
    # What fails in the end is told here, and can be mended.
    await registry.async_apply({"p1": make_point("p1", "Eastron SDM120 9", "5", entry.entry_id)}, SYSTEM, "test")
    result = await go(hass, result, {str(field): "eastron/sdm230"})
    assert (result["step_id"], result["errors"]) == ("which_models", {"base": "address_twice"})
    await registry.async_apply({"p1": None}, SYSTEM, "test")
    result = await go(hass, result, {str(field): "eastron/sdm230"})
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert {point.meter.template for point in registry.points.values()} == {"eastron/sdm630", "eastron/sdm230"}
    await hass.async_block_till_done()


async def test_many_meters_that_look_alike_are_asked_for_together(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: AddLine
) -> None:
    meters = "".join(METER.format(address=number, template="eastron/sdm120") for number in range(10, 21))
    fleet = await start_fleet(GATEWAY + meters)
    registry = await running(hass, entry := add_line(port=port_of(fleet)))
    result = await over(hass, await go(hass, await begin(hass, entry), {"first": 10, "last": 20}))
    result = await go(hass, result, result["data_schema"]({}))
    (field,) = result["data_schema"].schema
    assert field == "10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20"
    await go(hass, result, {str(field): "eastron/sdm120"})
    assert len(registry.points) == 11
    await hass.async_block_till_done()


async def test_a_line_without_meters_says_what_to_check_and_leads_on(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: AddLine
) -> None:
    fleet = await start_fleet(GATEWAY)
    await running(hass, entry := add_line(port=port_of(fleet)))
    result = await over(hass, await go(hass, await begin(hass, entry), {"first": 30, "last": 32}))
    assert (result["type"], result["step_id"]) == (FlowResultType.MENU, "nothing_new")
    assert result["menu_options"] == ["scan", "add_point", "init"]
    assert "A and B are not swapped" in remarks(result)
    result = await go(hass, result, {"next_step_id": "scan"})
    result = await over(hass, await go(hass, result, {"first": 3, "last": 3}))
    assert list(labels(result)) == ["modbus 3"]


async def test_what_cannot_be_searched_is_told_at_its_field(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: AddLine, tmp_path: Path
) -> None:
    await start_fleet(WIRE.format(listen="pty:./ttyM", protocol="modbus-rtu") + METER.format(address=3, template=SDM))
    entry = add_line(link="serial", serial_port=str(tmp_path / "ttyM"), protocol="modbus-rtu", baud=19200)
    await running(hass, entry)
    result = await begin(hass, entry)
    names = [str(one) for one in result["data_schema"].schema]
    assert names == ["protocols", "first", "last", "bauds", "parities", "thorough"]
    assert result["description_placeholders"]["settings"] == "19200 8N1"
    result = await go(hass, result, {"protocols": [], "first": 1, "last": 2})
    assert result["errors"] == {"protocols": "scan_no_protocol"}
    result = await go(hass, result, {"protocols": ["modbus"], "first": 5, "last": 2})
    assert result["errors"] == {"last": "scan_range"}


async def test_meters_that_answer_otherwise_than_the_line_is_set_are_shown_with_what_to_do(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: AddLine, tmp_path: Path
) -> None:
    wire = WIRE.format(listen="pty:./ttyM", protocol="mixed") + 'parity = "N"\n'
    fast = METER.format(address=3, template=SDM) + 'faults = [{ kind = "baud", baud = 38400 }]\n'
    await start_fleet(wire + fast)
    entry = add_line(
        link="serial", serial_port=str(tmp_path / "ttyM"), protocol="modbus-rtu", baud=19200, parity="N", stop_bits=1
    )
    await running(hass, entry)
    fields = {"protocols": ["modbus"], "first": 3, "last": 3, "bauds": ["38400"]}
    result = await over(hass, await go(hass, await begin(hass, entry), fields))
    assert result["step_id"] == "nothing_new", (labels(result), remarks(result))
    assert "**3** · It answers at 38400 8N1, while the line is at 19200 8N1." in remarks(result)


async def test_an_address_that_two_meters_share_is_told_and_not_offered(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: AddLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = await start_fleet(GATEWAY)
    await running(hass, entry := add_line(port=port_of(fleet), protocol="modbus-rtu"))

    async def search(_line: Any, plan: ScanPlan, *_told: Any) -> ScanResult:
        # A real one takes twenty seconds to be sure.
        eight = ScannedMeter("modbus", "8", plan.settings[0])
        nine = ScannedMeter("modbus", "9", plan.settings[0], clash=True, problem=say("scan_clash_unit", unit="9"))
        noise = say("line_never_silent", line="East")
        return ScanResult((eight, nine), {"search": 1.0}, complete=True, heard_noise=noise)

    monkeypatch.setattr(coordinator_module, "scan", search)
    fields = {"protocols": ["modbus"], "first": 8, "last": 9}
    result = await over(hass, await go(hass, await begin(hass, entry), fields))
    assert labels(result) == {"modbus 8": "8 · model unknown"}
    assert remarks(result).splitlines()[0].startswith("- **9** · At least two meters answer as Modbus unit 9")
    assert "is never silent" in remarks(result)
    result = await go(hass, result, {"meters": ["modbus 8"]})
    (field,) = result["data_schema"].schema
    assert "chint/dtsu666" in labels(result, str(field)), "any model of the protocol"
    assert "generic/dlt645-3ph" not in labels(result, str(field))
    answer = await scan_line(hass, add=True)
    assert answer["added"] == []
    assert "is never silent" in answer["noise"]
    # Polling has just opened the line again: the fleet would not like to end in the middle of that.
    assert await hass.config_entries.async_unload(entry.entry_id)
    await asyncio.sleep(0.1)


async def test_each_hindrance_has_its_words(hass: HomeAssistant, add_line: AddLine) -> None:
    entry = add_line(protocol="modbus-rtu", disabled=True)
    assert await async_setup_component(hass, DOMAIN, {})
    site = await async_get_site(hass)
    wire = link.settings(entry.data, entry.options)
    for meter, key in (
        (ScannedMeter("modbus", "255", wire), "scan_no_address"),
        (ScannedMeter("modbus", "7", wire, clash=True), "scan_clash"),
        (ScannedMeter("modbus", "7", wire, garbled=True), "scan_garbled"),
        (ScannedMeter("dlt645-1997", "000000000012", wire), "scan_other_protocol"),
        (ScannedMeter("modbus", "7", replace(wire, parity="E")), "scan_other_settings"),
        (ScannedMeter("modbus", "7", wire, known=True), "scan_known"),
    ):
        assert scanning.hindrance(entry, meter) == key
        text = await async_message(hass, key, **scanning.facts(site, entry, meter))
        assert text.endswith(".")
        assert "{" not in text
    assert scanning.hindrance(entry, ScannedMeter("modbus", "7", wire)) is None
    assert scanning.written(replace(wire, framing="tcp")) == "Modbus TCP"


async def test_the_list_that_the_command_line_writes_is_imported_as_it_is(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: AddLine, tmp_path: Path
) -> None:
    fleet = await start_fleet(GATEWAY)
    entry = add_line(port=port_of(fleet), disabled=True)
    assert await async_setup_component(hass, DOMAIN, {})
    site = await async_get_site(hass)
    file = tmp_path / "meters.csv"
    url = f"tcp://127.0.0.1:{port_of(fleet)}"
    command = [sys.executable, "-m", "meter_batch_cli", "scan", "--line", url, "--framing", "tcp", "--last", "8"]
    process = await asyncio.create_subprocess_exec(
        *command, "--csv", str(file), "--line-name", "East", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    _, said = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, said.decode()
    dry = dry_run(file.read_bytes(), site.known(), file.name)
    assert (dry.problems, dry.warnings) == ((), ())
    points = [row.point for row in dry.rows if row.point is not None]
    assert [(one.name, one.meter.template, one.routes[0].address, one.routes[0].line) for one in points] == [
        ("Eastron SDM630 3", "eastron/sdm630", "3", entry.entry_id),
        ("Acrel ADW300 7", "acrel/adw300", "7", entry.entry_id),
    ]
    assert points[0].meter.serial


@pytest.mark.parametrize("own_process", [False, True])
async def test_who_closes_the_page_ends_the_search_and_polling_goes_on(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: AddLine, own_process: bool
) -> None:
    fleet = await start_fleet(
        WIRE.format(listen="tcp://127.0.0.1:0", protocol="modbus-rtu") + METER.format(address=3, template=SDM)
    )
    entry = add_line(
        port=port_of(fleet), protocol="modbus-rtu", baud=19200, options={"own_process": own_process, "fast_s": 1}
    )
    registry = await running(hass, entry)
    await registry.async_apply({"p1": make_point("p1", "Hall 1", "3", entry.entry_id)}, SYSTEM, "test")
    coordinator = coordinator_of(entry)
    await wait_for(lambda: coordinator.values.get("p1"))
    result = await go(hass, await begin(hass, entry), {"protocols": ["modbus"], "first": 1, "last": 247})
    await wait_for(lambda: coordinator.scanning)
    before = coordinator.values["p1"]

    # Meanwhile the meter is not read, in words, and what is known of it stays.
    with pytest.raises(HomeAssistantError) as refused:
        await coordinator.async_read_now(registry.points["p1"], None)
    assert refused.value.translation_key == "line_scanning"
    assert coordinator.good("p1")

    # A second search is refused in words.
    again = await go(hass, await begin(hass, entry), {"protocols": ["modbus"], "first": 1, "last": 2})
    assert again["errors"] == {"base": "scan_running"}
    with pytest.raises(HomeAssistantError) as second:
        await scan_line(hass, last=2)
    assert second.value.translation_key == "scan_running"

    await page_where(hass, result, lambda shown: shown["description_placeholders"]["done"] != "0")
    hass.config_entries.options.async_abort(result["flow_id"])
    await wait_for(lambda: not coordinator.scanning)
    newest = max(one.at for one in before.values())
    await wait_for(lambda: max(one.at for one in coordinator.values["p1"].values()) > newest)
    readings = await coordinator.async_read_now(registry.points["p1"], None)
    assert readings
    with pytest.raises(UnknownFlow):
        hass.config_entries.options.async_get(result["flow_id"])


async def test_a_search_that_nobody_looks_at_any_more_ends_by_itself(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: AddLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_steps, "UNSEEN_S", 0.5)
    monkeypatch.setattr(scan_steps, "REFRESH_S", 0.1)
    fleet = await start_fleet(
        WIRE.format(listen="tcp://127.0.0.1:0", protocol="modbus-rtu") + METER.format(address=3, template=SDM)
    )
    entry = add_line(port=port_of(fleet), protocol="modbus-rtu", baud=19200)
    await running(hass, entry)
    coordinator = coordinator_of(entry)
    result = await go(hass, await begin(hass, entry), {"protocols": ["modbus"], "first": 1, "last": 247})
    # As long as a page is there that asks, it goes on …
    for _ in range(10):
        await asyncio.sleep(0.1)
        assert (await go(hass, result))["type"] is FlowResultType.SHOW_PROGRESS
    assert coordinator.scanning
    # … and not much longer. Who comes back sees what was found until then.
    await wait_for(lambda: not coordinator.scanning, 5)
    result = await over(hass, result)
    assert result["step_id"] == "found"
    assert "there may be more meters" in remarks(result)


async def test_two_searches_begun_at_the_same_moment_are_one_and_a_refusal_with_nothing_else_said(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: AddLine
) -> None:
    fleet = await start_fleet(
        WIRE.format(listen="tcp://127.0.0.1:0", protocol="modbus-rtu") + METER.format(address=3, template=SDM)
    )
    entry = add_line(port=port_of(fleet), protocol="modbus-rtu", baud=19200)
    await running(hass, entry)
    fields = {"protocols": ["modbus"], "first": 1, "last": 247}
    one, other = await begin(hass, entry), await begin(hass, entry)
    one, other = await asyncio.gather(go(hass, one, fields), go(hass, other, fields))
    coordinator = coordinator_of(entry)
    await wait_for(lambda: coordinator.scanning)
    shown = [await go(hass, one), await go(hass, other)]
    refused = next(page for page in shown if page["type"] is FlowResultType.MENU)
    searching = next(page for page in shown if page["type"] is FlowResultType.SHOW_PROGRESS)
    assert len(remarks(refused).splitlines()) == 1
    assert "is being searched for meters already" in remarks(refused)
    hass.config_entries.options.async_abort(searching["flow_id"])
    await wait_for(lambda: not coordinator.scanning)
    # Polling has just opened the line again: the fleet would not like to end in the middle of that.
    assert await hass.config_entries.async_unload(entry.entry_id)
    await asyncio.sleep(0.1)


def test_the_share_of_a_search_falls_where_more_turns_out_to_be_asked_and_wavers_nowhere_else() -> None:
    wire = LineSettings(baud=2400)
    reports = [(0, 1, 0.0), (1, 200, 30.0), (2, 200, 60.0), (50, 200, 10.0), (200, 200, 0.0)]
    shares: list[float] = []

    async def everything() -> None:
        class Line:
            class config_entry:  # noqa: N801
                entry_id = "l1"

            class site:  # noqa: N801
                class log:  # noqa: N801
                    @staticmethod
                    async def async_write(*_args: Any, **_facts: Any) -> None: ...

            async def async_scan(self, plan: ScanPlan, progress: Any, _found: Any) -> ScanResult:
                for done, total, left_s in reports:
                    await asyncio.sleep(0.01)
                    progress(ScanProgress("search", done, total, 0, left_s, wire))
                return ScanResult((), {}, complete=True)

        line: Any = Line()
        search = scanning.Search(line, ScanPlan(protocols=("dlt645-2007",), settings=(wire,)))
        await search.async_run(SYSTEM, lambda: shares.append(search.share))

    asyncio.run(everything())
    assert shares[0] == 1 and shares[1] < 0.1, "one broadcast was all there was to ask, until somebody answered"
    assert shares[1] <= shares[2] < shares[3] < shares[4] == 1


async def test_a_line_that_is_stopped_ends_its_search_and_says_so(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: AddLine
) -> None:
    fleet = await start_fleet(
        WIRE.format(listen="tcp://127.0.0.1:0", protocol="modbus-rtu") + METER.format(address=3, template=SDM)
    )
    entry = add_line(port=port_of(fleet), protocol="modbus-rtu", baud=19200)
    await running(hass, entry)
    coordinator = coordinator_of(entry)
    result = await go(hass, await begin(hass, entry), {"protocols": ["modbus"], "first": 1, "last": 247})
    await wait_for(lambda: coordinator.scanning)
    assert await hass.config_entries.async_unload(entry.entry_id)
    assert not coordinator.scanning
    result = await over(hass, result)
    assert "was ended, because the line was stopped or changed" in remarks(result)
    result = await go(hass, result, {"next_step_id": "scan"})
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "line_not_running")


async def test_a_line_that_fails_is_told_and_polled_again(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: AddLine
) -> None:
    fleet = await start_fleet(GATEWAY)
    await running(hass, entry := add_line(port=port_of(fleet)))
    await fleet.stop()
    result = await over(hass, await go(hass, await begin(hass, entry), {"first": 1, "last": 2}))
    assert result["step_id"] == "nothing_new"
    assert "East could not be searched: " in remarks(result)
    assert not coordinator_of(entry).scanning


# --- the action ---


async def scan_line(hass: HomeAssistant, user: Any = None, **data: Any) -> Any:
    context = Context(user_id=user.id) if user else None
    return await hass.services.async_call(
        DOMAIN, "scan_line", {"line": "East", **data}, blocking=True, return_response=True, context=context
    )


async def test_the_action_tells_what_the_command_line_tells_and_adds_what_is_clear(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: AddLine, hass_read_only_user: Any
) -> None:
    fleet = await start_fleet(GATEWAY)
    registry = await running(hass, add_line(port=port_of(fleet)))
    with pytest.raises(Unauthorized):
        await scan_line(hass, hass_read_only_user)
    answer = await scan_line(hass, last=8)
    assert (answer["found"], answer["complete"], answer["noise"], answer["added"]) == (2, True, None, [])
    three, seven = answer["meters"]
    assert (three["address"], three["template"], three["known"], three["hindrance"]) == (
        "3",
        "eastron/sdm630",
        False,
        None,
    )
    assert {one["key"] for one in three["readings"]} >= {"voltage_l1", "energy_import"}
    assert three["models"][0]["reasons"]
    assert registry.points == {}

    answer = await scan_line(hass, last=8, add=True)
    assert [one["name"] for one in answer["added"]] == ["Eastron SDM630 3", "Acrel ADW300 7"]
    assert {one["id"] for one in answer["added"]} == set(registry.points)
    answer = await scan_line(hass, first=3, last=3, add=True, identify=False)
    assert [(one["known"], one["hindrance"]) for one in answer["meters"]] == [(True, 'This is "Eastron SDM630 3".')]
    assert answer["added"] == []
    await registry.async_undo(SYSTEM)
    assert registry.points == {}
    assert seven["template"] == "acrel/adw300"


async def test_the_action_refuses_in_words(hass: HomeAssistant, start_fleet: StartFleet, add_line: AddLine) -> None:
    fleet = await start_fleet(GATEWAY)
    await running(hass, add_line(port=port_of(fleet)))
    add_line("West", port=1, disabled=True)
    for data, key in (
        ({"line": "North"}, "unknown_line"),
        ({"line": "West"}, "scan_not_running"),
        ({"bauds": [2400]}, "scan_port_set_there"),
        ({"first": 5, "last": 2}, "scan_failed"),
    ):
        with pytest.raises(ServiceValidationError) as refused:
            await scan_line(hass, **data)
        assert refused.value.translation_key == key


# --- the WebSocket command ---


async def test_a_screen_follows_a_search(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: AddLine, hass_ws_client: WebSocketGenerator
) -> None:
    fleet = await start_fleet(GATEWAY)
    await running(hass, add_line(port=port_of(fleet)))
    client = await hass_ws_client(hass)
    await client.send_json_auto_id({"type": f"{DOMAIN}/scan/subscribe", "line": "East", "last": 8})
    assert (await client.receive_json())["success"]
    events = [(await client.receive_json())["event"]]
    while "finished" not in events[-1]:
        events.append((await client.receive_json())["event"])
    shares = [one["progress"]["share"] for one in events if "progress" in one]
    assert shares == sorted(shares) and shares[-1] == 1
    assert {one["progress"]["phase"] for one in events if "progress" in one} == {"search", "identify"}
    last = {one["found"]["address"]: one["found"] for one in events if "found" in one}
    assert (last["3"]["template"], last["7"]["template"]) == ("eastron/sdm630", "acrel/adw300")
    finished = events[-1]["finished"]
    assert (finished["found"], [one["address"] for one in finished["meters"]]) == (2, ["3", "7"])


async def test_a_screen_that_goes_away_ends_the_search_and_a_second_one_is_refused(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: AddLine, hass_ws_client: WebSocketGenerator
) -> None:
    fleet = await start_fleet(
        WIRE.format(listen="tcp://127.0.0.1:0", protocol="modbus-rtu") + METER.format(address=3, template=SDM)
    )
    entry = add_line(port=port_of(fleet), protocol="modbus-rtu", baud=19200)
    await running(hass, entry)
    coordinator = coordinator_of(entry)
    client = await hass_ws_client(hass)
    ask = {"type": f"{DOMAIN}/scan/subscribe", "line": "East", "protocols": ["modbus"]}
    await client.send_json({"id": 1, **ask})
    assert (await client.receive_json())["success"]
    await wait_for(lambda: coordinator.scanning)
    other = await hass_ws_client(hass)
    await other.send_json({"id": 1, **ask})
    refused = await other.receive_json()
    assert "is being searched for meters already" in refused["error"]["message"]
    await client.close()
    await wait_for(lambda: not coordinator.scanning)

    # A line that is stopped says so to who is still there.
    await other.send_json({"id": 2, **ask})
    assert (await other.receive_json())["success"]
    await wait_for(lambda: coordinator.scanning)
    assert await hass.config_entries.async_unload(entry.entry_id)
    while "failed" not in (event := (await other.receive_json())["event"]):
        pass
    assert "was ended" in event["failed"]
