"""Which day is compared with which: a Monday with a Monday, a holiday with a holiday. Pure.

A day is like another if both are of the same class (work, rest, holiday) and, but for holidays, of the same weekday.
Holidays pair with holidays in their order, since their dates move (the Spring Festival by up to a month). No day
counts twice; a day without a like one is left out of the comparison, and how many were is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from meter_batch_engine.model.day import DayCalendar, DayClass

YEAR_SHIFT = timedelta(days=364)
"""Back to the same weekday of the year before."""
_NEAR, _NEAR_HOLIDAY = 21, 45
"""Days that a like day of last year may lie away from the same weekday of that year."""


@dataclass(frozen=True, slots=True)
class Match:
    """Days of a period and the days they are compared with, in order; those without a like day."""

    pairs: tuple[tuple[date, date], ...]
    left_out: tuple[date, ...]
    moved_holidays: int
    """How many holidays pair with one of another date and weekday."""


def feast_of(day: date, country: str | None, *, chinese: bool = False) -> str | None:
    """The holiday a day belongs to, by name; of a make-up workday the one it is worked for. None for other days."""
    if country != "CN":
        return None
    import chinese_calendar

    try:
        name = chinese_calendar.get_holiday_detail(day)[1]
    except NotImplementedError:
        return None  # a year whose holidays are not announced yet
    return str(chinese_calendar.Holiday(name).chinese if chinese else name) if name else None


def previous_period(first: date, last: date) -> tuple[date, date]:
    """The first and last day of the period before: of whole months as many months, else whole weeks before."""
    after = last + timedelta(days=1)
    if first.day == 1 and after.day == 1:
        months = (after.year - first.year) * 12 + after.month - first.month
        count = first.year * 12 + first.month - 1 - months
        return date(count // 12, count % 12 + 1, 1), first - timedelta(days=1)
    weeks = -(-((last - first).days + 1) // 7)
    shift = timedelta(days=7 * weeks)
    return first - shift, last - shift


def same_last_year(first: date, last: date) -> tuple[date, date]:
    """The same dates of the year before; 29 February is the 28th."""
    before = [one.replace(year=one.year - 1, day=28 if (one.month, one.day) == (2, 29) else one.day)
              for one in (first, last)]  # fmt: skip
    return before[0], before[1]


def with_previous(first: date, last: date, calendar: DayCalendar) -> Match:
    """The days of a period with like days of the period before it."""
    before = previous_period(first, last)[0]
    # Between whole weeks and the period there may be days left; they are free to stand in.
    candidates = _days(before, first - timedelta(days=1))
    reach = (last - first).days + 7
    return _match(_days(first, last), candidates, calendar, first - before, reach, reach)


def with_last_year(first: date, last: date, calendar: DayCalendar) -> Match:
    """The days of a period with like days of the year before, near the same date."""
    margin = timedelta(days=_NEAR_HOLIDAY)
    candidates = _days(first - YEAR_SHIFT - margin, min(last - YEAR_SHIFT + margin, first - timedelta(days=1)))
    return _match(_days(first, last), candidates, calendar, YEAR_SHIFT, _NEAR, _NEAR_HOLIDAY)


def _match(
    days: Sequence[date],
    candidates: Sequence[date],
    calendar: DayCalendar,
    shift: timedelta,
    near: int,
    near_holiday: int,
) -> Match:
    holidays = [day for day in days if calendar.day_class(day) is DayClass.HOLIDAY]
    found = _match_holidays(holidays, candidates, calendar, shift, near_holiday)
    moved = sum(there != here - shift for here, there in found.items())
    free: dict[tuple[DayClass, int], list[date]] = {}
    for day in candidates:
        free.setdefault(_kind(day, calendar), []).append(day)
    others = [day for day in days if calendar.day_class(day) is not DayClass.HOLIDAY]
    # Whoever has its own counterpart keeps it; only then the others look around.
    for reach in (0, near):
        for day in others:
            like = free.get(_kind(day, calendar), [])
            if day in found or not like:
                continue
            best = min(like, key=lambda one: (abs((one - day + shift).days), one))
            if abs((best - day + shift).days) <= reach:
                like.remove(best)
                found[day] = best
    return Match(tuple(sorted(found.items())), tuple(day for day in days if day not in found), moved)


def _match_holidays(
    days: Sequence[date], candidates: Sequence[date], calendar: DayCalendar, shift: timedelta, near: int
) -> dict[date, date]:
    """Runs of holidays with the nearest runs, day by day in their order."""
    free = _runs([day for day in candidates if calendar.day_class(day) is DayClass.HOLIDAY])
    found: dict[date, date] = {}
    for run in _runs(days):
        best = min(free, key=lambda one: abs((one[0] - run[0] + shift).days), default=None)
        if best is not None and abs((best[0] - run[0] + shift).days) <= near:
            free.remove(best)
            found.update(zip(run, best, strict=False))
    return found


def _runs(days: Sequence[date]) -> list[list[date]]:
    found: list[list[date]] = []
    for day in days:
        if found and day - found[-1][-1] == timedelta(days=1):
            found[-1].append(day)
        else:
            found.append([day])
    return found


def _kind(day: date, calendar: DayCalendar) -> tuple[DayClass, int]:
    class_ = calendar.day_class(day)
    return class_, -1 if class_ is DayClass.HOLIDAY else day.weekday()


def _days(first: date, last: date) -> list[date]:
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]
