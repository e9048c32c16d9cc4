"""What people see and touch in an app: controls, charts, tables, key figures, notices.

The same classes run in the server's pages and in JupyterLab. No sentence is written in a browser: all words are handed
over, those of the widgets themselves from `words.toml` beside this file.
"""

from __future__ import annotations

from .base import Widget
from .chart import Chart
from .controls import Controls
from .figures import Figures, Notice
from .period import PERIODS, is_period, period_days
from .table import Table

__all__ = ["PERIODS", "Chart", "Controls", "Figures", "Notice", "Table", "Widget", "is_period", "period_days"]
