"""The alarms of a site: what is measured goes in, changes of findings come out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from ..model.finding import Change, Finding
from ..model.interval import GROSS, IMPORT, Interval, Quality
from ..model.obis import Obis
from ..model.reading import Reading
from ..sentences import Sentence
from .book import Override, Rule, RuleBook
from .findings import Findings
from .latch import Key, Latch, Step
from .resolved import Resolved
from .roster import Roster
from .watch import EXPORT, Nominal, Subject, instant_of

_LATE = timedelta(hours=2)
"""Intervals that ended longer ago are history."""
_DOUBTFUL = frozenset({Quality.SUSPECT, Quality.WITHDRAWN, Quality.ESTIMATED})
_WHOLE = 0.95
_ALONE = 2
"""A line of so many meters, all of them silent, is lost although it is connected."""


class Alarms:
    """All rules at all subjects. Instants are arguments, aware UTC; nothing here waits, writes or reads a clock.

    Restored first, told its points next, then fed in the order of time. Changes are to be kept in the order in which
    they come.
    """

    def __init__(self, rules: RuleBook, overrides: Iterable[Override] = (), *, new_id: Callable[[], str]) -> None:
        self.rules = rules
        self._findings = Findings(new_id)
        self._roster = Roster(rules, Resolved(rules, overrides), self._findings)
        self._orphans: dict[Key, float] = {}

    # --- what there is

    def restore(self, findings: Iterable[Finding], nominals: Mapping[str, Nominal] | None = None) -> None:
        """What was open, and which `nominals` were inferred, when this was last stopped. Before all else, and once."""
        self._findings.restore(findings)
        self._roster.inferred = dict(nominals or {})

    @property
    def nominals(self) -> dict[str, Nominal]:
        """The nominal voltages that were inferred, by point."""
        there = self._roster.watched.items()
        return {point: found for point, watched in there if (found := watched.watch.inferred) is not None}

    def add_points(self, subjects: Mapping[str, Subject]) -> None:
        """Some of the points that `set_points` is about to be told: what costs much, in pieces."""
        self._roster.add_points(subjects)

    def set_points(self, subjects: Mapping[str, Subject], at: datetime) -> list[Change]:
        """All points, from now on; findings of those that are gone are closed."""
        self._roster.set_points(subjects)
        self._adopt(at.timestamp())
        return self._close_strays(at)

    def set_overrides(self, overrides: Iterable[Override], at: datetime) -> list[Change]:
        """All overrides, from now on; findings of rules that are switched off are closed.

        ConfigError as `RuleBook.check`.
        """
        self._roster.set_rules(Resolved(self.rules, overrides))
        return self._close_strays(at)

    def rule(self, kind: str, subject: str) -> Rule:
        """A rule at a point, a line or the site after all overrides; ConfigError where there is no such rule."""
        return self._roster.rules.at(kind, self._roster.subject(subject), subject)

    def unusable(self) -> list[Sentence]:
        """Overrides at points that lack what the rule needs; without an override the rule is just not there."""
        rules, there = self._roster.rules, self._roster.watched.values()
        return [words for watched in there for words in rules.unusable(watched.watch.subject)]

    def resting(self, point: str, meter: frozenset[Obis]) -> dict[str, list[Sentence]]:
        """Why each rule rests at a point, by kind (nothing: it works); `meter`: all registers that its meter has."""
        subject = self._roster.subject(point)
        return {} if subject is None else self._roster.rules.resting(subject, meter)

    def active(self) -> list[Finding]:
        """All open findings, with the worst value so far."""
        worst = {latch.key: latch for latch in self._roster.latches() if latch.raised}
        return [
            replace(one, extreme=latch.extreme, phase=latch.phase)
            if (latch := worst.get((one.kind, one.subject))) is not None and latch.extreme is not None and one.active
            else one
            for one in self._findings
        ]

    # --- what is measured

    def readings(self, at: datetime, readings: Mapping[str, Iterable[Reading]]) -> list[Change]:
        """What was read just now, by point, at the primary side. Only good values count; late ones do not."""
        now = at.timestamp()
        changes: list[Change] = []
        for point, own in readings.items():
            if (watched := self._roster.watched.get(point)) is None:
                continue
            silence = watched.by_other.get("silence")
            if silence is not None and silence.raised:
                changes += self._lead(silence, silence.step(now, picked=False, dropped=True), at)
            for latch, step in watched.read(own, now):
                changes += self._lead(latch, step, at)
        return changes

    def links(
        self, at: datetime, line: str, connected: bool, silent: frozenset[str], problem: str | None
    ) -> list[Change]:
        """How a line is and who does not answer on it; as often as it is known."""
        state = self._roster.line(line)
        state.problem = problem
        if state.told and (connected, silent) == (state.connected, state.silent):
            return []
        now = at.timestamp()
        was_silent = state.members if state.dead else state.silent
        state.told, state.connected, state.silent = True, connected, silent
        state.dead = not connected or (len(state.members) >= _ALONE and state.members <= silent)
        changes: list[Change] = []
        if (latch := state.latch) is not None:
            changes += self._time(latch, latch.step(now, picked=state.dead, dropped=not state.dead), at)
        for point in (state.members if state.dead else silent) | was_silent:
            latch = self._roster.latch(point, "silence")
            if latch is None:
                continue
            if not (state.dead or point in silent):
                if not latch.raised:
                    latch.pending = None
            elif latch.raised:
                latch.leaving = None
            elif latch.pending is None:
                latch.pending = now
                self._roster.timed.add(latch)
        return changes + self._delays(at)

    def intervals(
        self, at: datetime, intervals: Iterable[Interval], expected: Mapping[str, float | None]
    ) -> list[Change]:
        """Hours that are closed, and the kWh that were expected of each. From older ones only the load is learned."""
        changes: list[Change] = []
        for one in intervals:
            watched = self._roster.watched.get(one.point)
            mean = one.demand_mean_kw
            if watched is None or mean is None or one.flags & _DOUBTFUL:
                continue
            watch = watched.watch
            exported = float(one.energies.get(EXPORT, 0)) * 3600 / one.length_s
            watch.learn(max(float(mean), exported, one.demand_max_kw or 0.0), one.start.timestamp())
            usual, latch = expected.get(one.point), watched.by_other.get("interval_energy")
            if latch is None or usual is None or at - one.end > _LATE or one.completeness < _WHOLE:
                continue
            load = watch.rating[0] or watch.largest_kw
            excess = (latch.rule.min_load or 0.0) * load * one.length_s / 3600
            pickup = latch.rule.pickup or 1.0
            value = float(one.energies.get(IMPORT, one.energies.get(GROSS, 0)))
            # Twice the usual of next to nothing is next to nothing.
            base = max(usual, (usual + excess) / pickup)
            since, until = one.start.timestamp(), one.end.timestamp()
            changes += self._lead(latch, latch.look(until, value, base, since=since), at)
        return changes

    def day(self, at: datetime, energies: Mapping[str, float]) -> list[Change]:
        """The kWh of each point since its local midnight."""
        return self._all("day_energy", at, energies)

    def gaps(self, at: datetime, missing: Mapping[str, float]) -> list[Change]:
        """The share of the last 24 hours that is missing, by point, 0 to 1."""
        return self._all("missing", at, {point: 100 * share for point, share in missing.items()})

    def _all(self, looks_at: str, at: datetime, values: Mapping[str, float]) -> list[Change]:
        changes: list[Change] = []
        for point, value in values.items():
            if (latch := self._roster.latch(point, looks_at)) is not None:
                changes += self._lead(latch, latch.look(at.timestamp(), value), at)
        return changes

    def raise_(
        self, kind: str, subject: str, at: datetime, facts: Mapping[str, str | float] | None = None
    ) -> list[Change]:
        """A finding that others made, of a rule that looks at the host; nothing where it is active already."""
        rule = self.rule(kind, subject)
        if not rule.enabled:
            return []
        return self._raise(Latch((kind, subject), rule), at, at, facts or {})

    def clear(self, kind: str, subject: str, at: datetime) -> list[Change]:
        """What was raised by `raise_` is over; the line or point that is named is gone."""
        if kind == "line_lost":
            self._roster.remove_line(subject)
        change = self._findings.return_((kind, subject), at, at)
        return self._settled(change, at)

    # --- time

    @property
    def next_at(self) -> datetime | None:
        """When `tick` has something to do at the latest."""
        dues = [due for latch in self._roster.timed if (due := latch.due) is not None and not self._roster.waits(latch)]
        dues += self._orphans.values()
        dues += [end.timestamp() for end in self._findings.shelf_ends()]
        return instant_of(min(dues)) if dues else None

    def tick(self, at: datetime) -> list[Change]:
        """Delays of silent meters and lost lines, and shelves, that have ended."""
        changes = self._findings.end_shelves(at) + self._delays(at)
        for key, due in list(self._orphans.items()):
            if due <= at.timestamp():
                changes += self._release(key, at)
        return changes

    def _delays(self, at: datetime) -> list[Change]:
        now = at.timestamp()
        changes: list[Change] = []
        # Lines first: they are the cause.
        for latch in sorted(self._roster.timed, key=lambda one: (one.rule.subject != "line", one.key)):
            if latch.due is None:
                self._roster.timed.discard(latch)
            elif latch.due <= now and not self._roster.waits(latch):
                latch.seen = now  # nothing was heard to the contrary
                changes += self._time(latch, latch.step(now, picked=not latch.raised, dropped=latch.raised), at)
        return changes

    # --- people

    def acknowledge(
        self, ids: Sequence[str], at: datetime, by: str | None = None, comment: str | None = None
    ) -> list[Change]:
        """Somebody has seen these; ConfigError for an id that is not open, and then none is acknowledged."""
        self._known(ids)
        changes = [self._findings.acknowledge(one, at, by, comment) for one in ids]
        return [one for one in changes if one is not None]

    def shelve(
        self, ids: Sequence[str], at: datetime, until: datetime, by: str | None = None, comment: str | None = None
    ) -> list[Change]:
        """Puts these aside until an instant; ConfigError as `acknowledge`, and where that instant is not to come."""
        self._known(ids)
        return [self._findings.shelve(one, at, until, by, comment) for one in ids]

    def unshelve(
        self, ids: Sequence[str], at: datetime, by: str | None = None, comment: str | None = None
    ) -> list[Change]:
        """Takes these back; ConfigError as `acknowledge`."""
        self._known(ids)
        changes = [self._findings.unshelve(one, at, by, comment) for one in ids]
        return [one for one in changes if one is not None]

    def _known(self, ids: Sequence[str]) -> None:
        for one in ids:
            self._findings.by_id(one)

    # --- inside: what is there

    def _close_strays(self, at: datetime) -> list[Change]:
        """Findings of points, and of rules at them, that are no more."""
        there = {latch.key for latch in self._roster.latches()}
        changes: list[Change] = []
        for one in self._findings:
            key = (one.kind, one.subject)
            rule = self.rules.rules.get(one.kind)
            if rule is not None and rule.subject == "line" and one.subject not in self._roster.lines:
                continue  # not heard of yet
            if rule is None or (rule.looks_at != "host" and key not in there):
                changes += self._settled(self._findings.close(key, at), at)
        return changes

    def _adopt(self, now: float) -> None:
        """Findings whose cause was gone when they were restored wait as if it had gone now."""
        active = {one.id for one in self._findings if one.active}
        for one in self._findings:
            key = (one.kind, one.subject)
            if one.active and one.cause is not None and one.cause not in active and key not in self._orphans:
                self._orphans[key] = now + self._delay(key)

    # --- inside: from steps to changes

    def _time(self, latch: Latch, step: Step, at: datetime) -> list[Change]:
        """As `_lead`, for a latch whose delays end by time and not by a value."""
        changes = self._lead(latch, step, at)
        if latch.due is not None:
            self._roster.timed.add(latch)
        else:
            self._roster.timed.discard(latch)
        return changes

    def _lead(self, latch: Latch, step: Step, at: datetime) -> list[Change]:
        if step is Step.RAISE:
            since = at if latch.pending is None else instant_of(latch.pending)
            line = self._roster.lines.get(latch.key[1]) if latch.rule.subject == "line" else None
            facts = {"problem": line.problem} if line is not None and line.problem else {}
            return self._raise(latch, min(since, at), at, facts)
        if step is Step.RETURN:
            until = at if latch.leaving is None else min(instant_of(latch.leaving), at)
            return self._settled(self._findings.return_(latch.key, until, at, latch.extreme), at)
        return []

    def _raise(self, latch: Latch, since: datetime, at: datetime, facts: Mapping[str, str | float]) -> list[Change]:
        kind, subject = latch.key
        rule = latch.rule
        cause = self._cause(rule, subject)

        def made(id_: str) -> Finding:
            return Finding(
                id=id_,
                kind=kind,
                subject_kind=rule.subject,
                subject=subject,
                severity=rule.severity,
                since=since,
                value=latch.value,
                limit=latch.limit,
                extreme=latch.extreme,
                unit=latch.unit,
                phase=latch.phase,
                cause=cause,
                facts=facts,
            )

        self._orphans.pop(latch.key, None)
        change = self._findings.raise_(made, latch.key, at)
        return [] if change is None else [change]

    def _cause(self, rule: Rule, subject: str) -> str | None:
        there = self._roster.subject(subject)
        line = None if there is None else there.line
        for kind in rule.explained_by:
            for one in (subject, line):
                found = None if one is None else self._findings.get((kind, one))
                if found is not None and found.active:
                    return found.cause or found.id
        return None

    def _settled(self, change: Change | None, at: datetime) -> list[Change]:
        """What follows from a finding that is over: those that it explained are looked after."""
        if change is None:
            return []
        finding = change.finding
        self._orphans.pop((finding.kind, finding.subject), None)
        for one in self._findings:
            if one.cause == finding.id and one.active:
                key = (one.kind, one.subject)
                self._orphans[key] = at.timestamp() + self._delay(key)
        return [change]

    def _delay(self, key: Key) -> float:
        kind, subject = key
        return self.rule(kind, subject).on_delay_s if kind in self.rules.rules else 0.0

    def _release(self, key: Key, at: datetime) -> list[Change]:
        self._orphans.pop(key)
        kind, subject = key
        cause = self._cause(self.rule(kind, subject), subject)
        change = self._findings.promote(key, cause, at)
        return [] if change is None else [change]
