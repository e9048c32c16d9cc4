"""Reports are made one after the other, whatever happens to the process that makes them; schedules are kept."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from meter_batch_analytics.server import child
from meter_batch_analytics.server.jobs import Job, Jobs
from meter_batch_analytics.server.scheduler import Scheduler
from meter_batch_analytics.server.settings import Settings

from ...conftest import ROOT, need
from ..data_site import SHANGHAI, build

WANTED = {
    "kind": "report",
    "report": "daily",
    "period": "2026-08-03",
    "formats": ["html"],
    "language": "en",
    "scope": None,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("data"), days=5)


def settings(data: Path) -> Settings:
    return Settings("http://127.0.0.1:9", data / "token", data)


@asynccontextmanager
async def working(data: Path) -> AsyncIterator[tuple[Jobs, list[tuple[str, Mapping[str, Any]]]]]:
    told: list[tuple[str, Mapping[str, Any]]] = []

    async def tell(event: str, facts: Mapping[str, Any]) -> None:
        told.append((event, facts))

    jobs = Jobs(settings(data), tell)
    task = asyncio.create_task(jobs.run())
    try:
        yield jobs, told
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def ended(job: Job) -> Job:
    async with asyncio.timeout(60):
        await job.ended.wait()
    return job


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_what_cannot_be_made_fails_in_words_and_the_next_one_is_made(data: Path) -> None:
    async with working(data) as (jobs, told):
        first = await ended(jobs.add(WANTED | {"period": "nonsense"}))
        assert first.state == "failed"
        assert "nonsense" in (first.error or "")
        nobody = await ended(jobs.add({key: value for key, value in WANTED.items() if key != "scope"}))
        assert nobody.state == "failed"
        await until(lambda: len(told) == 2)
        assert told[0][0] == "report_failed"
        assert told[0][1]["period"] == "nonsense"
        some = await ended(jobs.add(WANTED | {"scope": ["p3"]}))
        assert some.report is not None, some.error
        assert list(some.report["points"]) == ["p3"]
        made = await ended(jobs.add(WANTED))
        assert made.error is None
        assert made.report is not None
        assert (data / "reports" / made.report["id"] / made.report["files"][0]["name"]).exists()
        assert made.report["points"] is None
        await until(lambda: [event for event, _ in told[2:]] == ["report_ready"] * 2)


async def test_a_worker_that_is_killed_is_started_again(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "AGAIN_S", (0.05,))
    async with working(data) as (jobs, told):
        await until(lambda: jobs.worker.process is not None)
        first = jobs.worker.process
        assert first is not None
        # While it stands still nothing can be done; then it dies.
        os.kill(first.pid, signal.SIGSTOP)
        job = jobs.add(WANTED)
        await until(lambda: job.state == "running")
        os.kill(first.pid, signal.SIGKILL)
        assert "SIGKILL" in ((await ended(job)).error or "")
        await until(lambda: told)
        await until(lambda: jobs.worker.process is not None and jobs.worker.process is not first)
        again = await ended(jobs.add(WANTED | {"period": "nonsense"}))
        assert "nonsense" in (again.error or "")


async def test_how_far_a_report_is_can_be_asked_while_it_is_made(data: Path) -> None:
    async with working(data) as (jobs, _):
        job = jobs.add(WANTED)
        seen = [job.as_dict()["progress"]]
        async with asyncio.timeout(60):
            while not job.ended.is_set():
                await asyncio.sleep(0.002)
                seen.append(job.as_dict()["progress"])
        assert job.error is None
        assert seen == sorted(seen) and {0.0, 0.4, 1.0} <= set(seen), set(seen)


def test_on_a_full_disk_all_is_said_nothing_is_half_there_and_all_goes_on_when_there_is_room(tmp_path: Path) -> None:
    script = [sys.executable, "-m", "tests.analytics.server.full_disk", str(tmp_path)]
    done = subprocess.run(["unshare", "-rm", *script], cwd=ROOT, capture_output=True, text=True, check=False)
    mounted = done.returncode != 77 and not (done.returncode == 1 and "unshare" in done.stderr)
    need("the right to mount a file system", mounted)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all goes on" in done.stdout


async def test_the_worker_ends_with_the_server(data: Path) -> None:
    async with working(data) as (jobs, _):
        await until(lambda: jobs.worker.process is not None)
        process = jobs.worker.process
        assert process is not None
    assert process.returncode is not None


class Desk:
    """Takes requests as the queue does, and does with them what `outcome` says."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.told: list[Mapping[str, Any]] = []
        self.error: str | None = None

    def add(self, request: dict[str, Any]) -> Job:
        self.asked.append(request)
        job = Job(str(len(self.asked)), request, "failed" if self.error else "done", error=self.error)
        job.ended.set()
        return job

    async def tell(self, _: str, facts: Mapping[str, Any]) -> None:
        self.told.append(facts)


