"""Lists of points from files: whatever Excel makes of them, and nothing half-applied."""

from __future__ import annotations

import io
import itertools
import json
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openpyxl import Workbook

from custom_components.meter_batch import importer, registry, table
from custom_components.meter_batch.cells import (
    COLUMNS,
    SCIENTIFIC,
    AddressError,
    Known,
    KnownLine,
    as_rows,
    parse_address,
    parse_instant,
    parse_ratio,
)
from custom_components.meter_batch.const import LineProtocol
from custom_components.meter_batch.engine.model.point import InstalledMeter, Multiplier, Point, Route
from custom_components.meter_batch.import_rows import RowReader
from custom_components.meter_batch.importer import DryRun, Outcome, dry_run
from custom_components.meter_batch.registry import ALWAYS
from custom_components.meter_batch.table import write_csv, write_xlsx

NOW = datetime(2026, 7, 1, 10, 0, tzinfo=UTC)
LINES = {
    "l1": KnownLine("l1", "East", LineProtocol.MODBUS_RTU),
    "l2": KnownLine("l2", "South", LineProtocol.DLT645_2007),
}
TEMPLATES = {
    "eastron/sdm630": "modbus",
    "eastron/sdm230": "modbus",
    "generic/dlt645-1ph": "dlt645-2007",
}


def known(
    points: Mapping[str, Point] | None = None,
    default_line: str | None = None,
    make_id: Callable[[], str] | None = None,
) -> Known:
    counter = itertools.count(1)
    make = make_id or (lambda: f"n{next(counter)}")
    return Known(points or {}, LINES, TEMPLATES, NOW, UTC, default_line, make)


KNOWN = known()

HEADER = "name,line,address,template,ct,parent,area\n"


def run(text: str | bytes, **kwargs: Any) -> DryRun:
    data = text.encode() if isinstance(text, str) else text
    return dry_run(data, known(**kwargs))


def keys(dry: DryRun) -> list[tuple[int | None, str | None, str]]:
    return [(one.row, one.column, one.key) for one in dry.problems]


def applied(dry: DryRun, before: dict[str, Point] | None = None) -> dict[str, Point]:
    after = {**(before or {}), **dry.changes()}
    return {id_: point for id_, point in after.items() if point is not None}


LIST = HEADER + (
    "Main,East,1,eastron/sdm630,400/5,,Substation\n"
    "Hall 1,East,2,eastron/sdm630,,Main,Hall\n"
    "Flat 7,South,123456789012,generic/dlt645-1ph,,Main,\n"
)


def test_a_list_makes_points_with_routes_multipliers_and_parents() -> None:
    dry = run(LIST)
    assert keys(dry) == []
    assert [row.outcome for row in dry.rows] == [Outcome.NEW] * 3
    main, hall, flat = applied(dry).values()
    assert main.routes == (Route("l1", "modbus", "1"),)
    assert main.multipliers == (Multiplier(ALWAYS, Decimal(80), Decimal(1)),)
    assert main.area == "Substation"
    assert (hall.parent, flat.parent) == (main.id, main.id)
    assert flat.routes == (Route("l2", "dlt645-2007", "123456789012"),)
    assert hall.multipliers == ()


