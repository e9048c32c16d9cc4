"""`meter-batch decode` gives what the published frames state, refuses the damaged, and names what it cannot read."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_batch_cli.decode import Decoder
from meter_batch_cli.detect import PROTOCOLS
from meter_batch_engine.protocol.modbus import rtu, tcp

from .conftest import Run, objects

DLT645 = ("dlt645_2007.json", "dlt645_1997.json", "dlt645_constructed.json")
VOLTAGE = "6801000000000068910633343435cb555816"
REMARKS = {"note", "origin", "what"}


def vectors(folder: Path, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "data" / "vectors" / name).read_text(encoding="utf-8"))[
        "vectors"
    ]
    assert found, f"{name} is empty"
    return found


def same(wanted: object, got: object) -> bool:
    """Equal by value: numbers as decimals, hexadecimal digits without regard to case."""
    match wanted:
        case list():
            return (
                isinstance(got, list)
                and len(got) == len(wanted)
                and all(same(*pair) for pair in zip(wanted, got, strict=True))
            )
        case dict():
            return isinstance(got, dict) and all(same(value, got.get(key)) for key, value in wanted.items())
        case bool() | None:
            return wanted == got
        case float():
            return isinstance(got, int | float) and Decimal(str(wanted)) == Decimal(str(got))
        case int():
            return isinstance(got, int | float) and wanted == got
        case _:
            return str(wanted).lower() == str(got).lower()


def protocol_of(vector: dict[str, Any]) -> str:
    """What `decode` calls the protocol of a published frame."""
    if "variant" in vector:
        return "dlt645-1997" if "1997" in vector["variant"] else "dlt645-2007"
    return "modbus-tcp" if "TCP" in vector["kind"] else "modbus-rtu"


def differences(vector: dict[str, Any], decoded: dict[str, Any]) -> list[str]:
    """What a decoded input states otherwise than the vector does."""
    stated: dict[str, Any] = {"protocol": protocol_of(vector)} | vector.get("frame", {})
    stated |= {k: v for k, v in vector.get("expect", {}).items() if k not in REMARKS}
    if decoded["problem"] is not None or len(decoded["frames"]) != 1:
        return [f"{vector['id']}: {len(decoded['frames'])} frames, {decoded['problem']}"]
    (frame,) = decoded["frames"]
    return [
        f"{vector['id']} {key}: {frame.get(key)!r}, stated {value!r}"
        for key, value in stated.items()
        if not same(value, frame.get(key))
    ]


@pytest.mark.parametrize("name", [*DLT645, "modbus_rtu.json"])
def test_every_published_frame_is_recognised_and_decoded_as_stated(
    meter_batch: Run, shared_dir: Path, name: str
) -> None:
    good = [one for one in vectors(shared_dir, name) if one["kind"] != "negative"]
    done = meter_batch("decode", "--json", "-", text="\n".join(one["hex"] for one in good))
    found = objects(done)
    assert [one["input"] for one in found] == [one["hex"] for one in good]
    wrong = [line for vector, decoded in zip(good, found, strict=True) for line in differences(vector, decoded)]
    assert not wrong, "\n".join(wrong)
    assert done.returncode == 0


@pytest.mark.parametrize("name", ["dlt645_2007.json", "dlt645_1997.json", "modbus_rtu.json"])
def test_every_damaged_frame_is_refused_with_a_reason(meter_batch: Run, shared_dir: Path, name: str) -> None:
    damaged = [one for one in vectors(shared_dir, name) if one["kind"] == "negative"]
    assert damaged
    done = meter_batch("decode", "--json", "-", text="\n".join(one["hex"] for one in damaged))
    for vector, decoded in zip(damaged, objects(done), strict=True):
        whole = vector["expect"]["frames"] if vector.get("reason") == "resync" else []
        assert len(decoded["frames"]) == len(whole), vector["id"]
        assert whole or decoded["problem"], vector["id"]
    assert done.returncode == 1


@pytest.mark.parametrize(("name", "words"), [("extras.json", None), ("dlms.json", "DLMS")])
def test_what_is_known_but_not_supported_is_named(
    meter_batch: Run, shared_dir: Path, name: str, words: str | None
) -> None:
    some = [one for one in vectors(shared_dir, name) if one.get("kind") != "negative"]
    done = meter_batch("decode", "--json", "-", text="\n".join(one["hex"] for one in some))
    assert done.returncode == 1
    for vector, decoded in zip(some, objects(done), strict=True):
        assert decoded["frames"] == [], vector["id"]
        assert (words or vector["protocol"]) in decoded["problem"], vector["id"]
        assert "not supported" in decoded["problem"]


@pytest.mark.parametrize(
    "text",
    [
        VOLTAGE.upper(),
        "0x" + VOLTAGE,
        " ".join("0x" + VOLTAGE[at : at + 2] for at in range(0, len(VOLTAGE), 2)),
        ":".join(VOLTAGE[at : at + 2] for at in range(0, len(VOLTAGE), 2)),
        "fe fe fe fe " + VOLTAGE,
        "000000000000 " + VOLTAGE + " ff",
    ],
)
def test_hexadecimal_text_may_look_as_tools_print_it(text: str) -> None:
    decoded = Decoder().decode(text)
    assert decoded.problem is None
    assert [frame["value"] for frame in decoded.frames] == [229.8]
    assert decoded.input == text


@pytest.mark.parametrize(
    ("text", "words"), [("68 0", "digits"), ("hello", '"h"'), ("0x", "no bytes"), ("00ff00", "no valid frame")]
)
def test_nonsense_is_a_problem_in_words(text: str, words: str) -> None:
    decoded = Decoder().decode(text)
    assert decoded.frames == []
    assert words in str(decoded.problem)


def test_bytes_given_one_by_one_are_one_input(meter_batch: Run) -> None:
    (decoded,) = objects(meter_batch("decode", "--json", *(VOLTAGE[at : at + 2] for at in range(0, len(VOLTAGE), 2))))
    assert [frame["unit"] for frame in decoded["frames"]] == ["V"]


def test_several_inputs_give_an_object_each_and_one_problem_fails_the_command(meter_batch: Run) -> None:
    done = meter_batch("decode", "--json", VOLTAGE, VOLTAGE + VOLTAGE, VOLTAGE[:-4] + "0016")
    assert [len(one["frames"]) for one in objects(done)] == [1, 2, 0]
    assert done.returncode == 1
    assert "checksum" in objects(done)[2]["problem"]


def test_half_a_frame_beside_a_whole_one_is_mentioned(meter_batch: Run) -> None:
    (decoded,) = objects(meter_batch("decode", "--json", VOLTAGE + VOLTAGE[:-2]))
    assert len(decoded["frames"]) == 1
    assert "cut off" in decoded["problem"]


def test_a_protocol_that_is_given_is_kept_to(meter_batch: Run) -> None:
    decoded = Decoder("modbus-rtu").decode(VOLTAGE)
    assert decoded.frames == []
    assert "modbus-rtu" in str(decoded.problem)
    assert "not supported" in str(Decoder("dlms-hdlc").decode("7ea00802219393dbd87e").problem)
    assert [one["protocol"] for one in Decoder("dlt645-1997").decode(VOLTAGE).frames] == ["dlt645-1997"]
    assert meter_batch("decode", "--protocol", "bacnet", VOLTAGE).returncode == 2


@given(st.binary(max_size=80), st.sampled_from((None, *PROTOCOLS)))
def test_any_bytes_give_frames_or_a_problem(data: bytes, protocol: str | None) -> None:
    decoded = Decoder(protocol).decode(data.hex())
    assert decoded.frames or decoded.problem
    json.dumps(decoded.frames)


def test_people_get_a_table_and_problems_go_to_stderr(meter_batch: Run) -> None:
    done = meter_batch("decode", VOLTAGE, "zz")
    assert "229.8" in done.stdout
    assert "voltage" in done.stdout
    assert "hexadecimal" in done.stderr
    assert "hexadecimal" not in done.stdout


@pytest.mark.parametrize("unit", [1, 17, 247])
@pytest.mark.parametrize("address", [0, 0x0B, 0x3000])
def test_a_request_with_a_right_checksum_is_modbus_rtu_whatever_its_zeros_look_like(unit: int, address: int) -> None:
    frame = rtu.encode(unit, bytes((3,)) + address.to_bytes(2) + (2).to_bytes(2))
    assert [one["protocol"] for one in Decoder().decode(frame.hex()).frames] == ["modbus-rtu"]


def test_a_frame_of_modbus_tcp_stays_one() -> None:
    frame = tcp.encode(0x0103, 2, bytes.fromhex("0300000002"))
    assert [one["protocol"] for one in Decoder().decode(frame.hex()).frames] == ["modbus-tcp"]
