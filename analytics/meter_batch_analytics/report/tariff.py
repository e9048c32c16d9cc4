"""Tariffs: what a kilowatt-hour costs at which time, and what is charged besides. Frozen values and questions. Pure.

A tariff has named periods (sharp, peak, flat, valley, deep …) and versions, each valid from its day until the next
one's. Which period an instant belongs to follows from the local time, the date and the class of the day (work, rest,
holiday). Read from files by `tariff_file`.
"""

from __future__ import annotations

import tomllib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from pathlib import Path
from typing import Any, Literal

from meter_batch_engine.errors import ConfigError
from meter_batch_engine.model.day import DayCalendar, DayClass
from meter_batch_engine.model.point import Point

from .facts import Names, TariffPeriod
from .hierarchy import ancestors

DAY_MINUTES = 1440
HUNDREDTH = Decimal("0.01")
ATTRIBUTE = "tariff"
"""The attribute of a point that names its tariff."""
DEFAULT = "default"
"""Name of the tariff of all points that name none."""

type Basis = Literal["actual", "contract", "capacity"]
type Excess = Literal["added_to_measured", "twice_over_contract", "measured", "none"]


@dataclass(frozen=True, slots=True)
class DayPlan:
    """The periods of the days to which it applies; they cover a day without gap or overlap."""

    months: frozenset[int]
    """1 to 12; empty with `season` or `dates`."""
    season: tuple[tuple[int, int], tuple[int, int]] | None
    """First and last (month, day), both included; may reach over the turn of the year."""
    dates: frozenset[date]
    """Single days, which count before all else."""
    classes: frozenset[DayClass]
    spans: tuple[tuple[int, int, str], ...]
    """From and to (minutes of the day) and period, in order."""

    def covers(self, day: date, day_class: DayClass) -> bool:
        """Whether it applies to a day, by its month or season and class."""
        if self.dates or day_class not in self.classes:
            return False
        if self.season is None:
            return day.month in self.months
        first, last = self.season
        now = (day.month, day.day)
        return first <= now <= last if first <= last else now >= first or now <= last


@dataclass(frozen=True, slots=True)
class DemandCharge:
    """The charge for power, a month (基本电费)."""

    basis: Basis
    per_kw: Decimal | None
    per_kva: Decimal | None
    """With the capacity of transformers."""
    contract_kw: Decimal | None
    """None: the attribute `contract_kw` of the points."""
    transformer_kva: Decimal | None
    """None: the attribute `transformer_kva` of the points."""
    minutes: int
    """Integration period."""
    allowance: Decimal
    """Times the contract: what is above is excess."""
    excess: Excess
    """added_to_measured: D + (D − allowance × C); twice_over_contract: C + 2 × (D − allowance × C); measured: D."""
    discount_from_kwh_per_kva: Decimal | None
    discount: Decimal
    """Factor of the price of actual and contract demand in a month of at least so many kWh a kVA."""
    feeds: Literal["together", "separate"]
    """Of several points: the maximum of their sum, or the sum of their maxima."""


@dataclass(frozen=True, slots=True)
class Charge:
    """What is charged besides; one of the three."""

    key: str
    name: Names
    per_kwh: Decimal | None
    per_month: Decimal | None
    percent: Decimal | None
    """Of all that stands before it: a tax."""
    in_power_factor: bool
    """Whether the power factor's adjustment is of this too."""


@dataclass(frozen=True, slots=True)
class Version:
    """Prices and times from a day on."""

    since: date
    prices: Mapping[str, Decimal]
    """A kWh, by period."""
    base: Decimal | None
    """The price that ratios are of; without ratios that of `flat`, if there is one."""
    days: tuple[DayPlan, ...]
    demand: DemandCharge | None = None
    power_factor_standard: Decimal | None = None
    power_factor_table: str | None = None
    charges: tuple[Charge, ...] = ()


@dataclass(frozen=True, slots=True)
class Tariff:
    """A tariff, checked."""

    id: str
    name: Names
    currency: str
    digits: int
    country: str | None
    """Whose holidays count."""
    periods: tuple[TariffPeriod, ...]
    versions: tuple[Version, ...]
    """Oldest first."""
    calendar: DayCalendar = field(compare=False, default_factory=DayCalendar)

    def version_of(self, day: date) -> int | None:
        """Place of the version that is valid on a day; None before the first."""
        found = bisect_right(self.versions, day, key=lambda one: one.since) - 1
        return None if found < 0 else found

    def spans(self, day: date) -> tuple[tuple[int, int, str], ...]:
        """Of a day: from and to (minutes of the local day) and period. ConfigError before the first version."""
        place = self.version_of(day)
        if place is None:
            raise ConfigError(
                f'tariff "{self.id}" has no prices for {day}: its first version is valid from '
                f"{self.versions[0].since}; write a [[version]] with an earlier `from`"
            )
        plans = self.versions[place].days
        for plan in plans:
            if day in plan.dates:
                return plan.spans
        day_class = self.calendar.day_class(day)
        return next(plan.spans for plan in plans if plan.covers(day, day_class))

    def period_at(self, day: date, minute: int) -> str:
        """The period of a local time: the day and the minutes since its midnight by the wall clock."""
        return next(key for first, last, key in self.spans(day) if first <= minute < last)


