"""The server's side: a responder for virtual meters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from . import pdu, rtu, tcp
from .exchange import Framing
from .pdu import ModbusException as ModbusException


class RegisterBank(Protocol):
    """The registers of one unit."""

    def read(self, function: int, address: int, count: int) -> Sequence[int]:
        """The words of `count` registers (function 3 holding, 4 input); raises ModbusException."""


@runtime_checkable
class WritableBank(Protocol):
    """A bank that can also be written to."""

    def write(self, address: int, words: Sequence[int]) -> None:
        """Sets registers (functions 6 and 16); raises ModbusException."""


@runtime_checkable
class FileBank(Protocol):
    """A bank that also keeps files."""

    def read_file(self, file: int, record: int, words: int) -> Sequence[int]:
        """So many words of a file from a record on (function 20); raises ModbusException."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The bytes with which a unit answers."""

    unit: int
    raw: bytes


class ModbusResponder:
    """Answers requests to its units as meters on one line do: silent for other units, damaged requests, broadcasts."""

    def __init__(self, units: Mapping[int, RegisterBank], framing: Framing = "rtu") -> None:
        self._units = units
        self._framer = rtu.RtuFramer("server") if framing == "rtu" else tcp.TcpFramer("server")

    def feed(self, data: bytes) -> list[Reply]:
        """Takes bytes; the replies to the requests that are complete with them, in their order."""
        replies = []
        for frame in self._framer.feed(data):
            broadcast = frame.unit == 0 and isinstance(frame, rtu.RtuFrame)
            bank = self._units.get(frame.unit)
            if broadcast:
                for one in self._units.values():
                    answer(one, frame.pdu)
            elif bank is not None:
                said = answer(bank, frame.pdu)
                if isinstance(frame, tcp.TcpFrame):
                    replies.append(Reply(frame.unit, tcp.encode(frame.transaction, frame.unit, said)))
                else:
                    replies.append(Reply(frame.unit, rtu.encode(frame.unit, said)))
        return replies


def answer(bank: RegisterBank, request: bytes) -> bytes:
    """The reply PDU of a unit to a request PDU, an exception where it cannot serve it."""
    function = request[0]
    try:
        if function in (pdu.READ_HOLDING, pdu.READ_INPUT):
            address, count = pdu.unpack_request(request)
            _check(1 <= count <= pdu.MAX_READ, address, count)
            return pdu.read_reply(function, bank.read(function, address, count))
        if function == pdu.READ_FILE and isinstance(bank, FileBank):
            asked = pdu.unpack_file_request(request)
            # Several sub-requests in one question are allowed by the standard and served by few meters.
            if asked is None or not 1 <= asked[2] <= pdu.MAX_FILE_READ:
                return pdu.exception_reply(function, pdu.ILLEGAL_VALUE)
            return pdu.file_reply(bank.read_file(*asked))
        if function in (pdu.WRITE_ONE, pdu.WRITE_MANY) and isinstance(bank, WritableBank):
            address, count = pdu.unpack_request(request[:5])
            if function == pdu.WRITE_ONE:
                bank.write(address, (count,))
                return request
            _check(1 <= count <= pdu.MAX_WRITE and len(request) == 6 + 2 * count, address, count)
            bank.write(address, pdu.unpack_words(request, 6, count))
            return pdu.write_reply(address, count)
    except ModbusException as refusal:
        return pdu.exception_reply(function, refusal.code)
    return pdu.exception_reply(function, pdu.ILLEGAL_FUNCTION)


def _check(count_fits: bool, address: int, count: int) -> None:
    if not count_fits:
        raise ModbusException(pdu.ILLEGAL_VALUE)
    if address + count > 0x10000:
        raise ModbusException(pdu.ILLEGAL_ADDRESS)
