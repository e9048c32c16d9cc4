"""Reading an archive: rows or periods of points, streamed in slices of time, from roll-ups wherever they are true."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import ArchiveError
from ..periods import Resolution, edges
from .manifest import Manifest
from .merge import rows_of, tables_of_month
from .rollup import gathered
from .rows import Tables, milliseconds, ordered
from .schema import OTHER, PERIODS, ROLL_UP, TIME, VERSION
from .store import Archive, month_index

RETRIES = 3
"""Times that a reader looks again when the writer has replaced what it wanted to read."""

type Span = tuple[int, int]
"""Milliseconds since 1970, the end excluded."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """Which spans come from which level; they do not overlap."""

    rows: tuple[Span, ...]
    days: tuple[Span, ...] = ()
    months: tuple[Span, ...] = ()


def rows(
    archive: Archive,
    points: Sequence[str] | None,
    since: datetime,
    until: datetime,
    columns: Sequence[str] | None = None,
) -> Iterator[pa.Table]:
    """Intervals that start in `[since, until)`, by month, in each by point and start; about ten points a table."""
    span = (milliseconds(since), milliseconds(until))
    wanted = None if points is None else sorted(points)
    for name in _months_in(archive.manifest, span):
        for table in _month_rows(archive, name, wanted, [span], columns):
            if table.num_rows:
                yield table


def periods(
    archive: Archive,
    points: Sequence[str] | None,
    since: datetime,
    until: datetime,
    resolution: Resolution,
    zone: tzinfo | None = None,
) -> Iterator[pa.Table]:
    """Periods (`schema.PERIODS`) by slices of time, in each by point and start; each is given once, when complete.

    The first and last are of what lies in `[since, until)` only. Roll-ups are used where `zone` is the site's.
    """
    wanted = None if points is None else sorted(points)
    span = (milliseconds(since), milliseconds(until))
    site = archive.zone
    zone = site if zone is None else zone
    same_zone = getattr(zone, "key", None) == archive.manifest.time_zone
    plan = _plan(since, until, resolution, site) if same_zone else _Plan((span,))
    pending: list[pa.Table] = []
    years: dict[str, list[str]] = {}
    for name in _months_in(archive.manifest, span):
        years.setdefault(name[:4], []).append(name)
    for year, names in years.items():
        pending += _year(archive, plan, span, year, names, wanted, resolution, zone)
        done, pending = _complete(pending, int(year) + 1, resolution, zone)
        if done is not None:
            yield done
    if pending:
        yield gathered(ordered(pa.concat_tables(pending)), resolution, zone)


def _year(
    archive: Archive,
    plan: _Plan,
    span: Span,
    year: str,
    names: Sequence[str],
    points: Sequence[str] | None,
    resolution: Resolution,
    zone: tzinfo,
) -> list[pa.Table]:
    """Periods of a year's months, perhaps in parts."""
    found: list[pa.Table] = []
    roll_ups = archive.manifest.years.get(year)
    # Those of an older version lack something: their intervals do not.
    usable = roll_ups is not None and roll_ups.days.schema == VERSION
    whole = {one for one in names if usable and not archive.manifest.months[one].parts}
    clean = [month_index(one) for one in names if one in whole]
    for kind, spans in (("days", plan.days), ("months", plan.months)):
        if not spans or not clean:
            continue

        def read(kind: str = kind) -> pa.Table:
            roll_ups = archive.manifest.years[year]
            return archive.files.read(roll_ups.days if kind == "days" else roll_ups.months, ROLL_UP, points)

        table = _again(archive, read)
        table = table.filter(pc.is_in(table["month"], pa.array(clean, pa.int32())))
        table = _inside(table, spans).select(PERIODS.names)
        if table.num_rows:
            found.append(table)
    for name in names:
        left = plan.rows if name in whole else (span,)
        tables = _month_rows(archive, name, points, left, None)
        found += [gathered(table, resolution, zone) for table in tables if table.num_rows]
    return found


def _complete(
    pending: list[pa.Table], year: int, resolution: Resolution, zone: tzinfo
) -> tuple[pa.Table | None, list[pa.Table]]:
    """Of parts of periods, those that nothing of a later year can belong to, and the rest."""
    if not pending:
        return None, []
    whole = gathered(ordered(pa.concat_tables(pending)), resolution, zone)
    border = pa.scalar(milliseconds(datetime(year, 1, 1, tzinfo=UTC)), pa.int64())
    ends = pc.add(whole["start"].cast(pa.int64()), pc.multiply(whole["length_s"].cast(pa.int64()), 1000))
    over = pc.less_equal(ends, border)
    done, rest = whole.filter(over), whole.filter(pc.invert(over))
    return (done if done.num_rows else None), ([rest] if rest.num_rows else [])


