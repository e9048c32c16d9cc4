"""`meter-batch diagnose` says why meters are silent or wrong, with cures, for people and for programs."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from pathlib import Path
from typing import Any

from meter_batch_virtual.fleet import VirtualFleet, load_fleet

from .conftest import Run

LINE = """
[[line]]
name = "workshop"
listen = "tcp://127.0.0.1:0"
protocol = "modbus-tcp"
turnround_ms = 5
fault = [{ kind = "no_transaction" }]
[[line.meter]]
address = 1
template = "eastron/sdm630"
[[line.meter]]
address = 2
template = "eastron/sdm630"
faults = [{ kind = "silent" }]
[[line.meter]]
address = 3
template = "eastron/sdm630"
load = "office"
faults = [{ kind = "phase_lost", phase = 2 }]
"""
LIST = """name,line,address,template
Kitchen,workshop,1,eastron/sdm630
Lift,workshop,2,eastron/sdm630
Roof,workshop,3,eastron/sdm630
Elsewhere,other line,9,eastron/sdm630
"""


async def run(*arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "meter_batch_cli",
        "diagnose",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, out.decode(), err.decode()


def test_all_meters_of_a_list_are_diagnosed_on_one_line(tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text(LINE, encoding="utf-8")
    points = tmp_path / "points.csv"
    points.write_text(LIST, encoding="utf-8-sig")

    async def main() -> tuple[int, str, str]:
        fleet = VirtualFleet(load_fleet(tmp_path / "fleet.toml"))
        await fleet.start()
        try:
            where = fleet.line("workshop").where
            return await run(
                *("--line", where, "--framing", "tcp", "--file", str(points), "--line-name", "workshop"),
                *("--seconds", "6", "--search", "0", "--json"),
            )
        finally:
            await fleet.stop()

    code, out, err = asyncio.run(main())
    assert code == 0, err
    found: dict[str, Any] = {row["meter"]: row for row in map(json.loads, out.splitlines())}
    assert list(found) == ["Kitchen", "Lift", "Roof"]
    assert [one["cause"] for one in found["Kitchen"]["causes"]] == ["gateway_transaction"]
    assert found["Kitchen"]["causes"][0]["handled"]
    assert not found["Lift"]["answers"]
    assert found["Lift"]["causes"][0]["cause"] in ("address", "meter_off")
    assert "phase_lost" in [one["cause"] for one in found["Roof"]["causes"]]
    for row in found.values():
        assert all(one["text"] and one["cure"] for one in row["causes"])
        assert sum(one["likelihood"] for one in row["causes"]) <= 1


def test_a_line_that_nobody_listens_at_is_said_to_be_cut() -> None:
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        where = f"tcp://127.0.0.1:{plug.getsockname()[1]}"
        code, out, err = asyncio.run(run("--line", where, "--address", "7", "--template", "eastron/sdm630"))
    assert code == 0, err
    assert "line_cut" in out
    assert "does not answer" in out


def test_wrong_usage_is_said_in_words_before_anything_is_asked(meter_batch: Run, tmp_path: Path) -> None:
    done = meter_batch("diagnose", "--line", "tcp://127.0.0.1:1")
    assert (done.returncode, "--address" in done.stderr) == (2, True)
    bad = tmp_path / "points.csv"
    bad.write_text("name,address,template\nRoof,,eastron/sdm630\n", encoding="utf-8")
    done = meter_batch("diagnose", "--line", "tcp://127.0.0.1:1", "--file", str(bad))
    assert done.returncode == 2
    assert "row 2" in done.stderr
    assert "address" in done.stderr
