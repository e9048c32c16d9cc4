"""A simulated clock and a simulated wire, so that hours of a line pass in moments and to the microsecond.

For tests and for benches whose figures depend on the protocol's time alone, not on the machine's.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

from meter_batch_engine.errors import LineLost, LineUnavailable

type Answers = Callable[[bytes], Iterable[tuple[float, bytes]]]
"""A request → replies, each with its delay after the last byte of the request (s)."""


class _Jump(selectors.DefaultSelector):
    """Does not wait for time to pass: it moves the clock."""

    loop: SimulatedLoop

    def select(self, timeout: float | None = None) -> Any:
        events = super().select(0)
        if events or timeout == 0:
            return events
        if timeout is None:
            events = super().select(5)
            assert events, "nothing will ever happen again in this simulation"
            return events
        self.loop.now += timeout
        return []


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer."""

    def __init__(self) -> None:
        self.now = 10_000_000.0
        selector = _Jump()
        selector.loop = self
        super().__init__(selector)
        self._clock_resolution = 1e-7

    def time(self) -> float:
        return self.now

    def stall(self, seconds: float) -> None:
        """As if a callback had kept the loop busy."""
        self.now += seconds


def run_simulated[T](main: Callable[[SimulatedLoop], Coroutine[Any, Any, T]]) -> T:
    loop = SimulatedLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main(loop))


@dataclass
class Wire:
    """A `Transport` to meters on a wire that takes its time; bytes arrive one by one, or whole frames (`packed`)."""

    answers: Answers
    baud: int = 9600
    bits: int = 10
    packed: bool = False
    echo: bool = False
    free: bool = False
    """No wire time at all, as on Modbus TCP."""
    name: str = "simulated:1"
    refuses: str = ""
    sent: list[tuple[float, bytes]] = field(default_factory=list)
    silences: list[float] = field(default_factory=list)
    """Silence on the wire before each request."""
    last: float = -1e9
    opened: int = 0
    on_lost: Any = None

    async def open(self, on_bytes: Callable[[bytes], None], on_lost: Callable[[LineLost], None]) -> None:
        if self.refuses:
            raise LineUnavailable(self.refuses)
        self.loop = asyncio.get_running_loop()
        self.on_bytes, self.on_lost = on_bytes, on_lost
        self.opened += 1
        self.last = self.loop.time()

    def write(self, data: bytes) -> None:
        if self.on_lost is None:
            raise LineLost("simulated:1 is closed")
        now = self.loop.time()
        self.sent.append((now, data))
        self.silences.append(now - self.last)
        end = self.put(now, data) if self.echo else now + self.byte_s * len(data)
        self.last = max(self.last, end)
        for delay, reply in self.answers(data):
            self.put(end + delay, reply)

    @property
    def byte_s(self) -> float:
        return 0.0 if self.free else self.bits / self.baud

    def put(self, at: float, data: bytes) -> float:
        """Bytes on the wire from an instant on; the instant at which the last one is over."""
        end = at + self.byte_s * len(data)
        pieces = (
            [(end, data)]
            if self.packed or self.free
            else [(at + self.byte_s * (i + 1), data[i : i + 1]) for i in range(len(data))]
        )
        for when, piece in pieces:
            self.loop.call_at(when, self._arrive, piece)
        return end

    def _arrive(self, piece: bytes) -> None:
        self.last = max(self.last, self.loop.time())
        if self.on_lost is not None:
            self.on_bytes(piece)

    def lose(self) -> None:
        lost, self.on_lost = self.on_lost, None
        lost(LineLost("simulated:1 closed the connection."))

    async def close(self) -> None:
        self.on_lost = None
