"""Serial servers that Home Assistant sees on the network: new ones are offered, known ones are followed."""

from __future__ import annotations

import json
from collections.abc import Callable
from fnmatch import fnmatch
from typing import Any

from homeassistant.config_entries import SOURCE_DHCP, SOURCE_IGNORE, ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.helpers.service_info.dhcp import DhcpServiceInfo
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.meter_batch import link
from custom_components.meter_batch.const import DOMAIN
from custom_components.meter_batch.gateway_steps import MAKERS
from custom_components.meter_batch.site import async_get_site

from .conftest import HERE, StartFleet, port_of

FLEET = """
[[line]]
name = "East"
listen = "tcp://127.0.0.1:0"
protocol = "modbus-tcp"
[[line.meter]]
address = 7
template = "eastron/sdm630"
"""
MAC = "d4:ad:20:01:02:03"

type AddLine = Callable[..., MockConfigEntry]


async def seen(hass: HomeAssistant, ip: str, hostname: str = "", mac: str = MAC) -> Any:
    """Home Assistant sees a device."""
    info = DhcpServiceInfo(ip=ip, hostname=hostname, macaddress=mac.replace(":", ""))
    return await hass.config_entries.flow.async_init(DOMAIN, context={"source": SOURCE_DHCP}, data=info)


def loaded(entry: MockConfigEntry) -> bool:
    return entry.state is ConfigEntryState.LOADED


async def go(hass: HomeAssistant, result: Any, step: dict[str, Any]) -> Any:
    return await hass.config_entries.flow.async_configure(result["flow_id"], step)


async def test_a_serial_server_is_offered_and_becomes_a_line_that_knows_it_again(
    hass: HomeAssistant, start_fleet: StartFleet
) -> None:
    fleet = await start_fleet(FLEET)
    result = await seen(hass, "127.0.0.1", "usr-n510")
    assert (result["type"], result["step_id"]) == (FlowResultType.FORM, "dhcp_confirm")
    assert result["description_placeholders"] == {"name": "usr-n510", "host": "127.0.0.1", "maker": "USR IOT"}
    (offered,) = hass.config_entries.flow.async_progress()
    assert offered["context"]["title_placeholders"] == {"name": "usr-n510 (127.0.0.1)"}
    result = await go(hass, result, {})
    assert result["step_id"] == "tcp"
    shown = {str(field): (field.description or {}).get("suggested_value") for field in result["data_schema"].schema}
    assert (shown["name"], shown["host"]) == ("usr-n510", "127.0.0.1")
    result = await go(
        hass, result, {"name": "East", "host": "127.0.0.1", "port": port_of(fleet), "protocol": "modbus-tcp"}
    )
    result = await go(hass, result, {"test_address": "7"})
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert result["data"]["mac"] == MAC
    assert result["result"].unique_id == f"tcp://127.0.0.1:{port_of(fleet)}", "a line is its port, as ever"
    await hass.async_block_till_done()
    again = await seen(hass, "127.0.0.1", "usr-n510")
    assert (again["type"], again["reason"]) == (FlowResultType.ABORT, "already_configured")


async def test_a_device_without_a_name_is_called_by_its_maker(hass: HomeAssistant) -> None:
    await seen(hass, "192.168.1.9", mac="00:90:e8:00:00:01")
    (offered,) = hass.config_entries.flow.async_progress()
    assert offered["context"]["title_placeholders"] == {"name": "Moxa 192.168.1.9"}


async def test_who_types_another_host_in_the_end_has_a_line_that_does_not_follow_the_device(
    hass: HomeAssistant, socket_enabled: None
) -> None:
    result = await go(hass, await seen(hass, "192.168.1.9", "usr"), {})
    fields = {"name": "East", "host": "127.0.0.1", "port": 1, "protocol": "modbus-tcp"}
    result = await go(hass, await go(hass, result, fields), {})
    result = await go(hass, result, {"next_step_id": "finish"})
    assert "mac" not in result["data"]
    assert "next_flow" not in result, "it does not run, so there is nothing to search"


