"""The process that polls for a host: all lines of a site, told through its standard input and output.

It ends when its standard input does, so it never outlives its host (`start_child.py` is what is started). A host that
does not read what it is told holds up nothing here: reports wait, merged where newer values replace older ones, and
never more than `MOST_WAITING` of a line.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import MeterBatchError, MeterError
from ..line import Line, utc_now
from ..template import use_folder
from ..transport import open_transport
from . import wire_poll
from .poller import Poller
from .report import PollReport

MOST_WAITING = 200
"""Reports of a line that wait for a host that does not read."""
MERGED_FROM = 4
"""From so many on, older ones are merged."""
MERGED = ("readings", "failed", "clocks", "depths", "exhausted", "diagnoses", "lessons", "identities")
"""What a newer report replaces, meter by meter."""


def merged(older: PollReport, newer: PollReport) -> PollReport | None:
    """Both as one report, in which the newer values stand; None where something would be lost."""
    if older.memory or newer.memory or older.snapshots.keys() & newer.snapshots.keys():
        return None
    joined: dict[str, Any] = {name: {**getattr(older, name), **getattr(newer, name)} for name in MERGED}
    for key, readings in newer.readings.items():
        if key in older.readings:
            joined["readings"][key] = tuple({one.obis: one for one in (*older.readings[key], *readings)}.values())
    # What was read well afterwards has failed no longer.
    joined["failed"] = {
        key: one for key, one in joined["failed"].items() if key in newer.failed or key not in newer.readings
    }
    return replace(newer, snapshots={**older.snapshots, **newer.snapshots}, **joined)


assert {*MERGED, "at", "silent", "health", "backfill", "wrong", "memory", "snapshots"} == {
    one.name for one in fields(PollReport)
}


class Waiting:
    """What the host has not been told yet."""

    def __init__(self) -> None:
        self._answers: deque[list[Any]] = deque()
        self._reports: dict[str, deque[PollReport]] = {}
        self.there = asyncio.Event()
        self.dropped = 0

    def answer(self, message: list[Any]) -> None:
        """These come first, and there are never more than questions."""
        self._answers.append(message)
        self.there.set()

    def report(self, line: str, report: PollReport) -> None:
        """Bounded: see the module."""
        waiting = self._reports.setdefault(line, deque())
        if len(waiting) >= MERGED_FROM and (both := merged(waiting[-1], report)) is not None:
            waiting[-1] = both
        else:
            waiting.append(report)
            if len(waiting) > MOST_WAITING:
                waiting.popleft()
                self.dropped += 1
        self.there.set()

    def forget(self, line: str) -> None:
        """A line is polled no longer."""
        self._reports.pop(line, None)

    def next(self) -> list[Any] | None:
        """The next message; None where there is none."""
        if self._answers:
            return self._answers.popleft()
        for line, waiting in list(self._reports.items()):
            if waiting:
                report = waiting.popleft()
                # The others have their turn first.
                self._reports[line] = self._reports.pop(line)
                return ["report", line, wire_poll.REPORT.encode(report)]
        self.there.clear()
        return None


class _Polled:
    """One line."""

    def __init__(self, plan: wire_poll.LinePlan, on_report: Callable[[PollReport], None]) -> None:
        self.line = Line(open_transport(plan.url, plan.settings.serial), plan.settings)
        self.poller = Poller(self.line, plan.poll, on_report, lessons=plan.lessons, serials=plan.serials)
        self.running: asyncio.Task[None] | None = None


class Child:
    """Does what it is told; `tell` gives messages to the host."""

    def __init__(self, waiting: Waiting) -> None:
        self._waiting = waiting
        self._lines: dict[str, _Polled] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, message: list[Any]) -> None:
        """A message of the host."""
        what, line, *rest = message
        match what:
            case "folder":
                use_folder(Path(line) if line else None)
            case "line":
                plan = wire_poll.PLAN.decode(rest[0])
                self._lines[line] = _Polled(plan, lambda report: self._waiting.report(line, report))
            case "meters":
                self._set_meters(line, rest[0])
            case "holes":
                self._lines[line].poller.set_holes(wire_poll.HOLES.decode(rest[0]))
            case "read":
                number, key, registers = rest
                wanted = wire_poll.REGISTERS.decode(registers)
                self._answer(number, lambda: self._read(line, key, wanted))
            case "trace":
                self._answer(rest[0], lambda: self._trace(line))
            case "open":
                self._answer(rest[0], lambda: self._open(line))
            case "run":
                polled = self._lines[line]
                if polled.running is None:
                    polled.running = asyncio.create_task(polled.poller.run(), name=f"poller {line}")
                    polled.running.add_done_callback(_ended)
            case "stop":
                self._answer(rest[0], lambda: self._stop(line))

    def _set_meters(self, line: str, meters: list[dict[str, Any]]) -> None:
        known, failed = [], {}
        for data in meters:
            try:
                known.append(wire_poll.decode_meter(data))
            except MeterBatchError as error:
                # A model that was taken away meanwhile: the others go on.
                failed[data["key"]] = MeterError(error.text)
        self._lines[line].poller.set_meters(known)
        if failed:
            self._waiting.report(line, PollReport(utc_now(), failed=failed))

    def _answer(self, number: int, work: Callable[[], Any]) -> None:
        async def do() -> None:
            try:
                answer = ["answer", number, await work()]
            except MeterBatchError as error:
                answer = ["refused", number, wire_poll.ERROR.encode(error)]
            self._waiting.answer(answer)

        task = asyncio.create_task(do())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read(self, line: str, key: str, wanted: frozenset[str] | None) -> Any:
        return wire_poll.READINGS.encode(await self._lines[line].poller.read_now(key, wanted))

    async def _trace(self, line: str) -> Any:
        return wire_poll.TRACE.encode(self._lines[line].line.trace)

    async def _open(self, line: str) -> None:
        await self._lines[line].line.open()

    async def _stop(self, line: str) -> None:
        """Lets go of the port."""
        if (polled := self._lines.pop(line, None)) is None:
            return
        if polled.running is not None:
            polled.running.remove_done_callback(_ended)
            polled.running.cancel()
            await asyncio.gather(polled.running, return_exceptions=True)
        await polled.line.close()
        self._waiting.forget(line)


def _ended(task: asyncio.Task[None]) -> None:
    """A poller runs until it is cancelled: whatever else ends it is a bug of ours, and the host starts us anew."""
    if not task.cancelled() and (error := task.exception()) is not None:
        sys.excepthook(type(error), error, error.__traceback__)
        os._exit(70)


async def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Until `source` ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), source)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, sink)
    writer = asyncio.StreamWriter(transport, protocol, None, loop)
    waiting = Waiting()
    child = Child(waiting)
    waiting.answer(["version", wire_poll.POLL_VERSION])
    telling = asyncio.create_task(_tell(waiting, writer))
    try:
        wire_poll.check_version(await _next(reader))
        while True:
            child.take(await _next(reader))
    except asyncio.IncompleteReadError:
        return  # the host is gone, or needs us no more
    finally:
        telling.cancel()


async def _next(reader: asyncio.StreamReader) -> list[Any]:
    length = wire_poll.length_of(await reader.readexactly(wire_poll.LENGTH_BYTES))
    return wire_poll.unpacked(await reader.readexactly(length))


async def _tell(waiting: Waiting, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            while (message := waiting.next()) is not None:
                writer.write(wire_poll.packed(message))
                # Returns once the pipe takes more; meanwhile what is to be told waits and is merged.
                await writer.drain()
            await waiting.there.wait()
    except ConnectionError:
        os._exit(0)  # nobody listens any more


def main() -> int:
    """The process: 0 once the host is gone."""
    # The host decides when we end: a terminal's Ctrl-C is its matter.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Nobody but us writes to the pipe.
    sink = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    asyncio.run(serve(sys.stdin.buffer, sink))
    # Ports are the system's to close, and nothing is kept here.
    return 0
