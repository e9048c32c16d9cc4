"""A virtual meter: physics behind a template, as Modbus words or DL/T 645 items, with its faults and its clock."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache

from meter_batch_engine.model.obis import Obis
from meter_batch_engine.model.quantity import QUANTITIES, Kind, Measure
from meter_batch_engine.model.reading import Value
from meter_batch_engine.protocol.dlt645.load_record import LoadRecord, LoadRequest
from meter_batch_engine.protocol.dlt645.server import NO_DATA, NO_RIGHT
from meter_batch_engine.protocol.modbus.pdu import ILLEGAL_FUNCTION
from meter_batch_engine.protocol.modbus.server import ModbusException
from meter_batch_engine.template import ModbusWords, Register, Template, WordImage, encode, shown

from .clock import FleetClock, MeterClock
from .config import MeterConfig
from .dlt645 import CLOCK_WINDOW, Dlt645Memory
from .episode import KINDS, Episode, Stricken
from .fault import Fault
from .identity import identity_words
from .load import TARIFFS, mix
from .memory import Memory
from .model_fault import other_order, refused, refused_item, scaled, scaled_item
from .parameters import Parameters, as_delivered
from .physics import Physics
from .profile import ProfileMemory
from .strike import Faults

_HAPPENING = (*KINDS, "reboot")
"""Faults that a meter notices and remembers."""
_ENERGIES = (Measure.ACTIVE_ENERGY, Measure.REACTIVE_ENERGY, Measure.APPARENT_ENERGY)


class VirtualMeter:
    """What both protocols share: which meter hangs here now, its values, its faults, how long it thinks."""

    def __init__(self, config: MeterConfig, clock: FleetClock, utc_offset: timedelta, baud: int) -> None:
        self.config = config
        self.template = config.template
        self._clock = clock
        self._own_clock = MeterClock(config.clock_offset_s, config.clock_drift_ppm, clock.started_at)
        self._utc_offset = utc_offset
        self._baud = baud
        self.faults = Faults(config.faults, mix(config.seed, 100))
        self._random = random.Random(mix(config.seed, 101))
        self._own = self._physics(config.seed)
        self._other: Physics | None = None
        self._episodes: list[Episode] = []
        self._running: dict[str, tuple[Fault, float]] = {}
        self._stricken: Stricken | None = None
        self._jumped_s: float | None = None
        self._followed_s = 0.0

    @property
    def address(self) -> str:
        """Where it answers."""
        fault = self.faults.now("address", self._clock.since_start_s())
        if fault is None:
            return self.config.address
        return fault.address or _further(self.config.address, self.template)

    @property
    def clock(self) -> MeterClock:
        """The meter's own clock, with the leaps that it has made; they are made when it is asked for here."""
        if "clock_jump" in self.faults.kinds:
            found = self.faults.at_work("clock_jump", self._clock.since_start_s())
            if found is not None and found[1] != self._jumped_s:
                fault, self._jumped_s, _ = found
                at = min(self._clock.now(), self._clock.at_s(self._jumped_s))
                self._own_clock.set(at, self._own_clock.shown(at) + timedelta(seconds=fault.jump_s))
        return self._own_clock

    def _physics(self, seed: int) -> Physics:
        config = self.config
        return Physics(
            seed,
            config.load,
            config.template.phases,
            peak_kw=config.peak_kw,
            nominal_v=config.nominal_v,
            resolution_kwh=resolution_kwh(config.template),
            utc_offset=self._utc_offset,
            tariffs=tariffs(config.template),
            ripple=config.ripple,
        )

    @property
    def is_swapped(self) -> bool:
        """True once another meter hangs here."""
        return self.faults.active("swap", self._clock.since_start_s())

    @property
    def is_zeroed(self) -> bool:
        """True while the meter starts again and its counters read zero."""
        return self.faults.active("reboot", self._clock.since_start_s())

    @property
    def physics(self) -> Physics:
        """The meter that hangs here now, with what has happened to its installation."""
        well = self._own
        if self.is_swapped:
            if self._other is None:
                self._other = self._physics(mix(self.config.seed, 102))
            well = self._other
        changed = self._follow_faults()
        if not self._episodes or all(one.fault.kind not in KINDS for one in self._episodes):
            return well
        if changed or self._stricken is None or self._stricken.well is not well:
            self._stricken = Stricken(well, [one for one in self._episodes if one.fault.kind in KINDS])
        return self._stricken

    def _follow_faults(self) -> bool:
        """Whether an episode has begun or ended. Those that are over are kept: energies were counted in them."""
        now_s = self._clock.since_start_s()
        changed = False
        if self._running or not self.faults.kinds.isdisjoint(_HAPPENING):
            # Nobody may have looked while one began and ended.
            while (edge_s := self.faults.next_edge(_HAPPENING, self._followed_s)) is not None and edge_s <= now_s:
                changed |= self._follow_until(edge_s)
                self._followed_s = edge_s
            changed |= self._follow_until(now_s)
        self._followed_s = now_s
        return changed

    def _follow_until(self, now_s: float) -> bool:
        # While the fleet is held, faults go on by the world's time, and what is measured stands at the fleet's.
        now, changed = min(self._clock.now(), self._clock.at_s(now_s)), False
        for kind in _HAPPENING:
            found = self.faults.at_work(kind, now_s)
            if (found and found[:2]) == self._running.get(kind):
                continue
            changed = True
            since = now if found is None else min(now, self._clock.at_s(found[1]))
            if self._running.pop(kind, None) is not None:
                index = max(index for index, one in enumerate(self._episodes) if one.fault.kind == kind)
                last = self._episodes[index]
                ended = min(now, last.until or now)
                self._episodes[index] = replace(last, until=max(ended, last.since))
                # What goes on in another way, does so from now on.
                since = max(since, ended)
            if found is not None:
                fault, _, until_s = found
                self._running[kind] = found[:2]
                self._episodes.append(Episode(fault, since, None if until_s == math.inf else self._clock.at_s(until_s)))
        return changed

    @property
    def stuck_since(self) -> datetime | None:
        """Since when its energy registers stand still; None where they count."""
        since_s = self.faults.since("stuck", self._clock.since_start_s())
        return None if since_s is None else min(self._clock.now(), self._clock.at_s(since_s))

    @property
    def hangs_since(self) -> datetime | None:
        """When the meter that hangs here now came; None where it hung here before the fleet started.

        Its memory begins there: what a meter measured elsewhere is not the memory of this place.
        """
        since_start_s = self.faults.since("swap", self._clock.since_start_s())
        return self._clock.at_s(since_start_s) if since_start_s else None

    @property
    def serial(self) -> str:
        """The serial number of the meter that hangs here now."""
        own = self.config.serial
        if not self.is_swapped:
            return own
        return f"{(int(own) + 1 + mix(self.config.seed, 103) % 10**6) % 10 ** len(own):0{len(own)}d}"

    def turnround_s(self) -> float:
        """How long it thinks about the next question."""
        return self.config.turnround_s + self.config.jitter_s * (2 * self._random.random() - 1)

    def values(self, at: datetime, wanted: Sequence[Obis] | None = None) -> dict[Obis, Value]:
        """The registers of the template as the meter measures them."""
        wanted = [one.obis for one in self.template.registers] if wanted is None else wanted
        return self.physics.registers(at, wanted)

    def truth(self, at: datetime) -> dict[Obis, Value]:
        """The registers of the template to the digit as the wire gives them; a fault's lies are not in it."""
        return shown(self.template, self.values(at))


