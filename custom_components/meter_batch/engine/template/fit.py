"""Do values fit a meter? Volts and hertz are known beforehand everywhere, so they judge model, word order and scale.

Pure. `fit` says how well readings fit a meter of a model; `misfit` says what is wrong where the words of an answer are
plausible nonsense: another word order, another scale, another model's registers. What a healthy meter may show (no
current, a phase that is lost, 57.7 V behind a voltage transformer, kilovolts with its ratio set) is never a misfit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Literal

from ..errors import DecodeError
from ..model.quantity import BY_KEY, QUANTITIES, Kind, Measure
from ..model.reading import Reading
from ..protocol.dlt645.exchange import Data
from ..sentences import Sentence, say
from .decoder import ModbusRequest, Request, decode
from .schema import ModbusWords, Template

type MisfitKind = Literal["word_order", "scale", "another_model"]

PHASE_V = (80.0, 300.0)
"""Phase to neutral, of every low-voltage network; between phases √3 times as much."""
SECONDARY_V = 45.0
"""Behind a voltage transformer phases have 57.7 or 63.5 V."""
MAINS_HZ = (45.0, 65.0)
TIGHT_V = ((195.0, 265.0), (338.0, 459.0))
"""Phase to neutral and line to line of networks of 220 to 240 V: where a corrected value must lie to prove a scale."""
TIGHT_HZ = ((49.0, 51.0), (59.0, 61.0))
GREATEST_V = 1e6
GREATEST_A = 1e5
GREATEST_ENERGY = Decimal(10**10)
FACTORS = tuple(Decimal(10) ** power for power in (1, -1, 2, -2, 3, -3))
"""Scales that makers confuse, the usual ones first."""
AGREE = 0.1
"""Phases of a healthy network differ by less than this share."""

_ROOT_3 = math.sqrt(3)
_LINE_VOLTAGES = frozenset({BY_KEY[f"voltage_{key}"].obis for key in ("l1_l2", "l2_l3", "l3_l1", "line_mean")})
_AT = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Fit:
    """How well readings fit: `score` from 0 (cannot be) over 0.5 (says nothing) to 1, and why, weightiest first."""

    score: float
    reasons: tuple[Sentence, ...] = ()


@dataclass(frozen=True, slots=True)
class Misfit:
    """What is wrong with an answer. `factor`: a value as read × factor is right; None where scale is no matter."""

    kind: MisfitKind
    text: Sentence
    factor: Decimal | None = None


# --- how well readings fit


def fit(template: Template, readings: Iterable[Reading]) -> Fit:
    """How well the readings of a meter, as it shows them, fit one of this model.

    Each check that holds multiplies the odds, each that fails divides them; without anything to check they are even.
    """
    values = {one.obis: float(one.value) for one in readings}
    if not values:
        return Fit(0.0, (say("fit_nothing", model=template.name),))
    found = [one for check in _CHECKS for one in check(values)]
    found += [one for check in _CHECKS_BY_MODEL for one in check(template, values)]
    odds = math.prod(weight for weight, _ in found)
    weighty = sorted((one for one in found if one[1] is not None), key=lambda one: -abs(math.log(one[0])))
    return Fit(odds / (1 + odds), tuple(reason for _, reason in weighty if reason is not None))


type _Verdicts = list[tuple[float, Sentence | None]]
"""The factor of the odds and the reason; None where it is not worth a sentence."""
type _Values = dict[str, float]


def _volts(template: Template, values: _Values) -> _Verdicts:
    found = _measured(values, Measure.VOLTAGE)
    live = [volts for _, volts in found if volts]
    if not found:
        return []
    if not live:
        return [(0.8, say("fit_no_volts"))]
    verdicts: _Verdicts = []
    right = [volts for obis, volts in found if _fits_volts(obis, volts)]
    usual = [volts for obis, volts in found if _in(volts, (_phase(obis, 80.0), _phase(obis, 300.0)))]
    wrong = [volts for volts in live if not 0 < volts < GREATEST_V or volts < 1e-3]
    if right:
        # The first voltage may be chance, more that agree with it hardly; one that is missing may be a lost phase.
        model = [one for one in template.registers if one.quantity.measure is Measure.VOLTAGE]
        more = 1.0 + 0.5 * (len(right) - 1) if _agreeing([one for one in found if one[1] in right]) else 0.5
        weight = (12.0 if usual else 3.0) * more * (1.0 if len(right) == len(model) else 0.5)
        verdicts.append((weight, say("fit_volts", least=_text(min(right)), most=_text(max(right)))))
    if wrong:
        verdicts.append((0.02, say("fit_bad_volts", volts=_text(wrong[0]))))
    elif not right:
        verdicts.append((0.25, say("fit_odd_volts", volts=_text(live[0]))))
    return verdicts


def _hertz(values: _Values) -> _Verdicts:
    hertz = next((value for _, value in _measured(values, Measure.FREQUENCY)), None)
    if hertz is None:
        return []
    if not hertz:
        # Where there is a voltage there is a frequency.
        supplied = any(_fits_volts(obis, volts) for obis, volts in _measured(values, Measure.VOLTAGE))
        return [(0.05, say("fit_no_hertz"))] if supplied else [(0.6, None)]
    if any(_in(hertz, band) for band in TIGHT_HZ):
        return [(40.0, say("fit_hertz", hertz=_text(hertz)))]
    if _in(hertz, MAINS_HZ):
        return [(8.0, say("fit_hertz", hertz=_text(hertz)))]
    return [(0.02, say("fit_bad_hertz", hertz=_text(hertz)))]


def _currents(values: _Values) -> _Verdicts:
    found = [value for _, value in _measured(values, Measure.CURRENT)]
    wrong = [value for value in found if not abs(value) <= GREATEST_A or 0 < abs(value) < 1e-12]
    if wrong:
        return [(0.05, say("fit_bad_current", amperes=_text(wrong[0])))]
    return [(1.5, None)] if any(found) else []


def _power_factors(values: _Values) -> _Verdicts:
    found = [value for _, value in _measured(values, Measure.POWER_FACTOR)]
    wrong = [value for value in found if not abs(value) <= 1.02]
    if wrong:
        return [(0.05, say("fit_bad_power_factor", value=_text(wrong[0])))]
    return [(2.0, None)] if any(abs(value) >= 0.05 for value in found) else []


def _powers(values: _Values) -> _Verdicts:
    """Active power against volts × amperes of the phases, and the total against the sum of the phases."""
    verdicts: _Verdicts = []
    apparent, active = 0.0, 0.0
    phases = [f"_l{phase}" for phase in (1, 2, 3) if BY_KEY[f"active_power_l{phase}"].obis in values] or [""]
    for phase in phases:
        volts, amperes, kw = (
            values.get(BY_KEY[f"{key}{phase}"].obis) for key in ("voltage", "current", "active_power")
        )
        if volts is None or amperes is None or kw is None:
            break
        apparent += abs(volts * amperes) / 1000
        active += abs(kw)
    else:
        if apparent > 0.05 and math.isfinite(active):
            fits = active <= 1.1 * apparent + 0.01
            verdicts.append(
                (3.0 if fits and active > 0.1 * apparent else 1.0, say("fit_power"))
                if fits
                # A meter that multiplies by its transformer's ratio does so for currents and powers alike.
                else (0.3, say("fit_bad_power", kw=_text(active), kva=_text(apparent)))
            )
    total = values.get(BY_KEY["active_power"].obis)
    parts = [values.get(BY_KEY[f"active_power_l{phase}"].obis) for phase in (1, 2, 3)]
    if total is not None and all(part is not None for part in parts):
        summed = sum(part for part in parts if part is not None)
        if max(abs(total), abs(summed)) > 0.01:
            fits = abs(total - summed) <= 0.03 * max(abs(total), abs(summed)) + 0.01
            verdicts.append((4.0, say("fit_sum")) if fits else (0.3, say("fit_bad_sum")))
    return verdicts


def _energies(values: _Values) -> _Verdicts:
    found = [value for obis, value in values.items() if QUANTITIES[obis].kind is Kind.CUMULATIVE]
    wrong = [value for value in found if not 0 <= value < GREATEST_ENERGY]
    if wrong:
        return [(0.1, say("fit_bad_energy", value=_text(wrong[0])))]
    return [(1.5, None)] if any(found) else []


def _dead_phases(values: _Values) -> _Verdicts:
    """A phase without voltage is lost: then it has no power either (current it may have), nor a whole line voltage."""
    volts = [values.get(BY_KEY[f"voltage_l{phase}"].obis) for phase in (1, 2, 3)]
    if not any(volts):
        return []
    for phase in (phase for phase, one in enumerate(volts, 1) if one == 0):
        power = values.get(BY_KEY[f"active_power_l{phase}"].obis, 0.0)
        between = [f"voltage_l{one}_l{one % 3 + 1}" for one in (1, 2, 3) if phase in (one, one % 3 + 1)]
        line = max(values.get(BY_KEY[key].obis, 0.0) for key in between)
        if abs(power) > 0.01 or line > 1.2 * max(one or 0.0 for one in volts):
            return [(0.1, say("fit_dead_phase", phase=f"L{phase}"))]
    return []


def _within_limits(template: Template, values: _Values) -> _Verdicts:
    """What the template itself would not believe on arrival, and more power than any current could bring."""
    odd = None
    volts = max((one for _, one in _measured(values, Measure.VOLTAGE)), default=0.0)
    for obis, value in values.items():
        quantity = QUANTITIES[obis]
        if quantity.kind is not Kind.INSTANT:
            continue
        bounds = template.limits.of(quantity)
        if bounds is None and quantity.measure in _POWERS and 0 < volts < GREATEST_V:
            most = 3 * volts * GREATEST_A / 1000
            bounds = (-most, most)
        if bounds is not None and quantity.measure is not Measure.POWER_FACTOR and not _in(value, bounds):
            # No voltage and no frequency where the supply is off are judged elsewhere.
            if not value and quantity.measure in (Measure.VOLTAGE, Measure.FREQUENCY):
                continue
            odd = odd or say(
                "fit_beyond",
                value=_text(value),
                unit=quantity.unit or "",
                least=_text(bounds[0]),
                most=_text(bounds[1]),
            )
    return [] if odd is None else [(0.05, odd)]


_POWERS = frozenset({Measure.ACTIVE_POWER, Measure.REACTIVE_POWER, Measure.APPARENT_POWER})
_CHECKS: tuple[Callable[[_Values], _Verdicts], ...] = (
    _hertz,
    _dead_phases,
    _powers,
    _power_factors,
    _currents,
    _energies,
)
_CHECKS_BY_MODEL: tuple[Callable[[Template, _Values], _Verdicts], ...] = (_volts, _within_limits)


# --- what is wrong with nonsense


def misfit(template: Template, request: Request, words: Sequence[int] | Data | bytes) -> Misfit | None:
    """What is wrong with the answer to a request, judged by its volts and hertz; None where nothing is, or none are.

    Never a guess: with the words swapped, or in another scale, all volts and hertz must be right, and as is none.
    """
    as_read = _judged(request, words)
    if as_read is None or all(one.fits or not one.value for one in as_read):
        return None
    if isinstance(request, ModbusRequest) and not isinstance(words, Data):
        found = _word_order(template, request, words, as_read)
        if found is not None:
            return found
    return _scale(template, as_read) or _another(template, as_read)


@dataclass(frozen=True, slots=True)
class _Judged:
    """A voltage or frequency of an answer."""

    obis: str
    value: float

    @property
    def volts(self) -> bool:
        return QUANTITIES[self.obis].measure is Measure.VOLTAGE

    @property
    def fits(self) -> bool:
        """As a healthy meter shows it when its voltage is there."""
        return _fits_volts(self.obis, self.value) if self.volts else _in(self.value, MAINS_HZ)

    @property
    def impossible(self) -> bool:
        """What no meter shows, healthy or not; kilovolts, residual voltages and generators that start are possible."""
        if not self.value:
            return False
        if self.volts:
            return not 1e-3 <= self.value <= GREATEST_V
        return not 5 <= self.value <= 450

    def times(self, factor: Decimal) -> _Judged:
        return _Judged(self.obis, self.value * float(factor))

    @property
    def proves(self) -> bool:
        """Where a corrected value must lie."""
        return any(_in(self.value, band) for band in (TIGHT_V if self.volts else TIGHT_HZ))


def _judged(request: Request, words: Sequence[int] | Data | bytes) -> list[_Judged] | None:
    """The volts and hertz of an answer; None where it has none."""
    if not any(_judges(one.obis) for one in request.registers):
        return None
    try:
        readings = decode(request, words, _AT)
    except DecodeError:
        return None
    return [_Judged(one.obis, float(one.value)) for one in readings if _judges(one.obis)] or None


def _judges(obis: str) -> bool:
    return QUANTITIES[obis].measure in (Measure.VOLTAGE, Measure.FREQUENCY)


def _word_order(
    template: Template, request: ModbusRequest, words: Sequence[int] | bytes, as_read: list[_Judged]
) -> Misfit | None:
    swapped_request = _swapped(request)
    if swapped_request is None:
        return None
    swapped = _judged(swapped_request, words)
    live = [one for one in as_read if one.value]
    if swapped is None or not any(one.fits for one in swapped if one.volts or not any(two.volts for two in swapped)):
        return None
    before = {one.obis: one.value for one in as_read}
    changed = [one for one in swapped if before.get(one.obis) != one.value]
    # Residual voltage of a phase that is lost is right too.
    right = all(one.fits or (one.volts and one.value < SECONDARY_V and not one.impossible) for one in swapped)
    nonsense = any(one.impossible for one in live) or not any(one.fits for one in live)
    now = next((one for one in changed if one.fits), None)
    if not right or not nonsense or now is None:
        return None
    was = before.get(now.obis, math.nan)
    order = say("word_order_low") if _is_low_first(swapped_request) else say("word_order_high")
    text = say("misfit_word_order", model=template.name, was=_text(was), now=_text(now.value), order=order)
    return Misfit("word_order", text)


@lru_cache(maxsize=256)
def _swapped(request: ModbusRequest) -> ModbusRequest | None:
    """The request as it would be read with the other word order; None where no volts or hertz have several words."""
    registers = []
    turned = False
    for one in request.registers:
        if _judges(one.obis) and isinstance(one.locator, ModbusWords):
            several = one.locator.word_type.words > 1
            turned |= several
            registers.append(replace(one, locator=replace(one.locator, little=not one.locator.little)))
    return replace(request, registers=tuple(registers)) if turned else None


def _is_low_first(request: ModbusRequest) -> bool:
    return any(isinstance(one.locator, ModbusWords) and one.locator.little for one in request.registers)


def _scale(template: Template, as_read: list[_Judged]) -> Misfit | None:
    """One factor for all volts, one for the hertz, which makers scale apart."""
    volts = [one for one in as_read if one.volts and one.value]
    hertz = [one for one in as_read if not one.volts and one.value]
    wrong_volts = [] if any(one.fits for one in volts) else volts
    wrong_hertz = [] if any(one.fits for one in hertz) else hertz
    volts_factor = _factor(wrong_volts, several=template.phases > 1)
    hertz_factor = _factor(wrong_hertz, several=False)
    if (wrong_volts and volts_factor is None) or (wrong_hertz and hertz_factor is None):
        return None
    shown, factor = (wrong_volts, volts_factor) if wrong_volts else (wrong_hertz, hertz_factor)
    if factor is None:
        return None
    # Volts that are too high alone may be the kilovolts of a meter that knows its transformer's ratio.
    if wrong_volts and factor < 1 and not wrong_hertz:
        return None
    unit = "V" if shown[0].volts else "Hz"
    was, now = f"{_text(shown[0].value)} {unit}", f"{_text(shown[0].times(factor).value)} {unit}"
    text = say("misfit_scale", model=template.name, was=was, now=now, factor=f"{factor:f}")
    return Misfit("scale", text, factor)


def _factor(values: list[_Judged], *, several: bool) -> Decimal | None:
    """The factor with which values are right beyond doubt. `several`: one phase alone of more proves nothing."""
    for factor in FACTORS:
        corrected = [one.times(factor) for one in values]
        proving = [one for one in corrected if one.proves]
        if not proving or (several and len(proving) < 2):
            continue
        if all(one.proves or one.value < 0.9 * proving[0].value for one in corrected) and _agreeing(
            [(one.obis, one.value) for one in proving]
        ):
            return factor
    return None


def _another(template: Template, as_read: list[_Judged]) -> Misfit | None:
    live = [one for one in as_read if one.value]
    nonsense = [one for one in live if one.impossible]
    if not nonsense or any(one.fits for one in live if one.volts) or 2 * len(nonsense) < len(live):
        return None
    worst = nonsense[0]
    what = f"{_text(worst.value)} {'V' if worst.volts else 'Hz'}"
    return Misfit("another_model", say("misfit_another_model", model=template.name, value=what))


# --- bands


def _in(value: float, band: tuple[float, float]) -> bool:
    return band[0] <= value <= band[1]


def _phase(obis: str, volts: float) -> float:
    """A bound of phase to neutral for a voltage, whichever it is."""
    return volts * _ROOT_3 if obis in _LINE_VOLTAGES else volts


def _fits_volts(obis: str, volts: float) -> bool:
    # In three-wire networks meters show the line voltage where others have phase to neutral.
    return _in(volts, (_phase(obis, SECONDARY_V), PHASE_V[1] * _ROOT_3))


def _agreeing(found: list[tuple[str, float]]) -> bool:
    """True where at least the greater part of several voltages are alike."""
    alike = [value / (_ROOT_3 if obis in _LINE_VOLTAGES else 1) for obis, value in found]
    middle = sorted(alike)[len(alike) // 2]
    near = [one for one in alike if abs(one - middle) <= AGREE * abs(middle)]
    return len(alike) == 1 or 2 * len(near) > len(alike)


def _measured(values: _Values, measure: Measure) -> list[tuple[str, float]]:
    return [(obis, value) for obis, value in values.items() if QUANTITIES[obis].measure is measure]


def _text(value: float) -> str:
    return f"{value:.4g}"
