"""The one way a report comes about: facts → files → the folder of reports."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..session import Session
from ..words import language_of
from .facts import Facts
from .files import FORMATS, known_formats
from .gather import Histories, check, choose, facts
from .kernel import Kernel
from .make import make
from .store import Report, ReportStore
from .story import Voice
from .tariff import Tariff, Tariffs
from .tariff_file import load_tariffs

REPORTS, TARIFFS = "reports", "tariffs"
"""Folders of a data folder."""

_kept: Kernel | None = None


def kept_kernel() -> Kernel:
    """The kernel of this process; it starts with the first report and ends with the process."""
    global _kept
    if _kept is None:
        _kept = Kernel()
        atexit.register(_kept.close)
    return _kept


def run_report(
    session: Session,
    request: Mapping[str, Any],
    *,
    kernel: Kernel | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> Report:
    """Works out what is asked for, makes its files and keeps them in the data folder's `reports/`.

    `request`: `report` ("daily" or "monthly"), `period`; and what may be left out: `points`, `areas`, `lines` (all),
    `formats` (all), `language` (the session's), `tariff` (a name of `tariffs/`; by default each point has its own),
    `schedule` and `keep`, `by`. Errors in words: ConfigError for what is wrong with the request or a tariff file,
    ReportError where it cannot be made. Nothing half-made is kept. `progress` is told how far it is, 0 to 1: read and
    worked out at 0.4.
    """
    progress(0.05)
    formats = known_formats(request.get("formats") or FORMATS)
    language = language_of(request.get("language") or session.language)
    check(session, request["report"], request["period"])
    choose(session.site, request.get("points"), request.get("areas"), request.get("lines"))
    tariff = _tariff(session.data / TARIFFS, request.get("tariff"))
    said = work_out(session, request, tariff)
    progress(0.4)

    def made(folder: Path) -> Sequence[Path]:
        paths = make(said, language, formats, folder, kernel=kernel or kept_kernel())
        progress(0.95)
        return paths

    return ReportStore(session.data / REPORTS).keep(
        said, title(said, language), language, made,
        schedule=request.get("schedule"), by=request.get("by"), most=request.get("keep"),
    )  # fmt: skip


def work_out(session: Histories, request: Mapping[str, Any], tariff: Tariff | Tariffs | None) -> Facts:
    """The facts that a request asks for."""
    points = choose(session.site, request.get("points"), request.get("areas"), request.get("lines"))
    return facts(session, request["report"], request["period"], points, tariff)


def title(said: Facts, language: str) -> str:
    """A report's title: what it is, and of which period."""
    voice = Voice(said, language)
    return f"{voice.what} · {voice.period}"


def _tariff(folder: Path, name: str | None) -> Tariff | Tariffs:
    tariffs = load_tariffs(folder)
    return tariffs if name is None else tariffs.named_so(name)
