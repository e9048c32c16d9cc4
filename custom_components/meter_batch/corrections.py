"""What a person knows better than the program: an interval is corrected, that is taken back, all of it can be seen.

The ledger keeps the program's value beneath; statistics and subscribers hear of a correction as of any other revision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, DecimalException
from typing import Any, Final
from zoneinfo import ZoneInfo

import probatio
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import config_validation as cv

from .access import Actor
from .commands import find_point, refuse, register
from .const import DOMAIN
from .engine import QUANTITIES, LedgerError, Point
from .engine.ledger import Ledger
from .engine.model.interval import Interval, Quality
from .engine.model.obis import Obis
from .engine.model.quantity import Kind
from .query import async_zone, instant_of
from .site import Site
from .wording import async_in_words, register_names

ACTION: Final = "correct_interval"
"""How the operation log calls it."""
MOST_ENERGY: Final = 10**9
"""No interval holds more: a year of a large power station would not."""
FINEST: Final = Decimal("1e-9")
LONGEST: Final = timedelta(hours=1)

FIELDS: Final[dict[Any, Any]] = {
    probatio.Required("point"): cv.string,
    probatio.Required("start"): cv.string,
    probatio.Optional("energies"): {cv.string: probatio.Any(str, int, float)},
    probatio.Optional("take_back", default=False): cv.boolean,
    probatio.Required("reason"): probatio.All(cv.string, probatio.Length(max=1000)),
}
"""How a correction is written."""
REVISIONS: Final[dict[Any, Any]] = {probatio.Required("point"): cv.string, probatio.Required("start"): cv.string}


@dataclass(frozen=True, slots=True)
class Correction:
    """What is to become of one interval; `energies` is None to take back what a person said before."""

    point: Point
    start: datetime
    zone: ZoneInfo
    energies: Mapping[Obis, Decimal] | None
    reason: str


async def async_correct(site: Site, actor: Actor, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Corrects an interval, or takes that back; says what it was and is. ServiceValidationError where it cannot be."""
    wanted = await _parse(site, asked)
    point, start = wanted.point, wanted.start
    before = await _called(site, lambda ledger: _interval(ledger, wanted))
    energies = None
    if wanted.energies is None:
        if Quality.EDITED not in before.flags:
            raise refuse("not_corrected", point=point.name, start=_said(start, wanted.zone))
    else:
        known = await _called(site, lambda ledger: _registers(ledger, point.id, start))
        if strange := [obis for obis in wanted.energies if obis not in known]:
            raise refuse(
                "register_not_there",
                point=point.name,
                register=register_names(site.hass, strange),
                some=", ".join(QUANTITIES[obis].key for obis in sorted(known)),
            )
        energies = {**before.energies, **wanted.energies}
    shown = _as_dict(before, wanted.zone)
    details = {
        "point": point.id,
        "start": start.isoformat(),
        "reason": wanted.reason,
        "before": shown["energies"],
        "after": None if energies is None else _energies(energies),
    }
    try:
        await site.log.async_write(actor, ACTION, **details)
    except OSError as error:
        raise refuse("log_failed", error=str(error)) from error

    def work(ledger: Ledger) -> tuple[int, Interval | None] | None:
        if _find(ledger, point.id, start) != before:
            return None
        revision = ledger.edit(point.id, start, energies, author=actor.name, reason=wanted.reason)
        return revision, _find(ledger, point.id, start)

    try:
        done = await _called(site, work, {point.id})
        if done is None:
            raise refuse("changed_meanwhile", point=point.name, start=_said(start, wanted.zone))
    except HomeAssistantError as error:
        with suppress(OSError):
            await site.log.async_write(actor, f"{ACTION}_failed", **details, error=error.translation_key)
        raise
    revision, now = done
    return {
        "id": point.id,
        "name": point.name,
        "revision": revision,
        "before": shown,
        "now": None if now is None else _as_dict(now, wanted.zone),
    }


async def async_revisions(site: Site, asked: Mapping[str, Any]) -> dict[str, Any]:
    """All that was ever said of an interval, oldest first: by whom, why and when, and which of it counts."""
    wanted = await _parse(site, asked)

    def work(ledger: Ledger) -> tuple[Interval | None, list[tuple[Interval, str, str, datetime]]]:
        found = ledger.history(wanted.point.id, wanted.start) if wanted.point.id in ledger.points else []
        # One that was withdrawn has revisions and is no interval any more.
        return (_find(ledger, wanted.point.id, wanted.start) if found else _interval(ledger, wanted)), found

    counts, found = await _called(site, work)
    return {
        "id": wanted.point.id,
        "name": wanted.point.name,
        "start": wanted.start.astimezone(wanted.zone).isoformat(),
        "revisions": [
            {
                **_as_dict(one, wanted.zone),
                "author": author,
                "reason": reason,
                "at": at.isoformat(),
                "current": counts is not None and one.revision == counts.revision,
            }
            for one, author, reason, at in found
        ],
    }


