"""The test of a line: works, or says what is wrong and which framing answers instead. Real sockets, foreign server."""

from __future__ import annotations

import asyncio
import socket

import pytest
from pymodbus.framer import FramerType
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from meter_batch_engine.errors import ConfigError
from meter_batch_engine.fleet import try_line
from meter_batch_engine.line import LineSettings


@pytest.fixture
async def server(request):
    device = SimDevice(1, simdata=[SimData(0, values=[230, 1], datatype=DataType.INT16)])
    one = ModbusTcpServer(device, framer=request.param, address=("127.0.0.1", 0))
    await one.listen()
    yield f"tcp://127.0.0.1:{one.transport.sockets[0].getsockname()[1]}"
    await one.shutdown()


@pytest.mark.parametrize(
    ("server", "framing"), [(FramerType.SOCKET, "tcp"), (FramerType.RTU, "rtu")], indirect=["server"]
)
async def test_a_line_whose_meter_answers_is_good(server, framing):
    result = await try_line(server, LineSettings(framing=framing), protocol="modbus", address="1")
    assert result.ok and result.problem is None and result.framing == framing


@pytest.mark.parametrize("server", [FramerType.RTU], indirect=True)
async def test_a_transparent_gateway_taken_for_modbus_tcp_is_found_out(server):
    result = await try_line(server, LineSettings(framing="tcp"), protocol="modbus", address="1", turnround_s=0.4)
    assert not result.ok and result.framing == "rtu"
    assert "answers in Modbus RTU" in result.problem and "RTU over TCP" in result.hint


@pytest.mark.parametrize("server", [FramerType.SOCKET], indirect=True)
async def test_a_modbus_tcp_gateway_taken_for_a_transparent_one_is_found_out(server):
    result = await try_line(server, LineSettings(framing="rtu"), protocol="modbus", address="1", turnround_s=0.4)
    assert not result.ok and result.framing == "tcp"
    assert "answers in Modbus TCP" in result.problem and "Modbus TCP" in result.hint


async def test_a_wrong_port_is_told_in_plain_words():
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        port = plug.getsockname()[1]
    result = await try_line(f"tcp://127.0.0.1:{port}", LineSettings(), protocol="modbus", address="1")
    assert not result.ok and f"Nothing listens at 127.0.0.1:{port}" in result.problem


async def test_half_a_frame_and_then_silence_is_told_as_a_damaged_reply():
    async def half(reader, writer):
        await reader.read(100)
        writer.write(b"\x01\x03\x02\x00")
        await writer.drain()
        await reader.read(100)

    server = await asyncio.start_server(half, "127.0.0.1", 0)
    async with server:
        url = f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        result = await try_line(url, LineSettings(), protocol="dlt645-2007", address="000000000001", turnround_s=0.2)
    assert not result.ok and "no whole frame" in result.problem and result.hint


async def test_without_a_meter_only_the_connection_is_tried():
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    async with server:
        assert (await try_line(f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}", LineSettings())).ok


async def test_an_impossible_address_is_refused_before_anything_is_opened():
    with pytest.raises(ConfigError, match="12 digits"):
        await try_line("tcp://127.0.0.1:1", LineSettings(), protocol="dlt645-2007", address="1.23E+11")
