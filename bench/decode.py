"""CPU a value of what is measured now: from the registers of a reply to values and to readings, over one struct.

Every Modbus model with the requests that are planned for its instantaneous values, and 50 mixed values in one reply.
The reference knows the reply's bytes beforehand: one precompiled struct and a multiplication by the scale. It knows
neither words in other orders, nor absent values, nor NaN, nor which register is which.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from random import Random
from statistics import median

from meter_batch_engine.model.quantity import QUANTITIES, Kind
from meter_batch_engine.model.reading import Reading, Value
from meter_batch_engine.protocol.modbus.pdu import WORDS
from meter_batch_engine.protocol.modbus.words import WORD_TYPES
from meter_batch_engine.template import ModbusRequest, ModbusWords, Register, Timing, available, decode, load, plan

from .figure import Figure

ROUNDS, FULL_ROUNDS = 15, 60
VALUES = 20_000
"""Values of a model in one round, about."""
TARGET = 2.0
AT = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Case:
    """Requests of one model and the words of their replies."""

    name: str
    values: int
    ours: Callable[[], list[list[Value | None]]]
    readings: Callable[[], list[list[Reading]]]
    bare: Callable[[], list[list[float]]]


def run(*, full: bool) -> list[Figure]:
    """All models and the mixed block; rounds take turns."""
    cases = [*filter(None, map(model, available())), mixed()]
    measured = {case.name: compare(case, VALUES, FULL_ROUNDS if full else ROUNDS) for case in cases}
    figures = []
    for number, what, target in ((0, "values", TARGET), (1, "readings", None)):
        ratios = {name: one[number] for name, one in measured.items()}
        worst = max(ratios, key=lambda name: ratios[name])
        of_mixed = ratios.pop("50 mixed values")
        note = f"{len(ratios)} models; the dearest is {worst}, {max(ratios.values()):.2f}"
        figures += [
            Figure("decode", f"{what}, median of all models", median(ratios.values()), "", "lower", target, note),
            Figure("decode", f"{what}, 50 mixed values", of_mixed, "", "lower", target, _note(measured, number)),
        ]
    return figures


def _note(measured: dict[str, tuple[float, float, float]], number: int) -> str:
    bare = measured["50 mixed values"][2]
    return f"{bare * measured['50 mixed values'][number]:.0f} ns a value over {bare:.0f} ns"


def compare(case: Case, values: int, rounds: int) -> tuple[float, float, float]:
    """Values over the bare struct, readings over it, and its own nanoseconds a value."""
    times = max(1, values // case.values)
    ways: tuple[Callable[[], object], ...] = case.ours, case.readings, case.bare
    found: list[list[float]] = []
    for round_ in range(rounds + 1):
        spent = [0.0] * 3
        for place in range(3):
            which = (place + round_) % 3
            way = ways[which]
            began = time.process_time_ns()
            for _ in range(times):
                way()
            spent[which] = (time.process_time_ns() - began) / times / case.values
        if round_:
            found.append(spent)
    return (
        median(one[0] / one[2] for one in found),
        median(one[1] / one[2] for one in found),
        median(one[2] for one in found),
    )


def model(name: str) -> Case | None:
    """The instantaneous values of a model; None where it does not speak Modbus."""
    template = load(name)
    if template.protocol != "modbus":
        return None
    wanted = {one.obis for one in template.registers if not one.exact}
    requests = tuple(
        ModbusRequest(one.function, one.address, one.count, tuple(r for r in one.registers if not r.exact))
        for one in plan(template, wanted, Timing())
        if isinstance(one, ModbusRequest)
    )
    return _case(name, requests)


def mixed(count: int = 50) -> Case:
    """Registers of many types behind each other, with a word without a meaning behind every second."""
    kinds = ("float32", "int16", "uint32", "int32", "uint16", "float32")
    pattern = next(one for one in load("eastron/sdm630").registers if not one.exact)
    quantities = [one for one in QUANTITIES.values() if one.kind is Kind.INSTANT]
    registers: list[Register] = []
    address = 0
    for number in range(count):
        kind = kinds[number % len(kinds)]
        registers.append(
            replace(
                pattern,
                obis=quantities[number % len(quantities)].obis,
                locator=ModbusWords(3, address, kind),
                scale=Decimal("0.1") if kind != "float32" else Decimal(1),
                absent=frozenset({0x7FFF}) if kind == "int16" else frozenset(),
            )
        )
        address += WORD_TYPES[kind].words + number % 2
    return _case(f"{count} mixed values", [ModbusRequest(3, 0, address, tuple(registers))])


def _case(name: str, requests: Sequence[ModbusRequest]) -> Case:
    random = Random(name)
    answers = [(one, _words(one, random)) for one in requests]
    bares = [(*_bare(one), WORDS[one.count].pack(*words)) for one, words in answers]

    def ours() -> list[list[Value | None]]:
        return [request.decoder.values(words) for request, words in answers]

    def readings() -> list[list[Reading]]:
        return [decode(request, words, AT) for request, words in answers]

    def bare() -> list[list[float]]:
        return [
            [one * scale for one, scale in zip(packed.unpack(data), scales, strict=True)]
            for packed, scales, data in bares
        ]

    return Case(name, sum(len(one.registers) for one in requests), ours, readings, bare)


def _words(request: ModbusRequest, random: Random) -> tuple[int, ...]:
    """The words of a healthy reply."""
    words = [0] * request.count
    for register in request.registers:
        locator = register.locator
        assert isinstance(locator, ModbusWords)
        kind = locator.word_type
        for part in range(locator.parts):
            raw = struct.pack(f">{kind.code}", random.uniform(0, 500) if kind.is_float else random.randrange(30_000))
            own = list(struct.unpack(f">{kind.words}H", raw))
            first = locator.address - request.address + part * kind.words
            words[first : first + kind.words] = own[::-1] if locator.little else own
    return tuple(words)


def _bare(request: ModbusRequest) -> tuple[struct.Struct, tuple[float, ...]]:
    """One struct over the whole reply; each place is read once, words in the usual order."""
    codes, scales, at = ">", [], request.address
    locators = [(one.locator, one) for one in request.registers if isinstance(one.locator, ModbusWords)]
    for locator, register in sorted(locators, key=lambda pair: pair[0].address):
        if locator.address < at:
            continue
        codes += f"{2 * (locator.address - at)}x" + locator.word_type.code * locator.parts
        scales += [float(register.scale)] * locator.parts
        at = locator.end
    return struct.Struct(codes + f"{2 * (request.address + request.count - at)}x"), tuple(scales)
