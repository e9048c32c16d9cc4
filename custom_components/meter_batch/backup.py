"""Ledger and alarms in Home Assistant's backups: consistent copies beside the files, made before the archive is.

The archive also holds the files themselves, which are written to meanwhile and may be torn there. A restored
configuration takes the copies instead; see backup_copy.py.
"""

from __future__ import annotations

import logging

from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError

from .const import DOMAIN
from .engine import LedgerError
from .site import async_get_site
from .wording import async_in_words

_LOGGER = logging.getLogger(__name__)


async def async_pre_backup(hass: HomeAssistant) -> None:
    """Makes the copies; HomeAssistantError where that of the ledger fails: without it it would be no backup."""
    site = await async_get_site(hass)
    await site.alarms.store.async_copy()
    try:
        await site.ledger.async_copy()
    except LedgerError as error:
        raise HomeAssistantError(
            translation_domain=DOMAIN,
            translation_key="ledger_not_copied",
            translation_placeholders={"error": await async_in_words(hass, error.text)},
        ) from error


async def async_post_backup(hass: HomeAssistant) -> None:
    """Removes the copies: they are in the archive."""
    site = await async_get_site(hass)
    await site.ledger.async_remove_copy()
    await site.alarms.store.async_remove_copy()
