"""The server: one process that answers, with kernels, archive follower and report worker as its children."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application
from traitlets.config import Config
from voila.app import Voila
from voila.configuration import VoilaConfiguration
from voila.paths import collect_template_paths
from voila.static_file_handler import TemplateStaticFileHandler

from meter_batch_engine.errors import ConfigError, MeterBatchError

from ..sources.http import token_of
from . import machine, pages, signin
from .access import NotFound, Owners, People
from .identity import SignIns
from .jobs import Jobs
from .link import Link, address_for, remember
from .pool import WATCH_S, KernelPool, OurKernel, kernel_configuration
from .scheduler import Scheduler
from .settings import BASE, Settings, keep_private, server_token

_LOGGER = logging.getLogger(__name__)

TEMPLATE = "meter-batch"
CHECK_S = 15.0
PING_MS = 30_000
CELL_S = 300
"""A cell of an app that takes longer is stopped."""
MESSAGES = ("comm_open", "comm_close", "comm_msg", "comm_info_request", "kernel_info_request")
"""What a page may say to its kernel: never what to execute."""
HERE = Path(__file__).parent


def serve(settings: Settings, ready: Callable[[str], None] = lambda _: None) -> int:
    """Runs until SIGTERM or SIGINT. ConfigError for what cannot be started with."""
    token_of(settings.token_file)
    if not settings.notebooks.is_dir():
        raise ConfigError(f"{settings.notebooks} is no folder: the notebooks of the apps are expected there")
    if (open_to_others := keep_private(settings.data)) is not None:
        _LOGGER.warning("%s", open_to_others)
    return asyncio.run(_serve(settings, ready))


async def _serve(settings: Settings, ready: Callable[[str], None]) -> int:
    token = server_token(settings.data)
    sockets = _sockets(settings)
    port = sockets[0].getsockname()[1]
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    # Short, because the name of a local socket may have only some hundred letters.
    folder = Path(tempfile.mkdtemp(prefix="mba-"))
    tasks: set[asyncio.Task[Any]] = set()
    server = pool = None
    try:
        # Voila finds templates in Jupyter's data folders.
        os.environ["JUPYTER_PATH"] = str(HERE / "template")
        voila = _voila(settings, folder)
        made = voila.init_settings()
        pool = made["kernel_manager"]
        link = Link(settings, token)
        link.address = settings.address or address_for(settings.url, settings.host, port)
        try:
            remember(settings, link.address)
        except MeterBatchError as error:
            # Only `forget` misses it.
            _LOGGER.warning("%s", error)
        jobs = Jobs(settings, link.tell)
        scheduler = Scheduler(settings, jobs.add, link.tell)
        sign_ins = SignIns(time.monotonic)
        provider = signin.Provider(settings.url, settings.sign_in)
        people: People = made["identity_provider"]
        people.server_token, people.signed_in = token, sign_ins
        made |= {
            "cookie_secret": hmac.digest(token.encode(), b"cookies", hashlib.sha256),
            "headers": pages.SECURITY, "login_url": f"{BASE}/login", "default_handler_class": NotFound,
            # A proxy before us may say another host than the browser does.
            "allow_origin": settings.address or "",
            "compress_response": True, "ws_ping_interval": PING_MS, "ws_ping_timeout": PING_MS,
            "log_function": _log, "websocket_max_message_size": 64 * 2**20,
        }  # fmt: skip
        routes = _routes(settings, token, voila, provider, sign_ins)
        shared = {"jobs": jobs, "scheduler": scheduler, "link": link, "pool": pool}
        routes += machine.routes({"settings": settings, "token": token, **shared})
        server = HTTPServer(Application(routes, **made), xheaders=settings.address is not None)
        server.add_sockets(sockets)
        pool.fill()
        for work in (
            link.run(),
            jobs.run(),
            scheduler.run(),
            _every(WATCH_S, pool.watch),
            _every(CHECK_S, lambda: signin.check(provider, pool, sign_ins)),
        ):
            tasks.add(asyncio.create_task(work))
        ready(link.address)
        ended = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait({ended, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        for task in done & tasks:
            # They go on for ever; one that ended has an error of ours to tell.
            task.result()
    finally:
        if server is not None:
            server.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if pool is not None:
            await pool.close()
        if server is not None:
            await server.close_all_connections()
        shutil.rmtree(folder, ignore_errors=True)
    return 0


async def _every(seconds: float, work: Callable[[], Any]) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await work()
        except Exception:  # the top of a loop that must go on
            _LOGGER.exception("What is done every %.0f s failed", seconds)


def _sockets(settings: Settings) -> list[socket.socket]:
    try:
        return bind_sockets(settings.port, settings.host)
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        raise ConfigError(
            f"{where} cannot be listened on: {error.strerror or error}. Choose another --listen"
        ) from error


def _voila(settings: Settings, folder: Path) -> Any:
    """Voila, by our settings alone: no file of the user's is read."""
    kernels = kernel_configuration(folder)
    configuration = Config(
        {
            "Voila": {
                "base_url": f"{BASE}/", "root_dir": str(settings.notebooks),
                "identity_provider_class": People, "authorizer_class": Owners,
                "kernel_websocket_connection_class": pages.Connection,
            },
            "VoilaConfiguration": {
                "multi_kernel_manager_class": KernelPool, "kernel_spec_manager_class": OurKernel,
                "allow_template_override": "NO", "show_tracebacks": False, "template": TEMPLATE, "resources": {},
            },
            "VoilaExecutor": {"timeout": CELL_S, "interrupt_on_timeout": True},
            "KernelPool": {"limit": settings.kernels, "environment": kernels["environment"] | settings.environment},
            "KernelManager": {"transport": kernels["transport"], "autorestart": False, "shutdown_wait_time": 2.0},
        }
    )  # fmt: skip
    log = logging.getLogger(f"{__name__}.voila")
    log.setLevel(logging.ERROR)
    voila = Voila(config=configuration, log=log)
    voila.voila_configuration = VoilaConfiguration(parent=voila)
    voila.template_paths = collect_template_paths(["voila", "nbconvert"], TEMPLATE, prune=True)
    voila.connection_dir = str(folder)
    return voila


