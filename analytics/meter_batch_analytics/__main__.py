"""`meter-batch-analytics`: keeps the archive of a site, proves that it is whole, and serves apps and reports on it."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from meter_batch_engine.errors import ConfigError, MeterBatchError


def main(arguments: Sequence[str] | None = None) -> int:
    """0 done, 1 what was asked for failed, 2 wrong usage."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.work(options))
    except MeterBatchError as error:
        _say(f"meter-batch-analytics: {error}")
        return 2 if isinstance(error, ConfigError) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="meter-batch-analytics",
        description="Keeps the history of a site in an archive, and serves apps and reports. Messages go to stderr.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    archive = commands.add_parser("archive", help="follow the ledger of a Home Assistant into an archive")
    _home_assistant(archive)
    _folder(archive)
    archive.add_argument("--once", action="store_true", help="end when there is no more")
    archive.add_argument("--encrypt", action="store_true", help="make a new archive encrypted, and its key if need be")
    archive.add_argument("--json", action="store_true", help="with --once: what was done as one JSON object")
    archive.set_defaults(work=_archive)
    archive.add_argument("--until-eof", action="store_true", help=argparse.SUPPRESS)
    _server(commands)
    verify = commands.add_parser("verify", help="prove that an archive is whole: checksums, order, sums")
    _folder(verify)
    verify.add_argument("--json", action="store_true", help="one JSON object")
    verify.set_defaults(work=_verify)
    compact = commands.add_parser(
        "compact", help="compact all months now, and bring files of an older version up to date"
    )
    _folder(compact)
    compact.set_defaults(work=_compact)
    return parser


def _server(commands: Any) -> None:
    serve = commands.add_parser("serve", help="the analytics server: archive, apps and reports, by Home Assistant")
    _home_assistant(serve)
    serve.add_argument("--data", required=True, type=Path, metavar="DIR", help="the folder in which all of it is kept")
    serve.add_argument("--listen", default="127.0.0.1:8130", metavar="HOST:PORT", help="default: 127.0.0.1:8130")
    serve.add_argument("--address", metavar="URL", help="how Home Assistant and browsers reach it, if not as --listen")
    serve.add_argument("--sign-in", metavar="URL", help="how browsers reach Home Assistant, if not as --url")
    serve.add_argument("--kernels", type=int, metavar="N", help="most sessions at a time; default: by the memory")
    serve.add_argument("--notebooks", type=Path, metavar="DIR", help=argparse.SUPPRESS)
    _folder(serve, required=False)
    serve.set_defaults(work=_serve)
    forget = commands.add_parser("forget", help="Home Assistant unlearns the analytics server")
    _home_assistant(forget)
    forget.set_defaults(work=_forget)
    lab = commands.add_parser("lab", help="JupyterLab on the apps' notebooks, for whoever may read the folder")
    lab.add_argument("--data", required=True, type=Path, metavar="DIR", help="the folder of the server")
    lab.add_argument("--port", type=int, default=8888, help="default: 8888")
    lab.add_argument("--no-browser", action="store_true", help="do not open a browser")
    _folder(lab, required=False)
    lab.set_defaults(work=_lab)
    worker = commands.add_parser("report-worker")
    worker.add_argument("--data", required=True, type=Path)
    _folder(worker, required=False)
    worker.set_defaults(work=_worker)


