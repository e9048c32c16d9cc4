"""A recording that tells nobody whose meters they are, and can still be read again and served. Pure.

Addresses of DL/T 645 meters, meter numbers and serial numbers are replaced, the same one by the same one everywhere,
and frames get the checksums that go with it. Where the line is reached is left out. What was measured stays.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import replace

from ..errors import MeterError
from ..line import Exchanged
from ..protocol.dlt645.exchange import READ_ADDRESS, address_matches
from ..protocol.dlt645.frame import BROADCAST, WILDCARD, Framer, encode
from ..protocol.modbus import rtu, tcp
from ..template import IdentityItem, Template
from .again import asked_words, words_of
from .file import Recording, settings_of

_PRIVATE = (
    *("04000401", "04000402", "04000403", "0400040B", "0400040C", "0400040D", "04000410", "04000411"),
    *("C032", "C033", "C034"),
)
"""Items that say which meter it is, or whose: addresses, numbers, asset numbers, codes of its maker."""
_PRIVATE_HEADS = tuple(bytes.fromhex(di)[::-1] for di in _PRIVATE)
_ADD = bytes((value + 0x33) & 0xFF for value in range(256))


def redact(recording: Recording, load: Callable[[str], Template]) -> Recording:
    """The recording without addresses of DL/T 645 meters, serial numbers and the line's own address.

    Answers of meters that the recording does not name are blanked, because nobody knows what is in them. `load` gives
    the template of an id; raises TemplateError (of `load`) and ConfigError.
    """
    names = _Names(recording)
    framing = settings_of(recording).framing
    templates = {one.address: load(one.template) for one in recording.meters}
    names.serials = {_serial(one, templates.get(one.meter), framing) for one in recording.exchanges}
    exchanges = []
    for one in recording.exchanges:
        template = templates.get(one.meter)
        if len(one.meter) == len(WILDCARD):
            exchanges.append(
                replace(
                    one,
                    meter=names.address(one.meter),
                    request=_frames(one.request, names),
                    received=_frames(one.received, names),
                    problem=names.anywhere(one.problem),
                )
            )
        elif template is not None:
            exchanges.append(_modbus(one, template, framing, names))
        else:
            exchanges.append(_blank(one))
    return Recording(
        line={**recording.line, "name": _scheme(str(recording.line.get("name", "")))},
        meters=tuple(replace(one, address=names.address(one.address)) for one in recording.meters),
        exchanges=tuple(exchanges),
        readings=tuple(
            None
            if read is None
            else {key: names.shown(text) if key == "serial" else text for key, text in read.items()}
            for read in recording.readings
        ),
    )


class _Names:
    """Which name stands for which."""

    def __init__(self, recording: Recording) -> None:
        self._addresses: dict[str, str] = {}
        self._line = str(recording.line.get("name", ""))
        self._numbers: dict[str, str] = {}
        self.serials: set[bytes] = set()
        """Serial numbers of Modbus meters as their answers hold them."""
        for one in recording.meters:
            self._meet(one.address)
        for exchanged in recording.exchanges:
            self._meet(exchanged.meter)
            for frame in (*Framer().feed(exchanged.request), *Framer().feed(exchanged.received)):
                self._meet(frame.address)
                if frame.function == READ_ADDRESS and len(frame.data) == 6:
                    self._meet(frame.data[::-1].hex().upper())
        # Numbers as well, so that they are known in damaged frames too.
        for exchanged in recording.exchanges:
            for frame in Framer().feed(exchanged.received):
                if (value := _value(frame.data)) is not None:
                    self.number(value[::-1].hex().upper())

    def _meet(self, address: str) -> None:
        if len(address) == 12 and address != BROADCAST and "AA" not in _pairs(address):
            self._addresses.setdefault(address, f"{len(self._addresses) + 1:012d}")

    def address(self, address: str) -> str:
        """Modbus units stay; a pattern with pairs AA stays a pattern."""
        if len(address) != 12 or address in (BROADCAST, WILDCARD):
            return address
        if "AA" not in _pairs(address):
            return self._addresses[address]
        known = next((name for one, name in self._addresses.items() if address_matches(address, one)), WILDCARD)
        return "".join("AA" if old == "AA" else new for old, new in zip(_pairs(address), _pairs(known), strict=True))

    def number(self, text: str) -> str:
        """A serial number; where it is the address too, it stays the address."""
        return self._addresses.get(text) or self._numbers.setdefault(text, f"{len(self._numbers) + 1:012d}")

    def short(self, text: str) -> str:
        """A serial number that few words must hold."""
        return str(int(self.number(text)))

    def shown(self, text: str) -> str:
        """A serial number as a reading: DL/T 645 meters have 12 digits, Modbus meters as many as they need."""
        return self.number(text) if len(text) == 12 and text.isdecimal() else self.short(text)

    def told(self, data: bytes) -> bool:
        """Whether a serial number of a Modbus meter stands in bytes; one of a single word may stand there by chance."""
        return any(len(one) > 2 and one in data for one in self.serials)

    def anywhere(self, text: str | None) -> str | None:
        """A sentence in which addresses may stand, the line's too."""
        if text and self._line:
            text = text.replace(self._line, _scheme(self._line))
        for old, new in self._addresses.items():
            text = text and text.replace(old, new)
        return text

    def wire(self, data: bytes) -> bytes:
        """Bytes that are no whole frame: addresses in them, plain and as data travels."""
        for old, new in (self._addresses | self._numbers).items():
            if len(old) != 12:
                continue
            before, after = bytes.fromhex(old)[::-1], bytes.fromhex(new)[::-1]
            data = data.replace(before, after).replace(before.translate(_ADD), after.translate(_ADD))
        return data


