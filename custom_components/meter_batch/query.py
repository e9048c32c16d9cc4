"""What people ask the history of a site for, and the rows that answer it, piece by piece.

A query names points, areas and lines (all they hold together; none of them: everything), a period, a resolution and
quantities. What cannot be answered is refused in words before anything is read.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, Final
from zoneinfo import ZoneInfo

import probatio
from homeassistant.helpers import config_validation as cv
from homeassistant.util import dt as dt_util

from .cells import parse_instant
from .commands import find_point, line_by_name, refuse
from .engine import BY_KEY, QUANTITIES, Point
from .engine.ledger import RESOLUTIONS, Ledger, Resolution, combine, period_of
from .engine.model.interval import Interval
from .engine.model.quantity import Kind
from .place import area_name
from .site import Site

MOST_ROWS = 10_000
"""So many rows fit into the answer of an action or a WebSocket command; an export has no such bound."""

_TEXTS = probatio.All(cv.ensure_list, [cv.string])

FIELDS: Final[dict[Any, Any]] = {
    probatio.Optional("points"): _TEXTS,
    probatio.Optional("areas"): _TEXTS,
    probatio.Optional("lines"): _TEXTS,
    probatio.Optional("quantities"): _TEXTS,
    probatio.Optional("period"): cv.string,
    probatio.Optional("since"): cv.string,
    probatio.Optional("until"): cv.string,
    probatio.Optional("resolution"): cv.string,
    probatio.Optional("time_zone"): cv.string,
}
"""How a query is written, wherever it comes from."""

LISTS: Final = ("points", "areas", "lines", "quantities")
"""The fields that are lists of texts; the others are texts."""

PERIODS: Final[Mapping[str, tuple[Resolution, bool]]] = {
    "today": ("day", False),
    "yesterday": ("day", True),
    "this_week": ("week", False),
    "last_week": ("week", True),
    "this_month": ("month", False),
    "last_month": ("month", True),
    "this_year": ("year", False),
    "last_year": ("year", True),
}
"""Periods that have a name: of which kind, and whether it is the one before the present one."""

OBSERVED: Final[Mapping[str, str]] = {
    "demand_mean_kw": "kW",
    "demand_max_kw": "kW",
    "voltage_min_v": "V",
    "voltage_mean_v": "V",
    "voltage_max_v": "V",
    "power_factor": "",
}
"""What the ledger keeps beside energies: fields of an interval, and their units."""

_USUAL = (
    "energy_import",
    "energy_export",
    "energy_gross",
    "reactive_energy_import",
    "reactive_energy_export",
    "reactive_energy_gross",
)
"""The energies that are shown where none was asked for, as far as the meters have them."""

_WINDOW: Final[Mapping[Resolution, timedelta]] = {
    "interval": timedelta(days=7),
    "hour": timedelta(days=31),
    "day": timedelta(days=92),
    "week": timedelta(days=92),
    "month": timedelta(days=92),
    "year": timedelta(days=92),
}
"""How much of a point is read in one go: live registers wait no longer than one such."""

_SHORTEST: Final[Mapping[Resolution, timedelta]] = {
    "interval": timedelta(minutes=15),
    "hour": timedelta(hours=1),
    "day": timedelta(hours=23),
    "week": timedelta(days=7),
    "month": timedelta(days=28),
    "year": timedelta(days=365),
}


@dataclass(frozen=True, slots=True)
class Query:
    """A question that can be answered."""

    points: tuple[Point, ...]
    since: datetime
    until: datetime
    """Not included."""
    resolution: Resolution
    zone: ZoneInfo
    columns: tuple[str, ...]
    """Names of energies, and fields of an interval (`OBSERVED`)."""

    def local(self, at: datetime) -> datetime:
        """An instant at the time of the place that was asked for."""
        return at.astimezone(self.zone)

    @property
    def units(self) -> dict[str, str]:
        """Unit by column."""
        return {column: unit(column) for column in self.columns}

    @property
    def most_rows(self) -> int:
        """About how many rows there are at most."""
        periods = -((self.since - self.until) // _SHORTEST[self.resolution])
        return len(self.points) * periods


def unit(column: str) -> str:
    """The unit of a column."""
    return OBSERVED[column] if column in OBSERVED else BY_KEY[column].unit


async def async_parse(site: Site, asked: Mapping[str, Any]) -> Query:
    """The query that `FIELDS` describe; ServiceValidationError, in words, where it cannot be answered."""
    zone = await async_zone(site, asked.get("time_zone"))
    since, until = _period(asked, zone)
    points = points_of(site, asked)
    resolution = _resolution(asked.get("resolution") or "interval")
    return Query(points, since, until, resolution, zone, _columns(site, points, asked.get("quantities")))


async def async_zone(site: Site, name: str | None = None) -> ZoneInfo:
    """A time zone by name, without one the site's; ServiceValidationError where there is none of that name."""
    name = name or site.registry.time_zone or site.hass.config.time_zone
    try:
        zone = await dt_util.async_get_time_zone(name)
    except ValueError, OSError:
        zone = None  # a path, or a folder of the time zone database
    if zone is None:
        raise refuse("unknown_time_zone", time_zone=name)
    return zone


