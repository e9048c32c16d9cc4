"""What the ledger remembers of a point beside its rows: restarts, register ends, multipliers, records taken back."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal

from ..model.obis import Obis
from ..model.reading import Flag
from .closer import Again, Count, Record, scaled
from .record import EPOCH, MICROSECOND, Restart
from .rows import Names, records_from
from .store import BUCKET_S, Store

DAY_S = 86400
LOOK_S = (BUCKET_S, 2 * DAY_S, 40 * DAY_S)
"""How far neighbours of a record are looked for, before everywhere."""


@dataclass(slots=True)
class Book:
    """Of one point."""

    number: int
    restarts: dict[Obis, list[Again]] = field(default_factory=dict)
    ends: dict[Obis, Count] = field(default_factory=dict)
    void: dict[int, int] = field(default_factory=dict)
    factors: list[tuple[int, str]] = field(default_factory=list)
    """Since when (seconds), and CT × PT as text."""
    first: int | None = None
    """The boundary of its oldest record."""
    live: int | None = None
    """The boundary of the oldest record that was read from its registers: what is before is the memory's."""
    span: tuple[Record | None, Record] | None = None
    """Two records between which there is none: where a meter's memory is being read, one call after the other."""

    @property
    def restarted_us(self) -> int:
        """When a register began again last."""
        return max((all_[-1].at_us for all_ in self.restarts.values()), default=0)

    def factor(self, start: int) -> str:
        """CT × PT of an interval: the one valid at its start."""
        at = bisect_right(self.factors, start, key=lambda one: one[0])
        return self.factors[at - 1][1] if at else "1"


def load(store: Store, number: int) -> Book:
    """From the file."""
    book = Book(number)
    execute = store.db.execute
    book.first, book.live = execute("SELECT first, live FROM point WHERE number = ?", (number,)).fetchone()
    for obis, at_us, kind, last, first in execute(
        "SELECT obis, at_us, kind, last, first FROM restart WHERE point = ? ORDER BY at_us", (number,)
    ):
        book.restarts.setdefault(obis, []).append(Again(at_us, Flag(kind), _count(last), _count(first)))
    for obis, value in execute("SELECT obis, value FROM register_end WHERE point = ?", (number,)):
        book.ends[obis] = scaled(Decimal(value))
    for boundary, revision in execute("SELECT boundary, max(revision) FROM void WHERE point = ? GROUP BY 1", (number,)):
        book.void[boundary] = revision
    book.factors = execute(
        "SELECT since, factor FROM multiplier WHERE point = ?1 AND revision = "
        "(SELECT max(revision) FROM multiplier WHERE point = ?1) ORDER BY since",
        (number,),
    ).fetchall()
    return book


def note_restarts(store: Store, book: Book, restarts: Iterable[Restart], revision: int) -> list[int]:
    """Keeps those that are new; returns when they were, in microseconds."""
    new = []
    for one in restarts:
        at_us = (one.at - EPOCH) // MICROSECOND
        known = book.restarts.setdefault(one.obis, [])
        if any(again.at_us == at_us for again in known):
            continue
        last, first = (None if value is None else str(value) for value in (one.last, one.first))
        store.db.execute(
            "INSERT INTO restart VALUES (?, ?, ?, ?, ?, ?, ?)",
            (book.number, one.obis, at_us, one.kind.value, last, first, revision),
        )
        known.append(Again(at_us, one.kind, _count(last), _count(first)))
        known.sort(key=lambda again: again.at_us)
        new.append(at_us)
    book.restarts = {obis: known for obis, known in book.restarts.items() if known}
    return new


def note_ends(store: Store, book: Book, ends: Iterable[tuple[Obis, Decimal]]) -> None:
    """Keeps where registers end."""
    for obis, value in ends:
        if book.ends.get(obis) != scaled(value):
            store.db.execute("INSERT OR REPLACE INTO register_end VALUES (?, ?, ?)", (book.number, obis, str(value)))
            book.ends[obis] = scaled(value)


def note_first(store: Store, book: Book, boundary: int, *, live: bool) -> None:
    """Keeps where the records of a point begin."""
    if book.first is None or boundary < book.first:
        book.first = boundary
        store.db.execute("UPDATE point SET first = ? WHERE number = ?", (boundary, book.number))
    if live and (book.live is None or boundary < book.live):
        book.live = boundary
        store.db.execute("UPDATE point SET live = ? WHERE number = ?", (boundary, book.number))


def neighbours(store: Store, names: Names, book: Book, at: int, wanted: Iterable[Obis], *, later: bool) -> list[Record]:
    """The nearest record before (or after) a boundary, and those beyond it that have what it lacks of `wanted`.

    By boundary.
    """
    open_, taken = set(wanted), dict[int, Record]()
    if not later and (book.first is None or at <= book.first):
        return []
    reach = store.reach()
    if reach is None:
        return []
    for distance in (*LOOK_S, None):
        lo, hi = (at + 1, reach[1]) if later else (reach[0], at - 1)
        if distance is not None:
            lo, hi = (lo, min(hi, at + distance)) if later else (max(lo, at - distance), hi)
        if lo > hi:
            break
        rows = store.raws(book.number, lo, hi)
        found = records_from(names, rows, book.void, book.ends)
        for record in found if later else reversed(found):
            if not taken:
                open_ |= record.values.keys()
            if not taken or open_ & record.values.keys():
                taken[record.boundary] = record
                open_ -= record.values.keys()
            if not open_:
                break
        if (taken and not open_) or distance is None:
            break
    return sorted(taken.values(), key=lambda one: one.boundary)


def _count(text: str | None) -> Count | None:
    return None if text is None else scaled(Decimal(text))
