"""Energies as long-term statistics: out of the ledger, at the right hour, nothing twice, no bar that never was."""

from __future__ import annotations

import asyncio
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
from custom_components.meter_batch.const import DOMAIN, STATISTICS
from custom_components.meter_batch.engine import Multiplier, Reading
from custom_components.meter_batch.engine.ledger import Boundary
from custom_components.meter_batch.engine.model.point import Term
from custom_components.meter_batch.hourly import HOUR_S, Plan, Row, batches_of, jobs_of, kept, plan
from custom_components.meter_batch.registry import ALWAYS
from custom_components.meter_batch.site import Site, async_get_site

from .conftest import make_point

T0 = datetime(2026, 7, 1, 10, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
QUARTER = timedelta(minutes=15)
IMPORT, EXPORT = "1-0:1.8.0", "1-0:2.8.0"


def at(hours: float) -> datetime:
    return T0 + hours * HOUR


# --- the arithmetic ---


def h(number: int) -> int:
    return number * HOUR_S


def test_a_new_hour_goes_on_from_the_sum_before_it() -> None:
    assert plan(Decimal(7), [], {h(5): Decimal(2)}, [h(5)]) == Plan((Row(h(5), Decimal(9)),))


def test_the_running_hour_is_overwritten_and_what_is_there_already_is_left_alone() -> None:
    assert plan(Decimal(7), [Row(h(5), Decimal(8))], {h(5): Decimal(2)}, [h(5)]) == Plan((Row(h(5), Decimal(9)),))
    assert not plan(Decimal(7), [Row(h(5), Decimal(9))], {h(5): Decimal(2)}, [h(5)])


def test_hours_before_all_others_begin_at_zero_and_move_what_comes_after_them() -> None:
    stored = [Row(h(9), Decimal(0)), Row(h(10), Decimal(4))]
    energies = {h(7): Decimal(1), h(8): Decimal(2), h(9): Decimal(0)}
    assert plan(Decimal(0), stored[:1], energies, [h(7), h(8)]) == Plan(
        (Row(h(7), Decimal(1)), Row(h(8), Decimal(3))), ((h(9), Decimal(3)),)
    )


def test_an_hour_the_ledger_does_not_know_keeps_its_energy() -> None:
    stored = [Row(h(5), Decimal(8)), Row(h(6), Decimal(18)), Row(h(7), Decimal(20)), Row(h(8), Decimal(21))]
    assert plan(Decimal(7), stored, {h(5): Decimal(2), h(7): Decimal(2)}, [h(5), h(7)]) == Plan(
        (Row(h(5), Decimal(9)),), ((h(6), Decimal(1)),)
    )


def test_a_withdrawn_hour_loses_what_it_gave() -> None:
    stored = [Row(h(5), Decimal(8)), Row(h(6), Decimal(18))]
    assert plan(Decimal(7), stored, {h(6): Decimal(10)}, [h(5)]) == Plan(
        (Row(h(5), Decimal(7)),), ((h(6), Decimal(-1)),)
    )


@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.integers(0, 60), st.decimals(0, 500, places=2), min_size=1, max_size=12),
            st.sampled_from(["done", "rows only", "nothing", "twice"]),
        ),
        max_size=12,
    ),
    st.sampled_from([2, 48]),
)
def test_whatever_comes_when_and_wherever_it_stops_the_statistic_says_what_the_ledger_says(
    steps: list[tuple[dict[int, Decimal], str]], alike: int
) -> None:
    """Changes in any order, interrupted anywhere and done again, end in the ledger's energies, and never fall."""
    energies: dict[int, Decimal] = {}
    store: dict[int, Decimal] = {}
    waiting: set[int] = set()

    def run(changed: set[int], how: str) -> None:
        first, last = min(changed), max(changed)
        before = store.get(max((start for start in store if start < first), default=-1), Decimal(0))
        after = min((start for start in store if start > last), default=last)
        stored = [Row(start, store[start]) for start in sorted(store) if first <= start <= after]
        found = plan(before, stored, energies, changed, alike=alike)
        if how == "nothing":
            return
        store.update({row.start: row.sum for row in found.rows})
        if how != "rows only":
            for begin, by in found.shifts:
                store.update({start: sum_ + by for start, sum_ in store.items() if start >= begin})

    for new, how in steps:
        energies |= {h(hour): energy for hour, energy in new.items()}
        waiting |= {h(hour) for hour in new}
        run(waiting, how)
        if how == "twice":
            run(waiting, how)
        if how in {"done", "twice"}:
            waiting = set()
    if waiting:
        run(waiting, "done")
    sums = [store[start] for start in sorted(store)]
    assert [after - before for before, after in zip([Decimal(0), *sums], sums, strict=False)] == [
        energies[start] for start in sorted(energies)
    ]


