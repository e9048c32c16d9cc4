"""Registers about which a meter says nothing although it answers for others: many are silent where they should refuse.

A question that stays unanswered twice, while the meter answered another in between, is divided and asked in parts,
until the registers are found that it ignores. Those are asked for ever more rarely, and the others keep coming.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..model.obis import Obis
from ..template import ModbusRequest, Request
from .request import smaller

MISSES_TO_MUTE = 2.0
AGAIN_FIRST_S = 60.0
AGAIN_CAP_S = 3600.0
WHOLE_FIRST_S = 60.0
"""After so long what was divided is asked in one again: it may have been noise. Doubled while it is not."""
WHOLE_CAP_S = 86_400.0
SEARCHED_AT_ONCE = 2
"""How many parts of which nothing is known a round asks: each may cost a time-out."""


@dataclass(slots=True)
class _Doubt:
    """A question that was not answered, and how many answers the meter had given by then."""

    misses: float
    answers: int


@dataclass(slots=True)
class _Part:
    """Registers that are asked for by themselves."""

    obis: frozenset[Obis]
    answered: bool = False
    ask_at: float = 0.0
    pause_s: float = 0.0
    """How long it is left alone: more than 0 where the meter ignores it and it cannot be divided further."""


class Mutes:
    """What one meter ignores. Instants are the poller's monotonic seconds."""

    def __init__(self) -> None:
        self.given: set[Obis] = set()
        """Registers that it gave at least once."""
        self._answers = 0
        self._doubts: dict[frozenset[Obis], _Doubt] = {}
        self._parts: list[_Part] = []
        self._whole_s = WHOLE_FIRST_S
        self._whole_at = math.inf
        self._joined_at = -math.inf

    @property
    def divided(self) -> bool:
        """True where something is asked in parts."""
        return bool(self._parts)

    @property
    def ignored(self) -> frozenset[Obis]:
        """Registers that the meter is known to ignore."""
        return frozenset().union(*(one.obis for one in self._parts if one.pause_s))

    def split(self, obis: frozenset[Obis], now: float | None) -> tuple[frozenset[Obis], list[frozenset[Obis]]]:
        """What may be asked together, and the parts that are asked by themselves: all, or those whose time has come."""
        if now is not None:
            self._join(now)
        apart: list[frozenset[Obis]] = []
        searched = 0
        for part in self._parts:
            if not (wanted := obis & part.obis):
                continue
            obis -= part.obis
            if part.answered or now is None:
                apart.append(wanted)
            elif part.ask_at <= now and searched < SEARCHED_AT_ONCE:
                apart.append(wanted)
                searched += 1
        return obis, apart

    def _join(self, now: float) -> None:
        """Lets parts that are answered be asked for together again, when that was not tried for long enough."""
        if not any(one.answered for one in self._parts):
            self._whole_at = math.inf
        elif self._whole_at == math.inf:
            self._whole_at = now + self._whole_s
        elif now >= self._whole_at:
            self._parts = [one for one in self._parts if not one.answered]
            self._whole_at, self._joined_at = math.inf, now
            self._whole_s = min(WHOLE_CAP_S, 2 * self._whole_s)

    def gives(self, request: Request) -> bool:
        """True where it answered for all registers of a request before."""
        return _obis(request) <= self.given

    def answered(self) -> None:
        """Something came from the meter."""
        self._answers += 1

    def gave(self, request: Request) -> None:
        """It answered this."""
        obis = _obis(request)
        self.given |= obis
        self._doubts = {key: one for key, one in self._doubts.items() if not key <= obis}
        for part in self._parts:
            if obis & part.obis:
                part.answered, part.pause_s = True, 0.0

    def refused(self, request: Request) -> None:
        """It refused this, so it does not ignore it."""
        self._doubts.pop(_obis(request), None)

    def forgive(self) -> None:
        """It is slow, not mute."""
        self._doubts.clear()

    def missed(self, request: Request, weight: float, now: float) -> bool:
        """It did not answer this; True where it is this question that it does not answer."""
        obis = _obis(request)
        doubt = self._doubts.setdefault(obis, _Doubt(0.0, self._answers))
        doubt.misses += weight
        if doubt.misses < MISSES_TO_MUTE or doubt.answers == self._answers:
            return False
        doubt.answers = self._answers
        self._divide(request, obis, now)
        return True

    def _divide(self, request: Request, obis: frozenset[Obis], now: float) -> None:
        old = [one for one in self._parts if one.obis & obis]
        self._parts = [one for one in self._parts if not one.obis & obis]
        self._parts += [_Part(rest, one.answered) for one in old if (rest := one.obis - obis)]
        if not old and now > self._joined_at + self._whole_s:
            self._whole_s = WHOLE_FIRST_S
        if parts := smaller(request):
            for part in map(_obis, parts):
                self._parts.append(_Part(part))
                self._doubts[part] = _Doubt(MISSES_TO_MUTE - 1.0, self._answers)
            return
        pause_s = max((one.pause_s for one in old), default=0.0)
        if isinstance(request, ModbusRequest) and not pause_s:
            # This one was the cause, so its neighbours may be asked together again, only not across it.
            self._parts = [one for one in self._parts if not one.answered]
        pause_s = min(AGAIN_CAP_S, 2 * pause_s) if pause_s else AGAIN_FIRST_S
        self._parts.append(_Part(obis, ask_at=now + pause_s, pause_s=pause_s))


def _obis(request: Request) -> frozenset[Obis]:
    return frozenset(one.obis for one in request.registers)
