"""The apps on a real data folder: they show what the ledger said, in both languages, and nothing breaks them."""

from __future__ import annotations

import csv
import io
import itertools
import re
import zipfile
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from meter_batch_analytics.apps import explorer, quality, trends
from meter_batch_analytics.apps.curves import Group
from meter_batch_analytics.apps.page import WORDS, Page
from meter_batch_analytics.apps.reading import Reader
from meter_batch_analytics.archive.store import Archive
from meter_batch_analytics.session import Session, open_data
from meter_batch_analytics.words import Words
from meter_batch_engine.model.interval import Quality

from ..data_site import ALL, BEGIN, END, IMPORT, LOST, NOW, POINTS, SHANGHAI, SOME, intervals, power_kw

type Opened = Callable[..., Session]
APPS = (explorer.App, trends.App, quality.App)
WHOLE = {"period": "2026-08-01..2026-09-29"}


def opened(kind: type[Page], session: Session) -> Any:
    app = kind(session)
    app.join()
    return app


def valid(app: Page) -> None:
    """What plotly itself takes for a figure."""
    figure = {key: one for key, one in app.chart.figure.items() if key != "config"}
    go.Figure(figure)


def cards(app: Page) -> dict[str, str]:
    return {one["label"]: one["value"] for one in app.figures.items}


@pytest.fixture(scope="module")
def ledger() -> list[Any]:
    return list(intervals())


def said(ledger: list[Any], point: str) -> Decimal:
    return sum((one.energies[IMPORT] for one in ledger if one.point == point), Decimal(0))


# --- the numbers ---


def test_the_totals_are_those_of_the_ledger_to_the_last_digit(session: Opened, ledger: list[Any]) -> None:
    app = opened(explorer.App, session(points="p1,p2,p3", **WHOLE))
    whole = sum((said(ledger, one) for one in ("p1", "p2", "p3")), Decimal(0))
    assert cards(app)["Energy"] == f"{whole.normalize():,f}"
    kwh = dict(zip(app.table.rows["name"], app.table.rows["kwh"], strict=True))
    assert {name: Decimal(repr(float(one))) for name, one in kwh.items()} == {
        POINTS[one][0]: said(ledger, one).normalize() for one in ("p1", "p2", "p3")
    }


def test_the_highest_demand_is_the_one_of_the_sum_with_its_time(session: Opened, ledger: list[Any]) -> None:
    app = opened(explorer.App, session(points="p1,p4", by="total", **WHOLE))
    sums: dict[Any, Decimal] = {}
    for one in ledger:
        if one.point in ("p1", "p4"):
            sums[one.start] = sums.get(one.start, Decimal(0)) + one.energies[IMPORT]
    at = max(sums, key=sums.__getitem__)
    card = next(one for one in app.figures.items if one["label"] == "Highest demand")
    assert card["value"] == f"{sums[at] * 4:.2f}"
    assert f"{at.astimezone(SHANGHAI):%H:%M}" in card["note"]
    mean = float(sum(sums.values(), Decimal(0))) / (60 * 24)
    assert cards(app)["Load factor"] == f"{mean / float(sums[at] * 4):.2f}"


def test_the_share_at_night_is_counted_by_the_clock_of_the_site(session: Opened, ledger: list[Any]) -> None:
    app = opened(explorer.App, session(points="p1", **WHOLE))
    night = sum(
        float(one.energies[IMPORT])
        for one in ledger
        if one.point == "p1" and not 6 <= one.start.astimezone(SHANGHAI).hour < 22
    )
    assert cards(app)["At night"] == f"{night / float(said(ledger, 'p1')) * 100:.1f} %"


