"""What looks odd in a template although nothing in it is wrong: hints for its author. Pure, plain English."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import pairwise

from ..model.quantity import Measure
from .schema import ModbusWords, Register, Template

_LEAST = {
    Measure.VOLTAGE: Decimal(400),
    Measure.CURRENT: Decimal(5),
    Measure.ACTIVE_POWER: Decimal(3),
    Measure.FREQUENCY: Decimal(65),
    Measure.ACTIVE_ENERGY: Decimal(99_999),
}
"""What a register must be able to show at least; line-to-line voltages included."""
_MOST_DIGITS = {Measure.VOLTAGE: Decimal("0.0001"), Measure.FREQUENCY: Decimal("0.00001")}
_FLOAT_SCALES = (Decimal(1), Decimal("0.1"), Decimal("0.01"), Decimal("0.001"))


def remarks(template: Template) -> tuple[str, ...]:
    """Hints, the weightiest first; empty where nothing looks odd."""
    found = [*_scales(template), *_order(template), *_addresses(template), *_missing(template), *_sources(template)]
    return tuple(found)


def _words(template: Template) -> list[tuple[Register, ModbusWords]]:
    return [(one, one.locator) for one in template.registers if isinstance(one.locator, ModbusWords)]


def _scales(template: Template) -> Iterator[str]:
    for register, locator in _words(template):
        key, measure, scale = register.quantity.key, register.quantity.measure, abs(register.scale)
        high = locator.word_type.high
        if high is not None and high * scale < _LEAST.get(measure, 0):
            unit = register.quantity.unit
            yield f"{key}: a {locator.type} with scale {register.scale} ends at {high * scale:f} {unit}"
        if high is not None and scale < _MOST_DIGITS.get(measure, 0):
            yield f"{key}: scale {register.scale} means more digits than a meter measures"
        if register.scale < 0:
            yield f"{key}: the scale is negative; a meter that is wired the wrong way belongs into the point, not here"
    odd = [
        one for one, locator in _words(template) if locator.word_type.is_float and abs(one.scale) not in _FLOAT_SCALES
    ]
    if odd:
        yield f"floats have scale 1 or 0.001 as a rule; {_some([f'{one.quantity.key} has {one.scale}' for one in odd])}"
    powers = [one for one, _ in _words(template) if one.quantity.measure is Measure.ACTIVE_POWER]
    if len({(one.scale, one.locator.type) for one in powers if isinstance(one.locator, ModbusWords)}) > 1:
        yield "active powers differ in type or scale: is one of them in W and the other in kW?"


def _order(template: Template) -> Iterator[str]:
    wide = [locator for _, locator in _words(template) if locator.word_type.words > 1]
    if len({one.little for one in wide}) > 1:
        yield "some values have the low word first and others the high word: is that so in the manual?"
    elif wide and not any("order" in (one.doubt or "") for one in template.registers) and not template.sources:
        first = "low" if wide[0].little else "high"
        yield f"values of 32 bits are read {first} word first; check one against the display"


def _addresses(template: Template) -> Iterator[str]:
    words = _words(template)
    wide = [locator for _, locator in words if locator.word_type.words == 2]
    if len(wide) > 3 and all(one.address % 2 for one in wide):
        yield "all values of 32 bits begin at odd addresses: does the manual count from 1? Then take one off each"
    if any(30_001 <= one.address <= 39_999 or 40_001 <= one.address <= 49_999 for _, one in words) and not any(
        one.address < 10_000 for _, one in words
    ):
        yield "addresses look like 30001 or 40001: on the wire they begin at 0, so take 30001 or 40001 off"
    if template.modbus.holes is False and len(words) > 20:
        gaps = sum(1 for one, other in _neighbours(words) if 0 < other.address - one.end < 8)
        if gaps > 5:
            yield f"{gaps} small gaps between registers: holes = true makes requests fewer, where the meter allows it"


def _neighbours(words: list[tuple[Register, ModbusWords]]) -> Iterator[tuple[ModbusWords, ModbusWords]]:
    ordered = sorted((locator for _, locator in words), key=lambda one: (one.function, one.address))
    for one, other in pairwise(ordered):
        if one.function == other.function:
            yield one, other


def _missing(template: Template) -> Iterator[str]:
    have = {one.quantity.measure for one in template.registers}
    for measure, name in (
        (Measure.VOLTAGE, "voltage"),
        (Measure.CURRENT, "current"),
        (Measure.ACTIVE_POWER, "active power"),
        (Measure.ACTIVE_ENERGY, "active energy"),
    ):
        if measure not in have:
            yield f"there is no {name}"
    keys = {one.quantity.key for one in template.registers}
    for key in sorted(keys):
        if (
            key.endswith("_l1")
            and not key.endswith("_l3_l1")
            and template.phases == 3
            and not {f"{key[:-1]}2", f"{key[:-1]}3"} <= keys
        ):
            yield f"{key} is there, but not the same of all three phases"
    limits = template.limits
    if None in (limits.voltage_v, limits.current_a, limits.power_kw, limits.frequency_hz):
        yield "limits: without them, readings that cannot be are believed"
    if template.protocol == "modbus" and template.identity.serial is None:
        yield "identity: without the address of the serial number a swapped meter is not noticed"


def _sources(template: Template) -> Iterator[str]:
    without = [one.quantity.key for one in template.registers if not one.sources]
    if without:
        yield f"sources: {len(without)} rows do not say where they are known from ({_some(without)})"


def _some(texts: Sequence[str]) -> str:
    return ", ".join(texts[:4]) + (" …" if len(texts) > 4 else "")
