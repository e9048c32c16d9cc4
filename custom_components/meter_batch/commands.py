"""What actions and WebSocket commands have in common: values as JSON, and imports."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from decimal import Decimal
from typing import Any

from homeassistant.core import HomeAssistant, callback
from homeassistant.exceptions import ServiceValidationError

from . import access
from .const import DOMAIN
from .engine import Point
from .engine.model.obis import Obis
from .engine.model.quantity import BY_KEY, QUANTITIES
from .engine.model.reading import Reading
from .entity import Population, populations, shown_value
from .importer import DryRun, Outcome, dry_run
from .registry import Change, RegistryConflict
from .site import Site
from .table import Problem
from .wording import async_message


def refuse(key: str, /, **placeholders: str) -> ServiceValidationError:
    """What a user did wrong, in the user's language."""
    return ServiceValidationError(
        translation_domain=DOMAIN, translation_key=key, translation_placeholders=placeholders or None
    )


def register(text: str) -> Obis:
    """A register by its name or OBIS code; ServiceValidationError where there is none."""
    if text in QUANTITIES:
        return text
    if text in BY_KEY:
        return BY_KEY[text].obis
    raise refuse("unknown_register", register=text)


def find_point(site: Site, text: str) -> Point:
    """A point by id or name; ServiceValidationError where there is none."""
    if (point := site.registry.find(text)) is None:
        raise refuse("unknown_point", point=text)
    return point


def line_by_name(site: Site, text: str | None) -> str | None:
    """The id of a line by id or title; ServiceValidationError where there is none."""
    if text is None:
        return None
    for line in site.known().lines.values():
        if text == line.id or text.casefold() == line.title.casefold():
            return line.id
    raise refuse("unknown_line", line=text)


@callback
def line_of(hass: HomeAssistant, point: Point) -> Population | None:
    """The running line on which a point is read."""
    return populations(hass).get(point.routes[0].line) if point.routes else None


def values(readings: Iterable[Reading], registers: set[Obis] | None) -> dict[str, dict[str, Any]]:
    """Readings by register name: value as entities show it (a counter also as text to the digit), unit, instant."""
    return {
        QUANTITIES[one.obis].key: {
            "obis": one.obis,
            "value": float(shown_value(one)),
            **({"exact": str(one.value)} if isinstance(one.value, Decimal) else {}),
            "unit": QUANTITIES[one.obis].unit,
            "at": one.at.isoformat(),
            **({"flags": sorted(one.flags)} if one.flags else {}),
        }
        for one in sorted(readings, key=lambda one: list(QUANTITIES).index(one.obis))
        if registers is None or one.obis in registers
    }


@callback
def state_of(hass: HomeAssistant, point: Point, registers: set[Obis] | None = None) -> dict[str, Any]:
    """What is known now of a point."""
    line = line_of(hass, point)
    if point.virtual:
        return {"name": point.name, "available": True, "problem": None, "explanation": None, "registers": {}}
    if line is None:
        return {"name": point.name, "available": False, "problem": "line", "explanation": None, "registers": {}}
    coordinator = line.coordinator
    trouble = coordinator.problems.get(point.id)
    return {
        "name": point.name,
        "available": coordinator.good(point.id),
        "problem": trouble.reason if trouble else None,
        "explanation": coordinator.explanation(point.id),
        "registers": values(coordinator.values.get(point.id, {}).values(), registers),
    }


async def async_import(
    site: Site,
    actor: access.Actor,
    data: bytes,
    file_name: str,
    *,
    default_line: str | None,
    dry: bool,
    skip_bad: bool,
    remove_absent: bool,
) -> dict[str, Any]:
    """Compares a list with the registry and, unless `dry`, applies it as a whole. Says what happened either way.

    Problems are refused with ServiceValidationError unless the bad rows are to be left out.
    """
    known = site.known(default_line)
    result = await site.hass.async_add_executor_job(dry_run, data, known, file_name)
    answer = await _answer(site, result)
    await asyncio.sleep(0)  # a thousand rows were two turns' work
    if dry:
        return {**answer, "applied": 0}
    changes = result.changes(skip_bad=skip_bad, remove_absent=remove_absent)
    if result.problems and not changes:
        raise refuse("import_refused", problems=await _listed(site, answer["problems"]))
    return {**answer, "applied": await async_apply(site, actor, changes, "import_points")}


async def async_apply(site: Site, actor: access.Actor, changes: dict[str, Point | None], action: str) -> int:
    """Applies changes and says how many points changed; ServiceValidationError where they cannot be."""
    return await async_applied(site, site.registry.async_apply(changes, actor, action))


async def async_applied(site: Site, change: Awaitable[list[Change]]) -> int:
    """The same of a change of the registry that is under way."""
    try:
        return len(await change)
    except RegistryConflict as error:
        raise refuse("import_refused", problems=await _listed(site, await _conflicts(site, error))) from error
    except OSError as error:
        raise refuse("log_failed", error=str(error)) from error


async def _conflicts(site: Site, error: RegistryConflict) -> list[dict[str, Any]]:
    return await site.async_texts([Problem(None, one.field, one.key, one.placeholders) for one in error.conflicts])


async def _listed(site: Site, problems: list[dict[str, Any]]) -> str:
    shown = [
        await async_message(site.hass, "import_at_row", row=str(one["row"]), text=one["text"])
        if one["row"]
        else one["text"]
        for one in problems[:10]
    ]
    return "; ".join(shown) + (f" … +{len(problems) - 10}" if len(problems) > 10 else "")


async def _answer(site: Site, result: DryRun) -> dict[str, Any]:
    points = site.registry.points
    return {
        **{outcome.value: result.count(outcome) for outcome in Outcome},
        "absent": [points[id_].name for id_ in result.absent],
        "problems": await site.async_texts(result.problems),
        "warnings": await site.async_texts(result.warnings),
        "rows": [
            {
                "row": row.row,
                "outcome": row.outcome.value,
                "name": row.name,
                **({"id": row.point.id} if row.point else {}),
                **({"diff": {column: list(pair) for column, pair in row.diff.items()}} if row.diff else {}),
            }
            for row in result.rows
        ],
    }
