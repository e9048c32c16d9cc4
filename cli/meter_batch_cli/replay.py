"""`meter-batch replay`: a recorded session read again, or served to other programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from meter_batch_engine import Template
    from meter_batch_engine.recording import Recording

_TURNROUND_S = 0.02

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


@app.command()
def replay(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE.json",
            help="A recording, or diagnostics of Home Assistant with one in it.",
            show_default=False,
        ),
    ],
    serve: Annotated[
        str | None,
        typer.Option("--serve", metavar="URL", help="Answer as the meters did: tcp://host:port or pty:path."),
    ] = None,
    template: Annotated[
        list[str] | None, typer.Option("--template", metavar="FILE.toml", help="A model of your own that it names.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object an exchange.")] = False,
) -> None:
    """Read a recorded session again, with the models as they are now, and compare with what was read then.

    With --serve nothing is compared: the recorded meters answer on that address, until Ctrl-C.
    Exit code 1 where something is read otherwise now.

    [bold]Examples[/bold]

      meter-batch replay session.json

      meter-batch replay diagnostics.json --json

      meter-batch replay session.json --serve tcp://127.0.0.1:15020
    """
    from meter_batch_engine import ConfigError
    from meter_batch_engine.recording import differences, parse

    try:
        recording = parse(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: it is not UTF-8 text") from error
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error
    if serve is not None:
        _serve(recording, serve)
        return
    load = _loader(template or [])
    wrong = differences(recording, load)
    _show(recording, as_json)
    for one in wrong:
        typer.echo(one, err=True)
    raise typer.Exit(1 if wrong else 0)


def _loader(files: list[str]) -> _Load:
    from .models import by_name

    return _Load({model.id: model for model in map(by_name, files)})


class _Load:
    """Templates given by file first."""

    def __init__(self, own: dict[str, Template]) -> None:
        self._own = own

    def __call__(self, id_: str) -> Template:
        from meter_batch_engine import load

        return self._own.get(id_) or load(id_)


def _show(recording: Recording, as_json: bool) -> None:
    for exchanged, read in zip(recording.exchanges, recording.readings, strict=True):
        if as_json:
            row = {
                "at": exchanged.at.isoformat(),
                "meter": exchanged.meter,
                "problem": exchanged.problem,
                "readings": read,
            }
            typer.echo(json.dumps(row, ensure_ascii=False))
            continue
        said = ", ".join(f"{key} {text}" for key, text in read.items()) if read else exchanged.problem or "no reading"
        typer.echo(f"{exchanged.at:%H:%M:%S} {exchanged.meter}: {said}")


def _serve(recording: Recording, url: str) -> None:
    import asyncio
    from contextlib import suppress

    with suppress(KeyboardInterrupt):
        asyncio.run(_answer(recording, url))


async def _answer(recording: Recording, url: str) -> None:
    """Serves until Ctrl-C or SIGTERM."""
    import asyncio
    import signal

    from meter_batch_engine.recording import Answers
    from meter_batch_engine.recording.file import settings_of
    from meter_batch_virtual.endpoint import Peer, endpoint
    from meter_batch_virtual.uart import Setting

    settings = settings_of(recording)
    answers = Answers(recording)
    there = endpoint(url, Setting(settings.baud, settings.parity, settings.stop_bits), Path.cwd())
    loop = asyncio.get_running_loop()

    def heard(peer: Peer, data: bytes) -> None:
        for answer in answers.feed(data):
            if answer:
                loop.call_later(_TURNROUND_S, peer.write, answer)

    ended = asyncio.Event()
    for one in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(one, ended.set)
    await there.start(heard)
    try:
        typer.echo(f"Ready: {there.where}")
        await ended.wait()
    finally:
        await there.stop()
