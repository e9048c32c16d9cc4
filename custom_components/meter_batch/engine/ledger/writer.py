"""New registers → rows of one revision: the short way of a live boundary, the long way of everything else."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from decimal import Decimal
from functools import cache

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
from .record import EPOCH, SECOND, Boundary, Restart
from .rows import Names, Raw, columns_of, interval_row, newest, raw_row, records_from, row_from, seen_of
from .shape import HISTORY_S, Shape
from .store import BUCKET_S, FOREVER, Store, checksum_interval, checksum_raw

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
    meter: str
    meter_number: int
    layout: int
    columns: list[tuple[Obis, Decimal]]
    """OBIS and counts a unit."""
    counts: list[int]
    most: int
    """The greatest growth of any that is believed within an interval."""
    form: str
    """How counts become text."""
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
        for boundary in self._short(boundaries, again, batch):
            long.setdefault(boundary.point, []).append(boundary)
        for point, all_ in long.items():
            self._long(point, all_, again.get(point, ()), batch)

    def _short(self, boundaries: Sequence[Boundary], again: Container[str], batch: Batch) -> list[Boundary]:
        """Writes the next boundaries of points of which all is as usual; returns those for the long way.

        No lookup in the file, and of decimal arithmetic one product a register: this is what every quarter of an hour
        costs a thousand points.
        """
        rest: list[Boundary] = []
        heads, numbers, length, revision = self._heads, self._names.points, self._length, batch.revision
        add_raw, add_interval = batch.raws.append, batch.intervals.append
        several = {one.point for one in boundaries}
        alone = len(several) == len(boundaries)
        when, at = None, 0
        for new in boundaries:
            point, registers = new.point, new.registers
            head = heads.get(point)
            if new.at is not when:
                when = new.at
                at = (when - EPOCH) // SECOND
            if (
                head is None
                or not alone
                or point in again
                or at - head.boundary != length
                or new.meter != head.meter
                or len(registers) != len(head.counts)
                or head.boundary >= head.factor_until
            ):
                rest.append(new)
                continue
            shifted = [registers[obis] * scale for obis, scale in head.columns if obis in registers]
            counts = list(map(int, shifted))
            grown = [one - before for one, before in zip(counts, head.counts, strict=False)]
            # A finer digit than before, another register, a fall, or more than can be.
            if len(counts) != len(registers) or counts != shifted or min(grown) < 0 or max(grown) > head.most:
                rest.append(new)
                continue
            start, number, skew_s, source = head.boundary, numbers[point], new.skew_s, new.source
            read_us = at * US + round(skew_s * US)
            raw = (
                at // BUCKET_S, number, at, revision, 1, read_us, head.meter_number, source, head.layout,
                head.form % tuple(counts), skew_s,
            )  # fmt: skip
            add_raw((*raw, checksum_raw(*raw)))
            memory = head.memory or source == "memory"
            seen = new.observed
            interval = (
                start // BUCKET_S, number, start, revision, length, head.layout, head.form % tuple(grown), head.factor,
                MEMORY if memory else MEASURED, None, "memory" if memory else source,
                skew_s if abs(skew_s) > abs(head.skew_s) else head.skew_s,
                seen.demand_max_kw, seen.voltage_min_v, seen.voltage_mean_v, seen.voltage_max_v, seen.power_factor,
            )  # fmt: skip
            add_interval((*interval, checksum_interval(*interval)))
            head.boundary, head.counts, head.skew_s, head.memory = at, counts, skew_s, source == "memory"
        return rest

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
        order = sorted(all_)
        for record in new:
            self._accept(record, all_, order, had, book, batch, fresh)
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
        order: list[int],
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
        place = bisect_left(order, at)
        before = all_[order[place - 1]] if place else None
        place += same is not None
        after = all_[order[place]] if place < len(order) else None
        used = 1
        if not fits(record, before, after, book.restarts):
            if record.source == "poll" and self._clock_was_wrong(record, all_, book, batch):
                same = None
                order[:] = sorted(all_)
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
            if at not in all_:
                insort(order, at)
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
        shape = cache(lambda obis: self._shape(book, obis, lo))
        rows = close(records, fresh, book.restarts, existing, self._length, shape)
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
        columns, counts = [], []
        for obis, (count, exponent) in sorted(record.values.items()):
            if exponent > 0 or QUANTITIES[obis].kind is Kind.BALANCE:
                return
            columns.append((obis, Decimal(10**-exponent)))
            counts.append(count)
        until = min((since for since, _ in book.factors if since > record.boundary), default=1 << 60)
        self._heads[point] = Head(
            record.boundary,
            record.meter,
            self._names.meter(record.meter),
            self._names.layout(columns_of(record.values)[0]),
            columns,
            counts,
            MOST_PER_HOUR * min(int(scale) for _, scale in columns),
            " ".join(["%d"] * len(counts)),
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
