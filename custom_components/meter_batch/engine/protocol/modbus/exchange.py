"""The client's side of one request: what is sent, which reply answers it, what its absence means."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from ...errors import ConfigError, FrameError, MeterError, NoReply, WrongMeter
from ...sentences import say
from ..exchange import Exchange
from . import pdu, rtu, tcp

type Framing = Literal["rtu", "tcp"]

_QUIET = frozenset((0x00, 0xFE, 0xFF))
"""Bytes that a line makes when its drivers switch, and the preamble of DL/T 645: no sign of a reply."""
_KEPT = 4096
"""Bytes that are remembered of what was heard."""
_EARLIER = 16
"""How many transactions back a reply may belong to an earlier question that was given up."""


@dataclass(frozen=True, slots=True)
class _Form:
    """What is alike in all questions with the same content: everything but the transaction's number before it."""

    unit: int
    function: int
    framing: Framing
    meter: str
    reply_bytes: int
    body_at: int
    """Where the PDU stands in the reply."""
    bad_bytes: int
    request: bytes
    good: bytes
    """How the good reply begins."""
    bad: bytes
    """How a refusal begins."""


def _form(unit: int, body: bytes, reply_head: bytes, reply_body: int, framing: Framing) -> _Form:
    """`reply_head`: the first bytes of the good reply's PDU; `reply_body`: the length of that PDU."""
    # On TCP 0 and 255 may mean the device itself; on a wire 0 is for all, and nobody answers.
    if not (0 if framing == "tcp" else 1) <= unit <= 255:
        raise ConfigError(f"Modbus unit {unit}: a unit is 1 to 247")
    if framing not in ("rtu", "tcp"):
        raise ConfigError(f'Modbus framing "{framing}": it is "rtu" or "tcp"')
    function, to = body[0], bytes((unit,))
    failure = bytes((function | pdu.EXCEPTION,))
    if framing == "rtu":
        request, good, bad, body_at = rtu.encode(unit, body), to + reply_head, to + failure, 1
        return _Form(unit, function, framing, str(unit), reply_body + 3, body_at, 5, request, good, bad)
    body_at = tcp.HEADER.size
    request, good, bad = (
        tcp.encode(0, unit, body)[2:],
        tcp.HEADER.pack(0, 0, reply_body + 1, unit)[2:] + reply_head,
        tcp.HEADER.pack(0, 0, 3, unit)[2:] + failure,
    )
    return _Form(unit, function, framing, str(unit), body_at + reply_body, body_at, 9, request, good, bad)


_NOTHING = bytearray()
"""What every question has heard at first; replaced before anything is added."""


