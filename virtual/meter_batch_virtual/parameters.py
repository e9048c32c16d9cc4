"""What can be set in a DL/T 645 meter: parameters, passwords, and what became of attempts to write. Kept in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal

from meter_batch_engine.errors import MeterBatchError
from meter_batch_engine.protocol.dlt645.bcd import encode_moment
from meter_batch_engine.protocol.dlt645.frame import Variant
from meter_batch_engine.protocol.dlt645.item import Value, decode_item, encode_item, find_item
from meter_batch_engine.protocol.dlt645.server import NO_DATA, NO_RIGHT, OTHER

from .load import TARIFFS, tariff_schedule

WRITE, CHANGE_PASSWORD, CLEAR_DEMAND, CLEAR_EVENTS = 0x14, 0x18, 0x19, 0x1B
WRITE_1997 = 0x04
_WEAKEST = {WRITE: 4, CLEAR_DEMAND: 4, CLEAR_EVENTS: 2, WRITE_1997: 4}
"""The weakest level of password that may do it; 0 is the strongest."""
LOCK_AFTER = 3
LOCKED_FOR = timedelta(hours=24)
"""After so many wrong passwords in a row a meter takes none for so long."""
_SPEEDS = {600: 0x02, 1200: 0x04, 2400: 0x08, 4800: 0x10, 9600: 0x20, 19200: 0x40}
_NO_OPERATOR = b"\0" * 4

PROGRAMMING, DEMAND_CLEARED, EVENTS_CLEARED, CLOCK_SET = 0x00, 0x02, 0x03, 0x04
_TABLE_LOGS = {"0401": 0x05, "0402": 0x05, "040008": 0x07, "0403": 0x08}
_SEASONS = 0x06
_WRITABLE = (
    *("04000103", "04000104", "04000105", "04000106", "04000107", "040002", "040003", "04000403"),
    *("040008", "0401", "0402", "0403"),
)
"""Identifiers, by how they begin, that a 2007 meter lets be written; the others follow from what it is."""
_TABLES = ("0401", "0402")
_MOST_ENTRIES = 14
_WRITABLE_1997 = ("C033", "C111", "C112")


@dataclass(frozen=True, slots=True)
class Log:
    """One record of a log (03 30 kk): when it was by the fleet's time, and what stands in it."""

    kind: int
    at: datetime
    content: bytes


