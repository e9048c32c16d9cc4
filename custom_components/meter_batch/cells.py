"""What the cells of a list of points mean, in and out: columns, addresses, ratios, dates. Forms use the same.

Pure: nothing here changes a point.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal, InvalidOperation
from typing import Literal

from .const import ATTRIBUTES, LineProtocol
from .engine import Multiplier, Point
from .registry import ALWAYS, new_id

COLUMNS: dict[str, tuple[str, ...]] = {
    "id": ("编号", "计量点编号", "point id", "标识"),
    "name": ("名称", "计量点", "计量点名称", "point", "metering point"),
    "line": ("线路", "线路名称", "总线"),
    "protocol": ("协议", "规约", "通信规约"),
    "address": ("地址", "通信地址", "表地址", "站号", "unit", "unit id", "meter address", "slave"),
    "template": ("模板", "表型模板", "型号", "表型", "model"),
    "serial": ("表号", "资产编号", "出厂编号", "serial number", "meter number"),
    "ct": ("电流变比", "ct变比", "ct ratio"),
    "pt": ("电压变比", "pt变比", "pt ratio", "vt", "vt ratio"),
    "multiplier_since": ("倍率生效日期", "倍率起始", "multiplier since"),
    "area": ("区域", "位置", "房间", "location"),
    "parent": ("上级", "上级计量点", "总表", "parent point"),
    "formula": ("公式", "计算公式", "虚拟计量点公式", "virtual", "sum of"),
    "detail": ("详细程度",),
    "tariff": ("电价", "电价类别"),
    "contract_kw": ("合同功率", "合同容量kw"),
    "contract_kva": ("合同容量", "合同容量kva"),
    "transformer_kva": ("变压器容量", "变压器容量kva"),
    "floor_area_m2": ("建筑面积", "面积"),
    "occupancy": ("使用时间", "运行时间"),
    "production_unit": ("产品单位",),
    "nominal_v": ("额定电压", "标称电压", "nominal voltage"),
    "rated_kw": ("额定功率", "rated power"),
    "daily_budget_kwh": ("日用电定额", "日用电限额", "daily budget"),
    "generation": ("发电", "光伏", "feeds in"),
    "commissioned": ("验收日期", "调试日期", "signed off"),
    "commissioned_by": ("验收人", "调试人", "signed off by"),
}
"""Every column by its name in code and in exported files, with the other headers that are understood.

The first of them is the header in Chinese."""

_COLUMNS = {alias: name for name, others in COLUMNS.items() for alias in others} | {
    name.replace("_", " "): name for name in COLUMNS
}
_REMARK = re.compile(r"\s*\([^()]*\)\s*$")

SCIENTIFIC = re.compile(r"[\d.,]+[eE]\+?\d+")
"""Not a number any more, but what a spreadsheet made of one."""


MAX_NAME = 255
"""Letters of a point's name: the recorder keeps no longer names."""


@dataclass(frozen=True, slots=True)
class KnownLine:
    """A line that a file may name."""

    id: str
    title: str
    protocol: LineProtocol


@dataclass(frozen=True, slots=True)
class Known:
    """What is there when a file is read."""

    points: Mapping[str, Point]
    lines: Mapping[str, KnownLine]
    """By id."""
    templates: Mapping[str, str]
    """Protocol spoken, by template id."""
    now: datetime
    time_zone: tzinfo = UTC
    """Of dates without one."""
    default_line: str | None = None
    """The line meant where a file has no such column."""
    make_id: Callable[[], str] = new_id
    areas: tuple[str, ...] = ()
    """Names of the areas there are."""
    models: Mapping[str, str] = field(default_factory=dict)
    """Template ids by what people call a model, where that is one: see `model_key`."""


# --- in ---


def model_key(text: str) -> str:
    """The name of a model without what people write now so, now so: "Eastron SDM-630" is eastronsdm630."""
    return "".join(letter for letter in plain(text).casefold() if letter.isalnum())


def models_by_name(templates: Iterable[tuple[str, str, str]]) -> dict[str, str]:
    """Template ids by the names of models, alone and behind their vendors; what means two is left out.

    From id, vendor and model of each.
    """
    found: dict[str, set[str]] = {}
    for id_, vendor, model in templates:
        for name in (model, f"{vendor} {model}", id_):
            found.setdefault(model_key(name), set()).add(id_)
    return {name: next(iter(ids)) for name, ids in found.items() if len(ids) == 1}


def plain(text: str) -> str:
    """A cell that is no word: full-width letters and digits as others, without marks that nobody sees."""
    return _UNSEEN.sub("", unicodedata.normalize("NFKC", text)).strip().lstrip("'")


