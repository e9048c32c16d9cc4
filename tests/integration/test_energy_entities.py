"""Energy of the hour, day, month and billing period that run is what ledger and register say, to the digit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from homeassistant.core import HomeAssistant
from homeassistant.helpers import entity_registry as er
from homeassistant.setup import async_setup_component
from homeassistant.util import dt as dt_util
from pytest_homeassistant_custom_component.common import MockConfigEntry, async_fire_time_changed

from custom_components.meter_batch import energy, query, sensor
from custom_components.meter_batch.access import SYSTEM
from custom_components.meter_batch.const import DOMAIN
from custom_components.meter_batch.energy import Billing, Closed, Energies, Period, end_of, start_of
from custom_components.meter_batch.engine import InstalledMeter, Multiplier, Point, Reading
from custom_components.meter_batch.engine.ledger import Boundary, Ledger, Term
from custom_components.meter_batch.engine.model.interval import GROSS
from custom_components.meter_batch.registry import ALWAYS
from custom_components.meter_batch.site import Site, async_get_site

from .conftest import StartFleet, make_point, port_of, wait_for
from .test_query import IMPORT, QUARTER, quarters, take
from .test_query import site as site  # a fixture

BERLIN, SHANGHAI = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Shanghai")


@pytest.mark.parametrize(
    ("at", "zone", "billing", "hour", "day", "month", "period"),
    [
        # summer time ends: the hour from 2 to 3 comes twice, the day has 25 hours
        ("2026-10-25T01:30Z", BERLIN, Billing(25, 2), "2026-10-25T01:00Z", "2026-10-24T22:00Z", "2026-09-30T22:00Z",
         "2026-10-25T00:00Z"),
        ("2026-03-29T21:59Z", BERLIN, Billing(), "2026-03-29T21:00Z", "2026-03-28T23:00Z", "2026-02-28T23:00Z",
         "2026-02-28T23:00Z"),
        ("2026-06-30T16:00Z", SHANGHAI, Billing(26, 0), "2026-06-30T16:00Z", "2026-06-30T16:00Z", "2026-06-30T16:00Z",
         "2026-06-25T16:00Z"),
        ("2026-01-10T00:00Z", SHANGHAI, Billing(26, 8), "2026-01-10T00:00Z", "2026-01-09T16:00Z", "2025-12-31T16:00Z",
         "2025-12-26T00:00Z"),
        ("2026-03-10T00:00Z", UTC, Billing(28, 23), "2026-03-10T00:00Z", "2026-03-10T00:00Z", "2026-03-01T00:00Z",
         "2026-02-28T23:00Z"),
        ("2026-03-28T22:59Z", UTC, Billing(28, 23), "2026-03-28T22:00Z", "2026-03-28T00:00Z", "2026-03-01T00:00Z",
         "2026-02-28T23:00Z"),
        ("2026-03-28T23:00Z", UTC, Billing(28, 23), "2026-03-28T23:00Z", "2026-03-28T00:00Z", "2026-03-01T00:00Z",
         "2026-03-28T23:00Z"),
    ],
)  # fmt: skip
def test_periods_begin_at_the_sites_time(
    at: str, zone: Any, billing: Billing, hour: str, day: str, month: str, period: str
) -> None:
    found = [start_of(one, datetime.fromisoformat(at), zone, billing) for one in Period]
    assert found == [datetime.fromisoformat(text) for text in (hour, day, month, period)]


@pytest.fixture(autouse=True)
def _without_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some of these clocks stand still."""
    monkeypatch.setattr(energy, "PAUSE_S", 0.0)


@pytest.mark.parametrize("zone", [BERLIN, SHANGHAI, UTC])
@pytest.mark.parametrize("billing", [Billing(), Billing(28, 23), Billing(15, 2)])
def test_a_period_ends_when_the_next_begins(zone: Any, billing: Billing) -> None:
    for days in range(0, 800, 9):
        at = datetime(2026, 1, 1, 13, 7, tzinfo=UTC) + timedelta(days=days)
        for period in Period:
            start = start_of(period, at, zone, billing)
            end = end_of(period, start, zone, billing)
            assert start <= at < end
            assert start_of(period, end, zone, billing) == end
            assert start_of(period, end - timedelta(seconds=1), zone, billing) == start


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.db") as opened:
        yield opened


