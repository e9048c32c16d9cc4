"""Proof over a whole archive: every file is what was written, and roll-ups are what their intervals add up to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import ArchiveError
from . import durable
from .files import same
from .manifest import FileEntry
from .rollup import at, gathered, starts_of
from .rows import codes_of
from .schema import OTHER, PERIODS, ROLL_UP, ROWS, VERSION
from .store import Archive, month_index, month_name

MOST_NAMED = 100
"""So many failures are named; all are counted."""


@dataclass(slots=True)
class Verdict:
    """What was looked at and what is wrong; `ok` where nothing is."""

    files: int = 0
    bytes: int = 0
    rows: int = 0
    roll_ups: int = 0
    """Rows of roll-ups that were worked out anew."""
    failures: int = 0
    named: list[str] = field(default_factory=list)
    """The first failures, in plain English, each with its file."""

    @property
    def ok(self) -> bool:
        """Whether the archive is whole."""
        return self.failures == 0

    def fail(self, what: str) -> None:
        """Counts a failure."""
        self.failures += 1
        if len(self.named) < MOST_NAMED:
            self.named.append(what)


def verify(archive: Archive, progress: Callable[[str], None] = lambda _: None) -> Verdict:
    """Reads every byte and every row; changes nothing."""
    verdict = Verdict()
    whole = [entry for entry in archive.manifest.files() if _bytes(archive, entry, verdict)]
    good = {entry.path for entry in whole}
    for name, month in sorted(archive.manifest.months.items()):
        progress(name)
        for part in month.all():
            if part.rows.path in good:
                _rows(archive, part.rows, name, verdict)
            if part.other is not None and part.other.path in good:
                _counted(part.other, archive.files.read(part.other, OTHER), verdict)
        if month.base is not None and month.base.rows.path in good:
            _roll_up(archive, name, month.base.rows, good, verdict)
    for year in archive.manifest.years.values():
        for entry in (year.days, year.months):
            if entry.path in good:
                _counted(entry, archive.files.read(entry, ROLL_UP, columns=["start", "revision"]), verdict)
    return verdict


def _bytes(archive: Archive, entry: FileEntry, verdict: Verdict) -> bool:
    verdict.files += 1
    path = archive.folder / entry.path
    try:
        with durable.failures(path):
            size = path.stat().st_size
            checksum = durable.sha256(path)
    except ArchiveError as error:
        verdict.fail(f"{entry.path}: {error}")
        return False
    verdict.bytes += size
    if size != entry.bytes:
        verdict.fail(f"{entry.path} has {size} bytes, {entry.bytes} were written: bring it back from a backup")
        return False
    if checksum != entry.sha256:
        verdict.fail(f"{entry.path} is not what was written (its checksum is wrong): bring it back from a backup")
        return False
    return True


def _rows(archive: Archive, entry: FileEntry, name: str, verdict: Verdict) -> None:
    before = ("", -(2**62))
    tables = []
    try:
        with archive.files.open(entry, ROWS) as file:
            for table in file.groups(ROWS, None, ["point", "start", "revision", "flags"]):
                verdict.rows += table.num_rows
                tables.append(table.select(["start", "revision"]))
                codes, names = codes_of(table["point"])
                starts = starts_of(table)
                first, last = (str(names[codes[0]]), int(starts[0])), (str(names[codes[-1]]), int(starts[-1]))
                step = np.diff(codes)
                if (step < 0).any() or ((step == 0) & (np.diff(starts) <= 0)).any() or first <= before:
                    verdict.fail(f"{entry.path}: rows are not in order, or there are two of one interval")
                before = last
                if {month_name(at(int(one))) for one in (starts.min(), starts.max())} != {name}:
                    verdict.fail(f"{entry.path}: rows of another month than {name}")
    except ArchiveError as error:
        verdict.fail(str(error))
        return
    _counted(entry, pa.concat_tables(tables), verdict)


def _counted(entry: FileEntry, table: pa.Table, verdict: Verdict) -> None:
    starts = pc.min_max(table["start"].cast(pa.int64())).as_py()
    said = (entry.rows, entry.first, entry.last)
    found = (table.num_rows, at(starts["min"]).isoformat(), at(starts["max"]).isoformat())
    if said != found:
        verdict.fail(f"{entry.path}: the manifest says {said}, there are {found}")
    if "revision" in table.column_names:
        reach = pc.min_max(table["revision"]).as_py()
        if tuple(entry.revisions) != (reach["min"], reach["max"]):
            verdict.fail(f"{entry.path}: revisions are {reach['min']} to {reach['max']}, the manifest says otherwise")


def _roll_up(archive: Archive, name: str, base: FileEntry, good: set[str], verdict: Verdict) -> None:
    year = archive.manifest.years.get(name[:4])
    if year is None:
        verdict.fail(f"the roll-ups of {name} are missing")
        return
    if not {year.days.path, year.months.path} <= good:
        return
    with archive.files.open(base, ROWS) as file:
        days = [gathered(table, "day", archive.zone) for table in file.groups(ROWS, None)]
    day = pa.concat_tables(days)
    for entry, anew in ((year.days, day), (year.months, gathered(day, "month", archive.zone))):
        stored = archive.files.read(entry, ROLL_UP)
        # Versions before lack columns of periods; they are not used for reading either.
        columns = [one for one in PERIODS.names if entry.schema == VERSION or one != "covered_s"]
        stored = stored.filter(pc.equal(stored["month"], month_index(name))).select(columns)
        verdict.roll_ups += anew.num_rows
        if not same(stored, anew.select(columns)):
            verdict.fail(f"{entry.path}: {name} is not what its intervals add up to")
