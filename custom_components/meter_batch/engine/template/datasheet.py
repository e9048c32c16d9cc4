"""The register table of a data sheet → the draft of a template. Pure; what it cannot know it puts in doubt.

Words are those of `datasheet.toml`, in English and Chinese.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from functools import partial
from importlib import resources

from ..errors import ConfigError
from ..model.quantity import BY_KEY

with resources.files(__package__).joinpath("datasheet.toml").open("rb") as _file:
    _WORDS: Mapping[str, Mapping[str, list[str]]] = tomllib.load(_file)

_HEADER_WITHIN = 20
_PREFIX = {"k": Decimal(1000), "m": Decimal("0.001"), "M": Decimal(1_000_000), "": Decimal(1)}
_KILO = ("active_energy", "reactive_energy", "apparent_energy", "active_power", "reactive_power", "apparent_power")


@dataclass(frozen=True, slots=True)
class DraftRow:
    """One register of a draft: as in a template, with everything that is not certain in `doubt`."""

    key: str
    function: int | None
    address: int
    type: str
    scale: Decimal
    doubt: str
    name: str
    """What the data sheet calls it."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What became of a table: rows, those that could not be used with the reason, and how addresses were read."""

    rows: tuple[DraftRow, ...]
    unused: tuple[str, ...]
    notes: tuple[str, ...]


def draft(table: Sequence[Sequence[str]], *, base: int = 0) -> Draft:
    """The draft of a template for the rows of a data sheet's table; `base` 1 where it counts addresses from 1.

    Raises ConfigError where the table has no heading for addresses or names.
    """
    number, columns = _header(table)
    rows = [row for row in table[number + 1 :] if any(cell.strip() for cell in row)]

    def cell(row: Sequence[str], role: str) -> str:
        place = columns.get(role)
        return row[place].strip() if place is not None and place < len(row) else ""

    heading = table[number][columns["address"]]
    style, notes = _address_style([cell(row, "address") for row in rows], heading, base)
    at: dict[tuple[int | None, int], str] = {}
    found: dict[str, DraftRow] = {}
    unused: list[str] = []
    for row in rows:
        name, where = cell(row, "name"), cell(row, "address")
        place = style(where)
        if place is None:
            if name and where:
                unused.append(f"{where} {name}: no address")
            continue
        key = key_of(name, cell(row, "unit"))
        access = cell(row, "access").upper().replace(" ", "")
        if key is None:
            unused.append(f"{where} {name}: no quantity we know")
        elif access.startswith("W"):
            unused.append(f"{where} {name}: it cannot be read")
        elif key in found:
            unused.append(f"{where} {name}: {key} is at {found[key].address} already")
        else:
            one = _row(key, place, name, {role: cell(row, role) for role in columns})
            if (other := at.setdefault((one.function, one.address), key)) != key:
                notes.append(f"{where} {name}: {other} is at this address too, one of them is wrong")
                one = replace(one, doubt=f"address: {other} has it too; {one.doubt}")
            found[key] = one
    return Draft(tuple(found.values()), tuple(unused), tuple(notes))


def key_of(name: str, unit: str = "") -> str | None:
    """The key of the quantity that a name means, in English or Chinese; None where it is none of ours."""
    text = re.sub(r"[_()（）,，:：]", " ", name.lower())
    if _any(text, _WORDS["other"]["not_measured"]) and not _any(text, _WORDS["measures"]["demand"]):
        return None
    measure = _measure_of_unit(unit) or _first(text, _WORDS["measures"])
    if measure in ("active_power", "reactive_power", "apparent_power") and _any(text, _WORDS["measures"]["demand"]):
        measure = "demand"
    if measure == "voltage" and (pair := _first(text, _WORDS["pairs"])):
        return f"voltage_{pair}"
    phase = _first(text, _WORDS["phases"])
    behind = f"_{phase}" if phase else ""
    if measure == "current" and not phase and _any(text, _WORDS["other"]["neutral"]):
        return "current_neutral"
    if measure == "distortion":
        of = _first(text, {one: _WORDS["measures"][one] for one in ("voltage", "current")}) or "voltage"
        key = f"{of}_thd{behind}"
    elif measure == "demand":
        direction = _first(text, _WORDS["directions"]) or "import"
        largest = "_max" if re.search(r"max|最大", text) else ""
        key = f"demand_{direction}{largest}"
    elif measure and measure.endswith("_energy"):
        base = measure.removeprefix("active_")
        direction = _first(text, _WORDS["directions"]) or "gross"
        tariff = _first(text, _WORDS["tariffs"])
        key = f"{base}_{direction}" + (f"_t{tariff}" if tariff else behind)
    else:
        key = f"{measure}{behind}"
    return key if key in BY_KEY else None


