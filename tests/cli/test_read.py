"""`meter-batch read` reads programs that are not ours, and says in words why it could not."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from .conftest import Run, objects

METER = "123456789012"
GENERATE = {"since": "2025-01-01T00:00:00", "start": {"1": "1000.00"}, "kw": "3.6", "kvar": "1.2"}
FLEET: dict[str, Any] = {
    "now": "2025-01-01T10:00:00",
    "hold": True,
    "meters": [
        {"address": METER, "td_ms": 1, "generate": GENERATE, "registers": {"02800002": "49.98"}},
        {"address": "000000000075", "td_ms": 1, "protocol": "1997", "generate": GENERATE},
    ],
}


@pytest.fixture(scope="module")
def bus(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a foreign bus of DL/T 645 meters."""
    fleet = tmp_path_factory.mktemp("bus") / "fleet.json"
    fleet.write_text(json.dumps(FLEET), encoding="utf-8")
    program = shared_dir / "peers" / "dlt645_meter.py"
    command = [sys.executable, "-u", str(program), "--tcp", "127.0.0.1:0", "--meters", str(fleet)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"tcp://127.0.0.1:{process.stdout.readline().strip().rsplit(':', 1)[1]}"
        finally:
            process.terminate()


def values(done: subprocess.CompletedProcess[str]) -> dict[str, Decimal]:
    (result,) = objects(done)
    assert done.returncode == 0, result
    return {one["key"]: Decimal(one["value"]) for one in result["readings"]}


def test_a_foreign_dlt645_meter_is_read_whole(meter_batch: Run, bus: str) -> None:
    template = ("--template", "generic/dlt645-3ph", "--address", METER)
    found = values(meter_batch("read", "--line", bus, *template, "--json"))
    assert found["energy_import"] == Decimal("1036.00")
    assert found["active_power"] == Decimal("3.6")
    assert found["frequency"] == Decimal("49.98")
    assert found["voltage_l3"] == 230
    assert sum(found[f"energy_import_t{tariff}"] for tariff in (1, 2, 3, 4)) == found["energy_import"]


def test_only_the_registers_that_are_named_are_read(meter_batch: Run, bus: str) -> None:
    options = ("--line", bus, "--template", "generic/dlt645-3ph", "--address", METER)
    assert set(values(meter_batch("read", *options, "--json", "1-0:1.8.0", "voltage_l2"))) == {
        "energy_import",
        "voltage_l2",
    }
    done = meter_batch("read", *options, "voltage_l4")
    assert done.returncode == 2
    assert "voltage_l4" in done.stderr
    table = meter_batch("read", *options, "voltage_l1")
    assert " 230 " in table.stdout
    assert table.stderr == ""


def test_an_old_dlt645_meter_is_read(meter_batch: Run, bus: str) -> None:
    options = ("--line", bus, "--template", "generic/dlt645-1997-3ph", "--address", "000000000075")
    assert values(meter_batch("read", *options, "--json", "energy_import"))["energy_import"] == Decimal("1036.00")


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (("--address", "999900000000", "--timeout", "0.1", "--retries", "0"), 1, "did not answer"),
        (("--address", "1.23E+11"), 2, "12 digits"),
        (("--address", METER, "--parity", "X"), 2, "parity"),
        (("--address", METER, "--framing", "ascii", "--template", "eastron/sdm630"), 2, "framing"),
        (("--address", METER, "--template", "eastron/sdm630"), 2, "Modbus unit"),
        (("--address", METER, "--template", "generic/nothing"), 1, "no template"),
    ],
)
def test_what_goes_wrong_is_one_line_and_wrong_usage_is_exit_code_2(
    meter_batch: Run, bus: str, options: tuple[str, ...], status: int, words: str
) -> None:
    done = meter_batch("read", "--line", bus, "--template", "generic/dlt645-3ph", *options, "--json")
    assert done.returncode == status
    assert done.stdout == ""
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_port_where_nothing_listens_is_said_in_words(meter_batch: Run) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        line = f"tcp://127.0.0.1:{unused.getsockname()[1]}"
        done = meter_batch("read", "--line", line, "--template", "eastron/sdm630", "--address", "7")
    assert done.returncode == 1
    assert line.removeprefix("tcp://") in done.stderr


async def test_a_foreign_modbus_server_is_read_over_tcp_and_missing_registers_are_left_out(meter_batch: Run) -> None:
    # The SDM120's voltage (0) and current (6), with nothing behind: a block over more is refused.
    device = SimDevice(7, simdata=[SimData(0, values=[230.2, 0.0, 0.0, 5.5], datatype=DataType.FLOAT32)])
    server: Any = ModbusTcpServer([device], address=("127.0.0.1", 0))
    await server.listen()
    try:
        line = f"tcp://127.0.0.1:{server.transport.sockets[0].getsockname()[1]}"
        options = ("--line", line, "--framing", "tcp", "--template", "eastron/sdm120", "--address", "7", "--json")
        done = await asyncio.to_thread(meter_batch, "read", *options)
        for_people = await asyncio.to_thread(meter_batch, "read", *options[:-1])
    finally:
        await server.shutdown()
    (result,) = objects(done)
    # Programs get the very number on the wire, people its seven digits.
    assert values(done) == {"voltage": Decimal("230.1999969482422"), "current": Decimal("5.5")}
    assert " 230.2 " in for_people.stdout
    assert result["problems"]
    assert result["template"] == "eastron/sdm120"
