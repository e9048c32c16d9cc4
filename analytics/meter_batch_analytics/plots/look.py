"""What all figures have alike: colours, axes, margins; and what several of them are made of."""

from __future__ import annotations

from collections.abc import Mapping
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
SCALES = {
    "light": [[0.0, "#eef4f8"], [0.25, "#b9d7ea"], [0.5, "#5aa6d2"], [0.75, "#1f6ea8"], [1.0, "#0b3358"]],
    "dark": [[0.0, "#1d2730"], [0.25, "#1f4a6b"], [0.5, "#2a7db3"], [0.75, "#67bdec"], [1.0, "#e0f4ff"]],
}
KNOWN = {
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
            "margin": {"l": 12, "r": 14, "t": 14, "b": 12},
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


def band(x: Any, low: Any, high: Any, colour: str, name: str, *, shown: bool = False) -> list[Figure]:
    """The space between two lines."""
    edge = {"type": "scatter", "mode": "lines", "x": x, "line": {"width": 0}, "hoverinfo": "skip", "legendgroup": name}
    fill = f"rgba({int(colour[1:3], 16)},{int(colour[3:5], 16)},{int(colour[5:7], 16)},0.18)"
    return [
        {**edge, "y": small(low), "showlegend": False, "name": name},
        {**edge, "y": small(high), "fill": "tonexty", "fillcolor": fill, "showlegend": shown, "name": name},
    ]


def scale(look: Look, unit: str) -> Figure:
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
        "ticksuffix": f" {unit}" if unit else "",
        "showticksuffix": "last",
        "tickfont": {"color": look.ink["quiet"], "size": 11},
        "nticks": 4,
        "exponentformat": "none",
        "separatethousands": True,
        "ticks": "",
    }


def small(values: Any) -> Any:
    """Half the bytes: seven digits are more than a picture shows."""
    return np.asarray(values, dtype=np.float32)


def short(name: str, most: int = 22) -> str:
    """A name that fits beside a chart."""
    return name if len(name) <= most else f"{name[: most - 1]}…"
