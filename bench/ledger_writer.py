"""A writer to be killed: boundary after boundary into a ledger, saying on stdout which one is acknowledged.

What each boundary holds is a function of its number, so whoever opens the file afterwards can tell what must be there.
One point is silent for five boundaries of eight; they come afterwards, from its memory and in one go, over what was
estimated meanwhile: the long way is cut off in the middle as well.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from meter_batch_engine.ledger import Boundary, Ledger, Verdict

POINTS = 20
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
IMPORT = "1-0:1.8.0"
ROUND, SILENT = 8, 5


@dataclass(frozen=True)
class Judged:
    """What was found in the file after a cut."""

    last: int
    """The newest boundary that is there for all points, −1 without any."""
    intervals: int
    expected: int
    reopen_s: float
    verdict: Verdict


def boundary(point: int, number: int, source: str = "poll") -> Boundary:
    value = Decimal(1000 + number * (point + 1)).scaleb(-2)
    return Boundary(f"p{point}", BEGINNING + number * QUARTER, {IMPORT: value}, meter="m", source=source)  # type: ignore[arg-type]


def write(path: Path) -> None:
    """Goes on where the file ends, until it is killed."""
    with Ledger(path, now=lambda: BEGINNING) as ledger:
        number = _next(ledger)
        while True:
            silent = number % ROUND in range(1, 1 + SILENT)
            ledger.take([boundary(point, number) for point in range(POINTS - silent)])
            if number > ROUND and number % ROUND == ROUND - 1:
                ledger.take([boundary(POINTS - 1, one, "memory") for one in range(number - SILENT - 1, number)])
            print(number, flush=True)
            number += 1


def _next(ledger: Ledger) -> int:
    newest = ledger.latest("p0") if "p0" in ledger.points else None
    return 0 if newest is None else (newest.end - BEGINNING) // QUARTER


def check(path: Path) -> Judged:
    """Opens a file that was cut off, and looks at all of it."""
    began = time.perf_counter()
    ledger = Ledger(path, now=lambda: BEGINNING)
    reopen_s = time.perf_counter() - began
    with ledger:
        ends, counted, expected = [], 0, 0
        for point in range(POINTS):
            if f"p{point}" not in ledger.points:
                ends.append(-1)
                continue
            found = ledger.intervals([f"p{point}"], BEGINNING, BEGINNING + timedelta(days=3000))
            energy = sum((one.energies[IMPORT] for one in found), Decimal(0))
            counted += len({one.start for one in found})
            end = (found[-1].end - BEGINNING) // QUARTER if found else 0
            expected += end
            ends.append(end + SILENT if point == POINTS - 1 else end)
            if energy != Decimal(end * (point + 1)).scaleb(-2) or len(found) != end:
                expected += 1
        return Judged(min(ends), counted, expected, reopen_s, ledger.verify())


if __name__ == "__main__":
    write(Path(sys.argv[1]))
