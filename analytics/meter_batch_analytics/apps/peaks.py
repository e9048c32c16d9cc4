"""Of groups of points and a period: the highest demand with its time, load factor, share at night."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from ..sources.sums import STEPS
from .curves import Group
from .reading import Reader, Told, coarser

QUARTER_S = 900
"""Demand is the mean of a quarter of an hour, as in reports."""
WHOLE = 0.999
"""Of a slot, for its mean to be a demand: one that has only begun has none."""
NIGHT = (22, 6)
"""Hours of wall clock between which it is night."""
MOST_POINT_DAYS = 1000 * 400
"""Above, all intervals are not read only for key figures: it would take minutes."""


@dataclass(frozen=True, slots=True)
class Peak:
    """Demand of a group: kW over intervals, `at` its start in milliseconds; shares 0 to 1, NaN where unknown."""

    kw: float
    at: int
    length_s: int
    mean_kw: float
    night: float

    @property
    def load_factor(self) -> float:
        """Mean over highest demand."""
        return self.mean_kw / self.kw if self.kw > 0 else float("nan")


NONE = Peak(float("nan"), 0, 0, float("nan"), float("nan"))


def peaks(reader: Reader, groups: Sequence[Group], begin: datetime, end: datetime, told: Told) -> list[Peak]:
    """The peak of each group. Month by month, so that memory does not grow with the period.

    Finer intervals are added up to whole quarters of an hour; longer ones count by their own mean.
    Intervals of which less than half is known do not count for the highest: an estimate has no course.
    """
    count = len(groups)
    best, at, lengths = np.full(count, -np.inf), np.zeros(count, np.int64), np.zeros(count, np.int64)
    energy, dark, hours = np.zeros(count), np.zeros(count), np.zeros(count)
    end = min(end, reader.session.now())
    if end > begin:
        for part in reader.site.sums([one.points for one in groups], begin, end, progress=told):
            there = np.isfinite(part.kwh)
            kwh = np.where(there, part.kwh, 0)
            step = next(one for one in STEPS if one >= QUARTER_S and one % part.length_s == 0)
            start, slots, known, covered, _ = coarser(part, step)
            whole = np.isfinite(slots) & (known >= 0.5) & (covered >= WHOLE)
            power = np.where(whole, slots, -np.inf) * 3600 / step
            place = power.argmax(axis=1)
            highest = power[np.arange(count), place]
            better = highest > best
            best = np.where(better, highest, best)
            at = np.where(better, start[place], at)
            lengths = np.where(better, step, lengths)
            wall = reader.wall(part.start)
            hour = (wall.astype("datetime64[h]") - wall.astype("datetime64[D]")).astype(np.int64)
            night = (hour >= NIGHT[0]) | (hour < NIGHT[1])
            energy += kwh.sum(axis=1)
            dark += kwh[:, night].sum(axis=1)
            hours += part.covered.sum(axis=1, dtype=np.float64) * part.length_s / 3600
    return [
        Peak(
            float(best[row]) if np.isfinite(best[row]) else float("nan"),
            int(at[row]),
            int(lengths[row]),
            float(energy[row] / hours[row]) if hours[row] else float("nan"),
            float(dark[row] / energy[row]) if energy[row] > 0 else float("nan"),
        )
        for row in range(count)
    ]
