"""The analytics server as Home Assistant sees it: what it says of itself, its reports, and whether it is there.

It runs elsewhere, makes itself known, and answers below `BASE` to a token of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Final, Self, override

from aiohttp import ClientConnectorError, ClientError, ClientResponse, ClientSession, ClientTimeout, hdrs
from homeassistant.auth.models import User
from homeassistant.config_entries import ConfigEntry, ConfigEntryState
from homeassistant.const import CONF_TOKEN, CONF_URL
from homeassistant.core import HomeAssistant, callback
from homeassistant.exceptions import ConfigEntryAuthFailed, HomeAssistantError
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.aiohttp_client import async_get_clientsession
from homeassistant.helpers.device_registry import DeviceEntryType, DeviceInfo
from homeassistant.helpers.update_coordinator import DataUpdateCoordinator, UpdateFailed
from homeassistant.util import dt as dt_util
from homeassistant.util.hass_dict import HassKey
from yarl import URL

from .const import ANALYTICS, DOMAIN, MANUFACTURER
from .link import is_line

_LOGGER = logging.getLogger(__name__)

BASE: Final = f"/api/{DOMAIN}/analytics"
"""Below this everything of the server is: at its own address and at Home Assistant's."""
LOOKS: Final = timedelta(seconds=30)
REPORTS_EVERY: Final = 20
"""With every so many looks the list of reports is read, too: who changes it tells us."""
AWAY_LONG: Final = timedelta(minutes=15)
"""Away for longer than this it is worth a repair."""
ISSUE_AWAY: Final = "analytics_away"
_APPS: HassKey[tuple[App, ...]] = HassKey(f"{DOMAIN}_analytics_apps")
"""Its pages, as it said last."""
_AWAY: HassKey[datetime] = HassKey(f"{DOMAIN}_analytics_away")
_QUICK = ClientTimeout(total=10, sock_connect=5)
_FILE = ClientTimeout(total=None, sock_connect=5, sock_read=60)

type AnalyticsEntry = ConfigEntry[Analytics]


class ServerProblem(HomeAssistantError):
    """Why the server gave no answer, as a message of the translations."""

    def __init__(self, key: str, **placeholders: str) -> None:
        super().__init__(translation_domain=DOMAIN, translation_key=key, translation_placeholders=placeholders)
        self.key, self.placeholders = key, placeholders


class ServerAway(ServerProblem):
    """It does not answer, or something else does."""


class TokenRefused(ServerProblem):
    """It answers, but not to this token."""


def told_to(problem: ServerProblem, user: User | None) -> ServerProblem:
    """A problem as this user may read it: addresses and what the network said are for administrators."""
    if isinstance(problem, Refused) or not problem.placeholders or user is None or user.is_admin:
        return problem
    return ServerProblem("analytics_unusable")


class Refused(ServerProblem):
    """It says in words why it does not do what was asked."""


@dataclass(frozen=True, slots=True)
class App:
    """A page of the server: its path below `BASE`, and its name in each language."""

    key: str
    path: str
    icon: str
    name: Mapping[str, str]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """From the status; LookupError, TypeError and ValueError where it is none."""
        names = {str(language): str(name) for language, name in data["name"].items()}
        path = str(data["path"]).removeprefix(BASE).strip("/")
        return cls(str(data["key"]), path, str(data.get("icon") or "mdi:chart-line"), names)

    def as_dict(self) -> dict[str, Any]:
        """For the panel."""
        return {"key": self.key, "path": f"{BASE}/{self.path}", "icon": self.icon, "name": dict(self.name)}


@dataclass(frozen=True, slots=True)
class ReportFile:
    """One form of a report."""

    name: str
    format: str
    size: int


