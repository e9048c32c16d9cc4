"""Published and captured frames: each gives what its source states, each damaged one is refused."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from meter_batch_engine.protocol.dlt645.describe import Describer
from meter_batch_engine.protocol.dlt645.frame import Framer, Variant

FILES = ("dlt645_2007.json", "dlt645_1997.json", "dlt645_constructed.json")
REMARKS = {"note", "origin"}


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
        case int() | float():
            return isinstance(got, int | float) and Decimal(str(wanted)) == Decimal(str(got))
        case _:
            return str(wanted).lower() == str(got).lower()


@pytest.mark.parametrize("name", FILES)
def test_every_published_frame_says_what_its_source_states(shared_dir: Path, name: str) -> None:
    wrong = []
    describers: dict[str, Describer] = {}
    for vector in vectors(shared_dir, name):
        if vector["kind"] == "negative":
            continue
        variant: Variant = "1997" if "1997" in vector["variant"] else "2007"
        frames = describers.setdefault(vector["group"], Describer(variant)).describe(bytes.fromhex(vector["hex"]))
        if len(frames) != 1:
            wrong.append(f"{vector['id']}: {len(frames)} frames")
            continue
        stated = vector.get("frame", {}) | {k: v for k, v in vector.get("expect", {}).items() if k not in REMARKS}
        wrong += [
            f"{vector['id']} {key}: {frames[0].get(key)!r}, stated {value!r}"
            for key, value in stated.items()
            if not same(value, frames[0].get(key))
        ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_frame_is_refused_and_what_is_whole_behind_it_is_found(shared_dir: Path, name: str) -> None:
    for vector in vectors(shared_dir, name):
        if vector["kind"] == "negative":
            found = [frame.raw.hex() for frame in Framer().feed(bytes.fromhex(vector["hex"]))]
            assert found == vector.get("expect", {}).get("frames", []), vector["id"]


def test_a_long_answer_is_joined_from_the_frames_of_one_capture(shared_dir: Path) -> None:
    group = [one for one in vectors(shared_dir, FILES[2]) if one["group"] == "fol020406081357"]
    frames = Describer("2007").describe(bytes.fromhex("fefe".join(one["hex"] for one in group)))
    stated = next(one["expect"]["joined"] for one in group if "joined" in one.get("expect", {}))
    assert [frame.get("joined") for frame in frames] == [None] * (len(frames) - 1) + [stated]
    assert len(frames[-1]["values"]) == len(stated) // 8


def test_a_missing_frame_is_never_joined_over(shared_dir: Path) -> None:
    group = [one for one in vectors(shared_dir, FILES[2]) if one["group"] == "fol020406081357"]
    without = [one for one in group if one.get("expect", {}).get("seq") != 1]
    frames = Describer("2007").describe(bytes.fromhex("".join(one["hex"] for one in without)))
    assert all("joined" not in frame for frame in frames)
