"""Clocks of meters: what labels mean, how far off they are, and when they may be put right."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from meter_batch_engine.fleet.clock import MeterClock, WallClock, may_set

BERLIN, SHANGHAI, DUBLIN = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Shanghai"), ZoneInfo("Europe/Dublin")


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def wall(text):
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("clock", "instant", "shown"),
    [
        (WallClock(), "2026-07-01 10:00", "2026-07-01 10:00"),
        (WallClock(SHANGHAI), "2026-07-01 10:00", "2026-07-01 18:00"),
        (WallClock(BERLIN), "2026-07-01 10:00", "2026-07-01 11:00"),
        (WallClock(BERLIN, dst=True), "2026-07-01 10:00", "2026-07-01 12:00"),
        (WallClock(DUBLIN), "2026-07-01 10:00", "2026-07-01 10:00"),
        (WallClock(ZoneInfo("Australia/Sydney")), "2026-01-01 10:00", "2026-01-01 20:00"),
    ],
)
def test_a_clock_shows_the_time_of_its_zone_with_daylight_saving_only_where_it_knows_it(clock, instant, shown):
    assert clock.shows(at(instant)) == wall(shown)
    assert clock.means(wall(shown)) == (at(instant),)


def test_the_hour_that_comes_twice_means_two_instants_and_the_one_left_out_means_none():
    clock = WallClock(BERLIN, dst=True)
    assert clock.means(wall("2026-10-25 02:30")) == (at("2026-10-25 00:30"), at("2026-10-25 01:30"))
    assert clock.means(wall("2026-03-29 02:30")) == ()


def test_labels_in_the_hour_that_comes_twice_are_told_apart_by_what_went_before():
    clock = WallClock(BERLIN, dst=True)
    labels = [wall(f"2026-10-25 0{text}") for text in ("1:30", "2:00", "2:30", "2:00", "2:30", "3:00")]
    instants = ("4 23:30", "5 00:00", "5 00:30", "5 01:00", "5 01:30", "5 02:00")
    assert clock.sequence(labels) == [at(f"2026-10-2{text}") for text in instants]


def test_without_anything_before_labels_of_that_hour_stay_unknown():
    clock = WallClock(BERLIN, dst=True)
    assert clock.sequence([wall("2026-10-25 02:30"), wall("2026-10-25 03:00")]) == [None, at("2026-10-25 02:00")]


def test_a_clock_without_daylight_saving_knows_no_such_hour():
    clock = WallClock(BERLIN)
    day = [wall("2026-10-25 01:00") + timedelta(minutes=15 * n) for n in range(12)]
    instants = clock.sequence(day)
    assert [b - a for a, b in pairwise(instants)] == [timedelta(minutes=15)] * 11


def test_the_offset_of_a_clock_is_known_to_about_a_second_and_less_is_no_error():
    clock = MeterClock(WallClock(SHANGHAI))
    reading = clock.read(at("2026-11-25 04:00:00.300"), wall("2026-11-25 12:00:00"))
    assert abs(reading.offset_s) < 1
    assert clock.offset_s == 0
    reading = clock.read(at("2026-11-25 04:00:00"), wall("2026-11-25 12:02:00"))
    assert reading.offset_s == pytest.approx(120, abs=1)
    assert clock.offset_s == reading.offset_s


def test_between_two_readings_a_clock_drifts_evenly_and_its_drift_is_told():
    clock = MeterClock(WallClock())
    clock.note(at("2026-11-20 00:00"), 10.0)
    clock.note(at("2026-11-24 00:00"), 30.0)
    assert clock.offset_at(at("2026-11-22 00:00").timestamp()) == pytest.approx(20.0)
    assert clock.offset_at(at("2026-11-01 00:00").timestamp()) == 10.0
    assert clock.newest.drift_s_per_day == pytest.approx(5.0)


def test_what_a_clock_wrote_before_it_was_put_right_keeps_the_old_offset():
    clock = MeterClock(WallClock())
    clock.note(at("2026-11-20 10:00"), 200.0)
    clock.note(at("2026-11-20 10:01"), 0.0)
    clock.was_set()
    assert clock.newest.set
    assert clock.offset_at(at("2026-11-20 09:45").timestamp()) == 200.0
    assert clock.offset_at(at("2026-11-20 10:15").timestamp()) == 0.0
    clock.note(at("2026-11-21 10:00"), 1.0)
    assert clock.newest.drift_s_per_day == pytest.approx(1.0, abs=0.01)


def test_a_clock_that_was_set_to_nonsense_is_not_trusted():
    clock = MeterClock(WallClock(SHANGHAI))
    clock.read(at("2026-11-25 04:00"), wall("2000-01-01 00:00"))
    assert not clock.trusted


NOON = at("2026-11-25 04:05")


def off(seconds, now=NOON):
    clock = MeterClock(WallClock(SHANGHAI))
    clock.note(now - timedelta(minutes=1), seconds)
    return clock


@pytest.mark.parametrize(
    ("seconds", "may"), [(3, False), (-4, False), (20, True), (-200, True), (299, True), (301, False), (-7200, False)]
)
def test_broadcast_time_is_for_small_corrections_only(seconds, may):
    assert may_set(off(seconds), NOON, [seconds]) is may


@pytest.mark.parametrize("now", ["2026-11-25 15:52", "2026-11-25 16:05"])
def test_no_clock_is_set_around_its_midnight(now):
    assert not may_set(off(100, at(now)), at(now), [100])


@pytest.mark.parametrize(("seconds", "now"), [(100, "2026-11-25 04:14"), (-100, "2026-11-25 04:16")])
def test_no_clock_is_set_over_a_quarter_of_an_hour_at_which_records_are_written(seconds, now):
    assert not may_set(off(seconds, at(now)), at(now), [seconds])


def test_where_all_clocks_of_a_line_agree_that_we_are_wrong_none_is_set():
    assert not may_set(off(200), NOON, [200, 198, 203, 201])
    assert may_set(off(200), NOON, [200, 0, 1, -1])
