"""A virtual wire takes the time that a real one takes, and garbles what talks at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

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
    await asyncio.sleep(0.15)
    expected = (8 + 50) * 10 / 9600 + 0.040
    assert expected <= ear.pieces[0][0] - begun < expected + 0.02
    assert [piece for _, piece in ear.pieces] == [bytes(50)]
    exchange = wire.log.exchanges[0]
    assert exchange.free_at is not None and exchange.free_at - exchange.request_at == pytest.approx(expected, abs=1e-6)


async def test_meters_that_keep_the_gap_of_modbus_begin_after_it(timer: Timer) -> None:
    ear = Ear()
    wire = Wire(Script(Answer("1", b"x", 0.010, after_gap=True)), ear, timer, baud=2400, bits=11)
    wire.send(b"ab")
    await asyncio.sleep(0.08)
    exchange = wire.log.exchanges[0]
    assert exchange.reply_begin is not None
    assert exchange.reply_begin - exchange.request_end == pytest.approx(0.010 + 38.5 / 2400, abs=1e-9)


async def test_a_serial_port_hands_over_bytes_while_they_come(timer: Timer) -> None:
    ear = Ear()
    wire = Wire(Script(Answer("1", bytes(range(40)), 0.0)), ear, timer, baud=9600, piece_bytes=8)
    wire.send(b"?")
    await asyncio.sleep(0.08)
    assert [len(piece) for _, piece in ear.pieces] == [8, 8, 8, 8, 8]
    assert ear.data == bytes(range(40))
    assert ear.pieces[-1][0] - ear.pieces[0][0] == pytest.approx(32 * 10 / 9600, abs=0.01)


async def test_replies_that_overlap_are_joined_by_and(timer: Timer) -> None:
    ear = Ear()
    one, other = b"\xf0" * 10, b"\x3c" * 10
    wire = Wire(Script(Answer("1", one, 0.010), Answer("2", other, 0.010 + 4 * 10 / 9600)), ear, timer, baud=9600)
    wire.send(b"?")
    await asyncio.sleep(0.06)
    assert ear.data == b"\xf0" * 4 + b"\x30" * 6 + b"\x3c" * 4
    assert wire.log.collisions == 1 and wire.log.exchanges[0].meters == ["1", "2"]


async def test_a_request_during_a_reply_garbles_both(timer: Timer) -> None:
    ear = Ear()
    meters = Script(Answer("1", b"\x55" * 40, 0.0))
    wire = Wire(meters, ear, timer, baud=9600)
    wire.send(b"\xff" * 4)
    await asyncio.sleep(0.02)
    wire.send(b"\x0f" * 8)
    await asyncio.sleep(0.12)
    assert meters.heard[1] != b"\x0f" * 8
    assert b"\x05" * 8 in ear.data[:40]
    first, second = list(wire.log.exchanges)[:2]
    assert first.collided and second.collided and second.violates_gap


async def test_the_log_tells_who_kept_the_silence_and_how_long_the_master_waited(timer: Timer) -> None:
    ear = Ear()
    wire = Wire(Script(Answer("1", bytes(20), 0.005)), ear, timer, baud=19200)
    for wait in (wire.gap_s + 0.010, 0.0, 0.0):
        wire.send(bytes(8))
        while len(ear.pieces) < len(wire.log.exchanges):  # noqa: ASYNC110  # spins to be exact
            await asyncio.sleep(0)
        if wait:
            await asyncio.sleep(wait)
    late, hasty = wire.log.efficiencies()
    assert 0.4 < late < 0.8 and hasty > 1
    assert [one.violates_gap for one in wire.log.exchanges] == [False, False, True]


async def test_a_request_written_in_two_pieces_is_one_request(timer: Timer) -> None:
    wire = Wire(Script(), Ear(), timer, baud=9600)
    wire.send(b"abcd")
    wire.send(b"efgh")
    await asyncio.sleep(0.03)
    assert wire.log.requests == 1 and wire.log.gap_violations == 0
    assert wire.log.exchanges[0].request == b"abcdefgh"


async def test_an_adapter_with_echo_returns_the_request_too(timer: Timer) -> None:
    ear = Ear()
    wire = Wire(Script(Answer("1", b"reply", 0.005)), ear, timer, baud=9600, echo=True)
    wire.send(b"ask")
    await asyncio.sleep(0.05)
    assert ear.data == b"askreply"


async def test_two_late_replies_wait_for_their_turn_on_the_wire(timer: Timer) -> None:
    """A late reply is not lost: it comes while the master may already be asking somebody else."""
    ear = Ear()
    meters = Script(Answer("1", b"late", 0.060))
    wire = Wire(meters, ear, timer, baud=9600)
    wire.send(b"one")
    await asyncio.sleep(0.02)
    meters.answers = ()
    wire.send(b"two")
    await asyncio.sleep(0.08)
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
