"""A DL/T 645 reader that is not ours reads virtual meters and gets the true values, whatever it asks for."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from meter_batch_virtual.energies import ENERGIES, Energy
from meter_batch_virtual.fleet import VirtualFleet
from meter_batch_virtual.meter import Dlt645VirtualMeter

from .conftest import PYTHON, StartFleet, run

A, SINGLE, PV, OLD = "000012345678", "000000000216", "680011001101", "000000000075"
LINE = f"""
[[line]]
name = "hall"
listen = "{{listen}}"
protocol = "mixed"
baud = 19200
turnround_ms = 20
[[line.meter]]
address = "{A}"
template = "generic/dlt645-3ph"
load = "workshop"
serial = "2026110001"
[[line.meter]]
address = "{SINGLE}"
template = "generic/dlt645-1ph"
[[line.meter]]
address = "{PV}"
template = "generic/dlt645-3ph"
load = "pv"
[[line.meter]]
address = "{OLD}"
template = "generic/dlt645-1997-3ph"
[[line.meter]]
address = 3
template = "eastron/sdm630"
"""


class Master:
    """The foreign reader, as a program."""

    def __init__(self, fleet: VirtualFleet, shared: Path, *options: str) -> None:
        where = fleet.lines[0].where
        self.fleet = fleet
        self._start = [PYTHON, str(shared / "peers" / "dlt645_master.py"), *options]
        if where.startswith("tcp://"):
            self._start += ["--tcp", where.removeprefix("tcp://")]
        else:
            self._start += ["--serial", where, "--baud", "19200"]

    async def __call__(self, command: str, *arguments: str) -> Any:
        status, out, err = await run(*self._start, command, *arguments, "--json")
        assert status == 0, f"{command} {arguments}: {out} {err}"
        return json.loads(out)

    async def value(self, address: str, di: str, *options: str) -> Decimal:
        return Decimal(str((await self("read", address, di, *options))["value"]))

    async def values(self, address: str, di: str, *options: str) -> list[Decimal]:
        return [Decimal(str(one)) for one in (await self("read", address, di, *options))["values"]]


@pytest.fixture
async def master(start_fleet: StartFleet, shared_dir: Path) -> Master:
    return Master(await start_fleet(LINE.format(listen="tcp://127.0.0.1:0")), shared_dir)


def meter(master: Master, address: str) -> Dlt645VirtualMeter:
    (found,) = (one for _, one in master.fleet.meters if one.address == address)
    assert isinstance(found, Dlt645VirtualMeter)
    return found


def truth(master: Master, address: str) -> dict[str, Decimal]:
    (found,) = (one["registers"] for one in master.fleet.truth() if one["address"] == address)
    return {obis: Decimal(value) for obis, value in found.items()}


async def test_what_is_measured_now(master: Master) -> None:
    true = truth(master, A)
    for di, obis in (
        ("02030000", "1-0:16.7.0"),
        ("02800002", "1-0:14.7.0"),
        ("02060000", "1-0:13.7.0"),
        ("00010000", "1-0:1.8.0"),
        ("02010200", "1-0:52.7.0"),
    ):
        assert await master.value(A, di) == true[obis], di
    assert await master.values(A, "0203FF00") == [true[f"1-0:{c}.7.0"] for c in (16, 36, 56, 76)]
    powers = await master.values(PV, "0203FF00")
    assert powers == [truth(master, PV)[f"1-0:{c}.7.0"] for c in (16, 36, 56, 76)]


async def test_phases_that_are_not_fitted_read_as_absent(master: Master) -> None:
    answer = await master("read", SINGLE, "0201FF00")
    assert [one is None for one in answer["values"]] == [False, True, True]


async def test_energies_by_tariff_and_billing_day(master: Master) -> None:
    now = await master.values(A, "0001FF00")
    true = truth(master, A)
    assert now == [true[f"1-0:1.8.{tariff}"] for tariff in range(5)]
    assert now[0] == sum(now[1:])
    history = await master.values(A, "000100FF")
    assert len(history) == 13 and history[0] == now[0] and history == sorted(history, reverse=True)
    one = meter(master, A)
    closed = one.physics.billing_start(master.fleet.clock.now())
    assert history[1] == one.physics.energy(ENERGIES["1-0:1.8.0"], closed)
    assert await master.value(A, "00010001") == history[1]
    assert await master.value(A, "00150000") == one.physics.energy(ENERGIES["1-0:21.8.0"], master.fleet.clock.now())


async def test_maximum_demands_with_their_time(master: Master) -> None:
    one = meter(master, A)
    now = master.fleet.clock.now()
    demand, ended_at = one.physics.maximum_demand(one.physics.billing_start(now), now)
    answer = await master("read", A, "01010000")
    text = json.dumps(answer)
    assert ended_at is not None
    assert str(demand) in text and f"{one.physics.local(ended_at):%Y-%m-%d %H:%M}" in text.replace("T", " ")
    last = await master("read", A, "01010001")
    assert "2026" in json.dumps(last) or "202" in json.dumps(last)


async def test_freezes_of_days_and_hours(master: Master) -> None:
    one = meter(master, A)
    local = one.physics.local(master.fleet.clock.now())
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
    for number in (1, 2, 62):
        frozen = midnight - timedelta(days=number - 1)
        at = frozen - one.physics.utc_offset
        answer = await master("read", A, f"050600{number:02X}")
        assert answer["datetime"].replace("T", " ").startswith(f"{frozen:%Y-%m-%d %H:%M}")
        values = await master.values(A, f"050601{number:02X}")
        assert values == [one.physics.energy(Energy(("import",), (), 0, tariff), at) for tariff in range(5)]
    hour = local.replace(minute=0, second=0, microsecond=0) - timedelta(hours=9) - one.physics.utc_offset
    assert await master.values(A, "0504010A") == [one.physics.energy(ENERGIES["1-0:1.8.0"], hour)]
    block = await master("read", A, "0504FF0A")
    assert Decimal(str(block["values"][0])) == one.physics.energy(ENERGIES["1-0:1.8.0"], hour)
    status, out, _ = await run(*master._start, "read", A, "0506013F", "--json")
    assert status == 1 and '"error"' in out


async def test_load_records_of_a_year_in_following_frames(master: Master) -> None:
    one = meter(master, A)
    local = one.physics.local(master.fleet.clock.now())
    start = (local - timedelta(days=300)).replace(minute=15, second=0, microsecond=0)
    answer = await master("read", A, "06040001", "--n", "20", "--at", f"{start:%Y-%m-%dT%H:%M}", "--follow")
    records = answer["records"]
    assert len(records) == 20
    for number, record in enumerate(records):
        at = start + timedelta(minutes=15 * number)
        assert record["time"] == f"{at:%y%m%d%H%M}"
        energy = one.physics.energy(ENERGIES["1-0:1.8.0"], at - one.physics.utc_offset)
        assert Decimal(record["forward_active"]) == energy
    newest = await master("read", A, "06000002", "--n", "1")
    assert len(newest["records"]) == 1
    earliest = await master("read", A, "06040000", "--n", "1")
    assert earliest["records"][0]["time"].startswith(f"{local - timedelta(days=366):%y%m%d}")


async def test_minutes_of_a_meter_with_a_wrong_clock_in_following_frames(
    start_fleet: StartFleet, shared_dir: Path
) -> None:
    """Load records by the minute, hourly freezes and settlement, each at the time of the meter's own clock."""
    toml = LINE.format(listen="tcp://127.0.0.1:0").replace("turnround_ms", "load_period_min = 1\nturnround_ms")
    master = Master(
        await start_fleet(toml.replace(f'"{A}"', f'"{A}"\nclock_offset_s = 754', 1)), shared_dir, "--timeout", "3"
    )
    one, shift = meter(master, A), timedelta(seconds=754)
    assert await master.value(A, "04000A05") == 1
    wall = one.physics.local(master.fleet.clock.now()) + shift
    start = (wall - timedelta(days=20)).replace(second=0, microsecond=0)
    answer = await master("read", A, "06040001", "--n", "30", "--at", f"{start:%Y-%m-%dT%H:%M}", "--follow")
    assert len(answer["records"]) == 30
    for number, record in enumerate(answer["records"]):
        label = start + timedelta(minutes=number)
        assert record["time"] == f"{label:%y%m%d%H%M}"
        energy = one.physics.energy(ENERGIES["1-0:1.8.0"], label - shift - one.physics.utc_offset)
        assert Decimal(record["forward_active"]) == energy
    (newest,) = (await master("read", A, "06040002", "--n", "1"))["records"]
    assert newest["time"] == f"{wall:%y%m%d%H%M}"
    hour = wall.replace(minute=0, second=0, microsecond=0) - timedelta(hours=253)
    assert (await master("read", A, "050400FE"))["datetime"].replace("T", " ").startswith(f"{hour:%Y-%m-%d %H:%M}")
    assert await master.values(A, "050401FE") == [
        one.physics.energy(ENERGIES["1-0:1.8.0"], hour - shift - one.physics.utc_offset)
    ]
    month = wall.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    settled = one.physics.energy(ENERGIES["1-0:1.8.0"], month - shift - one.physics.utc_offset)
    assert await master.value(A, "00010001") == settled