SCHEDULE = """
[[schedule]]
name = "Every morning"
report = "daily"
at = "07:00"
languages = ["zh", "en"]
formats = ["pdf"]
"""


async def test_a_schedule_is_carried_out_when_it_is_due_and_once(data: Path, tmp_path: Path) -> None:
    folder = build(tmp_path / "data", days=1)
    (folder / "schedules.toml").write_text(SCHEDULE)
    now = datetime(2026, 9, 1, 6, 59, tzinfo=SHANGHAI).astimezone(UTC)
    desk = Desk()
    scheduler = Scheduler(settings(folder), desk.add, desk.tell, lambda: now)
    await scheduler.look()
    assert desk.asked == []
    listed = scheduler.as_list()
    assert listed is not None and listed[0]["next"] == "2026-09-01T07:00:00+08:00"
    now += timedelta(minutes=1)
    for _ in range(3):
        await scheduler.look()
        await asyncio.sleep(0)
    assert [(one["period"], one["language"], one["scope"]) for one in desk.asked] == [
        ("2026-08-31", "zh-Hans", None), ("2026-08-31", "en", None)
    ]  # fmt: skip
    # A server that was off for days makes the newest of what it missed.
    now += timedelta(days=4)
    again = Scheduler(settings(folder), desk.add, desk.tell, lambda: now)
    await again.look()
    await asyncio.sleep(0)
    assert [one["period"] for one in desk.asked[2:]] == ["2026-09-04", "2026-09-04"]
    assert desk.told == []


async def test_a_report_that_fails_is_tried_again_and_then_told_once(tmp_path: Path) -> None:
    folder = build(tmp_path / "data", days=1)
    (folder / "schedules.toml").write_text(SCHEDULE)
    now = datetime(2026, 9, 1, 6, 59, tzinfo=SHANGHAI).astimezone(UTC)
    desk = Desk()
    desk.error = "the disk is full"
    scheduler = Scheduler(settings(folder), desk.add, desk.tell, lambda: now)
    await scheduler.look()
    for _ in range(12 * 12):
        now += timedelta(minutes=5)
        await scheduler.look()
        await asyncio.sleep(0)
    assert 2 < len(desk.asked) < 20
    assert [(one["reason"], one["schedule"]) for one in desk.told] == [("the disk is full", "Every morning")]


async def test_a_file_that_is_wrong_is_said_and_what_was_in_force_stays(tmp_path: Path) -> None:
    folder = build(tmp_path / "data", days=1)
    (folder / "schedules.toml").write_text(SCHEDULE)
    desk = Desk()
    scheduler = Scheduler(settings(folder), desk.add, desk.tell)
    await scheduler.look()
    (folder / "schedules.toml").write_text(SCHEDULE.replace("07:00", "soon"))
    await scheduler.look()
    assert "at" in (scheduler.problem or "")
    assert len(scheduler.as_list() or ()) == 1
    (folder / "schedules.toml").write_text(SCHEDULE)
    await scheduler.look()
    assert scheduler.problem is None
