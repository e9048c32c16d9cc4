"""Energies of stretches of time, added up from rows without making intervals of them: much of it, and often. Pure.

Counts of one layout and factor are added as integers; only their sum becomes a decimal. So it is exact, and the same
as `period.gather` of the intervals.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import pairwise

from ..model.interval import Quality
from ..model.obis import Obis
from .rows import FLAGS, KNOWN, Raw
from .shape import Columns


@dataclass(frozen=True, slots=True)
class Sum:
    """What the intervals hold that start from `start` up to before `end`; at the primary side, exact."""

    start: datetime
    end: datetime
    energies: Mapping[Obis, Decimal]
    covered_s: int
    """Seconds of the intervals; 0 where there are none."""
    known_s: int
    """Of these, what is measured, from memory or edited."""
    flags: frozenset[Quality]


class Adder:
    """Adds rows up between edges (seconds, ascending)."""

    def __init__(self, edges: Sequence[int]) -> None:
        self._edges = edges
        self._slots: dict[int, _Slot] = {}

    def add(self, rows: Sequence[Raw]) -> None:
        """The final rows from one edge or later up to before the last one, by start."""
        starts = [row[2] for row in rows]
        at = 0
        while at < len(rows):
            place = bisect_right(self._edges, starts[at]) - 1
            end = bisect_left(starts, self._edges[place + 1], at)
            if (slot := self._slots.get(place)) is None:
                slot = self._slots[place] = _Slot()
            slot.add(rows[at:end])
            at = end

    def sums(self, edges: Sequence[datetime], layouts: Mapping[int, Columns]) -> list[Sum]:
        """One for each pair of neighbouring edges."""
        units = {
            (layout, factor): [
                (obis, Decimal(1).scaleb(exponent) * Decimal(factor)) for obis, exponent in layouts[layout]
            ]
            for layout, factor in {key for slot in self._slots.values() for key in slot.totals}
        }
        found = []
        for place, (start, end) in enumerate(pairwise(edges)):
            slot = self._slots.get(place, _NOTHING)
            energies: dict[Obis, Decimal] = {}
            for key, total in slot.totals.items():
                for (obis, unit), count in zip(units[key], total, strict=True):
                    energy = count * unit
                    energies[obis] = energies[obis] + energy if obis in energies else energy
            found.append(Sum(start, end, energies, slot.covered_s, slot.known_s, FLAGS[slot.flags]))
        return found


class _Slot:
    """What lies between two edges so far."""

    __slots__ = ("covered_s", "flags", "known_s", "totals")

    def __init__(self) -> None:
        self.covered_s = self.known_s = self.flags = 0
        self.totals: dict[tuple[int, str], list[int]] = {}

    def add(self, rows: Iterable[Raw]) -> None:
        covered_s = known_s = bits = 0
        alike: dict[tuple[int, str], list[str]] = {}
        for _, _, _, _, length, layout, counts, factor, flags in rows:
            covered_s += length
            bits |= flags
            if flags & KNOWN:
                known_s += length
            if (texts := alike.get(key := (layout, factor))) is None:
                alike[key] = [counts]
            else:
                texts.append(counts)
        self.covered_s += covered_s
        self.known_s += known_s
        self.flags |= bits
        for key, texts in alike.items():
            numbers = list(map(int, " ".join(texts).split()))
            width = len(numbers) // len(texts)
            total = [sum(numbers[column::width]) for column in range(width)]
            known = self.totals.get(key)
            self.totals[key] = total if known is None else [a + b for a, b in zip(known, total, strict=True)]


_NOTHING = _Slot()
