"""What is known of one point while it is watched: its last good values, its nominal voltage, its rating."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from math import hypot, log, sqrt
from statistics import median

from ..model.obis import Obis
from ..model.point import Point
from ..model.quantity import BY_KEY
from ..model.reading import Reading

FRESH_S = 900.0
"""A value that is older says nothing about now."""
LATE_S = 600.0
"""What comes later than this is history: it neither raises nor clears."""
DEMAND_S = 900
_DEMAND_FROM_S = 300
"""Before, a prediction is mostly guessed."""
_DEMAND_STEP_S = 120.0
"""Longer between two values of the power, and that time counts as not measured."""
_DEMAND_COVERED = 0.8
_SMOOTH_S = 60.0
_LEARNED_S = 86_400.0
"""After so much watching the greatest power seen stands for a rating that nobody has told."""
_LEAST_V = 40.0
_SAMPLES = 3
"""A nominal voltage is inferred from so many readings, so that one that is wrong does not decide it."""
_ROOT3 = sqrt(3)
_STEP_S = 900.0
_DAY_SAMPLES = 96
"""A nominal voltage that was inferred is compared with the median of so many readings, a step apart …"""
_DISAGREES = 0.10
"""… and inferred anew where that is further away from it than this share."""

_TO_NEUTRAL = (57.7, 63.5, 120, 127, 220, 230, 277, 400, 3464, 5774, 11_547, 20_207)
_BETWEEN_LINES = (100, 110, 208, 380, 400, 480, 690, 3000, 6000, 10_000, 20_000, 35_000, 66_000, 110_000)
"""Standard voltages (IEC 60038, GB/T 156) in volts; at meters' terminals behind voltage transformers, too."""
_NEAR_ONLY = {277: 0.05, 480: 0.05}
"""Within this share only: further off it is rather a swell of the level below, which is the far commoner one."""

type Nominal = tuple[float, bool]
"""A nominal voltage that was inferred, and whether it is one between lines."""

PHASES = tuple(BY_KEY[f"voltage_l{phase}"].obis for phase in (1, 2, 3))
LINES = tuple(BY_KEY[f"voltage_{name}"].obis for name in ("l1_l2", "l2_l3", "l3_l1"))
CURRENTS = tuple(BY_KEY[f"current_l{phase}"].obis for phase in (1, 2, 3))
VOLTAGE, POWER = BY_KEY["voltage"].obis, BY_KEY["active_power"].obis
APPARENT, REACTIVE, FACTOR = (BY_KEY[key].obis for key in ("apparent_power", "reactive_power", "power_factor"))
_NO = frozenset({"", "0", "no", "false", "否", "无"})


@dataclass(frozen=True, slots=True)
class Subject:
    """A point as rules see it: its area by name, the line it is read on, the registers that are read of it; of a
    virtual one the energies that are known.
    """

    point: Point
    area: str | None
    line: str | None
    registers: frozenset[Obis]

    def number(self, attribute: str) -> float | None:
        """An attribute as a number above 0; None without, and where it is none."""
        try:
            value = float(self.point.attributes.get(attribute, ""))
        except ValueError:
            return None
        return value if 0 < value < float("inf") else None

    @property
    def generates(self) -> bool:
        """Whether power may flow back here."""
        return self.point.attributes.get("generation", "").strip().lower() not in _NO

    def has(self, need: str) -> bool:
        """Whether one of the registers or attributes "a|b" is there."""
        return any(
            BY_KEY[key].obis in self.registers if key in BY_KEY else self.number(key) is not None
            for key in need.split("|")
        )

    @property
    def voltages(self) -> tuple[tuple[Obis, int], ...]:
        """The voltages to look at, with their phases: to neutral, else the one there is, else between lines."""
        for group in (PHASES, LINES):
            own = tuple((obis, phase) for phase, obis in enumerate(group, 1) if obis in self.registers)
            if group is PHASES and not own and VOLTAGE in self.registers:
                return ((VOLTAGE, 0),)
            if own:
                return own
        return ()

    @property
    def between_lines(self) -> bool:
        """Whether `voltages` are those between lines."""
        return bool(self.voltages) and self.voltages[0][0] in LINES


