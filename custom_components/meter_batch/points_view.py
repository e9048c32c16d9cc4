"""Lists of points to download: what is there, an empty one to begin with, and a file with its problems marked."""

from __future__ import annotations

from datetime import timedelta
from http import HTTPStatus
from pathlib import PurePath
from urllib.parse import quote

from aiohttp import hdrs, web
from homeassistant.components.http.auth import async_sign_path
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import translation
from homeassistant.helpers.http import KEY_HASS, HomeAssistantView
from homeassistant.util.hass_dict import HassKey
from homeassistant.util.ulid import ulid_now
from yarl import URL

from . import access, query
from .access import Operation
from .api import answered, asked_for, user_of
from .cells import COLUMNS, as_rows, header_in
from .commands import refuse
from .const import DOMAIN, Detail
from .sample import Hint, write_sample
from .site import Site, async_get_site
from .table import write_csv, write_xlsx

OPEN_WITHIN = timedelta(hours=2)
MOST_MARKED = 8
"""So many marked files are kept in memory, the last ones."""
TYPES = {
    "csv": "text/csv; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
_MARKED: HassKey[dict[str, tuple[str, bytes]]] = HassKey(f"{DOMAIN}_marked")


@callback
def async_setup(hass: HomeAssistant) -> None:
    """Registers the views."""
    hass.http.register_view(PointsView())
    hass.http.register_view(MarkedView())


def _answer(name: str, data: bytes) -> web.Response:
    return web.Response(
        body=data,
        headers={
            hdrs.CONTENT_TYPE: TYPES[name.rpartition(".")[2]],
            hdrs.CONTENT_DISPOSITION: f"attachment; filename*=UTF-8''{quote(name)}",
            hdrs.CACHE_CONTROL: "private, no-store",
            "X-Content-Type-Options": "nosniff",
        },
    )


class PointsView(HomeAssistantView):
    """The list of points as a file: `format` csv or xlsx, `language`, `lines`; `sample` for an empty one."""

    url = f"/api/{DOMAIN}/points"
    name = f"api:{DOMAIN}:points"

    @answered
    async def get(self, request: web.Request) -> web.StreamResponse:
        """The file."""
        hass = request.app[KEY_HASS]
        site = await async_get_site(hass)
        kind = request.query.get("format", "xlsx")
        if kind not in TYPES:
            raise refuse("unknown_format", format=kind, some=", ".join(TYPES))
        language = request.query.get("language", hass.config.language)
        if "sample" in request.query:
            access.check_user(user_of(request), Operation.READ)
            return _answer(f"points.{kind}", await async_sample(site, kind, language))
        points = query.points_of(site, asked_for(request))
        access.check_user(user_of(request), Operation.READ, (point.id for point in points))
        known = site.known()
        data = await hass.async_add_executor_job(lambda: as_file(as_rows(points, known, language), kind))
        return _answer(f"points.{kind}", data)


class MarkedView(HomeAssistantView):
    """A file that somebody wanted to import, with what is wrong written into it."""

    url = f"/api/{DOMAIN}/points/marked/{{key}}"
    name = f"api:{DOMAIN}:points:marked"

    @answered
    async def get(self, request: web.Request, key: str) -> web.StreamResponse:
        """The file, while it is remembered."""
        access.check_user(user_of(request), Operation.CONFIGURE)
        found = request.app[KEY_HASS].data.get(_MARKED, {}).get(key)
        if found is None:
            return self.json_message("gone", HTTPStatus.NOT_FOUND)
        return _answer(*found)


def as_file(rows: list[list[str]], kind: str) -> bytes:
    """A list as the bytes of a file. The mark before CSV tells Excel that the text is UTF-8."""
    return write_xlsx(rows) if kind == "xlsx" else write_csv(rows).encode("utf-8-sig")


@callback
def list_path(hass: HomeAssistant, line: str | None = None, *, sample: bool = False) -> str:
    """A signed address of the list, or of an empty one."""
    fields = {"format": "xlsx", **({"sample": "1"} if sample else {"lines": line} if line else {})}
    return async_sign_path(hass, str(URL(PointsView.url).with_query(fields)), OPEN_WITHIN)


@callback
def marked_path(hass: HomeAssistant, file_name: str, data: bytes) -> str:
    """Keeps a marked file for a while; its signed address."""
    kept = hass.data.setdefault(_MARKED, {})
    key = ulid_now()
    kept[key] = (f"{PurePath(file_name).stem or 'points'} ✗.xlsx", data)
    for old in list(kept)[:-MOST_MARKED]:
        del kept[old]
    return async_sign_path(hass, MarkedView.url.format(key=key), OPEN_WITHIN)


async def async_sample(site: Site, kind: str, language: str) -> bytes:
    """An empty list: with header, and as a workbook with hints, choices of lines and models, and cells of text."""
    header = header_in(language)
    if kind == "csv":
        return write_csv([header]).encode("utf-8-sig")
    texts = await translation.async_get_translations(site.hass, language, "exceptions", {DOMAIN})

    def said(key: str) -> str:
        return texts.get(f"component.{DOMAIN}.exceptions.{key}.message", "")

    hints = [
        Hint(shown, said(f"column_{name}"), said(f"sample_{name}")) for name, shown in zip(COLUMNS, header, strict=True)
    ]
    lines = sorted(line.title for line in site.known().lines.values())
    models = [(one.id, f"{one.vendor} {one.model}") for _, one in sorted(site.templates.items())]
    names = {key: said(f"sample_sheet_{key}") for key in ("points", "hints", "models")}
    choices = {"line": lines, "detail": [one.value for one in Detail]}
    by_column = {list(COLUMNS).index(name): values for name, values in choices.items()}
    template = list(COLUMNS).index("template")
    return await site.hass.async_add_executor_job(write_sample, hints, by_column, template, models, names)
