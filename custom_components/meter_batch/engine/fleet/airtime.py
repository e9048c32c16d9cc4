"""What a line's time goes on, and how much of it reading from memory may take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

type Use = Literal["live", "backfill", "probe"]

USES: tuple[Use, ...] = ("live", "backfill", "probe")

WINDOW_S = 600.0
"""Over what the share is told."""
SAVED_S = 30.0
"""What was not used is kept for so long, and no longer: no burst after a quiet day."""

BIN_S = 10.0
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


class Accounts:
    """What a line's time went on: always one thing, so that the shares make 1 whatever happens between."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._began = self._since = monotonic()
        self._use: Use | None = None
        self._bins: dict[int, dict[Use, float]] = {}
        """Seconds by use, in pieces of time that are forgotten one by one."""
        self._spent: dict[Use, float] = dict.fromkeys(USES, 0.0)
        """Their sum."""

    @contextmanager
    def on(self, use: Use) -> Iterator[None]:
        """What happens until the end goes on this account."""
        before = self.turn(use)
        try:
            yield
        finally:
            self.turn(before)

    def turn(self, use: Use | None) -> Use | None:
        """What happens from now on goes on this account; the one before. `on` is the safer way, and costs more."""
        now = self._monotonic()
        before, at = self._use, self._since
        if before is not None:
            number = int(at // BIN_S)
            if number in self._bins and now < (number + 1) * BIN_S:
                # Nearly always: all of it belongs to one piece that is there already.
                self._bins[number][before] += now - at
                self._spent[before] += now - at
                at = now
            while at < now:
                number = int(at // BIN_S)
                until = min(now, (number + 1) * BIN_S)
                if number not in self._bins:
                    self._forget(number)
                    self._bins[number] = dict.fromkeys(USES, 0.0)
                self._bins[number][before] += until - at
                self._spent[before] += until - at
                at = until
        self._use, self._since = use, now
        return before

    def _forget(self, number: int) -> None:
        oldest = number - WINDOW_S // BIN_S
        # In the order of time.
        if self._bins and next(iter(self._bins)) < oldest:
            self._bins = {key: one for key, one in self._bins.items() if key >= oldest}
            self._spent = {use: sum(one[use] for one in self._bins.values()) for use in USES}

    def shares(self) -> AirtimeShares:
        """Those of the last ten minutes, or of the time since it began."""
        self.turn(self._use)
        number = int(self._since // BIN_S)
        self._forget(number)
        passed = self._since - max(self._began, (number - WINDOW_S // BIN_S) * BIN_S)
        spent = list(self._spent.values())
        whole = max(passed, sum(spent))
        return AirtimeShares(*(one / whole for one in spent)) if whole > 0 else AirtimeShares()


class Airtime:
    """A share of the time, earned second by second and spent step by step. Seconds are the poller's monotonic ones."""

    def __init__(self, budget: float, now: float) -> None:
        self.budget = budget
        self._credit_s = 0.0
        self._at = now

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
