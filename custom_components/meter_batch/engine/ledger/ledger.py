"""The ledger of a site: every kilowatt-hour accounted for, by interval, and where each value came from.

Synchronous. One thread of one process opens it and makes every call; hosts give it a thread of its own.
Longer than other modules because it is the one face of the ledger: its methods are short, the work is done beside it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ..errors import ConfigError, LedgerError
from ..model.interval import Changes, Gap, GapReason, Interval
from ..model.obis import Obis
from ..model.point import Multiplier
from ..sentences import say
from .closer import EDITED, HOUR_S, WITHDRAWN, scaled
from .gaps import open_gap, unresolved
from .period import RESOLUTIONS, Resolution, gather
from .record import EPOCH, SECOND, Boundary, Restart, instant, seconds
from .rows import Names, interval_from, interval_row, newest, row_from
from .store import BUCKET_S, FOREVER, Store
from .verify import Verdict, verify
from .writer import Batch, Writer, factors_from

MOST_PENDING = 200_000
"""Records kept in memory while the disk refuses them: two days of a thousand points at 15 min."""
AUTHOR = "meter_batch"
CHANGES_LIMIT = 10_000


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of records: `revision` is the newest; `intervals` were closed or closed anew."""

    revision: int
    records: int = 0
    intervals: int = 0
    unused: int = 0
    """Kept as evidence only: they do not fit between their neighbours, or a better one is there."""
    refused: int = 0
    """From before what was pruned."""


@dataclass(frozen=True, slots=True)
class LedgerHealth:
    """How the ledger is doing."""

    revision: int
    size_bytes: int
    pending: int
    """Records that wait in memory because they could not be written."""
    dropped: int
    """Records lost since it was opened because memory was full too."""
    problem: str | None
    """Why the last write failed: a `Sentence`."""


def utc_now() -> datetime:
    """The clock of a ledger that is given none."""
    return datetime.now(UTC)