def test_what_is_missing_or_estimated_is_counted_and_marked(session: Opened) -> None:
    app = opened(explorer.App, session(points="p2", period="2026-08-10..2026-08-15"))
    assert cards(app)["Completeness"] == "66.7 %"
    hours = np.array(app.chart.figure["data"][-1]["y"])
    assert np.isnan(hours).any(), "the line is broken where nothing is known"
    app = opened(explorer.App, session(points="p3", period="2026-09-02..2026-09-05", resolution="day", view="bars"))
    bars = next(one for one in app.chart.figure["data"] if one["name"] == "Canteen")
    assert bars["marker"]["pattern"]["shape"] == ["", "/", "", ""]
    assert (
        next(one for one in app.figures.items if one["label"] == "Completeness")["note"]
        != "0.0 % of the energy estimated"
    )


def test_hours_are_what_the_ledger_has(session: Opened) -> None:
    app = opened(explorer.App, session(points="p1", period="2026-09-01..2026-09-07", rows="values", quantity="energy"))
    assert app.table.rows["start"][0] == np.datetime64("2026-09-01T00:00")
    assert len(app.table.rows["start"]) == 7 * 24
    first = sum(round(power_kw("p1", BEGIN + timedelta(days=31, minutes=15 * one)) / 4 * 1000) for one in range(4))
    assert app.table.rows["v0"][0] == pytest.approx(first / 1000)


def test_last_week_is_compared_on_like_days_and_today_is_not(session: Opened) -> None:
    app = opened(explorer.App, session(points="p1", period="2026-09-07..2026-09-13"))
    card = next(one for one in app.figures.items if one["label"] == "Against the previous period, on like days")
    assert "7 of 7 days beside like days" in app.notice.text
    assert card["note"] == f"all days: {card['value']}"
    now = sum(power_kw("p1", BEGIN + timedelta(days=37, minutes=15 * one)) for one in range(7 * 96))
    then = sum(power_kw("p1", BEGIN + timedelta(days=30, minutes=15 * one)) for one in range(7 * 96))
    assert float(card["value"].replace("−", "-").split()[0]) == pytest.approx((now / then - 1) * 100, abs=0.06)
    beside = app.chart.figure["data"][0]
    assert beside["name"] == "previous period"
    assert beside["x"][0] == np.datetime64("2026-09-07T00:00")
    app = opened(explorer.App, session(points="p1", period="2026-09-07..2026-09-13", compare="last_year"))
    assert cards(app)["Against last year, on like days"] == "–"


def test_zooming_in_loads_what_is_finer_and_out_again_the_whole(session: Opened) -> None:
    app = opened(explorer.App, session(points="p1", period="2026-08-31..2026-09-29", resolution="auto"))
    hours = len(app.chart.figure["data"][-1]["x"])
    assert hours == 30 * 24 + 1
    app.chart.zoom = ["2026-09-08 06:00", "2026-09-09 18:00:00.5"]
    app.join()
    beside, line = app.chart.figure["data"]
    for x in (beside["x"], line["x"]):
        assert x[1] - x[0] == np.timedelta64(15, "m")
        assert x[0] <= np.datetime64("2026-09-08T06:00")
        assert x[-1] >= np.datetime64("2026-09-09T18:00")
    assert app.chart.figure["layout"]["xaxis"]["range"] == ["2026-09-08 06:00", "2026-09-09 18:00:00.5"]
    app.chart.zoom = []
    app.join()
    assert len(app.chart.figure["data"][-1]["x"]) == hours


def test_sums_of_intervals_are_what_the_frame_has_also_of_virtual_points(session: Opened) -> None:
    site = session().site
    begin, end = BEGIN + timedelta(days=10), BEGIN + timedelta(days=14)
    groups = [["p1"], ["p1", "p2", "p3"], ["rest"], ["rest", "p1", "p2", "p3", "p4", "p5"]]
    parts = list(site.sums(groups, begin, end))
    kwh = np.concatenate([one.kwh for one in parts], axis=1)
    assert kwh.shape == (4, 4 * 96)
    frame = site.frame(["p1", "p2", "p3", "rest", "main"], since=begin, until=end, quantities=["energy_import"])
    found = frame.pivot_table(index="start", columns="point", values="energy_import_kwh")
    assert np.allclose(kwh[0], found["p1"])
    assert np.allclose(kwh[1], found[["p1", "p2", "p3"]].sum(axis=1))
    assert np.allclose(kwh[2], found["rest"])
    assert np.allclose(kwh[3], found["main"])


