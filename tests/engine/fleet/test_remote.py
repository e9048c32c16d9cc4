"""Polling in a process of its own: the same readings, and nothing is lost for good when a process dies."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from meter_batch_engine.errors import ConfigError, LineUnavailable, NoReply
from meter_batch_engine.fleet import PollMeter, PollReport, PollSettings, Snapshot, wire_poll
from meter_batch_engine.fleet.child import MOST_WAITING, Waiting, merged
from meter_batch_engine.fleet.remote import PollProcess, RemotePoller
from meter_batch_engine.line import LineSettings
from meter_batch_engine.model.interval import IMPORT
from meter_batch_engine.model.reading import Reading
from meter_batch_engine.sentences import Sentence
from meter_batch_engine.template import load
from meter_batch_virtual.config import parse_fleet
from meter_batch_virtual.fleet import VirtualFleet

FLEET = """
[[line]]
name = "line"
listen = "tcp://127.0.0.1:0"
protocol = "modbus-tcp"
turnround_ms = 1
[[line.meter]]
address = 1
count = 3
template = "eastron/sdm630"
"""
AT = datetime(2026, 11, 26, 7, tzinfo=UTC)


@dataclass
class Site:
    """One virtual line, polled by a process of its own."""

    process: PollProcess
    poller: RemotePoller
    reports: list[PollReport] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    async def until(self, holds, seconds: float = 20):
        async with asyncio.timeout(seconds):
            while not holds():  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    def read(self) -> set[str]:
        return {key for report in self.reports for key in report.readings}


def meters(*units: int, template: str = "eastron/sdm630") -> list[PollMeter]:
    return [PollMeter(f"m{unit}", f"M {unit}", load(template), str(unit), "modbus") for unit in units]


@asynccontextmanager
async def site(tmp_path: Path, units=(1, 2, 3)) -> AsyncIterator[Site]:
    fleet = VirtualFleet(parse_fleet(FLEET, tmp_path / "fleet.toml"))
    await fleet.start()
    said: list[str] = []
    process = PollProcess(said.append)
    reports: list[PollReport] = []
    url = f"tcp://{fleet.lines[0].where.removeprefix('tcp://')}"
    plan = wire_poll.LinePlan(url, LineSettings(framing="tcp"), PollSettings(fast_s=0.2, report_every_s=0.1), {}, {})
    poller = process.poller("line", plan, reports.append)
    poller.set_meters(meters(*units))
    try:
        await poller.open()
        task = asyncio.create_task(poller.run())
        yield Site(process, poller, reports, said)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    finally:
        await poller.close()
        await fleet.stop()


async def test_a_process_of_its_own_reads_all_meters_and_answers_questions(tmp_path):
    async with site(tmp_path) as made:
        await made.until(lambda: made.read() == {"m1", "m2", "m3"})
        readings = await made.poller.read_now("m2", [IMPORT])
        assert [one.obis for one in readings] == [IMPORT] and isinstance(readings[0].value, Decimal)
        assert made.reports[-1].health.connected
        assert await made.poller.trace()
        with pytest.raises(ConfigError, match="no meter"):
            await made.poller.read_now("m9")
        made.poller.set_meters(meters(1, 9))
        with pytest.raises(NoReply) as caught:
            await made.poller.read_now("m9")
        assert isinstance(caught.value.text, Sentence)
        pid = made.process.pid
    assert made.said == []
    assert pid is not None and not alive(pid)


async def test_a_process_that_is_killed_is_started_again_and_reads_on(tmp_path):
    async with site(tmp_path) as made:
        await made.until(lambda: made.read() == {"m1", "m2", "m3"})
        pid = made.process.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        question = asyncio.create_task(made.poller.read_now("m1"))
        await asyncio.sleep(0.05)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(LineUnavailable, match="ended") as caught:
            await question
        assert isinstance(caught.value.text, Sentence)
        made.reports.clear()
        await made.until(lambda: made.read() == {"m1", "m2", "m3"})
        assert made.process.pid not in (None, pid)
        # It was away for a moment only: nobody was told that the line is down.
        assert all(report.health.connected for report in made.reports)
        assert await made.poller.read_now("m3", [IMPORT])


async def test_a_process_that_dies_again_and_again_is_told_and_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr("meter_batch_engine.fleet.remote.FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr("meter_batch_engine.fleet.remote.TOLD_FROM_S", 0.1)
    async with site(tmp_path) as made:
        for _ in range(3):
            await made.until(lambda: made.process.pid is not None)
            os.kill(made.process.pid, signal.SIGKILL)
            await made.until(lambda: made.process.pid is None)
        await made.until(lambda: any(not report.health.connected for report in made.reports))
        problem = next(report.health.problem for report in made.reports if not report.health.connected)
        assert isinstance(problem, Sentence) and problem.key == "poll_process_gone"
        made.reports.clear()
        await made.until(lambda: any(report.health.connected for report in made.reports))


async def test_a_line_that_is_not_there_is_refused_in_words():
    process = PollProcess(lambda _: None)
    plan = wire_poll.LinePlan("tcp://127.0.0.1:1", LineSettings(framing="tcp"), PollSettings(), {}, {})
    poller = process.poller("line", plan, lambda _: None)
    with pytest.raises(LineUnavailable, match="Nothing listens"):
        await poller.open()
    await poller.close()
    bad = wire_poll.LinePlan("http://here", LineSettings(), PollSettings(), {}, {})
    with pytest.raises(ConfigError, match="http"):
        process.poller("line", bad, lambda _: None)
    await process.stop()


async def test_a_line_can_be_let_go_and_taken_again(tmp_path):
    """As a scan does, which needs the port for itself."""
    async with site(tmp_path) as made:
        await made.until(lambda: len(made.read()) == 3)
        task = asyncio.create_task(made.poller.run())
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        made.reports.clear()
        task = asyncio.create_task(made.poller.run())
        await made.until(lambda: len(made.read()) == 3)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


PARENT = """
import asyncio, sys
from meter_batch_engine.fleet import PollSettings, wire_poll
from meter_batch_engine.fleet.remote import PollProcess
from meter_batch_engine.line import LineSettings

