"""Fleet files are checked with care; the truth file is whole, fresh, and stands still when it is told to."""

from __future__ import annotations

import asyncio
import json
import os
from decimal import Decimal
from pathlib import Path

import pytest

from meter_batch_engine.errors import ConfigError
from meter_batch_engine.model.quantity import BY_KEY, QUANTITIES
from meter_batch_engine.template import available
from meter_batch_virtual.config import FleetConfig, load_fleet, parse_fleet
from meter_batch_virtual.fleet import TruthFile, VirtualFleet

from .conftest import StartFleet

MINIMAL = """
[[line]]
name = "workshop"
listen = "tcp://127.0.0.1:0"
protocol = "modbus-tcp"
baud = 9600

[[line.meter]]
address = 7
template = "eastron/sdm630"
load = "office"
faults = [{ kind = "silent", from_s = 60, to_s = 120 }]
"""


def parse(toml: str) -> FleetConfig:
    return parse_fleet(toml, Path("fleet.toml"))


def test_the_least_that_must_work_works() -> None:
    (line,) = parse(MINIMAL).lines
    (meter,) = line.meters
    assert (line.name, line.protocol, line.is_wired) == ("workshop", "modbus-tcp", False)
    assert (meter.name, meter.address, meter.load) == ("workshop/7", "7", "office")
    assert meter.faults[0].to_s == 120


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("listen =", "lisen =", r"fleet.toml: \[\[line\]\] 1 \"workshop\": unknown key lisen; did you mean listen\?"),
        ('listen = "tcp://127.0.0.1:0"', "", r"\[\[line\]\] 1 \"workshop\": listen is missing"),
        ("modbus-tcp", "modbus", r"protocol = 'modbus'; it may be modbus-tcp, modbus-rtu, dlt645-2007"),
        ("tcp://127.0.0.1:0", "127.0.0.1:502", r"is none of tcp://host:port, pty:path"),
        ("tcp://127.0.0.1:0", "pty:./x", r"modbus-tcp needs tcp://host:port"),
        ("baud = 9600", 'baud = "9600"', r"baud = '9600' must be a whole number"),
        ("baud = 9600", "baud = true", r"baud = True must be a whole number"),
        (
            "address = 7",
            "address = 300",
            r"\[\[line.meter\]\] 1: address = 300; a Modbus unit is a number from 1 to 247",
        ),
        ("eastron/sdm630", "eastron/sdm63", r"template: there is no template \"eastron/sdm63\" .did you mean"),
        ("eastron/sdm630", "generic/dlt645-3ph", r"speaks dlt645-2007, but the line is modbus-tcp"),
        ('"office"', '"ofice"', r"load = 'ofice'; it may be chiller, constant, night, office, pv, workshop"),
        ("from_s", "form_s", r"faults 1: unknown key form_s"),
        ("address = 7", "address = 7\ncolour = 1", r"\[\[line.meter\]\] 1: unknown key colour; it may have address"),
        ("address = 7", "address = 7\nphases = 1", r"phases = 1, but \"eastron/sdm630\" has 3"),
        ("address = 7", "address = 7\npeak_kw = 1e9", r"peak_kw = .* at most 75"),
        ("address = 7", "address = 7\nripple = 1", r"ripple = 1 must be at least 0 and below 1"),
        (
            "address = 7",
            "address = 7\nclock_offset_s = nan",
            r"1: clock_offset_s must be a number of at most",
        ),
        ("address = 7", "address = 7\nmemory = 1", r"\[\[line.meter\]\] 1: memory = 1 must be true or false"),
        ("baud = 9600", 'memory = "no"', r"\[\[line\]\] 1 \"workshop\": memory = 'no' must be true or false"),
        ("address = 7", "address = 7\nload_period_min = 7", r"1: load_period_min = 7; it may be 1, 2, 3, .*, 60"),
        ("baud = 9600", "load_period_min = 0", r"\"workshop\".*: load_period_min = 0; it may be 1,"),
        ("address = 7", "address = 7\nclock_drift_ppm = 5000", r"1: clock_drift_ppm = 5000 must be within ±1000"),
        ("address = 7", "address = 7\nclock_drift = 5", r"unknown key clock_drift; did you mean clock_drift_ppm\?"),
        ("address = 7", f"address = 7\nturnround_ms = 1{400 * '0'}", r"turnround_ms must be a number of at most"),
        ("[[line]]\nname", "utc_offset_h = inf\n[[line]]\nname", r"fleet.toml: utc_offset_h must be a number of"),
        ("[{ kind", '["silent", { kind', r"faults 1: it must be a table such as .*, not 'silent'"),
        ("from_s = 60", "from_s = nan", r"faults 1: from_s = nan must be a number of 0 or more"),
        ("[[line]]", "[[line]", r"fleet.toml: .*line 2"),
        ("[[line.meter]]", "[[line.meters]]", r"unknown key meters; did you mean meter\?"),
        ("[[line]]\nname", "speed = 2\n[[line]]\nname", r"fleet.toml: unknown key speed"),
    ],
)
def test_a_mistake_is_named_by_file_table_and_key(old: str, new: str, words: str) -> None:
    assert old in MINIMAL
    with pytest.raises(ConfigError, match=words):
        parse(MINIMAL.replace(old, new, 1))


