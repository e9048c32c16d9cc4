"""What the poller knows of one meter: how fast it answers, what it has, whether it is there, what is due."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum, auto
from statistics import median

from ..errors import ConfigError, MeterError, NoReply
from ..line import LineSettings
from ..model.obis import Obis
from ..model.point import Point
from ..sentences import say, together
from ..template import DltItem, Group, ModbusRequest, ModbusWords, Register, Request, Template, plan
from ..template.schema import GROUPS
from .mute import Mutes
from .request import check_address, singles, timing
from .validate import Validator

SPARE_S = 0.050
"""What every time-out allows on top of what was seen."""
FLOOR_S = {"modbus": 0.350, "dlt645": 0.600}
"""Shortest time-out of a meter that answers: it costs nothing while it does, and one reply in a hundred is slow."""
MOST_S = 10.0
PROBE_FLOOR_S = 0.150
BACKOFF_S = 2.0
MISSES_TO_SILENCE = 2.0
DAMAGED_MISS = 0.5
"""A reply that came, but damaged or from elsewhere, says less against a meter than none."""
FORGET_S = 86_400.0
PLANNED_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""Turn-rounds for which requests are planned: not a new plan for every reply."""


@dataclass(frozen=True, slots=True)
class PollMeter:
    """A meter to poll. `key` names it in reports; `wanted` registers, all of the template where None."""

    key: str
    name: str
    template: Template
    address: str
    protocol: str
    wanted: frozenset[Obis] | None = None
    point: Point | None = None
    """Its multiplier is applied to what is read."""


class Turnround:
    """How long a meter takes to begin its reply: estimated as TCP does it (RFC 6298), and its slowest recent ones."""

    def __init__(self, first_s: float, floor_s: float) -> None:
        self._first_s, self._floor_s = first_s, floor_s
        self.mean_s: float | None = None
        self._deviation_s = 0.0
        self._recent: deque[float] = deque(maxlen=100)

    def add(self, seconds: float) -> None:
        """Takes the turn-round of a reply."""
        self._recent.append(seconds)
        if self.mean_s is None:
            self.mean_s, self._deviation_s = seconds, seconds / 2
        else:
            self._deviation_s += (abs(seconds - self.mean_s) - self._deviation_s) / 4
            self.mean_s += (seconds - self.mean_s) / 8

    @property
    def usual_s(self) -> float | None:
        """What nearly all replies keep; None where none came yet."""
        return None if self.mean_s is None else self.mean_s + 4 * self._deviation_s + SPARE_S

    @property
    def timeout_s(self) -> float:
        """How long to wait for the beginning of a reply."""
        usual = self.usual_s
        if usual is None:
            return self._first_s
        return min(MOST_S, max(self._floor_s, usual, 1.5 * max(self._recent) + SPARE_S))


class Miss(Enum):
    """What a question without a good answer says of a meter."""

    ONCE = auto()
    """Nothing yet."""
    DIVIDED = auto()
    """The meter is there, but does not answer this: from now on it is asked in parts, or more rarely."""
    IGNORED = auto()
    """The same as before: it still ignores this."""
    SILENT = auto()
    """From now on it counts as not there."""


