"""Options of a line: how often it is read, and its points: added one by one, edited, or imported from a file."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import probatio
from homeassistant.components.file_upload import process_uploaded_file
from homeassistant.config_entries import ConfigFlowResult, OptionsFlowWithReload
from homeassistant.helpers import area_registry as ar
from homeassistant.helpers import translation
from homeassistant.helpers.selector import (
    AreaSelector,
    FileSelector,
    FileSelectorConfig,
    NumberSelector,
    NumberSelectorConfig,
    NumberSelectorMode,
    SelectOptionDict,
    SelectSelector,
    SelectSelectorConfig,
    SelectSelectorMode,
    TextSelector,
)

from . import access, link, virtual_form
from .cells import MAX_NAME, AddressError, Known, parse_address, parse_instant, parse_ratio
from .const import (
    CONF_BACKFILL,
    CONF_BACKFILL_SHARE,
    CONF_BILLING_DAY,
    CONF_BILLING_HOUR,
    CONF_CLOCK_CARE,
    CONF_DETAIL,
    CONF_ENTITY_STATISTICS,
    CONF_FAST,
    CONF_GAP,
    CONF_INTERVAL,
    CONF_PREAMBLE,
    CONF_SLOW,
    DEFAULT_FAST_S,
    DEFAULT_INTERVAL_MIN,
    DEFAULT_SLOW_S,
    DETAIL_AUTO,
    DOMAIN,
    INTERVALS_MIN,
    Detail,
)
from .dated import installed, with_multiplier
from .engine import Multiplier, Point, Route, Template
from .importer import DryRun, Outcome, dry_run
from .registry import ALWAYS, RegistryConflict, new_id
from .site import Site, async_get_site, flow_actor

SHOWN = 40
"""So many problems or changed rows are listed on the page of a dry run; the rest is counted."""


def _number(least: float, most: float, unit: str | None = None) -> NumberSelector:
    config = NumberSelectorConfig(min=least, max=most, step=1, mode=NumberSelectorMode.BOX)
    if unit is not None:
        config["unit_of_measurement"] = unit
    return NumberSelector(config)


def _choice(options: list[str], key: str | None = None) -> SelectSelector:
    config = SelectSelectorConfig(options=options, mode=SelectSelectorMode.DROPDOWN)
    if key is not None:
        config["translation_key"] = key
    return SelectSelector(config)


_DETAIL = _choice([DETAIL_AUTO, *(one.value for one in Detail)], "detail")

SETTINGS = probatio.Schema(
    {
        probatio.Required(CONF_FAST, default=DEFAULT_FAST_S): _number(1, 3600, "s"),
        probatio.Required(CONF_SLOW, default=DEFAULT_SLOW_S): _number(10, 86400, "s"),
        probatio.Required(CONF_INTERVAL, default=str(DEFAULT_INTERVAL_MIN)): _choice(
            [str(one) for one in INTERVALS_MIN]
        ),
        probatio.Required(CONF_DETAIL, default=DETAIL_AUTO): _DETAIL,
        probatio.Required(CONF_ENTITY_STATISTICS, default=False): bool,
        probatio.Required(CONF_BACKFILL, default=True): bool,
        probatio.Required(CONF_BILLING_DAY, default=1): _number(1, 28),
        probatio.Required(CONF_BILLING_HOUR, default=0): _number(0, 23),
    }
)
CLOCK_CARE = {probatio.Required(CONF_CLOCK_CARE, default=True): bool}
GAP = {probatio.Required(CONF_GAP, default=0): _number(0, 1000, "ms")}
PREAMBLE = {probatio.Required(CONF_PREAMBLE, default=0): _number(0, 16)}
"""Of lines with such meters only."""


class LineOptionsFlow(OptionsFlowWithReload):
    """What concerns points is applied at once and live; only the settings of the line reload it."""

    def __init__(self) -> None:
        self._dry: DryRun | None = None
        self._file = (b"", "")  # content and name
        self._known: Known | None = None
        self._point: Point | None = None

    async def async_step_init(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Asks what to do."""
        options = ["settings", "add_point", "import_points"]
        site = await async_get_site(self.hass)
        count = sum(1 for _ in site.registry.at_home(self.config_entry.entry_id))
        if count:
            options[2:2] = ["add_virtual_point", "edit_point"]
        # The title of a menu takes no placeholders.
        about = {"line": self.config_entry.title, "count": str(count)}
        return self.async_show_menu(step_id="init", menu_options=options, description_placeholders=about)

    async def async_step_settings(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """How often the line is read and how much of it is shown."""
        if user_input is not None:
            actor = flow_actor(access.Operation.CONFIGURE)
            entry = self.config_entry
            after = {**user_input, CONF_INTERVAL: int(user_input[CONF_INTERVAL])}
            log = (await async_get_site(self.hass)).log
            await log.async_write(actor, "line_settings", line=entry.entry_id, before=dict(entry.options), after=after)
            return self.async_create_entry(data=after)
        options = dict(self.config_entry.options)
        if CONF_INTERVAL in options:
            options[CONF_INTERVAL] = str(options[CONF_INTERVAL])
        return self.async_show_form(
            step_id="settings", data_schema=self.add_suggested_values_to_schema(self._settings(), options)
        )

    def _settings(self) -> probatio.Schema:
        spoken = link.protocol(self.config_entry.data)
        share = {probatio.Required(CONF_BACKFILL_SHARE, default=spoken.backfill_percent): _number(1, 100, "%")}
        schema = SETTINGS.extend(share)
        if spoken.on_a_wire:
            schema = schema.extend(GAP)
        return schema.extend({**CLOCK_CARE, **PREAMBLE}) if spoken.has_dlt645 else schema

    # --- one point ---

    async def async_step_add_point(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """A new point on this line."""
        site = await async_get_site(self.hass)
        errors: dict[str, str] = {}
        placeholders: dict[str, str] = {}
        if user_input is not None:
            point, errors = self._read(site, user_input, None)
            if point is not None and not errors:
                errors, placeholders = await self._apply(site, {point.id: point}, "add_point")
                if not errors:
                    return self._done()
        schema = self._schema(site, None)
        return self.async_show_form(
            step_id="add_point",
            data_schema=self.add_suggested_values_to_schema(schema, user_input or {}),
            errors=errors,
            description_placeholders={"name": "", "address": "", **placeholders},
        )

    async def async_step_edit_point(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Which point."""
        site = await async_get_site(self.hass)
        if user_input is not None:
            self._point = site.registry.points[user_input["point"]]
            if self._point.virtual:
                return await self.async_step_change_virtual_point()
            return await self.async_step_change_point()
        own = site.registry.at_home(self.config_entry.entry_id)
        return self.async_show_form(
            step_id="edit_point", data_schema=probatio.Schema({probatio.Required("point"): virtual_form.pick(own)})
        )

    async def async_step_add_virtual_point(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """A new point that is worked out from others."""
        return await self._virtual_point("add_virtual_point", None, user_input)

    async def async_step_change_virtual_point(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Changes or removes the virtual point that was picked."""
        return await self._virtual_point("change_virtual_point", self._point, user_input)

    async def _virtual_point(self, step: str, old: Point | None, user_input: dict[str, Any] | None) -> ConfigFlowResult:
        site = await async_get_site(self.hass)
        errors: dict[str, str] = {}
        placeholders: dict[str, str] = {}
        if user_input is not None:
            if old is not None and user_input.get("remove"):
                errors, placeholders = await self._apply(site, {old.id: None}, "remove_point")
            else:
                point, errors = virtual_form.read(self.hass, user_input, old)
                if point is not None:
                    action = "edit_point" if old else "add_point"
                    errors, placeholders = await self._apply(site, {point.id: point}, action)
            if not errors:
                return self._done()
        schema = virtual_form.schema(site, old, _DETAIL)
        shown = user_input or (virtual_form.filled(self.hass, old) if old else {})
        return self.async_show_form(
            step_id=step,
            data_schema=self.add_suggested_values_to_schema(schema, shown),
            errors=errors,
            description_placeholders={"name": old.name if old else "", "part": "", **placeholders},
        )

    async def async_step_change_point(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Changes or removes the point that was picked."""
        site = await async_get_site(self.hass)
        old = self._point
        assert old is not None
        errors: dict[str, str] = {}
        placeholders: dict[str, str] = {}
        if user_input is not None:
            if user_input.get("remove"):
                errors, placeholders = await self._apply(site, {old.id: None}, "remove_point")
            else:
                point, errors = self._read(site, user_input, old)
                if point is not None and not errors:
                    errors, placeholders = await self._apply(site, {point.id: point}, "edit_point")
            if not errors:
                return self._done()
        return self.async_show_form(
            step_id="change_point",
            data_schema=self.add_suggested_values_to_schema(self._schema(site, old), user_input or self._form(old)),
            errors=errors,
            description_placeholders={"name": old.name, "address": "", **placeholders},
        )

    def _schema(self, site: Site, old: Point | None) -> probatio.Schema:
        spoken = link.protocol(self.config_entry.data)
        templates = [one for _, one in sorted(site.templates.items()) if spoken.speaks(one.protocol)]
        fields: dict[Any, Any] = {
            probatio.Required("name"): TextSelector(),
            probatio.Required("template"): _models(templates),
            probatio.Required("address"): TextSelector(),
            probatio.Optional("serial"): TextSelector(),
            probatio.Optional("ct"): TextSelector(),
            probatio.Optional("pt"): TextSelector(),
            probatio.Optional("multiplier_since"): TextSelector(),
            probatio.Optional("area"): AreaSelector(),
            probatio.Optional("parent"): virtual_form.pick(
                one for one in site.registry.points.values() if one is not old
            ),
            probatio.Required("detail", default=DETAIL_AUTO): _DETAIL,
        }
        if old is not None:
            fields[probatio.Optional("remove", default=False)] = bool
        return probatio.Schema(fields)

    def _form(self, point: Point) -> dict[str, Any]:
        last = point.multipliers[-1] if point.multipliers else Multiplier(ALWAYS)
        area = ar.async_get(self.hass).async_get_area_by_name(point.area) if point.area else None
        return {
            "name": point.name,
            "template": point.meter.template,
            "address": point.routes[0].address,
            "serial": point.meter.serial,
            "ct": f"{last.ct:f}",
            "pt": f"{last.pt:f}",
            "multiplier_since": None,
            "area": area.id if area else None,
            "parent": point.parent,
            "detail": point.detail or DETAIL_AUTO,
        }

    def _read(self, site: Site, form: dict[str, Any], old: Point | None) -> tuple[Point | None, dict[str, str]]:
        """The point a form describes, or what is wrong with which of its fields."""
        errors: dict[str, str] = {}
        name = " ".join(form["name"].split())
        if not name:
            errors["name"] = "name_missing"
        elif len(name) > MAX_NAME:
            errors["name"] = "name_too_long"
        protocol = site.templates[form["template"]].protocol
        address = ""
        try:
            address, _ = parse_address(form["address"], protocol)
        except AddressError as error:
            errors["address"] = error.key
        ratios: dict[str, Decimal] = {}
        for key in ("ct", "pt"):
            try:
                ratios[key] = parse_ratio(form.get(key) or "")
            except ValueError:
                errors[key] = "bad_ratio"
        since = None
        if text := form.get("multiplier_since"):
            try:
                since = parse_instant(text, site.known().time_zone)
            except ValueError:
                errors["multiplier_since"] = "bad_date"
        if errors:
            return None, errors
        now = site.known().now
        area = ar.async_get(self.hass).async_get_area(form["area"]) if form.get("area") else None
        route = Route(self.config_entry.entry_id, protocol, address)
        detail = form["detail"]
        serial = (form.get("serial") or "").strip() or None
        return Point(
            id=old.id if old else new_id(),
            name=name,
            meters=installed(old.meters if old else (), form["template"], serial, now),
            routes=(route, *(old.routes[1:] if old else ())),
            multipliers=with_multiplier(
                old.multipliers if old else (), ratios["ct"], ratios["pt"], since, now if old else ALWAYS
            ),
            area=area.name if area else None,
            parent=form.get("parent"),
            detail=None if detail == DETAIL_AUTO else detail,
            attributes=old.attributes if old else {},
        ), {}

    async def _apply(
        self, site: Site, changes: dict[str, Point | None], action: str
    ) -> tuple[dict[str, str], dict[str, str]]:
        actor = flow_actor(access.Operation.CONFIGURE)
        try:
            await site.registry.async_apply(changes, actor, action)
        except RegistryConflict as conflict:
            first = conflict.conflicts[0]
            field = first.field if first.point in changes and changes[first.point] is not None else "base"
            field = "plus" if field == "formula" else field
            return {field: first.key}, first.placeholders
        return {}, {}

    def _done(self) -> ConfigFlowResult:
        return self.async_create_entry(data=dict(self.config_entry.options))

    # --- a file ---

    async def async_step_import_points(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """A file, of which nothing is applied yet."""
        if user_input is not None:
            flow_actor(access.Operation.CONFIGURE)
            site = await async_get_site(self.hass)
            self._known = site.known(self.config_entry.entry_id)

            def read() -> tuple[bytes, str]:
                with process_uploaded_file(self.hass, user_input["file"]) as path:
                    return Path(path).read_bytes(), path.name

            self._file = await self.hass.async_add_executor_job(read)
            self._dry = await self._dry_run(self._known)
            return await self.async_step_review()
        return self.async_show_form(
            step_id="import_points",
            data_schema=probatio.Schema(
                {probatio.Required("file"): FileSelector(FileSelectorConfig(accept=".csv,.txt,.tsv,.xlsx"))}
            ),
        )

    async def _dry_run(self, known: Known) -> DryRun:
        data, name = self._file
        return await self.hass.async_add_executor_job(dry_run, data, known, name)

    async def async_step_review(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """What the file would do, row by row; then applies it as a whole."""
        site = await async_get_site(self.hass)
        dry = self._dry
        assert dry is not None
        errors: dict[str, str] = {}
        placeholders: dict[str, str] = {"address": "", "name": ""}
        if user_input is not None:
            # Points may have changed while somebody read: what is applied is made from what is there now, and is what
            # was shown. The instant is that of the first run, since it is shown too.
            assert self._known is not None
            known = replace(site.known(self.config_entry.entry_id), now=self._known.now)
            self._dry = again = await self._dry_run(known)
            if not _same(again, dry):
                errors["base"] = "import_changed"
                user_input = None
            dry = again
        usable = bool(dry.changes(skip_bad=True))
        if user_input is not None:
            skip, remove = user_input.get("skip_bad", False), user_input.get("remove_absent", False)
            changes = dry.changes(skip_bad=skip, remove_absent=remove)
            if dry.problems and not (skip and usable):
                if not usable:
                    return await self.async_step_import_points()
                errors["base"] = "import_has_problems"
            else:
                problems, more = await self._apply(site, changes, "import_points")
                if not problems:
                    return self._done()
                errors["base"] = next(iter(problems.values()))
                placeholders |= more
        fields: dict[Any, Any] = {}
        if dry.problems and usable:
            fields[probatio.Optional("skip_bad", default=False)] = bool
        if dry.absent and not dry.problems:
            fields[probatio.Optional("remove_absent", default=False)] = bool
        placeholders |= {
            "new": str(dry.count(Outcome.NEW)),
            "changed": str(dry.count(Outcome.CHANGED)),
            "unchanged": str(dry.count(Outcome.UNCHANGED)),
            "bad": str(dry.count(Outcome.BAD)),
            "absent": str(len(dry.absent)),
            "list": await self._listed(site, dry),
        }
        return self.async_show_form(
            step_id="review", data_schema=probatio.Schema(fields), errors=errors, description_placeholders=placeholders
        )

    async def _listed(self, site: Site, dry: DryRun) -> str:
        """Problems first, then assumptions, then changes, as lines of Markdown."""
        texts = await translation.async_get_translations(self.hass, self.hass.config.language, "options", {DOMAIN})

        def called(column: str) -> str:
            """As the file calls it; a column that it does not have as the form does."""
            label = texts.get(f"component.{DOMAIN}.options.step.add_point.data.{column}", column)
            return dry.headers.get(column, label).strip() or column

        lines = []
        for mark, problems in (("✗", dry.problems), ("⚠", dry.warnings)):
            for one in await site.async_texts(problems):
                where = "" if one["row"] is None else f"**{one['row']}"
                where += f" · {called(one['column'])}** " if where and one["column"] else "** " if where else ""
                lines.append(f"- {mark} {where}{one['text']}")
        for row in dry.rows:
            if row.outcome is Outcome.NEW:
                lines.append(f"- \\+ **{row.row}** {row.name}")  # a bare + would begin a list in the list
            elif row.outcome is Outcome.CHANGED:
                diff = ", ".join(f"{called(one)}: {old or '–'} → {new or '–'}" for one, (old, new) in row.diff.items())
                lines.append(f"- ± **{row.row}** {row.name}: {diff}")
        more = len(lines) - SHOWN
        return "\n".join(lines[:SHOWN]) + (f"\n- … +{more}" if more > 0 else "")


def _same(one: DryRun, other: DryRun) -> bool:
    """True where both look the same to who reviews them; new points have other ids each time."""
    return _seen(one) == _seen(other)


def _seen(dry: DryRun) -> object:
    rows = [(row.row, row.outcome, row.name, row.diff) for row in dry.rows]
    return rows, dry.problems, dry.warnings, dry.absent


def _models(templates: list[Template]) -> SelectSelector:
    # The id as well: lists of points name models by it.
    options = [SelectOptionDict(value=one.id, label=f"{one.vendor} {one.model} · {one.id}") for one in templates]
    return SelectSelector(SelectSelectorConfig(options=options, mode=SelectSelectorMode.DROPDOWN))
