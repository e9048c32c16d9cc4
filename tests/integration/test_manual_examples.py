"""What the manual shows in YAML is what Home Assistant takes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from homeassistant.components.automation.config import async_validate_config_item
from homeassistant.core import HomeAssistant
from homeassistant.setup import async_setup_component
from homeassistant.util.yaml import parse_yaml

from custom_components.meter_batch.const import DOMAIN

MANUAL = Path(__file__).resolve().parents[2] / "docs" / "manual"
FENCE = re.compile(r"^```yaml\n(.*?)^```$", re.M | re.S)
PAGES = sorted(path.relative_to(MANUAL).as_posix() for path in MANUAL.glob("*/*.md") if FENCE.search(path.read_text()))


def examples(page: str) -> list[dict[str, Any]]:
    text = (MANUAL / page).read_text(encoding="utf-8")
    return [found for one in FENCE.findall(text) if isinstance(found := parse_yaml(one), dict)]


def calls(where: Any) -> list[dict[str, Any]]:
    """Every call of an action of ours, wherever it stands in an example."""
    if isinstance(where, list):
        return [found for one in where for found in calls(one)]
    if not isinstance(where, dict):
        return []
    mine = [where] if str(where.get("action", "")).startswith(f"{DOMAIN}.") else []
    return mine + [found for one in where.values() for found in calls(one)]


@pytest.mark.parametrize("page", PAGES)
async def test_examples_of_the_manual_are_taken(hass: HomeAssistant, page: str) -> None:
    assert await async_setup_component(hass, DOMAIN, {})
    for example in examples(page):
        if "triggers" in example:
            checked = await async_validate_config_item(hass, "manual", example)
            assert checked is not None
            assert checked.validation_error is None, (page, example["alias"])
        for call in calls(example):
            service = hass.services.async_services_for_domain(DOMAIN)[call["action"].partition(".")[2]]
            data = {key: value for key, value in call.get("data", {}).items() if "{{" not in str(value)}
            assert service.schema is not None or not data, (page, call)
            if service.schema is not None and len(data) == len(call.get("data", {})):
                service.schema(data)
