"""The only sockets and serial ports of the engine: bytes out, bytes in, and plain words when that fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from ..errors import ConfigError, LineLost
from ..sentences import say

type OnBytes = Callable[[bytes], None]
type OnLost = Callable[[LineLost], None]

PARITIES = ("N", "E", "O")


@dataclass(frozen=True, slots=True)
class SerialSettings:
    """How the characters look on the wire; `baud` in bits a second."""

    baud: int = 9600
    parity: str = "N"
    stop_bits: int = 1
    data_bits: int = 8

    def __post_init__(self) -> None:
        if not 50 <= self.baud <= 4_000_000:
            raise ConfigError(f"baud is {self.baud}; it may be 50 to 4000000, usually 2400, 9600 or 19200")
        if self.parity not in PARITIES:
            raise ConfigError(f'parity is "{self.parity}"; it may be N (none), E (even) or O (odd)')
        if self.stop_bits not in (1, 2):
            raise ConfigError(f"stop_bits is {self.stop_bits}; it may be 1 or 2")
        if self.data_bits not in (7, 8):
            raise ConfigError(f"data_bits is {self.data_bits}; it may be 8, or 7 for very old meters")


class Transport(Protocol):
    """A way for bytes to and from a line. One object may be opened and closed many times."""

    name: str
    """For messages: "/dev/ttyUSB0", "10.0.0.5:502"."""

    async def open(self, on_bytes: OnBytes, on_lost: OnLost) -> None:
        """Opens; from then on calls `on_bytes` with what comes and `on_lost` once if the connection breaks.

        Raises LineUnavailable, in words a facility manager understands.
        """

    def write(self, data: bytes) -> None:
        """Hands the bytes over for sending without waiting; raises LineLost where the connection is gone."""

    async def close(self) -> None:
        """Closes; returns when port or socket are free again. Does nothing where it is not open."""


def open_transport(url: str, serial: SerialSettings | None = None) -> Transport:
    """The transport for an address: `tcp://host:port`, `rfc2217://host:port` or a serial port such as `/dev/ttyUSB0`.

    Nothing is opened yet. Raises ConfigError where the address is none.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        if not url.strip():
            raise ConfigError("the address of the line is empty; give a serial port or tcp://host:port")
        from .serial import SerialTransport

        return SerialTransport(url, serial or SerialSettings())
    if scheme not in ("tcp", "rfc2217"):
        raise ConfigError(say("line_scheme_bad", url=url, scheme=scheme))
    host, port = _host_and_port(url, rest)
    if scheme == "tcp":
        from .tcp import TcpTransport

        return TcpTransport(host, port)
    from .serial import SerialTransport

    return SerialTransport(url, serial or SerialSettings(), network=(host, port))


def _host_and_port(url: str, rest: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{rest}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port or parts.path.strip("/"):
        raise ConfigError(say("line_address_bad", url=url))
    return host, port
