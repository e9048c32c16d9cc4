"""One tidy frame, the same from ledger and archive; the subscriber; errors in words."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import meter_batch_analytics
from meter_batch_analytics import periods
from meter_batch_analytics.archive import subscriber
from meter_batch_analytics.archive.keys import KeyFile
from meter_batch_analytics.archive.store import Archive
from meter_batch_analytics.archive.subscriber import follow
from meter_batch_analytics.errors import AwayError, SourceError
from meter_batch_analytics.frame import from_intervals, precedence
from meter_batch_analytics.site import Site
from meter_batch_analytics.sources.archive import ArchiveSource
from meter_batch_analytics.sources.http import Api
from meter_batch_engine.errors import ConfigError
from meter_batch_engine.ledger import RESOLUTIONS, period_of
from meter_batch_engine.model.point import Point, Term
from meter_batch_engine.wire import RegistrySnapshot

from .conftest import interval, kept
from .small_site import NAMES, QUARTER, START, TOKEN, ZONE, SmallSite, registry, served

DAYS = 5  # over the change to summer time


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> SmallSite:
    site = SmallSite(tmp_path_factory.mktemp("site") / "ledger.db")
    site.fill(range(DAYS * 96))
    return site


@pytest.fixture
def url(filled: SmallSite) -> Iterator[str]:
    filled.down = False
    with served(filled) as found:
        yield found


@pytest.fixture(scope="module")
def followed(filled: SmallSite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of it, and the ledger as it was."""
    folder = tmp_path_factory.mktemp("followed") / "archive"
    with served(filled) as url, Archive(folder, time_zone=ZONE, writing=True) as archive:
        follow(archive, Api(url, TOKEN), subscriber="followed", once=True)
        archive.compact()
    filled.ledger.unsubscribe("followed")
    return folder


@pytest.mark.parametrize("resolution", periods.RESOLUTIONS)
def test_ledger_and_archive_give_the_same_frame(url: str, followed: Path, resolution: str) -> None:
    asked = {"since": "2026-03-28T03:00", "until": "2026-03-30T12:00", "resolution": resolution}
    asked["quantities"] = ["energy_import", "1-0:1.8.1"]
    frames = [
        meter_batch_analytics.open(url, TOKEN, recorder=False).frame(**asked),
        meter_batch_analytics.open(archive=followed).frame(**asked),
    ]
    assert len(frames[0]) > 0
    first, second = (frame.drop(columns=["origin", "skew_s"], errors="ignore") for frame in frames)
    for one in (first, second):
        for name in ("point", "flags", "source", "rule"):
            one[name] = one[name].astype(str)
    pd.testing.assert_frame_equal(first, second, check_dtype=False, atol=1e-9, rtol=0)
    assert frames[0]["energy_import_kwh"].tolist() == frames[1]["energy_import_kwh"].tolist()
    assert str(frames[0]["start"].dt.tz) == ZONE


def test_what_the_ledger_forgot_comes_from_the_archive_and_nothing_twice(
    tmp_path: Path,
) -> None:
    site = SmallSite(tmp_path / "ledger.db")
    site.fill(range(DAYS * 96))
    with served(site) as url:
        before = meter_batch_analytics.open(url, TOKEN, recorder=False)
        asked = {"since": START, "until": START + timedelta(days=DAYS)}
        whole = {one: before.frame(**asked, resolution=one) for one in ("interval", "day", "month")}
        with Archive(tmp_path / "archive", time_zone=ZONE, writing=True) as archive:
            follow(archive, Api(url, TOKEN), once=True)
        assert site.ledger.prune(START + timedelta(days=2, hours=4)) > 0
        after = meter_batch_analytics.open(url, TOKEN, tmp_path / "archive", recorder=False)
        for resolution, expected in whole.items():
            found = after.frame(**asked, resolution=resolution)
            assert found["start"].tolist() == expected["start"].tolist()
            assert found["energy_import_kwh"].tolist() == expected["energy_import_kwh"].tolist()
        assert set(after.frame(**asked)["origin"]) == {"ledger", "archive"}
    site.ledger.close()


