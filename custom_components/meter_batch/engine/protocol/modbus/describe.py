"""What frames say, as plain fields for people and programs: `meter-batch decode`, traces."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import Any

from ...errors import FrameError
from . import pdu, rtu, tcp
from .exchange import Framing
from .pdu import Side
from .words import shortest

type Fields = dict[str, Any]

_BITS = (1, 2)
_WORDS = (3, 4)
_WRITES = (5, 6, 15, 16)


def describe(data: bytes, framing: Framing | None = None, request: bytes | None = None) -> list[Fields]:
    """One dict for each valid frame in `data`, request or reply, in their order; empty where there is none.

    Fields that apply: protocol, transaction, unit, fc, address, file, record, count, bytes, words, u16, i16, float_be
    (IEEE 754, high word first, null where it is no number), bits_hex, exception, meaning. `framing` None finds
    out. `request` is the frame that a reply answers: it gives the reply its address.
    """
    asked: Fields = next(iter(describe(request)), {}) if request else {}
    for one in ("rtu", "tcp") if framing is None else (framing,):
        walk = _rtu_frames(data) if one == "rtu" else _tcp_frames(data)
        found = [head | _fields(body, sides) for head, body, sides in walk]
        if found:
            return [{"address": asked["address"]} | one if "address" in asked else one for one in found]
    return []


def _rtu_frames(data: bytes) -> Iterator[tuple[Fields, bytes, list[Side]]]:
    """Valid frames with the sides that understand them; a function of unknown length must fill all of the data."""
    start = 0
    while start + rtu.MIN_FRAME <= len(data):
        sides: list[Side] = []
        size = 0
        for side in ("server", "client"):
            length = pdu.pdu_length(side, data, start + 1)
            if length == pdu.UNKNOWN and start == 0:
                length = len(data) - 3
            end = start + length + 3
            # A short request inside a reply can have a good CRC by chance: the longer frame explains more bytes.
            if length > 0 and end - start >= size and end <= len(data) and rtu.valid(data[start:end]):
                sides = [*sides, side] if end - start == size else [side]
                size = end - start
        if sides:
            raw = data[start : start + size]
            yield {"protocol": "modbus-rtu", "unit": raw[0]}, raw[1:-2], sides
        start += size or 1


def _tcp_frames(data: bytes) -> Iterator[tuple[Fields, bytes, list[Side]]]:
    start = 0
    while start < len(data):
        sides: list[Side] = []
        size = 0
        for side in ("server", "client"):
            length = tcp.frame_length(side, data, start)
            if length > 0 and start + length <= len(data) and size in (0, length):
                sides.append(side)
                size = length
        if sides:
            raw = data[start : start + size]
            head = {"protocol": "modbus-tcp", "transaction": raw[0] << 8 | raw[1], "unit": raw[6]}
            yield head, raw[tcp.HEADER.size :], sides
        start += size or 1


def _fields(body: bytes, sides: list[Side]) -> Fields:
    """What a PDU says; where request and reply look alike, what either would say."""
    function = body[0]
    if function > pdu.EXCEPTION:
        code = body[1]
        meaning = pdu.EXCEPTIONS.get(code, "a code of its maker")
        return {"fc": function & 0x7F, "exception": code, "meaning": meaning}
    fields: Fields = {"fc": function}
    if function in _BITS + _WORDS:
        if "server" in sides:
            address, count = pdu.unpack_request(body)
            fields |= {"address": address, "count": count}
        if "client" in sides:
            fields |= {"bytes": body[1]} | (_numbers(body[2:]) if function in _WORDS else {"bits_hex": body[2:].hex()})
        return fields
    if function in _WRITES:
        address, value = pdu.unpack_request(body[:5])
        fields["address"] = address
        if function == pdu.WRITE_ONE:
            return fields | _numbers(body[3:5])
        if function == 5:
            return fields | {"on": value == 0xFF00}
        fields["count"] = value
        if "server" in sides and len(body) > 5:
            fields |= {"bytes": body[5]} | (_numbers(body[6:]) if function == 16 else {"bits_hex": body[6:].hex()})
        return fields
    if function == pdu.READ_FILE and (file := _file(body, sides)):
        return fields | file
    return fields | _foreign(body, sides)


def _file(body: bytes, sides: list[Side]) -> Fields:
    """Function 20 with one record; empty where it is anything else."""
    if "server" in sides and (asked := pdu.unpack_file_request(body)):
        return dict(zip(("file", "record", "count"), asked, strict=True))
    words = (len(body) - pdu.FILE_REPLY_HEAD) // 2
    if "client" in sides and words > 0 and body.startswith(pdu.file_reply_head(words)):
        return {"bytes": 2 * words} | _numbers(body[pdu.FILE_REPLY_HEAD :])
    return {}


def _numbers(data: bytes) -> Fields:
    """Words in every reading that fits."""
    words = list(pdu.unpack_words(data, 0, len(data) // 2))
    fields: Fields = {"words": words, "u16": words, "i16": [one - 0x10000 if one & 0x8000 else one for one in words]}
    # A write may announce an odd number of bytes, which no word and no float fills.
    if words and len(data) % 4 == 0:
        fields["float_be"] = [_float(one) for (one,) in struct.iter_unpack(">f", data)]
    return fields


def _float(value: float) -> float | None:
    """A float32 as its display would show it: seven digits, unless that moves it by more than its last bit."""
    if not math.isfinite(value):
        return None
    seven = float(f"{value:.7g}")
    last_bit = math.ldexp(1.0, max(math.frexp(value)[1], -125) - 24)
    return seven if abs(seven - value) <= last_bit else float(shortest(value))


def _foreign(body: bytes, sides: list[Side]) -> Fields:
    """A function that we do not use ourselves, as pymodbus names it."""
    for side in sides:
        try:
            found = pdu.parse(side, body)
        except FrameError:
            continue
        return {"meaning": type(found).__name__, "data": body[1:].hex()}
    return {"data": body[1:].hex()}
