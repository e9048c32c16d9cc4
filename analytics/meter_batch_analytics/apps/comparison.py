"""A period beside the one before it or the year before: like days with like days, complete days only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

import numpy as np

from meter_batch_engine.model.day import DayCalendar

from ..comparable import Match, previous_period, same_last_year, with_last_year, with_previous
from ..periods import Resolution
from ..plots import Curve as Drawn
from ..words import Words
from .curves import Group, Quantity, broken
from .days import Days
from .reading import Reader, Told

LEAST_KNOWN = 0.9
"""Of a day, over all points: below, it is not compared."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Pairs of like days that are both complete, and their daily values."""

    kind: str
    match: Match
    pairs: tuple[tuple[date, date], ...]
    incomplete: int
    """Pairs left out because one of the two days is not complete."""
    here: Days
    there: Days
    plain: float | None
    """By how much all days changed against all days of the other period, as in reports; None where those are not known
    well enough.
    """

    def totals(self, points: Sequence[str] | None = None) -> tuple[Decimal, Decimal]:
        """Energy now and then, over the pairs."""
        first, second = self.here.days[0], self.there.days[0]
        return (
            self.here.total(points, [(one - first).days for one, _ in self.pairs]),
            self.there.total(points, [(one - second).days for _, one in self.pairs]),
        )

    def change(self, points: Sequence[str] | None = None) -> float | None:
        """By how much it changed: 0.05 is 5 % more. None where there is nothing to compare with."""
        now, then = self.totals(points)
        return float(now / then - 1) if self.pairs and then > 0 else None

    def note(self, words: Words) -> str:
        """How days were matched, in words."""
        days = len(self.match.pairs) + len(self.match.left_out)
        text = [words(f"matched_{self.kind}", n=len(self.pairs), days=days)]
        if self.match.moved_holidays:
            text.append(words("holidays_moved"))
        if self.match.left_out:
            text.append(words("no_like_day", n=len(self.match.left_out)))
        if self.incomplete:
            text.append(words("incomplete_left_out", n=self.incomplete))
        return " ".join(text) if words.language == "en" else "".join(text)


def compare(
    reader: Reader, kind: str, here: Days, calendar: DayCalendar, told: Told = lambda _: None
) -> Comparison | None:
    """The days of a period with like ones: `kind` "previous" or "last_year". Today is not over and not compared."""
    days = [one for one in here.days if one != reader.today()]
    if not days:
        return None
    match = (with_previous if kind == "previous" else with_last_year)(days[0], days[-1], calendar)
    if not match.pairs:
        return None
    others = [one for _, one in match.pairs]
    before = (previous_period if kind == "previous" else same_last_year)(days[0], days[-1])
    there = reader.days(here.points, min(*others, before[0]), max(*others, before[1]), told)
    if not there.days:
        return None
    first, second = here.days[0], there.days[0]
    full = [_known(days) >= LEAST_KNOWN for days in (here, there)]
    pairs = tuple(
        (one, other) for one, other in match.pairs if full[0][(one - first).days] and full[1][(other - second).days]
    )
    return Comparison(kind, match, pairs, len(match.pairs) - len(pairs), here, there,
                      _plain(here, there, (days[0], days[-1]), before))  # fmt: skip


def _plain(here: Days, there: Days, now: tuple[date, date], then: tuple[date, date]) -> float | None:
    """The change of whole periods; None where less than `LEAST_KNOWN` of either is known."""
    totals = []
    for days, (first, last) in ((here, now), (there, then)):
        places = list(range((first - days.days[0]).days, min((last - days.days[0]).days + 1, len(days.days))))
        if not places or _known(days)[places].mean() < LEAST_KNOWN:
            return None
        totals.append(days.total(places=places))
    return float(totals[0] / totals[1] - 1) if totals[1] > 0 else None


def _known(days: Days) -> np.ndarray:
    """Share of each day that is known, over the points that have a record by then."""
    due = np.arange(len(days.days)) >= days.since[:, None]
    count = due.sum(axis=0)
    return np.where(count > 0, (days.known * due).sum(axis=0) / np.maximum(count, 1), 0.0)


def beside(
    reader: Reader, found: Comparison, group: Group, resolution: Resolution, quantity: Quantity, name: str, told: Told
) -> Drawn | None:
    """The curve of the days that are compared with, each drawn over the day it is compared to."""
    onto: Mapping[np.datetime64, np.datetime64] = {
        np.datetime64(other, "D"): np.datetime64(one, "D") for one, other in found.pairs
    }
    if not onto or resolution not in ("interval", "hour", "day"):
        return None
    first = min(other for _, other in found.pairs)
    last = max(other for _, other in found.pairs)
    begin, end = reader.midnight(first), reader.midnight(last + timedelta(days=1))
    curves = reader.curves([group], begin, end, resolution, quantity, told)
    if not curves:
        return None
    wall = reader.wall(curves[0].start)
    days, which = np.unique(wall.astype("datetime64[D]"), return_inverse=True)
    target = np.array([onto.get(one, np.datetime64("NaT", "D")) for one in days], "datetime64[D]")[which]
    kept = np.flatnonzero(~np.isnat(target))
    moved = (target + (wall - wall.astype("datetime64[D]")))[kept]
    order = np.argsort(moved, kind="stable")
    start = moved[order].astype("datetime64[ms]").astype(np.int64)
    length = (curves[0].end - curves[0].start)[kept][order]
    _, x, y = broken(start, start + length, curves[0].value[kept][order])
    return Drawn(name, x.astype("datetime64[ms]"), y)
