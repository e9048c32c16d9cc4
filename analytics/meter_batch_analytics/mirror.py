"""What the analytics server keeps of Home Assistant beside the archive: registry, gaps and alarms, as last seen.

Kernels and reports read it instead of asking, so that they need no token and work while Home Assistant is away.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from meter_batch_engine.errors import ConfigError
from meter_batch_engine.model.interval import Gap, GapReason
from meter_batch_engine.wire import RegistrySnapshot, decode_registry

from .archive import durable

REGISTRY, GAPS, ALARMS = "registry", "gaps", "alarms"
PARTS = (REGISTRY, GAPS, ALARMS)


class Mirror:
    """The folder of the mirror. A part that was never seen is empty; one that is damaged a ConfigError."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, part: str, message: Any, at: datetime) -> None:
        """Replaces a part by what Home Assistant answered; wholly or not at all. ArchiveError where the disk fails."""
        data = json.dumps({"at": at.isoformat(), "message": message}, ensure_ascii=False).encode()
        path = self._path(part)
        with durable.failures(path, "the mirror of Home Assistant"):
            durable.write(path, lambda sink: sink.write(data))

    def registry(self) -> RegistrySnapshot | None:
        """Points and names; None where it was never seen."""
        return self._read(REGISTRY, decode_registry, None)

    def gaps(self) -> list[Gap]:
        """All gaps that the ledger knows."""
        return self._read(GAPS, lambda message: [_gap(one) for one in message], [])

    def alarms(self) -> list[Any]:
        """Findings of the last 400 days, active and past."""
        from meter_batch_engine.wire import decode_findings

        return self._read(ALARMS, lambda message: list(decode_findings(message)[0]), [])

    @property
    def at(self) -> datetime | None:
        """When the registry was seen last."""
        found = self._load(REGISTRY)
        return None if found is None else datetime.fromisoformat(found["at"])

    def _path(self, part: str) -> Path:
        return self.folder / f"{part}.json"

    def _load(self, part: str) -> Any:
        try:
            return json.loads(self._path(part).read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ConfigError(f"{self._path(part)} cannot be read: {error}. Remove it: it is made anew") from error

    def _read[T](self, part: str, decode: Callable[[Any], T], empty: T) -> T:
        found = self._load(part)
        if found is None:
            return empty
        try:
            return decode(found["message"])
        except (LookupError, TypeError, ValueError) as error:
            raise ConfigError(
                f"{self._path(part)} holds something else: {error}. Remove it: it is made anew"
            ) from error


def _gap(one: dict[str, Any]) -> Gap:
    return Gap(
        one["point"],
        datetime.fromisoformat(one["since"]).astimezone(UTC),
        None if one["until"] is None else datetime.fromisoformat(one["until"]).astimezone(UTC),
        GapReason(one["reason"]),
        one["missing"],
        None if one["recoverable_until"] is None else datetime.fromisoformat(one["recoverable_until"]),
    )