class _Request[Answer](ABC):
    """One request to one unit, and what was heard since it was sent."""

    protocol = "modbus"
    before = b""
    behind = b""
    after_silence = False
    _heard = _NOTHING
    foreign = 0
    """Valid frames that were no reply to this request."""
    _searched = 0
    """Before this place nothing in `_heard` is the beginning of the good reply."""
    _echo = False
    _blamed = False
    """True once the far end's numbers were doubted because of this question."""

    def __init__(self, form: _Form, transaction: int, numbers: tcp.Numbers | None = None) -> None:
        self._form = form
        self.meter = form.meter
        self.reply_bytes = form.reply_bytes
        self.numbers = numbers
        """What is known of the far end's transaction numbers; without it only the right number counts."""
        self.transaction = transaction = transaction & 0xFFFF
        if form.framing == "tcp":
            number = transaction.to_bytes(2)
            self.request, self._good = number + form.request, number + form.good
        else:
            self.request, self._good = form.request, form.good

    @property
    def unit(self) -> int:
        """Whom it asks."""
        return self._form.unit

    @property
    def function(self) -> int:
        """The function code."""
        return self._form.function

    @property
    def framing(self) -> Framing:
        """How it travels."""
        return self._form.framing

    @property
    def _bad(self) -> bytes:
        """How a refusal begins."""
        return self.transaction.to_bytes(2) + self._form.bad if self._form.framing == "tcp" else self._form.bad

    def feed(self, data: bytes) -> Answer | None:
        """Takes received bytes; the answer once the reply is complete. Raises MeterError where the meter refused."""
        heard = self._heard
        if (
            not heard
            and len(data) == self.reply_bytes
            and data.startswith(self._good)
            and (self._form.framing == "tcp" or rtu.crc(data) == 0)
        ):
            return self._answer(data, self._form.body_at)
        if heard is _NOTHING:
            heard = self._heard = bytearray()
        heard += data
        if len(heard) > _KEPT:
            self._searched = max(0, self._searched - (len(heard) - _KEPT))
            del heard[:-_KEPT]
        self._skip_echo()
        start = heard.find(self._good, self._searched)
        waiting = -1
        while start >= 0:
            if len(heard) - start < self.reply_bytes:
                waiting = start
                break
            if self._is_reply(heard, start):
                return self._found(start)
            # Never again: noise that looks like many beginnings must not be checked anew with every byte.
            self._searched = start + 1
            start = heard.find(self._good, self._searched)
        if error := self._refusal(waiting):
            raise error
        if self.numbers is not None and self.framing == "tcp" and waiting < 0:
            return self._under_another_number()
        return None

    def _found(self, start: int) -> Answer:
        """The answer in the good reply that was heard at `start`. Raises WrongMeter where another contradicts it."""
        heard = self._heard
        end = start + self.reply_bytes
        self.foreign += self._frames(bytes(heard[:start]))
        self.before = self.request * self._echo + bytes(heard[:start])
        self.behind = bytes(heard[end:])
        if self.framing == "rtu" and (other := self._another(bytes(heard[start:end]))) >= 0:
            if not self.after_silence:
                raise WrongMeter(say("modbus_two_replies", unit=self.unit), bytes(heard))
            return self._found(end + other)
        return self._answer(heard, start + self._form.body_at)

    def _another(self, reply: bytes) -> int:
        """Where in `behind` another good reply begins, -1 nowhere: replies do not say what they answer."""
        start = self.behind.find(self._good) if self.behind else -1
        while 0 <= start <= len(self.behind) - self.reply_bytes:
            if self._is_reply(self.behind, start) and self.behind[start : start + self.reply_bytes] != reply:
                return start
            start = self.behind.find(self._good, start + 1)
        return -1

    def _under_another_number(self) -> Answer | None:
        """The answer in a reply that fits but for its transaction's number, where the far end is known for that.

        Raises MeterError where it is a refusal.
        """
        numbers = self.numbers
        assert numbers is not None
        frames = [
            frame for frame in tcp.TcpFramer("client").feed(bytes(self._heard)) if self._fits_but_for_number(frame)
        ]
        if len({frame.pdu for frame in frames}) != 1:
            return None
        if not self._blamed:
            self._blamed = True
            numbers.another(self.transaction)
        if numbers.kept:
            return None
        pdu_, raw = frames[0].pdu, frames[0].raw
        if pdu_[0] & pdu.EXCEPTION:
            raise pdu.exception_error(self.unit, pdu_[1], self._question(), raw)
        start = self._heard.find(raw)
        self.before, self.behind = bytes(self._heard[:start]), bytes(self._heard[start + len(raw) :])
        return self._answer(raw, self._form.body_at)

    def _fits_but_for_number(self, frame: tcp.TcpFrame) -> bool:
        """True for a frame that would be the reply under the right number, and belongs to no earlier question."""
        if frame.unit != self.unit or frame.transaction == self.transaction:
            return False
        if self.numbers is not None and self.numbers.is_earlier(frame.transaction):
            return False
        body, at = frame.raw, tcp.HEADER.size - 1
        return body[at:].startswith((self._good[at:], self._bad[at:])) and len(body) in (
            self.reply_bytes,
            self._form.bad_bytes,
        )

    def fits(self, data: bytes) -> bool:
        """See `Exchange.fits`."""
        start = data.find(self._good)
        while 0 <= start <= len(data) - self.reply_bytes:
            if self._is_reply(data, start):
                return True
            start = data.find(self._good, start + 1)
        return False

    def silence(self) -> MeterError:
        """The error that fits what was heard when time is up."""
        # Only now is it certain that the bytes before a refusal were no beginning of a good reply.
        if error := self._refusal(-1):
            return error
        heard = bytes(self._heard)
        if self._other_framing(heard):
            speaks = "modbus_speaks_rtu" if self.framing == "tcp" else "modbus_speaks_tcp"
            return FrameError(say(speaks, unit=self.unit), heard)
        self.foreign += self._frames(heard)
        if self._blamed:
            return WrongMeter(say("modbus_other_number", unit=self.unit), heard)
        if self.foreign:
            foreign = "modbus_foreign_tcp" if self.framing == "tcp" else "modbus_foreign_rtu"
            return WrongMeter(say(foreign, unit=self.unit, count=self.foreign), heard)
        late = self.framing == "tcp" and bool(tcp.TcpFramer("client").feed(heard))
        if not late and not _QUIET.issuperset(heard):
            return FrameError(say("modbus_damaged", unit=self.unit, count=len(heard)), heard)
        only = "modbus_only_late" if late else "modbus_only_echo" if self._echo else "modbus_no_reply"
        return NoReply(say(only, unit=self.unit), heard)

    def could_be_answered_by(self, other: Exchange[object]) -> bool:
        """True where a late reply to `other`, good or not, would be taken for the reply to this one."""
        # Exceptions do not say what they refuse, so unit and function decide; on TCP the transaction does.
        if not (
            isinstance(other, _Request)
            and other.framing == self.framing
            and other.unit == self.unit
            and other.function == self.function
        ):
            return False
        if self.framing == "rtu" or (self.numbers is not None and self.numbers.doubted):
            return True
        # The same question under the same number is the same question: any of its replies answers it.
        return other.transaction == self.transaction and other.request != self.request

    def _is_reply(self, data: bytes | bytearray, start: int) -> bool:
        if not data.startswith(self._good, start):
            return False
        return self.framing == "tcp" or rtu.valid(memoryview(data)[start : start + self.reply_bytes])

    def _refusal(self, before: int) -> MeterError | None:
        """The exception reply that was heard, looked for before the place where a good reply may have begun."""
        heard = self._heard
        start = heard.find(self._bad)
        while 0 <= start <= len(heard) - self._form.bad_bytes and not 0 <= before < start:
            raw = bytes(heard[start : start + self._form.bad_bytes])
            if self.framing == "tcp" or rtu.valid(raw):
                return pdu.exception_error(self.unit, raw[self._form.body_at + 1], self._question(), raw)
            start = heard.find(self._bad, start + 1)
        return None

    def _skip_echo(self) -> None:
        """Leaves out the request where the line's own receiver heard it, before it is taken for a reply's beginning."""
        if self._echo:
            return
        heard = self._heard
        at = heard.find(self.request)
        if at >= 0 and _QUIET.issuperset(heard[:at]):
            self._echo = True
            del heard[: at + len(self.request)]
            self._searched = 0

    def _frames(self, heard: bytes) -> int:
        if self.framing == "tcp":
            return sum(not self._is_late(frame.transaction) for frame in tcp.TcpFramer("client").feed(heard))
        return sum(frame.raw != self.request for frame in rtu.RtuFramer("client").feed(heard))

    def _is_late(self, transaction: int) -> bool:
        """True for the number of an earlier question; 0 is what gateways say that keep no numbers."""
        if self.numbers is not None:
            return self.numbers.is_earlier(transaction)
        return transaction > 0 and 1 <= (self.transaction - transaction) & 0xFFFF <= _EARLIER

    def _other_framing(self, heard: bytes) -> bool:
        if self.framing == "tcp":
            return any(frame.unit == self.unit for frame in rtu.RtuFramer("client").feed(heard))
        return any(frame.raw == heard and frame.unit == self.unit for frame in tcp.TcpFramer("client").feed(heard))

    @abstractmethod
    def _question(self) -> str:
        """What is asked, for messages."""

    @abstractmethod
    def _answer(self, data: bytes | bytearray, at: int) -> Answer:
        """The answer from the reply's PDU at `at`."""


