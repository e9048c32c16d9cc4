"""Home Assistant as its user sees it: onboarding, config flows, actions and dashboards over REST and WebSocket."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import aiohttp

CONFIGURATION = """\
homeassistant:
  auth_mfa_modules:
    - type: totp
logger:
  default: warning
  logs:
    # programs for cameras, which nobody has here
    haffmpeg: critical
    homeassistant.components.camera.img_util: critical
    aiohttp_fast_zlib: error
recorder:
  commit_interval: 1
history:
logbook:
energy:
config:
media_source:
persistent_notification:
repairs:
diagnostics:
automation: !include automations.yaml
"""


class HomeError(Exception):
    """Home Assistant refused something; the message says what and with which answer."""


def prepare(folder: Path, port: int, certificate: Path | None = None) -> None:
    """Writes what must exist before the first start: configuration, port, and which onboarding steps to skip.

    `certificate`: a file with certificate and key, for https.
    """
    storage = folder / ".storage"
    storage.mkdir(parents=True, exist_ok=True)
    (folder / "configuration.yaml").write_text(CONFIGURATION, encoding="utf-8")
    if not (automations := folder / "automations.yaml").exists():
        automations.write_text("[]\n", encoding="utf-8")
    http = {
        "stable": {
            "server_host": ["127.0.0.1"],
            "server_port": port,
            "cors_allowed_origins": [],
            "login_attempts_threshold": -1,
            "ip_ban_enabled": False,
            "ssl_profile": "modern",
            "use_x_frame_options": True,
            "created_at": "2026-01-01T00:00:00+00:00",
            "error": None,
            "error_message": None,
            **({} if certificate is None else {"ssl_certificate": str(certificate), "ssl_key": str(certificate)}),
        },
        "pending": None,
        "yaml_migration_done": True,
    }
    _store(storage / "http", 2, 2, http)
    if not (storage / "onboarding").exists():
        # The location step would set up integrations that want the internet.
        _store(storage / "onboarding", 4, 1, {"done": ["core_config", "analytics", "integration"]})
        _store(storage / "core.analytics", 1, 1, {"onboarded": True, "preferences": {}, "uuid": None})


def _store(path: Path, version: int, minor: int, data: dict[str, Any]) -> None:
    text = json.dumps({"version": version, "minor_version": minor, "key": path.name, "data": data})
    path.write_text(text, encoding="utf-8")


class Home:
    """One Home Assistant at `url`, spoken to as one user."""

    def __init__(self, url: str, certificate: Path | None = None) -> None:
        self.url = url
        self.token = ""
        trusted = True if certificate is None else ssl.create_default_context(cafile=certificate)
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusted))
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._last_id = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._socket is not None:
            await self._socket.close()
        await self._session.close()

    async def answers(self) -> bool:
        """True once the web server is there."""
        try:
            async with self._session.get(self.url + "/manifest.json") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    async def onboard(self, name: str, password: str, language: str) -> None:
        """Creates the first user, who is the owner, and signs in as that user."""
        client = self.url + "/"
        user = {"client_id": client, "name": name.title(), "username": name, "password": password, "language": language}
        answer = await self.post("/api/onboarding/users", user)
        await self._sign_in(client, answer["auth_code"])

    async def sign_in(self, name: str, password: str) -> None:
        """Signs in as a user who exists."""
        client = self.url + "/"
        start = {"client_id": client, "handler": ["homeassistant", None], "redirect_uri": client}
        flow = await self.post("/auth/login_flow", start)
        step = {"client_id": client, "username": name, "password": password}
        done = await self.post(f"/auth/login_flow/{flow['flow_id']}", step)
        if done.get("type") != "create_entry":
            raise HomeError(f"The sign-in as {name} was refused: {done.get('errors')}")
        await self._sign_in(client, done["result"])

    async def _sign_in(self, client: str, code: str) -> None:
        form = {"client_id": client, "grant_type": "authorization_code", "code": code}
        async with self._session.post(self.url + "/auth/token", data=form) as response:
            self.token = (await response.json())["access_token"]

    async def use_long_lived_token(self, name: str) -> str:
        """Makes a token that outlives the session, goes on with it, and returns it."""
        for old in await self.ask("auth/refresh_tokens"):
            if old.get("client_name") == name:
                await self.ask("auth/delete_refresh_token", refresh_token_id=old["id"])
        self.token = await self.ask("auth/long_lived_access_token", client_name=name, lifespan=3650)
        return self.token

    async def ask(self, kind: str, **arguments: Any) -> Any:
        """One WebSocket command and its result; raises HomeError with Home Assistant's own words."""
        if self._socket is None or self._socket.closed:
            self._socket = await self._session.ws_connect(self.url + "/api/websocket", max_msg_size=0)
            await self._socket.receive_json()
            await self._socket.send_json({"type": "auth", "access_token": self.token})
            if (await self._socket.receive_json())["type"] != "auth_ok":
                raise HomeError("Home Assistant does not take the token.")
        self._last_id += 1
        await self._socket.send_json({"id": self._last_id, "type": kind, **arguments})
        while True:
            answer = await self._socket.receive_json()
            if answer.get("id") == self._last_id and answer["type"] == "result":
                if not answer["success"]:
                    raise HomeError(f"{kind}: {answer['error']['message']}")
                return answer["result"]

    async def action(self, domain: str, service: str, data: dict[str, Any]) -> Any:
        """Performs an action and returns its response."""
        result = await self.ask("call_service", domain=domain, service=service, service_data=data, return_response=True)
        return result["response"]

    async def flow(self, handler: str, *steps: dict[str, Any]) -> dict[str, Any]:
        """Goes through a config flow: each step is a form's answer, or {"next_step_id": …} for a menu."""
        return await self._through("/api/config/config_entries/flow", handler, steps)

    async def options(self, entry_id: str, *steps: dict[str, Any]) -> dict[str, Any]:
        """Goes through the options flow of a config entry."""
        return await self._through("/api/config/config_entries/options/flow", entry_id, steps)

    async def _through(self, path: str, handler: str, steps: Sequence[dict[str, Any]]) -> dict[str, Any]:
        result = await self.post(path, {"handler": handler})
        for step in steps:
            result = await self.post(f"{path}/{result['flow_id']}", step)
            if result.get("errors"):
                placeholders = result.get("description_placeholders")
                raise HomeError(f"{handler}, {result.get('step_id')}: {result['errors']} {placeholders or ''}")
        if result["type"] != "create_entry":
            raise HomeError(f"{handler}: the flow ended with {result['type']} {result.get('reason', '')}")
        return result

    async def get(self, path: str) -> Any:
        """What Home Assistant's REST interface has at a path."""
        async with self._session.get(self.url + path, headers=self._headers) as response:
            if response.status >= 400:
                raise HomeError(f"{path}: {response.status} {(await response.text())[:300]}")
            return await response.json()

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    async def post(self, path: str, data: dict[str, Any]) -> dict[str, Any]:
        """Gives it something there, and returns its answer."""
        async with self._session.post(self.url + path, json=data, headers=self._headers) as response:
            if response.status >= 400:
                raise HomeError(f"{path}: {response.status} {(await response.text())[:300]}")
            answer: dict[str, Any] = await response.json()
            return answer


async def wait_until(condition: Any, seconds: float, what: str) -> None:
    """Waits until the condition holds; HomeError names what did not come."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if await condition():
            return
        await asyncio.sleep(0.25)
    raise HomeError(f"Gave up after {seconds:.0f} s waiting for {what}.")
