"""What damaged bytes look like: wrong speed, wrong parity, broken off, two at once, or plain noise. Pure.

A receiver that is faster than the sender sees each bit several times: many bytes, and few changes from bit to bit. One
that expects another parity loses just those bytes whose parity is the other: what is left all has one parity.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache

from ..line import LineSettings
from ..protocol.dlt645.frame import Framer
from ..protocol.modbus.rtu import RtuFramer, crc, valid
from ..protocol.modbus.tcp import TcpFramer
from .evidence import Heard, is_text

BAUDS = (1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200)
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
    wiring: float = 0.0
    glitch: float = 0.0

    @property
    def unclear(self) -> bool:
        """True where nothing stands out."""
        return all(share < 0.5 for share in asdict(self).values())


def senders(raw: bytes) -> list[str]:
    """The addresses of the valid frames in bytes, as people write them."""
    found = [frame.address for frame in Framer().feed(raw) if frame.is_reply and frame.function]
    found += [str(frame.unit) for frame in RtuFramer("client").feed(raw)]
    return found or [str(frame.unit) for frame in TcpFramer("client").feed(raw)]


def read(heard: Sequence[Heard], settings: LineSettings) -> Signature:
    """What the damaged replies of one meter look like, most of them, at a port that is set like this."""
    each = [_one(one, settings) for one in heard if one.raw]
    if not each:
        return Signature()

    def share(name: str) -> float:
        return sum(kind == name for kind in each) / len(each)

    found = {
        name: share(name) for name in ("baud", "parity", "truncated", "clash", "noise", "text", "wiring", "glitch")
    }
    if (
        len(each) >= 3
        and len({one.raw for one in heard}) == 1
        and heard[0].size > _FEW_BYTES
        and not max(found.values())
    ):
        # Noise is never twice the same: what always comes alike is a setting.
        found |= {"baud": 0.5, "parity": 0.4}
    elif max(found.values()) < 0.5 and len(each) >= 3 and len({one.raw[:1] for one in heard}) == 1:
        # It always begins alike and is never what was sent.
        found["baud"] = 0.7
    elif not max(found.values()) and len(each) >= 3 and len({one.raw[:2] for one in heard}) > len(each) / 2:
        # What is sent alike is heard alike at its beginning, however a port is set.
        found["noise"] = 0.8
    return Signature(**found)


def _one(heard: Heard, settings: LineSettings) -> str:
    raw = heard.raw
    core = raw.strip(_SWITCHING)
    if len(core) >= 4 and is_text(core):
        return "text"
    if _head_alone(heard):
        return "truncated"
    if kind := _set_otherwise(heard, settings):
        return kind
    if _one_parity(raw) and heard.size < 1.1 * heard.expected:
        return "parity"
    if kind := _near_miss(heard):
        return kind
    if len(raw) >= _FEW_BYTES:
        if heard.size > 1.3 * heard.expected and _changes(raw) < _SMOOTH:
            return "baud"
        if _changes(raw) < _SMOOTH and len(set(raw)) <= 8:
            return "baud"
    if raw and not core:
        return "baud"
    return ""


def _set_otherwise(heard: Heard, settings: LineSettings) -> str:
    """Whether a reply to the question that was sent at another speed or parity, or inverted, would begin like this."""
    head = _expected_head(heard.request)
    if not head or head in heard.raw:
        return ""
    own = settings.baud, settings.parity, False
    candidates = [(settings.baud, parity, False, "parity") for parity in "NEO"]
    candidates.append((settings.baud, settings.parity, True, "wiring"))
    candidates += [(baud, parity, False, "baud") for baud in BAUDS if baud != settings.baud for parity in "NEO"]
    best, cause = 0, ""
    for baud, parity, inverted, name in candidates:
        if (baud, parity, inverted) != own:
            told = _alike(heard.raw, _reply_as(head, settings, baud, parity, inverted))
            if told > best:
                best, cause = told, name
    return cause


def _one_parity(raw: bytes) -> bool:
    """Whether just those bytes are left whose parity is one and the same, and the others read 00."""
    told = [byte for byte in raw if byte]
    return len({byte.bit_count() & 1 for byte in told}) == 1 and len(set(told)) > 2 and len(told) < 0.85 * len(raw)


def _alike(raw: bytes, as_heard: bytes) -> int:
    """How many telling bytes of a beginning are there; 0 where anything contradicts it.

    The last byte depends on what follows, and ports read what fails as 00.
    """
    told = as_heard[:-1]
    if len(set(told)) < 2 or len(raw) < len(told):
        return 0
    pairs = list(zip(raw, told, strict=False))
    if any(one not in (0, other) for one, other in pairs):
        return 0
    return sum(one == other != 0 for one, other in pairs)


@lru_cache(maxsize=1024)
def _reply_as(head: bytes, settings: LineSettings, baud: int, parity: str, inverted: bool) -> bytes:
    sent = replace(settings, baud=baud, parity=parity)
    return seen(head, sent, settings, inverted=inverted)


def _expected_head(request: bytes) -> bytes:
    """How a good reply to a request begins."""
    question = request.lstrip(b"\xfe")
    if question[:1] == b"\x68" and question[7:8] == b"\x68":
        return question[:8] + bytes((question[8] | 0x80,))
    if len(question) == 8 and question[1] in (3, 4) and question[5] <= 125:
        return question[:2] + bytes((2 * question[5],))
    return b""


def seen(data: bytes, sent: LineSettings, by: LineSettings, *, inverted: bool = False) -> bytes:
    """What a port that is set like `by` makes of bytes that come without pause from one that is set like `sent`.

    It begins a character where the line falls, looks at the middle of each bit, and reads 00 where parity or stop bit
    are wrong, as most ports do. `inverted`: with A and B swapped.
    """
    levels: list[bool] = []
    for byte in data:
        bits = [bool(byte >> place & 1) for place in range(8)]
        levels += [False, *bits]
        if sent.parity != "N":
            levels.append((sum(bits) % 2 == 1) == (sent.parity == "E"))
        levels += [True] * sent.stop_bits
    if inverted:
        levels = [not one for one in levels]
    step, idle = sent.baud / by.baud, not inverted
    size = 9 + (by.parity != "N") + by.stop_bits
    heard, place = bytearray(), 0.0
    while place < len(levels):
        begin = next((at for at in range(int(place), len(levels)) if not levels[at]), None)
        if begin is None:
            break
        start = max(place, float(begin))
        at = [int(start + (number + 0.5) * step) for number in range(size)]
        bits = [levels[one] if one < len(levels) else idle for one in at]
        value = sum(bit << number for number, bit in enumerate(bits[1:9]))
        odd = sum(bits[1:9]) % 2 == 1
        good = bits[-1] and (by.parity == "N" or bits[9] == (odd == (by.parity == "E")))
        heard.append(value if good else 0)
        place = start + (size - 0.5) * step
        if not bits[-1]:
            place = max(
                place, next((float(n) for n in range(int(place), len(levels)) if levels[n]), float(len(levels)))
            )
    return bytes(heard)


def _head_alone(heard: Heard) -> bool:
    """Whether nothing came but the good beginning of a DL/T 645 reply, without its length."""
    core, question = heard.raw.lstrip(b"\xfe"), heard.request.lstrip(b"\xfe")
    return 4 <= len(core) < 9 and question[:1] == b"\x68" and question.startswith(core[:8])


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
    if _stray_inside(raw[start:], length):
        return "glitch"
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


def _stray_inside(frame: bytes, length: int) -> bool:
    """True where a single stray 00 or FF inside explains that a Modbus RTU frame is not valid."""
    longer = frame[: length + 1]
    return len(longer) == length + 1 and any(
        byte in _SWITCHING and valid(longer[:place] + longer[place + 1 :]) for place, byte in enumerate(longer)
    )


def _changes(raw: Iterable[int]) -> float:
    """How often neighbouring bits differ in a byte, on average."""
    each = [((byte ^ byte >> 1) & 0x7F).bit_count() for byte in raw]
    return sum(each) / len(each)
