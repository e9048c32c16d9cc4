"""Home Assistant's rules of quality, as far as they can be seen in a running Home Assistant."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from homeassistant.const import EntityCategory
from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers.entity_component import DATA_INSTANCES
from pytest_homeassistant_custom_component.common import MockConfigEntry

import custom_components.meter_batch as package
from custom_components.meter_batch import async_remove_config_entry_device
from custom_components.meter_batch.const import DOMAIN
from meter_batch_virtual.config import parse_fleet

from .conftest import StartFleet, wait_for
from .test_live import FLEET, act, set_up, value

FOLDER = Path(package.__file__).parent


def texts(name: str) -> Any:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


async def test_every_entity_has_a_name_in_both_languages_an_icon_and_a_device_of_its_line(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: Callable[..., MockConfigEntry]
) -> None:
    _, east, south = await set_up(hass, start_fleet, add_line)
    await act(hass, "import_points", content="name,detail\nMain,full\nFlat,full\nRoof,full\nDead,full\n")
    await hass.async_block_till_done()
    names = [texts(f"translations/{language}.json")["entity"] for language in ("en", "zh-Hans")]
    icons = texts("icons.json")["entity"]
    entities = [
        entity
        for domain in ("sensor", "binary_sensor", "event")
        for entity in hass.data[DATA_INSTANCES][domain].entities
        if entity.platform.platform_name == DOMAIN
    ]
    assert len(entities) > 60
    wrong = []
    for entity in entities:
        domain, key = entity.entity_id.partition(".")[0], entity.translation_key
        assert entity.has_entity_name and entity.unique_id and key, entity.entity_id
        if not all("name" in one[domain].get(key, {}) for one in names):
            wrong.append(f"{key} has no name")
        if entity.device_class is None and key not in icons[domain]:
            wrong.append(f"{key} has neither a device class nor an icon")
        assert entity.should_poll is False
        assert entity.registry_entry is not None and entity.registry_entry.device_id is not None
    assert wrong == []
    assert {one.config_entry_id for one in er.async_get(hass).entities.values() if one.platform == DOMAIN} == {
        east.entry_id,
        south.entry_id,
    }


async def test_figures_of_lines_and_problems_are_diagnostic_and_rare_ones_off_at_first(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: Callable[..., MockConfigEntry]
) -> None:
    await set_up(hass, start_fleet, add_line)
    await wait_for(lambda: value(hass, "sensor.substation_main_energy_import"))
    registry = er.async_get(hass)
    for entity_id in ("sensor.east_success_rate", "binary_sensor.east_connection", "binary_sensor.roof_problem"):
        entry = registry.async_get(entity_id)
        assert entry is not None and entry.entity_category is EntityCategory.DIAGNOSTIC, entity_id
    main = registry.async_get("sensor.substation_main_energy_import")
    assert main is not None and main.entity_category is None
    exchanges = registry.async_get("sensor.east_exchanges")
    assert exchanges is not None and exchanges.disabled_by is er.RegistryEntryDisabler.INTEGRATION


async def test_only_devices_that_nothing_stands_behind_may_be_deleted(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: Callable[..., MockConfigEntry]
) -> None:
    _, east, south = await set_up(hass, start_fleet, add_line)
    devices = dr.async_get(hass)
    of_lines = [one for line in (east, south) for one in dr.async_entries_for_config_entry(devices, line.entry_id)]
    assert len(of_lines) == 7  # two lines, four points, the site
    for device in of_lines:
        owner = east if device.config_entry_id == east.entry_id else south
        assert not await async_remove_config_entry_device(hass, owner, device), device.name
    stale = devices.async_get_or_create(config_entry_id=east.entry_id, identifiers={(DOMAIN, "long gone")})
    assert await async_remove_config_entry_device(hass, east, stale)


async def test_a_meter_and_a_line_that_go_and_come_back_are_logged_once_each_way(
    hass: HomeAssistant,
    start_fleet: StartFleet,
    add_line: Callable[..., MockConfigEntry],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    caplog.set_level(logging.INFO, "custom_components.meter_batch")
    fleet, *_ = await set_up(hass, start_fleet, add_line)

    def logged(text: str) -> int:
        return sum(text in one.getMessage() for one in caplog.records if one.name.startswith("custom_components"))

    await wait_for(lambda: value(hass, "sensor.roof_energy_import") and logged("Dead does not answer"))
    cut = FLEET.replace('name = "East"\n', 'name = "East"\nfault = [{ kind = "cut" }]\n', 1)
    fleet.reload_faults(parse_fleet(cut, tmp_path / "fleet.toml"))
    await wait_for(lambda: value(hass, "binary_sensor.east_connection") == "off")
    await wait_for(lambda: value(hass, "sensor.roof_energy_import") is None)
    fleet.reload_faults(parse_fleet(FLEET.replace("faults = [{", "# ["), tmp_path / "fleet.toml"))
    await wait_for(lambda: value(hass, "sensor.roof_energy_import"), 30)
    await wait_for(lambda: logged("Dead answers again"), 30)
    await wait_for(lambda: value(hass, "binary_sensor.dead_problem") == "off")
    assert (logged("The line East is down"), logged("The line East is back")) == (1, 1)
    assert (logged("Dead does not answer"), logged("Dead answers again"), logged("Roof does not answer")) == (1, 1, 0)
