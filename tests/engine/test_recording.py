"""A recorded session reads the same again, is served again, and can be passed on without telling whose it is."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_batch_engine.errors import ConfigError
from meter_batch_engine.fleet import PollMeter
from meter_batch_engine.fleet.meter import Meter
from meter_batch_engine.line import Exchanged, LineSettings
from meter_batch_engine.protocol.dlt645.exchange import ReadAddress, ReadData
from meter_batch_engine.protocol.dlt645.frame import Framer, encode
from meter_batch_engine.protocol.modbus import rtu, tcp
from meter_batch_engine.protocol.modbus.exchange import ReadRegisters
from meter_batch_engine.recording import (
    Answers,
    RecordedMeter,
    Recording,
    differences,
    dump,
    parse,
    readings_of,
    record,
    redact,
)
from meter_batch_engine.recording.again import words_of
from meter_batch_engine.template import ModbusRequest, available, load

SESSIONS = sorted((Path(__file__).parents[1] / "captures").rglob("*.json"))
AT = datetime(2026, 11, 26, 8, 0, tzinfo=UTC)
ADDRESS, NUMBER = "123456789012", "998877665544"


def reply(unit: int, function: int, words: list[int]) -> bytes:
    return rtu.encode(unit, bytes((function, 2 * len(words))) + b"".join(one.to_bytes(2) for one in words))


def asked(unit: int, function: int, address: int, count: int) -> bytes:
    return rtu.encode(unit, bytes((function,)) + address.to_bytes(2) + count.to_bytes(2))


def modbus() -> Recording:
    """Published bytes of an SDM meter, its serial number, an exception, silence, and noise."""
    exchanges = [
        (asked(1, 4, 0x46, 4), bytes.fromhex("0104084248147B449A580081E1"), None),
        (asked(1, 3, 0xFC00, 2), reply(1, 3, [0x0123, 0x4567]), None),
        (asked(1, 4, 0x48, 2), bytes.fromhex("018402c2c1"), "refused"),
        (asked(1, 4, 0x46, 4), b"", "no reply"),
        (asked(1, 4, 0x46, 4), b"\x00\x01\x04\x08\x42", "damaged"),
        (asked(9, 4, 0x46, 4), reply(9, 4, [1, 2, 3, 4]), None),
    ]
    return recorded("eastron/sdm630", "1", "modbus", [(str(one[0][0]), *one) for one in exchanges])


def dlt645() -> Recording:
    """A meter that is found, says its number and its energy (with FE before it), and another's damaged frame."""
    number = encode(ADDRESS, 0x91, bytes.fromhex("04000402")[::-1] + bytes.fromhex(NUMBER)[::-1])
    energy = encode(ADDRESS, 0x91, bytes.fromhex("00010000")[::-1] + bytes.fromhex("42061200"))
    exchanges = [
        ("AAAAAAAAAAAA", ReadAddress().request, encode(ADDRESS, 0x93, bytes.fromhex(ADDRESS)[::-1]), None),
        (
            "AAAAAAAAAA12",
            ReadAddress("AAAAAAAAAA12").request,
            encode(ADDRESS, 0x93, bytes.fromhex(ADDRESS)[::-1]),
            None,
        ),
        (ADDRESS, ReadData(ADDRESS, "04000402").request, number, None),
        (ADDRESS, ReadData(ADDRESS, "00010000", preamble=4).request, b"\xfe\xfe" + energy, None),
        (ADDRESS, ReadData(ADDRESS, "02010100").request, number[:-2] + b"\x00\x16", f"tcp://10.1.2.3:502: {ADDRESS}"),
    ]
    return recorded("generic/dlt645-1ph", ADDRESS, "dlt645-2007", exchanges)


def recorded(
    template: str, address: str, protocol: str, exchanges: list[tuple[str, bytes, bytes, str | None]]
) -> Recording:
    passed = [
        Exchanged(AT + timedelta(seconds=place), meter, request, received, 0.1, problem)
        for place, (meter, request, received, problem) in enumerate(exchanges)
    ]
    found = record("tcp://10.1.2.3:502", LineSettings(), [RecordedMeter(address, protocol, template)], passed)
    return Recording(found.line, found.meters, found.exchanges, readings_of(found, load))


def test_a_session_gives_the_readings_of_its_bytes() -> None:
    assert modbus().readings == (
        {"frequency": "50.02", "energy_import": "1234.75"},
        {"serial": "19088743"},
        *(None, None, None, None),
    )
    assert dlt645().readings == (None, None, {"serial": NUMBER}, {"energy_import": "1206.42"}, None)


