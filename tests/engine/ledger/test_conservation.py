"""What the intervals say adds up to what the register counted, to the last digit, whatever happens."""

from __future__ import annotations

import random
import tempfile
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meter_batch_engine.ledger import Boundary, Ledger, Restart
from meter_batch_engine.ledger.closer import Again, Record, difference, distribute
from meter_batch_engine.model.point import Multiplier
from meter_batch_engine.model.reading import Flag

IMPORT, EXPORT = "1-0:1.8.0", "1-0:2.8.0"
QUARTER = timedelta(minutes=15)
RELAXED = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])

# 29 March 2026: Berlin goes to summer time; 25 October: back.
BEGINNINGS = [datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 10, 24, 12, tzinfo=UTC)]


class Truth:
    """A meter and all that happens to it, quarter by quarter: what is consumed, what its register shows."""

    def __init__(self, seed: int, quarters: int, digits: int, beginning: datetime, *, told: bool) -> None:
        self.random = chance = random.Random(seed)
        self.beginning, self.digits = beginning, digits
        self.end = Decimal(1000)
        self.used: list[Decimal] = []
        self.shown: list[Decimal] = []
        self.meter: list[str] = []
        self.restarts: list[Restart] = []
        self.told = told
        meter, register = 1, self._round(chance.uniform(0, 999))
        for quarter in range(quarters + 1):
            self.shown.append(register)
            self.meter.append(f"m{meter}")
            at = beginning + (quarter + 0.5) * QUARTER
            used = self._round(chance.choice([0, 0.3, 12.345, 3]) * chance.random())
            match chance.random():
                case one if one < 0.02:  # another meter, in the middle of a quarter
                    half = self._round(float(used) / 2)
                    first = self._round(chance.uniform(0, 900))
                    self._note(at, Flag.SWAP, register + half, first)
                    register, meter = first + used - half, meter + 1
                case one if one < 0.04:
                    half = self._round(float(used) / 2)
                    self._note(at, Flag.RESET, register + half, Decimal(0))
                    register = used - half
                case _:
                    register += used
            if register >= self.end:
                register -= self.end
                self._note(at + timedelta(minutes=1), Flag.ROLL_OVER, None, None)
            self.used.append(used)

    def _note(self, at: datetime, kind: Flag, last: Decimal | None, first: Decimal | None) -> None:
        if self.told:
            self.restarts.append(Restart("p", IMPORT, at, kind, last, first))

    def _round(self, value: float) -> Decimal:
        return Decimal(round(value * 10**self.digits)).scaleb(-self.digits)

    def boundary(self, quarter: int, source: str) -> Boundary:
        return Boundary(
            "p",
            self.beginning + quarter * QUARTER,
            {IMPORT: self.shown[quarter]},
            self.random.uniform(0, 20) if source == "poll" else 0.0,
            source,
            self.meter[quarter],
            {IMPORT: self.end},
        )


def sane(truth: Truth) -> bool:
    """A register that passes its end within the half quarter before a swap is not worth a story."""
    return all(one.last is None or one.last < truth.end for one in truth.restarts) and not any(
        a.kind is Flag.ROLL_OVER and abs(a.at - b.at) < QUARTER
        for a in truth.restarts
        for b in truth.restarts
        if b.kind is not Flag.ROLL_OVER
    )


