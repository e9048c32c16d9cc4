"""History from Home Assistant's recorder: hourly statistics, over its WebSocket API. What only they know.

Nobody vouches for these values as the ledger does for its own: they have no flags, and their completeness is 0.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import batched
from typing import Any

import numpy as np
import pyarrow as pa

from meter_batch_engine.model.interval import Interval
from meter_batch_engine.model.quantity import BY_KEY

from ..archive.rollup import at
from ..frame import from_intervals
from ..periods import Resolution, edges, zone_of
from .http import Api
from .socket import command

IDS_AT_ONCE = 200
HOUR = timedelta(hours=1)


class RecorderSource:
    """Energies by the hour, or by longer periods made of hours."""

    name = "recorder"

    def __init__(self, api: Api, *, timeout_s: float = 60.0) -> None:
        self._api, self._timeout = api, timeout_s

    def tables(
        self,
        points: Sequence[str],
        since: datetime,
        until: datetime,
        resolution: Resolution,
        time_zone: str,
        keys: Sequence[str],
    ) -> Iterator[pa.Table]:
        """Frames; hours where intervals are asked for."""
        borders = None if resolution in ("interval", "hour") else edges(since, until, resolution, zone_of(time_zone))
        ids = {statistic_id(point, key): (point, key) for point in points for key in keys}
        for some in batched(ids, IDS_AT_ONCE, strict=False):
            found = _apart(self._statistics(some, since, until))
            sums: dict[tuple[str, int], dict[str, float]] = {}
            hours: dict[tuple[str, int], set[int]] = {}
            for id_, rows in found.items():
                point, key = ids[id_]
                for row in rows:
                    if (change := row.get("change")) is None:
                        continue
                    place = int(row["start"])
                    if borders is not None:
                        place = int(borders[np.searchsorted(borders, place, side="right") - 1])
                    hours.setdefault((point, place), set()).add(int(row["start"]))
                    energies = sums.setdefault((point, place), {})
                    energies[key] = energies.get(key, 0.0) + change
            yield from_intervals(self._intervals(sums, hours, borders), keys, self.name)

    @staticmethod
    def _intervals(
        sums: Mapping[tuple[str, int], Mapping[str, float]], hours: Mapping[tuple[str, int], set[int]], borders: Any
    ) -> Iterator[Interval]:
        for (point, start), energies in sorted(sums.items()):
            length = 3600
            if borders is not None:
                length = int(borders[np.searchsorted(borders, start) + 1] - start) // 1000
            uncovered = length - 3600 * len(hours[point, start])
            values: dict[str, Any] = {BY_KEY[key].obis: round(value, 6) for key, value in energies.items()}
            yield Interval(point, at(start), length, values, frozenset(), source="statistics", uncovered_s=uncovered)

    async def _statistics(
        self, ids: Sequence[str], since: datetime, until: datetime
    ) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = await command(
            self._api,
            {
                "type": "recorder/statistics_during_period",
                "start_time": since.isoformat(),
                "end_time": until.isoformat(),
                "statistic_ids": list(ids),
                "period": "hour",
                "types": ["change"],
            },
            timeout_s=self._timeout,
        )
        return found


def statistic_id(point: str, key: str) -> str:
    """The external statistic of an energy register of a point."""
    return f"meter_batch:{point}_{key}"


def _apart[T](work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end, also where an event loop is running already, as in a notebook."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
