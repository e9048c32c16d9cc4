"""Why meters of a line are silent or wrong, and who they say that they are: the newest word of the poller on each."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypedDict

from homeassistant.core import HomeAssistant

from .engine import Diagnosis, IdentityReading, Point, PollMeter, PollReport
from .wording import in_words

ANOTHER_MODEL = frozenset({"wrong_template", "word_order", "scale"})
"""Causes that another model of the point's meter would end."""
OF_INSTALLATION = frozenset({"phase_lost", "voltage", "load", "reversed_ct", "stuck", "clock", "restarted", "swapped"})
LIKELY = 0.5
SHOWN = 4
"""So many causes are told, the likeliest first."""


class Cause(TypedDict):
    """One possible cause, in words."""

    cause: str
    likelihood: float
    text: str
    cure: str
    handled: bool


@dataclass(frozen=True, slots=True)
class Swap:
    """Another meter answers than was known: since when, and the serial numbers of both."""

    at: datetime
    serial: str
    before: str | None


class Causes:
    """Of one line, by point."""

    def __init__(self) -> None:
        self.diagnoses: dict[str, tuple[Diagnosis, ...]] = {}
        """Likeliest first; none of meters that are well."""
        self.identities: dict[str, IdentityReading] = {}
        self.swaps: dict[str, Swap] = {}
        """Until the new meter is entered."""
        self.since: dict[str, datetime] = {}
        """Since when meters have been silent or wrong."""
        self.down_since: datetime | None = None
        """Since when the line is not connected, or nobody answers on it."""
        self._polled: dict[str, tuple[str, str, str]] = {}

    def take(self, report: PollReport) -> frozenset[str]:
        """Keeps what a report says; returns the points of which something else is known now."""
        changed = {*report.diagnoses, *report.identities}
        for key, found in report.diagnoses.items():
            if found:
                self.diagnoses[key] = found
            else:
                self.diagnoses.pop(key, None)
        for key, identity in report.identities.items():
            self.identities[key] = identity
            if identity.swapped and identity.serial is not None:
                self._note_swap(key, identity.at, identity.serial)
        wrong = report.silent | report.wrong | {key for key in self.diagnoses if self._is_wrong(key)}
        changed |= wrong ^ self.since.keys()
        for key in self.since.keys() - wrong:
            del self.since[key]
        for key in wrong:
            self.since.setdefault(key, report.at)
        if report.health.connected and report.health.problem is None:
            self.down_since = None
        else:
            self.down_since = self.down_since or report.at
        return frozenset(changed)

    def _is_wrong(self, key: str) -> bool:
        """Whether something is wrong with how a meter is read, and probably what: alarms tell of the installation."""
        likeliest = self.likeliest(key)
        return likeliest is not None and likeliest.likelihood >= LIKELY and likeliest.cause not in OF_INSTALLATION

    def _note_swap(self, key: str, at: datetime, serial: str) -> None:
        known = self.swaps.get(key)
        if known is not None and known.serial == serial:
            return
        facts = [one.text.facts for one in self.diagnoses.get(key, ()) if one.cause == "swapped"]
        before = facts[0]["expected"] if facts else "?"
        self.swaps[key] = Swap(at, serial, None if before == "?" else before)

    def polled(self, meters: Iterable[PollMeter]) -> None:
        """Which meters are polled from now on: of those that are asked otherwise than before nothing is known."""
        now = {one.key: (one.template.id, one.protocol, one.address) for one in meters}
        for key, before in self._polled.items():
            if now.get(key) != before:
                self.forget(key)
        self._polled = now

    def forget(self, point: str) -> None:
        """Another meter is there now, or none."""
        for known in (self.diagnoses, self.identities, self.swaps, self.since):
            known.pop(point, None)

    def entered(self, point: Point, identity: IdentityReading | None) -> None:
        """Another meter was entered: `identity`, its own word, stays where that is the meter that was entered."""
        if identity is not None and identity.serial == point.meter.serial:
            self.identities[point.id] = replace(identity, swapped=False)

    def likeliest(self, point: str) -> Diagnosis | None:
        """What must be seen to first; None where nothing must."""
        return next((one for one in self.diagnoses.get(point, ()) if not one.handled), None)

    def is_another_model(self, point: str) -> bool:
        """True where the meter is not of the model that it should be, as far as that can be told."""
        likeliest = self.likeliest(point)
        if likeliest is not None and likeliest.cause in ANOTHER_MODEL and likeliest.likelihood >= LIKELY:
            return True
        identity = self.identities.get(point)
        return identity is not None and (identity.model_ok is False or identity.misfit is not None)

    def of_line(self) -> tuple[Diagnosis, ...]:
        """Causes that are the line's and not one meter's, those first that most meters speak for."""
        best: dict[str, Diagnosis] = {}
        votes: Counter[str] = Counter()
        for found in self.diagnoses.values():
            for one in found:
                if one.scope == "line":
                    votes[one.cause] += 1
                    if one.cause not in best or best[one.cause].likelihood < one.likelihood:
                        best[one.cause] = one
        return tuple(best[cause] for cause, _ in votes.most_common())

    def commonest(self, points: Iterable[str]) -> tuple[Diagnosis, ...]:
        """The likely causes of several meters together, likeliest first."""
        weights: defaultdict[str, float] = defaultdict(float)
        first: dict[str, Diagnosis] = {}
        for point in points:
            for one in self.diagnoses.get(point, ()):
                if not one.handled:
                    weights[one.cause] += one.likelihood
                    first.setdefault(one.cause, one)
        return tuple(first[cause] for cause in sorted(weights, key=lambda cause: -weights[cause]))


def told(hass: HomeAssistant, found: Iterable[Diagnosis]) -> list[Cause]:
    """Causes with what is seen and what to do, in the language of the house."""
    return [
        Cause(
            cause=one.cause,
            likelihood=round(one.likelihood, 2),
            text=in_words(hass, one.text),
            cure=in_words(hass, one.cure),
            handled=one.handled,
        )
        for one in list(found)[:SHOWN]
    ]
