"""The report as a page: one HTML document that is read on a screen and printed to PDF."""

from __future__ import annotations

import gc
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ..errors import ReportError
from ..words import CHINESE
from . import charts
from .facts import Bill, Facts, GroupFacts, PointFacts
from .story import Voice, whole

FONTS = ("Noto Sans CJK SC", "Noto Sans SC")
"""The one font of both languages, under the names it comes by."""
FONT = FONTS[0]
_TEMPLATE = Path(__file__).parent / "template"
_MOST_ALARMS, _MOST_UNSURE, _MOST_TIMES = 60, 20, 12

type Legend = list[tuple[int, str, str]]


@dataclass(frozen=True, slots=True)
class Drawn:
    """A chart and what its colours mean."""

    svg: Markup
    legend: Legend


class Page:
    """A report's page in one language; in a notebook it shows itself."""

    def __init__(self, facts: Facts, language: str) -> None:
        self.facts = facts
        self.voice = Voice(facts, language)
        self.language = self.voice.language
        keys = self.voice.dearest_first()
        self._colours = dict(zip(keys, charts.colours(len(keys)), strict=True))
        self.html: str = _environment().get_template("page.html.j2").render(self._context())
        """The page, self-contained: it asks for nothing else. The same facts give the same text."""

    def pdf(self) -> bytes:
        """The page on paper. ReportError where the font is missing. The same facts give the same bytes."""
        require_font()
        from weasyprint import HTML  # half a second, which only this needs

        # Its style is read once for all pages, not once for each.
        html = self.html.replace(f"<style>{_style('page.css')}</style>", "", 1)
        identifier = f"{self.facts.kind} {self.facts.period} {self.language}".encode()
        with _without_collector():
            document = HTML(string=html, url_fetcher=_nothing_from_outside).render(
                font_config=_fonts(), stylesheets=[_print_style()]
            )
            made: bytes = document.write_pdf(pdf_identifier=identifier, pdf_tags=True)
        _check_fonts({one.family for one in document.fonts.values()})
        return made

    def _repr_html_(self) -> str:
        title, text = Markup.escape(self.voice.title), Markup.escape(self.html)
        return f'<iframe title="{title}" srcdoc="{text}" style="width:100%;height:80vh;border:0"></iframe>'

    def _context(self) -> dict[str, Any]:
        facts, voice = self.facts, self.voice
        unsure = [one for one in facts.points if not whole(one.completeness, one.estimated_share)]
        unsure.sort(key=lambda one: (one.completeness, -one.estimated_share, one.name))
        by_area = [(area, list(members)) for area, members in groupby(facts.points, lambda one: one.area)]
        top = [(number, at, kw) for number, (at, kw) in enumerate(facts.total.demand.top, 1)]
        half = (len(top) + 1) // 2
        return {
            "f": facts, "v": voice, "t": voice.say, "css": _style("page.css"), "screen_css": _style("screen.css"),
            "lang": "zh-CN" if self.language == CHINESE else "en",
            "gap": "" if self.language == CHINESE else " ",
            "monthly": facts.kind == "monthly",
            "made": facts.made_at.isoformat(timespec="seconds"),
            "span": self._span(), "scope": self._scope(),
            "said": voice.headline(), "cards": self._cards(), "needs": voice.needs(),
            "use": self._use(), "compared": self._compared(), "shares": self._shares(),
            "share_legend": self._period_legend(),
            "demand": self._demand(), "demand_said": self._demand_said(), "factor_said": self._factor_said(),
            "tops": [part for part in (top[:half], top[half:]) if part],
            "bill_methods": self._methods,
            "alarms": facts.alarms[:_MOST_ALARMS],
            "unsure": unsure[:_MOST_UNSURE], "unsure_count": len(unsure), "unsure_times": self._unsure_times(),
            "by_area": by_area, "marks": self._marks(),
            "periods": [one for one in facts.tariff_periods if one.key in voice.used_periods],
            "columns": 10 + len(voice.used_periods) + (facts.cost is not None),
            "notes": voice.notes(),
        }  # fmt: skip

    # --- the first page ---

    def _span(self) -> str:
        facts, voice = self.facts, self.voice
        if facts.kind == "daily":
            return voice.weekday
        last = (facts.end - timedelta(hours=12)).date()
        first = facts.start.date()
        if self.language == CHINESE:
            return voice.say("from_to", since=voice.say.day(first), until=f"{last.day}日")
        return voice.say("from_to", since=first.day, until=voice.say.day(last))

    def _scope(self) -> str:
        count = len(self.facts.points)
        if count == 1:
            return self.voice.say("one_point")
        return self.voice.say("all_points" if self.facts.chosen is None else "chosen_points", count=count)

    def _cards(self) -> list[tuple[str, str, str, str, str]]:
        """Label, value, unit, note and tone of the key figures."""
        facts, voice, say = self.facts, self.voice, self.voice.say
        total = facts.total
        found = []
        note = ""
        if total.previous.change is not None:
            note = say("card_previous", change=voice.change(total.previous.change))
            if total.last_year.change is not None:
                note += f" · {say('card_last_year', change=voice.change(total.last_year.change))}"
        found.append((say("energy_used"), voice.kwh(total.kwh), "kWh", note, ""))
        if facts.cost is not None:
            per_kwh = facts.cost.per_kwh
            note = "" if per_kwh is None else f"{voice.money(per_kwh, 4)} / kWh"
            found.append((say("cost"), voice.amount(facts.cost.total), voice.currency(), note, ""))
        demand = total.demand
        note = "" if demand.at is None else voice.short(demand.at)
        tone = ""
        if demand.of_contract is not None:
            share, contract = voice.share(demand.of_contract), f"{voice.kw(demand.contract_kw)} kW"
            note += f" · {say('card_contract', share=share, contract=contract)}"
            tone = "bad" if demand.of_contract > 1 else "warning" if demand.of_contract >= 0.9 else ""
        found.append((say("max_demand"), voice.kw(demand.max_kw), "kW", note, tone))
        factor = total.power_factor
        low = factor.value is not None and factor.standard is not None and factor.value < factor.standard
        note = "" if factor.standard is None else say("power_factor_asked", standard=say.number(factor.standard, 2))
        found.append((say("power_factor"), say.number(factor.value, 2), "", note, "warning" if low else ""))
        tone = "bad" if total.completeness < 0.95 else "warning" if total.completeness < 0.99 else ""
        note = f"{say('estimated')} {voice.share(total.estimated_share)}"
        found.append((say("measured_total"), voice.share(total.completeness), "", note, tone))
        alarms = len(facts.alarms)
        lasting = sum(one.until is None for one in facts.alarms)
        note = say("alarms_lasting", count=lasting) if lasting else ""
        found.append((say("alarms"), str(alarms), "", note, "warning" if lasting else ""))
        return found

    def _use(self) -> Drawn:
        """Use by day, of a daily report by hour, stacked by tariff period."""
        facts, voice = self.facts, self.voice
        hourly = facts.kind == "daily"
        rows = facts.hours if hourly else facts.days
        series = [
            charts.Series(voice.tariff_period(key), [_part(one.kwh, one.by_period, key) for one in rows], colour)
            for key, colour in reversed(self._colours.items())
        ] or [charts.Series("kWh", [_float(one.kwh) for one in rows], 3)]
        line = [_float(one.comparable_kwh) for one in facts.hours] if hourly else None
        if line is not None and not any(one is not None for one in line):
            line = None
        steps, unsure = self._steps(), any(one.kwh is not None and one.completeness < 0.9995 for one in rows)
        known = [one for one in rows if one.kwh is not None]
        if known:
            most = max(known, key=lambda one: one.kwh or Decimal(0))
            at = f"{most.start:%H:%M}" if hourly else voice.short_day(most.day)  # type: ignore[union-attr]
            key = "alt_hours" if hourly else "alt_days"
            alt = voice.say(key, period=voice.period, most=voice.energy(most.kwh), at=at)
        else:
            alt = voice.say("alt_nothing")
        svg = charts.columns(alt, steps, series, number=self._tick, unit="kWh", line=line)
        legend = self._period_legend()
        if line is not None:
            legend.append((0, voice.say("usual"), "stroke"))
        if unsure:
            legend.append((0, voice.say("bar_marked"), "triangle"))
        if len(known) < len(rows):
            legend.append((0, voice.say("bar_unknown"), "hollow"))
        return Drawn(Markup(svg), legend)

    def _steps(self) -> list[charts.Step]:
        if self.facts.kind == "daily":
            return [
                charts.Step(f"{one.start:%H}" if at % 2 == 0 else "", marked=one.completeness < 0.9995)
                for at, one in enumerate(self.facts.hours)
            ]
        return [
            charts.Step(str(one.day.day), one.day_class != "work", one.completeness < 0.9995) for one in self.facts.days
        ]

    def _tick(self, value: float) -> str:
        """A number on an axis, as short as it is."""
        exact = Decimal(f"{value:.6g}").normalize()
        return self.voice.say.number(exact, max(0, -int(exact.as_tuple().exponent)))

    def _period_legend(self) -> Legend:
        return [(colour, self.voice.tariff_period(key), "box") for key, colour in self._colours.items()]

    # --- further pages ---

    def _compared(self) -> Markup | None:
        total, voice = self.facts.total, self.voice
        rows: list[tuple[str, float | None, str, int]] = [(voice.period, _float(total.kwh), voice.energy(total.kwh), 3)]
        for one in (total.previous, total.last_year):
            text = voice.energy(one.kwh) if one.kwh is not None else voice.say("bar_unknown")
            rows.append((voice.label(one.period), _float(one.kwh), text, 2))
        if all(value is None for _, value, _, _ in rows):
            return None
        return Markup(charts.bars(voice.say("alt_compared"), rows))

    def _shares(self) -> Markup | None:
        """How use and its cost divide among tariff periods."""
        facts, voice = self.facts, self.voice
        if facts.cost is None or not self._colours:
            return None
        kwh, money = dict.fromkeys(self._colours, Decimal(0)), dict.fromkeys(self._colours, Decimal(0))
        for part in (part for bill in facts.cost.bills for line in bill.lines for part in line.parts):
            if part.period in kwh:
                kwh[part.period] += part.kwh
                money[part.period] += part.amount
        rows = []
        for label, parts in (("share_of_use", kwh), ("share_of_cost", money)):
            whole = sum(parts.values(), Decimal(0))
            if whole <= 0:
                return None
            shares = [(float(parts[key] / whole), colour) for key, colour in self._colours.items()]
            rows.append((voice.say(label), [(share, voice.share(share), colour) for share, colour in shares]))
        return Markup(charts.shares(voice.say("alt_shares"), rows))

    def _demand(self) -> Drawn | None:
        facts, voice = self.facts, self.voice
        if facts.kind == "daily" or all(one.demand_max_kw is None for one in facts.days):
            return None
        values = [_float(one.demand_max_kw) for one in facts.days]
        limit = _float(facts.total.demand.contract_kw)
        alt = voice.say("alt_demand", period=voice.period)
        steps = [charts.Step(one.label, one.muted) for one in self._steps()]
        series = [charts.Series("kW", values, 2)]
        svg = charts.columns(alt, steps, series, number=self._tick, unit="kW", height=150, limit=limit)
        legend: Legend = [(2, voice.say("demand_by_day"), "box")]
        if limit is not None:
            legend.append((0, voice.say("limit_contract"), "dashed"))
        if None in values:
            legend.append((0, voice.say("bar_unknown"), "hollow"))
        return Drawn(Markup(svg), legend)

    def _demand_said(self) -> list[str]:
        demand, voice = self.facts.total.demand, self.voice
        if demand.max_kw is None or demand.at is None:
            return [voice.say("demand_unknown")]
        kw = f"{voice.kw(demand.max_kw)} kW"
        said = [voice.say("demand_said", minutes=demand.minutes, demand=kw, at=voice.when(demand.at))]
        if demand.of_contract is not None:
            share, contract = voice.share(demand.of_contract), f"{voice.kw(demand.contract_kw)} kW"
            said.append(voice.say("demand_contract", share=share, contract=contract))
        if demand.load_factor is not None:
            said.append(voice.say("load_factor", share=voice.share(demand.load_factor)))
        return said

    def _factor_said(self) -> list[str]:
        factor, voice = self.facts.total.power_factor, self.voice
        if factor.value is None:
            return [voice.say("power_factor_unknown")]
        said = [voice.say("power_factor_said", value=voice.say.number(factor.value, 2))]
        if factor.standard is not None and factor.adjustment_percent is not None:
            standard, change = voice.say.number(factor.standard, 2), voice.percent(factor.adjustment_percent)
            said.append(voice.say("power_factor_standard", standard=standard, change=change))
        if factor.lagging_only is not None and factor.lagging_only != factor.value:
            said.append(voice.say("power_factor_lagging", value=voice.say.number(factor.lagging_only, 2)))
        return said

    def _methods(self, bill: Bill) -> str:
        """What the demand charge would be by other methods."""
        if len(bill.demand_methods) < 2 or bill.demand_basis is None:
            return ""
        say = self.voice.say
        each = [
            say("method_amount", method=say(f"method_{key}"), amount=self.voice.money(amount))
            for key, amount in bill.demand_methods.items()
        ]
        return say("methods", methods=say("list_separator").join(each), basis=say(f"method_{bill.demand_basis}"))

    def _marks(self) -> str:
        """What the marks in the table of points mean, of those that stand there."""
        voice, found = self.voice, set[str]()
        rows: list[PointFacts | GroupFacts] = [*self.facts.points, *self.facts.areas, *self.facts.lines]
        for one in rows:
            found.update(voice.unsure(one, value) for value in (one.kwh, one.energy_cost, *one.by_period.values()))
        said = [
            voice.say(key)
            for mark, key in (("≈", "mark_estimated"), ("‡", "mark_negative"))
            if any(one.startswith(mark) for one in found)
        ]
        return ("" if self.language == CHINESE else " ").join(said)

    def _unsure_times(self) -> str:
        facts, voice = self.facts, self.voice
        if facts.kind == "daily":
            named = [(f"{one.start:%H:%M}", one.completeness) for one in facts.hours]
        else:
            named = [(voice.short_day(one.day), one.completeness) for one in facts.days]
        found = [
            voice.say("quality_day", day=name, share=voice.share(share)) for name, share in named if share < 0.9995
        ]
        if not found or len(found) == len(named):
            return ""
        text = voice.say("list_separator").join(found[:_MOST_TIMES]) + (" …" if len(found) > _MOST_TIMES else "")
        return voice.say("quality_hours", hours=text) if facts.kind == "daily" else voice.say("quality_days", days=text)