def test_precedence_is_ledger_then_archive_then_recorder() -> None:
    keys = ["energy_import"]
    ledger = from_intervals([interval(4, "4")], keys, "ledger")
    archive = from_intervals([interval(number, "1") for number in range(3, 6)], keys, "archive")
    hours = [
        type(one)(one.point, one.start, 3600, one.energies, frozenset())
        for one in (interval(0, "9"), interval(4, "9"), interval(8, "9"))
    ]
    recorder = from_intervals(hours, keys, "recorder")
    for tables in ([ledger, archive, recorder], [recorder, archive, ledger]):
        found = precedence(tables).to_pylist()
        assert [(one["origin"], one["energy_import_kwh"]) for one in found] == [
            ("archive", 1.0),
            ("ledger", 4.0),
            ("archive", 1.0),
            ("recorder", 9.0),
        ]


def test_the_frame_says_where_each_value_came_from(url: str) -> None:
    frame = meter_batch_analytics.open(url, TOKEN, recorder=False).frame("Chiller", since=START, until=START + QUARTER)
    (row,) = frame.to_dict("records")
    assert row["point"] == "p1" and row["flags"] == "measured" and row["source"] == "poll"
    assert row["completeness"] == 1.0 and row["origin"] == "ledger" and row["voltage_min_v"] == 229.5
    assert row["end"] - row["start"] == timedelta(minutes=15)
    assert row["demand_mean_kw"] == pytest.approx(row["energy_import_kwh"] * 4)


@pytest.mark.parametrize("resolution", periods.RESOLUTIONS)
def test_the_mean_power_of_a_period_is_that_of_the_time_it_knows_wherever_it_is_kept(
    tmp_path: Path, resolution: str
) -> None:
    site = SmallSite(tmp_path / "ledger.db")
    site.fill(range(5))
    folder = tmp_path / "archive"
    asked = {"since": "2026-03-27", "until": "2026-03-28", "resolution": resolution}
    with served(site) as url, Archive(folder, time_zone=ZONE, writing=True) as archive:
        follow(archive, Api(url, TOKEN), once=True)
        frames = [meter_batch_analytics.open(url, TOKEN, recorder=False).frame(**asked)]
        frames.append(meter_batch_analytics.open(archive=folder).frame(**asked))
        archive.compact()
        frames.append(meter_batch_analytics.open(archive=folder).frame(**asked))
    site.ledger.close()
    sums = [frame.groupby("point", observed=True)["energy_import_kwh"].sum() for frame in frames]
    means = [frame.groupby("point", observed=True)["demand_mean_kw"].mean() for frame in frames]
    for energy, mean in zip(sums, means, strict=True):
        assert mean.tolist() == pytest.approx(energy.tolist()) and len(mean) == 3


@pytest.mark.parametrize("resolution", ["interval", "day"])
def test_virtual_points_are_worked_out_from_the_archive_too(followed: Path, resolution: str) -> None:
    known = registry()
    rest = Point("v", "Rest", (), (), formula=(Term(1, "p3"), Term(-1, "p1"), Term(-1, "p2")))
    site = Site(known, [ArchiveSource(Archive(followed), {**known.points, "v": rest})])
    asked = {"since": START, "until": START + timedelta(days=2), "resolution": resolution}
    parts = site.frame(**asked).pivot_table(index="start", columns="point", values="energy_import_kwh", observed=True)
    expected = (parts["p3"] - parts["p1"] - parts["p2"]).to_numpy()
    site = Site(RegistrySnapshot({**known.points, "v": rest}, {}, {}, ZONE, 1), site._sources)
    found = site.frame("Rest", **asked)
    assert len(found) == len(expected) > 1
    assert found["energy_import_kwh"].to_numpy() == pytest.approx(expected, abs=1e-9)
    assert set(found["source"]) == {"virtual"}


