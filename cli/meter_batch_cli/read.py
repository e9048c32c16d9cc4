"""`meter-batch read`: registers or DL/T 645 identifiers of one meter, now."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import items

if TYPE_CHECKING:
    from meter_batch_engine import Found, ItemData, Line, LineSettings, Reading, Template
    from meter_batch_engine.model.obis import Obis
    from meter_batch_engine.protocol.dlt645.frame import Variant

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

_ANY = "AAAAAAAAAAAA"
_DLT645_SERIAL = (2400, "E", 1)
"""The port of a DL/T 645 meter as it leaves the factory."""


@app.command()
def read(
    line: Annotated[
        str, typer.Option("--line", metavar="URL", help="tcp://host:port, rfc2217://host:port or a serial port.")
    ],
    template: Annotated[
        str | None, typer.Option("--template", metavar="ID", help="The meter's model, or a file of your own.")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            help="Modbus unit, or the 12 digits of a DL/T 645 meter. Default: the only DL/T 645 meter on the line.",
        ),
    ] = None,
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY]…", help="Registers by key or OBIS code. Default: all.")
    ] = None,
    di: Annotated[
        list[str] | None,
        typer.Option("--di", metavar="DI", help="A DL/T 645 identifier, in place of --template. May be repeated."),
    ] = None,
    count: Annotated[int | None, typer.Option("--count", min=1, max=99, help="How many load records (06…).")] = None,
    at: Annotated[
        datetime | None,
        typer.Option("--at", formats=["%Y-%m-%dT%H:%M"], help="First load record (06…01), by the meter's clock."),
    ] = None,
    edition: Annotated[
        str | None, typer.Option("--edition", help="2007 or 1997. Default: 1997 for identifiers of 4 digits.")
    ] = None,
    framing: Annotated[str, typer.Option("--framing", help="How Modbus travels: rtu or tcp.")] = "rtu",
    baud: Annotated[int | None, typer.Option("--baud", help="Default: the template's; 2400 with --di.")] = None,
    parity: Annotated[
        str | None, typer.Option("--parity", help="N, E or O. Default: the template's; E with --di.")
    ] = None,
    stop_bits: Annotated[int | None, typer.Option("--stop-bits", help="1 or 2. Default: the template's.")] = None,
    preamble: Annotated[int | None, typer.Option("--preamble", help="FE bytes before DL/T 645 requests.")] = None,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds that the meter may think.")] = 1.0,
    retries: Annotated[int, typer.Option("--retries", min=0, max=9, help="After silence or damage.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Read one meter, now: registers of its model (--template), or any DL/T 645 identifiers (--di).

    Values are the meter's own, without CT and PT ratios. Registers that the meter does not have are left out.
    Nothing is ever written to the meter. Exit code 1 where nothing could be read.

    [bold]Examples[/bold]

      meter-batch read --line tcp://10.0.0.5:502 --framing tcp --template eastron/sdm630 --address 7

      meter-batch read --line /dev/ttyUSB0 --baud 9600 --template eastron/sdm630 --address 7 voltage_l1 energy_import

      meter-batch read --line tcp://10.0.0.6:4001 --template generic/dlt645-3ph --address 000012345678 --json

      meter-batch read --line /dev/ttyUSB0 --address 000012345678 --di 01010000 --di 04000503

      meter-batch read --line /dev/ttyUSB0 --di 06040001 --at 2026-11-24T00:00 --count 96
    """
    import asyncio

    from meter_batch_engine import Line, check_address, open_transport

    model = _model(template, keys, di, {"--count": count, "--at": at, "--edition": edition})
    variant = items.edition(di or [], edition) if model is None else model.dlt645.variant
    settings = _settings(model, framing, baud, parity, stop_bits, preamble)
    if model is None:
        items.check(di or [], variant, count, at)
    elif address is None and (model.protocol == "modbus" or variant == "1997"):
        raise typer.BadParameter("only DL/T 645-2007 meters can be asked who they are: give it", param_hint="--address")
    # Typer's own bounds let "nan" through.
    if not 0 < timeout <= 60:
        raise typer.BadParameter(f"{timeout:g}: a meter may think for up to 60 seconds", param_hint="--timeout")
    if address is not None and "AA" not in address.upper():
        address = check_address(model.protocol if model else f"dlt645-{variant}", address)
    meter = _Meter(Line(open_transport(line, settings.serial), settings), line, address, timeout, retries)
    if model is None:
        answers = asyncio.run(meter.items(di or [], variant, count, at))
        described = [items.fields(one, variant) for one in answers.found]
        flaws = [flaw for one in described if (flaw := items.flaw(one))]
        result = {"line": line, "address": meter.address, "items": described}
        _show(result, [one.text for one in answers.problems] + flaws, as_json=as_json)
        raise typer.Exit(0 if len(described) > len(flaws) else 1)
    found = asyncio.run(meter.registers(model, _wanted(model, keys)))
    last = max((one.at for one in found.found), default=None)
    result = {
        "line": line,
        "address": meter.address,
        "template": model.id,
        "at": last.isoformat() if last else None,
        # What is measured now is a float32 at best: more than seven digits are none of the meter's.
        "readings": [_row(one, digits=None if as_json else 7) for one in found.found],
    }
    absent = [f"The meter has no {model.by_obis[obis].quantity.key} ({obis})." for obis in found.absent]
    _show(result, [one.text for one in found.problems] + absent, as_json=as_json)
    raise typer.Exit(0 if found.found else 1)


