"""`meter-batch read` reads programs that are not ours, and says in words why it could not."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pymodbus.framer import FramerType
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from .conftest import Run, objects

METER, OLD, SMALL, ALONE = "123456789012", "000000000075", "000000000161", "000012345678"
FADING = "000000000090"
GENERATE = {"since": "2025-01-01T00:00:00", "start": {"1": "1000.00"}, "kw": "3.6", "kvar": "1.2"}
FLEET: dict[str, Any] = {
    "now": "2025-01-01T10:00:00",
    "hold": True,
    "meters": [
        {
            "address": METER,
            "td_ms": 1,
            "generate": GENERATE,
            "registers": {"02800002": "49.98", "01010000": {"value": "3.6", "time": "2025-01-01T09:15"}},
            "raw": {"00020000": "00000e00", "03010101": "000000010125000030010125"},
            "status": {"3": "0001"},
        },
        {"address": OLD, "td_ms": 1, "protocol": "1997", "generate": GENERATE},
        # Two load records in a frame, and every fourth reply is damaged.
        {
            "address": SMALL,
            "td_ms": 1,
            "max_data": 70,
            "generate": GENERATE,
            "faults": [{"kind": "flip", "every": 4}],
        },
        # Answers the first question and no other.
        {"address": FADING, "td_ms": 1, "generate": GENERATE, "faults": [{"kind": "silent", "skip": 1}]},
    ],
}


@contextmanager
def peer(shared_dir: Path, folder: Path, fleet: dict[str, Any], *where: str) -> Iterator[str]:
    """A foreign bus of DL/T 645 meters, and what it says first."""
    meters = folder / "fleet.json"
    meters.write_text(json.dumps(fleet), encoding="utf-8")
    program = shared_dir / "peers" / "dlt645_meter.py"
    command = [sys.executable, "-u", str(program), *where, "--meters", str(meters)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def bus(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a foreign bus with several meters."""
    with peer(shared_dir, tmp_path_factory.mktemp("bus"), FLEET, "--tcp", "127.0.0.1:0") as said:
        yield f"tcp://127.0.0.1:{said.rsplit(':', 1)[1]}"


@pytest.fixture
def alone(shared_dir: Path, tmp_path: Path) -> Iterator[str]:
    """A serial port with one foreign meter."""
    port = tmp_path / "port"
    meter = {"address": ALONE, "td_ms": 1, "generate": GENERATE}
    with peer(shared_dir, tmp_path, FLEET | {"meters": [meter]}, "--pty", str(port), "--baud", "2400"):
        yield str(port)


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
    options = ("--line", bus, "--template", "generic/dlt645-1997-3ph", "--address", OLD)
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


def read_items(meter_batch: Run, *options: str) -> dict[str, dict[str, Any]]:
    """The items by identifier."""
    done = meter_batch("read", *options, "--json")
    assert done.returncode == 0, done.stderr
    (result,) = objects(done)
    assert result["problems"] == []
    return {one["di"]: one for one in result["items"]}


def test_identifiers_of_every_kind_are_read_without_a_template(meter_batch: Run, bus: str) -> None:
    dis = ("01010000", "03010101", "04000101", "04000503", "05060101", "0201ff00", "00010000")
    found = read_items(meter_batch, "--line", bus, "--address", METER, *(word for di in dis for word in ("--di", di)))
    assert list(found) == [di.upper() for di in dis]
    assert found["01010000"]["name"] == "maximum demand, forward active"
    assert (found["01010000"]["demand"], found["01010000"]["datetime"]) == (3.6, "2025-01-01 09:15")
    assert found["03010101"]["datetime"] == "2025-01-01 00:00:00"
    assert found["04000101"]["date"] == "2025-01-01"
    assert "programming_allowed" in found["04000503"]["bits"]
    assert found["05060101"]["unit"] == "kWh"
    assert found["0201FF00"]["values"] == [230.0, 230.0, 230.0]
    assert found["00010000"]["value"] == 1036.0


