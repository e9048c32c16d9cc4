"""Like days are compared with like days."""

from __future__ import annotations

from datetime import date, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from meter_batch_analytics.comparable import (
    Match,
    feast_of,
    previous_period,
    with_last_year,
    with_previous,
)  # fmt: skip
from meter_batch_engine.model.day import DayCalendar, DayClass

CHINA = DayCalendar("CN")


@given(st.dates(date(2019, 1, 1), date(2026, 6, 1)), st.integers(0, 400), st.sampled_from(["CN", None]))
@settings(max_examples=60, deadline=None)
def test_pairs_are_of_one_kind_before_the_period_and_each_day_counts_once(
    first: date, length: int, country: str | None
) -> None:
    calendar = DayCalendar(country)
    last = first + timedelta(days=length)
    for match in (with_previous(first, last, calendar), with_last_year(first, last, calendar)):
        others = [other for _, other in match.pairs]
        assert len(set(others)) == len(others)
        assert all(other < first for other in others)
        assert len(match.pairs) + len(match.left_out) == length + 1
        for day, other in match.pairs:
            assert calendar.day_class(day) is calendar.day_class(other)
            if calendar.day_class(day) is not DayClass.HOLIDAY:
                assert day.weekday() == other.weekday()


def pairs(match: Match) -> dict[date, date]:
    return dict(match.pairs)


def test_the_spring_festival_is_compared_with_the_one_before_day_by_day() -> None:
    # 15 to 23 February 2026, 28 January to 4 February 2025.
    found = with_last_year(date(2026, 2, 1), date(2026, 2, 28), CHINA)
    assert pairs(found)[date(2026, 2, 15)] == date(2025, 1, 28)
    assert pairs(found)[date(2026, 2, 18)] == date(2025, 1, 31)
    # The ninth day has none, and is left out.
    assert date(2026, 2, 23) in found.left_out
    assert found.moved_holidays == 8


def test_a_week_without_holidays_is_compared_with_the_week_before() -> None:
    found = with_previous(date(2026, 11, 16), date(2026, 11, 22), CHINA)
    assert [(day - other).days for day, other in found.pairs] == [7] * 7
    assert found.left_out == ()


def test_a_month_is_compared_with_the_month_before_and_other_periods_with_whole_weeks() -> None:
    assert previous_period(date(2026, 3, 1), date(2026, 3, 31)) == (date(2026, 2, 1), date(2026, 2, 28))
    assert previous_period(date(2026, 1, 1), date(2026, 12, 31)) == (date(2025, 1, 1), date(2025, 12, 31))
    assert previous_period(date(2026, 3, 3), date(2026, 3, 5)) == (date(2026, 2, 24), date(2026, 2, 26))


def test_a_day_that_has_no_like_one_is_named() -> None:
    # Saturday 28 February 2026 is worked; no Saturday near the same date of 2025 is ... but 8 February.
    found = with_previous(date(2026, 2, 28), date(2026, 2, 28), CHINA)
    assert found.pairs == ()
    assert found.left_out == (date(2026, 2, 28),)


def test_feasts_have_names_in_china_alone() -> None:
    assert feast_of(date(2026, 10, 1), "CN") == "National Day"
    assert feast_of(date(2026, 10, 10), "CN", chinese=True) == "国庆节"  # the Saturday worked for it
    assert feast_of(date(2026, 10, 12), "CN") is None
    assert feast_of(date(2099, 10, 1), "CN") is None
    assert feast_of(date(2026, 10, 1), None) is None
