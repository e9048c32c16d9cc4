"""What a line promises: silences, deadlines, one exchange at a time, and no reply to the wrong question."""

from __future__ import annotations

import asyncio
import struct
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_batch_engine.errors import (
    AbsentRegister,
    ConfigError,
    FrameError,
    LineLost,
    LineUnavailable,
    NoReply,
)
from meter_batch_engine.line import RECALLED, Line, LineSettings
from meter_batch_engine.protocol.dlt645.exchange import BroadcastTime, ReadData
from meter_batch_engine.protocol.modbus.exchange import ReadRegisters
from meter_batch_engine.protocol.modbus.rtu import encode

RTU = LineSettings(baud=9600)


def meter(turnround_s: float = 0.02, unit: int = 1):
    """Answers reads with words that name their own address."""

    def answers(request):
        asked, function, address, count = struct.unpack(">BBHH", request[:6])
        if asked == unit:
            words = range(address, address + count)
            yield turnround_s, encode(unit, bytes((function, 2 * count)) + struct.pack(f">{count}H", *words))

    return answers


def read(address=0, count=2, unit=1):
    return ReadRegisters(unit, 3, address, count)


async def opened(transport, settings=RTU) -> Line:
    line = Line(transport, settings)
    await line.open()
    return line


def test_an_answer_comes_with_the_meters_own_time_apart_from_the_wires(simulated, wire):
    async def main(loop):
        line = await opened(wire(meter(0.06)))
        reply = await line.exchange(read(10, 40), turnround_s=1)
        assert reply.answer == tuple(range(10, 50))
        assert reply.turnround_s == pytest.approx(0.06, abs=0.002)
        assert reply.duration_s == pytest.approx((8 + 85) * 10 / 9600 + 0.06, abs=0.002)
        assert reply.at.tzinfo is not None

    simulated(main)


def test_a_gateway_that_passes_whole_frames_gives_the_same_turn_round(simulated, wire):
    async def main(loop):
        line = await opened(wire(meter(0.06), packed=True))
        reply = await line.exchange(read(10, 40), turnround_s=1)
        assert reply.turnround_s == pytest.approx(0.06, abs=0.002)

    simulated(main)


def test_a_reply_came_when_its_last_byte_came_however_late_we_look(simulated, wire):
    async def main(loop):
        began = datetime(2026, 1, 1, tzinfo=UTC)
        now = lambda: began + timedelta(seconds=loop.time() - 10_000_000)  # noqa: E731
        line = Line(wire(meter(0.06)), RTU, now=now)
        await line.open()
        reply = await line.exchange(read(10, 40), turnround_s=1)
        came = now()
        loop.stall(5)
        assert abs(reply.at - came) < timedelta(milliseconds=1) and reply.at is reply.at
        loop.stall(5)
        assert abs(line.trace[0].at - came) < timedelta(milliseconds=1)
        line.forget_trace()
        assert line.trace == []

    simulated(main)


@pytest.mark.parametrize("baud", [1200, 2400, 9600, 19200, 115200])
def test_the_wire_is_silent_for_t35_before_every_request_and_not_longer(simulated, wire, baud):
    async def main(loop):
        transport = wire(meter(0.01), baud=baud)
        line = await opened(transport, LineSettings(baud=baud))
        for _ in range(50):
            await line.exchange(read(0, 40), turnround_s=1)
        wanted = 38.5 / baud if baud <= 19200 else 0.00175
        assert min(transport.silences) >= wanted - 1e-7
        assert max(transport.silences) <= wanted + 1e-3

    simulated(main)


def test_silence_counts_from_the_end_of_our_own_request_too(simulated, wire):
    async def main(loop):
        transport = wire(lambda request: ())
        line = await opened(transport, LineSettings(baud=1200, late_reply_s=0))
        for _ in range(2):
            with pytest.raises(NoReply):
                await line.exchange(read(), turnround_s=0.0)
        assert transport.silences[1] >= 38.5 / 1200 - 1e-7

    simulated(main)


def test_time_is_up_after_request_turn_round_and_longest_reply(simulated, wire):
    async def main(loop):
        line = await opened(wire(lambda request: ()))
        before = loop.time()
        with pytest.raises(NoReply):
            await line.exchange(read(0, 40), turnround_s=0.5)
        assert loop.time() - before == pytest.approx(0.5 + (8 + 85) * 10 / 9600 + 38.5 / 9600, abs=0.003)

    simulated(main)


def test_a_reply_that_began_just_before_time_is_up_is_heard_to_its_end(simulated, wire):
    async def main(loop):
        line = await opened(wire(meter(0.58)))
        reply = await line.exchange(read(0, 40), turnround_s=0.5)
        assert len(reply.answer) == 40

    simulated(main)


