"""What a client may rely on when it asks a Modbus meter."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_batch_engine.errors import AbsentRegister, ConfigError, FrameError, MeterError, NoReply, Refused, WrongMeter
from meter_batch_engine.protocol.modbus import pdu, rtu, tcp
from meter_batch_engine.protocol.modbus.exchange import Framing, ReadRegisters, WriteRegisters

WORDS = (0x4366, 0x3334, 0, 0xFFFF)
framings = st.sampled_from(["rtu", "tcp"])
quiet_noise = st.lists(st.sampled_from([0x00, 0xFF, 0xFE]), max_size=20).map(bytes)


def frame(framing: Framing, unit: int, body: bytes, transaction: int = 7) -> bytes:
    return rtu.encode(unit, body) if framing == "rtu" else tcp.encode(transaction, unit, body)


def ask(framing: Framing = "rtu", count: int = 4) -> ReadRegisters:
    return ReadRegisters(1, 4, 0x20, count, framing=framing, transaction=7)


def listen(question: ReadRegisters, data: bytes, cuts: list[int] | None = None) -> tuple[int, ...] | None:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts or [])})
    answer = None
    for begin, end in itertools.pairwise(edges):
        assert answer is None, "an answer came before its last byte"
        answer = question.feed(data[begin:end])
    return answer


@given(
    framing=framings,
    words=st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=125),
    before=quiet_noise,
    cuts=st.lists(st.integers(0, 300)),
    echo=st.booleans(),
)
def test_the_reply_is_found_however_the_bytes_are_split(
    framing: Framing, words: list[int], before: bytes, cuts: list[int], echo: bool
) -> None:
    question = ReadRegisters(17, 3, 1000, len(words), framing=framing, transaction=7)
    reply = frame(framing, 17, pdu.read_reply(3, words))
    assert len(reply) == question.reply_bytes
    # MBAP has no checksum, so zeros right before it could be part of it: there are none on TCP.
    heard = (before if framing == "rtu" else b"") + (question.request if echo else b"") + reply
    assert listen(question, heard, cuts) == tuple(words)
    assert question.foreign == 0


@given(noise=st.binary(max_size=60), cuts=st.lists(st.integers(0, 200)))
def test_noise_before_the_reply_does_not_hide_it(noise: bytes, cuts: list[int]) -> None:
    question = ask()
    assert listen(question, noise + frame("rtu", 1, pdu.read_reply(4, WORDS)), cuts) == WORDS


@given(framing=framings, data=st.lists(st.binary(max_size=40), max_size=8))
def test_garbage_raises_only_our_errors(framing: Framing, data: list[bytes]) -> None:
    question = ask(framing)
    try:
        for piece in data:
            question.feed(piece)
    except MeterError:
        return
    assert isinstance(question.silence(), MeterError)


@given(position=st.integers(0, 12), bit=st.integers(0, 7))
def test_a_flipped_bit_is_never_taken_for_an_answer(position: int, bit: int) -> None:
    question = ask()
    damaged = bytearray(frame("rtu", 1, pdu.read_reply(4, WORDS)))
    damaged[position] ^= 1 << bit
    assert listen(question, bytes(damaged)) is None
    assert isinstance(question.silence(), FrameError)


@pytest.mark.parametrize("framing", ["rtu", "tcp"])
def test_replies_of_others_are_skipped_and_counted(framing: Framing) -> None:
    question = ask(framing)
    others = [
        frame(framing, 2, pdu.read_reply(4, WORDS)),
        frame(framing, 1, pdu.read_reply(3, WORDS)),
        frame(framing, 1, pdu.read_reply(4, WORDS[:2])),
        frame(framing, 1, pdu.exception_reply(3, 2)),
    ]
    if framing == "tcp":
        others.append(frame(framing, 1, pdu.read_reply(4, WORDS), transaction=8))
    for other in others:
        assert question.feed(other) is None
    assert question.feed(frame(framing, 1, pdu.read_reply(4, WORDS))) == WORDS
    assert question.foreign == len(others)


@pytest.mark.parametrize("framing", ["rtu", "tcp"])
def test_only_a_foreign_reply_means_the_wrong_meter(framing: Framing) -> None:
    question = ask(framing)
    question.feed(frame(framing, 2, pdu.read_reply(4, WORDS)))
    assert isinstance(question.silence(), WrongMeter)


def test_a_gateway_that_answers_with_another_transaction_is_not_believed() -> None:
    question = ask("tcp")
    assert question.feed(frame("tcp", 1, pdu.read_reply(4, WORDS), transaction=0)) is None
    error = question.silence()
    assert isinstance(error, WrongMeter)
    assert "does not keep transaction numbers" in str(error)
    assert question.foreign == 1


@pytest.mark.parametrize("body", [pdu.read_reply(4, WORDS), pdu.exception_reply(4, 11)])
def test_a_late_reply_to_an_earlier_transaction_is_no_wrong_meter(body: bytes) -> None:
    question = ask("tcp")
    assert question.feed(frame("tcp", 1, body, transaction=6)) is None
    error = question.silence()
    assert isinstance(error, NoReply)
    assert "late one" in str(error)
    assert question.foreign == 0


def test_nobody_is_asked_by_broadcast_on_a_wire() -> None:
    with pytest.raises(ConfigError, match="unit 0"):
        ReadRegisters(0, 4, 0, 2)
    assert ReadRegisters(0, 4, 0, 2, framing="tcp").unit == 0


@pytest.mark.parametrize("framing", ["rtu", "tcp"])
@pytest.mark.parametrize(
    ("code", "error", "says"),
    [
        (1, Refused, "function"),
        (2, AbsentRegister, "no such register"),
        (3, Refused, "number of registers"),
        (6, Refused, "busy"),
        (10, NoReply, "gateway has no path"),
        (11, NoReply, "gateway got no reply"),
        (0x42, Refused, "exception 66"),
    ],
)
def test_an_exception_reply_says_what_it_means(framing: Framing, code: int, error: type[MeterError], says: str) -> None:
    with pytest.raises(error, match=says) as raised:
        ask(framing).feed(frame(framing, 1, pdu.exception_reply(4, code)))
    assert type(raised.value) is error
    if isinstance(raised.value, Refused):
        assert raised.value.code == code


def test_registers_that_spell_an_exception_are_registers() -> None:
    inner = rtu.encode(1, pdu.exception_reply(4, 2)) + b"\0"
    words = pdu.unpack_words(inner, 0, 3)
    question = ask(count=3)
    assert listen(question, frame("rtu", 1, pdu.read_reply(4, words)), list(range(40))) == words


def test_a_refusal_behind_half_a_reply_is_heard_when_time_is_up() -> None:
    question = ask()
    assert question.feed(frame("rtu", 1, pdu.read_reply(4, WORDS))[:6]) is None
    assert question.feed(frame("rtu", 1, pdu.exception_reply(4, 2))) is None
    assert isinstance(question.silence(), AbsentRegister)


def test_silence_and_the_echo_of_the_request_alone_are_no_reply() -> None:
    assert isinstance(ask().silence(), NoReply)
    question = ask()
    assert question.feed(b"\0" + question.request) is None
    error = question.silence()
    assert isinstance(error, NoReply)
    assert "echo" in str(error)


def test_half_a_frame_then_silence_is_a_damaged_frame() -> None:
    question = ask()
    raw = frame("rtu", 1, pdu.read_reply(4, WORDS))[:7]
    question.feed(raw)
    error = question.silence()
    assert isinstance(error, FrameError)
    assert error.raw == raw
    assert "two meters have this unit" in str(error)


@pytest.mark.parametrize(("framing", "other"), [("rtu", "tcp"), ("tcp", "rtu")])
def test_an_answer_in_the_other_framing_is_named(framing: Framing, other: Framing) -> None:
    question = ask(framing)
    question.feed(frame(other, 1, pdu.exception_reply(4, 1)))
    assert "framing" in str(question.silence())


def test_a_late_reply_is_a_danger_where_unit_and_function_are_the_same() -> None:
    assert ask().could_be_answered_by(ask())
    assert ask().could_be_answered_by(ReadRegisters(1, 4, 0, 9))
    assert not ask().could_be_answered_by(ReadRegisters(2, 4, 0x20, 4))
    assert not ask().could_be_answered_by(ReadRegisters(1, 3, 0x20, 4))
    assert not ask("tcp").could_be_answered_by(ReadRegisters(1, 4, 0x20, 4, framing="tcp", transaction=6))


def test_a_write_is_acknowledged_by_its_address_and_count() -> None:
    question = WriteRegisters(1, 22, (0x3F80, 0))
    assert question.request.hex() == "011000160002043f8000007f75"
    assert question.feed(frame("rtu", 1, pdu.write_reply(23, 2))) is None
    assert question.feed(frame("rtu", 1, pdu.write_reply(22, 2))) == 2


@pytest.mark.parametrize(
    ("unit", "function", "address", "count"),
    [(256, 3, 0, 1), (1, 5, 0, 1), (1, 3, 0, 126), (1, 3, 65535, 2), (1, 3, 0, 0)],
)
def test_what_modbus_cannot_ask_is_refused_before_it_is_sent(
    unit: int, function: int, address: int, count: int
) -> None:
    with pytest.raises(ConfigError):
        ReadRegisters(unit, function, address, count)


def test_noise_full_of_beginnings_is_looked_at_once() -> None:
    checked = 0

    class Counted(ReadRegisters):
        def _is_reply(self, data: bytes | bytearray, start: int) -> bool:
            nonlocal checked
            checked += 1
            return super()._is_reply(data, start)

    question = Counted(1, 3, 0, 125)
    noise = bytes((1, 3, 250)) * 1000
    for start in range(0, len(noise), 8):
        assert question.feed(noise[start : start + 8]) is None
    assert checked <= 1000
    words = tuple(range(125))
    assert question.feed(frame("rtu", 1, pdu.read_reply(3, words))) == words


@pytest.mark.parametrize("framing", ["rtu", "tcp"])
def test_equal_questions_share_nothing_that_changes(framing: Framing) -> None:
    reply = frame(framing, 1, pdu.read_reply(4, WORDS))
    first, second = ask(framing), ask(framing)
    assert first.request == second.request
    assert first.feed(reply[:5]) is None
    assert second.feed(reply) == WORDS
    assert first.feed(reply[5:]) == WORDS
    assert ReadRegisters(1, 4, 0x20, 4, framing="tcp", transaction=8).request[:2] == b"\x00\x08"
