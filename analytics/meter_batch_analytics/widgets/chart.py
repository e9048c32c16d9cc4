"""A chart: a plotly figure as a plain dict, drawn in the browser."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Any

import traitlets

from .base import Widget, module, plain, style


class Chart(Widget):
    """Draws `figure` = `{"data": […], "layout": {…}, "config": {…}}` and keeps up with its changes.

    Arrays inside may be numpy arrays or pandas columns. Times are the site's wall clock; a time axis has the
    `type` "date".
    `zoom` is what the reader zoomed to on the x axis (`[from, to]`, empty for all), told half a second after the last
    move; `clicked` the last point clicked. `height` in pixels. `title` names the chart for a screen reader.
    """

    figure = traitlets.Dict().tag(sync=True, to_json=plain)
    height = traitlets.Int(420).tag(sync=True)
    title = traitlets.Unicode("").tag(sync=True)
    busy = traitlets.Bool(False).tag(sync=True)
    zoom: Any = traitlets.List().tag(sync=True)
    clicked = traitlets.Dict().tag(sync=True)
    _esm = module("chart")
    _css = style("chart")

    def __init__(self, figure: dict[str, Any] | None = None, height: int = 420, **traits: Any) -> None:
        super().__init__(figure=figure or {}, height=height, **traits)
        self.on_msg(_answer)

    def on_zoom(self, told: Callable[[list[Any]], None]) -> None:
        """Calls `told` with `[from, to]` of the x axis (texts or numbers), or `[]` when all is shown again."""
        self.observe(lambda change: told(change["new"]), "zoom")

    def on_click(self, told: Callable[[dict[str, Any]], None]) -> None:
        """Calls `told` with `{"x", "y", "trace", "point", "custom"}` of the point that was clicked."""
        self.observe(lambda change: told(change["new"]), "clicked")

    def download_png(self, name: str, width: int = 1200, height: int = 675) -> None:
        """The browser saves the chart as it is shown, as a picture of twice that size."""
        self.send({"kind": "png", "name": name, "width": width, "height": height})


def _answer(chart: Chart, content: dict[str, Any], _buffers: list[Any]) -> None:
    """JupyterLab has no address of plotly.js: the kernel hands it over from its wheel."""
    if content.get("kind") == "plotly":
        script = files("plotly") / "package_data" / "plotly.min.js"
        chart.send({"kind": "plotly"}, [script.read_bytes()])
