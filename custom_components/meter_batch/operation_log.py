"""The append-only log of who changed what (JSON lines): every entry is on the disk before the change takes effect."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from homeassistant.core import HomeAssistant
from homeassistant.util import dt as dt_util

from .access import Actor

FILE = ("meter_batch", "operations.jsonl")
TAIL_BYTES = 4 << 20


class OperationLog:
    """Entries are only ever added. A line cut short by a power failure is left as it is and skipped on reading."""

    def __init__(self, hass: HomeAssistant) -> None:
        self.path = Path(hass.config.path(*FILE))
        self._hass = hass
        self._lock = asyncio.Lock()

    async def async_write(self, actor: Actor, action: str, **details: Any) -> None:
        """Adds one entry and waits until it is on the disk; OSError where the disk does not take it.

        `details` must be JSON values, by custom `before` and `after`.
        """
        entry = {
            "at": dt_util.utcnow().isoformat(),
            "user": actor.id,
            "who": actor.name,
            "action": action,
            **details,
        }
        async with self._lock:
            await self._hass.async_add_executor_job(self._append, entry)

    def _append(self, entry: dict[str, Any]) -> None:
        # a list of a thousand points is megabytes
        line = (json.dumps(entry, ensure_ascii=False, separators=(",", ":")) + "\n").encode()
        self.path.parent.mkdir(exist_ok=True)
        with self.path.open("ab") as file:
            if file.tell() and not _ends_with_newline(self.path):
                file.write(b"\n")
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    async def async_read(self, limit: int = 100) -> list[dict[str, Any]]:
        """The newest entries, newest first."""
        return await self._hass.async_add_executor_job(self._tail, limit)

    def _tail(self, limit: int) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            lines = file.read().splitlines()
        found: list[dict[str, Any]] = []
        for line in reversed(lines):
            if len(found) == limit:
                break
            try:
                found.append(json.loads(line))
            except ValueError:
                continue  # cut short by a power failure, or by where we began to read
        return found


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
