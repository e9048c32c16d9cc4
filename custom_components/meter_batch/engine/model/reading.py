"""A reading: one register of one meter at one instant."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from .obis import Obis

type Value = Decimal | float
"""Decimal for registers that are kept exactly (energies, maximum demands), float for what is measured now."""


class Flag(StrEnum):
    """Why a reading is not to be taken at face value; set by validation on arrival (clause 4.2.1)."""

    RANGE = "range"
    """Outside what the register can hold or the template allows."""
    RATE = "rate"
    """An energy grew faster than the meter's greatest power allows."""
    BACKWARDS = "backwards"
    """A cumulative register fell and it is not yet known why. Never passed on as a value."""
    ROLL_OVER = "roll_over"
    """The register passed its end and began again at zero: consumption is known."""
    RESET = "reset"
    """The register began again at or near zero and stayed there."""
    SWAP = "swap"
    """Another meter answers at this address: serial number or register level changed for good."""
    SUSPECT = "suspect"
    """Volts and hertz of the same meter cannot be: it is of another model, or read in another word order or scale."""


# Never changed once made; not frozen, because setting frozen fields takes five times as long, and a fleet makes many.
@dataclass(slots=True, unsafe_hash=True)
class Reading:
    """One register at one instant.

    `value` is in the quantity's unit (see `quantity.UNIT`), without the point's multiplier until `Point.apply`.
    `at` is the aware UTC instant at which the reply's last byte arrived.
    """

    obis: Obis
    value: Value
    at: datetime
    flags: frozenset[Flag] = frozenset()

    @property
    def good(self) -> bool:
        """True where the value may be shown and counted."""
        return not self.flags & REJECTED


REJECTED = frozenset({Flag.RANGE, Flag.RATE, Flag.BACKWARDS, Flag.SUSPECT})
"""Flags that keep a value out of entities and statistics."""
