"""A writer to be killed: changes after changes into an archive, saying on stdout which revision may be acknowledged."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from meter_batch_analytics.archive.store import Archive
from meter_batch_engine.model.interval import Changes, Interval, Quality

POINTS = 12
START = datetime(2026, 1, 31, 20, tzinfo=UTC)
IMPORT = "1-0:1.8.0"


def batch(revision: int) -> list[Interval]:
    """What a revision says is a function of its number; every second one restates what the one before said."""
    start = START + timedelta(minutes=15) * (revision // 2 % 40)
    return [
        Interval(f"p{point}", start, 900, {IMPORT: Decimal(revision * point).scaleb(-2)},
                 frozenset({Quality.MEASURED}), revision, "poll", known_s=900)
        for point in range(POINTS)
    ]  # fmt: skip


def expected(revision: int) -> dict[tuple[str, datetime], Interval]:
    """What must be there once a revision is."""
    return {(one.point, one.start): one for number in range(1, revision + 1) for one in batch(number)}


def main(folder: Path) -> None:
    with Archive(folder, time_zone="Europe/Berlin", writing=True) as archive:
        revision = archive.cursor("archive").revision
        while True:
            revision += 1
            archive.take("archive", Changes(revision, batch(revision)))
            print(revision, flush=True)
            if revision % 5 == 0:
                archive.compact()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
