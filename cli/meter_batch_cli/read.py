"""`meter-batch read`: registers of one meter, now."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from meter_batch_engine.line import Line
    from meter_batch_engine.model.obis import Obis
    from meter_batch_engine.model.reading import Reading
    from meter_batch_engine.protocol.exchange import Exchange
    from meter_batch_engine.template import Request, Template

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


@app.command()
def read(
    line: Annotated[
        str, typer.Option("--line", metavar="URL", help="tcp://host:port, rfc2217://host:port or a serial port.")
    ],
    template: Annotated[
        str, typer.Option("--template", metavar="ID", help="The meter's model, or a file of your own.")
    ],
    address: Annotated[str, typer.Option("--address", help="Modbus unit, or the 12 digits of a DL/T 645 meter.")],
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY]…", help="Registers by key or OBIS code. Default: all.")
    ] = None,
    framing: Annotated[str, typer.Option("--framing", help="How Modbus travels: rtu or tcp.")] = "rtu",
    baud: Annotated[int | None, typer.Option("--baud", help="Default: the template's.")] = None,
    parity: Annotated[str | None, typer.Option("--parity", help="N, E or O. Default: the template's.")] = None,
    stop_bits: Annotated[int | None, typer.Option("--stop-bits", help="1 or 2. Default: the template's.")] = None,
    preamble: Annotated[int | None, typer.Option("--preamble", help="FE bytes before DL/T 645 requests.")] = None,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds that the meter may think.")] = 1.0,
    retries: Annotated[int, typer.Option("--retries", min=0, max=9, help="After silence or damage.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Read registers of one meter, now.

    Values are the meter's own, without CT and PT ratios. Registers that the meter does not have are left out.
    Nothing is ever written to the meter. Exit code 1 where no register could be read.

    [bold]Examples[/bold]

      meter-batch read --line tcp://10.0.0.5:502 --framing tcp --template eastron/sdm630 --address 7

      meter-batch read --line /dev/ttyUSB0 --baud 9600 --template eastron/sdm630 --address 7 voltage_l1 energy_import

      meter-batch read --line tcp://10.0.0.6:4001 --template generic/dlt645-3ph --address 000012345678 --json
    """
    import asyncio
    from pathlib import Path

    from meter_batch_engine.line import Line, LineSettings
    from meter_batch_engine.template import Timing, load, load_file, plan
    from meter_batch_engine.transport import open_transport

    model = load_file(Path(template)) if template.endswith(".toml") else load(template)
    settings = LineSettings(
        baud=baud if baud is not None else model.serial.baud,
        parity=(parity or model.serial.parity).upper(),
        stop_bits=stop_bits if stop_bits is not None else model.serial.stop_bits,
        framing=framing if model.protocol == "modbus" else "rtu",
        preamble=preamble if preamble is not None else model.dlt645.preamble,
    )
    timing = Timing(0 if settings.framing == "tcp" else settings.baud, turnround_s=0.05, preamble=settings.preamble)
    requests = plan(model, _wanted(model, keys), timing)
    bus = Line(open_transport(line, settings.serial), settings)
    reader = _Reader(bus, model, address, timeout, retries)
    readings = asyncio.run(reader.read(requests))
    _show_json(line, model, address, reader, readings) if as_json else _show(reader, readings)
    raise typer.Exit(0 if readings else 1)


def _wanted(model: Template, keys: list[str] | None) -> list[Obis] | None:
    """The registers that were asked for; raises BadParameter for one that the model does not have."""
    if not keys:
        return None
    by_name = {one.quantity.key: one.obis for one in model.registers} | {one.obis: one.obis for one in model.registers}
    for key in keys:
        if key not in by_name:
            raise typer.BadParameter(
                f'{model.name} has no register "{key}"; "meter-batch templates {model.id}" lists all', param_hint="KEY"
            )
    return [by_name[key] for key in keys]


