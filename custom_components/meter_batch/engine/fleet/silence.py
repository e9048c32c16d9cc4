"""Meters that do not answer are asked cheaply and ever more rarely whether they are there again."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..errors import MeterError, Refused
from .meter import Meter
from .reader import Reader

SPACING_S = 5.0
"""On a busy line so far apart, whoever waits."""
REVIVAL_SHARE = 0.85
"""Probes come this much earlier than `probe_cap_s`, so that a revival is seen within it although the line is busy."""


class Probes:
    """The probes of one line; `cap_s`: a silent meter that answers again is seen within this time."""

    def __init__(self, reader: Reader, cap_s: float, monotonic: Callable[[], float]) -> None:
        self._reader, self._cap_s, self._monotonic = reader, cap_s * REVIVAL_SHARE, monotonic
        self._probed_at = 0.0

    async def one(self, meters: Mapping[str, Meter], *, busy: bool) -> None:
        """Asks the silent meter that has waited longest whether it is there again, if one is due. Raises LineError."""
        now = self._monotonic()
        silent = [meter for meter in meters.values() if meter.silent]
        due = [meter for meter in silent if meter.probe_at <= now]
        if not due or (busy and now < self._probed_at + min(SPACING_S, self._cap_s / (len(silent) + 1))):
            return
        meter = min(due, key=lambda one: one.probe_at)
        others = [one.turnround for one in meters.values() if not one.silent]
        request = meter.probe
        if self._reader.blocked_s(meter, request) > 0:
            meter.probe_at = now + 1.0
            return
        try:
            await self._reader.ask(meter, request, meter.probe_timeout_s(others), "probe")
        except Refused:
            pass  # it is there
        except MeterError:
            meter.probe_failed(self._monotonic(), self._cap_s)
        self._probed_at = self._monotonic()
