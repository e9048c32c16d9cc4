"""What a meter's memory can be asked: the kinds of records it keeps, the questions, and what the answers mean.

Sans-I/O: a question is a `Talk`, a generator that yields exchanges and is sent their replies. Labels are instants of
the meter's own clock, which may be wrong; `placed` puts them right.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any, Literal

from ..line import LineSettings, Reply
from ..model.obis import Obis
from ..model.point import Point
from ..model.reading import Reading
from ..protocol.exchange import Exchange
from ..template import Template
from .clock import MeterClock
from .spans import Span
from .turnround import Preamble

type KindName = Literal["load_record", "hourly", "daily", "monthly", "profile"]
type Talk[Answer] = Generator[Callable[[], Exchange[Any]], Reply[Any], Answer]
type Stored = list[tuple[datetime, Mapping[Obis, Decimal]]]
"""Records as the meter keeps them: label (its own clock, aware UTC) and registers, without multiplier."""

LONGEST_S = 1.5
"""How long an answer may keep the wire, unless a single frame takes longer."""
GROWTH_MARGIN = Decimal("1.1")
NEAR_END, NEAR_ZERO = Decimal("0.9"), Decimal("0.1")
RESET_SHARE = Decimal("0.001")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The energy registers of one meter, read for an interval boundary `skew_s` after it."""

    boundary: datetime
    skew_s: float
    readings: tuple[Reading, ...]


@dataclass(frozen=True, slots=True)
class MemoryRecord:
    """Registers of a meter at an interval boundary, from its memory; like a `Snapshot`, and × multiplier like that.

    `skew_s` is how long after the boundary the meter wrote it by true time: its clock was so much late.
    """

    boundary: datetime
    skew_s: float
    readings: tuple[Reading, ...]
    kind: KindName


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of records in a memory. Labels are seconds since 1970 by the meter's clock."""

    key: str
    name: KindName
    period_s: int
    oldest: int = 0
    """The label of the oldest record, as far as is known."""
    newest: int = 0
    phase_s: int = 0
    """Labels are this much after multiples of the period."""
    together_s: int = 0
    """Records of one question lie in one such stretch since 1970; 0 = anywhere."""
    numbers: Sequence[tuple[int, int]] | None = None
    """Of what is asked for by number: label and number of each record, newest first. None: asked for by time."""


@dataclass(frozen=True, slots=True)
class Question:
    """One step: what is said on the line, and what it costs there."""

    about: Literal["clock", "contents", "records", "set_clock"]
    talk: Callable[[], Talk[Any]]
    wire_bytes: int
    exchanges: int
    kind: Kind | None = None
    """Of records."""
    span: Span = (0, 0)
    """The boundaries that are settled by the answer, whatever it brings (true time)."""
    number: int = 0


@dataclass(slots=True)
class Asked:
    """Whom questions go to, and over what."""

    address: str
    template: Template
    line: LineSettings
    energies: frozenset[Obis] = frozenset()
    """The boundary registers that live snapshots have."""
    transaction: int = field(default=0)
    waking: Preamble | None = None
    """What is known of its need of FE bytes."""

    @property
    def preamble(self) -> int:
        """FE bytes before requests."""
        usual = max(self.line.preamble, self.template.dlt645.preamble)
        return 0 if self.waking is not None and self.waking.needed is False else usual


class Memory(ABC):
    """The memory of one meter: what it is known to hold, and the questions to it."""

    def __init__(self, asked: Asked, clock: MeterClock) -> None:
        self.asked, self.clock = asked, clock
        self.known = False
        """True once it was asked what it holds."""
        self.empty = False
        """True where the meter says that it has none."""

    @abstractmethod
    def clock_question(self) -> Question | None:
        """Reads the clock into `clock`; None where that comes with the contents."""

    @abstractmethod
    def contents_question(self) -> Question | None:
        """Learns what the memory holds; None where there is nothing to learn."""

    @abstractmethod
    def kinds(self, now: int, interval_s: int) -> Sequence[Kind]:
        """What can be asked for, the most useful first for boundaries of every `interval_s`; `now` is true time."""

    @abstractmethod
    def most(self, kind: Kind) -> int:
        """How many records one question may ask for."""

    @abstractmethod
    def question(self, kind: Kind, label: int, count: int, span: Span) -> Question:
        """The question for so many records from a label on (or for the one of that label); its answer is `Stored`."""

    @abstractmethod
    def refused(self, question: Question) -> Span:
        """Remembers what the meter lacks that refused a question; the boundaries for which it cannot help."""

    @property
    @abstractmethod
    def depth_s(self) -> int:
        """How far back its finest records go, as far as is known; 0 where it has none."""


