"""Long work beside a page that stays alive: one piece at a time, in a thread; newer work ends older.

Work is a generator that yields what to do to the page; that is done where the page lives: in the kernel's loop. Without
a loop (in a test, in a script) it is done at once.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pyarrow as pa

from meter_batch_engine.errors import MeterBatchError

_LOG = logging.getLogger(__name__)
_OFTEN_S = 0.2
"""Progress is told no more often."""

type Step = Callable[[], None]
type Work = Callable[[Callable[[float], None]], Iterator[Step]]


class SupersededError(Exception):
    """Something newer was asked for."""


class Worker:
    """Runs work. `failed` is told what went wrong: a MeterBatchError, or None for a fault of our own (it is logged)."""

    def __init__(self, progress: Callable[[float], None], failed: Callable[[MeterBatchError | None], None]) -> None:
        self._progress, self._failed = progress, failed
        self._number = 0
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        with suppress(RuntimeError):
            self._loop = asyncio.get_running_loop()

    def start(self, work: Work) -> None:
        """Begins this; what runs still is ended at its next progress."""
        self._number += 1
        before, number = self._thread, self._number
        self._thread = threading.Thread(target=self._run, args=(work, number, before), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends what runs."""
        self._number += 1

    def join(self) -> None:
        """Waits until all is done; only without a loop."""
        while (thread := self._thread) is not None and thread.is_alive():
            thread.join()

    async def ready(self) -> None:
        """Waits until all is done and shown."""
        while (thread := self._thread) is not None and thread.is_alive():
            await asyncio.to_thread(thread.join)
        await asyncio.sleep(0)

    def _run(self, work: Work, number: int, before: threading.Thread | None) -> None:
        if before is not None:
            before.join()
        told = 0.0

        def progress(share: float) -> None:
            nonlocal told
            if number != self._number:
                raise SupersededError
            if (now := time.monotonic()) - told > _OFTEN_S:
                told = now
                self._do(number, lambda: self._progress(share))

        try:
            for step in work(progress):
                if number != self._number:
                    return
                self._do(number, step)
        except SupersededError:
            return
        except MeterBatchError as error:
            found = error
            self._do(number, lambda: self._failed(found))
        except Exception:  # noqa: BLE001 the top of a thread: the page must say that something went wrong
            _LOG.exception("work for a page failed")
            self._do(number, lambda: self._failed(None))
        finally:
            # What was read is not needed any more, and Arrow would keep its memory: 20 MB of a session.
            pa.default_memory_pool().release_unused()

    def _do(self, number: int, step: Step) -> None:
        def unless_late() -> None:
            if number == self._number:
                step()

        if self._loop is None:
            unless_late()
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(unless_late)
