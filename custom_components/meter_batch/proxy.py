"""The analytics server's pages under Home Assistant's own address: requests, answers and WebSockets passed through.

Only for who has a session, only to the server of our entry and only below `BASE`. The server is told who it is by a
signed header; nothing that is Home Assistant's (cookies, tokens) goes there, and no cookie comes back.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from html import escape
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote

from aiohttp import (
    ClientError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    ClientWebSocketResponse,
    DummyCookieJar,
    WSCloseCode,
    WSMsgType,
    WSServerHandshakeError,
    hdrs,
    web,
)
from homeassistant.auth.models import User
from homeassistant.const import CONF_TOKEN, CONF_URL
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import translation
from homeassistant.helpers.aiohttp_client import async_create_clientsession
from homeassistant.helpers.http import KEY_HASS, HomeAssistantView
from homeassistant.helpers.singleton import singleton
from homeassistant.util.hass_dict import HassKey
from multidict import CIMultiDict
from yarl import URL

from .analytics import BASE, AnalyticsEntry, analytics_entry
from .analytics_session import HEADER, LANGUAGES, Sessions, Visit, identity, sessions, signed
from .const import DOMAIN

_LOGGER = logging.getLogger(__name__)

MOST_BODY: Final = 16 << 20
MOST_MESSAGE: Final = 64 << 20
HEARTBEAT_S: Final = 30
LOOK_S: Final = 60
"""So often it is looked whether the session of an open WebSocket is still good."""

_TIMEOUT = ClientTimeout(total=None, sock_connect=5, sock_read=600)
_HOP_BY_HOP = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
        "transfer-encoding", "upgrade", "expect",
    }
)  # fmt: skip
"""RFC 9110, 7.6.1: of one connection, not of the message."""
_NOT_TO_SERVER = _HOP_BY_HOP | {
    "authorization", "cookie", "forwarded", "host", "origin", "referer", "x-forwarded-for", "x-forwarded-host",
    "x-forwarded-proto", "x-real-ip",
}  # fmt: skip
"""Home Assistant's own, and what is said anew. The origin is checked here: the server need not know ours."""
_NOT_TO_BROWSER = _HOP_BY_HOP | {"set-cookie", "server", "date", "access-control-allow-origin"}
_OURS = "x-meter-batch-"
_WEBSOCKET = "sec-websocket-"
_HTTP: HassKey[ClientSession] = HassKey(f"{DOMAIN}_analytics_http")


@callback
def async_setup(hass: HomeAssistant) -> None:
    """Registers the view."""
    hass.http.register_view(ProxyView(sessions(hass)))


@singleton(_HTTP)
def _http(hass: HomeAssistant) -> ClientSession:
    # No jar, so that nobody gets another's cookies; bodies as they are, so that nothing is packed twice.
    return async_create_clientsession(hass, cookie_jar=DummyCookieJar(), auto_decompress=False)


