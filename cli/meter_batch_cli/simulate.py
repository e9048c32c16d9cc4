"""`meter-batch simulate`: a virtual fleet in the foreground, with the truth about it in a file."""

from __future__ import annotations

import asyncio
import gc
import math
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from meter_batch_engine.errors import ConfigError, MeterBatchError
from meter_batch_virtual.config import LineConfig, MeterConfig, example_fleet
from meter_batch_virtual.fault import KINDS
from meter_batch_virtual.fleet import FleetConfig, TruthFile, VirtualFleet, load_fleet
from meter_batch_virtual.wire_file import WireFile

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

_WRONG_USAGE, _FAILED = 2, 1
_SHOWN = 5
"""Changes that are told one by one."""


@app.command()
def simulate(
    fleet: Annotated[
        Path | None, typer.Argument(metavar="FLEET.toml", help="The lines and meters to simulate.", show_default=False)
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep every meter's true registers in this JSON file.", show_default=False),
    ] = None,
    speed: Annotated[
        float, typer.Option(metavar="X", help="How fast the fleet's time runs; wires stay as slow.")
    ] = 1.0,
    hold: Annotated[bool, typer.Option("--hold", help="Freeze all values, so that a screen equals the truth.")] = False,
    wire_log: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write every exchange on the wires to this file.", show_default=False),
    ] = None,
    example: Annotated[
        bool, typer.Option("--example", help="Print a fleet file that shows everything, with every fault, and end.")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Say whether FLEET.toml is right, and end.")] = False,
) -> None:
    """Run virtual meters on wires that take real time, until Ctrl-C.

    Meters obey physics, and their registers depend only on seed and time: a restart is no reset. The signal SIGUSR1
    freezes a running fleet and lets it go on again (`kill -USR1 PID`); the truth file is written again at once.
    SIGHUP (`kill -HUP PID`) reads the faults in FLEET.toml again, so that a line can be pulled while it runs.
    """
    if not 0 < speed < math.inf:
        raise typer.BadParameter(f"{speed:g} is no speed: time runs forward, 1 is real time", param_hint="--speed")
    if example:
        typer.echo(example_fleet(), nl=False)
        return
    if fleet is None:
        raise typer.BadParameter("name a fleet file, or print one with --example", param_hint="FLEET.toml")
    console = Console(stderr=True)
    try:
        config = load_fleet(fleet)
    except ConfigError as error:
        console.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(_WRONG_USAGE) from error
    if check:
        _say_right(fleet, config)
        return
    for path in (truth, wire_log):
        # Known before anything is written: the draft of a truth file stands beside it.
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            console.print(f"{path} cannot be written: give a name in a folder that exists", style="red", soft_wrap=True)
            raise typer.Exit(_FAILED)
    try:
        asyncio.run(_run(fleet, config, console, truth, speed, hold, wire_log))
    except (MeterBatchError, OSError) as error:
        console.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(_FAILED) from error


async def _run(
    path: Path,
    config: FleetConfig,
    console: Console,
    truth: Path | None,
    speed: float,
    hold: bool,
    wire_log: Path | None,
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    fleet = VirtualFleet(config, hold=hold, speed=speed)
    await fleet.start()
    keeping = [asyncio.create_task(fleet.run())]
    try:
        file = None
        if truth is not None:
            file = TruthFile(fleet, truth)
            # Ready means that the truth is there too; it also warms up every meter before it is first asked.
            await file.write()
            keeping.append(asyncio.create_task(file.run()))
        if wire_log is not None:
            keeping.append(asyncio.create_task(WireFile(fleet, wire_log).run()))
        loop.add_signal_handler(signal.SIGUSR1, _toggle, fleet, console, file)
        at_terminal = sys.stderr.isatty()

        def hung_up() -> None:
            if at_terminal and not sys.stderr.isatty():
                stop.set()  # the window was closed: nobody asked for faults
            else:
                _reload(fleet, path, console, file)

        loop.add_signal_handler(signal.SIGHUP, hung_up)
        # What was loaded stays; the collector need not look through it again while wires wait.
        gc.freeze()
        _say_ready(fleet, console, truth)
        stopping = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait({stopping, *keeping}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in keeping:
            task.cancel()
        await asyncio.gather(*keeping, return_exceptions=True)
        await fleet.stop()


def _toggle(fleet: VirtualFleet, console: Console, truth: TruthFile | None) -> None:
    fleet.clock.hold(not fleet.clock.held)
    held = f"Values stand still at {fleet.clock.now():%Y-%m-%d %H:%M:%S} UTC." if fleet.clock.held else "Values run."
    console.print(held, highlight=False)
    if truth is not None:
        truth.refresh()


def _reload(fleet: VirtualFleet, path: Path, console: Console, truth: TruthFile | None) -> None:
    try:
        config = load_fleet(path)
    except ConfigError as error:
        console.print(f"{error}. The faults stay as they were.", style="red", markup=False, soft_wrap=True)
        return
    changes = fleet.reload_faults(config)
    lines = sum(bool(line.faults) for line in config.lines)
    meters = sum(bool(meter.faults) for line in config.lines for meter in line.meters)
    console.print(
        f"Faults are read again (lines that have some: {lines}, meters: {meters}); from_s and to_s count from now.",
        soft_wrap=True,
        highlight=False,
    )
    if changes:
        more = f"; and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
        console.print(
            f"What else changed in {path} needs a restart: {'; '.join(changes[:_SHOWN])}{more}.",
            style="yellow",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    if truth is not None:
        truth.refresh()


def _say_ready(fleet: VirtualFleet, console: Console, truth: Path | None) -> None:
    table = Table("Line", "Listens at", "Protocol", "Wire", "Meters")
    for line in fleet.lines:
        config = line.config
        table.add_row(config.name, line.where, config.protocol, _wire(config), _meters(config.meters))
    if sys.stderr.isatty():
        console.print(table)
    else:
        for line in fleet.lines:
            console.print(f"{line.config.name}: {line.where} ({line.config.protocol})", soft_wrap=True, highlight=False)
    where = f"; truth in {truth}" if truth is not None else ""
    held = "; values stand still" if fleet.clock.held else ""
    console.print(
        f"Ready: {_count(len(fleet.meters), len(fleet.lines))}{where}{held}. Ctrl-C stops.",
        soft_wrap=True,
        highlight=False,
    )


def _say_right(path: Path, config: FleetConfig) -> None:
    for line in config.lines:
        typer.echo(f"{line.name}: {line.listen} ({line.protocol}, {_wire(line)}), meters {_meters(line.meters)}")
        for of, faults in (("", line.faults), *((f"{meter.name}: ", meter.faults) for meter in line.meters)):
            for one in faults:
                typer.echo(f"  {of}{one.kind}: {KINDS[one.kind]}")
    meters = sum(len(line.meters) for line in config.lines)
    typer.echo(f"{path} is right: {_count(meters, len(config.lines))}.")


def _count(meters: int, lines: int) -> str:
    """Both in words, "1 meter on 1 line"."""
    return f"{meters} meter{'s' * (meters != 1)} on {lines} line{'s' * (lines != 1)}"


def _wire(line: LineConfig) -> str:
    return f"{line.baud} 8{line.parity}{line.stop_bits}" if line.is_wired else "network"


def _meters(meters: Sequence[MeterConfig]) -> str:
    shown = ", ".join(meter.address for meter in meters[:4])
    return f"{len(meters)} ({shown}{', …' if len(meters) > 4 else ''})"
