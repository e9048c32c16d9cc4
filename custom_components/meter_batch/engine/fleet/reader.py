"""Reads requests from meters over a line, and tells each meter's state what its replies and refusals teach."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import DecodeError, FrameError, MeterError, NoReply, Refused, WrongMeter
from ..line import Line, Reply
from ..model.obis import Obis
from ..model.reading import Reading
from ..protocol.dlt645.exchange import Data, LongRead, ReadData
from ..protocol.exchange import Exchange
from ..protocol.modbus.exchange import ReadRegisters
from ..sentences import say
from ..template import ModbusRequest, Request, decode
from .memory import Talk
from .meter import Meter
from .report import News
from .request import may_be_smaller, smaller


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a meter may think (`turnround_s`), what silence it wants, and how often it is asked again."""

    turnround_s: float
    gap_s: float = 0.0
    retries: int = 0
    """After silence, damage and replies of others; a refusal is an answer."""


async def ask[Answer](line: Line, question: Callable[[], Exchange[Answer]], patience: Patience) -> Reply[Answer]:
    """The reply to one question, which is made anew for each try. Raises MeterError or LineError."""
    left = patience.retries
    while True:
        try:
            return await line.exchange(question(), turnround_s=patience.turnround_s, gap_s=patience.gap_s)
        except NoReply, FrameError, WrongMeter:
            if not left:
                raise
            left -= 1


async def ask_whole(
    line: Line,
    first: Callable[[], Exchange[Data]],
    long: LongRead,
    patience: Patience,
    heard: Callable[[Reply[Data]], None] = lambda reply: None,
) -> tuple[bytes, Reply[Data]]:
    """The joined data of a DL/T 645 answer with all its frames, and the reply that brought the last of them.

    `heard` is told of each. Raises MeterError or LineError.
    """
    reply = await ask(line, first, patience)
    heard(reply)
    # Nothing else may go to this meter in between: it keeps only one place in one long answer.
    while (whole := long.take(reply.answer)) is None:
        reply = await ask(line, long.question, patience)
        heard(reply)
    return whole, reply


class Reader:
    """Asks the questions of one line. `heard_at` is the monotonic instant of the last answer from anybody."""

    def __init__(self, line: Line, news: News, monotonic: Callable[[], float], retries: int = 0) -> None:
        self._line, self._news, self._monotonic, self._retries = line, news, monotonic, retries
        self._transaction = 0
        self.heard_at = 0.0

    async def read(self, meter: Meter, request: Request) -> list[Reading]:
        """The readings of one request; where the meter refuses it, those of its parts.

        Raises MeterError or LineError.
        """
        readings: list[Reading] = []
        refused: list[Request] = []
        absent: set[Obis] = set()
        longest = 0
        left = deque([request])
        while left:
            part = left.popleft()
            try:
                readings += await self.ask(meter, part, meter.turnround.timeout_s)
                if isinstance(part, ModbusRequest):
                    longest = max(longest, part.count)
            except Refused as refusal:
                if not may_be_smaller(part, refusal):
                    raise
                refused.append(part)
                if parts := smaller(part):
                    left.extendleft(reversed(parts))
                else:
                    absent |= {one.obis for one in part.registers}
        if refused:
            meter.learn(refused, absent, longest, self._monotonic())
        return readings

    async def ask(self, meter: Meter, request: Request, turnround_s: float) -> list[Reading]:
        """The readings of one request as it is, with all frames of a long answer. Raises MeterError or LineError."""
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
        try:
            readings = decode(request, answer, reply.at)
        except DecodeError as error:
            raise DecodeError(say("meter_flaw", name=meter.poll.name, error=error.text), error.raw) from None
        meter.mutes.gave(request)
        return readings

    async def _answer(self, meter: Meter, request: Request, turnround_s: float) -> tuple[Any, Reply[Any]]:
        patience = Patience(turnround_s, meter.template.modbus.gap_s, self._retries)

        def first() -> Exchange[Any]:
            return self._question(meter, request)

        def heard(reply: Reply[Any]) -> None:
            self._heard(meter, reply)

        if isinstance(request, ModbusRequest):
            reply = await ask(self._line, first, patience)
            heard(reply)
            return reply.answer, reply
        long = LongRead(meter.address, request.di, variant=request.variant, preamble=self._preamble(meter))
        return await ask_whole(self._line, first, long, patience, heard)

    async def converse[Answer](
        self, talk: Talk[Answer], meter: Meter | None, turnround_s: float, retries: int
    ) -> Answer:
        """What a talk about a meter's memory comes to; nothing else goes over the line meanwhile.

        What a meter needs to look something up says nothing about its usual turn-round. Raises MeterError or LineError.
        """
        patience = Patience(turnround_s, 0.0 if meter is None else meter.template.modbus.gap_s, retries)
        try:
            question = next(talk)
            while True:
                try:
                    reply = await ask(self._line, question, patience)
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
        return self._line.blocked_s(self._question(meter, request))

    def _heard(self, meter: Meter, reply: Reply[Any] | None) -> None:
        self.heard_at = self._monotonic()
        if reply is not None:
            meter.turnround.add(reply.turnround_s)
        meter.answered()
        self._news.answered(None if reply is None else reply.duration_s)

    def _question(self, meter: Meter, request: Request) -> Exchange[Any]:
        """The first question of a request."""
        if isinstance(request, ModbusRequest):
            self._transaction = (self._transaction + 1) & 0xFFFF
            return ReadRegisters(
                int(meter.address),
                request.function,
                request.address,
                request.count,
                framing="tcp" if self._line.settings.framing == "tcp" else "rtu",
                transaction=self._transaction,
            )
        return ReadData(
            meter.address,
            request.di,
            variant=request.variant,
            data_bytes=request.data_bytes,
            preamble=self._preamble(meter),
        )

    def _preamble(self, meter: Meter) -> int:
        return max(self._line.settings.preamble, meter.template.dlt645.preamble)
