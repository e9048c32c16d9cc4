"""Values → what a meter of this model would hold: the inverse of `decode`, for virtual meters."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Decimal

from ..model.obis import Obis
from ..model.quantity import Kind
from ..model.reading import Value
from ..protocol.dlt645.frame import Variant
from ..protocol.dlt645.item import encode_item, find_item
from ..protocol.modbus.pdu import ILLEGAL_ADDRESS, ModbusException
from .decoder import decode, readings_by_obis
from .planner import plan
from .schema import DltItem, ModbusWords, Register, Template


class WordImage:
    """The words of a meter, by function and address; a `RegisterBank` for a `ModbusResponder`."""

    def __init__(self, words: Mapping[tuple[int, int], int], holes: bool) -> None:
        self.words = words
        self._holes = holes
        self._first = min(words, default=(0, 0))
        self._last = max(words, default=(0, 0))

    def read(self, function: int, address: int, count: int) -> Sequence[int]:
        """The words asked for; exception 2 where one is no register (zeros where the model reads over holes)."""
        words = self.words
        found = [words.get((function, one)) for one in range(address, address + count)]
        if found[0] is None or found[-1] is None or (None in found and not self._holes):
            raise ModbusException(ILLEGAL_ADDRESS)
        return [one or 0 for one in found]


def encode(
    template: Template, values: Mapping[Obis, Value], registers: Iterable[Register] | None = None
) -> WordImage | dict[str, bytes]:
    """What a meter of this model holds for these values: its words, or its single DL/T 645 items.

    Values are rounded to the register's resolution and kept within its bounds; energies are cut off and begin again
    at zero where the register ends. Registers without a value hold "not available" where the model has a sign for
    that, and are missing where it has none. `registers` are those that are wanted, all without it.
    """
    wanted = template.registers if registers is None else registers
    if template.protocol == "modbus":
        return _encode_words(template, values, wanted)
    items: dict[str, bytes] = {}
    for register in wanted:
        locator = register.locator
        if isinstance(locator, DltItem) and register.obis in values:
            value = values[register.obis]
            raw = value / register.scale if isinstance(value, Decimal) else value / float(register.scale)
            items[locator.single] = _encode_item(locator.single, raw, template.dlt645.variant)
    return items


def shown(template: Template, values: Mapping[Obis, Value], wanted: Iterable[Obis] | None = None) -> dict[Obis, Value]:
    """The values as a meter of this model shows them, at its own resolution."""
    at = datetime(2000, 1, 1, tzinfo=UTC)
    image = encode(template, values)
    found: dict[Obis, Value] = {}
    for request in plan(template, (values.keys() if wanted is None else values.keys() & set(wanted))):
        for one in (request, *request.parts()):
            try:
                if isinstance(image, WordImage):
                    answer: Sequence[int] | bytes = image.read(one.function, one.address, one.count)
                else:
                    answer = image[one.di]
            except ModbusException, KeyError:
                continue
            found |= readings_by_obis(decode(one, answer, at))
            if one is request:
                break
    return found


def _encode_item(di: str, raw: Value, variant: Variant) -> bytes:
    """The item's bytes; where it has no sign it shows the magnitude, as meters do."""
    item = find_item(di, variant)
    assert item is not None
    digits = 10 ** (2 * item.fields[0].size)
    greatest = Decimal(digits * 8 // 10 - 1 if item.signed else digits - 1).scaleb(-item.fields[0].decimals)
    if raw < 0 and not item.signed:
        raw = -raw
    if not item.is_register:
        raw = max(-greatest, min(greatest, raw))
    return encode_item(di, [raw], variant)


def _encode_words(template: Template, values: Mapping[Obis, Value], registers: Iterable[Register]) -> WordImage:
    words: dict[tuple[int, int], int] = {}
    # Sums first: the values that they add may be registers of their own and know better.
    for register in sorted(registers, key=lambda one: -_locator(one).parts):
        locator = _locator(register)
        value = values.get(register.obis)
        if value is None:
            raw = _not_available(register)
            if raw is None or (locator.function, locator.address) in words:
                continue
        else:
            raw = _raw(register, value, template)
        for part in range(locator.parts):
            packed = _pack(locator, raw if part == 0 else type(raw)(0))
            start = locator.address + part * locator.word_type.words
            for offset, word in enumerate(packed):
                words[locator.function, start + offset] = word
    return WordImage(words, template.modbus.holes)


def _locator(register: Register) -> ModbusWords:
    assert isinstance(register.locator, ModbusWords)
    return register.locator


def _pack(locator: ModbusWords, raw: float) -> Sequence[int]:
    kind = locator.word_type
    packed = struct.unpack(f">{kind.words}H", struct.pack(">" + kind.code, raw))
    return packed[::-1] if locator.little else packed


def _not_available(register: Register) -> float | None:
    kind = _locator(register).word_type
    return math.nan if kind.is_float else max(register.absent, default=None)


def _raw(register: Register, value: Value, template: Template) -> float:
    kind = _locator(register).word_type
    if register.fold and isinstance(value, float):
        value = max(-1.0, min(1.0, value))
    scaled = Decimal(value) / register.scale
    if kind.high is None or kind.low is None:
        roll_over = template.roll_over(register.obis)
        if roll_over is not None:
            scaled %= roll_over / register.scale
        raw = float(scaled)
        if kind.code == "f":
            greatest = 3.4028234663852886e38
            raw = max(-greatest, min(greatest, raw))
        return raw
    counts = register.quantity.kind is Kind.CUMULATIVE
    whole = int(scaled.to_integral_value(ROUND_DOWN if counts else ROUND_HALF_EVEN))
    if counts:
        roll_over = template.roll_over(register.obis)
        end = int(roll_over / register.scale) if roll_over is not None else kind.high + 1
        return whole % max(1, min(end, kind.high + 1 - len(register.absent)))
    whole = max(kind.low, min(kind.high, whole))
    # A value must not be taken for "not available".
    while whole in register.absent:
        whole -= 1 if whole > 0 else -1
    return whole
