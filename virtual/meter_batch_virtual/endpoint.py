"""Where a virtual line can be reached: TCP, a pseudo terminal, or a serial server of RFC 2217."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import termios
import tty
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from meter_batch_engine.errors import ConfigError, LineUnavailable

from .uart import Setting

BUFFER = 65_536

_SPEEDS = {
    getattr(termios, f"B{baud}"): baud
    for baud in (300, 600, 1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200, 230400)
    if hasattr(termios, f"B{baud}")
}


class Peer(Protocol):
    """Who is connected. `port` is how it has set the serial port, None where nobody can tell."""

    port: Setting | None

    def write(self, data: bytes) -> None:
        """Sends bytes; silently loses them where nobody listens any more."""


type OnBytes = Callable[[Peer, bytes], None]


class Endpoint(Protocol):
    """A place to listen at. `where` is its address as masters name it, valid after `start`."""

    where: str

    async def start(self, on_bytes: OnBytes) -> None:
        """Begins to listen; raises LineUnavailable in plain words."""

    def write(self, data: bytes) -> None:
        """Sends bytes to all who are connected."""

    def unplug(self) -> None:
        """Drops who is connected and lets nobody connect; raises LineUnavailable where the place cannot be kept."""

    async def plug(self) -> None:
        """Listens again, at the same place; raises LineUnavailable."""

    async def stop(self) -> None:
        """Ends; nothing stays behind."""


class TcpEndpoint:
    """A TCP server; port 0 takes a free one."""

    def __init__(self, host: str, port: int, scheme: str = "tcp") -> None:
        self._host, self._port, self._scheme = host, port, scheme
        self._servers: list[asyncio.Server] = []
        self._kept: list[socket.socket] = []
        """While it is unplugged: bound, so that the port stays ours, but not listening, so that it is refused."""
        self.peers: set[Peer] = set()
        self.on_connect: Callable[[Peer], None] | None = None
        self.where = f"{scheme}://{host}:{port}"

    async def start(self, on_bytes: OnBytes) -> None:
        """See `Endpoint.start`."""
        self._on_bytes = on_bytes
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(self._connection, self._host, self._port, reuse_address=True)
        except OSError as error:
            raise self._unavailable(error) from error
        self._servers = [server]
        self._port = server.sockets[0].getsockname()[1]
        self.where = f"{self._scheme}://{self._host}:{self._port}"

    def _unavailable(self, error: OSError) -> LineUnavailable:
        return LineUnavailable(f"{self.where} cannot be opened ({error.strerror}); is another program listening there?")

    def _connection(self) -> Connection:
        return Connection(self, self._on_bytes)

    def write(self, data: bytes) -> None:
        """See `Endpoint.write`."""
        for peer in list(self.peers):
            peer.write(data)

    async def stop(self) -> None:
        """See `Endpoint.stop`."""
        for sock in self._kept:
            sock.close()
        self._kept.clear()
        for server in self._servers:
            server.close()
            server.close_clients()
            await server.wait_closed()
        self._servers.clear()

    def unplug(self) -> None:
        """See `Endpoint.unplug`."""
        places = [(sock.family, sock.getsockname()) for server in self._servers for sock in server.sockets]
        for server in self._servers:
            server.close()
            server.abort_clients()
        self._servers.clear()
        for family, address in places:
            sock = socket.socket(family, socket.SOCK_STREAM)
            self._kept.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                sock.bind(address)
            except OSError as error:
                raise self._unavailable(error) from error

    async def plug(self) -> None:
        """See `Endpoint.plug`."""
        loop = asyncio.get_running_loop()
        while self._kept:
            try:
                self._servers.append(await loop.create_server(self._connection, sock=self._kept[0]))
            except OSError as error:
                raise self._unavailable(error) from error
            del self._kept[0]


class Connection(asyncio.Protocol):
    """One master's connection to a TCP endpoint."""

    def __init__(self, endpoint: TcpEndpoint, on_bytes: OnBytes) -> None:
        self._endpoint, self._on_bytes = endpoint, on_bytes
        self._transport: asyncio.Transport | None = None
        self.port: Setting | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._endpoint.peers.add(self)
        if self._endpoint.on_connect is not None:
            self._endpoint.on_connect(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._endpoint.peers.discard(self)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._on_bytes(self, data)

    def write(self, data: bytes) -> None:
        """See `Peer.write`."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


class PtyEndpoint:
    """A pseudo terminal behind a link at `path`. It knows the speed that a master sets, and no parity."""

    def __init__(self, path: Path, setting: Setting) -> None:
        self._path, self._setting = path, setting
        self.port: Setting | None = None
        self._master = self._slave = -1
        self.where = str(path.absolute())

    async def start(self, on_bytes: OnBytes) -> None:
        """See `Endpoint.start`."""
        self._on_bytes = on_bytes
        self._open()

    def _open(self) -> None:
        if self._path.is_symlink():
            if self._path.exists():
                raise LineUnavailable(f"{self._path} is there already; is another fleet running on it?")
            self._path.unlink()
        elif self._path.exists():
            raise LineUnavailable(f"{self._path} is there already and is no link; name another path")
        self._master, self._slave = os.openpty()
        # The slave stays open here too, so that masters may come and go.
        tty.setraw(self._master)
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.symlink_to(os.ttyname(self._slave))
        except OSError as error:
            os.close(self._master)
            os.close(self._slave)
            self._master = -1
            raise LineUnavailable(f"no link can be made at {self._path} ({error.strerror})") from error
        asyncio.get_running_loop().add_reader(self._master, self._read)

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            data = os.read(self._master, BUFFER)
            speed = _SPEEDS.get(termios.tcgetattr(self._slave)[5])
            self.port = None if speed is None else replace(self._setting, baud=speed)
            if data:
                self._on_bytes(self, data)

    def write(self, data: bytes) -> None:
        """See `Endpoint.write`."""
        if self._master < 0:
            return
        # A full buffer means that nobody reads: a serial port loses such bytes too.
        with contextlib.suppress(BlockingIOError):
            os.write(self._master, data)

    async def stop(self) -> None:
        """See `Endpoint.stop`."""
        self.unplug()

    async def plug(self) -> None:
        """See `Endpoint.plug`: a new terminal behind the same link."""
        self._open()

    def unplug(self) -> None:
        """See `Endpoint.unplug`: as with an adapter that is pulled out, the link goes and masters are hung up."""
        if self._master < 0:
            return
        asyncio.get_running_loop().remove_reader(self._master)
        with contextlib.suppress(OSError):
            if os.readlink(self._path) == os.ttyname(self._slave):
                self._path.unlink()
        os.close(self._master)
        os.close(self._slave)
        self._master = -1


def endpoint(listen: str, setting: Setting, folder: Path) -> Endpoint:
    """The place that a `listen` of a fleet file names; relative paths start in `folder`. Raises ConfigError."""
    scheme, _, rest = listen.partition(":")
    if scheme == "pty" and rest:
        return PtyEndpoint(folder / rest.removeprefix("//"), setting)
    host, _, port = rest.removeprefix("//").rpartition(":")
    if scheme in ("tcp", "rfc2217") and host and port.isdecimal() and int(port) < 65_536:
        if scheme == "tcp":
            return TcpEndpoint(host, int(port))
        from .rfc2217 import Rfc2217Endpoint

        return Rfc2217Endpoint(host, int(port), setting)
    raise ConfigError(
        f'listen = "{listen}" is none of tcp://host:port, pty:path, rfc2217://host:port (for example tcp://127.0.0.1:15020)'
    )
