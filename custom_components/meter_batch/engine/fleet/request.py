"""Requests of a template as a line sees them: addresses, what they cost, and how they are made smaller."""

from __future__ import annotations

from functools import lru_cache

from ..errors import AbsentRegister, ConfigError, Refused
from ..line import LineSettings
from ..protocol.dlt645.frame import BROADCAST
from ..sentences import say
from ..template import Dlt645Request, ModbusRequest, ModbusWords, Request, Template, Timing, plan

MOST_UNITS = 247


def check_address(protocol: str, address: str) -> str:
    """The address in its normal form. Raises ConfigError where no meter can have it."""
    text = address.strip()
    if protocol == "modbus":
        if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MOST_UNITS:
            raise ConfigError(say("bad_unit", address=address, most=MOST_UNITS))
        return str(int(text))
    if len(text) != 12 or not set(text) <= set("0123456789"):
        raise ConfigError(say("bad_meter_number", address=address))
    return no_broadcast(text)


def no_broadcast(address: str) -> str:
    """The same DL/T 645 address. Raises ConfigError for that of all meters, to which none answers."""
    if address.strip() == BROADCAST:
        raise ConfigError(say("broadcast_number", address=address))
    return address


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


@lru_cache(maxsize=64)
def singles(template: Template) -> tuple[Request, ...]:
    """The requests for one register of a model each, the smallest first: is the meter there?"""
    requests = {request for one in template.registers for request in plan(template, {one.obis})}
    return tuple(sorted(requests, key=_size))


def _size(request: Request) -> tuple[int, str]:
    if isinstance(request, ModbusRequest):
        return request.count, f"{request.function} {request.address:05}"
    return request.data_bytes, request.di
