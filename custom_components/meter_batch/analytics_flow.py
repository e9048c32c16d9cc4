"""Steps of the config flow that concern the analytics server: announced, by hand, changed, another token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import probatio
from homeassistant.config_entries import SOURCE_REAUTH, SOURCE_RECONFIGURE, ConfigFlow, ConfigFlowResult
from homeassistant.const import CONF_TOKEN, CONF_URL
from homeassistant.helpers.aiohttp_client import async_get_clientsession
from homeassistant.helpers.selector import TextSelector, TextSelectorConfig, TextSelectorType

from .access import Operation
from .analytics import Client, Refused, ServerProblem, TokenRefused, origin_of
from .const import ANALYTICS, CONF_KIND
from .panel import title
from .site import async_get_site, flow_actor
from .wording import async_message

_TOKEN = TextSelector(TextSelectorConfig(type=TextSelectorType.PASSWORD))
SERVER = probatio.Schema({probatio.Required(CONF_URL): TextSelector(), probatio.Required(CONF_TOKEN): _TOKEN})
TOKEN = probatio.Schema({probatio.Required(CONF_TOKEN): _TOKEN})


class AnalyticsSteps(ConfigFlow):
    """There is one server, or none."""

    async def async_step_import(self, import_data: dict[str, Any]) -> ConfigFlowResult:
        """It announced itself, and answered."""
        await self.async_set_unique_id(ANALYTICS)
        self._abort_if_unique_id_configured()
        return await self._add(import_data)

    async def async_step_analytics(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Its address and token, with a real test; also to change them."""
        await self.async_set_unique_id(ANALYTICS, raise_on_progress=False)
        changed = self._get_reconfigure_entry() if self.source == SOURCE_RECONFIGURE else None
        if changed is None:
            self._abort_if_unique_id_configured(error="analytics_configured")
        errors: dict[str, str] = {}
        problem = ""
        if user_input is not None:
            errors, problem, data = await self._tested(user_input[CONF_URL], user_input[CONF_TOKEN])
            if not errors and changed is None:
                return await self._add(data)
            if not errors and changed is not None:
                return await self._change(data)
        suggested = user_input or ({CONF_URL: changed.data[CONF_URL]} if changed else {})
        return self.async_show_form(
            step_id="analytics",
            data_schema=self.add_suggested_values_to_schema(SERVER, suggested),
            errors=errors,
            description_placeholders={"problem": problem, "example": "http://127.0.0.1:8130"},
        )

    async def async_step_reauth(self, _data: Mapping[str, Any]) -> ConfigFlowResult:
        """The server does not take our token any more."""
        return await self.async_step_reauth_confirm()

    async def async_step_reauth_confirm(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Asks for its token of now."""
        url = self._get_reauth_entry().data[CONF_URL]
        errors: dict[str, str] = {}
        problem = ""
        if user_input is not None:
            errors, problem, data = await self._tested(url, user_input[CONF_TOKEN])
            if not errors:
                return await self._change(data)
        return self.async_show_form(
            step_id="reauth_confirm",
            data_schema=TOKEN,
            errors=errors,
            description_placeholders={"url": url, "problem": problem},
        )

    async def _tested(self, text: str, token: str) -> tuple[dict[str, str], str, dict[str, str]]:
        """Errors of the form, what else is to be said, and the data of an entry."""
        try:
            data = {CONF_URL: origin_of(text), CONF_TOKEN: token.strip()}
        except ValueError:
            return {CONF_URL: "bad_url"}, "", {}
        try:
            await Client(async_get_clientsession(self.hass), data[CONF_URL], data[CONF_TOKEN]).async_status()
        except TokenRefused:
            return {CONF_TOKEN: "bad_token"}, "", {}
        except ServerProblem as found:
            key = "analytics_refused_request" if isinstance(found, Refused) else "analytics_away"
            return {"base": key}, await async_message(self.hass, found.key, **found.placeholders), {}
        return {}, "", data

    async def _add(self, data: dict[str, Any]) -> ConfigFlowResult:
        log = (await async_get_site(self.hass)).log
        actor = flow_actor(Operation.CONFIGURE)
        await log.async_write(actor, "add_analytics", before=None, after={CONF_URL: data[CONF_URL]})
        return self.async_create_entry(title=title(self.hass), data={CONF_KIND: ANALYTICS, **data})

    async def _change(self, data: dict[str, Any]) -> ConfigFlowResult:
        entry = self._get_reauth_entry() if self.source == SOURCE_REAUTH else self._get_reconfigure_entry()
        log = (await async_get_site(self.hass)).log
        before, after = {CONF_URL: entry.data[CONF_URL]}, {CONF_URL: data[CONF_URL]}
        await log.async_write(flow_actor(Operation.CONFIGURE), "change_analytics", before=before, after=after)
        return self.async_update_reload_and_abort(
            entry,
            data_updates=data,
            reason="reauth_successful" if self.source == SOURCE_REAUTH else "analytics_changed",
        )