@dataclass(frozen=True, slots=True)
class Tariffs:
    """The tariffs of a site: one for all, and others that points name by their attribute `tariff`."""

    default: Tariff | None = None
    named: Mapping[str, Tariff] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)
    """Those whose files are wrong, by name: the file, the place in it and what to write."""

    def named_so(self, name: str, whose: str = "") -> Tariff:
        """A tariff by its name; ConfigError where its file is wrong or there is none, with the point that names it."""
        if name in self.broken:
            raise ConfigError(self.broken[name])
        found = self.named.get(name)
        if found is None:
            there = ", ".join(sorted({*self.named, *self.broken})) or "none"
            said = f'meter "{whose}" has the tariff "{name}", and' if whose else f'tariff "{name}" was asked for, and'
            raise ConfigError(f"{said} there is no tariffs/{name}.toml; there are: {there}")
        return found


def tariffs_of(
    points: Mapping[str, Point], chosen: Sequence[str], tariff: Tariff | Tariffs | None
) -> tuple[dict[str, Tariff], dict[str, int]]:
    """The tariff of each point: its own, that of the nearest point that measures it too, the site's; some have none.
    And how many points have a broken one, by its name: they are as without. ConfigError where no other is left.
    """
    if tariff is None:
        return {}, {}
    if isinstance(tariff, Tariff):
        return dict.fromkeys(chosen, tariff), {}
    found: dict[str, Tariff] = {}
    broken: dict[str, int] = {}
    for id_ in chosen:
        names = (
            (points[one].attributes.get(ATTRIBUTE, "").strip(), points[one].name)
            for one in (id_, *ancestors(points, id_))
        )
        name, whose = next(((name, whose) for name, whose in names if name), (DEFAULT, ""))
        if name in tariff.broken:
            broken[name] = broken.get(name, 0) + 1
        elif whose:
            found[id_] = tariff.named_so(name, whose)
        elif tariff.default is not None:
            found[id_] = tariff.default
    if broken and not found:
        raise ConfigError(tariff.broken[next(iter(broken))])
    currencies = {(one.currency, one.digits): one.id for one in found.values()}
    if len(currencies) > 1:
        told = ", ".join(f"{name} in {currency}" for (currency, _), name in sorted(currencies.items()))
        raise ConfigError(
            f"one report needs one currency, and the tariffs of its meters are {told}: choose fewer points"
        )
    return found, broken


def adjustment_percent(standard: Decimal, power_factor: Decimal, table: str) -> Decimal:
    """By how many percent a bill is raised (lowered: negative) for a month's power factor.

    Tables as data in `power_factor.toml`: (83)水电财字215号, 功率因数调整电费办法. `power_factor` has two decimals.
    """
    steps = int((standard - power_factor) / HUNDREDTH)
    rule = power_factor_tables()[table]
    percent = Decimal(0)
    if steps > 0:
        left = steps
        for step in rule["penalty"]:
            taken = min(left, step.get("steps", left))
            percent += taken * step["percent"]
            left -= taken
        return percent
    done = standard
    for step in rule["reward"][f"{standard:.2f}"]:
        upto = min(power_factor, step["until"])
        percent -= max(Decimal(0), (upto - done) / HUNDREDTH) * step["percent"]
        done = max(done, upto)
    return percent


def rounded_power_factor(kwh: Decimal, kvarh: Decimal) -> Decimal | None:
    """P / √(P² + Q²), half up to two decimals; None without energy."""
    if kwh <= 0 and kvarh == 0:
        return None
    return (kwh / (kwh * kwh + kvarh * kvarh).sqrt()).quantize(HUNDREDTH, ROUND_HALF_UP)


@cache
def power_factor_tables() -> dict[str, Any]:
    """The tables by name."""
    text = Path(__file__).with_name("power_factor.toml").read_text(encoding="utf-8")
    return tomllib.loads(text, parse_float=Decimal)
