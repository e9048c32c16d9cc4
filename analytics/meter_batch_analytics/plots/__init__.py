"""Figures as plain dicts, as plotly.js draws them: `{"data": […], "layout": {…}, "config": {…}}`. Pure.

Arrays may be numpy arrays; times are the site's wall clock (datetime64). All words are handed in.
"""

from __future__ import annotations

from .analysis import Year, calendar, completeness, decomposition, profiles
from .look import Figure, Look
from .series import Curve, bars, curves, day_hour, duration

__all__ = [
    "Curve", "Figure", "Look", "Year", "bars", "calendar", "completeness", "curves", "day_hour", "decomposition",
    "duration", "profiles",
]  # fmt: skip
