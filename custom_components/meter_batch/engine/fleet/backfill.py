"""The planner of back-fill: from holes, what memories hold and the airtime that is left, the next question.

It keeps nothing on disk: holes come from the ledger, so after any interruption it goes on where values are missing.
What expires first is asked first; a long history comes coarse first (billing days, days), then newest first. On lines
without wire time history comes in its finest form at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from math import ceil
from typing import Any
from zoneinfo import ZoneInfo

from ..errors import Refused
from ..line import LineSettings
from ..model.interval import Hole
from ..protocol.dlt645.exchange import BroadcastTime
from .airtime import Airtime
from .clock import SET_FROM_S, SET_WITHIN_S, ClockReading, MeterClock, WallClock, may_set
from .memory import Asked, Kind, Memory, MemoryRecord, Question, Snapshot, Stored, Talk, placed, sane
from .memory_dlt645 import Dlt645Memory
from .memory_modbus import ModbusMemory
from .meter import Meter
from .schedule import PollSettings
from .spans import Span, Spans

DAY_S = 86_400
HISTORY_S = 35 * DAY_S
"""A hole that is longer is history, of which the coarse comes first; a shorter one is a gap, and what expires first
comes first.
"""
IDLE_SHARE = 0.8
"""On a line without wire time: so much of the time between live questions, that the program has breath."""
LATER_S, LATEST_S = 30.0, 3600.0
"""How long a meter is left alone after a question from which nothing came, at first and at most."""
TRIES = 3
"""A question from which nothing came so often is put aside, for a day."""
TURN_S = 120
LATE_S = 60.0
"""A snapshot that was taken later than this after its boundary gives way to a record from memory."""
FRESH_S = 60
"""What was planned so long ago is planned anew."""
THINK_S = 0.1
"""How long a meter thinks of which nothing is known yet."""
BUSY = (5, 6)
"""Modbus exceptions that mean "not now"."""
BROADCAST_PAUSE_S = 0.5
"""How long a line is left alone after broadcast time."""


@dataclass(frozen=True, slots=True)
class BackfillHealth:
    """How far back-fill of a line is: boundaries still to be asked for, its share of the time, the expected end."""

    outstanding: int = 0
    airtime_share: float = 0.0
    finish_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be asked next, of whom, and how long that takes the line. `recall` None: broadcast time."""

    recall: Recall | None
    question: Question
    cost_s: float


