"""The handlers for people: apps, their kernels, static files, the start page and reports."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from jupyter_server.auth.decorator import allow_unauthenticated
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from jupyter_server.services.kernels.handlers import KernelHandler
from tornado.iostream import StreamClosedError
from tornado.web import HTTPError, StaticFileHandler, authenticated
from voila.tornado.kernel_websocket_handler import VoilaKernelWebsocketHandler

from ..errors import ReportError
from ..report.store import ReportStore
from . import screens
from .access import Answers, Signed
from .notebook import Page, message_html, words_for
from .pool import Busy, KernelPool, Place
from .settings import BASE, REPORTS, Settings

_LOGGER = logging.getLogger(__name__)

BUSY_S, EMPTY_S = 10, 30
"""After so many seconds a page tries again."""
KERNEL = r"(?P<kernel_id>\w+-\w+-\w+-\w+-\w+)"
SECURITY = {
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self' ws: wss:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'self'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


class AppHandler(Signed):
    """A notebook as an app."""

    def initialize(self, settings: Settings, voila: Any) -> None:
        """The server's settings, and Voila's."""
        self.ours, self.voila = settings, voila

    @authenticated
    async def get(self, key: str) -> None:
        """The page, piece by piece: the first before there is a kernel."""
        notebook = self.ours.notebooks / f"{key}.ipynb"
        identity = self.identity
        if key not in screens.apps() or not notebook.is_file() or identity is None:
            raise HTTPError(404)
        if not (self.ours.archive_folder / "manifest.json").exists():
            return self.say(503, "empty", refresh_s=EMPTY_S)
        pool = self.pool
        try:
            place = await pool.reserve(identity, self.request.query, self.language)
        except Busy:
            return self.say(503, "busy", refresh_s=BUSY_S, limit=pool.limit)
        try:
            await self._render(pool, place, key, notebook)
        finally:
            pool.give_back(place)
        return None

    async def _render(self, pool: KernelPool, place: Place, key: str, notebook: Path) -> None:
        say = screens.words(self.language)
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Cache-Control", "no-store")
        page = Page(
            pool, place, say,
            voila_configuration=self.voila.voila_configuration, traitlet_config=self.voila.config,
            notebook_path=notebook.name, template_paths=self.voila.template_paths,
            config_manager=self.config_manager, contents_manager=self.contents_manager, base_url=self.base_url,
            kernel_spec_manager=self.kernel_spec_manager, page_config={},
        )  # fmt: skip
        try:
            await page.initialize(theme=self.theme or "light")
            page.resources.update(
                language=self.language, title=screens.apps()[key][self.language], plotly=plotly_address(),
                apps=self._tabs(key),
            )  # fmt: skip
            async for html, _ in page.generate_content_generator(None, None):
                self.write(html)
                await self.flush()
        except StreamClosedError:
            # Nobody waits for it any more.
            await self._drop(pool, place)
        except Exception as error:  # this is the top of a page; it is not broken off
            _LOGGER.exception("The page %s failed", key)
            await self._drop(pool, place)
            text = say("no_kernel") if place.kernel is None else words_for(say, type(error).__name__, str(error))
            with contextlib.suppress(StreamClosedError):
                await self.finish(message_html(text))

    def _tabs(self, key: str) -> list[dict[str, Any]]:
        """The other apps, in the same language and theme."""
        kept = {name: value for name, value in (("lang", self.language), ("theme", self.theme)) if value}
        return [
            {
                "name": screens.apps()[one][self.language],
                "path": f"{BASE}/apps/{one}?{urlencode(kept)}",
                "active": one == key,
            }
            for one in shown_apps(self.ours)
        ]

    @staticmethod
    async def _drop(pool: KernelPool, place: Place) -> None:
        if place.kernel is not None and place.kernel in pool:
            await pool.shutdown_kernel(place.kernel, now=True)


class Connection(ZMQChannelsWebsocketConnection):
    """A page's way to its kernel. What a callback raised is logged; the page gets a sentence."""

    def _on_error(self, channel: str, msg: Any, msg_list: Any) -> None:
        if channel != "iopub":
            return
        msg["header"] = self.get_part("header", msg["header"], msg_list)  # type: ignore[no-untyped-call]
        if msg["header"]["msg_type"] != "error":
            return
        content: Mapping[str, Any] = self.get_part("content", msg["content"], msg_list)  # type: ignore[no-untyped-call]
        _LOGGER.error("A callback raised:\n%s", "\n".join(content.get("traceback", [])))
        owned = self.multi_kernel_manager.owners.get(self.kernel_id)
        say = screens.words("en" if owned is None else owned.language)
        text = words_for(say, str(content.get("ename")), str(content.get("evalue")))
        msg["content"] = {"ename": "", "evalue": text, "traceback": []}
        if self.subprotocol == "v1.kernel.websocket.jupyter.org":
            msg_list[3] = self.session.pack(msg["content"])


class Channels(Answers, VoilaKernelWebsocketHandler):  # type: ignore[misc]
    """The WebSocket of a kernel, for its owner."""

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        """None where the page went while it was being connected."""
        return None if self.connection is None else super().select_subprotocol(subprotocols)

    async def open(self, kernel_id: str) -> None:
        """Connects it, if the page is still there."""
        if self.connection is None:
            self.close()
        else:
            await super().open(kernel_id)

    def write_message(self, message: bytes | str | dict[str, Any], binary: bool = False) -> Any:
        """What a program prints stays here."""
        if _type_of(message) in ("stream", "execute_input"):
            return None
        # Not Voila's own: it takes bytes of the old protocol for those of the new, and counts to 2**60 in our loop.
        return super(VoilaKernelWebsocketHandler, self).write_message(message, binary)