def test_import_and_export_are_kept_and_gross_only_alone() -> None:
    assert [one.key for one in kept([IMPORT, EXPORT, "1-0:15.8.0", "1-0:32.7.0"])] == ["energy_import", "energy_export"]
    assert [one.key for one in kept(["1-0:15.8.0"])] == ["energy_gross"]


def test_import_comes_before_export_the_newest_hours_first_and_no_batch_is_large() -> None:
    year = [h(one) for one in range(8760)]
    jobs = jobs_of({"p1": year}, {"p1": kept([IMPORT, EXPORT])})
    assert [job.quantity.key for job in jobs] == ["energy_import"] * 9 + ["energy_export"] * 9
    assert [job.hours[-1] for job in jobs[:9]] == sorted((job.hours[-1] for job in jobs[:9]), reverse=True)
    assert jobs[0].hours[-1] == year[-1]
    assert all(sum(len(job.hours) for job in batch) <= 1000 for batch in batches_of(jobs))


def test_hours_that_all_differ_by_the_same_are_moved_not_written_again() -> None:
    stored = [Row(h(hour), Decimal(hour - 99)) for hour in range(100, 300)]
    energies = {h(hour): Decimal(1) for hour in range(98, 300)} | {h(98): Decimal(101), h(250): Decimal(3)}
    found = plan(Decimal(0), stored, energies, list(energies))
    assert found.rows == (Row(h(98), Decimal(101)), Row(h(99), Decimal(102)), Row(h(250), Decimal(153)))
    assert found.shifts == ((h(100), Decimal(102)), (h(251), Decimal(2)))


# --- with the recorder ---


@pytest.fixture
async def site(recorder_mock: Any, hass: HomeAssistant, add_line: Callable[..., MockConfigEntry], freezer: Any) -> Site:
    freezer.move_to(at(9))
    add_line("East", disabled=True)
    assert await async_setup_component(hass, DOMAIN, {})
    site = await async_get_site(hass)
    await site.registry.async_apply({"p1": make_point(name="Hall")}, SYSTEM, "add")
    return site


def record(when: datetime, value: object, point: str = "p1", meter: str = ALWAYS.isoformat(), **more: Any) -> Boundary:
    registers = {IMPORT: Decimal(str(value))} | {one: Decimal(str(more.pop(one))) for one in [EXPORT] if one in more}
    return Boundary(point, when, registers, meter=meter, **more)


async def take(site: Site, *records: Boundary) -> None:
    await site.ledger.async_call(lambda ledger: ledger.take(records), {one.point for one in records})


async def until(what: Callable[[], bool]) -> None:
    """Time stands still in these tests, so it is not slept but turned."""
    for _ in range(100_000):
        if what():
            return
        await asyncio.sleep(0)
    raise AssertionError("waited in vain")


async def acknowledged(site: Site) -> None:
    """Until the recorder has everything."""
    while True:
        revision, subscribers = await site.ledger.async_call(lambda ledger: (ledger.revision, ledger.subscribers()))
        if subscribers.get(STATISTICS) == revision:
            return
        await asyncio.sleep(0)


async def stored(hass: HomeAssistant, id_: str = "meter_batch:p1_energy_import") -> list[tuple[datetime, float]]:
    """The hours of a statistic and what Home Assistant shows for each."""
    await acknowledged(await async_get_site(hass))
    await async_wait_recording_done(hass)
    found = await get_instance(hass).async_add_executor_job(
        statistics_during_period, hass, at(-9999), None, {id_}, "hour", None, {"change"}
    )
    return [(datetime.fromtimestamp(row["start"], UTC), round(row["change"] or 0.0, 6)) for row in found.get(id_, [])]


async def test_intervals_become_one_external_statistic_named_after_the_point(hass: HomeAssistant, site: Site) -> None:
    await take(site, *(record(T0 + step * QUARTER, 100 + step) for step in range(7)))
    assert await stored(hass) == [(at(0), 4), (at(1), 2)]
    (meta,) = await get_instance(hass).async_add_executor_job(list_statistic_ids, hass)
    assert meta["statistic_id"] == "meter_batch:p1_energy_import"
    assert meta["name"] == "Hall Energy import"
    assert (meta["unit_class"], meta["statistics_unit_of_measurement"], meta["has_sum"]) == ("energy", "kWh", True)


