"""From the memory of meters into ledger and statistics: nothing is missing once a line is back, to the last digit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from homeassistant.components.recorder.statistics import statistics_during_period
from homeassistant.core import HomeAssistant
from homeassistant.helpers.recorder import get_instance
from homeassistant.util import dt as dt_util
from pytest_homeassistant_custom_component.common import MockConfigEntry
from pytest_homeassistant_custom_component.components.recorder.common import async_wait_recording_done

from custom_components.meter_batch.const import DOMAIN, STATISTICS
from custom_components.meter_batch.engine import Reading, Snapshot
from custom_components.meter_batch.engine.model.interval import KNOWN, Hole, Interval
from custom_components.meter_batch.site import Site, async_get_site
from meter_batch_virtual.fleet import VirtualFleet

from .conftest import StartFleet, port_of, wait_for

IMPORT, EXPORT = "1-0:1.8.0", "1-0:2.8.0"
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)

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
template = "eastron/sdm630"
load = "pv"
"""
POINTS = """name,line,address,template,ct
Main,East,1,eastron/sdm630,80
Roof,East,2,eastron/sdm630,
"""


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for memories is looked at often."""
    monkeypatch.setattr("custom_components.meter_batch.history.LOOK", timedelta(seconds=0.2))
    monkeypatch.setattr("custom_components.meter_batch.memories.FRESH", timedelta(seconds=1.5))


async def set_up(
    hass: HomeAssistant, fleet: VirtualFleet, add_line: Callable[..., MockConfigEntry]
) -> tuple[Site, MockConfigEntry]:
    east = add_line("East", port=port_of(fleet), options={"fast_s": 1, "interval_min": 1})
    assert await hass.config_entries.async_setup(east.entry_id)
    await hass.services.async_call(DOMAIN, "import_points", {"content": POINTS}, blocking=True, return_response=True)
    await hass.async_block_till_done()
    return await async_get_site(hass), east


def by_name(site: Site) -> dict[str, str]:
    return {point.name: point.id for point in site.registry.points.values()}


def truth(fleet: VirtualFleet, at: datetime) -> dict[str, dict[str, Decimal]]:
    """What the meters showed at an instant, by name: energies without multiplier."""
    return {
        meter.config.name: {obis: Decimal(str(meter.truth(at)[obis])) for obis in (IMPORT, EXPORT)}
        for _, meter in fleet.meters
    }


async def at_boundary(hass: HomeAssistant, fleet: VirtualFleet, entry: MockConfigEntry, at: datetime) -> None:
    """The line reports the registers of a boundary, as it would at that instant: the test need not wait for one."""
    coordinator = entry.runtime_data.coordinator
    names = by_name(coordinator.site)
    snapshots = {}
    for name, registers in truth(fleet, at).items():
        point = coordinator.site.registry.points[names[name]]
        readings = tuple(
            point.apply(Reading(obis, value, at + timedelta(seconds=1))) for obis, value in registers.items()
        )
        snapshots[point.id] = Snapshot(at, 1.0, readings)
    await wait_for(lambda: coordinator.data is not None and coordinator.data.health.connected)
    coordinator._on_report(replace(coordinator.data, readings={}, snapshots=snapshots, memory={}))


async def intervals(site: Site, since: datetime, until: datetime) -> dict[str, list[Interval]]:
    def look(ledger: Any) -> list[Interval]:
        return list(ledger.intervals(set(by_name(site).values()) & set(ledger.points), since, until))

    found: dict[str, list[Interval]] = {name: [] for name in by_name(site)}
    names = {id_: name for name, id_ in by_name(site).items()}
    for one in await site.ledger.async_call(look):
        found[names[one.point]].append(one)
    return found


async def whole(site: Site, since: datetime, until: datetime) -> dict[str, list[Interval]]:
    """Waits until everything in a period is known, from registers that were read or from memory."""
    deadline = asyncio.get_running_loop().time() + 15
    while True:
        found = await intervals(site, since, until)
        known = [sum(one.length_s for one in all_ if one.flags <= KNOWN) for all_ in found.values()]
        if all(one == (until - since).total_seconds() for one in known):
            return found
        assert asyncio.get_running_loop().time() < deadline, f"known of {until - since}: {known}"
        await asyncio.sleep(0.1)


async def shown(hass: HomeAssistant, site: Site, name: str, key: str, since: datetime) -> dict[datetime, float]:
    """The bars of the Energy dashboard, once the recorder has everything."""
    while True:
        revision, subscribers = await site.ledger.async_call(lambda ledger: (ledger.revision, ledger.subscribers()))
        if subscribers.get(STATISTICS) == revision and not site.history.waits:
            break
        await asyncio.sleep(0.05)
    await async_wait_recording_done(hass)
    id_ = f"meter_batch:{by_name(site)[name]}_{key}"
    found = await get_instance(hass).async_add_executor_job(
        statistics_during_period, hass, since, None, {id_}, "hour", None, {"change"}
    )
    return {datetime.fromtimestamp(row["start"], UTC): row["change"] or 0.0 for row in found[id_]}


def check_bars(
    bars: dict[datetime, float], fleet: VirtualFleet, name: str, obis: str, times: int, last: datetime
) -> None:
    assert min(bars.values()) >= 0
    for start, change in bars.items():
        if start + HOUR > last:
            continue  # it runs still
        grown = truth(fleet, start + HOUR)[name][obis] - truth(fleet, start)[name][obis]
        assert change == pytest.approx(float(grown * times), abs=1e-6), start


async def test_a_first_install_has_the_past_of_its_meters_and_a_second_run_changes_nothing(
    recorder_mock: Any,
    hass: HomeAssistant,
    start_fleet: StartFleet,
    add_line: Callable[..., MockConfigEntry],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("custom_components.meter_batch.intake.MEMORY_REACH", timedelta(hours=30))
    monkeypatch.setattr("custom_components.meter_batch.intake.LATEST", timedelta(seconds=0.1))
    fleet = await start_fleet(FLEET, hold=False)
    site, east = await set_up(hass, fleet, add_line)
    last = dt_util.utcnow().replace(second=0, microsecond=0)
    since = (last - 28 * HOUR).replace(minute=0)
    await at_boundary(hass, fleet, east, last)
    found = await whole(site, since, last)
    for name, all_ in found.items():
        begin, end = truth(fleet, since)[name], truth(fleet, last)[name]
        times = 80 if name == "Main" else 1
        for obis in (IMPORT, EXPORT):
            assert sum(one.energies[obis] for one in all_) == (end[obis] - begin[obis]) * times
    assert (await site.ledger.async_call(lambda ledger: ledger.verify())).named == []
    bars = await shown(hass, site, "Main", "energy_import", since)
    assert len(bars) >= 28
    check_bars(bars, fleet, "Main", IMPORT, 80, last)
    check_bars(await shown(hass, site, "Roof", "energy_export", since), fleet, "Roof", EXPORT, 1, last)

    # Everything is asked for once more, as after a restart that forgot what was there.
    assert await hass.config_entries.async_reload(east.entry_id)
    await hass.async_block_till_done()
    taken: list[int] = []
    take = site.intake.async_take

    def noted(line: str, report: Any, unusable: Any = ()) -> None:
        taken.append(sum(len(records) for records in report.memory.values()))
        take(line, report, unusable)

    monkeypatch.setattr(site.intake, "async_take", noted)
    hole = Hole(since, last)
    east.runtime_data.coordinator.poller.set_holes({id_: [hole] for id_ in by_name(site).values()})
    await wait_for(lambda: sum(taken) >= 60)
    await wait_for(lambda: not site.intake._memory and not site.intake._filling)
    assert await intervals(site, since, last) == found
    again = await shown(hass, site, "Main", "energy_import", since)
    assert [again[start] for start in bars if start + HOUR <= last] == [
        change for start, change in bars.items() if start + HOUR <= last
    ]


async def test_a_line_that_was_cut_leaves_no_gap_once_it_is_back(
    recorder_mock: Any,
    hass: HomeAssistant,
    start_fleet: StartFleet,
    add_line: Callable[..., MockConfigEntry],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("custom_components.meter_batch.intake.MEMORY_REACH", timedelta(hours=5))
    monkeypatch.setattr("custom_components.meter_batch.intake.LATEST", timedelta(seconds=0.1))
    fleet = await start_fleet(FLEET, hold=False)
    site, east = await set_up(hass, fleet, add_line)
    now = dt_util.utcnow().replace(second=0, microsecond=0)
    cut = now - timedelta(minutes=95)
    await at_boundary(hass, fleet, east, cut)
    await wait_for(lambda: not site.intake._waiting and not site.intake._writing)
    # As if Home Assistant had not run, and the line had been away, until now.
    assert await hass.config_entries.async_unload(east.entry_id)
    assert await hass.config_entries.async_setup(east.entry_id)
    await hass.async_block_till_done()
    gaps = await site.ledger.async_call(lambda ledger: ledger.gaps())
    assert {gap.start for gap in gaps} == {cut}
    await at_boundary(hass, fleet, east, now)
    found = await whole(site, cut, now)
    for name, all_ in found.items():
        begin, end = truth(fleet, cut)[name], truth(fleet, now)[name]
        times = 80 if name == "Main" else 1
        assert [one.length_s for one in all_] == [60] * 95
        for obis in (IMPORT, EXPORT):
            assert sum(one.energies[obis] for one in all_) == (end[obis] - begin[obis]) * times
    assert [gap for gap in await site.ledger.async_call(lambda ledger: ledger.gaps()) if gap.start >= cut] == []
    check_bars(await shown(hass, site, "Main", "energy_import", cut), fleet, "Main", IMPORT, 80, now)


@pytest.mark.parametrize(
    ("options", "budget", "clock_care"),
    [
        ({}, 0.8, True),
        ({"protocol": "modbus-rtu"}, 0.2, True),
        ({"backfill_percent": 35, "clock_care": False}, 0.35, False),
        ({"backfill": False, "backfill_percent": 35}, 0.35, True),
    ],
)
async def test_options_of_a_line_say_how_much_of_its_time_back_fill_may_take(
    hass: HomeAssistant,
    start_fleet: StartFleet,
    add_line: Callable[..., MockConfigEntry],
    options: dict[str, Any],
    budget: float,
    clock_care: bool,
) -> None:
    data = {"protocol": options.pop("protocol")} if "protocol" in options else {}
    east = add_line("East", port=port_of(await start_fleet(FLEET)), options=options, **data)
    assert await hass.config_entries.async_setup(east.entry_id)
    settings = east.runtime_data.coordinator.poller._settings
    assert (settings.budget, settings.clock_care) == (budget, clock_care)
    assert settings.time_zone == hass.config.time_zone
