"""What happens behind a meter is measured by it as by a real one, from the fault's beginning to its end."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from meter_batch_engine.errors import ConfigError
from meter_batch_engine.model.quantity import BY_KEY, QUANTITIES, Measure
from meter_batch_engine.protocol.dlt645.item import decode_item
from meter_batch_engine.template import decode, plan
from meter_batch_engine.template.planner import Timing
from meter_batch_virtual.clock import FleetClock
from meter_batch_virtual.config import parse_fleet
from meter_batch_virtual.fault import Fault, parse_fault
from meter_batch_virtual.meter import Dlt645VirtualMeter, VirtualMeter, virtual_meter

NOON = datetime(2026, 11, 2, 4, tzinfo=UTC)


class Clock(FleetClock):
    """A fleet's clock that stands where the test puts it."""

    def __init__(self) -> None:
        super().__init__()
        self.started_at = NOON
        self.passed_s = 0.0

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.passed_s)

    def since_start_s(self) -> float:
        return self.passed_s


type Make = Callable[..., tuple[VirtualMeter, VirtualMeter, Clock]]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A meter with faults, the same without, and the clock of both."""

    def made(*faults: dict[str, Any], template: str = "eastron/sdm630", load: str = "office") -> Any:
        modbus = not template.startswith("generic")
        protocol, address = ("modbus-tcp", "1") if modbus else ("dlt645-2007", '"000000000001"')
        text = (
            f'[[line]]\nname = "a"\nlisten = "tcp://127.0.0.1:0"\nprotocol = "{protocol}"\n'
            f'[[line.meter]]\naddress = {address}\ntemplate = "{template}"\nload = "{load}"\n'
        )
        fleet = parse_fleet(text, tmp_path / "fleet.toml")
        clock = Clock()
        ill, well = (virtual_meter(fleet.lines[0].meters[0], clock, fleet.utc_offset, 9600) for _ in range(2))
        ill.faults.reload(tuple(parse_fault(one, "here") for one in faults), 0)
        return ill, well, clock

    return made


def said(meter: VirtualMeter, key: str) -> Any:
    """A register as the wire gives it, of a Modbus meter; of any other as it is measured."""
    obis = BY_KEY[key].obis
    if isinstance(meter, Dlt645VirtualMeter):
        return meter.values(meter._clock.now(), [obis])[obis]
    (request,) = plan(meter.template, [obis], Timing())
    words = meter.read(request.function, request.address, request.count)
    return next(one.value for one in decode(request, tuple(words), NOON) if one.obis == obis)


def test_a_lost_phase_has_next_to_no_voltage_and_counts_nothing(make: Make) -> None:
    ill, well, clock = make({"kind": "phase_lost", "phase": 2, "from_s": 100, "to_s": 3700})
    clock.passed_s = 99
    assert said(ill, "voltage_l2") == said(well, "voltage_l2")
    clock.passed_s = 100
    assert said(ill, "voltage_l2") < 10 < said(ill, "voltage_l1") == said(well, "voltage_l1")
    assert said(ill, "current_l2") == said(ill, "active_power_l2") == 0
    assert said(ill, "active_power") == pytest.approx(
        said(well, "active_power_l1") + said(well, "active_power_l3"), rel=1e-5
    )
    between = BY_KEY["voltage_l1_l2"].obis
    ours, usual = (float(one.values(clock.now(), [between])[between]) for one in (ill, well))
    assert ours < 0.6 * usual
    begun = said(ill, "energy_import_l2")
    clock.passed_s = 3699
    assert said(ill, "energy_import_l2") == begun
    assert said(ill, "energy_import_l1") == said(well, "energy_import_l1")
    clock.passed_s = 3700
    assert said(ill, "voltage_l2") == said(well, "voltage_l2")
    clock.passed_s = 7300
    assert said(ill, "energy_import_l2") > begun and said(ill, "energy_import_l2") < said(well, "energy_import_l2")


@pytest.mark.parametrize("factor", [0.8, 1.2])
def test_at_another_voltage_the_load_takes_the_same_power(make: Make, factor: float) -> None:
    ill, well, clock = make({"kind": "voltage", "factor": factor})
    clock.passed_s = 50
    assert said(ill, "voltage_l1") == pytest.approx(factor * said(well, "voltage_l1"), rel=1e-5)
    assert said(ill, "current_l1") == pytest.approx(said(well, "current_l1") / factor, rel=1e-5)
    assert said(ill, "active_power") == said(well, "active_power")
    assert said(ill, "energy_import") == said(well, "energy_import")


def test_a_greater_load_is_counted_and_what_was_counted_stays(make: Make) -> None:
    ill, well, clock = make({"kind": "load", "factor": 3, "to_s": 3600})
    energies = []
    for passed_s in (0, 1800, 3600, 7200):
        clock.passed_s = passed_s
        energies.append((said(ill, "energy_import"), said(well, "energy_import")))
        if passed_s == 1800:
            assert said(ill, "active_power") == pytest.approx(3 * said(well, "active_power"), rel=1e-5)
            assert said(ill, "power_factor") == said(well, "power_factor")
    (first, _), (second, usual), (third, _), (last, end) = energies
    assert float(second - first) == pytest.approx(3 * float(usual - first), abs=0.05)
    assert last - third == pytest.approx(end - (energies[2][1]), abs=Decimal("0.02"))


@pytest.mark.parametrize("template", ["eastron/sdm630", "generic/dlt645-3ph"])
def test_a_reversed_transformer_counts_into_the_other_register_and_none_ever_falls(make: Make, template: str) -> None:
    ill, well, clock = make({"kind": "reversed", "from_s": 3600, "to_s": 7200}, template=template)
    seen = []
    for passed_s in range(0, 10_800, 300):
        clock.passed_s = passed_s
        reversed_now = 3600 <= passed_s < 7200
        sign = -1 if reversed_now else 1
        assert said(ill, "active_power") == pytest.approx(sign * said(well, "active_power"), rel=1e-5)
        seen.append((said(ill, "energy_import"), said(ill, "energy_export")))
    for index in (0, 1):
        values = [one[index] for one in seen]
        assert values == sorted(values)
    assert seen[12][0] == seen[24][0] < seen[35][0], "import stood still"
    assert seen[0][1] == seen[12][1] < seen[24][1] == seen[35][1], "export counted"
    assert seen[35][0] + seen[35][1] == pytest.approx(
        said(well, "energy_import") + said(well, "energy_export"), abs=Decimal("0.05")
    )


def test_the_memory_of_the_meter_and_the_truth_know_what_happened(make: Make) -> None:
    ill, well, clock = make({"kind": "load", "factor": 2, "to_s": 86_400}, template="generic/dlt645-3ph")
    said(ill, "energy_import")
    clock.passed_s = 90_000
    assert isinstance(ill, Dlt645VirtualMeter) and isinstance(well, Dlt645VirtualMeter)
    before, during = "05060102", "05060101"  # import of the two last daily freezes
    assert ill.item(before) == well.item(before)
    assert ill.item(during) != well.item(during)
    obis = BY_KEY["energy_import"].obis
    assert ill.truth(clock.now())[obis] > well.truth(clock.now())[obis]


@pytest.mark.parametrize("template", ["eastron/sdm630", "generic/dlt645-3ph"])
def test_a_stuck_meter_says_the_same_energies_while_power_flows(make: Make, template: str) -> None:
    ill, well, clock = make({"kind": "stuck", "from_s": 60, "to_s": 36_000}, template=template)

    def energy(meter: VirtualMeter) -> Any:
        if not isinstance(meter, Dlt645VirtualMeter):
            return said(meter, "energy_import")
        (value,) = decode_item("00010000", meter.item("00010000") or b"", "2007")
        return value.value

    clock.passed_s = 60
    begun = energy(ill)
    assert begun == energy(well)
    clock.passed_s = 30_000
    assert energy(ill) == begun < energy(well)
    assert said(ill, "active_power") == said(well, "active_power") > 0
    assert ill.truth(clock.now()) == well.truth(clock.now()), "it is the meter that errs"
    clock.passed_s = 36_000
    assert energy(ill) == energy(well)


def test_faults_that_are_read_again_go_on_from_what_was_counted(make: Make) -> None:
    ill, well, clock = make({"kind": "load", "factor": 2})
    readings = []
    for passed_s, factor in ((0, 2), (1800, 5), (3600, None), (5400, 2)):
        clock.passed_s = passed_s
        table = () if factor is None else (parse_fault({"kind": "load", "factor": factor}, "here"),)
        ill.faults.reload(table, passed_s)
        readings.append(said(ill, "energy_import"))
        assert said(ill, "active_power") == pytest.approx((factor or 1) * said(well, "active_power"), rel=1e-5)
    assert readings == sorted(readings)
    energies = [QUANTITIES[obis].measure is Measure.ACTIVE_ENERGY for obis in ill.truth(clock.now())]
    assert any(energies)


def test_without_such_faults_nothing_is_another(make: Make) -> None:
    ill, well, clock = make({"kind": "voltage", "from_s": 1000})
    for passed_s in (0, 500, 999):
        clock.passed_s = passed_s
        assert ill.truth(clock.now()) == well.truth(clock.now())


def test_faults_of_the_installation_belong_to_meters_and_have_usual_sizes(tmp_path: Path) -> None:
    assert parse_fault({"kind": "voltage"}, "here").factor == 0.8
    assert parse_fault({"kind": "load"}, "here") == Fault("load", factor=1.5)
    with pytest.raises(ConfigError, match="hall: phase = 4; it may be 1, 2 or 3"):
        parse_fault({"kind": "phase_lost", "phase": 4}, "hall")
    with pytest.raises(ConfigError, match="kind = 'voltage'"):
        parse_fault({"kind": "voltage"}, "hall", on_line=True)
    text = (
        '[[line]]\nname = "a"\nlisten = "tcp://127.0.0.1:0"\nprotocol = "modbus-rtu"\n'
        '[[line.meter]]\naddress = 1\ntemplate = "eastron/sdm120"\nfaults = [{ kind = "phase_lost" }]\n'
    )
    with pytest.raises(ConfigError, match='phase_lost, but "eastron/sdm120" has a single phase'):
        parse_fleet(text, tmp_path / "fleet.toml")
