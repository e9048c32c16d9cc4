"""Which rules hold where: the book of rules after all overrides, and what a point needs for each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..errors import ConfigError
from ..model.obis import Obis
from ..model.quantity import BY_KEY
from ..sentences import Sentence, say
from .book import Override, Rule, RuleBook, scopes
from .watch import Subject
from .words import kind_name

OF_METERS = frozenset({"silence", "missing"})
"""What is of a meter on a line: of a virtual point its parts tell it."""


class Resolved:
    """The rules of a site as they hold at its points and lines; ConfigError as `RuleBook.check`."""

    def __init__(self, book: RuleBook, overrides: Iterable[Override]) -> None:
        self._book = book
        self._overrides = {(one.kind, one.scope): one for one in overrides}
        for one in self._overrides.values():
            book.check(one)
        self._scopes = {one.scope for one in self._overrides.values()}
        self._known: dict[tuple[str, tuple[str, ...]], Rule] = {}
        """Rules by kind and the scopes that have overrides: a thousand points have few such."""

    def at(self, kind: str, subject: Subject | None, id_: str) -> Rule:
        """A rule at a point, without one at a line or the site of this id; ConfigError for an unknown kind."""
        rule = self._book.rules.get(kind)
        if rule is None:
            raise ConfigError(say("rule_unknown", kind=kind, kinds=", ".join(self._book.rules)))
        if not self._overrides:
            return rule
        own = tuple(one for one in (scopes(line=id_) if subject is None else _scopes(subject)) if one in self._scopes)
        if (known := self._known.get((kind, own))) is None:
            known = self._known[kind, own] = self._book.resolve(
                kind, (one for scope in own if (one := self._overrides.get((kind, scope))) is not None)
            )
        return known

    def usable(self, subject: Subject) -> list[Rule]:
        """The rules that a point has: switched on, with a limit, and with all that they need there."""
        return [rule for rule in self._all(subject) if _usable(rule, subject)]

    def unusable(self, subject: Subject) -> Iterator[Sentence]:
        """Rules that an override means for a point, its line or its area, and that lack what they need there."""
        for rule in self._all(subject):
            missing = [need for need in rule.needs if not subject.has(need)]
            meant = any((rule.kind, scope) in self._overrides for scope in _scopes(subject)[1:])
            if meant and rule.enabled and missing:
                needed = ", ".join(need.replace("|", " / ") for need in missing)
                yield say("rule_lacks", kind=kind_name(rule.kind), name=subject.point.name, missing=needed)

    def resting(self, subject: Subject, meter: frozenset[Obis]) -> dict[str, list[Sentence]]:
        """Why each rule of points rests at this one, by kind (nothing: it works). `meter`: all that its meter has."""
        return {rule.kind: list(_why(rule, subject, meter)) for rule in self._all(subject)}

    def _all(self, subject: Subject) -> Iterator[Rule]:
        for kind, rule in self._book.rules.items():
            if rule.subject == "point":
                yield self.at(kind, subject, subject.point.id)


def _scopes(subject: Subject) -> tuple[str, ...]:
    return scopes(area=subject.area, line=subject.line, point=subject.point.id)


def _why(rule: Rule, subject: Subject, meter: frozenset[Obis]) -> Iterator[Sentence]:
    """What keeps a rule from working at a point; nothing just where `_usable`."""
    if not rule.enabled:
        yield say("rests_off")
        return
    for need in rule.needs:
        if subject.has(need):
            continue
        missing = need.replace("|", " / ")
        registers = {BY_KEY[key].obis for key in need.split("|") if key in BY_KEY}
        if not registers:
            yield say("rests_attribute", missing=missing)
        elif subject.point.virtual:
            yield say("rests_virtual", missing=missing)
        else:
            yield say("rests_unread" if registers & meter else "rests_meter", missing=missing)
    if rule.looks_at in OF_METERS and (subject.point.virtual or subject.line is None):
        yield say("rests_no_meter")
    if rule.pickup is None and rule.looks_at != "silence":
        yield say("rests_limit")
    if rule.looks_at == "reverse_power" and subject.generates:
        yield say("rests_generates")


def _usable(rule: Rule, subject: Subject) -> bool:
    """Whether a point has this rule."""
    if not rule.enabled or not all(subject.has(need) for need in rule.needs):
        return False
    if rule.looks_at in OF_METERS and (subject.point.virtual or subject.line is None):
        return False
    if rule.looks_at == "reverse_power" and subject.generates:
        return False
    return rule.pickup is not None or rule.looks_at == "silence"
