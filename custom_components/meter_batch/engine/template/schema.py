"""What a template is: one meter model's registers, where they lie and how they are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Literal

from ..model.obis import Obis
from ..model.quantity import Kind, Measure, Quantity
from ..protocol.dlt645.frame import Variant
from ..protocol.modbus.words import WORD_TYPES, WordType
from .identity import NO_IDENTITY, Identity

type Group = Literal["fast", "slow", "energy"]
"""Read every few seconds, every few minutes, or at the interval boundary (and slowly between)."""

GROUPS: tuple[Group, ...] = ("fast", "slow", "energy")

_FAST = frozenset(
    {
        Measure.VOLTAGE,
        Measure.CURRENT,
        Measure.ACTIVE_POWER,
        Measure.REACTIVE_POWER,
        Measure.APPARENT_POWER,
        Measure.POWER_FACTOR,
        Measure.FREQUENCY,
    }
)
_BOUNDARY = frozenset({"energy_import", "energy_export", "reactive_energy_import", "reactive_energy_export"})


def default_group(quantity: Quantity) -> Group:
    """The group of a register whose template does not say."""
    if quantity.key in _BOUNDARY:
        return "energy"
    # Line-to-line voltages (B = 128) follow from the others.
    return "fast" if quantity.measure in _FAST and not quantity.obis.startswith("1-128") else "slow"


@dataclass(frozen=True, slots=True)
class ModbusWords:
    """A register in words. `parts` > 1: the sum of so many values that follow each other (tariffs without a total)."""

    function: int
    address: int
    type: str
    little: bool = False
    """True where the low word comes first."""
    parts: int = 1

    @property
    def word_type(self) -> WordType:
        """The number type."""
        return WORD_TYPES[self.type]

    @property
    def words(self) -> int:
        """How many words it takes."""
        return WORD_TYPES[self.type].words * self.parts

    @property
    def end(self) -> int:
        """The address behind its last word."""
        return self.address + self.words


@dataclass(frozen=True, slots=True)
class DltItem:
    """A register in a DL/T 645 item: `single` alone, or place `index` of the block `di` where there is one.

    Without a block `di` and `single` are the same.
    """

    di: str
    index: int
    single: str


@dataclass(frozen=True, slots=True)
class Register:
    """One register of a model. `scale`: reading = raw × scale, in the quantity's unit."""

    obis: Obis
    quantity: Quantity
    locator: ModbusWords | DltItem
    scale: Decimal
    group: Group
    absent: frozenset[int] = frozenset()
    """Raw values that mean "not available"."""
    fold: bool = False
    """True for power factors in four-quadrant code, where 2 − |PF| stands for leading."""
    sources: tuple[str, ...] = ()
    doubt: str | None = None
    """What is not certain about this row."""

    @property
    def exact(self) -> bool:
        """True where readings are Decimal."""
        return self.quantity.kind is not Kind.INSTANT


@dataclass(frozen=True, slots=True)
class SerialDefaults:
    """The factory setting of the port."""

    baud: int = 9600
    parity: str = "N"
    stop_bits: int = 1


@dataclass(frozen=True, slots=True)
class ModbusOptions:
    """How a model may be read over Modbus."""

    max_words: int = 125
    holes: bool = False
    """True where a request may run over addresses without a register."""
    cuts: frozenset[tuple[int, int]] = frozenset()
    """(function, address): no request may begin before this address and end behind it. Learned from meters."""
    turnround_s: float | None = None
    """How long the model usually thinks, where known."""
    gap_s: float = 0.0
    """Silence that the model wants before a request."""
    profile: bool = True
    """False where a meter must not even be asked whether it keeps a load profile in files."""


