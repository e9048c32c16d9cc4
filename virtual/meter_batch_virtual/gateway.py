"""A Modbus TCP gateway in front of a wire: queues requests, sends them as RTU, answers 0BH where no meter does."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from weakref import WeakKeyDictionary

from meter_batch_engine.protocol.modbus import rtu, tcp
from meter_batch_engine.protocol.modbus.pdu import exception_reply

from .endpoint import Peer
from .timer import Timer
from .wire import Wire

TARGET_FAILED = 0x0B
_QUEUE = 32
"""Requests that a gateway keeps; it drops what comes beyond."""


class ModbusGateway:
    """One outstanding request on the wire, the others wait their turn. `transaction` makes the number it gives back."""

    wire: Wire

    def __init__(self, timer: Timer, timeout_s: float, transaction: Callable[[int], int]) -> None:
        self._transaction = transaction
        self._timer = timer
        self._timeout_s = timeout_s
        self._framers: WeakKeyDictionary[Peer, tcp.TcpFramer] = WeakKeyDictionary()
        self._waiting: deque[tuple[Peer, tcp.TcpFrame]] = deque()
        self._asked: tuple[Peer, tcp.TcpFrame] | None = None
        self._ready_at = 0.0
        self._replies = rtu.RtuFramer("client")

    def ask(self, peer: Peer, data: bytes) -> None:
        """Bytes from a master on the network."""
        framer = self._framers.get(peer)
        if framer is None:
            framer = self._framers[peer] = tcp.TcpFramer("server")
        self._waiting.extend((peer, frame) for frame in framer.feed(data)[: _QUEUE - len(self._waiting)])
        self._next()

    def receive(self, data: bytes) -> None:
        """Bytes from the wire."""
        for frame in self._replies.feed(data):
            if self._asked is None:
                continue
            peer, asked = self._asked
            if frame.unit == asked.unit and frame.pdu[0] & 0x7F == asked.pdu[0]:
                self._answer(peer, asked, frame.pdu)

    def _next(self) -> None:
        if self._asked is not None or not self._waiting:
            return
        if self._timer.now() < self._ready_at:
            self._timer.call_at(self._ready_at, self._next)
            return
        self._asked = self._waiting.popleft()
        _, asked = self._asked
        self._replies = rtu.RtuFramer("client")
        request = rtu.encode(asked.unit, asked.pdu)
        self.wire.send(request)
        until = self._timer.now() + len(request) * self.wire.byte_s + self._timeout_s
        self._timer.call_at(until, partial(self._give_up, self._asked))

    def _give_up(self, asked: tuple[Peer, tcp.TcpFrame]) -> None:
        if self._asked is asked:
            self._answer(*asked, exception_reply(asked[1].pdu[0], TARGET_FAILED))

    def _answer(self, peer: Peer, asked: tcp.TcpFrame, pdu: bytes) -> None:
        self._asked = None
        peer.write(tcp.encode(self._transaction(asked.transaction), asked.unit, pdu))
        self._ready_at = self._timer.now() + self.wire.gap_s
        self._next()
