"""Readers that are not ours (mbpoll, pymodbus) read virtual Modbus meters and get the true values."""

from __future__ import annotations

import re
import shutil
import socket
import struct
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from pymodbus import FramerType
from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.client.base import ModbusBaseClient
from pymodbus.exceptions import ModbusIOException
from pymodbus.pdu.file_message import FileRecord, ReadFileRecordResponse

from meter_batch_virtual.fleet import VirtualFleet
from tests.conftest import need

from .conftest import StartFleet, run

LINE = """
[[line]]
name = "hall"
listen = "{listen}"
protocol = "{protocol}"
baud = 19200
[[line.meter]]
address = 7
template = "eastron/sdm630"
load = "chiller"
[[line.meter]]
address = 9
template = "abb/b23"
load = "pv"
memory = false
[[line.meter]]
address = 11
template = "carlo-gavazzi/em340"
"""
SDM630 = {0: "1-0:32.7.0", 6: "1-0:31.7.0", 52: "1-0:16.7.0", 70: "1-0:14.7.0", 72: "1-0:1.8.0"}
"""Wire address of a float in function 4 → register; W and Wh are kW and kWh times `FACTOR`."""
FACTOR = {52: 1000}


def port(fleet: VirtualFleet) -> str:
    return fleet.lines[0].where.rpartition(":")[2]


def true_values(fleet: VirtualFleet, address: str) -> dict[str, float]:
    (truth,) = (one for one in fleet.truth() if one["address"] == address)
    return {obis: float(value) for obis, value in truth["registers"].items()}


async def mbpoll(*arguments: str) -> dict[int, float]:
    need("mbpoll", shutil.which("mbpoll") is not None)
    status, out, err = await run("mbpoll", *arguments)
    assert status == 0, out + err
    return {int(place): float(value) for place, value in re.findall(r"^\[(\d+)\]:\s+(\S+)", out, re.MULTILINE)}


async def check_by_mbpoll(fleet: VirtualFleet, *where: str) -> None:
    truth = true_values(fleet, "7")
    for address, obis in SDM630.items():
        found = await mbpoll("-a", "7", "-t", "3:float", "-B", "-0", "-r", str(address), "-c", "1", "-1", *where)
        assert found[address] == pytest.approx(truth[obis] * FACTOR.get(address, 1), rel=1e-5)


async def check_by_pymodbus(fleet: VirtualFleet, client: ModbusBaseClient) -> None:
    async with client:
        truth = true_values(fleet, "7")
        answer = await client.read_input_registers(0, count=80, device_id=7)
        assert not answer.isError()
        for address, obis in SDM630.items():
            (value,) = struct.unpack(">f", struct.pack(">2H", *answer.registers[address : address + 2]))
            assert value == pytest.approx(truth[obis] * FACTOR.get(address, 1), rel=1e-6)
        truth = true_values(fleet, "9")
        energy = await client.read_holding_registers(0x5000, count=8, device_id=9)
        imported, exported = struct.unpack(">2q", struct.pack(">8H", *energy.registers))
        assert imported / 100 == truth["1-0:1.8.0"] and exported / 100 == truth["1-0:2.8.0"]
        assert exported > 0
        refused = await client.read_input_registers(0xF000, count=2, device_id=7)
        assert refused.isError() and refused.exception_code == 2
        refused = await client.read_coils(0, count=1, device_id=7)
        assert refused.isError() and refused.exception_code == 1


async def check_memory_by_pymodbus(fleet: VirtualFleet, client: ModbusBaseClient) -> None:
    """The header and a stretch of the 15-min profile, each word understood here and not by our engine."""

    async def words(unit: int, file: int, record: int, count: int) -> tuple[int, ...]:
        asked = FileRecord(file_number=file, record_number=record, record_data=bytes(2 * count))
        answer = await client.read_file_record([asked], device_id=unit)
        if answer.isError():
            return (-answer.exception_code,)
        assert isinstance(answer, ReadFileRecordResponse)
        (found,) = answer.records
        return struct.unpack(f">{count}H", found.record_data)

    async with client:
        now = fleet.clock.now()
        head = await words(7, 1, 0, 64)
        assert struct.pack(">2H", *head[:2]) == b"MBLP"
        assert (head[2], head[3] << 16 | head[4], head[5]) == (1, int(now.timestamp()), 2)
        period_s, days, first_file, columns = head[6:10]
        assert (period_s, days, columns) == (900, 366, 4)
        codes, exponents = head[10:18:2], head[11:18:2]
        assert codes == (1, 2, 3, 4)
        (meter,) = (one for _, one in fleet.meters if one.address == "7")
        day = (now - datetime(2000, 1, 1, tzinfo=UTC)).days - 200
        label = datetime(2000, 1, 1, tzinfo=UTC) + timedelta(days=day, hours=7)
        record = await words(7, first_file + day, 28, 2 * columns * 15)
        numbers = struct.unpack(">60I", struct.pack(">120H", *record))
        for number in range(15):
            true = meter.truth(label + timedelta(minutes=15 * number))
            for code, exponent, value in zip(codes, exponents, numbers[4 * number :], strict=False):
                shown = value * Decimal(1).scaleb(exponent - 0x10000)
                assert float(shown) == pytest.approx(float(true[f"1-0:{code}.8.0"]), rel=1e-7, abs=0)
        assert await words(7, first_file + day + 201, 0, 8) == (-2,), "tomorrow"
        assert await words(9, 1, 0, 64) == (-1,), "without memory"


