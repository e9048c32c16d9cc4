"""Runs: records that follow each other where there was none, as a meter's memory gives them.

Only where it begins and ends does a run meet what is there; between, one record follows the other on the short way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .book import Book, neighbours, note_first
from .closer import (
    EDITED,
    ESTIMATED,
    HOUR_S,
    LONG_S,
    SUSPECT,
    UNSEEN,
    WITHDRAWN,
    RatesOf,
    Record,
    Row,
    at_exponent,
    close,
    cut,
    difference,
    distribute,
    filled_from,
    fits,
)
from .head import follow, head_of
from .record import EPOCH, SECOND, Boundary
from .rows import Raw, interval_row, newest, raw_row, records_from, row_from

if TYPE_CHECKING:
    from .writer import Batch, Writer

NEAR_S = 86400
"""So far from a run estimates change at least."""
LEAST_RUN = 3
"""From so many records on it is worth while to look whether they are a run."""


@dataclass(slots=True)
class Run:
    """A run and the records around it, without any between."""

    boundaries: Sequence[Boundary]
    before: Record | None
    first: Record
    last: Record
    after: Record | None


def insert_run(writer: Writer, book: Book, boundaries: Sequence[Boundary], batch: Batch) -> bool:
    """Adds the rows of a run, ascending; False, and nothing done, where it is none."""
    run = _run(writer, book, boundaries)
    if run is None:
        return False
    head = head_of(writer.names, book, run.first)
    if head is None or not fits(run.first, run.before, run.after, book.restarts):
        return False
    if not fits(run.last, run.before, run.after, book.restarts):
        return False
    boundaries, point, revision = run.boundaries, boundaries[0].point, batch.revision
    raws, intervals = [raw_row(writer.names, book.number, run.first, revision, 1)], list[Raw]()
    if follow(
        boundaries[1:],
        {point: head},
        {point: book.number},
        writer.length,
        revision,
        raws.append,
        intervals.append,
    ):
        return False
    ends = _near(writer, book, run) or _whole(writer, book, run)
    if ends is None or not _kept(run, ends.existing, {raw[2] for raw in raws}):
        return False
    batch.raws += raws
    batch.intervals += intervals
    batch.intervals += [
        interval_row(writer.names, book.number, row, book.factor(row.start), revision) for row in ends.rows
    ]
    note_first(writer.store, book, run.first.boundary, live=False)
    if (live := next((one for one in boundaries if one.source == "poll"), None)) is not None:
        note_first(writer.store, book, (live.at - EPOCH) // SECOND, live=True)
    left = [row for row in ends.existing if not run.first.boundary <= row.start < run.last.boundary]
    writer.note_gaps(book, run.last, left, ends.rows, (ends.lo, ends.hi), run.first.boundary, batch)
    _remember(book, run)
    if run.after is None:
        writer.heads.pop(point, None)
        if book.live is not None and book.number not in writer.open_gaps:
            writer.heads[point] = head
    return True


def _run(writer: Writer, book: Book, boundaries: Sequence[Boundary]) -> Run | None:
    boundaries = _without_known_ends(writer, book, boundaries)
    if len(boundaries) < LEAST_RUN - 1:
        return None
    first, last = writer.record(boundaries[0], book), writer.record(boundaries[-1], book)
    found = _around(writer, book, first, last)
    if found is None:
        return None
    before, after = found
    if any(one is not None and one.values.keys() != first.values.keys() for one in (before, last, after)):
        return None
    if any(first.read_us < one.at_us <= last.read_us for all_ in book.restarts.values() for one in all_):
        return None
    return Run(boundaries, before, first, last, after)


def _without_known_ends(writer: Writer, book: Book, boundaries: Sequence[Boundary]) -> Sequence[Boundary]:
    """Answers of meters overlap: the first or last record is there already."""
    ends = {(one.at - EPOCH) // SECOND: one for one in (boundaries[0], boundaries[-1])}
    if book.span is None:
        rows = [row for at in ends for row in writer.store.raws(book.number, at, at)]
        known = records_from(writer.names, rows, book.void, book.ends)
    else:
        known = [one for one in book.span if one is not None]
    for record in known:
        one = ends.get(record.boundary)
        if one is not None and one.meter == record.meter and writer.record(one, book).values == record.values:
            boundaries = boundaries[1:] if one is boundaries[0] else boundaries[:-1]
    return boundaries


def _around(writer: Writer, book: Book, first: Record, last: Record) -> tuple[Record | None, Record | None] | None:
    """The records before and after where there is none between; None where there are some."""
    if book.span is not None:
        before, after = book.span
        if (before is None or before.boundary < first.boundary) and last.boundary < after.boundary:
            return before, after
    if writer.store.raws(book.number, first.boundary, last.boundary):
        return None
    wanted = first.values.keys()
    earlier = neighbours(writer.store, writer.names, book, first.boundary, wanted, later=False)
    later = neighbours(writer.store, writer.names, book, last.boundary, wanted, later=True)
    if len(earlier) > 1 or len(later) > 1:
        return None
    return earlier[0] if earlier else None, later[0] if later else None


def _remember(book: Book, run: Run) -> None:
    """Where the next run will probably be: in the longer part of what is still without records."""
    if run.after is None:
        book.span = None
    elif run.before is None:
        book.span = (None, run.first)
    elif run.first.boundary - run.before.boundary > run.after.boundary - run.last.boundary:
        book.span = (run.before, run.first)
    else:
        book.span = (run.last, run.after)


@dataclass(slots=True)
class Ends:
    """What becomes of the intervals around a run: those from `lo` to `hi` as they were, and what is new there."""

    lo: int
    hi: int
    existing: list[Row]
    rows: list[Row]


def _rows(writer: Writer, book: Book, lo: int, hi: int) -> list[Row] | None:
    """The machine's intervals; None where people set one."""
    stored = writer.store.intervals(book.number, lo, hi)
    if any(raw[8] & EDITED for raw in stored):
        return None
    return [row_from(writer.names, raw) for raw in newest(stored, final=False) if not raw[8] & WITHDRAWN]


