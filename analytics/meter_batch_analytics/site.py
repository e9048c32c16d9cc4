"""A site as an analyst sees it: its points, and their history as one frame, wherever it is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from meter_batch_engine.errors import ConfigError
from meter_batch_engine.model.day import country_of
from meter_batch_engine.model.point import InstalledMeter, Point, Term
from meter_batch_engine.wire import RegistrySnapshot

from .archive.keys import KeyProvider
from .archive.store import Archive
from .frame import ordered, precedence, quantities_of, schema_of, to_pandas
from .periods import Resolution, edges, resolution_of, zone_of
from .sources.archive import ArchiveSource
from .sources.http import Api
from .sources.ledger import LedgerSource
from .sources.recorder import RecorderSource
from .sources.sums import Sums

_WINDOW: dict[Resolution, int] = {"interval": 7, "hour": 24 * 31, "day": 366, "week": 53, "month": 120, "year": 100}
"""Periods (for intervals: days) that are read in one go; of 1,000 points some hundred thousand rows."""


class Source(Protocol):
    """Where history comes from."""

    name: str

    def tables(
        self,
        points: Sequence[str],
        since: datetime,
        until: datetime,
        resolution: Resolution,
        time_zone: str,
        keys: Sequence[str],
    ) -> Iterator[pa.Table]:
        """Frames of what it has of a period."""


class Site:
    """The points of a site and their history."""

    def __init__(
        self, registry: RegistrySnapshot, sources: Sequence[Source], *, now: Callable[[], datetime] | None = None
    ) -> None:
        self._registry, self._sources = registry, tuple(sources)
        self._now = now or (lambda: datetime.now(UTC))

    def limited(self, scope: frozenset[str] | None) -> Site:
        """The same site with the points of a scope only (None: all); nothing of the others can be told from it.

        A point stands beneath the nearest of those that measure it too and are in the scope, so that no energy counts
        twice. A virtual point of the scope is whole, whatever of its parts is: who was given a sum may see it. What it
        is made of is told only where all of that is in the scope; else it is a sum of itself alone.
        """
        if scope is None:
            return self
        whole = self._registry.points
        points = {
            id_: replace(point, parent=_nearest(whole, id_, scope), formula=_told(point, scope))
            for id_, point in whole.items()
            if id_ in scope
        }
        there = {route.line for point in points.values() for route in point.routes}
        registry = replace(
            self._registry,
            points=points,
            areas={id_: area for id_, area in self._registry.areas.items() if id_ in scope},
            lines={id_: name for id_, name in self._registry.lines.items() if id_ in there},
        )
        return Site(registry, self._sources, now=self._now)

    @property
    def points(self) -> dict[str, Point]:
        """All points by id."""
        return dict(self._registry.points)

    @property
    def areas(self) -> dict[str, list[str]]:
        """Ids of points by the name of their area."""
        found: dict[str, list[str]] = {}
        for point, area in sorted(self._registry.areas.items()):
            found.setdefault(area, []).append(point)
        return dict(sorted(found.items()))

    @property
    def lines(self) -> dict[str, list[str]]:
        """Ids of points by the name of their line."""
        found: dict[str, list[str]] = {name: [] for name in sorted(self._registry.lines.values())}
        for id_, point in sorted(self._registry.points.items()):
            if point.routes and point.routes[0].line in self._registry.lines:
                found[self._registry.lines[point.routes[0].line]].append(id_)
        return found

    @property
    def line_names(self) -> dict[str, str]:
        """Names of lines by id."""
        return dict(self._registry.lines)

    @property
    def time_zone(self) -> str:
        """IANA name of the site's time zone."""
        return self._registry.time_zone

    @property
    def title(self) -> str | None:
        """What people call the site; None where nobody said."""
        return self._registry.site

    @property
    def country(self) -> str | None:
        """The country whose holidays count here; None where it is not known."""
        return country_of(self._registry.time_zone, self._registry.country)

    def name(self, point: str) -> str:
        """The name of a point, or its id where nobody knows one."""
        known = self._registry.points.get(point)
        return point if known is None else known.name

    def frame(
        self,
        points: str | Sequence[str] | None = None,
        *,
        area: str | None = None,
        line: str | None = None,
        since: str | datetime,
        until: str | datetime | None = None,
        resolution: str = "interval",
        quantities: Sequence[str] | None = None,
        time_zone: str | None = None,
    ) -> Any:
        """History as a pandas DataFrame, by point and start; its columns are described in `frame`.

        Points by id or name; with an area or a line all of theirs; without any of these all. `since` is included,
        `until` is not (default: now); texts without an offset are local times of the zone, dates are midnights.
        ConfigError for an unknown point, area, line, quantity or resolution and for an empty or reversed period;
        SourceError where a source refuses, AwayError where it does not answer.
        """
        zone = time_zone or self.time_zone
        tables = list(
            self.tables(
                points, area=area, line=line, since=since, until=until, resolution=resolution, quantities=quantities,
                time_zone=time_zone,
            )
        )  # fmt: skip
        whole = pa.concat_tables(tables) if tables else schema_of(quantities_of(quantities)).empty_table()
        return to_pandas(ordered(whole.unify_dictionaries()), zone)

    def tables(
        self,
        points: str | Sequence[str] | None = None,
        *,
        area: str | None = None,
        line: str | None = None,
        since: str | datetime,
        until: str | datetime | None = None,
        resolution: str = "interval",
        quantities: Sequence[str] | None = None,
        time_zone: str | None = None,
        progress: Callable[[float], None] = lambda _: None,
    ) -> Iterator[pa.Table]:
        """The same as Arrow tables (`frame.schema_of`) by stretches of time, so that memory does not grow with the
        period; times in UTC. What is wrong with the question is said before the first table.
        """
        zone = time_zone or self.time_zone
        begin, end = self.period(since, until, zone)
        chosen = self.choose(points, area, line)
        keys = quantities_of(quantities)
        kind = resolution_of(resolution)
        return self._tables(chosen, begin, end, kind, zone, keys, progress)

    def _tables(
        self,
        points: Sequence[str],
        begin: datetime,
        end: datetime,
        resolution: Resolution,
        zone: str,
        keys: Sequence[str],
        progress: Callable[[float], None],
    ) -> Iterator[pa.Table]:
        windows = _windows(begin, end, resolution, zone)
        for number, (since, until) in enumerate(windows):
            found = [
                table
                for source in self._sources
                for table in source.tables(points, since, until, resolution, zone, keys)
                if table.num_rows
            ]
            if found:
                yield precedence(found)
            progress((number + 1) / len(windows))

    def sums(
        self,
        groups: Sequence[Sequence[str]],
        since: datetime,
        until: datetime,
        *,
        progress: Callable[[float], None] = lambda _: None,
    ) -> Iterator[Sums]:
        """Imported energy of intervals summed over groups of points (ids), month by month, from the archive alone: the
        quick way to load curves and demands (`sources.sums`). ConfigError for an unknown point.
        """
        self.choose(sorted({point for group in groups for point in group}))
        for source in self._sources:
            if isinstance(source, ArchiveSource):
                yield from source.sums(groups, since, until, progress)

    def choose(
        self, points: str | Sequence[str] | None = None, area: str | None = None, line: str | None = None
    ) -> list[str]:
        """Ids of points by id or name, area and line; all without any. ConfigError for what is unknown."""
        if points is None and area is None and line is None:
            return sorted(self._registry.points)
        found: set[str] = set()
        for text in [points] if isinstance(points, str) else points or ():
            found.add(self._point(text))
        for kind, wanted, groups in (("area", area, self.areas), ("line", line, self.lines)):
            if wanted is None:
                continue
            names = [name for name in groups if name.casefold() == wanted.strip().casefold()]
            if not names:
                raise ConfigError(f'there is no {kind} "{wanted}"; there are {_some(groups)}')
            found.update(groups[names[0]])
        if not found:
            raise ConfigError("no point was named")
        return sorted(found)

    def _point(self, text: str) -> str:
        if text in self._registry.points:
            return text
        wanted = text.strip().casefold()
        for id_, point in self._registry.points.items():
            if point.name.casefold() == wanted:
                return id_
        near = [point.name for point in self._registry.points.values() if wanted in point.name.casefold()]
        hint = f"; like it: {_some(near)}" if near else ""
        raise ConfigError(f'there is no meter "{text}"{hint}')

    def period(self, since: str | datetime, until: str | datetime | None, time_zone: str) -> tuple[datetime, datetime]:
        """The period as instants; ConfigError where it is empty, reversed or no time."""
        zone = zone_of(time_zone)
        begin = _instant(since, zone)
        end = _instant(self._now() if until is None else until, zone)
        if end <= begin:
            said = [one.astimezone(zone).isoformat(sep=" ", timespec="minutes") for one in (begin, end)]
            raise ConfigError(f"the period is empty: it begins at {said[0]} and ends at {said[1]}")
        return begin, end


