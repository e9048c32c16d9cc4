"""Actions to see and to change alarm rules: of the site, an area, a line or a point."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import probatio
from homeassistant.core import HomeAssistant, ServiceCall, ServiceResponse, SupportsResponse, callback
from homeassistant.exceptions import ServiceValidationError
from homeassistant.helpers import area_registry as ar
from homeassistant.helpers import config_validation as cv

from . import access
from .access import Operation
from .alarm_rules import SETTINGS, Settings, as_override
from .commands import find_point, line_by_name, refuse
from .const import DOMAIN
from .engine import ConfigError, Rule, Sentence, Severity
from .site import Site, async_get_site

LIST: Final[dict[Any, Any]] = {probatio.Optional("point"): cv.string}
_NUMBER = probatio.Coerce(float)
SET: Final[dict[Any, Any]] = {
    probatio.Required("kind"): cv.string,
    probatio.Exclusive("point", "scope"): cv.string,
    probatio.Exclusive("area", "scope"): cv.string,
    probatio.Exclusive("line", "scope"): cv.string,
    probatio.Optional("enabled"): cv.boolean,
    probatio.Optional("pickup"): _NUMBER,
    probatio.Optional("dropout"): _NUMBER,
    probatio.Optional("on_delay_s"): _NUMBER,
    probatio.Optional("off_delay_s"): _NUMBER,
    probatio.Optional("severity"): probatio.In([*map(str, Severity)]),
    probatio.Optional("reset", default=False): cv.boolean,
}


@callback
def async_setup(hass: HomeAssistant) -> None:
    """Registers the actions."""
    for name, handler, schema, response in (
        ("list_alarm_rules", list_alarm_rules, LIST, SupportsResponse.ONLY),
        ("set_alarm_rule", set_alarm_rule, SET, SupportsResponse.OPTIONAL),
    ):
        hass.services.async_register(DOMAIN, name, handler, probatio.Schema(schema), supports_response=response)


async def list_alarm_rules(call: ServiceCall) -> ServiceResponse:
    """The rules as they hold at the site, or at one point and why they rest there; what was changed where; and which
    cannot work.
    """
    site = await async_get_site(call.hass)
    point = find_point(site, call.data["point"]) if "point" in call.data else None
    await access.async_check(call.hass, call.context, Operation.READ, None if point is None else (point.id,))
    rules = site.alarms.rules
    rests = {} if point is None else site.alarms.resting(point)
    named = [scope_in_words(site, scope) for scope, _ in rules.settings]
    return {
        "rules": {
            kind: rule_as_dict(
                site.alarms.rule(kind) if point is None else site.alarms.rule(kind, point.id), rests.get(kind)
            )
            for kind in rules.book.rules
        },
        "overrides": [
            {**where, "kind": kind, **settings}
            for where, ((_, kind), settings) in zip(named, rules.settings.items(), strict=True)
        ],
        "unusable": [*site.alarms.unusable()],
    }


def rule_as_dict(rule: Rule, rests: list[str] | None) -> dict[str, Any]:
    """A rule as JSON values, and why it rests at a point; None where no point is meant."""
    return {
        "enabled": rule.enabled,
        "severity": rule.severity.value,
        "pickup": rule.pickup,
        "dropout": rule.dropout,
        "unit": rule.unit,
        "relative_to": rule.relative_to,
        "on_delay_s": rule.on_delay_s,
        "off_delay_s": rule.off_delay_s,
        "needs": list(rule.needs),
        **({} if rests is None else {"rests": rests}),
    }


async def set_alarm_rule(call: ServiceCall) -> ServiceResponse:
    """Changes a rule somewhere. The answer says what was set there before: set that again to take it back."""
    actor = await access.async_check(call.hass, call.context, Operation.CONFIGURE)
    site = await async_get_site(call.hass)
    rules, kind, scope = site.alarms.rules, call.data["kind"], _scope(site, call.data)
    given: Settings = {key: call.data[key] for key in SETTINGS if key in call.data}
    if not given and not call.data["reset"]:
        raise refuse("rule_nothing_set")
    settings = given if call.data["reset"] else {**rules.settings.get((scope, kind), {}), **given}
    try:
        rules.book.check(as_override(scope, kind, settings))
    except ConfigError as error:
        raise _refused(error) from error
    try:
        before = await rules.async_set(actor, scope, kind, settings)
    except OSError as error:
        raise refuse("log_failed", error=str(error)) from error
    return {**scope_in_words(site, scope), "kind": kind, "before": before, "now": settings}


def _scope(site: Site, asked: Mapping[str, Any]) -> str:
    """Points, areas and lines by their ids, so that a change outlives their names."""
    if "point" in asked:
        return f"point:{find_point(site, asked['point']).id}"
    if "line" in asked:
        return f"line:{line_by_name(site, asked['line'])}"
    if "area" in asked:
        areas = ar.async_get(site.hass)
        area = areas.async_get_area(asked["area"]) or areas.async_get_area_by_name(asked["area"])
        if area is None:
            raise refuse("unknown_area", area=asked["area"])
        return f"area:{area.id}"
    return "site"


def scope_in_words(site: Site, scope: str) -> dict[str, str]:
    """A scope as it is asked for, with the name it has now."""
    kind, _, id_ = scope.partition(":")
    if kind == "point":
        return {"point": site.alarms.words.point_name(id_)}
    if kind == "line":
        return {"line": site.alarms.words.line_name(id_) or id_}
    if kind == "area":
        area = ar.async_get(site.hass).async_get_area(id_)
        return {"area": area.name if area else id_}
    return {}


def _refused(error: ConfigError) -> ServiceValidationError:
    """What the engine refuses, in the user's language."""
    text = error.text
    if isinstance(text, Sentence):
        return refuse(f"engine_{text.key}", **{name: str(fact) for name, fact in text.facts.items()})
    return ServiceValidationError(str(text))