_UNSEEN = re.compile("[\u200b-\u200f\u2060\ufeff]")


def column_of(header: str) -> str:
    """Our name of a column by its header in either language, with a unit behind it or not; "" where it is none."""
    key = " ".join(plain(header).lstrip("*").casefold().replace("_", " ").split())
    return _COLUMNS.get(key) or _COLUMNS.get(_REMARK.sub("", key), "")


def header_likeness(cells: Sequence[str]) -> int:
    """How much a row looks like the one that names the columns, above which a title may stand; 0 of any other."""
    named = {column_of(cell) for cell in cells} - {""}
    if len(named) < 2:
        return 0
    return len(named) + (0 if named.isdisjoint({"id", "name"}) else len(COLUMNS))


class AddressError(ValueError):
    """An address no meter of that protocol can have; `key` is a message of the translations."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def parse_address(text: str, protocol: str) -> tuple[str, bool]:
    """The address as it is kept, and whether leading zeros had to be restored; AddressError where it is none."""
    text = text.strip().strip("'")
    if SCIENTIFIC.fullmatch(text):
        raise AddressError("import_scientific")
    text = text.removesuffix(".0")
    if protocol != "modbus" and text and set(text) in ({"0"}, {"A"}, {"a"}, {"A", "a"}):
        raise AddressError("import_no_own_address")
    if not (text.isascii() and text.isdigit()):
        raise AddressError("import_bad_unit" if protocol == "modbus" else "import_bad_meter_number")
    if protocol == "modbus":
        unit = int(text)
        if not 1 <= unit <= 247:
            raise AddressError("import_bad_unit")
        return str(unit), False
    if len(text) > 12:
        raise AddressError("import_bad_meter_number")
    if text == "9" * 12:  # the broadcast address
        raise AddressError("import_no_own_address")
    return text.zfill(12), len(text) < 12


def parse_ratio(text: str) -> Decimal:
    """A transformer ratio written as "400/5", "400:5" or "80"; empty is 1. ValueError where it is none."""
    text = text.strip().replace("／", "/").replace("：", ":").replace(":", "/")
    if not text:
        return Decimal(1)
    upper, slash, lower = text.partition("/")
    try:
        ratio = decimal(upper) / decimal(lower) if slash else decimal(upper)
    except (InvalidOperation, ArithmeticError) as error:
        raise ValueError(text) from error
    if not ratio.is_finite() or ratio <= 0:
        raise ValueError(text)
    return ratio.normalize() + 0


_UNIT = re.compile(r"\s*(kwh|kw|kva|v|m2|m²|㎡)$", re.IGNORECASE)


def parse_number(text: str) -> Decimal:
    """A number above zero, with its unit or without: "250", "1,250 kW". ValueError where it is none."""
    try:
        value = decimal(_UNIT.sub("", text.strip()))
    except InvalidOperation as error:
        raise ValueError(text) from error
    if value <= 0:
        raise ValueError(text)
    return value.normalize() + 0


def decimal(text: str) -> Decimal:
    """A number with units or thousands separators as people write them: "10 kV", "400 A", "1,000"."""
    match = re.fullmatch(r"\s*([\d.,\s]*\d)\s*(k?)[aAvV]?\s*", text)
    if match is None:
        raise InvalidOperation(text)
    digits = match[1].replace(" ", "")
    if re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d+)?", digits):
        digits = digits.replace(",", "")
    return Decimal(digits.replace(",", ".")) * (1000 if match[2] else 1)


_SERIAL = re.compile(r"[34567]\d{4}")
_EXCEL_0 = date(1899, 12, 30)
"""A date whose cell is not formatted as one is the number of days since then."""


def parse_instant(text: str, zone: tzinfo) -> datetime:
    """An aware UTC instant from a date or a date and time; without a zone the site's. ValueError where it is none."""
    text = text.strip()
    if _SERIAL.fullmatch(text):
        return datetime.combine(_EXCEL_0 + timedelta(int(text)), datetime.min.time(), zone).astimezone(UTC)
    text = re.sub(r"[年月./]", "-", text).replace("日", "").strip("-")
    text = re.sub(r"[ T](\d:\d\d)", r" 0\1", text)
    text = re.sub(r"-(\d)(?=\D|$)", r"-0\1", text)
    at = (
        datetime.combine(date.fromisoformat(text), datetime.min.time())
        if len(text) <= 10
        else (datetime.fromisoformat(text))
    )
    return (at if at.tzinfo else at.replace(tzinfo=zone)).astimezone(UTC)


