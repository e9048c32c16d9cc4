"""`meter-batch simulate` as a program: ready, truth, hold by signal, clean end, plain words where it is wrong."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import serial

from meter_batch_engine.protocol.modbus.exchange import ReadRegisters

from .conftest import PYTHON

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'virtual'}:{ROOT / 'cli'}"}
FLEET = """
[[line]]
name = "车间"
listen = "pty:./ttyM"
protocol = "modbus-rtu"
[[line.meter]]
address = 1
template = "eastron/sdm120"

[[line]]
name = "net"
listen = "tcp://127.0.0.1:0"
protocol = "modbus-tcp"
[[line.meter]]
address = 1
count = 5
template = "chint/dtsu666"
"""


async def start(folder: Path, *options: str, toml: str = FLEET) -> asyncio.subprocess.Process:
    (folder / "fleet.toml").write_text(toml, encoding="utf-8")
    return await asyncio.create_subprocess_exec(
        *(PYTHON, "-m", "meter_batch_cli", "simulate", str(folder / "fleet.toml"), *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=ENVIRONMENT,
    )


async def until(process: asyncio.subprocess.Process, words: str) -> str:
    assert process.stderr is not None
    heard = ""
    async with asyncio.timeout(30):
        while words not in heard:
            line = (await process.stderr.readline()).decode()
            assert line, f"it ended: {heard}"
            heard += line
    return heard


@asynccontextmanager
async def running(folder: Path, *options: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    process = await start(folder, *options)
    try:
        yield process, await until(process, "Ready")
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def truth(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_it_is_ready_with_the_truth_written_and_ends_without_a_trace(
    tmp_path: Path, number: signal.Signals
) -> None:
    path = tmp_path / "truth.json"
    async with running(tmp_path, "--truth", str(path)) as (process, said):
        assert "Ready: 6 meters on 2 lines" in said and str(tmp_path / "ttyM") in said and "车间" in said
        assert [one["meter"] for one in truth(path)] == ["车间/1", *(f"net/{unit}" for unit in range(1, 6))]
        assert (tmp_path / "ttyM").is_symlink()
        process.send_signal(number)
        out, err = await process.communicate()
        assert (process.returncode, out) == (0, b""), err
    assert not (tmp_path / "ttyM").is_symlink()


async def test_a_signal_freezes_a_running_fleet_and_lets_it_go_on(tmp_path: Path) -> None:
    path = tmp_path / "truth.json"
    async with running(tmp_path, "--truth", str(path)) as (process, _):
        assert truth(path)[0]["held"] is False
        process.send_signal(signal.SIGUSR1)
        await until(process, "stand still")
        async with asyncio.timeout(3):
            while not truth(path)[0]["held"]:  # noqa: ASYNC110  # another process writes it
                await asyncio.sleep(0.02)
        assert len({one["at"] for one in truth(path)}) == 1
        process.send_signal(signal.SIGUSR1)
        await until(process, "Values run")


PULLED = """
[[line]]
name = "tcp"
listen = "tcp://127.0.0.1:0"
protocol = "modbus-rtu"
[[line.meter]]
address = 1
template = "eastron/sdm120"

[[line]]
name = "rfc2217"
listen = "rfc2217://127.0.0.1:0"
protocol = "modbus-rtu"
[[line.meter]]
address = 1
template = "eastron/sdm120"

