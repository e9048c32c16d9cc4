"""What virtual meters send is what published register maps say, read by programs that are not ours."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pymodbus.client.mixin import ModbusClientMixin
from pymodbus.framer.rtu import FramerRTU

from meter_batch_engine.template import ModbusWords, available, load

FOLDER = Path(__file__).parents[2] / "captures/virtual"
FACTS = tomllib.loads((FOLDER / "facts.toml").read_text(encoding="utf-8"))
MODBUS = [one for one in available() if load(one).protocol == "modbus"]
THOUSANDTH = ("W", "var", "VA", "Wh", "varh", "VAh")
ITEMS = {
    # Of DL/T 645-2007, by the beginning of the identifier: bytes, decimals, has a sign, bytes to the next one.
    **dict.fromkeys(("0000", "0003", "0004"), (4, 2, True, 4)),
    "00": (4, 2, False, 4),
    "01": (3, 4, True, 8),
    "0201": (2, 1, False, 2),
    "0202": (3, 3, True, 3),
    **dict.fromkeys(("0203", "0204", "0205"), (3, 4, True, 3)),
    "0206": (2, 3, True, 2),
    **dict.fromkeys(("0207", "020C"), (2, 1, False, 2)),
    **dict.fromkeys(("0208", "0209"), (2, 2, False, 2)),
    "02800001": (3, 3, True, 3),
    "02800002": (2, 2, False, 2),
    "02800004": (3, 4, True, 3),
    "02800007": (2, 1, True, 2),
}


def captured(id_: str) -> list[dict[str, Any]]:
    return list(tomllib.loads((FOLDER / f"{id_}.toml").read_text(encoding="utf-8"))["exchange"])


def close(value: Decimal, text: str, exact: str) -> bool:
    """True where the text is the value to its own last digit."""
    places = -int(Decimal(text).as_tuple().exponent)
    return abs(value - Decimal(text)) <= Decimal("0.5000001").scaleb(-places) + abs(value) * Decimal(exact)


def test_every_model_has_one() -> None:
    assert sorted(f"{one.parent.name}/{one.stem}" for one in FOLDER.glob("*/*.toml")) == available()
    for id_ in available():
        assert {one["source"] for one in captured(id_)} == {"virtual meter"}


@pytest.mark.parametrize("id_", MODBUS)
def test_a_foreign_decoder_reads_the_same_by_the_published_map(id_: str) -> None:
    order = {"low": "little", "high": "big"}[FACTS[id_]["order"]]
    types = ModbusClientMixin.DATATYPE
    rest = {key for exchange in captured(id_) for key in exchange["readings"]}
    for exchange in captured(id_):
        request, reply = bytes.fromhex(exchange["request"]), bytes.fromhex(exchange["reply"])
        for frame in (request, reply):
            assert FramerRTU.compute_CRC(frame[:-2]).to_bytes(2) == frame[-2:]
        assert (reply[0], reply[1], reply[2]) == (request[0], request[1], 2 * int.from_bytes(request[4:6]))
        first, words = (
            int.from_bytes(request[2:4]),
            [int.from_bytes(reply[at : at + 2]) for at in range(3, len(reply) - 2, 2)],
        )
        for key, address, kind, unit, scale in FACTS[id_]["rows"]:
            data_type = types[kind.upper()]
            if not first <= address <= first + len(words) - data_type.value[1] or key not in exchange["readings"]:
                continue
            raw = ModbusClientMixin.convert_from_registers(
                words[address - first : address - first + data_type.value[1]], data_type, word_order=order
            )
            value = Decimal(str(raw)) * Decimal(scale) / (1000 if unit in THOUSANDTH else 1)
            assert close(value, exchange["readings"][key], "2e-7"), f"{key}: {value} is not {exchange['readings'][key]}"
            rest.discard(key)
    # Sums of tariffs are no rows of a map.
    parts = {
        one.quantity.key
        for one in load(id_).registers
        if isinstance(one.locator, ModbusWords) and one.locator.parts > 1
    }
    assert rest <= parts


@pytest.mark.parametrize("id_", MODBUS)
def test_every_row_of_the_published_map_is_in_the_capture(id_: str) -> None:
    read = {key for exchange in captured(id_) for key in exchange["readings"]}
    assert {row[0] for row in FACTS[id_]["rows"]} <= read


@pytest.mark.parametrize("id_", ["generic/dlt645-1ph", "generic/dlt645-3ph"])
def test_items_are_digits_of_the_standard(id_: str) -> None:
    """Decoded by hand: less 33H, low byte first, a sign in the highest bit, decimals by the standard's table."""
    for exchange in captured(id_):
        reply = bytes.fromhex(exchange["reply"]).lstrip(b"\xfe")
        assert sum(reply[:-2]) & 0xFF == reply[-2]
        data = bytes((one - 0x33) & 0xFF for one in reply[10:-2])
        di, value = data[3::-1].hex().upper(), data[4:]
        size, decimals, signed, step = ITEMS[max((one for one in ITEMS if di.startswith(one)), key=len)]
        numbers = []
        for at in range(0, len(value), step):
            digits = value[at : at + size][::-1]
            negative = signed and digits[0] & 0x80
            text = bytes((digits[0] & (0x7F if signed else 0xFF), *digits[1:])).hex()
            if text.isdecimal():
                numbers.append(Decimal(text).scaleb(-decimals) * (-1 if negative else 1))
        for key, text in exchange["readings"].items():
            assert any(close(one, text, "0") for one in numbers), f"{di} {key} {text}: {numbers}"
