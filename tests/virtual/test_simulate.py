"""`meter-batch simulate` as a program: ready, truth, hold by signal, clean end, plain words where it is wrong."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

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
