"""Failures of the operating system in words that say what to do."""

from __future__ import annotations

import errno
import socket


def network_failure(host: str, port: int, error: Exception, waited_s: float) -> str:
    """Why no connection to a network address came about."""
    where = f"{host}:{port}"
    if isinstance(error, socket.gaierror | UnicodeError):
        return f'The host name "{host}" is not known: check the spelling, or give the IP address.'
    if isinstance(error, ConnectionRefusedError):
        return (
            f"Nothing listens at {where}: is the port right, and is the gateway set up as TCP server? "
            "Many gateways also refuse a second program while one is connected."
        )
    if isinstance(error, TimeoutError):
        return f"No answer from {where} within {waited_s:g} s: is the device on, and is its address right?"
    if isinstance(error, OSError):
        if error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN):
            return f"There is no way to {where} in the network: check address, cable and network settings."
        if error.errno in (errno.EACCES, errno.EPERM):
            return f"The system does not allow a connection to {where}: check firewall and permissions."
        return f"No connection to {where}: {error.strerror or error}."
    return f"No connection to {where}: {error}."


def port_failure(path: str, error: Exception) -> str:
    """Why a serial port could not be opened."""
    if isinstance(error, FileNotFoundError):
        return f"There is no port {path}: is the adapter plugged in, and is the name right?"
    if isinstance(error, PermissionError):
        return f"No permission to use {path}: the user of this program must be in the port's group, often dialout."
    if isinstance(error, IsADirectoryError):
        return f"{path} is a folder, not a serial port."
    if isinstance(error, OSError):
        if error.errno in (errno.EBUSY, errno.EAGAIN):
            return f"{path} is in use by another program: close that one, or give each its own adapter."
        if error.errno in (errno.ENOTTY, errno.EINVAL):
            return f"{path} is not a serial port, or it cannot do these settings (baud, parity, bits)."
        if error.errno in (errno.EIO, errno.ENXIO, errno.ENODEV):
            return f"The device behind {path} does not answer the system: unplug it and plug it in again."
        return f"{path} could not be opened: {error.strerror or error}."
    return f"{path} could not be opened: {error}."


def lost(name: str, error: Exception | None) -> str:
    """Why a connection that was in use is gone."""
    if error is None:
        return f"{name} closed the connection."
    if isinstance(error, ConnectionResetError):
        return f"{name} broke off the connection: it restarted, or another program took it over."
    if isinstance(error, TimeoutError):
        return f"{name} is no longer there: no sign of life from the device or the network."
    detail = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"The connection to {name} broke: {detail or type(error).__name__}."
