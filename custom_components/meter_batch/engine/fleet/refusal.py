"""Why a request was refused: found by halving, with few questions, each of which brings values too.

Three things make a Modbus meter refuse: a register that it has not, addresses between registers over which it does not
read, a request that is too long. A request is halved until a part is answered. Where both halves of one are, it was
what lies between them, or the length; one question more tells which. Pure: questions go out, answers come in.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field

from ..model.obis import Obis
from ..template import ModbusRequest, ModbusWords, Register, Template

type Questions[Answer] = Generator[ModbusRequest, bool, Answer]
"""Yields what to ask; is sent True where that was answered, False where it was refused."""
type Witness = Callable[[int, int], ModbusRequest | None]
"""A request of at least so many words without any hole in it, and not over an address: is such a length answered?"""


@dataclass(slots=True)
class Causes:
    """Why a request was refused."""

    absent: set[Obis] = field(default_factory=set)
    cuts: set[tuple[int, int]] = field(default_factory=set)
    """See `Lessons.cuts`."""
    max_words: int | None = None


def find_causes(request: ModbusRequest, longest: int, witness: Witness) -> Questions[Causes]:
    """Why a request was refused; `longest`: how many words the longest had that was answered so far.

    All registers that are not there; of what lies between registers and of the length only the first that is found,
    because then a better plan can be made for the rest.
    """
    causes = Causes()
    search = _Search(request.function, longest, witness, causes)
    yield from search.halve(by_address(request.registers))
    return causes


def by_address(registers: Sequence[Register]) -> list[Register]:
    """In the order in which they lie."""
    return sorted(registers, key=lambda one: (_place(one).address, _place(one).end))


def over(function: int, registers: Sequence[Register]) -> ModbusRequest:
    """One request for registers in their order."""
    begin = _place(registers[0]).address
    end = max(_place(one).end for one in registers)
    return ModbusRequest(function, begin, end - begin, tuple(registers))


def contiguous(template: Template, function: int, words: int, not_over: int) -> ModbusRequest | None:
    """The shortest request of at least so many words that runs over no hole of the model, nor over an address.

    None where there is none.
    """
    cuts = {not_over, *(cut for one, cut in template.modbus.cuts if one == function)}
    registers = [
        one for one in template.registers if isinstance(one.locator, ModbusWords) and one.locator.function == function
    ]
    ordered, best = by_address(registers), None
    for first, one in enumerate(ordered):
        end = begin = _place(one).address
        for last in range(first, len(ordered)):
            place = _place(ordered[last])
            end = max(end, place.end) if place.address <= end else 0
            if not end or any(begin < cut < end for cut in cuts):
                break
            if end - begin >= words:
                if end - begin <= template.modbus.max_words and (best is None or end - begin < best.count):
                    best = over(function, ordered[first : last + 1])
                break
    return best


@dataclass(slots=True)
class _Search:
    function: int
    longest: int
    witness: Witness | None
    causes: Causes

    def ask(self, registers: Sequence[Register]) -> Questions[bool]:
        request = over(self.function, registers)
        answered = yield request
        if answered:
            self.longest = max(self.longest, request.count)
        return answered

    def halve(self, span: Sequence[Register]) -> Questions[bool]:
        """Finds out why a request for these was refused; True where the search should end for a better plan."""
        if len(span) == 1:
            self.causes.absent.add(span[0].obis)
            return False
        middle, blameless = len(span) // 2, True
        for half in (span[:middle], span[middle:]):
            if not (yield from self.ask(half)):
                blameless = False
                if (yield from self.halve(half)):
                    return True
        if blameless:
            yield from self.between(span, middle)
        return blameless

    def between(self, span: Sequence[Register], middle: int) -> Questions[None]:
        """Both parts were answered, the whole was refused: the junction, or the length."""
        whole, pair = over(self.function, span), over(self.function, span[middle - 1 : middle + 1])
        cut = _place(span[middle]).address
        if whole.count > self.longest:
            if len(span) > 2 and (yield from self.ask(pair.registers)):
                yield from self.length(span, middle)
                return
            if pair.count > self.longest and (yield from self.too_long(pair, cut)):
                return
        if cut > whole.address:
            self.causes.cuts.add((self.function, cut))
        else:
            self.causes.max_words = whole.count - 1

    def length(self, span: Sequence[Register], answered: int) -> Questions[None]:
        """The first `answered` of these are answered together, all are not, and that for their length."""
        refused = len(span)
        while refused - answered > 1:
            some = (refused + answered) // 2
            if over(self.function, span[:some]).count <= self.longest or (yield from self.ask(span[:some])):
                answered = some
            else:
                refused = some
        self.causes.max_words = over(self.function, span[:refused]).count - 1

    def too_long(self, pair: ModbusRequest, cut: int) -> Questions[bool]:
        """Whether two registers together were refused for their length: another request as long as that tells."""
        if self.witness is None:
            self.causes.max_words = pair.count - 1
            return True
        witness = self.witness(pair.count, cut)
        if witness is None:
            return False
        if (yield from self.ask(witness.registers)):
            return False
        # Without a witness of its own; what else it finds is as true.
        other = _Search(self.function, self.longest, None, self.causes)
        yield from other.halve(by_address(witness.registers))
        self.longest = max(self.longest, other.longest)
        return self.causes.max_words is not None


def _place(register: Register) -> ModbusWords:
    assert isinstance(register.locator, ModbusWords)
    return register.locator
