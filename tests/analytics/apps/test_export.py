"""Files hold what is shown, as a spreadsheet wants it."""

from __future__ import annotations

import csv
import io
import zipfile
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import numpy as np

from meter_batch_analytics.export import Sheet, as_csv, as_xlsx

COLUMNS = [
    {"key": "start", "label": "Start", "kind": "instant"},
    {"key": "day", "label": "Day", "kind": "day"},
    {"key": "name", "label": "Name", "kind": "text"},
    {"key": "kwh", "label": "Energy", "unit": "kWh", "digits": 2},
    {"key": "share", "label": "Share", "kind": "percent", "digits": 1},
]
# The hour that comes twice in Berlin.
STARTS = [int((datetime(2026, 10, 25, 0, tzinfo=UTC) + timedelta(hours=one)).timestamp() * 1000) for one in range(3)]
ROWS = {
    "start": STARTS, "day": ["2026-10-25"] * 3, "name": ["水泵 1", "=HYPERLINK(1)", "x"],
    "kwh": np.array([1234.56, 0.1 + 0.2, np.nan]), "share": np.array([0.5, 0.25, np.nan]),
}  # fmt: skip
NAMESPACE = {"m": "http://schemas.openxmlformats.org/spreadsheetml/2006/main"}


def test_csv_has_units_offsets_and_numbers_in_full() -> None:
    content = as_csv(Sheet("t", COLUMNS, ROWS), "Europe/Berlin")
    assert content.startswith(b"\xef\xbb\xbf")
    rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"))))
    assert rows[0] == ["Start (Europe/Berlin)", "Day", "Name", "Energy (kWh)", "Share (%)"]
    assert [row[0] for row in rows[1:]] == [
        "2026-10-25T02:00+02:00", "2026-10-25T02:00+01:00", "2026-10-25T03:00+01:00"
    ]  # fmt: skip
    assert rows[1][2:] == ["水泵 1", "1234.56", "50"] or rows[1][2:] == ["水泵 1", "1234.56", "50.0"]
    assert rows[2][2:4] == ["'=HYPERLINK(1)", "0.3"]
    assert rows[3][3:] == ["", ""]


def test_a_workbook_freezes_its_header_filters_every_column_and_never_runs_a_name() -> None:
    sheets = [Sheet("Points: [a]", COLUMNS, ROWS), Sheet("Points: [a]", COLUMNS, ROWS)]
    content = as_xlsx(sheets, "Europe/Berlin", about=[("Period", "today")], about_name="About")
    assert content == as_xlsx(sheets, "Europe/Berlin", about=[("Period", "today")], about_name="About")
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        book = ElementTree.fromstring(file.read("xl/workbook.xml"))
        names = [one.attrib["name"] for one in book.findall(".//m:sheet", NAMESPACE)]
        page = ElementTree.fromstring(file.read("xl/worksheets/sheet1.xml"))
        texts = [one.text for one in ElementTree.fromstring(file.read("xl/sharedStrings.xml")).iter() if one.text]
    assert names == ["Points- -a-", "Points- -a- 2", "About"]
    assert page.find(".//m:pane", NAMESPACE).attrib["state"] == "frozen"
    assert page.find(".//m:autoFilter", NAMESPACE).attrib["ref"] == "A1:E4"
    assert page.findall(".//m:f", NAMESPACE) == []
    assert page.findall(".//m:hyperlink", NAMESPACE) == []
    assert {"Energy (kWh)", "水泵 1", "=HYPERLINK(1)", "Start (Europe/Berlin)"} <= set(texts)
    values = {one.attrib["r"]: one.findtext("m:v", None, NAMESPACE) for one in page.findall(".//m:c", NAMESPACE)}
    assert float(values["D2"]) == 1234.56
    assert float(values["A2"]) == float(values["A3"])  # wall clock: the hour that comes twice
    assert "D4" not in values


def test_an_empty_table_is_a_file_with_its_header() -> None:
    empty = Sheet("t", COLUMNS, {one["key"]: [] for one in COLUMNS})
    assert as_csv(empty, "UTC").decode("utf-8-sig").count("\r\n") == 1
    assert as_xlsx([empty], "UTC")
