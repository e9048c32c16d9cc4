"""Load shapes: mean power of every 15-min slot of a day, and its running sums by register and tariff.

A day of a load is one of a few kinds of day (weekday or weekend, and a variant of its noise) times one factor; so the
energy of any span has a closed form, and a meter's year costs a few hundred additions.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any

SLOT_S = 900
SLOTS = 96
VARIANTS = 8
TARIFFS = 4
_FILE = Path(__file__).with_name("loads.toml")

KINDS = ("import", "export", "q1", "q2", "q3", "q4", "apparent_import", "apparent_export")
"""What a meter counts: active energy by direction, reactive by quadrant, apparent by direction of the active power."""

_MASK = (1 << 64) - 1


def mix(*parts: int) -> int:
    """A well-stirred 64-bit number that depends on all parts and on nothing else."""
    state = 0x9E3779B97F4A7C15
    for part in parts:
        state = ((state ^ (part & _MASK)) + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state


def uniform(*parts: int) -> float:
    """A number in [−1, 1) that depends on all parts and on nothing else."""
    return mix(*parts) / (1 << 63) - 1.0


@dataclass(frozen=True, slots=True)
class Day:
    """One kind of day: signed active and reactive mean power of each slot, as a fraction of the meter's peak."""

    active: tuple[float, ...]
    reactive: tuple[float, ...]


class Load:
    """A load shape by name; `days[0 or 1][variant]` are its weekdays and weekend days."""

    def __init__(self, name: str, table: dict[str, Any]) -> None:
        self.name = name
        self.noise, self.day_spread, self.season, self.ripple = (
            float(table[key]) for key in ("noise", "day_spread", "season", "ripple")
        )
        self.ripple_periods = int(table["ripple_periods"])
        tan_phi = table["tan_phi"]
        slopes = _slots(tan_phi if isinstance(tan_phi, list) else [tan_phi] * 24)
        stir = sum(name.encode())
        self.days = tuple(
            tuple(self._day(_slots(table[key]), slopes, stir, variant) for variant in range(VARIANTS))
            for key in ("weekday", "weekend")
        )
        self._sums: dict[tuple[str, int], tuple[tuple[tuple[float, ...], ...], ...]] = {}
        self._counts: dict[tuple[str, int], bool] = {}

    def _day(self, shape: Sequence[float], slopes: Sequence[float], stir: int, variant: int) -> Day:
        active = tuple(
            value * (1.0 + self.noise * uniform(stir, variant, slot)) if self.noise else value
            for slot, value in enumerate(shape)
        )
        return Day(active, tuple(power * slope for power, slope in zip(active, slopes, strict=True)))

    @property
    def weekly_mean(self) -> float:
        """Mean active power over a week as a fraction of the peak, import less export."""
        weekday, weekend = (sum(days[0].active) / SLOTS for days in self.days)
        return (5 * weekday + 2 * weekend) / 7

    def sums(self, kind: str, tariff: int) -> tuple[tuple[tuple[float, ...], ...], ...]:
        """Running sums over the slots of each kind of day (97 values), of one register's power in one tariff."""
        found = self._sums.get((kind, tariff))
        if found is None:
            found = tuple(
                tuple(tuple(accumulate(_counted(day, kind, tariff), initial=0.0)) for day in variants)
                for variants in self.days
            )
            self._sums[kind, tariff] = found
        return found

    def counts(self, kind: str, tariff: int) -> bool:
        """Whether this load ever moves that register."""
        found = self._counts.get((kind, tariff))
        if found is None:
            found = self._counts[kind, tariff] = any(day[-1] for days in self.sums(kind, tariff) for day in days)
        return found


def _counted(day: Day, kind: str, tariff: int) -> list[float]:
    """The power that a register of this kind counts in each slot; zero outside its tariff."""
    schedule = tariff_schedule()
    counted = []
    for slot, (active, reactive) in enumerate(zip(day.active, day.reactive, strict=True)):
        value = 0.0
        if schedule[slot] == tariff:
            if kind == "import":
                value = max(active, 0.0)
            elif kind == "export":
                value = max(-active, 0.0)
            elif kind == f"q{quadrant(active, reactive)}":
                value = abs(reactive)
            elif kind == ("apparent_import" if active >= 0 else "apparent_export"):
                value = (active * active + reactive * reactive) ** 0.5
        counted.append(value)
    return counted


def quadrant(active: float, reactive: float) -> int:
    """The quadrant (1 to 4) in which a load works: 1 and 4 import, 1 and 2 inductive as seen by the meter."""
    if active >= 0:
        return 1 if reactive >= 0 else 4
    return 2 if reactive >= 0 else 3


def _slots(hours: Sequence[float]) -> list[float]:
    """Hourly values joined by straight lines, at the middle of each slot."""
    slots = []
    for slot in range(SLOTS):
        hour, part = divmod((slot + 0.5) / 4 - 0.5, 1)
        slots.append(hours[int(hour) % 24] * (1 - part) + hours[int(hour + 1) % 24] * part)
    return slots


@cache
def _tables() -> dict[str, dict[str, Any]]:
    return tomllib.loads(_FILE.read_text(encoding="utf-8"))


@cache
def tariff_schedule() -> tuple[int, ...]:
    """The tariff (1 to 4) that counts in each slot of a local day."""
    hours = _tables()["schedule"]["tariffs"]
    return tuple(hours[slot // 4] for slot in range(SLOTS))


def load_names() -> list[str]:
    """The load shapes that a fleet file may name."""
    return sorted(_tables()["load"])


@cache
def load(name: str) -> Load:
    """The load shape of a name; KeyError where there is none."""
    return Load(name, _tables()["load"][name])