class ModbusMeter(VirtualMeter):
    """A `RegisterBank`: only the addresses of its template exist. A `FileBank` where it has a memory."""

    def __init__(self, config: MeterConfig, clock: FleetClock, utc_offset: timedelta, baud: int) -> None:
        super().__init__(config, clock, utc_offset, baud)
        self._memory: ProfileMemory | None = None

    def read_file(self, file: int, record: int, words: int) -> Sequence[int]:
        """See `FileBank.read_file`."""
        if not self.config.memory:
            raise ModbusException(ILLEGAL_FUNCTION)
        physics, since, clock = self.physics, self.hangs_since, self.clock
        if self._memory is None or (self._memory.physics, self._memory.since) != (physics, since):
            self._memory = ProfileMemory(self.template, physics, clock, since)
        return self._memory.read(file, record, words, self._clock.now())

    def read(self, function: int, address: int, count: int) -> Sequence[int]:
        """See `RegisterBank.read`."""
        now_s = self._clock.since_start_s()
        if self.faults.active("access", now_s):
            # The standard's code for a server that is in the wrong state for a question.
            raise ModbusException(ILLEGAL_FUNCTION)
        fault = self.faults.now("refuses", now_s)
        if fault is not None and (code := refused(fault, self.template, function, address, count)) is not None:
            raise ModbusException(code)
        words = self._words(function, address, count)
        if self.faults.active("word_order", now_s):
            return other_order(self.template, function, address, words)
        return words

    def _words(self, function: int, address: int, count: int) -> Sequence[int]:
        own = identity_words(self.template, self.serial)
        if (function, address) in own and (function, address + count - 1) in own:
            # A word of its own may mean another thing than the same word in a longer read (Carlo Gavazzi's code).
            return [own.get((function, one), 0) for one in range(address, address + count)]
        touched = _touched(self.template, function, address, count)
        values = self.values(self._clock.now(), [one.obis for one in touched])
        if self.is_zeroed:
            values = {obis: _zeroed(obis, value) for obis, value in values.items()}
        elif (stuck := self.stuck_since) is not None:
            still = [obis for obis in values if QUANTITIES[obis].measure in _ENERGIES]
            values |= self.physics.registers(stuck, still)
        if (fault := self.faults.now("scale", self._clock.since_start_s())) is not None:
            values = scaled(fault, self.template, values)
        image = encode(self.template, values, touched)
        assert isinstance(image, WordImage)
        first, end = _extent(self.template, function)
        if self.template.modbus.holes and first <= address and address + count <= end:
            # Models that read over holes do so at the edges of a request too.
            return [image.words.get((function, one), 0) for one in range(address, address + count)]
        return image.read(function, address, count)


