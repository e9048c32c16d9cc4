"""A question takes its own reply and nothing else, and says in plain words why none came."""

# ruff: noqa: DTZ001 - a meter's wall clock has no zone
from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_batch_engine.errors import (
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
from meter_batch_engine.protocol.dlt645.exchange import (
    BroadcastTime,
    Data,
    LongRead,
    ReadAddress,
    ReadData,
    ReadNext,
    address_matches,
    error_flags,
)
from meter_batch_engine.protocol.dlt645.frame import Variant, encode

METER, OTHER = "000012345678", "000000000009"
ENERGY = bytes.fromhex("0000010045230100")
REPLY = encode(METER, 0x91, ENERGY)
HEART_BEAT = encode("000000000000", 0x80)


def test_the_request_is_the_published_one() -> None:
    assert ReadData(METER, "00010000", preamble=4).request.hex() == "fefefefe6878563412000068110433333433c616"
    at = datetime(2025, 11, 30, 14, 45)
    load = ReadData("020406081357", "06000001", count=1, at=at)
    assert load.request.hex() == "6857130806040268110a343333393478476344582e16"
    assert ReadNext("020406081357", "0001FF00", 2).request.hex() == "6857130806040268120533323433356616"
    assert ReadData("123456789012", "9010", variant="1997").request.hex() == "6812907856341268010243c38f16"
    assert ReadAddress(preamble=4).request.hex() == "fefefefe68aaaaaaaaaaaa681300df16"


@given(st.lists(st.integers(0, 60), max_size=6), st.booleans(), st.booleans())
def test_the_reply_is_found_after_echo_heart_beat_and_noise(cuts: list[int], echo: bool, beat: bool) -> None:
    question = ReadData(METER, "00010000", preamble=4)
    stream = question.request * echo + HEART_BEAT * beat + b"\x00\xfe\xfe" + REPLY
    places = sorted({cut % len(stream) for cut in cuts} | {0})
    answers = [question.feed(stream[a:b]) for a, b in zip(places, [*places[1:], len(stream)], strict=True)]
    assert answers[-1] == Data(METER, "00010000", ENERGY[4:])
    assert set(answers[:-1]) <= {None}
    assert question.foreign == beat


@pytest.mark.parametrize(("mine", "theirs", "control"), [("2007", "1997", 0x81), ("1997", "2007", 0x91)])
def test_a_meter_that_speaks_the_other_edition_is_called_so(mine: Variant, theirs: str, control: int) -> None:
    question = ReadData(METER, "00010000" if mine == "2007" else "9010", variant=mine)
    assert question.feed(encode(METER, control, ENERGY)) is None
    silence = question.silence()
    assert isinstance(silence, WrongMeter)
    assert f"by the rules of DL/T 645-{theirs}" in str(silence)


def test_garbled_replies_may_be_two_meters_with_one_address() -> None:
    question = ReadData(METER, "00010000")
    question.feed(b"\x68\x12\x34")
    assert "two meters have this address" in str(question.silence())


def test_another_meters_reply_is_no_answer_and_is_named() -> None:
    question = ReadData(METER, "00010000")
    assert question.feed(encode(OTHER, 0x91, ENERGY)) is None
    silence = question.silence()
    assert isinstance(silence, WrongMeter)
    assert OTHER in str(silence)
    assert METER in str(silence)
    assert question.feed(REPLY) == Data(METER, "00010000", ENERGY[4:])


def test_a_reply_to_another_question_is_no_answer() -> None:
    question = ReadData(METER, "00020000")
    assert question.feed(REPLY) is None
    assert isinstance(question.silence(), WrongMeter)
    assert "another question" in str(question.silence())


def test_another_meters_refusal_refuses_nothing() -> None:
    question = ReadData(METER, "00010000")
    assert question.feed(encode(OTHER, 0xD1, b"\x02")) is None
    assert question.feed(encode(METER, 0xD2, b"\x02")) is None


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        (0x02, AbsentRegister, "no such data"),
        (0x04, AccessDenied, "password"),
        (0x06, AbsentRegister, "no such data, wrong password"),
        (0x08, Refused, "baud rate cannot be changed"),
        (0x01, Refused, "another error"),
        (0x00, Refused, "no reason"),
    ],
)
def test_a_refusal_says_every_reason(code: int, error: type[Refused], words: str) -> None:
    with pytest.raises(Refused) as caught:
        ReadData(METER, "00010000").feed(encode(METER, 0xD1, bytes((code,))))
    assert type(caught.value) is error
    assert caught.value.code == code
    assert words in str(caught.value)