def _home_assistant(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", required=True, help="Home Assistant, for example http://homeassistant.local:8123")
    parser.add_argument("--token-file", required=True, type=Path, help="file with an administrator's long-lived token")
    parser.add_argument("--ca", type=Path, metavar="FILE", help="its certificate authority, where that is your own")


def _folder(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    more = "the folder of the archive" if required else "the folder of the archive, if not DIR/archive"
    parser.add_argument("--archive", required=required, type=Path, metavar="DIR", help=more)
    parser.add_argument("--key-file", type=Path, help="the key of an encrypted archive, in a file only you may read")
    parser.add_argument("--keyring", metavar="NAME", help="the key of an encrypted archive, in the system's keyring")


def _keys(options: argparse.Namespace) -> Any:
    from .archive.keys import KeyFile, KeyRing

    if options.key_file is not None and options.keyring is not None:
        raise ConfigError("a key is in a file or in the keyring: leave --key-file or --keyring out")
    if options.key_file is None and options.keyring is None:
        return None
    return KeyFile(options.key_file) if options.key_file is not None else KeyRing(options.keyring)


def _has(keys: Any) -> bool:
    path = getattr(keys, "path", None)
    if path is not None:
        return bool(path.exists())
    try:
        keys.key()
    except MeterBatchError:
        return False
    return True


def _archive(options: argparse.Namespace) -> int:
    from .archive.store import Archive
    from .archive.subscriber import SUBSCRIBER, follow, patiently
    from .sources.http import Api, token_of, trust

    trust(options.ca)
    api = Api(options.url, token_of(options.token_file))
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    if options.until_eof:
        # As the child of a server: it ends with the server, however that ended.
        threading.Thread(target=_end_with_stdin, args=(stop,), daemon=True).start()
    keys = _keys(options)
    if keys is None and options.encrypt:
        raise ConfigError("--encrypt needs a place for the key: --key-file or --keyring")
    zone = None
    if not (options.archive / "manifest.json").exists():

        def ask() -> str:
            # Before a key or a folder is made: the token must be allowed to follow, the archive needs the time zone.
            api.changes(SUBSCRIBER, 1)
            return api.registry().time_zone

        if options.archive.exists() and not options.archive.is_dir():
            raise ConfigError(f"{options.archive} is a file: an archive is a folder")
        zone = patiently(ask, once=options.once, stop=stop, say=_say)
        if zone is None:
            return 0
        if options.encrypt and not _has(keys):
            keys.create()
            _say("a new key was made: keep a copy of it elsewhere; without it nothing can be read")
    with Archive(options.archive, time_zone=zone, keys=keys, writing=True) as archive:
        done = follow(archive, api, once=options.once, stop=stop, say=_say)
    if options.json:
        sys.stdout.write(json.dumps(asdict(done)) + "\n")
    return 0


def _serve(options: argparse.Namespace) -> int:
    from .sources.http import trust

    trust(options.ca)
    from .server.settings import Settings, kernels_for, listening, memory_gb, notebooks_folder, origin_of

    host, port = listening(options.listen)
    if options.kernels is not None and not 1 <= options.kernels <= 500:
        raise ConfigError("--kernels is a number from 1 to 500")
    settings = Settings(
        url=origin_of(options.url, "--url"),
        token_file=options.token_file,
        data=options.data,
        host=host,
        port=port,
        address=None if options.address is None else origin_of(options.address, "--address"),
        sign_in=None if options.sign_in is None else origin_of(options.sign_in, "--sign-in"),
        kernels=options.kernels or kernels_for(memory_gb()),
        archive=options.archive,
        key_file=options.key_file,
        keyring=options.keyring,
        notebooks=options.notebooks or notebooks_folder(),
    )
    _keys(options)
    from .server.serve import log_to_stderr, serve

    log_to_stderr()
    code = serve(settings, lambda address: print(f"ready: {address}", flush=True))  # noqa: T201
    logging.shutdown()
    # All is closed and every child has ended; taking the libraries of the kernels apart would take five seconds more.
    os._exit(code)


def _forget(options: argparse.Namespace) -> int:
    from .sources.http import Api, token_of, trust

    trust(options.ca)
    Api(options.url, token_of(options.token_file)).ask("DELETE", "analytics_server")
    _say("Home Assistant does not know an analytics server any more")
    return 0


def _lab(options: argparse.Namespace) -> int:
    from .server.lab import start

    return start(options.data, options.archive, options.key_file, options.keyring, options.port, not options.no_browser)


def _worker(options: argparse.Namespace) -> int:
    from .server.worker import work

    return work(options.data, options.archive, _keys(options))


def _end_with_stdin(stop: threading.Event) -> None:
    sys.stdin.read()
    stop.set()


def _verify(options: argparse.Namespace) -> int:
    from .archive.store import Archive
    from .archive.verify import verify

    archive = Archive(options.archive, keys=_keys(options))
    verdict = verify(archive, lambda name: _say(f"{name} …"))
    if options.json:
        sys.stdout.write(json.dumps({"ok": verdict.ok, **asdict(verdict)}) + "\n")
    else:
        for one in verdict.named:
            sys.stdout.write(one + "\n")
        found = "whole" if verdict.ok else f"{verdict.failures} failures"
        sys.stdout.write(
            f"{found}: {verdict.files} files, {verdict.rows} rows, {verdict.roll_ups} sums worked out anew\n"
        )
    return 0 if verdict.ok else 1


def _compact(options: argparse.Namespace) -> int:
    from .archive.store import Archive

    with Archive(options.archive, keys=_keys(options), writing=True) as archive:
        migrated, compacted = archive.migrate(), archive.compact()
    _say(f"{compacted} months compacted, {migrated} brought up to date")
    return 0


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
