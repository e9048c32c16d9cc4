"""Faults as a master on the line sees them: bytes that are no answer, ports that are set wrongly, other addresses."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from decimal import Decimal
from pathlib import Path

import pytest
import serial

from meter_batch_engine.errors import ConfigError
from meter_batch_engine.protocol.dlt645 import frame as dlt645
from meter_batch_engine.protocol.dlt645.exchange import ReadData
from meter_batch_engine.protocol.dlt645.item import decode_item
from meter_batch_engine.protocol.modbus import rtu, tcp
from meter_batch_engine.protocol.modbus.exchange import ReadRegisters
from meter_batch_virtual.config import parse_fleet
from meter_batch_virtual.fault import KINDS, ON_LINE_ONLY, ON_METER_ONLY, keys, parse_fault
from meter_batch_virtual.uart import Setting, received

from .conftest import StartFleet

VOLTS = ReadRegisters(3, 4, 0, 2, framing="rtu").request
AMPS = ReadRegisters(3, 4, 6, 2, framing="rtu").request
ENERGY = ReadData("000012345678", "00010000", variant="2007").request
PLACE = "tcp://127.0.0.1:0"


def toml(meter: str = "", line: str = "", *, protocol: str = "mixed", listen: str = PLACE, more: str = "") -> str:
    fault = f"fault = [{line}]" if line else ""
    faults = f"faults = [{meter}]" if meter else ""
    dlt645_too = f'[[line.meter]]\naddress = "000012345678"\ntemplate = "generic/dlt645-3ph"\n{faults}\n'
    return (
        f'[[line]]\nname = "hall"\nlisten = "{listen}"\nprotocol = "{protocol}"\nbaud = 19200\nturnround_ms = 2\n'
        f'jitter_ms = 0\n{more}\n{fault}\n[[line.meter]]\naddress = 3\ntemplate = "eastron/sdm630"\n{faults}\n'
        + (dlt645_too if protocol == "mixed" else "")
    )


class Talk:
    """A master's bytes on a TCP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, request: bytes = b"", wait_s: float = 0.25) -> bytes:
        """What comes until the line has been still for a while."""
        self.writer.write(request)
        heard = b""
        try:
            while True:
                async with asyncio.timeout(wait_s if not heard else 0.08):
                    heard += await self.reader.read(4096)
        except TimeoutError:
            return heard


type Talking = Callable[[str], AbstractAsyncContextManager[Talk]]


