"""Commissioning: what the meter's display shows is compared with what is read × multiplier, and signed off.

`compare` is pure. Its words are messages of the translations, `commission_…`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from homeassistant.util import dt as dt_util

from .access import Actor
from .cells import decimal, plain
from .commands import async_apply, line_of, refuse
from .engine import Point
from .engine.model.obis import Obis
from .engine.model.point import Commissioned
from .engine.model.quantity import QUANTITIES, Measure
from .engine.model.reading import Reading
from .site import Site
from .wording import async_message, register_names

ENERGY = "1-0:1.8.0"
_POWERS = {"1-0:1.8.0": "1-0:16.7.0", "1-0:2.8.0": "1-0:16.7.0"}
"""The register that says how fast a counter moves."""
LOOKED_BEFORE_H = Decimal(5) / 60
"""So long ago somebody may have looked at the display."""
NEAR = Decimal("0.02")
"""Share by which an instantaneous value may differ, and a factor be off the one it is taken for."""
CT_RATIOS = tuple(
    Decimal(one)
    for one in (10, 15, 20, 30, 40, 50, 60, 80, 100, 120, 150, 160, 200, 240, 250, 300, 320, 400, 500, 600, 800, 1000)
)
"""Of current transformers to 5 A from 50 A on (IEC 61869-2, clause 5.201, and what is usual besides)."""
_ENERGIES = {Measure.ACTIVE_ENERGY, Measure.REACTIVE_ENERGY, Measure.APPARENT_ENERGY}
_PREFIX = {"": Decimal(1), "k": Decimal(1000), "m": Decimal(1_000_000)}
_DISPLAY = re.compile(r"([-+]?)\s*([\d.,\s]*\d)\s*(?:([kKmM]?)(wh|varh|vah|w|var|va|v|a|hz))?", re.IGNORECASE)


def holds(point: Point) -> bool:
    """True where the sign-off of a point still says something: same meter, address and multiplier as then."""
    return point.commissioned is not None and not outdated(point)


def outdated(point: Point) -> str | None:
    """What changed since a point was signed off: "meter", "address" or "ratio"; None where nothing, or never."""
    signed = point.commissioned
    if signed is None or point.virtual:
        return None
    if point.meter.since > signed.at or point.meter.template != signed.template:
        return "meter"
    if signed.address and point.routes and point.routes[0].address != signed.address:
        return "address"
    return "ratio" if signed.multiplier not in {None, multiplier_of(point, ENERGY)} else None


def multiplier_of(point: Point, register: Obis, at: datetime | None = None) -> Decimal:
    """What a register is multiplied by now: CT × PT, or the part of it that counts for such a register."""
    one = point.apply(Reading(register, Decimal(1), at or dt_util.utcnow()))
    return Decimal(str(one.value)).normalize() + 0


@dataclass(frozen=True, slots=True)
class Display:
    """A number as it stands on a display: its value in the unit of the register, and its last digit's worth."""

    value: Decimal
    step: Decimal


def parse_display(text: str, register: Obis) -> Display:
    """A number as people read it off: "001234.56", "1,234.5 kWh", "1.2 MWh". ValueError where it is none."""
    match = _DISPLAY.fullmatch(plain(text))
    if match is None:
        raise ValueError(text)
    try:
        value = decimal(match[2])
    except InvalidOperation as error:
        raise ValueError(text) from error
    exponent = value.as_tuple().exponent
    step = Decimal(1).scaleb(exponent if isinstance(exponent, int) else 0)
    if match[1] == "-":
        value = -value
    unit = QUANTITIES[register].unit
    if match[4]:
        own, base = _unit(unit)
        if match[4].lower() != base:
            raise ValueError(text)
        factor = _PREFIX[match[3].lower()] / own
        value, step = value * factor, step * factor
    return Display(value, step)


