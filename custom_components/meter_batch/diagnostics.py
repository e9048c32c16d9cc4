"""What a user sends when something does not work: the line, its figures, its points; or the analytics server.

Of a line also the last exchanges as a recording that `meter-batch replay` reads. Nobody can tell from it whose meters
they are: hosts, ports, names, serial numbers and addresses of DL/T 645 meters are hidden or replaced.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from typing import Any, cast

from homeassistant.components.diagnostics.const import REDACTED
from homeassistant.components.diagnostics.util import async_redact_data
from homeassistant.config_entries import ConfigEntryState
from homeassistant.const import CONF_MAC, CONF_TOKEN
from homeassistant.core import HomeAssistant
from homeassistant.helpers.device_registry import AnyDeviceEntry

from . import link
from .analytics import AnalyticsEntry
from .commands import state_of
from .const import CONF_HOST, CONF_PORT, CONF_SERIAL_PORT, DOMAIN
from .coordinator import LineCoordinator
from .engine import (
    BackfillHealth,
    ClockReading,
    Diagnosis,
    Exchanged,
    IdentityReading,
    LineHealth,
    MeterBatchError,
    Point,
    RecordedMeter,
    Recording,
    RemotePoller,
    Template,
    TemplateError,
    readings_of,
    record,
    recording_as_dict,
    redact,
)
from .engine.sentences import Sentence
from .engine.wire import point_as_dict
from .entity import LineEntry
from .gaps import Missing
from .link import is_line
from .point_form import RATING_FIELDS

PRIVATE = {"name", "area", "serial", "by", "note"}


async def async_get_config_entry_diagnostics(hass: HomeAssistant, entry: LineEntry | AnalyticsEntry) -> dict[str, Any]:
    """A line and all that is known of its points, without their values; or what the analytics server says."""
    if not is_line(entry):
        return _server(cast("AnalyticsEntry", entry))
    entry = cast("LineEntry", entry)
    data = {
        "data": async_redact_data(dict(entry.data), {CONF_HOST, CONF_MAC, CONF_PORT, CONF_SERIAL_PORT}),
        "options": dict(entry.options),
    }
    if entry.state is not ConfigEntryState.LOADED:
        return {**data, "state": entry.state.value, "reason": entry.error_reason_translation_key}
    coordinator = entry.runtime_data.coordinator
    report, site = coordinator.data, coordinator.site
    metered = [point for point, _ in site.registry.on_line(entry.entry_id) if point.meter.template in site.templates]
    recording = await _recording(hass, coordinator, metered)
    models = {point.meter.template for point in metered}
    return {
        **data,
        "poller": "own_process" if isinstance(coordinator.poller, RemotePoller) else "inside",
        "health": None if report is None else _health(report.health),
        "backfill": None if report is None else _plain(report.backfill),
        "clocks": {key: _plain(one) for key, one in coordinator.clocks.items()},
        "gaps": _plain(site.gaps.missing({point.id for point in coordinator.points()})),
        "ledger": asdict(site.ledger.health) | {"problem": _key(site.ledger.health.problem)},
        "alarms": {
            "open": dict(Counter(one.kind for one in site.alarms.noted)),
            "rules": [f"{scope.partition(':')[0]} {kind}" for scope, kind in site.alarms.rules.settings],
            "stored": site.alarms.store.problem is None,
            "waiting": site.alarms.store.waiting,
        },
        "silent": sorted(coordinator.silent),
        "problems": {key: {"reason": one.reason, "text": _key(one.text)} for key, one in coordinator.problems.items()},
        "diagnoses": {key: _diagnoses(found) for key, found in coordinator.causes.diagnoses.items()},
        "identities": {key: _identity(one) for key, one in coordinator.causes.identities.items()},
        "lessons": [one.as_dict() for id_, one in site.learned.lessons.items() if id_ in models],
        "points": _points(coordinator.points(), dict(zip((one.id for one in metered), recording.meters, strict=True))),
        "recording": recording_as_dict(recording),
    }


def _points(points: Iterable[Point], recorded: Mapping[str, RecordedMeter]) -> dict[str, Any]:
    """Points as they are in the registry; their addresses are those of the recording."""
    shown: dict[str, Any] = {}
    for point in points:
        one = async_redact_data(point_as_dict(point), PRIVATE)
        # What else somebody wrote down of a point may be a customer's number.
        one["attributes"] = {key: text if key in RATING_FIELDS else REDACTED for key, text in point.attributes.items()}
        for route in one.get("routes", ()):
            route["address"] = recorded[point.id].address if point.id in recorded else REDACTED
        if one.get("commissioned"):
            one["commissioned"]["address"] = REDACTED
        shown[point.id] = one
    return shown


async def _recording(hass: HomeAssistant, coordinator: LineCoordinator, metered: list[Point]) -> Recording:
    """The last exchanges, read again and redacted. The meters stand in the order of the points."""
    entry, templates = coordinator.config_entry, coordinator.site.templates
    meters = [
        RecordedMeter(point.routes[0].address, point.routes[0].protocol, point.meter.template) for point in metered
    ]
    trace: list[Exchanged] = []
    with suppress(MeterBatchError):  # the process that polls is being started again
        trace = await coordinator.async_trace()
    made = record(link.url(entry.data), link.settings(entry.data, entry.options), meters, trace)

    def load(id_: str) -> Template:
        if (template := templates.get(id_)) is None:
            raise TemplateError(id_)
        return template

    def work() -> Recording:
        whole = Recording(made.line, made.meters, made.exchanges, readings_of(made, load))
        return redact(whole, load)

    return await hass.async_add_executor_job(work)


def _health(health: LineHealth) -> dict[str, Any]:
    shown = asdict(health) | {"problem": _key(health.problem)}
    shown["airtime"]["idle"] = health.airtime.idle
    return shown


def _diagnoses(found: Iterable[Diagnosis]) -> list[dict[str, Any]]:
    return [
        {"cause": one.cause, "likelihood": one.likelihood, "scope": one.scope, "handled": one.handled} for one in found
    ]


def _identity(one: IdentityReading) -> dict[str, Any]:
    misfit = None if one.misfit is None else {"kind": one.misfit.kind, "factor": str(one.misfit.factor)}
    return {
        "at": one.at.isoformat(),
        "serial": None if one.serial is None else REDACTED,
        "model_ok": one.model_ok,
        "misfit": misfit,
        "swapped": one.swapped,
    }


def _key(text: str | None) -> str | None:
    """What a sentence says, without its facts: addresses and hosts stand in them."""
    if text is None:
        return None
    return text.key if isinstance(text, Sentence) else REDACTED


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
    if entry.state is not ConfigEntryState.LOADED:
        return {"state": entry.state.value}
    coordinator = entry.runtime_data.coordinator
    points = coordinator.site.registry.points
    own = [points[id_] for domain, id_ in device.identifiers if domain == DOMAIN and id_ in points]
    shown = _points(own, {})
    for point in own:
        state = state_of(hass, point)
        shown[point.id] |= {key: state[key] for key in ("available", "problem", "registers")}
        shown[point.id]["diagnoses"] = _diagnoses(coordinator.causes.diagnoses.get(point.id, ()))
    return shown
