"""Commissioning sheets: one A4 page a meter to print, blank where a person writes, filled in where it is signed off."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from html import escape
from pathlib import Path

from aiohttp import web
from homeassistant.core import HomeAssistant
from homeassistant.helpers import translation
from homeassistant.helpers.http import KEY_HASS, HomeAssistantView
from homeassistant.util import dt as dt_util

from . import access, query
from .access import Operation
from .api import answered, asked_for, user_of
from .commands import line_of
from .commissioning import ENERGY, holds, multiplier_of, outdated, percent
from .const import DOMAIN
from .engine import Point
from .engine.model.obis import Obis
from .engine.model.quantity import QUANTITIES
from .engine.model.reading import Reading
from .place import area_name
from .plausibility import Finding, checks
from .site import Site, async_get_site
from .wording import said

LANGUAGES = ("en", "zh-Hans")
_SHOWN = (
    ("L1", ("1-0:32.7.0", "1-0:31.7.0", "1-0:36.7.0")),
    ("L2", ("1-0:52.7.0", "1-0:51.7.0", "1-0:56.7.0")),
    ("L3", ("1-0:72.7.0", "1-0:71.7.0", "1-0:76.7.0")),
    ("Σ", ("1-0:12.7.0", "1-0:11.7.0", "1-0:16.7.0")),
)
"""Voltage, current and active power of each phase, and of all."""


class SheetsView(HomeAssistantView):
    """The sheets of points, areas or lines, for who has a token or a signed address."""

    url = f"/api/{DOMAIN}/commissioning"
    name = f"api:{DOMAIN}:commissioning"

    @answered
    async def get(self, request: web.Request) -> web.StreamResponse:
        """One document."""
        hass = request.app[KEY_HASS]
        site = await async_get_site(hass)
        points = [point for point in query.points_of(site, asked_for(request)) if not point.virtual]
        access.check_user(user_of(request), Operation.READ, (point.id for point in points))
        language = request.query.get("language") or hass.config.language
        language = "zh-Hans" if language.startswith("zh") else "en"
        words = await async_words(hass, language)
        style = await hass.async_add_executor_job(_style)
        nonce = secrets.token_urlsafe(12)
        sheets = [_Sheet(site, point, words).html() for point in points]
        page = _page(sheets, words, style, language, nonce)
        return web.Response(
            text=page,
            content_type="text/html",
            headers={
                "Content-Security-Policy": f"default-src 'none'; style-src 'unsafe-inline'; script-src 'nonce-{nonce}'",
                "Cache-Control": "private, no-store",
                "X-Content-Type-Options": "nosniff",
                "Referrer-Policy": "no-referrer",
            },
        )


class Words:
    """Texts of one language by key."""

    def __init__(self, texts: Mapping[str, str], names: Mapping[str, str]) -> None:
        self._texts, self._names = texts, names

    def __call__(self, key: str, **facts: object) -> str:
        """A message, safe to be put into HTML."""
        pattern = self._texts[f"component.{DOMAIN}.exceptions.{key}.message"]
        return escape(
            pattern.format(
                **{name: said(self._texts, value) if isinstance(value, str) else value for name, value in facts.items()}
            )
        )

    def register(self, obis: str) -> str:
        """The name of a register."""
        key = QUANTITIES[obis].key
        return escape(self._names.get(f"component.{DOMAIN}.entity.sensor.{key}.name", key))


async def async_words(hass: HomeAssistant, language: str) -> Words:
    """The texts of the sheets in a language, which need not be that of the house."""
    return Words(
        await translation.async_get_translations(hass, language, "exceptions", {DOMAIN}),
        await translation.async_get_translations(hass, language, "entity", {DOMAIN}),
    )


def _style() -> str:
    return (Path(__file__).parent / "commissioning.css").read_text(encoding="utf-8")


def _page(sheets: list[str], words: Words, style: str, language: str, nonce: str) -> str:
    return (
        f'<!doctype html><html lang="{language}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{words('sheet_title')}</title><style>{style}</style></head><body>"
        f'<div class="bar"><span>{words("sheet_title")} · {words("sheet_count", count=len(sheets))}</span>'
        f'<button id="print">{words("sheet_print")}</button></div>{"".join(sheets)}'
        f'<script nonce="{nonce}">document.getElementById("print").onclick = () => print();</script></body></html>'
    )


class _Sheet:
    """The page of one point."""

    def __init__(self, site: Site, point: Point, words: Words) -> None:
        self.site, self.point, self.words = site, point, words
        self.zone = site.known().time_zone
        line = line_of(site.hass, point)
        self.coordinator = line.coordinator if line else None
        self.values: Mapping[str, Reading] = self.coordinator.values.get(point.id, {}) if self.coordinator else {}
        self.template = site.templates.get(point.meter.template)

    def html(self) -> str:
        w, point = self.words, self.point
        return (
            f'<section class="sheet"><header><h1>{escape(point.name)}</h1><span class="kind">{w("sheet_title")}</span>'
            f"</header>{self._identity()}"
            f"<h2>{w('sheet_reading')}</h2>{self._reading()}{self._verdict()}"
            f"<h2>{w('sheet_measured')}</h2>{self._measured()}"
            f"<h2>{w('sheet_checks')}</h2>{self._checks()}"
            f'<h2>{w("sheet_remarks")}</h2><div class="lines">{self._note()}</div>{self._signature()}'
            f"<footer><span>{w('sheet_made', at=self._local(dt_util.utcnow()))}</span>"
            f"<span>{escape(point.id)}</span></footer></section>"
        )

    def _local(self, at: datetime) -> str:
        return at.astimezone(self.zone).strftime("%Y-%m-%d %H:%M")

    def _identity(self) -> str:
        w, point = self.words, self.point
        route = point.routes[0] if point.routes else None
        lines = self.site.known().lines
        last = point.multiplier_at(dt_util.utcnow())
        ct, pt = (last.ct, last.pt) if last else (Decimal(1), Decimal(1))
        model = f"{self.template.vendor} {self.template.model}" if self.template else point.meter.template
        facts = (
            ("sheet_line", lines[route.line].title if route and route.line in lines else "–"),
            ("sheet_address", f"{route.address} ({route.protocol})" if route else "–"),
            ("sheet_model", model),
            ("sheet_area", area_name(self.site.hass, point) or "–"),
            ("sheet_serial", point.meter.serial or "–"),
            ("sheet_ratios", f"CT {ct:f} · PT {pt:f} · × {(ct * pt).normalize() + 0:f}"),
        )
        return "<dl>" + "".join(f"<dt>{w(key)}</dt><dd>{escape(text)}</dd>" for key, text in facts) + "</dl>"

    def _reading(self) -> str:
        w = self.words
        signed = self.point.commissioned if holds(self.point) else None
        register = signed.register if signed and signed.register else self._counter()
        unit = escape(QUANTITIES[register].unit or "")
        multiplier = multiplier_of(self.point, register)
        reading = self.values.get(register)
        read = signed.read if signed and signed.read is not None else None
        at = signed.at if read is not None and signed else None
        if read is None and reading is not None:
            read, at = Decimal(str(reading.value)), reading.at
        own = "–" if read is None else f"{round(read / multiplier, 3):,f}"
        primary = "–" if read is None else f"{round(read, 3):,f}"
        displayed = f"{signed.displayed:,f}" if signed and signed.displayed is not None else ""
        deviation = f"{percent(signed.deviation)} %" if signed and signed.deviation is not None else ""
        when = f'<br><span class="soft">{self._local(at)}</span>' if at else ""
        heads = ("sheet_register", "sheet_displayed", "sheet_read", "sheet_multiplier", "sheet_primary")
        row = "".join(f'<th class="n">{w(key, unit=QUANTITIES[register].unit)}</th>' for key in heads[1:])
        return (
            f"<table><tr><th>{w(heads[0])}</th>{row}<th class='n'>{w('sheet_deviation')}</th></tr>"
            f"<tr><td>{w.register(register)} <span class='soft code'>{register}, {unit}</span></td>"
            f'<td class="n hand">{displayed}</td><td class="n">{own}{when}</td><td class="n">× {multiplier:f}</td>'
            f'<td class="n">{primary}</td><td class="n hand">{deviation}</td></tr></table>'
        )

    def _counter(self) -> Obis:
        """Active energy imported; of a meter that does not have it, the first energy that it has."""
        has = self.template.by_obis if self.template else {}
        if ENERGY in has or ENERGY in self.values:
            return ENERGY
        energies = (one.obis for one in has.values() if one.group == "energy")
        return min(energies, key=lambda obis: obis not in self.values, default=ENERGY)

    def _verdict(self) -> str:
        w, signed = self.words, self.point.commissioned
        if signed is None:
            return f'<p class="verdict open">{w("sheet_open")}</p>'
        at = self._local(signed.at)
        if (changed := outdated(self.point)) is not None:
            return f'<p class="verdict old">{w(f"sheet_changed_{changed}", at=at, by=signed.by)}</p>'
        return f'<p class="verdict">✓ {w("sheet_signed", at=at, by=signed.by)}</p>'

    def _measured(self) -> str:
        w = self.words
        if not any(obis in self.values for _, row in _SHOWN for obis in row):
            return f'<p class="soft">{w("sheet_nothing_measured")}</p>'
        columns = [at for at in range(3) if any(row[at] in self.values for _, row in _SHOWN)]
        heads = ("sheet_voltage", "sheet_current", "sheet_power")
        head = "".join(f'<th class="n">{w(heads[at])}</th>' for at in columns)
        rows = "".join(
            f"<tr><td>{name}</td>" + "".join(f'<td class="n">{self._value(row[at])}</td>' for at in columns) + "</tr>"
            for name, row in _SHOWN
            if any(obis in self.values for obis in row)
        )
        return f"<table><tr><th>{w('sheet_phase')}</th>{head}</tr>{rows}</table>"

    def _value(self, obis: str) -> str:
        reading = self.values.get(obis)
        if reading is None:
            return "–"
        digits = {"V": 1, "A": 2, "kW": 3}.get(QUANTITIES[obis].unit or "", 3)
        return f"{round(float(reading.value), digits):,.{digits}f} {escape(QUANTITIES[obis].unit or '')}"

    def _checks(self) -> str:
        w = self.words
        found = checks(self.point, self.values, self.coordinator)
        rows = "".join(self._check(one) for one in found)
        by_hand = "".join(f'<tr><td class="box">☐</td><td colspan="2">{w(key)}</td></tr>' for key in _BY_HAND)
        return f"<table>{rows}{by_hand}</table>"

    def _check(self, one: Finding) -> str:
        mark = {True: '<span class="ok">✓</span>', False: '<span class="bad">✗</span>', None: "☐"}[one.good]
        style = "bad" if one.good is False else "soft" if one.good is None else ""
        text = self.words(one.key, **one.facts)
        about = self.words(one.about)
        return f'<tr><td class="box">{mark}</td><td class="about">{about}</td><td class="{style}">{text}</td></tr>'

    def _note(self) -> str:
        signed = self.point.commissioned
        return escape(signed.note) if signed and holds(self.point) else ""

    def _signature(self) -> str:
        w = self.words
        signed = self.point.commissioned if holds(self.point) else None
        by, at = (escape(signed.by), signed.at.astimezone(self.zone).strftime("%Y-%m-%d")) if signed else ("", "")
        return (
            f'<div class="sign"><div><b>{by}</b>{w("sheet_by")}</div><div><b>{at}</b>{w("sheet_date")}</div>'
            f"<div>{w('sheet_signature')}</div></div>"
        )


_BY_HAND = ("sheet_hand_serial", "sheet_hand_ct", "sheet_hand_place")
