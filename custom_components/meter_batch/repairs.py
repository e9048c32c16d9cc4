"""What can be done about a repair issue of a meter, in its dialogue: enter the new meter, choose another model.

The other issues say what to do where no program can do it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

import probatio
from homeassistant.components.repairs import ConfirmRepairFlow, FlowType, RepairsFlow, RepairsFlowResult
from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.selector import (
    DateTimeSelector,
    NumberSelector,
    NumberSelectorConfig,
    NumberSelectorMode,
    TextSelector,
)
from homeassistant.util import dt as dt_util

from . import access, link, point_form
from .causes import LIKELY
from .const import DOMAIN
from .dated import replaced
from .engine import Candidate, Point, ScannedMeter, ScanPlan
from .entity import populations
from .issues import Kind
from .site import Site, async_get_site, flow_actor

LONGEST_S = 30.0
READING = NumberSelector(
    NumberSelectorConfig(min=0, step="any", mode=NumberSelectorMode.BOX, unit_of_measurement="kWh")
)

type Data = Mapping[str, str | int | float | None]


async def async_create_fix_flow(
    hass: HomeAssistant,
    issue_id: str,  # noqa: ARG001  # the data say more
    data: Data | None,
) -> RepairsFlow:
    """The dialogue of an issue."""
    site = await async_get_site(hass)
    point = site.registry.points.get(str((data or {}).get("point")))
    if data is None or point is None or point.virtual:
        return ConfirmRepairFlow()
    match data["kind"]:
        case Kind.SWAPPED:
            return SwapRepair(site, point, data)
        case Kind.MODEL:
            return ModelRepair(site, point, data)
        case _:
            return AddressRepair(site, point, data)


class PointRepair(RepairsFlow):
    """Base: something about one point, which may be changed."""

    def __init__(self, site: Site, point: Point, data: Data) -> None:
        self._site, self._point, self._about = site, point, data

    def _placeholders(self) -> dict[str, str]:
        issue = ir.async_get(self.hass).async_get_issue(DOMAIN, self.issue_id)
        return dict(issue.translation_placeholders or {}) if issue is not None else {}

    def _current(self) -> Point | None:
        """The point as it is now; None where it is gone."""
        return self._site.registry.points.get(self._point.id)

    async def _change(self, point: Point, action: str) -> None:
        await self._site.registry.async_apply({point.id: point}, flow_actor(access.Operation.CONFIGURE), action)


class SwapRepair(PointRepair):
    """The meter was replaced: the new one is entered, with what the old one showed last and the new one first."""

    async def async_step_init(self, user_input: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Begins."""
        return await self.async_step_confirm()

    async def async_step_confirm(self, user_input: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Asks when, and what the meters showed."""
        errors: dict[str, str] = {}
        seen = datetime.fromisoformat(str(self._about["at"]))
        if user_input is not None:
            errors = await self._replace(user_input)
            if not errors:
                return self.async_create_entry(data={})
        shown = user_input or {
            "serial": self._about["serial"],
            "since": dt_util.as_local(seen).strftime("%Y-%m-%d %H:%M:%S"),
        }
        schema = probatio.Schema(
            {
                probatio.Required("serial"): TextSelector(),
                probatio.Required("since"): DateTimeSelector(),
                probatio.Optional("last"): READING,
                probatio.Optional("first"): READING,
            }
        )
        return self.async_show_form(
            step_id="confirm",
            data_schema=self.add_suggested_values_to_schema(schema, shown),
            errors=errors,
            description_placeholders=self._placeholders(),
        )

    async def _replace(self, form: Mapping[str, Any]) -> dict[str, str]:
        since = dt_util.as_utc(datetime.fromisoformat(form["since"]).replace(microsecond=0))
        if (point := self._current()) is None:
            return {"base": "point_gone"}
        if not point.meter.since < since <= dt_util.utcnow():
            return {"since": "bad_swap_date"}
        serial = " ".join(str(form["serial"]).split())
        if not serial:
            return {"serial": "serial_missing"}
        last, first = (Decimal(str(form[key])) if key in form else None for key in ("last", "first"))
        if last is not None or first is not None:
            self._site.intake.async_shown(point.id, since, last, first)
        before = str(self._placeholders().get("before", "?"))
        meters = replaced(point.meters, serial, since, None if before == "?" else before)
        # Whoever signed off the old meter did not see this one.
        await self._change(replace(point, meters=meters, commissioned=None), "swap_meter")
        return {}


class ModelRepair(PointRepair):
    """The meter is of another model: it is asked which would fit, and one is chosen."""

    _fitting: tuple[Candidate, ...] = ()

    async def async_step_init(self, user_input: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Asks the meter, then the user."""
        self._fitting = await self._ask()
        return await self.async_step_confirm()

    async def async_step_confirm(self, user_input: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Asks which."""
        errors: dict[str, str] = {}
        if user_input is not None:
            if (point := self._current()) is not None:
                last = replace(point.meter, template=user_input["template"])
                await self._change(replace(point, meters=(*point.meters[:-1], last)), "edit_point")
                return self.async_create_entry(data={})
            errors = {"base": "point_gone"}
        shown = self._fitting[0].template_id if self._fitting else self._point.meter.template
        schema = probatio.Schema({probatio.Required("template"): point_form.models(self._site, self._protocol)})
        names = [f"{self._site.templates[one.template_id].name} ({one.score:.0%})" for one in self._fitting]
        return self.async_show_form(
            step_id="confirm",
            data_schema=self.add_suggested_values_to_schema(schema, user_input or {"template": shown}),
            errors=errors,
            description_placeholders={**self._placeholders(), "fitting": ", ".join(names) or "–"},
        )

    @property
    def _protocol(self) -> str:
        return self._point.routes[0].protocol

    async def _ask(self) -> tuple[Candidate, ...]:
        """The models that fit, best first; none where the meter cannot be asked now."""
        population = populations(self.hass).get(str(self._about["line"]))
        if population is None or self._protocol != "modbus":
            return ()
        entry, unit = population.coordinator.config_entry, int(self._point.routes[0].address)
        wire = link.settings(entry.data, entry.options)
        plan = ScanPlan(protocols=(self._protocol,), first=unit, last=unit, settings=(wire,))
        found: dict[tuple[str, str], ScannedMeter] = {}
        try:
            async with asyncio.timeout(LONGEST_S):
                await population.coordinator.async_scan(plan, lambda _: None, lambda one: found.update({one.key: one}))
        except HomeAssistantError, TimeoutError:
            return ()
        models = [one for meter in found.values() for one in meter.models]
        return tuple(one for one in models if one.score > LIKELY and one.template_id in self._site.templates)


class AddressRepair(PointRepair):
    """The meter has another address, or shares its own: goes on to the form of the point."""

    async def async_step_init(self, user_input: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Begins."""
        return await self.async_step_confirm()

    async def async_step_confirm(self, user_input: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Says what is wrong, then opens the form."""
        line = str(self._about["line"])
        entry = self.hass.config_entries.async_get_entry(line)
        if user_input is None or entry is None or entry.state is not ConfigEntryState.LOADED:
            return self.async_show_form(
                step_id="confirm", data_schema=probatio.Schema({}), description_placeholders=self._placeholders()
            )
        options = self.hass.config_entries.options
        flow = await options.async_init(line)
        await options.async_configure(flow["flow_id"], {"next_step_id": "edit_point"})
        await options.async_configure(flow["flow_id"], {"point": self._point.id})
        # Not repaired yet: the issue goes when the meter answers.
        return self.async_abort(reason="form_opened", next_flow=(FlowType.OPTIONS_FLOW, flow["flow_id"]))
