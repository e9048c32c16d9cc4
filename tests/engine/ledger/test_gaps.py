"""What is missing, since when, why, and whether the meter can still give it."""

from __future__ import annotations

import random
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meter_batch_engine.ledger import Boundary, Ledger
from meter_batch_engine.model.interval import GapReason

IMPORT = "1-0:1.8.0"
QUARTER = timedelta(minutes=15)


def start(desk):
    return desk.boundary(0, 0).at


def test_a_gap_is_open_from_the_last_register_until_the_next_one(desk):
    desk.take(0, "10")
    desk.take(1, "11")
    desk.now = start(desk) + 2 * QUARTER
    desk.ledger.miss(["p"], desk.now, GapReason.LINE)
    desk.now += 2 * QUARTER
    desk.ledger.miss(["p"], desk.now, GapReason.METER)
    (gap,) = desk.ledger.gaps()
    assert (gap.start, gap.end, gap.reason, gap.missing) == (start(desk) + QUARTER, None, GapReason.LINE, 3)
    desk.take(5, "15")
    (gap,) = desk.ledger.gaps()
    assert (gap.start, gap.end, gap.missing) == (start(desk) + QUARTER, start(desk) + 5 * QUARTER, 4)


def test_memory_shrinks_a_gap_and_resolves_it(desk):
    desk.take(0, "10")
    desk.take(8, "18")
    memory = {"p": timedelta(days=60)}
    (gap,) = desk.ledger.gaps(memory=memory)
    assert gap.reason is GapReason.HOST and gap.missing == 8
    assert gap.recoverable_until == start(desk) + timedelta(days=60)
    assert gap.recoverable(desk.now) and not gap.recoverable(desk.now + timedelta(days=61))
    desk.ledger.take([desk.boundary(at, 10 + at, source="memory") for at in (1, 2, 3)])
    (gap,) = desk.ledger.gaps(memory=memory)
    assert (gap.start, gap.missing) == (start(desk) + 3 * QUARTER, 5)
    assert gap.recoverable_until == start(desk) + 3 * QUARTER + timedelta(days=60)
    desk.ledger.take([desk.boundary(at, 10 + at, source="memory") for at in (7, 6, 5, 4)])
    assert desk.ledger.gaps() == []
    assert all(flags == {"meter_memory"} for flags in desk.flags().values())


def test_a_gap_outlives_a_restart_and_a_snapshot_that_came_late_was_none(desk):
    desk.take(0, "10")
    desk.now = start(desk) + QUARTER
    desk.ledger.miss(["p"], desk.now, GapReason.METER)
    desk.reopen()
    assert [gap.reason for gap in desk.ledger.gaps()] == [GapReason.METER]
    desk.take(1, "11", skew_s=200.0)
    assert desk.ledger.gaps() == []
    assert desk.flags() == {0: {"measured"}}


def test_a_point_that_never_answered_has_a_gap_too_and_a_closed_boundary_has_none(desk):
    desk.now = start(desk) + 4 * QUARTER
    desk.ledger.miss(["never"], desk.now, GapReason.REFUSED)
    (gap,) = desk.ledger.gaps(["never"])
    assert gap.missing == 1 and gap.reason is GapReason.REFUSED
    desk.take(4, "10")
    before = desk.ledger.revision
    desk.ledger.miss(["p"], desk.now, GapReason.METER)
    assert desk.ledger.revision == before
    assert [gap.point for gap in desk.ledger.gaps()] == ["never"]