@dataclass(frozen=True, slots=True)
class Report:
    """A finished report. `points`: the ids of those it shows; None where it shows all."""

    id: str
    kind: str
    period: str
    title: str
    language: str
    made_at: str
    points: frozenset[str] | None
    files: tuple[ReportFile, ...]
    schedule: str | None = None
    by: str | None = None
    completeness: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """As the server lists it; LookupError, TypeError and ValueError where it is none."""
        points = data["points"]
        if points is not None and (isinstance(points, str) or not all(isinstance(one, str) for one in points)):
            raise ValueError("points")
        files = tuple(ReportFile(str(one["name"]), str(one["format"]), int(one["size"])) for one in data["files"])
        if any("/" in one.name or one.name.startswith(".") for one in files):
            raise ValueError("files")
        share = data.get("completeness")
        return cls(
            id=str(data["id"]),
            kind=str(data["kind"]),
            period=str(data["period"]),
            title=str(data.get("title") or data["id"]),
            language=str(data.get("language") or ""),
            made_at=str(data.get("made_at") or ""),
            points=None if points is None else frozenset(points),
            files=files,
            schedule=_text(data.get("schedule")),
            by=_text(data.get("by")),
            completeness=float(share) if isinstance(share, int | float) else None,
            facts=dict(data.get("facts") or {}),
        )


def _made(report: Report) -> float:
    at = dt_util.parse_datetime(report.made_at)
    return 0.0 if at is None else dt_util.as_utc(at).timestamp()


def _text(value: object) -> str | None:
    return None if value is None else str(value)


@dataclass(frozen=True, slots=True)
class Status:
    """What the server says of itself, and its finished reports, newest first."""

    version: str
    apps: tuple[App, ...]
    said: Mapping[str, Any]
    reports: tuple[Report, ...] = ()


def reason_of(error: BaseException) -> str:
    """Why a connection failed, as the system calls it."""
    # aiohttp says a lot around it.
    cause = error.os_error if isinstance(error, ClientConnectorError) else error
    return getattr(cause, "strerror", None) or str(cause) or type(cause).__name__


def origin_of(text: str) -> str:
    """The server's address, without what is below it. ValueError for what is no address of a server."""
    url = URL(text.strip())
    fits = url.scheme in {"http", "https"} and url.host and not url.query_string and url.user is None
    if not fits or url.path.rstrip("/") not in {"", BASE}:
        raise ValueError(text)
    return str(url.origin())


