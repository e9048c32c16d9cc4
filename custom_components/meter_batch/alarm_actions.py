"""Alarms for people and programs: actions, WebSocket commands and a view over HTTP. Each asks access.py first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any, Final

import probatio
from aiohttp import web
from homeassistant.auth.models import User
from homeassistant.components import websocket_api
from homeassistant.components.websocket_api.connection import ActiveConnection
from homeassistant.components.websocket_api.decorators import async_response, websocket_command
from homeassistant.components.websocket_api.messages import event_message
from homeassistant.core import Context, HomeAssistant, ServiceCall, ServiceResponse, SupportsResponse, callback
from homeassistant.helpers import config_validation as cv
from homeassistant.helpers.http import KEY_HASS, HomeAssistantView
from homeassistant.util import dt as dt_util

from . import access, query
from .access import Operation
from .alarm_store import Asked
from .api import answered
from .commands import find_point, line_by_name, refuse
from .const import DOMAIN
from .engine import AlarmState, Change, Finding, JournalEntry, Severity
from .engine.wire import encode_findings
from .place import area_name
from .site import Site, async_get_site

LONGEST: Final = timedelta(days=30)
"""Nothing is put aside for longer: what nobody wants to hear of needs another rule."""
SHELVED: Final = timedelta(hours=8)
MOST: Final = 10_000
"""Findings in one answer."""
STATES: Final = ("open", "active", "unacknowledged", "shelved", "all")

_PLACES: Final = ("points", "areas", "lines")
_NAMES = probatio.All(cv.ensure_list, [cv.string])
_WHICH: Final[dict[Any, Any]] = {
    probatio.Optional("points"): _NAMES,
    probatio.Optional("areas"): _NAMES,
    probatio.Optional("lines"): _NAMES,
    probatio.Optional("kinds"): _NAMES,
    probatio.Optional("severity", default=Severity.INFO.value): probatio.In([*map(str, Severity)]),
}
LISTED: Final[dict[Any, Any]] = {
    **_WHICH,
    probatio.Optional("state"): probatio.In(STATES),
    probatio.Optional("since"): cv.string,
    probatio.Optional("until"): cv.string,
    probatio.Optional("journal", default=False): cv.boolean,
}
_CHOSEN: Final[dict[Any, Any]] = {
    **_WHICH,
    probatio.Optional("alarms"): _NAMES,
    probatio.Optional("comment"): cv.string,
}
_SHELVE: Final = {**_CHOSEN, probatio.Optional("duration", default=SHELVED): cv.positive_time_period}


@callback
def async_setup(hass: HomeAssistant) -> None:
    """Registers actions, commands and the view."""
    for name, handler, schema, response in (
        ("list_alarms", list_alarms, LISTED, SupportsResponse.ONLY),
        ("acknowledge_alarms", acknowledge_alarms, _CHOSEN, SupportsResponse.OPTIONAL),
        ("shelve_alarms", shelve_alarms, _SHELVE, SupportsResponse.OPTIONAL),
        ("unshelve_alarms", unshelve_alarms, _CHOSEN, SupportsResponse.OPTIONAL),
    ):
        hass.services.async_register(DOMAIN, name, handler, probatio.Schema(schema), supports_response=response)
    for command in (ws_list, ws_subscribe):
        websocket_api.async_register_command(hass, command)
    hass.http.register_view(AlarmsView())


# --- which


async def _user(hass: HomeAssistant, context: Context) -> User | None:
    return None if context.user_id is None else await hass.auth.async_get_user(context.user_id)


def _sees(site: Site, scope: frozenset[str] | None, finding: Finding) -> bool:
    """Whether a scope allows to see a finding: that of a line with a point on it, that of the site with all points."""
    if scope is None:
        return True
    if finding.subject_kind == "line":
        return any(point.id in scope for point in site.registry.at_home(finding.subject))
    return finding.subject in scope


def _subjects(site: Site, asked: Mapping[str, Any]) -> frozenset[str] | None:
    """The subjects that points, areas and lines mean together; None for all."""
    if not any(asked.get(key) for key in _PLACES):
        return None
    found = {point.id for point in query.points_of(site, asked)}
    return frozenset({*found, *(line_by_name(site, text) or "" for text in asked.get("lines") or ())})


def _chosen(site: Site, asked: Mapping[str, Any]) -> Any:
    """A test for what is asked for, by subject, kind and severity."""
    subjects = _subjects(site, asked)
    ids = frozenset(asked["alarms"]) if asked.get("alarms") else None
    kinds = frozenset(asked.get("kinds") or site.alarms.rules.book.rules)
    if unknown := kinds - site.alarms.rules.book.rules.keys():
        raise refuse("unknown_alarm_kind", kind=min(unknown), some=", ".join(site.alarms.rules.book.rules))
    order = list(Severity)
    least = order.index(Severity(asked.get("severity", Severity.INFO)))

    def wanted(one: Finding) -> bool:
        return (
            (subjects is None or one.subject in subjects)
            and (ids is None or one.id in ids)
            and one.kind in kinds
            and order.index(one.severity) <= least
        )

    return wanted


def _in_state(state: str, one: Finding) -> bool:
    match state:
        case "active":
            return one.active
        case "unacknowledged":
            return one.state in (AlarmState.UNACKNOWLEDGED, AlarmState.RETURNED)
        case "shelved":
            return one.state is AlarmState.SHELVED
        case "open":
            return one.open
    return True


# --- listed


async def _listed(site: Site, asked: Mapping[str, Any], user: User | None) -> dict[str, Any]:
    """The alarms that are asked for: without a period what is open, the worst first; else all of it, oldest first.

    Of a period all states are meant unless one is named.
    """
    scope = None if user is None else access.scope(user)
    wanted = _chosen(site, asked)
    journal, period = asked.get("journal", False), any(asked.get(key) for key in ("since", "until"))
    state = asked.get("state", "all" if period else "open")
    entries: dict[str, list[JournalEntry]] = {}
    if state != "all" and not journal and not period:
        found: Iterable[Finding] = site.alarms.open
    else:
        zone = await query.async_zone(site)
        since, until = (query.instant_of(asked[key], zone) if asked.get(key) else None for key in ("since", "until"))
        records = await site.alarms.store.async_read(Asked(since, until, _subjects(site, asked)), journal=journal)
        found = records.findings.values()
        for entry in records.journal:
            entries.setdefault(entry.finding, []).append(entry)
    shown = [one for one in found if wanted(one) and _in_state(state, one) and _sees(site, scope, one)]
    if len(shown) > MOST:
        raise refuse("alarms_too_many", most=str(MOST))
    return {
        "alarms": [
            {
                **alarm_as_dict(site, one),
                **({"journal": [entry_as_dict(entry) for entry in entries.get(one.id, ())]} if journal else {}),
            }
            for one in shown
        ]
    }


@callback
def alarm_as_dict(site: Site, one: Finding) -> dict[str, Any]:
    """A finding as JSON values, with its text in the language of the house."""
    alarms = site.alarms
    point = site.registry.points.get(one.subject)
    line = site.registry.home(point) if point else one.subject if one.subject_kind == "line" else None
    entry = site.hass.config_entries.async_get_entry(line) if line else None
    return {
        "id": one.id,
        "kind": one.kind,
        "severity": one.severity.value,
        "state": one.state.value,
        "active": one.active,
        "subject_kind": one.subject_kind,
        "subject": one.subject,
        "name": alarms.words.name(one),
        "area": area_name(site.hass, point) if point else None,
        "line": entry.title if entry else None,
        "text": alarms.words.history(one),
        "value": one.value,
        "limit": one.limit,
        "extreme": one.extreme,
        "unit": one.unit,
        "phase": one.phase,
        "times": int(one.facts.get("times", 1)),
        "since": one.since.isoformat(),
        "until": one.until.isoformat() if one.until else None,
        "cause": one.cause,
        "acknowledged_at": one.acknowledged_at.isoformat() if one.acknowledged_at else None,
        "acknowledged_by": one.acknowledged_by,
        "shelved_until": one.shelved_until.isoformat() if one.shelved_until else None,
        "comment": one.comment,
        "link": alarms.words.link(one),
    }


def entry_as_dict(one: JournalEntry) -> dict[str, Any]:
    """What happened, as JSON values."""
    return {"at": one.at.isoformat(), "event": one.what.value, "by": one.by, "comment": one.comment}


async def list_alarms(call: ServiceCall) -> ServiceResponse:
    """What is wrong, or was; with who did what about it."""
    site = await async_get_site(call.hass)
    await access.async_check(call.hass, call.context, Operation.READ)
    return await _listed(site, call.data, await _user(call.hass, call.context))


# --- done about


async def _meant(call: ServiceCall) -> tuple[Site, list[str]]:
    """The open alarms that an action means; nothing is meant where nothing is said."""
    site = await async_get_site(call.hass)
    if not any(call.data.get(key) for key in ("alarms", "kinds", *_PLACES)):
        raise refuse("alarms_missing")
    user = await _user(call.hass, call.context)
    scope = None if user is None else access.scope(user)
    wanted = _chosen(site, call.data)
    found = [one for one in site.alarms.open if wanted(one) and _sees(site, scope, one)]
    if gone := set(call.data.get("alarms", ())) - {one.id for one in found}:
        raise refuse("unknown_alarm", alarm=min(gone))
    return site, [one.id for one in found]


def _done(site: Site, changed: list[Finding]) -> ServiceResponse:
    return {"alarms": [alarm_as_dict(site, one) for one in changed]}


async def acknowledge_alarms(call: ServiceCall) -> ServiceResponse:
    """Somebody has seen them."""
    actor = await access.async_check(call.hass, call.context, Operation.ACKNOWLEDGE)
    site, ids = await _meant(call)
    return _done(site, site.alarms.async_acknowledge(ids, actor, call.data.get("comment")))


async def shelve_alarms(call: ServiceCall) -> ServiceResponse:
    """They are put aside for some time."""
    actor = await access.async_check(call.hass, call.context, Operation.ACKNOWLEDGE)
    site, ids = await _meant(call)
    duration: timedelta = call.data["duration"]
    if not timedelta() < duration <= LONGEST:
        raise refuse("shelved_too_long", most=str(LONGEST.days))
    return _done(site, site.alarms.async_shelve(ids, dt_util.utcnow() + duration, actor, call.data.get("comment")))


async def unshelve_alarms(call: ServiceCall) -> ServiceResponse:
    """They are taken back."""
    actor = await access.async_check(call.hass, call.context, Operation.ACKNOWLEDGE)
    site, ids = await _meant(call)
    return _done(site, site.alarms.async_unshelve(ids, actor, call.data.get("comment")))


# --- for screens and programs


@websocket_command({probatio.Required("type"): f"{DOMAIN}/alarms/list", **LISTED})
@async_response
async def ws_list(hass: HomeAssistant, connection: ActiveConnection, msg: dict[str, Any]) -> None:
    """Alarms, as the action `list_alarms` answers."""
    access.check_user(connection.user, Operation.READ)
    site = await async_get_site(hass)
    connection.send_result(msg["id"], await _listed(site, msg, connection.user))


@websocket_command({probatio.Required("type"): f"{DOMAIN}/alarms/subscribe"})
@async_response
async def ws_subscribe(hass: HomeAssistant, connection: ActiveConnection, msg: dict[str, Any]) -> None:
    """What is open now, then everything that happens to alarms."""
    access.check_user(connection.user, Operation.READ)
    site = await async_get_site(hass)
    scope = access.scope(connection.user)

    @callback
    def changed(changes: list[Change]) -> None:
        told = [
            {
                **entry_as_dict(one.event),
                "notify": one.notify,
                "alarm": alarm_as_dict(site, one.finding),
            }
            for one in changes
            if _sees(site, scope, one.finding)
        ]
        if told:
            connection.send_message(event_message(msg["id"], {"changes": told}))

    connection.subscriptions[msg["id"]] = site.alarms.async_listen(changed)
    connection.send_result(msg["id"])
    there = [alarm_as_dict(site, one) for one in site.alarms.open if _sees(site, scope, one)]
    connection.send_message(event_message(msg["id"], {"alarms": there}))


class AlarmsView(HomeAssistantView):
    """Findings and their journal as a message of engine/wire.py, for archives and analysis."""

    url = f"/api/{DOMAIN}/alarms"
    name = f"api:{DOMAIN}:alarms"

    @answered
    async def get(self, request: web.Request) -> web.StreamResponse:
        """Of `points` (ids or names, several times or with commas), of what lasted from `since` up to `until`."""
        hass: HomeAssistant = request.app[KEY_HASS]
        site = await async_get_site(hass)
        user: User = request["hass_user"]
        access.check_user(user, Operation.READ)
        if strange := request.query.keys() - {"since", "until", "points"}:
            raise refuse("bad_field", field=min(strange))
        zone = await query.async_zone(site)
        since, until = (
            query.instant_of(request.query[key], zone) if request.query.get(key) else None for key in ("since", "until")
        )
        points = {find_point(site, text).id for text in _texts(site, request.query.getall("points", []))}
        records = await site.alarms.store.async_read(Asked(since, until, frozenset(points) or None), journal=True)
        scope = access.scope(user)
        findings = [one for one in records.findings.values() if _sees(site, scope, one)]
        shown = {one.id for one in findings}
        journal = [one for one in records.journal if one.finding in shown]
        # Ten years of them are some megabytes of JSON.
        message = await hass.async_add_executor_job(partial(encode_findings, findings, journal))
        return self.json(message)


def _texts(site: Site, texts: Iterable[str]) -> Iterable[str]:
    for text in texts:
        # A name may have a comma in it.
        yield from [text] if site.registry.find(text) else (one for one in text.split(",") if one.strip())
