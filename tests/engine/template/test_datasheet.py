"""The register table of a data sheet becomes the draft of a template; what is not certain stands in doubt."""

from __future__ import annotations

import struct
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_batch_engine.errors import ConfigError
from meter_batch_engine.model.quantity import BY_KEY
from meter_batch_engine.template import available, load, remarks
from meter_batch_engine.template.datasheet import draft, key_of
from meter_batch_engine.template.loader import parse
from meter_batch_engine.template.survey import survey


@pytest.mark.parametrize(
    ("name", "unit", "key"),
    [
        ("Phase 1 line to neutral volts", "V", "voltage_l1"),
        ("A相电压", "0.1V", "voltage_l1"),
        ("Ubc", "", "voltage_l2_l3"),
        ("L1-L2 voltage", "V", "voltage_l1_l2"),
        ("Ia", "mA", "current_l1"),
        ("零线电流", "A", "current_neutral"),
        ("Total active power", "W", "active_power"),
        ("总功率因数", "", "power_factor"),
        ("B相有功功率", "kW", "active_power_l2"),
        ("System volt amps", "VA", "apparent_power"),
        ("正向有功总电能", "kWh", "energy_import"),
        ("反向无功电能", "", "reactive_energy_export"),
        ("Total kWh", "kWh", "energy_gross"),
        ("Forward active spike energy", "kWh", "energy_import_t1"),
        ("谷正向有功电能", "kWh", "energy_import_t4"),
        ("Max demand import", "W", "demand_import_max"),
        ("THD voltage L1", "%", "voltage_thd_l1"),
        ("Frequency", "Hz", "frequency"),
        ("频率", "", "frequency"),
        # Nothing of ours:
        ("CT ratio", "", None),
        ("Password", "", None),
        ("Maximum voltage L1", "V", None),
        ("Energy of last month", "kWh", None),
    ],
)
def test_names_of_both_languages_are_understood(name: str, unit: str, key: str | None) -> None:
    assert key_of(name, unit) == key


def test_an_english_table_with_modicon_addresses() -> None:
    found = draft(
        [
            ["Acme M1 Modbus manual", "", "", "", ""],
            ["Register", "Parameter", "Units", "Format", "R/W"],
            ["30001", "Phase 1 line to neutral volts", "Volts", "Float", "R"],
            ["30013", "Phase 1 power", "Watts", "Float", "R"],
            ["30073", "Import active energy", "kWh", "Float", "R"],
            ["30085", "Password", "", "Float", "W"],
        ]
    )
    assert [(one.key, one.function, one.address, one.type, one.scale) for one in found.rows] == [
        ("voltage_l1", 4, 0, "float32", Decimal(1)),
        ("active_power_l1", 4, 12, "float32", Decimal("0.001")),
        ("energy_import", 4, 72, "float32", Decimal(1)),
    ]
    assert found.unused == ("30085 Password: no quantity we know",)
    assert any("30001" in one for one in found.notes)


def test_a_chinese_table_with_hexadecimal_addresses_and_scales_in_units() -> None:
    found = draft(
        [
            ["地址", "名称", "数据类型", "单位", "读写", "长度"],
            ["0x0061", "A相电压", "UINT16", "0.1V", "R", "1"],
            ["0x0064", "A相电流", "UINT16", "0.01A", "R", "1"],
            ["0x006A", "总有功功率", "INT16", "W", "R", "1"],
            ["0x000A", "正向有功总电能", "UINT32", "0.01kWh", "R", "2"],
            ["0x0077", "频率", "UINT16", "0.01Hz", "R", "1"],
            ["0x014B", "电流变比", "UINT16", "", "R/W", "1"],
        ]
    )
    assert {one.key: (one.address, one.type, one.scale) for one in found.rows} == {
        "voltage_l1": (0x61, "uint16", Decimal("0.1")),
        "current_l1": (0x64, "uint16", Decimal("0.01")),
        "active_power": (0x6A, "int16", Decimal("0.001")),
        "energy_import": (0x0A, "uint32", Decimal("0.01")),
        "frequency": (0x77, "uint16", Decimal("0.01")),
    }


@pytest.mark.parametrize(
    ("cell", "base", "address"),
    [("000BH", 0, 11), ("0x5000-0x5003", 0, 0x5000), ("$00F3", 0, 0xF3), ("F3H", 0, 0xF3), ("0x0001", 1, 0)],
)
def test_addresses_as_people_write_them(cell: str, base: int, address: int) -> None:
    (row,) = draft([["Address", "Name", "Type"], [cell, "Frequency", "uint16"]], base=base).rows
    assert row.address == address


