"""`meter-batch scan` finds meters of programs that are not ours, and writes the list that Home Assistant imports."""

from __future__ import annotations

import asyncio
import csv
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from meter_batch_cli.scan import _show as show
from meter_batch_engine import Candidate, LineSettings, ScannedMeter
from meter_batch_engine.protocol.modbus.server import ModbusResponder
from meter_batch_engine.template import available

from .conftest import Run, objects
from .test_read import GENERATE, peer

SDM120 = [
    SimData(0, values=[230.2, 0.0, 0.0, 5.5, 0.0, 0.0, 1140.0, 0.0, 0.0], datatype=DataType.FLOAT32),
    SimData(0x46, values=[50.01, 4711.5], datatype=DataType.FLOAT32),
]


@pytest.fixture
def foreign_meter(shared_dir: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a foreign bus with one meter."""
    meter = {"td_ms": 20, "generate": GENERATE} | request.param
    fleet = {"now": "2025-01-01T10:00:00", "hold": True, "meters": [meter]}
    with peer(shared_dir, tmp_path, fleet, "--tcp", "127.0.0.1:0") as said:
        yield f"tcp://127.0.0.1:{said.rsplit(':', 1)[1]}"


@asynccontextmanager
async def foreign_units(*units: int) -> Any:
    """The address of a foreign Modbus TCP server with some units; it reports a failure for any other."""
    devices = [SimDevice(unit, simdata=SDM120) for unit in units]
    server: Any = ModbusTcpServer(devices, address=("127.0.0.1", 0))
    await server.listen()
    try:
        yield f"tcp://127.0.0.1:{server.transport.sockets[0].getsockname()[1]}"
    finally:
        await server.shutdown()


@pytest.mark.parametrize("foreign_meter", [{"address": "123456789012"}], indirect=True)
def test_a_foreign_dlt645_meter_is_found_with_model_and_number(meter_batch: Run, foreign_meter: str) -> None:
    done = meter_batch("scan", "--line", foreign_meter, "--protocol", "dlt645-2007", "--baud", "19200", "--json")
    assert done.returncode == 0, done.stderr
    meter, summary = objects(done)
    assert meter["address"] == "123456789012"
    assert meter["template"] == "generic/dlt645-3ph"
    assert {one["key"]: one["value"] for one in meter["readings"]}["energy_import"] == "1036.00"
    assert summary["found"] == 1
    assert summary["complete"]
    assert summary["questions"] < 30


@pytest.mark.parametrize(
    "foreign_meter", [{"address": "000000000075", "protocol": "1997", "wildcard_echo": True}], indirect=True
)
def test_a_foreign_meter_of_1997_that_repeats_the_wildcard_is_asked_who_it_is(
    meter_batch: Run, foreign_meter: str
) -> None:
    done = meter_batch("scan", "--line", foreign_meter, "--protocol", "dlt645-1997", "--baud", "19200", "--json")
    assert done.returncode == 0, done.stderr
    assert [one["address"] for one in objects(done)[:-1]] == ["000000000075"]


async def test_foreign_modbus_units_are_found_and_listed_for_the_import(meter_batch: Run, tmp_path: Path) -> None:
    file = tmp_path / "meters.csv"
    async with foreign_units(3, 9) as line:
        options = ("--line", line, "--framing", "tcp", "--last", "10", "--csv", str(file), "--line-name", "Hall 2")
        done = await asyncio.to_thread(meter_batch, "scan", *options)
    assert done.returncode == 0, done.stderr
    assert "Searching" in done.stderr
    head, first, second = done.stdout.splitlines()
    assert head.split()[:3] == ["address", "protocol", "port"]
    assert first.split()[0] == "3"
    assert "230.2 V  4,712 kWh" in second, "numbers as a display shows them, and a line for each meter"
    assert file.read_bytes().startswith(b"\xef\xbb\xbf")
    with file.open(encoding="utf-8-sig", newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert list(rows[0]) == ["name", "line", "protocol", "address", "template", "serial"]
    assert [(one["address"], one["line"], one["protocol"]) for one in rows] == [
        ("3", "Hall 2", "modbus"),
        ("9", "Hall 2", "modbus"),
    ]
    assert rows[0]["template"] in ("eastron/sdm120", "eastron/sdm230")
    assert rows[0]["name"].startswith("Eastron SDM")


@asynccontextmanager
async def wired_unit(unit: int | None) -> Any:
    """The address of a serial server behind which one unit answers, or nobody."""
    bank = {} if unit is None else {unit: Bank()}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        responder = ModbusResponder(bank)
        while data := await reader.read(256):
            for reply in responder.feed(data):
                writer.write(reply.raw)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"


class Bank:
    def read(self, function: int, address: int, count: int) -> list[int]:
        return [1] * count


async def test_ctrl_c_ends_the_search_and_what_was_found_is_printed() -> None:
    async with wired_unit(1) as line:
        command = [sys.executable, "-m", "meter_batch_cli", "scan", "--line", line, "--protocol", "modbus", "--json"]
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        await asyncio.sleep(3)
        process.send_signal(signal.SIGINT)
        out, err = await asyncio.wait_for(process.communicate(), 20)
    found, summary = (json.loads(text) for text in out.decode().splitlines())
    assert found["address"] == "1"
    assert summary["cancelled"]
    assert process.returncode == 1
    assert "ended early" in err.decode()
    assert "Traceback" not in err.decode()


async def test_a_line_without_meters_is_exit_code_1_and_says_what_to_check(meter_batch: Run) -> None:
    async with wired_unit(None) as line:
        options = ("--line", line, "--protocol", "modbus", "--last", "3", "--json")
        done = await asyncio.to_thread(meter_batch, "scan", *options)
    assert done.returncode == 1
    (summary,) = objects(done)
    assert summary["found"] == 0
    assert "check their supply" in done.stderr
    assert "--framing tcp" in done.stderr, "it may be a gateway that speaks Modbus TCP"


def test_models_stand_whole_in_a_table_however_many_they_may_be(capsys: pytest.CaptureFixture[str]) -> None:
    ids = [one for one in available() if one.startswith(("carlo", "schneider", "siemens", "generic", "acrel"))]
    models = tuple(Candidate(one, 1.0, ()) for one in ids)
    show([ScannedMeter("modbus", "7", LineSettings(), models=models)])
    out = capsys.readouterr().out
    assert len(" or ".join(ids)) > 80
    assert " or ".join(ids) in out.splitlines()[1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--baud", "9600", "--baud", "2400"), "set in the device there"),
        (("--protocol", "m-bus"), "dlt645-2007"),
        (("--first", "0"), "1 to 247"),
        (("--parity", "X"), "parity"),
    ],
)
def test_what_cannot_be_searched_is_wrong_usage(meter_batch: Run, options: tuple[str, ...], words: str) -> None:
    done = meter_batch("scan", "--line", "tcp://127.0.0.1:1", *options)
    assert done.returncode == 2
    assert words in " ".join(done.stderr.replace("│", " ").split())
