"""Virtual points: sums and differences of points, for example main minus subs: what nobody accounts for. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Literal

from ..model.interval import Interval, Quality
from ..model.obis import Obis
from ..model.point import Term
from .period import joined

HOUR_S = 3600
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR, _SECOND = timedelta(hours=1), timedelta(seconds=1)


def combine(point: str, terms: Sequence[Term], intervals: Iterable[Interval]) -> list[Interval]:
    """The intervals of a virtual point from those of its parts, by start; all of one resolution.

    Parts may be read at different intervals: what lies between two edges that all of an hour have is compared. An
    energy is given where every part that has an interval has it. `parts` says how many parts were wholly known of how
    many; what is missing is not guessed, so an incomplete difference is no loss yet.
    """
    signs = {term.point: term.sign for term in terms}
    groups: dict[tuple[int, object], list[Interval]] = {}
    for one in _alike([one for one in intervals if one.point in signs]):
        groups.setdefault((one.length_s, one.start), []).append(one)
    found = [_combined(point, signs, group) for group in groups.values()]
    return sorted(found, key=lambda one: (one.start, one.length_s))


def _alike(intervals: Sequence[Interval]) -> Iterator[Interval]:
    """The same energies in intervals that are cut alike within each hour."""
    hours: dict[int, dict[str, list[Interval]]] = {}
    for one in intervals:
        if one.length_s > HOUR_S:
            yield one
        else:
            hours.setdefault((one.start - _EPOCH) // _HOUR, {}).setdefault(one.point, []).append(one)
    for hour in hours.values():
        edges = [{edge for one in part for edge in (one.start, one.end)} for part in hour.values()]
        common = sorted(set.intersection(*edges))
        if len(common) == len(set.union(*edges)):
            for part in hour.values():
                yield from part
            continue
        for part in hour.values():
            slots: dict[int, list[Interval]] = {}
            for one in part:
                place = bisect_right(common, one.start)
                if 0 < place < len(common):
                    slots.setdefault(place, []).append(one)
                else:
                    yield one
            for place, slot in slots.items():
                start, length_s = common[place - 1], (common[place] - common[place - 1]) // _SECOND
                yield slot[0] if len(slot) == 1 else joined(start, length_s, slot)


def _combined(point: str, signs: dict[str, Literal[1, -1]], group: list[Interval]) -> Interval:
    common = set[Obis].intersection(*(set(one.energies) for one in group))
    energies = {
        obis: sum((signs[one.point] * one.energies[obis] for one in group), Decimal(0)) for obis in sorted(common)
    }
    flags: set[Quality] = set().union(*(one.flags for one in group))
    known = [one.known_s for one in group]
    whole = sum(one.known_s == one.length_s for one in group)
    return Interval(
        point,
        group[0].start,
        group[0].length_s,
        energies,
        frozenset(flags),
        max(one.revision for one in group),
        "virtual",
        max((one.skew_s for one in group), key=abs),
        " ".join(sorted({one.rule for one in group if one.rule})) or None,
        known_s=min(known) if len(group) == len(signs) else 0,
        parts=(whole, len(signs)),
        uncovered_s=min(one.uncovered_s for one in group),
    )