def test_names_and_places_must_be_unique() -> None:
    with pytest.raises(ConfigError, match='name "workshop" is there twice'):
        parse(MINIMAL + MINIMAL)
    other = MINIMAL.replace("workshop", "other").replace(":0", ":1502")
    with pytest.raises(ConfigError, match=r'listen "tcp://127.0.0.1:1502" is there twice'):
        parse(MINIMAL.replace(":0", ":1502") + other)


def test_a_meter_says_more_than_its_line() -> None:
    toml = MINIMAL.replace("baud = 9600", "memory = false\nload_period_min = 5")
    (meter,) = parse(toml).lines[0].meters
    assert (meter.memory, meter.load_period_min, meter.clock_drift_ppm) == (False, 5, 0)
    (meter,) = parse(toml.replace("address = 7", "address = 7\nmemory = true\nload_period_min = 60")).lines[0].meters
    assert (meter.memory, meter.load_period_min) == (True, 60)


def test_a_file_that_is_not_there_or_is_no_text_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"fleet.toml: No such file"):
        load_fleet(tmp_path / "fleet.toml")
    (tmp_path / "fleet.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_fleet(tmp_path / "fleet.toml")
    (tmp_path / "fleet.toml").write_text("\ufeff" + MINIMAL, encoding="utf-8")
    assert len(load_fleet(tmp_path / "fleet.toml").lines) == 1


def test_count_makes_meters_in_a_row() -> None:
    meters = parse(MINIMAL.replace("address = 7", 'address = 7\ncount = 3\nname = "Lathe"')).lines[0].meters
    assert [(meter.address, meter.name) for meter in meters] == [("7", "Lathe 1"), ("8", "Lathe 2"), ("9", "Lathe 3")]
    assert len({meter.seed for meter in meters}) == 3


def test_a_dlt645_address_is_a_text_of_twelve_digits() -> None:
    toml = MINIMAL.replace("modbus-tcp", "dlt645-2007").replace("eastron/sdm630", "generic/dlt645-1ph")
    with pytest.raises(ConfigError, match='a text of 12 digits: "000012345678"'):
        parse(toml)
    meters = parse(toml.replace("= 7", '= "000000000009"\ncount = 2')).lines[0].meters
    assert [meter.address for meter in meters] == ["000000000009", "000000000010"]


@pytest.mark.parametrize("template", available())
async def test_every_model_can_be_simulated_with_every_direction_of_energy(template: str) -> None:
    protocol = "mixed"
    address = '"000000000001"' if template.startswith("generic/dlt645") else "1"
    for load in ("chiller", "pv"):
        toml = f'[[line]]\nname = "x"\nlisten = "tcp://127.0.0.1:0"\nprotocol = "{protocol}"\n[[line.meter]]\n'
        fleet = VirtualFleet(parse(toml + f'address = {address}\ntemplate = "{template}"\nload = "{load}"'), hold=True)
        (truth,) = fleet.truth()
        (_, meter), now = fleet.meters[0], fleet.clock.now()
        measured = meter.values(now)
        assert set(truth["registers"]) == set(measured)
        for obis, value in truth["registers"].items():
            register = meter.template.by_obis[obis]
            # The wire shows the physics, rounded to the register's own last digit (or that of a float).
            assert abs(float(value) - float(measured[obis])) <= max(
                float(register.scale) * 1.001, abs(float(measured[obis])) * 1e-6
            ), register.quantity.key


async def test_same_fleet_after_a_restart_has_the_same_registers(start_fleet: StartFleet) -> None:
    first, second = VirtualFleet(parse(MINIMAL), hold=True), VirtualFleet(parse(MINIMAL), hold=True)
    at = first.clock.now()
    assert first.meters[0][1].truth(at) == second.meters[0][1].truth(at)


async def test_the_truth_file_is_replaced_as_a_whole(start_fleet: StartFleet, tmp_path: Path) -> None:
    fleet = await start_fleet(MINIMAL.replace("address = 7", "address = 7\ncount = 40"), hold=False)
    path = tmp_path / "truth.json"
    file = TruthFile(fleet, path)
    await file.write()
    task = asyncio.create_task(file.run())
    inodes, seen = set(), []
    for _ in range(40):
        file.refresh()
        await asyncio.sleep(0.01)
        truth = json.loads(path.read_text(encoding="utf-8"))
        assert len(truth) == 40
        inodes.add(path.stat().st_ino)
        seen.append(truth[0]["at"])
    task.cancel()
    assert len(inodes) > 1 and len(set(seen)) > 1
    assert os.listdir(tmp_path) == ["truth.json"], "no draft stays behind"
    one = truth[0]
    assert one["meter"] == "workshop/7" and one["address"] == "7" and one["held"] is False
    assert all(obis in QUANTITIES and Decimal(value) is not None for obis, value in one["registers"].items())
    assert one["registers"][BY_KEY["energy_import"].obis]


async def test_hold_freezes_all_values_and_release_lets_them_catch_up(start_fleet: StartFleet) -> None:
    fleet = await start_fleet(MINIMAL)
    before = fleet.truth()
    await asyncio.sleep(0.02)
    assert fleet.truth() == before and before[0]["held"] is True
    fleet.clock.hold(False)
    after = fleet.truth()
    assert after[0]["at"] > before[0]["at"] and after[0]["held"] is False
    assert after[0]["registers"] != before[0]["registers"]


async def test_speed_makes_the_time_of_the_fleet_run_faster() -> None:
    fleet = VirtualFleet(parse(MINIMAL), speed=3600.0)
    begun = fleet.clock.now()
    await asyncio.sleep(0.05)
    assert 100 < (fleet.clock.now() - begun).total_seconds() < 2000


async def test_a_swap_shows_another_serial_and_level_and_a_reboot_zero_counters(start_fleet: StartFleet) -> None:
    swapped = MINIMAL.replace('kind = "silent", from_s = 60, to_s = 120', 'kind = "swap"')
    own = VirtualFleet(parse(MINIMAL), hold=True).meters[0][1]
    other = VirtualFleet(parse(swapped), hold=True).meters[0][1]
    at = VirtualFleet(parse(MINIMAL)).clock.now()
    energy = BY_KEY["energy_import"].obis
    assert own.serial != other.serial and len(own.serial) == len(other.serial)
    assert own.truth(at)[energy] != other.truth(at)[energy]
    reboot = MINIMAL.replace('kind = "silent", from_s = 60, to_s = 120', 'kind = "reboot"')
    from meter_batch_virtual.meter import ModbusMeter

    rebooting = VirtualFleet(parse(reboot), hold=True).meters[0][1]
    assert isinstance(rebooting, ModbusMeter)
    assert list(rebooting.read(4, 72, 2)) == [0, 0] and rebooting.read(4, 0, 2)[0] != 0
    assert rebooting.truth(at)[energy] == own.truth(at)[energy], "the truth does not follow the lie"


async def test_the_link_of_a_pseudo_terminal_goes_with_the_fleet(tmp_path: Path) -> None:
    toml = MINIMAL.replace("tcp://127.0.0.1:0", "pty:./ttyM").replace("modbus-tcp", "modbus-rtu")
    fleet = VirtualFleet(parse_fleet(toml, tmp_path / "fleet.toml"))
    await fleet.start()
    link = tmp_path / "ttyM"
    assert link.is_symlink() and fleet.lines[0].where == str(link)
    await fleet.stop()
    assert not link.is_symlink()
