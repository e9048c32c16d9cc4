"""What the ledger answers: periods at the site's time, corrections, multipliers, virtual points."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from meter_batch_engine.errors import ConfigError, LedgerError
from meter_batch_engine.ledger import (
    Boundary,
    Observed,
    Observer,
    Restart,
    Term,
    boundary_of,
    combine,
    period_of,
    restarts_of,
)
from meter_batch_engine.model.interval import Interval, Quality
from meter_batch_engine.model.point import InstalledMeter, Multiplier, Point, Route
from meter_batch_engine.model.reading import Flag, Reading
from meter_batch_engine.sentences import Sentence

IMPORT = "1-0:1.8.0"
QUARTER = timedelta(minutes=15)
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("day", "hours"), [("2026-03-29T09:00Z", 23), ("2026-10-25T09:00Z", 25), ("2026-06-01T09:00Z", 24)]
)
def test_a_local_day_has_the_hours_it_has(desk, day, hours):
    begin, end = period_of(datetime.fromisoformat(day), "day", BERLIN)
    assert end - begin == timedelta(hours=hours)
    quarters = (begin - timedelta(hours=3) - datetime(2026, 3, 2, tzinfo=UTC)) // QUARTER
    desk.ledger.take(desk.boundary(quarters + one, one) for one in range(31 * 4 + 1))
    found = desk.ledger.intervals(["p"], begin, end, "day")
    assert [(one.start, one.end, one.energies[IMPORT]) for one in found] == [(begin, end, 4 * hours)]
    assert found[0].completeness == 1.0 and found[0].parts == (1, 1)
    by_hour = desk.ledger.intervals(["p"], begin, end, "hour")
    assert [one.energies[IMPORT] for one in by_hour] == [4] * hours
    assert all(one.length_s == 3600 for one in by_hour)


def test_weeks_months_and_years_begin_at_local_midnight_and_hold_the_same_energy(desk):
    desk.ledger.take(desk.boundary(one * 96, one) for one in range(61))
    begin, end = desk.boundary(0, 0).at, desk.boundary(60 * 96, 0).at
    whole = {}
    for resolution in ("interval", "hour", "day", "week", "month", "year"):
        found = desk.ledger.intervals(["p"], begin, end, resolution)
        whole[resolution] = sum(one.energies[IMPORT] for one in found)
        if resolution in ("day", "week", "month", "year"):
            assert {one.start.astimezone(BERLIN).hour for one in found} == {0}
    assert set(whole.values()) == {Decimal(60)}
    assert [one.start.astimezone(BERLIN).month for one in desk.ledger.intervals(["p"], begin, end, "month")] == [
        3,
        4,
        5,
    ]
    assert {one.start.astimezone(BERLIN).weekday() for one in desk.ledger.intervals(["p"], begin, end, "week")} == {0}
    half_past = desk.ledger.intervals(["p"], begin, end, "hour", "Asia/Kolkata")
    assert {one.start.minute for one in half_past} == {30}


def test_an_incomplete_period_says_how_complete_it_is(desk):
    desk.take(0, 0)
    desk.take(1, 1)
    desk.take(5, 5)
    (hour, _) = desk.ledger.intervals(["p"], desk.boundary(0, 0).at, desk.boundary(8, 0).at, "hour")
    assert (hour.energies[IMPORT], hour.completeness) == (4, 0.25)
    assert hour.flags == {Quality.MEASURED, Quality.ESTIMATED}
    share = desk.ledger.completeness(["p"], desk.boundary(0, 0).at, desk.boundary(5, 0).at)
    assert share == {"p": 0.2}


def test_questions_without_an_answer_are_refused_in_words(desk):
    at = desk.boundary(0, 0).at
    with pytest.raises(LedgerError, match="no point nowhere") as refused:
        desk.ledger.intervals(["nowhere"], at, at + QUARTER)
    assert isinstance(refused.value.text, Sentence)
    desk.take(0, 0)
    with pytest.raises(LedgerError, match="empty or reversed"):
        desk.ledger.intervals(["p"], at, at)
    with pytest.raises(ConfigError, match="Middle/Earth"):
        desk.ledger.intervals(["p"], at, at + QUARTER, "day", "Middle/Earth")
    assert desk.ledger.latest("p") is None
    desk.take(1, 7)
    assert desk.ledger.latest("p").energies == {IMPORT: Decimal(7)}


def test_a_correction_is_a_revision_with_author_and_reason_and_can_be_taken_back(desk):
    for at in range(3):
        desk.take(at, at)
    first = desk.boundary(0, 0).at
    for author, reason in (("", "why"), ("who", " ")):
        with pytest.raises(LedgerError, match="author and a reason"):
            desk.ledger.edit("p", first, {IMPORT: Decimal(3)}, author=author, reason=reason)
    desk.ledger.edit("p", first, {IMPORT: Decimal("3.25")}, author="Li", reason="meter was bypassed")
    assert desk.energies()[0] == Decimal("3.25") and desk.flags()[0] == {"edited"}
    told = [(one.energies[IMPORT], author, why) for one, author, why, _ in desk.ledger.history("p", first)]
    assert told == [(1, "meter_batch", "closed"), (Decimal("3.25"), "Li", "meter was bypassed")]
    verdict = desk.ledger.verify()
    assert verdict.ok and verdict.edited == 1
    desk.ledger.edit("p", first, None, author="Li", reason="it was not")
    assert desk.energies()[0] == 1 and desk.flags()[0] == {"measured"}
    with pytest.raises(LedgerError, match="no interval"):
        desk.ledger.edit("p", first + 9 * QUARTER, {}, author="Li", reason="x")


def test_a_correction_stands_whatever_comes_later_beneath_it(desk):
    desk.take(0, "0.00")
    desk.take(4, "4.00")
    second = desk.boundary(1, 0).at
    desk.ledger.edit("p", second, {IMPORT: Decimal(9)}, author="Li", reason="known")
    desk.ledger.take([desk.boundary(1, "0.50", source="memory"), desk.boundary(2, "2.50", source="memory")])
    assert desk.energies() == {0: Decimal("0.5"), 1: 9, 2: Decimal("0.75"), 3: Decimal("0.75")}
    desk.ledger.edit("p", second, None, author="Li", reason="memory knows better")
    assert desk.energies()[1] == 2
    assert desk.ledger.verify().ok


def test_a_multiplier_that_was_wrong_is_put_right_exactly_and_the_counts_stay(desk):
    for at in range(6):
        desk.take(at, Decimal(at) / 8)
    begin = desk.boundary(0, 0).at
    first = [Multiplier(begin, Decimal(40))]
    desk.ledger.set_multipliers("p", first)
    assert set(desk.energies().values()) == {Decimal(5)}
    before = desk.ledger.revision
    desk.ledger.set_multipliers("p", first)
    assert desk.ledger.revision == before
    desk.take(6, Decimal(6) / 8)
    assert desk.energies()[5] == 5
    desk.ledger.set_multipliers("p", [*first, Multiplier(begin + 3 * QUARTER, Decimal(80), Decimal("1.1"))])
    assert desk.energies() == {0: 5, 1: 5, 2: 5, 3: 11, 4: 11, 5: 11}
    desk.reopen()
    desk.take(7, Decimal(7) / 8)
    assert desk.energies()[6] == 11
    desk.ledger.set_multipliers("p", [])
    assert set(desk.energies().values()) == {Decimal("0.125")}
    assert desk.ledger.verify().ok


def test_main_minus_subs_is_what_nobody_accounts_for_with_the_completeness_of_the_parts(desk):
    for at in range(4):
        desk.take(at, 10 * at, "main")
        desk.take(at, 6 * at, "a")
        if at != 1:
            desk.take(at, 3 * at, "b")
    found = desk.ledger.intervals(["main", "a", "b"], desk.boundary(0, 0).at, desk.boundary(9, 0).at)
    rest = combine("unaccounted", [Term(1, "main"), Term(-1, "a"), Term(-1, "b")], found)
    assert [one.energies[IMPORT] for one in rest] == [1, 1, 1]
    assert [one.parts for one in rest] == [(2, 3), (2, 3), (3, 3)]
    assert [one.known_s for one in rest] == [0, 0, 900]
    alone = combine("v", [Term(1, "main"), Term(1, "gone")], found)
    assert {one.parts for one in alone} == {(1, 2)} and {one.known_s for one in alone} == {0}


def test_parts_that_are_read_at_different_intervals_are_compared_over_the_longest_of_each_hour(desk):
    begin = desk.boundary(0, 0).at

    def row(point, minute, length_min, energy):
        known = frozenset({Quality.MEASURED})
        start = begin + timedelta(minutes=minute)
        return Interval(point, start, 60 * length_min, {IMPORT: Decimal(energy)}, known, known_s=60 * length_min)

    main = [row("main", minute, 15, "1.5") for minute in range(0, 120, 15)]
    sub = [row("sub", minute, 1, "0.1") for minute in range(60)] + [row("sub", 60, 60, "5")]
    rest = combine("v", [Term(1, "main"), Term(-1, "sub")], main + sub)
    assert [(one.length_s, one.energies[IMPORT]) for one in rest] == [(900, Decimal(0))] * 4 + [(3600, Decimal(1))]
    assert all(one.parts == (2, 2) and one.completeness == 1 for one in rest)
    assert [one.start for one in rest] == [begin + timedelta(minutes=minute) for minute in (0, 15, 30, 45, 60)]


def test_the_mean_power_of_a_period_is_that_of_the_time_it_knows(desk):
    desk.ledger.take(desk.boundary(at, 2 * at, point) for at in range(5) for point in ("p", "q"))
    begin, end = desk.boundary(0, 0).at - timedelta(hours=1), desk.boundary(92, 0).at
    for resolution in ("interval", "hour", "day", "week", "month", "year"):
        found = desk.ledger.intervals(["p", "q"], begin, end, resolution)
        assert {one.demand_mean_kw for one in found} == {8}
        (rest,) = {one.demand_mean_kw for one in combine("v", [Term(1, "p"), Term(1, "q")], found)}
        assert rest == 16
    (day,) = desk.ledger.intervals(["p"], begin, end, "day")
    assert (day.length_s, day.uncovered_s, day.completeness) == (86400, 23 * 3600, 1 / 24)


def test_what_was_seen_between_boundaries_stands_with_the_interval(desk):
    observer = Observer()
    at = desk.boundary(0, 0).at
    for power, volts in ((1.5, 229.0), (4.5, 231.0), (3.0, 233.0)):
        observer.note([Reading("1-0:16.7.0", power, at), Reading("1-0:32.7.0", volts, at)])
        observer.note([Reading("1-0:16.7.0", 1e9, at, frozenset({Flag.RANGE}))])
    desk.take(0, 0)
    desk.take(1, 1, observed=observer.take())
    one = desk.ledger.latest("p")
    assert (one.demand_max_kw, one.demand_mean_kw) == (4.5, 4)
    assert (one.voltage_min_v, one.voltage_mean_v, one.voltage_max_v) == (229.0, 231.0, 233.0)
    assert observer.take() == Observed()
    assert desk.reopen().latest("p") == one


def test_a_snapshot_reaches_the_ledger_as_the_meter_shows_it():
    at = datetime(2026, 3, 2, tzinfo=UTC)
    point = Point(
        "p",
        "P",
        (InstalledMeter(at, "x/y", "123"),),
        (Route("l", "modbus", "1"),),
        (Multiplier(at, Decimal(80), Decimal(3)),),
    )
    chance = random.Random(5)
    for _ in range(200):
        shown = Decimal(chance.randrange(10**9)).scaleb(-chance.randrange(5))
        reading = point.apply(Reading(IMPORT, shown, at + timedelta(seconds=3), frozenset({Flag.ROLL_OVER})))

        class Snapshot:
            boundary, skew_s, readings = at, 3.0, (reading, Reading("1-0:1.6.0", Decimal(1), at))

        made = boundary_of(point, Snapshot())
        assert made.registers == {IMPORT: shown} and made.meter == "123"
        (again,) = restarts_of("p", Snapshot.readings)
        assert (again.kind, again.obis, again.at) == (Flag.ROLL_OVER, IMPORT, reading.at)
    bad = Reading(IMPORT, Decimal(1), at, frozenset({Flag.BACKWARDS}))
    assert boundary_of(point, type("S", (), {"boundary": at, "skew_s": 0.0, "readings": (bad,)})()).registers == {}


def test_a_boundary_without_registers_changes_nothing(desk):
    assert desk.ledger.take([Boundary("p", desk.boundary(0, 0).at, {})]).records == 0


def test_what_is_streamed_is_what_is_listed_at_every_resolution(desk):
    chance = random.Random(5)
    value = {"p": 0, "q": 0}
    for point in value:
        records = []
        for at in range(96 * 70):
            value[point] += chance.randrange(9)
            if chance.random() < 0.9:
                seen = Observed(chance.random(), 220 + chance.random(), 230, 240, 0.9)
                records.append(desk.boundary(at, value[point], point, observed=seen))
        desk.ledger.take(records)
    since, until = desk.boundary(5, 0).at, desk.boundary(96 * 69, 0).at
    finest = desk.ledger.intervals(["q", "p"], since, until)
    for resolution in ("interval", "hour", "day", "week", "month", "year"):
        stream = desk.ledger.stream(["q", "p"], since, until, resolution)
        assert next(stream).point == "p"
        found = desk.ledger.intervals(["q", "p"], since, until, resolution)
        assert found == sorted(found, key=lambda one: (one.point, one.start))
        assert found[1:] == list(stream)
        for point in ("p", "q"):
            mine, all_ = ([one for one in many if one.point == point] for many in (found, finest))
            assert sum(one.energies[IMPORT] for one in mine) == sum(one.energies[IMPORT] for one in all_)
            assert sum(one.known_s for one in mine) == sum(one.known_s for one in all_)
            assert max(one.demand_max_kw or 0 for one in mine) == max(one.demand_max_kw or 0 for one in all_)


def test_the_newest_registers_at_an_instant_are_as_the_meter_showed_them(desk):
    desk.ledger.set_multipliers("p", [Multiplier(desk.boundary(-9, 0).at, Decimal(40), Decimal(1))])
    desk.take(0, "10.50")
    desk.take(3, "13.70")
    zero = desk.boundary(0, 0).at
    assert desk.ledger.register_at("p", zero - QUARTER) is None
    assert desk.ledger.register_at("p", zero) == {IMPORT: Decimal("10.50")}
    assert desk.ledger.register_at("p", zero + 2.9 * QUARTER) == {IMPORT: Decimal("10.50")}
    assert desk.ledger.register_at("p", zero + timedelta(days=999)) == {IMPORT: Decimal("13.70")}


def test_a_correction_of_an_interval_that_is_cut_later_is_cut_with_it_and_counts_once(desk):
    desk.take(0, 0)
    desk.take(1, 9)
    desk.take(2, 10)
    desk.ledger.edit("p", desk.boundary(0, 0).at, {IMPORT: Decimal(30)}, author="Li", reason="why")
    desk.take(1 / 3, 4, source="memory")
    found = desk.ledger.intervals(["p"], desk.boundary(0, 0).at, desk.boundary(9, 0).at)
    assert [(one.length_s, one.energies[IMPORT]) for one in found] == [(300, 10), (600, 20), (900, 1)]
    assert [Quality.EDITED in one.flags for one in found] == [True, True, False]
    assert desk.ledger.verify().ok, desk.ledger.verify().named
    for one in found[:2]:
        desk.ledger.edit("p", one.start, None, author="Li", reason="no")
    found = desk.ledger.intervals(["p"], desk.boundary(0, 0).at, desk.boundary(9, 0).at)
    assert sum(one.energies[IMPORT] for one in found) == 10


def test_parts_of_a_virtual_point_that_are_cut_differently_are_compared_between_the_edges_they_share(desk):
    desk.ledger.take(desk.boundary(at, at * 2) for at in (0, 1, 2, 3, 4))
    desk.ledger.take(desk.boundary(at, at, "q") for at in (0, 0.2, 0.4, 1, 1.6, 2, 3, 4))
    found = desk.ledger.intervals(["p", "q"], desk.boundary(0, 0).at, desk.boundary(9, 0).at)
    terms = [Term(1, "p"), Term(-1, "q")]
    assert [one.length_s for one in combine("v", terms, found)] == [900] * 4
    assert [one.energies[IMPORT] for one in combine("v", terms, found)] == [1] * 4


def test_a_record_of_memory_is_marked_so_and_a_new_meter_does_not_speak_of_the_time_before_it_came():
    at = datetime(2026, 3, 2, tzinfo=UTC)
    old, new = InstalledMeter(at - timedelta(days=900), "x/y", "1"), InstalledMeter(at, "x/y", "2")
    routes = (Route("l", "modbus", "1"),)

    def made(boundary: datetime, *meters: InstalledMeter):
        record = type("S", (), {"boundary": boundary, "skew_s": 0.0, "readings": (Reading(IMPORT, Decimal(5), at),)})()
        return boundary_of(Point("p", "P", meters, routes), record, source="memory")

    assert made(at - QUARTER, old, new).registers == {}
    assert made(at, old, new).registers == {IMPORT: 5} and made(at, old, new).meter == "2"
    # Of the only meter one does not know how long it has been there.
    assert made(at - QUARTER, new).registers == {IMPORT: 5}
    assert made(at, new).source == "memory"


def test_boundaries_of_each_minute_are_intervals_of_a_minute_and_cost_no_question_to_the_file(desk):
    start = desk.boundary(0, 0).at

    def minute(number: int, value: int) -> Boundary:
        return Boundary("p", start + timedelta(minutes=number), {IMPORT: Decimal(value).scaleb(-2)}, meter="m1")

    desk.ledger.take([minute(0, 0)])
    asked = []
    desk.ledger._store.db.set_trace_callback(asked.append)
    for number in range(1, 130):
        desk.ledger.take([minute(number, number * 3)])
    desk.ledger._store.db.set_trace_callback(None)
    assert not any(one.startswith(("SELECT", "WITH")) for one in asked)
    found = desk.ledger.intervals(["p"], start, start + timedelta(days=1))
    assert [one.length_s for one in found] == [60] * 129
    assert {one.energies[IMPORT] for one in found} == {Decimal("0.03")}
    # A minute that is missed within a line of the grid is no gap, a longer silence is cut at the grid.
    desk.ledger.take([minute(131, 131 * 3)])
    desk.ledger.take([minute(157, 157 * 3)])
    found = desk.ledger.intervals(["p"], start + timedelta(minutes=129), start + timedelta(days=1))
    assert [one.length_s // 60 for one in found] == [2, 4, 15, 7]
    assert [one.known_s > 0 for one in found] == [True, False, False, False]
    # Its memory minute by minute, newest first.
    desk.ledger.take(
        [
            Boundary("p", one.at, one.registers, 0.0, "memory", "m1")
            for one in map(minute, range(156, 131, -1), range(468, 393, -3), strict=True)
        ]
    )
    found = desk.ledger.intervals(["p"], start + timedelta(minutes=129), start + timedelta(days=1))
    assert [one.length_s // 60 for one in found] == [2] + [1] * 26
    assert desk.ledger.gaps() == [] and desk.ledger.verify().ok


def test_a_register_that_began_again_is_told_before_its_next_boundary(desk):
    for at in (0, 1):
        desk.take(at, 100 + at)
    half_past = desk.boundary(1.5, 0).at
    again = Restart("p", IMPORT, half_past, Flag.RESET, Decimal("101.75"), Decimal(0))
    for _ in range(2):
        assert desk.ledger.take([], [again]).records == 0
    desk.ledger.take([], [replace(again, point="new")])
    desk.reopen()
    desk.take(2, "0.5")
    assert desk.energies() == {0: 1, 1: Decimal("1.25")}
    assert desk.ledger.verify().ok and desk.ledger.gaps() == []
