"""Checks of the tables in a fleet file; every mistake is named by its place."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from meter_batch_engine.errors import ConfigError

GREATEST = 1e9
"""No setting is greater; what is (or is no number at all) would break the arithmetic behind it."""
_WHAT = {
    int: "a whole number",
    str: "a text",
    bool: "true or false",
    list: "a list of tables",
    (int, float): "a number",
}
_WHAT[int, str] = "a number or a text"


def check_table(table: Any, known: Mapping[str, Any], where: str, required: tuple[str, ...] = ()) -> None:
    """Raises ConfigError for what is no table, unknown or missing keys, and values of the wrong type."""
    if not isinstance(table, dict):
        raise ConfigError(f"{where}: it must be a table")
    for key, value in table.items():
        if key not in known:
            close = get_close_matches(key, known, 1)
            hint = f"; did you mean {close[0]}?" if close else f"; it may have {', '.join(known)}"
            raise ConfigError(f"{where}: unknown key {key}{hint}")
        wanted = known[key]
        if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
            raise ConfigError(f"{where}: {key} = {value!r} must be {_WHAT[wanted]}")
        if wanted == (int, float) and not abs(value) <= GREATEST:
            raise ConfigError(f"{where}: {key} must be a number of at most {GREATEST:g}")
    for key in required:
        if key not in table:
            raise ConfigError(f"{where}: {key} is missing")


def one_of[T](value: T, allowed: tuple[T, ...] | list[T], where: str, key: str) -> T:
    """The value; raises ConfigError where it is none of those allowed."""
    if value not in allowed:
        raise ConfigError(f"{where}: {key} = {value!r}; it may be {', '.join(map(str, allowed))}")
    return value


def unique(values: list[str], where: str) -> None:
    """Raises ConfigError for a value that is there twice."""
    for value in values:
        if values.count(value) > 1:
            raise ConfigError(f'{where} "{value}" is there twice; each must have its own')
