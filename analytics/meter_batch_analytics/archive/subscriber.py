"""Follows the ledger: takes what changed into the archive, then acknowledges it, for ever or until there is no more.

What is acknowledged is in the archive: the archive's cursor is durable before the ledger hears of it, and hearing of it
is the ledger's permission to forget.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from meter_batch_engine.errors import MeterBatchError
from meter_batch_engine.model.interval import Changes
from meter_batch_engine.wire import RegistrySnapshot

from ..errors import AwayError
from .store import Archive

SUBSCRIBER = "archive"
LIMIT = 10_000
NAMES_S = 3600.0
"""How often points and names are asked for."""
WAIT_S = 60.0
"""Between questions when there is nothing new."""
RETRY_S = (5.0, 15.0, 60.0, 300.0)
"""Waits when Home Assistant is away, one after the other; the last one goes on."""


class Ledger(Protocol):
    """What gives changes: `sources.http.Api`."""

    def changes(self, subscriber: str, limit: int) -> Changes:
        """What is not acknowledged."""

    def registry(self) -> RegistrySnapshot:
        """Points and names."""

    def acknowledge(self, subscriber: str, changes: Changes) -> None:
        """It is safe now."""


@dataclass(slots=True)
class Followed:
    """What was done."""

    rows: int = 0
    batches: int = 0
    compacted: int = 0
    older: int = 0
    """Batches older than what was here: the ledger was brought back from a backup."""


def follow(
    archive: Archive,
    ledger: Ledger,
    *,
    subscriber: str = SUBSCRIBER,
    limit: int = LIMIT,
    once: bool = False,
    stop: threading.Event | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Followed:
    """Until `stop` is set; with `once` until there is no more, and then AwayError is not waited out.

    Everything else than AwayError ends it: a wrong token or a full disk needs a person.
    """
    stop = stop or threading.Event()
    done = Followed()
    names: float | None = None
    while not stop.is_set():
        if names is None or time.monotonic() - names >= NAMES_S:
            registry = patiently(ledger.registry, once=once, stop=stop, say=say)
            if registry is not None:
                archive.keep_registry(registry)
                if archive.move(registry.time_zone):
                    say(f"the site's time zone is {registry.time_zone} now: days and months are added up anew")
                    done.compacted += archive.compact()
            names = time.monotonic()
        more = patiently(lambda: _step(archive, ledger, subscriber, limit, done, say), once=once, stop=stop, say=say)
        if more:
            continue
        done.compacted += archive.compact(archive.due(idle=True))
        if once:
            break
        stop.wait(WAIT_S)
    return done


def patiently[T](
    work: Callable[[], T], *, once: bool, stop: threading.Event, say: Callable[[str], None] = lambda _: None
) -> T | None:
    """Tries again while Home Assistant is away, ever more rarely, but not with `once`; None where `stop` was set."""
    failed = 0
    while not stop.is_set():
        try:
            found = work()
        except AwayError as error:
            if once:
                raise
            wait = RETRY_S[min(failed, len(RETRY_S) - 1)]
            failed += 1
            say(f"{error}; next try in {wait:.0f} s")
            stop.wait(wait)
        else:
            if failed:
                say("Home Assistant is back")
            return found
    return None


def _step(
    archive: Archive, ledger: Ledger, subscriber: str, limit: int, done: Followed, say: Callable[[str], None]
) -> bool:
    """Takes and acknowledges one answer; returns whether there is more already."""
    changes = ledger.changes(subscriber, limit)
    before = archive.cursor(subscriber)
    if not changes.intervals and (changes.revision, changes.cursor) == (before.revision, before.cursor):
        return False
    try:
        taken = archive.take(subscriber, changes)
    except MeterBatchError as error:
        say(f"not acknowledged: {error}")
        raise
    ledger.acknowledge(subscriber, changes)
    done.batches += 1
    done.rows += taken.rows
    if taken.older:
        done.older += 1
        say(
            f"the ledger is at revision {changes.revision}, the archive had {before.revision}: "
            "Home Assistant seems to have been brought back from a backup; what it says now counts"
        )
    if taken.rows:
        say(f"revision {changes.revision}: {taken.rows} intervals in {taken.months} months")
    if due := archive.due():
        done.compacted += archive.compact(due)
        say(f"compacted {', '.join(due)}")
    return changes.more
