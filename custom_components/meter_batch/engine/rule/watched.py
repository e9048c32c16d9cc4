"""A point with the rules that it has, compiled: which of them look again when a register is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ..model.obis import Obis
from ..model.reading import Reading
from .book import Rule
from .checks import QUIET, Look, compiled
from .latch import Latch, Step
from .watch import Watch


@dataclass(slots=True)
class Watched:
    """A point with a latch for each of its rules."""

    watch: Watch
    by_other: dict[str, Latch] = field(default_factory=dict)
    """Of rules that do not look at readings, by what they look at."""
    _checks: list[tuple[Latch, Look]] = field(default_factory=list)
    _masks: dict[Obis, int] = field(default_factory=dict)
    """By register, which of the checks look at it, as bits."""

    def equip(self, rules: Iterable[Rule]) -> None:
        """Gives it these rules."""
        rules, subject = list(rules), self.watch.subject
        lost = next((rule.pickup for rule in rules if rule.looks_at == "voltage_lost"), None)
        for rule in rules:
            latch = Latch((rule.kind, subject.point.id), rule)
            check = compiled(rule, self.watch, lost)
            if check is None:
                self.by_other[rule.looks_at] = latch
                continue
            latch.unit = check.unit or rule.unit
            for obis in check.inputs & subject.registers:
                self._masks[obis] = self._masks.get(obis, 0) | 1 << len(self._checks)
            self._checks.append((latch, check.look))

    def latches(self) -> Iterator[Latch]:
        """All of them."""
        yield from self.by_other.values()
        yield from (latch for latch, _ in self._checks)

    def read(self, readings: Iterable[Reading], now: float) -> Iterator[tuple[Latch, Step]]:
        """What readings lead to, rule by rule, the causes before what they explain."""
        masks, mask = self._masks, 0
        for obis in self.watch.take(readings, now):
            mask |= masks.get(obis, 0)
        if not mask:
            return
        seen = self.watch.now
        for index, (latch, look) in enumerate(self._checks):
            if not mask >> index & 1 or (sample := look()) is None:
                continue
            if sample is QUIET:
                step = latch.step(seen, picked=False, dropped=True)
            else:
                step = latch.look(seen, sample.value, sample.base, sample.phase, whole=sample.whole)
            if step is not Step.NOTHING:
                yield latch, step