ENCODINGS = ["utf-8", "utf-8-sig", "gbk", "utf-16", "utf-16-le", "utf-16-be"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_every_encoding_and_separator_of_excel_reads_the_same(encoding: str, separator: str, newline: str) -> None:
    text = f"名称,线路,地址,表型模板,区域{newline}一号车间,East,2,eastron/sdm630,车间{newline}".replace(",", separator)
    dry = run(text.encode(encoding))
    assert keys(dry) == []
    (point,) = applied(dry).values()
    assert (point.name, point.area) == ("一号车间", "车间")


def test_a_separator_named_in_the_first_line_is_used_and_rows_keep_their_numbers() -> None:
    dry = run("sep=;\nname;line;address;template\nA;East;1;eastron/sdm630\nB;East;x;eastron/sdm630\n")
    assert keys(dry) == [(4, "address", "import_bad_unit")]


def test_english_and_chinese_headers_mean_the_same_columns() -> None:
    names = list(COLUMNS)
    for aliases in COLUMNS.values():
        names += aliases
    assert len({name.replace("_", " ") for name in names}) >= len(COLUMNS) * 2 - 3
    reader = RowReader(KNOWN)
    for column, aliases in COLUMNS.items():
        for alias in (column, column.upper(), *aliases, f" {column} (x)"):
            assert reader.columns([alias, "name" if column != "name" else "id"], ())[0] == column
    assert reader.problems == []


def test_row_57_that_is_malformed_is_named_and_nothing_is_applied() -> None:
    rows = [f"P{n},East,{n},eastron/sdm630,,,\n" for n in range(1, 101)]
    rows[55] = "P56,East,56\n"
    dry = run(HEADER + "".join(rows))
    assert keys(dry) == [(57, None, "import_row_shape")]
    assert dry.changes() == {}
    assert len(dry.changes(skip_bad=True)) == 99
    assert dry.count(Outcome.BAD) == 1


def test_a_quote_that_is_never_closed_is_named_by_its_row() -> None:
    dry = run(HEADER + 'A,East,1,eastron/sdm630,,,\n"B,East,2,eastron/sdm630,,,\n')
    assert keys(dry) == [(None, None, "import_bad_quotes")]
    assert dry.problems[0].placeholders == {"row": "3"}


def test_a_meter_number_in_scientific_form_is_an_error_with_the_cure() -> None:
    dry = run(HEADER + "A,South,1.23E+11,generic/dlt645-1ph,,,\n")
    assert keys(dry) == [(2, "address", "import_scientific")]
    assert "text" in text_of("import_scientific")


@pytest.mark.parametrize("text", ["1.23457E+11", "1,23E+11", "1E11", "12.3e+10"])
def test_every_scientific_form_is_recognised(text: str) -> None:
    with pytest.raises(AddressError, match="import_scientific"):
        parse_address(text, "dlt645-2007")


def test_leading_zeros_that_excel_dropped_come_back_with_a_warning() -> None:
    dry = run(HEADER + "A,South,2345678,generic/dlt645-1ph,,,\n")
    assert keys(dry) == []
    assert [(one.row, one.key) for one in dry.warnings] == [(2, "import_zeros_restored")]
    (point,) = applied(dry).values()
    assert point.routes[0].address == "000002345678"


def test_numbers_of_a_workbook_are_read_to_the_last_digit() -> None:
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["name", "line", "address", "template", "ct", "multiplier_since"])
    sheet.append(["A", "South", 123456789012, "generic/dlt645-1ph", 80, datetime(2026, 7, 1)])  # noqa: DTZ001
    sheet.append(["B", "East", 7.0, "eastron/sdm630", "400/5", None])
    sheet.append([None, None, None, None, None, None])
    sheet.append(["C", "East", 8, "eastron/sdm360", None, None])
    out = io.BytesIO()
    book.save(out)
    dry = run(out.getvalue())
    assert keys(dry) == [(5, "template", "import_unknown_template_like")]
    a, b = (point for point in dry.changes(skip_bad=True).values() if point is not None)
    assert a.routes[0].address == "123456789012"
    assert a.multipliers == (Multiplier(datetime(2026, 7, 1, tzinfo=UTC), Decimal(80), Decimal(1)),)
    assert b.routes[0].address == "7"
    assert b.multipliers[0].ct == 80


def test_an_unknown_template_is_answered_with_the_nearest() -> None:
    dry = run(HEADER + "A,East,1,eastron/sdm360,,,\nB,East,2,zzz,,,\n")
    assert keys(dry) == [
        (2, "template", "import_unknown_template_like"),
        (3, "template", "import_unknown_template"),
    ]
    assert dry.problems[0].placeholders["like"] == "eastron/sdm630"


