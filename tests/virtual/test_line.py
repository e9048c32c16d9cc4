"""Meters on a running line: both protocols on one pair of wires, faults on the wire, broken requests."""

from __future__ import annotations

import asyncio
import socket
import struct
import time

import pytest
from pymodbus import FramerType
from pymodbus.client import AsyncModbusTcpClient

from meter_batch_engine.errors import LineUnavailable
from meter_batch_engine.protocol.dlt645.exchange import ReadData
from meter_batch_engine.protocol.modbus.exchange import ReadRegisters
from meter_batch_virtual.fleet import VirtualFleet

from .conftest import StartFleet

LINE = """
[[line]]
name = "mixed"
listen = "tcp://127.0.0.1:0"
protocol = "mixed"
baud = 19200
turnround_ms = 20
jitter_ms = 0
{line}
[[line.meter]]
address = 3
template = "eastron/sdm630"
{meter}
[[line.meter]]
address = "000012345678"
template = "generic/dlt645-3ph"
"""


def toml(line: str = "", meter: str = "") -> str:
    return LINE.format(line=line, meter=meter)


class Socket:
    """Bytes to and from the first line of a fleet."""

    def __init__(self, fleet: VirtualFleet) -> None:
        self._port = int(fleet.lines[0].where.rpartition(":")[2])

    async def __aenter__(self) -> Socket:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        await self.writer.wait_closed()

    async def ask(self, request: bytes, wait_s: float = 0.3) -> bytes:
        """What comes within a time."""
        self.writer.write(request)
        heard = b""
        try:
            async with asyncio.timeout(wait_s):
                while True:
                    heard += await self.reader.read(4096)
        except TimeoutError:
            return heard


VOLTAGE = ReadRegisters(3, 4, 0, 2, framing="rtu").request
ENERGY = ReadData("000012345678", "00010000", variant="2007").request


async def test_both_protocols_share_one_pair_of_wires(start_fleet: StartFleet) -> None:
    fleet = await start_fleet(toml())
    truth = {one["address"]: one["registers"] for one in fleet.truth()}
    async with Socket(fleet) as line:
        for _ in range(2):
            reply = await line.ask(ENERGY, 0.4)
            answer = ReadData("000012345678", "00010000", variant="2007").feed(reply)
            assert answer is not None
            assert f"{int(answer.data[::-1].hex()) / 100:.2f}" == truth["000012345678"]["1-0:1.8.0"]
            reply = await line.ask(VOLTAGE, 0.4)
            assert abs(struct.unpack(">f", reply[3:7])[0] - float(truth["3"]["1-0:32.7.0"])) < 0.001
    assert fleet.lines[0].log is not None
    assert [one.meters for one in fleet.lines[0].log.exchanges] == [["mixed/000012345678"], ["mixed/3"]] * 2


async def test_a_foreign_modbus_reader_is_not_disturbed_by_the_other_protocol(start_fleet: StartFleet) -> None:
    fleet = await start_fleet(toml())
    port = int(fleet.lines[0].where.rpartition(":")[2])
    async with AsyncModbusTcpClient("127.0.0.1", port=port, framer=FramerType.RTU, retries=0) as client:
        answer = await client.read_input_registers(70, count=2, device_id=3)
        (hertz,) = struct.unpack(">f", struct.pack(">2H", *answer.registers))
        assert 49 < hertz < 51


async def test_half_a_request_is_forgotten_after_a_silence(start_fleet: StartFleet) -> None:
    async with Socket(await start_fleet(toml())) as line:
        assert await line.ask(VOLTAGE[:5], 0.1) == b""
        assert len(await line.ask(VOLTAGE, 0.4)) == 9


