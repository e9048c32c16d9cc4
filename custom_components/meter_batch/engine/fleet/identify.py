"""Which model a meter is: by what it says of itself, else by whose volts and hertz stand where a model has them.

Few questions: each distinct read of volts and hertz once, models that were found on this line first, and once one
fits beyond doubt only those that read the same addresses. Models that share a map cannot be told apart by it; then
they stand side by side with one score.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import DecodeError, FrameError, MeterError, NoReply, Refused, WrongMeter
from ..line import Line, Reply
from ..model.quantity import BY_KEY, Measure
from ..model.reading import Reading
from ..protocol.dlt645.exchange import ReadData
from ..protocol.modbus.exchange import ReadRegisters
from ..sentences import Sentence, say
from ..template import (
    Dlt645Request,
    IdentityRequest,
    ModbusRequest,
    Request,
    Template,
    available,
    decode,
    identity_requests,
    load,
    plan,
)
from ..template.fit import fit, misfit

TRIES = 3
"""How often a question is asked whose reply was damaged."""
SILENCES = 3
"""After so many questions without a reply in a row it is made sure that the meter is still there."""
LONGEST_S = 0.7
SLOWEST_S = 3.0
"""For a meter that does not answer any more: it may be slower than any should be."""
CERTAIN = 0.99
LIKELY = 0.5
CANDIDATES = 6
"""How many are told at most, ties with the last not counted."""
SAYS_SO, DENIES = 200.0, 0.005
"""What a model code does to the odds."""
REFUSED = 0.2
"""A model whose volts or hertz the meter refuses is unlikely."""
MOST_ODDS = 99.0
"""Of what is measured; only a model code can say more."""
TIE = 0.005
"""Scores that are nearer than this say the same."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that a meter may be; `score` from 0 to 1, equal where nothing tells them apart."""

    template_id: str
    score: float
    reasons: tuple[Sentence, ...] = ()


@dataclass(frozen=True, slots=True)
class Identified:
    """What was found out about one meter. `readings` are what it shows, read as the best model."""

    models: tuple[Candidate, ...] = ()
    serial: str | None = None
    readings: tuple[Reading, ...] = ()
    garbled: bool = False
    """True where replies to the meter's own registers come damaged again and again."""
    problem: Sentence | None = None


