"""What holds for every meter model that is shipped."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from meter_batch_engine.errors import MeterBatchError
from meter_batch_engine.model.obis import Obis, parse_obis
from meter_batch_engine.model.quantity import QUANTITIES, Kind, Measure
from meter_batch_engine.model.reading import Value
from meter_batch_engine.template import (
    Dlt645Request,
    DltItem,
    ModbusRequest,
    ModbusWords,
    Register,
    Template,
    Timing,
    WordImage,
    available,
    cost,
    decode,
    encode,
    load,
    plan,
    shown,
)

AT = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
MODELS = available()


@pytest.fixture(params=MODELS)
def template(request: pytest.FixtureRequest) -> Template:
    return load(request.param)


PLAUSIBLE: dict[Measure, float] = {
    Measure.ACTIVE_POWER: 3.21,
    Measure.REACTIVE_POWER: -0.75,
    Measure.APPARENT_POWER: 3.2964,
    Measure.DEMAND: 3.1,
    Measure.VOLTAGE: 229.9,
    Measure.CURRENT: 4.78,
    Measure.POWER_FACTOR: 0.974,
    Measure.FREQUENCY: 50.02,
    Measure.PHASE_ANGLE: 346.8,
    Measure.DISTORTION: 2.55,
    Measure.TEMPERATURE: 23.4,
}


def some_values(template: Template) -> dict[Obis, Value]:
    """A plausible value for each register, each its own."""
    values: dict[Obis, Value] = {}
    for number, register in enumerate(template.registers):
        quantity = register.quantity
        if quantity.kind is Kind.MAXIMUM:
            values[register.obis] = Decimal("4.1234") + number
        elif register.exact:
            values[register.obis] = Decimal("1234.56") + 10 * number
        else:
            values[register.obis] = PLAUSIBLE[quantity.measure] * (1 + number / 10_000)
    return values


def resolution(register: Register, value: Value) -> float:
    """Half a last digit of the register at this value, in its unit; a whole one for energies, which are cut off."""
    if isinstance(register.locator, DltItem):
        return {
            Measure.VOLTAGE: 1.0,
            Measure.CURRENT: 0.01,
            Measure.REACTIVE_POWER: 0.01,
            Measure.TEMPERATURE: 0.1,
            Measure.PHASE_ANGLE: 0.1,
            Measure.ACTIVE_POWER: 1e-4,
            Measure.APPARENT_POWER: 1e-4,
            Measure.POWER_FACTOR: 1e-3,
        }.get(register.quantity.measure, 0.01)
    if register.locator.word_type.is_float:
        return abs(float(value)) * (2e-7 if register.locator.type == "float32" else 1e-15)
    return float(register.scale) * (1 if register.exact else 0.5) * 1.0001


def test_at_least_ten_models_and_the_generic_ones_are_there() -> None:
    assert len([one for one in MODELS if not one.startswith("generic/")]) >= 16
    assert {
        "generic/dlt645-1ph",
        "generic/dlt645-3ph",
        "generic/dlt645-1997-1ph",
        "generic/dlt645-1997-3ph",
    } <= set(MODELS)


def test_every_register_is_known_and_names_its_sources(template: Template) -> None:
    assert template.name and template.source
    for register in template.registers:
        assert parse_obis(register.obis) in QUANTITIES
        assert register.sources, register.quantity.key
        assert register.quantity.phase <= template.phases


def test_every_model_shows_what_a_manager_looks_at_first(template: Template) -> None:
    """Clause 5.1.1: voltage, current, power and energy."""
    have = {register.quantity.measure for register in template.registers}
    assert {Measure.VOLTAGE, Measure.CURRENT, Measure.ACTIVE_POWER} <= have
    if template.id != "acrel/acr10r":  # its energies are not published
        assert "1-0:1.8.0" in template.by_obis


def test_what_a_virtual_meter_holds_is_what_is_read_from_it(template: Template) -> None:
    values = some_values(template)
    found = shown(template, values)
    sums = {register.obis for register in template.registers if _parts(register) > 1}
    tariffs = {register.obis for register in template.registers if register.quantity.tariff}
    assert found.keys() == values.keys()
    for obis, value in found.items():
        register = template.by_obis[obis]
        assert isinstance(value, Decimal if register.exact else float), register.quantity.key
        if obis not in sums and not (sums and obis in tariffs):
            # The 1997 edition shows magnitudes.
            held = abs(float(values[obis])) if template.protocol == "dlt645-1997" else values[obis]
            assert math.isclose(value, held, rel_tol=1e-12, abs_tol=resolution(register, values[obis])), (
                register.quantity.key
            )


def test_reading_twice_what_is_shown_changes_nothing(template: Template) -> None:
    first = shown(template, some_values(template))
    for obis, value in shown(template, first).items():
        if template.by_obis[obis].exact:
            assert value == first[obis]
        else:
            assert value == pytest.approx(first[obis], rel=1e-12)


def test_a_sum_of_tariffs_is_their_sum() -> None:
    template = load("siemens/pac3200")
    values: dict[Obis, Value] = {
        "1-0:1.8.1": Decimal("1234.56"),
        "1-0:1.8.2": Decimal("65.44"),
        "1-0:1.8.0": Decimal(1),
    }
    assert shown(template, values) == values | {"1-0:1.8.0": Decimal(1300)}
    # Where only the total is known it is still what is read.
    assert shown(template, {"1-0:1.8.0": Decimal(77)}) == {"1-0:1.8.0": Decimal(77)}


@pytest.mark.parametrize("group", ["fast", "slow", "energy", None])
@pytest.mark.parametrize("timing", [Timing(), Timing(2400, 11, 0.02, 0.2), Timing(115200, 10, 0.002, 0.005), Timing(0)])
def test_plans_read_each_register_once_and_keep_the_limits(
    template: Template, group: str | None, timing: Timing
) -> None:
    wanted = [one.obis for one in template.registers if group is None or one.group == group]
    requests = plan(template, wanted, timing)
    assert sorted(one.obis for request in requests for one in request.registers) == sorted(wanted)
    known = {
        (one.locator.function, address)
        for one in template.registers
        if isinstance(one.locator, ModbusWords)
        for address in range(one.locator.address, one.locator.end)
    }
    for request in requests:
        assert cost(request, timing) > 0
        if isinstance(request, Dlt645Request):
            assert all(isinstance(one.locator, DltItem) for one in request.registers)
            continue
        assert 1 <= request.count <= template.modbus.max_words
        for one in request.registers:
            assert isinstance(one.locator, ModbusWords)
            assert one.locator.function == request.function
            assert request.address <= one.locator.address and one.locator.end <= request.address + request.count
        if not template.modbus.holes:
            assert {(request.function, request.address + place) for place in range(request.count)} <= known


def test_no_plan_costs_more_than_asking_one_by_one(template: Template) -> None:
    timing = Timing(2400, 11, 0.02, 0.05)
    alone = sum(cost(one, timing) for register in template.registers for one in plan(template, [register.obis], timing))
    assert sum(cost(one, timing) for one in plan(template, None, timing)) <= alone


def test_a_refused_request_can_be_asked_in_parts_down_to_single_registers(template: Template) -> None:
    values = some_values(template)
    image = encode(template, values)

    def read(request: ModbusRequest | Dlt645Request) -> set[Obis]:
        parts = request.parts()
        if parts:
            assert sorted(one.obis for part in parts for one in part.registers) == sorted(
                one.obis for one in request.registers
            )
            return {obis for part in parts for obis in read(part)}
        assert len(request.registers) == 1
        answer = (
            image.read(request.function, request.address, request.count)  # type: ignore[union-attr]
            if isinstance(image, WordImage)
            else image[request.di]  # type: ignore[union-attr]
        )
        return {reading.obis for reading in decode(request, answer, AT)}

    assert {obis for request in plan(template) for obis in read(request)} == values.keys()


def test_nothing_but_our_errors_comes_out_of_damaged_answers(template: Template) -> None:
    for request in plan(template):
        for answer in (
            ([0xFFFF] * request.count, [0x7FFF] * request.count, [0x7FC0] * request.count, [1])
            if isinstance(request, ModbusRequest)
            else (b"", b"\xff" * request.data_bytes, b"\xaa\xbb", b"\x0f" * request.data_bytes)
        ):
            try:
                readings = decode(request, answer, AT)
            except MeterBatchError:
                continue
            assert all(math.isfinite(reading.value) for reading in readings)


def _parts(register: Register) -> int:
    return register.locator.parts if isinstance(register.locator, ModbusWords) else 1
