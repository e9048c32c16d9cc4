"""From a request of a template to the questions that a line carries, and from their answers to readings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import AbsentRegister, ConfigError, Refused
from ..line import Line, LineSettings, Reply
from ..model.reading import Reading
from ..protocol.dlt645.exchange import Data, LongRead, ReadData
from ..protocol.exchange import Exchange
from ..protocol.modbus.exchange import ReadRegisters
from ..template import Dlt645Request, ModbusRequest, ModbusWords, Request, Template, Timing, decode, plan

MOST_UNITS = 247


def check_address(protocol: str, address: str) -> str:
    """The address in its normal form. Raises ConfigError where no meter can have it."""
    text = address.strip()
    if protocol == "modbus":
        if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MOST_UNITS:
            raise ConfigError(f'"{address}" is no Modbus unit; a unit is a number from 1 to {MOST_UNITS}')
        return str(int(text))
    if len(text) != 12 or not set(text) <= set("0123456789"):
        raise ConfigError(f'"{address}" is no DL/T 645 address; it has 12 digits, leading zeros included')
    return text


def timing(settings: LineSettings, template: Template, turnround_s: float) -> Timing:
    """What a request to a meter of this model costs on a line, for the planner."""
    network = settings.framing == "tcp"
    return Timing(
        baud=0 if network else settings.baud,
        bits=10 if network else round(settings.wire_s(1) * settings.baud),
        gap_s=max(settings.silence_s, template.modbus.gap_s) + settings.gap_s,
        turnround_s=turnround_s,
        preamble=max(settings.preamble, template.dlt645.preamble),
    )


class Asker:
    """Asks the questions of one line and makes readings of the answers."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._transaction = 0

    def question(self, address: str, request: Request, template: Template) -> Exchange[Any]:
        """The first question of a request."""
        if isinstance(request, ModbusRequest):
            self._transaction = (self._transaction + 1) & 0xFFFF
            return ReadRegisters(
                int(address),
                request.function,
                request.address,
                request.count,
                framing="tcp" if self._line.settings.framing == "tcp" else "rtu",
                transaction=self._transaction,
            )
        return ReadData(
            address,
            request.di,
            variant=request.variant,
            data_bytes=request.data_bytes,
            preamble=self._preamble(template),
        )

    async def ask(
        self,
        address: str,
        request: Request,
        template: Template,
        turnround_s: float,
        heard: Callable[[Reply[Any]], None],
    ) -> list[Reading]:
        """Asks for a request, with all frames of a long answer; `heard` is told of every reply.

        Raises MeterError or LineError.
        """
        gap_s = template.modbus.gap_s
        first = self.question(address, request, template)
        reply = await self._line.exchange(first, turnround_s=turnround_s, gap_s=gap_s)
        heard(reply)
        answer = reply.answer
        if isinstance(answer, Data) and answer.more:
            # Nothing else may go to this meter in between: it keeps only one place in one long answer.
            long = LongRead(address, answer.di, variant=first.variant, preamble=self._preamble(template))  # type: ignore[attr-defined]
            while (whole := long.take(answer)) is None:
                reply = await self._line.exchange(long.question(), turnround_s=turnround_s, gap_s=gap_s)
                heard(reply)
                answer = reply.answer
            answer = whole
        return decode(request, answer, reply.at)

    def _preamble(self, template: Template) -> int:
        return max(self._line.settings.preamble, template.dlt645.preamble)


def smaller(request: Request) -> tuple[Request, ...]:
    """What to ask instead of a request that a meter refused: halves, or single items; empty where it is one."""
    if isinstance(request, Dlt645Request):
        return request.parts()
    spans = sorted(
        ((one.locator, one) for one in request.registers if isinstance(one.locator, ModbusWords)),
        key=lambda pair: (pair[0].address, pair[0].end),
    )
    if len(spans) < 2:
        return ()
    halves = []
    for part in (spans[: len(spans) // 2], spans[len(spans) // 2 :]):
        begin, end = part[0][0].address, max(locator.end for locator, _ in part)
        halves.append(ModbusRequest(request.function, begin, end - begin, tuple(register for _, register in part)))
    return tuple(halves)


def may_be_smaller(request: Request, refusal: Refused) -> bool:
    """True where a smaller request could succeed: a register is missing, or the request was too long (Modbus 3)."""
    return isinstance(refusal, AbsentRegister) or (isinstance(request, ModbusRequest) and refusal.code == 3)


def cheapest(template: Template) -> Request:
    """The smallest request to a meter of a model: is it there?"""
    singles = (request for one in template.registers for request in plan(template, {one.obis}))
    return min(singles, key=lambda one: one.count if isinstance(one, ModbusRequest) else one.data_bytes)
