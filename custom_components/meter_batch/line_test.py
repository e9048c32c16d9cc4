"""A real test of a line: opens it, reads a meter, and finds out what is spoken where that was chosen wrongly."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from . import link
from .cells import AddressError, parse_address
from .const import LineProtocol
from .engine import ConfigError, Sentence, try_line

_SAYS_WHAT_TO_DO = ("no_reply", "only_echo", "only_late")
"""So end the keys of what a silent meter is said to be; these sentences are advice already."""
SETTLE_S = 2.0
"""So long after its poller has stopped a line may still carry a reply."""
_OTHER_VARIANT = {"dlt645-2007": "dlt645-1997", "dlt645-1997": "dlt645-2007"}


class LineTestFailed(Exception):
    """A line did not pass: what is wrong and what to do, in the engine's words; or `other`, which the meter speaks."""

    def __init__(self, problem: str, hint: str = "", other: LineProtocol | None = None) -> None:
        super().__init__(problem)
        self.problem, self.hint, self.other = problem, hint, other


def meter_protocol(text: str, spoken: LineProtocol) -> str:
    """What a meter with this address speaks; on a mixed line long numbers are DL/T 645 addresses."""
    if spoken is LineProtocol.MIXED:
        return "modbus" if len(text) <= 3 else "dlt645-2007"
    return "modbus" if spoken.value.startswith("modbus") else spoken.value


def normal_address(text: str, spoken: LineProtocol) -> str:
    """The address as the engine wants it; AddressError where no meter on the line can have it."""
    return parse_address(text, meter_protocol(text, spoken))[0]


def is_address(text: str, spoken: LineProtocol) -> bool:
    """True where a meter on the line can have this address."""
    try:
        normal_address(text, spoken)
    except AddressError:
        return False
    return True


async def async_test_line(
    data: Mapping[str, Any], options: Mapping[str, Any], address: str | None, *, busy: bool = False
) -> None:
    """Returns where the line (and, with an address, the meter) works; else LineTestFailed says what to change.

    `busy`: it was polled until just now, so that a meter may still be answering, which would damage the test's reply.
    """
    url, settings, spoken = link.url(data), link.settings(data, options), link.protocol(data)
    if busy:
        await asyncio.sleep(SETTLE_S)
    try:
        opened = await try_line(url, settings)
    except ConfigError as error:
        raise LineTestFailed(error.text) from error
    if not opened.ok:
        # What to do is in the problem; the hint is about a meter.
        raise LineTestFailed(opened.problem or "")
    if address is None:
        return
    protocol, address = meter_protocol(address, spoken), normal_address(address, spoken)
    asked = await try_line(url, settings, protocol=protocol, address=address)
    if busy and not asked.ok:
        await asyncio.sleep(SETTLE_S)
        asked = await try_line(url, settings, protocol=protocol, address=address)
    if asked.ok:
        return
    if (other := _OTHER_VARIANT.get(protocol)) and spoken is not LineProtocol.MIXED:
        again = await try_line(url, settings, protocol=other, address=address)
        if again.ok:
            raise LineTestFailed(asked.problem or "", other=LineProtocol(other))
    advised = isinstance(asked.problem, Sentence) and asked.problem.key.endswith(_SAYS_WHAT_TO_DO)
    raise LineTestFailed(asked.problem or "", "" if advised else asked.hint or "")
