"""`meter-batch ledger verify`: a ledger is proved whole, or what is wrong is named; nothing is changed."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from meter_batch_engine.ledger import Boundary, Ledger

from .conftest import Run, objects

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "ledger.db"
    with Ledger(made, now=lambda: BEGINNING) as ledger:
        ledger.take(
            Boundary("p", BEGINNING + one * timedelta(minutes=15), {"1-0:1.8.0": Decimal(one)}) for one in range(9)
        )
    return made


def test_a_whole_ledger_is_proved_and_left_as_it_is(meter_batch: Run, path: Path) -> None:
    before = path.read_bytes()
    done = meter_batch("ledger", "verify", str(path))
    assert done.returncode == 0 and "whole" in done.stdout and not done.stderr
    (found,) = objects(meter_batch("ledger", "verify", str(path), "--json"))
    assert (found["ok"], found["records"], found["intervals"], found["stretches"]) == (True, 9, 8, 8)
    assert path.read_bytes() == before


def test_a_copy_with_a_log_that_a_stopped_program_left_is_read_with_it(meter_batch: Run, path: Path) -> None:
    with Ledger(path, now=lambda: BEGINNING) as ledger:
        ledger.take([Boundary("p", BEGINNING + timedelta(hours=4), {"1-0:1.8.0": Decimal(20)})])
        copy = path.with_name("copy.db")
        copy.write_bytes(path.read_bytes())
        copy.with_name("copy.db-wal").write_bytes(path.with_name("ledger.db-wal").read_bytes())
    (found,) = objects(meter_batch("ledger", "verify", str(copy), "--json"))
    assert (found["ok"], found["records"]) == (True, 10)


def test_what_is_wrong_is_named_with_exit_code_1(meter_batch: Run, path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("UPDATE interval SET counts = '7' WHERE start = (SELECT min(start) FROM interval)")
    db.close()
    done = meter_batch("ledger", "verify", str(path))
    assert done.returncode == 1
    assert "the checksum is wrong" in done.stderr and "its intervals say 7e0" in done.stderr
    (found,) = objects(meter_batch("ledger", "verify", str(path), "--json"))
    assert not found["ok"] and found["failures"] == len(found["named"]) == 2


def test_a_ledger_in_use_no_file_and_another_file_are_refused_in_one_line(meter_batch: Run, path: Path) -> None:
    with Ledger(path, now=lambda: BEGINNING):
        done = meter_batch("ledger", "verify", str(path))
    assert done.returncode == 1 and "in use by another program" in done.stderr
    for name, said in (("none.db", "No such file"), ("text.db", "damaged"), ("empty.db", "it is empty")):
        other = path.with_name(name)
        if name == "empty.db":
            other.touch()
        if name == "text.db":
            other.write_bytes(b"no database, but long enough to look like one " * 20)
        done = meter_batch("ledger", "verify", str(other))
        assert done.returncode == 1 and said in done.stderr and str(other) in done.stderr
        assert done.stderr.count("\n") == 1
