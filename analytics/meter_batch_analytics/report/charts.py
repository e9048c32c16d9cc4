"""Charts as SVG text: vectors, the same bytes each time, in the colours of the page they stand in.

Colours stand twice: as an attribute, for paper, and as a class (`c0` … `c5`, `ink`, `grid` …), by which the style sheet
of a screen can set others, for instance dark ones. Texts and numbers are handed in as they are printed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

FONT = "Noto Sans CJK SC, Noto Sans SC, PingFang SC, Microsoft YaHei, sans-serif"
SERIES = ("#c0532b", "#e3a13c", "#4581a8", "#24567d", "#7d6b9c", "#8a8f98")
"""Of the dearest period first: warm is dear, cold is cheap; told apart in grey too."""
INK, MUTED, GRID, LINE, ALARM = "#1c2430", "#5d6875", "#dfe3e8", "#1c2430", "#a4262c"
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 8, 20, 22


@dataclass(frozen=True, slots=True)
class Series:
    """A colour of stacked bars; None: nothing is known."""

    name: str
    values: Sequence[float | None]
    colour: int


@dataclass(frozen=True, slots=True)
class Step:
    """A place on the x axis."""

    label: str
    """May be empty, where labels would touch."""
    muted: bool = False
    """A day of rest."""
    marked: bool = False
    """Not everything here was measured."""


def colours(count: int) -> list[int]:
    """Numbers of colours for so many series, dearest first, as far apart as can be."""
    few = {1: [3], 2: [0, 3], 3: [0, 2, 3], 4: [0, 1, 2, 3]}
    return few.get(count) or [number % len(SERIES) for number in range(count)]


def columns(
    title: str,
    steps: Sequence[Step],
    series: Sequence[Series],
    *,
    number: Callable[[float], str],
    unit: str,
    width: int = 680,
    height: int = 190,
    line: Sequence[float | None] | None = None,
    limit: float | None = None,
) -> str:
    """Stacked columns; a dashed place where nothing is known. `line` is drawn over them in steps, `limit` right across.

    `title` tells in words what is seen, for those who cannot see it.
    """
    sums = [
        None if all(one.values[at] is None for one in series) else sum(one.values[at] or 0.0 for one in series)
        for at in range(len(steps))
    ]
    known = [one for one in (*sums, *(line or ()), limit) if one is not None]
    ticks = _ticks(min([0.0, *known]), max([0.0, *known]))
    low, high = ticks[0], ticks[-1]
    inner, tall = width - _LEFT - _RIGHT, height - _TOP - _BOTTOM
    slot = inner / max(1, len(steps))
    bar = min(slot * 0.72, 34.0)

    def y(value: float) -> float:
        return _TOP + tall * (high - value) / (high - low)

    out = [_open(title, width, height)]
    for tick in ticks:
        out.append(_line(_LEFT, y(tick), width - _RIGHT, y(tick), "axis" if tick == 0 else "grid"))
        out.append(_text(_LEFT - 6, y(tick) + 3.5, number(tick), "end"))
    out.append(_text(_LEFT - 6, 9, unit, "end"))
    for at, step in enumerate(steps):
        x = _LEFT + slot * at + (slot - bar) / 2
        middle = x + bar / 2
        if sums[at] is None:
            out.append(_unknown(x, y(0) - tall * 0.1, bar, tall * 0.1))
        up = down = 0.0
        for one in series:
            value = one.values[at]
            if not value:
                continue
            begin = up if value > 0 else down
            top, bottom = y(max(begin, begin + value)), y(min(begin, begin + value))
            out.append(_rect(x, top, bar, bottom - top, f"c{one.colour}", SERIES[one.colour]))
            up, down = (up + value, down) if value > 0 else (up, down + value)
        if step.label:
            out.append(_text(middle, height - 8, step.label, "middle", "faint" if step.muted else "muted"))
        if step.marked and sums[at] is not None:
            out.append(f'<path class="alarm" fill="{ALARM}" d="{_triangle(middle, height - 4)}"/>')
    if line is not None:
        out.append(_stairs([None if one is None else y(one) for one in line], _LEFT, slot))
    if limit is not None:
        out.append(_line(_LEFT, y(limit), width - _RIGHT, y(limit), "limit"))
    return "".join([*out, "</svg>"])


def shares(title: str, rows: Sequence[tuple[str, Sequence[tuple[float, str, int]]]], *, width: int = 680) -> str:
    """Bars that are each 100 % long: of every row its label, and shares with their text and colour."""
    left, thick, gap = 92, 24, 12
    height = len(rows) * (thick + gap) - gap + 4
    out = [_open(title, width, height)]
    for place, (label, parts) in enumerate(rows):
        top = 2 + place * (thick + gap)
        out.append(_text(left - 10, top + thick / 2 + 4, label, "end"))
        x, whole = float(left), sum(share for share, _, _ in parts) or 1.0
        for share, text, colour in parts:
            wide = (width - left - 2) * share / whole
            if wide <= 0:
                continue
            out.append(_rect(x, top, wide, thick, f"c{colour}", SERIES[colour]))
            if wide > 9 * len(text) * 0.72 + 6:
                out.append(_text(x + wide / 2, top + thick / 2 + 4, text, "middle", "dark" if colour == 1 else "light"))
            x += wide
    return "".join([*out, "</svg>"])


def bars(title: str, rows: Sequence[tuple[str, float | None, str, int]], *, width: int = 680, left: int = 150) -> str:
    """Horizontal bars from one zero: label, value, the value as it is printed, colour."""
    thick, gap, right = 20, 10, 96
    height = len(rows) * (thick + gap) - gap + 4
    most = max((value for _, value, _, _ in rows if value is not None), default=0.0) or 1.0
    out = [_open(title, width, height)]
    for place, (label, value, text, colour) in enumerate(rows):
        top = 2 + place * (thick + gap)
        out.append(_text(left - 10, top + thick / 2 + 4, label, "end"))
        wide = max(0.0, (width - left - right) * (value or 0.0) / most)
        if value is None:
            out.append(_unknown(left, top, 40, thick))
            wide = 40
        else:
            out.append(_rect(left, top, wide, thick, f"c{colour}", SERIES[colour]))
        out.append(_text(left + wide + 8, top + thick / 2 + 4, text, "start", "ink"))
    return "".join([*out, "</svg>"])


# --- pieces ---


def _ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers, about so many, from at most `low` to at least `high`."""
    if high <= low:
        return [0.0, 1.0]
    rough = (high - low) / count
    power = 10.0 ** floor(log10(rough))
    step = next(power * one for one in (1, 2, 2.5, 5, 10) if power * one >= rough * 0.999)
    return [step * number for number in range(floor(low / step + 1e-9), max(1, ceil(high / step - 1e-9)) + 1)]


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _open(title: str, width: int, height: int) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" role="img" viewBox="0 0 {width} {height}" '
        f'font-family="{FONT}" font-size="10"><title>{escape(title)}</title>'
    )


