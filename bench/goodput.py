"""Values a second over those of the optimum plan.

The optimum is worked out here, apart from the planner: for Modbus the cheapest way through all places where a request
may begin and end (shortest path, by recursion), for DL/T 645 the better of each block and its single items. It knows
the meter's true turn-round; the poller has to find that out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import cache
from itertools import groupby
from pathlib import Path
from statistics import median

from meter_batch_engine.fleet import Poller, PollMeter, PollReport, PollSettings
from meter_batch_engine.line import DLT645_GAP_S, Line, LineSettings
from meter_batch_engine.model.obis import Obis
from meter_batch_engine.model.quantity import BY_KEY
from meter_batch_engine.protocol.dlt645.item import item_bytes
from meter_batch_engine.template import DltItem, ModbusWords, Template, available, load
from meter_batch_engine.transport import open_transport

from .bus import BusMeter, poll
from .figure import Figure
from .rig import free_ports, rig

TARGET = 0.97
BAUDS = (2400, 9600, 19200)
TURNROUNDS_S = (0.02, 0.06, 0.1)
WIRED = ("eastron/sdm630", "schneider/pm5xxx", "abb/b23", "chint/dtsu666")
SECONDS, FULL_SECONDS = 60.0, 300.0
SEVENTEEN = frozenset(
    BY_KEY[key].obis
    for key in (
        "voltage_l1 voltage_l2 voltage_l3 current_l1 current_l2 current_l3 active_power active_power_l1 "
        "active_power_l2 active_power_l3 reactive_power power_factor frequency energy_import energy_import_t1 "
        "energy_import_t2 energy_import_t3"
    ).split()
)
DLT645_LINE = LineSettings(baud=2400, parity="E")
PREAMBLE = 4
"""FE bytes before the replies of the virtual meters."""


def run(*, full: bool) -> list[Figure]:
    """All Modbus models on a simulated clock, some of them and a line of DL/T 645 on wires that take real time."""
    return [*_simulated(), *_wired(FULL_SECONDS if full else SECONDS)]


# --- the optimum


def best_s(template: Template, wanted: Iterable[Obis] | None, settings: LineSettings, turnround_s: float) -> float:
    """The fewest seconds of line in which a meter of this model can be read."""
    wish = None if wanted is None else frozenset(wanted)
    if template.protocol == "modbus":
        return _best_modbus(template, wish, settings, turnround_s)
    return _best_dlt645(template, wish, settings, turnround_s)


def _best_modbus(template: Template, wish: frozenset[Obis] | None, settings: LineSettings, turnround_s: float) -> float:
    total = 0.0
    words = [(one.locator, one.obis) for one in template.registers if isinstance(one.locator, ModbusWords)]
    for function in {locator.function for locator, _ in words}:
        those = [(one, obis) for one, obis in words if one.function == function]
        known = {at for one, _ in those for at in range(one.address, one.end)}
        spans = sorted({(one.address, one.end) for one, obis in those if wish is None or obis in wish})

        def may(begin: int, end: int, known: set[int] = known) -> bool:
            short = end - begin <= template.modbus.max_words
            return short and (template.modbus.holes or all(at in known for at in range(begin, end)))

        @cache
        def rest(first: int, spans: tuple[tuple[int, int], ...] = tuple(spans)) -> float:
            """From the first span that is not read yet to the end."""
            if first == len(spans):
                return 0.0
            begin, ways, end = spans[first][0], [], 0
            for last in range(first, len(spans)):
                end = max(end, spans[last][1])
                if may(begin, end):
                    gap_s = max(settings.silence_s, template.modbus.gap_s)
                    spent = settings.wire_s(13 + 2 * (end - begin)) + gap_s + turnround_s
                    ways.append(spent + rest(last + 1))
            return min(ways)

        total += rest(0)
    return total


def _best_dlt645(template: Template, wish: frozenset[Obis] | None, settings: LineSettings, turnround_s: float) -> float:
    variant = template.dlt645.variant
    head = 12 + (4 if variant == "2007" else 2)
    items = [one for one in template.registers if isinstance(one.locator, DltItem)]

    def spent(data: int) -> float:
        gap_s = max(settings.silence_s, DLT645_GAP_S)
        return settings.wire_s(head + PREAMBLE + head + data) + turnround_s + gap_s

    total = 0.0
    wanted = [one for one in items if wish is None or one.obis in wish]
    by_block = groupby(sorted(wanted, key=_block), key=_block)
    for block, members in by_block:
        singles = sum(spent(item_bytes(_single(one.locator), variant) or 0) for one in members)
        whole = [item_bytes(_single(one.locator), variant) or 0 for one in items if _block(one) == block]
        total += min(singles, spent(sum(whole))) if len(whole) > 1 else singles
    return total


def _block(register: object) -> str:
    locator = getattr(register, "locator", None)
    assert isinstance(locator, DltItem)
    return locator.di


def _single(locator: object) -> str:
    assert isinstance(locator, DltItem)
    return locator.single


# --- on a simulated clock


def _simulated() -> list[Figure]:
    models = [template for template in map(load, available()) if template.protocol == "modbus"]
    ratios = {}
    for template in models:
        for baud in BAUDS:
            for turnround_s in TURNROUNDS_S:
                settings = LineSettings(baud=baud)
                best = best_s(template, None, settings, turnround_s)
                meter = BusMeter("1", template, lambda turnround_s=turnround_s: turnround_s)  # type: ignore[misc]
                seconds = 60 * best
                # The first rounds find out how fast the meter is.
                readings = poll([meter], settings, seconds, None, slow_s=0.001).readings(10 * best, seconds)
                ratios[template.id, baud, turnround_s] = readings / (50 * len(template.registers))
    worst = min(ratios, key=lambda key: ratios[key])
    note = f"{len(models)} models × {len(BAUDS)} speeds × {len(TURNROUNDS_S)} turn-rounds; simulated clock"
    where = f"{worst[0]} at {worst[1]}, {1000 * worst[2]:.0f} ms"
    return [
        Figure("goodput", "modbus models, worst", ratios[worst], "", "higher", TARGET, where),
        Figure("goodput", "modbus models, median", median(ratios.values()), "", "higher", TARGET, note),
    ]


# --- on wires that take real time

type _Job = tuple[str, int, LineSettings, frozenset[Obis] | None, int]
"""Model, port, line, registers, number of meters."""


def _wired(seconds: float) -> list[Figure]:
    turnround_ms = 60
    ports = free_ports(len(WIRED) + 1)
    text = "".join(
        f'[[line]]\nname = "{model}"\nlisten = "tcp://127.0.0.1:{port}"\nprotocol = "modbus-rtu"\nbaud = 9600\n'
        f"turnround_ms = {turnround_ms}\njitter_ms = 0\n"
        f'[[line.meter]]\naddress = 1\ncount = 4\ntemplate = "{model}"\n\n'
        for model, port in zip(WIRED, ports[:-1], strict=True)
    )
    text += (
        f'[[line]]\nname = "dlt645"\nlisten = "tcp://127.0.0.1:{ports[-1]}"\nprotocol = "dlt645-2007"\nbaud = 2400\n'
        f"turnround_ms = {turnround_ms}\njitter_ms = 0\npreamble = {PREAMBLE}\n"
        '[[line.meter]]\naddress = "000000000001"\ncount = 32\ntemplate = "generic/dlt645-3ph"\n'
    )
    jobs: list[_Job] = [
        (model, port, LineSettings(baud=9600), None, 4) for model, port in zip(WIRED, ports[:-1], strict=True)
    ]
    with rig(text, [Path(), *ports]):
        rates = asyncio.run(_all(jobs, ports[-1], seconds))
    figures = []
    for (model, _, settings, wanted, _), rate in zip(jobs, rates, strict=False):
        template = load(model)
        # A Modbus meter waits for 3.5 characters of silence before it knows that the request is over, then thinks.
        best = len(template.registers) / best_s(template, wanted, settings, settings.silence_s + turnround_ms / 1000)
        note = f"{rate:.0f} of {best:.0f} values/s; 9600 Bd, wire in real time"
        figures.append(Figure("goodput", f"{model} on a wire", rate / best, "", "higher", TARGET, note))
    best = len(SEVENTEEN) / best_s(load("generic/dlt645-3ph"), SEVENTEEN, DLT645_LINE, turnround_ms / 1000)
    note = f"{rates[-1]:.2f} of {best:.2f} values/s; 17 values × 32 meters, 2400 Bd, wire in real time"
    figures.append(Figure("goodput", "dlt645 on a wire", rates[-1] / best, "", "higher", TARGET, note))
    return figures


async def _all(jobs: list[_Job], dlt645_port: int, seconds: float) -> list[float]:
    every = [*jobs, ("generic/dlt645-3ph", dlt645_port, DLT645_LINE, SEVENTEEN, 32)]
    return await asyncio.gather(*(_rate(job, seconds) for job in every))


async def _rate(job: _Job, seconds: float) -> float:
    """Good values a second, once the poller has found out how fast the meters are."""
    model, port, settings, wanted, count = job
    template = load(model)
    loop = asyncio.get_running_loop()
    reports: list[tuple[float, PollReport]] = []
    poller = Poller(
        Line(open_transport(f"tcp://127.0.0.1:{port}", settings.serial), settings),
        PollSettings(fast_s=0.001, slow_s=0.001, report_every_s=0.0),
        lambda report: reports.append((loop.time(), report)),
    )
    modbus = template.protocol == "modbus"
    poller.set_meters(
        PollMeter(str(place), model, template, str(place) if modbus else f"{place:012d}", template.protocol, wanted)
        for place in range(1, count + 1)
    )
    started = loop.time()
    task = asyncio.create_task(poller.run())
    await asyncio.sleep(seconds + 5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    spans = [at for at, report in reports if report.readings and at > started + 5]
    # From one report to another: whole visits only.
    good = sum(
        one.good
        for at, report in reports
        if spans[0] < at <= spans[-1]
        for readings in report.readings.values()
        for one in readings
    )
    return good / (spans[-1] - spans[0])
