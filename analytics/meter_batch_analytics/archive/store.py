"""The store: takes changes of the ledger into month files, compacts them, rolls them up. One writer, many readers.

Whatever it does, new files come first, the manifest after them and the removal of old files last: killed at any step it
is in the state before or after.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from itertools import groupby
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meter_batch_engine.model.interval import Changes
from meter_batch_engine.wire import RegistrySnapshot, decode_registry, encode_registry

from ..errors import ArchiveError
from ..periods import zone_of
from . import durable, manifest
from .files import POINTS_IN_GROUP, Files, same
from .keys import Crypto, KeyProvider
from .manifest import Cursor, FileEntry, Manifest, Month, Part, Year
from .merge import tables_of_month, winners
from .rollup import gathered, starts_of
from .rows import Tables, normal, ordered, tables_of
from .schema import OTHER, ROLL_UP, ROWS, VERSION

MOST_PARTS = 64
LEAST_ROWS = 50_000
"""A month is compacted once its parts are so many, or hold so many rows and a quarter of the base's."""
DAY_S = 86400.0
ROWS_AT_ONCE = 100_000
REGISTRY = "registry.parquet"
_FOLDERS = ("intervals", "other", "recent", "days", "months")


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of changes."""

    rows: int = 0
    months: int = 0
    again: bool = False
    """They were the last ones once more; nothing was written."""
    older: bool = False
    """Their revision is older than what is here: the ledger was brought back from a backup."""


class Archive:
    """The opened archive. A folder without a manifest becomes one where `time_zone` says the site's."""

    def __init__(
        self,
        folder: Path,
        *,
        time_zone: str | None = None,
        keys: KeyProvider | None = None,
        writing: bool = False,
    ) -> None:
        self.folder = Path(folder)
        self._lock: Any = None
        if self.folder.exists() and not self.folder.is_dir():
            raise ArchiveError(f"{self.folder} is a file: an archive is a folder")
        if writing and time_zone is None and manifest.load(self.folder) is None:
            # Before the lock, which would make the folder.
            raise ArchiveError(f"there is no archive in {self.folder}")
        if writing:
            with durable.failures(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(self.folder / "lock")
        try:
            self._open(time_zone, keys)
            if writing:
                self.sweep()
        except BaseException:
            self.close()
            raise

    def _open(self, time_zone: str | None, keys: KeyProvider | None) -> None:
        found = manifest.load(self.folder)
        if found is None:
            if time_zone is None or self._lock is None:
                raise ArchiveError(f"there is no archive in {self.folder}")
            if any((self.folder / name).exists() for name in _FOLDERS):
                raise ArchiveError(
                    f"{self.folder} holds files of an archive and no manifest: bring {manifest.NAME} back "
                    "from a backup, or choose another folder"
                )
            crypto = None if keys is None else Crypto(keys.key())
            found = Manifest(zone_of(time_zone).key, key=None if crypto is None else crypto.fingerprint)
            manifest.save(self.folder, found)
        self.manifest = found
        self.files = Files(self.folder, self._crypto(keys))

    def _crypto(self, keys: KeyProvider | None) -> Crypto | None:
        if self.manifest.key is None:
            if keys is not None:
                raise ArchiveError(
                    f"the archive in {self.folder} is not encrypted: leave the key out, or start a new one"
                )
            return None
        if keys is None:
            raise ArchiveError(f"the archive in {self.folder} is encrypted: say where its key is")
        crypto = Crypto(keys.key())
        if crypto.fingerprint != self.manifest.key:
            raise ArchiveError(f"this is not the key of the archive in {self.folder}: it was made with another one")
        return crypto

    def close(self) -> None:
        """Lets others write."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def zone(self) -> tzinfo:
        """The site's time zone: days and months of the roll-ups are its own."""
        return zone_of(self.manifest.time_zone)

    def refresh(self) -> None:
        """Looks again at what the writer has made of it."""
        found = manifest.load(self.folder)
        if found is None:
            raise ArchiveError(f"there is no archive in {self.folder} any more")
        self.manifest = found

    def registry(self) -> RegistrySnapshot | None:
        """Points and names as they were last seen."""
        text = self.files.read_text(REGISTRY)
        return None if text is None else decode_registry(json.loads(text))

    def points(self) -> list[str]:
        """Ids of all points that have rows."""
        found: set[str] = set()
        for month in self.manifest.months.values():
            for part in month.all():
                found.update(pc.unique(self.files.read(part.rows, ROWS, columns=["point"])["point"]).to_pylist())
        return sorted(found)

    # --- writing

    def keep_registry(self, registry: RegistrySnapshot) -> None:
        """Remembers points and names, for whoever reads without Home Assistant."""
        if registry != self.registry():
            self.files.write_text(REGISTRY, json.dumps(encode_registry(registry), ensure_ascii=False))

    def move(self, time_zone: str) -> bool:
        """The site is in another time zone: roll-ups are made anew by compacting; until then they are not used.

        Returns whether that was news.
        """
        if zone_of(time_zone).key == self.manifest.time_zone:
            return False
        months = {name: Month(parts=month.all()) for name, month in self.manifest.months.items()}
        self._commit(self.manifest.next(time_zone=time_zone, months=months, years={}))
        return True

    def cursor(self, subscriber: str) -> Cursor:
        """How far a subscriber's changes are here, durably."""
        return self.manifest.cursors.get(subscriber, Cursor())

    def take(self, subscriber: str, changes: Changes) -> Taken:
        """Changes of the ledger, in the order in which they are given out. Once it returns they may be acknowledged.

        Of an interval the last word counts; what is withdrawn goes. The last changes once more change nothing.
        """
        before = self.cursor(subscriber)
        rows, other = tables_of(changes.intervals)
        cursor = Cursor(changes.revision, changes.cursor, _digest(rows, other))
        if cursor == before:
            return Taken(again=True)
        months = dict(self.manifest.months)
        touched = 0
        for name, tables in _by_month(rows, other):
            part = self._part(name, tables)
            known = months.get(name, Month())
            months[name] = replace(known, parts=(*known.parts, part))
            touched += 1
        cursors = self.manifest.cursors | {subscriber: cursor}
        self._commit(self.manifest.next(months=months, cursors=cursors))
        return Taken(rows.num_rows, touched, older=changes.revision < before.revision)

    def _part(self, name: str, tables: Tables) -> Part:
        rows, other = tables
        stem = f"{_folder('recent', name)}/%s-{self.manifest.sequence + 1:06d}.parquet"
        entry = self.files.write(stem % "rows", _cut(rows), ROWS)
        assert entry is not None
        part = Part(entry, self.files.write(stem % "other", _cut(other), OTHER))
        # Acknowledging lets the ledger forget: only after what is on the disk was seen to be the same.
        good = same(self.files.read(entry, ROWS), rows)
        if part.other is not None:
            good = good and same(self.files.read(part.other, OTHER), other)
        if not good:
            raise ArchiveError(f"{entry.path} does not hold what was written to it: is the disk broken?")
        return part

    def due(self, *, idle: bool = False, now: float | None = None) -> list[str]:
        """Months to be compacted: because of their parts, or where there is time for it what is a day old."""
        found = []
        for name, month in self.manifest.months.items():
            rows = sum(one.rows.rows for one in month.parts)
            base = month.base.rows.rows if month.base else 0
            if len(month.parts) >= MOST_PARTS or rows >= max(LEAST_ROWS, base // 4):
                found.append(name)
            elif idle and month.parts:
                with durable.failures(self.folder):
                    made = (self.folder / month.parts[0].rows.path).stat().st_mtime
                if (time.time() if now is None else now) - made >= DAY_S:
                    found.append(name)
        return sorted(found)

    def compact(self, names: Collection[str] | None = None) -> int:
        """Makes one base of each month and the roll-ups of it; all months that have parts where none are named.

        A year at a time: its roll-ups are one file each.
        """
        months = self.manifest.months
        if names is None:
            names = [name for name, month in months.items() if month.parts]
        # A year's roll-ups are of one version: where they are older, all its months are made anew.
        old = {year for year, one in self.manifest.years.items() if one.days.schema < VERSION}
        renewed = old & {name[:4] for name in names}
        names = {*names, *(name for name in months if name[:4] in renewed)}
        for year, some in groupby(sorted(names), key=lambda name: name[:4]):
            self._compact(year, list(some))
        return len(names)

    def migrate(self) -> int:
        """Writes files of an older schema anew; returns how many months that were."""
        old = [
            name
            for name, month in self.manifest.months.items()
            if any(entry.schema < VERSION for part in month.all() for entry in part.files())
        ]
        self.compact(old)
        if self.manifest.schema < VERSION:
            self._commit(self.manifest.next(schema=VERSION))
        return len(old)

    def _compact(self, year: str, names: Sequence[str]) -> None:
        number = f"{self.manifest.sequence + 1:06d}"
        months = dict(self.manifest.months)
        days: list[pa.Table] = []
        sums: list[pa.Table] = []
        for name in names:
            part, mine = self._base(name, number)
            if part is None:
                del months[name]
                continue
            months[name] = Month(part)
            day = pa.concat_tables(mine)
            days.append(_of_month(day, name))
            sums.append(_of_month(gathered(day, "month", self.zone), name))
        known = self.manifest.years.get(year)
        entries = [
            self._rolled_up(kind, year, number, before, tables, names)
            for kind, before, tables in (
                ("days", None if known is None else known.days, days),
                ("months", None if known is None else known.months, sums),
            )
        ]
        years = dict(self.manifest.years)
        if entries[0] is None or entries[1] is None:
            years.pop(year, None)
        else:
            years[year] = Year(entries[0], entries[1])
        self._commit(self.manifest.next(months=months, years=years))

    def _base(self, name: str, number: str) -> tuple[Part | None, list[pa.Table]]:
        """Writes the new base of a month; its days by groups of points are given back."""
        days: list[pa.Table] = []
        beside: list[pa.Table] = []

        def groups() -> Iterator[pa.Table]:
            for rows, other in tables_of_month(self.files, self.manifest.months[name]):
                rows = normal(rows)
                days.append(gathered(rows, "day", self.zone))
                if other.num_rows:
                    beside.append(other)
                yield rows

        entry = self.files.write(f"{_folder('intervals', name)}/intervals-{number}.parquet", groups(), ROWS)
        if entry is None:
            return None, days
        return Part(entry, self.files.write(f"{_folder('other', name)}/other-{number}.parquet", beside, OTHER)), days

    def _rolled_up(
        self,
        kind: str,
        year: str,
        number: str,
        before: FileEntry | None,
        tables: Sequence[pa.Table],
        names: Sequence[str],
    ) -> FileEntry | None:
        """Writes a year's roll-ups, with those of some months anew."""
        whole = list(tables)
        if before is not None:
            old = self.files.read(before, ROLL_UP)
            again = pa.array([month_index(name) for name in names], pa.int32())
            whole.append(old.filter(pc.invert(pc.is_in(old["month"], again))))
        if not whole:
            return None
        table = ordered(pa.concat_tables(whole).unify_dictionaries(), "month")
        path = f"{kind}/year={year}/{kind}-{number}.parquet"
        return self.files.write(path, by_points(table) if kind == "days" else [table], ROLL_UP)

    def _commit(self, new: Manifest) -> None:
        if self._lock is None:
            raise ArchiveError(f"the archive in {self.folder} was opened for reading only")
        with durable.failures(self.folder / manifest.NAME):
            manifest.save(self.folder, new)
        gone = {entry.path for entry in self.manifest.files()} - {entry.path for entry in new.files()}
        self.manifest = new
        for path in gone:
            (self.folder / path).unlink(missing_ok=True)

    def sweep(self) -> list[str]:
        """Removes what an interrupted writer left behind; returns the paths."""
        mine = {entry.path for entry in self.manifest.files()}
        gone = []
        with durable.failures(self.folder):
            for path in sorted(one for name in _FOLDERS for one in (self.folder / name).rglob("*.*")):
                place = path.relative_to(self.folder).as_posix()
                if path.is_file() and place not in mine:
                    path.unlink()
                    gone.append(place)
            (self.folder / (manifest.NAME + durable.TEMPORARY)).unlink(missing_ok=True)
        return gone


def _of_month(table: pa.Table, name: str) -> pa.Table:
    """Roll-ups with the month that they were made from."""
    return table.append_column(ROLL_UP.field("month"), pa.array([month_index(name)] * table.num_rows, pa.int32()))


def month_index(name: str) -> int:
    """Year × 12 + month − 1 of "2026-01"."""
    return int(name[:4]) * 12 + int(name[5:]) - 1


def month_name(at_: datetime) -> str:
    """The month (UTC) of an instant: "2026-01"."""
    return f"{at_.year:04d}-{at_.month:02d}"


def by_points(table: pa.Table) -> Iterator[pa.Table]:
    """A table that is sorted by point in groups of ten points."""
    codes = table["point"].combine_chunks().indices.to_numpy() if table.num_rows else np.zeros(0, np.int32)
    firsts = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]])[::POINTS_IN_GROUP]
    for first, end in zip(firsts, [*firsts[1:], len(codes)], strict=True):
        yield table.slice(int(first), int(end - first))


