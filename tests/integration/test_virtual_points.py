"""Virtual points: what is worked out from others is imported, asked for and shown as any point is."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import ServiceValidationError
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers import entity_registry as er
from homeassistant.setup import async_setup_component
from homeassistant.util import dt as dt_util
from hypothesis import given
from hypothesis import strategies as st
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.meter_batch import energy
from custom_components.meter_batch.access import SYSTEM
from custom_components.meter_batch.cells import Known, as_rows, parse_formula, write_formula
from custom_components.meter_batch.const import DOMAIN
from custom_components.meter_batch.engine import Point
from custom_components.meter_batch.engine.model.point import Term
from custom_components.meter_batch.importer import Outcome, dry_run
from custom_components.meter_batch.registry import Registry, conflicts
from custom_components.meter_batch.site import Site, async_get_site
from custom_components.meter_batch.table import write_csv

from .conftest import StartFleet, make_point, port_of, wait_for
from .test_query import ask, energies, quarters, take
from .test_query import site as site  # a fixture


def virtual(id_: str, name: str, *terms: tuple[int, str], **more: Any) -> Point:
    formula = tuple(Term(1 if sign > 0 else -1, part) for sign, part in terms)
    return Point(id_, name, (), (), formula=formula, **more)


LOST = virtual("v1", "Unaccounted", (1, "p1"), (-1, "p2"), (-1, "p3"))


# --- as text


@pytest.mark.parametrize(
    ("text", "formula"),
    [
        ("Main; - Lathe 1; - Lathe 2", [(1, "Main"), (-1, "Lathe 1"), (-1, "Lathe 2")]),
        ("+Main incomer -Lathe 1 -Lathe 2", [(1, "Main incomer"), (-1, "Lathe 1"), (-1, "Lathe 2")]),
        ("Main incomer - Lathe 1 + Solar", [(1, "Main incomer"), (-1, "Lathe 1"), (1, "Solar")]),
        ("总表；－1－2号柜；－车床 二", [(1, "总表"), (-1, "1－2号柜"), (-1, "车床 二")]),
        ("Main\n- Hall-1\n- Hall-2", [(1, "Main"), (-1, "Hall-1"), (-1, "Hall-2")]),
        ('"A; B"; -"C ""x"""', [(1, "A; B"), (-1, 'C "x"')]),
        ("Main-1", [(1, "Main-1")]),
        ("; - A", [(-1, "A")]),
    ],
)
def test_a_formula_is_read_as_people_write_it(text: str, formula: list[tuple[int, str]]) -> None:
    assert parse_formula(text) == formula


@pytest.mark.parametrize("text", ["", ";", "+", "Main; -", "Main; - ;"])
def test_what_names_no_part_is_no_formula(text: str) -> None:
    with pytest.raises(ValueError):
        parse_formula(text)


names = st.text(st.sampled_from('ab 12-+;"；－–=@\n'), min_size=1, max_size=8).map(lambda text: " ".join(text.split()))


@given(st.lists(st.tuples(st.sampled_from([1, -1]), names.filter(bool)), min_size=1, max_size=5))
def test_what_is_written_reads_back_and_is_no_formula_of_a_spreadsheet(formula: list[tuple[int, str]]) -> None:
    text = write_formula(formula)
    assert parse_formula(text) == formula
    assert text[0] not in "+-=@"


# --- in files


def known(points: dict[str, Point]) -> Known:
    ids = iter(f"n{number}" for number in range(99))
    return Known(points, {}, {"eastron/sdm630": "modbus"}, datetime(2026, 7, 1, tzinfo=UTC), make_id=lambda: next(ids))


def parts() -> dict[str, Point]:
    return {
        "p1": make_point("p1", "Main incomer", "1"),
        "p2": make_point("p2", "Lathe 1", "2"),
        "p3": make_point("p3", "Lathe - 2", "3"),
    }


@pytest.mark.parametrize("header", ["name,formula", "名称,公式"])
def test_a_list_makes_virtual_points_that_need_neither_meter_nor_line(header: str) -> None:
    dry = dry_run(f"{header}\nLost,Main incomer; - lathe 1; - Lathe - 2\n".encode(), known(parts()))
    assert dry.problems == ()
    (row,) = dry.rows
    assert row.outcome is Outcome.NEW
    assert row.point == virtual("n0", "Lost", (1, "p1"), (-1, "p2"), (-1, "p3"))


def test_parts_may_stand_further_down_and_be_virtual_themselves() -> None:
    text = "name,formula\nAll,Both; - Lathe 1\nBoth,Main incomer; Lathe - 2\n"
    dry = dry_run(text.encode(), known(parts()))
    assert dry.problems == ()
    assert [row.point.formula for row in dry.rows if row.point] == [
        (Term(1, "n1"), Term(-1, "p2")),
        (Term(1, "p1"), Term(1, "p3")),
    ]


