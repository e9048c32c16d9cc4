"""Subscribers get every change, may be told twice, and nothing is pruned that one of them lacks."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from meter_batch_engine.errors import LedgerError

IMPORT = "1-0:1.8.0"
QUARTER = timedelta(minutes=15)


def drain(desk, name, mirror, limit=10):
    """Takes all changes into a mirror, acknowledging each part."""
    while (changes := desk.ledger.changes(name, limit=limit)).revision > desk.ledger.subscribers()[name]:
        for one in changes.intervals:
            if "withdrawn" in one.flags:
                mirror.pop((one.point, one.start), None)
            else:
                mirror[one.point, one.start] = one.energies[IMPORT]
        desk.ledger.acknowledge(name, changes.revision)


def test_a_mirror_that_follows_acknowledged_revisions_is_the_final_layer(desk):
    desk.ledger.subscribe("archive")
    mirror = {}
    for at in (0, 1, 2, 9, 10):
        desk.take(at, at)
        desk.take(at, 2 * at, "q")
        drain(desk, "archive", mirror)
    desk.ledger.edit("p", desk.boundary(4, 0).at, {IMPORT: Decimal(7)}, author="Li", reason="why")
    desk.ledger.take(desk.boundary(at, Decimal(at) - Decimal("0.5"), source="memory") for at in (4, 5))
    drain(desk, "archive", mirror)
    desk.take(12, 12)
    before = desk.ledger.changes("archive")
    desk.reopen()
    assert desk.ledger.changes("archive") == before
    drain(desk, "archive", mirror)
    found = desk.ledger.intervals(["p", "q"], desk.boundary(0, 0).at, desk.boundary(20, 0).at)
    assert mirror == {(one.point, one.start): one.energies[IMPORT] for one in found}
    assert desk.ledger.changes("archive").intervals == []


def test_acknowledgements_only_go_forward_and_not_beyond_what_is(desk):
    desk.ledger.subscribe("a")
    desk.take(0, 0)
    desk.take(1, 1)
    desk.ledger.acknowledge("a", 2)
    for revision in (1, 3):
        with pytest.raises(LedgerError, match="cannot acknowledge"):
            desk.ledger.acknowledge("a", revision)
    with pytest.raises(LedgerError, match="no subscriber b"):
        desk.ledger.changes("b")
    desk.ledger.subscribe("a")
    assert desk.ledger.subscribers() == {"a": 2}


def test_nothing_is_pruned_that_a_subscriber_lacks_and_what_is_left_still_adds_up(desk):
    desk.ledger.take(desk.boundary(at, at) for at in range(96 * 3))
    cut = desk.boundary(96 * 2, 0).at
    assert desk.ledger.prune(cut) == 0
    desk.ledger.subscribe("slow")
    desk.ledger.subscribe("quick", since_revision=desk.ledger.revision)
    assert desk.ledger.prune(cut) == 0
    desk.ledger.acknowledge("slow", desk.ledger.changes("slow").revision)
    desk.ledger.take([desk.boundary(96 * 3 + 8, 96 * 3 + 8)])
    assert desk.ledger.prune(cut) == 96 * 2
    assert desk.ledger.changes("quick").intervals[0].start == desk.boundary(96 * 3 - 1, 0).at
    assert desk.ledger.verify().ok, desk.ledger.verify().named
    assert min(desk.energies()) == 96 * 2
    assert desk.ledger.prune(cut) == 0
    told = desk.ledger.take([desk.boundary(5, 5, source="memory")])
    assert told.refused == 1 and told.intervals == 0
    desk.reopen()
    assert desk.ledger.take([desk.boundary(5, 5, source="memory")]).refused == 1
    assert desk.ledger.verify().ok


def test_pruned_piece_by_piece_it_ends_as_in_one_go_and_what_nobody_lacks_yet_goes_first(desk):
    desk.ledger.take(desk.boundary(at, at) for at in range(96 * 3))
    desk.ledger.subscribe("archive", since_revision=desk.ledger.revision)
    desk.ledger.edit("p", desk.boundary(96 * 2 - 1, 0).at, {IMPORT: Decimal(7)}, author="Li", reason="why")
    cut, most = desk.boundary(96 * 2, 0).at, timedelta(hours=20)
    pieces = []
    while gone := desk.ledger.prune(cut, most=most):
        pieces.append(gone)
    assert pieces == [80, 80], "the last piece holds a correction that the archive does not have"
    desk.ledger.acknowledge("archive", desk.ledger.revision)
    assert desk.ledger.prune(cut, most=most) == 32 + 1
    assert desk.ledger.prune(cut, most=most) == 0
    assert min(desk.energies()) == 96 * 2
    assert desk.ledger.verify().ok, desk.ledger.verify().named


def test_a_silent_point_is_counted_on_from_its_last_record_though_that_was_pruned_around(desk):
    desk.take(0, 100)
    desk.take(1, 101)
    for at in range(96 * 2):
        desk.take(at, at, "q") if at % 24 == 0 else None
    desk.ledger.subscribe("a", since_revision=desk.ledger.revision)
    desk.ledger.prune(desk.boundary(96, 0).at)
    desk.take(96 * 2, 149)
    assert sum(desk.energies().values()) < 48
    assert desk.ledger.verify().ok, desk.ledger.verify().named
    desk.take(96 * 2 + 1, 150)
    assert desk.energies()[96 * 2] == 1


def test_a_revision_larger_than_a_subscribers_hand_comes_in_parts_that_are_acknowledged_one_by_one(desk):
    desk.ledger.subscribe("archive")
    desk.ledger.take(desk.boundary(at, at) for at in range(100))
    desk.take(100, 100)
    mirror, parts = {}, 0
    while True:
        changes = desk.ledger.changes("archive", limit=30)
        assert len(changes.intervals) <= 30
        assert desk.ledger.changes("archive", limit=30) == changes, "asked again it says the same"
        mirror |= {one.start: one.energies[IMPORT] for one in changes.intervals}
        desk.ledger.acknowledge("archive", changes.revision, changes.cursor)
        parts += 1
        if parts == 2:
            desk.reopen()
            # What was given already changes before the rest is fetched: it comes once more.
            desk.ledger.edit("p", desk.boundary(2, 0).at, {IMPORT: Decimal(7)}, author="Li", reason="why")
        if not changes.more:
            break
    assert parts == 5
    found = desk.ledger.intervals(["p"], desk.boundary(0, 0).at, desk.boundary(200, 0).at)
    assert mirror == {one.start: one.energies[IMPORT] for one in found}
    assert desk.ledger.changes("archive").intervals == []


def test_nothing_is_pruned_of_a_revision_that_a_subscriber_has_in_part(desk):
    desk.ledger.subscribe("archive")
    desk.ledger.take(desk.boundary(at, at) for at in range(96 * 3))
    changes = desk.ledger.changes("archive", limit=200)
    assert changes.cursor and changes.more
    desk.ledger.acknowledge("archive", changes.revision, changes.cursor)
    assert desk.ledger.prune(desk.boundary(96, 0).at) == 0
    with pytest.raises(LedgerError, match="cannot acknowledge"):
        desk.ledger.acknowledge("archive", changes.revision)


def test_beyond_its_age_the_ledger_forgets_whole_days_and_counts_what_somebody_lacked(desk):
    desk.ledger.subscribe("archive")
    desk.ledger.take(desk.boundary(at, at) for at in range(96 * 4 + 1))
    assert desk.ledger.bound(timedelta(days=10)) is None
    changes = desk.ledger.changes("archive")
    desk.ledger.acknowledge("archive", changes.revision)
    dropped = desk.ledger.bound(timedelta(days=2))
    assert (dropped.before, dropped.intervals, dropped.lost) == (desk.boundary(96 * 2, 0).at, 96 * 2, 0)
    assert desk.ledger.health.dropped_intervals == 0
    desk.ledger.unsubscribe("archive")
    dropped = desk.ledger.bound(timedelta(days=1))
    assert (dropped.intervals, dropped.lost) == (96, 96)
    assert desk.ledger.bound(timedelta(days=1)) is None
    assert desk.reopen().health.dropped_intervals == 96
    assert min(desk.energies()) == 96 * 3 and desk.ledger.verify().ok, desk.ledger.verify().named
    desk.take(96 * 4 + 1, 96 * 4 + 2)
    assert desk.energies()[96 * 4] == 2 and desk.ledger.verify().ok


def test_beyond_its_size_the_oldest_days_go_first_and_the_room_is_used_again(desk):
    desk.ledger.take(desk.boundary(at, at) for at in range(96 * 12))
    size, used = desk.reopen().health.size_bytes, desk.ledger._store.used_bytes
    dropped = desk.ledger.bound(max_bytes=used // 2)
    assert 96 * 4 < dropped.intervals < 96 * 11 and dropped.lost == dropped.intervals
    assert desk.ledger._store.used_bytes <= used // 2
    desk.ledger.take(desk.boundary(at, at) for at in range(96 * 12, 96 * 16))
    assert desk.reopen().health.size_bytes <= 1.2 * size
    assert desk.ledger.verify().ok, desk.ledger.verify().named
