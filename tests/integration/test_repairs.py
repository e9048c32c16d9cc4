"""Repairs: what is wrong for long says why and what to do, can be put right where a program can, and goes by itself."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from homeassistant.components.repairs import ConfirmRepairFlow, repairs_flow_manager
from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant
from homeassistant.helpers import issue_registry as ir
from homeassistant.setup import async_setup_component
from homeassistant.util import dt as dt_util
from pytest_homeassistant_custom_component.common import MockConfigEntry

import custom_components.meter_batch as package
from custom_components.meter_batch.const import DOMAIN
from custom_components.meter_batch.engine import Diagnosis, ScanPlan
from custom_components.meter_batch.engine.fleet.diagnose import diagnose
from custom_components.meter_batch.engine.fleet.evidence import Heard, LineEvidence, MeterEvidence, Outcome
from custom_components.meter_batch.engine.ledger import swap
from custom_components.meter_batch.engine.model.interval import IMPORT
from custom_components.meter_batch.engine.protocol.modbus.rtu import encode
from custom_components.meter_batch.issues import FIXABLE, Kind
from custom_components.meter_batch.plausibility import checks
from custom_components.meter_batch.point_form import filled
from custom_components.meter_batch.repairs import async_create_fix_flow
from custom_components.meter_batch.site import Site, async_get_site
from meter_batch_virtual.config import parse_fleet

from .conftest import StartFleet, port_of, wait_for
from .test_live import act, point_id, value

METER = """
[[line.meter]]
name = "{name}"
address = {address}
template = "{template}"
faults = [{faults}]
"""
LINE = """
[[line]]
name = "East"
listen = "tcp://127.0.0.1:0"
protocol = "modbus-tcp"
turnround_ms = 1
"""


def fleet_of(*meters: tuple[str, str, str]) -> str:
    """A line with meters: name, model, faults; their addresses count from 1."""
    return LINE + "".join(
        METER.format(name=name, address=address, template=template, faults=faults)
        for address, (name, template, faults) in enumerate(meters, 1)
    )


@pytest.fixture(autouse=True)
async def _repairs(hass: HomeAssistant) -> None:
    assert await async_setup_component(hass, "repairs", {})


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for ten minutes."""
    monkeypatch.setattr("custom_components.meter_batch.issues.DELAY", timedelta())


async def set_up(
    hass: HomeAssistant,
    start_fleet: StartFleet,
    add_line: Callable[..., MockConfigEntry],
    toml: str,
    rows: str,
    **options: Any,
) -> tuple[Any, MockConfigEntry]:
    fleet = await start_fleet(toml)
    entry = add_line("East", port=port_of(fleet), options={"fast_s": 1, "slow_s": 10, **options})
    assert await hass.config_entries.async_setup(entry.entry_id)
    done = await act(hass, "import_points", content="name,address,template,serial\n" + rows, line="East")
    assert not done["problems"], done
    await hass.async_block_till_done()
    return fleet, entry


def issue(hass: HomeAssistant, id_: str) -> ir.IssueEntry | None:
    return ir.async_get(hass).async_get_issue(DOMAIN, id_)


def of_us(hass: HomeAssistant) -> list[ir.IssueEntry]:
    return [one for (domain, _), one in ir.async_get(hass).issues.items() if domain == DOMAIN and one.active]


async def open_flow(hass: HomeAssistant, id_: str) -> Any:
    manager = repairs_flow_manager(hass)
    assert manager is not None
    return await manager.async_init(DOMAIN, context={"issue_id": id_})


async def answer(hass: HomeAssistant, flow: Any, **form: Any) -> Any:
    manager = repairs_flow_manager(hass)
    assert manager is not None
    return await manager.async_configure(flow["flow_id"], form)


