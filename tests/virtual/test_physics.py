"""A virtual meter obeys physics, and its registers are a pure function of seed and time."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import isclose, sqrt
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meter_batch_engine.model.quantity import BY_KEY, QUANTITIES, Kind
from meter_batch_virtual.load import load_names
from meter_batch_virtual.physics import FIRST_DAY, Physics

instants = st.integers(0, 3 * 365 * 86_400 * 1000).map(
    lambda ms: datetime(2025, 1, 2, tzinfo=UTC) + timedelta(milliseconds=ms)
)
seeds = st.integers(0, 2**31)
loads = st.sampled_from(load_names())
phase_counts = st.sampled_from([1, 3])


def value(physics: Physics, key: str, at: datetime) -> Decimal | float:
    obis = BY_KEY[key].obis
    return physics.registers(at, [obis])[obis]


@settings(max_examples=40, deadline=None)
@given(seeds, loads, phase_counts, instants)
def test_same_seed_and_time_give_the_same_registers_whatever_was_asked_before(
    seed: int, load: str, phases: int, at: datetime
) -> None:
    fresh = Physics(seed, load, phases)
    used = Physics(seed, load, phases)
    for days in (400, -300, 1):
        used.registers(at + timedelta(days=days), ["1-0:1.8.0", "1-0:16.7.0", "1-0:1.6.0"])
    assert used.registers(at) == fresh.registers(at)


def test_another_process_gives_the_same_registers() -> None:
    at = datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)
    code = (
        "from datetime import datetime; from meter_batch_virtual.physics import Physics;"
        f"at = datetime.fromisoformat({at.isoformat()!r}); print(sorted(Physics(77, 'workshop').registers(at).items()))"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": f"{root}:{root / 'virtual'}", "PYTHONHASHSEED": "99"},
    )
    assert done.stdout.strip() == str(sorted(Physics(77, "workshop").registers(at).items()))


@settings(max_examples=60, deadline=None)
@given(seeds, loads, phase_counts, instants)
def test_powers_currents_and_factors_follow_from_each_other(seed: int, load: str, phases: int, at: datetime) -> None:
    r = {QUANTITIES[obis].key: float(one) for obis, one in Physics(seed, load, phases).registers(at).items()}
    for phase in range(1, phases + 1):
        p, q, s = (r[f"{name}_power_l{phase}"] for name in ("active", "reactive", "apparent"))
        assert isclose(s, sqrt(p * p + q * q), abs_tol=1e-9)
        assert isclose(r[f"current_l{phase}"], 1000 * s / r[f"voltage_l{phase}"], abs_tol=1e-9)
        assert isclose(r[f"power_factor_l{phase}"], p / s if s else 1.0, abs_tol=1e-9)
        assert 0.9 * 230 < r[f"voltage_l{phase}"] < 1.1 * 230
    for name in ("active_power", "reactive_power", "apparent_power"):
        assert isclose(r[name], sum(r[f"{name}_l{phase}"] for phase in range(1, phases + 1)), abs_tol=1e-9)
    assert 49.9 < r["frequency"] < 50.1
    assert ("voltage_l2" in r) == (phases == 3)


@settings(max_examples=60, deadline=None)
@given(seeds, loads, phase_counts, instants, st.sampled_from(["0.01", "0.1", "0.001", "1"]))
def test_tariffs_and_phases_sum_to_the_total_to_the_last_digit(
    seed: int, load: str, phases: int, at: datetime, resolution: str
) -> None:
    physics = Physics(seed, load, phases, resolution_kwh=Decimal(resolution))
    r = {QUANTITIES[obis].key: one for obis, one in physics.registers(at).items() if ".8." in obis}
    for name in (
        "energy_import",
        "energy_export",
        "reactive_energy_q1",
        "reactive_energy_q4",
        "apparent_energy_import",
    ):
        assert r[name] == sum(r[f"{name}_t{tariff}"] for tariff in range(1, 5))
    for name in ("energy_import", "energy_export", "reactive_energy_import", "apparent_energy_import"):
        assert r[name] == sum(r[f"{name}_l{phase}"] for phase in range(1, phases + 1))
    assert r["energy_net"] == r["energy_import"] - r["energy_export"]
    assert r["energy_gross"] == r["energy_import"] + r["energy_export"]
    assert r["reactive_energy_import"] == r["reactive_energy_q1"] + r["reactive_energy_q2"]
    assert r["energy_import"] % Decimal(resolution) == 0


@settings(max_examples=40, deadline=None)
@given(seeds, loads, instants, st.integers(1, 900 * 200), st.sampled_from([None, 0.0, 0.05, 0.9]))
def test_energy_is_the_integral_of_power(seed: int, load: str, at: datetime, span_s: int, ripple: float | None) -> None:
    """Power sampled at the middle of 7.5-s steps, against the difference of the registers."""
    physics = Physics(seed, load, resolution_kwh=Decimal("0.000001"), ripple=ripple)
    steps = -(-min(span_s, 1800) // 7.5)
    span_s = min(span_s, 1800)
    net = reactive = 0.0
    for step in range(int(steps)):
        middle = at + timedelta(seconds=span_s * (step + 0.5) / steps)
        now = physics.instant(middle)
        net += sum(now.active) * span_s / steps / 3600
        reactive += sum(now.reactive) * span_s / steps / 3600
    end = at + timedelta(seconds=span_s)
    counted = float(value(physics, "energy_net", end) - value(physics, "energy_net", at))
    # Steps that straddle the edge of a slot, and the tenth of a watt that powers are rounded to.
    tolerance = physics.peak_kw * 7.5 / 3600 * 4 + 3e-4
    assert abs(counted - net) < tolerance
    inductive = sum(
        value(physics, f"reactive_energy_q{q}", end) - value(physics, f"reactive_energy_q{q}", at) for q in (1, 2)
    )
    capacitive = sum(
        value(physics, f"reactive_energy_q{q}", end) - value(physics, f"reactive_energy_q{q}", at) for q in (3, 4)
    )
    assert abs(float(inductive - capacitive) - reactive) < tolerance


def test_energy_is_the_integral_of_power_within_one_slot_to_a_millionth() -> None:
    at = datetime(2026, 7, 1, 2, 0, tzinfo=UTC)
    physics = Physics(5, "chiller", resolution_kwh=Decimal("0.000000001"))
    steps = 20_000
    summed = sum(
        sum(physics.instant(at + timedelta(seconds=730 * (step + 0.5) / steps)).active) for step in range(steps)
    )
    counted = value(physics, "energy_import", at + timedelta(seconds=730)) - value(physics, "energy_import", at)
    assert isclose(float(counted), summed * 730 / steps / 3600, rel_tol=2e-6)


@settings(max_examples=40, deadline=None)
@given(seeds, loads, instants, st.lists(st.integers(1, 40_000), min_size=2, max_size=12))
def test_counters_never_fall_and_interval_energies_sum_to_the_difference(
    seed: int, load: str, at: datetime, steps_s: list[int]
) -> None:
    physics = Physics(seed, load)
    counters = [obis for obis, one in QUANTITIES.items() if one.kind is Kind.CUMULATIVE and one.tariff <= 4]
    first = before = physics.registers(at, counters)
    summed = dict.fromkeys(counters, Decimal(0))
    for step_s in steps_s:
        at += timedelta(seconds=step_s)
        now = physics.registers(at, counters)
        for obis in counters:
            assert now[obis] >= before[obis], QUANTITIES[obis].key
            summed[obis] += now[obis] - before[obis]
        before = now
    assert summed == {obis: before[obis] - first[obis] for obis in counters}


@settings(max_examples=20, deadline=None)
@given(seeds, loads, instants)
def test_maximum_demand_is_the_greatest_interval_of_the_billing_month(seed: int, load: str, at: datetime) -> None:
    physics = Physics(seed, load, resolution_kwh=Decimal("0.000001"))
    since = physics.billing_start(at)
    at = min(at, since + timedelta(days=3))
    ends = [since + timedelta(minutes=15 * n) for n in range(1, int((at - since) / timedelta(minutes=15)) + 1)]
    obis = BY_KEY["energy_import"].obis
    means, before = [], physics.registers(since, [obis])[obis]
    for end in ends:
        now = physics.registers(end, [obis])[obis]
        means.append(float(now - before) * 4)
        before = now
    demand, ended_at = physics.maximum_demand(since, at)
    assert isclose(float(demand), max(means, default=0.0), abs_tol=2e-4)
    if ended_at is not None:
        assert isclose(means[ends.index(ended_at)], float(demand), abs_tol=2e-4)
    assert value(physics, "demand_import_max", at) == demand


def test_generation_is_exported_by_day_and_the_night_load_runs_at_night() -> None:
    noon, midnight = datetime(2026, 6, 10, 4, 30, tzinfo=UTC), datetime(2026, 6, 10, 18, 0, tzinfo=UTC)  # UTC+8
    pv = Physics(1, "pv")
    assert value(pv, "active_power", noon) < 0 < value(pv, "active_power", midnight)
    assert value(pv, "power_factor", noon) < 0
    exported = value(pv, "energy_export", noon + timedelta(hours=1)) - value(pv, "energy_export", noon)
    assert exported > 1
    night = Physics(1, "night")
    assert value(night, "active_power", midnight) > 5 * value(night, "active_power", noon)


def test_a_weekend_day_of_an_office_uses_less_than_a_weekday() -> None:
    office = Physics(9, "office")
    friday = datetime(2026, 6, 11, 16, 0, tzinfo=UTC)  # local midnight before Friday 12 June 2026
    days = [
        value(office, "energy_import", friday + timedelta(days=n + 1))
        - value(office, "energy_import", friday + timedelta(days=n))
        for n in range(2)
    ]
    assert days[1] < days[0] / 2


def test_meters_of_different_seeds_differ() -> None:
    at = datetime(2026, 6, 10, tzinfo=UTC)
    assert len({value(Physics(seed), "energy_import", at) for seed in range(50)}) == 50


def swing(meters: list[Physics], since: datetime) -> float:
    """How far the power of all of them strays from its mean within a slot, as a share of that mean."""
    powers = [
        sum(sum(one.instant(since + timedelta(seconds=10 * step)).active) for one in meters) for step in range(90)
    ]
    mean = sum(powers) / len(powers)
    return max(abs(power - mean) for power in powers) / mean


@pytest.mark.parametrize("load", ["workshop", "chiller"])
def test_machines_of_one_load_swing_by_themselves_but_not_in_step(load: str) -> None:
    morning = datetime(2026, 6, 10, 1, 30, tzinfo=UTC)
    machines = [Physics(seed, load) for seed in range(60)]
    most = machines[0].load.ripple
    assert all(0.55 * most < swing([one], morning) <= 1.01 * most for one in machines)
    assert swing(machines, morning) < most / 2


def test_a_meter_told_its_ripple_swings_by_just_that_and_counts_the_same_energy() -> None:
    morning = datetime(2026, 6, 10, 1, 30, tzinfo=UTC)
    told, calm = Physics(4, "workshop", ripple=0.05), Physics(4, "workshop", ripple=0.0)
    assert 0.045 < swing([told], morning) <= 0.0501
    assert swing([calm], morning) < 1e-9
    assert value(told, "energy_import", morning) == value(calm, "energy_import", morning)


@given(seeds, instants)
@settings(max_examples=20, deadline=None)
def test_a_meter_with_fewer_tariffs_counts_the_same_energy(seed: int, at: datetime) -> None:
    four, two = Physics(seed), Physics(seed, tariffs=2)
    assert value(two, "energy_import", at) == value(four, "energy_import", at)
    assert value(two, "energy_import_t1", at) == value(four, "energy_import_t1", at) + value(
        four, "energy_import_t2", at
    )
    assert BY_KEY["energy_import_t3"].obis not in two.registers(at)


def test_before_the_first_day_registers_stand_at_what_the_meter_was_delivered_with() -> None:
    physics = Physics(3)
    early = value(physics, "energy_import", FIRST_DAY - timedelta(days=100))
    assert early == value(physics, "energy_import", FIRST_DAY - timedelta(days=1))
    assert 0 < early < value(physics, "energy_import", FIRST_DAY + timedelta(days=1))
    assert value(physics, "active_power", FIRST_DAY - timedelta(days=1)) == 0.0


@pytest.mark.slow
def test_a_thousand_meters_cost_little_once_warm() -> None:
    at = datetime(2026, 11, 1, tzinfo=UTC)
    wanted = ["1-0:1.8.0", "1-0:16.7.0", "1-0:131.7.0", "1-0:32.7.0", "1-0:31.7.0"]
    meters = [Physics(seed) for seed in range(200)]
    for meter in meters:
        meter.registers(at, wanted)
    begun = time.process_time()
    for meter in meters:
        meter.registers(at + timedelta(seconds=10), wanted)
    assert (time.process_time() - begun) / len(meters) < 0.0005
