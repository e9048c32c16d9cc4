"""Facts in words: how numbers, times and periods are written, and the sentences of the first page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from ..words import CHINESE, Words
from .facts import AlarmFacts, Bill, Compared, CostLine, CostPart, Facts, GroupFacts, Note, PointFacts

WORDS = Path(__file__).parent / "words.toml"
# From where on something is worth a line on the first page.
NEAR_CONTRACT, MEASURED_WELL, ESTIMATED_MUCH, GAPS = 0.9, 0.99, 0.01, 0.95
CHANGED_MUCH, CHANGED_SHARE, UNACCOUNTED, OVERACCOUNTED, NAMES = 0.3, 0.02, 0.05, 0.01, 3
_WHOLE, ESTIMATED_POINT = 0.9995, 0.05

type Tone = Literal["bad", "warning", "info", "good"]


@dataclass(frozen=True, slots=True)
class Need:
    """Something that needs attention."""

    tone: Tone
    text: str


class Voice:
    """Writes what facts say in one language; `say` gives the words of a key."""

    def __init__(self, facts: Facts, language: str) -> None:
        self.facts, self.say = facts, Words.load(WORDS, language)
        self.language = self.say.language
        known = [facts.total.kwh, *(one.kwh for one in facts.points)]
        most = max((abs(one) for one in known if one is not None), default=Decimal(0))
        self.digits = 0 if most >= 10_000 else 1 if most >= 100 else 2
        self.names = {one.id: one.name for one in facts.points}
        self._periods = {one.key: one.name for one in facts.tariff_periods}

    # --- names ---

    def named(self, names: Mapping[str, str], key: str) -> str:
        """Of a name by language the one that is read here, or any, or the key."""
        return names.get(self.language) or names.get("en") or next(iter(names.values()), key)

    def tariff_period(self, key: str) -> str:
        """The name of a tariff period."""
        return self.named(self._periods.get(key, {}), key)

    def dearest_first(self) -> list[str]:
        """Keys of tariff periods by their price; without prices as the tariff names them."""
        prices: dict[str, Decimal] = {}
        for bill in self.facts.cost.bills if self.facts.cost else ():
            for part in (part for line in bill.lines for part in line.parts):
                prices[part.period] = max(part.price, prices.get(part.period, part.price))
        return sorted(self.used_periods, key=lambda key: -prices.get(key, Decimal(0)))

    @property
    def used_periods(self) -> list[str]:
        """Keys of tariff periods in which something was used, as the tariff names them."""
        facts = self.facts
        parts = [
            part for bill in (facts.cost.bills if facts.cost else ()) for line in bill.lines for part in line.parts
        ]
        used = {part.period for part in parts if part.kwh}
        for by_period in (facts.total.by_period, *(one.by_period for one in facts.points)):
            used.update(key for key, kwh in by_period.items() if kwh)
        return [key for key in self._periods if key in used]

    def parts(self, line: CostLine) -> list[CostPart]:
        """Those of a bill's line that are of a tariff period in which something was used."""
        used = self.used_periods
        return [one for one in line.parts if one.period in used]

    def prices(self, bill: Bill) -> int:
        """How many decimals the prices of a bill need: as many in all its rows."""
        found = [one.price for line in bill.lines for one in line.parts]
        found += [one.price for one in bill.lines if one.price is not None]
        return max((-int(one.normalize().as_tuple().exponent) for one in found), default=0)

    def no_cost(self) -> str:
        """Why nothing is said of cost."""
        without = any(one.key == "no_tariff" for one in self.facts.notes)
        return self.say("no_cost" if without else "nothing_to_bill")

    def unsure(self, point: PointFacts | GroupFacts, value: Decimal | None) -> str:
        """The mark of a number that was not measured: ≈ estimated, ‡ less than nothing by its parts."""
        if value is None:
            return ""
        if point.estimated_share > ESTIMATED_POINT:
            return "≈\u00a0"
        return "‡\u00a0" if isinstance(point, PointFacts) and point.virtual and value < 0 else ""

    def line(self, line: CostLine) -> str:
        """What a line of a bill is for."""
        return (
            self.say(f"cost_{line.key}")
            if not line.name and f"cost_{line.key}" in self.say
            else self.named(line.name, line.key)
        )

    def bill(self, bill: Bill) -> str:
        """The tariff of a bill and its points."""
        return self.say("cost_of_points", tariff=self.named(bill.name, bill.tariff), points=self.some(bill.points))

    def some(self, ids: Sequence[str], most: int = NAMES) -> str:
        """Names of points: the first few, and how many more there are."""
        return self._few([self.names.get(one, one) for one in ids], most)

    def _few(self, some: Sequence[str], most: int = NAMES) -> str:
        names = self.say("list_separator").join(some[:most])
        return self.say("and_more", names=names, count=len(some) - most) if len(some) > most else names

    # --- numbers ---

    def kwh(self, value: Decimal | None) -> str:
        """Energy without its unit, with as many digits everywhere in this report."""
        return self.say.number(value, self.digits)

    def energy(self, value: Decimal | None) -> str:
        """Energy with its unit."""
        return f"{self.kwh(value)}\u00a0kWh"

    def kw(self, value: Decimal | None) -> str:
        """Power without its unit."""
        return self.say.number(value, 1)

    def amount(self, value: Decimal | None) -> str:
        """Money without its currency."""
        return self.say.number(value, self.facts.cost.digits if self.facts.cost else 2)

    def money(self, value: Decimal | None, digits: int | None = None) -> str:
        """Money with its currency."""
        currency = self.facts.cost.currency if self.facts.cost else ""
        key = f"money_{currency}" if f"money_{currency}" in self.say else "money"
        text = self.amount(value) if digits is None else self.say.number(value, digits)
        return self.say(key, amount=text, currency=currency)

    def currency(self) -> str:
        """The currency as a unit of a column."""
        code = self.facts.cost.currency if self.facts.cost else ""
        return self.say(f"unit_{code}") if f"unit_{code}" in self.say else code

    def unit(self, line: CostLine) -> str:
        """The unit of a line's quantity."""
        return self.say("unit_month") if line.unit == "month" else line.unit

    def plain(self, value: Any) -> str:
        """A number as exact as it is."""
        if value is None:
            return "–"
        exact = Decimal(str(value)).normalize()
        return self.say.number(exact, max(0, -int(exact.as_tuple().exponent)))

    def share(self, value: float | None) -> str:
        """A share in percent; what is not nothing never reads as nothing."""
        if value is not None and 0 < value < 0.0005:
            return "<\u00a0" + self._percent(0.001)
        return self._percent(value)

    def change(self, value: float | None) -> str:
        """A relative change with its sign."""
        if value is None:
            return "–"
        text = self._percent(abs(value))
        return text if not any(one in text for one in "123456789") else ("+" if value > 0 else "−") + text

    def _percent(self, share: float | None) -> str:
        return self.say.percent(share).replace(" %", "\u00a0%")

    def percent(self, value: Decimal | None) -> str:
        """A number that is in percent already, with its sign."""
        return self.change(None if value is None else float(value) / 100)

    # --- times ---

    def short_day(self, day: date) -> str:
        """A day without its year: 15 Oct, 10月15日."""
        if self.language == CHINESE:
            return f"{day.month}月{day.day}日"
        return f"{day.day} {self.say.month(day)[:3]}"

    def short(self, at: datetime | None) -> str:
        """An instant in a column: of a day's report the time alone."""
        if at is None:
            return "–"
        local = at.astimezone(self.facts.start.tzinfo)
        if self.facts.kind == "daily" and self.facts.start <= at < self.facts.end:
            return f"{local:%H:%M}"
        return f"{self.short_day(local.date())} {local:%H:%M}"

    def when(self, at: datetime) -> str:
        """An instant in a sentence: on 15 October at 10:30."""
        local = at.astimezone(self.facts.start.tzinfo)
        if self.facts.kind == "daily":
            return self.say("at_clock", time=f"{local:%H:%M}")
        day = self.short_day(local.date()) if self.language == CHINESE else self.say.day(local.date()).rsplit(" ", 1)[0]
        return self.say("at_time", day=day, time=f"{local:%H:%M}")

    def instant(self, at: datetime) -> str:
        """An instant in full, in the site's time."""
        return self.say.instant(at.astimezone(self.facts.start.tzinfo))

    def label(self, period: str) -> str:
        """The label of a period in words: October 2026, 5 October 2026."""
        parts = [int(one) for one in period.split("-")]
        year, month, day = (*parts, 1)[:3]
        return (self.say.month if len(parts) == 2 else self.say.day)(date(year, month, day))

    @property
    def period(self) -> str:
        """The report's period in words."""
        return self.label(self.facts.period)

    @property
    def kind(self) -> str:
        """What kind of report it is."""
        return self.say(f"title_{self.facts.kind}")

    @property
    def what(self) -> str:
        """The same, and of which areas, lines or points, where it is not of all."""
        return f"{self.kind} · {self._few(self.facts.about)}" if self.facts.about else self.kind

    @property
    def title(self) -> str:
        """The same, and of which site."""
        return f"{self.facts.site} · {self.what}" if self.facts.site else self.what

    @property
    def weekday(self) -> str:
        """The weekday of a daily report's day."""
        return self.say("weekdays").split(",")[self.facts.start.weekday()]

    def lasted(self, alarm: AlarmFacts) -> str:
        """How long an alarm was active."""
        if alarm.until is None:
            return self.say("lasts")
        minutes = round((alarm.until - alarm.since) / timedelta(minutes=1))
        if minutes >= 24 * 60:
            return self.say("duration_days", days=minutes // (24 * 60), hours=minutes // 60 % 24)
        if minutes >= 60:
            return self.say("duration_hours", hours=minutes // 60, minutes=minutes % 60)
        return self.say("duration_minutes", minutes=minutes)

    # --- sentences ---

    def headline(self) -> list[str]:
        """What was used, what it cost, beside other periods, and how well that is known."""
        facts, total = self.facts, self.facts.total
        if total.kwh is None:
            return [self.say("said_nothing", period=self.period)]
        if not facts.over:
            said = [self.say("said_used_so_far", until=self.instant(facts.until), energy=self.energy(total.kwh))]
        else:
            chosen = "said_used_points" if facts.chosen is not None else "said_used"
            key = "said_used_day" if facts.kind == "daily" and chosen == "said_used" else chosen
            said = [self.say(key, period=self.period, energy=self.energy(total.kwh))]
        if facts.cost is not None:
            cost = self.money(facts.cost.total)
            per_kwh = facts.cost.per_kwh
            said.append(
                self.say("said_cost_short", cost=cost)
                if per_kwh is None
                else self.say("said_cost", cost=cost, per_kwh=self.money(per_kwh, 4))
            )
        said += self._comparisons(total.previous, total.last_year)
        if total.demand.max_kw is not None and total.demand.at is not None:
            kw = f"{self.kw(total.demand.max_kw)} kW"
            said.append(self.say("said_demand", demand=kw, at=self.when(total.demand.at)))
        measured, estimated = self.share(total.completeness), self.share(total.estimated_share)
        key = "said_quality" if total.estimated_share else "said_quality_no_estimates"
        if total.completeness >= 1 and not total.estimated_share:
            key = "said_quality_whole"
        said.append(self.say(key, names=self.some(total.members), measured=measured, estimated=estimated))
        silent = sum(one.kwh is None for one in facts.points)
        partly = sum(one.kwh is not None and one.completeness < GAPS for one in facts.points)
        if silent or partly:
            said.append(self.say("said_quality_points", count=len(facts.points), silent=silent, partly=partly))
        return said

    def _comparisons(self, previous: Compared, last_year: Compared) -> list[str]:
        if all(one.change is None and not one.partly for one in (previous, last_year)):
            other, another = self.label(previous.period), self.label(last_year.period)
            return [self.say("said_unknown_both", other=other, another=another)]
        return [self._comparison(one) for one in (previous, last_year)]

    def _comparison(self, one: Compared) -> str:
        other = self.label(one.period)
        if one.change is None:
            return self.say("said_partly" if one.partly else "said_unknown", other=other)
        alike = ""
        if one.comparable_change is not None:
            alike = self.say(f"said_alike_{_way(one.comparable_change)}", change=self.share(abs(one.comparable_change)))
        return self.say(f"said_{_way(one.change)}", change=self.share(abs(one.change)), other=other, alike=alike)

    def needs(self) -> list[Need]:
        """What needs attention, the worst first."""
        found = [*self._bill_needs(), *self._alarm_needs(), *self._data_needs(), *self._use_needs()]
        order = ("bad", "warning", "info")
        return sorted(found, key=lambda one: order.index(one.tone)) or [Need("good", self.say("need_nothing"))]

    def _bill_needs(self) -> list[Need]:
        found: list[Need] = []
        demand, factor = self.facts.total.demand, self.facts.total.power_factor
        share = demand.of_contract
        if share is not None and share >= NEAR_CONTRACT:
            key, tone = ("need_demand_over", "bad") if share > 1 else ("need_demand_near", "warning")
            kw, contract = f"{self.kw(demand.max_kw)} kW", f"{self.kw(demand.contract_kw)} kW"
            found.append(Need(tone, self.say(key, demand=kw, contract=contract, share=self.share(share))))  # type: ignore[arg-type]
        if factor.value is not None and factor.standard is not None and factor.value < factor.standard:
            words = {"value": self.say.number(factor.value, 2), "standard": self.say.number(factor.standard, 2)}
            adjustment = factor.adjustment_percent
            text = (
                self.say("need_power_factor", change=self.percent(adjustment), **words)
                if adjustment
                else self.say("need_power_factor_only", **words)
            )
            found.append(Need("warning", text))
        return found

    def _alarm_needs(self) -> list[Need]:
        found: list[Need] = []
        active = [one for one in self.facts.alarms if one.until is None and one.cause is None]
        if active:
            kinds = dict.fromkeys(f"{self.alarm(one)}, {self.subject(one)}" for one in active)
            names = "; ".join([*kinds][:NAMES]) + (" …" if len(kinds) > NAMES else "")
            tone: Tone = "bad" if any(one.severity == "critical" for one in active) else "warning"
            found.append(Need(tone, self.say("need_active", count=len(active), names=names)))
        waiting = sum("unacknowledged" in one.state for one in self.facts.alarms)
        if waiting:
            found.append(Need("warning", self.say("need_unacknowledged", count=waiting)))
        return found

    def _data_needs(self) -> list[Need]:
        found: list[Need] = []
        total = self.facts.total
        if total.kwh is not None and total.completeness < MEASURED_WELL:
            found.append(Need("bad", self.say("need_completeness", share=self.share(total.completeness))))
        if total.estimated_share > ESTIMATED_MUCH:
            found.append(Need("warning", self.say("need_estimates", share=self.share(total.estimated_share))))
        if silent := [one.id for one in self.facts.points if one.kwh is None]:
            found.append(Need("bad", self.say("need_silent", names=self.some(silent))))
        gaps = [one for one in self.facts.points if one.kwh is not None and one.completeness < GAPS]
        if gaps:
            gaps.sort(key=lambda one: (one.completeness, one.id))
            found.append(Need("warning", self.say("need_gaps", names=self.some([one.id for one in gaps]))))
        return found

    def _use_needs(self) -> list[Need]:
        found: list[Need] = []
        for balance in self.facts.total.balances:
            name = self.names.get(balance.point, balance.point)
            words = {
                # Latin letters stand apart from Chinese ones.
                "name": f"{name} " if self.language == CHINESE and name[-1:].isascii() else name,
                "energy": self.energy(abs(balance.unaccounted_kwh)),
            }
            if balance.share is not None and balance.share > UNACCOUNTED:
                found.append(Need("info", self.say("need_unaccounted", share=self.share(balance.share), **words)))
            elif balance.share is not None and balance.share < -OVERACCOUNTED:
                found.append(Need("warning", self.say("need_overaccounted", **words)))
        moved = [(change, one) for one in self.facts.points if (change := _moved(one)) is not None]
        for change, one in sorted(moved, key=lambda pair: -abs(pair[0]) * float(pair[1].kwh or 0))[:NAMES]:
            words = {"change": self.share(abs(change)), "energy": self.energy(one.kwh)}
            key = "need_risen" if change > 0 else "need_fallen"
            found.append(Need("info", self.say(key, name=one.name, other=self.label(one.previous.period), **words)))
        return found

    # --- alarms and notes ---

    def alarm(self, alarm: AlarmFacts) -> str:
        """What kind of alarm it is."""
        key = f"alarm_{alarm.kind}"
        kind = self.say(key) if key in self.say else self.say("alarm_other", kind=alarm.kind)
        if not alarm.phase:
            return kind
        return self.say(
            "alarm_phase", kind=kind, phase=alarm.phase, letter=" ABC"[alarm.phase] if alarm.phase < 4 else ""
        )

    def subject(self, alarm: AlarmFacts) -> str:
        """What it is of."""
        return self.say("site") if alarm.subject_kind == "site" else alarm.name

    def alarm_values(self, alarm: AlarmFacts) -> str:
        """Its numbers, and what explains it."""
        parts = []
        if alarm.value is not None and alarm.limit is not None:
            value, limit, extreme = (
                None if one is None else f"{self.plain(one)} {alarm.unit}".strip()
                for one in (alarm.value, alarm.limit, alarm.extreme)
            )
            further = extreme is not None and alarm.extreme != alarm.value
            key = "alarm_values" if further else "alarm_value"
            parts.append(self.say(key, value=value, limit=limit, extreme=extreme))
        if alarm.cause is not None:
            cause = next((one for one in self.facts.alarms if one.id == alarm.cause), None)
            if cause is not None:
                words = f"{self.alarm(cause)}, {self.subject(cause)}"
                parts.append(self.say("because_of", cause=words))
        return "; ".join(parts)

    def note(self, note: Note) -> str:
        """A note in words."""
        return self.say(f"note_{note.key}", **{key: self._fact(key, one) for key, one in note.facts.items()})

    def _fact(self, key: str, value: str | float) -> str:
        if key.endswith("share"):
            return self.share(float(value))
        if key in ("until", "since", "at"):
            return self.instant(datetime.fromisoformat(str(value)))
        if key == "day":
            return self.say.day(date.fromisoformat(str(value)))
        return value if isinstance(value, str) else self.plain(value)

    def notes(self) -> list[str]:
        """What is to be known of this very report; of a month then how numbers are made."""
        facts = self.facts
        if facts.kind == "daily":
            # A day's report is short; how numbers are made stands in the month's.
            return [*map(self.note, facts.notes)]
        how = ["how_time", "how_total", "how_measured", "how_compared", "how_demand", "how_power_factor"]
        if facts.cost is not None:
            how.append("how_cost")
        words = {"zone": facts.time_zone, "minutes": facts.total.demand.minutes}
        return [*map(self.note, facts.notes), *(self.say(key, **words) for key in (*how, "how_rounded"))]


def whole(completeness: float, estimated: float) -> bool:
    """Whether everything was measured, as far as print can tell."""
    return completeness >= _WHOLE and estimated < 1 - _WHOLE


def _way(change: float) -> str:
    return "same" if abs(change) < 0.0005 else "more" if change > 0 else "less"


def _moved(point: PointFacts) -> float | None:
    """By how much a point that matters changed, where that is much."""
    change = point.previous.comparable_change if point.previous.comparable_change is not None else point.previous.change
    if change is None or abs(change) < CHANGED_MUCH or (point.share or 0.0) < CHANGED_SHARE or point.virtual:
        return None
    return change
