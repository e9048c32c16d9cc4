"""A report is in its folder as a whole or not at all; only who may see its points sees it; old ones make room."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from meter_batch_analytics.errors import ReportError
from meter_batch_analytics.report.store import Report, ReportStore

from . import example_facts


def files(*names: str, size: int = 10):
    def make(folder: Path) -> list[Path]:
        found = []
        for name in names:
            (folder / name).write_bytes(b"x" * size)
            found.append(folder / name)
        return found

    return make


def kept(store: ReportStore, **more) -> Report:
    facts = more.pop("facts", None) or example_facts.monthly()
    return store.keep(facts, "Energy, October 2026", more.pop("language", "en"), files("a.pdf", "a.xlsx"), **more)


def on_disk(folder: Path) -> set[str]:
    return {one.name for one in folder.iterdir()} if folder.exists() else set()


def test_a_report_is_kept_and_found_again(tmp_path: Path) -> None:
    store = ReportStore(tmp_path / "reports")
    assert store.list() == []
    report = kept(store, schedule="Month", by="王芳")
    assert store.list() == [report] == [store.get(report.id)]
    assert [(one.name, one.format, one.size) for one in report.files] == [("a.pdf", "pdf", 10), ("a.xlsx", "xlsx", 10)]
    for one in report.files:
        assert hashlib.sha256(store.path(report.id, one.name).read_bytes()).hexdigest() == one.sha256
    assert store.facts(report.id) == example_facts.monthly()
    said = json.loads(json.dumps(report.as_dict()))
    assert said["facts"]["kwh"] == "128640.48" and said["facts"]["currency"] == "CNY" and said["points"] is None
    assert set(said) >= {
        "id", "kind", "period", "title", "language", "made_at", "points", "files", "schedule", "by", "completeness",
        "facts",
    }  # fmt: skip
    assert store.delete(report.id) and store.list() == [] and not store.delete(report.id)
    assert on_disk(store.folder) == set()


def test_whatever_fails_while_it_is_made_nothing_is_left(tmp_path: Path) -> None:
    store = ReportStore(tmp_path / "reports")
    before = kept(store)

    def broken(folder: Path) -> list[Path]:
        files("a.pdf")(folder)
        raise ReportError("the notebook raised")

    for make, said in ((broken, "the notebook raised"), (lambda folder: [folder / "none.pdf"], "none.pdf")):
        with pytest.raises(ReportError, match=said):
            store.keep(example_facts.monthly(), "t", "en", make)
        assert on_disk(store.folder) == {before.id}


def test_on_a_full_disk_it_says_so_and_nothing_is_half_there(tmp_path: Path) -> None:
    code = f"""
import resource, signal, sys
from pathlib import Path
sys.path[:0] = {[str(Path(__file__).parent)]!r}
from meter_batch_analytics.errors import ReportError
from meter_batch_analytics.report.store import ReportStore
import example_facts
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = ReportStore(Path({str(tmp_path / "reports")!r}))
def make(folder):
    (folder / "a.pdf").write_bytes(bytes(1000))
    return [folder / "a.pdf"]
first = store.keep(example_facts.monthly(), "t", "en", make)
# The files of the report fit, its facts do not.
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
try:
    store.keep(example_facts.monthly(), "t", "en", make)
except ReportError as error:
    print(error)
assert [one.id for one in store.list()] == [first.id]
assert [one.name for one in store.folder.iterdir()] == [first.id], list(store.folder.iterdir())
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.keep(example_facts.monthly(), "t", "en", make)
assert len(store.list()) == 2
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "the disk is full" in done.stdout and "make room" in done.stdout


def test_what_a_killed_process_left_is_not_listed_and_goes_after_a_day(tmp_path: Path) -> None:
    store = ReportStore(tmp_path / "reports")
    report = kept(store)
    half = store.folder / f".begun-{report.id}"
    half.mkdir()
    (half / "report.json").write_text("{}")
    assert store.list() == [report]
    other = kept(store)
    assert half.name in on_disk(store.folder)  # another process may still be at it
    os.utime(half, (0, 0))
    third = kept(store)
    assert on_disk(store.folder) == {report.id, other.id, third.id}


def test_a_damaged_report_hides_no_other_and_is_named_when_asked_for(tmp_path: Path) -> None:
    store = ReportStore(tmp_path / "reports")
    one, two = kept(store), kept(store)
    (store.folder / one.id / "report.json").write_text('{"version": 1')
    assert store.list() == [two]
    with pytest.raises(ReportError, match=f"{one.id}.*damaged"):
        store.get(one.id)
    assert store.delete(one.id)


@pytest.mark.parametrize("id_", ["..", "../reports", "a/b", "", ".begun-x", "nothing", "/etc"])
def test_nothing_outside_the_folder_can_be_asked_for(id_: str, tmp_path: Path) -> None:
    store = ReportStore(tmp_path / "reports")
    report = kept(store)
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(ReportError, match="there is no report"):
        store.get(id_)
    assert not store.delete(id_)
    with pytest.raises(ReportError, match="has no file"):
        store.path(report.id, "../../report.json")
    assert store.list() == [report]


def test_only_who_may_see_all_its_points_sees_a_report(tmp_path: Path) -> None:
    store = ReportStore(tmp_path / "reports")
    whole = kept(store)
    some = kept(store, facts=replace(example_facts.monthly(), chosen=("office", "press")))
    assert {one.id for one in store.list(None)} == {whole.id, some.id}
    assert [one.id for one in store.list(frozenset({"office", "press", "main"}))] == [some.id]
    assert store.list(frozenset({"office"})) == []


def test_of_a_schedule_only_the_newest_stay_and_a_period_is_there_once(tmp_path: Path) -> None:
    store = ReportStore(tmp_path / "reports")
    by_hand = kept(store)
    other = kept(store, schedule="Other", most=2)
    base = example_facts.monthly()
    for month in ("2026-07", "2026-08", "2026-09", "2026-08", "2026-10"):
        base = replace(base, period=month, made_at=base.made_at + timedelta(hours=1))
        for language in ("en", "zh-Hans"):
            kept(store, facts=base, schedule="Month", most=3, language=language)
    mine = [(one.period, one.language) for one in store.list() if one.schedule == "Month"]
    assert sorted(mine) == [
        (month, tongue) for month in ("2026-08", "2026-09", "2026-10") for tongue in ("en", "zh-Hans")
    ]
    assert {by_hand.id, other.id} <= {one.id for one in store.list()}