async def _parse(site: Site, asked: Mapping[str, Any]) -> Correction:
    point = find_point(site, asked["point"])
    if point.virtual:
        parts = [site.registry.points[one.point].name for one in point.formula if one.point in site.registry.points]
        raise refuse("virtual_no_intervals", point=point.name, parts=", ".join(parts))
    zone = await async_zone(site)
    start = instant_of(asked["start"], zone)
    reason = asked.get("reason", "").strip()
    energies = None
    if "reason" in asked:
        if bool(asked.get("energies")) is asked["take_back"]:
            raise refuse("energies_or_take_back")
        if not reason:
            raise refuse("reason_missing")
        if not asked["take_back"]:
            energies = {obis: _energy(obis, raw) for obis, raw in _by_register(asked["energies"])}
    return Correction(point, start, zone, energies, reason)


def _by_register(energies: Mapping[str, object]) -> list[tuple[Obis, object]]:
    return [(register(text.strip()), raw) for text, raw in energies.items()]


def _energy(obis: Obis, raw: object) -> Decimal:
    """An energy as a person writes it; ServiceValidationError where it can be none."""
    quantity = QUANTITIES[obis]
    if quantity.kind not in (Kind.CUMULATIVE, Kind.BALANCE):
        raise refuse("no_energy", register=quantity.key)
    try:
        value = Decimal(str(raw).strip())
        good = value.is_finite() and abs(value) < MOST_ENERGY and value == value.quantize(FINEST)
    except DecimalException:
        good = False
    if not good or (value < 0 and quantity.kind is Kind.CUMULATIVE):
        raise refuse("bad_energy", value=str(raw), register=quantity.key, unit=quantity.unit)
    return Decimal(f"{value:f}")


async def _called[T](site: Site, work: Callable[[Ledger], T], changed: Iterable[str] = ()) -> T:
    try:
        return await site.ledger.async_call(work, changed)
    except LedgerError as error:
        raise HomeAssistantError(
            translation_domain=DOMAIN,
            translation_key="ledger_failed",
            translation_placeholders={"error": await async_in_words(site.hass, error.text)},
        ) from error


def _around(ledger: Ledger, point: str, at: datetime) -> Interval | None:
    """The interval of the final layer that holds an instant."""
    if point not in ledger.points:
        return None
    found = ledger.intervals([point], at - LONGEST, at + timedelta(seconds=1))
    return found[-1] if found and found[-1].end > at else None


def _find(ledger: Ledger, point: str, start: datetime) -> Interval | None:
    """The interval of the final layer that begins then."""
    found = _around(ledger, point, start)
    return found if found is not None and found.start == start else None


def _interval(ledger: Ledger, wanted: Correction) -> Interval:
    """The same, or a ServiceValidationError that says which one is there."""
    found = _around(ledger, wanted.point.id, wanted.start)
    name, at = wanted.point.name, _said(wanted.start, wanted.zone)
    if found is None:
        raise refuse("no_interval", point=name, start=at)
    if found.start != wanted.start:
        since, until = _said(found.start, wanted.zone), _said(found.end, wanted.zone)
        raise refuse("no_interval_but", point=name, start=at, since=since, until=until)
    return found


def _registers(ledger: Ledger, point: str, start: datetime) -> set[Obis]:
    """What an interval has, in whatever revision."""
    return {obis for one, *_ in ledger.history(point, start) for obis in one.energies}


def _said(at: datetime, zone: ZoneInfo) -> str:
    return at.astimezone(zone).isoformat(sep=" ", timespec="seconds" if at.second else "minutes")


def _energies(energies: Mapping[Obis, Decimal]) -> dict[str, str]:
    return {QUANTITIES[obis].key: f"{value:f}" for obis, value in sorted(energies.items())}


def _as_dict(one: Interval, zone: ZoneInfo) -> dict[str, Any]:
    """An interval as JSON values, its energies as text to the last digit."""
    return {
        "start": one.start.astimezone(zone).isoformat(),
        "end": one.end.astimezone(zone).isoformat(),
        "energies": _energies(one.energies),
        "flags": sorted(one.flags),
        "source": one.source,
        **({"rule": one.rule} if one.rule else {}),
        "revision": one.revision,
    }
