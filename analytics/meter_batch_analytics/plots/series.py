"""Curves, bars, day × hour and duration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .look import SCALES, Figure, Look, band, scale, small

DAY_MS = 86_400_000
MOST_TICKS = 5
"""Days that are named below bars: on a telephone there is room for no more."""


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
                "y": small(beside.y),
                "line": {"color": look.ink["beside"], "width": 1.6, "dash": "dot", **shape},
                "hovertemplate": hover,
                "connectgaps": False,
            }
        )
    for number, one in enumerate(found):
        colour = look.colour(number)
        if one.low is not None and one.high is not None:
            there = np.isfinite(one.low) & np.isfinite(one.high)
            data += band(one.x[there], one.low[there], one.high[there], colour, f"{one.name} ")
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": one.name,
                "x": one.x,
                "y": small(one.y),
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
                    "y": small(one.y[marked]),
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
                "y": small(beside[1]),
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
                "y": small(one),
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
        xaxis=look.time_axis(**_middles(x, period)),
        showlegend=len(data) > 1,
        yaxis=look.axis(title={"text": unit}, rangemode="tozero", fixedrange=True),
    )


def _middles(x: Any, period: str | int) -> Figure:
    """Ticks of days in the middle of their bars; all others where plotly sets them."""
    if period != DAY_MS or not len(x):
        return {}
    days = np.asarray(x).astype("datetime64[D]")
    step = -(-int((days.max() - days.min()).astype(np.int64) + 1) // MOST_TICKS)
    # From two weeks on labels are of months.
    return {"tick0": f"{days.min()} 12:00", "dtick": step * DAY_MS, "tickangle": 0} if step < 14 else {}


def day_hour(
    look: Look, days: Any, hours: Sequence[str], z: Any, *, unit: str, digits: int, texts: Any = None
) -> Figure:
    """Days from left to right, the hours of each upwards: when it is used."""
    data = {
        "type": "heatmap",
        "x": days,
        "y": list(hours),
        "z": small(z),
        "colorscale": SCALES[look.theme],
        "hovertemplate": f"%{{x|{look.date_format}}} %{{y}}<br>%{{z:,.{digits}f}} {unit}<extra></extra>",
        "hoverongaps": False,
        "colorbar": scale(look, unit),
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
                "y": small(high[places]),
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
