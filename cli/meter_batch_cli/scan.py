"""`meter-batch scan`: which meters are on a line, and which models they are."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from meter_batch_engine import LineSettings, ScannedMeter, ScanPlan, ScanProgress, ScanResult

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

_MODBUS, _DLT645 = (9600, "N"), (2400, "E")
"""How ports of meters are set when they leave the factory."""
_COLUMNS = ("name", "line", "protocol", "address", "template", "serial")
"""Of the list that Home Assistant imports."""
WIDE = 200
"""Columns of a table that goes to a file or a pipe, at least."""
_ENDLESS = 10_000
_PHASES = {"search": "Searching", "identify": "Identifying", "settings": "Trying other settings"}


@app.command()
def scan(
    line: Annotated[
        str, typer.Option("--line", metavar="URL", help="tcp://host:port, rfc2217://host:port or a serial port.")
    ],
    protocol: Annotated[
        list[str] | None,
        typer.Option("--protocol", help="modbus, dlt645-2007 or dlt645-1997. May be repeated. Default: all."),
    ] = None,
    first: Annotated[int, typer.Option("--first", help="First Modbus unit.")] = 1,
    last: Annotated[int, typer.Option("--last", help="Last Modbus unit.")] = 247,
    baud: Annotated[
        list[int] | None,
        typer.Option(
            "--baud",
            help="As the line is set now; further ones are tried after that. "
            "Default: 9600, or 2400 where only DL/T 645 is searched.",
        ),
    ] = None,
    parity: Annotated[
        list[str] | None,
        typer.Option("--parity", help="N, E or O; likewise. Default: N, or E where only DL/T 645 is searched."),
    ] = None,
    stop_bits: Annotated[int, typer.Option("--stop-bits", help="1 or 2.")] = 1,
    framing: Annotated[str, typer.Option("--framing", help="How Modbus travels: rtu or tcp.")] = "rtu",
    preamble: Annotated[int, typer.Option("--preamble", help="FE bytes before DL/T 645 requests, if more than 4.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="Addresses only: ask no meter who it is.")] = False,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Ask silent Modbus addresses twice: for lines that lose frames.")
    ] = False,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write a list that Home Assistant can import.")
    ] = None,
    line_name: Annotated[
        str | None, typer.Option("--line-name", help="What the line is called in that list. Default: its address.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a meter, then one of the whole.")] = False,
) -> None:
    """Search a line for meters: their addresses, models and serial numbers, and addresses that two of them share.

    247 Modbus addresses take less than a minute at 9600 baud. Ctrl-C ends the search; what was found is shown.
    Nothing is ever written to a meter. Exit code 1 where no meter was found or the search was ended early.

    [bold]Examples[/bold]

      meter-batch scan --line /dev/ttyUSB0

      meter-batch scan --line tcp://10.0.0.5:502 --framing tcp --csv meters.csv --line-name Workshop

      meter-batch scan --line /dev/ttyUSB0 --protocol dlt645-2007 --baud 2400 --baud 9600 --parity E

      meter-batch scan --line tcp://10.0.0.6:4001 --protocol modbus --first 1 --last 32 --json
    """
    import asyncio

    from meter_batch_engine import ScanPlan

    from .record import can_be_written

    protocols = tuple(dict.fromkeys(protocol or (("modbus",) if framing == "tcp" else _all())))
    settings = _settings(line, protocols, baud, parity, stop_bits, framing, preamble)
    if csv is not None:
        can_be_written(csv)
    plan = ScanPlan(protocols, first, last, settings, identify=not quick, thorough=thorough)
    meters: dict[tuple[str, str], ScannedMeter] = {}
    with _bar() as progress:
        result = asyncio.run(_scan(line, plan, meters, progress))
    found = list(result.meters) if result else list(meters.values())
    if as_json:
        for one in found:
            typer.echo(json.dumps(one.as_dict(), ensure_ascii=False))
        typer.echo(json.dumps(_summary(result, len(found)), ensure_ascii=False))
    else:
        _show(found)
    for text in _remarks(result, found, line if framing == "rtu" else ""):
        typer.echo(text, err=True)
    if csv is not None:
        _write(csv, found, line_name or line)
    raise typer.Exit(0 if found and result else 1)


def _all() -> tuple[str, ...]:
    from meter_batch_engine.model.point import PROTOCOLS

    return PROTOCOLS


def _settings(
    line: str,
    protocols: tuple[str, ...],
    bauds: list[int] | None,
    parities: list[str] | None,
    stop_bits: int,
    framing: str,
    preamble: int,
) -> tuple[LineSettings, ...]:
    """Every baud rate with every parity, the first of each first."""
    from meter_batch_engine import LineSettings

    usual = _MODBUS if "modbus" in protocols else _DLT645
    if line.startswith("tcp://") and (len(bauds or ()) > 1 or len(parities or ()) > 1):
        raise typer.BadParameter(
            "the port behind a network address is set in the device there; give the one it has", param_hint="--baud"
        )
    return tuple(
        LineSettings(baud=baud, parity=parity.upper(), stop_bits=stop_bits, framing=framing, preamble=preamble)
        for baud in dict.fromkeys(bauds or (usual[0],))
        for parity in dict.fromkeys(parities or (usual[1],))
    )


async def _scan(
    url: str,
    plan: ScanPlan,
    meters: dict[tuple[str, str], ScannedMeter],
    progress: Callable[[ScanProgress], None],
) -> ScanResult | None:
    """The result; None where Ctrl-C ended it, and then `meters` are what was found until then."""
    import asyncio
    import signal

    from meter_batch_engine import Line, open_transport, scan

    def found(meter: ScannedMeter) -> None:
        meters[meter.key] = meter

    def open_line(settings: LineSettings) -> Line:
        return Line(open_transport(url, settings.serial), settings)

    task = asyncio.ensure_future(scan(open_line, plan, progress, found))
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        return None


@contextmanager
def _bar() -> Iterator[Callable[[ScanProgress], None]]:
    """A bar on stderr where that is a terminal; else a line for each phase."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True, highlight=False)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}  found {task.fields[found]}  {task.fields[left]} left"),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("Listening", total=None, found=0, left="")
        said = ""

        def show(at: ScanProgress) -> None:
            nonlocal said
            settings = at.settings
            where = "" if settings.framing == "tcp" else f" at {_port(settings)}"
            what = _PHASES[at.phase] + where
            if not console.is_terminal and what != said:
                console.print(f"{what} …")
            said = what
            left = f"{at.remaining_s:.0f} s" if at.remaining_s < 120 else f"{at.remaining_s / 60:.0f} min"
            bar.update(task, description=what, completed=at.done, total=at.total, found=at.found, left=left)

        yield show


