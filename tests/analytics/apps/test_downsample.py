"""Fewer points, the same picture."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from meter_batch_analytics.downsample import peaks


@given(st.integers(1, 3000), st.integers(1, 60), st.integers(0, 99), st.floats(0, 0.5))
@settings(max_examples=60, deadline=None)
def test_every_stretch_keeps_its_ends_its_lowest_and_its_highest(
    count: int, stretches: int, seed: int, lost: float
) -> None:
    random = np.random.default_rng(seed)
    x = np.cumsum(random.integers(1, 5, count)) * 1000
    y = random.normal(size=count)
    y[random.random(count) < lost] = np.nan
    kept = peaks(x, y, stretches)
    assert (np.diff(kept) > 0).all()
    assert len(kept) <= max(4, 5) * stretches or len(kept) == count
    assert {0, count - 1} <= set(kept.tolist())
    if count > 4 * stretches:
        bucket = np.minimum((x - x[0]) * stretches // max(1, x[-1] - x[0]), stretches - 1)
        for one in np.unique(bucket):
            all_, some = y[bucket == one], y[kept][bucket[kept] == one]
            if np.isfinite(all_).any():
                assert (np.nanmin(some), np.nanmax(some)) == (np.nanmin(all_), np.nanmax(all_))
            assert np.isnan(all_).any() == np.isnan(some).any()


def test_one_quarter_of_an_hour_in_ten_years_is_seen() -> None:
    x = np.arange(350_400) * 900_000
    y = np.ones(len(x))
    y[123_456] = 900
    kept = peaks(x, y)
    assert len(kept) < 6000
    assert 123_456 in kept