def test_an_unknown_line_is_answered_with_the_lines_there_are() -> None:
    dry = run(HEADER + "A,West,1,eastron/sdm630,,,\n")
    assert keys(dry) == [(2, "line", "import_unknown_line")]
    assert dry.problems[0].placeholders["some"] == "East, South"


def test_an_address_given_twice_is_told_at_both_rows_and_against_what_is_there() -> None:
    dry = run(HEADER + "A,East,1,eastron/sdm630,,,\nB,East,1,eastron/sdm630,,,\n")
    assert keys(dry) == [(2, "address", "import_address_twice"), (3, "address", "import_address_twice")]
    assert [one.placeholders["other"] for one in dry.problems] == ["3", "2"], "B is no point yet: its row is named"
    before = applied(run(LIST))
    dry = run(HEADER + "New,East,2,eastron/sdm630,,,\n", points=before)
    assert keys(dry) == [(2, "address", "address_twice")]
    assert dry.problems[0].placeholders["name"] == "Hall 1"


@pytest.mark.parametrize("part", ["xl/workbook.xml", "xl/worksheets/sheet1.xml", "[Content_Types].xml"])
@pytest.mark.parametrize(
    "content",
    [b"0" * 1000, b"", b"<worksheet><sheetData><row><c r=''", b"<a/>", b"\xff\xfe\x00", b" " * 2_000_000],
    ids=["zeros", "nothing", "cut", "other", "binary", "huge"],
)
def test_a_workbook_with_any_broken_part_is_called_damaged_or_empty(
    part: str, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "MOST_UNPACKED", 1_000_000)
    whole = zipfile.ZipFile(io.BytesIO(write_xlsx([["name", "address"], ["A", "1"]])))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as broken:
        for name in whole.namelist():
            broken.writestr(name, content if name == part else whole.read(name))
    (problem,) = run(out.getvalue()).problems
    assert problem.key in {"import_bad_xlsx", "import_empty"}
    assert problem.row is None


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 255))
def test_a_workbook_with_any_byte_changed_or_cut_short_never_raises(at: int, value: int) -> None:
    data = bytearray(write_xlsx([["name", "address"], ["A", "1"]]))
    data[4 + at % (len(data) - 4)] = value
    run(bytes(data))
    run(bytes(data[: 4 + at % (len(data) - 4)]))


def test_what_is_wrong_with_a_header_is_told_at_its_row_with_the_names_that_would_be_understood() -> None:
    titles = "Works list\n\nHall 1\n"
    (problem,) = run(titles + "line,address,template\nEast,1,eastron/sdm630\n").problems
    assert (problem.row, problem.key) == (4, "import_column_missing")
    assert "名称" in problem.placeholders["names"]
    assert problem.placeholders["seen"] == "line, address, template"
    (problem,) = run(titles + "name,line,address,template,template\nA,East,1,eastron/sdm630,\n").problems
    assert (problem.row, problem.key) == (4, "import_column_twice")


def test_two_points_may_swap_their_addresses_in_one_file() -> None:
    before = applied(run(LIST))
    dry = run(
        HEADER + "Main,East,2,eastron/sdm630,400/5,,Substation\nHall 1,East,1,eastron/sdm630,,Main,Hall\n",
        points=before,
    )
    assert keys(dry) == []
    assert dry.count(Outcome.CHANGED) == 2


def test_a_parent_that_is_missing_or_in_a_circle_is_an_error() -> None:
    dry = run(
        HEADER + "A,East,1,eastron/sdm630,,Nobody,\nB,East,2,eastron/sdm630,,C,\nC,East,3,eastron/sdm630,,B,\n"
        "D,East,4,eastron/sdm630,,D,\n"
    )
    assert keys(dry) == [
        (2, "parent", "import_unknown_parent"),
        (3, "parent", "parent_circle"),
        (4, "parent", "parent_circle"),
        (5, "parent", "parent_circle"),
    ]


