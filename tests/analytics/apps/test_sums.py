"""Sums of intervals add up whatever their lengths, over months, and say what of them is known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import lcm
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meter_batch_analytics.archive.store import Archive
from meter_batch_analytics.sources.sums import sums
from meter_batch_engine.model.interval import Changes, Interval, Quality

IMPORT = "1-0:1.8.0"
BEGIN = datetime(2026, 1, 31, 22, tzinfo=UTC)
END = BEGIN + timedelta(hours=6)


def made(point: str, minutes: int, kwh: int, lost: Iterable[int] = ()) -> list[Interval]:
    """Six hours over the end of a month in intervals of that length; those lost are not there."""
    return [
        Interval(
            point, BEGIN + timedelta(minutes=minutes * number), minutes * 60, {IMPORT: Decimal(kwh)},
            frozenset({Quality.MEASURED}), 1, "poll", known_s=minutes * 60,
        )
        for number in range(360 // minutes)
        if number not in set(lost)
    ]  # fmt: skip


def kept(folder: Path, intervals: list[Interval]) -> Archive:
    with Archive(folder / "archive", time_zone="UTC", writing=True) as archive:
        archive.take("archive", Changes(1, intervals))
        archive.compact()
    return Archive(folder / "archive")


@given(
    st.dictionaries(st.sampled_from("abcd"), st.sampled_from([5, 10, 15, 30, 60]), min_size=1),
    st.sets(st.integers(0, 5), max_size=3),
)
@settings(max_examples=40, deadline=None)
def test_nothing_is_lost_between_lengths(lengths: dict[str, int], lost: set[int]) -> None:
    import tempfile

    rows = [row for point, minutes in lengths.items() for row in made(point, minutes, 2, lost)]
    if not rows:
        return
    with tempfile.TemporaryDirectory() as folder:
        archive = kept(Path(folder), rows)
        groups = [{one: 1} for one in lengths] + [dict.fromkeys(lengths, 1), {next(iter(lengths)): -1}]
        parts = list(sums(archive, groups, BEGIN, END))
        totals = sum(np.nansum(one.kwh, axis=1) for one in parts)
        expected = [float(sum(2 for row in rows if row.point == one)) for one in lengths]
        assert totals.tolist() == [*expected, sum(expected), -expected[0]]
        for one in parts:
            assert one.length_s <= lcm(*lengths.values()) * 60
            assert (np.diff(one.start) == one.length_s * 1000).all()
            assert ((one.known >= 0) & (one.known <= 1)).all()
        known = sum((one.known[0] * one.length_s).sum() for one in parts)
        first = next(iter(lengths))
        assert known == sum(row.length_s for row in rows if row.point == first)


def test_a_sum_is_known_as_far_as_its_members_are(tmp_path: Path) -> None:
    archive = kept(tmp_path, made("a", 15, 1) + made("b", 15, 3, [20]))
    (_, second) = sums(archive, [{"a": 1, "b": 1}, {"a": 1, "b": -1}, {"b": 1}], BEGIN, END)
    place = 20 - 8
    assert second.kwh[:, place - 1].tolist() == [4, -2, 3]
    assert (second.kwh[0, place], second.known[0, place]) == (1, 0.5)
    assert (np.isnan(second.kwh[2, place]), second.known[2, place]) == (True, 0)


def test_what_of_a_slot_intervals_cover_is_told(tmp_path: Path) -> None:
    rows = made("a", 15, 3)
    # The last quarter has come as far as its first five minutes.
    rows[-1] = replace(rows[-1], length_s=300, energies={IMPORT: Decimal(1)}, known_s=300)
    archive = kept(tmp_path, rows + made("b", 15, 3, [23]))
    (_, second) = sums(archive, [{"a": 1}, {"b": 1}, {"a": 1, "b": 1}], BEGIN, END)
    assert second.length_s == 900 and second.covered[:, -2].tolist() == [1, 1, 1]
    assert second.covered[:, -1] == pytest.approx([1 / 3, 0, 1 / 3])


def test_only_the_period_is_read(tmp_path: Path) -> None:
    archive = kept(tmp_path, made("a", 15, 1))
    parts = list(sums(archive, [{"a": 1}], BEGIN + timedelta(minutes=45), END - timedelta(minutes=30)))
    assert sum(np.nansum(one.kwh) for one in parts) == 24 - 3 - 2
    assert list(sums(archive, [{"a": 1}], END, END + timedelta(days=1))) == []
    assert list(sums(archive, [{"nobody": 1}], BEGIN, END)) == []
