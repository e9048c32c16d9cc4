"""How long a meter takes to begin its reply, and whether it wants to be woken with FE bytes first."""

from __future__ import annotations

import math

SPARE_S = 0.050
"""What every time-out allows on top of what was seen."""
FLOOR_S = {"modbus": 0.350, "dlt645": 0.600}
"""Shortest time-out of a meter that answers: it costs nothing while it does, and one reply in a hundred is slow."""
HELD = 100
"""A slow reply is remembered for so many others …"""
FADES = 0.97
"""… and then forgotten by so much with each."""
FLOOR_FALLS = 0.4
"""By so much each time that a frame was lost for good."""
MOST_S = 10.0
ANSWERS_BEFORE_TRIAL = 3
"""So often a meter answers with its preamble before one question goes without."""
TRUSTED_ANSWERS = 20
"""After so many answers without it one miss is noise."""
TRY_AGAIN_S = 86_400.0
TRY_AGAIN_CAP_S = 30 * 86_400.0


class Turnround:
    """Estimated as TCP does it (RFC 6298), and its slowest recent ones. `guess`: mean and jitter of its model."""

    def __init__(self, first_s: float, floor_s: float, guess: tuple[float, float] | None = None) -> None:
        self._first_s, self._floor_s, self._guess = first_s, floor_s, guess
        self._usual_floor_s = floor_s
        self.mean_s: float | None = None
        self.jitter_s = 0.0
        self._slowest_s = 0.0
        """The slowest recent reply, and how many came since; then the memory of it fades."""
        self._since = 0
        self._replies = 0

    def add(self, seconds: float) -> None:
        """Takes the turn-round of a reply."""
        self._replies += 1
        if seconds >= self._slowest_s:
            self._slowest_s, self._since = seconds, 0
        else:
            self._since += 1
            if self._since > HELD:
                self._slowest_s *= FADES
        if self.mean_s is None:
            self.mean_s, self.jitter_s = seconds, seconds / 2
        else:
            self.jitter_s += (abs(seconds - self.mean_s) - self.jitter_s) / 4
            self.mean_s += (seconds - self.mean_s) / 8

    def lost(self) -> None:
        """A reply did not come. Where frames are lost, each costs a whole time-out, so that the floor goes down."""
        if self.known:
            self._floor_s = max(self._usual_floor_s / 4, self._floor_s * FLOOR_FALLS)

    def was_late(self) -> None:
        """A reply came after its time-out: it was not lost, the floor was too low."""
        self._floor_s = self._usual_floor_s

    @property
    def known(self) -> bool:
        """True once it has answered often enough to speak for its model."""
        return self._replies >= 20

    @property
    def expected_s(self) -> float | None:
        """Its mean, or that of its model; None where neither is known."""
        return self.mean_s if self.mean_s is not None or self._guess is None else self._guess[0]

    @property
    def usual_s(self) -> float | None:
        """What nearly all replies keep; None where none came yet."""
        return None if self.mean_s is None else self.mean_s + 4 * self.jitter_s + SPARE_S

    @property
    def timeout_s(self) -> float:
        """How long to wait for the beginning of a reply."""
        usual = self.usual_s
        if usual is None:
            if self._guess is None:
                return self._first_s
            # Another meter of the model may be twice as slow, one that is not there is not worth more.
            return min(MOST_S, max(self._floor_s, 2 * (self._guess[0] + 4 * self._guess[1]) + SPARE_S))
        if self._floor_s < self._usual_floor_s:
            # Frames are lost here, so that waiting costs more than asking again.
            return min(MOST_S, max(self._floor_s, usual - SPARE_S / 2, 1.25 * self._slowest_s + SPARE_S / 2))
        return min(MOST_S, max(self._floor_s, usual, 1.5 * self._slowest_s + SPARE_S))


class Preamble:
    """How many FE bytes go before a question to a DL/T 645 meter: the usual ones, or none where it answers without.

    `usual`: what line and model ask for; `learned`: what the model has taught. A miss without them is never held
    against the meter alone: the next question goes with them, and tells.
    """

    def __init__(self, usual: int, learned: int | None = None, *, fixed: bool = False) -> None:
        self._usual = usual
        self._trial = not fixed and usual > 0 and not learned
        """Whether it may go without."""
        self._with = 0 if learned == 0 else ANSWERS_BEFORE_TRIAL
        """How many answers with it are to come before the next question without."""
        self._without = 0
        """Answers without it in a row."""
        self._strikes = 0
        self._pause_s, self._again_at = TRY_AGAIN_S, math.inf
        self.needed: bool | None = True if learned and usual else None
        """None while that is not known."""

    @property
    def bytes(self) -> int:
        """How many go before the next question."""
        return 0 if self._trial and not self._with else self._usual

    @property
    def learned(self) -> int | None:
        """For the model; None where nothing is known, or none is used anyway."""
        return None if not self._usual or self.needed is None else self._usual * self.needed

    def answered(self, sent: int, now: float) -> None:
        """It answered a question before which so many went."""
        if not self._usual:
            return
        if not sent:
            self._without += 1
            if self._without >= ANSWERS_BEFORE_TRIAL:
                self.needed = False
                self._strikes = self._strikes if self._without < TRUSTED_ANSWERS else 0
        elif self._trial:
            self._with = max(0, self._with - 1)
        elif self.needed and self._again_at == math.inf:
            self._again_at = now + self._pause_s
        elif self.needed and now >= self._again_at:
            self._trial, self._with, self._strikes, self._without = True, 0, 0, 0

    def missed(self, sent: int, now: float) -> None:
        """It did not answer a question before which so many went."""
        if sent or not self._trial:
            return
        self._strikes += 1
        trusted = self._without >= ANSWERS_BEFORE_TRIAL
        self._with, self._without = 1, 0
        if self._strikes > trusted:
            self._trial, self.needed = False, True
            self._again_at, self._pause_s = now + self._pause_s, min(TRY_AGAIN_CAP_S, 2 * self._pause_s)
