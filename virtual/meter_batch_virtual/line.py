"""A virtual line: its meters on a wire or network, the faults of both, and the place where masters reach it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from .bus import Bus
from .clock import FleetClock
from .config import LineConfig
from .endpoint import Peer, PtyEndpoint, TcpEndpoint, endpoint
from .fault import CHATTERING, Fault, spoken
from .gateway import ModbusGateway
from .meter import VirtualMeter
from .timer import Timer
from .wire import Wire, WireLog

_PTY_PIECE = 16
"""Bytes that a serial port's driver gathers."""


class VirtualLine:
    """A line of a fleet. `log` tells what passed on its wire; None for a network, which has none."""

    def __init__(
        self, config: LineConfig, meters: Sequence[VirtualMeter], clock: FleetClock, timer: Timer, folder: Path
    ) -> None:
        self.config = config
        self.meters = tuple(meters)
        self._clock = clock
        self._timer = timer
        self._reloaded = asyncio.Event()
        self._chatter_again = asyncio.Event()
        self._cutting: asyncio.Task[None] | None = None
        self._chattering: asyncio.Task[None] | None = None
        self._bus = Bus(meters, config, clock)
        self._endpoint = endpoint(config.listen, config.setting, folder)
        if isinstance(self._endpoint, TcpEndpoint):
            self._endpoint.on_connect = self._greet
        self._unasked: dict[int, float] = {}
        self._wire: Wire | None = None
        self._gateway: ModbusGateway | None = None
        if not config.is_wired:
            return
        deliver: Callable[[bytes], None] = self._endpoint.write
        if config.gateway:
            self._gateway = ModbusGateway(timer, config.gateway_timeout_s, self._transaction)
            deliver = self._gateway.receive
        piece = config.piece_bytes
        if piece is None and isinstance(self._endpoint, PtyEndpoint):
            piece = _PTY_PIECE
        self._wire = Wire(
            self._bus, deliver, timer, baud=config.baud, bits=config.bits, piece_bytes=piece, echo=config.echo
        )
        if self._gateway is not None:
            self._gateway.wire = self._wire

    @property
    def where(self) -> str:
        """Where masters reach it."""
        return self._endpoint.where

    @property
    def log(self) -> WireLog | None:
        """What passed on the wire."""
        return None if self._wire is None else self._wire.log

    async def start(self) -> None:
        """Begins to listen; raises LineUnavailable."""
        if self._gateway is not None:
            await self._endpoint.start(self._gateway.ask)
        elif self._wire is not None:
            await self._endpoint.start(self._send)
        else:
            await self._endpoint.start(self._ask_network)
        if self._is_pulled:
            self._endpoint.unplug()
        self._cutting = asyncio.create_task(self._cut(self._is_pulled))
        self._chattering = asyncio.create_task(self._chatter())

    @property
    def _is_pulled(self) -> bool:
        return self._bus.faults.active("cut", self._clock.since_start_s())

    async def _cut(self, is_pulled: bool) -> None:
        """Pulls the line when a cut begins, and plugs it in again when it ends."""
        while True:
            self._reloaded.clear()
            change_s = self._bus.faults.next_change("cut", self._clock.since_start_s())
            if self._is_pulled != is_pulled:
                is_pulled = not is_pulled
                if is_pulled:
                    self._endpoint.unplug()
                else:
                    await self._endpoint.plug()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if change_s is None else change_s - self._clock.since_start_s()):
                    await self._reloaded.wait()

    async def _chatter(self) -> None:
        """Bytes that come without a question: heartbeats of a DTU, noise on idle wires."""
        while True:
            now_s = self._clock.since_start_s()
            due = {}
            for index, fault in self._bus.faults.unasked(now_s):
                assert fault.unasked_s is not None
                due[index] = self._unasked.get(index, now_s + fault.unasked_s)
                if due[index] <= now_s:
                    self._endpoint.write(self._bus.faults.rubbish(fault))
                    due[index] = now_s + fault.unasked_s
            self._unasked = due
            edges = [self._bus.faults.next_change(kind, now_s) for kind in CHATTERING]
            wake_s = min([*due.values(), *(edge for edge in edges if edge is not None)], default=None)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if wake_s is None else max(0.005, wake_s - now_s)):
                    await self._chatter_again.wait()
            self._chatter_again.clear()

    def _greet(self, peer: Peer) -> None:
        """What a DTU says when it is connected."""
        for fault in self._bus.faults.each("prefix", self._clock.since_start_s()):
            if fault.sent == "connect":
                peer.write(spoken(fault))

    def _transaction(self, asked: int) -> int:
        return self._bus.faults.transaction(asked, self._clock.since_start_s())

    def _send(self, peer: Peer, data: bytes) -> None:
        assert self._wire is not None
        self._bus.master_sets(peer.port)
        self._wire.send(data, self._bus.master)

    async def run(self) -> None:
        """Until the line is stopped; raises LineUnavailable where a line that was pulled cannot be plugged in again."""
        if self._cutting is not None:
            await asyncio.shield(self._cutting)

    def reload(self, faults: tuple[Fault, ...]) -> None:
        """These are the line's own faults from now on; see `Faults.reload`."""
        self._bus.faults.reload(faults, self._clock.since_start_s())
        self._reloaded.set()
        self._unasked.clear()
        self._chatter_again.set()

    def _ask_network(self, peer: Peer, data: bytes) -> None:
        for answer in self._bus.hear_network(peer, data):
            if answer.turnround_s <= 0:
                peer.write(answer.raw)
            else:
                self._timer.call_at(self._timer.now() + answer.turnround_s, partial(peer.write, answer.raw))

    async def stop(self) -> None:
        """Ends; nothing stays behind."""
        if self._cutting is not None and self._chattering is not None:
            self._cutting.cancel()
            self._chattering.cancel()
            await asyncio.wait({self._cutting, self._chattering})
        await self._endpoint.stop()
