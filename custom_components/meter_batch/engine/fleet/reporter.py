"""What becomes of readings on their way out: validation, the point's multiplier, and the report of it all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from ..errors import DecodeError
from ..line import Line
from ..model.reading import Flag, Reading
from ..sentences import say
from .backfill import Backfill
from .diagnoses import Diagnoses
from .identity_watch import IdentityWatch
from .lessons import Models
from .meter import Meter
from .reader import Reader
from .report import LineHealth, News, PollReport

NONSENSE_VISITS = 3
"""After so many visits in which hardly a value was possible a meter counts as wrong."""


class Reporter:
    """Takes what was read on a line and reports it; `problem` is what is wrong with the line as a whole."""

    def __init__(
        self,
        line: Line,
        reader: Reader,
        news: News,
        backfill: Backfill,
        identities: IdentityWatch,
        models: Models,
        every_s: float,
        on_report: Callable[[PollReport], None],
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self._line, self._reader, self._news, self._backfill = line, reader, news, backfill
        self._identities, self._models, self._every_s, self._on_report = identities, models, every_s, on_report
        self._now, self._monotonic = now, monotonic
        self._evidence = reader.evidence
        self._diagnoses = Diagnoses(self._evidence)
        self._reported_at = 0.0
        self.problem: str | None = say("line_not_connected_yet", line=line.name)
        self.conflicts: str | None = None
        self.cycle_s: float | None = None

    def keep(self, unchanged: Sequence[str]) -> None:
        """Only these meters are the same as before."""
        self._diagnoses.keep(unchanged)

    def take(self, meter: Meter, readings: list[Reading]) -> list[Reading]:
        """Validates, multiplies and keeps readings for the next report; returns them."""
        point, key = meter.poll.point, meter.poll.key
        self._identities.judged(meter)
        if meter.watch.suspect:
            # They say nothing of the meter's levels either.
            checked = [replace(one, flags=one.flags | {Flag.SUSPECT}) for one in readings]
        else:
            checked = meter.validator.check(readings)
        flagged = [one for one in checked if one.flags]
        bad = sum(not one.good for one in flagged)
        meter.nonsense = meter.nonsense + 1 if 2 * bad > len(checked) else 0
        if (seen := self._evidence.meters.get(key)) is not None:
            seen.took(checked)
        final = checked if point is None else [point.apply(one) for one in checked]
        if any(Flag.SWAP in one.flags for one in flagged):
            self._backfill.swapped(key, self._now())
        self._news.add(key, final)
        if meter.snapshot_for is not None:
            energies = meter.wanted(("energy",))
            snapshot = self._news.add_snapshot(key, meter.snapshot_for, [one for one in final if one.obis in energies])
            if snapshot is not None:
                self._backfill.late(key, snapshot)
                meter.snapshot_for = None
        return final

    def failed(self, meter: Meter, error: Exception) -> None:
        """A meter answered what holds no values."""
        if isinstance(error, DecodeError):
            meter.nonsense += 1

    def if_time(self, meters: Mapping[str, Meter], *, now_too: bool = False) -> None:
        """Reports what is new, if the last report is long enough ago or in any case (`now_too`)."""
        now = self._monotonic()
        if now - self._reported_at < self._every_s and not now_too:
            return
        silent = frozenset([key for key, meter in meters.items() if meter.silent])
        wrong = frozenset(
            [
                key
                for key, meter in meters.items()
                if (meter.nonsense >= NONSENSE_VISITS or meter.watch.misfit is not None) and not meter.silent
            ]
        )
        health = LineHealth(
            connected=self._line.connected,
            problem=self.problem or self._nobody_answers(meters, silent) or self.conflicts,
            cycle_s=self.cycle_s,
            counters=replace(self._line.counters),
            airtime=self._reader.accounts.shares(),
        )
        self._news.lessons.update(self._models.news())
        line = self._evidence
        line.connected, line.problem, line.echoes = self._line.connected, self.problem, self._line.echoes
        line.numbers_kept = self._reader.numbers_kept
        for key, clock in self._news.clocks.items():
            line.meter(key).clock_offset_s = clock.offset_s
        self._news.diagnoses.update(self._diagnoses.changed(now))
        if (report := self._news.report(self._now(), silent, health, self._backfill, now, wrong)) is not None:
            self._reported_at = now
            self._on_report(report)

    def _nobody_answers(self, meters: Mapping[str, Meter], silent: frozenset[str]) -> str | None:
        if len(silent) < 2:
            return None
        there = sum(meter.flaw is None for meter in meters.values())
        if there < 2 or len(silent) < there:
            return None
        if self._line.counters.damaged > self._line.counters.timeouts:
            return say("all_garbled", count=there, line=self._line.name)
        return say("none_answers", count=there, line=self._line.name)
