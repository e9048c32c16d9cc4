"""Another meter at an address is noticed before its energies are mixed, and nonsense is flagged, not believed."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from meter_batch_engine.fleet.identity_watch import is_same
from meter_batch_engine.line import LineSettings
from meter_batch_engine.model.point import InstalledMeter, Point
from meter_batch_engine.model.quantity import BY_KEY
from meter_batch_engine.model.reading import Flag

ENERGY = BY_KEY["energy_import"].obis
SINCE = datetime(2026, 1, 1, tzinfo=UTC)


def identities(site, key):
    return [report.identities[key] for report in site.reports if key in report.identities]


def energies(site, key):
    return [one for report in site.reports for one in report.readings.get(key, ()) if one.obis == ENERGY]


@pytest.mark.parametrize(
    ("address", "model", "serial"),
    [("1", "eastron/sdm630", "12345678"), ("000000000001", "generic/dlt645-3ph", "202600004711")],
)
def test_a_meter_is_asked_who_it_is_once_a_day(polled, sim_meter, address, model, serial):
    meter = sim_meter(address, model, serial=serial, delay_s=lambda: 0.01)
    site = polled([meter], 2 * 86_400, fast_s=900, slow_s=3600, interval_s=3600, budget=0)
    assert [one.serial for one in identities(site, address)] == [serial] * 2
    assert not any(one.swapped or one.misfit for one in identities(site, address))
    assert len(meter.said) == 2 and meter.said[0] < 10 and meter.said[1] - meter.said[0] >= 86_400
    assert site.failures(address) == []


def test_a_meter_that_does_not_say_who_it_is_costs_one_question_a_day(polled, sim_meter):
    site = polled([sim_meter("1")], 86_000, fast_s=900, slow_s=3600, interval_s=3600, budget=0)
    asked = sum(sent[1][2:4] == b"\xfc\x00" for sent in site.wire.sent)
    assert asked == 1 and identities(site, "1") == [] and site.failures("1") == []


def swap(site):
    meter = site.meters["1"]
    meter.alive, meter.serial, meter.level = False, "87654321", Decimal(2000)


def back(site):
    site.meters["1"].alive = True


def test_after_a_silence_another_meter_is_known_before_its_energies_are_believed(polled, sim_meter):
    """It shows more than the old one, so that nothing but the serial number gives it away."""
    meters = [sim_meter("1", serial="12345678"), sim_meter("2", serial="2")]
    site = polled(meters, 400, slow_s=20, fast_s=5, events=[(100, swap), (200, back)])
    assert [one.swapped for one in identities(site, "1")] == [False, True]
    new = [one for one in energies(site, "1") if one.value >= 2000]
    # Its first energy says so and is good: what was counted between is nobody's.
    assert new[0].flags == {Flag.SWAP} and all(not one.flags for one in new[1:]) and len(new) > 3
    assert not any(one.flags for one in energies(site, "2"))


def test_a_meter_that_comes_back_as_itself_is_not_called_another(polled, sim_meter):
    def away(site):
        site.meters["1"].alive = False

    site = polled(
        [sim_meter("1", serial="12345678"), sim_meter("2")], 300, slow_s=20, events=[(100, away), (150, back)]
    )
    assert [one.swapped for one in identities(site, "1")] == [False, False]
    assert not any(one.flags for one in energies(site, "1"))


def test_a_swap_while_nobody_polled_is_known_from_the_serial_number_that_the_host_kept(polled, sim_meter):
    site = polled([sim_meter("1", serial="12345678")], 60, slow_s=20, serials={"1": "11112222"})
    assert identities(site, "1")[0].swapped
    assert sum(Flag.SWAP in one.flags for one in energies(site, "1")) == 1


def test_a_serial_number_that_somebody_typed_wrongly_is_told_but_splits_no_energies(polled, sim_meter):
    point = Point("1", "P", (InstalledMeter(SINCE, "eastron/sdm630", "99999999"),), ())
    site = polled([sim_meter("1", serial="12345678")], 60, slow_s=20, poll=lambda site: site.poll_meters(point=point))
    assert identities(site, "1")[0].swapped
    assert not any(one.flags for one in energies(site, "1"))


def test_serial_numbers_are_the_same_whatever_people_leave_out():
    assert is_same("0012345678", "12345678") and is_same("SN-12345678", "12345678") and is_same("ab1234", "AB 1234")
    assert not is_same("12345678", "12345679") and not is_same("5678", "12345678")


def test_values_in_the_wrong_word_order_are_flagged_told_and_called_wrong_not_silent(polled, sim_meter):
    site = polled([sim_meter("1", turned=True), sim_meter("2")], 60, fast_s=5)
    assert identities(site, "1")[-1].misfit.kind == "word_order"
    readings = [one for report in site.reports for one in report.readings.get("1", ())]
    assert readings and all(Flag.SUSPECT in one.flags and not one.good for one in readings)
    assert site.reports[-1].wrong == {"1"} and site.reports[-1].silent == frozenset()
    assert all(one.good for report in site.reports for one in report.readings.get("2", ()))


def test_a_meter_that_was_put_right_is_believed_again_at_once(polled, sim_meter):
    def right(site):
        site.meters["1"].turned = False

    site = polled([sim_meter("1", turned=True)], 120, fast_s=5, events=[(50, right)])
    assert identities(site, "1")[-1].misfit is None and site.reports[-1].wrong == frozenset()
    assert site.last("1")["voltage_l1"].good


def test_one_odd_reply_makes_no_other_model(polled, sim_meter):
    def odd(site):
        site.meters["1"].turned = True

    def even(site):
        site.meters["1"].turned = False

    site = polled([sim_meter("1")], 60, fast_s=5, events=[(0.0, odd), (4, even)])
    assert not any(one.misfit for one in identities(site, "1")) and not any(report.wrong for report in site.reports)
    late = [one for report in site.reports[-3:] for one in report.readings.get("1", ())]
    assert late and all(one.good for one in late)


def test_a_busy_line_asks_who_is_there_within_its_small_share(polled, sim_meter):
    meters = [sim_meter(str(unit), serial=str(unit)) for unit in range(1, 31)]
    site = polled(meters, 600, fast_s=0.1, budget=0, line=LineSettings(baud=9600))
    assert site.reports[-1].health.airtime.probe < 0.008
    assert all(identities(site, str(unit)) for unit in range(1, 31))


def test_one_reply_with_another_number_is_damage_and_no_swap(polled, sim_meter):
    class Odd(sim_meter):
        """Its number is read wrongly once, with a checksum that fits by chance."""

        def item(self, di):
            data = super().item(di)
            odd = di == "04000402" and len(self.said) == 2
            return bytes((data[0] ^ 1,)) + data[1:] if odd else data

    meter = Odd("000000000001", "generic/dlt645-1ph", serial="202600004711", delay_s=lambda: 0.01)
    site = polled([meter], 3 * 86_400, fast_s=900, slow_s=3600, interval_s=3600, budget=0)
    assert len(meter.said) == 4 and not any(one.swapped for one in identities(site, meter.address))
    assert not any(one.flags for one in energies(site, meter.address))


def test_a_line_that_breaks_while_a_meter_is_asked_who_it_is_does_not_spare_it_the_question(polled, sim_meter):
    def cut_once(site):
        if site.wire.on_lost is not None:
            site.wire.lose()

    meters = [sim_meter("1", serial="12345678"), sim_meter("2", serial="2")]
    events = [(100, swap), (200, back), *((200 + step / 10, cut_once) for step in range(0, 300, 7))]
    site = polled(meters, 400, slow_s=20, fast_s=5, events=events)
    new = [one for one in energies(site, "1") if one.value >= 2000]
    assert new and new[0].flags == {Flag.SWAP} and all(not one.flags for one in new[1:])
