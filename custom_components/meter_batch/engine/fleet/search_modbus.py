"""Which Modbus units are on a line: every address is asked once and briefly; who answers late names itself.

On a wire the patience for an absent unit is a fifth of a second. A slow meter's reply comes while another is asked and
is put down to the meter that it names. Where it met another's talk, all who may have been part of it are asked again,
with more patience. Behind a Modbus TCP gateway nothing can meet, but the gateway waits for every absent meter itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import FrameError, MeterError, NoReply, WrongMeter
from ..line import Line
from ..protocol.modbus import rtu
from ..protocol.modbus.pdu import READ_HOLDING, READ_INPUT
from ..sentences import Sentence, say
from .ear import LISTEN_BYTES, GatewayEar, UnitEar

PATIENCE_S = 0.2
"""For a unit on a wire of which nothing is known."""
SHORTEST_S = 0.12
SLOW_S = 0.7
"""The slowest meter thinks half a second; so long we wait for one that may be there."""
LEARN_FROM = 4
"""After so many answers their turn-round tells how patient we must be."""
TRIES = 4
"""How often a unit is asked where only damaged bytes come."""
MOST_DOUBTS = 60
"""Where more units than these look doubtful, the line is disturbed and asking again is of no use."""
FEW, NOISY_SHARE = 6, 0.1
"""After more damaged replies than these the line itself is disturbed."""
BABBLES = 3
"""After so many questions that could not even be asked the line is given up."""

GATEWAY_FIRST_S = 3.0
"""How long a gateway may wait for a meter that is not there, until it has shown how long it does."""
GATEWAY_SILENT_S = 1.0
"""Patience behind a gateway that says nothing of absent meters."""
NOBODY = (b"\x0a", b"\x0b")
"""What a gateway says of a meter that is not there, on a wire behind it too."""
DEVICE_PROBES = (231, 173, 94)
"""Units that are seldom used: what answers for all of them is one device that takes any."""
DEVICE_ITSELF = 255
FAILURES = frozenset({4, 5, 6})
"""Refusals by which some gateways say that a meter is not there."""


@dataclass(frozen=True, slots=True)
class Presence:
    """What is known of a unit or meter after the search."""

    address: str
    clash: bool = False
    """Several answer to it, beyond doubt."""
    garbled: bool = False
    """Only damaged replies come: a clash, or its own port or wiring is wrong."""
    problem: Sentence | None = None


type Step = Callable[[int, int, float], None]
"""Told how many questions are done, how many there will be, and the seconds that are left."""


class UnitSearch:
    """The units of a wire. `presences` by unit; `disturbed` counts questions after which only rubbish came."""

    def __init__(self, line: Line, found: Callable[[Presence], None], step: Step) -> None:
        self.presences: dict[int, Presence] = {}
        self.disturbed = 0
        self.gave_up = False
        self._line, self._found, self._step = line, found, step
        self._asked: Counter[int] = Counter()
        self._answered: Counter[int] = Counter()
        self._recent: list[tuple[float, int]] = []
        self._doubtful: set[int] = set()
        self._unanswered: list[UnitEar] = []
        """They go on listening for a while."""
        self._position = -1
        self._here: set[bytes] = set()
        self._turnrounds: list[float] = []
        self._garbled: list[int] = []
        self._babbles = 0
        self._noisy = False

    @property
    def patience_s(self) -> float:
        """How long an absent unit costs, by what those present have taught."""
        if len(self._turnrounds) < LEARN_FROM:
            return PATIENCE_S
        return min(PATIENCE_S, max(SHORTEST_S, 2 * max(self._turnrounds) + 0.04))

    def _slot_s(self) -> float:
        return self.patience_s + self._line.settings.wire_s(16) + self._line.settings.silence_s

    async def run(self, units: Sequence[int], *, twice: bool = False) -> None:
        """Asks all units, then the doubtful ones again. Raises LineError.

        `twice`: the silent ones once more, for input registers, in case a frame was lost or a meter has no others.
        """
        for function in (READ_HOLDING, READ_INPUT)[: 1 + twice]:
            todo = [unit for unit in units if unit not in self.presences]
            later = len(todo) if twice and function == READ_HOLDING else 0
            total = len(units) * (1 + twice)
            for number, unit in enumerate(todo):
                left = len(todo) - number + later
                self._step(total - left, total, left * self._slot_s() + SLOW_S)
                await self._ask(unit, function)
                if self.gave_up:
                    return
        # The last ones may answer late too.
        await asyncio.sleep(SLOW_S)
        if not self._line.echoes:
            # Damage that nobody was asked about then: behind a reply, or in the silence before a question.
            self._doubtful |= {ear.unit for ear in self._unanswered if ear.damaged}
        doubtful = sorted(self._doubtful & set(units))
        self._noisy = self.disturbed > max(FEW, NOISY_SHARE * len(units))
        if len(doubtful) > MOST_DOUBTS:
            self.disturbed = max(self.disturbed, len(doubtful))
            doubtful = []
        for number, unit in enumerate(doubtful):
            self._step(total + number, total + len(doubtful), (len(doubtful) - number) * (SLOW_S + self._slot_s()))
            await self._again(unit)
        self._tell_garbled()
        self._step(total + len(doubtful), total + len(doubtful), 0.0)

    async def _ask(self, unit: int, function: int) -> None:
        ear = UnitEar(unit, self._heard, function=function)
        self._asked[unit] += 1
        try:
            reply = await self._line.exchange(ear, turnround_s=self.patience_s)
            self._turnrounds.append(reply.turnround_s)
        except MeterError as error:
            self._unanswered.append(ear)
            if isinstance(error, FrameError):
                self._damaged(ear)
            elif isinstance(error, WrongMeter):
                # A late reply may have shortened its time, or covered a reply of its own.
                self._doubtful.add(unit)
        now = asyncio.get_running_loop().time()
        self._recent = [one for one in self._recent if one[0] > now - 1.0] + [(now, unit)]

    def _damaged(self, ear: UnitEar) -> None:
        self.disturbed += 1
        self._babbles = 0 if ear.received else self._babbles + 1
        self.gave_up = self._babbles >= BABBLES
        # Whoever has answered too: it may have a double that answers later than it.
        self._doubtful |= {ear.unit, *(unit for _, unit in self._recent)}

    def _heard(self, frame: rtu.RtuFrame) -> None:
        """Takes a frame; several questions hear the same bytes, so that each counts once."""
        position = self._line.counters.bytes_received
        if position != self._position:
            self._position, self._here = position, set()
        if frame.raw in self._here or not self._asked[frame.unit] or frame.pdu[1:] in NOBODY:
            return
        self._here.add(frame.raw)
        self._answered[frame.unit] += 1
        if self._answered[frame.unit] > self._asked[frame.unit]:
            self._doubtful.add(frame.unit)
        self._tell(Presence(str(frame.unit)))

    def _tell(self, presence: Presence) -> None:
        unit = int(presence.address)
        if unit not in self.presences or presence.clash or presence.garbled:
            self.presences[unit] = presence
            self._found(presence)

    async def _again(self, unit: int) -> None:
        """Asks a doubtful unit patiently, listening to all who answer."""
        damaged = clean = 0
        for _ in range(TRIES):
            ear = UnitEar(unit, self._heard, beyond=LISTEN_BYTES)
            self._asked[unit] += 1
            with contextlib.suppress(MeterError):
                await self._line.exchange(ear, turnround_s=SLOW_S)
            own = sum(one.unit == unit for one in ear.frames)
            damaged += ear.damaged
            clean += own == 1 and not ear.damaged
            if own > 1:
                self._tell(Presence(str(unit), clash=True, problem=say("scan_clash_unit", unit=unit)))
                return
            if not damaged and (not own or clean == 2):
                return
        if damaged > 2 or (damaged > 1 and clean):
            self._garbled.append(unit)

    def _tell_garbled(self) -> None:
        """Whoever only gets damaged replies through shares its address, or its own port or wiring is wrong.

        Where noise damages everything, it proves nothing at all.
        """
        others = any(not one.clash and not one.garbled for one in self.presences.values())
        for unit in () if self._noisy else self._garbled:
            self._tell(Presence(str(unit), garbled=True, problem=say("scan_garbled_unit", unit=unit)))
        if self._garbled and not others:
            self.disturbed = max(self.disturbed, FEW + 1, round(NOISY_SHARE * sum(self._asked.values())) + 1)


class GatewaySearch:
    """The units behind a Modbus TCP device, or the device itself. `presences` by unit."""

    gave_up = False
    disturbed = 0

    def __init__(self, line: Line, found: Callable[[Presence], None], step: Step) -> None:
        self.presences: dict[int, Presence] = {}
        self._line, self._found, self._step = line, found, step
        self._transaction = 0
        self._slowest_s = self._nobody_s = 0.0
        self._silences = 0
        self._codes: dict[int, int | None] = {}
        """Who answered: None, or the code of the refusal."""
        self._nobody_codes: set[int] = set()
        self._units: frozenset[int] = frozenset()
        self._probed = False
        """True once it is known that this is not one device that takes any unit."""

    @property
    def patience_s(self) -> float:
        """How long the far end may take: by its own time-out where it tells of absent meters, else by its answers."""
        if self._nobody_s:
            return min(30.0, max(1.0, 1.5 * self._nobody_s + 0.2))
        if self._silences < 2:
            return GATEWAY_FIRST_S
        return min(GATEWAY_FIRST_S, max(GATEWAY_SILENT_S, 3 * self._slowest_s))

    async def run(self, units: Sequence[int]) -> None:
        """Asks all units. Raises LineError."""
        if not units:
            return
        self._units = frozenset(units)
        probes = DEVICE_PROBES
        for unit in probes:
            await self._ask(unit)
        if len(self._codes) == len(probes):
            codes = set(self._codes.values())
            if codes <= FAILURES and len(codes) == 1:
                # Some gateways report a failure where they found nobody.
                self._nobody_codes = {code for code in codes if code is not None}
                self._codes.clear()
            else:
                # A device that takes any unit for its own is there once, under the first address.
                self._tell(Presence(str(units[0]), problem=say("scan_any_unit")))
                self._step(len(units), len(units), 0.0)
                return
        self._probed = True
        for unit in self._codes:
            if unit in units:
                self._tell(Presence(str(unit)))
        rest = [unit for unit in units if unit not in probes]
        for number, unit in enumerate(rest):
            each = self._nobody_s or self.patience_s
            self._step(len(units) - len(rest) + number, len(units), (len(rest) - number) * each)
            await self._ask(unit)
        self._probed = False
        if not self.presences and await self._ask(DEVICE_ITSELF):
            self._tell(Presence(str(DEVICE_ITSELF), problem=say("scan_device_itself", unit=DEVICE_ITSELF)))
        self._step(len(units), len(units), 0.0)

    async def _ask(self, unit: int) -> bool:
        """True where the unit is there; a reply that is late is told of when it comes."""
        self._transaction = self._transaction % 0xFFFF + 1
        loop = asyncio.get_running_loop()
        sent = loop.time()
        try:
            reply = await self._line.exchange(
                GatewayEar(unit, self._heard, self._transaction), turnround_s=self.patience_s
            )
            self._slowest_s = max(self._slowest_s, reply.turnround_s)
        except NoReply as error:
            if isinstance(error.text, Sentence) and error.text.key == "modbus_gateway":
                self._nobody_s = max(self._nobody_s, loop.time() - sent)
            else:
                self._silences += 1
        except MeterError:
            self._slowest_s = max(self._slowest_s, loop.time() - sent)
        return unit in self._codes

    def _heard(self, unit: int, code: int | None) -> None:
        if code not in self._nobody_codes:
            self._codes[unit] = code
            if self._probed and unit in self._units:
                self._tell(Presence(str(unit)))

    def _tell(self, presence: Presence) -> None:
        unit = int(presence.address)
        if unit not in self.presences:
            self.presences[unit] = presence
            self._found(presence)
