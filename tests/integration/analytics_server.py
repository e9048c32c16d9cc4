"""A small real server that stands in for the analytics server: its machine API, a page, and what a proxy must pass."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import ssl
import time
from base64 import urlsafe_b64decode
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

BASE = "/api/meter_batch/analytics"
TOKEN = "a token of the server"  # of a stand-in

APPS = [
    {
        "key": "explorer",
        "path": "apps/explorer",
        "icon": "mdi:chart-line",
        "name": {"en": "Explorer", "zh-Hans": "浏览"},
    },
    {
        "key": "trends",
        "path": f"{BASE}/apps/trends",
        "icon": "mdi:trending-up",
        "name": {"en": "Trends", "zh-Hans": "趋势"},
    },
]


def a_report(id_: str = "r1", points: list[str] | None = None, **more: Any) -> dict[str, Any]:
    """A report as the server lists it."""
    return {
        "id": id_,
        "kind": "monthly",
        "period": "2026-10",
        "title": "Energy October 2026",
        "language": "en",
        "made_at": "2026-11-01T02:00:00+00:00",
        "points": points,
        "files": [
            {"name": "energy_2026-10.pdf", "format": "pdf", "size": 9, "sha256": "0" * 64},
            {"name": "能耗_2026-10.xlsx", "format": "xlsx", "size": 9, "sha256": "0" * 64},
        ],
        "schedule": None,
        "by": "Ada",
        "completeness": 0.998,
        "facts": {"kwh": "1234.5"},
        **more,
    }


@dataclass
class StandIn:
    """What it says and what it was asked."""

    token: str = TOKEN
    reports: list[dict[str, Any]] = field(default_factory=list)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    seen: list[web.Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    sockets: list[web.WebSocketResponse] = field(default_factory=list)
    closed: list[int | None] = field(default_factory=list)
    job_fails: str | None = None
    schedules: dict[str, Any] = field(default_factory=dict)
    """`schedules` and `problems` of its status."""
    refuses: str | None = None
    url: str = ""
    port: int = 0
    _runner: web.AppRunner | None = None

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        """Listens on a free port; after a stop on the same one."""
        app = web.Application(client_max_size=64 << 20)
        app.router.add_get(f"{BASE}/status", self._machine(self._status))
        app.router.add_get(f"{BASE}/reports", self._machine(self._reports))
        app.router.add_post(f"{BASE}/jobs", self._machine(self._submit))
        app.router.add_get(f"{BASE}/jobs/{{id}}", self._machine(self._job))
        app.router.add_get(f"{BASE}/reports/{{id}}/{{name}}", self._machine(self._file))
        app.router.add_route("*", BASE + "/{path:.*}", self._page)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=tls, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"

    async def stop(self) -> None:
        """Goes away."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def identity(self, request: web.Request) -> dict[str, Any]:
        """Who it is told to be asked by; AssertionError where that is not signed by its token, or too old."""
        payload, _, signature = request.headers["X-Meter-Batch-Identity"].partition(".")
        expected = hmac.digest(self.token.encode(), payload.encode(), hashlib.sha256)
        assert hmac.compare_digest(urlsafe_b64decode(signature + "=" * (-len(signature) % 4)), expected)
        who: dict[str, Any] = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        assert time.time() < who["exp"] < time.time() + 120
        return who

    def _machine(self, handler: Any) -> Any:
        async def handle(request: web.Request) -> web.StreamResponse:
            if request.headers.get("Authorization") != f"Bearer {self.token}":
                return web.json_response({"error": "token"}, status=401)
            if self.refuses:
                return web.json_response({"error": "no", "message": self.refuses}, status=400)
            answer: web.StreamResponse = await handler(request)
            return answer

        return handle

    async def _status(self, _request: web.Request) -> web.Response:
        return web.json_response({"version": "1.2.3", "apps": APPS, "home_assistant": "ok", **self.schedules})

    async def _reports(self, _request: web.Request) -> web.Response:
        return web.json_response(self.reports)

    async def _submit(self, request: web.Request) -> web.Response:
        id_ = f"job{len(self.jobs)}"
        self.jobs[id_] = {**await request.json(), "asked": 0}
        return web.json_response({"id": id_}, status=202)

    async def _job(self, request: web.Request) -> web.Response:
        job = self.jobs[request.match_info["id"]]
        job["asked"] += 1
        if job["asked"] == 1:
            return web.json_response({"id": "x", "state": "running", "progress": 0.5})
        if self.job_fails:
            return web.json_response({"id": "x", "state": "failed", "error": self.job_fails})
        if not any(one["id"] == "made" for one in self.reports):
            self.reports.append(a_report("made", job.get("points"), made_at="2026-11-02T02:00:00+00:00"))
        return web.json_response({"id": "x", "state": "done", "report": "made"})

    async def _file(self, request: web.Request) -> web.Response:
        if request.match_info["id"] not in {one["id"] for one in self.reports}:
            raise web.HTTPNotFound
        return web.Response(body=b"%PDF-1.7\n", content_type="application/pdf")

    async def _page(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        self.identity(request)
        path = request.match_info["path"]
        if path == "socket":
            return await self._socket(request)
        if path == "refused":
            raise web.HTTPServiceUnavailable(headers={"Retry-After": "5"}, text="full")
        if path == "moved":
            raise web.HTTPFound(f"{self.url}{BASE}/apps/explorer?x=1")
        if path == "cut":
            response = web.StreamResponse(headers={"Content-Length": "1000"})
            await response.prepare(request)
            await response.write(b"x" * 10)
            await asyncio.sleep(0.05)
            assert request.transport
            request.transport.abort()
            return response
        if path == "slow":
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(b"first")
            await asyncio.sleep(0.3)
            await response.write(b"second")
            return response
        self.bodies.append(await request.read())
        response = web.Response(text=f"page {path}", content_type="text/html")
        response.set_cookie("theirs", "1")
        response.headers["X-Theirs"] = "kept"
        if path == "packed":
            response.enable_compression(strategy=0)
        return response

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=("v1.kernel.websocket.jupyter.org",), max_msg_size=64 << 20)
        await socket.prepare(request)
        self.sockets.append(socket)
        async for message in socket:
            if message.type is WSMsgType.TEXT and message.data == "close":
                await socket.close(code=4001, message=b"enough")
            elif message.type is WSMsgType.TEXT:
                await socket.send_str(message.data)
            elif message.type is WSMsgType.BINARY:
                await socket.send_bytes(message.data)
        self.closed.append(socket.close_code)
        return socket
