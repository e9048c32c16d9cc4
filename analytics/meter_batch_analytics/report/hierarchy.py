"""Which points make up a total, so that no kilowatt-hour counts twice. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from meter_batch_engine.model.point import Point


def ancestors(points: Mapping[str, Point], id_: str) -> Iterator[str]:
    """Those that measure a point too, nearest first; a circle ends where it began."""
    seen = {id_}
    at = points[id_].parent
    while at is not None and at not in seen and at in points:
        yield at
        seen.add(at)
        at = points[at].parent


def members(points: Mapping[str, Point], chosen: Collection[str]) -> tuple[str, ...]:
    """Of the chosen those that no other chosen one measures as well. Virtual points are made of others: never."""
    real = {one for one in chosen if not points[one].virtual}
    found = [one for one in sorted(real) if not real.intersection(ancestors(points, one))]
    if not found and real:
        # All stand in a circle of parents; any is as good as another.
        found = [min(real)]
    return tuple(found)


def children(points: Mapping[str, Point], chosen: Collection[str], id_: str) -> tuple[str, ...]:
    """The chosen real points right within a point: no chosen one stands between."""
    real = {one for one in chosen if not points[one].virtual}
    found = []
    for one in sorted(real - {id_}):
        nearest = next((above for above in ancestors(points, one) if above in real), None)
        if nearest == id_:
            found.append(one)
    return tuple(found)


def terms(points: Mapping[str, Point], id_: str) -> dict[str, int]:
    """A point as a sum of measured ones with their signs; itself where it is measured, or what it is made of is not
    known here.
    """
    found = _terms(points, id_, frozenset())
    return {id_: 1} if found is None else found


def _terms(points: Mapping[str, Point], id_: str, above: frozenset[str]) -> dict[str, int] | None:
    if id_ not in points or id_ in above:
        return None
    if not points[id_].virtual:
        return {id_: 1}
    sums: dict[str, int] = {}
    for term in points[id_].formula:
        part = _terms(points, term.point, above | {id_})
        if part is None:
            return None
        for leaf, sign in part.items():
            sums[leaf] = sums.get(leaf, 0) + sign * term.sign
    return {leaf: sign for leaf, sign in sums.items() if sign}
