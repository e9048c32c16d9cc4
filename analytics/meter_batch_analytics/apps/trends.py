"""Trends: what a consumption is made of, how it grows and how surely; week, year, calendar; all points ranked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np

from meter_batch_engine.errors import MeterBatchError
from meter_batch_engine.model.day import DayClass

from .. import plots, trend
from ..comparable import feast_of
from ..export import Sheet
from ..session import Session
from ..words import CHINESE
from .curves import ESTIMATED
from .days import Days
from .page import Page
from .work import Step, Worker

LEAST_KNOWN = 0.9
"""Of a day, for its energy to count; or it is estimated."""
MOST_YEARS = 3
"""Of a calendar."""
_CHUNK = 64


@dataclass(slots=True)
class Shown:
    """What is on the page."""

    point: str
    days: tuple[date, ...]
    kwh: Any
    classes: list[str] | None
    growth: trend.Growth | None


@dataclass(frozen=True, slots=True)
class Ranked:
    """A row of the ranking."""

    point: str
    days: int
    mean: float
    growth: trend.Growth | None


class App(Page):
    """The trends for one session."""

    kind = "trends"

    def __init__(self, session: Session) -> None:
        self.shown: Shown | None = None
        self.ranked: list[Ranked] = []
        self._ranked_for: Any = None
        self._left, self._share = "", 0.0
        self._ranking = Worker(lambda _: None, self._ranking_failed)
        super().__init__(session)
        self.table.selectable = "one"
        self.table.title = self.words("ranking")
        self.table.on_select(self._selected)

    def fields(self) -> list[dict[str, Any]]:
        """Its controls."""
        return [
            self.points_field(most=1, label=self.words("point")),
            self.period_field(),
            self.choice("view", ("trend", "calendar", "profile")),
            *self.file_buttons(),
        ]

    def defaults(self) -> dict[str, Any]:
        """The point that measures most others, all time."""
        points = self.session.site.points
        parents = [one.parent for one in points.values() if one.parent in points]
        top = max(sorted(set(parents)), key=parents.count, default=None) or next(iter(sorted(points)), None)
        return {"points": [top] if top else [], "period": "all", "view": "trend"}

    # --- one point ---

    def work(self, values: Mapping[str, Any], told: Callable[[float], None]) -> Iterator[Step]:
        """Reads the days of the point, then draws; the ranking goes on beside."""
        first, last = self.period(values)
        yield lambda: self._rank(first, last)
        if not values["points"]:
            yield lambda: self.empty(self.words("choose_points"))
            return
        point = values["points"][0]
        days, kwh = self._usable(self.reader.days([point], first, last, told))[0]
        if not np.isfinite(kwh).any():
            text = self.words("no_data", points=self.session.site.name(point), period=self.period_text(first, last))
            yield lambda: self._nothing(text)
            return
        yield lambda: self.notice.say(self.words("taking_apart"), progress=-1.0)
        classes = self._classes(days)
        shown = Shown(point, days, kwh, classes, trend.growth(days, kwh, classes))
        view = values["view"]
        if view == "trend" and not trend.loaded():
            # The first time, what takes the values apart takes seconds to load: they are shown meanwhile.
            first_look = self._trend(shown, None)
            yield lambda: self._show(shown, first_look, view)
        chart = self._chart(shown, view)
        yield lambda: self._show(shown, chart, view)

    def _usable(self, days: Days) -> list[tuple[tuple[date, ...], Any]]:
        """Of each point the days since its record began, and their energies; NaN where a day is not whole."""
        found = []
        today = self.reader.today()
        end = len(days.days) - (bool(days.days) and days.days[-1] == today)
        for row in range(len(days.points)):
            whole = (days.known[row] >= LEAST_KNOWN) | ((days.flags[row] & ESTIMATED) > 0)
            kwh = np.where(whole, days.kwh[row], np.nan)[:end]
            there = np.flatnonzero(np.isfinite(kwh))
            begin, after = (int(there[0]), int(there[-1]) + 1) if len(there) else (0, 0)
            found.append((days.days[begin:after], kwh[begin:after]))
        return found

    def _classes(self, days: Sequence[date]) -> list[str] | None:
        return [self.day_class(one).value for one in days] if self.country else None

    def _nothing(self, text: str) -> None:
        """No chart, and why; the ranking stays."""
        self.shown = None
        self.figures.items, self.chart.figure = [], {}
        self.warn(text)

    def _show(self, shown: Shown, chart: plots.Figure, view: str) -> None:
        self.shown = shown
        if (said := self._too_little(shown)) is not None:
            self.warn(said)
        name = self.session.site.name(shown.point)
        self.chart.title = f"{name}: {self.words(f'view_{view}')}"
        self.chart.height = 240 + 200 * self._years(shown) if view == "calendar" else 300 if view == "profile" else 600
        self.chart.figure = chart
        self.figures.items = self._items(shown)

    def _too_little(self, shown: Shown) -> str | None:
        count, span = int(np.isfinite(shown.kwh).sum()), len(shown.days)
        least, growth = trend.LEAST_DAYS, trend.LEAST_GROWTH_DAYS
        if count < least:
            first, last = self.words.day(shown.days[0]), self.words.day(shown.days[-1])
            name = self.session.site.name(shown.point)
            return self.words(
                "too_short", point=name, days=count, first=first, last=last, least=least, growth=growth
            )  # fmt: skip
        if span < growth:
            return self.words("too_short_growth", days=span, growth=growth)
        if count < span / 2:
            return self.words("too_many_gaps")
        return None

    def _items(self, shown: Shown) -> list[dict[str, Any]]:
        words, found = self.words, shown.growth
        items = []
        if found is not None:
            more = "growth_kwh" if found.per_year >= 0 else "growth_kwh_less"
            note = words("growth_range", low=self._signed(found.share_low), high=self._signed(found.share_high))
            if not found.certain:
                note += f" · {words('growth_unsure')}"
            tone = "" if not found.certain else "warning" if found.per_year > 0 else "good"
            items.append({"label": words("growth"), "value": self._signed(found.share), "note": note, "tone": tone})
            kwh = words.number(abs(found.per_year), 1)
            items[-1]["note"] += f" · {words(more, kwh=kwh)}"
        there = shown.kwh[np.isfinite(shown.kwh)]
        items.append(
            {
                "label": words("mean_day"), "value": words.number(float(there.mean()), 1), "unit": "kWh",
                "note": words("days_measured", days=words.number(len(there))),
            }
        )  # fmt: skip
        if len(there) >= trend.LEAST_DAYS:
            week = trend.week_profile(shown.days, shown.kwh)
            with np.errstate(invalid="ignore", divide="ignore"):
                ratio = float(np.mean(week[5:]) / np.mean(week[:5]))
            items.append(
                {"label": words("weekend"), "value": words.percent(ratio, 0), "note": words("weekend_note")}
            )  # fmt: skip
        holidays = self._holidays(shown)
        if holidays is not None:
            items.append(
                {"label": words("holiday_use"), "value": words.percent(holidays, 0), "note": words("holiday_note")}
            )  # fmt: skip
        year = trend.year_profile(shown.days, shown.kwh)
        if np.isfinite(year).all():
            best = int(np.argmax(year))
            items.append(
                {
                    "label": words("strongest_month"), "value": self._months()[best],
                    "note": words("month_note", share=words.percent(float(year[best]), 0)),
                }
            )  # fmt: skip
        return items

    def _holidays(self, shown: Shown) -> float | None:
        if shown.classes is None:
            return None
        kinds = np.array(shown.classes)
        there = np.isfinite(shown.kwh)
        holiday, work = (shown.kwh[there & (kinds == kind)] for kind in (DayClass.HOLIDAY, DayClass.WORK))
        return float(np.median(holiday) / np.median(work)) if len(holiday) > 2 and np.median(work) > 0 else None

    def _signed(self, share: float) -> str:
        sign = "+" if share > 0 else "−" if share < 0 else ""
        return sign + self.words.percent(abs(share))

    # --- pictures ---

    def _chart(self, shown: Shown, view: str) -> plots.Figure:
        if view == "calendar":
            return self._calendar(shown)
        if view == "profile":
            week = trend.week_profile(shown.days, shown.kwh)
            year = trend.year_profile(shown.days, shown.kwh)
            return plots.profiles(
                self.look, (self._weekdays(), week), (self._months(), year), level=self.words("of_mean")
            )  # fmt: skip
        parts = trend.parts(shown.kwh)
        if parts is None:
            name, x = self.session.site.name(shown.point), np.array(shown.days, "datetime64[ms]")
            return plots.bars(self.look, [name], x, [shown.kwh], unit="kWh", digits=2)
        return self._trend(shown, parts)

    def _trend(self, shown: Shown, parts: trend.Parts | None) -> plots.Figure:
        """The days with the growth line, and what they are made of."""
        x = np.array(shown.days, "datetime64[ms]")
        line: dict[str, Any] = {"values": shown.kwh}
        rows = []
        if parts is not None:
            line["trend"] = parts.trend
            rows = [(self.words("week"), parts.week), (self.words("rest"), parts.rest)]
            if parts.season is not None:
                rows.insert(0, (self.words("season"), parts.season))
        fitted = trend.line(shown.days, shown.kwh, shown.classes)
        if fitted is not None:
            line |= {"fit": fitted.value, "low": fitted.low, "high": fitted.high}
        return plots.decomposition(self.look, x, rows, unit=self.words("kwh_a_day"), line=line, words=self.words)

    @staticmethod
    def _years(shown: Shown) -> int:
        return min(MOST_YEARS, shown.days[-1].year - shown.days[0].year + 1)

    def _calendar(self, shown: Shown) -> plots.Figure:
        known = dict(zip(shown.days, shown.kwh.tolist(), strict=True))
        last = shown.days[-1].year
        years = [self._year(year, known) for year in range(last, last - self._years(shown), -1)]
        signs = {one: self.words(f"class_{one}") for one in ("holiday", "makeup")} if self.country else {}
        return plots.calendar(self.look, years, self._weekdays(), unit="kWh", signs=signs)

    def _year(self, year: int, known: Mapping[date, float]) -> plots.Year:
        words, chinese = self.words, self.session.language == CHINESE
        first = date(year, 1, 1)
        z = np.full((7, 54), np.nan)
        texts = [[""] * 54 for _ in range(7)]
        marks, months = [], []
        for number in range((date(year + 1, 1, 1) - first).days):
            day = first + timedelta(days=number)
            week, weekday = (number + first.weekday()) // 7, day.weekday()
            if day.day == 1:
                months.append((week, self._months()[day.month - 1]))
            class_ = self.day_class(day)
            feast = feast_of(day, self.country, chinese=chinese)
            makeup = class_ is DayClass.WORK and weekday >= 5
            kind = words("class_makeup") if makeup else words(f"class_{class_.value}")
            value = known.get(day, float("nan"))
            z[weekday, week] = value
            said = f"{words.number(value, 1)} kWh" if value == value else "–"
            texts[weekday][week] = f"{words.day(day)}, {kind}{f' ({feast})' if feast else ''}<br>{said}"
            if makeup or class_ is DayClass.HOLIDAY:
                marks.append((week, weekday, "makeup" if makeup else "holiday"))
        return plots.Year(str(year), z, texts, marks, months)

    def _weekdays(self) -> list[str]:
        return self.words("weekdays").split()

    def _months(self) -> list[str]:
        return self.words("months").split()

    # --- all points ---

    def _rank(self, first: date, last: date) -> None:
        """Begins the ranking of a period, unless it is there or under way."""
        asked = (first, last)
        if asked == self._ranked_for:
            return
        self._ranked_for = asked
        self.ranked = []
        self._left = self.words("ranking_progress", done=0, all=len(self.session.site.points))
        self._share = 0.0
        self._ranking.start(lambda told: self._rank_work(first, last, told))

    def _rank_work(self, first: date, last: date, told: Callable[[float], None]) -> Iterator[Step]:
        points = sorted(self.session.site.points)
        found: list[Ranked] = []
        for begin in range(0, len(points), _CHUNK):
            told(begin / len(points))
            chunk = tuple(points[begin : begin + _CHUNK])
            for point, (days, kwh) in zip(chunk, self._usable(self.reader.read_days(chunk, first, last)), strict=True):
                there = kwh[np.isfinite(kwh)]
                mean = float(there.mean()) if len(there) else float("nan")
                told(begin / len(points))
                growth = trend.growth(days, kwh, self._classes(days))
                found.append(Ranked(point, len(there), mean, growth))
            now = list(found)
            yield lambda now=now: self._show_ranking(now, len(points))  # type: ignore[misc]

    def _show_ranking(self, found: list[Ranked], count: int) -> None:
        self.ranked = found
        done = len(found) == count
        self._left = "" if done else self.words("ranking_progress", done=len(found), all=count)
        self._share = len(found) / count
        if done or len(found) % (_CHUNK * 2) == 0:
            columns, rows = self._ranking_table(found)
            self.table.show(columns, rows, sort={"key": "share", "descending": True} if done else {})
        if not self.chart.busy:
            self._done()

    def _done(self) -> None:
        """What is to be said of the point, and how far the ranking is."""
        super()._done()
        self.table.busy = bool(self._left)
        if self._left:
            self.notice.say(f"{self.notice.text} {self._left}".strip(), self.notice.kind, self._share)

    def _ranking_failed(self, error: MeterBatchError | None) -> None:
        self._ranked_for, self._left, self.table.busy = None, "", False
        self.notice.say(self.words("fault") if error is None else self.said(error), "error")

    def _ranking_table(self, found: Sequence[Ranked]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        words, site = self.words, self.session.site
        areas = {one: name for name, ids in site.areas.items() for one in ids}
        # Who grows most stands first; what is too short last.
        found = sorted(found, key=lambda one: -one.growth.share if one.growth else 9e9)
        columns: list[dict[str, Any]] = [
            {"key": "name", "label": words("name"), "kind": "text"},
            {"key": "area", "label": words("area"), "kind": "text"},
            {"key": "share", "label": words("growth_share"), "kind": "percent", "digits": 1},
            {"key": "low", "label": words("growth_low"), "kind": "percent", "digits": 1},
            {"key": "high", "label": words("growth_high"), "kind": "percent", "digits": 1},
            {"key": "verdict", "label": words("verdict"), "kind": "text", "tone": "tone"},
            {"key": "per_year", "label": words("growth_kwh_day"), "unit": "kWh", "digits": 1},
            {"key": "mean", "label": words("mean_day"), "unit": "kWh", "digits": 1},
            {"key": "days", "label": words("span_days")},
        ]
        growths = [one.growth for one in found]
        verdicts = [
            "short" if one is None else "unsure" if not one.certain else "grows" if one.per_year > 0 else "shrinks"
            for one in growths
        ]
        nan = float("nan")
        rows: dict[str, Any] = {
            "id": [one.point for one in found],
            "name": [site.name(one.point) for one in found],
            "area": [areas.get(one.point, "") for one in found],
            "share": np.array([nan if one is None else one.share for one in growths]),
            "low": np.array([nan if one is None else one.share_low for one in growths]),
            "high": np.array([nan if one is None else one.share_high for one in growths]),
            "verdict": [words(f"verdict_{one}") for one in verdicts],
            "tone": [{"grows": "warning", "shrinks": "good"}.get(one, "muted") for one in verdicts],
            "per_year": np.array([nan if one is None else one.per_year for one in growths]),
            "mean": np.array([one.mean for one in found]),
            "days": np.array([one.days for one in found]),
        }
        return columns, rows

    def _selected(self, rows: list[int]) -> None:
        if rows and rows[0] < len(ids := self.table.rows.get("id", [])):
            self.controls.values = {**self.controls.values, "points": [ids[rows[0]]]}
            self.renew()

    def join(self) -> None:
        """Waits for the point and for the ranking."""
        super().join()
        self._ranking.join()

    async def ready(self) -> None:
        """Waits for the point and for the ranking."""
        await super().ready()
        await self._ranking.ready()

    # --- files ---

    def sheets(self) -> list[Sheet]:
        """The ranking, and the days of the point."""
        found = []
        if self.ranked:
            columns, rows = self._ranking_table(self.ranked)
            found.append(Sheet(self.words("ranking"), columns, rows))
        if self.shown is not None:
            columns = [
                {"key": "day", "label": self.words("start"), "kind": "day"},
                {"key": "kwh", "label": self.words("quantity_energy"), "unit": "kWh", "digits": 2},
            ]
            rows = {"day": list(self.shown.days), "kwh": self.shown.kwh}
            found.append(Sheet(self.session.site.name(self.shown.point), columns, rows))
        return found

    def about(self) -> list[tuple[str, str]]:
        """What was asked."""
        return [(self.words("period"), self.period_text(*self.period()))]
