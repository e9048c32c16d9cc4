"""Registers at boundaries → intervals, energy-conserving: what the intervals say adds up to what the register counted.

Pure and exact: registers are scaled integers (value = count × 10^exponent), as their meter shows them, without
multiplier. Each register of a point is closed by itself, because a record may lack one.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise

from ..model.obis import Obis
from ..model.quantity import QUANTITIES, Kind
from ..model.reading import Flag

MOST_PER_HOUR = 100_000
"""kWh (or kvarh) at the meter itself; nobody builds a meter that counts more, so more is another meter's register."""
NEAR_ZERO = 1000
"""A register that fell below this fraction of itself began again at zero; else it is another meter's."""
LONGEST_FILL_S = 400 * 86400
"""What was counted in a longer silence is spread over its last part of this length: a first clock may be years off."""
LONG_S = 2 * 86400
"""In a longer silence estimates are made by the hour."""
HOUR_S = 3600
US = 1_000_000

MEASURED, MEMORY, ESTIMATED, EDITED, SUSPECT, WITHDRAWN = 1, 2, 4, 8, 16, 32
"""Bits of `Row.flags`."""

type Count = tuple[int, int]
"""Count and exponent: count × 10^exponent."""
type Seen = tuple[float | None, float | None, float | None, float | None, float | None]
"""Greatest power, least, mean and greatest voltage, power factor."""
UNSEEN: Seen = (None, None, None, None, None)

KNOWN_FLAGS = MEASURED | MEMORY


def scaled(value: Decimal) -> Count:
    """The count and exponent of a finite decimal."""
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise TypeError(f"{value} is no number")
    count = int("".join(map(str, digits)))
    return -count if sign else count, exponent


def at_exponent(one: Count, exponent: int) -> int:
    """The count at an exponent that is not greater than its own."""
    count, own = one
    return count if own == exponent else count * int(10 ** (own - exponent))


@dataclass(frozen=True, slots=True)
class Record:
    """The registers of a point at a boundary. Instants in seconds since 1970, `read_us` in microseconds."""

    boundary: int
    read_us: int
    meter: str
    source: str
    values: Mapping[Obis, Count]
    ends: Mapping[Obis, Count] = field(default_factory=dict)
    seen: Seen = UNSEEN
    skew_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Again:
    """A register began again; see `record.Restart`."""

    at_us: int
    kind: Flag
    last: Count | None = None
    first: Count | None = None


@dataclass(slots=True)
class Row:
    """One interval in the meter's own digits."""

    start: int
    length: int
    counts: dict[Obis, Count]
    flags: int
    rule: str | None
    source: str
    skew_s: float
    seen: Seen = UNSEEN

    @property
    def end(self) -> int:
        """The second at which it ends."""
        return self.start + self.length


type RatesOf = Callable[[Obis, Sequence[int]], list[int]]
"""How fast a register usually counts, at each of these seconds."""
type Difference = tuple[int, int, str | None]
"""Count, exponent and the rule that doubts it."""