def test_an_unknown_column_is_named_with_the_nearest_and_nothing_is_read() -> None:
    dry = run("name,lime,address,template\nA,East,1,eastron/sdm630\n")
    assert keys(dry) == [(1, "lime", "import_unknown_column_like")]
    assert dry.problems[0].placeholders == {"column": "lime", "like": "line"}
    assert run("name,name\nA,1\n").problems[0].key == "import_column_twice"
    assert run("line,address\nA,1\n").problems[0].key == "import_column_missing"
    assert dry.changes(skip_bad=True) == {}


def test_all_problems_of_a_file_are_told_at_once() -> None:
    dry = run(
        "name,line,address,template,ct,detail,multiplier_since\n"
        ",East,1,eastron/sdm630,,,\n"
        "B,East,999,eastron/sdm630,abc,huge,yesterday\n"
        "C,South,12345678901234,generic/dlt645-1ph,,,\n"
        "D,East,4,generic/dlt645-1ph,,,\n"
        "D,East,5,eastron/sdm630,,,\nE,East,6,eastron/sdm630,,,\nE,East,7,eastron/sdm630,,,\n"
    )
    assert set(keys(dry)) == {
        (2, "name", "import_cell_missing"),
        (3, "address", "import_bad_unit"),
        (3, "ct", "import_bad_ratio"),
        (3, "detail", "import_unknown_detail"),
        (3, "multiplier_since", "import_bad_date"),
        (4, "address", "import_bad_meter_number"),
        (5, "template", "import_line_speaks_other"),
        (8, "name", "import_row_twice"),
    }
    assert dry.changes() == {}


def test_a_file_without_the_column_line_goes_to_the_line_it_was_given_for() -> None:
    dry = run("name,address,template\nA,1,eastron/sdm630\n", default_line="l1")
    assert keys(dry) == []
    assert keys(run("name,address,template\nA,1,eastron/sdm630\n")) == [(2, "line", "import_cell_missing")]


def test_a_file_with_an_unknown_id_makes_no_second_point() -> None:
    dry = run("id,name\nnobody,A\n")
    assert keys(dry) == [(2, "id", "import_unknown_id")]


