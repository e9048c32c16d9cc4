"""Faults that a fleet file scripts, on a meter or on a line: what goes wrong, from when to when, and how often."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, fields, replace

from meter_batch_engine.errors import ConfigError

KINDS = {
    "silent": "does not answer",
    "noise": "rubbish bytes around the reply",
    "flip": "bits of the reply are wrong",
    "half": "the reply breaks off",
    "late": "the reply comes `late_s` later",
    "echo": "the request comes back before the reply",
    "reboot": "counters read zero",
    "swap": "another meter hangs here: other serial number, other register level",
    "phase_lost": "a phase has no voltage, and no load",
    "voltage": "the voltage is `factor` times what it would be",
    "load": "power and current are `factor` times what they would be",
    "reversed": "a current transformer is reversed: power and energy change their direction",
    "stuck": "the energy registers stand still",
    "cut": "the line is pulled: nobody is connected and nobody can connect",
}
"""Every kind of fault and what a reader sees of it."""

_ON_METER_ONLY = frozenset({"reboot", "swap", "phase_lost", "voltage", "load", "reversed", "stuck"})
_ON_LINE_ONLY = frozenset({"cut"})
_OF_REPLIES = frozenset(KINDS) - _ON_METER_ONLY - _ON_LINE_ONLY
_PLACES = ("before", "after", "instead")
REBOOT_S = 15.0
_USUAL_FACTOR = {"voltage": 0.8, "load": 1.5}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. Seconds count from when the fleet file was read; it is active in [from_s, to_s).

    `every` = n strikes each n-th reply, `probability` a random share of them, `count` at most so many.
    """

    kind: str
    from_s: float = 0.0
    to_s: float | None = None
    every: int = 1
    probability: float = 1.0
    count: int | None = None
    bytes: int = 8
    """How many bytes of noise."""
    place: str = "before"
    """Where noise stands: before, after or instead of the reply."""
    bits: int = 1
    """How many bits flip."""
    keep: int | None = None
    """How many bytes of a half reply come; None for half of it."""
    late_s: float = 2.0
    phase: int = 1
    """Which phase is lost."""
    factor: float = 1.0
    """By how much voltage or load is another; without it 0.8 and 1.5."""

    @property
    def ends_s(self) -> float:
        """When it ends; a meter that starts again is soon done with it."""
        if self.to_s is not None:
            return self.to_s
        return self.from_s + REBOOT_S if self.kind == "reboot" else math.inf

    def active(self, since_read_s: float) -> bool:
        """True while it can strike."""
        return self.from_s <= since_read_s < self.ends_s


def parse_fault(table: object, where: str, *, on_line: bool = False) -> Fault:
    """A fault from its table in a fleet file; raises ConfigError that names the place and the key."""
    if not isinstance(table, dict):
        raise ConfigError(f'{where}: it must be a table such as {{ kind = "silent" }}, not {table!r}')
    known = {field.name: field for field in fields(Fault)}
    for key, value in table.items():
        if key not in known:
            raise ConfigError(f"{where}: unknown key {key}; a fault may have {', '.join(known)}")
        if key in ("kind", "place"):
            if not isinstance(value, str):
                raise ConfigError(f"{where}: {key} must be a text")
        elif isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise ConfigError(f"{where}: {key} = {value!r} must be a number of 0 or more")
        elif key in ("every", "count", "bytes", "bits", "keep", "phase") and not isinstance(value, int):
            raise ConfigError(f"{where}: {key} = {value!r} must be a whole number")
    kinds = [kind for kind in KINDS if kind not in (_ON_METER_ONLY if on_line else _ON_LINE_ONLY)]
    if table.get("kind") not in kinds:
        raise ConfigError(f"{where}: kind = {table.get('kind')!r}; it may be {', '.join(kinds)}")
    if table["kind"] == "cut" and (wrong := table.keys() - {"kind", "from_s", "to_s"}):
        raise ConfigError(f"{where}: a cut has only from_s and to_s, not {', '.join(sorted(wrong))}")
    fault = Fault(**table)
    if "factor" not in table and fault.kind in _USUAL_FACTOR:
        fault = replace(fault, factor=_USUAL_FACTOR[fault.kind])
    if fault.phase not in (1, 2, 3):
        raise ConfigError(f"{where}: phase = {fault.phase}; it may be 1, 2 or 3")
    if fault.place not in _PLACES:
        raise ConfigError(f'{where}: place = "{fault.place}"; it may be {", ".join(_PLACES)}')
    if fault.every < 1 or fault.probability > 1:
        raise ConfigError(f"{where}: every must be at least 1 and probability at most 1")
    if fault.to_s is not None and fault.to_s <= fault.from_s:
        raise ConfigError(f"{where}: to_s = {fault.to_s} must lie behind from_s = {fault.from_s}")
    return fault