class ProxyView(HomeAssistantView):
    """All that is below `BASE`."""

    url = BASE + "/{path:.*}"
    name = f"api:{DOMAIN}:analytics"
    requires_auth = False  # by the cookie, below

    def __init__(self, sessions_: Sessions) -> None:
        self._sessions = sessions_
        self.extra_urls = [BASE]

    async def _handle(self, request: web.Request, path: str | None = None) -> web.StreamResponse:
        hass = request.app[KEY_HASS]
        if (found := self._sessions.async_find(request)) is None:
            return await _page(hass, request, HTTPStatus.UNAUTHORIZED, "analytics_page_session", script=_ASK_PANEL)
        visit, user = found
        if not _same_origin(request):
            return await _page(hass, request, HTTPStatus.FORBIDDEN, "analytics_page_origin")
        if path is None:
            raise web.HTTPPermanentRedirect(f"{BASE}/")
        if (entry := analytics_entry(hass)) is None or entry.disabled_by is not None:
            return await _page(hass, request, HTTPStatus.NOT_FOUND, "analytics_page_none")
        if (target := _target(entry.data[CONF_URL], request)) is None:
            return await _page(hass, request, HTTPStatus.NOT_FOUND, "analytics_page_path")
        headers = _to_server(request, entry, visit, user)
        try:
            if _is_websocket(request):
                return await self._pass_websocket(hass, request, target, headers, visit)
            return await _pass_request(hass, request, target, headers)
        except (ClientError, TimeoutError, OSError) as error:
            _LOGGER.debug("The analytics server does not answer %s: %s", request.path, error)
        return await _page(hass, request, HTTPStatus.BAD_GATEWAY, "analytics_page_away", again_s=5)

    get = post = put = patch = delete = head = _handle

    async def _pass_websocket(
        self, hass: HomeAssistant, request: web.Request, target: URL, headers: CIMultiDict[str], visit: Visit
    ) -> web.StreamResponse:
        offered = request.headers.get(hdrs.SEC_WEBSOCKET_PROTOCOL, "").split(",")
        try:
            upstream = await _http(hass).ws_connect(
                target,
                headers=headers,
                protocols=[one.strip() for one in offered if one.strip()],
                max_msg_size=MOST_MESSAGE,
                heartbeat=HEARTBEAT_S,
                autoclose=False,
            )
        except WSServerHandshakeError as error:
            # It does not want to: so it is told, in its own number.
            status = error.status if error.status >= HTTPStatus.BAD_REQUEST else HTTPStatus.BAD_GATEWAY
            return web.Response(status=status)
        async with upstream:
            downstream = web.WebSocketResponse(
                protocols=[upstream.protocol] if upstream.protocol else (),
                max_msg_size=MOST_MESSAGE,
                heartbeat=HEARTBEAT_S,
                autoclose=False,
                compress=False,
            )
            await downstream.prepare(request)
            await self._pump(request, downstream, upstream, visit)
        return downstream

    async def _pump(
        self, request: web.Request, downstream: web.WebSocketResponse, upstream: ClientWebSocketResponse, visit: Visit
    ) -> None:
        """Passes messages both ways until one side closes, which the other is told, or the session ends."""
        over = asyncio.Event()
        visit.at_end.add(over.set)
        up = asyncio.create_task(_forward(downstream, upstream, lambda: self._sessions.async_touch(visit)))
        down = asyncio.create_task(_forward(upstream, downstream, lambda: None))
        ended = asyncio.create_task(over.wait())
        code, reason = int(WSCloseCode.GOING_AWAY), b""
        try:
            while not (closed := [task for task in (up, down) if task.done()]):
                if ended.done() or self._sessions.async_user(visit, request) is None:
                    code = int(WSCloseCode.POLICY_VIOLATION)
                    break
                await asyncio.wait({up, down, ended}, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
            else:
                code, reason = closed[0].result()
        finally:
            visit.at_end.discard(over.set)
            for task in (up, down, ended):
                task.cancel()
            await asyncio.gather(up, down, ended, return_exceptions=True)
            for side in (downstream, upstream):
                with suppress(ConnectionError, RuntimeError, ClientError):
                    await side.close(code=code, message=reason)


type Side = web.WebSocketResponse | ClientWebSocketResponse


async def _forward(source: Side, sink: Side, touch: Callable[[], None]) -> tuple[int, bytes]:
    """Passes messages on, each only when the one before has left; how the source closed."""
    try:
        while True:
            message = await source.receive()
            if message.type is WSMsgType.TEXT:
                await sink.send_str(message.data)
            elif message.type is WSMsgType.BINARY:
                await sink.send_bytes(message.data)
            elif message.type is WSMsgType.CLOSE:
                return _close_code(message.data), str(message.extra or "").encode()[:120]
            else:
                return int(WSCloseCode.GOING_AWAY), b""
            touch()
    except ConnectionError, RuntimeError, ClientError:
        return int(WSCloseCode.GOING_AWAY), b""


def _close_code(code: object) -> int:
    # 1004 to 1006 and 1015 never stand in a message (RFC 6455, 7.4.1).
    good = isinstance(code, int) and (code in {1000, 1001, 1002, 1003} or 1007 <= code <= 1014 or 3000 <= code <= 4999)
    return code if good and isinstance(code, int) else int(WSCloseCode.OK)


async def _pass_request(
    hass: HomeAssistant, request: web.Request, target: URL, headers: CIMultiDict[str]
) -> web.StreamResponse:
    body = _Body(request)
    try:
        async with _http(hass).request(
            request.method,
            target,
            headers=headers,
            data=aiter(body) if request.body_exists else None,
            allow_redirects=False,
            timeout=_TIMEOUT,
            skip_auto_headers=(hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.CONTENT_TYPE, hdrs.USER_AGENT),
        ) as answer:
            return await _pass_answer(request, answer, target)
    except ClientError, OSError:
        if not body.too_large:
            raise
    return await _page(hass, request, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "analytics_page_large")


async def _pass_answer(request: web.Request, answer: ClientResponse, target: URL) -> web.StreamResponse:
    response = web.StreamResponse(
        status=answer.status, reason=answer.reason, headers=_to_browser(answer.headers, target)
    )
    await response.prepare(request)
    try:
        async for chunk in answer.content.iter_any():
            await response.write(chunk)
        await response.write_eof()
    except (ClientError, TimeoutError, OSError) as error:
        # The answer has begun: it is broken off, so that nobody takes it for the whole.
        _LOGGER.debug("%s was broken off: %s", request.path, error)
        if request.transport is not None:
            request.transport.abort()
    return response


class _Body:
    """What the browser sends, as it comes, up to a size."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self.too_large = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        taken = 0
        async for chunk in self._request.content.iter_any():
            taken += len(chunk)
            if taken > MOST_BODY:
                self.too_large = True
                raise ConnectionAbortedError
            yield chunk


def _target(origin: str, request: web.Request) -> URL | None:
    """Where a request goes: its own path at the server's address; None for one that could lead out of `BASE`."""
    raw = request.rel_url.raw_path
    plain, before = raw, ""
    while plain != before:
        plain, before = unquote(plain), plain
    parts = plain.split("/")
    if not raw.startswith(f"{BASE}/") or "\\" in plain or not plain.isprintable() or {".", ".."} & set(parts):
        return None
    query = request.rel_url.raw_query_string
    return URL(f"{origin}{raw}{'?' if query else ''}{query}", encoded=True)


def _same_origin(request: web.Request) -> bool:
    """False where a page of another origin asks: SameSite keeps other sites out, but not other ports of this one."""
    if (site := request.headers.get("Sec-Fetch-Site")) is not None:
        return site in {"same-origin", "none"}
    # Browsers that do not say so name the origin with all that changes something and with each WebSocket.
    origin = request.headers.get(hdrs.ORIGIN)
    return origin is None or origin.partition("://")[2] == request.host


def _is_websocket(request: web.Request) -> bool:
    upgrades = "upgrade" in request.headers.get(hdrs.CONNECTION, "").lower()
    return upgrades and request.headers.get(hdrs.UPGRADE, "").lower() == "websocket"


def _connection_headers(headers: Any) -> set[str]:
    return {one.strip().lower() for one in headers.get(hdrs.CONNECTION, "").split(",")}


def _to_server(request: web.Request, entry: AnalyticsEntry, visit: Visit, user: User) -> CIMultiDict[str]:
    dropped = _NOT_TO_SERVER | _connection_headers(request.headers)
    headers: CIMultiDict[str] = CIMultiDict(
        (name, value)
        for name, value in request.headers.items()
        # Other servers read an underline as a hyphen.
        if name.lower() not in dropped and not name.lower().replace("_", "-").startswith((_OURS, _WEBSOCKET))
    )
    headers[HEADER] = signed(identity(user, visit.language), entry.data[CONF_TOKEN], time.time())
    headers["X-Forwarded-For"] = request.remote or ""
    headers["X-Forwarded-Host"] = request.host
    headers["X-Forwarded-Proto"] = request.scheme
    return headers


def _to_browser(headers: Any, target: URL) -> CIMultiDict[str]:
    dropped = _NOT_TO_BROWSER | _connection_headers(headers)
    found: CIMultiDict[str] = CIMultiDict(
        (name, value) for name, value in headers.items() if name.lower() not in dropped
    )
    if (location := found.get(hdrs.LOCATION)) is not None:
        url = target.join(URL(location))
        if url.origin() == target.origin():
            found[hdrs.LOCATION] = str(url.relative())
    return _guarded(found)


def _guarded(headers: CIMultiDict[str]) -> CIMultiDict[str]:
    # A second policy narrows the first. Home Assistant adds its own headers after a stream has begun, too late.
    headers.add("Content-Security-Policy", "frame-ancestors 'self'")
    headers["X-Frame-Options"] = "SAMEORIGIN"
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "no-referrer"
    return headers


_ASK_PANEL = 'parent.postMessage({type: "meter-batch-session"}, location.origin)'
"""The panel that holds the frame gets another session and loads it again."""

_PAGE = """<!doctype html>
<html lang="{language}"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">{again}
<title>Meter Batch</title><style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.5 system-ui, "Noto Sans", "Noto Sans CJK SC", sans-serif; margin: 15vh auto; max-width: 34rem; padding: 0 1.5rem }}
p + p {{ opacity: .75 }}
</style></head><body>{words}{script}</body></html>
"""  # noqa: E501  # one declaration a line


async def _page(
    hass: HomeAssistant,
    request: web.Request,
    status: HTTPStatus,
    key: str,
    *,
    again_s: int | None = None,
    script: str = "",
) -> web.Response:
    """A page in both languages, for it is not known who reads it; the one the browser likes better comes first."""
    chinese_first = request.headers.get(hdrs.ACCEPT_LANGUAGE, "").lower().startswith("zh")
    languages = LANGUAGES[::-1] if chinese_first else LANGUAGES
    words = ""
    for language in languages:
        texts = await translation.async_get_translations(hass, language, "exceptions", {DOMAIN})
        text = texts[f"component.{DOMAIN}.exceptions.{key}.message"]
        words += f'<p lang="{language}">{escape(text)}</p>'
    page = _PAGE.format(
        language=languages[0],
        words=words,
        again="" if again_s is None else f'<meta http-equiv="refresh" content="{again_s}">',
        script=f"<script>{script}</script>" if script else "",
    )
    headers = _guarded(CIMultiDict({hdrs.CACHE_CONTROL: "no-store"}))
    if again_s is not None:
        headers[hdrs.RETRY_AFTER] = str(again_s)
    return web.Response(text=page, content_type="text/html", status=status, headers=headers)
