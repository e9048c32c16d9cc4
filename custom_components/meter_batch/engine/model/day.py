"""Kinds of days: what is expected of a day depends on whether people work on it."""

from __future__ import annotations

from datetime import date
from enum import StrEnum

_SATURDAY = 5
CHINESE_ZONES = frozenset({"Asia/Shanghai", "Asia/Urumqi", "Asia/Chongqing", "Asia/Harbin", "Asia/Kashgar", "PRC"})


def country_of(time_zone: str, country: str | None = None) -> str | None:
    """The country whose holidays count at a site: the one that is told, else "CN" in China's time zones."""
    return country or ("CN" if time_zone in CHINESE_ZONES else None)


class DayClass(StrEnum):
    """Whether people work on a day."""

    WORK = "work"
    REST = "rest"
    HOLIDAY = "holiday"


class DayCalendar:
    """The days of a country, by its ISO 3166 code: "CN" knows public holidays and the weekends worked for them.

    Elsewhere, without a country, and for years whose holidays are not known yet, Saturday and Sunday are days of rest.
    """

    def __init__(self, country: str | None = None) -> None:
        self._chinese = country == "CN"
        self._known: dict[date, DayClass] = {}

    def day_class(self, day: date) -> DayClass:
        """The class of a day of the site."""
        found = self._known.get(day)
        if found is None:
            found = self._known[day] = self._look_up(day)
        return found

    def _look_up(self, day: date) -> DayClass:
        if self._chinese:
            import chinese_calendar  # only where a site is in China

            try:
                free, holiday = chinese_calendar.get_holiday_detail(day)
            except NotImplementedError:
                pass  # a year whose holidays are not announced yet
            else:
                if not free:
                    return DayClass.WORK
                return DayClass.REST if holiday is None else DayClass.HOLIDAY
        return DayClass.REST if day.weekday() >= _SATURDAY else DayClass.WORK
