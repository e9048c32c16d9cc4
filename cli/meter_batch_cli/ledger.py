"""`meter-batch ledger`: what can be asked of a ledger's file without Home Assistant."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


@app.callback()
def ledger() -> None:
    """Check the ledger of a site."""


@app.command()
def verify(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The ledger of a stopped site, or a copy of one.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Prove that a ledger is whole: checksums of all rows, and that intervals add up to what the registers counted.

    Changes nothing. A ledger that is in use is refused: ask Home Assistant for a verification, or take the copy out of
    one of its backups. Exit code 1 where something is wrong.

    [bold]Examples[/bold]

      meter-batch ledger verify .storage/meter_batch.ledger.db

      meter-batch ledger verify copy.db --json
    """
    from meter_batch_engine.ledger import verify_file

    verdict = verify_file(path)
    if as_json:
        typer.echo(json.dumps({"path": str(path), **verdict.as_dict()}, ensure_ascii=False))
    else:
        typer.echo(
            f"{verdict.points} points, {verdict.records} records, {verdict.intervals} intervals: "
            f"{verdict.stretches} register differences compared with the sum of their intervals"
        )
        if verdict.edited:
            typer.echo(f"{verdict.edited} intervals were set by people and differ from the registers on purpose")
        for one in verdict.named:
            typer.echo(one, err=True)
        if verdict.failures > len(verdict.named):
            typer.echo(f"and {verdict.failures - len(verdict.named)} more", err=True)
        typer.echo("whole" if verdict.ok else f"{verdict.failures} failures", err=not verdict.ok)
    sys.exit(0 if verdict.ok else 1)
