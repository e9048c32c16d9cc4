"""The API for other programs, over HTTP with Home Assistant's tokens: registry, history, changes for subscribers.

Each view asks access.py first. What goes wrong is JSON: `error`, a key, and `message`, in the language of the house.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing
from functools import partial
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Concatenate

from aiohttp import web
from homeassistant.auth.models import User
from homeassistant.core import HomeAssistant, callback
from homeassistant.exceptions import ServiceValidationError, Unauthorized
from homeassistant.helpers.dispatcher import async_dispatcher_send
from homeassistant.helpers.http import KEY_HASS, HomeAssistantView

from . import access
from .access import Operation
from .commands import refuse
from .const import DOMAIN, STATISTICS
from .engine import ConfigError, LedgerError, Sentence
from .engine.ledger import Ledger, Verdict
from .engine.model.day import country_of
from .engine.model.interval import Interval
from .engine.model.point import Point
from .engine.wire import RegistrySnapshot, encode_changes, encode_registry
from .export import WRITERS, Writer
from .place import area_name
from .query import FIELDS, LISTS, Query, async_parse, async_pieces
from .site import Site, async_get_site
from .wording import async_in_words, async_message

_LOGGER = logging.getLogger(__name__)

MOST_CHANGES = 10_000
NAME_MOST = 64

type Handler[V] = Callable[Concatenate[V, web.Request, ...], Awaitable[web.StreamResponse]]


@callback
def async_setup(hass: HomeAssistant) -> None:
    """Registers the views."""
    for view in (RegistryView, ChangesView, AcknowledgeView, HistoryView, VerifyView):
        hass.http.register_view(view())


def progress_signal(export: str) -> str:
    """By which an export tells how far it is: a share, and at the end None."""
    return f"{DOMAIN}_export_{export}"


def answered[V: HomeAssistantView](handler: Handler[V]) -> Handler[V]:
    """Errors of a handler as JSON with the status that says whose they are."""

    async def handle(view: V, request: web.Request, **parts: str) -> web.StreamResponse:
        hass = request.app[KEY_HASS]
        try:
            return await handler(view, request, **parts)
        except Unauthorized:
            key, status = "not_allowed", HTTPStatus.FORBIDDEN
            text = await async_message(hass, key)
        except ServiceValidationError as error:
            key = error.translation_key or "refused"
            status = HTTPStatus.NOT_FOUND if key in NOT_FOUND else HTTPStatus.BAD_REQUEST
            text = await async_message(hass, key, **(error.translation_placeholders or {}))
        except LedgerError as error:
            key = error.text.key if isinstance(error.text, Sentence) else "ledger"
            status = LEDGER_STATUS.get(key, HTTPStatus.SERVICE_UNAVAILABLE)
            text = await async_in_words(hass, error.text)
        return view.json({"error": key, "message": text}, status)

    return handle


NOT_FOUND = frozenset({"unknown_point", "unknown_area", "unknown_line", "unknown_report"})
LEDGER_STATUS = {
    "ledger_no_subscriber": HTTPStatus.NOT_FOUND,
    "ledger_no_point": HTTPStatus.NOT_FOUND,
    "ledger_bad_acknowledgement": HTTPStatus.BAD_REQUEST,
}


def user_of(request: web.Request) -> User:
    """Who asks."""
    user: User = request["hass_user"]
    return user


def asked_for(request: web.Request) -> dict[str, list[str]]:
    """Which points, areas and lines the address of a request names, as `query.points_of` takes them."""
    return {key: request.query.getall(key) for key in ("points", "areas", "lines") if key in request.query}


async def body_of(request: web.Request) -> dict[str, Any]:
    """What was sent, where it is a JSON object; else refused in words."""
    try:
        body = await request.json()
    except ValueError as error:
        raise refuse("no_json") from error
    if not isinstance(body, dict):
        raise refuse("no_json")
    return body


def _subscriber(name: object) -> str:
    if not isinstance(name, str) or not name.strip() or len(name) > NAME_MOST:
        raise refuse("subscriber_missing", most=str(NAME_MOST))
    if name.strip() == STATISTICS:
        raise refuse("subscriber_ours", name=STATISTICS)
    return name.strip()


class RegistryView(HomeAssistantView):
    """Points, names of areas and lines, time zone."""

    url = f"/api/{DOMAIN}/registry"
    name = f"api:{DOMAIN}:registry"

    @answered
    async def get(self, request: web.Request) -> web.StreamResponse:
        """The registry as a message of engine/wire.py."""
        site = await async_get_site(request.app[KEY_HASS])
        points = site.registry.points
        access.check_user(user_of(request), Operation.READ, points)
        return self.json(encode_registry(snapshot(site)))


@callback
def snapshot(site: Site) -> RegistrySnapshot:
    """The registry now."""
    points, zone = site.registry.points, site.registry.time_zone or site.hass.config.time_zone
    areas = {id_: area_name(site.hass, point) for id_, point in points.items()}
    return RegistrySnapshot(
        points,
        {id_: area for id_, area in areas.items() if area},
        {line.id: line.title for line in site.known().lines.values()},
        zone,
        site.ledger.health.revision,
        country_of(zone, site.hass.config.country),
        site.hass.config.location_name or None,
    )


class ChangesView(HomeAssistantView):
    """What a subscriber has not acknowledged."""

    url = f"/api/{DOMAIN}/changes"
    name = f"api:{DOMAIN}:changes"

    @answered
    async def get(self, request: web.Request) -> web.StreamResponse:
        """Subscribes on first use; asked again without acknowledging, it says the same or newer."""
        access.check_user(user_of(request), Operation.SUBSCRIBE)
        name = _subscriber(request.query.get("subscriber"))
        text = request.query.get("limit", str(MOST_CHANGES))
        if not text.isdecimal() or not 1 <= int(text) <= MOST_CHANGES:
            raise refuse("bad_limit", most=str(MOST_CHANGES))
        limit = int(text)

        def work(ledger: Ledger) -> dict[str, Any]:
            ledger.subscribe(name)
            return encode_changes(ledger.changes(name, limit=limit))

        site = await async_get_site(request.app[KEY_HASS])
        return self.json(await site.ledger.async_call(work))

    @answered
    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Nobody waits for it any more, so nothing is kept for it."""
        access.check_user(user_of(request), Operation.SUBSCRIBE)
        name = _subscriber(request.query.get("subscriber"))
        site = await async_get_site(request.app[KEY_HASS])
        await site.ledger.async_call(lambda ledger: ledger.unsubscribe(name))
        return self.json({"subscriber": name})