# --- all views, both languages, both themes ---


@pytest.mark.parametrize("by", ["point", "area", "line", "total"])
def test_every_view_of_every_quantity_is_a_figure(session: Opened, by: str) -> None:
    app = opened(explorer.App, session(points="p1,p2,p5", by=by, theme="dark", period="2026-09-15..2026-09-22"))
    options = {one["key"]: [two["value"] for two in one["options"]] for one in app.controls.fields if "options" in one}
    seen = 0
    for view, quantity in itertools.product(options["view"], options["quantity"]):
        app.controls.values = {**app.controls.values, "view": view, "quantity": quantity}
        app.renew()
        app.join()
        assert app.notice.kind != "error", (view, quantity)
        assert app.chart.figure["data"], (view, quantity)
        valid(app)
        seen += 1
    assert seen == 4 * 6


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("kind", APPS)
def test_an_app_speaks_chinese_wherever_it_speaks(session: Opened, kind: type[Page], theme: str) -> None:
    english, chinese = (opened(kind, session(lang=one, theme=theme, **WHOLE)) for one in ("en", "zh"))
    valid(chinese)
    for one, other in zip(english.controls.fields, chinese.controls.fields, strict=True):
        if one.get("label") and one["kind"] != "button":
            assert one["label"] != other["label"]
    for one, other in zip(english.figures.items, chinese.figures.items, strict=True):
        assert one["label"] != other["label"]
    for one, other in zip(english.table.columns, chinese.table.columns, strict=True):
        assert one["label"] != other["label"]


def test_every_word_of_the_apps_is_there_and_used() -> None:
    files = [*WORDS.parent.glob("*.py"), *(WORDS.parents[1] / "plots").glob("*.py")]
    code = "\n".join(one.read_text(encoding="utf-8") for one in files)
    words = Words.load(WORDS, "en").as_dict()
    stems = ("view_", "quantity_", "resolution_", "by_", "compare_", "rows_", "against_", "matched_", "verdict_",
             "class_", "only_", "show_", "reason_")  # fmt: skip
    unused = [one for one in words if not re.search(rf"['\"]{one}['\"]", code) and not one.startswith(stems)]
    assert unused == []


# --- trends ---


def test_two_months_give_a_week_and_say_what_is_missing_for_growth(session: Opened) -> None:
    app = opened(trends.App, session(points="p1"))
    assert "400 days" in app.notice.text
    assert (app.notice.kind, "Growth a year" in cards(app)) == ("warning", False)
    assert cards(app)["Weekend against workday"] == "35 %"
    valid(app)
    assert app.table.rows["verdict"] == ["too short"] * 7


def test_a_meter_with_few_days_gets_a_plain_sentence_and_its_days(session: Opened) -> None:
    app = opened(trends.App, session(points="p5", period="2026-09-20..2026-09-21"))
    assert app.notice.text.startswith("Spare has 2 days with data from 20 September 2026 to 21 September 2026.")
    assert len(app.chart.figure["data"][0]["y"]) == 2
    valid(app)


@pytest.mark.parametrize("view", ["trend", "calendar", "profile"])
def test_every_view_of_a_trend_is_a_figure(session: Opened, view: str) -> None:
    app = opened(trends.App, session(points="main", view=view, lang="zh"))
    valid(app)
    if view == "calendar":
        marks = {one["name"]: one for one in app.chart.figure["data"] if one.get("mode") == "markers"}
        assert (24 + 14, "周五") in zip(marks["节假日"]["x"], marks["节假日"]["y"], strict=True), "Mid-autumn Festival"
        assert (37, "周日") in zip(marks["调休上班"]["x"], marks["调休上班"]["y"], strict=True), "20 September"
        said_ = "\n".join(itertools.chain(*app.chart.figure["data"][0]["text"]))
        assert "2026年9月25日, 节假日 (中秋)" in said_


