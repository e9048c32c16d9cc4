"""What alarms cost, and how late they are.

CPU: a thousand points with twenty rules each, a round of twenty registers every 10 s as pollers report them, made
beforehand and not counted; fifty lines tell their health every second. The figure is CPU seconds over the seconds
simulated: the share of one core. The points have every rule of the product that can be at a point, and more from a file
until there are twenty. The hour's intervals are in it by the hour, and shown apart.

Latency: virtual meters on simulated wires (the time of wire and protocol is exact), read by the poller every 10 s;
their voltage rises, each at another instant, with a rule that has no delay. From the last byte of the reply that
bears the value to the change of the finding, over the cycle. Beside it from the instant at which the voltage rose:
that contains the wait for being asked.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path
from random import Random

from meter_batch_engine import (
    BY_KEY,
    Alarms,
    InstalledMeter,
    Override,
    Point,
    Poller,
    PollMeter,
    PollReport,
    PollSettings,
    Reading,
    Route,
    RuleBook,
    Subject,
    load,
    load_rules,
)
from meter_batch_engine.model.interval import IMPORT, Interval

from .figure import Figure
from .simulated import SimulatedLoop, VirtualSite, run_simulated

POINTS, LINES, RULES = 1000, 50, 20
CYCLE_S = 10
ROUNDS, FULL_ROUNDS = 60, 1000
METERS, FAULTY = 32, 24
BEGINNING = datetime(2026, 11, 2, 4, tzinfo=UTC)
MORE = {
    "low_frequency": ("frequency", False, 49.8),
    "high_frequency": ("frequency", True, 50.2),
    "neutral_current": ("current_neutral", True, 25.0),
    "high_reactive_power": ("reactive_power", True, 50.0),
    "high_current": ("current_l1", True, 90.0),
}
"""More rules for the bench: what they look at, whether above, and from where on."""
VALUES = {
    **{f"voltage_l{phase}": 230.0 for phase in (1, 2, 3)},
    **{f"current_l{phase}": 60.0 for phase in (1, 2, 3)},
    **{f"active_power_l{phase}": 13.0 for phase in (1, 2, 3)},
    **{f"reactive_power_l{phase}": 4.0 for phase in (1, 2, 3)},
    **{f"apparent_power_l{phase}": 13.7 for phase in (1, 2)},
    "active_power": 39.0,
    "reactive_power": 12.0,
    "apparent_power": 41.0,
    "power_factor": 0.95,
    "frequency": 50.0,
    "current_neutral": 4.0,
    "energy_import": 0.0,
    "energy_export": 0.0,
}
"""Registers that are read: twenty each round, about what a full load shows, and the energies now and then."""
HOLDS = ("line_lost", "report_failed")
"""Rules that are not at points."""


def run(*, full: bool) -> list[Figure]:
    """More rounds with --full."""
    return [*_cpu(FULL_ROUNDS if full else ROUNDS), *run_simulated(_latency)]


def rules() -> RuleBook:
    """The product's own rules and those of the bench."""
    own = load_rules()
    with tempfile.TemporaryDirectory(prefix="meter-batch-alarms-") as name:
        file = Path(name) / "rules.toml"
        file.write_text(
            "\n".join(
                f'[{kind}]\nlooks_at = "{key}"\nseverity = "info"\nabove = {str(above).lower()}\n'
                f"pickup = {limit}\ndropout = {limit * (0.99 if above else 1.01)}\non_delay_s = 60"
                for kind, (key, above, limit) in MORE.items()
            ),
            encoding="utf-8",
        )
        return RuleBook({**own.rules, **load_rules(file).rules})


def alarms() -> Alarms:
    """A thousand points with twenty rules each."""
    ids = count()
    overrides = [Override("site", "high_power", pickup=60.0), Override("site", "daily_budget", pickup=2000.0)]
    made = Alarms(rules(), overrides, new_id=lambda: f"f{next(ids)}")
    registers = frozenset(BY_KEY[key].obis for key in VALUES)
    made.set_points({f"p{number}": _subject(f"p{number}", number, registers) for number in range(POINTS)}, BEGINNING)
    return made


def _subject(point: str, number: int, registers: frozenset[str]) -> Subject:
    line = f"line{number % LINES}"
    made = Point(
        point,
        point,
        (InstalledMeter(BEGINNING, "eastron/sdm630"),),
        (Route(line, "modbus", "1"),),
        attributes={"rated_kw": "60", "contract_kw": "50"},
    )
    return Subject(made, f"area {number % 20}", line, registers)


