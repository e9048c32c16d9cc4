"""A line: one half-duplex medium, one exchange at a time.

The line keeps the silences that the wire demands, ends a reply when it is whole, gives up when a reply is overdue, and
makes sure that a reply that comes after all never answers the next question. Longer than most modules: it is one state
machine, and its parts (pacing, deadline, echo, late replies) decide together. What every exchange passes through is
written out in few calls, because it is most of what a fleet costs; what is rare has functions of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from heapq import merge
from operator import itemgetter
from typing import Final

from .errors import ConfigError, FrameError, LineError, LineLost, LineUnavailable, MeterError, NoReply, WrongMeter
from .protocol.exchange import Exchange
from .sentences import say
from .transport import SerialSettings, Transport
from .transport.alarm import Alarm, alarm

FRAMINGS = ("rtu", "tcp")
ECHOES = ("auto", "on", "off")

DLT645_GAP_S = 0.020
"""Silence before a DL/T 645 request: meters need it to turn from sending to listening."""
SWITCH_GAP_S = 0.050
"""Silence where the protocol changes, so that meters of the other one have dropped what they took for noise."""
CHUNK_GAP_S = 0.100
"""While a reply is arriving, how long its next piece may take on the way through adapters and networks."""
BABBLE_S = 1.0
"""How long we wait for a line to fall silent before we say that something talks all the time."""
STALL_S = 0.015
"""A timer that is later than this was held up by a busy event loop, so the reply may be waiting in the system."""
ECHOES_TO_LEARN = 3
TRACE = {"rtu": 200, "tcp": 50}
"""How many exchanges a line remembers: half a minute of a wire; over Modbus TCP a line often is one meter alone."""
RECALLED = 20
"""How many reads of a meter's memory it remembers besides: a back-fill would else leave nothing but its own."""

utc_now: Final[Callable[[], datetime]] = partial(datetime.now, UTC)
"""The clock of the machine."""


@dataclass(frozen=True, slots=True)
class LineSettings:
    """How a line is wired; durations in seconds. Raises ConfigError where a value cannot be."""

    baud: int = 9600
    parity: str = "N"
    stop_bits: int = 1
    data_bits: int = 8
    framing: str = "rtu"
    """How Modbus travels: "rtu", or "tcp", which has no wire time and no gap."""
    gap_s: float = 0.0
    """Silence before a request beyond what the protocol demands, for slow adapters and meters."""
    preamble: int = 0
    """FE bytes before DL/T 645 requests on this line."""
    echo: str = "auto"
    """Whether an adapter sends back what we send: "on", "off", or "auto" to find out."""
    late_reply_s: float = 2.0
    """How long after a time-out a reply may still come."""

    def __post_init__(self) -> None:
        self.serial  # noqa: B018  # checks baud, parity and bits
        if self.framing not in FRAMINGS:
            raise ConfigError(f'framing is "{self.framing}"; it may be rtu or tcp')
        if self.echo not in ECHOES:
            raise ConfigError(f'echo is "{self.echo}"; it may be auto, on or off')
        if not 0 <= self.preamble <= 16:
            raise ConfigError(f"preamble is {self.preamble}; it may be 0 to 16 bytes, usually 0 or 4")
        if not 0 <= self.gap_s <= 10 or not 0 <= self.late_reply_s <= 60:
            raise ConfigError("gap_s may be 0 to 10 s and late_reply_s 0 to 60 s")

    @property
    def serial(self) -> SerialSettings:
        """What a serial port needs to know."""
        return SerialSettings(self.baud, self.parity, self.stop_bits, self.data_bits)

    def wire_s(self, count: int) -> float:
        """How long so many bytes are on the wire; 0 on Modbus TCP."""
        if self.framing == "tcp":
            return 0.0
        return count * (1 + self.data_bits + (self.parity != "N") + self.stop_bits) / self.baud

    @property
    def silence_s(self) -> float:
        """t3.5, the silence that separates RTU frames (Modbus over Serial Line V1.02, 2.5.1.1); 0 on Modbus TCP."""
        if self.framing == "tcp":
            return 0.0
        return 38.5 / self.baud if self.baud <= 19200 else 0.00175


