"""`facts(session, kind, period, …)`: everything a report says, from what is kept of a site. The same input, the same
facts: what time it is, is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol

from meter_batch_engine.model.day import DayCalendar

from ..periods import zone_of
from ..session import Identity
from ..site import Site
from .alarms import alarms_of
from .bill import energy_cost
from .compare import USABLE, comparisons, days_of
from .costs import CONTRACT, attribute_sum, cost_of
from .facts import (
    AlarmFacts,
    Balance,
    DayFacts,
    Facts,
    GroupFacts,
    HourFacts,
    Note,
    PointFacts,
    TariffPeriod,
    Total,
)
from .hierarchy import children, members, terms
from .measured import read
from .period import ReportPeriod, kind_of, local, period_of, until_of
from .split import Measured, Resolution
from .tariff import Tariff, Tariffs, tariffs_of

ZERO = Decimal(0)
NOTEWORTHY = 0.0005


class Histories(Protocol):
    """What is asked of a session."""

    @property
    def site(self) -> Site:
        """Points and their history."""

    @property
    def identity(self) -> Identity:
        """For whom it is."""

    @property
    def now(self) -> Callable[[], datetime]:
        """A function that tells the time."""

    def alarms(self, since: datetime, until: datetime) -> Sequence[Any]:
        """Findings of a period."""


def facts(
    session: Histories,
    kind: str,
    period: str,
    points: Sequence[str] | None = None,
    tariff: Tariff | Tariffs | None = None,
    *,
    made_at: datetime | None = None,
) -> Facts:
    """The facts of a report.

    Points by id or name (None: all); `tariff`: one for all points, those of a folder, or none. `made_at`: now, by
    default the session's. ConfigError for what there is not, a period to come, a wrong attribute; what the sources
    say when they cannot answer.
    """
    site, now = session.site, made_at or session.now()
    zone = zone_of(site.time_zone)
    chosen = sorted(site.choose(points))
    asked = period_of(kind_of(kind), period, now, zone)
    mine, broken = tariffs_of(site.points, chosen, tariff)
    made = _Made(site, asked, until_of(asked, now), chosen, mine)
    whole = points is None and session.identity.scope is None
    alarms = alarms_of(session.alarms(asked.start, made.until), site, asked.zone, None if points is None else chosen)
    wrong = tariff.broken if isinstance(tariff, Tariffs) else {}
    notes = [
        Note("tariff_broken", {"tariff": name, "points": count, "problem": wrong[name]})
        for name, count in broken.items()
    ]
    found = made.facts(local(now.replace(microsecond=0), zone), alarms)
    about = () if points is None else _about(site, chosen)
    return replace(found, chosen=None if whole else tuple(chosen), notes=(*found.notes, *notes), about=about)


def check(session: Histories, kind: str, period: str) -> None:
    """ConfigError for a kind or a period that there is not: what people write themselves comes before files."""
    site = session.site
    period_of(kind_of(kind), period, session.now(), zone_of(site.time_zone))


def _about(site: Site, chosen: Sequence[str]) -> tuple[str, ...]:
    """The areas, or else the lines, that are just what was chosen; else the points' names."""
    wanted = set(chosen)
    for named in (site.areas, site.lines):
        inside = {name: set(ids) for name, ids in named.items() if ids and wanted.issuperset(ids)}
        if inside and set().union(*inside.values()) == wanted:
            return tuple(sorted(inside))
    return tuple(site.points[one].name for one in chosen)


def choose(
    site: Site,
    points: Sequence[str] | None = None,
    areas: Sequence[str] | None = None,
    lines: Sequence[str] | None = None,
) -> list[str] | None:
    """Ids of points by id or name, areas and lines, together; None where none of these is given: all.

    ConfigError for what is unknown.
    """
    if not points and not areas and not lines:
        return None
    found = set(site.choose(points)) if points else set[str]()
    for area in areas or ():
        found.update(site.choose(area=area))
    for line in lines or ():
        found.update(site.choose(line=line))
    return sorted(found)


