"""What belongs to an archive: its files with their checksums, and how far it has followed the ledger.

The manifest is replaced as a whole and last of all: what it names is the archive, whatever else lies in the folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import ArchiveError
from .durable import failures, write
from .schema import VERSION

NAME = "manifest.json"
FORMAT = "meter-batch-archive"


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file: path below the archive, and what must be found in it. Instants are ISO 8601, UTC."""

    path: str
    schema: int
    sha256: str
    bytes: int
    rows: int
    first: str
    last: str
    """Start of its oldest and newest row."""
    revisions: tuple[int, int]
    """Least and greatest revision of the ledger in it."""


@dataclass(frozen=True, slots=True)
class Part:
    """Rows with the file of the registers that have no column, where there are any."""

    rows: FileEntry
    other: FileEntry | None = None

    def files(self) -> Iterator[FileEntry]:
        """Both."""
        yield self.rows
        if self.other is not None:
            yield self.other


@dataclass(frozen=True, slots=True)
class Month:
    """A month (UTC): what was compacted, and the parts that came since, oldest first: later rows replace earlier."""

    base: Part | None = None
    parts: tuple[Part, ...] = ()

    def all(self) -> tuple[Part, ...]:
        """Base and parts, in the order in which they replace each other."""
        return ((self.base,) if self.base else ()) + self.parts

    @property
    def rows(self) -> int:
        """At most; what is replaced is counted as well."""
        return sum(one.rows.rows for one in self.all())


@dataclass(frozen=True, slots=True)
class Year:
    """Roll-ups of the year's compacted months, in the site's time zone."""

    days: FileEntry
    months: FileEntry


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a subscriber's changes are in the archive; `digest` is that of the last ones."""

    revision: int = 0
    cursor: str | None = None
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """One state of an archive."""

    time_zone: str
    sequence: int = 0
    schema: int = VERSION
    key: str | None = None
    """Fingerprint of the key it is encrypted with."""
    cursors: dict[str, Cursor] = field(default_factory=dict)
    months: dict[str, Month] = field(default_factory=dict)
    """By "2026-01"."""
    years: dict[str, Year] = field(default_factory=dict)

    def files(self) -> Iterator[FileEntry]:
        """All that belong to it."""
        for month in self.months.values():
            for part in month.all():
                yield from part.files()
        for year in self.years.values():
            yield from (year.days, year.months)

    def next(self, **changes: Any) -> Manifest:
        """The state after this one."""
        return replace(self, sequence=self.sequence + 1, **changes)


def load(folder: Path) -> Manifest | None:
    """The manifest of a folder, None where there is none; ArchiveError where it is damaged or newer."""
    path = folder / NAME
    try:
        with failures(path):
            text = path.read_bytes()
    except ArchiveError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise
    try:
        data = json.loads(text)
        body, checksum = data["archive"], data["sha256"]
        form, schema = body.pop("format"), body["schema"]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ArchiveError(f"{path} is damaged: bring it back from a backup") from error
    if form != FORMAT:
        raise ArchiveError(f"{path} is the manifest of something else")
    if schema > VERSION:
        raise ArchiveError(
            f"{path} was written by a newer Meter Batch (schema {schema}, this one knows {VERSION}): update this one"
        )
    if checksum != _checksum({"format": form, **body}):
        raise ArchiveError(f"{path} is damaged (its checksum is wrong): bring it back from a backup")
    return Manifest(
        time_zone=body["time_zone"],
        sequence=body["sequence"],
        schema=schema,
        key=body["key"],
        cursors={name: Cursor(**one) for name, one in body["cursors"].items()},
        months={
            name: Month(None if one["base"] is None else _part(one["base"]), tuple(map(_part, one["parts"])))
            for name, one in body["months"].items()
        },
        years={name: Year(_entry(one["days"]), _entry(one["months"])) for name, one in body["years"].items()},
    )


def save(folder: Path, manifest: Manifest) -> None:
    """Makes a manifest the present one, durably."""
    body = {"format": FORMAT, **asdict(manifest)}
    text = json.dumps({"archive": body, "sha256": _checksum(body)}, indent=1)
    write(folder / NAME, lambda sink: sink.write(text.encode()))


def _checksum(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _entry(data: dict[str, Any]) -> FileEntry:
    return FileEntry(**{**data, "revisions": tuple(data["revisions"])})


def _part(data: dict[str, Any]) -> Part:
    return Part(_entry(data["rows"]), None if data["other"] is None else _entry(data["other"]))