def _model(
    template: str | None, keys: list[str] | None, di: list[str] | None, for_items: dict[str, object]
) -> Template | None:
    """The model; None where identifiers are read. Raises BadParameter for options that do not go together."""
    from pathlib import Path

    from meter_batch_engine import load, load_file

    if template is None:
        if not di:
            raise typer.BadParameter(
                "give --template and the meter's model (meter-batch templates lists them), "
                "or --di and a DL/T 645 identifier such as 00010000",
                param_hint="--template",
            )
        if keys:
            raise typer.BadParameter(
                f'"{keys[0]}": registers by name need --template; each further identifier needs its own --di',
                param_hint="KEY",
            )
        return None
    if di:
        raise typer.BadParameter("give --template or --di, not both", param_hint="--di")
    for name, value in for_items.items():
        if value is not None:
            raise typer.BadParameter("goes with --di only", param_hint=name)
    return load_file(Path(template)) if template.endswith(".toml") else load(template)


def _settings(
    model: Template | None,
    framing: str,
    baud: int | None,
    parity: str | None,
    stop_bits: int | None,
    preamble: int | None,
) -> LineSettings:
    """The line as given, else as the model wants it, else as DL/T 645 meters leave the factory."""
    from meter_batch_engine import LineSettings

    usual = _DLT645_SERIAL if model is None else (model.serial.baud, model.serial.parity, model.serial.stop_bits)
    if preamble is None:
        preamble = 0 if model is None else model.dlt645.preamble
    return LineSettings(
        baud=baud if baud is not None else usual[0],
        parity=(parity or usual[1]).upper(),
        stop_bits=stop_bits if stop_bits is not None else usual[2],
        framing=framing if model is not None and model.protocol == "modbus" else "rtu",
        preamble=preamble,
    )


def _wanted(model: Template, keys: list[str] | None) -> frozenset[Obis] | None:
    """The registers that were asked for; raises BadParameter for one that the model does not have."""
    if not keys:
        return None
    by_name = {one.quantity.key: one.obis for one in model.registers} | {one.obis: one.obis for one in model.registers}
    for key in keys:
        if key not in by_name:
            raise typer.BadParameter(
                f'{model.name} has no register "{key}"; "meter-batch templates {model.id}" lists all', param_hint="KEY"
            )
    return frozenset(by_name[key] for key in keys)


