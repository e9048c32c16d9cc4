"""Kernels: some wait warm, each belongs to the person it was handed to, and none outlives its page for long.

A kernel is handed over by telling it whose it is; a kernel that does not take that is ended and its page fails. There
are never more than `limit`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_core.utils import ensure_async
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from traitlets import Dict, Integer, default
from zmq import ZMQError

from meter_batch_engine.errors import MeterBatchError

from ..session import IDENTITY, QUERY, Identity

_LOGGER = logging.getLogger(__name__)

WARM_CODE = """
import importlib
for _name in ("pandas", "meter_batch_analytics.session", "meter_batch_analytics.apps.explorer",
              "meter_batch_analytics.apps.trends", "meter_batch_analytics.apps.quality"):
    try:
        importlib.import_module(_name)
    except ImportError:
        pass
"""
"""Run in every kernel before anybody has it: the imports that take long."""
INHERITED = ("PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TEMP", "TMP", "PYTHONPATH", "PYTHONHASHSEED",
             "VIRTUAL_ENV", "SYSTEMROOT", "LD_LIBRARY_PATH")  # fmt: skip
"""What a kernel gets of our environment: no secret can stand among it."""
START_S, HAND_OVER_S = 60.0, 5.0
SOCKETLESS_S, UNSEEN_S = 120.0, 60.0
"""A kernel whose socket is gone may get it back for so long (a restart of Home Assistant, a lost connection); one that
no page ever came to speak to for so long after it was wanted by another."""
RECLAIM_S = 10.0
"""When all places are taken, a kernel without a socket keeps its place only for so long."""
IDLE_S = 1800.0
WATCH_S = 5.0
LONGEST_FOLDER = 50


class Busy(MeterBatchError):
    """All places are taken: another visitor has to wait."""


class KernelFailed(MeterBatchError):
    """A kernel did not start, or did not take what it was told."""


@dataclass(slots=True)
class Owned:
    """Whose kernel it is, and since when no page speaks to it."""

    identity: Identity
    language: str
    lonely_since: float | None


@dataclass(slots=True, eq=False)
class Place:
    """A place that is kept for a page that is being made."""

    identity: Identity
    query: str
    language: str
    kernel: str | None = field(default=None)


class OurKernel(KernelSpecManager):
    """Only the kernel of this very interpreter, whatever else is installed for the user."""

    @default("kernel_dirs")
    def _no_others(self) -> list[str]:
        return []


class KernelPool(AsyncMappingKernelManager):
    """All kernels of the server."""

    limit = Integer(10, config=True)
    spare = Integer(2, config=True)
    environment = Dict(config=True)

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)  # type: ignore[no-untyped-call]
        self.owners: dict[str, Owned] = {}
        self._places: list[Place] = []
        self._warm: list[tuple[str, Any]] = []
        self._starting: set[asyncio.Task[None]] = set()
        self._failed_at = float("-inf")
        self._open = True

    # --- places ---

    @property
    def used(self) -> int:
        """Places that people have, or that are kept for pages being made."""
        return len(self.owners) + len(self._places)

    async def reserve(self, identity: Identity, query: str, language: str) -> Place:
        """A place for a page; Busy where there is none. It must be taken or given back."""
        if self.used >= self.limit:
            await self._reclaim()
        if self.used >= self.limit:
            raise Busy("all places are taken")
        place = Place(identity, query, language)
        self._places.append(place)
        return place

    def give_back(self, place: Place) -> None:
        """The place was not taken."""
        if place in self._places:
            self._places.remove(place)

    async def take(self, place: Place) -> tuple[str, Any]:
        """A kernel that knows whose it is, and a client for it. KernelFailed where that cannot be had."""
        told = {IDENTITY: place.identity.as_json(), QUERY: place.query}
        code = f"import os, json; os.environ.update(json.loads({json.dumps(told)!r}))"
        try:
            while True:
                kernel_id, client, warm = await self._next()
                try:
                    await _run(client, code, HAND_OVER_S)
                except BaseException as error:
                    client.stop_channels()
                    await self._end(kernel_id)
                    if warm and isinstance(error, KernelFailed):
                        # It died or hung while it waited.
                        _LOGGER.warning("%s; another one is taken", error)
                        continue
                    raise
                break
            place.kernel = kernel_id
            self.owners[kernel_id] = Owned(place.identity, place.language, time.monotonic())
        finally:
            self.give_back(place)
            self.fill()
        return kernel_id, client

    async def _next(self) -> tuple[str, Any, bool]:
        """A kernel, its client, and whether it was waiting."""
        while self._warm or self._starting:
            if not self._warm:
                await asyncio.wait(self._starting, return_when=asyncio.FIRST_COMPLETED)
                continue
            kernel_id, client = self._warm.pop(0)
            if kernel_id in self and await ensure_async(self.get_kernel(kernel_id).is_alive()):
                return kernel_id, client, True
            client.stop_channels()
            await self._end(kernel_id)
        return *await self._start(), False

    # --- warm kernels ---

    def fill(self) -> None:
        """Sees to it that some are warm, as far as there are places."""
        if not self._open or time.monotonic() - self._failed_at < WATCH_S:
            return
        wanted = min(self.spare, self.limit - self.used)
        for _ in range(wanted - len(self._warm) - len(self._starting)):
            task = asyncio.ensure_future(self._warm_up())
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)

    async def _warm_up(self) -> None:
        try:
            self._warm.append(await self._start())
        except (KernelFailed, OSError, RuntimeError) as error:
            self._failed_at = time.monotonic()
            _LOGGER.error("A kernel did not start: %s", error)  # noqa: TRY400

    async def _start(self) -> tuple[str, Any]:
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ} | dict(self.environment)
        try:
            kernel_id = await self.start_kernel(
                kernel_name="python3", env=environment, extra_arguments=["--HistoryManager.enabled=False"]
            )
        except ZMQError as error:
            raise KernelFailed(str(error)) from error
        client: Any = self.get_kernel(kernel_id).client()
        try:
            client.start_channels()
            await ensure_async(client.wait_for_ready(timeout=START_S))
            await _run(client, WARM_CODE, START_S)
        except BaseException as error:
            client.stop_channels()
            await self._end(kernel_id)
            if isinstance(error, RuntimeError):
                raise KernelFailed(str(error)) from error
            raise
        return kernel_id, client

    # --- ends ---

    def owner(self, kernel_id: str) -> Identity | None:
        """Whose it is; nobody's where it is warm or gone."""
        found = self.owners.get(kernel_id)
        return None if found is None else found.identity

    async def end_of(self, user: str) -> None:
        """Ends all kernels of a user."""
        for kernel_id, owned in list(self.owners.items()):
            if owned.identity.user == user:
                await self._end(kernel_id)

    async def shutdown_kernel(  # type: ignore[override]
        self, kernel_id: str, now: bool = False, restart: bool = False
    ) -> None:
        """Ends a kernel; its place is free at once."""
        self.owners.pop(kernel_id, None)
        await super().shutdown_kernel(kernel_id, now=now, restart=restart)  # type: ignore[no-untyped-call]
        self.fill()

    async def _end(self, kernel_id: str) -> None:
        self.owners.pop(kernel_id, None)
        if kernel_id in self:
            # It has nothing to save, and one that hangs is not asked.
            await self.shutdown_kernel(kernel_id, now=True)

    async def watch(self) -> None:
        """Looks after all of them once: who died, whom nobody uses."""
        now = time.monotonic()
        for kernel_id, owned in list(self.owners.items()):
            if kernel_id not in self:
                self.owners.pop(kernel_id, None)
                continue
            kernel: Any = self.get_kernel(kernel_id)
            if not await ensure_async(kernel.is_alive()):
                _LOGGER.warning("The kernel %s of %s died", kernel_id, owned.identity.name)
                await self._end(kernel_id)
                continue
            if self._kernel_connections.get(kernel_id, 0):
                owned.lonely_since = None
            elif owned.lonely_since is None:
                owned.lonely_since = now
            busy = kernel.execution_state == "busy"
            if owned.lonely_since is not None and now - owned.lonely_since > SOCKETLESS_S and not busy:
                _LOGGER.info("The page of kernel %s is gone: ended", kernel_id)
                await self._end(kernel_id)
            elif self.idle_s(kernel_id) > IDLE_S and not busy:
                _LOGGER.info("The kernel %s was not used for %.0f minutes: ended", kernel_id, IDLE_S / 60)
                await self._end(kernel_id)
        self.fill()

    def idle_s(self, kernel_id: str) -> float:
        """Seconds since somebody made it do something."""
        kernel: Any = self.get_kernel(kernel_id)
        last: datetime = kernel.last_activity
        return (datetime.now(last.tzinfo) - last).total_seconds()

    async def _reclaim(self) -> None:
        """Ends a kernel whose page is gone, if there is one, for somebody who waits."""
        now = time.monotonic()
        lonely = {
            kernel_id: owned.lonely_since
            for kernel_id, owned in self.owners.items()
            if owned.lonely_since is not None and not self._kernel_connections.get(kernel_id, 0)
        }
        for kernel_id, since in sorted(lonely.items(), key=lambda one: one[1]):
            if now - since > RECLAIM_S:
                await self._end(kernel_id)
                return

    def _handle_kernel_died(self, kernel_id: str) -> None:
        self.owners.pop(kernel_id, None)
        super()._handle_kernel_died(kernel_id)  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        """Ends all kernels."""
        self._open = False
        for task in self._starting:
            task.cancel()
        for _, client in self._warm:
            client.stop_channels()
        self._warm.clear()
        self.owners.clear()
        await asyncio.gather(
            *(self.shutdown_kernel(kernel_id, now=True) for kernel_id in self.list_kernel_ids()),
            return_exceptions=True,
        )
        # Else it waits, when it is forgotten, for messages to kernels that are no more.
        self.context.destroy(linger=0)


async def _run(client: Any, code: str, timeout_s: float) -> None:
    try:
        reply = await client.execute(code, silent=True, store_history=False, reply=True, timeout=timeout_s)
    except TimeoutError as error:
        raise KernelFailed(f"a kernel did not answer within {timeout_s:.0f} s") from error
    content: Mapping[str, Any] = reply["content"]
    if content["status"] != "ok":
        raise KernelFailed(f"a kernel refused: {content.get('ename')}: {content.get('evalue')}")


def kernel_configuration(folder: Path) -> dict[str, Any]:
    """How kernels are started: over sockets in a folder that only we may enter, and never started again alone."""
    environment = {"IPYTHONDIR": str(folder / "ipython"), "JUPYTER_CONFIG_DIR": str(folder / "jupyter"),
                   "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1",
                   "PYDEVD_DISABLE_FILE_VALIDATION": "1"}  # fmt: skip
    # The name of a local socket may have some hundred letters only.
    transport = "ipc" if hasattr(socket, "AF_UNIX") and len(str(folder)) <= LONGEST_FOLDER else "tcp"
    return {"transport": transport, "autorestart": False, "environment": environment}
