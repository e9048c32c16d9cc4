"""Hours that the statistics are to get later, because the memory of their meters is being read still.

It is on disk before the ledger is told that the statistics have what they wait for here; so nothing is forgotten.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from homeassistant.core import HomeAssistant
from homeassistant.helpers.storage import Store

from .const import DOMAIN
from .engine.model.obis import Obis
from .hourly import HOUR_S

GATHER = timedelta(minutes=1)
"""So long hours out of a meter's memory are gathered, to be written together."""
OUTAGE = timedelta(minutes=15)
"""So long the estimated hours of an outage wait for the memory of the meter."""


@dataclass(slots=True)
class Wait:
    """Of one point."""

    first: int
    last: int
    """Hours (seconds since 1970) between which some wait."""
    registers: set[Obis]
    soon: set[int] = field(default_factory=set)
    """Of these, the hours that are looked at with the next gathering; the others when nothing more will come."""
    since: datetime | None = None
    """When the oldest of `soon` came."""
    outage: datetime | None = None
    """Since when hours of an outage wait."""

    @property
    def hours(self) -> set[int]:
        """All of them, and what lies between."""
        return set(range(self.first, self.last + HOUR_S, HOUR_S))


class Waiting:
    """Of all points."""

    def __init__(self, hass: HomeAssistant) -> None:
        self._store: Store[dict[str, Any]] = Store(hass, 1, f"{DOMAIN}.statistics", atomic_writes=True)
        self.points: dict[str, Wait] = {}
        self._saved: dict[str, Any] = {}

    async def async_load(self) -> None:
        """What waited when we ended: all of it is to be looked at, for what was gathered is not known any more."""
        self._saved = await self._store.async_load() or {}
        for point, (first, last, registers) in self._saved.items():
            wait = Wait(first, last, set(registers))
            wait.soon = wait.hours
            self.points[point] = wait

    async def async_save(self) -> None:
        """Until this is done, nothing that waits here may be forgotten elsewhere."""
        now = {id_: [one.first, one.last, sorted(one.registers)] for id_, one in self.points.items()}
        if now != self._saved:
            await self._store.async_save(now)
            self._saved = now

    def add(
        self, point: str, hours: Collection[int], registers: Iterable[Obis], now: datetime, *, soon: bool = True
    ) -> None:
        """These hours wait."""
        wait = self.points.setdefault(point, Wait(min(hours), max(hours), set()))
        wait.first, wait.last = min(wait.first, *hours), max(wait.last, *hours)
        wait.registers.update(registers)
        if soon:
            wait.soon.update(hours)
            wait.since = wait.since or now

    def outage(self, point: str, now: datetime) -> bool:
        """Whether hours of an outage of this point are still to wait; they do from the first time this is asked."""
        wait = self.points.get(point)
        return wait is None or wait.outage is None or now - wait.outage < OUTAGE

    def due(self, point: str, now: datetime) -> bool:
        """Whether what was gathered is to be written."""
        wait = self.points[point]
        return bool(wait.soon) and (wait.since is None or now - wait.since >= GATHER)

    def written(self, point: str, left: Collection[int], soon: Collection[int], now: datetime, *, all_: bool) -> None:
        """What was due of a point is written, but for what is `left`, some of it to be looked at `soon`."""
        wait = self.points[point]
        if all_ and not left:
            del self.points[point]
            return
        if all_:
            wait.first, wait.last = min(left), max(left)
        wait.soon, wait.since = set(soon), now if soon else None
        wait.outage = (wait.outage or now) if soon else None
