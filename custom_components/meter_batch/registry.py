"""The site's metering points: what they are, where their meters are reached, and how all that changed.

A point's id never changes and is never used again; entities, statistics and files are keyed by it. Points outlive
meters, addresses and lines. A change is a set of new points for ids (None removes), checked as a whole and applied as
a whole; it is written to the operation log first and reaches everybody who listens at once, without a reload.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.helpers.storage import Store
from homeassistant.util.ulid import ulid_now

from .access import Actor
from .const import DOMAIN
from .engine import Point, Route
from .engine.wire import point_as_dict, point_from_dict

STORAGE_VERSION = 1
STORAGE_MINOR_VERSION = 4

ALWAYS = datetime(2000, 1, 1, tzinfo=UTC)
"""The date of what holds since before anybody asked."""

MOST_UNDO = 200
MOST_UNDO_POINTS = 5_000
"""So many changes, of so many points in all, can be taken back; the last one always."""

type Changes = Mapping[str, Point | None]


def new_id() -> str:
    """An id nobody has, fit for statistic ids: 26 digits and small letters."""
    return ulid_now().lower()


@dataclass(frozen=True, slots=True)
class Conflict:
    """Why a set of points cannot be: which point, which of its fields, and a message by key of the translations."""

    point: str
    field: str
    key: str
    placeholders: dict[str, str]


class RegistryConflict(Exception):
    """A change was refused as a whole; `conflicts` says why."""

    def __init__(self, conflicts: list[Conflict]) -> None:
        super().__init__(", ".join(f"{one.point}: {one.key} {one.placeholders}" for one in conflicts))
        self.conflicts = conflicts


@dataclass(frozen=True, slots=True)
class Change:
    """One point before and after; None where it was not or is no more."""

    before: Point | None
    after: Point | None

    @property
    def id(self) -> str:
        """The id of the point."""
        point = self.after or self.before
        assert point is not None
        return point.id


@dataclass(frozen=True, slots=True)
class Step:
    """A change that can be taken back, or was and can be made again: what to apply for that, as it is stored."""

    at: str
    who: str
    action: str
    points: dict[str, dict[str, Any] | None]

    @property
    def changes(self) -> dict[str, Point | None]:
        """What to apply."""
        return {id_: None if one is None else point_from_dict(id_, one) for id_, one in self.points.items()}


class Registry:
    """All points of the site. Reading is immediate; changing waits for the operation log."""

    def __init__(
        self, hass: HomeAssistant, journal: Callable[[Actor, str, dict[str, Any], dict[str, Any]], Awaitable[None]]
    ) -> None:
        self._store = PointStore(
            hass,
            STORAGE_VERSION,
            DOMAIN,
            minor_version=STORAGE_MINOR_VERSION,
            atomic_writes=True,
        )
        self._journal = journal
        self._points: dict[str, Point] = {}
        self._homes: tuple[Mapping[str, Point], dict[str | None, list[Point]]] = {}, {}
        """Points by the line that they live on, and of which snapshot of the points that is true."""
        self._dicts: dict[str, dict[str, Any]] = {}
        """The same as they are stored, so that one change of a large fleet does not write out all of it anew."""
        self._undo: list[Step] = []
        self._redo: list[Step] = []
        self._listeners: list[Callable[[list[Change]], None]] = []
        self._lock = asyncio.Lock()
        self.time_zone: str | None = None
        """IANA name of the site's time zone; None is Home Assistant's."""

    async def async_load(self) -> None:
        """Reads what was stored; call once."""
        data = await self._store.async_load()
        if data is None:
            return
        self._points = {id_: point_from_dict(id_, one) for id_, one in data["points"].items()}
        self._dicts = {id_: point_as_dict(point) for id_, point in self._points.items()}
        self._undo = [Step(**one) for one in data["undo"]]
        self._redo = [Step(**one) for one in data["redo"]]
        self.time_zone = data["time_zone"]

    @property
    def points(self) -> Mapping[str, Point]:
        """Every point by id. A snapshot: a change makes a new mapping."""
        return self._points

    def on_line(self, line: str) -> Iterator[tuple[Point, Route]]:
        """The points that are reached by this line, with the route that is used: the first they have."""
        for point in self._points.values():
            if point.routes and point.routes[0].line == line:
                yield point, point.routes[0]

    def home(self, point: Point) -> str | None:
        """The line on which a point lives: the one it is read on; of a virtual point that of its first part."""
        seen: set[str] = set()
        waiting = [point]
        while waiting:
            one = waiting.pop(0)
            if one.routes:
                return one.routes[0].line
            seen.add(one.id)
            waiting[:0] = [
                self._points[term.point]
                for term in one.formula
                if term.point in self._points and term.point not in seen
            ]
        return None

    def at_home(self, line: str) -> Iterator[Point]:
        """The points that live on this line."""
        if self._homes[0] is not self._points:
            # Many ask for each line, and a thousand points are sorted once.
            homes: dict[str | None, list[Point]] = {}
            for point in self._points.values():
                homes.setdefault(self.home(point), []).append(point)
            self._homes = self._points, homes
        return iter(self._homes[1].get(line, ()))

    def find(self, text: str) -> Point | None:
        """A point by its id, or by its name in any case."""
        if (point := self._points.get(text)) is not None:
            return point
        wanted = text.strip().casefold()
        return next((one for one in self._points.values() if one.name.casefold() == wanted), None)

    @callback
    def async_listen(self, listener: Callable[[list[Change]], None]) -> CALLBACK_TYPE:
        """Calls the listener after each change; returns what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    async def async_apply(self, changes: Changes, actor: Actor, action: str) -> list[Change]:
        """Applies all of it or nothing: RegistryConflict where the result could not be, OSError where the log fails.

        What would change nothing is left out; the answer is what did change.
        """
        async with self._lock:
            return await self._apply(changes, actor, action)

    async def async_undo(self, actor: Actor) -> list[Change]:
        """Takes the last change back that was not taken back yet; step by step as far as is remembered."""
        async with self._lock:
            return await self._apply(self._undo[-1].changes, actor, "undo") if self._undo else []

    async def async_redo(self, actor: Actor) -> list[Change]:
        """Makes the change again that was taken back last, unless another one was made since."""
        async with self._lock:
            return await self._apply(self._redo[-1].changes, actor, "redo") if self._redo else []

    async def _apply(self, changes: Changes, actor: Actor, action: str) -> list[Change]:
        real = {id_: point for id_, point in changes.items() if self._points.get(id_) != point}
        if not real and action not in {"undo", "redo"}:
            return []
        after = _merged(self._points, real)
        if found := conflicts(after, only=real):
            raise RegistryConflict(found)
        before = {id_: self._points.get(id_) for id_ in real}
        back, made = {id_: self._dicts.get(id_) for id_ in real}, _as_dicts(real)
        await self._journal(actor, action, back, made)
        self._points = after
        self._dicts = _merged(self._dicts, made)
        self._remember(actor, action, back)
        await self._store.async_save(self._data())
        done = [Change(before[id_], real[id_]) for id_ in real]
        for listener in list(self._listeners):
            listener(done)
        return done

    def _remember(self, actor: Actor, action: str, back: dict[str, dict[str, Any] | None]) -> None:
        match action:
            case "undo":
                step = self._undo.pop()
                self._redo.append(replace(step, points=back))
            case "redo":
                step = self._redo.pop()
                self._undo.append(replace(step, points=back))
            case _:
                self._undo.append(Step(datetime.now(UTC).isoformat(timespec="seconds"), actor.name, action, back))
                self._redo = []
        del self._undo[:-MOST_UNDO]
        while len(self._undo) > 1 and sum(len(one.points) for one in self._undo) > MOST_UNDO_POINTS:
            del self._undo[0]

    @property
    def undoable(self) -> Sequence[Step]:
        """What can be taken back, the last change first."""
        return self._undo[::-1]

    @property
    def redoable(self) -> Sequence[Step]:
        """What was taken back and can be made again, the last first."""
        return self._redo[::-1]

    def _data(self) -> dict[str, Any]:
        return {
            "points": self._dicts,
            "undo": [_step_as_dict(one) for one in self._undo],
            "redo": [_step_as_dict(one) for one in self._redo],
            "time_zone": self.time_zone,
        }


