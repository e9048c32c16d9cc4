"""The truth file and the meters tell the same, at any hour: sun and night, import and export."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from meter_batch_engine.template import ModbusRequest, Timing, available, decode, load, plan
from meter_batch_virtual.config import parse_fleet
from meter_batch_virtual.fleet import VirtualFleet
from meter_batch_virtual.meter import Dlt645VirtualMeter, VirtualMeter


def fleet_of(template: str, folder: Path) -> VirtualFleet:
    """One meter a load shape."""
    modbus = load(template).protocol == "modbus"
    lines = [
        '[[line]]\nname = "one"',
        'listen = "tcp://127.0.0.1:0"',
        f'protocol = "{"modbus-tcp" if modbus else load(template).protocol}"',
    ]
    for number, shape in enumerate(("pv", "office", "chiller", "night"), 1):
        address = number if modbus else f'"{number:012d}"'
        lines += ["[[line.meter]]", f"address = {address}", f'template = "{template}"', f'load = "{shape}"']
    return VirtualFleet(parse_fleet("\n".join(lines), folder / "fleet.toml"), hold=True)


def read_all(meter: VirtualMeter, at: datetime) -> dict[str, Decimal]:
    """Every register as a master decodes it, asked by single items where the protocol has blocks."""
    found = {}
    for request in plan(meter.template, None, Timing(9600, turnround_s=0.05)):
        for one in (request,) if isinstance(request, ModbusRequest) else request.parts() or (request,):
            if isinstance(one, ModbusRequest):
                answer: object = tuple(meter.read(one.function, one.address, one.count))  # type: ignore[attr-defined]
            else:
                assert isinstance(meter, Dlt645VirtualMeter)
                answer = meter.item(one.di)
            found |= {reading.obis: Decimal(str(reading.value)) for reading in decode(one, answer, at)}
    return found


@pytest.mark.parametrize("template", available())
def test_what_a_master_decodes_is_the_truth_at_any_hour(template: str, tmp_path: Path) -> None:
    fleet = fleet_of(template, tmp_path)
    for hours in range(0, 48, 3):
        at = datetime(2026, 11, 27, 0, 7, tzinfo=UTC) + timedelta(hours=hours)
        fleet.clock.now = lambda at=at: at  # type: ignore[method-assign,misc]
        for _, meter in fleet.meters:
            true = {obis: Decimal(str(value)) for obis, value in meter.truth(at).items()}
            seen = read_all(meter, at)
            assert seen.keys() <= true.keys()
            # a float32 is shown by its shortest decimal, and in full in the truth file
            wrong = {
                obis: (seen[obis], true[obis])
                for obis in seen
                if abs(seen[obis] - true[obis]) > abs(true[obis]) / 10**7
            }
            assert wrong == {}, (meter.config.load, at)
