"""Steps of the config flow for serial servers and gateways that Home Assistant sees on the network.

What the makers' blocks of hardware addresses are is in the manifest: there it is decided who is told of here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from homeassistant.config_entries import ConfigEntry, ConfigFlow, ConfigFlowResult
from homeassistant.const import CONF_MAC
from homeassistant.helpers.device_registry import format_mac
from homeassistant.helpers.service_info.dhcp import DhcpServiceInfo
from homeassistant.util.network import is_ip_address

from . import link
from .access import SYSTEM
from .const import CONF_HOST, CONF_LINK, Link
from .site import async_get_site, line_as_dict

MAKERS = {
    "d8b04c": "USR IOT",
    "d4ad20": "USR IOT",
    "9ca525": "USR IOT",
    "0090e8": "Moxa",
    "e8fdf8": "Hi-Flying",
    "98d863": "Hi-Flying",
}
"""Of the blocks of hardware addresses in the manifest (IEEE's register of them)."""


class GatewaySteps(ConfigFlow):
    """A known gateway that moved is followed; of a new one it is asked whether it is to be a line."""

    def __init__(self) -> None:
        self._name = ""
        self._data: dict[str, Any] = {}

    async def async_step_dhcp(self, discovery_info: DhcpServiceInfo) -> ConfigFlowResult:
        """A device of a maker of serial servers has an address."""
        mac, ip = format_mac(discovery_info.macaddress), discovery_info.ip
        known = moved = False
        for entry in link.lines(self.hass):
            if entry.data[CONF_LINK] != Link.TCP:
                continue
            host = entry.data[CONF_HOST]
            if entry.data.get(CONF_MAC) == mac and is_ip_address(host) and host != ip:
                moved = await self._follow(entry, ip) or moved
            elif host == ip:
                # From now on it is known again wherever it goes.
                known = True
                self.hass.config_entries.async_update_entry(entry, data={**entry.data, CONF_MAC: mac})
            elif discovery_info.hostname and host.casefold().split(".")[0] == discovery_info.hostname.casefold():
                known = True
        if known or moved:
            return self.async_abort(reason="host_changed" if moved else "already_configured")
        await self.async_set_unique_id(mac)
        self._abort_if_unique_id_configured()
        maker = MAKERS.get(discovery_info.macaddress[:6].lower(), "")
        self._name = discovery_info.hostname or f"{maker} {ip}"
        self._data = {CONF_HOST: ip, CONF_MAC: mac}
        self.context["title_placeholders"] = {"name": f"{self._name} ({ip})" if discovery_info.hostname else self._name}
        return await self.async_step_dhcp_confirm()

    async def async_step_dhcp_confirm(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Whether meters are connected to it; then it goes on as if its address had been typed."""
        if user_input is not None:
            return await self.async_step_tcp()
        self._set_confirm_only()
        maker = MAKERS.get(self._data[CONF_MAC].replace(":", "")[:6], "?")
        return self.async_show_form(
            step_id="dhcp_confirm",
            description_placeholders={"name": self._name, "host": self._data[CONF_HOST], "maker": maker},
        )

    if TYPE_CHECKING:

        async def async_step_tcp(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
            """In config_flow.py."""

    async def _follow(self, entry: ConfigEntry, ip: str) -> bool:
        """The line has the gateway's new address; False where another line is there already."""
        data = {**entry.data, CONF_HOST: ip}
        unique_id = link.unique_id(data)
        others = (one for one in link.lines(self.hass) if one.entry_id != entry.entry_id)
        if any(one.unique_id == unique_id for one in others):
            return False
        log = (await async_get_site(self.hass)).log
        after = {"title": entry.title, "data": data}
        await log.async_write(SYSTEM, "change_line", line=entry.entry_id, before=line_as_dict(entry), after=after)
        self.hass.config_entries.async_update_entry(entry, data=data, unique_id=unique_id)
        if entry.disabled_by is None:
            self.hass.config_entries.async_schedule_reload(entry.entry_id)
        return True
