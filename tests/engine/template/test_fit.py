"""Volts and hertz judge values: right ones are known as right, nonsense is named, healthy meters are left alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meter_batch_engine.model.obis import Obis
from meter_batch_engine.model.quantity import BY_KEY, QUANTITIES, Kind, Measure
from meter_batch_engine.model.reading import Reading, Value
from meter_batch_engine.template import (
    Limits,
    ModbusRequest,
    ModbusWords,
    Template,
    WordImage,
    available,
    decode,
    encode,
    load,
    plan,
    shown,
)
from meter_batch_engine.template.fit import Misfit, fit, misfit

AT = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
MODELS = available()
MODBUS = [one for one in MODELS if load(one).protocol == "modbus"]
JUDGING = (Measure.VOLTAGE, Measure.FREQUENCY)


def supply(
    template: Template,
    volts: list[float],
    hertz: float = 50.0,
    amperes: tuple[float, float, float] = (5.0, 6.0, 7.0),
    power_factor: float = 0.9,
) -> dict[Obis, Value]:
    """All registers of a model at a supply of so many volts a phase; sums and powers go together."""
    phases = template.phases
    kw = [u * i * power_factor / 1000 for u, i in zip(volts, amperes, strict=True)][:phases]
    kva = [u * i / 1000 for u, i in zip(volts, amperes, strict=True)][:phases]
    kvar = [math.sqrt(max(0.0, s * s - p * p)) for p, s in zip(kw, kva, strict=True)]
    values: dict[Obis, Value] = {}
    for register in template.registers:
        quantity = register.quantity
        phase = quantity.phase
        per_phase = {
            Measure.VOLTAGE: list(volts),
            Measure.CURRENT: list(amperes),
            Measure.ACTIVE_POWER: kw,
            Measure.REACTIVE_POWER: kvar,
            Measure.APPARENT_POWER: kva,
        }.get(quantity.measure)
        if quantity.kind is not Kind.INSTANT:
            values[register.obis] = Decimal("1234.5")
        elif quantity.obis.startswith("1-128"):
            a, b = volts[(phase or 1) - 1], volts[(phase or 1) % 3]
            values[register.obis] = math.sqrt(a * a + b * b + a * b)
        elif quantity.key == "current_neutral":
            values[register.obis] = 0.1
        elif per_phase is not None:
            sums = quantity.measure not in (Measure.VOLTAGE, Measure.CURRENT)
            values[register.obis] = per_phase[phase - 1] if phase else sum(per_phase) if sums else per_phase[0]
        elif quantity.measure is Measure.POWER_FACTOR:
            values[register.obis] = power_factor
        elif quantity.measure is Measure.FREQUENCY:
            values[register.obis] = hertz
        else:
            values[register.obis] = 1.5
    return values


def readings(values: Mapping[Obis, Value]) -> list[Reading]:
    return [Reading(obis, value, AT) for obis, value in values.items()]


def judged(template: Template) -> frozenset[Obis]:
    return frozenset(one.obis for one in template.registers if one.quantity.measure in JUDGING)


def answers(template: Template, values: Mapping[Obis, Value]) -> list[tuple[Any, Any]]:
    """Each request of a model with what a meter with these values answers."""
    image = encode(template, values)
    found = []
    for request in plan(template):
        if isinstance(request, ModbusRequest):
            assert isinstance(image, WordImage)
            found.append((request, image.read(request.function, request.address, request.count)))
        else:
            assert isinstance(image, dict)
            parts = [image[one.di] for one in (request.parts() or (request,))]
            if request.parts():
                continue
            found.append((request, parts[0]))
    return found


def whole(template: Template) -> ModbusRequest:
    """One request for all volts and hertz, wherever they lie."""
    registers = tuple(one for one in template.registers if one.quantity.measure in JUDGING)
    spans = [one.locator for one in registers if isinstance(one.locator, ModbusWords)]
    first, end = min(one.address for one in spans), max(one.end for one in spans)
    return ModbusRequest(spans[0].function, first, end - first, registers)


def words_of(template: Template, request: ModbusRequest, values: Mapping[Obis, Value]) -> list[int]:
    image = encode(template, values)
    assert isinstance(image, WordImage)
    return [image.words.get((request.function, request.address + at), 0) for at in range(request.count)]


def scaled(request: ModbusRequest, factor: Decimal) -> ModbusRequest:
    return replace(request, registers=tuple(replace(one, scale=one.scale * factor) for one in request.registers))


def turned(request: ModbusRequest) -> ModbusRequest:
    registers = []
    for one in request.registers:
        assert isinstance(one.locator, ModbusWords)
        registers.append(replace(one, locator=replace(one.locator, little=not one.locator.little)))
    return replace(request, registers=tuple(registers))


mains = st.floats(207, 253).map(lambda volts: round(volts, 1))
hertz = st.floats(49.5, 50.5).map(lambda value: round(value, 2))


@st.composite
def networks(draw: st.DrawFn) -> list[float]:
    """Voltages of a network whose phases are within a tenth of each other."""
    first = draw(mains)
    return [first, *(round(first * draw(st.floats(0.96, 1.04)), 1) for _ in range(2))]


@pytest.mark.parametrize("model", MODELS)
def test_what_a_meter_of_a_model_shows_fits_that_model(model: str) -> None:
    template = load(model)
    found = fit(template, readings(shown(template, supply(template, [229.6, 231.2, 230.4]))))
    assert found.score > 0.95
    assert found.reasons


@pytest.mark.parametrize("model", MODELS)
def test_a_meter_without_supply_and_load_speaks_neither_for_nor_much_against_its_model(model: str) -> None:
    template = load(model)
    values = supply(template, [0.0, 0.0, 0.0], 0.0, (0.0, 0.0, 0.0), 0.0)
    assert 0.2 < fit(template, readings(values)).score < 0.9


def test_impossible_volts_and_hertz_do_not_fit() -> None:
    template = load("eastron/sdm630")
    values = supply(template, [1e-30, 4e12, 3.0], 2e9)
    found = fit(template, readings(values))
    assert found.score < 0.05
    assert any("impossible" in reason for reason in found.reasons)


def test_an_answer_without_a_value_does_not_fit() -> None:
    assert fit(load("eastron/sdm630"), []).score == 0


def test_powers_that_do_not_add_up_speak_against_a_model() -> None:
    template = load("eastron/sdm630")
    values = supply(template, [230.0, 230.0, 230.0])
    wrong = values | {BY_KEY["active_power"].obis: 77.0}
    assert fit(template, readings(wrong)).score < fit(template, readings(values)).score


@settings(max_examples=30, deadline=None)
@given(
    st.one_of(
        networks(),
        st.sampled_from(
            [
                [0.0, 0.0, 0.0],
                [230.0, 0.0, 231.0],
                [0.0, 23.5, 229.0],
                [57.7, 57.9, 57.5],
                [63.5, 63.6, 0.0],
                [100.0, 100.2, 99.8],
                [120.0, 120.1, 119.0],
                [2402.0, 2399.0, 2405.0],
                [5773.0, 5770.0, 5780.0],
                [20207.0, 20230.0, 20190.0],
            ]
        ),
    ),
    st.sampled_from([0.0, 45.2, 49.9, 50.0, 60.01]),
    st.sampled_from([(0.0, 0.0, 0.0), (5.0, 0.0, 0.3), (4000.0, 3900.0, 4100.0)]),
)
def test_no_healthy_meter_of_any_model_is_taken_for_nonsense(
    volts: list[float], hertz: float, amperes: tuple[float, float, float]
) -> None:
    """Night, no current, a phase that is lost, secondaries of transformers, kilovolts."""
    for model in MODELS:
        template = load(model)
        if not any(volts) or template.phases == 1:
            volts = [volts[0]] * 3
        values = supply(template, volts, hertz, amperes, 0.0 if not any(amperes) else 0.8)
        for request, answer in answers(template, values):
            # A register that is too small for kilovolts does not show them.
            if max(volts) < 300 or all(register_holds(one, values[one.obis]) for one in request.registers):
                assert misfit(template, request, answer) is None, (model, volts, hertz)


def register_holds(register: Any, value: Value) -> bool:
    kind = register.locator.word_type if isinstance(register.locator, ModbusWords) else None
    if kind is None:
        return False
    return kind.high is None or float(value) / float(register.scale) <= kind.high


@pytest.mark.parametrize("model", MODBUS)
@settings(max_examples=15, deadline=None)
@given(networks(), hertz)
def test_swapped_words_are_recognised(model: str, volts: list[float], hertz: float) -> None:
    template = load(model)
    request = whole(template)
    several = [one for one in request.registers if one.locator.word_type.words > 1]  # type: ignore[union-attr]
    words = words_of(template, request, supply(template, volts, hertz))
    assert misfit(template, request, words) is None
    found = misfit(template, turned(request), words)
    if not several:
        assert found is None
        return
    assert found is not None
    assert found.kind == "word_order"
    assert found.factor is None


@pytest.mark.parametrize("factor", [Decimal(10), Decimal("0.1"), Decimal(1000), Decimal("0.001")])
@pytest.mark.parametrize("model", MODBUS)
@settings(max_examples=5, deadline=None)
@given(networks(), hertz)
def test_a_wrong_scale_is_recognised_and_its_factor_told(
    model: str, factor: Decimal, volts: list[float], hertz: float
) -> None:
    template = load(model)
    request = whole(template)
    words = words_of(template, request, supply(template, volts, hertz))
    found = misfit(template, scaled(request, factor), words)
    if factor > 1 and not any(one.quantity.measure is Measure.FREQUENCY for one in request.registers):
        assert found is None  # without hertz they may be kilovolts
        return
    assert found is not None
    assert (found.kind, found.factor) == ("scale", 1 / factor)


def test_hertz_that_are_right_leave_kilovolts_alone() -> None:
    """2.4 kV may be a meter that knows its voltage transformer; the scale is then no mistake."""
    template = load("eastron/sdm630")
    request = whole(template)
    words = words_of(template, request, supply(template, [2402.0, 2399.0, 2405.0]))
    assert misfit(template, request, words) is None
    low = words_of(template, request, supply(template, [23.1, 23.2, 23.0]))
    found = misfit(template, request, low)
    assert found is not None
    assert found.factor == 10


def test_one_phase_of_three_proves_no_scale() -> None:
    template = load("eastron/sdm630")
    request = whole(template)
    words = words_of(template, request, supply(template, [23.1, 0.0, 0.0], 0.0))
    assert misfit(template, request, words) is None


def test_the_registers_of_another_model_are_named_so() -> None:
    template = load("eastron/sdm630")
    request = whole(template)
    found = misfit(template, request, [0x1234, 0xFFFF] * (request.count // 2))
    assert isinstance(found, Misfit)
    assert found.kind == "another_model"
    assert template.name in found.text


def test_a_request_without_volts_and_hertz_is_not_judged() -> None:
    template = load("eastron/sdm630")
    energies = [one.obis for one in template.registers if QUANTITIES[one.obis].measure is Measure.ACTIVE_ENERGY]
    for request in plan(template, energies):
        assert isinstance(request, ModbusRequest)
        assert misfit(template, request, [0x7FFF] * request.count) is None


def test_values_that_are_not_available_are_no_nonsense() -> None:
    template = load("siemens/pac3200")
    request = whole(template)
    words = [0x7FC0, 0x0000] * (request.count // 2)
    assert decode(request, words, AT) == []
    assert misfit(template, request, words) is None


def at_a_carlo_gavazzi(template: Template) -> dict[Obis, Value]:
    """A right first voltage, and nonsense behind it: registers that were guessed."""
    right = supply(template, [230.0, 231.0, 229.0])
    return right | {
        BY_KEY["voltage_l2"].obis: 0.0,
        BY_KEY["frequency"].obis: 0.0,
        BY_KEY["active_power"].obis: 967966.0,
    }


def test_a_voltage_without_a_frequency_and_power_beyond_the_limits_are_not_plausible() -> None:
    template = load("eastron/sdm630")
    found = fit(template, readings(at_a_carlo_gavazzi(template)))
    assert found.score < 0.05
    assert {"fit_no_hertz", "fit_beyond"} <= {reason.key for reason in found.reasons}


@pytest.mark.parametrize("changed", ["frequency", "active_power"])
def test_each_of_them_counts_alone_where_few_registers_are_known(changed: str) -> None:
    template = load("eastron/sdm630")
    keys = ("voltage_l1", "voltage_l2", "voltage_l3", changed)
    values = {BY_KEY[key].obis: at_a_carlo_gavazzi(template)[BY_KEY[key].obis] for key in keys}
    assert fit(template, readings(values)).score < 0.5
    without_limits = replace(template, limits=Limits())
    assert fit(without_limits, readings(values)).score < 0.5


def test_a_phase_that_is_lost_is_no_misfit_and_a_dead_one_with_power_is() -> None:
    template = load("eastron/sdm630")
    lost = supply(template, [230.0, 0.0, 231.0])
    assert fit(template, readings(shown(template, lost))).score > 0.95
    dead = lost | {BY_KEY["active_power_l2"].obis: 1.4}
    found = fit(template, readings(dead))
    assert "fit_dead_phase" in {reason.key for reason in found.reasons}
    assert found.score < fit(template, readings(lost)).score


@pytest.mark.parametrize("model", MODELS)
def test_no_model_counts_what_it_shows_as_beyond_its_limits(model: str) -> None:
    template = load(model)
    for volts in ([229.6, 231.2, 230.4], [57.7, 57.9, 57.5], [0.0, 0.0, 0.0]):
        hertz = 50.0 if any(volts) else 0.0
        found = fit(template, readings(shown(template, supply(template, volts, hertz))))
        assert "fit_beyond" not in {reason.key for reason in found.reasons}
