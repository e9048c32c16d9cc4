"""The workbook of a report: the numbers of the facts, formulas that a spreadsheet works out to the same, safe texts."""

from __future__ import annotations

import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from functools import cache
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import pytest

from meter_batch_analytics.report.facts import Facts
from meter_batch_analytics.report.story import Voice
from meter_batch_analytics.report.workbook import Workbook
from tests.conftest import need

from . import example_facts

SPACE = {"m": "http://schemas.openxmlformats.org/spreadsheetml/2006/main"}
SHEETS = {
    "en": ["Summary", "Points", "Days", "Hours", "Cost", "Alarms", "Data quality"],
    "zh-Hans": ["摘要", "计量点", "逐日", "逐时", "电费", "告警", "数据质量"],
}


class Cells:
    """What stands in the cells of a file, sheet by sheet: (text or number, formula or None) by name of the cell."""

    def __init__(self, data: bytes) -> None:
        with ZipFile(BytesIO(data)) as file:
            names = [
                one.get("name") or ""
                for one in ET.fromstring(file.read("xl/workbook.xml")).iterfind(".//m:sheet", SPACE)
            ]
            texts = []
            if "xl/sharedStrings.xml" in file.namelist():
                strings = ET.fromstring(file.read("xl/sharedStrings.xml"))
                texts = [
                    "".join(t.text or "" for t in one.iterfind(".//m:t", SPACE))
                    for one in strings.iterfind("m:si", SPACE)
                ]
            self.raw = {name: file.read(f"xl/worksheets/sheet{at}.xml").decode() for at, name in enumerate(names, 1)}
            self.charts = [one for one in file.namelist() if re.fullmatch(r"xl/charts/chart\d+\.xml", one)]
        self.sheets: dict[str, dict[str, tuple[str | float, str | None]]] = {}
        for name, raw in self.raw.items():
            found: dict[str, tuple[str | float, str | None]] = {}
            for cell in ET.fromstring(raw).iterfind(".//m:c", SPACE):
                value, formula = cell.find("m:v", SPACE), cell.find("m:f", SPACE)
                if value is None or value.text is None:
                    continue
                text: str | float = texts[int(value.text)] if cell.get("t") == "s" else value.text
                if cell.get("t") in (None, "n"):
                    text = float(value.text)
                found[cell.get("r") or ""] = (text, None if formula is None else formula.text)
            self.sheets[name] = found

    def formulas(self) -> Iterator[tuple[str, str, float]]:
        for name, cells in self.sheets.items():
            for place, (value, formula) in cells.items():
                if formula is not None:
                    yield name, place, float(value)

    def texts(self, sheet: str) -> list[str]:
        return [value for value, formula in self.sheets[sheet].values() if isinstance(value, str) and formula is None]


@cache
def made(name: str, language: str) -> bytes:
    return Workbook(getattr(example_facts, name)(), language).bytes()


@pytest.mark.parametrize("language", ["en", "zh-Hans"])
def test_there_is_a_sheet_for_each_part_with_native_charts_and_frozen_heads(language: str) -> None:
    cells = Cells(made("monthly", language))
    assert list(cells.sheets) == SHEETS[language]
    assert len(cells.charts) >= 3
    for name in SHEETS[language][1:]:
        assert 'state="frozen"' in cells.raw[name], name


def without_values(data: bytes) -> bytes:
    """The workbook as one that nobody has worked out yet."""
    out = BytesIO()
    with ZipFile(BytesIO(data)) as file, ZipFile(out, "w") as copy:
        for one in file.namelist():
            content = file.read(one)
            if one.startswith("xl/worksheets/sheet"):
                content = re.sub(rb"(</f>)<v>[^<]*</v>", rb"\1", content)
            copy.writestr(one, content)
    return out.getvalue()


