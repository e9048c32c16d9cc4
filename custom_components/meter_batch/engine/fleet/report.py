"""What leaves the engine: the report of a part of a round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ..errors import MeterError
from ..line import LineCounters
from ..model.reading import Reading


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The energy registers of one meter, read for an interval boundary `skew_s` after it."""

    boundary: datetime
    skew_s: float
    readings: tuple[Reading, ...]


@dataclass(frozen=True, slots=True)
class LineHealth:
    """How a line is doing; durations in seconds, None where nothing is known yet."""

    connected: bool = False
    problem: str | None = None
    """What is wrong with the line as a whole, in plain words."""
    success_rate: float | None = None
    """Share of the last exchanges with meters that answer at all which were answered."""
    latency_s: float | None = None
    """Median time from request to whole reply."""
    cycle_s: float | None = None
    """How long the last round through all due meters took."""
    counters: LineCounters = field(default_factory=LineCounters)


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
