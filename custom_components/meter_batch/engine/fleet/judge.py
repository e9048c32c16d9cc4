"""What readings say of a meter that answers: a lost phase, a reversed transformer, a register that stands still."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import median

from ..model.obis import Obis
from ..model.quantity import BY_KEY
from ..model.reading import Flag, Reading
from .evidence import MeterEvidence

type Judged = Iterator[tuple[str, float, dict[str, object]]]
"""Cause, likelihood and facts."""

LOST_SHARE = 0.5
"""A phase with less than this of the others' voltage is lost."""

VOLTAGE_BAND = 0.10
"""EN 50160 and GB/T 12325 allow about so much."""
SOME_KW = 0.05
STILL_STEPS = 6
"""So many of its last digits should have been counted before a register is said to stand still."""
STILL_KWH = 0.05
CLOCK_OFF_S = 60.0
SLOW_S = 0.6
"""A meter that thinks longer is slow: DL/T 645 allows half a second, and most Modbus meters need a tenth."""
JUMP = 1.35
"""Power that changes by this factor from one reading to the next and stays there is worth a look."""
AGREE = 0.12
"""Readings before such a change, and after it, differ by less."""

_VOLTS = tuple(BY_KEY[f"voltage_l{phase}"].obis for phase in (1, 2, 3))
_AMPS = tuple(BY_KEY[f"current_l{phase}"].obis for phase in (1, 2, 3))
_WATTS = tuple(BY_KEY[f"active_power_l{phase}"].obis for phase in (1, 2, 3))
_VOLT = BY_KEY["voltage"].obis
_POWER = BY_KEY["active_power"].obis


def judge_values(meter: MeterEvidence) -> Judged:
    """What is wrong by the meter's own readings, its clock and its serial number."""
    if meter.misfit is not None:
        cause = {"another_model": "wrong_template"}.get(meter.misfit.kind, meter.misfit.kind)
        yield cause, 0.9, {"factor": meter.misfit.factor or "?"}
        return
    if meter.swapped is not None:
        yield "swapped", 0.95, {"expected": meter.swapped[0], "serial": meter.swapped[1]}
    elif meter.flags[Flag.SWAP]:
        yield "swapped", 0.7, {"expected": "?", "serial": "?"}
    restarted = meter.zeroed or bool(meter.flags[Flag.RESET]) or _counts_nothing(meter)
    if restarted:
        yield "restarted", 0.85, {}
    if meter.clock_offset_s is not None and abs(meter.clock_offset_s) > CLOCK_OFF_S:
        yield "clock", 0.9, {"offset": _minutes(meter.clock_offset_s)}
    if len(meter.visits) >= 2:
        yield from _supply(meter)
    if meter.thinks_s > SLOW_S:
        yield "slow_meter", 0.7, {"seconds": f"{meter.thinks_s:.1f}"}
    if not restarted and meter.still.missing_kwh > enough_kwh(meter):
        yield "stuck", 0.9, {"energy": f"{meter.still.missing_kwh:.2f}"}
    if factor := _jump(meter):
        yield "load", 0.5, {"factor": f"{factor:.2f}"}


def _numbers(visit: Mapping[Obis, Reading], obis: tuple[Obis, ...]) -> list[float]:
    return [float(visit[one].value) for one in obis if one in visit]


def _supply(meter: MeterEvidence) -> Judged:
    """Voltages and signs, by two visits that agree."""
    phases = 3 if meter.template is None else meter.template.phases
    visits = [visit for visit in meter.visits if any(one in visit for one in (*_VOLTS, _VOLT, _POWER))][-2:]
    if len(visits) < 2:
        return
    lost = {_lost(visit) for visit in visits}
    if phases > 1 and len(lost) == 1 and (phase := lost.pop()):
        yield "phase_lost", 0.9, {"phase": phase}
        return
    off = [_off_nominal(visit) for visit in visits]
    if all(abs(one) > VOLTAGE_BAND for one in off):
        volts = _numbers(visits[-1], _VOLTS) or _numbers(visits[-1], (_VOLT,))
        yield "voltage", 0.75, {"volts": f"{median(volts):.0f}"}
    if not meter.generates:
        turned = [_turned(visit) for visit in visits]
        if all(turned):
            weight = 0.85 if all(one == turned[0] for one in turned) else 0.6
            yield "reversed_ct", weight, {"phase": turned[-1]}


def _lost(visit: Mapping[Obis, Reading]) -> str:
    """The phase without voltage, where the others have it."""
    volts = _numbers(visit, _VOLTS)
    if len(volts) < 3:
        return ""
    usual = max(volts)
    low = [phase for phase, one in enumerate(volts, 1) if one < LOST_SHARE * usual]
    return ", ".join(f"L{phase}" for phase in low) if usual > 30 else ""


def _off_nominal(visit: Mapping[Obis, Reading]) -> float:
    """How far the voltage is from the nearest usual one, as a share; 0 where nothing is known."""
    volts = _numbers(visit, _VOLTS) or _numbers(visit, (_VOLT,))
    if not volts or median(volts) < 30:
        return 0.0
    usual = median(volts)
    # Ring-fenced: 184 V is nobody's nominal voltage although 208 V is near it, so only the great families count.
    return min((usual / one - 1 for one in (57.7, 120.0, 230.0, 277.0, 400.0)), key=abs)


def _turned(visit: Mapping[Obis, Reading]) -> str:
    """The phases whose power flows the wrong way."""
    watts = _numbers(visit, _WATTS)
    negative = [phase for phase, one in enumerate(watts, 1) if one < -SOME_KW]
    if negative:
        return ", ".join(f"L{phase}" for phase in negative)
    total = _numbers(visit, (_POWER,))
    return "L1" if total and total[0] < -SOME_KW else ""


def enough_kwh(meter: MeterEvidence) -> float:
    """How much energy must be missing before a register is said to stand still."""
    if meter.template is None:
        return STILL_KWH
    steps = [
        float(one.scale) for one in meter.template.registers if one.quantity.key in ("energy_import", "energy_gross")
    ]
    return max(STILL_KWH, STILL_STEPS * max((one for one in steps if one < 1), default=0.01))


def _counts_nothing(meter: MeterEvidence) -> bool:
    """Whether all energy registers stand at zero although power flows."""
    power = [abs(float(visit[_POWER].value)) for visit in meter.visits if _POWER in visit]
    return meter.still.zero and len(power) >= 2 and min(power) > SOME_KW


def _jump(meter: MeterEvidence) -> float:
    """By what factor power changed at once and for good; 0 where it did not."""
    powers = [float(visit[_POWER].value) for visit in meter.visits if _POWER in visit]
    if len(powers) < 6:
        return 0.0
    for place in range(3, len(powers) - 2):
        before, after = powers[:place], powers[place:]
        low, high = median(before), median(after)
        if min(abs(low), abs(high)) < SOME_KW or low * high < 0:
            continue
        factor = high / low
        steady = all(abs(one / low - 1) < AGREE for one in before) and all(abs(one / high - 1) < AGREE for one in after)
        if steady and max(factor, 1 / factor) > JUMP:
            return factor
    return 0.0


def _minutes(seconds: float) -> str:
    sign = "-" if seconds < 0 else "+"
    hours, rest = divmod(round(abs(seconds)), 3600)
    minutes, left = divmod(rest, 60)
    return f"{sign}{hours}:{minutes:02d}:{left:02d}"
