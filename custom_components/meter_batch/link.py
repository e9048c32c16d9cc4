"""Which config entries are lines, and from their data to the engine's line: address, settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant, callback

from .const import (
    ANALYTICS,
    CONF_BAUD,
    CONF_GAP,
    CONF_HOST,
    CONF_KIND,
    CONF_LINK,
    CONF_PARITY,
    CONF_PORT,
    CONF_PREAMBLE,
    CONF_PROTOCOL,
    CONF_SERIAL_PORT,
    CONF_STOP_BITS,
    DOMAIN,
    WIRE_DEFAULTS,
    LineProtocol,
    Link,
)
from .engine import Line, LineSettings, open_transport


@callback
def is_line(entry: ConfigEntry) -> bool:
    """False of the analytics server's entry."""
    return entry.data.get(CONF_KIND) != ANALYTICS


@callback
def lines(hass: HomeAssistant) -> list[ConfigEntry[Any]]:
    """The config entries that are lines, running or not."""
    return [entry for entry in hass.config_entries.async_entries(DOMAIN, include_ignore=False) if is_line(entry)]


def protocol(data: Mapping[str, Any]) -> LineProtocol:
    """What is spoken on the line."""
    return LineProtocol(data[CONF_PROTOCOL])


def url(data: Mapping[str, Any]) -> str:
    """Where the line is, as the engine's transports name it."""
    if data[CONF_LINK] == Link.SERIAL:
        return str(data[CONF_SERIAL_PORT])
    host = str(data[CONF_HOST])
    return f"tcp://[{host}]:{data[CONF_PORT]}" if ":" in host else f"tcp://{host}:{data[CONF_PORT]}"


def unique_id(data: Mapping[str, Any]) -> str:
    """The unique id of a line's config entry: one port or gateway is one line."""
    where = url(data)
    return where.lower() if "://" in where else where


def settings(data: Mapping[str, Any], options: Mapping[str, Any]) -> LineSettings:
    """Speed and framing of the wire, and what its adapters and meters want besides."""
    spoken = protocol(data)
    baud, parity, stop_bits = WIRE_DEFAULTS[spoken]
    return LineSettings(
        baud=int(data.get(CONF_BAUD, baud)),
        parity=str(data.get(CONF_PARITY, parity)),
        stop_bits=int(data.get(CONF_STOP_BITS, stop_bits)),
        framing="tcp" if spoken is LineProtocol.MODBUS_TCP else "rtu",
        gap_s=float(options.get(CONF_GAP, 0)) / 1000,
        preamble=int(options.get(CONF_PREAMBLE, 0)),
    )


def make_line(data: Mapping[str, Any], options: Mapping[str, Any]) -> Line:
    """The line of a config entry, not opened yet."""
    return line_at(data, settings(data, options))


def line_at(data: Mapping[str, Any], wire: LineSettings) -> Line:
    """The same at other settings."""
    return Line(open_transport(url(data), wire.serial), wire)
