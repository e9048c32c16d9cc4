"""The ledger of a site: every kilowatt-hour accounted for, by interval, and where each value came from.

Synchronous. One thread of one process opens it and makes every call; hosts give it a thread of its own.
Longer than other modules because it is the one face of the ledger: its methods are short, the work is done beside it.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ..errors import ConfigError, LedgerError
from ..model.interval import Changes, Gap, GapReason, Hole, Interval
from ..model.obis import Obis
from ..model.point import Multiplier
from ..sentences import Sentence, again, say
from . import subscribers
from .closer import EDITED, HOUR_S, WITHDRAWN, scaled
from .gaps import holes_of, open_gap, unresolved
from .period import RESOLUTIONS, Resolution, gathered
from .record import EPOCH, SECOND, Boundary, Restart, instant, seconds
from .rows import Names, interval_from, interval_row, newest, row_from
from .store import BUCKET_S, FOREVER, Store, held
from .sums import Adder, Sum
from .verify import Verdict, verify
from .writer import Batch, Writer, factors_from

MOST_PENDING = 200_000
"""Records kept in memory while the disk refuses them: two days of a thousand points at 15 min."""
AUTHOR = "meter_batch"
CHANGES_LIMIT = 10_000
DAY_S = 86400
PART_S = 192 * BUCKET_S
"""How much of a point is read at once."""


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
class Dropped:
    """What was forgotten to keep the ledger within its bounds."""

    before: datetime
    intervals: int
    lost: int
    """Of these, what not every subscriber had (without a subscriber: all)."""


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
    dropped_intervals: int = 0
    """Intervals forgotten for want of room before all subscribers had them, ever."""


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
                    self._writer.missed[number] = seconds(boundary) - last
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
        """The final layer from `since` up to before `until`, by point and start; see `stream`."""
        return list(self.stream(points, since, until, resolution, time_zone))

    def stream(
        self,
        points: Collection[str],
        since: datetime,
        until: datetime,
        resolution: Resolution = "interval",
        time_zone: str | None = None,
    ) -> Iterator[Interval]:
        """The final layer from `since` up to before `until`, by point and start; unknown points are LedgerErrors.

        It is read as it is asked for, by the ledger's thread; what is written meanwhile may be in it or not.
        Longer resolutions are periods at the site's (or the given) time zone and begin with the one that holds
        `since`, of which what lies before it is left out.
        """
        if until <= since:
            raise LedgerError(say("ledger_no_period", since=since.isoformat(), until=until.isoformat()))
        if resolution not in RESOLUTIONS:
            raise ConfigError(f'"{resolution}" is no resolution; there are {", ".join(RESOLUTIONS)}')
        zone = self.zone if time_zone is None else zone_of(time_zone)
        numbers = [self._known_point(id_) for id_ in sorted(points)]
        return self._streamed(numbers, _up(since), _up(until), resolution, zone)

    def _streamed(
        self, numbers: Iterable[int], lo: int, hi: int, resolution: Resolution, zone: ZoneInfo
    ) -> Iterator[Interval]:
        pieces = self._pieces(lo, hi)
        for number in numbers:
            yield from gathered(self._final(number, pieces), resolution, zone)

    def _pieces(self, lo: int, hi: int) -> list[tuple[int, int]]:
        """A month at a time, as far as the ledger reaches."""
        with self._store.failures():
            reach = self._store.reach()
        lo, hi = (max(lo, reach[0]), min(hi, reach[1])) if reach else (0, 0)
        return [(at, min(hi, at + PART_S)) for at in range(lo, hi, PART_S)]

    def _final(self, number: int, pieces: Iterable[tuple[int, int]]) -> Iterator[Interval]:
        """The final layer of a point."""
        for lo, hi in pieces:
            with self._store.failures():
                rows = newest(self._store.intervals(number, lo, hi), final=True)
            for row in rows:
                if not row[8] & WITHDRAWN:
                    yield interval_from(self._names, row)

    def sums(self, point: str, edges: Sequence[datetime]) -> list[Sum]:
        """The final layer added up between each two neighbouring (ascending) edges; an interval counts where it starts.

        The same as `gather` of `intervals`, several times as quick.
        """
        if any(end <= start for start, end in pairwise(edges)):
            raise LedgerError(say("ledger_no_period", since=edges[0].isoformat(), until=edges[-1].isoformat()))
        number, whole = self._known_point(point), [_up(one) for one in edges]
        adder = Adder(whole)
        for lo, hi in self._pieces(whole[0], whole[-1]) if whole else ():
            with self._store.failures():
                rows = newest(self._store.counted(number, lo, hi), final=True)
            adder.add([row for row in rows if not row[8] & WITHDRAWN])
        return adder.sums(edges, self._names.layouts)

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

    def touched(self, after: int, since: datetime) -> dict[str, datetime]:
        """By point, the start of the earliest interval from `since` on that revisions after one changed."""
        with self._store.failures():
            found = self._store.db.execute(
                "SELECT point, min(start) FROM interval INDEXED BY interval_revision WHERE revision > ? "
                "AND start >= ? GROUP BY point",
                (after, seconds(since)),
            ).fetchall()
        return {self._names.ids[point]: instant(start) for point, start in found}

    def register_at(self, point: str, at: datetime) -> Mapping[Obis, Decimal] | None:
        """The newest registers at or before an instant as the meter showed them, without multiplier."""
        self._known_point(point)
        with self._store.failures():
            found = self._writer.record_at(point, seconds(at))
        return None if found is None else {obis: Decimal(count).scaleb(e) for obis, (count, e) in found.items()}

    def completeness(self, points: Collection[str], since: datetime, until: datetime) -> dict[str, float]:
        """Share of a period that is measured, from memory or edited, by point."""
        length_s = (until - since).total_seconds()
        return {point: self.sums(point, (since, until))[0].known_s / length_s for point in points}

    def gaps(
        self, points: Collection[str] | None = None, *, memory: Mapping[str, timedelta] | None = None
    ) -> list[Gap]:
        """What is missing, oldest first. `memory`: how far back the meters of points can be asked."""
        numbers = None if points is None else [self._known_point(one) for one in points]
        with self._store.failures():
            return unresolved(self._store, self._names, numbers, seconds(self._now()), self.length_s, memory or {})

    def holes(self, point: str, since: datetime) -> list[Hole]:
        """From `since` to its newest record, where intervals of a point are estimated or from before its first record.

        Also where boundaries were missed though all is known, because memory may know it finer. A point without records
        has none; nor has time that was pruned. Cheap: it reads no intervals.
        """
        number = self._known_point(point)
        with self._store.failures():
            first = self._writer.book(point).first
            if first is None:
                return []
            found = holes_of(self._store, number, max(seconds(since), self._writer.pruned_until), first)
        return [Hole(instant(start), instant(end), start < first) for start, end in found]

    @property
    def health(self) -> LedgerHealth:
        """How it is doing; costs a look at the file's size."""
        waiting = sum(len(boundaries) for boundaries, _ in self._pending)
        return LedgerHealth(
            self._revision, self._store.size_bytes, waiting, self._dropped, self._problem, self._writer.dropped
        )

    # --- subscribers

    def subscribe(self, name: str, *, since_revision: int = 0) -> None:
        """A subscriber that is told what changes after a revision; one that is known keeps its place."""
        subscribers.subscribe(self._store, name, since_revision)

    def unsubscribe(self, name: str) -> None:
        """Nobody waits for it any more."""
        subscribers.unsubscribe(self._store, name)

    def subscribers(self) -> dict[str, int]:
        """By name, the revision each has acknowledged."""
        return subscribers.acknowledged(self._store)

    def changes(self, name: str, *, limit: int = CHANGES_LIMIT) -> Changes:
        """What a subscriber has not acknowledged, `limit` intervals at most.

        Whole revisions; a revision of more than `limit` intervals comes in parts, each with a `cursor`. Asked again it
        says the same or newer, so whoever takes it may take it twice.
        """
        return subscribers.changes(self._store, self._names, name, limit, self._revision)

    def acknowledge(self, name: str, revision: int, cursor: str | None = None) -> None:
        """A subscriber has everything up to the revision and cursor of `Changes`, safely."""
        subscribers.acknowledge(self._store, name, revision, cursor, self._revision)

    def prune(self, before: datetime, *, most: timedelta | None = None) -> int:
        """Forgets intervals and records before an instant, if every subscriber has them; returns how many intervals.

        Nothing is pruned without a subscriber, nor before all have acknowledged what they would lose. `most`: not more
        than so much time at once, the oldest; to be called until it returns 0.
        """
        bucket = seconds(before) // BUCKET_S
        if most is not None:
            with self._store.failures():
                oldest = self._store.oldest() or 0
            bucket = min(bucket, (oldest + int(most.total_seconds())) // BUCKET_S)
        return self._forget(bucket)[0] if subscribers.all_have(self._store, bucket) else 0

    def bound(self, max_age: timedelta | None = None, max_bytes: int | None = None) -> Dropped | None:
        """Forgets the oldest whole days (UTC) beyond an age or size, whether all have them or not; None without any.

        What not every subscriber had is counted (`health.dropped_intervals`) and stands among the revisions. Today and
        yesterday always stay.
        """
        with self._store.failures():
            oldest = self._store.oldest()
        if oldest is None:
            return None
        now = seconds(self._now())
        day, yesterday = oldest // DAY_S + 1, now // DAY_S - 1
        until = day - 1 if max_age is None else min(yesterday, (now - int(max_age.total_seconds())) // DAY_S)
        gone = lost = 0
        if until >= day:
            gone, lost = self._forget(until * DAY_S // BUCKET_S)
            day = until + 1
        while max_bytes is not None and day <= yesterday and self._used_bytes() > max_bytes:
            more = self._forget(day * DAY_S // BUCKET_S)
            gone, lost, until, day = gone + more[0], lost + more[1], day, day + 1
        return Dropped(instant(until * DAY_S), gone, lost) if gone else None

    def _used_bytes(self) -> int:
        with self._store.failures():
            return self._store.used_bytes

    def _forget(self, bucket: int) -> tuple[int, int]:
        gone, lost, revision = subscribers.forget(self._store, bucket, self._revision, seconds(self._now()), AUTHOR)
        self._revision = revision
        self._recover()
        return gone, lost

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

    @staticmethod
    def _named(author: str, reason: str) -> None:
        if not author.strip() or not reason.strip():
            raise LedgerError(say("ledger_no_reason"))


def verify_file(path: Path) -> Verdict:
    """Verifies the file of a stopped site, or a copy; LedgerError where there is none, or it is in use.

    The file stays as it is: a copy of it and its log is opened, where temporary files are.
    """
    if not path.is_file():
        raise LedgerError(say("ledger_unavailable", path=path, reason=os.strerror(errno.ENOENT)))
    if not path.stat().st_size:
        raise LedgerError(say("ledger_damaged", path=path, reason="it is empty"))
    with held(path):
        try:
            with TemporaryDirectory(prefix="meter-batch-") as folder:
                copy = Path(folder) / path.name
                for end in ("", "-wal"):
                    if (one := path.with_name(path.name + end)).exists():
                        shutil.copyfile(one, copy.with_name(copy.name + end))
                with Ledger(copy) as ledger:
                    return ledger.verify()
        except OSError as error:
            raise LedgerError(say("ledger_unavailable", path=path, reason=error.strerror or error)) from error
        except LedgerError as error:
            if isinstance(text := error.text, Sentence):
                raise LedgerError(again(text, path=path)) from error
            raise


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
