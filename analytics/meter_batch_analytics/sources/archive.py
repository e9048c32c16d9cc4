"""History from an archive on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa

from meter_batch_engine.ledger.virtual import combine
from meter_batch_engine.model.interval import Interval
from meter_batch_engine.model.point import Point
from meter_batch_engine.model.quantity import BY_KEY

from ..archive import read
from ..archive.rows import intervals_from
from ..archive.schema import CODES, TIME
from ..archive.store import Archive
from ..frame import from_archive, from_intervals
from ..periods import Resolution, edges, zone_of
from .sums import Sums, sums


class ArchiveSource:
    """What the archive keeps; read by slices of time. Virtual points are worked out from their parts."""

    name = "archive"

    def __init__(self, archive: Archive, points: Mapping[str, Point]) -> None:
        """`points`: the site's, for what virtual ones are made of."""
        self._archive, self._points = archive, points

    def tables(
        self,
        points: Sequence[str],
        since: datetime,
        until: datetime,
        resolution: Resolution,
        time_zone: str,
        keys: Sequence[str],
    ) -> Iterator[pa.Table]:
        """Frames by slices of time, in each by point and start."""
        zone = zone_of(time_zone)
        virtual = [one for one in points if one in self._points and self._points[one].virtual]
        for one in virtual:
            found = self._combined(self._points[one], since, until, resolution, zone)
            if found:
                yield from_intervals(found, keys, self.name)
        points = [one for one in points if one not in virtual]
        beside = [key for key in keys if key not in CODES.values()]
        if resolution == "interval":
            tables = read.rows(self._archive, points, since, until)
        else:
            tables = read.periods(self._archive, points, since, until, resolution, zone)
        others = self._others(points, since, until, resolution, time_zone, beside) if beside else None
        for table in tables:
            yield from_archive(table, keys, others)

    def sums(
        self,
        groups: Sequence[Sequence[str]],
        since: datetime,
        until: datetime,
        progress: Callable[[float], None] = lambda _: None,
    ) -> Iterator[Sums]:
        """Imported energy of intervals summed over groups of points (`sums.sums`); virtual ones as their parts."""
        terms = []
        for group in groups:
            counted: dict[str, int] = {}
            for point in group:
                for part, sign in self._terms(point).items():
                    counted[part] = counted.get(part, 0) + sign
            terms.append({part: times for part, times in counted.items() if times})
        yield from sums(self._archive, terms, since, until, progress=progress)

    def _terms(self, point: str) -> dict[str, int]:
        """The measured points whose sum a point is, with their signs; of a measured one itself."""
        known = self._points.get(point)
        if known is None or not known.virtual:
            return {point: 1}
        found: dict[str, int] = {}
        for term in known.formula:
            for part, sign in self._terms(term.point).items():
                found[part] = found.get(part, 0) + sign * term.sign
        return found

    def _combined(
        self, point: Point, since: datetime, until: datetime, resolution: Resolution, zone: ZoneInfo
    ) -> list[Interval]:
        parts: list[Interval] = []
        for term in point.formula:
            part = self._points.get(term.point)
            if part is not None and part.virtual:
                parts += self._combined(part, since, until, resolution, zone)
            elif resolution == "interval":
                for table in read.rows(self._archive, [term.point], since, until):
                    parts += intervals_from(table)
            else:
                for table in read.periods(self._archive, [term.point], since, until, resolution, zone):
                    parts += intervals_from(table)
        return combine(point.id, point.formula, parts)

    def _others(
        self,
        points: Sequence[str],
        since: datetime,
        until: datetime,
        resolution: Resolution,
        time_zone: str,
        keys: Sequence[str],
    ) -> pa.Table | None:
        """Sums of energies that have no column, exact, then as numbers: point, start, key, value."""
        table = read.others(self._archive, points, since, until)
        if not table.num_rows:
            return None
        starts = table["start"].cast(pa.int64()).to_numpy()
        if resolution != "interval":
            borders = edges(since, until, resolution, zone_of(time_zone))
            starts = borders[np.searchsorted(borders, starts, side="right") - 1]
        wanted = {BY_KEY[key].obis: key for key in keys}
        sums: dict[tuple[str, int, str], Decimal] = {}
        columns = (table[name].to_pylist() for name in ("point", "register", "count", "exponent", "text"))
        for start, point, register, count, exponent, text in zip(starts.tolist(), *columns, strict=True):
            if (key := wanted.get(register)) is not None:
                value = Decimal(count).scaleb(exponent) if text is None else Decimal(text)
                sums[point, start, key] = sums.get((point, start, key), Decimal(0)) + value
        return pa.table(
            {
                "point": [point for point, _, _ in sums],
                "start": pa.array([start for _, start, _ in sums], pa.int64()).cast(TIME),
                "key": [key for _, _, key in sums],
                "value": [float(value) for value in sums.values()],
            }
        )
