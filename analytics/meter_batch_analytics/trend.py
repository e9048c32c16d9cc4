"""Growth of a consumption, its seasons and its week, from daily values with gaps. Pure.

Growth is the slope of a line beside the pattern of the week, of holidays and of the year, fitted robustly to the days
that are measured (gaps are left out, nothing is filled in). Its band allows for days that resemble their neighbours:
Newey-West with Bartlett's weights over a fifth of the period. With lags that long the usual 1.96 is too little
(Kiefer and Vogelsang, Econometric Theory 21, 2005), more so for a slope beside a season that was seen once or twice:
the critical values were simulated for this very fit, and the tests look that the band holds what it promises.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

LEAST_DAYS = 21
"""Days with values below which no pattern of the week can be told."""
LEAST_GROWTH_DAYS = 400
"""Days from the first to the last below which growth and season cannot be told apart: a year and a month."""
LEAST_SEASON_DAYS = 730
"""Days for a picture of the year beside the trend: two years."""
YEAR = 365.2425
_TUNING = 1.7  # Huber's: 97 % efficient where nothing is wrong
_ROUNDS = 12
_CRITICAL = ((1.1, 1.3, 1.6, 2.0, 3.0, 5.0, 10.0), (6.0, 4.8, 4.6, 4.0, 3.6, 2.9, 2.45))
"""Years, and how many standard errors hold 95 %: of days that depend on each other with 0.3 to 0.9."""


@dataclass(frozen=True, slots=True)
class Growth:
    """Growth a year, in the unit of the values and as a share of their mean; the band holds it with 95 %."""

    per_year: float
    low: float
    high: float
    mean: float
    """Mean value of a day."""

    @property
    def share(self) -> float:
        """Growth a year over the mean: 0.03 is 3 % a year."""
        return self.per_year / self.mean

    @property
    def share_low(self) -> float:
        """Lower end of the band of `share`."""
        return self.low / self.mean

    @property
    def share_high(self) -> float:
        """Upper end of the band of `share`."""
        return self.high / self.mean

    @property
    def certain(self) -> bool:
        """Whether the band leaves no doubt that it grows, or shrinks."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True)
class Line:
    """The fitted line over all days with its band."""

    value: Any
    low: Any
    high: Any


@dataclass(frozen=True, slots=True)
class Parts:
    """What the days are made of: they add up to the values. `season` only from two years on."""

    trend: Any
    season: Any | None
    week: Any
    rest: Any


def growth(days: Sequence[date], values: Any, classes: Sequence[str] | None = None) -> Growth | None:
    """Growth of daily values (NaN: a gap); `classes`: of each day "work", "rest", "holiday", where known.

    None where the days span less than `LEAST_GROWTH_DAYS`, where more than half of them are missing, or where their
    mean is not above 0: a share of nothing says nothing.
    """
    fitted = _fit(days, values, classes)
    return None if fitted is None else fitted[0]


def line(days: Sequence[date], values: Any, classes: Sequence[str] | None = None) -> Line | None:
    """The line whose slope `growth` is, and its band, at each day."""
    fitted = _fit(days, values, classes)
    if fitted is None:
        return None
    found, centre, level, level_error = fitted
    at = (_ordinals(days) - centre) / YEAR
    value = level + found.per_year * at
    spread = (found.high - found.low) / 2
    band = np.sqrt(level_error**2 + (spread * at) ** 2)
    return Line(value, value - band, value + band)


def _fit(days: Sequence[date], values: Any, classes: Sequence[str] | None) -> tuple[Growth, float, float, float] | None:
    y = np.asarray(values, dtype=np.float64)
    there = np.flatnonzero(np.isfinite(y))
    if len(there) < LEAST_DAYS:
        return None
    ordinal = _ordinals(days)
    span = ordinal[there[-1]] - ordinal[there[0]] + 1
    if span < LEAST_GROWTH_DAYS or len(there) < span / 2:
        return None
    mean = float(y[there].mean())
    if not mean > 0:
        return None
    centre = float(ordinal[there].mean())
    time = (ordinal[there] - centre) / YEAR
    design = _design(ordinal[there], time, None if classes is None else [classes[int(one)] for one in there])
    factor, pull, hold = _robust(design, y[there])
    errors = _errors(design, pull, hold, ordinal[there].astype(np.int64))
    wide = float(np.interp(span / YEAR, *_CRITICAL))
    slope, band = float(factor[1]), float(wide * errors[1])
    found = Growth(slope, slope - band, slope + band, mean)
    return found, centre, mean, float(wide * errors[0])


