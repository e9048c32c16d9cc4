"""Modbus RTU frames: unit, PDU, CRC. Found by exact length, never by silence, so they survive TCP and busy hosts."""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass
from functools import cache

from .pdu import IMPOSSIBLE, MORE, UNKNOWN, Side, pdu_length

MIN_FRAME = 4
MAX_FRAME = 256


def _step(crc: int, bits: int) -> int:
    for _ in range(bits):
        crc = crc >> 1 ^ 0xA001 if crc & 1 else crc >> 1
    return crc


_BYTE = tuple(_step(value, 8) for value in range(256))


@cache
def _pair_table() -> array[int]:
    """The CRC of every pair of bytes: half as many steps as byte by byte, for 128 KB that are built once."""
    firsts = (_BYTE[pair & 0xFF] ^ pair >> 8 for pair in range(0x10000))
    return array("H", (_BYTE[first & 0xFF] ^ first >> 8 for first in firsts))


def crc(data: bytes | bytearray | memoryview) -> int:
    """The CRC-16 of Modbus (polynomial A001H reflected, begins at FFFFH); sent low byte first."""
    table = _pair_table()
    size = len(data)
    value = 0xFFFF
    for pair in struct.unpack_from(f"<{size >> 1}H", data):
        value = table[value ^ pair]
    if size & 1:
        value = _BYTE[(value ^ data[-1]) & 0xFF] ^ value >> 8
    return value


def encode(unit: int, pdu: bytes) -> bytes:
    """The frame's bytes."""
    body = bytes((unit,)) + pdu
    return body + crc(body).to_bytes(2, "little")


def valid(frame: bytes | bytearray | memoryview) -> bool:
    """True where the last two bytes are the CRC of those before them."""
    # Over a frame together with its own CRC the CRC is 0.
    return len(frame) >= MIN_FRAME and crc(frame) == 0


@dataclass(frozen=True, slots=True)
class RtuFrame:
    """One valid frame; `raw` is all of it, CRC included."""

    unit: int
    pdu: bytes
    raw: bytes


class RtuFramer:
    """Finds valid frames in a stream of bytes, however it is split and whatever stands between them.

    A frame is given with its last byte. Bytes that cannot begin a frame are left one at a time, and while a possible
    beginning waits for its length the bytes behind it are searched too, so that noise which looks like a long frame
    does not hide the real one. A function whose length is not known is taken where a frame may begin (at the start or
    right behind another frame) as soon as the CRC fits all that came. At most one frame's length is kept.
    """

    def __init__(self, side: Side) -> None:
        self._side: Side = side
        self._buffer = bytearray()
        self._open: list[int] = []
        """Where frames may have begun that are not complete yet, ascending."""
        self._next = 0
        """The first byte that was not looked at as a beginning."""
        self._fresh = True
        """True where the buffer begins at the start of the stream or right behind a frame."""

    def feed(self, data: bytes) -> list[RtuFrame]:
        """Takes bytes; the frames that are complete with them."""
        buffer = self._buffer
        buffer += data
        frames = []
        while (found := self._first()) is not None:
            start, end = found
            raw = bytes(buffer[start:end])
            frames.append(RtuFrame(raw[0], raw[1:-2], raw))
            del buffer[:end]
            self._open, self._next, self._fresh = [], 0, True
        return frames

    def _first(self) -> tuple[int, int] | None:
        buffer, side = self._buffer, self._side
        size = len(buffer)
        starts, still_open = [*self._open, *range(self._next, size)], []
        for start in starts:
            length = pdu_length(side, buffer, start + 1)
            if length == IMPOSSIBLE:
                continue
            if length == UNKNOWN:
                if start == 0 and self._fresh and size <= MAX_FRAME:
                    if valid(buffer):
                        return 0, size
                    still_open.append(0)
                continue
            end = start + length + 3
            if length == MORE or end > size:
                still_open.append(start)
            elif valid(memoryview(buffer)[start:end]):
                return start, end
        keep = still_open[0] if still_open else size
        if keep:
            del buffer[:keep]
            self._fresh = False
        self._open = [start - keep for start in still_open]
        self._next = size - keep
        return None
