"""Nothing that was acknowledged is lost, nothing is half there: kill -9, full disk, other programs, wrong clocks."""

from __future__ import annotations

import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from meter_batch_engine.errors import LedgerError
from meter_batch_engine.ledger import Ledger
from meter_batch_engine.sentences import Sentence

ROOT = Path(__file__).resolve().parents[3]
QUARTER = timedelta(minutes=15)
KILLS = 20


def test_kill_9_between_any_two_steps_loses_nothing_acknowledged_and_doubles_nothing(tmp_path):
    from bench.ledger_writer import check

    chance = random.Random(9)
    path = tmp_path / "ledger.db"
    acknowledged = 0
    for _ in range(KILLS):
        command = [sys.executable, "-m", "bench.ledger_writer", str(path)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            began = process.stdout.readline()
            assert began, "the writer did not start"
            time.sleep(chance.uniform(0, 0.03))
            process.send_signal(signal.SIGKILL)
            rest = (began + process.stdout.read()).splitlines(keepends=True)
        acknowledged = max([acknowledged, *(int(one) for one in rest if one.endswith("\n"))])
        judged = check(path)
        assert judged.last >= acknowledged, "an acknowledged boundary is lost"
        assert judged.verdict.ok, judged.verdict.named
        assert judged.intervals == judged.expected, "an interval is missing or there twice"
        assert judged.reopen_s <= 0.5
    assert acknowledged > KILLS


def test_a_full_disk_is_told_in_words_changes_nothing_and_is_caught_up_with(desk):
    for at in range(5):
        desk.take(at, at)
    pages = desk.ledger._store.db.execute("PRAGMA page_count").fetchone()[0]
    desk.ledger._store.db.execute(f"PRAGMA max_page_count = {pages}")
    wide = [[desk.boundary(at, at, f"p{number}") for number in range(900)] for at in (5, 6, 7)]
    before = desk.ledger.revision
    for batch in wide:
        with pytest.raises(LedgerError, match="is full") as full:
            desk.ledger.take([desk.boundary((batch[0].at - wide[0][0].at) // QUARTER + 5, 5), *batch])
        assert isinstance(full.value.text, Sentence)
    assert desk.ledger.revision == before and desk.ledger.verify().ok
    assert desk.ledger.health.pending == 3 * 901 and desk.ledger.health.problem == full.value.text
    assert len(desk.energies()) == 4
    desk.ledger._store.db.execute("PRAGMA max_page_count = 1000000")
    desk.take(8, 8)
    assert desk.ledger.health.pending == 0 and desk.ledger.health.problem is None
    assert desk.energies("p899") == {5: 1, 6: 1}
    assert sum(desk.energies().values()) == 8
    assert desk.ledger.verify().ok


def test_a_really_full_disk_is_told_and_caught_up_with(tmp_path):
    """On a file system of a few hundred kilobytes where we may mount one, else with a limit on the file's size."""
    script = [sys.executable, "-m", "tests.engine.ledger.full_disk", str(tmp_path)]
    mounted = subprocess.run(
        ["unshare", "-rm", *script, "mount"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if (mounted.returncode in (1, 77) and "unshare" in mounted.stderr) or mounted.returncode == 77:
        mounted = subprocess.run([*script, "limit"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert mounted.returncode == 0, mounted.stdout + mounted.stderr
    assert "all caught up" in mounted.stdout


def test_what_waits_in_memory_is_bounded_and_what_is_dropped_is_counted_and_becomes_a_gap(desk):
    ledger = desk.reopen(most_pending=3)
    desk.take(0, 0)
    ledger._store.db.execute("PRAGMA max_page_count = 1")
    ledger._store.db.execute("PRAGMA query_only = ON")
    for at in range(1, 7):
        with pytest.raises(LedgerError):
            desk.take(at, at)
    assert (ledger.health.pending, ledger.health.dropped) == (3, 3)
    ledger._store.db.execute("PRAGMA query_only = OFF")
    ledger._store.db.execute("PRAGMA max_page_count = 1000000")
    ledger.flush()
    assert sum(desk.energies().values()) == 6
    (gap,) = ledger.gaps()
    assert (gap.reason, gap.missing) == ("dropped", 4)


def test_one_program_opens_it_and_the_next_is_told_so(desk):
    with pytest.raises(LedgerError, match="in use by another program"):
        Ledger(desk.path)
    desk.take(0, 0)
    desk.reopen()


def test_a_database_that_somebody_else_has_locked_is_told_and_opens_once_it_is_free(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "meter_batch_engine.ledger.store.Store.__init__.__kwdefaults__", {"wait_s": 0.05}, raising=False
    )
    path = tmp_path / "ledger.db"
    Ledger(path).close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    began = time.monotonic()
    with pytest.raises(LedgerError, match="in use"):
        Ledger(path)
    assert time.monotonic() - began < 5
    other.execute("ROLLBACK")
    other.close()
    Ledger(path).close()


def test_while_it_is_open_nobody_can_lock_it(desk):
    desk.take(0, 0)
    other = sqlite3.connect(desk.path, isolation_level=None, timeout=0)
    for statement in ("BEGIN EXCLUSIVE", "SELECT * FROM point", "PRAGMA wal_checkpoint(TRUNCATE)"):
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute(statement)
    other.close()
    desk.take(1, 1)
    assert desk.ledger.verify().ok


def test_whoever_reads_the_file_meanwhile_does_not_take_our_lock_away(desk):
    desk.take(0, 0)
    desk.path.read_bytes()
    with pytest.raises(LedgerError, match="in use"):
        Ledger(desk.path)


def test_a_copy_is_whole_while_the_ledger_goes_on(desk, tmp_path, new_desk):
    for at in range(5):
        desk.take(at, at)
    desk.ledger.copy_to(tmp_path / "copy.db")
    desk.take(5, 5)
    other = new_desk(tmp_path / "copy.db")
    assert len(other.energies()) == 4 and other.ledger.verify().ok
    other.ledger.close()


def test_damage_is_found_wherever_a_value_is_changed_or_a_row_is_gone(desk, tmp_path):
    for at in range(5):
        desk.take(at, at)
    desk.ledger.close()
    changes = [
        "UPDATE interval SET counts = '2' WHERE start = (SELECT min(start) FROM interval)",
        "UPDATE raw SET registers = '9' WHERE boundary = (SELECT max(boundary) FROM raw)",
        "DELETE FROM interval WHERE start = (SELECT max(start) FROM interval)",
        "UPDATE interval SET factor = '2'",
        "DELETE FROM raw WHERE boundary = (SELECT min(boundary) FROM raw)",
    ]
    for number, change in enumerate(changes):
        path = tmp_path / f"{number}.db"
        shutil.copy(desk.path, path)
        with sqlite3.connect(path) as db:
            db.execute(change)
        db.close()
        with Ledger(path) as ledger:
            verdict = ledger.verify()
            assert not verdict.ok and verdict.named, change
    desk.ledger = Ledger(desk.path)
    assert desk.ledger.verify().ok


def test_files_that_are_not_ours_or_newer_are_refused_and_left_alone(tmp_path):
    text = tmp_path / "text.db"
    text.write_bytes(b"this is no database at all, but it is long enough to look like one " * 20)
    with pytest.raises(LedgerError, match="damaged"):
        Ledger(text)
    foreign = tmp_path / "foreign.db"
    with sqlite3.connect(foreign) as db:
        db.execute("CREATE TABLE theirs (x)")
    db.close()
    with pytest.raises(LedgerError, match="another program's"):
        Ledger(foreign)
    newer = tmp_path / "newer.db"
    Ledger(newer).close()
    with sqlite3.connect(newer) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(LedgerError, match="newer version"):
        Ledger(newer)
    with pytest.raises(LedgerError, match="cannot be used"):
        Ledger(tmp_path / "no" / "folder.db")


def test_the_same_once_more_changes_nothing_and_is_no_new_revision(desk):
    records = [desk.boundary(at, at) for at in (0, 1, 2, 5, 6)]
    desk.ledger.take(records)
    before, size = desk.ledger.revision, desk.energies()
    for again in (records, records[::-1], records[2:3], [*records, *records]):
        assert desk.ledger.take(again).records == 0
    desk.reopen().take(records)
    assert desk.ledger.revision == before and desk.energies() == size


def test_a_clock_that_was_in_the_future_is_taken_back_and_real_time_goes_on(desk):
    for at in range(4):
        desk.take(at, at)
    desk.take(4000, 4)
    desk.take(4001, 5)
    for at, value in ((6, 6), (7, 7)):
        desk.take(at, value)
    assert sum(desk.energies().values()) == 7 and max(desk.energies()) == 6
    assert desk.ledger.latest("p").energies["1-0:1.8.0"] == 1
    desk.reopen()
    desk.take(8, 8)
    assert sum(desk.energies().values()) == 8
    assert desk.ledger.verify().ok, desk.ledger.verify().named


def test_a_clock_that_steps_back_a_little_loses_and_doubles_nothing(desk):
    for at in range(6):
        desk.take(at, at)
    desk.take(3, 6)
    desk.take(4, 7)
    desk.take(5, 8)
    desk.take(6, 9)
    assert sum(desk.energies().values()) == 9
    assert desk.ledger.verify().ok, desk.ledger.verify().named


@pytest.mark.parametrize("seed", range(25))
def test_a_clock_that_steps_back_and_forth_again_and_again_loses_and_doubles_nothing(desk, seed):
    chance = random.Random(seed)
    at, register, ran = 1, 0, 0
    desk.take(0, register)
    for _ in range(60):
        match chance.random():
            case one if one < 0.05:
                at = max(1, at - chance.randrange(1, 8))
            case one if one < 0.1:
                at += chance.choice([3, 40, 400])
            case _:
                at += 1
        register += chance.randrange(1, 9)
        desk.take(at, register)
        ran = max(ran, at)
    # At last it stays right.
    for _ in range(3):
        ran, register = ran + 1, register + 1
        desk.take(ran, register)
    assert desk.ledger.verify().ok, desk.ledger.verify().named
    assert sum(desk.energies().values()) == register
    assert desk.ledger.latest("p").energies["1-0:1.8.0"] == 1


def test_a_clock_that_was_never_set_writes_no_history(desk):
    desk.take(0, 0)
    assert desk.take(-96 * 365 * 20, 1).refused == 1
    for at in range(1, 30):
        desk.take(at, at)
    told = desk.take(-400, 31)
    assert told.unused == 1 and told.intervals == 0
    desk.take(30, 32)
    assert sum(desk.energies().values()) == 32 and desk.ledger.verify().ok


def test_years_of_silence_are_filled_for_the_last_of_them_only(desk):
    desk.take(0, 0)
    told = desk.take(96 * 365 * 3, 1000)
    assert told.intervals == 24 * 400
    assert sum(desk.energies().values()) == 1000 and desk.ledger.verify().ok


def test_a_register_read_far_too_late_gives_way_to_one_from_memory(desk):
    desk.take(0, 0)
    desk.take(1, "1.4", skew_s=400.0)
    desk.take(2, 2)
    desk.take(1, 1, source="memory")
    assert desk.energies() == {0: 1, 1: 1}
    told = desk.take(2, "1.9", source="memory")
    assert told.unused == 1 and desk.energies() == {0: 1, 1: 1}
    assert desk.ledger.verify().ok


def test_a_value_that_does_not_fit_between_its_neighbours_is_evidence_only(desk):
    desk.take(0, 10)
    desk.take(4, 14)
    for value in (9, 15):
        assert desk.take(2, value, source="memory").unused == 1
    assert desk.take(2, 12, source="memory").intervals == 4
    assert desk.ledger.verify().ok


def test_a_file_of_the_form_before_is_brought_to_this_one_and_goes_on(desk):
    for at in (0, 1, 5):
        desk.take(at, at)
    desk.take(-9, -9 + 9, source="memory")
    desk.ledger.subscribe("archive", since_revision=2)
    before = desk.energies()
    desk.ledger.close()
    with sqlite3.connect(desk.path) as db:
        for table, column in (("point", "first"), ("point", "live"), ("subscriber", "part")):
            db.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        db.execute("PRAGMA user_version = 1")
    db.close()
    desk.ledger = Ledger(desk.path)
    assert desk.energies() == before and desk.ledger.verify().ok
    assert desk.ledger.subscribers() == {"archive": 2}
    assert [str(gap.reason) for gap in desk.ledger.gaps()] == ["before", "host"]
    (hole, _) = desk.ledger.holes("p", desk.boundary(-20, 0).at)
    assert (hole.start, hole.end) == (desk.boundary(-20, 0).at, desk.boundary(0, 0).at)
    desk.take(6, 6)
    assert sum(desk.energies().values()) == sum(before.values()) + 1
