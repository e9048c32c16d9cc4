"""What the hourly statistics must say, worked out: rows, sums and the jobs to write them. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from .const import DOMAIN
from .engine import QUANTITIES, Point, Quantity
from .engine.ledger import Sum
from .engine.model.obis import Obis

HOUR_S = 3600

KEPT = ("energy_import", "energy_export", "energy_gross")
"""The registers that get a statistic; the gross one only where a meter does not tell import from export."""
ROWS = 1_000
"""At most so many hours are asked of the ledger and given to the recorder at a time; then both are free for others."""
APART = 48
"""Changed hours further apart than so many hours are written by themselves."""
ALIKE = 48
"""So many hours that all differ by the same are moved by one statement: it costs about as much as so many rows."""
NEAR = Decimal("0.000001")
"""Sums are stored as floats; what differs by less is the same."""


def kept(obis: Iterable[str]) -> list[Quantity]:
    """Which of these registers get a statistic."""
    keys = {QUANTITIES[one].key: QUANTITIES[one] for one in obis if one in QUANTITIES}
    found = [keys[key] for key in KEPT if key in keys]
    return [one for one in found if one.key != "energy_gross" or "energy_import" not in keys]


def statistic_id(point: str, quantity: Quantity) -> str:
    """The id of the one statistic of a register of a point."""
    return f"{DOMAIN}:{point}_{quantity.key}"


@dataclass(frozen=True, slots=True)
class Row:
    """One hour of a statistic: its start (seconds since 1970), and the sum until its end."""

    start: int
    sum: Decimal


@dataclass(frozen=True, slots=True)
class Plan:
    """What has to be written: first rows, then from which hours on all sums are moved by how much."""

    rows: tuple[Row, ...] = ()
    shifts: tuple[tuple[int, Decimal], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.rows or self.shifts)


def plan(
    before: Decimal,
    stored: Sequence[Row],
    energies: Mapping[int, Decimal],
    changed: Collection[int],
    *,
    alike: int = ALIKE,
) -> Plan:
    """What makes stored rows say what the ledger says of the changed hours.

    `before` is the sum of the newest row before the first changed hour (0 where there is none); `stored` are the rows
    from there on, at least to the first one after the last changed hour; `energies` is what the ledger knows of these
    hours. An hour the ledger does not know keeps the energy it has; a changed one it no longer knows has none.
    Hours whose energy is right are moved where there are at least `alike` of them, or they are the last ones.
    """
    last = max(changed)
    have = {row.start: row.sum for row in stored}
    sums: list[Row] = []
    wrong: set[int] = set()
    running = previous = before
    for start in sorted({*have, *changed}):
        energy = energies.get(start)
        if energy is None:
            if start in changed and start not in have:
                continue
            energy = Decimal(0) if start in changed else have[start] - previous
        running += energy
        sums.append(Row(start, running))
        if start not in have or differ(previous + energy, have[start]):
            wrong.add(start)
        if start > last:
            break
        previous = have.get(start, previous)
    rows, shifts, moved, at = [], [], Decimal(0), 0
    while at < len(sums):
        one, end = sums[at], at + 1
        # Whatever the first one after the last changed hour lacks, all that come after it lack too.
        written = one.start in wrong and one.start <= last
        if one.start not in have or (written and differ(one.sum, have[one.start] + moved)):
            rows.append(Row(one.start, one.sum - moved))
        elif differ(one.sum, have[one.start] + moved):
            off = one.sum - have[one.start]
            while end < len(sums) and sums[end].start not in wrong:
                end += 1
            if end - at >= alike or sums[end - 1].start > last:
                shifts.append((one.start, off - moved))
                moved = off
            else:
                rows += [Row(row.start, row.sum - moved) for row in sums[at:end]]
        at = end
    return Plan(tuple(rows), tuple(shifts))


def differ(one: Decimal, other: Decimal) -> bool:
    """Whether two sums differ by more than floats do."""
    return abs(one - other) > max(NEAR, abs(one) * Decimal("1e-13"))


@dataclass(frozen=True, slots=True)
class Job:
    """Hours of one statistic that changed, close together."""

    point: str
    quantity: Quantity
    hours: tuple[int, ...]

    @property
    def id(self) -> str:
        """Of its statistic."""
        return statistic_id(self.point, self.quantity)


def jobs_of(hours: Mapping[str, Collection[int]], quantities: Mapping[str, Iterable[Quantity]]) -> list[Job]:
    """The work for changed hours of points: import before export, the newest hours first."""
    found = []
    for point, all_ in hours.items():
        near: list[list[int]] = []
        for hour in sorted(all_):
            if near and hour - near[-1][-1] <= APART * HOUR_S and len(near[-1]) < ROWS:
                near[-1].append(hour)
            else:
                near.append([hour])
        found += [Job(point, quantity, tuple(one)) for one in near for quantity in quantities[point]]
    return sorted(found, key=lambda job: (KEPT.index(job.quantity.key), -job.hours[-1], job.point))


def batches_of(jobs: Iterable[Job]) -> list[list[Job]]:
    """In their order, as many as the recorder gets at a time; a statistic is once in each."""
    found: list[list[Job]] = [[]]
    rows, ids = 0, set[str]()
    for job in jobs:
        if found[-1] and (rows + len(job.hours) > ROWS or job.id in ids):
            found.append([])
            rows, ids = 0, set()
        found[-1].append(job)
        rows += len(job.hours)
        ids.add(job.id)
    return [one for one in found if one]


def hour_of(at: datetime) -> int:
    """The start of the hour that holds an instant, in seconds since 1970."""
    seconds = int(at.timestamp())
    return seconds - seconds % HOUR_S


def instant(seconds: int) -> datetime:
    """The inverse."""
    return datetime.fromtimestamp(seconds, UTC)


def parts_of(points: Mapping[str, Point], id_: str) -> set[str]:
    """The measured points that a point is made of; itself, where it is measured."""
    point = points.get(id_)
    if point is None or not point.virtual:
        return {id_}
    return set[str]().union(*(parts_of(points, term.point) for term in point.formula))


def energy_of(
    points: Mapping[str, Point], known: Mapping[tuple[str, int], Sum], id_: str, obis: Obis, hour: int
) -> Decimal | None:
    """Energy of an hour; None where nothing is known, or of a virtual point where its parts are not equally known."""
    point = points.get(id_)
    if point is None or not point.virtual:
        found = known.get((id_, hour))
        return None if found is None else found.energies.get(obis)
    parts = [known.get((part, hour)) for part in parts_of(points, id_)]
    if len({None if part is None else part.covered_s for part in parts}) != 1:
        return None
    terms = [(term.sign, energy_of(points, known, term.point, obis, hour)) for term in point.formula]
    if any(energy is None for _, energy in terms):
        return None
    return sum((sign * energy for sign, energy in terms if energy is not None), Decimal(0))
