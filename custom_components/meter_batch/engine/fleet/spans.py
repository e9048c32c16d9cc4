"""Stretches of time as sets: what is missing, what was asked, what came. Whole seconds since 1970."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

type Span = tuple[int, int]
"""`[start, end)`."""


class Spans:
    """A set of seconds, kept as sorted ranges that do not touch."""

    __slots__ = ("_ranges",)

    def __init__(self, ranges: Iterable[Span] = ()) -> None:
        self._ranges: list[Span] = []
        for start, end in sorted(ranges):
            if start >= end:
                continue
            if self._ranges and start <= self._ranges[-1][1]:
                self._ranges[-1] = (self._ranges[-1][0], max(end, self._ranges[-1][1]))
            else:
                self._ranges.append((start, end))

    def __iter__(self) -> Iterator[Span]:
        return iter(self._ranges)

    def __bool__(self) -> bool:
        return bool(self._ranges)

    def __contains__(self, at: int) -> bool:
        place = bisect_right(self._ranges, at, key=_start)
        return place > 0 and at < self._ranges[place - 1][1]

    def add(self, start: int, end: int) -> None:
        """Takes a range in."""
        if start >= end:
            return
        ranges = self._ranges
        if ranges and ranges[-1][0] <= start <= ranges[-1][1]:
            ranges[-1] = (ranges[-1][0], max(end, ranges[-1][1]))
            return
        self._ranges = Spans([*ranges, (start, end)])._ranges

    def cut(self, start: int, end: int) -> None:
        """Takes a range out."""
        if start < end:
            self._ranges = list(_minus(self._ranges, [(start, end)]))

    def minus(self, other: Spans) -> Spans:
        """What is in this set and not in the other."""
        found = Spans()
        found._ranges = list(_minus(self._ranges, other._ranges)) if other else list(self._ranges)
        return found

    def within(self, lo: int, hi: int) -> Spans:
        """What lies in `[lo, hi)`."""
        found = Spans()
        if lo < hi:
            found._ranges = [(max(lo, start), min(hi, end)) for start, end in self._ranges if start < hi and end > lo]
        return found

    @property
    def seconds(self) -> int:
        """How many there are."""
        return sum(end - start for start, end in self._ranges)


def _start(span: Span) -> int:
    return span[0]


def _minus(ranges: list[Span], others: list[Span]) -> Iterator[Span]:
    place = 0
    for start, end in ranges:
        while place < len(others) and others[place][1] <= start:
            place += 1
        at, look = start, place
        while look < len(others) and others[look][0] < end:
            if others[look][0] > at:
                yield at, others[look][0]
            at = max(at, others[look][1])
            look += 1
        if at < end:
            yield at, end