def closed_of(ledger: Ledger, point: Point, billing: Billing, zone: Any, before: Any = None) -> Any:
    known = {(point.id, billing): before}
    return energy._added_up(ledger, points={point.id: point}, zone=zone, known=known)[point.id, billing]


def test_at_every_quarter_of_weeks_the_sums_are_what_the_register_counted_since_each_start(ledger: Ledger) -> None:
    """Added up piece by piece, over the end of a month, of a billing period and of summer time."""
    begin, billing = datetime(2026, 9, 20, tzinfo=UTC), Billing(26, 8)
    point = make_point()

    def register(at: datetime) -> Decimal:
        quarter = (at - begin) // QUARTER
        return Decimal(quarter * quarter % 977 + quarter * 1000) / 100

    ledger.take([Boundary("p1", begin, {IMPORT: register(begin)})])
    before = None
    waiting: list[Boundary] = []
    for quarter in range(1, 40 * 96):
        at = begin + quarter * QUARTER
        waiting.append(Boundary("p1", at, {IMPORT: register(at)}))
        if quarter % 17 and (at.hour not in (6, 22) or at.minute):
            continue  # it is not asked each time, but at every hour of the day and just when periods begin
        ledger.take(waiting)
        waiting = []
        before = closed_of(ledger, point, billing, BERLIN, before)
        closed: Closed = before.closed
        assert closed.until == at and closed.registers[IMPORT] == register(at)
        for period in Period:
            since = max(begin, start_of(period, at, BERLIN, billing))
            assert closed.sums[period] == register(at) - register(since), (at, period)
    assert closed.completeness(Period.HOUR) == 1.0


def test_a_swap_and_a_new_multiplier_make_no_jump(ledger: Ledger) -> None:
    begin = datetime(2026, 6, 10, 9, tzinfo=UTC)
    since = begin + 3 * QUARTER
    point = make_point(multipliers=(Multiplier(since, Decimal(10)),))
    ledger.set_multipliers("p1", point.multipliers)
    ledger.take(Boundary("p1", begin + n * QUARTER, {IMPORT: Decimal(100 + n)}, meter="old") for n in range(4))
    ledger.take(Boundary("p1", begin + n * QUARTER, {IMPORT: Decimal(7 + n)}, meter="new") for n in range(4, 6))
    closed = closed_of(ledger, point, Billing(), UTC).closed
    stored = ledger.intervals(["p1"], begin, begin + timedelta(hours=9))
    assert closed.sums[Period.DAY] == sum(one.energies[IMPORT] for one in stored) == 3 + 10
    at = closed.until + timedelta(minutes=1)
    assert closed.since(point, Reading(IMPORT, Decimal(125), at)) == 10 * (Decimal("12.5") - 12)
    assert closed.since(point, Reading(IMPORT, Decimal(119), at)) is None  # it began again: the next boundary knows
    assert closed.since(point, Reading(IMPORT, Decimal(119), closed.until)) == 0


def test_a_meter_that_counts_import_after_one_that_did_not_tell_it_from_export_loses_nothing(ledger: Ledger) -> None:
    begin = datetime(2026, 6, 10, 9, tzinfo=UTC)
    since = begin + 3 * QUARTER
    point = make_point(meters=(InstalledMeter(ALWAYS, "one"), InstalledMeter(since, "other")))
    ledger.take(Boundary("p1", begin + n * QUARTER, {GROSS: Decimal(100 + n)}, meter="old") for n in range(3))
    both = [{GROSS: Decimal(7 + 2 * n), IMPORT: Decimal(7 + n)} for n in range(6)]
    ledger.take(Boundary("p1", begin + n * QUARTER, both[n], meter="new") for n in range(3, 6))
    assert closed_of(ledger, point, Billing(), UTC).closed.sums[Period.DAY] == 2 + 2


