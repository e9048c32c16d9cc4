"""Points through the options of a line: one by one, and from a file with a dry run before anything is applied."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

import pytest
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.helpers import area_registry as ar
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import MockConfigEntry
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator

from custom_components.meter_batch import link
from custom_components.meter_batch.const import DEFAULT_OWN_PROCESS, DOMAIN
from custom_components.meter_batch.registry import ALWAYS, Registry
from custom_components.meter_batch.site import async_get_site


@pytest.fixture
async def line(hass: HomeAssistant, add_line: Callable[..., MockConfigEntry]) -> MockConfigEntry:
    entry = add_line("East", disabled=True)
    assert await async_setup_component(hass, DOMAIN, {})
    return entry


@pytest.fixture
async def registry(hass: HomeAssistant, line: MockConfigEntry) -> Registry:
    return (await async_get_site(hass)).registry


async def begin(hass: HomeAssistant, line: MockConfigEntry, step: str) -> Any:
    result = await hass.config_entries.options.async_init(line.entry_id)
    assert result["type"] is FlowResultType.MENU
    return await go(hass, result, {"next_step_id": step})


async def go(hass: HomeAssistant, result: Any, step: dict[str, Any]) -> Any:
    return await hass.config_entries.options.async_configure(result["flow_id"], step)


FIELDS = {"name": "Hall 1", "template": "eastron/sdm630", "address": "7", "detail": "auto"}


async def test_a_point_can_only_be_edited_where_there_is_one(
    hass: HomeAssistant, line: MockConfigEntry, registry: Registry
) -> None:
    result: Any = await hass.config_entries.options.async_init(line.entry_id)
    assert result["menu_options"] == ["scan", "add_point", "import_points", "settings"]
    assert result["description_placeholders"] == {"line": "East", "count": "0"}
    await go(hass, await go(hass, result, {"next_step_id": "add_point"}), FIELDS)
    result = await hass.config_entries.options.async_init(line.entry_id)
    with_points = ["settings", "add_point", "scan", "add_virtual_point", "edit_point", "import_points"]
    assert result["menu_options"] == [*with_points, "commissioning", "undo"]


async def test_settings_are_kept_as_numbers(hass: HomeAssistant, line: MockConfigEntry) -> None:
    result = await begin(hass, line, "settings")
    values = {"fast_s": 5, "slow_s": 60, "interval_min": "30", "detail": "lean", "entity_statistics": True}
    result = await go(hass, result, values)
    assert result["type"] is FlowResultType.CREATE_ENTRY
    values |= {"backfill": True, "backfill_percent": 80, "billing_day": 1, "billing_hour": 0}
    values |= {"own_process": DEFAULT_OWN_PROCESS}
    assert line.options == {**values, "interval_min": 30}
    result = await begin(hass, line, "settings")
    suggested = {str(field): field.description["suggested_value"] for field in result["data_schema"].schema}
    assert suggested == values


@pytest.mark.parametrize(
    ("protocol", "offered"),
    [("modbus-tcp", set()), ("modbus-rtu", {"gap_ms"}), ("mixed", {"gap_ms", "preamble"})],
)
async def test_what_a_wire_wants_besides_is_asked_where_there_is_one(
    hass: HomeAssistant,
    line: MockConfigEntry,
    add_line: Callable[..., MockConfigEntry],
    protocol: str,
    offered: set[str],
) -> None:
    wired = add_line("West", port=4001, protocol=protocol, disabled=True)
    result = await begin(hass, wired, "settings")
    assert {str(field) for field in result["data_schema"].schema} & {"gap_ms", "preamble"} == offered
    values = {"fast_s": 5, "slow_s": 60, "interval_min": "30", "detail": "lean", "entity_statistics": True}
    given = {"gap_ms": 40.0, "preamble": 4.0}
    await go(hass, result, {**values, **{key: given[key] for key in offered}})
    settings = link.make_line(wired.data, wired.options).settings
    assert settings.gap_s == (0.04 if "gap_ms" in offered else 0)
    assert settings.preamble == (4 if "preamble" in offered else 0)


async def test_models_are_offered_by_their_name_with_the_id_that_lists_use(
    hass: HomeAssistant, line: MockConfigEntry
) -> None:
    result = await begin(hass, line, "add_point")
    models = next(value for field, value in result["data_schema"].schema.items() if str(field) == "template")
    labels = {one["value"]: one["label"] for one in models.config["options"]}
    assert labels["eastron/sdm630"] == "Eastron SDM630 · eastron/sdm630"
    assert not any(id_.startswith("generic/dlt645") for id_ in labels), "the line speaks Modbus"


async def test_a_point_is_added_with_area_ratio_and_parent(
    hass: HomeAssistant, line: MockConfigEntry, registry: Registry
) -> None:
    area = ar.async_get(hass).async_create("Halle")
    await go(hass, await begin(hass, line, "add_point"), FIELDS)
    (main,) = registry.points.values()
    result = await begin(hass, line, "add_point")
    more = {"name": " Press  1 ", "address": "8", "ct": "400/5", "pt": "10", "area": area.id, "parent": main.id}
    more |= {"serial": "S-8", "detail": "full", "multiplier_since": "2026-07-01"}
    result = await go(hass, result, {**FIELDS, **more})
    assert result["type"] is FlowResultType.CREATE_ENTRY
    press = registry.find("Press 1")
    assert press is not None
    assert (press.area, press.parent, press.detail, press.meter.serial) == ("Halle", main.id, "full", "S-8")
    assert press.meter.since == ALWAYS, "what it remembers is this point's"
    assert (press.multipliers[0].ct, press.multipliers[0].pt) == (80, 10)
    assert press.routes[0].line == line.entry_id


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("name", "  ", "name_missing"),
        ("name", "x" * 256, "name_too_long"),
        ("address", "300", "import_bad_unit"),
        ("address", "1.23E+11", "import_scientific"),
        ("ct", "five", "bad_ratio"),
        ("pt", "1/0", "bad_ratio"),
        ("multiplier_since", "soon", "bad_date"),
    ],
)
async def test_a_wrong_field_is_told_at_the_field(
    hass: HomeAssistant, line: MockConfigEntry, registry: Registry, field: str, value: str, error: str
) -> None:
    result = await go(hass, await begin(hass, line, "add_point"), {**FIELDS, field: value})
    assert result["errors"] == {field: error}
    assert registry.points == {}


async def test_a_taken_address_is_told_with_who_has_it(
    hass: HomeAssistant, line: MockConfigEntry, registry: Registry
) -> None:
    await go(hass, await begin(hass, line, "add_point"), FIELDS)
    result = await go(hass, await begin(hass, line, "add_point"), {**FIELDS, "name": "Other"})
    assert result["errors"] == {"address": "address_twice"}
    assert result["description_placeholders"]["name"] == "Hall 1"
    assert len(registry.points) == 1


async def test_a_point_is_changed_its_meter_replaced_and_removed(
    hass: HomeAssistant, line: MockConfigEntry, registry: Registry
) -> None:
    ar.async_get(hass).async_create("Halle")
    area = ar.async_get(hass).async_get_area_by_name("Halle")
    assert area is not None
    await go(hass, await begin(hass, line, "add_point"), {**FIELDS, "serial": "A", "ct": "80", "area": area.id})
    (point,) = registry.points.values()
    result = await go(hass, await begin(hass, line, "edit_point"), {"point": point.id})
    assert result["step_id"] == "change_point"
    suggested = {str(f): (f.description or {}).get("suggested_value") for f in result["data_schema"].schema}
    assert suggested["ct"] == "80" and suggested["area"] == area.id and suggested["serial"] == "A"
    result = await go(
        hass, result, {**FIELDS, "name": "Hall A", "serial": "B", "template": "eastron/sdm230", "ct": "100"}
    )
    assert result["type"] is FlowResultType.CREATE_ENTRY
    changed = registry.points[point.id]
    assert (changed.name, changed.area) == ("Hall A", None)
    assert [(one.template, one.serial) for one in changed.meters] == [("eastron/sdm630", "A"), ("eastron/sdm230", "B")]
    assert [one.ct for one in changed.multipliers] == [80, 100]

    child = {**FIELDS, "name": "Child", "address": "9", "parent": point.id}
    await go(hass, await begin(hass, line, "add_point"), child)
    result = await go(hass, await begin(hass, line, "edit_point"), {"point": point.id})
    result = await go(hass, result, {**FIELDS, "remove": True})
    assert result["errors"] == {"base": "parent_lost"}
    again = registry.find("Child")
    assert again is not None
    result = await go(hass, await begin(hass, line, "edit_point"), {"point": again.id})
    result = await go(hass, result, {**FIELDS, "name": "", "remove": True})
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert registry.find("Child") is None
    result = await go(hass, await begin(hass, line, "edit_point"), {"point": point.id})
    result = await go(hass, result, {**FIELDS, "address": "x"})
    assert result["errors"] == {"address": "import_bad_unit"}


def href(text: str) -> str:
    """The address of the first link in a text."""
    found = re.search(r'<a href="([^"]+)" target="_blank">', text)
    assert found is not None, text
    return html.unescape(found[1])


async def upload(hass_client: ClientSessionGenerator, content: bytes, name: str = "list.csv") -> str:
    import aiohttp

    client = await hass_client()
    form = aiohttp.FormData()
    form.add_field("file", content, filename=name)
    answer = await client.post("/api/file_upload", data=form)
    assert answer.status == 200, await answer.text()
    return str((await answer.json())["file_id"])


GOOD = "名称,地址,表型模板,ct\n一号,1,eastron/sdm630,400/5\n二号,2,eastron/sdm630,\n".encode("gbk")


async def test_a_file_is_reviewed_before_it_is_applied(
    hass: HomeAssistant, line: MockConfigEntry, registry: Registry, hass_client: ClientSessionGenerator
) -> None:
    result = await begin(hass, line, "import_points")
    result = await go(hass, result, {"file": await upload(hass_client, GOOD)})
    assert result["step_id"] == "review"
    assert result["description_placeholders"]["new"] == "2"
    assert "- \\+ **2** 一号" in result["description_placeholders"]["list"]
    assert registry.points == {}
    result = await go(hass, result, {})
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert sorted(point.name for point in registry.points.values()) == ["一号", "二号"]


async def test_a_file_with_bad_rows_applies_nothing_unless_they_are_left_out(
    hass: HomeAssistant, line: MockConfigEntry, registry: Registry, hass_client: ClientSessionGenerator
) -> None:
    bad = GOOD + "三号,2,eastron/sdm360,\n".encode("gbk")
    result = await begin(hass, line, "import_points")
    result = await go(hass, result, {"file": await upload(hass_client, bad)})
    listed = result["description_placeholders"]["list"]
    assert "✗ **4 · 表型模板**" in listed, "columns are called as the file calls them"
    assert "eastron/sdm630" in listed
    result = await go(hass, result, {"skip_bad": False})
    assert result["errors"] == {"base": "import_has_problems"}
    assert registry.points == {}
    result = await go(hass, result, {"skip_bad": True})
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert len(registry.points) == 2


async def test_a_file_of_which_nothing_is_good_says_that_nothing_was_applied_and_takes_another(
    hass: HomeAssistant, line: MockConfigEntry, registry: Registry, hass_client: ClientSessionGenerator
) -> None:
    result = await begin(hass, line, "import_points")
    result = await go(hass, result, {"file": await upload(hass_client, b"nonsense\n1\n")})
    assert "✗ **1 · Name**" in result["description_placeholders"]["list"]
    again = await go(hass, result, {})
    assert (again["step_id"], again["errors"]) == ("review", {"base": "import_all_bad"})
    result = await go(hass, again, {"file": await upload(hass_client, b"")})
    assert "✗ The file holds no rows" in result["description_placeholders"]["list"]


async def test_a_second_file_shows_what_changes_and_may_remove_what_it_does_not_list(
    hass: HomeAssistant, line: MockConfigEntry, registry: Registry, hass_client: ClientSessionGenerator
) -> None:
    result = await begin(hass, line, "import_points")
    await go(hass, await go(hass, result, {"file": await upload(hass_client, GOOD)}), {})
    result = await begin(hass, line, "import_points")
    second = b"name,address,ct\n\xe4\xb8\x80\xe5\x8f\xb7,11,500/5\n"
    result = await go(hass, result, {"file": await upload(hass_client, second)})
    listed = result["description_placeholders"]["list"]
    assert "一号: address: 1 → 11, ct: 80 → 100" in listed
    assert "⚠ **2 · ct**" in listed
    assert result["description_placeholders"]["absent"] == "1"
    result = await go(hass, result, {"remove_absent": True})
    assert result["type"] is FlowResultType.CREATE_ENTRY
    (point,) = registry.points.values()
    assert point.routes[0].address == "11"


async def test_a_registry_that_changed_meanwhile_refuses_the_review(
    hass: HomeAssistant, line: MockConfigEntry, registry: Registry, hass_client: ClientSessionGenerator
) -> None:
    result = await begin(hass, line, "import_points")
    result = await go(hass, result, {"file": await upload(hass_client, GOOD)})
    await go(hass, await begin(hass, line, "add_point"), {**FIELDS, "address": "2"})
    result = await go(hass, result, {})
    assert result["errors"] == {"base": "import_changed"}
    assert "✗ **3 · 地址**" in result["description_placeholders"]["list"], "it is the review of what is there now"
    assert len(registry.points) == 1
    result = await go(hass, result, {"skip_bad": True})
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert sorted(point.name for point in registry.points.values()) == ["Hall 1", "一号"]


async def test_what_somebody_else_changed_during_a_review_is_not_undone_by_it(
    hass: HomeAssistant, line: MockConfigEntry, registry: Registry, hass_client: ClientSessionGenerator
) -> None:
    await go(hass, await begin(hass, line, "add_point"), FIELDS)
    (point,) = registry.points.values()
    result = await begin(hass, line, "import_points")
    result = await go(hass, result, {"file": await upload(hass_client, b"name,address,ct\nHall 1,8,80\n")})
    # Meanwhile the serial number, of which the file says nothing, is written down.
    other = await go(hass, await begin(hass, line, "edit_point"), {"point": point.id})
    await go(hass, other, {**FIELDS, "serial": "S-7"})
    result = await go(hass, result, {})
    assert result["type"] is FlowResultType.CREATE_ENTRY
    after = registry.points[point.id]
    assert (after.meter.serial, after.routes[0].address, after.multipliers[-1].ct) == ("S-7", "8", 80)

    result = await begin(hass, line, "import_points")
    result = await go(hass, result, {"file": await upload(hass_client, b"name,address\nHall 1,9\n")})
    other = await go(hass, await begin(hass, line, "edit_point"), {"point": point.id})
    await go(hass, other, {**FIELDS, "address": "10", "serial": "S-7"})
    result = await go(hass, result, {})
    assert result["errors"] == {"base": "import_changed"}
    assert "address: 10 → 9" in result["description_placeholders"]["list"]
    assert registry.points[point.id].routes[0].address == "10"
    assert (await go(hass, result, {}))["type"] is FlowResultType.CREATE_ENTRY
    assert registry.points[point.id].routes[0].address == "9"


async def test_a_long_list_is_cut_on_the_page(
    hass: HomeAssistant, line: MockConfigEntry, registry: Registry, hass_client: ClientSessionGenerator
) -> None:
    rows = "".join(f"P{n},{n},eastron/sdm630\n" for n in range(1, 101))
    result = await begin(hass, line, "import_points")
    result = await go(hass, result, {"file": await upload(hass_client, f"name,address,template\n{rows}".encode())})
    assert result["description_placeholders"]["list"].endswith("\n- … +60")
    assert (await go(hass, result, {}))["type"] is FlowResultType.CREATE_ENTRY
    assert len(registry.points) == 100


async def test_a_virtual_point_is_added_changed_and_removed(
    hass: HomeAssistant, line: MockConfigEntry, registry: Registry
) -> None:
    for number in (1, 2, 3):
        fields = {**FIELDS, "name": f"Hall {number}", "address": str(number)}
        await go(hass, await begin(hass, line, "add_point"), fields)
    one, two, three = list(registry.points)
    fields = {"name": " Lost  energy", "plus": [one], "minus": [two, three], "detail": "full", "parent": one}
    result = await go(hass, await begin(hass, line, "add_virtual_point"), {**fields, "plus": []})
    assert result["errors"] == {"plus": "part_missing"}
    result = await go(hass, result, {**fields, "minus": [one, two]})
    assert result["errors"] == {"plus": "part_twice"}
    assert result["description_placeholders"]["part"] == "Hall 1"
    assert (await go(hass, result, fields))["type"] is FlowResultType.CREATE_ENTRY
    (point,) = [point for point in registry.points.values() if point.virtual]
    assert (point.name, point.detail, point.parent) == ("Lost energy", "full", one)
    assert [(term.sign, term.point) for term in point.formula] == [(1, one), (-1, two), (-1, three)]

    result = await go(hass, await begin(hass, line, "edit_point"), {"point": two})
    result = await go(hass, result, {**FIELDS, "name": "Hall 2", "address": "2", "remove": True})
    assert result["errors"] == {"base": "part_lost"}

    result = await go(hass, await begin(hass, line, "edit_point"), {"point": point.id})
    assert result["step_id"] == "change_virtual_point"
    suggested = {
        str(field): field.description["suggested_value"] for field in result["data_schema"].schema if field.description
    }
    assert suggested == {**fields, "name": "Lost energy", "area": None}
    await go(hass, result, {**fields, "minus": [two]})
    assert len(registry.points[point.id].formula) == 2
    result = await go(hass, await begin(hass, line, "edit_point"), {"point": point.id})
    await go(hass, result, {**fields, "remove": True})
    assert point.id not in registry.points


async def test_a_list_cannot_remove_what_another_line_needs(
    hass: HomeAssistant,
    line: MockConfigEntry,
    registry: Registry,
    add_line: Callable[..., MockConfigEntry],
    hass_client: ClientSessionGenerator,
) -> None:
    other = add_line("West", port=503, disabled=True)
    for number in (1, 2):
        await go(hass, await begin(hass, line, "add_point"), {**FIELDS, "name": f"P{number}", "address": str(number)})
    main = registry.find("P2")
    assert main is not None
    await go(hass, await begin(hass, other, "add_point"), {**FIELDS, "name": "Below", "parent": main.id})
    result = await begin(hass, line, "import_points")
    result = await go(hass, result, {"file": await upload(hass_client, b"name,address,ct\nP1,1,80\n")})
    again = await go(hass, result, {"remove_absent": True})
    assert again["errors"] == {"base": "parent_lost"}
    assert again["description_placeholders"]["name"] == "Below"
    assert len(registry.points) == 3
    # The same page goes on without the removal.
    assert (await go(hass, again, {"remove_absent": False}))["type"] is FlowResultType.CREATE_ENTRY
    assert registry.points[main.id] is main


async def test_a_virtual_point_needs_a_name_that_fits(
    hass: HomeAssistant, line: MockConfigEntry, registry: Registry
) -> None:
    await go(hass, await begin(hass, line, "add_point"), FIELDS)
    (id_,) = registry.points
    fields = {"name": " ", "plus": [id_], "detail": "auto"}
    result = await go(hass, await begin(hass, line, "add_virtual_point"), fields)
    assert result["errors"] == {"name": "name_missing"}
    result = await go(hass, result, {**fields, "name": "x" * 256})
    assert result["errors"] == {"name": "name_too_long"}
    assert (await go(hass, result, {**fields, "name": "Sum"}))["type"] is FlowResultType.CREATE_ENTRY
