"""How soon an app is seen, what a session costs, and what happens when there is no place left.

The real server over a month of 1,000 meters at 15 min, without Home Assistant: the reader comes with the signed
identity that Home Assistant's proxy would put. One session is a headless Chromium; the others hold their kernel by
WebSocket as a page does. "Warm": a kernel waits in the pool and the browser has been here before. CPU seconds are those
of the server with all its kernels, and of the browser, for one visit: on a busy machine they are the fair figure.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp

from meter_batch_analytics.archive.store import Archive
from meter_batch_analytics.mirror import REGISTRY, Mirror
from meter_batch_analytics.server.identity import HEADER, signed
from meter_batch_analytics.server.settings import BASE, kernels_for
from meter_batch_analytics.session import Identity
from meter_batch_engine.model.point import InstalledMeter, Point, Route
from meter_batch_engine.wire import RegistrySnapshot, encode_registry

from .archive import METERS, ZONE, point_id, put, rows_of_month
from .figure import Figure
from .rig import ROOT

NAME = "apps"
MACHINE_GB = 4.0
WARM_VISITS = 3
QUIET_S = 1.0
READER = Identity("u-bench", "Reader", True, "en", None)
KERNEL = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
PROTOCOL = "v1.kernel.websocket.jupyter.org"
TICKS = os.sysconf("SC_CLK_TCK")


def run(*, full: bool) -> list[Figure]:
    """About two minutes."""
    browser = ROOT / ".venv" / "bin" / "python"
    if not browser.exists() or not (shutil.which("chromium") or shutil.which("google-chrome")):
        raise SystemExit("the bench of apps needs Chromium, and playwright in .venv: run script/setup")
    with tempfile.TemporaryDirectory(prefix="meter-batch-apps-") as name:
        folder = Path(name)
        _build(folder, METERS if full else METERS // 5)
        limit = kernels_for(MACHINE_GB)
        with _server(folder, limit) as server:
            return [*_visits(server, browser), *asyncio.run(_full(server, limit))]


def _build(folder: Path, meters: int) -> None:
    """This month and the last, so that "the last 7 days" are there."""
    always = datetime(2020, 1, 1, tzinfo=UTC)
    now = datetime.now(UTC)
    before = now.replace(day=1) - timedelta(days=1)
    points = {
        point_id(one): Point(
            point_id(one), f"Meter {one:04d}", (InstalledMeter(always, "virtual/meter"),),
            (Route(f"l{one % 20}", "modbus", str(one)),), area=f"a{one % 8}",
        )
        for one in range(meters)
    }  # fmt: skip
    areas = {one: f"Area {int(one[-3:]) % 8 + 1}" for one in points}
    lines = {f"l{one}": f"Line {one + 1}" for one in range(20)}
    registry = RegistrySnapshot(points, areas, lines, ZONE, 1)
    Mirror(folder / "mirror").keep(REGISTRY, encode_registry(registry), now)
    with Archive(folder / "archive", time_zone=ZONE, writing=True) as archive:
        archive.keep_registry(registry)
        months = ((one.year, one.month) for one in (before, now))
        put(archive, ((f"{year}-{month:02d}", rows_of_month(year, month, range(meters))) for year, month in months))


class Server:
    """The process with its address and token."""

    def __init__(self, process: subprocess.Popen[str], address: str, token: str) -> None:
        self.process, self.address, self.token = process, address, token

    @property
    def identity(self) -> str:
        """The reader, signed for an hour."""
        return signed(READER, self.token, time.time() + 3600)

    def url(self, path: str) -> str:
        """Below the server's base."""
        return f"{self.address}{BASE}{path}"

    def family(self) -> list[int]:
        """The server's process and all below it."""
        return family(self.process.pid)

    def settle(self) -> None:
        """Until it works no more: the next kernel is warm."""
        before, quiet = -1.0, time.monotonic()
        while time.monotonic() - quiet < QUIET_S:
            time.sleep(0.1)
            now = cpu_s(self.family())
            if now - before > 0.02:
                before, quiet = now, time.monotonic()


