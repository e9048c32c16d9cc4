"""The ledger in Home Assistant's backups: a consistent copy beside the file, made in one step before the archive is.

The archive also holds the file itself, which is written to meanwhile and may be torn there. A restored configuration
takes the copy instead; see `ledger.adopt_copy`.
"""

from __future__ import annotations

import logging

from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError

from .engine import LedgerError
from .site import async_get_site
from .wording import async_in_words

_LOGGER = logging.getLogger(__name__)


async def async_pre_backup(hass: HomeAssistant) -> None:
    """Makes the copy; HomeAssistantError where that fails, for a backup without the ledger would be no backup."""
    ledger = (await async_get_site(hass)).ledger
    try:
        await ledger.async_copy()
    except LedgerError as error:
        raise HomeAssistantError(await async_in_words(hass, error.text)) from error


async def async_post_backup(hass: HomeAssistant) -> None:
    """Removes the copy: it is in the archive."""
    await (await async_get_site(hass)).ledger.async_remove_copy()