@RELAXED
@given(
    seed=st.integers(0, 2**32),
    quarters=st.integers(2, 200),
    digits=st.integers(0, 4),
    beginning=st.sampled_from(BEGINNINGS),
    lost=st.floats(0, 0.9),
)
def test_whatever_is_lost_the_intervals_sum_to_the_truth_and_memory_makes_each_of_them_true(
    seed, quarters, digits, beginning, lost
):
    truth = Truth(seed, quarters, digits, beginning, told=True)
    if not sane(truth):
        return
    chance = random.Random(seed + 1)
    changes = sorted({chance.randrange(quarters) for _ in range(3)})
    factors = [
        Multiplier(beginning + one * QUARTER, Decimal(chance.choice([1, 40, 80])), Decimal(10)) for one in changes
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        ledger = Ledger(path, time_zone="Europe/Berlin", now=lambda: beginning)
        try:
            ledger.set_multipliers("p", factors[:1])
            read = [one for one in range(quarters + 1) if chance.random() >= lost]
            read = sorted({0, quarters, *read})
            restarts = list(truth.restarts)
            for at in range(0, len(read), 7):
                part = [truth.boundary(one, "poll") for one in read[at : at + 7]]
                until = part[-1].at + timedelta(seconds=part[-1].skew_s)
                known = [one for one in restarts if one.at <= until]
                restarts = [one for one in restarts if one.at > until]
                ledger.take(part, known)
            # Never more and never less than the register counted, read or not.
            assert ledger.verify().ok, ledger.verify().named
            assert counted(ledger, truth, factors[:1]) == sum(truth.used[:quarters])
            # The multipliers come late, the memory in any order, some of it twice.
            ledger.set_multipliers("p", factors)
            late = [one for one in range(quarters + 1) if one not in read] * 2
            chance.shuffle(late)
            while late:
                part, late = late[:40], late[40:]
                ledger.take(truth.boundary(one, "memory") for one in part)
                if chance.random() < 0.2:
                    ledger.close()
                    ledger = Ledger(path, time_zone="Europe/Berlin", now=lambda: beginning)
            assert ledger.verify().ok, ledger.verify().named
            found = ledger.intervals(["p"], beginning, beginning + quarters * QUARTER)
            assert [one.start for one in found] == [beginning + one * QUARTER for one in range(quarters)]
            for quarter, one in enumerate(found):
                assert one.energies[IMPORT] == truth.used[quarter] * factor(factors, one.start), quarter
                assert one.known_s == one.length_s
            assert ledger.gaps() == []
            told = [one for one in truth.restarts if one not in restarts]
            # The same once more changes nothing.
            before = ledger.revision
            ledger.take((truth.boundary(one, "memory") for one in range(quarters + 1)), told)
            assert ledger.revision == before
        finally:
            ledger.close()


def factor(factors: list[Multiplier], at: datetime) -> Decimal:
    valid = [one for one in factors if one.since <= at]
    return valid[-1].ct * valid[-1].pt if valid else Decimal(1)


def counted(ledger: Ledger, truth: Truth, factors: list[Multiplier]) -> Decimal:
    """All energy before the multiplier."""
    found = ledger.intervals(["p"], truth.beginning, truth.beginning + timedelta(days=10))
    return sum((one.energies[IMPORT] / factor(factors, one.start) for one in found), Decimal(0))


@RELAXED
@given(seed=st.integers(0, 2**32), quarters=st.integers(2, 120), lost=st.floats(0, 0.9))
def test_what_nobody_was_told_is_doubted_but_the_ledger_stays_consistent(seed, quarters, lost):
    truth = Truth(seed, quarters, 2, BEGINNINGS[0], told=False)
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "l.db") as ledger:
        order = [one for one in range(quarters + 1) if chance.random() >= lost]
        chance.shuffle(order)
        for at in range(0, len(order), 11):
            ledger.take(truth.boundary(one, chance.choice(["poll", "memory"])) for one in order[at : at + 11])
        verdict = ledger.verify()
        assert verdict.ok, verdict.named
        if order:
            found = ledger.intervals(["p"], BEGINNINGS[0], BEGINNINGS[0] + timedelta(days=9))
            assert all(one.energies[IMPORT] >= 0 for one in found)


