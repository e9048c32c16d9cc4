"""What goes into the ledger: registers at a boundary, registers that began again, what was seen between boundaries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Literal, Protocol

from ..model.obis import Obis
from ..model.point import Point
from ..model.quantity import BY_KEY, QUANTITIES, Kind
from ..model.reading import Flag, Reading

type Source = Literal["poll", "memory"]
"""Read from the meter's registers for a boundary, or from its memory (freeze, load record, profile) afterwards."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MICROSECOND = timedelta(microseconds=1)
BEGAN_AGAIN = frozenset({Flag.RESET, Flag.ROLL_OVER, Flag.SWAP})
COUNTED = frozenset({Kind.CUMULATIVE, Kind.BALANCE})

_POWER, _FACTOR = BY_KEY["active_power"].obis, BY_KEY["power_factor"].obis
_VOLTAGES = frozenset(BY_KEY[key].obis for key in ("voltage", "voltage_l1", "voltage_l2", "voltage_l3"))


def seconds(at: datetime) -> int:
    """Whole seconds since 1970, UTC."""
    return (at - EPOCH) // SECOND


def instant(at: int) -> datetime:
    """The inverse of `seconds`."""
    return EPOCH + timedelta(seconds=at)


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen during the interval that ends at a boundary; None where nothing was."""

    demand_max_kw: float | None = None
    voltage_min_v: float | None = None
    voltage_mean_v: float | None = None
    voltage_max_v: float | None = None
    power_factor: float | None = None


NOTHING = Observed()


@dataclass(frozen=True, slots=True)
class Boundary:
    """The cumulative registers of a point at an interval boundary, as its meter shows them: without multiplier."""

    point: str
    at: datetime
    registers: Mapping[Obis, Decimal]
    skew_s: float = 0.0
    """How long after the boundary they were read."""
    source: Source = "poll"
    meter: str = ""
    """Which meter it was (serial number, or since when it is there); another one is a swap."""
    ends: Mapping[Obis, Decimal] = field(default_factory=dict)
    """Where registers begin again at zero, as far as that is known."""
    observed: Observed = NOTHING


@dataclass(frozen=True, slots=True)
class Restart:
    """A register began again at `at`: it showed `last` before and `first` after.

    Without `last`, what was counted since the register before is lost (of a roll-over: its end is known from the
    boundary). Without `first`, it is zero; after a swap, what the next register shows.
    """

    point: str
    obis: Obis
    at: datetime
    kind: Flag
    last: Decimal | None = None
    first: Decimal | None = None


def swap(point: str, at: datetime, last: Mapping[Obis, Decimal], first: Mapping[Obis, Decimal]) -> list[Restart]:
    """Another meter was put in: what the old one showed at the end and the new one at the beginning."""
    return [Restart(point, obis, at, Flag.SWAP, last.get(obis), first.get(obis)) for obis in {**last, **first}]


class SnapshotLike(Protocol):
    """`fleet.Snapshot`, which the ledger must not know."""

    @property
    def boundary(self) -> datetime:
        """The boundary it is for."""

    @property
    def skew_s(self) -> float:
        """How long after it."""

    @property
    def readings(self) -> tuple[Reading, ...]:
        """The energies."""


def boundary_of(
    point: Point,
    snapshot: SnapshotLike,
    *,
    source: Source = "poll",
    ends: Mapping[Obis, Decimal] | None = None,
    observed: Observed = NOTHING,
) -> Boundary:
    """A snapshot or a record of memory (× multiplier, as the poller gives it) as it stands in the meter.

    Bad readings are left out, and what a meter that replaced another one remembers from before it came.
    """
    registers = {}
    meter = point.meter
    if source == "poll" or len(point.meters) == 1 or meter.since <= snapshot.boundary:
        at = factor = None
        for reading in snapshot.readings:
            if reading.good and QUANTITIES[reading.obis].kind in COUNTED:
                if reading.at is not at:
                    at, factor = reading.at, _factor(point, reading.at)
                # Exact: the product came from a finite decimal, and this gives it back.
                value = reading.value if isinstance(reading.value, Decimal) else Decimal(reading.value)
                registers[reading.obis] = value if factor is None else value / factor
    return Boundary(
        point.id,
        snapshot.boundary,
        registers,
        snapshot.skew_s,
        source,
        meter.serial or meter.since.isoformat(),
        ends or {},
        observed,
    )


def restarts_of(point: str, readings: Iterable[Reading]) -> list[Restart]:
    """Registers of which validation says that they began again; for all readings, at a boundary or between."""
    return [
        Restart(point, one.obis, one.at, flag)
        for one in readings
        if one.good
        for flag in sorted(one.flags & BEGAN_AGAIN)
    ]


def _factor(point: Point, at: datetime) -> Decimal | None:
    multiplier = point.multiplier_at(at)
    return None if multiplier is None else multiplier.ct * multiplier.pt


class Observer:
    """Gathers what is seen between boundaries, of one point."""

    def __init__(self) -> None:
        self._power: list[float] = []
        self._factor: list[float] = []
        self._voltage: list[float] = []

    def note(self, readings: Iterable[Reading]) -> None:
        """Readings at the primary side, as they come."""
        for one in readings:
            if not one.good:
                continue
            if one.obis == _POWER:
                self._power.append(float(one.value))
            elif one.obis == _FACTOR:
                self._factor.append(float(one.value))
            elif one.obis in _VOLTAGES:
                self._voltage.append(float(one.value))

    def take(self) -> Observed:
        """What was seen since the last call."""
        power, factor, voltage = self._power, self._factor, self._voltage
        self._power, self._factor, self._voltage = [], [], []
        return Observed(
            max(power, default=None),
            min(voltage, default=None),
            sum(voltage) / len(voltage) if voltage else None,
            max(voltage, default=None),
            sum(factor) / len(factor) if factor else None,
        )
