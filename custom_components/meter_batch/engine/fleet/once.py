"""One reading of one meter, now and without a poller: for a person who waits."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

from ..errors import DecodeError, MeterError, Refused
from ..line import Line
from ..model.obis import Obis
from ..model.reading import Reading
from ..protocol.dlt645.exchange import LongRead, ReadAddress
from ..protocol.dlt645.frame import WILDCARD, Variant
from ..template import identity_requests
from ..template.schema import GROUPS
from .instep import InStep
from .meter import Meter, PollMeter
from .reader import Patience, Reader, ask, ask_whole
from .report import News
from .request import check_address, no_broadcast
from .turnround import Turnround

type Progress = Callable[[int, int], None]
"""Told which request of how many comes next."""


@dataclass(frozen=True, slots=True)
class Found[One]:
    """What a meter gave, and why the rest is missing."""

    found: tuple[One, ...]
    problems: tuple[MeterError, ...] = ()
    absent: tuple[Obis, ...] = ()
    """Registers that the meter says it does not have."""


@dataclass(frozen=True, slots=True)
class ItemData:
    """The bytes behind a DL/T 645 identifier, all frames joined; `address` is the meter's as it gave it."""

    di: str
    data: bytes
    address: str
    at: datetime


def _quiet(number: int, of: int) -> None:
    pass


async def read_once(
    line: Line,
    meter: PollMeter,
    *,
    timeout_s: float = 1.0,
    retries: int = 0,
    progress: Progress = _quiet,
    who: bool = False,
    step: InStep | None = None,
) -> Found[Reading]:
    """The wanted registers of a meter as it shows them (no multiplier), over a line that is open.

    Two requests that a reply to the other would fit never follow one another, so that on a line that is one reply
    behind nothing is taken for another register. `who`: it is asked who it is besides, which only the line's trace
    keeps. `step`: what the reading before on this connection left of that.

    A refusal or a value that is none does not end it, silence does. Raises ConfigError for an impossible address,
    LineError, and MeterError where nothing at all came.
    """
    address = check_address(meter.protocol, meter.address)
    state = Meter(replace(meter, address=address), line.settings, timeout_s, steady=True)
    if state.flaw is not None:
        raise state.flaw
    state.turnround = Turnround(timeout_s, timeout_s)
    requests = state.requests(state.wanted(GROUPS))
    reader = Reader(line, News(), time.monotonic, retries, known=requests)
    reader.keeps(state, step or InStep(always=True))
    found = await _each(requests, lambda request: reader.read(state, request), progress)
    for one in identity_requests(meter.template) if who else ():
        with suppress(MeterError):
            await reader.identify(state, one.request)
    return replace(found, absent=tuple(sorted(state.absent)))


async def read_items(
    line: Line,
    address: str,
    dis: Iterable[str],
    *,
    variant: Variant = "2007",
    count: int | None = None,
    at: datetime | None = None,
    timeout_s: float = 1.0,
    retries: int = 0,
    progress: Progress = _quiet,
) -> Found[ItemData]:
    """The data of any DL/T 645 identifiers of a meter, over a line that is open.

    `count` and `at`, by the meter's clock, go with load records. Pairs AA in the address stand for any digits.
    Ends and raises as `read_once`, and ConfigError for identifiers that are none.
    """
    no_broadcast(address)
    patience = Patience(timeout_s, retries=retries)

    async def read(di: str) -> list[ItemData]:
        long = LongRead(address, di, variant=variant, count=count, at=at, preamble=line.settings.preamble)
        data, reply = await ask_whole(line, long.question, long, patience)
        return [ItemData(di.upper(), data, reply.answer.address, reply.at)]

    return await _each(tuple(dis), read, progress)


async def find_address(line: Line, *, timeout_s: float = 1.0, retries: int = 0) -> str:
    """The address of the only DL/T 645-2007 meter on a line that is open. Raises MeterError or LineError."""
    preamble = line.settings.preamble
    reply = await ask(line, lambda: ReadAddress(WILDCARD, preamble=preamble), Patience(timeout_s, retries=retries))
    return reply.answer


async def _each[Request, One](
    requests: Sequence[Request], read: Callable[[Request], Awaitable[Iterable[One]]], progress: Progress
) -> Found[One]:
    found: list[One] = []
    problems: list[MeterError] = []
    for number, request in enumerate(requests, 1):
        progress(number, len(requests))
        try:
            found += await read(request)
        except (Refused, DecodeError) as error:
            problems.append(error)
        except MeterError as error:
            if not found and not problems:
                raise
            problems.append(error)
            break
    return Found(tuple(found), tuple(problems))