def test_a_damaged_reply_costs_little_more_than_a_good_one(simulated, wire):
    def damaged(request):
        for delay, reply in meter()(request):
            yield delay, reply[:-1] + bytes((reply[-1] ^ 0x55,))

    async def main(loop):
        line = await opened(wire(damaged))
        begun = loop.time()
        with pytest.raises(FrameError):
            await line.exchange(read(0, 40), turnround_s=1)
        good = 0.02 + (8 + 85) * 10 / 9600
        assert good < loop.time() - begun < good + 0.15

    simulated(main)


def test_a_good_reply_behind_noise_as_long_as_itself_is_still_heard(simulated, wire):
    def noisy(request):
        for delay, reply in meter()(request):
            yield delay, bytes(len(reply)) + reply

    async def main(loop):
        line = await opened(wire(noisy))
        assert (await line.exchange(read(10, 40), turnround_s=1)).answer == tuple(range(10, 50))

    simulated(main)


def test_noise_without_end_does_not_hold_an_exchange_for_ever(simulated, wire):
    async def main(loop):
        def babble(request):
            return [(0.01 * i, b"\x55") for i in range(2000)]

        line = await opened(wire(babble))
        before = loop.time()
        with pytest.raises(FrameError):
            await line.exchange(read(), turnround_s=0.5)
        assert loop.time() - before < 2

    simulated(main)


def test_a_line_that_is_never_silent_is_called_so(simulated, wire):
    async def main(loop):
        transport = wire(meter())
        line = await opened(transport)
        for i in range(5000):
            transport.put(loop.time() + i * 0.002, b"\xaa")
        with pytest.raises(FrameError, match="never silent"):
            await line.exchange(read(), turnround_s=0.5)
        assert transport.sent == []

    simulated(main)


def test_bytes_that_came_before_the_request_are_dropped(simulated, wire):
    async def main(loop):
        transport = wire(meter())
        line = await opened(transport)
        stale = encode(1, b"\x03\x04\xff\xff\xff\xff")
        transport.put(loop.time(), stale)
        await asyncio.sleep(0.1)
        assert (await line.exchange(read(7, 2), turnround_s=0.5)).answer == (7, 8)

    simulated(main)


def test_a_refusal_is_the_meters_error_and_ends_the_exchange_at_once(simulated, wire):
    async def main(loop):
        line = await opened(wire(lambda request: [(0.01, encode(1, b"\x83\x02"))]))
        before = loop.time()
        with pytest.raises(AbsentRegister):
            await line.exchange(read(), turnround_s=5)
        # A refusal could also be the beginning of a longer reply, so it counts once nothing follows.
        assert loop.time() - before < 0.3
        assert line.counters.replies == 1

    simulated(main)


def test_callers_take_their_turns_in_the_order_of_their_calls(simulated, wire):
    async def main(loop):
        transport = wire(meter())
        line = await opened(transport)
        order = []

        async def one(address):
            order.append((await line.exchange(read(address), turnround_s=0.5)).answer[0])

        await asyncio.gather(*(one(i) for i in range(10)))
        assert order == list(range(10))

    simulated(main)


@given(
    start=st.floats(0.0, 0.6),
    length=st.floats(0.0, 2.0),
    turnround=st.floats(0.0, 0.34),
    packed=st.booleans(),
)
def test_a_stall_of_the_event_loop_is_never_a_time_out(simulated, wire, start, length, turnround, packed):
    async def main(loop):
        line = await opened(wire(meter(turnround), packed=packed))
        loop.call_later(start, loop.stall, length)
        assert (await line.exchange(read(3, 40), turnround_s=0.35)).answer[0] == 3

    simulated(main)


@given(
    late=st.lists(st.sampled_from([0.02, 0.3, 0.36, 0.5, 0.9, 1.5, 2.2]), min_size=1, max_size=12),
    packed=st.booleans(),
    other=st.lists(st.booleans(), min_size=12, max_size=12),
)
def test_a_late_reply_never_answers_the_next_question(simulated, wire, late, packed, other):
    async def main(loop):
        delays = iter(late)

        def answers(request):
            unit = request[0]
            yield from meter(next(delays) if unit == 1 else 0.01, unit)(request)

        line = await opened(wire(answers, packed=packed))
        for i in range(len(late)):
            try:
                reply = await line.exchange(read(10 * i, 2), turnround_s=0.35)
            except NoReply, FrameError:
                continue
            finally:
                if other[i]:
                    with suppress(NoReply, FrameError):  # where the late reply of unit 1 collided with it
                        assert (await line.exchange(read(500, 2, unit=2), turnround_s=0.35)).answer == (500, 501)
            assert reply.answer == (10 * i, 10 * i + 1)

    simulated(main)


