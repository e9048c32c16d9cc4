"""What a line has seen: of every meter what became of its questions, and what else was heard.

Facts only, cheap to note and pure; `diagnose` says what they mean. Instants are the poller's monotonic seconds.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from ..errors import AbsentRegister, AccessDenied, DecodeError, FrameError, MeterError, NoReply, Refused, WrongMeter
from ..line import LineSettings
from ..model.obis import Obis
from ..model.quantity import BY_KEY
from ..model.reading import Flag, Reading
from ..protocol.dlt645.frame import Framer
from ..protocol.exchange import Exchange
from ..protocol.modbus.rtu import RtuFramer
from ..protocol.modbus.tcp import TcpFramer
from ..sentences import Sentence

if TYPE_CHECKING:
    from ..template import Template
    from ..template.fit import Misfit
    from .meter import PollMeter

KEPT_BYTES = 288
WINDOW = 24
"""How many of the last questions to a meter are remembered one by one."""
VISITS = 12
"""How many of the last readings of instantaneous values are remembered."""

_GLITCH = frozenset((0x00, 0xFF))
_ENERGIES = tuple(BY_KEY[key].obis for key in ("energy_import", "energy_gross", "energy_export") if key in BY_KEY)
_POWER = BY_KEY["active_power"].obis
_SUPPLY = frozenset({_POWER, *(BY_KEY[key].obis for key in ("voltage", "voltage_l1", "voltage_l2", "voltage_l3"))})


class Outcome(StrEnum):
    """What became of one question."""

    ANSWERED = "answered"
    NOTHING = "nothing"
    ONLY_ECHO = "only_echo"
    LATE = "late"
    """Only the reply to an earlier question came, or this one's after its time-out."""
    DAMAGED = "damaged"
    FOREIGN = "foreign"
    """A valid frame of another meter."""
    OTHER_QUESTION = "other_question"
    """A valid frame of this meter that answers another question."""
    PREVIOUS = "previous"
    """The reply to the question before this one."""
    TWO_REPLIES = "two_replies"
    """Two different replies that both fit."""
    OTHER_NUMBER = "other_number"
    """A frame that fits but for the transaction's number."""
    OTHER_FRAMING = "other_framing"
    OTHER_EDITION = "other_edition"
    GATEWAY_PATH = "gateway_path"
    """The gateway says that it knows no way to this unit (exception 0A)."""
    GATEWAY_TARGET = "gateway_target"
    """The gateway says that the meter does not answer (exception 0B)."""
    ABSENT = "absent"
    REFUSED = "refused"
    FUNCTION = "function"
    """Refused, as a Modbus meter does that does not know this function, or does not allow it now (exception 01)."""
    DENIED = "denied"
    UNREADABLE = "unreadable"
    """An answer that holds no values."""


class Mark(StrEnum):
    """What was odd about an answer that was good."""

    ECHO = "echo"
    GLITCH = "glitch"
    """Bytes 00 or FF beside the reply."""
    PREFIX = "prefix"
    """Text or other bytes, always the same, before the reply."""
    NOISE = "noise"
    GLUED = "glued"
    """Another whole frame came with it."""
    NUMBER = "number"
    """It had another transaction number, on a line that is known for it."""
    PREVIOUS = "previous"
    """It was asked for twice, because the first reply belonged to the question before."""


ANSWERS = frozenset(
    {Outcome.ANSWERED, Outcome.ABSENT, Outcome.REFUSED, Outcome.FUNCTION, Outcome.DENIED, Outcome.UNREADABLE}
)
"""The meter itself said something."""
_BY_KEY = {
    "modbus_only_echo": Outcome.ONLY_ECHO,
    "dlt645_only_echo": Outcome.ONLY_ECHO,
    "modbus_only_late": Outcome.LATE,
    "modbus_speaks_rtu": Outcome.OTHER_FRAMING,
    "modbus_speaks_tcp": Outcome.OTHER_FRAMING,
    "modbus_other_number": Outcome.OTHER_NUMBER,
    "modbus_two_replies": Outcome.TWO_REPLIES,
    "modbus_previous": Outcome.PREVIOUS,
    "dlt645_other_edition": Outcome.OTHER_EDITION,
    "dlt645_other_question": Outcome.OTHER_QUESTION,
    "dlt645_other_meter": Outcome.FOREIGN,
}
_BY_CLASS = (
    (AbsentRegister, Outcome.ABSENT),
    (AccessDenied, Outcome.DENIED),
    (Refused, Outcome.REFUSED),
    (DecodeError, Outcome.UNREADABLE),
    (WrongMeter, Outcome.FOREIGN),
    (FrameError, Outcome.DAMAGED),
    (NoReply, Outcome.NOTHING),
)

