"""Signing in at the server's own address, with Home Assistant as the OAuth provider; and asking it again and again."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from jupyter_server.auth.decorator import allow_unauthenticated
from tornado.httpclient import AsyncHTTPClient, HTTPClientError
from tornado.web import HTTPError

from meter_batch_engine.errors import ConfigError, MeterBatchError

from ..session import Identity
from .access import COOKIE, Signed
from .identity import HEADER, SignedIn, SignIns
from .pool import KernelPool
from .settings import BASE, Settings

_LOGGER = logging.getLogger(__name__)

STATE = "meter_batch_state"
STATE_DAYS = 1 / 96
CALLBACK = f"{BASE}/oauth/callback"
TIMEOUT_S = 15.0


class Refused(MeterBatchError):
    """Home Assistant says no."""


class Away(MeterBatchError):
    """Home Assistant does not answer now."""


class OldHomeAssistant(MeterBatchError):
    """Home Assistant does not know what is asked for."""


class Provider:
    """Home Assistant as it answers about people."""

    def __init__(self, url: str, sign_in: str | None) -> None:
        self._url, self._sign_in = url.rstrip("/"), (sign_in or url).rstrip("/")

    def authorize(self, origin: str, state: str) -> str:
        """The address at which a person allows it."""
        query = {
            "response_type": "code", "client_id": f"{origin}/", "redirect_uri": f"{origin}{CALLBACK}", "state": state
        }  # fmt: skip
        return f"{self._sign_in}/auth/authorize?{urlencode(query)}"

    async def exchange(self, code: str, origin: str) -> tuple[Identity, str]:
        """Who it is, and a token to ask again with."""
        body = {"grant_type": "authorization_code", "code": code, "client_id": f"{origin}/"}
        answer = await self._ask("/auth/token", body=body)
        return await self._whoami(answer), str(answer.get("refresh_token") or "")

    async def again(self, refresh_token: str, client: str) -> Identity:
        """Who it is now. Refused where the person or their token is no more."""
        body = {"grant_type": "refresh_token", "refresh_token": refresh_token, "client_id": client}
        return await self._whoami(await self._ask("/auth/token", body=body))

    async def revoke(self, refresh_token: str) -> None:
        """The token counts no longer."""
        await self._ask("/auth/revoke", body={"token": refresh_token}, empty=True)

    async def _whoami(self, answer: Mapping[str, Any]) -> Identity:
        token = answer.get("access_token")
        if not isinstance(token, str):
            raise Refused("Home Assistant gave no token")
        found = await self._ask("/api/meter_batch/whoami", token=token)
        try:
            return Identity.from_dict(found)
        except ConfigError as error:
            raise OldHomeAssistant("whoami answered something else") from error

    async def _ask(
        self, path: str, *, body: Mapping[str, str] | None = None, token: str | None = None, empty: bool = False
    ) -> dict[str, Any]:
        headers = {"User-Agent": "meter-batch-analytics"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        try:
            response = await AsyncHTTPClient().fetch(
                self._url + path,
                method="GET" if body is None else "POST",
                headers=headers,
                body=None if body is None else urlencode(body),
                request_timeout=TIMEOUT_S,
                follow_redirects=False,
            )
            found = {} if empty else json.loads(response.body)
        except HTTPClientError as error:
            if error.code == 404:
                raise OldHomeAssistant(f"{path}: HTTP 404") from error
            if 400 <= error.code < 500:
                raise Refused(f"{path}: HTTP {error.code}") from error
            raise Away(f"{path}: {error}") from error
        except ValueError as error:
            raise Away(f"{path}: no JSON") from error
        except OSError as error:
            raise Away(f"{path}: {error}") from error
        if not isinstance(found, dict):
            raise Away(f"{path}: no object")
        return found


class SignInHandler(Signed):
    """What the three have in common."""

    def initialize(self, settings: Settings, provider: Provider, sign_ins: SignIns) -> None:
        """The server's settings, Home Assistant, and who is signed in."""
        self.ours, self.provider, self.sign_ins = settings, provider, sign_ins

    @property
    def origin(self) -> str:
        """Our own address as the browser knows it."""
        return self.ours.address or f"{self.request.protocol}://{self.request.host}"

    def failed(self, status: int, key: str) -> None:
        """Ends with what went wrong, and a way to try again."""
        self.say(status, key, title_key="sign_in_title", link=(f"{BASE}/login", "again"))

    @property
    def cookie(self) -> dict[str, Any]:
        """How our cookies are set."""
        return {"httponly": True, "samesite": "Lax", "secure": self.origin.startswith("https"), "path": BASE}


