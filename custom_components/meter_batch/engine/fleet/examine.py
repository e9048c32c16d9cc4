"""Finds out why meters of a line are silent or wrong, for a person who waits: reads them for some seconds, then tries.

Who answers is watched until its values can be judged. Who does not is asked at other speeds and parities, in the other
framing or edition, and its line is searched for meters nobody knows. Nothing is ever written to a meter.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from datetime import time as day_time
from itertools import product
from typing import Any, Literal

from ..errors import ConfigError, LineError, MeterError, Refused
from ..line import Line, LineSettings
from ..model.obis import Obis
from ..protocol.dlt645.frame import Variant
from ..protocol.dlt645.item import decode_item
from ..sentences import Sentence, say
from ..template import identity_requests
from .diagnose import Diagnosis, diagnose
from .evidence import LineEvidence, MeterEvidence, Outcome
from .identity_watch import is_same
from .judge import enough_kwh
from .meter import Meter, PollMeter
from .once import read_items
from .poller import Poller
from .probe import question
from .reader import Reader
from .report import News, PollReport
from .request import check_address
from .scan import ScannedMeter, ScanPlan, ScanProgress, scan
from .schedule import PollSettings

BAUDS = (9600, 2400, 19200, 4800, 1200, 38400, 57600, 115200)
PARITIES = ("N", "E", "O")
LEAST_S = 4.0
"""Values are watched for so long at least."""
THINK_S = 0.5
"""How long a meter may think when it is tried at other settings."""
TRIED = 3
"""How many silent meters are tried at other settings: they are usually all set alike."""
VISITS = 3
FAILURES = 4
TRY_S = THINK_S + 0.5
"""What one question at other settings takes at most, with opening the port and the wire's own time."""

type Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Examined:
    """What was found out about a meter; no diagnoses where it is well."""

    meter: PollMeter
    answers: bool
    diagnoses: tuple[Diagnosis, ...]
    judged: bool = True
    """False where too little of it was read to say that it is well."""

    @property
    def well(self) -> bool:
        """Whether all of it was read and nothing is wrong."""
        return self.answers and self.judged and not self.diagnoses


async def examine(
    open_line: Callable[[LineSettings], Line],
    settings: LineSettings,
    meters: Sequence[PollMeter],
    *,
    network: bool = False,
    adjustable: bool = True,
    serials: Mapping[str, str] | None = None,
    local_time: Callable[[], datetime] = datetime.now,
    watch_s: float = 20.0,
    least_s: float = 0.0,
    search_s: float = 60.0,
    progress: Progress = lambda what: None,
) -> list[Examined]:
    """The diagnoses of meters of one line, in their order. `open_line` makes a line (not yet open) with settings.

    `network`: the line is reached over TCP; `adjustable`: its baud rate and parity can be changed from here. `serials`
    are the serial numbers that are expected, by key. Meters are watched for `watch_s` at most, or as long as it takes
    to read all registers of each twice, and for `least_s` in any case. `local_time` is what the clocks of meters
    should show (naive).
    Raises ConfigError for an impossible address.
    """
    for meter in meters:
        check_address(meter.protocol, meter.address)
    one = _Examination(open_line, settings, meters, network, serials or {}, local_time, progress)
    await one.watch(watch_s, least_s)
    if one.evidence.connected:
        silent = [meter for meter in meters if not one.answers(meter)]
        if silent:
            await one.other_settings(silent, adjustable=adjustable)
            await one.other_editions([meter for meter in silent if meter.key not in one.found])
            await one.addresses([meter for meter in silent if one.is_mute(meter)], search_s)
        await one.clocks_and_serials([meter for meter in meters if one.answers(meter)])
    return one.results()


