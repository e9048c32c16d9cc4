"""Energies as long-term statistics: one external statistic a register, from the registers at the interval boundaries.

Only differences of registers count, taken before the multiplier, so that neither a new multiplier nor a new meter makes
a bar of its own. The sum never falls. What came while nobody read is spread evenly over the missing hours.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from homeassistant.components.recorder.models import StatisticData, StatisticMeanType, StatisticMetaData
from homeassistant.components.recorder.statistics import async_add_external_statistics, get_last_statistics
from homeassistant.core import HomeAssistant
from homeassistant.helpers import translation
from homeassistant.helpers.recorder import get_instance
from homeassistant.helpers.storage import Store
from homeassistant.util import dt as dt_util

from .const import DOMAIN
from .engine import Point
from .engine.model.quantity import QUANTITIES, Quantity
from .engine.model.reading import Flag, Reading
from .registry import Registry

_LOGGER = logging.getLogger(__name__)

HOUR = timedelta(hours=1)
TICK = timedelta(microseconds=1)
LONGEST_FILL = timedelta(days=31)
"""Consumption of a longer silence is spread over its last days only."""
SAVE_DELAY_S = 1.0

KEPT = ("energy_import", "energy_export", "energy_gross")
"""The registers that get a statistic; the gross one only where a meter does not tell import from export."""
MOST_PER_HOUR = Decimal(100_000)
"""kWh at the meter itself; nobody builds a meter that counts more, so a greater step is another meter's register."""


def kept(obis: Iterable[str]) -> list[Quantity]:
    """Which of these registers get a statistic."""
    keys = {QUANTITIES[one].key: QUANTITIES[one] for one in obis if one in QUANTITIES}
    found = [keys[key] for key in KEPT if key in keys]
    return [one for one in found if one.key != "energy_gross" or "energy_import" not in keys]


