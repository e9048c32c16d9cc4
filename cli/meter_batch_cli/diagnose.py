"""`meter-batch diagnose`: why a meter is silent or wrong, and what to do."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meter_batch_engine import Examined, LineSettings, PollMeter, Template

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


@app.command()
def diagnose(
    line: Annotated[
        str, typer.Option("--line", metavar="URL", help="tcp://host:port, rfc2217://host:port or a serial port.")
    ],
    address: Annotated[
        str | None, typer.Option("--address", help="Modbus unit, or the 12 digits of a DL/T 645 meter.")
    ] = None,
    template: Annotated[
        str | None, typer.Option("--template", metavar="ID", help="The meter's model, or a file of your own.")
    ] = None,
    serial: Annotated[
        str | None, typer.Option("--serial", help="The serial number that the meter should have.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="CSV", help="All meters of a list as Home Assistant imports it, instead."),
    ] = None,
    line_name: Annotated[
        str | None, typer.Option("--line-name", help="Only those of the list that are on this line.")
    ] = None,
    framing: Annotated[str, typer.Option("--framing", help="How Modbus travels: rtu or tcp.")] = "rtu",
    baud: Annotated[int | None, typer.Option("--baud", help="As the line is set. Default: the first model's.")] = None,
    parity: Annotated[str | None, typer.Option("--parity", help="N, E or O; likewise.")] = None,
    stop_bits: Annotated[int | None, typer.Option("--stop-bits", help="1 or 2; likewise.")] = None,
    seconds: Annotated[
        float | None,
        typer.Option("--seconds", help="How long values are watched. Default: until they are clear, mostly 20 s."),
    ] = None,
    search: Annotated[
        float, typer.Option("--search", help="Seconds that other addresses are searched for a meter that is silent.")
    ] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a meter.")] = False,
) -> None:
    """Say why meters are silent or wrong: likely causes, the likeliest first, each with its cure.

    The meters are read for some seconds. Who is silent is asked at other speeds and parities where the port can be set
    from here, in the other framing or edition, and the line is searched for other addresses. Stop other programs that
    use the line first. Nothing is ever written to a meter. Exit code 0 where a diagnosis was made, also of faults.

    [bold]Examples[/bold]

      meter-batch diagnose --line /dev/ttyUSB0 --address 7 --template eastron/sdm630

      meter-batch diagnose --line tcp://10.0.0.5:502 --framing tcp --file points.csv --line-name Workshop --json
    """
    import asyncio

    from meter_batch_engine import ConfigError, Line, LineSettings, examine, open_transport

    for name, value, most in (("--seconds", seconds or 0.0, 600), ("--search", search, 600)):
        # Typer's own bounds let "nan" through.
        if not 0 <= value <= most:
            raise typer.BadParameter(f"{value:g}: it may be 0 to {most} seconds", param_hint=name)
    if file is not None:
        if address is not None or template is not None:
            raise typer.BadParameter("give --file, or --address and --template, not both", param_hint="--file")
        meters, serials = _listed(file, line_name)
    elif address is None or template is None:
        raise typer.BadParameter("give the meter's --address and --template, or a list with --file")
    else:
        meters = [_meter(address, address, _model(template))]
        serials = {address: serial} if serial else {}
    usual = meters[0].template
    settings = LineSettings(
        baud=baud if baud is not None else usual.serial.baud,
        parity=(parity or usual.serial.parity).upper(),
        stop_bits=stop_bits if stop_bits is not None else usual.serial.stop_bits,
        framing=framing if usual.protocol == "modbus" else "rtu",
        preamble=usual.dlt645.preamble,
    )

    def open_line(how: LineSettings) -> Line:
        return Line(open_transport(line, how.serial), how)

    try:
        open_line(settings)
    except ConfigError as error:
        raise typer.BadParameter(str(error), param_hint="--line") from error
    found = asyncio.run(
        examine(
            open_line,
            settings,
            meters,
            network=not line.startswith("/") and "://" in line,
            adjustable=not line.startswith("tcp://"),
            serials=serials,
            watch_s=WATCH_S if seconds is None else seconds,
            least_s=seconds or 0.0,
            search_s=search,
            progress=_progress,
        )
    )
    _progress("")
    for one in found:
        if as_json:
            typer.echo(json.dumps(_row(one, line), ensure_ascii=False))
        else:
            _show(one)
    if not as_json and len(found) > 1:
        well = sum(one.well for one in found)
        typer.echo(f"{well} of {len(found)} meters are well.", err=True)


def _model(template: str) -> Template:
    from meter_batch_engine import load, load_file

    return load_file(Path(template)) if template.endswith(".toml") else load(template)


def _meter(name: str, address: str, model: Template) -> PollMeter:
    from meter_batch_engine import PollMeter, check_address

    return PollMeter(name, name, model, check_address(model.protocol, address), model.protocol)


def _listed(file: Path, line_name: str | None) -> tuple[Sequence[PollMeter], dict[str, str]]:
    """The meters of a list and the serial numbers that stand in it; raises ConfigError that names row and column."""
    import csv

    from meter_batch_engine import ConfigError, MeterBatchError

    try:
        rows = list(csv.DictReader(file.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{file} cannot be read as a CSV file: {error}") from error
    meters: dict[str, PollMeter] = {}
    serials: dict[str, str] = {}
    for number, row in enumerate(rows, 2):
        if line_name is not None and (row.get("line") or "").strip() != line_name:
            continue
        missing = [column for column in ("address", "template") if not (row.get(column) or "").strip()]
        if missing:
            raise ConfigError(f"{file}, row {number}: the column {missing[0]} is missing or empty")
        key = (row.get("name") or "").strip() or row["address"].strip()
        try:
            meters[key] = _meter(key, row["address"].strip(), _model(row["template"].strip()))
        except MeterBatchError as error:
            raise ConfigError(f"{file}, row {number}: {error}") from error
        if serial := (row.get("serial") or "").strip():
            serials[key] = serial
    if not meters:
        raise ConfigError(f"{file} has no meter" + (f' on the line "{line_name}"' if line_name else ""))
    return list(meters.values()), serials


WATCH_S = 20.0
"""How long values are watched at most where nothing else is asked for; longer on slow lines."""
AGAIN_S = 10.0
"""In a file or a pipe progress is told where something else begins, and so often."""
_said = "", 0.0
"""What was told last, and when."""


def _progress(what: str) -> None:
    global _said
    now = time.monotonic()
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K" + what)
        sys.stderr.flush()
    elif what and (what.partition(" ")[0] != _said[0].partition(" ")[0] or now > _said[1] + AGAIN_S):
        typer.echo(what, err=True)
        _said = what, now


def _row(one: Examined, line: str) -> dict[str, Any]:
    """A meter as plain fields."""
    return {
        "meter": one.meter.name,
        "line": line,
        "address": one.meter.address,
        "template": one.meter.template.id,
        "answers": one.answers,
        "judged": one.judged,
        "causes": [
            {
                "cause": found.cause,
                "likelihood": found.likelihood,
                "text": found.text,
                "cure": found.cure,
                "scope": found.scope,
                "handled": found.handled,
            }
            for found in one.diagnoses
        ],
    }


def _show(one: Examined) -> None:
    """A meter for people."""
    from rich.console import Console
    from rich.markup import escape
    from rich.padding import Padding

    console = Console(highlight=False)
    state = "answers" if one.answers else "does not answer"
    console.print(f"[bold]{escape(one.meter.name)}[/] ({escape(one.meter.template.name)}, {one.meter.address}) {state}")
    if not one.diagnoses:
        said = (
            "Nothing is wrong with it, as far as can be told from here."
            if one.well
            else "Too little of it was read to judge it: give more --seconds."
        )
        console.print(Padding(said, (0, 0, 1, 2)))
    for number, found in enumerate(one.diagnoses, 1):
        mark = ", handled" if found.handled else ""
        console.print(Padding(f"{number}. [bold]{found.cause}[/] ({found.likelihood:.0%}{mark})", (0, 0, 0, 2)))
        console.print(Padding(f"{escape(found.text)}\n[cyan]{escape(found.cure)}[/]", (0, 0, 1, 5)))
