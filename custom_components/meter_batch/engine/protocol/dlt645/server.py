"""The meters' side of a line: what real firmware answers, and where it stays silent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, runtime_checkable

from .exchange import BROADCAST_TIME, MOST_DATA, READ, READ_ADDRESS, READ_NEXT, address_matches
from .frame import BROADCAST, ERROR, MORE, REPLY, Frame, Framer, Variant, encode
from .item import block_members
from .load_record import LoadRecord, LoadRequest, decode_request, encode_record

OTHER, NO_DATA, NO_RIGHT, NO_SPEED = 0x01, 0x02, 0x04, 0x08
"""Bits of the error byte."""

_REFUSED_WITH = {
    "2007": {
        0x14: NO_RIGHT,
        0x16: OTHER,
        0x17: NO_SPEED,
        0x18: NO_RIGHT,
        0x19: NO_RIGHT,
        0x1A: NO_RIGHT,
        0x1B: NO_RIGHT,
    }
    | {0x1C: NO_RIGHT, 0x1D: OTHER},
    "1997": {0x03: OTHER, 0x04: NO_RIGHT, 0x0C: OTHER, 0x0F: NO_RIGHT, 0x10: NO_RIGHT},
}


class Dlt645Meter(Protocol):
    """One meter behind a `Dlt645Responder`."""

    variant: Variant

    @property
    def address(self) -> str:
        """12 digits."""

    def item(self, di: str) -> bytes | None:
        """The bytes of one item (identifier in upper case) as they travel, before 33H; None where it has none.

        A block (an index FF) may be given whole; where it is None the responder joins the single items.
        """

    def load_records(self, request: LoadRequest) -> Sequence[LoadRecord] | None:
        """The load records asked for, oldest first, at most `request.count`; None where the meter keeps none."""

    def set_clock(self, at: datetime) -> None:
        """A broadcast time arrived; obey it or not. `at` is naive: the wall clock to show."""


@runtime_checkable
class RefusingMeter(Protocol):
    """A meter that does not let everybody read everything."""

    def refusal(self, di: str) -> int:
        """The error byte with which it refuses to tell an identifier; 0 where it does not."""


@runtime_checkable
class CommandedMeter(Protocol):
    """A meter that can be written to, cleared, given other passwords."""

    def command(self, function: int, data: bytes) -> bytes | int | None:
        """The data of its reply, the error byte of its refusal, None for a function that it does not know."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What one meter sends, preamble included."""

    address: str
    raw: bytes


@dataclass(slots=True)
class _Position:
    """Where a reader of a long answer stands."""

    identifier: bytes = b""
    parts: list[bytes] = field(default_factory=list)
    sent: int = 0


