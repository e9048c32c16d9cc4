"""What a database that stands still for ten minutes costs: nothing.

A real Home Assistant reads a virtual fleet with intervals of a minute. Another process locks the recorder's database
while all runs, and then, over a restart, the ledger's file, which nobody can lock while it is open. The meters have
no memory, so that what is lost stays lost. Afterwards each interval of the ledger is compared with what the meters
measured, each hour of the statistics with the ledger, and the wire says how often the meters were read meanwhile.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any

from meter_batch_engine.ledger import Ledger
from meter_batch_engine.model.interval import Quality
from meter_batch_engine.template import shown
from meter_batch_virtual.clock import FleetClock
from meter_batch_virtual.config import parse_fleet
from meter_batch_virtual.meter import virtual_meter

from . import stalled
from .figure import Figure
from .hosted import PYTHON
from .rig import free_ports, rig
from .stalled import Stall, Watch

METERS = 8
BEFORE_S = 60.0
STALL_S, FULL_STALL_S = 100.0, 600.0
MINUTE = timedelta(minutes=1)
LINE = """
[[line]]
name = "line"
listen = "tcp://127.0.0.1:{port}"
protocol = "modbus-rtu"
baud = 9600
memory = false
[[line.meter]]
address = 1
count = {meters}
template = "eastron/sdm630"
load = "office"
peak_kw = 60
"""
IMPORT = "1-0:1.8.0"
SLACK = timedelta(seconds=0.5)
"""By so much at most the instants of reading and measuring differ, beyond what the ledger says itself."""

type Register = Callable[[str, datetime], Decimal]


def run(*, full: bool) -> list[Figure]:
    """Ten minutes each with --full, else less than two."""
    if not PYTHON.exists():
        print("stall: no environment with Home Assistant (script/setup), so not measured", file=sys.stderr)
        return []
    stall_s = FULL_STALL_S if full else STALL_S
    (port,) = free_ports(1)
    text = LINE.format(port=port, meters=METERS)
    with rig(text, [port]) as made:
        folder = made.folder / "home-assistant"
        stalls = asyncio.run(stalled.run(folder, port, METERS, BEFORE_S, stall_s))
        with Ledger(folder / ".storage" / "meter_batch.ledger.db") as ledger:
            judged = [judge(ledger, one, registers(text)) for one in stalls]
    rows = made.exchanges("line")
    note = f"{METERS} meters, intervals of 1 min, locked for {stall_s:g} s" + ("" if full else " (--full: 600 s)")
    return [
        figure
        for stall, (lost, untrue) in zip(stalls, judged, strict=True)
        for figure in _figures(stall, lost, untrue, cycle_s(rows, stall.during) / cycle_s(rows, stall.before), note)
    ]


def _figures(stall: Stall, lost: int, untrue: int, cycle: float, note: str) -> list[Figure]:
    waited = float("inf") if stall.caught_up_s is None else stall.caught_up_s
    minutes = METERS * ((stall.until - stall.since) // MINUTE)
    lag = f"answer of the web socket; before {1000 * stall.before.p99_s:.0f} ms"
    return [
        Figure("stall", f"{stall.what}: {name}", value, unit, "lower", target, how)
        for name, value, unit, target, how in (
            ("intervals lost", lost, "", 0.0, note),
            ("intervals that differ from what the meters measured", untrue, "", 0.0, f"of {minutes}"),
            ("hours of statistics missing or different", stall.wrong_hours, "", 0.0, f"of {stall.hours}"),
            ("live cycle during the stall over before", cycle, "", 1.1, "on the wire"),
            ("lag of the event loop, p99", stall.during.p99_s, "s", None, lag),
            ("until statistics have caught up", waited, "s", None, "after the end of the lock"),
        )
    ]


def registers(text: str) -> Register:
    """What a meter, by its name, shows at an instant: the virtual meters' registers follow from seed and time."""
    config = parse_fleet(text, Path("fleet.toml"))
    (line,) = config.lines
    meters = {
        f"Meter {one.address}": virtual_meter(one, FleetClock(), config.utc_offset, line.baud) for one in line.meters
    }

    @lru_cache(100_000)
    def register(name: str, at: datetime) -> Decimal:
        meter = meters[name]
        return Decimal(shown(meter.template, meter.values(at, [IMPORT]))[IMPORT])

    return register


def judge(ledger: Ledger, stall: Stall, register: Register) -> tuple[int, int]:
    """How many intervals of a stall are not there as measured, and how many (or sums of a point) are not true."""
    lost = untrue = 0
    for id_, name in stall.points.items():
        found = [
            one
            for one in ledger.intervals([id_], stall.since, stall.until)
            if one.flags == {Quality.MEASURED} and one.length_s == MINUTE.total_seconds()
        ]
        lost += (stall.until - stall.since) // MINUTE - len({one.start for one in found})
        untrue += sum(not _true(one.start, one.end, one.energies[IMPORT], one.skew_s, name, register) for one in found)
        whole = sum((one.energies[IMPORT] for one in found), Decimal(0))
        skew_s = max((abs(one.skew_s) for one in found), default=0.0)
        untrue += not _true(stall.since, stall.until, whole, skew_s, name, register)
    return lost, untrue


def _true(start: datetime, end: datetime, energy: Decimal, skew_s: float, name: str, register: Register) -> bool:
    """Whether a meter can have counted so much between two readings, each about so long from its boundary."""
    off = timedelta(seconds=abs(skew_s)) + SLACK
    least = register(name, end - off) - register(name, start + off)
    most = register(name, end + off) - register(name, start - off)
    return least <= energy <= most


def cycle_s(rows: list[dict[str, Any]], watch: Watch) -> float:
    """Mean time between two of the reads of a meter that are made most often, in seconds."""
    inside = [
        # Without the transaction's number, which is another one each time.
        (row["request"][4:], row["request_at"])
        for row in rows
        if watch.since_at <= row["request_at"] < watch.until_at
    ]
    counts = Counter(request for request, _ in inside)
    most = max(counts.values())
    often = [request for request, count in counts.items() if count > most / 2]
    spans: list[float] = []
    for request in often:
        times = [at for one, at in inside if one == request]
        spans.append((times[-1] - times[0]) / (len(times) - 1))
    return sum(spans) / len(spans)
