"""How values travel as JSON values, by their declared types: nothing is listed twice, so that no field is forgotten.

Exact: Decimals and instants as text, floats as JSON numbers (which are read back as the same float), sentences with key
and facts. Errors travel with their class. A type that has no form here is a TypeError when the form is made, not when
the first value comes.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from functools import cache
from typing import Any, NamedTuple, TypeAliasType, Union, get_args, get_origin, get_type_hints

from . import errors
from .errors import MeterBatchError
from .sentences import Sentence, received

_MICROSECOND = timedelta(microseconds=1)


class Form(NamedTuple):
    """How values of one type become JSON values, and back."""

    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


@cache
def form_of(hint: Any) -> Form:
    """The form of a type. Raises TypeError where it has none."""
    while isinstance(hint, TypeAliasType):
        hint = hint.__value__
    if hint in _PLAIN:
        return _PLAIN[hint]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is typing.Literal:
        return _SAME
    if origin in (Union, types.UnionType):
        return _either(arguments)
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is ...:
            return _many(arguments[0], tuple)
        return _row(tuple(form_of(one) for one in arguments), tuple)
    if origin in (list, Sequence, Collection):
        return _many(arguments[0], list if origin is list else tuple)
    if origin is frozenset:
        return _set(arguments[0])
    if origin in (dict, Mapping):
        return _mapping(*arguments)
    if isinstance(hint, type):
        if issubclass(hint, MeterBatchError):
            return Form(_encode_error, _decode_error)
        if issubclass(hint, Enum):
            return Form(lambda one: one.value, hint)
        if is_dataclass(hint):
            return _object(hint)
        if issubclass(hint, tuple) and hasattr(hint, "_fields"):
            named = get_type_hints(hint)
            return _row(tuple(form_of(named[name]) for name in hint._fields), lambda parts: hint(*parts))
    raise TypeError(f"{hint!r} has no form on the wire")


def _same(value: Any) -> Any:
    return value


def _encode_text(text: str) -> Any:
    """A sentence with its key, so that it can be said in another language at the other end."""
    if isinstance(text, Sentence):
        return {
            "say": text.key,
            "facts": {name: _encode_text(one) for name, one in text.facts.items()},
            "text": str(text),
        }
    return text


def _decode_text(data: Any) -> str:
    if isinstance(data, str):
        return data
    return received(data["say"], {name: _decode_text(one) for name, one in data["facts"].items()}, data["text"])


def _encode_instant(at: datetime) -> str:
    return (at if at.tzinfo is UTC else at.astimezone(UTC)).replace(tzinfo=None).isoformat()


def _decode_instant(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _encode_error(error: MeterBatchError) -> dict[str, Any]:
    kind = type(error)
    # A class that no other module knows travels as the one it is a kind of.
    while getattr(errors, kind.__name__, None) is not kind:
        kind = kind.__mro__[1]
    return {
        "error": kind.__name__,
        "text": _encode_text(error.text),
        "raw": getattr(error, "raw", b"").hex(),
        "code": getattr(error, "code", None),
    }


def _decode_error(data: Mapping[str, Any]) -> MeterBatchError:
    kind: type[MeterBatchError] = getattr(errors, data["error"])
    text = _decode_text(data["text"])
    if issubclass(kind, errors.Refused):
        return kind(text, bytes.fromhex(data["raw"]), data["code"])
    if issubclass(kind, errors.MeterError):
        return kind(text, bytes.fromhex(data["raw"]))
    return kind(text)


_SAME = Form(_same, _same)
_PLAIN: Mapping[Any, Form] = {
    int: _SAME,
    float: _SAME,
    bool: _SAME,
    type(None): _SAME,
    str: Form(_encode_text, _decode_text),
    Sentence: Form(_encode_text, _decode_text),
    bytes: Form(lambda data: data.hex(), bytes.fromhex),
    Decimal: Form(str, Decimal),
    datetime: Form(_encode_instant, _decode_instant),
    timedelta: Form(lambda span: span // _MICROSECOND, lambda count: timedelta(microseconds=count)),
    Decimal | float: Form(
        # Texts are exact numbers, numbers are floats.
        lambda one: str(one) if isinstance(one, Decimal) else one,
        lambda data: Decimal(data) if isinstance(data, str) else data,
    ),
}


def _either(arguments: tuple[Any, ...]) -> Form:
    others = [one for one in arguments if one is not type(None)]
    if len(others) == 1 and len(arguments) == 2:
        encode, decode = form_of(others[0])
        if (encode, decode) == _SAME:
            return _SAME
        return Form(
            lambda one: None if one is None else encode(one), lambda data: None if data is None else decode(data)
        )
    if set(others) == {Decimal, float} and len(arguments) == 3:
        encode, decode = _PLAIN[Decimal | float]
        return Form(encode, decode)
    if all(form_of(one) == _SAME for one in others):
        return _SAME
    raise TypeError(f"{Union[arguments]!r} has no form on the wire: its values cannot be told apart")  # noqa: UP007


def _many(item: Any, made: Callable[[Any], Any]) -> Form:
    encode, decode = form_of(item)
    if encode is _same:
        return Form(list, made)
    return Form(lambda all_: [encode(one) for one in all_], lambda data: made([decode(one) for one in data]))


def _set(item: Any) -> Form:
    encode, decode = form_of(item)
    empty: frozenset[Any] = frozenset()
    # One empty set for all: nearly every reading has no flag.
    return Form(
        lambda all_: [encode(one) for one in all_],
        lambda data: frozenset([decode(one) for one in data]) if data else empty,
    )


def _row(parts: tuple[Form, ...], made: Callable[[Any], Any]) -> Form:
    return Form(
        lambda row: [part.encode(one) for part, one in zip(parts, row, strict=True)],
        lambda data: made([part.decode(one) for part, one in zip(parts, data, strict=True)]),
    )


def _mapping(key: Any, value: Any) -> Form:
    encode, decode = form_of(value)
    if form_of(key) is _PLAIN[str]:
        return Form(
            lambda all_: {name: encode(one) for name, one in all_.items()},
            lambda data: {name: decode(one) for name, one in data.items()},
        )
    encode_key, decode_key = form_of(key)
    return Form(
        lambda all_: [[encode_key(name), encode(one)] for name, one in all_.items()],
        lambda data: {decode_key(name): decode(one) for name, one in data},
    )


def _object(kind: type) -> Form:
    """A dataclass: the values of its fields in their order, and at the end without those that are as usual."""
    hints = get_type_hints(kind)
    described: list[Field[Any]] = [one for one in fields(kind) if one.init]
    if len(described) != len(fields(kind)):
        raise TypeError(f"{kind.__name__} has fields that are not given to it, so it cannot be made anew")
    names = [one.name for one in described]
    forms = [form_of(hints[name]) for name in names]
    encoders = [(name, form.encode, *_usual(one)) for name, form, one in zip(names, forms, described, strict=True)]
    decoders = [form.decode for form in forms]

    def encode(one: Any) -> list[Any]:
        row: list[Any] = []
        needed = 0
        for name, encoded, usual, droppable in encoders:
            value = getattr(one, name)
            row.append(encoded(value))
            if not droppable or value != usual:
                needed = len(row)
        return row[:needed]

    def decode(data: list[Any]) -> Any:
        return kind(*[decoded(one) for decoded, one in zip(decoders, data, strict=False)])

    return Form(encode, decode)


def _usual(described: Field[Any]) -> tuple[Any, bool]:
    """The default of a field, and whether what equals it is the same: 0 and −0.0 are not, 1 and 1.0 neither."""
    usual = described.default
    if usual is MISSING and described.default_factory is not MISSING:
        usual = described.default_factory()
    return usual, usual is None or isinstance(usual, (bool, str, tuple, frozenset, dict))
