"""Intervals and gaps: what the ledger says about a metering point and a stretch of time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from .obis import Obis
from .quantity import BY_KEY


class Quality(StrEnum):
    """Where a value came from, and whether it is to be taken at face value."""

    MEASURED = "measured"
    """Difference of two registers that were read at the two boundaries."""
    METER_MEMORY = "meter_memory"
    """The same, at least one of the two from the memory of the meter."""
    ESTIMATED = "estimated"
    """A share of a register difference over several intervals: their sum is known, the share is not."""
    EDITED = "edited"
    """Set by a person; author and reason stand with the revision."""
    SUSPECT = "suspect"
    """A rule doubts it: `Interval.rule` says which."""
    WITHDRAWN = "withdrawn"
    """Taken back: it was made from what a wrong clock said. Subscribers see it, queries do not."""


KNOWN = frozenset({Quality.MEASURED, Quality.METER_MEMORY, Quality.EDITED})
"""What counts as known; an estimate does not."""

IMPORT, GROSS = BY_KEY["energy_import"].obis, BY_KEY["energy_gross"].obis


@dataclass(frozen=True, slots=True)
class Interval:
    """`[start, start + length_s)` of one point, or a longer period made of such; energies at the primary side, exact.

    `energies` are in the unit of their quantity (kWh, kvarh, kVAh); demands in kW, voltages in V.
    """

    point: str
    start: datetime
    length_s: int
    energies: Mapping[Obis, Decimal]
    flags: frozenset[Quality]
    revision: int = 0
    """The revision of the ledger that wrote it; of a period, the newest of its intervals."""
    source: str = ""
    """How it came: "poll", "memory", "edit" … """
    skew_s: float = 0.0
    """How far from the boundaries the registers were read, at most."""
    rule: str | None = None
    """Which rule doubts it, where it is suspect."""
    demand_max_kw: float | None = None
    """Highest power that was read."""
    voltage_min_v: float | None = None
    voltage_mean_v: float | None = None
    voltage_max_v: float | None = None
    power_factor: float | None = None
    known_s: int = 0
    """Seconds of it that are measured, from memory or edited."""
    parts: tuple[int, int] = (1, 1)
    """Of a virtual point: how many of its parts are wholly known, and how many there are."""
    uncovered_s: int = 0
    """Seconds of a period for which there is no interval; they have no energy and do not lower its mean power."""

    @property
    def end(self) -> datetime:
        """The instant at which it ends and the next one starts."""
        return self.start + timedelta(seconds=self.length_s)

    @property
    def demand_mean_kw(self) -> Decimal | None:
        """Mean power of the import (where there is none, gross) energy over the time that is covered; None without."""
        energy = self.energies.get(IMPORT, self.energies.get(GROSS))
        covered_s = self.length_s - self.uncovered_s
        return None if energy is None or covered_s <= 0 else energy * 3600 / covered_s

    @property
    def completeness(self) -> float:
        """Share of its time that is known."""
        return self.known_s / self.length_s


@dataclass(frozen=True, slots=True)
class Changes:
    """Intervals that changed, in their final form, for a subscriber who acknowledges them once they are safe."""

    revision: int
    """All of it, and of those before it, is given with this: to be acknowledged."""
    intervals: list[Interval]
    more: bool = False
    """Whether there is more already: ask again after acknowledging."""
    cursor: str | None = None
    """How far into the revision after `revision`, if that is too large for one answer; acknowledged together."""


class GapReason(StrEnum):
    """Why registers are missing."""

    LINE = "line"
    """The line was down."""
    METER = "meter"
    """The meter did not answer."""
    HOST = "host"
    """We were not running."""
    REFUSED = "refused"
    """The meter answered, but not with its registers, or with values that cannot be."""
    CLOCK = "clock"
    """Our clock was wrong."""
    DROPPED = "dropped"
    """The disk was full for so long that memory was full too."""
    BEFORE = "before"
    """From before the meter was read first: no alarm, but its memory may know."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Intervals of a point without registers of their own. `end` is None while it lasts."""

    point: str
    start: datetime
    end: datetime | None
    reason: GapReason
    missing: int
    """Intervals that are missing or only estimated."""
    recoverable_until: datetime | None = None
    """When the meter's memory will have lost the oldest of them; None where it keeps none or that is not known."""

    def recoverable(self, now: datetime) -> bool:
        """Whether the meter's memory still has all of it."""
        return self.recoverable_until is not None and now < self.recoverable_until


@dataclass(frozen=True, slots=True)
class Hole:
    """Time of a point of which the ledger knows nothing but, at most, the sum: what a meter's memory may fill."""

    start: datetime
    end: datetime
    history: bool = False
    """Nothing is known before it: time before the first reading, not an outage."""
