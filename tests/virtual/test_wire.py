"""A virtual wire takes the time that a real one takes, and garbles what talks at once."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
import pytest_asyncio

from meter_batch_virtual.timer import Timer
from meter_batch_virtual.wire import Answer, Wire


class Script:
    """Meters that answer every request with the same answers."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = answers
        self.heard: list[bytes] = []

    def hear(self, data: bytes, silence_s: float) -> Sequence[Answer]:
        self.heard.append(data)
        return self.answers


class Ear:
    """The master's receiver."""

    def __init__(self) -> None:
        self.pieces: list[tuple[float, bytes]] = []

    def __call__(self, data: bytes) -> None:
        self.pieces.append((time.monotonic(), data))

    @property
    def data(self) -> bytes:
        return b"".join(piece for _, piece in self.pieces)


class ManualTimer:
    """The wire's clock in the hands of a test."""

    def __init__(self) -> None:
        self.at = 1000.0
        self.due: list[tuple[float, int, Callable[[], None]]] = []

    def now(self) -> float:
        return self.at

    def call_at(self, when: float, call: Callable[[], None]) -> None:
        heapq.heappush(self.due, (when, len(self.due), call))

    def pass_by(self, seconds: float) -> None:
        until = self.at + seconds
        while self.due and self.due[0][0] <= until:
            self.at, _, call = heapq.heappop(self.due)
            call()
        self.at = until


@pytest.fixture
def manual() -> ManualTimer:
    return ManualTimer()


@pytest_asyncio.fixture
async def timer() -> AsyncIterator[Timer]:
    timer = Timer()
    yield timer
    timer.close()


async def test_a_reply_arrives_after_request_turnround_and_reply_have_taken_their_time(timer: Timer) -> None:
    ear = Ear()
    wire = Wire(Script(Answer("1", bytes(50), 0.040)), ear, timer, baud=9600, bits=10)
    begun = time.monotonic()
    wire.send(bytes(8))
    await asyncio.sleep(0.2)
    expected = (8 + 50) * 10 / 9600 + 0.040
    assert expected <= ear.pieces[0][0] - begun < expected + 0.1
    assert [piece for _, piece in ear.pieces] == [bytes(50)]
    exchange = wire.log.exchanges[0]
    assert exchange.free_at is not None and exchange.free_at - exchange.request_at == pytest.approx(expected, abs=1e-6)


def test_meters_that_keep_the_gap_of_modbus_begin_after_it(manual: ManualTimer) -> None:
    wire = Wire(Script(Answer("1", b"x", 0.010, after_gap=True)), Ear(), manual, baud=2400, bits=11)
    wire.send(b"ab")
    manual.pass_by(0.08)
    exchange = wire.log.exchanges[0]
    assert exchange.reply_begin is not None
    assert exchange.reply_begin - exchange.request_end == pytest.approx(0.010 + 38.5 / 2400, abs=1e-9)


def test_a_serial_port_hands_over_bytes_while_they_come(manual: ManualTimer) -> None:
    ear = Ear()
    wire = Wire(Script(Answer("1", bytes(range(40)), 0.0)), ear, manual, baud=9600, piece_bytes=8)
    wire.send(b"?")
    manual.pass_by(21.5 * 10 / 9600)
    assert ear.data == bytes(range(16)), "20 bytes have passed, two pieces of 8 are handed over"
    manual.pass_by(0.05)
    assert [len(piece) for _, piece in ear.pieces] == [8, 8, 8, 8, 8]
    assert ear.data == bytes(range(40))


def test_replies_that_overlap_are_joined_by_and(manual: ManualTimer) -> None:
    ear = Ear()
    one, other = b"\xf0" * 10, b"\x3c" * 10
    wire = Wire(Script(Answer("1", one, 0.010), Answer("2", other, 0.010 + 4 * 10 / 9600)), ear, manual, baud=9600)
    wire.send(b"?")
    manual.pass_by(0.06)
    assert ear.data == b"\xf0" * 4 + b"\x30" * 6 + b"\x3c" * 4
    assert wire.log.collisions == 1 and wire.log.exchanges[0].meters == ["1", "2"]


def test_a_request_during_a_reply_garbles_both(manual: ManualTimer) -> None:
    ear = Ear()
    meters = Script(Answer("1", b"\x55" * 40, 0.0))
    wire = Wire(meters, ear, manual, baud=9600)
    wire.send(b"\xff" * 4)
    manual.pass_by(0.02)
    meters.answers = ()
    wire.send(b"\x0f" * 8)
    manual.pass_by(0.12)
    assert meters.heard[1] == b"\x05" * 8
    assert ear.data.count(b"\x05") == 8 and len(ear.data) == 40
    first, second = wire.log.exchanges
    assert first.collided and second.collided and second.violates_gap


def test_the_log_tells_who_kept_the_silence_and_how_long_the_master_waited(manual: ManualTimer) -> None:
    wire = Wire(Script(Answer("1", bytes(20), 0.005)), Ear(), manual, baud=19200)
    lasts_s = 28 * 10 / 19200 + 0.005
    for wait_s in (wire.gap_s + 0.010, 1.0001 * wire.gap_s, 0.5 * wire.gap_s, 0.0):
        wire.send(bytes(8))
        manual.pass_by(lasts_s + wait_s)
    late, exact, hasty = wire.log.efficiencies()
    whole_s = lasts_s + wire.gap_s
    assert late == pytest.approx(whole_s / (whole_s + 0.010))
    assert exact == pytest.approx(1, abs=1e-4) and hasty > 1
    assert [one.violates_gap for one in wire.log.exchanges] == [False, False, False, True]
    assert wire.log.gap_violations == 1


def test_a_request_written_in_two_pieces_is_one_request(manual: ManualTimer) -> None:
    wire = Wire(Script(), Ear(), manual, baud=9600)
    wire.send(b"abcd")
    manual.pass_by(4 * 10 / 9600 + 0.001)
    wire.send(b"efgh")
    manual.pass_by(0.03)
    assert wire.log.requests == 1 and wire.log.gap_violations == 0
    assert wire.log.exchanges[0].request == b"abcdefgh"


def test_an_adapter_with_echo_returns_the_request_too(manual: ManualTimer) -> None:
    ear = Ear()
    wire = Wire(Script(Answer("1", b"reply", 0.005)), ear, manual, baud=9600, echo=True)
    wire.send(b"ask")
    manual.pass_by(0.05)
    assert ear.data == b"askreply"


def test_a_late_reply_comes_while_the_master_is_already_asking_somebody_else(manual: ManualTimer) -> None:
    ear = Ear()
    meters = Script(Answer("1", b"late", 0.060))
    wire = Wire(meters, ear, manual, baud=9600)
    wire.send(b"one")
    manual.pass_by(0.02)
    meters.answers = ()
    wire.send(b"two")
    manual.pass_by(0.08)
    assert ear.data == b"late"
    assert [one.violates_gap for one in wire.log.exchanges] == [False, False]


async def test_timers_are_exact_and_in_order(timer: Timer) -> None:
    rung: list[tuple[int, float]] = []
    now = timer.now()
    for number in (3, 1, 2):
        timer.call_at(now + number * 0.004, lambda number=number: rung.append((number, timer.now() - now)))
    await asyncio.sleep(0.03)
    assert [number for number, _ in rung] == [1, 2, 3]
    assert all(at >= number * 0.004 for number, at in rung)
