"""Energies that are read again before they are believed.

A frame of DL/T 645 is checked by a sum of eight bits: one damaged frame in 256 passes. What an energy register grew by
its own habit is believed at once; what is new or unusual is read a second time, and believed when both readings agree.
Pure: time comes with the readings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from decimal import Decimal

from ..model.obis import Obis
from ..model.quantity import QUANTITIES, Kind
from ..model.reading import Reading

_COUNTED = (Kind.CUMULATIVE, Kind.BALANCE)
USUAL = 2.0
"""Growth of up to so many times the habit is usual, for loads vary …"""
STEPS = Decimal("0.03")
"""… and so is that of three of the smallest steps (kWh), however slowly a register moves."""
AT_ONCE = Decimal("0.10")
"""Between two readings in a row a register grows by so much at most (kWh): 0.3 s at 1200 kW."""


class Energies:
    """What is known of the energy registers of one meter."""

    def __init__(self) -> None:
        self._known: dict[Obis, tuple[Decimal, datetime, float]] = {}
        """Value, when it was read, and its habit in kWh a second."""

    def doubts(self, readings: Iterable[Reading]) -> bool:
        """True where a register is read for the first time, fell, or grew more than it usually does."""
        return any(not self._is_usual(one) for one in _counted(readings))

    def _is_usual(self, reading: Reading) -> bool:
        known = self._known.get(reading.obis)
        if known is None:
            return False
        value, at, habit = known
        growth = Decimal(reading.value) - value
        seconds = max(0.0, (reading.at - at).total_seconds())
        most = STEPS + Decimal(USUAL * habit * seconds)
        return (abs(growth) if QUANTITIES[reading.obis].kind is Kind.BALANCE else growth) <= most and (
            growth >= 0 or QUANTITIES[reading.obis].kind is Kind.BALANCE
        )

    def took(self, readings: Iterable[Reading]) -> None:
        """These are believed."""
        for one in _counted(readings):
            value = Decimal(one.value)
            known = self._known.get(one.obis)
            habit = 0.0
            if known is not None:
                before, at, habit = known
                seconds = (one.at - at).total_seconds()
                if seconds < 1.0:
                    continue
                rate = abs(float(value - before)) / seconds
                habit += (rate - habit) / 2
            self._known[one.obis] = value, one.at, habit


def agree(first: Iterable[Reading], second: Iterable[Reading]) -> bool:
    """Whether two readings in a row can both be true: the same, or grown a little."""
    before = {one.obis: Decimal(one.value) for one in _counted(first)}
    after = {one.obis: Decimal(one.value) for one in _counted(second)}
    if before.keys() != after.keys():
        return False
    for obis, value in after.items():
        growth = value - before[obis]
        if abs(growth) > AT_ONCE or (growth < 0 and QUANTITIES[obis].kind is not Kind.BALANCE):
            return False
    return True


def _counted(readings: Iterable[Reading]) -> Iterator[Reading]:
    return (one for one in readings if QUANTITIES[one.obis].kind in _COUNTED)
