"""Findings: what a rule found wrong, from when until when, and what people did about it (after IEC 62682)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal


class Severity(StrEnum):
    """How urgent a finding is."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"


class AlarmState(StrEnum):
    """Where a finding stands between what is measured and who has seen it."""

    UNACKNOWLEDGED = "unacknowledged"
    """It is active and nobody has seen it."""
    ACKNOWLEDGED = "acknowledged"
    """It is active and somebody has seen it, or it has a cause that is a finding of its own."""
    RETURNED = "returned_unacknowledged"
    """It is over and nobody has seen it."""
    SHELVED = "shelved"
    """Put aside until a time, active or not; it does not notify."""
    NORMAL = "normal"
    """It is closed."""


class Event(StrEnum):
    """What happened to a finding."""

    RAISED = "raised"
    RETURNED = "returned"
    ACKNOWLEDGED = "acknowledged"
    SHELVED = "shelved"
    UNSHELVED = "unshelved"
    SUPPRESSED = "suppressed"
    """It was raised, but another finding is its cause."""
    RERAISED = "reraised"
    """It is active again, still when its shelving ended, or still when its cause was gone."""


type SubjectKind = Literal["point", "line", "site"]

SITE = "site"
"""The subject of findings about the site as a whole. Where there may be several of a kind, as of reports that are made
by a schedule, each is about a part of it: `site:<name>`."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is or was wrong with one subject. At most one of a kind and subject is open."""

    id: str
    kind: str
    """Key of the rule."""
    subject_kind: SubjectKind
    subject: str
    """Id of the point, id of the line, `SITE`, or a part of it."""
    severity: Severity
    since: datetime
    """When it began: the value, not the end of the delay."""
    until: datetime | None = None
    """When it was over; None while it is active."""
    state: AlarmState = AlarmState.UNACKNOWLEDGED
    value: float | None = None
    """What was found when it was raised, in `unit`."""
    limit: float | None = None
    extreme: float | None = None
    """The worst value while it was active."""
    unit: str = ""
    phase: int = 0
    """1 to 3 for the phase that was worst, 0 where none is meant."""
    cause: str | None = None
    """Id of the finding that explains this one (a dead line its meters). Such ones never notify."""
    facts: Mapping[str, str | float] = field(default_factory=dict)
    """What else fills its sentence. Texts may be sentences."""
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    shelved_until: datetime | None = None
    comment: str | None = None
    """What was said last when it was acknowledged or shelved."""

    @property
    def active(self) -> bool:
        """True while what was found is still so."""
        return self.until is None

    @property
    def open(self) -> bool:
        """True until it is over and seen."""
        return self.state is not AlarmState.NORMAL


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One event of one finding; never changed once written."""

    finding: str
    at: datetime
    what: Event
    by: str | None = None
    """Who did it; None where it happened by itself."""
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A finding as it is after an event. All changes are to be kept; `notify` says whether people are to be told."""

    finding: Finding
    event: JournalEntry
    notify: bool
