"""Findings of a period as a report tells them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import tzinfo

from meter_batch_engine.model.finding import Finding

from ..site import Site
from .facts import AlarmFacts
from .period import local


def alarms_of(
    findings: Sequence[Finding], site: Site, zone: tzinfo, chosen: Sequence[str] | None
) -> tuple[AlarmFacts, ...]:
    """Newest first, with the names of their subjects; where points were chosen only theirs, and of lines and site."""
    points, names = site.points, site.line_names
    lines = {route.line for id_ in chosen or () for route in points[id_].routes}
    found = []
    for one in findings:
        of_point = one.subject_kind == "point"
        mine = one.subject in (chosen or ()) if of_point else one.subject in lines or one.subject_kind == "site"
        if chosen is not None and not mine:
            continue
        found.append(
            AlarmFacts(
                id=one.id,
                kind=one.kind,
                severity=str(one.severity),
                state=str(one.state),
                subject_kind=one.subject_kind,
                subject=one.subject,
                name=site.name(one.subject) if of_point else names.get(one.subject, one.subject),
                since=local(one.since, zone),
                until=None if one.until is None else local(one.until, zone),
                value=one.value,
                limit=one.limit,
                extreme=one.extreme,
                unit=one.unit,
                phase=one.phase,
                cause=one.cause,
            )
        )
    return tuple(sorted(found, key=lambda one: (one.since, one.id), reverse=True))