def holes(desk, since=-1000, point="p"):
    found = desk.ledger.holes(point, start(desk) + since * QUARTER)
    return [((one.start - start(desk)) // QUARTER, (one.end - start(desk)) // QUARTER) for one in found]


def test_holes_are_what_memory_may_fill_and_vanish_as_it_does(desk):
    desk.take(0, "10")
    desk.take(1, "11")
    assert holes(desk, -96) == [(-96, 0)]
    desk.take(5, "15")
    assert holes(desk, -96) == [(-96, 0), (1, 5)]
    assert holes(desk, 3) == [(3, 5)]
    assert holes(desk, 7) == []
    desk.take(3, "13", source="memory")
    assert holes(desk, -96) == [(-96, 0), (1, 5)]
    desk.take(2, "12", source="memory")
    assert holes(desk, -96) == [(-96, 0), (3, 5)]
    desk.take(4, "14", source="memory")
    desk.ledger.take(desk.boundary(at, "9", source="memory") for at in range(-96, 0))
    assert holes(desk, -96) == [] and desk.ledger.gaps() == []
    assert holes(desk.reopen() and desk, -97) == [(-97, -96)]


def test_what_is_from_before_the_first_reading_is_no_alarm(desk):
    for at in (40, 41, 50):
        desk.take(at, at)
    desk.take(-30 * 96, 0, source="memory")
    desk.take(-20 * 96, 10, source="memory")
    found = [(gap.reason, gap.start, gap.end) for gap in desk.ledger.gaps()]
    zero = start(desk)
    assert found == [
        (GapReason.BEFORE, zero - timedelta(days=30), zero + 40 * QUARTER),
        (GapReason.HOST, zero + 41 * QUARTER, zero + 50 * QUARTER),
    ]
    assert holes(desk, -40 * 96) == [(-40 * 96, 40), (41, 50)]
    desk.take(39, 39, source="memory")
    assert holes(desk, -40 * 96) == [(-40 * 96, 39), (41, 50)]
    assert [gap.reason for gap in desk.ledger.gaps()] == [GapReason.BEFORE, GapReason.HOST]


def test_memory_first_and_the_first_reading_later_makes_what_is_between_a_time_before(desk):
    desk.ledger.take(desk.boundary(at, at, source="memory") for at in range(5))
    desk.take(9, 9)
    assert [(gap.reason, gap.missing) for gap in desk.ledger.gaps()] == [(GapReason.BEFORE, 5)]
    desk.take(12, 12)
    assert [(gap.reason, gap.missing) for gap in desk.ledger.gaps()] == [(GapReason.BEFORE, 5), (GapReason.HOST, 3)]


def test_a_reading_before_the_first_record_of_a_point_that_did_not_answer_is_missed_by_nobody(desk):
    desk.now = start(desk) + QUARTER
    desk.ledger.miss(["p"], desk.now, GapReason.METER)
    assert [gap.missing for gap in desk.ledger.gaps()] == [1]
    desk.take(2, "10")
    assert desk.ledger.gaps() == []


def test_memory_of_earlier_days_does_not_end_a_gap_that_lasts(desk):
    for at in (0, 1, 2, 9, 10):
        desk.take(at, at)
    desk.now = start(desk) + 11 * QUARTER
    desk.ledger.miss(["p"], desk.now, GapReason.LINE)
    for records in ([3], [4, 5, 6, 7], range(-50, 0)):
        desk.ledger.take(desk.boundary(at, max(at, 0), source="memory") for at in records)
        desk.ledger.miss(["p"], desk.now, GapReason.METER)
    assert [(one.reason, one.end is None) for one in desk.ledger.gaps() if one.end is None] == [(GapReason.LINE, True)]
    desk.take(12, 12)
    desk.take(13, 13)
    assert [one for one in desk.ledger.gaps() if one.end is None] == []
    desk.ledger.take(desk.boundary(at, at, source="memory") for at in (8, 11))
    assert desk.ledger.gaps() == [] and holes(desk, -50) == []


def test_minutes_missed_within_a_quarter_are_no_gap_but_memory_may_know_them(desk):
    minute = timedelta(minutes=1)

    def record(number: int, source: str = "poll"):
        made = desk.boundary(0, number, source=source)
        return replace(made, at=start(desk) + number * minute)

    for number in (0, 1, 2):
        desk.ledger.take([record(number)])
    desk.now = start(desk) + 3 * minute
    desk.ledger.miss(["p"], desk.now, GapReason.LINE)
    assert [gap.end for gap in desk.ledger.gaps()] == [None]
    desk.ledger.take([record(15)])
    assert desk.ledger.gaps() == []
    (hole,) = desk.ledger.holes("p", start(desk))
    assert (hole.start, hole.end) == (start(desk) + 2 * minute, start(desk) + 15 * minute)
    desk.ledger.take([record(16)])
    assert desk.ledger.holes("p", start(desk)) == [hole]
    desk.reopen().take(record(number, "memory") for number in range(3, 15))
    assert desk.ledger.holes("p", start(desk)) == [] and desk.ledger.gaps() == []
    found = desk.ledger.intervals(["p"], start(desk), start(desk) + QUARTER * 2)
    assert [one.length_s for one in found] == [60] * 16 and all(one.known_s for one in found)
    # Late, but there: nothing was missed.
    desk.now = start(desk) + 17 * minute
    desk.ledger.miss(["p"], desk.now, GapReason.METER)
    desk.ledger.take([record(17)])
    assert desk.ledger.holes("p", start(desk)) == []


@settings(deadline=None, max_examples=6, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32), step=st.sampled_from([1, 15]))
def test_whatever_is_missed_and_remembered_gaps_are_what_is_estimated_and_memory_fills_all_of_it(seed, step):
    chance, register = random.Random(seed), [10**5]
    for _ in range(3000):
        register.append(register[-1] + chance.randrange(5))
    begin, minute = datetime(2026, 3, 28, tzinfo=UTC), timedelta(minutes=1)
    seen: set[int] = set()
    missing, at = False, chance.randrange(50) * step
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "l.db", now=lambda: begin)

        def take(minutes, source: str) -> None:
            nonlocal missing
            if minutes:
                ledger.take(
                    Boundary("p", begin + one * minute, {IMPORT: Decimal(register[one]).scaleb(-2)}, 0.0, source, "m")
                    for one in minutes
                )
                missing = missing and max(minutes) <= max(seen)
                seen.update(minutes)

        def remember(holes) -> None:
            for one in holes:
                take(range((one.start - begin) // minute, (one.end - begin) // minute + 1), "memory")

        for _ in range(60):
            at += step if chance.random() < 0.95 else step * chance.randrange(1, 100)
            match chance.randrange(10):
                case _ if at >= 2900:
                    break
                case 0 | 1 | 2 | 3 | 4 | 5:
                    take([at], "poll")
                case 6 | 7 if seen:
                    ledger.miss(["p"], begin + at * minute, chance.choice([GapReason.LINE, GapReason.METER]))
                    missing = True
                case 8:
                    low = chance.randrange(at)
                    take(range(low, min(at, low + chance.randrange(1, 300)), chance.choice([1, 15])), "memory")
                case 9 if seen:
                    remember(ledger.holes("p", begin)[:2])
            if not seen:
                continue
            found = ledger.intervals(["p"], begin, begin + timedelta(days=9))
            assert sum(one.energies[IMPORT] for one in found) == Decimal(
                register[max(seen)] - register[min(seen)]
            ).scaleb(-2)
            estimated = sum(one.length_s for one in found if "estimated" in one.flags)
            closed = [gap for gap in ledger.gaps() if gap.end is not None]
            assert sum((gap.end - gap.start).total_seconds() for gap in closed) == estimated
            assert len(ledger.gaps()) - len(closed) == missing
        if seen:
            for _ in range(2):
                remember(ledger.holes("p", begin))
            assert ledger.holes("p", begin) == [] and all(gap.end is None for gap in ledger.gaps())
            assert ledger.verify().ok, ledger.verify().named
        ledger.close()
