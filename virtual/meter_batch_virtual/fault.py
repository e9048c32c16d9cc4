"""Faults that a fleet file scripts, on a meter or on a line: what goes wrong, from when to when, and how often."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from meter_batch_engine.errors import ConfigError
from meter_batch_engine.protocol.dlt645.item import find_item
from meter_batch_engine.template import Template

KINDS = {
    "silent": "does not answer",
    "noise": "rubbish bytes around the reply",
    "flip": "bits of the reply are wrong",
    "half": "the reply breaks off",
    "late": "the reply comes `late_s` later, now and then or always",
    "slow": "the meter thinks `late_s` longer about every question",
    "echo": "the request comes back before the reply",
    "glitch": "00 and FF bytes of drivers that switch, around or inside the reply",
    "prefix": "text of a DTU before replies, at the connection or in between",
    "glued": "two frames arrive in one piece",
    "previous": "each reply is that of the request before",
    "no_transaction": "a gateway that does not give the transaction number back",
    "baud": "set to another speed: no frame can be understood",
    "parity": "set to another parity: no frame can be understood",
    "wiring": "A and B are swapped",
    "address": "the meter sits at another address",
    "refuses": "the model refuses some requests: holes, long ones, blocks, registers",
    "access": "the meter wants a right that the reader does not have",
    "word_order": "the words of registers stand in the other order",
    "scale": "values are `factor` times what they should be, as of another model or a wrong setting",
    "clock_jump": "the meter's clock leaps by `jump_s`",
    "reboot": "counters read zero",
    "swap": "another meter hangs here: other serial number, other register level",
    "phase_lost": "a phase has no voltage, and no load",
    "voltage": "the voltage is `factor` times what it would be",
    "load": "power and current are `factor` times what they would be",
    "reversed": "a current transformer is reversed: power and energy change their direction",
    "stuck": "the energy registers stand still",
    "cut": "the line is pulled: nobody is connected and nobody can connect",
}
"""Every kind of fault and what a reader sees of it."""

ON_METER_ONLY = frozenset(
    "address refuses access word_order scale clock_jump reboot swap phase_lost voltage load reversed stuck".split()
)
ON_LINE_ONLY = frozenset({"cut", "prefix", "no_transaction"})
_HOW_OFTEN = ("every", "probability", "count")
_OWN_KEYS: dict[str, tuple[str, ...]] = {
    "silent": _HOW_OFTEN,
    "noise": ("bytes", "place", "unasked_s", *_HOW_OFTEN),
    "flip": ("bits", *_HOW_OFTEN),
    "half": ("keep", *_HOW_OFTEN),
    "late": ("late_s", *_HOW_OFTEN),
    "slow": ("late_s",),
    "echo": _HOW_OFTEN,
    "glitch": ("bytes", "place", "unasked_s", *_HOW_OFTEN),
    "prefix": ("text", "sent", "unasked_s"),
    "glued": ("frame", *_HOW_OFTEN),
    "previous": _HOW_OFTEN,
    "no_transaction": ("transaction",),
    "baud": ("baud", "heard"),
    "parity": ("parity", "heard"),
    "wiring": ("heard",),
    "address": ("address",),
    "refuses": ("max_words", "holes", "blocks", "registers"),
    "scale": ("factor", "registers"),
    "clock_jump": ("jump_s",),
    "phase_lost": ("phase",),
    "voltage": ("factor",),
    "load": ("factor",),
}
"""What a kind may say besides kind, from_s and to_s."""
_USUAL: dict[str, dict[str, Any]] = {
    "slow": {"late_s": 0.8},
    "glitch": {"bytes": 1, "place": "around"},
    "prefix": {"unasked_s": 5.0},
    "scale": {"factor": 10.0},
    "wiring": {"heard": "nothing"},
    "voltage": {"factor": 0.8},
    "load": {"factor": 1.5},
}
_CHOICES: dict[str, tuple[str, ...]] = {
    "place": ("before", "after", "instead"),
    "sent": ("each", "connect", "idle"),
    "frame": ("next", "foreign"),
    "transaction": ("zero", "counter"),
    "parity": ("N", "E", "O"),
    "heard": ("garbage", "nothing"),
}
CHATTERING = ("noise", "glitch", "prefix")
"""Kinds that may come without a question."""
_GLITCH_PLACES = ("around", "before", "after", "inside")
_WHOLE = frozenset({"every", "count", "bytes", "bits", "keep", "phase", "baud", "max_words"})
_FLAGS = frozenset({"holes", "blocks"})
REBOOT_S = 15.0


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. Seconds count from when the fleet file was read; it is active in [from_s, to_s).

    `every` = n strikes each n-th reply, `probability` a random share of them, `count` at most so many.
    """

    kind: str
    from_s: float = 0.0
    to_s: float | None = None
    every: int = 1
    probability: float = 1.0
    count: int | None = None
    bytes: int = 8
    """How many bytes of noise, or of a glitch."""
    place: str = "before"
    """Where noise stands: before, after or instead of the reply; a glitch also around or inside it."""
    unasked_s: float | None = None
    """How often it also comes without a question (lines only)."""
    bits: int = 1
    """How many bits flip."""
    keep: int | None = None
    """How many bytes of a half reply come; None for half of it."""
    late_s: float = 2.0
    text: str = "DTU00001234"
    """What a DTU says; `\\x` before two digits is a byte."""
    sent: str = "each"
    """When a DTU says it: before each reply, once at each connection, or when the line is idle."""
    frame: str = "next"
    """What is glued: a reply that was kept back and the next one, or a foreign meter's and this one."""
    transaction: str = "zero"
    baud: int | None = None
    """The speed it is set to; None = 2400, where the line has that 9600."""
    parity: str | None = None
    """The parity it is set to; None = even, where the line has that none."""
    heard: str = "garbage"
    """What reaches the reader of a meter that is set wrongly: garbage (it understands, we do not) or nothing."""
    address: str | None = None
    """Where it sits; None = a hundred units (Modbus) or one number (DL/T 645) further."""
    max_words: int | None = None
    """The longest read that is not refused."""
    holes: bool = False
    """Reads over addresses that are no register are refused, even where the model has no objection."""
    blocks: bool = False
    """Block identifiers (FF) are refused."""
    registers: tuple[str, ...] = ()
    """Registers by key, or identifiers: those that are refused; those that are scaled (none named: all)."""
    jump_s: float = 3600.0
    """How far the clock leaps, backwards where negative."""
    phase: int = 1
    """Which phase is lost."""
    factor: float = 1.0
    """By how much voltage, load or what is shown is another; without it 0.8, 1.5 and 10."""

    @property
    def ends_s(self) -> float:
        """When it ends; a meter that starts again is soon done with it."""
        if self.to_s is not None:
            return self.to_s
        return self.from_s + REBOOT_S if self.kind == "reboot" else math.inf

    def active(self, since_read_s: float) -> bool:
        """True while it can strike."""
        return self.from_s <= since_read_s < self.ends_s


