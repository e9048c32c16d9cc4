"""What a receiver makes of characters that were sent at another speed or parity, or with A and B swapped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Setting:
    """How a port is set. Always eight data bits."""

    baud: int
    parity: str = "N"
    stop_bits: int = 1

    @property
    def bits(self) -> int:
        """Bits of a character."""
        return 9 + (self.parity != "N") + self.stop_bits


def received(data: bytes, sent: Setting, by: Setting, *, inverted: bool = False) -> bytes:
    """The bytes that a port set like `by` receives; a character with a wrong parity or stop bit reads 00, as ports do.

    The line is sampled in the middle of each bit, as receivers do.
    """
    level = list(_levels(data, sent))
    if inverted:
        level = [1 - one for one in level]
    heard = bytearray()
    idle_level = 0 if inverted else 1
    step = sent.baud / by.baud
    end, place = len(level), 0.0

    def at(when: float) -> int:
        index = int(when)
        return level[index] if index < end else idle_level

    while place < end:
        # A character begins where the line falls.
        start = next((index for index in range(int(place), end) if not level[index]), None)
        if start is None:
            break
        begin = max(place, float(start))
        bits = [at(begin + (number + 0.5) * step) for number in range(by.bits)]
        byte = sum(bit << number for number, bit in enumerate(bits[1:9]))
        odd = sum(bits[1:9]) % 2
        wrong_parity = by.parity != "N" and bits[9] != (odd if by.parity == "E" else 1 - odd)
        framing = bits[-1] == 0
        heard.append(0 if wrong_parity or framing else byte)
        place = begin + (by.bits - 0.5) * step
        if framing:
            # The line must first be idle again: a break is one character.
            idle = next((index for index in range(int(place), end) if level[index]), end)
            place = max(place, float(idle))
    return bytes(heard)


def _levels(data: bytes, sent: Setting) -> Iterator[int]:
    for byte in data:
        bits = [byte >> number & 1 for number in range(8)]
        yield 0
        yield from bits
        if sent.parity != "N":
            yield sum(bits) % 2 if sent.parity == "E" else 1 - sum(bits) % 2
        yield from (1,) * sent.stop_bits
