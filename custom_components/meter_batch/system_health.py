"""What Home Assistant's page of system information says of a site: lines, meters, ledger, analytics server."""

from __future__ import annotations

from typing import Any

from homeassistant.components.system_health import SystemHealthRegistration
from homeassistant.core import HomeAssistant, callback

from .analytics import ServerAway, analytics, analytics_entry
from .const import CONF_OWN_PROCESS, DEFAULT_OWN_PROCESS
from .entity import populations
from .link import lines
from .wording import async_in_words


@callback
def async_register(_hass: HomeAssistant, register: SystemHealthRegistration) -> None:
    """Says whom to ask."""
    register.async_register_info(async_health)


async def async_health(hass: HomeAssistant) -> dict[str, Any]:
    """Counts as "of all", words that stand in `system_health.info`; what is not set up is left out."""
    running = [population.coordinator for population in populations(hass).values()]
    here = {one: [point.id for point, _ in one.site.registry.on_line(one.config_entry.entry_id)] for one in running}
    answering = sum(len(set(ids) - one.silent) for one, ids in here.items() if one.last_update_success)
    shown: dict[str, Any] = {
        "lines_connected": f"{sum(one.last_update_success for one in running)} / {len(lines(hass))}",
        "meters_answering": f"{answering} / {sum(map(len, here.values()))}",
        "lines_own_process": sum(bool(one.options.get(CONF_OWN_PROCESS, DEFAULT_OWN_PROCESS)) for one in lines(hass)),
    }
    if running:
        site = running[0].site
        health = site.ledger.health
        shown["points"] = len(site.registry.points)
        shown["ledger"] = "ok" if health.problem is None else await async_in_words(hass, health.problem)
        shown["ledger_mib"] = round(health.size_bytes / 2**20, 1)
        shown["intervals_missing"] = site.gaps.missing(site.registry.points.keys()).intervals
        shown["alarms_open"] = sum(1 for _ in site.alarms.noted)
    if analytics_entry(hass) is not None:
        shown["analytics_server"] = _analytics(hass)
    return shown


def _analytics(hass: HomeAssistant) -> str | dict[str, str]:
    try:
        if analytics(hass).last_update_success:
            return "ok"
    except ServerAway:
        pass
    return {"type": "failed", "error": "unreachable"}
