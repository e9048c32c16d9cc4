"""Reads requests from meters over a line, and tells each meter's state what its replies and refusals teach."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from ..errors import DecodeError, FrameError, MeterError, NoReply, Refused, WrongMeter
from ..line import Line, Reply
from ..model.obis import Obis
from ..model.reading import Reading
from ..protocol.dlt645.exchange import Data, LongRead, ReadData
from ..protocol.exchange import Exchange
from ..protocol.modbus.exchange import ReadRegisters
from ..protocol.modbus.tcp import Numbers
from ..sentences import say
from ..template import ModbusRequest, Request, decode
from .airtime import Accounts, Use
from .confirm import Energies, agree
from .evidence import LineEvidence, MeterEvidence
from .instep import InStep
from .memory import Talk
from .meter import Meter
from .refusal import Causes, contiguous, find_causes
from .report import News
from .request import may_be_smaller


@dataclass(slots=True)  # never changed; one is made for every question
class Patience:
    """How long a meter may think (`turnround_s`), what silence it wants, and how often it is asked again."""

    turnround_s: float
    gap_s: float = 0.0
    retries: int = 0
    """After silence, damage and replies of others; a refusal is an answer."""


MOST_READINGS = 3
"""Energies that are doubted are read so many times more at most."""

type Told = Callable[[Exchange[Any], MeterError | None], bool]
"""Told what became of each try; True where what came was the reply to the question before it."""


async def ask[Answer](
    line: Line, question: Callable[[], Exchange[Answer]], patience: Patience, told: Told | None = None
) -> Reply[Answer]:
    """The reply to one question, which is made anew for each try. Raises MeterError or LineError."""
    left, again = patience.retries, True
    while True:
        exchange = question()
        try:
            reply = await line.exchange(exchange, turnround_s=patience.turnround_s, gap_s=patience.gap_s)
        except (NoReply, FrameError, WrongMeter) as error:
            if told is not None and told(exchange, error) and again:
                # Whoever is one reply behind answers the same question, asked once more, with its own reply.
                again = False
                continue
            if not left:
                raise
            left -= 1
        except MeterError as error:
            if told is not None:
                told(exchange, error)
            raise
        else:
            if told is not None:
                told(exchange, None)
            return reply


async def ask_whole(
    line: Line,
    first: Callable[[], Exchange[Data]],
    long: LongRead,
    patience: Patience,
    heard: Callable[[Reply[Data]], None] = lambda reply: None,
    told: Told | None = None,
) -> tuple[bytes, Reply[Data]]:
    """The joined data of a DL/T 645 answer with all its frames, and the reply that brought the last of them.

    `heard` is told of each. Raises MeterError or LineError.
    """
    reply = await ask(line, first, patience, told)
    heard(reply)
    # Nothing else may go to this meter in between: it keeps only one place in one long answer.
    while (whole := long.take(reply.answer)) is None:
        reply = await ask(line, long.question, patience, told)
        heard(reply)
    return whole, reply


class Reader:
    """Asks the questions of one line. `heard_at` is the monotonic instant of the last answer from anybody."""

    def __init__(
        self,
        line: Line,
        news: News,
        monotonic: Callable[[], float],
        retries: int = 0,
        evidence: LineEvidence | None = None,
        known: Sequence[Request] = (),
    ) -> None:
        """`known`: requests that the meters are known to answer, for a reader of one reading."""
        self._known = known
        self._line, self._news, self._monotonic, self._retries = line, news, monotonic, retries
        self.evidence = evidence or LineEvidence(line.settings)
        self._numbers = Numbers()
        self._in_step: WeakKeyDictionary[Meter, InStep] = WeakKeyDictionary()
        self._energies: WeakKeyDictionary[Meter, Energies] = WeakKeyDictionary()
        self.heard_at = 0.0
        self.accounts = Accounts(monotonic)

    @property
    def numbers_kept(self) -> bool:
        """False where the far end is known not to send the numbers of transactions back."""
        return self._numbers.kept

    def keeps(self, meter: Meter, step: InStep) -> None:
        """What was known of a meter's replies goes on."""
        self._in_step[meter] = step

    def opened(self) -> None:
        """The connection was made anew: what was known of replies that are one behind counts no more."""
        self._in_step.clear()

    async def read(self, meter: Meter, request: Request) -> list[Reading]:
        """The readings of one request; where the meter refuses it, those of its parts.

        Raises MeterError or LineError.
        """
        readings: list[Reading] = []
        left = deque([request])
        while left:
            part = left.popleft()
            try:
                readings += await self._believed(meter, part)
            except Refused as refusal:
                if not may_be_smaller(part, refusal):
                    raise
                found, rest = await self._why(meter, part)
                readings += found
                left.extendleft(reversed(rest))
        return readings

    async def _believed(self, meter: Meter, request: Request) -> list[Reading]:
        """The readings of one request as it is; energies that a weak check may have let through only when confirmed."""
        readings = await self.ask(meter, request, meter.turnround.timeout_s)
        if isinstance(request, ModbusRequest):
            return readings
        if (energies := self._energies.get(meter)) is None:
            energies = self._energies[meter] = Energies()
        seen = [readings]
        while energies.doubts(seen[-1]):
            if len(seen) > MOST_READINGS:
                raise FrameError(say("energies_disagree", name=meter.poll.name))
            again = await self.ask(meter, request, meter.turnround.timeout_s)
            confirmed = any(agree(one, again) for one in seen)
            seen.append(again)
            if confirmed:
                break
        # Of those that were read before, whatever does not go with the last one was damaged and passed its check.
        wrong = sum(not agree(one, seen[-1]) for one in seen[:-1])
        if wrong and (evidence := self.evidence.meters.get(meter.poll.key)) is not None:
            evidence.contradicted += wrong
        energies.took(seen[-1])
        return seen[-1]

    async def _why(self, meter: Meter, refused: Request) -> tuple[list[Reading], list[Request]]:
        """Finds out why a request was refused. What was read meanwhile, and what is to be asked now for the rest."""
        if not isinstance(refused, ModbusRequest):
            parts = refused.parts()
            gone = set() if parts else {one.obis for one in refused.registers}
            meter.learn(Causes(gone), refused.di if parts else None, self._monotonic())
            return [], list(parts)
        template, readings, done = meter.template, list[Reading](), set[Obis]()

        def witness(words: int, not_over: int) -> ModbusRequest | None:
            return contiguous(template, refused.function, words, not_over)

        search = find_causes(refused, meter.longest, witness)
        try:
            question = next(search)
            while True:
                try:
                    readings += await self.ask(meter, question, meter.turnround.timeout_s)
                    done |= {one.obis for one in question.registers}
                    question = search.send(True)
                except Refused as refusal:
                    if not may_be_smaller(question, refusal):
                        raise
                    question = search.send(False)
        except StopIteration as end:
            causes: Causes = end.value
        meter.learn(causes, None, self._monotonic())
        rest = {one.obis for one in refused.registers} - done - causes.absent
        return readings, list(meter.requests(rest)) if rest else []

    async def ask(self, meter: Meter, request: Request, turnround_s: float, use: Use = "live") -> list[Reading]:
        """The readings of one request as it is, with all frames of a long answer. Raises MeterError or LineError."""
        before = self.accounts.turn(use)
        try:
            answer, reply = await self._answer(meter, request, turnround_s)
        except Refused:
            self._heard(meter, None)
            meter.mutes.refused(request)
            raise
        except MeterError:
            if not meter.silent:
                self._news.unanswered()
            raise
        finally:
            self.accounts.turn(before)
        try:
            readings = decode(request, answer, reply.at)
        except DecodeError as error:
            raise DecodeError(say("meter_flaw", name=meter.poll.name, error=error.text), error.raw) from None
        meter.gave(request)
        if (seen := self.evidence.meters.get(meter.poll.key)) is not None and seen.odd:
            seen.odd = False
            meter.watch.look_again()
        meter.watch.judge(request, answer, self._monotonic())
        return readings

    async def identify(self, meter: Meter, request: Request) -> Any:
        """The answer to a question who a meter is: words or data. Raises MeterError or LineError."""
        with self.accounts.on("probe"):
            answer, _ = await self._answer(meter, request, meter.turnround.timeout_s)
        return answer

    async def _answer(self, meter: Meter, request: Request, turnround_s: float) -> tuple[Any, Reply[Any]]:
        patience = Patience(turnround_s, meter.template.modbus.gap_s, self._retries)

        number = self._numbers.next()
        evidence, key = self.evidence, meter.poll.key
        seen = evidence.meter(key, lambda: MeterEvidence.of(meter.poll))

        def first() -> Exchange[Any]:
            question = self._question(meter, request, number)
            question.after_silence = seen.owes
            return question

        def heard(reply: Reply[Any]) -> None:
            seen.thinks(reply.turnround_s)
            self._heard(meter, reply)

        def told(exchange: Exchange[Any], error: MeterError | None) -> bool:
            # Who does not say who he is may be well all the same.
            return evidence.heard(seen if request.registers else None, exchange, error, self._monotonic())

        if isinstance(request, ModbusRequest):
            reply = await self._in_order(meter, request, first, patience, told)
            heard(reply)
            return reply.answer, reply
        sent = meter.preamble.bytes
        long = LongRead(meter.address, request.di, variant=request.variant, preamble=sent)
        try:
            answer = await ask_whole(self._line, first, long, patience, heard, told)
        except Refused:
            meter.preamble.answered(sent, self._monotonic())
            raise
        except MeterError:
            meter.preamble.missed(sent, self._monotonic())
            raise
        meter.preamble.answered(sent, self._monotonic())
        return answer

    async def _in_order(
        self,
        meter: Meter,
        request: ModbusRequest,
        question: Callable[[], Exchange[Any]],
        patience: Patience,
        told: Told,
    ) -> Reply[Any]:
        """The reply to a request, and to none before it, where replies do not say what they answer."""
        if self._line.settings.framing == "tcp" and self._numbers.kept:
            return await ask(self._line, question, patience, told)
        if (step := self._in_step.get(meter)) is None:
            step = self._in_step[meter] = InStep()
        if (proof := step.proof(request, self._known)) is not None:
            number = self._numbers.next()
            with suppress(Refused):
                await ask(self._line, lambda: self._question(meter, proof, number), patience, told)
            step.asked(proof)
        try:
            reply = await ask(self._line, question, patience, told)
        except Refused:
            raise
        except MeterError:
            step.failed(request)
            raise
        step.answered(request)
        return reply

    async def converse[Answer](
        self, talk: Talk[Answer], meter: Meter | None, turnround_s: float, retries: int
    ) -> Answer:
        """What a talk about a meter's memory comes to; nothing else goes over the line meanwhile.

        What a meter needs to look something up says nothing about its usual turn-round. Raises MeterError or LineError.
        """
        patience = Patience(turnround_s, 0.0 if meter is None else meter.template.modbus.gap_s, retries)

        def told(exchange: Exchange[Any], error: MeterError | None) -> bool:
            return self.evidence.heard(None, exchange, error, self._monotonic())

        try:
            question = next(talk)
            while True:
                try:
                    with self.accounts.on("backfill"), self._line.recalling():
                        reply = await ask(self._line, question, patience, told)
                except MeterError as error:
                    if isinstance(error, Refused) and meter is not None:
                        self._lives(meter)
                    question = talk.throw(error)
                else:
                    if meter is not None:
                        self._lives(meter)
                    question = talk.send(reply)
        except StopIteration as end:
            answer: Answer = end.value
            return answer

    @property
    def waits_for_late_replies(self) -> bool:
        """True while a reply to a question that was given up may still come."""
        return self._line.expects_late_replies

    def _lives(self, meter: Meter) -> None:
        self.heard_at = self._monotonic()
        meter.answered()

    def blocked_s(self, meter: Meter, request: Request) -> float:
        """How long a request would have to wait because a late reply to an earlier one could answer it."""
        if not self._line.expects_late_replies:
            return 0.0
        return self._line.blocked_s(self._question(meter, request, 0))

    def _heard(self, meter: Meter, reply: Reply[Any] | None) -> None:
        self.heard_at = self._monotonic()
        if reply is not None:
            meter.turnround.add(reply.turnround_s)
        meter.answered()
        self._news.answered(None if reply is None else reply.duration_s)

    def _question(self, meter: Meter, request: Request, number: int) -> Exchange[Any]:
        """The first question of a request; `number` is that of its transaction, the same for each try."""
        if isinstance(request, ModbusRequest):
            return ReadRegisters(
                int(meter.address),
                request.function,
                request.address,
                request.count,
                framing="tcp" if self._line.settings.framing == "tcp" else "rtu",
                transaction=number,
                numbers=self._numbers,
            )
        return ReadData(
            meter.address,
            request.di,
            variant=request.variant,
            data_bytes=request.data_bytes,
            preamble=meter.preamble.bytes,
        )
