"""What helps with a list: an empty one to begin with, one's own columns, files as people have them, marked problems."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from homeassistant.core import HomeAssistant
from hypothesis import HealthCheck, given, settings
from openpyxl import Workbook, load_workbook
from pytest_homeassistant_custom_component.common import MockConfigEntry
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator

from custom_components.meter_batch.access import SYSTEM
from custom_components.meter_batch.cells import as_rows, models_by_name, parse_instant
from custom_components.meter_batch.engine.model.point import Commissioned, Point
from custom_components.meter_batch.importer import Outcome, dry_run
from custom_components.meter_batch.registry import Registry
from custom_components.meter_batch.sample import Mark, write_marked
from custom_components.meter_batch.table import write_csv, write_xlsx

from .conftest import make_point
from .test_importer import NOW, keys, known, run, sites
from .test_options_flow import begin, go, href, line, registry, upload

__all__ = ["line", "registry"]


def book_of(*rows: list[Any], merged: tuple[str, ...] = ()) -> bytes:
    book = Workbook()
    sheet = book.worksheets[0]
    for row in rows:
        sheet.append(row)
    for one in merged:
        sheet.merge_cells(one)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sites())
def test_a_chinese_export_read_back_changes_nothing_and_is_the_same_to_the_byte(points: dict[str, Point]) -> None:
    own = {"机柜": "K 4", "#line": "not ours"}
    signed = Commissioned(NOW, "王工", multiplier=Decimal(1))
    points = {
        id_: make_with(point, {**point.attributes, **own}, signed if at % 2 else None)
        for at, (id_, point) in enumerate(points.items())
    }
    rows = as_rows(points.values(), known(points=points), "zh-Hans")
    assert rows[0][:3] == ["编号", "名称", "线路"]
    assert rows[0][-2:] == ["机柜", "#line"]
    for data in (write_xlsx(rows), write_csv(rows).encode("utf-8-sig")):
        dry = dry_run(data, known(points=points))
        assert keys(dry) == []
        assert {row.outcome for row in dry.rows} == {Outcome.UNCHANGED}
        back = {row.point.id: row.point for row in dry.rows if row.point}
        assert write_csv(as_rows(back.values(), known(points=back), "zh-Hans")) == write_csv(rows)


def make_with(point: Point, attributes: dict[str, str], signed: Commissioned | None) -> Point:
    return replace(point, attributes=attributes, commissioned=signed)


def test_columns_of_the_users_own_are_kept_changed_and_taken_away() -> None:
    dry = run("name,line,address,template,Cabinet\nA,East,1,eastron/sdm630,K4\nB,East,2,eastron/sdm630,\n")
    assert [(one.row, one.column, one.key) for one in dry.warnings] == [(1, "Cabinet", "import_own_column")]
    one, other = [row.point for row in dry.rows]
    assert one is not None and other is not None
    assert (one.attributes, other.attributes) == ({"Cabinet": "K4"}, {})
    points = {one.id: one}
    dry = dry_run(b"name,CABINET\nA,K5\n", known(points=points))
    assert dry.rows[0].diff == {"Cabinet": ("K4", "K5")}
    assert dry.warnings == ()
    assert dry_run(b"name,cabinet\nA,\n", known(points=points)).rows[0].point.attributes == {}  # type: ignore[union-attr]
    assert dry_run(b"name,serial\nA,7\n", known(points=points)).rows[0].point.attributes == {"Cabinet": "K4"}  # type: ignore[union-attr]


def test_too_much_of_the_users_own_is_refused_in_words() -> None:
    header = ",".join(f"own{n}x" for n in range(31))
    assert run(f"name,{header}\nA{',' * 31}\n").problems[0].key == "import_own_many"
    long = run(f"name,line,address,template,Cabinet\nA,East,1,eastron/sdm630,{'x' * 256}\n")
    assert keys(long) == [(2, "Cabinet", "import_own_long")]
    assert keys(run("name,,line\nA,x,East\n")) == [(1, "?", "import_column_without_name")]
    assert run("name,,address,line,template\nA,,1,East,eastron/sdm630\n").rows[0].outcome is Outcome.NEW


def test_titles_blank_rows_and_merged_cells_are_read_as_they_are_meant() -> None:
    data = book_of(
        ["电表清单", None, None, None, None],
        [],
        ["名称", "线路", "地址", "型号", "区域"],
        ["A", "East", 1, "eastron/sdm630", "Hall"],
        ["B", "East", 2, "eastron/sdm630", None],
        [],
        ["C", "East", 3, "eastron/sdm630", None],
        merged=("A1:E1", "E4:E5"),
    )
    dry = dry_run(data, known())
    assert keys(dry) == []
    assert [(one.row, one.column, one.key) for one in dry.warnings] == [(5, "area", "import_merged")]
    assert [(row.row, row.name, row.point.area) for row in dry.rows if row.point] == [
        (4, "A", "Hall"),
        (5, "B", "Hall"),
        (7, "C", None),
    ]


def test_full_width_digits_and_marks_that_nobody_sees_do_no_harm() -> None:
    dry = run("name;line;address;template;serial;ct\nＡ１;East;\u200b１２;eastron/sdm630;'００7;４００／５\n")
    assert keys(dry) == []
    (point,) = [row.point for row in dry.rows if row.point]
    assert (point.name, point.routes[0].address, point.meter.serial, point.multipliers[0].ct) == (
        "Ａ１",
        "12",
        "007",
        80,
    )


@pytest.mark.parametrize("text", ["46204", "2026-07-01", "2026/7/1 0:00", "2026年7月1日", "2026.7.1"])
def test_a_date_is_read_however_a_spreadsheet_wrote_it(text: str) -> None:
    assert parse_instant(text, UTC) == datetime(2026, 7, 1, tzinfo=UTC)


def test_rows_below_a_bad_one_are_no_problems_of_their_own_and_wait_for_it() -> None:
    header = "name,line,address,template,parent,formula\n"
    rows = "Main,East,300,eastron/sdm630,,\nA,East,1,eastron/sdm630,Main,\nB,East,2,eastron/sdm630,A,\n"
    dry = run(f"{header}{rows}C,East,3,eastron/sdm630,,\nRest,,,,,Main; - C\n")
    assert keys(dry) == [(2, "address", "import_bad_unit")]
    assert [(one.row, one.key, one.placeholders) for one in dry.warnings] == [(2, "import_waiting", {"count": "3"})]
    assert [point.name for point in dry.changes(skip_bad=True).values() if point] == ["C"]


def test_what_is_nearly_a_name_is_answered_with_it_unless_its_number_is_another() -> None:
    rows = "name,line,address,template,parent\nHall 1,East,1,eastron/sdm630,\nPress,East,2,eastron/sdm630,{}\n"
    (problem,) = run(rows.format("Hal 1")).problems
    assert (problem.key, problem.placeholders["like"]) == ("import_unknown_parent_like", "Hall 1")
    assert keys(run(rows.format("Hall 2"))) == [(3, "parent", "import_unknown_parent")]
    (problem,) = run("name,line,address,template\nA,Est,1,eastron/sdm630\n").problems
    assert (problem.key, problem.placeholders["like"]) == ("import_unknown_line_like", "East")


def test_models_are_understood_by_their_names_where_that_is_one() -> None:
    found = models_by_name([("a/x1", "A", "X-1"), ("b/x1", "B", "X-1"), ("a/y", "A", "Y 2 pro")])
    assert found == {"ax1": "a/x1", "bx1": "b/x1", "y2pro": "a/y", "ay2pro": "a/y", "ay": "a/y"}


def test_a_sign_off_on_paper_can_be_written_into_the_list() -> None:
    point = make_point(ct="80", line="l1")
    points = {"p1": point}
    dry = dry_run("name,验收日期,验收人\nHall 1,2026/7/1,王工\n".encode(), known(points=points))
    signed = dry.rows[0].point.commissioned  # type: ignore[union-attr]
    assert signed == Commissioned(
        datetime(2026, 7, 1, tzinfo=UTC), "王工", multiplier=Decimal(80), template="eastron/sdm630", address="1"
    )
    assert keys(dry_run("name,验收人\nHall 1,王工\n".encode(), known(points=points))) == [
        (2, "commissioned_by", "import_commissioned_when")
    ]


@pytest.mark.parametrize("form", ["csv", "xlsx"])
def test_a_file_with_its_problems_marked_can_be_corrected_and_read_back(form: str) -> None:
    rows = [["name", "line", "address", "template"], ["A", "East", "300", "eastron/sdm630"]]
    data = write_csv(rows).encode() if form == "csv" else book_of(["List"], *rows)
    header_row = 1 if form == "csv" else 2
    dry = dry_run(data, known())
    assert dry.header_row == header_row
    marks = [Mark(dry.problems[0].row or 0, 2, "from 1 to 247", True), Mark(header_row + 1, None, "mind", False)]
    marked = write_marked(data, f"a.{form}", marks, dry.header_row, "problems")
    book = load_workbook(io.BytesIO(marked))
    sheet = book.worksheets[0]
    assert sheet.cell(header_row + 1, 5).value == "✗ from 1 to 247\n⚠ mind"
    assert [(one.row, one.column) for one in dry_run(marked, known()).problems] == [(header_row + 1, "address")]
    sheet.cell(header_row + 1, 3).value = 30
    out = io.BytesIO()
    book.save(out)
    corrected = dry_run(out.getvalue(), known())
    assert (corrected.problems, [row.outcome for row in corrected.rows]) == ((), [Outcome.NEW])
    again = write_marked(marked, "a.xlsx", [], header_row, "problems")
    assert load_workbook(io.BytesIO(again)).worksheets[0].cell(header_row + 1, 5).value is None


async def test_the_empty_list_has_hints_and_keeps_zeros_and_the_full_one_comes_back_unchanged(
    hass: HomeAssistant, line: MockConfigEntry, registry: Registry, hass_client: ClientSessionGenerator
) -> None:
    http = await hass_client()
    result = await begin(hass, line, "import_points")
    answer = await http.get(href(result["description_placeholders"]["sample"]))
    book = load_workbook(io.BytesIO(await answer.read()))
    sheet, hints, models = book.worksheets
    assert [cell.value for cell in sheet[1]][:3] == ["id", "name", "line"]
    assert sheet.column_dimensions["E"].number_format == "@"
    assert hints["B2"].value and models["A1"].value
    assert len(sheet.data_validations.dataValidation) == 3
    assert sheet["A1"].comment is not None
    out = io.BytesIO()
    book.save(out)
    result = await go(hass, result, {"file": await upload(hass_client, out.getvalue(), "points.xlsx")})
    assert "holds no rows" in result["description_placeholders"]["list"]
    for at, name in enumerate(("B", "C", "D"), 2):
        for column, text in zip(("name", "address", "template"), (name, str(at), "eastron/sdm630"), strict=True):
            sheet.cell(at, [cell.value for cell in sheet[1]].index(column) + 1).value = text
    sheet["E3"] = 300
    out = io.BytesIO()
    book.save(out)
    # A corrected file is chosen on the page that says what is wrong.
    result = await go(hass, result, {"file": await upload(hass_client, out.getvalue(), "points.xlsx")})
    text = result["description_placeholders"]["marked"]
    marked = await http.get(href(text))
    assert marked.headers["Content-Disposition"].endswith("points%20%E2%9C%97.xlsx")
    book = load_workbook(io.BytesIO(await marked.read()))
    book.worksheets[0]["E3"] = 3
    out = io.BytesIO()
    book.save(out)
    result = await go(hass, result, {"file": await upload(hass_client, out.getvalue(), "points.xlsx")})
    assert result["description_placeholders"]["new"] == "3", result["description_placeholders"]
    await go(hass, result, {})
    assert len(registry.points) == 3

    result = await begin(hass, line, "import_points")
    listed = await (await http.get(href(result["description_placeholders"]["list"]))).read()
    result = await go(hass, result, {"file": await upload(hass_client, listed, "points.xlsx")})
    assert result["description_placeholders"]["unchanged"] == "3"
    assert (await http.get("/api/meter_batch/points?format=pdf")).status == 400
    csv = await (await http.get("/api/meter_batch/points?format=csv&language=zh-Hans&sample=1")).text()
    assert csv.lstrip("\ufeff").startswith("编号,名称,线路")
    assert (await http.get("/api/meter_batch/points/marked/none")).status == 404

    result = await begin(hass, line, "undo")
    (field,) = result["data_schema"].schema
    options = result["data_schema"].schema[field].config["options"]
    assert len(options) == 1 and "List imported" in options[0]["label"] and "B, C, D" in options[0]["label"]
    await go(hass, result, {"until": "0"})
    assert registry.points == {}


async def test_changes_are_taken_back_down_to_the_one_that_is_chosen_unless_another_came(
    hass: HomeAssistant, line: MockConfigEntry, registry: Registry
) -> None:
    fields = {"template": "eastron/sdm630", "detail": "auto"}
    for number in range(1, 4):
        await go(hass, await begin(hass, line, "add_point"), {**fields, "name": f"N{number}", "address": str(number)})
    result = await begin(hass, line, "undo")
    await go(hass, await begin(hass, line, "add_point"), {**fields, "name": "N4", "address": "4"})
    result = await go(hass, result, {"until": "1"})
    assert result["errors"] == {"base": "undo_changed"}
    result = await go(hass, result, {"until": "2"})
    assert result["type"] == "create_entry"
    assert [point.name for point in registry.points.values()] == ["N1"]


async def test_ratings_are_given_in_the_form_and_what_a_list_gave_besides_stays(
    hass: HomeAssistant, line: MockConfigEntry, registry: Registry, add_line: Callable[..., MockConfigEntry]
) -> None:
    ratings = {"nominal_v": 230.0, "rated_kw": 12.5, "daily_budget_kwh": 300, "generation": True}
    fields = {"name": "A", "template": "eastron/sdm630", "address": "7", "detail": "auto"}
    await go(hass, await begin(hass, line, "add_point"), {**fields, "ratings": ratings})
    (point,) = registry.points.values()
    assert point.attributes == {"nominal_v": "230", "rated_kw": "12.5", "daily_budget_kwh": "300", "generation": "yes"}
    attributes = {**point.attributes, "tariff": "peak", "Cabinet": "K4", "generation": "光伏"}
    await registry.async_apply({point.id: replace(point, attributes=attributes)}, SYSTEM, "edit_point")
    result = await go(hass, await begin(hass, line, "edit_point"), {"point": point.id})
    section = next(value for field, value in result["data_schema"].schema.items() if str(field) == "ratings")
    shown = {str(one): (one.description or {}).get("suggested_value") for one in section.schema.schema}
    assert {key: one for key, one in shown.items() if one is not None} == ratings
    await go(hass, result, {**fields, "ratings": {"nominal_v": 400.0, "generation": True}})
    attributes = {"nominal_v": "400", "generation": "光伏", "tariff": "peak", "Cabinet": "K4"}
    assert registry.points[point.id].attributes == attributes
    result = await go(hass, await begin(hass, line, "edit_point"), {"point": point.id})
    await go(hass, result, {**fields, "name": "B"})
    assert registry.points[point.id].attributes == attributes
