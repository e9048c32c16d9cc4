"""One notebook as a page: the skeleton at once, then a kernel, then its cells; what raises becomes a sentence."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from html import escape
from typing import Any

from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbconvert.preprocessors.clearoutput import ClearOutputPreprocessor
from nbformat.v4 import new_output
from voila.execute import VoilaExecutor
from voila.notebook_renderer import NotebookRenderer

from meter_batch_engine.errors import MeterBatchError

from ..words import Words
from .pool import KernelPool, Place

_LOGGER = logging.getLogger(__name__)


class Page(NotebookRenderer):  # type: ignore[misc]
    """Renders a notebook with a kernel of the pool."""

    def __init__(self, pool: KernelPool, place: Place, words: Words, **more: Any) -> None:
        super().__init__(**more)
        self._pool, self._place, self._words = pool, place, words

    async def _jinja_kernel_start(self, nb: Any, kernel_id: Any, kernel_future: Any) -> str:
        kernel_id, client = await self._pool.take(self._place)
        self.executor = VoilaExecutor(nb, km=self._pool.get_kernel(kernel_id), config=self.traitlet_config)
        # The client is warm already; waiting for a new one takes a quarter of a second.
        self.executor.kc = client
        self.kernel_started = True
        return str(kernel_id)

    async def _jinja_cell_generator(self, nb: Any, kernel_id: str) -> AsyncIterator[Any]:
        nb, _ = ClearOutputPreprocessor().preprocess(nb, {})  # type: ignore[no-untyped-call]
        try:
            for index, cell in enumerate(nb.cells):
                if cell.cell_type != "code":
                    yield cell
                    continue
                message = await self._executed(cell, index)
                # What a program writes to its log is for the log.
                cell.outputs = [one for one in cell.outputs if one.output_type not in ("error", "stream")]
                if message is not None:
                    cell.outputs = [said(message)]
                yield cell
                if message is not None:
                    break
        finally:
            self.executor.kc.stop_channels()

    async def _executed(self, cell: Any, index: int) -> str | None:
        """Runs a cell; what is to be said where it fails."""
        try:
            await self.executor.async_execute_cell(cell, index, store_history=False)
        except CellTimeoutError:
            _LOGGER.warning("%s: cell %d took too long", self.notebook_path, index + 1)
            return self._words("slow")
        except CellExecutionError as error:
            _LOGGER.error("%s: cell %d raised:\n%s", self.notebook_path, index + 1, error)  # noqa: TRY400
            return words_for(self._words, error.ename, error.evalue)
        except DeadKernelError:
            # Its page may have been closed before it was done.
            level = logging.ERROR if self._place.kernel in self._pool.owners else logging.INFO
            _LOGGER.log(level, "%s: the kernel ended in cell %d", self.notebook_path, index + 1)
            return self._words("no_kernel")
        return None


def words_for(words: Words, name: str, reason: str) -> str:
    """What a person reads of an error: ours are made for people, all others stay in the log."""
    return words("raised_because", reason=reason) if name in _ours() else words("raised")


def _ours() -> set[str]:
    found, todo = set[str](), [MeterBatchError]
    while todo:
        one = todo.pop()
        found.add(one.__name__)
        todo += one.__subclasses__()
    return found


def said(message: str) -> Any:
    """A message as the output of a cell."""
    html = message_html(message)
    data = {"text/html": html, "text/plain": message}
    return new_output("display_data", data=data, metadata={})  # type: ignore[no-untyped-call]


def message_html(message: str) -> str:
    """A message as a piece of a page."""
    return f'<div class="mb-message" role="alert">{escape(message)}</div>'
