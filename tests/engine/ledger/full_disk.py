"""A ledger on a disk that is really full: `python -m tests.engine.ledger.full_disk FOLDER mount|limit`.

A process of its own, because a limit is for all of a process, and a file system for all of a mount namespace.
Exit code 77 where no file system can be mounted here.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from meter_batch_engine.errors import LedgerError
from meter_batch_engine.ledger import Boundary, Ledger

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
IMPORT = "1-0:1.8.0"
POINTS = 200
KEPT = 10
"""Boundaries of all points that may wait in memory."""


def boundaries(number: int) -> list[Boundary]:
    at = BEGINNING + number * QUARTER
    return [Boundary(f"p{one}", at, {IMPORT: Decimal(number * one).scaleb(-2)}, meter="m") for one in range(POINTS)]


def main(folder: Path, how: str) -> int:
    if how == "mount":
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", folder], check=False)
        if done.returncode:
            return 77
        (folder / "ballast").write_bytes(bytes(8 << 20))
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, resource.RLIM_INFINITY))
    path = folder / "ledger.db"
    ledger = Ledger(path, now=lambda: BEGINNING, most_pending=KEPT * POINTS)
    number, failed = 0, 0
    while failed < KEPT + 5:
        try:
            ledger.take(boundaries(number))
            assert not failed, "it went on by itself"
            written = number
        except LedgerError as error:
            failed += 1
            problem = error.text
        number += 1
        assert number < 1000, "the disk is never full"
    health = ledger.health
    assert health.pending == KEPT * POINTS and health.dropped == 5 * POINTS, health
    assert health.problem == problem
    assert problem.key == "ledger_disk_full" if how == "mount" else "ledger_unavailable", problem
    assert ledger.verify().ok, ledger.verify().named
    assert ledger.latest("p7").end == BEGINNING + written * QUARTER
    if how == "mount":
        (folder / "ballast").unlink()
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    ledger.take(boundaries(number))
    assert ledger.health.pending == 0 and ledger.health.problem is None
    assert ledger.verify().ok, ledger.verify().named
    for point in range(POINTS):
        found = ledger.intervals([f"p{point}"], BEGINNING, BEGINNING + timedelta(days=100))
        assert sum(one.energies[IMPORT] for one in found) == Decimal(number * point).scaleb(-2)
    gaps = ledger.gaps()
    assert {(gap.reason.value, gap.missing) for gap in gaps} == {("dropped", 7)} and len(gaps) == POINTS, gaps[:3]
    ledger.close()
    if how == "mount":
        fill(folder / "ballast")
    with Ledger(path, now=lambda: BEGINNING) as again:
        assert again.verify().ok, "it opens and can be read though there is no room"
    print(f"all caught up after {failed} failures at boundary {written}")
    return 0


def fill(path: Path) -> None:
    """Takes all the room there is."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
