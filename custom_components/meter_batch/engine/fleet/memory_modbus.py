"""The memory of a Modbus meter: load profiles in files, where its header file says that it keeps any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Literal

from ..protocol.modbus.exchange import ReadFile
from ..protocol.modbus.pdu import MAX_FILE_READ
from ..protocol.modbus.profile import FIRST_DAY, HEADER_FILE, HEADER_WORDS, Profile, decode_header
from .clock import MeterClock
from .memory import LONGEST_S, Asked, Kind, Memory, Question, Stored, Talk
from .spans import Span

DAY_S = 86_400
LATE_S = 60
FIRST_S = int(FIRST_DAY.timestamp())
OVERHEAD_BYTES = 11 + 8
"""Request and the rest of the reply."""


@dataclass(frozen=True, slots=True)
class _Kept:
    profile: Profile
    key: str


class ModbusMemory(Memory):
    """See `Memory`."""

    def __init__(self, asked: Asked, clock: MeterClock) -> None:
        super().__init__(asked, clock)
        self._profiles: list[_Kept] = []
        self.empty = not asked.template.modbus.profile

    def clock_question(self) -> Question | None:
        """See `Memory.clock_question`: the header holds it."""
        return None

    def contents_question(self) -> Question | None:
        """See `Memory.contents_question`."""
        return Question("contents", self._read_header, OVERHEAD_BYTES + 2 * HEADER_WORDS, 1)

    def _read_header(self) -> Talk[None]:
        reply = yield lambda: self._file(HEADER_FILE, 0, HEADER_WORDS)
        header = decode_header(reply.answer)
        at = reply.at - timedelta(seconds=self.asked.line.wire_s(2 * HEADER_WORDS + 7))
        self.clock.note(at, (header.now - at).total_seconds() + 0.5)
        energies = self.asked.energies
        self._profiles = [
            _Kept(one, f"profile {one.period_s}")
            for one in header.profiles
            if any(column.obis in energies for column in one.columns) and one.words_per_record <= MAX_FILE_READ
        ]
        self.known = True
        self.empty = not self._profiles

    def _file(self, file: int, record: int, words: int) -> ReadFile:
        asked = self.asked
        asked.transaction = (asked.transaction + 1) & 0xFFFF
        framing: Literal["rtu", "tcp"] = "tcp" if asked.line.framing == "tcp" else "rtu"
        return ReadFile(int(asked.address), file, record, words, framing=framing, transaction=asked.transaction)

    def kinds(self, now: int, interval_s: int) -> Sequence[Kind]:
        """See `Memory.kinds`: first what has each boundary and little else."""
        by_clock = now + round(self.clock.offset_s)
        today = by_clock - by_clock % DAY_S
        kinds = [
            Kind(
                one.key,
                "profile",
                one.profile.period_s,
                max(FIRST_S, today - (one.profile.days - 1) * DAY_S),
                by_clock - LATE_S,
                together_s=DAY_S,
            )
            for one in self._profiles
        ]
        return sorted(kinds, key=lambda one: (interval_s % one.period_s != 0, abs(interval_s - one.period_s)))

    @property
    def depth_s(self) -> int:
        """See `Memory.depth_s`."""
        return max((one.profile.days * DAY_S for one in self._profiles), default=0)

    def most(self, kind: Kind) -> int:
        """See `Memory.most`."""
        words = self._profile(kind).words_per_record
        most = MAX_FILE_READ // words
        while most > 1 and self.asked.line.wire_s(OVERHEAD_BYTES + 2 * words * most) > LONGEST_S:
            most -= 1
        return most

    def _profile(self, kind: Kind) -> Profile:
        return next(one.profile for one in self._profiles if one.key == kind.key)

    def question(self, kind: Kind, label: int, count: int, span: Span) -> Question:
        """See `Memory.question`."""
        profile = self._profile(kind)
        words = count * profile.words_per_record
        talk = partial(self._records, profile, label, words)
        return Question("records", talk, OVERHEAD_BYTES + 2 * words, 1, kind, span)

    def _records(self, profile: Profile, label: int, words: int) -> Talk[Stored]:
        first = datetime.fromtimestamp(label, UTC)
        file, record = profile.place(first)
        reply = yield lambda: self._file(file, record, words)
        stored: Stored = profile.decode(reply.answer, first)  # type: ignore[assignment]
        energies = self.asked.energies
        if all(column.obis in energies for column in profile.columns):
            return stored
        return [
            (at, left)
            for at, registers in stored
            if (left := {obis: value for obis, value in registers.items() if obis in energies})
        ]

    def refused(self, question: Question) -> Span:
        """See `Memory.refused`: a file that is not there has no records of its day."""
        if question.about == "contents":
            self.empty = True
        return question.span