def _float(value: Decimal | None) -> float | None:
    return None if value is None else float(value)


def _part(kwh: Decimal | None, by_period: Any, key: str) -> float | None:
    return None if kwh is None else float(by_period.get(key, 0))


def _nothing_from_outside(url: str, *_: object, **__: object) -> Any:
    raise ReportError(f"a report asks for nothing from outside, but its page names {url}")


@cache
def _style(name: str) -> Markup:
    return Markup((_TEMPLATE / name).read_text(encoding="utf-8"))


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _fonts() -> Any:
    from weasyprint.text.fonts import FontConfiguration

    return FontConfiguration()


@cache
def _print_style() -> Any:
    from weasyprint import CSS

    return CSS(string=_style("page.css"), font_config=_fonts(), url_fetcher=_nothing_from_outside)


@contextmanager
def _without_collector() -> Iterator[None]:
    """Without the collector of circles: while a page is set nearly all that is made is needed to its end, and looking
    through it again and again is a fifth of the time.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@cache
def require_font() -> None:
    """ReportError where the font is missing: without any font at all the libraries that set text end the process."""
    program = shutil.which("fc-list")
    if program is None:
        return
    for name in FONTS:
        if subprocess.run([program, name, "family"], check=False, capture_output=True).stdout.strip():
            return
    raise _font_missing()


def _check_fonts(families: set[str]) -> None:
    """ReportError where the text was set in something else than the font it is meant for: it would be hollow boxes."""
    if not families & set(FONTS):
        raise _font_missing()


def _font_missing() -> ReportError:
    return ReportError(
        f"the font {FONT} is missing on the computer that makes reports: install it (Debian, Ubuntu: "
        "fonts-noto-cjk), then make the report again; HTML and XLSX do not need it"
    )
