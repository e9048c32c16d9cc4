"""A notebook kernel that is kept: the second report does not pay for imports again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import nbformat
import psutil  # type: ignore[import-untyped]
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from ..errors import ReportError

REPORTS = 50
"""After so many notebooks a kernel is replaced by a new one: what leaks, ends."""
MEMORY_MB = 700
"""As soon as a kernel has grown to this, it is replaced too."""
TIMEOUT_S = 600.0
"""A cell that runs for longer is given up, and its kernel with it."""
PARAMETERS = "parameters"
"""The tag of the cell whose values are replaced, as papermill has it."""
_V4: Any = nbformat.v4
_READ: Any = nbformat.read
_WARM = "from meter_batch_analytics.report import files\nfiles.warm()"
_OWN_ERRORS = frozenset({"ReportError", "ConfigError", "ArchiveError", "SourceError", "AwayError"})


class Kernel:
    """Runs notebooks one after the other, each in a fresh namespace, in one process that is replaced now and then.

    Starts with the first notebook; `close()` or the end of a `with` ends it. Not for use inside a running event loop.
    """

    def __init__(self, *, reports: int = REPORTS, memory_mb: int = MEMORY_MB, timeout_s: float = TIMEOUT_S) -> None:
        self._limit, self._memory_mb, self._timeout_s = reports, memory_mb, timeout_s
        self._runner = asyncio.Runner()
        self._manager: Any = None
        self._client: Any = None
        self._folder: Path | None = None
        self._run = 0

    @property
    def pid(self) -> int | None:
        """The process that runs now."""
        return None if self._manager is None else self._manager.provisioner.pid

    def run(self, notebook: Path, parameters: Mapping[str, Any]) -> None:
        """Runs a notebook with values instead of those in its cell tagged `parameters`.

        ReportError, in words, where the notebook is missing or raises, or the kernel dies or hangs; the next call
        works all the same.
        """
        cells = _cells(notebook, parameters)
        self._runner.run(self._execute(notebook, cells))

    def warm(self) -> None:
        """Starts the process and imports what reports need, so that the first one is as quick as the others."""
        self._runner.run(self._execute(Path("warm"), [_V4.new_code_cell(_WARM)]))

    def close(self) -> None:
        """Ends the process."""
        self._runner.run(self._end())
        self._runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    async def _execute(self, notebook: Path, cells: list[Any]) -> None:
        if self._manager is not None and await self._worn():
            await self._stop()
        if self._manager is None:
            await self._start()
        book = _V4.new_notebook(cells=[_V4.new_code_cell("%reset -f"), *cells])
        client = NotebookClient(book, km=self._manager, timeout=int(self._timeout_s), record_timing=False)
        client.kc = self._client
        client.reset_execution_trackers()
        self._run += 1
        try:
            # Not client.execute(): that would take over the signals of this process.
            for index, cell in enumerate(book.cells):
                await client.async_execute_cell(cell, index, store_history=False)
        except CellExecutionError as error:
            if error.ename in _OWN_ERRORS:
                raise ReportError(error.evalue) from None
            raise ReportError(
                f"the report could not be made: {notebook.name} stopped with {error.ename}: {error.evalue}"
            ) from error
        except CellTimeoutError as error:
            await self._stop()
            raise ReportError(f"the report was given up: {notebook.name} ran for over {self._timeout_s:g} s") from error
        except DeadKernelError as error:
            await self._stop()
            raise ReportError(
                "the process that makes reports was ended from outside, perhaps for want of memory; try again"
            ) from error
        except BaseException:
            # Interrupted in the middle of a cell: nobody knows what it still does.
            await self._stop()
            raise

    async def _worn(self) -> bool:
        if self._run >= self._limit or not await self._manager.is_alive():
            return True
        try:
            return bool(psutil.Process(self.pid).memory_info().rss > self._memory_mb * 1_000_000)
        except psutil.Error:
            return True

    async def _start(self) -> None:
        self._folder = folder = Path(tempfile.mkdtemp(prefix="meter-batch-kernel-"))
        # The kernel of this very interpreter, whatever the user has installed, and nothing of the user's set-up.
        self._manager = AsyncKernelManager(
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),
            transport="ipc",
            connection_file=str(folder / "kernel.json"),
        )
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(one for one in sys.path if one),
            "IPYTHONDIR": str(folder / "ipython"),
            "JUPYTER_PLATFORM_DIRS": "1",
        }
        log = folder / "log"
        try:
            with log.open("wb") as file:
                await self._manager.start_kernel(
                    env=environment,
                    extra_arguments=["--HistoryManager.enabled=False"],
                    cwd=str(folder),
                    stdout=subprocess.DEVNULL,
                    stderr=file,
                )
            self._client = self._manager.client()
            self._client.start_channels()
            await self._client.wait_for_ready(timeout=60)
        except (RuntimeError, OSError) as error:
            lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
            await self._stop()
            reason = lines[-1] if lines else str(error)
            raise ReportError(f"the process that makes reports does not start: {reason}") from error
        except BaseException:
            await self._stop()
            raise
        self._run = 0

    async def _end(self) -> None:
        # What a signal tore us out of still waits for its cell.
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await self._stop()

    async def _stop(self) -> None:
        if self._client is not None:
            self._client.stop_channels()
        if self._manager is not None and self._manager.has_kernel:
            with contextlib.suppress(RuntimeError, ProcessLookupError):
                await self._manager.shutdown_kernel(now=True)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._manager = self._client = self._folder = None


def _cells(notebook: Path, parameters: Mapping[str, Any]) -> list[Any]:
    """The code of a notebook, with the values set right after the cell tagged `parameters`."""
    try:
        book = _READ(notebook, as_version=4)
    except FileNotFoundError as error:
        raise ReportError(f"the notebook {notebook} is missing: install Meter Batch again") from error
    except (OSError, ValueError, nbformat.ValidationError) as error:
        raise ReportError(f"the notebook {notebook} cannot be read: {error}") from error
    values = _V4.new_code_cell("\n".join(f"{name} = {value!r}" for name, value in parameters.items()))
    cells: list[Any] = []
    for cell in book.cells:
        if cell.cell_type != "code":
            continue
        cells.append(_V4.new_code_cell(cell.source))
        if PARAMETERS in cell.metadata.get("tags", ()):
            cells.append(values)
    if values not in cells:
        raise ReportError(f"the notebook {notebook} has no cell tagged {PARAMETERS!r}")
    return cells
