"""A period beside the one before and the same of last year: as they were, and on days that are alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

import numpy as np

from meter_batch_engine.model.day import DayCalendar

from ..comparable import Match, with_last_year, with_previous
from .facts import Compared
from .measured import IMPORT, Array, Histories, Rows, groups, instant, read
from .period import ReportPeriod, day_begins

USABLE = 0.95
"""Share of a day, or a period, that must be known or estimated for it to be compared."""
ZERO = Decimal(0)

type Terms = Mapping[str, int]
"""Measured points with their signs."""


@dataclass(frozen=True, slots=True)
class Days:
    """Energies of measured points by day."""

    places: Mapping[date, int]
    rows: Rows
    counts: Array
    has: Array
    """Values a day."""
    known: Array
    """Share of a day."""
    covered: Array
    """Share of a day that is known or estimated."""
    usable: Array

    def at(self, day: date) -> int | None:
        """The place of a day; None outside."""
        return self.places.get(day)

    def kwh(self, terms: Terms, places: Sequence[int]) -> Decimal | None:
        """The sum over days; None where nothing is known of any."""
        if not places or not any(self.has[self.rows.places[leaf], place] for leaf in terms for place in places):
            return None
        total = sum(sign * int(self.counts[self.rows.places[leaf], list(places)].sum()) for leaf, sign in terms.items())
        return self.rows.decimal(total)

    def can(self, terms: Terms, place: int) -> bool:
        """Whether a day is known well enough of all parts of a point."""
        return all(self.usable[self.rows.places[leaf], place] for leaf in terms)


def days_of(rows: Rows, period: ReportPeriod, first: date, last: date) -> Days:
    """Days made of rows of any resolution; both days included."""
    zone = period.zone
    since, until = day_begins(first, zone), day_begins(last + timedelta(days=1), zone)
    place, borders = groups(rows, since, until, "day", zone)
    length = np.diff(borders) / 1000
    count = len(length)
    counts, has = rows.sums(IMPORT, place, count)
    known = rows.seconds(rows.known_s, place, count) / length
    covered = rows.seconds(np.rint(rows.covered * rows.length_s).astype(np.int64), place, count) / length
    places = {instant(one, zone).date(): number for number, one in enumerate(borders[:-1])}
    return Days(places, rows, counts, has, known, covered, (has > 0) & (covered >= USABLE))


class Comparison:
    """One other period beside this one."""

    def __init__(
        self, period: ReportPeriod, other: ReportPeriod, match: Match, whole: Sequence[date], this: Days, there: Days
    ) -> None:
        """`whole`: the days of this period that are over."""
        self._label, self._this, self._there = other.label, this, there
        self._mine = [place for day in whole if (place := this.at(day)) is not None]
        # Of a period that is not over as many days of the other one; of one that is over all.
        days = other.days if len(whole) == len(period.days) else other.days[: len(whole)]
        self._others = [place for day in days if (place := there.at(day)) is not None]
        self._pairs = [
            (mine, theirs)
            for day, like in match.pairs
            if day in set(whole) and (mine := this.at(day)) is not None and (theirs := there.at(like)) is not None
        ]
        # Of a day people ask which one it is compared with; of a month each day has its own.
        one = period.kind == "daily" and len(match.pairs) == 1
        self._like = match.pairs[0][1].isoformat() if one else None

    def of(self, points: Sequence[Terms]) -> Compared:
        """Of a sum of points."""
        this = _added(self._this.kwh(terms, self._mine) for terms in points)
        other = _added(self._there.kwh(terms, self._others) for terms in points)
        change = _change(this, other) if self._both_known(points) else None
        known = [
            float(self._there.known[self._there.rows.places[leaf], self._others].mean())
            for terms in points
            for leaf in terms
            if self._others
        ]
        mine, theirs, days = ZERO, ZERO, 0
        for here, there in self._pairs:
            both = [one for one in points if self._this.can(one, here) and self._there.can(one, there)]
            for terms in both:
                mine += self._this.kwh(terms, [here]) or ZERO
                theirs += self._there.kwh(terms, [there]) or ZERO
            days += bool(both)
        return Compared(
            self._label, other, this, change, min(1.0, sum(known) / len(known)) if known else 0.0,
            theirs if days else None, mine if days else None, _change(mine, theirs) if days else None, days,
            self._like if days else None,
        )  # fmt: skip

    def _both_known(self, points: Sequence[Terms]) -> bool:
        """Whether all parts of a sum are known well enough in both periods; those of which nothing is known in either
        are in neither sum.
        """
        if not self._mine or not self._others:
            return False
        for leaf in {leaf for terms in points for leaf in terms}:
            here = float(self._this.covered[self._this.rows.places[leaf], self._mine].mean())
            there = float(self._there.covered[self._there.rows.places[leaf], self._others].mean())
            if (here or there) and min(here, there) < USABLE:
                return False
        return True


def comparisons(
    site: Histories,
    leaves: Sequence[str],
    period: ReportPeriod,
    whole: Sequence[date],
    this: Days,
    calendar: DayCalendar,
) -> tuple[Comparison, Comparison, dict[date, date]]:
    """With the period before and with last year; and which day is compared with which of the period before."""
    found = []
    for other, match in (
        (period.previous(), with_previous(period.first, period.last, calendar)),
        (period.last_year(), with_last_year(period.first, period.last, calendar)),
    ):
        likes = [like for _, like in match.pairs]
        first, last = min([other.first, *likes]), max([other.last, *likes])
        since = day_begins(first, period.zone)
        until = min(day_begins(last + timedelta(days=1), period.zone), period.start)
        rows = read(site, leaves, since, until, "day")
        found.append((Comparison(period, other, match, whole, this, days_of(rows, period, first, last)), match))
    return found[0][0], found[1][0], dict(found[0][1].pairs)


def _added(values: object) -> Decimal | None:
    there = [one for one in values if one is not None]  # type: ignore[attr-defined]
    return sum(there, ZERO) if there else None


def _change(this: Decimal | None, other: Decimal | None) -> float | None:
    return None if this is None or other is None or other <= 0 else float(this / other) - 1
