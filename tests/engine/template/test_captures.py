"""A template is right where the bytes of a real meter give what its display showed."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from meter_batch_engine.model.quantity import BY_KEY, QUANTITIES
from meter_batch_engine.protocol.dlt645.exchange import ReadData
from meter_batch_engine.protocol.dlt645.frame import Framer
from meter_batch_engine.protocol.modbus.describe import describe
from meter_batch_engine.protocol.modbus.exchange import ReadRegisters
from meter_batch_engine.template import Dlt645Request, DltItem, ModbusRequest, ModbusWords, Template, decode, load

FOLDER = Path(__file__).parents[2] / "captures"
FILES = sorted([*FOLDER.glob("[!v]*/*.toml"), *FOLDER.glob("virtual/*/*.toml")])
AT = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


def test_there_are_captures() -> None:
    assert len([one for one in FILES if "virtual" not in one.parts]) >= 7


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_the_capture_gives_what_was_displayed(path: Path) -> None:
    template = load(f"{path.parent.name}/{path.stem}")
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    assert content.keys() == {"exchange"}
    for exchange in content["exchange"]:
        assert exchange["source"]
        read = read_modbus if template.protocol == "modbus" else read_dlt645
        found = read(template, exchange)
        expected = {BY_KEY[key].obis: Decimal(text) for key, text in exchange["readings"].items()}
        assert found.keys() == expected.keys()
        for obis, value in expected.items():
            # To the last digit that was displayed.
            places = int(value.as_tuple().exponent)
            assert round(Decimal(found[obis]), -places) == value, QUANTITIES[obis].key


def read_modbus(template: Template, exchange: dict[str, Any]) -> dict[str, Decimal | float]:
    reply = bytes.fromhex(exchange["reply"])
    if "request" in exchange:
        (asked,) = describe(bytes.fromhex(exchange["request"]))
        address, count = asked["address"], asked["count"]
    else:
        address, count = exchange["address"], reply[2] // 2
    question = ReadRegisters(reply[0], reply[1], address, count)
    if "request" in exchange:
        assert question.request == bytes.fromhex(exchange["request"])
    words = question.feed(reply)
    assert words is not None
    inside = tuple(
        one
        for one in template.registers
        if isinstance(one.locator, ModbusWords)
        and address <= one.locator.address
        and one.locator.end <= address + count
    )
    request = ModbusRequest(reply[1], address, count, inside)
    return {one.obis: one.value for one in decode(request, words, AT)}


def read_dlt645(template: Template, exchange: dict[str, Any]) -> dict[str, Decimal | float]:
    reply = bytes.fromhex(exchange["reply"])
    (answer,) = Framer().feed(reply)
    variant = template.dlt645.variant
    if "request" in exchange:
        (asked,) = Framer().feed(bytes.fromhex(exchange["request"]))
        di = asked.data[::-1].hex().upper()
    else:
        di = exchange["di"]
    data = ReadData(answer.address, di, variant=variant).feed(reply)
    assert data is not None
    inside = tuple(
        one
        for one in template.registers
        if isinstance(one.locator, DltItem) and di in (one.locator.di, one.locator.single)
    )
    return {one.obis: one.value for one in decode(Dlt645Request(di, inside, variant, 0), data, AT)}
