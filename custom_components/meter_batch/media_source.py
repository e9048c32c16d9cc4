"""Reports in the media browser: by kind and period, only those whose points the user may see."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import override

from homeassistant.auth.models import User
from homeassistant.components.media_player.const import MediaClass
from homeassistant.components.media_player.errors import BrowseError
from homeassistant.components.media_source import (
    BrowseMediaSource,
    MediaSource,
    MediaSourceItem,
    PlayMedia,
    Unresolvable,
)
from homeassistant.components.websocket_api.connection import current_connection
from homeassistant.core import HomeAssistant
from homeassistant.helpers import translation
from homeassistant.helpers.http import current_request

from .analytics import Report, ServerProblem, analytics, told_to
from .const import DOMAIN, MANUFACTURER
from .reports import file_path, may_see, mime_of
from .wording import async_message


async def async_get_media_source(hass: HomeAssistant) -> MediaSource:
    """The source of reports."""
    return ReportSource(hass)


def _user() -> User | None:
    """Who asks: over the WebSocket or over HTTP; nobody where an automation does."""
    if (connection := current_connection.get()) is not None:
        return connection.user
    request = current_request.get()
    user: User | None = None if request is None else request.get("hass_user")
    return user


class ReportSource(MediaSource):
    """`<kind>/<period>/<report>/<file>`."""

    name = MANUFACTURER

    def __init__(self, hass: HomeAssistant) -> None:
        super().__init__(DOMAIN)
        self._hass = hass

    def _reports(self) -> list[Report]:
        user = _user()
        return [one for one in analytics(self._hass).data.reports if may_see(user, one)]

    @override
    async def async_browse_media(self, item: MediaSourceItem) -> BrowseMediaSource:
        """A folder; BrowseError in words where it cannot be shown."""
        try:
            reports = self._reports()
        except ServerProblem as problem:
            said = told_to(problem, _user())
            raise BrowseError(await async_message(self._hass, said.key, **said.placeholders)) from problem
        language = self._hass.config.language
        texts = await translation.async_get_translations(self._hass, language, "selector", {DOMAIN})
        parts = [part for part in (item.identifier or "").split("/") if part]
        if not parts:
            kinds = dict.fromkeys(one.kind for one in reports)
            return _folder("", self.name or DOMAIN, [_folder(kind, _kind(texts, kind)) for kind in kinds])
        of_kind = [one for one in reports if one.kind == parts[0]]
        if of_kind and len(parts) == 1:
            periods = sorted({one.period for one in of_kind}, reverse=True)
            children = [_folder(f"{parts[0]}/{period}", period) for period in periods]
            return _folder(parts[0], _kind(texts, parts[0]), children)
        of_period = [one for one in of_kind if one.period == "/".join(parts[1:])]
        if not of_period:
            raise BrowseError(await async_message(self._hass, "unknown_report"))
        return _folder("/".join(parts), parts[-1], _files(of_period))

    @override
    async def async_resolve_media(self, item: MediaSourceItem) -> PlayMedia:
        """The address of a file; Home Assistant signs it for who asked, and the view looks again."""
        parts = item.identifier.split("/")
        try:
            found = next((one for one in self._reports() if one.id == parts[-2]), None) if len(parts) >= 2 else None
        except ServerProblem as problem:
            said = told_to(problem, _user())
            raise Unresolvable(await async_message(self._hass, said.key, **said.placeholders)) from problem
        if found is None or parts[-1] not in {one.name for one in found.files}:
            raise Unresolvable(await async_message(self._hass, "unknown_report"))
        return PlayMedia(file_path(found, parts[-1]), mime_of(parts[-1]))


def _kind(texts: Mapping[str, str], kind: str) -> str:
    return texts.get(f"component.{DOMAIN}.selector.report.options.{kind}", kind)


def _folder(identifier: str, title: str, children: list[BrowseMediaSource] | None = None) -> BrowseMediaSource:
    found = BrowseMediaSource(
        domain=DOMAIN,
        identifier=identifier or None,
        media_class=MediaClass.DIRECTORY,
        media_content_type="",
        title=title,
        can_play=False,
        can_expand=True,
        children_media_class=MediaClass.DIRECTORY,
    )
    found.children = children
    return found


def _files(reports: Iterable[Report]) -> list[BrowseMediaSource]:
    return [
        BrowseMediaSource(
            domain=DOMAIN,
            identifier=f"{report.kind}/{report.period}/{report.id}/{file.name}",
            media_class=MediaClass.URL,
            media_content_type=mime_of(file.name),
            title=f"{file.format.upper()} · {report.title}",
            can_play=True,
            can_expand=False,
        )
        for report in reports
        for file in report.files
    ]