@pytest.mark.parametrize(
    "data", [b"", b"\n\n  \n", b"PK\x03\x04nonsense", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1xxx", b"\xff\xfe\x00"]
)
def test_what_is_no_table_is_said_in_words(data: bytes) -> None:
    (problem,) = run(data).problems
    assert problem.row is None
    assert text_of(problem.key)


def test_a_rename_keeps_the_id_and_a_changed_row_says_what_changes() -> None:
    before = applied(run(LIST))
    main = next(point for point in before.values() if point.name == "Main")
    dry = run(f"id,name,ct\n{main.id},Incomer,500/5\n", points=before)
    assert keys(dry) == []
    (row,) = dry.rows
    assert row.outcome is Outcome.CHANGED
    assert row.diff["name"] == ("Main", "Incomer")
    assert row.diff["ct"] == ("80", "100")
    (after,) = dry.changes().values()
    assert after is not None
    assert after.id == main.id
    assert after.multipliers == (Multiplier(ALWAYS, Decimal(80)), Multiplier(NOW, Decimal(100)))
    assert [one.key for one in dry.warnings] == ["import_multiplier_from_now"]


def test_another_serial_number_is_another_meter_and_a_first_one_is_not() -> None:
    before = applied(run(LIST))
    dry = run("name,serial\nMain,A-1\n", points=before)
    first = applied(dry, before)
    main = next(point for point in first.values() if point.name == "Main")
    assert main.meters == (InstalledMeter(ALWAYS, "eastron/sdm630", "A-1"),)
    second = applied(run("name,serial,template\nMain,B-2,eastron/sdm230\n", points=first), first)
    main = next(point for point in second.values() if point.name == "Main")
    assert main.meters == (
        InstalledMeter(ALWAYS, "eastron/sdm630", "A-1"),
        InstalledMeter(NOW, "eastron/sdm230", "B-2"),
    )


def test_what_a_file_does_not_list_stays_unless_its_removal_is_asked_for() -> None:
    before = applied(run(LIST))
    dry = run(HEADER + "Main,East,1,eastron/sdm630,400/5,,Substation\n", points=before)
    assert dry.changes() == {}
    assert [before[id_].name for id_ in dry.absent] == ["Hall 1"], "a line that the file does not name is left alone"
    assert dry.changes(remove_absent=True) == dict.fromkeys(dry.absent)
    both = HEADER + "Main,East,1,eastron/sdm630,400/5,,Substation\nNew,South,99,generic/dlt645-1ph,,,\n"
    dry = run(both, points=before, make_id=registry.new_id)
    assert sorted(before[id_].name for id_ in dry.absent) == ["Flat 7", "Hall 1"]


def test_an_empty_ratio_leaves_the_ratio_as_it_is_and_is_1_for_a_new_point() -> None:
    before = applied(run("name,line,address,template,ct,pt\nMain,East,1,eastron/sdm630,400/5,\n"))
    (main,) = before.values()
    assert [(one.ct, one.pt) for one in main.multipliers] == [(80, 1)]
    dry = run("name,ct,pt,multiplier_since\nMain,,,\nHall,,,\n", points=before)
    assert dry.rows[0].outcome is Outcome.UNCHANGED
    dry = run("name,ct,pt,multiplier_since\nMain,,,2026-01-01\n", points=before)
    assert dry.rows[0].outcome is Outcome.UNCHANGED, "a date alone says nothing about ratios"
    changed = applied(run("name,ct,pt\nMain,,100\n", points=before), before)
    assert [(one.ct, one.pt) for one in changed[main.id].multipliers] == [(80, 1), (80, 100)]


def test_what_is_absent_is_asked_of_the_line_the_file_was_given_for_only() -> None:
    before = applied(run(LIST))
    dry = run(HEADER + "Main,East,1,eastron/sdm630,400/5,,Substation\n", points=before, default_line="l1")
    assert [before[id_].name for id_ in dry.absent] == ["Hall 1"]


NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp", "Zs")), min_size=1, max_size=12
).filter(lambda text: text.strip() == text and not text.casefold().startswith("sep="))


@st.composite
def sites(draw: st.DrawFn) -> dict[str, Point]:
    names = draw(st.lists(NAMES, min_size=1, max_size=6, unique_by=str.casefold))
    points: dict[str, Point] = {}
    for number, name in enumerate(names, 1):
        dlt = draw(st.booleans())
        ratio = draw(st.sampled_from([None, (Decimal(80), Decimal(1)), (Decimal(1000), Decimal("0.5"))]))
        since = draw(st.sampled_from([ALWAYS, NOW - timedelta(days=9)]))
        points[f"p{number}"] = Point(
            id=f"p{number}",
            name=name,
            meters=(
                InstalledMeter(
                    ALWAYS,
                    "generic/dlt645-1ph" if dlt else "eastron/sdm630",
                    draw(st.sampled_from([None, "007", "S/N 5"])),
                ),
            ),
            routes=(Route("l2", "dlt645-2007", f"{number:012d}") if dlt else Route("l1", "modbus", str(number)),)
            if draw(st.integers(0, 9))
            else (),
            multipliers=() if ratio is None else (Multiplier(since, *ratio),),
            area=draw(st.sampled_from([None, "厂房 1", "Hall; 2", 'a "b"'])),
            parent=draw(st.sampled_from([None, *points])),
            detail=draw(st.sampled_from([None, "lean", "full"])),
            attributes=draw(st.sampled_from([{}, {"tariff": "peak, flat"}, {"floor_area_m2": "120"}])),
        )
    return points


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sites(), st.sampled_from(["csv", "csv-bom", "xlsx"]))
def test_a_file_that_was_exported_changes_nothing_when_it_is_read_back(points: dict[str, Point], form: str) -> None:
    rows = as_rows(points.values(), known(points=points))
    data = write_xlsx(rows) if form == "xlsx" else write_csv(rows).encode("utf-8" if form == "csv" else "utf-8-sig")
    dry = dry_run(data, known(points=points))
    assert keys(dry) == []
    assert [row.outcome for row in dry.rows] == [Outcome.UNCHANGED] * len(points)
    assert dry.absent == ()
    assert dry.changes(remove_absent=True) == {}


