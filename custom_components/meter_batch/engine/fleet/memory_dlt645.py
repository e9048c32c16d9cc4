"""The memory of a DL/T 645 meter: load records of class 4, hourly and daily freezes, settlements on billing days."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

from ..errors import DecodeError, Refused
from ..line import Reply
from ..model.obis import Obis
from ..protocol.dlt645.exchange import MOST_DATA, REPLY_PREAMBLE, Data, LongRead
from ..protocol.dlt645.frame import OVERHEAD
from ..protocol.dlt645.item import Value, decode_item
from ..protocol.dlt645.load_record import BAD, GOOD, LoadRecord, decode_records
from ..sentences import say
from ..template import DltItem
from .clock import MeterClock
from .memory import LONGEST_S, Asked, Kind, KindName, Memory, Question, Stored, Talk
from .spans import Span

HOUR_S, DAY_S = 3600, 86_400
LOAD_RECORD_S = 900
"""How often a meter writes load records that does not say."""
TURN_S = 1800
"""Hours of a wall clock begin at such multiples, in whatever zone."""
PERIODS: dict[KindName, timedelta] = {"hourly": timedelta(hours=1), "daily": timedelta(days=1)}
FREEZES: dict[KindName, str] = {"hourly": "04", "daily": "06"}
RECORD_BYTES = 32
"""A load record with class 4 alone."""
BILLING = "0100"
"""The billing day (DDhh) of a meter that does not say: the first of the month at midnight."""
LATE_S = 60
"""A record is asked for only when it has been there for a minute."""
EARLIEST, AT, NEWEST = "06040000", "06040001", "06040002"


@dataclass(frozen=True, slots=True)
class _Energy:
    """Where one register stands: alone, in a column of freezes (1 to 8), and by its place in class 4 (0 to 3)."""

    obis: Obis
    single: str
    column: int
    place: int | None


def _energies(asked: Asked) -> list[_Energy]:
    """The totals among the boundary registers."""
    found = []
    for register in asked.template.registers:
        locator = register.locator
        if register.obis not in asked.energies or not isinstance(locator, DltItem):
            continue
        single = locator.single
        if len(single) == 8:
            kind = int(single[2:4], 16)
            if single[:2] == "00" and single[4:] == "0000" and 1 <= kind <= 8:
                found.append(_Energy(register.obis, single, kind, kind - 1 if kind <= 4 else None))
        elif single[0] == "9":
            found.append(_Energy(register.obis, single, 0, None))
    return found


class Dlt645Memory(Memory):
    """See `Memory`."""

    def __init__(self, asked: Asked, clock: MeterClock) -> None:
        super().__init__(asked, clock)
        memory = asked.template.memory
        assert memory is not None
        self._keeps = memory
        self._variant = asked.template.dlt645.variant
        self._energies = _energies(asked)
        self._kept: dict[KindName, int] = {"hourly": memory.hourly, "daily": memory.daily, "monthly": memory.monthly}
        self._lacks: set[str] = set()
        """Identifiers of columns that the meter refused."""
        self._loads = bool(memory.load_records_days) and any(one.place is not None for one in self._energies)
        self._period_s = LOAD_RECORD_S
        self._oldest: int | None = None
        self._reach_s = 0
        self._heard_s = 0.0
        self._billing: tuple[int, int] | None = (1, 0)
        self._by_number: tuple[int, list[Kind]] | None = None
        self.empty = not self._energies
        if self._variant == "1997" or not (self._loads or memory.monthly):
            self.known = True

    # --- questions about itself

    def clock_question(self) -> Question | None:
        """See `Memory.clock_question`."""
        return Question("clock", self._read_clock, *self._cost(2, 10))

    def _read_clock(self) -> Talk[None]:
        if self._variant == "1997":
            day, hour, reply = yield from self._date_and_time("C010", "C011")
        else:
            try:
                values, reply = yield from self._values("0400010C")
                day, hour = values[0], values[-1]
            except Refused:
                day, hour, reply = yield from self._date_and_time("04000101", "04000102")
        if not isinstance(day, date) or not isinstance(hour, time):
            raise DecodeError(say("clock_shows_no_time"))
        line = self.asked.line
        # It is read when the reply begins.
        size = OVERHEAD + REPLY_PREAMBLE + (8 if self._variant == "2007" else 5)
        at = reply.at - timedelta(seconds=line.wire_s(size))
        self.clock.read(at, datetime.combine(day, hour))

    def _date_and_time(self, day: str, hour: str) -> Talk[tuple[Value, Value, Reply[Any]]]:
        days, _ = yield from self._values(day)
        hours, reply = yield from self._values(hour)
        first = hours[0]
        if isinstance(first, time) and first < time(0, 1):
            # Midnight may have passed between the two.
            days, _ = yield from self._values(day)
        return days[0], first, reply

    def contents_question(self) -> Question | None:
        """See `Memory.contents_question`."""
        return None if self._variant == "1997" else Question("contents", self._read_contents, *self._cost(3, 80))

    def _read_contents(self) -> Talk[None]:
        if self._keeps.monthly:
            self._billing = yield from self._billing_day()
        if self._loads:
            period = yield from self._number("04000A05")
            if period is not None and 1 <= period <= 1440:
                self._period_s = int(period) * 60
            self._loads = yield from self._earliest()
        self._by_number = None
        self.known = True

    def _billing_day(self) -> Talk[tuple[int, int] | None]:
        try:
            text, _ = yield from self._values("04000B01")
        except Refused:
            text = [BILLING]
        digits = text[0] if isinstance(text[0], str) and text[0].isdecimal() and len(text[0]) == 4 else BILLING
        day, hour = int(digits[:2]), int(digits[2:])
        return (day, hour) if 1 <= day <= 28 and hour <= 23 else None

    def _number(self, di: str) -> Talk[Decimal | None]:
        try:
            values, _ = yield from self._values(di)
        except Refused:
            return None
        return values[0] if isinstance(values[0], Decimal) else None

    def _earliest(self) -> Talk[bool]:
        """Learns the label of the oldest load record; whether there are any."""
        for di in (EARLIEST, NEWEST):
            try:
                data = yield from self._whole(di, count=1)
            except Refused:
                continue
            records = salvaged(data)
            instants = self.clock.wall.means(records[0].at) if records and di == EARLIEST else ()
            if instants:
                self._oldest = int(instants[0].timestamp())
                self._reach_s = max(0, round(self._heard_s + self.clock.offset_s) - self._oldest)
            return True
        return False

    # --- what it keeps

    def kinds(self, now: int, interval_s: int) -> Sequence[Kind]:
        """See `Memory.kinds`."""
        by_clock = now + round(self.clock.offset_s)
        turn = (by_clock - LATE_S) // TURN_S
        if self._by_number is None or self._by_number[0] != turn:
            self._by_number = turn, list(self._made(by_clock - LATE_S))
        return [self._load_kind(by_clock), *self._by_number[1]] if self._loads else self._by_number[1]

    def _load_kind(self, by_clock: int) -> Kind:
        period = self._period_s
        shown = self.clock.wall.shows(datetime.fromtimestamp(by_clock, UTC)).replace(tzinfo=UTC)
        oldest = by_clock - self._keeps.load_records_days * DAY_S
        phase = (by_clock - int(shown.timestamp())) % period
        return Kind(
            "load_record", "load_record", period, max(oldest, self._oldest or 0), by_clock - LATE_S, phase_s=phase
        )

    def _made(self, by_clock: int) -> Generator[Kind]:
        """What is asked for by number; the numbers move on at the hour of the meter's clock."""
        wall = self.clock.wall.shows(datetime.fromtimestamp(by_clock, UTC))
        midnight = wall.replace(hour=0, minute=0, second=0, microsecond=0)
        for name, period in PERIODS.items():
            if kept := self._kept[name]:
                newest = midnight + (wall - midnight) // period * period
                yield self._numbered(name, period, [newest - number * period for number in range(kept)])
        if (kept := self._kept["monthly"]) and self._billing is not None:
            yield self._numbered("monthly", timedelta(days=1), self._billing_days(wall, kept))

    def _numbered(self, name: KindName, period: timedelta, labels: Sequence[datetime]) -> Kind:
        stamps = [self.clock.wall.means(label) for label in labels]
        # What was written in the hour that comes twice is left alone: nobody can tell when it was.
        numbers = [(int(one[0].timestamp()), number) for number, one in enumerate(stamps, 1) if len(one) == 1]
        return Kind(
            name,
            name,
            period // timedelta(seconds=1),
            numbers[-1][0] if numbers else 0,
            numbers[0][0] if numbers else 0,
            numbers=numbers,
        )

    def _billing_days(self, wall: datetime, kept: int) -> list[datetime]:
        assert self._billing is not None
        day, hour = self._billing
        months = wall.year * 12 + wall.month - 1
        at = [
            datetime(month // 12, month % 12 + 1, day, hour)  # noqa: DTZ001 - wall time
            for month in range(months, months - kept - 1, -1)
        ]
        return [one for one in at if one <= wall][:kept]

    @property
    def depth_s(self) -> int:
        """See `Memory.depth_s`."""
        if self._loads:
            return self._reach_s or self._keeps.load_records_days * DAY_S
        return max(self._kept["hourly"] * HOUR_S, self._kept["daily"] * DAY_S, self._kept["monthly"] * 28 * DAY_S)

    # --- questions for records

    def most(self, kind: Kind) -> int:
        """See `Memory.most`."""
        if kind.numbers is not None:
            return 1
        frame = (MOST_DATA - 5) // RECORD_BYTES
        frames = 1
        while frames < 16 and self.asked.line.wire_s(self._cost(frames + 1, (frames + 1) * MOST_DATA)[0]) <= LONGEST_S:
            frames += 1
        return frames * frame

    def question(self, kind: Kind, label: int, count: int, span: Span) -> Question:
        """See `Memory.question`."""
        at = datetime.fromtimestamp(label, UTC)
        if kind.numbers is None:
            shown = self.clock.wall.shows(at)
            if len(self.clock.wall.means(shown)) > 1:
                # In the hour that comes twice only what went before tells which it is: all of both, and one before.
                while len(self.clock.wall.means(shown)) > 1:
                    shown -= timedelta(seconds=kind.period_s)
                count += 2 * HOUR_S // kind.period_s + 1
            frames = -(-count // ((MOST_DATA - 5) // RECORD_BYTES))
            cost = self._cost(frames, count * RECORD_BYTES)
            return Question("records", partial(self._load_records, shown, min(count, 99)), *cost, kind, span)
        number = next((one for stamp, one in kind.numbers if stamp == label), 0)
        columns = sum(_anywhere(self._column(kind, one, number)) not in self._lacks for one in self._energies)
        if kind.name == "monthly":
            talk, cost = partial(self._settlement, kind, number, at), self._cost(columns, 4 * columns)
        else:
            talk, cost = partial(self._freeze, kind, number), self._cost(columns + 1, 5 + 20 * columns)
        return Question("records", talk, *cost, kind, span, number)

    def _load_records(self, shown: datetime, count: int) -> Talk[Stored]:
        data = yield from self._whole(AT, count=count, at=shown)
        records = salvaged(data)
        instants = self.clock.wall.sequence(record.at for record in records)
        stored: Stored = []
        for record, label in zip(records, instants, strict=True):
            values = record.classes.get(4)
            if label is None or record.bad or values is None:
                continue
            registers = {
                one.obis: value
                for one in self._energies
                if one.place is not None and (value := values[one.place]) is not None
            }
            if registers:
                stored.append((label, registers))
        return stored

    def _freeze(self, kind: Kind, number: int) -> Talk[Stored]:
        values, _ = yield from self._values(f"05{FREEZES[kind.name]}00{number:02X}")
        frozen = values[0]
        instants = self.clock.wall.means(frozen) if isinstance(frozen, datetime) else ()
        if len(instants) != 1:
            return []
        registers = yield from self._columns(kind, number)
        return [(instants[0], registers)] if registers else []

    def _settlement(self, kind: Kind, number: int, label: datetime) -> Talk[Stored]:
        registers = yield from self._columns(kind, number)
        if not registers:
            raise Refused(say("no_settlement", meter=self.asked.address, number=number))
        return [(label, registers)]

    def _columns(self, kind: Kind, number: int) -> Talk[dict[Obis, Decimal]]:
        registers = {}
        for one in self._energies:
            di = self._column(kind, one, number)
            if _anywhere(di) in self._lacks:
                continue
            try:
                values, _ = yield from self._values(di)
            except Refused:
                if number == 1:
                    self._lacks.add(_anywhere(di))
                continue
            if values and isinstance(values[0], Decimal):
                registers[one.obis] = values[0]
        return registers

    def _column(self, kind: Kind, one: _Energy, number: int) -> str:
        if kind.name != "monthly":
            return f"05{FREEZES[kind.name]}{one.column:02X}{number:02X}"
        if self._variant == "1997":
            return f"{int(one.single[:2], 16) + 4 * number:02X}{one.single[2:]}"
        return f"{one.single[:6]}{number:02X}"

    def refused(self, question: Question) -> Span:
        """See `Memory.refused`."""
        kind = question.kind
        assert kind is not None
        if question.number:
            # What is not there by number is not there by any higher one.
            self._kept[kind.name] = min(self._kept[kind.name], question.number - 1)
            self._by_number = None
            return (0, question.span[1])
        return question.span

    # --- one item

    def _whole(self, di: str, *, count: int | None = None, at: datetime | None = None) -> Talk[bytes]:
        """The joined data behind an identifier."""
        whole, _ = yield from self._read(di, count=count, at=at)
        return whole

    def _values(self, di: str) -> Talk[tuple[list[Value], Reply[Any]]]:
        whole, reply = yield from self._read(di)
        values = [one.value for one in decode_item(di, whole, self._variant)]
        if not values:
            raise DecodeError(say("gave_nothing", meter=self.asked.address, di=di), whole)
        return values, reply

    def _read(
        self, di: str, *, count: int | None = None, at: datetime | None = None
    ) -> Talk[tuple[bytes, Reply[Data]]]:
        """All frames of an answer, and the last reply."""
        long = LongRead(self.asked.address, di, variant=self._variant, count=count, at=at, preamble=self.asked.preamble)
        following = begun_again = False
        while True:
            try:
                reply: Reply[Data] = yield long.question
            except Refused as refusal:
                if not following:
                    raise
                # Not the records are refused: the meter has forgotten where we were.
                if begun_again:
                    raise DecodeError(refusal.text, refusal.raw) from refusal
                following, begun_again = False, True
                long.restart()
                continue
            self._heard_s = reply.at.timestamp()
            if (whole := long.take(reply.answer)) is not None:
                return whole, reply
            following = True

    def _cost(self, exchanges: int, data: int) -> tuple[int, int]:
        """Bytes on the wire and exchanges; `data` is what all replies hold behind their identifiers."""
        once = 2 * (OVERHEAD + 4) + self.asked.preamble + REPLY_PREAMBLE + 2
        return exchanges * once + data + 6, exchanges


def _anywhere(di: str) -> str:
    """A column, whatever the number."""
    return di[:-2] if len(di) == 8 else di


def salvaged(data: bytes) -> list[LoadRecord]:
    """All load records that are whole; one that is damaged does not spoil the others. Raises DecodeError for none."""
    try:
        return decode_records(data)
    except DecodeError:
        records: list[LoadRecord] = []
        at = 0
        while at + 3 < len(data):
            size = 3 + data[at + 2] + 2
            if data[at : at + 2] not in (GOOD, BAD) or at + size > len(data):
                at += 1
                continue
            try:
                records += decode_records(data[at : at + size])
            except DecodeError:
                at += 1
                continue
            at += size
        if not records:
            raise
        return records
