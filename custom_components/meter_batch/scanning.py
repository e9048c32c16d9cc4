"""Searching a line for meters: what is looked for, how far it is, and found meters as points.

For the line's options (scan_steps.py), and the action and the WebSocket command (scan_actions.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import product
from typing import Any

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import callback

from . import link
from .access import Actor
from .cells import AddressError, parse_address
from .commands import refuse
from .const import CONF_LINK, LineProtocol, Link
from .coordinator import LineCoordinator
from .engine import InstalledMeter, LineSettings, Point, Route, ScannedMeter, ScanPlan, ScanProgress, ScanResult
from .engine.model.point import PROTOCOLS
from .entity import populations
from .registry import ALWAYS, family, new_id
from .site import Site

LABELS = {
    "modbus": LineProtocol.MODBUS_RTU.label,
    "dlt645-2007": LineProtocol.DLT645_2007.label,
    "dlt645-1997": LineProtocol.DLT645_1997.label,
}


@callback
def plan(site: Site, entry: ConfigEntry, given: Mapping[str, Any]) -> ScanPlan:
    """What is looked for on a line: as `given`, and for the rest as the line is set. ConfigError where it cannot be.

    `given`: protocols, first, last, bauds and parities (tried besides the line's own), identify, thorough.
    """
    spoken = link.protocol(entry.data)
    wire = link.settings(entry.data, entry.options)
    bauds = dict.fromkeys((wire.baud, *(given.get("bauds") or ())))
    parities = dict.fromkeys((wire.parity, *(given.get("parities") or ())))
    known = {
        (protocol, route.address)
        for _, route in site.registry.on_line(entry.entry_id)
        for protocol in PROTOCOLS
        if family(protocol) == family(route.protocol)
    }
    return ScanPlan(
        protocols=tuple(given.get("protocols") or (one for one in PROTOCOLS if spoken.speaks(one))),
        settings=tuple(replace(wire, baud=baud, parity=parity) for baud, parity in product(bauds, parities)),
        known=frozenset(known),
        templates=tuple(site.templates.values()),
        **{key: given[key] for key in ("first", "last", "identify", "thorough") if key in given},
    )


@callback
def sets_its_port(entry: ConfigEntry) -> bool:
    """True where baud and parity are set from here, so that others can be tried."""
    return bool(entry.data[CONF_LINK] == Link.SERIAL)


class Search:
    """One search of a line: how far it is, and the meters found until now. It ends where its task is cancelled."""

    def __init__(self, coordinator: LineCoordinator, plan: ScanPlan) -> None:
        self.plan = plan
        self.share = 0.0
        """How much of it is done, from 0 to 1; less than before where there turned out to be more to do."""
        self.at: ScanProgress | None = None
        self.result: ScanResult | None = None
        self._meters: dict[tuple[str, str], ScannedMeter] = {}
        self._coordinator = coordinator
        self._began = 0.0

    @property
    def entry(self) -> ConfigEntry:
        """The line."""
        return self._coordinator.config_entry

    @property
    def meters(self) -> tuple[ScannedMeter, ...]:
        """What was found until now; in order, once it is over."""
        return self.result.meters if self.result else tuple(self._meters.values())

    async def async_run(
        self, actor: Actor, progress: Callable[[], None], found: Callable[[ScannedMeter], None] | None = None
    ) -> ScanResult:
        """Searches; HomeAssistantError in words where that fails. Who did it is in the operation log."""
        entry, site = self.entry, self._coordinator.site
        what = {"protocols": list(self.plan.protocols), "first": self.plan.first, "last": self.plan.last}
        await site.log.async_write(actor, "scan_line", line=entry.entry_id, plan=what)
        self._began = asyncio.get_running_loop().time()

        def on_progress(at: ScanProgress) -> None:
            before, self.at = self.at, at
            if before is None or at.settings != before.settings:
                self._began = asyncio.get_running_loop().time()
            spent_s = asyncio.get_running_loop().time() - self._began
            part = spent_s / ((spent_s + at.remaining_s) or 1.0)
            settings = self.plan.settings
            share = min(1.0, (settings.index(at.settings) + part) / len(settings))
            # It falls where there turns out to be more to ask; else an estimate that wavers does not show.
            same = before if before is not None and at.phase == before.phase else None
            more = same is not None and (at.total > same.total or at.done < same.done)
            self.share = share if more else max(self.share, share)
            progress()

        def on_found(meter: ScannedMeter) -> None:
            self._meters[meter.key] = meter
            if found is not None:
                found(meter)

        self.result = await self._coordinator.async_scan(self.plan, on_progress, on_found)
        return self.result


def hindrance(entry: ConfigEntry, meter: ScannedMeter) -> str | None:
    """Why a found meter cannot become a point as it is, as a key of the translations; None where it can."""
    spoken = link.protocol(entry.data)
    if meter.known:
        return "scan_known"
    if meter.clash:
        return "scan_clash"
    if meter.garbled:
        return "scan_garbled"
    try:
        parse_address(meter.address, meter.protocol)
    except AddressError:
        return "scan_no_address"
    if not spoken.speaks(meter.protocol):
        return "scan_other_protocol"
    wire = link.settings(entry.data, entry.options)
    if (meter.settings.baud, meter.settings.parity) != (wire.baud, wire.parity):
        return "scan_other_settings"
    return None


@callback
def facts(site: Site, entry: ConfigEntry, meter: ScannedMeter) -> dict[str, str]:
    """What the texts of a hindrance name."""
    families = (
        (family(route.protocol), route.address, point) for point, route in site.registry.on_line(entry.entry_id)
    )
    owner = next((one for *key, one in families if key == [family(meter.protocol), meter.address]), None)
    return {
        "name": owner.name if owner else "?",
        "settings": written(meter.settings),
        "set": written(link.settings(entry.data, entry.options)),
        "protocol": LABELS[meter.protocol],
    }


def written(wire: LineSettings) -> str:
    """Settings of a port as people write them."""
    return "Modbus TCP" if wire.framing == "tcp" else f"{wire.baud} {wire.data_bits}{wire.parity}{wire.stop_bits}"


def models(site: Site, meter: ScannedMeter) -> list[str]:
    """The ids of the models among which a person chooses: the likely one first; all of the protocol where none is."""
    likely = [meter.template_id] if meter.template_id else list(meter.ties)
    if known := [one for one in likely if one in site.templates]:
        return known
    return sorted(id_ for id_, one in site.templates.items() if one.protocol == meter.protocol)


def clear(site: Site, meter: ScannedMeter) -> bool:
    """True where it is clear which model a meter is."""
    return len(models(site, meter)) == 1


@callback
def points(site: Site, entry: ConfigEntry, chosen: Iterable[tuple[ScannedMeter, str]]) -> list[Point]:
    """New points for found meters, each with the id of its model; called by model and address, none twice."""
    taken = {point.name.casefold() for point in site.registry.points.values()}
    made = []
    for meter, template in chosen:
        name = f"{site.templates[template].name} {meter.address}"
        if name.casefold() in taken:
            name = f"{entry.title} {name}"
        number, first = 1, name
        while name.casefold() in taken:
            number += 1
            name = f"{first} ({number})"
        taken.add(name.casefold())
        made.append(
            Point(
                id=new_id(),
                name=name,
                meters=(InstalledMeter(ALWAYS, template, meter.serial),),
                routes=(Route(entry.entry_id, meter.protocol, meter.address),),
            )
        )
    return made


@callback
def coordinator_of(site: Site, line: str) -> LineCoordinator:
    """Of a line that is running; else refused in words."""
    if (population := populations(site.hass).get(line)) is None:
        raise refuse("scan_not_running", line=site.known().lines[line].title)
    return population.coordinator