async def test_the_running_hour_grows_with_every_interval(hass: HomeAssistant, site: Site) -> None:
    seen = []
    for step in range(4):
        await take(site, record(T0 + step * QUARTER, 100 + step))
        seen.append([change for _, change in await stored(hass)])
    assert seen == [[], [1], [2], [3]]


async def test_late_data_go_to_their_hours_and_the_sum_of_all_stays(hass: HomeAssistant, site: Site) -> None:
    await take(site, record(at(0), 100), record(at(1), 101), record(at(5), 113))
    assert await stored(hass) == [(at(0), 1), (at(1), 3), (at(2), 3), (at(3), 3), (at(4), 3)]
    late = [
        record(at(2), 101, source="memory"),
        record(at(3), 110, source="memory"),
        record(at(4), 111, source="memory"),
    ]
    await take(site, *late)
    assert await stored(hass) == [(at(0), 1), (at(1), 0), (at(2), 9), (at(3), 1), (at(4), 2)]
    await take(site, *late)
    assert await stored(hass) == [(at(0), 1), (at(1), 0), (at(2), 9), (at(3), 1), (at(4), 2)]


async def test_history_from_before_the_first_reading_makes_no_giant_bar(hass: HomeAssistant, site: Site) -> None:
    await take(site, record(at(0), 1000), record(at(1), 1002))
    assert await stored(hass) == [(at(0), 2)]
    past = [record(at(-hour), 1000 - 3 * hour, source="memory") for hour in range(1, 400)]
    await take(site, *past)
    found = await stored(hass)
    assert found == [(at(-hour), 3) for hour in range(399, 0, -1)] + [(at(0), 2)]


async def test_after_a_crash_between_rows_and_shift_the_next_run_heals_it(hass: HomeAssistant, site: Site) -> None:
    await take(site, record(at(0), 100), record(at(1), 101), record(at(5), 113), record(at(6), 114))
    good = await stored(hass)
    # As if the rows after the second hour had not been moved yet.
    get_instance(hass).async_adjust_statistics("meter_batch:p1_energy_import", at(3), -2.0, "kWh")
    await async_wait_recording_done(hass)
    await take(site, record(at(2), 104, source="memory"), record(at(3), 107, source="memory"))
    assert await stored(hass) == good


async def test_a_new_multiplier_makes_no_bar(hass: HomeAssistant, site: Site) -> None:
    await take(site, record(at(0), 1000), record(at(1), 1001))
    await site.registry.async_apply(
        {"p1": make_point(name="Hall", multipliers=(Multiplier(at(1), Decimal(80)),))}, SYSTEM, "edit"
    )
    await hass.async_block_till_done()
    await take(site, record(at(2), 1002))
    assert await stored(hass) == [(at(0), 1), (at(1), 80)]


async def test_a_new_meter_at_the_point_makes_no_bar(hass: HomeAssistant, site: Site) -> None:
    await take(site, record(at(0), 1000))
    await take(site, record(at(1), 55000, meter="new"))
    await take(site, record(at(2), 55002, meter="new"))
    assert await stored(hass) == [(at(0), 0), (at(1), 2)]


async def test_what_a_wrong_clock_said_is_taken_back(hass: HomeAssistant, site: Site) -> None:
    await take(site, record(at(0), 100), record(at(1), 101), record(at(50), 101.5))
    await take(site, record(at(2), 102))
    assert [row for row in await stored(hass) if row[1]] == [(at(0), 1), (at(1), 1)]


async def test_export_has_a_statistic_of_its_own(hass: HomeAssistant, site: Site) -> None:
    await take(site, record(at(0), 100, **{EXPORT: 5}), record(at(1), 101, **{EXPORT: 8}))
    assert await stored(hass, "meter_batch:p1_energy_export") == [(at(0), 3)]


async def test_a_virtual_point_is_the_difference_of_its_parts_once_all_are_known(
    hass: HomeAssistant, site: Site
) -> None:
    await site.registry.async_apply(
        {
            "p2": make_point("p2", "Floor", "2"),
            "v1": make_point("v1", "Rest", meters=(), routes=(), formula=(Term(1, "p1"), Term(-1, "p2"))),
        },
        SYSTEM,
        "add",
    )
    await take(site, record(at(0), 100), record(at(1), 110), record(at(2), 120))
    assert await stored(hass, "meter_batch:v1_energy_import") == []
    await take(site, record(at(0), 7, "p2"), record(at(2), 11, "p2"))
    assert await stored(hass, "meter_batch:v1_energy_import") == [(at(0), 8), (at(1), 8)]


