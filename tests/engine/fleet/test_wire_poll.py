"""What passes between a host and the process that polls for it arrives as it was sent."""

from __future__ import annotations

import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meter_batch_engine import errors
from meter_batch_engine.errors import ConfigError, MeterBatchError
from meter_batch_engine.fleet import PollMeter, PollReport, PollSettings, wire_poll
from meter_batch_engine.line import LineSettings
from meter_batch_engine.model.point import InstalledMeter, Multiplier, Point, Route
from meter_batch_engine.sentences import SENTENCES, Sentence, say
from meter_batch_engine.template import load
from meter_batch_engine.wire_values import form_of

START = datetime(2026, 1, 1, tzinfo=UTC)
PLAIN = st.text(st.characters(codec="utf-8"), max_size=8)
SAID = st.builds(lambda line: say("line_closed", line=line), PLAIN)
KINDS = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, MeterBatchError)]


def error(kind, text, raw, code):
    if issubclass(kind, errors.Refused):
        return kind(text, raw, code)
    return kind(text, raw) if issubclass(kind, errors.MeterError) else kind(text)


def values_of(hint):
    """Values of any type that a report has, made apart from the code under test."""
    if isinstance(hint, typing.TypeAliasType):
        return values_of(hint.__value__)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if hint is str:
        return PLAIN | SAID
    if hint is Sentence:
        return SAID
    if hint is float:
        return st.floats(allow_nan=False)
    if hint is Decimal:
        return st.decimals(allow_nan=False, allow_infinity=False)
    if hint is datetime:
        return st.timedeltas(timedelta(days=-9000), timedelta(days=30000)).map(lambda after: START + after)
    if hint in (int, bool, bytes, timedelta, type(None)):
        return {
            int: st.integers(-(2**53), 2**53),
            bool: st.booleans(),
            bytes: st.binary(max_size=6),
            timedelta: st.timedeltas(),
            type(None): st.none(),
        }[hint]
    if origin is tuple:
        if arguments[-1] is ...:
            return st.lists(values_of(arguments[0]), max_size=2).map(tuple)
        return st.tuples(*map(values_of, arguments))
    if origin is frozenset:
        return st.frozensets(values_of(arguments[0]), max_size=2)
    if origin is list:
        return st.lists(values_of(arguments[0]), max_size=2)
    if origin in (dict, Mapping):
        return st.dictionaries(
            PLAIN if arguments[0] is str else values_of(arguments[0]), values_of(arguments[1]), max_size=2
        )
    if arguments:
        return st.one_of(*map(values_of, arguments))
    if issubclass(hint, MeterBatchError):
        kinds = st.sampled_from([one for one in KINDS if issubclass(one, hint)])
        return st.builds(error, kinds, PLAIN | SAID, st.binary(max_size=4), st.none() | st.integers(0, 255))
    if issubclass(hint, Enum):
        return st.sampled_from(list(hint))
    assert is_dataclass(hint) or hasattr(hint, "_fields"), hint
    names = [one.name for one in fields(hint)] if is_dataclass(hint) else hint._fields
    hints = typing.get_type_hints(hint)
    return st.builds(hint, **{name: values_of(hints[name]) for name in names})


def told(value):
    """All of a value as text: types, signs of zeros, last digits, keys and facts of sentences, errors' own fields."""
    if isinstance(value, Sentence):
        return f"say {value.key} {dict(value.facts)!r}"
    if isinstance(value, MeterBatchError):
        return f"{type(value).__name__} {told(value.text)} {vars(value)!r}"
    if is_dataclass(value):
        return f"{type(value).__name__}({', '.join(told(getattr(value, one.name)) for one in fields(value))})"
    if isinstance(value, frozenset):
        return f"frozenset {sorted(told(one) for one in value)}"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__} {[told(one) for one in value]}"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{told(key)}: {told(one)}' for key, one in value.items())}}}"
    return f"{type(value).__name__} {value!r}"


@settings(max_examples=40, deadline=None)
@given(values_of(PollReport))
def test_every_field_of_a_report_arrives_as_it_was_sent(report):
    message = wire_poll.unpacked(wire_poll.packed(["report", "line", wire_poll.REPORT.encode(report)])[4:])
    assert told(wire_poll.REPORT.decode(message[2])) == told(report)


@settings(max_examples=40, deadline=None)
@given(values_of(MeterBatchError))
def test_every_error_arrives_as_what_it_is(one):
    assert told(wire_poll.ERROR.decode(json.loads(json.dumps(wire_poll.ERROR.encode(one))))) == told(one)


def test_a_meter_arrives_with_its_point_and_its_own_template():
    point = Point(
        "p1",
        "Floor 1",
        (InstalledMeter(START, "eastron/sdm630", "007"),),
        (Route("line", "modbus", "7"),),
        (Multiplier(START, Decimal("40.00"), Decimal(1)),),
        attributes={"contract_kw": "50"},
    )
    meter = PollMeter("p1", "Floor 1", load("eastron/sdm630"), "7", "modbus", frozenset({"1-0:1.8.0"}), point)
    data = json.loads(json.dumps(wire_poll.encode_meter(meter)))
    assert set(data) == {one.name for one in fields(PollMeter)}
    again = wire_poll.decode_meter(data)
    assert told(again.point) == told(point)
    assert again == meter and again.template is meter.template


def test_a_line_arrives_with_all_its_settings():
    plan = wire_poll.LinePlan(
        "tcp://10.0.0.5:502",
        LineSettings(baud=2400, parity="E", preamble=4),
        PollSettings(fast_s=3, budget=0.1),
        {},
        {"p": "7"},
    )
    assert wire_poll.PLAN.decode(json.loads(json.dumps(wire_poll.PLAN.encode(plan)))) == plan


def test_what_is_no_message_and_another_version_are_refused_in_words():
    for data in (b"{}", b"[]", b"[1]", b"\xff", b"hello"):
        with pytest.raises(ConfigError, match="no message"):
            wire_poll.unpacked(data)
    with pytest.raises(ConfigError, match="no message"):
        wire_poll.check_version(["version", 99])
    wire_poll.check_version(["version", wire_poll.POLL_VERSION])


def test_a_type_without_a_form_is_known_before_the_first_value_comes():
    @dataclass
    class Strange:
        one: complex

    with pytest.raises(TypeError, match="complex"):
        form_of(Strange)


def test_sentences_are_said_by_key_at_the_other_end():
    assert "poll_process_gone" in SENTENCES
    text = say("poll_process_gone", reason="x")
    again = form_of(str).decode(json.loads(json.dumps(form_of(str).encode(text))))
    assert isinstance(again, Sentence) and again.key == "poll_process_gone" and again == text