def test_every_error_byte_has_names_for_its_bits() -> None:
    for code in range(256):
        assert len(error_flags(code, "2007")) == len(error_flags(code, "1997")) == code.bit_count()


def test_silence_is_told_apart_from_noise_and_echo() -> None:
    quiet = ReadData(METER, "00010000")
    assert type(quiet.silence()) is NoReply
    preambles = ReadData(METER, "00010000")
    preambles.feed(b"\xfe\xfe\x00\xff")
    assert type(preambles.silence()) is NoReply
    echoed = ReadData(METER, "00010000")
    echoed.feed(echoed.request)
    assert type(echoed.silence()) is NoReply
    assert "echo" in str(echoed.silence())
    garbled = ReadData(METER, "00010000")
    garbled.feed(REPLY[:-3] + b"\x55\x55\x16")
    assert type(garbled.silence()) is FrameError
    assert "baud" in str(garbled.silence())
    beaten = ReadData(METER, "00010000")
    beaten.feed(HEART_BEAT)
    assert type(beaten.silence()) is NoReply


def test_a_wildcard_is_answered_by_anyone_and_its_echo_only_where_it_was_asked() -> None:
    wild = ReadData("AAAAAAAAAAAA", "9010", variant="1997")
    assert wild.feed(bytes.fromhex("68aaaaaaaaaaaa68810643c394a53533fa16")) == Data(
        "AAAAAAAAAAAA", "9010", bytes.fromhex("61720200")
    )
    strict = ReadData("000000000075", "9010", variant="1997")
    assert strict.feed(bytes.fromhex("68aaaaaaaaaaaa68810643c394a53533fa16")) is None
    assert address_matches("AAAAAAAAAA78", METER)
    assert not address_matches("AAAAAAAAAA79", METER)


def test_read_address_gives_the_address_in_the_data() -> None:
    assert ReadAddress().feed(bytes.fromhex("fe6812907856341268930645c3ab8967450716")) == "123456789012"


def test_a_broadcast_waits_for_nothing() -> None:
    broadcast = BroadcastTime(datetime(2025, 11, 30, 9, 30, 15))
    assert broadcast.reply_bytes == 0
    assert broadcast.request == encode("999999999999", 0x08, bytes.fromhex("153009301125"))
    assert broadcast.feed(REPLY) is None


def test_the_longest_reply_is_what_a_good_meter_may_send() -> None:
    assert ReadData(METER, "00010000").reply_bytes == 4 + 12 + 200
    assert ReadData(METER, "00010000", data_bytes=4).reply_bytes == 4 + len(REPLY)


def test_a_late_reply_is_feared_only_from_the_same_meter_and_function() -> None:
    asked = ReadData(METER, "00010000")
    assert asked.could_be_answered_by(ReadData(METER, "00020000")), "a refusal names no identifier"
    assert asked.could_be_answered_by(ReadData("AAAAAAAAAAAA", "00010000"))
    assert not asked.could_be_answered_by(ReadData(OTHER, "00010000"))
    assert not asked.could_be_answered_by(ReadNext(METER, "00010000", 1))


@given(st.lists(st.binary(max_size=60), max_size=8))
def test_whatever_arrives_raises_only_meter_errors(chunks: list[bytes]) -> None:
    for question in (ReadData(METER, "00010000"), ReadNext(METER, "0001FF00", 1), ReadAddress()):
        for chunk in chunks:
            try:
                question.feed(chunk)
            except MeterError as error:
                assert isinstance(error, Refused)  # noqa: PT017
        assert isinstance(question.silence(), MeterError)