def spoken(fault: Fault) -> bytes:
    """The text of a DTU as bytes; raises UnicodeError where it cannot be such."""
    return fault.text.encode("latin-1").decode("unicode_escape").encode("latin-1")


def keys(kind: str) -> tuple[str, ...]:
    """What a fault of this kind may say."""
    return ("kind", "from_s", *(() if kind == "clock_jump" else ("to_s",)), *_OWN_KEYS.get(kind, ()))


def parse_fault(table: object, where: str, *, on_line: bool = False) -> Fault:
    """A fault from its table in a fleet file; raises ConfigError that names the place and the key."""
    if not isinstance(table, dict):
        raise ConfigError(f'{where}: it must be a table such as {{ kind = "silent" }}, not {table!r}')
    kinds = [kind for kind in KINDS if kind not in (ON_METER_ONLY if on_line else ON_LINE_ONLY)]
    kind = table.get("kind")
    if kind not in kinds:
        raise ConfigError(f"{where}: kind = {kind!r}; it may be {', '.join(kinds)}")
    allowed = keys(kind)
    if wrong := [key for key in table if key not in allowed]:
        of_all = [field.name for field in fields(Fault)]
        said = ", ".join(sorted(wrong))
        if all(key in of_all for key in wrong):
            raise ConfigError(f"{where}: a {kind} has only {', '.join(allowed[1:])}, not {said}")
        raise ConfigError(f"{where}: unknown key {said}; a {kind} may have {', '.join(allowed)}")
    told = {key: _value(key, value, kind, where) for key, value in table.items()}
    fault = Fault(**(_USUAL.get(kind, {}) | told))
    try:
        spoken(fault)
    except UnicodeError as error:
        raise ConfigError(f'{where}: text = "{fault.text}" must be Latin letters and \\x bytes') from error
    if fault.phase not in (1, 2, 3):
        raise ConfigError(f"{where}: phase = {fault.phase}; it may be 1, 2 or 3")
    if fault.every < 1 or fault.probability > 1:
        raise ConfigError(f"{where}: every must be at least 1 and probability at most 1")
    if fault.to_s is not None and fault.to_s <= fault.from_s:
        raise ConfigError(f"{where}: to_s = {fault.to_s} must lie behind from_s = {fault.from_s}")
    if fault.unasked_s is not None and (not on_line or fault.unasked_s < 0.05):
        raise ConfigError(f"{where}: unasked_s is of lines, and at least 0.05")
    return fault