[[line]]
name = "pty"
listen = "pty:./ttyM"
protocol = "modbus-rtu"
[[line.meter]]
address = 1
template = "eastron/sdm120"
"""
CUT = PULLED.replace('rtu"\n', 'rtu"\nfault = [{ kind = "cut" }]\n')
ENERGY = ReadRegisters(1, 4, 0x0156, 2, framing="rtu").request


async def reload(folder: Path, process: asyncio.subprocess.Process, toml: str, words: str) -> str:
    (folder / "fleet.toml").write_text(toml, encoding="utf-8")
    process.send_signal(signal.SIGHUP)
    return await until(process, words)


async def ask(place: str) -> bytes:
    """The answer of a meter, by a foreign master."""
    port = await asyncio.to_thread(serial.serial_for_url, place.replace("tcp:", "socket:"), timeout=5)
    try:
        port.write(ENERGY)
        return await asyncio.to_thread(port.read, 9)
    finally:
        port.close()


async def test_faults_that_are_read_again_pull_every_kind_of_line_and_plug_it_in_again(tmp_path: Path) -> None:
    process = await start(tmp_path, "--hold", toml=PULLED)
    try:
        said = await until(process, "Ready")
        places = [one.split(" ")[1] for one in said.splitlines()[:3]]
        ports = [int(place.rpartition(":")[2]) for place in places[:2]]
        before = [await ask(place) for place in places]
        assert all(reply[:3] == bytes.fromhex("010404") for reply in before)
        reader, writer = await asyncio.open_connection("127.0.0.1", ports[0])
        hung = os.open(tmp_path / "ttyM", os.O_RDWR | os.O_NOCTTY)

        await reload(tmp_path, process, CUT, "lines that have some: 3, meters: 0")
        async with asyncio.timeout(5):
            with suppress(ConnectionError):
                assert await reader.read(1) == b"", "it was dropped"
            while (tmp_path / "ttyM").is_symlink():  # noqa: ASYNC110  # another process has it
                await asyncio.sleep(0.01)
        writer.close()
        for port in ports:
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)
        try:
            with pytest.raises(OSError, match="Input/output error"):
                os.write(hung, ENERGY)
        finally:
            os.close(hung)

        await reload(tmp_path, process, PULLED, "lines that have some: 0, meters: 0")
        async with asyncio.timeout(5):
            while not (tmp_path / "ttyM").is_symlink():  # noqa: ASYNC110  # another process makes it
                await asyncio.sleep(0.01)
        assert [await ask(place) for place in places] == before
    finally:
        process.kill()
        await process.communicate()


async def test_reading_faults_again_leaves_a_connection_alone_and_makes_a_meter_silent(tmp_path: Path) -> None:
    process = await start(tmp_path, "--hold", toml=PULLED)
    try:
        said = await until(process, "Ready")
        port = int(said.splitlines()[0].split(" ")[1].rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(ENERGY)
        async with asyncio.timeout(5):
            before = await reader.readexactly(9)
        silent = PULLED.replace("address = 1", 'address = 1\nfaults = [{ kind = "silent" }]', 1)
        await reload(tmp_path, process, silent, "meters: 1")
        writer.write(ENERGY)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await reader.read(1)
        await reload(tmp_path, process, PULLED, "meters: 0")
        writer.write(ENERGY)
        async with asyncio.timeout(5):
            assert await reader.readexactly(9) == before
        writer.close()
    finally:
        process.kill()
        await process.communicate()


async def test_a_voltage_that_sags_by_a_fault_that_is_read_again_is_read_at_once(tmp_path: Path) -> None:
    process = await start(tmp_path, "--hold", toml=PULLED)
    volts = ReadRegisters(1, 4, 0, 2, framing="rtu").request
    try:
        said = await until(process, "Ready")
        port = int(said.splitlines()[0].split(" ")[1].rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        read = []
        for faults in ("", 'faults = [{ kind = "voltage", factor = 0.5 }]', ""):
            toml = PULLED.replace("address = 1", f"address = 1\n{faults}", 1)
            await reload(tmp_path, process, toml, f"meters: {1 if faults else 0}")
            writer.write(volts)
            async with asyncio.timeout(5):
                (value,) = struct.unpack(">f", (await reader.readexactly(9))[3:7])
            read.append(value)
        assert read[0] == read[2] and read[1] == pytest.approx(read[0] / 2, rel=1e-6)
        writer.close()
    finally:
        process.kill()
        await process.communicate()


async def test_a_broken_file_changes_nothing_and_other_changes_are_said_to_need_a_restart(tmp_path: Path) -> None:
    process = await start(tmp_path, toml=PULLED)
    try:
        said = await until(process, "Ready")
        port = int(said.splitlines()[0].split(" ")[1].rpartition(":")[2])
        await reload(tmp_path, process, CUT, "lines that have some: 3")
        said = await reload(tmp_path, process, PULLED.replace("template", "tempalte", 1), "stay as they were")
        assert "unknown key tempalte" in said
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        other = PULLED.replace("tcp://127.0.0.1:0", "tcp://127.0.0.1:1").replace("address = 1", "address = 2")
        said = await reload(tmp_path, process, other, "needs a restart")
        assert 'line "tcp": listen' in said and 'meter "tcp/1" is gone' in said and "more" in said
        async with asyncio.timeout(5):
            while True:
                with suppress(ConnectionError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    break
        writer.close()
    finally:
        process.kill()
        await process.communicate()


async def test_it_ends_when_its_terminal_is_closed(tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text(PULLED, encoding="utf-8")
    terminal, slave = os.openpty()
    process = await asyncio.create_subprocess_exec(
        *(PYTHON, "-m", "meter_batch_cli", "simulate", str(tmp_path / "fleet.toml")), stderr=slave, env=ENVIRONMENT
    )
    os.close(slave)
    try:
        heard = b""
        async with asyncio.timeout(30):
            while b"Ready" not in heard:
                heard += await asyncio.to_thread(os.read, terminal, 4096)
            os.close(terminal)
            process.send_signal(signal.SIGHUP)
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert not (tmp_path / "ttyM").is_symlink()


async def test_a_held_fleet_starts_held_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "truth.json"
    async with running(tmp_path, "--truth", str(path), "--hold") as (_, said):
        assert "values stand still" in said
        assert all(one["held"] for one in truth(path))


async def test_a_wrong_fleet_file_is_wrong_usage(tmp_path: Path) -> None:
    process = await start(tmp_path, toml=FLEET.replace("template", "tempalte", 1))
    out, err = await process.communicate()
    assert (process.returncode, out) == (2, b"")
    assert "unknown key tempalte; did you mean template?" in err.decode()
    assert "Traceback" not in err.decode()


async def test_a_taken_port_is_a_failure_in_plain_words(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = await start(tmp_path, toml=FLEET.replace("127.0.0.1:0", f"127.0.0.1:{taken.getsockname()[1]}"))
        out, err = await process.communicate()
    assert (process.returncode, out) == (1, b"")
    assert "cannot be opened" in err.decode() and "Traceback" not in err.decode()
    assert not (tmp_path / "ttyM").is_symlink(), "lines that were open already are closed again"


async def test_a_truth_file_that_cannot_be_written_is_a_failure(tmp_path: Path) -> None:
    process = await start(tmp_path, "--truth", str(tmp_path / "nowhere" / "truth.json"))
    _, err = await process.communicate()
    assert process.returncode == 1 and "nowhere" in err.decode() and "Traceback" not in err.decode()


async def test_the_wire_log_tells_every_exchange(tmp_path: Path) -> None:
    log = tmp_path / "wire.jsonl"
    async with running(tmp_path, "--wire-log", str(log)) as (process, _):
        wire = os.open(tmp_path / "ttyM", os.O_RDWR | os.O_NOCTTY)
        try:
            import termios
            import tty

            tty.setraw(wire)
            settings = termios.tcgetattr(wire)
            settings[4] = settings[5] = termios.B9600
            termios.tcsetattr(wire, termios.TCSANOW, settings)
            os.write(wire, bytes.fromhex("01040000000271cb"))
            reply = await asyncio.to_thread(os.read, wire, 64)
        finally:
            os.close(wire)
        assert reply[:3] == bytes.fromhex("010404")
        process.send_signal(signal.SIGINT)
        await process.communicate()
    (row,) = (json.loads(line) for line in log.read_text(encoding="utf-8").splitlines())
    assert row["line"] == "车间" and row["request"] == "01040000000271cb" and row["reply"].startswith("010404")
    assert row["request_at"] < row["request_end"] < row["reply_begin"] < row["free_at"] <= row["delivered_at"]
    assert row["violates_gap"] is False


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (("--speed", "0"), 2, "is no speed"),
        (("--speed", "nan"), 2, "is no speed"),
        (("--truth", "."), 1, "cannot be written"),
        (("--wire-log", "nowhere/wire.json"), 1, "cannot be written"),
    ],
)
async def test_options_that_cannot_be_are_said_before_anything_starts(
    tmp_path: Path, options: tuple[str, ...], status: int, words: str
) -> None:
    process = await start(tmp_path, *options)
    _, err = await process.communicate()
    assert process.returncode == status
    assert words in err.decode()
    assert "Ready" not in err.decode()


def test_one_meter_on_one_line_is_counted_in_the_singular() -> None:
    from meter_batch_cli.simulate import _count as count

    assert count(1, 1) == "1 meter on 1 line"
    assert count(6, 2) == "6 meters on 2 lines"
