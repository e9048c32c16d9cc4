"""Frozen values as JSON and back, by their annotations: Decimal, day and instant as text. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from types import UnionType
from typing import Any, TypeAliasType, Union, get_args, get_origin, get_type_hints

from ..errors import ReportError


def encoded(value: Any) -> Any:
    """A frozen value as JSON has it; what is a Decimal becomes text, to the last digit."""
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: encoded(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): encoded(one) for key, one in value.items()}
    if isinstance(value, tuple | list | set | frozenset):
        return [encoded(one) for one in value]
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, date):
        return value.isoformat()
    return value


def decoded[Value](kind: type[Value], data: Mapping[str, Any], version: int) -> Value:
    """The inverse. ReportError where it is of another version, or something is missing or is no such thing."""
    if not isinstance(data, Mapping) or data.get("version") != version:
        raise ReportError(f"this is no report of version {version}: make it anew")
    try:
        return _decoded(kind, data)  # type: ignore[no-any-return]
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise ReportError(f"this report is damaged ({error}): make it anew") from error


def _decoded(kind: Any, data: Any) -> Any:
    if isinstance(kind, TypeAliasType):
        return _decoded(kind.__value__, data)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        if data is None and type(None) in arguments:
            return None
        left = [one for one in arguments if one is not type(None)]
        return _decoded(left[0], data) if len(left) == 1 else data
    if origin is tuple:
        if arguments[-1] is ...:
            return tuple(_decoded(arguments[0], one) for one in data)
        return tuple(_decoded(one, part) for one, part in zip(arguments, data, strict=True))
    if origin is Mapping:
        return {key: _decoded(arguments[1], one) for key, one in data.items()}
    if isinstance(kind, type) and is_dataclass(kind):
        # What was kept before a field was thought of lacks it; what has a default needs no value.
        free = _with_default(kind)
        there = {name: hint for name, hint in _hints(kind).items() if name in data or name not in free}
        return kind(**{name: _decoded(hint, data[name]) for name, hint in there.items()})
    if kind is Decimal:
        return Decimal(data)
    if kind in (datetime, date):
        return kind.fromisoformat(data)
    return float(data) if kind is float else data


@cache
def _hints(kind: Any) -> dict[str, Any]:
    found = get_type_hints(kind)
    return {one.name: found[one.name] for one in fields(kind)}


@cache
def _with_default(kind: Any) -> frozenset[str]:
    return frozenset(
        one.name for one in fields(kind) if one.default is not MISSING or one.default_factory is not MISSING
    )
