"""TCP client: Modbus TCP devices, gateways and serial servers that pass bytes on."""

from __future__ import annotations

import asyncio
import socket

from ..errors import LineLost, LineUnavailable
from ..sentences import say
from . import OnBytes, OnLost
from .failure import lost, network_failure

CONNECT_S = 5.0
READ_BYTES = 4096
"""How much is taken from the system at once: more than any reply."""
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
        link = _Link(self.name, on_bytes, on_lost)
        try:
            async with asyncio.timeout(self._connect_s):
                await asyncio.get_running_loop().create_connection(  # type: ignore[call-overload]
                    lambda: link, self._host, self._port, all_errors=True
                )
        except (OSError, ExceptionGroup, UnicodeError) as error:
            # One error for each address of the host: the first tells the story. A time-out is an OSError too.
            first = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
            raise LineUnavailable(network_failure(self._host, self._port, first, self._connect_s)) from error
        self._link = link

    def write(self, data: bytes) -> None:
        """See `Transport.write`."""
        link = self._link
        if link is None or link.transport.is_closing():
            raise LineLost(say("connection_closed", name=self.name))
        link.transport.write(data)

    async def close(self) -> None:
        """See `Transport.close`."""
        link, self._link = self._link, None
        if link is not None:
            link.on_lost = None
            link.transport.abort()
            await link.closed.wait()


class _Link(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, name: str, on_bytes: OnBytes, on_lost: OnLost) -> None:
        self.name = name
        self.data_received = on_bytes  # type: ignore[method-assign,assignment]  # one call less for every chunk
        self.on_lost: OnLost | None = on_lost
        self.closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if hasattr(transport, "max_size"):
            # asyncio's own transports make room for 256 KiB with each read, which costs more than to read a reply.
            transport.max_size = READ_BYTES
        plug: socket.socket = transport.get_extra_info("socket")
        plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _ALIVE:
            if hasattr(socket, option):
                plug.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()
        if self.on_lost is not None:
            self.on_lost(LineLost(lost(self.name, exc)))