@dataclass(slots=True)
class _Meter:
    """One meter on a line that is opened for one reading; `address` None is whoever is on the line."""

    line: Line
    url: str
    address: str | None
    timeout_s: float
    retries: int

    async def registers(self, model: Template, wanted: frozenset[Obis] | None) -> Found[Reading]:
        from meter_batch_engine import FrameError, NoReply

        try:
            return await self._registers(model, wanted)
        except (NoReply, FrameError) as error:
            if model.protocol == "modbus" and (hint := await self._other_framing()):
                raise type(error)(f"{error.text}. {hint}") from error
            raise

    async def _registers(self, model: Template, wanted: frozenset[Obis] | None) -> Found[Reading]:
        from meter_batch_engine import PollMeter, read_once

        async with self._opened():
            if self.address is None or (model.protocol == "dlt645-2007" and self.address.upper() == _ANY):
                self.address = await self._find()
            poll = PollMeter(self.address, self.address, model, self.address, model.protocol, wanted)
            return await read_once(
                self.line, poll, timeout_s=self.timeout_s, retries=self.retries, progress=_show_progress
            )

    async def _other_framing(self) -> str:
        """Where the device answers in the other framing, how to say so to it; else nothing."""
        from meter_batch_engine import try_line

        if not self.url.startswith("tcp://"):
            return ""
        test = await try_line(
            self.url, self.line.settings, protocol="modbus", address=self.address, turnround_s=self.timeout_s
        )
        if test.framing in (None, self.line.settings.framing):
            return ""
        return f"{test.problem} Use --framing {test.framing}."

    async def items(
        self, dis: Sequence[str], variant: Variant, count: int | None, at: datetime | None
    ) -> Found[ItemData]:
        from meter_batch_engine import read_items

        async with self._opened():
            if self.address is None:
                self.address = await self._find() if variant == "2007" else _ANY
            found = await read_items(
                self.line,
                self.address,
                dis,
                variant=variant,
                count=count,
                at=at,
                timeout_s=self.timeout_s,
                retries=self.retries,
                progress=_show_progress,
            )
        # Some meters repeat the AA of the question, others say who they are.
        self.address = next((one.address for one in found.found), self.address)
        return found

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[None]:
        await self.line.open()
        try:
            yield
        finally:
            await self.line.close()

    async def _find(self) -> str:
        """The address of the only meter on the line."""
        from meter_batch_engine import FrameError, NoReply, find_address

        try:
            address = await find_address(self.line, timeout_s=self.timeout_s, retries=self.retries)
        except FrameError as error:
            raise FrameError(
                "More than one meter answered, or the line is disturbed: give --address, or keep one meter on the line."
            ) from error
        except NoReply as error:
            raise NoReply(
                "No meter answered when asked who is there: "
                "check supply, wiring, baud rate and parity; not all meters know this question, so try --address too."
            ) from error
        typer.echo(f"Meter {address} is on the line.", err=True)
        return address


def _show_progress(number: int, of: int) -> None:
    if sys.stderr.isatty():
        typer.echo(f"\rRequest {number} of {of} …", err=True, nl=number == of)


def _row(reading: Reading, *, digits: int | None = None) -> dict[str, Any]:
    """A reading as plain fields; `digits` says how many of a measured value people are shown (all)."""
    from decimal import Decimal

    from meter_batch_engine.model.quantity import QUANTITIES

    quantity = QUANTITIES[reading.obis]
    value = reading.value
    if digits is not None and isinstance(value, float):
        value = Decimal(f"{value:.{digits}g}")
    return {"key": quantity.key, "obis": reading.obis, "value": f"{Decimal(str(value)):f}", "unit": quantity.unit}


def _show(result: dict[str, Any], problems: list[str], *, as_json: bool) -> None:
    """The result with its problems as JSON, or as a table with the problems on stderr."""
    if as_json:
        typer.echo(json.dumps(result | {"problems": problems}, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    if "items" in result:
        table = Table("identifier", "name", "value", "unit", box=None)
        for item in result["items"]:
            for number, (name, value, unit) in enumerate(items.rows(item)):
                table.add_row("" if number else item["di"], name, escape(value), unit)
    else:
        table = Table("register", "OBIS", "value", "unit", box=None)
        table.columns[2].justify = "right"
        for row in result["readings"]:
            table.add_row(row["key"], row["obis"], row["value"], row["unit"])
    Console(highlight=False).print(table)
    for problem in problems:
        typer.echo(problem, err=True)