class PointStore(Store[dict[str, Any]]):
    """The file of the registry, which knows how older versions of itself looked."""

    async def _async_migrate_func(
        self, old_major_version: int, old_minor_version: int, old_data: dict[str, Any]
    ) -> dict[str, Any]:
        if old_minor_version < 2:
            # 1.1 had neither undo nor a time zone of the site
            old_data = {"undo": {}, "time_zone": None, **old_data}
        if old_minor_version < 3:
            # 1.2 knew no virtual points
            for points in (old_data["points"], old_data["undo"]):
                points.update({id_: one and {"formula": [], **one} for id_, one in points.items()})
        if old_minor_version < 4:
            # 1.3 remembered one change, and not whose it was
            last = {"at": ALWAYS.isoformat(), "who": "", "action": "", "points": old_data["undo"]}
            old_data = {**old_data, "undo": [last] if old_data["undo"] else [], "redo": []}
        return old_data


def _merged[T](points: Mapping[str, T], changes: Mapping[str, T | None]) -> dict[str, T]:
    merged: dict[str, T | None] = {**points, **changes}
    return {id_: point for id_, point in merged.items() if point is not None}


def conflicts(points: Mapping[str, Point], only: Iterable[str] | None = None) -> list[Conflict]:
    """What cannot be among these points: names or addresses given twice, parents or parts missing or in circles.

    With `only`, what concerns none of these ids is left out, except parents and parts that are lost.
    """
    asked = set(points if only is None else only)
    names = Counter(point.name.casefold() for point in points.values())
    owners: dict[tuple[str, str, str], list[Point]] = {}
    for point in points.values():
        for route in point.routes:
            owners.setdefault((route.line, family(route.protocol), route.address), []).append(point)
    found = []
    for point in points.values():
        if point.id in asked:
            if names[point.name.casefold()] > 1:
                found.append(Conflict(point.id, "name", "point_name_twice", {"name": point.name}))
            for route in point.routes:
                others = owners[route.line, family(route.protocol), route.address]
                if len(others) > 1:
                    other = next((one for one in others if one.id != point.id), point)
                    found.append(
                        Conflict(point.id, "address", "address_twice", {"address": route.address, "name": other.name})
                    )
        if point.parent is not None and point.parent not in points:
            found.append(Conflict(point.id, "parent", "parent_lost", {"name": point.name}))
        elif point.id in asked and _in_circle(point, points):
            found.append(Conflict(point.id, "parent", "parent_circle", {"name": point.name}))
        found += _formula_conflicts(point, points, new=point.id in asked)
    return found


