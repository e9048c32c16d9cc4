"""Failures of the operating system in words that say what to do."""

from __future__ import annotations

import errno
import socket

from ..sentences import Sentence, say


def network_failure(host: str, port: int, error: Exception, waited_s: float) -> Sentence:
    """Why no connection to a network address came about."""
    where = f"{host}:{port}"
    if isinstance(error, socket.gaierror | UnicodeError):
        return say("host_unknown", host=host)
    if isinstance(error, ConnectionRefusedError):
        return say("nothing_listens", where=where)
    if isinstance(error, TimeoutError):
        return say("connect_timeout", where=where, seconds=f"{waited_s:g}")
    if isinstance(error, OSError):
        if error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN):
            return say("no_route", where=where)
        if error.errno in (errno.EACCES, errno.EPERM):
            return say("connect_forbidden", where=where)
    return say("connect_failed", where=where, reason=_system_words(error))


def port_failure(path: str, error: Exception) -> Sentence:
    """Why a serial port could not be opened."""
    if isinstance(error, FileNotFoundError):
        return say("port_missing", path=path)
    if isinstance(error, PermissionError):
        return say("port_forbidden", path=path)
    if isinstance(error, IsADirectoryError):
        return say("port_is_folder", path=path)
    if isinstance(error, OSError):
        if error.errno in (errno.EBUSY, errno.EAGAIN):
            return say("port_in_use", path=path)
        if error.errno in (errno.ENOTTY, errno.EINVAL):
            return say("port_unfit", path=path)
        if error.errno in (errno.EIO, errno.ENXIO, errno.ENODEV):
            return say("port_dead", path=path)
    return say("port_failed", path=path, reason=_system_words(error))


def lost(name: str, error: Exception | None) -> Sentence:
    """Why a connection that was in use is gone."""
    if error is None:
        return say("lost_closed", name=name)
    if isinstance(error, ConnectionResetError):
        return say("lost_reset", name=name)
    if isinstance(error, TimeoutError):
        return say("lost_dead", name=name)
    return say("lost_broke", name=name, reason=_system_words(error))


def _system_words(error: Exception) -> str:
    """What the operating system says, in its own language."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