class Meter:
    """The state of one meter on a line. Instants without zone are the poller's monotonic seconds."""

    def __init__(self, poll: PollMeter, settings: LineSettings, first_s: float) -> None:
        self.poll = poll
        self._settings = settings
        self.validator = Validator(poll.template)
        self.flaw: MeterError | None = None
        """Why it cannot be polled at all."""
        try:
            self.address = check_address(poll.protocol, poll.address)
        except ConfigError as error:
            self.address = poll.address
            self.flaw = MeterError(say("meter_flaw", name=poll.name, error=error.text))
        family = "modbus" if poll.protocol == "modbus" else "dlt645"
        if self.flaw is None and poll.template.protocol != poll.protocol:
            self.flaw = MeterError(
                say("model_speaks_other", name=poll.name, model=poll.template.id, protocol=poll.protocol)
            )
        self.template = poll.template
        self.turnround = Turnround(first_s, FLOOR_S[family])
        self.misses = 0.0
        self.silent = False
        self.backoff_s = 0.0
        self.probe_at = 0.0
        self.due: dict[Group, float] = {}
        self.snapshot_for: datetime | None = None
        """The boundary for which the energies are still to be read."""
        self.absent: set[Obis] = set()
        self._wanted: dict[tuple[Group, ...], frozenset[Obis]] = {}
        self._learned_at = 0.0
        self.mutes = Mutes()
        self._carefully: tuple[tuple[Template, frozenset[Obis]], tuple[Template, Template]] | None = None
        self._probes = 0

    def takes(self, poll: PollMeter) -> bool:
        """Takes over changed wishes; False where it is another meter now, of which nothing is known."""
        old = self.poll
        if (old.template, old.address, old.protocol) != (poll.template, poll.address, poll.protocol):
            return False
        if old.wanted != poll.wanted:
            self.due.clear()
        if old.point is not None and poll.point is not None and old.point.meter != poll.point.meter:
            self.validator.forget()
        self.poll = poll
        self._wanted.clear()
        return True

    # --- what to ask

    def wanted(self, groups: Iterable[Group]) -> frozenset[Obis]:
        """The registers of some groups that are wanted and that the meter has."""
        key = tuple(groups)
        if key not in self._wanted:
            wish = self.poll.wanted
            self._wanted[key] = frozenset(
                one.obis for one in self.template.registers if one.group in key and (wish is None or one.obis in wish)
            )
        return self._wanted[key]

    def groups(self) -> tuple[Group, ...]:
        """The groups in which anything is wanted."""
        return tuple(group for group in GROUPS if self.wanted((group,)))

    def requests(self, obis: Iterable[Obis], now: float | None = None) -> tuple[Request, ...]:
        """The fewest seconds of line for some registers; at an instant without those that it ignores until later."""
        mean = self.turnround.mean_s
        usual = 0.05 if mean is None else min(PLANNED_S, key=lambda one: abs(one - mean))
        together, parts = self.mutes.split(frozenset(obis), now)
        whole, divided = self._careful() if self.mutes.divided else (self.template, self.template)
        cost = timing(self._settings, self.template, usual)
        apart = (request for part in parts for request in plan(divided, part, cost))
        return (*plan(whole, together, cost), *apart)

    def _careful(self) -> tuple[Template, Template]:
        """The model without what this meter ignores, and read so that no request runs over that; and for parts."""
        key = self.template, self.mutes.ignored
        if self._carefully is None or self._carefully[0] != key:
            template, ignored = key
            words = replace(template.modbus, holes=False)
            self._carefully = (
                key,
                (
                    replace(
                        template, modbus=words, registers=tuple(o for o in template.registers if o.obis not in ignored)
                    ),
                    replace(template, modbus=words, dlt645=replace(template.dlt645, blocks=False)),
                ),
            )
        return self._carefully[1]

    @property
    def probe(self) -> Request:
        """A cheap question, of those that it answered before; after each failure another."""
        every = self._singles()
        questions = [one for one in every if self.mutes.gives(one)] or every
        return questions[self._probes % len(questions)]

    def behind(self, request: Request, rest: list[Request]) -> list[Request]:
        """The rest of some requests, and then one that failed: what answered before first, or one more that did.

        So the next exchange tells whether the meter is there at all.
        """
        sure = [one for one in rest if self.mutes.gives(one)]
        unsure = [one for one in rest if one not in sure]
        own = {one.obis for one in request.registers}
        others = [one for one in self._singles() if own.isdisjoint(register.obis for register in one.registers)]
        if not sure:
            sure = [one for one in others if self.mutes.gives(one)][:1]
        if not sure and not unsure:
            sure = list(others[:1])
        return [*sure, *unsure, request]

    def _singles(self) -> tuple[Request, ...]:
        return singles(self.template if self.template.registers else self.poll.template)

    # --- whether it is there

    def answered(self) -> None:
        """Something came from it."""
        self.misses = 0.0
        self.mutes.answered()
        if self.silent:
            self.silent = False
            if self.snapshot_for is not None:
                self.due.pop("energy", None)
            self._forget_refusals()

    def was_slow(self, turnround_s: float) -> None:
        """A reply came after its time-out."""
        self.turnround.add(turnround_s)
        self.mutes.forgive()
        self.answered()

    def missed(self, request: Request, error: MeterError, now: float) -> Miss:
        """Nothing useful came. What that says of the meter."""
        weight = 1.0 if isinstance(error, NoReply) else DAMAGED_MISS
        known = not self.mutes.ignored.isdisjoint(one.obis for one in request.registers)
        if self.mutes.missed(request, weight, now):
            return Miss.IGNORED if known else Miss.DIVIDED
        self.misses += weight
        if self.silent or self.misses < MISSES_TO_SILENCE:
            return Miss.ONCE
        self.silent = True
        self._probes = 0
        self.backoff_s = BACKOFF_S
        self.probe_at = now + self.backoff_s
        return Miss.SILENT

    def probe_failed(self, now: float, cap_s: float) -> None:
        """It is still not there: asked again after twice the time."""
        self._probes += 1
        self.backoff_s = min(cap_s, 2 * self.backoff_s)
        self.probe_at = now + self.backoff_s

    def probe_timeout_s(self, others: Iterable[Turnround]) -> float:
        """How long to wait for a meter that is probably not there: short, for the line remembers late replies."""
        usual = self.turnround.usual_s
        if usual is None:
            known = [one.usual_s for one in others if one.usual_s is not None]
            usual = median(known) if known else MOST_S
        return min(self.turnround.timeout_s, max(PROBE_FLOOR_S, usual))

    # --- what it refuses

    def forget_old_refusals(self, now: float) -> None:
        """Once a day a meter is asked for everything again: it may have refused because it was just starting."""
        if self.template is not self.poll.template and now > self._learned_at + FORGET_S:
            self._forget_refusals()

    def _forget_refusals(self) -> None:
        self.absent.clear()
        self._wanted.clear()
        self.template = self.poll.template

    def learn(self, refused: list[Request], absent: set[Obis], longest: int, now: float) -> None:
        """Remembers what it refused, so that the next plan leaves that out.

        `longest`: how many words the longest Modbus request had that it answered in place of a refused one.
        """
        self.absent |= absent
        self._learned_at = now
        self._wanted.clear()
        template = self.template
        for request in refused:
            if isinstance(request, ModbusRequest):
                if not absent & {one.obis for one in request.registers} and len(request.registers) > 1:
                    # All its registers are there: it is the addresses between them, or the length.
                    if template.modbus.holes:
                        template = replace(template, modbus=replace(template.modbus, holes=False))
                    elif longest:
                        template = replace(template, modbus=replace(template.modbus, max_words=longest))
            else:
                members = {one.obis for one in request.registers}
                template = replace(
                    template, registers=tuple(_alone(one) if one.obis in members else one for one in template.registers)
                )
        self.template = replace(
            template, registers=tuple(one for one in template.registers if one.obis not in self.absent)
        )


def _alone(register: Register) -> Register:
    """The register without the block that the meter does not know."""
    locator = register.locator
    if isinstance(locator, ModbusWords):
        return register
    return replace(register, locator=DltItem(locator.single, 0, locator.single))


class _Conflict(MeterError):
    """Two meters with one address."""


def find_conflicts(meters: Iterable[Meter]) -> str | None:
    """Marks meters that have one address on one line: they would be taken for each other, so none of them is read.

    Returns what is wrong, in plain words.
    """
    at: dict[tuple[bool, str], list[Meter]] = {}
    for meter in meters:
        meter.flaw = None if isinstance(meter.flaw, _Conflict) else meter.flaw
        at.setdefault((meter.poll.protocol == "modbus", meter.address), []).append(meter)
    texts = []
    for (modbus, address), those in at.items():
        if len(those) > 1:
            names = ", ".join(f'"{meter.poll.name}"' for meter in those)
            texts.append(say("unit_shared" if modbus else "address_shared", names=names, address=address))
            for meter in those:
                meter.flaw = _Conflict(texts[-1])
    return together(texts) if texts else None
