"""Who a meter says that it is: where its serial number and its model stand, and how they are written there.

A model whose place for them is not known has none, and then nothing is claimed about a meter of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ..errors import ConfigError, DecodeError

IDENTITY_TYPES = ("uint16", "uint32", "uint64", "ascii", "bcd", "hex")
"""Whole numbers, high word first; characters, digits or bytes over several words."""
IDENTITY_WORDS = {"uint16": 1, "uint32": 2, "uint64": 4}
"""Words of the types that have a fixed length."""


@dataclass(frozen=True, slots=True)
class IdentityItem:
    """One thing that a Modbus meter says about itself: what to read, and where in that it stands.

    `address` and `count` are the request; the value is `size` words from `skip` on, because some meters answer only for
    the whole block that a value lies in.
    """

    function: int
    address: int
    count: int
    type: str
    skip: int = 0
    size: int = 0
    """Words of the value; 0 for all that are read."""
    little: bool = False
    """True where the low word comes first."""
    sources: tuple[str, ...] = ()
    doubt: str | None = None

    def text(self, words: Sequence[int]) -> str | None:
        """The value of the words that were read, as people write it; None where the meter has none.

        Raises DecodeError where there are fewer words than were asked for.
        """
        if len(words) < self.count:
            raise DecodeError(f"{len(words)} words, {self.count} were asked for")
        own = list(words[self.skip : self.skip + (self.size or self.count)])
        if not any(own) or all(word == 0xFFFF for word in own):
            return None
        if self.little:
            own.reverse()
        data = b"".join(word.to_bytes(2) for word in own)
        if self.type == "ascii":
            shown = "".join(chr(byte) for byte in data if 0x20 <= byte < 0x7F).strip()
            return shown or None
        if self.type == "hex":
            return data.hex().upper()
        if self.type == "bcd":
            shown = data.hex()
            return shown if shown.isdecimal() else None
        return str(int.from_bytes(data))

    def words(self, text: str) -> tuple[int, ...]:
        """`text` backwards: what a meter holds that shows this; the rest of a block is zero.

        Raises ConfigError where the text does not fit.
        """
        size = 2 * (self.size or self.count)
        try:
            if self.type == "ascii":
                data = text.encode("ascii").ljust(size, b"\0")
            elif self.type in ("hex", "bcd"):
                data = bytes.fromhex(text.rjust(2 * size, "0"))
            else:
                data = int(text).to_bytes(size)
        except ValueError, OverflowError:
            data = b""
        if len(data) != size:
            raise ConfigError(f'"{text}" does not fit {size // 2} words of type {self.type}')
        own = [int.from_bytes(data[place : place + 2]) for place in range(0, size, 2)]
        if self.little:
            own.reverse()
        return (*(0,) * self.skip, *own, *(0,) * (self.count - self.skip - len(own)))


@dataclass(frozen=True, slots=True)
class Identity:
    """What a model says about its meters; None where that is not known."""

    serial: IdentityItem | None = None
    model: IdentityItem | None = None
    expected: tuple[str, ...] = ()
    """What `model` reads on a meter of this model: texts, in which * stands for anything."""

    def is_model(self, code: str | None) -> bool | None:
        """Whether a meter that says `code` is of this model; None where that cannot be told.

        A list of codes that is in doubt can say yes, never no.
        """
        if code is None or self.model is None or not self.expected:
            return None
        if any(fnmatchcase(code, one) for one in self.expected):
            return True
        return None if self.model.doubt else False


NO_IDENTITY = Identity()