class AcknowledgeView(HomeAssistantView):
    """What a subscriber has safely."""

    url = f"/api/{DOMAIN}/acknowledge"
    name = f"api:{DOMAIN}:acknowledge"

    @answered
    async def post(self, request: web.Request) -> web.StreamResponse:
        """Takes `subscriber`, `revision` and `cursor` as the changes had them (there: `up_to`)."""
        access.check_user(user_of(request), Operation.SUBSCRIBE)
        body = await body_of(request)
        name = _subscriber(body.get("subscriber"))
        revision, cursor = body.get("revision"), body.get("cursor")
        if not isinstance(revision, int) or not isinstance(cursor, str | None):
            raise refuse("bad_acknowledgement")
        site = await async_get_site(request.app[KEY_HASS])
        try:
            await site.ledger.async_call(lambda ledger: ledger.acknowledge(name, revision, cursor))
        except ConfigError as error:
            raise refuse("bad_acknowledgement") from error
        return self.json({"subscriber": name, "revision": revision, "cursor": cursor})


class VerifyView(HomeAssistantView):
    """Proof that the ledger is whole."""

    url = f"/api/{DOMAIN}/verify"
    name = f"api:{DOMAIN}:verify"

    @answered
    async def post(self, request: web.Request) -> web.StreamResponse:
        """Reads a whole copy of the file, which may take minutes; the answer is the verdict."""
        access.check_user(user_of(request), Operation.SUBSCRIBE)
        hass = request.app[KEY_HASS]
        site = await async_get_site(hass)
        folder = await hass.async_add_executor_job(
            partial(TemporaryDirectory, prefix=f"{DOMAIN}-", ignore_cleanup_errors=True)
        )
        try:
            copy = Path(folder.name) / site.ledger.path.name
            await site.ledger.async_call(lambda ledger: ledger.copy_to(copy))
            # The ledger's own thread is free again: live registers do not wait for the proof.
            verdict = await hass.async_add_executor_job(_verified, copy)
        finally:
            await hass.async_add_executor_job(folder.cleanup)
        return self.json(verdict.as_dict())


