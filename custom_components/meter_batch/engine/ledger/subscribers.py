"""Subscribers: who is told what changed, up to where each has it, and what may be forgotten because all have it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from ..errors import ConfigError, LedgerError
from ..model.interval import Changes, Interval
from ..sentences import say
from .record import instant
from .rows import Names, interval_from, newest
from .store import BUCKET_S, Store

type Part = tuple[int, int, int]
"""Bucket, point and start: up to where a subscriber has a revision."""
NO_PART: Part = (-1, -1, -1)


def subscribe(store: Store, name: str, since_revision: int) -> None:
    """A new one is told what changes after a revision."""
    with store.transaction():
        store.db.execute("INSERT OR IGNORE INTO subscriber (name, acknowledged) VALUES (?, ?)", (name, since_revision))


def unsubscribe(store: Store, name: str) -> None:
    """Forgets one."""
    with store.transaction():
        store.db.execute("DELETE FROM subscriber WHERE name = ?", (name,))


def acknowledged(store: Store) -> dict[str, int]:
    """By name, the revision each has wholly."""
    with store.failures():
        return dict(store.db.execute("SELECT name, acknowledged FROM subscriber ORDER BY name"))


def changes(store: Store, names: Names, name: str, limit: int, newest_revision: int) -> Changes:
    """See `Ledger.changes`."""
    has, part = _place(store, name)
    with store.failures():
        upto, counted = has, 0
        for number, count in store.db.execute(
            "SELECT number, intervals FROM revision WHERE number > ? ORDER BY number", (has,)
        ):
            if counted and counted + count > limit:
                break
            upto, counted = number, counted + count
            if part or count > limit:
                break
        rows = list(store.changed(has, upto, part or NO_PART, limit + 1))
    found: list[Interval] = []
    last = None
    for key, all_ in groupby(rows, key=lambda row: row[:3]):
        if len(found) == limit and counted > limit:
            return Changes(has, found, True, _cursor(last))
        found.append(interval_from(names, newest(all_, final=True)[0]))
        last = key
    return Changes(upto, found, upto < newest_revision)


def acknowledge(store: Store, name: str, revision: int, cursor: str | None, newest_revision: int) -> None:
    """See `Ledger.acknowledge`."""
    has, part = _place(store, name)
    new = _part(cursor)
    if (
        not has <= revision <= newest_revision
        or (revision == has and (new or ()) < (part or ()))
        or (new is not None and not _given(store, revision, new))
    ):
        raise LedgerError(say("ledger_bad_acknowledgement", name=name, revision=revision, newest=newest_revision))
    with store.transaction():
        store.db.execute(
            "UPDATE subscriber SET acknowledged = ?, part = ? WHERE name = ?", (revision, cursor or "", name)
        )


def _given(store: Store, revision: int, part: Part) -> bool:
    """Whether there is an interval at a place that a revision after one wrote."""
    with store.failures():
        found = store.db.execute(
            "SELECT 1 FROM interval WHERE bucket = ? AND point = ? AND start = ? AND revision > ? LIMIT 1",
            (*part, revision),
        ).fetchone()
    return found is not None


def _place(store: Store, name: str) -> tuple[int, Part | None]:
    with store.failures():
        row = store.db.execute("SELECT acknowledged, part FROM subscriber WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise LedgerError(say("ledger_no_subscriber", name=name))
    return int(row[0]), _part(row[1])


def _cursor(part: Sequence[int] | None) -> str:
    return ".".join(map(str, part or ()))


def _part(cursor: str | None) -> Part | None:
    if not cursor:
        return None
    try:
        bucket, point, start = map(int, cursor.split("."))
    except ValueError as error:
        raise ConfigError(f'"{cursor}" is no cursor that the ledger gave') from error
    return bucket, point, start


def all_have(store: Store, bucket: int) -> bool:
    """Whether there are subscribers, and all have whatever lies in buckets before one."""
    with store.failures():
        least = store.db.execute("SELECT min(acknowledged) FROM subscriber").fetchone()[0]
        last = store.db.execute("SELECT max(revision) FROM interval WHERE bucket < ?", (bucket,)).fetchone()[0]
    return least is not None and last is not None and last <= least


def forget(store: Store, bucket: int, revision: int, now: int, author: str) -> tuple[int, int, int]:
    """Forgets what lies in buckets before one: how many intervals, how many of them somebody lacks, and the revision.

    In a transaction of its own. What somebody lacks is counted, and noted as a revision.
    """
    execute, at = store.db.execute, bucket * BUCKET_S
    with store.transaction():
        least = execute("SELECT min(acknowledged) FROM subscriber").fetchone()[0]
        lost = execute(
            "SELECT count(*) FROM interval WHERE bucket < ? AND revision > ?", (bucket, -1 if least is None else least)
        ).fetchone()[0]
        gone = execute("DELETE FROM interval WHERE bucket < ?", (bucket,)).rowcount
        # The last record of a point before the cut stays: what comes next is counted from it.
        execute(
            "DELETE FROM raw WHERE bucket < ?1 AND (point, boundary) NOT IN "
            "(SELECT point, max(boundary) FROM raw WHERE bucket < ?1 AND used > 0 GROUP BY point)",
            (bucket,),
        )
        execute("UPDATE gap SET resolved = ? WHERE resolved IS NULL AND end <= ?", (revision, at))
        execute("UPDATE gap SET start = ?1 WHERE resolved IS NULL AND start < ?1 AND ifnull(end, ?1 + 1) > ?1", (at,))
        if lost:
            revision += 1
            store.revise(revision, now, author, f"dropped before {instant(at):%F}", 0, 0)
        execute("INSERT INTO fact VALUES ('dropped', ?1) ON CONFLICT (name) DO UPDATE SET value = value + ?1", (lost,))
        for name, value in (("pruned_until", at), ("pruned_revision", revision)):
            execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (name, value))
    return int(gone), int(lost), revision
