"""A child process that is kept running: started again when it ends, ended with us. Its last words are remembered."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence

_LOGGER = logging.getLogger(__name__)

AGAIN_S = (1.0, 5.0, 15.0, 60.0, 300.0)
"""Waits before it is started again, one after the other; the last one goes on."""
GOOD_S = 600.0
"""One that ran for so long is started again at once."""
END_S = 10.0


class Child:
    """`on_line` gets each line of its stdout; its stderr goes to our log. It must end when its stdin does."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        on_line: Callable[[bytes], None] = lambda _: None,
        on_end: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.name, self._arguments = name, [sys.executable, "-m", "meter_batch_analytics", *arguments]
        self._on_line, self._on_end = on_line, on_end
        self.last = ""
        self.problem: str | None = None
        """Why it does not run, while it does not."""
        self.process: asyncio.subprocess.Process | None = None
        self._runs = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        failed = 0
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            self.process = await asyncio.create_subprocess_exec(
                *self._arguments,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
                limit=2**24, env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )  # fmt: skip
            self._runs.set()
            try:
                await asyncio.gather(self._lines(), self._words(), self.process.wait())
            except asyncio.CancelledError:
                await self._end()
                raise
            code = self.process.returncode or 0
            self.process = None
            self._runs.clear()
            why = f"signal {signal.Signals(-code).name}" if code < 0 else self.last or f"code {code}"
            self.problem = f"the {self.name} ended: {why}"
            _LOGGER.warning("%s", self.problem)
            self._on_end(why)
            failed = 0 if loop.time() - began > GOOD_S else failed + 1
            await asyncio.sleep(AGAIN_S[min(failed, len(AGAIN_S) - 1)])

    async def write(self, line: bytes) -> None:
        """Gives it a line, as soon as it runs."""
        await self._runs.wait()
        assert self.process is not None and self.process.stdin is not None
        self.process.stdin.write(line)

    async def _lines(self) -> None:
        assert self.process is not None and self.process.stdout is not None
        async for line in self.process.stdout:
            self.problem = None
            self._on_line(line)

    async def _words(self) -> None:
        assert self.process is not None and self.process.stderr is not None
        async for line in self.process.stderr:
            self.last = line.decode(errors="replace").strip().removeprefix("meter-batch-analytics: ") or self.last
            _LOGGER.info("%s: %s", self.name, self.last)

    async def _end(self) -> None:
        """Lets it finish what must not be cut off, but not for long."""
        process, self.process = self.process, None
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(END_S):
                await process.communicate()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