@given(
    st.binary(max_size=8),
    st.sampled_from((0x91, 0xB1, 0xD1, 0x92, 0xB2, 0xD2, 0x93, 0x80, 0xFF)),
    st.sampled_from((METER, OTHER)),
)
def test_any_valid_frame_gives_an_answer_or_a_refusal_or_is_skipped(data: bytes, control: int, sender: str) -> None:
    for question in (ReadData(METER, "00010000"), ReadNext(METER, "00010000", 1), ReadAddress()):
        try:
            answer = question.feed(encode(sender, control, data))
        except Refused:
            assert control & 0x40
        else:
            assert answer is None or sender == METER or isinstance(question, ReadAddress)


def test_a_question_that_cannot_be_asked_says_why() -> None:
    with pytest.raises(ConfigError, match="8 hexadecimal digits"):
        ReadData(METER, "9010")
    with pytest.raises(ConfigError, match="4 hexadecimal digits"):
        ReadData(METER, "00010000", variant="1997")
    with pytest.raises(ConfigError, match="12 digits"):
        ReadData("12", "00010000")
    with pytest.raises(ConfigError, match="1 to 99"):
        ReadData(METER, "06010000", count=100)


def test_a_long_answer_is_joined_and_a_lost_frame_asked_for_again() -> None:
    wire = bytes.fromhex("00ff0100")
    long = LongRead(METER, "0001FF00")
    first = long.question().feed(encode(METER, 0xB1, wire + b"\x01"))
    assert first is not None
    assert long.take(first) is None
    lost = long.question()
    assert isinstance(lost, ReadNext)
    assert lost.feed(encode(METER, 0x92, wire + b"\x02\x02")) is None, "another sequence number"
    again = long.question()
    assert again.request == lost.request
    second = again.feed(encode(METER, 0xB2, wire + b"\x02\x01"))
    assert second is not None
    assert long.take(second) is None
    last = long.question().feed(encode(METER, 0x92, wire + b"\x03\x02"))
    assert last is not None
    assert long.take(last) == b"\x01\x02\x03"


def test_a_long_answer_begins_again_after_a_refusal() -> None:
    long = LongRead(METER, "0001FF00")
    first = long.question().feed(encode(METER, 0xB1, bytes.fromhex("00ff010001")))
    assert first is not None
    long.take(first)
    with pytest.raises(AbsentRegister):
        long.question().feed(encode(METER, 0xD2, b"\x02"))
    long.restart()
    assert isinstance(long.question(), ReadData)
    with pytest.raises(DecodeError, match="out of turn"):
        long.take(Data(METER, "0001FF00", b"", True, 3))


_ADDRESSES = st.sampled_from([METER, OTHER, "AAAAAAAAAAAA"])


@given(
    preamble=st.integers(0, 6),
    sender=_ADDRESSES,
    asked=_ADDRESSES,
    control=st.sampled_from([0x91, 0xB1, 0xD1, 0x92, 0x11, 0x81]),
    di=st.sampled_from(["00010000", "00020000"]),
    rest=st.binary(max_size=12),
    flip=st.integers(-1, 40),
    tail=st.sampled_from([b"", b"\x00", REPLY]),
)
def test_a_reply_means_the_same_in_one_piece_and_byte_by_byte(preamble, sender, asked, control, di, rest, flip, tail):
    data = bytearray(b"\xfe" * preamble + encode(sender, control, bytes.fromhex(di)[::-1] + rest) + tail)
    if 0 <= flip < len(data):
        data[flip] ^= 0x10

    def heard(pieces):
        question = ReadData(asked, "00010000")
        try:
            for number, piece in enumerate(pieces, 1):
                if (answer := question.feed(piece)) is not None:
                    return answer, question.before, sum(map(len, pieces[:number]))
        except Refused as refusal:
            return type(refusal), refusal.code
        return type(question.silence())

    whole, parts = heard([bytes(data)]), heard([bytes((one,)) for one in data])
    # Only what stands behind the reply is heard at once in one piece and never in the other.
    assert whole[:2] == parts[:2] if isinstance(whole, tuple) else whole == parts


def test_equal_questions_share_nothing_that_changes():
    first, second = ReadData(METER, "00010000"), ReadData(METER, "00010000")
    assert first.request == second.request
    assert first.feed(REPLY[:5]) is None and second.feed(REPLY) == Data(METER, "00010000", ENERGY[4:])
    assert first.feed(REPLY[5:]) == Data(METER, "00010000", ENERGY[4:])
