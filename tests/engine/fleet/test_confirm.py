"""Energies whose frames have a weak check are believed by habit, or when two readings agree."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from meter_batch_engine.fleet.confirm import Energies, agree
from meter_batch_engine.model.quantity import BY_KEY
from meter_batch_engine.model.reading import Reading

START = datetime(2026, 11, 25, 12, tzinfo=UTC)
ENERGY = BY_KEY["energy_import"].obis
VOLTAGE = BY_KEY["voltage_l1"].obis


def read(kwh: object, at_s: float) -> list[Reading]:
    return [Reading(ENERGY, Decimal(str(kwh)), START + timedelta(seconds=at_s))]


def grown(kwh: float, count: int = 6) -> Energies:
    """A meter that counts so much in each five minutes, from 1000 kWh on."""
    energies = Energies()
    for turn in range(count):
        energies.took(read(f"{1000 + turn * kwh:.2f}", 300 * turn))
    return energies


def test_the_first_reading_of_a_register_is_doubted_and_volts_never_are() -> None:
    energies = Energies()
    assert energies.doubts(read(1000, 0))
    assert not energies.doubts([Reading(VOLTAGE, 230.0, START)])


def test_growth_by_habit_is_believed_and_more_or_less_is_doubted() -> None:
    energies = grown(1.0)
    assert not energies.doubts(read("1006.00", 1800))
    assert not energies.doubts(read("1005.00", 1800))
    assert energies.doubts(read("1016.00", 1800))
    assert energies.doubts(read("1004.99", 1800))


def test_two_readings_agree_when_both_can_be_true() -> None:
    assert agree(read("1000.00", 0), read("1000.01", 1))
    assert not agree(read("1000.00", 0), read("999.99", 1))
    assert not agree(read("1000.00", 0), read("1001.00", 1))


@given(kwh=st.floats(0, 5), digit=st.integers(0, 7), by=st.integers(1, 9))
def test_a_digit_that_changed_is_doubted_unless_it_is_one_of_the_last(kwh: float, digit: int, by: int) -> None:
    energies = grown(kwh)
    honest = f"{1000 + 6 * kwh:09.2f}".replace(".", "")
    wrong: Any = list(honest)
    wrong[digit] = str((int(wrong[digit]) + by) % 10)
    value = Decimal("".join(wrong)) / 100
    off = abs(value - Decimal(honest) / 100)
    if off > Decimal("0.2") + Decimal(3 * kwh):
        assert energies.doubts(read(value, 1800))
