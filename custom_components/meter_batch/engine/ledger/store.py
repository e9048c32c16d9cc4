"""The file of the ledger: SQLite in WAL mode, every commit synced, one owner; nothing in it is overwritten.

Rows of a point within four hours lie together, so that neither the live hour of a thousand points nor a year of one
touches many pages. Every row carries a checksum, every revision the number of its rows.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from math import nan
from pathlib import Path
from typing import Any
from zlib import crc32

from ..errors import LedgerError
from ..sentences import say

VERSION = 2
BUCKET_S = 4 * 3600
FOREVER = 1 << 40
FAR_S = 40 * 86400
FIRST_WAIT_S = 2.0
"""How long a database that is locked for a moment (a copy, a checker) is waited for."""

RAW = "bucket, point, boundary, revision, used, read_us, meter, source, layout, registers, skew_s, sum"
INTERVAL = (
    "bucket, point, start, revision, length, layout, counts, factor, flags, rule, source, skew_s,"
    " max_kw, v_min, v_mean, v_max, pf, sum"
)
COUNTED = "bucket, point, start, revision, length, layout, counts, factor, flags"
"""The first columns of INTERVAL: what it takes to add energies up."""
INSERT_RAW = f"INSERT INTO raw ({RAW}) VALUES ({', '.join('?' * 12)})"
INSERT_INTERVAL = f"INSERT INTO interval ({INTERVAL}) VALUES ({', '.join('?' * 18)})"

SCHEMA = """
-- first: boundary of its oldest record; live: of the oldest that was read from its registers.
CREATE TABLE point (
  number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, first INTEGER, live INTEGER
) STRICT;
-- Which registers the numbers of a row are, with their exponents: "1-0:1.8.0/-2 1-0:2.8.0/-2".
CREATE TABLE layout (number INTEGER PRIMARY KEY, registers TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE meter (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE) STRICT;
-- One change of the ledger, never partly there.
CREATE TABLE revision (
  number INTEGER PRIMARY KEY, at INTEGER NOT NULL, author TEXT NOT NULL, reason TEXT NOT NULL,
  raws INTEGER NOT NULL, intervals INTEGER NOT NULL
) STRICT;
-- Raw layer: registers as read. used: 0 kept as evidence only, 1 used, 2 used instead of those before it.
CREATE TABLE raw (
  bucket INTEGER NOT NULL, point INTEGER NOT NULL, boundary INTEGER NOT NULL, revision INTEGER NOT NULL,
  used INTEGER NOT NULL, read_us INTEGER NOT NULL, meter INTEGER NOT NULL, source TEXT NOT NULL,
  layout INTEGER NOT NULL, registers TEXT NOT NULL, skew_s REAL NOT NULL, sum INTEGER NOT NULL,
  PRIMARY KEY (bucket, point, boundary, revision)
) STRICT, WITHOUT ROWID;
CREATE TABLE restart (
  point INTEGER NOT NULL, obis TEXT NOT NULL, at_us INTEGER NOT NULL, kind TEXT NOT NULL, last TEXT, first TEXT,
  revision INTEGER NOT NULL, PRIMARY KEY (point, obis, at_us)
) STRICT, WITHOUT ROWID;
CREATE TABLE register_end (
  point INTEGER NOT NULL, obis TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (point, obis)
) STRICT, WITHOUT ROWID;
-- Records that a wrong clock put into the future.
CREATE TABLE void (
  point INTEGER NOT NULL, boundary INTEGER NOT NULL, revision INTEGER NOT NULL,
  PRIMARY KEY (point, boundary, revision)
) STRICT, WITHOUT ROWID;
CREATE TABLE multiplier (
  point INTEGER NOT NULL, since INTEGER NOT NULL, factor TEXT NOT NULL, revision INTEGER NOT NULL,
  PRIMARY KEY (point, revision, since)
) STRICT, WITHOUT ROWID;
-- Validated layer, and final where flags have 8 (edited). The newest revision of a start counts, an edited one first.
CREATE TABLE interval (
  bucket INTEGER NOT NULL, point INTEGER NOT NULL, start INTEGER NOT NULL, revision INTEGER NOT NULL,
  length INTEGER NOT NULL, layout INTEGER NOT NULL, counts TEXT NOT NULL, factor TEXT NOT NULL,
  flags INTEGER NOT NULL, rule TEXT, source TEXT NOT NULL, skew_s REAL NOT NULL,
  max_kw REAL, v_min REAL, v_mean REAL, v_max REAL, pf REAL, sum INTEGER NOT NULL,
  PRIMARY KEY (bucket, point, start, revision)
) STRICT, WITHOUT ROWID;
CREATE INDEX interval_revision ON interval (revision);
CREATE TABLE gap (
  number INTEGER PRIMARY KEY, point INTEGER NOT NULL, start INTEGER NOT NULL, end INTEGER, reason TEXT NOT NULL,
  revision INTEGER NOT NULL, resolved INTEGER
) STRICT;
CREATE INDEX gap_point ON gap (point, start) WHERE resolved IS NULL;
-- acknowledged: all of a revision and those before it; part: of the next one, up to this bucket, point and start.
CREATE TABLE subscriber (
  name TEXT PRIMARY KEY, acknowledged INTEGER NOT NULL, part TEXT NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;
CREATE TABLE fact (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
"""

MIGRATIONS: dict[int, str] = {
    1: """
ALTER TABLE point ADD COLUMN first INTEGER;
ALTER TABLE point ADD COLUMN live INTEGER;
ALTER TABLE subscriber ADD COLUMN part TEXT NOT NULL DEFAULT '';
UPDATE point SET first = ends.first, live = ends.live FROM (
  SELECT point, min(boundary) AS first, min(CASE source WHEN 'poll' THEN boundary END) AS live
  FROM raw WHERE used > 0 GROUP BY point
) AS ends WHERE ends.point = point.number;
"""
}
"""Version → the statements that lead from it to the next one."""

type Row = Sequence[Any]


pack_raw = struct.Struct("<8qd").pack
pack_interval = struct.Struct("<7q6d").pack
"""What of a row is checked beside its text; the numbers that were not seen as NaN."""


def checksum_raw(
    bucket: int, point: int, boundary: int, revision: int, used: int, read_us: int, meter: int,
    source: str, layout: int, registers: str, skew_s: float,
) -> int:  # fmt: skip
    """Of a row of `raw`."""
    packed = pack_raw(bucket, point, boundary, revision, used, read_us, meter, layout, skew_s)
    return crc32(packed + f"{source} {registers}".encode())


def checksum_interval(
    bucket: int, point: int, start: int, revision: int, length: int, layout: int, counts: str, factor: str,
    flags: int, rule: str | None, source: str, skew_s: float, max_kw: float | None, v_min: float | None,
    v_mean: float | None, v_max: float | None, pf: float | None,
) -> int:  # fmt: skip
    """Of a row of `interval`."""
    packed = pack_interval(
        bucket, point, start, revision, length, layout, flags, skew_s,
        nan if max_kw is None else max_kw, nan if v_min is None else v_min, nan if v_mean is None else v_mean,
        nan if v_max is None else v_max, nan if pf is None else pf,
    )  # fmt: skip
    return crc32(packed + f"{counts} {factor} {rule} {source}".encode())


@contextmanager
def held(path: Path) -> Iterator[None]:
    """While it lasts no ledger opens the file; LedgerError where one has it."""
    lock = path.with_name(path.name + "-lock")
    if not lock.exists():
        yield
        return
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            raise LedgerError(say("ledger_in_use", path=path)) from error
        yield


class Store:
    """The opened file. To be used by the thread that opened it."""

    def __init__(self, path: Path, *, wait_s: float = FIRST_WAIT_S) -> None:
        """LedgerError where it cannot be opened, is not ours, or another program has it."""
        self.path = path
        self._lock = self._own(path)
        try:
            self.db = self._open(path, wait_s)
        except BaseException:
            os.close(self._lock)
            raise

    def close(self) -> None:
        """Ends; the file is complete without its companions then."""
        self.db.close()
        os.close(self._lock)

    @staticmethod
    def _own(path: Path) -> int:
        # A lock of the open file, which SQLite's own locks are not: whoever else reads and closes the database in
        # this process (a backup does) takes those away.
        try:
            lock = os.open(path.with_name(path.name + "-lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise LedgerError(say("ledger_unavailable", path=path, reason=error.strerror or error)) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise LedgerError(say("ledger_in_use", path=path)) from error
        return lock

    def _open(self, path: Path, wait_s: float) -> sqlite3.Connection:
        with self.failures():
            db = sqlite3.connect(path, timeout=wait_s, isolation_level=None)
        try:
            with self.failures():
                db.execute("PRAGMA locking_mode = EXCLUSIVE")
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("PRAGMA synchronous = FULL")
                db.execute("PRAGMA wal_autocheckpoint = 1000")
                db.execute("PRAGMA journal_size_limit = 16777216")
                # Nothing is written where nothing has to be: a full disk is no reason not to open.
                if db.execute("PRAGMA user_version").fetchone()[0] != VERSION:
                    db.execute("BEGIN IMMEDIATE")
                    self._migrate(db)
                    db.execute("COMMIT")
        except BaseException:
            db.close()
            raise
        return db

    def _migrate(self, db: sqlite3.Connection) -> None:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise LedgerError(say("ledger_newer", path=self.path, version=version, ours=VERSION))
        if version == 0:
            if db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
                raise LedgerError(say("ledger_damaged", path=self.path, reason="it is another program's database"))
            _script(db, SCHEMA)
        else:
            for one in range(version, VERSION):
                _script(db, MIGRATIONS[one])
        db.execute(f"PRAGMA user_version = {VERSION}")

    @contextmanager
    def failures(self) -> Iterator[None]:
        """SQLite's errors in words."""
        try:
            yield
        except sqlite3.Error as error:
            raise LedgerError(self._words(error)) from error

    def _words(self, error: sqlite3.Error) -> str:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and self._is_full()):
            return say("ledger_disk_full", path=self.path)
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return say("ledger_in_use", path=self.path)
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return say("ledger_damaged", path=self.path, reason=error)
        return say("ledger_unavailable", path=self.path, reason=error)

    def _is_full(self) -> bool:
        try:
            free = os.statvfs(self.path.parent)
        except OSError:
            return False
        return free.f_bavail * free.f_frsize < 1 << 20

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; synced when it ends."""
        with self.failures():
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.db.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    if self.db.in_transaction:
                        self.db.execute("ROLLBACK")
                raise

    def number(self, table: str, column: str, text: str) -> int:
        """The number of a point, layout or meter, given anew where it has none."""
        row = self.db.execute(f"SELECT number FROM {table} WHERE {column} = ?", (text,)).fetchone()
        if row is None:
            row = self.db.execute(f"INSERT INTO {table} ({column}) VALUES (?) RETURNING number", (text,)).fetchone()
        return int(row[0])

    def texts(self, table: str, column: str) -> dict[int, str]:
        """All of them, by number."""
        return dict(self.db.execute(f"SELECT number, {column} FROM {table}"))

    def raws(self, point: int, lo: int, hi: int) -> list[tuple[Any, ...]]:
        """Raw rows of a point with boundaries from `lo` to `hi`, both included, by boundary and revision."""
        return self._between("raw", RAW, "boundary", point, lo, hi)

    def intervals(self, point: int, lo: int, hi: int) -> list[tuple[Any, ...]]:
        """Rows of a point that start from `lo` up to before `hi`, by start and revision."""
        return self._between("interval", INTERVAL, "start", point, lo, hi - 1)

    def counted(self, point: int, lo: int, hi: int) -> list[tuple[Any, ...]]:
        """The same rows, as far as COUNTED."""
        return self._between("interval", COUNTED, "start", point, lo, hi - 1)

    def history(self, point: int, lo: int, hi: int) -> list[tuple[int, int, int, str, int]]:
        """Start, length, layout, counts and flags of the same rows."""
        return self._between("interval", "start, length, layout, counts, flags", "start", point, lo, hi - 1)

    def _between(self, table: str, columns: str, column: str, point: int, lo: int, hi: int) -> list[tuple[Any, ...]]:
        wanted = ", ".join(f"t.{one.strip()}" for one in columns.split(","))
        if hi - lo > FAR_S:
            # Nobody walks through centuries without rows.
            edges = f"SELECT (SELECT min(bucket) FROM {table}), (SELECT max(bucket) FROM {table})"
            first, last = self.db.execute(edges).fetchone()
            if first is None:
                return []
            lo, hi = max(lo, first * BUCKET_S), min(hi, (last + 1) * BUCKET_S)
        return self.db.execute(
            "WITH RECURSIVE b(n) AS (VALUES (?) UNION ALL SELECT n + 1 FROM b WHERE n < ?) "
            f"SELECT {wanted} FROM b CROSS JOIN {table} t ON t.bucket = b.n AND t.point = ? "
            f"WHERE t.{column} BETWEEN ? AND ? ORDER BY t.{column}, t.revision",
            (lo // BUCKET_S, hi // BUCKET_S, point, lo, hi),
        ).fetchall()

    def changed(self, after: int, upto: int, part: tuple[int, int, int], limit: int) -> Iterator[tuple[Any, ...]]:
        """All rows of the intervals that revisions after one up to another wrote, by bucket, point, start, revision.

        Of `limit` intervals at most, and of those beyond the bucket, point and start in `part`.
        """
        wanted = ", ".join(f"t.{one.strip()}" for one in INTERVAL.split(","))
        return self.db.execute(
            "WITH k AS (SELECT DISTINCT bucket, point, start FROM interval INDEXED BY interval_revision "
            "WHERE revision > ? AND revision <= ? AND (bucket, point, start) > (?, ?, ?) "
            "ORDER BY bucket, point, start LIMIT ?) "
            f"SELECT {wanted} FROM k CROSS JOIN interval t USING (bucket, point, start) "
            "ORDER BY k.bucket, k.point, k.start, t.revision",
            (after, upto, *part, limit),
        )

    def reach(self) -> tuple[int, int] | None:
        """The first and last second of the buckets that hold raw rows."""
        lo, hi = self.db.execute("SELECT (SELECT min(bucket) FROM raw), (SELECT max(bucket) FROM raw)").fetchone()
        return None if lo is None else (lo * BUCKET_S, (hi + 1) * BUCKET_S)

    def oldest(self) -> int | None:
        """The first second of the buckets that hold intervals."""
        bucket = self.db.execute("SELECT min(bucket) FROM interval").fetchone()[0]
        return None if bucket is None else int(bucket) * BUCKET_S

    def insert(self, raws: Iterable[Row], intervals: Iterable[Row]) -> None:
        """Rows as in RAW and INTERVAL, checksums included."""
        self.db.executemany(INSERT_RAW, raws)
        self.db.executemany(INSERT_INTERVAL, intervals)

    def revise(self, number: int, at: int, author: str, reason: str, raws: int, intervals: int) -> None:
        """Notes a revision and how many rows are its."""
        self.db.execute("INSERT INTO revision VALUES (?, ?, ?, ?, ?, ?)", (number, at, author, reason, raws, intervals))

    def copy_to(self, path: Path) -> None:
        """A consistent copy in one step; LedgerError where it cannot be written."""
        with self.failures():
            other = sqlite3.connect(path)
            try:
                self.db.backup(other)
            finally:
                other.close()

    @property
    def used_bytes(self) -> int:
        """Of the pages that hold something: what is deleted leaves room in the file, it does not make it smaller."""
        pages, free, size = (
            self.db.execute(f"PRAGMA {one}").fetchone()[0] for one in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    @property
    def size_bytes(self) -> int:
        """Of the file and its log."""
        files = (self.path, self.path.with_name(self.path.name + "-wal"))
        return sum(one.stat().st_size for one in files if one.exists())


def _script(db: sqlite3.Connection, text: str) -> None:
    # executescript would commit first.
    statement = ""
    for line in text.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            db.execute(statement)
            statement = ""