def _unit(unit: str) -> tuple[Decimal, str]:
    prefix = unit[0].lower() if len(unit) > 1 and unit[0] in "kM" else ""
    return _PREFIX[prefix], unit.lower()[len(prefix) :]


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a display and a reading compare: whether they agree, and in words (`key`, `facts`) how or why not."""

    agrees: bool
    key: str
    facts: dict[str, str]
    deviation: Decimal | None
    """Relative to the reading; None where that is 0."""


def compare(
    display: Display,
    read: Decimal,
    multiplier: Decimal,
    drift: Decimal = Decimal(0),
    registers: Mapping[str, Decimal] | None = None,
    others: Mapping[str, Decimal] | None = None,
) -> Comparison:
    """Compares a display with a reading that is multiplied already.

    `drift`: by how much the register may have gone on since somebody looked. `registers`: other registers of the
    meter by name, `others`: the same register of other meters by point; one of them may be what was read off. These
    three are not multiplied.
    """
    exponent = read.as_tuple().exponent
    grain = (Decimal(1).scaleb(exponent) if isinstance(exponent, int) else Decimal(0)) / multiplier
    tolerance = display.step + min(grain, display.step * 100) + drift
    own = read / multiplier
    deviation = (display.value - own) / own if own else None
    if display.value == own == 0:
        return Comparison(True, "commission_zero", {}, deviation)
    if abs(display.value - own) <= tolerance:
        return Comparison(True, "commission_agrees", {"percent": percent(deviation)}, deviation)
    if multiplier != 1 and abs(display.value - read) <= tolerance * multiplier:
        deviation = (display.value - read) / read if read else None
        return Comparison(True, "commission_agrees_primary", {"percent": percent(deviation)}, deviation)
    for key, values in (("commission_other_register", registers or {}), ("commission_other_point", others or {})):
        # they were read some time ago
        found = [
            name for name, value in values.items() if value and abs(display.value - value) <= tolerance + value / 1000
        ]
        if len(found) == 1:
            return Comparison(False, key, {"name": found[0]}, deviation)
    if not own or not display.value:
        return Comparison(False, "commission_one_zero", {}, deviation)
    key, facts = _factor(display.value / own, multiplier)
    return Comparison(False, key, {"percent": percent(deviation), **facts}, deviation)


def _factor(factor: Decimal, multiplier: Decimal) -> tuple[str, dict[str, str]]:
    for power in (1000, 10, 100, 10_000):
        if _near(factor, Decimal(power)) or _near(factor, 1 / Decimal(power)):
            if power == 10 and multiplier != 1 and _near(factor, multiplier):
                break
            key = "commission_unit" if power == 1000 else "commission_tenfold"
            return key + ("_more" if factor > 1 else "_less"), {"factor": str(power)}
    for ratio in CT_RATIOS:
        if _near(factor, ratio):
            return "commission_ratio_display", {"factor": f"{ratio:f}", "ratio": f"{ratio * 5:f}/5"}
        if _near(factor, 1 / ratio):
            return "commission_ratio_meter", {"factor": f"{ratio:f}", "ratio": f"{ratio * 5:f}/5"}
    return "commission_differs", {}


def _near(value: Decimal, other: Decimal) -> bool:
    return abs(value / other - 1) <= NEAR


def percent(deviation: Decimal | None) -> str:
    """A share as percent with its sign, but for what is rounded to nothing; "–" where there is none."""
    if deviation is None:
        return "–"
    rounded = round(deviation * 100, 2)
    return f"{rounded:+f}" if rounded else "0.00"


# --- with the site ---


async def async_commission(
    site: Site,
    actor: Actor,
    point: Point,
    displayed: str,
    *,
    register: Obis = ENERGY,
    by: str = "",
    note: str = "",
    accept: bool = False,
) -> dict[str, Any]:
    """Reads the meter now, compares, and signs off; ServiceValidationError in words where they differ.

    `accept` signs off all the same, as it was found, where `note` says why.
    """
    if point.virtual:
        raise refuse("point_is_virtual", point=point.name)
    try:
        display = parse_display(displayed, register)
    except ValueError as error:
        raise refuse("commission_bad_number", value=displayed, unit=QUANTITIES[register].unit or "") from error
    if (line := line_of(site.hass, point)) is None:
        raise refuse("line_not_running", point=point.name)
    coordinator = line.coordinator
    readings = {one.obis: one for one in await coordinator.async_read_now(point, [register])}
    if register not in readings:
        template = site.templates[point.meter.template]
        model = f"{template.vendor} {template.model}"
        raise refuse("nothing_to_read", point=point.name, model=model, registers=register_names(site.hass, [register]))
    read = Decimal(str(readings[register].value))
    multiplier = multiplier_of(point, register, readings[register].at)
    energy = QUANTITIES[register].measure in _ENERGIES
    known = coordinator.values.get(point.id, {})
    drift = abs(read) / multiplier * NEAR
    if energy:
        power = known.get(_POWERS.get(register, ""))
        drift = abs(Decimal(str(power.value))) / multiplier * LOOKED_BEFORE_H if power else Decimal(0)
    found = compare(
        display,
        read,
        multiplier,
        drift,
        {
            register_names(site.hass, [obis]): Decimal(str(one.value)) / multiplier
            for obis, one in known.items()
            if obis != register and energy and QUANTITIES[obis].measure in _ENERGIES
        },
        {
            other.name: Decimal(str(values[register].value)) / multiplier_of(other, register)
            for id_, values in coordinator.values.items()
            if energy and register in values and (other := site.registry.points.get(id_)) and id_ != point.id
        },
    )
    text = await async_message(site.hass, found.key, **found.facts)
    shown, own = f"{display.value.normalize() + 0:f}", f"{round(read / multiplier, 4).normalize() + 0:f}"
    if not found.agrees and not accept:
        unit = QUANTITIES[register].unit
        raise refuse("commission_refused", point=point.name, displayed=shown, read=own, unit=unit, text=text)
    if not found.agrees and not note.strip():
        unit = QUANTITIES[register].unit
        raise refuse("commission_no_remark", point=point.name, displayed=shown, read=own, unit=unit)
    signed = Commissioned(
        at=dt_util.utcnow().replace(microsecond=0),
        by=by.strip() or actor.name,
        register=register,
        displayed=display.value,
        read=read,
        multiplier=multiplier_of(point, ENERGY),
        deviation=None if found.deviation is None else round(found.deviation, 6),
        note=note.strip(),
        template=point.meter.template,
        address=point.routes[0].address,
    )
    # The point may have changed while the meter was asked.
    now = site.registry.points.get(point.id)
    if now is None or (now.meter, now.routes, now.multipliers) != (point.meter, point.routes, point.multipliers):
        raise refuse("commission_changed", point=point.name)
    await async_apply(site, actor, {point.id: replace(now, commissioned=signed)}, "commission_point")
    return {
        "id": point.id,
        "name": point.name,
        "agrees": found.agrees,
        "text": text,
        "displayed": shown,
        "read": own,
        "multiplier": f"{multiplier:f}",
        "unit": QUANTITIES[register].unit,
        "deviation_percent": None if found.deviation is None else float(round(found.deviation * 100, 4)),
    }


def overview(points: Iterable[Point], lines: Mapping[str, str]) -> dict[str, Any]:
    """What is signed off and what is not yet, by point; `lines`: names by id. Virtual points have no display."""
    rows = []
    for point in sorted(points, key=lambda one: one.name.casefold()):
        if point.virtual:
            continue
        signed = point.commissioned
        rows.append(
            {
                "id": point.id,
                "name": point.name,
                "line": lines.get(point.routes[0].line, "") if point.routes else "",
                "signed_off": holds(point),
                "changed_since": outdated(point),
                "at": signed.at.isoformat() if signed else None,
                "by": signed.by if signed else None,
                "note": signed.note if signed else None,
                "deviation_percent": float(signed.deviation * 100) if signed and signed.deviation is not None else None,
            }
        )
    return {"total": len(rows), "signed_off": sum(bool(row["signed_off"]) for row in rows), "points": rows}