async def test_parameters_clock_and_address(master: Master) -> None:
    assert (await master("read", A, "04000401"))["digits"] == A
    assert (await master("read", A, "04000402"))["digits"] == "002026110001"
    local = meter(master, A).wall(master.fleet.clock.now())
    assert (await master("read", A, "04000101"))["date"] == f"{local:%Y-%m-%d}"
    assert (await master("read", A, "04000102"))["time"] == f"{local:%H:%M:%S}"
    assert "active_reverse" in json.dumps(await master("read", PV, "04000501")) or truth(master, PV)["1-0:16.7.0"] >= 0


@pytest.mark.slow
async def test_scanning_finds_every_meter_on_the_wires(start_fleet: StartFleet, shared_dir: Path) -> None:
    fleet = await start_fleet(LINE.format(listen="tcp://127.0.0.1:0"))
    found = json.dumps(await Master(fleet, shared_dir, "--timeout", "0.1")("scan"))
    for address in (A, SINGLE, PV):
        assert address in found


async def test_the_edition_of_1997(start_fleet: StartFleet, shared_dir: Path) -> None:
    old = Master(await start_fleet(LINE.format(listen="tcp://127.0.0.1:0")), shared_dir, "--1997")
    true = truth(old, OLD)
    assert await old.value(OLD, "9010") == true["1-0:1.8.0"]
    assert await old.values(OLD, "901F") == [true[f"1-0:1.8.{tariff}"] for tariff in range(5)]
    assert await old.value(OLD, "B612") == true["1-0:52.7.0"]
    assert await old.value(OLD, "B630") == true["1-0:16.7.0"]
    assert await old.value(OLD, "A010") == true["1-0:1.6.0"]