def placed(
    stored: Stored,
    kind: Kind,
    clock: MeterClock,
    interval_s: int,
    point: Point | None,
    wanted: Callable[[int], bool],
) -> list[MemoryRecord]:
    """Records at the boundaries that they stand for: labels put right by the clock, registers × multiplier.

    Those that stand for no boundary, or for none that is wanted, are left out.
    """
    if not stored:
        return []
    half = min(interval_s / 2, kind.period_s / 2)
    first, last = stored[0][0].timestamp(), stored[-1][0].timestamp()
    offset = clock.offset_at(first - clock.offset_s)
    steady = clock.steady(first - offset, last - offset)
    factor = _factor(point, stored[0][0], stored[-1][0])
    found: list[MemoryRecord] = []
    for label, registers in stored:
        stamp = label.timestamp()
        if not steady:
            offset = clock.offset_at(stamp - clock.offset_at(stamp))
        true = stamp - offset
        boundary = int((true + interval_s / 2) // interval_s) * interval_s
        skew = true - boundary
        if not -half <= skew < half or not wanted(boundary):
            continue
        if skew or offset:
            at = datetime.fromtimestamp(true, label.tzinfo)
            on = datetime.fromtimestamp(boundary, label.tzinfo)
        else:
            at = on = label
        readings = tuple([Reading(obis, value, at) for obis, value in registers.items()])
        if point is not None and factor != 1:
            readings = (
                tuple([point.apply(one) for one in readings])
                if factor is None
                else tuple([Reading(one.obis, one.value * factor, at) for one in readings])  # type: ignore[operator]
            )
        found.append(MemoryRecord(on, skew, readings, kind.name))
    return found


def _factor(point: Point | None, first: datetime, last: datetime) -> Decimal | None:
    """The multiplier of energies, where one is valid from the first to the last instant and a day beyond."""
    if point is None or not point.multipliers:
        return Decimal(1)
    sinces = [one.since.timestamp() for one in point.multipliers]
    day = 86_400
    places = {bisect_right(sinces, at) for at in (first.timestamp() - day, last.timestamp() + day)}
    if len(places) > 1:
        return None
    place = places.pop()
    return Decimal(1) if not place else point.multipliers[place - 1].ct * point.multipliers[place - 1].pt


def sane(stored: Stored, template: Template, period_s: int) -> Stored:
    """Records in order of time, each once, without values that cannot be: negative, past the register's end, or not
    fitting between their neighbours.

    What began again (at the end of the register, or near zero) is passed on: the ledger tells why.
    """
    if any(stored[place][0] >= stored[place + 1][0] for place in range(len(stored) - 1)):
        by_label: dict[datetime, Mapping[Obis, Decimal]] = {}
        for label, registers in stored:
            by_label.setdefault(label, registers)
        stored = sorted(by_label.items())
    limits = template.limits.power_kw
    power = None if limits is None else Decimal(max(abs(limits[0]), abs(limits[1]))) * GROWTH_MARGIN / 3600
    bad: dict[Obis, set[int]] = {}
    for obis in {obis for _, registers in stored for obis in registers}:
        end = template.roll_over(obis) if obis in template.by_obis else None
        rule = _Rule(end, power, None if power is None else power * period_s + 1)
        series = [
            (label, registers[obis], place) for place, (label, registers) in enumerate(stored) if obis in registers
        ]
        impossible = {place for _, value, place in series if value < 0 or (end is not None and value >= end)}
        kept = [one for one in series if one[2] not in impossible] if impossible else series
        if not all(rule.follows(old, new) for old, new in pairwise(kept)):
            impossible |= {place for _, _, place in kept} - rule.chain(kept)
        if impossible:
            bad[obis] = impossible
    if not bad:
        return stored
    cleaned: Stored = []
    for place, (label, registers) in enumerate(stored):
        left = {obis: value for obis, value in registers.items() if place not in bad.get(obis, ())}
        if left:
            cleaned.append((label, left))
    return cleaned


type _Value = tuple[datetime, Decimal, int]
"""When, what, and at which place of an answer."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """What may follow what in the records of one register."""

    end: Decimal | None
    power: Decimal | None
    """The greatest growth in a second."""
    usual: Decimal | None
    """The greatest growth from one record to the next where none is missing."""

    def follows(self, old: _Value, new: _Value) -> bool:
        growth = new[1] - old[1]
        if growth >= 0:
            if self.power is None or self.usual is None or growth <= self.usual:
                return True
            return growth <= self.power * int((new[0] - old[0]).total_seconds()) + 1
        if self.end is not None and old[1] > self.end * NEAR_END and new[1] < self.end * NEAR_ZERO:
            return True
        return new[1] <= old[1] * RESET_SHARE

    def chain(self, series: Sequence[_Value]) -> set[int]:
        """The places of the longest series in which each value follows the one before."""
        best: list[tuple[int, int]] = []
        for here, new in enumerate(series):
            length, before = 1, -1
            for there in range(here):
                if best[there][0] >= length and self.follows(series[there], new):
                    length, before = best[there][0] + 1, there
            best.append((length, before))
        at = max(range(len(best)), key=lambda one: best[one][0], default=-1)
        chain: set[int] = set()
        while at >= 0:
            chain.add(series[at][2])
            at = best[at][1]
        return chain
