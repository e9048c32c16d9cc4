"""A thousand virtual meters in one real Home Assistant: what they cost, and whether it stays quick.

Thirty-two lines of 25 meters at 19200 baud behind serial servers, and one Modbus TCP line of 200 meters, all at detail
lean. A meter gives 9 values every 5 s and 4 more every 15 s: 31 in 15 s. Home Assistant is a process of its own, set up
through its flows and actions; a component of the bench inside it measures the event loop (see `components`). Beside
other work on the machine only CPU time can be trusted, so lags are told with and without the wait for a core.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from .figure import Figure
from .rig import ROOT, free_ports, rig

TEMPLATE = "janitza/umg96rm"
LINES, PER_LINE, BAUD = 32, 25, 19200
DEAD = 200
"""Meters of the line that dies."""
SETTINGS = {"fast_s": 5, "slow_s": 15, "interval_min": "5", "detail": "lean", "entity_statistics": False}
LEAST_BYTES = 100
"""So long is a reply with all values; shorter ones say who a meter is and what it remembers."""
VALUES = 9 * 3 + 4
"""Of a meter in 15 s."""
CPU, LAG_S, CALLBACK_S, FIRST = 0.5, 0.050, 0.020, 1.1
SMALL = bool(os.environ.get("METER_BATCH_BENCH_SMALL"))


def run(*, full: bool) -> list[Figure]:
    """With --full each phase lasts longer, and statistics compile by themselves too."""
    if not (ROOT / ".venv" / "bin" / "python").exists():
        print("fleet: no environment with Home Assistant (script/setup), so nothing is measured", file=sys.stderr)
        return []
    lines = 2 if SMALL else LINES
    dead = 10 if SMALL else DEAD
    ports = free_ports(lines + 1)
    plan: dict[str, Any]
    text, named = fleet(ports, dead)
    with rig(text, list(ports)) as made:
        plan = {
            "folder": str(made.folder / "home-assistant"),
            "fleet": str(made.folder / "fleet.toml"),
            "fleet_pid": made.pid,
            "template": TEMPLATE,
            "settings": SETTINGS,
            "lines": named,
            "meters": [
                (f"{line['name']} {unit}", line["name"], unit)
                for line in named
                for unit in range(1, line["meters"] + 1)
            ],
            "dead": dead,
            "settle_s": 30 if full else 12,
            "steady_s": 600 if full else 60,
            "dead_s": 120 if full else 25,
            "foreign": not SMALL,
            "foreign_s": 900 if full else 60,
        }
        file = made.folder / "plan.json"
        file.write_text(json.dumps(plan), encoding="utf-8")
        command = [str(ROOT / ".venv" / "bin" / "python"), "-m", "bench.populated", str(file)]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            return [Figure("fleet", "Home Assistant did not run", 1.0, "", "lower", 0)]
        seen = json.loads(done.stdout.splitlines()[-1])
    if kept := os.environ.get("METER_BATCH_BENCH_KEEP"):
        Path(kept).write_text(json.dumps(seen, indent=1), encoding="utf-8")
    return judge(seen, {line["name"]: made.exchanges(line["name"]) for line in named[:-1]}, len(plan["meters"]))


def fleet(ports: list[int], dead: int) -> tuple[str, list[dict[str, Any]]]:
    """The fleet file, and what Home Assistant is told of each line. The last is the one that dies."""
    text, named = [], []
    for number, port in enumerate(ports[:-1], 1):
        name = f"bus{number:02}"
        text.append(
            f'[[line]]\nname = "{name}"\nlisten = "tcp://127.0.0.1:{port}"\nprotocol = "modbus-rtu"\nbaud = {BAUD}\n'
            f'turnround_ms = 25\n[[line.meter]]\naddress = 1\ncount = {PER_LINE}\ntemplate = "{TEMPLATE}"\n'
        )
        named.append({"name": name, "port": port, "protocol": "modbus-rtu", "baud": BAUD, "meters": PER_LINE})
    text.append(
        f'[[line]]\nname = "net"\nlisten = "tcp://127.0.0.1:{ports[-1]}"\nprotocol = "modbus-tcp"\nturnround_ms = 8\n'
        f'[[line.meter]]\naddress = 1\ncount = {dead}\ntemplate = "{TEMPLATE}"\n# faults\n'
    )
    named.append({"name": "net", "port": ports[-1], "protocol": "modbus-tcp", "baud": None, "meters": dead})
    return "\n".join(text), named


def judge(seen: dict[str, Any], wires: dict[str, list[dict[str, Any]]], meters: int) -> list[Figure]:
    """The figures of what was seen in Home Assistant and on the wires."""
    steady, process = seen["steady"], seen["process"]
    hours = (seen["size_after"]["at"] - seen["size_before"]["at"]) / 3600
    growth = (seen["size_after"]["recorder"] - seen["size_before"]["recorder"]) / 1e6 / hours
    ledger = (seen["size_end"]["ledger"] - seen["size_before"]["ledger"]) / 1e6
    misses = sum(one["timeouts"] + one["damaged"] for one in seen["health"].values())
    first = [first_cycle(rows, PER_LINE) for rows in wires.values()]
    figures = [
        _figure("CPU of Home Assistant", share(steady), "of a core", CPU, f"{meters} meters, {VALUES} values in 15 s"),
        *loop("steady", steady),
        _figure("memory", steady["rss_mb"] + steady["children_mb"], "MB", None, _children(steady)),
        _figure(
            "recorder backlog at the end",
            steady["backlog"],
            "events",
            0.0 if steady["backlog"] == 0 else 100,
            f"at most {steady['backlog_max']}",
        ),
        _figure("recorder's database", growth, "MB/h", None, "with write-ahead log"),
        _figure("ledger's file", ledger, "MB", None, "from steady state to the end, a few intervals"),
        _figure("unanswered in steady state", misses, "", 0.0, "since the import; the meters answered all"),
        _figure(
            "first full cycle over the wire's own",
            median(first),
            "",
            FIRST,
            f"of {len(first)} lines, while the import goes on; worst {max(first):.3g}",
        ),
        _figure("import of all, dry run", seen["dry_s"], "s", None, _longest(seen["dry"])),
        _figure(
            "import of all, applied",
            seen["apply_s"],
            "s",
            None,
            f"values of all after {seen['live_s']:.1f} s; {_longest(seen['apply'])}",
        ),
        *loop("import", seen["apply"], targets=False),
        _figure("start until all have values", seen["restart_s"], "s", None, _longest(seen["restart"])),
        *loop("start", seen["restart"], targets=False),
        _figure("CPU with a process that polls", share(process), "of a core", CPU, "both processes together"),
        *loop("with a process that polls", process),
        _figure(
            "memory with a process that polls",
            process["rss_mb"] + process["children_mb"],
            "MB",
            None,
            _children(process),
        ),
        _figure("reload of a line", seen["reload_s"], "s", None, _longest(seen["reload"])),
    ]
    for fault, since in (("silent", seen["dead_at"]), ("cut", seen["cut_at"])):
        lag = seen[fault]
        until = since + lag["seconds"]
        calm = rate(wires, seen["size_before"]["at"], seen["size_after"]["at"])
        note = f"lag p99 {1000 * lag['lag_p99_s']:.0f} ms; {_longest(lag)}"
        figures += [
            _figure(f"CPU while a line of 200 is {fault}", share(lag), "of a core", CPU, note),
            Figure(
                "fleet",
                f"live lines while a line of 200 is {fault}",
                rate(wires, since, until) / calm,
                "",
                "higher",
                0.98,
                "exchanges a second over steady state",
            ),
        ]
    if "foreign" in seen:
        counted = sum(one["timeouts"] for one in seen["foreign_health"].values())
        unanswered = sum(
            row["free_at"] is None
            for rows in wires.values()
            for row in rows
            if seen["foreign_at"] < row["request_at"] < seen["foreign_until"] - 5
        )
        lag = seen["foreign"]
        seconds = ", ".join(f"{one['seconds']:.1f} s" for one in seen["compiled"])
        figures += [
            _figure(
                "false time-outs beside 20000 entities",
                counted - unanswered,
                "",
                0.0,
                f"statistics compiled in {seconds}",
            ),
            _figure(
                "loop lag, longest, beside 20000 entities",
                1000 * lag["lag_max_s"],
                "ms",
                None,
                f"p99 {1000 * lag['lag_p99_s']:.0f} ms",
            ),
        ]
    return figures


def _figure(name: str, value: float, unit: str, target: float | None, note: str = "") -> Figure:
    return Figure("fleet", name, value, unit, "lower", target, note)


def share(told: dict[str, Any]) -> float:
    """CPU seconds a second, of all of Home Assistant's processes."""
    return float(told["cpu_s"] / told["seconds"])


