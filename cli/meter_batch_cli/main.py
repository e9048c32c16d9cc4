"""The `meter-batch` command: finds the sub-command, turns errors into one line on stderr and an exit code."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

COMMANDS = {
    "read": "Read registers of one meter, now.",
    "scan": "Find the meters on a line: addresses, models, serial numbers.",
    "decode": "Say what frames mean: Modbus and DL/T 645, from hexadecimal text.",
    "diagnose": "Say why meters are silent or wrong, and what to do.",
    "record": "Read meters and keep every byte of it in a file.",
    "replay": "Read a recorded session again, or serve it to other programs.",
    "history": "Say what meters counted and where each value came from; CSV, XLSX, JSON, Parquet.",
    "report": "Make a daily or monthly report of energy and cost: PDF, XLSX, HTML.",
    "simulate": "Run a fleet of virtual meters on wires that take real time.",
    "ledger": "Prove that the ledger of a site is whole.",
    "templates": "List and show meter models; check one of your own, or begin it from a data sheet or a meter.",
}
"""Each is a module of this package with `app`, a Typer application of one command. Imported only when it is used."""


class _LazyGroup(TyperGroup):
    """Knows the sub-commands by name and imports the one that is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return TyperCommand(cmd_name, help=COMMANDS[cmd_name]) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        if name in COMMANDS:
            command = typer.main.get_command(import_module(f".{name}", __package__).app)
            command.name = name
        return name, command, rest


app = typer.Typer(
    cls=_LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def meter_batch() -> None:
    """Read, decode and simulate electricity meters.

    Results go to stdout, progress and messages to stderr; --json gives one JSON object a line.
    Exit codes: 0 done, 1 what was asked for failed, 2 wrong usage.

    [bold]Examples[/bold]

      meter-batch decode 010404436633341b38

      meter-batch templates eastron/sdm630

      meter-batch read --line tcp://10.0.0.5:502 --framing tcp --template eastron/sdm630 --address 7

      meter-batch COMMAND --help
    """


def main() -> None:
    """Runs the command line; never returns."""
    try:
        app(prog_name="meter-batch")
    except BrokenPipeError:
        # The reader of our output (head, less) has gone. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:  # the top of the program: what is ours becomes words, the rest goes on
        from meter_batch_engine.errors import ConfigError, MeterBatchError  # only now, so that help needs no engine

        if not isinstance(error, MeterBatchError):
            raise
        typer.echo(f"meter-batch: {error}", err=True)
        sys.exit(2 if isinstance(error, ConfigError) else 1)