def test_libreoffice_works_the_formulas_out_to_the_same_values(tmp_path: Path) -> None:
    need("LibreOffice", shutil.which("soffice") is not None)
    for language in SHEETS:
        (tmp_path / f"{language}.xlsx").write_bytes(without_values(made("monthly", language)))
    done = tmp_path / "done"
    profile = f"-env:UserInstallation={(tmp_path / 'profile').as_uri()}"
    convert = ["--headless", "--convert-to", "xlsx:Calc MS Excel 2007 XML", "--outdir", done]
    subprocess.run(
        ["soffice", profile, *convert, *(tmp_path / f"{language}.xlsx" for language in SHEETS)],
        check=True,
        capture_output=True,
        timeout=110,
    )
    facts = example_facts.monthly()
    assert facts.cost is not None and facts.total.kwh is not None
    for language, names in SHEETS.items():
        ours, theirs = Cells(made("monthly", language)), Cells((done / f"{language}.xlsx").read_bytes())
        formulas = list(ours.formulas())
        assert len(formulas) > 15
        for sheet, place, value in formulas:
            assert theirs.sheets[sheet][place][0] == pytest.approx(value, abs=1e-6), (sheet, place)
        totals = [value for value, formula in theirs.sheets[names[0]].values() if formula is not None]
        assert totals == pytest.approx([float(facts.total.kwh), float(facts.cost.total)], abs=0.005)


def test_formulas_carry_the_values_of_the_facts() -> None:
    facts = example_facts.monthly()
    cells = Cells(made("monthly", "en"))
    values = [value for _, _, value in cells.formulas()]
    assert facts.cost is not None and facts.total.kwh is not None
    assert float(facts.total.kwh) in values and float(facts.cost.total) in values
    days = sum((one.kwh for one in facts.days if one.kwh is not None), Decimal(0))
    assert any(value == pytest.approx(float(days)) for value in values)


@pytest.mark.parametrize(
    "name", ['=HYPERLINK("http://x","y")', "+1", "-1", "@SUM(A1)", "=1+1", "http://example.com", "007", "{=1}"]
)
def test_a_name_is_a_text_whatever_it_begins_with(name: str) -> None:
    facts = example_facts.monthly()
    points = tuple(replace(one, name=name, area=name, line=name) for one in facts.points)
    data = Workbook(replace(facts, points=points), "en").bytes()
    cells = Cells(data)
    for sheet in ("Points", "Data quality"):
        assert cells.texts(sheet).count(name) >= 3 * len(points)
        assert "<hyperlink" not in cells.raw[sheet]


def test_names_of_sheets_are_allowed_in_every_spreadsheet() -> None:
    for names in SHEETS.values():
        assert all(len(one) <= 31 and not re.search(r"[\[\]:*?/\\']", one) for one in names)
        assert len({one.casefold() for one in names}) == len(names)


@pytest.mark.parametrize("name", ["daily", "bare", "empty"])
@pytest.mark.parametrize("language", ["en", "zh-Hans"])
def test_there_is_a_workbook_of_a_day_and_where_next_to_nothing_is_known(name: str, language: str) -> None:
    facts: Facts = getattr(example_facts, name)()
    cells = Cells(made(name, language))
    voice = Voice(facts, language)
    assert voice.headline()[0] in cells.texts(SHEETS[language][0])
    assert (SHEETS[language][2] in cells.sheets) == (facts.kind == "monthly")


def test_an_hour_that_a_clock_shows_twice_is_told_apart() -> None:
    from zoneinfo import ZoneInfo

    facts = example_facts.daily()
    zone = ZoneInfo("Europe/Berlin")
    start = facts.hours[0].start.replace(year=2026, month=10, day=25, tzinfo=zone)
    hours = tuple(
        replace(facts.hours[0], start=(start.astimezone(ZoneInfo("UTC")) + timedelta(hours=at)).astimezone(zone))
        for at in range(25)
    )
    cells = Cells(Workbook(replace(facts, start=start, hours=hours), "en").bytes()).sheets["Hours"]
    twice = [(cells[f"A{row}"][0], cells[f"B{row}"][0]) for row in (4, 5)]
    assert twice[0][0] == twice[1][0] and [offset for _, offset in twice] == ["+02:00", "+01:00"]


def test_every_point_has_its_row_and_every_alarm_too() -> None:
    facts = example_facts.monthly()
    cells = Cells(made("monthly", "zh-Hans"))
    assert {one.name for one in facts.points} <= set(cells.texts("计量点"))
    severities = [one for one in cells.texts("告警") if one in ("严重", "警告", "提示")]
    assert len(severities) == len(facts.alarms)
