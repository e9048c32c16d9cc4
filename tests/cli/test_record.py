"""`meter-batch record` and `replay`: a session with meters becomes a file, and the file a test and a line."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from meter_batch_virtual.config import parse_fleet
from meter_batch_virtual.fleet import VirtualFleet

from .conftest import Run, objects

FLEET = """
[[line]]
name = "rtu"
listen = "tcp://127.0.0.1:0"
protocol = "mixed"
baud = 57600
turnround_ms = 1
jitter_ms = 0
meter = [
  { address = 7, template = "eastron/sdm630" },
  { address = "000012345678", template = "generic/dlt645-1ph" },
]
[[line]]
name = "tcp"
listen = "tcp://127.0.0.1:0"
protocol = "modbus-tcp"
turnround_ms = 1
jitter_ms = 0
meter = [{ address = 2, template = "carlo-gavazzi/em340" }]
"""


def record(tmp_path: Path, line: int, *arguments: str) -> Path:
    """What a session with virtual meters left."""
    file = tmp_path / "session.json"

    async def run() -> int:
        there = VirtualFleet(parse_fleet(FLEET, tmp_path / "fleet.toml"))
        await there.start()
        try:
            command = ["-m", "meter_batch_cli", "record", str(file), "--line", there.lines[line].where, *arguments]
            process = await asyncio.create_subprocess_exec(sys.executable, *command)
            return await process.wait()
        finally:
            await there.stop()

    assert asyncio.run(run()) == 0
    return file


@contextmanager
def served(file: Path) -> Iterator[str]:
    """The address where the recorded meters answer."""
    command = [sys.executable, "-u", "-m", "meter_batch_cli", "replay", str(file), "--serve", "tcp://127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().removeprefix("Ready: ").strip()
        finally:
            process.terminate()


MIXED = (
    "--baud",
    "57600",
    "--parity",
    "E",
    "--meter",
    "7=eastron/sdm630",
    "--meter",
    "000012345678=generic/dlt645-1ph",
)


def test_a_redacted_session_of_both_protocols_replays_and_is_served_again(meter_batch: Run, tmp_path: Path) -> None:
    file = record(tmp_path, 0, *MIXED, "--times", "2", "--every", "0", "--redact")
    assert "12345678" not in file.read_text()
    done = meter_batch("replay", str(file), "--json")
    assert done.returncode == 0, done.stderr
    rows = objects(done)
    assert {one["meter"] for one in rows} == {"7", "000000000001"}
    sdm = {key for one in rows if one["meter"] == "7" and one["readings"] for key in one["readings"]}
    assert {"voltage_l1", "energy_import", "serial"} <= sdm
    with served(file) as line:
        options = ("--line", line, "--baud", "57600", "--parity", "E", "--json")
        (read,) = objects(meter_batch("read", *options, "--template", "eastron/sdm630", "--address", "7"))
        assert {one["key"] for one in read["readings"]} >= {"voltage_l1", "energy_import"}
        alone = meter_batch("read", *options, "--template", "generic/dlt645-1ph", "--address", "000000000001")
        assert {one["key"] for one in objects(alone)[0]["readings"]} >= {"voltage", "energy_import"}


@pytest.fixture(scope="module")
def over_tcp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("tcp"), 1, "--framing", "tcp", "--meter", "2=carlo-gavazzi/em340")


def test_a_session_over_modbus_tcp_replays_and_is_served_again(meter_batch: Run, over_tcp: Path) -> None:
    file = over_tcp
    assert meter_batch("replay", str(file)).returncode == 0
    with served(file) as line:
        done = meter_batch(
            "read", "--line", line, "--framing", "tcp", "--template", "carlo-gavazzi/em340", "--address", "2", "--json"
        )
        assert len(objects(done)[0]["readings"]) > 10


def test_a_reading_that_is_another_now_is_exit_code_1(meter_batch: Run, over_tcp: Path, tmp_path: Path) -> None:
    file = tmp_path / "diagnostics.json"
    content = json.loads(over_tcp.read_text())
    read = next(one["readings"] for one in content["exchanges"] if one["readings"] and "frequency" in one["readings"])
    read["frequency"] = "61"
    file.write_text(json.dumps({"data": {"recording": content}}))
    done = meter_batch("replay", str(file))
    assert done.returncode == 1
    assert "frequency was 61, is 5" in done.stderr or "frequency was 61, is 4" in done.stderr


async def test_ctrl_c_ends_a_recording_and_what_there_is_is_written(tmp_path: Path) -> None:
    file = tmp_path / "session.json"
    fleet = VirtualFleet(parse_fleet(FLEET, tmp_path / "fleet.toml"))
    await fleet.start()
    try:
        options = ("--line", fleet.lines[1].where, "--framing", "tcp", "--meter", "2=carlo-gavazzi/em340")
        command = ["-m", "meter_batch_cli", "record", str(file), *options, "--times", "100", "--every", "60"]
        process = await asyncio.create_subprocess_exec(sys.executable, *command, stderr=subprocess.PIPE)
        await asyncio.sleep(3)
        process.send_signal(signal.SIGINT)
        _, err = await asyncio.wait_for(process.communicate(), 20)
    finally:
        await fleet.stop()
    assert process.returncode == 1
    assert "ended early" in err.decode()
    assert any(one["readings"] for one in json.loads(file.read_text())["exchanges"])


@pytest.mark.parametrize(
    "arguments",
    [
        ("record", "/nowhere/x.json", "--meter", "7=eastron/sdm630"),
        ("scan", "--csv", "/nowhere/x.csv"),
        ("scan", "--csv", "/"),
    ],
)
def test_where_nothing_can_be_written_is_told_before_a_meter_is_asked(
    meter_batch: Run, arguments: tuple[str, ...]
) -> None:
    done = meter_batch(*arguments, "--line", "tcp://127.0.0.1:1")
    assert done.returncode == 2, "the line would be refused with 1"
    assert "cannot be written" in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["record", "x.json", "--line", "tcp://127.0.0.1:1", "--meter", "7"], "address and model"),
        (["record", "x.json", "--line", "tcp://127.0.0.1:1", "--meter", "7=eastron/sdm6300"], "eastron/sdm630"),
        (["record", "x.json", "--line", "tcp://127.0.0.1:1", "--meter", "300=eastron/sdm630"], "247"),
        (["replay", "nowhere.json"], "nowhere.json"),
    ],
)
def test_what_is_asked_wrongly_is_told(meter_batch: Run, arguments: list[str], said: str) -> None:
    done = meter_batch(*arguments)
    assert done.returncode in (1, 2)
    assert said in done.stderr
