"""What is measured at one instant, and how voltages and currents of phases go together."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from .load import uniform


@dataclass(frozen=True, slots=True)
class Instant:
    """What is measured at one instant, by phase: V, A, kW, kvar, kVA, signed power factor."""

    voltage: tuple[float, ...]
    current: tuple[float, ...]
    active: tuple[float, ...]
    reactive: tuple[float, ...]
    apparent: tuple[float, ...]
    power_factor: tuple[float, ...]


def wander(seed: int, channel: int, now_s: float, period_s: int) -> float:
    """A smooth walk in [−1, 1] through fixed random points, one every period."""
    point, part = divmod(now_s / period_s, 1)
    before, after = uniform(seed, channel, int(point)), uniform(seed, channel, int(point) + 1)
    return before + (after - before) * part * part * (3 - 2 * part)


def line_voltage(one: float, other: float) -> float:
    """The line voltage between two phases 120° apart."""
    return sqrt(one * one + other * other + one * other)


def neutral_current(phases: tuple[float, ...]) -> float:
    """The current in the neutral conductor of phases 120° apart that work at one power factor."""
    if len(phases) == 1:
        return phases[0]
    a, b, c = phases
    return sqrt(max(a * a + b * b + c * c - a * b - b * c - c * a, 0.0))
