"""The example shows everything that a fleet file can say, and it runs; a file can be checked without running it."""

from __future__ import annotations

import re
from pathlib import Path

from pymodbus.client import AsyncModbusTcpClient
from typer.testing import CliRunner

from meter_batch_cli.simulate import app
from meter_batch_virtual.config import FLEET_KEYS, LINE_KEYS, METER_KEYS, example_fleet
from meter_batch_virtual.fault import KINDS

from .conftest import StartFleet


def test_the_example_names_every_key_and_every_fault() -> None:
    text = example_fleet()
    for key in {*FLEET_KEYS, *LINE_KEYS, *METER_KEYS} - {"line", "meter"}:
        assert re.search(rf"^{key} = ", text, re.M), key
    for kind in KINDS:
        assert f'kind = "{kind}"' in text, kind


async def test_the_example_runs_and_other_programs_read_it(start_fleet: StartFleet) -> None:
    fleet = await start_fleet(re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:0", example_fleet()))
    port = int(fleet.line("network").where.rpartition(":")[2])
    async with AsyncModbusTcpClient("127.0.0.1", port=port) as client:
        words = (await client.read_input_registers(0, count=2, device_id=1)).registers
        assert 200 < client.convert_from_registers(words, client.DATATYPE.FLOAT32) < 260


def test_a_file_is_checked_without_running_it(tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["--example"])
    assert shown.exit_code == 0 and shown.stdout == example_fleet()
    path = tmp_path / "fleet.toml"
    path.write_text(shown.stdout, encoding="utf-8")
    right = CliRunner().invoke(app, ["--check", str(path)])
    assert right.exit_code == 0 and "is right: 52 meters on 12 lines" in right.stdout
    assert "  phase_lost: phase_lost: a phase has no voltage" in right.stdout
    path.write_text(shown.stdout.replace("gateway_timeout_s", "gateway_timout_s"), encoding="utf-8")
    wrong = CliRunner().invoke(app, ["--check", str(path)])
    assert wrong.exit_code == 2
    assert '"gateway": unknown key gateway_timout_s; did you mean gateway_timeout_s?' in wrong.output.replace("\n", "")


def test_without_a_file_the_way_out_is_named() -> None:
    asked = CliRunner().invoke(app, [])
    assert asked.exit_code == 2 and "--example" in asked.output