class Watch:
    """The last good values of one point (primary side) and what follows; `now` is when the newest was read."""

    def __init__(self, subject: Subject, inferred: Nominal | None = None) -> None:
        self.subject = subject
        self.inferred = inferred
        """The nominal voltage as far as nobody has told it: it outlives restarts, so that no swell becomes the norm."""
        self.values: dict[Obis, float] = {}
        self.times: dict[Obis, float] = {}
        self.now = 0.0
        self.demand: Demand | None = None
        """Only where a rule looks at it; so is `counting`."""
        self.counting: Counting | None = None
        self._nominal: float | None = None
        self._seen_v: dict[float, float] = {}
        self._day_v: list[float] = []
        self._day_at = 0.0
        self._largest_kw = 0.0
        self._since: float | None = None
        self._told_kw: tuple[float | None, bool] = _told(subject)

    def take(self, readings: Iterable[Reading], now: float) -> Iterator[Obis]:
        """The registers of which something new and good is known; late ones are none. `now` in seconds since 1970."""
        values, times, mine = self.values, self.times, self.subject.registers
        at = at_s = None
        for reading in readings:
            obis = reading.obis
            if obis not in mine or not reading.good:
                continue
            if reading.at is not at:
                at = reading.at
                at_s = at.timestamp()
            assert at_s is not None
            before = times.get(obis, 0.0)
            if now - at_s > LATE_S or 0 < before - at_s < FRESH_S:
                continue
            value = float(reading.value)
            if value != value:  # not a number
                continue
            values[obis], times[obis] = value, at_s
            if at_s > self.now or self.now - at_s > FRESH_S:
                self.now = at_s
            if obis == POWER:
                self._flow(value, at_s)
            elif self.counting is not None and obis == self.counting.obis and isinstance(reading.value, Decimal):
                self.counting.read(reading.value)
            yield obis

    def _flow(self, kw: float, at: float) -> None:
        self.learn(kw, at)
        if self.demand is not None:
            self.demand.take(at, kw)
        if self.counting is not None:
            self.counting.flow(at, kw)

    def renewed(self, subject: Subject) -> Watch:
        """For a point that is another now: what another meter, or other transformers, gave is forgotten."""
        was = self.subject
        if (was.point.multipliers, was.point.meters) != (subject.point.multipliers, subject.point.meters):
            return Watch(subject)
        if (was.point.attributes, was.registers) != (subject.point.attributes, subject.registers):
            self._nominal, self._seen_v, self._day_v = None, {}, []
        self.subject, self._told_kw = subject, _told(subject)
        return self

    def get(self, obis: Obis) -> float | None:
        """A value if it is fresh."""
        time = self.times.get(obis)
        return None if time is None or self.now - time > FRESH_S else self.values[obis]

    @property
    def power(self) -> float | None:
        """Active power, kW."""
        return self.get(POWER)

    @property
    def apparent(self) -> float | None:
        """Apparent power, kVA: as read, else of active and reactive, else the active."""
        if (read := self.get(APPARENT)) is not None:
            return abs(read)
        if (active := self.get(POWER)) is None:
            return None
        return hypot(active, self.get(REACTIVE) or 0.0)

    def learn(self, kw: float, at: float) -> None:
        """Takes note of a power that was seen, so that the greatest is known."""
        if self._since is None or at < self._since:
            self._since = at
        self._largest_kw = max(self._largest_kw, abs(kw))

    @property
    def rating(self) -> tuple[float | None, bool]:
        """What was told of how much it may carry, and whether that is apparent power (kVA) and not kW."""
        return self._told_kw

    @property
    def reference_kw(self) -> float | None:
        """The rating, else the greatest power seen once that says something."""
        if self._told_kw[0] is not None:
            return self._told_kw[0]
        learned = self._since is not None and self.now - self._since >= _LEARNED_S
        return self._largest_kw if learned and self._largest_kw > 0 else None

    @property
    def largest_kw(self) -> float:
        """The greatest power seen so far."""
        return self._largest_kw

    @property
    def nominal_v(self) -> float | None:
        """Nominal voltage of `Subject.voltages`: as told, else the standard one nearest to what was read first; another
        one once the readings of a day disagree with that.
        """
        lines = self.subject.between_lines
        if self._nominal is None:
            if (told := self.subject.number("nominal_v")) is not None:
                self._nominal = _of_kind(told, lines=lines)
            elif self.inferred is not None and self.inferred[1] is lines:
                self._nominal = self.inferred[0]
            else:
                if (seen := self._highest_v) >= _LEAST_V:
                    self._seen_v[self.now] = seen
                if len(self._seen_v) >= _SAMPLES:
                    self._infer(median(self._seen_v.values()), lines=lines)
        elif abs(self.now - self._day_at) >= _STEP_S and self.subject.number("nominal_v") is None:
            self._day_at = self.now
            if (seen := self._highest_v) >= _LEAST_V:
                self._day_v.append(seen)
            if len(self._day_v) >= _DAY_SAMPLES:
                usual, self._day_v = median(self._day_v), []
                if abs(usual / self._nominal - 1) > _DISAGREES:
                    self._infer(usual, lines=lines)
        return self._nominal

    @property
    def _highest_v(self) -> float:
        return max((value for obis, _ in self.subject.voltages if (value := self.get(obis)) is not None), default=0.0)

    def _infer(self, volts: float, *, lines: bool) -> None:
        self._nominal = _nearest(volts, _BETWEEN_LINES if lines else _TO_NEUTRAL)
        self.inferred = self._nominal, lines


