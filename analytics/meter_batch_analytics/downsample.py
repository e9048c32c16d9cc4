"""Fewer points for a picture, without losing what is seen: of every stretch the lowest and the highest stay. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np

PIXELS = 1200
"""Stretches of a picture: about its pixels across on a wide screen."""


def peaks(x: Any, y: Any, stretches: int = PIXELS) -> Any:
    """Which places of a series to draw: of each of `stretches` equal stretches of `x` the first, the lowest, the
    highest and the last, and beside every gap (NaN) what borders on it. `x` rises. All places where there are few.

    So a peak of one interval is seen in a picture of ten years, at its height and in its place.
    """
    x, y = np.asarray(x), np.asarray(y, dtype=np.float64)
    if len(x) <= 4 * stretches:
        return np.arange(len(x))
    span = float(x[-1] - x[0]) or 1.0
    bucket = np.minimum(((x - x[0]) / span * stretches).astype(np.int64), stretches - 1)
    begin = np.flatnonzero(np.r_[True, bucket[1:] != bucket[:-1]])
    last = np.r_[begin[1:], len(x)] - 1
    gap = np.isnan(y)
    number = np.cumsum(np.r_[True, bucket[1:] != bucket[:-1]]) - 1
    kept = [begin, last]
    for worst, find in ((np.inf, np.minimum), (-np.inf, np.maximum)):
        filled = np.where(gap, worst, y)
        extreme = find.reduceat(filled, begin)
        hits = np.flatnonzero((filled == extreme[number]) & ~gap)
        # The first of equal ones.
        kept.append(hits[np.unique(number[hits], return_index=True)[1]])
    kept.append(_one_gap_each(gap, number))
    return np.unique(np.concatenate(kept))


def _one_gap_each(gap: Any, number: Any) -> Any:
    """A place without a value of every stretch that has one, so that the line is broken there."""
    hits = np.flatnonzero(gap)
    if not len(hits):
        return hits
    return hits[np.unique(number[hits], return_index=True)[1]]
