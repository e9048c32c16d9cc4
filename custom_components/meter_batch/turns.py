"""Long work in the event loop, a turn at a time."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Final

TURN_S: Final = 0.004
"""So long others wait at a time; a pause after each small step would cost more in waiting for the loop's next round."""
REST_S: Final = 0.006
"""So long others have the loop for themselves, so that lines are polled at their own pace meanwhile."""


class Turns:
    """Of one piece of work."""

    def __init__(self) -> None:
        self._since = perf_counter()

    async def pause(self) -> None:
        """Lets others have the event loop, once our turn is over."""
        if perf_counter() - self._since > TURN_S:
            await asyncio.sleep(REST_S)
            self._since = perf_counter()