@pytest.mark.parametrize(
    ("scale", "unit", "expected"),
    [
        ("0.1", "V", "0.1"),
        ("1/10", "V", "0.1"),
        ("/10", "V", "0.1"),
        ("÷10", "V", "0.1"),
        ("x0.1", "V", "0.1"),
        ("", "mV", "0.001"),
        ("", "kV", "1000"),
    ],
)
def test_scales_as_people_write_them(scale: str, unit: str, expected: str) -> None:
    table = [["Address", "Name", "Type", "Scale", "Unit"], ["0", "Voltage L1", "uint16", scale, unit]]
    (row,) = draft(table).rows
    assert row.scale == Decimal(expected)


def test_a_scale_of_ten_is_taken_for_tenths_and_doubted() -> None:
    (row,) = draft([["Address", "Name", "Type", "Scale"], ["0", "Voltage L1", "uint16", "10"]]).rows
    assert row.scale == Decimal("0.1")
    assert "scale" in row.doubt


@pytest.mark.parametrize("unit", ["", "kilowatt", "千瓦"])
def test_a_power_whose_unit_is_not_understood_is_doubted(unit: str) -> None:
    (row,) = draft([["Address", "Name", "Type", "Unit"], ["0", "Total active power", "float", unit]]).rows
    assert "unit" in row.doubt


def test_a_sheet_that_seems_to_count_from_one_is_told() -> None:
    found = draft([["Address", "Name"], ["1", "Voltage L1"], ["2", "Voltage L2"]])
    assert any("--base 1" in one for one in found.notes)
    assert "type" in found.rows[0].doubt


def sheet(heading: str, *addresses: str) -> list[list[str]]:
    names = ("A相电压", "B相电压", "C相电压", "频率")
    return [
        [heading, "名称", "数据类型"],
        *([one, name, "UINT16"] for one, name in zip(addresses, names, strict=False)),
    ]


def test_one_hexadecimal_address_does_not_turn_decimal_ones_into_hexadecimal() -> None:
    found = draft(sheet("地址", "10", "11", "0x0C"))
    assert [one.address for one in found.rows] == [10, 11, 12]
    assert ["decimal or hexadecimal" in one.doubt for one in found.rows] == [True, True, False]
    assert any('"0x0C" is read as hexadecimal, "10" as decimal' in one for one in found.notes)


@pytest.mark.parametrize("heading", ["地址(HEX)", "地址（Hex）", "Address (Hex)", "地址（十六进制）"])
def test_a_heading_says_that_addresses_are_hexadecimal(heading: str) -> None:
    found = draft(sheet(heading, "10", "11", "12"))
    assert [one.address for one in found.rows] == [0x10, 0x11, 0x12]
    assert found.notes == ("addresses are hexadecimal",)


def test_digits_without_a_mark_are_as_the_others_without_a_mark() -> None:
    assert [one.address for one in draft(sheet("地址", "0009", "000A", "0x0010")).rows] == [9, 10, 16]
    assert [one.address for one in draft(sheet("地址", "$10", "11h", "0x12")).rows] == [0x10, 0x11, 0x12]


def test_two_registers_at_one_address_are_told() -> None:
    found = draft(sheet("地址", "10", "11", "11"))
    assert any("voltage_l2 is at this address too" in one for one in found.notes)
    assert "voltage_l2 has it too" in found.rows[2].doubt


@pytest.mark.parametrize("scale", [1.0, 0.1, 0.01, 0.001])
def test_floats_of_an_unknown_meter_may_be_tenths_where_volts_and_hertz_agree(scale: float) -> None:
    values = {0x2000: 397.1, 0x2002: 396.0, 0x2004: 398.2, 0x2006: 229.0, 0x2008: 230.1, 0x200A: 228.4, 0x2044: 50.01}
    words: dict[int, int] = {}
    for address, value in values.items():
        high, low = struct.unpack(">HH", struct.pack(">f", value / scale))
        words |= {address: high, address + 1: low}
    found = survey(3, words, words)
    assert [(one.key, one.address, one.type, float(one.scale)) for one in found.rows] == [
        *((f"voltage_l{phase + 1}", 0x2006 + 2 * phase, "float32", scale) for phase in range(3)),
        ("frequency", 0x2044, "float32", scale),
    ]
    if scale != 1:
        del words[0x2044]
        assert not any(one.type == "float32" for one in survey(3, words, words).rows)


