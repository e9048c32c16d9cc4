"""What dead meters cost the living: 32 meters on one line, 1, 4 or 8 of them dead, against the living alone.

The figure is the mean interval between two readings of a living meter, over that of the living alone. On a simulated
clock (see `bus`): the time of the wire and of all time-outs is exact, a run of an hour takes seconds; with --full the
worst case once more on wires that take real time.
Each meter thinks 20 to 100 ms; one reply in a hundred takes three times as long. Then the dead rise, one by one.
"""

from __future__ import annotations

import asyncio
import math
import random
from dataclasses import dataclass
from statistics import mean
from typing import Any

from meter_batch_engine.fleet import Poller, PollMeter, PollSettings
from meter_batch_engine.line import Line, LineSettings
from meter_batch_engine.model.quantity import BY_KEY
from meter_batch_engine.template import Template, load
from meter_batch_engine.transport import open_transport

from .bus import BusMeter, Result, poll
from .figure import Figure
from .rig import free_ports, rig

METERS = 32
DEAD = (1, 4, 8)
COLD_S = 600.0
STEADY_S, FULL_STEADY_S = 1500.0, 7200.0
RISE_EVERY_S = 70.0
NOTE = "simulated clock"
WIRED_STEADY_S = 300.0


@dataclass(frozen=True)
class Case:
    """A line; `cold` and `steady` are the targets of the first ten minutes and of the time after."""

    name: str
    model: str
    settings: LineSettings
    keys: tuple[str, ...]
    cold: float | None
    steady: float


CASES = (
    Case(
        "modbus 9600",
        "eastron/sdm630",
        LineSettings(baud=9600),
        tuple(f"{what}_l{phase}" for what in ("voltage", "current", "active_power") for phase in (1, 2, 3)),
        1.10,
        1.05,
    ),
    Case(
        "dlt645 2400",
        "generic/dlt645-3ph",
        LineSettings(baud=2400, parity="E"),
        ("voltage_l1", "voltage_l2", "voltage_l3", "energy_import"),
        None,
        1.10,
    ),
)


def run(*, full: bool) -> list[Figure]:
    """For Modbus at 9600 and DL/T 645 at 2400 Bd."""
    steady_s = FULL_STEADY_S if full else STEADY_S
    figures = [figure for case in CASES for dead in DEAD for figure in _measure(case, dead, steady_s)]
    return figures + (_wired(CASES[0], max(DEAD)) if full else [])


class _Meter(BusMeter):
    """What one does depends on its own number alone, so that it is the same in every run.

    Dead until `rises_after`: then it does not answer once more, and is there from that instant on, which is the worst
    for whoever asks ever more rarely.
    """

    def __init__(self, number: int, template: Template, rises_after: float | None) -> None:
        self.rises_after: float | None = rises_after
        self.rose = math.inf
        chance = random.Random(number)  # repeatable, not secret
        usual_s = chance.uniform(0.02, 0.1)

        def turnround() -> float | None:
            slow = 3 if chance.random() < 0.01 else 1
            thought = usual_s * slow * chance.uniform(0.95, 1.05)
            if self.rises_after is not None:
                if self.asked[-1] >= self.rises_after:
                    self.rose, self.rises_after = self.asked[-1], None
                return None
            return thought

        super().__init__(str(number) if template.protocol == "modbus" else f"{number:012d}", template, turnround)

    @property
    def revival_s(self) -> float:
        """How long it was there before it was seen."""
        return next((at for at in self.answered if at > self.rose), math.inf) - self.rose


