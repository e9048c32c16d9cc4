"""Who may pass to the analytics server, and how it is told who they are.

A frame sends no token, only a cookie. Whoever is signed in asks for its value over the WebSocket; it is good below
`BASE` only, as long as that sign-in lasts and somebody is there, and nobody passes without.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web
from homeassistant.auth.models import User
from homeassistant.components.frontend.storage import async_user_store
from homeassistant.components.http.auth_util import async_user_not_allowed_do_auth
from homeassistant.const import EVENT_HOMEASSISTANT_STOP
from homeassistant.core import CALLBACK_TYPE, Event, HomeAssistant, callback
from homeassistant.helpers.singleton import singleton
from homeassistant.util.hass_dict import HassKey

from . import access
from .const import DOMAIN

COOKIE: Final = f"{DOMAIN}_analytics"
HEADER: Final = "X-Meter-Batch-Identity"
IDLE_S: Final = 30 * 60
"""A session that nobody used for so long is over."""
RENEW_S: Final = 5 * 60
"""The panel renews its session this often while it is open."""
SIGNED_S: Final = 60
"""So long the server may believe a signed identity."""
MOST_SESSIONS: Final = 1_000

LANGUAGES: Final = ("en", "zh-Hans")


def language_of(text: str | None) -> str:
    """One of the languages we have for one that was asked for."""
    tag = (text or "").lower().split("-")
    return LANGUAGES[1] if tag[0] == "zh" and not {"hant", "tw", "hk", "mo"} & set(tag) else LANGUAGES[0]


async def async_language(hass: HomeAssistant, user: User) -> str:
    """The language somebody chose, else that of the house."""
    chosen = (await async_user_store(hass, user.id)).data.get("language")
    language = chosen.get("language") if isinstance(chosen, dict) else None
    return language_of(language or hass.config.language)


def identity(user: User, language: str) -> dict[str, Any]:
    """Who somebody is, as the server wants to know it."""
    scope = access.scope(user)
    return {
        "user": user.id,
        "name": user.name or user.id,
        "admin": user.is_admin,
        "language": language,
        "scope": None if scope is None else sorted(scope),
    }


def signed(who: dict[str, Any], token: str, now: float) -> str:
    """The value of the header: an identity that only who has the server's token could write, good for a minute."""
    said = json.dumps({**who, "exp": int(now) + SIGNED_S}, ensure_ascii=False, separators=(",", ":"))
    payload = _base64(said.encode())
    return f"{payload}.{_base64(hmac.digest(token.encode(), payload.encode(), hashlib.sha256))}"


def _base64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass(slots=True)
class Visit:
    """One session: of one sign-in of one user."""

    id: str
    refresh_token: str
    language: str
    used: float
    forget: CALLBACK_TYPE
    at_end: set[Callable[[], None]] = field(default_factory=set)
    """Called when it ends before they do: open WebSockets."""


class Sessions:
    """The sessions there are. They live in memory: after a restart the panel asks for another one."""

    def __init__(self, hass: HomeAssistant, clock: Callable[[], float] = time.monotonic) -> None:
        self._hass, self._clock = hass, clock
        self._visits: dict[str, Visit] = {}

    @callback
    def async_open(self, refresh_token: str, language: str, known: str | None = None) -> str:
        """A session of this sign-in: the known one again where it is its own and still good, else another one."""
        now = self._clock()
        visit = self._visits.get(known or "")
        if visit is not None and visit.refresh_token == refresh_token and now - visit.used < IDLE_S:
            visit.used, visit.language = now, language
            return visit.id
        self._sweep(now)
        id_ = secrets.token_urlsafe(32)
        forget = self._hass.auth.async_register_revoke_token_callback(refresh_token, lambda: self._close(id_))
        self._visits[id_] = Visit(id_, refresh_token, language, now, forget)
        return id_

    @callback
    def async_find(self, request: web.Request) -> tuple[Visit, User] | None:
        """The session of a request and whose it is; None where it has none that is good."""
        visit = self._visits.get(request.cookies.get(COOKIE, ""))
        if visit is None or (user := self.async_user(visit, request)) is None:
            return None
        visit.used = self._clock()
        return visit, user

    @callback
    def async_user(self, visit: Visit, request: web.Request) -> User | None:
        """Whose session it is, looked up anew; None, and the session is over, where it is no longer good."""
        token = self._hass.auth.async_get_refresh_token(visit.refresh_token)
        idle = self._clock() - visit.used >= IDLE_S
        if (
            idle
            or visit.id not in self._visits
            or token is None
            or async_user_not_allowed_do_auth(self._hass, token.user, request)
        ):
            self.async_end(visit.id)
            return None
        return token.user

    @callback
    def async_touch(self, visit: Visit) -> None:
        """Somebody uses it."""
        visit.used = self._clock()

    @callback
    def async_end(self, id_: str) -> None:
        """Ends a session and what is open in it."""
        if (visit := self._visits.get(id_)) is not None:
            visit.forget()
            self._close(id_)

    def _close(self, id_: str) -> None:
        # Alone where the sign-in was revoked: Home Assistant goes through what waits for that, and forgets it itself.
        if (visit := self._visits.pop(id_, None)) is not None:
            for end in list(visit.at_end):
                end()

    @callback
    def async_end_all(self) -> None:
        """Ends all of them."""
        for id_ in list(self._visits):
            self.async_end(id_)

    def _sweep(self, now: float) -> None:
        idle = [id_ for id_, visit in self._visits.items() if now - visit.used >= IDLE_S]
        by_use = sorted(self._visits, key=lambda id_: self._visits[id_].used)
        for id_ in {*idle, *by_use[: max(0, len(by_use) - MOST_SESSIONS + 1)]}:
            self.async_end(id_)


SESSIONS: HassKey[Sessions] = HassKey(f"{DOMAIN}_analytics_sessions")


@singleton(SESSIONS)
def sessions(hass: HomeAssistant) -> Sessions:
    """The sessions of this Home Assistant."""
    made = Sessions(hass)

    @callback
    def stop(_event: Event) -> None:
        made.async_end_all()

    hass.bus.async_listen_once(EVENT_HOMEASSISTANT_STOP, stop)
    return made
