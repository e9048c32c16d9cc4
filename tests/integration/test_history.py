"""Energies as long-term statistics: nothing lost, nothing counted twice, no bar that never was."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from homeassistant.components.energy.validate import async_validate
from homeassistant.components.recorder.statistics import list_statistic_ids, statistics_during_period
from homeassistant.core import HomeAssistant
from homeassistant.helpers.recorder import get_instance
from homeassistant.setup import async_setup_component
from hypothesis import given
from hypothesis import strategies as st
from pytest_homeassistant_custom_component.common import MockConfigEntry
from pytest_homeassistant_custom_component.components.recorder.common import async_wait_recording_done

from custom_components.meter_batch.access import SYSTEM
from custom_components.meter_batch.const import DOMAIN
from custom_components.meter_batch.engine import Flag, InstalledMeter, Multiplier, Reading
from custom_components.meter_batch.history import (
    LONGEST_FILL,
    History,
    Mark,
    Row,
    advance,
    began_again,
    kept,
)
from custom_components.meter_batch.registry import ALWAYS, Registry
from custom_components.meter_batch.site import async_get_site

from .conftest import make_point

T0 = datetime(2026, 7, 1, 10, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
QUARTER = timedelta(minutes=15)
IMPORT = "1-0:1.8.0"
ONE = Decimal(1)


def at(hours: float) -> datetime:
    return T0 + hours * HOUR


# --- the arithmetic ---


def test_the_first_register_begins_the_sum_at_zero() -> None:
    rows, mark = advance(None, Decimal(500), T0, Decimal(80))
    assert rows == [Row(at(-1), Decimal(40000), Decimal(0))]
    assert mark == Mark(T0, Decimal(500), Decimal(0))


def test_a_boundary_within_the_hour_writes_the_running_hour_and_the_next_one_overwrites_it() -> None:
    mark: Mark | None = Mark(T0, Decimal(500), Decimal(7))
    sums = []
    for step in range(1, 5):
        rows, mark = advance(mark, Decimal(500 + step), T0 + step * QUARTER, ONE)
        assert [row.start for row in rows] == [T0]
        sums.append(rows[0].sum)
    assert sums == [8, 9, 10, 11]


def test_a_boundary_that_was_seen_writes_nothing_again() -> None:
    _, mark = advance(None, Decimal(500), T0, ONE)
    assert advance(mark, Decimal(501), T0, ONE) == ([], mark)
    assert advance(mark, Decimal(501), at(-1), ONE) == ([], mark)


def test_what_came_in_a_silence_is_spread_over_its_hours() -> None:
    rows, mark = advance(Mark(T0, Decimal(500), Decimal(0)), Decimal(512), at(4), Decimal(2))
    assert rows == [
        Row(at(0), Decimal(1006), Decimal(6)),
        Row(at(1), Decimal(1012), Decimal(12)),
        Row(at(2), Decimal(1018), Decimal(18)),
        Row(at(3), Decimal(1024), Decimal(24)),
    ]
    assert mark.sum == 24


def test_a_silence_that_begins_within_an_hour_goes_on_in_that_hour() -> None:
    rows, _ = advance(Mark(at(0.5), Decimal(500), Decimal(10)), Decimal(506), at(3.5), ONE)
    assert [(row.start, row.sum) for row in rows] == [(at(0), 11), (at(1), 13), (at(2), 15), (at(3), 16)]


def test_a_very_long_silence_makes_no_endless_list() -> None:
    rows, mark = advance(Mark(T0, Decimal(0), Decimal(0)), Decimal(1000), T0 + timedelta(days=400), ONE)
    assert len(rows) == LONGEST_FILL / HOUR
    assert mark.sum == 1000


def test_a_register_that_falls_once_counts_nothing_and_goes_on_as_before() -> None:
    mark = Mark(T0, Decimal(500), Decimal(0))
    rows, doubting = advance(mark, Decimal(0), at(1), ONE)
    assert rows == []
    assert doubting.sum == 0
    rows, mark = advance(doubting, Decimal(502), at(2), ONE)
    assert mark == Mark(at(2), Decimal(502), Decimal(2))
    assert rows[-1].sum == 2


def test_a_register_that_stays_low_began_again_while_nobody_looked() -> None:
    _, doubting = advance(Mark(T0, Decimal(500), Decimal(9)), Decimal(3), at(1), ONE)
    rows, mark = advance(doubting, Decimal(5), at(2), ONE)
    assert mark == Mark(at(2), Decimal(5), Decimal(11))
    assert all(9 <= row.sum <= 11 for row in rows)


def test_a_reset_counts_from_zero() -> None:
    mark = began_again(Mark(T0, Decimal(500), Decimal(9)), frozenset({Flag.RESET}), Decimal("0.2"))
    _, mark = advance(mark, Decimal(3), at(1), ONE)
    assert mark == Mark(at(1), Decimal(3), Decimal(12))


def test_a_roll_over_counts_across_the_end_of_the_register() -> None:
    mark = began_again(Mark(T0, Decimal("999998.50"), Decimal(0)), frozenset({Flag.ROLL_OVER}), Decimal("0.25"))
    _, mark = advance(mark, Decimal("1.25"), at(1), ONE)
    assert mark == Mark(at(1), Decimal("1.25"), Decimal("2.75"))


def test_another_meter_counts_from_where_it_was_when_it_came() -> None:
    mark = began_again(Mark(T0, Decimal(500), Decimal(9)), frozenset({Flag.SWAP}), Decimal(88000))
    _, mark = advance(mark, Decimal(88004), at(1), ONE)
    assert mark == Mark(at(1), Decimal(88004), Decimal(13))


def test_a_step_no_meter_can_make_is_another_meters_register() -> None:
    _, mark = advance(Mark(T0, Decimal(500), Decimal(9)), Decimal(9_000_000), at(1), ONE)
    assert mark == Mark(at(1), Decimal(9_000_000), Decimal(9))


@given(
    st.lists(
        st.tuples(
            st.integers(1, 30),
            st.decimals(0, 500, places=2),
            st.sampled_from([None, None, None, "glitch", "reset", "swap", "again"]),
        ),
        max_size=30,
    )
)
def test_the_sum_never_falls_and_is_what_was_consumed(steps: list[tuple[int, Decimal, str | None]]) -> None:
    """Whatever happens to the register, the rows rise, and where it is only read, they hold all of it."""
    register, boundary, mark = Decimal(1000), T0, None
    rows: dict[datetime, Decimal] = {}
    consumed, clean = Decimal(0), True
    new, mark = advance(mark, register, boundary, ONE)
    rows |= {row.start: row.sum for row in new}
    before: str | None = None
    for quarters, used, event in steps:
        boundary += quarters * QUARTER
        register += used
        consumed += used
        told = register
        if event == "glitch" and before != "glitch":
            told = Decimal(0)
        elif event in {"reset", "swap"}:
            clean = False
            register = told = Decimal(0) if event == "reset" else register * 7
            mark = began_again(mark, frozenset({Flag(event)}), told)
        new, mark = advance(mark, told, boundary, ONE)
        if event == "again":
            assert advance(mark, told, boundary, ONE) == ([], mark)
        before = event if told != register else None
        rows |= {row.start: row.sum for row in new}
        sums = [rows[start] for start in sorted(rows)]
        assert sums == sorted(sums)
        assert sums[-1] - sums[0] <= consumed + Decimal("1e-20")
    boundary += QUARTER
    for _ in range(2):
        boundary += QUARTER
        new, mark = advance(mark, register, boundary, ONE)
        rows |= {row.start: row.sum for row in new}
    if clean:
        assert rows[max(rows)] == consumed


def test_import_and_export_are_kept_and_gross_only_alone() -> None:
    assert [one.key for one in kept([IMPORT, "1-0:2.8.0", "1-0:15.8.0", "1-0:32.7.0"])] == [
        "energy_import",
        "energy_export",
    ]
    assert [one.key for one in kept(["1-0:15.8.0"])] == ["energy_gross"]


# --- with the recorder ---


@pytest.fixture
async def registry(recorder_mock: Any, hass: HomeAssistant, add_line: Callable[..., MockConfigEntry]) -> Registry:
    add_line("East", disabled=True)
    assert await async_setup_component(hass, DOMAIN, {})
    registry = (await async_get_site(hass)).registry
    await registry.async_apply({"p1": make_point(name="Hall")}, SYSTEM, "add")
    return registry


def reading(value: object, when: datetime, *flags: Flag) -> Reading:
    return Reading(IMPORT, Decimal(str(value)), when, frozenset(flags))


async def take(history: History, when: datetime, value: object, *flags: Flag) -> None:
    await history.async_take({"p1": (when, [reading(value, when + timedelta(seconds=5), *flags)])})


async def stored(hass: HomeAssistant, id_: str = "meter_batch:p1_energy_import") -> list[tuple[datetime, float, float]]:
    await async_wait_recording_done(hass)
    found = await get_instance(hass).async_add_executor_job(
        statistics_during_period, hass, at(-999), None, {id_}, "hour", None, {"state", "sum"}
    )
    return [
        (datetime.fromtimestamp(row["start"], UTC), row["state"] or 0.0, row["sum"] or 0.0)
        for row in found.get(id_, [])
    ]


async def test_registers_become_one_external_statistic_named_after_the_point(
    hass: HomeAssistant, registry: Registry
) -> None:
    history = (await async_get_site(hass)).history
    for hour in range(3):
        await take(history, at(hour), 100 + hour)
    assert await stored(hass) == [(at(-1), 100, 0), (at(0), 101, 1), (at(1), 102, 2)]
    (meta,) = await get_instance(hass).async_add_executor_job(list_statistic_ids, hass)
    assert meta["statistic_id"] == "meter_batch:p1_energy_import"
    assert meta["name"] == "Hall Energy import"
    assert (meta["unit_class"], meta["statistics_unit_of_measurement"], meta["has_sum"]) == ("energy", "kWh", True)


async def test_a_renamed_point_keeps_its_statistic_under_the_new_name(hass: HomeAssistant, registry: Registry) -> None:
    history = (await async_get_site(hass)).history
    await take(history, at(0), 100)
    await registry.async_apply({"p1": make_point(name="Halle", line="l2", address="9")}, SYSTEM, "edit")
    await take(history, at(1), 101)
    assert [row[2] for row in await stored(hass)] == [0, 1]
    (meta,) = await get_instance(hass).async_add_executor_job(list_statistic_ids, hass)
    assert (meta["statistic_id"], meta["name"]) == ("meter_batch:p1_energy_import", "Halle Energy import")


async def test_after_a_restart_the_sum_goes_on_and_nothing_is_counted_twice(
    hass: HomeAssistant, registry: Registry, hass_storage: dict[str, Any]
) -> None:
    first = (await async_get_site(hass)).history
    await take(first, at(0), "100.00")
    await take(first, at(1), "101.50")
    await async_wait_recording_done(hass)
    hass_storage["meter_batch.history"] = {"version": 1, "key": "meter_batch.history", "data": first._save()}
    again = History(hass, registry)
    await take(again, at(1), "101.50")
    await take(again, at(2), "103.00")
    assert [row[2] for row in await stored(hass)] == [0, 1.5, 3]


async def test_after_a_restart_without_our_notes_the_recorder_tells_where_to_go_on(
    hass: HomeAssistant, registry: Registry, freezer: Any
) -> None:
    freezer.move_to(at(1.01))
    await registry.async_apply(
        {"p1": make_point(name="Hall", multipliers=(Multiplier(ALWAYS, Decimal(80)),))}, SYSTEM, "edit"
    )
    first = (await async_get_site(hass)).history
    await take(first, at(0), 8000)
    await take(first, at(1), 8080)
    await async_wait_recording_done(hass)
    again = History(hass, registry)
    await take(again, at(1), 8080)
    await take(again, at(2), 8240)
    assert [row[1:] for row in await stored(hass)] == [(8000, 0), (8080, 80), (8240, 240)]


async def test_a_new_multiplier_makes_no_bar(hass: HomeAssistant, registry: Registry) -> None:
    history = (await async_get_site(hass)).history
    await take(history, at(0), 1000)
    await take(history, at(1), 1001)
    await registry.async_apply(
        {"p1": make_point(name="Hall", multipliers=(Multiplier(at(1.5), Decimal(80)),))}, SYSTEM, "edit"
    )
    await take(history, at(2), 1002 * 80)
    assert [row[2] for row in await stored(hass)] == [0, 1, 81]


async def test_a_new_meter_at_the_point_makes_no_bar(hass: HomeAssistant, registry: Registry) -> None:
    history = (await async_get_site(hass)).history
    await take(history, at(0), 1000)
    old = registry.points["p1"]
    meters = (*old.meters, InstalledMeter(at(0.5), "eastron/sdm630", "new"))
    await registry.async_apply({"p1": make_point(name="Hall", meters=meters)}, SYSTEM, "edit")
    await take(history, at(1), 55000)
    await take(history, at(2), 55002)
    assert [row[2] for row in await stored(hass)] == [0, 0, 2]


async def test_flags_between_the_boundaries_are_remembered(hass: HomeAssistant, registry: Registry) -> None:
    history = (await async_get_site(hass)).history
    point = registry.points["p1"]
    await take(history, at(0), 1000)
    history.note(point, [reading(0, at(0.4), Flag.BACKWARDS), reading("0.5", at(0.5), Flag.RESET)])
    await take(history, at(1), 2)
    assert [row[2] for row in await stored(hass)] == [0, 2]


async def test_the_first_reading_begins_a_statistic_and_no_later_one_does(
    hass: HomeAssistant, registry: Registry
) -> None:
    history = (await async_get_site(hass)).history
    await history.async_take({"p1": (at(0.1), [reading(1000, at(0.1))])}, first=True)
    assert await stored(hass) == [(at(0), 1000, 0)]
    await history.async_take({"p1": (at(0.2), [reading(1001, at(0.2))])}, first=True)
    assert await stored(hass) == [(at(0), 1000, 0)]
    await take(history, at(0.25), 1002)
    assert await stored(hass) == [(at(0), 1002, 2)]


async def test_rejected_readings_and_unknown_points_leave_no_trace(hass: HomeAssistant, registry: Registry) -> None:
    history = (await async_get_site(hass)).history
    await take(history, at(0), 1000)
    await take(history, at(1), 0, Flag.BACKWARDS)
    await history.async_take({"gone": (at(1), [reading(5, at(1))])})
    await take(history, at(2), 1004)
    assert [(row[0], row[2]) for row in await stored(hass)] == [(at(-1), 0), (at(0), 2), (at(1), 4)]


async def test_the_statistic_serves_the_energy_dashboard(hass: HomeAssistant, registry: Registry) -> None:
    assert await async_setup_component(hass, "energy", {})
    history = (await async_get_site(hass)).history
    await take(history, at(0), 1000)
    await take(history, at(1), 1001)
    await async_wait_recording_done(hass)
    from homeassistant.components.energy.data import async_get_manager

    manager = await async_get_manager(hass)
    await manager.async_update(
        {"device_consumption": [{"stat_consumption": "meter_batch:p1_energy_import"}]}  # type: ignore[typeddict-item]
    )
    assert (await async_validate(hass)).as_dict()["device_consumption"] == [[]]


async def test_without_a_recorder_nothing_is_written_and_nothing_fails(
    hass: HomeAssistant, add_line: Callable[..., MockConfigEntry]
) -> None:
    add_line("East", disabled=True)
    assert await async_setup_component(hass, DOMAIN, {})
    history = (await async_get_site(hass)).history
    assert not history.enabled
    await history.async_take({"p1": (at(0), [])})