def open_site(
    url: str | None = None,
    token: str | None = None,
    archive: Path | str | None = None,
    *,
    keys: KeyProvider | None = None,
    recorder: bool = True,
) -> Site:
    """A site by the address of its Home Assistant and a long-lived access token, by its archive, or by both.

    `recorder`: whether hourly statistics fill what neither ledger nor archive has. ConfigError, SourceError, AwayError
    and ArchiveError in words.
    """
    sources: list[Source] = []
    registry: RegistrySnapshot | None = None
    if url is not None:
        api = Api(url, token or "")
        registry = api.registry()
        sources.append(LedgerSource(api))
        if recorder:
            sources.append(RecorderSource(api))
    if archive is not None:
        opened = Archive(Path(archive), keys=keys)
        registry = registry or known(opened)
        sources.insert(1 if url else 0, ArchiveSource(opened, registry.points))
    if registry is None:
        raise ConfigError(
            "say where history is: the address of Home Assistant with a token, or the folder of an archive"
        )
    return Site(registry, sources)


def known(archive: Archive) -> RegistrySnapshot:
    """The registry as the archive last saw it; without one, its points by their ids."""
    found = archive.registry()
    if found is not None:
        return found
    always = (InstalledMeter(datetime(2000, 1, 1, tzinfo=UTC), ""),)
    points = {id_: Point(id_, id_, always, ()) for id_ in archive.points()}
    return RegistrySnapshot(points, {}, {}, archive.manifest.time_zone)


