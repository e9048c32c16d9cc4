"""Trends, calendars, profiles and completeness."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .look import KNOWN, SCALES, Figure, Look, band, scale, short, small


def decomposition(look: Look, days: Any, rows: Sequence[tuple[str, Any]], *, unit: str, line: Mapping[str, Any],
                  words: Callable[[str], str]) -> Figure:  # fmt: skip
    """Values with trend and growth line in one panel, season, week and rest below, one over the other."""
    top = 0.46 if len(rows) > 1 else 1.0
    data = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": words("daily"),
            "x": days,
            "y": small(line["values"]),
            "line": {"color": look.ink["beside"], "width": 0.9},
            "opacity": 0.75,
            "hovertemplate": f"%{{y:,.1f}} {unit}",
        },
    ]
    if line.get("low") is not None:
        data += band(days, line["low"], line["high"], look.colour(1), words("band"), shown=True)
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": words("growth_line"),
                "x": days,
                "y": small(line["fit"]),
                "line": {"color": look.colour(1), "width": 1.6, "dash": "dash"},
                "hovertemplate": f"%{{y:,.1f}} {unit}",
            }
        )
    if line.get("trend") is not None:
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": words("trend"),
                "x": days,
                "y": small(line["trend"]),
                "line": {"color": look.colour(0), "width": 2.6},
                "hovertemplate": f"%{{y:,.1f}} {unit}",
            }
        )
    layout: Figure = {
        "xaxis": look.time_axis(anchor=f"y{len(rows) + 1}" if rows else "y"),
        "yaxis": look.axis(domain=[1 - top, 1], title={"text": unit}, fixedrange=True, rangemode="tozero"),
    }
    height = (1 - top) / max(1, len(rows))
    for number, (name, one) in enumerate(rows, 2):
        upper = 1 - top - (number - 2) * height - 0.05
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": name,
                "x": days,
                "y": small(one),
                "yaxis": f"y{number}",
                "line": {"color": look.colour(number), "width": 1.1},
                "showlegend": False,
                "hovertemplate": f"%{{y:,.1f}} {unit}",
            }
        )
        layout[f"yaxis{number}"] = look.axis(
            domain=[max(0.0, upper - height + 0.05), upper],
            title={"text": name, "font": {"size": 12}},
            fixedrange=True,
            nticks=4,
        )
    return look.figure(data, **layout)


@dataclass(frozen=True, slots=True)
class Year:
    """A year of a calendar: 7 × 53 values, texts for hovering, and marks by week and weekday."""

    name: str
    z: Any
    texts: list[list[str]]
    marks: Sequence[tuple[int, int, str]]
    """Week, weekday, sign."""
    months: Sequence[tuple[int, str]]
    """Week in which a month begins, and its name."""


def calendar(
    look: Look, years: Sequence[Year], weekdays: Sequence[str], *, unit: str, signs: Mapping[str, str]
) -> Figure:
    """Years as rows of weeks; days with a sign carry a mark. `signs`: what "holiday" and "makeup" are called; empty
    where nobody knows the holidays.
    """
    looks = {"holiday": ("circle", look.ink["mark"]), "makeup": ("diamond", look.colour(1))}
    marks = {sign: (name, *looks[sign]) for sign, name in signs.items()}
    data: list[Figure] = []
    layout: Figure = {}
    highest = max((float(np.nanmax(one.z)) for one in years if np.isfinite(one.z).any()), default=1.0)
    lowest = min((float(np.nanmin(one.z)) for one in years if np.isfinite(one.z).any()), default=0.0)
    height = 1 / max(1, len(years))
    for number, one in enumerate(years):
        suffix = "" if number == 0 else str(number + 1)
        data.append(
            {
                "type": "heatmap",
                "z": small(one.z),
                "x": list(range(one.z.shape[1])),
                "y": list(weekdays),
                "text": one.texts,
                "hovertemplate": "%{text}<extra></extra>",
                "hoverongaps": False,
                "xgap": 1,
                "ygap": 1,
                "colorscale": SCALES[look.theme],
                "zmin": min(0.0, lowest),
                "zmax": highest,
                "xaxis": f"x{suffix}",
                "yaxis": f"y{suffix}",
                **({"colorbar": scale(look, unit)} if number == 0 else {"showscale": False}),
            }
        )
        for key, (name, symbol, colour) in marks.items():
            mine = [(week, day) for week, day, sign in one.marks if sign == key]
            # The first year's stand in the legend for all, also where it has none.
            if mine or number == 0:
                data.append(
                    {
                        "type": "scatter",
                        "mode": "markers",
                        "name": name,
                        "x": [week for week, _ in mine] or [None],
                        "y": [weekdays[day] for _, day in mine] or [None],
                        "marker": {
                            "symbol": symbol,
                            "size": 5,
                            "color": colour,
                            "line": {"width": 0.8, "color": look.ink["card"]},
                        },
                        "hoverinfo": "skip",
                        "showlegend": number == 0,
                        "xaxis": f"x{suffix}",
                        "yaxis": f"y{suffix}",
                    }
                )
        upper = 1 - number * height
        layout[f"xaxis{suffix}"] = look.axis(
            anchor=f"y{suffix}",
            tickmode="array",
            # Every second one: on a telephone all would run together.
            tickvals=[week for week, _ in one.months[::2]],
            ticktext=[name for _, name in one.months[::2]],
            showgrid=False,
            zeroline=False,
            range=[-0.6, 53.6],
            fixedrange=True,
            ticks="",
            tickangle=0,
            tickfont={"size": 11},
        )
        layout[f"yaxis{suffix}"] = look.axis(
            anchor=f"x{suffix}",
            domain=[max(0.0, upper - height + 0.34 / max(2, len(years) * 2)), upper],
            autorange="reversed",
            showgrid=False,
            zeroline=False,
            fixedrange=True,
            title={"text": one.name},
            tickmode="array",
            tickvals=[weekdays[0], weekdays[2], weekdays[4], weekdays[6]],
        )
    return look.figure(data, hovermode="closest", showlegend=bool(marks), **layout)


def profiles(look: Look, week: tuple[Sequence[str], Any], year: tuple[Sequence[str], Any], *, level: str) -> Figure:
    """How weekdays and months stand to the mean: two panels of bars around 100 %."""
    data = []
    for number, (names, values) in enumerate((week, year)):
        data.append(
            {
                "type": "bar",
                "x": list(names),
                "y": small(np.asarray(values)),
                "marker": {"color": look.colour(number)},
                "hovertemplate": "%{x}: %{y:.0%}<extra></extra>",
                "showlegend": False,
                **({"xaxis": "x2"} if number else {}),
            }
        )
    return look.figure(
        data,
        hovermode="closest",
        bargap=0.25,
        xaxis=look.axis(domain=[0, 0.4], type="category"),
        xaxis2=look.axis(domain=[0.45, 1], type="category"),
        yaxis=look.axis(title={"text": level}, tickformat=".0%", rangemode="tozero", fixedrange=True),
    )


def completeness(look: Look, days: Any, names: Sequence[str], z: Any, *, label: str, whole: str) -> Figure:
    """Points down, days across: green where all is known, which is called `whole` in the legend."""
    data = {
        "type": "heatmap",
        "x": days,
        "y": list(range(len(names))),
        "z": small(z),
        "colorscale": KNOWN[look.theme],
        "zmin": 0,
        "zmax": 1,
        "hoverongaps": False,
        "ygap": 1 if len(names) <= 80 else 0,
        "xgap": 1 if len(days) <= 120 else 0,
        "customdata": [[name] * len(days) for name in names],
        "hovertemplate": f"%{{customdata}}<br>%{{x|{look.date_format}}}<br>{label}: %{{z:.1%}}<extra></extra>",
        "colorbar": {**scale(look, ""), "tickformat": ".0%", "tickvals": [0, 0.5, 1]},
    }
    step = max(1, -(-len(names) // 34))
    y = look.axis(
        autorange="reversed",
        tickmode="array",
        tickvals=list(range(0, len(names), step)),
        ticktext=[short(name) for name in names[::step]],
        showgrid=False,
        zeroline=False,
        fixedrange=True,
    )
    # The scale has no room for it: only what is wholly known is of this colour.
    legend = {
        "type": "scatter", "mode": "markers", "name": whole, "x": [None], "y": [None], "hoverinfo": "skip",
        "showlegend": True, "marker": {"symbol": "square", "size": 11, "color": KNOWN[look.theme][-1][1]},
    }  # fmt: skip
    return look.figure(
        [data, legend],
        xaxis=look.time_axis(showgrid=False, tickangle=0, nticks=4),
        yaxis=y,
        hovermode="closest",
        showlegend=True,
    )
