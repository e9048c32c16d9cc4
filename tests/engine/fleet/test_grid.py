"""Lines wake up together, and nothing is read later than its time and one step of the grid."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.bus import START, BusMeter
from bench.simulated import Wire
from meter_batch_engine.fleet import Poller, PollMeter, PollSettings
from meter_batch_engine.fleet.schedule import GRID_S, on_grid
from meter_batch_engine.line import Line, LineSettings
from meter_batch_engine.protocol.modbus.server import ModbusResponder
from meter_batch_engine.template import load


@given(st.floats(0, 1e7), st.floats(0.001, 3600))
def test_what_is_due_waits_for_the_grid_and_no_longer(at, fast_s):
    waits = on_grid(at, fast_s) - at
    assert -1e-5 <= waits <= min(GRID_S, 0.05 * fast_s) + 1e-5


@given(st.floats(0, 1e7))
def test_an_instant_of_the_grid_stays_where_it_is(at):
    assert on_grid(on_grid(at, 10.0), 10.0) == pytest.approx(on_grid(at, 10.0), abs=1e-9)


def test_lines_that_began_at_any_time_ask_in_few_bursts_and_in_time(simulated):
    template = load("eastron/sdm120")
    lines, fast_s = 100, 1.0

    async def main(loop):
        image = BusMeter("1", template, lambda: 0.0)
        wires, tasks = [], []

        def answers(request, responder):
            return [(0.005, one.raw) for one in responder.feed(request)]

        async def later(number, poller):
            await asyncio.sleep(number * 0.0107)
            await poller.run()

        for number in range(lines):
            responder = ModbusResponder({1: image}, "tcp")
            wire = Wire(lambda request, one=responder: answers(request, one), free=True, name=str(number))
            poller = Poller(
                Line(wire, LineSettings(framing="tcp"), now=lambda: START),
                PollSettings(fast_s=fast_s, slow_s=10_000, budget=0),
                lambda report: None,
                now=lambda: START,
                monotonic=loop.time,
            )
            poller.set_meters([PollMeter("1", "1", template, "1", "modbus")])
            wires.append(wire)
            tasks.append(asyncio.create_task(later(number, poller)))
        await asyncio.sleep(9)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return [[at for at, _ in wire.sent if at > loop.time() - 7] for wire in wires]

    sent = simulated(main)
    for times in sent:
        rounds = [at for before, at in pairwise(times) if at - before > 0.5]
        assert all(later - at <= fast_s + GRID_S + 1e-6 for at, later in pairwise(rounds))
    starts = {round(at / GRID_S) for times in sent for before, at in pairwise(times) if at - before > 0.5}
    moments = {round(at, 4) for times in sent for before, at in pairwise(times) if at - before > 0.5}
    # A hundred lines in phases of their own would begin at a hundred moments of every second.
    assert len(moments) <= len(starts) + 1 and len(starts) <= 7 * fast_s / GRID_S + 1
