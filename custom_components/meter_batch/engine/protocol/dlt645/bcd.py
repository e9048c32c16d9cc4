"""Packed decimal digits, lowest pair first: numbers, dates and times as DL/T 645 writes them."""

from __future__ import annotations

from datetime import datetime
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal

from ...errors import ConfigError, DecodeError
from ...sentences import say


def digits(data: bytes) -> str:
    """The digits, most significant first; raises DecodeError where a half byte is none (`raw` holds the bytes)."""
    text = data[::-1].hex()
    if not text.isdecimal():
        raise DecodeError(say("dlt645_no_digit", data=data.hex()), data)
    return text


def is_absent(data: bytes) -> bool:
    """True for FF..FF: the meter has no such value (a phase that is not fitted)."""
    return data.count(0xFF) == len(data)


def decode_number(data: bytes, decimals: int, signed: bool) -> Decimal | None:
    """The number, None for FF..FF; the sign is the highest bit of the last byte. Raises DecodeError."""
    if is_absent(data):
        return None
    text = data[::-1].hex()
    negative = signed and data[-1] >= 0x80
    if negative:
        text = f"{data[-1] & 0x7F:02x}{text[2:]}"
    if not text.isdecimal():
        raise DecodeError(say("dlt645_no_digit", data=data.hex()), data)
    number = Decimal(int(text)).scaleb(-decimals)
    return -number if negative and number else number


def encode_number(
    value: Decimal | float | None, size: int, decimals: int, signed: bool, *, register: bool = False
) -> bytes:
    """`decode_number` backwards. A `register` is cut off and rolls over as real ones do; anything else is rounded.

    Raises ConfigError where the value does not fit.
    """
    if value is None:
        return b"\xff" * size
    exact = value if isinstance(value, Decimal) else Decimal(repr(value))
    whole = int(abs(exact).scaleb(decimals).to_integral_value(ROUND_DOWN if register else ROUND_HALF_UP))
    limit = 10 ** (2 * size) * 8 // 10 if signed else 10 ** (2 * size)
    if register:
        whole %= limit
    negative = exact < 0 and whole > 0
    if whole >= limit or (negative and not signed):
        raise ConfigError(f"{value} does not fit into {2 * size} digits with {decimals} decimals")
    wire = bytearray.fromhex(f"{whole:0{2 * size}d}")
    wire[0] |= 0x80 * negative
    return bytes(wire[::-1])


def decode_moment(data: bytes) -> datetime | None:
    """mm hh DD MM YY, or ss in front of it, as a naive time of the years 2000 to 2099; None where it never happened.

    Never happened is all 00 or all FF. Raises DecodeError where there is no such time.
    """
    if is_absent(data) or not any(data):
        return None
    text = digits(data)
    try:
        return datetime(2000 + int(text[:2]), *(int(text[at : at + 2]) for at in range(2, len(text), 2)))  # type: ignore[arg-type] # noqa: DTZ001
    except ValueError:
        raise DecodeError(say("dlt645_no_moment", data=data.hex()), data) from None


def encode_moment(at: datetime | None, size: int) -> bytes:
    """`decode_moment` backwards; `size` is 5 (to the minute) or 6 (to the second)."""
    if at is None:
        return bytes(size)
    return bytes.fromhex(f"{at:%y%m%d%H%M%S}"[: 2 * size])[::-1]
