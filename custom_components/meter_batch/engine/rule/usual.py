"""What is usual: the energy expected of each hour of a day, from the last days of its kind."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import date, tzinfo
from statistics import median

from ..model.day import DayCalendar, DayClass
from ..model.interval import GROSS, IMPORT, Interval

DAYS = 5
FEWEST = 3
"""Fewer days of a class than this say nothing."""
_WHOLE = 0.95
"""An hour counts where so much of it is known."""


def expected_day(hours: Sequence[Interval], day: date, calendar: DayCalendar, zone: tzinfo) -> list[float | None]:
    """Per hour of the wall clock of `day` (24 values, kWh): the median of the last five days of the same class.

    `hours` are hourly intervals of one point, from before that day; estimates and gaps do not count, nor what lies on
    the day itself or later. None for an hour of which fewer than three days are known. A holiday is compared with days
    of rest where there were fewer than three holidays.
    """
    by_day: dict[date, dict[int, float]] = defaultdict(dict)
    for one in hours:
        local = one.start.astimezone(zone)
        energy = one.energies.get(IMPORT, one.energies.get(GROSS))
        if energy is not None and local.date() < day and one.completeness >= _WHOLE:
            by_day[local.date()][local.hour] = float(energy)
    wanted = calendar.day_class(day)
    found = _of_class(by_day, wanted, calendar)
    if len(found) < FEWEST and wanted is DayClass.HOLIDAY:
        found = _of_class(by_day, DayClass.REST, calendar)
    expected: list[float | None] = []
    for hour in range(24):
        known = [values[hour] for values in found if hour in values][:DAYS]
        expected.append(median(known) if len(known) >= FEWEST else None)
    return expected


def _of_class(by_day: dict[date, dict[int, float]], wanted: DayClass, calendar: DayCalendar) -> list[dict[int, float]]:
    """The days of a class, the latest first."""
    return [by_day[day] for day in sorted(by_day, reverse=True) if calendar.day_class(day) is wanted]
