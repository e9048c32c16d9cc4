"""What a line's time goes on, and how much of it reading from memory may take."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

WINDOW_S = 600.0
"""Over what the share is told."""
SAVED_S = 30.0
"""What was not used is kept for so long, and no longer: no burst after a quiet day."""

TOGETHER_S = 0.2
"""So much is saved before the next steps are taken, once there was nothing left."""


@dataclass(frozen=True, slots=True)
class AirtimeShares:
    """What the last ten minutes of a line went on; waiting for a reply counts as what was asked for. They make 1."""

    live: float = 0.0
    backfill: float = 0.0
    probe: float = 0.0
    """Silent meters, and who answers."""

    @property
    def idle(self) -> float:
        """The rest."""
        return 1.0 - (self.live + self.backfill + self.probe)


class Airtime:
    """A share of the time, earned second by second and spent step by step. Seconds are the poller's monotonic ones."""

    def __init__(self, budget: float, now: float) -> None:
        self.budget = budget
        self._credit_s = 0.0
        self._at = self._since = now
        self._spent: deque[tuple[float, float]] = deque()

    def _earn(self, now: float) -> None:
        self._credit_s = min(self.budget * SAVED_S, self._credit_s + self.budget * max(0.0, now - self._at))
        self._at = now

    def allows(self, seconds: float, now: float) -> bool:
        """Whether a step of so many seconds is earned. One that costs more than can be saved waits until all is."""
        self._earn(now)
        return self._credit_s >= min(seconds, self.budget * SAVED_S * 0.99)

    def wait_s(self, seconds: float, now: float) -> float:
        """How long until it is; short steps wait for several of their kind, so that nobody wakes up for each."""
        self._earn(now)
        if self._credit_s >= min(seconds, self.budget * SAVED_S * 0.99):
            return 0.0
        return (min(max(seconds, TOGETHER_S), self.budget * SAVED_S * 0.99) - self._credit_s) / self.budget

    def spend(self, seconds: float, now: float) -> None:
        """A step took so long, until now."""
        self._earn(now)
        self._credit_s -= seconds
        self._spent.append((now, seconds))

    def share(self, now: float) -> float:
        """The share of the last ten minutes that was spent."""
        while self._spent and self._spent[0][0] < now - WINDOW_S:
            self._spent.popleft()
        passed = min(WINDOW_S, now - self._since)
        return sum(seconds for _, seconds in self._spent) / passed if passed > 0 else 0.0
