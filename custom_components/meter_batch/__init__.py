"""Meter Batch: batch monitoring of electricity meters. Sets up, unloads and removes lines and the analytics server."""

from __future__ import annotations

import logging
from typing import cast

from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import config_validation as cv
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.typing import ConfigType

from . import (
    access,
    alarm_actions,
    alarm_rule_actions,
    analytics_setup,
    api,
    blueprints,
    commissioning_actions,
    link,
    points_view,
    scan_actions,
    websocket,
)
from .analytics import AnalyticsEntry
from .completeness import SITE_DEVICE, leave_site
from .const import DOMAIN, PLATFORMS
from .coordinator import LineCoordinator
from .entity import LineEntry, Population, populations
from .place import device_of, set_area
from .registry import Change
from .services import async_setup_services
from .site import Site, async_get_site, flow_actor, line_as_dict
from .turns import Turns

_LOGGER = logging.getLogger(__name__)

CONFIG_SCHEMA = cv.config_entry_only_config_schema(DOMAIN)

ISSUE_WITHOUT_LINE = "points_without_line"


async def async_setup(hass: HomeAssistant, _config: ConfigType) -> bool:
    """Reads the registry, registers actions and WebSocket commands, and follows changes of the registry."""
    site = await async_get_site(hass)
    async_setup_services(hass)
    websocket.async_setup(hass)
    api.async_setup(hass)
    await analytics_setup.async_setup(hass)
    alarm_actions.async_setup(hass)
    alarm_rule_actions.async_setup(hass)
    blueprints.async_setup(hass, site.alarms.rules)
    commissioning_actions.async_setup(hass)
    points_view.async_setup(hass)
    scan_actions.async_setup(hass)
    mover = Mover(hass, site)
    site.registry.async_listen(mover.async_changed)
    _check_lines(hass, site)
    return True


async def async_setup_entry(hass: HomeAssistant, entry: LineEntry | AnalyticsEntry) -> bool:
    """Opens a line and begins to poll its meters; or looks at the analytics server."""
    if not link.is_line(entry):
        return await analytics_setup.async_setup_entry(hass, cast("AnalyticsEntry", entry))
    entry = cast("LineEntry", entry)
    site = await async_get_site(hass)
    await site.async_read_templates()
    coordinator = LineCoordinator(hass, entry, site)
    await coordinator.async_start()
    await _async_bury(hass, site, entry)
    entry.runtime_data = Population(coordinator)
    await hass.config_entries.async_forward_entry_setups(entry, PLATFORMS)
    # Platforms let others work between points: what changed meanwhile.
    population = entry.runtime_data
    await population.async_sync([point for point in coordinator.points() if population.outdated(point)])
    coordinator.async_run()
    _check_lines(hass, site)
    return True


async def async_unload_entry(hass: HomeAssistant, entry: LineEntry | AnalyticsEntry) -> bool:
    """Stops polling and closes the line."""
    if not link.is_line(entry):
        return await analytics_setup.async_unload_entry(hass, cast("AnalyticsEntry", entry))
    entry = cast("LineEntry", entry)
    if await hass.config_entries.async_unload_platforms(entry, PLATFORMS):
        coordinator = entry.runtime_data.coordinator
        await coordinator.async_stop()
        if entry.disabled_by is not None:
            leave_site(hass, coordinator.site, entry)
        return True
    return False


async def async_remove_entry(hass: HomeAssistant, entry: LineEntry | AnalyticsEntry) -> None:
    """The points of a line that was deleted stay, without a way to their meters; say so."""
    if not link.is_line(entry):
        await analytics_setup.async_remove_entry(hass, cast("AnalyticsEntry", entry))
        return
    entry = cast("LineEntry", entry)
    site = await async_get_site(hass)
    await site.log.async_write(
        flow_actor(access.Operation.CONFIGURE),
        "remove_line",
        line=entry.entry_id,
        before=line_as_dict(entry),
        after=None,
    )
    site.alarms.async_line_gone(entry.entry_id)
    _check_lines(hass, site, gone=entry.entry_id)
    leave_site(hass, site, entry)


