"""Figures as plain dicts, as plotly.js draws them: `{"data": […], "layout": {…}, "config": {…}}`. Pure.

Arrays may be numpy arrays; times are the site's wall clock (datetime64). All words are handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

type Figure = dict[str, Any]

_COLOURS = {
    "light": "#0277bd #e07b00 #2e8b57 #b0305c #7b52ab #8a6d00 #00838f #c0504d #5b7083 #4e6b1f".split(),
    "dark": "#4fb8ef #ffab4a #66c18c #f07ba0 #b492e6 #d9be4b #4dd0d8 #f2928c #a3b5c4 #a9c46c".split(),
}
_INK = {
    "light": {"text": "#1c1c1c", "quiet": "#5c6166", "grid": "rgba(0,0,0,0.08)", "line": "rgba(0,0,0,0.25)",
              "card": "#ffffff", "beside": "#8a9199", "mark": "#c62828", "empty": "#f1f3f4"},
    "dark": {"text": "#e4e4e4", "quiet": "#a3a6a9", "grid": "rgba(225,225,225,0.10)", "line": "rgba(225,225,225,0.28)",
             "card": "#1c1c1c", "beside": "#9aa0a6", "mark": "#ef8a85", "empty": "#2a2a2a"},
}  # fmt: skip
_SCALES = {
    "light": [[0.0, "#eef4f8"], [0.25, "#b9d7ea"], [0.5, "#5aa6d2"], [0.75, "#1f6ea8"], [1.0, "#0b3358"]],
    "dark": [[0.0, "#1d2730"], [0.25, "#1f4a6b"], [0.5, "#2a7db3"], [0.75, "#67bdec"], [1.0, "#e0f4ff"]],
}
_KNOWN = {
    "light": [[0.0, "#c62828"], [0.5, "#ef9a4d"], [0.9, "#f3dd8c"], [0.9999, "#d8e8c4"], [1.0, "#5fa35f"]],
    "dark": [[0.0, "#e5645f"], [0.5, "#c97a35"], [0.9, "#9c8a3c"], [0.9999, "#5d7a4a"], [1.0, "#3d7a48"]],
}
FONT = 'Roboto, "Noto Sans CJK SC", "Noto Sans SC", "PingFang SC", "Microsoft YaHei", system-ui, sans-serif'
_CHINESE_TICKS = [
    {"dtickrange": [None, 43_200_000], "value": "%H:%M\n%-m月%-d日"},
    {"dtickrange": [43_200_000, 1_209_600_000], "value": "%-m月%-d日\n%Y年"},
    {"dtickrange": [1_209_600_000, "M11"], "value": "%-m月\n%Y年"},
    {"dtickrange": ["M12", None], "value": "%Y年"},
]
_ENGLISH_TICKS = [
    {"dtickrange": [None, 43_200_000], "value": "%H:%M\n%-d %b"},
    {"dtickrange": [43_200_000, 1_209_600_000], "value": "%-d %b\n%Y"},
    {"dtickrange": [1_209_600_000, "M11"], "value": "%b\n%Y"},
    {"dtickrange": ["M12", None], "value": "%Y"},
]


@dataclass(frozen=True, slots=True)
class Look:
    """Theme and language of figures, and a function that shortens names."""

    theme: str = "light"
    chinese: bool = False

    @property
    def ink(self) -> Mapping[str, str]:
        """Colours of everything but the data."""
        return _INK[self.theme]

    def colour(self, number: int) -> str:
        """The colour of a curve."""
        colours = _COLOURS[self.theme]
        return colours[number % len(colours)]

    @property
    def date_format(self) -> str:
        """A day with its weekday, in a hover label."""
        return "%Y年%-m月%-d日" if self.chinese else "%a, %-d %b %Y"

    def time_axis(self, **more: Any) -> Figure:
        """An axis of wall clock."""
        ticks = _CHINESE_TICKS if self.chinese else _ENGLISH_TICKS
        return self.axis(type="date", tickformatstops=ticks, **more)

    def axis(self, **more: Any) -> Figure:
        """An axis."""
        return {
            "gridcolor": self.ink["grid"],
            "linecolor": self.ink["line"],
            "zerolinecolor": self.ink["line"],
            "tickcolor": self.ink["line"],
            "automargin": True,
            **more,
        }

    def layout(self, **more: Any) -> Figure:
        """What all figures have alike."""
        return {
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"family": FONT, "size": 13, "color": self.ink["text"]},
            "margin": {"l": 12, "r": 14, "t": 34, "b": 12},
            "legend": {
                "orientation": "h",
                "x": 0,
                "y": 1.02,
                "xanchor": "left",
                "yanchor": "bottom",
                "bgcolor": "rgba(0,0,0,0)",
                "itemwidth": 30,
            },
            "hovermode": "x unified",
            "hoverlabel": {
                "bgcolor": self.ink["card"],
                "bordercolor": self.ink["line"],
                "font": {"color": self.ink["text"], "family": FONT, "size": 12},
                "align": "left",
            },
            "separators": ".,",
            "autosize": True,
            **more,
        }

    def figure(self, data: list[Figure], **layout: Any) -> Figure:
        """The whole."""
        # A scroll that zooms would catch whoever only wants to scroll the page.
        config = {
            "responsive": True,
            "displaylogo": False,
            "scrollZoom": False,
            "doubleClick": "reset",
            "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d", "toImage"],
        }
        return {"data": data, "layout": self.layout(**layout), "config": config}


@dataclass(frozen=True, slots=True)
class Curve:
    """What is drawn of a series: `x` wall clock, NaN in `y` breaks the line; a band where `low` and `high` are."""

    name: str
    x: Any
    y: Any
    low: Any | None = None
    high: Any | None = None
    doubtful: Any | None = None
    """True where a value is estimated, incomplete or suspect."""
    text: Any | None = None
    """One more line of the hover label."""


def curves(
    look: Look, found: Sequence[Curve], *, unit: str, digits: int, doubtful: str, beside: Curve | None = None,
    steps: bool = True, from_zero: bool = True, zoom: Sequence[str] = (), revision: str = "",
) -> Figure:  # fmt: skip
    """Load curves; `beside` is what they are compared with. Doubtful values are marked by points on the line."""
    data: list[Figure] = []
    shape = {"shape": "hv"} if steps else {}
    hover = f"%{{y:,.{digits}f}} {unit}"
    if beside is not None:
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": beside.name,
                "x": beside.x,
                "y": _small(beside.y),
                "line": {"color": look.ink["beside"], "width": 1.6, "dash": "dot", **shape},
                "hovertemplate": hover,
                "connectgaps": False,
            }
        )
    for number, one in enumerate(found):
        colour = look.colour(number)
        if one.low is not None and one.high is not None:
            there = np.isfinite(one.low) & np.isfinite(one.high)
            data += _band(one.x[there], one.low[there], one.high[there], colour, f"{one.name} ")
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": one.name,
                "x": one.x,
                "y": _small(one.y),
                "line": {"color": colour, "width": 1.8 if len(found) < 6 else 1.4, **shape},
                "hovertemplate": hover + ("%{customdata}" if one.text is not None else ""),
                **({"customdata": one.text} if one.text is not None else {}),
                "connectgaps": False,
            }
        )
        if one.doubtful is not None and (marked := one.doubtful & np.isfinite(one.y)).any():
            data.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": doubtful,
                    "x": one.x[marked],
                    "y": _small(one.y[marked]),
                    "legendgroup": "doubtful",
                    "legendrank": 2000,
                    "showlegend": not any(trace.get("legendgroup") == "doubtful" for trace in data),
                    "marker": {"color": look.ink["card"], "size": 5, "line": {"color": colour, "width": 1.4}},
                    "hoverinfo": "skip",
                }
            )
    x = look.time_axis(**({"range": list(zoom)} if zoom else {}))
    y = look.axis(title={"text": unit}, rangemode="tozero" if from_zero else "normal", fixedrange=True)
    few = len(data) > 1
    return look.figure(data, xaxis=x, yaxis=y, uirevision=revision, dragmode="zoom", showlegend=few)


def bars(
    look: Look, names: Sequence[str], x: Any, values: Sequence[Any], *, unit: str, digits: int,
    doubtful: Sequence[Any] | None = None, beside: tuple[str, Any] | None = None, stacked: bool = True,
    period: str | int = 86_400_000,
) -> Figure:  # fmt: skip
    """Bars by period (milliseconds, or "M1"), stacked where there are several; hatched where a value is estimated or
    incomplete.
    """
    data: list[Figure] = []
    if beside is not None:
        data.append(
            {
                "type": "bar",
                "name": beside[0],
                "x": x,
                "y": _small(beside[1]),
                "offsetgroup": "beside",
                "marker": {"color": look.ink["beside"], "opacity": 0.55},
                "hovertemplate": f"%{{y:,.{digits}f}} {unit}",
            }
        )
    for number, (name, one) in enumerate(zip(names, values, strict=True)):
        marker: Figure = {"color": look.colour(number)}
        if doubtful is not None and np.any(doubtful[number]):
            marker["pattern"] = {"shape": np.where(doubtful[number], "/", "").tolist(), "solidity": 0.35, "size": 6,
                                 "fgcolor": look.ink["card"], "fillmode": "overlay"}  # fmt: skip
        data.append(
            {
                "type": "bar",
                "name": name,
                "x": x,
                "y": _small(one),
                "marker": marker,
                "offsetgroup": "values",
                "hovertemplate": f"%{{y:,.{digits}f}} {unit}",
            }
        )
    for one in data:
        one |= {"xperiod": period, "xperiodalignment": "middle"}
    mode = "stack" if stacked and len(names) > 1 else "group"
    return look.figure(
        data,
        barmode=mode,
        bargap=0.18,
        bargroupgap=0.04,
        xaxis=look.time_axis(),
        showlegend=len(data) > 1,
        yaxis=look.axis(title={"text": unit}, rangemode="tozero", fixedrange=True),
    )


def day_hour(
    look: Look, days: Any, hours: Sequence[str], z: Any, *, unit: str, digits: int, texts: Any = None
) -> Figure:
    """Days from left to right, the hours of each upwards: when it is used."""
    data = {
        "type": "heatmap",
        "x": days,
        "y": list(hours),
        "z": _small(z),
        "colorscale": _SCALES[look.theme],
        "hovertemplate": f"%{{x|{look.date_format}}} %{{y}}<br>%{{z:,.{digits}f}} {unit}<extra></extra>",
        "hoverongaps": False,
        "colorbar": _bar(look, unit),
        "xgap": 0,
        "ygap": 0,
        **({"text": texts} if texts is not None else {}),
    }
    y = look.axis(autorange="reversed", tickmode="array", tickvals=list(hours)[::6], showgrid=False, fixedrange=True)
    return look.figure([data], xaxis=look.time_axis(showgrid=False), yaxis=y, hovermode="closest", showlegend=False)


def duration(look: Look, names: Sequence[str], values: Sequence[Any], *, unit: str, share: str) -> Figure:
    """Load duration: for which share of the time the power was higher."""
    data = []
    for number, (name, one) in enumerate(zip(names, values, strict=True)):
        high = np.sort(one[np.isfinite(one)])[::-1]
        places = np.unique(np.linspace(0, max(len(high) - 1, 0), min(len(high), 600)).astype(np.int64))
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": name,
                "x": places / max(len(high) - 1, 1),
                "y": _small(high[places]),
                "line": {"color": look.colour(number), "width": 2},
                "hovertemplate": f"%{{y:,.2f}} {unit}",
                **({} if number or len(names) > 1 else {"fill": "tozeroy"}),
            }
        )
    return look.figure(
        data,
        showlegend=len(data) > 1,
        yaxis=look.axis(title={"text": unit}, rangemode="tozero", fixedrange=True),
        xaxis=look.axis(title={"text": share}, tickformat=".0%", range=[0, 1]),
    )


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
            "y": _small(line["values"]),
            "line": {"color": look.ink["beside"], "width": 0.9},
            "opacity": 0.75,
            "hovertemplate": f"%{{y:,.1f}} {unit}",
        },
    ]
    if line.get("low") is not None:
        data += _band(days, line["low"], line["high"], look.colour(1), words("band"), shown=True)
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": words("growth_line"),
                "x": days,
                "y": _small(line["fit"]),
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
                "y": _small(line["trend"]),
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
                "y": _small(one),
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


def calendar(look: Look, years: Sequence[Year], weekdays: Sequence[str], *, unit: str, legend: str = "") -> Figure:
    """Years as rows of weeks; holidays and make-up days carry their sign."""
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
                "z": _small(one.z),
                "x": list(range(one.z.shape[1])),
                "y": list(weekdays),
                "text": one.texts,
                "hovertemplate": "%{text}<extra></extra>",
                "hoverongaps": False,
                "xgap": 2,
                "ygap": 2,
                "colorscale": _SCALES[look.theme],
                "zmin": min(0.0, lowest),
                "zmax": highest,
                "xaxis": f"x{suffix}",
                "yaxis": f"y{suffix}",
                **({"colorbar": _bar(look, unit)} if number == 0 else {"showscale": False}),
            }
        )
        if one.marks:
            bright = (np.array([one.z[day, week] for week, day, _ in one.marks]) - min(0.0, lowest)) > 0.55 * (
                highest - min(0.0, lowest)
            )
            dark_on_light = look.theme == "light"
            colours = np.where(bright == dark_on_light, "#ffffff", "#1c1c1c")
            data.append(
                {
                    "type": "scatter",
                    "mode": "text",
                    "x": [week for week, _, _ in one.marks],
                    "y": [weekdays[day] for _, day, _ in one.marks],
                    "text": [sign for _, _, sign in one.marks],
                    "textfont": {"size": 9, "color": colours.tolist()},
                    "hoverinfo": "skip",
                    "showlegend": False,
                    "xaxis": f"x{suffix}",
                    "yaxis": f"y{suffix}",
                }
            )
        upper = 1 - number * height
        layout[f"xaxis{suffix}"] = look.axis(
            anchor=f"y{suffix}",
            tickmode="array",
            tickvals=[week for week, _ in one.months],
            ticktext=[name for _, name in one.months],
            showgrid=False,
            zeroline=False,
            range=[-0.6, 53.6],
            fixedrange=True,
            ticks="",
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
    if legend:
        layout["annotations"] = [
            {
                "text": legend,
                "xref": "paper",
                "yref": "paper",
                "x": 0,
                "y": 1.01,
                "xanchor": "left",
                "yanchor": "bottom",
                "showarrow": False,
                "font": {"size": 12, "color": look.ink["quiet"]},
            }
        ]
    return look.figure(data, hovermode="closest", showlegend=False, **layout)


def profiles(look: Look, week: tuple[Sequence[str], Any], year: tuple[Sequence[str], Any], *, level: str) -> Figure:
    """How weekdays and months stand to the mean: two panels of bars around 100 %."""
    data = []
    for number, (names, values) in enumerate((week, year)):
        data.append(
            {
                "type": "bar",
                "x": list(names),
                "y": _small(np.asarray(values)),
                "marker": {"color": look.colour(number)},
                "hovertemplate": "%{x}: %{y:.0%}<extra></extra>",
                "showlegend": False,
                **({"xaxis": "x2", "yaxis": "y2"} if number else {}),
            }
        )
    y = {"tickformat": ".0%", "rangemode": "tozero", "fixedrange": True}
    return look.figure(
        data,
        hovermode="closest",
        bargap=0.25,
        xaxis=look.axis(domain=[0, 0.4], type="category"),
        xaxis2=look.axis(domain=[0.5, 1], anchor="y2", type="category"),
        yaxis=look.axis(title={"text": level}, **y),
        yaxis2=look.axis(anchor="x2", **y),
    )


def completeness(look: Look, days: Any, names: Sequence[str], z: Any, *, label: str) -> Figure:
    """Points down, days across: green where all is known."""
    data = {
        "type": "heatmap",
        "x": days,
        "y": list(range(len(names))),
        "z": _small(z),
        "colorscale": _KNOWN[look.theme],
        "zmin": 0,
        "zmax": 1,
        "hoverongaps": False,
        "ygap": 1 if len(names) <= 80 else 0,
        "xgap": 1 if len(days) <= 120 else 0,
        "customdata": [[name] * len(days) for name in names],
        "hovertemplate": f"%{{customdata}}<br>%{{x|{look.date_format}}}<br>{label}: %{{z:.1%}}<extra></extra>",
        "colorbar": {**_bar(look, ""), "tickformat": ".0%", "tickvals": [0, 0.5, 1]},
    }
    step = max(1, -(-len(names) // 34))
    y = look.axis(
        autorange="reversed",
        tickmode="array",
        tickvals=list(range(0, len(names), step)),
        ticktext=[_short(name) for name in names[::step]],
        showgrid=False,
        zeroline=False,
        fixedrange=True,
    )
    return look.figure([data], xaxis=look.time_axis(showgrid=False), yaxis=y, hovermode="closest", showlegend=False)


def _band(x: Any, low: Any, high: Any, colour: str, name: str, *, shown: bool = False) -> list[Figure]:
    edge = {"type": "scatter", "mode": "lines", "x": x, "line": {"width": 0}, "hoverinfo": "skip", "legendgroup": name}
    fill = f"rgba({int(colour[1:3], 16)},{int(colour[3:5], 16)},{int(colour[5:7], 16)},0.18)"
    return [
        {**edge, "y": _small(low), "showlegend": False, "name": name},
        {**edge, "y": _small(high), "fill": "tonexty", "fillcolor": fill, "showlegend": shown, "name": name},
    ]


def _bar(look: Look, unit: str) -> Figure:
    """The scale of a map: flat and above it, where it costs no width on a telephone."""
    return {
        "orientation": "h",
        "x": 1,
        "xanchor": "right",
        "y": 1.01,
        "yanchor": "bottom",
        "len": 180,
        "lenmode": "pixels",
        "thickness": 8,
        "outlinewidth": 0,
        "title": {"text": unit, "side": "top", "font": {"size": 12}},
        "tickfont": {"color": look.ink["quiet"], "size": 11},
        "nticks": 4,
        "ticks": "",
    }


def _small(values: Any) -> Any:
    """Half the bytes: seven digits are more than a picture shows."""
    return np.asarray(values, dtype=np.float32)


def _short(name: str, most: int = 22) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"