def test_choosing_a_row_of_the_ranking_shows_that_point(session: Opened) -> None:
    app = opened(trends.App, session(points="main"))
    app.table.selected = [app.table.rows["name"].index("Chiller")]
    app.join()
    assert app.controls.values["points"] == ["p1"]
    assert app.chart.title.startswith("Chiller")


def test_growth_on_the_page_is_that_of_the_module(tmp_path: Path) -> None:
    """Three years of days that grow by 6 %."""
    from meter_batch_engine.model.interval import Changes, Interval

    from ..data_site import ZONE

    with Archive(tmp_path / "archive", time_zone=ZONE, writing=True) as archive:
        found = []
        for number in range(3 * 365):
            start = BEGIN - timedelta(days=3 * 365 - number)
            kwh = Decimal(round(240_000 * (1 + 0.06 * (number - 547) / 365.2425) * (0.9 + number * 7 % 11 / 50)))
            energies = {IMPORT: (kwh / 24).quantize(Decimal(1)).scaleb(-3)}
            flags = frozenset({Quality.MEASURED})
            found += [
                Interval("m", start + timedelta(hours=hour), 3600, energies, flags, 1, "poll", known_s=3600)
                for hour in range(24)
            ]
        archive.take("archive", Changes(1, found))
        archive.compact()
    app = opened(trends.App, open_data(tmp_path, ALL, now=lambda: BEGIN))
    value = float(cards(app)["Growth a year"].strip("+ %"))
    assert value == pytest.approx(6, abs=0.4)
    assert app.table.rows["verdict"] == ["grows"]
    assert [one["name"] for one in app.chart.figure["data"]][:5] == [
        "Daily energy",
        "95 % band",
        "95 % band",
        "Growth",
        "Trend",
    ]
    valid(app)


# --- quality ---


def test_completeness_gaps_and_reasons_are_told(session: Opened) -> None:
    app = opened(quality.App, session(points="p1,p2,p3,p4,p5", **WHOLE))
    known = dict(zip(app.table.rows["name"], app.table.rows["known"], strict=True))
    assert known["Compressor"] == pytest.approx(58 / 60)
    assert known["Canteen"] == pytest.approx(59 / 60)
    assert known["Spare"] == 1, "what was before its first reading is not missing"
    assert app.table.rows["name"][:2] == ["Compressor", "Canteen"], "the worst first"
    estimated = dict(zip(app.table.rows["name"], app.table.rows["estimated"], strict=True))
    assert estimated["Canteen"] == pytest.approx(1 / 60)
    assert (cards(app)["Point-days missing"], cards(app)["Longest gap"], cards(app)["Gaps that last"]) == (
        "2",
        "48.0",
        "1",
    )
    valid(app)
    app = opened(quality.App, session(points="p2,p4", show="gaps", lang="zh", **WHOLE))
    assert app.table.rows["reason"] == ["线路中断", "电表无应答"]
    assert app.table.rows["state"] == ["进行中", ""]
    assert app.table.rows["from"][1] == np.datetime64(LOST[0].replace(tzinfo=None))
    assert app.table.rows["memory"][1] == "无"


@pytest.mark.parametrize(("only", "left"), [("incomplete", 2), ("estimated", 1), ("suspect", 0)])
def test_filters_leave_what_they_name(session: Opened, only: str, left: int) -> None:
    app = opened(quality.App, session(points="p1,p2,p3,p4", only=only, **WHOLE))
    assert len(app.table.rows["name"]) == left
    assert app.notice.kind == ("info" if left else "warning")


# --- what goes wrong ---


@pytest.mark.parametrize("kind", APPS)
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"points": "p1,p9", **WHOLE}, "Not there, or not for you to see: p9."),
        ({"points": "p1", "period": "2020-01-01..2020-01-31"}, "There are no data of Chiller for 1 January 2020"),
        ({"points": "p1", "period": "2030-01-01..2030-01-31"}, ""),
        ({"points": "", "period": "nonsense", "view": "nonsense"}, ""),
    ],
)
def test_nonsense_in_the_address_is_a_sentence_and_the_rest_works(
    session: Opened, kind: type[Page], query: dict[str, str], expected: str
) -> None:
    app = opened(kind, session(**query))
    assert expected in app.notice.text
    assert app.notice.kind != "error"
    assert not app.chart.busy
    app.controls.values = {**app.controls.values, "points": ["p1"], "period": WHOLE["period"]}
    app.renew()
    app.join()
    assert app.chart.figure["data"]


