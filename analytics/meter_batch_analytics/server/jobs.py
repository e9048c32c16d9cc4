"""Reports that are wanted: one after the other, made by a child process that is started again when it dies."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from meter_batch_engine.errors import ConfigError

from .child import Child
from .settings import Settings

_LOGGER = logging.getLogger(__name__)

KEPT = 200
"""Jobs that are remembered."""
MOST_WAITING = 50
LONGEST_S = 1800.0
"""A report that takes longer is given up."""

type State = Literal["waiting", "running", "done", "failed"]
type Tell = Callable[[str, Mapping[str, Any]], Awaitable[None]]
"""Tells Home Assistant what happened: `report_ready`, `report_failed`."""


@dataclass(slots=True)
class Job:
    """A report that is wanted. `request` are its fields as `machine.asked` checked them."""

    id: str
    request: Mapping[str, Any]
    state: State = "waiting"
    progress: float = 0.0
    report: Mapping[str, Any] | None = None
    error: str | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def as_dict(self) -> dict[str, Any]:
        """As the API answers."""
        found: dict[str, Any] = {"id": self.id, "state": self.state, "progress": round(self.progress, 3)}
        if self.report is not None:
            found["report"] = self.report
        if self.error is not None:
            found["error"] = self.error
        return found


class Jobs:
    """The queue and its worker."""

    def __init__(self, settings: Settings, tell: Tell, *, worker: list[str] | None = None) -> None:
        self._settings, self._tell = settings, tell
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._queue: asyncio.Queue[Job] = asyncio.Queue()
        self._now: Job | None = None
        arguments = worker or ["report-worker", "--data", str(settings.data), *_archive_options(settings)]
        self.worker = Child("report worker", arguments, on_line=self._line, on_end=self._died)

    # --- what is asked ---

    def add(self, request: Mapping[str, Any]) -> Job:
        """A new job. ConfigError where too many wait."""
        if self._queue.qsize() >= MOST_WAITING:
            raise ConfigError(f"{MOST_WAITING} reports are waiting already: try again when some are done")
        job = Job(secrets.token_hex(8), request)
        self._jobs[job.id] = job
        while len(self._jobs) > KEPT:
            oldest = next((id_ for id_, one in self._jobs.items() if one.ended.is_set()), None)
            if oldest is None:
                break
            del self._jobs[oldest]
        self._queue.put_nowait(job)
        return job

    def find(self, id_: str) -> Job | None:
        """A job by its id."""
        return self._jobs.get(id_)

    @property
    def problems(self) -> list[str]:
        """What does not work now, in words."""
        return [self.worker.problem] if self.worker.problem else []

    # --- the worker ---

    async def run(self) -> None:
        """Works them off until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.worker.run())
            tasks.create_task(self._work())

    async def _work(self) -> None:
        while True:
            job = self._now = await self._queue.get()
            try:
                await self._make(job)
            finally:
                self._now = None
            if job.state == "done" and job.report is not None:
                await self._tell("report_ready", {"report": job.report})
            elif not job.request.get("schedule"):
                # What a schedule wants is tried again; it says itself when it gives up.
                request = job.request
                facts = {"kind": request["report"], "period": request["period"], "reason": job.error or ""}
                await self._tell("report_failed", facts)

    async def _make(self, job: Job) -> None:
        await self.worker.write(json.dumps({"id": job.id, **job.request}, ensure_ascii=False).encode() + b"\n")
        job.state = "running"
        try:
            async with asyncio.timeout(LONGEST_S):
                await job.ended.wait()
        except TimeoutError:
            self._fail(job, f"it was not done within {LONGEST_S / 60:.0f} minutes")
            if self.worker.process is not None:
                self.worker.process.kill()

    def _line(self, line: bytes) -> None:
        try:
            said = json.loads(line)
            job = self._jobs.get(said["id"])
        except ValueError, LookupError, TypeError:
            _LOGGER.warning("The report worker said something else: %r", line[:200])
            return
        if job is None or job.ended.is_set():
            return
        if "progress" in said:
            job.progress = float(said["progress"])
        elif "report" in said:
            job.state, job.progress, job.report = "done", 1.0, said["report"]
            job.ended.set()
        else:
            self._fail(job, str(said.get("error")))

    def _died(self, why: str) -> None:
        if self._now is not None and not self._now.ended.is_set():
            self._fail(self._now, f"the report worker ended while it was at it ({why})")

    @staticmethod
    def _fail(job: Job, reason: str) -> None:
        job.state, job.error = "failed", reason
        job.ended.set()
        _LOGGER.warning("The %s report of %s failed: %s", job.request["report"], job.request["period"], reason)


def _archive_options(settings: Settings) -> list[str]:
    found: list[str] = []
    for option, value in (
        ("--archive", settings.archive), ("--key-file", settings.key_file), ("--keyring", settings.keyring)
    ):  # fmt: skip
        if value is not None:
            found += [option, str(value)]
    return found
