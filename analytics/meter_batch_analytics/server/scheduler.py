"""Puts what schedules ask for into the queue, and tells them what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from .settings import Settings


class Scheduler:
    """The schedules of `schedules.toml`."""

    def __init__(self, settings: Settings, add: Callable[[Mapping[str, Any]], Any]) -> None:
        self._settings, self._add = settings, add

    def as_list(self) -> list[dict[str, Any]]:
        """The schedules as they are planned."""
        return []

    async def look(self, now: datetime) -> str | None:
        """Starts what is due; what is wrong with the file, in words."""
        return None
