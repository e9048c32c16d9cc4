"""A wire that takes real time: bytes last bits/baud, it is half duplex, and whoever talks at once is garbled.

The master's bytes pass at the baud rate from the instant they reach the transmitter; meters answer after their
turn-round; replies that overlap are joined by AND, as dominant zeros do on RS-485. Instants are monotonic seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from .timer import Alarms
from .uart import Setting

_FRAME_GAP_CHARS = 1.5
"""More silence than this inside a request means that it was cut in two (Modbus over serial line, 2.5.1.1)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one meter sends back: `turnround_s` after the end of the request, plus the wire's t3.5 if `after_gap`."""

    meter: str
    raw: bytes
    turnround_s: float
    after_gap: bool = False


class Meters(Protocol):
    """All that hangs on a wire."""

    def hear(self, data: bytes, silence_s: float) -> Sequence[Answer]:
        """Takes bytes of the master as they arrived, after a silence; the answers that begin because of them."""


@dataclass(slots=True)
class Exchange:
    """One request on the wire and what followed; instants in monotonic seconds."""

    request_at: float
    """When the request's first byte reached the transmitter."""
    request: bytes
    request_end: float
    silence_s: float
    """How long the wire had been still before the request."""
    violates_gap: bool = False
    """The request began less than 3.5 characters after the byte before it."""
    collided: bool = False
    meters: list[str] = field(default_factory=list)
    reply: bytes = b""
    reply_begin: float | None = None
    free_at: float | None = None
    """When the reply's last bit had passed; None without reply."""
    delivered_at: float | None = None
    """When the reply's last byte was handed to the master's side, which is a little later."""


class WireLog:
    """What passed on a wire, for benches: the newest exchanges, and sums over all of them."""

    def __init__(self, gap_s: float, keep: int = 100_000) -> None:
        self.gap_s = gap_s
        self.exchanges: deque[Exchange] = deque(maxlen=keep)
        self.requests = 0
        self.replies = 0
        self.collisions = 0
        self.gap_violations = 0

    def efficiencies(self) -> list[float]:
        """T / (T + g) of each answered exchange that another request followed.

        T is the time that request, turn-round, reply and the silences of 3.5 characters must take; g is what the
        master waited beyond. Above 1 where it did not keep the silence.
        """
        return [wire / (wire + gap) for wire, gap in self._waits()]

    def _waits(self) -> Iterator[tuple[float, float]]:
        before: Exchange | None = None
        for exchange in self.exchanges:
            if before is not None and before.free_at is not None and not before.collided:
                yield before.free_at - before.request_at + self.gap_s, exchange.request_at - before.free_at - self.gap_s
            before = exchange


@dataclass(slots=True, eq=False)
class _Burst:
    """Bytes that meters put on the wire without a pause, several meters' joined."""

    begin: float
    data: bytearray
    exchange: Exchange
    delivered: int = 0


@dataclass(slots=True)
class _Request:
    begin: float
    end: float
    data: bytearray
    exchange: Exchange
    silence_s: float


