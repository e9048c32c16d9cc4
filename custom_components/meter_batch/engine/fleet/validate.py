"""Readings checked on arrival (clause 4.2.1): flagged, never silently passed on.

A register that fell is not believed until it has stayed there: a meter that restarts shows zero for a moment, and a
false "new meter" would cost or invent years of energy. Pure: time comes with the readings.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cache

from ..model.obis import Obis
from ..model.quantity import QUANTITIES, Kind, Measure, Quantity
from ..model.reading import Flag, Reading
from ..template import Limits, Template

CONFIRM_READINGS = 3
"""So many readings in a row must agree before a register is believed to have begun again …"""
CONFIRM_S = 60.0
"""… and they must span this long, because a restarting meter can show zero for some seconds."""
SLACK_S = 90.0
"""Meters refresh their registers once a minute or so: growth of that long may arrive at once."""
RATE_MARGIN = Decimal("1.1")
"""Clocks, the meter's own tolerance and short overload."""
NEAR_ZERO_SHARE = Decimal("0.001")
"""Below this share of the level before, a fallen register has begun again rather than been replaced."""

_COUNTED = (Kind.CUMULATIVE, Kind.BALANCE)
_ENERGIES = {Measure.ACTIVE_ENERGY, Measure.REACTIVE_ENERGY, Measure.APPARENT_ENERGY}


@dataclass(frozen=True, slots=True)
class _Level:
    """A value that a cumulative register had at an instant."""

    value: Decimal
    at: datetime


@dataclass(slots=True)
class _Candidate:
    """A new level that is not believed yet."""

    flag: Flag
    first: _Level
    newest: _Level
    readings: int = 1


_ANYTHING = (math.inf, -math.inf)
"""Bounds that nothing is within."""


@cache
def _bounds(limits: Limits) -> Mapping[Obis, tuple[float, float]]:
    """Of all quantities that are measured and not counted: what is believed whatever came before."""
    widest = (-sys.float_info.max, sys.float_info.max)
    return {one.obis: limits.of(one) or widest for one in QUANTITIES.values() if one.kind not in _COUNTED}


class Validator:
    """Remembers the believed level of each cumulative register of one meter and flags what does not fit it."""

    def __init__(self, template: Template) -> None:
        self._template = template
        self._bounds = _bounds(template.limits)
        self._believed: dict[Obis, _Level] = {}
        self._candidates: dict[Obis, _Candidate] = {}
        self._replaced: set[Obis] = set()
        """Registers of a meter that is known to be another one, whose first value is still to come."""

    def check(self, readings: Iterable[Reading]) -> list[Reading]:
        """The readings, as the meter gave them (before the multiplier), with flags; in order of time."""
        bounds, anything = self._bounds, _ANYTHING
        return [
            # What is measured and within its limits is nearly all there is.
            reading
            if type(value := reading.value) is float and (of := bounds.get(reading.obis, anything))[0] <= value <= of[1]
            else self._flagged(reading)
            for reading in readings
        ]

    def forget(self) -> None:
        """Starts anew, because the user said that another meter is there now."""
        self._believed.clear()
        self._candidates.clear()
        self._replaced.clear()

    def swapped(self) -> None:
        """Another meter is there, by its serial number: each register says so once, and is not compared with before."""
        self.forget()
        self._replaced = {one.obis for one in self._template.registers if one.quantity.kind in _COUNTED}

    def _flagged(self, reading: Reading) -> Reading:
        quantity = QUANTITIES[reading.obis]
        flag = self._range(reading, quantity)
        if flag is None and quantity.kind in _COUNTED:
            flag = self._level(reading, quantity)
        return reading if flag is None else Reading(reading.obis, reading.value, reading.at, reading.flags | {flag})

    def _range(self, reading: Reading, quantity: Quantity) -> Flag | None:
        value = reading.value
        if not (value.is_finite() if isinstance(value, Decimal) else math.isfinite(value)):
            return Flag.RANGE
        limits = self._template.limits.of(quantity)
        if limits is not None and not limits[0] <= value <= limits[1]:
            return Flag.RANGE
        if quantity.kind is Kind.CUMULATIVE:
            end = self._roll_over(reading.obis)
            if value < 0 or (end is not None and value >= end):
                return Flag.RANGE
        return None

    def _level(self, reading: Reading, quantity: Quantity) -> Flag | None:
        new = _Level(Decimal(reading.value), reading.at)
        old = self._believed.get(reading.obis)
        if reading.obis in self._replaced:
            self._replaced.discard(reading.obis)
            self._believe(reading.obis, new)
            return Flag.SWAP
        if old is None or self._fits(old, new, quantity):
            self._believe(reading.obis, new)
            return None
        flag, cause = self._misfit(old, new, quantity)
        candidate = self._candidates.get(reading.obis)
        if candidate is None or candidate.flag is not cause or not self._fits(candidate.newest, new, quantity):
            self._candidates[reading.obis] = _Candidate(cause, new, new)
            return flag
        candidate.newest = new
        candidate.readings += 1
        stayed_s = (new.at - candidate.first.at).total_seconds()
        if candidate.readings < CONFIRM_READINGS or stayed_s < CONFIRM_S:
            return flag
        self._believe(reading.obis, new)
        return candidate.flag

    def _believe(self, obis: Obis, level: _Level) -> None:
        self._believed[obis] = level
        self._candidates.pop(obis, None)

    def _misfit(self, old: _Level, new: _Level, quantity: Quantity) -> tuple[Flag, Flag]:
        """What is wrong now, and what it will have been if the register stays at its new level."""
        growth = new.value - old.value
        if growth > 0 or quantity.kind is Kind.BALANCE:
            return Flag.RATE, Flag.SWAP
        end = self._roll_over(quantity.obis)
        # Near its end a register rolls over; without a greatest power, "near" is the last hundredth of its range.
        if end is not None:
            rolled = growth + end
            most = self._most(old, new, quantity)
            if rolled <= (end / 100 if most is None else most):
                return Flag.BACKWARDS, Flag.ROLL_OVER
        most = self._most(old, new, quantity) or Decimal(0)
        if new.value <= max(most, old.value * NEAR_ZERO_SHARE):
            return Flag.BACKWARDS, Flag.RESET
        return Flag.BACKWARDS, Flag.SWAP

    def _fits(self, old: _Level, new: _Level, quantity: Quantity) -> bool:
        growth = new.value - old.value
        most = self._most(old, new, quantity)
        if quantity.kind is Kind.BALANCE:
            return most is None or abs(growth) <= most
        return growth >= 0 and (most is None or growth <= most)

    def _most(self, old: _Level, new: _Level, quantity: Quantity) -> Decimal | None:
        """The greatest growth that the meter's greatest power allows; None where that is not known."""
        limits = self._template.limits.power_kw
        if limits is None or quantity.measure not in _ENERGIES:
            return None
        seconds = max(0.0, (new.at - old.at).total_seconds()) + SLACK_S
        register = self._template.by_obis.get(quantity.obis)
        step = max(register.scale if register is not None else Decimal(0), Decimal("0.1"))
        power = Decimal(max(abs(limits[0]), abs(limits[1])))
        return power * Decimal(seconds) / 3600 * RATE_MARGIN + 2 * step

    def _roll_over(self, obis: Obis) -> Decimal | None:
        return self._template.roll_over(obis) if obis in self._template.by_obis else None