def _verified(copy: Path) -> Verdict:
    with Ledger(copy) as ledger:
        return ledger.verify()


class HistoryView(HomeAssistantView):
    """History as a file, in the format `format`, streamed; the other fields are those of a query."""

    url = f"/api/{DOMAIN}/history"
    name = f"api:{DOMAIN}:history"

    @answered
    async def get(self, request: web.Request) -> web.StreamResponse:
        """Lists are parameters given several times, or with commas."""
        site = await async_get_site(request.app[KEY_HASS])
        asked: dict[str, Any] = {
            key: list(_listed(site, request.query.getall(key))) if key in LISTS else request.query[key]
            for key in request.query
            if key not in _BESIDE
        }
        _check(asked)
        return await _export(site, request, asked, request.query.get("format", "json"))

    @answered
    async def post(self, request: web.Request) -> web.StreamResponse:
        """The same from a JSON body, for queries that are too long for an address."""
        site = await async_get_site(request.app[KEY_HASS])
        body = await body_of(request)
        asked = {key: value for key, value in body.items() if key != "format"}
        _check(asked)
        return await _export(site, request, asked, str(body.get("format", "json")))


_FIELDS = frozenset(key.schema for key in FIELDS)
_BESIDE = frozenset({"format", "export", "authSig"})
"""What else stands in the address of an export; the last is Home Assistant's signature."""


def _check(asked: Mapping[str, Any]) -> None:
    """A field that is not known would be taken for one that was not given."""
    for key, value in asked.items():
        if key in LISTS:
            good = isinstance(value, list) and all(isinstance(one, str) for one in value)
        else:
            good = key in _FIELDS and isinstance(value, str)
        if not good:
            raise refuse("bad_field", field=key)


def _listed(site: Site, texts: Iterable[str]) -> Iterable[str]:
    for text in texts:
        # A name may have a comma in it.
        yield from [text] if site.registry.find(text) else (one for one in text.split(",") if one.strip())


async def _export(site: Site, request: web.Request, asked: dict[str, Any], form: str) -> web.StreamResponse:
    if (kind := WRITERS.get(form)) is None:
        raise refuse("unknown_format", format=form, some=", ".join(WRITERS))
    query = await async_parse(site, asked)
    access.check_user(user_of(request), Operation.READ, (point.id for point in query.points))
    hass = site.hass
    signal = progress_signal(request.query.get("export", ""))
    async with aclosing(async_pieces(site, query)) as pieces:
        first = await anext(pieces, None)  # what fails, fails before the answer has begun
        writer = await hass.async_add_executor_job(kind, query)
        response = web.StreamResponse(headers=_headers(query, writer, form))
        response.enable_compression()
        try:
            await response.prepare(request)
            await response.write(writer.head())
            async for point, found, done in _with(first, pieces):
                if data := await hass.async_add_executor_job(writer.rows, point, found):
                    await response.write(data)
                async_dispatcher_send(hass, signal, done)
            rest = writer.end()
            while (last := await hass.async_add_executor_job(_next, rest)) is not None:
                await response.write(last)
            await response.write_eof()
        except LedgerError as error:
            # The answer has begun: it is broken off, so that nobody takes it for the whole.
            _LOGGER.warning("An export was broken off: %s", error.text)
            if request.transport is not None:
                request.transport.abort()
        finally:
            await hass.async_add_executor_job(writer.close)
            async_dispatcher_send(hass, signal, None)
    return response


def _next(pieces: Iterator[bytes]) -> bytes | None:
    return next(pieces, None)


type Piece = tuple[Point, list[Interval], float]


async def _with(first: Piece | None, pieces: AsyncIterator[Piece]) -> AsyncIterator[Piece]:
    if first is not None:
        yield first
    async for piece in pieces:
        yield piece


def _headers(query: Query, writer: Writer, form: str) -> dict[str, str]:
    begin, end = (query.local(at).date().isoformat() for at in (query.since, query.until))
    ending = "ndjson" if form == "wire" else form
    return {
        "Content-Type": writer.media_type,
        "Content-Disposition": f'attachment; filename="history_{begin}_{end}_{query.resolution}.{ending}"',
        "X-Total": str(query.most_rows),
        "Cache-Control": "no-store",
    }
