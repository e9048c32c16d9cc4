"""The form of a metered point in the options of a line: its meter, where that is reached, its ratios and ratings."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import probatio
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import section
from homeassistant.helpers import area_registry as ar
from homeassistant.helpers.selector import (
    AreaSelector,
    BooleanSelector,
    NumberSelector,
    NumberSelectorConfig,
    NumberSelectorMode,
    SelectOptionDict,
    SelectSelector,
    SelectSelectorConfig,
    SelectSelectorMode,
    TextSelector,
)

from . import virtual_form
from .cells import MAX_NAME, AddressError, number, parse_address, parse_instant, parse_ratio, plain
from .const import DETAIL_AUTO, NO, LineProtocol
from .dated import installed, with_multiplier
from .engine import Multiplier, Point, Route, Template
from .flow_steps import DETAIL
from .registry import ALWAYS, new_id
from .site import Site

RATINGS = "ratings"
RATING_FIELDS = {
    "nominal_v": "V",
    "rated_kw": "kW",
    "transformer_kva": "kVA",
    "contract_kw": "kW",
    "contract_kva": "kVA",
    "daily_budget_kwh": "kWh",
    "generation": None,
}
"""Attributes of a point that alarms and reports look at, with their units; the last is yes or no."""


def _rating(unit: str | None) -> Any:
    if unit is None:
        return BooleanSelector()
    mode = NumberSelectorMode.BOX
    return NumberSelector(NumberSelectorConfig(min=0, step="any", mode=mode, unit_of_measurement=unit))


_RATINGS = {probatio.Optional(key): _rating(unit) for key, unit in RATING_FIELDS.items()}


def schema(site: Site, spoken: LineProtocol, old: Point | None) -> probatio.Schema:
    """The fields, of a line on which this is spoken."""
    templates = [one for _, one in sorted(site.templates.items()) if spoken.speaks(one.protocol)]
    fields: dict[Any, Any] = {
        probatio.Required("name"): TextSelector(),
        probatio.Required("template"): _models(templates),
        probatio.Required("address"): TextSelector(),
        probatio.Optional("serial"): TextSelector(),
        probatio.Optional("ct"): TextSelector(),
        probatio.Optional("pt"): TextSelector(),
        probatio.Optional("multiplier_since"): TextSelector(),
        probatio.Optional("area"): AreaSelector(),
        probatio.Optional("parent"): virtual_form.pick(one for one in site.registry.points.values() if one is not old),
        probatio.Required("detail", default=DETAIL_AUTO): DETAIL,
    }
    fields[probatio.Optional(RATINGS)] = section(probatio.Schema(_RATINGS), {"collapsed": True})
    if old is not None:
        fields[probatio.Optional("remove", default=False)] = bool
    return probatio.Schema(fields)


def models(site: Site, protocol: str) -> SelectSelector:
    """The models that speak a protocol."""
    return _models([one for _, one in sorted(site.templates.items()) if one.protocol == protocol])


def _models(templates: list[Template]) -> SelectSelector:
    # The id as well: lists of points name models by it.
    options = [SelectOptionDict(value=one.id, label=f"{one.vendor} {one.model} · {one.id}") for one in templates]
    return SelectSelector(SelectSelectorConfig(options=options, mode=SelectSelectorMode.DROPDOWN))


def filled(hass: HomeAssistant, point: Point) -> dict[str, Any]:
    """A point as the form shows it."""
    last = point.multipliers[-1] if point.multipliers else Multiplier(ALWAYS)
    area = ar.async_get(hass).async_get_area_by_name(point.area) if point.area else None
    return {
        "name": point.name,
        "template": point.meter.template,
        "address": point.routes[0].address,
        "serial": point.meter.serial,
        "ct": f"{last.ct:f}",
        "pt": f"{last.pt:f}",
        "multiplier_since": None,
        "area": area.id if area else None,
        "parent": point.parent,
        "detail": point.detail or DETAIL_AUTO,
        RATINGS: {key: _shown(key, point.attributes[key]) for key in RATING_FIELDS if key in point.attributes},
    }


def _shown(key: str, text: str) -> float | bool:
    return text.strip().casefold() not in NO if RATING_FIELDS[key] is None else float(text)


def _with_ratings(before: Mapping[str, str], given: Mapping[str, Any] | None) -> dict[str, str]:
    """The attributes of a point as the form says; without that part of the form as they were."""
    attributes = dict(before)
    if given is None:
        return attributes
    for key, unit in RATING_FIELDS.items():
        value = given.get(key)
        attributes.pop(key, None)
        if value:
            # what was written in a list stays written so
            same = key in before and (_shown(key, before[key]) == value)
            attributes[key] = (
                before[key] if same else "yes" if unit is None else number(Decimal(str(value)).normalize())
            )
    return attributes


def read(site: Site, line: str, form: dict[str, Any], old: Point | None) -> tuple[Point | None, dict[str, str]]:
    """The point a form describes, or what is wrong with which of its fields."""
    errors: dict[str, str] = {}
    name = " ".join(form["name"].split())
    if not name:
        errors["name"] = "name_missing"
    elif len(name) > MAX_NAME:
        errors["name"] = "name_too_long"
    protocol = site.templates[form["template"]].protocol
    address = ""
    try:
        address, _ = parse_address(plain(form["address"]), protocol)
    except AddressError as error:
        errors["address"] = error.key
    ratios: dict[str, Decimal] = {}
    for key in ("ct", "pt"):
        try:
            ratios[key] = parse_ratio(form.get(key) or "")
        except ValueError:
            errors[key] = "bad_ratio"
    since = None
    if text := form.get("multiplier_since"):
        try:
            since = parse_instant(text, site.known().time_zone)
        except ValueError:
            errors["multiplier_since"] = "bad_date"
    if errors:
        return None, errors
    now = site.known().now
    area = ar.async_get(site.hass).async_get_area(form["area"]) if form.get("area") else None
    route = Route(line, protocol, address)
    detail = form["detail"]
    serial = plain(form.get("serial") or "") or None
    return Point(
        id=old.id if old else new_id(),
        name=name,
        meters=installed(old.meters if old else (), form["template"], serial, now),
        routes=(route, *(old.routes[1:] if old else ())),
        multipliers=with_multiplier(
            old.multipliers if old else (), ratios["ct"], ratios["pt"], since, now if old else ALWAYS
        ),
        area=area.name if area else None,
        parent=form.get("parent"),
        detail=None if detail == DETAIL_AUTO else detail,
        attributes=_with_ratings(old.attributes if old else {}, form.get(RATINGS)),
        commissioned=old.commissioned if old else None,
    ), {}
