"""Virtual meters behave as firmware does: they answer, refuse in one byte, or are silent."""

# ruff: noqa: DTZ001 - a meter's wall clock has no zone
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_batch_engine.errors import AbsentRegister
from meter_batch_engine.protocol.dlt645.exchange import (
    BroadcastTime,
    LongRead,
    ReadAddress,
    ReadData,
    ReadNext,
)
from meter_batch_engine.protocol.dlt645.frame import Variant, encode
from meter_batch_engine.protocol.dlt645.item import decode_item, encode_item
from meter_batch_engine.protocol.dlt645.load_record import LoadRecord, LoadRequest, decode_records
from meter_batch_engine.protocol.dlt645.server import Dlt645Responder

START = datetime(2025, 11, 30)


@dataclass
class Box:
    """A meter whose registers are written down."""

    address: str
    variant: Variant = "2007"
    registers: dict[str, Decimal] = field(default_factory=dict)
    clock: datetime | None = None

    def item(self, di: str) -> bytes | None:
        value = self.registers.get(di)
        return None if value is None else encode_item(di, [value], self.variant)

    def load_records(self, request: LoadRequest) -> Sequence[LoadRecord] | None:
        if request.kind != 4:
            return None
        since = request.at or START
        values = (Decimal("1.00"), Decimal(0), Decimal("-2.50"), Decimal(0))
        return [LoadRecord(since + timedelta(minutes=15 * step), {4: values}) for step in range(request.count)]

    def set_clock(self, at: datetime) -> None:
        self.clock = at


def three_phase(address: str = "000012345678") -> Box:
    registers = {f"0001{tariff:02X}00": Decimal(f"{tariff}.25") for tariff in range(5)}
    registers |= {f"02010{phase}00": Decimal(230 + phase) for phase in (1, 2, 3)}
    return Box(address, "2007", registers)


def read(responder: Dlt645Responder, question: ReadData) -> list[Decimal | None]:
    (reply,) = responder.feed(question.request)
    answer = question.feed(reply.raw)
    assert answer is not None
    values = [one.value for one in decode_item(answer.di, answer.data, question.variant)]
    assert all(value is None or isinstance(value, Decimal) for value in values)
    return values  # type: ignore[return-value]


def test_an_item_and_a_block_are_read_with_preamble() -> None:
    responder = Dlt645Responder([three_phase(), three_phase("000000000009")])
    assert read(responder, ReadData("000012345678", "02010200")) == [Decimal("232.0")]
    assert read(responder, ReadData("000000000009", "0201FF00")) == [Decimal(231), Decimal(232), Decimal(233)]
    assert read(responder, ReadData("000012345678", "0001FF00")) == [Decimal(f"{tariff}.25") for tariff in range(5)]
    (reply,) = responder.feed(ReadData("000012345678", "02010200").request)
    assert reply.address == "000012345678"
    assert reply.raw.startswith(b"\xfe\xfe\xfe\xfe\x68")


def test_an_old_meter_answers_old_questions_only() -> None:
    old = Box("000000000075", "1997", {"9010": Decimal("10793.30"), "9011": Decimal(1), "B611": Decimal(223)})
    responder = Dlt645Responder([old])
    assert read(responder, ReadData("000000000075", "B611", variant="1997")) == [Decimal(223)]
    assert read(responder, ReadData("000000000075", "901F", variant="1997")) == [Decimal("10793.30"), Decimal(1)]
    assert responder.feed(ReadData("000000000075", "00010000").request) == []
    assert responder.feed(ReadAddress().request) == []
    assert Dlt645Responder([three_phase()]).feed(ReadData("000012345678", "9010", variant="1997").request) == []


@pytest.mark.parametrize("asked", ["AAAAAAAAAAAA", "AAAAAAAAAA78", "00001234AA78"])
def test_wildcards_and_shortened_addresses_reach_the_meter(asked: str) -> None:
    responder = Dlt645Responder([three_phase()])
    assert read(responder, ReadData(asked, "02010100")) == [Decimal(231)]
    (reply,) = responder.feed(ReadAddress(asked).request)
    assert ReadAddress(asked).feed(reply.raw) == "000012345678"


def test_two_meters_both_answer_a_wildcard() -> None:
    responder = Dlt645Responder([three_phase(), three_phase("000000000009")])
    assert len(responder.feed(ReadData("AAAAAAAAAAAA", "02010100").request)) == 2


def test_zero_fill_and_wildcard_echo_are_habits_of_some_old_meters() -> None:
    old = Box("123400000075", "1997", {"9010": Decimal(1)})
    short = ReadData("000000000075", "9010", variant="1997").request
    assert Dlt645Responder([old]).feed(short) == []
    assert len(Dlt645Responder([old], zero_fill=True).feed(short)) == 1
    wild = ReadData("AAAAAAAAAAAA", "9010", variant="1997")
    (reply,) = Dlt645Responder([old], wildcard_echo=True).feed(wild.request)
    answer = wild.feed(reply.raw)
    assert answer is not None
    assert answer.address == "AAAAAAAAAAAA"


