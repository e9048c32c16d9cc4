"""Load records (identifiers 06): what a meter stored at each interval, in six classes.

A record is A0 A0, length, mm hh DD MM YY, six classes each closed by AA, checksum, E5; E0 E0 in front marks a bad one.
A class that is not recorded is only its AA, so classes are told apart by their lengths: AA may occur as data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Literal

from ...errors import ConfigError, DecodeError
from .bcd import decode_moment, decode_number, digits, encode_moment, encode_number

GOOD, BAD = b"\xa0\xa0", b"\xe0\xe0"
_CLOSE, _END = 0xAA, 0xE5

type _Column = tuple[str, int, int, bool]
"""Name, bytes, decimals, signed."""


def _phases(name: str, size: int, decimals: int, signed: bool, total: bool) -> tuple[_Column, ...]:
    return tuple((name + tail, size, decimals, signed) for tail in ("",) * total + ("_l1", "_l2", "_l3"))


CLASSES: dict[int, tuple[_Column, ...]] = {
    1: (*_phases("voltage", 2, 1, False, False), *_phases("current", 3, 3, True, False), ("frequency", 2, 2, False)),
    2: (*_phases("active_power", 3, 4, True, True), *_phases("reactive_power", 3, 4, True, True)),
    3: _phases("power_factor", 2, 3, True, True),
    4: (
        ("energy_import", 4, 2, False),
        ("energy_export", 4, 2, False),
        ("reactive_energy_1", 4, 2, True),
        ("reactive_energy_2", 4, 2, True),
    ),
    5: tuple((f"reactive_energy_q{quadrant}", 4, 2, False) for quadrant in (1, 2, 3, 4)),
    6: (("demand", 3, 4, True), ("reactive_demand", 3, 4, True)),
}
"""The columns of each class, in the order of the wire; V, A, Hz, kW, kvar, kWh, kvarh."""

_SIZE = {number: sum(size for _, size, _, _ in columns) for number, columns in CLASSES.items()}
_WHICH: tuple[Literal["earliest"], Literal["at"], Literal["newest"]] = ("earliest", "at", "newest")


@dataclass(frozen=True, slots=True)
class LoadRecord:
    """One stored record: the values of each class that was recorded, in the order of `CLASSES`; None for FF..FF."""

    at: datetime
    """The meter's wall clock, to the minute."""
    classes: Mapping[int, tuple[Decimal | None, ...]] = field(default_factory=dict)
    bad: bool = False
    """The meter itself marked the record as damaged."""

    def value(self, name: str) -> Decimal | None:
        """One column by its name, None where it was not recorded."""
        for number, values in self.classes.items():
            for column, value in zip(CLASSES[number], values, strict=True):
                if column[0] == name:
                    return value
        return None


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """Which records a reader wants: `kind` is a class 1 to 6, or 0 for all of them."""

    kind: int
    which: Literal["earliest", "at", "newest"]
    count: int = 1
    at: datetime | None = None

    @property
    def di(self) -> str:
        """The identifier to read; `count` and `at` go into `ReadData` beside it."""
        return f"06{self.kind:02X}00{_WHICH.index(self.which):02X}"


def decode_request(di: str, extra: bytes) -> LoadRequest | None:
    """What a read of `di` with `extra` behind the identifier asks for; None where it asks for nothing that exists."""
    kind, middle, which = (int(di[at : at + 2], 16) for at in (2, 4, 6))
    if (
        not di.startswith("06")
        or kind > 6
        or middle
        or which > 2
        or (which == 1) != (len(extra) == 6)
        or len(extra) > 6
    ):
        return None
    try:
        count = int(digits(extra[:1])) if extra else 1
        at = decode_moment(extra[1:]) if len(extra) == 6 else None
    except DecodeError:
        return None
    return LoadRequest(kind, _WHICH[which], count, at) if count and (which != 1 or at) else None


def encode_record(record: LoadRecord) -> bytes:
    """The bytes of one record; raises ConfigError where a value does not fit or a class is not complete."""
    body = encode_moment(record.at, 5)
    for number, columns in CLASSES.items():
        if number in record.classes:
            values = record.classes[number]
            if len(values) != len(columns):
                raise ConfigError(f"class {number} of a load record has {len(columns)} values, not {len(values)}")
            for value, (_, size, decimals, signed) in zip(values, columns, strict=True):
                body += encode_number(value, size, decimals, signed)
        body += b"\xaa"
    framed = (BAD if record.bad else GOOD) + bytes((len(body),)) + body
    return framed + bytes((sum(framed) & 0xFF, _END))


def encode_records(records: Iterable[LoadRecord]) -> bytes:
    """Several records in a row, as `decode_records` takes them."""
    return b"".join(encode_record(record) for record in records)


def decode_records(data: bytes) -> list[LoadRecord]:
    """All records of an answer that has been joined; raises DecodeError where one of them is damaged."""
    records: list[LoadRecord] = []
    while data:
        size = 3 + data[2] + 2 if len(data) > 2 else 0
        if data[:2] not in (GOOD, BAD) or not 0 < size <= len(data) or data[size - 1] != _END:
            raise DecodeError(f"load record {len(records) + 1} is cut off or has no start or end mark", data)
        if sum(data[: size - 2]) & 0xFF != data[size - 2]:
            raise DecodeError(f"load record {len(records) + 1} has a wrong checksum", data)
        records.append(_decode_body(data[3 : size - 2], bad=data[:2] == BAD))
        data = data[size:]
    return records


def _decode_body(body: bytes, *, bad: bool) -> LoadRecord:
    at = decode_moment(body[:5]) if len(body) > 5 else None
    if at is None:
        raise DecodeError("a load record has no time", body)
    classes: dict[int, tuple[Decimal | None, ...]] = {}
    place = 5
    for number, columns in CLASSES.items():
        if place < len(body) and body[place] != _CLOSE:
            if place + _SIZE[number] >= len(body):
                raise DecodeError(f"class {number} of the load record of {at:%Y-%m-%d %H:%M} is cut off", body)
            values = []
            for _, size, decimals, signed in columns:
                values.append(decode_number(body[place : place + size], decimals, signed))
                place += size
            classes[number] = tuple(values)
        if body[place : place + 1] != b"\xaa":
            raise DecodeError(f"class {number} of the load record of {at:%Y-%m-%d %H:%M} is not closed", body)
        place += 1
    if place != len(body):
        raise DecodeError(f"the load record of {at:%Y-%m-%d %H:%M} is longer than its classes", body)
    return LoadRecord(at, classes, bad)
