"""What damaged bytes look like: wrong speed, wrong parity, broken off, two at once, or plain noise. Pure.

A receiver that is faster than the sender sees each bit several times: many bytes, and few changes from bit to bit. One
that expects another parity loses just those bytes whose parity is the other: what is left all has one parity.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..protocol.dlt645.frame import Framer
from ..protocol.modbus.rtu import RtuFramer, crc, valid
from ..protocol.modbus.tcp import TcpFramer
from .evidence import Heard, is_text

_FEW_BYTES = 5
_SMOOTH = 1.9
"""Changes from one bit to the next in a byte: random bytes have 3.5, those that are seen 4 times slower hardly 1.7."""
_SWITCHING = b"\x00\xff"


@dataclass(frozen=True, slots=True)
class Signature:
    """How much of what was heard looks like which trouble, each from 0 to 1."""

    baud: float = 0.0
    parity: float = 0.0
    truncated: float = 0.0
    clash: float = 0.0
    noise: float = 0.0
    text: float = 0.0

    @property
    def unclear(self) -> bool:
        """True where nothing stands out."""
        return max(self.baud, self.parity, self.truncated, self.clash, self.noise, self.text) < 0.5


def senders(raw: bytes) -> list[str]:
    """The addresses of the valid frames in bytes, as people write them."""
    found = [frame.address for frame in Framer().feed(raw) if frame.is_reply and frame.function]
    found += [str(frame.unit) for frame in RtuFramer("client").feed(raw)]
    return found or [str(frame.unit) for frame in TcpFramer("client").feed(raw)]


def read(heard: Sequence[Heard]) -> Signature:
    """What the damaged replies of one meter look like, most of them."""
    each = [_one(one) for one in heard if one.raw]
    if not each:
        return Signature()

    def share(name: str) -> float:
        return sum(kind == name for kind in each) / len(each)

    clash, noise = share("clash"), share("noise")
    if len(each) >= 3 and len({one.raw for one in heard}) == 1 and heard[0].size > _FEW_BYTES:
        # Noise is never twice the same: it is always the same wrong setting.
        return Signature(baud=max(0.4, share("baud")), parity=max(0.3, share("parity")), text=share("text"))
    return Signature(share("baud"), share("parity"), share("truncated"), clash, noise, share("text"))


def _one(heard: Heard) -> str:
    raw = heard.raw
    core = raw.strip(_SWITCHING)
    if len(core) >= 4 and is_text(core):
        return "text"
    if kind := _near_miss(heard):
        return kind
    if len(raw) >= _FEW_BYTES:
        if heard.size > 1.3 * heard.expected and _changes(raw) < _SMOOTH:
            return "baud"
        if len({byte.bit_count() & 1 for byte in raw}) == 1 and len(set(raw)) > 3:
            return "parity"
        if _changes(raw) < _SMOOTH and len(set(raw)) <= 8:
            return "baud"
    return ""


def _near_miss(heard: Heard) -> str:
    """A frame that begins as the reply must: broken off, with single bits wrong, or two that were sent at once."""
    raw, request = heard.raw, heard.request
    start = _head(raw, request)
    if start < 0:
        return ""
    frame = raw[start:]
    length = _length(frame)
    if length and len(frame) < length:
        return "truncated"
    if not length:
        return "truncated" if len(frame) < 12 else ""
    frame = frame[:length]
    if one_bit_off(frame):
        return "noise"
    # Dominant zeros win where two talk at once: whole length, good beginning, and the check never fits.
    return "clash" if frame[0] != 0x68 else "noise"


def _head(raw: bytes, request: bytes) -> int:
    """Where something begins as a reply to a request would; -1 nowhere."""
    question = request.lstrip(b"\xfe")
    if question[:1] == b"\x68" and question[7:8] == b"\x68":
        return raw.find(question[:8])
    head = question[6:8] if question[2:4] == b"\0\0" and len(question) > 9 else question[:2]
    at = raw.find(head)
    return at if raw[at + 1 : at + 2] else -1


def _length(frame: bytes) -> int:
    """How long a frame is by its own account; 0 where that has not come."""
    if frame[0] == 0x68 and frame[7:8] == b"\x68":
        return 12 + frame[9] if len(frame) > 9 else 0
    return 5 + frame[2] if len(frame) > 2 else 0


def one_bit_off(frame: bytes) -> bool:
    """True where one wrong bit explains that a Modbus RTU frame is not valid."""
    if len(frame) < 5 or frame[:1] == b"\x68":
        return False
    # The CRC is linear: a wrong bit at a place gives the same remainder in every frame of the length.
    wrong = crc(frame)
    size = len(frame)
    probe = bytearray(size)
    base = crc(probe)
    for place in range(size):
        for bit in range(8):
            probe[place] = 1 << bit
            if crc(probe) ^ base == wrong:
                return True
        probe[place] = 0
    return valid(frame)


def _changes(raw: Iterable[int]) -> float:
    """How often neighbouring bits differ in a byte, on average."""
    each = [((byte ^ byte >> 1) & 0x7F).bit_count() for byte in raw]
    return sum(each) / len(each)
