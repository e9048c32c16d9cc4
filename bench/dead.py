"""What dead meters cost the living: 32 meters on one line, 1, 4 or 8 of them dead, against the living alone.

The figure is the mean interval between two readings of a living meter, over that of the living alone. On a simulated
clock (see `bus`): the time of the wire and of all time-outs is exact, a run of an hour takes seconds.
Each meter thinks 20 to 100 ms; one reply in a hundred takes three times as long. Then the dead rise, one by one.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from statistics import mean

from meter_batch_engine.line import LineSettings
from meter_batch_engine.model.quantity import BY_KEY
from meter_batch_engine.template import Template, load

from .bus import BusMeter, Result, poll
from .figure import Figure

METERS = 32
DEAD = (1, 4, 8)
COLD_S = 600.0
STEADY_S, FULL_STEADY_S = 1500.0, 7200.0
RISE_EVERY_S = 70.0
NOTE = "simulated clock"


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
    return [figure for case in CASES for dead in DEAD for figure in _measure(case, dead, steady_s)]


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
