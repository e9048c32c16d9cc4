"""Sets of time: the same as sets of seconds."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from meter_batch_engine.fleet.spans import Spans

RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=8)


def seconds(ranges):
    return {one for start, end in ranges for one in range(start, end)}


def flat(spans):
    ranges = list(spans)
    assert all(start < end for start, end in ranges)
    assert all(one[1] < other[0] for one, other in pairwise(ranges)), "ranges touch"
    return seconds(ranges)


@given(RANGES, RANGES)
def test_minus_is_what_is_in_the_one_and_not_in_the_other(ones, others):
    assert flat(Spans(ones).minus(Spans(others))) == seconds(ones) - seconds(others)


@given(RANGES, st.integers(0, 60), st.integers(0, 60))
def test_adding_cutting_and_looking_within_are_those_of_sets(ranges, start, end):
    added, cut = Spans(ranges), Spans(ranges)
    added.add(start, end)
    cut.cut(start, end)
    assert flat(added) == seconds(ranges) | seconds([(start, end)])
    assert flat(cut) == seconds(ranges) - seconds([(start, end)])
    assert flat(Spans(ranges).within(start, end)) == seconds(ranges) & seconds([(start, end)])
    assert Spans(ranges).seconds == len(seconds(ranges))
    assert (start in Spans(ranges)) == (start in seconds(ranges))
