"""Sums are what the intervals say, added up: whatever layers, registers, multipliers and edges there are."""

from __future__ import annotations

import random
import tempfile
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meter_batch_engine.errors import LedgerError
from meter_batch_engine.ledger import Boundary, Ledger, Sum, gather
from meter_batch_engine.model.interval import Interval, Quality
from meter_batch_engine.model.point import Multiplier

IMPORT, EXPORT = "1-0:1.8.0", "1-0:2.8.0"
START = datetime(2026, 3, 28, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
BERLIN = ZoneInfo("Europe/Berlin")


class Clock:
    """One that can be put anywhere."""

    now = START


def lived(ledger: Ledger, clock: Clock, chance: random.Random, minutes: int) -> None:
    """Registers of varying kind and number, some late, with wrong clocks, multipliers and corrections."""
    used = sorted(chance.sample(range(minutes), chance.randint(2, 60)))
    late, count = [], [Decimal(0), Decimal(0)]
    for at in used:
        digits = chance.choice([-2, -2, -2, -1, 0])
        count = [one + Decimal(chance.randrange(1000)).scaleb(digits) for one in count]
        registers = dict(zip(chance.choice([(IMPORT,), (IMPORT, EXPORT)]), count, strict=False))
        record = Boundary("p", START + at * MINUTE, registers, source=chance.choice(["poll", "memory"]), meter="m")
        clock.now = max(clock.now, record.at)
        if chance.random() < 0.3:
            late.append(record)
        else:
            ledger.take([record])
        if chance.random() < 0.05:
            # A clock that ran ahead, and came back.
            ahead = Boundary("p", record.at + timedelta(days=3), registers, meter="m")
            ledger.take([ahead])
    chance.shuffle(late)
    ledger.take(late)
    times = sorted(chance.sample(used, 2))
    factors = [Multiplier(START + at * MINUTE, Decimal(chance.choice([40, 80])), Decimal("1.1")) for at in times]
    ledger.set_multipliers("p", factors)
    for one in chance.sample(there := everything(ledger), min(4, len(there))):
        ledger.edit("p", one.start, {IMPORT: Decimal("3.125")}, author="Li", reason="bypassed")
        if chance.random() < 0.5:
            ledger.edit("p", one.start, None, author="Li", reason="it was not")


def everything(ledger: Ledger) -> list[Interval]:
    return ledger.intervals(["p"], START - timedelta(days=1), START + timedelta(days=40))


def added(start: datetime, end: datetime, intervals: list[Interval]) -> Sum:
    """What `sums` promises, in the plainest way."""
    its = [one for one in intervals if start <= one.start < end]
    energies = {
        obis: sum((one.energies[obis] for one in its if obis in one.energies), Decimal(0))
        for obis in {obis for one in its for obis in one.energies}
    }
    flags = frozenset[Quality]().union(*(one.flags for one in its))
    return Sum(start, end, energies, sum(one.length_s for one in its), sum(one.known_s for one in its), flags)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32), days=st.sampled_from([1, 5, 35]), edges=st.integers(2, 60))
def test_sums_are_the_intervals_added_up(seed, days, edges):
    chance, clock = random.Random(seed), Clock()
    with (
        tempfile.TemporaryDirectory() as folder,
        Ledger(Path(folder) / "ledger.db", time_zone="Europe/Berlin", now=lambda: clock.now) as ledger,
    ):
        lived(ledger, clock, chance, days * 1440)
        intervals = everything(ledger)
        # At any second, and at lines where intervals begin.
        cuts = {START + chance.uniform(-1, days + 4) * timedelta(days=1) for _ in range(edges)}
        cuts |= {one.start for one in chance.sample(intervals, min(5, len(intervals)))}
        found = ledger.sums("p", sorted(cuts))
        assert found == [added(start, end, intervals) for start, end in pairwise(sorted(cuts))]
        for resolution in ("hour", "day", "month"):
            for period in gather(intervals, resolution, BERLIN):
                (one,) = ledger.sums("p", (period.start, period.end))
                assert (one.energies, one.known_s, one.flags) == (period.energies, period.known_s, period.flags)
        first, *_, last = sorted(cuts)
        share = sum(one.known_s for one in found) / (last - first).total_seconds()
        assert ledger.completeness(["p"], first, last) == {"p": pytest.approx(share)}


def test_where_nothing_is_known_a_sum_is_empty(desk):
    desk.take(0, 0)
    desk.take(4, 4)
    at = desk.boundary(0, 0).at
    day = timedelta(days=1)
    before, it, after = desk.ledger.sums("p", (at - 4000 * day, at, at + day, at + 4000 * day))
    assert (before.energies, before.covered_s, before.known_s, before.flags) == ({}, 0, 0, frozenset())
    assert (it.energies, it.covered_s, it.known_s, it.flags) == ({IMPORT: 4}, 3600, 0, {Quality.ESTIMATED})
    assert after.covered_s == 0
    assert desk.ledger.sums("p", ()) == desk.ledger.sums("p", (at,)) == []


def test_edges_that_do_not_ascend_and_unknown_points_are_refused_in_words(desk):
    desk.take(0, 0)
    at = desk.boundary(0, 0).at
    with pytest.raises(LedgerError, match="empty or reversed"):
        desk.ledger.sums("p", (at, at + MINUTE, at + MINUTE))
    with pytest.raises(LedgerError, match="no point nowhere"):
        desk.ledger.sums("nowhere", (at, at + MINUTE))
