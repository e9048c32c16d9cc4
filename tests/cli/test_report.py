"""`meter-batch report`: one command from what is kept to files on paper and in a spreadsheet; wrong usage is told."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from ..analytics import data_site, small_site
from .conftest import Run, objects

TARIFFS = Path(__file__).parents[2] / "analytics/meter_batch_analytics/report/tariffs"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = data_site.build(tmp_path_factory.mktemp("data"), days=33)
    (folder / "tariffs").mkdir()
    (folder / "tariffs/default.toml").write_bytes((TARIFFS / "china-industrial.toml").read_bytes())
    return folder


def test_a_monthly_report_in_chinese_is_kept_where_the_server_shows_it(meter_batch: Run, data: Path) -> None:
    done = meter_batch(
        "report", "monthly", "--data", str(data), "--period", "2026-08", "--format", "pdf,xlsx", "--lang", "zh",
        "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (found,) = objects(done)
    assert (found["kind"], found["period"], found["language"]) == ("monthly", "2026-08", "zh-Hans")
    assert [one["format"] for one in found["files"]] == ["pdf", "xlsx"]
    for one in found["files"]:
        path = Path(one["path"])
        assert path.parent == data / "reports" / found["id"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == one["sha256"]
        assert path.read_bytes().startswith({"pdf": b"%PDF", "xlsx": b"PK"}[one["format"]])
    facts = found["facts"]
    assert found["kwh"] == facts["total"]["kwh"] and found["cost"] == facts["cost"]["total"]
    assert Decimal(found["cost"]) == sum(Decimal(one["amount"]) for one in facts["cost"]["lines"])


def test_files_go_where_they_are_wanted_and_their_paths_to_stdout(meter_batch: Run, data: Path, tmp_path: Path) -> None:
    before = sorted(data.rglob("*"))
    done = meter_batch(
        "report", "daily", "--archive", str(data / "archive"), "--period", "2026-08-20", "--area", "Workshop",
        "--points", "Canteen", "--tariff", str(TARIFFS / "simple.toml"), "--format", "html",
        "--output", str(tmp_path / "out"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (path,) = done.stdout.splitlines()
    text = Path(path).read_text(encoding="utf-8")
    assert Path(path).parent == tmp_path / "out" and [one.name for one in (tmp_path / "out").iterdir()] == [
        Path(path).name
    ]
    assert "Compressor" in text and "Canteen" in text and "办公楼" not in text
    assert sorted(data.rglob("*")) == before


def test_a_home_assistant_is_asked_by_its_address(meter_batch: Run, tmp_path: Path) -> None:
    site = small_site.SmallSite(tmp_path / "ledger.db")
    site.fill(range(96 * 2))
    (tmp_path / "token").write_text(small_site.TOKEN)
    with small_site.served(site) as url:
        (found,) = objects(
            meter_batch(
                "report",
                "daily",
                "--url",
                url,
                "--token-file",
                str(tmp_path / "token"),
                "--no-recorder",
                "--period",
                "2026-03-28",
                "--format",
                "html",
                "--output",
                str(tmp_path / "out"),
                "--json",
            )
        )
    intervals = site.ledger.intervals(list(small_site.NAMES), *_day(found["facts"]))
    assert Decimal(found["kwh"]) == sum(one.energies["1-0:1.8.0"] for one in intervals) > 0
    assert found["facts"]["alarms"] == [] and found["cost"] is None
    assert "no_tariff" in [one["key"] for one in found["facts"]["notes"]]
    site.ledger.close()


def _day(facts: dict[str, str]) -> Iterator[datetime]:
    return (datetime.fromisoformat(facts[key]).astimezone(UTC) for key in ("start", "end"))


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["monthly"], 2, "say where history is: --data, --archive, or --url with --token-file"),
        (["monthly", "--data", "DATA", "--url", "http://x"], 2, "write one of them"),
        (["monthly", "--url", "http://x"], 2, "--url needs --token-file"),
        (["monthly", "--data", "DATA", "--period", "Octember"], 2, '"Octember" is no month for a monthly report'),
        (["daily", "--data", "DATA", "--period", "2026-08"], 2, '"2026-08" is no day for a daily report; write'),
        (["monthly", "--data", "DATA", "--format", "docx"], 2, '"docx" is no format of a report; there are pdf, xlsx'),
        (["monthly", "--data", "DATA", "--lang", "fr"], 2, '"fr" is no language of a report; there are en and zh'),
        (["monthly", "--data", "DATA", "--period", "2026-08", "--points", "Lathe"], 2, 'there is no meter "Lathe"'),
        (["monthly", "--data", "DATA", "--period", "2026-08", "--area", "Yard"], 2, 'there is no area "Yard"'),
        (["monthly", "--data", "DATA", "--period", "2026-08", "--tariff", "x.toml"], 2, "there is no tariff file"),
        (["monthly", "--data", "DATA", "--period", "2025-08"], 1, "nothing is known of 2025-08: there is no report"),
        (["monthly", "--archive", "/nowhere"], 1, "/nowhere"),
        (["weekly", "--data", "DATA"], 2, "'weekly' is not one of 'daily'"),
    ],
)  # fmt: skip
def test_wrong_usage_is_told_in_a_sentence(
    arguments: list[str], code: int, said: str, meter_batch: Run, data: Path
) -> None:
    done = meter_batch("report", *[one.replace("DATA", str(data)) for one in arguments])
    assert done.returncode == code, done.stderr
    assert said in " ".join(done.stderr.split()), done.stderr
    assert done.stdout == "" and "Traceback" not in done.stderr


def test_a_broken_tariff_that_no_meter_has_stops_nothing_and_is_said(
    meter_batch: Run, data: Path, tmp_path: Path
) -> None:
    wrong = data / "tariffs/shops.toml"
    wrong.write_text((TARIFFS / "simple.toml").read_text(encoding="utf-8").replace("currency", "curency"))
    try:
        done = meter_batch(
            "report", "daily", "--data", str(data), "--period", "2026-08-02", "--format", "html",
            "--output", str(tmp_path),
        )  # fmt: skip
    finally:
        wrong.unlink()
    assert done.returncode == 0, done.stderr
    assert f'{wrong}: "curency" is not known here; did you mean "currency"?' in done.stderr
    assert Path(done.stdout.strip()).is_file()


def test_a_broken_tariff_is_named_with_its_place_and_nothing_is_made(
    meter_batch: Run, data: Path, tmp_path: Path
) -> None:
    file = tmp_path / "tariff.toml"
    file.write_text((TARIFFS / "simple.toml").read_text(encoding="utf-8").replace('"22:00-06:00"', '"22:00-26:00"'))
    before = sorted(data.rglob("*"))
    done = meter_batch("report", "monthly", "--data", str(data), "--period", "2026-08", "--tariff", str(file))
    assert done.returncode == 2
    assert f"{file}: [[version]] from 2020-01-01" in done.stderr and "\"night\" has '22:00-26:00'" in done.stderr
    assert sorted(data.rglob("*")) == before


def test_a_mistake_in_a_tariff_file_does_not_hide_one_in_the_period_or_the_area(
    meter_batch: Run, data: Path, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("curency = 1")
    for more, said in (
        (("--period", "2026-13"), '"2026-13" is no month'),
        (("--area", "Roof of nobody"), "Roof of nobody"),
    ):
        asked = more if "--period" in more else ("--period", "2026-08", *more)
        done = meter_batch("report", "monthly", "--data", str(data), "--tariff", str(wrong), *asked)
        assert done.returncode != 0
        assert said in done.stderr and "curency" not in done.stderr
