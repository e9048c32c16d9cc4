"""What the ledger's exactness costs: CPU a row over a bare batched insert of the very same rows.

A thousand points, a boundary each quarter of an hour: the ledger takes the registers, closes the intervals, checks and
commits them. The bare insert is given the finished rows of the same boundaries: same columns, indexes, pragmas and
commits, no thought. Rounds of both alternate; the figure is the median of their ratios.

Beside it: what a record of a meter's memory costs, a hundred days of one point beside a reading of today, in calls as
large as answers of meters are and as one, newest first and oldest first.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from statistics import median

from meter_batch_engine.ledger import Boundary, Ledger, Observed
from meter_batch_engine.ledger.store import INSERT_INTERVAL, INSERT_RAW, INTERVAL, RAW, Store

from .figure import Figure

POINTS = 1000
ROUNDS, FULL_ROUNDS = 7, 40
BOUNDARIES = 24
DAYS = 100
BULK_US = 25.0
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
REGISTERS = ("1-0:1.8.0", "1-0:2.8.0", "1-0:3.8.0", "1-0:4.8.0")


def run(*, full: bool) -> list[Figure]:
    """Longer with --full, so that the files grow to what half a month makes them."""
    ratios, ours, bare = [], [], []
    with tempfile.TemporaryDirectory(prefix="meter-batch-ledger-") as name:
        ledger = Ledger(Path(name) / "ledger.db", now=lambda: BEGINNING)
        store = Store(Path(name) / "bare.db")
        ledger.take(_registers(0))
        ledger.take(_registers(1))
        _copy(ledger, store, 0)
        for round_ in range(FULL_ROUNDS if full else ROUNDS):
            first = 2 + round_ * BOUNDARIES
            given = [_registers(first + one) for one in range(BOUNDARIES)]
            revision = ledger.revision
            began = time.process_time()
            for one in given:
                ledger.take(one)
            spent = time.process_time() - began
            ours.append(spent)
            bare.append(_copy(ledger, store, revision))
            ratios.append(spent / bare[-1])
        ledger.close()
        store.close()
    rows = POINTS * BOUNDARIES
    memory = [
        Figure(
            "ledger-cpu",
            f"CPU a record of memory, {'newest' if newest else 'oldest'} first, {call} a call",
            _memory(call, newest=newest),
            "µs",
            "lower",
            BULK_US,
            f"{DAYS} days of a point, 4 registers",
        )
        for call in (96, 4800)
        for newest in (True, False)
    ]
    note = f"{POINTS} points × 4 registers, a commit each boundary"
    return [
        Figure("ledger-cpu", "CPU a row / bare insert", median(ratios), "", "lower", 2.0, note),
        Figure("ledger-cpu", "CPU a row", median(ours) / rows * 1e6, "µs", "lower", None, "registers and interval"),
        Figure("ledger-cpu", "CPU a row, bare insert", median(bare) / rows * 1e6, "µs", "lower", None, "same columns"),
        *memory,
    ]


def _memory(call: int, *, newest: bool) -> float:
    """Microseconds a record."""
    chance = Random(call)
    counts = [10**7] * len(REGISTERS)
    records = []
    for number in range(DAYS * 96 + 2):
        registers = {obis: Decimal(one).scaleb(-2) for obis, one in zip(REGISTERS, counts, strict=True)}
        records.append(Boundary("p", BEGINNING + number * QUARTER, registers, 0.0, "memory", "m"))
        counts = [one + chance.randrange(200) for one in counts]
    *records, last, now = records
    calls = [records[at : at + call] for at in range(0, len(records), call)]
    with (
        tempfile.TemporaryDirectory(prefix="meter-batch-ledger-") as name,
        Ledger(Path(name) / "ledger.db", now=lambda: BEGINNING) as ledger,
    ):
        ledger.take([replace(last, source="poll")])
        ledger.take([replace(now, source="poll")])
        began = time.process_time()
        for one in reversed(calls) if newest else calls:
            ledger.take(one)
        return (time.process_time() - began) / len(records) * 1e6


def _registers(number: int) -> list[Boundary]:
    at = BEGINNING + number * QUARTER
    return [
        Boundary(
            f"p{point}",
            at,
            {
                obis: Decimal(10**7 + number * (point % 97) * (place + 1)).scaleb(-2)
                for place, obis in enumerate(REGISTERS)
            },
            1.5,
            "poll",
            "m",
            observed=Observed(12.5, 229.5, 230.25, 231.0, 0.95),
        )
        for point in range(POINTS)
    ]


def _copy(ledger: Ledger, store: Store, revision: int) -> float:
    """Inserts into the bare file what the ledger wrote since a revision, a commit each; returns the CPU that took."""
    db: sqlite3.Connection = ledger._store.db
    batches = [
        (
            db.execute(f"SELECT {RAW} FROM raw WHERE bucket >= 0 AND revision = ?", (one,)).fetchall(),
            db.execute(f"SELECT {INTERVAL} FROM interval WHERE revision = ?", (one,)).fetchall(),
        )
        for one in range(revision + 1, ledger.revision + 1)
    ]
    began = time.process_time()
    for raws, intervals in batches:
        store.db.execute("BEGIN IMMEDIATE")
        store.db.executemany(INSERT_RAW, raws)
        store.db.executemany(INSERT_INTERVAL, intervals)
        store.db.execute("COMMIT")
    return time.process_time() - began