class Parameters:
    """The parameters of one meter, as bytes by identifier. `set_clock` obeys a new wall clock."""

    def __init__(
        self,
        variant: Variant,
        held: Mapping[str, bytes],
        password: str,
        set_clock: Callable[[datetime, datetime], None],
    ) -> None:
        self._variant = variant
        self._held = dict(held)
        self._passwords = {level: bytes.fromhex(password)[::-1] for level in (2, 4)}
        self._set_clock = set_clock
        self._wrong = 0
        self._locked_until: datetime | None = None
        self.logs: list[Log] = []
        self.demand_cleared_at: datetime | None = None
        self.events_cleared_at: datetime | None = None

    def get(self, di: str) -> bytes | None:
        """What stands there; None where nothing does."""
        return self._held.get(di)

    def obey(self, function: int, data: bytes, now: datetime, wall: datetime) -> bytes | int | None:
        """The data of the reply to a command, the error byte of a refusal, or None for functions it does not know.

        `now` is the fleet's time, `wall` what the meter's clock shows.
        """
        if function == (WRITE if self._variant == "2007" else WRITE_1997):
            return self._write(data, now, wall)
        if self._variant == "1997":
            return None
        match function:
            case 0x18:
                return self._change_password(data, now)
            case 0x19:
                return self._clear_demand(data, now, wall)
            case 0x1B:
                return self._clear_events(data, now, wall)
        return None

    def _refused(self, password: bytes, weakest: int, now: datetime) -> int:
        """The error byte for a password (level, then three bytes); 0 where it is right."""
        if self._locked_until is not None and now < self._locked_until:
            return NO_RIGHT
        level = password[0]
        if level <= weakest and self._passwords.get(level) == password[1:]:
            self._wrong, self._locked_until = 0, None
            return 0
        self._wrong += 1
        if self._wrong >= LOCK_AFTER:
            self._wrong, self._locked_until = 0, now + LOCKED_FOR
        return NO_RIGHT

    def _write(self, data: bytes, now: datetime, wall: datetime) -> bytes | int:
        size, who = (4, 4) if self._variant == "2007" else (2, 0)
        head = size + 4 + who
        if len(data) <= head:
            return OTHER
        di, value = data[:size][::-1].hex().upper(), data[head:]
        operator = data[size + 4 : head] or _NO_OPERATOR
        if refused := self._refused(data[size : size + 4], _WEAKEST[WRITE], now):
            return refused
        if self._is_clock(di):
            refused = self._write_clock(di, value, operator, now, wall)
        else:
            refused = self._write_item(di, value, operator, now, wall)
        if refused:
            return refused
        self.logs.append(Log(PROGRAMMING, now, encode_moment(wall, 6) + operator + data[:size].ljust(40, b"\xff")))
        return b""

    def _is_clock(self, di: str) -> bool:
        return di in ("04000101", "04000102", "0400010C", "C010", "C011")

    def _write_clock(self, di: str, value: bytes, operator: bytes, now: datetime, wall: datetime) -> int:
        try:
            values = [one.value for one in decode_item(di, value, self._variant)]
        except MeterBatchError:
            return OTHER
        shown = wall
        for one in values:
            match one:
                case time():
                    shown = datetime.combine(shown.date(), one)
                case date():
                    shown = datetime.combine(one, shown.time())
                case _:
                    return OTHER
        self._set_clock(now, shown)
        self.logs.append(Log(CLOCK_SET, now, operator + encode_moment(wall, 6) + encode_moment(shown, 6)))
        return 0

    def _write_item(self, di: str, value: bytes, operator: bytes, now: datetime, wall: datetime) -> int:
        before = self._held.get(di)
        writable = di.startswith(_WRITABLE) if self._variant == "2007" else di in _WRITABLE_1997
        if before is None and not (writable and di[:4] in (*_TABLES, "0403") and find_item(di, self._variant)):
            return NO_DATA
        if not writable:
            return OTHER
        table = di[:4] in _TABLES
        item = find_item(di, self._variant)
        size = len(value) if item is None else item.size
        if (table and (len(value) % size or len(value) > _MOST_ENTRIES * size)) or (
            not table and len(value) != (size if before is None else len(before))
        ):
            return OTHER
        try:
            decode_item(di, value, self._variant)
        except MeterBatchError:
            return OTHER
        self._held[di] = value
        kind = (
            _SEASONS
            if table and di.endswith("00")
            else next((kind for begin, kind in _TABLE_LOGS.items() if di.startswith(begin)), None)
        )
        if kind is not None:
            self.logs.append(Log(kind, now, encode_moment(wall, 6) + operator + (before or b"")))
        return 0

    def _change_password(self, data: bytes, now: datetime) -> bytes | int:
        if len(data) != 12:
            return OTHER
        level = int.from_bytes(data[:4], "little") - 0x04000C01
        if level not in self._passwords:
            return NO_DATA
        if refused := self._refused(data[4:8], level, now):
            return refused
        if data[8] != level or not data[9:].hex().isdecimal():
            return OTHER
        self._passwords[level] = data[9:]
        return data[8:]

    def _clear_demand(self, data: bytes, now: datetime, wall: datetime) -> bytes | int:
        if len(data) != 8:
            return OTHER
        if refused := self._refused(data[:4], _WEAKEST[CLEAR_DEMAND], now):
            return refused
        self.demand_cleared_at = now
        self.logs.append(Log(DEMAND_CLEARED, now, encode_moment(wall, 6) + data[4:]))
        return b""

    def _clear_events(self, data: bytes, now: datetime, wall: datetime) -> bytes | int:
        """All events (FFFFFFFF); single kinds are not cleared alone here. Clearing itself stays in its log."""
        if len(data) != 12 or data[8:] != b"\xff" * 4:
            return OTHER
        if refused := self._refused(data[:4], _WEAKEST[CLEAR_EVENTS], now):
            return refused
        self.events_cleared_at = now
        self.logs = [one for one in self.logs if one.kind in (EVENTS_CLEARED, DEMAND_CLEARED)]
        self.logs.append(Log(EVENTS_CLEARED, now, encode_moment(wall, 6) + data[4:]))
        return b""