class _Made:
    """One report in the making."""

    def __init__(
        self, site: Site, period: ReportPeriod, until: datetime, chosen: Sequence[str], tariffs: Mapping[str, Tariff]
    ) -> None:
        self.site, self.period, self.until, self.chosen, self.tariffs = site, period, until, chosen, tariffs
        self.points = site.points
        self.terms = {id_: terms(self.points, id_) for id_ in chosen}
        leaves = sorted({leaf for some in self.terms.values() for leaf in some})
        rows = read(site, leaves, period.start, until, "interval")
        self.data = Measured(rows, period, until, [*{one.id: one for one in tariffs.values()}.values()])
        self.calendar = DayCalendar(site.country)
        days = period.days
        whole = [day for day in days if ReportPeriod("daily", day, period.zone).end <= until]
        begun = [day for day in days if ReportPeriod("daily", day, period.zone).start < until]
        self.days = days_of(rows, period, begun[0], begun[-1])
        self.before, self.last_year, self.like = comparisons(site, leaves, period, whole, self.days, self.calendar)
        self.members = members(self.points, chosen)
        self.virtual_only = not self.members and bool(chosen)
        if self.virtual_only:
            self.members = tuple(chosen)
        self.notes: list[Note] = []
        self.unbalanced = 0

    def facts(self, made_at: datetime, alarms: tuple[AlarmFacts, ...]) -> Facts:
        """All of it."""
        total, monthly = self._total(), self.period.kind == "monthly"
        members_ = {one: self.terms[one] for one in self.members}
        site_cost, self.notes = cost_of(self.data, self.points, members_, self.tariffs, monthly=monthly)
        if site_cost is not None and len(site_cost.bills) == 1 and site_cost.bills[0].points == self.members:
            # What the one bill is by is said of the site too.
            (bill,) = site_cost.bills
            demand = replace(total.demand, contract_kw=bill.demand.contract_kw or total.demand.contract_kw)
            total = replace(total, demand=demand, power_factor=bill.power_factor)
        points = tuple(
            sorted(
                (self._point(id_, total.kwh) for id_ in self.chosen),
                key=lambda one: (one.area is None, one.area or "", one.name, one.id),
            )
        )
        over = self.until >= self.period.end
        self._tell(total, points, over=over)
        return Facts(
            self.period.kind, self.period.label, self.period.start, self.period.end, self.site.time_zone, made_at,
            over, self.until, total, points, self._groups(self.site.areas, total.kwh),
            self._groups(self.site.lines, total.kwh), self._periods(), site_cost, self._days(), self._hours(), alarms,
            tuple(self.notes), site=self.site.title,
        )  # fmt: skip

    def _total(self) -> Total:
        data, some = self.data, [self.terms[one] for one in self.members]
        return Total(
            self.members,
            data.kwh(some),
            self._by_period(self.members),
            data.energy("energy_export", some),
            self.before.of(some),
            self.last_year.of(some),
            replace(data.demand(some, 10), contract_kw=attribute_sum(self.points, self.members, CONTRACT)),
            data.power_factor(some),
            *data.quality(some),
            self._balances(),
        )

    def _point(self, id_: str, total: Decimal | None) -> PointFacts:
        point, some, data = self.points[id_], [self.terms[id_]], self.data
        kwh, tariff = data.kwh(some), self.tariffs.get(id_)
        completeness, estimated = data.quality(some)
        demand = replace(data.demand(some, 1), contract_kw=attribute_sum(self.points, [id_], CONTRACT))
        areas, lines = _named(self.site.areas), _named(self.site.lines)
        return PointFacts(
            id_, point.name, areas.get(id_), lines.get(id_), point.parent, point.virtual, id_ in self.members, kwh,
            self._by_period([id_]), data.energy("energy_export", some), _share(kwh, total), self.before.of(some),
            self.last_year.of(some), demand,
            data.power_factor(some), completeness, estimated, data.since(some),
            None if tariff is None else tariff.id,
            None if tariff is None or kwh is None else energy_cost(tariff, data.split(tariff, some)),
        )  # fmt: skip

    def _groups(self, named: Mapping[str, Sequence[str]], total: Decimal | None) -> tuple[GroupFacts, ...]:
        found = []
        for name, all_ in sorted(named.items()):
            inside = [one for one in all_ if one in self.terms]
            if not inside:
                continue
            mine = members(self.points, inside)
            some = [self.terms[one] for one in mine]
            kwh = self.data.kwh(some)
            costs = [
                energy_cost(self.tariffs[one], self.data.split(self.tariffs[one], [self.terms[one]]))
                for one in mine
                if one in self.tariffs and self.data.kwh([self.terms[one]]) is not None
            ]
            found.append(
                GroupFacts(
                    name,
                    tuple(inside),
                    mine,
                    kwh,
                    self._by_period(mine),
                    _share(kwh, total),
                    self.before.of(some),
                    self.last_year.of(some),
                    *self.data.quality(some),
                    sum(costs, ZERO) if costs else None,
                )
            )
        return tuple(found)

    def _by_period(self, ids: Sequence[str]) -> dict[str, Decimal]:
        sums: dict[str, Decimal] = {}
        for id_ in ids:
            if (tariff := self.tariffs.get(id_)) is not None and self.data.kwh([self.terms[id_]]) is not None:
                for (_, key), kwh in self.data.split(tariff, [self.terms[id_]]).items():
                    sums[key] = sums.get(key, ZERO) + kwh
        return {one.key: sums[one.key] for one in self._periods() if one.key in sums}

    def _periods(self) -> tuple[TariffPeriod, ...]:
        found: dict[str, TariffPeriod] = {}
        for tariff in self.data.tariffs:
            for one in tariff.periods:
                found.setdefault(one.key, one)
        return tuple(found.values())

    def _balances(self) -> tuple[Balance, ...]:
        found = []
        for id_ in self.chosen:
            inside = children(self.points, self.chosen, id_) if not self.points[id_].virtual else ()
            kwh = self.data.kwh([self.terms[id_]])
            if not inside or kwh is None:
                continue
            if any(self.data.covered(self.terms[one]) < USABLE for one in (id_, *inside)):
                self.unbalanced += 1
                continue
            parts = self.data.kwh([self.terms[one] for one in inside]) or ZERO
            found.append(Balance(id_, kwh, inside, parts, kwh - parts, _share(kwh - parts, kwh)))
        return tuple(found)

    # --- series ---

    def _days(self) -> tuple[DayFacts, ...]:
        some = [self.terms[one] for one in self.members]
        split = self._series("day")
        highest = self.data.demand_by_day(some)
        found = []
        for place, day in enumerate(self.data.days):
            there = self.data.series("day", some, place)
            found.append(
                DayFacts(
                    day,
                    self.calendar.day_class(day).value,
                    there.kwh,
                    split[place],
                    there.completeness,
                    there.estimated_share,
                    highest.get(day),
                )
            )
        return tuple(found)

    def _hours(self) -> tuple[HourFacts, ...]:
        some = [self.terms[one] for one in self.members]
        split, alike = self._series("hour"), self._like_hours(some)
        found = []
        for place, start in enumerate(self.data.hours):
            there = self.data.series("hour", some, place)
            like = alike.get(start.hour)
            found.append(HourFacts(start, there.kwh, split[place], there.completeness, like))
        return tuple(found)

    def _series(self, resolution: Resolution) -> list[dict[str, Decimal]]:
        """kWh by tariff period of each day or hour of the total."""
        found: list[dict[str, Decimal]] = []
        for tariff in self.data.tariffs:
            some = [self.terms[one] for one in self.members if self.tariffs.get(one) is tariff]
            for place, split in enumerate(self.data.split_series(tariff, some, resolution)):
                if place == len(found):
                    found.append({})
                for key, kwh in split.items():
                    found[place][key] = found[place].get(key, ZERO) + kwh
        size = len(self.data.days if resolution == "day" else self.data.hours)
        return found or [{} for _ in range(size)]

    def _like_hours(self, some: Sequence[Mapping[str, int]]) -> dict[int, Decimal]:
        """Of a daily report: the hours of the like day of the week before, by the clock."""
        like = self.like.get(self.period.first)
        if self.period.kind != "daily" or like is None:
            return {}
        other = ReportPeriod("daily", like, self.period.zone)
        rows = read(self.site, sorted({leaf for one in some for leaf in one}), other.start, other.end, "hour")
        data = Measured(rows, other, other.end, [])
        found: dict[int, Decimal] = {}
        for place, start in enumerate(data.hours):
            if (kwh := data.series("hour", some, place).kwh) is not None:
                found.setdefault(start.hour, kwh)
        return found

    # --- what the reader has to know ---

    def _tell(self, total: Total, points: Sequence[PointFacts], *, over: bool) -> None:
        notes, found = self.notes, list[Note]()
        if not over:
            found.append(Note("not_over", {"until": self.until.isoformat()}))
        if total.kwh is None:
            found.append(Note("no_data"))
        measured = [one for one in points if not one.virtual]
        missing = 1 - total.completeness - total.estimated_share - self.data.statistics_share
        if total.kwh is not None and missing > NOTEWORTHY:
            lack = sum(1 - one.completeness - one.estimated_share > 0.01 for one in measured)
            found.append(Note("incomplete", {"share": round(missing, 6), "points": lack}))
        if total.estimated_share > 0:
            guessed = sum(one.estimated_share > 0 for one in measured)
            found.append(Note("estimates", {"share": round(total.estimated_share, 6), "points": guessed}))
        if self.data.suspects:
            found.append(Note("suspect", {"intervals": self.data.suspects, "points": self.data.suspect_points}))
        later = sum(one.since is not None for one in measured)
        if later:
            found.append(Note("history_begins", {"points": later}))
        if self.data.statistics_share > 0:
            found.append(Note("statistics", {"share": round(self.data.statistics_share, 6)}))
        coarse = self.data.coarse
        if coarse:
            found.append(Note("coarse", {"points": coarse}))
        if self.virtual_only:
            found.append(Note("total_of_virtual"))
        elif virtual := sum(one.virtual for one in points):
            found.append(Note("virtual_left_out", {"points": virtual}))
        if not self.tariffs:
            found.append(Note("no_tariff"))
        elif bare := sum(one not in self.tariffs for one in self.members):
            found.append(Note("not_billed", {"points": bare}))
        for tariff in self.data.tariffs:
            mine = [self.terms[one] for one in self.members if self.tariffs.get(one) is tariff]
            if (share := self.data.across_share(tariff, mine)) > NOTEWORTHY:
                found.append(Note("across_periods", {"share": round(share, 6)}))
        if total.kwh is not None:
            if total.power_factor.value is None:
                found.append(Note("no_reactive"))
            for key, one in (("no_previous", total.previous), ("no_last_year", total.last_year)):
                if one.kwh is None:
                    found.append(Note(key))
        if unlike := sum(one.previous.partly or one.last_year.partly for one in points):
            found.append(Note("change_left_out", {"points": unlike}))
        if self.unbalanced:
            found.append(Note("balance_left_out", {"points": self.unbalanced}))
        self.notes = [*found, *notes]


def _named(groups: Mapping[str, Sequence[str]]) -> dict[str, str]:
    return {id_: name for name, ids in groups.items() for id_ in ids}


def _share(part: Decimal | None, whole: Decimal | None) -> float | None:
    return None if part is None or not whole else float(part / whole)