@dataclass
class Identifier:
    """Identifies meters of one line, one after the other, and remembers which models are there."""

    line: Line
    templates: Sequence[Template] = ()
    usual: list[str] = field(default_factory=list)
    """Models that were found, the newest first."""
    questions: int = 0

    def __post_init__(self) -> None:
        if not self.templates:
            self.templates = [load(one) for one in available()]

    async def identify(self, protocol: str, address: str, *, turnround_s: float = LONGEST_S) -> Identified:
        """Which of the models that speak a protocol the meter is. Raises LineError."""
        asker = _Asker(self.line, protocol, address, turnround_s)
        models = [one for one in self.templates if one.protocol == protocol]
        try:
            found = await self._identify(asker, models)
        except _Silent as silent:
            found = Identified(problem=say("identify_silent", meter=address))
            if silent.slow and turnround_s < SLOWEST_S:
                return await self.identify(protocol, address, turnround_s=SLOWEST_S)
        self.questions += asker.questions
        if asker.damaged >= 2 * TRIES:
            return Identified(found.models, found.serial, found.readings, garbled=True, problem=found.problem)
        if found.models and found.models[0].score > LIKELY:
            best = found.models[0].template_id
            self.usual = [best, *(one for one in self.usual if one != best)]
        return found

    async def _identify(self, asker: _Asker, models: list[Template]) -> Identified:
        scored = await self._by_volts(asker, models)
        likely = [one for one in scored if one.score > LIKELY]
        if len(likely) > 1:
            for one in likely:
                await self._ask_code(asker, one)
            rivals = [one for one in likely if one.said >= max(two.said for two in likely)]
            if len(rivals) > 1:
                await self._compare(asker, rivals)
            for one in likely:
                one.odds *= one.said
        for one in scored:
            one.odds = min(one.odds, MOST_ODDS * max(1.0, one.said))
        scored.sort(key=lambda one: (-one.score, one.template.id))
        if not scored or scored[0].score <= LIKELY:
            problem = next((one.nonsense for one in scored if one.nonsense), None) or say("identify_unknown")
            return Identified(tuple(one.candidate for one in scored[:CANDIDATES]), problem=problem)
        top = scored[0]
        readings = {one.obis: one for one in top.readings}
        for request in plan(top.template, _shown_too(top.template) - readings.keys()):
            readings |= {one.obis: one for one in await asker.readings(request)}
        serial = await self._serial(asker, [one.template for one in scored if top.score - one.score < TIE])
        shown = [one for one in scored if one.score > LIKELY]
        last = shown[CANDIDATES - 1].score if len(shown) > CANDIDATES else 0.0
        told = tuple(one.candidate for one in shown if one.score >= last)
        return Identified(told, serial, tuple(readings.values()))

    async def _by_volts(self, asker: _Asker, models: list[Template]) -> list[_Scored]:
        """Every model with what its volts and hertz say, as far as that had to be asked."""
        scored: list[_Scored] = []
        certain: set[_Words] = set()
        for template in sorted(models, key=self._rank):
            requests = plan(template, _judging(template))
            words = {one for request in requests for one in _words(request)}
            if certain and not certain & words:
                continue
            one = _Scored(template, words)
            for request in requests:
                one.readings += await asker.readings(request)
                one.refused += asker.refused(request)
                one.nonsense = one.nonsense or asker.nonsense(template, request)
            one.judge()
            scored.append(one)
            if one.score >= CERTAIN:
                certain |= words
        # Those that read other addresses stay in only where nothing else was certain.
        return [one for one in scored if not certain or certain & one.words]

    def _rank(self, template: Template) -> tuple[int, int, str]:
        known = self.usual.index(template.id) if template.id in self.usual else len(self.usual)
        # Three phases tell more than one, so their maps are tried before the shorter ones that they contain.
        return known, -template.phases, template.id

    async def _ask_code(self, asker: _Asker, one: _Scored) -> None:
        for request in identity_requests(one.template):
            if "model" in request.about:
                code = (await asker.identity(request)).get("model")
                said = one.template.identity.is_model(code)
                if said is not None:
                    one.said = SAYS_SO if said else DENIES
                if said and code is not None:
                    one.reasons = (say("identify_code", code=code), *one.reasons)

    async def _compare(self, asker: _Asker, rivals: Sequence[_Scored]) -> None:
        """Reads what the models measure now: the one that explains most of what the meter shows wins."""
        live: list[int] = []
        for one in rivals:
            wanted = {own.obis for own in one.template.registers if own.group == "fast"} | _judging(one.template)
            one.readings = []
            for request in plan(one.template, wanted):
                one.readings += await asker.readings(request, parts=True)
            before = one.odds
            one.judge()
            one.odds = min(MOST_ODDS, max(before, one.odds))
            shown = {reading.obis for reading in one.readings if reading.value}
            volts = {own.obis for own in one.template.registers if own.quantity.measure is Measure.VOLTAGE}
            # What the model has and the meter does not show speaks against it, voltages most of all.
            one.odds *= (_share(shown, wanted) * _share(shown, volts)) ** 2
            live.append(len(shown))
        for one, count in zip(rivals, live, strict=True):
            one.odds *= (max(1, count) / max(1, *live)) ** 3
        scale = MOST_ODDS / max(MOST_ODDS / 4, *(one.odds for one in rivals))
        for one in rivals:
            one.odds *= min(4.0, scale)

    async def _serial(self, asker: _Asker, templates: Iterable[Template]) -> str | None:
        for template in templates:
            for request in identity_requests(template):
                if "serial" in request.about and (serial := (await asker.identity(request)).get("serial")):
                    return serial
        return None


type _Words = tuple[int, int] | str
"""A register or identifier that is read."""


@dataclass
class _Scored:
    """A model under consideration."""

    template: Template
    words: set[_Words]
    readings: list[Reading] = field(default_factory=list)
    refused: int = 0
    odds: float = 1.0
    nonsense: Sentence | None = None
    """What is wrong with the meter's volts and hertz, read as this model: another word order or scale."""
    said: float = 1.0
    """What its own model code does to the odds."""
    reasons: tuple[Sentence, ...] = ()

    def judge(self) -> None:
        found = fit(self.template, self.readings)
        self.reasons = found.reasons
        self.odds = found.score / max(1e-9, 1 - found.score) * REFUSED**self.refused

    @property
    def score(self) -> float:
        return self.odds / (1 + self.odds)

    @property
    def candidate(self) -> Candidate:
        return Candidate(self.template.id, round(self.score, 3), self.reasons)


def _share(shown: set[str], wanted: set[str]) -> float:
    return max(0.02, len(shown & wanted) / len(wanted)) if wanted else 1.0


class _Silent(Exception):
    """The meter does not answer any more, or is `slow`: it does, but not as soon as meters should."""

    def __init__(self, *, slow: bool) -> None:
        super().__init__()
        self.slow = slow


