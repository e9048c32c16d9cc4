"""Explorer: any points, any period and resolution; load curves, day × hour, bars, duration; compared with like days."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np

from .. import plots
from ..downsample import peaks as drawn_places
from ..export import Sheet
from ..periods import Resolution, begin_of
from ..session import Session
from . import comparison
from .curves import ADDITIVE, DIGITS, UNITS, Curve, Group, Quantity, broken, groups_of
from .page import Page
from .peaks import MOST_POINT_DAYS, peaks
from .summary import Shown, items, points_table, values_table
from .work import Step

MOST_CURVES = 12
MOST_ROWS = 20_000
_AUTO: tuple[tuple[int, Resolution], ...] = ((4, "interval"), (45, "hour"), (20_000, "day"))
_AUTO_BARS: tuple[tuple[int, Resolution], ...] = ((3, "hour"), (100, "day"), (20_000, "month"))
"""Up to how many days which resolution is chosen."""
_PERIODS: dict[str, str | int] = {"hour": 3_600_000, "day": 86_400_000, "month": "M1"}


class App(Page):
    """The explorer for one session."""

    kind = "explorer"

    def __init__(self, session: Session) -> None:
        self.shown: Shown | None = None
        self._view: str | None = None
        super().__init__(session)
        self.chart.on_zoom(self._zoomed)

    def renew(self) -> None:
        """Shows what the controls say."""
        self._suit_quantity()
        super().renew()

    def _suit_quantity(self) -> None:
        """Bars are of energy and curves of power, until the reader wants otherwise."""
        view, quantity = self.controls.values["view"], self.controls.values["quantity"]
        before, self._view = self._view, view
        wanted = "energy" if view == "bars" else "power"
        asked = before is None and "quantity" in self.session.query
        if not asked and view != before and quantity in ("energy", "power") and quantity != wanted:
            self.controls.values = {**self.controls.values, "quantity": wanted}

    def fields(self) -> list[dict[str, Any]]:
        """Its controls."""
        return [
            self.points_field(),
            self.period_field(),
            self.choice("view", ("curve", "map", "bars", "duration")),
            self.choice("quantity", ("power", "energy", "power_max", "reactive", "voltage", "power_factor")),
            self.choice("resolution", ("auto", "interval", "hour", "day", "month"), style="select"),
            self.choice("by", ("point", "area", "line", "total"), style="select"),
            self.choice("compare", ("previous", "last_year", "none"), style="select"),
            self.choice("rows", ("points", "values"), style="select"),
            *self.file_buttons(),
        ]

    def defaults(self) -> dict[str, Any]:
        """The points that no other one measures too, the last week."""
        points = self.session.site.points
        top = [id_ for id_, one in points.items() if one.parent is None and not one.virtual]
        chosen = top if 0 < len(top) <= 6 else sorted(points, key=lambda one: points[one].name)[:6]
        return {"points": chosen, "period": "last_7_days", "quantity": "power", "view": "curve", "resolution": "auto"}

    # --- work ---

    def work(self, values: Mapping[str, Any], told: Callable[[float], None]) -> Iterator[Step]:
        """Reads, draws, then works out what takes longer."""
        shown = self._read(values, told)
        if isinstance(shown, str):
            text = shown
            yield lambda: self.empty(text)
            return
        yield lambda: self._begin(shown)
        if values["compare"] != "none":
            shown.compared = comparison.compare(self.reader, values["compare"], shown.days, self.calendar, told)
        chart = self._chart(shown, told)
        yield lambda: self._show(shown, chart)
        if len(shown.chosen) * len(shown.days.days) <= MOST_POINT_DAYS:
            both = [*shown.groups, *([_whole(shown)] if len(shown.groups) > 1 else [])]
            shown.peaks = peaks(self.reader, both, shown.begin, shown.end, told)
            yield lambda: self._show_rows(shown)

    def _read(self, values: Mapping[str, Any], told: Callable[[float], None]) -> Shown | str:
        chosen = list(values["points"])
        if not chosen:
            return self.words("choose_points")
        first, last = self.period(values)
        if first > self.reader.today():
            return self.words("in_the_future", period=self.period_text(first, last))
        days = self.reader.days(chosen, first, last, told)
        names = {key: self.words(key) for key in ("total_of", "no_area", "no_line")}
        groups = groups_of(self.session, chosen, values["by"], names)
        begin, end = self.reader.midnight(first), self.reader.midnight(last + timedelta(days=1))
        if not np.isfinite(days.kwh).any() and not (days.known > 0).any():
            return self._no_data(chosen, first, last)
        drawn = groups
        if len(groups) > MOST_CURVES:
            drawn = sorted(groups, key=lambda one: -days.total(one.points))[:MOST_CURVES]
        view = values["view"]
        quantity: Quantity = values["quantity"]
        resolution = self._resolution(values["resolution"], view, (last - first).days + 1)
        wanted = drawn if view != "map" else [_total(self.words("total_of", n=len(chosen)), chosen)]
        curves = self.reader.curves(wanted, begin, end, resolution, quantity, told)
        return Shown(values, first, last, begin, end, days, groups, drawn, resolution, quantity, curves, [])

    def _resolution(self, asked: str, view: str, days: float) -> Resolution:
        if view == "map":
            return "hour"
        if asked != "auto":
            return asked  # type: ignore[return-value]
        if view == "duration":
            return "interval" if days <= 400 else "hour"
        return next(one for most, one in (_AUTO_BARS if view == "bars" else _AUTO) if days <= most)

    def _no_data(self, chosen: Sequence[str], first: date, last: date) -> str:
        text = self.words("no_data", points=self.names_of(chosen), period=self.period_text(first, last))
        firsts = [self.reader.firsts()[one] for one in chosen if one in self.reader.firsts()]
        if not firsts:
            return text + self.words("no_record")
        began = self.reader.wall([min(firsts)])[0].astype(object)
        text += self.words("record_since", month=self.words.month(began))
        latest = max(self.reader.lasts().get(one, 0) for one in chosen)
        month = begin_of(self.reader.midnight(first), "month", self.reader.zone)
        if self.session.mirror_at is not None and latest < month.timestamp() * 1000:
            until = self.reader.wall([latest])[0].astype(object)
            text += self.words("record_until", month=self.words.month(until))
        return text

    # --- what is shown ---

    def _begin(self, shown: Shown) -> None:
        self.shown = shown
        if len(shown.groups) > len(shown.drawn):
            self.warn(self.words("largest_drawn", n=MOST_CURVES, all=len(shown.groups)))
        if double := self._counted_twice(shown.chosen):
            self.warn(self.words("counted_twice", points=self.names_of(double)))
        if not shown.curves or not any(np.isfinite(one.value).any() for one in shown.curves):
            self.warn(self.words("no_quantity", quantity=self.words(f"quantity_{shown.quantity}")))

    def _counted_twice(self, chosen: Sequence[str]) -> list[str]:
        """Chosen points that another chosen one measures too."""
        points, all_ = self.session.site.points, set(chosen)
        found = []
        for one in chosen:
            above, seen = points[one].parent, {one}
            while above is not None and above not in seen and above in points:
                if above in all_:
                    found.append(one)
                    break
                seen.add(above)
                above = points[above].parent
        return found

    def _chart(self, shown: Shown, told: Callable[[float], None]) -> plots.Figure:
        view = shown.values["view"]
        if not shown.curves:
            return {}
        if view == "map":
            return self._map(shown)
        if view == "duration":
            names, values = [one.group.name for one in shown.curves], [one.value for one in shown.curves]
            unit = UNITS[shown.quantity]
            return plots.duration(self.look, names, values, unit=unit, share=self.words("share_of_time"))
        shown.beside = self._beside(shown, shown.curves, shown.resolution, (shown.begin, shown.end), told)
        return (
            self._bars(shown)
            if view == "bars"
            else self._curves(shown, shown.curves, shown.resolution, (), shown.beside)
        )

    def _beside(
        self, shown: Shown, curves: Sequence[Curve], resolution: Resolution, span: tuple[datetime, datetime],
        told: Callable[[float], None],
    ) -> plots.Curve | None:  # fmt: skip
        """What a single curve is compared with, over the days in sight."""
        if shown.compared is None or len(curves) != 1:
            return None
        name = self.words(f"compare_{shown.compared.kind}")
        first, last = (one.astimezone(self.reader.zone).date() for one in span)
        pairs = tuple(one for one in shown.compared.pairs if first <= one[0] <= last)
        found = replace(shown.compared, pairs=pairs)
        return comparison.beside(self.reader, found, curves[0].group, resolution, shown.quantity, name, told)

    def _curves(
        self, shown: Shown, curves: Sequence[Curve], resolution: Resolution, zoom: Sequence[str],
        beside: plots.Curve | None,
    ) -> plots.Figure:  # fmt: skip
        unit = self._unit(shown.quantity, resolution)
        steps = shown.quantity in ("energy", "power", "reactive", "power_max")
        drawn = [self._drawn(one) for one in curves]
        digits = DIGITS[shown.quantity]
        return plots.curves(
            self.look, drawn, unit=unit, digits=digits, doubtful=self.words("doubtful"), beside=beside, steps=steps,
            from_zero=steps, zoom=zoom, revision=f"{shown.first}{shown.last}{shown.quantity}",
        )  # fmt: skip

    def _drawn(self, curve: Curve) -> plots.Curve:
        places, x, y = broken(curve.start, curve.end, curve.value)
        kept = drawn_places(x, y)
        places, wall = places[kept], self.reader.wall(x[kept])
        inside = (places >= 0) & np.r_[True, places[1:] != places[:-1]] if len(places) else np.zeros(0, bool)
        doubtful = curve.doubtful[places] & inside if len(places) else None
        text = None
        if doubtful is not None and doubtful.any():
            said = [self.words("known_share", share=self.words.percent(one)) for one in curve.known[places]]
            text = [f"<br>{one}" if mark else "" for one, mark in zip(said, doubtful, strict=True)]
        low = None if curve.low is None else np.where(places >= 0, curve.low[places], np.nan)
        high = None if curve.high is None else np.where(places >= 0, curve.high[places], np.nan)
        return plots.Curve(curve.group.name, wall, y[kept], low, high, doubtful, text)

    def _bars(self, shown: Shown) -> plots.Figure:
        times = np.unique(np.concatenate([one.start for one in shown.curves]))
        values, doubtful = [], []
        for one in shown.curves:
            row, mark = np.full(len(times), np.nan), np.zeros(len(times), bool)
            place = np.searchsorted(times, one.start)
            row[place], mark[place] = one.value, one.doubtful
            values.append(row)
            doubtful.append(mark)
        beside = None
        wall = self.reader.wall(times)
        if shown.beside is not None:
            known = dict(zip(shown.beside.x.tolist(), shown.beside.y, strict=True))
            beside = (shown.beside.name, np.array([known.get(one, np.nan) for one in wall.tolist()]))
        return plots.bars(
            self.look, [one.group.name for one in shown.curves], wall, values,
            unit=self._unit(shown.quantity, shown.resolution), digits=DIGITS[shown.quantity], doubtful=doubtful,
            beside=beside, stacked=shown.quantity in ADDITIVE,
            period=_PERIODS.get(shown.resolution, 900_000),
        )  # fmt: skip

    def _map(self, shown: Shown) -> plots.Figure:
        curve = shown.curves[0]
        wall = self.reader.wall(curve.start)
        day = wall.astype("datetime64[D]")
        hour = (wall.astype("datetime64[h]") - day).astype(np.int64)
        last = min(shown.last, self.reader.today()) + timedelta(days=1)
        days = np.arange(np.datetime64(shown.first, "D"), np.datetime64(last, "D"))
        column = (day - days[0]).astype(np.int64)
        inside = (column >= 0) & (column < len(days)) & np.isfinite(curve.value)
        flat = (hour * len(days) + column)[inside]
        size = 24 * len(days)
        count = np.bincount(flat, minlength=size)
        # On the day an hour comes twice both share its field.
        z = np.bincount(flat, curve.value[inside], size) / np.maximum(count, 1)
        z = np.where(count > 0, z, np.nan).reshape(24, len(days))
        hours = [f"{one:02d}:00" for one in range(24)]
        return plots.day_hour(
            self.look, days.astype("datetime64[ms]"), hours, z, unit=UNITS[shown.quantity],
            digits=DIGITS[shown.quantity],
        )  # fmt: skip

    def _unit(self, quantity: Quantity, resolution: Resolution) -> str:
        return UNITS[quantity] or self.words(f"quantity_{quantity}")

    def _show(self, shown: Shown, chart: plots.Figure) -> None:
        view, quantity = shown.values["view"], shown.quantity
        title = f"{self.words(f'view_{view}')}: {self.words(f'quantity_{quantity}')}, {self.names_of(shown.chosen)}"
        self.chart.title = f"{title}, {self.period_text(shown.first, shown.last)}"
        self.chart.figure = chart
        self.chart.busy = False
        if shown.compared is not None:
            self.tell(shown.compared.note(self.words))
        self._show_rows(shown)

    def _show_rows(self, shown: Shown) -> None:
        self.figures.items = items(self, shown)
        table = points_table(self, shown) if shown.values["rows"] == "points" else values_table(self, shown)
        columns, rows, total = table
        if len(next(iter(rows.values()), ())) > MOST_ROWS:
            self.warn(self.words("first_rows", n=self.words.number(MOST_ROWS)))
            rows = {key: one[:MOST_ROWS] for key, one in rows.items()}
        if "start" in rows:
            rows = {**rows, "start": self.reader.wall(rows["start"])}
        self.table.show(columns, rows, total=total)

    def sheets(self) -> list[Sheet]:
        """The table that is shown, then the other one."""
        shown = self.shown
        if shown is None or not self.table.columns:
            return []
        columns, rows, _ = points_table(self, shown)
        if "peak_at" in rows:
            at = [one.at if one.kw == one.kw else None for one in shown.peaks[: len(shown.groups)]]
            rows = {**rows, "peak_at": at}
        found = [Sheet(self.words("rows_points"), columns, rows)]
        columns, rows, _ = values_table(self, shown)
        found.append(Sheet(self.words(f"quantity_{shown.quantity}"), columns, rows))
        return found if shown.values["rows"] == "points" else found[::-1]

    def about(self) -> list[tuple[str, str]]:
        """What was asked."""
        words, shown = self.words, self.shown
        if shown is None:
            return []
        found = [
            (words("points"), self.names_of(shown.chosen, 1000)),
            (words("period"), self.period_text(shown.first, min(shown.last, self.reader.today()))),
            (words("quantity"), words(f"quantity_{shown.quantity}")),
            (words("resolution"), words(f"resolution_{shown.resolution}")),
        ]
        if shown.compared is not None:
            found.append((words(f"against_{shown.compared.kind}"), shown.compared.note(words)))
        return found

    # --- zoom ---

    def _zoomed(self, zoom: Sequence[Any]) -> None:
        """Loads what is in sight, and as much on both sides, as finely as it can be drawn."""
        shown = self.shown
        if shown is None or shown.values["view"] != "curve":
            return
        self._worker.start(lambda told: self._zoom_work(shown, [str(one) for one in zoom], told))

    def _zoom_work(self, shown: Shown, zoom: Sequence[str], told: Callable[[float], None]) -> Iterator[Step]:
        curves, resolution, beside = shown.curves, shown.resolution, shown.beside
        if len(zoom) == 2:
            begin, end = (self.reader.instant(one) for one in zoom)
            span = end - begin
            resolution = self._resolution(shown.values["resolution"], "curve", span / timedelta(days=1))
            # Whole days, so that no period is cut.
            begin = max(shown.begin, begin_of(begin - span, "day", self.reader.zone))
            end = min(shown.end, end + span)
            if end > begin:
                curves = self.reader.curves(shown.drawn, begin, end, resolution, shown.quantity, told)
                beside = self._beside(shown, curves, resolution, (begin, end), told)
        figure = self._curves(shown, curves, resolution, zoom, beside)

        def show() -> None:
            self.chart.figure = figure
            self._done()

        yield show


def _whole(shown: Shown) -> Group:
    return _total("", shown.chosen)


def _total(name: str, chosen: Sequence[str]) -> Group:
    return Group(name, tuple(chosen))
