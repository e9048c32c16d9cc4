"""Steps of a line's options for one point: add it, change it, remove it; metered or virtual."""

from __future__ import annotations

from typing import Any

import probatio
from homeassistant.config_entries import ConfigFlowResult

from . import link, point_form, virtual_form
from .engine import Point
from .flow_steps import DETAIL, LineSteps
from .site import async_get_site


class PointSteps(LineSteps):
    """Add, change, remove."""

    def __init__(self) -> None:
        super().__init__()
        self._point: Point | None = None

    async def async_step_add_point(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """A new point on this line."""
        site = await async_get_site(self.hass)
        errors: dict[str, str] = {}
        placeholders: dict[str, str] = {}
        if user_input is not None:
            point, errors = point_form.read(site, self.config_entry.entry_id, user_input, None)
            if point is not None and not errors:
                errors, placeholders = await self._apply(site, {point.id: point}, "add_point")
                if not errors:
                    return self._done()
        schema = point_form.schema(site, link.protocol(self.config_entry.data), None)
        return self.async_show_form(
            step_id="add_point",
            data_schema=self.add_suggested_values_to_schema(schema, user_input or {}),
            errors=errors,
            description_placeholders={"name": "", "address": "", **placeholders},
        )

    async def async_step_edit_point(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Which point."""
        site = await async_get_site(self.hass)
        if user_input is not None:
            self._point = site.registry.points[user_input["point"]]
            if self._point.virtual:
                return await self.async_step_change_virtual_point()
            return await self.async_step_change_point()
        own = site.registry.at_home(self.config_entry.entry_id)
        return self.async_show_form(
            step_id="edit_point", data_schema=probatio.Schema({probatio.Required("point"): virtual_form.pick(own)})
        )

    async def async_step_add_virtual_point(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """A new point that is worked out from others."""
        return await self._virtual_point("add_virtual_point", None, user_input)

    async def async_step_change_virtual_point(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Changes or removes the virtual point that was picked."""
        return await self._virtual_point("change_virtual_point", self._point, user_input)

    async def _virtual_point(self, step: str, old: Point | None, user_input: dict[str, Any] | None) -> ConfigFlowResult:
        site = await async_get_site(self.hass)
        errors: dict[str, str] = {}
        placeholders: dict[str, str] = {}
        if user_input is not None:
            if old is not None and user_input.get("remove"):
                errors, placeholders = await self._apply(site, {old.id: None}, "remove_point")
            else:
                point, errors = virtual_form.read(self.hass, user_input, old)
                if point is not None:
                    action = "edit_point" if old else "add_point"
                    errors, placeholders = await self._apply(site, {point.id: point}, action)
            if not errors:
                return self._done()
        schema = virtual_form.schema(site, old, DETAIL)
        shown = user_input or (virtual_form.filled(self.hass, old) if old else {})
        return self.async_show_form(
            step_id=step,
            data_schema=self.add_suggested_values_to_schema(schema, shown),
            errors=errors,
            description_placeholders={"name": old.name if old else "", "part": "", **placeholders},
        )

    async def async_step_change_point(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Changes or removes the point that was picked."""
        site = await async_get_site(self.hass)
        old = self._point
        assert old is not None
        errors: dict[str, str] = {}
        placeholders: dict[str, str] = {}
        if user_input is not None:
            if user_input.get("remove"):
                errors, placeholders = await self._apply(site, {old.id: None}, "remove_point")
            else:
                point, errors = point_form.read(site, self.config_entry.entry_id, user_input, old)
                if point is not None and not errors:
                    errors, placeholders = await self._apply(site, {point.id: point}, "edit_point")
            if not errors:
                return self._done()
        return self.async_show_form(
            step_id="change_point",
            data_schema=self.add_suggested_values_to_schema(
                point_form.schema(site, link.protocol(self.config_entry.data), old),
                user_input or point_form.filled(self.hass, old),
            ),
            errors=errors,
            description_placeholders={"name": old.name, "address": "", **placeholders},
        )
