"""The steps of back-fill on a line: taken where nothing live is due, or in its share where that leaves no room."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from ..errors import MeterError, Refused
from .backfill import BROADCAST_PAUSE_S, Backfill
from .reader import Reader
from .report import News

TURNROUND_S = 1.0
"""How long a meter may look in its memory at least."""
ROOM_S = 0.02
"""What is left free before something live is due."""
SATURATED_S = 0.1
"""A line is saturated where less time than this is left between rounds: steps then go between visits."""
STARVED_S = 120.0
"""So does a step for which there has been no room for so long."""
MOST_BETWEEN = 2
"""Steps between two visits of a saturated line."""


class Steps:
    """Takes what `Backfill` plans, one step at a time; instants without zone are the poller's monotonic seconds."""

    def __init__(
        self,
        backfill: Backfill,
        reader: Reader,
        news: News,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self._backfill, self._reader, self._news, self._now, self._monotonic = backfill, reader, news, now, monotonic
        self._saturated = False
        self._taken_at = monotonic()

    def round_ended(self, gap_s: float) -> None:
        """A round of live polling is over, and the next one is due after so long."""
        self._saturated = gap_s < SATURATED_S

    @property
    def between_visits(self) -> int:
        """How many steps may be taken between two visits of a round."""
        if self._saturated:
            return MOST_BETWEEN
        return int(self._monotonic() - self._taken_at > STARVED_S)

    async def take(self, free_s: float, *, idle: bool) -> bool:
        """Takes one step that is over within `free_s`; False where there is none. `idle`: nothing live is waiting.

        Raises LineError.
        """
        if free_s <= ROOM_S or self._reader.waits_for_late_replies:
            return False
        backfill, began = self._backfill, self._monotonic()
        step = backfill.next(self._now(), began, free_s - ROOM_S, idle=idle)
        if step is None:
            return False
        meter = None if step.recall is None else step.recall.meter
        # Who never spoke of its memory may not know the question, and is not waited for longer than for live values.
        known = step.question.about == "records"
        turnround_s = BROADCAST_PAUSE_S if meter is None else max(TURNROUND_S * known, meter.turnround.timeout_s)
        try:
            answer = await self._reader.converse(step.question.talk(), meter, turnround_s, retries=int(known))
        except Refused as error:
            backfill.refused(step, error, self._monotonic())
        except MeterError:
            backfill.failed(step, self._monotonic())
        else:
            records = backfill.took(step, answer, self._now(), self._monotonic())
            if meter is not None:
                self._news.add_memory(meter.poll.key, records)
                if (clock := backfill.new_clock(step)) is not None:
                    self._news.clocks[meter.poll.key] = clock
        finally:
            self._taken_at = self._monotonic()
            backfill.spent(step, self._taken_at - began, self._taken_at)
        return True