def _summary(result: ScanResult | None, found: int) -> dict[str, Any]:
    nothing = {"complete": False, "took_s": {}, "questions": None, "noise": None}
    whole = nothing if result is None else result.as_dict()
    return {**whole, "found": found, "cancelled": result is None}


def _show(meters: list[ScannedMeter]) -> None:
    """A table for people; as wide as it must be where it goes to a file or a pipe."""
    from rich.console import Console
    from rich.table import Table

    if not meters:
        return
    table = Table("address", "protocol", "port", "model", "serial number", "shows", "", box=None)
    for column in table.columns:
        column.no_wrap = column.header not in ("model", "shows")
        column.overflow = "fold"
    for one in meters:
        port = _port(one.settings)
        model = one.template_id or " or ".join(one.ties) or ("?" if one.models else "")
        mark = "[red]clash[/]" if one.clash else "[red]garbled[/]" if one.garbled else ""
        table.add_row(one.address, one.protocol, port, model, one.serial or "", "  ".join(one.glance), mark)
    console = Console(highlight=False)
    if not console.is_terminal:
        # As wide as it must be, so that nothing is cut or broken.
        wide = Console(highlight=False, width=_ENDLESS).measure(table).maximum
        console = Console(highlight=False, width=max(WIDE, wide))
    console.print(table)


def _port(settings: LineSettings) -> str:
    return settings.framing if settings.framing == "tcp" else f"{settings.baud} 8{settings.parity}{settings.stop_bits}"


def _remarks(result: ScanResult | None, found: Iterable[ScannedMeter], url: str) -> Iterator[str]:
    """What needs a person's attention; `url` is that of a line of framing rtu."""
    found = list(found)
    for one in found:
        if one.problem:
            yield f"{one.address}: {one.problem}"
    if result is None:
        yield "The search was ended early; there may be more meters."
    elif not result.complete:
        yield "A part of the search could not be done; there may be more meters."
    if result is not None and result.heard_noise:
        yield result.heard_noise
    if not found and result is not None:
        yield (
            "No meter answered: check their supply, the wiring (A and B swapped?), and baud rate and parity; "
            "--baud and --parity may be repeated to try several."
        )
        if url.startswith("tcp://"):
            yield "Where a gateway or meter there speaks Modbus TCP: --framing tcp."


def _write(path: Path, meters: Iterable[ScannedMeter], line: str) -> None:
    """The import list, without clashing and garbled meters. Raises ConfigError where it cannot be written."""
    import csv
    import io
    import os

    from meter_batch_engine import ConfigError, load

    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(_COLUMNS)
    for one in meters:
        if one.clash:
            typer.echo(f"{one.address} is left out of {path.name}: two meters share it.", err=True)
            continue
        if one.garbled:
            typer.echo(f"{one.address} is left out of {path.name}: its replies come damaged.", err=True)
            continue
        template = one.template_id or (one.ties[0] if one.ties else "")
        if not template:
            typer.echo(f"{one.address}: fill in its template in {path.name}.", err=True)
        elif one.ties:
            typer.echo(f"{one.address}: check the template, it may be {' or '.join(one.ties)}.", err=True)
        name = f"{load(template).name if template else 'Meter'} {one.address}"
        writer.writerow((name, line, one.protocol, one.address, template, one.serial or ""))
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # Excel takes UTF-8 for it only with the mark in front.
        beside.write_text("\ufeff" + out.getvalue(), encoding="utf-8", newline="")
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
    typer.echo(f"Wrote {path}.", err=True)
    sys.stderr.flush()
