"""Sets up, unloads and removes the analytics server; wires, decides nothing."""

from __future__ import annotations

from typing import Any

from homeassistant.const import CONF_URL, EVENT_CORE_CONFIG_UPDATE, Platform
from homeassistant.core import Event, HomeAssistant, SupportsResponse, callback

from . import access, announcement, panel, proxy
from .analytics import Analytics, AnalyticsEntry, async_note_back
from .const import DOMAIN
from .reports import GENERATE_REPORT, REPORT_FAILED, FileView, async_follow_schedules, generate_report
from .site import async_get_site, flow_actor

PLATFORMS = [Platform.EVENT]


async def async_setup(hass: HomeAssistant) -> None:
    """Registers views, commands and the action, whether there is a server or not."""
    proxy.async_setup(hass)
    await panel.async_setup(hass)
    announcement.async_setup(hass)
    hass.http.register_view(FileView())
    hass.services.async_register(
        DOMAIN, "generate_report", generate_report, GENERATE_REPORT, supports_response=SupportsResponse.ONLY
    )


async def async_setup_entry(hass: HomeAssistant, entry: AnalyticsEntry) -> bool:
    """Looks whether the server is there; its page stands in the sidebar whether it is or not."""
    await panel.async_show(hass)

    async def follow_language(event: Event[dict[str, Any]]) -> None:
        if "language" in event.data:
            await panel.async_rename(hass)

    entry.async_on_unload(hass.bus.async_listen(EVENT_CORE_CONFIG_UPDATE, follow_language))
    coordinator = Analytics(hass, entry)
    await coordinator.async_config_entry_first_refresh()
    entry.runtime_data = coordinator
    site = await async_get_site(hass)

    @callback
    def looked() -> None:
        if coordinator.last_update_success:
            async_follow_schedules(site, coordinator.data.said)

    # It looks only while somebody listens.
    entry.async_on_unload(coordinator.async_add_listener(looked))
    await hass.config_entries.async_forward_entry_setups(entry, PLATFORMS)
    return True


async def async_unload_entry(hass: HomeAssistant, entry: AnalyticsEntry) -> bool:
    """Looks no longer; the page stays unless the server was disabled."""
    done = await hass.config_entries.async_unload_platforms(entry, PLATFORMS)
    if done and entry.disabled_by is not None:
        _leave(hass)
    return done


async def async_remove_entry(hass: HomeAssistant, entry: AnalyticsEntry) -> None:
    """There is no server any more."""
    _leave(hass)
    site = await async_get_site(hass)
    site.alarms.async_clear_others(REPORT_FAILED, ())
    actor = flow_actor(access.Operation.CONFIGURE)
    await site.log.async_write(actor, "remove_analytics", before={CONF_URL: entry.data[CONF_URL]}, after=None)


@callback
def _leave(hass: HomeAssistant) -> None:
    panel.async_hide(hass)
    async_note_back(hass)
