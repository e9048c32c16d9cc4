"""The benches judge rightly and speak the promised form."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from bench import decode, dlt645_cpu, modbus_cpu  # noqa: E402
from bench.figure import Figure  # noqa: E402
from bench.fleet import DEAD, LINES, PER_LINE, first_cycle, fleet, rate  # noqa: E402
from bench.goodput import SEVENTEEN, best_s  # noqa: E402
from bench.stall import IMPORT, LINE, cycle_s, registers  # noqa: E402
from bench.stall import judge as judge_stall  # noqa: E402
from bench.stalled import Stall, Watch, locked  # noqa: E402
from bench.turnaround import judge  # noqa: E402
from meter_batch_engine.fleet.request import timing  # noqa: E402
from meter_batch_engine.ledger import Boundary, Ledger  # noqa: E402
from meter_batch_engine.line import DLT645_GAP_S, LineSettings  # noqa: E402
from meter_batch_engine.template import available, cost, load, plan  # noqa: E402
from meter_batch_virtual.config import parse_fleet  # noqa: E402


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


BEGIN = datetime(2026, 7, 1, 2, 0, tzinfo=UTC)
MINUTES = 10


def judged(tmp_path, spoil) -> tuple[int, int]:
    """The verdict on what two true meters counted, after `spoil` had its way with the records."""
    text = LINE.format(port=15020, meters=2)
    register = registers(text)
    records = {
        (unit, minute): register(f"Meter {unit}", BEGIN + timedelta(minutes=minute))
        for unit in (1, 2)
        for minute in range(MINUTES + 1)
    }
    spoil(records)
    watch = Watch(0.0, 1.0, 0.0)
    until = BEGIN + timedelta(minutes=MINUTES)
    stall = Stall("ledger", watch, watch, BEGIN, until, 0.0, 2, 0, {"p1": "Meter 1", "p2": "Meter 2"})
    with Ledger(tmp_path / "ledger.db", now=lambda: until) as ledger:
        ledger.take(
            Boundary(f"p{unit}", BEGIN + timedelta(minutes=minute), {IMPORT: value}, meter="m")
            for (unit, minute), value in records.items()
        )
        return judge_stall(ledger, stall, register)


def test_after_a_stall_what_the_meters_counted_is_neither_lost_nor_untrue(tmp_path):
    assert judged(tmp_path, lambda records: None) == (0, 0)


def test_a_boundary_that_was_not_written_is_two_intervals_lost_and_a_sum_that_is_not_true(tmp_path):
    assert judged(tmp_path, lambda records: records.pop((1, 4))) == (2, 1)


def test_a_register_that_no_meter_showed_makes_the_two_intervals_beside_it_untrue(tmp_path):
    assert judged(tmp_path, lambda records: records.update({(2, 4): records[2, 4] + Decimal("0.2")})) == (0, 2)


def test_the_last_boundaries_of_a_stall_count_too(tmp_path):
    assert judged(tmp_path, lambda records: records.pop((2, MINUTES)))[0] == 1


def test_a_cycle_is_the_time_between_two_equal_reads_of_a_meter_whatever_else_is_asked():
    def asked(at, request):
        return {"request": request, "request_at": at}

    rows = [asked(at, f"{at:04x}{unit}") for at in range(0, 60, 2) for unit in ("01", "02")]
    rows += [asked(at + 1, f"{at:04x}03") for at in range(0, 60, 20)]
    assert cycle_s(rows, Watch(0.0, 50.0, 0.0)) == pytest.approx(2.0)


def test_a_locked_database_can_be_read_and_not_written(tmp_path):
    path = tmp_path / "some.db"
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("CREATE TABLE one (value)")
    other.close()
    mine = sqlite3.connect(path, isolation_level=None, timeout=0)
    with locked(path):
        assert mine.execute("SELECT count(*) FROM one").fetchone() == (0,)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            mine.execute("INSERT INTO one VALUES (1)")
    mine.execute("INSERT INTO one VALUES (1)")
    mine.close()


def test_the_command_lists_the_benches_and_refuses_unknown_ones():
    command = [sys.executable, "-m", "bench"]
    listed = subprocess.run([*command, "--list", "--json"], cwd=ROOT, capture_output=True, text=True, check=True)
    names = [json.loads(line)["bench"] for line in listed.stdout.splitlines()]
    assert set(names) >= {"turnaround", "goodput", "dead", "outage", "crash", "stall", "ledger-cpu", "archive"}
    wrong = subprocess.run([*command, "speed"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert wrong.returncode == 2 and "no bench speed" in wrong.stderr


def test_the_fleet_of_the_bench_has_a_thousand_meters_and_its_last_line_takes_faults(tmp_path):
    text, named = fleet(list(range(20000, 20001 + LINES)), DEAD)
    config = parse_fleet(text + '[[line.fault]]\nkind = "cut"\n', tmp_path / "fleet.toml")
    assert sum(len(line.meters) for line in config.lines) == LINES * PER_LINE + DEAD == 1000
    assert [line.name for line in config.lines] == [one["name"] for one in named]
    assert [bool(line.faults) for line in config.lines] == [False] * LINES + [True]


def test_a_first_cycle_is_compared_with_what_its_wire_needed_and_later_ones_do_not_count():
    def asked(at, unit, count=200, free=0.09):
        return {
            "request_at": at,
            "request": f"{unit:02x}03",
            "reply": "00" * count,
            "free_at": None if free is None else at + free,
            "gap_s": 0.01,
        }

    quick = [asked(0.0, 1), asked(0.1, 2), asked(0.2, 3), asked(5.0, 1)]
    assert first_cycle(quick, 3) == pytest.approx(0.29 / 0.3)
    slow = [asked(0.0, 1, count=8), asked(0.3, 1), asked(0.5, 2, free=None), asked(0.8, 2), asked(0.9, 3)]
    assert first_cycle(slow, 3) == pytest.approx(0.99 / 0.3)
    assert first_cycle(quick, 4) == float("inf")
    assert rate({"a": quick, "b": slow}, -1.0, 1.0) == pytest.approx(7 / 2)


@pytest.mark.parametrize("bench", [modbus_cpu, dlt645_cpu])
def test_cpu_of_an_exchange_is_compared_over_real_connections(bench):
    measured = bench.compare(connections=2, exchanges=40, rounds=1)
    assert 0.1 < measured.ratio(0, 1) < 20 and measured.us(0) > 0


def test_what_a_meter_takes_of_memory_is_some_kilobytes():
    assert 1 < dlt645_cpu.memory_kb(meters=64, a_line=32, exchanges=5) < 100


@pytest.mark.parametrize("case", [decode.model("eastron/sdm630"), decode.mixed()], ids=lambda case: case.name)
def test_decoding_is_compared_with_a_struct_that_gives_the_same_numbers(case):
    assert case.ours() == [pytest.approx(values) for values in case.bare()]
    assert all(0.1 < ratio < 100 for ratio in decode.compare(case, values=100, rounds=1)[:2])
