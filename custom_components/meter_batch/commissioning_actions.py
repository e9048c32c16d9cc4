"""Actions and WebSocket commands of commissioning: sign off, see what is not yet, and the sheets to print."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import probatio
from homeassistant.components import websocket_api
from homeassistant.components.http.auth import async_sign_path
from homeassistant.components.websocket_api.connection import ActiveConnection
from homeassistant.components.websocket_api.decorators import async_response, websocket_command
from homeassistant.core import HomeAssistant, ServiceCall, ServiceResponse, SupportsResponse, callback
from homeassistant.helpers import config_validation as cv
from yarl import URL

from . import access, query
from .access import Operation
from .commands import find_point, refuse, register
from .commissioning import ENERGY, async_commission, overview
from .commissioning_view import SheetsView
from .const import DOMAIN
from .site import Site, async_get_site

OPEN_WITHIN = timedelta(hours=8)
"""So long the address of sheets can be opened: a day's work at the meters."""
MOST_ADDRESS = 7_000

_WHICH: dict[Any, Any] = {
    probatio.Optional("points"): probatio.All(cv.ensure_list, [cv.string]),
    probatio.Optional("areas"): probatio.All(cv.ensure_list, [cv.string]),
    probatio.Optional("lines"): probatio.All(cv.ensure_list, [cv.string]),
}
COMMISSION_POINT = probatio.Schema(
    {
        probatio.Required("point"): cv.string,
        probatio.Required("displayed"): cv.string,
        probatio.Optional("register"): cv.string,
        probatio.Optional("by", default=""): cv.string,
        probatio.Optional("note", default=""): cv.string,
        probatio.Optional("accept", default=False): cv.boolean,
    }
)
COMMISSIONING_SHEET = probatio.Schema({**_WHICH, probatio.Optional("language"): cv.string})
LIST_COMMISSIONING = probatio.Schema(_WHICH)


@callback
def async_setup(hass: HomeAssistant) -> None:
    """Registers actions, commands and the page."""
    for name, handler, schema, response in (
        ("commission_point", commission_point, COMMISSION_POINT, SupportsResponse.OPTIONAL),
        ("commissioning_sheet", commissioning_sheet, COMMISSIONING_SHEET, SupportsResponse.ONLY),
        ("list_commissioning", list_commissioning, LIST_COMMISSIONING, SupportsResponse.ONLY),
    ):
        hass.services.async_register(DOMAIN, name, handler, schema, supports_response=response)
    websocket_api.async_register_command(hass, list_command)
    hass.http.register_view(SheetsView())


async def commission_point(call: ServiceCall) -> ServiceResponse:
    """What a display shows is compared with the meter, and signed off."""
    site = await async_get_site(call.hass)
    point = find_point(site, call.data["point"])
    actor = await access.async_check(call.hass, call.context, Operation.CONFIGURE, (point.id,))
    return await async_commission(
        site,
        actor,
        point,
        call.data["displayed"],
        register=register(call.data.get("register", ENERGY)),
        by=call.data["by"],
        note=call.data["note"],
        accept=call.data["accept"],
    )


async def list_commissioning(call: ServiceCall) -> ServiceResponse:
    """What is signed off, and what is not yet."""
    site = await async_get_site(call.hass)
    points = query.points_of(site, call.data)
    await access.async_check(call.hass, call.context, Operation.READ, (point.id for point in points))
    return overview(points, lines_of(site))


@websocket_command({probatio.Required("type"): f"{DOMAIN}/commissioning/list", **_WHICH})
@async_response
async def list_command(hass: HomeAssistant, connection: ActiveConnection, msg: dict[str, Any]) -> None:
    """What is signed off, as the action `list_commissioning` answers."""
    site = await async_get_site(hass)
    points = query.points_of(site, msg)
    access.check_user(connection.user, Operation.READ, (point.id for point in points))
    connection.send_result(msg["id"], overview(points, lines_of(site)))


async def commissioning_sheet(call: ServiceCall) -> ServiceResponse:
    """The address of one sheet a point, to print."""
    site = await async_get_site(call.hass)
    points = query.points_of(site, call.data)
    await access.async_check(call.hass, call.context, Operation.READ, (point.id for point in points))
    count = sum(not point.virtual for point in points)
    return {"points": count, "path": sheets_path(call.hass, call.data)}


@callback
def sheets_path(hass: HomeAssistant, which: Mapping[str, Any]) -> str:
    """A signed address of the sheets; refused where so many names do not go into one."""
    fields = {key: which[key] for key in ("points", "areas", "lines", "language") if which.get(key)}
    path = str(URL(SheetsView.url).with_query(fields))
    if len(path) > MOST_ADDRESS:
        raise refuse("query_too_long")
    return async_sign_path(hass, path, OPEN_WITHIN)


def lines_of(site: Site) -> dict[str, str]:
    """Names of lines by id."""
    return {line.id: line.title for line in site.known().lines.values()}