def _kept(run: Run, existing: Sequence[Row], boundaries: set[int]) -> bool:
    """Whether no interval that was there has an edge or a register that the run has not."""
    for row in existing:
        if not row.counts.keys() <= run.first.values.keys():
            return False
        for edge in (row.start, row.end):
            if run.first.boundary < edge < run.last.boundary and edge not in boundaries:
                return False
    return True


def _whole(writer: Writer, book: Book, run: Run) -> Ends | None:
    """All from the record before to the record after is closed anew."""
    lo = run.first.boundary if run.before is None else run.before.boundary
    hi = run.last.boundary if run.after is None else run.after.boundary
    existing = _rows(writer, book, lo, hi)
    if existing is None:
        return None
    rates = writer.rates(book)
    rows: list[Row] = []
    for left, right in ((run.before, run.first), (run.last, run.after)):
        if left is not None and right is not None:
            rows += _side(writer, book, left, right, existing, rates)
    return Ends(lo, hi, existing, rows)


def _side(
    writer: Writer, book: Book, left: Record, right: Record, existing: Sequence[Row], rates: RatesOf
) -> list[Row]:
    """One side of a run: as `close`, of intervals that lie between the two records or are cut by one of them."""
    here = [row for row in existing if left.boundary <= row.start and row.end <= right.boundary]
    rows = close([left, right], (left.boundary, right.boundary), book.restarts, here, writer.length, rates)
    seen = {row.end: row.seen for row in existing}
    for row in rows:
        if row.seen == UNSEEN:
            row.seen = seen.get(row.end, UNSEEN)
    return rows


def _near(writer: Writer, book: Book, run: Run) -> Ends | None:
    """In a long silence only the estimates near the run change; those farther on keep theirs.

    A year that is filled day by day would else be estimated anew each time. What the run shows to be more or less than
    estimated goes to the days next to it, on the side where more is still unknown, in proportion to what was estimated
    there; to so many of them that none is doubled or halved. None where that cannot be.
    """
    before, after = run.before, run.after
    if before is None or after is None or filled_from(before, after) != before.boundary:
        return None
    later = after.boundary - run.last.boundary >= run.first.boundary - before.boundary
    edge, far = (run.last, after) if later else (run.first, before)
    if abs(far.boundary - edge.boundary) <= LONG_S or not _adds_up(book, before, edge, after):
        return None
    reach = NEAR_S
    while reach < abs(far.boundary - edge.boundary):
        lo, hi = before.boundary, (edge.boundary + reach) // HOUR_S * HOUR_S
        if not later:
            lo, hi = -((reach - edge.boundary) // HOUR_S) * HOUR_S, after.boundary
        existing = _rows(writer, book, lo, hi)
        if existing is None or not _covered(existing, lo, hi, run.first):
            return None
        near = (before, edge) if later else (edge, after)
        rows = _shifted(book, near, edge.boundary, existing, later=later)
        if rows is not None:
            rates = writer.rates(book)
            other = (before, run.first) if later else (run.last, after)
            return Ends(lo, hi, existing, [*rows, *_side(writer, book, *other, existing, rates)])
        reach *= 4
    return None


def _adds_up(book: Book, before: Record, edge: Record, after: Record) -> bool:
    """Whether the register counted before and after a record what it counted over both, beyond doubt."""
    for obis in edge.values:
        again = book.restarts.get(obis, ())
        parts = [difference(obis, *pair, again) for pair in ((before, edge), (edge, after), (before, after))]
        lowest = min(exponent for _, exponent, _ in parts)
        one, two, both = (at_exponent((count, exponent), lowest) for count, exponent, _ in parts)
        if any(rule is not None for *_, rule in parts) or one + two != both:
            return False
    return True


def _covered(rows: Sequence[Row], lo: int, hi: int, like: Record) -> bool:
    """Whether rows follow each other from `lo` to `hi` and have all registers."""
    at = lo
    for row in rows:
        if row.start != at or row.counts.keys() != like.values.keys():
            return False
        at = row.end
    return at == hi


def _shifted(
    book: Book, near: tuple[Record, Record], edge: int, existing: Sequence[Row], *, later: bool
) -> list[Row] | None:
    """The estimates beyond the edge of a run so that all of `existing` keeps its sum; None if they change too much.

    `near` are the records between which the sum is known now.
    """
    beyond = [row for row in existing if (row.end > edge if later else row.start < edge)]
    pieces = [row for row in cut(beyond, [edge]) if (row.start >= edge if later else row.start < edge)]
    for row in pieces:
        row.flags = ESTIMATED | row.flags & SUSPECT
    rows = [Row(row.start, row.length, {}, row.flags, row.rule, row.source, row.skew_s, row.seen) for row in pieces]
    for obis in near[0].values:
        counted, exponent, _ = difference(obis, *near, book.restarts.get(obis, ()))
        lowest = min(exponent, *(row.counts[obis][1] for row in existing))
        known = at_exponent((counted, exponent), lowest)
        weights = [at_exponent(row.counts[obis], lowest) for row in pieces]
        was = sum(weights)
        now = sum(at_exponent(row.counts[obis], lowest) for row in existing) - known
        if was < 0 or now < 0 or now > 2 * was or was > 2 * now:
            return None
        for row, part in zip(rows, distribute(now, weights), strict=True):
            row.counts[obis] = (part, lowest)
    return rows