async def test_over_modbus_tcp(start_fleet: StartFleet) -> None:
    fleet = await start_fleet(LINE.format(listen="tcp://127.0.0.1:0", protocol="modbus-tcp"))
    await check_by_pymodbus(fleet, AsyncModbusTcpClient("127.0.0.1", port=int(port(fleet)), retries=0))
    await check_by_mbpoll(fleet, "-m", "tcp", "-p", port(fleet), "127.0.0.1")
    await check_memory_by_pymodbus(fleet, AsyncModbusTcpClient("127.0.0.1", port=int(port(fleet)), retries=0))


async def test_over_rtu_in_tcp(start_fleet: StartFleet) -> None:
    fleet = await start_fleet(LINE.format(listen="tcp://127.0.0.1:0", protocol="modbus-rtu"))
    await check_by_pymodbus(
        fleet, AsyncModbusTcpClient("127.0.0.1", port=int(port(fleet)), framer=FramerType.RTU, retries=0)
    )


async def test_over_a_pseudo_terminal(start_fleet: StartFleet) -> None:
    fleet = await start_fleet(LINE.format(listen="pty:./ttyM", protocol="modbus-rtu"))
    where = fleet.lines[0].where
    await check_by_pymodbus(fleet, AsyncModbusSerialClient(where, baudrate=19200, retries=0))
    await check_by_mbpoll(fleet, "-m", "rtu", "-b", "19200", "-P", "none", where)
    await check_memory_by_pymodbus(fleet, AsyncModbusSerialClient(where, baudrate=19200, retries=0))


async def test_over_a_gateway_from_tcp_to_a_wire(start_fleet: StartFleet) -> None:
    toml = LINE.format(listen="tcp://127.0.0.1:0", protocol="modbus-tcp").replace("baud", "gateway = true\nbaud")
    fleet = await start_fleet(
        toml + "\n[[line.meter]]\naddress = 13\ntemplate = 'chint/ddsu666'\nfaults = [{kind = 'silent'}]"
    )
    await check_by_pymodbus(fleet, AsyncModbusTcpClient("127.0.0.1", port=int(port(fleet)), retries=0))
    async with AsyncModbusTcpClient("127.0.0.1", port=int(port(fleet)), retries=0) as client:
        silent = await client.read_holding_registers(0x2000, count=2, device_id=13)
        assert silent.isError() and silent.exception_code == 0x0B
    log = fleet.lines[0].log
    assert log is not None and log.requests > 3 and log.gap_violations == 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning:serial")
async def test_over_an_rfc_2217_serial_server_and_only_at_its_speed(start_fleet: StartFleet) -> None:
    import asyncio

    import serial

    fleet = await start_fleet(LINE.format(listen="rfc2217://127.0.0.1:0", protocol="modbus-rtu"))

    def read(baud: int) -> bytes:
        with serial.serial_for_url(fleet.lines[0].where, baudrate=baud, timeout=0.5) as wire:
            wire.write(bytes.fromhex("0704000000027bac"[:12]) + crc(bytes.fromhex("070400000002")))
            return bytes(wire.read(9))

    reply = await asyncio.to_thread(read, 19200)
    assert reply[:3] == bytes.fromhex("070404")
    (volts,) = struct.unpack(">f", reply[3:7])
    assert volts == pytest.approx(true_values(fleet, "7")["1-0:32.7.0"], rel=1e-6)
    assert await asyncio.to_thread(read, 9600) == b""


def crc(data: bytes) -> bytes:
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
    return value.to_bytes(2, "little")


async def test_two_meters_with_one_address_garble_each_other(start_fleet: StartFleet) -> None:
    toml = LINE.format(listen="tcp://127.0.0.1:0", protocol="modbus-rtu")
    twin = "[[line.meter]]\naddress = 7\nname = 'twin'\ntemplate = 'eastron/sdm630'\n"
    fleet = await start_fleet(toml + twin)
    async with AsyncModbusTcpClient(
        "127.0.0.1", port=int(port(fleet)), framer=FramerType.RTU, retries=0, timeout=1
    ) as client:
        with pytest.raises(ModbusIOException):
            await client.read_input_registers(0, count=80, device_id=7)
    log = fleet.lines[0].log
    assert log is not None and log.collisions == 1


async def test_a_taken_port_is_said_in_plain_words(start_fleet: StartFleet) -> None:
    from meter_batch_engine.errors import LineUnavailable

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        where = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(LineUnavailable, match=r"cannot be opened.*another program"):
            await start_fleet(LINE.format(listen=where, protocol="modbus-tcp"))
