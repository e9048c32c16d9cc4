"""CPU an energy read of DL/T 645 over its bare codec, and what a meter takes of memory.

Ours is all that a line does. The reference makes the frame, sends it, awaits a future with a time-out, and checks
start, length, sum, control, address and identifier of the reply: what nobody who reads meters can leave out, as in the
Modbus bench. Both end with the bytes of the value. Beside it stands the reference without time-out, which waits for
ever for a frame that was lost. All reach meters through the network, without the silence that a wire demands before
each request, because waiting for it is not what is compared; what it costs stands beside, as does the import of all
that a poller needs.
"""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import tracemalloc

from meter_batch_engine.fleet import Poller, PollMeter, PollSettings
from meter_batch_engine.line import Line, LineSettings
from meter_batch_engine.protocol.dlt645.exchange import ReadData
from meter_batch_engine.template import load
from meter_batch_engine.transport import open_transport

from .answering import ENERGY, answering
from .closed_loop import Client, Measured, measure
from .figure import Figure
from .rig import ROOT

CONNECTIONS = (1, 50, 500)
EXCHANGES, ROUNDS, FULL_ROUNDS = 4000, 7, 40
WIRED_ROUNDS = 3
TARGET, MEMORY_TARGET_KB = 1.3, 10.0
METERS, METERS_A_LINE = 960, 32


def run(*, full: bool) -> list[Figure]:
    """Each number of connections by itself, then memory and import."""
    figures = []
    for connections in CONNECTIONS:
        measured = compare(connections, EXCHANGES, FULL_ROUNDS if full else ROUNDS)
        note = f"{measured.us(0):.1f} µs over {measured.us(2):.1f} µs, a frame awaited with a time-out and checked"
        bare = f"{measured.us(0):.1f} µs over {measured.us(1):.1f} µs; for comparison"
        figures += [
            Figure("dlt645-cpu", f"CPU, {connections} connections", measured.ratio(0, 2), "", "lower", TARGET, note),
            Figure(
                "dlt645-cpu",
                f"the same over one without time-out, {connections}",
                measured.ratio(0, 1),
                "",
                "lower",
                None,
                bare,
            ),
        ]
    with answering("dlt645") as port:
        wired = asyncio.run(measure((_Wired, _Timed), port, 50, EXCHANGES // 4, WIRED_ROUNDS))
    figures += [
        Figure(
            "dlt645-cpu",
            "CPU with the silence of a wire",
            wired.ratio(0, 1),
            "",
            "lower",
            None,
            f"{wired.us(0):.1f} µs; 50 connections, 20 ms of silence before each request",
        ),
        Figure(
            "dlt645-cpu",
            "memory a meter",
            memory_kb(METERS, METERS_A_LINE),
            "kB",
            "lower",
            MEMORY_TARGET_KB,
            f"{METERS} meters, {METERS_A_LINE} a line, each line with a full trace",
        ),
        Figure("dlt645-cpu", "import", import_mb(), "MB", "lower", None, "line, protocol, poller, beyond bare Python"),
    ]
    return figures


def compare(connections: int, exchanges: int, rounds: int) -> Measured:
    """Ours, the reference without time-out, the reference."""
    with answering("dlt645") as port:
        return asyncio.run(measure((_Ours, _Bare, _Timed), port, connections, exchanges, rounds))


def memory_kb(meters: int, a_line: int, exchanges: int = 200) -> float:
    """What pollers keep for a meter: its state and its share of the line with what that remembers of exchanges."""
    template = load("generic/dlt645-3ph")

    async def main() -> float:
        kept: list[tuple[Line, Poller]] = []
        made = [_poller(number, a_line) for number in range(2)]  # what is made once, for all
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        kept += [_poller(number, a_line) for number in range(meters // a_line)]
        await asyncio.gather(*(fill(line) for line, _ in kept))
        gc.collect()
        spent = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        for line, _ in kept:
            await line.close()
        del made
        return spent / meters / 1000

    async def fill(line: Line) -> None:
        await line.open()
        for one in range(exchanges):
            await line.exchange(ReadData(f"{one % a_line:012d}", ENERGY, data_bytes=4), turnround_s=20.0)

    def _poller(number: int, a_line: int) -> tuple[Line, Poller]:
        line = Line(open_transport(f"tcp://127.0.0.1:{port}"), LineSettings(framing="rtu", baud=4_000_000))
        poller = Poller(line, PollSettings(), lambda report: None)
        poller.set_meters(
            [
                PollMeter(f"{number}-{one}", f"Meter {one}", template, f"{number * a_line + one:012d}", "dlt645-2007")
                for one in range(a_line)
            ]
        )
        return line, poller

    with answering("dlt645") as port:
        return asyncio.run(main())


def import_mb() -> float:
    """Growth of a bare interpreter by what a poller imports."""
    text = (
        "import asyncio, os\n"
        "def pages(): return int(open('/proc/self/statm').read().split()[1])\n"
        "before = pages()\n"
        "import meter_batch_engine.fleet, meter_batch_engine.transport.tcp\n"
        "print((pages() - before) * os.sysconf('SC_PAGE_SIZE') / 1e6)"
    )
    done = subprocess.run([sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True, check=True)
    return float(done.stdout)


class _Ours(Client):
    settings = LineSettings(framing="tcp")

    async def open(self, port: int, number: int) -> None:
        self.line = Line(open_transport(f"tcp://127.0.0.1:{port}"), self.settings)
        self.address = f"{number:012d}"
        await self.line.open()

    async def ask(self, count: int) -> None:
        line, address = self.line, self.address
        for _ in range(count):
            reply = await line.exchange(ReadData(address, ENERGY, data_bytes=4), turnround_s=20.0)
            assert len(reply.answer.data) == 4

    async def close(self) -> None:
        await self.line.close()


class _Wired(_Ours):
    settings = LineSettings(baud=115_200)


_ADD = bytes((value + 0x33) & 0xFF for value in range(256))
_TAKE = bytes((value - 0x33) & 0xFF for value in range(256))


class _Bare(asyncio.Protocol, Client):
    transport: asyncio.Transport
    waiting: asyncio.Future[bytes]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        frame = data.lstrip(b"\xfe")
        if (
            frame[0] == frame[7] == 0x68
            and len(frame) == 12 + frame[9]
            and frame[-1] == 0x16
            and sum(frame[:-2]) & 0xFF == frame[-2]
            and frame[8] == 0x91
            and frame[1:7] == self.address
        ):
            content = frame[10:-2].translate(_TAKE)
            if content[:4] == self.item:
                self.waiting.set_result(content[4:])

    async def open(self, port: int, number: int) -> None:
        self.address = bytes.fromhex(f"{number:012d}")[::-1]
        self.item = bytes.fromhex(ENERGY)[::-1]
        self.loop = asyncio.get_running_loop()
        await self.loop.create_connection(lambda: self, "127.0.0.1", port)

    def send(self) -> None:
        self.waiting = self.loop.create_future()
        frame = b"\x68%b\x68\x11%c%b" % (self.address, len(self.item), self.item.translate(_ADD))
        self.transport.write(frame + bytes((sum(frame) & 0xFF, 0x16)))

    async def ask(self, count: int) -> None:
        for _ in range(count):
            self.send()
            data = await self.waiting
            assert len(data) == 4

    async def close(self) -> None:
        self.transport.close()


class _Timed(_Bare):
    async def ask(self, count: int) -> None:
        for _ in range(count):
            self.send()
            async with asyncio.timeout(20.0):
                data = await self.waiting
            assert len(data) == 4
