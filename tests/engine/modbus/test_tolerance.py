"""What gateways and meters do wrong and a reader can live with: numbers that do not come back, two replies, rubbish."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_batch_engine.errors import MeterBatchError, MeterError, Refused, WrongMeter
from meter_batch_engine.protocol.modbus import pdu, rtu, tcp
from meter_batch_engine.protocol.modbus.exchange import ReadRegisters

WORDS = (2300, 2301, 2302)
OTHER = (9, 8, 7)


def reply(words: tuple[int, ...] = WORDS, unit: int = 5) -> bytes:
    return rtu.encode(unit, pdu.read_reply(3, words))


def tcp_reply(number: int, words: tuple[int, ...] = WORDS, unit: int = 5) -> bytes:
    return tcp.encode(number, unit, pdu.read_reply(3, words))


def ask(numbers: tcp.Numbers, address: int = 0) -> ReadRegisters:
    return ReadRegisters(5, 3, address, 3, framing="tcp", transaction=numbers.next(), numbers=numbers)


@pytest.mark.parametrize("given_back", [lambda: itertools.repeat(0), lambda: itertools.count(1)])
def test_numbers_that_do_not_come_back_are_believed_after_three_questions(given_back: Callable[[], Any]) -> None:
    numbers = tcp.Numbers()
    given = iter(given_back())
    for _ in range(2):
        question = ask(numbers)
        assert question.feed(tcp_reply(next(given))) is None
        assert isinstance(question.silence(), WrongMeter)
        assert numbers.doubted
        assert numbers.kept
    assert ask(numbers).feed(tcp_reply(next(given))) == WORDS
    assert not numbers.kept
    assert ask(numbers).feed(tcp_reply(next(given))) == WORDS
    with pytest.raises(Refused):
        ask(numbers).feed(tcp.encode(next(given), 5, pdu.exception_reply(3, 2)))


def test_a_gateway_that_is_one_reply_behind_is_never_taken_for_one_that_keeps_no_numbers() -> None:
    numbers = tcp.Numbers()
    before = ask(numbers)
    for _ in range(50):
        question = ask(numbers, 40)
        assert question.feed(tcp_reply(before.transaction)) is None
        before = question
    assert numbers.kept
    assert not numbers.doubted


def test_three_odd_replies_that_do_not_follow_each_other_prove_nothing() -> None:
    numbers = tcp.Numbers()
    for _ in range(10):
        assert ask(numbers).feed(tcp_reply(0)) is None
        good = ask(numbers)
        assert good.feed(tcp_reply(good.transaction)) == WORDS
    assert numbers.kept


def test_while_numbers_are_doubted_late_replies_are_waited_for_as_on_a_wire() -> None:
    numbers = tcp.Numbers()
    first = ask(numbers)
    assert not ask(numbers, 40).could_be_answered_by(first)
    doubted = ask(numbers)
    doubted.feed(tcp_reply(0))
    assert ask(numbers, 40).could_be_answered_by(doubted)
    assert not ReadRegisters(6, 3, 0, 3, framing="tcp", numbers=numbers).could_be_answered_by(doubted)


def test_two_different_replies_that_could_both_be_meant_are_none() -> None:
    question = ReadRegisters(5, 3, 0, 3)
    with pytest.raises(WrongMeter):
        question.feed(reply() + reply(OTHER))
    assert ReadRegisters(5, 3, 0, 3).feed(reply() + reply()) == WORDS
    assert ReadRegisters(5, 3, 0, 3).feed(reply() + reply(OTHER, unit=6)) == WORDS


def test_where_an_earlier_reply_may_still_come_the_last_of_two_counts() -> None:
    question = ReadRegisters(5, 3, 0, 3)
    question.after_silence = True
    assert question.feed(reply(OTHER) + reply()) == WORDS


@given(before=st.binary(max_size=40), cuts=st.lists(st.integers(1, 60), max_size=6), after=st.binary(max_size=20))
def test_what_stands_beside_a_reply_is_told_and_changes_nothing(before: bytes, cuts: list[int], after: bytes) -> None:
    question = ReadRegisters(5, 3, 0, 3)
    whole = before + reply() + after
    pieces = [whole[a:b] for a, b in itertools.pairwise([0, *sorted({cut for cut in cuts if cut < len(whole)}), None])]
    answer = None
    for piece in pieces:
        try:
            answer = question.feed(piece)
        except MeterError:
            return  # the rubbish was a frame by chance
        if answer is not None:
            break
    assert answer == WORDS
    assert question.before.endswith(before) or question.request in before
    assert after.startswith(question.behind)


@given(
    data=st.lists(st.binary(max_size=30), max_size=8),
    framing=st.sampled_from(["rtu", "tcp"]),
    kept=st.booleans(),
    after_silence=st.booleans(),
)
def test_rubbish_raises_only_our_errors_however_tolerant_a_line_is(
    data: list[bytes], framing: Any, *, kept: bool, after_silence: bool
) -> None:
    numbers = tcp.Numbers()
    numbers.kept = kept
    question = ReadRegisters(5, 3, 0, 3, framing=framing, transaction=numbers.next(), numbers=numbers)
    question.after_silence = after_silence
    try:
        for piece in data:
            question.feed(piece)
        assert isinstance(question.silence(), MeterError)
        question.fits(b"".join(data))
    except MeterBatchError:
        pass


def test_it_is_known_whether_bytes_answer_a_question_whatever_was_fed_before() -> None:
    question = ReadRegisters(5, 3, 0, 3)
    assert question.feed(reply()) == WORDS
    assert question.fits(b"\0" + reply(OTHER))
    assert not question.fits(reply(unit=6))
    assert not question.fits(reply(WORDS[:2]))