@dataclass
class _Examination:
    open_line: Callable[[LineSettings], Line]
    settings: LineSettings
    meters: Sequence[PollMeter]
    network: bool
    serials: Mapping[str, str]
    local_time: Callable[[], datetime]
    progress: Progress
    evidence: LineEvidence = field(default_factory=LineEvidence)
    found: dict[str, list[Diagnosis]] = field(default_factory=dict)
    """What was found by trying, by key, likeliest first."""
    read: dict[str, Counter[Obis]] = field(default_factory=dict)
    """How often each register was read, by key."""
    identified: set[str] = field(default_factory=set)
    """Who has said who it is, by key."""
    refuted: dict[str, set[str]] = field(default_factory=dict)
    """Causes that were tried in vain, by key."""

    # --- reading

    async def watch(self, most_s: float, least_s: float) -> None:
        """Reads all meters again and again until it is clear how they are."""
        problems: list[str] = []

        def note(report: PollReport) -> None:
            if not report.health.connected and report.health.problem:
                problems.append(report.health.problem)
            self.identified.update(report.identities)
            for key, readings in report.readings.items():
                self.read.setdefault(key, Counter()).update(one.obis for one in readings)

        line, clock = self.open_line(self.settings), asyncio.get_running_loop().time
        round_s = sum(_round_s(meter, self.settings) for meter in self.meters)
        poller = Poller(
            line,
            # All registers in turn: with less, those that change fast leave no time for the others.
            PollSettings(
                fast_s=max(1.0, round_s),
                slow_s=max(2.0, round_s),
                report_every_s=0.5,
                probe_cap_s=2.0,
                budget=0.0,
                clock_care=False,
            ),
            note,
            serials=self.serials,
            monotonic=clock,
        )
        self.evidence = poller.evidence
        self.evidence.network = self.network
        poller.set_meters(self.meters)
        task = asyncio.create_task(poller.run())
        began = clock()
        # A long line takes its time to be read even once.
        most_s = max(least_s, most_s, 3 * round_s) + 1.5 * len(self.meters)
        try:
            while (spent := clock() - began) < most_s and not problems:
                clear = sum(self._is_clear(meter, spent, most_s) for meter in self.meters)
                if clear == len(self.meters) and spent >= least_s:
                    break
                left = f"{most_s - spent:.0f}"
                self.progress(say("examine_reading", done=clear, count=len(self.meters), seconds=left))
                await asyncio.sleep(0.25)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self.evidence.connected = not problems
        self.evidence.problem = problems[0] if problems else None

    def _is_clear(self, meter: PollMeter, spent_s: float, most_s: float) -> bool:
        """Whether no more is to be learned of a meter by reading it on."""
        seen = self.evidence.meters.get(meter.key)
        if seen is None:
            return False
        failures = sum(seen.counts.values()) - seen.counts[Outcome.ANSWERED]
        if seen.answered_at is None:
            return failures >= FAILURES
        if len(seen.visits) < VISITS or spent_s < LEAST_S or (not seen.refused and self.missing(meter, 2)):
            return False
        if seen.still.moved or seen.still.missing_kwh > enough_kwh(seen):
            return True
        # With little power it would take too long until the register must have moved.
        rate = seen.still.missing_kwh / spent_s
        return rate * most_s < enough_kwh(seen)

    def missing(self, meter: PollMeter, times: int) -> bool:
        """Whether any register of a meter was read less often."""
        read = self.read.get(meter.key, Counter())
        wanted = {one.obis for one in meter.template.registers if meter.wanted is None or one.obis in meter.wanted}
        return any(read[obis] < times for obis in wanted)

    def judged(self, meter: PollMeter) -> bool:
        """Whether enough of a meter was read to say that it is well: all that it does not refuse."""
        seen = self.evidence.meters.get(meter.key)
        return seen is not None and seen.answered_at is not None and (bool(seen.refused) or not self.missing(meter, 1))

    def answers(self, meter: PollMeter) -> bool:
        """Whether a meter said anything."""
        seen = self.evidence.meters.get(meter.key)
        return seen is not None and seen.alive_at is not None

    def is_mute(self, meter: PollMeter) -> bool:
        """Whether nothing at all was heard of a meter: who sends rubbish is at its address."""
        seen = self.evidence.meters.get(meter.key)
        heard = 0 if seen is None else sum(one.outcome is Outcome.DAMAGED for one in seen.recent)
        return meter.key not in self.found and (seen is None or 2 * heard < len(seen.recent))

    # --- trying

    async def other_settings(self, silent: Sequence[PollMeter], *, adjustable: bool) -> None:
        """Asks those who are silent at other speeds and parities, and in the other framing."""
        tried = list(silent[:TRIED])
        others = list(self._others(adjustable=adjustable, modbus=tried[0].protocol == "modbus"))
        for done, (settings, cause) in enumerate(others):
            self.progress(
                say(
                    "examine_settings",
                    baud=settings.baud,
                    parity=settings.parity,
                    done=done,
                    count=len(others),
                    seconds=f"{(len(others) - done) * len(tried) * TRY_S:.0f}",
                )
            )
            for meter in await self._who_answers(settings, tried):
                facts = {"baud": settings.baud, "parity": f"8{settings.parity}{settings.stop_bits}"}
                self._prove(meter, cause, say(f"found_{cause}", address=meter.address, **facts))
                tried.remove(meter)
            if not tried:
                return
        for meter in tried if adjustable else ():
            self.refuted.setdefault(meter.key, set()).update(("baud", "parity"))

    def _others(self, *, adjustable: bool, modbus: bool) -> Iterator[tuple[LineSettings, str]]:
        own = self.settings
        if self.network and modbus:
            yield replace(own, framing="rtu" if own.framing == "tcp" else "tcp"), "framing"
        if not adjustable:
            return
        for parity in PARITIES:
            if parity != own.parity:
                yield replace(own, parity=parity), "parity"
        for baud, parity in product(BAUDS, PARITIES[:2]):
            if baud != own.baud:
                yield replace(own, baud=baud, parity=parity), "baud"

    async def _who_answers(self, settings: LineSettings, meters: Sequence[PollMeter]) -> list[PollMeter]:
        try:
            line = self.open_line(replace(settings, late_reply_s=0.2))
            await line.open()
        except LineError, ConfigError:
            return []
        there = []
        try:
            for meter in meters:
                there += [meter] * await self._answers(line, meter.protocol, meter.address)
        except LineError:
            return there
        finally:
            await line.close()
        return there

    async def _answers(self, line: Line, protocol: str, address: str) -> bool:
        try:
            await line.exchange(question(protocol, address, line.settings), turnround_s=THINK_S)
        except Refused:
            return True
        except MeterError:
            return False
        return True

    async def other_editions(self, silent: Sequence[PollMeter]) -> None:
        """Asks DL/T 645 meters by the rules of the other edition."""
        others = {"dlt645-2007": "dlt645-1997", "dlt645-1997": "dlt645-2007"}
        asked = [meter for meter in silent if meter.protocol in others]
        for meter in await self._who_answers(
            self.settings, [replace(meter, protocol=others[meter.protocol]) for meter in asked]
        ):
            edition = meter.protocol.removeprefix("dlt645-")
            self._prove(meter, "wrong_template", say("found_edition", address=meter.address, edition=edition))

    async def addresses(self, silent: Sequence[PollMeter], most_s: float) -> None:
        """Searches the line for meters that are not on the list: one of them may be the one that is missed."""
        if not silent or most_s <= 0:
            return
        strangers: list[ScannedMeter] = []

        def found(one: ScannedMeter) -> None:
            if not one.known and one.key not in [other.key for other in strangers]:
                strangers.append(one)

        protocols = tuple(dict.fromkeys(meter.protocol for meter in silent))
        known = frozenset((meter.protocol, meter.address) for meter in self.meters if self.answers(meter))
        plan = ScanPlan(protocols, settings=(self.settings,), identify=False, known=known)
        clock = asyncio.get_running_loop().time
        end = clock() + most_s

        def tell(at: ScanProgress) -> None:
            left = f"{max(0.0, min(at.remaining_s, end - clock())):.0f}"
            self.progress(say("examine_addresses", done=at.done, count=at.total, seconds=left))

        try:
            async with asyncio.timeout_at(end):
                await scan(self.open_line, plan, progress=tell, found=found)
            complete = True
        except TimeoutError, LineError:
            complete = False
        for meter in silent:
            own = [one for one in strangers if one.protocol == meter.protocol]
            if any(one.address == meter.address for one in own):
                # It answered after all, or two at once.
                same = [one for one in own if one.address == meter.address]
                if any(one.clash or one.garbled for one in same):
                    sure = 0.95 if any(one.clash for one in same) else 0.5
                    self._prove(meter, "clash", say("diagnosis_clash", address=meter.address), sure)
                continue
            if not own:
                if complete:
                    self.refuted.setdefault(meter.key, set()).add("address")
                continue
            listed = len(self.meters) > 1
            if not listed:
                # Who answers may be anybody's: the line is well, and it alone is missing.
                others = ", ".join(one.address for one in own[:5])
                text = say(
                    "found_neighbours" if complete else "found_neighbours_cut", address=meter.address, other=others
                )
                self._prove(meter, "meter_off", text, 0.5)
            if likely := own if listed else _out_of_row(meter, own):
                others = ", ".join(one.address for one in likely[:5])
                text = say(
                    ("diagnosis_address" if complete else "address_cut") if listed else "address_perhaps",
                    address=meter.address,
                    other=others,
                )
                self._prove(meter, "address", text, 0.85 if listed else 0.35)

    def _prove(self, meter: PollMeter, cause: str, text: Sentence, likelihood: float = 0.95) -> None:
        facts = {
            "address": meter.address,
            "model": meter.template.name,
            "baud": self.settings.baud,
            "parity": self.settings.parity,
            **text.facts,
        }
        scope: Literal["meter", "line"] = "line" if cause == "framing" else "meter"
        found = Diagnosis(cause, likelihood, text, say(f"cure_{cause}", **facts), scope)
        self.found.setdefault(meter.key, []).append(found)

    # --- clocks and serial numbers

    async def clocks_and_serials(self, meters: Sequence[PollMeter]) -> None:
        """Compares the clocks of DL/T 645 meters with the time, and serial numbers with those that are expected."""
        dated = [meter for meter in meters if meter.protocol != "modbus"]
        named = [meter for meter in meters if meter.key in self.serials and meter.key not in self.identified]
        if not dated and not named:
            return
        line = self.open_line(self.settings)
        try:
            await line.open()
            for meter in dated:
                await self._clock(line, meter)
            for meter in named:
                await self._serial(line, meter)
        except LineError:
            return
        finally:
            await line.close()

    async def _clock(self, line: Line, meter: PollMeter) -> None:
        variant: Variant = "1997" if meter.protocol.endswith("1997") else "2007"
        dis = ("C010", "C011") if variant == "1997" else ("04000101", "04000102")
        try:
            found = await read_items(line, meter.address, dis, variant=variant, timeout_s=THINK_S, retries=1)
        except MeterError:
            return
        if (shown := _moment([(one.di, one.data) for one in found.found], variant)) is not None:
            offset_s = (shown - self.local_time()).total_seconds()
            self.evidence.meter(meter.key).clock_offset_s = offset_s

    async def _serial(self, line: Line, meter: PollMeter) -> None:
        reader = Reader(line, News(), asyncio.get_running_loop().time, retries=1)
        state = Meter(meter, line.settings, THINK_S)
        for asked in identity_requests(meter.template):
            try:
                said = asked.texts(await reader.identify(state, asked.request)).get("serial")
            except MeterError:
                continue
            if said is not None and not is_same(said, self.serials[meter.key]):
                self.evidence.meter(meter.key).swapped = self.serials[meter.key], said

    # --- the outcome

    def results(self) -> list[Examined]:
        """What is said of each meter."""
        now = asyncio.get_running_loop().time()
        made = []
        for meter in self.meters:
            seen = self.evidence.meter(meter.key, lambda meter=meter: MeterEvidence.of(meter))  # type: ignore[misc]
            said = diagnose(self.evidence, seen, now)
            said = _without(said, self.refuted.get(meter.key, set()))
            if proven := self.found.get(meter.key):
                rest = 1 - sum(one.likelihood for one in proven)
                others = [one for one in said if one.cause not in {found.cause for found in proven}]
                said = (*proven, *(replace(one, likelihood=round(one.likelihood * rest, 3)) for one in others))
            made.append(Examined(meter, self.answers(meter), said, self.judged(meter)))
        return made


