"""Key figures as cards, and one line that tells what goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import traitlets

from .base import Widget, module, style


class Figures(Widget):
    """Cards: `items` = `[{"label", "value", "unit", "note", "tone"}]`, all but the tone as texts that are shown as they
    are; tone "good", "warning", "bad" or "". While `busy` they are dimmed.
    """

    items: Any = traitlets.List().tag(sync=True)
    title = traitlets.Unicode("").tag(sync=True)
    busy = traitlets.Bool(False).tag(sync=True)
    _esm = module("figures")
    _css = style("figures")

    def __init__(self, items: Sequence[Mapping[str, Any]] = (), **traits: Any) -> None:
        super().__init__(items=[dict(one) for one in items], **traits)


class Notice(Widget):
    """One message: `kind` "info", "warning" or "error", `text`, and `progress` from 0 to 1 (None: no bar; below 0: a
    bar that only moves). Nothing is shown without text.
    """

    kind = traitlets.Enum(("info", "warning", "error"), "info").tag(sync=True)
    text = traitlets.Unicode("").tag(sync=True)
    progress = traitlets.Float(None, allow_none=True).tag(sync=True)
    _esm = module("notice")
    _css = style("notice")

    def __init__(self, kind: str = "info", text: str = "", progress: float | None = None, **traits: Any) -> None:
        super().__init__(kind=kind, text=text, progress=progress, **traits)

    def say(self, text: str, kind: str = "info", progress: float | None = None) -> None:
        """Replaces the message at once."""
        with self.hold_sync():
            self.text, self.kind, self.progress = text, kind, progress

    def clear(self) -> None:
        """Shows nothing."""
        self.say("")
