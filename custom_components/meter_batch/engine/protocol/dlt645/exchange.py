"""The questions a reader asks and how their replies are recognised, one object a question (an `Exchange`)."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import override

from ...errors import (
    AbsentRegister,
    AccessDenied,
    ConfigError,
    DecodeError,
    FrameError,
    MeterError,
    NoReply,
    Refused,
    WrongMeter,
)
from ...sentences import Sentence, listed, say
from .frame import (
    BROADCAST,
    END,
    OVERHEAD,
    REPLY,
    TAKE,
    WILDCARD,
    Frame,
    Framer,
    Variant,
    encode,
    normal_address,
)

READ = {"2007": 0x11, "1997": 0x01}
READ_NEXT = {"2007": 0x12, "1997": 0x02}
READ_ADDRESS = 0x13
BROADCAST_TIME = 0x08
MOST_DATA = 200
"""Bytes of data in one frame of a reply, by the standard."""
REPLY_PREAMBLE = 4
"""FE bytes before a reply, at most, by the standard."""

_NOISE = b"\xfe\x00\xff\xaa"
_ABSENT, _DENIED = 0x02, 0x04
_FLAGS = {
    "2007": {
        0x01: "other",
        0x02: "no_such_data",
        0x04: "password_or_unauthorised",
        0x08: "speed_cannot_be_changed",
        0x10: "too_many_seasons",
        0x20: "too_many_day_slots",
        0x40: "too_many_tariffs",
        0x80: "reserved",
    },
    "1997": {
        0x01: "illegal_data",
        0x02: "di_error",
        0x04: "password",
        0x10: "too_many_seasons",
        0x20: "too_many_day_slots",
        0x40: "too_many_tariffs",
    },
}


def error_flags(code: int, variant: Variant) -> list[str]:
    """Names of the bits of an error byte, lowest first; "bit3" where the edition gives a bit no meaning."""
    names = _FLAGS[variant]
    return [names.get(1 << bit, f"bit{bit}") for bit in range(8) if code & 1 << bit]


@lru_cache(maxsize=1024)
def identifier(di: str, variant: Variant) -> tuple[str, bytes]:
    """An identifier in its normal form (upper case) and as it travels; raises ConfigError where it is none."""
    digits = 8 if variant == "2007" else 4
    try:
        wire = bytes.fromhex(di)[::-1]
    except ValueError:
        wire = b""
    if len(wire) * 2 != digits or len(di) != digits:
        raise ConfigError(f'"{di}" is no identifier of DL/T 645-{variant}: it has {digits} hexadecimal digits')
    return di.upper(), wire


def address_matches(asked: str, given: str) -> bool:
    """True where a frame from `given` can answer a question to `asked`, in which pairs AA stand for any digits."""
    return asked == given or all(asked[at : at + 2] in ("AA", given[at : at + 2]) for at in range(0, 12, 2))


@lru_cache(maxsize=8192)  # a fleet asks the same few thousand questions again and again
def _form(address: str, control: int, data: bytes, preamble: int) -> tuple[str, bytes, bytes]:
    """The address in its normal form; the request; how the good reply begins that no further frame follows."""
    address = normal_address(address)
    frame = encode(address, control, data)
    return address, b"\xfe" * preamble + frame, frame[:8] + bytes((control | REPLY,))


@dataclass(slots=True, unsafe_hash=True)  # never changed; frozen would cost more than all its fields
class Data:
    """One frame of an answer: `data` without identifier and sequence; `more` where the next frame must be asked for."""

    address: str
    di: str
    data: bytes
    more: bool = False
    sequence: int = 0


class _Question[Answer]:
    """What all questions share: the search for the one frame that is the reply, and what to say where none came."""

    protocol = "dlt645"
    before = b""
    behind = b""
    after_silence = False

    foreign = 0
    reply_bytes = 0
    _stray = 0
    _echoed = False
    _framer: Framer | None = None
    _other: Frame | None = None
    _heard = b""

    def __init__(self, address: str, control: int, data: bytes, what: str, variant: Variant, preamble: int) -> None:
        self.meter, self.request, self._good = _form(address, control, data, preamble)
        self.variant = variant
        self._control = control
        self._what = what

    @property
    def address(self) -> str:
        """Whom it asks, in the normal form."""
        return self.meter

    def feed(self, data: bytes) -> Answer | None:
        """See `Exchange.feed`; heart-beats (C = 80), echoes and frames of others are skipped."""
        self._heard = (self._heard + data)[-512:]
        self._stray += len(data.translate(None, _NOISE))
        if self._framer is None:
            self._framer = Framer()
        for frame in self._framer.feed(data):
            self._stray -= len(frame.raw.translate(None, _NOISE))
            if not frame.is_reply:
                self._echoed = self._echoed or self.request.endswith(frame.raw)
                self.foreign += not self.request.endswith(frame.raw)
            elif frame.function != self._control or not address_matches(self.address, frame.address):
                self.foreign += 1
                if frame.function:
                    self._other = frame
            elif frame.is_error:
                raise _refusal(frame, self._what, self.variant)
            elif (answer := self._answer(frame)) is not None:
                if len(self._heard) > len(frame.raw):
                    self.before, _, self.behind = self._heard.partition(frame.raw)
                return answer
            else:
                self.foreign += 1
                self._other = frame
        return None

    @abstractmethod
    def _answer(self, frame: Frame) -> Answer | None:
        """The answer in a good reply of the meter that was asked; None where it belongs to another question."""

    def fits(self, data: bytes) -> bool:
        """See `Exchange.fits`."""
        return any(
            frame.is_reply
            and frame.function == self._control
            and not frame.is_error
            and address_matches(self.address, frame.address)
            and self._answer(frame) is not None
            for frame in Framer().feed(data)
        )

    def silence(self) -> MeterError:
        """See `Exchange.silence`."""
        if self._other is not None:
            other = self._other.address
            edition: Variant = "1997" if self.variant == "2007" else "2007"
            if address_matches(self.address, other) and self._other.function in (READ[edition], READ_NEXT[edition]):
                said = say("dlt645_other_edition", meter=other, edition=edition, question=self._what)
            elif address_matches(self.address, other):
                said = say("dlt645_other_question", meter=self.address, question=self._what)
            else:
                said = say("dlt645_other_meter", other=other, meter=self.address, question=self._what)
            return WrongMeter(said, self._heard)
        if self._stray > 0:
            return FrameError(say("dlt645_damaged", meter=self.address, question=self._what), self._heard)
        only = "dlt645_only_echo" if self._echoed else "dlt645_no_reply"
        return NoReply(say(only, meter=self.address, question=self._what), self._heard)

    def could_be_answered_by(self, other: object) -> bool:
        """See `Exchange.could_be_answered_by`: a refusal names no identifier, so meter and function suffice."""
        return (
            isinstance(other, _Question)
            and self._control == other._control
            and all(
                "AA" in (mine, theirs) or mine == theirs
                for mine, theirs in zip(_pairs(self.address), _pairs(other.address), strict=True)
            )
        )


def _pairs(address: str) -> list[str]:
    return [address[at : at + 2] for at in range(0, 12, 2)]


def _refusal(frame: Frame, what: str, variant: Variant) -> Refused:
    code = frame.data[0] if frame.data else 0
    reasons = listed(map(_reason, error_flags(code, variant))) if code else say("dlt645_reason_none")
    message = say("dlt645_refused", meter=frame.address, question=what, reasons=reasons, code=f"{code:02X}")
    if code & _ABSENT:
        return AbsentRegister(message, frame.raw, code)
    if code & _DENIED:
        return AccessDenied(message, frame.raw, code)
    return Refused(message, frame.raw, code)


def _reason(flag: str) -> Sentence:
    if flag.startswith("bit"):
        return say("dlt645_reason_bit", bit=flag.removeprefix("bit"))
    return say(f"dlt645_reason_{flag}")


class ReadData(_Question[Data]):
    """11 (2007) or 01 (1997): one data item or block; `count` and `at` go with load records (06).

    `at` is the meter's own wall clock. `data_bytes` is how much a good reply holds behind the identifier, where that is
    known; without it the deadline allows for a full frame. Raises ConfigError for a bad address or identifier.
    """

    def __init__(
        self,
        address: str,
        di: str,
        *,
        variant: Variant = "2007",
        count: int | None = None,
        at: datetime | None = None,
        data_bytes: int | None = None,
        preamble: int = 0,
    ) -> None:
        self.di, self._wire = identifier(di, variant)
        extra = b""
        if at is not None and count is None:
            count = 1
        if count is not None:
            if not 1 <= count <= 99:
                raise ConfigError(f"a meter can be asked for 1 to 99 load records at once, not {count}")
            extra = bytes.fromhex(f"{count:02d}")
        if at is not None:
            extra += bytes.fromhex(f"{at:%y%m%d%H%M}")[::-1]
        super().__init__(address, READ[variant], self._wire + extra, self.di, variant, preamble)
        most = MOST_DATA if data_bytes is None else len(self._wire) + data_bytes
        self.reply_bytes = REPLY_PREAMBLE + OVERHEAD + most

    @override
    def feed(self, data: bytes) -> Data | None:
        """See `Exchange.feed`. Bytes that are one good reply and no more but its preamble are nearly all there is."""
        frame = data.lstrip(b"\xfe") if data.startswith(b"\xfe") else data
        size = len(frame)
        if (
            not self._heard
            and frame.startswith(self._good)
            and size >= OVERHEAD
            and size == OVERHEAD + frame[9]
            and frame[-1] == END
            and sum(frame) - frame[-2] - END & 0xFF == frame[-2]
            and (content := frame[10:-2].translate(TAKE)).startswith(self._wire)
        ):
            if size != len(data):
                self.before = data[:-size]
            return Data(self.address, self.di, content[len(self._wire) :])
        return super().feed(data)

    def _answer(self, frame: Frame) -> Data | None:
        if not frame.data.startswith(self._wire):
            return None
        return Data(frame.address, self.di, frame.data[len(self._wire) :], frame.more)


class ReadNext(_Question[Data]):
    """12 (2007, with the sequence number wanted, from 1) or 02 (1997, without): the next frame of a long answer.

    The same number may be asked for again after a lost reply. A refusal means: begin again with `ReadData`.
    """

    def __init__(self, address: str, di: str, sequence: int, *, variant: Variant = "2007", preamble: int = 0) -> None:
        self.di, self._wire = identifier(di, variant)
        if not 1 <= sequence <= 255:
            raise ConfigError(f"frames that follow are numbered 1 to 255, not {sequence}")
        self.sequence = sequence
        self._numbered = variant == "2007"
        data = self._wire + (bytes((sequence,)) if self._numbered else b"")
        what = say("dlt645_frame", di=self.di, number=sequence)
        super().__init__(address, READ_NEXT[variant], data, what, variant, preamble)
        self.reply_bytes = REPLY_PREAMBLE + OVERHEAD + MOST_DATA

    def _answer(self, frame: Frame) -> Data | None:
        part = frame.data[len(self._wire) :]
        if not frame.data.startswith(self._wire):
            return None
        if self._numbered:
            if part[-1:] != bytes((self.sequence,)):
                return None
            part = part[:-1]
        return Data(frame.address, self.di, part, frame.more, self.sequence)


class ReadAddress(_Question[str]):
    """13 (2007 only): the address of the meter on the line, or of the one that fits a pattern with pairs AA."""

    def __init__(self, address: str = WILDCARD, *, preamble: int = 0) -> None:
        super().__init__(address, READ_ADDRESS, b"", say("dlt645_own_address"), "2007", preamble)
        self.reply_bytes = REPLY_PREAMBLE + OVERHEAD + 6

    def _answer(self, frame: Frame) -> str | None:
        return frame.data[::-1].hex().upper() if len(frame.data) == 6 else None


class BroadcastTime(_Question[None]):
    """08: sets the clock of every meter on the line; no meter ever replies, and each may ignore it.

    `at` is the wall clock the meters shall show. Meters obey once a day and only for a few minutes' difference.
    """

    def __init__(self, at: datetime, *, variant: Variant = "2007", preamble: int = 0) -> None:
        data = bytes.fromhex(f"{at:%y%m%d%H%M%S}")[::-1]
        super().__init__(BROADCAST, BROADCAST_TIME, data, say("dlt645_broadcast_time"), variant, preamble)

    def _answer(self, frame: Frame) -> None:
        return None


class LongRead:
    """Joins the frames of a long answer: ask `question()`, give each answer to `take` until that returns the whole.

    After NoReply, FrameError or WrongMeter simply ask `question()` again: it repeats the frame that was lost. After a
    refusal of a following frame call `restart`, because the meter has forgotten where the reader was. No other question
    may go to the same meter in between.
    """

    def __init__(
        self,
        address: str,
        di: str,
        *,
        variant: Variant = "2007",
        count: int | None = None,
        at: datetime | None = None,
        preamble: int = 0,
    ) -> None:
        self._address, self._di, self._variant, self._preamble = address, di, variant, preamble
        self._count, self._at = count, at
        self._parts: list[bytes] = []

    def question(self) -> ReadData | ReadNext:
        """The question for the frame that is still missing."""
        if self._parts:
            return ReadNext(self._address, self._di, len(self._parts), variant=self._variant, preamble=self._preamble)
        return ReadData(
            self._address, self._di, variant=self._variant, count=self._count, at=self._at, preamble=self._preamble
        )

    def take(self, answer: Data) -> bytes | None:
        """Takes the answer to the last question; all data joined once the last frame is in. Raises DecodeError."""
        if answer.sequence != len(self._parts):
            raise DecodeError(
                say("dlt645_out_of_turn", meter=answer.address, number=answer.sequence, di=answer.di), answer.data
            )
        if len(self._parts) == 255 and answer.more:
            raise DecodeError(say("dlt645_endless", meter=answer.address, di=answer.di), answer.data)
        self._parts.append(answer.data)
        return None if answer.more else b"".join(self._parts)

    def restart(self) -> None:
        """Forgets what came, so that the next question is the first one again."""
        self._parts.clear()
