"""Repairs of a line: what is wrong for long enough to need a person, with its cause and cure; gone when it is well.

One issue where the cause is the line's, one a meter while they are few, one for all of them together otherwise. Meters
that were replaced, are of another model or have another address have an issue of their own, because something can be
done about each (repairs.py).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.event import async_track_time_interval
from homeassistant.util import dt as dt_util

from .access import SYSTEM
from .causes import SHOWN, Causes, told
from .const import DOMAIN
from .engine import Diagnosis, Point, PollReport
from .site import Site
from .wording import in_words

_LOGGER = logging.getLogger(__name__)

DELAY = timedelta(minutes=10)
"""What lasts less is no matter for repairs: somebody may be working on the line."""
EVERY = timedelta(minutes=1)
MOST = 3
"""So many meters of a line have an issue each; more share one."""
MOST_FIXABLE = 5
NAMED = 10
OF_ADDRESS = frozenset({"address", "clash"})


class Kind(StrEnum):
    """Keys of the translations."""

    SWAPPED = "meter_swapped"
    MODEL = "meter_wrong_model"
    ADDRESS = "meter_wrong_address"
    METER = "meter_trouble"
    METERS = "meters_trouble"
    LINE = "line_trouble"


FIXABLE = frozenset({Kind.SWAPPED, Kind.MODEL, Kind.ADDRESS})


type Explain = Callable[[str | None], str | None]
"""What is wrong with a point, or with the line (None), in words."""


@dataclass(frozen=True, slots=True)
class Issue:
    """One as it should be in the list of repairs."""

    kind: Kind
    placeholders: Mapping[str, str]
    data: Mapping[str, str | int | float | None] = field(default_factory=dict)


class LineIssues:
    """Keeps the list of repairs true to what is known of a line."""

    def __init__(self, hass: HomeAssistant, line: ConfigEntry, site: Site, causes: Causes, explain: Explain) -> None:
        self._hass, self._line, self._site, self._causes, self._explain = hass, line, site, causes, explain
        self._shown: frozenset[str] = frozenset()

    @callback
    def async_start(self) -> None:
        """Looks now and then, until the line is unloaded."""
        entry = self._line
        entry.async_on_unload(async_track_time_interval(self._hass, self.async_update, EVERY))
        entry.async_on_unload(self._clear)

    @callback
    def async_take(self, report: PollReport) -> frozenset[str]:
        """Keeps what a report says of causes; the points of which something else is known now.

        A meter that was replaced is written down at once.
        """
        causes, points = self._causes, self._site.registry.points
        known = causes.swaps.copy()
        changed = causes.take(report)
        for key, swap in causes.swaps.items():
            if known.get(key) != swap and key in points:
                _LOGGER.warning("%s: another meter answers, with the serial number %s", points[key].name, swap.serial)
                before, after = {"serial": swap.before}, {"serial": swap.serial}
                written = self._site.log.async_write(SYSTEM, "meter_replaced", point=key, before=before, after=after)
                self._hass.async_create_task(written, f"{DOMAIN} operation log")
        if changed:
            self.async_update()
        return changed

    @callback
    def async_update(self, now: datetime | None = None) -> None:
        """Makes, changes and removes issues."""
        wanted = dict(self._wanted(now or dt_util.utcnow()))
        for id_, issue in wanted.items():
            ir.async_create_issue(
                self._hass,
                DOMAIN,
                id_,
                data=dict(issue.data),
                is_fixable=issue.kind in FIXABLE,
                severity=ir.IssueSeverity.ERROR if issue.kind is Kind.LINE else ir.IssueSeverity.WARNING,
                translation_key=issue.kind,
                translation_placeholders=dict(issue.placeholders),
            )
        for gone in self._shown - wanted.keys():
            ir.async_delete_issue(self._hass, DOMAIN, gone)
        self._shown = frozenset(wanted)

    @callback
    def _clear(self) -> None:
        # The line is no longer read: nothing is known of it.
        for id_ in self._shown:
            ir.async_delete_issue(self._hass, DOMAIN, id_)
        self._shown = frozenset()

    def _wanted(self, now: datetime) -> Iterator[tuple[str, Issue]]:
        causes, line = self._causes, self._line
        points = {point.id: point for point in self._site.registry.at_home(line.entry_id) if not point.virtual}
        old = sorted((since, key) for key, since in causes.since.items() if key in points and now - since >= DELAY)
        troubled = [points[key] for _, key in old]
        if causes.down_since is not None and now - causes.down_since >= DELAY:
            found = causes.of_line() or causes.commonest(point.id for point in troubled)
            yield self._of_line(found)
            troubled = []
        elif of_line := [one for point in troubled if (one := causes.likeliest(point.id)) and one.scope == "line"]:
            yield self._of_line(of_line)
            troubled = [point for point in troubled if causes.likeliest(point.id) not in of_line]
        fixable = [point for point in points.values() if point.id in causes.swaps]
        fixable += [point for point in troubled if point not in fixable and causes.is_another_model(point.id)]
        for point in fixable[:MOST_FIXABLE]:
            yield self._of_meter(point)
        rest = [point for point in troubled if point not in fixable[:MOST_FIXABLE]]
        if len(rest) <= MOST:
            yield from map(self._of_meter, rest)
            return
        names = sorted(point.name for point in rest)
        yield (
            f"meters_{line.entry_id}",
            Issue(
                Kind.METERS,
                {
                    "line": line.title,
                    "count": str(len(rest)),
                    "names": ", ".join(names[:NAMED]) + (" …" if len(names) > NAMED else ""),
                    "causes": self._listed(causes.commonest(point.id for point in rest)),
                },
            ),
        )

    def _kind(self, point: Point) -> Kind:
        causes = self._causes
        if point.id in causes.swaps:
            return Kind.SWAPPED
        if causes.is_another_model(point.id):
            return Kind.MODEL
        likeliest = causes.likeliest(point.id)
        return Kind.ADDRESS if likeliest is not None and likeliest.cause in OF_ADDRESS else Kind.METER

    def _of_line(self, found: Iterable[Diagnosis]) -> tuple[str, Issue]:
        line, seen = self._line, dict.fromkeys(one.cause for one in found)
        once = [next(one for one in found if one.cause == cause) for cause in seen]
        problem = self._explain(None) or ""
        return f"line_{line.entry_id}", Issue(
            Kind.LINE, {"line": line.title, "problem": problem, "causes": self._listed(once)}
        )

    def _of_meter(self, point: Point) -> tuple[str, Issue]:
        kind, causes, line = self._kind(point), self._causes, self._line
        data: dict[str, str | int | float | None] = {"kind": kind, "line": line.entry_id, "point": point.id}
        address = point.routes[0].address if point.routes else "?"
        placeholders = {"point": point.name, "line": line.title, "address": address}
        if kind is Kind.SWAPPED:
            swap = causes.swaps[point.id]
            data |= {"serial": swap.serial, "at": swap.at.isoformat()}
            placeholders |= {"serial": swap.serial, "before": swap.before or point.meter.serial or "?"}
        else:
            found = [one for one in causes.diagnoses.get(point.id, ()) if not one.handled]
            told_ = self._listed(found) or f"- {self._explain(point.id) or '?'}"
            identity = causes.identities.get(point.id)
            if kind is Kind.MODEL and identity is not None and identity.misfit is not None:
                told_ = f"- {in_words(self._hass, identity.misfit.text)}\n{told_}"
            placeholders["causes"] = told_
        return f"meter_{point.id}", Issue(kind, placeholders, data)

    def _listed(self, found: Iterable[Diagnosis]) -> str:
        """Causes and cures as a list, the likeliest first."""
        return "\n".join(f"- {one['text']} {one['cure']}" for one in told(self._hass, list(found)[:SHOWN]))
