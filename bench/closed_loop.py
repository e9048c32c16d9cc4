"""CPU an exchange of several clients in one process: the next question follows the answer, rounds take turns."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Protocol

LEAST_EACH = 20
"""With fewer exchanges a connection, it is the beginning of a round that is measured."""


class Client(Protocol):
    """One way to ask meters; one object a connection."""

    async def open(self, port: int, number: int) -> None:
        """Connects; `number` tells the connections apart."""

    async def ask(self, count: int) -> None:
        """So many questions, one after the other."""

    async def close(self) -> None:
        """Hangs up."""


class Measured:
    """CPU of one round after the other, in µs an exchange."""

    def __init__(self, rounds: Sequence[Sequence[float]]) -> None:
        self._rounds = rounds

    def us(self, which: int) -> float:
        """The median of one client."""
        return median(one[which] for one in self._rounds)

    def ratio(self, which: int, reference: int) -> float:
        """The median of the ratios of two clients in the same round."""
        return median(one[which] / one[reference] for one in self._rounds)


async def measure(
    makers: Sequence[Callable[[], Client]],
    port: int,
    connections: int,
    exchanges: int,
    rounds: int,
) -> Measured:
    """Every client on so many connections of its own, about `exchanges` a client and round.

    Processor time of this process only; the order changes from round to round, and a first round is not counted.
    """
    clients = [[make() for _ in range(connections)] for make in makers]
    for group in clients:
        for number, client in enumerate(group):
            await client.open(port, number)
    each = max(LEAST_EACH, exchanges // connections)
    results: list[list[float]] = []
    for round_ in range(rounds + 1):
        spent = [0.0] * len(clients)
        for place in range(len(clients)):
            which = (place + round_) % len(clients)
            tasks = [client.ask(each) for client in clients[which]]
            gc.collect()
            began = time.process_time()
            await asyncio.gather(*tasks)
            spent[which] = 1e6 * (time.process_time() - began) / (each * connections)
        if round_:
            results.append(spent)
    for group in clients:
        for client in group:
            await client.close()
    return Measured(results)
