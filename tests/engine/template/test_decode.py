"""Words become values exactly, and values words."""

from __future__ import annotations

import math
import struct
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_batch_engine.errors import DecodeError
from meter_batch_engine.protocol.dlt645.exchange import Data
from meter_batch_engine.protocol.modbus.words import WORD_TYPES, shortest
from meter_batch_engine.template import Template, WordImage, decode, encode, load, plan, shown
from meter_batch_engine.template.decoder import ModbusRequest, unfold
from meter_batch_engine.template.loader import parse

AT = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
ENERGY, POWER, PF = "1-0:1.8.0", "1-0:16.7.0", "1-0:13.7.0"


def one_register(row: str, modbus: str = "{}", limits: str = "{}") -> Template:
    text = (
        'vendor = "A"\nmodel = "B"\nprotocol = "modbus"\nphases = 3\n'
        f"modbus = {modbus}\nlimits = {limits}\nregister = [{{ {row} }}]"
    )
    return parse(text, "a/b", "b.toml")


def value_of(template: Template, words: list[int]) -> object:
    (request,) = plan(template)
    found = decode(request, words, AT)
    assert all(one.at == AT for one in found)
    return found[0].value if found else None


float32s = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(float32s)
def test_the_shortest_decimal_of_a_float32_is_that_float32(value: float) -> None:
    number = shortest(value)
    assert struct.unpack(">f", struct.pack(">f", float(number)))[0] == value
    assert len(number.normalize().as_tuple().digits) <= 9


@given(st.integers(-999_999, 999_999), st.integers(0, 3))
def test_a_number_of_six_digits_survives_a_float32_to_the_digit(digits: int, places: int) -> None:
    number = Decimal(digits).scaleb(-places)
    (value,) = struct.unpack(">f", struct.pack(">f", float(number)))
    assert shortest(value) == number


def test_an_energy_in_a_float32_reads_as_its_display_does() -> None:
    template = one_register('key = "energy_import", address = 0, type = "float32"')
    assert str(value_of(template, [0x449A, 0x5800])) == "1234.75"
    assert str(value_of(template, list(struct.unpack(">2H", struct.pack(">f", 12345.68))))) == "12345.68"


@pytest.mark.parametrize("name", WORD_TYPES)
@pytest.mark.parametrize("order", ["big", "little"])
def test_every_type_is_read_in_either_word_order(name: str, order: str) -> None:
    kind = WORD_TYPES[name]
    raw = 1.5 if kind.is_float else (kind.high or 0) - 5
    words = list(struct.unpack(f">{kind.words}H", struct.pack(">" + kind.code, raw)))
    template = one_register(f'key = "active_power", address = 7, type = "{name}", scale = 0.5, word_order = "{order}"')
    assert value_of(template, words if order == "big" else words[::-1]) == raw * 0.5


def test_energies_are_exact_and_instants_are_floats() -> None:
    energy = one_register('key = "energy_import", address = 0, type = "uint64", scale = 0.01')
    assert value_of(energy, [0x0001, 0, 0, 0x0003]) == Decimal("2814749767106.59")
    power = one_register('key = "voltage", address = 0, type = "uint16", scale = 0.1')
    assert value_of(power, [2302]) == 230.2


def test_what_the_meter_has_not_is_left_out_and_no_zero() -> None:
    nan = [0x7FC0, 0]
    for key in ("energy_import", "active_power"):
        assert value_of(one_register(f'key = "{key}", address = 0, type = "float32"'), nan) is None
        assert value_of(one_register(f'key = "{key}", address = 0, type = "float32"'), [0x7F80, 0]) is None
        template = one_register(f'key = "{key}", address = 0, type = "int32"', "{ absent_at_maximum = true }")
        assert value_of(template, [0x7FFF, 0xFFFF]) is None
        assert value_of(template, [0x7FFF, 0xFFFE]) is not None
        assert value_of(one_register(f'key = "{key}", address = 0, type = "int16", absent = -32768'), [0x8000]) is None


def test_one_absent_value_does_not_hide_the_others() -> None:
    template = load("eastron/sdm630")
    image = encode(template, {ENERGY: Decimal("12.5"), POWER: 3.5})
    assert isinstance(image, WordImage)
    (request,) = plan(template, [ENERGY, POWER, PF])
    assert isinstance(request, ModbusRequest)
    found = {one.obis: one.value for one in decode(request, image.read(4, request.address, request.count), AT)}
    assert found == {ENERGY: Decimal("12.5"), POWER: 3.5}


def test_a_leading_power_factor_is_unfolded() -> None:
    assert [unfold(one) for one in (0.9, -0.9, 1.0, 1.2, -1.2)] == pytest.approx([0.9, -0.9, 1.0, 0.8, -0.8])
    template = one_register('key = "power_factor", address = 0, type = "float32", fold = true')
    assert value_of(template, list(struct.unpack(">2H", struct.pack(">f", 1.25)))) == 0.75


