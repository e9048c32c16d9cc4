"""Items: what the bytes behind an identifier mean, and the way back."""

# ruff: noqa: DTZ001 - a meter's wall clock has no zone
from __future__ import annotations

from contextlib import suppress
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_batch_engine.errors import ConfigError, DecodeError
from meter_batch_engine.protocol.dlt645.frame import Variant
from meter_batch_engine.protocol.dlt645.item import (
    _ITEMS,
    Item,
    ItemValue,
    block_members,
    decode_item,
    encode_item,
    find_item,
    item_bytes,
)

VARIANTS: tuple[Variant, ...] = ("2007", "1997")


def every_single() -> list[tuple[str, Variant, Item]]:
    """One identifier of every entry of the catalogue."""
    found = []
    for variant in VARIANTS:
        for entries in _ITEMS[variant].values():
            for spans, _ in entries:
                di = bytes(span.values[-1] for span in spans).hex().upper()
                item = find_item(di, variant)
                assert item is not None
                found.append((di, variant, item))
    return found


moments = st.none() | st.datetimes(datetime(2000, 1, 2), datetime(2099, 12, 31)).map(
    lambda one: one.replace(microsecond=0)
)


def field_values(draw: Any, di: str, item: Item) -> list[ItemValue]:
    """Values that one occurrence of an item can hold."""
    values: list[ItemValue] = []
    for place, field in enumerate(item.fields):
        match field.kind:
            case "number":
                limit = 10 ** (2 * field.size) * (8 if item.signed else 10) // 10 - 1
                number = draw(st.none() | st.integers(-limit if item.signed else 0, limit))
                if number is not None and not item.signed and number == 10 ** (2 * field.size):
                    number = 0
                value: Any = None if number is None else Decimal(number).scaleb(-field.decimals)
            case "moment":
                at = draw(moments)
                value = at if at is None or field.size == 6 else at.replace(second=0)
                if place:
                    values[-1] = ItemValue(di, item.name, values[-1].value, item.unit, value)
                    continue
            case "date":
                value = draw(st.dates(date(2000, 1, 1), date(2099, 12, 31)))
            case "time":
                value = draw(st.times()).replace(microsecond=0)
            case "digits":
                value = draw(st.text("0123456789", min_size=2 * field.size, max_size=2 * field.size))
            case "text":
                value = draw(st.text("ABC 123.", min_size=1, max_size=field.size))
            case "bits":
                word = draw(st.integers(0, 2 ** (8 * field.size) - 1)).to_bytes(field.size, "little")
                value = decode_item(di, word, "1997" if len(di) == 4 else "2007")[0].value
            case _:
                value = draw(st.binary(min_size=1, max_size=20))
        values.append(ItemValue(di, item.name, value, item.unit))
    return values


@given(st.data())
def test_every_item_of_the_catalogue_comes_back_as_it_was_encoded(data: st.DataObject) -> None:
    di, variant, item = data.draw(st.sampled_from(every_single()))
    times = data.draw(st.integers(1, 5)) if item.repeat else 1
    values = [one for _ in range(times) for one in field_values(data.draw, di, item)]
    wire = encode_item(di, values, variant)
    assert decode_item(di, wire, variant) == values
    assert len(wire) == item.size * times or not item.size


@given(st.sampled_from(every_single()), st.binary(max_size=64))
def test_any_bytes_give_values_or_a_decode_error_that_keeps_them(entry: tuple[str, Variant, Item], wire: bytes) -> None:
    di, variant, _ = entry
    kept = wire
    try:
        decode_item(di, wire, variant)
    except DecodeError as error:
        kept = error.raw
    assert kept in wire


@given(st.text("0123456789ABCDEF", min_size=8, max_size=8), st.binary(max_size=64))
def test_any_identifier_can_be_asked_for(di: str, wire: bytes) -> None:
    with suppress(DecodeError):
        decode_item(di, wire, "2007")
    with suppress(DecodeError):
        decode_item(di[:4], wire, "1997")


@pytest.mark.parametrize(
    ("di", "wire", "value"),
    [
        ("02010100", "9822", "229.8"),
        ("02030000", "872680", "-0.2687"),
        ("02800007", "2581", "-12.5"),
        ("00010000", "99999999", "999999.99"),
        ("00000000", "00010080", "-1.00"),
        ("02060100", "0010", "1.000"),
        ("02020100", "563492", "-123.456"),
    ],
)
def test_the_sign_is_the_highest_bit_of_the_last_byte(di: str, wire: str, value: str) -> None:
    (one,) = decode_item(di, bytes.fromhex(wire), "2007")
    assert one.value == Decimal(value)