_GATEWAY = {b"\x0a": Outcome.GATEWAY_PATH, b"\x0b": Outcome.GATEWAY_TARGET}
"""What a gateway says in the meter's place."""


def outcome_of(error: MeterError) -> Outcome:
    """What an error says of its question."""
    text = error.text
    if isinstance(text, Sentence):
        if text.key == "modbus_gateway":
            return Outcome.GATEWAY_PATH if text.facts.get("code") == "10" else Outcome.GATEWAY_TARGET
        if text.key == "modbus_refused" and isinstance(error, Refused) and error.code == 1:
            return Outcome.FUNCTION
        if text.key in _BY_KEY:
            return _BY_KEY[text.key]
    return next((outcome for cls, outcome in _BY_CLASS if isinstance(error, cls)), Outcome.NOTHING)


@dataclass(frozen=True, slots=True)
class Heard:
    """One question that was not simply answered: what came, at most one frame of it, and how much a reply has."""

    at: float
    outcome: Outcome
    raw: bytes = b""
    size: int = 0
    expected: int = 0
    request: bytes = b""


class Stillness:
    """Whether energy is counted as power flows. Takes readings without multiplier."""

    def __init__(self) -> None:
        self.missing_kwh = 0.0
        """What the energy register should have counted since it last moved, by the last time that it was read."""
        self.moved = False
        """True once the register was seen to move."""
        self._flowed_kwh = 0.0
        self._level: object = None
        self._power: tuple[float, datetime] | None = None

    @property
    def zero(self) -> bool:
        """True where all energy registers read zero."""
        return isinstance(self._level, tuple) and bool(self._level) and not any(self._level)

    def add(self, power_kw: float | None, energy: object, at: datetime) -> None:
        """Takes what was read at an instant; None where it was not."""
        if power_kw is not None:
            if self._power is not None:
                hours = max(0.0, (at - self._power[1]).total_seconds()) / 3600
                # Power that was not read for long says nothing about the time between.
                if hours < 0.5:
                    self._flowed_kwh += hours * min(abs(power_kw), abs(self._power[0]))
            self._power = power_kw, at
        if energy is not None:
            if energy != self._level:
                self.moved = self.moved or self._level is not None
                self._level, self._flowed_kwh = energy, 0.0
            self.missing_kwh = self._flowed_kwh


