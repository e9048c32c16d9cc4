"""Which rules are at which points and lines, each with its latch, and which latches wait for a delay to end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..model.finding import Finding
from .book import RuleBook
from .findings import Findings
from .latch import Key, Latch
from .resolved import Resolved
from .watch import Nominal, Subject, Watch
from .watched import Watched


@dataclass(slots=True)
class Line:
    """A line, as far as it was heard of."""

    told: bool = False
    """Whether anything was heard of it since its points were told."""
    connected: bool = True
    silent: frozenset[str] = frozenset()
    problem: str | None = None
    dead: bool = False
    members: frozenset[str] = frozenset()
    latch: Latch | None = None


class Roster:
    """Points and lines with their latches. A latch goes on where rules or points change under it."""

    def __init__(self, book: RuleBook, rules: Resolved, findings: Findings) -> None:
        self.rules = rules
        self.watched: dict[str, Watched] = {}
        self.lines: dict[str, Line] = {}
        self.timed: set[Latch] = set()
        """Those of which a delay runs that ends by time and not by a value."""
        self.inferred: dict[str, Nominal] = {}
        """Nominal voltages of points that are yet to be told, from before a restart."""
        self._findings = findings
        self._of_lines = next((rule.kind for rule in book.rules.values() if rule.looks_at == "line"), None)

    def set_points(self, subjects: Mapping[str, Subject]) -> None:
        """All points, from now on."""
        for gone in self.watched.keys() - subjects.keys():
            self.timed -= set(self.watched.pop(gone).latches())
        self.add_points(subjects)
        self._join_lines()

    def add_points(self, subjects: Mapping[str, Subject]) -> None:
        """These points are new or have changed; lines have them only after `set_points`."""
        for point, subject in subjects.items():
            was = self.watched.get(point)
            if was is None:
                self.watched[point] = self._compile(Watch(subject, self.inferred.pop(point, None)), {})
            elif was.watch.subject is not subject and was.watch.subject != subject:
                self.watched[point] = self._recompile(was, subject)

    def _join_lines(self) -> None:
        members: dict[str, set[str]] = {}
        for point, watched in self.watched.items():
            if "silence" in watched.by_other and watched.watch.subject.line is not None:
                members.setdefault(watched.watch.subject.line, set()).add(point)
        for id_ in members.keys() | self.lines.keys():
            line = self.lines.setdefault(id_, Line())
            line.members, line.told = frozenset(members.get(id_, ())), False
            self._equip(id_, line)

    def set_rules(self, rules: Resolved) -> None:
        """All rules, from now on."""
        self.rules = rules
        for point, watched in self.watched.items():
            self.watched[point] = self._recompile(watched, watched.watch.subject)
        for id_, line in self.lines.items():
            self._equip(id_, line)

    def line(self, id_: str) -> Line:
        """A line, heard of or not."""
        if id_ not in self.lines:
            self._equip(id_, self.lines.setdefault(id_, Line()))
        return self.lines[id_]

    def remove_line(self, id_: str) -> None:
        """It is gone."""
        if (line := self.lines.pop(id_, None)) is not None and line.latch is not None:
            self.timed.discard(line.latch)

    def subject(self, point: str) -> Subject | None:
        """A point as it is known to rules."""
        watched = self.watched.get(point)
        return None if watched is None else watched.watch.subject

    def latch(self, point: str, looks_at: str) -> Latch | None:
        """That of the rule at a point which looks at this."""
        watched = self.watched.get(point)
        return None if watched is None else watched.by_other.get(looks_at)

    def latches(self) -> Iterator[Latch]:
        """All of them."""
        for watched in self.watched.values():
            yield from watched.latches()
        yield from (line.latch for line in self.lines.values() if line.latch is not None)

    def waits(self, latch: Latch) -> bool:
        """Whether a meter's silence is not judged yet, because its line is about to be the cause."""
        subject = None if latch.rule.subject == "line" else self.subject(latch.key[1])
        line = None if subject is None or subject.line is None else self.lines.get(subject.line)
        if line is None or line.latch is None or not line.dead or line.latch.raised:
            return False
        return line.latch.due is not None

    def _compile(self, watch: Watch, was: Mapping[Key, Latch]) -> Watched:
        watched = Watched(watch)
        watched.equip(self.rules.usable(watch.subject))
        for latch in watched.latches():
            if (before := was.get(latch.key)) is not None:
                latch.follow(before)
                if before in self.timed:
                    self.timed.add(latch)
            else:
                _resume(latch, self._findings.get(latch.key))
        self.timed -= set(was.values())
        return watched

    def _recompile(self, was: Watched, subject: Subject) -> Watched:
        return self._compile(was.watch.renewed(subject), {latch.key: latch for latch in was.latches()})

    def _equip(self, id_: str, line: Line) -> None:
        kind, was, line.latch = self._of_lines, line.latch, None
        if was is not None:
            self.timed.discard(was)
        if kind is None or not (rule := self.rules.at(kind, None, id_)).enabled:
            return
        line.latch = Latch((kind, id_), rule)
        if was is not None:
            line.latch.follow(was)
            if line.latch.due is not None:
                self.timed.add(line.latch)
        else:
            _resume(line.latch, self._findings.get(line.latch.key))


def _resume(latch: Latch, finding: Finding | None) -> None:
    """Goes on where it was when this was last stopped."""
    if finding is not None and finding.active:
        latch.raised, latch.pending = True, finding.since.timestamp()
        latch.value, latch.limit = finding.value, finding.limit
        latch.extreme, latch.phase = finding.extreme, finding.phase
