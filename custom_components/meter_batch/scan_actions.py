"""The action and the WebSocket command that search a line for meters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import probatio
from homeassistant.components import websocket_api
from homeassistant.components.websocket_api.connection import ActiveConnection
from homeassistant.components.websocket_api.decorators import async_response, websocket_command
from homeassistant.components.websocket_api.messages import event_message
from homeassistant.core import HomeAssistant, ServiceCall, ServiceResponse, SupportsResponse, callback
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import config_validation as cv

from . import access, scanning
from .access import Actor, Operation
from .commands import async_apply, line_by_name, refuse
from .const import DOMAIN
from .engine import ConfigError, ScannedMeter, ScanResult
from .engine.model.point import PROTOCOLS
from .site import Site, async_get_site
from .wording import async_in_words, async_message

_UNIT = probatio.All(probatio.Coerce(int), probatio.Range(min=1, max=247))
_FIELDS: dict[Any, Any] = {
    probatio.Required("line"): cv.string,
    probatio.Optional("protocols"): probatio.All(cv.ensure_list, [probatio.In(PROTOCOLS)]),
    probatio.Optional("first"): _UNIT,
    probatio.Optional("last"): _UNIT,
    probatio.Optional("bauds"): probatio.All(cv.ensure_list, [probatio.Coerce(int)]),
    probatio.Optional("parities"): probatio.All(cv.ensure_list, [probatio.In(("N", "E", "O"))]),
    probatio.Optional("identify", default=True): cv.boolean,
    probatio.Optional("thorough", default=False): cv.boolean,
}
SCAN_LINE = probatio.Schema({**_FIELDS, probatio.Optional("add", default=False): cv.boolean})


@callback
def async_setup(hass: HomeAssistant) -> None:
    """Registers both."""
    hass.services.async_register(DOMAIN, "scan_line", scan_line, SCAN_LINE, supports_response=SupportsResponse.OPTIONAL)
    websocket_api.async_register_command(hass, subscribe)


def _search(site: Site, given: Mapping[str, Any]) -> scanning.Search:
    line = line_by_name(site, given["line"])
    assert line is not None
    coordinator = scanning.coordinator_of(site, line)
    entry = coordinator.config_entry
    if not scanning.sets_its_port(entry) and (given.get("bauds") or given.get("parities")):
        raise refuse("scan_port_set_there", line=entry.title)
    try:
        return scanning.Search(coordinator, scanning.plan(site, entry, given))
    except ConfigError as error:
        raise refuse("scan_failed", line=entry.title, error=error.text) from error


async def scan_line(call: ServiceCall) -> ServiceResponse:
    """Which meters are on a line; with `add` those that are clear become points."""
    actor = await access.async_check(call.hass, call.context, Operation.CONFIGURE)
    site = await async_get_site(call.hass)
    search = _search(site, call.data)
    result = await search.async_run(actor, lambda: None)
    added = await _add(site, actor, search) if call.data["add"] else []
    return {**await _whole(site.hass, result), "meters": await _shown(site, search, result.meters), "added": added}


async def _add(site: Site, actor: Actor, search: scanning.Search) -> list[Any]:
    entry = search.entry
    chosen = [
        (one, scanning.models(site, one)[0])
        for one in search.meters
        if scanning.hindrance(entry, one) is None and scanning.clear(site, one)
    ]
    new = scanning.points(site, entry, chosen)
    await async_apply(site, actor, {point.id: point for point in new}, "add_scanned")
    return [{"id": point.id, "name": point.name, "address": point.routes[0].address} for point in new]


async def _whole(hass: HomeAssistant, result: ScanResult) -> dict[str, Any]:
    noise = None if result.heard_noise is None else await async_in_words(hass, result.heard_noise)
    return {**result.as_dict(), "noise": noise}


async def _shown(site: Site, search: scanning.Search, meters: tuple[ScannedMeter, ...]) -> list[Any]:
    """Meters as plain fields, with what is said of them in the language of the house."""
    return [
        {
            **one.as_dict(),
            "models": [
                {
                    "template": model.template_id,
                    "score": model.score,
                    "reasons": [await async_in_words(site.hass, text) for text in model.reasons],
                }
                for model in one.models
            ],
            "problem": None if one.problem is None else await async_in_words(site.hass, one.problem),
            "hindrance": await _why_not(site, search, one),
        }
        for one in meters
    ]


async def _why_not(site: Site, search: scanning.Search, meter: ScannedMeter) -> str | None:
    key = scanning.hindrance(search.entry, meter)
    return None if key is None else await async_message(site.hass, key, **scanning.facts(site, search.entry, meter))


@websocket_command({probatio.Required("type"): f"{DOMAIN}/scan/subscribe", **_FIELDS})
@async_response
async def subscribe(hass: HomeAssistant, connection: ActiveConnection, msg: dict[str, Any]) -> None:
    """Searches a line and says how far it is and what was found; who unsubscribes or goes away ends the search."""
    actor = access.check_user(connection.user, Operation.CONFIGURE)
    site = await async_get_site(hass)
    search = _search(site, msg)

    @callback
    def tell(event: dict[str, Any]) -> None:
        connection.send_message(event_message(msg["id"], event))

    @callback
    def progress() -> None:
        assert search.at is not None
        at = search.at
        tell(
            {
                "progress": {
                    "phase": at.phase,
                    "done": at.done,
                    "total": at.total,
                    "found": at.found,
                    "share": round(search.share, 3),
                    "remaining_s": round(at.remaining_s, 1),
                }
            }
        )

    @callback
    def found(meter: ScannedMeter) -> None:
        tell({"found": meter.as_dict()})

    async def run() -> None:
        try:
            result = await search.async_run(actor, progress, found)
        except HomeAssistantError as error:
            text = await async_message(hass, error.translation_key or "", **(error.translation_placeholders or {}))
            tell({"failed": text})
        else:
            tell({"finished": {**await _whole(hass, result), "meters": await _shown(site, search, result.meters)}})

    if scanning.coordinator_of(site, search.entry.entry_id).scanning:
        raise refuse("scan_running", line=search.entry.title)
    task = hass.async_create_background_task(run(), f"{DOMAIN} scan for a screen")
    connection.subscriptions[msg["id"]] = task.cancel
    connection.send_result(msg["id"])
