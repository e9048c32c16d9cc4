"""DL/T 645 identifiers on the command line: which edition they are of, and what their data say, for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from datetime import datetime

    from meter_batch_engine import ItemData
    from meter_batch_engine.protocol.dlt645.frame import Variant

_FLAWS = {
    "invalid_bcd": "the meter sent digits that are none",
    "unexpected_length": "the meter sent a length that does not fit",
    "problem": "the meter sent load records that are damaged",
}
_LOAD_RECORDS = "load records"
_UNITS = {
    "U": "V",
    "I": "A",
    "f": "Hz",
    "P_total_abc": "kW",
    "Q_total_abc": "kvar",
    "energies": "kWh, kvarh",
    "quadrants": "kvarh",
    "demand": "kW",
    "reactive_demand": "kvar",
}
"""Of the columns of load records."""


def edition(dis: Sequence[str], chosen: str | None) -> Variant:
    """The edition that was chosen, else that of the identifiers: four digits are 1997. Raises BadParameter."""
    lengths = {len(di) for di in dis}
    if chosen is None:
        if {4, 8} <= lengths:
            raise typer.BadParameter(
                "4 digits (1997) and 8 digits (2007) in one call; read them apart", param_hint="--di"
            )
        return "1997" if lengths == {4} else "2007"
    if chosen == "1997":
        return "1997"
    if chosen == "2007":
        return "2007"
    raise typer.BadParameter(f'"{chosen}" is none of 2007, 1997', param_hint="--edition")


def check(dis: Sequence[str], variant: Variant, count: int | None, at: datetime | None) -> None:
    """Raises BadParameter for what no meter can be asked, before a line is opened."""
    from meter_batch_engine.errors import ConfigError
    from meter_batch_engine.protocol.dlt645.exchange import identifier

    for di in dis:
        try:
            identifier(di, variant)
        except ConfigError as error:
            raise typer.BadParameter(str(error), param_hint="--di") from error
        load = variant == "2007" and di.startswith("06")
        if count is not None and not load:
            raise typer.BadParameter(f"{di} is no load record (06……): it takes no count", param_hint="--count")
        if (at is not None) != (load and di.endswith("01")):
            raise typer.BadParameter(
                "the load records that begin at a time are 06…01, and they need the time"
                if load
                else f"{di} is no load record (06…01): it takes no time",
                param_hint="--at",
            )


def fields(item: ItemData, variant: Variant) -> dict[str, Any]:
    """An item as plain fields: `di`, `name`, `raw`, and what `decode` shows of its data."""
    from meter_batch_engine.protocol.dlt645.describe import describe_item

    name = _LOAD_RECORDS if variant == "2007" and item.di.startswith("06") else ""
    return {"di": item.di, "name": name, "raw": item.data.hex()} | describe_item(item.di, item.data, variant)


def flaw(item: dict[str, Any]) -> str | None:
    """What is wrong with the data of an item; None where nothing is."""
    for key, words in _FLAWS.items():
        if key in item:
            return f"{item['di']} ({item['name']}): {words}: {item['raw']}"
    return None


def rows(item: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """What people see of an item: name, value and unit; a row for each value that has a time of its own."""
    name, unit = item["name"], item.get("unit", "")
    if flaw(item) is not None:
        yield name, "–", ""
    elif name == _LOAD_RECORDS:
        records = item.get("load_records") or [item[one] for one in ("load_record",) if one in item]
        for record in records:
            yield from _record(record)
        if not records:
            yield name, "none", ""
    elif "demands" in item:
        yield from ((name, _demand(one["value"], one["datetime"]), unit) for one in item["demands"])
    elif "demand" in item:
        yield name, _demand(item["demand"], item["datetime"]), unit
    elif "bits" in item:
        yield name, ", ".join(item["bits"]) or "none", ""
    else:
        told = [item[one] for one in ("value", "values", "date", "time", "datetime", "digits", "text") if one in item]
        if "datetime" in item and len(item["raw"]) > 12:
            told.append(item["raw"][12:])  # what an event record holds behind its time differs from event to event
        yield name, "  ".join(map(_text, told)) if told else item["raw"], unit


def _demand(value: object, at: str | None) -> str:
    return f"{_text(value)} at {at}" if at else _text(value)


def _record(record: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    digits = record["time"]
    at = f"20{digits[:2]}-{digits[2:4]}-{digits[4:6]} {digits[6:8]}:{digits[8:10]}"
    if record["bad"]:
        at += " (marked as bad)"
    columns = [key for key in record if key not in ("time", "bad", "empty_classes")]
    yield from ((f"{at} {key}", _text(record[key]), _UNITS.get(key, "")) for key in columns)
    if not columns:
        yield at, "nothing recorded", ""


def _text(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(_text, value))
    return "–" if value is None else str(value)
