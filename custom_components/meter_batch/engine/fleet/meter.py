"""What the poller knows of one meter: how fast it answers, what it has, whether it is there, what is due."""

from __future__ import annotations

import math
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
from ..template import Group, ModbusRequest, Request, Template, plan
from ..template.schema import GROUPS
from .identity_watch import Watch
from .lessons import Lessons, Models, applied
from .mute import Mutes
from .refusal import Causes
from .request import check_address, singles, timing
from .turnround import FLOOR_S, MOST_S, Preamble, Turnround
from .validate import Validator

PROBE_FLOOR_S = 0.150
BACKOFF_S = 2.0
MISSES_TO_SILENCE = 2.0
DAMAGED_MISS = 0.5
"""A reply that came, but damaged or from elsewhere, says less against a meter than none."""
RETRY_SHAPE_S, RETRY_SHAPE_CAP_S = 86_400.0, 30 * 86_400.0
"""When a meter is asked again for what it refused between registers, or for its length: doubled while it refuses."""
RETRY_FIRST_S, RETRY_CAP_S = 60.0, 86_400.0
"""The same for registers that it refused: it may just have been starting."""
RETRY_INHERITED_S = 3600.0
"""The same where only its model is known to lack them."""
RETRIED_AT_ONCE = 2
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


@dataclass(slots=True)
class _Again:
    """When a register that was refused is asked for again."""

    at: float
    pause_s: float


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

    def __init__(
        self,
        poll: PollMeter,
        settings: LineSettings,
        first_s: float,
        models: Models | None = None,
        *,
        steady: bool = False,
    ) -> None:
        """`models`: what others of its model have taught; `steady`: nothing is to be tried out."""
        self.poll = poll
        self._settings = settings
        self._models = Models() if models is None else models
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
        self.lessons = known = self._models.start(poll.template.id)
        """What it is known to refuse, by itself or by others of its model."""
        self.template = applied(poll.template, known)
        guess = None if known.turnround_s is None else (known.turnround_s, known.jitter_s or known.turnround_s / 2)
        self.turnround = Turnround(first_s, FLOOR_S[family], guess)
        self.preamble = Preamble(max(settings.preamble, poll.template.dlt645.preamble), known.preamble, fixed=steady)
        self.longest = 0
        """How many words the longest Modbus answer had."""
        self._tested = known.shape == Lessons(poll.template.id).shape
        """Whether it has found out for itself what it refuses."""
        self._again: dict[Obis, _Again] = {}
        self._shape_at, self._shape_pause_s = math.inf, RETRY_SHAPE_S
        self.misses = 0.0
        self.silent = False
        self.backoff_s = 0.0
        self.probe_at = 0.0
        self.due: dict[Group, float] = {}
        self.snapshot_for: datetime | None = None
        """The boundary for which the energies are still to be read."""
        self._wanted: dict[tuple[Group, ...], frozenset[Obis]] = {}
        self.mutes = Mutes()
        self.watch = Watch(poll.template)
        self.nonsense = 0
        """How many visits in a row brought hardly a value that can be."""
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
        mean = self.turnround.expected_s
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
            self.watch.came_back()
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

    @property
    def absent(self) -> frozenset[Obis]:
        """Registers that it is known not to have."""
        return self.lessons.refused

    def gave(self, request: Request) -> None:
        """It answered this with values."""
        self.mutes.gave(request)
        if isinstance(request, ModbusRequest):
            self.longest = max(self.longest, request.count)
        if self.absent and (back := self.absent & {one.obis for one in request.registers}):
            for obis in back:
                self._again.pop(obis, None)
            self._learned(replace(self.lessons, refused=self.absent - back))

    def learn(self, causes: Causes, lone: str | None, now: float) -> None:
        """Remembers what it refused, so that the next plan leaves that out. `lone`: a block that it does not know."""
        for obis in causes.absent:
            old = self._again.get(obis)
            pause_s = RETRY_FIRST_S if old is None else min(RETRY_CAP_S, 2 * old.pause_s)
            self._again[obis] = _Again(now + pause_s, pause_s)
        old_words, new_words = self.lessons.max_words, causes.max_words
        learned = replace(
            self.lessons,
            refused=self.absent | causes.absent,
            cuts=self.lessons.cuts | causes.cuts,
            lone=self.lessons.lone if lone is None else self.lessons.lone | {lone},
            max_words=old_words if new_words is None else min(new_words, old_words or new_words),
        )
        if self._shape_at == math.inf and learned.shape != self.lessons.shape:
            self._shape_at = now + self._shape_pause_s
        self._learned(learned)

    def _learned(self, lessons: Lessons) -> None:
        if lessons == self.lessons:
            return
        self.lessons = lessons
        self.template = applied(self.poll.template, lessons)
        self._wanted.clear()

    def teach(self) -> None:
        """All that it was asked for was answered: what it has found out counts for its model too."""
        mean = self.turnround.mean_s if self.turnround.known else None
        so_far, jitter = self.lessons, None if mean is None else self.turnround.jitter_s
        # Written out, because this is after every visit and `replace` costs several times as much.
        found = Lessons(
            so_far.model,
            so_far.max_words,
            so_far.cuts,
            so_far.refused,
            so_far.lone,
            self.preamble.learned,
            mean,
            jitter,
        )
        self._models.vote(self.poll.key, found, tested=self._tested)

    def try_again(self, now: float) -> list[Request]:
        """Some of what it refused is to be asked for again; and now and then all that lies between and is long."""
        if self._shape_at == math.inf and not self._tested:
            self._shape_at = now + self._shape_pause_s
        elif self._shape_at <= now:
            self._shape_at, self._shape_pause_s = math.inf, min(RETRY_SHAPE_CAP_S, 2 * self._shape_pause_s)
            self._tested = True
            self._learned(Lessons(self.lessons.model, refused=self.absent))
        for obis in self.absent - self._again.keys():
            self._again[obis] = _Again(now + RETRY_INHERITED_S, RETRY_INHERITED_S)
        wish = self.poll.wanted
        due = [
            (obis, again) for obis, again in self._again.items() if again.at <= now and (wish is None or obis in wish)
        ]
        requests: list[Request] = []
        for obis, again in due[:RETRIED_AT_ONCE]:
            again.at = now + again.pause_s
            requests += plan(self.poll.template, {obis}, timing(self._settings, self.template, 0.05))
        return requests

    @property
    def again_at(self) -> float:
        """When the next register that it refused is to be asked for again."""
        return min((one.at for one in self._again.values()), default=math.inf)

    def replaced(self) -> None:
        """Another meter is there now: nothing that was learned of the old one holds."""
        self.validator.swapped()
        self._forget_refusals()

    def _forget_refusals(self) -> None:
        """It was away: it may be another one now, or have refused because it was just starting."""
        lessons = self._models.forget(self.poll.key, self.lessons.model)
        self._tested = lessons.shape == Lessons(lessons.model).shape
        self._again.clear()
        self._shape_at, self._shape_pause_s = math.inf, RETRY_SHAPE_S
        self._learned(lessons)


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
