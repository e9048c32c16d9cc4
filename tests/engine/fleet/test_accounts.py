"""What a line's time goes on: the shares make 1 whatever happens, and they are those of the wire itself."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.simulated import VirtualSite
from meter_batch_engine.fleet import Poller, PollMeter, PollSettings
from meter_batch_engine.fleet.airtime import USES, WINDOW_S, Accounts, AirtimeShares
from meter_batch_engine.line import Line, LineSettings
from meter_batch_engine.template import load
from meter_batch_virtual.line import Bus
from meter_batch_virtual.wire import Wire as VirtualWire


class Clock:
    def __init__(self):
        self.now = 1_234_567.0

    def __call__(self):
        return self.now


def whole(shares):
    return shares.live + shares.backfill + shares.probe + shares.idle


STEPS = st.lists(
    st.tuples(st.sampled_from([*USES, "idle", "nested", "cancelled"]), st.floats(0, 400, allow_subnormal=False)),
    max_size=60,
)


@given(STEPS)
@settings(deadline=None)
def test_the_shares_make_one_whatever_happens_and_none_is_negative(steps):
    clock = Clock()
    accounts = Accounts(clock)
    for what, seconds in steps:
        if what == "nested":
            with accounts.on("live"), accounts.on("probe"):
                clock.now += seconds
        elif what == "cancelled":
            with suppress(asyncio.CancelledError), accounts.on("backfill"):
                clock.now += seconds
                raise asyncio.CancelledError
        elif what == "idle":
            clock.now += seconds
        else:
            with accounts.on(what):
                clock.now += seconds
        shares = accounts.shares()
        assert whole(shares) == 1.0
        assert min(shares.live, shares.backfill, shares.probe) >= 0 and shares.idle >= -1e-12


@given(STEPS)
@settings(deadline=None)
def test_the_shares_are_those_of_the_last_ten_minutes(steps):
    clock = Clock()
    accounts, spans, began = Accounts(clock), [], clock.now
    for what, seconds in steps:
        use = what if what in USES else None
        start = clock.now
        if use is None:
            clock.now += seconds
        else:
            with accounts.on(use):
                clock.now += seconds
            spans.append((use, start, clock.now))
    shares = accounts.shares()
    # Time is kept in pieces of ten seconds.
    for use in USES:
        least, most = (
            sum(max(0.0, end - max(start, clock.now - window)) for one, start, end in spans if one == use)
            for window in (WINDOW_S, WINDOW_S + 10)
        )
        passed = clock.now - began
        share = getattr(shares, use)
        assert (
            least / max(1e-9, min(passed, WINDOW_S + 10)) - 1e-9
            <= share
            <= most / max(1e-9, min(passed, WINDOW_S)) + 1e-9
        )


def test_what_is_under_way_counts_already():
    clock = Clock()
    accounts = Accounts(clock)
    with accounts.on("live"):
        clock.now += 5
        assert accounts.shares() == AirtimeShares(live=1.0)


def last(site):
    return site.reports[-1].health.airtime


def test_a_line_that_is_always_busy_is_all_live(polled, sim_meter):
    shares = last(polled([sim_meter(str(unit)) for unit in range(1, 5)], 120, fast_s=0.1))
    assert shares.live > 0.97 and whole(shares) == 1.0


def test_dead_meters_go_on_the_account_of_probes_once_they_are_known(polled, sim_meter):
    site = polled([sim_meter("1"), *(sim_meter(str(unit), alive=False) for unit in range(2, 9))], 900, fast_s=5)
    shares = last(site)
    assert shares.probe > 0.01 and shares.live > 0.01 and shares.idle > 0.5 and whole(shares) == 1.0


def lose(site):
    site.wire.lose()


def test_lost_lines_cancelled_questions_and_bursts_leave_nothing_unaccounted(polled, sim_meter):
    async def hurry(site):
        await asyncio.gather(
            *(site.poll.read_now(key) for key in site.meters for _ in range(5)), return_exceptions=True
        )

    async def give_up(site):
        task = asyncio.ensure_future(site.poll.read_now("1"))
        await asyncio.sleep(0.01)
        task.cancel()

    events = [(at, what) for at in range(20, 300, 40) for what in (lose, hurry, give_up)]
    site = polled([sim_meter("1"), sim_meter("2"), sim_meter("3", alive=False)], 330, fast_s=2, events=events)
    assert site.wire.opened > 5
    for report in site.reports:
        assert whole(report.health.airtime) == 1.0


FLEET = """
[[line]]
name = "feeders"
listen = "tcp://127.0.0.1:0"
protocol = "modbus-rtu"
baud = 9600
turnround_ms = 40
jitter_ms = 10
[[line.meter]]
address = 1
count = 6
template = "eastron/sdm630"
"""


class OnWire:
    """A transport onto the wire of the virtual fleet, which keeps its own log."""

    name = "virtual"

    def __init__(self, loop, bus, line):
        class Alarms:
            now, call_at = staticmethod(loop.time), staticmethod(loop.call_at)

        self.wire = VirtualWire(bus, self.deliver, Alarms(), baud=line.baud)

    async def open(self, on_bytes, on_lost):
        self.on_bytes = on_bytes

    def deliver(self, data):
        self.on_bytes(data)

    def write(self, data):
        self.wire.send(data)

    async def close(self): ...


@pytest.mark.parametrize("fast_s", [0.1, 5.0])
def test_the_account_is_that_of_the_virtual_wires_own_log(simulated, fast_s):
    """Request, thinking and reply, and the silence that the protocol wants before each."""

    async def main(loop):
        site = VirtualSite(loop, FLEET, datetime(2026, 11, 25, 12, 0, 1, tzinfo=UTC))
        config = site.config.lines[0]
        line = LineSettings(baud=config.baud)
        transport = OnWire(loop, Bus(list(site.meters["feeders"].values()), config, site.clock), line)
        reports = []
        poller = Poller(
            Line(transport, line, now=site.clock.now),
            PollSettings(fast_s=fast_s, budget=0),
            reports.append,
            now=site.clock.now,
            monotonic=loop.time,
        )
        poller.set_meters(
            PollMeter(str(unit), str(unit), load("eastron/sdm630"), str(unit), "modbus") for unit in range(1, 7)
        )
        began = loop.time()
        task = asyncio.create_task(poller.run())
        await asyncio.sleep(400)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        shares, passed = reports[-1].health.airtime, (reports[-1].at - site.clock.started_at).total_seconds()
        until = began + passed
        log = transport.wire.log
        busy = sum(one.free_at - one.request_at + log.gap_s for one in log.exchanges if (one.free_at or until) < until)
        return shares, busy / passed

    shares, busy = simulated(main)
    assert shares.live + shares.probe == pytest.approx(busy, rel=0.03)
    assert busy > (0.9 if fast_s < 1 else 0.05) and shares.backfill == 0
