"""The row of controls above an app: points, period, choices, buttons."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import traitlets

from .base import Widget, module, style
from .period import is_period

type Field = Mapping[str, Any]
type Told = Callable[[dict[str, Any], str], None]


class Controls(Widget):
    """Fields a reader sets; their values stand in the page's address too, under the fields' keys.

    A field is `{"key", "kind", "label", …}`:

    - `"points"`: `options` = `[{"value": id, "label": name, "group": area, "line": line, "virtual": bool}]`, and
      `most` where there is a limit. Value: a list of ids.
    - `"choice"`: `options` = `[{"value", "label"}]`; `style` "segments" (default up to four options) or "select".
      `optional: True` adds the empty value "". Value: a text.
    - `"period"`: `presets` (keys of `PERIODS`; all without), `first` and `last` day as ISO texts. Value: a preset's key
      or "2026-10-01..2026-10-31" (both days included); see `period_days`.
    - `"toggle"`: value: a bool.
    - `"button"`: no value; `style` "primary" or plain, `icon` one of "download", "refresh", "picture", "table".
    - `"break"`: what follows stands together at the end of the row.

    Fields and options may be replaced at any time; values that no longer exist are dropped.
    """

    fields: Any = traitlets.List().tag(sync=True)
    values = traitlets.Dict().tag(sync=True)
    changed = traitlets.Dict().tag(sync=True)
    busy = traitlets.Bool(False).tag(sync=True)
    _esm = module("controls")
    _css = style("controls")

    def __init__(self, fields: Sequence[Field] = (), values: Mapping[str, Any] | None = None, **traits: Any) -> None:
        self._told: list[Told] = []
        fields = [dict(one) for one in fields]
        super().__init__(fields=fields, values=_taken(fields, values or {}), **traits)
        self.observe(self._on_changed, "changed")
        self.on_msg(self._on_press)

    def on_change(self, told: Told) -> None:
        """Calls `told(values, key)` after the reader changed the field of that key, or pressed that button."""
        self._told.append(told)

    def set_field(self, key: str, **changes: Any) -> None:
        """Replaces parts of one field, for example its options."""
        self.fields = [{**one, **changes} if one["key"] == key else one for one in self.fields]
        self.values = _taken(self.fields, self.values)

    def take_query(self, query: Mapping[str, Sequence[str]]) -> None:
        """Sets the values that a page's address names; what makes no sense is left as it was."""
        self.values = {**self.values, **_from_query(self.fields, query)}

    def _on_changed(self, change: Mapping[str, Any]) -> None:
        key = change["new"].get("key", "")
        self.values = _taken(self.fields, self.values)
        self._tell(key)

    def _on_press(self, _self: object, content: dict[str, Any], _buffers: list[Any]) -> None:
        if content.get("kind") == "press" and any(
            one["key"] == content.get("key") and one["kind"] == "button" and not one.get("disabled")
            for one in self.fields
        ):
            self._tell(content["key"])

    def _tell(self, key: str) -> None:
        for told in self._told:
            told(dict(self.values), key)


def _taken(fields: Iterable[Field], values: Mapping[str, Any]) -> dict[str, Any]:
    """A value for every field: the one given where it is one of the field's, else the field's first."""
    return {one["key"]: _value(one, values.get(one["key"])) for one in fields if one["kind"] not in ("button", "break")}


def _value(field: Field, value: Any) -> Any:
    known = [one["value"] for one in field.get("options", ())]
    match field["kind"]:
        case "points":
            chosen = {one for one in value or () if isinstance(one, str)}
            return [one for one in known if one in chosen][: field.get("most") or None]
        case "choice":
            if value in known or (value == "" and field.get("optional")):
                return value
            return "" if field.get("optional") or not known else known[0]
        case "period":
            return value if is_period(value) else next(iter(field.get("presets") or ("last_7_days",)))
        case _:
            return bool(value)


def _from_query(fields: Iterable[Field], query: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in fields:
        if field["kind"] in ("button", "break") or not (texts := query.get(field["key"])):
            continue
        text = texts[-1]
        value: Any = text
        if field["kind"] == "points":
            # as the page writes it: ids, "@area" for all points of an area, "*" for all
            parts = set(text.split(","))
            value = [
                one["value"]
                for one in field.get("options", ())
                if "*" in parts or one["value"] in parts or f"@{one.get('group')}" in parts
            ]
        elif field["kind"] == "toggle":
            value = text in ("1", "true")
        taken = _value(field, value)
        if taken == value or field["kind"] == "points":
            found[field["key"]] = taken
    return found
