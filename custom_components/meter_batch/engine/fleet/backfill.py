"""The planner of back-fill: from holes, what memories hold and the airtime that is left, the next question.

It keeps nothing on disk: holes come from the ledger, so after any interruption it goes on where values are missing.
What expires first is asked first; a long history comes coarse first (billing days, days), then newest first. On lines
without wire time history comes in its finest form at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from ..errors import Refused
from ..line import LineSettings
from ..model.interval import Hole
from ..protocol.dlt645.exchange import BroadcastTime
from .airtime import Airtime
from .clock import SET_FROM_S, SET_WITHIN_S, ClockReading, may_set
from .memory import Memory, MemoryRecord, Question, Snapshot, Talk
from .meter import Meter
from .recall import DAY_S, Plan, Recall, installed
from .schedule import PollSettings

LATE_S = 60.0
"""A snapshot that was taken later than this after its boundary gives way to a record from memory."""
THINK_S = 0.1
"""How long a meter thinks of which nothing is known yet."""
BUSY = (5, 6)
"""Modbus exceptions that mean "not now"."""
PACE_S = 300.0
"""Over what it is measured how fast records come."""
PACE_FROM_S = 10.0
"""What was measured for less time tells nothing."""
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


class Backfill:
    """The planner of one line, and what it has to tell."""

    def __init__(
        self, line: LineSettings, settings: PollSettings, monotonic: float, share: Callable[[], float] = lambda: 0.0
    ) -> None:
        """`share`: what of the last ten minutes went on this."""
        self._line, self._settings, self._share = line, settings, share
        self._zone = None if settings.time_zone == "UTC" else ZoneInfo(settings.time_zone)
        self.airtime = Airtime(settings.budget, monotonic)
        self._recalls: dict[str, Recall] = {}
        self._holes: dict[str, tuple[Hole, ...]] = {}
        self._swapped: dict[str, int] = {}
        self._depths: dict[str, timedelta] = {}
        self._exhausted: dict[str, tuple[Hole, ...]] = {}
        self._set_on: date | None = None
        self._wants_s = 0.0
        """What the next step will cost."""
        self._pace: deque[tuple[float, int]] = deque()
        """When records asked for by time came, and how many."""
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
        recall.since = max(installed(meter), self._swapped.get(key, 0))
        if key in self._holes:
            recall.set_holes(self._holes[key])
        return recall

    # --- the next step

    def next(self, now: datetime, monotonic: float, room_s: float, *, idle: bool) -> Step | None:
        """What to ask now, if it is within the budget and done within `room_s`. `idle`: nothing live is waiting."""
        # Most calls find no credit: they must cost nothing.
        if not self.airtime.budget or not self.airtime.allows(0.0, monotonic):
            return None
        if not idle and self._share() >= self._settings.budget:
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
        best: tuple[Recall, Plan] | None = None
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
                records = recall.took(step.question, answer)
                if step.question.kind is not None and step.question.kind.numbers is None:
                    self._pace.append((monotonic, len(records)))
                return records
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
        share = self._share()
        if not outstanding or not self.airtime.budget:
            self._pace.clear()
            return BackfillHealth(outstanding, share)
        pace = self._records_a_second(monotonic)
        left_s = outstanding / pace if pace else seconds / self.airtime.budget
        return BackfillHealth(outstanding, share, now + timedelta(seconds=left_s))

    def _records_a_second(self, monotonic: float) -> float:
        """How fast records came in the last minutes; 0 where that is not known."""
        pace = self._pace
        while pace and pace[0][0] < monotonic - PACE_S:
            pace.popleft()
        if not pace or (passed := monotonic - pace[0][0]) < PACE_FROM_S:
            return 0.0
        # What came first took its time before it came.
        return (sum(count for _, count in pace) - pace[0][1]) / passed
