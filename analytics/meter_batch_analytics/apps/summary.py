"""What the explorer says of a period in numbers: key figures and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np

from .. import plots
from ..periods import Resolution
from .comparison import Comparison
from .curves import DIGITS, ESTIMATED, UNITS, Curve, Group, Quantity
from .days import Days, digits_of
from .page import Page
from .peaks import NONE, Peak


@dataclass(slots=True)
class Shown:
    """What is on the page: for zooming, tables and files."""

    values: Mapping[str, Any]
    first: date
    last: date
    begin: datetime
    end: datetime
    days: Days
    groups: list[Group]
    drawn: list[Group]
    resolution: Resolution
    quantity: Quantity
    curves: list[Curve]
    peaks: list[Peak]
    compared: Comparison | None = None
    beside: plots.Curve | None = None

    @property
    def chosen(self) -> list[str]:
        """All points."""
        return list(self.days.points)


def items(page: Page, shown: Shown) -> list[dict[str, Any]]:
    """Key figures of all that was chosen; those that need all intervals once they are there."""
    words, days = page.words, shown.days
    total = days.total()
    known_days = days.covered_days()
    per_day = words("per_day", kwh=words.number(float(total) / known_days, 1)) if known_days else ""
    items = [
        {
            "label": words("energy_total"), "value": words.number(total, digits_of(total)), "unit": "kWh",
            "note": per_day,
        }
    ]  # fmt: skip
    if shown.compared is not None:
        change = shown.compared.change()
        items.append(
            {
                "label": words(f"against_{shown.compared.kind}"), "value": _percent(page, change),
                "note": words("all_days", change=_percent(page, shown.compared.plain)),
            }
        )  # fmt: skip
    elif shown.values["compare"] != "none":
        items.append(
            {
                "label": words(f"against_{shown.values['compare']}"), "value": "–",
                "note": words("nothing_to_compare"),
            }
        )  # fmt: skip
    if shown.peaks:
        peak = shown.peaks[-1]
        at = page.reader.wall([peak.at])[0].astype(object) if peak.kw == peak.kw else None
        said = words.instant(at) if at is not None else ""
        items += [
            {
                "label": words("peak"), "value": words.number(peak.kw, 2), "unit": "kW",
                "note": words("peak_at", at=said, minutes=peak.length_s // 60) if at is not None else "",
            },
            {
                "label": words("load_factor"), "value": words.number(peak.load_factor, 2),
                "note": words("mean_power", kw=words.number(peak.mean_kw, 2)),
            },
            {"label": words("night_share"), "value": words.percent(peak.night), "note": words("night_hours")},
        ]  # fmt: skip
    known = days.completeness()
    guessed = _estimated_share(days)
    items.append(
        {
            "label": words("completeness"), "value": words.percent(known),
            "note": words("estimated_share", share=words.percent(guessed)),
            "tone": "good" if known >= 0.995 else "warning" if known >= 0.9 else "bad",
        }
    )  # fmt: skip
    return items


def _percent(page: Page, change: float | None) -> str:
    if change is None:
        return "–"
    sign = "+" if change > 0 else "−" if change < 0 else ""
    return sign + page.words.percent(abs(change))


def _estimated_share(days: Days, points: Sequence[str] | None = None) -> float:
    """Share of the energy that stands on days with estimates, as far as those are not known."""
    rows = range(len(days.points)) if points is None else [days.place(one) for one in points]
    kwh = np.where(np.isfinite(days.kwh), days.kwh, 0)[list(rows)]
    guessed = ((days.flags & ESTIMATED) > 0)[list(rows)] * (1 - days.known[list(rows)])
    total = np.abs(kwh).sum()
    return float((np.abs(kwh) * guessed).sum() / total) if total else 0.0


def points_table(page: Page, shown: Shown) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any]]:
    """Columns, rows and total: a row a group, its energy to the digit of the ledger."""
    words, days, groups = page.words, shown.days, shown.groups
    totals = [days.total(one.points) for one in groups]
    whole = days.total()
    digits = max([digits_of(one) for one in [*totals, whole]] or [0])
    columns: list[dict[str, Any]] = [
        {"key": "name", "label": words("name"), "kind": "text"},
        {"key": "kwh", "label": words("quantity_energy"), "unit": "kWh", "digits": digits, "bar": True},
        {"key": "share", "label": words("share"), "kind": "percent", "digits": 1},
    ]
    rows: dict[str, Any] = {
        "name": [one.name for one in groups],
        "kwh": np.array([float(one) for one in totals]),
        "share": np.array([float(one / whole) if whole else np.nan for one in totals]),
    }
    total: dict[str, Any] = {"name": words("sum"), "kwh": float(whole), "share": 1.0 if whole else None}
    if shown.compared is not None:
        columns.append({"key": "change", "label": words(f"against_{shown.compared.kind}"), "kind": "percent"})
        rows["change"] = np.array([_or_nan(shown.compared.change(one.points)) for one in groups])
        total["change"] = shown.compared.change()
    if shown.peaks:
        mine = shown.peaks[: len(groups)]
        columns += [
            {"key": "peak", "label": words("peak"), "unit": "kW", "digits": 2},
            {"key": "peak_at", "label": words("peak_time"), "kind": "instant"},
            {"key": "load_factor", "label": words("load_factor"), "digits": 2},
            {"key": "night", "label": words("night_share"), "kind": "percent"},
        ]
        rows["peak"] = np.array([one.kw for one in mine])
        at = page.reader.wall([one.at for one in mine])
        at[np.isnan(rows["peak"])] = np.datetime64("NaT", "ms")
        rows["peak_at"] = at
        rows["load_factor"] = np.array([one.load_factor for one in mine])
        rows["night"] = np.array([one.night for one in mine])
        whole_peak = shown.peaks[-1] if shown.peaks else NONE
        total |= {"peak": whole_peak.kw, "load_factor": whole_peak.load_factor, "night": whole_peak.night}
    columns.append({"key": "known", "label": words("completeness"), "kind": "percent", "tone": "tone"})
    rows["known"] = np.array([days.completeness(one.points) for one in groups])
    rows["tone"] = [
        "" if not one < 0.995 else "warning" if one >= 0.9 else "bad" for one in rows["known"].tolist()
    ]  # fmt: skip
    total["known"] = days.completeness()
    return columns, rows, total


def values_table(page: Page, shown: Shown) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any]]:
    """Columns, rows and no total: a row a time, a column a group that is drawn; instants in milliseconds."""
    words, curves = page.words, shown.curves
    columns: list[dict[str, Any]] = [{"key": "start", "label": words("start"), "kind": "instant"}]
    times = np.unique(np.concatenate([one.start for one in curves])) if curves else np.array([], np.int64)
    rows: dict[str, Any] = {"start": times}
    unit = UNITS[shown.quantity]
    known = np.zeros((len(curves), len(times)))
    for number, one in enumerate(curves):
        place = np.searchsorted(times, one.start)
        values = np.full(len(times), np.nan)
        values[place] = one.value
        known[number, place] = one.known
        key = f"v{number}"
        columns.append(
            {"key": key, "label": one.group.name, "unit": unit, "digits": DIGITS[shown.quantity], "width": 120}
        )  # fmt: skip
        rows[key] = values
    columns.append({"key": "known", "label": words("completeness"), "kind": "percent", "tone": "tone"})
    rows["known"] = known.mean(axis=0) if len(curves) else np.array([])
    rows["tone"] = ["warning" if one < 0.9995 else "" for one in rows["known"].tolist()]
    return columns, rows, {}


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value
