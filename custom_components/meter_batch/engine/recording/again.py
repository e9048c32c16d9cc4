"""A recorded session read again: from its bytes alone, with the templates as they are now. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal

from ..errors import MeterError
from ..line import Exchanged
from ..model.quantity import QUANTITIES
from ..model.reading import Reading, Value
from ..protocol.dlt645.exchange import READ, ReadData
from ..protocol.dlt645.frame import Framer
from ..protocol.dlt645.item import find_item
from ..protocol.modbus import rtu, tcp
from ..protocol.modbus.exchange import ReadRegisters
from ..template import (
    Dlt645Request,
    DltItem,
    ModbusRequest,
    ModbusWords,
    Register,
    Template,
    decode,
    identity_requests,
)
from .file import Recording, settings_of


def readings_of(recording: Recording, load: Callable[[str], Template]) -> tuple[dict[str, str] | None, ...]:
    """What each exchange gives, as text by key; None where it is no reading of a meter that the recording names.

    `load` gives the template of an id. A float is shown with the seven digits that a meter's float32 has at most.
    Raises TemplateError (of `load`) and ConfigError.
    """
    framing = settings_of(recording).framing
    templates = {one.address: load(one.template) for one in recording.meters}
    found: list[dict[str, str] | None] = []
    for exchanged in recording.exchanges:
        template = templates.get(exchanged.meter)
        if template is None or exchanged.problem is not None:
            found.append(None)
            continue
        try:
            is_modbus = template.protocol == "modbus"
            found.append(_modbus(exchanged, template, framing) if is_modbus else _dlt645(exchanged, template))
        except MeterError:
            found.append(None)
    return tuple(found)


def differences(recording: Recording, load: Callable[[str], Template]) -> tuple[str, ...]:
    """Where the session read again says something else than it did, one sentence each; raises as `readings_of`."""
    wrong: list[str] = []
    for number, (before, now) in enumerate(zip(recording.readings, readings_of(recording, load), strict=True), 1):
        where = f"exchange {number} (meter {recording.exchanges[number - 1].meter})"
        if before is None:
            continue
        if now is None:
            wrong.append(f"{where}: gives no reading any more")
            continue
        for key in {**before, **now}:
            was, is_ = before.get(key, "nothing"), now.get(key, "nothing")
            if was != is_:
                wrong.append(f"{where}: {key} was {was}, is {is_}")
    return tuple(wrong)


def asked_words(request: bytes, framing: str) -> tuple[int, int, int, int] | None:
    """Unit, function, address and count of a request that reads registers; None for any other."""
    if framing == "tcp":
        body = request[tcp.HEADER.size - 1 :]
        is_read = len(request) == 12 and request[2:4] == b"\0\0"
    else:
        body = request[:-2]
        is_read = len(request) == 8 and rtu.valid(request)
    if not is_read or body[1] not in (3, 4):
        return None
    return body[0], body[1], int.from_bytes(body[2:4]), int.from_bytes(body[4:6])


def words_of(exchanged: Exchanged, framing: str) -> tuple[int, ...] | None:
    """The words in the answer to a request that reads registers; None where there are none. Raises MeterError."""
    asked = asked_words(exchanged.request, framing)
    if asked is None:
        return None
    if framing == "tcp":
        number = int.from_bytes(exchanged.request[:2])
        return ReadRegisters(*asked, framing="tcp", transaction=number).feed(exchanged.received)
    return ReadRegisters(*asked).feed(exchanged.received)


def _modbus(exchanged: Exchanged, template: Template, framing: str) -> dict[str, str] | None:
    asked = asked_words(exchanged.request, framing)
    if asked is None or str(asked[0]) != exchanged.meter or (words := words_of(exchanged, framing)) is None:
        return None
    _, function, address, count = asked
    inside = tuple(one for one in template.registers if _holds(one, function, address, address + count))
    texts: dict[str, str] = {}
    if inside:
        texts = _texts(decode(ModbusRequest(function, address, count, inside), words, exchanged.at))
    for one in identity_requests(template):
        request = one.request
        if isinstance(request, ModbusRequest) and (request.function, request.address, request.count) == (
            function,
            address,
            count,
        ):
            texts |= {about: text for about, text in one.texts(words).items() if text is not None}
    return texts or None


def _dlt645(exchanged: Exchanged, template: Template) -> dict[str, str] | None:
    variant = template.dlt645.variant
    frames = [one for one in Framer().feed(exchanged.request) if not one.is_reply]
    size = 4 if variant == "2007" else 2
    if len(frames) != 1 or frames[0].function != READ[variant] or len(frames[0].data) != size:
        return None
    di = frames[0].data[::-1].hex().upper()
    data = ReadData(frames[0].address, di, variant=variant).feed(exchanged.received)
    if data is None:
        return None
    for one in identity_requests(template):
        if isinstance(one.request, Dlt645Request) and one.request.di == di:
            return {about: text for about, text in one.texts(data).items() if text is not None} or None
    inside = tuple(
        one
        for one in template.registers
        if isinstance(one.locator, DltItem) and di in (one.locator.di, one.locator.single)
    )
    if not inside or find_item(di, variant) is None or data.more:
        return None
    return _texts(decode(Dlt645Request(di, inside, variant, 0), data, exchanged.at)) or None


def _holds(register: Register, function: int, begin: int, end: int) -> bool:
    locator = register.locator
    return (
        isinstance(locator, ModbusWords)
        and locator.function == function
        and begin <= locator.address
        and locator.end <= end
    )


def _texts(readings: Sequence[Reading]) -> dict[str, str]:
    return {QUANTITIES[one.obis].key: number(one.value) for one in readings}


def number(value: Value) -> str:
    """A value as people write it: exact ones exactly, floats with seven digits."""
    exact = value if isinstance(value, Decimal) else Decimal(f"{value:.7g}")
    return f"{exact:f}"
