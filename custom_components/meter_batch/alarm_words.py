"""Alarms as people and automations are told them: what, where, since when, whom it concerns, where there is more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from homeassistant.core import HomeAssistant
from homeassistant.helpers.network import NoURLAvailableError, get_url
from homeassistant.util import dt as dt_util

from .const import DOMAIN
from .engine import SITE, Change, Finding, sentence
from .engine import Event as What
from .place import area_of, device_of
from .registry import Registry
from .wording import in_words, message

EVENTS: Final = (What.RAISED, What.RETURNED, What.ACKNOWLEDGED, What.SHELVED, What.UNSHELVED)
"""What events and triggers tell; what is raised again is raised."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that happened to a finding, as people and automations are told it."""

    what: What
    finding: Finding
    name: str
    """Of the point, or of the line."""
    area: str | None
    line: str | None
    text: str
    """In the language of the house."""
    link: str
    """Address inside Home Assistant where there is more …"""
    url: str
    """… and as one that is understood outside, where Home Assistant knows its own."""
    audience: frozenset[str]
    """Unique ids of the entities whom it concerns."""
    by: str | None = None
    comment: str | None = None

    def as_attributes(self) -> dict[str, Any]:
        """As attributes of events and variables of triggers."""
        one = self.finding
        return {
            "id": one.id,
            "point": self.name,
            "area": self.area,
            "line": self.line,
            "kind": one.kind,
            "severity": one.severity.value,
            "value": one.value,
            "limit": one.limit,
            "unit": one.unit,
            "since": one.since.isoformat(),
            "until": one.until.isoformat() if one.until else None,
            "text": self.text,
            "link": self.link,
            "url": self.url,
            "by": self.by,
            "comment": self.comment,
        }


class AlarmWords:
    """Finds names, places and texts of findings, as they are now."""

    def __init__(self, hass: HomeAssistant, registry: Registry) -> None:
        self._hass, self._registry = hass, registry

    def text(self, finding: Finding) -> str:
        """What is wrong, in the language of the house."""
        return in_words(self._hass, sentence(finding, self.name(finding)))

    def history(self, finding: Finding) -> str:
        """The same where it may be over: then with until when it lasted."""
        text = self.text(finding)
        if finding.active or finding.until is None:
            return text
        until = dt_util.as_local(finding.until).strftime("%Y-%m-%d %H:%M")
        return message(self._hass, "alarm_until", text=text, until=until) or text

    def name(self, finding: Finding) -> str:
        """Of the subject of a finding, as it is called now."""
        if finding.subject_kind == "point":
            return self.point_name(finding.subject)
        return self.line_name(finding.subject) or self._hass.config.location_name

    def point_name(self, id_: str) -> str:
        """Of a point, as it is called now; its id where it is gone."""
        point = self._registry.points.get(id_)
        return point.name if point else id_

    def line_name(self, line: str | None) -> str | None:
        """Of a line; None where it is none, or gone."""
        entry = self._hass.config_entries.async_get_entry(line) if line else None
        return entry.title if entry else None

    def link(self, finding: Finding) -> str:
        """Where there is more: the page of the point, the line or the site."""
        if (device := device_of(self._hass, SITE if finding.subject_kind == "site" else finding.subject)) is not None:
            return f"/config/devices/device/{device.id}"
        return f"/config/integrations/integration/{DOMAIN}"

    def told(self, change: Change, base: str) -> Alarm:
        """A change as people are told it; `base`: what `base` says."""
        finding, event = change.finding, change.event
        area = line = None
        audience = {audience_of(SITE)}
        if (point := self._registry.points.get(finding.subject)) is not None:
            line = self._registry.home(point)
            area = area_of(self._hass, point)
            audience.add(f"{point.id}_alarm")
        elif finding.subject_kind == "line":
            line = finding.subject
        if line is not None:
            audience.add(f"{line}_alarms")
        if area is not None:
            audience.add(audience_of(f"area_{area.id}"))
        link = self.link(finding)
        return Alarm(
            What.RAISED if event.what is What.RERAISED else event.what,
            finding,
            self.name(finding),
            area.name if area else point.area if point else None,
            self.line_name(line),
            self.text(finding),
            link,
            base + link,
            frozenset(audience),
            event.by,
            event.comment,
        )

    def base(self) -> str:
        """The address of Home Assistant, as far as it knows that."""
        try:
            return get_url(self._hass, prefer_external=True)
        except NoURLAvailableError:
            return ""


def audience_of(part: str) -> str:
    """The unique id of the events of the site (`SITE`) or of an area ("area_" and its id)."""
    return f"{DOMAIN}_site_alarms" if part == SITE else f"{DOMAIN}_site_{part}_alarms"
