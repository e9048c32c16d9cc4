"""What reports cost: a month of 100 meters in all formats, and what a kernel that is kept saves.

CPU seconds of the process that asks and of its kernels together; the wall would measure whatever else runs here. What a
kept kernel saves is start and imports. Setting pages for paper costs the same in every kernel, a fresh one or not: with
PDF the ratio tells mostly of that. The target is of all formats; that without PDF tells what the kernel itself saves.
"""

from __future__ import annotations

import resource
import sys
import tempfile
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from statistics import median

import psutil  # type: ignore[import-untyped]

from meter_batch_analytics.report.facts import Facts
from meter_batch_analytics.report.files import FORMATS
from meter_batch_analytics.report.kernel import Kernel
from meter_batch_analytics.report.make import make

from .figure import Figure

NAME = "reports"
METERS, MANY = 100, 20
SCREEN = ("html", "xlsx")
QUICK = 3
"""Fresh kernels that are really started in a quick run; each costs the same."""


def run(*, full: bool) -> list[Figure]:
    """A minute; `full` starts all twenty fresh kernels, another minute."""
    figures: list[Figure] = []
    month, day = _examples()
    with tempfile.TemporaryDirectory(prefix="meter-batch-reports-") as name, Kernel() as kernel:
        folder = Path(name)

        def kept(facts: Facts, language: str, formats: tuple[str, ...] = FORMATS) -> float:
            before = _cpu(kernel)
            make(facts, language, formats, folder, kernel=kernel)
            return _cpu(kernel) - before

        def fresh(formats: tuple[str, ...]) -> float:
            before = _cpu(None)
            make(day, "en", formats, folder)
            return _cpu(None) - before

        kernel.warm()
        for language in ("en", "zh-Hans"):
            kept(month, language)
            costs = [kept(month, language) for _ in range(3)]
            note = f"{METERS} meters, {', '.join(FORMATS)}, warm; median of 3"
            figures.append(_figure(f"a month, {language}, CPU", median(costs), "s", 10.0, note))
        started = MANY if full else QUICK
        for what, formats in (("all formats", FORMATS), ("without PDF", SCREEN)):
            many = sum(kept(day, "en", formats) for _ in range(MANY))
            alone = sum(fresh(formats) for _ in range(started)) * MANY / started
            note = (
                f"{MANY} days of {len(day.points)} meters, {', '.join(formats)}: {many:.1f} s kept, {alone:.1f} s fresh"
            )
            if not full:
                note += f" (from {started})"
            figures.append(_figure(f"kept kernel over fresh ones, {what}", many / alone, "×", 0.15, note))
        memory = psutil.Process(kernel.pid).memory_info().rss / 1e6
        figures.append(_figure("memory of the kernel after that", memory, "MB", None, f"{2 * MANY + 9} reports"))
    return figures


def _figure(figure: str, value: float, unit: str, target: float | None, note: str) -> Figure:
    return Figure(NAME, figure, value, unit, "lower", target, note)


def _cpu(kernel: Kernel | None) -> float:
    """Of this process, of children that have ended, and of the kernel that runs."""
    ended, own = (resource.getrusage(who) for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF))
    used = ended.ru_utime + ended.ru_stime + own.ru_utime + own.ru_stime
    if kernel is not None and kernel.pid is not None:
        times = psutil.Process(kernel.pid).cpu_times()
        used += times.user + times.system
    return used


def _examples() -> tuple[Facts, Facts]:
    """A month of many meters and a day of few: the examples of the tests."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "analytics" / "report"))
    try:
        examples = import_module("example_facts")
    finally:
        del sys.path[0]
    month = examples.monthly()
    some = [one for one in month.points if not one.in_total]
    points = [
        replace(some[at % len(some)], id=f"p{at}", name=f"{some[at % len(some)].name} {at:03}") for at in range(METERS)
    ]
    return replace(month, points=tuple(points)), examples.daily()
