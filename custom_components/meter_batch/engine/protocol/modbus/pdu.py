"""Modbus PDUs: function code and data, whatever carries them. The only module that imports pymodbus.

Reading registers (functions 3 and 4) and file records (20) is packed and unpacked here from raw bytes, because a fleet
does hardly anything else; all other functions go through pymodbus, which is imported when the first of them comes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal

from ...errors import AbsentRegister, FrameError, MeterBatchError, MeterError, NoReply, Refused
from ...sentences import say

if TYPE_CHECKING:
    from pymodbus.pdu import ModbusPDU

type Side = Literal["client", "server"]
"""Who listens: a client hears replies, a server hears requests."""

READ_HOLDING: Final = 3
READ_INPUT: Final = 4
WRITE_ONE: Final = 6
WRITE_MANY: Final = 16
READ_FILE: Final = 20
EXCEPTION: Final = 0x80
MAX_PDU: Final = 253
MAX_READ: Final = 125
"""Registers of one read, at most."""
MAX_FILE_READ: Final = 121
"""Words of one file record request, at most: all replies together carry 245 bytes."""
MAX_WRITE: Final = 123

ILLEGAL_FUNCTION: Final = 1
ILLEGAL_ADDRESS: Final = 2
ILLEGAL_VALUE: Final = 3

EXCEPTIONS: dict[int, str] = {code: say(f"modbus_says_{code}") for code in (1, 2, 3, 4, 5, 6, 7, 8, 10, 11)}
"""What a meter or gateway says with an exception code, in words that complete "unit 7: ..."."""


class ModbusException(MeterBatchError):
    """A server's own answer to a request that it cannot serve; `code` is one of `EXCEPTIONS`."""

    def __init__(self, code: int) -> None:
        super().__init__(EXCEPTIONS.get(code, f"exception {code}"))
        self.code = code


def exception_error(unit: int, code: int, question: str, raw: bytes) -> MeterError:
    """The error that an exception reply means to the caller. Modbus has no code for lacking rights."""
    said = EXCEPTIONS.get(code, say("modbus_says_other"))
    if code in (10, 11):
        return NoReply(say("modbus_gateway", unit=unit, question=question, said=said, code=code), raw)
    message = say("modbus_refused", unit=unit, question=question, said=said, code=code)
    if code == ILLEGAL_ADDRESS:
        return AbsentRegister(message, raw, code)
    return Refused(message, raw, code)


# -- how long a PDU is ---------------------------------------------------------------------------------------------

_REPLY_FIXED = {5: 5, 6: 5, 7: 2, 8: 5, 11: 5, 15: 5, 16: 5, 22: 7}
_REPLY_COUNTED = frozenset({1, 2, 3, 4, 12, 17, 20, 21, 23})
_REPLY_WORDS = frozenset({3, 4, 23})
_REQUEST_FIXED = {1: 5, 2: 5, 3: 5, 4: 5, 5: 5, 6: 5, 7: 1, 8: 5, 11: 1, 12: 1, 17: 1, 22: 7, 24: 3}
_REQUEST_COUNTED = {15: 5, 16: 5, 20: 1, 21: 1, 23: 9}
"""Where the byte count stands."""

MORE: Final = 0
"""The length is not known before more bytes come."""
IMPOSSIBLE: Final = -1
"""No PDU begins like this."""
UNKNOWN: Final = -2
"""The function's length cannot be told from its first bytes."""


def pdu_length(side: Side, data: bytes | bytearray, at: int) -> int:
    """The length of the PDU that begins at `data[at]`, or `MORE`, `IMPOSSIBLE`, `UNKNOWN`."""
    left = len(data) - at
    if left < 1:
        return MORE
    function = data[at]
    if side == "client":
        if function in _REPLY_COUNTED:
            if left < 2:
                return MORE
            count = data[at + 1]
            odd = function in _REPLY_WORDS and count & 1
            return IMPOSSIBLE if not count or odd or count > MAX_PDU - 2 else 2 + count
        if function in _REPLY_FIXED:
            return _REPLY_FIXED[function]
        if function > EXCEPTION:
            # FF FF 00 00 00, which drivers make when they switch, has a good CRC and would be an exception with code 0.
            return IMPOSSIBLE if function == 0xFF or (left > 1 and not data[at + 1]) else 2
    else:
        if function in _REQUEST_FIXED:
            return _REQUEST_FIXED[function]
        if function in _REQUEST_COUNTED:
            place = _REQUEST_COUNTED[function]
            if left <= place:
                return MORE
            length = place + 1 + data[at + place]
            return length if length <= MAX_PDU else IMPOSSIBLE
    return UNKNOWN if 0 < function < EXCEPTION else IMPOSSIBLE


