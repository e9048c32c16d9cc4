"""Parameters of virtual DL/T 645 meters are written with the right password only, and read, by a foreign reader."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from meter_batch_engine.protocol.dlt645.bcd import decode_moment
from meter_batch_virtual.config import parse_fleet
from meter_batch_virtual.fleet import VirtualFleet
from meter_batch_virtual.meter import Dlt645VirtualMeter, virtual_meter

from .conftest import PYTHON, StartFleet, run
from .test_episode import Clock

NEW, OLD = "000012345678", "000000000075"
FLEET = f"""
[[line]]
name = "hall"
listen = "tcp://127.0.0.1:0"
protocol = "mixed"
baud = 19200
turnround_ms = 5
[[line.meter]]
address = "{NEW}"
template = "generic/dlt645-3ph"
password = "123456"
[[line.meter]]
address = "{OLD}"
template = "generic/dlt645-1997-3ph"
"""
RIGHT, WRONG, OPERATOR = "04563412", "04000000", "78563412"


class Master:
    """The foreign reader, as a program."""

    def __init__(self, fleet: VirtualFleet, shared: Path) -> None:
        where = fleet.lines[0].where.removeprefix("tcp://")
        self._start = [PYTHON, str(shared / "peers" / "dlt645_master.py"), "--tcp", where]

    async def __call__(self, *arguments: str) -> Any:
        status, out, err = await run(*self._start, *arguments, "--json")
        assert status in (0, 1), err
        return json.loads(out)

    async def write(self, di: str, value: str, password: str = RIGHT) -> Any:
        """Writes a value that is given as people write it."""
        wire = bytes.fromhex(di)[::-1].hex() + password + OPERATOR + bytes.fromhex(value)[::-1].hex()
        return await self("send", NEW, "14", wire)


@pytest.fixture
async def master(start_fleet: StartFleet, shared_dir: Path) -> Master:
    return Master(await start_fleet(FLEET), shared_dir)


async def test_what_is_written_is_read_again_and_logged(master: Master) -> None:
    assert "error" not in await master.write("04000103", "30")
    assert (await master("read", NEW, "04000103"))["value"] == "30"
    assert "error" not in await master.write("04000103", "15", RIGHT)
    assert (await master("read", NEW, "03300000"))["value"] == "2"
    day = "080001" + "200004"
    assert "error" not in await master.write("04010001", day)
    assert (await master("read", NEW, "04010001"))["raw"] == bytes.fromhex(day)[::-1].hex()
    assert (await master("read", NEW, "03300500"))["value"] == "1"


async def test_the_clock_is_set_to_any_time_with_the_password(master: Master, start_fleet: StartFleet) -> None:
    answer = await master("time", NEW, "--set", "2031-05-06T07:08:09", "--password", "04:123456")
    assert "error" not in json.dumps(answer).lower()
    assert (await master("read", NEW, "04000101"))["date"] == "2031-05-06"
    assert (await master("read", NEW, "04000102"))["time"].startswith("07:08:")
    assert (await master("read", NEW, "03300400"))["value"] in ("2", 2)
    old = await master("--1997", "time", OLD, "--set", "2031-05-06T07:08:09", "--password", "04:000000")
    assert "error" not in json.dumps(old).lower()
    assert (await master("--1997", "read", OLD, "C010"))["date"] == "2031-05-06"


async def test_a_wrong_password_is_refused_and_the_third_locks_the_meter(master: Master) -> None:
    for _ in range(3):
        assert "password" in json.dumps(await master.write("04000103", "30", WRONG))
    assert "password" in json.dumps(await master.write("04000103", "30"))
    assert (await master("read", NEW, "04000103"))["value"] == "15"


async def test_demands_and_events_are_cleared_by_those_who_may(master: Master) -> None:
    assert "error" in await master("send", NEW, "1B", RIGHT + OPERATOR + "ffffffff"), "level 4 is too weak"
    assert "error" not in await master("send", NEW, "1B", "02563412" + OPERATOR + "ffffffff")
    assert (await master("read", NEW, "03300300"))["value"] == "1"
    assert "error" not in await master("send", NEW, "19", RIGHT + OPERATOR)
    assert "0.0000" in json.dumps(await master("read", NEW, "01010000"))
    assert (await master("read", NEW, "03300200"))["value"] == "1"


async def test_another_password_holds_from_then_on(master: Master) -> None:
    changed = await master("send", NEW, "18", "050c0004" + RIGHT + "04332211")
    assert "error" not in changed
    assert "error" in await master.write("04000103", "30", RIGHT)
    assert "error" not in await master.write("04000103", "30", "04332211")


async def test_what_a_meter_is_cannot_be_written(master: Master) -> None:
    for di, value in (
        ("04000401", "000000000009"),
        ("04000409", "000100"),
        ("04000B01", "0501"),
        ("00010000", "0" * 8),
    ):
        assert "error" in await master.write(di, value), di
    assert "error" in await master.write("04000103", "3000"), "too long"
    assert "error" in await master.write("04000101", "31023003"), "no such day"


def test_a_locked_meter_takes_the_password_again_after_a_day(tmp_path: Path) -> None:
    fleet = parse_fleet(FLEET, tmp_path / "fleet.toml")
    clock = Clock()
    meter = virtual_meter(fleet.lines[0].meters[0], clock, fleet.utc_offset, 9600)
    assert isinstance(meter, Dlt645VirtualMeter)
    wrong, right = (bytes.fromhex("03010004" + one + OPERATOR + "20") for one in (WRONG, RIGHT))
    assert [meter.command(0x14, wrong) for _ in range(3)] == [4, 4, 4]
    assert meter.command(0x14, right) == 4
    clock.passed_s = 24 * 3600 + 1
    assert meter.command(0x14, right) == b""
    assert meter.item("04000103") == b"\x20"


def test_demands_that_were_cleared_begin_again(tmp_path: Path) -> None:
    fleet = parse_fleet(FLEET, tmp_path / "fleet.toml")
    clock = Clock()
    meter = virtual_meter(fleet.lines[0].meters[0], clock, fleet.utc_offset, 9600)
    assert isinstance(meter, Dlt645VirtualMeter)
    before, month_before = meter.item("01010000"), meter.item("01010001")
    assert meter.command(0x19, bytes.fromhex(RIGHT + OPERATOR)) == b""
    assert meter.item("01010000") == bytes(8) and meter.item("01010001") == month_before
    clock.passed_s = 3 * 3600
    after = meter.item("01010000")
    assert after not in (bytes(8), before) and after is not None
    ended = decode_moment(after[3:])
    assert ended is not None and ended > meter.wall(clock.now()) - timedelta(hours=3)
