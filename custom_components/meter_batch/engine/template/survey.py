"""What the words of an unknown Modbus meter can mean: voltages and hertz show number type, word order and scale. Pure.

Nothing here is certain; a person compares with the display.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from .datasheet import DraftRow

_SCALES = {"float32": ("1", "0.1", "0.01", "0.001"), "uint16": ("0.1", "0.01", "1"), "uint32": ("0.1", "0.01", "0.001")}
_CODES = {"float32": "f", "uint16": "H", "uint32": "I"}
_VOLTS = ((195.0, 265.0), (100.0, 130.0))
"""Of networks of 220 to 240 V, and of 100 to 127 V."""
_HERTZ = ((49.0, 51.0), (59.0, 61.0))


@dataclass(frozen=True, slots=True)
class WordReading:
    """How words may be read: number type, which word is first, and the scale of voltages."""

    type: str
    little: bool
    scale: Decimal


@dataclass(frozen=True, slots=True)
class Survey:
    """The likeliest way to read a meter, its rows, and what else holds numbers, as text by address."""

    reading: WordReading | None
    rows: tuple[DraftRow, ...]
    rest: Mapping[int, str]


def survey(function: int, words: Mapping[int, int], later: Mapping[int, int]) -> Survey:
    """What is likely in the words of a meter, by address; `later` are the same a while after, to see what counts."""
    best: tuple[tuple[int, bool, int], WordReading, tuple[DraftRow, ...]] | None = None
    for reading in _readings():
        rows = _rows(function, words, reading)
        # Read one word further on, the other word order gives nearly the same: what begins earlier is likelier.
        likely = sum(3 if row.key.startswith("voltage") else 2 for row in rows)
        score = likely, not _odd(reading), -rows[0].address if rows else 0
        if rows and (best is None or score > best[0]):
            best = score, reading, rows
    if best is None:
        return Survey(None, (), {})
    _, reading, rows = best
    taken = {row.address for row in rows}
    rest: dict[int, str] = {}
    for address, value in _values(words, reading):
        if address in taken or value == 0 or not _in_step(address, rows, 1 if reading.type == "uint16" else 2):
            continue
        after = _value(later, address, reading)
        grows = after is not None and after > value > 0
        rest[address] = f"{value:.6g}" + (" (grew)" if grows else "")
    return Survey(reading, rows, rest)


def _readings() -> Iterator[WordReading]:
    for kind, scales in _SCALES.items():
        for scale in scales:
            yield WordReading(kind, False, Decimal(scale))
            if kind != "uint16":
                yield WordReading(kind, True, Decimal(scale))


def _rows(function: int, words: Mapping[int, int], reading: WordReading) -> tuple[DraftRow, ...]:
    step = 1 if reading.type == "uint16" else 2
    volts = [address for address, value in _values(words, reading) if _in(value, _VOLTS)]
    first = next((one for one in volts if {one + step, one + 2 * step} <= set(volts)), None)
    rows: list[DraftRow] = []
    if first is not None:
        rows += [_row(f"voltage_l{n + 1}", function, first + n * step, reading, reading.scale) for n in range(3)]
    elif len(volts) == 1:
        rows.append(_row("voltage", function, volts[0], reading, reading.scale))
    else:
        return ()
    plain = reading.type == "float32" and not _odd(reading)
    for scale in (Decimal(one) for one in (("1",) if plain else _SCALES[reading.type])):
        as_hertz = WordReading(reading.type, reading.little, scale)
        hertz = [one for one, value in _values(words, as_hertz) if _in(value, _HERTZ) and _in_step(one, rows, step)]
        if hertz:
            rows.append(_row("frequency", function, hertz[0], reading, scale))
            break
    # Floats mostly are volts themselves: where they would be tenths, hertz must say so too.
    return () if _odd(reading) and rows[-1].key != "frequency" else tuple(rows)


def _odd(reading: WordReading) -> bool:
    return reading.type == "float32" and reading.scale != 1


def _in_step(address: int, rows: Sequence[DraftRow], step: int) -> bool:
    """True where a value may begin that lies in one row with the voltages: values follow each other without gaps."""
    return (address - rows[0].address) % step == 0


def _row(key: str, function: int, address: int, reading: WordReading, scale: Decimal) -> DraftRow:
    order = "low word first" if reading.little else "high word first"
    words = "" if reading.type == "uint16" else f", {order}"
    doubt = f"guessed from a plausible value ({reading.type}{words}): compare with the display"
    return DraftRow(key, function, address, reading.type, scale, doubt, key)


def _in(value: float, ranges: Sequence[tuple[float, float]]) -> bool:
    return any(low <= value <= high for low, high in ranges)


def _values(words: Mapping[int, int], reading: WordReading) -> Iterator[tuple[int, float]]:
    for address in sorted(words):
        value = _value(words, address, reading)
        if value is not None:
            yield address, value


def _value(words: Mapping[int, int], address: int, reading: WordReading) -> float | None:
    places = [address] if reading.type == "uint16" else [address, address + 1]
    if not words.keys() >= set(places):
        return None
    own = [words[one] for one in places]
    if reading.little:
        own.reverse()
    (raw,) = struct.unpack(">" + _CODES[reading.type], b"".join(one.to_bytes(2) for one in own))
    value = float(raw) * float(reading.scale)
    return value if math.isfinite(value) and abs(value) < 1e9 and (value == 0 or abs(value) > 1e-6) else None
