"""Steps of a line's options for commissioning: how far it is, the sheets to print, and one sign-off after the other."""

from __future__ import annotations

from typing import Any

import probatio
from homeassistant.config_entries import ConfigFlowResult
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers.selector import TextSelector

from . import access, virtual_form
from .commissioning import async_commission, holds
from .commissioning_actions import sheets_path
from .flow_steps import LINK_END, LineSteps, link_to
from .site import async_get_site, flow_actor
from .wording import async_message

NAMED = 20
"""So many points that are not signed off yet are named on the page."""


class CommissioningSteps(LineSteps):
    """Point after point: what the display shows is compared with what is read."""

    def __init__(self) -> None:
        super().__init__()
        self._said = ""
        self._by = ""

    async def async_step_commissioning(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Signs off a point and comes back for the next one; ends when no number is given."""
        site = await async_get_site(self.hass)
        errors: dict[str, str] = {}
        problem = ""
        if user_input is not None:
            if not user_input.get("point") or not (user_input.get("displayed") or "").strip():
                return self._done()
            actor = flow_actor(access.Operation.CONFIGURE)
            point = site.registry.points[user_input["point"]]
            self._by = (user_input.get("by") or "").strip()
            try:
                done = await async_commission(
                    site,
                    actor,
                    point,
                    user_input["displayed"],
                    by=self._by,
                    note=user_input.get("note") or "",
                    accept=user_input.get("accept", False),
                )
            except HomeAssistantError as error:
                if error.translation_key == "commission_no_remark":
                    errors["note"] = "commission_no_remark"
                else:
                    errors["base"] = "commission_refused"
                facts = error.translation_placeholders or {}
                problem = await async_message(self.hass, error.translation_key or "", **facts)
            else:
                self._said = f"✓ **{point.name}**: {done['text']}"
                user_input = None
        own = [one for one in site.registry.at_home(self.config_entry.entry_id) if not one.virtual]
        own.sort(key=lambda one: one.name.casefold())
        left = [one for one in own if not holds(one)]
        shown = user_input or {"point": left[0].id if left else None, "by": self._by}
        fields = {
            probatio.Optional("point"): virtual_form.pick(own),
            probatio.Optional("displayed"): TextSelector(),
            probatio.Optional("by"): TextSelector(),
            probatio.Optional("note"): TextSelector(),
            probatio.Optional("accept", default=False): bool,
        }
        names = ", ".join(one.name for one in left[:NAMED]) + (f" … +{len(left) - NAMED}" if left[NAMED:] else "")
        path = sheets_path(self.hass, {"lines": [self.config_entry.entry_id]})
        return self.async_show_form(
            step_id="commissioning",
            data_schema=self.add_suggested_values_to_schema(probatio.Schema(fields), shown),
            errors=errors,
            description_placeholders={
                "done": str(len(own) - len(left)),
                "count": str(len(own)),
                "left": names or "–",
                "sheets": link_to(path),
                "end": LINK_END,
                "said": f"\n\n{self._said}" if self._said and not errors else "",
                "problem": problem,
            },
        )