def _routes(settings: Settings, token: str, voila: Any, provider: signin.Provider, sign_ins: SignIns) -> list[Any]:
    """Whatever people and browsers ask for. Without sign-in: health, code, and the way in."""
    entry = {"settings": settings, "provider": provider, "sign_ins": sign_ins}
    return [
        (r"/", pages.ToBase),
        (BASE, pages.ToBase),
        (f"{BASE}/", pages.Start, {"settings": settings}),
        (f"{BASE}/health", pages.Health),
        (f"{BASE}/login", signin.Login, entry),
        (signin.CALLBACK, signin.Callback, entry),
        (f"{BASE}/logout", signin.Logout, entry),
        (BASE + r"/apps/([^/]+)", pages.AppHandler, {"settings": settings, "voila": voila}),
        (f"{BASE}/api/kernels/{pages.KERNEL}", pages.KernelModel),
        (f"{BASE}/api/kernels/{pages.KERNEL}/channels", pages.Channels),
        (BASE + r"/voila/api/shutdown/([\w-]+)", pages.Shutdown),
        (BASE + r"/static/(plotly\.min\.js)", pages.Static, {"path": pages.plotly_folder()}),
        (BASE + rf"/voila/templates/({TEMPLATE}/static/.+)", TemplateStaticFileHandler),
        (BASE + r"/reports/([\w.-]+)/([^/]+)", pages.ReportFile, {"settings": settings, "token": token}),
    ]


def _log(handler: Any) -> None:
    """What failed is logged, with the path and never the query."""
    status = handler.get_status()
    if status >= 500 and status != 503:
        _LOGGER.error("%s %s: %d", handler.request.method, handler.request.path, status)
    elif status in (401, 403):
        _LOGGER.warning("%s %s: %d", handler.request.method, handler.request.path, status)


def where(data: Path) -> dict[str, Any]:
    """Where the server of a data folder was last; ConfigError where it was never."""
    found: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        found = json.loads((data / "server.json").read_bytes())
    if not found:
        raise ConfigError(f"{data} is not the folder of an analytics server: none was ever started on it")
    return found


def log_to_stderr() -> None:
    """Our messages and warnings of others, with the time."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("meter_batch_analytics").setLevel(logging.INFO)
