"""A Home Assistant whose databases another process locks, and what is seen of it through its public doors.

Instants `…_at` are seconds of the system's monotonic clock, as on the wire; others are aware UTC.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from demo.home import Home, HomeError

from .hosted import add_line, home_assistant

SETTINGS = {
    # More than the line can carry, so that it is never idle.
    "fast_s": 1,
    "slow_s": 10,
    "interval_min": "1",
    "detail": "standard",
    "entity_statistics": False,
    # What is lost must not come back from elsewhere.
    "backfill": False,
}
ASK_S = 0.05
SETTLED_S = 10.0
"""So long after the start or the end of a stall the line is not measured."""
LATEST = timedelta(seconds=25)
"""What is older than this at the end of a stall was to be written in it."""
PATIENCE_S = 400.0
NEAR_KWH = 1e-6
QUIET = range(30, 55)
"""Seconds of a minute in which nothing new is written."""
MINUTE = timedelta(minutes=1)

type Hours = dict[tuple[str, datetime], float]


@dataclass(frozen=True)
class Watch:
    """How a while went: the smallest of questions to Home Assistant took so long."""

    since_at: float
    until_at: float
    p99_s: float


@dataclass(frozen=True)
class Stall:
    """A stall and what was there after it; `caught_up_s` is None where patience ended first."""

    what: str
    before: Watch
    during: Watch
    since: datetime
    """The first boundary that counts, and the last."""
    until: datetime
    caught_up_s: float | None
    hours: int
    wrong_hours: int
    """Of these, how many the statistics miss or have otherwise than the ledger."""
    points: dict[str, str]
    """Names by id."""


async def run(folder: Path, port: int, meters: int, before_s: float, stall_s: float) -> list[Stall]:
    """First the recorder's database while all runs, then the ledger's file while Home Assistant starts."""
    async with home_assistant(folder) as home:
        await add_line(home, port, "modbus-rtu", meters, SETTINGS)
        await asyncio.sleep(SETTLED_S)
        since = next_minute()
        before = await watch(home, before_s)
        with locked(folder / "home-assistant_v2.db"):
            during = await watch(home, stall_s)
            await check_held(home, since)
        first = await after(home, "recorder", since, before, during)
    with ExitStack() as lock:
        lock.enter_context(locked(folder / ".storage" / "meter_batch.ledger.db"))
        async with home_assistant(folder) as home:
            await asyncio.sleep(SETTLED_S)
            since = next_minute()
            during = await watch(home, stall_s)
            await check_held(home, since)
            lock.close()
            return [first, await after(home, "ledger", since, before, during)]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Nobody else can write the database."""
    other = sqlite3.connect(path, isolation_level=None, timeout=30)
    other.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


def next_minute() -> datetime:
    """The next boundary."""
    return datetime.now(UTC).replace(second=0, microsecond=0) + MINUTE


def due_now() -> datetime:
    """The newest boundary that was to be written by now."""
    return (datetime.now(UTC) - LATEST).replace(second=0, microsecond=0)


async def watch(home: Home, seconds: float) -> Watch:
    """Asks again and again for a while; what is late counts from the instant at which it was due."""
    since = due = time.monotonic()
    lags = []
    while due < since + seconds:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        await home.ask("auth/current_user")
        lags.append(time.monotonic() - due)
        due += ASK_S
    return Watch(since, time.monotonic(), sorted(lags)[int(len(lags) * 0.99)])


async def check_held(home: Home, since: datetime) -> None:
    """RuntimeError where the lock hindered nobody, and this would prove nothing."""
    wanted = await _consumed(home, since, due_now())
    if wanted is not None and _reached(await statistics(home, list(wanted), since), wanted):
        raise RuntimeError("the statistics were written in spite of the lock")


async def after(home: Home, what: str, since: datetime, before: Watch, during: Watch) -> Stall:
    """What is there after a stall that has just ended, and when."""
    ended = time.monotonic()
    upto = due_now()
    wanted: dict[str, float] | None = None
    caught_up_s = None
    while caught_up_s is None and time.monotonic() < ended + PATIENCE_S:
        await asyncio.sleep(0.5)
        if wanted is None:
            wanted = await _consumed(home, since, upto)
        elif _reached(await statistics(home, list(wanted), since), wanted):
            caught_up_s = time.monotonic() - ended
    wrong, hours = await _differing(home, since)
    points = await home.ask("meter_batch/points/list")
    names = {id_: one["name"] for id_, one in points["points"].items()}
    return Stall(what, before, during, since, upto, caught_up_s, hours, wrong, names)


def _text(at: datetime) -> str:
    return at.isoformat(timespec="seconds")


async def _consumed(home: Home, since: datetime, upto: datetime) -> dict[str, float] | None:
    """By point, energy of the hours that hold the stall, up to an instant; None until the ledger has all of it."""
    try:
        points = await history(home, since, upto, "interval")
    except HomeError:
        return None
    found = {}
    for id_, one in points.items():
        if not one["rows"] or datetime.fromisoformat(one["rows"][-1]["end"]) < upto:
            return None
        found[id_] = sum(row["energy_import"] for row in one["rows"])
    return found


def _reached(statistics: Hours, wanted: dict[str, float]) -> bool:
    there = dict.fromkeys(wanted, 0.0)
    for (id_, _), energy in statistics.items():
        there[id_] += energy
    return all(there[id_] > energy - NEAR_KWH for id_, energy in wanted.items())


async def _differing(home: Home, since: datetime) -> tuple[int, int]:
    """How many hours of how many the statistics miss, or have otherwise than the ledger; when nothing is under way."""
    until = time.monotonic() + 60
    while True:
        while datetime.now(UTC).second not in QUIET:  # noqa: ASYNC110
            await asyncio.sleep(0.5)
        points = await history(home, since, next_minute(), "hour")
        ledger: Hours = {
            (id_, datetime.fromisoformat(row["start"])): row["energy_import"]
            for id_, one in points.items()
            for row in one["rows"]
        }
        recorder = await statistics(home, list(points), since)
        wrong = sum(abs(recorder.get(key, -1.0) - energy) > NEAR_KWH for key, energy in ledger.items())
        wrong += len(recorder.keys() - ledger.keys())
        if not wrong or time.monotonic() > until:
            return wrong, len(ledger)
        await asyncio.sleep(1)


async def history(home: Home, since: datetime, until: datetime, resolution: str) -> dict[str, Any]:
    """By point, the ledger's rows from the beginning of an hour on."""
    asked = {"since": _text(_hour(since)), "until": _text(until), "time_zone": "UTC", "resolution": resolution}
    points: dict[str, Any] = (await home.ask("meter_batch/history", **asked))["points"]
    return points


async def statistics(home: Home, points: list[str], since: datetime) -> Hours:
    """Energies of the hours from that of an instant on, as the Energy dashboard has them."""
    ids = {f"meter_batch:{id_}_energy_import": id_ for id_ in points}
    answer = await home.ask(
        "recorder/statistics_during_period",
        start_time=_text(_hour(since)),
        statistic_ids=list(ids),
        period="hour",
        types=["change"],
    )
    return {
        (ids[id_], datetime.fromtimestamp(row["start"] / 1000, UTC)): row["change"] or 0.0
        for id_, rows in answer.items()
        for row in rows
    }


def _hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)
