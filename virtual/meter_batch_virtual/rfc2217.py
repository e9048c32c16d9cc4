"""A serial server of RFC 2217: the master sets the port's speed and format through the connection itself."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from serial import rfc2217

from .endpoint import Connection, OnBytes, TcpEndpoint
from .uart import Setting

_CONFIRMED = {
    rfc2217.SET_LINESTATE_MASK: rfc2217.SERVER_SET_LINESTATE_MASK,
    rfc2217.SET_MODEMSTATE_MASK: rfc2217.SERVER_SET_MODEMSTATE_MASK,
}


class _Manager(rfc2217.PortManager):
    """Confirms the masks as well: RFC 2217 wants it, masters wait for it, and pyserial leaves it out."""

    def _telnet_process_subnegotiation(self, suboption: bytes) -> None:
        super()._telnet_process_subnegotiation(suboption)  # type: ignore[misc]  # private, so not in the stubs
        if suboption[:1] == rfc2217.COM_PORT_OPTION and (confirm := _CONFIRMED.get(suboption[1:2])):
            self.rfc2217_send_subnegotiation(confirm, suboption[2:3])


class _Port:
    """What a master may set at the serial server's port, under the names that pyserial's manager uses."""

    def __init__(self, setting: Setting) -> None:
        self.baudrate = setting.baud
        self.bytesize = 8
        self.parity = setting.parity
        self.stopbits = setting.stop_bits
        self.xonxoff = self.rtscts = self.break_condition = False
        self.dtr = self.rts = self.cts = self.dsr = self.cd = True
        self.ri = False

    def reset_input_buffer(self) -> None:
        """Nothing is kept."""

    def reset_output_buffer(self) -> None:
        """Nothing is kept."""


class Rfc2217Endpoint(TcpEndpoint):
    """See `Endpoint`. Here a master's speed and parity are known."""

    def __init__(self, host: str, port: int, setting: Setting) -> None:
        super().__init__(host, port, "rfc2217")
        self._setting = setting

    def _connection(self) -> Connection:
        return _Telnet(self, self._setting, self._on_bytes)


class _Telnet(Connection):
    """A connection that escapes what goes out, obeys and takes out what is not meant for the wire."""

    def __init__(self, endpoint: TcpEndpoint, setting: Setting, on_bytes: OnBytes) -> None:
        super().__init__(endpoint, on_bytes)
        self._port = _Port(setting)
        self._manager: _Manager | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        # The manager needs no more of port and connection than what these have.
        self._manager = _Manager(cast("Any", self._port), cast("Any", transport))

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        assert self._manager is not None
        plain = b"".join(self._manager.filter(data))
        self.port = Setting(self._port.baudrate, self._port.parity, int(self._port.stopbits))
        if plain:
            super().data_received(plain)

    def write(self, data: bytes) -> None:
        """See `Peer.write`."""
        if self._manager is not None:
            super().write(b"".join(self._manager.escape(data)))
