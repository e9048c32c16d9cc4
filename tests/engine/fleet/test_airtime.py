"""The budget of a line is kept over any stretch of time."""

from hypothesis import given
from hypothesis import strategies as st

from meter_batch_engine.fleet.airtime import SAVED_S, Airtime


@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0.01, 2.5)), min_size=1, max_size=200))
def test_no_stretch_gets_more_than_its_share_and_what_was_saved(visits):
    airtime, now, spent = Airtime(0.2, 0.0), 0.0, []
    for pause, cost in visits:
        now += pause
        if airtime.allows(cost, now):
            now += cost
            airtime.spend(cost, now)
            spent.append((now, cost))
    for place, (begin, cost) in enumerate(spent):
        total = 0.0
        for end, seconds in spent[place:]:
            total += seconds
            assert total <= 0.2 * (end - begin + cost) + 0.2 * SAVED_S + 1e-6


def test_a_step_that_costs_more_than_can_be_saved_comes_once_all_is_saved():
    airtime = Airtime(0.2, 0.0)
    wait = airtime.wait_s(100.0, 0.0)
    assert 0 < wait <= SAVED_S
    assert not airtime.allows(100.0, wait / 2)
    assert airtime.allows(100.0, wait)
