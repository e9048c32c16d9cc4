"""A ledger in a file of its own, and short ways to say registers at boundaries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from meter_batch_engine.ledger import Boundary, Ledger

IMPORT, EXPORT = "1-0:1.8.0", "1-0:2.8.0"
START = datetime(2026, 3, 2, tzinfo=UTC)
QUARTER = timedelta(minutes=15)


class Desk:
    """A ledger with a clock that stands where it is put; `at` counts quarters of an hour since `START`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = START
        self.ledger = self._opened()

    def _opened(self, **settings) -> Ledger:
        return Ledger(self.path, time_zone="Europe/Berlin", now=lambda: self.now, **settings)

    def reopen(self, **settings) -> Ledger:
        self.ledger.close()
        self.ledger = self._opened(**settings)
        return self.ledger

    def boundary(self, at: float, value: str | Decimal, point: str = "p", **more) -> Boundary:
        self.now = max(self.now, START + at * QUARTER)
        more.setdefault("meter", "m1")
        return Boundary(point, START + at * QUARTER, {IMPORT: Decimal(value)}, **more)

    def take(self, at: float, value: str | Decimal, point: str = "p", **more):
        restarts = more.pop("restarts", ())
        return self.ledger.take([self.boundary(at, value, point, **more)], restarts)

    def energies(self, point: str = "p") -> dict[int, Decimal]:
        """Import energy of every interval by quarter."""
        found = self.ledger.intervals([point], START - timedelta(days=400), START + timedelta(days=4000))
        return {(one.start - START) // QUARTER: one.energies[IMPORT] for one in found}

    def flags(self, point: str = "p") -> dict[int, set[str]]:
        found = self.ledger.intervals([point], START - timedelta(days=400), START + timedelta(days=4000))
        return {(one.start - START) // QUARTER: {str(flag) for flag in one.flags} for one in found}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path / "ledger.db")
    yield made
    made.ledger.close()


@pytest.fixture
def new_desk() -> Callable[[Path], Desk]:
    return Desk
