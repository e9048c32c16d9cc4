"""A user's own meter models, in the folder of the configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from homeassistant.core import HomeAssistant
from homeassistant.helpers import issue_registry as ir
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.meter_batch.const import DOMAIN
from custom_components.meter_batch.engine import use_folder
from custom_components.meter_batch.importer import dry_run
from custom_components.meter_batch.own_templates import ISSUE
from custom_components.meter_batch.site import async_get_site

from .conftest import StartFleet, port_of

GOOD = """
vendor = "Acme"
model = "M1"
protocol = "modbus"
phases = 1
register = [{ key = "voltage", address = 0, type = "uint16", scale = 0.1 }]
"""


@pytest.fixture
def folder(hass: HomeAssistant) -> Iterator[Path]:
    folder = Path(hass.config.path("meter_batch/templates/acme"))
    folder.mkdir(parents=True)
    yield folder
    use_folder(None)


async def test_an_own_model_can_be_chosen_and_imported(
    hass: HomeAssistant, folder: Path, add_line: Callable[..., MockConfigEntry]
) -> None:
    (folder / "m1.toml").write_text(GOOD)
    entry = add_line(disabled=True)
    assert await async_setup_component(hass, DOMAIN, {})
    site = await async_get_site(hass)
    assert site.templates["acme/m1"].name == "Acme M1"
    assert not dry_run(b"name,line,address,template\nHall,East,1,acme/m1\n", site.known()).problems
    flow = await hass.config_entries.options.async_init(entry.entry_id)
    flow = await hass.config_entries.options.async_configure(flow["flow_id"], {"next_step_id": "add_point"})
    assert "acme/m1" in str([one.serialize() for one in _selectors(flow)])
    assert ir.async_get(hass).async_get_issue(DOMAIN, ISSUE) is None


async def test_a_mistake_is_a_repair_issue_that_names_file_and_error_and_goes_when_it_is_mended(
    hass: HomeAssistant, folder: Path
) -> None:
    (folder / "m1.toml").write_text(GOOD)
    (folder / "m2.toml").write_text(GOOD.replace('"voltage"', '"voltag"'))
    assert await async_setup_component(hass, DOMAIN, {})
    site = await async_get_site(hass)
    assert "acme/m1" in site.templates
    assert "acme/m2" not in site.templates
    issue = ir.async_get(hass).async_get_issue(DOMAIN, ISSUE)
    assert issue is not None
    assert issue.translation_placeholders is not None
    assert issue.translation_placeholders["folder"] == str(folder.parent)
    assert (
        '- acme/m2.toml: [register voltag] key: "voltag" is no quantity we know (did you mean "voltage"?)'
        in issue.translation_placeholders["problems"]
    )
    (folder / "m2.toml").write_text(GOOD)
    templates = site.templates
    await site.async_read_templates()
    assert site.templates is templates, "everybody who looks models up sees the new ones"
    assert "acme/m2" in site.templates
    assert ir.async_get(hass).async_get_issue(DOMAIN, ISSUE) is None
    (folder / "m2.toml").unlink()
    await site.async_read_templates()
    assert "acme/m2" not in site.templates


async def test_a_model_that_was_added_is_there_once_a_line_is_reloaded(
    hass: HomeAssistant, folder: Path, add_line: Callable[..., MockConfigEntry], start_fleet: StartFleet
) -> None:
    fleet = await start_fleet(
        """
        [[line]]
        name = "one"
        listen = "tcp://127.0.0.1:0"
        protocol = "modbus-tcp"
        meter = [{ address = 1, template = "eastron/sdm630" }]
        """
    )
    entry = add_line(port=port_of(fleet))
    assert await hass.config_entries.async_setup(entry.entry_id)
    site = await async_get_site(hass)
    assert "acme/m1" not in site.templates
    (folder / "m1.toml").write_text(GOOD)
    assert await hass.config_entries.async_reload(entry.entry_id)
    assert "acme/m1" in site.templates
    assert await hass.config_entries.async_unload(entry.entry_id)


def _selectors(flow: object) -> list[object]:
    schema = flow["data_schema"].schema  # type: ignore[index]
    return [one for one in schema.values() if hasattr(one, "serialize")]