def test_a_question_that_a_late_reply_could_answer_waits_and_others_do_not(simulated, wire):
    async def main(loop):
        def answers(request):
            yield from meter(1.0 if request[0] == 1 else 0.01, request[0])(request)

        transport = wire(answers)
        line = await opened(transport)
        with pytest.raises(NoReply):
            await line.exchange(read(0), turnround_s=0.35)
        assert line.blocked_s(read(50)) > 1.5
        assert line.blocked_s(read(50, unit=2)) == 0
        before = loop.time()
        await line.exchange(read(0, unit=2), turnround_s=0.35)
        assert loop.time() - before < 0.1
        await line.exchange(read(50), turnround_s=1.5)
        # The late reply came after 1 s, so nobody waited for the whole two seconds.
        assert transport.sent[2][0] - transport.sent[0][0] == pytest.approx(1.02, abs=0.02)
        assert line.counters.late == 1

    simulated(main)


def test_a_cancelled_question_is_remembered_like_one_that_timed_out(simulated, wire):
    async def main(loop):
        line = await opened(wire(meter(0.2)))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await line.exchange(read(0, 2), turnround_s=0.35)
        assert (await line.exchange(read(70, 2), turnround_s=0.35)).answer == (70, 71)

    simulated(main)


def test_a_line_lost_in_mid_exchange_says_so_and_later_questions_find_it_unavailable(simulated, wire):
    async def main(loop):
        transport = wire(lambda request: [(0.01, b"\x01\x03")])
        line = await opened(transport)
        loop.call_later(0.1, transport.lose)
        with pytest.raises(LineLost):
            await line.exchange(read(), turnround_s=5)
        assert not line.connected
        with pytest.raises(LineUnavailable):
            await line.exchange(read(), turnround_s=5)
        await line.open()
        assert line.connected
        await line.close()

    simulated(main)


def test_closing_ends_what_is_under_way(simulated, wire):
    async def main(loop):
        line = await opened(wire(lambda request: ()))
        asking = asyncio.create_task(line.exchange(read(), turnround_s=5))
        await asyncio.sleep(0.1)
        await line.close()
        with pytest.raises(LineLost):
            await asking

    simulated(main)


@pytest.mark.parametrize("echo", ["auto", "on", "off"])
def test_requests_that_come_back_are_no_replies_and_are_not_counted_as_the_meters_time(simulated, wire, echo):
    async def main(loop):
        line = await opened(wire(meter(0.05), echo=True), LineSettings(echo=echo))
        for _ in range(6):
            reply = await line.exchange(read(9, 4), turnround_s=0.35)
            assert reply.answer == (9, 10, 11, 12)
            assert reply.turnround_s == pytest.approx(0.05 if echo != "off" else 0.042, abs=0.003)
        assert line.echoes is (echo != "off")

    simulated(main)


def test_an_echo_alone_is_no_reply(simulated, wire):
    async def main(loop):
        line = await opened(wire(lambda request: (), echo=True))
        for _ in range(5):
            with pytest.raises(NoReply):
                await line.exchange(read(), turnround_s=0.35)

    simulated(main)


def test_where_the_protocol_changes_the_line_is_silent_for_50_ms(simulated, wire):
    async def main(loop):
        transport = wire(lambda request: (), bits=11)
        line = await opened(transport, LineSettings(baud=9600, parity="E", late_reply_s=0))
        questions = [read(), ReadData("000000000001", "00010000"), ReadData("000000000002", "00010000"), read(), read()]
        for question in questions:
            with pytest.raises(NoReply):
                await line.exchange(question, turnround_s=0.0)
        silences = transport.silences
        assert silences[1] >= 0.05 and silences[3] >= 0.05
        assert silences[2] >= 0.02 and silences[4] >= 38.5 / 9600

    simulated(main)


def test_a_broadcast_is_followed_by_a_pause_instead_of_a_reply(simulated, wire):
    async def main(loop):
        line = await opened(wire(lambda request: ()))
        before = loop.time()
        reply = await line.exchange(BroadcastTime(datetime(2026, 11, 25, 12, 0, tzinfo=UTC)), turnround_s=0.5)
        assert reply.answer is None
        assert loop.time() - before >= 0.5

    simulated(main)


