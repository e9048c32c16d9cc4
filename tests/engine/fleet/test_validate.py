"""Readings that cannot be are flagged on arrival; a fallen register is not believed until it has stayed there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_batch_engine.fleet import Validator
from meter_batch_engine.model.quantity import BY_KEY
from meter_batch_engine.model.reading import Flag, Reading
from meter_batch_engine.template import load

START = datetime(2026, 11, 25, tzinfo=UTC)
ENERGY = BY_KEY["energy_import"].obis
DLT = load("generic/dlt645-3ph")  # 80 kW, rolls over at 1000000 kWh
SDM = load("eastron/sdm120")


def energy(value, at_s, obis=ENERGY):
    return Reading(obis, Decimal(value), START + timedelta(seconds=at_s))


def run(values, step_s=300, template=DLT):
    validator = Validator(template)
    return validator.check(energy(value, place * step_s) for place, value in enumerate(values))


def flags(readings):
    return ["".join(sorted(one.flags)) for one in readings]


@pytest.mark.parametrize(
    ("key", "value", "flag"),
    [
        ("voltage_l1", 230.0, None),
        ("voltage_l1", 999.9, Flag.RANGE),
        ("voltage_l1", float("nan"), Flag.RANGE),
        ("voltage_l1", float("inf"), Flag.RANGE),
        ("active_power", -80.5, Flag.RANGE),
        ("power_factor", 1.2, Flag.RANGE),
        ("frequency", 0.0, Flag.RANGE),
        ("energy_import", Decimal(-1), Flag.RANGE),
        ("energy_import", Decimal(1_000_000), Flag.RANGE),
        ("energy_import", Decimal("NaN"), Flag.RANGE),
        ("energy_import", Decimal("999999.99"), None),
    ],
)
def test_a_value_outside_what_template_and_register_allow_is_flagged(key, value, flag):
    (reading,) = Validator(DLT).check([Reading(BY_KEY[key].obis, value, START)])
    assert reading.flags == (frozenset({flag}) if flag else frozenset())


def test_growth_within_the_greatest_power_is_good():
    assert all(one.good and not one.flags for one in run(["100", "100", "103.5", "108", "112.01"]))


def test_growth_beyond_the_greatest_power_is_flagged_and_the_old_level_stays():
    readings = run(["100", "500", "101"])
    assert flags(readings) == ["", "rate", ""]


def test_a_register_that_falls_to_zero_once_is_rejected_and_the_value_comes_back():
    assert flags(run(["5000", "0", "5001", "5002"])) == ["", "backwards", "", ""]


def test_a_register_at_zero_for_a_minute_of_fast_polls_is_not_a_reset_yet():
    readings = run(["5000", "0", "0", "0", "0", "5000"], step_s=10)
    assert flags(readings) == ["", *["backwards"] * 4, ""]


def test_a_reset_is_believed_once_the_register_stays_and_grows():
    readings = run(["5000", "0", "0.5", "1.2", "1.9"])
    assert flags(readings) == ["", "backwards", "backwards", "reset", ""]
    assert readings[3].good


def test_a_roll_over_is_believed_once_the_register_goes_on_from_zero():
    assert flags(run(["999998", "1", "2", "3", "4"])) == ["", "backwards", "backwards", "roll_over", ""]


def test_a_swapped_meter_is_believed_once_it_stays_at_its_own_level():
    assert flags(run(["5000", "2000", "2001", "2002", "2003"])) == ["", "backwards", "backwards", "swap", ""]
    assert flags(run(["5000", "9000", "9001", "9002", "9003"])) == ["", "rate", "rate", "swap", ""]


def test_a_register_that_jumps_about_is_never_believed():
    readings = run(["5000", "10", "4000", "7", "3000", "11", "2000"])
    assert not any(one.good for one in readings[1:])


def test_after_the_user_said_that_the_meter_was_swapped_any_level_is_good():
    validator = Validator(DLT)
    validator.check([energy("5000", 0)])
    validator.forget()
    assert validator.check([energy("3", 300)])[0].flags == frozenset()


def test_a_long_outage_allows_for_what_was_used_meanwhile():
    validator = Validator(DLT)
    first, last = validator.check([energy("5000", 0), energy("6000", 86400)])
    assert first.good and last.good


def test_registers_of_two_kinds_do_not_disturb_each_other():
    other = BY_KEY["energy_export"].obis
    validator = Validator(DLT)
    readings = validator.check(
        [energy("5000", 0), energy("3", 0, other), energy("5001", 300), energy("3.1", 300, other)]
    )
    assert all(one.good for one in readings)


steps = st.lists(st.tuples(st.integers(5, 900), st.floats(0, 1)), min_size=1, max_size=60)


@given(steps=steps, glitches=st.dictionaries(st.integers(1, 59), st.integers(0, 999_999)))
def test_single_glitches_never_pass_as_values_and_true_values_always_do(steps, glitches):
    """Between two glitches the meter shows its true level, so each glitch stands alone."""
    validator = Validator(DLT)
    level, at = Decimal(400_000), 0
    for place, (seconds, share) in enumerate(steps):
        at += seconds
        level += Decimal(str(round(80 * share * seconds / 3600, 2)))
        if place in glitches and place % 2:
            (reading,) = validator.check([energy(glitches[place], at)])
            # A glitch that lies within what may have been used cannot be told from the truth, and does no harm.
            if abs(glitches[place] - level) > 200:
                assert not reading.good
                continue
            return
        (reading,) = validator.check([energy(level, at)])
        assert reading.flags == frozenset()


@given(
    before=st.integers(1000, 900_000),
    after=st.one_of(st.just(0), st.integers(0, 900_000)),
    step_s=st.integers(10, 900),
)
def test_a_new_level_that_stays_is_believed_within_a_few_readings_and_flagged_once(before, after, step_s):
    validator = Validator(DLT)
    validator.check([energy(before, 0)])
    flagged = []
    for place in range(1, 12):
        (reading,) = validator.check([energy(after + place * Decimal("0.01"), place * step_s)])
        flagged += [flag for flag in reading.flags if reading.good]
        if place == 11:
            assert reading.good
    assert len(flagged) <= 1


@given(values=st.lists(st.integers(0, 999_999), min_size=1, max_size=40), step_s=st.integers(1, 4000))
def test_good_readings_never_fall_except_where_a_flag_says_why(values, step_s):
    readings = [one for one in run(values, step_s) if one.good]
    for earlier, later in pairwise(readings):
        assert later.value >= earlier.value or later.flags & {Flag.ROLL_OVER, Flag.RESET, Flag.SWAP}