def _told(subject: Subject) -> tuple[float | None, bool]:
    for attribute in ("transformer_kva", "rated_kw", "contract_kw", "contract_kva"):
        if (value := subject.number(attribute)) is not None:
            return value, attribute.endswith("kva")
    return None, False


def _nearest(volts: float, levels: Sequence[float]) -> float:
    near = [level for level in levels if abs(volts / level - 1) <= _NEAR_ONLY.get(int(level), 1e9)]
    return float(min(near, key=lambda level: abs(log(volts / level))))


def _of_kind(told: float, *, lines: bool) -> float:
    """A voltage that was told, as the kind that is measured: 380 V is meant between lines, 220 V to neutral."""
    neutral = abs(log(told / _nearest(told, _TO_NEUTRAL)))
    between = abs(log(told / _nearest(told, _BETWEEN_LINES)))
    if lines:
        return told * _ROOT3 if neutral < between else told
    return told / _ROOT3 if between < neutral else told


class Demand:
    """The mean power of the quarter of an hour that runs, and what it will be at its end."""

    def __init__(self) -> None:
        self._slot = -1
        self._kws = 0.0
        self._covered_s = 0.0
        self._last: tuple[float, float] | None = None
        self._smooth = 0.0

    def take(self, at: float, kw: float) -> None:
        """A power at an instant; between two that are near each other it runs straight."""
        if self._last is not None and at <= self._last[0]:
            if at > self._last[0] - DEMAND_S:
                return
            self._slot, self._last = -1, None  # the clock was set back
        slot = int(at // DEMAND_S)
        last, self._last = self._last, (at, kw)
        if slot != self._slot:
            self._slot, self._kws, self._covered_s = slot, 0.0, 0.0
        if last is None or at - last[0] > _DEMAND_STEP_S:
            self._smooth = kw
            return
        step_s = at - last[0]
        self._smooth += (kw - self._smooth) * min(1.0, step_s / _SMOOTH_S)
        inside_s = min(step_s, at - slot * DEMAND_S)
        self._kws += inside_s * (last[1] + kw) / 2
        self._covered_s += inside_s

    @property
    def predicted(self) -> float | None:
        """Mean power at the end of the quarter, if it goes on as in the last minute; None while too little is known."""
        if self._last is None:
            return None
        passed_s = self._last[0] - self._slot * DEMAND_S
        if passed_s < _DEMAND_FROM_S or self._covered_s < _DEMAND_COVERED * passed_s:
            return None
        mean = self._kws / self._covered_s
        return (mean * passed_s + self._smooth * (DEMAND_S - passed_s)) / DEMAND_S


IMPORT, EXPORT, GROSS = (BY_KEY[f"energy_{key}"].obis for key in ("import", "export", "gross"))


class Counting:
    """Energy that flowed while a register stood still."""

    def __init__(self, obis: Obis) -> None:
        self.obis = obis
        self.register: Decimal | None = None
        self.uncounted_kwh = 0.0
        """What had flowed since it last moved, when it was last read."""
        self._flowed_kwh = 0.0
        self._last: tuple[float, float] | None = None

    def flow(self, at: float, kw: float) -> None:
        """A power at an instant; only what flows in the register's direction counts."""
        kw = abs(kw) if self.obis == GROSS else max(kw, 0.0)
        last, self._last = self._last, (at, kw)
        if last is not None and 0 < at - last[0] <= FRESH_S:
            # The lesser of the two: what certainly flowed, whatever the load did in between.
            self._flowed_kwh += min(last[1], kw) * (at - last[0]) / 3600

    def read(self, register: Decimal) -> None:
        """The register, read again."""
        if register != self.register:
            self.register, self._flowed_kwh = register, 0.0
        self.uncounted_kwh = self._flowed_kwh


def resolution_kwh(register: Decimal, factor: Decimal) -> float:
    """The last digit of a register × multiplier, no finer than a float32 holds such a number."""
    exponent = register.as_tuple().exponent
    own = factor.as_tuple().exponent
    assert isinstance(exponent, int) and isinstance(own, int)
    digit = Decimal(1).scaleb(exponent - own) * factor
    return max(float(digit), abs(float(register)) * 2.0**-23)


def instant_of(at: float) -> datetime:
    """The instant of seconds since 1970."""
    return datetime.fromtimestamp(at, UTC)
