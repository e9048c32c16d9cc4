"""Meters of real models on a simulated wire, read by the real poller and line: minutes of a bus in moments.

Only time is simulated. Wire time, silences, turn-rounds and time-outs are those of the real thing; what the processor
needs between two exchanges is not in it (the turnaround bench measures that, on a real clock).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from meter_batch_engine.errors import NoReply
from meter_batch_engine.fleet import Poller, PollMeter, PollReport, PollSettings
from meter_batch_engine.line import Line, LineSettings, Reply
from meter_batch_engine.model.obis import Obis
from meter_batch_engine.model.quantity import Kind, Measure
from meter_batch_engine.protocol.dlt645.frame import Variant
from meter_batch_engine.protocol.dlt645.server import Dlt645Responder
from meter_batch_engine.protocol.exchange import Exchange
from meter_batch_engine.protocol.modbus.server import ModbusResponder
from meter_batch_engine.template import Template, WordImage, encode

from .simulated import SimulatedLoop, Wire, run_simulated

USUAL = {Measure.VOLTAGE: 230.0, Measure.FREQUENCY: 50.0}
START = datetime(2026, 11, 25, 12, 0, 1, tzinfo=UTC)


@dataclass
class BusMeter:
    """A meter that answers after `turnround_s()`, or not where that is None."""

    address: str
    template: Template
    turnround_s: Callable[[], float | None]
    variant: Variant = "2007"
    asked: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.variant = self.template.dlt645.variant
        values = {
            one.obis: USUAL.get(one.quantity.measure, 1.0) if one.quantity.kind is Kind.INSTANT else Decimal(100)
            for one in self.template.registers
        }
        self._image = encode(self.template, values)

    def read(self, function: int, address: int, count: int) -> Any:
        """See `RegisterBank.read`."""
        assert isinstance(self._image, WordImage)
        return self._image.read(function, address, count)

    def item(self, di: str) -> bytes | None:
        """See `Dlt645Meter.item`."""
        assert isinstance(self._image, dict)
        return self._image.get(di)

    def load_records(self, request: object) -> None:
        """See `Dlt645Meter.load_records`."""
        del request

    def set_clock(self, at: datetime) -> None:
        """See `Dlt645Meter.set_clock`."""


class CountingLine(Line):
    """Counts by meter which exchanges were not answered in time."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.timeouts: Counter[str] = Counter()

    async def exchange[Answer](
        self, exchange: Exchange[Answer], *, turnround_s: float, gap_s: float = 0.0
    ) -> Reply[Answer]:
        """See `Line.exchange`."""
        try:
            return await super().exchange(exchange, turnround_s=turnround_s, gap_s=gap_s)
        except NoReply:
            self.timeouts[exchange.meter] += 1
            raise


@dataclass
class Result:
    """What came of a run."""

    meters: dict[str, BusMeter]
    reports: list[tuple[float, PollReport]]
    line: CountingLine
    wire: Wire

    def readings(self, since_s: float, until_s: float) -> int:
        """Good readings that were reported in a span."""
        return sum(
            one.good
            for at, report in self.reports
            if since_s < at <= until_s
            for readings in report.readings.values()
            for one in readings
        )


def poll(
    meters: Iterable[BusMeter],
    settings: LineSettings,
    seconds: float,
    wanted: frozenset[Obis] | None,
    *,
    slow_s: float,
) -> Result:
    """Polls without a pause for some simulated seconds."""

    async def main(loop: SimulatedLoop) -> Result:
        started = loop.time()
        bus = {meter.address: meter for meter in meters}
        units = {int(one.address): one for one in bus.values() if one.template.protocol == "modbus"}
        responders = (
            ModbusResponder(units, "rtu"),
            Dlt645Responder([one for one in bus.values() if one.template.protocol != "modbus"]),
        )

        def answers(request: bytes) -> Iterator[tuple[float, bytes]]:
            replies = [(str(one.unit), one.raw) for one in responders[0].feed(request)]
            replies += [(one.address, one.raw) for one in responders[1].feed(request)]
            for address, raw in replies:
                meter = bus[address]
                meter.asked.append(loop.time() - started)
                if (turnround_s := meter.turnround_s()) is not None:
                    meter.answered.append(loop.time() - started)
                    yield turnround_s, raw

        def now() -> datetime:
            return START + timedelta(seconds=loop.time() - started)

        bits = round(settings.wire_s(1) * settings.baud)
        wire = Wire(answers, baud=settings.baud, bits=bits, packed=True)
        line = CountingLine(wire, settings, now=now)
        reports: list[tuple[float, PollReport]] = []
        poller = Poller(
            line,
            PollSettings(fast_s=0.001, slow_s=slow_s, interval_s=3600, report_every_s=0.0),
            lambda report: reports.append((loop.time() - started, report)),
            now=now,
            monotonic=loop.time,
        )
        poller.set_meters(
            PollMeter(one.address, one.address, one.template, one.address, one.template.protocol, wanted)
            for one in bus.values()
        )
        task = asyncio.create_task(poller.run())
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return Result(bus, reports, line, wire)

    return run_simulated(main)
