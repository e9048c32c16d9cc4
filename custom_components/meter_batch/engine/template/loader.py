"""Template files: TOML → `Template`, with every mistake named by file, table and key."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Literal, NoReturn, cast

from ..errors import TemplateError
from ..model.point import PROTOCOLS
from ..model.quantity import BY_KEY
from ..protocol.dlt645.frame import Variant
from ..protocol.dlt645.item import block_members, find_item
from ..protocol.modbus.words import WORD_TYPES
from .identity import IDENTITY_TYPES, IDENTITY_WORDS, Identity, IdentityItem
from .schema import (
    GROUPS,
    Dlt645Options,
    DltItem,
    Group,
    Limits,
    Memory,
    ModbusOptions,
    ModbusWords,
    Register,
    SerialDefaults,
    Template,
    Virtual,
    default_group,
)

FOLDER = Path(__file__).resolve().parent.parent / "templates"
SMALLEST_SCALE = Decimal("0.000000001")
"""No meter counts in less than microwatts; what lies beyond is a slip, and would overflow where it is used."""
_REQUIRED = object()


def available() -> list[str]:
    """The ids of all templates that are shipped."""
    return sorted(f"{path.parent.name}/{path.stem}" for path in FOLDER.glob("*/*.toml"))


@cache
def load(template_id: str) -> Template:
    """The shipped template of this id; raises TemplateError where there is none or it is wrong."""
    if template_id not in available():
        hint = _did_you_mean(template_id, available())
        raise TemplateError(f'there is no template "{template_id}"{hint}; "meter-batch templates" lists all')
    return load_file(FOLDER / f"{template_id}.toml")


def load_file(path: Path) -> Template:
    """The template in a file; its id is folder/name. Raises TemplateError that names file, table and key."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise TemplateError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise TemplateError(f"{path}: it is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    return parse(text, f"{path.absolute().parent.name}/{path.stem}", str(path))


def parse(text: str, template_id: str, file: str) -> Template:
    """The template in a text; `file` is what error messages call it."""
    try:
        content = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise TemplateError(f"{file}: it is no TOML: {error}") from error
    top = _Table(content, file, "")
    protocol = top.choice("protocol", PROTOCOLS)
    sources = top.table("sources")
    named = {key: sources.text(key) for key in sources.content}
    read_register = _modbus_reader(top) if protocol == "modbus" else _dlt645_reader(top, protocol)
    rows = [read_register(row, named) for row in top.rows("register")]
    if not rows:
        top.fail("register", "a template needs at least one register")
    template = Template(
        id=template_id,
        vendor=top.text("vendor"),
        model=top.text("model"),
        protocol=protocol,
        phases=int(top.choice("phases", (1, 3))),
        registers=tuple(rows),
        serial=_serial(top.table("serial")),
        modbus=_modbus(top.table("modbus")) if protocol == "modbus" else ModbusOptions(),
        dlt645=_dlt645(top.table("dlt645"), protocol) if protocol != "modbus" else Dlt645Options(),
        limits=_limits(top.table("limits")),
        memory=_memory(top.table("memory")) if protocol != "modbus" and "memory" in content else None,
        virtual=_virtual(top.table("virtual")),
        identity=_identity(top.table("identity"), top, named) if protocol == "modbus" else Identity(),
        sources=named,
        doubt=top.text("doubt", None),
    )
    top.done()
    _check_registers(template, file)
    return template


# -- tables ----------------------------------------------------------------------------------------------------------