def _measure(case: Case, dead: int, steady_s: float) -> list[Figure]:
    settings, wanted, template = case.settings, frozenset(BY_KEY[key].obis for key in case.keys), load(case.model)
    until = COLD_S + steady_s
    # The dead are spread over the line, as in life.
    gone = {1 + place * METERS // dead: until + place * RISE_EVERY_S for place in range(dead)}
    alone = [_Meter(number, template, None) for number in range(1, METERS + 1) if number not in gone]
    meters = [_Meter(number, template, gone.get(number)) for number in range(1, METERS + 1)]
    baseline = poll(alone, settings, until, wanted, slow_s=0.001)
    measured = poll(meters, settings, until + (dead + 2) * RISE_EVERY_S, wanted, slow_s=0.001)

    live = {one.address for one in alone}
    slowest = max(one.revival_s for number, one in enumerate(meters, 1) if number in gone)
    asked = sum(len(meter.asked) for meter in meters if meter.address in live)
    # The living always answer, so each time-out of one of them is spurious.
    spurious = sum(count for address, count in measured.line.timeouts.items() if address in live)
    lost = sum(len(report.failed.keys() & live) for _, report in measured.reports)
    cold = _ratio(measured, baseline, live, 0, COLD_S)
    steady = _ratio(measured, baseline, live, COLD_S, until)
    what = f"{case.name}, {dead} dead"
    return [
        Figure("dead", f"{what}: first 10 min", cold, "", "lower", case.cold, NOTE),
        Figure("dead", f"{what}: steady", steady, "", "lower", case.steady, NOTE),
        Figure("dead", f"{what}: slowest revival", slowest, "s", "lower", 60.0, "each just after it was asked"),
        Figure("dead", f"{what}: spurious time-outs", spurious / asked, "", "lower", 0.001, f"{spurious} of {asked}"),
        Figure("dead", f"{what}: reads kept", 1 - lost / asked, "", "higher", 0.999),
    ]


def _ratio(measured: Result, baseline: Result, live: set[str], since_s: float, until_s: float) -> float:
    """Mean interval between two readings of a living meter, over that of the living alone."""
    intervals = []
    for result in (baseline, measured):
        counts = [sum(since_s < at <= until_s for at in result.meters[key].answered) for key in live]
        intervals.append(mean((until_s - since_s) / count for count in counts))
    return intervals[1] / intervals[0]


def _wired(case: Case, dead: int) -> list[Figure]:
    """The worst case once more on wires that take real time: a line with dead meters and one of the living, at once."""
    ports = free_ports(2)
    gone = {1 + place * METERS // dead for place in range(dead)}
    text = ""
    for name, port in zip(("with", "without"), ports, strict=True):
        text += f'[[line]]\nname = "{name}"\nlisten = "tcp://127.0.0.1:{port}"\nprotocol = "modbus-rtu"\n'
        text += f"baud = {case.settings.baud}\njitter_ms = 3\n"
        text += '[[line.fault]]\nkind = "late"\nprobability = 0.01\nlate_s = 0.12\n'
        for number in range(1, METERS + 1):
            if number in gone and name == "without":
                continue
            text += f'[[line.meter]]\naddress = {number}\ntemplate = "{case.model}"\n'
            text += f"turnround_ms = {20 + 80 * (number * 37 % METERS) / METERS}\n"
            text += 'faults = [{ kind = "silent" }]\n' if number in gone else ""
    with rig(text, list(ports)) as made:
        asyncio.run(_poll_wired(case, ports, gone))
    counts = {name: _visits(made.exchanges(name), gone) for name in ("with", "without")}
    return [
        Figure("dead", f"{case.name}, {dead} dead, {what}", without / with_, "", "lower", target, "wire in real time")
        for what, target, without, with_ in zip(
            ("first 10 min", "steady"), (case.cold, case.steady), counts["without"], counts["with"], strict=True
        )
    ]


def _visits(rows: list[dict[str, Any]], gone: set[int]) -> tuple[int, int]:
    """Answered reads of the living in the first ten minutes and after them."""
    begun = rows[0]["request_at"]
    times = [row["request_at"] - begun for row in rows if row["reply"] and int(row["request"][:2], 16) not in gone]
    return sum(at <= COLD_S for at in times), sum(COLD_S < at <= COLD_S + WIRED_STEADY_S for at in times)


async def _poll_wired(case: Case, ports: list[int], gone: set[int]) -> None:
    wanted, template = frozenset(BY_KEY[key].obis for key in case.keys), load(case.model)
    tasks = []
    for port, left_out in zip(ports, (set[int](), gone), strict=True):
        line = Line(open_transport(f"tcp://127.0.0.1:{port}", case.settings.serial), case.settings)
        poller = Poller(line, PollSettings(fast_s=0.001, slow_s=3600), lambda report: None)
        poller.set_meters(
            PollMeter(str(number), str(number), template, str(number), "modbus", wanted)
            for number in range(1, METERS + 1)
            if number not in left_out
        )
        tasks.append(asyncio.create_task(poller.run()))
    await asyncio.sleep(COLD_S + WIRED_STEADY_S)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
