"""How much of a line's time the reader loses: T / (T + g) for blocks of 40 registers, measured on the wire.

T is what request, the meter's turn-round, reply and the silences of 3.5 characters must take; g is what the master
waits beyond that. The wire is a process of its own and keeps the times; the reader knows nothing of it.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from meter_batch_engine.errors import MeterError
from meter_batch_engine.line import Line, LineSettings
from meter_batch_engine.protocol.modbus.exchange import ReadRegisters
from meter_batch_engine.transport import open_transport

from .figure import Figure
from .rig import ROOT, free_ports, rig

BAUDS = (2400, 9600, 19200)
SECONDS, FULL_SECONDS = 15.0, 60.0
TARGET = 0.99


def run(*, full: bool) -> list[Figure]:
    """All speeds over TCP and over terminals at once, then the same from inside a running Home Assistant."""
    seconds = FULL_SECONDS if full else SECONDS
    figures = _alone(seconds)
    return figures + _hosted(seconds)


def _alone(seconds: float) -> list[Figure]:
    ports = dict(zip(BAUDS, free_ports(len(BAUDS)), strict=True))
    urls = {f"{baud} tcp": (baud, f"tcp://127.0.0.1:{port}") for baud, port in ports.items()}
    urls |= {f"{baud} tty": (baud, f"pty:FOLDER/tty{baud}") for baud in BAUDS}
    text = "".join(line(name, url, baud, meters=8) for name, (baud, url) in urls.items())
    with rig(text, [*ports.values(), *(Path(f"tty{baud}") for baud in BAUDS)]) as made:
        asyncio.run(_read_all(urls, made.folder, seconds))
    figures = []
    violations = 0
    for name in urls:
        rows = made.exchanges(name)
        efficiency, broken = judge(rows)
        violations += broken
        note = f"{len(rows)} exchanges; median idle {idle_ms(rows):.2f} ms"
        figures.append(Figure("turnaround", f"efficiency {name}", efficiency, "", "higher", TARGET, note))
    figures.append(Figure("turnaround", "t3.5 violations", violations, "", "lower", 0, "all lines together"))
    return figures


def line(name: str, url: str, baud: int, meters: int, template: str = "eastron/sdm630") -> str:
    """A line of a fleet file."""
    return (
        f'[[line]]\nname = "{name}"\nlisten = "{url}"\nprotocol = "modbus-rtu"\nbaud = {baud}\n'
        f'[[line.meter]]\naddress = 1\ncount = {meters}\ntemplate = "{template}"\n\n'
    )


async def _read_all(urls: dict[str, tuple[int, str]], folder: Path, seconds: float) -> None:
    await asyncio.gather(
        *(
            _read(url.removeprefix("pty:").replace("FOLDER", str(folder)), LineSettings(baud=baud), seconds)
            for baud, url in urls.values()
        )
    )


async def _read(url: str, settings: LineSettings, seconds: float) -> None:
    """One block of 40 registers after the other, from meter to meter."""
    reader = Line(open_transport(url, settings.serial), settings)
    await reader.open()
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    unit = 0
    while loop.time() < until:
        unit = unit % 8 + 1
        try:
            await reader.exchange(ReadRegisters(unit, 4, 0, 40), turnround_s=1.0)
        except MeterError as error:
            print(f"turnaround: {error}", file=sys.stderr)
    await reader.close()


def judge(rows: list[dict[str, Any]]) -> tuple[float, int]:
    """Median efficiency of a line and how often the silence of 3.5 characters was not kept."""
    ratios = []
    for one, following in pairwise(rows):
        if one["free_at"] is not None and not one["collided"]:
            must = one["free_at"] - one["request_at"] + one["gap_s"]
            ratios.append(must / (must + following["request_at"] - one["free_at"] - one["gap_s"]))
    return (median(ratios) if ratios else 0.0), sum(row["violates_gap"] for row in rows)


def idle_ms(rows: list[dict[str, Any]]) -> float:
    """Median time that the reader waited beyond the silence, in milliseconds."""
    waits = [b["request_at"] - a["free_at"] - a["gap_s"] for a, b in pairwise(rows) if a["free_at"] is not None]
    return 1000 * median(waits) if waits else 0.0


def _hosted(seconds: float) -> list[Figure]:
    """Needs the environment with Home Assistant; without it the figure is missing and that is said."""
    python = ROOT / ".venv" / "bin" / "python"
    if not python.exists():
        print(
            "turnaround: no environment with Home Assistant (script/setup), so not measured inside it", file=sys.stderr
        )
        return []
    (port,) = free_ports(1)
    meters = 6
    with rig(line("hosted", f"tcp://127.0.0.1:{port}", 9600, meters), [port]) as made:
        where = str(made.folder / "home-assistant")
        command = [str(python), "-m", "bench.hosted", where, str(port), str(meters), str(seconds)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"turnaround: Home Assistant did not run: {done.stderr[-2000:]}", file=sys.stderr)
            return [Figure("turnaround", "efficiency inside Home Assistant", 0.0, "", "higher", TARGET, "did not run")]
    # The last rows only: before that, Home Assistant was starting and the line idle.
    rows = made.exchanges("hosted")
    rows = [row for row in rows if row["request_at"] > rows[-1]["request_at"] - seconds]
    efficiency, broken = judge(rows)
    note = f"9600 tcp; {len(rows)} exchanges; median idle {idle_ms(rows):.2f} ms"
    return [
        Figure("turnaround", "efficiency inside Home Assistant", efficiency, "", "higher", TARGET, note),
        Figure("turnaround", "t3.5 violations inside Home Assistant", broken, "", "lower", 0),
    ]
