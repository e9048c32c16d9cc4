"""What damaged bytes look like, judged by receivers of another make: those of the virtual fleet."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_batch_engine.fleet import signature
from meter_batch_engine.fleet.evidence import Heard, Outcome
from meter_batch_engine.line import LineSettings
from meter_batch_engine.protocol.modbus import pdu, rtu
from meter_batch_virtual.uart import Setting, received

OWN = LineSettings(baud=9600)
REQUEST = rtu.encode(2, pdu.read_request(4, 0, 40))


def frame(seed: int) -> bytes:
    rng = random.Random(seed)
    return rtu.encode(2, pdu.read_reply(4, [rng.randrange(0x10000) for _ in range(40)]))


def heard(raws: list[bytes]) -> list[Heard]:
    return [Heard(0.0, Outcome.DAMAGED, raw, len(raw), 85, REQUEST) for raw in raws]


@given(
    data=st.binary(min_size=1, max_size=12),
    sent=st.tuples(st.sampled_from([2400, 4800, 9600, 19200]), st.sampled_from("NEO"), st.sampled_from([1, 2])),
    by=st.tuples(st.sampled_from([2400, 9600, 19200]), st.sampled_from("NEO"), st.sampled_from([1, 2])),
    inverted=st.booleans(),
)
def test_our_receiver_hears_what_that_of_the_virtual_fleet_hears(
    data: bytes, sent: tuple[int, str, int], by: tuple[int, str, int], *, inverted: bool
) -> None:
    def line(one: tuple[int, str, int]) -> LineSettings:
        return LineSettings(baud=one[0], parity=one[1], stop_bits=one[2])

    assert signature.seen(data, line(sent), line(by), inverted=inverted) == received(
        data, Setting(*sent), Setting(*by), inverted=inverted
    )


@pytest.mark.parametrize(
    ("sent", "inverted", "cause"),
    [
        *((Setting(baud), False, "baud") for baud in (1200, 2400, 4800)),
        *((Setting(9600, parity), False, "parity") for parity in "EO"),
        (Setting(9600), True, "wiring"),
    ],
)
def test_another_setting_is_seen_by_what_it_makes_of_a_reply(sent: Setting, cause: str, *, inverted: bool) -> None:
    raws = [received(frame(seed), sent, Setting(9600), inverted=inverted) for seed in range(6)]
    found = signature.read(heard(raws), OWN)
    assert getattr(found, cause) > 0.5, found


def test_single_wrong_bits_are_noise_and_not_another_setting() -> None:
    rng = random.Random(1)
    raws = []
    for seed in range(8):
        raw = bytearray(frame(seed))
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        raws.append(bytes(raw))
    found = signature.read(heard(raws), OWN)
    assert found.noise > 0.5, found


def test_two_meters_that_talk_at_once_are_told_from_noise() -> None:
    raws = [bytes(one & other for one, other in zip(frame(seed), frame(seed + 99), strict=True)) for seed in range(6)]
    found = signature.read(heard(raws), OWN)
    assert found.clash > 0.5, found


def test_replies_that_break_off_are_told_from_noise() -> None:
    found = signature.read(heard([frame(seed)[: 10 + seed] for seed in range(6)]), OWN)
    assert found.truncated > 0.5, found


@given(st.lists(st.binary(max_size=80), max_size=6))
def test_any_bytes_have_some_signature(raws: list[bytes]) -> None:
    found = signature.read(heard(raws), OWN)
    assert 0 <= found.noise <= 1