def _text(x: float, y: float, text: str, anchor: str, look: str = "muted") -> str:
    fill = {"ink": INK, "muted": MUTED, "faint": "#9aa3ad", "dark": INK, "light": "#ffffff"}[look]
    return f'<text class="{look}" x="{_n(x)}" y="{_n(y)}" text-anchor="{anchor}" fill="{fill}">{escape(text)}</text>'


def _rect(x: float, y: float, width: float, height: float, look: str, fill: str) -> str:
    return f'<rect class="{look}" x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}" fill="{fill}"/>'


def _line(x1: float, y1: float, x2: float, y2: float, look: str) -> str:
    colour, more = {
        "grid": (GRID, 'stroke-width="0.6"'),
        "axis": (MUTED, 'stroke-width="0.9"'),
        "limit": (ALARM, 'stroke-width="1.2" stroke-dasharray="5 3"'),
    }[look]
    return f'<line class="{look}" x1="{_n(x1)}" y1="{_n(y1)}" x2="{_n(x2)}" y2="{_n(y2)}" stroke="{colour}" {more}/>'


def _unknown(x: float, y: float, width: float, height: float) -> str:
    return (
        f'<rect class="unknown" x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}" fill="none" '
        f'stroke="{MUTED}" stroke-width="0.6" stroke-dasharray="2 2"/>'
    )


def _triangle(x: float, y: float) -> str:
    return f"M{_n(x - 3)} {_n(y + 3)}L{_n(x + 3)} {_n(y + 3)}L{_n(x)} {_n(y - 1.5)}Z"


def _stairs(levels: Sequence[float | None], left: float, slot: float) -> str:
    path, down = [], False
    for at, level in enumerate(levels):
        if level is None:
            down = False
            continue
        path.append(f"{'L' if down else 'M'}{_n(left + slot * at)} {_n(level)}H{_n(left + slot * (at + 1))}")
        down = True
    return f'<path class="over" d="{"".join(path)}" fill="none" stroke="{LINE}" stroke-width="1.3"/>' if path else ""
