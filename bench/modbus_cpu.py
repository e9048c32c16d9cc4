"""CPU an exchange over Modbus TCP: 100 registers, closed loop, over the barest client that awaits with a time-out.

Ours is all that a line does: its turn, its silence, late replies, deadline, counters, trace and the reply's times, with
a question made anew each time. The reference is a future a request, `asyncio.timeout` around it, and one struct; it
knows neither late replies nor split ones. pymodbus's own asynchronous client stands beside them.
"""

from __future__ import annotations

import asyncio
import struct

from meter_batch_engine.line import Line, LineSettings
from meter_batch_engine.protocol.modbus.exchange import ReadRegisters
from meter_batch_engine.transport import open_transport

from .answering import WORDS, answering
from .closed_loop import Client, Measured, measure
from .figure import Figure

CONNECTIONS = (50, 200, 500)
EXCHANGES, ROUNDS, FULL_ROUNDS = 4000, 7, 40
TARGET = 1.0


def run(*, full: bool) -> list[Figure]:
    """Each number of connections by itself."""
    figures = []
    for connections in CONNECTIONS:
        measured = compare(connections, EXCHANGES, FULL_ROUNDS if full else ROUNDS)
        note = f"{measured.us(0):.1f} µs over {measured.us(1):.1f} µs"
        figures.append(
            Figure("modbus-cpu", f"CPU, {connections} connections", measured.ratio(0, 1), "", "lower", TARGET, note)
        )
        figures.append(
            Figure(
                "modbus-cpu",
                f"pymodbus, {connections} connections",
                measured.ratio(2, 1),
                "",
                "lower",
                None,
                f"{measured.us(2):.1f} µs; for comparison",
            )
        )
    return figures


def compare(connections: int, exchanges: int, rounds: int) -> Measured:
    """Ours, the reference, pymodbus."""
    with answering("modbus") as port:
        return asyncio.run(measure((_Ours, _Bare, _Pymodbus), port, connections, exchanges, rounds))


class _Ours(Client):
    async def open(self, port: int, number: int) -> None:
        settings = LineSettings(framing="tcp")
        self.line = Line(open_transport(f"tcp://127.0.0.1:{port}"), settings)
        self.transaction = 0
        await self.line.open()

    async def ask(self, count: int) -> None:
        line = self.line
        for _ in range(count):
            self.transaction = (self.transaction + 1) & 0xFFFF
            question = ReadRegisters(1, 3, 0, WORDS, framing="tcp", transaction=self.transaction)
            reply = await line.exchange(question, turnround_s=20.0)
            assert len(reply.answer) == WORDS

    async def close(self) -> None:
        await self.line.close()


_REQUEST = struct.Struct(">HHHBBHH")
_HEAD = struct.Struct(">HHHBBB")
_WORDS = struct.Struct(f">{WORDS}H")


class _Bare(asyncio.Protocol, Client):
    transport: asyncio.Transport
    waiting: asyncio.Future[tuple[int, ...]]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        transaction, zero, length, unit, function, count = _HEAD.unpack_from(data)
        if (transaction, zero, length, unit, function, count) == (self.transaction, 0, 2 * WORDS + 3, 1, 3, 2 * WORDS):
            self.waiting.set_result(_WORDS.unpack_from(data, 9))

    async def open(self, port: int, number: int) -> None:
        self.transaction = 0
        self.loop = asyncio.get_running_loop()
        await self.loop.create_connection(lambda: self, "127.0.0.1", port)

    async def ask(self, count: int) -> None:
        for _ in range(count):
            self.transaction = (self.transaction + 1) & 0xFFFF
            self.waiting = self.loop.create_future()
            self.transport.write(_REQUEST.pack(self.transaction, 0, 6, 1, 3, 0, WORDS))
            async with asyncio.timeout(20.0):
                words = await self.waiting
            assert len(words) == WORDS

    async def close(self) -> None:
        self.transport.close()


class _Pymodbus(Client):
    async def open(self, port: int, number: int) -> None:
        from pymodbus.client import AsyncModbusTcpClient

        self.client = AsyncModbusTcpClient("127.0.0.1", port=port)
        await self.client.connect()

    async def ask(self, count: int) -> None:
        for _ in range(count):
            reply = await self.client.read_holding_registers(0, count=WORDS, device_id=1)
            assert len(reply.registers) == WORDS

    async def close(self) -> None:
        self.client.close()
