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
"""Hours out of a meter's memory are written together when for so long no more came …"""
LONGEST = timedelta(minutes=3)
"""… or the first of them has waited for so long: reading a year in minutes and writing it want the same processor."""
PATIENCE = timedelta(minutes=15)
"""So long estimated hours wait for the memory of the meter. A slow wire may need days: their estimates, of which the
days and months are true already, are shown meanwhile.
"""


@dataclass(slots=True)
class Wait:
    """Of one point."""

    first: int
    last: int
    """Hours (seconds since 1970) between which some wait."""
    registers: set[Obis]
    soon: set[int] = field(default_factory=set)
    """Those that are looked at with the next gathering; others when patience ends or nothing more will come."""
    since: datetime | None = None
    """When the first of `soon` came, and"""
    until: datetime | None = None
    """when the last did."""
    estimated: datetime | None = None
    """Since when hours wait that are only estimated."""

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

    def add(self, point: str, hours: Collection[int], registers: Iterable[Obis], now: datetime) -> None:
        """These hours wait."""
        wait = self.points.setdefault(point, Wait(min(hours), max(hours), set()))
        wait.first, wait.last = min(wait.first, *hours), max(wait.last, *hours)
        wait.registers.update(registers)
        wait.soon.update(hours)
        wait.since, wait.until = wait.since or now, now

    def patient(self, point: str, now: datetime) -> bool:
        """Whether estimated hours of this point are still to wait; they do from the first time this is asked."""
        wait = self.points.get(point)
        return wait is None or wait.estimated is None or now - wait.estimated < PATIENCE

    def due(self, point: str, now: datetime) -> bool:
        """Whether what was gathered is to be written, or patience has an end."""
        wait = self.points[point]
        if wait.estimated is not None and not self.patient(point, now):
            wait.soon = wait.hours
            return True
        if wait.since is None or wait.until is None:
            return bool(wait.soon)
        return bool(wait.soon) and (now - wait.until >= GATHER or now - wait.since >= LONGEST)

    def written(self, point: str, left: Collection[int], now: datetime, *, all_: bool) -> None:
        """What was due of a point is written, but for what is `left`."""
        wait = self.points[point]
        if all_ and not left:
            del self.points[point]
            return
        if all_:
            wait.first, wait.last = min(left), max(left)
        wait.soon, wait.since, wait.until = set(), None, None
        wait.estimated = (wait.estimated or now) if left else None