@dataclass(slots=True)
class LineCounters:
    """What happened on a line since it was made."""

    exchanges: int = 0
    replies: int = 0
    """Good ones, refusals of the meter included."""
    timeouts: int = 0
    damaged: int = 0
    """Exchanges that ended with bytes but no valid frame."""
    foreign: int = 0
    """Exchanges that ended with a frame of another meter or to another question."""
    late: int = 0
    """Replies that came after their time-out and were dropped."""
    stalls: int = 0
    """Deadlines that were moved because our own event loop was held up."""
    bytes_sent: int = 0
    bytes_received: int = 0
    airtime_s: float = 0.0
    """Time the wire was in use."""


class Reply[Answer]:
    """An answer and its times: `turnround_s` the meter's own part, `duration_s` all of it. Never changed."""

    __slots__ = ("_at", "_line", "answer", "duration_s", "turnround_s")

    def __init__(
        self, answer: Answer, at: datetime | float, turnround_s: float, duration_s: float, line: Line | None = None
    ) -> None:
        """`at`: its last byte; with a line an instant of the line's own seconds."""
        self.answer, self.turnround_s, self.duration_s = answer, turnround_s, duration_s
        self._at, self._line = at, line

    @property
    def at(self) -> datetime:
        """When its last byte came, aware UTC, by the clock as it is set when this is first asked for."""
        at = self._at
        if isinstance(at, datetime):
            return at
        assert self._line is not None
        self._at = made = self._line.at(at)
        return made


@dataclass(slots=True)
class Exchanged:
    """One exchange as it passed on the line; `at` is its end, aware UTC, and it lasted `duration_s`."""

    at: datetime
    meter: str
    request: bytes
    received: bytes
    """All that came between the request and the end, whoever sent it; an echo of the request too."""
    duration_s: float
    problem: str | None
    """Why there is no answer, in words; None where there is one, and for broadcasts."""


class _Asked:
    """The exchange that is under way; one object a line, used again and again."""

    __slots__ = (
        "deadline",
        "echo",
        "exchange",
        "future",
        "latest",
        "may_echo",
        "received",
        "replied",
        "sent_at",
        "sent_end",
    )

    exchange: Exchange[object]
    future: asyncio.Future[object]
    sent_at: float
    sent_end: float
    replied: float
    """When the last bytes came."""
    deadline: float
    latest: float
    """To where bytes that keep coming may move the deadline."""
    received: bytes
    """What came so far."""
    may_echo: bool
    """Whether that can be the echo of the request."""
    echo: int
    """How many bytes of it were the echo."""


class _Ghost:
    """A question whose reply may still come."""

    __slots__ = ("exchange", "gone", "refusal", "since", "until")

    def __init__(self, exchange: Exchange[object], since: float, until: float) -> None:
        self.exchange, self.since, self.until = exchange, since, until
        self.gone = asyncio.Event()
        self.refusal: MeterError | None = None
        """What the late reply was, where it was no answer: a gateway's word that nobody answers is none."""

    def takes(self, data: bytes) -> bool:
        """True once the late reply is complete."""
        try:
            return self.exchange.feed(data) is not None
        except MeterError as refusal:
            self.refusal = refusal
            return True

    def stands_before(self, exchange: Exchange[object]) -> bool:
        return exchange.could_be_answered_by(self.exchange) or self.exchange.could_be_answered_by(exchange)


