"""The registers a meter can keep: what each OBIS code measures, in which unit, and how its value may behave."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from .obis import Obis


class Kind(StrEnum):
    """How the value of a register behaves in time."""

    CUMULATIVE = "cumulative"
    """Grows; falls only on roll-over, reset or swap. Kept exactly (Decimal)."""
    BALANCE = "balance"
    """Import less export: may rise and fall. Kept exactly (Decimal)."""
    INSTANT = "instant"
    """What is measured now. A float."""
    MAXIMUM = "maximum"
    """Grows within a billing period, then starts again: maximum demand. Kept exactly (Decimal)."""


class Measure(StrEnum):
    """What is measured; it decides the unit and whether the multiplier of a point applies."""

    ACTIVE_ENERGY = "active_energy"
    REACTIVE_ENERGY = "reactive_energy"
    APPARENT_ENERGY = "apparent_energy"
    ACTIVE_POWER = "active_power"
    REACTIVE_POWER = "reactive_power"
    APPARENT_POWER = "apparent_power"
    DEMAND = "demand"
    VOLTAGE = "voltage"
    CURRENT = "current"
    POWER_FACTOR = "power_factor"
    FREQUENCY = "frequency"
    PHASE_ANGLE = "phase_angle"
    DISTORTION = "distortion"
    TEMPERATURE = "temperature"


UNIT: dict[Measure, str] = {
    Measure.ACTIVE_ENERGY: "kWh",
    Measure.REACTIVE_ENERGY: "kvarh",
    Measure.APPARENT_ENERGY: "kVAh",
    Measure.ACTIVE_POWER: "kW",
    Measure.REACTIVE_POWER: "kvar",
    Measure.APPARENT_POWER: "kVA",
    Measure.DEMAND: "kW",
    Measure.VOLTAGE: "V",
    Measure.CURRENT: "A",
    Measure.POWER_FACTOR: "",
    Measure.FREQUENCY: "Hz",
    Measure.PHASE_ANGLE: "°",
    Measure.DISTORTION: "%",
    Measure.TEMPERATURE: "°C",
}
"""The one unit in which a measure travels through the engine; templates convert on decoding."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """One register: `key` is its name in code, files and translations; `obis` is its identity."""

    obis: Obis
    key: str
    measure: Measure
    kind: Kind
    phase: int = 0
    """0 for the total, 1 to 3 for a phase."""
    tariff: int = 0
    """0 for the total, 1 and up for a tariff register."""

    @property
    def unit(self) -> str:
        """The unit in which readings of this quantity are given."""
        return UNIT[self.measure]


def _catalogue() -> Iterator[Quantity]:
    energy, reactive, apparent = Measure.ACTIVE_ENERGY, Measure.REACTIVE_ENERGY, Measure.APPARENT_ENERGY
    totals = (
        (1, "energy_import", energy),
        (2, "energy_export", energy),
        (15, "energy_gross", energy),
        (16, "energy_net", energy),
        (3, "reactive_energy_import", reactive),
        (4, "reactive_energy_export", reactive),
        (5, "reactive_energy_q1", reactive),
        (6, "reactive_energy_q2", reactive),
        (7, "reactive_energy_q3", reactive),
        (8, "reactive_energy_q4", reactive),
        (9, "apparent_energy_import", apparent),
        (10, "apparent_energy_export", apparent),
        (130, "reactive_energy_gross", reactive),
    )
    for c, key, measure in totals:
        # A net register may fall, so "cumulative" would be wrong although it is exact and summed.
        kind = Kind.BALANCE if key == "energy_net" else Kind.CUMULATIVE
        yield Quantity(f"1-0:{c}.8.0", key, measure, kind)
        for tariff in range(1, 9):
            yield Quantity(f"1-0:{c}.8.{tariff}", f"{key}_t{tariff}", measure, kind, tariff=tariff)
    for phase, base in ((1, 20), (2, 40), (3, 60)):
        for c, key, measure in totals[:2] + totals[4:6] + totals[10:12]:
            yield Quantity(f"1-0:{base + c}.8.0", f"{key}_l{phase}", measure, Kind.CUMULATIVE, phase)
    instants = (
        (16, "active_power", Measure.ACTIVE_POWER, 36),
        (131, "reactive_power", Measure.REACTIVE_POWER, 151),
        (9, "apparent_power", Measure.APPARENT_POWER, 29),
        (13, "power_factor", Measure.POWER_FACTOR, 33),
        (12, "voltage", Measure.VOLTAGE, 32),
        (11, "current", Measure.CURRENT, 31),
    )
    for c, key, measure, first in instants:
        yield Quantity(f"1-0:{c}.7.0", key, measure, Kind.INSTANT)
        for phase in (1, 2, 3):
            yield Quantity(f"1-0:{first + 20 * (phase - 1)}.7.0", f"{key}_l{phase}", measure, Kind.INSTANT, phase)
    for phase, name in ((1, "l1_l2"), (2, "l2_l3"), (3, "l3_l1")):
        yield Quantity(f"1-128:12.7.{phase}", f"voltage_{name}", Measure.VOLTAGE, Kind.INSTANT, phase)
        yield Quantity(
            f"1-0:81.7.{4 + 11 * (phase - 1)}", f"phase_angle_l{phase}", Measure.PHASE_ANGLE, Kind.INSTANT, phase
        )
        yield Quantity(f"1-0:{12 + 20 * phase}.7.124", f"voltage_thd_l{phase}", Measure.DISTORTION, Kind.INSTANT, phase)
        yield Quantity(f"1-0:{11 + 20 * phase}.7.124", f"current_thd_l{phase}", Measure.DISTORTION, Kind.INSTANT, phase)
    yield Quantity("1-128:12.7.0", "voltage_line_mean", Measure.VOLTAGE, Kind.INSTANT)
    yield Quantity("1-0:91.7.0", "current_neutral", Measure.CURRENT, Kind.INSTANT)
    yield Quantity("1-0:14.7.0", "frequency", Measure.FREQUENCY, Kind.INSTANT)
    yield Quantity("0-0:96.9.0", "temperature", Measure.TEMPERATURE, Kind.INSTANT)
    yield Quantity("1-0:1.4.0", "demand_import", Measure.DEMAND, Kind.INSTANT)
    yield Quantity("1-0:1.6.0", "demand_import_max", Measure.DEMAND, Kind.MAXIMUM)
    yield Quantity("1-0:2.6.0", "demand_export_max", Measure.DEMAND, Kind.MAXIMUM)


QUANTITIES: dict[Obis, Quantity] = {quantity.obis: quantity for quantity in _catalogue()}
"""Every register the product knows, by OBIS code."""

BY_KEY: dict[str, Quantity] = {quantity.key: quantity for quantity in QUANTITIES.values()}
"""The same, by the name used in templates, files and translations."""

SCALED_BY_MULTIPLIER = frozenset(
    {
        Measure.ACTIVE_ENERGY,
        Measure.REACTIVE_ENERGY,
        Measure.APPARENT_ENERGY,
        Measure.ACTIVE_POWER,
        Measure.REACTIVE_POWER,
        Measure.APPARENT_POWER,
        Measure.DEMAND,
    }
)
"""Measures multiplied by CT × PT; currents are multiplied by CT alone and voltages by PT alone."""
