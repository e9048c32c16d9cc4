"""Meter models: what can be read, the fewest requests for it, and what the answers mean."""

from .catalogue import available, load, problems, use_folder
from .decoder import Dlt645Request, ModbusRequest, Request, decode
from .encoder import WordImage, encode, shown
from .identity import Identity, IdentityItem
from .identity_request import IdentityRequest, identity_requests
from .loader import load_file
from .planner import Timing, cost, plan
from .remark import remarks
from .schema import (
    Dlt645Options,
    DltItem,
    Group,
    Limits,
    Memory,
    ModbusOptions,
    ModbusWords,
    Register,
    SerialDefaults,
    Template,
    Virtual,
)

__all__ = [
    "Dlt645Options",
    "Dlt645Request",
    "DltItem",
    "Group",
    "Identity",
    "IdentityItem",
    "IdentityRequest",
    "Limits",
    "Memory",
    "ModbusOptions",
    "ModbusRequest",
    "ModbusWords",
    "Register",
    "Request",
    "SerialDefaults",
    "Template",
    "Timing",
    "Virtual",
    "WordImage",
    "available",
    "cost",
    "decode",
    "encode",
    "identity_requests",
    "load",
    "load_file",
    "plan",
    "problems",
    "remarks",
    "shown",
    "use_folder",
]
