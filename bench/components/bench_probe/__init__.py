"""Measures the event loop of a Home Assistant from within: how late it is, and which callbacks hold it up, and whose.

A timer is due every `EVERY_S`; what it comes later is the loop's lag. Each callback's time, on the clock and of the
thread's CPU, is taken where asyncio runs it; a thread looks at the stack of one that takes long, and it is ours where
a frame of the integration is in most of what was seen. Time in the collector of garbage is told apart.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import probatio
from homeassistant.core import HomeAssistant, ServiceCall, ServiceResponse, SupportsResponse
from homeassistant.helpers.recorder import get_instance
from homeassistant.helpers.typing import ConfigType

DOMAIN: Final = "bench_probe"
EVERY_S: Final = 0.02
LONG_S: Final = 0.010
"""A callback that takes longer is written down."""
LOOK_S: Final = 0.004
OURS: Final = "custom_components/meter_batch/"


class Slow:
    """One callback that took long."""

    def __init__(self, name: str, wall_s: float, cpu_s: float, gc_s: float, seen: list[tuple[str, bool]]) -> None:
        self.wall_s, self.cpu_s, self.gc_s = wall_s, cpu_s, gc_s
        self.name = Counter(place for place, _ in seen).most_common(1)[0][0] if seen else name
        self.ours = 2 * sum(ours for _, ours in seen) > len(seen) if seen else OURS in name


class Probe:
    """What was measured since the last mark."""

    def __init__(self, hass: HomeAssistant) -> None:
        self.hass = hass
        self.cpu_s = 0.0
        self.begin()
        self._running: tuple[float, int] | None = None
        self._number = 0
        self._seen: list[tuple[str, bool]] = []
        self._gc_s = 0.0
        self._gc_at = 0.0
        self._thread_id = threading.get_ident()
        # Read by hand: Home Assistant looks at each `open` in the loop, which would cost more than what is measured.
        self._waited = os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY)
        self.own_cpu_s = 0.0
        gc.callbacks.append(self._collecting)
        self._instrument()
        threading.Thread(target=self._look, name="bench probe", daemon=True).start()

    def begin(self) -> None:
        """Forgets what was measured."""
        self.lags: list[tuple[float, float]] = []
        self.slow: list[Slow] = []
        self.most_gc_s = 0.0
        self.backlog = 0
        self.since = time.monotonic()

    def _collecting(self, phase: str, _info: dict[str, int]) -> None:
        if threading.get_ident() != self._thread_id:
            return
        if phase == "start":
            self._gc_at = time.perf_counter()
        else:
            spent = time.perf_counter() - self._gc_at
            self._gc_s += spent
            self.most_gc_s = max(self.most_gc_s, spent)

    def _instrument(self) -> None:
        handles: Any = asyncio.events.Handle
        run = handles._run
        probe, clock, of_thread = self, time.perf_counter, time.thread_time

        def timed(handle: Any) -> None:
            begin, cpu_s = clock(), of_thread()
            probe._number += 1
            probe._gc_s = 0.0
            # What a step of a task is about to do is known only now.
            callback = handle._callback
            probe._running = begin, probe._number
            run(handle)
            probe._running = None
            if (wall_s := clock() - begin) > LONG_S:
                seen, probe._seen = probe._seen, []
                probe.slow.append(Slow(_named(callback), wall_s, of_thread() - cpu_s, probe._gc_s, seen))

        handles._run = timed

    def _look(self) -> None:
        """The thread that looks what a long callback is doing."""
        looked = 0
        while True:
            time.sleep(LOOK_S)
            self.own_cpu_s = time.thread_time()
            running = self._running
            if running is None or time.perf_counter() - running[0] < LOOK_S:
                continue
            frame = sys._current_frames().get(self._thread_id)
            if running[1] != looked:
                looked = running[1]
                self._seen = []
            place, ours, outside = "?", False, False
            while frame is not None:
                file = frame.f_code.co_filename
                if place == "?" and "/asyncio/" not in file and file != __file__:
                    place = f"{short(file)}:{frame.f_lineno} {frame.f_code.co_name}"
                if OURS in file and not ours:
                    ours = True
                    place += f" < {short(file)}:{frame.f_lineno} {frame.f_code.co_name}"
                outside = outside or "/asyncio/" not in file
                frame = frame.f_back
            if self._running == running and outside:
                self._seen.append((place, ours))

    async def measure(self) -> None:
        """Until cancelled: is a timer late, and how much of that did the thread wait for a core?"""
        waited = self._waits()
        while True:
            due = time.monotonic() + EVERY_S
            await asyncio.sleep(EVERY_S)
            now_waited = self._waits()
            self.lags.append((max(0.0, time.monotonic() - due), now_waited - waited))
            waited = now_waited
            self.backlog = max(self.backlog, get_instance(self.hass).backlog)

    def _waits(self) -> float:
        return int(os.pread(self._waited, 100, 0).split()[1]) / 1e9

    async def told(self) -> dict[str, Any]:
        """What was measured."""
        spent, others = await self.hass.async_add_executor_job(lambda: (cpu(), children_mb()))
        before, self.cpu_s = self.cpu_s, spent
        lags = sorted(lag for lag, _ in self.lags) or [0.0]
        owned = sorted(max(0.0, lag - waited) for lag, waited in self.lags) or [0.0]
        ours = sorted((one for one in self.slow if one.ours), key=lambda one: -one.cpu_s)
        return {
            "seconds": time.monotonic() - self.since,
            "cpu_s": spent - before,
            "probe_cpu_s": self.own_cpu_s,
            "lag_p50_s": lags[len(lags) // 2],
            "lag_p99_s": lags[int(len(lags) * 0.99)],
            "lag_max_s": lags[-1],
            "own_lag_p99_s": owned[int(len(owned) * 0.99)],
            "own_lag_max_s": owned[-1],
            "gc_max_s": self.most_gc_s,
            "ours": [[one.name, one.wall_s, one.cpu_s, one.gc_s] for one in ours[:12]],
            "others": [
                [one.name, one.wall_s, one.cpu_s, one.gc_s]
                for one in sorted((one for one in self.slow if not one.ours), key=lambda one: -one.cpu_s)[:12]
            ],
            "slow_ours": sum(one.cpu_s > 0.02 for one in ours),
            "rss_mb": rss_mb("self"),
            "backlog": get_instance(self.hass).backlog,
            "backlog_max": self.backlog,
            "pid": os.getpid(),
            "children_mb": sum(others),
            "children": len(others),
        }


def short(file: str) -> str:
    """The end of a path."""
    return "/".join(Path(file).parts[-2:])


def _named(callback: Any) -> str:
    task = getattr(callback, "__self__", None)
    if isinstance(task, asyncio.Task):
        coroutine: Any = task.get_coro()
        code = getattr(coroutine, "cr_code", None)
        return f"{code.co_filename} {code.co_qualname}" if code else str(task)
    code = getattr(callback, "__code__", None)
    return f"{code.co_filename} {code.co_qualname}" if code else str(callback)


def children() -> list[int]:
    """Processes that this one started."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        found += [int(one) for one in (task / "children").read_text(encoding="ascii").split()]
    return found


def rss_mb(pid: str) -> float:
    """Memory of a process."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("VmRSS")), 0.0)


def children_mb() -> list[float]:
    """Memory of the processes that this one started."""
    return [rss_mb(str(pid)) for pid in children()]


def cpu() -> float:
    """CPU seconds of this process and of those it started."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    spent = own.ru_utime + own.ru_stime
    tick = os.sysconf("SC_CLK_TCK")
    for pid in children():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            continue
        spent += (int(fields[11]) + int(fields[12])) / tick
    return spent


async def async_setup(hass: HomeAssistant, _config: ConfigType) -> bool:
    """Begins to measure; the action `mark` tells what was since the last one."""
    probe = Probe(hass)
    hass.async_create_background_task(probe.measure(), "bench probe", eager_start=False)

    async def mark(_call: ServiceCall) -> ServiceResponse:
        told = await probe.told()
        probe.begin()
        return told

    hass.services.async_register(DOMAIN, "mark", mark, probatio.Schema({}), supports_response=SupportsResponse.ONLY)
    return True
