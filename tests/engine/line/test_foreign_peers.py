"""Our line reads programs that other people wrote: pymodbus's server and a DL/T 645 bus, over TCP and terminals."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import socket
import struct
import sys
import threading
import tty
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from decimal import Decimal
from pathlib import Path

import pytest
import serial
from pymodbus.framer import FramerType
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice
from serial import rfc2217

from meter_batch_engine.errors import AbsentRegister, NoReply, Refused
from meter_batch_engine.line import Line, LineSettings
from meter_batch_engine.protocol.dlt645.exchange import ReadAddress, ReadData
from meter_batch_engine.protocol.modbus.exchange import ReadFile, ReadRegisters
from meter_batch_engine.transport import open_transport


def volts(words: tuple[int, ...]) -> float:
    return struct.unpack(">f", struct.pack(">2H", *words))[0]


def device(unit: int) -> SimDevice:
    return SimDevice(unit, simdata=[SimData(0, values=[230.0 + unit, 1.5], datatype=DataType.FLOAT32)])


@asynccontextmanager
async def cable():
    """Two terminals joined back to back, as by a null-modem cable; the names of both ends."""
    loop = asyncio.get_running_loop()
    masters, slaves = zip(*(pty.openpty() for _ in range(2)), strict=True)
    for one in slaves:
        tty.setraw(one)
    for here, there in (masters, masters[::-1]):
        os.set_blocking(here, False)

        def carry(here=here, there=there) -> None:
            with suppress(OSError):
                os.write(there, os.read(here, 4096))

        loop.add_reader(here, carry)
    try:
        yield [os.ttyname(one) for one in slaves]
    finally:
        for one in masters:
            loop.remove_reader(one)
        for one in masters + slaves:
            os.close(one)


@asynccontextmanager
async def line_to(url: str, settings: LineSettings):
    line = Line(open_transport(url, settings.serial), settings)
    await line.open()
    try:
        yield line
    finally:
        await line.close()


@pytest.mark.parametrize("framing", ["rtu", "tcp"])
async def test_pymodbus_over_tcp_is_read_in_both_framings(framing):
    framer = FramerType.RTU if framing == "rtu" else FramerType.SOCKET
    server = ModbusTcpServer([device(1), device(9)], framer=framer, address=("127.0.0.1", 0))
    await server.listen()
    try:
        port = server.transport.sockets[0].getsockname()[1]
        async with line_to(f"tcp://127.0.0.1:{port}", LineSettings(baud=115200, framing=framing)) as line:
            for turn, unit in enumerate((1, 9, 1)):
                question = ReadRegisters(unit, 4, 0, 2, framing=framing, transaction=turn)
                reply = await line.exchange(question, turnround_s=2)
                assert volts(reply.answer) == 230.0 + unit
            with pytest.raises(AbsentRegister):
                await line.exchange(ReadRegisters(1, 4, 900, 2, framing=framing), turnround_s=2)
            with pytest.raises(Refused):
                await line.exchange(ReadRegisters(5, 4, 0, 2, framing=framing, transaction=7), turnround_s=0.3)
            assert (
                volts((await line.exchange(ReadRegisters(9, 4, 0, 2, framing=framing), turnround_s=2)).answer) == 239.0
            )
    finally:
        await server.shutdown()


@pytest.mark.parametrize("framing", ["rtu", "tcp"])
async def test_the_files_of_pymodbus_are_read_in_both_framings(framing):
    """Its server has one record for all files, ten words long."""
    framer = FramerType.RTU if framing == "rtu" else FramerType.SOCKET
    server = ModbusTcpServer([device(1)], framer=framer, address=("127.0.0.1", 0))
    await server.listen()
    try:
        port = server.transport.sockets[0].getsockname()[1]
        async with line_to(f"tcp://127.0.0.1:{port}", LineSettings(baud=115200, framing=framing)) as line:
            reply = await line.exchange(ReadFile(1, 4, 7, 10, framing=framing, transaction=3), turnround_s=2)
            assert struct.pack(">10H", *reply.answer) == b"SERVER DUMMY RECORD."
    finally:
        await server.shutdown()


async def test_pymodbus_on_a_serial_port_is_read():
    async with cable() as (ours, theirs):
        server = ModbusSerialServer([device(3)], framer=FramerType.RTU, port=theirs, baudrate=19200)
        await server.listen()
        try:
            async with line_to(ours, LineSettings(baud=19200)) as line:
                for _ in range(5):
                    reply = await line.exchange(ReadRegisters(3, 3, 0, 4), turnround_s=2)
                    assert volts(reply.answer[:2]) == 233.0
        finally:
            await server.shutdown()


async def test_a_serial_server_by_rfc_2217_is_a_line_like_any_other():
    """pyserial's own server side stands for the box; behind it is pymodbus on a terminal."""
    async with AsyncExitStack() as stack:
        ours, theirs = await stack.enter_async_context(cable())
        server = ModbusSerialServer([device(3)], framer=FramerType.RTU, port=theirs, baudrate=9600)
        await server.listen()
        stack.push_async_callback(server.shutdown)
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        box = threading.Thread(target=serial_server, args=(listener, ours), daemon=True)
        box.start()
        url = f"rfc2217://127.0.0.1:{listener.getsockname()[1]}"
        async with line_to(url, LineSettings(baud=9600)) as line:
            reply = await line.exchange(ReadRegisters(3, 3, 0, 2), turnround_s=3)
            assert volts(reply.answer) == 233.0
        await asyncio.to_thread(box.join, 5)


