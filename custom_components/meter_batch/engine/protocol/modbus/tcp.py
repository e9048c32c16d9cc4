"""Modbus TCP frames: the MBAP header (transaction, protocol 0, length, unit) before the PDU."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from .pdu import IMPOSSIBLE, MAX_PDU, MORE, UNKNOWN, Side, pdu_length

HEADER = struct.Struct(">HHHB")


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