@pytest.mark.parametrize(
    "request_bytes",
    [
        ReadData("000000000009", "00010000").request,
        ReadData("999999999999", "00010000").request,
        ReadData("000012345678", "00010000").request[:-1],
        ReadData("000012345678", "00010000").request[:-2] + b"\x00\x16",
        encode("000012345678", 0x91, bytes.fromhex("0000010000000000")),
        encode("AAAAAAAAAAAA", 0x14, bytes.fromhex("0101000402000000000000001500")),
        encode("AAAAAAAAAAAA", 0x15, bytes(6)),
        BroadcastTime(START).request,
    ],
    ids=["foreign", "broadcast read", "cut", "checksum", "a reply", "wild write", "write address", "time"],
)
def test_silence_where_firmware_is_silent(request_bytes: bytes) -> None:
    assert Dlt645Responder([three_phase()]).feed(request_bytes) == []


def test_what_the_meter_lacks_is_refused_with_02_and_a_write_with_04() -> None:
    responder = Dlt645Responder([three_phase()])
    question = ReadData("000012345678", "02800002")
    with pytest.raises(AbsentRegister):
        question.feed(responder.feed(question.request)[0].raw)
    (reply,) = responder.feed(encode("000012345678", 0x14, bytes.fromhex("0101000402000000000000001500")))
    assert reply.raw.endswith(encode("000012345678", 0xD4, b"\x04"))


def test_a_broadcast_reaches_every_clock() -> None:
    boxes = [three_phase(), Box("000000000075", "1997")]
    Dlt645Responder(boxes).feed(BroadcastTime(datetime(2025, 11, 30, 9, 30, 15)).request)
    assert [box.clock for box in boxes] == [datetime(2025, 11, 30, 9, 30, 15)] * 2
    Dlt645Responder(boxes).feed(encode("999999999999", 0x08, bytes.fromhex("153099301125")))
    assert boxes[0].clock == datetime(2025, 11, 30, 9, 30, 15), "99 o'clock sets nothing"


def ask(responder: Dlt645Responder, long: LongRead) -> bytes | None:
    question = long.question()
    (reply,) = responder.feed(question.request)
    answer = question.feed(reply.raw)
    assert answer is not None
    return long.take(answer)


@pytest.mark.parametrize("max_data", [200, 40, 9])
def test_a_long_answer_comes_in_frames_of_at_most_the_size_set(max_data: int) -> None:
    responder = Dlt645Responder([three_phase()], max_data=max_data)
    long = LongRead("000012345678", "0001FF00")
    whole = None
    for _ in range(10):
        question = long.question()
        (reply,) = responder.feed(question.request)
        assert len(reply.raw) <= 4 + 12 + max_data
        answer = question.feed(reply.raw)
        assert answer is not None
        if (whole := long.take(answer)) is not None:
            break
    assert whole is not None
    assert len(decode_item("0001FF00", whole, "2007")) == 5


def test_old_meters_follow_without_numbers() -> None:
    old = Box("000000000075", "1997", {f"90{0x10 + at:02X}": Decimal(at) for at in range(5)})
    responder = Dlt645Responder([old], max_data=12)
    long = LongRead("000000000075", "901F", variant="1997")
    while (whole := ask(responder, long)) is None:
        pass
    assert [one.value for one in decode_item("901F", whole, "1997")] == [Decimal(at) for at in range(5)]


def test_load_records_are_cut_at_whole_records() -> None:
    responder = Dlt645Responder([three_phase()])
    at = datetime(2025, 6, 1)
    long = LongRead("000012345678", "06040001", count=20, at=at)
    parts = 1
    while (whole := ask(responder, long)) is None:
        parts += 1
    records = decode_records(whole)
    assert [record.at for record in records] == [at + timedelta(minutes=15 * step) for step in range(20)]
    assert parts == 4, "six records of 32 bytes in a frame"


def test_a_frame_may_be_asked_for_again_but_another_question_loses_the_place() -> None:
    responder = Dlt645Responder([three_phase()], max_data=9)
    first = ReadData("000012345678", "0001FF00")
    responder.feed(first.request)
    one = responder.feed(ReadNext("000012345678", "0001FF00", 1).request)
    assert responder.feed(ReadNext("000012345678", "0001FF00", 1).request) == one
    skipped = ReadNext("000012345678", "0001FF00", 3)
    with pytest.raises(AbsentRegister):
        skipped.feed(responder.feed(skipped.request)[0].raw)
    responder.feed(ReadData("000012345678", "02010100").request)
    lost = ReadNext("000012345678", "0001FF00", 2)
    with pytest.raises(AbsentRegister):
        lost.feed(responder.feed(lost.request)[0].raw)


@given(st.lists(st.binary(max_size=80), max_size=10))
def test_garbage_is_survived_and_the_next_request_answered(chunks: list[bytes]) -> None:
    responder = Dlt645Responder([three_phase(), Box("000000000075", "1997", {"9010": Decimal(1)})], max_data=9)
    for chunk in chunks:
        responder.feed(chunk)
    assert any(
        reply.raw.endswith(encode("000012345678", 0x91, bytes.fromhex("000101021023")))
        for reply in responder.feed(ReadData("000012345678", "02010100").request)
    )


@given(
    st.sampled_from(("000012345678", "000000000075", "AAAAAAAAAAAA", "999999999999")),
    st.integers(0, 0x7F),
    st.binary(max_size=20),
)
def test_every_request_gets_a_reply_of_its_own_function_or_silence(address: str, control: int, data: bytes) -> None:
    responder = Dlt645Responder([three_phase(), Box("000000000075", "1997", {"9010": Decimal(1)})], max_data=9)
    for reply in responder.feed(encode(address, control, data)):
        raw = reply.raw.removeprefix(b"\xfe" * 4)
        assert raw[8] & 0x80
        assert raw[8] & 0x1F == control & 0x1F