def test_an_exported_list_changes_nothing() -> None:
    points = {**parts(), "v1": LOST, "v2": virtual("v2", "=x", (-1, "p1"), detail="full", area="Hall")}
    for one in (points, {**points, "v2": replace(points["v2"], formula=(Term(1, "v1"), Term(-1, "p1")))}):
        here = known(one)
        file = write_csv(as_rows(one.values(), here))
        dry = dry_run(file.encode(), replace(here, lines={}), "x.csv")
        assert {row.name: row.outcome for row in dry.rows if row.name in {"Unaccounted", "=x"}} == {
            "Unaccounted": Outcome.UNCHANGED,
            "=x": Outcome.UNCHANGED,
        }
        cells = {row["name"]: row for row in csv.DictReader(io.StringIO(file))}
        assert cells["Unaccounted"]["formula"] == "Main incomer; - Lathe 1; - Lathe - 2"
        assert cells["Unaccounted"]["template"] == cells["Unaccounted"]["ct"] == ""


@pytest.mark.parametrize(
    ("row", "column", "key"),
    [
        ("V,Main incomer; - Moon,,", "formula", "import_unknown_part"),
        ("V,;,,", "formula", "import_bad_formula"),
        ("V,Main incomer; - Main incomer,,", "formula", "part_twice"),
        ("V,V; - Main incomer,,", "formula", "formula_circle"),
        ("V,Main incomer,7,", "address", "import_point_is_virtual"),
        ("V,Main incomer,,eastron/sdm630", "template", "import_point_is_virtual"),
        ("Lathe 1,Main incomer,,", "formula", "import_point_is_measured"),
    ],
)
def test_a_formula_that_cannot_be_is_refused_at_its_cell(row: str, column: str, key: str) -> None:
    dry = dry_run(f"name,formula,address,template\n{row}\n".encode(), known(parts()))
    assert (column, key) in {(one.column, one.key) for one in dry.problems}
    assert dry.changes() == {}


def test_a_circle_through_others_is_refused() -> None:
    text = "name,formula\nA,B; Main incomer\nB,C\nC,A; - Lathe 1\n"
    dry = dry_run(text.encode(), known(parts()))
    assert {(one.row, one.key) for one in dry.problems} == {(row, "formula_circle") for row in (2, 3, 4)}


def test_a_part_cannot_go_while_it_is_needed() -> None:
    left = {"p1": make_point("p1", "A", "1"), "p3": make_point("p3", "C", "3"), "v1": LOST}
    assert [(one.point, one.key, one.placeholders) for one in conflicts(left, only={"p2"})] == [
        ("v1", "part_lost", {"name": "Unaccounted"})
    ]


async def test_a_registry_from_before_virtual_points_is_understood(
    hass: HomeAssistant, hass_storage: dict[str, Any]
) -> None:
    old: dict[str, Any] = {"name": "Old", "area": None, "parent": None, "detail": None, "meters": [], "routes": []}
    old |= {"multipliers": [], "attributes": {}}
    data = {"points": {"p1": old}, "undo": {"p1": None, "p2": old}, "time_zone": None}
    hass_storage[DOMAIN] = {"version": 1, "minor_version": 2, "key": DOMAIN, "data": data}
    site = await async_get_site(hass)
    assert site.registry.points["p1"].formula == ()
    await site.registry.async_apply({"p1": None, "v": virtual("v", "V", (1, "w")), "w": make_point("w")}, SYSTEM, "x")
    await hass.async_block_till_done()
    again = Registry(hass, site.registry._journal)
    await again.async_load()
    assert again.points == site.registry.points


# --- in history


async def test_history_gives_what_nobody_accounts_for_and_how_complete_that_is(hass: HomeAssistant, site: Site) -> None:
    await site.registry.async_apply({"v1": LOST}, SYSTEM, "add")
    begin = datetime(2026, 6, 1, tzinfo=UTC)
    await take(site, quarters("p1", begin, 8, "1.00"))
    await take(site, quarters("p2", begin, 8, "0.50"))
    await take(site, quarters("p3", begin, 8, "0.25", skip=range(5, 6)))
    june = {"since": "2026-06-01T00:00Z", "until": "2026-06-02T00:00Z", "points": ["Unaccounted"]}
    answer = await ask(hass, **june)
    assert energies(answer, "v1") == [0.25] * 8
    rows = answer["points"]["v1"]["rows"]
    assert [row["parts"] for row in rows] == [[3, 3]] * 4 + [[2, 3]] * 2 + [[3, 3]] * 2
    assert {row["source"] for row in rows} == {"virtual"}
    day = await ask(hass, **june, resolution="day", time_zone="UTC")
    (row,) = day["points"]["v1"]["rows"]
    assert row["energy_import"] == 2.0
    assert row["completeness"] == pytest.approx(6 / 96, abs=1e-4)
    nested = virtual("v2", "Half of main", (1, "v1"), (1, "p3"))
    await site.registry.async_apply({"v2": nested}, SYSTEM, "add")
    assert energies(await ask(hass, **{**june, "points": "v2"}), "v2") == [0.5] * 8


