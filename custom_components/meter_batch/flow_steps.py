"""What the steps of a line's options have in common. Each subject has a module of its own with a class of steps."""

from __future__ import annotations

from html import escape

from homeassistant.config_entries import ConfigFlowResult, OptionsFlowWithReload
from homeassistant.helpers.selector import (
    NumberSelector,
    NumberSelectorConfig,
    NumberSelectorMode,
    SelectSelector,
    SelectSelectorConfig,
    SelectSelectorMode,
)

from . import access
from .const import DETAIL_AUTO, Detail
from .engine import Point
from .registry import RegistryConflict
from .site import Site, flow_actor


def number_field(least: float, most: float, unit: str | None = None) -> NumberSelector:
    """A whole number."""
    config = NumberSelectorConfig(min=least, max=most, step=1, mode=NumberSelectorMode.BOX)
    if unit is not None:
        config["unit_of_measurement"] = unit
    return NumberSelector(config)


def choice(options: list[str], key: str | None = None) -> SelectSelector:
    """One of several words, which the translations name."""
    config = SelectSelectorConfig(options=options, mode=SelectSelectorMode.DROPDOWN)
    if key is not None:
        config["translation_key"] = key
    return SelectSelector(config)


DETAIL = choice([DETAIL_AUTO, *(one.value for one in Detail)], "detail")


LINK_END = "</a>"


def link_to(path: str) -> str:
    """The beginning of a link in a description, which opens beside Home Assistant.

    A link in Markdown alone is taken for a page of the frontend, which an address under /api is not.
    """
    return f'<a href="{escape(path)}" target="_blank">'


class LineSteps(OptionsFlowWithReload):
    """Base of all steps: changes of points are applied at once and live."""

    async def _apply(
        self, site: Site, changes: dict[str, Point | None], action: str
    ) -> tuple[dict[str, str], dict[str, str]]:
        """Errors by field and the placeholders of their texts; none where all was applied."""
        actor = flow_actor(access.Operation.CONFIGURE)
        try:
            await site.registry.async_apply(changes, actor, action)
        except RegistryConflict as conflict:
            first = conflict.conflicts[0]
            field = first.field if first.point in changes and changes[first.point] is not None else "base"
            field = "plus" if field == "formula" else field
            return {field: first.key}, first.placeholders
        return {}, {}

    def _done(self) -> ConfigFlowResult:
        return self.async_create_entry(data=dict(self.config_entry.options))
