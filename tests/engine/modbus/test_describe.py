"""`meter-batch decode` says what published frames say."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pymodbus.pdu import DecodePDU

from meter_batch_engine.errors import FrameError
from meter_batch_engine.protocol.modbus import pdu, rtu, tcp
from meter_batch_engine.protocol.modbus.describe import describe


@pytest.fixture(scope="session")
def vectors(shared_dir: Path) -> list[dict[str, Any]]:
    content = json.loads((shared_dir / "data/vectors/modbus_rtu.json").read_text())
    assert len(content["vectors"]) == content["count"] >= 35
    vectors: list[dict[str, Any]] = content["vectors"]
    return vectors


def test_every_published_frame_gives_the_stated_values(vectors: list[dict[str, Any]]) -> None:
    checked = 0
    for vector in vectors:
        if vector["kind"] == "negative":
            continue
        (frame,) = describe(bytes.fromhex(vector["hex"]))
        expected = {key: value for key, value in vector["expect"].items() if key != "what"}
        assert {key: frame[key] for key in expected} == expected, vector["id"]
        assert frame["protocol"] == ("modbus-tcp" if "TCP" in vector["kind"] else "modbus-rtu")
        checked += len(expected)
    assert checked > 60


def test_every_damaged_frame_is_refused(vectors: list[dict[str, Any]]) -> None:
    damaged = [bytes.fromhex(vector["hex"]) for vector in vectors if vector["kind"] == "negative"]
    assert damaged
    for data in damaged:
        assert describe(data) == []
        assert describe(data, "rtu") == []
        assert rtu.RtuFramer("client").feed(data) == rtu.RtuFramer("server").feed(data) == []


def test_the_framer_finds_every_published_frame_on_one_wire(vectors: list[dict[str, Any]]) -> None:
    for side, kind in (("client", "response"), ("server", "request")):
        frames = [bytes.fromhex(vector["hex"]) for vector in vectors if vector["kind"] == kind]
        framer = rtu.RtuFramer(side)  # type: ignore[arg-type]
        found = [frame.raw for raw in frames for byte in raw for frame in framer.feed(bytes((byte,)))]
        assert found == frames


def test_frames_that_follow_each_other_are_all_described() -> None:
    request = rtu.encode(7, pdu.read_request(3, 10, 2))
    reply = rtu.encode(7, pdu.read_reply(3, (0x4366, 0x3334)))
    frames = describe(b"\xff\x00" + request + b"\x00" + reply + b"\xff")
    assert [frame.get("address") for frame in frames] == [10, None]
    assert frames[1]["float_be"] == [230.2]


def test_a_reply_gets_the_address_of_its_request() -> None:
    request = tcp.encode(5, 7, pdu.read_request(4, 300, 1))
    (frame,) = describe(tcp.encode(5, 7, pdu.read_reply(4, (0xEC78,))), "tcp", request)
    assert frame == {
        "protocol": "modbus-tcp",
        "transaction": 5,
        "unit": 7,
        "fc": 4,
        "address": 300,
        "bytes": 2,
        "words": [0xEC78],
        "u16": [0xEC78],
        "i16": [-5000],
    }


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
@example(-0.0625)  # its reply begins like a request with a good CRC
def test_a_float_is_shown_within_its_last_bit(value: float) -> None:
    (frame,) = describe(rtu.encode(1, b"\x04\x04" + struct.pack(">f", value)))
    assert math.isclose(frame["float_be"][0], value, rel_tol=2**-23, abs_tol=2**-149)


def test_what_is_no_number_is_null() -> None:
    (frame,) = describe(rtu.encode(1, pdu.read_reply(4, (0x7FC0, 0))))
    assert frame["float_be"] == [None]


def test_functions_that_we_do_not_use_are_named() -> None:
    (frame,) = describe(rtu.encode(1, bytes.fromhex("2b0e0100")))
    assert frame["meaning"] == "ReadDeviceInformationRequest"
    (frame,) = describe(rtu.encode(1, b"\x41\x01\x02"))
    assert (frame["fc"], frame["data"]) == (0x41, "0102")


@given(st.binary(max_size=300), st.sampled_from([None, "rtu", "tcp"]))
def test_garbage_is_described_or_refused_and_never_fails(data: bytes, framing: Any) -> None:
    assert all(frame["fc"] > 0 for frame in describe(data, framing))


@given(side=st.sampled_from(["client", "server"]), body=st.binary(max_size=40))
def test_pymodbus_is_wrapped_so_that_only_our_errors_come_out(side: pdu.Side, body: bytes) -> None:
    try:
        pdu.parse(side, body)
    except FrameError:
        return


@given(function=st.sampled_from([3, 4]), words=st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=125))
def test_reads_are_packed_as_pymodbus_packs_them(function: int, words: list[int]) -> None:
    request = DecodePDU(True).decode(pdu.read_request(function, 1000, len(words)))
    assert request is not None
    assert (request.function_code, request.address, request.count) == (function, 1000, len(words))
    reply = DecodePDU(False).decode(pdu.read_reply(function, words))
    assert reply is not None
    assert reply.registers == words
    written = DecodePDU(True).decode(pdu.write_request(7, words[:123]))
    assert written is not None
    assert (written.address, written.registers) == (7, words[:123])


def test_reading_registers_does_not_import_pymodbus() -> None:
    import subprocess
    import sys

    code = (
        "import sys, meter_batch_engine.protocol.modbus.exchange, meter_batch_engine.protocol.modbus.server;"
        "print('pymodbus' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_write_of_half_a_word_is_described_without_a_float() -> None:
    # Function 16 with 13 bytes of data: a good CRC, but not a whole number of words.
    (found,) = describe(rtu.encode(1, bytes.fromhex("100000000a0d") + bytes(13)), "rtu")
    assert found["bytes"] == 13
    assert "float_be" not in found


def test_a_function_nobody_knows_is_described_without_a_word_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    (found,) = describe(rtu.encode(1, bytes((0x41, 1, 2, 3))), "rtu")
    assert (found["fc"], found["data"]) == (0x41, "010203")
    assert not caplog.records
