"""The page Analytics in Home Assistant's sidebar, and the WebSocket commands it lives on."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Final

import probatio
from homeassistant.components import frontend, panel_custom, websocket_api
from homeassistant.components.http.server import StaticPathConfig
from homeassistant.components.websocket_api.connection import ActiveConnection
from homeassistant.components.websocket_api.decorators import async_response, websocket_command
from homeassistant.core import HomeAssistant, callback
from homeassistant.exceptions import Unauthorized
from homeassistant.util.hass_dict import HassKey

from . import access
from .access import Operation
from .analytics import (
    BASE,
    ServerProblem,
    TokenRefused,
    analytics,
    analytics_entry,
    async_note_apps,
    client_of,
    known_apps,
    told_to,
)
from .analytics_session import COOKIE, RENEW_S, async_language, language_of, sessions
from .const import DOMAIN
from .reports import FORMATS, KINDS, as_answer, may_see
from .wording import async_message

URL_PATH: Final = "meter-batch-analytics"
ELEMENT: Final = "meter-batch-analytics-panel"
TITLES: Final = {"en": "Analytics", "zh-Hans": "分析"}
_SOURCE = Path(__file__).parent / "panel" / "analytics.js"
_SERVED: HassKey[str] = HassKey(f"{DOMAIN}_analytics_panel")


async def async_setup(hass: HomeAssistant) -> None:
    """Registers the commands, and serves the page's module."""
    hass.data[_SERVED] = await _async_serve(hass)
    for command in (open_session, get_status, list_reports):
        websocket_api.async_register_command(hass, command)


def title(hass: HomeAssistant) -> str:
    """What the page is called. Home Assistant cannot translate a title of the sidebar: it is the house's language."""
    return TITLES[language_of(hass.config.language)]


async def async_show(hass: HomeAssistant) -> None:
    """Puts the page into the sidebar; it stays there while the server is away, and says so."""
    if frontend.async_panel_exists(hass, URL_PATH):
        return
    await panel_custom.async_register_panel(
        hass,
        URL_PATH,
        ELEMENT,
        sidebar_title=title(hass),
        sidebar_icon="mdi:chart-areaspline",
        module_url=hass.data[_SERVED],
        config={"base": BASE, "cookie": COOKIE, "renew_s": RENEW_S, "kinds": list(KINDS), "formats": list(FORMATS)},
    )


async def _async_serve(hass: HomeAssistant) -> str:
    """The address of the module. It holds a hash of its content, so that browsers may keep it."""
    content = await hass.async_add_executor_job(_SOURCE.read_bytes)
    url = f"/{DOMAIN}_static/{URL_PATH}-{hashlib.sha256(content).hexdigest()[:12]}.js"
    await hass.http.async_register_static_paths([StaticPathConfig(url, str(_SOURCE), cache_headers=True)])
    return url


async def async_rename(hass: HomeAssistant) -> None:
    """Gives it its name again, in the language the house has now."""
    if frontend.async_panel_exists(hass, URL_PATH):
        frontend.async_remove_panel(hass, URL_PATH)
        await async_show(hass)


@callback
def async_hide(hass: HomeAssistant) -> None:
    """Takes it out again."""
    frontend.async_remove_panel(hass, URL_PATH, warn_if_unknown=False)
    sessions(hass).async_end_all()


@websocket_command(
    {
        probatio.Required("type"): f"{DOMAIN}/analytics/session",
        probatio.Optional("session"): str,
        probatio.Optional("language"): str,
    }
)
@async_response
async def open_session(hass: HomeAssistant, connection: ActiveConnection, msg: dict[str, Any]) -> None:
    """The value of the cookie with which this user passes to the server; asked again with it, it lives on."""
    access.check_user(connection.user, Operation.READ)
    if connection.refresh_token_id is None:
        raise Unauthorized(user_id=connection.user.id)
    language = msg.get("language") or await async_language(hass, connection.user)
    id_ = sessions(hass).async_open(connection.refresh_token_id, language_of(language), msg.get("session"))
    connection.send_result(msg["id"], {"session": id_, "cookie": COOKIE, "path": BASE, "renew_s": RENEW_S})


@websocket_command({probatio.Required("type"): f"{DOMAIN}/analytics/status"})
@async_response
async def get_status(hass: HomeAssistant, connection: ActiveConnection, msg: dict[str, Any]) -> None:
    """Whether the server is there (`ok`, `away`, `refused`, `none`), in words why not, and its pages as last known."""
    access.check_user(connection.user, Operation.READ)
    entry = analytics_entry(hass)
    if entry is None or entry.disabled_by is not None:
        answer: dict[str, Any] = {"state": "none", "message": await async_message(hass, "analytics_none"), "apps": []}
    else:
        try:
            status = await client_of(hass, entry).async_status()
            async_note_apps(hass, status.apps)
            answer = {"state": "ok"}
        except ServerProblem as problem:
            state = "refused" if isinstance(problem, TokenRefused) else "away"
            said = told_to(problem, connection.user)
            answer = {"state": state, "message": await async_message(hass, said.key, **said.placeholders)}
        answer["apps"] = [one.as_dict() for one in known_apps(hass)]
    connection.send_result(msg["id"], answer)


@websocket_command({probatio.Required("type"): f"{DOMAIN}/reports/list"})
@async_response
async def list_reports(hass: HomeAssistant, connection: ActiveConnection, msg: dict[str, Any]) -> None:
    """The finished reports whose points the user may see, newest first; files with addresses for a day.

    `away`: the server does not answer, so nobody knows which there are.
    """
    access.check_user(connection.user, Operation.READ)
    try:
        server = analytics(hass)
        await server.async_fresh()
        away = not server.last_update_success
    except ServerProblem:
        away = True
    reports = () if away else server.data.reports
    found = [as_answer(hass, one) for one in reports if may_see(connection.user, one)]
    connection.send_result(msg["id"], {"reports": found, "away": away})
