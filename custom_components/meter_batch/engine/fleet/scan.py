"""A scan of a line: which meters are there, at which settings, which models they are, and who shares an address.

First the line as it is set now is searched, protocol by protocol, then each meter found is asked who it is; further
settings of the port are tried after that. Nothing is ever written to a meter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Literal

from ..errors import ConfigError, LineError, LineUnavailable
from ..line import Line, LineSettings
from ..model.point import PROTOCOLS
from ..model.quantity import QUANTITIES
from ..model.reading import Reading
from ..protocol.dlt645.frame import Variant
from ..sentences import Sentence, say
from ..template import Template
from .identify import LIKELY, TIE, Candidate, Identifier
from .request import MOST_UNITS
from .search_dlt645 import AddressSearch
from .search_modbus import FEW, NOISY_SHARE, GatewaySearch, Presence, UnitSearch

type Phase = Literal["search", "identify", "settings"]

LISTEN_S = 0.5
"""How long we listen to a line before anybody is asked."""
LATE_REPLY_S = 0.8
"""The slowest meter answers in half a second; longer no late reply is waited for."""
IDENTIFY_S = 1.5
"""How long a meter takes to be identified, before there is experience."""
GLANCE = {"voltage_l1": ".1f", "voltage": ".1f", "energy_import": ",.0f"}
"""The registers by which a person knows a meter again, and how they are written."""


@dataclass(frozen=True, slots=True)
class ScanPlan:
    """What is looked for. `settings`: how the line is set now, then others to be tried. Raises ConfigError.

    `known` are the meters that are read already, as (protocol, address): they are told as found, and not identified.
    """

    protocols: tuple[str, ...] = ("modbus", "dlt645-2007", "dlt645-1997")
    first: int = 1
    """The first and last Modbus unit."""
    last: int = MOST_UNITS
    settings: tuple[LineSettings, ...] = (LineSettings(),)
    identify: bool = True
    thorough: bool = False
    """Asks silent Modbus units of a wire a second time and otherwise: for lines that lose frames, and odd meters."""
    known: frozenset[tuple[str, str]] = frozenset()
    templates: tuple[Template, ...] = ()
    """The models that a meter may be; where none are given all are read from their files, which takes a moment."""

    def __post_init__(self) -> None:
        for protocol in self.protocols:
            if protocol not in PROTOCOLS:
                raise ConfigError(f'protocol is "{protocol}"; it may be {", ".join(PROTOCOLS)}')
        if not self.protocols or not self.settings:
            raise ConfigError("a scan needs at least one protocol and one setting of the line")
        if not 1 <= self.first <= self.last <= MOST_UNITS:
            raise ConfigError(f"units {self.first} to {self.last}: they go from 1 to {MOST_UNITS}, the first one first")

    @property
    def units(self) -> range:
        """The Modbus units that are asked."""
        return range(self.first, self.last + 1)


@dataclass(frozen=True, slots=True)
class ScanProgress:
    """Where a scan is: `done` of `total` questions (meters when identifying); `remaining_s` of the whole scan."""

    phase: Phase
    done: int
    total: int
    found: int
    remaining_s: float
    settings: LineSettings


@dataclass(frozen=True, slots=True)
class ScannedMeter:
    """A meter that answered. `models` best first, empty until it is identified; `readings` as the best one shows."""

    protocol: str
    address: str
    settings: LineSettings
    serial: str | None = None
    models: tuple[Candidate, ...] = ()
    clash: bool = False
    """True where at least two meters answer to this address, beyond doubt."""
    garbled: bool = False
    """True where only damaged replies come: most likely a clash too, else its own baud rate, parity or wiring."""
    problem: Sentence | None = None
    known: bool = False
    """True where it was in the plan's list of known meters."""
    readings: tuple[Reading, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from the others of a scan."""
        return self.protocol, self.address

    @property
    def template_id(self) -> str | None:
        """The model that it most likely is; None where none fits, or several as well as each other."""
        likely = self.models[0] if self.models else None
        if likely is None or likely.score <= LIKELY or self.ties:
            return None
        return likely.template_id

    @property
    def ties(self) -> tuple[str, ...]:
        """The models with the best score, where there are several."""
        best = [one.template_id for one in self.models if one.score > LIKELY and self.models[0].score - one.score < TIE]
        return tuple(best) if len(best) > 1 else ()

    @property
    def glance(self) -> tuple[str, ...]:
        """What its display would show, for a person who compares: "230.1 V" and "172,031 kWh", where it was read."""
        shown = {QUANTITIES[one.obis].key: one for one in self.readings}
        return tuple(
            f"{float(shown[key].value):{pattern}} {QUANTITIES[shown[key].obis].unit}"
            for key, pattern in GLANCE.items()
            if key in shown
        )

    def as_dict(self) -> dict[str, Any]:
        """As plain fields, fit for JSON."""
        return {
            "protocol": self.protocol,
            "address": self.address,
            "framing": self.settings.framing,
            "baud": self.settings.baud,
            "parity": self.settings.parity,
            "stop_bits": self.settings.stop_bits,
            "template": self.template_id,
            "ties": list(self.ties),
            "models": [
                {"template": one.template_id, "score": one.score, "reasons": list(one.reasons)} for one in self.models
            ],
            "serial": self.serial,
            "clash": self.clash,
            "garbled": self.garbled,
            "known": self.known,
            "problem": self.problem,
            "readings": [
                {
                    "key": QUANTITIES[one.obis].key,
                    "obis": one.obis,
                    "value": f"{Decimal(str(one.value)):f}",
                    "unit": QUANTITIES[one.obis].unit,
                }
                for one in self.readings
            ],
        }


@dataclass(frozen=True, slots=True)
class ScanResult:
    """What came of a scan. `took_s` by phase; `complete` is False where a part of it could not be done."""

    meters: tuple[ScannedMeter, ...]
    took_s: Mapping[Phase, float]
    complete: bool
    heard_noise: Sentence | None = None
    questions: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The whole without its meters, fit for JSON."""
        return {
            "found": len(self.meters),
            "complete": self.complete,
            "took_s": {phase: round(seconds, 2) for phase, seconds in self.took_s.items()},
            "questions": self.questions,
            "noise": self.heard_noise,
        }


def _no_progress(progress: ScanProgress) -> None:
    pass


def _nobody(meter: ScannedMeter) -> None:
    pass


async def scan(
    open_line: Callable[[LineSettings], Line],
    plan: ScanPlan,
    progress: Callable[[ScanProgress], None] = _no_progress,
    found: Callable[[ScannedMeter], None] = _nobody,
) -> ScanResult:
    """Searches a line. `open_line` makes a line (not yet open) with the settings it is given.

    `found` is called when a meter is found and again whenever more is known of it; the last word counts. Cancel the
    task to end the scan early: what was told stays true. Raises LineError where the line as it is set now fails; other
    settings that its port cannot do are left out.
    """
    scanning = _Scan(open_line, plan, progress, found)
    for number, settings in enumerate(plan.settings):
        try:
            await scanning.at(number, settings)
        except LineUnavailable, ConfigError:
            if not number:
                raise
            scanning.complete = False
    return scanning.result()


@dataclass
class _Scan:
    open_line: Callable[[LineSettings], Line]
    plan: ScanPlan
    progress: Callable[[ScanProgress], None]
    found: Callable[[ScannedMeter], None]
    meters: dict[tuple[str, str], ScannedMeter] = field(default_factory=dict)
    took_s: dict[Phase, float] = field(default_factory=lambda: {"search": 0.0, "identify": 0.0, "settings": 0.0})
    complete: bool = True
    noise: Sentence | None = None
    questions: int = 0
    _later_s: float = 0.0
    """What is still to come after the phase that is under way."""

    def result(self) -> ScanResult:
        meters = sorted(self.meters.values(), key=_by_address)
        return ScanResult(tuple(meters), self.took_s, self.complete, self.noise, self.questions)

    async def at(self, number: int, settings: LineSettings) -> None:
        """Searches at one setting of the port."""
        loop = asyncio.get_running_loop()
        phase: Phase = "settings" if number else "search"
        line = self.open_line(replace(settings, late_reply_s=min(settings.late_reply_s, LATE_REPLY_S)))
        began = loop.time()
        new: list[ScannedMeter] = []
        await line.open()
        try:
            await self._listen(line, settings)
            for protocol in self.plan.protocols:
                await self._search(line, protocol, phase, settings, new)
            self.took_s[phase] += loop.time() - began
            began = loop.time()
            if self.plan.identify:
                await self._identify(line, settings, new)
                self.took_s["identify"] += loop.time() - began
        finally:
            self.questions += line.counters.exchanges
            await line.close()

    async def _listen(self, line: Line, settings: LineSettings) -> None:
        if settings.framing == "tcp":
            return
        await asyncio.sleep(LISTEN_S)
        if count := line.counters.bytes_received:
            self.noise = self.noise or say("scan_noise", line=line.name, count=count, seconds=f"{LISTEN_S:g}")

    async def _search(
        self, line: Line, protocol: str, phase: Phase, settings: LineSettings, new: list[ScannedMeter]
    ) -> None:
        before = line.counters.exchanges

        def take(presence: Presence) -> None:
            meter = ScannedMeter(
                protocol,
                presence.address,
                settings,
                clash=presence.clash,
                garbled=presence.garbled,
                problem=presence.problem,
                known=(protocol, presence.address) in self.plan.known,
            )
            before = self.meters.get(meter.key)
            if before is not None and before.settings != settings and meter.problem is not None:
                return  # neither here nor there it can be understood
            if before is None or before.settings != settings:
                new.append(meter)
            self._tell(meter)

        def step(done: int, total: int, left_s: float) -> None:
            later_s = len(new) * IDENTIFY_S if self.plan.identify else 0.0
            self.progress(ScanProgress(phase, done, total, len(self.meters), left_s + later_s, settings))

        search: UnitSearch | GatewaySearch | AddressSearch
        if protocol == "modbus":
            # What answered garbage at one setting may be understood at another.
            clear = {key for key, one in self.meters.items() if one.problem is None or one.settings == settings}
            units = [one for one in self.plan.units if ("modbus", str(one)) not in clear]
            if settings.framing == "tcp":
                search = GatewaySearch(line, take, step)
                await search.run(units)
            else:
                search = UnitSearch(line, take, step)
                await search.run(units, twice=self.plan.thorough)
        elif settings.framing == "tcp":
            return  # a network of Modbus TCP carries nothing else
        else:
            variant: Variant = "1997" if protocol == "dlt645-1997" else "2007"
            search = AddressSearch(line, variant, take, step)
            await search.run()
        if search.gave_up:
            self.complete = False
            self.noise = say("line_never_silent", line=line.name)
        asked = line.counters.exchanges - before
        # Meters of DL/T 645 damage each other's replies as long as they are not told apart.
        damage = search.disturbed if protocol == "modbus" or not search.presences else 0
        if damage > max(FEW, NOISY_SHARE * asked):
            self.noise = self.noise or say("scan_disturbed", line=line.name, count=search.disturbed, asked=asked)

    async def _identify(self, line: Line, settings: LineSettings, new: Sequence[ScannedMeter]) -> None:
        identifier = Identifier(line, self.plan.templates)
        loop = asyncio.get_running_loop()
        # What the search learned of a meter since it was found (that it is one of two) counts.
        todo = [one for meter in new if not (one := self.meters[meter.key]).known and one.address.isdecimal()]
        began = loop.time()
        for number, meter in enumerate(todo):
            each = (loop.time() - began) / number if number else IDENTIFY_S
            left_s = (len(todo) - number) * each
            self.progress(ScanProgress("identify", number, len(todo), len(self.meters), left_s, settings))
            if meter.clash or meter.problem is not None:
                continue
            said = await identifier.identify(meter.protocol, meter.address)
            problem = meter.problem or said.problem
            if said.garbled:
                problem = (
                    say("scan_garbled_unit", unit=meter.address)
                    if meter.protocol == "modbus"
                    else say("scan_garbled_meter", meter=meter.address)
                )
            self._tell(
                replace(
                    meter,
                    serial=said.serial,
                    models=said.models,
                    readings=said.readings,
                    garbled=said.garbled,
                    problem=problem,
                )
            )
        self.progress(ScanProgress("identify", len(todo), len(todo), len(self.meters), 0.0, settings))

    def _tell(self, meter: ScannedMeter) -> None:
        self.meters[meter.key] = meter
        self.found(meter)


def _by_address(meter: ScannedMeter) -> tuple[int, str]:
    return PROTOCOLS.index(meter.protocol), meter.address.rjust(12)


__all__ = ["Candidate", "LineError", "ScanPlan", "ScanProgress", "ScanResult", "ScannedMeter", "scan"]
