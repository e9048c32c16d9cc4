"""Carries out the plan of schedules: what is due goes into the queue, and what came of it back into the plan."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from meter_batch_engine.errors import MeterBatchError

from ..mirror import Mirror
from ..periods import zone_of
from .jobs import Job, Tell
from .schedule import Plan, Run, ScheduleFolder
from .settings import Settings

_LOGGER = logging.getLogger(__name__)

EVERY_S = 15.0


class Scheduler:
    """The schedules of a data folder. `add` puts a request into the queue."""

    def __init__(
        self,
        settings: Settings,
        add: Callable[[dict[str, Any]], Job],
        tell: Tell,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings, self._add, self._tell, self._now = settings, add, tell, now
        self._folder: ScheduleFolder | None = None
        self._tasks: dict[tuple[str, datetime], asyncio.Task[None]] = {}
        self.problem: str | None = None
        """What is wrong with them, in words."""

    def as_list(self) -> list[dict[str, Any]] | None:
        """The schedules, each with the next time it is due; None before they were read."""
        return None if self._folder is None else self._folder.plan.as_list(self._now())

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                try:
                    await self.look()
                except MeterBatchError as error:
                    self._say(str(error))
                await asyncio.sleep(EVERY_S)
        finally:
            for task in self._tasks.values():
                task.cancel()

    async def look(self) -> None:
        """Begins what is due now. MeterBatchError where the disk fails."""
        zone = await asyncio.to_thread(self._zone)
        if zone is None:
            # Nothing was ever received: there is nothing to report on.
            return
        if self._folder is None:
            self._folder = await asyncio.to_thread(ScheduleFolder, self._settings.data, zone)
        self._folder.plan.zone = zone
        now, plan = self._now(), self._folder.look()
        self._tasks = {key: task for key, task in self._tasks.items() if not task.done()}
        for run in plan.due(now):
            key = (run.schedule, run.fire)
            if key in self._tasks:
                continue
            period, before = plan.period(run), plan.state
            begun = plan.begin(run, now)
            # Before it begins, so that one that takes the process down with it is not begun for ever.
            try:
                self._folder.save()
            except MeterBatchError:
                # What was not begun is no try.
                plan.state = before
                raise
            if begun is None:
                await self._failed(plan, run, period, "the analytics server ended while it was at it, every time")
                continue
            self._tasks[key] = asyncio.create_task(self._make(begun))
        self._folder.save()
        self._say(self._folder.problem)

    async def _make(self, run: Run) -> None:
        assert self._folder is not None
        plan = self._folder.plan
        period, reason = plan.period(run), None
        try:
            jobs = [self._add(request) for request in plan.requests(run)]
            for job in jobs:
                await job.ended.wait()
            reason = next((job.error or "" for job in jobs if job.state == "failed"), None)
        except MeterBatchError as error:
            reason = str(error)
        if run.schedule not in plan.schedules:
            # It was taken out of the file meanwhile.
            return
        if reason is None:
            plan.done(run)
        elif plan.failed(run, self._now()):
            await self._failed(plan, run, period, reason)
        try:
            self._folder.save()
        except MeterBatchError as error:
            self._say(str(error))

    async def _failed(self, plan: Plan, run: Run, period: str, reason: str) -> None:
        kind = plan.schedules[run.schedule].report
        await self._tell("report_failed", {"kind": kind, "period": period, "reason": reason, "schedule": run.schedule})

    def _zone(self) -> ZoneInfo | None:
        """The time zone of the site, as last seen; the archive's where that is all there is."""
        registry = Mirror(self._settings.data / "mirror").registry()
        if registry is not None:
            return zone_of(registry.time_zone)
        try:
            manifest = json.loads((self._settings.archive_folder / "manifest.json").read_bytes())
            return zone_of(str(manifest["archive"]["time_zone"]))
        except OSError, ValueError, KeyError, TypeError:
            return None

    def _say(self, problem: str | None) -> None:
        if problem is not None and problem != self.problem:
            _LOGGER.warning("%s", problem)
        self.problem = problem