def _cpu(rounds: int) -> list[Figure]:
    one = alarms()
    at_point = len(one.rules.rules) - len(HOLDS)
    assert at_point == RULES, f"{at_point} rules a point"
    spent = hour_s = 0.0
    changes = readings = 0
    for round_ in range(rounds):
        at = BEGINNING + timedelta(seconds=CYCLE_S * round_)
        batch = _round(at, round_)
        readings += sum(len(own) for own in batch.values())
        began = time.process_time()
        changes += len(one.readings(at, batch))
        for second in range(CYCLE_S):
            now = at + timedelta(seconds=second)
            for line in range(LINES):
                changes += len(one.links(now, f"line{line}", True, frozenset(), None))
            changes += len(one.tick(now))
        spent += time.process_time() - began
    intervals = [
        Interval(f"p{number}", BEGINNING, 3600, {IMPORT: Decimal("39.01")}, frozenset(), known_s=3600)
        for number in range(POINTS)
    ]
    expected = {one.point: 38.0 for one in intervals}
    began = time.process_time()
    at = BEGINNING + timedelta(seconds=3660)
    one.intervals(at, intervals, expected)
    one.day(at, expected)
    one.gaps(at, dict.fromkeys(expected, 0.0))
    hour_s = time.process_time() - began
    share = spent / (CYCLE_S * rounds) + hour_s / 3600
    registers = readings / rounds / POINTS
    note = f"{POINTS} points × {RULES} rules, {registers:.0f} registers each {CYCLE_S} s, {changes} changes"
    return [
        Figure("alarms", "share of a core", share, "", "lower", 0.05, note),
        Figure(
            "alarms", "CPU a point and round", spent / rounds / POINTS * 1e6, "µs", "lower", None, "with links and time"
        ),
        Figure(
            "alarms", "CPU of an hour's intervals, day and gaps", hour_s * 1e3, "ms", "lower", None, f"{POINTS} points"
        ),
    ]


def _round(at: datetime, round_: int) -> Mapping[str, tuple[Reading, ...]]:
    """What a thousand meters say; now and then one is above a limit."""
    chance = Random(round_)  # repeatable, not secret
    batch = {}
    for number in range(POINTS):
        factor = 1.1 if number % 100 == 0 and round_ % 20 > 10 else 1 + 0.01 * chance.uniform(-1, 1)
        read_at = at - timedelta(seconds=chance.uniform(0, 1))
        own = []
        for key, value in VALUES.items():
            quantity = BY_KEY[key]
            if key.startswith("energy"):
                if round_ % 90 == 0:
                    own.append(Reading(quantity.obis, Decimal(round_ * number).scaleb(-2), read_at))
                continue
            own.append(Reading(quantity.obis, value * factor, read_at))
        batch[f"p{number}"] = tuple(own)
    return batch


async def _latency(loop: SimulatedLoop) -> list[Figure]:
    from_wire, from_fault = await _measure(loop)
    note = f"{FAULTY} faults on a line of {METERS}, 9600 Bd, simulated wire"
    return [
        Figure("alarms", "value on the wire to alarm / cycle, worst", max(from_wire), "", "lower", 1.0, note),
        Figure(
            "alarms", "fault to alarm / cycle, worst", max(from_fault), "", "lower", None, "with the wait for the poll"
        ),
        Figure("alarms", "fault to alarm / cycle, mean", sum(from_fault) / len(from_fault), "", "lower", None, ""),
    ]


async def _measure(loop: SimulatedLoop) -> tuple[list[float], list[float]]:
    template = load("eastron/sdm630")
    text = '[[line]]\nname = "a"\nlisten = "tcp://127.0.0.1:0"\nprotocol = "modbus-rtu"\nbaud = 9600\n'
    rises = {str(number): 60 + 11.37 * number for number in range(1, FAULTY + 1)}
    for number in range(1, METERS + 1):
        text += f'[[line.meter]]\naddress = {number}\ntemplate = "{template.id}"\n'
        if (from_s := rises.get(str(number))) is not None:
            text += f'faults = [{{ kind = "voltage", factor = 1.2, from_s = {from_s} }}]\n'
    site = VirtualSite(loop, text, BEGINNING)
    ids = count()
    one = Alarms(load_rules(), [Override("site", "over_voltage", on_delay_s=0)], new_id=lambda: f"f{next(ids)}")
    keys = ("voltage_l1", "voltage_l2", "voltage_l3", "current_l1", "current_l2", "current_l3", "active_power")
    wanted = frozenset(BY_KEY[key].obis for key in keys)
    numbers = [str(number) for number in range(1, METERS + 1)]
    one.set_points({number: _subject(number, 0, wanted) for number in numbers}, BEGINNING)
    from_wire: list[float] = []
    from_fault: list[float] = []

    def report(found: PollReport) -> None:
        now = site.clock.now()
        for change in one.readings(now, found.readings):
            point = change.finding.subject
            assert change.finding.kind == "over_voltage" and change.notify and point in rises
            read_at = max(reading.at for reading in found.readings[point])
            from_wire.append((now - read_at).total_seconds() / CYCLE_S)
            from_fault.append((site.clock.since_start_s() - rises[point]) / CYCLE_S)

    poller = Poller(
        site.lines["a"],
        PollSettings(fast_s=CYCLE_S),
        report,
        now=site.clock.now,
        monotonic=loop.time,
    )
    poller.set_meters(PollMeter(number, number, template, number, "modbus", wanted) for number in numbers)
    task = asyncio.create_task(poller.run())
    await asyncio.sleep(max(rises.values()) + 5 * CYCLE_S)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert len(from_fault) == FAULTY, f"{len(from_fault)} of {FAULTY} faults became alarms"
    return from_wire, from_fault
