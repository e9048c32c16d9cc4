"""TCP client: Modbus TCP devices, gateways and serial servers that pass bytes on.

Straight on the socket: replies are small and come one at a time, and the loop's own transports, made for streams, cost
as much as all else that a line does for an exchange.
"""

from __future__ import annotations

import asyncio
import socket

from ..errors import LineLost, LineUnavailable
from ..sentences import say
from . import OnBytes, OnLost
from .failure import lost, network_failure

CONNECT_S = 5.0
READ_BYTES = 470
"""How much is taken from the system at once: more than any reply, and little enough for Python's own small blocks."""
_ALIVE = (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 15_000))
"""A gateway without power is noticed within half a minute (the last one in ms; not every system has all)."""


class TcpTransport:
    """A `Transport` over one TCP connection, without delay and with keep-alive."""

    def __init__(self, host: str, port: int, *, connect_s: float = CONNECT_S) -> None:
        self.name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._host, self._port, self._connect_s = host, port, connect_s
        self._link: _Link | None = None

    async def open(self, on_bytes: OnBytes, on_lost: OnLost) -> None:
        """See `Transport.open`."""
        await self.close()
        try:
            async with asyncio.timeout(self._connect_s):
                plug = await _connected(self._host, self._port)
        except (OSError, UnicodeError) as error:
            raise LineUnavailable(network_failure(self._host, self._port, error, self._connect_s)) from error
        self._link = link = _Link(self.name, plug, on_bytes, on_lost)
        self.write = link.write  # type: ignore[method-assign]  # one call less for every request

    def write(self, data: bytes) -> None:
        """See `Transport.write`."""
        raise LineLost(say("connection_closed", name=self.name))  # what is open has a `write` of its own

    async def close(self) -> None:
        """See `Transport.close`."""
        link, self._link = self._link, None
        if link is not None:
            link.close()


async def _connected(host: str, port: int) -> socket.socket:
    """A socket connected to the first address of the host that can be; raises the error of the first that cannot."""
    loop = asyncio.get_running_loop()
    first: OSError | None = None
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        plug = socket.socket(family, kind, protocol)
        try:
            plug.setblocking(False)
            plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _ALIVE:
                if hasattr(socket, option):
                    plug.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
            await loop.sock_connect(plug, address)
        except OSError as error:
            plug.close()
            first = first or error
        except BaseException:
            plug.close()
            raise
        else:
            return plug
    raise first or OSError(f"{host} has no address")


class _Link:
    """One connection."""

    __slots__ = ("_loop", "_name", "_on_bytes", "_on_lost", "_plug", "_receive", "_send", "_unsent", "open")

    def __init__(self, name: str, plug: socket.socket, on_bytes: OnBytes, on_lost: OnLost) -> None:
        self._name, self._plug, self._on_bytes, self._on_lost = name, plug, on_bytes, on_lost
        self._send, self._receive = plug.send, plug.recv
        self._unsent = b""
        self.open = True
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(plug, self._readable)

    def write(self, data: bytes) -> None:
        if not self.open:
            raise LineLost(say("connection_closed", name=self._name))
        if self._unsent:
            self._unsent += data
            return
        try:
            sent = self._send(data)
        except BlockingIOError, InterruptedError:
            sent = 0
        except OSError as error:
            # Whoever writes is told at once; the end of the connection follows as if it had been heard of.
            self._loop.call_soon(self._lose, error)
            raise LineLost(lost(self._name, error)) from error
        if sent < len(data):
            self._unsent = data[sent:]
            self._loop.add_writer(self._plug, self._writable)

    def close(self) -> None:
        """Returns when the socket is free; nothing is reported any more."""
        if self.open:
            self.open = False
            self._loop.remove_reader(self._plug)
            if self._unsent:
                self._loop.remove_writer(self._plug)
            self._plug.close()

    def _lose(self, error: OSError | None) -> None:
        if self.open:
            self.close()
            self._on_lost(LineLost(lost(self._name, error)))

    def _readable(self) -> None:
        try:
            data = self._receive(READ_BYTES)
        except BlockingIOError, InterruptedError:
            return
        except OSError as error:
            self._lose(error)
            return
        if data:
            self._on_bytes(data)
        else:
            self._lose(None)

    def _writable(self) -> None:
        try:
            self._unsent = self._unsent[self._send(self._unsent) :]
        except BlockingIOError, InterruptedError:
            return
        except OSError as error:
            self._lose(error)
            return
        if not self._unsent:
            self._loop.remove_writer(self._plug)
