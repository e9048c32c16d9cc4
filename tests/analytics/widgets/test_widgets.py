"""The Python side of the widgets: what travels to the browser, and what may come back."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_batch_analytics.widgets import PERIODS, Chart, Controls, Figures, Notice, Table, period_days
from meter_batch_analytics.widgets.base import HERE, plain
from meter_batch_analytics.words import LANGUAGES, Words

POINTS = [
    {"value": "a", "label": "Lathe", "group": "Hall", "line": "Line 1"},
    {"value": "b", "label": "Press", "group": "Hall", "line": "Line 2"},
    {"value": "c", "label": "Roof", "group": "Roof", "line": "Line 1", "virtual": True},
]
SHOWN = [{"value": "kwh", "label": "Energy"}, {"value": "kw", "label": "Power"}]
FIELDS = [
    {"key": "points", "kind": "points", "label": "Points", "options": POINTS},
    {"key": "period", "kind": "period", "label": "Period"},
    {"key": "show", "kind": "choice", "label": "Show", "options": SHOWN},
    {"key": "compare", "kind": "toggle", "label": "Compare"},
    {"key": "", "kind": "break"},
    {"key": "csv", "kind": "button", "label": "CSV"},
]  # fmt: skip


def numbers(sent: dict[str, Any]) -> Any:
    """What a browser makes of an array."""
    return np.frombuffer(sent["bytes"], sent["$array"]).reshape(sent["shape"])


def arrive(widget: Any, **state: Any) -> None:
    """A change made in the browser."""
    widget.set_state(json.loads(json.dumps(state)))


# --- what travels ---


@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=True)) | st.lists(st.integers(-(2**31), 2**31 - 1)),
    st.sampled_from(["float64", "float32", "int64", "int32", "int16", "uint8", ">f8"]),
)
def test_arrays_arrive_as_they_were(values: list[float], kind: str) -> None:
    with np.errstate(all="ignore"):
        array = (
            np.nan_to_num(np.array(values, "float64"), nan=3) % 100 if np.dtype(kind).kind in "iu" else np.array(values)
        )
        array = array.astype(kind)
    np.testing.assert_array_equal(numbers(plain(array)), array)


def test_a_grid_keeps_its_shape_even_where_it_is_a_view() -> None:
    grid = np.arange(12.0).reshape(3, 4).T[:, ::2]
    np.testing.assert_array_equal(numbers(plain(grid)), grid)


def test_times_travel_as_their_wall_clock() -> None:
    times = np.array(["2026-10-25T02:30", "NaT"], "datetime64[ns]")
    sent = numbers(plain({"x": pd.Series(times)})["x"])
    assert datetime.fromtimestamp(sent[0] / 1000, UTC).isoformat() == "2026-10-25T02:30:00+00:00"
    assert np.isnan(sent[1])
    summer = datetime(2026, 7, 1, 12, tzinfo=UTC).astimezone()
    assert plain([summer, date(2026, 7, 1)]) == [summer.replace(tzinfo=None).isoformat(), "2026-07-01"]


def test_what_is_no_number_becomes_nothing_and_texts_stay_texts() -> None:
    sent = plain(
        {"a": [1.5, float("nan"), float("inf"), None, True], "b": np.array(["x", None], object), "c": pd.Series(["y"])}
    )
    assert sent == {"a": [1.5, None, None, None, True], "b": ["x", None], "c": ["y"]}
    assert json.loads(json.dumps(sent, allow_nan=False)) == sent
    assert plain(np.float32(0.5)) == 0.5
    assert plain(np.array([True, False])) == [True, False]


def test_a_chart_and_a_table_send_their_arrays_as_bytes() -> None:
    chart = Chart({"data": [{"x": np.arange(3.0)}], "layout": {"title": {"text": "A"}}})
    state = chart.get_state("figure")["figure"]
    assert numbers(state["data"][0]["x"]).tolist() == [0, 1, 2]
    assert state["layout"] == {"title": {"text": "A"}}
    # an array has no truth value, and replacing one must not ask for it
    chart.figure = {"data": [{"x": np.arange(3.0) + 1}]}
    assert numbers(chart.get_state("figure")["figure"]["data"][0]["x"]).tolist() == [1, 2, 3]
    table = Table([{"key": "kwh"}], {"kwh": np.array([1.5, 2.5])})
    assert numbers(table.get_state("rows")["rows"]["kwh"]).tolist() == [1.5, 2.5]


def test_a_table_shown_anew_forgets_what_was_chosen() -> None:
    table = Table([{"key": "kwh"}], {"kwh": [1, 2]}, selectable="many", total={"kwh": 3})
    told = list[list[int]]()
    table.on_select(told.append)
    arrive(table, selected=[1])
    table.show([{"key": "kw"}], {"kw": [5]}, sort={"key": "kw", "descending": True})
    assert (table.selected, table.total, table.sort) == ([], {}, {"key": "kw", "descending": True})
    assert told == [[1], []]


# --- what comes back ---


def test_a_choice_is_told_with_all_values_and_its_key() -> None:
    controls = Controls(FIELDS, {"points": ["b", "a", "gone"]})
    told = list[tuple[dict[str, Any], str]]()
    controls.on_change(lambda values, key: told.append((values, key)))
    assert controls.values == {"points": ["a", "b"], "period": "last_7_days", "show": "kwh", "compare": False}
    arrive(controls, values={**controls.values, "show": "kw"}, changed={"key": "show", "at": 1})
    assert told == [({"points": ["a", "b"], "period": "last_7_days", "show": "kw", "compare": False}, "show")]


def test_what_a_browser_may_not_choose_is_never_told() -> None:
    controls = Controls(FIELDS)
    told = list[dict[str, Any]]()
    controls.on_change(lambda values, key: told.append(values))
    wrong = {"points": ["z", 5, "a"], "period": "1; drop", "show": ["kw"], "compare": "yes", "more": 1}
    arrive(controls, values=wrong, changed={"key": "points", "at": 1})
    assert told == [{"points": ["a"], "period": "last_7_days", "show": "kwh", "compare": True}]
    assert controls.values == told[0]


def test_only_a_button_that_is_there_can_be_pressed() -> None:
    controls = Controls(FIELDS)
    pressed = list[str]()
    controls.on_change(lambda values, key: pressed.append(key))
    for key in ("csv", "show", "other"):
        controls._handle_custom_msg({"kind": "press", "key": key}, [])
    controls.set_field("csv", disabled=True)
    controls._handle_custom_msg({"kind": "press", "key": "csv"}, [])
    assert pressed == ["csv"]


def test_options_that_leave_take_their_choice_with_them() -> None:
    controls = Controls(FIELDS, {"points": ["a", "c"], "show": "kw"})
    controls.set_field("points", options=POINTS[:2], most=1)
    controls.set_field("show", options=[{"value": "kvar", "label": "Reactive"}])
    assert controls.values["points"] == ["a"]
    assert controls.values["show"] == "kvar"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"points": ["c,a"]}, ["a", "c"]),
        ({"points": ["@Hall"]}, ["a", "b"]),
        ({"points": ["@Roof,b"]}, ["b", "c"]),
        ({"points": ["*"]}, ["a", "b", "c"]),
        ({"points": ["gone"]}, []),
        ({}, ["b"]),
    ],
)
def test_points_are_taken_from_the_address_as_the_page_writes_them(
    query: dict[str, list[str]], expected: list[str]
) -> None:
    controls = Controls(FIELDS, {"points": ["b"]})
    controls.take_query(query)
    assert controls.values["points"] == expected


def test_an_address_that_makes_no_sense_changes_nothing() -> None:
    controls = Controls(FIELDS, {"show": "kw", "period": "all"})
    before = dict(controls.values)
    controls.take_query({"show": ["volts"], "period": ["2026-02-31..2026-03-01"], "lang": ["zh"], "csv": ["1"]})
    assert controls.values == before
    controls.take_query({"show": ["kwh"], "period": ["2026-02-01..2026-02-28"], "compare": ["1"]})
    assert controls.values == {"points": [], "period": "2026-02-01..2026-02-28", "show": "kwh", "compare": True}


# --- periods ---


@given(st.sampled_from(PERIODS), st.dates(date(2000, 1, 1), date(2100, 1, 1)), st.integers(0, 4000))
def test_a_period_by_name_has_days_and_never_reaches_beyond_today(name: str, today: date, known: int) -> None:
    begin, end = period_days(name, today, today - timedelta(days=known))
    assert begin < end <= today + timedelta(days=1)
    days = (end - begin).days
    match name:
        case "last_7_days" | "last_30_days":
            assert (days, end) == (int(name.split("_")[1]), today + timedelta(days=1))
        case "last_month":
            assert begin.day == end.day == 1 and 28 <= days <= 31 and end == today.replace(day=1)
        case "last_year":
            assert (begin, end) == (date(today.year - 1, 1, 1), date(today.year, 1, 1))
        case "this_month" | "this_year":
            assert begin.day == 1 and end == today + timedelta(days=1)


def test_two_days_are_a_period_with_both_in_it() -> None:
    today = date(2026, 11, 26)
    assert period_days("2026-10-01..2026-10-31", today, today) == (date(2026, 10, 1), date(2026, 11, 1))
    assert period_days("2028-02-29..2028-02-29", today, today) == (date(2028, 2, 29), date(2028, 3, 1))
    for wrong in ("2026-10-02..2026-10-01", "..", "2026-10-01", "soon", ""):
        with pytest.raises(ValueError, match="is no period"):
            period_days(wrong, today, today)


# --- files and words ---


def test_every_module_is_whole_in_itself_and_reaches_for_nothing_outside() -> None:
    for widget in (Chart(), Controls(), Figures(), Notice(), Table()):
        module, style = str(widget._esm), str(widget._css)
        assert "export default" in module
        assert not re.search(r"^\s*import |https?://(?!www\.w3\.org)|@import|url\(", module + style, re.MULTILINE)


def test_every_word_a_module_says_is_there_in_both_languages() -> None:
    files = {one.name: one.read_text(encoding="utf-8") for one in (HERE / "static").glob("*.js")}
    said = {word for text in files.values() for word in re.findall(r'(?:say|day)\((?:model, )?"(\w+)"', text)}
    said |= {
        word for pair in re.findall(r'\["group", "(\w+)"\], \["line", "(\w+)"\]', files["controls.js"]) for word in pair
    }
    said |= {word for pair in re.findall(r'\? "(choose_\w+)" : "(choose_\w+)"', files["controls.js"]) for word in pair}
    assert {"search_points", "from", "total", "by_area", "choose_found"} <= said
    for language in LANGUAGES:
        words = Words.load(HERE / "words.toml", language)
        assert said | set(PERIODS) <= set(words.as_dict())
        # and none is kept that nobody says
        assert set(words.as_dict()) <= said | set(PERIODS)


def test_a_widget_speaks_the_readers_language_but_for_words_of_its_own() -> None:
    assert Notice(language="zh-CN").labels["today"] == "今天"
    assert Notice(language="fr").labels["today"] == "Today"
    controls = Controls(language="zh", labels={"apply": "确定"})
    assert (controls.language, controls.labels["apply"], controls.labels["cancel"]) == ("zh-Hans", "确定", "取消")


@pytest.mark.parametrize(("language", "nothing"), [("en", "0.0 %"), ("zh-Hans", "0.0%")])
def test_a_share_that_is_rounded_to_nothing_has_no_sign(language: str, nothing: str) -> None:
    words = Words({}, language)
    assert words.percent(-0.0001) == nothing
    assert words.percent(-0.012).startswith("−1.2")
