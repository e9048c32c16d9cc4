"""Which protocol some bytes speak; also those that can be named but not read."""

from __future__ import annotations

import re

from meter_batch_engine.protocol.dlt645.frame import Frame

PROTOCOLS = (
    "modbus-rtu",
    "modbus-tcp",
    "dlt645-2007",
    "dlt645-1997",
    "dlms-hdlc",
    "dlms-wrapper",
    "dlms-apdu",
)
"""What `--protocol` takes; the last three are known by name only."""

UNSUPPORTED = {
    "dlms-hdlc": "DLMS/COSEM in HDLC frames",
    "dlms-wrapper": "DLMS/COSEM with the IP wrapper",
    "dlms-apdu": "a DLMS/COSEM APDU",
    "m-bus": "M-Bus (EN 13757-2)",
    "698.45": "DL/T 698.45",
    "1376.1": "Q/GDW 1376.1 (concentrator to master station)",
    "1376.2": "Q/GDW 1376.2 (local communication module)",
    "62056-21": "IEC 62056-21 (optical head, mode A to E)",
}
"""Protocols that are recognised and not supported, with the names that people know."""

_FUNCTIONS_1997 = frozenset((0x01, 0x02, 0x04, 0x0A, 0x0C, 0x0F, 0x10))
_APDU_TAGS = frozenset((0x0F, *range(0x60, 0x64), *range(0xC0, 0xC8), *range(0xC8, 0xE0)))


def parse_hex(text: str) -> bytes:
    """Bytes from hexadecimal text with or without 0x, \\x, spaces, colons, commas or dashes; raises ValueError."""
    plain = re.sub(r"0[xX]|\\x|[\s:,;_.-]", "", text)
    wrong = re.search(r"[^0-9a-fA-F]", plain)
    if wrong:
        raise ValueError(f'"{wrong[0]}" is no hexadecimal digit')
    if not plain:
        raise ValueError("there are no bytes")
    if len(plain) % 2:
        raise ValueError(f"{len(plain)} hexadecimal digits are no whole number of bytes: one is missing or too many")
    return bytes.fromhex(plain)


def edition(frame: Frame) -> str:
    """The edition of DL/T 645 whose function a frame carries; 2007 where both know it."""
    return "dlt645-1997" if frame.function in _FUNCTIONS_1997 else "dlt645-2007"


def is_modbus_tcp(data: bytes) -> bool:
    """True where the bytes are Modbus TCP frames from end to end: protocol 0 and fitting lengths."""
    while data:
        size = 6 + int.from_bytes(data[4:6])
        if len(data) < 8 or data[2:4] != b"\0\0" or not 8 <= size <= 260 or size > len(data):
            return False
        data = data[size:]
    return True


def unsupported(data: bytes) -> str | None:
    """The key in `UNSUPPORTED` of bytes that are whole and clearly of that protocol; None where none fits."""
    bare = data.lstrip(b"\xfe")
    match bare[:1]:
        case b"\x68" if len(bare) >= 8 and bare[-1] == 0x16:
            return _after_68(bare)
        case b"\x7e" if len(data) >= 9 and data[-1] == 0x7E and data[1] >> 4 == 0xA:
            return "dlms-hdlc"
        case b"\x10" if len(data) == 5 and data[-1] == 0x16 and (data[1] + data[2]) & 0xFF == data[3]:
            return "m-bus"
        case b"\xe6" if data[:2] in (b"\xe6\xe6", b"\xe6\xe7") and data[2:3] == b"\0":
            return "dlms-apdu"
        case b"/" if re.fullmatch(rb"/[\x20-\x7e]+\r?\n?[\s\S]*", data):
            return "62056-21"
    if data == b"\xe5":
        return "m-bus"
    if len(data) > 8 and data[:2] == b"\0\1" and int.from_bytes(data[6:8]) == len(data) - 8:
        return "dlms-wrapper"
    return "dlms-apdu" if len(data) >= 3 and data[0] in _APDU_TAGS else None


def _after_68(data: bytes) -> str | None:
    """Which of the protocols that begin with 68 and end with 16."""
    if data[1] == data[2] and data[3] == 0x68 and len(data) == data[1] + 6:
        return "m-bus"
    if data[1:3] == data[3:5] and data[5] == 0x68:
        return "1376.1"
    length = int.from_bytes(data[1:3], "little")
    if length & 0x3FFF == len(data) - 2:
        return "698.45"
    if length == len(data) and sum(data[3:-2]) & 0xFF == data[-2]:
        return "1376.2"
    return None


def damage(data: bytes) -> str:
    """What is wrong with bytes that hold no valid frame of a protocol we read, in words."""
    start = next((at for at in range(len(data) - 9) if data[at] == data[at + 7] == 0x68), None)
    if start is not None:
        frame = data[start:]
        size = 12 + frame[9]
        if len(frame) < size:
            return f"looks like DL/T 645, but is cut off: {size} bytes are announced and {len(frame)} came"
        if frame[size - 1] != 0x16:
            return f"looks like DL/T 645, but ends with {frame[size - 1]:02X} instead of 16"
        checksum = sum(frame[: size - 2]) & 0xFF
        return f"looks like DL/T 645, but its checksum is {frame[size - 2]:02X} where {checksum:02X} is right"
    if data[:1] in (b"\x68", b"\xfe") and 0x68 in data:
        return "begins like DL/T 645, but has no second 68 seven bytes after the first: damaged or cut off"
    return "no valid frame of a known protocol: damaged, cut off or something else"