def _round_s(meter: PollMeter, settings: LineSettings) -> float:
    """About how long it takes to read all registers of a meter once."""
    registers, byte_s = len(meter.template.registers), 11 / settings.baud
    if meter.protocol == "modbus":
        return registers * 6 * byte_s + (registers / 8 + 1) * (24 * byte_s + 0.1)
    return registers * (46 * byte_s + 0.1)


def _without(said: tuple[Diagnosis, ...], refuted: set[str]) -> tuple[Diagnosis, ...]:
    """What is left when causes are out of the question; the others take over what those had."""
    left = [one for one in said if one.cause not in refuted]
    if not left or len(left) == len(said):
        return said
    share = sum(one.likelihood for one in said) / sum(one.likelihood for one in left)
    return tuple(replace(one, likelihood=round(one.likelihood * share, 3)) for one in left)


def _out_of_row(meter: PollMeter, strangers: list[ScannedMeter]) -> list[ScannedMeter]:
    """Those that do not stand in a row with a meter's address: people number meters one after the other."""
    numbers = {int(one.address) for one in strangers if one.address.isdecimal()}
    own = int(meter.address) if meter.address.isdecimal() else 0
    row: set[int] = set()
    for step in (1, -1):
        at = own + step
        while at in numbers:
            row.add(at)
            at += step
    return [one for one in strangers if not one.address.isdecimal() or int(one.address) not in row]


def _moment(items: Sequence[tuple[str, bytes]], variant: Variant) -> datetime | None:
    """The moment that a clock shows, from its date and its time."""
    day: Any = None
    hour: Any = None
    for di, data in items:
        for one in decode_item(di, data, variant):
            if isinstance(one.value, date):
                day = one.value
            elif isinstance(one.value, day_time):
                hour = one.value
    return datetime.combine(day, hour) if day is not None and hour is not None else None
