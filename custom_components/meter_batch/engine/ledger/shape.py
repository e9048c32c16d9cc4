"""The typical shape of a point's consumption: how much of it falls into which hour of which day of the week. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from operator import add

from ..model.obis import Obis

DAY_S, HOUR_S = 86400, 3600
HISTORY_S = 21 * DAY_S
"""How far back the shape looks: every day of the week three times. With less than one day there is no shape."""
FINE = 10**6

type Columns = tuple[tuple[Obis, int], ...]
"""Which registers the counts of an interval are, each with its exponent."""
type Class = tuple[int, int]
"""Day of the week (0 is Monday) and hour, at the site's time."""


def classes(zone: tzinfo) -> Callable[[int], Class]:
    """Tells the class of a second; remembers, because four registers of a point ask for the same."""

    @lru_cache(maxsize=1 << 14)
    def class_of(start: int) -> Class:
        local = datetime.fromtimestamp(start, UTC).astimezone(zone)
        return local.weekday(), local.hour

    return class_of


def windows(starts: Sequence[int]) -> list[tuple[int, int]]:
    """Where the history of a stretch is: of a short one the same hours of the days before, else all of it."""
    lo, hi = starts[0] - HOUR_S, starts[-1] + 2 * HOUR_S
    if hi - lo >= DAY_S:
        return [(starts[0] - HISTORY_S, starts[0])]
    return [(lo - back, min(hi - back, starts[0])) for back in range(HISTORY_S, 0, -DAY_S)]


class Shape:
    """Relative consumption of a point's registers by day of the week and hour; even where nothing is known."""

    def __init__(
        self, history: Iterable[tuple[int, int, Columns, str]], class_of: Callable[[int], Class], least_s: int
    ) -> None:
        """`history`: start, length, columns and counts of intervals that are wholly known; `least_s`: of so long."""
        self._class, self._least_s = class_of, least_s
        self._sums: dict[tuple[Columns, Class], list[int]] = {}
        sums = self._sums
        for start, length, columns, counts in history:
            key = (columns, class_of(start))
            one = [length, *map(int, counts.split())]
            sums[key] = list(map(add, sums[key], one, strict=True)) if key in sums else one

    def rates(self, obis: Obis, starts: Sequence[int]) -> list[int]:
        """How fast it counts in each interval, by start: the same day and hour, else any day's hour, else the mean."""
        rates, mean = self._rates(obis)
        if not rates:
            return [1] * len(starts)
        by_hour: dict[int, list[int]] = {}
        for (_, hour), rate in rates.items():
            by_hour.setdefault(hour, []).append(rate)
        found = []
        for start in starts:
            one = self._class(start)
            others = by_hour.get(one[1])
            usual = sum(others) // len(others) if others else mean
            found.append(rates.get(one, usual))
        return found

    def _rates(self, obis: Obis) -> tuple[dict[Class, int], int]:
        mine: list[tuple[Class, int, int, int]] = []
        for (columns, one), (length, *counts) in self._sums.items():
            for (name, exponent), count in zip(columns, counts, strict=True):
                if name == obis:
                    mine.append((one, length, max(0, count), exponent))
        lowest = min((exponent for *_, exponent in mine), default=0)
        counted: defaultdict[Class, int] = defaultdict(int)
        lengths: defaultdict[Class, int] = defaultdict(int)
        for one, length, count, exponent in mine:
            counted[one] += int(count * 10 ** (exponent - lowest))
            lengths[one] += length
        whole = sum(lengths.values())
        if whole < self._least_s:
            return {}, 0
        return {one: count * FINE // lengths[one] for one, count in counted.items()}, sum(
            counted.values()
        ) * FINE // whole
