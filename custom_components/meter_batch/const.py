"""Names that the parts of the integration share: keys of config entries, choices, defaults."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Final

from homeassistant.const import Platform

DOMAIN: Final = "meter_batch"
MANUFACTURER: Final = "Meter Batch"
PLATFORMS: Final = [Platform.BINARY_SENSOR, Platform.EVENT, Platform.SENSOR]

CONF_KIND: Final = "kind"
ANALYTICS: Final = "analytics"
"""A config entry is a line, or, with this kind and unique id, the analytics server."""

# The keys of a line's data …
CONF_LINK: Final = "link"
CONF_HOST: Final = "host"
CONF_PORT: Final = "port"
CONF_SERIAL_PORT: Final = "serial_port"  # a key under which Home Assistant looks for who uses which port
CONF_PROTOCOL: Final = "protocol"
CONF_BAUD: Final = "baud"
CONF_PARITY: Final = "parity"
CONF_STOP_BITS: Final = "stop_bits"
# … and of its options.
CONF_FAST: Final = "fast_s"
CONF_SLOW: Final = "slow_s"
CONF_INTERVAL: Final = "interval_min"
CONF_DETAIL: Final = "detail"
CONF_ENTITY_STATISTICS: Final = "entity_statistics"
CONF_BILLING_DAY: Final = "billing_day"
CONF_BILLING_HOUR: Final = "billing_hour"
CONF_BACKFILL: Final = "backfill"
CONF_BACKFILL_SHARE: Final = "backfill_percent"
CONF_CLOCK_CARE: Final = "clock_care"
CONF_GAP: Final = "gap_ms"
CONF_PREAMBLE: Final = "preamble"
CONF_OWN_PROCESS: Final = "own_process"

DEFAULT_FAST_S: Final = 10
DEFAULT_SLOW_S: Final = 300
DEFAULT_INTERVAL_MIN: Final = 15
DEFAULT_BACKFILL_SHARE: Final = 20
NO_WIRE_BACKFILL_SHARE: Final = 80
"""The default where there is no wire to share."""
"""Percent of a line's time that reading from meters' memories may take."""
DEFAULT_OWN_PROCESS: Final = False
"""Whether lines are polled in a process of their own unless the user says so: see docs/adr/0017."""
INTERVALS_MIN: Final = (1, 5, 10, 15, 30, 60)
STANDARD_UP_TO: Final = 100
"""With more points than this a point has few entities unless it, or its line, says otherwise."""


LEDGER_KEPT: Final = timedelta(days=20 * 366)
LEDGER_BYTES: Final = 20_000_000_000
"""Beyond this age and size the ledger drops its oldest days, once a day, whether an archive has them or not."""
LEDGER_PRUNED: Final = timedelta(days=400)
"""Beyond this age the ledger forgets, once a day, what the archive and every other subscriber have."""
ARCHIVE: Final = "archive"
"""Under this name the archive subscribes to the ledger. Without it nothing is forgotten for its age alone."""
STATISTICS: Final = "statistics"
"""Under this name the hourly statistics subscribe to the ledger; whoever else does keeps what the ledger forgets."""


class Link(StrEnum):
    """How a line is reached."""

    TCP = "tcp"
    SERIAL = "serial"


class LineProtocol(StrEnum):
    """What is spoken on a line, and for Modbus how it is framed."""

    MODBUS_TCP = "modbus-tcp"
    MODBUS_RTU = "modbus-rtu"
    DLT645_2007 = "dlt645-2007"
    DLT645_1997 = "dlt645-1997"
    MIXED = "mixed"

    @property
    def on_a_wire(self) -> bool:
        """True where baud and parity matter, because the bytes travel on RS-485 in the end."""
        return self is not LineProtocol.MODBUS_TCP

    @property
    def backfill_percent(self) -> int:
        """The share of the line's time that back-fill may take unless the user says otherwise."""
        return DEFAULT_BACKFILL_SHARE if self.on_a_wire else NO_WIRE_BACKFILL_SHARE

    @property
    def has_dlt645(self) -> bool:
        """True where DL/T 645 meters may be on the line."""
        return self is LineProtocol.MIXED or self.value.startswith("dlt645")

    @property
    def label(self) -> str:
        """How it is called on the device page; a name, the same in every language."""
        return _LABELS[self]

    def speaks(self, protocol: str) -> bool:
        """True where a meter of this protocol (one of the engine's `PROTOCOLS`) can be on the line."""
        if self is LineProtocol.MIXED:
            return True
        return protocol == "modbus" if self.value.startswith("modbus") else protocol == self.value


_LABELS = {
    LineProtocol.MODBUS_TCP: "Modbus TCP",
    LineProtocol.MODBUS_RTU: "Modbus RTU",
    LineProtocol.DLT645_2007: "DL/T 645-2007",
    LineProtocol.DLT645_1997: "DL/T 645-1997",
    LineProtocol.MIXED: "Modbus RTU + DL/T 645",
}

WIRE_DEFAULTS: Final[dict[LineProtocol, tuple[int, str, int]]] = {
    LineProtocol.MODBUS_TCP: (9600, "N", 1),
    LineProtocol.MODBUS_RTU: (9600, "N", 1),
    LineProtocol.DLT645_2007: (2400, "E", 1),
    LineProtocol.DLT645_1997: (1200, "E", 1),
    LineProtocol.MIXED: (2400, "E", 1),
}
"""Baud, parity and stop bits a meter of each protocol usually leaves the factory with."""


class Detail(StrEnum):
    """How many entities a point has."""

    LEAN = "lean"
    STANDARD = "standard"
    FULL = "full"


DETAIL_AUTO: Final = "auto"

ATTRIBUTES: Final = (
    "tariff",
    "contract_kw",
    "contract_kva",
    "transformer_kva",
    "floor_area_m2",
    "occupancy",
    "production_unit",
    "nominal_v",
    "rated_kw",
    "daily_budget_kwh",
    "generation",
)
"""What a point may carry for alarms and analysis; columns of the import file."""
NUMBERS: Final = frozenset(
    {
        "contract_kw",
        "contract_kva",
        "transformer_kva",
        "floor_area_m2",
        "nominal_v",
        "rated_kw",
        "daily_budget_kwh",
    }
)
"""Those of them that are numbers above zero."""
NO: Final = frozenset({"", "no", "false", "0", "否", "无"})
"""What is no of those that are yes or no."""
