"""Back-fill over whole lines: real virtual meters on simulated wires, the real poller, the real ledger."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest

from bench.outage import LENGTH, LINE, START, BackfilledSite
from meter_batch_engine.model.interval import Hole
from meter_batch_engine.template import Memory

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
DLT2400 = ("dlt645-2007", 2400, "E", "generic/dlt645-3ph", '"202500000001"')
DLT9600 = ("dlt645-2007", 9600, "E", "generic/dlt645-1ph", '"202500000001"')
RTU9600 = ("modbus-rtu", 9600, "N", "eastron/sdm630", "1")
TCP = ("modbus-tcp", 9600, "N", "abb/b23", "1")
FILE_READ = 0x14


def fleet(kind, count=2, more=""):
    protocol, baud, parity, template, address = kind
    text = LINE.format(
        name="a", protocol=protocol, baud=baud, parity=parity, template=template, address=address, count=count
    )
    return text.replace(" }]", f"{more} }}]")


@pytest.fixture
def site(simulated, tmp_path):
    """Runs a coroutine function with a site; the poller is ended and the ledger closed afterwards."""

    def run(text, play, at=START, **settings):
        async def main(loop):
            made = BackfilledSite(loop, text, tmp_path, at, **{"fast_s": 300.0, "slow_s": 900.0, **settings})
            try:
                await play(made)
            finally:
                await made.stop()
            return made

        return simulated(main)

    return run


def records(site):
    """All that came from memory: (time of the report, key, record)."""
    return [
        (report.at, key, one)
        for _, report in site.outcome.reports
        for key, those in report.memory.items()
        for one in those
    ]


def doubles(site):
    return {one: n for one, n in Counter((key, one.boundary) for _, key, one in records(site)).items() if n > 1}


def requests(site, begin=0.0, line="a"):
    return [data for at, data in site.site.wires[line].sent if at >= begin]


def clocks(site, key):
    return [report.clocks[key] for _, report in site.outcome.reports if key in report.clocks]


def right(site, one, key):
    """Whether a record holds what its meter measured when it wrote it."""
    truth = site.truth(key, one.boundary + timedelta(seconds=one.skew_s))
    return all(truth[reading.obis] == reading.value for reading in one.readings)


def is_done(site, start, end):
    """Nothing is left to be asked for, and all is known."""
    return site.outcome.reports[-1][1].backfill.outstanding == 0 and all_known(site, start, end)


def all_known(site, start, end):
    known, every = site.known(start, end)
    return known == every


# --- a cut of two days


@pytest.mark.parametrize("kind", [DLT2400, DLT9600, RTU9600], ids=["645 at 2400", "645 at 9600", "Modbus"])
def test_after_a_cut_of_two_days_every_quarter_hour_is_known_and_all_of_it_adds_up(site, kind):
    cut_at, first = START + 2 * HOUR, datetime(2026, 11, 2, 4, tzinfo=UTC)
    back = cut_at + 2 * DAY
    last = datetime(2026, 11, 4, 5, 30, tzinfo=UTC)

    async def play(made):
        await made.wait(cut_at)
        made.site.cut("a")
        await made.wait(back)
        made.site.mend("a")
        await made.wait(back + DAY, lambda: made.site.clock.now() > last + HOUR and is_done(made, first, last))
        assert all_known(made, first, last)
        assert made.site.clock.now() < back + DAY
        assert not doubles(made)
        assert made.wrong(cut_at.replace(minute=15), back.replace(minute=0)) == 0
        assert all(right(made, one, key) for _, key, one in records(made))
        total_is_the_difference_of_registers(made, first, last)
        assert made.ledger.verify().ok
        shares = [report.backfill.airtime_share for _, report in made.outcome.reports]
        assert 0 < max(shares) <= 0.21
        # Asked once more for all of it, the ledger stays as it is.
        before = made.ledger.intervals(list(made.places), first, last)
        await made.stop("a")
        made.start("a")
        made.ask(Hole(first, last))
        await made.wait(made.site.clock.now() + 2 * HOUR, lambda: len(doubles(made)) > 3000)
        assert doubles(made)
        assert made.ledger.intervals(list(made.places), first, last) == before

    site(fleet(kind, 32), play)


def total_is_the_difference_of_registers(made, first, last):
    for key in made.places:
        begin, end = made.ledger.register_at(key, first), made.ledger.register_at(key, last)
        total = Counter()
        for one in made.ledger.intervals([key], first, last):
            total.update(one.energies)
        assert {obis: end[obis] - begin[obis] for obis in total} == dict(total)


def test_a_program_that_was_restarted_in_the_middle_goes_on_and_changes_nothing_that_it_had(site):
    cut_at = START + HOUR
    back, first, last = cut_at + DAY, datetime(2026, 11, 2, 4, tzinfo=UTC), datetime(2026, 11, 3, 4, tzinfo=UTC)

    async def play(made):
        await made.wait(cut_at)
        made.site.cut("a")
        await made.wait(back)
        made.site.mend("a")
        await made.wait(back + HOUR, lambda: len(records(made)) > 300)
        assert not all_known(made, first, last)
        point = list(made.places)[:1]
        had = {one.start: one.energies for one in made.ledger.intervals(point, first, last) if one.known_s == 900}
        assert had
        await made.stop("a")
        made.start("a")
        await made.wait(back + 12 * HOUR, lambda: is_done(made, first, last))
        assert all_known(made, first, last)
        now = {one.start: one.energies for one in made.ledger.intervals(point, first, last)}
        assert had.items() <= now.items()
        assert made.ledger.verify().ok

    site(fleet(DLT9600, 8), play)


def test_a_line_that_is_lost_and_a_meter_that_falls_silent_in_the_middle_cost_only_time(site):
    silent = ', faults = [{ kind = "silent", from_s = 91200, to_s = 93000 }]'
    cut_at = START + HOUR
    back, first, last = cut_at + DAY, datetime(2026, 11, 2, 4, tzinfo=UTC), datetime(2026, 11, 3, 4, tzinfo=UTC)

    async def play(made):
        await made.wait(cut_at)
        made.site.cut("a")
        await made.wait(back)
        made.site.mend("a")
        for _ in range(5):
            await asyncio.sleep(61)
            made.site.cut("a")
            await asyncio.sleep(5)
            made.site.mend("a")
        await made.wait(back + 12 * HOUR, lambda: is_done(made, first, last))
        assert all_known(made, first, last)
        assert not doubles(made)

    site(fleet(DLT9600, 4, silent), play)


def test_a_line_whose_boundaries_come_every_minute_has_every_minute_back_after_a_short_cut(site):
    cut_at, back = START + HOUR, START + HOUR + timedelta(minutes=15)

    async def play(made):
        await made.wait(cut_at)
        made.site.cut("a")
        await made.wait(back)
        made.site.mend("a")
        await made.wait(back + timedelta(minutes=5))
        minutes = [cut_at + timedelta(minutes=n) for n in range(1, 15)]
        for key in made.places:
            assert {one.boundary for _, of, one in records(made) if of == key} >= set(minutes)
            found = made.ledger.intervals([key], cut_at, back)
            assert [one.length_s for one in found] == 15 * [60]
            assert all(one.completeness == 1 for one in found)
        assert all(right(made, one, key) for _, key, one in records(made))

    site(fleet(RTU9600, 4), play, interval_s=60, fast_s=10.0, slow_s=60.0)


def test_a_year_before_a_line_of_minutes_is_filled_by_the_quarter_and_the_last_days_by_the_minute(site):
    async def play(made):
        made.since = START - 40 * DAY
        await made.wait(START + 2 * HOUR, lambda: len(records(made)) > 7_600)
        those = [one.boundary for _, _, one in records(made) if one.boundary < START]
        fine = [at for at in those if at > START - 2 * DAY]
        assert len(fine) == 2 * 24 * 60 - 1
        quarters = [at for at in those if at < START - 4 * DAY]
        assert len(quarters) == 36 * 96
        assert not doubles(made)

    site(fleet(TCP, 1), play, interval_s=60, slow_s=300.0)


def test_hourly_and_daily_freezes_fill_in_where_a_meter_keeps_no_load_records(site):
    async def play(made):
        made.ask(Hole(START - 14 * DAY, START))
        await made.wait(START + 8 * HOUR)
        those = [one for _, key, one in records(made) if key.endswith("1") and one.boundary < START]
        hours = {one.boundary for one in those if one.kind == "hourly"}
        days = {one.boundary for one in those if one.kind == "daily"}
        assert len(hours) == pytest.approx(254, abs=9)
        # Where the hours end, the days go on, and none comes twice.
        midnights = {datetime(2026, 10, day, 16, tzinfo=UTC) for day in range(19, 32)}
        assert days == {one for one in midnights if one < min(hours)} and len(days) == 3
        assert all(right(made, one, key) for _, key, one in records(made))

    site(fleet(DLT9600, 2), play, remembers=Memory(hourly=254, daily=62, monthly=12))


# --- courtesy on the line


def test_nothing_else_goes_to_a_meter_between_the_first_and_the_last_frame_of_its_answer(site):
    async def play(made):
        await made.wait(START + HOUR)
        made.site.cut("a")
        await made.wait(START + DAY)
        made.site.mend("a")
        await made.wait(START + DAY + HOUR)
        asked = [one[one.index(0x68) :] for one in requests(made)]
        following = [place for place, one in enumerate(asked) if one[8] == 0x12]
        assert len(following) > 20
        for place in following:
            assert asked[place - 1][1:7] == asked[place][1:7]
            assert asked[place - 1][10:14] == asked[place][10:14], "another item was asked for in between"

    site(fleet(DLT9600, 8), play, fast_s=10.0)


@pytest.mark.parametrize("kind", [DLT2400, RTU9600], ids=["645", "Modbus"])
def test_the_live_cycle_keeps_its_time_while_memory_is_read(site, kind):
    def times(made, start, end):
        key = next(iter(made.places))
        return [report.at for _, report in made.outcome.reports if key in report.readings and start <= report.at < end]

    async def play(made):
        await made.wait(START + timedelta(minutes=20))
        made.ask(Hole(START - 30 * DAY, START))
        await made.wait(START + timedelta(minutes=50))
        before = times(made, START + timedelta(minutes=1), START + timedelta(minutes=14))
        during = times(made, START + timedelta(minutes=21), START + timedelta(minutes=29))
        assert records(made)
        for those in (before, during):
            gaps = [(b - a).total_seconds() for a, b in pairwise(those)]
            assert max(gaps) < 24 and sum(gaps) / len(gaps) < 20.5

    site(fleet(kind, 4), play, fast_s=20.0, slow_s=3600.0)


def test_a_saturated_line_gives_back_fill_its_share_and_no_more(site):
    async def play(made):
        await made.wait(START + timedelta(minutes=20))
        made.ask(Hole(START - 30 * DAY, START))
        begin = made.loop.time()
        await made.wait(START + timedelta(minutes=50))
        busy = made.outcome.reports[-1][1]
        assert 0.15 < busy.backfill.airtime_share <= 0.21
        assert busy.backfill.outstanding > 0 and busy.backfill.finish_at > made.site.clock.now()
        assert len(requests(made, begin)) > 500

    site(fleet(DLT2400, 12), play, fast_s=2.0)


def test_without_a_budget_no_memory_is_asked_and_no_clock_read(site):
    async def play(made):
        made.ask(Hole(START - DAY, START))
        await made.wait(START + HOUR)
        assert FILE_READ not in {one[1] for one in requests(made)}
        assert not records(made)

    site(fleet(RTU9600), play, budget=0.0)


# --- a first install


def test_on_a_slow_line_history_comes_coarse_first_then_newest_first(site):
    async def play(made):
        made.since = START - 366 * DAY
        await made.wait(START + 2 * HOUR)
        those = [(key, one) for _, key, one in records(made) if one.boundary < START]
        kinds = [one.kind for _, one in those]
        assert Counter(kinds)["monthly"] == 2 * 12
        assert Counter(kinds)["daily"] >= 2 * 60
        for key in made.places:
            assert [one.kind for of, one in those if of == key][:12] == 12 * ["monthly"]
        assert kinds.index("load_record") > len(kinds) - kinds[::-1].index("daily") - 1
        quarters = [one.boundary for key, one in those if one.kind == "load_record" and key.endswith("1")]
        assert quarters[0] > START - DAY
        # The records of one answer come oldest first.
        assert all(at < min(quarters[:place]) + 2 * HOUR for place, at in enumerate(quarters[1:200], 1))
        assert all(right(made, one, key) for key, one in those)
        assert made.ledger.verify().ok

    site(fleet(DLT2400, 2), play, slow_s=3600.0)


@pytest.mark.parametrize("days", [24, 400], ids=["told as far as its finest records go", "told all"])
def test_a_first_install_does_not_chase_minutes_that_expire_before_it_knows_months_and_days(site, days):
    async def play(made):
        # Minute records go back 24 days: less than what counts as history by its length.
        made.since = START - days * DAY
        late = START + (timedelta(minutes=30) if days == 24 else timedelta(minutes=90))
        await made.wait(late, lambda: Counter(one.kind for _, _, one in records(made))["load_record"] > 6 * 60)
        assert made.site.clock.now() < late
        those = [(key, one) for _, key, one in records(made) if one.boundary < START]
        kinds = [one.kind for _, one in those]
        found = Counter(kinds)
        assert found["monthly"] == (6 * 12 if days == 400 else 6)
        assert found["daily"] >= (6 * 60 if days == 400 else 6 * 23)
        fine = kinds.index("load_record")
        assert "monthly" not in kinds[fine:] and "daily" not in kinds[fine:]
        minutes = [one.boundary for _, one in those if one.kind == "load_record"]
        assert min(minutes) > START - DAY, "newest first"
        assert made.ledger.verify().ok

    site(fleet(DLT2400, 6, ", load_period_min = 1"), play, interval_s=60, fast_s=60.0, slow_s=900.0)


def test_where_there_is_no_wire_time_history_comes_in_its_finest_form_at_once(site):
    async def play(made):
        made.since = START - 40 * DAY
        await made.wait(START + HOUR)
        those = [one for _, key, one in records(made) if key == "a 1" and one.boundary < START]
        assert {one.kind for one in those} == {"profile"}
        assert len(those) == 40 * 96
        assert those[0].boundary > START - 4 * HOUR
        assert made.outcome.reports[-1][1].backfill.outstanding == 0
        assert not doubles(made)

    site(fleet(TCP, 2), play)


# --- clocks


def test_a_clock_that_is_a_little_off_is_put_right_once_and_read_again(site):
    async def play(made):
        await made.wait(START + 3 * DAY)
        made.ask(Hole(START - DAY, START - HOUR))
        await made.wait(START + 3 * DAY + HOUR)
        for key in made.places:
            first, again = clocks(made, key)[:2]
            assert first.offset_s == pytest.approx(100, abs=1.5) and not first.set
            assert abs(again.offset_s) < 1.5 and again.set
            assert all(abs(one.offset_s) < 1.5 and not one.set for one in clocks(made, key)[2:])
            assert len(clocks(made, key)) == pytest.approx(5, abs=1)
        broadcasts = [one for one in requests(made) if one[one.index(0x68) + 8] == 0x08]
        assert len(broadcasts) == 1
        old = [(key, one) for _, key, one in records(made) if one.boundary < START]
        assert len(old) == 2 * 92
        assert all(one.skew_s == pytest.approx(-100, abs=1.5) for _, one in old)

    site(fleet(DLT9600, 2, ", clock_offset_s = 100"), play)


@pytest.mark.parametrize(("offset", "skew"), [(-1200, 300), (7000, 200)])
def test_a_clock_that_is_far_off_is_only_reported_and_its_labels_are_put_right(site, offset, skew):
    async def play(made):
        made.ask(Hole(START - DAY, START - HOUR))
        await made.wait(START + 2 * HOUR)
        assert not [one for one in requests(made) if one[one.index(0x68) + 8] == 0x08]
        those = [(key, one) for _, key, one in records(made) if one.boundary < START]
        assert len(those) == 2 * 92
        for key, one in those:
            assert one.skew_s == pytest.approx(skew, abs=1.5)
            truth = made.truth(key, one.boundary + timedelta(seconds=skew))
            assert all(abs(truth[value.obis] - value.value) <= Decimal("0.05") for value in one.readings)
        assert clocks(made, "a 202500000001")[0].offset_s == pytest.approx(offset, abs=1.5)

    site(fleet(DLT9600, 2, f", clock_offset_s = {offset}"), play)


def test_the_profile_of_a_modbus_meter_with_a_wrong_clock_is_put_right_too(site):
    async def play(made):
        made.ask(Hole(START - DAY, START - HOUR))
        await made.wait(START + 2 * HOUR)
        those = [one for _, key, one in records(made) if one.boundary < START]
        assert len(those) == 2 * 92
        assert all(one.skew_s == pytest.approx(-420, abs=1.5) for one in those)

    site(fleet(RTU9600, 2, ", clock_offset_s = 420"), play)


def test_without_clock_care_no_clock_is_read_or_set(site):
    async def play(made):
        await made.wait(START + 2 * DAY)
        assert not any(report.clocks for _, report in made.outcome.reports)

    site(fleet(DLT9600, 2, ", clock_offset_s = 100"), play, clock_care=False)


# --- meters that have less


def test_a_modbus_meter_without_files_is_asked_once_and_what_it_lacks_is_said(site):
    async def play(made):
        hole = Hole(START - DAY, START - HOUR)
        made.ask(hole)
        await made.wait(START + 2 * DAY)
        assert [one[1] for one in requests(made)].count(FILE_READ) == 2
        said = [report.exhausted["a 1"] for _, report in made.outcome.reports if "a 1" in report.exhausted]
        covered = said[-1][0]
        assert covered.start <= hole.start + LENGTH and covered.end >= hole.end
        depths = [report.depths["a 1"] for _, report in made.outcome.reports if "a 1" in report.depths]
        assert depths == [timedelta(0)]

    site(fleet(RTU9600, 2, ", memory = false"), play)


def test_a_meter_that_is_silent_where_it_should_refuse_is_left_alone_for_a_day_after_three_tries(site):
    async def play(made):
        wire = made.site.wires["a"]
        answers = wire.answers
        wire.answers = lambda request: [] if request[1] == FILE_READ else answers(request)
        await made.wait(START + 20 * HOUR)
        assert [one[1] for one in requests(made)].count(FILE_READ) == 2 * 3
        assert not any(report.silent or report.failed for _, report in made.outcome.reports)
        await made.wait(START + 30 * HOUR)
        assert [one[1] for one in requests(made)].count(FILE_READ) == 2 * 6

    site(fleet(RTU9600), play)


def test_a_dlt645_meter_without_memory_is_asked_little_and_its_live_values_go_on(site):
    async def play(made):
        made.ask(Hole(START - DAY, START - HOUR))
        begin = made.loop.time()
        await made.wait(START + 5 * HOUR)
        asked = [one[one.index(0x68) + 10 : one.index(0x68) + 14] for one in requests(made, begin)]
        memory = [one for one in asked if (one[3] - 0x33) & 0xFF in (0x05, 0x06)]
        assert 2 * 2 <= len(memory) <= 2 * 8
        assert not records(made)
        assert any("a 202500000001" in report.exhausted for _, report in made.outcome.reports)
        assert all_known(made, START + HOUR - timedelta(minutes=7), START + 4 * HOUR - timedelta(minutes=7))

    site(fleet(DLT9600, 2, ", memory = false"), play)


def test_what_is_older_than_the_memory_is_said_to_be_out_of_reach(site):
    async def play(made):
        hole = Hole(START - 400 * DAY, START - 365 * DAY)
        made.ask(hole)
        await made.wait(START + 2 * HOUR)
        exhausted = [report.exhausted["a 1"] for _, report in made.outcome.reports if "a 1" in report.exhausted]
        (left,) = exhausted[-1]
        assert left.start <= hole.start + LENGTH
        assert START - 367 * DAY < left.end < START - 364 * DAY
        depths = [report.depths["a 1"] for _, report in made.outcome.reports if "a 1" in report.depths]
        assert depths == [timedelta(days=366)]

    site(fleet(RTU9600), play)


@pytest.mark.parametrize(("minutes", "known"), [(5, 1.0), (30, 0.0)])
def test_load_records_of_another_period_give_the_boundaries_that_they_have(site, minutes, known):
    async def play(made):
        made.ask(Hole(START - DAY, START - HOUR))
        await made.wait(START + 3 * HOUR)
        found = [(key, one.boundary) for _, key, one in records(made) if one.boundary < START]
        each = 92 if minutes == 5 else 46
        assert len(set(found)) == len(found) == 2 * each
        assert all(right(made, one, key) for _, key, one in records(made))

    site(fleet(DLT9600, 2, f", load_period_min = {minutes}"), play)


def test_after_a_swap_the_memory_of_the_new_meter_is_not_asked_for_the_time_of_the_old_one(site):
    swap = ', faults = [{ kind = "swap", from_s = 7200 }]'

    async def play(made):
        await made.wait(START + 4 * HOUR)
        hole = Hole(START - DAY, START + 3 * HOUR + timedelta(minutes=38))
        made.ask(hole)
        await made.wait(START + 6 * HOUR)
        assert records(made)
        assert min(one.boundary for _, _, one in records(made)) >= START + 2 * HOUR

    site(fleet(RTU9600, 2, swap), play, fast_s=60.0)


def test_boundaries_that_were_read_late_are_put_right_from_memory(site):
    async def play(made):
        await made.wait(START + 6 * HOUR)
        late = [
            (key, one.boundary)
            for _, report in made.outcome.reports
            for key, one in report.snapshots.items()
            if one.skew_s > 60
        ]
        assert late
        first, last = START + 2 * HOUR - timedelta(minutes=7), START + 5 * HOUR - timedelta(minutes=7)
        better = {(key, one.boundary) for _, key, one in records(made)}
        assert {one for one in late if first <= one[1] <= last} <= better
        skews = [one.skew_s for one in made.ledger.intervals(list(made.places), first, last)]
        assert max(skews) <= 60

    site(fleet(DLT2400, 10, ", turnround_ms = 2000"), play, fast_s=60.0)
