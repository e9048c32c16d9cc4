"""What the lines report goes into the ledger: registers at boundaries, who missed them, what meters remember.

Polling never waits for the ledger: registers wait in memory, bounded, while its file cannot be opened or written.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial

from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.helpers.event import async_call_later, async_track_time_interval
from homeassistant.util import dt as dt_util

from .const import CONF_BACKFILL, DOMAIN
from .engine import Flag, LedgerError, Point, PollReport, Reading, Template
from .engine.ledger import Boundary, Ledger, Observer, Restart, boundary_of, restarts_of, swap
from .engine.model.interval import GROSS, IMPORT, GapReason, Hole
from .engine.model.obis import Obis
from .engine.model.quantity import QUANTITIES, Kind
from .ledger import SiteLedger
from .memories import Memories
from .registry import ALWAYS, Change, Registry

_LOGGER = logging.getLogger(__name__)

LATEST = timedelta(seconds=20)
"""What has come for a boundary is written after so long, whoever has not answered yet."""
GRACE = timedelta(minutes=3)
"""A point without registers for a boundary is missed after so long (or most of a shorter interval)."""
TICK = timedelta(seconds=5)
RETRY = timedelta(seconds=30)
"""How often it is tried again while the file cannot be used."""
MOST_WAITING = 200_000
"""Records kept in memory while the file cannot be opened; the ledger keeps as many again while it cannot write."""
MEMORY_REACH = timedelta(days=400)
"""So far back meters are asked for what is missing: days and months go further back than their finest records."""
MEMORY_BATCH = 2_000
"""Records from meters' memories in one go: live registers wait no longer than one such."""
LAST_READING = timedelta(hours=1)
"""How old the last reading of a meter may be to count as its end when another one is put in."""


type SetHoles = Callable[[Mapping[str, Sequence[Hole]]], None]
"""`Poller.set_holes`: what is missing, by point."""


@dataclass(slots=True)
class _Line:
    """What a line owes the ledger."""

    interval: timedelta
    set_holes: SetHoles | None = None
    points: dict[str, datetime] = field(default_factory=dict)
    """Since when each is to be read."""
    connected: bool = True
    silent: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()
    """Points that answered, but not with what can be used."""
    checked: datetime | None = None
    """The newest boundary of which it is known who missed it."""

    def boundary(self, at: datetime) -> datetime:
        """The newest boundary at an instant."""
        return at - (at - ALWAYS) % self.interval


