"""From a request to files that are kept: what the server's worker, schedules and the command line all do."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from meter_batch_analytics.errors import ReportError
from meter_batch_analytics.report.kernel import Kernel
from meter_batch_analytics.report.run import run_report
from meter_batch_analytics.report.store import ReportStore
from meter_batch_analytics.report.story import Voice
from meter_batch_analytics.report.tariff_file import examples
from meter_batch_analytics.session import Session, open_data
from meter_batch_engine.errors import ConfigError
from tests.conftest import need

from .. import data_site


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    with Kernel() as made:
        yield made


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = data_site.build(tmp_path_factory.mktemp("site"))
    (folder / "tariffs").mkdir()
    shutil.copy(examples()["china-industrial"], folder / "tariffs" / "default.toml")
    return folder


@pytest.fixture
def session(data: Path) -> Session:
    return open_data(data, data_site.ALL, now=lambda: data_site.NOW)


def request(**more: object) -> dict[str, object]:
    return {"report": "monthly", "period": "2026-08", "formats": ["pdf", "xlsx", "html"], "language": "zh", **more}


def test_a_request_becomes_a_report_that_is_kept_with_its_files_and_what_they_say(
    session: Session, kernel: Kernel, tmp_path: Path
) -> None:
    need("pdftotext", shutil.which("pdftotext") is not None)
    seen: list[float] = []
    report = run_report(session, request(by="王芳"), kernel=kernel, progress=seen.append)
    store = ReportStore(session.data / "reports")
    assert store.get(report.id) == report
    assert (report.title, report.language, report.by) == ("用电月报 · 2026年8月", "zh-Hans", "王芳")
    assert [one.format for one in report.files] == ["pdf", "xlsx", "html"] and seen
    said = store.facts(report.id)
    assert said.total.kwh is not None and said.cost is not None
    pdf = store.path(report.id, report.files[0].name)
    text = subprocess.run(["pdftotext", "-layout", pdf, "-"], check=True, capture_output=True, text=True).stdout
    voice = Voice(said, "zh")
    assert voice.kwh(said.total.kwh) in text and voice.amount(said.cost.total) in text and "办公楼" in text


def test_a_report_of_a_limited_scope_names_no_point_outside_it(data: Path, kernel: Kernel) -> None:
    session = open_data(data, data_site.SOME, now=lambda: data_site.NOW)
    report = run_report(session, request(report="daily", period="2026-09-02", formats=["html", "xlsx"]), kernel=kernel)
    assert report.points is not None and set(report.points) == {"p3", "p4"}
    html = (session.data / "reports" / report.id / report.files[0].name).read_text(encoding="utf-8")
    assert "Canteen" in html and "办公楼" in html
    assert not any(name in html for name in ("Chiller", "Compressor", "Incoming supply"))


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"tariff": "night"}, '"night" was asked for.*default'),
        ({"formats": ["docx"]}, "no format docx"),
        ({"period": "2027-01"}, "2027"),
        ({"points": ["nothing"]}, "nothing"),
    ],
)
def test_what_is_wrong_with_a_request_is_said_and_leaves_nothing(
    wrong: dict[str, object], match: str, session: Session, kernel: Kernel
) -> None:
    before = ReportStore(session.data / "reports").list()
    with pytest.raises((ConfigError, ReportError), match=match):
        run_report(session, request(**wrong), kernel=kernel)
    assert ReportStore(session.data / "reports").list() == before
    assert not list((session.data / "reports").glob(".*"))


def test_a_month_without_data_is_a_report_too(session: Session, kernel: Kernel) -> None:
    report = run_report(session, request(period="2026-05", formats=["html"], language="en"), kernel=kernel)
    html = (session.data / "reports" / report.id / report.files[0].name).read_text(encoding="utf-8")
    assert "Nothing is known of what was used in May 2026." in html