def _header(table: Sequence[Sequence[str]]) -> tuple[int, dict[str, int]]:
    best: tuple[int, dict[str, int]] = (0, {})
    for number, row in enumerate(table[:_HEADER_WITHIN]):
        columns: dict[str, int] = {}
        for place, cell in enumerate(row):
            text = " ".join(cell.lower().split())
            bare = re.sub(r"[(（[].*?[)）\]]", "", text).strip()
            role = next(
                (
                    role
                    for role, words in _WORDS["columns"].items()
                    if role not in columns
                    and text
                    and any(one in (text, bare) or (len(one) > 2 and one in text) for one in words)
                ),
                None,
            )
            if role:
                columns[role] = place
        if len(columns) > len(best[1]):
            best = number, columns
    for role, wanted in (("address", "address, 地址"), ("name", "name, 名称")):
        if role not in best[1]:
            raise ConfigError(
                f"no column is headed as one of {role}s (for example {wanted}): name it so in the first row"
            )
    return best


type _Place = tuple[int | None, int, str]
"""Function where the address tells it, the address on the wire, and what is in doubt about it."""


def _address_style(cells: Sequence[str], heading: str, base: int) -> tuple[_Reader, list[str]]:
    """How the addresses of a column are read: each by its own form, and where it has none as the column has it."""
    marked = [cell for cell in cells if _is_marked(cell)]
    texts = [one for one in (_plain(cell) for cell in cells if not _is_marked(cell)) if one]
    # "000A" has no mark, and says that all without one are such.
    if re.search(r"hex|十六进制", heading.lower()) or not texts or any(re.search("[a-f]", one) for one in texts):
        notes = [] if base or not (texts or marked) else ["addresses are hexadecimal"]
        return partial(_hexadecimal, base=base), notes
    style, notes = _decimal_style(texts, base)
    if not marked:
        return style, notes
    mark, plain = marked[0], next(cell for cell in cells if _plain(cell) and not _is_marked(cell))
    notes.append(
        f'addresses are written in two ways: "{mark}" is read as hexadecimal, "{plain}" as decimal; '
        'if all are hexadecimal, head the column "address (hex)"'
    )
    return partial(_each, base=base, style=style), notes


def _is_marked(cell: str) -> bool:
    """True for "0x10", "$10", "10h"."""
    return bool(re.match(r"\s*(?:4x|3x)?(\$|0x|[0-9a-f]+h\b)", cell.lower().replace(" ", "")))


def _each(cell: str, base: int, style: _Reader) -> _Place | None:
    if _is_marked(cell):
        return _hexadecimal(cell, base)
    place = style(cell)
    return place and (*place[:2], "address: decimal or hexadecimal")


def _decimal_style(texts: Sequence[str], base: int) -> tuple[_Reader, list[str]]:
    numbers = [int(one) for one in texts if one.isdecimal()]
    for first, function in ((30_001, 4), (40_001, 3), (300_001, 4), (400_001, 3)):
        if (
            numbers
            and all(first <= one < first + 65_536 for one in numbers)
            and min(numbers) // 10_000 == first // 10_000
        ):
            note = f"addresses count from {first}: function {function}, and {first} is 0 on the wire"
            return partial(_decimal, first=first, function=function), [note]
    notes = [f"addresses count from {base}"]
    if not base and numbers and min(numbers) == 1:
        notes.append("the lowest address is 1: if the sheet counts from 1, say --base 1")
    return partial(_decimal, first=base, function=None), notes


type _Reader = Callable[[str], _Place | None]


def _plain(cell: str) -> str:
    """The first address of a cell, lower case: "0x5000-0x5003" and "$000B" are addresses too."""
    found = re.match(r"\s*(?:4x|3x)?\$?(0x[0-9a-f]+|[0-9a-f]+h\b|[0-9][0-9a-f]*)", cell.lower().replace(" ", ""))
    return found[1] if found else ""


def _hexadecimal(cell: str, base: int) -> _Place | None:
    text = _plain(cell).removeprefix("0x").removesuffix("h")
    number = int(text, 16) - base if text else -1
    return (None, number, "") if 0 <= number <= 0xFFFF else None


def _decimal(cell: str, first: int, function: int | None) -> _Place | None:
    text = _plain(cell)
    number = int(text) - first if text.isdecimal() else -1
    return (function, number, "") if 0 <= number <= 0xFFFF else None


