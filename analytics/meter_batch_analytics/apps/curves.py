"""Quantities over time, of points and of groups of points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from meter_batch_engine.model.interval import Quality

from ..archive.rows import BITS
from ..session import Session

type Quantity = Literal["energy", "power", "power_max", "reactive", "voltage", "power_factor"]

UNITS: dict[Quantity, str] = {
    "energy": "kWh", "power": "kW", "power_max": "kW", "reactive": "kvarh", "voltage": "V", "power_factor": "",
}  # fmt: skip
DIGITS: dict[Quantity, int] = {
    "energy": 2, "power": 2, "power_max": 2, "reactive": 2, "voltage": 1, "power_factor": 3,
}  # fmt: skip
ADDITIVE = frozenset({"energy", "power", "reactive"})
ESTIMATED, EDITED, SUSPECT = (BITS[one] for one in (Quality.ESTIMATED, Quality.EDITED, Quality.SUSPECT))


@dataclass(frozen=True, slots=True)
class Group:
    """Points that make one curve: one point, all of an area or line, or all that were chosen."""

    name: str
    points: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Curve:
    """A quantity of a group over time, by start; NaN where nothing is known."""

    group: Group
    start: Any
    """Milliseconds since 1970."""
    end: Any
    value: Any
    low: Any | None
    high: Any | None
    known: Any
    """Share of each period's time and members that is known: 0 to 1."""
    flags: Any

    @property
    def doubtful(self) -> Any:
        """True where a value is incomplete, estimated in part, or suspect."""
        return (self.known < 0.9995) | ((self.flags & SUSPECT) > 0)


def groups_of(session: Session, chosen: Sequence[str], by: str, words: Mapping[str, str]) -> list[Group]:
    """The chosen points one by one, by area, by line, or as one; in the order of the site."""
    site = session.site
    if by == "total":
        return [Group(words["total_of"].format(n=len(chosen)), tuple(chosen))] if chosen else []
    if by in ("area", "line"):
        found: dict[str, list[str]] = {}
        names = {one: name for name, ids in (site.areas if by == "area" else site.lines).items() for one in ids}
        for point in chosen:
            found.setdefault(names.get(point, words[f"no_{by}"]), []).append(point)
        return [Group(name, tuple(ids)) for name, ids in sorted(found.items())]
    return [Group(site.name(one), (one,)) for one in chosen]


def broken(start: Any, end: Any, value: Any) -> tuple[Any, Any, Any]:
    """Places, times and values with a NaN where time is missing between two, and the end of the last: for a line."""
    if not len(start):
        return np.array([], np.int64), start, value
    holes = np.flatnonzero(start[1:] > end[:-1]) + 1
    places = np.insert(np.arange(len(start)), holes, -1)
    times = np.insert(start, holes, end[holes - 1])
    values = np.insert(value.astype(np.float64), holes, np.nan)
    return np.append(places, len(start) - 1), np.append(times, end[-1]), np.append(values, value[-1])
