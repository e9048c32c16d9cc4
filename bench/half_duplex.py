"""Virtual lines with their real wires, collisions included, on a simulated clock: minutes of a scan in moments."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from meter_batch_engine.errors import LineLost
from meter_batch_engine.line import Line, LineSettings
from meter_batch_virtual.bus import Bus
from meter_batch_virtual.config import parse_fleet
from meter_batch_virtual.meter import virtual_meter
from meter_batch_virtual.wire import Wire

from .simulated import SimulatedClock, SimulatedLoop

START = datetime(2026, 11, 25, 4, 3, 20, tzinfo=UTC)


class LoopAlarms:
    """The timer of a virtual wire, by a simulated loop."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop

    def now(self) -> float:
        """See `Alarms.now`."""
        return self._loop.time()

    def call_at(self, when: float, callback: Callable[[], Any]) -> None:
        """See `Alarms.call_at`."""
        self._loop.call_at(when, callback)


class WireTransport:
    """A `Transport` to the one wire of a site."""

    def __init__(self, site: HalfDuplexSite, settings: LineSettings) -> None:
        self.name = "virtual"
        self._site, self._settings = site, settings

    async def open(self, on_bytes: Callable[[bytes], None], on_lost: Callable[[LineLost], None]) -> None:
        """See `Transport.open`."""
        self._site.on_bytes = on_bytes
        self._on_lost = on_lost

    def write(self, data: bytes) -> None:
        """See `Transport.write`: at another baud rate or parity nobody understands."""
        self._site.written += 1
        if (self._settings.baud, self._settings.parity) == self._site.serial:
            self._site.wire.send(data)

    async def close(self) -> None:
        """See `Transport.close`."""
        self._site.on_bytes = None


class HalfDuplexSite:
    """The first line of a fleet; `line(settings)` makes a `Line` to it."""

    def __init__(self, loop: SimulatedLoop, fleet: str) -> None:
        self.clock = SimulatedClock(loop, START)
        fleet_config = parse_fleet(fleet, Path("fleet.toml"))
        config = fleet_config.lines[0]
        self.meters = [virtual_meter(one, self.clock, fleet_config.utc_offset, config.baud) for one in config.meters]
        self.serial = config.baud, config.parity
        self.on_bytes: Callable[[bytes], None] | None = None
        self.written = 0
        self.wire = Wire(
            Bus(self.meters, config, self.clock),
            self._deliver,
            LoopAlarms(loop),
            baud=config.baud,
            bits=config.bits,
            piece_bytes=8,
            echo=config.echo,
        )

    def _deliver(self, data: bytes) -> None:
        if self.on_bytes is not None:
            self.on_bytes(data)

    def line(self, settings: LineSettings) -> Line:
        """See `scan`: a line that is not open yet."""
        return Line(WireTransport(self, settings), settings, now=self.clock.now)

    def babble(self, data: bytes, every_s: float) -> None:
        """Something talks on the line although nobody asked."""
        loop = asyncio.get_running_loop()

        def talk() -> None:
            self._deliver(data)
            loop.call_later(every_s, talk)

        loop.call_later(every_s, talk)
