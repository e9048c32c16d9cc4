"""Questions of a scan: they hear every frame on the wire, because who answers late or unasked names itself.

A reply on RTU carries the unit, one of DL/T 645 the meter's address. So a scan need not wait for the slowest meter
before it asks the next: what comes late is put down to whoever sent it, never to whoever is asked now.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

from ..errors import FrameError, MeterError, NoReply, Refused, WrongMeter
from ..protocol.dlt645 import frame as dlt645
from ..protocol.dlt645.exchange import REPLY_PREAMBLE
from ..protocol.modbus import pdu, rtu
from ..protocol.modbus.exchange import ReadRegisters
from ..sentences import Sentence, say

_QUIET = bytes((0x00, 0xFE, 0xFF))
"""Bytes that a line makes when its drivers switch, and preambles: a few are no sign of anybody."""
MOST_IDLE = 4
"""So many of them are no accident: replies that meet may leave nothing but zeros."""
LISTEN_BYTES = 48
"""`beyond` of an ear that wants to hear everybody: room for two more replies."""


class Ear[Frame]:
    """One question, an `Exchange`; `heard` is told of every frame that anybody sends.

    It ends with the first reply; with `beyond` it listens on until its time is up, long enough for so many bytes more.
    """

    def __init__(
        self,
        protocol: str,
        meter: str,
        request: bytes,
        reply_bytes: int,
        heard: Callable[[Frame], None],
        beyond: int | None,
    ) -> None:
        self.protocol, self.meter, self.request = protocol, meter, request
        self.beyond = beyond or 0
        self.reply_bytes = reply_bytes + self.beyond
        self.before = self.behind = b""
        self.after_silence = False
        self.frames: list[Frame] = []
        """What was heard while this question was under way, and later."""
        self.received = b""
        self._heard, self._all = heard, beyond is not None
        self._stray = self._idle = 0
        """Bytes that are no part of a frame; the second such as a line makes by itself."""

    @property
    def damaged(self) -> bool:
        """True where bytes came that are no part of a frame, so more than one may have talked at once."""
        return self._stray > 0 or self._idle >= MOST_IDLE

    def feed(self, data: bytes) -> Frame | None:
        """See `Exchange.feed`: the first frame that answers, but None for ever where all shall be heard."""
        self.received = (self.received + data)[-512:]
        self._count(data, 1)
        answer = None
        for frame, raw in self._frames(data):
            self._count(raw, -1)
            if raw == self.request.lstrip(b"\xfe"):
                continue
            self.frames.append(frame)
            self._heard(frame)
            if answer is None and self._answers(frame):
                answer = frame
        return None if self._all else answer

    def silence(self) -> MeterError:
        """See `Exchange.silence`."""
        # The echo of the request may have been damaged by a reply, or is no frame of a meter's side.
        if self._echo_strays and self.request in self.received:
            self._count(self.request, -1)
        if self.damaged:
            return FrameError(self._said("damaged"), self.received)
        if self.frames:
            return WrongMeter(self._said("foreign"), self.received)
        return NoReply(self._said("no_reply"), self.received)

    def fits(self, data: bytes) -> bool:
        """See `Exchange.fits`."""
        del data
        return False

    def could_be_answered_by(self, other: object) -> bool:
        """See `Exchange.could_be_answered_by`: whoever answers names itself."""
        del other
        return False

    def _count(self, data: bytes, sign: int) -> None:
        told = len(data.translate(None, _QUIET))
        self._stray += sign * told
        self._idle += sign * (len(data) - told - data.count(0xFE))

    _echo_strays = False

    @abstractmethod
    def _frames(self, data: bytes) -> list[tuple[Frame, bytes]]: ...

    @abstractmethod
    def _answers(self, frame: Frame) -> bool: ...

    @abstractmethod
    def _said(self, what: str) -> Sentence: ...


class UnitEar(Ear[rtu.RtuFrame]):
    """Is there a Modbus unit? Asks for one register on a wire; a refusal is an answer too."""

    _echo_strays = True

    def __init__(
        self,
        unit: int,
        heard: Callable[[rtu.RtuFrame], None],
        *,
        function: int = pdu.READ_HOLDING,
        beyond: int | None = None,
    ) -> None:
        self.unit, self._function = unit, function
        self._framer = rtu.RtuFramer("client")
        request = rtu.encode(unit, pdu.read_request(function, 0, 1))
        super().__init__("modbus", str(unit), request, 7, heard, beyond)

    def _frames(self, data: bytes) -> list[tuple[rtu.RtuFrame, bytes]]:
        return [(one, one.raw) for one in self._framer.feed(data)]

    def _answers(self, frame: rtu.RtuFrame) -> bool:
        return frame.unit == self.unit and frame.pdu[0] & ~pdu.EXCEPTION == self._function

    def _said(self, what: str) -> Sentence:
        match what:
            case "damaged":
                return say("modbus_damaged", unit=self.unit, count=len(self.received))
            case "foreign":
                return say("modbus_foreign_rtu", unit=self.unit, count=len(self.frames))
            case _:
                return say("modbus_no_reply", unit=self.unit)


class GatewayEar(ReadRegisters):
    """The same on Modbus TCP, where transaction numbers say which question a late reply answers.

    `heard` is told of a reply and of a refusal (with its code), not of a gateway that found nobody.
    """

    def __init__(self, unit: int, heard: Callable[[int, int | None], None], transaction: int) -> None:
        self._told = heard
        super().__init__(unit, pdu.READ_HOLDING, 0, 1, framing="tcp", transaction=transaction)

    def feed(self, data: bytes) -> tuple[int, ...] | None:
        """See `Exchange.feed`."""
        try:
            answer = super().feed(data)
        except Refused as refusal:
            self._told(self.unit, refusal.code)
            raise
        if answer is not None:
            self._told(self.unit, None)
        return answer


class AddressEar(Ear[dlt645.Frame]):
    """Who is on a DL/T 645 line? Any request to an address with pairs AA; every reply names its meter."""

    def __init__(
        self,
        address: str,
        control: int,
        data: bytes,
        reply_data: int,
        heard: Callable[[dlt645.Frame], None],
        *,
        clock: Callable[[], float],
        preamble: int,
        beyond: int,
    ) -> None:
        self._control, self._clock = control, clock
        self.last_at: float | None = None
        """When the last byte came."""
        self._framer = dlt645.Framer()
        request = b"\xfe" * preamble + dlt645.encode(address, control, data)
        reply_bytes = REPLY_PREAMBLE + dlt645.OVERHEAD + reply_data
        super().__init__("dlt645", address, request, reply_bytes, heard, beyond)

    def feed(self, data: bytes) -> None:
        """See `Exchange.feed`."""
        self.last_at = self._clock()
        super().feed(data)

    @property
    def answers(self) -> list[dlt645.Frame]:
        """The replies to this question, whoever sent them."""
        return [one for one in self.frames if self._answers(one)]

    def _frames(self, data: bytes) -> list[tuple[dlt645.Frame, bytes]]:
        return [(one, one.raw) for one in self._framer.feed(data)]

    def _answers(self, frame: dlt645.Frame) -> bool:
        return frame.is_reply and frame.function == self._control

    def _said(self, what: str) -> Sentence:
        question = say("dlt645_own_address")
        match what:
            case "damaged":
                return say("dlt645_damaged", meter=self.meter, question=question)
            case "foreign":
                return say("dlt645_other_question", meter=self.meter, question=question)
            case _:
                return say("dlt645_no_reply", meter=self.meter, question=question)