@dataclass(frozen=True, slots=True)
class Dlt645Options:
    """How a model may be read over DL/T 645."""

    variant: Variant = "2007"
    blocks: bool = True
    """True where block identifiers (FF) may be asked for."""
    preamble: int = 0
    """FE bytes that the model needs before a request."""
    turnround_s: float | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """What a DL/T 645 model remembers of its energies, and what its clock knows; 0 = nothing of that kind."""

    load_records_days: int = 0
    """Load records of class 4 (06 04): for how many days."""
    hourly: int = 0
    """Hourly freezes (05 04): how many."""
    daily: int = 0
    """Daily freezes (05 06): how many."""
    monthly: int = 0
    """Settlements on billing days: how many."""
    clock: Literal["local", "utc"] = "local"
    """Whether its clock shows the wall time of the site or UTC."""
    dst: bool = False
    """True where a local clock is put forward and back with daylight-saving time."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What is believed on arrival (before the point's multiplier); None where the template sets no limit."""

    voltage_v: tuple[float, float] | None = None
    """Phase to neutral; line-to-line values may be √3 times as high."""
    current_a: tuple[float, float] | None = None
    power_kw: tuple[float, float] | None = None
    """Active, reactive and apparent alike, of all phases together."""
    frequency_hz: tuple[float, float] | None = None
    roll_over_kwh: Decimal | None = None
    """Where energy registers begin again at zero."""

    def of(self, quantity: Quantity) -> tuple[float, float] | None:
        """The lowest and highest value of a quantity that is believed."""
        match quantity.measure:
            case Measure.VOLTAGE:
                lines = quantity.obis.startswith("1-128")
                return (self.voltage_v[0], self.voltage_v[1] * 1.74) if lines and self.voltage_v else self.voltage_v
            case Measure.CURRENT:
                return self.current_a
            case Measure.ACTIVE_POWER | Measure.REACTIVE_POWER | Measure.APPARENT_POWER | Measure.DEMAND:
                return self.power_kw
            case Measure.FREQUENCY:
                return self.frequency_hz
            case Measure.POWER_FACTOR:
                # Some meters round up.
                return (-1.01, 1.01)
            case _:
                return None


@dataclass(frozen=True, slots=True)
class Virtual:
    """The supply of a virtual meter of this model."""

    voltage_v: float = 230.0
    current_a: float = 20.0
    """Current of a phase at its greatest usual load."""


@dataclass(frozen=True, eq=False)
class Template:
    """One meter model. Compared by identity: `load` gives the same object for the same id."""

    id: str
    """"<vendor>/<model>", as under templates/."""
    vendor: str
    model: str
    protocol: str
    phases: int
    registers: tuple[Register, ...]
    serial: SerialDefaults = SerialDefaults()
    modbus: ModbusOptions = ModbusOptions()
    dlt645: Dlt645Options = Dlt645Options()
    limits: Limits = Limits()
    memory: Memory | None = None
    """None where the template says nothing; Modbus meters tell themselves what they keep."""
    virtual: Virtual = Virtual()
    identity: Identity = NO_IDENTITY
    """Who a Modbus meter says that it is; DL/T 645 meters have it by their standard (`identity_requests`)."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Short name → where the facts are from."""
    doubt: str | None = None
    """What is not certain about the whole map."""

    @property
    def source(self) -> str:
        """All sources in one line."""
        return "; ".join(self.sources.values())

    @property
    def name(self) -> str:
        """Vendor and model, for people."""
        return f"{self.vendor} {self.model}"

    @cached_property
    def by_obis(self) -> Mapping[Obis, Register]:
        """The registers by OBIS code."""
        return {register.obis: register for register in self.registers}

    def roll_over(self, obis: Obis) -> Decimal | None:
        """Where an energy register begins again at zero, in its unit; None where that is not known."""
        register = self.by_obis[obis]
        if register.quantity.kind is not Kind.CUMULATIVE:
            return None
        if self.limits.roll_over_kwh is not None:
            return self.limits.roll_over_kwh
        locator = register.locator
        if isinstance(locator, ModbusWords) and locator.type in ("uint16", "uint32") and locator.parts == 1:
            return (WORD_TYPES[locator.type].high or 0) * register.scale + register.scale
        return None