class Terminal(serial.Serial):
    """A terminal has no modem pins."""

    cts = dsr = ri = cd = property(lambda self: False)

    def _update_dtr_state(self) -> None: ...

    def _update_rts_state(self) -> None: ...


def serial_server(listener: socket.socket, path: str) -> None:
    """One client of a box that puts a serial port on the network."""
    plug, _ = listener.accept()
    with plug, Terminal(path, timeout=0.05) as port:

        class Plug:
            def write(self, data):
                plug.sendall(data)

        manager = rfc2217.PortManager(port, Plug())

        over = threading.Event()

        def up() -> None:
            with suppress(OSError, serial.SerialException):
                while not over.is_set():
                    if data := port.read(port.in_waiting or 1):
                        plug.sendall(b"".join(manager.escape(data)))

        reader = threading.Thread(target=up, daemon=True)
        reader.start()
        with suppress(OSError):
            while data := plug.recv(1024):
                port.write(b"".join(manager.filter(data)))
        over.set()
        reader.join(2)


BUS = {
    "now": "2025-11-30T14:47:10",
    "hold": True,
    "meters": [
        {"address": "123456789012", "td_ms": 20, "registers": {"00010000": "1234.56", "02010100": "231.7"}},
        {"address": "000000000075", "td_ms": 30, "protocol": "1997", "fe": 1, "registers": {"9010": "10793.30"}},
    ],
}


@pytest.mark.parametrize("way", ["tcp", "pty"])
async def test_the_foreign_dlt645_bus_is_read(shared_dir: Path, tmp_path: Path, way: str):
    fleet = tmp_path / "fleet.json"
    fleet.write_text(json.dumps(BUS))
    where = ["--tcp", "127.0.0.1:0"] if way == "tcp" else ["--pty", str(tmp_path / "tty")]
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(shared_dir / "peers" / "dlt645_meter.py"), *where, "--baud", "9600", "--meters", str(fleet),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        address = (await process.stdout.readline()).decode().split()[1]
        url = f"tcp://{address}" if way == "tcp" else address
        async with line_to(url, LineSettings(baud=9600, parity="E")) as line:
            energy = await line.exchange(ReadData("123456789012", "00010000"), turnround_s=1)
            assert Decimal(energy.answer.data[::-1].hex()) / 100 == Decimal("1234.56")
            voltage = await line.exchange(ReadData("123456789012", "02010100"), turnround_s=1)
            assert Decimal(voltage.answer.data[::-1].hex()) / 10 == Decimal("231.7")
            old = await line.exchange(ReadData("000000000075", "9010", variant="1997"), turnround_s=1)
            assert Decimal(old.answer.data[::-1].hex()) / 100 == Decimal("10793.30")
            assert (await line.exchange(ReadAddress("123456789012"), turnround_s=1)).answer == "123456789012"
            with pytest.raises(AbsentRegister):
                await line.exchange(ReadData("123456789012", "0EEEEEEE"), turnround_s=1)
            with pytest.raises(NoReply):
                await line.exchange(ReadData("999000000001", "00010000"), turnround_s=0.2)
    finally:
        process.terminate()
        await process.wait()
