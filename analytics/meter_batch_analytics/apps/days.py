"""Daily values of points, and sums of them that are exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Days:
    """Daily values of points: arrays of points × days; NaN where there is no row."""

    points: tuple[str, ...]
    days: tuple[date, ...]
    start: Any
    """Milliseconds at which each day begins; one more for the end of the last."""
    kwh: Any
    kvarh: Any
    demand_kw: Any
    """Highest power that was read on the day."""
    known: Any
    """Share of the day that is known, of all its seconds; 0 without a row."""
    flags: Any
    since: Any
    """For each point the day (place) on which its record begins; days before are not missing."""

    def place(self, point: str) -> int:
        """The row of a point."""
        return self.points.index(point)

    def total(self, points: Sequence[str] | None = None, places: Any = None) -> Decimal:
        """Energy of points (all without) on days (places; all without), exact: the sum of the ledger's decimals."""
        rows = list(range(len(self.points))) if points is None else [self.place(one) for one in points]
        chosen = self.kwh[rows] if places is None else self.kwh[rows][:, places]
        return exact_sum(chosen)

    def covered_days(self, points: Sequence[str] | None = None) -> float:
        """How many days hold energy of any of the points; today only as far as it has come."""
        rows = list(range(len(self.points))) if points is None else [self.place(one) for one in points]
        there = np.isfinite(self.kwh[rows]).any(axis=0)
        return float((np.diff(self.start)[: len(self.days)] * there).sum()) / 86_400_000

    def completeness(self, points: Sequence[str] | None = None) -> float:
        """Share of the time since each point's record began, until the last of the days, that is known."""
        rows = range(len(self.points)) if points is None else [self.place(one) for one in points]
        length = np.diff(self.start).astype(np.float64)
        due = known = 0.0
        for row in rows:
            there = slice(int(self.since[row]), None)
            due += float(length[there].sum())
            known += float((length * self.known[row])[there].sum())
        return known / due if due else float("nan")


def exact_sum(values: Any) -> Decimal:
    """The sum of numbers that stand for decimals, as a decimal without trailing zeros.

    Every number is the one nearest to a decimal of at most 15 digits and seven places, so the decimal is got back, and
    whole numbers add up without error.
    """
    there = values[np.isfinite(values)]
    if not there.size:
        return Decimal(0)
    whole = len(str(int(np.abs(there).max())))
    places = max(0, min(7, 15 - whole))
    counts = np.rint(there * 10.0**places).astype(np.int64)
    # Not more at once than 64 bits hold.
    total = sum(int(one) for one in np.add.reduceat(counts, range(0, len(counts), 4096)))
    found = Decimal(total).scaleb(-places).normalize()
    return found.quantize(Decimal(1)) if found == found.to_integral_value() else found


def digits_of(value: Decimal, most: int = 3) -> int:
    """How many decimals a sum has, so that it can be shown as it is."""
    exponent = value.as_tuple().exponent
    return min(most, max(0, -exponent)) if isinstance(exponent, int) else 0