class Intake:
    """Takes what lines report, and gathers the registers of a boundary into one revision of the ledger."""

    def __init__(
        self, hass: HomeAssistant, registry: Registry, templates: Mapping[str, Template], ledger: SiteLedger
    ) -> None:
        self._hass, self._registry, self._templates, self._ledger = hass, registry, templates, ledger
        self._lines: dict[str, _Line] = {}
        self._observers: dict[str, Observer] = {}
        self._ends_of: dict[str, dict[Obis, Decimal]] = {}
        self._waiting: list[Boundary] = []
        self._restarts: list[Restart] = []
        self._shown_at_swap: dict[tuple[str, datetime], tuple[Decimal | None, Decimal | None]] = {}
        self._dropped = 0
        self._got: dict[datetime, set[str]] = {}
        self._memory: deque[Boundary] = deque()
        self.memories = Memories()
        self._telling = 0
        self._look_again: set[str] = set()
        """Points of which something else may be missing once they were read again."""
        self._writing = self._filling = self._stopped = False
        self._timer: CALLBACK_TYPE | None = None
        self._retry_at: datetime | None = None
        self._cancel: list[CALLBACK_TYPE] = []

    async def async_start(self) -> None:
        """Begins: the ledger is opened, or tried again until it is."""
        self._cancel = [
            async_track_time_interval(self._hass, self._tick, TICK, cancel_on_shutdown=True),
            self._registry.async_listen(self._registry_changed),
        ]
        await self._tell_multipliers(self._registry.points.values())

    async def async_stop(self) -> None:
        """Writes what waits; nothing is taken any more."""
        for cancel in self._cancel:
            cancel()
        self._cancel = []
        if self._timer is not None:
            self._timer()
        await self._write()
        self._stopped = True

    # --- lines

    @callback
    def async_line(
        self, line: str, interval: timedelta, points: Collection[str], set_holes: SetHoles | None = None
    ) -> None:
        """Which points a line reads at the boundaries of which interval; what it missed while nobody ran is noted.

        `set_holes` is told what is missing of them, where the meters' memory is to be asked for it.
        """
        now = dt_util.utcnow()
        known = self._lines.get(line)
        new = set(points) - (set() if known is None else known.points.keys())
        missed = None
        if known is None or known.interval != interval:
            known = self._lines[line] = _Line(interval, set_holes)
            missed = known.checked = known.boundary(now)
        known.points = {point: known.points.get(point, now) for point in points}
        # Of a point that is new altogether the first registers come later.
        self._look_again |= new
        if new or missed:
            self._hass.async_create_task(self._begin_line(new, missed), f"{DOMAIN} missed by host")

    async def _begin_line(self, points: Collection[str], missed: datetime | None) -> None:
        if missed is not None:
            await self._miss(points, missed, GapReason.HOST)
        await self._tell_holes(points)

    @callback
    def async_line_gone(self, line: str) -> None:
        """A line is read no longer."""
        if (gone := self._lines.pop(line, None)) is not None:
            self.memories.leave(line, gone.points)

    @callback
    def async_take(self, line: str, report: PollReport, unusable: Container[str] = ()) -> None:
        """Takes what a line reports; `unusable`: points whose registers were multiplied otherwise than is known now."""
        if (owing := self._lines.get(line)) is None:
            return
        owing.connected, owing.silent = report.health.connected, report.silent
        owing.refused = (owing.refused - report.readings.keys()) | {
            key for key, error in report.failed.items() if key in owing.points and key not in report.silent
        }
        for key, readings in report.readings.items():
            if key in owing.points:
                self._observers.setdefault(key, Observer()).note(readings)
                self._restarts += restarts_of(key, readings)
        for key, snapshot in report.snapshots.items():
            if key in owing.points and key in self._registry.points and key not in unusable:
                self._take_boundary(self._registry.points[key], snapshot.boundary, report, key)
        if report.snapshots and self._all_there():
            self._write_soon(timedelta())
        self.memories.note(line, report)
        self._take_memory(owing, report, unusable)

    def _take_boundary(self, point: Point, at: datetime, report: PollReport, key: str) -> None:
        record = boundary_of(
            point,
            report.snapshots[key],
            ends=self._ends(point),
            observed=self._observers.setdefault(key, Observer()).take(),
        )
        if not record.registers:
            return
        if self._got and at > max(self._got):
            self._write_soon(timedelta())
        self._waiting.append(replace(record, meter=identity(point)))
        self._got.setdefault(at, set()).add(key)
        self._write_soon(LATEST)

    def templates_changed(self) -> None:
        """What was derived from the meter models is derived anew."""
        self._ends_of.clear()

    def _ends(self, point: Point) -> dict[Obis, Decimal]:
        """Where the registers of a meter end."""
        if (known := self._ends_of.get(point.meter.template)) is None:
            template = self._templates.get(point.meter.template)
            ends = {} if template is None else {one.obis: template.roll_over(one.obis) for one in template.registers}
            known = {obis: end for obis, end in ends.items() if end is not None}
            self._ends_of[point.meter.template] = known
        return known

    def _all_there(self) -> bool:
        """Whether everybody who can be expected to has answered for the newest boundary."""
        newest = max(self._got, default=None)
        if newest is None:
            return False
        there = self._got[newest]
        return all(
            point in there or since > newest or point in line.silent
            for line in self._lines.values()
            if line.connected and line.boundary(newest) == newest
            for point, since in line.points.items()
        )

    # --- writing

    @callback
    def _write_soon(self, delay: timedelta) -> None:
        if not delay:
            if self._timer is not None:
                self._timer()
                self._timer = None
            self._hass.async_create_task(self._write(), f"{DOMAIN} ledger")
        elif self._timer is None:
            self._timer = async_call_later(self._hass, delay, self._timer_ended)

    @callback
    def _timer_ended(self, _now: datetime) -> None:
        self._timer = None
        self._write_soon(timedelta())

    async def _write(self) -> None:
        """Everything that waits, in one revision; what comes meanwhile, in the next."""
        if self._writing:
            return
        self._writing = True
        try:
            while (self._waiting or self._restarts) and await self._write_once():
                pass
        finally:
            self._writing = False

    async def _write_once(self) -> bool:
        boundaries, restarts = self._waiting, self._restarts
        self._waiting, self._restarts = [], []
        taken = False

        def take(ledger: Ledger) -> None:
            nonlocal taken
            taken = True
            ledger.take(boundaries, restarts)

        try:
            await self._ledger.async_call(take, {one.point for one in boundaries})
        except LedgerError:
            if not taken:
                # The file could not even be opened: it is ours to keep.
                self._waiting[:0], self._restarts[:0] = boundaries, restarts
                if (over := len(self._waiting) - MOST_WAITING) > 0:
                    del self._waiting[:over]
                    self._dropped += over
            return False
        if again := self._look_again & {one.point for one in boundaries}:
            self._look_again -= again
            await self._tell_holes(again)
        return True

    @property
    def busy(self) -> bool:
        """True while registers of a boundary are gathered and written."""
        return self._writing or bool(self._waiting)

    def interval(self, point: str) -> timedelta | None:
        """The length of the intervals at whose boundaries a point is read; None where no line reads it."""
        return next((line.interval for line in self._lines.values() if point in line.points), None)

    def may_come(self, point: str) -> bool:
        """Whether the memory of a point's meter may still give what is missing of it."""
        if self.memories.depths.get(point) == timedelta():
            return False
        lines = ((id_, line) for id_, line in self._lines.items() if point in line.points)
        id_, line = next(lines, ("", None))
        if line is None:
            return self._is_read_later(point)
        if line.set_holes is None:
            return False
        # What the line was told last may not be all any more.
        changing = self._telling or point in self._look_again
        return bool(changing) or self.memories.may_give(id_, point, dt_util.utcnow())

    def _is_read_later(self, point: str) -> bool:
        """Whether the line of a point only does not run yet, and is to ask memories when it does."""
        known = self._registry.points.get(point)
        entries = () if known is None else (self._hass.config_entries.async_get_entry(one.line) for one in known.routes)
        return any(
            entry is not None and entry.disabled_by is None and entry.options.get(CONF_BACKFILL, True)
            for entry in entries
        )

    @property
    def pending(self) -> int:
        """Records that wait in memory because they could not be written."""
        return self._ledger.health.pending + (len(self._waiting) if not self._ledger.open else 0)

    @property
    def dropped(self) -> int:
        """Records that were lost since the start because memory was full too."""
        return self._ledger.health.dropped + self._dropped

    async def _tick(self, now: datetime) -> None:
        if self._ledger.health.problem is None:
            self._retry_at = None
        elif self._retry_at is None or now >= self._retry_at:
            self._retry_at = now + RETRY
            await self._try_again()
        for line in list(self._lines.values()):
            await self._look_for_missed(line, now)
        oldest = now - timedelta(hours=2)
        self._got = {at: points for at, points in self._got.items() if at > oldest}

    async def _try_again(self) -> None:
        try:
            await self._ledger.async_call(Ledger.flush, self._registry.points)
        except LedgerError:
            return
        await self._tell_multipliers(self._registry.points.values())
        await self._write()
        self._fill_soon()

    async def _look_for_missed(self, line: _Line, now: datetime) -> None:
        """Notes who gave nothing for the newest boundary, and why."""
        boundary = line.boundary(now)
        if line.checked is None or boundary <= line.checked or now - boundary < min(GRACE, line.interval * 0.8):
            return
        line.checked = boundary
        there = self._got.get(boundary, set())
        reasons: dict[GapReason, list[str]] = {}
        for point, since in line.points.items():
            if point not in there and since < boundary:
                reasons.setdefault(self._reason(line, point), []).append(point)
        for reason, points in reasons.items():
            await self._miss(points, boundary, reason)

    @staticmethod
    def _reason(line: _Line, point: str) -> GapReason:
        if not line.connected:
            return GapReason.LINE
        return GapReason.REFUSED if point in line.refused and point not in line.silent else GapReason.METER

    async def _miss(self, points: Iterable[str], boundary: datetime, reason: GapReason) -> None:
        ids = set(points)
        self._look_again |= ids

        def work(ledger: Ledger) -> None:
            # Who was never read has a gap from the first boundary at which it should have been; not because we start.
            new = reason is not GapReason.HOST
            there = set(ledger.points)
            known = [one for one in sorted(ids) if (one in there and ledger.register_at(one, boundary)) or new]
            ledger.miss(known, boundary, reason)

        try:
            await self._ledger.async_call(work, ids)
        except LedgerError as error:
            _LOGGER.debug("Who missed %s could not be noted: %s", boundary, error.text)

    # --- from the memory of meters

    def _take_memory(self, line: _Line, report: PollReport, unusable: Container[str]) -> None:
        """Takes what came from meters' memories; it is written in its own time."""
        points = self._registry.points
        for key, records in report.memory.items():
            if key not in line.points or key not in points or key in unusable:
                continue
            point = points[key]
            ends, meter, since = self._ends(point), identity(point), point.meter.since
            self._memory.extend(
                replace(boundary_of(point, one, ends=ends), source="memory", meter=meter)
                for one in records
                # What it counted elsewhere, before it came here, is not this point's.
                if one.boundary >= since
            )
        self._fill_soon()

    def _fill_soon(self) -> None:
        if self._memory and not self._filling:
            self._filling = True
            self._hass.async_create_background_task(self._fill(), f"{DOMAIN} back-fill")

    async def _fill(self) -> None:
        """Writes what came from memory in batches, so that live registers never wait for more than one of them."""
        try:
            while self._memory and not self._stopped:
                batch = [self._memory.popleft() for _ in range(min(MEMORY_BATCH, len(self._memory)))]
                points = {one.point for one in batch}
                try:
                    await self._ledger.async_call(partial(Ledger.take, boundaries=batch), points)
                except LedgerError:
                    if not self._ledger.open and len(self._memory) < MOST_WAITING:
                        self._memory.extendleft(reversed(batch))
                    return
                await self._tell_holes(points)
        finally:
            self._filling = False

    async def _tell_holes(self, points: Collection[str]) -> None:
        """Tells the lines what is missing of these points."""
        told = {point for line in self._lines.values() if line.set_holes for point in line.points if point in points}
        now = dt_util.utcnow()
        depths = self.memories.depths
        since = {point: now if depths.get(point) == timedelta() else now - MEMORY_REACH for point in told}

        def look(ledger: Ledger) -> dict[str, list[Hole]]:
            there = set(ledger.points)
            return {point: ledger.holes(point, start) for point, start in since.items() if point in there}

        self._telling += 1
        try:
            holes = await self._ledger.async_call(look) if since else {}
        except LedgerError as error:
            _LOGGER.debug("What is missing is told later: %s", error.text)
            return
        finally:
            self._telling -= 1
        for line in self._lines.values():
            if line.set_holes is not None and (its := {key: holes[key] for key in line.points if key in holes}):
                self.memories.missing(its, line.interval, now)
                line.set_holes(its)

    # --- registry

    @callback
    def _registry_changed(self, changes: list[Change]) -> None:
        again = [
            one.after
            for one in changes
            if one.after is not None and (one.before is None or one.before.multipliers != one.after.multipliers)
        ]
        if again:
            self._hass.async_create_task(self._tell_multipliers(again), f"{DOMAIN} multipliers")

    @callback
    def async_shown(self, point: str, since: datetime, last: Decimal | None, first: Decimal | None) -> None:
        """What a person read off the meters when one was replaced: the old one's last energy, the new one's first.

        Call before the registry is told of the new meter.
        """
        self._shown_at_swap = {(point, since): (last, first)}

    @callback
    def async_swapped(self, before: Point, after: Point, last: Iterable[Reading]) -> None:
        """Another meter was put in at a point; `last` are the newest readings of the old one."""
        since = after.meter.since
        shown = self._shown_at_swap.pop((after.id, since), None)
        registers = {
            one.obis: Decimal(one.value) / factor(before, one.at)
            for one in last
            if one.good and Flag.SWAP not in one.flags and since - LAST_READING <= one.at <= since and counted(one.obis)
        }
        first: dict[Obis, Decimal] = {}
        if shown is not None:
            template = self._templates.get(after.meter.template)
            main = IMPORT if template is None or IMPORT in template.by_obis else GROSS
            for into, value in zip((registers, first), shown, strict=True):
                if value is not None:
                    into[main] = value
        self._restarts += swap(after.id, since, registers, first)
        self.memories.forget(after.id)
        self._look_again.add(after.id)

    async def _tell_multipliers(self, points: Iterable[Point]) -> None:
        told = [(point.id, point.multipliers) for point in points]

        def work(ledger: Ledger) -> None:
            for id_, multipliers in told:
                # Who has none and never had any need not be written down.
                if multipliers or id_ in known:
                    ledger.set_multipliers(id_, multipliers)

        known: set[str] = set()
        try:
            known = await self._ledger.async_call(lambda ledger: set(ledger.points))
            await self._ledger.async_call(work, {id_ for id_, _ in told})
        except LedgerError as error:
            _LOGGER.debug("Multipliers are told later: %s", error.text)


def identity(point: Point) -> str:
    """Which meter it is that is read at a point now: by when it came, for serial numbers are corrected."""
    return point.meter.since.isoformat()


def counted(obis: Obis) -> bool:
    """True for the registers that are counted up: those the ledger keeps."""
    return QUANTITIES[obis].kind in (Kind.CUMULATIVE, Kind.BALANCE)


def factor(point: Point, at: datetime) -> Decimal:
    """CT × PT at an instant."""
    multiplier = point.multiplier_at(at)
    return Decimal(1) if multiplier is None else multiplier.ct * multiplier.pt
