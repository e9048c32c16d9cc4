"""The registry of points: changed as a whole or not at all, written down before it takes effect, kept over restarts."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from homeassistant.core import HomeAssistant

from custom_components.meter_batch.access import SYSTEM, Actor
from custom_components.meter_batch.engine import Route
from custom_components.meter_batch.registry import (
    MOST_UNDO,
    MOST_UNDO_POINTS,
    Change,
    Conflict,
    Registry,
    RegistryConflict,
    conflicts,
)
from custom_components.meter_batch.site import async_get_site

from .conftest import make_point

ANN = Actor("u1", "Ann")


@pytest.fixture
async def registry(hass: HomeAssistant) -> Registry:
    return (await async_get_site(hass)).registry


async def test_a_change_reaches_whoever_listens_with_before_and_after(registry: Registry) -> None:
    heard: list[Change] = []
    stop = registry.async_listen(heard.extend)
    first, second = make_point(name="A"), make_point(name="B")
    await registry.async_apply({"p1": first}, ANN, "add")
    await registry.async_apply({"p1": second}, ANN, "edit")
    await registry.async_apply({"p1": None}, ANN, "remove")
    assert heard == [Change(None, first), Change(first, second), Change(second, None)]
    assert {change.id for change in heard} == {"p1"}
    stop()
    await registry.async_apply({"p1": first}, ANN, "add")
    assert len(heard) == 3


async def test_what_changes_nothing_is_neither_written_nor_told(hass: HomeAssistant, registry: Registry) -> None:
    site = await async_get_site(hass)
    await registry.async_apply({"p1": make_point()}, ANN, "add")
    before = await site.log.async_read()
    assert await registry.async_apply({"p1": make_point(), "p9": None}, ANN, "edit") == []
    assert await site.log.async_read() == before


async def test_one_conflict_refuses_all_of_a_change(registry: Registry) -> None:
    await registry.async_apply({"p1": make_point()}, ANN, "add")
    good = make_point("p2", "Hall 2", "2")
    bad = make_point("p3", "hall 1", "1")
    with pytest.raises(RegistryConflict) as refused:
        await registry.async_apply({"p2": good, "p3": bad}, ANN, "add")
    assert [(one.point, one.key) for one in refused.value.conflicts] == [
        ("p3", "point_name_twice"),
        ("p3", "address_twice"),
    ]
    assert list(registry.points) == ["p1"]


async def test_a_point_with_children_cannot_go_alone(registry: Registry) -> None:
    main, child = make_point(), make_point("p2", "Hall 2", "2", parent="p1")
    await registry.async_apply({"p1": main, "p2": child}, ANN, "add")
    with pytest.raises(RegistryConflict, match="parent_lost"):
        await registry.async_apply({"p1": None}, ANN, "remove")
    await registry.async_apply({"p1": None, "p2": None}, ANN, "remove")
    assert registry.points == {}


def test_circles_of_parents_blame_their_members_only() -> None:
    points = {
        "a": make_point("a", "A", "1", parent="b"),
        "b": make_point("b", "B", "2", parent="a"),
        "c": make_point("c", "C", "3", parent="a"),
    }
    assert {one.point for one in conflicts(points)} == {"a", "b"}
    assert conflicts({"c": replace(points["c"], parent=None)}) == []


def test_one_number_may_be_a_modbus_unit_and_a_dlt645_address_on_one_line() -> None:
    a = make_point("a", "A", "1")
    b = replace(make_point("b", "B"), routes=(Route("l1", "dlt645-2007", "1"),))
    c = replace(make_point("c", "C"), routes=(Route("l1", "dlt645-1997", "1"),))
    assert conflicts({"a": a, "b": b}) == []
    assert conflicts({"a": a, "b": b, "c": c}) == [
        Conflict("b", "address", "address_twice", {"address": "1", "name": "C"}),
        Conflict("c", "address", "address_twice", {"address": "1", "name": "B"}),
    ]


async def test_everything_is_there_again_after_a_restart(
    hass: HomeAssistant, registry: Registry, hass_storage: dict[str, Any]
) -> None:
    point = make_point(ct="80", area="Hall", detail="full", serial="S1", attributes={"tariff": "peak"})
    await registry.async_apply({"p1": point, "p2": make_point("p2", "B", "2", parent="p1")}, ANN, "add")
    await hass.async_block_till_done()
    again = Registry(hass, registry._journal)
    await again.async_load()
    assert again.points == registry.points
    assert [(one.who, one.action, one.changes) for one in again.undoable] == [("Ann", "add", {"p1": None, "p2": None})]
    assert hass_storage["meter_batch"]["minor_version"] == 4


async def test_a_file_of_the_first_version_is_understood(hass: HomeAssistant, hass_storage: dict[str, Any]) -> None:
    hass_storage["meter_batch"] = {
        "version": 1,
        "minor_version": 1,
        "key": "meter_batch",
        "data": {
            "points": {
                "p1": {
                    "name": "Old",
                    "area": None,
                    "parent": None,
                    "detail": None,
                    "meters": [{"since": "2026-01-01T00:00:00+00:00", "template": "eastron/sdm630", "serial": None}],
                    "routes": [],
                    "multipliers": [],
                    "attributes": {},
                }
            }
        },
    }
    site = await async_get_site(hass)
    assert site.registry.points["p1"].name == "Old"
    assert site.registry.undoable == site.registry.redoable == []


async def test_undo_goes_back_step_by_step_and_forth_again_also_after_a_restart(registry: Registry) -> None:
    states = [dict(registry.points)]
    for changes in (
        {"p1": make_point(name="A"), "p2": make_point("p2", "B", "2", parent="p1")},
        {"p1": make_point(name="C"), "p2": None, "p3": make_point("p3", "B", "2")},
        {"p3": make_point("p3", "D", "3", attributes={"Cabinet": "K 4"})},
    ):
        await registry.async_apply(changes, ANN, "import_points")
        states.append(dict(registry.points))
    again = Registry(registry._store.hass, registry._journal)
    await again.async_load()
    for expected in reversed(states[:-1]):
        assert await again.async_undo(ANN)
        assert again.points == expected
    assert await again.async_undo(ANN) == []
    last = Registry(registry._store.hass, registry._journal)
    await last.async_load()
    for expected in states[1:]:
        assert await last.async_redo(ANN)
        assert last.points == expected
    assert await last.async_redo(ANN) == []
    await last.async_undo(ANN)
    await last.async_apply({"p4": make_point("p4", "E", "5")}, ANN, "add_point")
    assert await last.async_redo(ANN) == [], "another change was made since"


async def test_so_many_changes_are_remembered_and_a_large_one_always(registry: Registry) -> None:
    for number in range(MOST_UNDO + 5):
        await registry.async_apply({"p1": make_point(name=f"N{number}")}, ANN, "edit_point")
    assert len(registry.undoable) == MOST_UNDO
    many = {f"m{n}": make_point(f"m{n}", f"M{n}", str(n), line=f"l{n // 200}") for n in range(MOST_UNDO_POINTS + 1)}
    await registry.async_apply(many, ANN, "import_points")
    assert [len(one.points) for one in registry.undoable] == [MOST_UNDO_POINTS + 1]
    await registry.async_undo(ANN)
    assert set(registry.points) == {"p1"}


async def test_points_are_found_by_id_and_by_name_in_any_case(registry: Registry) -> None:
    await registry.async_apply({"p1": make_point(name="Hall Süd")}, ANN, "add")
    assert registry.find("p1") is registry.find(" hall süd ") is registry.points["p1"]
    assert registry.find("nobody") is None


async def test_every_change_stands_in_the_log_with_who_when_before_and_after(
    hass: HomeAssistant, registry: Registry
) -> None:
    site = await async_get_site(hass)
    await registry.async_apply({"p1": make_point(name="A")}, ANN, "add_point")
    await registry.async_apply({"p1": make_point(name="B")}, SYSTEM, "edit_point")
    newest, first = await site.log.async_read()
    assert (first["who"], first["user"], first["action"]) == ("Ann", "u1", "add_point")
    assert first["before"] == {"p1": None}
    assert first["after"]["p1"]["name"] == "A"
    assert (newest["who"], newest["user"]) == ("system", None)
    assert (newest["before"]["p1"]["name"], newest["after"]["p1"]["name"]) == ("A", "B")
    assert first["at"] < newest["at"]
    assert await site.log.async_read(1) == [newest]


async def test_the_log_is_only_ever_added_to_and_survives_a_line_cut_short(hass: HomeAssistant) -> None:
    site = await async_get_site(hass)
    await site.log.async_write(ANN, "one")
    before = site.log.path.read_bytes()
    with site.log.path.open("ab") as file:
        file.write(b'{"at": "cut')
    await site.log.async_write(ANN, "two")
    after = site.log.path.read_bytes()
    assert after.startswith(before)
    assert [one["action"] for one in await site.log.async_read()] == ["two", "one"]
    assert json.loads(after.splitlines()[-1])["action"] == "two"


async def test_nothing_changes_where_the_log_cannot_be_written(hass: HomeAssistant, registry: Registry) -> None:
    site = await async_get_site(hass)
    site.log.path.parent.write_text("a file where the folder should be")
    with pytest.raises(OSError, match="meter_batch"):
        await registry.async_apply({"p1": make_point()}, ANN, "add")
    assert registry.points == {}
