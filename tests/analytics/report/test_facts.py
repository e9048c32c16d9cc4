"""Facts are what the archive holds, to the last digit; nothing counts twice; what is not known is said."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_batch_analytics.archive.read import everything, periods
from meter_batch_analytics.archive.rows import intervals_from
from meter_batch_analytics.archive.store import Archive
from meter_batch_analytics.comparable import with_previous
from meter_batch_analytics.frame import from_intervals
from meter_batch_analytics.report.facts import Facts, Note
from meter_batch_analytics.report.gather import choose, facts
from meter_batch_analytics.report.hierarchy import ancestors, members
from meter_batch_analytics.report.measured import IMPORT, read
from meter_batch_analytics.report.tariff import Tariff, Tariffs
from meter_batch_analytics.report.tariff_file import examples, load_tariff
from meter_batch_analytics.session import Session, open_data
from meter_batch_analytics.site import Site
from meter_batch_engine.errors import ConfigError
from meter_batch_engine.model.day import DayCalendar
from meter_batch_engine.model.interval import Changes, Interval, Quality
from meter_batch_engine.model.point import InstalledMeter, Point, Route, Term
from meter_batch_engine.wire import RegistrySnapshot

from .. import data_site
from .steel import TARIFF
from .test_tariff import golden, steel  # noqa: F401

OBIS = {"kwh": "1-0:1.8.0", "export": "1-0:2.8.0", "lag": "1-0:3.8.0", "lead": "1-0:4.8.0", "gross": "1-0:15.8.0"}
QUARTER = timedelta(minutes=15)
ALWAYS = datetime(2000, 1, 1, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
NOW = data_site.NOW


def tariff_of(folder: Path, text: str, name: str = "t") -> Tariff:
    file = folder / f"{name}.toml"
    file.write_text(text, encoding="utf-8")
    return load_tariff(file)


@pytest.fixture(scope="module")
def china() -> Tariff:
    return load_tariff(examples()["china-industrial"])


@pytest.fixture(scope="module")
def simple() -> Tariff:
    return load_tariff(examples()["simple"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return data_site.build(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def session(folder: Path) -> Session:
    return open_data(folder, now=lambda: NOW)


@pytest.fixture(scope="module")
def august(session: Session, china: Tariff) -> Facts:
    return facts(session, "monthly", "2026-08", tariff=china)


@pytest.fixture(scope="module")
def kept(folder: Path) -> list[Interval]:
    """All that the archive has, one by one."""
    return [one for rows, other in everything(Archive(folder / "archive")) for one in intervals_from(rows, other)]


def point(id_: str, parent: str | None = None, **more: object) -> Point:
    meters = () if more.get("formula") else (InstalledMeter(ALWAYS, "t"),)
    routes = () if more.get("formula") else (Route("l1", "modbus", "1"),)
    return Point(id_, id_.upper(), meters, routes, parent=parent, **more)  # type: ignore[arg-type]


def site(
    folder: Path,
    intervals: Iterable[Interval],
    points: Iterable[Point] = (),
    zone: str = "Europe/Berlin",
    now: datetime | None = None,
) -> Session:
    """A data folder of some intervals."""
    there = {one.id: one for one in points} or {"p": point("p")}
    with Archive(folder / "archive", time_zone=zone, writing=True) as archive:
        archive.keep_registry(RegistrySnapshot(there, {}, {"l1": "Line 1"}, zone, 1))
        archive.take("archive", Changes(1, list(intervals)))
        archive.compact()
    return open_data(folder, now=lambda: now or datetime(2030, 1, 1, tzinfo=UTC))


def interval(start: datetime, kwh: str | Decimal, id_: str = "p", length_s: int = 900, **more: object) -> Interval:
    flags = frozenset({Quality(str(more.pop("flag", "measured")))})
    known = 0 if Quality.ESTIMATED in flags else length_s
    energies = {OBIS["kwh"]: Decimal(kwh)} | {OBIS[key]: Decimal(str(value)) for key, value in more.items()}
    return Interval(id_, start.astimezone(UTC), length_s, energies, flags, 1, "poll", known_s=known)


def quarters(begin: datetime, end: datetime) -> list[datetime]:
    begin, end = begin.astimezone(UTC), end.astimezone(UTC)
    return [begin + number * QUARTER for number in range((end - begin) // QUARTER)]


class _Given:
    """Some intervals, as a source of a site gives them, and as a site does."""

    time_zone = "UTC"

    def __init__(self, intervals: list[Interval], name: str = "ledger") -> None:
        self.intervals, self.name = intervals, name

    def tables(self, points, since, until, resolution, time_zone="", quantities=()):
        mine = [one for one in self.intervals if one.point in points and since <= one.start < until]
        yield from_intervals(mine, quantities, self.name)


# --- as the archive ---


def test_energies_of_points_are_the_archives_to_the_last_digit(folder: Path, session: Session, august: Facts) -> None:
    archive = Archive(folder / "archive")
    (table,) = periods(archive, None, august.start, august.end, "month")
    kept = {one.point: one for one in intervals_from(table)}
    measured = {one.id: one for one in august.points if not one.virtual}
    for id_, one in measured.items():
        there = kept[id_].energies.get(OBIS["kwh"]) if id_ in kept else None
        assert one.kwh == there, id_
        if id_ in kept:
            assert one.export_kwh == kept[id_].energies[OBIS["export"]]
            assert one.power_factor.kvarh_lagging == kept[id_].energies.get(OBIS["lag"])
            assert one.completeness == pytest.approx(kept[id_].completeness)
    (rest,) = [one for one in august.points if one.virtual]
    assert rest.kwh == measured["main"].kwh - sum(measured[one].kwh or 0 for one in ("p1", "p2", "p3", "p4", "p5"))
    frame = session.site.frame(["rest"], since=august.start, until=august.end, resolution="month")
    assert float(rest.kwh) == pytest.approx(frame["energy_import_kwh"].sum())


def test_everything_is_as_a_plain_sum_over_the_intervals_says(kept, august: Facts, china: Tariff) -> None:
    zone = data_site.SHANGHAI
    periods_, days, hours = (defaultdict(lambda: defaultdict(Decimal)) for _ in range(3))
    money, greatest = defaultdict(Decimal), {}
    for one in kept:
        local = one.start.astimezone(zone)
        if not august.start <= local < august.end:
            continue
        kwh = one.energies[OBIS["kwh"]]
        key = china.period_at(local.date(), local.hour * 60 + local.minute)
        periods_[one.point][key] += kwh
        money[one.point] += kwh * (china.versions[0].prices[key] + Decimal("0.0293"))
        days[local.date()][one.point] += kwh
        hours[local.replace(minute=0)][one.point] += kwh
        if one.point not in greatest or kwh * 4 > greatest[one.point][0]:
            greatest[one.point] = (kwh * 4, local)
    for one in august.points:
        if not one.virtual and one.kwh is not None:
            assert {key: kwh for key, kwh in one.by_period.items() if kwh} == {
                key: kwh for key, kwh in periods_[one.id].items() if kwh
            }
            assert abs(one.energy_cost - money[one.id]) <= Decimal("0.005")
            assert (one.demand.max_kw, one.demand.at) == greatest[one.id]
    assert {one.day: one.kwh for one in august.days} == {day: kwh["main"] for day, kwh in days.items()}
    assert {one.start: one.kwh for one in august.hours} == {at: kwh["main"] for at, kwh in hours.items()}
    assert len(august.hours) == 31 * 24
    for series in (august.days, august.hours):
        assert all(sum(one.by_period.values()) == one.kwh for one in series)
    assert max(one.demand_max_kw for one in august.days) == august.total.demand.max_kw == greatest["main"][0]
    assert august.total.by_period == dict(periods_["main"]) | {
        one.key: periods_["main"].get(one.key, Decimal(0)) for one in china.periods
    }


def test_there_is_a_balance_only_where_a_point_and_all_its_submeters_are_known(
    session: Session, august: Facts, china: Tariff
) -> None:
    by_id = {one.id: one for one in august.points}
    assert min(by_id[one].completeness for one in ("p1", "p2", "p3", "p4", "p5")) < 0.95
    assert august.total.balances == () and Note("balance_left_out", {"points": 1}) in august.notes
    whole = [id_ for id_, one in by_id.items() if one.completeness + one.estimated_share >= 0.99 and not one.virtual]
    found = facts(session, "monthly", "2026-08", whole, china)
    (balance,) = found.total.balances
    assert balance.children == tuple(sorted({*whole} - {"main"})) and len(balance.children) > 1
    assert balance.children_kwh + balance.unaccounted_kwh == balance.kwh == by_id["main"].kwh
    assert not [one for one in found.notes if one.key == "balance_left_out"]


def test_the_total_is_not_a_parent_and_its_children(august: Facts) -> None:
    by_id = {one.id: one for one in august.points}
    assert august.total.members == ("main",) and august.total.kwh == by_id["main"].kwh
    assert [one.id for one in august.points if one.in_total] == ["main"]
    assert {one.name: one.members for one in august.areas} == {
        "Office": ("p3", "p4", "p5"), "Substation": ("main",), "Workshop": ("p1", "p2")
    }  # fmt: skip
    office = next(one for one in august.areas if one.name == "Office")
    assert office.kwh == sum(by_id[one].kwh or 0 for one in office.members)
    assert {one.name: one.points for one in august.lines} == {
        "Line 1": ("main", "p1", "p2", "p3"), "Line 2": ("p4", "p5")
    }  # fmt: skip
    assert Note("virtual_left_out", {"points": 1}) in august.notes


def test_completeness_estimates_and_later_beginnings_are_told(session: Session, august: Facts, china: Tariff) -> None:
    by_id = {one.id: one for one in august.points}
    assert by_id["p2"].completeness == pytest.approx(29 / 31) and by_id["p2"].estimated_share == 0
    assert by_id["p5"].kwh is None and by_id["p5"].completeness == 0 and by_id["p5"].energy_cost is None
    assert by_id["rest"].completeness == 0  # one of its parts is not known at all
    september = facts(session, "monthly", "2026-09", tariff=china)
    by_id = {one.id: one for one in september.points}
    assert by_id["p3"].estimated_share == pytest.approx(1 / 29)  # of what is over of the month
    assert by_id["p3"].completeness + by_id["p3"].estimated_share == pytest.approx(1)
    assert by_id["p5"].since == datetime(2026, 9, 20, tzinfo=data_site.SHANGHAI)
    keys = {one.key: one.facts for one in september.notes}
    assert keys["history_begins"] == {"points": 1}
    office = facts(session, "monthly", "2026-09", ["p3", "p4"], china)
    assert office.total.members == ("p3", "p4") and office.chosen == ("p3", "p4")
    assert office.estimated_share == pytest.approx(0.5 / 29)
    assert {one.key: one.facts for one in office.notes}["estimates"] == {"share": round(0.5 / 29, 6), "points": 1}


def test_a_month_that_is_not_over_says_so_and_is_compared_by_its_whole_days(session: Session, kept) -> None:
    found = facts(session, "monthly", "2026-09", made_at=datetime(2026, 9, 10, 10, 20, tzinfo=data_site.SHANGHAI))
    assert not found.over and found.until == datetime(2026, 9, 10, 10, tzinfo=data_site.SHANGHAI)
    assert found.notes[0].key == "not_over"
    assert len(found.days) == 10 and len(found.hours) == 9 * 24 + 10
    assert found.completeness == 1
    sums: dict[date, Decimal] = defaultdict(Decimal)
    for one in kept:
        if one.point == "main":
            sums[one.start.astimezone(data_site.SHANGHAI).date()] += one.energies[OBIS["kwh"]]
    assert found.total.previous.this_kwh == sum(sums[date(2026, 9, day)] for day in range(1, 10))
    assert found.total.previous.kwh == sum(sums[date(2026, 8, day)] for day in range(1, 10))
    assert found.total.kwh == sum(one.kwh for one in found.days) != found.total.previous.this_kwh
    # At midnight too, when all days that began are over, but not the month.
    midnight = facts(session, "monthly", "2026-09", ["main"], made_at=datetime(2026, 9, 10, tzinfo=data_site.SHANGHAI))
    assert (midnight.total.previous.this_kwh, midnight.total.previous.kwh) == (
        found.total.previous.this_kwh, found.total.previous.kwh
    )  # fmt: skip
    assert found.cost is None and Note("no_tariff") in found.notes and found.tariff_periods == ()


def test_a_period_is_compared_with_the_one_before_and_on_days_that_are_alike(session: Session, kept) -> None:
    made_at = datetime(2026, 10, 1, 7, tzinfo=data_site.SHANGHAI)
    found = facts(session, "monthly", "2026-09", made_at=made_at)
    sums: dict[tuple[str, date], Decimal] = defaultdict(Decimal)
    for one in kept:
        sums[one.point, one.start.astimezone(data_site.SHANGHAI).date()] += one.energies[OBIS["kwh"]]

    def month(id_: str, number: int) -> Decimal:
        return sum((kwh for (mine, day), kwh in sums.items() if mine == id_ and day.month == number), Decimal(0))

    main = found.total.previous
    assert (main.kwh, main.this_kwh) == (month("main", 8), month("main", 9))
    assert main.change == pytest.approx(float(month("main", 9) / month("main", 8)) - 1)
    match = with_previous(date(2026, 9, 1), date(2026, 9, 30), DayCalendar("CN"))
    pairs = [(mine, other) for mine, other in match.pairs if ("main", mine) in sums]
    assert main.comparable_days == len(pairs)
    assert main.comparable_this_kwh == sum(sums["main", mine] for mine, _ in pairs)
    assert main.comparable_kwh == sum(sums["main", other] for _, other in pairs)
    by_id = {one.id: one for one in found.points}
    # Two days of p2 are lost in August: with these nothing is compared.
    there = [(mine, other) for mine, other in pairs if other not in (date(2026, 8, 12), date(2026, 8, 13))]
    assert by_id["p2"].previous.comparable_days == len(there) < len(pairs)
    assert by_id["p2"].previous.comparable_kwh == sum(sums["p2", other] for _, other in there)
    # In the sum of an area each day counts with the points that are known on both.
    workshop = next(one for one in found.areas if one.name == "Workshop")
    assert workshop.previous.comparable_kwh == (
        by_id["p1"].previous.comparable_kwh + by_id["p2"].previous.comparable_kwh
    )
    assert found.total.last_year.kwh is None and found.total.last_year.change is None
    assert Note("no_last_year") in found.notes


def test_a_day_is_compared_with_the_day_before_and_the_same_weekday(session: Session, kept) -> None:
    found = facts(session, "daily", "2026-09-16")
    hours: dict[datetime, Decimal] = defaultdict(Decimal)
    for one in kept:
        if one.point == "main":
            hours[one.start.astimezone(data_site.SHANGHAI).replace(minute=0)] += one.energies[OBIS["kwh"]]
    assert found.total.previous.period == "2026-09-15" and found.total.last_year.period == "2025-09-16"
    assert found.total.previous.kwh == sum(kwh for at, kwh in hours.items() if at.date() == date(2026, 9, 15))
    assert found.total.previous.comparable_kwh == sum(kwh for at, kwh in hours.items() if at.date() == date(2026, 9, 9))
    for one in found.hours:
        assert one.comparable_kwh == hours[one.start - timedelta(days=7)]


def test_alarms_of_the_period_are_named(session: Session, folder: Path) -> None:
    found = facts(session, "daily", "2026-09-10")
    assert [(one.id, one.name, one.state) for one in found.alarms] == [("f1", "Compressor", "normal")]
    assert facts(session, "daily", "2026-09-11").alarms == ()
    assert facts(session, "daily", "2026-09-10", ["p1"]).alarms == ()
    lasting = facts(session, "daily", "2026-09-29").alarms
    assert [(one.id, one.name, one.until) for one in lasting] == [("f2", "Line 2", None)]
    some = open_data(folder, data_site.SOME, now=lambda: NOW)
    assert [one.id for one in facts(some, "daily", "2026-09-29").alarms] == ["f2"]


def test_a_limited_scope_says_nothing_of_other_points(folder: Path, china: Tariff) -> None:
    some = open_data(folder, data_site.SOME, now=lambda: NOW)
    found = facts(some, "monthly", "2026-08", tariff=china)
    assert {one.id for one in found.points} == {"p3", "p4"} == set(found.chosen or ())
    assert "main" not in json.dumps(found.as_dict()) and "Chiller" not in json.dumps(found.as_dict())
    with pytest.raises(ConfigError, match='there is no meter "Chiller"'):
        facts(some, "monthly", "2026-08", ["Chiller"])


def test_the_same_input_gives_the_same_facts_and_they_travel_as_json(
    session: Session, folder: Path, china: Tariff
) -> None:
    made = datetime(2026, 10, 1, tzinfo=UTC)
    one = facts(session, "monthly", "2026-08", tariff=china, made_at=made)
    other = facts(open_data(folder), "monthly", "2026-08", tariff=china, made_at=made)
    text = json.dumps(one.as_dict(), ensure_ascii=False)
    assert json.dumps(other.as_dict(), ensure_ascii=False) == text
    assert Facts.from_dict(json.loads(text)) == one


def test_wrong_questions_are_answered_in_words(session: Session) -> None:
    for kind, period, points, said in (
        ("weekly", "2026-08", None, '"weekly" is no report; there are daily, monthly'),
        ("monthly", "August", None, '"August" is no month for a monthly report; write 2026-10, last or this'),
        ("daily", "2026-13-01", None, '"2026-13-01" is no day for a daily report; write 2026-10-05'),
        ("monthly", "2026-13", None, "is no month"),
        ("monthly", "2027-01", None, "2027-01 has only just begun or is still to come"),
        ("monthly", "2026-08", ["Nothing"], 'there is no meter "Nothing"'),
        ("monthly", "1999-01", None, "before 2000"),
    ):
        with pytest.raises(ConfigError, match=said):
            facts(session, kind, period, points)
    with pytest.raises(ConfigError, match='there is no area "Yard"; there are Office'):
        choose(session.site, areas=["Yard"])
    assert choose(session.site) is None
    assert choose(session.site, ["Chiller"], ["office"], None) == ["p1", "p3", "p4", "p5"]
    assert choose(session.site, lines=["line 2"]) == ["p4", "p5"]


def test_last_yesterday_and_this_are_meant_locally(session: Session) -> None:
    late = datetime(2026, 8, 31, 16, 30, tzinfo=UTC)  # half past midnight in Shanghai, already September
    for kind, text, label in (
        ("daily", "yesterday", "2026-08-31"), ("daily", "last", "2026-08-31"), ("monthly", "last", "2026-08")
    ):  # fmt: skip
        assert facts(session, kind, text, ["p1"], made_at=late).period == label
    with pytest.raises(ConfigError, match="2026-09 has only just begun"):
        facts(session, "monthly", "this", ["p1"], made_at=late)


# --- money ---


def test_the_golden_bill_comes_out_of_an_archive(steel, golden, tmp_path: Path) -> None:  # noqa: F811
    seoul = ZoneInfo("Asia/Seoul")
    session = site(
        tmp_path,
        (interval(start.replace(tzinfo=seoul), kwh, "plant", lag=lag, lead=lead) for start, kwh, lag, lead in steel),
        [point("plant", attributes={"contract_kw": "550", "transformer_kva": "800"})],
        "Asia/Seoul",
    )
    text = TARIFF.replace("BASIS", "actual").replace('contract_kw = "550"', "").replace('transformer_kva = "800"', "")
    tariff = tariff_of(tmp_path, text)
    for expected in golden["months"]:
        found = facts(session, "monthly", expected["month"], tariff=tariff)
        (bill,) = found.cost.bills
        lines = {one.key: one for one in found.cost.lines}
        said = {
            "kwh": found.total.kwh, **found.total.by_period,
            "kvarh_lag": found.total.power_factor.kvarh_lagging, "kvarh_lead": found.total.power_factor.kvarh_leading,
            "pf_lag_only": found.total.power_factor.lagging_only, "pf_abs_sum": found.total.power_factor.value,
            "pf_adj_pct": found.total.power_factor.adjustment_percent, "max_demand_kw": found.total.demand.max_kw,
            "energy_charge": lines["energy"].amount, "basic_by_actual_demand": lines["demand"].amount,
            "basic_by_contract_550kw": bill.demand_methods["contract"],
            "basic_by_capacity": bill.demand_methods["capacity"], "flat_price_equivalent": bill.flat_cost,
        }  # fmt: skip
        for key, value in said.items():
            assert value == Decimal(str(expected[key])), (expected["month"], key)
        assert found.total.demand.load_factor == pytest.approx(expected["load_factor"], abs=5e-5)
        assert found.cost.total == sum(one.amount for one in found.cost.lines) == bill.total
        assert found.completeness == 1 and found.over


def test_a_day_is_charged_its_energy_only(session: Session, china: Tariff, simple: Tariff) -> None:
    found = facts(session, "daily", "2026-08-20", tariff=china)
    assert [one.key for one in found.cost.lines] == ["energy", "funds"]
    assert Note("monthly_charges") in found.notes
    found = facts(session, "monthly", "2026-08", tariff=simple)
    assert [(one.key, one.unit) for one in found.cost.lines] == [("energy", "kWh"), ("standing", "month"), ("tax", "%")]
    energy, standing, tax = found.cost.lines
    assert tax.base == energy.amount + standing.amount
    assert tax.amount == (tax.base * 19 / 100).quantize(Decimal("0.01"))


def test_a_point_has_its_own_tariff_that_of_its_parent_or_the_sites(tmp_path: Path, china: Tariff) -> None:
    begin = datetime(2026, 5, 1, tzinfo=BERLIN)
    points = [
        point("main", attributes={"tariff": "own"}), point("child", "main"), point("other"),
        point("feed", attributes={"tariff": "own", "contract_kw": "5"}),
    ]  # fmt: skip
    session = site(
        tmp_path,
        [
            interval(at, kwh, id_)
            for at in quarters(begin, begin + timedelta(days=2))
            for id_, kwh in (("main", "2"), ("child", "1.5"), ("other", "4"), ("feed", "1"))
        ],
        points,
    )
    own = replace(china, id="own")
    tariffs = Tariffs(replace(china, id="default"), {"own": own})
    found = facts(session, "daily", "2026-05-01", tariff=tariffs)
    assert {one.id: one.tariff for one in found.points} == {
        "main": "own", "child": "own", "other": "default", "feed": "own"
    }  # fmt: skip
    assert {one.tariff: (one.points, one.kwh) for one in found.cost.bills} == {
        "own": (("feed", "main"), Decimal(288)), "default": (("other",), Decimal(384))
    }  # fmt: skip
    assert found.cost.total == sum(one.total for one in found.cost.bills) == sum(one.amount for one in found.cost.lines)
    bare = facts(session, "daily", "2026-05-01", tariff=Tariffs(None, {"own": own}))
    assert Note("not_billed", {"points": 1}) in bare.notes and bare.total.kwh == 672
    assert sum(bare.total.by_period.values()) == 288
    with pytest.raises(ConfigError, match=r'meter "FEED" has the tariff "own", and there is no tariffs/own\.toml'):
        facts(session, "daily", "2026-05-01", ["feed"], Tariffs(china))
    wrong = Tariffs(own, {"default": own}, {"own": 'own.toml: "currency" is missing'})
    partly = facts(session, "daily", "2026-05-01", tariff=wrong)
    said = {"tariff": "own", "points": 3, "problem": wrong.broken["own"]}
    assert Note("tariff_broken", said) in partly.notes and partly.cost.bills[0].points == ("other",)
    assert not [one for one in facts(session, "daily", "2026-05-01", ["other"], wrong).notes if "tariff" in one.key]
    with pytest.raises(ConfigError, match=r'own\.toml: "currency" is missing'):
        facts(session, "daily", "2026-05-01", ["feed", "child"], wrong)
    with pytest.raises(ConfigError, match="one report needs one currency"):
        facts(session, "daily", "2026-05-01", tariff=Tariffs(replace(china, currency="EUR"), {"own": own}))


def test_feeds_are_billed_by_their_common_maximum_or_by_each_its_own(tmp_path: Path) -> None:
    begin = datetime(2026, 5, 1, tzinfo=BERLIN)
    peaks = {"a": begin + timedelta(hours=9), "b": begin + timedelta(hours=15)}
    session = site(
        tmp_path,
        [
            interval(at, 10 if at == peak else 1, id_)
            for at in quarters(begin, begin + timedelta(days=31))
            for id_, peak in peaks.items()
        ],
        [point("a", attributes={"contract_kw": "20"}), point("b", attributes={"contract_kw": " 25.5 "})],
    )
    text = TARIFF.replace("BASIS", "contract").replace('contract_kw = "550"', "")
    (together,) = facts(session, "monthly", "2026-05", tariff=tariff_of(tmp_path, text)).cost.bills
    assert together.demand.max_kw == 44 and together.demand.contract_kw == Decimal("45.5")
    apart = tariff_of(tmp_path, text.replace("[version.demand]", '[version.demand]\nfeeds = "separate"'))
    (separate,) = facts(session, "monthly", "2026-05", tariff=apart).cost.bills
    assert separate.demand.max_kw == 80
    line = next(one for one in separate.lines if one.key == "demand")
    assert line.quantity == 80 + (80 - Decimal("1.05") * Decimal("45.5"))


def test_a_contract_that_nobody_tells_is_asked_for_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    begin = datetime(2026, 5, 1, tzinfo=BERLIN)
    rows = [interval(at, 1) for at in quarters(begin, begin + timedelta(days=1))]
    text = TARIFF.replace("BASIS", "contract").replace('contract_kw = "550"', "")
    tariff = tariff_of(tmp_path, text)
    found = facts(site(tmp_path / "1", rows), "monthly", "2026-05", tariff=tariff)
    assert Note("no_contract", {"tariff": "t", "attribute": "contract_kw"}) in found.notes
    assert "demand" not in [one.key for one in found.cost.lines]
    wrong = site(tmp_path / "2", rows, [point("p", attributes={"contract_kw": "lots"})])
    with pytest.raises(ConfigError, match='meter "P" has contract_kw "lots", which is no number; write 550'):
        facts(wrong, "monthly", "2026-05", tariff=tariff)


def test_prices_that_change_within_a_month_apply_each_to_its_days(tmp_path: Path) -> None:
    text = TARIFF.replace("BASIS", "actual")
    second = text[text.index("[[version]]") :].replace("2018-01-01", "2026-05-11").replace('"0.60"', '"0.70"')
    begin = datetime(2026, 5, 1, tzinfo=BERLIN)
    session = site(tmp_path, [interval(at, 1) for at in quarters(begin, datetime(2026, 6, 1, tzinfo=BERLIN))])
    found = facts(session, "monthly", "2026-05", tariff=tariff_of(tmp_path, text + second))
    parts = found.cost.lines[0].parts
    assert [(one.period, one.kwh, one.price) for one in parts if one.period == "flat"] == [
        ("flat", Decimal(8 * 4 * 10), Decimal("0.60")), ("flat", Decimal(8 * 4 * 21), Decimal("0.70"))
    ]  # fmt: skip
    assert found.total.by_period["flat"] == 8 * 4 * 31
    assert Note("tariff_changed", {"tariff": "t", "day": "2026-05-11"}) in found.notes


# --- time ---


@pytest.mark.parametrize(
    ("month", "day", "hours"),
    [("2026-03", "2026-03-29", 23), ("2026-10", "2026-10-25", 25), ("2026-06", "2026-06-01", 24)],
)
def test_days_of_23_and_25_hours_add_up(month: str, day: str, hours: int, tmp_path: Path) -> None:
    first = datetime.fromisoformat(f"{month}-01").replace(tzinfo=BERLIN)
    last = (first + timedelta(days=31)).replace(day=1)
    starts = quarters(first - timedelta(days=8), last + timedelta(hours=3))
    session = site(tmp_path, [interval(at, Decimal(number % 97 + 1).scaleb(-2)) for number, at in enumerate(starts)])
    kept = {at: Decimal(number % 97 + 1).scaleb(-2) for number, at in enumerate(starts)}
    tariff = tariff_of(tmp_path, TARIFF.replace("BASIS", "actual").replace('"23:00-07:00"', '"02:30-07:00"').replace(
        'peak = ["10:00-14:00", "17:00-21:00"]', 'peak = ["00:30-02:30"]'
    ))  # fmt: skip
    daily = facts(session, "daily", day, tariff=tariff)
    assert len(daily.hours) == hours and daily.end - daily.start == timedelta(hours=hours)
    mine = {at: kwh for at, kwh in kept.items() if at.astimezone(BERLIN).date().isoformat() == day}
    assert len(mine) == hours * 4
    assert daily.total.kwh == sum(mine.values()) == sum(one.kwh for one in daily.hours)
    assert len({one.start for one in daily.hours}) == hours
    split: dict[str, Decimal] = defaultdict(Decimal)
    for at, kwh in mine.items():
        local = at.astimezone(BERLIN)
        split[tariff.period_at(local.date(), local.hour * 60 + local.minute)] += kwh
    assert daily.total.by_period == split
    assert daily.completeness == 1
    monthly = facts(session, "monthly", month, tariff=tariff)
    assert (
        monthly.total.kwh
        == sum(kwh for at, kwh in kept.items() if f"{at.astimezone(BERLIN):%Y-%m}" == month)
        == sum(one.kwh for one in monthly.days)
        == sum(one.kwh for one in monthly.hours)
    )
    assert next(one.kwh for one in monthly.days if one.day.isoformat() == day) == daily.total.kwh


def test_where_half_an_hour_is_off_and_a_day_was_skipped_sums_are_right_too(tmp_path: Path) -> None:
    for zone_name, month, days in (("Asia/Kolkata", "2026-05", 31), ("Pacific/Apia", "2011-12", 30)):
        zone = ZoneInfo(zone_name)
        first = datetime.fromisoformat(f"{month}-01").replace(tzinfo=zone)
        starts = quarters(first, (first + timedelta(days=31)).replace(day=1))
        session = site(tmp_path / month, [interval(at, "0.25") for at in starts], zone=zone_name)
        found = facts(session, "monthly", month)
        assert len(found.days) == days and found.completeness == 1
        assert found.total.kwh == Decimal("0.25") * len(starts) == sum(one.kwh for one in found.hours)
        assert {one.kwh for one in found.days} == {Decimal(24)}
        assert found.total.demand.max_kw == 1


# --- what is not there ---


def test_of_a_period_without_data_nothing_is_claimed(session: Session, china: Tariff) -> None:
    found = facts(session, "monthly", "2025-01", tariff=china)
    assert found.total.kwh is None and found.cost is None and found.completeness == 0
    assert found.total.demand.max_kw is None and found.total.power_factor.value is None
    assert {one.key for one in found.notes} >= {"no_data"} and len(found.days) == 31
    assert all(one.kwh is None for one in (*found.days, *found.hours, *found.points))
    assert Facts.from_dict(json.loads(json.dumps(found.as_dict()))) == found


def test_a_meter_with_two_days_of_history_says_since_when(tmp_path: Path, simple: Tariff) -> None:
    begin = datetime(2026, 5, 20, 9, tzinfo=BERLIN)
    session = site(tmp_path, [interval(at, "1.5") for at in quarters(begin, begin + timedelta(days=2))])
    found = facts(session, "monthly", "2026-05", tariff=simple)
    (one,) = found.points
    assert one.since == begin and one.kwh == 288 and one.completeness == pytest.approx(2 / 31)
    assert one.previous.kwh is None and one.previous.comparable_days == 0
    keys = [note.key for note in found.notes]
    assert {"incomplete", "history_begins", "no_previous", "no_last_year", "no_reactive"} <= set(keys)


def test_an_empty_site_has_an_empty_report(tmp_path: Path, simple: Tariff) -> None:
    with Archive(tmp_path / "archive", time_zone="Europe/Berlin", writing=True) as archive:
        archive.keep_registry(RegistrySnapshot({}, {}, {}, "Europe/Berlin", 1))
    found = facts(open_data(tmp_path, now=lambda: NOW), "monthly", "2026-08", tariff=simple)
    assert found.points == () and found.total.members == () and found.total.kwh is None
    assert found.cost is None


def test_meters_that_count_both_directions_in_one_are_in_the_sum(tmp_path: Path) -> None:
    begin = datetime(2026, 5, 1, tzinfo=BERLIN)
    rows = []
    for at in quarters(begin, begin + timedelta(days=1)):
        gross = Interval("g", at, 900, {OBIS["gross"]: Decimal("0.75")}, frozenset({Quality.MEASURED}), 1, known_s=900)
        rows += [interval(at, "1.25", "i"), gross]
    found = facts(site(tmp_path, rows, [point("g"), point("i")]), "daily", "2026-05-01")
    assert {one.id: one.kwh for one in found.points} == {"g": Decimal(72), "i": Decimal(120)}
    assert found.total.kwh == 192 and found.total.demand.max_kw == 8


def test_demand_is_of_integration_periods_however_intervals_are_cut(tmp_path: Path) -> None:
    begin = datetime(2026, 5, 1, tzinfo=BERLIN).astimezone(UTC)
    five = [
        interval(begin + number * timedelta(minutes=5), 3 if number in (7, 8, 9) else 1, "five", 300)
        for number in range(288)
    ]
    hourly = [
        interval(begin + number * timedelta(hours=1), 8 if number == 5 else 2, "hour", 3600) for number in range(24)
    ]
    # Of the integration period from 10:00 on only 5 minutes are known: however much they are, it does not count.
    five = [one for one in five if not timedelta(hours=10) < one.start - begin < timedelta(hours=10, minutes=15)]
    five[120] = interval(begin + timedelta(hours=10), 20, "five", 300)
    session = site(tmp_path, [*five, *hourly], [point("five"), point("hour")])
    found = facts(session, "daily", "2026-05-01")
    by_id = {one.id: one for one in found.points}
    # 30 to 45 minutes: 1 + 3 + 3; the highest is 3, 1, 1 … of 5 minutes no integration period.
    assert by_id["five"].demand.max_kw == (1 + 3 + 3) * 4 and by_id["five"].demand.minutes == 15
    assert by_id["five"].demand.at == begin + timedelta(minutes=30)
    assert by_id["hour"].demand.max_kw == 8 and by_id["hour"].demand.minutes == 60
    assert found.total.demand.max_kw == 8 + 12 and found.total.demand.minutes == 60
    assert Note("coarse", {"points": 1}) in found.notes


def test_long_intervals_count_where_they_begin_and_how_much_that_is_is_told(tmp_path: Path) -> None:
    begin = datetime(2026, 5, 1, tzinfo=BERLIN).astimezone(UTC)
    hourly = [interval(begin + number * timedelta(hours=1), 2, "p", 3600) for number in range(24)]
    session = site(tmp_path, hourly)
    text = TARIFF.replace("BASIS", "actual").replace('peak = ["10:00-14:00", "17:00-21:00"]', 'peak = ["10:30-14:00"]')
    found = facts(session, "daily", "2026-05-01", tariff=tariff_of(tmp_path, text))
    assert found.total.by_period == {"peak": 6, "flat": 26, "valley": 16}  # 11:00 to 14:00
    assert Note("across_periods", {"share": round(2 / 48, 6)}) in found.notes
    whole = facts(session, "daily", "2026-05-01", tariff=tariff_of(tmp_path, TARIFF.replace("BASIS", "actual")))
    assert "across_periods" not in [one.key for one in whole.notes]


def test_doubtful_intervals_are_counted_and_told(tmp_path: Path) -> None:
    begin = datetime(2026, 5, 1, tzinfo=BERLIN)
    rows = [
        replace(interval(at, 1), flags=frozenset({Quality.MEASURED, Quality.SUSPECT}), rule="spike")
        if number in (3, 4)
        else interval(at, 1)
        for number, at in enumerate(quarters(begin, begin + timedelta(days=1)))
    ]
    found = facts(site(tmp_path, rows), "daily", "2026-05-01")
    assert found.total.kwh == 96 and Note("suspect", {"intervals": 2, "points": 1}) in found.notes


def test_hourly_statistics_are_neither_known_nor_estimated_and_told(session: Session) -> None:
    begin = datetime(2026, 5, 1, tzinfo=BERLIN).astimezone(UTC)
    hours = [
        Interval("p", begin + n * timedelta(hours=1), 3600, {OBIS["kwh"]: Decimal(2)}, frozenset()) for n in range(24)
    ]
    registry = RegistrySnapshot({"p": point("p")}, {}, {}, "Europe/Berlin", 1)

    class Recorded:
        identity, now = session.identity, session.now
        site = Site(registry, [_Given(hours, "recorder")])

        @staticmethod
        def alarms(since: datetime, until: datetime) -> list[object]:
            return []

    found = facts(Recorded, "daily", "2026-05-01")
    assert found.total.kwh == 48 and (found.completeness, found.estimated_share) == (0, 0)
    keys = {one.key: one.facts for one in found.notes}
    assert keys["statistics"] == {"share": 1.0} and keys["coarse"] == {"points": 1}
    assert "incomplete" not in keys


def test_only_virtual_points_can_be_asked_for_too(session: Session) -> None:
    found = facts(session, "monthly", "2026-08", ["rest"])
    assert found.total.members == ("rest",) and found.total.kwh == found.points[0].kwh
    assert Note("total_of_virtual") in found.notes


def test_virtual_points_of_virtual_points_are_resolved(tmp_path: Path) -> None:
    begin = datetime(2026, 5, 1, tzinfo=BERLIN)
    points = [
        point("a"), point("b", "a"), point("c", "a"),
        point("v", formula=(Term(1, "a"), Term(-1, "b"))), point("w", formula=(Term(1, "v"), Term(-1, "c"))),
    ]  # fmt: skip
    rows = [
        interval(at, kwh, id_)
        for at in quarters(begin, begin + timedelta(days=1))
        for id_, kwh in (("a", "10"), ("b", "4.5"), ("c", "3.25"))
    ]
    session = site(tmp_path, rows, points)
    found = facts(session, "daily", "2026-05-01")
    by_id = {one.id: one for one in found.points}
    assert by_id["w"].kwh == Decimal("2.25") * 96 and by_id["w"].demand.max_kw == 9
    assert found.total.members == ("a",)
    frame = session.site.frame(["w"], since=found.start, until=found.end, resolution="day")
    assert frame["energy_import_kwh"].tolist() == [216.0]


# --- properties ---


@given(st.lists(st.none() | st.integers(0, 11), max_size=12), st.sets(st.integers(0, 11)))
def test_whatever_the_tree_every_chosen_point_counts_exactly_once(parents: list[int | None], chosen: set[int]) -> None:
    # Parents come before their children, so that there is no circle.
    points = {str(n): point(str(n), None if one is None or one >= n else str(one)) for n, one in enumerate(parents)}
    wanted = {str(one) for one in chosen if one < len(parents)}
    mine = members(points, wanted)
    for one in wanted:
        assert len(set(mine).intersection([one, *ancestors(points, one)])) == 1
    assert set(mine) <= wanted


def test_parents_in_a_circle_end_somewhere() -> None:
    points = {"a": point("a", "b"), "b": point("b", "a"), "c": point("c", "c")}
    assert members(points, ["a", "b"]) == ("a",)
    assert members(points, ["c"]) == ("c",) and members(points, []) == ()


@given(
    st.lists(st.tuples(st.integers(-(10**10), 10**12), st.integers(0, 7)), min_size=1, max_size=40),
    st.sampled_from([Decimal(1), Decimal("0.1"), Decimal(40), Decimal("37.5")]),
)
def test_energies_come_back_exact_whatever_their_decimals_and_ratios(values, ratio: Decimal) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    energies = [min(Decimal(count).scaleb(-digits) * ratio, Decimal(10**8)) for count, digits in values]
    rows = read(
        _Given([interval(start + n * QUARTER, one) for n, one in enumerate(energies)]),
        ["p"],
        start,
        start + timedelta(days=9),
        "interval",
    )
    sums, _ = rows.sums(IMPORT, np.zeros(len(energies), int), 1)
    assert rows.decimal(sums[0, 0]) == sum(energies)


def test_energies_that_do_not_fit_into_64_bits_are_summed_all_the_same() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    energies = [Decimal("900000000000.5"), Decimal("0.0000125"), *[Decimal("4000000000000")] * 50]
    rows = read(
        _Given([interval(start + n * QUARTER, one) for n, one in enumerate(energies)]),
        ["p"],
        start,
        start + timedelta(days=9),
        "interval",
    )
    sums, _ = rows.sums(IMPORT, np.zeros(len(energies), int), 1)
    assert rows.decimal(sums[0, 0]) == sum(energies)


# --- nothing is said that is not known ---

SEPTEMBER, OCTOBER = (datetime(2026, month, 1, tzinfo=ZoneInfo("Europe/Berlin")) for month in (9, 10))
NOVEMBER = datetime(2026, 11, 1, tzinfo=ZoneInfo("Europe/Berlin"))


def test_a_change_is_given_only_where_both_periods_are_known(tmp_path: Path) -> None:
    late = SEPTEMBER + timedelta(days=15)
    some = [
        *(interval(one, 1, "whole") for one in quarters(SEPTEMBER, NOVEMBER)),
        *(interval(one, 1, "partly") for one in quarters(late, NOVEMBER)),
    ]
    session = site(tmp_path, some, [point("whole"), point("partly"), point("silent")])
    found = facts(session, "monthly", "2026-10")
    by_id = {one.id: one.previous for one in found.points}
    assert by_id["whole"].change == pytest.approx(2980 / 2880 - 1)  # the clocks change in October
    assert by_id["partly"].kwh is not None and by_id["partly"].change is None and by_id["partly"].partly
    assert found.total.previous.change is None  # a sum of both
    assert Note("change_left_out", {"points": 1}) in found.notes
    # What is silent in both periods is in neither sum.
    assert facts(session, "monthly", "2026-10", ["whole", "silent"]).total.previous.change is not None


def test_of_days_that_are_estimated_no_highest_demand_is_told(tmp_path: Path) -> None:
    measured, guessed = quarters(OCTOBER, OCTOBER + timedelta(days=1)), quarters(OCTOBER + timedelta(days=1), NOVEMBER)
    some = [
        *(interval(one, 9, "guessed", flag="estimated") for one in (*measured, *guessed)),
        *(interval(one, 1, "mixed") for one in measured),
        *(interval(one, 9, "mixed", flag="estimated") for one in guessed),
    ]
    session = site(tmp_path, some, [point("guessed"), point("mixed")])
    by_id = {one.id: one for one in facts(session, "monthly", "2026-10").points}
    assert by_id["guessed"].kwh is not None
    assert (by_id["guessed"].demand.max_kw, by_id["guessed"].demand.at) == (None, None)
    assert by_id["mixed"].demand.max_kw == 4 and by_id["mixed"].demand.at.day == 1


def test_a_report_of_an_area_names_it_and_one_of_single_points_these(session: Session) -> None:
    for areas, about in ((["Office"], ("Office",)), (["Office", "Workshop"], ("Office", "Workshop"))):
        assert facts(session, "monthly", "2026-08", choose(session.site, areas=areas)).about == about
    (name,) = facts(session, "monthly", "2026-08", ["p1"]).about
    assert name == session.site.points["p1"].name
    assert facts(session, "monthly", "2026-08").about == ()


def test_a_daily_report_names_the_day_that_is_like_it(tmp_path: Path) -> None:
    session = site(tmp_path, [interval(one, 1) for one in quarters(OCTOBER, NOVEMBER)])
    previous = facts(session, "daily", "2026-10-21").total.previous
    assert (previous.period, previous.comparable_period) == ("2026-10-20", "2026-10-14")
