"""`meter-batch templates check` and `new` explain and help, with files and with meters that answer."""

from __future__ import annotations

import asyncio
import sys
import zipfile
from pathlib import Path

import pytest

from meter_batch_cli.sheet import read_sheet
from meter_batch_engine.errors import ConfigError
from meter_batch_engine.template import load_file
from meter_batch_virtual.config import parse_fleet
from meter_batch_virtual.fleet import VirtualFleet

from .conftest import Run

FLEET = """
[[line]]
name = "one"
listen = "tcp://127.0.0.1:0"
protocol = "modbus-tcp"
turnround_ms = 1
jitter_ms = 0
meter = [{ address = 3, template = "eastron/sdm630" }]
"""
SDM = Path(__file__).parents[2] / "custom_components/meter_batch/engine/templates/eastron/sdm630.toml"


def beside_a_meter(tmp_path: Path, *arguments: str) -> tuple[int, str, str]:
    """What the command says while a virtual SDM630 answers as unit 3."""

    async def run() -> tuple[int, str, str]:
        fleet = VirtualFleet(parse_fleet(FLEET, tmp_path / "fleet.toml"))
        await fleet.start()
        options = ["--line", fleet.lines[0].where, "--framing", "tcp", "--address", "3"]
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "meter_batch_cli", "templates", *arguments, *options),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            out, error = await process.communicate()
            return process.returncode or 0, out.decode(), error.decode()
        finally:
            await fleet.stop()

    return asyncio.run(run())


def test_check_says_every_mistake_at_once(meter_batch: Run, tmp_path: Path) -> None:
    file = tmp_path / "m1.toml"
    file.write_text('vendor = "A"\nmodel = "M"\nprotocol = "modbus"\nphases = 5\nregister = [{ key = "volt" }]\n')
    done = meter_batch("templates", "check", str(file))
    assert done.returncode == 1
    assert "phases: is 5" in done.stderr
    assert "[register volt] type: is missing" in done.stderr


def test_check_says_what_looks_odd_and_that_it_can_be_used(meter_batch: Run, tmp_path: Path) -> None:
    file = tmp_path / "m1.toml"
    file.write_text(
        'vendor = "A"\nmodel = "M"\nprotocol = "modbus"\nphases = 1\n'
        'register = [{ key = "voltage", address = 0, type = "uint16", scale = 0.001 }]\n'
    )
    done = meter_batch("templates", "check", str(file))
    assert done.returncode == 0
    assert "it can be used" in done.stdout
    assert "voltage: a uint16 with scale 0.001 ends at 65.535 V" in done.stdout


def test_check_beside_a_meter_says_what_answers_and_whether_it_is_plausible(tmp_path: Path) -> None:
    code, out, _ = beside_a_meter(tmp_path, "check", str(SDM))
    assert code == 0
    assert "voltage_l1: 2" in out
    assert "registers have a value" in out
    assert "likely" in out
    swapped = tmp_path / "sdm630.toml"
    swapped.write_text(SDM.read_text().replace("function = 4,", 'function = 4, word_order = "little",'))
    code, out, _ = beside_a_meter(tmp_path, "check", str(swapped))
    assert code == 1
    assert "not plausible" in out


def test_new_makes_a_template_of_a_data_sheet_that_can_be_used(meter_batch: Run, tmp_path: Path) -> None:
    sheet = tmp_path / "registers.csv"
    sheet.write_bytes(
        "地址;名称;类型;单位\n0x0061;A相电压;UINT16;0.1V\n0x0064;A相电流;UINT16;0.01A\n0x0200;密码;UINT16;\n".encode(
            "gb18030"
        )
    )
    file = tmp_path / "acme/m1.toml"
    done = meter_batch("templates", "new", str(file), "--sheet", str(sheet))
    assert done.returncode == 0, done.stderr
    assert "not used: 0x0200 密码" in done.stderr
    template = load_file(file)
    assert [one.quantity.key for one in template.registers] == ["voltage_l1", "current_l1"]
    assert all(one.doubt for one in template.registers)
    assert template.doubt
    assert meter_batch("templates", "new", str(file), "--sheet", str(sheet)).returncode == 2, "nothing is written over"


def test_new_guesses_from_the_words_of_a_meter(tmp_path: Path) -> None:
    file = tmp_path / "acme/m2.toml"
    code, _, error = beside_a_meter(tmp_path, "new", str(file), "--range", "0-80")
    assert code == 0, error
    template = load_file(file)
    assert {one.quantity.key: one.locator.address for one in template.registers} == {  # type: ignore[union-attr]
        "voltage_l1": 0,
        "voltage_l2": 2,
        "voltage_l3": 4,
        "frequency": 0x46,
    }
    assert template.registers[0].locator.function == 4  # type: ignore[union-attr]
    assert "high word first" in file.read_text()


def test_tables_are_read_as_people_save_them(tmp_path: Path) -> None:
    rows = [["Address", "Name", ""], ["1", "Unité", "x"]]
    main = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    book = tmp_path / "a.xlsx"
    shared = "<si><t>Address</t></si><si><t>Uni</t><t>té</t></si>"
    first = '<c r="A1" t="s"><v>0</v></c><c r="B1" t="inlineStr"><is><t>Name</t></is></c><c r="C1"/>'
    second = '<c r="A2"><v>1</v></c><c r="B2" t="s"><v>1</v></c><c r="C2" t="str"><v>x</v></c>'
    sheet = f"<sheetData><row>{first}</row><row>{second}</row></sheetData>"
    with zipfile.ZipFile(book, "w") as archive:
        archive.writestr("xl/sharedStrings.xml", f"<sst {main}>{shared}</sst>")
        archive.writestr("xl/worksheets/sheet1.xml", f"<worksheet {main}>{sheet}</worksheet>")
    assert read_sheet(book) == rows
    for name, encoding, separator in (("a.csv", "utf-8-sig", ","), ("b.csv", "utf-16", "\t"), ("c.csv", "cp1252", ";")):
        (tmp_path / name).write_bytes("\n".join(separator.join(row) for row in rows).encode(encoding))
        assert read_sheet(tmp_path / name) == rows, name


@pytest.mark.parametrize("content", [b"PK\x03\x04broken", None])
def test_a_file_that_is_no_table_is_told(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "x.xlsx"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"x\.xlsx"):
        read_sheet(file)
