"""Gives the user our blueprints of automations, once: what they change or delete stays so."""

from __future__ import annotations

import logging
from pathlib import Path
from shutil import copyfile
from typing import Final

from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.start import async_at_started

from .alarm_rules import AlarmRules
from .const import DOMAIN

_LOGGER = logging.getLogger(__name__)

HERE: Final = Path(__file__).parent / "blueprints" / "automation" / DOMAIN


@callback
def async_setup(hass: HomeAssistant, rules: AlarmRules) -> None:
    """Copies them after the start, when Home Assistant has made the folder and put its own there."""

    async def copy(hass: HomeAssistant) -> None:
        there = Path(hass.config.path("blueprints", "automation", DOMAIN))
        try:
            done = await hass.async_add_executor_job(_copy, there, frozenset(rules.copied))
        except OSError as error:
            _LOGGER.warning("Blueprints could not be copied to %s: %s", there, error)
            return
        for name in done:
            await rules.async_copied(name)

    async_at_started(hass, copy)


def _copy(there: Path, known: frozenset[str]) -> list[str]:
    done = []
    for path in sorted(HERE.glob("*.yaml")):
        if path.name in known:
            continue
        there.mkdir(parents=True, exist_ok=True)
        if not (there / path.name).exists():
            beside = there / f".{path.name}.new"
            copyfile(path, beside)
            beside.rename(there / path.name)
        done.append(path.name)
    return done
