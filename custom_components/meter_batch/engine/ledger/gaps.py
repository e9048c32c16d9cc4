"""The gap ledger: what is missing, since when, why, and whether the meter's memory can still give it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from ..model.interval import Gap, GapReason
from .book import Book
from .record import instant
from .rows import Names
from .store import Store


def runs(intervals: Mapping[int, int]) -> list[tuple[int, int]]:
    """Starts with lengths → the stretches they cover without a hole."""
    found: list[tuple[int, int]] = []
    for start in sorted(intervals):
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], start + intervals[start])
        else:
            found.append((start, start + intervals[start]))
    return found


COARSE = "coarse"
"""No gap: boundaries were missed, but within a line of the grid, so that all is known. Memory may know it finer."""


@dataclass(frozen=True, slots=True)
class Window:
    """What a change knows of a stretch of a point: which of its intervals are estimated, all of them."""

    lo: int
    hi: int
    estimated: Mapping[int, int]
    """Starts and lengths."""
    fresh: tuple[int, int]
    """The first and last boundary of the records that are new."""
    coarse: tuple[int, int] | None = None
    """A known interval in which boundaries were missed."""


def update_gaps(
    store: Store, book: Book, newest_boundary: int, window: Window, reason: GapReason, revision: int
) -> bool:
    """After intervals of a point changed: a gap is where they are estimated, neither more nor less.

    Ends an open gap, notes new ones, cuts and resolves those that are filled. What lies before the first boundary at
    which the meter was read has the reason BEFORE.
    """
    changed, point, live = False, book.number, book.live
    execute = store.db.execute
    gaps = execute(
        "SELECT number, start, end, reason FROM gap WHERE point = ? AND resolved IS NULL", (point,)
    ).fetchall()
    estimated = runs(window.estimated)
    covered: list[tuple[int, int]] = []
    for number, start, ended, why in gaps:
        if why == COARSE:
            if window.fresh[0] < ended and window.fresh[1] > start:
                execute("UPDATE gap SET resolved = ? WHERE number = ?", (revision, number))
                changed = True
            continue
        end = ended
        if end is None and newest_boundary > start:
            # Before its first record a point has no intervals.
            end, start = newest_boundary, max(start, min(newest_boundary, book.first or 0))
            changed = True
        if end is None or end <= window.lo or start >= window.hi:
            if end is not None and ended is None:
                gone = revision if start >= end else None
                execute("UPDATE gap SET start = ?, end = ?, resolved = ? WHERE number = ?", (start, end, gone, number))
            continue
        left = [(max(lo, start), min(hi, end)) for lo, hi in estimated if lo < end and hi > start]
        covered += left
        left = _joined([(start, min(end, window.lo)), *left, (max(start, window.hi), end)])
        if left == [(start, ended)]:
            continue
        changed = True
        if left:
            execute("UPDATE gap SET start = ?, end = ? WHERE number = ?", (*left[0], number))
        elif ended is None and window.coarse is not None:
            execute("UPDATE gap SET start = ?, end = ?, reason = ? WHERE number = ?", (*window.coarse, COARSE, number))
        else:
            execute("UPDATE gap SET end = ?, resolved = ? WHERE number = ?", (end, revision, number))
        for lo, hi in left[1:]:
            _note(store, point, lo, hi, why, revision)
    for lo, hi in _without(estimated, sorted(covered)):
        changed = True
        first = hi if live is None else min(max(live, lo), hi)
        if lo < first:
            _note(store, point, lo, first, GapReason.BEFORE.value, revision)
        if first < hi:
            _note(store, point, first, hi, reason.value, revision)
    return changed


def cut_gaps(store: Store, point: int, at: int, revision: int) -> None:
    """From an instant on there are no gaps: what was there is taken back."""
    execute = store.db.execute
    execute(
        "UPDATE gap SET resolved = ? WHERE point = ? AND resolved IS NULL AND start >= ? AND end IS NOT NULL",
        (revision, point, at),
    )
    execute("UPDATE gap SET end = ?2 WHERE point = ?1 AND resolved IS NULL AND end > ?2", (point, at))


def _joined(stretches: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for lo, hi in stretches:
        if lo < hi and found and found[-1][1] == lo:
            found[-1] = (found[-1][0], hi)
        elif lo < hi:
            found.append((lo, hi))
    return found


def _without(stretches: Iterable[tuple[int, int]], others: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """What of stretches lies in none of the others."""
    for lo, hi in stretches:
        at = lo
        for start, end in others:
            if end > at and start < hi:
                if start > at:
                    yield at, start
                at = end
        if at < hi:
            yield at, hi


def _note(store: Store, point: int, start: int, end: int, reason: str, revision: int) -> None:
    store.db.execute(
        "INSERT INTO gap (point, start, end, reason, revision) VALUES (?, ?, ?, ?, ?)",
        (point, start, end, reason, revision),
    )


def open_gap(store: Store, point: int, start: int, reason: GapReason, revision: int) -> None:
    """Notes that registers of a point are missing from a boundary on."""
    store.db.execute(
        "INSERT INTO gap (point, start, end, reason, revision) VALUES (?, ?, NULL, ?, ?)",
        (point, start, reason.value, revision),
    )


def has_open_gap(store: Store, point: int) -> bool:
    """Whether registers of a point are missing still."""
    row = store.db.execute("SELECT 1 FROM gap WHERE point = ? AND resolved IS NULL AND end IS NULL", (point,))
    return row.fetchone() is not None


def unresolved(
    store: Store, names: Names, points: Iterable[int] | None, now: int, length: int, depths: Mapping[str, timedelta]
) -> list[Gap]:
    """All gaps that are not filled, oldest first."""
    found = []
    wanted = None if points is None else set(points)
    for point, start, end, reason in store.db.execute(
        "SELECT point, start, end, reason FROM gap WHERE resolved IS NULL ORDER BY start, point"
    ):
        if reason == COARSE or (wanted is not None and point not in wanted):
            continue
        missing = max(0, now - start) // length if end is None else -((start - end) // length)
        depth = depths.get(names.ids[point])
        until = None if depth is None else instant(start) + depth
        last = None if end is None else instant(end)
        found.append(Gap(names.ids[point], instant(start), last, GapReason(reason), missing, until))
    return found


def holes_of(store: Store, point: int, since: int, first: int) -> list[tuple[int, int]]:
    """Stretches from an instant on of which nothing is known but, at most, the sum, or boundaries were missed."""
    gaps = store.db.execute(
        "SELECT start, end FROM gap WHERE point = ? AND resolved IS NULL AND end > ? ORDER BY start", (point, since)
    ).fetchall()
    return _joined([(since, first), *((max(since, start), end) for start, end in gaps)])
