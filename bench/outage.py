"""A 48-hour cut of half the lines, on a simulated clock: what the meters' memory brings back, and its price.

Real virtual meters on simulated wires, the real poller and the real ledger. Every quarter of an hour that is known
afterwards is compared with what the meters measured.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from meter_batch_engine.fleet import Poller, PollMeter, PollReport, PollSettings, Snapshot
from meter_batch_engine.ledger import Boundary, Ledger, boundary_of
from meter_batch_engine.model.interval import Hole
from meter_batch_engine.model.obis import Obis
from meter_batch_engine.model.point import InstalledMeter, Point, Route
from meter_batch_engine.model.reading import Value
from meter_batch_engine.template import Memory, shown

from .figure import Figure
from .simulated import SimulatedLoop, VirtualSite, run_simulated

START = datetime(2026, 11, 2, 3, 7, tzinfo=UTC)
ZONE = "Asia/Shanghai"
LENGTH = timedelta(minutes=15)
TAKE_EVERY_S = 60.0
"""What has come goes into the ledger together, as in Home Assistant."""
WANTED_FAST = frozenset({"1-0:16.7.0", "1-0:32.7.0"})
"""What the site looks at all the time: power and a voltage."""


@dataclass
class Place:
    """One metering point of the site."""

    line: str
    point: Point
    poll: PollMeter
    ends: Mapping[Obis, Decimal]


@dataclass
class Outcome:
    """What a site has seen."""

    reports: list[tuple[str, PollReport]] = field(default_factory=list)


class BackfilledSite:
    """Virtual lines, a poller for each and one ledger: what a host does, and no more."""

    def __init__(
        self,
        loop: SimulatedLoop,
        fleet: str,
        folder: Path,
        at: datetime = START,
        *,
        remembers: Memory | None = None,
        **settings: object,
    ) -> None:
        self.loop, self.site = loop, VirtualSite(loop, fleet, at)
        self.ledger = Ledger(folder / "ledger.db", time_zone=ZONE, now=self.site.clock.now)
        self.outcome = Outcome()
        self.since = at
        """From when on the ledger is to be complete."""
        self.places: dict[str, Place] = {}
        self.pollers: dict[str, Poller] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._waiting: list[Boundary] = []
        self._taken_at = 0.0
        self._more: tuple[Hole, ...] = ()
        self._settings = PollSettings(time_zone=ZONE, **settings)  # type: ignore[arg-type]
        for line in self.site.lines:
            for address, meter in self.site.meters[line].items():
                template = meter.template if remembers is None else replace(meter.template, memory=remembers)
                point = Point(
                    f"{line} {address}",
                    f"{line} {address}",
                    (InstalledMeter(at, template.id),),
                    (Route(line, template.protocol, address),),
                )
                fast = {one.obis for one in template.registers if one.group == "energy" or one.obis in WANTED_FAST}
                poll = PollMeter(point.id, point.name, template, address, template.protocol, frozenset(fast), point)
                ends = {
                    one.obis: end for one in template.registers if (end := template.roll_over(one.obis)) is not None
                }
                self.places[point.id] = Place(line, point, poll, ends)
            self.start(line)

    def start(self, line: str) -> None:
        """A poller for a line, knowing nothing yet: also what a restart of the program does."""
        poller = Poller(
            self.site.lines[line],
            self._settings,
            lambda report: self._take(line, report),
            now=self.site.clock.now,
            monotonic=self.loop.time,
        )
        poller.set_meters(place.poll for place in self.places.values() if place.line == line)
        self.pollers[line] = poller
        self.tell_holes(line)
        self._tasks.append(asyncio.create_task(poller.run(), name=line))

    async def stop(self, line: str | None = None) -> None:
        """Ends the poller of a line, or all of them."""
        ending = [one for one in self._tasks if line is None or one.get_name() == line]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        self._tasks = [one for one in self._tasks if one not in ending]
        if line is None:
            self.ledger.close()

    def ask(self, *holes: Hole) -> None:
        """Lets every meter be asked for more than the ledger misses."""
        self._more = holes
        for line in self.pollers:
            self.tell_holes(line)

    def tell_holes(self, line: str) -> None:
        """What the ledger misses of a line."""
        known = set(self.ledger.points)
        self.pollers[line].set_holes(
            {
                key: (*self._more, *(self.ledger.holes(key, self.since) if key in known else ()))
                for key, place in self.places.items()
                if place.line == line
            }
        )

    def _take(self, line: str, report: PollReport) -> None:
        self.outcome.reports.append((line, report))
        for kind, found in (("poll", report.snapshots.items()), ("memory", report.memory.items())):
            for key, those in found:
                place = self.places[key]
                for one in (those,) if isinstance(those, Snapshot) else those:
                    boundary = boundary_of(place.point, one, ends=place.ends)
                    self._waiting.append(replace(boundary, source=kind))  # type: ignore[arg-type]
        if self._waiting and self.loop.time() > self._taken_at + TAKE_EVERY_S:
            self.take()
            # Whoever's report came when it was time: records of all lines were taken.
            for each in self.pollers:
                self.tell_holes(each)

    def take(self) -> None:
        """Puts what has come into the ledger."""
        self._taken_at = self.loop.time()
        waiting, self._waiting = self._waiting, []
        self.ledger.take(waiting)

    async def wait(self, until: datetime, done: Callable[[], bool] = lambda: False) -> None:
        """Lets time pass, until an instant or until something is done."""
        while self.site.clock.now() < until and not done():  # noqa: ASYNC110 - the clock is simulated
            await asyncio.sleep(min(60.0, self.site.until(until)))
        self.take()

    def known(self, start: datetime, end: datetime) -> tuple[int, int]:
        """How many intervals of all points are known, of how many, in a stretch."""
        self.take()
        found = self.ledger.intervals(list(self.places), start, end)
        every = len(self.places) * int((end - start) / LENGTH)
        return sum(one.completeness == 1 and one.length_s == LENGTH.total_seconds() for one in found), every

    def truth(self, key: str, at: datetime) -> Mapping[Obis, Value]:
        """The boundary registers of a point as its meter would have shown them at an instant."""
        place = self.places[key]
        meter = self.site.meters[place.line][place.poll.address]
        energies = [one.obis for one in meter.template.registers if one.group == "energy"]
        return shown(meter.template, meter.values(at, energies))

    def wrong(self, start: datetime, end: datetime) -> int:
        """How many intervals from memory are not what the meters measured, to the last digit."""
        wrong = 0
        for key in self.places:
            truths: dict[datetime, Mapping[Obis, Value]] = {}
            for one in self.ledger.intervals([key], start, end):
                for at in {one.start, one.end} - truths.keys():
                    truths[at] = self.truth(key, at)
                first, last = truths[one.start], truths[one.end]
                wrong += any(
                    Decimal(last[obis]) - Decimal(first[obis]) != energy for obis, energy in one.energies.items()
                )
        return wrong


LINE = """
[[line]]
name = "{name}"
listen = "tcp://127.0.0.1:0"
protocol = "{protocol}"
baud = {baud}
parity = "{parity}"
meter = [{{ template = "{template}", address = {address}, count = {count} }}]
"""
KINDS = (
    ("dlt645-2007", 2400, "E", "generic/dlt645-3ph", '"202500000001"'),
    ("dlt645-2007", 9600, "E", "generic/dlt645-3ph", '"202500001001"'),
    ("modbus-rtu", 9600, "N", "eastron/sdm630", "1"),
)


def fleet(count: int) -> str:
    """Six lines of three kinds, each kind twice: one of them will be cut."""
    return "".join(
        LINE.format(
            name=f"{state} {number}",
            protocol=kind[0],
            baud=kind[1],
            parity=kind[2],
            template=kind[3],
            address=kind[4],
            count=count,
        )
        for number, kind in enumerate(KINDS)
        for state in ("cut", "whole")
    )


def run(*, full: bool) -> list[Figure]:
    """Three of six lines are cut for two days; meters a line: 32, or 8 in a quick run."""
    meters = 32 if full else 8
    with tempfile.TemporaryDirectory() as folder:
        return run_simulated(lambda loop: _cut(loop, meters, Path(folder)))


async def _cut(loop: SimulatedLoop, meters: int, folder: Path) -> list[Figure]:
    site = BackfilledSite(loop, fleet(meters), folder, fast_s=60.0, slow_s=900.0)
    try:
        cut_at = START + timedelta(hours=2)
        await site.wait(cut_at)
        cycle_before = _cycles(site, START + timedelta(hours=1), cut_at)
        cut = [line for line in site.site.lines if line.startswith("cut")]
        for line in cut:
            site.site.cut(line)
        back = cut_at + timedelta(hours=48)
        # What the whole lines do meanwhile is of no interest here.
        whole = [line for line in site.site.lines if line not in cut]
        for line in whole:
            await site.stop(line)
        await site.wait(back)
        for line in cut:
            site.site.mend(line)
        for line in whole:
            site.start(line)
        end = back + timedelta(hours=24)
        first, last = _floor(cut_at) - LENGTH, _floor(back) + 2 * LENGTH
        shares: list[float] = []
        done_at: datetime | None = None
        while site.site.clock.now() < end and done_at is None:
            await site.wait(site.site.clock.now() + timedelta(minutes=5))
            shares.append(max(report.backfill.airtime_share for _, report in site.outcome.reports[-len(cut) * 4 :]))
            known, every = site.known(first, last)
            if known == every and site.site.clock.now() > back + timedelta(minutes=20):
                done_at = site.site.clock.now()
        known, every = site.known(first, last)
        during = _cycles(site, back + timedelta(minutes=5), done_at or end)
        seen = [
            (key, one.boundary)
            for _, report in site.outcome.reports
            for key, those in report.memory.items()
            for one in those
        ]
        doubles = len(seen) - len(set(seen))
        inside = site.wrong(_floor(cut_at) + LENGTH, _floor(back))
        hours = ((done_at or end) - back) / timedelta(hours=1)
        ratio = max(during[line] / cycle_before[line] for line in cycle_before if line in during)
    finally:
        await site.stop()
    note = f"{len(KINDS) * 2} lines × {meters} meters, three of them cut for 48 h"
    return [
        Figure("outage", "completeness within 24 h of meter time", known / every, "", "higher", 0.9995, note),
        Figure("outage", "doubles", doubles, "records", "lower", 0, "records that came twice from memory"),
        Figure("outage", "quarter hours that differ from what the meters measured", inside, "", "lower", 0, note),
        Figure("outage", "back-fill share of a line's time", max(shares), "", "lower", 0.21, "highest ten minutes"),
        Figure("outage", "live cycle while back-filling over before", ratio, "", "lower", 1.25, "worst line"),
        Figure("outage", "until everything is back", hours, "h", "lower", 24, note),
    ]


def _floor(at: datetime) -> datetime:
    return at - (at - datetime(1970, 1, 1, tzinfo=UTC)) % LENGTH


def _cycles(site: BackfilledSite, start: datetime, end: datetime) -> dict[str, float]:
    """By line, the mean time that lay between two readings of a meter's power."""
    times: dict[str, dict[str, list[datetime]]] = {}
    for line, report in site.outcome.reports:
        if start <= report.at < end:
            for key in report.readings:
                times.setdefault(line, {}).setdefault(key, []).append(report.at)
    return {
        line: sum((one[-1] - one[0]).total_seconds() / (len(one) - 1) for one in by_meter.values() if len(one) > 1)
        / max(1, sum(len(one) > 1 for one in by_meter.values()))
        for line, by_meter in times.items()
    }
