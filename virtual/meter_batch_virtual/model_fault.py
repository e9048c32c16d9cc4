"""What a meter of another model, or one that is set wrongly, says instead of what it measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import lru_cache

from meter_batch_engine.errors import DecodeError
from meter_batch_engine.model.obis import Obis
from meter_batch_engine.model.reading import Value
from meter_batch_engine.protocol.dlt645.frame import Variant
from meter_batch_engine.protocol.dlt645.item import ItemValue, decode_item, encode_item, find_item
from meter_batch_engine.protocol.modbus.pdu import ILLEGAL_ADDRESS, ILLEGAL_VALUE
from meter_batch_engine.template import DltItem, ModbusWords, Template

from .fault import Fault, known_registers


@lru_cache(maxsize=256)
def _named(template: Template, registers: tuple[str, ...]) -> tuple[frozenset[Obis], frozenset[str]]:
    """The registers and the identifiers that a fault names."""
    by_key = known_registers(template)
    obis = frozenset(by_key[name] for name in registers if name in by_key)
    items = {
        locator.single
        for register in template.registers
        if register.obis in obis and isinstance(locator := register.locator, DltItem)
    }
    return obis, frozenset(items | {name.upper() for name in registers if name not in by_key})


def scaled(fault: Fault, template: Template, values: Mapping[Obis, Value]) -> dict[Obis, Value]:
    """The values as a meter with a wrong factor shows them."""
    named, _ = _named(template, fault.registers)
    factor = Decimal(repr(fault.factor))
    return {
        obis: value
        if (named and obis not in named)
        else value * factor
        if isinstance(value, Decimal)
        else value * fault.factor
        if isinstance(value, float)
        else value
        for obis, value in values.items()
    }


def scaled_item(fault: Fault, template: Template, di: str, data: bytes, variant: Variant) -> bytes:
    """The same for the data of an item: as many digits as it has, never more."""
    _, named = _named(template, fault.registers)
    item = find_item(di, variant)
    if (fault.registers and di not in named) or item is None or item.fields[0].kind != "number":
        return data
    try:
        values = decode_item(di, data, variant)
    except DecodeError:
        return data
    field = item.fields[0]
    digits = 10 ** (2 * field.size)
    greatest = Decimal(digits * 8 // 10 - 1 if item.signed else digits - 1).scaleb(-field.decimals)
    factor = Decimal(repr(fault.factor))

    def shown(one: ItemValue) -> ItemValue:
        if not isinstance(one.value, Decimal):
            return one
        value = one.value * factor
        # Energies roll over by themselves.
        return ItemValue(di, "", value if item.is_register else max(-greatest, min(greatest, value)), at=one.at)

    return encode_item(di, [shown(one) for one in values], variant)


def other_order(template: Template, function: int, address: int, words: Sequence[int]) -> list[int]:
    """The words of every register that lies wholly in the answer, in the other order."""
    turned = list(words)
    for first, end in _long_registers(template, function):
        if address <= first and end <= address + len(turned):
            turned[first - address : end - address] = turned[first - address : end - address][::-1]
    return turned


@lru_cache(maxsize=256)
def _long_registers(template: Template, function: int) -> tuple[tuple[int, int], ...]:
    """First and last + 1 address of each number of several words."""
    spans = set()
    for register in template.registers:
        locator = register.locator
        if isinstance(locator, ModbusWords) and locator.function == function and locator.word_type.words > 1:
            size = locator.word_type.words
            spans |= {
                (locator.address + part * size, locator.address + (part + 1) * size) for part in range(locator.parts)
            }
    return tuple(sorted(spans))


def refused(fault: Fault, template: Template, function: int, address: int, count: int) -> int | None:
    """The exception with which a model refuses a read; None where it serves it."""
    if fault.max_words is not None and count > fault.max_words:
        return ILLEGAL_VALUE
    named, _ = _named(template, fault.registers)
    covered, absent = _covered(template, function), range(address, address + count)
    # Without a word about it, a model refuses holes.
    holes = fault.holes or not (fault.max_words or fault.registers)
    if holes and not covered.issuperset(absent):
        return ILLEGAL_ADDRESS
    for register in template.registers:
        locator = register.locator
        if (
            register.obis in named
            and isinstance(locator, ModbusWords)
            and locator.function == function
            and locator.address < address + count
            and address < locator.end
        ):
            return ILLEGAL_ADDRESS
    return None


@lru_cache(maxsize=256)
def _covered(template: Template, function: int) -> frozenset[int]:
    return frozenset(
        address
        for register in template.registers
        if isinstance(locator := register.locator, ModbusWords) and locator.function == function
        for address in range(locator.address, locator.end)
    )


def refused_item(fault: Fault, template: Template, di: str) -> bool:
    """Whether a DL/T 645 meter refuses an identifier."""
    _, named = _named(template, fault.registers)
    blocks = fault.blocks or not fault.registers
    block = "FF" in (di[2:4], di[4:6], di[6:8]) if len(di) == 8 else di.endswith("F")
    return di in named or (blocks and block)
