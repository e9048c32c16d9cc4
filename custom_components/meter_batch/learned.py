"""What pollers have learned of models and meters, kept for the next start: it is not found out again each time."""

from __future__ import annotations

import logging
from typing import Any, Final

from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.storage import Store

from .const import DOMAIN
from .engine import ConfigError, Lessons, PollReport

_LOGGER = logging.getLogger(__name__)

SAVED_AFTER_S: Final = 60.0


class Learned:
    """Of all lines: how each model may be read, and which meter each point has said that it is."""

    def __init__(self, hass: HomeAssistant) -> None:
        self._store: Store[dict[str, Any]] = Store(hass, 1, f"{DOMAIN}.lessons", atomic_writes=True)
        self.lessons: dict[str, Lessons] = {}
        """By template."""
        self.serials: dict[str, str] = {}
        """By point."""

    async def async_load(self) -> None:
        """What was learned before; what this version does not understand is learned anew."""
        data = await self._store.async_load() or {}
        self.serials = dict(data.get("serials", {}))
        for one in data.get("lessons", ()):
            try:
                lessons = Lessons.from_dict(one)
            except ConfigError as error:
                _LOGGER.info("What was learned of a model is learned anew: %s", error.text)
                continue
            self.lessons[lessons.model] = lessons

    @callback
    def async_take(self, report: PollReport) -> None:
        """What a line reports."""
        serials = {key: one.serial for key, one in report.identities.items() if one.serial is not None}
        if not report.lessons and all(self.serials.get(key) == one for key, one in serials.items()):
            return
        self.lessons.update(report.lessons)
        self.serials.update(serials)
        self._store.async_delay_save(self._data, SAVED_AFTER_S)

    @callback
    def async_forget(self, point: str) -> None:
        """Another meter is there now, or none."""
        if self.serials.pop(point, None) is not None:
            self._store.async_delay_save(self._data, SAVED_AFTER_S)

    def _data(self) -> dict[str, Any]:
        return {"lessons": [one.as_dict() for one in self.lessons.values()], "serials": self.serials}
