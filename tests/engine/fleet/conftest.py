"""A site on a simulated wire: meters of real models whose energies grow, and which can die, lie and be slow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from meter_batch_engine.fleet import Poller, PollMeter, PollReport, PollSettings
from meter_batch_engine.line import Line, LineSettings
from meter_batch_engine.model.quantity import QUANTITIES, Kind, Measure
from meter_batch_engine.protocol.dlt645.server import Dlt645Responder
from meter_batch_engine.protocol.modbus.rtu import encode as encode_frame
from meter_batch_engine.protocol.modbus.server import ModbusException, ModbusResponder
from meter_batch_engine.template import WordImage, encode, load

START = datetime(2026, 11, 25, 12, 3, 20, tzinfo=UTC)
USUAL = {
    Measure.VOLTAGE: 230.5,
    Measure.CURRENT: 5.25,
    Measure.POWER_FACTOR: 0.95,
    Measure.FREQUENCY: 50.01,
    Measure.TEMPERATURE: 21.5,
}


@dataclass
class SimMeter:
    """One meter. `delay_s` is called for each reply; None says nothing."""

    address: str
    model: str = "eastron/sdm630"
    delay_s: Callable[[], float | None] = lambda: 0.03
    absent: frozenset[str] = frozenset()
    kw: Decimal = Decimal("3.6")
    level: Decimal = Decimal(1000)
    alive: bool = True
    damaged: bool = False
    damaged_from: int = 10_000
    """Replies of so many bytes and more are damaged."""
    longest: int = 125
    refuses: int | None = None
    mute: frozenset[str] = frozenset()
    """What it says nothing about where it should refuse."""
    answers_as: int | None = None
    """Another unit's number in its replies."""
    asked: list[float] = field(default_factory=list)
    site: Any = None
    variant = "2007"
    ignores: bool = False
    serial: str | None = None
    """The serial number that it tells; it refuses the question where None."""
    said: list[float] = field(default_factory=list)
    """When it told it."""
    turned: bool = False
    """Whether its words come in the other order than its model's."""
    needs_preamble: bool = False
    """Whether it answers only after FE bytes."""
    refusals: list[tuple[int, int]] = field(default_factory=list)
    """(address, count) of the Modbus requests that it refused."""
    _image: Any = None

    def __post_init__(self) -> None:
        self.template = load(self.model)
        self.variant = self.template.dlt645.variant

    def values(self) -> dict[str, Any]:
        hours = Decimal(str(round(self.site.loop.time() - self.site.started, 3))) / 3600
        made: dict[str, Any] = {}
        for register in self.template.registers:
            quantity = QUANTITIES[register.obis]
            if quantity.key in self.absent:
                continue
            if quantity.kind is Kind.INSTANT:
                made[register.obis] = USUAL.get(quantity.measure, 1.2)
            else:
                made[register.obis] = self.level + self.kw * hours
        return made

    def read(self, function: int, address: int, count: int) -> Any:
        who = self.template.identity.serial
        if who is not None and (function, address) == (who.function, who.address) and self.serial is not None:
            self.said.append(self.site.loop.time() - self.site.started)
            return who.words(self.serial)
        for one in self._mutes():
            at = one.locator
            self.ignores |= at.function == function and at.address < address + count and at.end > address
        if self.refuses is not None:
            raise ModbusException(self.refuses)
        lacking = [one.locator for one in self.template.registers if one.quantity.key in self.absent]
        if any(at.function == function and at.address < address + count and at.end > address for at in lacking):
            self.refusals.append((address, count))
            raise ModbusException(2)
        if count > self.longest:
            self.refusals.append((address, count))
            raise ModbusException(3)
        image = self.image()
        assert isinstance(image, WordImage)
        words = image.read(function, address, count)
        return [words[place ^ 1] for place in range(count)] if self.turned else words

    def image(self) -> Any:
        """What the meter holds now; it renews its registers once a second."""
        now = int(self.site.loop.time()), self.level
        if self._image is None or self._image[0] != now:
            self._image = now, encode(self.template, self.values())
        return self._image[1]

    def _mutes(self) -> list[Any]:
        return [one for one in self.template.registers if one.quantity.key in self.mute]

    def item(self, di: str) -> bytes | None:
        if di == "04000402" and self.serial is not None:
            self.said.append(self.site.loop.time() - self.site.started)
            return bytes.fromhex(self.serial)[::-1]
        self.ignores |= any(di in (one.locator.di, one.locator.single) for one in self._mutes())
        items = self.image()
        assert isinstance(items, dict)
        return items.get(di)

    def load_records(self, request: Any) -> None:
        return None

    def set_clock(self, at: Any) -> None: ...


