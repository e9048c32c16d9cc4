"""Which DL/T 645 meters are on a line: one question where there is one meter, halving by shortened addresses else.

Pairs AA of an address stand for any digits. Where several meters answer one question their replies damage each other;
then the question is put again for each value of a further pair, the lowest first, as the standard shortens addresses.
A pair below which only one question stays open is asked within that question; where several stay open the pair is asked
once for the whole line first, and only values that several meters have are worth asking again within each.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import FrameError, MeterError
from ..line import Line
from ..protocol.dlt645.exchange import READ, READ_ADDRESS, REPLY_PREAMBLE, identifier
from ..protocol.dlt645.frame import Frame, Variant
from ..sentences import say
from .ear import LISTEN_BYTES, AddressEar
from .search_modbus import BABBLES, Presence, Step

STANDARD_S = 0.55
"""A meter thinks up to half a second, by the standard."""
SHORTEST_S = 0.15
HEAR_BYTES = 8
"""So much more than one reply is waited for, so that a second one is heard that comes after the first."""
PREAMBLE = 4
"""FE bytes before each question: some meters need them to wake up."""
TRIES = 3
PAIRS = 6
VALUES = tuple(f"{value:02d}" for value in range(100))
_ENERGY = {"2007": "00010000", "1997": "9010"}
_ENERGIES = "0001FF00"
"""The total and four tariffs."""
_BY_ADDRESS = ""
_OTHERS = {"2007": (_BY_ADDRESS, _ENERGIES, "0201FF00"), "1997": ("901F", "B61F")}
"""Other questions that every meter answers otherwise: address, energies of tariffs, voltages."""
_OWN_ADDRESS = ("C034", "C032")
"""Where a meter of 1997 that repeats the wildcard says who it is: its address, or its number."""


@dataclass(frozen=True, slots=True)
class _Heard:
    """What a question brought: who answered, and whether something was damaged."""

    who: Counter[str]
    damaged: bool

    @property
    def several(self) -> bool:
        return self.damaged or len(self.who) > 1

    @property
    def anything(self) -> bool:
        return self.damaged or bool(self.who)


class AddressSearch:
    """The meters of one edition. `presences` by address; `questions` counts what was asked."""

    def __init__(self, line: Line, variant: Variant, found: Callable[[Presence], None], step: Step) -> None:
        self.presences: dict[str, Presence] = {}
        self.questions = 0
        self.disturbed = 0
        self.gave_up = False
        self._line, self._variant, self._found, self._step = line, variant, found, step
        self._by_address = False
        """True where 13H is asked with shortened addresses too, because meters are not read by them."""
        self._fill = "A"
        self._slowest_s: float | None = None
        self._names: set[str] = set()
        """All addresses that were ever heard."""
        self._babbles = 0
        self._expected = 1 + len(VALUES)
        self._alike = False
        """True where all meters of the line have the one value of the pair that is asked now."""
        self._before: str | None = None

    @property
    def patience_s(self) -> float:
        """How long meters may think, by the first question, which all of them answered at once, and those since."""
        if self._slowest_s is None:
            return STANDARD_S
        return min(STANDARD_S, max(SHORTEST_S, 1.3 * self._slowest_s + 0.05))

    async def run(self) -> None:
        """Finds all. Raises LineError."""
        self._tell_step()
        first = await self._ask("", listen=True, tentative=self._variant == "2007")
        if not first.anything:
            # A single lost frame must not hide a meter.
            first = await self._ask("", listen=True, tentative=self._variant == "2007")
        if not first.anything and self._variant == "1997":
            self._fill = "0"  # some meters take leading zeros for any digits
            first = await self._ask("", listen=True)
        if first.anything and not first.several and self._variant == "2007":
            # One reply may cover another that has all bits of it set; energies of all tariffs are not that much alike.
            first = await self._ask("", listen=True, di=_ENERGIES)
        if first.several:
            await self._split_all([""], 0)
        for address in sorted(self._names - self.presences.keys()):
            # Heard by chance only: late, or made up of bits that the replies of two others have in common.
            if (await self._once(address, listen=True)).who[address]:
                self._tell(Presence(address))
        self._expected = self.questions
        self._tell_step()

    # --- halving

    async def _split_all(self, open_: list[str], depth: int) -> None:
        """Splits questions that stay open, all with so many pairs known, by the next pair."""
        if depth == PAIRS:
            for address in open_:
                await self._leaf(address)
            return
        values = VALUES
        if depth and len(open_) > 1:
            values = await self._values_of_several(depth)
        self._expected = self.questions + len(open_) * len(values)
        still: list[str] = []
        for low in open_:
            before = len(still)
            still += await self._split(low, values)
            if len(values) < len(VALUES) and len(still) == before and self._below(low) < 2:
                # Fewer came to light than must be there: some meter does not answer for its middle pairs alone.
                still += await self._split(low, tuple(one for one in VALUES if one not in values))
            if len(still) == before and self._below(low) == 1:
                still += await self._covered(low, depth)
        if not depth and not self.presences and not still and self._variant == "2007" and not self._by_address:
            self._by_address = True
            await self._split_all(open_, depth)
            return
        if still:
            await self._split_all(still, depth + 1)

    async def _split(self, low: str, values: tuple[str, ...]) -> list[str]:
        """Asks one more pair of a question; the questions that stay open."""
        if self._alike and len(values) == 1:
            return [values[0] + low]  # all meters of the line have this value, so nothing is learned by asking
        return [value + low for value in values if (await self._ask(value + low)).several]

    async def _covered(self, low: str, depth: int) -> list[str]:
        """Several answered, one is known: its reply may cover another that has all bits of it set.

        Other questions have other replies, and where one of them is damaged the search goes on below.
        """
        child = next(address[10 - 2 * depth :] for address in self.presences if address.endswith(low))
        for di in _OTHERS[self._variant]:
            if (await self._ask(child, listen=True, di=di)).several:
                return [child]
        return []

    def _below(self, low: str) -> int:
        """How many meters are known with these lowest pairs."""
        return sum(address.endswith(low) for address in self.presences)

    async def _values_of_several(self, depth: int) -> tuple[str, ...]:
        """The values of a pair that several meters of the line share; those of single ones are found by asking."""
        self._expected = self.questions + 2 * len(VALUES)
        known = {address[10 - 2 * depth : 12 - 2 * depth] for address in self.presences}
        shared: list[str] = []
        answered: set[str] = set()
        for value in VALUES:
            heard = await self._ask(value + "AA" * depth)
            if heard.anything:
                answered.add(value)
            if heard.several:
                shared.append(value)
        # Meters that only know addresses shortened from above do not answer here: then nothing is learned.
        self._alike = len(answered) == 1
        return tuple(shared) if answered and known <= answered else VALUES

    async def _leaf(self, address: str) -> None:
        """A whole address that stays damaged is that of two meters, unless the line was disturbed."""
        heard = [await self._ask(address, listen=True) for _ in range(TRIES)]
        if any(one.who[address] for one in heard):
            self._tell(Presence(address))
        if all((one.damaged and not one.who[address]) or one.who[address] > 1 for one in heard):
            self._tell(Presence(address, garbled=True, problem=say("scan_garbled_meter", meter=address)))

    # --- asking

    async def _ask(self, low: str, *, listen: bool = False, di: str | None = None, tentative: bool = False) -> _Heard:
        """Who answers where the lowest pairs are these. What is damaged once is asked again, for it may be chance.

        Where nobody seemed to answer the question before, that is asked again too: a late reply to it may have done it.
        """
        heard = await self._once(low, listen=listen, di=di)
        if heard.damaged and not listen:
            before, self._before = self._before, None
            if before is not None:
                await self._once(before, listen=True)
            again = await self._once(low, listen=False)
            heard = _Heard(heard.who | again.who, again.damaged)
        self._before = None if heard.anything else low
        for address, count in heard.who.items():
            if count > 1:
                self._tell(Presence(address, clash=True, problem=say("scan_clash_meter", meter=address)))
            elif not heard.several and not tentative:
                self._tell(Presence(address))
        return heard

    async def _once(self, low: str, *, listen: bool, di: str | None = None) -> _Heard:
        address = low.rjust(2 * PAIRS, self._fill)
        control, data, size = READ_ADDRESS, b"", 6
        # Where several answer, energies make replies differ that would else cover each other without a trace.
        if di is None:
            di = _BY_ADDRESS if self._variant == "2007" and (not low or self._by_address) else _ENERGY[self._variant]
        if di != _BY_ADDRESS:
            _, wire = identifier(di, self._variant)
            control, data, size = READ[self._variant], wire, len(wire) + (4 if di == _ENERGY[self._variant] else 20)
        ear = AddressEar(
            address,
            control,
            data,
            size,
            self._heard_frame,
            clock=self._clock,
            preamble=max(PREAMBLE, self._line.settings.preamble),
            beyond=LISTEN_BYTES if listen else HEAR_BYTES,
        )
        self.questions += 1
        self._tell_step()
        if self.gave_up:
            return _Heard(Counter(), False)
        try:
            await self._line.exchange(ear, turnround_s=STANDARD_S if listen else self.patience_s)
        except FrameError:
            # Nothing was heard of it: it could not even be asked.
            self._babbles = 0 if ear.received else self._babbles + 1
        except MeterError:
            self._babbles = 0
        self.gave_up = self._babbles >= BABBLES
        self.disturbed += ear.damaged and not self.presences
        if ear.answers or ear.damaged:
            self._learn(ear)
        who: Counter[str] = Counter()
        for frame in ear.answers:
            who[await self._name(frame, address)] += 1
        return _Heard(who, ear.damaged)

    def _learn(self, ear: AddressEar) -> None:
        """How long the slowest of those who answered thought, the preamble of its reply included."""
        if ear.last_at is not None:
            sent_at = self._clock() - self._line.trace[-1].duration_s
            reply_bytes = ear.reply_bytes - ear.beyond - REPLY_PREAMBLE
            thought = ear.last_at - sent_at - self._line.settings.wire_s(len(ear.request) + reply_bytes)
            self._slowest_s = max(self._slowest_s or 0.0, thought)

    def _clock(self) -> float:
        return asyncio.get_running_loop().time()

    async def _name(self, frame: Frame, asked: str) -> str:
        """The address of who answered; a meter of 1997 that repeats the wildcard is asked who it is."""
        if "A" not in frame.address:
            return frame.address
        for di in _OWN_ADDRESS:
            _, wire = identifier(di, "1997")
            ear = AddressEar(
                asked, READ["1997"], wire, len(wire) + 6, _nobody, clock=self._clock, preamble=PREAMBLE, beyond=0
            )
            self.questions += 1
            with contextlib.suppress(MeterError):
                await self._line.exchange(ear, turnround_s=STANDARD_S)
            for answer in ear.answers:
                digits = answer.data[len(wire) :][::-1].hex()
                if not answer.is_error and len(digits) == 12 and digits.isdecimal():
                    self._tell(Presence(digits))
                    return digits
        self._tell(Presence(frame.address, problem=say("scan_only_wildcard")))
        return frame.address

    def _heard_frame(self, frame: Frame) -> None:
        """Every reply names its meter, whichever question of this edition it answers."""
        own = (READ_ADDRESS, READ["2007"]) if self._variant == "2007" else (READ["1997"],)
        if frame.is_reply and frame.function in own and frame.address.isdecimal():
            self._names.add(frame.address)

    def _tell(self, presence: Presence) -> None:
        known = self.presences.get(presence.address)
        if known is None or (presence.clash and not known.clash) or (presence.garbled and not known.problem):
            self.presences[presence.address] = presence
            self._found(presence)

    def _tell_step(self) -> None:
        settings = self._line.settings
        each = self.patience_s + settings.wire_s(16) + 0.02
        self._expected = max(self._expected, self.questions)
        self._step(self.questions, self._expected, (self._expected - self.questions) * each)


def _nobody(frame: Frame) -> None:
    """Nothing is to be told of a reply."""