# -- reading and writing registers ---------------------------------------------------------------------------------

_REQUEST = struct.Struct(">BHH")
WORDS: Final = tuple(struct.Struct(f">{count}H") for count in range(MAX_PDU // 2 + 1))
"""The registers of a reply, by how many there are."""


def read_request(function: int, address: int, count: int) -> bytes:
    """The request for `count` registers from `address` on."""
    return _REQUEST.pack(function, address, count)


def unpack_request(pdu: bytes) -> tuple[int, int]:
    """Address and count of a read request (functions 1 to 4), address and value of a single write."""
    _, address, count = _REQUEST.unpack(pdu)
    return address, count


def read_reply(function: int, words: Sequence[int]) -> bytes:
    """The reply that carries these registers."""
    return bytes((function, 2 * len(words))) + WORDS[len(words)].pack(*words)


def unpack_words(data: bytes | bytearray, offset: int, count: int) -> tuple[int, ...]:
    """`count` registers from their bytes at `offset`."""
    return WORDS[count].unpack_from(data, offset)


def write_request(address: int, words: Sequence[int]) -> bytes:
    """The request that writes several registers (function 16)."""
    return struct.pack(">BHHB", WRITE_MANY, address, len(words), 2 * len(words)) + WORDS[len(words)].pack(*words)


def write_reply(address: int, count: int) -> bytes:
    """The reply to a request of function 16."""
    return _REQUEST.pack(WRITE_MANY, address, count)


_FILE_REQUEST = struct.Struct(">BBBHHH")
_FILE_REFERENCE = 6
"""The reference type of every sub-request of function 20; the standard knows no other."""


def file_request(file: int, record: int, words: int) -> bytes:
    """The request for `words` words of a file from a record on: one sub-request of function 20."""
    return _FILE_REQUEST.pack(READ_FILE, 7, _FILE_REFERENCE, file, record, words)


def unpack_file_request(pdu: bytes) -> tuple[int, int, int] | None:
    """File, record and words of a request with one sub-request; None where it is another."""
    if len(pdu) != _FILE_REQUEST.size or pdu[1] != 7 or pdu[2] != _FILE_REFERENCE:
        return None
    _, _, _, file, record, words = _FILE_REQUEST.unpack(pdu)
    return file, record, words


FILE_REPLY_HEAD: Final = 4
"""Where the words of a reply to function 20 begin."""


def file_reply_head(words: int) -> bytes:
    """What stands before the words in the reply: function, bytes of data, bytes of the one record, reference type."""
    return bytes((READ_FILE, 2 * words + 2, 2 * words + 1, _FILE_REFERENCE))


def file_reply(words: Sequence[int]) -> bytes:
    """The reply that carries these words of a file."""
    return file_reply_head(len(words)) + WORDS[len(words)].pack(*words)


def exception_reply(function: int, code: int) -> bytes:
    """The reply of a server that cannot serve the request."""
    return bytes((function | EXCEPTION, code))


# -- all else, by pymodbus -----------------------------------------------------------------------------------------


def parse(side: Side, pdu: bytes) -> ModbusPDU:
    """The PDU as pymodbus understands it; raises FrameError where it understands nothing."""
    from pymodbus.exceptions import ModbusException as PymodbusException
    from pymodbus.pdu import DecodePDU

    decoder = DecodePDU(side == "server")
    if pdu and pdu[0] < EXCEPTION and pdu[0] not in decoder.list_function_codes():  # type: ignore[no-untyped-call]
        # Asked first, because pymodbus would warn in the log of the host.
        raise FrameError(f"function {pdu[0]} is not known", pdu)
    # pymodbus has no error of its own for a PDU that is cut short or inconsistent.
    try:
        found = decoder.decode(pdu)
    except (PymodbusException, struct.error, IndexError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise FrameError(f"function {pdu[0] if pdu else '?'} with data that do not fit it", pdu) from error
    if found is None:
        raise FrameError(f"function {pdu[0] if pdu else '?'} is not known", pdu)
    return found
