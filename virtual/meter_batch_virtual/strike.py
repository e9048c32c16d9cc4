"""What faults make of the replies of one meter or line, with their own memory of how often they struck."""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from meter_batch_engine.protocol.dlt645 import frame as dlt645
from meter_batch_engine.protocol.modbus import rtu

from .fault import KINDS, Fault, spoken

_OF_REPLIES = frozenset("silent noise flip half late slow echo glitch prefix glued previous".split())


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
        self._strikes_replies = not self.kinds.isdisjoint(_OF_REPLIES)
        self._read_s = read_s
        self._going_on: dict[str, float] = {}
        self._random = random.Random(self._seed)  # repeatable, not secret
        self._seen = [0] * len(faults)
        self._struck = [0] * len(faults)
        self._kept: list[bytes | None] = [None] * len(faults)
        self._transaction = 0

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
        fault = self.now(kind, since_start_s)
        if since_s is None or fault is None:
            return None
        return fault, since_s, self._read_s + fault.ends_s

    def now(self, kind: str, since_start_s: float) -> Fault | None:
        """The fault of this kind that is active now."""
        return next(self.each(kind, since_start_s), None) if kind in self.kinds else None

    def each(self, kind: str, since_start_s: float) -> Iterator[Fault]:
        """All faults of this kind that are active now."""
        since_read_s = since_start_s - self._read_s
        return (one for one in self._faults if one.kind == kind and one.active(since_read_s))

    def since(self, kind: str, since_start_s: float) -> float | None:
        """When the fault of this kind that is active now began, in seconds from the start; None while none is."""
        active = self.now(kind, since_start_s)
        if active is None:
            return None
        begun = self._read_s + active.from_s
        return begun if active.from_s > 0 else self._going_on.get(kind, begun)

    def next_change(self, kind: str, since_start_s: float) -> float | None:
        """When the next fault of this kind begins or ends; None where none does any more."""
        return self.next_edge((kind,), since_start_s)

    def next_edge(self, kinds: Collection[str], since_start_s: float) -> float | None:
        """The same for several kinds."""
        since_read_s = since_start_s - self._read_s
        edges = [edge for one in self._faults if one.kind in kinds for edge in (one.from_s, one.ends_s)]
        after = min((edge for edge in edges if since_read_s < edge < math.inf), default=None)
        return None if after is None else self._read_s + after

    def apply(self, request: bytes, reply: bytes, since_start_s: float) -> Said | None:
        """What really goes out for a reply; None for silence."""
        said: Said | None = Said(reply)
        if not self._strikes_replies:
            return said
        for index, fault in enumerate(self._faults):
            if said is not None and fault.kind in _OF_REPLIES:
                if fault.kind in ("glued", "previous"):
                    said = self._of_before(index, fault, said, since_start_s)
                elif self._strikes(index, fault, since_start_s):
                    said = self._strike(fault, request, said)
        return said

    def transaction(self, asked: int, since_start_s: float) -> int:
        """The transaction number that a gateway gives back."""
        fault = self.now("no_transaction", since_start_s)
        if fault is None:
            return asked
        self._transaction = self._transaction % 0xFFFF + 1
        return 0 if fault.transaction == "zero" else self._transaction

    def unasked(self, since_start_s: float) -> Iterator[tuple[int, Fault]]:
        """The faults that send bytes without a question now, with a number of theirs."""
        for index, fault in enumerate(self._faults):
            idle = fault.kind != "prefix" or fault.sent == "idle"
            if fault.unasked_s is not None and idle and fault.active(since_start_s - self._read_s):
                yield index, fault

    def rubbish(self, fault: Fault) -> bytes:
        """The bytes of a fault that adds some."""
        if fault.kind == "prefix":
            return spoken(fault)
        if fault.kind == "glitch":
            return bytes(self._random.choices((0x00, 0xFF), k=fault.bytes))
        return self._random.randbytes(fault.bytes)

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

    def _of_before(self, index: int, fault: Fault, said: Said, since_start_s: float) -> Said | None:
        """Faults that confuse one reply with another."""
        if fault.kind == "glued" and fault.frame == "foreign":
            strikes = self._strikes(index, fault, since_start_s)
            return Said(foreign(said.raw) + said.raw, said.later_s) if strikes else said
        kept, self._kept[index] = self._kept[index], None
        if fault.kind == "previous":
            self._kept[index] = said.raw
            if not self._strikes(index, fault, since_start_s):
                return said
            return None if kept is None else Said(kept, said.later_s)
        if kept is not None and fault.active(since_start_s - self._read_s):
            return Said(kept + said.raw, said.later_s)
        if self._strikes(index, fault, since_start_s):
            self._kept[index] = said.raw
            return None
        return said

    def _strike(self, fault: Fault, request: bytes, said: Said) -> Said | None:
        raw = said.raw
        match fault.kind:
            case "silent":
                return None
            case "noise" | "glitch":
                raw = self._around(fault, raw)
            case "flip":
                flipped = bytearray(raw)
                for _ in range(fault.bits):
                    flipped[self._random.randrange(len(flipped))] ^= 1 << self._random.randrange(8)
                raw = bytes(flipped)
            case "half":
                raw = raw[: len(raw) // 2 if fault.keep is None else fault.keep]
            case "late" | "slow":
                return Said(raw, said.later_s + fault.late_s)
            case "echo":
                raw = request + raw
            case "prefix" if fault.sent == "each":
                raw = spoken(fault) + raw
        return Said(raw, said.later_s)

    def _around(self, fault: Fault, raw: bytes) -> bytes:
        rubbish = self.rubbish(fault)
        match fault.place:
            case "before":
                return rubbish + raw
            case "after":
                return raw + rubbish
            case "around":
                return rubbish + raw + self.rubbish(fault)
            case "inside":
                place = self._random.randrange(1, max(2, len(raw)))
                return raw[:place] + rubbish + raw[place:]
            case _:
                return rubbish


def foreign(raw: bytes) -> bytes:
    """The same reply as if another meter had sent it: other address, right checksum; of Modbus TCP another number."""
    frames = dlt645.Framer().feed(raw)
    if frames:
        one = frames[0]
        other = f"{(int(one.address) + 1) % 10**12:012d}" if one.address.isdecimal() else one.address
        return dlt645.encode(other, one.control, one.data)
    if len(raw) >= 8 and raw[2:4] == b"\0\0" and int.from_bytes(raw[4:6]) == len(raw) - 6:
        return bytes((raw[0] ^ 0x55, raw[1] ^ 0x55)) + raw[2:]
    return rtu.encode(raw[0] % 247 + 1, raw[1:-2]) if len(raw) > 4 else raw
