"""Numbers in registers: how types lie in words, and what a float32 says in decimal."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from decimal import Decimal

_FLOAT32 = struct.Struct(">f")


@dataclass(frozen=True, slots=True)
class WordType:
    """A number type: `code` of the struct module, how many words it takes, its bounds (None for floats)."""

    code: str
    words: int
    low: int | None = None
    high: int | None = None

    @property
    def is_float(self) -> bool:
        """True for float32 and float64."""
        return self.high is None


WORD_TYPES: dict[str, WordType] = {
    "uint16": WordType("H", 1, 0, 2**16 - 1),
    "int16": WordType("h", 1, -(2**15), 2**15 - 1),
    "uint32": WordType("I", 2, 0, 2**32 - 1),
    "int32": WordType("i", 2, -(2**31), 2**31 - 1),
    "uint64": WordType("Q", 4, 0, 2**64 - 1),
    "int64": WordType("q", 4, -(2**63), 2**63 - 1),
    "float32": WordType("f", 2),
    "float64": WordType("d", 4),
}


def shortest(value: float) -> Decimal:
    """The shortest decimal that a float32 (given as a Python float) stands for: 230.2, not 230.1999969482422."""
    # Six digits always survive a float32, and seven print them unchanged, so fewer need not be tried.
    for places in (7, 8, 9):
        text = f"{value:.{places}g}"
        try:
            if _FLOAT32.unpack(_FLOAT32.pack(float(text)))[0] == value:
                break
        except OverflowError:
            # Near the greatest float32 a rounded text can lie beyond it.
            continue
    number = Decimal(text)
    return number.quantize(Decimal(1)) if "e+" in text and abs(number) < 10**27 else number