@pytest.mark.parametrize("kind", APPS)
def test_who_may_see_two_points_sees_two_everywhere(session: Opened, kind: type[Page]) -> None:
    app = opened(kind, session(SOME, points="*", **WHOLE))
    names = {"Canteen", "办公楼"}
    assert {one["label"] for one in app.controls.fields[0]["options"]} == names
    assert set(app.table.rows["name"]) <= names
    app = opened(kind, session(SOME, points="p1,p3", lang="en", **WHOLE))
    assert "not for you to see: p1" in app.notice.text
    assert "Chiller" not in repr(app.figures.items) + repr(app.table.rows) + app.chart.title


def test_a_fault_of_ours_is_one_sentence_and_no_traceback(
    session: Opened, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = opened(explorer.App, session(points="p1", **WHOLE))
    monkeypatch.setattr(app.reader, "curves", lambda *_: 1 / 0)
    app.renew()
    app.join()
    assert (app.notice.kind, app.notice.text[:20]) == ("error", "Something went wrong")
    assert "ZeroDivisionError" in caplog.text


def test_newer_work_ends_older(session: Opened) -> None:
    app = opened(explorer.App, session(points="p1", **WHOLE))
    for point in ("p2", "p3", "p4"):
        app.controls.values = {**app.controls.values, "points": [point]}
        app.renew()
    app.join()
    assert app.table.rows["name"] == ["办公楼"]


# --- files ---


@pytest.mark.parametrize("kind", APPS)
def test_files_hold_what_is_shown_with_units(session: Opened, kind: type[Page]) -> None:
    app = opened(kind, session(**WHOLE))
    sent: list[tuple[str, str, bytes]] = []
    app.table.send_file = lambda *file: sent.append(file)  # type: ignore[method-assign]
    pictures: list[str] = []
    app.chart.download_png = pictures.append  # type: ignore[method-assign, assignment]
    for key in ("csv", "xlsx", "png"):
        app._changed(app.controls.values, key)
    (csv_name, _, text), (xlsx_name, _, book) = sent
    assert csv_name == f"meter-batch-{app.kind}-2026-08-01-2026-09-29.csv"
    rows = list(csv.reader(io.StringIO(text.decode("utf-8-sig"))))
    assert len(rows) == len(app.table.rows["name"]) + 1
    assert any("(kWh)" in one or "(%)" in one for one in rows[0])
    assert xlsx_name.endswith(".xlsx")
    assert zipfile.is_zipfile(io.BytesIO(book))
    assert pictures == [f"meter-batch-{app.kind}-2026-08-01-2026-09-29.png"]


# --- clocks ---


def test_the_hour_that_comes_twice_is_two_hours_and_days_begin_at_midnight(tmp_path: Path) -> None:
    from datetime import UTC, datetime

    from meter_batch_engine.model.interval import Changes, Interval

    begin = datetime(2026, 10, 24, 22, tzinfo=UTC)
    with Archive(tmp_path / "archive", time_zone="Europe/Berlin", writing=True) as archive:
        archive.take(
            "archive",
            Changes(
                1,
                [
                    Interval("m", begin + timedelta(hours=one), 3600, {IMPORT: Decimal(one)},
                             frozenset({Quality.MEASURED}), 1, "poll", known_s=3600)
                    for one in range(49)
                ],
            ),
        )  # fmt: skip
        archive.compact()
    query = {"period": "2026-10-25..2026-10-26", "rows": "values", "quantity": "energy", "resolution": "hour"}
    asked = {key: [text] for key, text in query.items()}
    made = open_data(tmp_path, ALL, now=lambda: begin + timedelta(hours=49, minutes=20), query=asked)
    app = opened(explorer.App, made)
    starts = app.table.rows["start"].astype("datetime64[h]").astype(str).tolist()
    assert starts[:4] == ["2026-10-25T00", "2026-10-25T01", "2026-10-25T02", "2026-10-25T02"]
    assert len(starts) == 49
    assert cards(app)["Energy"] == str(sum(range(49)).__format__(","))
    app.controls.values = {**app.controls.values, "resolution": "day"}
    app.renew()
    app.join()
    assert app.table.rows["v0"].tolist() == [sum(range(25)), sum(range(25, 49))]


@pytest.mark.parametrize("resolution", ["interval", "hour", "day"])
@pytest.mark.parametrize("by", ["point", "total"])
def test_a_period_that_has_only_begun_has_the_mean_power_of_what_has_come(
    tmp_path: Path, resolution: Any, by: str
) -> None:
    from meter_batch_engine.model.interval import Changes, Interval

    # 8 kW all the time; the last that came are five minutes, and half an hour of the day before is missing.
    lengths = [900] * (96 + 8 + 1) + [300]
    starts = [BEGIN + timedelta(seconds=sum(lengths[:place])) for place in range(len(lengths))]
    rows = [
        Interval(point, at, length, {IMPORT: round(Decimal(length) / 450, 6)}, frozenset({Quality.MEASURED}), 1, "poll",
                 known_s=length)
        for point in ("a", "b")
        for place, (at, length) in enumerate(zip(starts, lengths, strict=True))
        if place not in (50, 51)
    ]  # fmt: skip
    with Archive(tmp_path / "archive", time_zone="Asia/Shanghai", writing=True) as archive:
        archive.take("archive", Changes(1, rows))
        archive.compact()
    reader = Reader(open_data(tmp_path, ALL, now=lambda: starts[-1] + timedelta(minutes=16)))
    groups = [Group("a", ("a",))] if by == "point" else [Group("a", ("a", "b"))]
    (curve,) = reader.curves(groups, BEGIN, starts[-1] + timedelta(hours=5), resolution, "power")
    there = curve.value[np.isfinite(curve.value)]
    assert there == pytest.approx(np.full(len(there), 8.0 if by == "point" else 16.0), rel=1e-4)
    assert len(there) == {"interval": 106 - 2, "hour": 27, "day": 2}[resolution]


def test_a_day_is_of_the_site(session: Opened) -> None:
    app = opened(explorer.App, session(points="p1", period="yesterday"))
    assert (app.shown.first, app.shown.begin) == (date(2026, 9, 29), END - timedelta(days=1))
    assert NOW.astimezone(SHANGHAI).date() == date(2026, 9, 30)


def test_demand_is_of_whole_quarters_of_an_hour_also_where_intervals_are_minutes(tmp_path: Path) -> None:
    from meter_batch_analytics.apps.peaks import peaks
    from meter_batch_engine.model.interval import Changes, Interval

    # 6 kW, one minute of 60 kW: of its quarter the mean is 9.6 kW. The last five minutes at 30 kW are no quarter yet.
    kw = [6.0] * 180
    kw[67] = 60.0
    kw += [30.0] * 5
    rows = [
        Interval("a", BEGIN + timedelta(minutes=place), 60, {IMPORT: round(Decimal(one) / 60, 6)},
                 frozenset({Quality.MEASURED}), 1, "poll", known_s=60)
        for place, one in enumerate(kw)
    ]  # fmt: skip
    rows += [
        Interval("b", BEGIN + timedelta(hours=one), 3600, {IMPORT: Decimal(3 + one)}, frozenset({Quality.MEASURED}), 1,
                 "poll", known_s=3600)
        for one in range(3)
    ]  # fmt: skip
    with Archive(tmp_path / "archive", time_zone="Asia/Shanghai", writing=True) as archive:
        archive.take("archive", Changes(1, rows))
        archive.compact()
    made = open_data(tmp_path, ALL, now=lambda: BEGIN + timedelta(minutes=186))
    (fine,) = peaks(Reader(made), [Group("a", ("a",))], BEGIN, BEGIN + timedelta(days=1), lambda _: None)
    assert (fine.kw, fine.length_s) == (pytest.approx(9.6, abs=1e-4), 900)
    assert fine.at == int((BEGIN + timedelta(minutes=60)).timestamp() * 1000)
    (coarse,) = peaks(Reader(made), [Group("b", ("b",))], BEGIN, BEGIN + timedelta(days=1), lambda _: None)
    assert (coarse.kw, coarse.length_s) == (5.0, 3600), "a longer interval by its own mean, and how long it is is said"


def test_energy_a_day_is_of_days_with_data_only(session: Opened) -> None:
    notes = [
        next(one for one in opened(explorer.App, session(points="p1", period=period)).figures.items
             if one["label"] == "Energy")["note"]
        for period in ("2016-01-01..2026-12-31", "2026-08-01..2026-09-29")
    ]  # fmt: skip
    assert notes[0] == notes[1] != ""


def test_the_plain_change_is_of_all_days_and_stands_beside_the_one_of_like_days(session: Opened) -> None:
    app = opened(explorer.App, session(points="p1", period="2026-09-01..2026-09-29", compare="previous"))
    card = next(one for one in app.figures.items if one["label"].startswith("Against"))
    # Five whole weeks before: they begin before the record does, so all days cannot be compared.
    assert card["note"] == "all days: –"
    app = opened(explorer.App, session(points="p1", period="2026-09-15..2026-09-20", compare="previous"))
    now, then = (
        sum(power_kw("p1", BEGIN + timedelta(days=day, minutes=15 * one)) for day in days for one in range(96))
        for days in (range(45, 51), range(38, 44))
    )
    card = next(one for one in app.figures.items if one["label"].startswith("Against"))
    assert card["note"].startswith("all days: ")
    said = float(card["note"].removeprefix("all days: ").replace("−", "-").split()[0])
    assert said == pytest.approx((now / then - 1) * 100, abs=0.06)


def test_what_the_address_says_wrongly_is_told_until_the_reader_chooses(session: Opened) -> None:
    app = opened(explorer.App, session(points="p1", period="2026-09-09..2026-09-01", view="foo", lang="en"))
    assert "period=2026-09-09..2026-09-01, view=foo" in app.notice.text
    assert (app.notice.kind, bool(app.chart.figure["data"])) == ("warning", True)
    app._changed(app.controls.values, "period")
    app.join()
    assert "period=" not in app.notice.text
    assert "view=foo" in app.notice.text
    assert "Not understood" not in opened(explorer.App, session(points="p1", view="bars", **WHOLE)).notice.text


def test_where_the_record_ends_too_early_it_is_said_to_be_still_coming(data: Path, tmp_path: Path) -> None:
    asked = {"points": ["p1"], "period": ["last_7_days"]}
    later = open_data(data, ALL, query=asked, now=lambda: NOW + timedelta(days=60))
    text = opened(explorer.App, later).notice.text
    assert "The record begins in August 2026. So far it reaches to September 2026" in text


def test_points_without_a_record_are_counted_among_all(session: Opened) -> None:
    app = opened(quality.App, session(points="p1,p3,p5", period="2026-08-01..2026-08-31"))
    note = next(one for one in app.figures.items if one["label"] == "Complete points")["note"]
    assert note == "of 3 points; 1 without a record in this period"
    assert [one["name"] for one in app.chart.figure["data"] if one.get("showlegend")] == ["whole day"]


def test_days_are_named_below_the_middle_of_their_bars(session: Opened) -> None:
    query = {"points": "p1", "view": "bars", "resolution": "day", "lang": "en"}
    app = opened(explorer.App, session(period="2026-09-01..2026-09-14", **query))
    axis = app.chart.figure["layout"]["xaxis"]
    assert (axis["tick0"], axis["dtick"]) == ("2026-09-01 12:00", 3 * 86_400_000)
    valid(app)
