"""What can go wrong between a meter and its reader, one class for each answer a caller can give.

Everything the engine raises on purpose is a `MeterBatchError`; anything else is a bug of ours and is let through.
A message names the file, field, line or meter and says what to do. What facility managers may see is a `Sentence`, so
that hosts can translate it once, at their border.
"""

from __future__ import annotations


class MeterBatchError(Exception):
    """Base of all errors the engine raises on purpose."""

    @property
    def text(self) -> str:
        """The message as it was given: a `Sentence`, or for those who write files and programs plain English."""
        return self.args[0] if self.args and isinstance(self.args[0], str) else str(self)


class TemplateError(MeterBatchError):
    """A meter template cannot be used; the message names the file, the table and the key."""


class ConfigError(MeterBatchError):
    """A setting of a line, point or fleet is wrong; the message names it and the values it may have."""


class LineError(MeterBatchError):
    """The medium itself failed, so the round on this line ends."""


class LineUnavailable(LineError):
    """The port or address could not be opened."""


class LineLost(LineError):
    """The connection broke while it was in use."""


class MeterError(MeterBatchError):
    """One meter failed; the round goes on. `raw` holds the bytes that were received, if any."""

    def __init__(self, message: str = "", raw: bytes = b"") -> None:
        super().__init__(message)
        self.raw = raw


class NoReply(MeterError):
    """Nothing that could be a reply came in time."""


class FrameError(MeterError):
    """Bytes came, but no valid frame: checksum, length or structure is wrong."""


class WrongMeter(MeterError):
    """A valid frame came, but from another meter or for another question."""


class Refused(MeterError):
    """The meter answered with an error; `code` is the protocol's own error code."""

    def __init__(self, message: str = "", raw: bytes = b"", code: int | None = None) -> None:
        super().__init__(message, raw)
        self.code = code


class AbsentRegister(Refused):
    """The meter does not have the register that was asked for."""


class AccessDenied(Refused):
    """The meter wants a password, a higher level or its programming button."""


class DecodeError(MeterError):
    """A valid reply holds something that is no value: wrong length, digits that are none."""


class LedgerError(MeterBatchError):
    """The ledger cannot do what was asked: its disk or file fails, or there is no such point, interval or period."""