async def test_the_first_reading_begins_a_statistic_so_that_it_can_be_chosen(hass: HomeAssistant, site: Site) -> None:
    point = site.registry.points["p1"]
    site.history.async_begin(point, [Reading(IMPORT, Decimal(1000), at(0.1))])
    while not (begun := await stored(hass)):  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert begun == [(at(0), 0)]
    await take(site, record(at(0.25), 1001), record(at(0.5), 1002))
    assert await stored(hass) == [(at(0), 1)]
    site.history.async_begin(point, [Reading(IMPORT, Decimal(1003), at(0.6))])
    await until(lambda: not site.history._begin)
    assert await stored(hass) == [(at(0), 1)]


async def test_while_the_recorders_database_is_locked_nothing_is_acknowledged_and_nothing_is_lost(
    hass: HomeAssistant, site: Site
) -> None:
    await take(site, record(at(0), 100), record(at(1), 101))
    assert await stored(hass) == [(at(0), 1)]
    assert await get_instance(hass).lock_database()
    for hour in range(2, 6):
        await take(site, record(at(hour), 100 + hour))
    await hass.async_block_till_done()
    revision, subscribers = await site.ledger.async_call(lambda ledger: (ledger.revision, ledger.subscribers()))
    assert subscribers[STATISTICS] < revision
    assert get_instance(hass).unlock_database()
    assert await stored(hass) == [(at(hour), 1) for hour in range(5)]


async def test_statistics_of_versions_without_a_ledger_go_on_without_a_jump(
    recorder_mock: Any,
    hass: HomeAssistant,
    add_line: Callable[..., MockConfigEntry],
    hass_storage: dict[str, Any],
    freezer: Any,
) -> None:
    from homeassistant.components.recorder.statistics import async_add_external_statistics

    freezer.move_to(at(1.3))
    rows = [(at(-1), 8000, 0.0), (at(0), 8080, 80.0), (at(1), 8100, 100.0)]
    async_add_external_statistics(
        hass,
        {
            "mean_type": 0,
            "has_sum": True,
            "name": "Hall",
            "source": DOMAIN,
            "statistic_id": "meter_batch:p1_energy_import",
            "unit_class": "energy",
            "unit_of_measurement": "kWh",
        },  # type: ignore[typeddict-item]
        [{"start": start, "state": state, "sum": sum_} for start, state, sum_ in rows],
    )
    await async_wait_recording_done(hass)
    mark = {"at": at(1.25).isoformat(), "register": "101.25", "sum": "100", "fresh": None, "lost": "0", "doubted": None}
    hass_storage["meter_batch.history"] = {
        "version": 1,
        "key": "meter_batch.history",
        "data": {"meter_batch:p1_energy_import": mark},
    }
    point = make_point(name="Hall", multipliers=(Multiplier(ALWAYS, Decimal(80)),), line="l1")
    from custom_components.meter_batch.engine.wire import point_as_dict

    hass_storage["meter_batch"] = {
        "version": 1,
        "minor_version": 3,
        "key": "meter_batch",
        "data": {"points": {"p1": point_as_dict(point)}, "undo": {}, "time_zone": None},
    }
    add_line("East", disabled=True)
    assert await async_setup_component(hass, DOMAIN, {})
    site = await async_get_site(hass)
    assert "p1" in site.registry.points
    await until(lambda: "meter_batch.history" not in hass_storage)
    assert await stored(hass) == [(at(-1), 0), (at(0), 80), (at(1), 20)]
    await take(site, record(at(1.5), "101.50"), record(at(2), 102), record(at(3), 103))
    assert await stored(hass) == [(at(-1), 0), (at(0), 80), (at(1), 80), (at(2), 80)]


async def test_the_statistic_serves_the_energy_dashboard(hass: HomeAssistant, site: Site) -> None:
    assert await async_setup_component(hass, "energy", {})
    await take(site, record(at(0), 1000), record(at(1), 1001))
    assert await stored(hass)
    from homeassistant.components.energy.data import async_get_manager

    manager = await async_get_manager(hass)
    await manager.async_update(
        {"device_consumption": [{"stat_consumption": "meter_batch:p1_energy_import"}]}  # type: ignore[typeddict-item]
    )
    assert (await async_validate(hass)).as_dict()["device_consumption"] == [[]]


async def test_without_a_recorder_nobody_is_subscribed_and_nothing_fails(
    hass: HomeAssistant, add_line: Callable[..., MockConfigEntry]
) -> None:
    add_line("East", disabled=True)
    assert await async_setup_component(hass, DOMAIN, {})
    site = await async_get_site(hass)
    assert not site.history.enabled
    await take(site, record(at(0), 1000), record(at(1), 1001))
    await hass.async_block_till_done()
    assert await site.ledger.async_call(lambda ledger: ledger.subscribers()) == {}