def _frames(data: bytes, names: _Names) -> bytes:
    """DL/T 645 bytes, whatever stands between the frames."""
    done = b""
    for frame in Framer().feed(data):
        before, _, data = data.partition(frame.raw)
        done += names.wire(before) + encode(
            names.address(frame.address), frame.control, _payload(frame.data, frame.function, names)
        )
    return done + names.wire(data)


def _payload(data: bytes, function: int, names: _Names) -> bytes:
    if function == READ_ADDRESS and len(data) == 6:
        return bytes.fromhex(names.address(data[::-1].hex().upper()))[::-1]
    head = _head(data)
    value = _value(data)
    if value is not None:
        return head + bytes.fromhex(names.number(value[::-1].hex().upper()))[::-1]
    return head + b"0" * (len(data) - len(head)) if head else data


def _head(data: bytes) -> bytes:
    """The identifier of an item that is private; empty for others."""
    return next((one for one in _PRIVATE_HEADS if data.startswith(one)), b"")


def _value(data: bytes) -> bytes | None:
    """The number in such an item."""
    value = data[len(_head(data)) :] if _head(data) else b""
    return value if len(value) == 6 and value not in (b"\xff" * 6, b"\0" * 6) else None


def _modbus(exchanged: Exchanged, template: Template, framing: str, names: _Names) -> Exchanged:
    asked = asked_words(exchanged.request, framing)
    if asked is None:
        # A load profile in files says nothing of whose it is; any other function may.
        at = tcp.HEADER.size if framing == "tcp" else 1
        return exchanged if exchanged.request[at : at + 1] == b"\x14" else _blank(exchanged)
    unit, function, address, count = asked
    # Which model it is, is no secret.
    serial = template.identity.serial
    secret: range | None = None
    if serial is not None and serial.function == function:
        begin = serial.address + serial.skip
        secret = range(max(begin, address), min(begin + (serial.size or serial.count), address + count))
    try:
        words = words_of(exchanged, framing)
    except MeterError:
        return exchanged  # a refusal
    if words is None:
        # What came is no answer, and may be a part of one, or the late one to another question.
        return _blank(exchanged) if secret or names.told(exchanged.received) else exchanged
    if serial is None or not secret:
        return exchanged
    own = slice(secret.start - address, secret.stop - address)
    if len(secret) == (serial.size or serial.count):
        hidden = _renumbered(serial, words[own], names)
    else:
        hidden = (0,) * len(secret)
    new = (*words[: own.start], *hidden, *words[own.stop :])
    before, after = (_body(unit, function, one, framing) for one in (words, new))
    return replace(exchanged, received=exchanged.received.replace(before, after))


def _serial(exchanged: Exchanged, template: Template | None, framing: str) -> bytes:
    """The bytes of the serial number in an answer that holds nothing less; empty in any other."""
    item, asked = None if template is None else template.identity.serial, asked_words(exchanged.request, framing)
    if item is None or asked is None or asked[1] != item.function:
        return b""
    at = item.address + item.skip - asked[2]
    size = item.size or item.count
    try:
        words = words_of(exchanged, framing)
    except MeterError:
        return b""
    if words is None or at < 0 or at + size > len(words) or not any(words[at : at + size]):
        return b""
    return b"".join(word.to_bytes(2) for word in words[at : at + size])


def _renumbered(item: IdentityItem, own: tuple[int, ...], names: _Names) -> tuple[int, ...]:
    """The words of a serial number, and of no more, for another number."""
    before = (0,) * item.skip
    text = item.text((*before, *own, *(0,) * (item.count - item.skip - len(own))))
    if text is None:
        return own
    return item.words(names.short(text))[item.skip : item.skip + len(own)]


def _body(unit: int, function: int, words: tuple[int, ...], framing: str) -> bytes:
    body = bytes((function, 2 * len(words))) + b"".join(word.to_bytes(2) for word in words)
    return tcp.encode(0, unit, body)[2:] if framing == "tcp" else rtu.encode(unit, body)


def _blank(exchanged: Exchanged) -> Exchanged:
    return replace(exchanged, received=bytes(len(exchanged.received)))


def _pairs(address: str) -> list[str]:
    return [address[at : at + 2] for at in range(0, len(address), 2)]


def _scheme(name: str) -> str:
    """How the line is reached, without where."""
    scheme, found, _ = name.partition("://")
    return f"{scheme}://…" if found else "…"