def difference(obis: Obis, before: Record, after: Record, restarts: Iterable[Again]) -> Difference:
    """What a register counted between two records that both have it, whatever became of it between.

    Deterministic, so that whoever checks the ledger comes to the same: consumption that nobody can know (before a
    reset, around a swap without readings) counts as nothing and is doubted.
    """
    between = [one for one in restarts if before.read_us < one.at_us <= after.read_us]
    known = [before.values[obis], after.values[obis]]
    known += [one for again in between for one in (again.last, again.first) if one is not None]
    if (end := after.ends.get(obis, before.ends.get(obis))) is not None:
        known.append(end)
    exponent = min(one[1] for one in known)
    a, b = at_exponent(before.values[obis], exponent), at_exponent(after.values[obis], exponent)
    limit = None if end is None else at_exponent(end, exponent)
    if between:
        return _across(a, b, exponent, limit, between)
    if before.meter != after.meter:
        return 0, exponent, "swap"
    grown = b - a
    hours = max(1, -(-(after.boundary - before.boundary) // HOUR_S))
    too_much = grown * 10 ** max(exponent, 0) > MOST_PER_HOUR * hours * 10 ** max(-exponent, 0)
    if QUANTITIES[obis].kind is Kind.BALANCE or (grown >= 0 and not too_much):
        return grown, exponent, None
    if too_much:
        return 0, exponent, "jump"
    if limit is not None and grown + limit <= limit // 100:
        return grown + limit, exponent, "roll_over"
    if b <= a // NEAR_ZERO:
        return b, exponent, "reset"
    return 0, exponent, "swap"


def _across(a: int, b: int, exponent: int, limit: int | None, between: Sequence[Again]) -> Difference:
    """The count over restarts that are known."""
    total, at, rule = 0, a, None
    for number, one in enumerate(between):
        last = None if one.last is None else at_exponent(one.last, exponent)
        first = None if one.first is None else at_exponent(one.first, exponent)
        if last is None:
            last = limit if one.kind is Flag.ROLL_OVER and limit is not None else at
            rule = rule if one.kind is Flag.ROLL_OVER and limit is not None else one.kind.value
        if first is None and one.kind is Flag.SWAP:
            following = between[number + 1].last if number + 1 < len(between) else None
            first = b if following is None else at_exponent(following, exponent)
            rule = one.kind.value
        if last < at:
            return 0, exponent, "contradiction"
        total, at = total + last - at, first or 0
    if b < at:
        return 0, exponent, "contradiction"
    return total + b - at, exponent, rule


def filled_from(before: Record, after: Record) -> int:
    """Where the intervals between two records begin."""
    return max(before.boundary, after.boundary - LONGEST_FILL_S)


def distribute(total: int, weights: Sequence[int]) -> list[int]:
    """`total` in parts as the weights are (evenly if all are 0), whole counts whose sum is `total` exactly.

    Each part is the difference of two rounded running totals, so the remainder is spread and no part is off by
    more than one count.
    """
    if not any(weights):
        weights = [1] * len(weights)
    whole, running, given, parts = sum(weights), 0, 0, []
    sign, size = (-1, -total) if total < 0 else (1, total)
    for weight in weights:
        running += weight
        upto = (2 * size * running + whole) // (2 * whole)
        parts.append(sign * (upto - given))
        given = upto
    return parts


def fits(record: Record, before: Record | None, after: Record | None, restarts: Mapping[Obis, Sequence[Again]]) -> bool:
    """Whether a late record lies between its neighbours in each register; what began again there cannot be judged."""
    for obis in record.values:
        if QUANTITIES[obis].kind is Kind.BALANCE:
            continue
        for low, high in ((before, record), (record, after)):
            if low is None or high is None or obis not in low.values or obis not in high.values:
                continue
            if low.meter != high.meter or any(
                low.read_us < one.at_us <= high.read_us for one in restarts.get(obis, ())
            ):
                continue
            exponent = min(low.values[obis][1], high.values[obis][1])
            if at_exponent(low.values[obis], exponent) > at_exponent(high.values[obis], exponent):
                # The register fell between the neighbours themselves: the record is not to blame.
                if before is not None and after is not None and _fell(obis, before, after):
                    continue
                return False
    return True


def _fell(obis: Obis, before: Record, after: Record) -> bool:
    if obis not in before.values or obis not in after.values:
        return False
    exponent = min(before.values[obis][1], after.values[obis][1])
    return at_exponent(before.values[obis], exponent) > at_exponent(after.values[obis], exponent)


def partition(records: Sequence[Record], existing: Sequence[Row], length: int) -> list[int]:
    """Where the intervals from the first to the last record begin and end, ascending.

    Every record is an edge, and so is every edge there was: a partition only becomes finer. Time that had no intervals
    is cut at the multiples of `length`, in a silence of more than two days at the hours.
    """
    edges = {one.boundary for one in records}
    for row in existing:
        edges |= {row.start, row.start + row.length}
    for before, after in pairwise(records):
        at, grid = filled_from(before, after), HOUR_S if after.boundary - before.boundary > LONG_S else length
        first = bisect_left(existing, at, key=lambda row: row.start)
        last = bisect_left(existing, after.boundary, key=lambda row: row.start)
        edges.add(at)
        at = max(at, existing[first - 1].end) if first else at
        for start, end in [*((row.start, row.end) for row in existing[first:last]), (after.boundary, 0)]:
            if at < start:
                edges |= {at, *range(at - at % grid + grid, start, grid)}
            at = end
    return sorted(edges)


def close(
    records: Sequence[Record],
    fresh: Collection[int],
    restarts: Mapping[Obis, Sequence[Again]],
    existing: Sequence[Row],
    length: int,
    rates_of: RatesOf,
) -> list[Row]:
    """The intervals between the records that change because those at the boundaries `fresh` are new.

    `records` ascend and reach from the last known before the fresh ones to the first known after them; `existing`
    are the intervals now known from the first to the last record, by start. `length` is what new intervals get if the
    boundaries allow. `rates_of` is asked only for stretches that have to be shared out.
    """
    if len(records) < 2:
        return []
    pairs = []
    for obis in sorted({obis for one in records for obis in one.values}):
        for before, after in pairwise([one for one in records if obis in one.values]):
            if before.boundary in fresh or after.boundary in fresh:
                pairs.append((obis, before, after))
    edges = partition(records, existing, length)
    if more := {filled_from(before, after) for _, before, after in pairs}.difference(edges):
        edges = sorted({*edges, *more})
    old = {row.start: row for row in cut(existing, edges)}
    whole = {row.start for row in existing if old[row.start].length == row.length}
    new: dict[int, Row] = {}
    for obis, before, after in pairs:
        _close_one(obis, before, after, restarts.get(obis, ()), edges, rates_of, new)
    for start, row in new.items():
        known = old.get(start)
        if known is None:
            continue
        if kept := {obis: count for obis, count in known.counts.items() if obis not in row.counts}:
            row.counts = dict(sorted({**kept, **row.counts}.items()))
            row.flags |= known.flags & (ESTIMATED | SUSPECT)
            row.rule = row.rule or known.rule
        if row.seen == UNSEEN:
            row.seen = known.seen
    seen = {one.boundary: one.seen for one in records if one.seen != UNSEEN}
    for row in new.values():
        if row.flags & ESTIMATED:
            # An estimate in one register is one of the interval; what is wholly known says from where.
            row.flags &= ~(MEASURED | MEMORY)
        elif row.flags & MEMORY:
            row.flags &= ~MEASURED
        row.seen = seen.get(row.end, row.seen)
    finer = {start for start, row in old.items() if start not in whole and start not in new}
    changed = [row for row in new.values() if row.start not in whole or row != old[row.start]]
    return sorted([*changed, *(old[start] for start in finer)], key=lambda row: row.start)


def _close_one(
    obis: Obis,
    before: Record,
    after: Record,
    restarts: Iterable[Again],
    edges: Sequence[int],
    rates_of: RatesOf,
    new: dict[int, Row],
) -> None:
    total, exponent, rule = difference(obis, before, after, restarts)
    first, last = bisect_left(edges, filled_from(before, after)), bisect_left(edges, after.boundary)
    starts = edges[first:last]
    lengths = [end - start for start, end in pairwise(edges[first : last + 1])]
    flags = ESTIMATED if len(starts) > 1 else MEMORY if "memory" in (before.source, after.source) else MEASURED
    if rule is not None:
        flags |= SUSPECT
    source = "memory" if "memory" in (before.source, after.source) else after.source
    skew_s = max(before.skew_s, after.skew_s, key=abs)
    if len(starts) == 1:
        parts = [total]
    elif total == 0 or before.boundary // HOUR_S == (after.boundary - 1) // HOUR_S:
        parts = distribute(total, lengths)
    else:
        rates = rates_of(obis, starts)
        parts = distribute(total, [rate * long for rate, long in zip(rates, lengths, strict=True)])
    for start, long, count in zip(starts, lengths, parts, strict=True):
        row = new.get(start)
        if row is None:
            new[start] = Row(start, long, {obis: (count, exponent)}, flags, rule, source, skew_s)
        else:
            row.counts[obis] = (count, exponent)
            row.flags |= flags
            row.rule = row.rule or rule


def cut(rows: Iterable[Row], edges: Sequence[int], *, flag: int = ESTIMATED) -> Iterator[Row]:
    """Rows cut where an edge falls into them: each count shared out by time, so that it is an estimate."""
    for row in rows:
        inner = edges[bisect_right(edges, row.start) : bisect_left(edges, row.end)]
        if not inner:
            yield row
            continue
        pieces = list(pairwise((row.start, *inner, row.end)))
        shares = {
            obis: [(part, exponent) for part in distribute(count, [end - start for start, end in pieces])]
            for obis, (count, exponent) in row.counts.items()
        }
        for number, (start, end) in enumerate(pieces):
            counts = {obis: parts[number] for obis, parts in shares.items()}
            flags = (row.flags & SUSPECT) | flag
            yield Row(start, end - start, counts, flags, row.rule, row.source, row.skew_s, row.seen)
