"""`meter-batch templates`: the meter models that can be read, and help with one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from meter_batch_engine import Template
    from meter_batch_engine.template.datasheet import DraftRow


class _Forms(TyperGroup):
    """`templates` and `templates ID` show; `check` and `new` are commands of their own."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ("-h", "--help")):
            args = ["show", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Forms,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_Line = Annotated[
    str | None, typer.Option("--line", metavar="URL", help="tcp://host:port, rfc2217://host:port or a serial port.")
]
_Address = Annotated[str | None, typer.Option("--address", help="Modbus unit, or 12 digits. With --line.")]
_Framing = Annotated[str, typer.Option("--framing", help="How Modbus travels: rtu or tcp.")]
_Baud = Annotated[int | None, typer.Option("--baud", help="Default: the template's, else 9600.")]
_Parity = Annotated[str | None, typer.Option("--parity", help="N, E or O. Default: the template's, else N.")]


@app.callback()
def templates() -> None:
    """List the meter models that can be read, show one, check a file, or begin a new one.

    A template is one TOML file: what registers a model has, where they lie, and where that is known from.

    [bold]Examples[/bold]

      meter-batch templates

      meter-batch templates eastron/sdm630

      meter-batch templates check ./my-meter.toml

      meter-batch templates new my-meter.toml --sheet registers.xlsx
    """


@app.command()
def show(
    which: Annotated[
        str | None, typer.Argument(metavar="[ID|FILE.toml]", help="A shipped model, or a file of your own.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a model.")] = False,
) -> None:
    """List all models, or show one with its registers. The word "show" may be left out."""
    from . import template_list

    template_list.show(which, as_json=as_json)


@app.command()
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE.toml", help="A template of your own.", show_default=False)],
    line: _Line = None,
    address: _Address = None,
    framing: _Framing = "rtu",
    baud: _Baud = None,
    parity: _Parity = None,
) -> None:
    """Check a template: every mistake at once, then what looks odd, then (with --line) what a real meter says.

    Exit code 1 where it cannot be used, or where the meter does not fit it.

    [bold]Examples[/bold]

      meter-batch templates check my-meter.toml

      meter-batch templates check my-meter.toml --line /dev/ttyUSB0 --address 7
    """
    from meter_batch_engine.template import remarks
    from meter_batch_engine.template.loader import parse_all, read_file, template_id

    template, problems = parse_all(read_file(file), template_id(file), str(file))
    for problem in problems:
        typer.echo(str(problem), err=True)
    if template is None:
        raise typer.Exit(1)
    typer.echo(f"{file}: {template.name}, {len(template.registers)} registers: it can be used")
    for remark in remarks(template):
        typer.echo(f"- {remark}")
    if line is not None:
        if address is None:
            raise typer.BadParameter("whom to ask: give it", param_hint="--address")
        raise typer.Exit(0 if _try(template, line, address, framing, baud, parity) else 1)


