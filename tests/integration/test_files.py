"""Texts, diagnostics and other files that Home Assistant reads by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from homeassistant.components.sensor import SensorDeviceClass
from homeassistant.components.sensor.const import DEVICE_CLASS_STATE_CLASSES, DEVICE_CLASS_UNITS
from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import MockConfigEntry

import custom_components.meter_batch as package
from custom_components.meter_batch.const import DOMAIN, Detail
from custom_components.meter_batch.coordinator import reason
from custom_components.meter_batch.detail import shown
from custom_components.meter_batch.diagnostics import (
    async_get_config_entry_diagnostics,
    async_get_device_diagnostics,
)
from custom_components.meter_batch.engine import (
    QUANTITIES,
    AbsentRegister,
    DecodeError,
    FrameError,
    NoReply,
    WrongMeter,
    available,
    load,
)
from custom_components.meter_batch.engine.sentences import SENTENCES
from custom_components.meter_batch.sensor import LINE_SENSORS, describe

from .conftest import StartFleet, wait_for
from .test_live import point_id, set_up, value

FOLDER = Path(package.__file__).parent
LANGUAGES = ("en", "zh-Hans")


def texts(language: str) -> Any:
    return json.loads((FOLDER / "translations" / f"{language}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_register_and_figure_has_a_name(language: str) -> None:
    names = texts(language)["entity"]["sensor"]
    wanted = {describe(one, with_statistics=False).translation_key for one in QUANTITIES.values()}
    assert set(names) >= wanted | {one.key for one in LINE_SENSORS}
    unique = [one["name"] for key, one in names.items() if not key.startswith("line_")]
    assert len(set(unique)) == len(unique)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_reason_of_a_problem_has_a_word(language: str) -> None:
    words = texts(language)["entity"]["binary_sensor"]["problem"]["state_attributes"]["reason"]["state"]
    errors = (NoReply("x"), FrameError("x"), WrongMeter("x"), AbsentRegister("x"), DecodeError("x"))
    found = {reason(error) for error in errors}
    assert found == {"silent", "damaged", "wrong_meter", "refused", "other"}
    assert found | {"none", "implausible"} == set(words)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("entity", ["problem", "line_connected"])
def test_every_cause_of_a_diagnosis_has_a_word(language: str, entity: str) -> None:
    words = texts(language)["entity"]["binary_sensor"][entity]["state_attributes"]["cause"]["state"]
    causes = {key.removeprefix("diagnosis_") for key in SENTENCES if key.startswith("diagnosis_")}
    assert set(words) == causes and len(set(words.values())) == len(words)


@pytest.mark.parametrize("statistics", [False, True])
def test_every_register_fits_what_home_assistant_allows_for_its_class(statistics: bool) -> None:
    for quantity in QUANTITIES.values():
        description = describe(quantity, with_statistics=statistics)
        device_class = description.device_class
        if device_class is None:
            continue
        assert isinstance(device_class, SensorDeviceClass)
        assert description.native_unit_of_measurement in DEVICE_CLASS_UNITS[device_class], quantity.key
        if description.state_class is not None:
            assert description.state_class in DEVICE_CLASS_STATE_CLASSES[device_class], quantity.key


def test_energies_have_statistics_of_their_own_only_where_asked_for() -> None:
    for quantity in QUANTITIES.values():
        if "energy" in quantity.key:
            assert describe(quantity, with_statistics=False).state_class is None
            wanted = "total" if quantity.key.startswith("energy_net") else "total_increasing"
            assert describe(quantity, with_statistics=True).state_class == wanted


@pytest.mark.parametrize("id_", sorted(available()))
def test_every_model_shows_energy_and_power_lean_and_voltage_and_current_standard(id_: str) -> None:
    template = load(id_)
    lean = {QUANTITIES[one].key for one in shown(template, Detail.LEAN)}
    standard = {QUANTITIES[one].key for one in shown(template, Detail.STANDARD)}
    kept = {one.quantity.key for one in template.registers}
    assert lean == kept & {"energy_import", "active_power"}
    assert standard >= lean | (kept & {"energy_export", "voltage_l1", "voltage_l3", "current_l2", "power_factor"})
    assert set(shown(template, Detail.FULL)) == {one.obis for one in template.registers}


async def test_diagnostics_tell_much_and_neither_hosts_nor_names(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: Callable[..., MockConfigEntry]
) -> None:
    _, east, _ = await set_up(hass, start_fleet, add_line)
    await wait_for(lambda: value(hass, "sensor.substation_main_energy_import"))
    found = await async_get_config_entry_diagnostics(hass, east)
    text = json.dumps(found)
    assert found["health"]["connected"] is True
    assert len(found["points"]) == 2
    assert not any(secret in text for secret in ("127.0.0.1", "Main", "Substation", "M-1"))
    id_ = point_id(hass, "sensor.substation_main_energy_import")
    device = dr.async_get(hass).async_get_devices(identifiers={(DOMAIN, id_)})[0]
    found = await async_get_device_diagnostics(hass, east, device)
    assert "energy_import" in found[id_]["registers"]
    json.dumps(found)


async def test_blueprints_that_cannot_be_copied_are_a_warning_and_everything_else_goes_on(
    hass: HomeAssistant, caplog: pytest.LogCaptureFixture
) -> None:
    there = Path(hass.config.path("blueprints"))
    await hass.async_add_executor_job(there.write_text, "no folder")
    assert await async_setup_component(hass, DOMAIN, {})
    await hass.async_block_till_done()
    assert "Blueprints could not be copied" in caplog.text
    assert hass.services.has_service(DOMAIN, "get_values")
