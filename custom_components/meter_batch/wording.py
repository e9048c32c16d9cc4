"""What is said to people, in the language of the house: our own messages, and the engine's sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import translation

from .const import DOMAIN
from .engine import Sentence
from .engine.model.obis import Obis
from .engine.model.quantity import QUANTITIES, Quantity
from .engine.sentences import listed

PREFIX = "engine_"
"""The key of a sentence, with this before it, is a key of the translations' exceptions."""


async def async_in_words(hass: HomeAssistant, text: str) -> str:
    """A text of the engine in Home Assistant's language; what is no `Sentence` stays as it is.

    It goes into messages that the frontend translates, which takes a placeholder as it comes: so there it is in the
    language of the house, not in that of the user.
    """
    return said(await translation.async_get_translations(hass, hass.config.language, "exceptions", {DOMAIN}), text)


@callback
def in_words(hass: HomeAssistant, text: str) -> str:
    """The same for those who cannot wait: Home Assistant has the texts of what is set up at hand.

    In the moment after the language was changed it may still be English.
    """
    return said(translation.async_get_cached_translations(hass, hass.config.language, "exceptions", DOMAIN), text)


async def async_message(hass: HomeAssistant, key: str, **placeholders: str) -> str:
    """One of our own messages, under `exceptions` in the translations."""
    texts = await translation.async_get_translations(hass, hass.config.language, "exceptions", {DOMAIN})
    return texts[f"component.{DOMAIN}.exceptions.{key}.message"].format(**placeholders)


@callback
def message(hass: HomeAssistant, key: str, **placeholders: str) -> str:
    """The same for those who cannot wait; empty where the texts are not at hand."""
    texts = translation.async_get_cached_translations(hass, hass.config.language, "exceptions", DOMAIN)
    return texts.get(f"component.{DOMAIN}.exceptions.{key}.message", "").format(**placeholders)


def name_key(quantity: Quantity) -> str:
    """The key of a register's name in the translations: one for all tariffs."""
    return f"{quantity.key.rsplit('_t', 1)[0]}_tariff" if quantity.tariff else quantity.key


@callback
def register_names(hass: HomeAssistant, registers: Iterable[Obis]) -> str:
    """Registers as their entities are called."""
    texts = translation.async_get_cached_translations(hass, hass.config.language, "entity", DOMAIN)
    named = [
        texts.get(f"component.{DOMAIN}.entity.sensor.{name_key(one)}.name", one.key).format(tariff=one.tariff)
        for one in (QUANTITIES[obis] for obis in registers)
    ]
    return said(
        translation.async_get_cached_translations(hass, hass.config.language, "exceptions", DOMAIN), listed(named)
    )


def said(texts: Mapping[str, str], part: str) -> str:
    """A text of the engine by these texts; what is no `Sentence` stays as it is."""
    if not isinstance(part, Sentence):
        return part
    pattern = texts.get(f"component.{DOMAIN}.exceptions.{PREFIX}{part.key}.message")
    if pattern is None:
        return str(part)
    return pattern.format(**{name: said(texts, fact) for name, fact in part.facts.items()})
