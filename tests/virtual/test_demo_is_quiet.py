"""A healthy demo raises no alarm; what a fault raises in it is what it is called."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path

import pytest

from meter_batch_engine import (
    Alarms,
    Change,
    InstalledMeter,
    Multiplier,
    Point,
    Reading,
    Route,
    Subject,
    load_rules,
)
from meter_batch_engine.model.interval import IMPORT, Interval
from meter_batch_engine.model.quantity import BY_KEY
from meter_batch_engine.template import shown
from meter_batch_virtual.clock import FleetClock
from meter_batch_virtual.config import parse_fleet
from meter_batch_virtual.demo import demo_fleet
from meter_batch_virtual.fault import parse_fault
from meter_batch_virtual.meter import VirtualMeter, virtual_meter

BEGIN = datetime(2026, 11, 18, 16, tzinfo=UTC)  # a Thursday's midnight in China
STEP_S = 600
EXPORT = BY_KEY["energy_export"].obis
LEFT_OUT = ("temperature", "frequency", "phase_angle", "distortion", "reactive_energy", "apparent_energy", "demand")


class Clock(FleetClock):
    """Goes by the reading's instant."""

    def __init__(self) -> None:
        super().__init__()
        self.started_at, self.passed_s = BEGIN, 0.0

    def now(self) -> datetime:
        return self.at_s(self.passed_s)

    def since_start_s(self) -> float:
        return self.passed_s


class Demo:
    """One meter of each kind of the demo, read every ten minutes."""

    def __init__(self) -> None:
        toml, points = demo_fleet(64, list(range(20_000, 20_010)))
        fleet = parse_fleet(toml, Path("fleet.toml"))
        rows = {row["name"]: row for row in csv.DictReader(io.StringIO(points))}
        self.clock = Clock()
        self.meters: dict[str, VirtualMeter] = {}
        self.subjects: dict[str, Subject] = {}
        kinds = set()
        for line in fleet.lines:
            for config in line.meters:
                kind = (config.template.id, config.load, line.name, bool(rows[config.name]["contract_kw"]))
                if kind in kinds:
                    continue
                kinds.add(kind)
                row, name = rows[config.name], config.name
                point = Point(
                    name,
                    name,
                    (InstalledMeter(BEGIN, config.template.id),),
                    (Route(line.name, config.template.protocol, config.address),),
                    (Multiplier(datetime(2025, 1, 1, tzinfo=UTC), Decimal(row["ct"])),),
                    attributes={key: row[key] for key in ("contract_kw", "generation") if row[key]},
                )
                registers = frozenset(
                    one.obis for one in config.template.registers if not one.quantity.measure.startswith(LEFT_OUT)
                )
                self.meters[name] = virtual_meter(config, self.clock, fleet.utc_offset, line.baud)
                self.subjects[name] = Subject(point, None, line.name, registers)
        ids = count(1)
        self.alarms = Alarms(load_rules(), new_id=lambda: f"f{next(ids)}")
        self.alarms.set_points(self.subjects, BEGIN)
        for name in self.meters:
            self.alarms.intervals(
                BEGIN, (self.hour(name, BEGIN - timedelta(hours=one)) for one in range(24, 0, -1)), {}
            )

    def hour(self, name: str, start: datetime) -> Interval:
        meter, ratio = self.meters[name], Decimal(str(self.meters[name].config.ct))
        before, after = (meter.physics.registers(at, (IMPORT, EXPORT)) for at in (start, start + timedelta(hours=1)))
        energies = {obis: (Decimal(after[obis]) - Decimal(before[obis])) * ratio for obis in before}
        return Interval(name, start, 3600, energies, frozenset(), known_s=3600)

    def run(self, seconds: int) -> list[Change]:
        changes = []
        until_s = self.clock.passed_s + seconds
        while self.clock.passed_s < until_s:
            at = self.clock.now()
            readings = {}
            for name, meter in self.meters.items():
                point, own = self.subjects[name].point, self.subjects[name].registers
                values = shown(meter.template, meter.values(at, sorted(own)))
                readings[name] = [point.apply(Reading(obis, value, at)) for obis, value in values.items()]
            changes += self.alarms.readings(at, readings)
            changes += self.alarms.tick(at)
            self.clock.passed_s += STEP_S
        return changes


@pytest.fixture(scope="module")
def demo() -> Demo:
    return Demo()


def test_a_healthy_day_raises_no_alarm_and_a_fault_raises_its_own(demo: Demo) -> None:
    assert len(demo.meters) >= 20 and {"Main incomer", "Lathe 1", "PV inverter 1"} <= demo.meters.keys()
    assert demo.alarms.rule("demand_over_contract", "Main incomer").pickup == 1
    quiet = demo.run(86_400)
    assert [(one.finding.subject, one.finding.kind) for one in quiet] == []
    faults = {
        "Lathe 1": ({"kind": "phase_lost", "phase": 2}, "phase_loss"),
        "Oven 1": ({"kind": "voltage", "factor": 0.85}, "under_voltage"),
        "Press 1": ({"kind": "voltage", "factor": 1.12}, "over_voltage"),
        "Compressor 1": ({"kind": "reversed"}, "reverse_power"),
    }
    for name, (table, _) in faults.items():
        demo.meters[name].faults.reload((parse_fault(table, "here"),), demo.clock.passed_s)
    demo.clock.passed_s += 1
    found = demo.run(7200)
    told = {(one.finding.subject, one.finding.kind) for one in found if one.notify}
    assert told == {(name, kind) for name, (_, kind) in faults.items()}
