"""What the poller promises: everything due is read in time, nobody waits for the dead, and reports say what is so."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import cycle, pairwise

import pytest

from meter_batch_engine.errors import ConfigError, LineUnavailable, MeterError, NoReply, Refused, WrongMeter
from meter_batch_engine.line import LineSettings
from meter_batch_engine.model.point import InstalledMeter, Multiplier, Point
from meter_batch_engine.model.quantity import BY_KEY

ENERGY = BY_KEY["energy_import"].obis
VOLTAGE = BY_KEY["voltage_l1"].obis
DLT = LineSettings(baud=2400, parity="E")


def test_every_meter_is_read_with_its_values_and_nothing_fails(polled, sim_meter):
    site = polled([sim_meter(str(unit)) for unit in range(1, 11)], 60)
    for key in site.meters:
        values = site.last(key)
        assert values["voltage_l1"].value == pytest.approx(230.5)
        assert values["energy_import"].value > 1000
        assert values.keys() == {one.quantity.key for one in site.meters[key].template.registers}
        assert site.failures(key) == []
    health = site.reports[-1].health
    assert health.connected and health.problem is None and health.success_rate == 1.0
    assert 0.05 < health.latency_s < 1 and health.cycle_s < 10
    assert health.counters.exchanges == health.counters.replies


def test_fast_registers_come_every_fast_s_and_slow_ones_every_slow_s(polled, sim_meter):
    site = polled([sim_meter("1"), sim_meter("2")], 700, fast_s=5, slow_s=300)
    volts = [report.at for report in site.reports for one in report.readings.get("1", ()) if one.obis == VOLTAGE]
    gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(volts)]
    assert min(gaps) > 4.5 and max(gaps) < 5.5
    seen = [report.at for report in site.reports for one in report.readings.get("1", ()) if one.obis == ENERGY]
    assert 3 <= len(seen) <= 5


def test_a_line_that_is_always_busy_reads_all_meters_equally_often(polled, sim_meter):
    site = polled([sim_meter(str(unit)) for unit in range(1, 9)], 120, fast_s=0.1, line=LineSettings(baud=2400))
    counts = [len(meter.asked) for meter in site.meters.values()]
    assert max(counts) - min(counts) <= 4


def test_the_wire_is_never_asked_before_its_silence_and_used_without_pauses(polled, sim_meter):
    site = polled([sim_meter(str(unit)) for unit in range(1, 5)], 60, fast_s=0.1)
    assert min(site.wire.silences) >= 38.5 / 9600 - 1e-7
    busy = site.line.counters.airtime_s + len(site.wire.sent) * (0.03 + 38.5 / 9600)
    assert busy / 60 > 0.98


def test_dlt645_meters_are_read_with_blocks_and_following_frames(polled, sim_meter):
    meters = [sim_meter("000000000001", "generic/dlt645-3ph"), sim_meter("000000000075", "generic/dlt645-1997-3ph")]
    site = polled(meters, 60, line=DLT)
    for key in site.meters:
        assert {one.quantity.key for one in site.meters[key].template.registers} == site.last(key).keys()
        assert site.failures(key) == []
    # With 20 bytes in a frame some blocks need following frames: functions 12 and 02 were used.
    assert any(sent[1][8] in (0x12, 0x02) for sent in site.wire.sent)


def test_modbus_and_dlt645_meters_share_one_line(polled, sim_meter):
    meters = [sim_meter("5"), sim_meter("000000000001", "generic/dlt645-3ph"), sim_meter("6", "eastron/sdm120")]
    site = polled(meters, 60, line=LineSettings(baud=9600, parity="E"))
    for key in site.meters:
        assert site.last(key) and site.failures(key) == []
    turns = zip(site.wire.silences[1:], pairwise(one[1] for one in site.wire.sent), strict=True)
    switched = [silence for silence, (before, after) in turns if (before[0] == 0x68) != (after[0] == 0x68)]
    assert switched and min(switched) >= 0.05


def test_modbus_tcp_is_polled_without_wire_time(polled, sim_meter):
    site = polled([sim_meter(str(unit)) for unit in range(1, 4)], 30, line=LineSettings(framing="tcp"), fast_s=1)
    assert all(len(site.times(key)) >= 28 for key in site.meters)


def test_energies_are_read_first_of_all_at_the_boundary_with_the_skew_recorded(polled, sim_meter):
    meters = [sim_meter(str(unit)) for unit in range(1, 21)]
    site = polled(meters, 710, fast_s=0.5, slow_s=100)
    boundary = datetime(2026, 11, 25, 12, 15, tzinfo=UTC)
    snapshots = {key: one for report in site.reports for key, one in report.snapshots.items()}
    assert snapshots.keys() == site.meters.keys()
    skews = [one.skew_s for one in snapshots.values()]
    assert all(one.boundary == boundary for one in snapshots.values())
    # Twenty meters, one short read each: 20 × (8 + 5 + 16 bytes, turn-round, silence) and the exchange under way.
    assert max(skews) < 20 * 0.1 + 0.5
    for key, one in snapshots.items():
        assert {reading.obis for reading in one.readings} >= {ENERGY}
        energy = next(reading for reading in one.readings if reading.obis == ENERGY)
        hours = Decimal((boundary - (site.reports[0].at - timedelta(0))).total_seconds()) / 3600
        assert energy.value == pytest.approx(1000 + Decimal("3.6") * hours, abs=Decimal("0.02")), key


def test_a_meter_that_missed_the_boundary_gives_its_snapshot_late_with_its_skew(polled, sim_meter):
    meters = [sim_meter("1"), sim_meter("2")]

    def alive(state):
        def change(site):
            site.meters["2"].alive = state

        return change

    site = polled(meters, 900, fast_s=2, slow_s=30, events=[(690, alive(False)), (720, alive(True))])
    snapshots = {key: one for report in site.reports for key, one in report.snapshots.items()}
    assert snapshots["1"].skew_s < 1
    assert 20 < snapshots["2"].skew_s < 120


def test_at_the_boundary_even_a_meter_that_is_being_read_waits(polled, sim_meter):
    meters = [sim_meter(f"{unit:012d}", "generic/dlt645-3ph") for unit in range(1, 5)]
    site = polled(meters, 720, line=DLT, fast_s=0.1, slow_s=0.1)
    snapshots = {key: one for report in site.reports for key, one in report.snapshots.items()}
    # Four meters with four single energies each: about 0.2 s a question, and one that was under way.
    assert len(snapshots) == 4 and min(one.skew_s for one in snapshots.values()) < 1.4
    assert max(one.skew_s for one in snapshots.values()) < 4.5


def test_without_a_boundary_there_is_no_snapshot(polled, sim_meter):
    site = polled([sim_meter("1")], 600, fast_s=5)
    assert not any(report.snapshots for report in site.reports)


def test_a_silent_meter_is_reported_backed_off_and_seen_again_within_a_minute(polled, sim_meter):
    def alive(state):
        def change(site):
            site.meters["3"].alive = state

        return change

    meters = [sim_meter(str(unit)) for unit in range(1, 5)]
    site = polled(meters, 900, fast_s=2, events=[(100, alive(False)), (800, alive(True))])
    assert isinstance(site.failures("3")[0], NoReply)
    first = next(report for report in site.reports if "3" in report.silent)
    assert 100 < (first.at - site.reports[0].at).total_seconds() < 115
    back = next(report for report in site.reports if report.at > first.at and "3" not in report.silent)
    assert 800 < (back.at - site.reports[0].at).total_seconds() <= 860
    probes = [at for at in site.meters["3"].asked if 110 < at < 790]
    gaps = [later - earlier for earlier, later in pairwise(probes)]
    assert len(probes) < 22 and max(gaps) <= 60
    assert site.times("3")[-1] > 890


def test_the_dead_cost_the_living_little(polled, sim_meter):
    def interval(dead):
        meters = [sim_meter(str(unit), alive=unit > dead) for unit in range(1, 17)]
        site = polled(meters, 900, fast_s=0.1)
        times = [at for at in site.meters["12"].asked if at > 600]
        return (times[-1] - times[0]) / (len(times) - 1)

    alone = interval(0) * 12 / 16
    assert interval(4) / alone <= 1.05


def test_a_meter_of_which_nothing_was_ever_heard_is_found_when_it_comes(polled, sim_meter):
    def wake(site):
        site.meters["2"].alive = True

    site = polled([sim_meter("1"), sim_meter("2", alive=False)], 300, fast_s=1, events=[(200, wake)])
    assert 200 < site.times("2")[0] <= 260


def test_a_reply_that_is_three_times_as_slow_now_and_then_is_no_failure(polled, sim_meter):
    def moods():
        yield from [0.1] * 99
        yield 0.3

    slow = cycle(moods())
    site = polled([sim_meter("1", delay_s=lambda: next(slow))], 600, fast_s=0.1)
    assert site.line.counters.timeouts == 0


def test_a_meter_that_is_slower_than_expected_is_learned_from_its_late_replies(polled, sim_meter):
    site = polled([sim_meter("1"), sim_meter("2", delay_s=lambda: 2.2)], 120, fast_s=5)
    assert site.times("2") and site.times("2")[-1] > 100
    assert site.reports[-1].silent == frozenset()


def test_one_failure_is_put_right_at_the_end_of_the_round_and_not_reported(polled, sim_meter):
    answers = iter([0.03] * 3 + [None])
    site = polled([sim_meter("1"), sim_meter("2", delay_s=lambda: next(answers, 0.03))], 60)
    assert site.line.counters.timeouts == 1
    assert site.failures("2") == []
    assert site.last("2").keys() == site.last("1").keys()


def test_a_damaged_reply_now_and_then_does_not_silence_a_meter(polled, sim_meter):
    def damage(state):
        def change(site):
            site.meters["1"].damaged = state

        return change

    events = [(at + shift, damage(not shift)) for at in range(20, 280, 20) for shift in (0, 3)]
    site = polled([sim_meter("1"), sim_meter("2")], 300, fast_s=2, events=events)
    assert site.line.counters.damaged > 3
    assert len(site.times("1")) > 100


def test_registers_that_a_meter_has_not_are_found_out_once_and_then_left_out(polled, sim_meter):
    lacking = frozenset({"frequency", "demand_import", "voltage_l1_l2"})
    meter = sim_meter("1", absent=lacking)
    site = polled([meter], 400, fast_s=5)
    have = {one.quantity.key for one in meter.template.registers} - lacking
    assert site.last("1").keys() == have
    assert site.failures("1") == []
    refusals = [at for at in meter.asked if at < 10]
    assert len(refusals) > 3
    # Once learned, a fast round needs no more than two or three reads.
    assert len([at for at in meter.asked if 100 <= at < 150]) <= 10 * 3


def test_a_meter_that_takes_only_short_requests_is_asked_for_less_at_once(polled, sim_meter):
    meter = sim_meter("1", longest=20)
    site = polled([meter], 120, fast_s=5)
    assert site.last("1").keys() == {one.quantity.key for one in meter.template.registers}
    assert site.failures("1") == []


def test_a_dlt645_meter_without_blocks_is_asked_for_single_items(polled, sim_meter):
    meter = sim_meter("000000000001", "generic/dlt645-3ph", absent=frozenset({"voltage_l3", "energy_import_t4"}))
    site = polled([meter], 120, line=DLT)
    assert site.last(meter.address).keys() >= {"voltage_l1", "voltage_l2", "energy_import"}
    assert site.failures(meter.address) == []


def never_silent(site, key):
    return not any(key in report.silent for report in site.reports)


@pytest.mark.parametrize("key", ["voltage_l1", "frequency", "energy_import", "demand_import"])
def test_one_register_that_a_meter_ignores_costs_only_itself(polled, sim_meter, key):
    site = polled([sim_meter("1", mute=frozenset({key})), sim_meter("2")], 1300, fast_s=5)
    assert site.last("1").keys() == site.last("2").keys() - {key}
    assert never_silent(site, "1")
    volts = VOLTAGE if key != "voltage_l1" else BY_KEY["voltage_l2"].obis
    seen = [report.at for report in site.reports for one in report.readings.get("1", ()) if one.obis == volts]
    assert max((later - earlier).total_seconds() for earlier, later in pairwise(seen)) < 12
    # Found once by halving, then asked for ever more rarely: after 60 s, 120 s, 240 s …
    assert site.line.counters.timeouts < 20
    assert len(site.failures("1")) < 10


def test_several_registers_that_a_meter_ignores_are_found_while_the_others_come(polled, sim_meter):
    lacking = frozenset({"frequency", "demand_import", "voltage_l1_l2", "current_l3"})
    site = polled([sim_meter("1", mute=lacking), sim_meter("2")], 600, fast_s=5, slow_s=60)
    assert site.last("1").keys() == site.last("2").keys() - lacking
    late = [report.at for report in site.reports if "1" in report.silent]
    # Before it has answered anything it may look silent for a moment.
    assert all((at - site.reports[0].at).total_seconds() < 10 for at in late)
    assert max(later - earlier for earlier, later in pairwise(site.times("1"))) < 12


def test_a_meter_that_ignores_registers_delays_the_others_little(polled, sim_meter):
    meter = sim_meter("1", mute=frozenset(f"voltage_l{one}" for one in (1, 2, 3)))
    site = polled([meter, sim_meter("2")], 600, fast_s=2)
    assert max(later - earlier for earlier, later in pairwise(site.times("2"))) < 3.5


def test_slow_registers_stay_slow_where_a_meter_ignores_something(polled, sim_meter):
    site = polled([sim_meter("1", mute=frozenset({"energy_import"}))], 650, fast_s=5, slow_s=300)
    obis = BY_KEY["energy_export"].obis
    seen = [report.at for report in site.reports for one in report.readings.get("1", ()) if one.obis == obis]
    assert 2 <= len(seen) <= 8


def test_what_a_meter_ignored_only_for_a_while_comes_back(polled, sim_meter):
    meter = sim_meter("1", mute=frozenset({"voltage_l1"}))
    site = polled(
        [meter, sim_meter("2")], 300, fast_s=5, events=[(60, lambda site: setattr(meter, "mute", frozenset()))]
    )
    times = [
        (r.at - site.reports[0].at).total_seconds()
        for r in site.reports
        for one in r.readings.get("1", ())
        if one.obis == VOLTAGE
    ]
    assert times and times[0] < 130 and len(times) > 25


def test_a_dlt645_meter_that_ignores_blocks_or_items_gives_the_rest(polled, sim_meter):
    lacking = frozenset({"voltage_l3", "energy_import_t4"})
    meters = [
        sim_meter("000000000001", "generic/dlt645-3ph", mute=lacking),
        sim_meter("2".zfill(12), "generic/dlt645-3ph"),
    ]
    site = polled(meters, 700, line=DLT)
    first, second = site.meters
    assert site.last(first).keys() == site.last(second).keys() - lacking
    assert never_silent(site, first)
    assert max(later - earlier for earlier, later in pairwise(site.times(first))) < 25


def test_read_now_leaves_out_what_a_meter_ignores(polled, sim_meter):
    async def ask(site):
        return await site.poll.read_now("1")

    site = polled([sim_meter("1", mute=frozenset({"frequency"}))], 60, fast_s=5, events=[(50, ask)])
    assert len(site.results[0]) == len(site.meters["1"].template.registers) - 1


def test_noise_that_divided_a_question_is_forgotten(polled, sim_meter):
    meter = sim_meter("1", mute=frozenset({"frequency"}))
    polled([meter], 1500, fast_s=5, events=[(20, lambda site: setattr(meter, "mute", frozenset()))])

    def asked(begin, end):
        return len([at for at in meter.asked if begin <= at < end])

    whole = polled([sim_meter("1")], 1500, fast_s=5).meters["1"].asked
    assert asked(1200, 1500) == len([at for at in whole if 1200 <= at < 1500])


def test_long_replies_that_are_always_damaged_are_asked_for_in_parts(polled, sim_meter):
    site = polled([sim_meter("1", damaged_from=60), sim_meter("2")], 300, fast_s=5)
    assert site.last("1").keys() == site.last("2").keys()
    late = [report.at for report in site.reports[-200:] if "1" in report.silent]
    assert not [at for at in late if (at - site.reports[0].at).total_seconds() > 60]
    turns = sum(("1" in a.silent) != ("1" in b.silent) for a, b in pairwise(site.reports))
    assert turns <= 2


def test_a_failed_read_is_reported_though_the_line_is_busy(polled, sim_meter):
    """It is asked again only when no late reply can be meant for it any more, and that is too late."""
    answers = cycle([0.03] * 40 + [None])
    meters = [sim_meter("1", delay_s=lambda: next(answers)), *(sim_meter(str(unit)) for unit in range(2, 6))]
    only = frozenset({VOLTAGE})
    site = polled(meters, 200, fast_s=0.3, poll=lambda site: site.poll_meters(wanted=only))
    assert site.line.counters.timeouts > 4 and never_silent(site, "1")
    assert site.failures("1")


def test_the_wrong_model_is_called_so(polled, sim_meter):
    site = polled([sim_meter("1", refuses=2)], 30)
    assert any("choose the right model" in str(error) for error in site.failures("1"))
    assert site.reports[-1].silent == frozenset()


def test_a_refusal_is_reported_and_the_others_go_on(polled, sim_meter):
    site = polled([sim_meter("1", refuses=4), sim_meter("2")], 30)
    assert isinstance(site.failures("1")[0], Refused)
    assert site.last("2")


def test_two_meters_with_one_address_are_told_apart_by_nobody_so_neither_is_read(polled, sim_meter):
    def poll(site):
        first, second, third = site.poll_meters()
        return [first, replace(second, key="b", name="Pump", address="01"), third]

    site = polled([sim_meter("1"), sim_meter("2"), sim_meter("3")], 20, poll=poll)
    assert '"Meter 1", "Pump" have the same unit 1' in str(site.failures("1")[0])
    assert isinstance(site.failures("b")[0], MeterError)
    assert "have the same unit 1" in site.reports[-1].health.problem
    assert site.last("3") and not site.last("1") and not site.last("b")


@pytest.mark.parametrize("address", ["0", "248", "x", "", "12 3", "²"])
def test_an_impossible_address_is_reported_and_the_others_go_on(polled, sim_meter, address):
    def poll(site):
        first, second = site.poll_meters()
        return [replace(first, address=address), second]

    site = polled([sim_meter("1"), sim_meter("2")], 20, poll=poll)
    assert "no Modbus unit" in str(site.failures("1")[0])
    assert site.last("2")


def test_a_model_of_another_protocol_is_reported(polled, sim_meter):
    def poll(site):
        return [replace(site.poll_meters()[0], protocol="dlt645-2007", address="0" * 12)]

    site = polled([sim_meter("1")], 10, poll=poll)
    assert "does not speak dlt645-2007" in str(site.failures("1")[0])


def test_the_address_of_all_meters_at_once_is_nobodys(polled, sim_meter):
    def poll(site):
        return [replace(site.poll_meters()[0], address="9" * 12)]

    site = polled([sim_meter("000000000001", "generic/dlt645-3ph")], 10, line=DLT, poll=poll)
    assert "of all meters at once" in str(site.failures("000000000001")[0])


def test_a_value_that_is_none_names_meter_and_item_and_costs_only_itself(polled, sim_meter):
    class Odd(sim_meter):
        def item(self, di):
            data = super().item(di)
            return data and (b"\x0e" + data[1:] if di == "02800002" else data)

    meter = Odd("000000000001", "generic/dlt645-3ph")
    site = polled([meter], 60, line=DLT)
    said = str(site.failures(meter.address)[0])
    assert "Meter 000000000001" in said and "02800002 (" in said
    assert site.last(meter.address).keys() == {one.quantity.key for one in meter.template.registers} - {"frequency"}


def test_readings_are_multiplied_by_the_points_ratios(polled, sim_meter):
    since = datetime(2026, 1, 1, tzinfo=UTC)
    point = Point("p", "Feeder", (InstalledMeter(since, "eastron/sdm630"),), (), (Multiplier(since, ct=Decimal(80)),))
    site = polled([sim_meter("1")], 20, poll=lambda site: site.poll_meters(point=point))
    assert site.last("1")["current_l1"].value == pytest.approx(5.25 * 80)
    assert site.last("1")["voltage_l1"].value == pytest.approx(230.5)
    assert 80_000 <= site.last("1")["energy_import"].value < 80_001


def test_only_wanted_registers_are_read(polled, sim_meter):
    site = polled([sim_meter("1")], 20, poll=lambda site: site.poll_meters(wanted=frozenset({VOLTAGE, ENERGY})))
    assert site.last("1").keys() == {"voltage_l1", "energy_import"}


def test_an_energy_that_falls_to_zero_once_is_flagged_and_never_good(polled, sim_meter):
    def level(value):
        def change(site):
            site.meters["1"].level = Decimal(value)

        return change

    # Energies are slow: two reads at most see the zero.
    site = polled([sim_meter("1")], 400, slow_s=20, events=[(100, level(0)), (125, level(1000))])
    energies = [one for report in site.reports for one in report.readings.get("1", ()) if one.obis == ENERGY]
    assert any(not one.good for one in energies)
    assert all(one.value >= 1000 for one in energies if one.good)
    assert energies[-1].good and energies[-1].flags == frozenset()


def test_read_now_jumps_the_queue(polled, sim_meter):
    took = []

    async def now(site):
        before = site.loop.time()
        readings = await site.poll.read_now("7", [VOLTAGE])
        took.append(site.loop.time() - before)
        return readings

    meters = [sim_meter(str(unit)) for unit in range(1, 21)]
    site = polled(meters, 30, fast_s=0.1, line=LineSettings(baud=2400), events=[(10, now)])
    assert [one.obis for one in site.results[0]] == [VOLTAGE]
    assert took[0] < 2


def test_read_now_tells_what_is_wrong(polled, sim_meter):
    async def ask(site, key):
        return await site.poll.read_now(key)

    events = [(5, lambda site: ask(site, "2")), (6, lambda site: ask(site, "9"))]
    site = polled([sim_meter("1"), sim_meter("2", alive=False)], 20, events=events)
    assert isinstance(site.results[0], NoReply)
    assert isinstance(site.results[1], ConfigError)


def test_a_line_that_is_not_there_is_reported_and_tried_again_ever_more_rarely(polled, sim_meter):
    text = "Nothing listens at simulated:1: is the port right?"

    async def ask(site):
        return await site.poll.read_now("1")

    def repair(site):
        site.wire.refuses = ""

    site = polled([sim_meter("1")], 200, wiring={"refuses": text}, events=[(20, ask), (100, repair)])
    assert site.reports[0].health == replace(site.reports[0].health, connected=False, problem=text)
    assert isinstance(site.results[0], LineUnavailable) and str(site.results[0]) == text
    assert 100 < site.times("1")[0] < 165
    assert site.reports[-1].health.connected and site.reports[-1].health.problem is None


def test_a_gateway_that_vanishes_in_mid_frame_is_reopened_and_reading_goes_on(polled, sim_meter):
    meters = [sim_meter(str(unit)) for unit in range(1, 5)]
    site = polled(meters, 60, fast_s=30, slow_s=300, events=[(0.3, lambda site: site.wire.lose())])
    assert site.wire.opened == 2
    assert all(report.health.connected for report in site.reports)
    assert all(site.times(key)[0] < 8 and site.last(key)["energy_import"] for key in site.meters)


def test_a_gateway_that_does_not_come_back_is_reported_as_what_it_is(polled, sim_meter):
    def go(site):
        site.wire.refuses = "No answer from simulated:1"
        site.wire.lose()

    def come(site):
        site.wire.refuses = ""

    site = polled([sim_meter("1"), sim_meter("2")], 120, fast_s=1, events=[(20.05, go), (60, come)])
    down = [report for report in site.reports if not report.health.connected]
    assert down and {report.health.problem for report in down} == {"No answer from simulated:1"}
    assert (down[0].at - site.reports[0].at).total_seconds() == pytest.approx(20, abs=1.5)
    assert site.times("1")[-1] > 115 and site.reports[-1].health.problem is None


def test_a_reply_from_another_meter_is_nobodys_reading(polled, sim_meter):
    site = polled([sim_meter("1", answers_as=3), sim_meter("2")], 60, fast_s=2)
    assert isinstance(site.failures("1")[0], WrongMeter)
    assert not site.last("1") and site.last("2") and site.failures("2") == []


def test_a_meter_that_refused_while_it_was_starting_is_asked_for_everything_again(polled, sim_meter):
    def grown_up(site):
        site.meters["1"].absent = frozenset()
        site.meters["1"]._image = None

    meter = sim_meter("1", absent=frozenset({"frequency"}))
    events = [(30, grown_up), (100, lambda site: setattr(meter, "alive", False))]
    events += [(130, lambda site: setattr(meter, "alive", True))]
    site = polled([meter], 300, fast_s=2, events=events)
    assert "frequency" in site.last("1")


def test_a_connection_through_which_nothing_comes_is_made_anew_without_ado(polled, sim_meter):
    site = polled([sim_meter("1", alive=False)], 400)
    assert site.wire.opened in (3, 4)
    assert all(report.health.connected for report in site.reports)
    assert site.reports[-1].silent == {"1"}


def test_a_line_on_which_nobody_answers_says_what_to_check(polled, sim_meter):
    site = polled([sim_meter(str(unit), alive=False) for unit in (1, 2, 3)], 60)
    assert "None of the 3 meters of simulated:1 answers" in site.reports[-1].health.problem


def test_meters_come_and_go_while_polling_and_what_was_learned_stays(polled, sim_meter):
    learned = []

    def fewer(site):
        learned.append(site.poll._meters["1"])
        site.poll.set_meters(site.poll_meters()[:1])

    def more(site):
        site.poll.set_meters(site.poll_meters())
        learned.append(site.poll._meters["1"])

    site = polled([sim_meter("1"), sim_meter("2")], 90, fast_s=2, events=[(30, fewer), (60, more)])
    assert not [at for at in site.times("2") if 34 < at < 60] and site.times("2")[-1] > 80
    assert learned[0] is learned[1]
    assert max(later - earlier for earlier, later in pairwise(site.times("1"))) < 4


def test_a_stall_of_the_loop_costs_no_meter_its_reading(polled, sim_meter):
    events = [(at, lambda site: site.loop.stall(1.5)) for at in range(10, 200, 7)]
    site = polled([sim_meter(str(unit)) for unit in range(1, 9)], 240, fast_s=1, events=events)
    assert site.line.counters.timeouts == 0
    assert all(site.failures(key) == [] for key in site.meters)
