"""The time of a virtual fleet: the world's, or quicker, or standing still."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta


class FleetClock:
    """`now()` is what all meters go by. With speed X it starts at the present and runs X times as fast."""

    def __init__(self, *, speed: float = 1.0, hold: bool = False) -> None:
        self._started = time.monotonic()
        self._started_at = datetime.now(UTC)
        self._speed = speed
        self._held_at: datetime | None = self._started_at if hold else None

    @property
    def held(self) -> bool:
        """True while the clock stands still."""
        return self._held_at is not None

    def now(self) -> datetime:
        """The fleet's instant, aware UTC."""
        if self._held_at is not None:
            return self._held_at
        if self._speed == 1.0:
            return datetime.now(UTC)
        return self._started_at + timedelta(seconds=self.since_start_s() * self._speed)

    def hold(self, held: bool) -> None:
        """Stops the clock, or lets it go on from where it would be by now."""
        self._held_at = None
        if held:
            self._held_at = self.now()

    def since_start_s(self) -> float:
        """Real seconds since the fleet started; faults are scripted by them. Not held, not sped up."""
        return time.monotonic() - self._started