class Dlt645VirtualMeter(VirtualMeter):
    """A `Dlt645Meter` of either edition."""

    def __init__(self, config: MeterConfig, clock: FleetClock, utc_offset: timedelta, baud: int) -> None:
        super().__init__(config, clock, utc_offset, baud)
        self.variant = config.template.dlt645.variant
        self._set_on: object = None
        self._memory: Dlt645Memory | None = None
        self._parameters: tuple[object, Parameters] | None = None

    @property
    def memory(self) -> Dlt645Memory:
        """The identifiers of the meter that hangs here now."""
        physics, since, clock = self.physics, self.hangs_since, self.clock
        if self._memory is None or (self._memory.physics, self._memory.memory.since) != (physics, since):
            load_period = timedelta(minutes=self.config.load_period_min)
            memory = Memory(clock, self._utc_offset, load_period, since, self.config.memory)
            self._memory = Dlt645Memory(self.variant, physics, memory, self.parameters, self._episodes)
        elif self._memory.parameters is not (parameters := self.parameters):
            self._memory.parameters = parameters
        return self._memory

    @property
    def parameters(self) -> Parameters:
        """What is set in the meter that hangs here now."""
        which = (self.serial, self.address)
        if self._parameters is None or self._parameters[0] != which:
            config = self.config
            period = timedelta(minutes=config.load_period_min)
            held = as_delivered(self.variant, self.address, self.serial, config.nominal_v, period, self._baud)
            self._parameters = which, Parameters(self.variant, held, config.password, self._show)
        return self._parameters[1]

    def _show(self, now: datetime, wall: datetime) -> None:
        self.clock.set(now, wall.replace(tzinfo=UTC) - self._utc_offset)

    def wall(self, now: datetime) -> datetime:
        """What the meter's own clock shows, naive."""
        return self.memory.memory.wall(now)

    def item(self, di: str) -> bytes | None:
        """See `Dlt645Meter.item`."""
        now = self._clock.now()
        # What a meter kept (other billing days) does not go with its supply.
        running = di[:2] in ("90", "91") or (di[:2] in ("00", "01") and di.endswith("00"))
        counts = running and di[:2] in ("00", "90", "91")
        at = self.stuck_since if counts else None
        data = self.memory.item(di, at or now, self.wall(now), zeroed=running and self.is_zeroed)
        scale = self.faults.now("scale", self._clock.since_start_s())
        if data is None or scale is None or di[:2] in ("03", "04", "05", "C0", "C1"):
            return data
        return scaled_item(scale, self.template, di, data, self.variant)

    def refusal(self, di: str) -> int:
        """See `RefusingMeter.refusal`."""
        now_s = self._clock.since_start_s()
        if self.faults.active("access", now_s):
            return NO_RIGHT
        fault = self.faults.now("refuses", now_s)
        return NO_DATA if fault is not None and refused_item(fault, self.template, di) else 0

    def command(self, function: int, data: bytes) -> bytes | int | None:
        """See `CommandedMeter.command`."""
        if self.faults.active("access", self._clock.since_start_s()):
            return NO_RIGHT
        now = self._clock.now()
        return self.parameters.obey(function, data, now, self.wall(now))

    def load_records(self, request: LoadRequest) -> Sequence[LoadRecord] | None:
        """See `Dlt645Meter.load_records`."""
        return self.memory.load_records(request, self.wall(self._clock.now()))

    def set_clock(self, at: datetime) -> None:
        """See `Dlt645Meter.set_clock`: obeyed within ten minutes, on the same date, once a day."""
        now = self._clock.now()
        wall = self.wall(now)
        if abs(at - wall) <= CLOCK_WINDOW and at.date() == wall.date() and self._set_on != wall.date():
            self._show(now, at)
            self._set_on = wall.date()

    def values(self, at: datetime, wanted: Sequence[Obis] | None = None) -> dict[Obis, Value]:
        """See `VirtualMeter.values`; the edition of 1997 shows powers and currents without sign."""
        values = super().values(at, wanted)
        if self.variant == "1997":
            return {obis: value if _is_counter(obis) else abs(float(value)) for obis, value in values.items()}
        return values


