"""Options of a line: how often it is read, and the way to its points: one by one, found, from a file, commissioning."""

from __future__ import annotations

from typing import Any

import probatio
from homeassistant.config_entries import ConfigFlowResult

from . import access, link
from .commissioning_steps import CommissioningSteps
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
    CONF_OWN_PROCESS,
    CONF_PREAMBLE,
    CONF_SLOW,
    DEFAULT_FAST_S,
    DEFAULT_INTERVAL_MIN,
    DEFAULT_OWN_PROCESS,
    DEFAULT_SLOW_S,
    DETAIL_AUTO,
    INTERVALS_MIN,
)
from .flow_steps import DETAIL, choice, number_field
from .import_steps import ImportSteps
from .point_steps import PointSteps
from .scan_steps import ScanSteps
from .site import async_get_site, flow_actor

SETTINGS = probatio.Schema(
    {
        probatio.Required(CONF_FAST, default=DEFAULT_FAST_S): number_field(1, 3600, "s"),
        probatio.Required(CONF_SLOW, default=DEFAULT_SLOW_S): number_field(10, 86400, "s"),
        probatio.Required(CONF_INTERVAL, default=str(DEFAULT_INTERVAL_MIN)): choice(
            [str(one) for one in INTERVALS_MIN]
        ),
        probatio.Required(CONF_DETAIL, default=DETAIL_AUTO): DETAIL,
        probatio.Required(CONF_ENTITY_STATISTICS, default=False): bool,
        probatio.Required(CONF_BACKFILL, default=True): bool,
        probatio.Required(CONF_BILLING_DAY, default=1): number_field(1, 28),
        probatio.Required(CONF_BILLING_HOUR, default=0): number_field(0, 23),
        probatio.Required(CONF_OWN_PROCESS, default=DEFAULT_OWN_PROCESS): bool,
    }
)
CLOCK_CARE = {probatio.Required(CONF_CLOCK_CARE, default=True): bool}
GAP = {probatio.Required(CONF_GAP, default=0): number_field(0, 1000, "ms")}
PREAMBLE = {probatio.Required(CONF_PREAMBLE, default=0): number_field(0, 16)}
"""Of lines with such meters only."""


class LineOptionsFlow(PointSteps, ScanSteps, ImportSteps, CommissioningSteps):
    """What concerns points is applied at once and live; only the settings of the line reload it."""

    async def async_step_init(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Asks what to do."""
        site = await async_get_site(self.hass)
        count = sum(1 for _ in site.registry.at_home(self.config_entry.entry_id))
        options = ["settings", "add_point"] if count else []
        options += ["scan"]
        options += ["add_virtual_point", "edit_point"] if count else ["add_point"]
        options += ["import_points"]
        options += ["commissioning"] if count else []
        options += ["undo"] if site.registry.undoable else []
        options += [] if count else ["settings"]
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
        share = {probatio.Required(CONF_BACKFILL_SHARE, default=spoken.backfill_percent): number_field(1, 100, "%")}
        schema = SETTINGS.extend(share)
        if spoken.on_a_wire:
            schema = schema.extend(GAP)
        return schema.extend({**CLOCK_CARE, **PREAMBLE}) if spoken.has_dlt645 else schema