def _row(key: str, place: _Place, name: str, cells: Mapping[str, str]) -> DraftRow:
    doubts = [place[2]] if place[2] else []
    kind, doubt = _type(cells.get("type", ""), cells.get("words", ""), key)
    doubts += [doubt] if doubt else []
    scale, doubt = _scale(cells.get("scale", ""), cells.get("unit", ""), key, kind)
    doubts += [doubt] if doubt else []
    function = {"03": 3, "3": 3, "04": 4, "4": 4}.get(cells.get("function", "").lower().removeprefix("0x"), place[0])
    return DraftRow(key, function, place[1], kind, scale, "; ".join(doubts or ["not yet tried on a meter"]), name)


def _type(text: str, length: str, key: str) -> tuple[str, str]:
    """The number type, and what is not certain about it."""
    said = text.lower().replace("_", "").replace(" ", "")
    words = _count(length) or _count(text)
    if re.search(r"double|float64|real64|双精度", said):
        return "float64", ""
    if re.search(r"float|real|single|ieee|浮点", said):
        return ("float64" if words == 4 else "float32"), ""
    bits = re.search(r"(16|32|64)", said)
    long = re.search(r"dword|long|双字|长整", said)
    size = {"16": 1, "32": 2, "64": 4}[bits[1]] if bits else words or (2 if long else 1)
    unsigned = bool(re.search(r"^u|unsigned|word|无符号|bcd", said))
    signed = bool(re.search(r"^s\d|^i(nt)?\d|signed|有符号|short|^int", said)) and not unsigned
    kind = {1: "int16", 2: "int32", 4: "int64"}.get(size, "int16")
    counts = "energy" in key
    doubt = "" if bits or long or (words and (unsigned or signed)) else "type"
    if signed:
        return kind, doubt
    if unsigned:
        return f"u{kind}", doubt
    may_fall = re.search(r"power|current|demand|temperature", key)
    return (kind if may_fall and not counts else f"u{kind}"), "type, signed or not"


def _count(text: str) -> int | None:
    """Words, of a cell that says words or bytes."""
    found = re.search(r"\d+", text)
    if found is None or int(found[0]) not in (1, 2, 4, 8):
        return None
    number = int(found[0])
    in_bytes = bool(re.search(r"byte|字节", text.lower())) or number == 8
    return max(1, number // 2) if in_bytes else number


def _scale(text: str, unit: str, key: str, kind: str) -> tuple[Decimal, str]:
    """Reading = raw × scale in our unit, and what is not certain about it."""
    factor, certain = _factor(text)
    in_unit = re.match(r"\s*([0-9.]+)\s*(.*)", unit)
    if in_unit and factor is None:
        factor, certain = Decimal(in_unit[1]), True
        unit = in_unit[2]
    doubt = "" if factor is not None and certain else "scale"
    if factor is None:
        factor = Decimal(1)
        doubt = "" if kind.startswith("float") else "scale: none is given"
    factor *= _unit_factor(unit)
    if (
        _measure_of_unit(unit) is None
        and any(one in key for one in ("power", "energy", "demand"))
        and "factor" not in key
    ):
        # Whether it is kW or W cannot be seen.
        doubt = (doubt + ", unit").lstrip(", ")
    return factor.normalize(), doubt


def _factor(text: str) -> tuple[Decimal | None, bool]:
    """A number to multiply with, and whether the cell said clearly that it is one."""
    said = text.replace("×", "*").replace("÷", "/").replace("x", "*").replace("X", "*").strip()
    if found := re.search(r"(?:^|1|[^\d])/\s*([0-9.]+)", said):
        return _number(found[1], divide=True), True
    if found := re.search(r"[0-9]*\.?[0-9]+", said):
        number = _number(found[0])
        # "10" mostly means tenths.
        return (1 / number, False) if number is not None and number > 1 else (number, True)
    return None, False


def _number(text: str, *, divide: bool = False) -> Decimal | None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    if not number:
        return None
    return 1 / number if divide else number


def _unit_factor(unit: str) -> Decimal:
    plain = unit.strip().strip("[]()")
    measure = _measure_of_unit(plain)
    if measure is None:
        return Decimal(1)
    prefix = plain[0] if plain[0] in "kmM" and len(plain) > 1 and plain[0] not in ("v",) else ""
    if prefix == "m" and measure in _KILO:
        prefix = "M"  # nobody counts in milliwatts
    ours = Decimal(1000) if measure in _KILO else Decimal(1)
    return _PREFIX[prefix] / ours


def _measure_of_unit(unit: str) -> str | None:
    plain = re.sub(r"^[\s\d.*×x/]+", "", unit.lower()).strip(" []()")
    return next((measure for measure, units in _WORDS["units"].items() if plain in units), None)


def _first(text: str, patterns: Mapping[str, Sequence[str]]) -> str | None:
    return next((name for name, words in patterns.items() if _any(text, words)), None)


def _any(text: str, patterns: Sequence[str]) -> bool:
    return any(re.search(one, text) for one in patterns)