def _value(key: str, value: object, kind: str, where: str) -> Any:
    choices = _GLITCH_PLACES if (kind, key) == ("glitch", "place") else _CHOICES.get(key)
    if choices is not None:
        if value not in choices:
            told = f'"{value}"' if isinstance(value, str) else repr(value)
            raise ConfigError(f"{where}: {key} = {told}; it may be {', '.join(choices)}")
    elif key == "registers":
        if not isinstance(value, list) or not value or not all(isinstance(one, str) for one in value):
            raise ConfigError(f'{where}: registers must be a list of texts such as ["voltage_l1"]')
        return tuple(value)
    elif key == "address":
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise ConfigError(f"{where}: address = {value!r} must be a number or a text")
        return str(value)
    elif key in ("kind", "text"):
        if not isinstance(value, str):
            raise ConfigError(f"{where}: {key} must be a text")
    elif key in _FLAGS:
        if not isinstance(value, bool):
            raise ConfigError(f"{where}: {key} = {value!r} must be true or false")
    elif not _is_number(value, least=-math.inf if key == "jump_s" else 0):
        raise ConfigError(f"{where}: {key} = {value!r} must be a number of 0 or more")
    elif key in _WHOLE and not isinstance(value, int):
        raise ConfigError(f"{where}: {key} = {value!r} must be a whole number")
    return value


def _is_number(value: object, least: float) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < math.inf and value >= least


def check_line_fault(fault: Fault, where: str, protocol: str, *, wired: bool) -> None:
    """Raises ConfigError where this fault cannot happen on such a line, or to a meter on it."""
    if fault.kind in ("baud", "parity", "wiring", "glitch") and not wired:
        raise ConfigError(f"{where}: {fault.kind} happens on wires, and modbus-tcp without a gateway has none")
    if fault.kind == "prefix" and protocol == "modbus-tcp":
        raise ConfigError(f"{where}: prefix is of transparent serial servers, not of modbus-tcp")
    if fault.kind == "no_transaction" and protocol != "modbus-tcp":
        raise ConfigError(f"{where}: no_transaction is of modbus-tcp; other protocols have no such number")


def check_meter_fault(fault: Fault, where: str, template: Template) -> None:
    """Raises ConfigError where this fault cannot happen to a meter of this model."""
    modbus = template.protocol == "modbus"
    if fault.kind == "phase_lost" and template.phases == 1:
        raise ConfigError(f'{where}: phase_lost, but "{template.id}" has a single phase')
    if fault.kind == "word_order" and not modbus:
        raise ConfigError(f'{where}: word_order, but "{template.id}" has no words')
    if fault.max_words is not None and not (modbus and fault.max_words):
        raise ConfigError(f"{where}: max_words is of Modbus models, and at least 1")
    own = known_registers(template)
    for name in fault.registers:
        if name not in own and (modbus or find_item(name, template.dlt645.variant) is None):
            raise ConfigError(f'{where}: registers: "{template.id}" has no {name}; it has {", ".join(own)}')


def known_registers(template: Template) -> Mapping[str, str]:
    """The registers of a model, by key → OBIS code."""
    return {register.quantity.key: register.obis for register in template.registers}