class _Reader:
    """Reads one meter over one line; what could not be read is in `problems`."""

    def __init__(self, line: Line, model: Template, address: str, timeout_s: float, retries: int) -> None:
        self._line, self._model, self._address = line, model, address
        self._timeout_s, self._retries = timeout_s, retries
        self._transaction = 0
        self.problems: list[str] = []

    async def read(self, requests: tuple[Request, ...]) -> list[Reading]:
        """All readings. A meter that falls silent ends it, a register that it refuses does not."""
        from meter_batch_engine.errors import MeterError

        await self._line.open()
        try:
            readings: list[Reading] = []
            for number, request in enumerate(requests, 1):
                if sys.stderr.isatty():
                    typer.echo(f"\rRequest {number} of {len(requests)} …", err=True, nl=number == len(requests))
                try:
                    readings += await self._ask(request)
                except MeterError as error:
                    if not readings:
                        raise
                    self.problems.append(str(error))
                    break
            return readings
        finally:
            await self._line.close()

    async def _ask(self, request: Request) -> list[Reading]:
        from meter_batch_engine.errors import DecodeError, FrameError, NoReply, Refused, WrongMeter
        from meter_batch_engine.template import decode

        for left in range(self._retries, -1, -1):
            try:
                reply = await self._line.exchange(self._exchange(request), turnround_s=self._timeout_s)
                return decode(request, reply.answer, reply.at)
            except Refused as error:
                parts = request.parts()
                if not parts:
                    self.problems.append(str(error))
                return [reading for part in parts for reading in await self._ask(part)]
            except DecodeError as error:
                self.problems.append(str(error))
                return []
            except NoReply, FrameError, WrongMeter:
                if not left:
                    raise
        return []

    def _exchange(self, request: Request) -> Exchange[Any]:
        from meter_batch_engine.errors import ConfigError
        from meter_batch_engine.protocol.dlt645.exchange import ReadData
        from meter_batch_engine.protocol.modbus.exchange import ReadRegisters
        from meter_batch_engine.template import ModbusRequest

        if isinstance(request, ModbusRequest):
            if not self._address.isdecimal():
                raise ConfigError(f'"{self._address}" is no Modbus unit: it is a number from 1 to 247')
            self._transaction += 1
            return ReadRegisters(
                int(self._address),
                request.function,
                request.address,
                request.count,
                framing="tcp" if self._line.settings.framing == "tcp" else "rtu",
                transaction=self._transaction,
            )
        return ReadData(
            self._address,
            request.di,
            variant=request.variant,
            data_bytes=request.data_bytes or None,
            preamble=self._line.settings.preamble,
        )


def _row(reading: Reading, *, digits: int | None = None) -> dict[str, Any]:
    """A reading as plain fields; `digits` says how many of a measured value people are shown (all)."""
    from decimal import Decimal

    from meter_batch_engine.model.quantity import QUANTITIES

    quantity = QUANTITIES[reading.obis]
    value = reading.value
    if digits is not None and isinstance(value, float):
        value = Decimal(f"{value:.{digits}g}")
    return {"key": quantity.key, "obis": reading.obis, "value": f"{Decimal(str(value)):f}", "unit": quantity.unit}


def _show_json(line: str, model: Template, address: str, reader: _Reader, readings: list[Reading]) -> None:
    at: datetime | None = max((one.at for one in readings), default=None)
    result = {
        "line": line,
        "address": address,
        "template": model.id,
        "at": at.isoformat() if at else None,
        "readings": [_row(one) for one in readings],
        "problems": reader.problems,
    }
    typer.echo(json.dumps(result, ensure_ascii=False))


def _show(reader: _Reader, readings: list[Reading]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("register", "OBIS", "value", "unit", box=None)
    table.columns[2].justify = "right"
    for reading in readings:
        # What is measured now is a float32 at best: more than seven digits are none of the meter's.
        row = _row(reading, digits=7)
        table.add_row(row["key"], row["obis"], row["value"], row["unit"])
    Console(highlight=False).print(table)
    for problem in reader.problems:
        typer.echo(problem, err=True)