@lru_cache(maxsize=8192)  # a fleet asks the same few thousand questions again and again
def _read_form(unit: int, function: int, address: int, count: int, framing: Framing) -> _Form:
    if function not in (pdu.READ_HOLDING, pdu.READ_INPUT):
        raise ConfigError(f"Modbus function {function}: registers are read with 3 or 4")
    if not (1 <= count <= pdu.MAX_READ and address >= 0 and address + count <= 0x10000):
        raise ConfigError(f"{count} Modbus registers from {address} on: at most {pdu.MAX_READ}, up to 65535")
    head = bytes((function, 2 * count))
    return _form(unit, pdu.read_request(function, address, count), head, 2 + 2 * count, framing)


class ReadRegisters(_Request[tuple[int, ...]]):
    """Reads `count` registers from `address` on (function 3 or 4); the answer is their words.

    Raises ConfigError for what Modbus cannot ask. `feed` raises AbsentRegister for exception 2, NoReply where a gateway
    says that the meter did not answer (10, 11), and Refused otherwise.
    """

    def __init__(
        self,
        unit: int,
        function: int,
        address: int,
        count: int,
        *,
        framing: Framing = "rtu",
        transaction: int = 0,
        numbers: tcp.Numbers | None = None,
    ) -> None:
        # As in the base class, without the call: nearly all questions of a fleet are this one.
        self._form = form = _read_form(unit, function, address, count, framing)
        self.meter, self.reply_bytes, self.numbers = form.meter, form.reply_bytes, numbers
        self.transaction = transaction = transaction & 0xFFFF
        if framing == "tcp":
            number = transaction.to_bytes(2)
            self.request, self._good = number + form.request, number + form.good
        else:
            self.request, self._good = form.request, form.good
        self.address = address
        self.count = count

    def _question(self) -> str:
        last = self.address + self.count - 1
        return say("modbus_read", first=self.address, last=last, function=self.function)

    def _answer(self, data: bytes | bytearray, at: int) -> tuple[int, ...]:
        return pdu.WORDS[self.count].unpack_from(data, at + 2)