def _plan(since: datetime, until: datetime, resolution: Resolution, zone: tzinfo) -> _Plan:
    """The largest whole periods of roll-ups first, rows for what is left at the ends."""
    span = (milliseconds(since), milliseconds(until))
    if resolution in ("interval", "hour"):
        return _Plan((span,))
    days = _whole(span, since, until, "day", zone)
    if days is None:
        return _Plan((span,))
    around = tuple(one for one in ((span[0], days[0]), (days[1], span[1])) if one[0] < one[1])
    months = _whole(days, since, until, "month", zone) if resolution in ("month", "year") else None
    if months is None:
        return _Plan(around, (days,))
    rest = tuple(one for one in ((days[0], months[0]), (months[1], days[1])) if one[0] < one[1])
    return _Plan(around, rest, (months,))


def _whole(span: Span, since: datetime, until: datetime, resolution: Resolution, zone: tzinfo) -> Span | None:
    """From the first to the last border of periods in a span."""
    borders = [int(one) for one in edges(since, until, resolution, zone) if span[0] <= one <= span[1]]
    return (borders[0], borders[-1]) if len(borders) > 1 else None


def _months_in(manifest: Manifest, span: Span) -> list[str]:
    first, last = (pa.scalar(one, pa.int64()).cast(TIME).as_py() for one in (span[0], span[1] - 1))
    return [
        name
        for name in sorted(manifest.months)
        if first.year * 12 + first.month <= month_index(name) + 1 <= last.year * 12 + last.month
    ]


def _month_rows(
    archive: Archive, name: str, points: Sequence[str] | None, spans: Sequence[Span], columns: Sequence[str] | None
) -> Iterator[pa.Table]:
    """The rows of a month in spans. What the writer replaces meanwhile is looked for again if nothing was given yet."""
    first = milliseconds(datetime(int(name[:4]), int(name[5:]), 1, tzinfo=UTC))
    last = first + 31 * 86_400_000
    spans = [one for one in spans if one[0] < last and one[1] > first]
    if not spans:
        return
    given = 0
    for attempt in range(RETRIES):
        month = archive.manifest.months.get(name)
        if month is None:
            return
        try:
            for number, table in enumerate(rows_of(archive.files, month, points, columns)):
                if number >= given:
                    given += 1
                    yield _inside(table, spans)
        except ArchiveError as error:
            if given or attempt == RETRIES - 1 or not isinstance(error.__cause__, FileNotFoundError):
                raise
            archive.refresh()
        else:
            return


def _again(archive: Archive, read: Callable[[], pa.Table]) -> pa.Table:
    for attempt in range(RETRIES):
        try:
            return read()
        except ArchiveError as error:
            if attempt == RETRIES - 1 or not isinstance(error.__cause__, FileNotFoundError):
                raise
            archive.refresh()
    raise AssertionError("the last attempt returns or raises")


def _inside(table: pa.Table, spans: Sequence[Span]) -> pa.Table:
    start = table["start"].cast(pa.int64()).to_numpy()
    if not len(start) or any(since <= start.min() and start.max() < until for since, until in spans):
        return table
    keep = np.zeros(len(start), bool)
    for since, until in spans:
        keep |= (start >= since) & (start < until)
    return table.filter(pa.array(keep))


def everything(archive: Archive) -> Iterator[Tables]:
    """All valid rows with the other registers that belong to them, by month and about ten points a step."""
    for name in sorted(archive.manifest.months):
        yield from tables_of_month(archive.files, archive.manifest.months[name])


def others(archive: Archive, points: Sequence[str], since: datetime, until: datetime) -> pa.Table:
    """Energies of the registers that have no column (`schema.OTHER`), of intervals that start in the period."""
    span = (milliseconds(since), milliseconds(until))
    found = [OTHER.empty_table()]
    wanted = sorted(points)
    for name in _months_in(archive.manifest, span):
        for _, other in tables_of_month(archive.files, archive.manifest.months[name], wanted):
            found.append(_inside(other, [span]))
    return pa.concat_tables(found)
