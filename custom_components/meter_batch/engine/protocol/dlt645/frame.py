"""Frames of DL/T 645-2007 and -1997: 68 A0..A5 68 C L DATA CS 16.

Both editions share the frame. The address travels lowest pair first, DATA with 33H added to every byte, CS is the sum
of everything before it from the first 68 on. Preambles (FE) and other noise around a frame are no part of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...errors import ConfigError

type Variant = Literal["2007", "1997"]
"""The edition a meter speaks; frames are alike, functions, identifiers and items differ."""

START = 0x68
END = 0x16
OVERHEAD = 12
"""Bytes of a frame besides its data."""
REPLY = 0x80
ERROR = 0x40
MORE = 0x20
FUNCTION = 0x1F
WILDCARD = "AAAAAAAAAAAA"
BROADCAST = "999999999999"

_ADD = bytes((value + 0x33) & 0xFF for value in range(256))
TAKE = bytes((value - 0x33) & 0xFF for value in range(256))
_HEX = frozenset("0123456789ABCDEF")


@dataclass(frozen=True, slots=True)
class Frame:
    """One valid frame: the address as people write it (upper case), the data without the 33H, the bytes as received."""

    address: str
    control: int
    data: bytes
    raw: bytes

    @property
    def is_reply(self) -> bool:
        """True for a frame from a meter."""
        return bool(self.control & REPLY)

    @property
    def is_error(self) -> bool:
        """True where the meter refused; `data` is then its error byte."""
        return bool(self.control & ERROR)

    @property
    def more(self) -> bool:
        """True where further frames of the same answer can be asked for."""
        return bool(self.control & MORE)

    @property
    def function(self) -> int:
        """The function without direction, error and more bits."""
        return self.control & FUNCTION


def normal_address(text: str) -> str:
    """The 12 digits of an address, upper case (A for the wildcard); raises ConfigError where it is none."""
    address = text.strip().upper()
    if len(address) != 12 or not _HEX.issuperset(address):
        raise ConfigError(
            f'"{text}" is no DL/T 645 address: it has 12 digits as printed on the meter, for example 000012345678'
        )
    return address


def encode(address: str, control: int, data: bytes = b"") -> bytes:
    """The frame's bytes, without preamble; raises ConfigError for a bad address or more than 255 bytes of data."""
    if len(data) > 255:
        raise ConfigError(f"a DL/T 645 frame holds at most 255 bytes of data, not {len(data)}")
    body = b"\x68%b\x68%c%c%b" % (
        bytes.fromhex(normal_address(address))[::-1],
        control,
        len(data),
        data.translate(_ADD),
    )
    return body + bytes((sum(body) & 0xFF, END))


class Framer:
    """Finds valid frames in a stream of bytes, however it is split and whatever stands between them.

    Frames are given in the order of their last byte. A start that turns out to be none is left at the next byte, and
    while one waits for its length the bytes behind it are searched too, so neither a stray 68 nor a damaged length
    hides the frame that follows. (No frame hides inside an honest one: no decimal digits travel as the closing 16.)
    At most one frame's length, 267 bytes, is kept.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """Takes bytes; the frames that are complete with them."""
        buffer = self._buffer
        buffer += data
        frames = []
        while (found := self._first_complete()) is not None:
            start, end = found
            raw = bytes(buffer[start:end])
            frames.append(Frame(raw[6:0:-1].hex().upper(), raw[8], raw[10:-2].translate(TAKE), raw))
            del buffer[:end]
        return frames

    def _first_complete(self) -> tuple[int, int] | None:
        """Start and end of the valid frame that ends first; where there is none, drops what can begin none any more."""
        buffer = self._buffer
        size = len(buffer)
        first_open: int | None = None
        best: tuple[int, int] | None = None
        start = buffer.find(START)
        while start >= 0:
            if best is not None and start >= best[1] - OVERHEAD:
                break
            if start + 9 < size:
                if buffer[start + 7] == START:
                    end = start + OVERHEAD + buffer[start + 9]
                    if end > size:
                        first_open = start if first_open is None else first_open
                    elif (best is None or end < best[1]) and _valid(buffer, start, end):
                        best = (start, end)
            elif start + 7 >= size or buffer[start + 7] == START:
                first_open = start if first_open is None else first_open
            start = buffer.find(START, start + 1)
        if best is None:
            del buffer[: size if first_open is None else first_open]
        return best


def _valid(buffer: bytearray, start: int, end: int) -> bool:
    return buffer[end - 1] == END and sum(memoryview(buffer)[start : end - 2]) & 0xFF == buffer[end - 2]
