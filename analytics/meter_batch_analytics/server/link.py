"""The server's tie to Home Assistant: the mirror, the announcement, events; and the child that follows the ledger.

Home Assistant may be away, restart, be elsewhere or refuse the token: it is said, and tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from meter_batch_engine.errors import MeterBatchError

from ..archive import durable
from ..errors import AwayError
from ..mirror import ALARMS, GAPS, REGISTRY, Mirror
from ..sources.http import Api, token_of
from ..sources.socket import command
from .child import Child
from .settings import Settings, our_version

_LOGGER = logging.getLogger(__name__)

EVERY_S = 60.0
ANNOUNCE_S = 15.0
"""Between tries to be announced where all else goes well."""
AGAIN_S = (2.0, 5.0, 15.0, 30.0, 60.0)
ALARMS_DAYS = 400
OK = "ok"


class Link:
    """`home_assistant` is "ok" or says in words what is wrong."""

    def __init__(self, settings: Settings, token: str) -> None:
        self._settings, self._token = settings, token
        self._mirror = Mirror(settings.data / "mirror")
        self.home_assistant = "not asked yet"
        self.announced = False
        self.address = settings.address or ""
        self._events: list[dict[str, Any]] = []
        self._wake = asyncio.Event()
        self._trouble: dict[str, str] = {}
        self.mirror_at: str | None = None
        with contextlib.suppress(MeterBatchError):  # damaged: it is made anew at once
            self.mirror_at = None if (at := self._mirror.at) is None else at.isoformat()
        options = ["--url", settings.url, "--token-file", str(settings.token_file), "--until-eof"]
        options += ["--archive", str(settings.archive_folder)]
        if settings.key_file is not None:
            options += ["--key-file", str(settings.key_file)]
        if settings.keyring is not None:
            options += ["--keyring", settings.keyring]
        self.follower = Child("archive", ["archive", *options])

    @property
    def problems(self) -> list[str]:
        """What does not work now, in words."""
        return [one for one in (self.follower.problem, *self._trouble.values()) if one]

    def archive(self) -> dict[str, Any]:
        """How the archive is: the time up to which there is anything, and how it goes on."""
        path = self._settings.archive_folder / "manifest.json"
        found: dict[str, Any] = {"there": path.exists(), "state": self.follower.problem or "following"}
        if self.follower.last:
            found["last"] = self.follower.last
        if found["there"]:
            found["changed_at"] = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat()
        return found

    async def tell(self, event: str, facts: Mapping[str, Any]) -> None:
        """Home Assistant hears of it, now or when it is back."""
        self._events.append({"event": event, **facts})
        del self._events[:-100]
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.follower.run())
            tasks.create_task(self._refresh())

    async def _refresh(self) -> None:
        failed = 0
        while True:
            try:
                await self._once()
            except MeterBatchError as error:
                self.announced = False
                self._say(str(error))
                wait = AGAIN_S[min(failed, len(AGAIN_S) - 1)]
                failed += 1
            else:
                self._say(OK)
                wait, failed = EVERY_S, 0
                if not self.announced:
                    wait = min(wait, ANNOUNCE_S)
            self._wake.clear()
            try:
                async with asyncio.timeout(wait):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _say(self, text: str) -> None:
        if text != self.home_assistant:
            _LOGGER.log(logging.INFO if text == OK else logging.WARNING, "Home Assistant: %s", text)
        self.home_assistant = text

    async def _once(self) -> None:
        """Everything there is to ask and tell. An error of the part on which all depends is raised, others are kept."""
        api = await asyncio.to_thread(self._api)
        now = datetime.now(UTC)
        registry = await asyncio.to_thread(api.ask, "GET", "registry")
        await self._keep(REGISTRY, registry, now)
        self.mirror_at = now.isoformat()
        since = (now - timedelta(days=ALARMS_DAYS)).isoformat()
        await self._part("gaps", GAPS, command(api, {"type": "meter_batch/gaps/list"}), now, lambda one: one["gaps"])
        alarms = asyncio.to_thread(api.ask, "GET", "alarms", query={"since": since})
        await self._part("alarms", ALARMS, alarms, now, lambda one: one)
        await self._announce(api)
        while self._events:
            event = self._events[0]
            try:
                await asyncio.to_thread(api.ask, "POST", "analytics_server/event", event)
            except AwayError:
                raise
            except MeterBatchError as error:
                _LOGGER.warning("Home Assistant did not take an event (%s): %s", event["event"], error)
            self._events.pop(0)

    def _api(self) -> Api:
        # Read again and again, so that a new token is taken without a restart.
        return Api(self._settings.url, token_of(self._settings.token_file), timeout_s=30.0)

    async def _part(self, name: str, part: str, asking: Any, now: datetime, pick: Any) -> None:
        try:
            await self._keep(part, pick(await asking), now)
        except AwayError:
            raise
        except (MeterBatchError, LookupError, TypeError) as error:
            self._trouble[name] = f"{name}: {error}"
        else:
            self._trouble.pop(name, None)

    async def _keep(self, part: str, message: Any, now: datetime) -> None:
        try:
            await asyncio.to_thread(self._mirror.keep, part, message, now)
        except MeterBatchError as error:
            self._trouble["disk"] = str(error)
            _LOGGER.warning("%s", error)
        else:
            self._trouble.pop("disk", None)

    async def _announce(self, api: Api) -> None:
        if self.announced:
            return
        body = {"url": self.address, "token": self._token, "version": our_version()}
        try:
            await asyncio.to_thread(api.ask, "POST", "analytics_server", body)
        except MeterBatchError as error:
            text = f"Home Assistant did not take the address {self.address}: {error}"
            if self._trouble.get("announcement") != text:
                _LOGGER.warning("%s", text)
            self._trouble["announcement"] = text
        else:
            self.announced = True
            self._trouble.pop("announcement", None)
            _LOGGER.info("Home Assistant knows this server as %s", self.address)


def address_for(url: str, host: str, port: int) -> str:
    """How Home Assistant reaches us where nobody said it: where we listen, or on all of this machine's addresses the
    one from which we reach Home Assistant.
    """
    if host in ("0.0.0.0", "::", ""):
        parts = urlsplit(url)
        try:
            family, *_, target = socket.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_DGRAM)[0]
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect(target)
                host = probe.getsockname()[0]
        except OSError:
            host = socket.gethostname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def remember(settings: Settings, address: str) -> None:
    """Where the server runs, for `forget` and for people who look."""
    path = settings.data / "server.json"
    data = json.dumps({"url": settings.url, "address": address}).encode()
    with durable.failures(path, "the server's address"):
        durable.write(path, lambda sink: sink.write(data))
