"""What a disturbed line and a busy host cost, and whether a wrong value ever gets through.

One exchange in a hundred loses a frame or has one damaged, its request or its reply: one to eight bytes become
others, or the frame breaks off. The host stands still for half a second about every five minutes. Whose values come
through is tried with ten times the noise, and with replies that come after their time-out. Every meter has values
that say whose they are, which register it is and when it was read. On a simulated clock: the real poller, line and
protocols, and a wire that takes its time.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from meter_batch_engine.fleet import Poller, PollMeter, PollReport, PollSettings
from meter_batch_engine.line import Line, LineSettings
from meter_batch_engine.model.quantity import BY_KEY, Kind
from meter_batch_engine.model.reading import Reading
from meter_batch_engine.protocol.dlt645.frame import Framer
from meter_batch_engine.protocol.dlt645.server import Dlt645Responder
from meter_batch_engine.protocol.modbus import rtu
from meter_batch_engine.protocol.modbus.server import ModbusResponder
from meter_batch_engine.template import Template, WordImage, encode, load

from .figure import Figure
from .simulated import SimulatedLoop, Wire, run_simulated

TARGET = 0.97
SHARE = 0.005
"""Of all frames that are lost or damaged: an exchange has two."""
LATE_SHARE = 0.002
STALL_EVERY_S, STALL_S = 300.0, 0.5
START = datetime(2026, 11, 25, 12, 0, 1, tzinfo=UTC)
EXCHANGES, FULL_EXCHANGES = 40_000, 1_000_000
GOODPUT_S = 1800.0
STEP_S = 10.0
"""Registers of the meters move this often."""
ENERGIES = tuple(BY_KEY[key].obis for key in ("energy_import", "energy_export"))
INSTANTS = tuple(
    BY_KEY[key].obis for key in ("voltage_l1", "voltage_l2", "voltage_l3", "current_l1", "current_l2", "current_l3")
)
WANTED = frozenset((*ENERGIES, *INSTANTS))


@dataclass
class Marked:
    """A meter whose values say who it is: volts and amperes its number and register, energies its own level."""

    number: int
    template: Template
    now_s: Callable[[], float]
    variant: Any = "2007"
    _made: tuple[int, Any] = (-1, None)

    def __post_init__(self) -> None:
        self.variant = self.template.dlt645.variant

    @property
    def address(self) -> str:
        """Modbus unit or twelve digits."""
        return str(self.number) if self.template.protocol == "modbus" else f"{self.number:012d}"

    def value(self, obis: str, step: int) -> Decimal:
        """What a register shows in a stretch of time."""
        if obis in ENERGIES:
            place = ENERGIES.index(obis)
            # 3.6 to 7 kW: 0.01 to 0.02 kWh in ten seconds.
            return Decimal(1000 * self.number + 17 * place) + Decimal(step * (1 + self.number % 2)) / 100
        place = INSTANTS.index(obis)
        if place < 3:
            return Decimal(200 + self.number) + Decimal(place + 1) / 10
        return Decimal(self.number) + Decimal(place - 2) / 10

    def _image(self) -> Any:
        step = int(self.now_s() / STEP_S)
        if self._made[0] != step:
            values: dict[str, Any] = {
                one.obis: Decimal(0) if one.quantity.kind is not Kind.INSTANT else 0.0
                for one in self.template.registers
            }
            values |= {obis: self.value(obis, step) for obis in WANTED if obis in values}
            self._made = step, encode(self.template, values)
        return self._made[1]

    def read(self, function: int, address: int, count: int) -> Any:
        """See `RegisterBank.read`."""
        image = self._image()
        assert isinstance(image, WordImage)
        return image.read(function, address, count)

    def item(self, di: str) -> bytes | None:
        """See `Dlt645Meter.item`."""
        found: bytes | None = self._image().get(di)
        return found

    def load_records(self, request: object) -> None:
        """See `Dlt645Meter.load_records`."""
        del request

    def set_clock(self, at: datetime) -> None:
        """See `Dlt645Meter.set_clock`."""


@dataclass
class Disturbance:
    """What happens to frames; counts what it did."""

    share: float
    random: random.Random
    late_share: float = 0.0
    did: Counter[str] = field(default_factory=Counter)

    def frame(self, raw: bytes) -> bytes | None:
        """What is left of a frame; None where it is lost."""
        if self.random.random() >= self.share:
            return raw
        kind = self.random.randrange(4)
        if kind == 0:
            self.did["lost"] += 1
            return None
        self.did["damaged"] += 1
        if kind == 1:
            return raw[: self.random.randrange(1, len(raw))]
        wrong = bytearray(raw)
        count = self.random.randrange(1, 9)
        begin = self.random.randrange(len(wrong))
        places = (
            range(begin, min(len(wrong), begin + count))
            if kind == 2
            else self.random.choices(range(len(wrong)), k=count)
        )
        for place in places:
            wrong[place] = self.random.randrange(256)
        if wrong != raw and (rtu.valid(wrong) or Framer().feed(bytes(wrong))):
            self.did["valid though damaged"] += 1
        return bytes(wrong)


@dataclass
class Outcome:
    """What came of a run."""

    exchanges: int = 0
    good: int = 0
    """Good values that were reported."""
    checked: Counter[str] = field(default_factory=Counter)
    """Values of another meter or register, values that nobody has, energies among them."""
    disturbance: Counter[str] = field(default_factory=Counter)
    contradicted: int = 0
    line: dict[str, int] = field(default_factory=dict)


def poll(
    model: str,
    meters: int,
    settings: LineSettings,
    share: float,
    *,
    stalls: bool,
    late_share: float = 0.0,
    seconds: float,
    exchanges: int,
    seed: int,
    wanted: frozenset[str] | None = WANTED,
    slow_s: float = STEP_S,
) -> Outcome:
    """Polls without a pause until so many seconds have passed or so many exchanges were made."""

    async def main(loop: SimulatedLoop) -> Outcome:
        rng = random.Random(seed)
        outcome = Outcome()
        template = load(model)
        started = loop.time()
        disturbance = Disturbance(share, rng, late_share)

        def since() -> float:
            return loop.time() - started

        marked = {one.address: one for one in (Marked(n, template, since) for n in range(1, meters + 1))}
        modbus = template.protocol == "modbus"

        def fresh() -> ModbusResponder:
            return ModbusResponder({int(one.address): one for one in marked.values()} if modbus else {}, "rtu")

        dlt645 = Dlt645Responder([] if modbus else list(marked.values()))

        def answers(request: bytes) -> Iterator[tuple[float, bytes]]:
            heard = disturbance.frame(request)
            if heard is None:
                return
            # Meters forget a frame that broke off when the line falls silent.
            replies = fresh().feed(heard) if modbus else dlt645.feed(heard)
            for reply in replies:
                raw = disturbance.frame(reply.raw)
                if raw is not None:
                    delay_s = 0.02 + 0.06 * rng.random()
                    if rng.random() < disturbance.late_share:
                        disturbance.did["late"] += 1
                        delay_s += 1.9 * rng.random()
                    yield delay_s, raw

        def now() -> datetime:
            return START + timedelta(seconds=since())

        def judge(report: PollReport) -> None:
            for key, readings in report.readings.items():
                for one in readings:
                    outcome.good += one.good
                    if one.good and one.obis in WANTED:
                        _judge(marked, marked[key], one, outcome.checked)

        wire = Wire(answers, baud=settings.baud, bits=round(settings.wire_s(1) * settings.baud), packed=True)
        line = Line(wire, settings, now=now)
        poller = Poller(
            line,
            PollSettings(fast_s=0.001, slow_s=slow_s, interval_s=900, report_every_s=0.0, budget=0.0),
            judge,
            now=now,
            monotonic=loop.time,
        )
        poller.set_meters(
            PollMeter(one.address, one.address, template, one.address, template.protocol, wanted)
            for one in marked.values()
        )
        task = asyncio.create_task(poller.run())
        while since() < seconds and line.counters.exchanges < exchanges:
            pause_s = STALL_EVERY_S * rng.random() * 2 if stalls else STALL_EVERY_S
            await asyncio.sleep(min(pause_s, seconds - since()))
            if stalls:
                outcome.disturbance["stalls"] += 1
                loop.stall(STALL_S)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        outcome.exchanges = line.counters.exchanges
        outcome.disturbance.update(disturbance.did)
        outcome.contradicted = sum(one.contradicted for one in poller.evidence.meters.values())
        outcome.line = {
            name: getattr(line.counters, name) for name in ("timeouts", "damaged", "foreign", "late", "stalls")
        }
        return outcome

    return run_simulated(main)


def _judge(marked: dict[str, Marked], meter: Marked, reading: Reading, checked: Counter[str]) -> None:
    """Whether a value is the meter's own, of that register, of now."""
    value = Decimal(str(reading.value)).quantize(Decimal("0.01"))
    at = (reading.at - START).total_seconds()
    steps = range(max(0, int((at - 3) / STEP_S)), int(at / STEP_S) + 1)
    if any(value == meter.value(reading.obis, step) for step in steps):
        checked["right"] += 1
        return
    energy = reading.obis in ENERGIES
    checked["damaged energy" if energy else "damaged instant"] += 1
    for other in marked.values():
        for obis in ENERGIES if energy else INSTANTS:
            if (other is not meter or obis != reading.obis) and any(value == other.value(obis, one) for one in steps):
                checked["of another"] += 1
                return


