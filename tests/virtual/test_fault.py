"""Faults strike when and how often the fleet file says, the same way each time."""

from __future__ import annotations

import pytest

from meter_batch_engine.errors import ConfigError
from meter_batch_virtual.fault import KINDS, parse_fault
from meter_batch_virtual.strike import Faults

REPLY = bytes(range(40))


def strike(*tables: dict[str, object], at: float = 0.0, times: int = 1) -> list[bytes | None]:
    faults = Faults(tuple(parse_fault(table, "here") for table in tables), seed=5)
    said = [faults.apply(b"request", REPLY, at) for _ in range(times)]
    return [None if one is None else one.raw for one in said]


def test_each_kind_does_what_it_is_called() -> None:
    assert strike({"kind": "silent"}) == [None]
    (noisy,) = strike({"kind": "noise", "bytes": 5})
    assert noisy is not None and noisy[5:] == REPLY and len(noisy) == 45
    assert len(strike({"kind": "noise", "bytes": 5, "place": "instead"})[0] or b"") == 5
    (flipped,) = strike({"kind": "flip", "bits": 1})
    assert flipped is not None
    assert sum((one ^ other).bit_count() for one, other in zip(flipped, REPLY, strict=True)) == 1
    assert strike({"kind": "half"}) == [REPLY[:20]]
    assert strike({"kind": "half", "keep": 3}) == [REPLY[:3]]
    assert strike({"kind": "echo"}) == [b"request" + REPLY]
    late = Faults((parse_fault({"kind": "late", "late_s": 1.5}, "here"),), 1).apply(b"", REPLY, 0)
    assert late is not None and late.later_s == 1.5 and late.raw == REPLY


def test_a_fault_strikes_only_in_its_time() -> None:
    fault = {"kind": "silent", "from_s": 60, "to_s": 120}
    assert [strike(fault, at=at)[0] for at in (0, 59.9, 60, 119.9, 120)] == [REPLY, REPLY, None, None, REPLY]


def test_every_count_and_probability_limit_how_often_it_strikes() -> None:
    assert strike({"kind": "silent", "every": 3}, times=7) == [REPLY, REPLY, None, REPLY, REPLY, None, REPLY]
    assert strike({"kind": "silent", "count": 2}, times=4) == [None, None, REPLY, REPLY]
    struck = strike({"kind": "silent", "probability": 0.2}, times=1000).count(None)
    assert 150 < struck < 250
    again = {"kind": "noise", "probability": 0.5}
    assert strike(again, times=50) == strike(again, times=50)


def test_several_faults_add_up() -> None:
    (said,) = strike({"kind": "half"}, {"kind": "echo"})
    assert said == b"request" + REPLY[:20]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"kind": "silence"}, r"hall: kind = .silence.; it may be silent, noise"),
        ({}, r"hall: kind"),
        ({"kind": "silent", "form_s": 3}, r"hall: unknown key form_s; a silent may have kind, from_s"),
        ({"kind": "silent", "from_s": "3"}, r"hall: from_s = '3' must be a number"),
        ({"kind": "silent", "from_s": 5, "to_s": 5}, r"hall: to_s = 5 must lie behind from_s = 5"),
        ({"kind": "noise", "place": "beside"}, r'hall: place = "beside"; it may be before, after, instead'),
        ({"kind": "flip", "probability": 2}, r"hall: every must be at least 1 and probability at most 1"),
        ({"kind": "flip", "every": 1.5}, r"hall: every = 1.5 must be a whole number"),
    ],
)
def test_a_wrong_fault_is_named(table: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_fault(table, "hall")


def test_the_times_of_faults_that_are_read_again_count_from_then() -> None:
    faults = Faults((parse_fault({"kind": "silent"}, "here"),), 1)
    faults.reload((parse_fault({"kind": "silent", "from_s": 60, "to_s": 120}, "here"),), 1000)
    struck = [faults.apply(b"", REPLY, at) is None for at in (1000, 1059, 1060, 1119, 1120)]
    assert struck == [False, False, True, True, False]
    faults.reload((), 1060)
    assert faults.apply(b"", REPLY, 1061) is not None


def test_faults_that_are_read_again_strike_the_same_way_again() -> None:
    noise = (parse_fault({"kind": "noise", "probability": 0.5, "count": 3}, "here"),)
    faults = Faults(noise, 1)
    first = [faults.apply(b"", REPLY, 0) for _ in range(10)]
    faults.reload(noise, 50)
    assert [faults.apply(b"", REPLY, 50) for _ in range(10)] == first


def test_what_is_active_before_and_after_a_reload_goes_on_unbroken() -> None:
    swap = (parse_fault({"kind": "swap"}, "here"),)
    faults = Faults((parse_fault({"kind": "swap", "from_s": 30}, "here"),), 1)
    faults.reload(swap, 100)
    faults.reload(swap, 200)
    assert faults.since("swap", 300) == 30
    faults.reload((), 400)
    faults.reload(swap, 500)
    assert faults.since("swap", 600) == 500, "it went and came again"
    faults.reload((parse_fault({"kind": "swap", "from_s": 10}, "here"),), 700)
    assert faults.since("swap", 705) is None and faults.since("swap", 710) == 710


def test_the_next_change_is_when_one_begins_or_ends() -> None:
    cuts = ({"kind": "cut", "from_s": 10, "to_s": 20}, {"kind": "cut", "from_s": 40})
    faults = Faults(tuple(parse_fault(one, "here", on_line=True) for one in cuts), 1)
    assert [faults.next_change("cut", at) for at in (0, 10, 20, 39.9, 40)] == [10, 20, 40, 40, None]
    faults.reload((), 5)
    assert faults.next_change("cut", 5) is None


def test_a_cut_is_of_a_line_and_has_only_its_time() -> None:
    with pytest.raises(ConfigError, match="kind = 'cut'"):
        parse_fault({"kind": "cut"}, "hall")
    with pytest.raises(ConfigError, match="hall: a cut has only from_s, to_s, not every, probability"):
        parse_fault({"kind": "cut", "probability": 0.5, "every": 2}, "hall", on_line=True)


def test_a_line_cannot_be_swapped() -> None:
    with pytest.raises(ConfigError, match="kind = 'swap'"):
        parse_fault({"kind": "swap"}, "hall", on_line=True)
    assert parse_fault({"kind": "swap"}, "hall").kind in KINDS
