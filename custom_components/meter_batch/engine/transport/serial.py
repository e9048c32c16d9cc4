"""Serial ports of this machine and of serial servers (RFC 2217), by serialx."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from ..errors import LineLost, LineUnavailable
from ..sentences import say
from . import OnBytes, OnLost, SerialSettings
from .failure import lost, network_failure, port_failure

if TYPE_CHECKING:
    from serialx import BaseSerialTransport

CONNECT_S = 5.0
_CLOSE_S = 3.0
"""Closing a port may hang in its driver; after this long we go on without it."""


class SerialTransport:
    """A `Transport` over one serial port, opened for us alone (locked) and with low latency where the driver can."""

    def __init__(self, url: str, settings: SerialSettings, *, network: tuple[str, int] | None = None) -> None:
        self.name = url
        self._settings, self._network = settings, network
        self._link: _Link | None = None

    async def open(self, on_bytes: OnBytes, on_lost: OnLost) -> None:
        """See `Transport.open`."""
        import serialx  # not before a serial port is used: it loads a good deal

        await self.close()
        link = _Link(self.name, on_bytes, on_lost)
        settings = self._settings
        try:
            async with asyncio.timeout(CONNECT_S):
                await serialx.create_serial_connection(
                    asyncio.get_running_loop(),
                    lambda: link,
                    self.name,
                    settings.baud,
                    parity=serialx.Parity(_parity(self.name, settings)),
                    stopbits=serialx.StopBits(settings.stop_bits),
                    byte_size=settings.data_bits,
                    transport_cls=_transport_class(self._network is not None),
                )
        except (OSError, UnicodeError, serialx.SerialException) as error:
            if self._network is not None:
                host, port = self._network
                raise LineUnavailable(network_failure(host, port, error, CONNECT_S)) from error
            raise LineUnavailable(port_failure(self.name, error)) from error
        self._link = link

    def write(self, data: bytes) -> None:
        """See `Transport.write`."""
        if self._link is None or self._link.closed.is_set():
            raise LineLost(say("port_closed", name=self.name))
        try:
            self._link.transport.write(data)
        except OSError as error:
            raise LineLost(lost(self.name, error)) from error

    async def close(self) -> None:
        """See `Transport.close`."""
        link, self._link = self._link, None
        if link is not None:
            link.on_lost = None
            link.transport.abort()
            try:
                async with asyncio.timeout(_CLOSE_S):
                    await link.closed.wait()
            except TimeoutError:
                pass


def _transport_class(over_network: bool) -> type[BaseSerialTransport] | None:
    """The class that serialx shall use; None for its own choice."""
    if not over_network:
        return None
    from .rfc2217 import PatientTransport

    return PatientTransport


def _parity(path: str, settings: SerialSettings) -> str:
    """A pseudo terminal has no parity, and its driver refuses the second time to be asked for one."""
    return "N" if os.path.realpath(path).startswith("/dev/pts/") else settings.parity


class _Link(asyncio.Protocol):
    transport: BaseSerialTransport

    def __init__(self, name: str, on_bytes: OnBytes, on_lost: OnLost) -> None:
        self.name = name
        self.data_received = on_bytes  # type: ignore[method-assign,assignment]  # one call less for every chunk
        self.on_lost: OnLost | None = on_lost
        self.closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()
        if self.on_lost is not None:
            self.on_lost(LineLost(lost(self.name, exc)))
