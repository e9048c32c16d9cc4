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
