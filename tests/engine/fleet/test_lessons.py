"""Whatever a meter refuses, a few questions find out why, no register is lost, and the next of its model profits."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from functools import lru_cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meter_batch_engine.errors import ConfigError
from meter_batch_engine.fleet import Lessons, PollMeter
from meter_batch_engine.fleet.lessons import Models, applied
from meter_batch_engine.fleet.meter import Meter
from meter_batch_engine.fleet.refusal import by_address, contiguous, find_causes
from meter_batch_engine.fleet.request import timing
from meter_batch_engine.line import LineSettings
from meter_batch_engine.model.quantity import BY_KEY
from meter_batch_engine.template import ModbusWords, load, plan
from meter_batch_engine.template.planner import cost

MODELS = ("eastron/sdm630", "acrel/adl3000", "carlo-gavazzi/em340", "chint/dtsu666", "abb/b23")
LINE = LineSettings()
FREQUENCY = BY_KEY["frequency"].obis


class Firmware:
    """What a meter refuses: registers that it lacks, some of the holes of its model, and requests that are too long."""

    def __init__(self, template, absent=(), holes=(), longest=125):
        self.longest = longest
        self.walls = set(holes)
        for one in template.registers:
            if one.obis in absent:
                self.walls |= {(one.locator.function, at) for at in range(one.locator.address, one.locator.end)}
        self.asked = []

    def answers(self, request):
        self.asked.append(request)
        return request.count <= self.longest and not any(
            (request.function, at) in self.walls for at in range(request.address, request.address + request.count)
        )


@lru_cache
def holes(template):
    """(function, first address) of each stretch between registers."""
    found = []
    for function in {one.locator.function for one in template.registers}:
        those = by_address([one for one in template.registers if one.locator.function == function])
        end = those[0].locator.end
        for one in those[1:]:
            if one.locator.address > end:
                found.append((function, end))
            end = max(end, one.locator.end)
    return found


def read(meter, firmware, request):
    """As the reader does it; the registers that were given."""
    given, left = set(), [request]
    while left:
        part = left.pop(0)
        if firmware.answers(part):
            meter.gave(part)
            given |= {one.obis for one in part.registers}
            continue
        template, done = meter.template, set()
        search = find_causes(
            part, meter.longest, lambda words, not_over, t=template, f=part.function: contiguous(t, f, words, not_over)
        )
        try:
            question = next(search)
            while True:
                if answered := firmware.answers(question):
                    meter.gave(question)
                    done |= {one.obis for one in question.registers}
                question = search.send(answered)
        except StopIteration as end:
            causes = end.value
        meter.learn(causes, None, 0.0)
        given |= done
        rest = {one.obis for one in part.registers} - done - causes.absent
        left = [*(meter.requests(rest) if rest else ()), *left]
    return given


def best_s(template, firmware, absent):
    """The fewest seconds for one who knows what the meter refuses."""
    known = Lessons(template.id, max_words=min(firmware.longest, 125), refused=frozenset(absent))
    cuts = {(f, at) for f, at in firmware.walls}
    fitting = applied(template, replace(known, cuts=frozenset(cuts)))
    cost_of = timing(LINE, template, 0.05)
    return sum(cost(one, cost_of) for one in plan(fitting, None, cost_of))


@pytest.mark.parametrize("model", MODELS)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_whatever_a_meter_refuses_the_best_plan_is_found_with_few_questions_and_no_register_is_lost(model, data):
    template = load(model)
    every = [one.obis for one in template.registers]
    absent = data.draw(st.sets(st.sampled_from(every), max_size=4))
    refused = data.draw(st.sets(st.sampled_from(holes(template)), max_size=4)) if holes(template) else set()
    longest = data.draw(st.sampled_from([125, 60, 40, 30, 21, 20, 16, 11, 10, 8, 5, 4]))
    firmware = Firmware(template, absent, refused, longest)
    meter = Meter(PollMeter("1", "1", template, "1", "modbus"), LINE, 1.0)
    plans = []
    for _ in range(12):
        given_now = set()
        for request in meter.requests(meter.wanted(("fast", "slow", "energy"))):
            given_now |= read(meter, firmware, request)
        # Each round gives all that the meter has.
        assert given_now == set(every) - absent
        plans.append(meter.requests(meter.wanted(("fast", "slow", "energy"))))
    assert meter.absent == absent
    # Nothing is refused any more, and nobody who knew all could ask in less time.
    assert all(firmware.answers(one) for one in plans[-1])
    cost_of = timing(LINE, template, 0.05)
    assert sum(cost(one, cost_of) for one in plans[-1]) <= best_s(template, firmware, absent) + 1e-9
    registers = len(every)
    needed = 12 * len(plans[-1]) + len(plans[-1])
    questions = len(firmware.asked) - needed
    causes = len(absent) + len(refused) + 3
    assert questions <= (causes + 1) * (2 * math.log2(registers) + 4), (questions, causes)
