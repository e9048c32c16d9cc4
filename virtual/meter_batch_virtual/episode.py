"""What happens to the installation behind a meter: a lost phase, another voltage, another load, a reversed transformer.

It is the world that is another, not the meter: all registers, those that are kept and those that are true, follow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from .energies import Energy
from .fault import Fault
from .instant import Instant
from .load import TARIFFS
from .physics import Physics

KINDS = ("phase_lost", "voltage", "load", "reversed")
"""Faults that are episodes."""

_LEFT = 0.02
"""Share of the voltage that a lost phase still shows, induced by its neighbours."""
_TURNED = {
    one: other
    for pair in (("import", "export"), ("q1", "q3"), ("q2", "q4"), ("apparent_import", "apparent_export"))
    for one, other in (pair, pair[::-1])
}
_MICRO = 1_000_000


@dataclass(frozen=True, slots=True)
class Episode:
    """One fault at work from an instant on, `until` it ends."""

    fault: Fault
    since: datetime
    until: datetime | None = None

    def at(self, instant: datetime) -> bool:
        """Whether it is at work."""
        return self.since <= instant and (self.until is None or instant < self.until)


class Stricken(Physics):
    """A meter's physics with what happened to its installation; before the first episode the same to the digit."""

    def __init__(self, well: Physics, episodes: Sequence[Episode]) -> None:
        self.__dict__.update(well.__dict__)
        self.well = well
        self._episodes = tuple(episodes)
        self._instant = None
        self._counts = (None, {})
        self._stretches = tuple(self._cut())
        self._before: dict[tuple[str, int, datetime], int] = {}

    def _cut(self) -> Iterator[tuple[datetime, datetime, tuple[Fault, ...]]]:
        """Stretches of time with the same faults."""
        forever = datetime.max.replace(tzinfo=UTC)
        edges = sorted({edge for one in self._episodes for edge in (one.since, one.until or forever)})
        for since, until in pairwise(edges):
            if faults := tuple(one.fault for one in self._episodes if one.at(since)):
                yield since, until, faults

    def instant(self, at: datetime) -> Instant:
        """See `Physics.instant`."""
        now_s = at.timestamp()
        if self._instant is not None and self._instant[0] == now_s:
            return self._instant[1]
        found = self.well.instant(at)
        if faults := [one.fault for one in self._episodes if one.at(at)]:
            found = _stricken(found, faults)
        self._instant = (now_s, found)
        return found

    def pulses(self, kind: str, at: datetime, phase: int = 0, tariff: int = 0) -> int:
        """See `Physics.pulses`."""
        phases = range(self.phases) if phase == 0 else (phase - 1,)
        periods = range(1, TARIFFS + 1) if tariff == 0 else self._periods[tariff]
        return sum(
            self._of_phase(kind, period, at, one) * self._shares[one] // (_MICRO * self._pulse)
            for period in periods
            for one in phases
        )

    def totals(self, registers: Sequence[Energy], instants: Iterable[datetime]) -> list[tuple[int, ...]]:
        """See `Physics.totals`."""
        return [
            tuple(
                sum(self.pulses(kind, at, one.phase, one.tariff) for kind in one.plus)
                - sum(self.pulses(kind, at, one.phase, one.tariff) for kind in one.minus)
                for one in registers
            )
            for at in instants
        ]

    def _count(self, kind: str, tariff: int, at: datetime) -> int:
        return sum(self._of_phase(kind, tariff, at, one) * share // _MICRO for one, share in enumerate(self._shares))

    def _of_phase(self, kind: str, tariff: int, at: datetime, phase: int) -> int:
        """What would have been counted if all phases were as this one."""
        counted = self.well._counted(kind, tariff, at)
        for since, until, faults in self._stretches:
            if at <= since:
                break
            turned = sum(one.kind == "reversed" for one in faults) % 2
            factor = 1.0
            for one in faults:
                if one.kind == "load":
                    factor *= one.factor
                elif one.kind == "phase_lost" and one.phase == phase + 1:
                    factor = 0.0
            counted -= self._flowed(kind, tariff, since, min(until, at))
            other = _TURNED[kind] if turned else kind
            counted += int(factor * self._flowed(other, tariff, since, min(until, at)))
        return counted

    def _flowed(self, kind: str, tariff: int, since: datetime, until: datetime) -> int:
        key = (kind, tariff, since)
        if key not in self._before:
            self._before[key] = self.well._count(kind, tariff, since)
        return self.well._count(kind, tariff, until) - self._before[key]


def _stricken(well: Instant, faults: Sequence[Fault]) -> Instant:
    """What is measured while these faults are at work. Loads take the same power at another voltage."""
    voltage, load, sign = 1.0, 1.0, 1.0
    lost = {one.phase - 1 for one in faults if one.kind == "phase_lost"}
    for one in faults:
        if one.kind == "voltage":
            voltage *= one.factor
        elif one.kind == "load":
            load *= one.factor
        elif one.kind == "reversed":
            sign = -sign
    there = [0.0 if phase in lost else load for phase in range(len(well.voltage))]
    u = tuple(one * voltage * (_LEFT if phase in lost else 1.0) for phase, one in enumerate(well.voltage))
    s = tuple(one * own for one, own in zip(well.apparent, there, strict=True))
    return Instant(
        voltage=u,
        current=tuple(1000 * one / volts if one else 0.0 for one, volts in zip(s, u, strict=True)),
        active=tuple(round(sign * one * own, 4) for one, own in zip(well.active, there, strict=True)),
        reactive=tuple(round(sign * one * own, 4) for one, own in zip(well.reactive, there, strict=True)),
        apparent=s,
        power_factor=tuple(1.0 if phase in lost else sign * one for phase, one in enumerate(well.power_factor)),
    )
