"""The form of a virtual point in the options of a line: which points are added, which are taken away."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import probatio
from homeassistant.core import HomeAssistant
from homeassistant.helpers import area_registry as ar
from homeassistant.helpers.selector import (
    AreaSelector,
    SelectOptionDict,
    SelectSelector,
    SelectSelectorConfig,
    SelectSelectorMode,
    TextSelector,
)

from .cells import MAX_NAME
from .const import DETAIL_AUTO
from .engine import Point
from .engine.model.point import Term
from .registry import new_id
from .site import Site


def pick(points: Iterable[Point], *, several: bool = False) -> SelectSelector:
    """A choice of points by name."""
    return SelectSelector(
        SelectSelectorConfig(
            options=[
                SelectOptionDict(value=point.id, label=point.name)
                for point in sorted(points, key=lambda one: one.name.casefold())
            ],
            multiple=several,
            mode=SelectSelectorMode.DROPDOWN,
        )
    )


def schema(site: Site, old: Point | None, detail: SelectSelector) -> probatio.Schema:
    """The fields."""
    others = [one for one in site.registry.points.values() if one is not old]
    fields: dict[Any, Any] = {
        probatio.Required("name"): TextSelector(),
        probatio.Required("plus"): pick(others, several=True),
        probatio.Optional("minus"): pick(others, several=True),
        probatio.Optional("area"): AreaSelector(),
        probatio.Optional("parent"): pick(others),
        probatio.Required("detail", default=DETAIL_AUTO): detail,
    }
    if old is not None:
        fields[probatio.Optional("remove", default=False)] = bool
    return probatio.Schema(fields)


def filled(hass: HomeAssistant, point: Point) -> dict[str, Any]:
    """A point as the form shows it."""
    area = ar.async_get(hass).async_get_area_by_name(point.area) if point.area else None
    return {
        "name": point.name,
        "plus": [term.point for term in point.formula if term.sign > 0],
        "minus": [term.point for term in point.formula if term.sign < 0],
        "area": area.id if area else None,
        "parent": point.parent,
        "detail": point.detail or DETAIL_AUTO,
    }


def read(hass: HomeAssistant, form: dict[str, Any], old: Point | None) -> tuple[Point | None, dict[str, str]]:
    """The point a form describes, or what is wrong with which of its fields."""
    name = " ".join(form["name"].split())
    if not name:
        return None, {"name": "name_missing"}
    if len(name) > MAX_NAME:
        return None, {"name": "name_too_long"}
    plus, minus = form["plus"], form.get("minus") or []
    if not plus:
        return None, {"plus": "part_missing"}
    area = ar.async_get(hass).async_get_area(form["area"]) if form.get("area") else None
    return Point(
        id=old.id if old else new_id(),
        name=name,
        meters=(),
        routes=(),
        area=area.name if area else None,
        parent=form.get("parent"),
        detail=None if form["detail"] == DETAIL_AUTO else form["detail"],
        attributes=old.attributes if old else {},
        formula=(*(Term(1, one) for one in plus), *(Term(-1, one) for one in minus)),
    ), {}