def _cut(table: pa.Table) -> Iterable[pa.Table]:
    return (table.slice(first, ROWS_AT_ONCE) for first in range(0, table.num_rows, ROWS_AT_ONCE))


def _folder(kind: str, month: str) -> str:
    return f"{kind}/year={month[:4]}/month={month[5:]}"


def _by_month(rows: pa.Table, other: pa.Table) -> Iterator[tuple[str, Tables]]:
    """Rows by month, each sorted and with one row an interval: the last. Withdrawn ones stay, to take away others."""
    if not rows.num_rows:
        return
    rows = winners([rows], withdrawn=True)
    months, mine = _months(rows), _months(other)
    for number in np.unique(months):
        beside = other.filter(pa.array(mine == number))
        yield (
            f"{1970 + int(number) // 12:04d}-{int(number) % 12 + 1:02d}",
            (rows.filter(pa.array(months == number)), beside),
        )


def _months(table: pa.Table) -> Any:
    return starts_of(table).astype("datetime64[ms]").astype("datetime64[M]").astype(np.int64)


def _digest(*tables: pa.Table) -> str:
    digest = hashlib.sha256()
    for table in tables:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table.combine_chunks())
        digest.update(sink.getvalue())
    return digest.hexdigest()


def _locked(path: Path) -> Any:
    """The lock of the one writer; the system takes it back when the process ends."""
    with durable.failures(path):
        file = path.open("a+")
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise ArchiveError(f"another process writes to the archive in {path.parent}: stop it first") from error
    return file
