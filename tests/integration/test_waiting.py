"""What meters remember comes in its own order; the statistics wait for it, so that the recorder writes an hour once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from homeassistant.components.energy.data import async_get_manager
from homeassistant.components.energy.validate import async_validate
from homeassistant.components.recorder.core import Recorder
from homeassistant.components.recorder.statistics import statistics_during_period
from homeassistant.core import HomeAssistant
from homeassistant.helpers.recorder import get_instance
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import MockConfigEntry
from pytest_homeassistant_custom_component.components.recorder.common import async_wait_recording_done

from custom_components.meter_batch.access import SYSTEM
from custom_components.meter_batch.const import DOMAIN, STATISTICS
from custom_components.meter_batch.engine import (
    BackfillHealth,
    Hole,
    LineHealth,
    MemoryRecord,
    PollReport,
    Reading,
    Snapshot,
)
from custom_components.meter_batch.engine.model.point import Term
from custom_components.meter_batch.history import History
from custom_components.meter_batch.site import Site, async_get_site

from .conftest import make_point

T0 = datetime(2026, 7, 1, 10, 0, tzinfo=UTC)
HOUR, QUARTER, DAY = timedelta(hours=1), timedelta(minutes=15), timedelta(days=1)
IMPORT = "1-0:1.8.0"
ID = "meter_batch:p1_energy_import"
ASKING, DONE = BackfillHealth(1000), BackfillHealth(0)


def register(at: datetime) -> Decimal:
    """What the meter shows: in each quarter of an hour it counts 1 to 7 steps."""
    quarters = int((at - T0 + 500 * DAY) / QUARTER)
    weeks, rest = divmod(quarters, 7)
    return Decimal(weeks * 28 + rest * (rest + 1) // 2) / 100


class Line:
    """A line of which the test says what it reports."""

    def __init__(self, hass: HomeAssistant, site: Site, freezer: Any) -> None:
        self.hass, self.site, self.freezer = hass, site, freezer
        self.holes: dict[str, Sequence[Hole]] = {}
        self.written: Counter[tuple[str, datetime]] = Counter()

    def connect(self, *, backfill: bool = True) -> None:
        self.site.intake.async_line("l1", QUARTER, ["p1"], self._set_holes if backfill else None)

    def _set_holes(self, holes: Mapping[str, Sequence[Hole]]) -> None:
        self.holes.update(holes)

    def report(self, **more: Any) -> None:
        now = datetime.now(UTC)
        self.site.intake.async_take("l1", PollReport(now, health=LineHealth(connected=True), **more))

    def live(self, at: datetime, **more: Any) -> None:
        reading = Reading(IMPORT, register(at), at + timedelta(seconds=2))
        self.report(
            readings={"p1": (reading,)}, snapshots={"p1": Snapshot(at, 2.0, (reading,))}, backfill=ASKING, **more
        )

    def memory(self, boundaries: Iterable[datetime], kind: Any = "load_record", **more: Any) -> None:
        records = tuple(MemoryRecord(at, 0.0, (Reading(IMPORT, register(at), at),), kind) for at in boundaries)
        self.report(memory={"p1": records}, backfill=ASKING, **more)

    async def settle(self, later: timedelta = timedelta()) -> None:
        """After some time, until the recorder has what it is to have."""
        self.freezer.tick(later)
        intake, history = self.site.intake, self.site.history
        history._wake()
        while True:
            await asyncio.sleep(0)
            revision, has = await self.site.ledger.async_call(
                lambda ledger: (ledger.revision, ledger.subscribers().get(STATISTICS))
            )
            busy = intake._memory or intake._filling or intake._writing or intake._waiting or intake._telling
            if revision == has and not busy and not history._running:
                break
        await async_wait_recording_done(self.hass)

    async def bars(self, id_: str = ID) -> dict[datetime, float]:
        found = await get_instance(self.hass).async_add_executor_job(
            statistics_during_period, self.hass, T0 - 999 * DAY, None, {id_}, "hour", None, {"change"}
        )
        return {datetime.fromtimestamp(row["start"], UTC): row["change"] or 0.0 for row in found.get(id_, [])}


def truth(start: datetime) -> float:
    return float(register(start + HOUR) - register(start))


@pytest.fixture
async def line(
    recorder_mock: Any,
    hass: HomeAssistant,
    add_line: Callable[..., MockConfigEntry],
    freezer: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> Line:
    freezer.move_to(T0)
    add_line("East", disabled=True)
    assert await async_setup_component(hass, DOMAIN, {})
    site = await async_get_site(hass)
    await site.registry.async_apply({"p1": make_point(name="Hall")}, SYSTEM, "add")
    line = Line(hass, site, freezer)
    give = Recorder.async_import_statistics

    def counted(self: Recorder, metadata: Any, stats: Any, table: Any) -> None:
        line.written.update((metadata["statistic_id"], row["start"]) for row in stats)
        give(self, metadata, stats, table)

    monkeypatch.setattr(Recorder, "async_import_statistics", counted)
    line.connect()
    await hass.async_block_till_done()
    return line


async def test_a_first_install_on_a_slow_line_shows_true_days_soon_then_true_hours_and_hardly_writes_one_thrice(
    hass: HomeAssistant, line: Line
) -> None:
    assert await async_setup_component(hass, "energy", {})
    manager = await async_get_manager(hass)
    line.site.history.async_begin(line.site.registry.points["p1"], [Reading(IMPORT, register(T0), T0)])
    line.live(T0)
    await line.settle(timedelta(seconds=5))
    line.freezer.move_to(T0 + QUARTER)
    line.live(T0 + QUARTER)
    line.report(depths={"p1": 60 * DAY}, backfill=ASKING)
    # First what tells most with fewest questions, then the rest, the newest first; of the oldest there are only days.
    line.memory([T0 - 60 * DAY, T0 - 30 * DAY], "monthly")
    await line.settle(timedelta(minutes=2))
    seen = [await line.bars()]
    line.memory([T0 - 10 * HOUR - day * DAY for day in range(60)], "daily")
    await line.settle(timedelta(minutes=2))
    seen.append(await line.bars())
    assert all(set(bars) <= {T0} for bars in seen), "estimates wait a while: more is to come"
    quarters = [T0 - step * QUARTER for step in range(1, 20 * 96 + 1)]
    for start in range(0, len(quarters), 36):
        line.memory(quarters[start : start + 36])
        if start % 144 == 0:
            line.live(T0 + (2 + start // 144) * QUARTER)
        await line.settle(timedelta(minutes=3))
        if start % 360 == 0:
            bars = await line.bars()
            assert min(bars.values()) >= 0 and max(bars.values()) <= 0.28, "no bar that never was"
    # What is not read yet is shown by the hour as it may have been, and by the day as it was.
    bars = await line.bars()
    for day in range(21, 58):
        ends = T0 - 10 * HOUR - day * DAY
        shown = sum(bars[ends - step * HOUR] for step in range(1, 25))
        assert shown == pytest.approx(float(register(ends) - register(ends - DAY)))
    line.report(exhausted={"p1": (Hole(T0 - 60 * DAY, T0 - 20 * DAY),)}, backfill=DONE)
    await line.settle(timedelta(minutes=1))
    assert not line.site.history.waits
    bars = await line.bars()
    hours = [start for start in sorted(bars) if start < T0]
    assert hours[0] <= T0 - 59 * DAY and len(hours) == (T0 - hours[0]) / HOUR, "each hour has its bar"
    assert [bars[start] for start in hours if start >= T0 - 20 * DAY] == pytest.approx(
        [truth(start) for start in hours if start >= T0 - 20 * DAY]
    )
    first = T0 - 10 * HOUR - 59 * DAY
    since = sum(bars[start] for start in hours if start >= first)
    assert since == pytest.approx(float(register(T0) - register(first)))
    past = {key: count for key, count in line.written.items() if key[1] < T0}
    assert max(past.values()) <= 3
    assert sum(count > 2 for count in past.values()) <= len(past) / 20
    await manager.async_update(
        {
            "energy_sources": [
                {"type": "grid", "stat_energy_from": ID, "stat_energy_to": None, "cost_adjustment_day": 0}  # type: ignore[list-item]
            ],
            "device_consumption": [{"stat_consumption": ID}],
        }
    )
    found = (await async_validate(hass)).as_dict()
    assert not any(
        problem for problems in (*found["energy_sources"], *found["device_consumption"]) for problem in problems
    )

    # Once more, as after a restart that forgot what was there.
    line.written.clear()
    line.memory([T0 - 60 * DAY, T0 - 30 * DAY], "monthly")
    line.memory([T0 - 10 * HOUR - day * DAY for day in range(60)], "daily")
    line.memory(quarters)
    await line.settle(timedelta(minutes=2))
    await line.settle(timedelta(minutes=2))
    assert not line.written


async def outage(line: Line, *, hours: int = 6, **more: Any) -> datetime:
    """The line was away for some hours, and is back."""
    line.report(depths={"p1": 60 * DAY})
    for step in range(-8, 1):
        at = T0 + step * QUARTER
        line.freezer.move_to(at)
        line.live(at)
        await line.settle(timedelta(seconds=5))
    back = T0 + hours * HOUR
    line.freezer.move_to(back)
    line.live(back, **more)
    await line.settle(timedelta(seconds=5))
    return back


async def test_estimated_hours_of_an_outage_wait_while_the_memory_of_the_meter_is_read(line: Line) -> None:
    back = await outage(line)
    assert T0 not in await line.bars()
    line.written.clear()
    line.memory(T0 + step * QUARTER for step in range(1, 24))
    await line.settle()
    await line.settle(timedelta(minutes=2))
    bars = await line.bars()
    assert [bars[T0 + step * HOUR] for step in range(6)] == pytest.approx(
        [truth(T0 + step * HOUR) for step in range(6)]
    )
    assert max(line.written.values()) == 1 and max(bars) < back


async def test_if_that_takes_longer_their_estimates_are_shown_meanwhile(line: Line) -> None:
    await outage(line)
    for _ in range(14):
        await line.settle(timedelta(minutes=1))
    assert T0 not in await line.bars()
    for _ in range(3):
        await line.settle(timedelta(minutes=1))
    bars = await line.bars()
    assert sum(bars[T0 + step * HOUR] for step in range(6)) == pytest.approx(
        float(register(T0 + 6 * HOUR) - register(T0))
    )
    line.memory(T0 + step * QUARTER for step in range(1, 24))
    await line.settle()
    await line.settle(timedelta(minutes=2))
    await line.settle(timedelta(minutes=2))
    bars = await line.bars()
    assert [bars[T0 + step * HOUR] for step in range(6)] == pytest.approx(
        [truth(T0 + step * HOUR) for step in range(6)]
    )
    assert max(count for (_, start), count in line.written.items() if start >= T0) <= 2


@pytest.mark.parametrize("why", ["no memory", "back-fill is off", "exhausted"])
async def test_what_no_memory_will_give_is_shown_at_once(line: Line, why: str) -> None:
    if why == "back-fill is off":
        line.site.intake.async_line_gone("l1")
        line.connect(backfill=False)
    back = await outage(line, depths={"p1": timedelta()} if why == "no memory" else {})
    if why == "exhausted":
        assert T0 not in await line.bars()
        line.report(exhausted={"p1": (Hole(T0, back),)}, backfill=DONE)
        await line.settle(timedelta(seconds=10))
    bars = await line.bars()
    assert sum(bars[T0 + step * HOUR] for step in range(6)) == pytest.approx(float(register(back) - register(T0)))


async def test_what_waits_is_not_forgotten_when_home_assistant_starts_again(hass: HomeAssistant, line: Line) -> None:
    back = await outage(line)
    assert T0 not in await line.bars()
    site = line.site
    again = site.history = History(hass, site.registry, site.ledger, site.intake)
    site.intake.async_line_gone("l1")
    again.async_start()
    await line.settle(timedelta(seconds=5))
    bars = await line.bars()
    assert sum(bars[T0 + step * HOUR] for step in range(6)) == pytest.approx(float(register(back) - register(T0)))
    assert not again.waits


async def test_while_its_line_only_starts_again_a_point_waits_on(
    line: Line, add_line: Callable[..., MockConfigEntry]
) -> None:
    await outage(line)
    entry = add_line("Hall", entry_id="l1")
    line.site.intake.async_line_gone("l1")
    await line.settle(timedelta(minutes=2))
    assert T0 not in await line.bars()
    await line.hass.config_entries.async_remove(entry.entry_id)
    await line.settle(timedelta(minutes=2))
    assert T0 in await line.bars()


async def test_a_virtual_point_waits_with_its_parts(line: Line) -> None:
    less = make_point("v1", "Back", meters=(), routes=(), formula=(Term(-1, "p1"),))
    await line.site.registry.async_apply({"v1": less}, SYSTEM, "add")
    await outage(line)
    id_ = "meter_batch:v1_energy_import"
    bars = await line.bars(id_)
    assert bars and T0 not in bars
    line.memory(T0 + step * QUARTER for step in range(1, 24))
    await line.settle()
    await line.settle(timedelta(minutes=2))
    bars = await line.bars(id_)
    assert [bars[T0 + step * HOUR] for step in range(6)] == pytest.approx(
        [-truth(T0 + step * HOUR) for step in range(6)]
    )


@pytest.mark.parametrize(("depth", "told"), [(24 * DAY, True), (timedelta(), False)])
async def test_a_line_is_told_what_is_missing_as_far_back_as_months_go_however_short_its_finest_memory_is(
    line: Line, depth: timedelta, told: bool
) -> None:
    line.connect()
    line.report(depths={"p1": depth}, backfill=ASKING)
    line.live(T0)
    await line.settle(QUARTER)
    holes = line.holes["p1"]
    assert bool(holes) is told
    if told:
        (hole,) = holes
        assert hole.history and hole.end == T0 and hole.start < T0 - 366 * DAY