def virtual_meter(config: MeterConfig, clock: FleetClock, utc_offset: timedelta, baud: int) -> VirtualMeter:
    """The meter of a config, by its template's protocol."""
    made = ModbusMeter if config.template.protocol == "modbus" else Dlt645VirtualMeter
    return made(config, clock, utc_offset, baud)


def _further(address: str, template: Template) -> str:
    """Where a meter sits that was set to another address and nobody wrote it down."""
    if template.protocol == "modbus":
        return str((int(address) + 99) % 247 + 1)
    return f"{(int(address) + 1) % 10**12:012d}"


@lru_cache(maxsize=4096)
def _touched(template: Template, function: int, address: int, count: int) -> tuple[Register, ...]:
    """The registers of which words lie in a range of addresses."""
    return tuple(
        register
        for register in template.registers
        if isinstance(locator := register.locator, ModbusWords)
        and locator.function == function
        and locator.address < address + count
        and address < locator.end
    )


@lru_cache(maxsize=256)
def _extent(template: Template, function: int) -> tuple[int, int]:
    """The first address of a model's map and the one behind its last."""
    locators = [one.locator for one in template.registers if isinstance(one.locator, ModbusWords)]
    own = [locator for locator in locators if locator.function == function]
    return min((one.address for one in own), default=0), max((one.end for one in own), default=0)


@lru_cache(maxsize=256)
def resolution_kwh(template: Template) -> Decimal:
    """The last digit of a model's energy registers, the finest where they differ; floats count in 0.01 kWh."""
    if template.protocol != "modbus":
        return Decimal("0.01")
    scales = [
        Decimal("0.01") if register.locator.word_type.is_float else register.scale
        for register in template.registers
        if isinstance(register.locator, ModbusWords) and register.quantity.measure in _ENERGIES
    ]
    return max(min(scales, default=Decimal("0.01")), Decimal("0.000001"))


@lru_cache(maxsize=256)
def tariffs(template: Template) -> int:
    """How many tariff registers a model has; four where it has none, so that nothing is merged."""
    return min(TARIFFS, max((register.quantity.tariff for register in template.registers), default=0) or TARIFFS)


def _is_counter(obis: Obis) -> bool:
    return QUANTITIES[obis].kind is not Kind.INSTANT


def _zeroed(obis: Obis, value: Value) -> Value:
    return Decimal(0) if _is_counter(obis) else value
