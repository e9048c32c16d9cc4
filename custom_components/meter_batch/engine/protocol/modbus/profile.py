"""A load profile in Modbus files: registers that a meter kept at the instants of its clock. Pure, for both sides.

No standard says what files a meter keeps; this layout is that of our virtual meters. The header tells which profiles
there are; each profile keeps one file a day, with one record an instant.

- Header (`HEADER_FILE`, record 0): "MB", "LP", version, the meter's clock (two words: seconds since 1970), number of
  profiles; then for each profile its period in seconds, days kept, first file, number of columns; then for each column
  the C group of its OBIS code and the exponent of ten of its last digit (signed). What follows is zero.
- Day file: `first_file` + days since 2000-01-01 of the meter's clock. Record 0 is 00:00. A record has two words a
  column (unsigned, high word first); FFFFFFFFH was not recorded. A day that is not kept, or not yet, is exception 2.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cached_property

from ...errors import ConfigError, DecodeError
from ...model.obis import Obis
from ...sentences import say

HEADER_FILE = 1
"""The standard's files begin at 1."""
HEADER_WORDS = 64
"""How many words to ask for: all that a header may have; a server fills up with zeros."""
FIRST_DAY = datetime(2000, 1, 1, tzinfo=UTC)
NOT_RECORDED = 0xFFFF_FFFF
MOST = NOT_RECORDED - 1
"""The greatest number in a record."""

_MAGIC = (0x4D42, 0x4C50)
_VERSION = 1
_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Column:
    """One register of a profile: an energy total (1-0:C.8.0) in units of ten to the `exponent`."""

    obis: Obis
    exponent: int


@dataclass(frozen=True)
class Profile:
    """One profile of a meter: `columns` every `period_s` seconds, kept for `days` days."""

    period_s: int
    days: int
    first_file: int
    columns: tuple[Column, ...]

    @property
    def words_per_record(self) -> int:
        """Words of one instant."""
        return 2 * len(self.columns)

    @property
    def records_per_day(self) -> int:
        """Instants of one day, and so records of one file."""
        return _DAY_S // self.period_s

    def place(self, at: datetime) -> tuple[int, int]:
        """File and record of an instant of the meter's clock; raises ConfigError where the profile has none."""
        day, passed = divmod(at - FIRST_DAY, timedelta(days=1))
        record, rest = divmod(passed, timedelta(seconds=self.period_s))
        file = self.first_file + day
        if rest or not self.first_file <= file <= 0xFFFF:
            raise ConfigError(f"a profile of every {self.period_s} s has no record for {at.isoformat()}")
        return file, record

    def decode(self, words: Sequence[int], first_at: datetime) -> list[tuple[datetime, dict[Obis, Decimal]]]:
        """The records from `first_at` (meter's clock) on with the registers of each; those that were not recorded are
        left out. Raises DecodeError where the words are no whole number of records.
        """
        size = len(words)
        if not self.columns or size % self.words_per_record:
            raise DecodeError(say("profile_broken_records", words=size, record=self.words_per_record))
        numbers = struct.unpack(f">{size // 2}I", struct.pack(f">{size}H", *words))
        period = timedelta(seconds=self.period_s)
        columns = self._scales
        records = []
        for index, start in enumerate(range(0, size // 2, len(columns))):
            registers = {
                obis: number * scale
                for (obis, scale), number in zip(columns, numbers[start : start + len(columns)], strict=True)
                if number != NOT_RECORDED
            }
            if registers:
                records.append((first_at + index * period, registers))
        return records

    @cached_property
    def _scales(self) -> tuple[tuple[Obis, Decimal], ...]:
        return tuple((column.obis, Decimal(1).scaleb(column.exponent)) for column in self.columns)


@dataclass(frozen=True, slots=True)
class ProfileHeader:
    """What a meter says of its profiles: its clock `now` (aware UTC as the meter believes it), and which it keeps."""

    now: datetime
    profiles: tuple[Profile, ...]


def encode_header(header: ProfileHeader) -> tuple[int, ...]:
    """The words of a header without the zeros behind; raises ConfigError where they are too many."""
    seconds = int(header.now.timestamp())
    words = [*_MAGIC, _VERSION, seconds >> 16 & 0xFFFF, seconds & 0xFFFF, len(header.profiles)]
    for profile in header.profiles:
        words += [profile.period_s, profile.days, profile.first_file, len(profile.columns)]
        for column in profile.columns:
            words += [int(column.obis.partition(":")[2].partition(".")[0]), column.exponent & 0xFFFF]
    if len(words) > HEADER_WORDS:
        raise ConfigError(f"a profile header of {len(words)} words; it may have {HEADER_WORDS}")
    return tuple(words)


def decode_header(words: Sequence[int]) -> ProfileHeader:
    """The header in these words; raises DecodeError where they are none or not of this version."""
    if tuple(words[:2]) != _MAGIC:
        raise DecodeError(say("profile_none"))
    if len(words) < 6 or words[2] != _VERSION:
        raise DecodeError(say("profile_newer"))
    now = datetime.fromtimestamp(words[3] << 16 | words[4], UTC)
    profiles = []
    at = 6
    for _ in range(words[5]):
        if at + 4 > len(words):
            raise DecodeError(say("profile_short"))
        period_s, days, first_file, count = words[at : at + 4]
        at += 4
        fields = words[at : at + 2 * count]
        at += 2 * count
        if len(fields) < 2 * count:
            raise DecodeError(say("profile_short"))
        if not period_s or _DAY_S % period_s or not count or not days or max(fields[::2]) > 255:
            raise DecodeError(say("profile_impossible"))
        columns = tuple(
            Column(f"1-0:{c}.8.0", exponent - 0x10000 if exponent & 0x8000 else exponent)
            for c, exponent in zip(fields[::2], fields[1::2], strict=True)
        )
        if any(abs(column.exponent) > 9 for column in columns):
            raise DecodeError(say("profile_impossible"))
        profiles.append(Profile(period_s, days, first_file, columns))
    return ProfileHeader(now, tuple(profiles))