def test_points_are_found_by_name_area_and_line(url: str) -> None:
    site = meter_batch_analytics.open(url, TOKEN)
    assert site.choose("chiller") == ["p1"]
    assert site.choose(area="workshop") == ["p1", "p2"]
    assert site.choose(line="Line 1") == site.choose() == ["p1", "p2", "p3"]
    assert site.areas == {"Workshop": ["p1", "p2"]} and site.lines == {"Line 1": ["p1", "p2", "p3"]}


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"points": "Chill", "since": START}, r'no meter "Chill"; like it: Chiller'),
        ({"area": "Attic", "since": START}, r'no area "Attic"; there are Workshop'),
        ({"line": "Line 9", "since": START}, r'no line "Line 9"'),
        ({"since": "2026-03-28", "until": "2026-03-28"}, r"the period is empty"),
        ({"since": "2026-03-28", "until": "2026-03-27"}, r"the period is empty: it begins at 2026-03-28 00:00\+01:00"),
        ({"since": "yesterday"}, r'"yesterday" is no time'),
        ({"since": START, "resolution": "decade"}, r'"decade" is no resolution'),
        ({"since": START, "quantities": ["love"]}, r'"love" is no quantity'),
        ({"since": START, "time_zone": "Europe/Atlantis"}, r"no IANA time zone"),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused_in_words(url: str, asked, words) -> None:
    with pytest.raises(ConfigError, match=words):
        meter_batch_analytics.open(url, TOKEN).frame(**asked)


def test_a_wrong_token_a_wrong_address_and_an_absent_home_assistant_are_told_apart(url: str, filled: SmallSite) -> None:
    with pytest.raises(SourceError, match="refuses the token"):
        meter_batch_analytics.open(url, "another")
    with pytest.raises(ConfigError, match="no address"):
        meter_batch_analytics.open("homeassistant.local", TOKEN)
    with pytest.raises(ConfigError, match="no token"):
        meter_batch_analytics.open(url, "")
    filled.down = True
    with pytest.raises(AwayError, match="cannot answer now"):
        meter_batch_analytics.open(url, TOKEN)
    filled.down = False
    with pytest.raises(AwayError, match="does not answer"):
        meter_batch_analytics.open("http://127.0.0.1:9", TOKEN)
    with pytest.raises(SourceError, match="no Meter Batch at"):
        Api(url, TOKEN)._json("GET", "nothing")


def test_the_subscriber_goes_on_after_home_assistant_was_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriber, "RETRY_S", (0.02,))
    monkeypatch.setattr(subscriber, "WAIT_S", 0.02)
    site = SmallSite(tmp_path / "ledger.db")
    site.fill(range(10))
    stop, said = threading.Event(), []
    with served(site) as url, Archive(tmp_path / "archive", time_zone=ZONE, writing=True) as archive:
        site.down = True
        thread = threading.Thread(target=lambda: follow(archive, Api(url, TOKEN), limit=7, stop=stop, say=said.append))
        thread.start()
        _until(lambda: any("next try" in one for one in said))
        site.down = False
        _until(lambda: len(kept(archive)) == 27)
        with site.lock:
            site.fill(range(10, 12))
        _until(lambda: len(kept(archive)) == 33)
        _until(lambda: site.ledger.subscribers()["archive"] == site.ledger.revision)
        stop.set()
        thread.join()
        assert "Home Assistant is back" in said
        assert archive.registry().points["p1"].name == "Chiller"
    final = site.ledger.intervals(site.ledger.points, START, START + timedelta(days=1))
    assert kept(Archive(tmp_path / "archive")) == {(one.point, one.start): one for one in final}
    site.ledger.close()


def _until(true) -> None:
    import time

    for _ in range(500):
        try:
            if true():
                return
        except FileNotFoundError, RuntimeError:
            pass
        time.sleep(0.02)
    pytest.fail("it never came true")


def test_what_is_acknowledged_is_archived_even_if_taking_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = SmallSite(tmp_path / "ledger.db")
    site.fill(range(4))
    with served(site) as url, Archive(tmp_path / "archive", time_zone=ZONE, writing=True) as archive:

        def full(*_: object) -> None:
            from meter_batch_analytics.errors import ArchiveError

            raise ArchiveError("the disk of the archive is full")

        monkeypatch.setattr(archive.files, "write", full)
        with pytest.raises(Exception, match="disk of the archive is full"):
            follow(archive, Api(url, TOKEN), once=True)
        assert site.ledger.subscribers() == {"archive": 0}
    site.ledger.close()