def _formula_conflicts(point: Point, points: Mapping[str, Point], *, new: bool) -> Iterator[Conflict]:
    """What cannot be about the formula of a virtual point; `new`: it may be what is changed."""
    parts = [term.point for term in point.formula]
    if any(part not in points for part in parts):
        yield Conflict(point.id, "formula", "part_lost", {"name": point.name})
    if not new:
        return
    for part, count in Counter(parts).items():
        if count > 1 and part in points:
            yield Conflict(point.id, "formula", "part_twice", {"name": point.name, "part": points[part].name})
    waiting, seen = list(parts), set[str]()
    while waiting:
        part = waiting.pop()
        if part == point.id:
            yield Conflict(point.id, "formula", "formula_circle", {"name": point.name})
            return
        if part in points and part not in seen:
            seen.add(part)
            waiting += [term.point for term in points[part].formula]


def family(protocol: str) -> str:
    """What a protocol's editions have in common: their addresses are of one kind."""
    return protocol.split("-", 1)[0]


def _in_circle(point: Point, points: Mapping[str, Point]) -> bool:
    seen = set()
    above: Point | None = point
    while above is not None and above.parent is not None:
        if above.parent == point.id:
            return True
        if above.id in seen:
            return False  # a circle further up; its own members are blamed
        seen.add(above.id)
        above = points.get(above.parent)
    return False


def _step_as_dict(step: Step) -> dict[str, Any]:
    return {"at": step.at, "who": step.who, "action": step.action, "points": step.points}


def _as_dicts(points: Changes) -> dict[str, dict[str, Any] | None]:
    return {id_: None if point is None else point_as_dict(point) for id_, point in points.items()}