@RELAXED
@given(
    seed=st.integers(0, 2**32), lengths=st.lists(st.sampled_from([60, 300, 900, 1800, 3600]), min_size=2, max_size=5)
)
def test_another_interval_length_makes_neither_overlap_nor_hole(seed, lengths):
    chance = random.Random(seed)
    at, register = BEGINNINGS[0], Decimal(500)
    history = []
    with tempfile.TemporaryDirectory() as folder:
        for length in lengths:
            with Ledger(Path(folder) / "l.db", length_s=length) as ledger:
                at += timedelta(seconds=length) - timedelta(seconds=at.timestamp() % length)
                for _ in range(chance.randrange(1, 9)):
                    history.append(Boundary("p", at, {IMPORT: register}, meter="m"))
                    if chance.random() < 0.7 or len(history) == 1:
                        ledger.take([history[-1]])
                    register += Decimal(chance.randrange(100)).scaleb(-2)
                    at += timedelta(seconds=length)
        chance.shuffle(history)
        with Ledger(Path(folder) / "l.db", length_s=lengths[-1]) as ledger:
            for one in history:
                ledger.take([one])
            assert ledger.verify().ok, ledger.verify().named
            found = ledger.intervals(["p"], BEGINNINGS[0], at)
            assert all(a.end == b.start for a, b in pairwise(found))
            registers = [one.registers[IMPORT] for one in history]
            assert sum((one.energies[IMPORT] for one in found), Decimal(0)) == max(registers) - min(registers)


@RELAXED
@given(seed=st.integers(0, 2**32))
def test_a_register_that_is_missing_in_some_records_is_closed_by_itself(seed):
    chance = random.Random(seed)
    values = {IMPORT: Decimal(10), EXPORT: Decimal("3.5")}
    records = []
    for quarter in range(30):
        had = {obis: value for obis, value in values.items() if chance.random() < 0.6}
        records.append(Boundary("p", BEGINNINGS[0] + quarter * QUARTER, had, meter="m"))
        values[IMPORT] += Decimal(chance.randrange(200)).scaleb(-2)
        values[EXPORT] += Decimal(chance.randrange(50)).scaleb(-1)
    chance.shuffle(records)
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "l.db") as ledger:
        for at in range(0, 30, 4):
            ledger.take(records[at : at + 4])
        assert ledger.verify().ok, ledger.verify().named
        found = ledger.intervals(["p"], BEGINNINGS[0], BEGINNINGS[0] + timedelta(days=1)) if ledger.points else []
        for obis in values:
            seen = [one.registers[obis] for one in records if obis in one.registers]
            counted = sum((one.energies.get(obis, Decimal(0)) for one in found), Decimal(0))
            assert counted == (max(seen) - min(seen) if seen else 0)


@given(total=st.integers(-(10**12), 10**12), weights=st.lists(st.integers(0, 10**9), min_size=1, max_size=200))
def test_shares_add_up_exactly_and_none_is_off_by_more_than_one_digit(total, weights):
    parts = distribute(total, weights)
    assert sum(parts) == total
    whole = sum(weights)
    if whole:
        for part, weight in zip(parts, weights, strict=True):
            assert abs(part - total * weight / whole) <= 1 + abs(total) * 1e-12
    assert all(part >= 0 for part in parts) or total < 0


def record(at: int, value: int, meter: str = "m", end: int | None = None) -> Record:
    ends = {} if end is None else {IMPORT: (end, 0)}
    return Record(at, at * 10**6, meter, "poll", {IMPORT: (value, 0)}, ends)


@pytest.mark.parametrize(
    ("before", "after", "restarts", "said"),
    [
        (record(0, 100), record(900, 130), [], (30, None)),
        (record(0, 9_999_990, end=10**7), record(900, 5, end=10**7), [], (15, "roll_over")),
        (record(0, 999_990), record(900, 5), [], (5, "reset")),
        (record(0, 999_990), record(900, 500_000), [], (0, "swap")),
        (record(0, 100), record(900, 900_000_000), [], (0, "jump")),
        (record(0, 100), record(900, 200, "other"), [], (0, "swap")),
        (record(0, 95, end=100), record(900, 5, end=100), [Again(1, Flag.ROLL_OVER)], (10, None)),
        (record(0, 95), record(900, 5), [Again(1, Flag.RESET)], (5, "reset")),
        (record(0, 95), record(900, 5), [Again(1, Flag.RESET, (97, 0), (0, 0))], (7, None)),
        (record(0, 95), record(900, 805, "o"), [Again(1, Flag.SWAP, (96, 0), (800, 0))], (6, None)),
        (record(0, 95), record(900, 805, "o"), [Again(1, Flag.SWAP, (96, 0))], (1, "swap")),
        (record(0, 95), record(900, 805), [Again(1, Flag.SWAP, (90, 0), (800, 0))], (0, "contradiction")),
    ],
)
def test_what_a_register_counted_is_told_or_doubted_never_invented(before, after, restarts, said):
    count, exponent, rule = difference(IMPORT, before, after, restarts)
    assert (count, rule) == said and exponent == 0


