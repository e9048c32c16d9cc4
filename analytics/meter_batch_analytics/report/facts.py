"""What a report says: every number that is printed, in no language. Frozen values; JSON and back without loss.

Energies are kWh or kvarh and money is in the tariff's currency: Decimal, exact. Powers are mean powers over an
integration period (kW). Intervals, hours and days are labelled by their start; instants are aware, in the site's time
zone. Shares and completeness are 0 to 1. None: nothing is known. Words are made of the keys by whoever prints them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal

from .codec import decoded, encoded

VERSION = 1

NOTES = {
    "not_over": "the period is not over: `until` (instant as text)",
    "no_data": "nothing is known of the period",
    "no_tariff": "there is no tariff, so nothing is said of cost",
    "incomplete": "time of which nothing is known: `share` of the site's time, `points` that lack more than 1 %",
    "estimates": "`share` of the site's time is estimated, at `points` points",
    "suspect": "a rule doubts `intervals` intervals of `points` points",
    "history_begins": "`points` points are known from a later instant on than the period's beginning",
    "statistics": "`share` of the values are hourly statistics without marks of quality",
    "virtual_left_out": "`points` virtual points are not in the total: they are made of others",
    "total_of_virtual": "only virtual points were chosen; the total is their sum",
    "monthly_charges": "charges of a whole month (demand, power factor, fixed) are in monthly reports only",
    "no_contract": "the tariff bills by contract or capacity, and nobody says it: `tariff`, `attribute` of points",
    "not_billed": "`points` points of the total have no tariff: their cost is not in the total",
    "tariff_broken": "`points` points have `tariff`, whose file is wrong (`problem`): nothing is said of their cost",
    "tariff_changed": "a new version of `tariff` applies from `day` on",
    "coarse": "`points` points have intervals longer than 15 minutes: their maximum demand may have been higher",
    "across_periods": "`share` of the energy is of intervals that reach into another tariff period than they begin in",
    "no_reactive": "reactive energy is not known of all points of the total, so there is no power factor",
    "no_last_year": "nothing is known of the same period of last year",
    "no_previous": "nothing is known of the period before",
    "change_left_out": "at `points` points less than 95 % of this period or the other is known: no change is given",
    "balance_left_out": "at `points` points less than 95 % of it or of its submeters is known: there is no balance",
}
"""Keys of notes, what they mean, and in backquotes their facts."""

type Kind = Literal["daily", "monthly"]
type Names = Mapping[str, str]
"""A name by language: "en", "zh-Hans"."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something the reader has to know; its words are `note_<key>` with these facts."""

    key: str
    facts: Mapping[str, str | int | float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Compared:
    """This period beside another one: the one before, or the same of last year.

    Of a period that is not over only its whole days are compared, with as many of the other.
    """

    period: str
    """Label of the other one: "2026-09"."""
    kwh: Decimal | None
    """Of the other one. None: nothing is known of it."""
    this_kwh: Decimal | None
    """Of this one, as far as it is compared."""
    change: float | None
    """this ÷ other − 1. None too where less than 95 % of either is known."""
    completeness: float
    """Of the other one."""
    comparable_kwh: Decimal | None = None
    """Of the days that are like those of this one (`comparable`): a Monday with a Monday, a holiday with a holiday; of
    a day the same weekday of the week before. None: there are none."""
    comparable_this_kwh: Decimal | None = None
    """This one's use on the days that are so compared."""
    comparable_change: float | None = None
    comparable_days: int = 0
    """Days of this one that could be compared."""
    comparable_period: str | None = None
    """Of a day: label of the one that is like it."""

    @property
    def partly(self) -> bool:
        """Whether both are known, but too little of one for a change to mean anything."""
        return self.kwh is not None and self.kwh > 0 and self.this_kwh is not None and self.change is None


@dataclass(frozen=True, slots=True)
class Demand:
    """The highest mean power over an integration period."""

    max_kw: Decimal | None
    at: datetime | None
    """Start of that integration period."""
    minutes: int
    """Length of the integration period that it is of: 15, or more where intervals are longer."""
    top: tuple[tuple[datetime, Decimal], ...] = ()
    """The ten highest, highest first, with their starts."""
    contract_kw: Decimal | None = None
    load_factor: float | None = None
    """Mean power ÷ highest."""

    @property
    def of_contract(self) -> float | None:
        """The highest as a share of the contract."""
        return None if self.max_kw is None or not self.contract_kw else float(self.max_kw / self.contract_kw)


@dataclass(frozen=True, slots=True)
class PowerFactor:
    """Of the energies of the period; rounded half up to two decimals."""

    kvarh_lagging: Decimal | None
    kvarh_leading: Decimal | None
    value: Decimal | None
    """P / √(P² + (lagging + leading)²), as it is billed in China."""
    lagging_only: Decimal | None
    """Without what was returned: for information."""
    standard: Decimal | None = None
    adjustment_percent: Decimal | None = None
    """By which the bill is raised (or lowered, negative)."""


@dataclass(frozen=True, slots=True)
class PointFacts:
    """One metering point."""

    id: str
    name: str
    area: str | None
    line: str | None
    parent: str | None
    """Id of the point that measures this one too."""
    virtual: bool
    in_total: bool
    """Whether it is one of those that make up the site's total."""
    kwh: Decimal | None
    by_period: Mapping[str, Decimal]
    """kWh by key of tariff period; empty without a tariff."""
    export_kwh: Decimal | None
    share: float | None
    """Of the site's total."""
    previous: Compared
    last_year: Compared
    demand: Demand
    power_factor: PowerFactor
    completeness: float
    estimated_share: float
    """Share of the time for which there are estimates."""
    since: datetime | None
    """The first instant that is known, where that is after the period's beginning."""
    tariff: str | None
    energy_cost: Decimal | None
    """Of its energy alone, with all that is charged a kWh; without demand, power factor and fixed charges."""


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """An area or a line. What is measured by a parent in the same group as well counts once."""

    name: str
    points: tuple[str, ...]
    members: tuple[str, ...]
    """Those whose sum it is."""
    kwh: Decimal | None
    by_period: Mapping[str, Decimal]
    share: float | None
    """Of the site's total; groups may measure one another, so shares need not add up to 1."""
    previous: Compared
    last_year: Compared
    completeness: float
    estimated_share: float
    energy_cost: Decimal | None


@dataclass(frozen=True, slots=True)
class Balance:
    """A point beside the points within it: what nobody accounts for."""

    point: str
    kwh: Decimal
    children: tuple[str, ...]
    children_kwh: Decimal
    unaccounted_kwh: Decimal
    share: float | None
    """Unaccounted ÷ the point's."""


@dataclass(frozen=True, slots=True)
class Total:
    """The site (or what was chosen of it)."""

    members: tuple[str, ...]
    """The points whose sum it is: those that no other chosen point measures as well; no virtual ones."""
    kwh: Decimal | None
    by_period: Mapping[str, Decimal]
    export_kwh: Decimal | None
    previous: Compared
    last_year: Compared
    demand: Demand
    power_factor: PowerFactor
    completeness: float
    estimated_share: float
    balances: tuple[Balance, ...] = ()


@dataclass(frozen=True, slots=True)
class TariffPeriod:
    """A named period of a day: peak, flat, valley …"""

    key: str
    name: Names


@dataclass(frozen=True, slots=True)
class CostPart:
    """The energy of one tariff period at one price; the amount is not rounded."""

    period: str
    kwh: Decimal
    price: Decimal
    amount: Decimal


@dataclass(frozen=True, slots=True)
class CostLine:
    """A line of a bill."""

    key: str
    """"energy", "demand", "power_factor", or the key of a charge of the tariff."""
    name: Names
    """Empty for the first three: whoever prints knows them."""
    quantity: Decimal | None
    unit: str
    """Of the quantity: "kWh", "kW", "kVA", "%", "month" or currency."""
    price: Decimal | None
    amount: Decimal
    """Rounded half up to the currency's digits; it is what adds up."""
    parts: tuple[CostPart, ...] = ()
    """Of energy; amount is their sum, rounded once."""
    base: Decimal | None = None
    """What a percentage is of."""


@dataclass(frozen=True, slots=True)
class Bill:
    """What points of one tariff cost together."""

    tariff: str
    name: Names
    points: tuple[str, ...]
    kwh: Decimal
    lines: tuple[CostLine, ...]
    total: Decimal
    demand: Demand
    power_factor: PowerFactor
    demand_basis: str | None = None
    """"actual", "contract" or "capacity"; None without a demand charge."""
    demand_methods: Mapping[str, Decimal] = field(default_factory=dict)
    """What the demand charge would be by each basis for which the tariff has a price."""
    flat_cost: Decimal | None = None
    """The same energy at the base price all day."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What the site costs: the bills of the points of its total."""

    currency: str
    """ISO 4217."""
    digits: int
    bills: tuple[Bill, ...]
    lines: tuple[CostLine, ...]
    """Of all bills, by key."""
    total: Decimal
    per_kwh: Decimal | None
    """total ÷ kWh, four decimals."""


@dataclass(frozen=True, slots=True)
class DayFacts:
    """A day of the site's total."""

    day: date
    day_class: str
    """"work", "rest" or "holiday"."""
    kwh: Decimal | None
    by_period: Mapping[str, Decimal]
    completeness: float
    estimated_share: float
    demand_max_kw: Decimal | None


@dataclass(frozen=True, slots=True)
class HourFacts:
    """An hour of the site's total; a day may have 23 or 25."""

    start: datetime
    kwh: Decimal | None
    by_period: Mapping[str, Decimal]
    completeness: float
    comparable_kwh: Decimal | None = None
    """Of a daily report: the same hour of the like day a week before."""


@dataclass(frozen=True, slots=True)
class AlarmFacts:
    """A finding whose time meets the period."""

    id: str
    kind: str
    severity: str
    state: str
    subject_kind: str
    """"point", "line" or "site"."""
    subject: str
    name: str
    """Of the point or line; its id where nobody knows one."""
    since: datetime
    until: datetime | None
    """None: it lasts."""
    value: float | None
    limit: float | None
    extreme: float | None
    unit: str
    phase: int
    cause: str | None
    """Id of the finding that explains it."""


@dataclass(frozen=True, slots=True)
class Facts:
    """A report."""

    kind: Kind
    period: str
    """"2026-10" or "2026-10-05"."""
    start: datetime
    end: datetime
    time_zone: str
    made_at: datetime
    over: bool
    """Whether the period was over when the report was made."""
    until: datetime
    """What is said is of [start, until): `end`, or `made_at` where the period was not over."""
    total: Total
    points: tuple[PointFacts, ...]
    """By area and name."""
    areas: tuple[GroupFacts, ...]
    lines: tuple[GroupFacts, ...]
    tariff_periods: tuple[TariffPeriod, ...]
    """Of all tariffs that are used; empty without one."""
    cost: Cost | None
    days: tuple[DayFacts, ...]
    hours: tuple[HourFacts, ...]
    alarms: tuple[AlarmFacts, ...]
    """Newest first."""
    notes: tuple[Note, ...]
    chosen: tuple[str, ...] | None = None
    """Ids of the points that were asked for; None: all."""
    site: str | None = None
    """What people call the site."""
    about: tuple[str, ...] = ()
    """Names of the areas or lines that were chosen, or of single points; empty: all."""
    version: int = VERSION

    @property
    def completeness(self) -> float:
        """Of the site's total."""
        return self.total.completeness

    @property
    def estimated_share(self) -> float:
        """Of the site's total."""
        return self.total.estimated_share

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it: numbers that are exact are texts."""
        return encoded(self)  # type: ignore[no-any-return]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Facts:
        """The inverse. ReportError where it is of another version or no report."""
        return decoded(cls, data, VERSION)
