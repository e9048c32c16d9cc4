"""A session with real meters as a file: what passed on the wire, that it can be read again, served again, passed on."""

from .again import differences, readings_of
from .answers import Answers
from .file import RecordedMeter, Recording, as_dict, dump, parse, record
from .redact import redact

__all__ = [
    "Answers",
    "RecordedMeter",
    "Recording",
    "as_dict",
    "differences",
    "dump",
    "parse",
    "readings_of",
    "record",
    "redact",
]
