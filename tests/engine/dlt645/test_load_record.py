"""Load records: six classes told apart by length, checksum of their own."""

# ruff: noqa: DTZ001 - a meter's wall clock has no zone
from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_batch_engine.errors import ConfigError, DecodeError
from meter_batch_engine.protocol.dlt645.load_record import (
    CLASSES,
    LoadRecord,
    LoadRequest,
    decode_records,
    decode_request,
    encode_record,
    encode_records,
)

moments = st.datetimes(datetime(2000, 1, 2), datetime(2099, 12, 31)).map(
    lambda one: one.replace(second=0, microsecond=0)
)


@st.composite
def records(draw: st.DrawFn) -> LoadRecord:
    classes = {}
    for number, columns in CLASSES.items():
        if draw(st.booleans()):
            classes[number] = tuple(
                Decimal(draw(st.integers(-limit if signed else 0, limit))).scaleb(-decimals)
                for _, size, decimals, signed in columns
                for limit in (10 ** (2 * size) * (8 if signed else 10) // 10 - 1,)
            )
    return LoadRecord(draw(moments), classes, draw(st.booleans()))


@given(st.lists(records(), max_size=5))
def test_records_come_back_as_they_were_encoded(some: list[LoadRecord]) -> None:
    assert decode_records(encode_records(some)) == some


@given(records(), st.integers(0, 200), st.integers(1, 255))
def test_a_changed_byte_never_passes(record: LoadRecord, place: int, change: int) -> None:
    wire = bytearray(encode_record(record))
    wire[place % len(wire)] ^= change
    with pytest.raises(DecodeError):
        decode_records(bytes(wire))


@given(st.binary(max_size=120))
def test_garbage_raises_only_decode_errors(wire: bytes) -> None:
    with suppress(DecodeError):
        decode_records(b"\xa0\xa0" + wire)


def test_aa_as_data_closes_nothing() -> None:
    record = LoadRecord(datetime(2025, 11, 30, 14, 45), {6: (Decimal("-0.0012"), Decimal("0.0100"))})
    wire = bytearray(encode_record(record))
    assert decode_records(bytes(wire)) == [record]
    assert record.value("demand") == Decimal("-0.0012")
    assert record.value("frequency") is None


@given(st.integers(0, 6), st.integers(1, 99), moments, st.sampled_from(("earliest", "at", "newest")))
def test_a_request_says_what_is_wanted(kind: int, count: int, at: datetime, which: str) -> None:
    wanted = LoadRequest(kind, which, count, at if which == "at" else None)  # type: ignore[arg-type]
    extra = bytes.fromhex(f"{count:02d}")
    if which == "at":
        extra += bytes.fromhex(f"{at:%y%m%d%H%M}")[::-1]
    assert decode_request(wanted.di, extra) == wanted


@pytest.mark.parametrize(
    ("di", "extra"),
    [("06070000", "01"), ("06010001", "01"), ("06010003", ""), ("06010001", "01aa30143011"), ("06010000", "00")],
)
def test_a_request_for_what_does_not_exist_is_none(di: str, extra: str) -> None:
    assert decode_request(di, bytes.fromhex(extra)) is None


def test_a_class_with_too_few_values_is_refused() -> None:
    with pytest.raises(ConfigError, match="class 6"):
        encode_record(LoadRecord(datetime(2025, 1, 1), {6: (Decimal(1),)}))
