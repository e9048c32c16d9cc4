"""Virtual points: sums and differences of points, for example main minus subs: what nobody accounts for. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Literal

from ..model.interval import Interval, Quality
from ..model.obis import Obis
from ..model.point import Term
from .period import gathered

HOUR_S = 3600
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR = timedelta(hours=1)


def combine(point: str, terms: Sequence[Term], intervals: Iterable[Interval]) -> list[Interval]:
    """The intervals of a virtual point from those of its parts, by start; all of one resolution.

    Parts may be read at different intervals: within an hour the longest counts. An energy is given where every part
    that has an interval has it. `parts` says how many parts were wholly known of how many; what is missing is not
    guessed, so an incomplete difference is no loss yet.
    """
    signs = {term.point: term.sign for term in terms}
    groups: dict[tuple[int, object], list[Interval]] = {}
    for one in _alike([one for one in intervals if one.point in signs]):
        groups.setdefault((one.length_s, one.start), []).append(one)
    found = [_combined(point, signs, group) for group in groups.values()]
    return sorted(found, key=lambda one: (one.start, one.length_s))


def _alike(intervals: Sequence[Interval]) -> Iterator[Interval]:
    """The same energies in intervals of one length within each hour."""
    if len({one.length_s for one in intervals}) == 1:
        yield from intervals
        return
    hours: dict[int, list[Interval]] = {}
    for one in intervals:
        if one.length_s <= HOUR_S:
            hours.setdefault((one.start - _EPOCH) // _HOUR, []).append(one)
        else:
            yield one
    for hour in hours.values():
        longest = max(one.length_s for one in hour)
        slots: dict[tuple[str, datetime], list[Interval]] = {}
        for one in hour:
            start = _EPOCH + (one.start - _EPOCH) // timedelta(seconds=longest) * timedelta(seconds=longest)
            slots.setdefault((one.point, one.start if one.length_s == longest else start), []).append(one)
        for (_, start), slot in slots.items():
            yield slot[0] if len(slot) == 1 and slot[0].length_s == longest else gathered(start, longest, slot)


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
    )
