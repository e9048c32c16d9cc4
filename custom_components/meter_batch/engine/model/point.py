"""Metering points: the places that are measured, and how each is reached.

A point outlives its meters: its id is the key of entities, statistics and history; serial numbers are not.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Literal

from .obis import Obis
from .quantity import QUANTITIES, SCALED_BY_MULTIPLIER, Measure
from .reading import Reading


@dataclass(frozen=True, slots=True)
class Multiplier:
    """Transformer ratios from an instant on (综合倍率 = CT × PT); 1 and 1 for a meter connected directly."""

    since: datetime
    ct: Decimal = Decimal(1)
    pt: Decimal = Decimal(1)


@dataclass(frozen=True, slots=True)
class InstalledMeter:
    """The meter at a point from an instant on: what it is (`template`) and which one (`serial`, where known)."""

    since: datetime
    template: str
    serial: str | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """A way to reach a meter: the line's id, the protocol spoken and the address on that line.

    `protocol` is one of `PROTOCOLS`; `address` is a Modbus unit ("7") or the 12 digits of a DL/T 645 meter.
    """

    line: str
    protocol: str
    address: str


@dataclass(frozen=True, slots=True)
class Term:
    """One part of a virtual point: added or taken away."""

    sign: Literal[1, -1]
    point: str


@dataclass(frozen=True, slots=True)
class Commissioned:
    """A sign-off: `by` compared the meter's display with what is read, and it was right.

    Without `register` it comes from a list, where only when and by whom is known. `displayed` is the number on the
    display in the register's unit, `read` the reading with the `multiplier` (CT × PT) applied; `deviation` relative.
    `template` and `address` say what was compared: with another of them, or another multiplier, it says nothing.
    """

    at: datetime
    by: str
    register: Obis | None = None
    displayed: Decimal | None = None
    read: Decimal | None = None
    multiplier: Decimal | None = None
    deviation: Decimal | None = None
    note: str = ""
    template: str = ""
    address: str = ""


PROTOCOLS = ("modbus", "dlt645-2007", "dlt645-1997")


@dataclass(frozen=True, slots=True)
class Point:
    """A metering point; immutable id, everything else may change over its life."""

    id: str
    name: str
    meters: tuple[InstalledMeter, ...]
    """Oldest first, at least one; none of a virtual point."""
    routes: tuple[Route, ...]
    """In the order in which they are tried; none of a virtual point."""
    multipliers: tuple[Multiplier, ...] = ()
    """Oldest first; before the first one, and without any, the ratio is 1."""
    area: str | None = None
    parent: str | None = None
    """Id of the point that measures this one too."""
    detail: str | None = None
    """"lean", "standard" or "full"; None follows the line."""
    attributes: dict[str, str] = field(default_factory=dict, compare=True)
    """What analysis needs and nobody else reads: tariff, contract_kw, transformer_kva, floor_area_m2 …"""
    formula: tuple[Term, ...] = ()
    """Of a virtual point: the points whose sum or difference it is. It has neither meters nor routes."""
    commissioned: Commissioned | None = None
    """When somebody last signed off that what is read is what the meter shows."""

    @property
    def virtual(self) -> bool:
        """True of a point that is not measured but worked out from others."""
        return bool(self.formula)

    @property
    def meter(self) -> InstalledMeter:
        """The meter that is installed now; a virtual point has none."""
        return self.meters[-1]

    def multiplier_at(self, at: datetime) -> Multiplier | None:
        """The ratios valid at an instant, None where they are 1."""
        index = bisect_right(self.multipliers, at, key=lambda one: one.since)
        return self.multipliers[index - 1] if index else None

    def apply(self, reading: Reading) -> Reading:
        """The reading at the primary side: energies, powers and demands × CT × PT, currents × CT, voltages × PT."""
        multiplier = self.multiplier_at(reading.at)
        if multiplier is None:
            return reading
        measure = QUANTITIES[reading.obis].measure
        if measure in SCALED_BY_MULTIPLIER:
            factor = multiplier.ct * multiplier.pt
        elif measure is Measure.CURRENT:
            factor = multiplier.ct
        elif measure is Measure.VOLTAGE:
            factor = multiplier.pt
        else:
            return reading
        if factor == 1:
            return reading
        value = reading.value * factor if isinstance(reading.value, Decimal) else reading.value * float(factor)
        return Reading(reading.obis, value, reading.at, reading.flags)