def test_modbus_tcp_has_neither_wire_time_nor_gap(simulated, wire):
    async def main(loop):
        def answers(request):
            transaction, _, _, unit, function, _address, count = struct.unpack(">HHHBBHH", request)
            body = bytes((unit, function, 2 * count)) + bytes(2 * count)
            yield 0.003, struct.pack(">HHH", transaction, 0, len(body)) + body

        transport = wire(answers, free=True)
        line = await opened(transport, LineSettings(framing="tcp"))
        before = loop.time()
        for i in range(100):
            await line.exchange(ReadRegisters(1, 3, 0, 100, framing="tcp", transaction=i), turnround_s=1)
        assert loop.time() - before == pytest.approx(0.3, abs=0.01)

    simulated(main)


def test_counters_tell_what_happened(simulated, wire):
    async def main(loop):
        replies = iter([meter()(read().request), [], [(0.01, b"\x01\x03\x04\x12\x34\x56\x78\x00\x00")]])
        line = await opened(wire(lambda request: next(replies)), LineSettings(late_reply_s=0))
        await line.exchange(read(), turnround_s=0.35)
        with pytest.raises(NoReply):
            await line.exchange(read(), turnround_s=0.35)
        with pytest.raises(FrameError):
            await line.exchange(read(), turnround_s=0.35)
        counters = line.counters
        assert (counters.exchanges, counters.replies, counters.timeouts, counters.damaged) == (3, 1, 1, 1)
        assert (counters.bytes_sent, counters.bytes_received) == (24, 18)
        assert counters.airtime_s == pytest.approx(42 * 10 / 9600)

    simulated(main)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("baud", 3), ("parity", "X"), ("stop_bits", 3), ("framing", "ascii"), ("echo", "maybe"), ("preamble", 99)],
)
def test_a_setting_that_cannot_be_is_refused_by_name(setting, value):
    with pytest.raises(ConfigError, match=setting):
        LineSettings(**{setting: value})


def test_the_trace_holds_the_last_exchanges_with_all_bytes_and_what_went_wrong(simulated, wire):
    async def main(loop):
        refusal, damaged = encode(1, b"\x83\x02"), b"\x01\x03\x04\x12\x34\x56\x78\x00\x00"
        good = encode(1, b"\x03\x04\x00\x07\x00\x08")
        replies = iter([[(0.01, good)], [], [(0.01, damaged)], [(0.01, refusal)], *[[(0.01, good)]] * 300])
        line = await opened(wire(lambda request: next(replies)), LineSettings(late_reply_s=0))
        await line.exchange(read(7), turnround_s=0.35)
        for error in (NoReply, FrameError, AbsentRegister):
            with pytest.raises(error):
                await line.exchange(read(7), turnround_s=0.35)
        assert [one.received for one in line.trace] == [good, b"", damaged, refusal]
        assert {(one.meter, one.request) for one in line.trace} == {("1", read(7).request)}
        assert line.trace[0].duration_s == pytest.approx(0.01 + 17 * 10 / 9600, abs=0.002)
        problems = [one.problem for one in line.trace]
        assert problems[0] is None and "no reply" in problems[1] and "exception 2" in problems[3]
        for _ in range(250):
            await line.exchange(read(7), turnround_s=0.35)
        assert len(line.trace) == 200 and {one.problem for one in line.trace} == {None}

    simulated(main)


def test_reads_of_a_memory_leave_the_other_exchanges_in_the_trace(simulated, wire):
    async def main(loop):
        good = encode(1, b"\x03\x04\x00\x07\x00\x08")
        line = await opened(wire(lambda request: [(0.01, good)]), LineSettings())
        live, recalled = read(7), read(7)
        for _ in range(10):
            await line.exchange(live, turnround_s=0.35)
            with line.recalling():
                for _ in range(60):
                    await line.exchange(recalled, turnround_s=0.35)
        trace = line.trace
        assert len(trace) == 10 + RECALLED
        ends = [one.at for one in trace]
        assert ends == sorted(ends), "both kinds stand in their order"
        line.forget_trace()
        assert line.trace == []

    simulated(main)


def test_who_gives_up_waiting_for_a_turn_holds_up_nobody(simulated, wire):
    async def main(loop):
        line = await opened(wire(meter(0.1)))
        first, gone, late_gone, last = (
            asyncio.create_task(line.exchange(read(i), turnround_s=0.5)) for i in (1, 2, 3, 4)
        )
        await asyncio.sleep(0.01)
        gone.cancel()
        # Cancelled in the very moment in which its turn comes.
        first.add_done_callback(lambda task: late_gone.cancel())
        assert (await first).answer[0] == 1
        assert (await last).answer[0] == 4
        assert gone.cancelled() and late_gone.cancelled()
        assert (await line.exchange(read(5), turnround_s=0.5)).answer[0] == 5

    simulated(main)