class MeterEvidence:
    """What was seen of one meter."""

    def __init__(self, template: Template | None = None, address: str = "", *, generates: bool = False) -> None:
        self.template, self.address, self.generates = template, address, generates
        self.before: Exchange[Any] | None = None
        """The question before."""
        self.counts: Counter[Outcome] = Counter()
        self.recent_answers = 0
        """Answers since the oldest of the failures that are remembered."""
        self.marks: Counter[Mark] = Counter()
        self.recent: deque[Heard] = deque(maxlen=WINDOW)
        self.answered_at: float | None = None
        """When it last answered with values."""
        self.alive_at: float | None = None
        """When it last said anything."""
        self.failed_at: float | None = None
        self.refused: dict[bytes, Outcome] = {}
        """Questions that it refused and never answered."""
        self.given: set[bytes] = set()
        """Questions that it answered."""
        self.late = 0
        self.late_s = 0.0
        """The longest turn-round of a reply that came after its time-out."""
        self.contradicted = 0
        """Readings that passed their check and were damaged nonetheless: the next ones contradicted them."""
        self.thinks_s = 0.0
        """How long it takes to begin a reply, on average."""
        self.odd = False
        """True where its values look wrong, so that they should be looked at as a whole."""
        self.visits: deque[dict[Obis, Reading]] = deque(maxlen=VISITS)
        self.still = Stillness()
        self.flags: Counter[Flag] = Counter()
        self.zeroed = False
        """An energy register fell, to zero or nearly so."""
        self.usual_kw: float | None = None
        self.clock_offset_s: float | None = None
        self.misfit: Misfit | None = None
        self.swapped: tuple[str, str] | None = None
        """The serial number that it should have, and the one that it has."""
        self._levels: dict[Obis, float] = {}
        self._before = self._behind = b""
        self._whole: tuple[dict[Obis, Reading], dict[Obis, Reading]] = {}, {}
        """The last two visits with power or voltages, of which all is kept."""

    @classmethod
    def of(cls, poll: PollMeter) -> MeterEvidence:
        """No evidence yet of a meter that is polled."""
        said = "" if poll.point is None else poll.point.attributes.get("generation", "")
        generates = said.strip().lower() not in ("", "0", "no", "false", "否", "无")
        return cls(poll.template, poll.address, generates=generates)

    def heard(self, exchange: Exchange[Any], error: MeterError | None, at: float, outcome: Outcome | None) -> None:
        """Notes what became of a question. `outcome` where more is known than the error says."""
        request = exchange.request
        if error is None:
            self.counts[Outcome.ANSWERED] += 1
            self.recent_answers = min(self.recent_answers + 1, 20 * WINDOW)
            self.answered_at = self.alive_at = at
            question = _question(request)
            self.given.add(question)
            self.refused.pop(question, None)
            if exchange.before or exchange.behind:
                self._beside(exchange)
            return
        outcome = outcome or outcome_of(error)
        if outcome is Outcome.LATE:
            outcome = _late_is(error.raw, request)
        self.counts[outcome] += 1
        if outcome in ANSWERS:
            self.alive_at = at
            self.refused[_question(request)] = outcome
            self.given.discard(_question(request))
        else:
            self.failed_at = at
        raw = error.raw
        if len(self.recent) == WINDOW:
            self.recent_answers = self.recent_answers * (WINDOW - 1) // WINDOW
        self.recent.append(Heard(at, outcome, raw[:KEPT_BYTES], len(raw), exchange.reply_bytes, request))

    def _beside(self, exchange: Exchange[Any]) -> None:
        """Notes what stood beside a good reply."""
        before, behind = exchange.before, exchange.behind
        at = before.find(exchange.request)
        if at >= 0:
            self.marks[Mark.ECHO] += 1
            before = before[:at] + before[at + len(exchange.request) :]
        if exchange.protocol == "dlt645":
            before = before.rstrip(b"\xfe")
        for part, always in ((before, self._before), (behind, self._behind)):
            if not part:
                continue
            if _late_word(part):
                # A gateway says of an earlier question that nobody answered.
                continue
            if _GLITCH.issuperset(part):
                mark = Mark.GLITCH
            elif frames(part):
                mark = Mark.GLUED
            elif part is before and len(part) > 1 and (part == always or (len(part) > 3 and is_text(part))):
                mark = Mark.PREFIX
            else:
                mark = Mark.NOISE
            self.marks[mark] += 1
        self._before, self._behind = before or self._before, behind or self._behind

    def thinks(self, turnround_s: float) -> None:
        """Notes how long it took to begin a reply."""
        self.thinks_s += (turnround_s - self.thinks_s) / 8 if self.thinks_s else turnround_s

    @property
    def owes(self) -> bool:
        """True where its last question was not answered, so that the reply may still come."""
        return bool(self.failed_at) and (self.answered_at is None or self.answered_at <= (self.failed_at or 0.0))

    def was_late(self, turnround_s: float) -> None:
        """A reply came after its time-out."""
        self.late += 1
        self.late_s = max(self.late_s, turnround_s)
        self.counts[Outcome.LATE] += 1

    def was_missed(self, request: bytes, error: MeterError) -> None:
        """A gateway said, after its question's time-out, why nothing came."""
        for place in range(len(self.recent) - 1, -1, -1):
            one = self.recent[place]
            if one.request == request and one.outcome in (Outcome.NOTHING, Outcome.LATE):
                outcome = outcome_of(error)
                self.counts[one.outcome] -= 1
                self.counts[outcome] += 1
                self.recent[place] = replace(one, outcome=outcome)
                return

    def took(self, readings: Iterable[Reading]) -> None:
        """Notes validated readings, before the multiplier."""
        found = {one.obis: one for one in readings}
        if not found:
            return
        first = next(iter(found.values()))
        power = found.get(_POWER)
        levels = [one for obis in _ENERGIES if (one := found.get(obis)) is not None]
        # Both directions: a transformer that was turned counts in the other one, but that one alone says nothing.
        energy = tuple(one.value for one in levels) if levels and levels[0].obis != _ENERGIES[-1] else None
        self.still.add(None if power is None else float(power.value), energy, first.at)
        for one in levels:
            obis, level = one.obis, float(one.value)
            before = self._levels.get(obis)
            self.zeroed = (before is not None and before > 1 and level < before / 1000) or (self.zeroed and level < 1)
            if not self.zeroed:
                self._levels[obis] = level
        for one in found.values():
            for flag in one.flags:
                self.flags[flag] += 1
        if len(found) > 1 or power is not None:
            self.visits.append(found)
            if not _SUPPLY.isdisjoint(found):
                self._shorten(found)

    def _shorten(self, visit: dict[Obis, Reading]) -> None:
        """Of all but the last two visits with them, volts and amperes are forgotten: a thousand meters are many."""
        old, self._whole = self._whole[0], (self._whole[1], visit)
        power = old.get(_POWER)
        old.clear()
        if power is not None:
            old[_POWER] = power

    def since_answered(self) -> list[Heard]:
        """The failures since it last answered with values, oldest first."""
        since = self.answered_at
        return [one for one in self.recent if since is None or one.at >= since]


