"""Reports are due at local times, once each; what an outage swallowed is caught up once; what fails is tried again."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meter_batch_analytics.server import schedule
from meter_batch_analytics.server.schedule import (
    FILE,
    WAITS_S,
    Plan,
    Run,
    Schedule,
    ScheduleFolder,
    State,
    load_schedules,
)
from meter_batch_engine.errors import ConfigError

BERLIN, SHANGHAI = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Shanghai")
TEXT = """
[[schedule]]
name = "Morning"
report = "daily"
at = "07:00"
languages = ["zh", "en"]
formats = ["pdf", "xlsx"]
areas = ["Workshop 1"]
keep = 30

[[schedule]]
name = "Month"
report = "monthly"
at = "08:30"
on = 2
"""


def local(text: str, zone: ZoneInfo = BERLIN) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone)


def schedules(tmp_path: Path, text: str = TEXT) -> list[Schedule]:
    file = tmp_path / FILE
    file.write_text(text, encoding="utf-8")
    return load_schedules(file)


def daily(tmp_path: Path, at: str, more: str = "") -> Schedule:
    return schedules(tmp_path, f'[[schedule]]\nname = "D"\nreport = "daily"\nat = "{at}"\n{more}')[0]


def carried_out(plan: Plan, now: datetime) -> list[tuple[str, str]]:
    """All that is due is made."""
    found = []
    for run in plan.due(now):
        begun = plan.begin(run, now)
        assert begun is not None
        found += [(request["schedule"], request["period"]) for request in plan.requests(begun)[:1]]
        plan.done(begun)
    return found


def through(plan: Plan, since: datetime, until: datetime, step: timedelta) -> list[tuple[datetime, str, str]]:
    """What is made while the clock runs."""
    found, now = [], since
    while now <= until:
        found += [(now, *one) for one in carried_out(plan, now)]
        now += step
    return found


def test_a_day_is_reported_in_the_morning_after_and_a_month_on_its_day(tmp_path: Path) -> None:
    plan = Plan(schedules(tmp_path), BERLIN)
    begin = local("2026-09-29T12:00").astimezone(UTC)
    found = through(plan, begin, begin + timedelta(days=4), timedelta(seconds=30))
    assert [(at.astimezone(BERLIN).isoformat()[:16], name, period) for at, name, period in found] == [
        ("2026-09-30T07:00", "Morning", "2026-09-29"),
        ("2026-10-01T07:00", "Morning", "2026-09-30"),
        ("2026-10-02T07:00", "Morning", "2026-10-01"),
        ("2026-10-02T08:30", "Month", "2026-09"),
        ("2026-10-03T07:00", "Morning", "2026-10-02"),
    ]


def test_a_request_says_everything_for_each_language(tmp_path: Path) -> None:
    plan = Plan(schedules(tmp_path), BERLIN)
    plan.due(local("2026-10-01T06:00"))
    (run,) = plan.due(local("2026-10-01T07:00"))
    zh, en = plan.requests(run)
    assert zh["language"] == "zh-Hans" and en["language"] == "en"
    del zh["language"], en["language"]
    assert zh == en == {
        "kind": "report", "report": "daily", "period": "2026-09-30", "formats": ["pdf", "xlsx"], "points": None,
        "areas": ["Workshop 1"], "lines": None, "tariff": None, "scope": None, "by": None, "schedule": "Morning",
        "keep": 30,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("at", "fires"),
    [
        # Clocks go from 2 to 3 on 29 March 2026: half past two is an hour later. They go from 3 to 2 on 25 October.
        ("02:30", ["2026-03-28T02:30+01:00", "2026-03-29T03:30+02:00", "2026-03-30T02:30+02:00"]),
        ("02:30", ["2026-10-24T02:30+02:00", "2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]),
    ],
)
def test_a_time_that_clocks_skip_or_repeat_fires_once(at: str, fires: list[str], tmp_path: Path) -> None:
    plan = Plan([daily(tmp_path, at)], BERLIN)
    begin = datetime.fromisoformat(fires[0]) - timedelta(hours=2)
    found = through(plan, begin, datetime.fromisoformat(fires[-1]) + timedelta(hours=20), timedelta(minutes=5))
    assert [one for one, _, _ in found] == [datetime.fromisoformat(one) for one in fires]
    # Each for the day before its own.
    assert [period for _, _, period in found] == [
        (datetime.fromisoformat(one) - timedelta(days=1)).date().isoformat() for one in fires
    ]


def test_a_day_that_a_place_skipped_has_no_report_of_its_own(tmp_path: Path) -> None:
    apia = ZoneInfo("Pacific/Apia")  # went over the date line: there was no 30 December 2011
    plan = Plan([daily(tmp_path, "07:00")], apia)
    begin = local("2011-12-28T12:00", apia).astimezone(UTC)
    found = through(plan, begin, begin + timedelta(days=3), timedelta(minutes=30))
    assert len(found) == 3


def test_a_long_outage_is_caught_up_once_by_the_newest(tmp_path: Path) -> None:
    plan = Plan(schedules(tmp_path), BERLIN)
    assert carried_out(plan, local("2026-01-10T12:00")) == []
    state = State.from_dict(plan.state.as_dict())
    # Switched off for months, and another process begins.
    plan = Plan(schedules(tmp_path), BERLIN, state)
    assert carried_out(plan, local("2026-10-20T12:00")) == [("Month", "2026-09"), ("Morning", "2026-10-19")]
    assert carried_out(plan, local("2026-10-20T12:01")) == []


def test_more_than_the_newest_is_caught_up_where_that_is_asked_for(tmp_path: Path) -> None:
    text = '[[schedule]]\nname = "M"\nreport = "monthly"\nat = "08:00"\non = "last"\ncatch_up = 3\n'
    plan = Plan(schedules(tmp_path, text), BERLIN)
    plan.due(local("2026-01-10T12:00"))
    found = carried_out(plan, local("2026-10-20T12:00"))
    assert found == [("M", "2026-06"), ("M", "2026-07"), ("M", "2026-08")]  # due on the last day, of the month before


def test_after_ten_years_of_outage_only_the_last_is_made_and_quickly(tmp_path: Path) -> None:
    plan = Plan(schedules(tmp_path), BERLIN, State({"Morning": datetime(2016, 1, 1, tzinfo=UTC)}))
    assert carried_out(plan, local("2026-10-20T12:00")) == [("Morning", "2026-10-19")]


def test_a_new_schedule_is_due_from_now_on_and_a_removed_one_is_forgotten(tmp_path: Path) -> None:
    both = schedules(tmp_path)
    plan = Plan(both[:1], BERLIN)
    plan.due(local("2026-10-01T12:00"))
    plan.set_schedules(both)
    assert carried_out(plan, local("2026-10-02T10:00")) == [("Morning", "2026-10-01")]  # Month began after 08:30
    plan.set_schedules(both[1:])
    assert set(plan.state.seen) == {"Month"}


def test_a_run_that_fails_is_tried_again_after_the_waits_and_then_given_up(tmp_path: Path) -> None:
    plan = Plan([daily(tmp_path, "07:00")], BERLIN)
    plan.due(local("2026-10-01T06:59"))
    now, times, given_up = local("2026-10-01T07:00"), [], False
    while now < local("2026-10-01T23:00"):
        for run in plan.due(now):
            begun = plan.begin(run, now)
            assert begun is not None
            times.append(now)
            given_up = plan.failed(begun, now)
        now += timedelta(seconds=10)
    waits = [(two - one).total_seconds() for one, two in pairwise(times)]
    assert waits == list(WAITS_S)
    assert given_up and plan.state.runs == ()
    assert carried_out(plan, local("2026-10-02T07:00")) == [("D", "2026-10-01")]


def test_a_run_that_ends_with_the_process_counts_as_failed(tmp_path: Path) -> None:
    one = daily(tmp_path, "07:00")
    plan = Plan([one], BERLIN)
    plan.due(local("2026-10-01T06:59"))
    now, begun = local("2026-10-01T07:00"), 0
    for _ in range(20):
        plan = Plan([one], BERLIN, State.from_dict(plan.state.as_dict()))  # after a crash
        assert plan.due(now) == plan.due(now)
        for run in plan.due(now):
            if plan.begin(run, now) is None:
                assert plan.state.runs == ()
                assert begun == 1 + len(WAITS_S)
                return
            begun += 1
            assert plan.due(now) == []  # not at once again
        now += timedelta(hours=1)
    pytest.fail("it is begun for ever")


def test_what_is_still_tried_makes_way_for_the_next(tmp_path: Path) -> None:
    plan = Plan([daily(tmp_path, "07:00")], BERLIN, State({"D": local("2026-10-03T06:00")}, (
        Run("D", local("2026-10-02T07:00").astimezone(UTC), 1, local("2026-10-05T00:00")),
    )))  # fmt: skip
    assert carried_out(plan, local("2026-10-03T07:00")) == [("D", "2026-10-02")]
    assert plan.state.runs == ()


def test_a_clock_that_was_set_back_fires_nothing_twice_and_one_far_ahead_is_mended(tmp_path: Path) -> None:
    plan = Plan([daily(tmp_path, "07:00")], BERLIN)
    plan.due(local("2026-10-01T06:00"))
    assert carried_out(plan, local("2026-10-01T07:05")) == [("D", "2026-09-30")]
    assert carried_out(plan, local("2026-10-01T06:50")) == []
    assert carried_out(plan, local("2026-10-01T07:00")) == []
    plan.due(local("2036-10-01T06:00"))
    plan.state = State(plan.state.seen)
    plan.due(local("2026-10-05T06:00"))
    assert carried_out(plan, local("2026-10-05T07:00")) == [("D", "2026-10-04")]


@given(
    st.integers(0, 24 * 60 - 1),
    st.sampled_from(["Europe/Berlin", "Asia/Shanghai", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]),
    st.integers(0, 2 * 365 * 24 * 60),
    st.lists(st.integers(1, 60 * 26), min_size=1, max_size=60),
)
@settings(max_examples=60, deadline=None)
def test_however_often_one_looks_each_day_is_reported_at_most_once_and_the_last_always(
    minute: int, zone_name: str, first: int, steps: list[int]
) -> None:
    zone = ZoneInfo(zone_name)
    one = Schedule("D", "daily", time(minute // 60, minute % 60), "daily", ("en",), ("pdf",))
    begin = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(minutes=first)
    plan, now = Plan([one], zone), begin
    plan.due(now)
    made = []
    for step in steps:
        now += timedelta(minutes=step)
        plan = Plan([one], zone, State.from_dict(plan.state.as_dict()))
        made += [period for _, period in carried_out(plan, now)]
        last = one.fires(max(begin, now - timedelta(days=2)), now, zone)
        if last:
            assert made[-1] == (last[-1].astimezone(zone).date() - timedelta(days=1)).isoformat()
    assert len(set(made)) == len(made)
    assert one.next(now, zone) > now


WRONG = [
    ('name = "Month"', "", r'\[\[schedule\]\] 2: "name" is missing; write name'),
    ('name = "Month"', 'name = "Morning"', r'two schedules are called "Morning"'),
    ('report = "monthly"', 'report = "weekly"', r'"Month": "report" is \'weekly\' and must be one of daily, monthly'),
    ('at = "08:30"', 'at = "25:00"', r'\[\[schedule\]\] "Month": "at" is \'25:00\' and must be a local time'),
    ('at = "08:30"', "", r'"at" is missing; write at = "07:00"'),
    ("on = 2", "on = 32", r'"on" is 32 and must be "daily", "last" or a day of the month'),
    ("on = 2", 'on = "daily"', "a monthly report is made once a month; write on = 1"),
    ('languages = ["zh", "en"]', 'languages = ["fr"]', r"\"languages\" has 'fr'; there are en and zh"),
    ('formats = ["pdf", "xlsx"]', 'formats = ["doc"]', r"\"formats\" has 'doc'; there are pdf, xlsx, html"),
    ('areas = ["Workshop 1"]', "areas = []", r'"areas" is \[\] and must be a list of texts'),
    ("keep = 30", "keep = 0", r'"Morning": "keep" is 0 and must be a number from 1 to 10000'),
    ("keep = 30", "kepp = 30", r'"kepp" is not known here; did you mean "keep"\?$'),
    ("keep = 30", "colour = 30", r'"colour" is not known here; there are name, report, at'),
    ("[[schedule]]", "[[schedules]]", r'"schedules" is not known here; did you mean "schedule"\?$'),
    ("[[schedule]]", "[[schedule]", "is no TOML"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "said"), WRONG, ids=[str(number) for number in range(len(WRONG))])
def test_a_wrong_file_is_told_where_and_what_to_write(old: str, new: str, said: str, tmp_path: Path) -> None:
    assert old in TEXT
    with pytest.raises(ConfigError, match=said) as error:
        schedules(tmp_path, TEXT.replace(old, new, 1))
    assert FILE in str(error.value)


def test_of_a_file_that_becomes_wrong_what_was_in_force_stays_in_force(tmp_path: Path) -> None:
    file = tmp_path / FILE
    file.write_text(TEXT, encoding="utf-8")
    folder = ScheduleFolder(tmp_path, BERLIN)
    folder.look().due(local("2026-10-01T06:00"))
    folder.save()
    file.write_text(TEXT.replace("07:00", "7 o'clock"), encoding="utf-8")
    assert folder.look().due(local("2026-10-01T07:00")) != []
    assert folder.problem is not None and "7 o'clock" in folder.problem and "Morning" in folder.problem
    file.write_text(TEXT.replace("07:00", "09:00"), encoding="utf-8")
    assert f"{folder.look().schedules['Morning'].at:%H:%M}" == "09:00"
    assert folder.problem is None


def test_what_was_done_is_known_after_a_restart_even_if_the_file_is_wrong_then(tmp_path: Path) -> None:
    file = tmp_path / FILE
    file.write_text(TEXT, encoding="utf-8")
    folder = ScheduleFolder(tmp_path, BERLIN)
    folder.look().due(local("2026-10-01T06:00"))
    folder.save()
    file.write_text("broken", encoding="utf-8")
    again = ScheduleFolder(tmp_path, BERLIN)
    assert again.look().due(local("2026-10-01T08:00")) == [] and again.problem is not None
    again.save()  # and forgets nothing
    file.write_text(TEXT, encoding="utf-8")
    assert [run.schedule for run in again.look().due(local("2026-10-01T08:00"))] == ["Morning"]
    third = ScheduleFolder(tmp_path, BERLIN)
    assert [run.schedule for run in third.look().due(local("2026-10-01T08:00"))] == ["Morning"]


def test_without_a_file_nothing_is_due_and_a_damaged_state_begins_anew(tmp_path: Path) -> None:
    folder = ScheduleFolder(tmp_path, SHANGHAI)
    assert folder.look().due(local("2026-10-01T06:00")) == [] and folder.problem is None
    folder.save()
    (tmp_path / "schedules-state.json").write_text("[1]")
    (tmp_path / FILE).write_text(TEXT, encoding="utf-8")
    assert ScheduleFolder(tmp_path, SHANGHAI).look().due(local("2026-10-01T07:00", SHANGHAI)) == []


def test_the_example_that_comes_with_the_program_is_right_and_names_every_key() -> None:
    file = Path(schedule.__file__).with_name("schedules.example.toml")
    found = load_schedules(file)
    assert [(one.report, one.on, one.enabled) for one in found] == [("daily", "daily", True), ("monthly", 2, False)]
    # Points and lines stand in a comment: all three at once are no example.
    text = file.read_text(encoding="utf-8")
    for one in fields(Schedule):
        assert f"{one.name} = " in text, one.name


def test_people_are_told_when_it_is_next(tmp_path: Path) -> None:
    plan = Plan(schedules(tmp_path), BERLIN)
    found = {one["name"]: one["next"] for one in plan.as_list(local("2026-10-02T08:00"))}
    assert found == {"Morning": "2026-10-03T07:00:00+02:00", "Month": "2026-10-02T08:30:00+02:00"}
