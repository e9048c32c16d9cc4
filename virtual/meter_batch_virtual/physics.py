"""What a virtual meter measures: every register as a pure function of seed and time, so that a restart is no reset.

Energies are the exact integral of the power that the same object shows: power is constant over a 15-min slot but for
a swing that integrates to zero, so the integral has a closed form. Counting happens where a real meter counts, in
pulses of one register resolution for each phase and tariff; so all sums over phases and tariffs are exact.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import atan2, cos, degrees, pi, sin, sqrt

from meter_batch_engine.model.obis import Obis
from meter_batch_engine.model.quantity import QUANTITIES, Measure

from .counting import Counting
from .energies import ENERGIES, MERGED, Energy
from .instant import Instant, line_voltage, neutral_current, wander
from .load import SLOT_S, SLOTS, TARIFFS, VARIANTS, load, mix, tariff_schedule, uniform

FIRST_DAY = datetime(2025, 1, 1, tzinfo=UTC)
"""Virtual meters begin to count here; before, their registers stand at what they were delivered with."""

_DAY_S = 86_400
_FIRST_DAY_NUMBER = int(FIRST_DAY.timestamp()) // _DAY_S
_UNIT_PER_KWH = 10**9
"""Energy is counted in whole microwatt-hours, so that sums over years do not depend on their order."""
_PARTS = {"reactive_1": ("q1", "q2"), "reactive_2": ("q3", "q4")}
"""Demands that add kinds up."""


class Physics:
    """The registers of one meter.

    `peak_kw` is its greatest mean power at its own terminals, `resolution_kwh` the last digit of its energy registers,
    `tariffs` how many tariff registers it has (1 to 4), `utc_offset` that of its clock: days, tariffs and billing
    months are local. `ripple` is the amplitude of its swing inside a 15-min period as a share of its power (0 to below
    1); without it, the load's, a little different for each seed.
    """

    def __init__(
        self,
        seed: int,
        load_name: str = "office",
        phases: int = 3,
        *,
        peak_kw: float = 12.0,
        nominal_v: float = 230.0,
        resolution_kwh: Decimal = Decimal("0.01"),
        utc_offset: timedelta = timedelta(hours=8),
        tariffs: int = TARIFFS,
        ripple: float | None = None,
    ) -> None:
        self.seed = seed
        self.load = load(load_name)
        self.phases = phases
        self.peak_kw = peak_kw
        self.nominal_v = nominal_v
        self.resolution_kwh = resolution_kwh
        self.utc_offset = utc_offset
        self._periods = MERGED[tariffs]
        # By seed, so that meters of one load are not in step. Whole cycles in a slot: the swing integrates to zero.
        self._ripple = self.load.ripple * (0.8 + 0.2 * uniform(seed, 31)) if ripple is None else ripple
        cycles = self.load.ripple_periods
        self._turn = 2 * pi * (cycles // 2 + 1 + mix(seed, 32) % cycles)
        self._phase = pi * uniform(seed, 33)
        self._pulse = int(resolution_kwh * _UNIT_PER_KWH)
        self._shares = _phase_shares(seed, phases)
        self._slot_unit = peak_kw * SLOT_S / 3600 * _UNIT_PER_KWH
        # By local day since FIRST_DAY, as arrays: a thousand meters keep some years of them.
        self._factors = array("d")
        self._day_kinds = bytearray()  # weekend · VARIANTS + variant
        self._until: dict[tuple[str, int], array[int]] = {}
        self._instant: tuple[float, Instant] | None = None
        self._counts: tuple[datetime | None, dict[tuple[str, int], int]] = (None, {})

    # --- time

    def local(self, at: datetime) -> datetime:
        """The meter's local time, as an aware instant of its fixed offset."""
        return at.astimezone(UTC) + self.utc_offset

    def _place(self, at: datetime) -> tuple[int, int, float]:
        """Local day since FIRST_DAY, slot of that day, part of that slot that has passed."""
        local_s = at.timestamp() + self.utc_offset.total_seconds()
        day, second = divmod(local_s, _DAY_S)
        slot, second = divmod(second, SLOT_S)
        return int(day) - _FIRST_DAY_NUMBER, int(slot), second / SLOT_S

    def _day(self, number: int) -> tuple[int, int, float]:
        """Weekend or not, variant and factor of a local day."""
        factors = self._factors
        while len(factors) <= number:
            day = len(factors)
            # 1970-01-01 was a Thursday.
            weekend = int((day + _FIRST_DAY_NUMBER + 3) % 7 >= 5)
            stir = mix(self.seed, day, 1)
            spread = self.load.day_spread * (stir / (1 << 63) - 1.0)
            season = self.load.season * cos(2 * pi * (day - 200) / 365.25)
            factors.append((1.0 + spread) * (1.0 + season))
            self._day_kinds.append(weekend * VARIANTS + stir % VARIANTS)
        return *divmod(self._day_kinds[number], VARIANTS), factors[number]

    # --- energy

    def _until_day(self, kind: str, tariff: int, number: int) -> int:
        """What was counted before a local day began, in microwatt-hours over all phases."""
        until = self._until.get((kind, tariff))
        if until is not None and number < len(until):
            return until[number]
        sums = self.load.sums(kind, tariff)
        if until is None:
            # Delivered meters have run for a while elsewhere: all their registers by the same typical days.
            past_days = 40 + mix(self.seed, 2) % 500
            until = array("q", [round(past_days * self._slot_unit * sums[0][0][-1])])
            self._until[kind, tariff] = until
        if not self.load.counts(kind, tariff):
            return until[0]  # most meters never count most kinds
        self._day(number)
        unit, factors, kinds = self._slot_unit, self._factors, self._day_kinds
        whole_days = [day[-1] for days in sums for day in days]
        total = until[-1]
        for day in range(len(until) - 1, number):
            total += round(unit * factors[day] * whole_days[kinds[day]])
            until.append(total)
        return until[number]

    def _counted(self, kind: str, tariff: int, at: datetime) -> int:
        """What was counted until an instant, over all phases; remembered while the same instant is asked for."""
        if self._counts[0] != at:
            self._counts = (at, {})
        counts = self._counts[1]
        if (kind, tariff) not in counts:
            counts[kind, tariff] = self._count(kind, tariff, at)
        return counts[kind, tariff]

    def _count(self, kind: str, tariff: int, at: datetime) -> int:
        number, slot, part = self._place(at)
        if number < 0:
            return self._until_day(kind, tariff, 0)
        until = self._until_day(kind, tariff, number)
        weekend, variant, factor = self._day(number)
        sums = self.load.sums(kind, tariff)[weekend][variant]
        passed = sums[slot]
        if sums[slot + 1] != passed:
            passed = min(passed + (sums[slot + 1] - passed) * self._passed(part), sums[slot + 1])
        return until + round(self._slot_unit * factor * passed)

    def _passed(self, part: float) -> float:
        """The share of a slot's energy that has flowed when `part` of its time has passed."""
        return part + self._ripple * (cos(self._phase) - cos(self._turn * part + self._phase)) / self._turn

    def pulses(self, kind: str, at: datetime, phase: int = 0, tariff: int = 0) -> int:
        """Pulses counted by a kind of register since the meter was made; sums over phases and tariffs are exact."""
        shares = self._shares if phase == 0 else self._shares[phase - 1 : phase]
        periods = range(1, TARIFFS + 1) if tariff == 0 else self._periods[tariff]
        total = 0
        for one in periods:
            counted = self._counted(kind, one, at)
            total += sum(counted * share // (1_000_000 * self._pulse) for share in shares)
        return total

    def energy(self, register: Energy, at: datetime) -> Decimal:
        """An energy register in kWh, kvarh or kVAh, exact at the meter's resolution."""
        count = sum(self.pulses(kind, at, register.phase, register.tariff) for kind in register.plus)
        count -= sum(self.pulses(kind, at, register.phase, register.tariff) for kind in register.minus)
        return count * self.resolution_kwh

    def totals(self, registers: Sequence[Energy], instants: Iterable[datetime]) -> list[tuple[int, ...]]:
        """Energy registers of all phases and tariffs at ascending instants, in units of their resolution.

        The same to the digit as `energy` one by one, but what neighbours share is reckoned once.
        """
        kinds = sorted({kind for register in registers for kind in register.plus + register.minus})
        counting = [Counting(self, kind) for kind in kinds]
        terms = [
            tuple((kinds.index(kind), sign) for sign, own in ((1, one.plus), (-1, one.minus)) for kind in own)
            for one in registers
        ]
        found = []
        for at in instants:
            number, slot, part = self._place(at)
            # Before their first day meters stand at what they were delivered with.
            place = (number, slot, part) if number >= 0 else (0, 0, 0.0)
            pulses = [one.until(*place) for one in counting]
            found.append(tuple(sum(sign * pulses[index] for index, sign in own) for own in terms))
        return found

    def mean_kw(self, since: datetime, until: datetime) -> float:
        """Mean active power between two instants, import less export; finer than the registers."""
        units = sum(
            sign * (self._count(kind, tariff, until) - self._count(kind, tariff, since))
            for kind, sign in (("import", 1), ("export", -1))
            for tariff in range(1, TARIFFS + 1)
        )
        return units / _UNIT_PER_KWH * 3600 / (until - since).total_seconds()

    # --- what is measured now

    def instant(self, at: datetime) -> Instant:
        """Voltages, currents and powers of the phases."""
        now_s = at.timestamp()
        if self._instant is not None and self._instant[0] == now_s:
            return self._instant[1]
        number, slot, part = self._place(at)
        swing, active, reactive = 1.0, 0.0, 0.0
        if number >= 0:
            weekend, variant, factor = self._day(number)
            day = self.load.days[weekend][variant]
            swing += self._ripple * sin(self._turn * part + self._phase)
            scale = self.peak_kw * factor * swing
            active, reactive = scale * day.active[slot], scale * day.reactive[slot]
        # A tenth of a watt is the last digit that meters show: the total of the shown phases is then the shown total.
        p = tuple(round(active * share / 1_000_000, 4) for share in self._shares)
        q = tuple(round(reactive * share / 1_000_000, 4) for share in self._shares)
        s = tuple(sqrt(one * one + other * other) for one, other in zip(p, q, strict=True))
        u = tuple(self._voltage(phase, now_s, one / self.peak_kw) for phase, one in enumerate(p))
        i = tuple(1000 * one / volts for one, volts in zip(s, u, strict=True))
        pf = tuple(one / other if other else 1.0 for one, other in zip(p, s, strict=True))
        instant = Instant(u, i, p, q, s, pf)
        self._instant = (now_s, instant)
        return instant

    def _voltage(self, phase: int, now_s: float, loading: float) -> float:
        """Slow and quick wandering of the mains, less what the load draws down."""
        slow = 0.012 * wander(self.seed, 10 + phase, now_s, 1800)
        quick = 0.004 * wander(self.seed, 20 + phase, now_s, 20)
        return self.nominal_v * (1.0 + slow + quick - 0.01 * loading)

    # --- demand

    def slot_mean_kw(self, kind: str, day: int, slot: int, tariff: int = 0) -> float:
        """Mean power of a 15-min period as one register counts it; zero outside its tariff."""
        if tariff and tariff_schedule()[slot] != tariff:
            return 0.0
        if kind in _PARTS:
            return sum(self.slot_mean_kw(one, day, slot, tariff) for one in _PARTS[kind])
        weekend, variant, factor = self._day(day)
        sums = self.load.sums(kind, tariff_schedule()[slot])[weekend][variant]
        return self.peak_kw * factor * (sums[slot + 1] - sums[slot])

    def demand(self, at: datetime, kind: str = "import") -> float:
        """Mean power of the last complete 15-min period, kW."""
        number, slot, _ = self._place(at - timedelta(seconds=SLOT_S))
        return round(self.slot_mean_kw(kind, number, slot), 4) if number >= 0 else 0.0

    def maximum_demand(
        self, since: datetime, until: datetime, kind: str = "import", tariff: int = 0, phase: int = 0
    ) -> tuple[Decimal, datetime | None]:
        """The greatest demand of the complete 15-min periods in [since, until) and the end of its period (UTC)."""
        first_day, first_slot, _ = self._place(since)
        last_day, last_slot, _ = self._place(until)
        best, where = 0.0, None
        for day in range(max(first_day, 0), last_day + 1):
            begin = first_slot if day == first_day else 0
            end = last_slot if day == last_day else SLOTS
            for slot in self._peak_slots(kind, tariff, day) if (begin, end) == (0, SLOTS) else range(begin, end):
                mean = self.slot_mean_kw(kind, day, slot, tariff)
                if mean > best:
                    best, where = mean, (day, slot)
        if where is None:
            return Decimal("0.0000"), None
        ended_s = (where[0] + _FIRST_DAY_NUMBER) * _DAY_S + (where[1] + 1) * SLOT_S
        if phase:
            best *= self._shares[phase - 1] / 1_000_000
        return Decimal(f"{best:.4f}"), datetime.fromtimestamp(ended_s, UTC) - self.utc_offset

    def _peak_slots(self, kind: str, tariff: int, day: int) -> tuple[int, ...]:
        """The one slot of a whole day that can hold its maximum; the same for all days of one kind."""
        weekend, variant, _ = self._day(day)
        key = (self.load.name, kind, tariff, weekend, variant)
        found = _PEAKS.get(key)
        if found is None:
            found = (max(range(SLOTS), key=lambda slot: (self.slot_mean_kw(kind, day, slot, tariff), -slot)),)
            _PEAKS[key] = found
        return found

    def billing_start(self, at: datetime) -> datetime:
        """When the running billing month began: the first of the month, local midnight."""
        local = self.local(at)
        return local.replace(day=1, hour=0, minute=0, second=0, microsecond=0) - self.utc_offset

    # --- registers

    def registers(self, at: datetime, wanted: Iterable[Obis] | None = None) -> dict[Obis, Decimal | float]:
        """The registers this meter has, all or those wanted; energies and maximum demands exact, the rest floats."""
        registers: dict[Obis, Decimal | float] = {}
        for obis in QUANTITIES if wanted is None else wanted:
            energy = ENERGIES.get(obis)
            if energy is not None:
                if energy.phase <= self.phases and energy.tariff <= len(self._periods):
                    registers[obis] = self.energy(energy, at)
                continue
            value = self._other(obis, at)
            if value is not None:
                registers[obis] = value
        return registers

    def _other(self, obis: Obis, at: datetime) -> Decimal | float | None:
        quantity = QUANTITIES.get(obis)
        if quantity is None or quantity.phase > self.phases:
            return None
        match quantity.measure:
            case Measure.ACTIVE_ENERGY | Measure.REACTIVE_ENERGY | Measure.APPARENT_ENERGY:
                return None  # a tariff this meter does not have
            case Measure.DEMAND:
                if quantity.key == "demand_import":
                    return self.demand(at)
                kind = "export" if quantity.key == "demand_export_max" else "import"
                return self.maximum_demand(self.billing_start(at), at, kind)[0]
            case Measure.FREQUENCY:
                # All meters hang on one grid: no seed.
                return 50.0 + 0.03 * wander(0, 1, at.timestamp(), 60) + 0.01 * wander(0, 2, at.timestamp(), 5)
            case Measure.TEMPERATURE:
                return 24.0 + 6.0 * wander(self.seed, 3, at.timestamp(), 3 * 3600)
            case Measure.DISTORTION:
                channel, size = (4, 0.6) if quantity.key.startswith("voltage") else (5, 3.0)
                return 3 * size + size * wander(self.seed, channel + 10 * quantity.phase, at.timestamp(), 600)
            case measure:
                return self._electric(measure, quantity.key, quantity.phase, at)

    def _electric(self, measure: Measure, key: str, phase: int, at: datetime) -> float | None:
        now = self.instant(at)
        if measure is Measure.VOLTAGE and key.startswith(
            ("voltage_l1_l2", "voltage_l2_l3", "voltage_l3_l1", "voltage_line")
        ):
            if self.phases < 3:
                return None
            lines = tuple(line_voltage(now.voltage[one], now.voltage[(one + 1) % 3]) for one in range(3))
            return sum(lines) / 3 if key == "voltage_line_mean" else lines[phase - 1]
        if key == "current_neutral":
            return neutral_current(now.current)
        if measure is Measure.PHASE_ANGLE:
            return degrees(atan2(now.reactive[phase - 1], now.active[phase - 1])) % 360.0
        of_phases = {
            Measure.VOLTAGE: now.voltage,
            Measure.CURRENT: now.current,
            Measure.ACTIVE_POWER: now.active,
            Measure.REACTIVE_POWER: now.reactive,
            Measure.APPARENT_POWER: now.apparent,
            Measure.POWER_FACTOR: now.power_factor,
        }[measure]
        if phase:
            return of_phases[phase - 1]
        if measure is Measure.VOLTAGE:
            return sum(of_phases) / len(of_phases)
        if measure is Measure.POWER_FACTOR:
            apparent = sum(now.apparent)
            return sum(now.active) / apparent if apparent else 1.0
        if measure in (Measure.ACTIVE_POWER, Measure.REACTIVE_POWER):
            return round(sum(of_phases), 4)
        return sum(of_phases)


_PEAKS: dict[tuple[str, str, int, int, int], tuple[int, ...]] = {}


def _phase_shares(seed: int, phases: int) -> tuple[int, ...]:
    """How the load lies on the phases, in millionths that add up to a million."""
    if phases == 1:
        return (1_000_000,)
    weights = [1.0 + 0.15 * uniform(seed, 30, phase) for phase in range(phases)]
    shares = [int(1_000_000 * weight / sum(weights)) for weight in weights[1:]]
    return (1_000_000 - sum(shares), *shares)
