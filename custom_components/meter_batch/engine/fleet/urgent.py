"""What is to be read at once, before everything else: the questions of people and actions."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from ..errors import ConfigError, LineError, MeterError
from ..model.obis import Obis
from ..model.reading import Reading


@dataclass(slots=True)
class Question:
    """Registers of a meter, all that are wanted where None, and where the answer goes."""

    key: str
    obis: frozenset[Obis] | None
    answer: asyncio.Future[list[Reading]]


class Urgent:
    """Questions in the order in which they came; false while there are none."""

    def __init__(self) -> None:
        self._waiting: deque[Question] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, key: str, obis: Iterable[Obis] | None) -> asyncio.Future[list[Reading]]:
        """Takes a question; its answer comes once it has been served."""
        answer: asyncio.Future[list[Reading]] = asyncio.get_running_loop().create_future()
        self._waiting.append(Question(key, None if obis is None else frozenset(obis), answer))
        return answer

    async def serve(self, read: Callable[[Question], Awaitable[list[Reading]]]) -> None:
        """Answers all that wait; those whom nobody waits for any more are left out. Raises LineError."""
        while self._waiting:
            question = self._waiting.popleft()
            if question.answer.done():
                continue
            try:
                readings = await read(question)
            except (MeterError, ConfigError) as error:
                question.answer.set_exception(error)
            except LineError as error:
                question.answer.set_exception(error)
                raise
            else:
                if not question.answer.done():
                    question.answer.set_result(readings)

    def refuse(self, error: LineError) -> None:
        """The line is gone: nobody is answered."""
        while self._waiting:
            question = self._waiting.popleft()
            if not question.answer.done():
                question.answer.set_exception(error)
