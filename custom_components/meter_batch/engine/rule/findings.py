"""The life of a finding: raised, seen, shelved, returned, closed (IEC 62682, without its latched states)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime

from ..errors import ConfigError
from ..model.finding import AlarmState, Change, Event, Finding, JournalEntry
from ..sentences import say
from .latch import Key


class Findings:
    """All open findings. At most one of a kind and subject; nothing here decides whether something is wrong."""

    def __init__(self, new_id: Callable[[], str]) -> None:
        self._new_id = new_id
        self._open: dict[Key, Finding] = {}
        self._by_id: dict[str, Key] = {}

    def __iter__(self) -> Iterator[Finding]:
        return iter(list(self._open.values()))

    def get(self, key: Key) -> Finding | None:
        """The open finding of a kind and subject."""
        return self._open.get(key)

    def by_id(self, id_: str) -> Finding:
        """An open finding; ConfigError where there is none of this id."""
        if (key := self._by_id.get(id_)) is None:
            raise ConfigError(say("finding_unknown", id=id_))
        return self._open[key]

    def restore(self, findings: Iterable[Finding]) -> None:
        """What was open before; nobody is told again."""
        for finding in findings:
            if finding.open:
                self._put(finding)

    def raise_(self, finding: Callable[[str], Finding], key: Key, at: datetime) -> Change | None:
        """Opens a finding, made with its id; one that is open goes on as the same. None where it is active already."""
        was = self._open.get(key)
        if was is not None and was.active:
            return None
        new = finding(was.id if was is not None else self._new_id())
        suppressed = new.cause is not None
        if was is None:
            state = AlarmState.ACKNOWLEDGED if suppressed else AlarmState.UNACKNOWLEDGED
            new = replace(new, state=state)
            return self._changed(new, at, Event.SUPPRESSED if suppressed else Event.RAISED, notify=not suppressed)
        shelved = was.state is AlarmState.SHELVED
        facts = {**new.facts, "times": float(was.facts.get("times", 1)) + 1}
        new = replace(
            new,
            since=was.since,
            state=AlarmState.SHELVED if shelved else AlarmState.UNACKNOWLEDGED,
            shelved_until=was.shelved_until,
            comment=was.comment,
            facts=facts,
        )
        event = Event.SUPPRESSED if suppressed else Event.RERAISED
        return self._changed(new, at, event, notify=not shelved and not suppressed)

    def return_(self, key: Key, until: datetime, at: datetime, extreme: float | None = None) -> Change | None:
        """What was found is over since `until`; None where it was not active."""
        was = self._open.get(key)
        if was is None or not was.active:
            return None
        state = {
            AlarmState.UNACKNOWLEDGED: AlarmState.RETURNED,
            AlarmState.SHELVED: AlarmState.SHELVED,
        }.get(was.state, AlarmState.NORMAL)
        until = max(until, was.since)
        worst = was.extreme if extreme is None else extreme
        return self._changed(replace(was, until=until, state=state, extreme=worst), at, Event.RETURNED)

    def close(self, key: Key, at: datetime) -> Change | None:
        """Its subject or its rule is gone, so there is nothing left to see."""
        if (was := self._open.get(key)) is None:
            return None
        until = max(at, was.since) if was.until is None else was.until
        return self._changed(replace(was, until=until, state=AlarmState.NORMAL, shelved_until=None), at, Event.RETURNED)

    def promote(self, key: Key, cause: str | None, at: datetime) -> Change | None:
        """Its cause is gone and it is still so: it has another, or is one of its own now."""
        was = self._open.get(key)
        if was is None or was.cause in (None, cause) or not was.active:
            return None
        new = replace(was, cause=cause)
        if cause is not None:
            return self._changed(new, at, Event.SUPPRESSED)
        shelved = was.state is AlarmState.SHELVED
        state = was.state if shelved else AlarmState.UNACKNOWLEDGED
        return self._changed(replace(new, state=state), at, Event.RERAISED, notify=not shelved)

    def acknowledge(self, id_: str, at: datetime, by: str | None, comment: str | None) -> Change | None:
        """Somebody has seen it; None where that was so already."""
        was = self.by_id(id_)
        if was.state not in (AlarmState.UNACKNOWLEDGED, AlarmState.RETURNED):
            return None
        state = AlarmState.ACKNOWLEDGED if was.active else AlarmState.NORMAL
        new = replace(was, state=state, acknowledged_at=at, acknowledged_by=by, comment=comment or was.comment)
        return self._changed(new, at, Event.ACKNOWLEDGED, by=by, comment=comment)

    def shelve(self, id_: str, at: datetime, until: datetime, by: str | None, comment: str | None) -> Change:
        """Puts it aside until an instant; shelved again, that instant moves."""
        was = self.by_id(id_)
        if until <= at:
            raise ConfigError(say("shelve_past"))
        new = replace(was, state=AlarmState.SHELVED, shelved_until=until, comment=comment or was.comment)
        return self._changed(new, at, Event.SHELVED, by=by, comment=comment)

    def unshelve(self, id_: str, at: datetime, by: str | None, comment: str | None) -> Change | None:
        """Takes it back by hand, so nobody is told; None where it is not shelved."""
        was = self.by_id(id_)
        if was.state is not AlarmState.SHELVED:
            return None
        return self._changed(self._unshelved(was), at, Event.UNSHELVED, by=by, comment=comment)

    def shelf_ends(self) -> Iterable[datetime]:
        """When shelving ends, of all that are shelved."""
        return (one.shelved_until for one in self._open.values() if one.shelved_until is not None)

    def end_shelves(self, at: datetime) -> list[Change]:
        """Those whose time has come: what is still so is raised again, the rest is closed."""
        changes = []
        for was in [one for one in self._open.values() if one.shelved_until is not None and one.shelved_until <= at]:
            new = self._unshelved(was)
            if not new.active or new.cause is not None:
                changes.append(self._changed(new, at, Event.UNSHELVED))
                continue
            new = replace(new, state=AlarmState.UNACKNOWLEDGED, acknowledged_at=None, acknowledged_by=None)
            changes.append(self._changed(new, at, Event.RERAISED, notify=True))
        return changes

    @staticmethod
    def _unshelved(was: Finding) -> Finding:
        if not was.active:
            state = AlarmState.NORMAL  # whoever shelved it has seen it
        elif was.acknowledged_at is not None or was.cause is not None:
            state = AlarmState.ACKNOWLEDGED
        else:
            state = AlarmState.UNACKNOWLEDGED
        return replace(was, state=state, shelved_until=None)

    def _put(self, finding: Finding) -> None:
        key = (finding.kind, finding.subject)
        if finding.open:
            self._open[key], self._by_id[finding.id] = finding, key
        else:
            self._open.pop(key, None)
            self._by_id.pop(finding.id, None)

    def _changed(
        self,
        finding: Finding,
        at: datetime,
        what: Event,
        *,
        by: str | None = None,
        comment: str | None = None,
        notify: bool = False,
    ) -> Change:
        self._put(finding)
        return Change(finding, JournalEntry(finding.id, at, what, by, comment), notify)
