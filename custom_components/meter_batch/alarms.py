"""Alarms of the site: feeds the engine's rules with what comes from the wire, keeps findings, and tells everybody.

From a report of a line to the entities, events and triggers nothing waits: no timer but those of the rules' own delays.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from homeassistant.core import CALLBACK_TYPE, Event, HassJob, HomeAssistant, callback
from homeassistant.helpers import area_registry as ar
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers.event import async_call_later, async_track_point_in_utc_time
from homeassistant.util import dt as dt_util
from homeassistant.util.ulid import ulid_now

from .access import Actor
from .alarm_rules import AlarmRules, Settings, as_override
from .alarm_store import AlarmStore, Records
from .alarm_words import EVENTS, Alarm, AlarmWords
from .const import DOMAIN
from .engine import (
    BY_KEY,
    SITE,
    Alarms,
    AlarmState,
    Change,
    ConfigError,
    Finding,
    JournalEntry,
    Override,
    Point,
    PollReport,
    Rule,
    Severity,
    Subject,
    Template,
)
from .engine import Event as What
from .engine.model.interval import GROSS, IMPORT, Interval
from .engine.model.obis import Obis
from .place import area_name, area_of
from .registry import Registry
from .turns import Turns
from .wording import in_words

_LOGGER = logging.getLogger(__name__)

BY_PEOPLE: Final = frozenset({What.ACKNOWLEDGED, What.SHELVED, What.UNSHELVED})
BUDGET: Final = "daily_budget"
BUDGET_ATTRIBUTE: Final = "daily_budget_kwh"
ENERGIES: Final = frozenset({IMPORT, GROSS})
AT_ONCE: Final = 20
"""So many points are told to the rules at a time, so that a large fleet does not hold up the event loop."""
PLACES_S: Final = 1.0
"""Changes of areas, and of what is read, are gathered for so long."""
RANK: Final = {severity: place for place, severity in enumerate(Severity)}
"""Order of severities, the worst first."""


class SiteAlarms:
    """The one place where alarms of a Home Assistant are made; see `Alarms` of the engine for what makes them."""

    def __init__(
        self,
        hass: HomeAssistant,
        registry: Registry,
        templates: Mapping[str, Template],
        rules: AlarmRules,
        store: AlarmStore,
    ) -> None:
        self._hass, self._registry, self._templates = hass, registry, templates
        self.rules, self.store, self.words = rules, store, AlarmWords(hass, registry)
        self._refused: set[tuple[str, str]] = set()
        self._overrides = self.overrides
        self._engine = Alarms(rules.book, self._overrides, new_id=ulid_now)
        self._registers: dict[str, frozenset[Obis]] = {}
        """What is read of the points on lines that run."""
        self._open: dict[str, dict[str, Finding]] = {}
        """Open findings by subject and id, as of their last change."""
        self._timer: tuple[datetime, CALLBACK_TYPE] | None = None
        self._subjects: dict[str, Subject] = {}
        """As the rules were told of them last."""
        self._setting = self._again = False
        self._stopped = False
        self._places: CALLBACK_TYPE | None = None
        self._followers: dict[str, list[Callable[[], None]]] = {}
        self._listeners: list[Callable[[list[Change]], None]] = []
        self._event_listeners: list[Callable[[Alarm], None]] = []

    # --- life

    async def async_start(self) -> None:
        """Goes on where Home Assistant stopped, without telling again what was told, and begins to follow points."""
        self._restore(await self.store.async_load(self._restore_late) or (), self.rules.nominals)
        await self._set_points()
        self._registry.async_listen(lambda _: self._set_points_now())
        self.rules.async_listen(self._rules_changed)
        self._hass.bus.async_listen(dr.EVENT_DEVICE_REGISTRY_UPDATED, self._device_changed)
        self._hass.bus.async_listen(ar.EVENT_AREA_REGISTRY_UPDATED, self._set_points_soon)

    def _restore(self, findings: Iterable[Finding], nominals: Mapping[str, tuple[float, bool]]) -> None:
        self._engine.restore(findings, nominals)
        for one in self._engine.active():
            self._note(one)

    @callback
    def _restore_late(self, stored: list[Finding]) -> None:
        """What was open is known only now, because the file could not be read: what is so again is the same alarm."""
        now = dt_util.utcnow()
        current = self._engine.active()
        there = {(one.kind, one.subject) for one in current}
        doubles = [one for one in stored if (one.kind, one.subject) in there]
        closed = {one.id: replace(one, until=one.until or now, state=AlarmState.NORMAL) for one in doubles}
        self.store.async_take(Records(closed, [JournalEntry(id_, now, What.RETURNED) for id_ in closed]))
        nominals = self._engine.nominals
        self._engine = Alarms(self.rules.book, self._overrides, new_id=ulid_now)
        self._restore([*current, *(one for one in stored if one.id not in closed)], nominals)
        self._set_points_now()
        self._follow(one.subject for one in stored)

    @callback
    def async_line_gone(self, line: str) -> None:
        """A line was deleted: what was wrong with it is over."""
        self._take(self._engine.clear("line_lost", line, dt_util.utcnow()))

    async def async_stop(self) -> None:
        """Writes what waits; from now on nothing happens by itself."""
        self._stopped = True
        for cancel in (self._timer[1] if self._timer else None, self._places):
            if cancel is not None:
                cancel()
        await self.rules.async_note_nominals(self._engine.nominals)
        await self.store.async_stop()

    @callback
    def _device_changed(self, event: Event[dr.EventDeviceRegistryUpdatedData]) -> None:
        if event.data["action"] == "create" or (
            event.data["action"] == "update" and "area_id" in event.data["changes"]
        ):
            self._set_points_soon()

    @callback
    def _set_points_soon(self, _event: Event[Any] | None = None) -> None:
        """Lines start one after the other, and devices get their areas by the hundred."""
        if self._places is None:
            job = HassJob(self._set_points_now, cancel_on_shutdown=True)
            self._places = async_call_later(self._hass, PLACES_S, job)

    @callback
    def async_registers(self, registers: Mapping[str, frozenset[Obis]]) -> None:
        """What is read of points, from the line that reads them."""
        if any(self._registers.get(id_) != obis for id_, obis in registers.items()):
            self._registers.update(registers)
            self._set_points_soon()

    @callback
    def _set_points_now(self, _now: datetime | None = None) -> None:
        """Begins to tell the rules what points there are; what changes meanwhile is told after that."""
        self._places = None
        self._again = True
        if not self._setting and not self._stopped:
            self._hass.async_create_task(self._set_points(), f"{DOMAIN} points of rules")

    async def _set_points(self) -> None:
        """Some at a time: a thousand points with twenty rules each are compiled for a quarter of a second."""
        self._setting, self._again = True, True
        try:
            while self._again and not self._stopped:
                self._again = False
                await self._tell_points()
        finally:
            self._setting = False

    async def _tell_points(self) -> None:
        self._set_overrides()
        points, subjects, new = self._registry.points, dict[str, Subject](), dict[str, Subject]()
        turns = Turns()
        for id_, point in points.items():
            subject = self._subject(point)
            if (known := self._subjects.get(id_)) == subject:
                subject = known
            else:
                new[id_] = subject
            subjects[id_] = subject
            if len(new) >= AT_ONCE:
                self._engine.add_points(new)
                new = {}
            await turns.pause()
        self._subjects = subjects
        self._take(self._engine.set_points(subjects, dt_util.utcnow()))

    def _set_overrides(self) -> None:
        if (overrides := self.overrides) != self._overrides:
            self._overrides = overrides
            self._take(self._engine.set_overrides(overrides, dt_util.utcnow()))

    def _subject(self, point: Point) -> Subject:
        return Subject(point, self._area(point), self._registry.home(point), self._known(point))

    def _known(self, point: Point) -> frozenset[Obis]:
        """What is read of a point; of a virtual one the energies that all its parts have, for the ledger has those."""
        if point.virtual:
            parts = [self._registry.points.get(term.point) for term in point.formula]
            return ENERGIES.intersection(*(self._known(one) for one in parts if one is not None))
        # While its line does not run, all that its meter has, so that what was found before is kept.
        return self._registers.get(point.id, self._whole(point))

    def _whole(self, point: Point) -> frozenset[Obis]:
        """All registers that the meter of a point has."""
        template = self._templates.get(point.meter.template) if point.meters else None
        return frozenset(template.by_obis) if template else frozenset()

    def _area(self, point: Point) -> str | None:
        """The id of the area: rules for an area outlive its name."""
        if (area := area_of(self._hass, point)) is not None:
            return area.id
        named = ar.async_get(self._hass).async_get_area_by_name(area_name(self._hass, point) or "")
        return named.id if named else None

    @property
    def overrides(self) -> list[Override]:
        """What was changed of rules, and what points' own attributes say: their daily budgets."""
        merged: dict[tuple[str, str], Settings] = {}
        for point in self._registry.points.values():
            with suppress(KeyError, ValueError):
                merged[f"point:{point.id}", BUDGET] = {"pickup": float(point.attributes[BUDGET_ATTRIBUTE])}
        for key, settings in self.rules.settings.items():
            merged[key] = {**merged.get(key, {}), **settings}
        return [one for key, settings in merged.items() if self._holds(one := as_override(*key, settings))]

    def _holds(self, override: Override) -> bool:
        """Whether the rules take it: a rule may be gone since it was changed, a budget may be no number."""
        try:
            self.rules.book.check(override)
        except ConfigError as error:
            if (override.scope, override.kind) not in self._refused:
                self._refused.add((override.scope, override.kind))
                _LOGGER.warning("A changed alarm rule is left out: %s", error.text)
            return False
        return True

    def budgeted(self, points: Iterable[str]) -> frozenset[str]:
        """Those whose energy of a day is limited."""
        return frozenset(id_ for id_ in points if self._engine.rule(BUDGET, id_).pickup is not None)

    def needed(self, point: Point) -> frozenset[Obis]:
        """Registers that are to be read because somebody set a rule for this point, its area, its line or the site."""
        scopes = {SITE, f"point:{point.id}", f"line:{self._registry.home(point)}", f"area:{self._area(point)}"}
        rules = self.rules.book.rules
        kinds = {kind for scope, kind in self.rules.settings if scope in scopes and self.rule(kind, point.id).enabled}
        needs = {key for kind in kinds for need in rules[kind].needs for key in need.split("|")}
        return frozenset(BY_KEY[key].obis for key in needs if key in BY_KEY)

    def rule(self, kind: str, subject: str = SITE) -> Rule:
        """A rule as it holds at a point, or at the site."""
        return self._engine.rule(kind, subject)

    @callback
    def _rules_changed(self) -> None:
        self._set_overrides()
        self._set_points_now()

    # --- what comes in

    @callback
    def async_report(self, line: str, report: PollReport, unusable: Container[str]) -> None:
        """What a line said; `unusable`: points whose readings are not to be taken at their value just now."""
        points = self._registry.points
        readings = {id_: found for id_, found in report.readings.items() if id_ in points and id_ not in unusable}
        health = report.health
        changes = self._engine.links(report.at, line, health.connected, report.silent, health.problem)
        if readings:
            changes += self._engine.readings(report.at, readings)
        self._take(changes)

    @callback
    def async_hours(self, intervals: Iterable[Interval], expected: Mapping[str, float | None]) -> None:
        """Hours that closed, and what was to be expected of each point in its own, kWh."""
        self._take(self._engine.intervals(dt_util.utcnow(), intervals, expected))
        if not self._stopped and (nominals := self._engine.nominals) != self.rules.nominals:
            self._hass.async_create_task(self.rules.async_note_nominals(nominals), f"{DOMAIN} nominal voltages")

    @callback
    def async_day(self, energies: Mapping[str, float]) -> None:
        """What points used today, kWh."""
        self._take(self._engine.day(dt_util.utcnow(), energies))

    @callback
    def async_gaps(self, missing: Mapping[str, float]) -> None:
        """The share of the last day that is missing of points."""
        self._take(self._engine.gaps(dt_util.utcnow(), missing))

    @callback
    def async_raise(
        self, kind: str, facts: Mapping[str, str | float] | None = None, *, part: str | None = None
    ) -> None:
        """Says that something is wrong with the site as a whole, or with a part of it that has a name."""
        self._take(self._engine.raise_(kind, _site(part), dt_util.utcnow(), facts or {}))

    @callback
    def async_clear(self, kind: str, *, part: str | None = None) -> None:
        """Says that this is over."""
        self._take(self._engine.clear(kind, _site(part), dt_util.utcnow()))

    @callback
    def async_clear_others(self, kind: str, parts: Container[str]) -> None:
        """Says that this is over where the part is none of these: there is no such part any more."""
        for one in list(self.noted):
            if one.kind == kind and one.subject.removeprefix(f"{SITE}:") not in parts:
                self._take(self._engine.clear(kind, one.subject, dt_util.utcnow()))

    # --- what people do

    @callback
    def async_acknowledge(self, ids: Iterable[str], actor: Actor, comment: str | None) -> list[Finding]:
        """Notes who has seen these; says which changed by that."""
        return self._take(self._engine.acknowledge(list(ids), dt_util.utcnow(), actor.name, comment))

    @callback
    def async_shelve(self, ids: Iterable[str], until: datetime, actor: Actor, comment: str | None) -> list[Finding]:
        """Puts these aside until an instant; says which changed by that."""
        return self._take(self._engine.shelve(list(ids), dt_util.utcnow(), until, actor.name, comment))

    @callback
    def async_unshelve(self, ids: Iterable[str], actor: Actor, comment: str | None) -> list[Finding]:
        """Takes these back; says which changed by that."""
        return self._take(self._engine.unshelve(list(ids), dt_util.utcnow(), actor.name, comment))

    # --- what is known

    @property
    def open(self) -> list[Finding]:
        """What lasts or nobody has seen: the worst first, then the newest."""
        return sorted(
            self._engine.active(),
            key=lambda one: (RANK[one.severity], -one.since.timestamp(), one.id),
        )

    @property
    def noted(self) -> Iterable[Finding]:
        """The same in no order, each as of its last change."""
        return (one for found in self._open.values() for one in found.values())

    def of(self, subject: str) -> list[Finding]:
        """What is wrong now with a subject and shown there: not what another finding explains, nor what is shelved."""
        found = [one for one in self._open.get(subject, {}).values() if is_shown(one)]
        return sorted(found, key=lambda one: (RANK[one.severity], one.since))

    def unusable(self) -> list[str]:
        """Rules that were set where they cannot work, in the language of the house."""
        return [in_words(self._hass, one) for one in self._engine.unusable()]

    def resting(self, point: Point) -> dict[str, list[str]]:
        """Why each rule of points rests at this one, by kind, in the language of the house; nothing where it works."""
        found = self._engine.resting(point.id, self._whole(point))
        return {kind: [in_words(self._hass, one) for one in why] for kind, why in found.items()}

    # --- who is told

    @callback
    def async_follow(self, subject: str, listener: Callable[[], None]) -> CALLBACK_TYPE:
        """Calls the listener when findings of a subject changed; returns what ends that."""
        listeners = self._followers.setdefault(subject, [])
        listeners.append(listener)
        return lambda: listeners.remove(listener)

    @callback
    def async_listen(self, listener: Callable[[list[Change]], None]) -> CALLBACK_TYPE:
        """Calls the listener with every change, whether people are told or not; returns what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    @callback
    def async_listen_events(self, listener: Callable[[Alarm], None]) -> CALLBACK_TYPE:
        """Calls the listener with what people are told; returns what ends that."""
        self._event_listeners.append(listener)
        return lambda: self._event_listeners.remove(listener)

    @callback
    def _take(self, changes: list[Change]) -> list[Finding]:
        """Keeps what changed and tells everybody; the findings that changed, each as it is now."""
        self._arm()
        if not changes:
            return []
        now = {change.finding.id: change.finding for change in changes}
        self.store.async_take(Records(now, [change.event for change in changes]))
        for one in now.values():
            self._note(one)
        told = [one for one in changes if one.notify or one.event.what in BY_PEOPLE or self._is_over(one)]
        if told and self._event_listeners:
            base = self.words.base()
            for change in told:
                self._tell(self.words.told(change, base))
        for listener in list(self._listeners):
            listener(changes)
        self._follow(one.subject for one in now.values())
        return list(now.values())

    def _note(self, finding: Finding) -> None:
        found = self._open.setdefault(finding.subject, {})
        if finding.open:
            found[finding.id] = finding
        else:
            found.pop(finding.id, None)

    def _follow(self, subjects: Iterable[str]) -> None:
        for subject in set(subjects):
            for follower in list(self._followers.get(subject, ())):
                follower()

    def _is_over(self, change: Change) -> bool:
        """Whether people who were told of a finding are to be told that it is over."""
        one = change.finding
        gone = one.subject_kind == "point" and one.subject not in self._registry.points
        quiet = gone or one.cause is not None or one.state is AlarmState.SHELVED
        return change.event.what is What.RETURNED and not quiet

    def _tell(self, alarm: Alarm) -> None:
        if alarm.what in EVENTS:
            for listener in list(self._event_listeners):
                listener(alarm)

    @callback
    def _arm(self) -> None:
        """Wakes up when the next delay of a rule ends."""
        at = None if self._stopped else self._engine.next_at
        if self._timer is not None:
            if self._timer[0] == at:
                return
            self._timer[1]()
            self._timer = None
        if at is not None:
            job = HassJob(self._tick, cancel_on_shutdown=True)
            self._timer = at, async_track_point_in_utc_time(self._hass, job, at)

    @callback
    def _tick(self, now: datetime) -> None:
        self._timer = None
        self._take(self._engine.tick(now))


def _site(part: str | None) -> str:
    return SITE if part is None else f"{SITE}:{part}"


def is_shown(finding: Finding) -> bool:
    """True of what is wrong now and in need of somebody: not explained by another finding, not shelved."""
    return finding.active and finding.cause is None and finding.state is not AlarmState.SHELVED