@pytest.fixture
def talking(start_fleet: StartFleet) -> Talking:
    """A connection to a fleet of this text."""

    @asynccontextmanager
    async def talk(text: str) -> AsyncIterator[Talk]:
        fleet = await start_fleet(text)
        port = int(fleet.lines[0].where.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        yield Talk(reader, writer)
        writer.close()
        await writer.wait_closed()

    return talk


async def test_glued_replies_come_with_the_next_one_or_with_a_foreign_meters(talking: Talking) -> None:
    async with talking(toml('{ kind = "glued" }')) as line:
        assert await line.ask(VOLTS) == b""
        both = rtu.RtuFramer("client").feed(await line.ask(AMPS))
        assert [one.unit for one in both] == [3, 3] and both[0].pdu != both[1].pdu
        assert await line.ask(ENERGY) == b""
        assert len(dlt645.Framer().feed(await line.ask(ENERGY))) == 2
    async with talking(toml('{ kind = "glued", frame = "foreign" }')) as line:
        both = rtu.RtuFramer("client").feed(await line.ask(VOLTS))
        assert [one.unit for one in both] == [4, 3] and both[0].pdu == both[1].pdu
        addresses = [one.address for one in dlt645.Framer().feed(await line.ask(ENERGY))]
        assert addresses == ["000012345679", "000012345678"]


async def test_each_reply_is_that_of_the_request_before(talking: Talking) -> None:
    async with talking(toml('{ kind = "previous" }')) as line:
        assert await line.ask(VOLTS) == b""
        volts = await line.ask(AMPS)
        assert 200 < struct.unpack(">f", volts[3:7])[0] < 260
        assert await line.ask(VOLTS) != volts


@pytest.mark.parametrize("place", ["around", "before", "after", "inside"])
async def test_glitches_are_00_and_ff_bytes(talking: Talking, place: str) -> None:
    async with talking(toml(f'{{ kind = "glitch", bytes = 2, place = "{place}" }}')) as line:
        heard = await line.ask(VOLTS)
        assert len(heard) == 9 + (4 if place == "around" else 2)
        whole = {"around": heard[2:-2], "before": heard[2:], "after": heard[:-2]}.get(place, b"")
        if whole:
            assert rtu.valid(whole) and set(heard.replace(whole, b"")) <= {0x00, 0xFF}
        else:
            assert not any(rtu.valid(heard[begin : begin + 9]) for begin in range(3))


async def test_a_dtu_says_its_text_before_replies_at_the_connection_or_in_between(talking: Talking) -> None:
    async with talking(toml(line='{ kind = "prefix", text = "ID7\\\\x0d" }')) as line:
        heard = await line.ask(VOLTS)
        assert heard[:4] == b"ID7\r" and rtu.valid(heard[4:])
    async with talking(toml(line='{ kind = "prefix", sent = "connect" }')) as line:
        assert await line.ask() == b"DTU00001234"
        assert rtu.valid(await line.ask(VOLTS))
    async with talking(toml(line='{ kind = "prefix", sent = "idle", text = "ping", unasked_s = 0.1 }')) as line:
        assert (await line.ask(b"", 0.35)).startswith(b"ping")


async def test_noise_comes_without_a_question(talking: Talking) -> None:
    async with talking(toml(line='{ kind = "noise", bytes = 3, unasked_s = 0.1, probability = 0 }')) as line:
        assert len(await line.ask(b"", 0.3)) >= 3


@pytest.mark.parametrize("gateway", ["", "gateway = true"])
async def test_a_gateway_does_not_give_the_transaction_number_back(talking: Talking, gateway: str) -> None:
    question = tcp.encode(0x1234, 3, ReadRegisters(3, 4, 0, 2, framing="rtu").request[1:-2])
    seen = []
    for kind in ("zero", "counter"):
        fault = f'{{ kind = "no_transaction", transaction = "{kind}" }}'
        async with talking(toml(line=fault, protocol="modbus-tcp", more=gateway)) as line:
            for _ in range(2):
                heard = await line.ask(question)
                assert heard[2:9] == bytes.fromhex("00000007030404")
                seen.append(int.from_bytes(heard[:2]))
    assert seen == [0, 0, 1, 2]


async def test_a_meter_at_another_address_answers_there_and_can_meet_another(talking: Talking) -> None:
    async with talking(toml('{ kind = "address" }')) as line:
        assert await line.ask(VOLTS) == await line.ask(ENERGY) == b""
        assert rtu.valid(await line.ask(ReadRegisters(103, 4, 0, 2, framing="rtu").request))
        moved = ReadData("000012345679", "04000401", variant="2007").request
        (reply,) = dlt645.Framer().feed(await line.ask(moved))
        assert (
            reply.address == "000012345679"
            and decode_item("04000401", reply.data[4:], "2007")[0].value == reply.address
        )


@pytest.mark.parametrize(
    ("fault", "silent"),
    [
        ('{ kind = "baud", baud = 9600 }', False),
        ('{ kind = "baud", heard = "nothing" }', True),
        ('{ kind = "parity" }', False),
        ('{ kind = "wiring" }', True),
        ('{ kind = "wiring", heard = "garbage" }', False),
    ],
)
async def test_a_port_that_is_set_wrongly_hears_garbage_or_nothing(talking: Talking, fault: str, silent: bool) -> None:
    for text in (toml(fault), toml(line=fault)):
        async with talking(text) as line:
            heard = await line.ask(VOLTS)
            assert (heard == b"") == silent
            assert not rtu.RtuFramer("client").feed(heard)


async def test_at_the_speed_that_the_meter_has_it_answers_and_the_others_do_not(
    start_fleet: StartFleet, tmp_path: Path
) -> None:
    text = toml('{ kind = "baud", baud = 9600 }', protocol="modbus-rtu", listen="pty:./tty")
    text += '[[line.meter]]\naddress = 4\ntemplate = "eastron/sdm630"\n'
    fleet = await start_fleet(text)
    other = rtu.encode(4, VOLTS[1:-2])

    def read(baud: int, request: bytes) -> bytes:
        with serial.Serial(fleet.lines[0].where, baud, timeout=0.2) as port:
            port.write(request)
            return bytes(port.read(9))

    answered = [
        rtu.valid(await asyncio.to_thread(read, baud, request)) for baud in (9600, 19200) for request in (VOLTS, other)
    ]
    assert answered == [True, False, False, True]


async def test_over_a_serial_server_the_parity_counts_too(start_fleet: StartFleet) -> None:
    text = toml('{ kind = "parity" }', protocol="modbus-rtu", listen="rfc2217://127.0.0.1:0")
    fleet = await start_fleet(text)

    def read(parity: str) -> bytes:
        with serial.serial_for_url(fleet.lines[0].where, baudrate=19200, parity=parity, timeout=0.3) as port:
            port.write(VOLTS)
            return bytes(port.read(9))

    assert rtu.valid(await asyncio.to_thread(read, "E"))
    assert not rtu.valid(await asyncio.to_thread(read, "N"))


def test_a_receiver_that_is_set_like_the_sender_hears_every_byte() -> None:
    everything = bytes(range(256))
    for parity in "NEO":
        one = Setting(9600, parity)
        assert received(everything, one, one) == everything
    assert received(everything, Setting(9600), Setting(4800)) != everything
    assert len(received(everything, Setting(2400), Setting(9600))) > 300
    assert received(everything, Setting(9600), Setting(9600), inverted=True) != everything


async def test_models_refuse_what_they_are_told_to_refuse(talking: Talking) -> None:
    def ask(address: int, count: int) -> bytes:
        return ReadRegisters(3, 4, address, count, framing="rtu").request

    some = '{ kind = "refuses", max_words = 20, registers = ["voltage_l2"] }'
    async with talking(toml(some, protocol="modbus-rtu")) as line:
        assert (await line.ask(ask(12, 22)))[1:3] == b"\x84\x03"
        assert (await line.ask(ask(0, 6)))[1:3] == b"\x84\x02"
        assert (await line.ask(ask(4, 20)))[1:3] == b"\x04\x28"
    async with talking(toml('{ kind = "refuses" }')) as line:
        assert (await line.ask(ask(0, 80)))[1:3] == b"\x84\x02"
        assert (await line.ask(ask(0, 6)))[1:3] == b"\x04\x0c"
        (block,) = dlt645.Framer().feed(await line.ask(ReadData("000012345678", "0201FF00", variant="2007").request))
        assert block.is_error and block.data == b"\x02"
        (single,) = dlt645.Framer().feed(await line.ask(ReadData("000012345678", "02010100", variant="2007").request))
        assert not single.is_error


async def test_without_a_right_nothing_is_told(talking: Talking) -> None:
    async with talking(toml('{ kind = "access" }')) as line:
        assert (await line.ask(VOLTS))[1:3] == b"\x84\x01"
        (refused,) = dlt645.Framer().feed(await line.ask(ENERGY))
        assert refused.is_error and refused.data == b"\x04"


async def test_words_in_the_other_order_and_values_times_a_factor(talking: Talking) -> None:
    async with talking(toml()) as line:
        right = await line.ask(VOLTS)
        (energy,) = dlt645.Framer().feed(await line.ask(ENERGY))
    async with talking(toml('{ kind = "scale", factor = 10 }')) as line:
        (larger,) = dlt645.Framer().feed(await line.ask(ENERGY))
        volts = struct.unpack(">f", (await line.ask(VOLTS))[3:7])[0]
        assert volts == pytest.approx(10 * struct.unpack(">f", right[3:7])[0], rel=0.02)
        ten, one = (decode_item("00010000", data[4:], "2007")[0].value for data in (larger.data, energy.data))
        assert isinstance(ten, Decimal) and isinstance(one, Decimal)
        assert ten == pytest.approx(10 * one % 1_000_000, abs=1), "registers roll over"
    async with talking(toml('{ kind = "scale", registers = ["current_l1"] }')) as line:
        assert 200 < struct.unpack(">f", (await line.ask(VOLTS))[3:7])[0] < 260
    text = toml('{ kind = "word_order" }', protocol="modbus-rtu")
    async with talking(text) as line:
        turned = await line.ask(VOLTS)
        assert rtu.valid(turned) and 200 < struct.unpack(">f", turned[5:7] + turned[3:5])[0] < 260


def test_every_kind_says_what_it_may_say_and_where_it_may_stand(tmp_path: Path) -> None:
    for kind in KINDS:
        for on_line, forbidden in ((True, ON_METER_ONLY), (False, ON_LINE_ONLY)):
            if kind in forbidden:
                with pytest.raises(ConfigError, match="it may be"):
                    parse_fault({"kind": kind}, "hall", on_line=on_line)
            else:
                assert parse_fault({"kind": kind}, "hall", on_line=on_line).kind == kind
        assert keys(kind)[0] == "kind"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (toml(line='{ kind = "baud" }', protocol="modbus-tcp"), "baud happens on wires, and modbus-tcp"),
        (toml(line='{ kind = "prefix" }', protocol="modbus-tcp"), "prefix is of transparent serial servers"),
        (toml(line='{ kind = "no_transaction" }'), "no_transaction is of modbus-tcp"),
        (toml('{ kind = "word_order" }'), 'word_order, but "generic/dlt645-3ph" has no words'),
        (toml('{ kind = "refuses", registers = ["volts"] }'), "has no volts; it has voltage_l1"),
        (toml('{ kind = "address", address = 300 }'), "300.*a number from 1 to 247"),
        (toml('{ kind = "clock_jump", to_s = 5 }'), "a clock_jump has only from_s, jump_s, not to_s"),
        (toml('{ kind = "glued", frame = "all" }'), 'frame = "all"; it may be next, foreign'),
        (toml('{ kind = "noise", unasked_s = 1 }'), "unasked_s is of lines"),
    ],
)
def test_a_fault_that_cannot_happen_there_is_named(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_fleet(text, tmp_path / "fleet.toml")


async def test_a_slow_meter_thinks_longer_about_everything(talking: Talking) -> None:
    async with talking(toml('{ kind = "slow", late_s = 0.2 }')) as line:
        assert await line.ask(VOLTS, 0.15) == b""
        assert rtu.valid(await line.ask(b"", 0.3))
