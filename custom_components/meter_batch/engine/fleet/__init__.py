"""Reading all meters of a line: what is due when, validation on arrival, the report of a round."""

from .meter import PollMeter
from .poller import Poller, PollSettings
from .probe import LineTest, try_line
from .report import LineHealth, PollReport, Snapshot
from .validate import Validator

__all__ = [
    "LineHealth",
    "LineTest",
    "PollMeter",
    "PollReport",
    "PollSettings",
    "Poller",
    "Snapshot",
    "Validator",
    "try_line",
]
