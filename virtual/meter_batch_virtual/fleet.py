"""A virtual fleet: all its lines together, and the truth about every meter."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from decimal import Decimal
from pathlib import Path
from typing import Any

from meter_batch_engine.errors import MeterBatchError

from .clock import FleetClock
from .config import FleetConfig, LineConfig, MeterConfig, load_fleet
from .line import VirtualLine
from .meter import VirtualMeter, virtual_meter
from .timer import Timer

__all__ = ["FleetConfig", "LineConfig", "TruthFile", "VirtualFleet", "load_fleet"]

TRUTH_EVERY_S = 4.0
_BREATH_S = 0.002


class VirtualFleet:
    """The lines of a config, running. `hold` freezes all values, `speed` makes the fleet's time run faster."""

    def __init__(self, config: FleetConfig, *, hold: bool = False, speed: float = 1.0) -> None:
        self.config = config
        self.clock = FleetClock(speed=speed, hold=hold)
        self.meters: list[tuple[LineConfig, VirtualMeter]] = [
            (line, virtual_meter(meter, self.clock, config.utc_offset, line.baud))
            for line in config.lines
            for meter in line.meters
        ]
        self.lines: list[VirtualLine] = []
        self._timer: Timer | None = None

    async def start(self) -> None:
        """All lines begin to listen; raises LineUnavailable, and then none does."""
        self._timer = Timer()
        try:
            for config in self.config.lines:
                meters = [meter for line, meter in self.meters if line is config]
                line = VirtualLine(config, meters, self.clock, self._timer, self.config.folder)
                await line.start()
                self.lines.append(line)
        except MeterBatchError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Ends all lines; nothing stays behind."""
        for line in self.lines:
            await line.stop()
        self.lines.clear()
        if self._timer is not None:
            self._timer.close()
            self._timer = None

    async def run(self) -> None:
        """Until the fleet is stopped; raises LineUnavailable where a line that was pulled does not come back."""
        await asyncio.gather(*(line.run() for line in self.lines))

    def reload_faults(self, config: FleetConfig) -> list[str]:
        """The faults of this config, from now on; what else is another in it than in the running fleet, in words.

        Nothing but faults is touched. Lines and meters are known by their names.
        """
        lines = {line.name: line.faults for line in config.lines}
        meters = {meter.name: meter.faults for line in config.lines for meter in line.meters}
        for running in self.lines:
            if (faults := lines.get(running.config.name)) is not None:
                running.reload(faults)
        for _, meter in self.meters:
            if (faults := meters.get(meter.config.name)) is not None:
                meter.faults.reload(faults, self.clock.since_start_s())
        return list(_changes(self.config, config))

    def line(self, name: str) -> VirtualLine:
        """A running line by name."""
        return next(line for line in self.lines if line.config.name == name)

    def truth(self) -> list[dict[str, Any]]:
        """Every meter's true registers, to the digit as the wire gives them."""
        return list(self.truths())

    def truths(self) -> Iterator[dict[str, Any]]:
        """The same, one meter after the other."""
        for line, meter in self.meters:
            at = self.clock.now()
            yield {
                "meter": meter.config.name,
                "at": at.isoformat(),
                "line": line.name,
                "address": meter.address,
                "template": meter.template.id,
                "serial": meter.serial,
                "ct": meter.config.ct,
                "pt": meter.config.pt,
                "held": self.clock.held,
                "registers": {obis: f"{Decimal(str(value)):f}" for obis, value in sorted(meter.truth(at).items())},
            }


def _changes(running: FleetConfig, read: FleetConfig) -> Iterator[str]:
    """What a reload of the faults leaves out: everything else that is another."""
    if running.utc_offset != read.utc_offset:
        yield "utc_offset_h"
    yield from _compare("line", _by_name(running.lines), _by_name(read.lines), but=("faults", "meters"))
    here, there = ({meter.name: line.name for line in one.lines for meter in line.meters} for one in (running, read))
    yield from (
        f'meter "{name}" hangs on line "{there[name]}"' for name in here if there.get(name, here[name]) != here[name]
    )
    was, now = (_by_name([meter for line in one.lines for meter in line.meters]) for one in (running, read))
    yield from _compare("meter", was, now, but=("faults",))


def _by_name[C: (LineConfig, MeterConfig)](configs: Sequence[C]) -> dict[str, C]:
    return {config.name: config for config in configs}


def _compare[C: (LineConfig, MeterConfig)](
    what: str, running: Mapping[str, C], read: Mapping[str, C], *, but: tuple[str, ...]
) -> Iterator[str]:
    for name, was in running.items():
        if (now := read.get(name)) is None:
            yield f'{what} "{name}" is gone'
            continue
        keys = [one.name for one in fields(was) if one.name not in but]
        if other := [key for key in keys if getattr(was, key) != getattr(now, key)]:
            yield f'{what} "{name}": {", ".join(other)}'
    yield from (f'{what} "{name}" is new' for name in read if name not in running)


class TruthFile:
    """Keeps a file with the truth of a fleet: a JSON array, replaced as a whole, so that readers never see half."""

    def __init__(self, fleet: VirtualFleet, path: Path) -> None:
        self._fleet = fleet
        self._path = path
        self._again = asyncio.Event()

    def refresh(self) -> None:
        """Writes again at once instead of at the next turn."""
        self._again.set()

    async def run(self) -> None:
        """Until cancelled; raises OSError where the file cannot be written."""
        while True:
            self._again.clear()
            begun = asyncio.get_running_loop().time()
            await self.write()
            left = begun + TRUTH_EVERY_S - asyncio.get_running_loop().time()
            try:
                await asyncio.wait_for(self._again.wait(), max(0.2, left))
            except TimeoutError:
                continue

    async def write(self) -> None:
        """Writes once. Meter by meter, with time for the wires between."""
        loop = asyncio.get_running_loop()
        parts: list[str] = []
        begun = loop.time()
        held = self._fleet.clock.held
        for truth in self._fleet.truths():
            parts.append(json.dumps(truth, ensure_ascii=False))
            if loop.time() - begun > _BREATH_S:
                await asyncio.sleep(_BREATH_S)
                begun = loop.time()
            if self._fleet.clock.held != held:
                self._again.set()
        draft = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        await asyncio.to_thread(_replace, draft, self._path, "[" + ",\n".join(parts) + "]\n")


def _replace(draft: Path, path: Path, text: str) -> None:
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