@app.command()
def new(
    file: Annotated[Path, typer.Argument(metavar="FILE.toml", help="The template to write.", show_default=False)],
    sheet: Annotated[
        Path | None, typer.Option("--sheet", metavar="FILE", help="CSV or XLSX: the register table of a data sheet.")
    ] = None,
    base: Annotated[int, typer.Option("--base", min=0, max=1, help="1 where the sheet counts addresses from 1.")] = 0,
    function: Annotated[int, typer.Option("--function", min=3, max=4, help="How it is read: 3 or 4.")] = 3,
    little: Annotated[
        bool, typer.Option("--low-word-first", help="Values of 32 bits begin with the low word.")
    ] = False,
    vendor: Annotated[str | None, typer.Option("--vendor", help="Default: the folder of the file.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Default: the name of the file.")] = None,
    line: _Line = None,
    address: _Address = None,
    ranges: Annotated[
        list[str] | None, typer.Option("--range", metavar="FIRST-LAST", help="Addresses to look at. May be repeated.")
    ] = None,
    framing: _Framing = "rtu",
    baud: _Baud = None,
    parity: _Parity = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Begin a template, from the table of a data sheet or from what an unknown meter holds.

    Columns and names are understood in English and Chinese. Whatever is not certain stands as doubt in the file, and
    what could not be used is told. Nothing is ever written to a meter. Only Modbus: DL/T 645 meters have templates.

    [bold]Examples[/bold]

      meter-batch templates new acme/m1.toml --sheet registers.csv --function 4

      meter-batch templates new acme/m1.toml --line /dev/ttyUSB0 --address 7 --range 0-255 --range 0x2000-0x20FF
    """
    from meter_batch_engine.template.datasheet import draft

    from .draft_file import draft_text
    from .sheet import read_sheet

    if (sheet is None) == (line is None):
        raise typer.BadParameter("give a data sheet (--sheet) or a meter (--line and --address)", param_hint="--sheet")
    if file.exists() and not force:
        raise typer.BadParameter(f"{file} is there already; --force writes over it", param_hint="FILE.toml")
    head: list[str]
    rows: tuple[DraftRow, ...]
    if sheet is not None:
        found = draft(read_sheet(sheet), base=base)
        rows, head = found.rows, [f"From {sheet.name}.", *(f"{one}." for one in found.notes)]
        for one in found.notes:
            typer.echo(f"note: {one}", err=True)
        for one in found.unused:
            typer.echo(f"not used: {one}", err=True)
        source = sheet.name
    else:
        rows, head, little, function = _survey(str(line), address, function, ranges, framing, baud, parity)
        source = "a look at the meter"
    if not rows:
        typer.echo("meter-batch: nothing was found that could be a register we know", err=True)
        raise typer.Exit(1)
    text = draft_text(
        vendor or file.absolute().parent.name.title(), model or file.stem.upper(), rows, head, source, function, little
    )
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        typer.echo(f"meter-batch: {file}: {error.strerror}", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"{file}: {len(rows)} registers, all in doubt until a person has compared them with a display.")
    typer.echo(f"Next: meter-batch templates check {file} --line URL --address A")


def _try(template: Template, url: str, address: str, framing: str, baud: int | None, parity: str | None) -> bool:
    """Reads a real meter by the template and says what fits; False where it does not."""
    import asyncio

    from meter_batch_engine import MeterError
    from meter_batch_engine.recording.again import number
    from meter_batch_engine.template.fit import fit

    from .asking import read_all

    try:
        found = asyncio.run(read_all(template, url, address, framing, baud, parity))
    except MeterError as error:
        typer.echo(f"Meter {address}: {error.text}", err=True)
        return False
    for reading in found.found:
        register = template.by_obis[reading.obis]
        typer.echo(f"  {register.quantity.key}: {number(reading.value)} {register.quantity.unit}".rstrip())
    for problem in found.problems:
        typer.echo(f"  {problem.text}", err=True)
    answered = {one.obis for one in found.found}
    silent = [one.quantity.key for one in template.registers if one.obis not in answered]
    typer.echo(f"{len(answered)} of {len(template.registers)} registers have a value")
    if silent:
        typer.echo(f"without: {', '.join(silent)}")
    judged = fit(template, found.found)
    typer.echo(f"As readings of a meter they are {_words(judged.score)} ({judged.score:.2f}).")
    for reason in judged.reasons:
        typer.echo(f"- {reason}")
    return bool(answered) and judged.score >= 0.5


def _words(score: float) -> str:
    return "likely" if score > 0.8 else "possible" if score >= 0.5 else "not plausible"


def _survey(
    url: str,
    address: str | None,
    function: int,
    ranges: list[str] | None,
    framing: str,
    baud: int | None,
    parity: str | None,
) -> tuple[tuple[DraftRow, ...], list[str], bool, int]:
    """What an unknown meter may hold: rows, remarks for the head of the file, whether low words are first, function."""
    import asyncio

    from meter_batch_engine.template.survey import survey

    from .asking import look

    if address is None:
        raise typer.BadParameter("whom to ask: give it", param_hint="--address")
    seen = asyncio.run(look(url, address, function, ranges, framing, baud, parity))
    function, first, later = seen
    found = survey(function, first, later)
    typer.echo(f"{len(first)} words answered with function {function}.", err=True)
    if found.reading is None:
        return (), [], False, function
    order = "low" if found.reading.little else "high"
    head = [
        f"Guessed from the words of a meter: {found.reading.type}, {order} word first.",
        "What else holds numbers, read the same way:",
        *(f"  0x{where:04X}  {text}" for where, text in list(found.rest.items())[:200]),
    ]
    return found.rows, head, found.reading.little, function
