"""What one person, or one report, may see of a site: the site limited to their scope, with its gaps and alarms.

Everything that is shown goes through here, so that a scope is enforced once, beneath all pages.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs

from meter_batch_engine.errors import ConfigError
from meter_batch_engine.model.interval import Gap

from .archive.keys import KeyFile, KeyProvider, KeyRing
from .archive.store import Archive
from .mirror import Mirror
from .site import Site, known
from .sources.archive import ArchiveSource
from .words import language_of

DATA, IDENTITY, QUERY = "METER_BATCH_DATA", "METER_BATCH_IDENTITY", "QUERY_STRING"
ARCHIVE, KEY_FILE, KEYRING = "METER_BATCH_ARCHIVE", "METER_BATCH_KEY_FILE", "METER_BATCH_KEYRING"
"""Variables of a kernel's environment; the last three only where the archive lies elsewhere or is encrypted."""
THEMES = ("light", "dark")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who somebody is, as Home Assistant says. `scope`: ids of the points they may see, None for all."""

    user: str
    name: str
    admin: bool
    language: str
    scope: frozenset[str] | None

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        scope = None if self.scope is None else sorted(self.scope)
        return {
            "user": self.user, "name": self.name, "admin": self.admin, "language": self.language, "scope": scope
        }  # fmt: skip

    def as_json(self) -> str:
        """As it stands in a kernel's environment."""
        return json.dumps(self.as_dict())

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """The inverse. ConfigError for what is no whole identity: nothing is taken for granted."""
        try:
            scope = data["scope"]
            found = cls(
                data["user"], data["name"], data["admin"] is True, language_of(data["language"]),
                None if scope is None else frozenset(scope),
            )  # fmt: skip
        except (LookupError, TypeError, AttributeError) as error:
            raise ConfigError("it is not known who asks: sign in again") from error
        texts = (found.user, found.name, *(found.scope or ()))
        if isinstance(scope, str) or not found.user or not all(isinstance(one, str) for one in texts):
            raise ConfigError("it is not known who asks: sign in again")
        return found


class Session:
    """One identity's view of a data folder. ConfigError and ArchiveError in words."""

    def __init__(
        self,
        data: Path,
        identity: Identity,
        *,
        archive: Path | None = None,
        keys: KeyProvider | None = None,
        query: Mapping[str, list[str]] | None = None,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        self.data, self.identity = Path(data), identity
        self.query: dict[str, list[str]] = dict(query or {})
        self.now = now or (lambda: datetime.now(UTC))
        self.language = language_of(self._asked("lang") or identity.language)
        theme = self._asked("theme")
        self.theme = theme if theme in THEMES else THEMES[0]
        self._mirror = Mirror(self.data / "mirror")
        opened = Archive(archive or self.data / "archive", keys=keys)
        registry = self._mirror.registry() or known(opened)
        whole = Site(registry, [ArchiveSource(opened, registry.points)], now=self.now)
        self.site = whole.limited(identity.scope)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """The session of a kernel. ConfigError where nobody said for whom it is: it fails closed."""
        found = os.environ if environment is None else environment
        if not found.get(DATA) or not found.get(IDENTITY):
            raise ConfigError(
                "it is not known whose session this is: open the page by Home Assistant or by the analytics server, "
                "or start JupyterLab with `meter-batch-analytics lab --data DIR`"
            )
        try:
            identity = Identity.from_dict(json.loads(found[IDENTITY]))
        except ValueError as error:
            raise ConfigError("it is not known who asks: sign in again") from error
        keys: KeyProvider | None = None
        if found.get(KEY_FILE):
            keys = KeyFile(Path(found[KEY_FILE]))
        elif found.get(KEYRING):
            keys = KeyRing(found[KEYRING])
        return cls(
            Path(found[DATA]),
            identity,
            archive=Path(found[ARCHIVE]) if found.get(ARCHIVE) else None,
            keys=keys,
            query=parse_qs(found.get(QUERY, "")),
        )

    def gaps(self, points: Sequence[str] | None = None) -> list[Gap]:
        """Gaps of points (by id or name; all without), by point and start."""
        chosen = set(self.site.choose(points))
        return sorted(
            (gap for gap in self._mirror.gaps() if gap.point in chosen), key=lambda gap: (gap.point, gap.start)
        )

    def alarms(self, since: datetime, until: datetime) -> list[Any]:
        """Findings that were active at any time of `[since, until)`, oldest first; those of a line go to whoever may
        see any of its points, those of the site to whoever may see all.
        """
        there = self.site.points
        lines = {route.line for point in there.values() for route in point.routes}
        seen = {"point": set(there), "line": lines, "site": set[str]()}
        all_ = self.identity.scope is None
        return sorted(
            (
                one
                for one in self._mirror.alarms()
                if one.since < until and (one.until is None or one.until > since)
                if all_ or one.subject in seen[one.subject_kind]
            ),
            key=lambda one: (one.since, one.id),
        )

    @property
    def mirror_at(self) -> datetime | None:
        """When names, gaps and alarms were last seen in Home Assistant."""
        return self._mirror.at

    def _asked(self, key: str) -> str | None:
        values = self.query.get(key)
        return values[-1] if values else None


def open_data(
    data_dir: Path | str,
    identity: Identity | None = None,
    *,
    archive: Path | None = None,
    keys: KeyProvider | None = None,
    query: Mapping[str, list[str]] | None = None,
    now: Callable[[], datetime] | None = None,
) -> Session:
    """The session of an identity on a data folder, for reports, JupyterLab and tests; without identity that of who
    owns the machine, who sees all.
    """
    return Session(Path(data_dir), identity or OWNER, archive=archive, keys=keys, query=query, now=now)


OWNER = Identity("owner", "", True, "en", None)
"""Who can read the folder without being asked who they are."""