def _resolution(text: str) -> Resolution:
    for one in RESOLUTIONS:
        if text.strip().casefold() == one:
            return one
    raise refuse("unknown_resolution", resolution=text, some=", ".join(RESOLUTIONS))


def _period(asked: Mapping[str, Any], zone: ZoneInfo) -> tuple[datetime, datetime]:
    now = dt_util.utcnow().replace(microsecond=0)
    if name := asked.get("period"):
        if asked.get("since") or asked.get("until"):
            raise refuse("period_or_since")
        if (found := PERIODS.get(name.strip().casefold().replace(" ", "_"))) is None:
            raise refuse("unknown_period", period=name, some=", ".join(PERIODS))
        kind, before = found
        since, until = period_of(now, kind, zone)
        if before:
            since, until = period_of(since - timedelta(seconds=1), kind, zone)
        return since, until
    if not asked.get("since"):
        raise refuse("period_missing", some=", ".join(PERIODS))
    since = instant_of(asked["since"], zone)
    until = instant_of(asked["until"], zone) if asked.get("until") else now
    if until <= since:
        raise refuse("period_empty", since=_said(since, zone), until=_said(until, zone))
    return since, until


def _said(at: datetime, zone: ZoneInfo) -> str:
    return at.astimezone(zone).isoformat(sep=" ", timespec="minutes")


def instant_of(text: str, zone: ZoneInfo) -> datetime:
    """An instant as a person writes it, without a zone at the place's; ServiceValidationError where it is none."""
    try:
        return parse_instant(text, zone)
    except (ValueError, OverflowError) as error:
        raise refuse("bad_instant", value=text) from error


def points_of(site: Site, asked: Mapping[str, Any]) -> tuple[Point, ...]:
    """The points that names of points, areas and lines mean together; without any, all. By name."""
    everything = sorted(site.registry.points.values(), key=lambda one: (one.name.casefold(), one.id))
    if not any(asked.get(kind) for kind in ("points", "areas", "lines")):
        return tuple(everything)
    wanted = {find_point(site, text).id for text in asked.get("points") or ()}
    for text in asked.get("lines") or ():
        wanted |= {point.id for point, _ in site.registry.on_line(line_by_name(site, text) or "")}
    if areas := [text.strip().casefold() for text in asked.get("areas") or ()]:
        names = {point.id: (area_name(site.hass, point) or "").casefold() for point in everything}
        for text, name in zip(asked["areas"], areas, strict=True):
            if not name or name not in names.values():
                raise refuse("unknown_area", area=text)
        wanted |= {id_ for id_, name in names.items() if name in areas}
    return tuple(point for point in everything if point.id in wanted)


def _columns(site: Site, points: tuple[Point, ...], asked: list[str] | None) -> tuple[str, ...]:
    if asked:
        return tuple(dict.fromkeys(_column(text) for text in asked))
    there = _measured(site, points)
    return (*(key for key in _USUAL if key in there), *OBSERVED)


def _column(text: str) -> str:
    name = text.strip()
    key = QUANTITIES[name].key if name in QUANTITIES else name.casefold()
    energy = key in BY_KEY and BY_KEY[key].kind in (Kind.CUMULATIVE, Kind.BALANCE)
    if not energy and key not in OBSERVED:
        raise refuse("unknown_quantity", quantity=text, some=", ".join((*_USUAL, *OBSERVED)))
    return key