def _design(ordinal: Any, time: Any, classes: Sequence[str] | None) -> Any:
    """Level, time, weekdays, kinds of day and two waves a year; each but the first with mean 0."""
    weekday = (ordinal.astype(np.int64) + 6) % 7
    columns = [time, *((weekday == one) * 1.0 for one in range(1, 7))]
    if classes is not None:
        kinds = np.array(classes)
        weekend = weekday >= 5
        # What the weekday does not say already: holidays, and rest or work against the weekday.
        columns += [
            (kinds == "holiday") * 1.0,
            ((kinds == "rest") & ~weekend) * 1.0,
            ((kinds == "work") & weekend) * 1.0,
        ]
    turn = 2 * np.pi * time
    for wave in (1, 2):
        columns += [np.cos(wave * turn), np.sin(wave * turn)]
    table = np.column_stack(columns)
    table = table[:, np.r_[True, np.ptp(table[:, 1:], axis=0) > 0]]
    return np.column_stack([np.ones(len(time)), table - table.mean(axis=0)])


def _robust(design: Any, y: Any) -> tuple[Any, Any, Any]:
    """Least squares in which no day pulls harder than one at the border (Huber): the factors, how each day pulls on
    them, and how that changes with its distance. No day is thrown away: a year on another level is no outlier.
    """
    weights = hold = np.ones(len(y))
    factor = np.linalg.pinv(design.T @ design, hermitian=True) @ (design.T @ y)
    for _ in range(_ROUNDS):
        rest = y - design @ factor
        scale = float(np.median(np.abs(rest - np.median(rest)))) / 0.6745
        if scale <= 1e-12 * max(1.0, float(np.abs(y).max())):
            break
        far = np.abs(rest) / (_TUNING * scale)
        weights, hold = 1 / np.maximum(far, 1), (far < 1) * 1.0
        pulled = (design * weights[:, None]).T
        factor = np.linalg.pinv(pulled @ design, hermitian=True) @ (pulled @ y)
    return factor, (y - design @ factor) * weights, hold