@pytest.mark.parametrize("zone", [BERLIN, ZoneInfo("Asia/Kolkata"), ZoneInfo("Australia/Lord_Howe")])
def test_of_a_virtual_point_hours_are_added_up_to_what_its_intervals_are(ledger: Ledger, zone: Any) -> None:
    """Over the end of a month and a change of the clock, with parts of which something is missing."""
    begin, billing = datetime(2026, 9, 20, tzinfo=UTC), Billing(26, 8)
    points = {"p1": make_point("p1", "Main", "1"), "p2": make_point("p2", "Sub", "2")}
    points["v"] = Point("v", "Rest", (), (), formula=(Term(1, "p1"), Term(-1, "p2")))
    for id_, gap in (("p1", range(500, 700)), ("p2", range(1000, 1001))):
        chance = Random(id_)
        register = Decimal(0)
        boundaries = []
        for quarter in range(20 * 96):
            if quarter not in gap:
                boundaries.append(Boundary(id_, begin + quarter * QUARTER, {IMPORT: register}))
            register += Decimal(chance.randrange(900)).scaleb(-2)
        ledger.take(boundaries)
    ends = ledger.latest("p2")
    assert ends is not None
    for steps in (0, 1, 2, 3, 7, 333):
        until = ends.end - steps * QUARTER
        closed = energy._closed(ledger, points, points["v"], billing, zone, None, until)
        for period, start in closed.starts.items():
            rows = query.rows_of(
                ledger, points=points, point=points["v"], since=start, until=until, resolution="interval", zone="UTC"
            )
            assert closed.sums[period] == sum(one.energies[IMPORT] for one in rows)
            assert closed.known_s[period] == sum(one.known_s for one in rows)
            assert closed.last is not None and closed.last.end == until and closed.last.length_s == 900


async def test_late_data_correct_every_period_they_are_in(hass: HomeAssistant, site: Site) -> None:
    await hass.config.async_update(time_zone="Europe/Berlin")
    billing = Billing()
    heard: list[Closed] = []
    energies = Energies(site)

    def hear() -> None:
        if (closed := energies.closed("p1", billing)) is not None:
            heard.append(closed)

    async def see(what: Callable[[], bool]) -> None:
        """Late data are gathered for some seconds."""

        def soon() -> bool:
            async_fire_time_changed(hass, dt_util.utcnow() + timedelta(minutes=1))
            return what()

        await wait_for(soon)

    begin = datetime(2026, 6, 1, tzinfo=UTC) - timedelta(hours=2)
    gap = range(100, 900)
    boundaries = quarters("p1", begin, 1000, "0.10", skip=gap)
    await take(site, boundaries)
    energies.async_track("p1", billing, hear)
    await wait_for(lambda: heard)
    first = heard[-1]
    assert first.sums[Period.MONTH] == 100
    assert first.completeness(Period.MONTH) == pytest.approx(199 / 1000, abs=1e-3)
    # the memory of the meter knows: the same sum, but now it is known
    await take(site, [one for one in quarters("p1", begin, 1000, "0.10") if one not in boundaries])
    await wait_for(lambda: len(heard) > 1)
    await wait_for(lambda: heard[-1].completeness(Period.MONTH) == 1.0)
    assert heard[-1].sums == first.sums
    # a person corrects an interval of the first day
    await site.ledger.async_call(
        lambda ledger: ledger.edit("p1", begin, {IMPORT: Decimal("1.10")}, author="Ann", reason="test"), {"p1"}
    )
    await wait_for(lambda: heard[-1].sums[Period.MONTH] == 101)
    assert heard[-1].sums[Period.DAY] == first.sums[Period.DAY]


FLEET = """
[[line]]
name = "East"
listen = "tcp://127.0.0.1:0"
protocol = "modbus-tcp"
[[line.meter]]
name = "Main"
address = 1
template = "eastron/sdm630"
ct = 80
"""


