"""Findings and their journal on the disk: one SQLite file with a thread of its own, so that the event loop never waits.

What could not be written waits in memory, a repairs issue says why, and it is tried again until it is written. Answers
hold what waits as well, so that alarms go on as if it were there.
"""

from __future__ import annotations

import errno
import json
import logging
import sqlite3
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from homeassistant.core import CALLBACK_TYPE, HassJob, HomeAssistant, callback
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.event import async_call_later, async_track_time_interval
from homeassistant.helpers.storage import STORAGE_DIR

from .backup_copy import adopt_copy, copy_of, mark_of, remove_copy
from .const import DOMAIN
from .engine import ConfigError, Finding, JournalEntry
from .engine.wire import decode_findings, encode_findings
from .wording import async_in_words, async_message

_LOGGER = logging.getLogger(__name__)

FILE: Final = f"{DOMAIN}.alarms.db"
ISSUE: Final = "alarms_problem"
KEPT: Final = timedelta(days=10 * 366)
MOST: Final = 500_000
"""Beyond this age and count the oldest findings that are over are forgotten, once a day, with their journal."""
WAIT_S: Final = 5.0
"""So long the thread waits for somebody else who writes to the file."""
AGAIN_S: Final = 30.0
"""So long after a failure it is tried again."""
PART: Final = 1_000
"""Ids in one statement; SQLite takes more, but not without bound."""
VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS finding (
  id TEXT PRIMARY KEY, subject TEXT NOT NULL, since REAL NOT NULL, until REAL, open INTEGER NOT NULL, body TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS finding_open ON finding (id) WHERE open;
CREATE INDEX IF NOT EXISTS finding_since ON finding (since);
CREATE TABLE IF NOT EXISTS journal (
  number INTEGER PRIMARY KEY, finding TEXT NOT NULL, at REAL NOT NULL, what TEXT NOT NULL, body TEXT NOT NULL,
  UNIQUE (finding, at, what)
);
"""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why the file cannot be used: a message of the translations and its facts."""

    key: str
    path: str
    reason: str = ""


@dataclass(slots=True)
class Records:
    """Findings, each as it is now, and what happened to them."""

    findings: dict[str, Finding] = field(default_factory=dict)
    journal: list[JournalEntry] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.findings or self.journal)

    def update(self, newer: Records) -> None:
        """With what came later."""
        self.findings.update(newer.findings)
        self.journal += newer.journal


@dataclass(frozen=True, slots=True)
class Asked:
    """Which findings are wanted: those that lasted at any time in `[since, until)`, of these subjects (None: all)."""

    since: datetime | None = None
    until: datetime | None = None
    subjects: frozenset[str] | None = None

    def takes(self, finding: Finding) -> bool:
        """Whether a finding is among them."""
        return (
            (self.subjects is None or finding.subject in self.subjects)
            and (self.until is None or finding.since < self.until)
            and (self.since is None or finding.until is None or finding.until >= self.since)
        )


