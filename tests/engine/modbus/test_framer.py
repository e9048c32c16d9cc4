"""What comes out of a stream of Modbus bytes."""

from __future__ import annotations

import itertools

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pymodbus.framer import FramerRTU

from meter_batch_engine.protocol.modbus import pdu, rtu, tcp

units = st.integers(0, 255)
words = st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=20)
replies = st.one_of(
    st.builds(pdu.read_reply, st.sampled_from([3, 4]), words),
    st.builds(
        lambda function, data: bytes((function, len(data))) + data,
        st.sampled_from([1, 2]),
        st.binary(min_size=1, max_size=30),
    ),
    st.builds(
        lambda function, data: bytes((function,)) + data,
        st.sampled_from([5, 6, 15, 16]),
        st.binary(min_size=4, max_size=4),
    ),
    st.builds(lambda function, code: bytes((function | 0x80, code)), st.integers(1, 126), st.integers(1, 11)),
)
requests = st.one_of(
    st.builds(lambda function, data: bytes((function,)) + data, st.integers(1, 6), st.binary(min_size=4, max_size=4)),
    st.builds(pdu.write_request, st.integers(0, 0xFFFF), words),
    st.builds(
        lambda data: b"\x0f\0\0" + bytes((0, len(data) * 8, len(data))) + data, st.binary(min_size=1, max_size=20)
    ),
)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[begin:end] for begin, end in itertools.pairwise(edges)]


@given(st.binary(max_size=300))
def test_the_crc_is_that_of_pymodbus(data: bytes) -> None:
    assert rtu.crc(data) == int.from_bytes(FramerRTU.compute_CRC(data).to_bytes(2, "big"), "little")


@given(side=st.sampled_from(["client", "server"]), data=st.data(), cuts=st.lists(st.integers(0, 2000), max_size=30))
def test_glued_rtu_frames_all_come_out_however_they_are_split(
    side: pdu.Side, data: st.DataObject, cuts: list[int]
) -> None:
    sent = data.draw(st.lists(st.tuples(units, replies if side == "client" else requests), min_size=1, max_size=6))
    framer = rtu.RtuFramer(side)
    stream = b"".join(rtu.encode(unit, body) for unit, body in sent)
    found = [frame for piece in pieces(stream, cuts) for frame in framer.feed(piece)]
    assert [(frame.unit, frame.pdu) for frame in found] == sent
    assert b"".join(frame.raw for frame in found) == stream


@given(side=st.sampled_from(["client", "server"]), data=st.data(), cuts=st.lists(st.integers(0, 2000), max_size=30))
def test_glued_tcp_frames_all_come_out_however_they_are_split(
    side: pdu.Side, data: st.DataObject, cuts: list[int]
) -> None:
    body = replies if side == "client" else requests
    sent = data.draw(st.lists(st.tuples(st.integers(0, 0xFFFF), units, body), min_size=1, max_size=6))
    framer = tcp.TcpFramer(side)
    stream = b"".join(tcp.encode(*one) for one in sent)
    found = [frame for piece in pieces(stream, cuts) for frame in framer.feed(piece)]
    assert [(frame.transaction, frame.unit, frame.pdu) for frame in found] == sent


@settings(max_examples=200)
@given(
    noise=st.one_of(
        st.binary(max_size=80),
        st.lists(st.sampled_from([0, 0xFF, 0xFE]), max_size=30).map(bytes),
        # a DL/T 645 request, with and without its preamble
        st.sampled_from(
            [
                bytes.fromhex("fefefefe6801000000000068110433333433b016"),
                bytes.fromhex("6801000000000068110433333433b016"),
            ]
        ),
    ),
    cuts=st.lists(st.integers(0, 200), max_size=30),
)
def test_a_frame_behind_noise_is_given_with_its_last_byte(noise: bytes, cuts: list[int]) -> None:
    good = rtu.encode(1, pdu.read_reply(3, (1, 2, 3)))
    framer = rtu.RtuFramer("client")
    found = [frame for piece in pieces(noise + good, cuts) for frame in framer.feed(piece)]
    assert found, "the frame was lost"
    assert found[-1].raw == good


@given(position=st.integers(0, 10), bit=st.integers(0, 7))
def test_a_damaged_frame_is_lost_and_the_next_one_is_not(position: int, bit: int) -> None:
    good = rtu.encode(1, pdu.read_reply(3, (1, 2, 3)))
    damaged = bytearray(good)
    damaged[position] ^= 1 << bit
    assert [frame.raw for frame in rtu.RtuFramer("client").feed(bytes(damaged) + good)] == [good]


@given(function=st.sampled_from([9, 65, 66, 100]), data=st.binary(max_size=60), cuts=st.lists(st.integers(0, 200)))
def test_a_function_of_unknown_length_is_taken_where_a_frame_begins(
    function: int, data: bytes, cuts: list[int]
) -> None:
    raw = rtu.encode(1, bytes((function,)) + data)
    # A valid frame with a zero behind it is valid again: without its length nobody can tell which was meant.
    assume(not any(rtu.valid(raw[:size]) for size in range(4, len(raw))))
    good = rtu.encode(1, pdu.read_reply(3, (1, 2, 3)))
    framer = rtu.RtuFramer("client")
    found = [frame for piece in pieces(raw, cuts) for frame in framer.feed(piece)]
    assert raw in [frame.raw for frame in found]
    assert [frame.raw for frame in framer.feed(good)] == [good]


@given(st.lists(st.binary(max_size=50), max_size=30))
def test_a_framer_never_fails_and_keeps_at_most_one_frame(data: list[bytes]) -> None:
    for framer in (rtu.RtuFramer("client"), rtu.RtuFramer("server"), tcp.TcpFramer("client"), tcp.TcpFramer("server")):
        for piece in data:
            framer.feed(piece)
        assert len(framer._buffer) <= 260


def test_switching_drivers_make_no_frames() -> None:
    """FF FF and zeros have a good CRC."""
    for side in ("client", "server"):
        framer = rtu.RtuFramer(side)
        assert framer.feed(b"\xff\xff" + bytes(300)) == []
        assert framer.feed(bytes.fromhex("feff00fffe0000ffff0000")) == []


def test_a_tcp_stream_that_lost_its_place_finds_it_again() -> None:
    good = tcp.encode(5, 1, pdu.read_reply(3, (1, 2, 3)))
    assert [frame.raw for frame in tcp.TcpFramer("client").feed(b"\x12\x34\x56\x78\x9a" + good)] == [good]
