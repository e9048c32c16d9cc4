"""How alarm rules differ at this site: overrides by point, area, line and site, on disk and in the operation log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Final

from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.helpers.storage import Store

from .access import Actor
from .const import DOMAIN
from .engine import Override, RuleBook, Severity, load_rules
from .operation_log import OperationLog

ACTION: Final = "set_alarm_rule"
"""How the operation log calls it."""
SETTINGS: Final = ("enabled", "pickup", "dropout", "on_delay_s", "off_delay_s", "severity")
"""What of a rule may be another somewhere."""

type Settings = dict[str, bool | float | str]


class AlarmRules:
    """The rules as they come with the program, and what was changed of them, by scope and kind."""

    def __init__(self, hass: HomeAssistant, log: OperationLog) -> None:
        self._hass, self._log = hass, log
        self._store: Store[dict[str, Any]] = Store(hass, 1, f"{DOMAIN}.alarm_rules")
        self._settings: dict[tuple[str, str], Settings] = {}
        self._listeners: list[Callable[[], None]] = []
        self.copied: list[str] = []
        """Blueprints that were given to the user already, and are not again."""
        self.nominals: dict[str, tuple[float, bool]] = {}
        """Nominal voltages that rules inferred, as they were last kept."""
        self.book: RuleBook

    async def async_load(self) -> None:
        """Reads the rules and what was changed; call once."""
        self.book = await self._hass.async_add_executor_job(load_rules)
        data = await self._store.async_load() or {"overrides": [], "blueprints": []}
        self.copied = data["blueprints"]
        self.nominals = {point: (volts, lines) for point, (volts, lines) in data.get("nominals", {}).items()}
        for one in data["overrides"]:
            self._settings[one.pop("scope"), one.pop("kind")] = one

    @property
    def settings(self) -> Mapping[tuple[str, str], Settings]:
        """What was changed, by scope and kind."""
        return self._settings

    @callback
    def async_listen(self, listener: Callable[[], None]) -> CALLBACK_TYPE:
        """Calls the listener after each change; returns what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    async def async_set(self, actor: Actor, scope: str, kind: str, settings: Settings) -> Settings:
        """Makes these all that differs in a scope (nothing: the default again); says what differed before.

        OSError where the operation log does not take it; then nothing has changed.
        """
        before = self._settings.get((scope, kind), {})
        if settings == before:
            return before
        await self._log.async_write(actor, ACTION, scope=scope, kind=kind, before=before, after=settings)
        if settings:
            self._settings[scope, kind] = settings
        else:
            self._settings.pop((scope, kind), None)
        await self._save()
        for listener in list(self._listeners):
            listener()
        return before

    async def async_copied(self, name: str) -> None:
        """Notes that the user was given a blueprint."""
        self.copied.append(name)
        await self._save()

    async def async_note_nominals(self, nominals: dict[str, tuple[float, bool]]) -> None:
        """Keeps nominal voltages that were inferred."""
        if nominals != self.nominals:
            self.nominals = nominals
            await self._save()

    async def _save(self) -> None:
        overrides = [{"scope": scope, "kind": kind, **one} for (scope, kind), one in self._settings.items()]
        data = {"overrides": overrides, "blueprints": self.copied, "nominals": self.nominals}
        await self._store.async_save(data)


def as_override(scope: str, kind: str, settings: Settings) -> Override:
    """What was changed in one scope, as the engine wants it."""
    known = {one.name for one in fields(Override)}
    values: dict[str, Any] = {key: value for key, value in settings.items() if key in known}
    if "severity" in values:
        values["severity"] = Severity(values["severity"])
    return Override(scope=scope, kind=kind, **values)
