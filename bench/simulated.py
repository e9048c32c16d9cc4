"""A simulated clock and a simulated wire, so that hours of a line pass in moments and to the microsecond.

For tests and for benches whose figures depend on the protocol's time alone, not on the machine's.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from meter_batch_engine.errors import LineLost, LineUnavailable
from meter_batch_engine.line import Line, LineSettings
from meter_batch_virtual.bus import Bus
from meter_batch_virtual.clock import FleetClock
from meter_batch_virtual.config import FleetConfig, parse_fleet
from meter_batch_virtual.meter import VirtualMeter, virtual_meter
from meter_batch_virtual.uart import Setting

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


class SimulatedClock(FleetClock):
    """The time of a virtual fleet that goes by a simulated loop; `at` is the instant at which it starts."""

    def __init__(self, loop: SimulatedLoop, at: datetime) -> None:
        super().__init__()
        self._loop, self._began = loop, loop.time()
        self.started_at = at

    def now(self) -> datetime:
        """See `FleetClock.now`."""
        return self.at_s(self.since_start_s())

    def since_start_s(self) -> float:
        """See `FleetClock.since_start_s`."""
        return self._loop.time() - self._began


class VirtualSite:
    """The lines of a virtual fleet on simulated wires: real virtual meters, no sockets, no time that passes."""

    def __init__(self, loop: SimulatedLoop, fleet: str, at: datetime) -> None:
        self.clock = SimulatedClock(loop, at)
        self.config: FleetConfig = parse_fleet(fleet, Path("fleet.toml"))
        self.meters: dict[str, dict[str, VirtualMeter]] = {}
        """By line, then address."""
        self.wires: dict[str, Wire] = {}
        self.lines: dict[str, Line] = {}
        self._buses: dict[str, Bus] = {}
        for config in self.config.lines:
            meters = [virtual_meter(one, self.clock, self.config.utc_offset, config.baud) for one in config.meters]
            bus, free = Bus(meters, config, self.clock), not config.is_wired
            settings = LineSettings(
                baud=config.baud,
                parity=config.parity,
                stop_bits=config.stop_bits,
                framing="tcp" if config.protocol == "modbus-tcp" else "rtu",
            )
            wire = Wire(
                self._answers(bus, settings, free),
                baud=config.baud,
                bits=config.setting.bits,
                packed=True,
                free=free,
                name=config.name,
            )
            self.meters[config.name] = {meter.address: meter for meter in meters}
            self.wires[config.name] = wire
            self._buses[config.name] = bus
            self.lines[config.name] = Line(wire, settings, now=self.clock.now)

    def _answers(self, bus: Bus, settings: LineSettings, free: bool) -> Answers:
        peer: Any = object() if not free else _Peer()

        def answers(request: bytes) -> Iterable[tuple[float, bytes]]:
            heard = bus.hear_network(peer, request) if free else bus.hear(request, 1.0)
            return [(one.turnround_s + settings.silence_s * one.after_gap, one.raw) for one in heard]

        return answers

    def line_at(self, name: str, settings: LineSettings) -> Line:
        """The line as it is when the master's port is set like this."""
        self._buses[name].master = Setting(settings.baud, settings.parity, settings.stop_bits)
        return Line(self.wires[name], settings, now=self.clock.now)

    def cut(self, line: str) -> None:
        """Pulls the plug of a line."""
        wire = self.wires[line]
        wire.refuses = "pulled"
        if wire.on_lost is not None:
            wire.lose()

    def mend(self, line: str) -> None:
        """Puts it back."""
        self.wires[line].refuses = ""

    def until(self, at: datetime) -> float:
        """Seconds until an instant of the fleet."""
        return (at - self.clock.now()) / timedelta(seconds=1)


class _Peer:
    """Something that connects."""
