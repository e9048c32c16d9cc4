"""New registers → rows of one revision: the short way of a live boundary, the long way of everything else."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from decimal import Decimal

from ..model.interval import GapReason
from ..model.obis import Obis
from .book import Book, load, neighbours, note_ends, note_first, note_restarts
from .closer import (
    EDITED,
    ESTIMATED,
    KNOWN_FLAGS,
    US,
    WITHDRAWN,
    Count,
    RatesOf,
    Record,
    Row,
    at_exponent,
    close,
    cut,
    fits,
    scaled,
)
from .gaps import Window, cut_gaps, has_open_gap, update_gaps
from .head import Head, follow, head_of
from .record import EPOCH, SECOND, Boundary, Restart
from .rows import Names, Raw, interval_row, newest, raw_row, records_from, row_from, seen_of
from .run import LEAST_RUN, insert_run
from .shape import DAY_S, Columns, Shape, classes, windows
from .store import FOREVER, Store

LATE_S = 60.0
"""A register read later than this after its boundary gives way to one that was read nearer to it."""
OLDEST = 1_577_836_800
"""Before 2020 there was no ledger: a clock that says so was never set."""
WRONG_CLOCK_RECORDS = 8
"""So many records may a clock have put into the future before they are taken back; more are believed."""


@dataclass(slots=True)
class Batch:
    """What one revision writes."""

    revision: int
    raws: list[Raw] = field(default_factory=list)
    intervals: list[Raw] = field(default_factory=list)
    edited: list[Raw] = field(default_factory=list)
    """Corrections of people that had to be cut: rows of the revision after this one."""
    changed: bool = False
    """True where something beside rows was written."""
    unused: int = 0
    """Records kept as evidence only, because they do not fit."""
    refused: int = 0
    """Records that were not kept: from before what was pruned."""


class Writer:
    """Makes rows. Its memory is right only as long as every batch is committed; else `forget`."""

    def __init__(self, store: Store, names: Names, length: int, zone: tzinfo) -> None:
        self.store, self.names, self.length, self._class_of = store, names, length, classes(zone)
        self.reasons: dict[str, GapReason] = {}
        """Why records of a point are missing, where somebody said so."""
        self.missed: dict[int, int] = {}
        """How long after its newest record the first boundary of a point was missed."""
        self.forget()

    def forget(self) -> None:
        """Reads all anew from the file."""
        self.names.forget()
        self.heads: dict[str, Head] = {}
        self._books: dict[str, Book] = {}
        execute = self.store.db.execute
        self.open_gaps: set[int] = {row[0] for row in execute("SELECT point FROM gap WHERE end IS NULL")}
        facts = dict(execute("SELECT name, value FROM fact"))
        self.pruned_until: int = facts.get("pruned_until", 0)
        self.dropped: int = facts.get("dropped", 0)
        """Intervals that were forgotten before everybody had them."""

    def book(self, point: str) -> Book:
        """What is remembered of a point."""
        if (book := self._books.get(point)) is None:
            book = self._books[point] = load(self.store, self.names.point(point))
        return book

    def newest_boundary(self, point: str) -> int | None:
        """The boundary up to which a point is closed."""
        if (head := self.heads.get(point)) is not None:
            return head.boundary
        reach = self.store.reach()
        found = neighbours(self.store, self.names, self.book(point), reach[1], (), later=False) if reach else []
        return found[-1].boundary if found else None

    def record_at(self, point: str, at: int) -> Mapping[Obis, Count] | None:
        """The registers of the newest record at or before a second."""
        found = neighbours(self.store, self.names, self.book(point), at + 1, (), later=False)
        return found[-1].values if found else None

    def unheaded(self, point: str) -> None:
        """The short way is closed until the point was read anew."""
        self.heads.pop(point, None)

    def add(self, boundaries: Sequence[Boundary], restarts: Iterable[Restart], batch: Batch) -> None:
        """Everything of one revision; records of a point in any order, at most one a boundary."""
        again: dict[str, list[Restart]] = {}
        for restart in restarts:
            again.setdefault(restart.point, []).append(restart)
        long: dict[str, list[Boundary]] = {point: [] for point in again}
        short = boundaries
        if again or len({one.point for one in boundaries}) < len(boundaries):
            # One step of a point depends on the one before, which is not in the file yet.
            times = Counter(one.point for one in boundaries)
            short = [one for one in boundaries if times[one.point] == 1 and one.point not in again]
            for one in boundaries:
                if times[one.point] > 1 or one.point in again:
                    long.setdefault(one.point, []).append(one)
        for one in follow(
            short,
            self.heads,
            self.names.points,
            self.length,
            batch.revision,
            batch.raws.append,
            batch.intervals.append,
        ):
            long.setdefault(one.point, []).append(one)
        for point, all_ in long.items():
            self._long(point, all_, again.get(point, ()), batch)

    def _long(self, point: str, boundaries: list[Boundary], restarts: Iterable[Restart], batch: Batch) -> None:
        number = self.names.point(point)
        book = self.book(point)
        ends = None
        for one in boundaries:
            if one.ends is not ends:
                ends = one.ends
                note_ends(self.store, book, ends.items())
        boundaries = sorted((one for one in boundaries if one.registers), key=lambda one: one.at)
        least = max(self.pruned_until, OLDEST)
        late = bisect_left(boundaries, least, key=lambda one: (one.at - EPOCH) // SECOND)
        batch.refused += late
        boundaries = boundaries[late:]
        if len(boundaries) >= LEAST_RUN and not restarts and insert_run(self, book, boundaries, batch):
            return
        head = self.heads.pop(point, None)
        book.span = None
        voided = len(book.void)
        restarted = note_restarts(self.store, book, restarts, batch.revision)
        batch.changed = batch.changed or bool(restarted)
        new = [self.record(one, book) for one in boundaries]
        edges = [one.boundary for one in new] + [at // US for at in restarted]
        if not edges:
            return
        lo, hi = min(edges), max(edges)
        wanted = {obis for one in new for obis in one.values}
        rows = self.store.raws(number, lo, hi)
        known = {one.boundary: one for one in records_from(self.names, rows, book.void, book.ends)}
        before = neighbours(self.store, self.names, book, lo, wanted, later=False)
        after = neighbours(self.store, self.names, book, hi, wanted, later=True)
        wanted |= {obis for one in (*known.values(), *after) for obis in one.values}
        if before and wanted - {obis for one in before for obis in one.values}:
            before = neighbours(self.store, self.names, book, lo, wanted, later=False)
        all_ = {one.boundary: one for one in (*before, *known.values(), *after)}
        had = {(row[2], row[8], row[9]) for row in rows}
        fresh: set[int] = set()
        order = sorted(all_)
        for record in new:
            self._accept(record, all_, order, had, book, batch, fresh)
        for at_us in restarted:
            fresh.update(sorted(one.boundary for one in all_.values() if one.read_us >= at_us)[:1])
        if fresh:
            self._close(point, book, all_, fresh, batch)
        if head is not None and hi < head.boundary and not restarted and len(book.void) == voided:
            self.heads[point] = head
        else:
            self._lift(point, book, all_)

    def record(self, one: Boundary, book: Book) -> Record:
        """A boundary in the meter's own digits."""
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
        row = raw_row(self.names, book.number, record, batch.revision, 1)
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
            row = raw_row(self.names, book.number, record, batch.revision, used)
        batch.raws.append(row)
        if used == 1 and same is not None:
            record = replace(same, values={**record.values, **same.values})
        if used:
            if at not in all_:
                insort(order, at)
            all_[at] = record
            fresh.add(at)
            note_first(self.store, book, at, live=record.source == "poll")

    def _clock_was_wrong(self, record: Record, all_: dict[int, Record], book: Book, batch: Batch) -> bool:
        """Takes back what a clock put into the future, where `record`, which came later, shows no less than they."""
        rows = self.store.raws(book.number, record.boundary, FOREVER)
        future = [
            one for one in records_from(self.names, rows, book.void, book.ends) if one.boundary >= record.boundary
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
            self.store.db.execute("INSERT INTO void VALUES (?, ?, ?)", (book.number, one.boundary, batch.revision))
            book.void[one.boundary] = batch.revision
            batch.changed = True
            all_.pop(one.boundary, None)
        cut_gaps(self.store, book.number, record.boundary, batch.revision)
        for raw in newest(self.store.intervals(book.number, record.boundary, future[-1].boundary), final=False):
            if not raw[8] & WITHDRAWN:
                row = row_from(self.names, raw)
                row.flags = WITHDRAWN
                batch.intervals.append(interval_row(self.names, book.number, row, raw[7], batch.revision))
        return True

    def _close(self, point: str, book: Book, all_: dict[int, Record], fresh: set[int], batch: Batch) -> None:
        records = [all_[at] for at in sorted(all_)]
        lo, hi = records[0].boundary, records[-1].boundary
        stored_all = self.store.intervals(book.number, lo, hi)
        stored = newest(stored_all, final=False)
        gone = {raw[2] for raw in batch.intervals if raw[1] == book.number}
        existing = [row_from(self.names, raw) for raw in stored if not raw[8] & WITHDRAWN and raw[2] not in gone]
        rows = close(records, fresh, book.restarts, existing, self.length, self.rates(book))
        rows = [row for row in rows if row.start >= self.pruned_until]
        if gone:
            # What a wrong clock had closed, and is closed anew by what came since.
            again = {(book.number, row.start) for row in rows}
            batch.intervals = [raw for raw in batch.intervals if (raw[1], raw[2]) not in again]
        batch.intervals += [
            interval_row(self.names, book.number, row, book.factor(row.start), batch.revision) for row in rows
        ]
        batch.edited += self._cut_edited(book, stored_all, {row.start: row.length for row in rows}, batch.revision)
        self.note_gaps(book, all_[max(fresh)], existing, rows, (lo, hi), min(fresh), batch)

    def note_gaps(
        self,
        book: Book,
        newest_: Record,
        existing: Iterable[Row],
        rows: Iterable[Row],
        window: tuple[int, int],
        first: int,
        batch: Batch,
    ) -> None:
        """Gaps follow what of `window` is estimated: of what was there and of what records from `first` on made new."""
        estimated = {row.start: row.length for row in existing if row.flags & ESTIMATED}
        step, coarse = self.missed.get(book.number), None
        for row in rows:
            if step is not None and row.length > step and row.end == newest_.boundary:
                coarse = (row.start, row.end)
            estimated.pop(row.start, None)
            if row.flags & ESTIMATED:
                estimated[row.start] = row.length
        point = self.names.ids[book.number]
        reason = self.reasons.get(point, GapReason.HOST)
        if newest_.source == "poll":
            self.reasons.pop(point, None)
        seen = Window(*window, estimated, (first, newest_.boundary), coarse)
        if update_gaps(self.store, book, newest_.boundary, seen, reason, batch.revision):
            batch.changed = True
        if book.number in self.open_gaps and not has_open_gap(self.store, book.number):
            self.open_gaps.discard(book.number)
            self.missed.pop(book.number, None)

    def _cut_edited(self, book: Book, stored: Sequence[Raw], lengths: Mapping[int, int], revision: int) -> list[Raw]:
        """People's corrections of intervals that are cut are cut with them."""
        edited = {raw[2]: raw for raw in stored if raw[8] & EDITED}
        found: list[Raw] = []
        for start, raw in edited.items():
            if raw[8] & WITHDRAWN or lengths.get(start, raw[4]) == raw[4]:
                continue
            row = row_from(self.names, raw)
            row.flags = EDITED
            found += [
                interval_row(self.names, book.number, piece, raw[7], revision + 1)
                for piece in cut([row], sorted(lengths), flag=EDITED)
            ]
        return found

    def rates(self, book: Book) -> RatesOf:
        """How fast the registers of a point usually count, from what is wholly known; read when asked."""
        shapes: dict[tuple[int, int], Shape] = {}

        def rates_of(obis: Obis, starts: Sequence[int]) -> list[int]:
            key = (starts[0], starts[-1])
            if key not in shapes:
                shapes[key] = self._shape(book, windows(starts))
            return shapes[key].rates(obis, starts)

        return rates_of

    def _shape(self, book: Book, where: Sequence[tuple[int, int]]) -> Shape:
        known: dict[int, tuple[int, int, Columns, str]] = {}
        for lo, hi in where:
            for start, length, layout, counts, flags in self.store.history(book.number, lo, hi):
                if flags & KNOWN_FLAGS and not flags & (WITHDRAWN | EDITED):
                    known[start] = (start, length, self.names.layouts[layout], counts)
                elif not flags & EDITED:
                    known.pop(start, None)
        least_s = min(DAY_S, max(hi - lo for lo, hi in where))
        return Shape(known.values(), self._class_of, least_s)

    def _lift(self, point: str, book: Book, all_: dict[int, Record]) -> None:
        """Opens the short way from the newest record, if it is one for it."""
        if not all_:
            return
        record = all_[max(all_)]
        if self._store_has_later(book, record.boundary):
            return
        # The first record that is read from the registers goes the long way: gaps end there.
        if book.live is None or book.number in self.open_gaps or book.restarted_us > record.read_us:
            return
        if (head := head_of(self.names, book, record)) is not None:
            self.heads[point] = head

    def _store_has_later(self, book: Book, boundary: int) -> bool:
        return bool(neighbours(self.store, self.names, book, boundary, (), later=True))


def factors_from(multipliers: Iterable[tuple[int, Decimal]]) -> list[tuple[int, str]]:
    """As a book has them: each only where it changes something."""
    found: list[tuple[int, str]] = []
    for since, factor in sorted(multipliers):
        text = format(factor.normalize(), "f")
        if text != (found[-1][1] if found else "1"):
            found.append((since, text))
    return found
