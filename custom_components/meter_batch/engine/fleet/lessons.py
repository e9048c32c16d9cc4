"""What meters of one model have taught: what they refuse, how long a request may be, how fast they answer.

Learned by each meter for itself, and by two of a model (or its only one) for the next of that model, which profits from
its first request on. Nothing is believed for ever: firmware differs, and a meter that is starting refuses everything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import median
from typing import Any

from ..errors import ConfigError
from ..model.obis import Obis, parse_obis
from ..template import DltItem, ModbusWords, Register, Template

VERSION = 1
SAME_S = 0.020
"""Turn-rounds that differ by less are the same."""


@dataclass(frozen=True, slots=True)
class Lessons:
    """What is known of how a model may be read, beyond its template. Seconds; None where nothing is known."""

    model: str
    """Id of the template."""
    max_words: int | None = None
    """How many words a Modbus request may have, where that is less than the template says."""
    cuts: frozenset[tuple[int, int]] = frozenset()
    """(function, address): no request may begin before this address and end behind it."""
    refused: frozenset[Obis] = frozenset()
    """Registers that are not there."""
    lone: frozenset[str] = frozenset()
    """DL/T 645 blocks that are not there: their items are asked for by themselves."""
    preamble: int | None = None
    """FE bytes before a DL/T 645 request: 0 where it answers without, more where it does not."""
    turnround_s: float | None = None
    """How long it thinks, on average."""
    jitter_s: float | None = None
    """How far that varies."""

    @property
    def shape(self) -> tuple[Any, ...]:
        """What of it changes which requests are made."""
        return self.max_words, self.cuts, self.refused, self.lone

    def as_dict(self) -> dict[str, Any]:
        """For JSON; what is not known is left out."""
        made: dict[str, Any] = {"version": VERSION, "model": self.model}
        if self.cuts:
            made["cuts"] = [list(one) for one in sorted(self.cuts)]
        if self.refused:
            made["refused"] = sorted(self.refused)
        if self.lone:
            made["lone"] = sorted(self.lone)
        for key in ("max_words", "preamble", "turnround_s", "jitter_s"):
            if (value := getattr(self, key)) is not None:
                made[key] = round(value, 4) if isinstance(value, float) else value
        return made

    @staticmethod
    def from_dict(made: Mapping[str, Any]) -> Lessons:
        """The inverse of `as_dict`. Raises ConfigError for anything else."""
        try:
            if made["version"] != VERSION:
                raise ConfigError(f"lessons of version {made['version']}; this program knows {VERSION}")
            numbers = {key: made.get(key) for key in ("max_words", "preamble", "turnround_s", "jitter_s")}
            if not all(one is None or (isinstance(one, (int, float)) and one >= 0) for one in numbers.values()):
                raise ConfigError(f"lessons of {made['model']}: {numbers} are no numbers from 0")
            return Lessons(
                str(made["model"]),
                cuts=frozenset((int(function), int(address)) for function, address in made.get("cuts", ())),
                refused=frozenset(parse_obis(one) for one in made.get("refused", ())),
                lone=frozenset(str(one) for one in made.get("lone", ())),
                **numbers,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"these are no lessons: {error!r}") from error


def applied(template: Template, lessons: Lessons) -> Template:
    """The template as the lessons say that it may be read; the same object for the same lessons."""
    return _applied(template, lessons.max_words, lessons.cuts, lessons.refused, lessons.lone)


@lru_cache(maxsize=512)
def _applied(
    template: Template,
    max_words: int | None,
    cuts: frozenset[tuple[int, int]],
    refused: frozenset[Obis],
    lone: frozenset[str],
) -> Template:
    if max_words is None and not cuts | refused | lone:
        return template
    gone = [one.locator for one in template.registers if one.obis in refused]
    cuts |= {(one.function, one.address) for one in gone if isinstance(one, ModbusWords)}
    registers = tuple(_alone(one, lone) for one in template.registers if one.obis not in refused)
    # Whatever was learned, a register is asked for whole.
    longest = max((one.locator.words for one in registers if isinstance(one.locator, ModbusWords)), default=1)
    words = template.modbus.max_words
    words = words if max_words is None else max(longest, min(max_words, words))
    return replace(template, registers=registers, modbus=replace(template.modbus, max_words=words, cuts=cuts))


def _alone(register: Register, lone: frozenset[str]) -> Register:
    """The register without the block that the meter does not know."""
    locator = register.locator
    if isinstance(locator, ModbusWords) or locator.di not in lone:
        return register
    return replace(register, locator=DltItem(locator.single, 0, locator.single))


@dataclass(frozen=True, slots=True)
class _Vote:
    lessons: Lessons
    tested: bool


class Models:
    """What the meters of a line have taught about their models."""

    def __init__(self, known: Mapping[str, Lessons] | None = None) -> None:
        self._known = dict(known or {})
        self._votes: dict[str, dict[str, _Vote]] = {}
        self._told = dict(self._known)
        self._changed: set[str] = set()

    def start(self, model: str) -> Lessons:
        """What the next meter of a model begins with."""
        return self._known.get(model) or Lessons(model)

    def vote(self, key: str, lessons: Lessons, *, tested: bool) -> None:
        """What a meter has found out; `tested`: it was asked for everything, so what it did not refuse is there."""
        votes = self._votes.setdefault(lessons.model, {})
        old = votes.get(key)
        if old is not None and old.tested == tested and not _differs(old.lessons, lessons):
            return
        votes[key] = _Vote(lessons, tested)
        self._known[lessons.model] = _agreed(self.start(lessons.model), list(votes.values()))
        self._changed.add(lessons.model)

    def forget(self, key: str, model: str) -> Lessons:
        """A meter begins anew: what the others of its model say, and nothing where there are none."""
        votes = self._votes.get(model, {})
        if votes.pop(key, None) is not None and not votes:
            self._known[model] = _without_shape(self.start(model))
        return self.start(model)

    def news(self) -> dict[str, Lessons]:
        """What models have taught anew since this was last asked."""
        new = {}
        for model in self._changed:
            lessons = self._known[model]
            if _differs(self._told.get(model), lessons):
                new[model] = self._told[model] = lessons
        self._changed.clear()
        return new


def _without_shape(lessons: Lessons) -> Lessons:
    return Lessons(lessons.model, turnround_s=lessons.turnround_s, jitter_s=lessons.jitter_s)


def _agreed(known: Lessons, votes: list[_Vote]) -> Lessons:
    """What two meters say, or the only one; of what was known before it is enough that one still says so."""
    tested = [one.lessons for one in votes if one.tested]
    if tested:
        enough = min(2, len(tested))
        lengths = sorted(one.max_words for one in tested if one.max_words is not None)
        known = replace(
            known,
            max_words=lengths[enough - 1] if len(lengths) >= enough else None,
            cuts=_said([one.cuts for one in tested], known.cuts, enough),
            refused=_said([one.refused for one in tested], known.refused, enough),
            lone=_said([one.lone for one in tested], known.lone, enough),
        )
    preambles = [one.lessons.preamble for one in votes if one.lessons.preamble is not None]
    if preambles:
        preamble, times = Counter(preambles).most_common(1)[0]
        known = replace(known, preamble=preamble if times >= min(2, len(preambles)) else known.preamble)
    thought = [one.lessons.turnround_s for one in votes if one.lessons.turnround_s is not None]
    jitters = [one.lessons.jitter_s for one in votes if one.lessons.jitter_s is not None]
    if thought and jitters:
        known = replace(known, turnround_s=median(thought), jitter_s=median(jitters))
    return known


def _said[One](sets: list[frozenset[One]], before: frozenset[One], enough: int) -> frozenset[One]:
    counted = Counter(one for some in sets for one in some)
    return frozenset(one for one, count in counted.items() if count >= enough or one in before)


def _differs(old: Lessons | None, new: Lessons) -> bool:
    """True where it is worth telling: times wander, and only half as much again is news."""
    if old is None:
        return new != Lessons(new.model)
    if (old.shape, old.preamble) != (new.shape, new.preamble):
        return True
    before, after = old.turnround_s, new.turnround_s
    return after is not None and (before is None or abs(after - before) > max(SAME_S, before / 2))