def test_a_wrong_number_of_words_is_an_error_and_no_value() -> None:
    (request,) = plan(one_register('key = "voltage", address = 0, type = "float32"'))
    with pytest.raises(DecodeError, match="1 registers came where 2 were asked for"):
        decode(request, [1], AT)


def test_a_block_of_a_dlt645_meter_gives_what_it_holds() -> None:
    template = load("generic/dlt645-3ph")
    (request,) = plan(template, ["1-0:32.7.0", "1-0:52.7.0", "1-0:72.7.0"])
    data = bytes.fromhex("9722 ffff 0123".replace(" ", ""))
    found = {one.obis: one.value for one in decode(request, Data("000000000001", "0201FF00", data), AT)}
    assert found == {"1-0:32.7.0": 229.7, "1-0:72.7.0": 230.1}


scales = st.sampled_from(["1", "0.1", "0.01", "0.001", "10", "0.0001"])


@given(
    name=st.sampled_from(sorted(WORD_TYPES)),
    scale=scales,
    value=st.integers(0, 30_000),
    order=st.sampled_from(["big", "little"]),
)
def test_an_encoded_energy_is_decoded_to_the_digit(name: str, scale: str, value: int, order: str) -> None:
    template = one_register(
        f'key = "energy_import", address = 0, type = "{name}", scale = "{scale}", word_order = "{order}"'
    )
    energy = value * Decimal(scale)
    assert shown(template, {ENERGY: energy}) == {ENERGY: energy}


@given(
    name=st.sampled_from(sorted(set(WORD_TYPES) - {"float32", "float64"})),
    scale=scales,
    value=st.floats(-1e30, 1e30, allow_nan=False),
    at_maximum=st.booleans(),
)
def test_an_encoded_instant_is_kept_within_the_register_and_at_its_resolution(
    name: str, scale: str, value: float, at_maximum: bool
) -> None:
    template = one_register(
        f'key = "active_power", address = 0, type = "{name}", scale = "{scale}"',
        f"{{ absent_at_maximum = {str(at_maximum).lower()} }}",
    )
    kind = WORD_TYPES[name]
    low, high = float((kind.low or 0) * Decimal(scale)), float((kind.high or 0) * Decimal(scale))
    found = shown(template, {POWER: value})[POWER]
    expected = max(low, min(high, value))
    assert math.isclose(float(found), expected, rel_tol=1e-9, abs_tol=1.001 * float(scale))


@given(energy=st.decimals(0, 10_000_000, places=4))
def test_a_register_of_energy_is_cut_off_and_begins_again_at_its_end(energy: Decimal) -> None:
    rolling = one_register(
        'key = "energy_import", address = 0, type = "uint32", scale = 0.01', limits="{ roll_over_kwh = 100000 }"
    )
    assert rolling.roll_over(ENERGY) == 100000
    assert shown(rolling, {ENERGY: energy})[ENERGY] == int(energy * 100) % 10_000_000 * Decimal("0.01")
    by_type = one_register('key = "energy_import", address = 0, type = "uint16", scale = 0.1')
    assert by_type.roll_over(ENERGY) == Decimal("6553.6")
    assert shown(by_type, {ENERGY: energy})[ENERGY] == int(energy * 10) % 65536 * Decimal("0.1")


def test_the_hot_path_does_not_mix_up_registers_of_one_request() -> None:
    """Exact, plain, folded, summed and absent values side by side, picked out of order."""
    rows = [
        'key = "voltage", address = 0, type = "uint16", scale = 0.1',
        'key = "active_power", address = 1, type = "int32", scale = 0.001, absent = [-1, -2]',
        'key = "energy_import", address = 3, type = "uint16", parts = 3',
        'key = "energy_export", address = 6, type = "float32"',
        'key = "power_factor", address = 8, type = "float32", fold = true',
        'key = "frequency", address = 10, type = "uint16", scale = 0.01, absent = 65535',
        'key = "current", address = 12, type = "float64"',
    ]
    text = "".join(f"{{ {row} }}, " for row in rows)
    template = parse(
        f'vendor = "A"\nmodel = "B"\nprotocol = "modbus"\nphases = 1\nmodbus = {{ holes = true }}\nregister = [{text}]',
        "a/b",
        "b.toml",
    )
    (request,) = plan(template)
    data = struct.pack(">Hi3HffHHd", 2301, -1500, 1, 2, 3, 7.25, 1.5, 5001, 99, 6.5)
    words = list(struct.unpack(">16H", data))
    values = [230.1, -1.5, Decimal(6), Decimal("7.25"), 0.5, 50.01, 6.5]
    assert [one.value for one in decode(request, words, AT)] == values
    data = struct.pack(">Hi3HffHHd", 2301, -2, 1, 2, 3, math.nan, 1.5, 65535, 99, math.inf)
    assert [one.value for one in decode(request, struct.unpack(">16H", data), AT)] == [230.1, Decimal(6), 0.5]
