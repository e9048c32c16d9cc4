"""WebSocket commands for screens: points, live values in batches, imports, the operation log. Each asks access.py."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import probatio
from homeassistant.components import websocket_api
from homeassistant.components.http.auth import async_sign_path
from homeassistant.components.websocket_api.connection import ActiveConnection
from homeassistant.components.websocket_api.decorators import async_response, websocket_command
from homeassistant.components.websocket_api.messages import event_message
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.dispatcher import async_dispatcher_connect
from homeassistant.helpers.event import async_call_later
from homeassistant.util.ulid import ulid_now
from yarl import URL

from . import access, query
from .access import Operation
from .api import HistoryView, progress_signal
from .commands import async_import, find_point, line_by_name, refuse, state_of
from .const import DOMAIN
from .engine.wire import point_as_dict
from .export import WRITERS
from .site import async_get_site

BATCH_S = 1.0
"""Changes of values are gathered for so long before they are sent."""
EXPORT_WITHIN = timedelta(minutes=15)
"""So long the address of an export can be opened."""
MOST_ADDRESS = 7_000
"""Letters of an address; web servers and browsers take little more."""


@callback
def async_setup(hass: HomeAssistant) -> None:
    """Registers the commands."""
    for command in (list_points, subscribe_values, import_points, list_log, list_gaps, history, export_history):
        websocket_api.async_register_command(hass, command)


@websocket_command({probatio.Required("type"): f"{DOMAIN}/points/list"})
@async_response
async def list_points(hass: HomeAssistant, connection: ActiveConnection, msg: dict[str, Any]) -> None:
    """Every point of the registry."""
    access.check_user(connection.user, Operation.READ)
    site = await async_get_site(hass)
    points = {id_: point_as_dict(point) for id_, point in site.registry.points.items()}
    connection.send_result(msg["id"], {"points": points})


@websocket_command(
    {
        probatio.Required("type"): f"{DOMAIN}/values/subscribe",
        probatio.Optional("points"): [str],
    }
)
@async_response
async def subscribe_values(hass: HomeAssistant, connection: ActiveConnection, msg: dict[str, Any]) -> None:
    """What is known of points now, and then at most once a second of those that changed."""
    site = await async_get_site(hass)
    wanted = {find_point(site, text).id for text in msg["points"]} if "points" in msg else None
    access.check_user(connection.user, Operation.READ, wanted)
    changed: set[str] = set()
    timer: list[Any] = []

    @callback
    def send(_: object = None) -> None:
        timer.clear()
        points = [site.registry.points[id_] for id_ in changed if id_ in site.registry.points]
        changed.clear()
        event = {"points": {point.id: state_of(hass, point) for point in points}}
        connection.send_message(event_message(msg["id"], event))

    @callback
    def take(touched: set[str]) -> None:
        changed.update(touched if wanted is None else touched & wanted)
        if changed and not timer:
            timer.append(async_call_later(hass, BATCH_S, send))

    unsubscribe = site.async_listen_values(take)

    @callback
    def stop() -> None:
        unsubscribe()
        for cancel in timer:
            cancel()

    connection.subscriptions[msg["id"]] = stop
    connection.send_result(msg["id"])
    changed.update(site.registry.points if wanted is None else wanted)
    send()


@websocket_command(
    {
        probatio.Required("type"): f"{DOMAIN}/points/import",
        probatio.Required("content"): str,
        probatio.Optional("line"): str,
        probatio.Optional("dry_run", default=True): bool,
        probatio.Optional("skip_bad", default=False): bool,
        probatio.Optional("remove_absent", default=False): bool,
    }
)
@async_response
async def import_points(hass: HomeAssistant, connection: ActiveConnection, msg: dict[str, Any]) -> None:
    """A dry run of a list, or the import itself."""
    actor = access.check_user(connection.user, Operation.CONFIGURE)
    site = await async_get_site(hass)
    result = await async_import(
        site,
        actor,
        msg["content"].encode(),
        "content.csv",
        default_line=line_by_name(site, msg.get("line")),
        dry=msg["dry_run"],
        skip_bad=msg["skip_bad"],
        remove_absent=msg["remove_absent"],
    )
    connection.send_result(msg["id"], result)


@websocket_command(
    {
        probatio.Required("type"): f"{DOMAIN}/log/list",
        probatio.Optional("limit", default=100): probatio.All(int, probatio.Range(min=1, max=1000)),
    }
)
@async_response
async def list_log(hass: HomeAssistant, connection: ActiveConnection, msg: dict[str, Any]) -> None:
    """Who changed what, newest first."""
    access.check_user(connection.user, Operation.READ_LOG)
    site = await async_get_site(hass)
    connection.send_result(msg["id"], {"entries": await site.log.async_read(msg["limit"])})


@websocket_command(
    {
        probatio.Required("type"): f"{DOMAIN}/gaps/list",
        probatio.Optional("points"): [str],
        probatio.Optional("areas"): [str],
        probatio.Optional("lines"): [str],
    }
)
@async_response
async def list_gaps(hass: HomeAssistant, connection: ActiveConnection, msg: dict[str, Any]) -> None:
    """What is missing, as the action `list_gaps` answers."""
    site = await async_get_site(hass)
    points = query.points_of(site, msg)
    access.check_user(connection.user, Operation.READ, (point.id for point in points))
    connection.send_result(msg["id"], {"gaps": await site.gaps.async_list(points)})


@websocket_command({probatio.Required("type"): f"{DOMAIN}/history", **query.FIELDS})
@async_response
async def history(hass: HomeAssistant, connection: ActiveConnection, msg: dict[str, Any]) -> None:
    """What points consumed, as the action `get_history` answers."""
    site = await async_get_site(hass)
    asked = await query.async_parse(site, msg)
    access.check_user(connection.user, Operation.READ, (point.id for point in asked.points))
    connection.send_result(msg["id"], await query.async_answer(site, asked))


@websocket_command(
    {
        probatio.Required("type"): f"{DOMAIN}/history/export",
        probatio.Optional("format", default="csv"): str,
        **query.FIELDS,
    }
)
@async_response
async def export_history(hass: HomeAssistant, connection: ActiveConnection, msg: dict[str, Any]) -> None:
    """An address from which the file can be loaded; while it is, events say which share is done, and `finished`."""
    site = await async_get_site(hass)
    asked = await query.async_parse(site, msg)
    access.check_user(connection.user, Operation.READ, (point.id for point in asked.points))
    if msg["format"] not in WRITERS:
        raise refuse("unknown_format", format=msg["format"], some=", ".join(WRITERS))
    export = ulid_now()
    fields = {
        "since": asked.since.isoformat(),
        "until": asked.until.isoformat(),
        "resolution": asked.resolution,
        "time_zone": asked.zone.key,
        "format": msg["format"],
        "export": export,
        **{key: msg[key] for key in ("points", "areas", "lines", "quantities") if msg.get(key)},
    }
    path = str(URL(HistoryView.url).with_query(fields))
    if len(path) > MOST_ADDRESS:
        raise refuse("query_too_long")

    @callback
    def tell(done: float | None) -> None:
        event = {"finished": True} if done is None else {"done": round(done, 3)}
        connection.send_message(event_message(msg["id"], event))

    connection.subscriptions[msg["id"]] = async_dispatcher_connect(hass, progress_signal(export), tell)
    path = async_sign_path(hass, path, EXPORT_WITHIN)
    connection.send_result(msg["id"], {"path": path, "rows": asked.most_rows, "points": len(asked.points)})