class Site:
    """Meters, wire, line and poller on one simulated loop."""

    def __init__(self, loop: Any, wire: Any, meters: Iterable[SimMeter], line: LineSettings, **wiring: Any) -> None:
        self.loop, self.started = loop, loop.time()
        self.meters = {meter.address: meter for meter in meters}
        for meter in self.meters.values():
            meter.site = self
        units = {int(one.address): one for one in self.meters.values() if one.template.protocol == "modbus"}
        others = [one for one in self.meters.values() if one.template.protocol != "modbus"]
        self.modbus, self.dlt645 = ModbusResponder(units, line.framing), Dlt645Responder(others, max_data=20)
        bits = round(line.wire_s(1) * line.baud) or 10
        self.wire = wire(self.answers, baud=line.baud, bits=bits, free=line.framing == "tcp", **wiring)
        self.line = Line(self.wire, line, now=self.now)
        self.reports: list[PollReport] = []

    def now(self) -> datetime:
        return START + timedelta(seconds=self.loop.time() - self.started)

    def answers(self, request: bytes) -> Iterable[tuple[float, bytes]]:
        replies = [(str(one.unit), one.raw) for one in self.modbus.feed(request)]
        replies += [(one.address, one.raw) for one in self.dlt645.feed(request)]
        for address, raw in replies:
            meter = self.meters[address]
            meter.asked.append(self.loop.time() - self.started)
            delay = meter.delay_s()
            ignored, meter.ignores = meter.ignores, False
            ignored |= meter.needs_preamble and not request.startswith(b"\xfe")
            if meter.alive and delay is not None and not ignored:
                if meter.answers_as is not None:
                    raw = encode_frame(meter.answers_as, raw[1:-2])
                yield (
                    delay,
                    bytes((*raw[:-2], raw[-2] ^ 1, raw[-1]))
                    if meter.damaged or len(raw) >= meter.damaged_from
                    else raw,
                )

    def poll_meters(self, **changes: Any) -> list[PollMeter]:
        return [
            PollMeter(one.address, f"Meter {one.address}", one.template, one.address, one.template.protocol, **changes)
            for one in self.meters.values()
        ]

    def poller(self, **settings: Any) -> Poller:
        known = {key: settings.pop(key) for key in ("lessons", "serials") if key in settings}
        return Poller(
            self.line, PollSettings(**settings), self.reports.append, now=self.now, monotonic=self.loop.time, **known
        )

    # what the reports say

    def times(self, key: str) -> list[float]:
        """When values of a meter were reported, in seconds since the start."""
        return [(report.at - START).total_seconds() for report in self.reports if key in report.readings]

    def last(self, key: str) -> dict[str, Any]:
        """The newest values of a meter by name."""
        found: dict[str, Any] = {}
        for report in self.reports:
            found |= {QUANTITIES[one.obis].key: one for one in report.readings.get(key, ())}
        return found

    def failures(self, key: str) -> list[Any]:
        return [report.failed[key] for report in self.reports if key in report.failed]


@pytest.fixture
def polled(simulated: Any, wire: Any) -> Callable[..., Site]:
    """Polls meters for some simulated seconds and gives the site; `events` are (second, function of the site)."""

    def run(
        meters: Iterable[SimMeter],
        seconds: float,
        *,
        line: LineSettings | None = None,
        events: Iterable[tuple[float, Callable[[Site], Any]]] = (),
        wiring: dict[str, Any] | None = None,
        poll: Callable[[Site], list[PollMeter]] = Site.poll_meters,
        **settings: Any,
    ) -> Site:
        async def main(loop: Any) -> Site:
            site = Site(loop, wire, meters, line or LineSettings(baud=9600), **(wiring or {}))
            poller = site.poller(**settings)
            site.poll = poller
            poller.set_meters(poll(site))
            task = asyncio.create_task(poller.run())
            waiting = []
            for at, event in sorted(events, key=lambda pair: pair[0]):
                await asyncio.sleep(site.started + at - loop.time())
                made = event(site)
                if asyncio.iscoroutine(made):
                    waiting.append(asyncio.create_task(made))
            await asyncio.sleep(site.started + seconds - loop.time())
            site.results = await asyncio.gather(*waiting, return_exceptions=True)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return site

        return simulated(main)

    return run


@pytest.fixture(scope="session")
def sim_meter() -> type[SimMeter]:
    return SimMeter