@pytest.mark.parametrize("make", [modbus, dlt645])
def test_a_file_holds_the_whole_session(make: object) -> None:
    recording = make()  # type: ignore[operator]
    assert parse(dump(recording)) == recording
    assert json.loads(dump(recording))["meter_batch_recording"] == 1
    assert differences(parse(dump(recording)), load) == ()


def test_a_recording_is_found_inside_diagnostics() -> None:
    whole = {"home_assistant": {}, "data": {"lines": [{"recording": json.loads(dump(modbus()))}]}}
    assert parse(json.dumps(whole)) == modbus()


def test_what_is_read_otherwise_now_is_told() -> None:
    text = dump(modbus()).replace('"50.02"', '"50.03"').replace('"serial"', '"sorial"')
    assert differences(parse(text), load) == (
        "exchange 1 (meter 1): frequency was 50.03, is 50.02",
        "exchange 2 (meter 1): sorial was 19088743, is nothing",
        "exchange 2 (meter 1): serial was nothing, is 19088743",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "it is no JSON"),
        ("[1]", "no recording in it"),
        ('{"meter_batch_recording": 2}', "update Meter Batch"),
        ('{"meter_batch_recording": 1}', "exchanges: is missing"),
        ('{"meter_batch_recording": 1, "exchanges": [{"at": "2026"}]}', "exchanges 1: "),
        ('{"meter_batch_recording": 1, "exchanges": [], "meters": [{"address": 1}]}', "meters 1: address: must be"),
        ('{"meter_batch_recording": 1, "exchanges": [], "meters": []}', "line: is missing"),
    ],
)
def test_a_file_that_is_wrong_is_told_where(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(text)


@pytest.mark.parametrize("make", [modbus, dlt645])
def test_redacted_it_tells_nothing_and_reads_the_same(make: object) -> None:
    recording = make()  # type: ignore[operator]
    hidden = redact(recording, load)
    text = dump(hidden).upper()
    for secret in (ADDRESS, NUMBER, "19088743", "01234567", "10.1.2.3"):
        raw = bytes.fromhex(secret)[::-1] if secret.isdecimal() and len(secret) == 12 else b""
        for form in (secret, raw.hex().upper(), bytes((one + 0x33) & 0xFF for one in raw).hex().upper()):
            assert not form or form not in text, secret
    assert differences(hidden, load) == ()
    assert [read is None for read in hidden.readings] == [read is None for read in recording.readings]
    assert [len(one.received) for one in hidden.exchanges] == [len(one.received) for one in recording.exchanges]
    for read, before in zip(hidden.readings, recording.readings, strict=True):
        assert read is None or {**read, "serial": ""} == {**before, "serial": ""}
    assert redact(hidden, load) == hidden, "what is hidden stays as it is"


def word(address: int) -> int:
    """Characters, digits and numbers in one."""
    return 0x3130 + (address % 9) + 0x100 * (address // 9 % 9)


@pytest.mark.parametrize("framing", ["rtu", "tcp"])
@pytest.mark.parametrize("model", [one for one in available() if load(one).protocol == "modbus"])
def test_of_every_model_nothing_but_the_serial_number_is_hidden(model: str, framing: str) -> None:
    template = load(model)
    serial, code = template.identity.serial, template.identity.model
    state = Meter(PollMeter("5", "5", template, "5", "modbus"), LineSettings(), 1.0, steady=True)
    asks = [
        (one.function, one.address, one.count)
        for one in state.requests(one.obis for one in template.registers)
        if isinstance(one, ModbusRequest)
    ]
    asks += [(one.function, one.address, one.count) for one in (serial, code) if one is not None]
    secret: set[tuple[int, int]] = set()
    if serial is not None:
        begin, size = serial.address + serial.skip, serial.size or serial.count
        secret = {(serial.function, begin + place) for place in range(size)}
        asks += [(serial.function, max(0, begin - 2), size + 5), (serial.function, begin + size - 1, 3)]
    passed = []
    for function, address, count in asks:
        question = ReadRegisters(5, function, address, count, framing=framing, transaction=3)  # type: ignore[arg-type]
        body = bytes((function, 2 * count)) + b"".join(word(address + one).to_bytes(2) for one in range(count))
        came = tcp.encode(3, 5, body) if framing == "tcp" else rtu.encode(5, body)
        passed.append(Exchanged(AT, "5", question.request, came, 0.1, None))
    found = record("x", LineSettings(framing=framing), [RecordedMeter("5", "modbus", model)], passed)
    hidden = redact(Recording(found.line, found.meters, found.exchanges, readings_of(found, load)), load)
    for one, (function, address, count) in zip(hidden.exchanges, asks, strict=True):
        words = words_of(one, framing)
        assert words is not None, "a valid answer stays one"
        for place in range(address, address + count):
            if (function, place) not in secret:
                assert words[place - address] == word(place), (function, place)
        told = {(function, place) for place in range(address, address + count)} & secret
        own = [words[place - address] for _, place in sorted(told)]
        assert not own or own != [word(place) for _, place in sorted(told)]
        assert told in (set(), secret) or not any(own), "a part of a number is blanked"
    assert [set(read or ()) for read in readings_of(hidden, load)] == [set(read or ()) for read in hidden.readings]
    assert differences(hidden, load) == ()


def test_a_serial_number_that_came_late_as_no_answer_is_hidden_too() -> None:
    late = reply(1, 3, [0x0123, 0x4567])
    exchanges = [(asked(1, 3, 0xFC00, 2), late, None), (asked(1, 4, 0x46, 4), late, "none answers the question")]
    hidden = redact(recorded("eastron/sdm630", "1", "modbus", [("1", *one) for one in exchanges]), load)
    assert hidden.exchanges[1].received == bytes(len(late))


def test_one_meter_keeps_one_name_in_a_redacted_session() -> None:
    hidden = redact(dlt645(), load)
    names = {frame.address for one in hidden.exchanges for frame in Framer().feed(one.received)}
    assert names == {hidden.meters[0].address}
    assert hidden.exchanges[1].meter.startswith("AAAAAAAAAA")


def test_meters_that_nobody_named_are_blanked() -> None:
    assert redact(modbus(), load).exchanges[5].received == bytes(13)


def test_the_recorded_meters_answer_again_in_their_order() -> None:
    answers = Answers(modbus())
    request = asked(1, 4, 0x46, 4)
    first = [next(answers.feed(request)) for _ in range(4)]
    assert [len(one) for one in first] == [13, 0, 5, 13]
    assert list(answers.feed(asked(1, 4, 0x47, 1))) == [reply(1, 4, [0x147B])], "known words answer other questions too"
    assert list(answers.feed(asked(1, 4, 0x200, 1))) == []
    assert len(list(answers.feed(b"\x00" + asked(1, 3, 0xFC00, 2) + asked(1, 3, 0xFC00, 2)))) == 2


def test_transaction_numbers_of_another_session_are_answered_with_their_own() -> None:
    request = tcp.encode(7, 1, bytes.fromhex("0400460004"))
    received = tcp.encode(7, 1, bytes.fromhex("04084248147B449A5800"))
    line = record(
        "x",
        LineSettings(framing="tcp"),
        [RecordedMeter("1", "modbus", "eastron/sdm630")],
        [Exchanged(AT, "1", request, received, 0.1, None)],
    )
    assert readings_of(line, load) == ({"frequency": "50.02", "energy_import": "1234.75"},)
    again = tcp.encode(99, 1, bytes.fromhex("0400460004"))
    assert list(Answers(line).feed(again)) == [tcp.encode(99, 1, bytes.fromhex("04084248147B449A5800"))]


@pytest.mark.parametrize("path", SESSIONS, ids=lambda path: path.stem)
def test_a_recorded_session_reads_as_it_did(path: Path) -> None:
    """A session put there by `meter-batch record` is a test from then on."""
    recording = parse(path.read_text(encoding="utf-8"))
    assert any(recording.readings)
    assert differences(recording, load) == ()


@given(st.lists(st.binary(max_size=30), max_size=4))
def test_noise_in_a_recording_breaks_nothing(noise: list[bytes]) -> None:
    exchanges = [(ADDRESS, one, one[::-1], None) for one in noise] + [("1", one, one[::-1], None) for one in noise]
    for template, address, protocol in (
        ("eastron/sdm630", "1", "modbus"),
        ("generic/dlt645-1ph", ADDRESS, "dlt645-2007"),
    ):
        recording = recorded(template, address, protocol, exchanges)
        assert parse(dump(recording)) == recording
        redact(recording, load)
        answers = Answers(recording)
        for one in noise:
            list(answers.feed(one))
