"""Commissioning: what a display shows against what is read, signed off, printed, listed, taken back."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.util import dt as dt_util
from pytest_homeassistant_custom_component.common import MockConfigEntry
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator, WebSocketGenerator

from custom_components.meter_batch.commissioning import ENERGY, compare, holds, outdated, parse_display, percent
from custom_components.meter_batch.engine.model.point import Commissioned, InstalledMeter, Multiplier, Route
from custom_components.meter_batch.engine.model.reading import Reading
from custom_components.meter_batch.engine.wire import point_as_dict, point_from_dict
from custom_components.meter_batch.plausibility import checks
from custom_components.meter_batch.registry import ALWAYS
from custom_components.meter_batch.site import async_get_site

from .conftest import StartFleet, make_point
from .test_live import act, set_up, value, wait_for
from .test_options_flow import begin, go, href


@pytest.mark.parametrize(
    ("text", "shown", "step"),
    [
        ("001234.56", "1234.56", "0.01"),
        ("1,234.5 kWh", "1234.5", "0.1"),
        ("１２３4", "1234", "1"),
        ("1.234 MWh", "1234", "1"),
        ("1234500 Wh", "1234.5", "0.001"),
        ("-5.0", "-5", "0.1"),
    ],
)
def test_a_display_is_read_as_people_write_it_down(text: str, shown: str, step: str) -> None:
    display = parse_display(text, ENERGY)
    assert (display.value, display.step) == (Decimal(shown), Decimal(step))


@pytest.mark.parametrize("text", ["–", "abc", "12 kvarh", "12 V", "1.2.3 x"])
def test_what_is_no_number_of_that_unit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        parse_display(text, ENERGY)


@pytest.mark.parametrize(
    ("displayed", "read", "multiplier", "key"),
    [
        ("1234.56", "1234.567", 1, "commission_agrees"),
        ("1234", "1234.9", 1, "commission_agrees"),
        ("1234.5", "98764", 80, "commission_agrees"),
        ("98764.0", "98764.0", 80, "commission_agrees_primary"),
        ("0.00", "0.00", 80, "commission_zero"),
        ("12345.6", "1234.56", 1, "commission_tenfold_more"),
        ("123.45", "1234.56", 1, "commission_tenfold_less"),
        ("1.23", "1234.56", 1, "commission_unit_less"),
        ("1234560", "1234.56", 1, "commission_unit_more"),
        ("98764.8", "1234.56", 1, "commission_ratio_display"),
        ("1234.56", "98764.8", 1, "commission_ratio_meter"),
        ("1234.56", "1500", 1, "commission_differs"),
        ("0.0", "1500", 1, "commission_one_zero"),
        ("77.7", "1500", 1, "commission_other_register"),
        ("55.5", "1500", 1, "commission_other_point"),
    ],
)
def test_a_deviation_is_told_with_its_probable_cause(displayed: str, read: str, multiplier: int, key: str) -> None:
    found = compare(
        parse_display(displayed, ENERGY),
        Decimal(read),
        Decimal(multiplier),
        Decimal(0),
        {"Energy export": Decimal("77.7")},
        {"Roof": Decimal("55.5"), "Flat": Decimal(0)},
    )
    assert found.key == key
    assert found.agrees == (key in {"commission_agrees", "commission_agrees_primary", "commission_zero"})


def test_a_deviation_that_rounds_to_nothing_has_no_sign() -> None:
    assert [percent(Decimal(one)) for one in ("-0.00004", "0", "0.00004", "-0.0001")] == [
        "0.00",
        "0.00",
        "0.00",
        "-0.01",
    ]
    assert percent(None) == "–"


def test_a_meter_that_counts_on_while_somebody_writes_still_agrees() -> None:
    display = parse_display("100.00", ENERGY)
    assert not compare(display, Decimal(108), Decimal(1)).agrees
    assert compare(display, Decimal(108), Decimal(1), drift=Decimal(10)).agrees


def test_a_sign_off_says_nothing_any_more_once_meter_address_or_ratio_are_others() -> None:
    at = ALWAYS + timedelta(days=9)
    signed = Commissioned(
        at, "Ann", ENERGY, Decimal(1), Decimal(80), Decimal(80), Decimal(0), "", "eastron/sdm630", "1"
    )
    point = make_point(ct="80", commissioned=signed)
    assert holds(point)
    assert point_from_dict(point.id, point_as_dict(point)) == point
    assert outdated(make_point(commissioned=None)) is None
    for change, what in (
        ({"meters": (*point.meters, InstalledMeter(at + timedelta(days=1), "eastron/sdm630", "S2"))}, "meter"),
        ({"meters": (InstalledMeter(ALWAYS, "eastron/sdm230"),)}, "meter"),
        ({"routes": (Route("l1", "modbus", "2"),)}, "address"),
        ({"multipliers": (Multiplier(ALWAYS, Decimal(60)),)}, "ratio"),
    ):
        changed = replace(point, **change)  # type: ignore[arg-type]
        assert (outdated(changed), holds(changed)) == (what, False)
    assert holds(replace(point, name="Other", area="Hall", routes=(Route("l2", "modbus", "1"),)))


def about(values: dict[str, float], **point: Any) -> dict[str, str]:
    now = dt_util.utcnow()
    readings = {obis: Reading(obis, one, now) for obis, one in values.items()}
    return {one.about: one.key for one in checks(make_point(**point), readings, None)}


def phases(first: float, second: float, third: float, c: int) -> dict[str, float]:
    return {f"1-0:{c + 20 * n}.7.0": one for n, one in enumerate((first, second, third))}


@pytest.mark.parametrize(
    ("values", "point", "key"),
    [
        (phases(230, 231, 229, 32), {}, "sheet_voltages_fit"),
        (phases(230, 231, 3, 32), {}, "sheet_phase_lost"),
        (phases(230, 231, 209, 32), {}, "sheet_voltages_unbalanced"),
        (phases(230, 231, 229, 32), {"attributes": {"nominal_v": "400"}}, "sheet_voltages_fit"),
        (phases(57.0, 57.5, 58.0, 32), {"attributes": {"nominal_v": "230"}}, "sheet_voltages_off"),
        (phases(5774, 5790, 5780, 32), {"multipliers": (Multiplier(ALWAYS, pt=Decimal(100)),)}, "sheet_voltages_fit"),
    ],
)
def test_voltages_are_judged_for_the_sheet(values: dict[str, float], point: dict[str, Any], key: str) -> None:
    assert about(values, **point)["sheet_voltages"] == key


@pytest.mark.parametrize(
    ("values", "attributes", "key"),
    [
        ({**phases(5, 6, 7, 36), "1-0:16.7.0": 18.0}, {}, "sheet_directions_fit"),
        ({**phases(5, -6, 7, 36), "1-0:16.7.0": 6.0}, {}, "sheet_reversed"),
        ({**phases(-5, -6, -7, 36), "1-0:16.7.0": -18.0}, {}, "sheet_all_reversed"),
        ({**phases(-5, -6, -7, 36), "1-0:16.7.0": -18.0}, {"generation": "yes"}, "sheet_directions_fit"),
        ({**phases(5, 6, 7, 36), "1-0:16.7.0": 10.0}, {}, "sheet_sum_off"),
        ({**phases(0, 0, 0.001, 36), "1-0:16.7.0": 0.001}, {}, "sheet_no_load"),
        ({"1-0:16.7.0": -3.0}, {}, "sheet_all_reversed"),
    ],
)
def test_powers_are_judged_for_the_sheet(values: dict[str, float], attributes: dict[str, str], key: str) -> None:
    assert about(values, attributes=attributes)["sheet_directions"] == key


async def test_a_point_is_signed_off_listed_printed_exported_and_taken_back(
    hass: HomeAssistant,
    start_fleet: StartFleet,
    add_line: Callable[..., MockConfigEntry],
    hass_client: ClientSessionGenerator,
    hass_ws_client: WebSocketGenerator,
) -> None:
    fleet, *_ = await set_up(hass, start_fleet, add_line)
    await wait_for(lambda: value(hass, "sensor.substation_main_energy_import"))
    site = await async_get_site(hass)
    truth = Decimal({one["meter"]: one["registers"] for one in fleet.truth()}["Main"]["1-0:1.8.0"])
    with pytest.raises(HomeAssistantError) as refused:
        await act(hass, "commission_point", point="Main", displayed=str(truth * 10))
    assert "times as much" in str((refused.value.translation_placeholders or {})["text"])
    with pytest.raises(HomeAssistantError) as refused:
        await act(hass, "commission_point", point="Main", displayed=str(truth * 10), accept=True, note="  ")
    assert refused.value.translation_key == "commission_no_remark"
    assert site.registry.find("Main").commissioned is None  # type: ignore[union-attr]

    # A sheet to be filled in shows what is read now, and that times the multiplier.
    http = await hass_client()
    blank = await (await http.get((await act(hass, "commissioning_sheet", points=["Main"]))["path"])).text()
    numbers = re.search(r'<td class="n">([\d,.]+)<br>.*?× 80</td><td class="n">([\d,.]+)</td>', blank)
    assert numbers is not None, blank
    own, primary = (Decimal(one.replace(",", "")) for one in numbers.groups())
    assert own > 0 and primary == pytest.approx(own * 80, abs=Decimal("0.1"))

    done = await act(hass, "commission_point", point="Main", displayed=f"00{truth}", by="Ann <b>", note="Tür & Tor")
    assert (done["agrees"], done["multiplier"]) == (True, "80")
    listed = await act(hass, "list_commissioning")
    assert (listed["total"], listed["signed_off"]) == (4, 1)
    client = await hass_ws_client(hass)
    await client.send_json_auto_id({"type": "meter_batch/commissioning/list", "lines": ["East"]})
    assert (await client.receive_json())["result"]["signed_off"] == 1
    (entry, *_) = await site.log.async_read()
    assert (entry["action"], *[one["commissioned"]["by"] for one in entry["after"].values()]) == (
        "commission_point",
        "Ann <b>",
    )

    sheet = await act(hass, "commissioning_sheet", lines=["East"])
    assert sheet["points"] == 2
    page = await (await http.get(sheet["path"])).text()
    assert page.count('<section class="sheet">') == 2
    assert "by Ann &lt;b&gt;" in page and "Tür &amp; Tor" in page and "<b>Ann <b>" not in page
    chinese = await (await http.get((await act(hass, "commissioning_sheet", language="zh-Hans"))["path"])).text()
    assert chinese.count("调试验收单</span>") == 4 + 0 and "Commissioning" not in chinese

    exported = (await act(hass, "export_points"))["content"]
    assert "Ann <b>" in exported
    again = await act(hass, "import_points", content=exported)
    assert (again["unchanged"], again["applied"]) == (4, 0)
    await act(hass, "undo")
    assert (await act(hass, "list_commissioning"))["signed_off"] == 0
    await act(hass, "undo", again=True)
    await act(hass, "import_points", content="name,ct\nMain,60\n")
    (row,) = [one for one in (await act(hass, "list_commissioning"))["points"] if one["name"] == "Main"]
    assert (row["signed_off"], row["changed_since"], row["by"]) == (False, "ratio", "Ann <b>")


async def test_one_point_after_the_other_is_signed_off_in_the_options_of_the_line(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: Callable[..., MockConfigEntry]
) -> None:
    fleet, east, _ = await set_up(hass, start_fleet, add_line)
    await wait_for(lambda: value(hass, "sensor.roof_energy_import"))
    truth = {one["meter"]: one["registers"]["1-0:1.8.0"] for one in fleet.truth()}
    site = await async_get_site(hass)
    ids = {point.name: point.id for point in site.registry.points.values()}
    result = await begin(hass, east, "commissioning")
    about = result["description_placeholders"]
    assert (about["done"], about["count"], about["left"]) == ("0", "2", "Main, Roof")
    assert href(about["sheets"]).startswith("/api/meter_batch/commissioning?")
    result = await go(hass, result, {"point": ids["Main"], "displayed": truth["Roof"], "by": "Ann"})
    assert result["errors"] == {"base": "commission_refused"}
    assert "Roof" in result["description_placeholders"]["problem"]
    result = await go(hass, result, {"point": ids["Main"], "displayed": truth["Main"], "by": "Ann"})
    about = result["description_placeholders"]
    assert (about["done"], about["left"]) == ("1", "Roof")
    assert "✓ **Main**" in about["said"]
    suggested = {str(one): (one.description or {}).get("suggested_value") for one in result["data_schema"].schema}
    assert (suggested["point"], suggested["by"]) == (ids["Roof"], "Ann")
    differs = {"point": ids["Roof"], "displayed": "1", "by": "Ann", "note": " ", "accept": True}
    result = await go(hass, result, differs)
    assert result["errors"] == {"note": "commission_no_remark"}
    assert result["description_placeholders"]["done"] == "1"
    differs |= {"note": "display dark"}
    result = await go(hass, result, differs)
    assert result["description_placeholders"]["done"] == "2"
    result = await go(hass, result, {})
    assert result["type"] == "create_entry"
    assert [one.commissioned and one.commissioned.note for one in site.registry.points.values()][:2] == [
        "",
        "display dark",
    ]


async def test_nothing_is_signed_off_where_there_is_no_meter_no_number_no_line_or_no_such_register(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: Callable[..., MockConfigEntry]
) -> None:
    _, east, _ = await set_up(hass, start_fleet, add_line)
    await wait_for(lambda: value(hass, "sensor.flats_flat_energy_import"))
    await act(hass, "import_points", content="name,formula\nBoth,Main + Roof\n")
    await hass.async_block_till_done()

    async def refusal(**data: str) -> str | None:
        with pytest.raises(HomeAssistantError) as refused:
            await act(hass, "commission_point", **data)
        return refused.value.translation_key

    assert await refusal(point="Both", displayed="1") == "point_is_virtual"
    assert await refusal(point="Main", displayed="about twelve") == "commission_bad_number"
    assert await refusal(point="Flat", displayed="230", register="voltage_l3") == "nothing_to_read"
    assert await hass.config_entries.async_unload(east.entry_id)
    assert await refusal(point="Main", displayed="1") == "line_not_running"
    assert all(one.commissioned is None for one in (await async_get_site(hass)).registry.points.values())
