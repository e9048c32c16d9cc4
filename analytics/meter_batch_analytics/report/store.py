"""The folder of reports: each in a folder of its own, there as a whole or not at all."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from ..archive import durable
from ..errors import ReportError
from .codec import decoded, encoded
from .facts import Facts

_LOGGER = logging.getLogger(__name__)

NAME = "report.json"
FACTS = "facts.json"
"""All that the report says, as `Facts.as_dict()`."""
VERSION = 1
MOST = 2000
"""Reports of all kinds together; the oldest go first."""
OLD_S = 86_400.0

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,120}")
_BEGUN = ".begun-"


@dataclass(frozen=True, slots=True)
class ReportFile:
    """A file of a report."""

    name: str
    format: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Report:
    """A report that was made."""

    id: str
    kind: str
    period: str
    title: str
    language: str
    made_at: datetime
    points: tuple[str, ...] | None
    """Ids of the points it speaks of; None: of the whole site."""
    files: tuple[ReportFile, ...]
    schedule: str | None = None
    by: str | None = None
    completeness: float = 0.0
    facts: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)
    """Key figures: kwh, cost, currency, demand_max_kw, demand_at, alarms, over, estimated_share."""
    version: int = VERSION

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        found: dict[str, Any] = encoded(self)
        return found

    def visible(self, scope: frozenset[str] | None) -> bool:
        """Whether someone with this scope (None: all points) may see it."""
        return scope is None or (self.points is not None and scope.issuperset(self.points))


class ReportStore:
    """The reports of a folder. ReportError in words."""

    def __init__(self, folder: Path, *, new_id: Callable[[], str] = lambda: secrets.token_hex(4)) -> None:
        self.folder, self._new_id = Path(folder), new_id

    def keep(
        self,
        facts: Facts,
        title: str,
        language: str,
        make: Callable[[Path], Sequence[Path]],
        *,
        schedule: str | None = None,
        by: str | None = None,
        points: Sequence[str] | None = None,
        most: int | None = None,
    ) -> Report:
        """Lets `make` write the files of a report into the folder it is given, and keeps them.

        `points`: whom it speaks of where that is not `facts.chosen`. Of a schedule: what it made of the same period and
        language before goes, and of all it made only the newest `most` stay. Whatever fails, nothing is left behind.
        """
        id_ = f"{facts.kind}-{facts.period}-{language.lower()}-{self._new_id()}"
        begun = self.folder / f"{_BEGUN}{id_}"
        try:
            with failures(self.folder):
                begun.mkdir(parents=True)
                files = tuple(_described(path, begun) for path in make(begun))
                report = Report(
                    id_, facts.kind, facts.period, title, language, facts.made_at,
                    tuple(points) if points is not None else facts.chosen, files, schedule, by, facts.completeness,
                    figures(facts),
                )  # fmt: skip
                _write(begun / FACTS, facts.as_dict())
                _write(begun / NAME, report.as_dict())
                durable.sync_folder(begun)
                begun.rename(self.folder / id_)
                durable.sync_folder(self.folder)
        finally:
            shutil.rmtree(begun, ignore_errors=True)
        with failures(self.folder):
            self._sweep()
            self._retain(report, most)
        return report

    def list(self, scope: frozenset[str] | None = None) -> list[Report]:
        """The reports that a scope may see, newest first. What is damaged is left out, and logged."""
        found = []
        for folder in self._folders():
            try:
                found.append(self._read(folder))
            except ReportError as error:
                _LOGGER.warning("%s", error)
        found.sort(key=lambda one: (one.made_at, one.id), reverse=True)
        return [one for one in found if one.visible(scope)]

    def get(self, id_: str) -> Report:
        """One report; ReportError where there is none."""
        folder = self.folder / id_
        if not _ID.fullmatch(id_) or not (folder / NAME).is_file():
            raise ReportError(f'there is no report "{id_}"; it may have been removed')
        return self._read(folder)

    def path(self, id_: str, name: str) -> Path:
        """A file of a report; ReportError where there is none of that name."""
        if name not in (one.name for one in self.get(id_).files):
            raise ReportError(f'the report "{id_}" has no file "{name}"')
        return self.folder / id_ / name

    def facts(self, id_: str) -> Facts:
        """All that a report says."""
        self.get(id_)
        with failures(self.folder):
            return Facts.from_dict(_json(self.folder / id_ / FACTS))

    def delete(self, id_: str) -> bool:
        """Removes a report; whether there was one."""
        folder = self.folder / id_
        if not _ID.fullmatch(id_) or not folder.is_dir():
            return False
        with failures(self.folder):
            # First its name goes: half a report is never listed.
            gone = self.folder / f"{_BEGUN}{id_}-{self._new_id()}"
            folder.rename(gone)
            durable.sync_folder(self.folder)
            shutil.rmtree(gone)
        return True

    def _sweep(self) -> None:
        """Removes what was begun and never done: by a process that was killed, since nothing takes a day."""
        for one in self.folder.glob(f"{_BEGUN}*"):
            if one.stat().st_mtime < time.time() - OLD_S:
                shutil.rmtree(one, ignore_errors=True)

    def _retain(self, new: Report, most: int | None) -> None:
        reports = self.list()
        old = reports[MOST:]
        if new.schedule is not None:
            mine = [one for one in reports if one.schedule == new.schedule]
            old += [
                one
                for one in mine
                if one.id != new.id and (one.kind, one.period, one.language) == (new.kind, new.period, new.language)
            ]
            if most is not None:
                alike = [one for one in mine if one.language == new.language and one not in old]
                # By period: a report that is made anew is of its period, however late.
                alike.sort(key=lambda one: (one.id == new.id, one.period, one.made_at), reverse=True)
                old += alike[max(1, most) :]
        for one in {one.id for one in old}:
            self.delete(one)

    def _folders(self) -> Iterator[Path]:
        if self.folder.is_dir():
            for one in sorted(self.folder.iterdir()):
                if _ID.fullmatch(one.name) and (one / NAME).is_file():
                    yield one

    def _read(self, folder: Path) -> Report:
        with failures(self.folder):
            try:
                return decoded(Report, _json(folder / NAME), VERSION)
            except ReportError as error:
                raise ReportError(f"{folder / NAME}: {error}; the folder may be removed") from error


@contextmanager
def failures(path: Path) -> Iterator[None]:
    """Disk errors as ReportError, in words."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise ReportError(
                f"the disk is full ({path}): make room, then make the report again. Nothing of it was kept"
            ) from error
        raise ReportError(f"{error.filename or path}: {error.strerror or error}") from error


def _described(path: Path, folder: Path) -> ReportFile:
    """A file that was made, after it is safe on the disk."""
    if path.parent != folder:
        path = path.replace(folder / path.name)
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return ReportFile(path.name, path.suffix[1:], path.stat().st_size, durable.sha256(path))


def _write(path: Path, data: Mapping[str, Any]) -> None:
    with path.open("wb") as file:
        file.write(json.dumps(data, ensure_ascii=False, indent=1).encode())
        file.flush()
        os.fsync(file.fileno())


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise ReportError(f"{path} is damaged: {error}") from error


def figures(facts: Facts) -> dict[str, str | int | float | bool | None]:
    """The key figures of a report."""
    total, cost = facts.total, facts.cost
    return {
        "kwh": None if total.kwh is None else f"{total.kwh:f}",
        "cost": None if cost is None else f"{cost.total:f}",
        "currency": None if cost is None else cost.currency,
        "demand_max_kw": None if total.demand.max_kw is None else f"{total.demand.max_kw:f}",
        "demand_at": None if total.demand.at is None else total.demand.at.isoformat(),
        "alarms": len(facts.alarms),
        "over": facts.over,
        "estimated_share": total.estimated_share,
    }
