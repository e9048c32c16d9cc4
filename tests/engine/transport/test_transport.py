"""Real sockets and real terminals: bytes go both ways, and every failure is told in plain words."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import tty
from contextlib import suppress

import pytest

from meter_batch_engine.errors import ConfigError, LineLost, LineUnavailable
from meter_batch_engine.transport import SerialSettings, open_transport
from meter_batch_engine.transport.alarm import FileAlarm, LoopAlarm, alarm
from meter_batch_engine.transport.failure import network_failure, port_failure


class Ears:
    """Collects what a transport reports."""

    def __init__(self) -> None:
        self.heard = b""
        self.lost: list[LineLost] = []
        self.news = asyncio.Event()

    def on_bytes(self, data: bytes) -> None:
        self.heard += data
        self.news.set()

    def on_lost(self, error: LineLost) -> None:
        self.lost.append(error)
        self.news.set()

    async def until(self, what) -> None:
        async with asyncio.timeout(5):
            while not what():
                self.news.clear()
                await self.news.wait()


async def test_tcp_carries_bytes_both_ways_and_tells_when_the_other_side_hangs_up():
    async def parrot(reader, writer):
        writer.write((await reader.read(100))[::-1])
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(parrot, "127.0.0.1", 0)
    async with server:
        transport = open_transport(f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        ears = Ears()
        await transport.open(ears.on_bytes, ears.on_lost)
        transport.write(b"abc")
        await ears.until(lambda: ears.lost)
        assert ears.heard == b"cba"
        assert "closed the connection" in str(ears.lost[0])
        with pytest.raises(LineLost):
            transport.write(b"more")
        await transport.close()


async def test_a_tcp_transport_can_be_opened_again_and_closing_it_ourselves_is_no_loss():
    server = await asyncio.start_server(lambda reader, writer: writer.write(b"hello"), "127.0.0.1", 0)
    async with server:
        transport = open_transport(f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        for _ in range(3):
            ears = Ears()
            await transport.open(ears.on_bytes, ears.on_lost)
            await ears.until(lambda ears=ears: ears.heard == b"hello")
            await transport.close()
            assert ears.lost == []


async def test_small_requests_are_not_held_back():
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    async with server:
        transport = open_transport(f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        ears = Ears()
        await transport.open(ears.on_bytes, ears.on_lost)
        plug = transport._link._plug
        assert plug.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert plug.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        await transport.close()


async def test_what_the_system_does_not_take_at_once_follows_in_order():
    heard, all_of_it = bytearray(), bytes(range(256)) * 40_000

    async def slow(reader, writer):
        await asyncio.sleep(0.05)
        while data := await reader.read(65536):
            heard.extend(data)
        writer.close()

    server = await asyncio.start_server(slow, "127.0.0.1", 0)
    async with server:
        transport = open_transport(f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        ears = Ears()
        await transport.open(ears.on_bytes, ears.on_lost)
        transport.write(all_of_it)
        transport.write(b"the end")
        async with asyncio.timeout(5):
            while len(heard) < len(all_of_it) + 7:  # noqa: ASYNC110  # a server has no event for that
                await asyncio.sleep(0.005)
        assert bytes(heard) == all_of_it + b"the end"
        await transport.close()
        assert ears.lost == []


async def test_a_connection_that_breaks_off_is_told_once_whoever_notices():
    async def rude(reader, writer):
        await reader.read(1)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()

    server = await asyncio.start_server(rude, "127.0.0.1", 0)
    async with server:
        transport = open_transport(f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        ears = Ears()
        await transport.open(ears.on_bytes, ears.on_lost)
        with suppress(LineLost):
            for _ in range(50):
                transport.write(b"x")
                await asyncio.sleep(0.001)
        await ears.until(lambda: ears.lost)
        await asyncio.sleep(0)
        assert len(ears.lost) == 1 and "broke off" in str(ears.lost[0])
        await transport.close()


async def test_a_port_where_nothing_listens_is_named_with_what_to_check():
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        port = plug.getsockname()[1]
    transport = open_transport(f"tcp://127.0.0.1:{port}")
    with pytest.raises(LineUnavailable, match=f"Nothing listens at 127.0.0.1:{port}: is the port right"):
        await transport.open(lambda data: None, lambda error: None)


@pytest.mark.parametrize("url", ["tcp://gateway..local:502", "rfc2217://gateway..local:502"])
async def test_a_host_name_that_cannot_be_is_called_unknown(url):
    with pytest.raises(LineUnavailable, match=r'host name "gateway..local" is not known'):
        await open_transport(url).open(lambda data: None, lambda error: None)


def test_a_host_that_the_name_service_does_not_know_is_called_unknown():
    error = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    assert 'host name "gateway" is not known' in network_failure("gateway", 502, error, 5)


async def test_a_device_that_does_not_answer_is_given_up_in_time():
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        plug.listen(0)
        address = plug.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        transport = open_transport(f"tcp://127.0.0.1:{address[1]}")
        transport._connect_s = 0.2
        with pytest.raises(LineUnavailable, match=r"No answer from 127.0.0.1:\d+ within 0.2 s"):
            await transport.open(lambda data: None, lambda error: None)
        for filler in fillers:
            filler.close()


@pytest.fixture
def terminal():
    master, slave = os.openpty()
    tty.setraw(slave)
    yield master, os.ttyname(slave)
    for one in (master, slave):
        with suppress(OSError):
            os.close(one)


@pytest.mark.parametrize("settings", [SerialSettings(), SerialSettings(2400, "E"), SerialSettings(19200, "O", 2)])
async def test_a_serial_port_carries_all_byte_values_both_ways(terminal, settings):
    master, path = terminal
    transport = open_transport(path, settings)
    ears = Ears()
    await transport.open(ears.on_bytes, ears.on_lost)
    everything = bytes(range(256))
    transport.write(everything)
    assert os.read(master, 300) == everything
    os.write(master, everything)
    await ears.until(lambda: len(ears.heard) == 256)
    assert ears.heard == everything
    await transport.close()
    assert ears.lost == []


async def test_a_port_that_is_in_use_says_so_and_is_free_after_closing(terminal):
    path = terminal[1]
    first, second = open_transport(path), open_transport(path)
    await first.open(lambda data: None, lambda error: None)
    with pytest.raises(LineUnavailable, match="in use by another program"):
        await second.open(lambda data: None, lambda error: None)
    await first.close()
    await second.open(lambda data: None, lambda error: None)
    await second.close()


async def test_an_adapter_that_is_pulled_out_is_noticed(terminal):
    master, path = terminal
    transport = open_transport(path)
    ears = Ears()
    await transport.open(ears.on_bytes, ears.on_lost)
    os.close(master)
    await ears.until(lambda: ears.lost)
    with pytest.raises(LineLost):
        transport.write(b"x")
    await transport.close()


async def test_a_missing_port_is_named_with_what_to_check(tmp_path):
    with pytest.raises(LineUnavailable, match=r"There is no port .*ttyNone.*: is the adapter plugged in"):
        await open_transport(str(tmp_path / "ttyNone")).open(lambda data: None, lambda error: None)


async def test_a_file_is_no_serial_port(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    with pytest.raises(LineUnavailable, match="is not a serial port"):
        await open_transport(str(path)).open(lambda data: None, lambda error: None)


def test_a_port_without_permission_names_the_group():
    assert "dialout" in port_failure("/dev/ttyUSB0", PermissionError(13, "Permission denied"))


async def test_a_serial_server_that_is_not_there_is_told_like_a_network_address():
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        port = plug.getsockname()[1]
    with pytest.raises(LineUnavailable, match="Nothing listens at"):
        await open_transport(f"rfc2217://127.0.0.1:{port}").open(lambda data: None, lambda error: None)


@pytest.mark.parametrize(
    "url",
    ["", "  ", "tcp://", "tcp://host", "tcp://:502", "tcp://host:0", "tcp://host:99999", "tcp://h:1/x", "http://h:80"],
)
def test_an_address_that_is_none_is_refused_before_anything_is_opened(url):
    with pytest.raises(ConfigError):
        open_transport(url)


@pytest.mark.parametrize(
    "url", ["tcp://10.0.0.5:502", "tcp://[fd00::1]:502", "rfc2217://server:2217", "/dev/ttyUSB0", "COM3"]
)
def test_addresses_are_recognised_without_opening(url):
    assert open_transport(url).name


async def test_alarms_are_never_early():
    loop = asyncio.get_running_loop()
    for one in (FileAlarm(loop), LoopAlarm(), alarm(loop)):
        for delay in (-1, 0, 0.0001, 0.001, 0.0035):
            when = loop.time() + delay
            await one.until(when)
            assert loop.time() >= when
        one.close()


async def test_a_terminal_opens_again_and_again_whatever_parity_its_line_has(terminal):
    transport = open_transport(terminal[1], SerialSettings(2400, "E"))
    ears = Ears()
    for _ in range(3):
        await transport.open(ears.on_bytes, ears.on_lost)
        await transport.close()
    assert ears.lost == []
