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
from dataclasses import dataclass, replace
from datetime import datetime

from ..errors import ConfigError, LineError, LineUnavailable, MeterError, Refused
from ..line import Line, utc_now
from ..model.interval import Hole
from ..model.obis import Obis
from ..model.reading import Flag, Reading
from ..protocol.exchange import Exchange
from ..sentences import say
from ..template import Request
from .backfill import Backfill
from .diagnoses import Diagnoses
from .lessons import Lessons, Models
from .meter import Meter, Miss, PollMeter, find_conflicts
from .reader import Reader
from .report import LineHealth, News, PollReport
from .schedule import Boundaries, Job, PollSettings, due_again, due_jobs, next_due, on_grid
from .steps import Steps

REOPEN_FIRST_S = 1.0
REOPEN_CAP_S = 60.0
RETRY_S = 10.0
"""When registers that failed twice in a round are tried again, however rarely they are read."""
DEAF_S = 120.0
"""After so long without any answer the connection is made anew: gateways hang."""
PROBE_SPACING_S = 5.0
REVIVAL_SHARE = 0.85
"""Probes come this much earlier than `probe_cap_s`, so that a revival is seen within it although the line is busy."""


@dataclass(slots=True)
class _Urgent:
    key: str
    obis: frozenset[Obis] | None
    answer: asyncio.Future[list[Reading]]


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
        self._line, self._settings, self._on_report = line, settings, on_report
        self._now, self._monotonic = now, monotonic
        self._meters: dict[str, Meter] = {}
        self._urgent: deque[_Urgent] = deque()
        self._wake = asyncio.Event()
        self._running = False
        self._problem: str | None = say("line_not_connected_yet", line=line.name)
        self._conflicts: str | None = None
        self._boundaries = Boundaries(settings, now)
        self._reported_at = self._probed_at = 0.0
        self._cycle_s: float | None = None
        self._models = Models(lessons)
        self._news = News()
        self._reader = Reader(line, self._news, monotonic)
        self._evidence = self._reader.evidence
        self._diagnoses = Diagnoses(self._evidence)
        self._backfill = Backfill(line.settings, settings, monotonic())
        self._steps = Steps(self._backfill, self._reader, self._news, now, monotonic)
        line.on_late = self._late

    # --- from outside

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
        self._conflicts = find_conflicts(self._meters.values())
        self._news.keep(self._meters)
        self._diagnoses.keep([key for key, meter in self._meters.items() if known.get(key) is meter])
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
            raise LineUnavailable(self._problem or say("line_not_connected", line=self._line.name))
        urgent = _Urgent(key, None if obis is None else frozenset(obis), asyncio.get_running_loop().create_future())
        self._urgent.append(urgent)
        self._wake.set()
        return await urgent.answer

    async def run(self) -> None:
        """Polls until it is cancelled; opens the line and, when it is lost, opens it again with growing pauses."""
        self._running = True
        pause = REOPEN_FIRST_S
        try:
            while True:
                opened = self._monotonic()
                try:
                    await self._line.open()
                    self._problem = None
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
            self._refuse_urgent(LineUnavailable(say("polling_stopped", line=self._line.name)))
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
                self._cycle_s = self._monotonic() - started
                self._steps.round_ended(self._gap_s())
            self._report_if_time(end_of_round=True)

    async def _round(self, jobs: deque[Job]) -> None:
        """Works through the jobs and what comes before them meanwhile."""
        while jobs or self._urgent or self._boundaries.passed():
            await self._serve_urgent()
            if self._boundaries.passed():
                jobs.extendleft(reversed(self._boundaries.jobs(self._meters.values(), self._monotonic())))
            job = self._next(jobs)
            if job is not None:
                try:
                    await self._visit(job, jobs)
                except LineError:
                    jobs.append(job)
                    raise
                await self._probe_one(busy=True)
                await self._recall_between_visits()
            elif jobs and not await self._wait_for_late_replies(jobs):
                return
            self._report_if_time()
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
                self._take(meter, readings)

    def _failed(self, job: Job, error: MeterError) -> None:
        """The first request of a job failed: it is left for later in this round, for the next, or for much later."""
        meter, request = job.meter, job.requests[0]
        miss = meter.missed(request, error, self._monotonic())
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

    # --- silent meters

    async def _probe_one(self, *, busy: bool) -> None:
        """Asks the silent meter that has waited longest whether it is there again, if one is due."""
        now = self._monotonic()
        silent = [meter for meter in self._meters.values() if meter.silent]
        due = [meter for meter in silent if meter.probe_at <= now]
        cap = self._settings.probe_cap_s * REVIVAL_SHARE
        if not due or (busy and now < self._probed_at + min(PROBE_SPACING_S, cap / (len(silent) + 1))):
            return
        meter = min(due, key=lambda one: one.probe_at)
        others = [one.turnround for one in self._meters.values() if not one.silent]
        request = meter.probe
        if self._reader.blocked_s(meter, request) > 0:
            meter.probe_at = now + 1.0
            return
        try:
            await self._reader.ask(meter, request, meter.probe_timeout_s(others), "probe")
        except Refused:
            pass  # it is there
        except MeterError:
            meter.probe_failed(self._monotonic(), cap)
        self._probed_at = self._monotonic()

    def _late(self, exchange: Exchange[object], turnround_s: float) -> None:
        """A reply came after its time-out: the meter is there, only slower than we thought."""
        for meter in self._meters.values():
            if meter.address == exchange.meter:
                meter.was_slow(turnround_s)
                if (seen := self._evidence.meters.get(meter.poll.key)) is not None:
                    seen.was_late(turnround_s)

    # --- read_now

    async def _serve_urgent(self) -> None:
        while self._urgent:
            urgent = self._urgent.popleft()
            if urgent.answer.done():
                continue
            try:
                readings = await self._read_urgent(urgent)
            except (MeterError, ConfigError) as error:
                urgent.answer.set_exception(error)
            except LineError as error:
                urgent.answer.set_exception(error)
                raise
            else:
                if not urgent.answer.done():
                    urgent.answer.set_result(readings)

    async def _read_urgent(self, urgent: _Urgent) -> list[Reading]:
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
        return self._take(meter, readings)

    def _refuse_urgent(self, error: LineError) -> None:
        while self._urgent:
            urgent = self._urgent.popleft()
            if not urgent.answer.done():
                urgent.answer.set_exception(error)

    # --- waiting

    async def _idle(self) -> None:
        """Nothing is due: probes the silent, reports, sleeps until something is."""
        await self._probe_one(busy=False)
        while not self._urgent and await self._steps.take(self._gap_s(), idle=True):
            self._report_if_time()
        self._report_if_time(end_of_round=True)
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

    def _take(self, meter: Meter, readings: list[Reading]) -> list[Reading]:
        """Validates, multiplies and keeps readings for the next report; returns them."""
        point, key = meter.poll.point, meter.poll.key
        checked = meter.validator.check(readings)
        if (seen := self._evidence.meters.get(key)) is not None:
            seen.took(checked)
        final = checked if point is None else [point.apply(one) for one in checked]
        if any(one.flags and Flag.SWAP in one.flags for one in checked):
            self._backfill.swapped(key, self._now())
        self._news.add(key, final)
        if meter.snapshot_for is not None:
            energies = meter.wanted(("energy",))
            snapshot = self._news.add_snapshot(key, meter.snapshot_for, [one for one in final if one.obis in energies])
            if snapshot is not None:
                self._backfill.late(key, snapshot)
                meter.snapshot_for = None
        return final

    def _report_if_time(self, *, end_of_round: bool = False) -> None:
        now = self._monotonic()
        if now - self._reported_at < self._settings.report_every_s and not end_of_round:
            return
        silent = frozenset(key for key, meter in self._meters.items() if meter.silent)
        health = LineHealth(
            connected=self._line.connected,
            problem=self._problem or self._nobody_answers(silent) or self._conflicts,
            cycle_s=self._cycle_s,
            counters=replace(self._line.counters),
            airtime=self._reader.accounts.shares(),
        )
        self._news.lessons.update(self._models.news())
        line = self._evidence
        line.connected, line.problem, line.echoes = self._line.connected, self._problem, self._line.echoes
        line.numbers_kept = self._reader.numbers_kept
        for key, clock in self._news.clocks.items():
            line.meter(key).clock_offset_s = clock.offset_s
        self._news.diagnoses.update(self._diagnoses.changed(now))
        if (report := self._news.report(self._now(), silent, health, self._backfill, now)) is not None:
            self._reported_at = now
            self._on_report(report)

    def _nobody_answers(self, silent: frozenset[str]) -> str | None:
        there = sum(meter.flaw is None for meter in self._meters.values())
        if there < 2 or len(silent) < there:
            return None
        if self._line.counters.damaged > self._line.counters.timeouts:
            return say("all_garbled", count=there, line=self._line.name)
        return say("none_answers", count=there, line=self._line.name)

    def _line_failed(self, error: LineError) -> None:
        self._problem = error.text
        self._refuse_urgent(error)
        self._report_if_time(end_of_round=True)

    def _check_deaf(self) -> None:
        """Raises _Deaf where nobody has answered for long although somebody was asked."""
        asked = any(meter.flaw is None for meter in self._meters.values())
        if asked and self._monotonic() - self._reader.heard_at > DEAF_S:
            raise _Deaf(say("line_deaf", line=self._line.name, seconds=f"{DEAF_S:g}"))


class _Deaf(LineUnavailable):
    """The connection stands, but nothing comes through it."""
