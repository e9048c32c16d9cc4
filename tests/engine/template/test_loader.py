"""A template with a mistake says in which file, table and key, and what to write instead."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_batch_engine.errors import TemplateError
from meter_batch_engine.template import DltItem, Memory, ModbusWords, load, load_file
from meter_batch_engine.template.loader import parse

GOOD = """
vendor = "Acme"
model = "M1"
protocol = "modbus"
phases = 3
serial = { baud = 19200, parity = "E", stop_bits = 1 }
modbus = { function = 4, word_order = "little", max_words = 20, holes = true, turnround_ms = 60, gap_ms = 5 }
virtual = { voltage_v = 127, current_a = 3 }
register = [
  { key = "voltage_l1", address = 0x10, type = "uint16", scale = 0.1, sources = ["manual"] },
  { key = "energy_import", address = 0x20, type = "uint32", scale = "0.01", absent = [0xFFFFFFFF], doubt = "scale" },
  { key = "frequency", address = 0x10, type = "float32", function = 3, word_order = "big", group = "slow" },
]
[limits]
voltage_v = [0, 300]
current_a = [-10, 10.5]
power_kw = [-7, 7]
frequency_hz = [45, 65]
roll_over_kwh = 100000
[sources]
manual = "Acme manual, p. 7"
"""
GOOD_DLT = """
vendor = "Acme"
model = "D1"
protocol = "dlt645-2007"
phases = 3
dlt645 = { blocks = false, preamble = 4, turnround_ms = 100 }
register = [{ key = "voltage_l2", di = "02010200", block = "0201ff00" }]
"""


def test_everything_a_template_says_arrives() -> None:
    template = parse(GOOD, "acme/m1", "m1.toml")
    voltage, energy, frequency = template.registers
    assert (template.id, template.name, template.source) == ("acme/m1", "Acme M1", "Acme manual, p. 7")
    assert (template.serial.baud, template.serial.parity) == (19200, "E")
    assert (template.modbus.max_words, template.modbus.holes) == (20, True)
    assert (template.modbus.turnround_s, template.modbus.gap_s) == (0.06, 0.005)
    assert template.limits.of(voltage.quantity) == (0, 300)
    assert (template.virtual.voltage_v, template.virtual.current_a) == (127, 3)
    assert voltage.locator == ModbusWords(4, 0x10, "uint16", little=True)
    assert (voltage.scale, voltage.group, voltage.sources) == (Decimal("0.1"), "fast", ("manual",))
    assert (energy.scale, energy.group, energy.doubt) == (Decimal("0.01"), "energy", "scale")
    assert energy.absent == frozenset({0xFFFFFFFF})
    assert frequency.locator == ModbusWords(3, 0x10, "float32")
    assert frequency.group == "slow"
    assert template.roll_over("1-0:1.8.0") == 100000


def test_a_block_finds_the_place_of_its_item() -> None:
    template = parse(GOOD_DLT, "acme/d1", "d1.toml")
    assert template.registers[0].locator == DltItem("0201FF00", 1, "02010200")
    assert (template.dlt645.blocks, template.dlt645.preamble, template.dlt645.turnround_s) == (False, 4, 0.1)


def test_what_a_model_remembers_arrives_and_is_nothing_where_the_template_is_silent() -> None:
    memory = "memory = { load_records_days = 366, daily = 62, dst = true }"
    template = parse(GOOD_DLT.replace("register =", f"{memory}\nregister ="), "acme/d1", "d1.toml")
    assert template.memory == Memory(load_records_days=366, daily=62, clock="local", dst=True)
    assert parse(GOOD_DLT, "acme/d1", "d1.toml").memory is None
    assert not parse(GOOD.replace("holes = true", "profile = false"), "acme/m1", "m1.toml").modbus.profile


@pytest.mark.parametrize(
    ("memory", "says"),
    [
        ("{ dayly = 62 }", r'\[memory\] dayly: is not known \(did you mean "daily"\?\)'),
        ("{ monthly = 13 }", r"\[memory\] monthly: must be a whole number from 0 to 12, not 13"),
        ('{ clock = "utc", dst = true }', r"\[memory\] dst: a clock that shows UTC knows no daylight-saving time"),
    ],
)
def test_a_mistake_about_the_memory_is_named_too(memory: str, says: str) -> None:
    with pytest.raises(TemplateError, match=says):
        parse(GOOD_DLT.replace("register =", f"memory = {memory}\nregister ="), "acme/d1", "d1.toml")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("vendor =", "vender =", r'm1.toml: vendor: is missing \(there is "vender"\)'),
        ('model = "M1"', 'model = "M1"\ncolour = 1', "m1.toml: colour: is not known"),
        ('"modbus"', '"modbuss"', r'protocol: is .modbuss. \(did you mean "modbus"\?\); it may be modbus, dlt645-2007'),
        ("phases = 3", "phases = 2", "phases: is 2; it may be 1, 3"),
        ("max_words", "max_wrods", r'\[modbus\] max_wrods: is not known \(did you mean "max_words"\?\)'),
        ("holes = true", "holes = 1", r"\[modbus\] holes: must be true or false, not 1"),
        ("max_words = 20", "max_words = 126", r"\[modbus\] max_words: must be a whole number from 1 to 125, not 126"),
        ("max_words = 20", "max_words = 1", r"\[modbus\] max_words: 1 is less than the 2 of"),
        ('parity = "E"', 'parity = "X"', r"\[serial\] parity: is 'X'; it may be N, E, O"),
        ("[0, 300]", "[300, 0]", r"\[limits\] voltage_v: must be \[lowest, highest\], not \[300, 0\]"),
        ("voltage_v = [0", "voltage = [0", r'\[limits\] voltage: is not known \(did you mean "voltage_v"'),
        ("current_a = 3", 'current_a = "x"', r"\[virtual\] current_a: must be a number, not 'x'"),
        ('"voltage_l1"', '"voltage_1"', r'register voltage_1\] key: "voltage_1" is no quantity .* mean "voltage_l1"'),
        ("address = 0x20", "adress = 0x20", r'register energy_import\] address: is missing \(there is "adress"\)'),
        ("address = 0x20", "address = 65535", r"register energy_import\] address: 65535 leaves no room for a uint32"),
        ('"uint32"', '"unit32"', r"register energy_import\] type: is .unit32. \(did you mean .uint32.\?\)"),
        ('scale = "0.01"', 'scale = "0,01"', r"register energy_import\] scale: must be a number, not .0,01."),
        ("scale = 0.1", "scale = 0", r"register voltage_l1\] scale: 0 is no scale of a meter: it lies between 0.0"),
        ("scale = 0.1", "scale = 1e400", r"register voltage_l1\] scale: 1E\+400 is no scale of a meter"),
        ("scale = 0.1", "scale = -1e-400", r"register voltage_l1\] scale: -1E-400 is no scale of a meter"),
        ("current_a = 3", "current_a = 0", r"\[virtual\] current_a: must be more than 0 and at most 10000, not 0"),
        ('["manual"]', '["manaul"]', r'sources: "manaul" is not in \[sources\] \(did you mean "manual"\?\)'),
        ('"frequency"', '"voltage_l1"', r"register voltage_l1\] key: it is there twice"),
        ("address = 0x20", "address = 0x0F", r"register voltage_l1\] address: 16 lies in energy_import \(15 to 16\)"),
        (
            'group = "slow"',
            'group = "slowly"',
            r"group: is .slowly. \(did you mean .slow.\?\); it may be fast, slow, energy",
        ),
        ("function = 3,", "function = 6,", r"register frequency\] function: is 6; it may be 3, 4"),
        ('vendor = "Acme"', "vendor = Acme", "m1.toml: it is no TOML: .*line 2"),
        ('vendor = "Acme"', "vendor = 7", "vendor: must be a text in quotes, not 7"),
        ("modbus = {", "dlt645 = {", r"dlt645: is not known"),
    ],
)
def test_a_mistake_is_named_by_file_table_and_key(old: str, new: str, says: str) -> None:
    assert old in GOOD
    with pytest.raises(TemplateError, match=says) as raised:
        parse(GOOD.replace(old, new), "acme/m1", "m1.toml")
    assert str(raised.value).startswith("m1.toml: ")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("02010200", "02019900", r"\[register voltage_l2\] di: .02019900. is no single item of DL/T 645-2007"),
        ('di = "02010200"', 'di = "0201FF00"', r"di: .0201FF00. is no single item"),
        ("0201ff00", "0202FF00", r"block: .0202FF00. is no block that holds 02010200"),
        ("blocks", "block", r'\[dlt645\] block: is not known \(did you mean "blocks"\?\)'),
    ],
)
def test_a_mistake_in_an_identifier_is_named(old: str, new: str, says: str) -> None:
    with pytest.raises(TemplateError, match=says):
        parse(GOOD_DLT.replace(old, new, 1), "acme/d1", "d1.toml")


@given(position=st.integers(0, len(GOOD) - 1), character=st.characters(min_codepoint=9, max_codepoint=126))
def test_any_slip_of_a_key_gives_a_template_or_a_template_error(position: int, character: str) -> None:
    text = GOOD[:position] + character + GOOD[position + 1 :]
    try:
        parse(text, "acme/m1", "m1.toml")
    except TemplateError as error:
        if not str(error).startswith("m1.toml: "):
            raise


def test_an_unknown_id_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(TemplateError, match=r'no template "eastron/sdm603" \(did you mean "eastron/sdm630"'):
        load("eastron/sdm603")
    with pytest.raises(TemplateError):
        load("../../secrets")


def test_a_template_of_ones_own_is_loaded_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "acme" / "m1.toml"
    path.parent.mkdir()
    path.write_text("\ufeff" + GOOD, encoding="utf-8")
    assert load_file(path).id == "acme/m1"
    path.write_bytes(GOOD.replace("Acme", "正泰").encode("gbk"))
    with pytest.raises(TemplateError, match="not UTF-8"):
        load_file(path)
    with pytest.raises(TemplateError, match=r"none.toml: No such file"):
        load_file(tmp_path / "none.toml")


def test_a_file_in_the_present_folder_has_an_id_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "acme"
    folder.mkdir()
    (folder / "m1.toml").write_text(GOOD, encoding="utf-8")
    monkeypatch.chdir(folder)
    assert load_file(Path("m1.toml")).id == "acme/m1"
