"""The poller of one line: what is due when, whom to ask next, and the report of what came.

A round asks every meter that is due once. What fails is tried once more at the end of the round; who misses twice is
silent and is asked cheaply and ever more rarely, so that nobody waits for the dead. At an interval boundary the
energies of all meters go before everything else.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from ..errors import ConfigError, LineError, LineUnavailable, MeterError, Refused
from ..line import Line, utc_now
from ..model.obis import Obis
from ..model.reading import Reading
from ..protocol.exchange import Exchange
from ..sentences import say
from ..template import Group, Request
from .meter import Meter, PollMeter, find_conflicts
from .reader import Reader
from .report import LineHealth, News, PollReport

REOPEN_FIRST_S = 1.0
REOPEN_CAP_S = 60.0
RETRY_S = 10.0
"""When registers that failed twice in a round are tried again, however rarely they are read."""
DEAF_S = 120.0
"""After so long without any answer the connection is made anew: gateways hang."""
PROBE_SPACING_S = 5.0
REVIVAL_SHARE = 0.85
"""Probes come this much earlier than `probe_cap_s`, so that a revival is seen within it although the line is busy."""


@dataclass(frozen=True, slots=True)
class PollSettings:
    """How often what is read; seconds. Raises ConfigError where a value cannot be."""

    fast_s: float = 10.0
    slow_s: float = 300.0
    interval_s: int = 900
    """Length of the interval at whose boundaries (aligned in UTC) energies are read."""
    report_every_s: float = 1.0
    first_turnround_s: float = 1.0
    """How long a meter may think of which nothing is known yet."""
    probe_cap_s: float = 60.0
    """A silent meter that answers again is seen within this time."""

    def __post_init__(self) -> None:
        if not self.fast_s > 0 or not self.slow_s > 0:
            raise ConfigError("fast_s and slow_s must be more than 0 s")
        if self.interval_s <= 0 or 3600 % self.interval_s:
            raise ConfigError(f"interval_s is {self.interval_s}; it must divide an hour: 300, 900, 1800 or 3600")


@dataclass(slots=True)
class _Job:
    """What is to be asked of one meter in this round."""

    meter: Meter
    requests: list[Request]
    groups: frozenset[Group]
    last_try: bool = False


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
    ) -> None:
        self._line, self._settings, self._on_report = line, settings, on_report
        self._now, self._monotonic = now, monotonic
        self._meters: dict[str, Meter] = {}
        self._urgent: deque[_Urgent] = deque()
        self._wake = asyncio.Event()
        self._running = False
        self._problem: str | None = say("line_not_connected_yet", line=line.name)
        self._conflicts: str | None = None
        self._boundary = self._boundary_before(now())
        self._reported_at = self._probed_at = 0.0
        self._cycle_s: float | None = None
        self._news = News()
        self._reader = Reader(line, self._news, monotonic)
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
                meter = Meter(poll, self._line.settings, self._settings.first_turnround_s)
            self._meters[poll.key] = meter
        self._conflicts = find_conflicts(self._meters.values())
        self._news.keep(self._meters)
        for key, meter in self._meters.items():
            if meter.flaw is not None:
                self._news.failed[key] = meter.flaw
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
            jobs = deque(self._due_jobs())
            if not jobs and not self._urgent and not self._boundary_passed():
                await self._idle()
                continue
            started = self._monotonic()
            whole = len(jobs)
            try:
                await self._round(jobs)
            except LineError:
                for job in jobs:
                    self._due_again(job, 0.0)
                raise
            if whole:
                self._cycle_s = self._monotonic() - started
            self._report_if_time(end_of_round=True)

    async def _round(self, jobs: deque[_Job]) -> None:
        """Works through the jobs and what comes before them meanwhile."""
        while jobs or self._urgent or self._boundary_passed():
            await self._serve_urgent()
            if self._boundary_passed():
                jobs.extendleft(reversed(self._boundary_jobs()))
            job = self._next(jobs)
            if job is not None:
                try:
                    await self._visit(job, jobs)
                except LineError:
                    jobs.append(job)
                    raise
                await self._probe_one(busy=True)
            elif jobs and not await self._wait_for_late_replies(jobs):
                return
            self._report_if_time()
            self._check_deaf()

    def _due_jobs(self) -> list[_Job]:
        """A job for each meter for which something is due; takes its due times forward."""
        now, settings = self._monotonic(), self._settings
        # What comes due within a moment goes along, so that rounds do not fray.
        soon = now + min(0.2, 0.05 * settings.fast_s)
        jobs = []
        live = [meter for meter in self._meters.values() if not meter.silent and meter.flaw is None]
        for place, meter in enumerate(live):
            meter.forget_old_refusals(now)
            groups = [group for group in meter.groups() if meter.due.get(group, now) <= soon]
            if not groups:
                continue
            for group in groups:
                period = settings.fast_s if group == "fast" else settings.slow_s
                if group not in meter.due:
                    # Slow registers of all meters at once would make one long round, so they are spread.
                    first = period if group == "fast" else period * (place + 1) / len(live)
                    meter.due[group] = now + first
                else:
                    meter.due[group] = max(now, meter.due[group] + period)
            jobs.append(_Job(meter, list(meter.requests(meter.wanted(groups))), frozenset(groups)))
        return jobs

    def _next(self, jobs: deque[_Job]) -> _Job | None:
        """The next job that need not wait for a late reply; those that must stay in the queue."""
        for place, job in enumerate(jobs):
            if not self._current(job.meter) or not job.requests:
                del jobs[place]
                return _Job(job.meter, [], frozenset())
            if self._reader.blocked_s(job.meter, job.requests[0]) <= 0:
                del jobs[place]
                return job
        return None

    async def _wait_for_late_replies(self, jobs: deque[_Job]) -> bool:
        """Waits until one of the jobs may be asked; False where other meters are due and it should wait no longer."""
        wait = min(self._reader.blocked_s(job.meter, job.requests[0]) for job in jobs)
        next_due = min(self._next_due(), default=self._monotonic() + wait)
        if next_due <= self._monotonic() + min(wait, 0.2):
            for job in jobs:
                self._due_again(job, RETRY_S)
            return False
        await self._sleep(min(wait, next_due - self._monotonic()) + 0.001)
        return True

    def _due_again(self, job: _Job, seconds: float) -> None:
        """What was not read in this round is due again soon."""
        soon = self._monotonic() + min(self._settings.fast_s, seconds)
        for group in job.groups:
            job.meter.due[group] = min(job.meter.due.get(group, soon), soon)

    def _current(self, meter: Meter) -> bool:
        return self._meters.get(meter.poll.key) is meter

    async def _visit(self, job: _Job, jobs: deque[_Job]) -> None:
        """Asks a meter what is left of its job; a failure is put behind the others once, then given up."""
        meter, key = job.meter, job.meter.poll.key
        if not job.requests:
            return
        readings: list[Reading] = []
        try:
            while job.requests:
                readings += await self._reader.read(meter, job.requests[0])
                job.requests.pop(0)
                if job.requests and (self._urgent or self._boundary_passed()):
                    jobs.appendleft(job)
                    break
        except MeterError as error:
            if isinstance(error, Refused):
                self._news.failed[key] = error
                job.requests.pop(0)
                if job.requests:
                    jobs.appendleft(job)
            elif meter.missed(error, self._monotonic()):
                self._news.failed[key] = error
            elif job.last_try:
                self._news.failed[key] = error
                self._due_again(job, RETRY_S)
            else:
                job.last_try = True
                jobs.append(job)
        else:
            if not meter.template.registers:
                self._news.failed[key] = Refused(
                    say("model_has_nothing", name=meter.poll.name, model=meter.template.id)
                )
            elif readings:
                self._news.failed.pop(key, None)
        if readings:
            self._take(meter, readings)

    # --- interval boundaries

    def _boundary_before(self, at: datetime) -> datetime:
        seconds = int(at.timestamp())
        return datetime.fromtimestamp(seconds - seconds % self._settings.interval_s, UTC)

    def _boundary_passed(self) -> bool:
        return self._boundary_before(self._now()) != self._boundary

    def _boundary_jobs(self) -> list[_Job]:
        """The energies of all meters that answer, for the boundary that has just passed."""
        self._boundary = self._boundary_before(self._now())
        jobs = []
        for meter in self._meters.values():
            if meter.flaw is not None or not (energies := meter.wanted(("energy",))):
                continue
            meter.snapshot_for = self._boundary
            if not meter.silent:
                meter.due["energy"] = self._monotonic() + self._settings.slow_s
                jobs.append(_Job(meter, list(meter.requests(energies)), frozenset({"energy"})))
        return jobs

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
            await self._reader.ask(meter, request, meter.probe_timeout_s(others))
        except Refused:
            pass  # it is there
        except MeterError:
            meter.probe_failed(self._monotonic(), cap)
        self._probed_at = self._monotonic()

    def _late(self, exchange: Exchange[object], turnround_s: float) -> None:
        """A reply came after its time-out: the meter is there, only slower than we thought."""
        for meter in self._meters.values():
            if meter.address == exchange.meter:
                meter.turnround.add(turnround_s)
                meter.answered()

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
        wanted = meter.wanted(meter.groups()) if urgent.obis is None else urgent.obis
        readings: list[Reading] = []
        for request in meter.requests(wanted):
            readings += await self._reader.read(meter, request)
        return self._take(meter, readings)

    def _refuse_urgent(self, error: LineError) -> None:
        while self._urgent:
            urgent = self._urgent.popleft()
            if not urgent.answer.done():
                urgent.answer.set_exception(error)

    # --- waiting

    def _next_due(self) -> list[float]:
        now = self._monotonic()
        times = [
            meter.due.get(group, now)
            for meter in self._meters.values()
            if not meter.silent and meter.flaw is None
            for group in meter.groups()
        ]
        return [min(times)] if times else []

    async def _idle(self) -> None:
        """Nothing is due: probes the silent, reports, sleeps until something is."""
        await self._probe_one(busy=False)
        self._report_if_time(end_of_round=True)
        self._check_deaf()
        now = self._monotonic()
        boundary_s = (self._boundary + timedelta(seconds=self._settings.interval_s) - self._now()).total_seconds()
        wait = min(
            [
                boundary_s,
                *(one - now for one in self._next_due()),
                *(meter.probe_at - now for meter in self._meters.values() if meter.silent),
                # However long nothing is due: a lost wake-up or a set clock costs a minute at most.
                60.0,
            ]
        )
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
        final = checked if point is None else [point.apply(one) for one in checked]
        self._news.add(key, final)
        if meter.snapshot_for is not None:
            energies = meter.wanted(("energy",))
            if self._news.add_snapshot(key, meter.snapshot_for, [one for one in final if one.obis in energies]):
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
        )
        if (report := self._news.report(self._now(), silent, health)) is not None:
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