def test_load_records_come_over_many_frames_and_a_lost_frame_is_asked_for_again(meter_batch: Run, bus: str) -> None:
    options = ("--di", "06040001", "--count", "9", "--at", "2025-01-01T01:00", "--timeout", "0.2")
    records = read_items(meter_batch, "--line", bus, "--address", SMALL, *options)["06040001"]["load_records"]
    assert [one["time"] for one in records[:5]] == [f"25010101{minute}" for minute in ("00", "15", "30", "45")] + [
        "2501010200"
    ]
    assert [one["energies"][0] for one in records] == pytest.approx([1003.6 + 0.9 * step for step in range(9)])


def test_the_newest_load_records_need_no_time(meter_batch: Run, bus: str) -> None:
    table = meter_batch("read", "--line", bus, "--address", METER, "--di", "06040002", "--count", "2")
    assert table.returncode == 0
    assert "2025-01-01 09:45 energies  1035.1 0.0" in table.stdout
    assert "2025-01-01 10:00 energies  1036.0 0.0" in table.stdout


def test_four_digits_are_an_identifier_of_1997_and_any_meter_may_answer(meter_batch: Run, bus: str) -> None:
    found = read_items(meter_batch, "--line", bus, "--address", OLD, "--di", "9010", "--di", "B611")
    assert found["9010"]["value"] == 1036.0
    assert found["B611"]["value"] == 230
    (result,) = objects(meter_batch("read", "--line", bus, "--di", "9010", "--json"))
    assert result["address"] == OLD, "of all these meters only this one is of 1997"


def test_what_a_meter_refuses_or_garbles_is_a_problem_of_that_identifier_only(meter_batch: Run, bus: str) -> None:
    dis = ("--di", "02990001", "--di", "00020000", "--di", "00010000")
    options = ("--line", bus, "--address", METER)
    done = meter_batch("read", *options, *dis)
    assert done.returncode == 0
    assert "1036.0" in done.stdout
    assert [line.split()[-3:] for line in done.stderr.splitlines()] == [
        ["(error", "byte", "02)."],
        ["are", "none:", "00000e00"],
    ]
    assert meter_batch("read", *options, *dis[:4]).returncode == 1


def test_what_came_before_a_meter_fell_silent_is_kept(meter_batch: Run, bus: str) -> None:
    dis = ("--di", "00010000", "--di", "02010100", "--di", "02010200")
    done = meter_batch("read", "--line", bus, "--address", FADING, *dis, "--timeout", "1", "--retries", "0", "--json")
    (result,) = objects(done)
    assert done.returncode == 0
    assert [one["di"] for one in result["items"]] == ["00010000"]
    (problem,) = result["problems"]
    assert problem.startswith(f"Meter {FADING} did not answer when asked for 02010100;")


def test_the_only_meter_of_a_serial_port_is_asked_who_it_is(meter_batch: Run, alone: str) -> None:
    done = meter_batch("read", "--line", alone, "--di", "00010000", "--json")
    (result,) = objects(done)
    assert (result["line"], result["address"]) == (alone, ALONE)
    assert result["items"][0]["value"] == 1036.0
    assert done.stderr.strip() == f"Meter {ALONE} is on the line."
    for address in ((), ("--address", "AAAAAAAAAAAA")):
        done = meter_batch(
            "read", "--line", alone, "--template", "generic/dlt645-3ph", *address, "voltage_l1", "--json"
        )
        (result,) = objects(done)
        assert (result["address"], result["readings"][0]["value"]) == (ALONE, "230.0")
    done = meter_batch("read", "--line", alone, "--address", "AAAAAAAAAAAA", "--di", "04000402", "--json")
    assert objects(done)[0]["address"] == ALONE
    assert done.stderr == ""


