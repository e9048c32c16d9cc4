"""`meter-batch read` reads a running fleet over every medium, and under hold gets the truth to the last digit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from meter_batch_virtual.config import load_fleet, parse_fleet

from .conftest import PYTHON, StartFleet, run

MODBUS, DLT645 = ("eastron/sdm630", "7"), ("generic/dlt645-3ph", "681668166816")


@pytest.mark.parametrize("listen", ["tcp://127.0.0.1:0", "rfc2217://127.0.0.1:0", "pty:./wire"])
@pytest.mark.parametrize(("template", "address"), [MODBUS, DLT645])
async def test_every_register_equals_the_truth_over_every_medium(
    start_fleet: StartFleet, listen: str, template: str, address: str
) -> None:
    protocol = "modbus-rtu" if template == MODBUS[0] else "dlt645-2007"
    parity = "N" if template == MODBUS[0] else "E"
    fleet = await start_fleet(
        f'[[line]]\nname = "a"\nlisten = "{listen}"\nprotocol = "{protocol}"\nbaud = 38400\n'
        f'[[line.meter]]\naddress = "{address}"\ntemplate = "{template}"\n'
    )
    where = fleet.lines[0].where
    line = ("--line", where, "--baud", "38400", "--parity", parity, "--template", template, "--address", address)
    status, out, err = await run(PYTHON, "-m", "meter_batch_cli", "read", *line, "--json")
    assert status == 0, err
    read = {one["obis"]: one["value"] for one in json.loads(out)["readings"]}
    assert read == fleet.truth()[0]["registers"]


def test_two_meters_at_one_address_need_no_names_and_are_not_alike(tmp_path: Path) -> None:
    meter = '[[line.meter]]\naddress = 7\ntemplate = "eastron/sdm120"\n'
    line = '[[line]]\nname = "a"\nlisten = "tcp://127.0.0.1:0"\nprotocol = "modbus-rtu"\n'
    first, second = parse_fleet(line + meter + meter, tmp_path / "fleet.toml").lines[0].meters
    assert (first.name, second.name) == ("a/7", "a/7#2")
    assert first.seed != second.seed
    assert first.serial != second.serial


def test_a_template_file_is_looked_for_beside_the_fleet_file(tmp_path: Path) -> None:
    folder = tmp_path / "acme"
    folder.mkdir()
    (folder / "m1.toml").write_text(
        'vendor = "Acme"\nmodel = "M1"\nprotocol = "modbus"\nphases = 1\n'
        'register = [{ key = "voltage", address = 0, type = "uint16" }]\n',
        encoding="utf-8",
    )
    (folder / "fleet.toml").write_text(
        '[[line]]\nname = "a"\nlisten = "tcp://127.0.0.1:0"\nprotocol = "modbus-tcp"\n'
        '[[line.meter]]\naddress = 7\ntemplate = "m1.toml"\n',
        encoding="utf-8",
    )
    assert load_fleet(folder / "fleet.toml").lines[0].meters[0].template.id == "acme/m1"