def test_a_name_that_looks_like_a_formula_survives_a_workbook() -> None:
    points = {"p1": Point("p1", "=1+1", (InstalledMeter(ALWAYS, "eastron/sdm630"),), ())}
    data = write_xlsx(as_rows(points.values(), known(points=points)))
    assert [row.outcome for row in dry_run(data, known(points=points)).rows] == [Outcome.UNCHANGED]


@given(sites())
def test_a_file_that_was_exported_makes_the_same_points_elsewhere(points: dict[str, Point]) -> None:
    points = {
        id_: replace(
            one,
            routes=one.routes or (Route("l1", "modbus", str(100 + number)),),
            meters=one.meters if one.routes else (InstalledMeter(ALWAYS, "eastron/sdm630", None),),
        )
        for number, (id_, one) in enumerate(points.items())
    }
    rows = [row[1:] for row in as_rows(points.values(), known(points=points))]
    dry = dry_run(write_csv(rows).encode(), known())
    assert keys(dry) == []
    ids = {point.name: point.id for point in applied(dry).values()}
    again = {
        point.name: replace(
            point, id=point.name, parent=point.parent and next(n for n, i in ids.items() if i == point.parent)
        )
        for point in applied(dry).values()
    }
    names = {point.id: point.name for point in points.values()}
    assert again == {
        point.name: replace(point, id=point.name, parent=point.parent and names[point.parent])
        for point in points.values()
    }


@given(st.binary(max_size=300))
def test_no_bytes_make_the_import_fail_otherwise_than_in_words(data: bytes) -> None:
    for problem in dry_run(data, KNOWN).problems:
        text_of(problem.key).format(**problem.placeholders)


@given(st.text(alphabet='namelineaddresstemplate,;\t"\n0123456789./E+- ', max_size=200))
def test_no_text_makes_the_import_fail_otherwise_than_in_words(text: str) -> None:
    for problem in dry_run(("name,line,address,template\n" + text).encode(), KNOWN).problems:
        text_of(problem.key).format(**problem.placeholders)


def test_ratios_are_read_as_people_write_them() -> None:
    texts = ["400/5", "400:5", "80", "400 A/5 A", "400A/5A", "", "10kV/100V", "1,000/5", "66.5", "0,5", "400／5"]
    values = [80, 80, 80, 80, 80, 1, 100, 200, Decimal("66.5"), Decimal("0.5"), 80]
    assert [parse_ratio(text) for text in texts] == values
    for text in ("0", "-5", "abc", "400/0", "1/2/3", "nan", "1e5", "inf"):
        with pytest.raises(ValueError, match=re.escape(text)):
            parse_ratio(text)


def test_dates_are_read_as_people_write_them() -> None:
    for text in ("2026-07-01", "2026/7/1", "2026.07.01", "2026年7月1日"):
        assert parse_instant(text, UTC) == datetime(2026, 7, 1, tzinfo=UTC)
    assert parse_instant("2026-07-01T10:30:00+02:00", UTC) == datetime(2026, 7, 1, 8, 30, tzinfo=UTC)
    with pytest.raises(ValueError, match="month"):
        parse_instant("2026-13-01", UTC)


def test_every_message_of_an_import_exists_in_both_languages() -> None:
    source = "".join(
        (Path(importer.__file__).parent / name).read_text(encoding="utf-8")
        for name in ("importer.py", "import_rows.py", "cells.py", "table.py")
    )
    used = set(re.findall(r'"(import_\w+)"', source))
    assert len(used) > 25
    for language in ("en", "zh-Hans"):
        for key in used:
            assert text_of(key, language)