class Ledger:
    """The opened ledger. LedgerError, in words, where file or disk fail; nothing is then half done."""

    def __init__(
        self,
        path: Path,
        *,
        length_s: int = 900,
        time_zone: str = "UTC",
        now: Callable[[], datetime] = utc_now,
        most_pending: int = MOST_PENDING,
    ) -> None:
        if not 60 <= length_s <= HOUR_S or HOUR_S % length_s:
            raise ConfigError(f"an interval of {length_s} s does not divide an hour: choose 60 to 3600 s")
        self.length_s = length_s
        self.zone = zone_of(time_zone)
        self._now, self._most_pending = now, most_pending
        self._pending: deque[tuple[list[Boundary], list[Restart]]] = deque()
        self._dropped = 0
        self._problem: str | None = None
        self._store = Store(Path(path))
        with self._store.failures():
            self._names = Names(self._store)
            self._writer = Writer(self._store, self._names, length_s, self.zone)
            self._revision = self._stored_revision()

    def close(self) -> None:
        """Ends; what is pending is tried once more."""
        try:
            if self._pending:
                self.flush()
        finally:
            self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- writing

    def take(self, boundaries: Iterable[Boundary], restarts: Iterable[Restart] = ()) -> Taken:
        """Registers at boundaries, live or from memory, in any order; all that is written is one revision.

        What it knows already changes nothing. With LedgerError nothing is lost: the records wait in memory and are
        written with the next call, at most `most_pending` of them; beyond that the oldest are dropped and counted.
        """
        first, *others = _unique(boundaries) or [[]]
        # What began again must be known before the registers after it are.
        self._pending.append((first, list(restarts)))
        self._pending.extend((one, []) for one in others)
        self._bound()
        return self.flush()

    def flush(self) -> Taken:
        """Writes what waits; see `take`."""
        records = intervals = unused = refused = 0
        while self._pending:
            boundaries, restarts = self._pending[0]
            batch = Batch(self._revision + 1)

            def work(batch: Batch = batch, new: list[Boundary] = boundaries, again: list[Restart] = restarts) -> None:
                self._writer.add(new, again, batch)

            self._commit(work, batch, AUTHOR, "closed")
            self._pending.popleft()
            records += len(batch.raws)
            intervals += len(batch.intervals)
            unused += batch.unused
            refused += batch.refused
        return Taken(self._revision, records, intervals, unused, refused)

    def miss(self, points: Iterable[str], boundary: datetime, reason: GapReason) -> None:
        """Says why these points have no registers for a boundary; a gap is open from their last one until they do."""
        batch = Batch(self._revision + 1)

        def work() -> None:
            for id_ in points:
                number = self._names.point(id_)
                if number in self._writer.open_gaps:
                    continue
                last = self._writer.newest_boundary(id_)
                if last is None:
                    last = seconds(boundary) - self.length_s
                if last < seconds(boundary):
                    open_gap(self._store, number, last, reason, batch.revision)
                    self._writer.open_gaps.add(number)
                    self._writer.unheaded(id_)
                    batch.changed = True

        self._commit(work, batch, AUTHOR, "missed")

    def edit(
        self, point: str, start: datetime, energies: Mapping[Obis, Decimal] | None, *, author: str, reason: str
    ) -> int:
        """A person's correction of one interval, at the primary side; None takes it back. Returns the revision.

        The machine's value stays beneath it and goes on being kept right.
        """
        self._named(author, reason)
        number, at = self._known_point(point), seconds(start)
        with self._store.failures():
            rows = newest(self._store.intervals(number, at, at + 1), final=True)
        if not rows:
            raise LedgerError(say("ledger_no_interval", point=point, start=start.isoformat(timespec="minutes")))
        batch = Batch(self._revision + 1)

        def work() -> None:
            row = row_from(self._names, rows[0])
            row.flags, row.source, row.rule = EDITED, "edit", None
            if energies is None:
                row.flags |= WITHDRAWN
            else:
                row.counts = {obis: scaled(energy) for obis, energy in energies.items()}
            batch.intervals.append(interval_row(self._names, number, row, "1", batch.revision))

        self._commit(work, batch, author, reason)
        return self._revision

    def set_multipliers(
        self, point: str, multipliers: Sequence[Multiplier], *, author: str = AUTHOR, reason: str = "multiplier"
    ) -> int:
        """The dated CT × PT of a point; intervals it changes get a new revision with the same counts.

        An interval goes by the multiplier that is valid at its start.
        """
        self._named(author, reason)
        batch = Batch(self._revision + 1)
        factors = factors_from((seconds(one.since), one.ct * one.pt) for one in multipliers)

        def work() -> None:
            book = self._writer.book(point)
            if book.factors == factors:
                return
            old = {(since, text) for since, text in book.factors}
            since = min(one[0] for one in old ^ set(factors))
            # An empty list is a statement too.
            for one in factors or [(0, "1")]:
                self._store.db.execute(
                    "INSERT INTO multiplier VALUES (?, ?, ?, ?)", (book.number, *one, batch.revision)
                )
            book.factors = factors or [(0, "1")]
            batch.changed = True
            self._writer.unheaded(point)
            for raw in newest(self._store.intervals(book.number, since, FOREVER), final=False):
                factor = book.factor(raw[2])
                if factor != raw[7] and raw[2] >= self._writer.pruned_until:
                    row = row_from(self._names, raw)
                    batch.intervals.append(interval_row(self._names, book.number, row, factor, batch.revision))

        self._commit(work, batch, author, reason)
        return self._revision

    def _commit(self, work: Callable[[], None], batch: Batch, author: str, reason: str) -> None:
        """One transaction: the rows of a batch and its revision, or nothing."""
        try:
            with self._store.transaction():
                work()
                if batch.raws or batch.intervals or batch.changed:
                    self._store.insert(batch.raws, batch.intervals)
                    self._store.revise(
                        batch.revision, seconds(self._now()), author, reason, len(batch.raws), len(batch.intervals)
                    )
                    if batch.edited:
                        batch.revision += 1
                        self._store.insert((), batch.edited)
                        self._store.revise(
                            batch.revision, seconds(self._now()), AUTHOR, "edited cut", 0, len(batch.edited)
                        )
                else:
                    batch.revision = self._revision
        except LedgerError as error:
            self._problem = error.text
            self._recover()
            raise
        except BaseException:
            self._recover()
            raise
        self._problem = None
        self._revision = batch.revision

    def _recover(self) -> None:
        """What was remembered of a batch that is not in the file is forgotten."""
        with self._store.failures():
            self._writer.forget()

    def _bound(self) -> None:
        waiting = sum(len(boundaries) for boundaries, _ in self._pending)
        while waiting > self._most_pending and len(self._pending) > 1:
            boundaries, restarts = self._pending.popleft()
            # What began again must be known whatever became of the registers.
            self._pending[0][1][:0] = restarts
            waiting -= len(boundaries)
            self._dropped += len(boundaries)
            for one in boundaries:
                self._writer.reasons[one.point] = GapReason.DROPPED

    # --- reading

    @property
    def revision(self) -> int:
        """The newest."""
        return self._revision

    @property
    def points(self) -> list[str]:
        """All that were ever written."""
        return sorted(self._names.points)

    def intervals(
        self,
        points: Collection[str],
        since: datetime,
        until: datetime,
        resolution: Resolution = "interval",
        time_zone: str | None = None,
    ) -> list[Interval]:
        """The final layer from `since` up to before `until`, by point and start; unknown points are LedgerErrors.

        Longer resolutions are periods at the site's (or the given) time zone and begin with the one that holds
        `since`, of which what lies before it is left out.
        """
        if until <= since:
            raise LedgerError(say("ledger_no_period", since=since.isoformat(), until=until.isoformat()))
        if resolution not in RESOLUTIONS:
            raise ConfigError(f'"{resolution}" is no resolution; there are {", ".join(RESOLUTIONS)}')
        zone = self.zone if time_zone is None else zone_of(time_zone)
        found: list[Interval] = []
        for id_ in sorted(points):
            number = self._known_point(id_)
            with self._store.failures():
                rows = newest(self._store.intervals(number, _up(since), _up(until)), final=True)
            one = [interval_from(self._names, row) for row in rows if not row[8] & WITHDRAWN]
            found += gather(one, resolution, zone)
        return found

    def history(self, point: str, start: datetime) -> list[tuple[Interval, str, str, datetime]]:
        """All revisions of one interval, oldest first, each with author, reason and when it was written."""
        number, at = self._known_point(point), seconds(start)
        with self._store.failures():
            rows = self._store.intervals(number, at, at + 1)
            notes = {
                row[0]: row[1:]
                for row in self._store.db.execute(
                    f"SELECT number, author, reason, at FROM revision WHERE number IN ({','.join('?' * len(rows))})",
                    [row[3] for row in rows],
                )
            }
        return [
            (interval_from(self._names, row), notes[row[3]][0], notes[row[3]][1], instant(notes[row[3]][2]))
            for row in rows
        ]

    def latest(self, point: str) -> Interval | None:
        """The newest interval of a point."""
        number = self._known_point(point)
        with self._store.failures():
            last = self._writer.newest_boundary(point)
            if last is None:
                return None
            rows = newest(self._store.intervals(number, last - HOUR_S, last), final=True)
        rows = [row for row in rows if not row[8] & WITHDRAWN]
        return interval_from(self._names, rows[-1]) if rows else None

    def completeness(self, points: Collection[str], since: datetime, until: datetime) -> dict[str, float]:
        """Share of a period that is measured, from memory or edited, by point."""
        known = dict.fromkeys(points, 0)
        for one in self.intervals(points, since, until):
            known[one.point] += one.known_s
        return {point: one / (until - since).total_seconds() for point, one in known.items()}

    def gaps(
        self, points: Collection[str] | None = None, *, memory: Mapping[str, timedelta] | None = None
    ) -> list[Gap]:
        """What is missing, oldest first. `memory`: how far back the meters of points can be asked."""
        numbers = None if points is None else [self._known_point(one) for one in points]
        with self._store.failures():
            return unresolved(self._store, self._names, numbers, seconds(self._now()), self.length_s, memory or {})

    @property
    def health(self) -> LedgerHealth:
        """How it is doing; costs a look at the file's size."""
        waiting = sum(len(boundaries) for boundaries, _ in self._pending)
        return LedgerHealth(self._revision, self._store.size_bytes, waiting, self._dropped, self._problem)

    # --- subscribers

    def subscribe(self, name: str, *, since_revision: int = 0) -> None:
        """A subscriber that is told what changes after a revision; one that is known keeps its place."""
        with self._store.transaction():
            self._store.db.execute("INSERT OR IGNORE INTO subscriber VALUES (?, ?)", (name, since_revision))

    def unsubscribe(self, name: str) -> None:
        """Nobody waits for it any more."""
        with self._store.transaction():
            self._store.db.execute("DELETE FROM subscriber WHERE name = ?", (name,))

    def subscribers(self) -> dict[str, int]:
        """By name, the revision each has acknowledged."""
        with self._store.failures():
            return dict(self._store.db.execute("SELECT name, acknowledged FROM subscriber ORDER BY name"))

    def changes(self, name: str, *, limit: int = CHANGES_LIMIT) -> Changes:
        """What a subscriber has not acknowledged, whole revisions, about `limit` intervals at most.

        Asked again it says the same or newer, so whoever takes it may take it twice.
        """
        acknowledged = self._acknowledged(name)
        with self._store.failures():
            upto, counted = acknowledged, 0
            for number, count in self._store.db.execute(
                "SELECT number, intervals FROM revision WHERE number > ? ORDER BY number", (acknowledged,)
            ):
                if counted and counted + count > limit:
                    break
                upto, counted = number, counted + count
            keys = self._store.db.execute(
                "SELECT DISTINCT bucket, point, start FROM interval INDEXED BY interval_revision "
                "WHERE revision > ? AND revision <= ? ORDER BY bucket, point, start",
                (acknowledged, upto),
            ).fetchall()
            found = []
            for _, point, start in keys:
                row = newest(self._store.intervals(point, start, start + 1), final=True)[0]
                found.append(interval_from(self._names, row))
        return Changes(upto, found)

    def acknowledge(self, name: str, revision: int) -> None:
        """A subscriber has everything up to a revision, safely."""
        acknowledged = self._acknowledged(name)
        if not acknowledged <= revision <= self._revision:
            raise LedgerError(say("ledger_bad_acknowledgement", name=name, revision=revision, newest=self._revision))
        with self._store.transaction():
            self._store.db.execute("UPDATE subscriber SET acknowledged = ? WHERE name = ?", (revision, name))

    def prune(self, before: datetime) -> int:
        """Forgets intervals and records before an instant, if every subscriber has them; returns how many intervals.

        Nothing is pruned without a subscriber, nor before all have acknowledged what they would lose.
        """
        cut = seconds(before) // BUCKET_S
        execute = self._store.db.execute
        with self._store.transaction():
            least = execute("SELECT min(acknowledged) FROM subscriber").fetchone()[0]
            last = execute("SELECT max(revision) FROM interval WHERE bucket < ?", (cut,)).fetchone()[0]
            if least is None or last is None or last > least:
                return 0
            gone = execute("DELETE FROM interval WHERE bucket < ?", (cut,)).rowcount
            # The last record of a point before the cut stays: what comes next is counted from it.
            execute(
                "DELETE FROM raw WHERE bucket < ?1 AND (point, boundary) NOT IN "
                "(SELECT point, max(boundary) FROM raw WHERE bucket < ?1 AND used > 0 GROUP BY point)",
                (cut,),
            )
            newest_ = execute("SELECT max(number) FROM revision").fetchone()[0]
            execute("INSERT OR REPLACE INTO fact VALUES ('pruned_until', ?)", (cut * BUCKET_S,))
            execute("INSERT OR REPLACE INTO fact VALUES ('pruned_revision', ?)", (newest_,))
        self._recover()
        return int(gone)

    # --- care

    def copy_to(self, path: Path) -> None:
        """A consistent copy in one step, for backups; whatever is at `path` is replaced."""
        Path(path).unlink(missing_ok=True)
        self._store.copy_to(Path(path))

    def verify(self) -> Verdict:
        """Proves checksums and conservation over the whole file; see `verify.verify`."""
        with self._store.failures():
            row = self._store.db.execute("SELECT value FROM fact WHERE name = 'pruned_revision'").fetchone()
        return verify(self._store, self._names, self._writer.pruned_until, row[0] if row else 0)

    # --- inside

    def _stored_revision(self) -> int:
        return int(self._store.db.execute("SELECT coalesce(max(number), 0) FROM revision").fetchone()[0])

    def _known_point(self, id_: str) -> int:
        if (number := self._names.points.get(id_)) is None:
            raise LedgerError(say("ledger_no_point", point=id_))
        return number

    def _acknowledged(self, name: str) -> int:
        with self._store.failures():
            row = self._store.db.execute("SELECT acknowledged FROM subscriber WHERE name = ?", (name,)).fetchone()
        if row is None:
            raise LedgerError(say("ledger_no_subscriber", name=name))
        return int(row[0])

    @staticmethod
    def _named(author: str, reason: str) -> None:
        if not author.strip() or not reason.strip():
            raise LedgerError(say("ledger_no_reason"))


def zone_of(name: str) -> ZoneInfo:
    """An IANA time zone; ConfigError where there is none of that name."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(f'"{name}" is no IANA time zone, for example Europe/Berlin') from error


def _up(at: datetime) -> int:
    return -((EPOCH - at) // SECOND)


def _unique(boundaries: Iterable[Boundary]) -> list[list[Boundary]]:
    """Records in batches that have at most one of a point and boundary, in the order they came."""
    all_ = list(boundaries)
    if len({one.point for one in all_}) == len(all_):
        return [all_] if all_ else []
    batches: list[list[Boundary]] = []
    seen: list[set[tuple[str, datetime]]] = []
    for one in all_:
        key = (one.point, one.at)
        for batch, keys in zip(batches, seen, strict=True):
            if key not in keys:
                batch.append(one)
                keys.add(key)
                break
        else:
            batches.append([one])
            seen.append({key})
    return batches
