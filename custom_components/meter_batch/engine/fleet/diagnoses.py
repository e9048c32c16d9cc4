"""The diagnoses of all meters of a line, kept up to date at little cost: who failed lately, and all others in turn."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from .diagnose import Diagnosis, diagnose
from .evidence import LineEvidence

EVERY_S = 5.0
"""How often anybody is looked at."""
ALL_S = 60.0
"""Within this time everybody is."""
ODD = frozenset({"phase_lost", "voltage", "load", "restarted", "stuck"})
"""Causes that may be something else: another word order, another scale, another model."""


class Diagnoses:
    """What is wrong with whom; instants are the poller's monotonic seconds."""

    def __init__(self, evidence: LineEvidence) -> None:
        self._evidence = evidence
        self.told: dict[str, tuple[Diagnosis, ...]] = {}
        """The last diagnoses of meters that are not well."""
        self._looked_at = 0.0
        self._turn: list[str] = []

    def changed(self, now: float) -> Mapping[str, tuple[Diagnosis, ...]]:
        """The diagnoses that are others than before, likeliest first; empty tuples of meters that are well again.

        It is another diagnosis when another cause is the likeliest, or when it is handled now or no more.
        """
        if 0 <= now - self._looked_at < EVERY_S:
            return {}
        since, self._looked_at = self._looked_at, now
        meters = self._evidence.meters
        if not self._turn:
            self._turn = list(meters)
        share = 1 + int(len(meters) * EVERY_S / ALL_S)
        keys = {key for key, one in meters.items() if one.failed_at is not None and one.failed_at >= since}
        keys |= {key for key in self.told if key in meters}
        keys.update(self._turn[:share])
        del self._turn[:share]
        found: dict[str, tuple[Diagnosis, ...]] = {}
        for key in keys:
            if key not in meters:
                continue
            new = diagnose(self._evidence, meters[key], now)
            meters[key].odd = meters[key].odd or any(one.cause in ODD for one in new)
            old = self.told.get(key, ())
            if [(one.cause, one.handled) for one in new[:1]] != [(one.cause, one.handled) for one in old[:1]]:
                found[key] = new
            if new:
                self.told[key] = new
            else:
                self.told.pop(key, None)
        return found

    def keep(self, keys: Collection[str]) -> None:
        """Forgets all other meters."""
        self._evidence.meters = {key: one for key, one in self._evidence.meters.items() if key in keys}
        self.told = {key: one for key, one in self.told.items() if key in keys}
