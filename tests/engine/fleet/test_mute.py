"""Whatever a meter ignores, everything else is read, and hardly any time is lost on what it ignores."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meter_batch_engine.errors import NoReply
from meter_batch_engine.fleet import PollMeter
from meter_batch_engine.fleet.meter import Meter
from meter_batch_engine.line import LineSettings
from meter_batch_engine.template import ModbusRequest, load

ROUND_S = 10.0


def rounds(meter, mute, count, begin=0.0):
    """Asks what is due round by round; which requests were not answered in each."""
    registers = [one for one in meter.poll.template.registers if one.obis in mute]

    def ignores(request):
        if not isinstance(request, ModbusRequest):
            return any(request.di in (one.locator.di, one.locator.single) for one in registers)
        end = request.address + request.count
        return any(
            one.locator.function == request.function and one.locator.address < end > request.address < one.locator.end
            for one in registers
        )

    wanted = frozenset(one.obis for one in meter.poll.template.registers)

    def answers(request):
        if not ignores(request):
            meter.answered()
            meter.mutes.gave(request)
        return not ignores(request)

    lost = []
    for number in range(count):
        now = begin + number * ROUND_S
        missed = []
        if meter.silent and not answers(meter.probe):
            meter.probe_failed(now, 60.0)
        for request in meter.requests(wanted, now):
            if meter.silent:
                break
            if not answers(request):
                meter.missed(request, NoReply("no reply"), now)
                missed.append(request)
        lost.append(missed)
    return lost


@pytest.mark.parametrize("model", ["eastron/sdm630", "chint/dtsu666", "generic/dlt645-3ph"])
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_all_that_is_not_ignored_is_read(model, data):
    template = load(model)
    every = [one.obis for one in template.registers]
    mute = data.draw(st.sets(st.sampled_from(every), max_size=6))
    meter = Meter(PollMeter("1", "1", template, "1".zfill(12), template.protocol), LineSettings(), 1.0)
    lost = rounds(meter, mute, 60)
    assert meter.mutes.given == set(every) - mute
    assert meter.mutes.ignored == mute
    # Six registers at most, each asked for again after 60, 120, 240 s …, and never more than a few in one round.
    assert sum(map(len, lost)) <= 4 + len(mute) * (2 + 8 + 4)


@given(st.integers(1, 40), st.data())
@settings(max_examples=30, deadline=None)
def test_what_it_answers_again_is_read_again(count, data):
    template = load("eastron/sdm630")
    every = [one.obis for one in template.registers]
    mute = data.draw(st.sets(st.sampled_from(every), min_size=1, max_size=4))
    meter = Meter(PollMeter("1", "1", template, "1", "modbus"), LineSettings(), 1.0)
    plan = meter.requests(every, 0.0)
    rounds(meter, mute, count)
    meter.mutes.given.clear()
    rounds(meter, set(), 400, count * ROUND_S)
    assert meter.mutes.given == set(every)
    assert not meter.mutes.divided
    assert {one.registers for one in meter.requests(every, 1e6)} == {one.registers for one in plan}
