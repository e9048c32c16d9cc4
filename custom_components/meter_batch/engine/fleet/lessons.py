"""What meters of one model have taught: what they refuse, how long a request may be, how fast they answer.

Learned by each meter for itself, and by two of a model (or its only one) for the next of that model, which profits from
its first request on. Nothing is believed for ever: firmware differs, and a meter that is starting refuses everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError
from ..model.obis import Obis

VERSION = 1


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
                refused=frozenset(Obis(one) for one in made.get("refused", ())),
                lone=frozenset(str(one) for one in made.get("lone", ())),
                **numbers,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"these are no lessons: {error!r}") from error
