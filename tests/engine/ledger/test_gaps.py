"""What is missing, since when, why, and whether the meter can still give it."""

from __future__ import annotations

from datetime import timedelta

from meter_batch_engine.model.interval import GapReason

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
