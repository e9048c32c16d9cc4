"""Asks one meter for everything: by a template, or for whatever words it has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from meter_batch_engine import Found, Line, Reading, Template

_RANGES = (
    *("0-255", "0x0300-0x0320", "0x0B00-0x0D00", "0x1000-0x1040", "0x2000-0x2060", "0x4000-0x4050"),
    *("0x4A38-0x4AA0", "0x5000-0x5020", "0x5B00-0x5B40"),
)
"""Where meters of many makers have their measurements."""
_CHUNK = 32
_FEW = 8
_PAUSE_S = 3.0


async def read_all(
    template: Template, url: str, address: str, framing: str, baud: int | None, parity: str | None
) -> Found[Reading]:
    """All registers of a template, now. Raises ConfigError, LineError, MeterError."""
    from meter_batch_engine import Line, LineSettings, PollMeter, check_address, open_transport, read_once

    settings = LineSettings(
        baud=baud or template.serial.baud,
        parity=(parity or template.serial.parity).upper(),
        stop_bits=template.serial.stop_bits,
        framing=framing if template.protocol == "modbus" else "rtu",
        preamble=template.dlt645.preamble,
    )
    address = check_address(template.protocol, address)
    line = Line(open_transport(url, settings.serial), settings)
    await line.open()
    try:
        return await read_once(line, PollMeter(address, address, template, address, template.protocol), retries=1)
    finally:
        await line.close()


async def look(
    url: str,
    address: str,
    function: int,
    ranges: list[str] | None,
    framing: str,
    baud: int | None,
    parity: str | None,
) -> tuple[int, dict[int, int], dict[int, int]]:
    """All words of these ranges, twice with a pause between; with the other function where this one gives nothing."""
    import asyncio

    from meter_batch_engine import Line, LineSettings, check_address, open_transport

    unit = int(check_address("modbus", address))
    settings = LineSettings(baud=baud or 9600, parity=(parity or "N").upper(), framing=framing)
    spans = [_span(one) for one in ranges or _RANGES]
    line = Line(open_transport(url, settings.serial), settings)
    await line.open()
    try:
        for tried in (function, 7 - function):
            words: dict[int, int] = {}
            for first, last in spans:
                for begin in range(first, last + 1, _CHUNK):
                    words |= await _words(line, unit, tried, begin, min(_CHUNK, last + 1 - begin))
            if words:
                await asyncio.sleep(_PAUSE_S)
                later: dict[int, int] = {}
                for begin in sorted({one - one % _CHUNK for one in words}):
                    own = [one for one in words if begin <= one < begin + _CHUNK]
                    later |= await _words(line, unit, tried, min(own), max(own) - min(own) + 1)
                return tried, words, later
    finally:
        await line.close()
    return function, {}, {}


async def _words(line: Line, unit: int, function: int, address: int, count: int) -> dict[int, int]:
    """The words that the meter has; where it refuses some, by halves, then by twos. Raises MeterError for silence.

    By twos at every address, because some meters refuse what begins or ends inside a value.
    """
    if (found := await _ask(line, unit, function, address, count)) is not None:
        return found
    if count > _FEW:
        half = count // 2
        first = await _words(line, unit, function, address, half)
        return first | await _words(line, unit, function, address + half, count - half)
    words: dict[int, int] = {}
    place = address
    while place < address + count:
        pair = await _ask(line, unit, function, place, 2) if place < 0xFFFF else None
        words |= pair or {}
        place += 2 if pair else 1
    return words


async def _ask(line: Line, unit: int, function: int, address: int, count: int) -> dict[int, int] | None:
    """The words of one request, None where the meter refuses it."""
    from meter_batch_engine import Refused
    from meter_batch_engine.protocol.modbus.exchange import ReadRegisters

    question = ReadRegisters(
        unit, function, address, count, framing="tcp" if line.settings.framing == "tcp" else "rtu", transaction=address
    )
    try:
        reply = await line.exchange(question, turnround_s=1.0)
    except Refused:
        return None
    return {address + place: word for place, word in enumerate(reply.answer)}


def _span(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    try:
        span = int(first, 0), int(last or first, 0)
    except ValueError:
        span = (1, 0)
    if not 0 <= span[0] <= span[1] <= 0xFFFF:
        raise typer.BadParameter(f'"{text}": first and last address, for example 0-255', param_hint="--range")
    return span
