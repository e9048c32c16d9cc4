"""Meter Batch without a host: protocols, lines, meter models, polling.

The front door: what a host needs, by name. Nothing here opens anything or imports pymodbus, serialx or a host.
"""

from .errors import (
    AbsentRegister,
    AccessDenied,
    ConfigError,
    DecodeError,
    FrameError,
    LedgerError,
    LineError,
    LineLost,
    LineUnavailable,
    MeterBatchError,
    MeterError,
    NoReply,
    Refused,
    TemplateError,
    WrongMeter,
)
from .fleet import LineHealth, LineTest, Poller, PollMeter, PollReport, PollSettings, Snapshot, Validator, try_line
from .line import Line, LineCounters, LineSettings, Reply
from .model.point import InstalledMeter, Multiplier, Point, Route
from .model.quantity import BY_KEY, QUANTITIES, Quantity
from .model.reading import Flag, Reading
from .sentences import Sentence
from .template import Template, available, load, load_file
from .transport import SerialSettings, Transport, open_transport

__all__ = [
    "BY_KEY",
    "QUANTITIES",
    "AbsentRegister",
    "AccessDenied",
    "ConfigError",
    "DecodeError",
    "Flag",
    "FrameError",
    "InstalledMeter",
    "LedgerError",
    "Line",
    "LineCounters",
    "LineError",
    "LineHealth",
    "LineLost",
    "LineSettings",
    "LineTest",
    "LineUnavailable",
    "MeterBatchError",
    "MeterError",
    "Multiplier",
    "NoReply",
    "Point",
    "PollMeter",
    "PollReport",
    "PollSettings",
    "Poller",
    "Quantity",
    "Reading",
    "Refused",
    "Reply",
    "Route",
    "Sentence",
    "SerialSettings",
    "Snapshot",
    "Template",
    "TemplateError",
    "Transport",
    "Validator",
    "WrongMeter",
    "available",
    "load",
    "load_file",
    "open_transport",
    "try_line",
]
