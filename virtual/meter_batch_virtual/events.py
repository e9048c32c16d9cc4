"""Event records of a DL/T 645 meter: what really happened to it by its faults, and what was set in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from meter_batch_engine.protocol.dlt645.bcd import encode_moment, encode_number

from .energies import Energy
from .episode import Episode
from .memory import Memory
from .parameters import Log, Parameters
from .physics import Physics

UNDERVOLTAGE, OVERVOLTAGE, PHASE_FAILURE, REVERSE_POWER, POWER_DOWN = 0x02, 0x03, 0x04, 0x0E, 0x11
STATES = {
    UNDERVOLTAGE: "undervoltage",
    OVERVOLTAGE: "overvoltage",
    PHASE_FAILURE: "phase_failure",
    REVERSE_POWER: "power_reverse",
}
"""Kinds of event that show in the status words of the phases."""
_UNDER, _OVER = 0.9, 1.1
"""Shares of the usual voltage at which a meter sees an event."""
KEPT = 10
_ON_PHASES = frozenset({0x01, 0x02, 0x03, 0x04, 0x0B, 0x0C, 0x0D, 0x0E, 0x0F})
_ON_METER = frozenset({0x05, 0x06, 0x07, 0x08, 0x09, 0x0A})
_LOGS = 0x30
_GAINED = (("import",), ("export",), ("q1", "q2"), ("q3", "q4"))
"""What a record says was counted while the event lasted."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened; `kind` is the second byte of its identifiers, `phase` 0 where it was the whole meter."""

    kind: int
    phase: int
    since: datetime
    until: datetime | None


def events_of(episodes: Iterable[Episode], phases: int) -> Iterator[Event]:
    """What a meter notices of what happens to it."""
    every = range(1, phases + 1)
    for one in episodes:
        fault = one.fault
        match fault.kind:
            case "reboot":
                yield Event(POWER_DOWN, 0, one.since, one.until)
            case "phase_lost":
                yield Event(PHASE_FAILURE, fault.phase, one.since, one.until)
            case "reversed":
                yield from (Event(REVERSE_POWER, phase, one.since, one.until) for phase in every)
            case "voltage" if not _UNDER <= fault.factor <= _OVER:
                kind = UNDERVOLTAGE if fault.factor < 1 else OVERVOLTAGE
                yield from (Event(kind, phase, one.since, one.until) for phase in every)


class EventLog:
    """The events of one meter: counts, minutes, and the last ten records of each kind and phase."""

    def __init__(self, episodes: Sequence[Episode], parameters: Parameters, physics: Physics, memory: Memory) -> None:
        cleared = [at for at in (parameters.events_cleared_at, memory.since) if at is not None]
        since = max(cleared, default=None)
        self._events = [one for one in events_of(episodes, physics.phases) if since is None or one.since >= since]
        self._logs = parameters.logs
        self._physics, self._memory = physics, memory

    def item(self, kind: int, phase: int, number: int, now: datetime) -> bytes | None:
        """The data of 03 kind phase number: counts for number 0, else a record, 1 the newest; None where there is none.

        A record that was never made reads 00.
        """
        if kind == _LOGS:
            return self._log(phase, number) if phase <= 0x0E else None
        if not number:
            return None if phase else self._counts(kind, now)
        fits = 1 <= phase <= 3 if kind in _ON_PHASES else phase == 0 and (kind in _ON_METER or kind == POWER_DOWN)
        if not fits or number > KEPT:
            return None
        found = self._of(kind, phase, now)
        return self._record(found[-number], now) if number <= len(found) else bytes(12 if kind == POWER_DOWN else 28)

    def states(self, phase: int, now: datetime) -> tuple[str, ...]:
        """What is going on in a phase, by the names of the status words."""
        going_on = {one.kind for one in self._events if one.phase == phase and one.since <= now and not _over(one, now)}
        return tuple(name for kind, name in STATES.items() if kind in going_on)

    def phase_failures(self, phase: int, now: datetime) -> tuple[int, int, Event | None]:
        """Count, minutes and the last one; of all phases for 0. So the edition of 1997 tells them."""
        found = [
            one for one in self._events if one.kind == PHASE_FAILURE and phase in (0, one.phase) and one.since <= now
        ]
        return len(found), self._minutes(found, now), found[-1] if found else None

    def logs(self, kind: int) -> list[Log]:
        """The records of a log, oldest first."""
        return [one for one in self._logs if one.kind == kind]

    def _of(self, kind: int, phase: int, now: datetime) -> list[Event]:
        return [one for one in self._events if (one.kind, one.phase) == (kind, phase) and one.since <= now]

    def _counts(self, kind: int, now: datetime) -> bytes | None:
        if kind == POWER_DOWN:
            return _number(len(self._of(kind, 0, now)))
        if kind in _ON_METER:
            return bytes(6)
        if kind not in _ON_PHASES:
            return None
        found = [self._of(kind, phase, now) for phase in (1, 2, 3)]
        return b"".join(_number(len(one)) + _number(self._minutes(one, now)) for one in found)

    def _minutes(self, events: Iterable[Event], now: datetime) -> int:
        lasted = (min(one.until or now, now) - one.since for one in events)
        return sum(lasted, timedelta()) // timedelta(minutes=1)

    def _record(self, event: Event, now: datetime) -> bytes:
        ended = event.until if _over(event, now) else None
        times = encode_moment(self._memory.wall(event.since), 6) + (
            bytes(6) if ended is None else encode_moment(self._memory.wall(ended), 6)
        )
        if event.kind == POWER_DOWN:
            return times
        gained = b""
        for kinds in _GAINED:
            register = Energy(kinds, (), 0, 0)
            more = self._physics.energy(register, ended or now) - self._physics.energy(register, event.since)
            gained += encode_number(more, 4, 2, False, register=True)
        return times + gained

    def _log(self, kind: int, number: int) -> bytes | None:
        found = self.logs(kind)
        if not number:
            return _number(len(found))
        if number > KEPT:
            return None
        return found[-number].content if number <= len(found) else bytes(10)


def _over(event: Event, now: datetime) -> bool:
    return event.until is not None and event.until <= now


def _number(value: int) -> bytes:
    return bytes.fromhex(f"{value % 10**6:06d}")[::-1]
