"""Archives in folders of their own, and short ways to say intervals."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from meter_batch_analytics.archive.read import everything
from meter_batch_analytics.archive.rows import intervals_from
from meter_batch_analytics.archive.store import Archive
from meter_batch_engine.model.interval import Changes, Interval, Quality

IMPORT, EXPORT, TARIFF = "1-0:1.8.0", "1-0:2.8.0", "1-0:1.8.1"
START = datetime(2026, 1, 30, 22, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
ZONE = "Europe/Berlin"


def interval(number: int, energy: str | Decimal = "1.25", point: str = "p", **more: object) -> Interval:
    """The quarter of an hour with this number since `START`."""
    energies = {IMPORT: Decimal(energy)} | more.pop("energies", {})  # type: ignore[operator]
    flags = frozenset({Quality(str(more.pop("flag", "measured")))})
    known = 900 if flags & {Quality.MEASURED, Quality.METER_MEMORY, Quality.EDITED} else 0
    fields = {"revision": 1, "source": "poll", "skew_s": 2.0, "known_s": known, "parts": (int(known > 0), 1)} | more
    fields |= {"demand_max_kw": 6.125, "voltage_min_v": 228.5, "voltage_mean_v": 230.1, "voltage_max_v": 231.4}
    return Interval(point, START + number * QUARTER, 900, energies, flags, power_factor=0.953, **fields)  # type: ignore[arg-type]


def changes(revision: int, intervals: Iterable[Interval]) -> Changes:
    return Changes(revision, list(intervals))


def kept(archive: Archive) -> dict[tuple[str, datetime], Interval]:
    """Everything that is in an archive; two rows of one interval are a failure."""
    found: dict[tuple[str, datetime], Interval] = {}
    for rows, other in everything(archive):
        for one in intervals_from(rows, other):
            assert (one.point, one.start) not in found
            found[one.point, one.start] = one
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "archive"


@pytest.fixture
def archive(folder: Path):
    with Archive(folder, time_zone=ZONE, writing=True) as made:
        yield made
