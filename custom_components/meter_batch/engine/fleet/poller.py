"""The poller of one line: what is due when, whom to ask next, and the report of what came.

A round asks every meter that is due once. What fails is tried once more at the end of the round; who misses twice is
silent and is asked cheaply and ever more rarely, so that nobody waits for the dead. At an interval boundary the
energies of all meters go before everything else. What is left of the time, within its budget, reads from the meters'
memory what is missing.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

from ..errors import ConfigError, LineError, LineUnavailable, MeterError, NoReply, Refused
from ..line import Line, utc_now
from ..model.interval import Hole
from ..model.obis import Obis
from ..model.reading import Reading
from ..protocol.exchange import Exchange
from ..sentences import say
from ..template import Request
from .backfill import Backfill
from .evidence import LineEvidence
from .identity_watch import IdentityWatch
from .lessons import Lessons, Models
from .meter import Meter, Miss, PollMeter, find_conflicts
from .reader import Reader
from .report import News, PollReport
from .reporter import Reporter
from .schedule import Boundaries, Job, PollSettings, due_again, due_jobs, next_due, on_grid
from .silence import Probes
from .steps import Steps
from .urgent import Question, Urgent

REOPEN_FIRST_S = 1.0
REOPEN_CAP_S = 60.0
RETRY_S = 10.0
"""When registers that failed twice in a round are tried again, however rarely they are read."""
IDENTITY_ROOM_S = 0.5
"""How long nothing live is due before an idle line is used to ask who is there."""
DEAF_S = 120.0
"""After so long without any answer the connection is made anew: gateways hang."""


class Poller:
    """Reads the meters of one line for ever, and reports; only `run` uses the line."""

    def __init__(
        self,
        line: Line,
        settings: PollSettings,
        on_report: Callable[[PollReport], None],
        *,
        now: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
        lessons: Mapping[str, Lessons] | None = None,
        serials: Mapping[str, str] | None = None,
    ) -> None:
        """`lessons` by model and `serials` by key: what reports told earlier, as the host has kept it."""
        self._line, self._settings = line, settings
        self._now, self._monotonic = now, monotonic
        self._meters: dict[str, Meter] = {}
        self._urgent = Urgent()
        self._wake = asyncio.Event()
        self._running = False
        self._boundaries = Boundaries(settings, now)
        self._models = Models(lessons)
        self._news = News()
        self._reader = Reader(line, self._news, monotonic)
        self._probes = Probes(self._reader, settings.probe_cap_s, monotonic)
        self._identities = IdentityWatch(self._reader, self._news, now, monotonic, serials)
        self._backfill = Backfill(line.settings, settings, monotonic(), lambda: self._reader.accounts.shares().backfill)
        self._steps = Steps(self._backfill, self._reader, self._news, now, monotonic)
        self._reporter = Reporter(
            line,
            self._reader,
            self._news,
            self._backfill,
            self._identities,
            self._models,
            settings.report_every_s,
            on_report,
            now,
            monotonic,
        )
        line.on_late = self._late

    # --- from outside

    @property
    def evidence(self) -> LineEvidence:
        """What the line has seen."""
        return self._reader.evidence

    def set_meters(self, meters: Iterable[PollMeter]) -> None:
        """Which meters there are from now on; what was learned of unchanged ones is kept. May be called at any time.

        Meters that cannot be polled (two with one address, an impossible address, a model of another protocol) are
        reported as failed in plain words, and the others go on.
        """
        known, self._meters = self._meters, {}
        for poll in meters:
            meter = known.get(poll.key)
            if meter is None or not meter.takes(poll):
                meter = Meter(poll, self._line.settings, self._settings.first_turnround_s, self._models)
            self._meters[poll.key] = meter
        self._reporter.conflicts = find_conflicts(self._meters.values())
        self._news.keep(self._meters)
        self._reporter.keep([key for key, meter in self._meters.items() if known.get(key) is meter])
        self._backfill.set_meters(self._meters)
        for key, meter in self._meters.items():
            if meter.flaw is not None:
                self._news.failed[key] = meter.flaw
        self._wake.set()

    def set_holes(self, holes: Mapping[str, Sequence[Hole]]) -> None:
        """What is missing of meters, by key, to be read from their memory; nothing changes for those not named.

        May be called at any time, and is to be called whenever records of a report have been stored.
        """
        self._backfill.set_holes(holes)
        self._wake.set()

    async def read_now(self, key: str, obis: Iterable[Obis] | None = None) -> list[Reading]:
        """Reads registers of a meter (all that are wanted where None) before everything else.

        Raises ConfigError for an unknown key, MeterError or LineError where reading fails.
        """
        if key not in self._meters:
            raise ConfigError(say("no_meter", meter=key, line=self._line.name))
        if not self._running or not self._line.connected:
            raise LineUnavailable(self._reporter.problem or say("line_not_connected", line=self._line.name))
        answer = self._urgent.put(key, obis)
        self._wake.set()
        return await answer

    async def run(self) -> None:
        """Polls until it is cancelled; opens the line and, when it is lost, opens it again with growing pauses."""
        self._running = True
        pause = REOPEN_FIRST_S
        try:
            while True:
                opened = self._monotonic()
                try:
                    await self._line.open()
                    self._reporter.problem = None
                    self._reader.opened()
                    self._reader.heard_at = opened
                    await self._rounds()
                except LineError as error:
                    await self._line.close()
                    if self._reader.heard_at > opened or isinstance(error, _Deaf):
                        # It worked until now: gateways drop connections now and then, and take a new one at once.
                        pause = REOPEN_FIRST_S
                        continue
                    self._line_failed(error)
                    await asyncio.sleep(pause)
                    pause = min(REOPEN_CAP_S, 2 * pause)
        finally:
            self._running = False
            self._urgent.refuse(LineUnavailable(say("polling_stopped", line=self._line.name)))
            await self._line.close()

    # --- rounds

    async def _rounds(self) -> None:
        while True:
            jobs = deque(due_jobs(self._meters.values(), self._settings, self._monotonic()))
            if not jobs and not self._urgent and not self._boundaries.passed():
                await self._idle()
                continue
            started = self._monotonic()
            whole = len(jobs)
            try:
                await self._round(jobs)
            except LineError:
                for job in jobs:
                    self._due_again(job.meter, job.requests, 0.0)
                raise
            if whole:
                self._reporter.cycle_s = self._monotonic() - started
                self._steps.round_ended(self._gap_s())
            self._report(now_too=True)

    async def _round(self, jobs: deque[Job]) -> None:
        """Works through the jobs and what comes before them meanwhile."""
        while jobs or self._urgent or self._boundaries.passed():
            await self._urgent.serve(self._read_urgent)
            if self._boundaries.passed():
                jobs.extendleft(reversed(self._boundaries.jobs(self._meters.values(), self._monotonic())))
            job = self._next(jobs)
            if job is not None:
                try:
                    await self._visit(job, jobs)
                except LineError:
                    jobs.append(job)
                    raise
                await self._probes.one(self._meters, busy=True)
                await self._identify(busy=True)
                await self._recall_between_visits()
            elif jobs and not await self._wait_for_late_replies(jobs):
                return
            self._report()
            self._check_deaf()

    def _next(self, jobs: deque[Job]) -> Job | None:
        """The next job that need not wait for a late reply; those that must stay in the queue."""
        for place, job in enumerate(jobs):
            if not self._current(job.meter) or not job.requests:
                del jobs[place]
                return Job(job.meter, [])
            if self._reader.blocked_s(job.meter, job.requests[0]) <= 0:
                del jobs[place]
                return job
        return None

    async def _wait_for_late_replies(self, jobs: deque[Job]) -> bool:
        """Waits until one of the jobs may be asked; False where other meters are due and it should wait no longer."""
        wait = min(self._reader.blocked_s(job.meter, job.requests[0]) for job in jobs)
        now = self._monotonic()
        due = next_due(self._meters.values(), now)
        if due is not None and due <= now + min(wait, 0.2):
            for job in jobs:
                if job.error is not None:
                    self._news.failed[job.meter.poll.key] = job.error
                self._due_again(job.meter, job.requests, RETRY_S)
            return False
        await self._sleep((wait if due is None else min(wait, due - now)) + 0.001)
        return True

    def _due_again(self, meter: Meter, requests: Sequence[Request], seconds: float) -> None:
        """What was not read in this round is due again soon."""
        due_again(meter, requests, self._monotonic() + min(self._settings.fast_s, seconds))

    def _current(self, meter: Meter) -> bool:
        return self._meters.get(meter.poll.key) is meter

    async def _visit(self, job: Job, jobs: deque[Job]) -> None:
        """Asks a meter what is left of its job; what fails is put behind the others once, then given up."""
        meter, key = job.meter, job.meter.poll.key
        if not job.requests:
            return
        readings: list[Reading] = []
        try:
            while job.requests:
                readings += await self._reader.read(meter, job.requests[0])
                job.succeeded()
                if meter.watch.returned:
                    # Before anything that it gives is believed.
                    await self._ask_identity(meter)
                if job.requests and (self._urgent or self._boundaries.passed()):
                    jobs.appendleft(job)
                    break
            if not job.requests and job.error is None:
                meter.teach()
        except Refused as error:
            self._news.failed[key] = error
            job.requests.pop(0)
            if job.requests:
                jobs.appendleft(job)
        except MeterError as error:
            self._failed(job, error)
            if job.requests:
                jobs.append(job)
        else:
            if not meter.template.registers:
                self._news.failed[key] = Refused(
                    say("model_has_nothing", name=meter.poll.name, model=meter.template.id)
                )
        finally:
            if readings:
                self._reporter.take(meter, readings)

    def _failed(self, job: Job, error: MeterError) -> None:
        """The first request of a job failed: it is left for later in this round, for the next, or for much later."""
        meter, request = job.meter, job.requests[0]
        self._reporter.failed(meter, error)
        miss = meter.missed(request, error, self._monotonic())
        if isinstance(error, NoReply):
            # Where one frame is lost others are: it is the line.
            for one in self._meters.values():
                one.turnround.lost()
        if miss is Miss.ONCE and job.put_behind(error):
            return
        given_up = job.requests if miss is Miss.SILENT or job.misses > 1 else [request]
        if miss is not Miss.IGNORED:
            self._news.failed[meter.poll.key] = error
            self._due_again(meter, given_up, RETRY_S)
        job.requests = [one for one in job.requests if one not in given_up]

    # --- memory

    def _gap_s(self) -> float:
        """How long nothing live is due."""
        now = self._monotonic()
        due = next_due(self._meters.values(), now)
        return min(self._boundaries.next_s, 60.0 if due is None else due - now)

    async def _recall_between_visits(self) -> None:
        """Where rounds leave no room, back-fill takes its share of the time between the visits of a round."""
        for _ in range(self._steps.between_visits):
            if (
                self._urgent
                or self._boundaries.passed()
                or not await self._steps.take(self._boundaries.next_s, idle=False)
            ):
                return

    # --- who is there

    async def _identify(self, *, busy: bool) -> bool:
        """Asks the next meter that is due who it is; False where none is. An interval boundary comes first."""
        if self._boundaries.passed() or (meter := self._identities.next(self._meters, busy=busy)) is None:
            return False
        await self._ask_identity(meter)
        return True

    async def _ask_identity(self, meter: Meter) -> None:
        if await self._identities.ask(meter):
            meter.replaced()

    def _late(self, exchange: Exchange[object], turnround_s: float, refusal: MeterError | None) -> None:
        """A reply came after its time-out: the meter is there, only slower than we thought."""
        if isinstance(refusal, NoReply):
            # A gateway that says late that nobody answered.
            for missed in self._reader.evidence.meters.values():
                if missed.address == exchange.meter:
                    missed.was_missed(exchange.request, refusal)
            return
        for meter in self._meters.values():
            meter.turnround.was_late()
            if meter.address == exchange.meter:
                meter.was_slow(turnround_s)
                if (seen := self._reader.evidence.meters.get(meter.poll.key)) is not None:
                    seen.was_late(turnround_s)

    # --- read_now

    async def _read_urgent(self, urgent: Question) -> list[Reading]:
        meter = self._meters.get(urgent.key)
        if meter is None:
            raise ConfigError(say("no_meter_any_more", meter=urgent.key, line=self._line.name))
        if meter.flaw is not None:
            raise meter.flaw
        if urgent.obis is None:
            requests = meter.requests(meter.wanted(meter.groups()), self._monotonic())
        else:
            requests = meter.requests(urgent.obis)
        readings: list[Reading] = []
        for request in requests:
            readings += await self._reader.read(meter, request)
        return self._reporter.take(meter, readings)

    # --- waiting

    async def _idle(self) -> None:
        """Nothing is due: probes the silent, reports, sleeps until something is."""
        await self._probes.one(self._meters, busy=False)
        while not self._urgent and self._gap_s() > IDENTITY_ROOM_S and await self._identify(busy=False):
            self._report()
        while not self._urgent and await self._steps.take(self._gap_s(), idle=True):
            self._report()
        self._report(now_too=True)
        self._check_deaf()
        now = self._monotonic()
        due = next_due(self._meters.values(), now)
        wake_at = min(
            [
                *([] if due is None else [due]),
                *(meter.probe_at for meter in self._meters.values() if meter.silent),
                now + self._backfill.wait_s(now),
                # However long nothing is due: a lost wake-up or a set clock costs a minute at most.
                now + 60.0,
            ]
        )
        wait = min(self._boundaries.next_s, on_grid(wake_at, self._settings.fast_s) - now)
        if wait > 0:
            await self._sleep(wait)

    async def _sleep(self, seconds: float) -> None:
        """Sleeps until there is something to do before its time."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    # --- reports

    def _report(self, *, now_too: bool = False) -> None:
        self._reporter.if_time(self._meters, now_too=now_too)

    def _line_failed(self, error: LineError) -> None:
        self._reporter.problem = error.text
        self._urgent.refuse(error)
        self._report(now_too=True)

    def _check_deaf(self) -> None:
        """Raises _Deaf where nobody has answered for long although somebody was asked."""
        asked = any(meter.flaw is None for meter in self._meters.values())
        if asked and self._monotonic() - self._reader.heard_at > DEAF_S:
            raise _Deaf(say("line_deaf", line=self._line.name, seconds=f"{DEAF_S:g}"))


class _Deaf(LineUnavailable):
    """The connection stands, but nothing comes through it."""
