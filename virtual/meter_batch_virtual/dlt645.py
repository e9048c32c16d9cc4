"""A virtual DL/T 645 meter: its identifiers, by edition, from physics and memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial

from meter_batch_engine.protocol.dlt645.frame import Variant
from meter_batch_engine.protocol.dlt645.item import ItemValue, Value, encode_item
from meter_batch_engine.protocol.dlt645.load_record import LoadRecord, LoadRequest

from .energies import Energy
from .episode import Episode
from .events import EventLog
from .load import SLOT_S, TARIFFS
from .memory import Memory
from .parameters import DEMAND_CLEARED, PROGRAMMING, Parameters
from .physics import Physics

CLOCK_WINDOW = timedelta(minutes=10)
"""A broadcast time that is further away than this is not obeyed; nor a second one on the same day."""

_ACTIVE, _REACTIVE_1, _REACTIVE_2 = ("import", "export"), ("q1", "q2"), ("q3", "q4")
_ENERGIES_2007: dict[int, tuple[str, ...]] = {
    0x00: _ACTIVE,
    0x01: ("import",),
    0x02: ("export",),
    0x03: _REACTIVE_1,
    0x04: _REACTIVE_2,
    0x05: ("q1",),
    0x06: ("q2",),
    0x07: ("q3",),
    0x08: ("q4",),
    0x09: ("apparent_import",),
    0x0A: ("apparent_export",),
}
"""Kind of energy → what it adds up. The combination words 04000601..03 say the same."""
_PHASE_ENERGIES = {0x15: 1, 0x29: 2, 0x3D: 3}
"""First kind of energy of a phase; the nine others follow in the order of the totals 01..0A."""
_ENERGIES_1997 = {
    (0x90, 1): ("import",),
    (0x90, 2): ("export",),
    (0x91, 1): _REACTIVE_1,
    (0x91, 2): _REACTIVE_2,
    (0x91, 3): ("q1",),
    (0x91, 4): ("q4",),
    (0x91, 5): ("q2",),
    (0x91, 6): ("q3",),
}
_DEMANDS = {
    0x01: "import",
    0x02: "export",
    0x03: "reactive_1",
    0x04: "reactive_2",
    0x05: "q1",
    0x06: "q2",
    0x07: "q3",
    0x08: "q4",
    0x09: "apparent_import",
    0x0A: "apparent_export",
}
_DEMANDS_1997 = {
    0xA0: {1: "import", 2: "export"},
    0xA1: dict(enumerate(("reactive_1", "reactive_2", "q1", "q4", "q2", "q3"), 1)),
}


class Dlt645Memory:
    """Everything a DL/T 645 meter can be asked for, at one instant of its clock.

    `physics` measures, `memory` knows which instants were kept under which label, `parameters` what is set, `episodes`
    what has happened.
    """

    def __init__(
        self, variant: Variant, physics: Physics, memory: Memory, parameters: Parameters, episodes: Sequence[Episode]
    ) -> None:
        self.variant, self.physics, self.memory, self.parameters = variant, physics, memory, parameters
        self._episodes = episodes

    def item(self, di: str, now: datetime, wall: datetime, *, zeroed: bool = False) -> bytes | None:
        """The bytes of an item at an instant; None where the meter has none. `wall` is its clock (naive).

        `zeroed` gives counters as they read while a meter starts again.
        """
        held = self.parameters.get(di)
        if held is not None:
            return held
        if self.variant == "2007" and di.startswith("03"):
            _, kind, phase, number = bytes.fromhex(di)
            return self.events.item(kind, phase, number, now)
        values = self._values_2007(di, now, wall) if self.variant == "2007" else self._values_1997(di, now, wall)
        if values is None:
            return None
        if di.startswith("05") and di[4:6] == "FF" and self.variant == "2007":
            return self._freeze_block(di, now, wall)
        if zeroed:
            values = [ItemValue(di, "", Decimal(0)) if isinstance(one, Decimal | ItemValue) else one for one in values]
        return encode_item(di, values, self.variant)

    @property
    def events(self) -> EventLog:
        """What has happened to the meter until now."""
        return EventLog(self._episodes, self.parameters, self.physics, self.memory)

    # --- 2007

    def _values_2007(self, di: str, now: datetime, wall: datetime) -> Sequence[ItemValue | Value | float] | None:
        group, kind, third, last = bytes.fromhex(di)
        match group:
            case 0x00:
                at = self._closed(last, now, wall)
                energy = self._energy(kind, third)
                return None if at is None or energy is None else [self.physics.energy(energy, at)]
            case 0x01:
                return self._maximum_demand(*_demand_of(kind), third, last, di, now, wall)
            case 0x02:
                return self._measured(kind, third, last, now)
            case 0x04:
                return self._parameter(di, now, wall)
            case 0x05:
                return self._freeze(kind, third, last, now, wall)
        return None

    def _energy(self, kind: int, tariff: int) -> Energy | None:
        if tariff > TARIFFS:
            return None
        if kind in _ENERGIES_2007:
            return Energy(_ENERGIES_2007[kind], (), 0, tariff)
        for first, phase in _PHASE_ENERGIES.items():
            if first <= kind < first + 10 and phase <= self.physics.phases and tariff == 0:
                return Energy(_ENERGIES_2007[kind - first + 1], (), phase, 0)
        return None

    def _closed(self, number: int, now: datetime, wall: datetime) -> datetime | None:
        """The instant of a billing day, now for 0."""
        if number == 0:
            return now
        closed = self.memory.billing(number, wall)
        return None if closed is None else closed.at

    def _maximum_demand(
        self, kind: str | None, phase: int, tariff: int, number: int, di: str, now: datetime, wall: datetime
    ) -> list[ItemValue | Value | float] | None:
        if kind is None or tariff > (0 if phase else TARIFFS) or phase > self.physics.phases:
            return None
        until = self._closed(number, now, wall)
        since = self._closed(number + 1, now, wall)
        if until is None:
            return None
        if since is None:
            since = self.physics.billing_start(until - timedelta(seconds=1))
        cleared = self.parameters.demand_cleared_at
        if cleared is not None and since < cleared <= until:
            # The period in which it was cleared belongs to no maximum any more.
            since = cleared + timedelta(seconds=SLOT_S)
        return [self._demand(di, since, until, kind, tariff, phase)]

    def _demand(self, di: str, since: datetime, until: datetime, kind: str, tariff: int, phase: int = 0) -> ItemValue:
        """A maximum demand with its time by the meter's clock."""
        demand, ended_at = self.physics.maximum_demand(since, until, kind, tariff, phase)
        return ItemValue(di, "", demand, at=None if ended_at is None else self.memory.wall(ended_at))

    def _measured(self, kind: int, phase: int, last: int, now: datetime) -> list[Value | float] | None:
        if kind == 0x80:
            return self._measured_once(last, now) if phase == 0 else None
        keys = {
            0x01: "32 52 72",
            0x02: "31 51 71",
            0x03: "16 36 56 76",
            0x04: "131 151 171 191",
            0x05: "9 29 49 69",
            0x06: "13 33 53 73",
        }.get(kind)
        first = 0 if kind in (0x03, 0x04, 0x05, 0x06) else 1
        if last or not first <= phase <= 3:
            return None
        if keys is not None:
            obis = f"1-0:{keys.split()[phase - first]}.7.0"
        elif kind in (0x07, 0x08, 0x09, 0x0C):
            obis = {
                0x07: f"1-0:81.7.{4 + 11 * (phase - 1)}",
                0x08: f"1-0:{12 + 20 * phase}.7.124",
                0x09: f"1-0:{11 + 20 * phase}.7.124",
                0x0C: f"1-128:12.7.{phase}",
            }[kind]
        else:
            return None
        # A phase that is not fitted reads FF..FF.
        return [self.physics.registers(now, (obis,)).get(obis)]

    def _measured_once(self, last: int, now: datetime) -> list[Value | float] | None:
        physics = self.physics
        demand: Callable[[str], float] = partial(physics.demand, now)
        value: Decimal | float | None = {
            0x01: lambda: physics.registers(now, ("1-0:91.7.0",))["1-0:91.7.0"],
            0x02: lambda: physics.registers(now, ("1-0:14.7.0",))["1-0:14.7.0"],
            0x03: lambda: physics.mean_kw(now - timedelta(minutes=1), now),
            0x04: lambda: demand("import"),
            0x05: lambda: demand("q1") + demand("q2") - demand("q3") - demand("q4"),
            0x06: lambda: demand("apparent_import") + demand("apparent_export"),
            0x07: lambda: physics.registers(now, ("0-0:96.9.0",))["0-0:96.9.0"],
            0x08: lambda: Decimal("3.65"),
            0x09: lambda: Decimal("6.02"),
            0x0A: lambda: Decimal(0),
        }.get(last, lambda: None)()
        return None if value is None else [value]

    def _parameter(self, di: str, now: datetime, wall: datetime) -> Sequence[Value] | None:
        match di:
            case "04000101":
                return [wall.date()]
            case "04000102":
                return [wall.time()]
            case "0400010C":
                return [wall.date(), wall.time()]
        if di.startswith("040005") and di[6:] <= "07" and di[6:] != "00":
            return [self._status(int(di[6:]), now)]
        return None

    def _status(self, word: int, now: datetime) -> tuple[str, ...]:
        measured = self.physics.instant(now)
        if word == 1:
            reverse = sum(measured.active) < 0, sum(measured.reactive) < 0
            return ("active_power_reverse",) * reverse[0] + ("reactive_power_reverse",) * reverse[1]
        if word == 2:
            return tuple(
                f"{name}_power_l{phase}_reverse"
                for name, powers in (("active", measured.active), ("reactive", measured.reactive))
                for phase, power in enumerate(powers, 1)
                if power < 0
            )
        return self.events.states(word - 3, now) if 4 <= word <= 6 else ()

    def _freeze(
        self, kind: int, column: int, number: int, now: datetime, wall: datetime
    ) -> list[ItemValue | Value | float] | None:
        frozen = self.memory.freeze(kind, number, wall)
        if frozen is None:
            return None
        at = frozen.at
        if column == 0:
            return [frozen.label]
        if column == 0xFF:
            return []
        if 1 <= column <= 8:
            tariffs = range(1 if kind == 4 else TARIFFS + 1)
            return [self.physics.energy(Energy(_ENERGIES_2007[column], (), 0, tariff), at) for tariff in tariffs]
        if column in (0x09, 0x0A) and kind != 4:
            since = self.physics.billing_start(at - timedelta(seconds=1))
            return [self._demand("", since, at, _DEMANDS[column - 8], tariff) for tariff in range(TARIFFS + 1)]
        if column == 0x10 and kind != 4:
            measured = self.physics.instant(at)
            powers: list[ItemValue | Value | float] = []
            for phases in (measured.active, measured.reactive):
                powers += [sum(phases), *phases, *[None] * (3 - len(phases))]
            return powers
        return None

    def _freeze_block(self, di: str, now: datetime, wall: datetime) -> bytes | None:
        """All columns of a freeze in a row."""
        columns = ("00", "01", "02") if di.startswith("0504") else ("00", *(f"{one:02X}" for one in range(1, 11)), "10")
        parts = [self.item(f"{di[:4]}{column}{di[6:]}", now, wall) for column in columns]
        return b"".join(part for part in parts if part is not None)

    def load_records(self, request: LoadRequest, wall: datetime) -> list[LoadRecord] | None:
        """The records a reader asks for, oldest first; None where this edition or meter keeps none."""
        if self.variant != "2007" or not self.memory.present:
            return None
        kinds = range(1, 7) if request.kind == 0 else (request.kind,)
        kept = self.memory.load_records(request, wall)
        classes = {kind: self._load_class(kind, [one.at for one in kept]) for kind in kinds}
        return [
            LoadRecord(one.label, {kind: values[number] for kind, values in classes.items()})
            for number, one in enumerate(kept)
        ]

    def _load_class(self, kind: int, instants: Sequence[datetime]) -> list[tuple[Decimal | None, ...]]:
        """One class of the load records of ascending instants."""
        if kind not in (4, 5):
            return [self._recorded(kind, at) for at in instants]
        columns = range(1, 5) if kind == 4 else range(5, 9)
        energies = [Energy(_ENERGIES_2007[one], (), 0, 0) for one in columns]
        last_digit = self.physics.resolution_kwh
        return [tuple(count * last_digit for count in counts) for counts in self.physics.totals(energies, instants)]

    def _recorded(self, kind: int, at: datetime) -> tuple[Decimal | None, ...]:
        physics, now = self.physics, self.physics.instant(at)
        match kind:
            case 1:
                frequency = float(physics.registers(at, ("1-0:14.7.0",))["1-0:14.7.0"])
                return (*_three(now.voltage, 1), *_three(now.current, 3), _rounded(frequency, 2))
            case 2:
                return (
                    _rounded(sum(now.active), 4),
                    *_three(now.active, 4),
                    _rounded(sum(now.reactive), 4),
                    *_three(now.reactive, 4),
                )
            case 3:
                apparent = sum(now.apparent)
                return (_rounded(sum(now.active) / apparent if apparent else 1.0, 3), *_three(now.power_factor, 3))
            case _:
                active = physics.demand(at, "import") - physics.demand(at, "export")
                reactive = sum(sign * physics.demand(at, f"q{q}") for q, sign in ((1, 1), (2, 1), (3, -1), (4, -1)))
                return (_rounded(active, 4), _rounded(reactive, 4))

    # --- 1997

    def _values_1997(self, di: str, now: datetime, wall: datetime) -> Sequence[ItemValue | Value | float] | None:
        first, second = bytes.fromhex(di)
        high, low = divmod(second, 16)
        base, month = first & 0xF3, (first & 0x0F) >> 2
        if base in (0x90, 0x91, 0xA0, 0xA1, 0xB0, 0xB1):
            kinds = _ENERGIES_1997.get((base, high))
            if base >= 0xA0:
                return self._demand_1997(base, high, low, month, now, wall)
            at = self._closed(month, now, wall)
            if month > 2 or kinds is None or low > TARIFFS or at is None:
                return None
            return [self.physics.energy(Energy(kinds, (), 0, low), at)]
        if first == 0xB6:
            return self._measured_1997(high, low, now)
        if first in (0xB2, 0xB3):
            return self._happened_1997(first, high, low, now)
        clock: dict[str, Sequence[Value]] = {"C010": [wall.date()], "C011": [wall.time()]}
        return clock.get(di)

    def _happened_1997(self, first: int, high: int, low: int, now: datetime) -> list[ItemValue | Value | float] | None:
        """Programmings, demand clears and phase failures: times MMDDhhmm, counts, minutes."""
        events = self.events
        if first == 0xB2:
            logs = events.logs((PROGRAMMING, DEMAND_CLEARED)[low & 1])
            if high != 1 or low > 3:
                return None
            if low >= 2:
                return [Decimal(len(logs) % 10_000)]
            return [_moment_1997(self.memory.wall(logs[-1].at) if logs else None)]
        count, minutes, last = events.phase_failures(low, now)
        if low > 3 or not 1 <= high <= 4:
            return None
        if high <= 2:
            return [Decimal((count % 10_000, minutes % 10**6)[high - 1])]
        at = None if last is None else (last.since, last.until)[high - 3]
        return [_moment_1997(None if at is None or at > now else self.memory.wall(at))]

    def _demand_1997(
        self, base: int, high: int, low: int, month: int, now: datetime, wall: datetime
    ) -> list[ItemValue | Value | float] | None:
        if month > 2:
            return None
        found = self._maximum_demand(_DEMANDS_1997[base & 0x0F | 0xA0].get(high), 0, low, month, "", now, wall)
        if found is None:
            return None
        assert isinstance(found[0], ItemValue)
        return [found[0].value if base < 0xB0 else _moment_1997(found[0].at)]

    def _measured_1997(self, high: int, low: int, now: datetime) -> list[Value | float] | None:
        codes = {1: "32 52 72", 2: "31 51 71", 3: "16 36 56 76", 4: "131 151 171 191", 5: "13 33 53 73"}.get(high)
        first = 1 if high in (1, 2) else 0
        if codes is None or not first <= low <= 3:
            return None
        obis = f"1-0:{codes.split()[low - first]}.7.0"
        value = self.physics.registers(now, (obis,)).get(obis)
        # This edition knows no sign: the direction stands in the status word.
        return [None if value is None else abs(float(value))]


def _rounded(value: float, decimals: int) -> Decimal:
    return round(Decimal(repr(value)), decimals)


def _three(phases: Sequence[float], decimals: int) -> tuple[Decimal | None, ...]:
    fitted = tuple(_rounded(one, decimals) for one in phases)
    return fitted + (None,) * (3 - len(fitted))


def _demand_of(kind: int) -> tuple[str | None, int]:
    """What a kind of maximum demand is of, and its phase (0 for all)."""
    for first, phase in _PHASE_ENERGIES.items():
        if first <= kind < first + 10:
            return _DEMANDS[kind - first + 1], phase
    return _DEMANDS.get(kind), 0


def _moment_1997(at: datetime | None) -> str:
    return "00000000" if at is None else f"{at:%m%d%H%M}"
