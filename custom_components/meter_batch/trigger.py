"""Triggers of automations: an alarm is raised, an alarm is over. Of points, areas, lines or everything."""

from __future__ import annotations

import re
from typing import Any, Final, cast, override

import probatio
from homeassistant.const import CONF_OPTIONS, CONF_TARGET
from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.helpers import config_validation as cv
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers.target import TargetEntityChangeTracker, TargetSelection
from homeassistant.helpers.trigger import Trigger, TriggerActionRunner, TriggerConfig, TriggerNotTriggeredReporter
from homeassistant.helpers.typing import ConfigType

from .alarm_words import Alarm
from .alarms import RANK
from .const import DOMAIN
from .engine import Event as What
from .engine import Severity
from .site import async_get_site

CONF_SEVERITY: Final = "severity"
CONF_KINDS: Final = "kinds"

_SCHEMA = probatio.Schema(
    {
        # Without one, everything is meant.
        probatio.Optional(CONF_TARGET, default={}): cv.TARGET_FIELDS,
        probatio.Optional(CONF_OPTIONS, default={}): {
            probatio.Optional(CONF_SEVERITY, default=Severity.INFO.value): probatio.In([*map(str, Severity)]),
            probatio.Optional(CONF_KINDS, default=[]): probatio.All(cv.ensure_list, [cv.string]),
        },
    }
)


class Audience(TargetEntityChangeTracker):
    """The unique ids of our entities among those that a target means, kept true to the registries."""

    def __init__(self, hass: HomeAssistant, target: TargetSelection) -> None:
        super().__init__(hass, target, lambda entities: entities)
        self.members: frozenset[str] = frozenset()

    @callback
    @override
    def _handle_entities_update(self, tracked_entities: set[str]) -> None:
        registry = er.async_get(self._hass)
        entries = (registry.async_get(entity_id) for entity_id in tracked_entities)
        ids = (one.unique_id for one in entries if one is not None and one.platform == DOMAIN)
        # The editor offers what is wrong with a meter, too: who chooses that means the point.
        self.members = frozenset(re.sub("_problem$", "_alarm", id_) for id_ in ids)


class AlarmTrigger(Trigger):
    """Base: something that people are told about alarms, at least of a severity, of these kinds (none: of all)."""

    what: What

    @classmethod
    @override
    async def async_validate_config(cls, hass: HomeAssistant, config: ConfigType) -> ConfigType:
        return cast(ConfigType, _SCHEMA(config))

    def __init__(self, hass: HomeAssistant, config: TriggerConfig) -> None:
        super().__init__(hass, config)
        options = config.options or {}
        self._target = TargetSelection(config.target or {})
        self._least = RANK[Severity(options.get(CONF_SEVERITY, Severity.INFO))]
        self._kinds = frozenset(options.get(CONF_KINDS, ()))

    @override
    async def async_attach_runner(
        self, run_action: TriggerActionRunner, did_not_trigger: TriggerNotTriggeredReporter | None = None
    ) -> CALLBACK_TYPE:
        site = await async_get_site(self._hass)
        audience = Audience(self._hass, self._target) if self._target.has_any_target else None
        stop_audience = None if audience is None else await audience.async_setup()

        @callback
        def told(alarm: Alarm) -> None:
            if self._wants(alarm) and (audience is None or audience.members & alarm.audience):
                payload: dict[str, Any] = {"event": str(alarm.what), **alarm.as_attributes()}
                # "id" is the trigger's own.
                payload["alarm"] = payload.pop("id")
                run_action(payload, alarm.text)

        stop_listening = site.alarms.async_listen_events(told)

        @callback
        def stop() -> None:
            stop_listening()
            if stop_audience is not None:
                stop_audience()

        return stop

    def _wants(self, alarm: Alarm) -> bool:
        one = alarm.finding
        return (
            alarm.what is self.what
            and RANK[one.severity] <= self._least
            and (not self._kinds or one.kind in self._kinds)
        )


class AlarmRaised(AlarmTrigger):
    """Something is wrong now."""

    what = What.RAISED


class AlarmReturned(AlarmTrigger):
    """Something is no longer wrong."""

    what = What.RETURNED


TRIGGERS: Final[dict[str, type[Trigger]]] = {"alarm_raised": AlarmRaised, "alarm_returned": AlarmReturned}


async def async_get_triggers(hass: HomeAssistant) -> dict[str, type[Trigger]]:  # noqa: ARG001  # its form is given
    """Our triggers by name."""
    return TRIGGERS