def _lags(count: int) -> int:
    return max(14, min(count // 5, 400))


def _errors(design: Any, pull: Any, hold: Any, ordinal: Any) -> Any:
    """Standard errors of the factors, Newey-West on the calendar: a gap of ten days is ten lags."""
    first, count = int(ordinal[0]), int(ordinal[-1] - ordinal[0]) + 1
    scores = np.zeros((count, design.shape[1]))
    scores[ordinal - first] = design * pull[:, None]
    lags = _lags(len(pull))
    size = 1 << (count + lags).bit_length()
    wave = np.fft.rfft(scores, size, axis=0)
    # Bartlett's weights are a filter; its answer is never negative.
    taper = np.zeros(size)
    taper[: lags + 1] = 1 - np.arange(lags + 1) / (lags + 1)
    taper[-lags:] = taper[1 : lags + 1][::-1]
    power = np.clip(np.fft.rfft(taper).real, 0, None)
    double = np.full(len(power), 2.0)
    double[0] = double[-1] = 1.0
    meat = ((wave * (power * double)[:, None]).conj().T @ wave).real / size
    bread = np.linalg.pinv((design * hold[:, None]).T @ design)
    spread = bread @ meat @ bread * (len(pull) / max(1, len(pull) - design.shape[1]))
    return np.sqrt(np.clip(np.diag(spread), 0, None))


def loaded() -> bool:
    """Whether what `parts` needs is loaded: the first time that takes seconds and 100 MB, so only who needs it does."""
    return "statsmodels.tsa.seasonal" in sys.modules


def _statsmodels() -> tuple[Any, Any]:
    """STL and LOWESS. It would load polars as well where that is installed, 25 MB that nobody uses here."""
    hidden = "polars" not in sys.modules
    if hidden:
        sys.modules["polars"] = None  # type: ignore[assignment]
    try:
        from statsmodels.nonparametric.smoothers_lowess import lowess
        from statsmodels.tsa.seasonal import STL
    finally:
        if hidden:
            del sys.modules["polars"]
    return STL, lowess


def parts(values: Any) -> Parts | None:
    """What a run of days without holes in its calendar is made of (STL, robust); None below `LEAST_DAYS` days.

    For a picture: gaps (NaN) are bridged by the same weekday nearby while it is taken apart, and are gaps again in
    the rest. With two years or more the season of the year is told from the trend.
    """
    y = np.asarray(values, dtype=np.float64)
    if np.isfinite(y).sum() < LEAST_DAYS or len(y) < LEAST_DAYS:
        return None
    stl, _ = _statsmodels()
    whole = bridged(y)
    weekly = stl(whole, period=7, seasonal=35, robust=True).fit()
    week = np.asarray(weekly.seasonal)
    plain = whole - week
    season = None
    if len(y) >= LEAST_SEASON_DAYS:
        season = _season(plain)
        plain = plain - season
    trend = _smooth(plain, 365 if season is not None else 91)
    rest = y - trend - week - (0 if season is None else season)
    return Parts(trend, season, week, rest)


def _season(plain: Any) -> Any:
    """The year's course that repeats, smooth, with mean 0: of monthly means, by STL over 52 weeks."""
    stl, _ = _statsmodels()
    weeks = len(plain) // 7
    means = plain[: weeks * 7].reshape(weeks, 7).mean(axis=1)
    found = np.asarray(stl(means, period=52, seasonal=13, robust=True).fit().seasonal)
    middle = np.arange(weeks) * 7 + 3
    return np.interp(np.arange(len(plain)), middle, _smooth(found, 5))


def _smooth(values: Any, width: int) -> Any:
    """Robust local lines (LOWESS) over `width` values."""
    _, lowess = _statsmodels()
    count = len(values)
    share = min(1.0, max(width, 3) / count)
    return lowess(values, np.arange(count), frac=share, it=2, delta=max(1.0, width / 20), return_sorted=False)


def bridged(values: Any) -> Any:
    """Daily values with their gaps filled by the line between the same weekdays around; for pictures only."""
    found = np.array(values, dtype=np.float64)
    places = np.arange(len(found))
    for weekday in range(7):
        mine = places % 7 == weekday
        there = mine & np.isfinite(found)
        lacking = mine & ~there
        if there.any() and lacking.any():
            found[lacking] = np.interp(places[lacking], places[there], found[there])
    there = np.isfinite(found)
    if there.any() and not there.all():
        found[~there] = np.interp(places[~there], places[there], found[there])
    return found


def week_profile(days: Sequence[date], values: Any) -> Any:
    """Median of each weekday from Monday on, over the mean of all seven: 1.2 is 20 % above. NaN where unknown."""
    y = np.asarray(values, dtype=np.float64)
    weekday = (_ordinals(days).astype(np.int64) + 6) % 7
    medians = np.array([_median(y[weekday == one]) for one in range(7)])
    mean = np.nanmean(medians) if np.isfinite(medians).any() else np.nan
    return medians / mean if mean > 0 else np.full(7, np.nan)


def year_profile(days: Sequence[date], values: Any) -> Any:
    """Mean of each calendar month's days over the mean of all twelve; NaN for months without values."""
    y = np.asarray(values, dtype=np.float64)
    month = np.array([one.month for one in days])
    means = np.array([_mean(y[month == one]) for one in range(1, 13)])
    mean = np.nanmean(means) if np.isfinite(means).any() else np.nan
    return means / mean if mean > 0 else np.full(12, np.nan)


def _median(values: Any) -> float:
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else float("nan")


def _mean(values: Any) -> float:
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else float("nan")


def _ordinals(days: Sequence[date]) -> Any:
    return np.array([one.toordinal() for one in days], dtype=np.float64)
