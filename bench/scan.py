"""How long a scan takes: 247 Modbus addresses at 9600 Bd with 32 meters present, on wires that take real time.

What follows the search is reported apart: who the meters are, and the same addresses at another setting of the port.
Lines of DL/T 645 are measured in questions a meter, on a simulated clock with the collisions of the real wire.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

from meter_batch_engine.fleet import ScanPlan, ScanResult, scan
from meter_batch_engine.line import Line, LineSettings
from meter_batch_engine.template import available, load
from meter_batch_engine.transport import open_transport

from .figure import Figure
from .half_duplex import HalfDuplexSite
from .rig import free_ports, rig
from .simulated import SimulatedLoop, run_simulated

PRESENT = 32
UNITS = 247
TARGET_S = 60.0
MODELS = ("eastron/sdm630", "chint/dtsu666", "abb/b23", "acrel/adl3000")
"""What hangs on the line; every eighth meter thinks half a second."""
METERS_645 = 100
SETTINGS_645 = LineSettings(baud=2400, parity="E")


def run(*, full: bool) -> list[Figure]:
    """The search in real time; with --full at a further setting of the port too."""
    figures = _wired(further=full)
    figures += [_questions(name, addresses) for name, addresses in _lines_645().items()]
    return [*figures, _hit_rate()]


def meter_rows(meters: Sequence[tuple[str, str, float]], protocol: str, settings: LineSettings, listen: str) -> str:
    """A fleet of one line as TOML: address, model and turn-round in milliseconds of each meter."""
    text = f'[[line]]\nname = "scanned"\nlisten = "{listen}"\nprotocol = "{protocol}"\n'
    text += f'baud = {settings.baud}\nparity = "{settings.parity}"\n'
    for address, model, turnround_ms in meters:
        unit = address if protocol == "modbus-rtu" else f'"{address}"'
        text += f'[[line.meter]]\naddress = {unit}\ntemplate = "{model}"\nturnround_ms = {turnround_ms}\n'
    return text


def _wired(*, further: bool) -> list[Figure]:
    chance = random.Random(3)  # repeatable, not secret
    units = sorted(chance.sample(range(1, UNITS + 1), PRESENT))
    settings = LineSettings(baud=9600)
    meters = [
        (str(unit), MODELS[number % len(MODELS)], 500.0 if number % 8 == 7 else round(chance.uniform(20, 90), 1))
        for number, unit in enumerate(units)
    ]
    [port] = free_ports(1)
    url = f"tcp://127.0.0.1:{port}"
    plan = ScanPlan(("modbus",), settings=(settings, *[LineSettings(baud=9600, parity="E")] * further))
    with rig(meter_rows(meters, "modbus-rtu", settings, url), [port]):
        # Behind a network address both settings reach the same wire: the second pass asks only who is not known yet.
        result = asyncio.run(scan(lambda one: Line(open_transport(url, one.serial), one), plan))
    found = {one.address for one in result.meters if not one.clash}
    wanted = {address for address, _, _ in meters}
    right = sum(_right(result, address, model) for address, model, _ in meters)
    note = f"{PRESENT} present, every eighth thinks 500 ms; wire in real time"
    figures = [
        Figure("scan", "seconds", result.took_s["search"], "s", "lower", TARGET_S, note),
        Figure("scan", "found", len(found & wanted) / PRESENT, "", "higher", 1.0),
        Figure("scan", "found that are not there", float(len(found - wanted)), "", "lower", 0.0),
        Figure("scan", "identification", result.took_s["identify"], "s", "lower", None, f"{PRESENT} meters"),
        Figure("scan", "right model first or tied", right / PRESENT, "", "higher", 1.0),
    ]
    if further:
        took_s = result.took_s["settings"]
        figures.append(Figure("scan", "a further setting", took_s, "s", "lower", None, "nobody answers there"))
    return figures


def _lines_645() -> dict[str, list[str]]:
    chance = random.Random(5)  # repeatable, not secret
    half = METERS_645 // 2
    return {
        "one batch": [f"{202311004200 + number:012d}" for number in range(METERS_645)],
        "two batches": [f"2301{34000000 + number:08d}" for number in range(half)]
        + [f"1907{12000000 + number:08d}" for number in range(half)],
        "any numbers": [f"{chance.randrange(10**12):012d}" for _ in range(METERS_645)],
    }


def _questions(name: str, addresses: list[str]) -> Figure:
    meters = [(address, "generic/dlt645-3ph", 40.0) for address in addresses]
    text = meter_rows(meters, "dlt645-2007", SETTINGS_645, "tcp://127.0.0.1:1")
    result = simulated(text, ScanPlan(("dlt645-2007",), settings=(SETTINGS_645,), identify=False))
    complete = {one.address for one in result.meters} == set(addresses)
    note = f"{METERS_645} meters, all found" if complete else f"only {len(result.meters)} found"
    note += f", {result.took_s['search']:.0f} s at 2400 Bd"
    value = result.questions / METERS_645 if complete else float("inf")
    return Figure("scan", f"DL/T 645 questions a meter, {name}", value, "", "lower", None, note)


def _hit_rate() -> Figure:
    """Every model once on one line: is the right one first, or tied with the first?"""
    models = [one for one in available() if load(one).protocol == "modbus"]
    settings = LineSettings(baud=9600)
    meters = [(str(number), model, 40.0) for number, model in enumerate(models, 1)]
    text = meter_rows(meters, "modbus-rtu", settings, "tcp://127.0.0.1:1")
    result = simulated(text, ScanPlan(("modbus",), last=len(models), settings=(settings,)))
    right = sum(_right(result, address, model) for address, model, _ in meters)
    alone = sum(one.template_id == model for one, (_, model, _) in zip(result.meters, meters, strict=True))
    seconds = result.took_s["identify"] / len(models)
    note = f"{len(models)} models, {alone} of them alone in front, {seconds:.1f} s a meter; simulated clock"
    return Figure("scan", "right model first or tied, all models", right / len(models), "", "higher", 1.0, note)


def _right(result: ScanResult, address: str, model: str) -> bool:
    return any(model in (one.template_id, *one.ties) for one in result.meters if one.address == address)


def simulated(fleet: str, plan: ScanPlan, prepare: Callable[[HalfDuplexSite], Any] = lambda site: None) -> ScanResult:
    """Scans the first line of a fleet on a simulated clock."""

    async def main(loop: SimulatedLoop) -> ScanResult:
        site = HalfDuplexSite(loop, fleet)
        prepare(site)
        return await scan(site.line, plan)

    return run_simulated(main)