async def test_a_virtual_point_cannot_be_read_and_says_so(hass: HomeAssistant, site: Site) -> None:
    await site.registry.async_apply({"v1": LOST}, SYSTEM, "add")
    with pytest.raises(ServiceValidationError) as refused:
        await hass.services.async_call(DOMAIN, "read_now", {"point": "v1"}, blocking=True, return_response=True)
    assert refused.value.translation_key == "point_is_virtual"
    answer = await hass.services.async_call(DOMAIN, "get_values", {}, blocking=True, return_response=True)
    assert answer is not None and answer["points"]["v1"]["registers"] == {}  # type: ignore[index,call-overload]
    text = "name,line,address,template\nHall 1,East,1,eastron/sdm630\nOffice,West,1,eastron/sdm630\n"
    asked = {"content": text, "remove_absent": True}
    with pytest.raises(ServiceValidationError, match="worked out"):
        await hass.services.async_call(DOMAIN, "import_points", asked, blocking=True, return_response=True)


# --- as entities


@pytest.fixture(autouse=True)
def _without_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "PAUSE_S", 0.0)


FLEET = """
[[line]]
name = "East"
listen = "tcp://127.0.0.1:0"
protocol = "modbus-tcp"
[[line.meter]]
name = "Main"
address = 1
template = "eastron/sdm630"
[[line.meter]]
name = "Sub"
address = 2
template = "eastron/sdm630"
"""


async def test_a_virtual_point_is_a_device_with_energies_that_follow_its_parts(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: Callable[..., MockConfigEntry]
) -> None:
    fleet = await start_fleet(FLEET)
    options = {"slow_s": 10, "detail": "lean"}
    east = add_line("East", port=port_of(fleet, 0), options=options)
    west = add_line("West", port=port_of(fleet, 0), options=options)
    assert await async_setup_component(hass, DOMAIN, {})
    site = await async_get_site(hass)
    points = {
        "p1": make_point("p1", "Main", "1", east.entry_id),
        "p2": make_point("p2", "Sub", "2", east.entry_id),
        "v": virtual("v", "Lost", (1, "p1"), (-1, "p2"), area="Hall"),
    }
    await site.registry.async_apply(points, SYSTEM, "add")
    await hass.async_block_till_done()
    registry = er.async_get(hass)

    def state(key: str) -> Any:
        entity = registry.async_get_entity_id("sensor", DOMAIN, f"v_{key}")
        return hass.states.get(entity) if entity else None

    assert state("energy_interval") is not None and state("energy_this_month") is None
    (device,) = dr.async_get(hass).async_get_devices(identifiers={(DOMAIN, "v")})
    assert (device.name, device.model, device.config_entry_id) == ("Lost", "Σ Main; - Sub", east.entry_id)

    # the quarters of today that are closed; at first only the sum of one part is known
    midnight = dt_util.start_of_local_day().astimezone(UTC)
    end = dt_util.utcnow().replace(minute=dt_util.utcnow().minute // 15 * 15, second=0, microsecond=0)
    begin = min(midnight, end - timedelta(minutes=30)) - timedelta(minutes=15)
    count = (end - begin) // timedelta(minutes=15)
    part = quarters("p2", begin, count, "4.25")
    await take(site, [*quarters("p1", begin, count, "5.00"), part[0], part[-1]])
    unknown = await wait_for(lambda: (one := state("energy_today")) and one.state == "unknown" and one)
    assert unknown.attributes["completeness"] < 0.9
    await take(site, part)
    shown = await wait_for(lambda: (one := state("energy_interval")) and one.state == "0.75" and one)
    assert shown.attributes["completeness"] == 1 and shown.attributes["parts"] == 2
    assert "state_class" not in shown.attributes
    today = state("energy_today")
    if end > midnight:  # else none of today's is closed yet
        assert Decimal(today.state) == (end - midnight) // timedelta(minutes=15) * Decimal("0.75")
    assert "state_class" not in today.attributes

    # another formula counts from the beginning of what the ledger knows
    await site.registry.async_apply({"v": virtual("v", "Both", (1, "p1"), (1, "p2"))}, SYSTEM, "edit")
    await wait_for(lambda: (one := state("energy_interval")) and one.state == "9.25")
    (device,) = dr.async_get(hass).async_get_devices(identifiers={(DOMAIN, "v")})
    assert (device.name, device.model) == ("Both", "Σ Main; Sub")

    # with its first part it moves to the other line
    await site.registry.async_apply({"p1": make_point("p1", "Main", "1", west.entry_id)}, SYSTEM, "move")
    await hass.async_block_till_done()
    (device,) = dr.async_get(hass).async_get_devices(identifiers={(DOMAIN, "v")})
    assert device.config_entry_id == west.entry_id
    await wait_for(lambda: (one := state("energy_interval")) and one.state == "9.25")

    await site.registry.async_apply({"v": None}, SYSTEM, "remove")
    await hass.async_block_till_done()
    assert state("energy_interval") is None
    assert dr.async_get(hass).async_get_devices(identifiers={(DOMAIN, "v")}) == []