def text_of(key: str, language: str = "en") -> str:
    path = Path(importer.__file__).parent / "translations" / f"{language}.json"
    return str(json.loads(path.read_text(encoding="utf-8"))["exceptions"][key]["message"])


def test_ids_are_never_given_twice() -> None:
    ids = list(
        itertools.chain.from_iterable(
            (point.id for point in applied(run(LIST, make_id=registry.new_id)).values()) for _ in range(50)
        )
    )
    assert len(set(ids)) == 150
    assert all(re.fullmatch(r"[0-9a-z]{26}", id_) for id_ in ids)


def test_a_protocol_may_be_named_where_it_is_the_templates() -> None:
    head = "name,line,address,template,protocol\n"
    assert keys(run(head + "A,East,1,eastron/sdm630,modbus\nB,East,2,eastron/sdm630,Modbus-RTU\n")) == []
    dry = run(head + "A,East,1,eastron/sdm630,dlt645-2007\nB,East,2,eastron/sdm630,profibus\n")
    assert keys(dry) == [(2, "protocol", "import_protocol_not_template"), (3, "protocol", "import_unknown_protocol")]
    dry = run(head + "A,South,1,generic/dlt645-1ph,dlt645-1997\n")
    assert keys(dry) == [(2, "template", "import_line_speaks_other")]


def test_a_line_may_be_named_by_its_id_and_two_of_one_name_only_so() -> None:
    assert keys(run(HEADER + "A,l1,1,eastron/sdm630,,,\n")) == []
    twins = {**LINES, "l3": KnownLine("l3", "east", LineProtocol.MODBUS_TCP)}
    data = (HEADER + "A,East,1,eastron/sdm630,,,\nB,l3,1,eastron/sdm630,,,\n").encode()
    dry = dry_run(data, replace(known(), lines=twins))
    assert keys(dry) == [(2, "line", "import_line_twice")]
    points = {"p1": Point("p1", "A", (InstalledMeter(ALWAYS, "eastron/sdm630"),), (Route("l3", "modbus", "1"),))}
    rows = as_rows(points.values(), replace(known(points=points), lines=twins))
    assert rows[1][rows[0].index("line")] == "l3"


def test_a_point_of_a_line_that_is_gone_can_be_edited_and_given_another_line() -> None:
    points = {"p1": Point("p1", "A", (InstalledMeter(ALWAYS, "eastron/sdm630"),), (Route("gone", "modbus", "1"),))}
    dry = run("name,area\nA,Hall\n", points=points)
    assert keys(dry) == []
    (point,) = applied(dry, points).values()
    assert (point.area, point.routes) == ("Hall", points["p1"].routes)
    (point,) = applied(run("name,line\nA,East\n", points=points), points).values()
    assert point.routes == (Route("l1", "modbus", "1"),)


def test_details_are_understood_in_both_languages() -> None:
    head = "name,line,address,template,detail\n"
    texts = ["精简", "标准", "完整", "lean", "FULL", "auto", "自动", ""]
    rows = "".join(f"P{n},East,{n},eastron/sdm630,{text}\n" for n, text in enumerate(texts, 1))
    dry = run(head + rows)
    assert keys(dry) == []
    assert [row.point and row.point.detail for row in dry.rows] == [
        "lean",
        "standard",
        "full",
        "lean",
        "full",
        None,
        None,
        None,
    ]


def test_an_attribute_is_set_and_taken_away() -> None:
    points = applied(run("name,line,address,template,tariff\nA,East,1,eastron/sdm630,peak\n"))
    (point,) = points.values()
    assert point.attributes == {"tariff": "peak"}
    (point,) = applied(run("name,tariff\nA,\n", points=points), points).values()
    assert point.attributes == {}


