"""Data quality: what is known of each point and day, gaps with their reasons, estimates, corrections and doubts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np

from meter_batch_engine.model.interval import Gap, GapReason

from .. import plots
from ..export import Sheet
from .curves import EDITED, ESTIMATED, SUSPECT
from .days import Days
from .page import Page
from .work import Step

MOST_DRAWN = 60
WHOLE = 0.9999
"""A day or point that is known to this share is complete."""


@dataclass(slots=True)
class Shown:
    """What is on the page."""

    values: Mapping[str, Any]
    first: date
    last: date
    days: Days
    due: Any
    """Points × days: whether the record of the point had begun by then."""
    rows: list[int]
    """Points that the filter leaves, the least complete first."""
    gaps: list[Gap]
    begin: datetime
    end: datetime


class App(Page):
    """The data quality for one session."""

    kind = "quality"
    shown: Shown | None = None

    def fields(self) -> list[dict[str, Any]]:
        """Its controls."""
        return [
            self.points_field(),
            self.period_field(),
            self.choice("only", ("all", "incomplete", "estimated", "suspect"), style="select"),
            self.choice("show", ("points", "gaps")),
            *self.file_buttons(),
        ]

    def defaults(self) -> dict[str, Any]:
        """All points, thirty days."""
        return {"points": sorted(self.session.site.points), "period": "last_30_days", "only": "all", "show": "points"}

    def work(self, values: Mapping[str, Any], told: Callable[[float], None]) -> Iterator[Step]:
        """Reads the days of all points, and the gaps."""
        self.shown = None
        chosen = list(values["points"])
        if not chosen:
            yield lambda: self.empty(self.words("choose_points"))
            return
        first, last = self.period(values)
        if first > self.reader.today():
            text = self.words("in_the_future", period=self.period_text(first, last))
            yield lambda: self.empty(text)
            return
        days = self.reader.days(chosen, first, last, told)
        due = np.arange(len(days.days)) >= days.since[:, None]
        begin, end = self.reader.midnight(first), self.reader.midnight(last + timedelta(days=1))
        now = self.session.now()
        gaps = [one for one in self.session.gaps(chosen) if one.start < end and (one.end or now) > begin]
        if not due.any() and not gaps:
            text = self.words("no_data", points=self.names_of(chosen), period=self.period_text(first, last))
            yield lambda: self.empty(text)
            return
        shown = Shown(values, first, last, days, due, self._rows(values["only"], days, due), gaps, begin, end)
        chart = self._chart(shown)
        yield lambda: self._show(shown, chart)

    @staticmethod
    def _rows(only: str, days: Days, due: Any) -> list[int]:
        """The points that the filter leaves, the least complete first; those without a record last."""
        length = np.diff(days.start)
        time = (due * length).sum(axis=1)
        known = (days.known * due * length).sum(axis=1) / np.maximum(time, 1)
        bit = {"estimated": ESTIMATED, "suspect": SUSPECT}.get(only)
        keep = np.ones(len(days.points), bool)
        if only == "incomplete":
            keep = (known < WHOLE) & (time > 0)
        elif bit is not None:
            keep = (((days.flags & bit) > 0) & due).any(axis=1)
        order = np.lexsort((np.arange(len(known)), np.where(time > 0, known, 2.0)))
        return [int(one) for one in order if keep[one]]

    def _chart(self, shown: Shown) -> plots.Figure:
        rows = shown.rows[:MOST_DRAWN]
        if not rows or not shown.days.days:
            return {}
        names = [self.session.site.name(shown.days.points[one]) for one in rows]
        z = np.where(shown.due[rows], shown.days.known[rows], np.nan)
        x = np.array(shown.days.days, "datetime64[D]").astype("datetime64[ms]")
        return plots.completeness(
            self.look, x, names, z, label=self.words("completeness"), whole=self.words("known_day")
        )

    def _show(self, shown: Shown, chart: plots.Figure) -> None:
        self.shown = shown
        if len(shown.rows) > MOST_DRAWN:
            self.warn(self.words("worst_drawn", n=MOST_DRAWN, all=len(shown.rows)))
        if not shown.rows:
            self.warn(self.words("none_left"))
        if shown.values["show"] == "gaps":
            self.tell(self._as_of(shown))
        self.chart.height = 130 + 19 * min(max(len(shown.rows), 5), MOST_DRAWN)
        self.chart.title = f"{self.words('completeness')}, {self.period_text(shown.first, shown.last)}"
        self.chart.figure = chart
        self.figures.items = self._items(shown)
        columns, rows = self._gaps_table(shown) if shown.values["show"] == "gaps" else self._points_table(shown)
        for key in ("from", "to"):
            if key in rows:
                wall = self.reader.wall([one or 0 for one in rows[key]])
                wall[[one is None for one in rows[key]]] = np.datetime64("NaT", "ms")
                rows = {**rows, key: wall}
        self.table.show(columns, rows)

    def _as_of(self, shown: Shown) -> str:
        text = "" if shown.gaps else self.words("no_gaps") + " "
        if (at := self.session.mirror_at) is not None:
            text += self.words("gaps_as_of", at=self.words.instant(at.astimezone(self.reader.zone)))
        return text.strip()

    # --- numbers ---

    def _items(self, shown: Shown) -> list[dict[str, Any]]:
        words, days, due = self.words, shown.days, shown.due
        known = days.completeness()
        begun = due.any(axis=1)
        whole = sum(days.completeness([one]) >= WHOLE for one, has in zip(days.points, begun, strict=True) if has)
        there = (np.isfinite(days.kwh) | (days.known > 0)).any(axis=1)
        silent = int((~there).sum())
        lost = int((due & (days.known == 0) & ~np.isfinite(days.kwh)).sum())
        count = max(1, int(due.sum()))
        counted = [one for one in shown.gaps if one.reason is not GapReason.BEFORE]
        now = self.session.now()
        longest = max(counted, key=lambda one: (one.end or now) - one.start, default=None)
        lasting = [one for one in counted if one.end is None]
        saved = sum(one.recoverable(now) for one in counted)
        items = [
            {
                "label": words("completeness"), "value": words.percent(known),
                "note": self.period_text(shown.first, min(shown.last, self.reader.today())),
                "tone": "good" if known >= 0.995 else "warning" if known >= 0.9 else "bad",
            },
            {
                "label": words("points_complete"), "value": words.number(whole),
                "note": words("points_of", n=len(days.points)) + (words("silent", n=silent) if silent else ""),
            },
            {
                "label": words("missing_days"), "value": words.number(lost), "note": words("missing_days_note"),
                "tone": "warning" if lost else "",
            },
            {
                "label": words("open_gaps"), "value": words.number(len(lasting)),
                "note": words("recoverable_gaps", n=saved), "tone": "bad" if lasting else "",
            },
        ]  # fmt: skip
        if longest is not None:
            hours = ((longest.end or now) - longest.start) / timedelta(hours=1)
            items.append(
                {
                    "label": words("longest_gap"), "value": words.number(hours, 1), "unit": "h",
                    "note": f"{self.session.site.name(longest.point)}, {words(f'reason_{longest.reason}')}",
                }
            )  # fmt: skip
        time = due * np.diff(days.start)
        guessed = float((time * _estimated(days)).sum() / max(1.0, float(time.sum())))
        items.append({"label": words("estimates"), "value": words.percent(guessed), "note": words("of_time")})
        for key, bit in (("edits", EDITED), ("doubts", SUSPECT)):
            share = float((((days.flags & bit) > 0) & due).sum()) / count
            items.append({"label": words(key), "value": words.percent(share), "note": words("of_days")})
        return items

    def _points_table(self, shown: Shown) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        words, site, days = self.words, self.session.site, shown.days
        areas = {one: name for name, ids in site.areas.items() for one in ids}
        lines = {one: name for name, ids in site.lines.items() for one in ids}
        columns: list[dict[str, Any]] = [
            {"key": "name", "label": words("name"), "kind": "text"},
            {"key": "area", "label": words("area"), "kind": "text"},
            {"key": "line", "label": words("line"), "kind": "text"},
            {"key": "known", "label": words("completeness"), "kind": "percent", "digits": 1, "tone": "tone"},
            {"key": "missing", "label": words("missing_time"), "unit": "h", "digits": 1},
            {"key": "whole", "label": words("known_days")},
            {"key": "estimated", "label": words("estimates"), "kind": "percent", "digits": 1},
            {"key": "edited", "label": words("edits"), "kind": "percent", "digits": 1},
            {"key": "suspect", "label": words("doubts"), "kind": "percent", "digits": 1},
            {"key": "worst", "label": words("worst_day"), "kind": "day"},
            {"key": "worst_known", "label": words("worst_known"), "kind": "percent", "digits": 0},
            {"key": "gap", "label": words("longest_gap"), "unit": "h", "digits": 1},
        ]
        length = np.diff(days.start) / 3_600_000
        longest, guessed = self._longest(shown.gaps), _estimated(days)
        rows: dict[str, Any] = {one["key"]: [] for one in columns} | {"tone": []}
        for row in shown.rows:
            point, due = days.points[row], shown.due[row]
            known = days.known[row]
            count = int(due.sum())
            share = days.completeness([point])
            place = int(np.argmin(np.where(due, known, 2.0))) if count else 0
            rows["name"].append(site.name(point))
            rows["area"].append(areas.get(point, ""))
            rows["line"].append(lines.get(point, ""))
            rows["known"].append(share)
            rows["tone"].append("" if share >= 0.995 else "warning" if share >= 0.9 else "bad" if count else "muted")
            rows["missing"].append(float(((1 - known) * due * length).sum()) if count else float("nan"))
            rows["whole"].append(int((due & (known >= WHOLE)).sum()))
            time = due * length
            rows["estimated"].append(float((time * guessed[row]).sum() / max(1e-9, float(time.sum()))))
            for key, bit in (("edited", EDITED), ("suspect", SUSPECT)):
                rows[key].append(float((((days.flags[row] & bit) > 0) & due).sum()) / max(1, count))
            worst = count and known[place] < WHOLE
            rows["worst"].append(days.days[place].isoformat() if worst else None)
            rows["worst_known"].append(float(known[place]) if worst else float("nan"))
            rows["gap"].append(longest.get(point, float("nan")))
        texts = ("name", "area", "line", "worst", "tone")
        return columns, {key: one if key in texts else np.array(one, np.float64) for key, one in rows.items()}

    def _longest(self, gaps: Sequence[Gap]) -> dict[str, float]:
        now, found = self.session.now(), dict[str, float]()
        for one in gaps:
            if one.reason is not GapReason.BEFORE:
                hours = ((one.end or now) - one.start) / timedelta(hours=1)
                found[one.point] = max(found.get(one.point, 0.0), hours)
        return found

    def _gaps_table(self, shown: Shown) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        words, site, now = self.words, self.session.site, self.session.now()
        kept = {shown.days.points[row] for row in shown.rows}
        gaps = sorted((one for one in shown.gaps if one.point in kept), key=lambda one: one.start, reverse=True)
        columns: list[dict[str, Any]] = [
            {"key": "name", "label": words("name"), "kind": "text"},
            {"key": "from", "label": words("gap_start"), "kind": "instant"},
            {"key": "to", "label": words("gap_end"), "kind": "instant"},
            {"key": "hours", "label": words("hours"), "digits": 1},
            {"key": "missing", "label": words("missing_intervals")},
            {"key": "reason", "label": words("reason"), "kind": "text"},
            {"key": "state", "label": words("state"), "kind": "text", "tone": "tone"},
            {"key": "memory", "label": words("recoverable"), "kind": "text"},
        ]
        rows: dict[str, Any] = {
            "name": [site.name(one.point) for one in gaps],
            "from": [int(one.start.timestamp() * 1000) for one in gaps],
            "to": [None if one.end is None else int(one.end.timestamp() * 1000) for one in gaps],
            "hours": np.array([((one.end or now) - one.start) / timedelta(hours=1) for one in gaps]),
            "missing": np.array([one.missing for one in gaps]),
            "reason": [words(f"reason_{one.reason}") for one in gaps],
            "state": [words("lasting") if one.end is None else "" for one in gaps],
            "tone": ["bad" if one.end is None else "" for one in gaps],
            "memory": [self._memory(one, now) for one in gaps],
        }
        return columns, rows

    def _memory(self, gap: Gap, now: datetime) -> str:
        if gap.recoverable_until is None or not gap.recoverable(now):
            return self.words("not_recoverable")
        until = gap.recoverable_until.astimezone(self.reader.zone)
        return self.words("recoverable_until", at=self.words.instant(until))

    # --- files ---

    def sheets(self) -> list[Sheet]:
        """Points and gaps; the one that is shown first."""
        if self.shown is None:
            return []
        found = [
            Sheet(self.words("show_points"), *self._points_table(self.shown)),
            Sheet(self.words("show_gaps"), *self._gaps_table(self.shown)),
        ]
        return found if self.shown.values["show"] == "points" else found[::-1]

    def about(self) -> list[tuple[str, str]]:
        """What was asked."""
        if self.shown is None:
            return []
        return [
            (self.words("points"), self.names_of(self.shown.days.points, 1000)),
            (self.words("period"), self.period_text(self.shown.first, self.shown.last)),
            (self.words("only"), self.words(f"only_{self.shown.values['only']}")),
        ]


def _estimated(days: Days) -> Any:
    """Share of each day that is estimated: what is not known of days with estimates."""
    return np.where((days.flags & ESTIMATED) > 0, 1 - days.known, 0.0)