class _Table:
    """One table of the file: every key is taken once; what is left at the end is a mistake."""

    def __init__(self, content: Mapping[str, Any], file: str, name: str) -> None:
        self.content = content
        self.file = file
        self.name = name
        self._known: set[str] = set()

    def fail(self, key: str, problem: str) -> NoReturn:
        where = f"[{self.name}] {key}" if self.name else key
        raise TemplateError(f"{self.file}: {where}: {problem}")

    def _take(self, key: str, default: object) -> Any:
        self._known.add(key)
        if key in self.content:
            return self.content[key]
        if default is _REQUIRED:
            # A near miss is most likely the key itself, mistyped.
            near = get_close_matches(key, [one for one in self.content if one not in self._known], 1)
            self.fail(key, f'is missing (there is "{near[0]}")' if near else "is missing")
        return default

    def text(self, key: str, default: object = _REQUIRED) -> Any:
        value = self._take(key, default)
        if value is not default and (not isinstance(value, str) or not value.strip()):
            self.fail(key, f"must be a text in quotes, not {value!r}")
        return value

    def choice(self, key: str, values: tuple[Any, ...], default: object = _REQUIRED) -> Any:
        value = self._take(key, default)
        if value is not default and (value not in values or isinstance(value, bool)):
            hint = _did_you_mean(str(value), [str(one) for one in values])
            self.fail(key, f"is {value!r}{hint}; it may be {', '.join(str(one) for one in values)}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self._take(key, default)
        if not isinstance(value, bool):
            self.fail(key, f"must be true or false, not {value!r}")
        return value

    def integer(self, key: str, low: int, high: int, default: object = _REQUIRED) -> Any:
        value = self._take(key, default)
        if value is not default and (not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high):
            self.fail(key, f"must be a whole number from {low} to {high}, not {value!r}")
        return value

    def number(self, key: str, default: object = _REQUIRED) -> Any:
        """A Decimal; numbers in quotes are welcome where a float would look inexact."""
        value = self._take(key, default)
        if value is default:
            return value
        try:
            number = Decimal(value) if isinstance(value, int | Decimal | str) else Decimal("NaN")
        except ArithmeticError:
            number = Decimal("NaN")
        if isinstance(value, bool) or not number.is_finite():
            self.fail(key, f"must be a number, not {value!r}")
        return number

    def pair(self, key: str) -> tuple[float, float] | None:
        value = self._take(key, None)
        if value is None:
            return None
        numbers = isinstance(value, list) and len(value) == 2 and all(_is_number(one) for one in value)
        if not numbers or value[0] >= value[1]:
            self.fail(key, f"must be [lowest, highest], not {value!r}")
        return float(value[0]), float(value[1])

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._take(key, [])
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            self.fail(key, f"must be a list of texts, not {value!r}")
        return tuple(value)

    def integers(self, key: str) -> frozenset[int]:
        value = self._take(key, [])
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(one, int) and not isinstance(one, bool) for one in values):
            self.fail(key, f"must be a whole number or a list of them, not {value!r}")
        return frozenset(values)

    def integers_list(self, key: str) -> tuple[int, ...]:
        self.integers(key)
        value = self.content.get(key, [])
        return tuple(value) if isinstance(value, list) else (value,)

    def table(self, key: str) -> _Table:
        value = self._take(key, {})
        if not isinstance(value, dict):
            self.fail(key, f"must be a table, not {value!r}")
        return _Table(value, self.file, f"{self.name} {key}".strip())

    def rows(self, key: str) -> list[_Table]:
        value = self._take(key, _REQUIRED)
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            self.fail(key, "must be a list of tables")
        return [_Table(one, self.file, f"{key} {one.get('key', number)}") for number, one in enumerate(value, 1)]

    def done(self) -> None:
        """Fails for the first key that nobody asked for."""
        for key in self.content:
            if key not in self._known:
                self.fail(key, f"is not known{_did_you_mean(key, self._known)}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    near = get_close_matches(word, list(known), 1)
    return f' (did you mean "{near[0]}"?)' if near else ""


def _serial(table: _Table) -> SerialDefaults:
    found = SerialDefaults(
        baud=table.integer("baud", 300, 921_600, 9600),
        parity=table.choice("parity", ("N", "E", "O"), "N"),
        stop_bits=table.choice("stop_bits", (1, 2), 1),
    )
    table.done()
    return found


def _seconds(table: _Table, key: str, default: int | None) -> float | None:
    value = table.integer(key, 0, 10_000, default)
    return None if value is None else value / 1000


def _modbus(table: _Table) -> ModbusOptions:
    # Taken when the rows were read; named here so that they count as known.
    table.choice("function", (3, 4), 3)
    table.choice("word_order", ("big", "little"), "big")
    table.flag("absent_at_maximum", False)
    found = ModbusOptions(
        max_words=table.integer("max_words", 1, 125, 125),
        holes=table.flag("holes", False),
        turnround_s=_seconds(table, "turnround_ms", None),
        gap_s=_seconds(table, "gap_ms", 0) or 0.0,
        profile=table.flag("profile", True),
    )
    table.done()
    return found


def _dlt645(table: _Table, protocol: str) -> Dlt645Options:
    found = Dlt645Options(
        variant=cast("Variant", protocol.removeprefix("dlt645-")),
        blocks=table.flag("blocks", True),
        preamble=table.integer("preamble", 0, 16, 0),
        turnround_s=_seconds(table, "turnround_ms", None),
    )
    table.done()
    return found


def _limits(table: _Table) -> Limits:
    found = Limits(
        voltage_v=table.pair("voltage_v"),
        current_a=table.pair("current_a"),
        power_kw=table.pair("power_kw"),
        frequency_hz=table.pair("frequency_hz"),
        roll_over_kwh=table.number("roll_over_kwh", None),
    )
    if found.roll_over_kwh is not None and found.roll_over_kwh <= 0:
        table.fail("roll_over_kwh", "must be more than 0")
    table.done()
    return found


def _memory(table: _Table) -> Memory:
    found = Memory(
        load_records_days=table.integer("load_records_days", 0, 3660, 0),
        hourly=table.integer("hourly", 0, 254, 0),
        daily=table.integer("daily", 0, 254, 0),
        monthly=table.integer("monthly", 0, 12, 0),
        clock=table.choice("clock", ("local", "utc"), "local"),
        dst=table.flag("dst", False),
    )
    if found.clock == "utc" and found.dst:
        table.fail("dst", "a clock that shows UTC knows no daylight-saving time")
    table.done()
    return found


def _virtual(table: _Table) -> Virtual:
    found = Virtual(
        voltage_v=float(table.number("voltage_v", Decimal(230))),
        current_a=float(table.number("current_a", Decimal(20))),
    )
    for key, value, most in (("voltage_v", found.voltage_v, 1000), ("current_a", found.current_a, 10_000)):
        if not 0 < value <= most:
            table.fail(key, f"must be more than 0 and at most {most}, not {value:g}")
    table.done()
    return found


def _identity(table: _Table, top: _Table, sources: Mapping[str, str]) -> Identity:
    serial = _identity_item(table.table("serial"), top, sources) if "serial" in table.content else None
    model: IdentityItem | None = None
    expected: tuple[str, ...] = ()
    if "model" in table.content:
        row = table.table("model")
        expected = row.texts("is")
        model = _identity_item(row, top, sources)
    table.done()
    return Identity(serial, model, expected)


def _identity_item(row: _Table, top: _Table, sources: Mapping[str, str]) -> IdentityItem:
    options = top.table("modbus")
    kind = row.choice("type", IDENTITY_TYPES)
    address = row.integer("address", 0, 0xFFFF)
    fixed = IDENTITY_WORDS.get(kind)
    words = fixed if fixed is not None else row.integer("words", 1, 60)
    block = row.integers_list("block") or (address, words)
    if len(block) != 2 or block[0] > address or address + words > block[0] + block[1] or block[1] > 125:
        row.fail("block", f"must be [first address, words] of a read that holds {address} to {address + words - 1}")
    found = IdentityItem(
        function=row.choice("function", (3, 4), options.choice("function", (3, 4), 3)),
        address=block[0],
        count=block[1],
        type=kind,
        skip=address - block[0],
        size=words,
        little=row.choice("word_order", ("big", "little"), "big") == "little",
        sources=_named(row, sources),
        doubt=row.text("doubt", None),
    )
    row.done()
    return found


# -- registers -------------------------------------------------------------------------------------------------------

type _Reader = Callable[[_Table, Mapping[str, str]], Register]


def _modbus_reader(top: _Table) -> _Reader:
    options = top.table("modbus")
    function = options.choice("function", (3, 4), 3)
    little = options.choice("word_order", ("big", "little"), "big") == "little"
    at_maximum = options.flag("absent_at_maximum", False)

    def read(row: _Table, sources: Mapping[str, str]) -> Register:
        type_name = row.choice("type", tuple(WORD_TYPES))
        locator = ModbusWords(
            function=row.choice("function", (3, 4), function),
            address=row.integer("address", 0, 0xFFFF),
            type=type_name,
            little=row.choice("word_order", ("big", "little"), "little" if little else "big") == "little",
            parts=row.integer("parts", 1, 16, 1),
        )
        if locator.end > 0x10000:
            row.fail("address", f"{locator.address} leaves no room for a {type_name}: the last address is 65535")
        absent = row.integers("absent")
        high = WORD_TYPES[type_name].high
        if at_maximum and high is not None:
            absent |= {high}
        return _register(row, locator, sources, absent)

    return read


def _dlt645_reader(_: _Table, protocol: str) -> _Reader:
    variant = cast("Variant", protocol.removeprefix("dlt645-"))

    def read(row: _Table, sources: Mapping[str, str]) -> Register:
        single = row.text("di").upper()
        if find_item(single, variant) is None or block_members(single, variant):
            row.fail("di", f'"{single}" is no single item of DL/T 645-{variant}')
        block = row.text("block", None)
        locator = DltItem(single, 0, single)
        if block is not None:
            members = list(block_members(block.upper(), variant))
            if single not in members:
                row.fail("block", f'"{block}" is no block that holds {single}')
            locator = DltItem(block.upper(), members.index(single), single)
        return _register(row, locator, sources, frozenset())

    return read


def _named(row: _Table, sources: Mapping[str, str]) -> tuple[str, ...]:
    """The sources of a row, each of which [sources] explains."""
    named = row.texts("sources")
    for source in named:
        if source not in sources:
            row.fail("sources", f'"{source}" is not in [sources]{_did_you_mean(source, list(sources))}')
    return named


def _register(
    row: _Table, locator: ModbusWords | DltItem, sources: Mapping[str, str], absent: frozenset[int]
) -> Register:
    key = row.text("key")
    quantity = BY_KEY.get(key)
    if quantity is None:
        row.fail("key", f'"{key}" is no quantity we know{_did_you_mean(key, BY_KEY)}')
    scale = row.number("scale", Decimal(1))
    if not SMALLEST_SCALE <= abs(scale) <= 1 / SMALLEST_SCALE:
        row.fail(
            "scale", f"{scale} is no scale of a meter: it lies between {SMALLEST_SCALE:f} and {1 / SMALLEST_SCALE:f}"
        )
    named = _named(row, sources)
    group: Group | None = row.choice("group", cast("tuple[Literal['fast'], ...]", GROUPS), None)
    found = Register(
        obis=quantity.obis,
        quantity=quantity,
        locator=locator,
        scale=scale,
        group=group or default_group(quantity),
        absent=absent,
        fold=row.flag("fold", False),
        sources=named,
        doubt=row.text("doubt", None),
    )
    row.done()
    return found


def _check_registers(template: Template, file: str) -> None:
    """No register twice, no value that lies in another one, none longer than a request may be."""
    seen: set[str] = set()
    for register in template.registers:
        if register.obis in seen:
            raise TemplateError(f"{file}: [register {register.quantity.key}] key: it is there twice")
        seen.add(register.obis)
    words = sorted(
        ((one.locator, one.quantity.key) for one in template.registers if isinstance(one.locator, ModbusWords)),
        key=lambda one: (one[0].function, one[0].address, one[0].end),
    )
    last: tuple[ModbusWords, str] | None = None
    for locator, key in words:
        if locator.words > template.modbus.max_words:
            raise TemplateError(
                f"{file}: [modbus] max_words: {template.modbus.max_words} is less than the {locator.words} of {key}"
            )
        if locator.parts > 1:
            continue  # a sum lies over the values that it adds
        if last and locator.function == last[0].function and locator.address < last[0].end:
            raise TemplateError(
                f"{file}: [register {key}] address: {locator.address} lies in {last[1]} "
                f"({last[0].address} to {last[0].end - 1})"
            )
        last = locator, key