class Wire:
    """One pair of wires. `bits` is the length of a character, `deliver` takes what the master's receiver hears.

    `piece_bytes` is how many bytes the receiver gathers before it passes them on; None passes a whole reply at its
    end, as serial servers do. With `echo` the master also hears itself (two-wire adapters without receiver control).
    """

    def __init__(
        self,
        meters: Meters,
        deliver: Callable[[bytes], None],
        timer: Alarms,
        *,
        baud: int,
        bits: int = 10,
        piece_bytes: int | None = None,
        echo: bool = False,
    ) -> None:
        self._meters = meters
        self._deliver = deliver
        self._timer = timer
        self._piece = piece_bytes
        self._echo = echo
        self.byte_s = bits / baud
        self.gap_s = _gap_s(baud)
        self._setting: Setting | None = None
        self.log = WireLog(self.gap_s)
        self._last_end = 0.0
        self._sent_until = 0.0
        self._requests: list[_Request] = []
        self._bursts: list[_Burst] = []

    def send(self, data: bytes, setting: Setting | None = None) -> None:
        """The master's bytes reach the transmitter now; `setting` is how its port is set since."""
        if setting is not None and setting != self._setting:
            self._setting = setting
            self.byte_s, self.gap_s = setting.bits / setting.baud, _gap_s(setting.baud)
        now = self._timer.now()
        begin = max(now, self._sent_until)
        end = begin + len(data) * self.byte_s
        still_since = max([self._last_end, *(self._end(one) for one in self._bursts if one.begin <= begin)])
        silence_s = begin - still_since
        goes_on = silence_s <= _FRAME_GAP_CHARS * self.byte_s and self._sent_until >= still_since
        if goes_on and self.log.exchanges:
            exchange = self.log.exchanges[-1]
            exchange.request += data
            exchange.request_end = end
            silence_s = 0.0
        else:
            exchange = Exchange(now, bytes(data), end, silence_s, violates_gap=silence_s < self.gap_s)
            self.log.exchanges.append(exchange)
            self.log.requests += 1
            self.log.gap_violations += exchange.violates_gap
        request = _Request(begin, end, bytearray(data), exchange, silence_s)
        self._sent_until = end
        self._last_end = max(self._last_end, end)
        for burst in self._bursts:
            self._collide(request, burst)
        self._requests.append(request)
        self._timer.call_at(end, self._request_passed)

    def _request_passed(self) -> None:
        request = self._requests.pop(0)
        heard = bytes(request.data)
        if self._echo:
            self._deliver(heard)
        for answer in self._meters.hear(heard, request.silence_s):
            begin = request.end + answer.turnround_s + (self.gap_s if answer.after_gap else 0.0)
            self._put(begin, answer, request.exchange)

    def _put(self, begin: float, answer: Answer, exchange: Exchange) -> None:
        """A meter begins to talk; what overlaps with others' talk is joined with it."""
        exchange.meters.append(answer.meter)
        new = _Burst(begin, bytearray(answer.raw), exchange)
        for other in [one for one in self._bursts if self._overlap(one.begin, self._end(one), begin, self._end(new))]:
            self._bursts.remove(other)
            self._mark_collision(other.exchange)
            self._mark_collision(exchange)
            new = self._joined(other, new)
        for request in self._requests:
            self._collide(request, new)
        self._bursts.append(new)
        self._bursts.sort(key=lambda one: one.begin)
        self._timer.call_at(self._next_piece(new), partial(self._pass_on, new))

    def _end(self, burst: _Burst) -> float:
        return burst.begin + len(burst.data) * self.byte_s

    def _overlap(self, begin: float, end: float, other_begin: float, other_end: float) -> bool:
        return begin < other_end - self.byte_s / 2 and other_begin < end - self.byte_s / 2

    def _joined(self, one: _Burst, other: _Burst) -> _Burst:
        """Both on one time axis; what was delivered already stays as it was heard."""
        first, second = sorted((one, other), key=lambda burst: burst.begin)
        offset = round((second.begin - first.begin) / self.byte_s)
        data = bytearray(b"\xff" * max(len(first.data), offset + len(second.data)))
        for start, burst in ((0, first), (offset, second)):
            for place, byte in enumerate(burst.data, start):
                if place >= first.delivered:
                    data[place] &= byte
        data[: first.delivered] = first.data[: first.delivered]
        return _Burst(first.begin, data, one.exchange, first.delivered)

    def _collide(self, request: _Request, burst: _Burst) -> None:
        """Where master and meters talk at once, both hear rubbish."""
        if not self._overlap(request.begin, request.end, burst.begin, self._end(burst)):
            return
        self._mark_collision(request.exchange)
        self._mark_collision(burst.exchange)
        offset = round((request.begin - burst.begin) / self.byte_s)
        for place in range(len(request.data)):
            at = offset + place
            if burst.delivered <= at < len(burst.data):
                burst.data[at] &= request.data[place]
                request.data[place] = burst.data[at]

    def _mark_collision(self, exchange: Exchange) -> None:
        if not exchange.collided:
            exchange.collided = True
            self.log.collisions += 1

    def _next_piece(self, burst: _Burst) -> float:
        whole = len(burst.data)
        until = whole if self._piece is None else min(whole, burst.delivered + self._piece)
        return burst.begin + until * self.byte_s

    def _pass_on(self, burst: _Burst) -> None:
        """Hands to the master what has arrived of a burst."""
        if burst not in self._bursts:
            return  # it has been joined with another
        whole = len(burst.data)
        arrived = min(whole, int((self._timer.now() - burst.begin) / self.byte_s + 1e-6))
        if self._piece is not None and arrived < whole:
            arrived -= arrived % self._piece
        if arrived > burst.delivered:
            piece = bytes(burst.data[burst.delivered : arrived])
            burst.delivered = arrived
            self._deliver(piece)
        if arrived < whole:
            self._timer.call_at(self._next_piece(burst), partial(self._pass_on, burst))
        else:
            self._bursts.remove(burst)
            self._finish(burst)

    def _finish(self, burst: _Burst) -> None:
        exchange = burst.exchange
        self._last_end = max(self._last_end, self._end(burst))
        exchange.reply += bytes(burst.data)
        exchange.reply_begin = burst.begin if exchange.reply_begin is None else exchange.reply_begin
        exchange.free_at = self._end(burst)
        exchange.delivered_at = self._timer.now()
        self.log.replies += 1


def _gap_s(baud: int) -> float:
    """The silence between frames. Above 19200 baud the standard fixes it; below it is 3.5 characters of 11 bits."""
    return 38.5 / baud if baud <= 19200 else 0.00175
