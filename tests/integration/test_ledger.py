"""The ledger inside Home Assistant: what lines report gets into it, whatever happens to its file or to a line."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from homeassistant.core import HomeAssistant
from homeassistant.helpers import issue_registry as ir
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import MockConfigEntry, async_fire_time_changed

from custom_components.meter_batch.access import SYSTEM
from custom_components.meter_batch.const import DOMAIN, STATISTICS
from custom_components.meter_batch.engine import (
    InstalledMeter,
    LedgerError,
    LineHealth,
    MemoryRecord,
    MeterError,
    PollReport,
    Reading,
    Refused,
    Snapshot,
)
from custom_components.meter_batch.engine.ledger import Ledger
from custom_components.meter_batch.engine.model.interval import GapReason, Quality
from custom_components.meter_batch.ledger import ISSUE, SiteLedger
from custom_components.meter_batch.site import Site, async_get_site

from .conftest import make_point

T0 = datetime(2026, 7, 1, 10, 0, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
IMPORT = "1-0:1.8.0"
UP, DOWN = LineHealth(connected=True), LineHealth(connected=False)


@pytest.fixture
async def site(hass: HomeAssistant, add_line: Callable[..., MockConfigEntry], freezer: Any) -> Site:
    freezer.move_to(T0 - timedelta(minutes=1))
    add_line("East", disabled=True)
    assert await async_setup_component(hass, DOMAIN, {})
    site = await async_get_site(hass)
    await site.registry.async_apply(
        {"p1": make_point("p1", "Hall", "1", ct=80), "p2": make_point("p2", "Roof", "2")}, SYSTEM, "add"
    )
    site.intake.async_line("l1", QUARTER, ["p1", "p2"])
    await hass.async_block_till_done()
    return site


def report(
    at: datetime,
    health: LineHealth = UP,
    silent: tuple[str, ...] = (),
    failed: Mapping[str, MeterError] | None = None,
    **registers: Any,
) -> PollReport:
    snapshots, readings = {}, {}
    for key, value in registers.items():
        read = Reading(IMPORT, Decimal(str(value)) * (80 if key == "p1" else 1), at + timedelta(seconds=3))
        readings[key] = (read,)
        snapshots[key] = Snapshot(at, 3.0, (read,))
    return PollReport(
        at, readings=readings, snapshots=snapshots, failed=failed or {}, health=health, silent=frozenset(silent)
    )


async def later(hass: HomeAssistant, freezer: Any, at: datetime) -> None:
    freezer.move_to(at)
    async_fire_time_changed(hass, at)
    await hass.async_block_till_done(wait_background_tasks=True)


async def intervals(ledger: SiteLedger, *points: str) -> list[Any]:
    day = timedelta(days=1)
    return await ledger.async_call(lambda one: one.intervals(points, T0 - day, T0 + day))


async def test_all_points_of_a_boundary_are_one_revision_as_soon_as_all_have_answered(
    hass: HomeAssistant, site: Site, freezer: Any
) -> None:
    told: list[set[str]] = []
    site.ledger.async_listen(told.append)
    for step in range(3):
        at = T0 + step * QUARTER
        freezer.move_to(at + timedelta(seconds=4))
        site.intake.async_take("l1", report(at, p1=100 + step))
        site.intake.async_take("l1", report(at, p2=7 + step))
        await hass.async_block_till_done()
    found = await intervals(site.ledger, "p1", "p2")
    assert [(one.point, one.energies[IMPORT], one.flags) for one in found] == [
        ("p1", 80, {Quality.MEASURED}),
        ("p1", 80, {Quality.MEASURED}),
        ("p2", 1, {Quality.MEASURED}),
        ("p2", 1, {Quality.MEASURED}),
    ]
    assert len({one.revision for one in found}) == 2
    assert told[-1] == {"p1", "p2"}


async def test_who_is_late_is_written_without_being_waited_for(hass: HomeAssistant, site: Site, freezer: Any) -> None:
    site.intake.async_take("l1", report(T0, p1=100, p2=5))
    await hass.async_block_till_done()
    site.intake.async_take("l1", report(T0 + QUARTER, p1=101))
    await later(hass, freezer, T0 + QUARTER + timedelta(seconds=25))
    assert len(await intervals(site.ledger, "p1")) == 1
    site.intake.async_take("l1", report(T0 + QUARTER, p2=6))
    await later(hass, freezer, T0 + QUARTER + timedelta(seconds=50))
    assert len(await intervals(site.ledger, "p1", "p2")) == 2
    assert await site.ledger.async_call(lambda ledger: ledger.gaps()) == []


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ({"health": DOWN}, GapReason.LINE),
        ({"silent": ("p2",)}, GapReason.METER),
        ({"failed": {"p2": Refused("no", code=2)}}, GapReason.REFUSED),
    ],
)
async def test_a_point_without_registers_for_a_boundary_is_a_gap_with_its_reason(
    hass: HomeAssistant, site: Site, freezer: Any, what: dict[str, Any], reason: GapReason
) -> None:
    site.intake.async_take("l1", report(T0, p1=100, p2=5))
    await later(hass, freezer, T0 + timedelta(seconds=25))
    site.intake.async_take("l1", report(T0, **what))
    await later(hass, freezer, T0 + QUARTER + timedelta(minutes=4))
    gaps = await site.ledger.async_call(lambda ledger: ledger.gaps(["p2"]))
    assert [(gap.point, gap.start, gap.end, gap.reason) for gap in gaps] == [("p2", T0, None, reason)]


async def test_what_came_while_we_did_not_run_is_a_gap_of_the_host(
    hass: HomeAssistant, site: Site, freezer: Any
) -> None:
    site.intake.async_take("l1", report(T0, p1=100, p2=5))
    await later(hass, freezer, T0 + timedelta(seconds=25))
    site.intake.async_line_gone("l1")
    await later(hass, freezer, T0 + 4 * QUARTER + timedelta(minutes=1))
    site.intake.async_line("l1", QUARTER, ["p1", "p2"])
    await hass.async_block_till_done()
    gaps = await site.ledger.async_call(lambda ledger: ledger.gaps())
    assert [(gap.start, gap.reason) for gap in gaps] == [(T0, GapReason.HOST)] * 2


async def test_while_the_file_cannot_be_opened_registers_wait_and_a_repairs_issue_says_why(
    hass: HomeAssistant, add_line: Callable[..., MockConfigEntry], freezer: Any
) -> None:
    freezer.move_to(T0)
    storage = hass.config.path(".storage")
    Path(storage).mkdir()  # noqa: ASYNC240
    with Path(storage, "meter_batch.ledger.db-lock").open("w") as lock:  # noqa: ASYNC230
        fcntl.flock(lock, fcntl.LOCK_EX)
        add_line("East", disabled=True)
        assert await async_setup_component(hass, DOMAIN, {})
        site = await async_get_site(hass)
        await site.registry.async_apply({"p1": make_point("p1", "Hall", "1", ct=80)}, SYSTEM, "add")
        site.intake.async_line("l1", QUARTER, ["p1"])
        with pytest.raises(LedgerError):
            await site.ledger.async_call(lambda ledger: ledger.revision)
        for step in range(3):
            site.intake.async_take("l1", report(T0 + step * QUARTER, p1=100 + step))
            await hass.async_block_till_done()
        assert site.intake.pending == 3
        issue = ir.async_get(hass).async_get_issue(DOMAIN, ISSUE)
        assert issue is not None and issue.translation_placeholders is not None
        assert "in use by another program" in issue.translation_placeholders["problem"]
    await later(hass, freezer, T0 + 2 * QUARTER + timedelta(minutes=2))
    assert [one.energies[IMPORT] for one in await intervals(site.ledger, "p1")] == [80, 80]
    assert site.intake.pending == 0
    assert ir.async_get(hass).async_get_issue(DOMAIN, ISSUE) is None


async def test_what_must_be_dropped_is_told(
    hass: HomeAssistant, site: Site, freezer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in range(3):
        site.intake.async_take("l1", report(T0 + step * QUARTER, p1=100 + step, p2=step))
        await hass.async_block_till_done()
    monkeypatch.setattr("custom_components.meter_batch.ledger.LEDGER_KEPT", timedelta(days=3))
    # The statistics have them as hours; that is no archive.
    await site.ledger.async_call(lambda ledger: ledger.subscribe(STATISTICS, since_revision=ledger.revision))
    await later(hass, freezer, T0 + timedelta(days=9))
    issue = ir.async_get(hass).async_get_issue(DOMAIN, "ledger_dropped")
    assert issue is not None and issue.translation_placeholders is not None
    assert issue.translation_placeholders == {"count": "4", "before": "2026-07-07"}


async def test_what_an_archive_has_is_dropped_without_an_alarm(
    hass: HomeAssistant, site: Site, freezer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in range(3):
        site.intake.async_take("l1", report(T0 + step * QUARTER, p1=100 + step, p2=step))
        await hass.async_block_till_done()
    monkeypatch.setattr("custom_components.meter_batch.ledger.LEDGER_KEPT", timedelta(days=3))
    await site.ledger.async_call(lambda ledger: ledger.subscribe("archive", since_revision=ledger.revision))
    await later(hass, freezer, T0 + timedelta(days=9))
    assert await intervals(site.ledger, "p1", "p2") == []
    assert ir.async_get(hass).async_get_issue(DOMAIN, "ledger_dropped") is None


@pytest.mark.parametrize(
    ("who", "behind", "kept"),
    [
        ({"archive"}, set(), False),
        ({"archive", STATISTICS}, set(), False),
        ({"archive", STATISTICS}, {STATISTICS}, True),
        ({"archive"}, {"archive"}, True),
        ({STATISTICS}, set(), True),
        ({"somebody else"}, set(), True),
        (set(), set(), True),
    ],
)
async def test_after_400_days_the_ledger_forgets_what_the_archive_and_all_others_have_and_only_that(
    hass: HomeAssistant, site: Site, freezer: Any, who: set[str], behind: set[str], kept: bool
) -> None:
    for step in range(3):
        site.intake.async_take("l1", report(T0 + step * QUARTER, p1=100 + step, p2=step))
        await hass.async_block_till_done()

    def subscribe(ledger: Ledger) -> None:
        for name in who:
            ledger.subscribe(name, since_revision=0 if name in behind else ledger.revision)

    await site.ledger.async_call(subscribe)
    await later(hass, freezer, T0 + timedelta(days=399))
    assert len(await intervals(site.ledger, "p1", "p2")) == 4
    await later(hass, freezer, T0 + timedelta(days=402))
    assert len(await intervals(site.ledger, "p1", "p2")) == (4 if kept else 0)
    assert ir.async_get(hass).async_get_issue(DOMAIN, "ledger_dropped") is None
    # Counting goes on from the last register, however long ago that was.
    site.intake.async_take("l1", report(T0 + timedelta(days=402), p1=1000, p2=20))
    await later(hass, freezer, T0 + timedelta(days=402, minutes=5))
    verdict = await site.ledger.async_call(lambda ledger: ledger.verify())
    assert verdict.ok, verdict.named
    since = T0 + timedelta(days=1)
    found = await site.ledger.async_call(lambda ledger: ledger.sums("p2", [since, since + timedelta(days=402)]))
    assert found[0].energies[IMPORT] == 18


async def test_what_the_first_meter_of_a_point_remembers_is_kept_however_old_it_is(
    hass: HomeAssistant, site: Site, freezer: Any
) -> None:
    """As a first installation finds it: the list is applied, and then memory is read."""
    csv = "name,line,address,template\nPress,East,7,eastron/sdm630\n"
    await hass.services.async_call(DOMAIN, "import_points", {"content": csv}, blocking=True, return_response=True)
    point = site.registry.find("Press")
    assert point is not None
    site.intake.async_line("l1", QUARTER, [point.id])
    year = T0 - timedelta(days=365)
    records = [
        MemoryRecord(at, 0.0, (Reading(IMPORT, Decimal(number), at),), "profile")
        for number, at in enumerate([year, year + QUARTER, T0 - QUARTER])
    ]
    live: dict[str, Any] = {point.id: 9}
    site.intake.async_take("l1", replace(report(T0, **live), memory={point.id: tuple(records)}))
    await hass.async_block_till_done(wait_background_tasks=True)
    found = await site.ledger.async_call(lambda ledger: ledger.intervals([point.id], year, T0))
    assert (found[0].start, found[0].energies) == (year, {IMPORT: Decimal(1)})
    assert found[0].flags == {Quality.METER_MEMORY}
    assert sum(one.energies[IMPORT] for one in found) == 9


async def test_another_meter_makes_no_jump_and_what_the_old_one_still_counted_is_kept(
    hass: HomeAssistant, site: Site, freezer: Any
) -> None:
    for step in range(2):
        site.intake.async_take("l1", report(T0 + step * QUARTER, p1=1, p2=500 + step))
        await hass.async_block_till_done()
    old = site.registry.points["p2"]
    since = T0 + QUARTER + timedelta(minutes=5)
    new = replace(old, meters=(*old.meters, InstalledMeter(since, old.meter.template, "new")))
    last = Reading(IMPORT, Decimal("501.25"), since - timedelta(seconds=20))
    site.intake.async_swapped(old, new, [last])
    await site.registry.async_apply({"p2": new}, SYSTEM, "edit")
    site.intake.async_take("l1", report(T0 + 2 * QUARTER, p1=2, p2=9000))
    await hass.async_block_till_done()
    site.intake.async_take("l1", report(T0 + 3 * QUARTER, p1=3, p2=9002))
    await hass.async_block_till_done()
    found = await intervals(site.ledger, "p2")
    assert [one.energies[IMPORT] for one in found] == [1, Decimal("0.25"), 2]
    assert [one.rule for one in found] == [None, "swap", None]


async def test_what_a_person_read_off_both_meters_is_counted_exactly(
    hass: HomeAssistant, site: Site, freezer: Any
) -> None:
    for step in range(2):
        site.intake.async_take("l1", report(T0 + step * QUARTER, p1=1, p2=500 + step))
        await hass.async_block_till_done()
    old = site.registry.points["p2"]
    since = T0 + QUARTER + timedelta(minutes=5)
    new = replace(old, meters=(*old.meters, InstalledMeter(since, old.meter.template, "new")))
    site.intake.async_shown("p2", since, Decimal("501.75"), Decimal(8999))
    site.intake.async_swapped(old, new, [Reading(IMPORT, Decimal("501.25"), since - timedelta(seconds=20))])
    await site.registry.async_apply({"p2": new}, SYSTEM, "edit")
    for step, register in ((2, 9000), (3, 9002)):
        site.intake.async_take("l1", report(T0 + step * QUARTER, p1=step, p2=register))
        await hass.async_block_till_done()
    found = await intervals(site.ledger, "p2")
    assert [(one.energies[IMPORT], one.rule) for one in found] == [(1, None), (Decimal("1.75"), None), (2, None)]