def test_meters_that_answer_all_at_once_are_told_from_none(meter_batch: Run, bus: str) -> None:
    crowd = meter_batch("read", "--line", bus, "--di", "00010000", "--timeout", "5", "--retries", "0")
    assert crowd.returncode == 1
    assert "More than one meter answered" in crowd.stderr
    with socket.create_server(("127.0.0.1", 0)) as silent:
        line = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        nobody = meter_batch("read", "--line", line, "--di", "00010000", "--timeout", "0.2", "--retries", "0")
    assert nobody.returncode == 1
    assert "No meter answered when asked who is there" in nobody.stderr


def test_an_impossible_address_of_a_meter_read_by_identifier_is_wrong_usage(meter_batch: Run, bus: str) -> None:
    done = meter_batch("read", "--line", bus, "--address", "1", "--di", "00010000", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "12 digits" in done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "--template"),
        (("--template", "generic/dlt645-3ph", "--di", "00010000"), "not both"),
        (("--di", "00010000", "voltage_l1"), "voltage_l1"),
        (("--di", "0001000"), "8 hexadecimal digits"),
        (("--di", "9010", "--di", "00010000"), "apart"),
        (("--di", "9010", "--edition", "1998"), "none of 2007, 1997"),
        (("--di", "00010000", "--count", "2"), "no load record"),
        (("--di", "06040001", "--count", "2"), "need the time"),
        (("--di", "06040001", "--at", "yesterday"), "--at"),
        (("--template", "generic/dlt645-3ph", "--address", METER, "--count", "2"), "--di only"),
        (("--template", "eastron/sdm630"), "--address"),
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(
    meter_batch: Run, options: tuple[str, ...], words: str
) -> None:
    done = meter_batch("read", "--line", "tcp://127.0.0.1:1", *options)
    assert done.returncode == 2
    assert words in " ".join(done.stderr.replace("│", " ").split())


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
    assert "The meter has no frequency (1-0:14.7.0)." in result["problems"]
    assert result["template"] == "eastron/sdm120"


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf"])
def test_a_time_that_cannot_be_waited_is_wrong_usage(meter_batch: Run, seconds: str) -> None:
    meter = ("--template", "eastron/sdm630", "--address", "7")
    done = meter_batch("read", "--line", "tcp://127.0.0.1:1", *meter, "--timeout", seconds)
    assert done.returncode == 2
    assert "--timeout" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--template", "generic/dlt645-3ph", "--address", "999999999999"), "of all meters at once"),
        (("--di", "00010000", "--address", "999999999999"), "of all meters at once"),
        (("--di", "00010000", "--address", "12"), "12 digits"),
        (("--template", "eastron/sdm630", "--address", "248"), "1 to 247"),
        (("--template", "eastron/sdm630", "--address", "0", "--framing", "tcp"), "1 to 247"),
    ],
)
def test_an_address_that_no_meter_has_is_wrong_usage_before_anything_is_opened(
    meter_batch: Run, options: tuple[str, ...], words: str
) -> None:
    done = meter_batch("read", "--line", "tcp://127.0.0.1:1", *options)
    assert done.returncode == 2
    assert words in done.stderr


@pytest.mark.parametrize(
    ("framer", "wrong", "right"), [(FramerType.RTU, "tcp", "rtu"), (FramerType.SOCKET, "rtu", "tcp")]
)
async def test_a_gateway_that_speaks_the_other_framing_is_told(
    meter_batch: Run, framer: FramerType, wrong: str, right: str
) -> None:
    device = SimDevice(7, simdata=[SimData(0, values=[230.2, 0.0, 0.0, 5.5], datatype=DataType.FLOAT32)])
    server: Any = ModbusTcpServer([device], framer=framer, address=("127.0.0.1", 0))
    await server.listen()
    try:
        line = f"tcp://127.0.0.1:{server.transport.sockets[0].getsockname()[1]}"
        meter = ("--template", "eastron/sdm120", "--address", "7")
        done = await asyncio.to_thread(
            meter_batch, "read", "--line", line, *meter, "--framing", wrong, "--timeout", "2", "--retries", "0"
        )
    finally:
        await server.shutdown()
    assert done.returncode == 1
    assert f"Use --framing {right}." in done.stderr
