"""Data items: what the bytes behind an identifier mean, both ways. The catalogue itself is `items.toml`."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from functools import lru_cache
from importlib import resources
from itertools import product

from ...errors import ConfigError, DecodeError
from ...sentences import say
from .bcd import decode_moment, decode_number, digits, encode_moment, encode_number, is_absent
from .frame import Variant

type Value = Decimal | str | date | datetime | time | tuple[str, ...] | bytes | None
"""Number, digits or text, date, instant, time, names of set bits, bytes without known meaning, not fitted."""

_NUMBER = re.compile(r"(X+)(?:\.(X+))?")
_SIZED = re.compile(r"([NAB])(\d+)")
_MOMENTS = {"YYMMDDhhmm": 5, "YYMMDDhhmmss": 6}
_REST = "…"


@dataclass(frozen=True, slots=True)
class ItemValue:
    """One value of an item: `di` is the single item it belongs to, also where a block was read.

    `at` is the time that goes with a maximum demand (naive, the meter's own clock). Units as in the catalogue.
    """

    di: str
    name: str
    value: Value
    unit: str = ""
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an item: `kind` is number, moment, date, time, digits, text, bits or rest; `size` in bytes."""

    kind: str
    size: int
    decimals: int = 0


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of the catalogue."""

    name: str
    fields: tuple[Field, ...]
    unit: str = ""
    signed: bool = False
    repeat: bool = False

    @property
    def size(self) -> int:
        """Bytes of one occurrence; 0 where it has no fixed length."""
        return 0 if self.fields[-1].kind == "rest" else sum(field.size for field in self.fields)

    @property
    def is_register(self) -> bool:
        """True for energies: they are cut off, not rounded, and roll over."""
        return self.unit in ("kWh", "kvarh", "kVAh")


def _field(text: str) -> Field:
    if number := _NUMBER.fullmatch(text):
        decimals = len(number[2] or "")
        return Field("number", (len(number[1]) + decimals) // 2, decimals)
    if sized := _SIZED.fullmatch(text):
        size = int(sized[2])
        return Field("digits", size // 2) if sized[1] == "N" else Field({"A": "text", "B": "bits"}[sized[1]], size)
    if text in _MOMENTS:
        return Field("moment", _MOMENTS[text])
    return {"YYMMDDWW": Field("date", 4), "hhmmss": Field("time", 3), _REST: Field("rest", 0)}[text]


@dataclass(frozen=True, slots=True)
class _Span:
    """The values that one byte of a pattern takes; `is_index` where all of them can be asked for at once."""

    values: range
    is_index: bool


def _span(text: str) -> _Span:
    low, _, high = text.removeprefix("*").partition("-")
    return _Span(range(int(low, 16), int(high or low, 16) + 1), text.startswith("*"))


def _read_catalogue() -> tuple[dict[str, dict[int, list[tuple[list[_Span], Item]]]], dict[str, list[str]]]:
    """Items by edition and first byte, and the names of status bits."""
    with resources.files(__package__).joinpath("items.toml").open("rb") as file:
        tables = tomllib.load(file)
    items: dict[str, dict[int, list[tuple[list[_Span], Item]]]] = {}
    for variant in ("2007", "1997"):
        by_first = items.setdefault(variant, {})
        for entry in tables[variant]["item"]:
            fields = tuple(_field(one) for one in entry["format"].split())
            item = Item(
                entry["name"], fields, entry.get("unit", ""), entry.get("signed", False), entry.get("repeat", False)
            )
            for pattern in entry["di"]:
                spans = [_span(one) for one in pattern.split()]
                for first in spans[0].values:
                    by_first.setdefault(first, []).append((spans, item))
    return items, tables["status"]


# Read with the module, because hosts import in a thread of their own and look items up where nothing may block.
_ITEMS, _STATUS = _read_catalogue()


@lru_cache(maxsize=4096)
def _find(di: str, variant: Variant) -> tuple[Item | None, tuple[str, ...]]:
    """The item of an identifier, and the members where the identifier is a block."""
    try:
        wanted = bytes.fromhex(di)
    except ValueError:
        return None, ()
    if not wanted:
        return None, ()
    for spans, item in _ITEMS[variant].get(wanted[0], ()):
        if len(spans) != len(wanted):
            continue
        choices = [_choice(span, byte, variant) for span, byte in zip(spans, wanted, strict=True)]
        if all(choices):
            # Where two indices are open, the last byte counts slower: all tariffs of a billing day, then the next day.
            members = tuple(bytes(reversed(one)).hex().upper() for one in product(*reversed(choices)))
            return item, () if members == (di.upper(),) else members
    return None, ()


def _choice(span: _Span, byte: int, variant: Variant) -> Sequence[int]:
    """The values a byte of an identifier stands for: itself, all of an index where it asks for a block, or none."""
    if byte in span.values:
        return (byte,)
    if span.is_index and variant == "2007" and byte == 0xFF:
        return span.values
    if span.is_index and variant == "1997" and byte & 0x0F == 0x0F:
        return [one for one in span.values if one & 0xF0 == byte & 0xF0]
    return ()


def find_item(di: str, variant: Variant) -> Item | None:
    """The catalogue's entry for an identifier, single or block; None where it has none."""
    return _find(di, variant)[0]


def block_members(di: str, variant: Variant) -> Sequence[str]:
    """The single items that a block may hold, in order (a meter may have only the first ones); empty for no block."""
    return _find(di, variant)[1]


def item_bytes(di: str, variant: Variant, members: int | None = None) -> int | None:
    """How many bytes a good reply holds behind the identifier; None where that is not known.

    `members` says how many items of a block or repeated item the meter has. Without it a block of phases is complete.
    """
    item, block = _find(di, variant)
    if item is None or not item.size:
        return None
    closing = 1 if block and variant == "1997" else 0
    if members is not None:
        return item.size * members + closing
    if item.repeat or len(block) > 7:
        return None
    return item.size * max(1, len(block)) + closing


def decode_item(di: str, data: bytes, variant: Variant) -> list[ItemValue]:
    """The values in the data of a reply, in the order of the wire; how many there are follows from the length.

    An identifier without entry gives one value, the bytes. Raises DecodeError (with `raw`) for digits that are none and
    for lengths that do not fit.
    """
    di = di.upper()
    item, members = _find(di, variant)
    if item is None:
        return [ItemValue(di, "", data)]
    if members and variant == "1997" and data[-1:] == b"\xaa":
        data = data[:-1]
    if not members and not item.repeat:
        return _decode_once(di, item, data, alone=True)
    if len(data) % item.size:
        raise DecodeError(say("dlt645_item_multiple", di=di, item=item.name, count=len(data), size=item.size), data)
    values: list[ItemValue] = []
    for number, start in enumerate(range(0, len(data), item.size)):
        member = members[number] if number < len(members) else di
        values += _decode_once(member, item, data[start : start + item.size], alone=False)
    return values


def _decode_once(di: str, item: Item, data: bytes, *, alone: bool) -> list[ItemValue]:
    fields = item.fields
    if alone and len(fields) == 1 and fields[0].kind in ("text", "digits", "bits") and data:
        fields = (Field(fields[0].kind, len(data)),)  # makers shorten and lengthen these freely
    elif fields[-1].kind == "rest":
        fields = (*fields[:-1], Field("rest", len(data) - sum(field.size for field in fields)))
    if sum(field.size for field in fields) != len(data) or fields[-1].size < 0:
        raise DecodeError(
            say("dlt645_item_length", di=di, item=item.name, count=len(data), size=item.size or "?"), data
        )
    values: list[ItemValue] = []
    place = 0
    for field in fields:
        part = data[place : place + field.size]
        place += field.size
        try:
            value = _decode_field(di, field, part, item.signed)
        except DecodeError as error:
            raise DecodeError(say("dlt645_item_bad", di=di, item=item.name, error=error.text), data) from None
        if field.kind == "moment" and values and isinstance(value, datetime | None):
            values[-1] = ItemValue(di, item.name, values[-1].value, item.unit, value)
        elif field.kind != "rest" or part:
            values.append(ItemValue(di, item.name, value, item.unit))
    return values


def _decode_field(di: str, field: Field, data: bytes, signed: bool) -> Value:
    match field.kind:
        case "number":
            return decode_number(data, field.decimals, signed)
        case "moment":
            return decode_moment(data)
        case "date" | "time":
            return _decode_calendar(field.kind, data)
        case "digits":
            return None if is_absent(data) else digits(data)
        case "text":
            return data[::-1].rstrip(b"\0").decode("latin-1")
        case "bits":
            names = _STATUS.get(di, [])
            word = int.from_bytes(data, "little")
            return tuple(_bit_name(names, bit) for bit in range(8 * len(data)) if word & 1 << bit)
        case _:
            return data


def _decode_calendar(kind: str, data: bytes) -> date | time | None:
    if is_absent(data):
        return None
    text = digits(data)
    try:
        if kind == "time":
            return time(int(text[:2]), int(text[2:4]), int(text[4:]))
        return date(2000 + int(text[:2]), int(text[2:4]), int(text[4:6]))
    except ValueError:
        raise DecodeError(say(f"dlt645_no_{kind}", data=data.hex()), data) from None


def _bit_name(names: Sequence[str], bit: int) -> str:
    return names[bit] if bit < len(names) and names[bit] else f"bit{bit}"


def encode_item(di: str, values: Sequence[ItemValue | Value | float], variant: Variant) -> bytes:
    """The data of a reply: `decode_item` backwards, for virtual meters.

    Takes the values themselves where no time goes with them. Energies are cut off and roll over as registers do, other
    numbers are rounded. A 1997 block gets its closing AA. Raises ConfigError where a value does not fit.
    """
    di = di.upper()
    item, members = _find(di, variant)
    pending = iter(values)
    data = b""
    if item is None:
        data = b"".join(_as_bytes(di, one) for one in pending)
    elif members or item.repeat:
        number = 0
        while (once := _encode_once(members[number] if number < len(members) else di, item, pending)) is not None:
            data += once
            number += 1
        if members and variant == "1997":
            data += b"\xaa"
    else:
        data = _encode_once(di, item, pending) or b""
    if next(pending, None) is not None:
        raise ConfigError(f"{di} ({item.name if item else 'unknown'}) takes fewer than {len(values)} values")
    return data


def _encode_once(di: str, item: Item, pending: Iterator[ItemValue | Value | float]) -> bytes | None:
    """One occurrence of an item from the values that are left; None where none are left."""
    data = b""
    last: ItemValue | Value | float = None
    for place, field in enumerate(item.fields):
        if field.kind == "moment" and place:
            data += encode_moment(last.at if isinstance(last, ItemValue) else None, field.size)
            continue
        try:
            last = next(pending)
        except StopIteration:
            if field.kind == "rest":
                continue
            if data:
                raise ConfigError(f"{di} ({item.name}) takes {len(item.fields)} values") from None
            return None
        value = last.value if isinstance(last, ItemValue) else last
        data += _encode_field(di, item, field, value)
    return data


def _encode_field(di: str, item: Item, field: Field, value: Value | float) -> bytes:
    match field.kind, value:
        case ("number", None | Decimal() | float()):
            return encode_number(value, field.size, field.decimals, item.signed, register=item.is_register)
        case ("moment", None | datetime()):
            return encode_moment(value, field.size)
        case ("date" | "time" | "digits" | "bits", None):
            return b"\xff" * field.size
        case ("date", date()):
            return bytes.fromhex(f"{value:%y%m%d}{value.isoweekday() % 7:02d}")[::-1]
        case ("time", time()):
            return bytes.fromhex(f"{value:%H%M%S}")[::-1]
        case ("digits", str()) if value.isdecimal() and len(value) % 2 == 0:
            return bytes.fromhex(value)[::-1]
        case ("text", str()):
            return value.encode("latin-1").ljust(field.size, b"\0")[::-1]
        case ("bits", tuple()):
            return _encode_bits(di, field, value)
        case ("rest", bytes()):
            return value
        case _:
            raise ConfigError(f"{di} ({item.name}) cannot hold {value!r}")


def _encode_bits(di: str, field: Field, names: tuple[str, ...]) -> bytes:
    known: Mapping[str, int] = {_bit_name(_STATUS.get(di, []), bit): bit for bit in range(8 * field.size)} | {
        f"bit{bit}": bit for bit in range(8 * field.size)
    }
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(f"{di} has no status bit {unknown[0]}; it has {', '.join(known)}")
    return sum({1 << known[name] for name in names}).to_bytes(field.size, "little")


def _as_bytes(di: str, value: ItemValue | Value | float) -> bytes:
    content = value.value if isinstance(value, ItemValue) else value
    if not isinstance(content, bytes):
        raise ConfigError(f"{di} is not in the catalogue, so only bytes can be given for it")
    return content