def _nearest(points: Mapping[str, Point], id_: str, scope: frozenset[str]) -> str | None:
    """The nearest point of a scope that measures a point too; there may be circles of parents."""
    seen, above = {id_}, points[id_].parent
    while above is not None and above not in seen and above in points:
        if above in scope:
            return above
        seen.add(above)
        above = points[above].parent
    return None


def _told(point: Point, scope: frozenset[str]) -> tuple[Term, ...]:
    """What a virtual point is made of, as far as a scope may know it: all of it, or nothing but that it is a sum."""
    if all(term.point in scope for term in point.formula):
        return point.formula
    return (Term(1, point.id),)


def _windows(begin: datetime, end: datetime, resolution: Resolution, time_zone: str) -> list[tuple[datetime, datetime]]:
    """Stretches that begin and end with a period, so that none is cut."""
    kind: Resolution = "day" if resolution == "interval" else resolution
    borders = edges(begin, end, kind, zone_of(time_zone))[:: _WINDOW[resolution]]
    inner = [datetime.fromtimestamp(int(one) / 1000, UTC) for one in borders]
    inner = [begin, *(one for one in inner if begin < one < end), end]
    return list(pairwise(inner))


def _instant(at: str | datetime, zone: Any) -> datetime:
    if isinstance(at, str):
        found = None
        with suppress(ValueError):
            found = datetime.fromisoformat(at.strip())
        if found is None:
            raise ConfigError(
                f'"{at}" is no time; one looks like 2026-05-31, 2026-05-31T12:00 or 2026-05-31T12:00+08:00'
            )
        at = found
    if at.tzinfo is None:
        at = at.replace(tzinfo=zone)
    at = at.astimezone(UTC).replace(microsecond=0)
    if not 2000 <= at.year <= 2199:
        raise ConfigError(f"{at.isoformat()} is before 2000 or after 2199")
    return at


def _some(names: Any) -> str:
    all_ = sorted(names)
    return ", ".join(all_[:8]) + (" …" if len(all_) > 8 else "") if all_ else "none"