@dataclass(slots=True)
class Said:
    """A reply on its way through the faults; None has nothing left to say."""

    raw: bytes
    later_s: float = 0.0


class Faults:
    """The faults of one meter or line, with their own memory of how often they struck. Random, but by seed.

    All instants are seconds since the fleet started.
    """

    def __init__(self, faults: tuple[Fault, ...], seed: int) -> None:
        self._seed = seed
        self._begin(faults, 0.0)

    def _begin(self, faults: tuple[Fault, ...], read_s: float) -> None:
        self._faults = faults
        self.kinds = frozenset(one.kind for one in faults)
        self._read_s = read_s
        self._going_on: dict[str, float] = {}
        self._random = random.Random(self._seed)  # repeatable, not secret
        self._seen = [0] * len(faults)
        self._struck = [0] * len(faults)

    def reload(self, faults: tuple[Fault, ...], since_start_s: float) -> None:
        """From now on these, and their times count from now. What is active before and after goes on unbroken."""
        before = {kind: self.since(kind, since_start_s) for kind in KINDS}
        self._begin(faults, since_start_s)
        self._going_on = {kind: since for kind, since in before.items() if since is not None}

    def active(self, kind: str, since_start_s: float) -> bool:
        """True while a fault of this kind is active; for those that change values instead of bytes."""
        return self.since(kind, since_start_s) is not None

    def at_work(self, kind: str, since_start_s: float) -> tuple[Fault, float, float] | None:
        """The fault of this kind that is active now, since when and until when, in seconds from the start."""
        since_s = self.since(kind, since_start_s)
        if since_s is None:
            return None
        fault = next(one for one in self._faults if one.kind == kind and one.active(since_start_s - self._read_s))
        return fault, since_s, self._read_s + fault.ends_s

    def since(self, kind: str, since_start_s: float) -> float | None:
        """When the fault of this kind that is active now began, in seconds from the start; None while none is."""
        since_read_s = since_start_s - self._read_s
        active = next((one for one in self._faults if one.kind == kind and one.active(since_read_s)), None)
        if active is None:
            return None
        begun = self._read_s + active.from_s
        return begun if active.from_s > 0 else self._going_on.get(kind, begun)

    def next_change(self, kind: str, since_start_s: float) -> float | None:
        """When the next fault of this kind begins or ends; None where none does any more."""
        since_read_s = since_start_s - self._read_s
        edges = [edge for one in self._faults if one.kind == kind for edge in (one.from_s, one.ends_s)]
        after = min((edge for edge in edges if since_read_s < edge < math.inf), default=None)
        return None if after is None else self._read_s + after

    def apply(self, request: bytes, reply: bytes, since_start_s: float) -> Said | None:
        """What really goes out for a reply; None for silence."""
        said: Said | None = Said(reply)
        for index, fault in enumerate(self._faults):
            if said is not None and fault.kind in _OF_REPLIES and self._strikes(index, fault, since_start_s):
                said = self._strike(fault, request, said)
        return said

    def _strikes(self, index: int, fault: Fault, since_start_s: float) -> bool:
        if not fault.active(since_start_s - self._read_s) or (
            fault.count is not None and self._struck[index] >= fault.count
        ):
            return False
        self._seen[index] += 1
        if self._seen[index] % fault.every or self._random.random() >= fault.probability:
            return False
        self._struck[index] += 1
        return True

    def _strike(self, fault: Fault, request: bytes, said: Said) -> Said | None:
        raw = said.raw
        match fault.kind:
            case "silent":
                return None
            case "noise":
                noise = self._random.randbytes(fault.bytes)
                raw = {"before": noise + raw, "after": raw + noise, "instead": noise}[fault.place]
            case "flip":
                flipped = bytearray(raw)
                for _ in range(fault.bits):
                    flipped[self._random.randrange(len(flipped))] ^= 1 << self._random.randrange(8)
                raw = bytes(flipped)
            case "half":
                raw = raw[: len(raw) // 2 if fault.keep is None else fault.keep]
            case "late":
                return Said(raw, said.later_s + fault.late_s)
            case "echo":
                raw = request + raw
        return Said(raw, said.later_s)