class Login(SignInHandler):
    """Sends to Home Assistant."""

    @allow_unauthenticated
    def get(self) -> None:
        """Remembers in a cookie where the person wanted to go, and that it was begun here."""
        wanted = self.get_query_argument("next", f"{BASE}/")
        if HEADER in self.request.headers:
            raise HTTPError(404)
        state = secrets.token_urlsafe(24)
        kept = json.dumps({"state": state, "next": wanted if _inside(wanted) else f"{BASE}/"})
        self.set_signed_cookie(STATE, kept, expires_days=STATE_DAYS, **self.cookie)
        self.set_header("Cache-Control", "no-store")
        self.redirect(self.provider.authorize(self.origin, state))


class Callback(SignInHandler):
    """Comes back from Home Assistant."""

    @allow_unauthenticated
    async def get(self) -> None:
        """Only for who began it in this browser."""
        cookie = self.get_signed_cookie(STATE, max_age_days=STATE_DAYS)
        self.clear_cookie(STATE, path=BASE)
        kept = {} if cookie is None else json.loads(cookie)
        code, state = (self.get_query_argument(name, "") for name in ("code", "state"))
        if not state or not secrets.compare_digest(str(kept.get("state", "")).encode(), state.encode()):
            return self.failed(400, "sign_in_state")
        if not code:
            return self.failed(403, "sign_in_refused")
        try:
            identity, refresh = await self.provider.exchange(code, self.origin)
        except Refused as error:
            _LOGGER.warning("A sign-in was refused: %s", error)
            return self.failed(403, "sign_in_refused")
        except OldHomeAssistant as error:
            _LOGGER.warning("Nobody can sign in: %s", error)
            return self.failed(502, "sign_in_old")
        except Away as error:
            _LOGGER.warning("Nobody can sign in: %s", error)
            return self.failed(503, "sign_in_away")
        id_ = self.sign_ins.add(identity, refresh, f"{self.origin}/")
        self.set_signed_cookie(COOKIE, id_, expires_days=None, **self.cookie)
        self.redirect(str(kept["next"]))
        return None


class Logout(SignInHandler):
    """Ends a session and its kernels."""

    @allow_unauthenticated
    async def get(self) -> None:
        """Home Assistant's token is given back."""
        cookie = self.get_signed_cookie(COOKIE, max_age_days=1)
        self.clear_cookie(COOKIE, path=BASE)
        ended = None if cookie is None else self.sign_ins.remove(cookie.decode())
        if ended is not None:
            await end(ended, self.provider, self.pool, self.sign_ins)
        self.say(200, "signed_out", title_key="title", link=(f"{BASE}/login", "again"))


async def end(one: SignedIn, provider: Provider, pool: KernelPool, sign_ins: SignIns) -> None:
    """What is left to do once a session is over."""
    if one.identity.user not in sign_ins.users():
        await pool.end_of(one.identity.user)
    if one.refresh_token:
        try:
            await provider.revoke(one.refresh_token)
        except MeterBatchError as error:
            _LOGGER.info("A token was not given back: %s", error)


async def check(provider: Provider, pool: KernelPool, sign_ins: SignIns) -> None:
    """Ends what is over, and asks Home Assistant about those that are due: who is refused is out at once."""
    for kernel_id, owned in list(pool.owners.items()):
        if kernel_id in pool and pool.idle_s(kernel_id) < 60:
            sign_ins.touch(owned.identity.user)
    for one in sign_ins.over():
        await end(one, provider, pool, sign_ins)
    await asyncio.gather(*(_again(id_, one, provider, pool, sign_ins) for id_, one in sign_ins.due()))


async def _again(id_: str, one: SignedIn, provider: Provider, pool: KernelPool, sign_ins: SignIns) -> None:
    try:
        identity = await provider.again(one.refresh_token, one.client)
    except Refused:
        if (ended := sign_ins.remove(id_)) is not None:
            _LOGGER.info("%s is no longer let in by Home Assistant", one.identity.name)
            await end(ended, provider, pool, sign_ins)
    except Away, OldHomeAssistant:
        sign_ins.confirm(id_, None)
    else:
        if (identity.user, identity.scope) != (one.identity.user, one.identity.scope):
            await pool.end_of(one.identity.user)
        sign_ins.confirm(id_, identity)


def _inside(address: str) -> bool:
    """Whether it is one of our own pages, so that nobody is led elsewhere after signing in."""
    return address.startswith(f"{BASE}/") and "//" not in address and "\\" not in address and address.isprintable()
