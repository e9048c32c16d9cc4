"""What a frame says, as plain fields for people and programs: `meter-batch decode`, traces.

Passwords are shown, because a frame is decoded to be read: never log what is given here.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from ...errors import DecodeError
from .exchange import READ, READ_NEXT, error_flags
from .frame import Frame, Framer, Variant
from .item import ItemValue, block_members, decode_item, find_item
from .load_record import CLASSES, LoadRecord, decode_records, decode_request

type Fields = dict[str, Any]

SPEEDS = {0x02: 600, 0x04: 1200, 0x08: 2400, 0x10: 4800, 0x20: 9600, 0x40: 19200}
"""Bits of a speed word, Bd."""

_COMMANDS = {
    0x1A: "trip",
    0x1B: "allow_close",
    0x1C: "close",
    0x2A: "alarm",
    0x2B: "alarm_off",
    0x3A: "keep_power",
    0x3B: "keep_power_off",
}
_CLEARS = {0x19: "demand", 0x1A: "meter", 0x1B: "events"}
_LOAD_NAMES = {2: ("P_total_abc", "Q_total_abc"), 3: ("PF_total_abc",), 4: ("energies",), 5: ("quadrants",)}


class Describer:
    """Describes frames in the order in which they were heard, so that long answers can be put together.

    `joined` is the whole answer, given with its last frame where all its frames came by; values are those of the whole.
    """

    def __init__(self, variant: Variant) -> None:
        self._variant: Variant = variant
        self._parts: dict[tuple[str, bytes], list[bytes]] = {}

    def describe(self, data: bytes) -> list[Fields]:
        """One dict for each valid frame in `data`; empty where there is none."""
        return [self.describe_frame(frame) for frame in Framer().feed(data)]

    def describe_frame(self, frame: Frame) -> Fields:
        """The fields of one frame; units as written beside the values, times are the meter's own."""
        fields: Fields = {
            "address": frame.address.lower(),
            "control": f"{frame.control:02X}",
            "length": len(frame.data),
            "data": frame.data.hex(),
        }
        if frame.is_error:
            return fields | self._error(frame)
        if frame.is_reply:
            if "AA" in frame.address:
                fields["address_echo"] = "wildcard"
            return fields | self._reply(frame)
        return fields | self._request(frame)

    def _error(self, frame: Frame) -> Fields:
        if not frame.data:
            return {}
        code = frame.data[0]
        return {"error_byte": code, "error": code, "bits": error_flags(code, self._variant)}

    # --- replies ---

    def _reply(self, frame: Frame) -> Fields:
        variant, data = self._variant, frame.data
        if frame.function == 0:
            return {"meaning": "heart-beat of a DTU/concentrator in 645 dress"}
        if frame.function in (READ[variant], READ_NEXT[variant]):
            return self._data(frame)
        if not data:
            return {"ack": True}
        if variant == "2007":
            match frame.function:
                case 0x13 if len(data) == 6:
                    return {"address": data[::-1].hex()}
                case 0x17:
                    return {"baud": SPEEDS.get(data[0])}
                case 0x18:
                    return {"new": data.hex()}
        return {}

    def _data(self, frame: Frame) -> Fields:
        variant = self._variant
        size = 4 if variant == "2007" else 2
        wire, part = frame.data[:size], frame.data[size:]
        if len(wire) < size:
            return {"meaning": "a reply too short for an identifier"}
        di = wire[::-1].hex()
        fields: Fields = {"di": di, "more": frame.more}
        key = (frame.address, wire)
        follows = frame.function == READ_NEXT[variant]
        if follows and variant == "2007":
            fields["seq"], part = (part[-1] if part else None), part[:-1]
        fields["raw"] = part.hex()
        if not follows:
            self._parts = {key: [part]} if frame.more else {}
        elif key in self._parts:
            parts = self._parts[key]
            if variant == "2007" and fields["seq"] != len(parts):
                parts = (
                    parts[:-1] if fields["seq"] == len(parts) - 1 else []
                )  # a frame repeated, or one that is missing
            self._parts = {key: [*parts, part]} if parts else {}
        if frame.more:
            return fields
        if follows:
            if key not in self._parts:
                return fields
            part = b"".join(self._parts.pop(key))
            fields["joined"] = part.hex()
        return fields | describe_item(di, part, variant)

    # --- requests ---

    def _request(self, frame: Frame) -> Fields:
        variant, function, data = self._variant, frame.control, frame.data
        size = 4 if variant == "2007" else 2
        di = {"di": data[:size][::-1].hex()} if len(data) >= size else {}
        rest = data[size:]
        if function == READ[variant]:
            return di | (self._load_request(data) if rest else {})
        if function == READ_NEXT[variant]:
            return di | ({"seq": rest[0]} if len(rest) == 1 else {})
        if function == 0x08 and len(data) == 6:
            return {"datetime": _stamp(data)}
        if variant == "1997":
            return self._command_1997(function, di, rest, data)
        match function:
            case 0x14 if len(rest) >= 8:
                return di | _signed_on(rest) | {"raw": rest[8:].hex()}
            case 0x14:
                return di
            case 0x15 if len(data) == 6:
                return {"new_address": data[::-1].hex()}
            case 0x16 if len(data) == 4:
                return {"freeze": _freeze(data)}
            case 0x17 if data:
                return {"baud": SPEEDS.get(data[0])}
            case 0x18 if len(data) == 12:
                return di | {"old": data[4:8].hex(), "new": data[8:].hex()}
            case 0x19 | 0x1A | 0x1B if len(data) >= 8:
                what = _CLEARS[function]
                if function == 0x1B:
                    what = "all events" if data[8:] == b"\xff" * 4 else data[8:][::-1].hex()
                return {"clear": what} | _signed_on(data)
            case 0x1C if len(data) == 16:
                command = {
                    "control_cmd": _COMMANDS.get(data[8], "unknown"),
                    "n1": f"{data[8]:02X}",
                    "n2": f"{data[9]:02X}",
                }
                return command | _signed_on(data) | {"valid_until": _stamp(data[10:])}
        return {}

    def _load_request(self, data: bytes) -> Fields:
        request = decode_request(data[3::-1].hex().upper(), data[4:]) if self._variant == "2007" else None
        if request is None:
            return {}
        fields: Fields = {"blocks": request.count}
        if request.at is not None:
            fields["from"] = f"{request.at:%y%m%d%H%M}"
        return fields

    def _command_1997(self, function: int, di: Fields, rest: bytes, data: bytes) -> Fields:
        match function:
            case 0x04 if len(rest) >= 4:
                return di | _password(rest) | {"raw": rest[4:].hex()}
            case 0x0A if len(data) == 6:
                return {"new_address": data[::-1].hex()}
            case 0x0F if len(data) == 8:
                return {"old": data[:4].hex(), "new": data[4:].hex()}
            case 0x10:
                return {"clear": "demand"}
        return {}