class Recall:
    """The state of one meter in back-fill: what is missing, what was asked."""

    def __init__(self, meter: Meter, line: LineSettings, interval_s: int, zone: ZoneInfo) -> None:
        self.meter, self._interval_s, self._wire = meter, interval_s, line.framing != "tcp"
        self._of = _identity(meter)
        template = meter.poll.template
        keeps = template.memory
        wall = WallClock(None if keeps is None or keeps.clock == "utc" else zone, keeps is not None and keeps.dst)
        self.clock = MeterClock(wall)
        self._asked_of = Asked(meter.address, template, line, meter.wanted(("energy",)))
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
        self._planned: tuple[float, _Plan | None] | None = None

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
        spans = Spans(
            (ceil(one.start.timestamp() / length) * length, ceil(one.end.timestamp() / length) * length)
            for one in holes
        )
        self._history = Spans(one for one in spans if one[1] - one[0] > HISTORY_S)
        self.missing = Spans([*spans, *self._late]).minus(self._came)
        self._planned = None

    def late(self, boundary: int) -> None:
        """The registers of a boundary were read late: the memory may know better."""
        if self.memory is None or self.memory.empty:
            return
        self._late.add(boundary, boundary + self._interval_s)
        self.missing.add(boundary, boundary + self._interval_s)
        self._planned = None

    @property
    def finished(self) -> bool:
        """True where nothing is left to be asked for, as far as is known."""
        return self._planned is not None and self._planned[1] is None

    def outstanding(self, now: int) -> tuple[int, float]:
        """Boundaries for which the finest records can still be asked, and how many questions that takes."""
        if not self.missing or self.memory is None or self.memory.empty or not self.memory.known:
            return 0, 0.0
        kinds = self.memory.kinds(now, self._interval_s)
        if not kinds:
            return 0, 0.0
        kind = kinds[0]
        left = self._left(kind).seconds // max(self._interval_s, kind.period_s)
        return left, left * max(1, self._interval_s / kind.period_s) / self.memory.most(kind)

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

    def plan(self, now: int, monotonic: float) -> _Plan | None:
        """What to ask this meter next; None where there is nothing to ask."""
        if self._planned is not None and monotonic - self._planned[0] < FRESH_S:
            return self._planned[1]
        if monotonic - self._forgot_at > DAY_S:
            self._forget(monotonic)
        found = self._find(now)
        self._planned = (monotonic, found)
        return found

    def _left(self, kind: Kind) -> Spans:
        """The boundaries for which records of a kind can still be asked."""
        offset = round(self.clock.offset_s)
        half = self._interval_s // 2
        lo = max(kind.oldest - offset - half, self.since)
        left = self.missing.within(lo, kind.newest - offset + half)
        asked = self._asked.get(kind.key)
        return left.minus(asked) if asked else left

    def _find(self, now: int) -> _Plan | None:
        memory = self.memory
        if memory is None or not self.missing or not self.clock.trusted or not memory.known:
            return None
        kinds = memory.kinds(now, self._interval_s)
        for kind in kinds:
            left = self._left(kind)
            gaps = left.minus(self._history) if self._history else left
            if gaps and (found := self._pick(kind, gaps, newest=False)):
                return _Plan(1, found[2][0] - kind.oldest, kind, *found)
        coarse = [kind for kind in kinds if kind.name in ("monthly", "daily")]
        coarse.sort(key=lambda one: one.name == "daily")
        finer = [kind for kind in kinds if kind not in coarse]
        order = [*coarse, *finer] if self._wire else [*finer, *coarse]
        for rank, kind in enumerate(order, 2):
            left = self._left(kind)
            if left and (found := self._pick(kind, left, newest=True)):
                return _Plan(rank, -found[2][1], kind, *found)
        return None

    def _pick(
        self, kind: Kind, left: Iterable[Span], *, newest: bool, most: int | None = None
    ) -> tuple[int, int, Span] | None:
        """First label, number of records and the boundaries that they settle, from one end of what is left."""
        if kind.numbers is not None:
            return self._pick_number(kind, left)
        length, period = self._interval_s, kind.period_s
        offset, half = round(self.clock.offset_s), min(self._interval_s, kind.period_s) // 2
        assert self.memory is not None
        most = most or self.memory.most(kind)
        for start, end in reversed(list(left)) if newest else left:
            lo = max(start + offset - half, kind.oldest)
            hi = min(end - length + offset + half, kind.newest)
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
                return first, count, (-((half + offset - first) // length) * length, end)
            return first, count, (start, self._covered(kind, first + (count - 1) * period - offset))
        return None

    def _covered(self, kind: Kind, true: int) -> int:
        """Up to where boundaries are settled by records up to one of this true time."""
        half = min(self._interval_s, kind.period_s) // 2
        return (true + half) // self._interval_s * self._interval_s + self._interval_s

    def _pick_number(self, kind: Kind, left: Iterable[Span]) -> tuple[int, int, Span] | None:
        assert kind.numbers is not None
        offset = round(self.clock.offset_s)
        spans = list(left)
        for label, _ in kind.numbers:
            boundary = _nearest(label - offset, self._interval_s)
            if any(start <= boundary < end for start, end in spans):
                return label, 1, (boundary, boundary + self._interval_s)
        return None

    def question(self, plan: _Plan, fits: Callable[[Question], bool]) -> Question:
        """The question of a plan, for fewer records where it would not fit; if need be, one that does not fit."""
        assert self.memory is not None
        while True:
            question = self.memory.question(plan.kind, plan.label, plan.count, plan.span)
            if plan.count == 1 or fits(question):
                return question
            found = self._pick(plan.kind, [plan.span], newest=plan.rank > 1, most=plan.count // 2)
            assert found is not None
            plan = _Plan(plan.rank, plan.when, plan.kind, *found)

    # --- what came of it

    def heard(self) -> None:
        """It answers."""
        self._failures = 0
        self._planned = None

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
        came = Spans((stamp, stamp + length) for stamp in (int(one.boundary.timestamp()) for one in records))
        for begin, finish in came:
            missing.cut(begin, finish)
            self._late.cut(begin, finish)
            self._came.add(begin, finish)
        return records

    def _settle(self, kind: Kind, start: int, end: int) -> None:
        self._asked.setdefault(kind.key, Spans()).add(start, end)
        self._planned = None

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
        self._planned = None
        if question.kind is not None:
            key = question.kind.key, question.span
            self._tries[key] = self._tries.get(key, 0) + 1
            if self._tries[key] >= TRIES:
                del self._tries[key]
                self._settle(question.kind, *question.span)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a meter is to be asked; the plan with the least rank, then `when`, comes first on its line."""

    rank: int
    when: int
    kind: Kind
    label: int
    count: int
    span: Span


def _identity(meter: Meter) -> tuple[object, ...]:
    point = meter.poll.point
    return meter.wanted(("energy",)), None if point is None else point.meter


def _installed(meter: Meter) -> int:
    """Since when this meter hangs at its point, where another one hung there before; 0 where none did."""
    point = meter.poll.point
    return 0 if point is None or len(point.meters) < 2 else ceil(point.meter.since.timestamp())


def _nearest(at: int, length: int) -> int:
    return (at + length // 2) // length * length


def _instant(at: int) -> datetime:
    return datetime.fromtimestamp(at, UTC)


class Backfill:
    """The planner of one line, and what it has to tell."""

    def __init__(self, line: LineSettings, settings: PollSettings, monotonic: float) -> None:
        self._line, self._settings = line, settings
        self._zone = ZoneInfo(settings.time_zone)
        budget = settings.budget if line.framing != "tcp" or not settings.budget else max(settings.budget, IDLE_SHARE)
        self.airtime = Airtime(budget, monotonic)
        self._recalls: dict[str, Recall] = {}
        self._holes: dict[str, tuple[Hole, ...]] = {}
        self._swapped: dict[str, int] = {}
        self._depths: dict[str, timedelta] = {}
        self._exhausted: dict[str, tuple[Hole, ...]] = {}
        self._set_on: date | None = None
        self._wants_s = 0.0
        """What the next step will cost."""
        self._setting: set[str] = set()
        """Meters whose clocks we have just put right."""

    # --- from outside

    def set_meters(self, meters: Mapping[str, Meter]) -> None:
        """Which meters there are."""
        known, self._recalls = self._recalls, {}
        for key, meter in meters.items():
            recall = known.get(key)
            if recall is None or not recall.fits(meter):
                recall = self._new(key, meter)
            self._recalls[key] = recall

    def set_holes(self, holes: Mapping[str, Sequence[Hole]]) -> None:
        """What is missing, by meter; nothing changes for those not named."""
        for key, those in holes.items():
            self._holes[key] = tuple(those)
            if key in self._recalls:
                self._recalls[key].set_holes(self._holes[key])

    def late(self, key: str, snapshot: Snapshot) -> None:
        """The registers of a boundary were read so long after it that the memory may know better."""
        if snapshot.skew_s > LATE_S and key in self._recalls:
            self._recalls[key].late(int(snapshot.boundary.timestamp()))

    def swapped(self, key: str, at: datetime) -> None:
        """Another meter answers since `at`: nothing is known of its memory, and it knows nothing from before."""
        self._swapped[key] = int(at.timestamp())
        self._recalls[key] = self._new(key, self._recalls[key].meter)

    def _new(self, key: str, meter: Meter) -> Recall:
        recall = Recall(meter, self._line, self._settings.interval_s, self._zone)
        recall.since = max(_installed(meter), self._swapped.get(key, 0))
        if key in self._holes:
            recall.set_holes(self._holes[key])
        return recall

    # --- the next step

    def next(self, now: datetime, monotonic: float, room_s: float) -> Step | None:
        """What to ask now, if it is within the budget and done within `room_s`."""
        # Most calls find no credit: they must cost nothing.
        if not self.airtime.budget or not self.airtime.allows(0.0, monotonic):
            return None
        step = self._set_clocks(now, monotonic) or self._best(int(now.timestamp()), monotonic, room_s)
        self._wants_s = 0.0 if step is None else step.cost_s
        if step is None or step.cost_s > room_s or not self.airtime.allows(step.cost_s, monotonic):
            return None
        return step

    def wait_s(self, monotonic: float) -> float:
        """How long nothing can be done for want of airtime."""
        wait = self.airtime.wait_s(self._wants_s, monotonic)
        return wait + 0.01 if wait > 0 else float("inf")

    def _best(self, now: int, monotonic: float, room_s: float) -> Step | None:
        best: tuple[Recall, _Plan] | None = None
        for recall in self._recalls.values():
            meter = recall.meter
            if recall.memory is None or not recall.answers(monotonic):
                continue
            if (question := self._first(recall, recall.memory, monotonic)) is not None:
                return Step(recall, question, self._cost_s(meter, question))
            plan = recall.plan(now, monotonic)
            if plan is None or (plan.kind.numbers is not None and recall.turning(now)):
                continue
            if best is None or (plan.rank, plan.when) < (best[1].rank, best[1].when):
                best = recall, plan
        if best is None:
            return None
        recall, plan = best
        question = recall.question(plan, lambda one: self._cost_s(recall.meter, one) <= room_s)
        return Step(recall, question, self._cost_s(recall.meter, question))

    def _first(self, recall: Recall, memory: Memory, monotonic: float) -> Question | None:
        """What must be known of a meter before its records can be asked for: its clock, and what it keeps."""
        if memory.empty:
            return None
        if self._settings.clock_care and recall.clock_due <= monotonic:
            if (question := memory.clock_question()) is not None:
                return question
            recall.clock_due = float("inf")
        if recall.contents_due <= monotonic:
            if (question := memory.contents_question()) is not None:
                return question
            recall.contents_due = float("inf")
        return None

    def _cost_s(self, meter: Meter, question: Question) -> float:
        mean = meter.turnround.mean_s
        gap = self._line.silence_s + self._line.gap_s + (0.02 if meter.poll.protocol != "modbus" else 0.0)
        return self._line.wire_s(question.wire_bytes) + question.exchanges * (THINK_S if mean is None else mean + gap)

    def _set_clocks(self, now: datetime, monotonic: float) -> Step | None:
        """Broadcast time, where a clock of the line may be put right by it: once all clocks have been read.

        Of one that was not, nobody could tell afterwards by which time its older records are labelled.
        """
        if not self._settings.clock_care or any(one.reads_clock(monotonic) for one in self._recalls.values()):
            return None
        clocks = [one.clock for one in self._recalls.values() if one.meter.poll.protocol != "modbus"]
        offsets = [one.newest.offset_s for one in clocks if one.newest is not None]
        if all(abs(one) <= SET_FROM_S for one in offsets):
            return None
        clock = next((one for one in clocks if may_set(one, now, offsets)), None)
        if clock is None or clock.wall.shows(now).date() == self._set_on:
            return None
        size = len(BroadcastTime(clock.wall.shows(now)).request)
        wire_s = self._line.wire_s(size)
        # It holds whole seconds, and the meters take it when it has arrived.
        right = clock.wall.shows(now + timedelta(seconds=wire_s + 0.5)).replace(microsecond=0)

        def talk() -> Talk[None]:
            yield lambda: BroadcastTime(right, preamble=self._line.preamble)

        return Step(None, Question("set_clock", talk, size, 1), wire_s + BROADCAST_PAUSE_S)

    # --- what came of it

    def took(self, step: Step, answer: Any, at: datetime, monotonic: float) -> list[MemoryRecord]:
        """The records in the answer to a step."""
        recall = step.recall
        if recall is None:
            self._was_set(at, monotonic)
            return []
        match step.question.about:
            case "clock":
                recall.clock_due = monotonic + DAY_S
            case "contents":
                recall.contents_due = monotonic + DAY_S
            case _:
                return recall.took(step.question, answer)
        recall.heard()
        return []

    def spent(self, step: Step, seconds: float, monotonic: float) -> None:
        """A step took so long, whatever came of it."""
        self.airtime.spend(seconds, monotonic)
        if step.recall is not None and step.question.about == "records":
            step.recall.step_s += (seconds - step.recall.step_s) / 8

    def refused(self, step: Step, refusal: Refused, monotonic: float) -> None:
        """The meter refused."""
        recall = step.recall
        assert recall is not None
        if recall.meter.poll.protocol == "modbus" and refusal.code in BUSY:
            recall.failed(step.question, monotonic)
        elif step.question.about == "clock":
            recall.clock_due = monotonic + DAY_S
        else:
            recall.refused(step.question)

    def failed(self, step: Step, monotonic: float) -> None:
        """Nothing useful came."""
        if step.recall is not None:
            step.recall.failed(step.question, monotonic)

    def _was_set(self, now: datetime, monotonic: float) -> None:
        for key, recall in self._recalls.items():
            clock = recall.clock
            if recall.meter.poll.protocol == "modbus" or clock.newest is None:
                continue
            self._set_on = clock.wall.shows(now).date()
            if SET_FROM_S < abs(clock.newest.offset_s) <= SET_WITHIN_S:
                recall.clock_due = monotonic
                self._setting.add(key)

    # --- what there is to tell

    def new_clock(self, step: Step) -> ClockReading | None:
        """The reading of a meter's clock that a step has brought; None where it brought none."""
        recall = step.recall
        if recall is None or recall.clock.newest is None or recall.clock.newest is recall.told_clock:
            return None
        key = recall.meter.poll.key
        if key in self._setting:
            self._setting.discard(key)
            if abs(recall.clock.newest.offset_s) <= SET_FROM_S:
                recall.clock.was_set()
        recall.told_clock = recall.clock.newest
        return recall.clock.newest

    def depths(self) -> dict[str, timedelta]:
        """How far back memories go, of those of which that is new."""
        new = {}
        for key, recall in self._recalls.items():
            memory = recall.memory
            if memory is None or not (memory.known or memory.empty):
                continue
            depth = timedelta(seconds=0 if memory.empty else memory.depth_s)
            if self._depths.get(key) != depth:
                self._depths[key] = new[key] = depth
        return new

    def exhausted(self, now: datetime) -> dict[str, tuple[Hole, ...]]:
        """What memories do not have, of those of which that is new."""
        new = {}
        for key, recall in self._recalls.items():
            holes = recall.exhausted(int(now.timestamp()))
            if holes != self._exhausted.get(key, ()):
                self._exhausted[key] = new[key] = holes
        return new

    def health(self, now: datetime, monotonic: float) -> BackfillHealth:
        """How far it is."""
        outstanding, seconds = 0, 0.0
        for recall in self._recalls.values():
            count, questions = recall.outstanding(int(now.timestamp()))
            if count:
                outstanding += count
                seconds += questions * recall.step_s
        share = self.airtime.share(monotonic)
        if not outstanding or not self.airtime.budget:
            return BackfillHealth(outstanding, share)
        return BackfillHealth(outstanding, share, now + timedelta(seconds=seconds / self.airtime.budget))