class AlarmFile:
    """The opened file; to be used by the thread that opened it. sqlite3.Error and OSError pass through."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        adopt_copy(path)
        self._db = sqlite3.connect(path, timeout=WAIT_S, isolation_level=None)
        try:
            self._prepare()
        except BaseException:
            self._db.close()
            raise

    def _prepare(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise sqlite3.NotSupportedError(f"form {version}, known is {VERSION}")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(_SCHEMA)
        self._db.execute(f"PRAGMA user_version = {VERSION}")

    def close(self) -> None:
        """Ends; the file is complete without its companions then."""
        self._db.close()

    def write(self, records: Records) -> int:
        """All of it or nothing; written twice, it is there once. Says how many findings that were."""
        findings = [
            (one.id, one.subject, _seconds(one.since), one.until and _seconds(one.until), is_open(one), _body(one))
            for one in records.findings.values()
        ]
        entries = [(one.finding, _seconds(one.at), str(one.what), _body(one)) for one in records.journal]
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.executemany("INSERT OR REPLACE INTO finding VALUES (?, ?, ?, ?, ?, ?)", findings)
            self._db.executemany("INSERT OR IGNORE INTO journal (finding, at, what, body) VALUES (?, ?, ?, ?)", entries)
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        return len(findings)

    def open_findings(self) -> list[Finding]:
        """What lasts, or nobody has taken note of yet, oldest first."""
        rows = self._db.execute("SELECT body FROM finding WHERE open ORDER BY since")
        return [_finding(body) for (body,) in rows]

    def read(self, asked: Asked, *, journal: bool) -> Records:
        """What is asked for, oldest first, with its journal if that is wanted."""
        rows = self._db.execute(
            "SELECT body FROM finding WHERE since < ? AND (until IS NULL OR until >= ?) ORDER BY since, id",
            (_seconds(asked.until) if asked.until else 1e12, _seconds(asked.since) if asked.since else -1e12),
        )
        found = Records({one.id: one for one in (_finding(body) for (body,) in rows) if asked.takes(one)})
        if journal:
            found.journal = self._entries(found.findings)
        return found

    def _entries(self, ids: Collection[str]) -> list[JournalEntry]:
        known, found = list(ids), []
        for start in range(0, len(known), PART):
            part = known[start : start + PART]
            marks = ",".join("?" * len(part))
            found += self._db.execute(f"SELECT number, body FROM journal WHERE finding IN ({marks})", part).fetchall()
        return [_entry(body) for _, body in sorted(found)]

    def forget(self, before: datetime, most: int) -> int:
        """Drops findings that were over before an instant, and the oldest beyond a count; says how many."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            gone = self._db.execute(
                "DELETE FROM finding WHERE NOT open AND (since < ? OR id IN (SELECT id FROM finding WHERE NOT open "
                "ORDER BY since DESC LIMIT -1 OFFSET ?))",
                (_seconds(before), most),
            ).rowcount
            if gone:
                self._db.execute("DELETE FROM journal WHERE finding NOT IN (SELECT id FROM finding)")
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        return gone

    def copy_to(self, path: Path) -> None:
        """A consistent copy, as of now."""
        path.unlink(missing_ok=True)
        with closing(sqlite3.connect(path)) as copy:
            self._db.backup(copy)


def is_open(finding: Finding) -> bool:
    """Whether it lasts, or nobody has taken note of it: such ones are never forgotten."""
    return finding.until is None or finding.open


