"""Back-fill of one meter: what is missing, what was asked, and the best question for what is left."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil
from zoneinfo import ZoneInfo

from ..line import LineSettings
from ..model.interval import Hole
from .clock import ClockReading, MeterClock, WallClock
from .memory import Asked, Kind, Memory, MemoryRecord, Question, Stored, placed, sane
from .memory_dlt645 import Dlt645Memory
from .memory_modbus import ModbusMemory
from .meter import Meter
from .spans import Span, Spans

DAY_S = 86_400
HISTORY_S = 35 * DAY_S
"""What lies before the first reading, or is longer than this, is history, of which the coarse comes first; any other
hole is a gap, and what expires first comes first.
"""
LATER_S, LATEST_S = 30.0, 3600.0
"""How long a meter is left alone after a question from which nothing came, at first and at most."""
TRIES = 3
"""A question from which nothing came so often is put aside, for a day."""
TURN_S = 120
"""So long before and after a full hour nothing is asked for by number: it could be another by then."""
FRESH_S = 60
"""What was planned so long ago is planned anew."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a meter is to be asked; the plan with the least rank, then `when`, comes first on its line."""

    rank: int
    when: int
    kind: Kind
    label: int
    count: int
    span: Span


class Recall:
    """The state of one meter in back-fill: what is missing, what was asked."""

    def __init__(self, meter: Meter, line: LineSettings, interval_s: int, zone: ZoneInfo | None) -> None:
        self.meter, self._interval_s, self._wire = meter, interval_s, line.framing != "tcp"
        self._of = _identity(meter)
        template = meter.poll.template
        keeps = template.memory
        wall = WallClock(None if keeps is None or keeps.clock == "utc" else zone, keeps is not None and keeps.dst)
        self.clock = MeterClock(wall)
        self._asked_of = Asked(meter.address, template, line, meter.wanted(("energy",)), waking=meter.preamble)
        self.told_clock: ClockReading | None = None
        self.memory: Memory | None = None
        if template.protocol == "modbus":
            self.memory = ModbusMemory(self._asked_of, self.clock)
        elif keeps is not None:
            self.memory = Dlt645Memory(self._asked_of, self.clock)
        self.missing, self._history, self._late = Spans(), Spans(), Spans()
        self.since = 0
        """Another meter hung here before."""
        self._came = Spans()
        """What came since the program started: a ledger may take a while until it misses it no more."""
        self._forget(0.0)
        self.clock_due = self.contents_due = float("-inf")
        self.later = float("-inf")
        self.step_s = 0.3
        """What a question for records takes, of late."""
        self._failures = 0
        self._tries: dict[tuple[str, Span], int] = {}
        self._planned: tuple[float, Plan | None] | None = None
        self._counted: tuple[int, tuple[int, float]] | None = None

    def fits(self, meter: Meter) -> bool:
        """False where it is another meter now, or other registers are wanted."""
        return self.meter is meter and self._of == _identity(meter)

    def answers(self, monotonic: float) -> bool:
        """False where it is silent, cannot be asked, or is to be left alone."""
        return not self.meter.silent and self.meter.flaw is None and self.later <= monotonic

    def reads_clock(self, monotonic: float) -> bool:
        """True where its clock is going to be read."""
        memory = self.memory
        return memory is not None and not memory.empty and self.clock_due <= monotonic and self.answers(monotonic)

    def _changed(self) -> None:
        """What was planned and counted no longer holds."""
        self._planned = self._counted = None

    def turning(self, now: int) -> bool:
        """True around a full hour of the meter's clock, when what is kept by number moves up by one."""
        return not TURN_S <= (now + round(self.clock.offset_s)) % 1800 < 1800 - TURN_S

    def _forget(self, now: float) -> None:
        """What was asked in vain may be asked again after a day."""
        self._asked: dict[str, Spans] = {}
        self._forgot_at = now

    # --- what is missing

    def set_holes(self, holes: Iterable[Hole]) -> None:
        """See `Poller.set_holes`."""
        length = self._interval_s
        spans, before = Spans(), Spans()
        for one in holes:
            span = ceil(one.start.timestamp() / length) * length, ceil(one.end.timestamp() / length) * length
            spans.add(*span)
            if one.history:
                before.add(*span)
        self._history = Spans([*before, *(one for one in spans if one[1] - one[0] > HISTORY_S)])
        self.missing = Spans([*spans, *self._late]).minus(self._came)
        self._changed()

    def late(self, boundary: int) -> None:
        """The registers of a boundary were read late: the memory may know better."""
        if self.memory is None or self.memory.empty:
            return
        self._late.add(boundary, boundary + self._interval_s)
        self.missing.add(boundary, boundary + self._interval_s)
        self._changed()

    @property
    def finished(self) -> bool:
        """True where nothing is left to be asked for, as far as is known."""
        return self._planned is not None and self._planned[1] is None

    def outstanding(self, now: int) -> tuple[int, float]:
        """Boundaries for which the finest records can still be asked, and how many questions that takes."""
        if self._counted is None or now - self._counted[0] >= FRESH_S:
            self._counted = now, self._count(now)
        return self._counted[1]

    def _count(self, now: int) -> tuple[int, float]:
        if self.finished or not self.missing or self.memory is None or self.memory.empty or not self.memory.known:
            return 0, 0.0
        boundaries, questions, rest = 0, 0.0, self.missing
        for kind in self.memory.kinds(now, self._interval_s):
            if kind.numbers is not None:
                # What is kept by number is little beside what is kept by time.
                continue
            asked = self._asked.get(kind.key, Spans())
            lo = kind.oldest - round(self.clock.offset_s)
            left = rest.within(lo, kind.newest).minus(asked).seconds // max(self._interval_s, kind.period_s)
            boundaries += left
            questions += left * max(1, self._interval_s / kind.period_s) / self.memory.most(kind)
            rest = rest.within(0, lo)
        return boundaries, questions

    def exhausted(self, now: int) -> tuple[Hole, ...]:
        """What is missing and will not come from this memory."""
        memory = self.memory
        if memory is None or not (memory.empty or (memory.known and self.finished)):
            return ()
        until = now - 2 * self._interval_s
        return tuple(
            Hole(_instant(start), _instant(end)) for start, end in self.missing.within(0, until).minus(self._late)
        )

    # --- planning

    def plan(self, now: int, monotonic: float) -> Plan | None:
        """What to ask this meter next; None where there is nothing to ask."""
        if self._planned is not None and monotonic - self._planned[0] < FRESH_S:
            return self._planned[1]
        if monotonic - self._forgot_at > DAY_S:
            self._forget(monotonic)
        found = self._find(now)
        self._planned, self._counted = (monotonic, found), None
        return found

    def _left(self, kind: Kind) -> Spans:
        """The boundaries for which records of a kind can still be asked."""
        length, offset = self._interval_s, round(self.clock.offset_s)
        half = min(length, kind.period_s) // 2
        lo = max(kind.oldest - offset - half, self.since)
        hi = kind.newest - offset + half - 1
        left = self.missing.within(-(-lo // length) * length, hi // length * length + length)
        asked = self._asked.get(kind.key)
        return left.minus(asked) if asked else left

    def _find(self, now: int) -> Plan | None:
        memory = self.memory
        if memory is None or not self.missing or not self.clock.trusted or not memory.known:
            return None
        kinds = memory.kinds(now, self._interval_s)
        for kind in kinds:
            left = self._left(kind)
            gaps = left.minus(self._history) if self._history else left
            if gaps and (found := self._pick(kind, gaps, newest=False)):
                return Plan(1, found[2][0] - kind.oldest, kind, *found)
        coarse = [kind for kind in kinds if kind.name in ("monthly", "daily")]
        coarse.sort(key=lambda one: one.name == "daily")
        finer = [kind for kind in kinds if kind not in coarse]
        order = [*coarse, *finer] if self._wire else [*finer, *coarse]
        for rank, kind in enumerate(order, 2):
            left = self._left(kind)
            if left and (found := self._pick(kind, left, newest=True)):
                return Plan(rank, -found[2][1], kind, *found)
        return None

    def _pick(self, kind: Kind, left: Spans, *, newest: bool, most: int | None = None) -> tuple[int, int, Span] | None:
        """First label, number of records and the boundaries that they settle, from one end of what is left."""
        if kind.numbers is not None:
            return self._pick_number(kind, left)
        length, period = self._interval_s, kind.period_s
        offset, half = round(self.clock.offset_s), min(self._interval_s, kind.period_s) // 2
        assert self.memory is not None
        most = most or self.memory.most(kind)
        for start, end in reversed(list(left)) if newest else left:
            lo = max(start + offset - half, kind.oldest)
            hi = min(end - length + offset + half - 1, kind.newest)
            first = lo + (kind.phase_s - lo) % period
            if first > hi:
                continue
            last = hi - (hi - kind.phase_s) % period
            if kind.together_s:
                if newest:
                    first = max(first, last - last % kind.together_s + kind.phase_s)
                else:
                    last = min(last, first - first % kind.together_s + kind.together_s - period + kind.phase_s)
            count = min(most, (last - first) // period + 1)
            if newest:
                first = last - (count - 1) * period
                return first, count, ((first - offset - half) // length * length + length, end)
            return first, count, (start, self._covered(kind, first + (count - 1) * period - offset))
        return None

    def _covered(self, kind: Kind, true: int) -> int:
        """Up to where boundaries are settled by records up to one of this true time."""
        half = min(self._interval_s, kind.period_s) // 2
        return (true + half) // self._interval_s * self._interval_s + self._interval_s

    def _pick_number(self, kind: Kind, left: Spans) -> tuple[int, int, Span] | None:
        assert kind.numbers is not None
        offset = round(self.clock.offset_s)
        for label, _ in kind.numbers:
            boundary = _nearest(label - offset, self._interval_s)
            if boundary in left:
                return label, 1, (boundary, boundary + self._interval_s)
        return None

    def question(self, plan: Plan, fits: Callable[[Question], bool]) -> Question:
        """The question of a plan, for fewer records where it would not fit; if need be, one that does not fit."""
        assert self.memory is not None
        while True:
            question = self.memory.question(plan.kind, plan.label, plan.count, plan.span)
            if plan.count == 1 or fits(question):
                return question
            found = self._pick(plan.kind, Spans([plan.span]), newest=plan.rank > 1, most=plan.count // 2)
            assert found is not None
            plan = Plan(plan.rank, plan.when, plan.kind, *found)

    # --- what came of it

    def heard(self) -> None:
        """It answers."""
        self._failures = 0
        self._changed()

    def took(self, question: Question, stored: Stored) -> list[MemoryRecord]:
        """The records of an answer that are wanted."""
        self.heard()
        kind = question.kind
        assert kind is not None
        length, template = self._interval_s, self.meter.poll.template
        stored = sane(stored, template, kind.period_s)
        missing = self.missing
        if stored:
            span_lo, span_hi = stored[0][0].timestamp() - DAY_S, stored[-1][0].timestamp() + DAY_S
            near = list(missing.within(int(span_lo), int(span_hi)))
            since = self.since
            records = placed(
                stored,
                kind,
                self.clock,
                length,
                self.meter.poll.point,
                lambda at: at >= since and any(start <= at < end for start, end in near),
            )
        else:
            records = []
        start, end = question.span
        if kind.numbers is None and stored:
            # Where it has nothing for a while, it gives what it has next.
            newest = self._covered(kind, int(stored[-1][0].timestamp() - self.clock.offset_s))
            oldest = _nearest(int(stored[0][0].timestamp() - self.clock.offset_s), length)
            if oldest >= start:
                end = max(end, newest)
        self._settle(kind, start, end)
        # Between coarse records nothing finer is left to be found: that was asked for first.
        each = length if kind.numbers is not None else max(length, kind.period_s)
        came = Spans((stamp, stamp + each) for stamp in (int(one.boundary.timestamp()) for one in records))
        for begin, finish in came:
            missing.cut(begin, finish)
            self._late.cut(begin, finish)
            self._came.add(begin, finish)
        return records

    def _settle(self, kind: Kind, start: int, end: int) -> None:
        self._asked.setdefault(kind.key, Spans()).add(start, end)
        self._changed()

    def refused(self, question: Question) -> None:
        """The meter has not what was asked for."""
        self.heard()
        assert self.memory is not None
        span = self.memory.refused(question)
        if question.kind is not None:
            self._settle(question.kind, *span)

    def failed(self, question: Question, monotonic: float) -> None:
        """Nothing useful came; the meter is left alone for a while, and the question after some tries for a day."""
        self._failures += 1
        self.later = monotonic + min(LATEST_S, LATER_S * 2 ** (self._failures - 1))
        if question.about == "contents" and self._failures >= TRIES:
            # Many are silent where they should refuse.
            self.contents_due = monotonic + DAY_S
            self._failures = 0
        self._changed()
        if question.kind is not None:
            key = question.kind.key, question.span
            self._tries[key] = self._tries.get(key, 0) + 1
            if self._tries[key] >= TRIES:
                del self._tries[key]
                self._settle(question.kind, *question.span)


def _identity(meter: Meter) -> tuple[object, ...]:
    point = meter.poll.point
    return meter.wanted(("energy",)), None if point is None else point.meter


def installed(meter: Meter) -> int:
    """Since when this meter hangs at its point, where another one hung there before; 0 where none did."""
    point = meter.poll.point
    return 0 if point is None or len(point.meters) < 2 else ceil(point.meter.since.timestamp())


def _nearest(at: int, length: int) -> int:
    return (at + length // 2) // length * length


def _instant(at: int) -> datetime:
    return datetime.fromtimestamp(at, UTC)
