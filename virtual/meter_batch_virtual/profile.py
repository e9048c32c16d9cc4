"""The load profile that a virtual Modbus meter keeps in its files: energies at the instants of its own clock."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache

from meter_batch_engine.model.obis import Obis
from meter_batch_engine.model.quantity import BY_KEY
from meter_batch_engine.protocol.modbus.pdu import ILLEGAL_ADDRESS, ILLEGAL_FUNCTION
from meter_batch_engine.protocol.modbus.profile import (
    FIRST_DAY,
    HEADER_FILE,
    MOST,
    NOT_RECORDED,
    Column,
    Profile,
    ProfileHeader,
    encode_header,
)
from meter_batch_engine.protocol.modbus.server import ModbusException
from meter_batch_engine.protocol.modbus.words import shortest
from meter_batch_engine.template import ModbusWords, Template

from .clock import MeterClock
from .energies import ENERGIES
from .physics import Physics

_PERIODS = ((900, 366, 1000), (60, 3, 30_000))
"""Period in seconds, days kept and first file of each profile; files do for a lifetime."""
_KEYS = ("energy_import", "energy_export", "reactive_energy_import", "reactive_energy_export")
_PIECE = 96
"""Records that are reckoned at a time: neighbours share most of the work."""
_PIECES = 8
"""Pieces that are remembered: a reader goes through one after the other."""


class ProfileMemory:
    """The files of one meter; `since` is when it came here without a memory, None = long ago."""

    def __init__(self, template: Template, physics: Physics, clock: MeterClock, since: datetime | None) -> None:
        self.physics = physics
        self._clock = clock
        self.since = since
        own = [BY_KEY[key].obis for key in _KEYS]
        if own[0] not in template.by_obis:
            own[0] = BY_KEY["energy_gross"].obis
        self._digits = {
            obis: _digits(template, obis, physics.resolution_kwh) for obis in own if obis in template.by_obis
        }
        self._energies = [ENERGIES[obis] for obis in self._digits]
        columns = tuple(Column(obis, exponent) for obis, (exponent, _) in self._digits.items())
        self.profiles = tuple(Profile(*one, columns) for one in _PERIODS) if columns else ()
        self._pieces: dict[tuple[int, int, int], bytes] = {}

    def read(self, file: int, record: int, words: int, now: datetime) -> Sequence[int]:
        """The words of a file at an instant; raises ModbusException. A day's file ends with its last record."""
        if not self.profiles:
            raise ModbusException(ILLEGAL_FUNCTION)
        shown = self._clock.shown(now)
        if file == HEADER_FILE:
            header = encode_header(ProfileHeader(shown, self.profiles))
            if record:
                raise ModbusException(ILLEGAL_ADDRESS)
            return (*header, *(0,) * words)[:words]
        profile = next((one for one in reversed(self.profiles) if one.first_file <= file), None)
        if profile is None:
            raise ModbusException(ILLEGAL_ADDRESS)
        today, passed = divmod(shown - FIRST_DAY, timedelta(days=1))
        day = file - profile.first_file
        count = -(-words // profile.words_per_record)
        if not today - profile.days <= day <= today or record + count > profile.records_per_day:
            raise ModbusException(ILLEGAL_ADDRESS)
        size = 2 * profile.words_per_record
        first, end = record // _PIECE, (record + count - 1) // _PIECE + 1
        data = b"".join(self._piece(profile, day, piece) for piece in range(first, end))
        begin = (record - first * _PIECE) * size
        data = data[begin : begin + count * size]
        if day == today:
            kept = passed // timedelta(seconds=profile.period_s) + 1 - record
            data = data[: max(0, kept) * size].ljust(count * size, b"\xff")
        return struct.unpack_from(f">{words}H", data)

    def _piece(self, profile: Profile, day: int, piece: int) -> bytes:
        """A part of a day's file, whether it has already happened or not."""
        # After a setting the same labels belong to other instants.
        key = (profile.first_file + day, piece, self._clock.settings)
        found = self._pieces.get(key)
        if found is None:
            if len(self._pieces) >= _PIECES:
                del self._pieces[next(iter(self._pieces))]
            found = self._pieces[key] = self._reckon(profile, day, piece)
        return found

    def _reckon(self, profile: Profile, day: int, piece: int) -> bytes:
        period = timedelta(seconds=profile.period_s)
        label = FIRST_DAY + timedelta(days=day) + piece * _PIECE * period
        instants: list[datetime | None] = []
        for _ in range(_PIECE):
            at = self._clock.instant(label)
            instants.append(at if at is not None and (self.since is None or at >= self.since) else None)
            label += period
        totals = iter(self.physics.totals(self._energies, [at for at in instants if at is not None]))
        missing = (NOT_RECORDED,) * len(self._energies)
        digits = [own for _, own in self._digits.values()]
        numbers: list[int] = []
        last: tuple[int, ...] = ()
        shown: list[int] = []
        for at in instants:
            if at is None:
                numbers += missing
                continue
            counts = next(totals)
            if not last:
                shown = [own(count) for own, count in zip(digits, counts, strict=True)]
            elif counts != last:
                shown = [
                    was if count == before else own(count)
                    for own, count, before, was in zip(digits, counts, last, shown, strict=True)
                ]
            last = counts
            numbers += shown
        return struct.pack(f">{len(numbers)}I", *numbers)


@lru_cache(maxsize=256)
def _digits(template: Template, obis: Obis, resolution: Decimal) -> tuple[int, Callable[[int], int]]:
    """How a model shows an energy that was counted in `resolution`: the exponent of the last digit, and what turns a
    count into such digits, cut off or rounded as the register of the model does (see `template.encode`).
    """
    register = template.by_obis[obis]
    locator = register.locator
    assert isinstance(locator, ModbusWords)
    scale = register.scale
    unit = min(resolution, scale) if locator.word_type.is_float else scale
    exponent = unit.normalize().as_tuple().exponent
    assert isinstance(exponent, int)
    one = Decimal(1).scaleb(exponent)
    counts_up, counts_down = (resolution / scale).as_integer_ratio()
    shows_up, shows_down = (scale / one).as_integer_ratio()
    finest_up, finest_down = (resolution / one).as_integer_ratio()
    assert shows_down == 1
    roll_over = template.roll_over(obis)
    kind = locator.word_type
    if kind.high is not None:
        end = kind.high + 1 - len(register.absent)
        if roll_over is not None:
            end = min(int(roll_over / scale), end)
        end = max(1, end)

        def cut_off(count: int) -> int:
            return _bounded(count * counts_up // counts_down % end * shows_up)

        return exponent, cut_off

    turn = None if roll_over is None else int(roll_over / resolution)

    def rounded(count: int) -> int:
        if turn is not None:
            count %= turn
        # A float32 keeps every number of six digits, a float64 one of fifteen.
        if count < 1_000_000 or kind.code == "d":
            return _bounded(count * finest_up // finest_down)
        (value,) = struct.unpack(">f", struct.pack(">f", float(count * resolution / scale)))
        return _bounded(int(shortest(value) * shows_up))

    return exponent, rounded


def _bounded(number: int) -> int:
    return number if 0 <= number <= MOST else NOT_RECORDED