_CONSTANT = 6400


def as_delivered(
    variant: Variant, address: str, serial: str, nominal_v: float, load_period: timedelta, baud: int
) -> dict[str, bytes]:
    """The parameters with which a meter comes, by identifier."""
    if variant == "2007":
        values = _as_delivered_2007(address, serial, nominal_v, load_period, baud)
    else:
        values = {
            "C030": [Decimal(_CONSTANT)],
            "C031": [Decimal(_CONSTANT)],
            "C032": [serial],
            "C033": ["0" * 12],
            "C034": [address],
            "C111": [Decimal(15)],
            "C112": [Decimal(15)],
            "C117": ["0100"],
        }
    return {di: encode_item(di, value, variant) for di, value in values.items()}


def _as_delivered_2007(
    address: str, serial: str, nominal_v: float, load_period: timedelta, baud: int
) -> dict[str, Sequence[Value]]:
    load_period_min = Decimal(load_period // timedelta(minutes=1))
    speed = bytes((_SPEEDS.get(baud, 0),))
    schedule = tariff_schedule()
    changes = [slot for slot in range(len(schedule)) if slot == 0 or schedule[slot] != schedule[slot - 1]]
    day: Sequence[Value] = [f"{slot // 4:02d}{slot % 4 * 15:02d}{schedule[slot]:02d}" for slot in changes]
    return {
        "04000103": [Decimal(15)],
        "04000104": [Decimal(15)],
        "04000105": [Decimal(80)],
        "04000201": [Decimal(1)],
        "04000202": [Decimal(1)],
        "04000203": [Decimal(len(changes))],
        "04000204": [Decimal(TARIFFS)],
        "04000205": [Decimal(0)],
        "04000401": [address],
        "04000402": [serial],
        "04000403": [serial],
        "04000404": [f"{nominal_v:.0f}V"],
        "04000405": ["5A"],
        "04000406": ["60A"],
        "04000407": ["1.0"],
        "04000408": ["2.0"],
        "04000409": [Decimal(_CONSTANT)],
        "0400040A": [Decimal(_CONSTANT)],
        "0400040B": ["VIRTUAL"],
        "0400040D": ["DL/T645-2007"],
        "04000601": [("bit0", "bit2")],
        "04000602": [("bit0", "bit2")],
        "04000603": [("bit4", "bit6")],
        "04000701": [_bits(speed)],
        "04000702": [_bits(speed)],
        "04000703": [_bits(speed)],
        "04000801": [_bits(b"\x41")],
        "04000802": [Decimal(1)],
        "04000901": [_bits(b"\x3f")],
        "04000A01": ["01010000"],
        **{f"04000A{one:02X}": [load_period_min] for one in range(2, 8)},
        "04000B01": ["0100"],
        "04000B02": ["9999"],
        "04000B03": ["9999"],
        "04010000": ["010101"],
        "04010001": day,
        "04020000": ["010101"],
        "04020001": day,
    }


def _bits(word: bytes) -> tuple[str, ...]:
    return tuple(f"bit{bit}" for bit in range(8 * len(word)) if word[bit // 8] >> bit % 8 & 1)