@contextmanager
def _server(folder: Path, limit: int) -> Iterator[Server]:
    (folder / "token").write_text("none", encoding="ascii")
    command = [
        sys.executable, "-m", "meter_batch_analytics", "serve", "--url", "http://127.0.0.1:9", "--token-file",
        str(folder / "token"), "--data", str(folder), "--listen", "127.0.0.1:0", "--kernels", str(limit),
    ]  # fmt: skip
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.startswith("ready: "):
                raise SystemExit(f"the server did not start:\n{(folder / 'log').read_text()}")
            token = (folder / "server-token").read_text(encoding="ascii").strip()
            yield Server(process, line.removeprefix("ready: ").strip(), token)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _visits(server: Server, python: Path) -> list[Figure]:
    """One reader: cold, then warm."""
    reader = subprocess.Popen(
        [python, Path(__file__).with_name("reader.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert reader.stdin is not None and reader.stdout is not None
    try:
        asked = {"address": server.url("/apps/explorer?lang=en"), "header": HEADER, "identity": server.identity}
        print(json.dumps({**asked, "visits": 1 + WARM_VISITS}), file=reader.stdin, flush=True)
        visits = []
        for _ in range(1 + WARM_VISITS):
            server.settle()
            ours, browsers = cpu_s(server.family()), cpu_s(family(reader.pid))
            print(file=reader.stdin, flush=True)
            line = reader.stdout.readline()
            if not line:
                raise SystemExit("the browser ended")
            seen = json.loads(line)
            if "chart" not in seen:
                raise SystemExit("the app drew no chart")
            server.settle()
            spent = {"server": cpu_s(server.family()) - ours, "browser": cpu_s(family(reader.pid)) - browsers}
            visits.append(seen | spent)
        session = _session_mb(server)
    finally:
        reader.stdin.close()
        reader.wait(20)
        reader.stdout.close()
    cold, *warm = visits
    middle = {key: median(one[key] for one in warm) for key in ("paint", "controls", "chart", "server", "browser")}
    cpu = f"CPU {middle['server']:.1f} s server (with the next kernel made warm), {middle['browser']:.1f} s browser"
    complaints = sum(len(one["complaints"]) for one in visits)
    return [
        _figure("skeleton", middle["paint"], "s", 0.5, f"first contentful paint, warm; cold {cold['paint']:.2f} s"),
        _figure("controls", middle["controls"], "s", None, "warm: filters can be used"),
        _figure("first chart", middle["chart"], "s", 5.0, f"warm; {cpu}"),
        _figure("first chart, cold browser", cold["chart"], "s", None, f"{cold['bytes'] / 1e6:.2f} MB on the way"),
        _figure("memory a session", session, "MB", 200.0, "PSS of the kernel with the explorer drawn"),
        _figure("complaints in the console", complaints, "", 0, f"errors and warnings in {len(visits)} visits"),
    ]


def _session_mb(server: Server) -> float:
    """PSS of the largest kernel: that of the page on the screen; the other one only waits."""
    return max(pss_mb(one) for one in server.family() if _is_kernel(one))


async def _full(server: Server, limit: int) -> list[Figure]:
    """As many sessions as a machine of 4 GB is given, and one more."""
    # the reader's own kernel is to have gone
    await asyncio.to_thread(server.settle)
    async with aiohttp.ClientSession(headers={HEADER: server.identity}) as http, asyncio.TaskGroup() as group:
        opened = 0
        sockets = []
        status = 200
        while opened <= limit and status == 200:
            async with http.get(server.url("/apps/explorer?lang=zh-Hans")) as answer:
                status, text, retry = answer.status, await answer.text(), answer.headers.get("Retry-After")
            if status == 200:
                found = KERNEL.search(text)
                assert found is not None
                sockets.append(
                    await http.ws_connect(server.url(f"/api/kernels/{found[0]}/channels"), protocols=[PROTOCOL])
                )
                opened += 1
        await asyncio.to_thread(server.settle)
        whole = sum(pss_mb(one) for one in server.family())
        for socket in sockets:
            group.create_task(socket.close())
    waits = status == 503 and retry is not None and "自动重试" in text
    return [
        _figure(
            "sessions at a time", opened, "", None, f"the limit of a machine of {MACHINE_GB:g} GB", better="higher"
        ),
        _figure("all sessions with the server", whole / 1000, "GB", MACHINE_GB, "PSS of the server and all below it"),
        _figure("the next is told to wait", float(waits), "", 1.0, "503, Retry-After, in words", better="higher"),
    ]


# --- processes ---


def family(root: int) -> list[int]:
    """A process and all below it."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found, todo = [root], [root]
    while todo:
        below = parents.get(todo.pop(), [])
        found += below
        todo += below
    return found


def cpu_s(processes: list[int]) -> float:
    """CPU seconds of processes, with those of their children that have ended."""
    spent = 0
    for one in processes:
        try:
            fields = Path(f"/proc/{one}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        spent += sum(int(field) for field in fields[11:15])
    return spent / TICKS


def pss_mb(process: int) -> float:
    """Its share of the memory: what it has alone, and its part of what it shares."""
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0.0
    return int(text.split("\nPss:")[1].split()[0]) / 1024


def _is_kernel(process: int) -> bool:
    try:
        return b"ipykernel" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False


def _figure(name: str, value: float, unit: str, target: float | None, note: str, better: Any = "lower") -> Figure:
    return Figure(NAME, name, value, unit, better, target, note)
