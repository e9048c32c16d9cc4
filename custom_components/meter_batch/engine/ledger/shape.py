"""The typical shape of a point's consumption: how much of it falls into which hour of which day of the week. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, tzinfo
from functools import lru_cache

HISTORY_S = 21 * 86400
"""How far back the shape looks: every day of the week three times."""
LEAST_S = 86400
"""With less history than a day there is no shape."""
FINE = 10**6

type Class = tuple[int, int]
"""Day of the week (0 is Monday) and hour, at the site's time."""


def classes(zone: tzinfo) -> Callable[[int], Class]:
    """Tells the class of a second; remembers, because four registers of a point ask for the same."""

    @lru_cache(maxsize=1 << 14)
    def class_of(start: int) -> Class:
        local = datetime.fromtimestamp(start, UTC).astimezone(zone)
        return local.weekday(), local.hour

    return class_of


class Shape:
    """Relative consumption by day of the week and hour; even where nothing is known."""

    def __init__(self, history: Iterable[tuple[int, int, int]], class_of: Callable[[int], Class]) -> None:
        """`history`: start and length in seconds and a count at one exponent, of intervals that are wholly known."""
        self._class = class_of
        counts: defaultdict[Class, int] = defaultdict(int)
        lengths: defaultdict[Class, int] = defaultdict(int)
        for start, length, count in history:
            one = self._class(start)
            counts[one] += max(0, count)
            lengths[one] += length
        self._lengths = sum(lengths.values())
        self._rates: dict[Class, int] = {}
        self._mean = 0
        if self._lengths >= LEAST_S:
            self._rates = {one: count * FINE // lengths[one] for one, count in counts.items()}
            self._mean = sum(counts.values()) * FINE // self._lengths

    def rates(self, starts: Sequence[int]) -> list[int]:
        """How fast it counts in each interval, by start: the same day and hour, else any day's hour, else the mean."""
        if not self._rates:
            return [1] * len(starts)
        by_hour: dict[int, list[int]] = {}
        for (_, hour), rate in self._rates.items():
            by_hour.setdefault(hour, []).append(rate)
        found = []
        for start in starts:
            one = self._class(start)
            others = by_hour.get(one[1])
            usual = sum(others) // len(others) if others else self._mean
            found.append(self._rates.get(one, usual))
        return found
