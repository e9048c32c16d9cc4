"""Each rule finds what it is for, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from meter_batch_engine import BY_KEY, SITE, Flag, Override, sentence
from meter_batch_engine.model.interval import IMPORT, Interval, Quality

STEP = 10
"""Seconds between two readings."""


def span(first: float, last: float, step: float = STEP) -> list[float]:
    return [first + step * one for one in range(int((last - first) // step) + 1)]


# --- voltage


def test_a_voltage_is_too_high_after_a_minute_and_normal_again_after_another(site) -> None:
    one = site().add()
    one.settle()
    assert one.every(span(10, 60), lambda s: one.volts(s, 250)) == []
    (change,) = one.volts(70, 251)
    found = change.finding
    assert change.notify and found.kind == "over_voltage"
    assert (found.since, found.value, found.phase) == (one.at(10), 251, 1)
    assert found.limit == pytest.approx(246.1)
    assert sentence(found, "Lathe 3") == "Lathe 3: voltage 251.0 V (L1), above 246.1 V."
    one.volts(80, 253)
    assert one.the("over_voltage").extreme == 253
    assert one.every(span(90, 140), lambda s: one.volts(s, 240)) == []
    (back,) = one.volts(150, 240)
    assert not back.notify and back.finding.until == one.at(90) and back.finding.extreme == 253


def test_between_pick_up_and_drop_out_nothing_changes(site) -> None:
    one = site().add()
    one.settle()
    one.every(span(10, 80), lambda s: one.volts(s, 250))
    assert one.every(span(90, 900), lambda s: one.volts(s, 245)) == []
    assert one.kinds() == ["over_voltage"]


def test_a_three_phase_alarm_picks_up_on_the_first_phase_and_drops_out_on_the_last(site) -> None:
    one = site().add()
    one.settle()
    one.every(span(10, 80), lambda s: one.volts(s, 230, 250))
    assert one.the("over_voltage").phase == 2
    one.every(span(90, 300), lambda s: one.volts(s, 230, 230, 251))
    assert one.kinds() == ["over_voltage"] and one.the("over_voltage").phase == 3
    one.every(span(310, 380), lambda s: one.volts(s, 230, 230, 230))
    assert one.kinds() == []


@pytest.mark.parametrize(
    ("read", "ratio", "told", "limit"),
    [
        (221.0, 1, {}, 220 * 1.07),
        (231.0, 1, {}, 230 * 1.07),
        (231.0, 1, {"nominal_v": "220"}, 220 * 1.07),
        (219.0, 1, {"nominal_v": "380"}, 380 / 3**0.5 * 1.07),
        (5780.0, 100, {}, 5774 * 1.07),
        (5780.0, 100, {"nominal_v": "10000"}, 10000 / 3**0.5 * 1.07),
    ],
)
def test_the_nominal_voltage_is_told_or_the_standard_one_nearest_to_what_is_read(
    site, read: float, ratio: int, told: dict[str, str], limit: float
) -> None:
    one = site().add(ratio=(1, ratio), **told)
    one.settle(read)
    one.every(span(10, 80), lambda s: one.volts(s, 1.2 * read, read, read))
    assert one.the("over_voltage").limit == pytest.approx(limit, abs=0.005)


def test_voltages_between_lines_are_looked_at_where_there_are_no_others(site) -> None:
    one = site().add(keys=["voltage_l1_l2", "voltage_l2_l3", "voltage_l3_l1"])
    say = {"voltage_l1_l2": 400.0, "voltage_l2_l3": 400.0, "voltage_l3_l1": 400.0}
    one.every((0, 10, 20), lambda s: one.read(s, **say))
    one.every(span(30, 100), lambda s: one.read(s, **say | {"voltage_l3_l1": 350.0}))
    assert one.kinds() == ["under_voltage"] and one.the("under_voltage").limit == pytest.approx(360)


def test_a_lost_phase_is_one_alarm_and_no_under_voltage_too(site) -> None:
    one = site().add()
    one.settle()
    one.every(span(10, 300), lambda s: one.volts(s, 230, 3))
    assert one.told() == [("phase_loss", "p1")]
    assert one.the("phase_loss").phase == 2
    assert "voltage is 3.0 V (L2)" in sentence(one.the("phase_loss"), "Lathe 3")


def test_where_phase_loss_is_switched_off_a_lost_phase_is_an_under_voltage(site) -> None:
    one = site(Override("site", "phase_loss", enabled=False)).add()
    one.settle()
    one.every(span(10, 300), lambda s: one.volts(s, 230, 3))
    assert one.told() == [("under_voltage", "p1")]


def test_without_any_voltage_no_phase_is_lost_but_the_voltage_is_low(site) -> None:
    one = site().add()
    one.settle()
    one.every(span(10, 300), lambda s: one.volts(s, 0, 0, 0))
    assert one.told() == [("under_voltage", "p1")]


def test_a_wrong_reading_does_not_decide_the_nominal_voltage(site) -> None:
    one = site().add()
    one.volts(0, 131, 131, 131)
    one.every(span(10, 300), lambda s: one.volts(s, 230))
    assert one.kinds() == []
    one.every(span(310, 400), lambda s: one.volts(s, 260))
    assert one.the("over_voltage").limit == pytest.approx(246.1)


def test_a_restart_in_the_middle_of_a_swell_raises_nothing_false_after_it_ends(site) -> None:
    before = site().add()
    before.settle()
    before.every(span(0, 300), lambda s: before.volts(s, 265, 265, 265))
    assert before.kinds() == ["over_voltage"]
    after = site()
    after.alarms.restore(before.alarms.active(), before.alarms.nominals)
    after.add(second=310)
    after.every(span(320, 600), lambda s: after.volts(s, 265, 265, 265))
    assert after.kinds() == ["over_voltage"]
    after.every(span(610, 1200), lambda s: after.volts(s, 230))
    assert after.kinds() == [] and after.alarms.nominals == {"p1": (230, False)}


def test_a_first_start_in_a_swell_does_not_take_it_for_the_voltage_of_another_country(site) -> None:
    one = site().add()
    one.settle(258)
    assert one.alarms.nominals == {"p1": (230, False)}
    other = site().add()
    other.settle(275)
    assert other.alarms.nominals == {"p1": (277, False)}


def test_a_nominal_voltage_is_inferred_anew_once_the_readings_of_a_day_disagree(site) -> None:
    one = site().add()
    one.settle(275)
    one.every(range(0, 86_400 + 1800, 900), lambda s: one.volts(s, 231, 231, 231))
    assert one.alarms.nominals == {"p1": (230, False)}
    one.every(span(90_000, 90_200), lambda s: one.volts(s, 231, 231, 231))
    assert one.kinds() == []


def test_a_day_at_the_edge_of_a_standard_voltage_changes_nothing(site) -> None:
    one = site().add()
    one.settle(230)
    one.every(range(0, 2 * 86_400, 900), lambda s: one.volts(s, 214, 214, 214))
    assert one.alarms.nominals == {"p1": (230, False)}


# --- values that do not count


def test_what_was_so_long_ago_and_was_not_looked_at_since_begins_anew(site) -> None:
    one = site().add().settle()
    one.volts(0, 250)
    assert one.volts(7200, 250) == []
    assert one.volts(7210, 250) == []
    one.every(span(7220, 7260), lambda s: one.volts(s, 250))
    assert one.the("over_voltage").since == one.at(7200)


def test_what_is_no_number_hides_no_other_phase(site) -> None:
    one = site().add().settle()
    one.every(span(0, 120), lambda s: one.volts(s, float("nan"), 260))
    assert one.kinds() == ["over_voltage"] and one.the("over_voltage").phase == 2


def test_values_that_are_flagged_or_no_numbers_never_count(site) -> None:
    one = site().add()
    one.settle()
    one.every(span(10, 300), lambda s: one.read(s, flags=[Flag.RANGE], voltage_l1=500.0))
    one.every(span(310, 600), lambda s: one.read(s, voltage_l1=float("nan")))
    assert one.kinds() == []


def test_without_good_values_an_alarm_is_held_neither_returned_nor_raised(site) -> None:
    one = site().add()
    one.settle()
    one.every(span(10, 80), lambda s: one.volts(s, 250))
    one.every(span(90, 900), lambda s: one.read(s, flags=[Flag.RANGE], voltage_l1=230.0))
    assert one.kinds() == ["over_voltage"]
    assert one.tick(7200) == [] and one.kinds() == ["over_voltage"]
    other = site().add()
    other.settle()
    other.volts(10, 250)
    assert other.tick(900) == []


def test_a_phase_without_good_values_holds_the_alarm_though_the_others_are_fine(site) -> None:
    one = site().add()
    one.settle()
    one.every(span(10, 80), lambda s: one.volts(s, 250))
    one.every(span(1000, 2000), lambda s: one.read(s, voltage_l2=230.0, voltage_l3=230.0))
    assert one.kinds() == ["over_voltage"]


def test_what_comes_late_neither_raises_nor_clears(site) -> None:
    one = site().add()
    one.settle()
    one.every(span(10, 80), lambda s: one.volts(s, 250))
    late = [one.alarms.readings(one.at(s + 3600), {"p1": one_reading(one.at(s), 230.0)}) for s in span(90, 600)]
    assert not any(late) and one.kinds() == ["over_voltage"]


def one_reading(at: datetime, volts: float):
    from meter_batch_engine import Reading

    return [Reading(BY_KEY[f"voltage_l{phase}"].obis, volts, at) for phase in (1, 2, 3)]


# --- power


def test_power_is_limited_where_a_limit_was_given(site) -> None:
    assert site().add().every(span(0, 600), lambda s: []) == []
    one = site(Override("point:p1", "high_power", pickup=50)).add().add("p2")
    for point in ("p1", "p2"):
        one.every(span(0, 120), lambda s, point=point: one.read(s, point, active_power=60.0))
    assert one.told() == [("high_power", "p1")]
    one.every(span(130, 300), lambda s: one.read(s, active_power=48.0))
    assert one.kinds() == ["high_power"]
    one.every(span(310, 400), lambda s: one.read(s, active_power=47.0))
    assert one.kinds() == []


def test_a_contract_is_about_to_be_exceeded_before_the_quarter_is_over(site) -> None:
    one = site().add(contract_kw="100")
    one.every(span(0, 290), lambda s: one.read(s, active_power=130.0))
    assert one.kinds() == []
    one.every(span(300, 310), lambda s: one.read(s, active_power=130.0))
    assert one.told() == [("demand_over_contract", "p1")], "one cause, one alarm"
    assert one.the("demand_over_contract").value == pytest.approx(130)
    assert one.the("demand_near_contract").cause == one.the("demand_over_contract").id


def test_near_the_contract_is_a_warning_and_a_short_peak_is_none(site) -> None:
    one = site().add(contract_kw="100")
    one.every(span(0, 600), lambda s: one.read(s, active_power=130.0 if 100 < s < 200 else 60.0))
    assert one.kinds() == []
    one.every(span(900, 1300), lambda s: one.read(s, active_power=93.0))
    assert one.told() == [("demand_near_contract", "p1")]


def test_a_quarter_that_was_hardly_measured_predicts_nothing(site) -> None:
    one = site().add(contract_kw="100")
    one.read(0, active_power=200.0)
    one.every(span(600, 640), lambda s: one.read(s, active_power=200.0))
    assert one.kinds() == []


def test_overload_goes_by_the_rating_in_kva_of_a_transformer_and_kw_of_anything_else(site) -> None:
    one = site().add(transformer_kva="100").add("p2", rated_kw="100")
    for point in ("p1", "p2"):
        one.every(span(0, 120), lambda s, point=point: one.read(s, point, active_power=90.0, reactive_power=60.0))
    found = one.the("overload")
    assert one.told() == [("overload", "p1")] and found.unit == "kVA"
    assert found.value == pytest.approx(108.17, abs=0.01)


def test_power_that_flows_back_is_an_alarm_except_where_there_is_generation(site) -> None:
    one = site().add().add("p2", generation="yes").add("p3", generation="no")
    for point in ("p1", "p2", "p3"):
        one.every(span(0, 120), lambda s, point=point: one.read(s, point, active_power=-12.0))
    assert one.told() == [("reverse_power", "p1"), ("reverse_power", "p3")]


def test_a_few_watts_back_are_noise(site) -> None:
    one = site().add()
    one.every(span(0, 600), lambda s: one.read(s, active_power=-0.015))
    assert one.kinds() == []


def test_a_power_factor_is_low_after_an_hour_under_load(site) -> None:
    one = site().add(rated_kw="100")
    one.every(span(0, 3590), lambda s: one.read(s, active_power=60.0, power_factor=0.7))
    assert one.kinds() == []
    one.read(3600, active_power=60.0, power_factor=-0.7)
    assert one.told() == [("low_power_factor", "p1")]
    one.every(span(3610, 4600), lambda s: one.read(s, active_power=5.0, power_factor=0.3))
    assert one.kinds() == [], "at low load a power factor says nothing"


def test_without_a_rating_the_greatest_power_of_a_day_stands_for_it(site) -> None:
    one = site().add()
    one.every(span(0, 80_000, 60), lambda s: one.read(s, active_power=60.0, power_factor=0.95))
    one.every(span(80_060, 100_000, 60), lambda s: one.read(s, active_power=5.0, power_factor=0.3))
    assert one.kinds() == []
    one.every(span(100_060, 104_000, 60), lambda s: one.read(s, active_power=7.0, power_factor=0.3))
    assert one.kinds() == ["low_power_factor"]


def test_a_power_factor_is_worked_out_where_the_meter_does_not_give_it(site) -> None:
    one = site().add(keys=["active_power", "reactive_power"], rated_kw="100")
    one.every(span(0, 3600), lambda s: one.read(s, active_power=60.0, reactive_power=60.0))
    assert one.the("low_power_factor").value == pytest.approx(0.7071, abs=1e-4)


def test_currents_differ_too_much_only_under_load_and_for_half_an_hour(site) -> None:
    say = {"current_l1": 100.0, "current_l2": 80.0, "current_l3": 95.0}
    one = site().add(rated_kw="100").add("p2")
    one.every(span(0, 3600), lambda s: one.read(s, active_power=20.0, **say))
    assert one.kinds() == []
    one.every(span(3610, 5420), lambda s: one.read(s, active_power=50.0, **say))
    one.every(span(3610, 5420), lambda s: one.read(s, "p2", active_power=50.0, **say))
    assert one.told() == [("current_unbalance", "p1")]
    assert (one.the("current_unbalance").value, one.the("current_unbalance").phase) == (pytest.approx(20), 2)


def test_the_lost_phase_explains_the_unbalance_of_the_currents(site) -> None:
    say = {"current_l1": 100.0, "current_l2": 0.0, "current_l3": 95.0, "active_power": 50.0}
    one = site().add(rated_kw="100")
    one.settle()
    for second in span(10, 3600):
        one.volts(second, 230, 2)
        one.read(second, **say)
    assert one.told() == [("phase_loss", "p1")]
    assert one.the("current_unbalance").cause == one.the("phase_loss").id


# --- registers


@pytest.mark.parametrize("digits", [2, 0])
def test_a_register_that_stands_still_while_power_flows_is_stuck(site, digits: int) -> None:
    one = site().add()
    still = Decimal("123.45") if digits == 2 else Decimal(123)
    for second in span(0, 30_000, 60):
        one.read(second, active_power=4.0)
        if second % 900 == 0:
            one.read(second, energy_import=still)
    found = one.the("stuck_meter")
    # More than ten last digits: 0.1 kWh have flowed at the next reading, 10 kWh after two and a half hours.
    first = 900 if digits == 2 else 9900
    assert found.since == one.at(first) and found.limit == pytest.approx(10 * 10.0**-digits, rel=0.01)
    one.read(30_060, energy_import=still + 1)
    assert one.kinds() == []


def test_short_pulses_between_two_reads_are_no_proof_that_a_register_should_have_moved(site) -> None:
    one = site().add()
    for second in span(0, 30_000, 60):
        one.read(second, active_power=4.0 if second % 120 else 0.0)
        if second % 900 == 0:
            one.read(second, energy_import=Decimal("5.00"))
    assert one.kinds() == []


def test_a_register_that_is_read_before_the_power_of_the_same_reply_is_not_stuck_for_that(site) -> None:
    one = site().add()
    for second in span(0, 30_000, 300):
        one.read(second, energy_import=Decimal(second) / 100, active_power=16.0)
    assert one.kinds() == []


def test_a_coarse_register_behind_transformers_is_given_time(site) -> None:
    one = site().add(ratio=(100, 10))
    for second in span(0, 40_000, 60):
        one.read(second, active_power=5.0)  # 55 kWh, and the last digit is 10 kWh
        if second % 900 == 0:
            one.read(second, energy_import=Decimal("123.45") * 1000)
    assert one.kinds() == []


def test_a_register_that_moves_and_a_load_that_is_off_are_not_stuck(site) -> None:
    one = site().add().add("p2").add("p3")
    for second in span(0, 30_000, 60):
        one.read(second, active_power=4.0)
        one.read(second, "p2", active_power=0.0)
        one.read(second, "p3", active_power=-4.0)
        if second % 900 == 0:
            one.read(second, energy_import=Decimal(second) / 900)
            one.read(second, "p2", energy_import=Decimal("5.00"))
            one.read(second, "p3", energy_import=Decimal("5.00"))
    assert "stuck_meter" not in one.kinds()


# --- energy of hours and days


def hour(second: float, kwh: float, point: str = "p1", flags: Quality = Quality.MEASURED) -> Interval:
    start = datetime(2026, 11, 2, 8, tzinfo=UTC) + timedelta(seconds=second)
    return Interval(point, start, 3600, {IMPORT: Decimal(str(kwh))}, frozenset({flags}), known_s=3600)


def hours(one, values: list[float], usual: float | None = 10.0, since: float = 0) -> None:
    for index, kwh in enumerate(values):
        begin = since + 3600 * index
        one.took(one.alarms.intervals(one.at(begin + 3660), [hour(begin, kwh)], {"p1": usual}))


def test_two_hours_far_above_what_is_usual_are_high_consumption(site) -> None:
    one = site().add(rated_kw="30")
    hours(one, [11, 12, 16, 12, 16])
    assert one.kinds() == []
    hours(one, [16, 17], since=5 * 3600)
    found = one.the("high_consumption")
    assert found.since == one.at(4 * 3600) and found.limit == pytest.approx(15)
    hours(one, [12, 12], since=7 * 3600)
    assert one.kinds() == []


def test_twice_the_usual_of_next_to_nothing_is_nothing(site) -> None:
    one = site().add(rated_kw="30")
    hours(one, [2.0] * 6, usual=1.0)
    assert one.kinds() == []


def test_hours_that_come_late_or_are_estimated_do_not_alarm(site) -> None:
    one = site().add(rated_kw="30")
    for begin in span(0, 5 * 3600, 3600):
        one.took(one.alarms.intervals(one.at(begin + 20_000), [hour(begin, 30)], {"p1": 10.0}))
        estimate = hour(begin, 30, flags=Quality.ESTIMATED)
        one.took(one.alarms.intervals(one.at(begin + 3660), [estimate], {"p1": 10.0}))
    assert one.kinds() == []


def test_a_day_s_budget_is_used_up_and_renewed_at_midnight(site) -> None:
    one = site(Override("point:p1", "daily_budget", pickup=100)).add()
    one.took(one.alarms.day(one.at(0), {"p1": 99.0}))
    assert one.kinds() == []
    (change,) = one.alarms.day(one.at(60), {"p1": 101.0})
    assert sentence(change.finding, "Lathe 3") == "Lathe 3 has used 101 kWh today, more than its budget of 100 kWh."
    one.took(one.alarms.day(one.at(3600), {"p1": 0.5}))
    assert one.kinds() == []


# --- links and gaps


def test_a_meter_that_does_not_answer_is_lost_after_a_quarter_of_an_hour(site) -> None:
    one = site().add().add("p2")
    one.link(0)
    one.link(10, "p1")
    assert one.alarms.next_at == one.at(910)
    assert one.tick(900) == []
    (change,) = one.tick(910)
    assert change.notify and change.finding.since == one.at(10)
    assert sentence(change.finding, "Lathe 3") == "Lathe 3 does not answer."
    one.link(1000)
    assert one.kinds() == ["communication_lost"], "it returns by what it says"
    one.read(1010, active_power=1.0)
    one.read(1030, active_power=1.0)
    assert one.kinds() == []


def test_a_meter_that_answers_in_time_is_not_lost(site) -> None:
    one = site().add().add("p2")
    one.link(0, "p1")
    one.link(300)
    assert one.tick(5000) == [] and one.alarms.next_at is None


def test_a_lost_line_is_one_alarm_whatever_hangs_on_it(site) -> None:
    one = site().add().add("p2").add("p3", line="west")
    one.link(0)
    one.link(10, connected=False)
    assert one.tick(60) == []
    (change,) = one.tick(70)
    assert change.finding.subject_kind == "line" and change.notify
    assert sentence(change.finding, "East") == "The line East is lost: no way"
    one.tick(2000)
    assert one.told() == [("line_lost", "east")]
    assert {one.the("communication_lost", point).cause for point in ("p1", "p2")} == {change.finding.id}
    one.link(3000)
    one.tick(3030)
    assert one.the("line_lost", "east").state == "returned_unacknowledged"
    for second in (3040, 3060):
        one.read(second, "p1", active_power=1.0)
    one.link(3000, "p2")
    one.tick(4000)
    assert one.told() == [("line_lost", "east"), ("communication_lost", "p2")], "it is one of its own now"


def test_a_line_on_which_nobody_answers_is_lost_although_it_is_connected(site) -> None:
    one = site().add().add("p2")
    one.link(0, "p1")
    one.link(50, "p1", "p2")
    one.tick(200)
    one.tick(3000)
    assert one.told() == [("line_lost", "east")]


def test_the_only_meter_of_a_line_is_lost_and_the_line_is_not(site) -> None:
    one = site().add()
    one.link(0, "p1")
    one.tick(900)
    assert one.told() == [("communication_lost", "p1")]


def test_a_line_that_gets_another_meter_is_judged_by_all_of_them(site) -> None:
    one = site().add().add("p2")
    one.link(0, "p1", "p2")
    one.add("p3", second=30)
    one.link(31, "p1", "p2")
    one.tick(900)
    assert sorted(one.told()) == [("communication_lost", "p1"), ("communication_lost", "p2")]


def test_the_cause_is_the_root_the_line_of_the_meter_of_the_gap(site) -> None:
    one = site().add().add("p2")
    one.link(0)
    one.link(10, connected=False)
    one.tick(70)
    one.tick(1000)
    for second in span(1000, 9000, 600):
        one.took(one.alarms.gaps(one.at(second), {"p1": 0.05}))
    assert one.the("data_gap").cause == one.the("line_lost", "east").id
    assert one.told() == [("line_lost", "east")]


def test_the_line_is_the_cause_even_where_its_delay_is_the_longer(site) -> None:
    one = site(Override("site", "communication_lost", on_delay_s=5)).add().add("p2")
    one.link(0)
    one.link(10, connected=False)
    one.tick(20)
    one.tick(70)
    one.tick(80)
    assert one.told() == [("line_lost", "east")]


def test_a_gap_in_the_data_is_told_once_its_cause_is_over_and_backfill_had_its_time(site) -> None:
    one = site().add().add("p2")
    for second in span(0, 8000, 600):
        one.took(one.alarms.gaps(one.at(second), {"p1": 0.05, "p2": 0.005}))
    assert one.told() == [("data_gap", "p1")]
    assert one.the("data_gap").value == pytest.approx(5)
    one.took(one.alarms.gaps(one.at(9000), {"p1": 0.0}))
    assert one.kinds() == []


def test_a_silent_meter_explains_its_gap(site) -> None:
    one = site().add().add("p2")
    one.link(0, "p1")
    one.tick(900)
    for second in span(0, 8000, 600):
        one.took(one.alarms.gaps(one.at(second), {"p1": 0.05}))
    assert one.told() == [("communication_lost", "p1")]


def test_a_host_raises_and_clears_what_only_it_knows(site) -> None:
    one = site()
    facts = {"schedule": "monthly", "period": "2026-10", "reason": "the disk is full"}
    (change,) = one.alarms.raise_("report_failed", SITE, one.at(0), facts)
    assert change.notify and one.alarms.raise_("report_failed", SITE, one.at(10), facts) == []
    assert sentence(change.finding, "") == "The report “monthly” for 2026-10 could not be made: the disk is full"
    (back,) = one.alarms.clear("report_failed", SITE, one.at(20))
    assert not back.notify and back.finding.until == one.at(20)
