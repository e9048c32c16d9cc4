"""What rules look at: from the last good values of a point to one value, and what its limits are shares of.

A check answers with a `Sample`; with `QUIET` where what it looks for cannot be now (no load); with None where too
little is known, and then the alarm stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Final, NamedTuple

from ..model.obis import Obis
from ..model.quantity import BY_KEY
from .book import Rule
from .watch import (
    APPARENT,
    CURRENTS,
    FACTOR,
    GROSS,
    IMPORT,
    POWER,
    REACTIVE,
    Counting,
    Demand,
    Watch,
    instant_of,
    resolution_kwh,
)

_LEAST_BACK_KW = 0.02
"""Less than this flowing back is noise of the meter."""


class Sample(NamedTuple):
    """A value, what the levels are shares of, its phase, and whether all that belongs to it is known."""

    value: float
    base: float = 1.0
    phase: int = 0
    whole: bool = True


QUIET: Final = Sample(0.0)
type Look = Callable[[], Sample | None]


class Check(NamedTuple):
    """How a rule looks at a point, which registers make it look again, and the unit where it is not the rule's."""

    look: Look
    inputs: frozenset[Obis]
    unit: str | None = None


def compiled(rule: Rule, watch: Watch, lost: float | None) -> Check | None:
    """The check of a rule at a point; None where it does not look at readings.

    `lost`: the share of the nominal voltage below which a phase is lost, where a rule looks after that.
    """
    match rule.looks_at:
        case "power":
            return _plain(watch, POWER)
        case "predicted_demand":
            return _predicted_demand(watch)
        case "power_factor":
            return _power_factor(rule, watch)
        case "voltage_highest":
            return _voltage(watch, max, None)
        case "voltage_lowest":
            return _voltage(watch, min, lost)
        case "voltage_lost":
            return _voltage_lost(rule, watch)
        case "current_unbalance":
            return _current_unbalance(rule, watch)
        case "load":
            return _load(watch)
        case "reverse_power":
            return _reverse_power(rule, watch)
        case "uncounted_energy":
            return _uncounted_energy(watch)
        case key if key in BY_KEY:
            return _plain(watch, BY_KEY[key].obis)
    return None


def _plain(watch: Watch, obis: Obis) -> Check:
    def look() -> Sample | None:
        value = watch.get(obis)
        return None if value is None else Sample(value)

    return Check(look, frozenset({obis}))


def _predicted_demand(watch: Watch) -> Check:
    contract = watch.subject.number("contract_kw") or watch.subject.number("contract_kva") or 0.0
    demand = watch.demand = watch.demand or Demand()

    def look() -> Sample | None:
        predicted = demand.predicted
        return None if predicted is None else Sample(predicted, contract)

    return Check(look, frozenset({POWER}))


def _power_factor(rule: Rule, watch: Watch) -> Check:
    registers = watch.subject.registers
    inputs = frozenset({FACTOR} if FACTOR in registers else {POWER, APPARENT, REACTIVE} & registers)

    def look() -> Sample | None:
        kw, reference = watch.power, watch.reference_kw
        if kw is None or reference is None:
            return None
        if abs(kw) < (rule.min_load or 0.0) * reference:
            return QUIET
        if FACTOR in registers:
            read = watch.get(FACTOR)
            return None if read is None else Sample(abs(read))
        apparent = watch.apparent
        return Sample(min(1.0, abs(kw) / apparent)) if apparent else None

    return Check(look, inputs)


def _voltages(watch: Watch) -> tuple[list[tuple[float, int]], bool]:
    own = watch.subject.voltages
    known = [(value, phase) for obis, phase in own if (value := watch.get(obis)) is not None]
    return known, len(known) == len(own)


def _voltage(watch: Watch, worst: Callable[[list[tuple[float, int]]], tuple[float, int]], lost: float | None) -> Check:
    def look() -> Sample | None:
        known, whole = _voltages(watch)
        if not known or (nominal := watch.nominal_v) is None:
            return None
        if lost is not None and (there := [one for one in known if one[0] >= lost * nominal]):
            known = there  # what is lost is a finding of its own
        value, phase = worst(known)
        return Sample(value, nominal, phase, whole)

    return Check(look, frozenset(obis for obis, _ in watch.subject.voltages))


def _voltage_lost(rule: Rule, watch: Watch) -> Check:
    def look() -> Sample | None:
        known, whole = _voltages(watch)
        nominal = watch.nominal_v
        if nominal is None or len(known) < 2 or max(known)[0] < (rule.pickup or 0.0) * nominal:
            return None  # without any voltage there is no phase to miss
        value, phase = min(known)
        return Sample(value, nominal, phase, whole)

    return Check(look, frozenset(obis for obis, _ in watch.subject.voltages))


def _current_unbalance(rule: Rule, watch: Watch) -> Check:
    rating, apparent = watch.rating

    def look() -> Sample | None:
        load = watch.apparent if apparent else watch.power
        if load is None or rating is None:
            return None
        if abs(load) < (rule.min_load or 0.0) * rating:
            return QUIET
        known = [
            (abs(value), phase) for phase, obis in enumerate(CURRENTS, 1) if (value := watch.get(obis)) is not None
        ]
        if len(known) < len(CURRENTS) or (greatest := max(known)[0]) <= 0:
            return None
        least, phase = min(known)
        return Sample(100 * (greatest - least) / greatest, phase=phase)

    return Check(look, frozenset(CURRENTS))


def _load(watch: Watch) -> Check:
    rating, apparent = watch.rating

    def look() -> Sample | None:
        load = watch.apparent if apparent else watch.power
        return None if load is None or rating is None else Sample(abs(load), rating)

    return Check(look, frozenset({POWER, APPARENT, REACTIVE} if apparent else {POWER}), "kVA" if apparent else None)


def _reverse_power(rule: Rule, watch: Watch) -> Check:
    def look() -> Sample | None:
        if (kw := watch.power) is None:
            return None
        rating = watch.rating[0] or watch.largest_kw
        return Sample(-kw, max(rating, _LEAST_BACK_KW / rule.pickup) if rule.pickup else 1.0)

    return Check(look, frozenset({POWER}))


def _uncounted_energy(watch: Watch) -> Check:
    obis = IMPORT if IMPORT in watch.subject.registers else GROSS
    if watch.counting is None or watch.counting.obis != obis:
        watch.counting = Counting(obis)
    counting = watch.counting

    def look() -> Sample | None:
        if counting.register is None:
            return None
        ratio = watch.subject.point.multiplier_at(instant_of(watch.times[obis]))
        factor = Decimal(1) if ratio is None else ratio.ct * ratio.pt
        return Sample(counting.uncounted_kwh, resolution_kwh(counting.register, factor))

    return Check(look, frozenset({obis}))
