"""What leaves the engine: the report of a part of a round."""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from statistics import median

from ..errors import MeterError
from ..line import LineCounters
from ..model.interval import Hole
from ..model.obis import Obis
from ..model.reading import Reading
from .airtime import AirtimeShares
from .backfill import Backfill, BackfillHealth
from .clock import ClockReading
from .diagnose import Diagnosis
from .identity_watch import IdentityReading
from .lessons import Lessons
from .memory import MemoryRecord, Snapshot

WINDOW = 300
"""How many of the last exchanges success rate and latency are made of."""


@dataclass(frozen=True, slots=True)
class LineHealth:
    """How a line is doing; durations in seconds, None where nothing is known yet."""

    connected: bool = False
    problem: str | None = None
    """What is wrong with the line as a whole: a `Sentence`."""
    success_rate: float | None = None
    """Share of the last exchanges with meters that answer at all which were answered."""
    latency_s: float | None = None
    """Median time from request to whole reply."""
    cycle_s: float | None = None
    """How long the last round through all due meters took."""
    counters: LineCounters = field(default_factory=LineCounters)
    airtime: AirtimeShares = field(default_factory=AirtimeShares)


@dataclass(frozen=True, slots=True)
class PollReport:
    """What happened on one line since the last report. Partial success is normal."""

    at: datetime
    readings: Mapping[str, tuple[Reading, ...]] = field(default_factory=dict)
    """Validated and × multiplier, by meter key; look at `Reading.good` before use."""
    snapshots: Mapping[str, Snapshot] = field(default_factory=dict)
    failed: Mapping[str, MeterError] = field(default_factory=dict)
    """What failed and was not put right by a second try."""
    silent: frozenset[str] = frozenset()
    """Keys of meters that do not answer now; they are asked cheaply and ever more rarely."""
    health: LineHealth = field(default_factory=LineHealth)
    memory: Mapping[str, tuple[MemoryRecord, ...]] = field(default_factory=dict)
    """What came from the meters' memory for boundaries that were missing (`Poller.set_holes`); × multiplier."""
    clocks: Mapping[str, ClockReading] = field(default_factory=dict)
    """Clocks of meters as they were read, each about once a day."""
    depths: Mapping[str, timedelta] = field(default_factory=dict)
    """How far back a meter's memory goes, where that was learned anew; 0 where it has none."""
    exhausted: Mapping[str, tuple[Hole, ...]] = field(default_factory=dict)
    """What is missing and not in the meter's memory either, where that has changed."""
    backfill: BackfillHealth = field(default_factory=BackfillHealth)
    diagnoses: Mapping[str, tuple[Diagnosis, ...]] = field(default_factory=dict)
    """Likely causes of what is wrong with a meter, likeliest first, where that changed; () where it is well again."""
    lessons: Mapping[str, Lessons] = field(default_factory=dict)
    """What models have taught anew, by template id; to be kept and given to the next `Poller`."""
    identities: Mapping[str, IdentityReading] = field(default_factory=dict)
    """Who meters are, where that was asked or has changed."""
    wrong: frozenset[str] = frozenset()
    """Keys of meters that answer nonsense: another model, word order or scale, or next to nothing that is possible."""


class News:
    """What has happened on a line since the last report."""

    def __init__(self) -> None:
        self.failed: dict[str, MeterError] = {}
        self._readings: dict[str, dict[Obis, Reading]] = {}
        self._snapshots: dict[str, Snapshot] = {}
        self._memory: dict[str, list[MemoryRecord]] = {}
        self.clocks: dict[str, ClockReading] = {}
        self.diagnoses: dict[str, tuple[Diagnosis, ...]] = {}
        self.lessons: dict[str, Lessons] = {}
        self.identities: dict[str, IdentityReading] = {}
        self._answered: deque[bool] = deque(maxlen=WINDOW)
        self._latencies: deque[float] = deque(maxlen=WINDOW)
        self._told: tuple[object, ...] = ()

    def add(self, key: str, readings: Iterable[Reading]) -> None:
        """Readings of a meter; newer ones replace older ones of the same register."""
        self._readings.setdefault(key, {}).update((one.obis, one) for one in readings)

    def add_snapshot(self, key: str, boundary: datetime, readings: Iterable[Reading]) -> Snapshot | None:
        """Energies of a meter for a boundary; None where there are none."""
        taken = tuple(readings)
        if not taken:
            return None
        skew_s = (max(one.at for one in taken) - boundary).total_seconds()
        snapshot = self._snapshots[key] = Snapshot(boundary, skew_s, taken)
        return snapshot

    def add_memory(self, key: str, records: list[MemoryRecord]) -> None:
        """Records from a meter's memory."""
        if records:
            self._memory.setdefault(key, []).extend(records)

    def answered(self, duration_s: float | None = None) -> None:
        """An exchange was answered, whole after `duration_s`."""
        self._answered.append(True)
        if duration_s is not None:
            self._latencies.append(duration_s)

    def unanswered(self) -> None:
        """An exchange with a meter that should be there was not answered."""
        self._answered.append(False)

    def keep(self, keys: Container[str]) -> None:
        """Forgets what concerns other meters."""
        self.failed = {key: one for key, one in self.failed.items() if key in keys}
        self._readings = {key: one for key, one in self._readings.items() if key in keys}
        self._snapshots = {key: one for key, one in self._snapshots.items() if key in keys}
        self._memory = {key: one for key, one in self._memory.items() if key in keys}
        self.clocks = {key: one for key, one in self.clocks.items() if key in keys}
        self.diagnoses = {key: one for key, one in self.diagnoses.items() if key in keys}
        self.identities = {key: one for key, one in self.identities.items() if key in keys}

    def report(
        self,
        at: datetime,
        silent: frozenset[str],
        health: LineHealth,
        backfill: Backfill,
        monotonic: float,
        wrong: frozenset[str] = frozenset(),
    ) -> PollReport | None:
        """All news as one report, and none are left; None where there are none. `health` is completed."""
        told = (health.connected, health.problem, silent, wrong)
        depths, exhausted = backfill.depths(), backfill.exhausted(at)
        news = (
            self._readings,
            self._snapshots,
            self.failed,
            self._memory,
            self.clocks,
            self.diagnoses,
            self.lessons,
            self.identities,
            depths,
            exhausted,
        )
        if told == self._told and not any(news):
            return None
        self._told = told
        report = PollReport(
            at=at,
            readings={key: tuple(one.values()) for key, one in self._readings.items()},
            snapshots=self._snapshots,
            failed=self.failed,
            silent=silent,
            health=replace(
                health,
                success_rate=sum(self._answered) / len(self._answered) if self._answered else None,
                latency_s=median(self._latencies) if self._latencies else None,
            ),
            memory={key: tuple(records) for key, records in self._memory.items()},
            clocks=self.clocks,
            depths=depths,
            exhausted=exhausted,
            backfill=backfill.health(at, monotonic),
            diagnoses=self.diagnoses,
            lessons=self.lessons,
            identities=self.identities,
            wrong=wrong,
        )
        self._readings, self._snapshots, self.failed, self._memory = {}, {}, {}, {}
        self.clocks, self.diagnoses, self.lessons, self.identities = {}, {}, {}, {}
        return report
