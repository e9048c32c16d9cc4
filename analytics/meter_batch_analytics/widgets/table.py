"""A table of many rows that scrolls smoothly: only what is seen is drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import traitlets

from .base import Widget, module, plain, style


class Table(Widget):
    """`columns` say what is shown, `rows` holds a list or array of values by column key (all of one length).

    A column is `{"key", "label", …}` with `kind` "number" (default for arrays of numbers), "text" (default), "percent"
    (a share of 1), "instant" or "day" (ISO texts or datetime64); `digits` after the point (0), `unit` (stands in the
    header), `align` "start" or "end", `width` in pixels; `bar: True` draws a bar from 0 to the column's largest value
    behind the number (`bar: 1.0` for a fixed end); `tone: "key"` takes the tone of every cell ("good", "warning",
    "bad", "muted", "") from another column of `rows` that need not be shown. The first column stays in sight. `sort` =
    `{"key", "descending"}`. `selected` holds the indices of chosen rows (as in `rows`, before sorting); `selectable`
    False, "one" or "many". `height` is the tallest it gets in pixels. `total` is a row that stays at the end: values
    by key.
    """

    columns: Any = traitlets.List().tag(sync=True)
    rows = traitlets.Dict().tag(sync=True, to_json=plain)
    total = traitlets.Dict().tag(sync=True, to_json=plain)
    sort = traitlets.Dict().tag(sync=True)
    selectable = traitlets.Any(default_value=False).tag(sync=True)
    selected: Any = traitlets.List().tag(sync=True)
    height = traitlets.Int(480).tag(sync=True)
    title = traitlets.Unicode("").tag(sync=True)
    busy = traitlets.Bool(False).tag(sync=True)
    _esm = module("table")
    _css = style("table")

    def __init__(
        self, columns: Sequence[Mapping[str, Any]] = (), rows: Mapping[str, Any] | None = None, **traits: Any
    ) -> None:
        super().__init__(columns=[dict(one) for one in columns], rows=dict(rows or {}), **traits)

    def show(self, columns: Sequence[Mapping[str, Any]], rows: Mapping[str, Any], **traits: Any) -> None:
        """Replaces columns and rows at once, so that nobody sees the one without the other."""
        with self.hold_sync():
            self.selected = []
            self.columns, self.rows = [dict(one) for one in columns], dict(rows)
            self.total = dict(traits.pop("total", {}))
            for name, value in traits.items():
                setattr(self, name, value)

    def on_select(self, told: Callable[[list[int]], None]) -> None:
        """Calls `told` with the indices of the chosen rows whenever the reader chose."""
        self.observe(lambda change: told(list(change["new"])), "selected")
