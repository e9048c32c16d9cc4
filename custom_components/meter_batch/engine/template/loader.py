"""Template files: TOML → `Template`, with every mistake named by file, table and key."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Literal, cast

from ..errors import TemplateError
from ..model.point import PROTOCOLS
from ..model.quantity import BY_KEY
from ..protocol.dlt645.frame import Variant
from ..protocol.dlt645.item import block_members, find_item
from ..protocol.modbus.words import WORD_TYPES
from .file_table import FileTable, Wrong, did_you_mean
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

SMALLEST_SCALE = Decimal("0.000000001")
"""No meter counts in less than microwatts; what lies beyond is a slip, and would overflow where it is used."""


def load_file(path: Path) -> Template:
    """The template in a file; its id is folder/name. Raises TemplateError that names file, table and key."""
    return parse(read_file(path), template_id(path), str(path))


def read_file(path: Path) -> str:
    """The text of a template file; raises TemplateError where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise TemplateError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise TemplateError(f"{path}: it is not UTF-8 text (byte {error.start}); save it as UTF-8") from error


def template_id(path: Path) -> str:
    """The id of the template in a file: folder/name."""
    return f"{path.absolute().parent.name}/{path.stem}"


def parse(text: str, id_: str, file: str) -> Template:
    """The template in a text; `file` is what error messages call it. Raises the first mistake as TemplateError."""
    template, problems = parse_all(text, id_, file)
    if template is None:
        raise problems[0]
    return template


def parse_all(text: str, id_: str, file: str) -> tuple[Template | None, tuple[TemplateError, ...]]:
    """The template in a text, or None and every mistake in it, in the order of the file as far as that can be told."""
    try:
        content = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        return None, (TemplateError(f"{file}: it is no TOML: {error}"),)
    top = FileTable(content, file, "", [])
    template: Template | None = None
    with suppress(Wrong):
        template = _template(top, id_)
        top.done()
        _check_registers(template, top)
    return (None if top.problems else template), tuple(top.problems)


def _template(top: FileTable, id_: str) -> Template:
    protocol = top.choice("protocol", PROTOCOLS)
    if protocol not in PROTOCOLS or top.problems:
        raise Wrong  # nothing else can be judged without it
    sources = top.table("sources")
    named = {key: sources.text(key) for key in sources.content}
    read_register = _modbus_reader(top) if protocol == "modbus" else _dlt645_reader(top, protocol)
    rows = []
    for row in top.rows("register"):
        with suppress(Wrong):
            rows.append(read_register(row, named))
    if not rows and not top.problems:
        top.problem("register", "a template needs at least one register")
    return Template(
        id=id_,
        vendor=top.text("vendor"),
        model=top.text("model"),
        protocol=protocol,
        phases=int(top.choice("phases", (1, 3))),
        registers=tuple(rows),
        serial=_serial(top.table("serial")),
        modbus=_modbus(top.table("modbus")) if protocol == "modbus" else ModbusOptions(),
        dlt645=_dlt645(top.table("dlt645"), protocol) if protocol != "modbus" else Dlt645Options(),
        limits=_limits(top.table("limits")),
        memory=_memory(top.table("memory")) if protocol != "modbus" and "memory" in top.content else None,
        virtual=_virtual(top.table("virtual")),
        identity=_identity(top.table("identity"), top, named) if protocol == "modbus" else Identity(),
        sources=named,
        doubt=top.text("doubt", None),
    )


def _serial(table: FileTable) -> SerialDefaults:
    found = SerialDefaults(
        baud=table.integer("baud", 300, 921_600, 9600),
        parity=table.choice("parity", ("N", "E", "O"), "N"),
        stop_bits=table.choice("stop_bits", (1, 2), 1),
    )
    table.done()
    return found


def _seconds(table: FileTable, key: str, default: int | None) -> float | None:
    value = table.integer(key, 0, 10_000, default)
    return None if value is None else value / 1000


def _modbus(table: FileTable) -> ModbusOptions:
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


def _dlt645(table: FileTable, protocol: str) -> Dlt645Options:
    found = Dlt645Options(
        variant=cast("Variant", protocol.removeprefix("dlt645-")),
        blocks=table.flag("blocks", True),
        preamble=table.integer("preamble", 0, 16, 0),
        turnround_s=_seconds(table, "turnround_ms", None),
    )
    table.done()
    return found


def _limits(table: FileTable) -> Limits:
    found = Limits(
        voltage_v=table.pair("voltage_v"),
        current_a=table.pair("current_a"),
        power_kw=table.pair("power_kw"),
        frequency_hz=table.pair("frequency_hz"),
        roll_over_kwh=table.number("roll_over_kwh", None),
    )
    if found.roll_over_kwh is not None and found.roll_over_kwh <= 0:
        table.problem("roll_over_kwh", "must be more than 0")
    table.done()
    return found


