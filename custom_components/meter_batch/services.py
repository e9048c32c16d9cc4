"""Actions, all with a response. Each asks access.py first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import probatio
from homeassistant.core import HomeAssistant, ServiceCall, ServiceResponse, SupportsResponse, callback
from homeassistant.helpers import config_validation as cv

from . import access, corrections, points_view, query
from .access import Operation
from .cells import as_rows
from .commands import async_applied, async_import, find_point, line_by_name, line_of, refuse, register, state_of, values
from .const import DOMAIN
from .engine.model.quantity import QUANTITIES
from .site import async_get_site
from .table import write_csv
from .wording import register_names

MAX_FILE_BYTES = 20 << 20

_NAMES = probatio.All(cv.ensure_list, [cv.string])

GET_VALUES = probatio.Schema({probatio.Optional("points"): _NAMES, probatio.Optional("registers"): _NAMES})
READ_NOW = probatio.Schema({probatio.Required("point"): cv.string, probatio.Optional("registers"): _NAMES})
IMPORT_POINTS = probatio.Schema(
    {
        probatio.Exclusive("content", "source"): cv.string,
        probatio.Exclusive("path", "source"): cv.string,
        probatio.Optional("line"): cv.string,
        probatio.Optional("dry_run", default=False): cv.boolean,
        probatio.Optional("skip_bad", default=False): cv.boolean,
        probatio.Optional("remove_absent", default=False): cv.boolean,
    }
)
EXPORT_POINTS = probatio.Schema(
    {
        probatio.Optional("path"): cv.string,
        probatio.Optional("language", default="en"): cv.string,
        probatio.Optional("lines"): _NAMES,
        probatio.Optional("sample", default=False): cv.boolean,
    }
)
UNDO = probatio.Schema({probatio.Optional("again", default=False): cv.boolean})
LIST_GAPS = probatio.Schema(
    {probatio.Optional("points"): _NAMES, probatio.Optional("areas"): _NAMES, probatio.Optional("lines"): _NAMES}
)
GET_HISTORY = probatio.Schema(query.FIELDS)
CORRECT_INTERVAL = probatio.Schema(corrections.FIELDS)
GET_REVISIONS = probatio.Schema(corrections.REVISIONS)


@callback
def async_setup_services(hass: HomeAssistant) -> None:
    """Registers the actions."""
    for name, handler, schema, response in (
        ("get_values", get_values, GET_VALUES, SupportsResponse.ONLY),
        ("read_now", read_now, READ_NOW, SupportsResponse.ONLY),
        ("import_points", import_points, IMPORT_POINTS, SupportsResponse.OPTIONAL),
        ("export_points", export_points, EXPORT_POINTS, SupportsResponse.OPTIONAL),
        ("undo", undo, UNDO, SupportsResponse.OPTIONAL),
        ("list_gaps", list_gaps, LIST_GAPS, SupportsResponse.ONLY),
        ("get_history", get_history, GET_HISTORY, SupportsResponse.ONLY),
        ("correct_interval", correct_interval, CORRECT_INTERVAL, SupportsResponse.OPTIONAL),
        ("get_revisions", get_revisions, GET_REVISIONS, SupportsResponse.ONLY),
    ):
        hass.services.async_register(DOMAIN, name, handler, schema, supports_response=response)


async def get_values(call: ServiceCall) -> ServiceResponse:
    """The last known values of points, without asking the meters."""
    site = await async_get_site(call.hass)
    names = call.data.get("points")
    points = list(site.registry.points.values()) if names is None else [find_point(site, name) for name in names]
    await access.async_check(call.hass, call.context, Operation.READ, (point.id for point in points))
    registers = {register(text) for text in call.data["registers"]} if "registers" in call.data else None
    states: dict[str, Any] = {point.id: state_of(call.hass, point, registers) for point in points}
    return {"points": states}


async def read_now(call: ServiceCall) -> ServiceResponse:
    """Registers of one meter, read over the wire now."""
    site = await async_get_site(call.hass)
    point = find_point(site, call.data["point"])
    await access.async_check(call.hass, call.context, Operation.READ_METER, (point.id,))
    if point.virtual:
        raise refuse("point_is_virtual", point=point.name)
    registers = [register(text) for text in call.data["registers"]] if "registers" in call.data else None
    if (line := line_of(call.hass, point)) is None:
        raise refuse("line_not_running", point=point.name)
    coordinator = line.coordinator
    readings = await coordinator.async_read_now(point, registers)
    wanted = coordinator.wanted(point) if registers is None else frozenset(registers)
    absent = [obis for obis in QUANTITIES if obis in wanted - {one.obis for one in readings}]
    if len(absent) == len(wanted):
        template = site.templates[point.meter.template]
        model = f"{template.vendor} {template.model}"
        raise refuse("nothing_to_read", point=point.name, model=model, registers=register_names(call.hass, absent))
    shown: dict[str, Any] = values(readings, None if registers is None else set(wanted))
    return {
        "id": point.id,
        "name": point.name,
        "registers": shown,
        "absent": [QUANTITIES[obis].key for obis in absent],
    }


async def import_points(call: ServiceCall) -> ServiceResponse:
    """A list of points, compared and applied as a whole."""
    actor = await access.async_check(call.hass, call.context, Operation.CONFIGURE)
    site = await async_get_site(call.hass)
    if "path" in call.data:
        path = _allowed(call.hass, call.data["path"])
        try:
            data = await call.hass.async_add_executor_job(_read, path)
        except OSError as error:
            raise refuse("path_failed", path=str(path), error=error.strerror or str(error)) from error
        name = path.name
    elif "content" in call.data:
        data, name = call.data["content"].encode(), "content.csv"
    else:
        raise refuse("file_or_content")
    return await async_import(
        site,
        actor,
        data,
        name,
        default_line=line_by_name(site, call.data.get("line")),
        dry=call.data["dry_run"],
        skip_bad=call.data["skip_bad"],
        remove_absent=call.data["remove_absent"],
    )


async def export_points(call: ServiceCall) -> ServiceResponse:
    """The list of points as an import takes it."""
    write = "path" in call.data
    await access.async_check(call.hass, call.context, Operation.CONFIGURE if write else Operation.READ)
    site = await async_get_site(call.hass)
    language, sample = call.data["language"], call.data["sample"]
    points = () if sample else query.points_of(site, call.data)
    known = site.known()
    rows = await call.hass.async_add_executor_job(as_rows, points, known, language)
    if not write:
        return {"points": len(points), "content": write_csv(rows)}
    path = _allowed(call.hass, call.data["path"])
    kind = "xlsx" if path.suffix.lower() == ".xlsx" else "csv"
    if sample:
        data = await points_view.async_sample(site, kind, language)
    else:
        data = await call.hass.async_add_executor_job(points_view.as_file, rows, kind)
    try:
        await call.hass.async_add_executor_job(path.write_bytes, data)
    except OSError as error:
        raise refuse("path_failed", path=str(path), error=error.strerror or str(error)) from error
    return {"points": len(points), "path": str(path)}


async def undo(call: ServiceCall) -> ServiceResponse:
    """Takes the last change of points back, or makes again what was taken back."""
    actor = await access.async_check(call.hass, call.context, Operation.CONFIGURE)
    site = await async_get_site(call.hass)
    step = site.registry.async_redo if call.data["again"] else site.registry.async_undo
    return {"applied": await async_applied(site, step(actor))}


async def get_history(call: ServiceCall) -> ServiceResponse:
    """What points consumed, from the ledger: by interval, hour, day, week, month or year."""
    site = await async_get_site(call.hass)
    asked = await query.async_parse(site, call.data)
    await access.async_check(call.hass, call.context, Operation.READ, (point.id for point in asked.points))
    return await query.async_answer(site, asked)


async def correct_interval(call: ServiceCall) -> ServiceResponse:
    """A person's energies for one interval, or the program's again."""
    actor = await access.async_check(call.hass, call.context, Operation.CONFIGURE)
    return await corrections.async_correct(await async_get_site(call.hass), actor, call.data)


async def get_revisions(call: ServiceCall) -> ServiceResponse:
    """All that was ever said of one interval, by whom and why."""
    await access.async_check(call.hass, call.context, Operation.READ_LOG)
    return await corrections.async_revisions(await async_get_site(call.hass), call.data)


async def list_gaps(call: ServiceCall) -> ServiceResponse:
    """What is missing, since when, why, and until when the meter's memory still has it."""
    site = await async_get_site(call.hass)
    points = query.points_of(site, call.data)
    await access.async_check(call.hass, call.context, Operation.READ, (point.id for point in points))
    gaps: list[Any] = await site.gaps.async_list(points)
    return {"gaps": gaps}


def _allowed(hass: HomeAssistant, text: str) -> Path:
    path = Path(hass.config.path(text))
    if not hass.config.is_allowed_path(str(path)):
        raise refuse("path_not_allowed", path=str(path))
    return path


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_FILE_BYTES)
