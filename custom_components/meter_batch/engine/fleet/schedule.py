"""What is due when: the settings of a poller, the boundaries of intervals, and the jobs of a round."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ..errors import ConfigError, MeterError
from ..model.obis import Obis
from ..template import Request
from .meter import Meter

GRID_S = 0.050
"""Lines of one process wake up together, at multiples of this: waking up costs more than what is done then."""


def on_grid(at: float, fast_s: float) -> float:
    """The first instant of the grid that is not before `at`; never much later than what is read so often."""
    grid = min(GRID_S, 0.05 * fast_s)
    return math.ceil(at / grid - 1e-6) * grid


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
    budget: float = 0.2
    """The share of a line's time that reading from the meters' memory may take; 0 never reads from it."""
    clock_care: bool = True
    """Whether clocks of meters are read each day and put right where the standard allows it."""
    time_zone: str = "UTC"
    """Of the wall clocks in meters."""

    def __post_init__(self) -> None:
        if not self.fast_s > 0 or not self.slow_s > 0:
            raise ConfigError("fast_s and slow_s must be more than 0 s")
        if self.interval_s <= 0 or 3600 % self.interval_s:
            raise ConfigError(f"interval_s is {self.interval_s}; it must divide an hour: 300, 900, 1800 or 3600")
        if not 0 <= self.budget <= 1:
            raise ConfigError(f"budget is {self.budget:g}; it is a share of the line's time from 0 to 1")
        try:
            # UTC needs no file of time zones; that of a host is there already.
            if self.time_zone != "UTC":
                ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ConfigError(f'time_zone "{self.time_zone}" is not known; one looks like "Asia/Shanghai"') from error


@dataclass(slots=True)
class Job:
    """What is to be asked of one meter in this round."""

    meter: Meter
    requests: list[Request]
    tried: set[frozenset[Obis]] = field(default_factory=set)
    """What failed once: it is asked once more, when the others had their turn."""
    misses: int = 0
    """How many questions in a row were not answered."""
    error: MeterError | None = None
    """Why one of the requests that are left failed the first time."""

    def succeeded(self) -> None:
        """The first request was answered."""
        if _obis(self.requests.pop(0)) in self.tried:
            self.error = None
        self.misses = 0

    def put_behind(self, error: MeterError) -> bool:
        """Puts the first request behind the others; False where it failed before, or nothing seems to succeed now."""
        request = self.requests[0]
        key = _obis(request)
        self.misses += 1
        if key in self.tried or self.misses > 1:
            return False
        self.error = error
        self.tried.add(key)
        rest = self.requests[1:]
        self.requests = self.meter.behind(request, rest)
        # A question more, only to see whether the meter is there, is not repeated.
        self.tried |= {_obis(one) for one in self.requests if one is not request and one not in rest}
        return True


def due_again(meter: Meter, requests: Collection[Request], at: float) -> None:
    """What was not read in this round is due again soon."""
    for group in {register.group for request in requests for register in request.registers}:
        meter.due[group] = min(meter.due.get(group, at), at)


def due_jobs(meters: Collection[Meter], settings: PollSettings, now: float) -> list[Job]:
    """A job for each meter for which something is due; takes its due times forward."""
    # What comes due within a moment goes along, so that rounds do not fray.
    soon = now + min(0.2, 0.05 * settings.fast_s)
    jobs = []
    live = [meter for meter in meters if not meter.silent and meter.flaw is None]
    for place, meter in enumerate(live):
        again = meter.try_again(now)
        groups = [group for group in meter.groups() if meter.due.get(group, now) <= soon]
        if not groups and not again:
            continue
        for group in groups:
            period = settings.fast_s if group == "fast" else settings.slow_s
            if group not in meter.due:
                # Slow registers of all meters at once would make one long round, so they are spread.
                first = period if group == "fast" else period * (place + 1) / len(live)
                meter.due[group] = now + first
            else:
                meter.due[group] = max(now, meter.due[group] + period)
        jobs.append(Job(meter, [*meter.requests(meter.wanted(groups), now), *again]))
    return jobs


def next_due(meters: Collection[Meter], now: float) -> float | None:
    """When the next register is due; None where there is none."""
    times = []
    for meter in meters:
        if not meter.silent and meter.flaw is None:
            groups = meter.groups()
            times += [meter.due.get(group, now) for group in groups] or [meter.again_at]
    return min(times, default=None)


class Boundaries:
    """The boundaries of intervals, aligned in UTC, at which energies are read."""

    def __init__(self, settings: PollSettings, now: Callable[[], datetime]) -> None:
        self._interval_s, self._slow_s, self._now = settings.interval_s, settings.slow_s, now
        self._last = self._before(now())

    def _before(self, at: datetime) -> datetime:
        seconds = int(at.timestamp())
        return datetime.fromtimestamp(seconds - seconds % self._interval_s, UTC)

    def passed(self) -> bool:
        """True where one has passed for which no jobs were made."""
        return self._before(self._now()) != self._last

    @property
    def next_s(self) -> float:
        """Seconds until the next."""
        return (self._last + timedelta(seconds=self._interval_s) - self._now()).total_seconds()

    def jobs(self, meters: Collection[Meter], now: float) -> list[Job]:
        """The energies of all meters that answer, for the boundary that has just passed."""
        self._last = self._before(self._now())
        jobs = []
        for meter in meters:
            if meter.flaw is not None or not (energies := meter.wanted(("energy",))):
                continue
            meter.snapshot_for = self._last
            if not meter.silent:
                meter.due["energy"] = now + self._slow_s
                jobs.append(Job(meter, list(meter.requests(energies, now))))
        return jobs


def _obis(request: Request) -> frozenset[Obis]:
    return frozenset(one.obis for one in request.registers)
