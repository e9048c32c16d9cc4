"""Fleet files: TOML → frozen settings, with every mistake named by file, table and key."""

from __future__ import annotations

import tomllib
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

from meter_batch_engine.errors import ConfigError, TemplateError
from meter_batch_engine.template import Template, load, load_file

from .endpoint import endpoint
from .fault import Fault, check_line_fault, check_meter_fault, parse_fault
from .identity import identity_words
from .load import load_names
from .table import check_table, one_of, unique
from .uart import Setting

PROTOCOLS = ("modbus-tcp", "modbus-rtu", "dlt645-2007", "dlt645-1997", "mixed")
PARITIES = ("N", "E", "O")
LOAD_PERIODS = tuple(minutes for minutes in range(1, 61) if 60 % minutes == 0)
MOST_PPM = 1000.0
"""A clock that drifts by more than a minute and a half a day is broken."""
MOST_KW = 75.0
"""More does not fit into the power registers of DL/T 645."""


@dataclass(frozen=True, slots=True)
class MeterConfig:
    """One virtual meter; `name` is its name in the truth file."""

    name: str
    address: str
    template: Template
    load: str
    seed: int
    serial: str
    peak_kw: float
    nominal_v: float
    turnround_s: float
    jitter_s: float
    ct: float = 1
    pt: float = 1
    clock_offset_s: float = 0.0
    clock_drift_ppm: float = 0.0
    memory: bool = True
    load_period_min: int = 15
    ripple: float | None = None
    password: str = "000000"
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True)
class LineConfig:
    """One virtual line."""

    name: str
    listen: str
    protocol: str
    meters: tuple[MeterConfig, ...]
    baud: int
    parity: str
    stop_bits: int
    gateway: bool = False
    gateway_timeout_s: float = 1.0
    echo: bool = False
    preamble: int = 4
    max_data: int = 200
    piece_bytes: int | None = None
    faults: tuple[Fault, ...] = ()

    @property
    def setting(self) -> Setting:
        """How its port is set."""
        return Setting(self.baud, self.parity, self.stop_bits)

    @property
    def bits(self) -> int:
        """Bits of a character on the wire."""
        return self.setting.bits

    @property
    def is_wired(self) -> bool:
        """True where bytes take time."""
        return self.protocol != "modbus-tcp" or self.gateway


@dataclass(frozen=True, slots=True)
class FleetConfig:
    """A whole fleet; relative paths in it start in `folder`."""

    lines: tuple[LineConfig, ...]
    folder: Path
    utc_offset: timedelta = timedelta(hours=8)


FLEET_KEYS = {"line": list, "utc_offset_h": (int, float), "seed": int}
"""Keys of a fleet file with the types of their values; those of its lines and meters follow."""
LINE_KEYS: dict[str, Any] = {
    "name": str,
    "listen": str,
    "protocol": str,
    "baud": int,
    "parity": str,
    "stop_bits": int,
    "gateway": bool,
    "gateway_timeout_s": (int, float),
    "echo": bool,
    "preamble": int,
    "max_data": int,
    "piece_bytes": int,
    "turnround_ms": (int, float),
    "jitter_ms": (int, float),
    "memory": bool,
    "load_period_min": int,
    "fault": list,
    "meter": list,
}
METER_KEYS: dict[str, Any] = {
    "address": (int, str),
    "template": str,
    "load": str,
    "name": str,
    "seed": int,
    "serial": str,
    "count": int,
    "ct": (int, float),
    "pt": (int, float),
    "peak_kw": (int, float),
    "nominal_v": (int, float),
    "ripple": (int, float),
    "phases": int,
    "turnround_ms": (int, float),
    "jitter_ms": (int, float),
    "clock_offset_s": (int, float),
    "clock_drift_ppm": (int, float),
    "memory": bool,
    "load_period_min": int,
    "password": str,
    "faults": list,
}


def example_fleet() -> str:
    """The text of a fleet file that shows everything, with every fault."""
    return Path(__file__).with_name("example.toml").read_text(encoding="utf-8")


def load_fleet(path: Path | str) -> FleetConfig:
    """The fleet in a TOML file; raises ConfigError that names file, table and key."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: it is not UTF-8 text (byte {error.start})") from error
    return parse_fleet(text, path)


def parse_fleet(text: str, path: Path) -> FleetConfig:
    """As `load_fleet`, from a text; `path` names it in messages, and its folder is where relative paths start."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}") from error
    where = str(path)
    check_table(tables, FLEET_KEYS, where)
    offset = timedelta(hours=tables.get("utc_offset_h", 8))
    if offset % timedelta(minutes=15) or abs(offset) > timedelta(hours=14):
        raise ConfigError(f"{where}: utc_offset_h must be a multiple of a quarter of an hour within ±14")
    if not tables.get("line"):
        raise ConfigError(f"{where}: a fleet needs at least one [[line]]")
    seed = tables.get("seed", 0)
    lines = []
    for number, table in enumerate(tables["line"], 1):
        named = f' "{table["name"]}"' if isinstance(table, dict) and isinstance(table.get("name"), str) else ""
        lines.append(_line(table, f"{where}: [[line]] {number}{named}", path.parent, seed))
    unique([line.name for line in lines], f"{where}: [[line]]: name")
    unique([line.listen for line in lines if not line.listen.endswith(":0")], f"{where}: [[line]]: listen")
    unique([meter.name for line in lines for meter in line.meters], f"{where}: [[line.meter]]: name")
    return FleetConfig(tuple(lines), path.parent, offset)


