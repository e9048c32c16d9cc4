"""Answers → readings. What a request needs for that is compiled once, with the request."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cached_property, lru_cache
from itertools import pairwise
from operator import itemgetter, truediv
from typing import Any, cast

from ..errors import DecodeError
from ..model.obis import Obis
from ..model.reading import Reading, Value
from ..protocol.dlt645.exchange import Data
from ..protocol.dlt645.frame import Variant
from ..protocol.dlt645.item import decode_item, item_bytes
from ..protocol.modbus.words import shortest
from ..sentences import say
from .schema import DltItem, ModbusWords, Register


def unfold(power_factor: float) -> float:
    """A power factor out of four-quadrant code, in which 2 − |PF| (with the sign) says that it is leading."""
    return math.copysign(2.0, power_factor) - power_factor if abs(power_factor) > 1 else power_factor


class WordDecoder:
    """The registers of one Modbus request: one picking of words, one struct, one division."""

    def __init__(self, registers: Sequence[Register], address: int, count: int) -> None:
        self._count = count
        self._obis = tuple(register.obis for register in registers)
        places: list[int] = []
        codes: list[str] = []
        divisors: list[float] = []
        absent: list[int | None] = []
        self._special: list[tuple[int, int, Callable[[Sequence[float], int], Value | None]]] = []
        """Where a value begins, which register it is, and what makes it of the raw values."""
        has_float = False
        plain: list[int] = []
        for number, register in enumerate(registers):
            locator = register.locator
            assert isinstance(locator, ModbusWords)
            kind = locator.word_type
            has_float |= kind.is_float
            begin = len(codes)
            for part in range(locator.parts):
                first = locator.address - address + part * kind.words
                words = list(range(first, first + kind.words))
                places += reversed(words) if locator.little else words
                codes.append(kind.code)
                divisors.append(float(1 / register.scale))
                absent.append(next(iter(register.absent), None))
            plain.append(begin)
            if special := _special(register, locator):
                self._special.append((number, begin, special))
        self._pick = self._only = None
        in_order = all(one < other for one, other in pairwise(places))
        if in_order and count <= 2 * len(places):
            # To jump over the words between is cheaper than to pick the others.
            codes = _with_gaps(codes, places, count)
            places = list(range(count))
        elif len(places) > 1:
            self._pick = itemgetter(*places)
        else:
            self._only = places[0]
        self._words = struct.Struct(f">{len(places)}H")
        self._values = struct.Struct(">" + "".join(codes))
        self._divisors = tuple(divisors)
        self._has_float = has_float
        self._absent = tuple(absent) if any(one is not None for one in absent) else None
        self._absences = frozenset(absent) - {None}
        # Sums of parts have more raw values than registers.
        self._plain = None if plain == list(range(len(divisors))) else plain

    def values(self, words: Sequence[int]) -> list[Value | None]:
        """The values in the order of the registers, None where the meter says that it has none."""
        if len(words) != self._count:
            raise DecodeError(say("modbus_word_count", count=len(words), asked=self._count))
        if self._pick is not None:
            words = self._pick(words)
        elif self._only is not None:
            words = (words[self._only],)
        raw = self._values.unpack(self._words.pack(*words))
        values: list[Value | None] = list(map(truediv, raw, self._divisors, strict=True))
        # One look for all: hardly ever is a value absent, and where it is, which one is seen then.
        if self._absent is not None and not self._absences.isdisjoint(raw):
            values = [
                one / divisor if one != absent else None
                for one, divisor, absent in zip(raw, self._divisors, self._absent, strict=True)
            ]
        # Infinities and NaN survive a sum.
        if self._has_float and not math.isfinite(sum(raw)):
            values = [value if math.isfinite(one) else None for value, one in zip(values, raw, strict=True)]
        if self._plain is not None:
            values = [values[begin] for begin in self._plain]
        for number, begin, special in self._special:
            values[number] = special(raw, begin)
        return values

    def readings(self, words: Sequence[int], at: datetime) -> list[Reading]:
        """The readings of what the meter has."""
        values = zip(self._obis, self.values(words), strict=True)
        return [Reading(obis, value, at) for obis, value in values if value is not None]


def _with_gaps(codes: Sequence[str], places: Sequence[int], count: int) -> list[str]:
    """The codes of values with pads for the words between them."""
    padded, at, taken = [], 0, 0
    for code in codes:
        padded.append(f"{2 * (places[taken] - at)}x{code}")
        words = struct.calcsize(f">{code}") // 2
        at, taken = places[taken] + words, taken + words
    return [*padded, f"{2 * (count - at)}x"]


def _special(register: Register, locator: ModbusWords) -> Callable[[Sequence[float], int], Value | None] | None:
    """How a register is made that is more than a division; None for the many that are not."""
    parts, scale, absent = locator.parts, register.scale, register.absent
    exact: Callable[[float], Decimal]
    if locator.type == "float32":
        exact = shortest
    elif locator.type == "float64":
        exact = _from_float64
    else:
        exact = Decimal
    if not register.exact and len(absent) <= 1 and parts == 1 and not register.fold:
        return None
    divisor, fold = float(1 / scale), register.fold

    def make_one(raw: float) -> Value | None:
        if raw in absent or not math.isfinite(raw):
            return None
        if register.exact:
            return exact(raw) * scale
        return unfold(raw / divisor) if fold else raw / divisor

    # Most energies stand still between two readings: exports, tariffs, nights.
    remembered = lru_cache(maxsize=256)(make_one)
    if parts == 1:
        return lambda raw, begin: remembered(raw[begin])

    def make_sum(raw: Sequence[float], begin: int) -> Value | None:
        total: Any = 0
        for one in raw[begin : begin + parts]:
            value = remembered(one)
            if value is None:
                return None
            total += value
        return cast("Value", total)

    return make_sum


def _from_float64(value: float) -> Decimal:
    number = Decimal(repr(value))
    return number.quantize(Decimal(1)) if value.is_integer() and abs(value) < 1e27 else number


class ItemDecoder:
    """The registers of one DL/T 645 request."""

    def __init__(self, registers: Sequence[Register], di: str, variant: Variant) -> None:
        self._di = di
        self._variant = variant
        self._by_item: Mapping[str, Register] = {
            register.locator.single: register for register in registers if isinstance(register.locator, DltItem)
        }

    def readings(self, data: bytes, at: datetime) -> list[Reading]:
        """The readings of what the meter has; raises DecodeError for digits that are none."""
        readings = []
        for item in decode_item(self._di, data, self._variant):
            register = self._by_item.get(item.di)
            if register is None or not isinstance(item.value, Decimal):
                continue
            value = item.value * register.scale
            readings.append(Reading(register.obis, value if register.exact else float(value), at))
        return readings


@dataclass(frozen=True, eq=False)
class ModbusRequest:
    """One read of registers; its answer are the words."""

    function: int
    address: int
    count: int
    registers: tuple[Register, ...]

    @cached_property
    def decoder(self) -> WordDecoder:
        """What turns the words into readings."""
        return WordDecoder(self.registers, self.address, self.count)

    def parts(self) -> tuple[ModbusRequest, ...]:
        """Smaller requests for the same registers, for a meter that refused this one; empty where it is the smallest.

        First without the addresses between registers, then one register each.
        """
        spans = sorted(
            ((one, one.locator) for one in self.registers if isinstance(one.locator, ModbusWords)),
            key=lambda pair: (pair[1].address, pair[1].end),
        )
        runs: list[tuple[int, int, list[Register]]] = []
        for register, locator in spans:
            if runs and locator.address <= runs[-1][1]:
                begin, end, members = runs[-1]
                runs[-1] = begin, max(end, locator.end), [*members, register]
            else:
                runs.append((locator.address, locator.end, [register]))
        if len(runs) == 1 and runs[0][1] - runs[0][0] == self.count:
            if len(spans) == 1:
                return ()
            runs = [(locator.address, locator.end, [register]) for register, locator in spans]
        return tuple(ModbusRequest(self.function, begin, end - begin, tuple(members)) for begin, end, members in runs)


@dataclass(frozen=True, eq=False)
class Dlt645Request:
    """One read of an item or block; its answer is a `Data` or the bytes behind the identifier."""

    di: str
    registers: tuple[Register, ...]
    variant: Variant
    data_bytes: int
    """How many bytes behind the identifier are expected: the members of a block that the template knows."""

    @cached_property
    def decoder(self) -> ItemDecoder:
        """What turns the bytes into readings."""
        return ItemDecoder(self.registers, self.di, self.variant)

    def parts(self) -> tuple[Dlt645Request, ...]:
        """The single items, for a meter that does not know the block; empty where this is one."""
        singles = [(one, one.locator.single) for one in self.registers if isinstance(one.locator, DltItem)]
        if [single for _, single in singles] == [self.di]:
            return ()
        return tuple(single_request(register, single, self.variant) for register, single in singles)


def single_request(register: Register, di: str, variant: Variant) -> Dlt645Request:
    """The request for one item alone."""
    return Dlt645Request(di, (register,), variant, item_bytes(di, variant) or 0)


type Request = ModbusRequest | Dlt645Request


def decode(request: Request, answer: Sequence[int] | Data | bytes, at: datetime) -> list[Reading]:
    """The readings in the answer to a request, taken at `at`; what the meter has not is left out.

    Raises DecodeError where the answer does not fit the request or holds digits that are none.
    """
    if isinstance(request, ModbusRequest):
        if isinstance(answer, Data):
            raise DecodeError("a Modbus request was answered by a DL/T 645 meter", answer.data)
        return request.decoder.readings(answer, at)
    data = answer.data if isinstance(answer, Data) else bytes(answer)
    return request.decoder.readings(data, at)


def readings_by_obis(readings: Sequence[Reading]) -> dict[Obis, Value]:
    """The values by OBIS code."""
    return {reading.obis: reading.value for reading in readings}
