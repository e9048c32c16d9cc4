"""New registers → rows of one revision: the short way of a live boundary, the long way of everything else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from decimal import Decimal

from ..model.interval import GapReason
from ..model.obis import Obis
from ..model.quantity import QUANTITIES, Kind
from .book import Book, load, neighbours, note_ends, note_restarts
from .closer import (
    ESTIMATED,
    KNOWN_FLAGS,
    MEASURED,
    MEMORY,
    MOST_PER_HOUR,
    US,
    WITHDRAWN,
    Record,
    at_exponent,
    close,
    fits,
    scaled,
)
from .gaps import update_gaps
from .record import EPOCH, NOTHING, SECOND, Boundary, Restart
from .rows import Names, Raw, interval_row, newest, raw_row, records_from, row_from, seen_of, seen_text
from .shape import HISTORY_S, Shape
from .store import BUCKET_S, FOREVER, Store, checksum

LATE_S = 60.0
"""A register read later than this after its boundary gives way to one that was read nearer to it."""
OLDEST = 1_577_836_800
"""Before 2020 there was no ledger: a clock that says so was never set."""
WRONG_CLOCK_RECORDS = 8
"""So many records may a clock have put into the future before they are taken back; more are believed."""


@dataclass(slots=True)
class Head:
    """The newest record of a point, ready for the next one."""

    boundary: int
    read_us: int
    meter: str
    meter_number: int
    layout: int
    columns: list[tuple[Obis, int, int, int]]
    """OBIS, digits behind the point, count, and the greatest growth that is believed within an interval."""
    factor: str
    factor_until: int
    skew_s: float
    memory: bool


@dataclass(slots=True)
class Batch:
    """What one revision writes."""

    revision: int
    raws: list[Raw] = field(default_factory=list)
    intervals: list[Raw] = field(default_factory=list)
    changed: bool = False
    """True where something beside rows was written."""
    unused: int = 0
    """Records kept as evidence only, because they do not fit."""
    refused: int = 0
    """Records that were not kept: from before what was pruned."""


class Writer:
    """Makes rows. Its memory is right only as long as every batch is committed; else `forget`."""

    def __init__(self, store: Store, names: Names, length: int, zone: tzinfo) -> None:
        self._store, self._names, self._length, self._zone = store, names, length, zone
        self.reasons: dict[str, GapReason] = {}
        """Why records of a point are missing, where somebody said so."""
        self.forget()

    def forget(self) -> None:
        """Reads all anew from the file."""
        self._names.forget()
        self._heads: dict[str, Head] = {}
        self._books: dict[str, Book] = {}
        execute = self._store.db.execute
        self.open_gaps: set[int] = {row[0] for row in execute("SELECT point FROM gap WHERE end IS NULL")}
        row = execute("SELECT value FROM fact WHERE name = 'pruned_until'").fetchone()
        self.pruned_until: int = row[0] if row else 0

    def book(self, point: str) -> Book:
        """What is remembered of a point."""
        if (book := self._books.get(point)) is None:
            book = self._books[point] = load(self._store, self._names.point(point))
        return book

    def newest_boundary(self, point: str) -> int | None:
        """The boundary up to which a point is closed."""
        if (head := self._heads.get(point)) is not None:
            return head.boundary
        reach = self._store.reach()
        found = neighbours(self._store, self._names, self.book(point), reach[1], (), later=False) if reach else []
        return found[-1].boundary if found else None

    def unheaded(self, point: str) -> None:
        """The short way is closed until the point was read anew."""
        self._heads.pop(point, None)

    def add(self, boundaries: Sequence[Boundary], restarts: Iterable[Restart], batch: Batch) -> None:
        """Everything of one revision; records of a point in any order, at most one a boundary."""
        again: dict[str, list[Restart]] = {}
        for one in restarts:
            again.setdefault(one.point, []).append(one)
        long: dict[str, list[Boundary]] = {point: [] for point in again}
        several = Counter(one.point for one in boundaries)
        for boundary in boundaries:
            point = boundary.point
            if several[point] > 1 or point in again or not self._short(boundary, batch):
                long.setdefault(point, []).append(boundary)
        for point, all_ in long.items():
            self._long(point, all_, again.get(point, ()), batch)

    def _short(self, new: Boundary, batch: Batch) -> bool:
        """The next boundary of a point of which all is as usual: no lookup, no decimal arithmetic. False: it is not."""
        head = self._heads.get(new.point)
        if head is None:
            return False
        at = (new.at - EPOCH) // SECOND
        start = head.boundary
        registers = new.registers
        columns = head.columns
        if at - start != self._length or new.meter != head.meter or len(registers) != len(columns):
            return False
        if start >= head.factor_until:
            return False
        after, counts, readings = [], [], []
        for obis, digits, before, most in columns:
            value = registers.get(obis)
            if value is None:
                return False
            shifted = value.scaleb(digits)
            count = int(shifted)
            grown = count - before
            if count != shifted or not 0 <= grown <= most:
                return False
            after.append((obis, digits, count, most))
            counts.append(str(grown))
            readings.append(str(count))
        skew_s = float(new.skew_s)
        read_us = at * US + round(skew_s * US)
        seen = seen_of(new.observed) if new.observed is not NOTHING else (None, None, None, None, None)
        number, revision, source = self._names.points[new.point], batch.revision, new.source
        raw = (
            at // BUCKET_S, number, at, revision, 1, read_us, head.meter_number, source, head.layout,
            " ".join(readings), skew_s, seen_text(seen),
        )  # fmt: skip
        batch.raws.append((*raw, checksum(raw)))
        memory = source == "memory"
        worst = skew_s if abs(skew_s) > abs(head.skew_s) else head.skew_s
        row = (
            start // BUCKET_S, number, start, revision, self._length, head.layout, " ".join(counts), head.factor,
            MEMORY if memory or head.memory else MEASURED, None, "memory" if memory or head.memory else source, worst,
            *seen,
        )  # fmt: skip
        batch.intervals.append((*row, checksum(row)))
        head.boundary, head.read_us, head.columns, head.skew_s, head.memory = at, read_us, after, skew_s, memory
        return True

    def _long(self, point: str, boundaries: list[Boundary], restarts: Iterable[Restart], batch: Batch) -> None:
        number = self._names.point(point)
        book = self.book(point)
        self._heads.pop(point, None)
        for one in boundaries:
            note_ends(self._store, book, one.ends.items())
        restarted = note_restarts(self._store, book, restarts, batch.revision)
        batch.changed = batch.changed or bool(restarted)
        new = sorted((self._record(one, book) for one in boundaries if one.registers), key=lambda one: one.boundary)
        late = [one for one in new if one.boundary < max(self.pruned_until, OLDEST)]
        batch.refused += len(late)
        new = new[len(late) :]
        edges = [one.boundary for one in new] + [at // US for at in restarted]
        if not edges:
            return
        lo, hi = min(edges), max(edges)
        wanted = {obis for one in new for obis in one.values}
        rows = self._store.raws(number, lo, hi)
        known = {one.boundary: one for one in records_from(self._names, rows, book.void, book.ends)}
        before = neighbours(self._store, self._names, book, lo, wanted, later=False)
        after = neighbours(self._store, self._names, book, hi, wanted, later=True)
        wanted |= {obis for one in (*known.values(), *after) for obis in one.values}
        if before and wanted - {obis for one in before for obis in one.values}:
            before = neighbours(self._store, self._names, book, lo, wanted, later=False)
        all_ = {one.boundary: one for one in (*before, *known.values(), *after)}
        had = {(row[2], row[8], row[9]) for row in rows}
        fresh: set[int] = set()
        for record in new:
            self._accept(record, all_, had, book, batch, fresh)
        for at_us in restarted:
            fresh |= {min((one.boundary for one in all_.values() if one.read_us >= at_us), default=-1)}
        if fresh:
            self._close(point, book, all_, fresh, batch)
        self._lift(point, book, all_)

    def _record(self, one: Boundary, book: Book) -> Record:
        at = (one.at - EPOCH) // SECOND
        values = {obis: scaled(value) for obis, value in one.registers.items()}
        skew_s = float(one.skew_s)
        return Record(
            at, at * US + round(skew_s * US), one.meter, one.source, values, book.ends, seen_of(one.observed), skew_s
        )

    def _accept(
        self,
        record: Record,
        all_: dict[int, Record],
        had: set[tuple[int, int, str]],
        book: Book,
        batch: Batch,
        fresh: set[int],
    ) -> None:
        """Decides what a record is good for and keeps it: once decided it stays so, whatever comes later."""
        at = record.boundary
        row = raw_row(self._names, book.number, record, batch.revision, 1)
        if (key := (at, row[8], row[9])) in had:
            return
        had.add(key)
        same = all_.get(at)
        below = [one for one in all_ if one < at]
        above = [one for one in all_ if one > at]
        before = all_[max(below)] if below else None
        after = all_[min(above)] if above else None
        used = 1
        if not fits(record, before, after, book.restarts):
            if record.source == "poll" and self._clock_was_wrong(record, all_, book, batch):
                same = None
            else:
                used = 0
        elif same is not None:
            if same.skew_s > LATE_S and abs(record.skew_s) < same.skew_s and same.values.keys() <= record.values.keys():
                used = 2
            elif record.values.keys() <= same.values.keys():
                used = 0
        batch.unused += not used
        if used != 1:
            row = raw_row(self._names, book.number, record, batch.revision, used)
        batch.raws.append(row)
        if used == 1 and same is not None:
            record = replace(same, values={**record.values, **same.values})
        if used:
            all_[at] = record
            fresh.add(at)

    def _clock_was_wrong(self, record: Record, all_: dict[int, Record], book: Book, batch: Batch) -> bool:
        """Takes back what a clock put into the future, where `record`, which came later, shows no less than they."""
        rows = self._store.raws(book.number, record.boundary, FOREVER)
        future = [
            one for one in records_from(self._names, rows, book.void, book.ends) if one.boundary >= record.boundary
        ]
        if not future or len(future) > WRONG_CLOCK_RECORDS or any(one.source != "poll" for one in future):
            return False
        for obis, value in future[-1].values.items():
            if obis not in record.values:
                return False
            exponent = min(value[1], record.values[obis][1])
            if at_exponent(record.values[obis], exponent) < at_exponent(value, exponent):
                return False
        for one in future:
            self._store.db.execute("INSERT INTO void VALUES (?, ?, ?)", (book.number, one.boundary, batch.revision))
            book.void[one.boundary] = batch.revision
            all_.pop(one.boundary, None)
        for raw in newest(self._store.intervals(book.number, record.boundary, future[-1].boundary), final=False):
            if not raw[8] & WITHDRAWN:
                row = row_from(self._names, raw)
                row.flags = WITHDRAWN
                batch.intervals.append(interval_row(self._names, book.number, row, raw[7], batch.revision))
        return True

    def _close(self, point: str, book: Book, all_: dict[int, Record], fresh: set[int], batch: Batch) -> None:
        records = [all_[at] for at in sorted(all_)]
        lo, hi = records[0].boundary, records[-1].boundary
        stored = newest(self._store.intervals(book.number, lo, hi), final=False)
        gone = {raw[2] for raw in batch.intervals if raw[1] == book.number}
        existing = [row_from(self._names, raw) for raw in stored if not raw[8] & WITHDRAWN and raw[2] not in gone]
        rows = close(records, fresh, book.restarts, existing, self._length, lambda obis: self._shape(book, obis, lo))
        rows = [row for row in rows if row.start >= self.pruned_until]
        if gone:
            # What a wrong clock had closed, and is closed anew by what came since.
            again = {(book.number, row.start) for row in rows}
            batch.intervals = [raw for raw in batch.intervals if (raw[1], raw[2]) not in again]
        batch.intervals += [
            interval_row(self._names, book.number, row, book.factor(row.start), batch.revision) for row in rows
        ]
        estimated = {row.start: row.length for row in existing if row.flags & ESTIMATED}
        for row in rows:
            estimated.pop(row.start, None)
        now = {row.start: row.length for row in rows if row.flags & ESTIMATED}
        reason = self.reasons.pop(point, GapReason.HOST)
        if update_gaps(self._store, book.number, max(fresh), now, estimated, (lo, hi), reason, batch.revision):
            batch.changed = True
        self.open_gaps.discard(book.number)

    def _shape(self, book: Book, obis: Obis, until: int) -> Shape:
        """The typical shape of a register before an instant, from what is wholly known."""
        history = []
        for raw in newest(self._store.intervals(book.number, until - HISTORY_S, until), final=False):
            if not raw[8] & KNOWN_FLAGS or raw[8] & WITHDRAWN:
                continue
            for (name, exponent), count in zip(self._names.layouts[raw[5]], raw[6].split(), strict=True):
                if name == obis:
                    history.append((raw[2], raw[4], (int(count), exponent)))
        exponent = min((one[2][1] for one in history), default=0)
        return Shape(((start, length, at_exponent(count, exponent)) for start, length, count in history), self._zone)

    def _lift(self, point: str, book: Book, all_: dict[int, Record]) -> None:
        """Opens the short way from the newest record, if it is one for it."""
        if not all_:
            return
        record = all_[max(all_)]
        if self._store_has_later(book, record.boundary):
            return
        if book.number in self.open_gaps or book.restarted_us > record.read_us:
            return
        columns = []
        for obis, (count, exponent) in sorted(record.values.items()):
            if exponent > 0 or QUANTITIES[obis].kind is Kind.BALANCE:
                return
            columns.append((obis, -exponent, count, MOST_PER_HOUR * 10**-exponent))
        until = min((since for since, _ in book.factors if since > record.boundary), default=1 << 60)
        self._heads[point] = Head(
            record.boundary,
            record.read_us,
            record.meter,
            self._names.meter(record.meter),
            self._names.layout(tuple((obis, -digits) for obis, digits, _, _ in columns)),
            columns,
            book.factor(record.boundary),
            until,
            record.skew_s,
            record.source == "memory",
        )

    def _store_has_later(self, book: Book, boundary: int) -> bool:
        return bool(neighbours(self._store, self._names, book, boundary, (), later=True))


def factors_from(multipliers: Iterable[tuple[int, Decimal]]) -> list[tuple[int, str]]:
    """As a book has them: each only where it changes something."""
    found: list[tuple[int, str]] = []
    for since, factor in sorted(multipliers):
        text = format(factor.normalize(), "f")
        if text != (found[-1][1] if found else "1"):
            found.append((since, text))
    return found
