"""The engine's sentences in the language of the house: the one place where they are translated."""

from __future__ import annotations

from homeassistant.core import HomeAssistant
from homeassistant.helpers import translation

from .const import DOMAIN
from .engine import Sentence

PREFIX = "engine_"
"""The key of a sentence, with this before it, is a key of the translations' exceptions."""


async def async_in_words(hass: HomeAssistant, text: str) -> str:
    """A text of the engine in Home Assistant's language; what is no `Sentence` stays as it is.

    It goes into messages that the frontend translates, which takes a placeholder as it comes: so there it is in the
    language of the house, not in that of the user.
    """
    texts = await translation.async_get_translations(hass, hass.config.language, "exceptions", {DOMAIN})

    def say(part: str) -> str:
        if not isinstance(part, Sentence):
            return part
        pattern = texts[f"component.{DOMAIN}.exceptions.{PREFIX}{part.key}.message"]
        return pattern.format(**{name: say(fact) for name, fact in part.facts.items()})

    return say(text)
