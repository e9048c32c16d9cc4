"""Reading all meters of a line: what is due when, validation on arrival, the report of a round."""

from ..model.interval import Hole
from .airtime import AirtimeShares
from .backfill import BackfillHealth
from .clock import ClockReading
from .diagnose import Diagnosis
from .examine import Examined, examine
from .identity_watch import IdentityReading
from .instep import InStep
from .lessons import Lessons
from .memory import MemoryRecord, Snapshot
from .meter import PollMeter
from .once import Found, ItemData, find_address, read_items, read_once
from .poller import Poller
from .probe import LineTest, try_line
from .remote import PollProcess, RemotePoller
from .report import LineHealth, PollReport
from .request import check_address
from .scan import Candidate, ScannedMeter, ScanPlan, ScanProgress, ScanResult, scan
from .schedule import PollSettings
from .validate import Validator
from .wire_poll import LinePlan

__all__ = [
    "AirtimeShares",
    "BackfillHealth",
    "Candidate",
    "ClockReading",
    "Diagnosis",
    "Examined",
    "Found",
    "Hole",
    "IdentityReading",
    "InStep",
    "ItemData",
    "Lessons",
    "LineHealth",
    "LinePlan",
    "LineTest",
    "MemoryRecord",
    "PollMeter",
    "PollProcess",
    "PollReport",
    "PollSettings",
    "Poller",
    "RemotePoller",
    "ScanPlan",
    "ScanProgress",
    "ScanResult",
    "ScannedMeter",
    "Snapshot",
    "Validator",
    "check_address",
    "examine",
    "find_address",
    "read_items",
    "read_once",
    "scan",
    "try_line",
]
