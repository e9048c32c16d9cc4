"""Pick-up and drop-out with their delays: when a condition that comes and goes is an alarm."""

from __future__ import annotations

from enum import Enum

from .book import Rule

type Key = tuple[str, str]
"""Kind and subject."""

_CONFIRMED_S = 900.0
"""What was so longer ago than this, or than the on-delay, without being looked at since, begins anew."""


_DIGITS = {"V": 2, "A": 2, "%": 2}
"""Decimals of values and limits by unit; powers and energies, in thousands, have three."""


class Step(Enum):
    """What a look at a condition leads to."""

    NOTHING = 0
    RAISE = 1
    RETURN = -1


class Latch:
    """One rule at one subject. Instants are seconds since 1970; values are in the unit of its findings.

    Delays pass only by looks: without good values nothing is raised and nothing returns.
    """

    __slots__ = ("extreme", "key", "leaving", "limit", "pending", "phase", "raised", "rule", "seen", "unit", "value")

    def __init__(self, key: Key, rule: Rule) -> None:
        self.key = key
        self.rule = rule
        self.unit = rule.unit
        self.raised = False
        self.pending: float | None = None
        """Since when it is picked up, if it is not raised."""
        self.leaving: float | None = None
        """Since when it has dropped out, if it is raised."""
        self.seen = 0.0
        self.value: float | None = None
        self.limit: float | None = None
        self.extreme: float | None = None
        self.phase = 0

    def follow(self, other: Latch) -> None:
        """Goes on where another of the same rule and subject stands; limits may have changed."""
        self.raised, self.pending, self.leaving, self.seen = other.raised, other.pending, other.leaving, other.seen
        self.value, self.limit, self.extreme, self.phase = other.value, other.limit, other.extreme, other.phase

    def look(
        self,
        at: float,
        value: float,
        base: float = 1.0,
        phase: int = 0,
        *,
        whole: bool = True,
        since: float | None = None,
    ) -> Step:
        """What a value leads to; `base` is what the rule's levels are shares of.

        Where it is not `whole` (of some phases nothing good is known), it can raise but not return. `since` as `step`.
        """
        rule = self.rule
        assert rule.pickup is not None and rule.dropout is not None
        limit = rule.pickup * base
        digits = _DIGITS.get(self.unit, 3)
        if rule.above:
            picked, dropped = value > limit, value <= rule.dropout * base
        else:
            picked, dropped = value < limit, value >= rule.dropout * base
        if picked and (self._begins or self.extreme is None or (value > self.extreme) is rule.above):
            self.extreme, self.phase = round(value, digits), phase
        step = self.step(at, picked=picked, dropped=dropped and whole, since=since)
        if step is Step.RAISE:
            self.value, self.limit = round(value, digits), round(limit, digits)
        return step

    def step(self, at: float, *, picked: bool, dropped: bool, since: float | None = None) -> Step:
        """What a condition leads to; between the two levels it is neither picked up nor dropped out.

        `since` is when it began, if that was before the look.
        """
        seen, self.seen = self.seen, at
        if self.raised:
            if not dropped:
                self.leaving = None
                return Step.NOTHING
            if self.leaving is None or at < self.leaving:
                self.leaving = at
            if at - self.leaving < self.rule.off_delay_s:
                return Step.NOTHING
            self.raised, self.pending = False, None
            return Step.RETURN
        if not picked:
            self.pending = None
            return Step.NOTHING
        began = at if since is None else since
        if self.pending is None or at < self.pending or at - seen > max(_CONFIRMED_S, self.rule.on_delay_s):
            self.pending = began
        if at - self.pending < self.rule.on_delay_s:
            return Step.NOTHING
        self.raised, self.leaving = True, None
        return Step.RAISE

    @property
    def _begins(self) -> bool:
        return not self.raised and self.pending is None

    @property
    def due(self) -> float | None:
        """When its running delay ends; None where none runs."""
        if self.raised:
            return None if self.leaving is None else self.leaving + self.rule.off_delay_s
        return None if self.pending is None else self.pending + self.rule.on_delay_s