def describe(data: bytes, variant: Variant) -> list[Fields]:
    """The frames in some bytes, each as plain fields named as in `Describer`; empty where there is no valid frame."""
    return Describer(variant).describe(data)


def describe_item(di: str, data: bytes, variant: Variant) -> Fields:
    """The values behind an identifier as plain fields; `invalid_bcd` or `unexpected_length` where they are none."""
    di = di.upper()
    if variant == "2007" and di.startswith("06"):
        return _load_records(data)
    item = find_item(di, variant)
    if item is None:
        return {}
    fields: Fields = {"name": item.name}
    many = item.repeat or bool(block_members(di, variant))
    try:
        values = decode_item(di, data, variant)
    except DecodeError:
        fits = len(data) % item.size == 0 if many else len(data) == item.size
        return fields | ({"invalid_bcd": True} if fits or not item.size else {"unexpected_length": len(data)})
    if item.fields[-1].kind == "moment" and len(item.fields) == 2:
        return fields | _demands(values, item.unit, many)
    if many or (len(values) > 1 and item.fields[0].kind == "number"):
        plain = [_plain(one.value) for one in values]
        return fields | {"values": plain} | ({"unit": item.unit} if item.fields[0].kind == "number" else {})
    for one in values:
        fields |= _single(one, data)
    return fields


