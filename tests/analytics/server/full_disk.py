"""An analytics server's folder on a disk that is really full: `python -m tests.analytics.server.full_disk FOLDER`.

A process of its own, because a file system is for all of a mount namespace. Exit code 77 where none can be mounted.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from meter_batch_analytics.errors import ArchiveError
from meter_batch_analytics.mirror import REGISTRY, Mirror
from meter_batch_analytics.server.jobs import Job, Jobs
from meter_batch_analytics.server.link import Link
from meter_batch_analytics.server.scheduler import Scheduler
from meter_batch_analytics.server.settings import Settings, server_token
from meter_batch_engine.wire import encode_registry

from ..data_site import SHANGHAI, build, registry

WANTED = {"kind": "report", "report": "daily", "period": "2026-08-01", "formats": ["html"], "language": "en",
          "scope": None}  # fmt: skip
SCHEDULE = '[[schedule]]\nname = "Every morning"\nreport = "daily"\nat = "07:00"\nformats = ["html"]\n'


def files(folder: Path) -> dict[str, bytes]:
    return {str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


def fill(path: Path) -> None:
    """Takes all the room there is."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(bytes(64)):
            pass


async def main(folder: Path) -> None:
    data = build(folder / "data", days=1)
    (data / "schedules.toml").write_text(SCHEDULE)
    settings, ballast = Settings("http://127.0.0.1:9", data / "token", data), folder / "ballast"
    told: list[str] = []

    async def tell(event: str, _: Mapping[str, Any]) -> None:
        told.append(event)

    now = datetime(2026, 8, 2, 6, 59, tzinfo=SHANGHAI).astimezone(UTC)
    link, jobs = Link(settings, "s" * 43), Jobs(settings, tell)
    asked: list[Job] = []

    def add(request: Mapping[str, Any]) -> Job:
        asked.append(jobs.add(request))
        return asked[-1]

    scheduler = Scheduler(settings, add, tell, lambda: now)
    await scheduler.look()
    work = asyncio.create_task(jobs.run())
    message = encode_registry(registry())

    async def made(job: Job) -> Job:
        async with asyncio.timeout(90):
            await job.ended.wait()
        return job

    fill(ballast)
    before = files(data)
    # The mirror: said, and what was there stays.
    await link._keep(REGISTRY, message, now)
    assert any("the disk of the mirror of Home Assistant is full" in one for one in link.problems), link.problems
    # A report: it fails in words.
    job = await made(jobs.add(WANTED))
    assert job.state == "failed" and "the disk is full" in (job.error or "") and "make room" in job.error, job.error
    # A schedule that is due is begun as soon as there is room, however long that takes.
    for _ in range(20):
        now += timedelta(minutes=30)
        with pytest.raises(ArchiveError, match="the disk of what schedules remember is full"):
            await scheduler.look()
    assert asked == []
    # One that is started now says why it cannot.
    with pytest.raises(ArchiveError, match="the disk of the analytics server is full"):
        server_token(data / "another")
    assert files(data) == before, sorted(set(files(data)) ^ set(before))
    ballast.unlink()
    await link._keep(REGISTRY, message, now)
    assert link.problems == [] and Mirror(data / "mirror").at == now
    await scheduler.look()
    await asyncio.sleep(0)
    assert [one.request["period"] for one in asked] == ["2026-08-01"]
    assert (await made(asked[0])).error is None and (await made(jobs.add(WANTED))).report is not None
    assert len(server_token(data / "another")) > 32
    async with asyncio.timeout(10):
        while told.count("report_ready") < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    print("all goes on")


if __name__ == "__main__":
    place = Path(sys.argv[1])
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", place], check=False).returncode:
        sys.exit(77)
    asyncio.run(main(place))
