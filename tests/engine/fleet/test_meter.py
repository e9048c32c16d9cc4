"""How long to wait for a meter: as TCP estimates it, never below a floor, and never fooled by one slow reply."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meter_batch_engine.fleet.turnround import FLOOR_S, Turnround

FLOOR = FLOOR_S["modbus"]


def after(*seconds):
    turnround = Turnround(1.0, FLOOR)
    for one in seconds:
        turnround.add(one)
    return turnround.timeout_s


def test_an_unknown_meter_gets_the_first_time_out_and_a_quick_one_the_floor():
    assert after() == 1.0
    assert after(*[0.02] * 50) == FLOOR


def test_one_slow_reply_is_remembered_for_a_hundred_replies():
    assert after(*[0.02] * 50, 0.8, *[0.02] * 90) >= 1.2
    assert after(*[0.02] * 50, 0.8, *[0.02] * 150) == FLOOR


@given(st.lists(st.floats(0, 5), min_size=1, max_size=300))
def test_a_meter_that_answers_as_it_did_lately_is_never_timed_out(seconds):
    assert after(*seconds) >= max(FLOOR, max(seconds[-100:]))
