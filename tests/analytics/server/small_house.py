"""A Home Assistant in small with people in it: OAuth, whoami, WebSocket and the API of Meter Batch, in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from ..data_site import alarms
from ..small_site import TOKEN, SmallSite

ADMIN = {"user": "u-admin", "name": "Administrator", "admin": True, "language": "en", "scope": None}
OFFICE = {"user": "u-office", "name": "王芳", "admin": False, "language": "zh-Hans", "scope": ["p3"]}


class House:
    """`down`: answers 503. `who`: whoever sits at the browser. `removed`: users who are no more."""

    def __init__(self, path: Path) -> None:
        self.site = SmallSite(path)
        self.down = False
        self.token = TOKEN
        self.who = ADMIN
        self.removed: set[str] = set()
        self.unknown: set[str] = set()
        self.announced: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.revoked: list[str] = []
        self.clients: dict[str, tuple[str, dict[str, Any]]] = {}

    def people(self, token: str) -> dict[str, Any] | None:
        found = self.clients.get(token)
        return None if found is None or found[1]["user"] in self.removed else found[1]

    async def authorize(self, request: web.Request) -> web.Response:
        code = f"code-{len(self.clients)}"
        self.clients[code] = request.query["client_id"], self.who
        target = request.query["redirect_uri"]
        assert target.startswith(request.query["client_id"])
        raise web.HTTPFound(f"{target}?{urlencode({'code': code, 'state': request.query['state']})}")

    async def exchange(self, request: web.Request) -> web.Response:
        if self.down:
            raise web.HTTPServiceUnavailable
        form = await request.post()
        key = str(form.get("code") or form.get("refresh_token"))
        client, who = self.clients.get(key, ("", {"user": ""}))
        if client != form["client_id"] or who["user"] in self.removed or key in self.revoked:
            return web.json_response({"error": "invalid_grant"}, status=400)
        if "code" in form:
            self.clients.pop(key)
        self.clients[f"access-{who['user']}"] = self.clients[f"refresh-{who['user']}"] = client, who
        return web.json_response({"access_token": f"access-{who['user']}", "refresh_token": f"refresh-{who['user']}"})

    async def revoke(self, request: web.Request) -> web.Response:
        self.revoked.append(str((await request.post())["token"]))
        return web.Response()

    async def socket(self, request: web.Request) -> web.WebSocketResponse:
        answer = web.WebSocketResponse()
        await answer.prepare(request)
        await answer.send_json({"type": "auth_required"})
        if (await answer.receive_json())["access_token"] != self.token:
            await answer.send_json({"type": "auth_invalid"})
            return answer
        await answer.send_json({"type": "auth_ok"})
        asked = await answer.receive_json()
        assert asked["type"] == "meter_batch/gaps/list"
        gap = {
            "point": "p1", "name": "Chiller", "since": "2026-03-27T01:00:00+00:00", "until": None, "reason": "meter",
            "missing": 3, "recoverable_until": None,
        }  # fmt: skip
        await answer.send_json({"id": asked["id"], "success": True, "result": {"gaps": [gap]}})
        return answer

    async def api(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.down:
            raise web.HTTPServiceUnavailable
        if name == "whoami":
            who = self.people(token)
            return web.json_response(who) if who else web.Response(status=401)
        if token != self.token:
            return web.Response(status=401, text="401: Unauthorized")
        if name in self.unknown:
            return web.Response(status=404)
        if name == "analytics_server":
            if request.method == "DELETE":
                self.announced.clear()
            else:
                self.announced.append(await request.json())
            return web.json_response({"state": "added"})
        if name == "analytics_server/event":
            self.events.append(await request.json())
            return web.json_response({})
        if name == "alarms":
            assert datetime.fromisoformat(request.query["since"]) < datetime.now(UTC)
            return web.json_response(alarms())
        body = await request.json() if request.can_read_body else {}
        found = await asyncio.to_thread(self.site.answer, request.method, request.path_qs, body)
        return web.json_response(found) if found is not None else web.Response(status=404)


@contextmanager
def opened(house: House) -> Iterator[str]:
    ready = threading.Event()
    port = 0

    async def run() -> None:
        nonlocal port
        app = web.Application()
        app.router.add_get("/auth/authorize", house.authorize)
        app.router.add_post("/auth/token", house.exchange)
        app.router.add_post("/auth/revoke", house.revoke)
        app.router.add_get("/api/websocket", house.socket)
        app.router.add_route("*", "/api/meter_batch/{name:.+}", house.api)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        ready.set()
        await asyncio.get_running_loop().run_in_executor(None, done.wait)
        await runner.cleanup()

    done = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        done.set()
        thread.join(10)