class ReadFile(_Request[tuple[int, ...]]):
    """Reads `words` words of a file from a record on (function 20, reference type 6); the answer is the words.

    What a record is, and so how many words it has, is the file's own business. Raises ConfigError for what cannot be
    asked. `feed` raises AbsentRegister for exception 2 (no such file or record), Refused otherwise; meters without
    files answer with exception 1.
    """

    def __init__(
        self,
        unit: int,
        file: int,
        record: int,
        words: int,
        *,
        framing: Framing = "rtu",
        transaction: int = 0,
        numbers: tcp.Numbers | None = None,
    ) -> None:
        if not (0 <= file <= 0xFFFF and 0 <= record <= 0xFFFF and 1 <= words <= pdu.MAX_FILE_READ):
            raise ConfigError(
                f"{words} words of Modbus file {file} from record {record} on: "
                f"at most {pdu.MAX_FILE_READ}, and files and records go up to 65535"
            )
        self.file = file
        self.record = record
        self.words = words
        head = pdu.file_reply_head(words)
        body = pdu.file_request(file, record, words)
        super().__init__(_form(unit, body, head, len(head) + 2 * words, framing), transaction, numbers)

    def _question(self) -> str:
        return say("modbus_read_file", file=self.file, record=self.record)

    def _answer(self, data: bytes | bytearray, at: int) -> tuple[int, ...]:
        return pdu.unpack_words(data, at + pdu.FILE_REPLY_HEAD, self.words)


class WriteRegisters(_Request[int]):
    """Writes `words` from `address` on (function 16); the answer is how many the meter has written."""

    def __init__(
        self, unit: int, address: int, words: tuple[int, ...], *, framing: Framing = "rtu", transaction: int = 0
    ) -> None:
        if not (1 <= len(words) <= pdu.MAX_WRITE and address >= 0 and address + len(words) <= 0x10000):
            raise ConfigError(f"{len(words)} Modbus registers from {address} on: at most {pdu.MAX_WRITE}, up to 65535")
        if not all(0 <= word <= 0xFFFF for word in words):
            raise ConfigError(f"Modbus registers from {address} on: a word is 0 to 65535")
        self.address = address
        self.words = words
        head = pdu.write_reply(address, len(words))
        super().__init__(_form(unit, pdu.write_request(address, words), head, len(head), framing), transaction)

    def _question(self) -> str:
        return say("modbus_write", first=self.address, last=self.address + len(self.words) - 1)

    def _answer(self, data: bytes | bytearray, at: int) -> int:
        return len(self.words)