def test_one_point_in_two_rows_is_told_at_the_second() -> None:
    before = applied(run(LIST))
    main = next(point for point in before.values() if point.name == "Main")
    dry = run(f"id,name\n{main.id},One\n{main.id},Two\n", points=before)
    assert keys(dry) == [(3, "name", "import_row_twice")]


def test_a_ratio_of_the_future_is_taken_and_told() -> None:
    dry = run("name,line,address,template,ct,multiplier_since\nA,East,1,eastron/sdm630,80,2027-01-01\n")
    assert keys(dry) == []
    assert [one.key for one in dry.warnings] == ["import_multiplier_later"]


def test_a_serial_number_that_excel_shortened_is_an_error() -> None:
    dry = run("name,line,address,template,serial\nA,East,1,eastron/sdm630,2.02600E+11\n")
    assert keys(dry) == [(2, "serial", "import_scientific")]


def workbook(*rows: list[object]) -> bytes:
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    for row in rows:
        sheet.append(row)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


@pytest.mark.parametrize("number", [1234567890123450, 1.23457e18, 123000000000, 4.5e11])
def test_a_number_of_which_excel_kept_only_the_beginning_is_refused(number: float) -> None:
    header: list[object] = ["name", "line", "address", "template", "serial"]
    dry = run(workbook(header, ["A", "South", number, "generic/dlt645-1ph", None]))
    assert keys(dry) == [(2, "address", "import_scientific")]
    assert SCIENTIFIC.fullmatch(dry.problems[0].placeholders["value"])
    dry = run(workbook(header, ["A", "East", 1, "eastron/sdm630", number]))
    assert keys(dry) == [(2, "serial", "import_scientific")]
    dry = run(workbook(header, [number, "East", 1, "eastron/sdm630", "a text: 1234567890123450"]))
    assert keys(dry) == [], "nobody needs the last digit of a name"


def test_a_formula_without_a_value_is_told_and_not_taken_for_an_empty_cell() -> None:
    dry = run(workbook(["name", "line", "address", "template"], ["A", "East", "=1+1", "eastron/sdm630"], ["=A2"] * 4))
    assert keys(dry)[0] == (2, "address", "import_formula")
    assert {row for row, _, _ in keys(dry)} == {2, 3}
    assert {key for _, _, key in keys(dry)} == {"import_formula"}


def test_a_formula_whose_value_is_an_empty_text_is_an_empty_cell() -> None:
    data = workbook(["name", "line", "address", "template", "area"], ["A", "East", 1, "eastron/sdm630", "=B9"])
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            text = old.read(name)
            if name.endswith("sheet1.xml"):
                assert b'<c r="E2"><f>B9</f><v' in text
                text = text.replace(b'<c r="E2"><f>', b'<c r="E2" t="str"><f>')
            new.writestr(name, text)
    assert keys(run(out.getvalue())) == []


@pytest.mark.parametrize("address", ["999999999999", "AAAAAAAAAAAA", "aaaaaaaaaaaa", "0", "000000000000"])
def test_an_address_of_every_meter_or_of_none_is_refused(address: str) -> None:
    dry = run(HEADER + f"A,South,{address},generic/dlt645-1ph,,,\n")
    assert keys(dry) == [(2, "address", "import_no_own_address")]


def test_a_header_alone_is_an_empty_list() -> None:
    assert keys(run(HEADER)) == [(None, None, "import_empty")]


def test_a_name_may_have_as_many_letters_as_the_recorder_keeps() -> None:
    assert keys(run(HEADER + f"{'x' * 255},East,1,eastron/sdm630,,,\n")) == []
    assert keys(run(HEADER + f"{'x' * 256},East,1,eastron/sdm630,,,\n")) == [(2, "name", "name_too_long")]


def test_a_list_that_is_too_long_is_refused_as_a_whole() -> None:
    rows = "".join(f"P{n},East,1,eastron/sdm630,,,\n" for n in range(importer.MAX_ROWS + 1))
    assert keys(run(HEADER + rows)) == [(None, None, "import_too_long")]