async def test_a_damaged_request_and_a_foreign_address_get_no_answer(start_fleet: StartFleet) -> None:
    async with Socket(await start_fleet(toml())) as line:
        assert await line.ask(VOLTAGE[:-1] + b"\x00", 0.1) == b""
        assert await line.ask(ReadRegisters(4, 4, 0, 2, framing="rtu").request, 0.1) == b""
        assert await line.ask(ENERGY[:-2] + b"\x00\x16", 0.1) == b""


async def test_faults_of_a_meter_spare_the_others_and_faults_of_a_line_spare_nobody(start_fleet: StartFleet) -> None:
    half = await start_fleet(toml(meter='faults = [{ kind = "half", keep = 4 }]'))
    async with Socket(half) as line:
        assert len(await line.ask(VOLTAGE, 0.4)) == 4
        assert len(await line.ask(ENERGY, 0.4)) == 4 + 20
    noisy = await start_fleet(toml(line='[[line.fault]]\nkind = "noise"\nbytes = 3\nplace = "after"'))
    async with Socket(noisy) as line:
        assert len(await line.ask(VOLTAGE, 0.4)) == 9 + 3
        assert len(await line.ask(ENERGY, 0.4)) == 4 + 20 + 3


async def test_a_late_reply_comes_late_and_whole(start_fleet: StartFleet) -> None:
    fleet = await start_fleet(toml(meter='faults = [{ kind = "late", late_s = 0.2, count = 1 }]'))
    async with Socket(fleet) as line:
        begun = time.monotonic()
        line.writer.write(VOLTAGE)
        reply = await line.reader.readexactly(9)
        assert 0.22 < time.monotonic() - begun < 1.5
        assert await line.ask(VOLTAGE, 0.4) == reply


async def test_an_echo_fault_returns_the_request_before_the_reply(start_fleet: StartFleet) -> None:
    async with Socket(await start_fleet(toml(meter='faults = [{ kind = "echo" }]'))) as line:
        reply = await line.ask(VOLTAGE, 0.4)
        assert reply.startswith(VOLTAGE) and len(reply) == len(VOLTAGE) + 9


async def test_a_cut_that_is_scripted_comes_and_goes_by_itself_and_meters_go_on_meanwhile(
    start_fleet: StartFleet,
) -> None:
    fleet = await start_fleet(toml(line='[[line.fault]]\nkind = "cut"\nfrom_s = 0.4\nto_s = 1.4'), hold=False)
    port = int(fleet.lines[0].where.rpartition(":")[2])
    registers = [meter.truth(fleet.clock.now()) for _, meter in fleet.meters]
    begun, states = fleet.clock.since_start_s(), []
    while fleet.clock.since_start_s() < 2.0:
        at = fleet.clock.since_start_s()
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            states.append((at, fleet.clock.since_start_s(), True))
        except ConnectionError:
            states.append((at, fleet.clock.since_start_s(), False))
        await asyncio.sleep(0.02)
    assert begun < 0.4
    assert all(listens for _, until, listens in states if until < 0.4)
    refused = [at for at, _, listens in states if not listens]
    assert refused and min(refused) < 1.0 and max(refused) < 1.7
    assert states[-1][2]
    assert [meter.truth(fleet.clock.now()) for _, meter in fleet.meters] != registers


async def test_a_line_that_is_cut_from_the_start_is_never_open(start_fleet: StartFleet) -> None:
    fleet = await start_fleet(toml(line='[[line.fault]]\nkind = "cut"'))
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", int(fleet.lines[0].where.rpartition(":")[2]))


async def test_a_port_that_was_taken_during_a_cut_ends_the_fleet_in_plain_words(start_fleet: StartFleet) -> None:
    fleet = await start_fleet(toml(line='[[line.fault]]\nkind = "cut"'))
    running = asyncio.create_task(fleet.run())
    await asyncio.sleep(0.05)
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        thief.bind(("127.0.0.1", int(fleet.lines[0].where.rpartition(":")[2])))
        thief.listen()
        fleet.lines[0].reload(())
        with pytest.raises(LineUnavailable, match="is another program listening there"):
            await running
