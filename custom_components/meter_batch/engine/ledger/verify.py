"""Proof over the whole file: nothing damaged, nothing missing, and what the intervals say is what registers counted."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from ..model.obis import Obis
from .book import load
from .closer import EDITED, MOST_PER_HOUR, WITHDRAWN, Count, Record, at_exponent, difference, filled_from
from .record import instant
from .rows import Names, Raw, newest, records_from, values_from
from .store import INTERVAL, RAW, Store, checksum_interval, checksum_raw

PLAIN = MOST_PER_HOUR
"""Growth that is believed at any number of decimals."""
MOST_NAMED = 100
"""So many failures are named; all are counted."""


@dataclass(slots=True)
class Verdict:
    """What was looked at and what is wrong; `ok` where nothing is."""

    points: int = 0
    records: int = 0
    intervals: int = 0
    stretches: int = 0
    """Register differences that were compared with the sum of their intervals."""
    edited: int = 0
    """Intervals that people set, so that the final layer differs from the registers on purpose."""
    failures: int = 0
    named: list[str] = field(default_factory=list)
    """The first failures, in plain English."""

    @property
    def ok(self) -> bool:
        """Whether the ledger is whole."""
        return self.failures == 0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"ok": self.ok, **asdict(self)}

    def fail(self, what: str) -> None:
        """Counts a failure."""
        self.failures += 1
        if len(self.named) < MOST_NAMED:
            self.named.append(what)


def verify(store: Store, names: Names, pruned_until: int, pruned_revision: int) -> Verdict:
    """Checks every page, row, revision and stretch; changes nothing."""
    verdict = Verdict()
    with store.failures():
        try:
            for (text,) in store.db.execute("PRAGMA integrity_check"):
                if text != "ok":
                    verdict.fail(f"SQLite: {text}")
            _rows(store, names, verdict, pruned_revision)
            for id_, number in sorted(names.points.items()):
                _conservation(store, names, id_, number, pruned_until, verdict)
        except sqlite3.DatabaseError as error:
            verdict.fail(f"the file cannot be read to its end: {error}")
    return verdict


def _rows(store: Store, names: Names, verdict: Verdict, pruned_revision: int) -> None:
    counts: dict[tuple[str, int], int] = defaultdict(int)
    for table, columns, checksum in (("raw", RAW, checksum_raw), ("interval", INTERVAL, checksum_interval)):
        for row in store.db.execute(f"SELECT {columns} FROM {table}"):
            counts[table, row[3]] += 1
            if checksum(*row[:-1]) != row[-1]:
                where = f"{names.ids.get(row[1], row[1])} at {instant(row[2]).isoformat()}"
                verdict.fail(f"{table} of {where}, revision {row[3]}: the checksum is wrong")
    verdict.records = sum(count for (table, _), count in counts.items() if table == "raw")
    verdict.intervals = sum(count for (table, _), count in counts.items() if table == "interval")
    for number, raws, intervals in store.db.execute("SELECT number, raws, intervals FROM revision"):
        if number > pruned_revision and (counts["raw", number], counts["interval", number]) != (raws, intervals):
            verdict.fail(f"revision {number}: it wrote {raws} records and {intervals} intervals, others are here")


def _conservation(store: Store, names: Names, id_: str, number: int, pruned_until: int, verdict: Verdict) -> None:
    verdict.points += 1
    if (reach := store.reach()) is None:
        return
    book = load(store, number)
    records = records_from(names, store.raws(number, *reach), book.void, book.ends)
    if not records:
        return
    all_ = store.intervals(number, records[0].boundary, records[-1].boundary)
    verdict.edited += sum(bool(row[8] & EDITED) for row in newest(all_, final=True))
    counted = _counted(names, newest(all_, final=False))
    for obis in sorted({obis for one in records for obis in one.values}):
        position = 0
        series, again = counted.get(obis, []), book.restarts.get(obis, ())
        for before, after in pairwise([one for one in records if obis in one.values]):
            if before.boundary < pruned_until:
                continue
            if not again and position < len(series) and _plain(before, after, obis, series[position]):
                verdict.stretches += 1
                position += 1
                continue
            total, exponent, _ = difference(obis, before, after, again)
            while position < len(series) and series[position][0] < before.boundary:
                position += 1
            parts: list[Count] = []
            covered = filled_from(before, after)
            while position < len(series) and series[position][0] < after.boundary:
                start, length, count = series[position]
                covered += length if start == covered else 0
                parts.append(count)
                position += 1
            verdict.stretches += 1
            lowest = min([exponent, *(one[1] for one in parts)])
            said = sum(at_exponent(one, lowest) for one in parts)
            if said != at_exponent((total, exponent), lowest) or covered != after.boundary:
                verdict.fail(
                    f"{id_}, {obis}, {instant(before.boundary).isoformat()} to {instant(after.boundary).isoformat()}: "
                    f"the register counted {total}e{exponent}, its intervals say {said}e{lowest}"
                )


def _plain(before: Record, after: Record, obis: Obis, interval: tuple[int, int, Count]) -> bool:
    """Whether a stretch is the usual one: a single interval that says what the register of one meter grew, not much."""
    (low, exponent), (high, other) = before.values[obis], after.values[obis]
    start, length, count = interval
    return (
        start == before.boundary
        and start + length == after.boundary
        and exponent == other == count[1]
        and count[0] == high - low
        and before.meter == after.meter
        and 0 <= high - low <= PLAIN
        and exponent <= 0
    )


def _counted(names: Names, rows: list[Raw]) -> dict[Obis, list[tuple[int, int, Count]]]:
    found: dict[Obis, list[tuple[int, int, Count]]] = defaultdict(list)
    for row in rows:
        if not row[8] & WITHDRAWN:
            for obis, count in values_from(names.layouts[row[5]], row[6]).items():
                found[obis].append((row[2], row[4], count))
    return found