def test_the_command_keeps_an_archive_and_proves_it(url: str, tmp_path: Path) -> None:
    token, key = tmp_path / "token", tmp_path / "key"
    token.write_text(TOKEN + "\n")
    program = [sys.executable, "-m", "meter_batch_analytics"]
    where = ["--archive", str(tmp_path / "archive"), "--key-file", str(key)]
    made = _run(*program, "archive", "--url", url, "--token-file", str(token), "--once", "--json", "--encrypt", *where)
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["rows"] == 3 * (DAYS * 96 - 1)
    assert _run(*program, "compact", *where).returncode == 0
    proved = _run(*program, "verify", "--json", *where)
    assert proved.returncode == 0 and json.loads(proved.stdout)["ok"] is True
    wrong = _run(*program, "verify", "--archive", str(tmp_path / "archive"))
    assert wrong.returncode == 1 and "encrypted" in wrong.stderr
    token.write_text("another")
    refused = _run(*program, "archive", "--url", url, "--token-file", str(token), "--once", *where)
    assert refused.returncode == 1 and "refuses the token" in refused.stderr


@pytest.mark.parametrize("command", ["verify", "compact"])
def test_an_archive_that_is_not_there_is_said_and_not_made(tmp_path: Path, command: str) -> None:
    for place, words in (("nowhere", "there is no archive in"), ("file", "is a file: an archive is a folder")):
        (tmp_path / "file").write_text("")
        done = _run(sys.executable, "-m", "meter_batch_analytics", command, "--archive", str(tmp_path / place))
        assert done.returncode == 1 and words in done.stderr and "Traceback" not in done.stderr
        assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_a_token_that_may_not_follow_leaves_nothing_and_the_next_one_may_encrypt(tmp_path: Path) -> None:
    site = SmallSite(tmp_path / "ledger.db")
    site.fill(range(4))
    folder, key, token = tmp_path / "archive", tmp_path / "key", tmp_path / "token"
    with served(site) as url:
        program = [sys.executable, "-m", "meter_batch_analytics", "archive", "--once", "--url", url]
        program += ["--token-file", str(token), "--archive", str(folder)]
        encrypt = ["--encrypt", "--key-file", str(key)]
        for reader, text, words in (
            (False, b"wrong", "refuses the token"),
            (True, TOKEN.encode(), "may not do this"),
            (False, b"\x00\x01token\n\xff", "holds something else"),
        ):
            site.reader = reader
            token.write_bytes(text)
            for more in ([], encrypt):
                done = _run(*program, *more)
                assert done.returncode in (1, 2) and words in done.stderr and "Traceback" not in done.stderr
                assert not folder.exists() and not key.exists()
        site.reader = False
        token.write_text(TOKEN)
        assert "--encrypt needs a place for the key" in _run(*program, "--encrypt").stderr
        made = _run(*program, *encrypt)
        assert made.returncode == 0, made.stderr
    site.ledger.close()
    assert Archive(folder, keys=KeyFile(key)).manifest.key is not None


