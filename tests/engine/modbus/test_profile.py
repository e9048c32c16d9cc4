"""A load profile in Modbus files says on one side what it was told on the other."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_batch_engine.errors import ConfigError, DecodeError
from meter_batch_engine.protocol.modbus.profile import (
    HEADER_WORDS,
    MOST,
    NOT_RECORDED,
    Column,
    Profile,
    ProfileHeader,
    decode_header,
    encode_header,
)

periods = st.sampled_from([60, 300, 900, 1800, 3600, 86_400 // 2])
columns = st.lists(
    st.builds(Column, st.integers(1, 255).map("1-0:{}.8.0".format), st.integers(-6, 3)),
    min_size=1,
    max_size=8,
    unique_by=lambda column: column.obis,
).map(tuple)
profiles = st.builds(Profile, periods, st.integers(1, 4000), st.integers(2, 50_000), columns)
instants = st.integers(0, 2**32 - 1).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))


@given(now=instants, own=st.lists(profiles, max_size=2).map(tuple), padding=st.integers(0, 20))
def test_a_header_comes_back_as_it_was(now: datetime, own: tuple[Profile, ...], padding: int) -> None:
    header = ProfileHeader(now, own)
    words = encode_header(header)
    assert len(words) <= HEADER_WORDS
    assert decode_header(words + (0,) * padding) == header


@given(st.lists(st.integers(0, 0xFFFF), max_size=70), st.booleans())
def test_words_that_are_no_header_are_refused_and_nothing_else_happens(words: list[int], magic: bool) -> None:
    try:
        header = decode_header([0x4D42, 0x4C50, 1, *words] if magic else words)
    except DecodeError:
        return
    assert magic and all(one.columns and 86_400 % one.period_s == 0 for one in header.profiles)


def test_a_header_that_breaks_off_is_refused() -> None:
    words = encode_header(
        ProfileHeader(datetime(2026, 1, 1, tzinfo=UTC), (Profile(900, 366, 1000, (Column("1-0:1.8.0", -2),)),))
    )
    for size in range(len(words)):
        with pytest.raises(DecodeError):
            decode_header(words[:size])
    assert decode_header(words).profiles[0].columns[0] == Column("1-0:1.8.0", -2)


def test_a_header_with_too_many_profiles_cannot_be_made() -> None:
    many = tuple(
        Profile(900, 366, 1000 * n, tuple(Column(f"1-0:{c}.8.0", -2) for c in range(1, 9))) for n in range(1, 5)
    )
    with pytest.raises(ConfigError, match="64"):
        encode_header(ProfileHeader(datetime(2026, 1, 1, tzinfo=UTC), many))


@given(data=st.data(), profile=profiles)
def test_records_come_back_with_their_instants_and_to_the_last_digit(data: st.DataObject, profile: Profile) -> None:
    width = len(profile.columns)
    number = st.one_of(st.integers(0, MOST), st.just(NOT_RECORDED))
    rows = data.draw(
        st.lists(st.lists(number, min_size=width, max_size=width), max_size=121 // profile.words_per_record)
    )
    flat = [number for row in rows for number in row]
    words = struct.unpack(f">{2 * len(flat)}H", struct.pack(f">{len(flat)}I", *flat))
    first_at = datetime(2026, 3, 1, tzinfo=UTC)
    expected = [
        (
            first_at + index * timedelta(seconds=profile.period_s),
            {
                column.obis: number * Decimal(1).scaleb(column.exponent)
                for column, number in zip(profile.columns, row, strict=True)
                if number != NOT_RECORDED
            },
        )
        for index, row in enumerate(rows)
    ]
    assert profile.decode(words, first_at) == [one for one in expected if one[1]]


@given(profile=profiles, day=st.integers(0, 15_000), record=st.integers(0, 1439))
def test_every_instant_of_a_profile_has_one_place_and_no_other_instant_has_it(
    profile: Profile, day: int, record: int
) -> None:
    record %= profile.records_per_day
    at = datetime(2000, 1, 1, tzinfo=UTC) + timedelta(days=day, seconds=record * profile.period_s)
    assert profile.place(at) == (profile.first_file + day, record)
    with pytest.raises(ConfigError, match="has no record"):
        profile.place(at + timedelta(seconds=1))


def test_the_place_is_the_same_in_every_time_zone() -> None:
    profile = Profile(900, 366, 1000, (Column("1-0:1.8.0", -2),))
    at = datetime(2026, 3, 1, 22, 15, tzinfo=UTC)
    assert profile.place(at.astimezone()) == profile.place(at) == (1000 + 9556, 89)


def test_days_before_and_beyond_the_files_have_no_place() -> None:
    profile = Profile(900, 366, 60_000, (Column("1-0:1.8.0", -2),))
    for at in (datetime(1999, 12, 31, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)):
        with pytest.raises(ConfigError, match="has no record"):
            profile.place(at)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_half_a_record_is_refused(size: int) -> None:
    profile = Profile(900, 366, 1000, (Column("1-0:1.8.0", -2), Column("1-0:2.8.0", -2)))
    with pytest.raises(DecodeError, match="no whole number"):
        profile.decode((0,) * size, datetime(2026, 1, 1, tzinfo=UTC))
