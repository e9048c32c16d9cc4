"""History from the ledger of a Home Assistant, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

import pyarrow as pa

from ..frame import from_intervals, ordered
from ..periods import Resolution
from .http import Api


class LedgerSource:
    """What the ledger knows, in its final form."""

    name = "ledger"

    def __init__(self, api: Api) -> None:
        self._api = api

    def tables(
        self,
        points: Sequence[str],
        since: datetime,
        until: datetime,
        resolution: Resolution,
        time_zone: str,
        keys: Sequence[str],
    ) -> Iterator[pa.Table]:
        """Frames, about one point and month each."""
        asked = {
            "points": list(points),
            "since": since.isoformat(),
            "until": until.isoformat(),
            "resolution": resolution,
            "time_zone": time_zone,
        }
        for intervals in self._api.history(asked):
            yield ordered(from_intervals(intervals, keys, self.name))
