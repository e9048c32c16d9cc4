"""The time of a virtual fleet (the world's, or quicker, or standing still), and the clocks of its meters."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta


class FleetClock:
    """`now()` is what all meters go by. With speed X it starts at the present and runs X times as fast."""

    def __init__(self, *, speed: float = 1.0, hold: bool = False) -> None:
        self._started = time.monotonic()
        self.started_at = datetime.now(UTC)
        self._speed = speed
        self._held_at: datetime | None = self.started_at if hold else None

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
        return self.at_s(self.since_start_s())

    def at_s(self, since_start_s: float) -> datetime:
        """The fleet's instant so many real seconds after its start, were it not held."""
        return self.started_at + timedelta(seconds=since_start_s * self._speed)

    def hold(self, held: bool) -> None:
        """Stops the clock, or lets it go on from where it would be by now."""
        self._held_at = None
        if held:
            self._held_at = self.now()

    def since_start_s(self) -> float:
        """Real seconds since the fleet started; faults are scripted by them. Not held, not sped up."""
        return time.monotonic() - self._started


class MeterClock:
    """What the clock of one meter shows, and when it showed what: its memory is labelled by it.

    `offset_s` is how wrong it is at `since`, `drift_ppm` how many microseconds it gains in a second, before and after.
    What it shows is given as aware UTC, as if it went by UTC. A setting counts from its instant on: labels that the
    clock jumped over were never shown, and of those that it showed twice the later one stands in the memory.
    """

    def __init__(self, offset_s: float, drift_ppm: float, since: datetime) -> None:
        self._rate = drift_ppm / 1e6
        self._settings = [(since, timedelta(seconds=offset_s))]

    @property
    def settings(self) -> int:
        """How often it was set, with the first time."""
        return len(self._settings)

    def shown(self, at: datetime) -> datetime:
        """What it shows at an instant."""
        since, offset = next((one for one in reversed(self._settings) if one[0] <= at), self._settings[0])
        return at + offset + (at - since) * self._rate if self._rate else at + offset

    def set(self, at: datetime, shown: datetime) -> None:
        """From now (`at`) on it shows this."""
        self._settings.append((at, shown - at))

    def instant(self, shown: datetime) -> datetime | None:
        """When it showed this last, by its settings until now; None where it never did."""
        until: datetime | None = None
        for since, offset in reversed(self._settings):
            at = shown - offset
            if self._rate:
                at = since + (at - since) / (1 + self._rate)
            first = since is self._settings[0][0]
            if (until is None or at < until) and (first or at >= since):
                return at
            until = since
        return None