def statistic_id(point: str, quantity: Quantity) -> str:
    """The id of the one statistic of a register of a point."""
    return f"{DOMAIN}:{point}_{quantity.key}"


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a statistic is written: the register (without multiplier) at an instant, and the sum until then."""

    at: datetime
    register: Decimal
    sum: Decimal
    fresh: Decimal | None = None
    """Where the register began again since `at` (reset, roll-over, swap): what had been counted anew by then."""
    lost: Decimal = Decimal(0)
    """What the register still counted before it began again, where that is known."""
    doubted: Decimal | None = None
    """A register that was lower than before although nobody said why; the next one decides."""


def factor(point: Point, at: datetime) -> Decimal:
    """CT × PT at an instant."""
    multiplier = point.multiplier_at(at)
    return Decimal(1) if multiplier is None else multiplier.ct * multiplier.pt


def began_again(mark: Mark, flags: frozenset[Flag], register: Decimal) -> Mark:
    """The mark after a reading said that its register had begun again; consumption known so far is kept."""
    before = mark.register if mark.fresh is None else None
    lost = mark.lost
    if Flag.ROLL_OVER in flags and before is not None:
        lost += Decimal(10) ** (before.adjusted() + 1) - before
        fresh = Decimal(0)
    elif Flag.RESET in flags:
        fresh = Decimal(0)
    else:  # another meter: what it counted elsewhere is not this point's
        fresh = register
    return replace(mark, fresh=fresh, lost=lost, doubted=None)


def advance(mark: Mark | None, register: Decimal, boundary: datetime, times: Decimal) -> tuple[list[Row], Mark]:
    """The rows that a register at a boundary adds or changes, and the new mark; none for a boundary that was seen."""
    if mark is None:
        return [Row(_hour_before(boundary), register * times, Decimal(0))], Mark(boundary, register, Decimal(0))
    if boundary <= mark.at:
        return [], mark
    if mark.fresh is not None:
        delta = mark.lost + register - mark.fresh
    elif register < mark.register:
        if mark.doubted is None or register < mark.doubted:
            return [], replace(mark, doubted=register)
        # Twice lower: it did begin again while nobody looked.
        delta = register - mark.doubted
    else:
        delta = register - mark.register
    hours = Decimal((boundary - mark.at) / HOUR)
    if delta < 0 or delta > MOST_PER_HOUR * max(hours, Decimal(1)):
        _LOGGER.warning(
            "A register went from %s to %s; it goes on from there without counting that", mark.register, register
        )
        delta = Decimal(0)
    straight = mark.fresh is None and register >= mark.register
    begin = max(mark.at, boundary - LONGEST_FILL)
    rows = []
    end = _hour_before(begin + TICK) + HOUR
    while True:
        end = min(end, boundary)
        part = delta * ((end - begin) // TICK) / ((boundary - begin) // TICK)
        state = mark.register + part if straight else register
        rows.append(Row(_hour_before(end), (register if end == boundary else state) * times, mark.sum + part * times))
        if end == boundary:
            break
        end += HOUR
    return rows, Mark(boundary, register, mark.sum + delta * times)


@dataclass(frozen=True, slots=True)
class Row:
    """One hour of a statistic: its start, the register at its end, the sum until then."""

    start: datetime
    state: Decimal
    sum: Decimal


def _hour_before(at: datetime) -> datetime:
    """Start of the hour that ends at, or holds, the moment before `at`."""
    return (at - TICK).replace(minute=0, second=0, microsecond=0)


class History:
    """Writes the statistics of all points; used by all lines, so that a point may move between them."""

    def __init__(self, hass: HomeAssistant, registry: Registry) -> None:
        self._hass, self._registry = hass, registry
        self._store: Store[dict[str, Any]] = Store(hass, 1, f"{DOMAIN}.history", serialize_in_event_loop=False)
        self._stored: dict[str, Mark] | None = None
        self._marks: dict[str, Mark | None] = {}
        self._lock = asyncio.Lock()

    @property
    def enabled(self) -> bool:
        """False where Home Assistant runs without a recorder."""
        return "recorder" in self._hass.config.components

    def note(self, point: Point, readings: Iterable[Reading]) -> None:
        """Takes readings between boundaries: a register that began again must be known at the next boundary."""
        for reading in readings:
            if not reading.flags & {Flag.RESET, Flag.ROLL_OVER, Flag.SWAP} or not reading.good:
                continue
            id_ = statistic_id(point.id, QUANTITIES[reading.obis])
            if (mark := self._marks.get(id_)) is not None and reading.at > mark.at:
                register = Decimal(reading.value) / factor(point, reading.at)
                self._marks[id_] = began_again(mark, reading.flags, register)

    async def async_take(
        self, snapshots: Mapping[str, tuple[datetime, Iterable[Reading]]], *, first: bool = False
    ) -> None:
        """Writes what registers at a boundary add: by point id, the boundary and the readings taken for it.

        `first`: these are no boundary but the first readings since the start; they begin statistics that do not exist.
        """
        if not self.enabled:
            return
        async with self._lock:
            for id_, (boundary, readings) in snapshots.items():
                if (point := self._registry.points.get(id_)) is not None:
                    await self._take(point, boundary, list(readings), first=first)

    async def _take(self, point: Point, boundary: datetime, readings: list[Reading], *, first: bool) -> None:
        by_obis = {reading.obis: reading for reading in readings if reading.good}
        for quantity in kept(by_obis):
            reading = by_obis[quantity.obis]
            times = factor(point, reading.at)
            register = Decimal(reading.value) / times
            id_ = statistic_id(point.id, quantity)
            mark = await self._mark(id_, point)
            if first and mark is not None:
                continue
            if mark is not None and mark.fresh is None and boundary > mark.at:
                if reading.flags & {Flag.RESET, Flag.ROLL_OVER, Flag.SWAP}:
                    mark = began_again(mark, reading.flags, register)
                elif point.meter.since > mark.at:
                    mark = began_again(mark, frozenset({Flag.SWAP}), register)
            metadata = await self._metadata(id_, point, quantity)
            # Nothing waits from here on: what is noted is handed to the recorder as well.
            rows, self._marks[id_] = advance(mark, register, boundary, times)
            if rows:
                async_add_external_statistics(self._hass, metadata, _data(rows))
        self._store.async_delay_save(self._save, SAVE_DELAY_S)

    async def _mark(self, id_: str, point: Point) -> Mark | None:
        """How far a statistic is written: what we noted if the recorder agrees, else what the recorder has."""
        if id_ in self._marks:
            return self._marks[id_]
        if self._stored is None:
            data = await self._store.async_load() or {}
            self._stored = {key: _mark_from(one) for key, one in data.items()}
        last = await get_instance(self._hass).async_add_executor_job(
            get_last_statistics, self._hass, 1, id_, False, {"state", "sum"}
        )
        mark = None
        if rows := last.get(id_):
            start = datetime.fromtimestamp(rows[0]["start"], UTC)
            total = Decimal(repr(rows[0]["sum"] or 0.0))
            mark = self._stored.get(id_)
            if mark is None or _hour_before(mark.at) != start or abs(mark.sum - total) > Decimal("0.001"):
                end = min(start + HOUR, dt_util.utcnow())
                mark = Mark(end, Decimal(repr(rows[0]["state"] or 0.0)) / factor(point, end), total)
        self._marks[id_] = mark
        return mark

    async def _metadata(self, id_: str, point: Point, quantity: Quantity) -> StatisticMetaData:
        texts = await translation.async_get_translations(self._hass, self._hass.config.language, "entity", {DOMAIN})
        label = texts.get(f"component.{DOMAIN}.entity.sensor.{quantity.key}.name", quantity.key)
        return StatisticMetaData(
            mean_type=StatisticMeanType.NONE,
            has_sum=True,
            name=f"{point.name} {label}",
            source=DOMAIN,
            statistic_id=id_,
            unit_class="energy",
            unit_of_measurement=quantity.unit,
        )

    def _save(self) -> dict[str, Any]:
        marks = {**(self._stored or {}), **self._marks}
        return {id_: _mark_as_dict(mark) for id_, mark in marks.items() if mark is not None}


def _data(rows: list[Row]) -> list[StatisticData]:
    return [StatisticData(start=row.start, state=float(row.state), sum=float(row.sum)) for row in rows]


def _mark_as_dict(mark: Mark) -> dict[str, str | None]:
    return {
        "at": mark.at.isoformat(),
        "register": str(mark.register),
        "sum": str(mark.sum),
        "fresh": None if mark.fresh is None else str(mark.fresh),
        "lost": str(mark.lost),
        "doubted": None if mark.doubted is None else str(mark.doubted),
    }


def _mark_from(data: Mapping[str, str | None]) -> Mark:
    def number(key: str) -> Decimal | None:
        text = data[key]
        return None if text is None else Decimal(text)

    return Mark(
        datetime.fromisoformat(data["at"] or ""),
        number("register") or Decimal(0),
        number("sum") or Decimal(0),
        number("fresh"),
        number("lost") or Decimal(0),
        number("doubted"),
    )