class Line:
    """One half-duplex medium; several tasks may call `exchange`, and take their turns in the order of their calls."""

    def __init__(
        self,
        transport: Transport,
        settings: LineSettings,
        *,
        now: Callable[[], datetime] = utc_now,
        make_alarm: Callable[[asyncio.AbstractEventLoop], Alarm] = alarm,
    ) -> None:
        self.settings = settings
        self.counters = LineCounters()
        self.on_late: Callable[[Exchange[object], float, MeterError | None], None] = lambda *late: None
        """Told of a reply after its time-out, with the turn-round that it took."""
        self._live: deque[tuple[float, str, bytes, bytes, float, str | None]] = deque(maxlen=TRACE[settings.framing])
        """The trace as it is kept: `Exchanged` is made of it where it is asked for, and this is all that it costs."""
        self._passed = self._live
        """Where what passes now is kept."""
        self._recalled: deque[tuple[float, str, bytes, bytes, float, str | None]] = deque(maxlen=RECALLED)
        """Reads of memories, kept apart."""
        self._transport, self._now, self._make_alarm = transport, now, make_alarm
        self._write = transport.write
        self._busy = False
        """True while a caller has the line."""
        self._queue: deque[asyncio.Future[None]] = deque()
        """Those who wait for it, in the order of their calls."""
        self._open = False
        self._loop: asyncio.AbstractEventLoop
        self._time: Callable[[], float]
        self._alarm: Alarm | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._asked: _Asked | None = None
        self._spare = _Asked()
        self._ghosts: list[_Ghost] = []
        self._quiet_since = 0.0
        self._protocol = ""
        self._gap_s = 0.0
        """The silence that the protocol of the last request demands, and what the settings add to any."""
        self._byte_s, self._added_gap_s = settings.wire_s(1), settings.gap_s
        self._may_echo = settings.framing != "tcp" and settings.echo != "off"
        self._echoes = ECHOES_TO_LEARN if settings.echo == "on" else 0

    @property
    def name(self) -> str:
        """The address of the line, for messages."""
        return self._transport.name

    @property
    def connected(self) -> bool:
        """True from `open` until the connection is lost or closed."""
        return self._open

    @property
    def echoes(self) -> bool:
        """True where requests are known to come back to us."""
        return self._echoes >= ECHOES_TO_LEARN

    @property
    def trace(self) -> list[Exchanged]:
        """The last exchanges, oldest first; their times by the clock as it is set now."""
        return [
            Exchanged(self.at(end), meter, request, received, duration_s, problem)
            for end, meter, request, received, duration_s, problem in merge(
                self._live, self._recalled, key=itemgetter(0)
            )
        ]

    @contextmanager
    def recalling(self) -> Iterator[None]:
        """What passes until the end are reads of a meter's memory, of which fewer are remembered."""
        self._passed = self._recalled
        try:
            yield
        finally:
            self._passed = self._live

    def at(self, instant: float) -> datetime:
        """The time of an instant of the event loop's seconds, aware UTC, by the clock as it is set now."""
        return self._now() - timedelta(seconds=self._time() - instant)

    def forget_trace(self) -> None:
        """Those that come from now on are all of the trace."""
        self._live.clear()
        self._recalled.clear()

    @property
    def expects_late_replies(self) -> bool:
        """True where a reply to an earlier question may still come."""
        return bool(self._ghosts)

    async def open(self) -> None:
        """Opens port or connection. Raises LineUnavailable in plain words."""
        if self._open:
            return
        self._loop = asyncio.get_running_loop()
        # What asyncio's own loops say, without the call between.
        self._time = time.monotonic if type(self._loop).time is asyncio.BaseEventLoop.time else self._loop.time
        await self._transport.open(self._on_bytes, self._on_lost)
        self._write = self._transport.write
        self._ghosts.clear()
        self._protocol = ""
        self._quiet_since = self._time()
        self._open = True

    async def close(self) -> None:
        """Closes; an exchange that is under way ends with LineLost."""
        self._end(LineLost(say("line_closed", line=self.name)))
        await self._transport.close()

    def blocked_s(self, exchange: Exchange[object]) -> float:
        """How long `exchange` would have to wait because a late reply to an earlier question could answer it."""
        now = self._time() if self._open else 0.0
        return max((ghost.until - now for ghost in self._ghosts if ghost.stands_before(exchange)), default=0.0)

    async def exchange[Answer](
        self, exchange: Exchange[Answer], *, turnround_s: float, gap_s: float = 0.0
    ) -> Reply[Answer]:
        """Asks one question and returns the answer; `turnround_s` is how long the meter may think.

        `gap_s` is the least silence that this meter wants before a request.

        The line adds the wire's own time for request and longest reply. Raises MeterError (NoReply, FrameError,
        WrongMeter; Refused and its kind as the meter said) or LineError. A broadcast returns None after `turnround_s`.
        """
        if self._busy:
            await self._take_turn()
        self._busy = True
        try:
            if not self._open:
                raise LineUnavailable(say("line_not_connected", line=self.name))
            if self._ghosts:
                await self._late_replies(exchange)
            gap = (self._gap_s if self._gap_s > gap_s else gap_s) + self._added_gap_s
            if exchange.protocol != self._protocol or (gap and self._quiet_since + gap > self._time()):
                await self._silence(exchange, gap_s)
            request, reply_bytes, byte_s = exchange.request, exchange.reply_bytes, self._byte_s
            self._write(request)
            asked, counters, size = self._spare, self.counters, len(request)
            future: asyncio.Future[Answer] = asyncio.Future(loop=self._loop)
            asked.exchange, asked.future = exchange, future  # type: ignore[assignment]
            asked.sent_at = asked.sent_end = asked.replied = deadline = self._time()
            asked.received, asked.may_echo, asked.echo = b"", self._may_echo, 0
            counters.exchanges += 1
            counters.bytes_sent += size
            if byte_s:
                counters.airtime_s += byte_s * size
                asked.sent_end = deadline = deadline + byte_s * size
                deadline += byte_s * reply_bytes
            self._quiet_since = asked.sent_end
            asked.deadline = deadline = deadline + turnround_s
            # Bytes that keep coming move the deadline, but noise without end must not move it for ever.
            asked.latest = deadline + byte_s * reply_bytes + 10 * CHUNK_GAP_S
            self._asked = asked
            # One timer serves exchange after exchange: it is left alone where it fires early enough, and looks then.
            if self._timer is None or self._timer_at > deadline:
                self._arm(deadline)
            try:
                if not reply_bytes:
                    return await self._pause(asked)  # type: ignore[return-value]
                answer = await future
            except asyncio.CancelledError:
                self._remember(asked)
                self._note(asked, "cancelled")
                raise
            except MeterError as error:
                self._count(error)
                self._note(asked, error.text)
                raise
            except LineError as error:
                self._note(asked, error.text)
                raise
            finally:
                self._asked = None
            counters.replies += 1
            replied, received = asked.replied, asked.received
            duration_s, thought = replied - asked.sent_at, replied - asked.sent_end
            self._passed.append((replied, exchange.meter, request, received, duration_s, None))
            if byte_s:
                thought -= byte_s * (len(received) - asked.echo)
            return Reply(answer, replied, thought if thought > 0 else 0.0, duration_s, self)
        finally:
            if self._queue:
                self._pass_turn()
            else:
                self._busy = False

    # --- whose turn it is

    async def _take_turn(self) -> None:
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if not mine.cancelled():
                self._pass_turn()
            elif mine in self._queue:
                self._queue.remove(mine)
            raise

    def _pass_turn(self) -> None:
        """Gives the line to who waits longest: it stays busy, so that nobody who comes meanwhile is before them."""
        while self._queue:
            following = self._queue.popleft()
            if not following.done():
                following.set_result(None)
                return
        self._busy = False

    # --- before sending

    def _require_open(self) -> None:
        if not self._open:
            raise LineUnavailable(say("line_not_connected", line=self.name))

    async def _late_replies(self, exchange: Exchange[object]) -> None:
        """Waits until no earlier question is left whose reply could be taken for this one's."""
        while True:
            now = self._time()
            self._ghosts = [ghost for ghost in self._ghosts if ghost.until > now]
            ghost = next((ghost for ghost in self._ghosts if ghost.stands_before(exchange)), None)
            if ghost is None:
                return
            try:
                async with asyncio.timeout_at(ghost.until):
                    await ghost.gone.wait()
            except TimeoutError:
                # Bytes that came while our loop was held up are read before the question is forgotten.
                await asyncio.sleep(0)
            self._require_open()

    async def _silence(self, exchange: Exchange[object], least_s: float) -> None:
        """Waits until the line has been silent for long enough. Raises FrameError where it never is."""
        self._gap_s = gap = self.settings.silence_s
        if self.settings.framing != "tcp":
            if exchange.protocol == "dlt645":
                self._gap_s = gap = max(gap, DLT645_GAP_S)
            if self._protocol not in ("", exchange.protocol):
                gap = max(gap, SWITCH_GAP_S)
        gap = max(gap, least_s) + self._added_gap_s
        self._protocol = exchange.protocol
        give_up = self._time() + BABBLE_S + gap
        while (when := self._quiet_since + gap) > (now := self._time()):
            if now > give_up:
                raise FrameError(say("line_never_silent", line=self.name))
            if self._alarm is None:
                self._alarm = self._make_alarm(self._loop)
            await self._alarm.until(when)
            self._require_open()

    async def _pause(self, asked: _Asked) -> Reply[None]:
        """After a question that nobody answers the meters have time to obey."""
        await asyncio.sleep(asked.deadline - self._time())
        self._note(asked, None)
        return Reply(None, self._now(), 0.0, self._time() - asked.sent_at)

    # --- while the reply comes

    def _on_bytes(self, data: bytes) -> None:
        now, size, counters = self._time(), len(data), self.counters
        if self._quiet_since < now:
            self._quiet_since = now
        counters.bytes_received += size
        if self._byte_s:
            counters.airtime_s += self._byte_s * size
        if self._ghosts:
            self._lay_ghosts(data, now)
        asked = self._asked
        if asked is None or asked.future.done():
            return
        asked.replied = now
        asked.received = asked.received + data if asked.received else data
        if asked.may_echo:
            request = asked.exchange.request
            if (
                size < len(request)
                or data.startswith(request)
                or self._echoes >= ECHOES_TO_LEARN
                or asked.received is not data
            ):
                data = self._without_echo(asked, data)
            else:
                asked.may_echo = False
        try:
            answer = asked.exchange.feed(data) if data else None
        except MeterError as refusal:
            asked.future.set_exception(refusal)
            return
        if answer is not None:
            asked.future.set_result(answer)
            return
        missing = asked.exchange.reply_bytes + asked.echo - len(asked.received)
        if missing <= 0 and not asked.may_echo:
            # As much as a whole reply came, and it is none: only what is still on its way is waited for.
            asked.deadline = min(asked.deadline, now + CHUNK_GAP_S)
            self._arm(asked.deadline)
            return
        rest = self._byte_s * max(0, missing)
        asked.deadline = max(asked.deadline, min(now + rest + CHUNK_GAP_S, asked.latest))

    def _lay_ghosts(self, data: bytes, now: float) -> None:
        """Gives what came to the earlier questions too, and forgets those that it answers."""
        for ghost in [ghost for ghost in self._ghosts if ghost.takes(data)]:
            self._ghosts.remove(ghost)
            self.counters.late += 1
            ghost.gone.set()
            turnround_s = max(0.0, now - ghost.since - self._byte_s * ghost.exchange.reply_bytes)
            self.on_late(ghost.exchange, turnround_s, ghost.refusal)

    def _without_echo(self, asked: _Asked, data: bytes) -> bytes:
        """Looks for the request coming back, and cuts it off where the line is known to do that."""
        request, received = asked.exchange.request, asked.received
        begun = len(received) < len(request)
        if not (request.startswith(received) if begun else received.startswith(request)):
            asked.may_echo = False
            return received if self.echoes else data
        if begun:
            return b"" if self.echoes else data
        asked.may_echo = False
        asked.echo = len(request)
        if self.echoes:
            return received[len(request) :]
        self._echoes += 1
        return data

    def _arm(self, when: float) -> None:
        """Makes sure that the one timer of the line fires not later than `when`."""
        if self._timer is not None:
            if self._timer_at <= when:
                return
            self._timer.cancel()
        self._timer, self._timer_at = self._loop.call_at(when, self._on_timer), when

    def _on_timer(self) -> None:
        self._timer = None
        asked = self._asked
        if asked is None or asked.future.done() or not asked.exchange.reply_bytes:
            return
        now = self._time()
        late = now - self._timer_at
        if asked.deadline <= now and late > STALL_S:
            # The loop was busy elsewhere: what arrived meanwhile is read first, and the meter gets the lost time back.
            self.counters.stalls += 1
            asked.deadline = now + late
            asked.latest = max(asked.latest, asked.deadline)
        if asked.deadline > now:
            self._arm(asked.deadline)
            return
        self._remember(asked)
        asked.future.set_exception(asked.exchange.silence())

    # --- afterwards

    def _remember(self, asked: _Asked) -> None:
        if self.settings.late_reply_s and asked.exchange.reply_bytes:
            until = self._time() + self.settings.late_reply_s
            self._ghosts.append(_Ghost(asked.exchange, asked.sent_end, until))

    def _note(self, asked: _Asked, problem: str | None) -> None:
        """Remembers an exchange that brought no answer."""
        exchange, now = asked.exchange, self._time()
        duration_s = now - asked.sent_at
        self._passed.append((now, exchange.meter, exchange.request, asked.received, duration_s, problem))

    def _count(self, error: MeterError) -> None:
        if isinstance(error, NoReply):
            self.counters.timeouts += 1
        elif isinstance(error, FrameError):
            self.counters.damaged += 1
        elif isinstance(error, WrongMeter):
            self.counters.foreign += 1
        else:
            self.counters.replies += 1

    def _on_lost(self, error: LineLost) -> None:
        self._end(error)

    def _end(self, error: LineError) -> None:
        if not self._open:
            return
        self._open = False
        if self._alarm is not None:
            self._alarm.close()
            self._alarm = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for ghost in self._ghosts:
            ghost.gone.set()
        self._ghosts.clear()
        if self._asked is not None and not self._asked.future.done():
            self._asked.future.set_exception(error)
