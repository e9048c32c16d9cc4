"""The planner of one meter, with any holes, periods and clocks: it asks for all there is, and comes to an end."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meter_batch_engine.fleet import PollMeter, PollSettings
from meter_batch_engine.fleet.backfill import Backfill
from meter_batch_engine.fleet.memory import Asked, Kind, Memory, Question
from meter_batch_engine.fleet.meter import Meter
from meter_batch_engine.fleet.recall import Recall
from meter_batch_engine.line import LineSettings
from meter_batch_engine.model.interval import Hole
from meter_batch_engine.template import load

NOW = int(datetime(2026, 11, 25, 12, tzinfo=UTC).timestamp())
TEMPLATE = load("abb/b23")
LINE = LineSettings()
IMPORT = "1-0:1.8.0"
DAY = 86_400


class AnyMemory(Memory):
    """Keeps one kind of record by time, and gives what it is asked for; `lost` labels were never written."""

    def __init__(self, clock, kind, most, lost):
        super().__init__(Asked("1", TEMPLATE, LINE), clock)
        self.known, self._kind, self._most, self._lost = True, kind, most, lost

    def clock_question(self):
        return None

    def contents_question(self):
        return None

    def kinds(self, now, interval_s):
        return [self._kind]

    def most(self, kind):
        return self._most

    def question(self, kind, label, count, span):
        assert 1 <= count <= self._most
        assert kind.oldest <= label and label + (count - 1) * kind.period_s <= kind.newest
        assert (label - kind.phase_s) % kind.period_s == 0
        if kind.together_s:
            last = label + (count - 1) * kind.period_s
            assert label // kind.together_s == last // kind.together_s, "a question lies in two files"
        self.labels = [label + n * kind.period_s for n in range(count)]
        return Question("records", lambda: iter(()), 1, 1, kind, span)

    def answer(self):
        return [
            (datetime.fromtimestamp(one, UTC), {IMPORT: Decimal(one)})
            for one in self.labels
            if one // self._kind.period_s % 7 not in self._lost
        ]

    def refused(self, question):
        return question.span

    depth_s = DAY


@settings(max_examples=150, deadline=None)
@given(
    interval=st.sampled_from((60, 300, 900, 1800, 3600)),
    period=st.sampled_from((60, 300, 900, 1800, 3600)),
    offset=st.one_of(st.just(0), st.integers(-7200, 7200)),
    most=st.integers(1, 20),
    holes=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 40)), min_size=1, max_size=4),
    ragged=st.integers(0, 899),
    depth=st.integers(1, 40),
    together=st.booleans(),
    wire=st.booleans(),
    history=st.booleans(),
    lost=st.sets(st.integers(0, 6), max_size=3),
)
def test_all_boundaries_that_the_memory_has_are_asked_for_and_none_comes_twice(
    interval, period, offset, most, holes, ragged, depth, together, wire, history, lost
):
    meter = Meter(PollMeter("m", "M", TEMPLATE, "1", "modbus"), LINE, 1.0)
    recall = Recall(meter, LINE if wire else LineSettings(framing="tcp"), interval, None)
    recall.clock.note(datetime.fromtimestamp(NOW, UTC), float(offset))
    offset = round(recall.clock.offset_s)
    unit = interval if not history else 3600
    oldest = NOW + offset - depth * unit
    kind = Kind("k", "profile", period, oldest, NOW + offset - 60, together_s=DAY if together else 0)
    recall.memory = AnyMemory(recall.clock, kind, most, lost)
    wanted = [
        Hole(
            datetime.fromtimestamp(NOW - start * unit - length * unit + ragged, UTC),
            datetime.fromtimestamp(NOW - start * unit + ragged, UTC),
        )
        for start, length in holes
    ]
    recall.set_holes(wanted)
    missing = {one for start, end in recall.missing for one in range(start, end, interval)}

    found, steps = [], 0
    while (plan := recall.plan(NOW, float(steps))) is not None:
        question = recall.question(plan, lambda _: True)
        found += [int(one.boundary.timestamp()) for one in recall.took(question, recall.memory.answer())]
        steps += 1
        assert steps < 3000, "it never ends"

    half = min(interval, period) / 2
    first = -(-oldest // period) * period
    there = set()
    for label in range(first, kind.newest + 1, period):
        boundary = round((label - offset) / interval) * interval
        if abs(label - offset - boundary) < half and label // period % 7 not in lost:
            there.add(boundary)
    assert len(found) == len(set(found)), "a boundary came twice"
    assert set(found) <= missing
    # Where a label lies in the middle between two boundaries, either may have it.
    assert there & missing <= set(found)
    assert recall.outstanding(NOW)[0] == 0


def test_the_expected_end_goes_by_how_fast_records_came_not_by_how_fast_the_line_could_be():
    tcp, now = LineSettings(framing="tcp"), datetime.fromtimestamp(NOW, UTC)
    backfill = Backfill(tcp, PollSettings(time_zone="UTC", budget=0.8), 0.0)
    backfill.set_meters({"m": Meter(PollMeter("m", "M", TEMPLATE, "1", "modbus"), tcp, 1.0)})
    recall = backfill._recalls["m"]
    recall.clock.note(now, 0.0)
    kind = Kind("k", "profile", 900, NOW - 100 * DAY, NOW - 60)
    recall.memory = AnyMemory(recall.clock, kind, 12, set())
    backfill.set_holes({"m": [Hole(now - timedelta(days=100), now, history=True)]})
    # A question takes the line 10 ms, but the host comes to ask only every 3 s.
    for monotonic in range(3, 300, 3):
        step = backfill.next(now, monotonic, 10.0, idle=True)
        assert len(backfill.took(step, recall.memory.answer(), now, monotonic)) == 12
        backfill.spent(step, 0.01, monotonic)
    health = backfill.health(now, 300.0)
    assert health.outstanding == pytest.approx(9600 - 99 * 12, abs=2)
    assert (health.finish_at - now).total_seconds() == pytest.approx(health.outstanding / 4, rel=0.05)
