"""`meter-batch history`: what meters counted, by interval, hour, day, week, month or year; of a site or an archive."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .connection import ArchiveFolder, Authority, KeyFile, KeyRing, Recorder, TokenFile, Url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meter_batch_analytics import Site
    from meter_batch_analytics.archive.keys import KeyProvider

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


class Resolution(StrEnum):
    """As in Home Assistant."""

    INTERVAL = "interval"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"


class Format(StrEnum):
    """What is written."""

    TABLE = "table"
    CSV = "csv"
    XLSX = "xlsx"
    JSON = "json"
    PARQUET = "parquet"


@app.command()
def history(
    url: Url = None,
    token_file: TokenFile = None,
    authority: Authority = None,
    archive: ArchiveFolder = None,
    key_file: KeyFile = None,
    keyring: KeyRing = None,
    points: Annotated[
        list[str] | None, typer.Option("--points", metavar="NAME", help="A meter by id or name; may be repeated.")
    ] = None,
    area: Annotated[str | None, typer.Option("--area", help="All meters of an area.")] = None,
    line: Annotated[str | None, typer.Option("--line", help="All meters of a line.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="2026-05-31 or 2026-05-31T12:00, local. Included.")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="Not included. Default: now.")] = None,
    resolution: Annotated[Resolution, typer.Option("--resolution", help="How long a row is.")] = Resolution.INTERVAL,
    quantity: Annotated[
        list[str] | None,
        typer.Option("--quantity", metavar="KEY", help="An energy, as energy_import or 1-0:1.8.0; may be repeated."),
    ] = None,
    time_zone: Annotated[str | None, typer.Option("--time-zone", help="Default: the site's.")] = None,
    format_: Annotated[
        Format | None, typer.Option("--format", help="Default: table, or the ending of --output.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", help="A file in place of stdout.")] = None,
    recorder: Recorder = True,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a row and line.")] = False,
) -> None:
    """Say what meters counted and where each value came from, from a Home Assistant or from an archive.

    With both, what the ledger has forgotten comes from the archive. Rows come by stretches of time, in each by meter
    and start, so that memory does not grow with the period. Progress goes to stderr.

    [bold]Examples[/bold]

      meter-batch history --url http://homeassistant.local:8123 --token-file token --since 2026-05-01 --resolution day

      meter-batch history --archive /srv/archive --area Workshop --since 2026-01-01 --resolution month --output a.xlsx

      meter-batch history --archive /srv/archive --points "Chiller 2" --since 2016-01-01 --quantity energy_import --json
    """
    from meter_batch_analytics.sources.http import trust
    from meter_batch_engine.errors import ConfigError

    from .history_files import open_writer

    kind = _format(format_, output, as_json=as_json)
    if since is None:
        raise ConfigError("say since when: --since 2026-05-31")
    trust(authority)
    site = site_of(url, token_file, archive, key_file, keyring, recorder=recorder)
    zone = time_zone or site.time_zone
    with _progress() as progress:
        tables = site.tables(
            points or None,
            area=area,
            line=line,
            since=since,
            until=until,
            resolution=resolution.value,
            quantities=quantity,
            time_zone=time_zone,
            progress=progress,
        )
        # What fails fails before a file is begun.
        tables = _begun(tables)
        with open_writer(kind, output, quantity, zone, site) as write:
            for table in tables:
                write(table)


def _format(chosen: Format | None, output: Path | None, *, as_json: bool) -> str:
    from meter_batch_engine.errors import ConfigError

    if as_json:
        return "lines"
    if chosen is not None:
        found = chosen.value
    elif output is None:
        found = "table"
    else:
        found = output.suffix[1:].lower()
        kinds = [one.value for one in Format if one is not Format.TABLE]
        if found not in kinds:
            raise ConfigError(
                f'the ending of "{output.name}" is no format: there are {", ".join(kinds)}; '
                "another name needs --format, which also has table"
            )
    if found in ("xlsx", "parquet") and output is None:
        raise ConfigError(f"{found} needs a file: --output history.{found}")
    return found


def site_of(
    url: str | None,
    token_file: Path | None,
    archive: Path | None,
    key_file: Path | None,
    keyring: str | None,
    *,
    recorder: bool,
) -> Site:
    """The site that the options of connection name. ConfigError says which is missing."""
    from meter_batch_engine.errors import ConfigError

    try:
        import meter_batch_analytics
        from meter_batch_analytics.sources.http import token_of
    except ImportError as error:
        raise ConfigError(
            f"history needs the analytics part ({error.name} is missing): install its dependencies"
        ) from error
    if url is not None and token_file is None:
        raise ConfigError("--url needs --token-file: a file with a long-lived access token, from your profile there")
    if url is None and archive is None:
        raise ConfigError("say where history is: --url with --token-file, or --archive")
    token = None if token_file is None else token_of(token_file)
    keys = keys_of(key_file, keyring)
    return meter_batch_analytics.open(url, token, archive, keys=keys, recorder=recorder)


def keys_of(key_file: Path | None, keyring: str | None) -> KeyProvider | None:
    """Where the key of an encrypted archive is; None for one that is not."""
    from meter_batch_analytics.archive.keys import KeyFile, KeyRing

    if key_file is not None:
        return KeyFile(key_file)
    return None if keyring is None else KeyRing(keyring)


def _begun(tables: Iterator[Any]) -> Iterator[Any]:
    from itertools import chain

    from meter_batch_analytics.errors import SourceError

    first = next((table for table in tables if table.num_rows), None)
    if first is None:
        raise SourceError("nothing is known of this period")
    return chain([first], tables)


def _progress() -> Any:
    if not sys.stderr.isatty():
        return nullcontext(lambda _: None)
    from rich.console import Console
    from rich.progress import Progress

    class Bar(Progress):
        def __enter__(self) -> Any:
            super().__enter__()
            task = self.add_task("history", total=1.0)
            return lambda share: self.update(task, completed=share)

    return Bar(console=Console(stderr=True), transient=True)
