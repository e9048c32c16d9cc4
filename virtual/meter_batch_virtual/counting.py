"""Pulses of one kind of energy at many instants in a row, where neighbours share most of the work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .load import TARIFFS

if TYPE_CHECKING:
    from .physics import Physics


class Counting:
    """The pulses of one kind over all phases and tariffs at ascending instants; remembers what did not move."""

    def __init__(self, physics: Physics, kind: str) -> None:
        self._physics = physics
        self._kind = kind
        self._day = -1
        self._rows: list[tuple[int, tuple[float, ...]]] = []
        self._passed: list[float] = []
        self._pulses: list[int] = []
        self._still = 0
        self._scale = 0.0

    def until(self, number: int, slot: int, part: float) -> int:
        """The pulses until a place in time, as `Physics.pulses` of phase 0 and tariff 0 counts them."""
        if number != self._day:
            self._begin(number)
        for index, (until, sums) in enumerate(self._rows):
            passed = sums[slot]
            if sums[slot + 1] != passed:
                passed = min(passed + (sums[slot + 1] - passed) * self._physics._passed(part), sums[slot + 1])
            if passed != self._passed[index]:
                self._passed[index] = passed
                self._pulses[index] = self._pulses_of(until + round(self._scale * passed))
        return self._still + sum(self._pulses)

    def _begin(self, number: int) -> None:
        physics, kind = self._physics, self._kind
        weekend, variant, factor = physics._day(number)
        self._day = number
        self._scale = physics._slot_unit * factor
        self._rows, self._still = [], 0
        for tariff in range(1, TARIFFS + 1):
            until = physics._until_day(kind, tariff, number)
            sums = physics.load.sums(kind, tariff)[weekend][variant]
            if sums[-1]:
                self._rows.append((until, sums))
            else:
                self._still += self._pulses_of(until)
        self._passed = [-1.0] * len(self._rows)
        self._pulses = [0] * len(self._rows)

    def _pulses_of(self, counted: int) -> int:
        per_pulse = 1_000_000 * self._physics._pulse
        return sum(counted * share // per_pulse for share in self._physics._shares)