async def test_a_gateway_that_was_typed_in_is_known_by_its_hardware_address_and_followed_to_another(
    hass: HomeAssistant, add_line: AddLine
) -> None:
    first = add_line("East", host="192.168.1.20", disabled=True)
    other = add_line("West", host="192.168.1.20", port=503, disabled=True)
    stranger = add_line("North", host="192.168.1.30", port=504, disabled=True)
    serial = add_line("South", link="serial", serial_port="/dev/ttyUSB0", port=505, disabled=True)
    result = await seen(hass, "192.168.1.20")
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "already_configured")
    assert (first.data["mac"], other.data["mac"]) == (MAC, MAC)
    assert "mac" not in stranger.data

    result = await seen(hass, "192.168.1.77")
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "host_changed")
    assert [one.data["host"] for one in (first, other, stranger)] == ["192.168.1.77", "192.168.1.77", "192.168.1.30"]
    assert (first.unique_id, other.unique_id) == ("tcp://192.168.1.77:502", "tcp://192.168.1.77:503")
    assert serial.data["serial_port"] == "/dev/ttyUSB0"
    logged = await (await async_get_site(hass)).log.async_read()
    assert {(one["action"], one["who"], one["after"]["data"]["host"]) for one in logged} == {
        ("change_line", "system", "192.168.1.77")
    }
    # Nothing is to be done when it is seen there again.
    assert (await seen(hass, "192.168.1.77"))["reason"] == "already_configured"


async def test_a_running_line_goes_on_at_the_gateway_s_new_address(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: AddLine
) -> None:
    fleet = await start_fleet(FLEET)
    entry = add_line("East", host="127.0.0.9", mac=MAC, port=port_of(fleet))
    assert await async_setup_component(hass, DOMAIN, {})
    await hass.async_block_till_done()
    assert not loaded(entry)
    assert (await seen(hass, "127.0.0.1"))["reason"] == "host_changed"
    await hass.async_block_till_done()
    assert loaded(entry)


async def test_a_line_that_is_named_by_a_host_name_stays_so(hass: HomeAssistant, add_line: AddLine) -> None:
    named = add_line("East", host="USR-N510.local", mac=MAC, disabled=True)
    assert (await seen(hass, "192.168.1.20", "usr-n510"))["reason"] == "already_configured"
    assert named.data["host"] == "USR-N510.local"


async def test_two_lines_never_become_one(hass: HomeAssistant, add_line: AddLine) -> None:
    before = add_line("East", host="192.168.1.20", mac=MAC, disabled=True)
    there = add_line("West", host="192.168.1.77", disabled=True)
    hass.config_entries.async_update_entry(there, unique_id="tcp://192.168.1.77:502")
    assert (await seen(hass, "192.168.1.77"))["reason"] == "already_configured"
    assert before.data["host"] == "192.168.1.20"


async def test_what_is_ignored_is_not_offered_again_and_is_no_line(hass: HomeAssistant) -> None:
    result = await seen(hass, "192.168.1.20", "usr")
    await hass.config_entries.flow.async_init(
        DOMAIN, context={"source": SOURCE_IGNORE}, data={"unique_id": MAC, "title": "usr"}
    )
    assert result["type"] is FlowResultType.FORM
    assert link.lines(hass) == []
    again = await seen(hass, "192.168.1.21", "usr")
    assert (again["type"], again["reason"]) == (FlowResultType.ABORT, "already_configured")


async def test_every_maker_of_the_manifest_has_a_name() -> None:
    manifest = json.loads((HERE.parents[1] / "custom_components" / DOMAIN / "manifest.json").read_text())
    blocks = {one["macaddress"].rstrip("*").lower() for one in manifest["dhcp"]}
    assert blocks == set(MAKERS)
    names = [one["hostname"] for one in manifest["dhcp"] if "hostname" in one]
    assert all(any(fnmatch(seen, name) for name in names) for seen in ("eport-ee11", "ew11"))
    assert all(name == name.lower() for name in names), "Home Assistant compares small letters"