def _type_of(message: Any) -> str | None:
    """The type of a message on its way to the page, in either protocol."""
    try:
        if isinstance(message, bytes):
            count = int.from_bytes(message[:8], "little")
            first, second = (int.from_bytes(message[8 * (place + 1) : 8 * (place + 2)], "little") for place in (1, 2))
            header = json.loads(message[first:second]) if count > 2 else {}
        else:
            header = (json.loads(message) if isinstance(message, str) else message).get("header") or {}
    except ValueError, AttributeError:
        return None
    found = header.get("msg_type")
    return found if isinstance(found, str) else None


class KernelModel(Answers, KernelHandler):
    """What is to be said of a kernel, for its owner."""


class Shutdown(Signed):
    """A page was closed: its kernel ends. Browsers send this without any header of ours."""

    @authenticated
    async def post(self, kernel_id: str) -> None:
        """For its owner; one that is gone already is fine."""
        if not self.authorizer.is_authorized(self, self.current_user, "write", "kernels"):
            raise HTTPError(403)
        await self.pool.shutdown_kernel(kernel_id, now=True)
        self.set_status(204)


class Static(StaticFileHandler):
    """Code and styles: the same for everybody, so nobody is asked who they are."""

    def set_extra_headers(self, path: str) -> None:
        """The address of a version is kept for good, all others are asked for again."""
        self.set_header("X-Content-Type-Options", "nosniff")
        kept = "max-age=31536000, immutable" if self.get_query_argument("v", None) else "no-cache"
        self.set_header("Cache-Control", kept)

    def write_error(self, status_code: int, **_: Any) -> None:
        """No words: no person reads it."""
        self.set_status(status_code)
        self.finish()


@lru_cache(maxsize=1)
def plotly_folder() -> Path:
    """Where the plotly wheel keeps its JavaScript; it is not imported, which takes long."""
    spec = find_spec("plotly")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("plotly is not installed")
    return Path(next(iter(spec.submodule_search_locations))) / "package_data"


@lru_cache(maxsize=1)
def plotly_address() -> str:
    """Where pages find it: another address for another version, so that it is kept for good."""
    return f"{BASE}/static/plotly.min.js?v={version('plotly')}"


class Start(Signed):
    """The start page of the server's own address."""

    def initialize(self, settings: Settings) -> None:
        """The server's settings."""
        self.ours = settings

    @authenticated
    async def get(self) -> None:
        """Apps, and the reports this person may see."""
        identity = self.identity
        if identity is None:
            raise HTTPError(403)
        reports = await asyncio.to_thread(ReportStore(self.ours.data / REPORTS).list, identity.scope)
        found = [one.as_dict() for one in reports]
        self.set_header("Cache-Control", "no-store")
        self.finish(screens.start(self.language, BASE, shown_apps(self.ours), found, identity.name))


class ReportFile(Signed):
    """A file of a report: for Home Assistant, and for whoever may see all points in it."""

    def initialize(self, settings: Settings, token: str) -> None:
        """The server's settings, and the token that Home Assistant has."""
        self.ours, self.server_token = settings, token

    @allow_unauthenticated
    async def get(self, report: str, name: str) -> None:
        """The file; an unknown report and a forbidden one are the same."""
        if "Authorization" in self.request.headers:
            given = self.request.headers["Authorization"].encode()
            if not hmac.compare_digest(given, f"Bearer {self.server_token}".encode()):
                raise HTTPError(401)
            scope = None
        elif self.identity is None:
            return self.redirect(f"{self.get_login_url()}?{urlencode({'next': self.request.path})}")
        else:
            scope = self.identity.scope
        store = ReportStore(self.ours.data / REPORTS)
        try:
            found = await asyncio.to_thread(store.get, report)
            path = store.path(report, name)
        except ReportError as error:
            raise HTTPError(404) from error
        if not found.visible(scope):
            raise HTTPError(404)
        await send_file(self, path, name)
        return None


def shown_apps(settings: Settings) -> list[str]:
    """The apps whose notebook is there."""
    return [key for key in screens.apps() if (settings.notebooks / f"{key}.ipynb").is_file()]


TYPES = {
    ".pdf": "application/pdf",
    ".html": "text/html; charset=utf-8",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}


async def send_file(handler: Any, path: Path, name: str) -> None:
    """A file, whole, as what its ending says; 404 where it is gone."""
    try:
        data = await asyncio.to_thread(path.read_bytes)
    except OSError, ValueError:
        raise HTTPError(404) from None
    handler.set_header("Content-Type", TYPES.get(path.suffix, "application/octet-stream"))
    # A report's page may bring its own styles and pictures, and nothing else.
    handler.set_header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
                       "font-src data:; frame-ancestors 'self'")  # fmt: skip
    disposition = "inline" if path.suffix in (".pdf", ".html") else "attachment"
    handler.set_header("Content-Disposition", f"{disposition}; filename*=utf-8''{quote(name, safe='')}")
    handler.set_header("Cache-Control", "no-store")
    await handler.finish(data)


class Health(Answers):
    """Whether the server runs."""

    def get(self) -> None:
        """Nothing but that."""
        self.set_header("Content-Type", "text/plain")
        self.finish("ok")


class ToBase(Answers):
    """The root of the server's own address."""

    def get(self) -> None:
        """Leads to the start page."""
        self.redirect(f"{BASE}/")
