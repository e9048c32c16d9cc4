"""The benches judge rightly and speak the promised form."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from bench.figure import Figure  # noqa: E402
from bench.goodput import SEVENTEEN, best_s  # noqa: E402
from bench.turnaround import judge  # noqa: E402
from meter_batch_engine.fleet.request import timing  # noqa: E402
from meter_batch_engine.line import DLT645_GAP_S, LineSettings  # noqa: E402
from meter_batch_engine.template import available, cost, load, plan  # noqa: E402


@pytest.mark.parametrize("model", available())
def test_the_planner_is_as_good_as_the_optimum_that_is_worked_out_apart_from_it(model):
    template = load(model)
    for baud in (2400, 9600, 19200):
        for turnround_s in (0.02, 0.1, 0.5):
            settings = LineSettings(baud=baud, parity="E", preamble=0)
            how = timing(settings, template, turnround_s)
            requests = plan(template, None, how)
            spent = sum(cost(one, how) for one in requests)
            if template.protocol != "modbus":
                # The planner counts neither the FE bytes of replies nor the longer silence; they are the same for all.
                spent += len(requests) * (settings.wire_s(4) + max(0.0, DLT645_GAP_S - how.gap_s))
            assert spent <= best_s(template, None, settings, turnround_s) / 0.97


def test_seventeen_values_are_seventeen():
    assert len(SEVENTEEN) == 17
    assert {one.obis for one in load("generic/dlt645-3ph").registers} >= SEVENTEEN


def test_a_figure_says_whether_it_meets_its_target():
    assert Figure("b", "f", 1.04, "", "lower", 1.05).meets is True
    assert Figure("b", "f", 0.98, "", "higher", 0.99).meets is False
    assert Figure("b", "f", 0.98, "", "higher").meets is None
    row = Figure("b", "f", 1.0, "s", "lower", 2.0).row()
    assert list(row) == ["bench", "figure", "value", "unit", "better", "target", "meets"]


def test_idle_time_and_broken_silence_are_seen():
    def exchange(at, free, violates=False):
        return {"request_at": at, "free_at": free, "gap_s": 0.01, "collided": False, "violates_gap": violates}

    assert judge([exchange(0, 0.99), exchange(1.0, 1.99), exchange(2.0, 2.99)]) == (pytest.approx(1.0), 0)
    assert judge([exchange(0, 0.99), exchange(2.0, 2.99), exchange(4.0, 4.99)]) == (pytest.approx(0.5), 0)
    assert judge([exchange(0, 0.99), exchange(0.99, 1.98, True)])[1] == 1


def test_the_command_lists_the_benches_and_refuses_unknown_ones():
    command = [sys.executable, "-m", "bench"]
    listed = subprocess.run([*command, "--list", "--json"], cwd=ROOT, capture_output=True, text=True, check=True)
    names = [json.loads(line)["bench"] for line in listed.stdout.splitlines()]
    assert names[:3] == ["turnaround", "goodput", "dead"]
    wrong = subprocess.run([*command, "speed"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert wrong.returncode == 2 and "no bench speed" in wrong.stderr
