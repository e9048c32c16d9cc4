"""`meter-batch report`: a daily or monthly report of energy and cost, as PDF, XLSX and HTML."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .connection import ArchiveFolder, Authority, KeyFile, KeyRing, Recorder, TokenFile, Url

if TYPE_CHECKING:
    from meter_batch_analytics.report.facts import Facts
    from meter_batch_analytics.report.tariff import Tariff, Tariffs
    from meter_batch_analytics.session import Identity, Session
    from meter_batch_analytics.site import Site

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


class Kind(StrEnum):
    """Which report."""

    DAILY = "daily"
    MONTHLY = "monthly"


@app.command()
def report(
    kind: Annotated[Kind, typer.Argument(help="Of a day or of a month.")],
    period: Annotated[
        str, typer.Option("--period", metavar="P", help="2026-10 of a month; 2026-10-05, yesterday of a day; last.")
    ] = "last",
    formats: Annotated[
        list[str] | None, typer.Option("--format", metavar="F", help="pdf, xlsx, html; several with commas.")
    ] = None,
    language: Annotated[str, typer.Option("--lang", metavar="L", help="en or zh.")] = "en",
    points: Annotated[
        list[str] | None, typer.Option("--points", metavar="NAME", help="A meter by id or name; may be repeated.")
    ] = None,
    area: Annotated[list[str] | None, typer.Option("--area", help="All meters of an area; may be repeated.")] = None,
    line: Annotated[list[str] | None, typer.Option("--line", help="All meters of a line; may be repeated.")] = None,
    tariff: Annotated[
        Path | None,
        typer.Option("--tariff", metavar="FILE", help="A tariff for all meters. Default: those of DIR/tariffs."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="DIR", help="Where files go. Default: the reports of --data, else here."),
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", metavar="DIR", help="An analytics server's folder.")] = None,
    url: Url = None,
    token_file: TokenFile = None,
    authority: Authority = None,
    archive: ArchiveFolder = None,
    key_file: KeyFile = None,
    keyring: KeyRing = None,
    recorder: Recorder = True,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object: files, key figures, all facts.")] = False,
) -> None:
    """Make a report of energy and cost, from an analytics server's folder, an archive or a Home Assistant.

    The paths of the files go to stdout. With --data and without --output they are kept among the reports of that
    folder, where the analytics server shows them.

    [bold]Examples[/bold]

      meter-batch report monthly --data /srv/meter-batch --period 2026-10 --format pdf,xlsx --lang zh

      meter-batch report daily --archive /srv/archive --period yesterday --area Workshop --tariff tariff.toml

      meter-batch report monthly --url http://homeassistant.local:8123 --token-file token --output reports --json
    """
    from meter_batch_analytics.sources.http import trust

    wanted = _Wanted(kind.value, period, _formats(formats), _language(language), points, area, line)
    trust(authority)
    session = _session(data, url, token_file, archive, key_file, keyring, recorder=recorder)
    _check(session, wanted)
    tariffs = _tariff(tariff, data)
    said = _facts(session, wanted, tariffs)
    for problem in getattr(tariffs, "broken", {}).values():
        # It begins with the name of the file, without its folder.
        typer.echo(f"meter-batch: {data}/tariffs/{problem}", err=True)
    if output is None and data is not None:
        found = _kept(said, wanted, data, session)
    else:
        found = _made(said, wanted, output or Path())
    if as_json:
        typer.echo(json.dumps(found | {"facts": said.as_dict()}, ensure_ascii=False))
    else:
        for one in found["files"]:
            typer.echo(one["path"])


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What was asked for."""

    kind: str
    period: str
    formats: list[str]
    language: str
    points: Sequence[str] | None
    areas: Sequence[str] | None
    lines: Sequence[str] | None


@dataclass(frozen=True, slots=True)
class _Session:
    """A session without a data folder: of a Home Assistant, perhaps with an archive."""

    site: Site
    identity: Identity
    ask: Callable[..., Any]

    def now(self) -> datetime:
        return datetime.now(UTC)

    def alarms(self, since: datetime, until: datetime) -> Sequence[Any]:
        from meter_batch_engine.wire import decode_findings

        found, _ = decode_findings(
            self.ask("GET", "alarms", query={"since": since.isoformat(), "until": until.isoformat()})
        )
        return [one for one in found if one.since < until and (one.until is None or one.until > since)]


