"""The examples of docs/virtual-fleet.md for other programs work as they stand there."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

from meter_batch_virtual.fault import KINDS, keys
from tests.conftest import need

from .conftest import PYTHON, StartFleet, run

DOC = (Path(__file__).parents[2] / "docs" / "virtual-fleet.md").read_text(encoding="utf-8")


def example(language: str, containing: str) -> str:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", DOC, re.S | re.M)
    (found,) = (text for of, text in blocks if of == language and containing in text)
    return str(found)


async def test_the_examples_for_other_programs_read_the_voltage(start_fleet: StartFleet) -> None:
    fleet = await start_fleet(example("toml", 'load = "workshop"\n').replace("15020", "0"))
    port = fleet.lines[0].where.rpartition(":")[2]
    (truth,) = fleet.truth()
    volts = float(truth["registers"]["1-0:32.7.0"])
    script = example("python", "ModbusTcpClient").replace("15020", port)
    status, out, err = await run(PYTHON, "-c", script)
    assert status == 0, err
    assert abs(float(out) - volts) < 0.01
    need("mbpoll", shutil.which("mbpoll") is not None)
    command = shlex.split(example("", "mbpoll -m tcp").replace("15020", port))
    status, out, err = await run(*command)
    assert status == 0, err
    (shown,) = re.findall(r"^\[0\]:\s+(\S+)", out, re.M)
    assert abs(float(shown) - volts) < 0.1


def test_every_fault_and_each_of_its_keys_is_in_the_table() -> None:
    table = DOC.partition("### Faults")[2].partition("**Ports that are set wrongly.**")[0]
    for kind in KINDS:
        (row,) = re.findall(rf"^\| `{kind}`(?: \*)? \|(.*)$", table, re.M)
        for key in keys(kind):
            # Those that all of a sort have are said once, above the table.
            if key not in ("kind", "from_s", "to_s", "every", "probability", "count"):
                assert f"`{key}`" in row, (kind, key)