def _late_is(raw: bytes, request: bytes) -> Outcome:
    """What frames mean that came late on Modbus TCP: who lets its gateway say that it is missing is not slow."""
    own = [frame.pdu for frame in TcpFramer("client").feed(raw) if frame.unit == request[6]]
    for pdu in own:
        if pdu[0] < 0x80 or pdu[1:] not in _GATEWAY:
            return Outcome.LATE
    return _GATEWAY[own[-1][1:]] if own else Outcome.NOTHING


def _late_word(part: bytes) -> bool:
    """Whether bytes are nothing but a gateway's word on other questions."""
    said = TcpFramer("client").feed(part)
    return (
        bool(said) and len(part) == 9 * len(said) and all(one.pdu[0] > 0x7F and one.pdu[1:] in _GATEWAY for one in said)
    )


def is_text(data: bytes) -> bool:
    """True where bytes are what people write."""
    return all(0x20 <= byte < 0x7F or byte in b"\r\n\t" for byte in data)


def frames(data: bytes) -> int:
    """How many whole frames of any protocol are in bytes that were heard."""
    return len(RtuFramer("client").feed(data)) + len(TcpFramer("client").feed(data)) + len(Framer().feed(data))


def _question(request: bytes) -> bytes:
    """A request without the number of its transaction."""
    return request[2:] if request[2:4] == b"\0\0" else request


@dataclass(slots=True)
class LineEvidence:
    """What was seen of a line and of all its meters."""

    settings: LineSettings = field(default_factory=LineSettings)
    network: bool = False
    """True where the line is reached over TCP."""
    connected: bool = True
    problem: str | None = None
    lost: int = 0
    """How often the connection was lost."""
    meters: dict[str, MeterEvidence] = field(default_factory=dict)
    stray: bytes = b""
    """What was last heard while nobody was asked."""
    stray_bytes: int = 0
    echoes: bool = False
    numbers_kept: bool = True
    """False where the far end is known not to send transaction numbers back."""
    _before: Exchange[Any] | None = None

    def meter(self, key: str, make: Callable[[], MeterEvidence] = MeterEvidence) -> MeterEvidence:
        """The evidence of a meter, made where there is none."""
        if (one := self.meters.get(key)) is None:
            one = self.meters[key] = make()
        return one

    def heard(self, meter: MeterEvidence | None, exchange: Exchange[Any], error: MeterError | None, at: float) -> bool:
        """Notes what became of a question; True where what came was the reply to the question before it."""
        outcome = None
        if error is not None and error.raw and not isinstance(error, Refused):
            # A gateway keeps back replies of the line, a meter those to its own questions.
            befores = (self._before, None if meter is None else meter.before)
            if any(one is not None and one.request != exchange.request and one.fits(error.raw) for one in befores):
                outcome = Outcome.PREVIOUS
        self._before = exchange
        if meter is not None:
            meter.before = exchange
            meter.heard(exchange, error, at, outcome)
        return outcome is Outcome.PREVIOUS

    def heard_unasked(self, data: bytes) -> None:
        """Notes bytes that came while nobody was asked."""
        self.stray = (self.stray + data)[-KEPT_BYTES:]
        self.stray_bytes += len(data)

    def answering(self, apart_from: MeterEvidence, at: float, within_s: float = 600.0) -> tuple[int, int]:
        """How many of the other meters answered lately, and how many others there are that were asked."""
        others = [one for one in self.meters.values() if one is not apart_from and one.counts]
        there = [one for one in others if one.alive_at is not None and at - one.alive_at <= within_s]
        return len(there), len(others)