def _measured(site: Site, points: tuple[Point, ...]) -> set[str]:
    """What the meters of points count, also those that are no longer there."""
    found: set[str] = set()
    seen: set[str] = set()
    waiting = list(points)
    while waiting:
        point = waiting.pop()
        if point.id in seen:
            continue
        seen.add(point.id)
        waiting += [site.registry.points[term.point] for term in point.formula]
        for meter in point.meters:
            if (template := site.templates.get(meter.template)) is not None:
                found |= {one.quantity.key for one in template.registers}
    return found


# --- rows


async def async_pieces(site: Site, query: Query) -> AsyncGenerator[tuple[Point, list[Interval], float]]:
    """The answer by point and stretch of time, in order, and how much of it is done then (0…1).

    LedgerError where the ledger cannot be read.
    """
    windows = list(_windows(query))
    points = site.registry.points
    count = len(windows) * len(query.points)
    for number, point in enumerate(query.points):
        for place, (since, until) in enumerate(windows):
            work = partial(
                rows_of,
                points=points,
                point=point,
                since=since,
                until=until,
                resolution=query.resolution,
                zone=query.zone.key,
            )
            yield point, await site.ledger.async_call(work), (number * len(windows) + place + 1) / count


def _windows(query: Query) -> Iterator[tuple[datetime, datetime]]:
    """Stretches that begin and end with a period, so that none is cut."""
    start = query.since
    while start < query.until:
        _, end = period_of(start + _WINDOW[query.resolution] - timedelta(seconds=1), query.resolution, query.zone)
        yield start, min(end, query.until)
        start = end


def rows_of(
    ledger: Ledger,
    *,
    points: Mapping[str, Point],
    point: Point,
    since: datetime,
    until: datetime,
    resolution: Resolution,
    zone: str,
) -> list[Interval]:
    """What the ledger, or for a virtual point those of its parts, say of a point; nothing where it never measured."""
    if point.virtual:
        parts = [
            one
            for term in point.formula
            if term.point in points
            for one in rows_of(
                ledger,
                points=points,
                point=points[term.point],
                since=since,
                until=until,
                resolution=resolution,
                zone=zone,
            )
        ]
        return combine(point.id, point.formula, parts)
    if point.id not in ledger.points:
        return []
    return ledger.intervals([point.id], since, until, resolution, zone)


def cell(one: Interval, column: str) -> Decimal | float | None:
    """What an interval says in a column."""
    if column in OBSERVED:
        value: Decimal | float | None = getattr(one, column)
        return value
    return one.energies.get(BY_KEY[column].obis)


def row_as_dict(query: Query, one: Interval) -> dict[str, Any]:
    """A row as JSON values: what it has of the columns, where that came from and how much of it is known."""
    values = {column: cell(one, column) for column in query.columns}
    return {
        "start": query.local(one.start).isoformat(),
        "end": query.local(one.end).isoformat(),
        **{column: float(value) for column, value in values.items() if value is not None},
        "completeness": round(one.completeness, 4),
        "flags": sorted(one.flags),
        "source": one.source,
        **({"rule": one.rule} if one.rule else {}),
        **({"parts": list(one.parts)} if one.source == "virtual" else {}),
    }


async def async_answer(site: Site, query: Query) -> dict[str, Any]:
    """The whole answer at once, by point id; ServiceValidationError where it is too large for that."""
    rows: dict[str, list[dict[str, Any]]] = {point.id: [] for point in query.points}
    count = 0
    async for point, found, _ in async_pieces(site, query):
        count += len(found)
        if count > MOST_ROWS:
            raise refuse("history_too_large", most=str(MOST_ROWS))
        rows[point.id] += [row_as_dict(query, one) for one in found]
    return {
        "since": query.local(query.since).isoformat(),
        "until": query.local(query.until).isoformat(),
        "resolution": query.resolution,
        "time_zone": query.zone.key,
        "units": query.units,
        "points": {point.id: {"name": point.name, "rows": rows[point.id]} for point in query.points},
    }
