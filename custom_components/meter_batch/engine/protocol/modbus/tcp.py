"""Modbus TCP frames: the MBAP header (transaction, protocol 0, length, unit) before the PDU."""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass

from .pdu import IMPOSSIBLE, MAX_PDU, MORE, UNKNOWN, Side, pdu_length

HEADER = struct.Struct(">HHHB")


_STEP = 0x9E37
"""From one number to the next: odd, so that all come, and far, so that a counter of the far end's never goes along."""
_EARLIER = 16
_ENOUGH = 3


class Numbers:
    """The transaction numbers of one connection, and whether the far end sends them back as it must.

    Some gateways always say 0, or count by themselves. That is believed after three questions in a row, each asked
    while no earlier one was open that could have been meant, and each followed by exactly one reply that fits but for
    its number, which is none that was given to an earlier question. From then on unit, function and length decide, as
    on a wire.
    """

    def __init__(self) -> None:
        self.kept = True
        """False once it is known that the numbers do not come back."""
        self._given: deque[int] = deque(maxlen=_EARLIER)
        self._last = self._count = self._blamed = self._run = 0

    def next(self) -> int:
        """The number for a new question; a question that is asked again keeps its own."""
        self._last = (self._last + _STEP) & 0xFFFF or _STEP
        self._given.append(self._last)
        if self._count != self._blamed:
            self._run = 0
        self._count += 1
        return self._last

    @property
    def doubted(self) -> bool:
        """True while, or once, the far end is suspected: then a reply to an earlier question must be waited for."""
        return not self.kept or self._run > 0

    def is_earlier(self, number: int) -> bool:
        """True for the number of one of the last questions, the newest excepted."""
        return number != self._last and number in self._given

    def another(self, number: int) -> None:
        """The question of this number, the newest, was answered under one that was never given."""
        if number != self._last:
            return
        self._run += 1
        self._blamed = self._count
        if self._run >= _ENOUGH:
            self.kept = False


def encode(transaction: int, unit: int, pdu: bytes) -> bytes:
    """The frame's bytes."""
    return HEADER.pack(transaction, 0, len(pdu) + 1, unit) + pdu


@dataclass(frozen=True, slots=True)
class TcpFrame:
    """One frame; `raw` is all of it, header included."""

    transaction: int
    unit: int
    pdu: bytes
    raw: bytes


class TcpFramer:
    """Finds frames in a stream of bytes, however it is split; leaves what is none one byte at a time.

    There is no checksum: a frame is one whose protocol is 0 and whose length is that of its function.
    """

    def __init__(self, side: Side) -> None:
        self._side: Side = side
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[TcpFrame]:
        """Takes bytes; the frames that are complete with them."""
        buffer = self._buffer
        buffer += data
        frames = []
        start, size = 0, len(buffer)
        while start < size:
            length = frame_length(self._side, buffer, start)
            if length == IMPOSSIBLE:
                start += 1
            elif length == MORE or start + length > size:
                break
            else:
                raw = bytes(buffer[start : start + length])
                frames.append(TcpFrame(raw[0] << 8 | raw[1], raw[6], raw[7:], raw))
                start += length
        del buffer[:start]
        return frames


def frame_length(side: Side, data: bytes | bytearray, at: int) -> int:
    """The length of the frame that begins at `data[at]`, or `MORE`, `IMPOSSIBLE`."""
    left = len(data) - at
    if left < HEADER.size + 1:
        # What has come must not contradict a header, so that noise is left before the whole header is there.
        if (left > 2 and data[at + 2]) or (left > 3 and data[at + 3]) or (left > 4 and data[at + 4]):
            return IMPOSSIBLE
        return MORE
    _, protocol, length, _ = HEADER.unpack_from(data, at)
    if protocol or not 2 <= length <= MAX_PDU + 1:
        return IMPOSSIBLE
    inner = pdu_length(side, data, at + HEADER.size)
    if inner == UNKNOWN:
        return 6 + int(length)
    if inner == MORE:
        return MORE
    return 6 + int(length) if inner == length - 1 else IMPOSSIBLE