def _demands(values: Sequence[ItemValue], unit: str, many: bool) -> Fields:
    if not values:
        return {"demands": [], "unit": unit}
    first: Fields = {
        "demand": _plain(values[0].value),
        "unit": unit,
        "datetime": f"{values[0].at:%Y-%m-%d %H:%M}" if values[0].at else None,
    }
    if not many:
        return first
    every = [{"value": _plain(one.value), "datetime": f"{one.at:%Y-%m-%d %H:%M}" if one.at else None} for one in values]
    return first | {"demands": every}


def _single(one: ItemValue, data: bytes) -> Fields:
    match one.value:
        case None:
            return {"value": None, "unit": one.unit}
        case Decimal():
            return {"value": _plain(one.value), "unit": one.unit}
        case datetime():
            return {"datetime": f"{one.value:%Y-%m-%d %H:%M}" + (f":{one.value:%S}" if len(data) >= 6 else "")}
        case date():
            return {"date": one.value.isoformat(), "weekday": data[0]}
        case time():
            return {"time": one.value.isoformat()}
        case tuple():
            size = len(data)
            return {"bits": list(one.value), "word": data[::-1].hex() if size <= 2 else data.hex()}
        case str() if one.value.isdecimal():
            return {"digits": one.value}
        case str():
            return {"text": one.value}
        case _:
            return {}


def _plain(value: object) -> object:
    """A value as JSON has it: whole numbers as int, decimals as float, the rest as text."""
    match value:
        case Decimal():
            return float(value) if value.as_tuple().exponent else int(value)
        case None | int() | float() | str():
            return value
        case tuple():
            return list(value)
        case bytes():
            return value.hex()
        case date() | time():
            return value.isoformat()
        case _:
            return str(value)


def _load_records(data: bytes) -> Fields:
    try:
        records = [_load_record(one) for one in decode_records(data)]
    except DecodeError as error:
        return {"problem": str(error)}
    if not records:
        return {}
    return {"load_record": records[0]} | ({"load_records": records} if len(records) > 1 else {})


def _load_record(record: LoadRecord) -> Fields:
    fields: Fields = {
        "time": f"{record.at:%y%m%d%H%M}",
        "bad": record.bad,
        "empty_classes": [number for number in CLASSES if number not in record.classes],
    }
    for number, values in record.classes.items():
        plain = [_plain(value) for value in values]
        match number:
            case 1:
                fields |= {"U": plain[:3], "I": plain[3:6], "f": plain[6]}
            case 6:
                fields |= {"demand": plain[0], "reactive_demand": plain[1]}
            case _:
                for place, name in enumerate(_LOAD_NAMES[number]):
                    fields[name] = plain[4 * place : 4 * place + 4]
    return fields


def _password(data: bytes) -> Fields:
    return {"pa": data[0], "password": data[1:4][::-1].hex()}


def _signed_on(data: bytes) -> Fields:
    return _password(data) | {"operator": data[4:8][::-1].hex()}


def _stamp(data: bytes) -> str:
    """ss mm hh DD MM YY as text; kept as digits, because requests may hold times that are none."""
    text = data[::-1].hex()
    return f"20{text[:2]}-{text[2:4]}-{text[4:6]} {text[6:8]}:{text[8:10]}:{text[10:12]}"


def _freeze(data: bytes) -> str:
    minute, hour, day, month = (f"{value:02x}" for value in data)
    if data == b"\x99" * 4:
        return "now"
    if month != "99":
        return f"at {hour}:{minute} on {month}-{day}"
    if day != "99":
        return f"monthly on day {day} at {hour}:{minute}"
    return f"daily at {hour}:{minute}" if hour != "99" else f"hourly at minute {minute}"
