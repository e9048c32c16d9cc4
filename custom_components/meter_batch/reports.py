"""Reports of the analytics server in Home Assistant: made on request, told of when ready, their files for who may see.

Who asks for a report gets what they may see of the site; who opens one must see every point that it shows.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from http import HTTPStatus
from typing import Any, Final, Self, override
from urllib.parse import quote

import probatio
from aiohttp import ClientError, hdrs, web
from homeassistant.auth.models import User
from homeassistant.components.event import EventEntity
from homeassistant.components.http.auth import async_sign_path
from homeassistant.core import HomeAssistant, ServiceCall, ServiceResponse, callback
from homeassistant.exceptions import Unauthorized
from homeassistant.helpers import config_validation as cv
from homeassistant.helpers.dispatcher import async_dispatcher_connect, async_dispatcher_send
from homeassistant.helpers.http import KEY_HASS, HomeAssistantView
from homeassistant.util import dt as dt_util

from . import access
from .access import Operation
from .analytics import Analytics, Report, ServerProblem, analytics, analytics_entry, reason_of, told_to
from .analytics_session import LANGUAGES, language_of
from .api import answered
from .commands import find_point, line_by_name, refuse
from .const import ANALYTICS, DOMAIN
from .site import Site, async_get_site
from .wording import async_message

_LOGGER = logging.getLogger(__name__)

EVENT: Final = f"{DOMAIN}_report"
READY, FAILED = "ready", "failed"
KINDS: Final = ("daily", "monthly")
FORMATS: Final = ("pdf", "xlsx", "html")
REPORT_FAILED: Final = "report_failed"
"""The kind of finding that a failed report is."""
FILES: Final = f"/api/{DOMAIN}/reports"
GOOD_FOR: Final = timedelta(days=1)
"""So long an address of a file can be opened."""
LOOK_S = 1.0
WAIT_S = 15 * 60.0

_TEXTS = probatio.All(cv.ensure_list, [cv.string])

GENERATE_REPORT = probatio.Schema(
    {
        probatio.Required("report"): probatio.In(KINDS),
        probatio.Optional("period"): cv.string,
        probatio.Optional("points"): _TEXTS,
        probatio.Optional("areas"): _TEXTS,
        probatio.Optional("lines"): _TEXTS,
        probatio.Optional("formats", default=["pdf"]): probatio.All(cv.ensure_list, [probatio.In(FORMATS)]),
        probatio.Optional("language"): probatio.In(LANGUAGES),
        probatio.Optional("tariff"): cv.string,
    }
)


def last_period(kind: str, today: date) -> str:
    """The last whole day or month."""
    if kind == "daily":
        return (today - timedelta(days=1)).isoformat()
    return (today.replace(day=1) - timedelta(days=1)).strftime("%Y-%m")


async def generate_report(call: ServiceCall) -> ServiceResponse:
    """A report of a period, made now; waits until its files are there."""
    hass, data = call.hass, call.data
    site = await async_get_site(hass)
    points = [find_point(site, text).id for text in data.get("points", ())]
    for name in data.get("lines", ()):
        line_by_name(site, name)
    actor = await access.async_check(hass, call.context, Operation.READ, points or None)
    user = await hass.auth.async_get_user(actor.id) if actor.id else None
    scope = access.scope(user) if user else None
    if scope is not None and not scope.issuperset(points):
        raise Unauthorized(context=call.context, user_id=actor.id, permission=Operation.READ)
    if not data["formats"]:
        raise refuse("report_no_formats", formats=", ".join(FORMATS))
    today = dt_util.now(site.time_zone).date()
    job: dict[str, Any] = {
        "kind": "report",
        "report": data["report"],
        "period": data.get("period") or last_period(data["report"], today),
        "formats": list(dict.fromkeys(data["formats"])),
        "language": data.get("language") or language_of(hass.config.language),
        "scope": None if scope is None else sorted(scope),
        "by": actor.name,
        **({"points": points} if points else {}),
        **{key: data[key] for key in ("areas", "lines", "tariff") if data.get(key)},
    }
    try:
        report = await _made(analytics(hass), job)
    except ServerProblem as problem:
        said = told_to(problem, user)
        raise refuse(said.key, **said.placeholders) from problem
    return as_answer(hass, report)


async def _made(server: Analytics, job: Mapping[str, Any]) -> Report:
    id_ = await server.client.async_submit(job)
    try:
        async with asyncio.timeout(WAIT_S):
            while True:
                state = await server.client.async_job(id_)
                if state.get("state") in {"done", "failed"}:
                    break
                await asyncio.sleep(LOOK_S)
    except TimeoutError as error:
        raise refuse("report_takes_long", minutes=str(round(WAIT_S / 60))) from error
    if state["state"] == "failed":
        raise refuse("report_failed", reason=str(state.get("error") or "?"))
    await server.async_fresh()
    found = state.get("report")
    report = server.report(str(found["id"] if isinstance(found, dict) else found))
    if report is None:
        raise refuse("report_gone")
    return report


@callback
def as_answer(hass: HomeAssistant, report: Report) -> dict[str, Any]:
    """A report as actions and events show it. The addresses of files can be opened for a day by who asked."""
    files = [_file(hass, report, one.name) for one in report.files]
    # By this Home Assistant's own page for actions offers to open the first file.
    first = {"media_source_id": files[0]["media_content_id"]} if files else {}
    return {**_facts(report), "files": files, **first}


def _facts(report: Report) -> dict[str, Any]:
    return {
        "id": report.id,
        "report": report.kind,
        "period": report.period,
        "title": report.title,
        "language": report.language,
        "made_at": report.made_at,
        "schedule": report.schedule,
        "by": report.by,
        "completeness": report.completeness,
        "facts": dict(report.facts),
    }


@callback
def _file(hass: HomeAssistant, report: Report, name: str) -> dict[str, Any]:
    found = next(one for one in report.files if one.name == name)
    return {
        "name": found.name,
        "format": found.format,
        "size": found.size,
        "url": async_sign_path(hass, file_path(report, name), GOOD_FOR),
        "media_content_id": f"media-source://{DOMAIN}/{report.kind}/{report.period}/{report.id}/{name}",
    }


def file_path(report: Report, name: str) -> str:
    """Where a file is served, without a signature."""
    return f"{FILES}/{report.id}/{name}"


def may_see(user: User | None, report: Report) -> bool:
    """True of who sees every point that the report shows, and of the system."""
    return user is None or access.sees(user, report.points)


@dataclass(frozen=True, slots=True)
class ReportEvent:
    """What became of a report."""

    event: str
    kind: str
    period: str
    report: Report | None = None
    schedule: str | None = None
    reason: str | None = None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """As the server tells it; LookupError, TypeError and ValueError where it is none."""
        if data["event"] == f"report_{READY}":
            report = Report.from_dict(data["report"])
            return cls(READY, report.kind, report.period, report, report.schedule)
        if data["event"] != f"report_{FAILED}":
            raise ValueError(data["event"])
        schedule = data.get("schedule")
        return cls(
            FAILED,
            str(data["kind"]),
            str(data["period"]),
            schedule=None if schedule is None else str(schedule),
            reason=str(data["reason"]),
        )

    def as_dict(self) -> dict[str, Any]:
        """As automations see it. No address of a file: who may open one is another question."""
        told = {"report": self.kind, "period": self.period, "schedule": self.schedule}
        if self.report is None:
            return {**told, "reason": self.reason}
        files = [
            {"name": one.name, "format": one.format, "path": file_path(self.report, one.name)}
            for one in self.report.files
        ]
        return {**told, "id": self.report.id, "title": self.report.title, "files": files}


SIGNAL: Final = f"{DOMAIN}_report_told"


async def async_tell(hass: HomeAssistant, told: ReportEvent) -> None:
    """Tells automations, the entity, and, of what failed, the alarms."""
    entry = analytics_entry(hass)
    if told.event == READY and entry is not None:
        try:
            await analytics(hass).async_fresh()
        except ServerProblem:
            _LOGGER.debug("A report is ready while its server is away")
    hass.bus.async_fire(EVENT, {"event": told.event, **told.as_dict()})
    async_dispatcher_send(hass, SIGNAL, told)
    await _async_alarm(await async_get_site(hass), told)


async def _async_alarm(site: Site, told: ReportEvent) -> None:
    if told.schedule is None:
        return  # who asked for one by hand was told; of what a schedule could not make nobody would know
    if told.event == FAILED:
        facts = {"schedule": told.schedule, "kind": told.kind, "period": told.period, "reason": told.reason or ""}
        site.alarms.async_raise(REPORT_FAILED, facts, part=told.schedule)
    else:
        site.alarms.async_clear(REPORT_FAILED, part=told.schedule)


@callback
def async_follow_schedules(site: Site, said: Mapping[str, Any]) -> None:
    """Ends alarms of schedules that are no more, by what the server says of itself; not where it is unsure."""
    schedules = said.get("schedules")
    if isinstance(schedules, list) and not said.get("problems"):
        names = {str(one.get("name")) for one in schedules if isinstance(one, dict)}
        site.alarms.async_clear_others(REPORT_FAILED, names)


class Reports(EventEntity):
    """The last report that was made or failed."""

    _attr_has_entity_name = True
    _attr_should_poll = False
    _attr_translation_key = "reports"
    _unrecorded_attributes = frozenset({"files"})

    def __init__(self, server: Analytics) -> None:
        self._attr_unique_id = f"{DOMAIN}_{ANALYTICS}_reports"
        self._attr_event_types = [READY, FAILED]
        self._attr_device_info = server.device

    @override
    async def async_added_to_hass(self) -> None:
        self.async_on_remove(async_dispatcher_connect(self.hass, SIGNAL, self._told))

    @callback
    def _told(self, told: ReportEvent) -> None:
        self._trigger_event(told.event, told.as_dict())
        self.async_write_ha_state()


def report_entities(server: Analytics) -> list[EventEntity]:
    """The entities of the analytics server."""
    return [Reports(server)]


class FileView(HomeAssistantView):
    """The files of reports, for who has a token or a signed address, and sees the points."""

    url = FILES + "/{report}/{name}"
    name = f"api:{DOMAIN}:reports"

    @answered
    async def get(self, request: web.Request, report: str, name: str) -> web.StreamResponse:
        """Streams it from the server."""
        hass = request.app[KEY_HASS]
        user: User = request["hass_user"]
        access.check_user(user, Operation.READ)
        try:
            server = analytics(hass)
        except ServerProblem as problem:
            return await self._away(hass, told_to(problem, user))
        found = server.report(report)
        # Who may not see it is not told that it is there.
        if found is None or not may_see(user, found) or name not in {one.name for one in found.files}:
            raise refuse("unknown_report")
        try:
            async with server.client.file(report, name) as answer:
                if answer.status != HTTPStatus.OK:
                    raise refuse("unknown_report")
                response = web.StreamResponse(headers=_headers(name, answer.content_length))
                await response.prepare(request)
                try:
                    async for chunk in answer.content.iter_any():
                        await response.write(chunk)
                    await response.write_eof()
                except ClientError, TimeoutError, OSError:
                    # It has begun: it is broken off, so that nobody takes it for the whole.
                    if request.transport is not None:
                        request.transport.abort()
                return response
        except (ClientError, TimeoutError, OSError) as error:
            away = ServerProblem("analytics_unreachable", url=server.client.url, reason=reason_of(error))
            return await self._away(hass, told_to(away, user))

    async def _away(self, hass: HomeAssistant, problem: ServerProblem) -> web.StreamResponse:
        text = await async_message(hass, problem.key, **problem.placeholders)
        return self.json({"error": problem.key, "message": text}, HTTPStatus.BAD_GATEWAY)


MIME: Final = {
    "pdf": "application/pdf",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "html": "text/html",
}


def mime_of(name: str) -> str:
    """The media type of a file by its ending."""
    return MIME.get(name.rsplit(".", 1)[-1].lower(), "application/octet-stream")


def _headers(name: str, size: int | None) -> dict[str, str]:
    shown = name.endswith(".pdf")
    headers = {
        hdrs.CONTENT_TYPE: mime_of(name),
        hdrs.CONTENT_DISPOSITION: f"{'inline' if shown else 'attachment'}; filename*=UTF-8''{quote(name)}",
        hdrs.CACHE_CONTROL: "private, no-store",
        "X-Content-Type-Options": "nosniff",
    }
    if not shown:
        # Should a browser show a page after all, it does nothing in Home Assistant's own origin.
        headers["Content-Security-Policy"] = "sandbox"
    if size is not None:
        headers[hdrs.CONTENT_LENGTH] = str(size)
    return headers
