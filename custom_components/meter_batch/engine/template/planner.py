"""Which requests read the wanted registers in the fewest seconds of line. Optimal, not a rule of thumb."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from ..errors import TemplateError
from ..model.obis import Obis
from ..protocol.dlt645.frame import OVERHEAD
from ..protocol.dlt645.item import find_item
from .decoder import Dlt645Request, ModbusRequest, Request, single_request
from .schema import DltItem, ModbusWords, Register, Template

_MODBUS_BYTES = 8 + 5
"""Request and reply of a read on RTU, without the words."""
_MODBUS_TCP_BYTES = 12 + 9
_DI_BYTES = {"2007": 4, "1997": 2}


@dataclass(frozen=True, slots=True)
class Timing:
    """What a request costs on a line.

    `baud` 0 for a network without wire time; `bits` of a character on the wire, start and stop included; `gap_s` the
    silence before a request (t3.5 and more); `turnround_s` how long the meter thinks; `preamble` the FE bytes that both
    sides of DL/T 645 send.
    """

    baud: int = 9600
    bits: int = 10
    gap_s: float = 0.00401
    turnround_s: float = 0.05
    preamble: int = 4

    def seconds(self, sent: int, received: int) -> float:
        """The seconds of line that one exchange takes."""
        wire = (sent + received) * self.bits / self.baud if self.baud else 0.0
        return wire + self.gap_s + self.turnround_s


def plan(template: Template, wanted: Iterable[Obis] | None = None, timing: Timing | None = None) -> tuple[Request, ...]:
    """The requests for the wanted registers (all where None) that take the fewest seconds of line.

    Registers that the template does not have are left out. Limits of the model are kept: words of a request, addresses
    without registers, blocks; a value is never cut. The same arguments give the same objects.
    """
    return _plan(template, None if wanted is None else frozenset(wanted), timing or Timing())


@lru_cache(maxsize=1024)
def _plan(template: Template, wanted: frozenset[Obis] | None, timing: Timing) -> tuple[Request, ...]:
    registers = [one for one in template.registers if wanted is None or one.obis in wanted]
    if template.protocol == "modbus":
        functions = sorted({one.locator.function for one in registers if isinstance(one.locator, ModbusWords)})
        return tuple(
            request for function in functions for request in _plan_words(template, registers, function, timing)
        )
    return tuple(_plan_items(template, registers, timing))


def cost(request: Request, timing: Timing) -> float:
    """The seconds of line that a request takes."""
    if isinstance(request, ModbusRequest):
        return _words_cost(request.count, timing)
    di_bytes = _DI_BYTES[request.variant]
    sent = timing.preamble + OVERHEAD + di_bytes
    return timing.seconds(sent, sent + request.data_bytes)


def _words_cost(count: int, timing: Timing) -> float:
    # Without wire time any size costs the same; a thousandth of a byte time keeps requests small among equals.
    if not timing.baud:
        return timing.seconds(_MODBUS_TCP_BYTES, 2 * count) + count * 1e-9
    return timing.seconds(_MODBUS_BYTES, 2 * count)


def _plan_words(
    template: Template, registers: list[Register], function: int, timing: Timing
) -> tuple[ModbusRequest, ...]:
    """The cheapest partition of the registers, in order of address, into requests (dynamic programming)."""
    spans = sorted(
        ((one.locator, one) for one in registers if isinstance(one.locator, ModbusWords)),
        key=lambda pair: (pair[0].address, pair[0].end),
    )
    spans = [pair for pair in spans if pair[0].function == function]
    known = _known_words(template, function)
    cuts = sorted(address for one, address in template.modbus.cuts if one == function)
    # best[n]: the cheapest way to read the first n registers, and where its last request begins and ends.
    best: list[tuple[float, int, int]] = [(0.0, 0, 0)]
    for until in range(1, len(spans) + 1):
        cheapest: tuple[float, int, int] | None = None
        end = 0
        for first in range(until - 1, -1, -1):
            locator = spans[first][0]
            end = max(end, locator.end)
            count = end - locator.address
            if count > template.modbus.max_words:
                break
            if (
                first + 1 < until
                and not template.modbus.holes
                and not _adjoins(locator.end, spans[first + 1][0], known)
            ):
                break
            if first + 1 < until and _is_cut(cuts, locator.address, end):
                break
            seconds = best[first][0] + _words_cost(count, timing)
            if cheapest is None or seconds < cheapest[0]:
                cheapest = seconds, first, end
        if cheapest is None:
            raise TemplateError(f"{template.id}: [modbus] max_words: too few for {spans[until - 1][1].quantity.key}")
        best.append(cheapest)
    requests = []
    until = len(spans)
    while until:
        _, first, end = best[until]
        address = spans[first][0].address
        members = tuple(register for _, register in spans[first:until])
        requests.append(ModbusRequest(function, address, end - address, members))
        until = first
    return tuple(reversed(requests))


def _known_words(template: Template, function: int) -> frozenset[int]:
    """All addresses that the model has, wanted or not: a request may run over them."""
    return frozenset(
        address
        for one in template.registers
        if isinstance(one.locator, ModbusWords) and one.locator.function == function
        for address in range(one.locator.address, one.locator.end)
    )


def _adjoins(end: int, following: ModbusWords, known: frozenset[int]) -> bool:
    return all(address in known for address in range(end, following.address))


def _is_cut(cuts: list[int], begin: int, end: int) -> bool:
    """True where one of the addresses lies within, so that words before and behind it would be read together."""
    place = bisect_right(cuts, begin)
    return place < len(cuts) and cuts[place] < end


def _plan_items(template: Template, registers: list[Register], timing: Timing) -> list[Dlt645Request]:
    """For each block the cheaper of the block and its single items."""
    variant = template.dlt645.variant
    requests: list[Dlt645Request] = []
    blocks: dict[str, list[Register]] = {}
    for register in registers:
        if isinstance(register.locator, DltItem):
            blocks.setdefault(register.locator.di, []).append(register)
    for di, members in blocks.items():
        singles = [
            single_request(one, one.locator.single, variant) for one in members if isinstance(one.locator, DltItem)
        ]
        item = find_item(di, variant)
        if not template.dlt645.blocks or di == singles[0].di or item is None:
            requests += singles
            continue
        places = [
            one.locator.index for one in template.registers if isinstance(one.locator, DltItem) and one.locator.di == di
        ]
        closing = 1 if variant == "1997" else 0
        block = Dlt645Request(di, tuple(members), variant, item.size * (max(places) + 1) + closing)
        cheaper = cost(block, timing) < sum(cost(one, timing) for one in singles)
        requests += [block] if cheaper else singles
    return requests
