"""The framer finds every frame, whatever stands between them and however the bytes are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_batch_engine.errors import ConfigError
from meter_batch_engine.protocol.dlt645.frame import Frame, Framer, encode, normal_address

digits = st.text("0123456789", min_size=12, max_size=12)
pairs = st.integers(0, 99).map(lambda number: int(f"{number:02d}", 16))
# What meters send is decimal digits, marks of load records, and FF for what is not fitted.
honest = st.lists(pairs | st.sampled_from((0xAA, 0xA0, 0xE5, 0xFF)), max_size=200).map(bytes)
frames = st.tuples(digits, st.integers(0, 255), honest)
noise = st.lists(st.sampled_from((0xFE, 0x00, 0xAA, 0xFF, 0x0D)), max_size=12).map(bytes)


def pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(stream) + 1) for cut in cuts} | {0, len(stream)})
    return [stream[a:b] for a, b in pairwise(places)]


@given(frames)
def test_a_frame_comes_back_as_it_was_encoded(frame: tuple[str, int, bytes]) -> None:
    raw = encode(*frame)
    assert Framer().feed(raw) == [Frame(*frame, raw)]


@given(st.lists(st.tuples(noise, frames), min_size=1, max_size=4), st.lists(st.integers(0, 2000), max_size=8))
def test_no_frame_is_lost_between_noise_and_cuts(
    items: list[tuple[bytes, tuple[str, int, bytes]]], cuts: list[int]
) -> None:
    stream = b"".join(before + encode(*frame) for before, frame in items)
    framer = Framer()
    found = [frame for piece in pieces(stream, cuts) for frame in framer.feed(piece)]
    assert [(one.address, one.control, one.data) for one in found] == [frame for _, frame in items]


@given(st.binary(max_size=600), st.lists(st.integers(0, 700), max_size=10))
def test_where_the_bytes_are_cut_changes_nothing(stream: bytes, cuts: list[int]) -> None:
    # Bytes near the marks make half-frames likely.
    stream = stream.translate(bytes((0x68, 0x16)[value % 2] if value < 120 else value for value in range(256)))
    whole = Framer().feed(stream)
    framer = Framer()
    assert [frame for piece in pieces(stream, cuts) for frame in framer.feed(piece)] == whole


@given(frames, st.integers(0, 210), frames)
def test_half_a_frame_never_hides_the_next_one(
    broken: tuple[str, int, bytes], kept: int, good: tuple[str, int, bytes]
) -> None:
    half = encode(*broken)
    framer = Framer()
    framer.feed(half[: min(kept, len(half) - 1)])
    assert [frame.raw for frame in framer.feed(encode(*good))][-1:] == [encode(*good)]


@given(frames, st.integers(0, 10_000), st.integers(1, 255))
def test_a_changed_byte_is_never_taken_for_the_frame(frame: tuple[str, int, bytes], place: int, change: int) -> None:
    raw = bytearray(encode(*frame))
    raw[place % len(raw)] ^= change
    assert bytes(raw) not in [one.raw for one in Framer().feed(bytes(raw))]


def test_two_glued_frames_are_both_given_even_where_a_damaged_length_swallows_the_second() -> None:
    good = encode("000000000012", 0x91, bytes.fromhex("0000010045230100"))
    damaged = bytearray(good)
    damaged[9] = 0xFF
    assert [frame.raw for frame in Framer().feed(good + good)] == [good, good]
    assert [frame.raw for frame in Framer().feed(bytes(damaged) + good)] == [good]


def test_endless_noise_is_not_kept() -> None:
    framer = Framer()
    start = bytes.fromhex("68112233445566 68 91 ff".replace(" ", ""))
    for _ in range(500):
        assert framer.feed(start) == []
    assert len(framer._buffer) <= 267


@pytest.mark.parametrize("text", ["12", "1.23E+11", "00000000001G", "", "0000000000123"])
def test_what_is_no_address_is_refused_with_the_form_it_should_have(text: str) -> None:
    with pytest.raises(ConfigError, match="12 digits"):
        normal_address(text)


def test_a_frame_of_more_than_255_bytes_cannot_be_made() -> None:
    with pytest.raises(ConfigError, match="255"):
        encode("000000000001", 0x91, bytes(256))
