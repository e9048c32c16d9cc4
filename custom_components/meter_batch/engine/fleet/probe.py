"""Does a line work? Opens it, asks one meter, and finds out whether the device speaks the other framing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ..errors import LineError, MeterError, Refused
from ..line import Line, LineSettings
from ..protocol.dlt645.exchange import ReadData
from ..protocol.exchange import Exchange
from ..protocol.modbus.exchange import ReadRegisters
from ..sentences import Sentence, say
from ..transport import Transport, open_transport
from .request import check_address

FIRST_S = 2.0
"""How long a meter of which nothing is known may think."""


@dataclass(frozen=True, slots=True)
class LineTest:
    """What came of a test. `problem` says what is wrong and `hint` what to do, both as a `Sentence`."""

    ok: bool
    problem: str | None = None
    hint: Sentence | None = None
    framing: str | None = None
    """The framing in which the device answered, where it answered."""


async def try_line(
    url: str,
    settings: LineSettings,
    *,
    protocol: str | None = None,
    address: str | None = None,
    turnround_s: float = FIRST_S,
    make_transport: Callable[[str, LineSettings], Transport] | None = None,
) -> LineTest:
    """Opens the line and, where a protocol and an address are given, asks that meter.

    Where no answer comes over TCP, the other framing is tried too: a gateway that passes bytes through, taken for one
    that speaks Modbus TCP, and the reverse. Raises ConfigError for an impossible address or protocol.
    """
    if address is not None and protocol is not None:
        address = check_address(protocol, address)
    make = make_transport or (lambda where, how: open_transport(where, how.serial))
    failure = await _try(make(url, settings), settings, protocol, address, turnround_s)
    if failure is None:
        return LineTest(True, framing=settings.framing)
    if isinstance(failure, LineError):
        return LineTest(False, failure.text, say("test_not_opened"))
    if protocol == "modbus" and url.startswith("tcp://"):
        other = replace(settings, framing="rtu" if settings.framing == "tcp" else "tcp")
        if await _try(make(url, other), other, protocol, address, turnround_s) is None:
            if other.framing == "rtu":
                return LineTest(False, say("test_answers_rtu"), say("test_choose_rtu"), other.framing)
            return LineTest(False, say("test_answers_tcp"), say("test_choose_tcp"), other.framing)
    return LineTest(False, failure.text, say("test_check_meter"))


async def _try(
    transport: Transport, settings: LineSettings, protocol: str | None, address: str | None, turnround_s: float
) -> LineError | MeterError | None:
    """What went wrong; None where it works. A refusal is an answer."""
    line = Line(transport, settings)
    try:
        await line.open()
        if protocol is not None and address is not None:
            await line.exchange(question(protocol, address, settings), turnround_s=turnround_s)
    except Refused:
        return None
    except (LineError, MeterError) as error:
        return error
    finally:
        await line.close()
    return None


def question(protocol: str, address: str, settings: LineSettings) -> Exchange[Any]:
    """A question that every meter of a protocol answers somehow."""
    if protocol == "modbus":
        return ReadRegisters(
            int(address), 3, 0, 1, framing="tcp" if settings.framing == "tcp" else "rtu", transaction=1
        )
    if protocol == "dlt645-1997":
        return ReadData(address, "9010", variant="1997", preamble=settings.preamble)
    return ReadData(address, "00010000", variant="2007", preamble=settings.preamble)