def test_ff_is_a_phase_that_is_not_fitted_and_no_number() -> None:
    values = decode_item("0201FF00", bytes.fromhex("5622ffffffff"), "2007")
    assert [(one.di, one.value) for one in values] == [
        ("02010100", Decimal("225.6")),
        ("02010200", None),
        ("02010300", None),
    ]


def test_a_half_byte_that_is_no_digit_is_an_error_and_no_number() -> None:
    with pytest.raises(DecodeError) as caught:
        decode_item("00010000", bytes.fromhex("00000e00"), "2007")
    assert caught.value.raw == bytes.fromhex("00000e00")
    assert "00010000 (" in str(caught.value), "the item is named"


def test_an_energy_of_five_bytes_is_not_guessed_at() -> None:
    with pytest.raises(DecodeError, match="5 bytes came where 4 belong"):
        decode_item("00010000", bytes.fromhex("5634120005"), "2007")


def test_a_block_has_as_many_items_as_its_length_says() -> None:
    wire = bytes.fromhex("363000005602000019000000")
    assert [one.di for one in decode_item("0001FF00", wire, "2007")] == ["00010000", "00010100", "00010200"]
    assert block_members("0001FF00", "2007")[:2] == ("00010000", "00010100")
    assert block_members("000100FF", "2007")[:2] == ("00010000", "00010001")
    assert block_members("040005FF", "2007") == tuple(f"0400050{word}" for word in range(1, 8))
    assert block_members("0506FF01", "2007") == ()


def test_the_1997_block_ends_with_aa_both_ways() -> None:
    wire = bytes.fromhex("00010000000200000003000000aa".replace(" ", ""))[1:]
    values = decode_item("901F", wire, "1997")
    assert [one.di for one in values] == ["9010", "9011", "9012"]
    assert encode_item("901F", values, "1997") == wire


def test_status_words_name_the_bits_that_are_set() -> None:
    (word,) = decode_item("04000503", (1 << 4 | 1 << 14).to_bytes(2, "little"), "2007")
    assert word.value == ("relay_open", "bit14")
    assert encode_item("04000503", [word], "2007") == b"\x10\x40"
    assert encode_item("04000503", [("bit4",)], "2007") == b"\x10\x00"


def test_a_demand_brings_its_time() -> None:
    (demand,) = decode_item("01010000", bytes.fromhex("2514023015180624"), "2007")
    assert (demand.value, demand.unit, demand.at) == (Decimal("2.1425"), "kW", datetime(2024, 6, 18, 15, 30))


def test_dates_and_times_are_those_of_the_meter() -> None:
    assert decode_item("04000101", bytes.fromhex("01110116"), "2007")[0].value == date(2016, 1, 11)
    assert decode_item("04000102", bytes.fromhex("555321"), "2007")[0].value == time(21, 53, 55)
    assert encode_item("04000101", [date(2016, 1, 11)], "2007") == bytes.fromhex("01110116")


def test_energies_roll_over_and_are_cut_while_measurements_are_rounded() -> None:
    assert encode_item("00010000", [Decimal("1000000.019")], "2007") == bytes.fromhex("01000000")
    assert encode_item("02010100", [229.96], "2007") == bytes.fromhex("0023")


@pytest.mark.parametrize(
    ("di", "value"), [("02010100", Decimal(1000)), ("02010100", Decimal(-1)), ("02030000", Decimal(80))]
)
def test_a_value_that_does_not_fit_is_refused(di: str, value: Decimal) -> None:
    with pytest.raises(ConfigError, match="does not fit"):
        encode_item(di, [value], "2007")


def test_values_of_the_wrong_kind_or_number_are_refused() -> None:
    with pytest.raises(ConfigError, match="cannot hold"):
        encode_item("02010100", ["230"], "2007")
    with pytest.raises(ConfigError, match="fewer than 2"):
        encode_item("02010100", [Decimal(1), Decimal(2)], "2007")
    with pytest.raises(ConfigError, match="relay"):
        encode_item("04000503", [("relay",)], "2007")


def test_the_length_of_a_reply_is_known_before_it_comes() -> None:
    assert item_bytes("00010000", "2007") == 4
    assert item_bytes("0201FF00", "2007") == 6
    assert item_bytes("0001FF00", "2007") is None
    assert item_bytes("0001FF00", "2007", 5) == 20
    assert item_bytes("B61F", "1997") == 7
    assert item_bytes("05060101", "2007", 5) == 20
    assert item_bytes("DEADBEEF", "2007") is None
