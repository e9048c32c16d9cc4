"""When reports are due: a pure plan with the time as an argument, its small state, and the file that people write.

Local times of the site. A time that clocks skip fires once, as much later as they skip; one that comes twice fires the
first time. What fell into an outage is caught up once: of each schedule the newest missed run (`catch_up`: how many,
newest, at most 12), for the period it would have had, oldest first; older ones are left. A run that fails is tried
again after `WAITS_S`; then it is given up. A run that ends with the process counts as failed; one that is still tried
when the next is due makes way for it (where `catch_up` is 1).

For whoever carries it out: `plan = folder.look()`; for each run of `plan.due(now)` that is not under way `plan.begin`,
`folder.save()`, make `plan.requests(run)`, then `plan.done` or `plan.failed` (True, or None from `begin`: tell that it
failed) and `folder.save()`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

from meter_batch_engine.errors import ConfigError

from ..archive import durable
from ..report.facts import Kind
from ..report.period import kind_of, period_of
from ..report.toml_table import Table, load_table
from ..words import language_of

FILE, STATE = "schedules.toml", "schedules-state.json"
FORMATS = ("pdf", "xlsx", "html")
WAITS_S = (60.0, 600.0, 3600.0)
"""Between the tries of a run; after the last of them it has failed."""
LONGEST_OUTAGE = timedelta(days=400)
MOST_CAUGHT_UP = 12
_ONE = timedelta(days=1)
_NAME = re.compile(r"[^\x00-\x1f]{1,80}")
_AT = re.compile(r"(\d\d?):(\d\d)")


@dataclass(frozen=True, slots=True)
class Schedule:
    """A report that is made again and again."""

    name: str
    report: Kind
    at: time
    on: int | Literal["daily", "last"]
    """Every day, the last day of the month, or a day of the month (in a shorter month its last)."""
    languages: tuple[str, ...]
    formats: tuple[str, ...]
    points: tuple[str, ...] | None = None
    areas: tuple[str, ...] | None = None
    lines: tuple[str, ...] | None = None
    tariff: str | None = None
    keep: int = 400
    """So many reports of each language stay."""
    catch_up: int = 1
    enabled: bool = True

    def fires(self, after: datetime, until: datetime, zone: ZoneInfo) -> list[datetime]:
        """The instants (UTC) in `(after, until]` at which it is due."""
        found = set()
        day = after.astimezone(zone).date() - _ONE
        while day <= until.astimezone(zone).date() + _ONE:
            if self._is_on(day):
                found.add(datetime.combine(day, self.at, zone).astimezone(UTC))
            day += _ONE
        return sorted(one for one in found if after < one <= until)

    def next(self, after: datetime, zone: ZoneInfo) -> datetime:
        """The first instant after one at which it is due."""
        return self.fires(after, after + timedelta(days=32 + 2), zone)[0]

    def _is_on(self, day: date) -> bool:
        if self.on == "daily":
            return True
        last = (day + _ONE).month != day.month
        return last if self.on == "last" else day.day == self.on or (last and day.day < self.on)


@dataclass(frozen=True, slots=True)
class Run:
    """One time that a schedule is due."""

    schedule: str
    fire: datetime
    """When it was due."""
    tries: int = 0
    """How often it was begun."""
    next_at: datetime | None = None
    """Not before; None: at once."""


@dataclass(frozen=True, slots=True)
class State:
    """What a plan must remember: until when each schedule was looked at, and runs that are not done."""

    seen: Mapping[str, datetime] = field(default_factory=dict)
    runs: tuple[Run, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "seen": {name: at.isoformat() for name, at in self.seen.items()},
            "runs": [
                {
                    "schedule": one.schedule, "fire": one.fire.isoformat(), "tries": one.tries,
                    "next_at": None if one.next_at is None else one.next_at.isoformat(),
                }
                for one in self.runs
            ],
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Any) -> State:
        """The inverse. KeyError, TypeError or ValueError for anything else."""
        return cls(
            {str(name): datetime.fromisoformat(at) for name, at in data["seen"].items()},
            tuple(
                Run(
                    one["schedule"], datetime.fromisoformat(one["fire"]), int(one["tries"]),
                    None if one["next_at"] is None else datetime.fromisoformat(one["next_at"]),
                )
                for one in data["runs"]
            ),
        )  # fmt: skip


class Plan:
    """What is due. After each call `state` is what has to be kept."""

    def __init__(self, schedules: Sequence[Schedule], zone: ZoneInfo, state: State | None = None) -> None:
        self.zone, self.state = zone, state or State()
        self.schedules: dict[str, Schedule] = {}
        self.set_schedules(schedules)

    def set_schedules(self, schedules: Sequence[Schedule]) -> None:
        """Others from now on; of those that are gone or switched off nothing is remembered."""
        self.schedules = {one.name: one for one in schedules if one.enabled}
        self.state = State(
            {name: at for name, at in self.state.seen.items() if name in self.schedules},
            tuple(one for one in self.state.runs if one.schedule in self.schedules),
        )

    def due(self, now: datetime) -> list[Run]:
        """The runs that are to be begun now, oldest first. A schedule that is new is due from now on."""
        seen, runs = dict(self.state.seen), list(self.state.runs)
        for name, schedule in self.schedules.items():
            last = seen.get(name, now)
            if last > now + _ONE:
                # Somebody's clock was far ahead; waiting until then would be for ever.
                last = now
            if last <= now:
                missed = schedule.fires(max(last, now - LONGEST_OUTAGE), now, self.zone)
                runs += [Run(name, fire) for fire in missed]
                seen[name] = now
            else:
                seen[name] = last
            mine = sorted((one for one in runs if one.schedule == name), key=lambda one: one.fire)
            dropped = mine[: -schedule.catch_up]
            runs = [one for one in runs if one not in dropped]
        self.state = State(seen, tuple(sorted(runs, key=lambda one: (one.fire, one.schedule))))
        return [one for one in self.state.runs if one.next_at is None or one.next_at <= now]

    def begin(self, run: Run, now: datetime) -> Run | None:
        """Counts a try, so that it is not begun again at once, not even after a crash. None where it was given up:
        its last try ended with the process.
        """
        if run.tries > len(WAITS_S):
            self._put(run, None)
            return None
        wait = WAITS_S[run.tries] if run.tries < len(WAITS_S) else WAITS_S[-1]
        begun = replace(run, tries=run.tries + 1, next_at=now + timedelta(seconds=wait))
        self._put(run, begun)
        return begun

    def done(self, run: Run) -> None:
        """It was made."""
        self._put(run, None)

    def failed(self, run: Run, now: datetime) -> bool:
        """It was not made. True: that was its last try."""
        if run.tries > len(WAITS_S):
            self._put(run, None)
            return True
        self._put(run, replace(run, next_at=now + timedelta(seconds=WAITS_S[run.tries - 1])))
        return False

    def period(self, run: Run) -> str:
        """The period that it reports: the day or month before the local day on which it was due."""
        return period_of(self.schedules[run.schedule].report, "last", run.fire, self.zone).label

    def requests(self, run: Run) -> list[dict[str, Any]]:
        """What is to be made for it: a request a language."""
        one = self.schedules[run.schedule]
        return [
            {
                "kind": "report", "report": one.report, "period": self.period(run), "language": language,
                "formats": list(one.formats), "points": _list(one.points), "areas": _list(one.areas),
                "lines": _list(one.lines), "tariff": one.tariff, "scope": None, "by": None, "schedule": one.name,
                "keep": one.keep,
            }
            for language in one.languages
        ]  # fmt: skip

    def as_list(self, now: datetime) -> list[dict[str, Any]]:
        """For people: each schedule with the next time it is due and what is being tried again."""
        found = []
        for one in self.schedules.values():
            runs = [run for run in self.state.runs if run.schedule == one.name]
            found.append({
                "name": one.name, "report": one.report, "at": f"{one.at:%H:%M}", "on": one.on,
                "languages": list(one.languages), "formats": list(one.formats),
                "next": one.next(now, self.zone).astimezone(self.zone).isoformat(),
                "trying": [{"period": self.period(run), "tries": run.tries} for run in runs],
            })  # fmt: skip
        return found

    def _put(self, old: Run, new: Run | None) -> None:
        """Replaces the run of that schedule and time."""
        kept = [one for one in self.state.runs if (one.schedule, one.fire) != (old.schedule, old.fire)]
        there = len(kept) < len(self.state.runs)
        if new is not None and there:
            kept.append(new)
        self.state = replace(self.state, runs=tuple(sorted(kept, key=lambda one: (one.fire, one.schedule))))


class ScheduleFolder:
    """The plan of a data folder: follows `schedules.toml`, keeps the state. A file that is wrong is said, and what was
    in force stays in force.
    """

    def __init__(self, data: Path, zone: ZoneInfo) -> None:
        self._file, self._state = data / FILE, data / STATE
        self._stamp: tuple[int, int, int] | Literal["never"] | None = "never"
        self.problem: str | None = None
        """What is wrong with the file, in words."""
        self._kept = _state(self._state)
        self.plan = Plan((), zone)
        self._first = True

    def look(self) -> Plan:
        """The plan by the file as it is now."""
        stamp = _stamp(self._file)
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                schedules = [] if stamp is None else load_schedules(self._file)
            except ConfigError as error:
                self.problem = str(error)
            else:
                self.problem = None
                if self._first:
                    # Only a whole file says what may be forgotten.
                    self.plan.state, self._first = self._kept, False
                self.plan.set_schedules(schedules)
        return self.plan

    def save(self) -> None:
        """Keeps the state, if it is another one. ArchiveError where the disk fails."""
        if self._first or self.plan.state == self._kept:
            return
        data = json.dumps(self.plan.state.as_dict(), ensure_ascii=False).encode()
        with durable.failures(self._state, "what schedules remember"):
            durable.write(self._state, lambda sink: sink.write(data))
        self._kept = self.plan.state


def load_schedules(file: Path) -> list[Schedule]:
    """The schedules of a file. ConfigError names the schedule, the key and what to write."""
    top = load_table(file, "file of schedules")
    found = [_schedule(one) for one in top.tables("schedule")]
    top.done()
    names = [one.name for one in found]
    for name in names:
        if names.count(name) > 1:
            raise top.wrong(None, f'two schedules are called "{name}"; give each a name of its own')
    return found


def _schedule(table: Table) -> Schedule:
    name = table.take("name", '"Month end"', needed=True)
    if not isinstance(name, str) or not _NAME.fullmatch(name.strip()):
        raise table.wrong("name", f'is {name!r} and must be a short text; write name = "Month end"')
    table.place = f'[[schedule]] "{name.strip()}"'
    kind = kind_of(table.choice("report", ("daily", "monthly")))
    found = Schedule(
        name.strip(),
        kind,
        _at(table),
        _on(table, kind),
        tuple(dict.fromkeys(_language(table, one) for one in table.texts("languages", '["zh", "en"]') or ["en"])),
        tuple(dict.fromkeys(_format(table, one) for one in table.texts("formats", '["pdf", "xlsx"]') or ["pdf"])),
        _some(table, "points", '["Lathe 3"]'),
        _some(table, "areas", '["Workshop 1"]'),
        _some(table, "lines", '["Line 1"]'),
        _tariff(table),
        _count(table, "keep", 400, 1, 10_000),
        _count(table, "catch_up", 1, 1, MOST_CAUGHT_UP),
        table.flag("enabled", True),
    )
    table.done()
    return found


def _at(table: Table) -> time:
    text = table.take("at", '"07:00"', needed=True)
    match = _AT.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None or int(match[1]) > 23 or int(match[2]) > 59:
        raise table.wrong("at", f'is {text!r} and must be a local time; write at = "07:00"')
    return time(int(match[1]), int(match[2]))


def _on(table: Table, kind: Kind) -> int | Literal["daily", "last"]:
    found = table.take("on", '"daily"' if kind == "daily" else "1")
    if found is None:
        return "daily" if kind == "daily" else 1
    if found in ("daily", "last"):
        if found == "daily" and kind == "monthly":
            raise table.wrong("on", "is daily, and a monthly report is made once a month; write on = 1")
        return found  # type: ignore[no-any-return]
    if type(found) is not int or not 1 <= found <= 31:
        raise table.wrong("on", f'is {found!r} and must be "daily", "last" or a day of the month; write on = 1')
    return found


def _language(table: Table, text: str) -> str:
    if text.lower().split("-")[0] not in ("en", "zh"):
        raise table.wrong("languages", f'has {text!r}; there are en and zh; write languages = ["zh", "en"]')
    return language_of(text)


def _format(table: Table, text: str) -> str:
    if text not in FORMATS:
        raise table.wrong("formats", f"has {text!r}; there are {', '.join(FORMATS)}")
    return text


def _some(table: Table, key: str, example: str) -> tuple[str, ...] | None:
    found = table.texts(key, example)
    return None if found is None else tuple(found)


def _tariff(table: Table) -> str | None:
    found = table.texts("tariff", '"default"')
    if found is not None and len(found) != 1:
        raise table.wrong("tariff", f'is {found!r} and must be the name of one; write tariff = "default"')
    return None if found is None else found[0]


def _count(table: Table, key: str, default: int, least: int, most: int) -> int:
    found = table.take(key, str(default))
    if found is None:
        return default
    if type(found) is not int or not least <= found <= most:
        raise table.wrong(key, f"is {found!r} and must be a number from {least} to {most}; write {key} = {default}")
    return found


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _state(file: Path) -> State:
    """What was kept; nothing where it is not there or damaged: schedules are then due from now on."""
    try:
        return State.from_dict(json.loads(file.read_bytes()))
    except OSError, ValueError, LookupError, TypeError, AttributeError:
        return State()


def _list(values: Sequence[str] | None) -> list[str] | None:
    return None if values is None else list(values)