class _Asker:
    """One meter: asks each question once, whoever wants the answer."""

    def __init__(self, line: Line, protocol: str, address: str, turnround_s: float) -> None:
        self.questions = self.damaged = 0
        self._line, self._protocol, self._address, self._turnround_s = line, protocol, address, turnround_s
        self._answers: dict[_Key, Reply[Any] | None] = {}
        self._silences = self._transaction = 0

    async def readings(self, request: Request, *, parts: bool = False) -> list[Reading]:
        """What a request brings; nothing where the meter refuses or says what is no value."""
        reply = await self._ask(request)
        if reply is None:
            smaller = request.parts() if parts or isinstance(request, Dlt645Request) else ()
            return [one for part in smaller for one in await self.readings(part)]
        try:
            return decode(request, reply.answer, reply.at)
        except DecodeError:
            return []

    def refused(self, request: Request) -> bool:
        """True where the meter does not have what was asked."""
        return self._answers.get(_key(request)) is None

    def nonsense(self, template: Template, request: Request) -> Sentence | None:
        """Whether an answer would be right in another word order or scale."""
        reply = self._answers.get(_key(request))
        found = None if reply is None else misfit(template, request, reply.answer)
        return None if found is None or found.kind == "another_model" else found.text

    async def identity(self, request: IdentityRequest) -> dict[str, str | None]:
        """What the meter says of itself."""
        reply = await self._ask(request.request)
        try:
            return {} if reply is None else request.texts(reply.answer)
        except DecodeError:
            return {}

    async def _ask(self, request: Request) -> Reply[Any] | None:
        key = _key(request)
        if key not in self._answers:
            self._answers[key] = await self._answer(request)
        return self._answers[key]

    async def _answer(self, request: Request) -> Reply[Any] | None:
        for _ in range(TRIES):
            self.questions += 1
            try:
                reply: Reply[Any] = await self._line.exchange(self._question(request), turnround_s=self._turnround_s)
            except Refused:
                self._silences = 0
                return None
            except NoReply:
                # Some meters say nothing where they should refuse; those of DL/T 645 always say something.
                self._silences += 1
                if self._silences >= SILENCES:
                    await self._require_there()
                if self._protocol == "modbus" or self._silences > 1:
                    return None
            except FrameError, WrongMeter:
                self.damaged += 1
            except MeterError:
                return None
            else:
                self._silences = 0
                return reply
        return None

    async def _require_there(self) -> None:
        """Asks what the meter was found by. Raises _Silent where it answers only to the most patient, or never."""
        for turnround_s in (self._turnround_s, SLOWEST_S):
            with contextlib.suppress(Refused):
                try:
                    await self._line.exchange(self._question(_PRESENCE[self._protocol]), turnround_s=turnround_s)
                except NoReply, FrameError, WrongMeter:
                    continue
            self._silences = 0
            if turnround_s > self._turnround_s:
                raise _Silent(slow=True)
            return
        raise _Silent(slow=False)

    def _question(self, request: Request) -> Any:
        settings = self._line.settings
        if isinstance(request, ModbusRequest):
            self._transaction = self._transaction % 0xFFFF + 1
            framing: Any = settings.framing
            return ReadRegisters(
                int(self._address),
                request.function,
                request.address,
                request.count,
                framing=framing,
                transaction=self._transaction,
            )
        return ReadData(
            self._address,
            request.di,
            variant=request.variant,
            data_bytes=request.data_bytes,
            preamble=max(settings.preamble, 4),
        )


_PRESENCE: dict[str, Request] = {
    "modbus": ModbusRequest(3, 0, 1, ()),
    "dlt645-2007": Dlt645Request("00010000", (), "2007", 4),
    "dlt645-1997": Dlt645Request("9010", (), "1997", 4),
}

type _Key = tuple[int, int, int] | str


def _key(request: Request) -> _Key:
    if isinstance(request, ModbusRequest):
        return request.function, request.address, request.count
    return request.di


def _words(request: Request) -> set[_Words]:
    if isinstance(request, ModbusRequest):
        return {(request.function, at) for at in range(request.address, request.address + request.count)}
    return {request.di}


def _judging(template: Template) -> frozenset[str]:
    return frozenset(
        one.obis for one in template.registers if one.quantity.measure in (Measure.VOLTAGE, Measure.FREQUENCY)
    )


def _shown_too(template: Template) -> set[str]:
    """What a person may compare with the meter's display."""
    keys = ("energy_import", "active_power")
    return {obis for key in keys if (obis := BY_KEY[key].obis) in template.by_obis}