async def test_a_silent_meter_says_why_at_once_and_is_worth_a_repair_only_after_ten_minutes(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: Callable[..., MockConfigEntry], tmp_path: Path
) -> None:
    meters = ("Good", "eastron/sdm120", ""), ("Dead", "eastron/sdm120", '{ kind = "silent" }')
    rows = "Good,1,eastron/sdm120,\nDead,2,eastron/sdm120,\n"
    fleet, entry = await set_up(hass, start_fleet, add_line, fleet_of(*meters), rows)

    def causes() -> list[dict[str, Any]]:
        state = hass.states.get("binary_sensor.dead_problem")
        return state.attributes.get("causes", []) if state is not None and state.state == "on" else []

    first, *_ = await wait_for(causes)
    problem = hass.states.get("binary_sensor.dead_problem")
    assert problem is not None and problem.attributes["cause"] == first["cause"]
    assert 0 < first["likelihood"] <= 1 and first["text"] and first["cure"]
    assert sum(one["likelihood"] for one in causes()) <= 1.001
    good = hass.states.get("binary_sensor.good_problem")
    assert good is not None and (good.attributes["cause"], good.attributes["causes"]) == (None, [])

    issues, id_ = entry.runtime_data.coordinator.issues, f"meter_{point_id(hass, 'binary_sensor.dead_problem')}"
    assert of_us(hass) == []
    issues.async_update(dt_util.utcnow() + timedelta(minutes=9))
    assert of_us(hass) == []
    issues.async_update(dt_util.utcnow() + timedelta(minutes=11))
    (found,) = of_us(hass)
    # No other address was heard, so none is suspected first.
    assert (found.issue_id, found.translation_key, found.is_fixable) == (id_, "meter_trouble", False)
    assert found.translation_placeholders is not None and found.translation_placeholders["point"] == "Dead"
    assert first["text"] in found.translation_placeholders["causes"]

    well = fleet_of(meters[0], ("Dead", "eastron/sdm120", ""))
    fleet.reload_faults(parse_fleet(well, tmp_path / "fleet.toml"))
    await wait_for(lambda: issue(hass, id_) is None, 30)
    await wait_for(lambda: value(hass, "binary_sensor.dead_problem") == "off")


async def test_many_meters_share_one_repair_and_a_line_that_is_cut_has_its_own(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: Callable[..., MockConfigEntry], at_once: None
) -> None:
    dead = [(f"Dead {number}", "eastron/sdm120", '{ kind = "silent" }') for number in range(2, 6)]
    rows = "".join(f"Dead {number},{number},eastron/sdm120,\n" for number in range(2, 6))
    fleet, entry = await set_up(
        hass, start_fleet, add_line, fleet_of(("Good", "eastron/sdm120", ""), *dead), f"Good,1,eastron/sdm120,\n{rows}"
    )
    id_ = f"meters_{entry.entry_id}"
    found = await wait_for(
        lambda: (one := issue(hass, id_)) and one.translation_placeholders["count"] == "4" and one,
        30,  # type: ignore[index]
    )
    assert [one.issue_id for one in of_us(hass)] == [id_]
    assert found.translation_placeholders["names"] == "Dead 2, Dead 3, Dead 4, Dead 5"
    assert found.translation_placeholders["causes"].startswith("- ")

    await fleet.stop()
    cut = await wait_for(lambda: issue(hass, f"line_{entry.entry_id}"))
    assert cut.severity is ir.IssueSeverity.ERROR
    assert [one.issue_id for one in of_us(hass)] == [f"line_{entry.entry_id}"]
    connected = hass.states.get("binary_sensor.east_connection")
    assert connected is not None and connected.state == "off"
    assert await hass.config_entries.async_unload(entry.entry_id)
    assert of_us(hass) == []


async def swapped(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: Callable[..., MockConfigEntry]
) -> tuple[Site, str]:
    rows = "Roof,1,abb/b23,OLD-77\n"
    await set_up(hass, start_fleet, add_line, fleet_of(("Roof", "abb/b23", "")), rows)
    site = await async_get_site(hass)
    (id_,) = site.registry.points
    await wait_for(lambda: issue(hass, f"meter_{id_}"), 30)
    return site, id_