async def test_entities_say_closed_energy_and_what_the_register_counted_since_and_survive_a_restart(
    hass: HomeAssistant,
    start_fleet: StartFleet,
    add_line: Callable[..., MockConfigEntry],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await hass.config.async_update(time_zone="Asia/Shanghai")
    fleet = await start_fleet(FLEET)
    register = Decimal(fleet.truth()[0]["registers"][IMPORT])
    now = dt_util.utcnow()
    last = datetime.fromtimestamp(now.timestamp() // 900 * 900 - 900, UTC)
    billing = Billing(max(1, min(28, now.astimezone(SHANGHAI).day - 3)), 7)
    options = {"slow_s": 10, "billing_day": float(billing.day), "billing_hour": float(billing.hour)}
    east = add_line("East", port=port_of(fleet, 0), options=options)
    assert await async_setup_component(hass, DOMAIN, {})
    site = await async_get_site(hass)
    await site.registry.async_apply({"p1": make_point("p1", "Main", "1", east.entry_id, ct="80")}, SYSTEM, "add")
    await hass.async_block_till_done()

    starts = {period: start_of(period, last, SHANGHAI, billing) for period in Period}
    counted = {at: Decimal(1 + number) for number, at in enumerate(sorted({*starts.values()} - {last}, reverse=True))}
    counted[last] = Decimal("0.50")
    meter = site.registry.points["p1"].meter.since.isoformat()
    await take(site, [Boundary("p1", at, {IMPORT: register - less}, meter=meter) for at, less in counted.items()])
    wanted = {}
    for period, start in starts.items():
        # what was counted since the last boundary belongs to the period only while that runs
        runs = start_of(period, now, SHANGHAI, billing) == start
        wanted[period] = 80 * (counted[start] - (0 if runs else counted[last]))
    registry = er.async_get(hass)

    def state(period: Period) -> Any:
        entity = registry.async_get_entity_id("sensor", DOMAIN, f"p1_{period}")
        return hass.states.get(entity) if entity else None

    def there() -> bool:
        return all(
            (one := state(period)) is not None
            and one.state not in {"unknown", "unavailable"}
            and Decimal(one.state) == value
            for period, value in wanted.items()
        )

    await wait_for(there)
    assert {one: datetime.fromisoformat(state(one).attributes["since"]) for one in Period} == starts
    assert {state(one).attributes.get("state_class") for one in Period} == {None}
    assert {state(one).attributes["device_class"] for one in Period} == {"energy"}

    # what is read after a period has ended is not its energy any more; that it is the next one's the ledger must say
    coordinator = east.runtime_data.coordinator
    readings = coordinator.values["p1"]
    true, more = readings[IMPORT], Reading(IMPORT, (register + 1) * 80, starts[Period.HOUR] + timedelta(minutes=61))
    within = start_of(Period.DAY, more.at, SHANGHAI, billing) == starts[Period.DAY]
    readings[IMPORT] = more
    coordinator._touched = {"p1"}
    coordinator.async_update_listeners()
    assert Decimal(state(Period.HOUR).state) == wanted[Period.HOUR]
    today = 80 * (counted[starts[Period.DAY]] + 1) if within else wanted[Period.DAY]
    assert Decimal(state(Period.DAY).state) == today
    readings[IMPORT] = true
    coordinator._touched = {"p1"}
    coordinator.async_update_listeners()
    assert there()

    # of a meter that has been silent for long there is no energy of this hour
    with monkeypatch.context() as later:
        later.setattr(sensor, "GRACE", now - end_of(Period.HOUR, starts[Period.HOUR], SHANGHAI, billing))
        energy.energies_of(hass, site)._look_for_old(now + timedelta(hours=2))
        assert state(Period.HOUR).state == "unavailable"
    energy.energies_of(hass, site)._look_for_old(now + timedelta(hours=2))
    assert there()

    # nothing new is read: nothing is written
    before = {one: state(one).last_updated for one in Period}
    await asyncio.sleep(1.2)
    assert {one: state(one).last_updated for one in Period} == before

    assert await hass.config_entries.async_reload(east.entry_id)
    await hass.async_block_till_done()
    await wait_for(there)
