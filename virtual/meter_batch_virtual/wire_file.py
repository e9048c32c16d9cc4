"""Every exchange on the wires of a fleet as lines of JSON, for benches that run in another process."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from .fleet import VirtualFleet
from .wire import Exchange

_EVERY_S = 0.5
_SETTLED_S = 5.0
"""After so long an exchange will not change any more: its reply came, or none will."""


class WireFile:
    """Appends to a file: `line`, `request_at`, `free_at` and the other fields of `wire.Exchange`; bytes in hex.

    Instants are seconds of the system's monotonic clock, which all processes of a machine share.
    """

    def __init__(self, fleet: VirtualFleet, path: Path) -> None:
        self._fleet = fleet
        self._path = path
        self._written: dict[str, int] = {}

    async def run(self) -> None:
        """Until cancelled; then the last exchanges are written too."""
        self._path.write_text("", encoding="utf-8")
        try:
            while True:
                await asyncio.sleep(_EVERY_S)
                self._write(asyncio.get_running_loop().time() - _SETTLED_S)
        finally:
            self._write(float("inf"))

    def _write(self, until: float) -> None:
        """Appends the exchanges that began before an instant."""
        rows: list[str] = []
        for line in self._fleet.lines:
            log = line.log
            if log is None:
                continue
            done = self._written.get(line.config.name, 0)
            first = log.requests - len(log.exchanges)
            for index in range(max(done, first), log.requests):
                exchange = log.exchanges[index - first]
                if exchange.request_at > until:
                    break
                rows.append(json.dumps(_row(line.config.name, log.gap_s, exchange)))
                done = index + 1
            self._written[line.config.name] = done
        if rows:
            with self._path.open("a", encoding="utf-8") as file:
                file.write("\n".join(rows) + "\n")


def _row(line: str, gap_s: float, exchange: Exchange) -> dict[str, object]:
    return {
        "line": line,
        "gap_s": gap_s,
        "request_at": exchange.request_at,
        "request": exchange.request.hex(),
        "request_end": exchange.request_end,
        "silence_s": exchange.silence_s,
        "violates_gap": exchange.violates_gap,
        "collided": exchange.collided,
        "meters": exchange.meters,
        "reply": exchange.reply.hex(),
        "reply_begin": exchange.reply_begin,
        "free_at": exchange.free_at,
        "delivered_at": exchange.delivered_at,
    }