def loop(what: str, told: dict[str, Any], *, targets: bool = True) -> list[Figure]:
    """How quick the event loop was."""
    waited = (
        f"{1000 * told['own_lag_p99_s']:.0f} ms without the wait for a core; longest {1000 * told['lag_max_s']:.0f} ms"
    )
    slowest = max((one[2] - one[3] for one in told["ours"]), default=0.0)
    return [
        _figure(f"loop lag p99, {what}", 1000 * told["lag_p99_s"], "ms", 1000 * LAG_S if targets else None, waited),
        _figure(f"longest callback of ours, {what}", 1000 * slowest, "ms of CPU", 1000 * CALLBACK_S, _longest(told)),
    ]


def _longest(told: dict[str, Any]) -> str:
    if not told["ours"]:
        return "no callback of ours over 10 ms"
    name, wall, cpu, gc = told["ours"][0]
    of_it = f"CPU {1000 * cpu:.0f}, collector {1000 * gc:.0f}"
    return f"{told['slow_ours']} over 20 ms; {1000 * wall:.0f} ms, of which {of_it}: {name}"


def _children(told: dict[str, Any]) -> str:
    return f"of it {told['children_mb']:.0f} MB in {told['children']} child process(es)" if told["children"] else ""


def first_cycle(rows: list[dict[str, Any]], meters: int) -> float:
    """How long a line took until each meter had answered its one block, over the time that those exchanges need."""
    begin: float = rows[0]["request_at"]
    there: dict[str, float] = {}
    spent = 0.0
    for row in rows:
        unit = row["request"][:2]
        if row["free_at"] is None or unit in there or len(row["reply"]) < 2 * LEAST_BYTES:
            continue
        there[unit] = row["free_at"]
        spent += row["free_at"] - row["request_at"] + row["gap_s"]
        if len(there) == meters:
            return float((there[unit] - begin) / spent)
    return float("inf")


def rate(wires: dict[str, list[dict[str, Any]]], since: float, until: float) -> float:
    """Answered exchanges a second on the wires that live."""
    count: int = sum(
        row["free_at"] is not None and since < row["request_at"] < until for rows in wires.values() for row in rows
    )
    return count / (until - since)
