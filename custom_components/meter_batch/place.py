"""Where points are in Home Assistant: their devices, and the areas these were put into."""

from __future__ import annotations

from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import area_registry as ar
from homeassistant.helpers import device_registry as dr

from .const import DOMAIN
from .engine import Point


@callback
def device_of(hass: HomeAssistant, identifier: str) -> dr.DeviceEntry | None:
    """The device of a point, a line or the site, by its id, on whichever line it is."""
    found = dr.async_get(hass).async_get_devices(identifiers={(DOMAIN, identifier)})
    return found[0] if found else None


@callback
def set_area(hass: HomeAssistant, point: Point) -> None:
    """Puts the device of a point where the point is said to be now."""
    if (device := device_of(hass, point.id)) is not None:
        area = ar.async_get(hass).async_get_or_create(point.area) if point.area else None
        dr.async_get(hass).async_update_device(device.id, area_id=area.id if area else None)


@callback
def area_of(hass: HomeAssistant, point: Point) -> ar.AreaEntry | None:
    """The area the device of a point was put into; None also where there is no device yet."""
    device = device_of(hass, point.id)
    return ar.async_get(hass).async_get_area(device.area_id) if device and device.area_id else None


@callback
def area_name(hass: HomeAssistant, point: Point) -> str | None:
    """The area a point is in: where its device was put in Home Assistant, else where the point is said to be."""
    if device_of(hass, point.id) is None:
        return point.area
    area = area_of(hass, point)
    return area.name if area else None
