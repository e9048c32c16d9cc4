"""Waiting to the microsecond without burning the processor.

The silence between two frames is 2 ms at 19200 Bd, and asyncio's timers are up to 1 ms late because epoll counts whole
milliseconds. Linux has timers that are files: they wake the loop at the instant itself.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Protocol


class Alarm(Protocol):
    """Wakes one task at an instant of the loop's clock, never before it."""

    async def until(self, when: float) -> None:
        """Returns when the loop's clock (`loop.time()`, s) has reached `when`."""

    def close(self) -> None:
        """Gives back what the alarm holds."""


class LoopAlarm:
    """The loop's own timers: up to a millisecond late, everywhere."""

    async def until(self, when: float) -> None:
        """See `Alarm.until`."""
        loop = asyncio.get_running_loop()
        while (left := when - loop.time()) > 0:  # noqa: ASYNC110  # time is what we wait for
            await asyncio.sleep(left)

    def close(self) -> None:
        """See `Alarm.close`."""


class FileAlarm:
    """A timer file of Linux: some tens of microseconds late."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._fd = os.timerfd_create(time.CLOCK_MONOTONIC, flags=os.TFD_NONBLOCK | os.TFD_CLOEXEC)
        self._rung: asyncio.Future[None] | None = None
        loop.add_reader(self._fd, self._ring)

    def _ring(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return
        if self._rung is not None and not self._rung.done():
            self._rung.set_result(None)

    async def until(self, when: float) -> None:
        """See `Alarm.until`. For one task at a time."""
        while when > self._loop.time():
            self._rung = self._loop.create_future()
            os.timerfd_settime(self._fd, flags=os.TFD_TIMER_ABSTIME, initial=when)
            try:
                await self._rung
            finally:
                self._rung = None

    def close(self) -> None:
        """See `Alarm.close`."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1


def alarm(loop: asyncio.AbstractEventLoop) -> Alarm:
    """The most exact alarm that this system and loop can give."""
    # The loop's clock must be the one of the timer file; a simulated clock in tests, for example, is not.
    if hasattr(os, "timerfd_create") and abs(loop.time() - time.monotonic()) < 1:
        try:
            return FileAlarm(loop)
        except OSError, NotImplementedError:
            pass
    return LoopAlarm()