async def main():
    process = PollProcess(print)
    plan = wire_poll.LinePlan("tcp://127.0.0.1:1", LineSettings(framing="tcp"), PollSettings(), {}, {})
    poller = process.poller("line", plan, lambda _: None)
    await process.started()
    print(process.pid, flush=True)
    await poller.run()

asyncio.run(main())
"""


def test_it_ends_when_its_host_is_killed():
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        pid = int(host.stdout.readline())
        assert alive(pid)
        host.kill()
    until = time.monotonic() + 10
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.02)
    assert not alive(pid)


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# --- a host that does not read


def reading(value: float, seconds: int = 0) -> Reading:
    return Reading("1-0:1.7.0", value, AT + timedelta(seconds=seconds))


def test_what_a_slow_host_has_not_read_is_merged_and_bounded():
    waiting = Waiting()
    for number in range(10_000):
        waiting.report("line", PollReport(AT, readings={"m": (reading(number, number),)}))
    told = []
    while (message := waiting.next()) is not None:
        told.append(wire_poll.REPORT.decode(message[2]))
    assert len(told) < 10
    assert told[-1].readings["m"][0].value == 9999
    assert waiting.dropped == 0


def test_snapshots_of_each_boundary_are_kept_for_a_slow_host():
    waiting = Waiting()
    boundaries = [AT + timedelta(minutes=number) for number in range(50)]
    for at in boundaries:
        for key in ("a", "b"):
            waiting.report("line", PollReport(at, snapshots={key: Snapshot(at, 1.0, (reading(1.0),))}))
    told = []
    while (message := waiting.next()) is not None:
        told += [(key, one.boundary) for key, one in wire_poll.REPORT.decode(message[2]).snapshots.items()]
    assert sorted(told) == sorted((key, at) for at in boundaries for key in ("a", "b"))


def test_there_is_a_bound_even_for_what_cannot_be_merged():
    waiting = Waiting()
    for number in range(3 * MOST_WAITING):
        at = AT + timedelta(minutes=number)
        waiting.report("line", PollReport(at, snapshots={"a": Snapshot(at, 1.0, (reading(1.0),))}))
    assert waiting.dropped == 2 * MOST_WAITING


def test_a_meter_that_was_read_after_it_had_failed_has_failed_no_longer():
    older = PollReport(AT, failed={"a": NoReply("x"), "b": NoReply("y")}, silent=frozenset({"a"}))
    both = merged(older, PollReport(AT, readings={"a": (reading(1.0),)}))
    assert both is not None and set(both.failed) == {"b"} and both.silent == frozenset()


def test_lines_have_their_turns():
    waiting = Waiting()
    for number in range(3):
        for line in ("x", "y"):
            waiting.report(line, PollReport(AT, readings={"m": (reading(number),)}))
    order = []
    while (message := waiting.next()) is not None:
        order.append(message[1])
    assert order[:4] in (["x", "y", "x", "y"], ["y", "x", "y", "x"])
