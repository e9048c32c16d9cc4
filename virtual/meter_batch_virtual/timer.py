"""Calls at exact instants: an event loop's own timers are rounded to milliseconds, a byte at 9600 baud takes one."""

from __future__ import annotations

import asyncio
import heapq
import os
import time
from collections.abc import Callable
from itertools import count
from typing import Protocol


class Alarms(Protocol):
    """A clock that calls."""

    def now(self) -> float:
        """The clock, s."""

    def call_at(self, when: float, call: Callable[[], None]) -> None:
        """Calls once when the clock has reached `when`."""


class Timer:
    """Calls functions at instants of the monotonic clock (s): some tens of microseconds late, never early."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._loop = asyncio.get_running_loop()
        self._fd = -1
        self._handle: asyncio.TimerHandle | None = None
        if hasattr(os, "timerfd_create"):
            self._fd = os.timerfd_create(time.CLOCK_MONOTONIC, flags=os.TFD_NONBLOCK | os.TFD_CLOEXEC)
            self._loop.add_reader(self._fd, self._ring)

    def now(self) -> float:
        """The monotonic clock, s."""
        return time.monotonic()

    def call_at(self, when: float, call: Callable[[], None]) -> None:
        """Calls once when the clock has reached `when`, in the order of the instants; cannot be taken back."""
        heapq.heappush(self._due, (when, next(self._order), call))
        if self._due[0][0] == when:
            self._arm()

    def close(self) -> None:
        """Forgets what is due."""
        self._due.clear()
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
        if self._handle is not None:
            self._handle.cancel()

    def _arm(self) -> None:
        when = self._due[0][0]
        if self._fd >= 0:
            os.timerfd_settime(self._fd, flags=os.TFD_TIMER_ABSTIME, initial=max(when, 1e-6))
            return
        if self._handle is not None:
            self._handle.cancel()
        self._handle = self._loop.call_later(max(0.0, when - time.monotonic()), self._ring)

    def _ring(self) -> None:
        if self._fd >= 0:
            try:
                os.read(self._fd, 8)
            except BlockingIOError:
                return
        while self._due and self._due[0][0] <= time.monotonic():
            heapq.heappop(self._due)[2]()
        if self._due:
            self._arm()