class Client:
    """Asks one server. ServerAway, TokenRefused and Refused where it gives no answer."""

    def __init__(self, session: ClientSession, url: str, token: str) -> None:
        self._session, self.url, self._token = session, url, token

    async def async_status(self) -> Status:
        """What it is and which pages it has."""
        said = await self._json("GET", "status")
        try:
            return Status(str(said["version"]), tuple(App.from_dict(one) for one in said["apps"]), said)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise ServerAway("analytics_not_ours", url=self.url) from error

    async def async_reports(self) -> tuple[Report, ...]:
        """Its finished reports, newest first; what is no whole report is left out."""
        listed = await self._json("GET", "reports")
        found = []
        for one in listed if isinstance(listed, list) else ():
            try:
                found.append(Report.from_dict(one))
            except LookupError, TypeError, ValueError, AttributeError:
                _LOGGER.warning("The analytics server lists a report that is none: %s", one)
        return tuple(sorted(found, key=_made, reverse=True))

    async def async_submit(self, job: Mapping[str, Any]) -> str:
        """Begins a job; its id."""
        return str((await self._json("POST", "jobs", job))["id"])

    async def async_job(self, id_: str) -> Mapping[str, Any]:
        """How far a job is."""
        found: Mapping[str, Any] = await self._json("GET", f"jobs/{id_}")
        return found

    def file(self, report: str, name: str) -> AbstractAsyncContextManager[ClientResponse]:
        """A file of a report, as the answer that streams it."""
        url = URL(self.url) / BASE.lstrip("/") / "reports" / report / name
        return self._session.get(url, headers=self._headers, timeout=_FILE, allow_redirects=False)

    @property
    def _headers(self) -> dict[str, str]:
        return {hdrs.AUTHORIZATION: f"Bearer {self._token}"}

    async def _json(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        try:
            async with self._session.request(
                method,
                f"{self.url}{BASE}/{path}",
                json=body,
                headers=self._headers,
                timeout=_QUICK,
                allow_redirects=False,
            ) as answer:
                if answer.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
                    raise TokenRefused("analytics_refused", url=self.url)
                data = await answer.json() if answer.content_type == "application/json" else None
        except (ClientError, TimeoutError, OSError) as error:
            raise ServerAway("analytics_unreachable", url=self.url, reason=reason_of(error)) from error
        except ValueError as error:
            raise ServerAway("analytics_not_ours", url=self.url) from error
        if answer.ok and data is not None:
            return data
        if isinstance(data, dict) and data.get("message"):
            raise Refused("analytics_says", message=str(data["message"]))
        raise ServerAway("analytics_not_ours", url=self.url)


class Analytics(DataUpdateCoordinator[Status]):
    """Looks at the server every half minute; `runtime_data` of its entry."""

    config_entry: AnalyticsEntry

    def __init__(self, hass: HomeAssistant, entry: AnalyticsEntry) -> None:
        super().__init__(
            hass, _LOGGER, config_entry=entry, name="Analytics server", update_interval=LOOKS, always_update=False
        )
        self.client = client_of(hass, entry)
        self._looks = 0

    async def async_fresh(self) -> None:
        """Looks now, and at the list of reports, too."""
        self._looks = 0
        await self.async_refresh()

    @override
    async def _async_update_data(self) -> Status:
        try:
            status = await self.client.async_status()
            reports = self.data.reports if self._looks else await self.client.async_reports()
        except TokenRefused as problem:
            raise ConfigEntryAuthFailed(
                translation_domain=DOMAIN,
                translation_key=problem.key,
                translation_placeholders=problem.placeholders,
            ) from problem
        except ServerProblem as problem:
            async_note_away(self.hass, self.client.url)
            raise UpdateFailed(
                translation_domain=DOMAIN,
                translation_key=problem.key,
                translation_placeholders=problem.placeholders,
            ) from problem
        async_note_apps(self.hass, status.apps)
        self._looks = (self._looks + 1) % REPORTS_EVERY
        async_note_back(self.hass)
        return Status(status.version, status.apps, status.said, reports)

    def report(self, id_: str) -> Report | None:
        """A finished report."""
        return next((one for one in self.data.reports if one.id == id_), None)

    @property
    def device(self) -> DeviceInfo:
        """The server as a device."""
        return DeviceInfo(
            identifiers={(DOMAIN, ANALYTICS)},
            name=self.config_entry.title,
            manufacturer=MANUFACTURER,
            entry_type=DeviceEntryType.SERVICE,
            sw_version=self.data.version,
        )


def client_of(hass: HomeAssistant, entry: ConfigEntry[Any]) -> Client:
    """A client for the server of this entry."""
    return Client(async_get_clientsession(hass), entry.data[CONF_URL], entry.data[CONF_TOKEN])


@callback
def analytics_entry(hass: HomeAssistant) -> AnalyticsEntry | None:
    """The entry of the analytics server, running or not."""
    return next((one for one in hass.config_entries.async_entries(DOMAIN) if not is_line(one)), None)


@callback
def analytics(hass: HomeAssistant) -> Analytics:
    """The server that runs. ServerAway where there is none, or it does not answer at present."""
    entry = analytics_entry(hass)
    if entry is None:
        raise ServerAway("analytics_none")
    if entry.state is not ConfigEntryState.LOADED:
        raise ServerAway("analytics_not_running", url=entry.data[CONF_URL])
    return entry.runtime_data


@callback
def async_note_apps(hass: HomeAssistant, apps: tuple[App, ...]) -> None:
    """Its pages are these; they stay known while it is away."""
    hass.data[_APPS] = apps


@callback
def known_apps(hass: HomeAssistant) -> tuple[App, ...]:
    """Its pages, as it said last."""
    return hass.data.get(_APPS, ())


@callback
def async_note_away(hass: HomeAssistant, url: str) -> None:
    """It does not answer; when that lasts, it is worth a repair."""
    since = hass.data.setdefault(_AWAY, dt_util.utcnow())
    if dt_util.utcnow() - since < AWAY_LONG:
        return
    ir.async_create_issue(
        hass,
        DOMAIN,
        ISSUE_AWAY,
        is_fixable=False,
        severity=ir.IssueSeverity.WARNING,
        translation_key="analytics_away",
        translation_placeholders={"url": url, "since": dt_util.as_local(since).strftime("%Y-%m-%d %H:%M")},
    )


@callback
def async_note_back(hass: HomeAssistant) -> None:
    """It answers, or nobody waits for it any more."""
    hass.data.pop(_AWAY, None)
    ir.async_delete_issue(hass, DOMAIN, ISSUE_AWAY)
