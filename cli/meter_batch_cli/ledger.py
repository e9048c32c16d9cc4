"""`meter-batch ledger`: proof that a ledger is whole: of its file, or of a running site."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from meter_batch_engine.errors import ConfigError

from .connection import Authority

VERIFY_S = 3600.0
"""So long a site may take to prove many years."""

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


@app.callback()
def ledger() -> None:
    """Check the ledger of a site."""


@app.command()
def verify(
    path: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="The ledger of a stopped site, or a copy of one.")
    ] = None,
    url: Annotated[str | None, typer.Option("--url", help="A running site: http://homeassistant.local:8123")] = None,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="File with an administrator's access token. With --url.")
    ] = None,
    authority: Authority = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Prove that a ledger is whole: checksums of all rows, and that intervals add up to what the registers counted.

    Changes nothing. A file that is in use is refused: with --url Home Assistant proves it on a copy while it runs.
    Exit code 1 where something is wrong.

    [bold]Examples[/bold]

      meter-batch ledger verify .storage/meter_batch.ledger.db

      meter-batch ledger verify --url http://homeassistant.local:8123 --token-file token --json
    """
    verdict = _verdict(path, url, token_file, authority)
    if as_json:
        typer.echo(json.dumps({"path": str(path or url), **verdict}, ensure_ascii=False))
    else:
        typer.echo(
            f"{verdict['points']} points, {verdict['records']} records, {verdict['intervals']} intervals: "
            f"{verdict['stretches']} register differences compared with the sum of their intervals"
        )
        if verdict["edited"]:
            typer.echo(f"{verdict['edited']} intervals were set by people and differ from the registers on purpose")
        for one in verdict["named"]:
            typer.echo(one, err=True)
        if verdict["failures"] > len(verdict["named"]):
            typer.echo(f"and {verdict['failures'] - len(verdict['named'])} more", err=True)
        typer.echo("whole" if verdict["ok"] else f"{verdict['failures']} failures", err=not verdict["ok"])
    sys.exit(0 if verdict["ok"] else 1)


def _verdict(path: Path | None, url: str | None, token_file: Path | None, authority: Path | None) -> dict[str, Any]:
    if (path is None) == (url is None):
        raise ConfigError("say which ledger: a FILE, or --url with --token-file")
    if path is not None:
        from meter_batch_engine.ledger import verify_file

        return verify_file(path).as_dict()
    if url is None or token_file is None:
        raise ConfigError("--url needs --token-file: a file with a long-lived access token, from your profile there")
    from meter_batch_analytics.sources.http import Api, token_of, trust

    trust(authority)
    return Api(url, token_of(token_file), timeout_s=VERIFY_S).verify()
