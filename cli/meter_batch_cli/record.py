"""`meter-batch record`: reads real meters and keeps every byte of it in a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from meter_batch_engine import Line, LineSettings, Template
    from meter_batch_engine.line import Exchanged
    from meter_batch_engine.recording import RecordedMeter, Recording

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


@app.command()
def record(
    file: Annotated[Path, typer.Argument(metavar="FILE.json", help="Where the recording goes.", show_default=False)],
    line: Annotated[
        str, typer.Option("--line", metavar="URL", help="tcp://host:port, rfc2217://host:port or a serial port.")
    ],
    meter: Annotated[
        list[str],
        typer.Option("--meter", metavar="ADDRESS=MODEL", help="A meter: 7=eastron/sdm630. May be repeated."),
    ],
    times: Annotated[int, typer.Option("--times", min=1, max=1000, help="How often all are read.")] = 1,
    every: Annotated[float, typer.Option("--every", min=0, help="Seconds from one reading to the next.")] = 5.0,
    redact: Annotated[
        bool, typer.Option("--redact", help="Replace serial numbers and DL/T 645 addresses, to pass the file on.")
    ] = False,
    framing: Annotated[str, typer.Option("--framing", help="How Modbus travels: rtu or tcp.")] = "rtu",
    baud: Annotated[int | None, typer.Option("--baud", help="Default: the first model's.")] = None,
    parity: Annotated[str | None, typer.Option("--parity", help="N, E or O. Default: the first model's.")] = None,
    stop_bits: Annotated[int | None, typer.Option("--stop-bits", help="1 or 2. Default: the first model's.")] = None,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds that a meter may think.")] = 1.0,
) -> None:
    """Read meters, and keep what passed on the wire: a recording.

    All registers are read, and who the meter says that it is. Silence and refusals are part of a recording too.
    Ctrl-C ends it; what was recorded until then is kept. Nothing is ever written to a meter.
    `meter-batch replay` reads the file again. Exit code 1 where no meter answered or it was ended early.

    [bold]Examples[/bold]

      meter-batch record session.json --line /dev/ttyUSB0 --meter 7=eastron/sdm630

      meter-batch record session.json --line tcp://10.0.0.5:502 --framing tcp --meter 1=abb/b23 --meter 2=abb/b23 \\
        --times 10 --redact
    """
    import asyncio

    from meter_batch_engine import load
    from meter_batch_engine.recording import dump
    from meter_batch_engine.recording import redact as hide

    from .models import by_name

    meters: list[tuple[RecordedMeter, Template]] = []
    for one in meter:
        address, _, name = one.partition("=")
        if not name:
            raise typer.BadParameter(
                f'"{one}": give address and model, for example 7=eastron/sdm630', param_hint="--meter"
            )
        model = by_name(name)
        meters.append((_meter(address, model), model))
    settings = _settings(meters[0][1], framing, baud, parity, stop_bits)
    can_be_written(file)
    found, whole = asyncio.run(_record(line, settings, meters, times, every, timeout))
    if redact:
        models = {model.id: model for _, model in meters}
        found = hide(found, lambda id_: models.get(id_) or load(id_))
    _write(file, dump(found))
    answered = sum(read is not None for read in found.readings)
    typer.echo(f"{file}: {len(found.exchanges)} exchanges, {answered} with readings", err=True)
    if not whole:
        typer.echo("The recording was ended early.", err=True)
    raise typer.Exit(0 if answered and whole else 1)


def _meter(address: str, model: Template) -> RecordedMeter:
    from meter_batch_engine import check_address
    from meter_batch_engine.recording import RecordedMeter

    return RecordedMeter(check_address(model.protocol, address), model.protocol, model.id)


def _settings(
    model: Template, framing: str, baud: int | None, parity: str | None, stop_bits: int | None
) -> LineSettings:
    from meter_batch_engine import LineSettings

    return LineSettings(
        baud=model.serial.baud if baud is None else baud,
        parity=(parity or model.serial.parity).upper(),
        stop_bits=model.serial.stop_bits if stop_bits is None else stop_bits,
        framing=framing if model.protocol == "modbus" else "rtu",
        preamble=model.dlt645.preamble,
    )


async def _record(
    url: str,
    settings: LineSettings,
    meters: list[tuple[RecordedMeter, Template]],
    times: int,
    every_s: float,
    timeout_s: float,
) -> tuple[Recording, bool]:
    """The recording, and whether it is whole; Ctrl-C ends it early."""
    import asyncio
    import signal
    from dataclasses import replace

    from meter_batch_engine import Line, load, open_transport
    from meter_batch_engine.recording import readings_of, record

    line = Line(open_transport(url, settings.serial), settings)
    exchanges: list[Exchanged] = []
    await line.open()
    whole = True
    task = asyncio.ensure_future(_session(line, meters, times, every_s, timeout_s, exchanges))
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        whole = False
        exchanges += line.trace
    finally:
        await line.close()
    found = record(url, settings, (meter for meter, _ in meters), exchanges)
    models = {model.id: model for _, model in meters}
    return replace(found, readings=readings_of(found, lambda id_: models.get(id_) or load(id_))), whole


async def _session(
    line: Line,
    meters: list[tuple[RecordedMeter, Template]],
    times: int,
    every_s: float,
    timeout_s: float,
    exchanges: list[Exchanged],
) -> None:
    """Reads all so often; the exchanges are kept as they come."""
    import asyncio
    from contextlib import suppress
    from dataclasses import replace

    from meter_batch_engine import InStep, MeterError, PollMeter, read_once

    steps = {meter.address: InStep(always=True) for meter, _ in meters}
    for number in range(times):
        if number:
            await asyncio.sleep(every_s)
        for meter, model in meters:
            poll = PollMeter(meter.address, meter.address, model, meter.address, meter.protocol)
            step = steps[meter.address]
            try:
                if not number and meter.protocol == "modbus" and line.settings.framing == "rtu":
                    # What may still be held back for another master is drawn off, and is no part of the recording.
                    first = frozenset({model.registers[0].obis})
                    with suppress(MeterError):
                        await read_once(line, replace(poll, wanted=first), timeout_s=timeout_s, step=step)
                    line.forget_trace()
                await read_once(line, poll, timeout_s=timeout_s, who=not number, step=step)
            except MeterError as error:
                typer.echo(f"{meter.address}: {error.text}", err=True)
            # The line remembers only the last ones.
            exchanges += line.trace
            line.forget_trace()


def can_be_written(file: Path) -> None:
    """Raises BadParameter where a file cannot be made: better now than after a long search."""
    import os

    folder = file.parent
    why = ""
    if file.is_dir():
        why = "is a folder"
    elif not folder.is_dir():
        why = f"there is no folder {folder}"
    elif not os.access(folder, os.W_OK):
        why = f"nothing may be written in {folder}"
    if why:
        raise typer.BadParameter(f"{file} cannot be written: {why}")


def _write(file: Path, text: str) -> None:
    """The whole file or nothing."""
    import os

    beside = file.with_name(f".{file.name}.part")
    try:
        with beside.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(file)
    except OSError as error:
        beside.unlink(missing_ok=True)
        typer.echo(f"meter-batch: {file}: {error.strerror}", err=True)
        raise typer.Exit(1) from error
