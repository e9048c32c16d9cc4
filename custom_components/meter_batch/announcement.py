"""The analytics server makes itself known here, tells what became of its reports, and asks who somebody is."""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import web
from homeassistant.config_entries import SOURCE_IMPORT, ConfigEntryState
from homeassistant.const import CONF_TOKEN, CONF_URL
from homeassistant.core import HomeAssistant, callback
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.helpers.aiohttp_client import async_get_clientsession
from homeassistant.helpers.http import KEY_HASS, HomeAssistantView

from . import access
from .access import Operation
from .analytics import Client, ServerProblem, analytics_entry, origin_of
from .analytics_session import async_language, identity
from .api import answered, body_of, user_of
from .commands import refuse
from .const import DOMAIN
from .reports import ReportEvent, async_tell
from .site import async_get_site
from .wording import async_message


@callback
def async_setup(hass: HomeAssistant) -> None:
    """Registers the views."""
    for view in (ServerView, EventView, WhoamiView):
        hass.http.register_view(view())


class ServerView(HomeAssistantView):
    """Which server is ours."""

    url = f"/api/{DOMAIN}/analytics_server"
    name = f"api:{DOMAIN}:analytics_server"

    @answered
    async def post(self, request: web.Request) -> web.StreamResponse:
        """Takes `url` and `token` where a server answers there to this token; said again, it changes nothing."""
        hass, user = request.app[KEY_HASS], user_of(request)
        actor = access.check_user(user, Operation.CONFIGURE)
        body = await body_of(request)
        url, token = body.get("url"), body.get("token")
        if not isinstance(url, str) or not isinstance(token, str) or not token:
            raise refuse("analytics_bad_announcement")
        try:
            data = {CONF_URL: origin_of(url), CONF_TOKEN: token}
        except ValueError as error:
            raise refuse("analytics_bad_url", url=url) from error
        try:
            await Client(async_get_clientsession(hass), data[CONF_URL], token).async_status()
        except ServerProblem as problem:
            text = await async_message(hass, problem.key, **problem.placeholders)
            return self.json({"error": problem.key, "message": text}, HTTPStatus.BAD_GATEWAY)
        return self.json({"state": await _take(hass, actor, data)})

    @answered
    async def delete(self, request: web.Request) -> web.StreamResponse:
        """There is no server any more."""
        hass = request.app[KEY_HASS]
        access.check_user(user_of(request), Operation.CONFIGURE)
        if (entry := analytics_entry(hass)) is None:
            raise refuse("analytics_none")
        await hass.config_entries.async_remove(entry.entry_id)
        return self.json({"state": "removed"})


async def _take(hass: HomeAssistant, actor: access.Actor, data: dict[str, str]) -> str:
    if (entry := analytics_entry(hass)) is None:
        result = await hass.config_entries.flow.async_init(DOMAIN, context={"source": SOURCE_IMPORT}, data=data)
        if result["type"] is not FlowResultType.CREATE_ENTRY:
            return "unchanged"  # somebody else was quicker
        return "added"
    if entry.disabled_by is not None:
        raise refuse("analytics_disabled")
    changed = any(entry.data[key] != value for key, value in data.items())
    if changed:
        site = await async_get_site(hass)
        before, after = {CONF_URL: entry.data[CONF_URL]}, {CONF_URL: data[CONF_URL]}
        await site.log.async_write(actor, "change_analytics", before=before, after=after)
        hass.config_entries.async_update_entry(entry, data={**entry.data, **data})
    if changed or entry.state in {ConfigEntryState.SETUP_RETRY, ConfigEntryState.SETUP_ERROR}:
        hass.config_entries.async_schedule_reload(entry.entry_id)
    elif entry.state is ConfigEntryState.LOADED and not entry.runtime_data.last_update_success:
        await entry.runtime_data.async_request_refresh()
    return "updated" if changed else "unchanged"


class EventView(HomeAssistantView):
    """What the server has to tell."""

    url = f"/api/{DOMAIN}/analytics_server/event"
    name = f"api:{DOMAIN}:analytics_server:event"

    @answered
    async def post(self, request: web.Request) -> web.StreamResponse:
        """Takes `event`: `report_ready` with the report, or `report_failed` with kind, period and reason."""
        hass = request.app[KEY_HASS]
        access.check_user(user_of(request), Operation.CONFIGURE)
        try:
            told = ReportEvent.from_dict(await body_of(request))
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise refuse("analytics_bad_event") from error
        await async_tell(hass, told)
        return self.json({"event": told.event})


class WhoamiView(HomeAssistantView):
    """Who somebody is: for the server's own address, where Home Assistant is asked with the user's token."""

    url = f"/api/{DOMAIN}/whoami"
    name = f"api:{DOMAIN}:whoami"

    @answered
    async def get(self, request: web.Request) -> web.StreamResponse:
        """User, name, whether they are an administrator, language, and the points they may see (null: all)."""
        user = user_of(request)
        access.check_user(user, Operation.READ)
        return self.json(identity(user, await async_language(request.app[KEY_HASS], user)))
