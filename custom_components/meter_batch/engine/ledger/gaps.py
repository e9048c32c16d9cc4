"""The gap ledger: what is missing, since when, why, and whether the meter's memory can still give it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta

from ..model.interval import Gap, GapReason
from .closer import ESTIMATED, WITHDRAWN
from .record import instant
from .rows import Names, newest
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


def update_gaps(
    store: Store,
    point: int,
    newest_boundary: int,
    estimated: Mapping[int, int],
    left: Mapping[int, int],
    window: tuple[int, int],
    reason: GapReason,
    revision: int,
) -> bool:
    """After intervals of a point changed: ends an open gap, notes new ones, resolves those that are filled.

    `estimated` are starts and lengths that this change estimated, `left` those of the window that it did not touch.
    """
    changed = False
    execute = store.db.execute
    gaps = execute("SELECT number, start, end FROM gap WHERE point = ? AND resolved IS NULL", (point,)).fetchall()
    for number, start, end in gaps:
        if end is None and newest_boundary > start:
            execute("UPDATE gap SET end = ? WHERE number = ?", (newest_boundary, number))
            changed = True
    covered = [(start, newest_boundary if end is None else end) for _, start, end in gaps]
    for lo, hi in runs(estimated):
        if not any(start < hi and lo < end for start, end in covered):
            execute(
                "INSERT INTO gap (point, start, end, reason, revision) VALUES (?, ?, ?, ?, ?)",
                (point, lo, hi, reason.value, revision),
            )
            changed = True
    lo, hi = window
    open_ = set(estimated) | set(left)
    for (number, _, _), (start, end) in zip(gaps, covered, strict=True):
        if end <= lo or start >= hi or any(start <= one < end for one in open_):
            continue
        outside = _estimated(store, point, start, min(lo, end)) or _estimated(store, point, max(hi, start), end)
        if not outside:
            execute("UPDATE gap SET resolved = ? WHERE number = ?", (revision, number))
            changed = True
    return changed


def _estimated(store: Store, point: int, lo: int, hi: int) -> dict[int, int]:
    """Starts and lengths of the estimated intervals of a point."""
    if lo >= hi:
        return {}
    rows = newest(store.intervals(point, lo, hi), final=False)
    return {row[2]: row[4] for row in rows if row[8] & ESTIMATED and not row[8] & WITHDRAWN}


def open_gap(store: Store, point: int, start: int, reason: GapReason, revision: int) -> None:
    """Notes that registers of a point are missing from a boundary on."""
    store.db.execute(
        "INSERT INTO gap (point, start, end, reason, revision) VALUES (?, ?, NULL, ?, ?)",
        (point, start, reason.value, revision),
    )


def unresolved(
    store: Store, names: Names, points: Iterable[int] | None, now: int, length: int, depths: Mapping[str, timedelta]
) -> list[Gap]:
    """All gaps that are not filled, oldest first, shrunk to what is still missing."""
    found = []
    wanted = None if points is None else set(points)
    for point, start, end, reason in store.db.execute(
        "SELECT point, start, end, reason FROM gap WHERE resolved IS NULL ORDER BY start, point"
    ).fetchall():
        if wanted is not None and point not in wanted:
            continue
        if end is None:
            missing, first, last = max(0, now - start) // length, start, None
        else:
            rest = _estimated(store, point, start, end)
            if not rest:
                continue
            missing, first = len(rest), min(rest)
            last = instant(max(begin + long for begin, long in rest.items()))
        depth = depths.get(names.ids[point])
        until = None if depth is None else instant(first) + depth
        found.append(Gap(names.ids[point], instant(first), last, GapReason(reason), missing, until))
    return found
