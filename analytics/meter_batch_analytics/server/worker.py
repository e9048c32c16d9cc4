"""The process that makes reports: a request a line on stdin, what came of it a line on stdout; ends with its stdin."""

from __future__ import annotations

import json
import logging
import signal
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from meter_batch_engine.errors import ConfigError, MeterBatchError

from ..archive.keys import KeyProvider
from ..report.run import run_report
from ..session import OWNER, Identity, Session, open_data
from ..words import language_of

_LOGGER = logging.getLogger(__name__)


def work(data: Path, archive: Path | None, keys: KeyProvider | None) -> int:
    """Until there is no more."""
    # What a notebook or a library prints must not get among our answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")

    def say(id_: str, **what: Any) -> None:
        answers.write(json.dumps({"id": id_, **what}, ensure_ascii=False) + "\n")
        answers.flush()

    def progress(id_: str, done: float) -> None:
        say(id_, progress=done)

    for line in sys.stdin:
        request = json.loads(line)
        id_ = request.pop("id")
        try:
            session = session_for(request, data, archive, keys)
            report = run_report(session, request, progress=partial(progress, id_))
        except MeterBatchError as error:
            say(id_, error=str(error))
        except Exception as error:  # the top of a job: the next one shall be made
            _LOGGER.exception("A report failed")
            say(
                id_, error=f"an error of the program ({type(error).__name__}); the log of the analytics server has more"
            )
        else:
            say(id_, report=report.as_dict())
    return 0


def session_for(request: Mapping[str, Any], data: Path, archive: Path | None, keys: KeyProvider | None) -> Session:
    """For whom a report is made. Without a scope in the request it may speak of nothing: ConfigError."""
    scope = request.get("scope", [])
    identity = Identity(
        str(request.get("by") or OWNER.user), str(request.get("by") or ""), False,
        language_of(request.get("language")), None if scope is None else frozenset(scope),
    )  # fmt: skip
    found = open_data(data, identity, archive=archive, keys=keys)
    if not found.site.points:
        raise ConfigError("there is no meter that this report may speak of")
    return found
