"""Function 20: what a client and a meter with files may rely on, judged by pymodbus's PDUs."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.pdu import DecodePDU
from pymodbus.pdu.file_message import FileRecord, ReadFileRecordRequest, ReadFileRecordResponse

from meter_batch_engine.errors import AbsentRegister, ConfigError, FrameError, MeterError, NoReply, Refused
from meter_batch_engine.protocol.modbus import pdu, rtu, tcp
from meter_batch_engine.protocol.modbus.describe import describe
from meter_batch_engine.protocol.modbus.exchange import Framing, ReadFile
from meter_batch_engine.protocol.modbus.server import ModbusException, ModbusResponder

framings = st.sampled_from(["rtu", "tcp"])
words_of_a_file = st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=121)


class Files:
    """A bank of which record r of file f reads f, r, f, r …"""

    def read(self, function: int, address: int, count: int) -> Sequence[int]:
        return [0] * count

    def read_file(self, file: int, record: int, words: int) -> Sequence[int]:
        if file == 404:
            raise ModbusException(pdu.ILLEGAL_ADDRESS)
        return list(itertools.islice(itertools.cycle((file, record)), words))


class NoFiles:
    def read(self, function: int, address: int, count: int) -> Sequence[int]:
        return [0] * count


def frame(framing: Framing, body: bytes, unit: int = 17) -> bytes:
    return rtu.encode(unit, body) if framing == "rtu" else tcp.encode(7, unit, body)


def ask(framing: Framing = "rtu", words: int = 4) -> ReadFile:
    return ReadFile(17, 9000, 3, words, framing=framing, transaction=7)


@given(
    framing=framings,
    words=words_of_a_file,
    before=st.lists(st.sampled_from([0x00, 0xFF, 0xFE]), max_size=20).map(bytes),
    cuts=st.lists(st.integers(0, 300)),
    echo=st.booleans(),
)
def test_the_reply_is_found_however_the_bytes_are_split(
    framing: Framing, words: list[int], before: bytes, cuts: list[int], echo: bool
) -> None:
    question = ask(framing, len(words))
    reply = frame(framing, pdu.file_reply(words))
    assert len(reply) == question.reply_bytes
    heard = (before if framing == "rtu" else b"") + (question.request if echo else b"") + reply
    answer = None
    for begin, end in itertools.pairwise(sorted({0, len(heard), *(cut % (len(heard) + 1) for cut in cuts)})):
        assert answer is None, "an answer came before its last byte"
        answer = question.feed(heard[begin:end])
    assert answer == tuple(words)
    assert question.foreign == 0


@given(noise=st.binary(max_size=60))
def test_noise_before_the_reply_does_not_hide_it(noise: bytes) -> None:
    assert ask().feed(noise + frame("rtu", pdu.file_reply((1, 2, 3, 4)))) == (1, 2, 3, 4)


@given(framing=framings, data=st.lists(st.binary(max_size=40), max_size=8))
def test_garbage_raises_only_our_errors(framing: Framing, data: list[bytes]) -> None:
    question = ask(framing)
    try:
        for piece in data:
            question.feed(piece)
    except MeterError:
        return
    assert isinstance(question.silence(), MeterError)


@given(position=st.integers(0, 13), bit=st.integers(0, 7))
def test_a_flipped_bit_is_never_taken_for_an_answer(position: int, bit: int) -> None:
    question = ask()
    damaged = bytearray(frame("rtu", pdu.file_reply((1, 2, 3, 4))))
    damaged[position] ^= 1 << bit
    assert question.feed(bytes(damaged)) is None
    assert isinstance(question.silence(), FrameError | NoReply)


@pytest.mark.parametrize("framing", ["rtu", "tcp"])
def test_a_record_of_another_length_is_no_answer(framing: Framing) -> None:
    question = ask(framing)
    assert question.feed(frame(framing, pdu.file_reply((1, 2, 3)))) is None
    assert question.feed(frame(framing, pdu.file_reply((1, 2, 3, 4)))) == (1, 2, 3, 4)


@pytest.mark.parametrize("framing", ["rtu", "tcp"])
@pytest.mark.parametrize(("file", "words"), [(1, 121), (9000, 1), (0xFFFF, 120)])
def test_client_and_meter_understand_each_other(framing: Framing, file: int, words: int) -> None:
    question = ReadFile(17, file, 1439, words, framing=framing)
    (reply,) = ModbusResponder({17: Files()}, framing).feed(question.request)
    assert question.feed(reply.raw) == tuple(itertools.islice(itertools.cycle((file, 1439)), words))


def test_refusals_say_what_is_missing() -> None:
    def refusal(bank: object, file: int) -> MeterError:
        question = ReadFile(17, file, 3, 4)
        (reply,) = ModbusResponder({17: bank}).feed(question.request)  # type: ignore[dict-item]
        with pytest.raises(MeterError) as raised:
            question.feed(reply.raw)
        return raised.value

    missing = refusal(Files(), 404)
    assert isinstance(missing, AbsentRegister) and "file 404 from record 3 on" in str(missing)
    without = refusal(NoFiles(), 1)
    assert isinstance(without, Refused) and not isinstance(without, AbsentRegister) and without.code == 1


@pytest.mark.parametrize(
    "body",
    [
        "1407060001000000" + "7A",  # 122 words
        "140706000100000000",  # none
        "140705000100000004",  # another reference type
        "140E06000100000004" + "06000200000004",  # two records in one question
        "1406060001000000",  # cut short
        "1400",
    ],
)
def test_what_a_meter_cannot_serve_is_refused_with_code_3(body: str) -> None:
    (reply,) = ModbusResponder({17: Files()}).feed(rtu.encode(17, bytes.fromhex(body)))
    assert reply.raw == rtu.encode(17, b"\x94\x03")


@pytest.mark.parametrize(
    ("file", "record", "words"), [(-1, 0, 1), (65536, 0, 1), (1, 65536, 1), (1, 0, 0), (1, 0, 122)]
)
def test_what_modbus_cannot_ask_is_refused_before_it_is_sent(file: int, record: int, words: int) -> None:
    with pytest.raises(ConfigError, match="Modbus file"):
        ReadFile(17, file, record, words)


@given(file=st.integers(0, 0xFFFF), record=st.integers(0, 0xFFFF), words=words_of_a_file)
def test_pdus_are_packed_as_pymodbus_packs_them(file: int, record: int, words: list[int]) -> None:
    foreign = ReadFileRecordRequest(
        records=[FileRecord(file_number=file, record_number=record, record_data=bytes(2 * len(words)))]
    )
    assert pdu.file_request(file, record, len(words)) == bytes((20,)) + foreign.encode()
    found = DecodePDU(False).decode(pdu.file_reply(words))
    assert isinstance(found, ReadFileRecordResponse)
    assert [one.record_data for one in found.records] == [b"".join(word.to_bytes(2, "big") for word in words)]
    assert bytes((20,)) + found.encode() == pdu.file_reply(words)


@pytest.mark.parametrize("framing", ["rtu", "tcp"])
def test_decode_shows_file_record_and_words(framing: Framing) -> None:
    question = ask(framing, 2)
    (asked,) = describe(question.request)
    assert {key: asked[key] for key in ("unit", "fc", "file", "record", "count")} == {
        "unit": 17,
        "fc": 20,
        "file": 9000,
        "record": 3,
        "count": 2,
    }
    (said,) = describe(frame(framing, pdu.file_reply((0x4366, 0x3334))))
    assert (said["bytes"], said["words"], said["float_be"]) == (4, [0x4366, 0x3334], [230.2])
    (several,) = describe(rtu.encode(17, bytes.fromhex("140E0600010000000406000200000004")))
    assert several["meaning"] == "ReadFileRecordRequest"


def test_reading_files_does_not_import_pymodbus() -> None:
    code = (
        "import sys; from meter_batch_engine.protocol.modbus.exchange import ReadFile;"
        "from meter_batch_engine.protocol.modbus import pdu, profile, rtu;"
        "assert ReadFile(1, 1, 0, 1).feed(rtu.encode(1, pdu.file_reply((5,)))) == (5,);"
        "print('pymodbus' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
