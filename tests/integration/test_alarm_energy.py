"""What the ledger says of now reaches the rules: unusual hours, budgets, gaps. What comes late never does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from homeassistant.core import HomeAssistant
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.meter_batch.access import SYSTEM
from custom_components.meter_batch.const import DOMAIN
from custom_components.meter_batch.engine.ledger import Boundary
from custom_components.meter_batch.engine.model.interval import GapReason
from custom_components.meter_batch.engine.model.point import Point, Term
from custom_components.meter_batch.site import Site, async_get_site

from .conftest import make_point
from .test_alarm_actions import act, kinds
from .test_ledger import later

NOW = datetime(2026, 7, 8, 0, 0, tzinfo=UTC)  # a Wednesday
HOUR = timedelta(hours=1)
QUARTER = timedelta(minutes=15)
IMPORT = "1-0:1.8.0"


class Meter:
    """Counts, and has its register read at each quarter of an hour."""

    def __init__(self, hass: HomeAssistant, site: Site, freezer: Any, at: datetime) -> None:
        self._hass, self._site, self._freezer = hass, site, freezer
        self.at, self.register = at, Decimal(1000)

    def runs(self, hours: int, kwh: float) -> list[Boundary]:
        """Its registers while it counts so much each hour."""
        found = []
        for _ in range(4 * hours):
            self.at += QUARTER
            self.register += Decimal(str(kwh)) / 4
            found.append(Boundary("p1", self.at, {IMPORT: self.register}, meter="m"))
        return found

    async def read(self, hours: int, kwh: float) -> None:
        """The same, hour by hour, as time goes by."""
        for _ in range(hours):
            registers = self.runs(1, kwh)
            await later(self._hass, self._freezer, self.at + timedelta(seconds=20))
            await self.write(registers)
            await later(self._hass, self._freezer, self.at + timedelta(seconds=30))

    async def write(self, registers: list[Boundary]) -> None:
        await self._site.ledger.async_call(lambda ledger: ledger.take(registers), {"p1"})
        await self._hass.async_block_till_done(wait_background_tasks=True)


@pytest.fixture
async def site(hass: HomeAssistant, add_line: Callable[..., MockConfigEntry], freezer: Any) -> Site:
    await hass.config.async_set_time_zone("UTC")
    freezer.move_to(NOW - timedelta(minutes=5))
    add_line("East", entry_id="l1", disabled=True)
    assert await async_setup_component(hass, DOMAIN, {})
    site = await async_get_site(hass)
    point = make_point("p1", "Lathe", "1", attributes={"daily_budget_kwh": "40"})
    await site.registry.async_apply({"p1": point}, SYSTEM, "add")
    return site


@pytest.fixture
async def meter(hass: HomeAssistant, site: Site, freezer: Any) -> Meter:
    """Three weeks of 4 kWh an hour by day, 1 kWh by night."""
    meter = Meter(hass, site, freezer, NOW - timedelta(days=21) - QUARTER)
    registers = meter.runs(0, 0)
    registers.append(Boundary("p1", meter.at + QUARTER, {IMPORT: meter.register}, meter="m"))
    meter.at += QUARTER
    for _ in range(21):
        registers += meter.runs(8, 1) + meter.runs(10, 4) + meter.runs(6, 1)
    assert meter.at == NOW
    freezer.move_to(NOW + timedelta(seconds=20))
    await meter.write(registers)
    for minute in (2, 4):
        await later(hass, freezer, NOW + timedelta(minutes=minute))  # what is usual is added up
    return meter


async def test_two_hours_far_above_what_is_usual_are_an_alarm_and_usual_ones_are_not(
    hass: HomeAssistant, site: Site, meter: Meter
) -> None:
    await meter.read(3, 1)
    assert await kinds(hass) == []
    await meter.read(1, 3)
    assert await kinds(hass) == []  # one hour may be
    await meter.read(2, 3)
    assert await kinds(hass) == [("Lathe", "high_consumption")]
    (finding,) = site.alarms.of("p1")
    assert (finding.value, finding.since) == (3.0, NOW + 3 * HOUR)


async def test_a_budget_of_a_day_is_watched_as_it_is_used_up(hass: HomeAssistant, site: Site, meter: Meter) -> None:
    await meter.read(8, 1)
    await meter.read(7, 4)
    assert await kinds(hass, kinds=["daily_budget"]) == []  # 36 of 40 kWh
    await meter.read(2, 4)
    assert await kinds(hass, kinds=["daily_budget"]) == [("Lathe", "daily_budget")]
    await meter.read(7, 1)
    await meter.read(1, 1)  # the next day
    assert await kinds(hass, kinds=["daily_budget"], state="active") == []


async def test_of_a_virtual_point_budget_and_usual_hours_are_watched_by_what_its_parts_used(
    hass: HomeAssistant, site: Site, meter: Meter, freezer: Any
) -> None:
    point = Point("v", "Hall", (), (), attributes={"daily_budget_kwh": "15"}, formula=(Term(1, "p1"),))
    whole = Point("w", "House", (), (), formula=(Term(1, "v"),))
    await site.registry.async_apply({"v": point, "w": whole}, SYSTEM, "add")
    for minute in (6, 7, 8):
        await later(hass, freezer, NOW + timedelta(minutes=minute))  # what is usual is added up
    await meter.read(3, 1)
    assert await kinds(hass) == []
    await meter.read(3, 3)
    unusual = {(name, "high_consumption") for name in ("Lathe", "Hall", "House")}
    assert set(await kinds(hass)) == unusual
    await meter.read(2, 3)
    assert set(await kinds(hass)) == {*unusual, ("Hall", "daily_budget")}  # 18 of 15 kWh
    (finding,) = (one for one in site.alarms.of("v") if one.kind == "daily_budget")
    assert (finding.value, finding.limit) == (18.0, 15.0)
    rules = (await act(hass, "list_alarm_rules", point="Hall"))["rules"]
    assert [kind for kind, one in rules.items() if one.get("rests") == []] == ["daily_budget", "high_consumption"]
    assert rules["over_voltage"]["rests"][0].startswith("A virtual point has energies only")
    assert rules["data_gap"]["rests"] == ["It is about a meter on a line, and there is none here."]


async def test_a_part_of_which_nothing_is_known_makes_no_alarm_of_a_difference(
    hass: HomeAssistant, site: Site, meter: Meter
) -> None:
    sub = make_point("p2", "Press", "2")
    rest = Point("v", "Rest", (), (), attributes={"daily_budget_kwh": "1"}, formula=(Term(1, "p1"), Term(-1, "p2")))
    await site.registry.async_apply({"p2": sub, "v": rest}, SYSTEM, "add")
    await meter.read(4, 3)
    assert await kinds(hass, points=["Rest"]) == []


async def test_what_comes_late_out_of_memory_never_makes_an_alarm(
    hass: HomeAssistant, site: Site, meter: Meter, freezer: Any
) -> None:
    told: list[Any] = []
    site.alarms.async_listen(told.append)
    late = meter.runs(12, 30)
    await later(hass, freezer, NOW + 18 * HOUR)
    await meter.write(late)
    await later(hass, freezer, NOW + 18 * HOUR + timedelta(seconds=30))
    assert told == []
    assert await kinds(hass, state="all") == []


async def test_what_is_missing_is_an_alarm_when_back_fill_had_its_time(
    hass: HomeAssistant, site: Site, meter: Meter, freezer: Any
) -> None:
    freezer.move_to(NOW + 2 * HOUR)
    for step in range(1, 8):
        boundary = NOW + step * QUARTER
        await site.ledger.async_call(lambda ledger, at=boundary: ledger.miss(["p1"], at, GapReason.METER), {"p1"})
    await later(hass, freezer, NOW + 2 * HOUR + timedelta(minutes=1))
    assert await kinds(hass) == []
    for minutes in range(5, 130, 10):
        await later(hass, freezer, NOW + 2 * HOUR + timedelta(minutes=minutes))
    assert ("Lathe", "data_gap") in await kinds(hass)