def _memory(table: FileTable) -> Memory:
    found = Memory(
        load_records_days=table.integer("load_records_days", 0, 3660, 0),
        hourly=table.integer("hourly", 0, 254, 0),
        daily=table.integer("daily", 0, 254, 0),
        monthly=table.integer("monthly", 0, 12, 0),
        clock=table.choice("clock", ("local", "utc"), "local"),
        dst=table.flag("dst", False),
    )
    if found.clock == "utc" and found.dst:
        table.problem("dst", "a clock that shows UTC knows no daylight-saving time")
    table.done()
    return found


def _virtual(table: FileTable) -> Virtual:
    found = Virtual(
        voltage_v=float(table.number("voltage_v", Decimal(230))),
        current_a=float(table.number("current_a", Decimal(20))),
    )
    for key, value, most in (("voltage_v", found.voltage_v, 1000), ("current_a", found.current_a, 10_000)):
        if not 0 < value <= most:
            table.problem(key, f"must be more than 0 and at most {most}, not {value:g}")
    table.done()
    return found


def _identity(table: FileTable, top: FileTable, sources: Mapping[str, str]) -> Identity:
    serial = _identity_item(table.table("serial"), top, sources) if "serial" in table.content else None
    model: IdentityItem | None = None
    expected: tuple[str, ...] = ()
    if "model" in table.content:
        row = table.table("model")
        expected = row.texts("is")
        model = _identity_item(row, top, sources)
    table.done()
    return Identity(serial, model, expected)


def _identity_item(row: FileTable, top: FileTable, sources: Mapping[str, str]) -> IdentityItem:
    options = top.table("modbus")
    kind = row.choice("type", IDENTITY_TYPES)
    address = row.integer("address", 0, 0xFFFF)
    fixed = IDENTITY_WORDS.get(kind)
    words = fixed if fixed is not None else row.integer("words", 1, 60)
    block = row.integers("block") or (address, words)
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

type _Reader = Callable[[FileTable, Mapping[str, str]], Register]


def _modbus_reader(top: FileTable) -> _Reader:
    options = top.table("modbus")
    function = options.choice("function", (3, 4), 3)
    little = options.choice("word_order", ("big", "little"), "big") == "little"
    at_maximum = options.flag("absent_at_maximum", False)

    def read(row: FileTable, sources: Mapping[str, str]) -> Register:
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
        absent = frozenset(row.integers("absent"))
        high = WORD_TYPES[type_name].high
        if at_maximum and high is not None:
            absent |= {high}
        return _register(row, locator, sources, absent)

    return read


def _dlt645_reader(_: FileTable, protocol: str) -> _Reader:
    variant = cast("Variant", protocol.removeprefix("dlt645-"))

    def read(row: FileTable, sources: Mapping[str, str]) -> Register:
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


def _named(row: FileTable, sources: Mapping[str, str]) -> tuple[str, ...]:
    """The sources of a row, each of which [sources] explains."""
    named = row.texts("sources")
    for source in named:
        if source not in sources:
            row.problem("sources", f'"{source}" is not in [sources]{did_you_mean(source, list(sources))}')
    return named


def _register(
    row: FileTable, locator: ModbusWords | DltItem, sources: Mapping[str, str], absent: frozenset[int]
) -> Register:
    key = row.text("key")
    quantity = BY_KEY.get(key)
    if quantity is None:
        row.fail("key", f'"{key}" is no quantity we know{did_you_mean(key, BY_KEY)}')
    scale = row.number("scale", Decimal(1))
    if not SMALLEST_SCALE <= abs(scale) <= 1 / SMALLEST_SCALE:
        row.problem(
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


def _check_registers(template: Template, top: FileTable) -> None:
    """No register twice, no value that lies in another one, none longer than a request may be."""
    seen: set[str] = set()
    for register in template.registers:
        if register.obis in seen:
            top.problem(f"[register {register.quantity.key}] key", "it is there twice")
        seen.add(register.obis)
    words = sorted(
        ((one.locator, one.quantity.key) for one in template.registers if isinstance(one.locator, ModbusWords)),
        key=lambda one: (one[0].function, one[0].address, one[0].end),
    )
    last: tuple[ModbusWords, str] | None = None
    for locator, key in words:
        if locator.words > template.modbus.max_words:
            top.problem("[modbus] max_words", f"{template.modbus.max_words} is less than the {locator.words} of {key}")
        if locator.parts > 1:
            continue  # a sum lies over the values that it adds
        if last and locator.function == last[0].function and locator.address < last[0].end:
            top.problem(
                f"[register {key}] address",
                f"{locator.address} lies in {last[1]} ({last[0].address} to {last[0].end - 1})",
            )
        last = locator, key