class Dlt645Responder:
    """Answers for all meters of one line. Every method returns at once; turn-round is the wire's business.

    `preamble` is the number of FE before each reply, `max_data` the most data in one of its frames (smaller values
    force following frames). `zero_fill` lets 1997 meters take leading 00 as "any", `wildcard_echo` lets them answer
    with the wildcard address they were asked with, as some makers' do.
    """

    def __init__(
        self,
        meters: Sequence[Dlt645Meter],
        *,
        preamble: int = 4,
        max_data: int = MOST_DATA,
        zero_fill: bool = False,
        wildcard_echo: bool = False,
    ) -> None:
        self._meters = list(meters)
        self._preamble = b"\xfe" * preamble
        self._max_data = max_data
        self._zero_fill = zero_fill
        self._wildcard_echo = wildcard_echo
        self._framer = Framer()
        self._positions: dict[str, _Position] = {}

    def feed(self, data: bytes) -> list[Reply]:
        """Takes what arrives on the line; the replies, of several meters where a wildcard was asked.

        Silent for foreign addresses, damaged frames, broadcasts and other meters' replies. Nothing that is fed raises.
        """
        return [reply for frame in self._framer.feed(data) for reply in self._replies(frame)]

    def _replies(self, frame: Frame) -> Iterator[Reply]:
        if frame.is_reply:
            return
        for meter in self._meters:
            if frame.control == BROADCAST_TIME:
                if frame.address == BROADCAST or frame.address == meter.address:
                    _set_clock(meter, frame.data)
            elif self._is_asked(meter, frame.address) and (answer := self._answer(meter, frame)) is not None:
                control, content = answer
                echo = self._wildcard_echo and meter.variant == "1997"
                address = frame.address if echo else meter.address
                yield Reply(meter.address, self._preamble + encode(address, control, content))

    def _is_asked(self, meter: Dlt645Meter, asked: str) -> bool:
        if self._zero_fill and meter.variant == "1997":
            low = asked.lstrip("0")
            low = low.rjust(len(low) + len(low) % 2, "0")
            asked = low.rjust(12, "A")
        return address_matches(asked, meter.address)

    def _answer(self, meter: Dlt645Meter, frame: Frame) -> tuple[int, bytes] | None:
        """Control and data of a meter's reply; None where it stays silent."""
        variant, function = meter.variant, frame.control
        position = self._positions.setdefault(meter.address, _Position())
        if function == READ_NEXT[variant]:
            return self._next(position, variant, frame)
        self._positions[meter.address] = _Position()
        if function == READ[variant]:
            return self._first(meter, frame)
        if variant == "2007" and function == READ_ADDRESS and not frame.data:
            return function | REPLY, bytes.fromhex(meter.address)[::-1]
        refused = _REFUSED_WITH[variant].get(function)
        if refused is None or "AA" in frame.address:
            return None
        if isinstance(meter, CommandedMeter):
            done = meter.command(function, frame.data)
            if isinstance(done, bytes):
                return function | REPLY, done
            refused = refused if done is None else done
        return function | REPLY | ERROR, bytes((refused,))

    def _first(self, meter: Dlt645Meter, frame: Frame) -> tuple[int, bytes]:
        function = frame.control
        size = 4 if meter.variant == "2007" else 2
        wire = frame.data[:size]
        di = wire[::-1].hex().upper()
        if isinstance(meter, RefusingMeter) and (refused := meter.refusal(di)):
            return function | REPLY | ERROR, bytes((refused,))
        items = self._items(meter, di, frame.data[size:]) if len(wire) == size else None
        if items is None:
            return function | REPLY | ERROR, bytes((NO_DATA,))
        parts = _cut(items, self._max_data - size - 1)
        if len(parts) == 1:
            return function | REPLY, wire + parts[0]
        self._positions[meter.address] = _Position(wire, parts)
        return function | REPLY | MORE, wire + parts[0]

    def _next(self, position: _Position, variant: Variant, frame: Frame) -> tuple[int, bytes]:
        wire, function = position.identifier, frame.control
        asked = frame.data[len(wire) :]
        if wire and frame.data.startswith(wire):
            wanted = position.sent + 1
            if variant == "2007":
                wanted = asked[0] if len(asked) == 1 else 0
            if 1 <= wanted < len(position.parts) and wanted in (position.sent, position.sent + 1):
                position.sent = wanted
                more = MORE if wanted + 1 < len(position.parts) else 0
                sequence = bytes((wanted,)) if variant == "2007" else b""
                return function | REPLY | more, wire + position.parts[wanted] + sequence
        return function | REPLY | ERROR, bytes((NO_DATA,))

    def _items(self, meter: Dlt645Meter, di: str, extra: bytes) -> list[bytes] | None:
        """The data of an identifier, in pieces between which a long answer may be cut."""
        if meter.variant == "2007" and di.startswith("06"):
            request = decode_request(di, extra)
            records = None if request is None else meter.load_records(request)
            return [encode_record(one) for one in records[: request.count]] if request and records else None
        whole = meter.item(di)
        if whole is not None:
            return [whole]
        pieces: list[bytes] = []
        for member in block_members(di, meter.variant):
            one = meter.item(member)
            if one is None:
                break
            pieces.append(one)
        if pieces and meter.variant == "1997":
            pieces[-1] += b"\xaa"
        return pieces or None


def _cut(items: list[bytes], most: int) -> list[bytes]:
    """Joins pieces into parts of at most `most` bytes, cutting inside a piece only where it alone is longer."""
    parts: list[bytes] = [b""]
    for item in items:
        if parts[-1] and len(parts[-1]) + len(item) > most:
            parts.append(b"")
        parts[-1] += item
        while len(parts[-1]) > most:
            parts[-1:] = [parts[-1][:most], parts[-1][most:]]
    return parts


def _set_clock(meter: Dlt645Meter, data: bytes) -> None:
    digits = data[::-1].hex()
    if len(digits) == 12 and digits.isdecimal():
        try:
            at = datetime.strptime("20" + digits, "%Y%m%d%H%M%S")  # noqa: DTZ007 - a meter's wall clock has no zone
        except ValueError:
            return
        meter.set_clock(at)
