"""Meter models on the screen: all in a list, or one with its registers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer

from .models import by_name

if TYPE_CHECKING:
    from meter_batch_engine.template import Register, Template


def show(which: str | None, *, as_json: bool) -> None:
    """Lists all models, or shows one; raises TemplateError."""
    from meter_batch_engine.template import available, load

    if which is None:
        _list([load(one) for one in available()], as_json)
        return
    template = by_name(which)
    if as_json:
        rows = [_row(one) for one in template.registers]
        typer.echo(json.dumps(_summary(template) | {"registers": rows}, ensure_ascii=False))
    else:
        _show(template)


def _summary(template: Template) -> dict[str, Any]:
    return {
        "id": template.id,
        "vendor": template.vendor,
        "model": template.model,
        "protocol": template.protocol,
        "phases": template.phases,
        "registers": len(template.registers),
        "source": template.source,
        "doubt": template.doubt,
    }


def _row(register: Register) -> dict[str, Any]:
    return {
        "key": register.quantity.key,
        "obis": register.obis,
        "unit": register.quantity.unit,
        "group": register.group,
        "where": _where(register),
        "doubt": register.doubt,
    }


def _where(register: Register) -> str:
    from meter_batch_engine.template import ModbusWords

    locator = register.locator
    if isinstance(locator, ModbusWords):
        words = f"{locator.type}, the sum of {locator.parts}" if locator.parts > 1 else locator.type
        return f"function {locator.function}, address {locator.address} (0x{locator.address:04X}), {words}"
    return locator.single if locator.single == locator.di else f"{locator.single} (in {locator.di})"


def _list(every: list[Template], as_json: bool) -> None:
    if as_json:
        for template in every:
            typer.echo(json.dumps(_summary(template), ensure_ascii=False))
        return
    from rich.table import Table

    table = Table("id", "model", "protocol", "phases", "registers", box=None)
    for template in every:
        table.add_row(template.id, template.name, template.protocol, str(template.phases), str(len(template.registers)))
    _console().print(table)


def _show(template: Template) -> None:
    from rich.markup import escape
    from rich.table import Table

    console = _console()
    serial = template.serial
    console.print(f"[bold]{escape(template.name)}[/bold] ({escape(template.id)})")
    console.print(
        f"{template.protocol}, {template.phases} phase(s), {serial.baud} Bd {serial.parity}{serial.stop_bits}"
    )
    table = Table("register", "OBIS", "unit", "group", "where", "doubt", box=None)
    for row in map(_row, template.registers):
        table.add_row(*(escape(row[key] or "") for key in ("key", "obis", "unit", "group", "where", "doubt")))
    console.print(table)
    for name, source in template.sources.items():
        console.print(f"{escape(name)}: {escape(source)}")
    for about, item in (("serial number", template.identity.serial), ("model", template.identity.model)):
        if item is not None:
            where = item.address + item.skip
            console.print(f"{about}: function {item.function}, address {where} (0x{where:04X}), {item.type}")
    if template.doubt:
        console.print(f"In doubt: {escape(template.doubt)}")


def _console() -> Any:
    """A console that never breaks a row where the output goes into a file or another program."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=240, soft_wrap=True)