def test_a_long_gap_follows_the_points_own_week(desk):
    records, registers = [], [Decimal(0)]
    for quarter in range(21 * 96 + 1):
        records.append(desk.boundary(quarter, registers[-1]))
        hour = (quarter // 4 + 1) % 24  # Berlin
        workday = (quarter // 4 + 1) // 24 % 7 < 5
        registers.append(registers[-1] + Decimal("2.00" if workday and 8 <= hour < 18 else "0.10"))
    desk.ledger.take(records)
    told = desk.take(quarter + 96, registers[-2] + Decimal("87.21"))
    assert told.intervals == 96
    filled = {key: value for key, value in desk.energies().items() if key >= quarter}
    assert sum(filled.values()) == Decimal("87.21")
    day = [value for key, value in filled.items() if 8 <= (key // 4 + 1) % 24 < 18]
    night = [value for key, value in filled.items() if not 8 <= (key // 4 + 1) % 24 < 18]
    assert min(day) > 15 * max(night)
    assert all("estimated" in desk.flags()[key] for key in filled)


def test_without_history_a_gap_is_filled_evenly_and_the_remainder_is_spread(desk):
    desk.take(0, "10.00")
    desk.take(12, "10.05")
    assert sorted(desk.energies().values()) == [Decimal("0.00")] * 7 + [Decimal("0.01")] * 5


class Year:
    """A meter with two registers that can be asked for any minute, and the ways in which it is asked."""

    def __init__(self, seed: int, days: int) -> None:
        self.random = chance = random.Random(seed)
        self.days, self.beginning = days, BEGINNINGS[0].replace(hour=0)
        self._hours = {obis: [chance.randrange(10**6)] for obis in (IMPORT, EXPORT)}
        for hours in self._hours.values():
            for hour in range(days * 24 + 1):
                busy = 8 <= hour % 24 < 18 and hour // 24 % 7 < 5
                hours.append(hours[-1] + chance.randrange(400 if busy else 40) * (chance.random() < 0.9))

    def count(self, obis: str, minute: int) -> int:
        hour, rest = divmod(minute, 60)
        low, high = self._hours[obis][hour : hour + 2]
        return low + (high - low) * rest // 60

    def records(self, minutes, source: str, wanted=(IMPORT, EXPORT)) -> list[Boundary]:
        return [
            Boundary(
                "p",
                self.beginning + timedelta(minutes=one),
                {obis: Decimal(self.count(obis, one)).scaleb(-2) for obis in wanted},
                0.0,
                source,
                "m",
            )
            for one in minutes
            if 0 <= one <= self.days * 1440
        ]

    def question(self) -> list[Boundary]:
        """What one question to the meter gives."""
        chance, whole = self.random, self.days * 1440
        at = chance.randrange(self.days) * 1440
        match chance.randrange(8):
            case 0:
                found = self.records(range(0, whole + 1, 30 * 1440), "memory")
            case 1:
                found = self.records(range(0, whole + 1, 1440)[chance.randrange(9) :: chance.choice([1, 2])], "memory")
            case 2 | 3:
                found = self.records(range(at, at + 1440 * chance.choice([1, 1, 5]), 15), "memory")
            case 4:
                at += chance.randrange(1440)
                found = self.records(range(at, at + chance.randrange(2, 90)), "memory")
            case 5:
                at += chance.randrange(24) * 60
                found = self.records(range(at, at + 300, 60), "memory", chance.choice([(IMPORT,), (IMPORT, EXPORT)]))
            case 6:
                at += chance.randrange(96) * 15
                found = self.records(range(at, at + 15 * chance.randrange(2, 12), 15), "poll")
            case _:
                # With one register between two lines of the grid the other could never be known.
                found = self.records([chance.randrange(whole)], "poll")
                found += self.records([chance.randrange(whole // 60) * 60], "poll", (EXPORT,))
        if chance.random() < 0.2:
            found = [one for one in found if chance.random() < 0.8]
        if chance.random() < 0.3:
            found.reverse()
        return found


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32), days=st.sampled_from([3, 10, 40]), length=st.sampled_from([900, 900, 3600, 60]))
def test_memory_of_every_grain_in_any_order_adds_up_and_nothing_fine_becomes_coarse(seed, days, length):
    year = Year(seed, days)
    chance = random.Random(seed)
    if length == 60:
        days = year.days = 3
    until = year.beginning + timedelta(days=days)
    seen: dict[str, set[int]] = {IMPORT: set(), EXPORT: set()}
    edges: set[datetime] = set()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "l.db"
        ledger = Ledger(path, length_s=length, now=lambda: until)
        try:
            ledger.subscribe("mirror")
            mirror: dict[datetime, dict[str, Decimal]] = {}
            asked = []
            for _ in range(chance.randrange(2, 14)):
                records = year.question()
                asked.append(records)
                ledger.take(records)
                for one in records:
                    for obis in one.registers:
                        seen[obis].add((one.at - year.beginning) // timedelta(minutes=1))
                if chance.random() < 0.2:
                    ledger.close()
                    ledger = Ledger(path, length_s=length, now=lambda: until)
                if not ledger.points:
                    continue
                found = ledger.intervals(["p"], year.beginning, until)
                now = {one.start for one in found}
                assert edges <= now, "a coarser partition replaced a finer one"
                edges = now
                assert all(a.end <= b.start for a, b in pairwise(found))
                for obis, minutes in seen.items():
                    said = sum((one.energies.get(obis, Decimal(0)) for one in found), Decimal(0))
                    least, most = (year.count(obis, one) for one in (min(minutes), max(minutes))) if minutes else (0, 0)
                    assert said == Decimal(most - least).scaleb(-2)
                while True:
                    changes = ledger.changes("mirror", limit=500)
                    mirror |= {one.start: dict(one.energies) for one in changes.intervals}
                    ledger.acknowledge("mirror", changes.revision, changes.cursor)
                    if not changes.more:
                        break
                assert mirror == {one.start: one.energies for one in found}
                estimated = sum(one.length_s for one in found if "estimated" in one.flags)
                assert sum((gap.end - gap.start).total_seconds() for gap in ledger.gaps()) == estimated
            assert ledger.verify().ok, ledger.verify().named
            revision = ledger.revision
            chance.shuffle(asked)
            for records in asked:
                ledger.take(records)
            assert ledger.revision == revision, "the same again is no change"
            # Its whole memory, newest days first: all is known.
            for day in reversed(range(days)):
                ledger.take(year.records(range(day * 1440, (day + 1) * 1440 + 1, length // 60), "memory"))
            assert ledger.verify().ok, ledger.verify().named
            assert ledger.gaps() == [] and ledger.holes("p", year.beginning) == []
            found = ledger.intervals(["p"], year.beginning, until)
            assert all(one.known_s == one.length_s for one in found)
            for one in found:
                lo, hi = ((at - year.beginning) // timedelta(minutes=1) for at in (one.start, one.end))
                for obis, energy in one.energies.items():
                    assert energy == Decimal(year.count(obis, hi) - year.count(obis, lo)).scaleb(-2)
        finally:
            ledger.close()