async def test_over_a_pseudo_terminal(start_fleet: StartFleet, shared_dir: Path) -> None:
    master = Master(await start_fleet(LINE.format(listen="pty:./tty645")), shared_dir)
    assert await master.values(A, "0001FF00") == [truth(master, A)[f"1-0:1.8.{tariff}"] for tariff in range(5)]


async def test_broadcast_time_sets_clocks_within_the_window_once_a_day(
    start_fleet: StartFleet, shared_dir: Path
) -> None:
    toml = LINE.format(listen="tcp://127.0.0.1:0").replace(f'address = "{A}"', f'address = "{A}"\nclock_offset_s = 120')
    master = Master(await start_fleet(toml), shared_dir)
    one = meter(master, A)
    now = master.fleet.clock.now()
    true = one.physics.local(now).replace(tzinfo=None)
    assert one.wall(now) - true == timedelta(seconds=120)
    one.set_clock(true + timedelta(minutes=20))
    assert one.wall(now) - true == timedelta(seconds=120), "too far away"
    one.set_clock(true)
    one.set_clock(true + timedelta(seconds=60))
    assert one.wall(now) == true, "only once a day"


async def test_truth_is_what_the_wire_gives_for_every_register_of_every_generic_template(master: Master) -> None:
    """The truth file follows the template, the meter its identifiers: both must agree to the last digit."""
    from meter_batch_engine.protocol.dlt645.item import decode_item
    from meter_batch_engine.template import DltItem

    for _, one in master.fleet.meters:
        if not isinstance(one, Dlt645VirtualMeter):
            continue
        true = truth(master, one.address)
        for register in one.template.registers:
            assert isinstance(register.locator, DltItem)
            data = one.item(register.locator.single)
            assert data is not None, register.locator.single
            value = decode_item(register.locator.single, data, one.variant)[0].value
            assert isinstance(value, Decimal)
            assert value * register.scale == true[register.obis], (one.template.id, register.quantity.key)