def _session(
    data: Path | None,
    url: str | None,
    token_file: Path | None,
    archive: Path | None,
    key_file: Path | None,
    keyring: str | None,
    *,
    recorder: bool,
) -> Session | _Session:
    from meter_batch_engine.errors import ConfigError

    from .history import keys_of, site_of

    if data is not None and url is not None:
        raise ConfigError("--data is a folder that has everything, and --url asks Home Assistant: write one of them")
    if data is None and url is None and archive is None:
        raise ConfigError("say where history is: --data, --archive, or --url with --token-file")
    if url is not None:
        site = site_of(url, token_file, archive, key_file, keyring, recorder=recorder)
        from meter_batch_analytics.session import OWNER
        from meter_batch_analytics.sources.http import Api, token_of

        assert token_file is not None  # without it there is no site
        return _Session(site, OWNER, Api(url, token_of(token_file)).ask)
    try:
        from meter_batch_analytics.session import open_data
    except ImportError as error:
        raise ConfigError(
            f"a report needs the analytics part ({error.name} is missing): install its dependencies"
        ) from error
    # Of an archive alone there is neither registry of today nor alarms.
    folder = data or archive
    assert folder is not None
    return open_data(folder, archive=archive, keys=keys_of(key_file, keyring))


def _check(session: Session | _Session, wanted: _Wanted) -> None:
    """What was written on the command line is checked before any file of a tariff."""
    from meter_batch_analytics.report.gather import check, choose

    check(session, wanted.kind, wanted.period)
    choose(session.site, wanted.points, wanted.areas, wanted.lines)


def _facts(session: Session | _Session, wanted: _Wanted, tariff: Tariff | Tariffs | None) -> Facts:
    from meter_batch_analytics.errors import SourceError
    from meter_batch_analytics.report.gather import choose, facts

    chosen = choose(session.site, wanted.points, wanted.areas, wanted.lines)
    said = facts(session, wanted.kind, wanted.period, chosen, tariff)
    if all(one.kwh is None for one in said.points):
        raise SourceError(f"nothing is known of {said.period}: there is no report")
    return said


def _tariff(file: Path | None, data: Path | None) -> Tariff | Tariffs | None:
    from meter_batch_analytics.report.tariff_file import load_tariff, load_tariffs

    if file is not None:
        return load_tariff(file)
    return None if data is None else load_tariffs(data / "tariffs")


def _made(said: Facts, wanted: _Wanted, folder: Path) -> dict[str, Any]:
    from meter_batch_analytics.archive.durable import sha256
    from meter_batch_analytics.report.make import make
    from meter_batch_analytics.report.store import figures

    paths = make(said, wanted.language, wanted.formats, folder)
    files = [
        {"path": str(one), "format": one.suffix[1:], "size": one.stat().st_size, "sha256": sha256(one)}
        for one in paths
    ]  # fmt: skip
    return _told(said, wanted, files) | figures(said)


def _kept(said: Facts, wanted: _Wanted, data: Path, session: Any) -> dict[str, Any]:
    from meter_batch_analytics.report.make import make
    from meter_batch_analytics.report.run import REPORTS, title
    from meter_batch_analytics.report.store import ReportStore

    store = ReportStore(data / REPORTS)
    report = store.keep(
        said,
        title(said, wanted.language),
        wanted.language,
        lambda folder: make(said, wanted.language, wanted.formats, folder),
        by=session.identity.name or None,
    )
    files = [
        {"path": str(store.path(report.id, one.name)), "format": one.format, "size": one.size, "sha256": one.sha256}
        for one in report.files
    ]
    return {"id": report.id} | _told(said, wanted, files) | dict(report.facts)


def _told(said: Facts, wanted: _Wanted, files: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "kind": said.kind, "period": said.period, "language": wanted.language, "files": files,
        "completeness": said.completeness,
    }  # fmt: skip


def _formats(texts: Sequence[str] | None) -> list[str]:
    from meter_batch_engine.errors import ConfigError

    known = ("pdf", "xlsx", "html")
    found = [part.strip().lower() for text in texts or ("pdf",) for part in text.split(",") if part.strip()]
    for one in found:
        if one not in known:
            raise ConfigError(f'"{one}" is no format of a report; there are {", ".join(known)}')
    if not found:
        raise ConfigError("--format needs one of pdf, xlsx, html")
    return list(dict.fromkeys(found))


def _language(text: str) -> str:
    from meter_batch_engine.errors import ConfigError

    if text.replace("_", "-").lower().split("-")[0] not in ("en", "zh"):
        raise ConfigError(f'"{text}" is no language of a report; there are en and zh')
    return "zh-Hans" if text.lower().startswith("zh") else "en"
