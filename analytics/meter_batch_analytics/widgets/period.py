"""Periods that a reader picks by name or by two days. Pure."""

from __future__ import annotations

from datetime import date, timedelta

PERIODS = (
    "today", "yesterday", "last_7_days", "last_30_days", "this_month", "last_month", "this_year", "last_year", "all",
)  # fmt: skip


def is_period(text: object) -> bool:
    """Whether this is the key of a period, or two days in order: "2026-10-01..2026-10-31"."""
    return isinstance(text, str) and (text in PERIODS or _days(text) is not None)


def period_days(text: str, today: date, first: date) -> tuple[date, date]:
    """The first day of a period and the day after its last; `first` is the first day of all that is known.

    "last_7_days" and "last_30_days" hold today; "this_month" and "this_year" end with today. ValueError for a text that
    is no period.
    """
    tomorrow, month, year = today + timedelta(days=1), today.replace(day=1), today.replace(month=1, day=1)
    match text:
        case "today":
            return today, tomorrow
        case "yesterday":
            return today - timedelta(days=1), today
        case "last_7_days":
            return today - timedelta(days=6), tomorrow
        case "last_30_days":
            return today - timedelta(days=29), tomorrow
        case "this_month":
            return month, tomorrow
        case "last_month":
            return (month - timedelta(days=1)).replace(day=1), month
        case "this_year":
            return year, tomorrow
        case "last_year":
            return year.replace(year=year.year - 1), year
        case "all":
            return min(first, today), tomorrow
    days = _days(text)
    if days is None:
        raise ValueError(f'"{text}" is no period')
    return days[0], days[1] + timedelta(days=1)


def _days(text: str) -> tuple[date, date] | None:
    begin, dots, end = text.partition("..")
    if not dots:
        return None
    try:
        first, last = date.fromisoformat(begin), date.fromisoformat(end)
    except ValueError:
        return None
    return (first, last) if date(1970, 1, 2) <= first <= last < date(2200, 1, 1) else None