class AlarmStore:
    """The file inside Home Assistant: what is to be written is taken at once and written by the file's own thread."""

    def __init__(self, hass: HomeAssistant) -> None:
        self._hass = hass
        self.path = Path(hass.config.path(STORAGE_DIR, FILE))
        self.problem: Problem | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"{DOMAIN}_alarms")
        self._file: AlarmFile | None = None
        self._waiting = Records()
        self._writing = False
        self._again: CALLBACK_TYPE | None = None
        self._closed = False
        self._late: Callable[[list[Finding]], None] | None = None

    @property
    def waiting(self) -> int:
        """Findings and entries that are not on the disk yet."""
        return len(self._waiting.findings) + len(self._waiting.journal)

    async def async_load(self, late: Callable[[list[Finding]], None]) -> list[Finding] | None:
        """What was open when Home Assistant stopped. None where the file cannot be used: it is told `late`, then."""
        async_track_time_interval(self._hass, self._forget, timedelta(days=1), cancel_on_shutdown=True)
        found = await self._call(AlarmFile.open_findings)
        if found is None:
            self._late = late
            self._try_again()
        return found

    @callback
    def async_take(self, records: Records) -> None:
        """Writes these in the background; until then they are kept here."""
        self._waiting.update(records)
        self._write_soon()

    @callback
    def _write_soon(self, _now: datetime | None = None) -> None:
        self._again = None
        if (self._waiting or self._late) and not self._writing and not self._closed:
            self._writing = True
            self._hass.async_create_background_task(self._write(), f"{DOMAIN} alarms are written")

    async def _write(self) -> None:
        try:
            # First what was there: what waits is newer.
            if self._late is not None and (found := await self._call(AlarmFile.open_findings)) is not None:
                late, self._late = self._late, None
                late(found)
            while self._late is None and self._waiting and await self.async_flush():
                pass
        finally:
            self._writing = False
        if self._waiting or self._late:
            self._try_again()

    @callback
    def _try_again(self) -> None:
        if self._again is None and not self._closed:
            job = HassJob(self._write_soon, cancel_on_shutdown=True)
            self._again = async_call_later(self._hass, AGAIN_S, job)

    async def async_flush(self) -> bool:
        """Tries to write what waits; whether that worked."""
        records, self._waiting = self._waiting, Records()
        if not records:
            return True
        if await self._call(lambda file: file.write(records)) is not None:
            return True
        records.update(self._waiting)  # what came meanwhile is newer
        self._waiting = records
        return False

    async def async_read(self, asked: Asked, *, journal: bool = False) -> Records:
        """What is asked for, from the disk and from what waits; only the latter while the disk cannot be used."""
        await self.async_flush()
        found = await self._call(lambda file: file.read(asked, journal=journal)) or Records()
        waiting = self._waiting
        found.findings |= {id_: one for id_, one in waiting.findings.items() if asked.takes(one)}
        if journal:
            found.journal += [one for one in waiting.journal if one.finding in found.findings]
        found.findings = dict(sorted(found.findings.items(), key=lambda one: (one[1].since, one[0])))
        return found

    async def _forget(self, now: datetime) -> None:
        if gone := await self._call(lambda file: file.forget(now - KEPT, MOST)):
            _LOGGER.info("%s findings are older than is kept, and were forgotten", gone)

    async def async_copy(self) -> None:
        """Makes a consistent copy beside the file, for a backup that is about to be made.

        Where that fails the backup goes on without: what is wrong with the file stands in the repairs already.
        """
        await self.async_flush()

        def work(file: AlarmFile) -> None:
            # First the mark: a copy without it is one that was restored.
            mark_of(self.path).write_bytes(b"")
            file.copy_to(copy_of(self.path))

        await self._call(work)

    async def async_remove_copy(self) -> None:
        """The backup is made."""
        await self._hass.loop.run_in_executor(self._thread, remove_copy, self.path)

    async def async_stop(self) -> None:
        """Writes what waits and closes the file."""
        if self._closed:
            return
        if not await self.async_flush():
            _LOGGER.error("%s records of alarms could not be written before the stop", self.waiting)
        self._closed = True
        await self._hass.loop.run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    async def _call[T](self, work: Callable[[AlarmFile], T]) -> T | None:
        """Runs `work` in the file's thread; None where that fails, and the repairs say why."""
        if self._closed:
            return None
        answer, problem = await self._hass.loop.run_in_executor(self._thread, self._run, work)
        if problem != self.problem:
            self.problem = problem
            await self._show(problem)
        return answer

    def _run[T](self, work: Callable[[AlarmFile], T]) -> tuple[T | None, Problem | None]:
        try:
            if self._file is None:
                self._file = AlarmFile(self.path)
            return work(self._file), None
        except (sqlite3.Error, OSError, ConfigError) as error:
            problem = Problem(_key(error), str(self.path), _reason(error))
            _LOGGER.debug("%s: %s", self.path, problem.reason)
            # It may be another file by the time it is tried again.
            self._close()
            return None, problem

    async def _show(self, problem: Problem | None) -> None:
        if problem is None:
            ir.async_delete_issue(self._hass, DOMAIN, ISSUE)
            return
        text = await async_message(
            self._hass, problem.key, path=problem.path, reason=await async_in_words(self._hass, problem.reason)
        )
        _LOGGER.error("Alarms cannot be stored: %s (%s)", problem.key, problem.reason)
        ir.async_create_issue(
            self._hass,
            DOMAIN,
            ISSUE,
            is_fixable=False,
            severity=ir.IssueSeverity.ERROR,
            translation_key=ISSUE,
            translation_placeholders={"problem": text},
        )


def _key(error: Exception) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL or getattr(error, "errno", None) == errno.ENOSPC:
        return "alarms_disk_full"
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return "alarms_in_use"
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return "alarms_damaged"
    if isinstance(error, sqlite3.NotSupportedError | ConfigError):
        return "alarms_newer"
    return "alarms_unusable"


def _reason(error: Exception) -> str:
    return error.text if isinstance(error, ConfigError) else str(error)


def _seconds(at: datetime) -> float:
    return at.timestamp()


def _body(one: Finding | JournalEntry) -> str:
    message = encode_findings([one], []) if isinstance(one, Finding) else encode_findings([], [one])
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"))


def _finding(body: str) -> Finding:
    ((found,), _) = decode_findings(json.loads(body))
    return found


def _entry(body: str) -> JournalEntry:
    (_, (found,)) = decode_findings(json.loads(body))
    return found