def test_a_table_without_headings_is_refused_in_words() -> None:
    with pytest.raises(ConfigError, match="no column is headed"):
        draft([["1", "2"], ["3", "4"]])


@given(st.lists(st.lists(st.text(max_size=12), max_size=5), max_size=6))
def test_whatever_a_table_holds_only_rows_we_know_come_out(rows: list[list[str]]) -> None:
    for row in draft([["address", "name", "type", "unit", "scale"], *rows]).rows:
        assert row.key in BY_KEY
        assert 0 <= row.address <= 0xFFFF


def words(values: dict[int, float], little: bool) -> dict[int, int]:
    found: dict[int, int] = {}
    for address, value in values.items():
        pair = struct.unpack(">2H", struct.pack(">f", value))
        found |= dict(enumerate(pair[::-1] if little else pair, address))
    return found


@pytest.mark.parametrize("little", [False, True])
def test_voltages_and_hertz_show_how_an_unknown_meter_is_read(little: bool) -> None:
    first = {0: 230.1, 2: 231.4, 4: 229.8, 6: 5.2, 70: 50.02, 72: 1234.5}
    found = survey(4, words(first, little), words(first | {72: 1234.6}, little))
    assert found.reading is not None
    assert (found.reading.type, found.reading.little) == ("float32", little)
    assert {one.key: one.address for one in found.rows} == {
        "voltage_l1": 0,
        "voltage_l2": 2,
        "voltage_l3": 4,
        "frequency": 70,
    }
    assert found.rest[72] == "1234.5 (grew)"


def test_what_begins_inside_a_value_is_no_value() -> None:
    """At 0x16 the words of two powers happen to look like 50 Hz."""
    held = words({1: 230.1, 3: 231.4, 5: 229.8, 0x37: 50.01}, little=False)
    high, low = struct.unpack(">2H", struct.pack(">f", 49.99))
    found = survey(3, held | {0x16: high, 0x17: low}, held)
    assert {one.key: one.address for one in found.rows}["frequency"] == 0x37
    assert 0x16 not in found.rest


def test_whole_numbers_of_an_unknown_meter_are_understood_too() -> None:
    held = {0x61: 2301, 0x62: 2310, 0x63: 2298, 0x64: 512, 0x77: 5002}
    found = survey(3, held, held)
    assert {one.key: (one.address, one.scale) for one in found.rows} == {
        "voltage_l1": (0x61, Decimal("0.1")),
        "voltage_l2": (0x62, Decimal("0.1")),
        "voltage_l3": (0x63, Decimal("0.1")),
        "frequency": (0x77, Decimal("0.01")),
    }


def test_where_nothing_is_plausible_nothing_is_guessed() -> None:
    assert survey(3, dict.fromkeys(range(20), 1), {}).rows == ()


TEMPLATE = """
vendor = "Acme"
model = "M1"
protocol = "modbus"
phases = 3
register = [
  { key = "voltage_l1", address = 1, type = "uint16", scale = 0.001 },
  { key = "active_power", address = 3, type = "int16", scale = 0.00001 },
  { key = "active_power_l1", address = 5, type = "float32", scale = 0.3 },
  { key = "active_power_l2", address = 7, type = "float32", word_order = "little", scale = 0.3 },
  { key = "frequency", address = 9, type = "float32" },
  { key = "temperature", address = 11, type = "float32" },
]
"""


def test_what_looks_odd_is_told() -> None:
    text = "\n".join(remarks(parse(TEMPLATE, "acme/m1", "m1.toml")))
    for expected in (
        "voltage_l1: a uint16 with scale 0.001 ends at 65.535 V",
        "active_power: a int16 with scale 0.00001 ends at",
        "active powers differ in type or scale",
        "some values have the low word first",
        "begin at odd addresses",
        "there is no current",
        "there is no active energy",
        "limits:",
        "identity:",
        "sources: 6 rows",
    ):
        assert expected in text, text


def test_shipped_templates_have_nothing_odd_about_their_scales() -> None:
    for template in map(load, available()):
        assert not any(" ends at " in one or "sources:" in one or "limits:" in one for one in remarks(template)), (
            template.id
        )