def _line(table: Any, where: str, folder: Path, seed: int) -> LineConfig:
    check_table(table, LINE_KEYS, where, required=("name", "listen", "protocol"))
    protocol = one_of(table["protocol"], PROTOCOLS, where, "protocol")
    modbus = protocol.startswith("modbus")
    baud = table.get("baud", 9600 if modbus else 2400)
    if not 50 <= baud <= 1_000_000:
        raise ConfigError(f"{where}: baud = {baud}; common values are 2400, 9600 and 19200")
    try:
        endpoint(table["listen"], Setting(baud), folder)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    if protocol == "modbus-tcp" and not table["listen"].startswith("tcp:"):
        raise ConfigError(f'{where}: listen: modbus-tcp needs tcp://host:port, not "{table["listen"]}"')
    if table.get("gateway") and protocol != "modbus-tcp":
        raise ConfigError(f"{where}: gateway = true turns Modbus TCP into RTU on a wire, so it needs modbus-tcp")
    twins: Counter[str] = Counter()
    meters = [
        meter
        for number, one in enumerate(table.get("meter", ()), 1)
        for meter in _meters(one, f"{where}, [[line.meter]] {number}", table, seed, folder, twins)
    ]
    if not meters:
        raise ConfigError(f"{where}: a line needs at least one [[line.meter]]")
    line = LineConfig(
        name=table["name"],
        listen=table["listen"],
        protocol=protocol,
        meters=tuple(meters),
        baud=baud,
        parity=one_of(table.get("parity", "N" if modbus else "E"), PARITIES, where, "parity"),
        stop_bits=one_of(table.get("stop_bits", 1), (1, 2), where, "stop_bits"),
        faults=tuple(
            parse_fault(one, f"{where}, [[line.fault]] {number}", on_line=True)
            for number, one in enumerate(table.get("fault", ()), 1)
        ),
        **{
            field.name: table[field.name]
            for field in fields(LineConfig)
            if field.name in ("gateway", "gateway_timeout_s", "echo", "preamble", "max_data", "piece_bytes")
            and field.name in table
        },
    )
    if not 0 <= line.preamble <= 16 or not 24 <= line.max_data <= 255:
        raise ConfigError(f"{where}: preamble may be 0 to 16 and max_data 24 to 255")
    for faults in (line.faults, *(meter.faults for meter in meters)):
        for fault in faults:
            check_line_fault(fault, where, protocol, wired=line.is_wired)
    if line.piece_bytes is not None and line.piece_bytes < 1:
        raise ConfigError(f"{where}: piece_bytes must be at least 1")
    return line