LINES: Sequence[tuple[str, str, LineSettings]] = (
    ("modbus", "eastron/sdm630", LineSettings(baud=9600)),
    ("dlt645", "generic/dlt645-3ph", LineSettings(baud=9600, parity="E")),
)


def run(*, full: bool = False) -> list[Figure]:
    """See `bench.__main__`."""
    figures = []
    seconds = GOODPUT_S * (4 if full else 1)
    for name, model, settings in LINES:
        calm, noisy = (
            poll(
                model,
                16,
                settings,
                share,
                stalls=share > 0,
                seconds=seconds,
                exchanges=10**9,
                seed=7,
                wanted=None,
                # All is due always, so that values count rounds.
                slow_s=0.001,
            )
            for share in (0.0, SHARE)
        )
        note = f"{noisy.good} of {calm.good} values in {seconds:.0f} s; {dict(noisy.disturbance)}; simulated clock"
        figures.append(Figure("noise", f"goodput {name}", noisy.good / calm.good, "", "higher", TARGET, note))
    total = FULL_EXCHANGES if full else EXCHANGES
    of_another = wrong_energy = 0
    for name, model, settings in LINES:
        # Ten times the noise, so that what passes a check by chance is really there.
        made = poll(
            model,
            32,
            settings,
            10 * SHARE,
            stalls=True,
            seconds=10**9,
            late_share=LATE_SHARE,
            exchanges=total // len(LINES),
            seed=11,
        )
        seen = made.checked
        of_another += seen["of another"]
        wrong_energy += seen["damaged energy"]
        note = f"{made.exchanges} exchanges, {seen['right']} right values, {dict(made.disturbance)}, {made.line}"
        figures.append(
            Figure(
                "noise", f"damaged but valid instants {name}", seen["damaged instant"], "values", "lower", None, note
            )
        )
        note = "read again and contradicted, so they are not in the ledger"
        figures.append(
            Figure("noise", f"damaged but valid energies {name}", made.contradicted, "", "lower", None, note)
        )
    note = f"{total} exchanges, 10 % of the exchanges disturbed, late replies, stalls; simulated clock"
    figures.append(Figure("noise", "values of another meter or request", of_another, "", "lower", 0, note))
    figures.append(Figure("noise", "damaged energies believed", wrong_energy, "", "lower", 0, note))
    return figures
