"""What a commissioning sheet says of a meter by itself: communication, serial number, voltages, phases, signs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from homeassistant.util import dt as dt_util

from .const import NO
from .coordinator import LineCoordinator
from .engine import Point
from .engine.model.reading import Reading

NOMINAL_V = (57.7, 100.0, 110.0, 120.0, 127.0, 220.0, 230.0, 240.0, 277.0, 347.0, 380.0, 400.0)
"""Of supplies and of secondary sides of voltage transformers, to neutral or between lines (IEC 60038)."""
WITHIN = 0.1
"""EN 50160: ± 10 %."""
UNBALANCE = 0.03
FRESH_S = 600
GOOD_RATE = 0.95
_VOLTAGES = ("1-0:32.7.0", "1-0:52.7.0", "1-0:72.7.0")
_VOLTAGE = "1-0:12.7.0"
_POWERS = ("1-0:36.7.0", "1-0:56.7.0", "1-0:76.7.0")
_POWER = "1-0:16.7.0"
_SMALL_KW = 0.02


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what it is about and what was found, as messages; `good` is None where a person has to look."""

    about: str
    good: bool | None
    key: str
    facts: dict[str, str] = field(default_factory=dict)


def checks(point: Point, values: Mapping[str, Reading], coordinator: LineCoordinator | None) -> list[Finding]:
    """All of them, in the order of the sheet."""
    return [
        _communication(point, values, coordinator),
        _serial(point, coordinator),
        *_voltages(point, values),
        *_powers(point, values),
    ]


def _communication(point: Point, values: Mapping[str, Reading], coordinator: LineCoordinator | None) -> Finding:
    about = "sheet_communication"
    if coordinator is not None and point.id in coordinator.silent:
        trouble = coordinator.problems.get(point.id)
        return Finding(about, False, "sheet_silent", {"problem": (trouble and trouble.text) or "–"})
    if coordinator is None or not values:
        return Finding(about, None if coordinator is None else False, "sheet_never_read")
    age = round((dt_util.utcnow() - max(one.at for one in values.values())).total_seconds())
    health = coordinator.data.health if coordinator.data else None
    rate = health.success_rate if health else None
    facts = {"age": str(max(age, 0)), "percent": "–" if rate is None else f"{rate * 100:.1f}"}
    good = age < FRESH_S and (rate is None or rate >= GOOD_RATE) and point.id not in coordinator.problems
    return Finding(about, good, "sheet_answers", facts)


def _serial(point: Point, coordinator: LineCoordinator | None) -> Finding:
    about, expected = "sheet_serial_read", point.meter.serial
    identity = coordinator.causes.identities.get(point.id) if coordinator else None
    read = identity.serial if identity is not None else None
    if read is None:
        return Finding(about, None, "sheet_serial_unread")
    if not expected:
        return Finding(about, None, "sheet_serial_only_read", {"read": read})
    same = _plain(read) == _plain(expected)
    key = "sheet_serial_same" if same else "sheet_serial_other"
    return Finding(about, same, key, {"read": read, "expected": expected})


def _plain(serial: str) -> str:
    # People leave out zeros and dashes.
    return "".join(one for one in serial.casefold() if one.isalnum()).lstrip("0")


def _voltages(point: Point, values: Mapping[str, Reading]) -> list[Finding]:
    about = "sheet_voltages"
    there = [float(values[one].value) for one in _VOLTAGES if one in values]
    if not there and _VOLTAGE in values:
        there = [float(values[_VOLTAGE].value)]  # of a meter that knows one
    if not there:
        return []
    wanted = point.attributes.get("nominal_v")
    known = (float(wanted), float(wanted) / 3**0.5) if wanted else NOMINAL_V
    multiplier = point.multiplier_at(dt_util.utcnow())
    scale = float(multiplier.pt) if multiplier and not wanted else 1.0
    level = max(there) / scale
    nominal = min(known, key=lambda one: abs(level - one))
    if dead := [f"L{number}" for number, one in enumerate(there, 1) if one < 0.5 * max(there)]:
        return [Finding(about, False, "sheet_phase_lost", {"phases": ", ".join(dead)})]
    low, high = min(there) / scale / nominal - 1, max(there) / scale / nominal - 1
    facts = {"nominal": f"{nominal * scale:.0f}", "low": f"{low * 100:+.1f}", "high": f"{high * 100:+.1f}"}
    good = low >= -WITHIN and high <= WITHIN
    mean = sum(there) / len(there)
    if good and len(there) == 3 and max(abs(one - mean) for one in there) > UNBALANCE * mean:
        return [Finding(about, False, "sheet_voltages_unbalanced", facts)]
    return [Finding(about, good, "sheet_voltages_fit" if good else "sheet_voltages_off", facts)]


def _powers(point: Point, values: Mapping[str, Reading]) -> list[Finding]:
    about = "sheet_directions"
    total = float(values[_POWER].value) if _POWER in values else None
    phases = {f"L{n}": float(values[one].value) for n, one in enumerate(_POWERS, 1) if one in values}
    size = max((abs(one) for one in (*phases.values(), total or 0.0)), default=0.0)
    if total is None and not phases:
        return []
    if size < _SMALL_KW:
        return [Finding(about, None, "sheet_no_load")]
    generates = point.attributes.get("generation", "").strip().casefold() not in NO
    small = max(_SMALL_KW, 0.02 * size)
    back = [name for name, one in phases.items() if one < -small]
    forth = [name for name, one in phases.items() if one > small]
    if back and (forth or not generates):
        key = "sheet_reversed" if forth else "sheet_all_reversed"
        return [Finding(about, False, key, {"phases": ", ".join(back)})]
    if total is not None and len(phases) == 3 and abs(sum(phases.values()) - total) > max(0.05 * size, _SMALL_KW):
        facts = {"sum": f"{sum(phases.values()):.2f}", "total": f"{total:.2f}"}
        return [Finding(about, False, "sheet_sum_off", facts)]
    if total is not None and total < -small and not generates:
        return [Finding(about, False, "sheet_all_reversed", {"phases": "Σ"})]
    return [Finding(about, True, "sheet_directions_fit")]