def _meters(
    table: Any, where: str, line: Mapping[str, Any], seed: int, folder: Path, twins: Counter[str]
) -> list[MeterConfig]:
    check_table(table, METER_KEYS, where, required=("address", "template"))
    try:
        named = table["template"]
        template = load_file(folder / named) if named.endswith(".toml") else load(named)
    except TemplateError as error:
        raise ConfigError(f"{where}: template: {error}") from error
    if line["protocol"] != "mixed" and not line["protocol"].startswith(template.protocol):
        raise ConfigError(
            f'{where}: template = "{template.id}" speaks {template.protocol}, but the line is {line["protocol"]}'
        )
    if table.get("phases", template.phases) != template.phases:
        raise ConfigError(f'{where}: phases = {table["phases"]}, but "{template.id}" has {template.phases}')
    load_name = one_of(table.get("load", "office"), load_names(), where, "load")
    count = table.get("count", 1)
    if count < 1:
        raise ConfigError(f"{where}: count must be at least 1")
    faults = tuple(
        parse_fault(one, f"{where}, faults {number}") for number, one in enumerate(table.get("faults", ()), 1)
    )
    for number, one in enumerate(faults, 1):
        check_meter_fault(one, f"{where}, faults {number}", template)
        if one.address is not None:
            _address(one.address, 0, template, f"{where}, faults {number}")
    nominal_v = float(table.get("nominal_v", 57.7 if table.get("pt", 1) > 1 else template.virtual.voltage_v))
    peak_kw = float(table.get("peak_kw", usual_peak_kw(template, nominal_v, behind_ct=table.get("ct", 1) > 1)))
    for key, value, most in (("nominal_v", nominal_v, 500.0), ("peak_kw", peak_kw, MOST_KW)):
        if not 0 < value <= most:
            raise ConfigError(f"{where}: {key} = {value} must be above 0 and at most {most:g}")
    drift_ppm = float(table.get("clock_drift_ppm", 0))
    if abs(drift_ppm) > MOST_PPM:
        raise ConfigError(f"{where}: clock_drift_ppm = {drift_ppm:g} must be within ±{MOST_PPM:g}")
    load_period_min = table.get("load_period_min", line.get("load_period_min", 15))
    if load_period_min not in LOAD_PERIODS:
        raise ConfigError(
            f"{where}: load_period_min = {load_period_min}; it may be {', '.join(map(str, LOAD_PERIODS))}"
        )
    ripple = table.get("ripple")
    if ripple is not None and not 0 <= ripple < 1:
        raise ConfigError(f"{where}: ripple = {ripple} must be at least 0 and below 1")
    meters = []
    for number in range(count):
        address = _address(table["address"], number, template, where)
        # Two meters with one address are still two: without a number of its own the second would be a copy.
        twins[address] += 1
        place = f"{line['name']}/{address}" + (f"#{twins[address]}" if twins[address] > 1 else "")
        name = table.get("name", place)
        if count > 1 and "name" in table:
            name = f"{name} {number + 1}"
        own = zlib.crc32(f"{seed}/{place}".encode()) if "seed" not in table else table["seed"] + number
        turnround_s, jitter_s = _turnround(table, line, template, own)
        meters.append(
            MeterConfig(
                name=name,
                address=address,
                template=template,
                load=load_name,
                seed=own,
                serial=_serial(table.get("serial"), number, address, template, own, where),
                peak_kw=peak_kw,
                nominal_v=nominal_v,
                turnround_s=turnround_s,
                jitter_s=jitter_s,
                ct=table.get("ct", 1),
                pt=table.get("pt", 1),
                clock_offset_s=float(table.get("clock_offset_s", 0)),
                clock_drift_ppm=drift_ppm,
                memory=table.get("memory", line.get("memory", True)),
                load_period_min=load_period_min,
                ripple=ripple,
                password=_password(table, where),
                faults=faults,
            )
        )
    return meters


def usual_peak_kw(template: Template, nominal_v: float, *, behind_ct: bool) -> float:
    """The peak of a meter whose file does not say, at its terminals; behind current transformers 5 A are full load."""
    current_a = 5.0 if behind_ct else template.virtual.current_a
    return min(0.85 * template.phases * nominal_v * current_a / 1000, 50.0)


def _turnround(table: Mapping[str, Any], line: Mapping[str, Any], template: Template, seed: int) -> tuple[float, float]:
    """How long a meter thinks and how much that varies: as told, else within what its protocol is known for."""
    spread = seed % 1000 / 1000
    if line["protocol"] == "modbus-tcp" and not line.get("gateway"):
        usual_ms = 3 + 12 * spread
    elif template.protocol == "modbus":
        usual_ms = 20 + 40 * spread
    else:
        usual_ms = 30 + 70 * spread
    turnround_ms = table.get("turnround_ms", line.get("turnround_ms", usual_ms))
    jitter_ms = table.get("jitter_ms", line.get("jitter_ms", turnround_ms / 10))
    return max(0.0, turnround_ms / 1000), max(0.0, min(jitter_ms, turnround_ms) / 1000)


def _address(address: int | str, number: int, template: Template, where: str) -> str:
    text = str(address)
    if template.protocol == "modbus":
        if not text.isdecimal() or not 1 <= int(text) + number <= 247:
            raise ConfigError(f"{where}: address = {address!r}; a Modbus unit is a number from 1 to 247")
        return str(int(text) + number)
    if not isinstance(address, str) or len(text) != 12 or not text.isdecimal():
        raise ConfigError(f'{where}: address = {address!r}; a DL/T 645 address is a text of 12 digits: "000012345678"')
    return f"{(int(text) + number) % 10**12:012d}"


def _password(table: Mapping[str, Any], where: str) -> str:
    password: str = table.get("password", "000000")
    if len(password) != 6 or not password.isdecimal():
        raise ConfigError(f'{where}: password = "{password}" must be six digits')
    return password


def _serial(told: str | None, number: int, address: str, template: Template, seed: int, where: str) -> str:
    if told is None:
        return address if template.protocol != "modbus" else f"{seed % 10**8:08d}"
    if not told.isdecimal() or len(told) > 12:
        raise ConfigError(f'{where}: serial = "{told}"; it must be up to 12 digits')
    counted = f"{int(told) + number:0{len(told)}d}"
    try:
        identity_words(template, counted)
    except ConfigError as error:
        raise ConfigError(f'{where}: serial = "{told}": {error}') from error
    return counted if template.protocol == "modbus" else counted.zfill(12)
