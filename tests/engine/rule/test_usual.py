"""What is expected of a day: what the last days of its kind used."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from meter_batch_engine import DayCalendar, DayClass, expected_day
from meter_batch_engine.model.day import country_of
from meter_batch_engine.model.interval import GROSS, IMPORT, Interval

SHANGHAI = ZoneInfo("Asia/Shanghai")


def hours_of(first: date, days: int, kwh: Callable[[date, int], float], zone: ZoneInfo = SHANGHAI) -> list[Interval]:
    begin = datetime(first.year, first.month, first.day, tzinfo=zone).astimezone(UTC)
    hours = []
    for index in range(24 * days):
        start = begin + timedelta(hours=index)
        local = start.astimezone(zone)
        energy = Decimal(str(kwh(local.date(), local.hour)))
        hours.append(Interval("p", start, 3600, {IMPORT: energy}, frozenset(), known_s=3600))
    return hours


@pytest.mark.parametrize(
    ("day", "kind"),
    [
        (date(2026, 10, 1), DayClass.HOLIDAY),  # National Day, a Thursday
        (date(2026, 10, 10), DayClass.WORK),  # a Saturday that is worked for it
        (date(2026, 11, 26), DayClass.WORK),
        (date(2026, 11, 28), DayClass.REST),
        (date(2035, 1, 1), DayClass.WORK),  # a Monday; its holidays are not announced yet
    ],
)
def test_chinese_holidays_and_the_weekends_worked_for_them_are_known(day: date, kind: DayClass) -> None:
    assert DayCalendar("CN").day_class(day) is kind


def test_elsewhere_saturday_and_sunday_are_days_of_rest() -> None:
    assert (country_of("Asia/Shanghai"), country_of("Europe/Berlin")) == ("CN", None)
    assert (country_of("Asia/Shanghai", "DE"), country_of("Europe/Berlin", "CN")) == ("DE", "CN")
    for country in (None, "DE"):
        calendar = DayCalendar(country)
        classes = [calendar.day_class(date(2026, 10, 1) + timedelta(days=one)) for one in range(7)]
        assert classes == [DayClass.WORK, DayClass.WORK, DayClass.REST, DayClass.REST, *[DayClass.WORK] * 3]


def test_expected_is_the_median_of_the_last_five_days_of_the_same_class() -> None:
    # Working days before Thursday the 26th: 25, 24, 23, 20, 19 count; the 18th and the weekend do not.
    level = {25: 5, 24: 100, 23: 1, 20: 3, 19: 4, 18: 90}
    hours = hours_of(date(2026, 11, 16), 10, lambda day, hour: level.get(day.day, 50) + hour / 100)
    expected = expected_day(hours, date(2026, 11, 26), DayCalendar("CN"), SHANGHAI)
    assert expected == [pytest.approx(4 + hour / 100) for hour in range(24)]
    saturday = expected_day(hours, date(2026, 11, 28), DayCalendar("CN"), SHANGHAI)
    assert saturday == [None] * 24, "two days are too few"


def test_the_day_itself_and_what_is_estimated_do_not_count() -> None:
    hours = hours_of(date(2026, 11, 16), 21, lambda day, hour: 1.0 if day < date(2026, 11, 26) else 99.0)
    hours += [Interval("p", one.start, 3600, {IMPORT: Decimal(77)}, frozenset(), known_s=0) for one in hours]
    assert expected_day(hours, date(2026, 11, 26), DayCalendar("CN"), SHANGHAI) == [1.0] * 24


def test_a_holiday_is_expected_to_be_as_the_days_of_rest_where_holidays_are_few() -> None:
    def use(day: date, hour: int) -> float:
        return 2.0 if day.weekday() >= 5 else 9.0

    hours = hours_of(date(2026, 8, 31), 30, use)
    assert expected_day(hours, date(2026, 10, 1), DayCalendar("CN"), SHANGHAI) == [2.0] * 24


def test_meters_that_count_both_ways_in_one_register_are_understood() -> None:
    gross = [
        Interval("p", one.start, 3600, {GROSS: Decimal(3)}, frozenset(), known_s=3600)
        for one in hours_of(date(2026, 11, 16), 8, lambda day, hour: 0)
    ]
    assert expected_day(gross, date(2026, 11, 26), DayCalendar(), SHANGHAI) == [3.0] * 24


def test_the_hour_that_a_clock_change_skips_is_expected_from_other_days() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    hours = hours_of(date(2026, 3, 1), 35, lambda day, hour: float(hour), berlin)
    assert expected_day(hours, date(2026, 4, 5), DayCalendar(), berlin) == [float(hour) for hour in range(24)]
