"""Messages between a site and its archive say exactly what went in, or say in words that they cannot be read."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meter_batch_engine.errors import ConfigError
from meter_batch_engine.model.finding import AlarmState, Event, Finding, JournalEntry, Severity
from meter_batch_engine.model.interval import Changes, Interval, Quality
from meter_batch_engine.model.point import InstalledMeter, Multiplier, Point, Route, Term
from meter_batch_engine.model.quantity import QUANTITIES
from meter_batch_engine.sentences import Sentence, say
from meter_batch_engine.wire import (
    WIRE_VERSION,
    RegistrySnapshot,
    decode_changes,
    decode_findings,
    decode_intervals,
    decode_registry,
    encode_changes,
    encode_findings,
    encode_intervals,
    encode_registry,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
instants = st.integers(-(2**31), 2**33).map(lambda seconds: EPOCH + timedelta(seconds=seconds))
texts = st.text(max_size=8)
floats = st.floats(allow_nan=False, allow_infinity=False)
exact = st.decimals(allow_nan=False, allow_infinity=False)
intervals = st.builds(
    Interval,
    point=texts,
    start=instants,
    length_s=st.integers(1, 31_622_400),
    energies=st.dictionaries(st.sampled_from(sorted(QUANTITIES)), exact, max_size=3),
    flags=st.frozensets(st.sampled_from(Quality)),
    revision=st.integers(0, 2**40),
    source=texts,
    skew_s=floats,
    rule=st.none() | texts,
    demand_max_kw=st.none() | floats,
    voltage_min_v=st.none() | floats,
    voltage_mean_v=st.none() | floats,
    voltage_max_v=st.none() | floats,
    power_factor=st.none() | floats,
    known_s=st.integers(0, 31_622_400),
    parts=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    uncovered_s=st.integers(0, 3) | st.integers(0, 31_622_400),
)
ratios = st.decimals(min_value="0.001", max_value=10000, allow_nan=False)
points = st.builds(
    Point,
    id=texts,
    name=texts,
    meters=st.lists(st.builds(InstalledMeter, instants, texts, st.none() | texts), max_size=2).map(tuple),
    routes=st.lists(st.builds(Route, texts, texts, texts), max_size=2).map(tuple),
    multipliers=st.lists(st.builds(Multiplier, instants, ratios, ratios), max_size=2).map(tuple),
    area=st.none() | texts,
    parent=st.none() | texts,
    detail=st.none() | texts,
    attributes=st.dictionaries(texts, texts, max_size=2),
    formula=st.lists(st.builds(Term, st.sampled_from([1, -1]), texts), max_size=3).map(tuple),
)


def over_the_wire(message: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(message))
    return found


def to_the_digit(all_: list[Interval]) -> list[dict[str, str]]:
    """Decimals that are equal may differ in their digits: 1.0 and 1.00."""
    return [{obis: str(energy) for obis, energy in one.energies.items()} for one in all_]


@settings(max_examples=60, deadline=None)
@given(st.lists(intervals, max_size=6))
def test_intervals_come_out_as_they_went_in_to_the_last_digit(all_: list[Interval]) -> None:
    found = decode_intervals(over_the_wire(encode_intervals(all_)))
    assert found == all_
    assert to_the_digit(found) == to_the_digit(all_)
    assert all(one.start.tzinfo is UTC for one in found)


@settings(max_examples=30, deadline=None)
@given(st.builds(Changes, st.integers(0, 2**40), st.lists(intervals, max_size=3), st.booleans(), st.none() | texts))
def test_changes_come_out_as_they_went_in(changes: Changes) -> None:
    assert decode_changes(over_the_wire(encode_changes(changes))) == changes


@settings(max_examples=40, deadline=None)
@given(
    st.lists(points, max_size=3),
    st.dictionaries(texts, texts, max_size=2),
    texts,
    st.integers(0, 2**40),
    st.sampled_from([None, "CN", "DE"]),
)
def test_the_registry_comes_out_as_it_went_in(
    all_: list[Point], names: dict[str, str], time_zone: str, revision: int, country: str | None
) -> None:
    snapshot = RegistrySnapshot({one.id: one for one in all_}, names, names, time_zone, revision, country, "Site A")
    message = over_the_wire(encode_registry(snapshot))
    found = decode_registry(message)
    assert found == snapshot
    del message["country"]  # as those were before it was known
    assert decode_registry(message) == replace(snapshot, country=None)
    assert [str(one.ct) for point in found.points.values() for one in point.multipliers] == [
        str(one.ct) for point in snapshot.points.values() for one in point.multipliers
    ]


@pytest.mark.parametrize("decode", [decode_intervals, decode_changes, decode_registry])
def test_a_message_of_a_newer_version_is_refused_in_words(decode: Any) -> None:
    with pytest.raises(ConfigError) as refused:
        decode({"version": WIRE_VERSION + 1, "anything": "else"})
    assert isinstance(refused.value.text, Sentence)
    assert "update this program" in refused.value.text


@pytest.mark.parametrize("decode", [decode_intervals, decode_changes, decode_registry])
@pytest.mark.parametrize("message", [{}, {"version": 1}, {"version": "1"}, [], {"version": 1, "point": 7}])
def test_what_is_no_message_is_refused_in_words(decode: Any, message: Any) -> None:
    with pytest.raises(ConfigError) as refused:
        decode(message)
    assert isinstance(refused.value.text, Sentence)


def test_columns_of_different_length_are_no_message() -> None:
    one = Interval("p", EPOCH, 900, {"1-0:1.8.0": Decimal("0.10")}, frozenset({Quality.MEASURED}))
    message = encode_intervals([one, one])
    message["known_s"].pop()
    with pytest.raises(ConfigError):
        decode_intervals(message)


def test_the_mean_power_of_a_day_with_one_hour_is_that_of_the_hour_and_older_messages_are_read() -> None:
    day = Interval("p", EPOCH, 86_400, {"1-0:1.8.0": Decimal(8)}, frozenset(), known_s=3600, uncovered_s=23 * 3600)
    message = over_the_wire(encode_intervals([day, replace(day, length_s=3600, uncovered_s=0)]))
    assert [one.demand_mean_kw for one in decode_intervals(message)] == [8, 8]
    del message["uncovered_s"]
    assert [one.uncovered_s for one in decode_intervals(message)] == [0, 0]


def test_a_day_of_a_point_is_small() -> None:
    """Names and flags are said once, not with every row."""
    day = [
        Interval("01jz8k3m9q", EPOCH + timedelta(minutes=15 * n), 900, {"1-0:1.8.0": Decimal(n) / 100}, frozenset())
        for n in range(96)
    ]
    text = json.dumps(encode_intervals(day))
    assert text.count("01jz8k3m9q") == 1
    assert len(text) < 96 * 90


aware = instants.filter(lambda one: one.year > 1)
facts = st.dictionaries(
    texts,
    floats | texts | texts.map(lambda text: say("no_meter", meter=text, line=say("port_closed", name="x"))),
    max_size=3,
)
findings = st.builds(
    Finding,
    id=texts,
    kind=texts,
    subject_kind=st.sampled_from(["point", "line", "site"]),
    subject=texts,
    severity=st.sampled_from(Severity),
    since=aware,
    until=st.none() | aware,
    state=st.sampled_from(AlarmState),
    value=st.none() | floats,
    limit=st.none() | floats,
    extreme=st.none() | floats,
    unit=texts,
    phase=st.integers(0, 3),
    cause=st.none() | texts,
    facts=facts,
    acknowledged_at=st.none() | aware,
    acknowledged_by=st.none() | texts,
    shelved_until=st.none() | aware,
    comment=st.none() | texts,
)
entries = st.builds(JournalEntry, texts, aware, st.sampled_from(Event), st.none() | texts, st.none() | texts)


@given(st.lists(findings, max_size=3), st.lists(entries, max_size=3))
def test_findings_and_their_journal_come_out_as_they_went_in(rows: list[Finding], journal: list[JournalEntry]) -> None:
    assert decode_findings(json.loads(json.dumps(encode_findings(rows, journal)))) == (rows, journal)


def test_a_sentence_in_a_finding_can_be_said_in_another_language_at_the_other_end() -> None:
    problem = say("line_not_connected", line="East")
    at = datetime(2026, 11, 2, tzinfo=UTC)
    finding = Finding("f1", "line_lost", "line", "east", Severity.CRITICAL, at, facts={"problem": problem})
    message = json.loads(json.dumps(encode_findings([finding])))
    ((back,), _) = decode_findings(message)
    read = back.facts["problem"]
    assert isinstance(read, Sentence) and (read, read.key, read.facts) == (problem, problem.key, problem.facts)
    message["findings"][0]["facts"]["problem"]["say"] = "of_another_version"
    ((back,), _) = decode_findings(message)
    assert back.facts["problem"] == "The line East is not connected."
    del message["findings"][0]["severity"]
    with pytest.raises(ConfigError, match="no message of Meter Batch"):
        decode_findings(message)