async def test_a_meter_that_was_replaced_is_entered_with_the_readings_of_both(
    hass: HomeAssistant,
    start_fleet: StartFleet,
    add_line: Callable[..., MockConfigEntry],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site, id_ = await swapped(hass, start_fleet, add_line)
    await wait_for(lambda: value(hass, "binary_sensor.roof_problem") == "on")
    problem = hass.states.get("binary_sensor.roof_problem")
    assert problem is not None and problem.attributes["reason"] == "wrong_meter"
    written = await wait_for_log(site, "meter_replaced")
    serial = written["after"]["serial"]
    assert written["point"] == id_ and serial

    def serial_on_the_sheet() -> tuple[bool | None, str]:
        coordinator = entry_of(hass).runtime_data.coordinator
        found = checks(site.registry.points[id_], coordinator.values.get(id_, {}), coordinator)
        (one,) = (one for one in found if one.about == "sheet_serial_read")
        return one.good, one.key

    assert serial_on_the_sheet() == (False, "sheet_serial_other")
    flow = await open_flow(hass, f"meter_{id_}")
    assert flow["description_placeholders"]["before"] == "OLD-77"
    assert flow["description_placeholders"]["serial"] == serial
    for form, error in (
        ({"serial": " ", "since": "2026-07-01 10:00:00"}, {"serial": "serial_missing"}),
        ({"serial": serial, "since": "2199-07-01 10:00:00"}, {"since": "bad_swap_date"}),
    ):
        flow = await answer(hass, flow, **form)
        assert flow["errors"] == error
    since = dt_util.now().replace(microsecond=0) - timedelta(minutes=1)
    form = {"serial": serial, "since": since.strftime("%Y-%m-%d %H:%M:%S"), "last": 4711.5, "first": 0.25}
    told: list[Any] = []

    def spy(*given: Any) -> Any:
        told.extend(made := swap(*given))
        return made

    monkeypatch.setattr("custom_components.meter_batch.intake.swap", spy)
    flow = await answer(hass, flow, **form)
    await hass.async_block_till_done()
    assert flow["type"] == "create_entry"
    point = site.registry.points[id_]
    assert [one.serial for one in point.meters] == ["OLD-77", serial]
    assert point.meter.since == dt_util.as_utc(since) and point.meter.template == "abb/b23"
    assert [(one.last, one.first) for one in told if one.obis == IMPORT] == [(Decimal("4711.5"), Decimal("0.25"))]
    assert issue(hass, f"meter_{id_}") is None
    await wait_for(lambda: value(hass, "binary_sensor.roof_problem") == "off", 30)
    assert issue(hass, f"meter_{id_}") is None
    assert (await site.log.async_read(1))[0]["action"] == "swap_meter"
    await wait_for(lambda: serial_on_the_sheet() == (True, "sheet_serial_same"))


def entry_of(hass: HomeAssistant) -> ConfigEntry[Any]:
    (entry,) = hass.config_entries.async_entries(DOMAIN)
    return entry


async def wait_for_log(site: Site, action: str) -> dict[str, Any]:
    for _ in range(100):
        found = [one for one in await site.log.async_read() if one["action"] == action]
        if found:
            return found[0]
        await site.hass.async_block_till_done()
    raise AssertionError(action)


async def test_a_meter_of_another_model_is_asked_which_it_is_and_the_right_one_is_chosen(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: Callable[..., MockConfigEntry], at_once: None
) -> None:
    toml = fleet_of(("Main", "eastron/sdm630", ""), ("Hall", "eastron/sdm630", ""))
    await set_up(hass, start_fleet, add_line, toml, "Main,1,eastron/sdm630,\nHall,2,abb/b23,\n")
    site = await async_get_site(hass)
    id_ = site.registry.find("Hall").id  # type: ignore[union-attr]
    found = await wait_for(
        lambda: (one := issue(hass, f"meter_{id_}")) and one.translation_key == "meter_wrong_model" and one, 30
    )
    assert found.is_fixable
    flow = await open_flow(hass, f"meter_{id_}")
    assert "SDM630" in flow["description_placeholders"]["fitting"], flow["description_placeholders"]
    # While the line is searched the meter cannot be asked.
    coordinator = entry_of(hass).runtime_data.coordinator
    search = hass.async_create_task(coordinator.async_scan(ScanPlan(("modbus",)), print, print))
    await wait_for(lambda: coordinator.scanning)
    second = await open_flow(hass, f"meter_{id_}")
    assert second["description_placeholders"]["fitting"] == "–"
    search.cancel()
    flow = await answer(hass, flow, template="eastron/sdm630")
    assert flow["type"] == "create_entry"
    await hass.async_block_till_done()
    assert site.registry.points[id_].meter.template == "eastron/sdm630"
    await wait_for(lambda: value(hass, "binary_sensor.hall_problem") == "off", 30)
    assert issue(hass, f"meter_{id_}") is None


async def test_a_meter_with_another_address_leads_to_the_form_of_its_point(
    hass: HomeAssistant,
    start_fleet: StartFleet,
    add_line: Callable[..., MockConfigEntry],
    at_once: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def heard(line: LineEvidence, meter: MeterEvidence, now: float) -> tuple[Diagnosis, ...]:
        """As where a frame of the other address was heard; on a line that only answers, nobody sends one."""
        if meter.address == "2":
            meter.recent.append(Heard(now, Outcome.FOREIGN, encode(102, b"\x03\x02\x00\x01"), 7, 7))
        return diagnose(line, meter, now)

    monkeypatch.setattr("custom_components.meter_batch.engine.fleet.diagnoses.diagnose", heard)
    meters = ("Good", "eastron/sdm120", ""), ("Lost", "eastron/sdm120", '{ kind = "address" }')
    rows = "Good,1,eastron/sdm120,\nLost,2,eastron/sdm120,\n"
    _, entry = await set_up(hass, start_fleet, add_line, fleet_of(*meters), rows)
    lost = await wait_for(lambda: hass.states.get("binary_sensor.lost_problem"))
    assert lost is not None
    id_ = point_id(hass, "binary_sensor.lost_problem")
    await wait_for(
        lambda: (one := issue(hass, f"meter_{id_}")) and one.translation_key == "meter_wrong_address" and one, 30
    )
    flow = await answer(hass, await open_flow(hass, f"meter_{id_}"))
    assert (flow["type"], flow["reason"]) == ("abort", "form_opened")
    kind, options_flow = flow["next_flow"]
    form = hass.config_entries.options.async_get(options_flow)
    assert (kind, form["step_id"], form["handler"]) == ("options_flow", "change_point", entry.entry_id)
    assert issue(hass, f"meter_{id_}") is not None
    point = (await async_get_site(hass)).registry.points[id_]
    fields = {**filled(hass, point), "address": "102"}
    form = await hass.config_entries.options.async_configure(
        options_flow, {key: one for key, one in fields.items() if one is not None}
    )
    assert form["type"] == "create_entry", form
    await hass.async_block_till_done()
    assert issue(hass, f"meter_{id_}") is None
    await wait_for(lambda: value(hass, "binary_sensor.lost_problem") == "off")
    await hass.async_block_till_done()
    assert issue(hass, f"meter_{id_}") is None


async def test_a_repair_of_a_point_that_is_gone_says_so(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: Callable[..., MockConfigEntry]
) -> None:
    site, id_ = await swapped(hass, start_fleet, add_line)
    flow = await open_flow(hass, f"meter_{id_}")
    await act(hass, "undo")
    await hass.async_block_till_done()
    assert site.registry.points == {}
    since = dt_util.now().strftime("%Y-%m-%d %H:%M:%S")
    flow = await answer(hass, flow, serial="X", since=since)
    assert flow["errors"] == {"base": "point_gone"}
    # Whoever opens it only now is not asked for anything.
    for kind in ("meter_swapped", "meter_wrong_model", "meter_wrong_address"):
        late = await async_create_fix_flow(hass, "x", {"kind": kind, "point": id_, "line": "line_east"})
        assert isinstance(late, ConfirmRepairFlow)


@pytest.mark.parametrize("language", ["en", "zh-Hans"])
def test_every_kind_of_repair_has_its_words_and_gives_all_that_they_name(language: str) -> None:
    path = Path(package.__file__).parent / "translations" / f"{language}.json"
    texts = json.loads(path.read_text(encoding="utf-8"))["issues"]
    of_meter = {"point", "line", "address"}
    given = {
        Kind.LINE: {"line", "problem", "causes"},
        Kind.METERS: {"line", "count", "names", "causes"},
        Kind.METER: {*of_meter, "causes"},
        Kind.ADDRESS: {*of_meter, "causes"},
        Kind.MODEL: {*of_meter, "causes", "fitting"},
        Kind.SWAPPED: {*of_meter, "serial", "before"},
    }
    for kind in Kind:
        words = texts[kind]
        assert ("fix_flow" in words) == (kind in FIXABLE) != ("description" in words)
        assert set(re.findall(r"{(\w+)}", words["title"])) <= given[kind] - {"fitting"}
        shown = words.get("description") or words["fix_flow"]["step"]["confirm"]["description"]
        assert set(re.findall(r"{(\w+)}", shown)) == given[kind] - ({"line", "count"} if kind is Kind.METERS else set())
