"""The site's ledger inside Home Assistant: its one thread, its file, and a repairs issue while that cannot be used."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from homeassistant.core import CALLBACK_TYPE, HassJob, HomeAssistant, callback
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.event import async_call_later, async_track_time_interval
from homeassistant.helpers.storage import STORAGE_DIR

from .backup_copy import adopt_copy, copy_of, mark_of, remove_copy
from .const import ARCHIVE, DOMAIN, LEDGER_BYTES, LEDGER_KEPT, LEDGER_PRUNED, STATISTICS
from .engine import LedgerError
from .engine.ledger import Dropped, Ledger, LedgerHealth
from .engine.sentences import say
from .registry import Registry
from .wording import async_in_words

_LOGGER = logging.getLogger(__name__)

FILE = f"{DOMAIN}.ledger.db"
ISSUE = "ledger_problem"
ISSUE_DROPPED = "ledger_dropped"

FIRST_LOOK = timedelta(hours=1)
"""So long after the start its age and size are looked at first: some restart it each day."""
PRUNED_AT_ONCE = timedelta(days=1)
"""Less than a second for a thousand points."""


class SiteLedger:
    """Owns the thread and the `Ledger`; everybody else asks it with `async_call` and hears with `async_listen`."""

    def __init__(self, hass: HomeAssistant, registry: Registry) -> None:
        self._hass, self._registry = hass, registry
        self.path = Path(hass.config.path(STORAGE_DIR, FILE))
        self.health = LedgerHealth(0, 0, 0, 0, None)
        """As it was after the last call; `problem` also says why the file cannot be opened."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"{DOMAIN}_ledger")
        self._ledger: Ledger | None = None
        self._closed = False
        self._listeners: list[Callable[[set[str]], None]] = []

    @property
    def open(self) -> bool:
        """True once the file could be opened."""
        return self._ledger is not None

    @callback
    def async_start(self) -> None:
        """Begins to look after the size of the file."""
        look = HassJob(self._keep_within_bounds, cancel_on_shutdown=True)
        async_call_later(self._hass, FIRST_LOOK, look)
        async_track_time_interval(self._hass, self._keep_within_bounds, timedelta(days=1), cancel_on_shutdown=True)

    async def _keep_within_bounds(self, now: datetime) -> None:
        def work(ledger: Ledger) -> tuple[Dropped | None, bool]:
            return ledger.bound(LEDGER_KEPT, LEDGER_BYTES), bool(ledger.subscribers().keys() - {STATISTICS})

        try:
            await self._prune(now - LEDGER_PRUNED)
            dropped, archived = await self.async_call(work)
        except LedgerError:
            return  # it says so itself
        if dropped is None:
            return
        # The hourly statistics had them, but intervals they are not.
        lost = dropped.lost if archived else dropped.intervals
        _LOGGER.warning(
            "%s intervals from before %s were dropped from the ledger; %s of them no archive has",
            dropped.intervals,
            dropped.before,
            lost,
        )
        if not lost:
            return
        ir.async_create_issue(
            self._hass,
            DOMAIN,
            ISSUE_DROPPED,
            is_fixable=False,
            is_persistent=True,
            severity=ir.IssueSeverity.WARNING,
            translation_key=ISSUE_DROPPED,
            translation_placeholders={"count": str(lost), "before": dropped.before.date().isoformat()},
        )

    async def _prune(self, before: datetime) -> None:
        """Forgets what the archive and all others have, some days at a time, so that registers need not wait for it."""

        def work(ledger: Ledger) -> int:
            return ledger.prune(before, most=PRUNED_AT_ONCE) if ARCHIVE in ledger.subscribers() else 0

        gone = 0
        while some := await self.async_call(work):
            gone += some
        if gone:
            _LOGGER.info("The ledger forgot %s intervals from before %s, which the archive has", gone, before)

    async def async_stop(self) -> None:
        """Closes the file; after this nothing is answered."""
        if not self._closed:
            self._closed = True
            await self._hass.loop.run_in_executor(self._thread, self._close)
            self._thread.shutdown()

    def _close(self) -> None:
        if self._ledger is not None:
            try:
                self._ledger.close()
            except LedgerError as error:
                _LOGGER.error("%s", error.text)  # noqa: TRY400
            self._ledger = None

    async def async_call[T](self, work: Callable[[Ledger], T], changed: Iterable[str] = ()) -> T:
        """Runs `work` in the ledger's thread; LedgerError passes through, also where the file cannot be opened.

        `changed`: whose intervals it may change, for those who listen.
        """
        if self._closed:
            raise LedgerError(say("ledger_unavailable", path=str(self.path), reason="Home Assistant is stopping"))
        revision = self.health.revision
        failure = None
        try:
            answer = await self._hass.loop.run_in_executor(self._thread, self._run, work)
        except LedgerError as error:
            failure = error
        self._show_problem()
        if self.health.revision != revision and (points := set(changed)):
            for listener in list(self._listeners):
                # One that fails must not hinder who made the call.
                self._hass.loop.call_soon(listener, points)
        if failure is not None:
            raise failure
        return answer

    def _run[T](self, work: Callable[[Ledger], T]) -> T:
        if self._ledger is None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                adopt_copy(self.path)
                self._ledger = Ledger(self.path, time_zone=self._registry.time_zone or self._hass.config.time_zone)
            except LedgerError as error:
                self.health = replace(self.health, problem=error.text)
                raise
            _LOGGER.info("The ledger %s is open at revision %s", self.path, self._ledger.revision)
        try:
            return work(self._ledger)
        finally:
            self.health = self._ledger.health

    async def async_copy(self) -> None:
        """Makes a consistent copy beside the file, for a backup that is about to be made."""
        copy, here = copy_of(self.path), mark_of(self.path)

        def work(ledger: Ledger) -> None:
            # First the mark: a copy without it is one that was restored.
            here.write_bytes(b"")
            ledger.copy_to(copy)

        await self.async_call(work)

    async def async_remove_copy(self) -> None:
        """The backup is made."""
        await self._hass.loop.run_in_executor(self._thread, remove_copy, self.path)

    @callback
    def async_listen(self, listener: Callable[[set[str]], None]) -> CALLBACK_TYPE:
        """Calls the listener with the ids of points whose intervals changed; returns what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    @callback
    def _show_problem(self) -> None:
        problem = self.health.problem
        if problem is None:
            ir.async_delete_issue(self._hass, DOMAIN, ISSUE)
            return
        known = ir.async_get(self._hass).async_get_issue(DOMAIN, ISSUE)
        if known is not None and known.data == {"problem": str(problem)}:
            return
        _LOGGER.error("%s", problem)

        async def tell() -> None:
            ir.async_create_issue(
                self._hass,
                DOMAIN,
                ISSUE,
                data={"problem": str(problem)},
                is_fixable=False,
                severity=ir.IssueSeverity.ERROR,
                translation_key=ISSUE,
                translation_placeholders={"problem": await async_in_words(self._hass, problem)},
            )

        self._hass.async_create_task(tell(), f"{DOMAIN} ledger problem")