_SIGN = "[+＋－−–-]"  # as keyboards and word processors write them
_PARTS = re.compile(rf"""\s*({_SIGN}?)\s*(?:"((?:[^"]|"")*)"|([^;；\n]*))\s*(?:[;；\n]|$)""")
_BARE = re.compile(rf"(?:^|\s)\s*({_SIGN})\s*")


def parse_formula(text: str) -> list[tuple[Literal[1, -1], str]]:
    """The parts of a virtual point by sign and name: "Main; - Lathe 1; - Lathe 2".

    Signs stand before names, none means plus; a name with a semicolon, or a sign at its start, is quoted. Without a
    semicolon a sign after a space begins a part as well: "Main - Lathe 1". ValueError where there is no part.
    """
    text = text.strip()
    if not re.search('[;；\n"]', text):
        signed = _BARE.split(text if re.match(_SIGN, text) else f"+ {text}")[1:]
        found = list(zip(signed[::2], signed[1::2], strict=True))
    else:
        matches = list(_PARTS.finditer(text))
        if "".join(match[0] for match in matches) != text:
            raise ValueError(text)
        found = [(one[1], one[3] if one[2] is None else one[2].replace('""', '"')) for one in matches]
    named: list[tuple[Literal[1, -1], str]] = [
        (1 if sign in {"", "+", "＋"} else -1, " ".join(name.split())) for sign, name in found if sign or name.strip()
    ]
    if not named or not all(name for _, name in named):
        raise ValueError(text)
    return named


# --- out ---


def write_formula(terms: Iterable[tuple[int, str]]) -> str:
    """The inverse. It begins with no sign, because a spreadsheet would take that for a formula of its own."""
    parts = []
    for sign, name in terms:
        quoted = '"' + name.replace('"', '""') + '"'
        plain = not re.search(f'[;；\n"]|^{_SIGN}', name)
        parts.append(("- " if sign < 0 else "") + (name if plain else quoted))
    text = "; ".join(parts)
    if len(parts) == 1 and _BARE.search(text):
        text += ";"
    return f"; {text}" if text.startswith(("-", "+", "=", "@")) else text


def number(value: Decimal) -> str:
    """A ratio as a cell has it."""
    return f"{value:f}"


def as_row(point: Point, known: Known) -> dict[str, str]:
    """A point as the cells of a file, which read back changes nothing."""
    route = point.routes[0] if point.routes else None
    line = known.lines.get(route.line) if route else None
    titles = [one.title.casefold() for one in known.lines.values()]
    parent = known.points.get(point.parent) if point.parent else None
    last = point.multipliers[-1] if point.multipliers else Multiplier(ALWAYS)
    formula = [(term.sign, known.points[term.point].name) for term in point.formula if term.point in known.points]
    title = ""
    if line is not None:
        title = line.title if titles.count(line.title.casefold()) == 1 else line.id
    cells = {
        "id": point.id,
        "name": point.name,
        "line": title,
        "protocol": route.protocol if route else "",
        "address": route.address if route else "",
        "template": "" if point.virtual else point.meter.template,
        "serial": "" if point.virtual else point.meter.serial or "",
        "ct": "" if point.virtual else number(last.ct),
        "pt": "" if point.virtual else number(last.pt),
        "multiplier_since": "" if last.since == ALWAYS else last.since.isoformat(),
        "area": point.area or "",
        "parent": parent.name if parent else "",
        "formula": write_formula(formula),
        "detail": point.detail or "",
    }
    cells |= {name: point.attributes.get(name, "") for name in ATTRIBUTES}
    signed = point.commissioned
    cells |= {"commissioned": signed.at.isoformat() if signed else "", "commissioned_by": signed.by if signed else ""}
    return cells | {name: text for name, text in point.attributes.items() if name not in ATTRIBUTES}


def header_in(language: str) -> list[str]:
    """The header of a list in a language."""
    return [others[0] for others in COLUMNS.values()] if language.startswith("zh") else list(COLUMNS)


def as_rows(points: Iterable[Point], known: Known, language: str = "en") -> list[list[str]]:
    """Header and one row a point, to be written by `table.write_csv` or `table.write_xlsx`.

    The user's own columns come last.
    """
    found = [as_row(point, known) for point in sorted(points, key=lambda one: (one.name.casefold(), one.id))]
    own = [name for name in dict.fromkeys(name for cells in found for name in cells) if name not in COLUMNS]
    return [[*header_in(language), *own], *([cells.get(column, "") for column in (*COLUMNS, *own)] for cells in found)]
