"""What a user sends when something does not work: the line, its figures, its points; or the analytics server.

Hosts, names and tokens are hidden.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from datetime import datetime
from typing import Any, cast

from homeassistant.components.diagnostics.util import async_redact_data
from homeassistant.config_entries import ConfigEntryState
from homeassistant.const import CONF_TOKEN
from homeassistant.core import HomeAssistant
from homeassistant.helpers.device_registry import AnyDeviceEntry

from .analytics import AnalyticsEntry
from .commands import state_of
from .const import CONF_HOST, DOMAIN
from .engine import BackfillHealth, ClockReading
from .engine.wire import point_as_dict
from .entity import LineEntry
from .gaps import Missing
from .link import is_line


async def async_get_config_entry_diagnostics(_hass: HomeAssistant, entry: LineEntry | AnalyticsEntry) -> dict[str, Any]:
    """A line and all that is known of its points, without their values; or what the analytics server says."""
    if not is_line(entry):
        return _server(cast("AnalyticsEntry", entry))
    entry = cast("LineEntry", entry)
    coordinator = entry.runtime_data.coordinator
    report, site = coordinator.data, coordinator.site
    return {
        "data": async_redact_data(dict(entry.data), {CONF_HOST}),
        "options": dict(entry.options),
        "health": None if report is None else asdict(report.health) | {"problem": bool(report.health.problem)},
        "backfill": None if report is None else _plain(report.backfill),
        "clocks": {key: _plain(one) for key, one in coordinator.clocks.items()},
        "gaps": _plain(site.gaps.missing({point.id for point in coordinator.points()})),
        "ledger": asdict(site.ledger.health) | {"problem": site.ledger.health.problem is not None},
        "alarms": {
            "open": dict(Counter(one.kind for one in site.alarms.noted)),
            "rules": [f"{scope.partition(':')[0]} {kind}" for scope, kind in site.alarms.rules.settings],
            "stored": site.alarms.store.problem is None,
            "waiting": site.alarms.store.waiting,
        },
        "silent": sorted(coordinator.silent),
        "problems": dict(coordinator.problems),
        "points": {
            point.id: async_redact_data(point_as_dict(point), {"name", "area", "serial"})
            for point in coordinator.points()
        },
    }


def _server(entry: AnalyticsEntry) -> dict[str, Any]:
    data = async_redact_data(dict(entry.data), {CONF_TOKEN})
    if entry.state is not ConfigEntryState.LOADED:
        return {"data": data, "answers": False, "reason": entry.reason}
    server = entry.runtime_data
    return {
        "data": data,
        "answers": server.last_update_success,
        "status": async_redact_data(dict(server.data.said), {CONF_TOKEN, "token", "by", "name"}),
        "reports": dict(Counter(one.kind for one in server.data.reports)),
    }


def _plain(one: Missing | BackfillHealth | ClockReading) -> dict[str, Any]:
    values = asdict(one).items()
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values}


async def async_get_device_diagnostics(
    hass: HomeAssistant, entry: LineEntry | AnalyticsEntry, device: AnyDeviceEntry
) -> dict[str, Any]:
    """A point with its last values."""
    if not is_line(entry):
        return _server(cast("AnalyticsEntry", entry))
    entry = cast("LineEntry", entry)
    points = entry.runtime_data.coordinator.site.registry.points
    return {
        id_: {**point_as_dict(points[id_]), **state_of(hass, points[id_])}
        for domain, id_ in device.identifiers
        if domain == DOMAIN and id_ in points
    }