def test_a_running_site_proves_its_ledger(url: str, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN, encoding="utf-8")
    program = [sys.executable, "-m", "meter_batch_cli", "ledger", "verify"]
    done = _run(*program, "--url", url, "--token-file", str(token), "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["ok"] and found["intervals"] == len(NAMES) * (DAYS * 96 - 1)
    assert _run(*program, "--url", url).returncode == 2
    assert _run(*program).returncode == 2
    token.write_text("another", encoding="utf-8")
    refused = _run(*program, "--url", url, "--token-file", str(token))
    assert refused.returncode == 1 and "token" in refused.stderr and "Traceback" not in refused.stderr


def test_history_is_written_in_every_format(url: str, followed: Path, tmp_path: Path) -> None:
    program = [sys.executable, "-m", "meter_batch_cli", "history", "--archive", str(followed)]
    asked = [*program, "--points", "Chiller", "--since", "2026-03-29", "--until", "2026-03-30", "--resolution", "hour"]
    asked += ["--quantity", "energy_import"]
    lines = _run(*asked, "--json")
    rows = [json.loads(line) for line in lines.stdout.splitlines()]
    assert len(rows) == 23  # the day on which the clocks went forward
    assert rows[0]["start"] == "2026-03-29T00:00:00+01:00" and rows[-1]["end"] == "2026-03-30T00:00:00+02:00"
    values = [row["energy_import_kwh"] for row in rows]
    for kind in ("csv", "json", "xlsx", "parquet"):
        path = tmp_path / f"history.{kind}"
        done = _run(*asked, "--output", str(path))
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
        if kind == "csv":
            frame = pd.read_csv(path)
        elif kind == "json":
            frame = pd.DataFrame(json.loads(path.read_text()))
        elif kind == "xlsx":
            head, *body = _sheet(path)
            frame = pd.DataFrame(body, columns=head)
        else:
            frame = pq.read_table(path).to_pandas()
        assert frame["energy_import_kwh"].tolist() == values
    assert "Chiller" in _run(*asked).stdout
    token = tmp_path / "token"
    token.write_text(TOKEN)
    from_site = [one for one in asked if one not in ("--archive", str(followed))]
    live = _run(*from_site, "--url", url, "--token-file", str(token), "--no-recorder", "--json")
    assert [json.loads(line)["energy_import_kwh"] for line in live.stdout.splitlines()] == values, live.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--since", "2026-01-01"], 2, "where history is"),
        (["--archive", "HERE"], 2, "say since when"),
        (["--archive", "HERE", "--since", "2026-03-29", "--points", "Chilly"], 2, "no meter"),
        (["--archive", "HERE", "--since", "2026-03-29", "--until", "2026-03-28"], 2, "the period is empty"),
        (["--archive", "nowhere", "--since", "2026-03-29"], 1, "there is no archive"),
        (["--archive", "HERE", "--since", "2026-03-29", "--format", "xlsx"], 2, "needs a file"),
        (["--url", "http://127.0.0.1:9", "--since", "2026-03-29"], 2, "--token-file"),
        (["--archive", __file__, "--since", "2026-03-29"], 1, "is a file: an archive is a folder"),
        (["--archive", "HERE", "--since", "2020-01-01", "--until", "2020-02-01"], 1, "nothing is known of this period"),
        (["--archive", "HERE", "--since", "2026-03-29", "--output", "/no/x.pdf"], 2, "csv, xlsx, json, parquet"),
        (["--url", "http://127.0.0.1:9", "--token-file", sys.executable, "--since", "2026-03-29"], 2, "something else"),
    ],
)
def test_history_that_cannot_be_given_is_an_exit_code_and_words(followed: Path, arguments, code, words) -> None:
    arguments = [str(followed) if one == "HERE" else one for one in arguments]
    done = _run(sys.executable, "-m", "meter_batch_cli", "history", *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr


def _sheet(path: Path) -> list[list[object]]:
    """The cells of the first sheet, as far as they are texts or numbers."""
    space = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
    with zipfile.ZipFile(path) as file:
        sheet = ElementTree.fromstring(file.read("xl/worksheets/sheet1.xml"))
    rows = []
    for row in sheet.iter(f"{space}row"):
        cells: list[object] = []
        for cell in row.iter(f"{space}c"):
            place = ord(cell.get("r", "A")[0]) - ord("A")
            text = "".join(one.text or "" for one in cell.iter() if one.tag in (f"{space}v", f"{space}t"))
            cells += [None] * (place - len(cells)) + [text if cell.get("t") == "inlineStr" else float(text or "nan")]
        rows.append(cells)
    width = len(rows[0])
    return [row + [None] * (width - len(row)) for row in rows]


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1_400_000_000, 2_100_000_000),
    st.sampled_from(
        ["Europe/Berlin", "Asia/Shanghai", "America/Sao_Paulo", "Asia/Kolkata", "Australia/Lord_Howe", "UTC"]
    ),
    st.sampled_from([one for one in RESOLUTIONS if one != "interval"]),
)
def test_periods_are_those_of_the_ledger(seconds: int, name: str, resolution) -> None:
    zone = ZoneInfo(name)
    instant = datetime.fromtimestamp(seconds, UTC)
    begin = periods.begin_of(instant, resolution, zone)
    assert (begin, periods.end_of(begin, resolution, zone)) == period_of(instant, resolution, zone)


@pytest.mark.parametrize(
    ("zone", "told", "country"),
    [("Asia/Shanghai", None, "CN"), ("Asia/Shanghai", "DE", "DE"), ("Europe/Berlin", "CN", "CN"), (ZONE, None, None)],
)
def test_holidays_are_those_of_the_country_that_home_assistant_says(zone: str, told: str | None, country: str) -> None:
    site = Site(RegistrySnapshot({}, {}, {}, zone, 1, told), [])
    assert site.country == site.limited(frozenset()).country == country
