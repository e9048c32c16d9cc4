"""A virtual line: its meters on a wire or network, the faults of both, and the place where masters reach it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from weakref import WeakKeyDictionary

from meter_batch_engine.protocol.dlt645.server import Dlt645Responder
from meter_batch_engine.protocol.modbus.server import ModbusResponder

from .clock import FleetClock
from .config import LineConfig
from .endpoint import Peer, PtyEndpoint, endpoint
from .fault import Fault, Faults
from .gateway import ModbusGateway
from .load import mix
from .meter import Dlt645VirtualMeter, ModbusMeter, VirtualMeter
from .timer import Timer
from .wire import Answer, Wire, WireLog

_FORGET_S = 0.05
"""After so much silence a meter takes what comes for the beginning of a new frame (t3.5, generously)."""
_PTY_PIECE = 16
"""Bytes that a serial port's driver gathers."""


class Bus:
    """The meters of one line as one listener: who answers what, after the faults.

    Meters with the same address stand in separate layers, so that all of them answer.
    """

    def __init__(self, meters: Sequence[VirtualMeter], config: LineConfig, clock: FleetClock) -> None:
        self._config = config
        self._clock = clock
        self.faults = Faults(config.faults, mix(*config.name.encode()))
        self._modbus = [
            {int(meter.address): meter for meter in layer}
            for layer in _layers([meter for meter in meters if isinstance(meter, ModbusMeter)])
        ]
        self._dlt645 = [
            (
                {meter.address: meter for meter in layer},
                Dlt645Responder(layer, preamble=config.preamble, max_data=config.max_data),
            )
            for layer in _layers([meter for meter in meters if isinstance(meter, Dlt645VirtualMeter)])
        ]
        self._modbus_responders = self._fresh("rtu")
        self._networks: WeakKeyDictionary[Peer, list[ModbusResponder]] = WeakKeyDictionary()

    def _fresh(self, framing: str) -> list[ModbusResponder]:
        return [ModbusResponder(layer, "rtu" if framing == "rtu" else "tcp") for layer in self._modbus]

    def hear(self, data: bytes, silence_s: float) -> Sequence[Answer]:
        """See `wire.Meters`: bytes on a pair of wires."""
        if silence_s > _FORGET_S:
            self._modbus_responders = self._fresh("rtu")
        answers = list(self._on_modbus(self._modbus_responders, data, after_gap=True))
        for meters, responder in self._dlt645:
            for reply in responder.feed(data):
                answers += self._answer(meters[reply.address], data, reply.raw)
        return answers

    def hear_network(self, peer: Peer, data: bytes) -> Sequence[Answer]:
        """The same for Modbus TCP, where each connection is a stream of its own."""
        if peer not in self._networks:
            self._networks[peer] = self._fresh("tcp")
        return list(self._on_modbus(self._networks[peer], data, after_gap=False))

    def _on_modbus(self, responders: Sequence[ModbusResponder], data: bytes, *, after_gap: bool) -> Iterator[Answer]:
        for layer, responder in zip(self._modbus, responders, strict=True):
            for reply in responder.feed(data):
                yield from self._answer(layer[reply.unit], data, reply.raw, after_gap=after_gap)

    def _answer(self, meter: VirtualMeter, request: bytes, raw: bytes, *, after_gap: bool = False) -> Iterator[Answer]:
        """The reply of a meter after its own faults and those of the line; nothing where it stays silent."""
        since_start_s = self._clock.since_start_s()
        turnround_s = meter.turnround_s()
        for faults in (meter.faults, self.faults):
            said = faults.apply(request, raw, since_start_s)
            if said is None:
                return
            raw = said.raw
            turnround_s += said.later_s
        if raw:
            yield Answer(meter.config.name, raw, turnround_s, after_gap)


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
        self._cutting: asyncio.Task[None] | None = None
        self._bus = Bus(meters, config, clock)
        self._endpoint = endpoint(config.listen, config.baud, folder)
        self._wire: Wire | None = None
        self._gateway: ModbusGateway | None = None
        if not config.is_wired:
            return
        deliver: Callable[[bytes], None] = self._endpoint.write
        if config.gateway:
            self._gateway = ModbusGateway(timer, config.gateway_timeout_s)
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
            wire = self._wire
            await self._endpoint.start(lambda _, data: wire.send(data))
        else:
            await self._endpoint.start(self._ask_network)
        if self._is_pulled:
            self._endpoint.unplug()
        self._cutting = asyncio.create_task(self._cut(self._is_pulled))

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

    async def run(self) -> None:
        """Until the line is stopped; raises LineUnavailable where a line that was pulled cannot be plugged in again."""
        if self._cutting is not None:
            await asyncio.shield(self._cutting)

    def reload(self, faults: tuple[Fault, ...]) -> None:
        """These are the line's own faults from now on; see `Faults.reload`."""
        self._bus.faults.reload(faults, self._clock.since_start_s())
        self._reloaded.set()

    def _ask_network(self, peer: Peer, data: bytes) -> None:
        for answer in self._bus.hear_network(peer, data):
            if answer.turnround_s <= 0:
                peer.write(answer.raw)
            else:
                self._timer.call_at(self._timer.now() + answer.turnround_s, partial(peer.write, answer.raw))

    async def stop(self) -> None:
        """Ends; nothing stays behind."""
        if self._cutting is not None:
            self._cutting.cancel()
            await asyncio.wait({self._cutting})
        await self._endpoint.stop()


def _layers[M: VirtualMeter](meters: Sequence[M]) -> list[list[M]]:
    """The meters in groups within which every address is there once."""
    layers: list[list[M]] = []
    for meter in meters:
        for layer in layers:
            if meter.address not in {other.address for other in layer}:
                layer.append(meter)
                break
        else:
            layers.append([meter])
    return layers
