"""Steps of a line's options that search it for meters: what to look for, how far it is, what was found, adding it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import probatio
from homeassistant.config_entries import ConfigEntryState, ConfigFlowResult
from homeassistant.data_entry_flow import UnknownFlow
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers.selector import (
    SelectOptionDict,
    SelectSelector,
    SelectSelectorConfig,
    SelectSelectorMode,
)

from . import access, link, scanning
from .engine import ScannedMeter
from .engine.model.point import PROTOCOLS
from .flow_steps import LineSteps, number_field
from .site import Site, async_get_site, flow_actor
from .wording import async_in_words, async_message

BAUDS = ["1200", "2400", "4800", "9600", "19200", "38400", "57600", "115200"]
PARITIES = {"none": "N", "even": "E", "odd": "O"}
REFRESH_S = 1.0
"""So often the page of a search that is under way is written anew."""
SHOWN_S = 1.0
"""So long the page of a search stays at least: a browser that is told of its end sooner does not hear it."""
UNSEEN_S = 20.0
"""So long a page may leave what it is told unread before the search is ended: a browser that is closed says nothing."""
MOST_ASKED = 10
"""Up to so many meters are each asked for their model; more are asked for together, by what they may be."""


def _several(options: list[str], key: str) -> SelectSelector:
    mode = SelectSelectorMode.LIST
    return SelectSelector(SelectSelectorConfig(options=options, multiple=True, mode=mode, translation_key=key))


class ScanSteps(LineSteps):
    """Search, see, add. A search that no page shows any more is ended soon; polling goes on then."""

    def __init__(self) -> None:
        super().__init__()
        self._search: scanning.Search | None = None
        self._searching: asyncio.Task[None] | None = None
        self._failed = ""
        self._told_at = 0.0
        self._told: dict[str, str] = {}
        self._unread_since: float | None = None
        self._own_look = False
        self._chosen: list[ScannedMeter] = []

    async def async_step_scan(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """What to look for."""
        entry = self.config_entry
        if entry.state is not ConfigEntryState.LOADED:
            return self.async_abort(reason="line_not_running", description_placeholders={"line": entry.title})
        errors: dict[str, str] = {}
        if user_input is not None:
            if not user_input.get("protocols", True):
                errors["protocols"] = "scan_no_protocol"
            elif user_input["first"] > user_input["last"]:
                errors["last"] = "scan_range"
            elif scanning.coordinator_of(await async_get_site(self.hass), entry.entry_id).scanning:
                errors["base"] = "scan_running"
            else:
                return await self._begin(user_input)
        fields: dict[Any, Any] = {}
        spoken = link.protocol(entry.data)
        if spoken.on_a_wire:
            usual = [one for one in PROTOCOLS if spoken.speaks(one)]
            fields[probatio.Required("protocols", default=usual)] = _several(list(PROTOCOLS), "scan_protocol")
        fields[probatio.Required("first", default=1)] = probatio.All(number_field(1, 247), probatio.Coerce(int))
        fields[probatio.Required("last", default=247)] = probatio.All(number_field(1, 247), probatio.Coerce(int))
        if scanning.sets_its_port(entry):
            fields[probatio.Optional("bauds")] = SelectSelector(
                SelectSelectorConfig(options=BAUDS, multiple=True, mode=SelectSelectorMode.DROPDOWN)
            )
            fields[probatio.Optional("parities")] = _several(list(PARITIES), "parity")
        if spoken.on_a_wire:
            fields[probatio.Required("thorough", default=False)] = bool
        wire = link.settings(entry.data, entry.options)
        return self.async_show_form(
            step_id="scan",
            data_schema=self.add_suggested_values_to_schema(probatio.Schema(fields), user_input or {}),
            errors=errors,
            description_placeholders={"line": entry.title, "settings": scanning.written(wire)},
        )

    async def _begin(self, user_input: dict[str, Any]) -> ConfigFlowResult:
        actor = flow_actor(access.Operation.CONFIGURE)
        site = await async_get_site(self.hass)
        given = {
            **user_input,
            "bauds": [int(one) for one in user_input.get("bauds", ())],
            "parities": [PARITIES[one] for one in user_input.get("parities", ())],
        }
        plan = scanning.plan(site, self.config_entry, given)
        self._search = search = scanning.Search(scanning.coordinator_of(site, self.config_entry.entry_id), plan)
        self._failed, self._told, self._unread_since = "", {}, None

        async def run() -> None:
            until = self.hass.loop.time() + SHOWN_S
            try:
                await search.async_run(actor, self._on_progress)
            except HomeAssistantError as error:
                facts = error.translation_placeholders or {}
                self._failed = await async_message(self.hass, error.translation_key or "", **facts)
            await asyncio.sleep(max(0.0, until - self.hass.loop.time()))

        self._searching = self.hass.async_create_task(run(), f"scan {self.config_entry.title}")
        return await self.async_step_scanning()

    def _on_progress(self) -> None:
        now = self.hass.loop.time()
        if now - self._told_at < REFRESH_S:
            return
        self._told_at = now
        unread = self._unread_since
        if unread is not None and now - unread > UNSEEN_S and self._searching is not None:
            self._searching.cancel()
            return
        self.hass.async_create_task(self._refresh(), f"scan page {self.config_entry.title}")

    async def _refresh(self) -> None:
        """The words of the page, and then how much is done: new words make the page forget that."""
        assert self._search is not None
        self._own_look = True
        with suppress(UnknownFlow):
            await self.hass.config_entries.options.async_configure(self.flow_id)
            self.async_update_progress(self._search.share)

    async def async_step_scanning(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """How far it is."""
        search, task = self._search, self._searching
        assert search is not None and task is not None
        own_look, self._own_look = self._own_look, False
        if task.done():
            return self.async_show_progress_done(next_step_id="found")
        at = search.at
        wire = at.settings if at else search.plan.settings[0]
        told = {
            "settings": scanning.written(wire),
            "number": str(search.plan.settings.index(wire) + 1),
            "count": str(len(search.plan.settings)),
            "done": str(at.done if at else 0),
            "total": str(at.total if at else "…"),
            "found": str(at.found if at else 0),
            "left": f"{at.remaining_s // 60:.0f}:{at.remaining_s % 60:02.0f}" if at else "…",
        }
        # A browser is told of new words only, and reads the page then: one that does not is not there any more.
        if not own_look:
            self._unread_since = None
        elif told != self._told and self._unread_since is None:
            self._unread_since = self.hass.loop.time()
        self._told = told
        return self.async_show_progress(
            step_id="scanning",
            progress_action=at.phase if at else "search",
            description_placeholders=told,
            progress_task=task,
        )

    async def async_step_found(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """What was found; what is chosen becomes points."""
        site = await async_get_site(self.hass)
        search = self._search
        assert search is not None
        free = [one for one in search.meters if scanning.hindrance(self.config_entry, one) is None]
        if not free:
            return await self.async_step_nothing_new()
        errors: dict[str, str] = {}
        placeholders = {"name": "", "address": ""}
        if user_input is not None:
            wanted = set(user_input.get("meters", ()))
            self._chosen = [one for one in free if _value(one) in wanted]
            if not self._chosen:
                return self._done()
            if any(not scanning.clear(site, one) for one in self._chosen):
                return await self.async_step_which_models()
            errors, more = await self._add(site, {})
            if not errors:
                return self._done()
            placeholders |= more
        options = [SelectOptionDict(value=_value(one), label=await self._label(site, one)) for one in free]
        field = SelectSelector(SelectSelectorConfig(options=options, multiple=True, mode=SelectSelectorMode.LIST))
        schema = probatio.Schema(
            {probatio.Required("meters", default=[_value(one) for one in free if one.problem is None]): field}
        )
        return self.async_show_form(
            step_id="found",
            data_schema=self.add_suggested_values_to_schema(schema, user_input or {}),
            errors={"base": next(iter(errors.values()))} if errors else {},
            description_placeholders={
                "new": str(len(free)),
                "remarks": await self._remarks(site),
                **placeholders,
            },
        )

    async def async_step_nothing_new(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Says why nothing can be added, and leads on."""
        search = self._search
        assert search is not None
        site = await async_get_site(self.hass)
        if not self._failed and not search.meters:
            self._failed = await async_message(self.hass, "scan_nobody")
        return self.async_show_menu(
            step_id="nothing_new",
            menu_options=["scan", "add_point", "init"],
            description_placeholders={"remarks": await self._remarks(site)},
        )

    async def async_step_which_models(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """The models of those meters that do not say it themselves."""
        site = await async_get_site(self.hass)
        groups = self._groups(site)
        errors: dict[str, str] = {}
        placeholders = {"name": "", "address": ""}
        if user_input is not None:
            # Not required fields: of those the page would choose the first model by itself.
            errors = {label: "scan_choose_model" for label in groups if label not in user_input}
            if not errors:
                said = {one.key: user_input[label] for label, meters in groups.items() for one in meters}
                problems, more = await self._add(site, said)
                if not problems:
                    return self._done()
                errors["base"] = next(iter(problems.values()))
                placeholders |= more
        fields: dict[Any, Any] = {}
        for label, meters in groups.items():
            options = [
                SelectOptionDict(value=id_, label=f"{site.templates[id_].name} · {id_}")
                for id_ in scanning.models(site, meters[0])
            ]
            config = SelectSelectorConfig(options=options, mode=SelectSelectorMode.DROPDOWN)
            fields[probatio.Optional(label)] = SelectSelector(config)
        return self.async_show_form(
            step_id="which_models",
            data_schema=self.add_suggested_values_to_schema(probatio.Schema(fields), user_input or {}),
            errors=errors,
            description_placeholders=placeholders,
        )

    def _groups(self, site: Site) -> dict[str, list[ScannedMeter]]:
        """The meters that are asked for, by the label of their field."""
        asked = [one for one in self._chosen if not scanning.clear(site, one)]
        if len(asked) <= MOST_ASKED:
            return {
                " · ".join(dict.fromkeys((one.address, one.serial or one.address, *one.glance))): [one] for one in asked
            }
        alike: dict[tuple[str, ...], list[ScannedMeter]] = {}
        for one in asked:
            alike.setdefault(tuple(scanning.models(site, one)), []).append(one)
        return {", ".join(one.address for one in meters): meters for meters in alike.values()}

    async def _add(self, site: Site, said: dict[tuple[str, str], str]) -> tuple[dict[str, str], dict[str, str]]:
        chosen = [(one, said.get(one.key) or scanning.models(site, one)[0]) for one in self._chosen]
        new = scanning.points(site, self.config_entry, chosen)
        return await self._apply(site, {point.id: point for point in new}, "add_scanned")

    async def _label(self, site: Site, meter: ScannedMeter) -> str:
        names = [site.templates[one].name for one in scanning.models(site, meter)]
        model = (
            " / ".join(names) if meter.template_id or meter.ties else await async_message(self.hass, "scan_no_model")
        )
        serial = []
        if meter.serial and meter.serial != meter.address:
            serial.append(await async_message(self.hass, "scan_serial", serial=meter.serial))
        return " · ".join((meter.address, model, *serial, *meter.glance))

    async def _remarks(self, site: Site) -> str:
        """What needs a person's attention, as lines of Markdown: first what is in the way."""
        search = self._search
        assert search is not None
        lines = [self._failed] if self._failed else []
        for one in search.meters:
            key = scanning.hindrance(self.config_entry, one)
            if key is None and one.problem is None:
                continue
            if one.problem is not None:
                said = await async_in_words(self.hass, one.problem)
            else:
                said = await async_message(self.hass, key or "", **scanning.facts(site, self.config_entry, one))
            lines.append(f"**{one.address}** · {said}")
        if search.result is not None and search.result.heard_noise is not None:
            lines.append(await async_in_words(self.hass, search.result.heard_noise))
        begun = search.at is not None or search.result is not None
        if begun and (search.result is None or not search.result.complete):
            lines.append(await async_message(self.hass, "scan_incomplete"))
        return "\n".join(f"- {line}" for line in lines)


def _value(meter: ScannedMeter) -> str:
    return f"{meter.protocol} {meter.address}"