async def async_remove_config_entry_device(hass: HomeAssistant, entry: LineEntry, device: dr.DeviceEntry) -> bool:
    """A device may be deleted by hand once its point is gone from this line."""
    site = await async_get_site(hass)
    here = {point.id for point in site.registry.at_home(entry.entry_id)} | {entry.entry_id}
    if site.keeper == entry.entry_id:
        here.add(SITE_DEVICE)
    return not any(domain == DOMAIN and id_ in here for domain, id_ in device.identifiers)


async def _async_bury(hass: HomeAssistant, site: Site, entry: LineEntry) -> None:
    """Removes devices of points that are gone: where Home Assistant ended before it had written that down."""
    known = {entry.entry_id, SITE_DEVICE, *site.registry.points}
    devices = dr.async_get(hass)
    turns = Turns()
    for device in dr.async_entries_for_config_entry(devices, entry.entry_id):
        ours = {id_ for domain, id_ in device.identifiers if domain == DOMAIN}
        if ours and not ours & known:
            devices.async_remove_device(device.id)
            await turns.pause()


@callback
def _check_lines(hass: HomeAssistant, site: Site, gone: str | None = None) -> None:
    there = {entry.entry_id for entry in link.lines(hass)} - {gone}
    lost = sorted(
        point.name for point in site.registry.points.values() if point.routes and point.routes[0].line not in there
    )
    if not lost:
        ir.async_delete_issue(hass, DOMAIN, ISSUE_WITHOUT_LINE)
        return
    ir.async_create_issue(
        hass,
        DOMAIN,
        ISSUE_WITHOUT_LINE,
        is_fixable=False,
        severity=ir.IssueSeverity.WARNING,
        translation_key="points_without_line",
        translation_placeholders={
            "count": str(len(lost)),
            "names": ", ".join(lost[:10]) + (" …" if len(lost) > 10 else ""),
        },
    )


class Mover:
    """Makes entities, devices and pollers follow the registry, one change after the other."""

    def __init__(self, hass: HomeAssistant, site: Site) -> None:
        self._hass, self._site = hass, site
        self._queue: list[Change] = []
        self._running = False

    @callback
    def async_changed(self, changes: list[Change]) -> None:
        """Takes changes; they are carried out in the background in their order."""
        self._queue += changes
        if not self._running:
            self._running = True
            self._hass.async_create_task(self._run(), f"{DOMAIN} registry changes")

    async def _run(self) -> None:
        try:
            while self._queue:
                changes, self._queue = self._queue, []
                await self._carry_out(changes)
        finally:
            self._running = False
        _check_lines(self._hass, self._site)

    async def _carry_out(self, changes: list[Change]) -> None:
        lines = populations(self._hass)
        homes: dict[str, set[str]] = {line: {one.id for one in at.coordinator.points()} for line, at in lines.items()}
        turns = Turns()
        for line, population in lines.items():
            # Those of virtual points move with their parts.
            for id_ in population.there - homes[line]:
                await population.async_leave(id_)
                await turns.pause()
        for change in changes:
            after = self._site.registry.home(change.after) if change.after else None
            if change.after is None and (device := device_of(self._hass, change.id)) is not None:
                dr.async_get(self._hass).async_remove_device(device.id)
                await turns.pause()
            if change.before and change.after and change.before.meters != change.after.meters and after in lines:
                lines[after].coordinator.async_swapped(change.before, change.after)
        changed = {change.id for change in changes}
        for population in lines.values():
            # The size of the fleet decides the detail of points that nobody decided, so others may change too.
            points = population.coordinator.points()
            await population.async_sync([one for one in points if one.id in changed or population.outdated(one)])
            population.coordinator.async_set_meters()
        for change in changes:
            if change.before and change.after and change.before.area != change.after.area:
                set_area(self._hass, change.after)
                await turns.pause()
