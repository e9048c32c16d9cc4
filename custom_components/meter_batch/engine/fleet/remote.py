"""Polling in a process of its own: the host's half. See `child.py` for the other.

One process polls all lines of a site. When it dies it is started again, at once and then with growing pauses, and told
everything anew; what it had read and not told is read again. A question that it can no longer answer is refused in
words. It ends with its host, whatever ends that.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from ..errors import ConfigError, LineError, LineUnavailable, MeterBatchError
from ..line import Exchanged, LineSettings, utc_now
from ..model.interval import Hole
from ..model.obis import Obis
from ..model.reading import Reading
from ..sentences import say
from ..transport import open_transport
from . import wire_poll
from .meter import PollMeter
from .report import LineHealth, PollReport

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 60.0
TOLD_FROM_S = 2.0
"""A process that is back sooner is not worth telling anybody."""
STEADY_S = 60.0
"""After so long the pauses begin anew."""
START_S = 30.0
STOP_S = 10.0
MOST_UNREAD = 64_000_000
"""Bytes that a process may leave unread: it hangs, and is ended."""


class RemotePoller:
    """A `Poller` whose line is in another process: the same methods, and `open` and `close` of the line."""

    def __init__(
        self, process: PollProcess, line: str, plan: wire_poll.LinePlan, on_report: Callable[[PollReport], None]
    ) -> None:
        # Its mistakes are told at once; nothing is opened here.
        self._name = open_transport(plan.url, plan.settings.serial).name
        self._process, self._line, self._plan, self._on_report = process, line, plan, on_report
        self._meters: list[PollMeter] = []
        self._holes: dict[str, tuple[Hole, ...]] = {}
        self._running = False
        self._known = False
        """Whether the process that runs now has been told of this line."""
        self._silent: frozenset[str] = frozenset()

    # --- as a Poller

    def set_meters(self, meters: Iterable[PollMeter]) -> None:
        """See `Poller.set_meters`."""
        self._meters = list(meters)
        keys = {one.key for one in self._meters}
        self._holes = {key: one for key, one in self._holes.items() if key in keys}
        if self._known:
            self._process.send("meters", self._line, wire_poll.encode_meters(self._meters))

    def set_holes(self, holes: Mapping[str, Sequence[Hole]]) -> None:
        """See `Poller.set_holes`."""
        told = {key: tuple(all_) for key, all_ in holes.items()}
        self._holes |= told
        if self._known:
            self._process.send("holes", self._line, wire_poll.HOLES.encode(told))

    async def read_now(self, key: str, obis: Iterable[Obis] | None = None) -> list[Reading]:
        """See `Poller.read_now`; LineUnavailable too where the process ends before it has answered."""
        if key not in {one.key for one in self._meters}:
            raise ConfigError(say("no_meter", meter=key, line=self._name))
        wanted = wire_poll.REGISTERS.encode(None if obis is None else frozenset(obis))
        answer = await self._process.ask("read", self._line, key, wanted)
        readings: list[Reading] = wire_poll.READINGS.decode(answer)
        return readings

    async def run(self) -> None:
        """See `Poller.run`."""
        self._running = True
        try:
            await self._process.started()
            self._introduce()
            self._process.send("run", self._line)
            await asyncio.get_running_loop().create_future()  # until it is cancelled
        finally:
            self._running = False
            await self._leave()

    # --- as a Line

    @property
    def settings(self) -> LineSettings:
        """See `Line.settings`."""
        return self._plan.settings

    async def open(self) -> None:
        """Opens the line; LineError in words where that fails."""
        await self._process.started()
        self._introduce()
        await self._process.ask("open", self._line)

    async def trace(self) -> list[Exchanged]:
        """The last exchanges on the line; none where no process runs."""
        if not self._known:
            return []
        answer: list[Exchanged] = wire_poll.TRACE.decode(await self._process.ask("trace", self._line))
        return answer

    async def close(self) -> None:
        """Lets go of the line, and of the process where no other line needs it."""
        await self._leave()
        await self._process.release(self._line)

    # --- for the process

    def _introduce(self) -> None:
        if self._known:
            return
        self._known = True
        process, line = self._process, self._line
        process.tell_folder()
        process.send("line", line, wire_poll.PLAN.encode(self._plan))
        process.send("meters", line, wire_poll.encode_meters(self._meters))
        process.send("holes", line, wire_poll.HOLES.encode(self._holes))

    async def _leave(self) -> None:
        """The process lets go of the port."""
        if self._known:
            self._known = False
            with contextlib.suppress(LineError, TimeoutError):
                async with asyncio.timeout(STOP_S):
                    await self._process.ask("stop", self._line)

    def begun(self) -> None:
        """A process was started: it is told everything."""
        self._known = False
        if self._running:
            self._introduce()
            self._process.send("run", self._line)

    def ended(self, problem: str | None) -> None:
        """The process has ended; `problem` where it will not be back at once."""
        self._known = False
        if self._running and problem is not None:
            health = LineHealth(connected=False, problem=problem)
            self._on_report(PollReport(utc_now(), silent=self._silent, health=health))

    def take(self, report: PollReport) -> None:
        """What the process tells. What it has learned outlives it."""
        self._silent = report.silent
        if report.lessons or report.identities:
            serials = {key: one.serial for key, one in report.identities.items() if one.serial is not None}
            self._plan = replace(
                self._plan,
                lessons={**self._plan.lessons, **report.lessons},
                serials={**self._plan.serials, **serials},
            )
        self._on_report(report)


class PollProcess:
    """The one process of a site. `folder`: of the user's own templates; `log` gets what the process complains of."""

    def __init__(self, log: Callable[[str], None], folder: Path | None = None) -> None:
        self._log, self._folder = log, folder
        self._pollers: dict[str, RemotePoller] = {}
        self._keeping: asyncio.Task[None] | None = None
        self._process: Process | None = None
        """None while none runs that has told its version."""
        self._there = asyncio.Event()
        self._numbers = count(1)
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._last_words = ""

    @property
    def pid(self) -> int | None:
        """Of the process that runs now."""
        return None if self._process is None else self._process.pid

    def poller(self, line: str, plan: wire_poll.LinePlan, on_report: Callable[[PollReport], None]) -> RemotePoller:
        """A poller for a line; the process is started with the first. ConfigError where the plan cannot be."""
        made = RemotePoller(self, line, plan, on_report)
        self._pollers[line] = made
        if self._keeping is None or self._keeping.done():
            self._keeping = asyncio.get_running_loop().create_task(self._keep(), name="meter_batch poll process")
        return made

    async def release(self, line: str) -> None:
        """A line needs the process no longer; it ends with the last."""
        self._pollers.pop(line, None)
        if not self._pollers:
            await self.stop()

    async def stop(self) -> None:
        """Ends the process."""
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    async def started(self) -> None:
        """Waits until it is there; LineUnavailable where it does not come."""
        try:
            async with asyncio.timeout(START_S):
                await self._there.wait()
        except TimeoutError as error:
            raise LineUnavailable(self._problem) from error

    def send(self, *message: Any) -> None:
        """A message; nothing where no process runs, for it is told everything when it is started."""
        if self._process is None or self._process.stdin is None:
            return
        pipe = self._process.stdin
        if pipe.transport.get_write_buffer_size() > MOST_UNREAD:
            self._log("the process that polls does not listen; it is ended")
            _kill(self._process)
            return
        pipe.write(wire_poll.packed(message))

    def tell_folder(self) -> None:
        """The user's own templates: read again with every line, as the host does."""
        self.send("folder", "" if self._folder is None else str(self._folder))

    async def ask(self, what: str, line: str, *arguments: Any) -> Any:
        """A question and its answer, or the error that it is answered with."""
        if self._process is None:
            raise LineUnavailable(self._problem)
        number = next(self._numbers)
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        self.send(what, line, number, *arguments)
        try:
            return await answer
        finally:
            self._asked.pop(number, None)

    @property
    def _problem(self) -> str:
        return say("poll_process_gone", reason=self._last_words or "-")

    # --- the process

    async def _keep(self) -> None:
        """Starts it again whenever it ends."""
        loop = asyncio.get_running_loop()
        pause = FIRST_PAUSE_S
        while True:
            begun = loop.time()
            await self._once()
            if loop.time() - begun > STEADY_S:
                pause = FIRST_PAUSE_S
            self._log(f"the process that polls has ended and is started again in {pause:g} s: {self._last_words}")
            for poller in list(self._pollers.values()):
                poller.ended(self._problem if pause >= TOLD_FROM_S else None)
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE_S, 4 * pause)

    async def _once(self) -> None:
        """One life of the process."""
        self._last_words = ""
        starter = Path(__file__).with_name("start_child.py")
        try:
            # In a session of its own, so that a terminal's signals are the host's matter.
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", str(starter), *filter(None, sys.path),
                stdin=PIPE, stdout=PIPE, stderr=PIPE, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            self._last_words = error.strerror or str(error)
            return
        listening = asyncio.create_task(self._listen_to_words(process))
        try:
            await self._talk(process)
        except asyncio.IncompleteReadError, ConnectionError:
            pass  # it has ended
        except ConfigError as error:
            self._last_words = error.text
        finally:
            self._process = None
            self._there.clear()
            await _end(process)
            await listening
            self._refuse()

    async def _talk(self, process: Process) -> None:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(wire_poll.packed(["version", wire_poll.POLL_VERSION]))
        wire_poll.check_version(await _next(process.stdout))
        self._process = process
        for poller in list(self._pollers.values()):
            poller.begun()
        self._there.set()
        while True:
            self._take(await _next(process.stdout))
            # However much it has to tell, others have their turn.
            await asyncio.sleep(0)

    def _take(self, message: list[Any]) -> None:
        what, about, value = message
        if what == "report":
            if (poller := self._pollers.get(about)) is not None:
                poller.take(wire_poll.REPORT.decode(value))
            return
        answer = self._asked.get(about)
        if answer is None or answer.done():
            return
        if what == "refused":
            error: MeterBatchError = wire_poll.ERROR.decode(value)
            answer.set_exception(error)
        else:
            answer.set_result(value)

    def _refuse(self) -> None:
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(LineUnavailable(self._problem))

    async def _listen_to_words(self, process: Process) -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            if text := line.decode(errors="replace").strip():
                self._last_words = text
                self._log(text)


async def _next(reader: asyncio.StreamReader) -> list[Any]:
    length = wire_poll.length_of(await reader.readexactly(wire_poll.LENGTH_BYTES))
    return wire_poll.unpacked(await reader.readexactly(length))


async def _end(process: Process) -> None:
    """Its input ends, and so does it; where it does not, it is made to."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(STOP_S / 2):
            await process.wait()
    except TimeoutError:
        _kill(process)
        await process.wait()


def _kill(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
