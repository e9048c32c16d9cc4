"""The short way: the next boundary of a point of which all is as usual becomes a record and an interval.

No lookup in the file, and of decimal arithmetic one product a register: this is what every quarter of an hour costs a
thousand points, and what each record of a meter's memory costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from ..model.obis import Obis
from ..model.quantity import QUANTITIES, Kind
from .book import Book
from .closer import MEASURED, MEMORY, MOST_PER_HOUR, US, Record
from .record import EPOCH, SECOND, Boundary
from .rows import Names, Raw, columns_of
from .store import BUCKET_S, checksum_interval, checksum_raw


@dataclass(slots=True)
class Head:
    """The newest record of a point, ready for the next one."""

    boundary: int
    meter: str
    meter_number: int
    layout: int
    columns: list[tuple[Obis, Decimal]]
    """OBIS and counts a unit."""
    counts: list[int]
    most: int
    """The greatest growth of any that is believed within an interval."""
    form: str
    """How counts become text."""
    factor: str
    factor_until: int
    skew_s: float
    memory: bool


def head_of(names: Names, book: Book, record: Record) -> Head | None:
    """Ready for the record after this one; None where that has to go the long way."""
    columns, counts = [], []
    for obis, (count, exponent) in sorted(record.values.items()):
        if exponent > 0 or QUANTITIES[obis].kind is Kind.BALANCE:
            return None
        columns.append((obis, Decimal(10**-exponent)))
        counts.append(count)
    if not columns:
        return None
    return Head(
        record.boundary,
        record.meter,
        names.meter(record.meter),
        names.layout(columns_of(record.values)[0]),
        columns,
        counts,
        MOST_PER_HOUR * min(int(scale) for _, scale in columns),
        " ".join(["%d"] * len(counts)),
        book.factor(record.boundary),
        min((since for since, _ in book.factors if since > record.boundary), default=1 << 60),
        record.skew_s,
        record.source == "memory",
    )


def follow(
    boundaries: Iterable[Boundary],
    heads: Mapping[str, Head],
    numbers: Mapping[str, int],
    length: int,
    revision: int,
    add_raw: Callable[[Raw], None],
    add_interval: Callable[[Raw], None],
) -> list[Boundary]:
    """Adds the rows of boundaries that follow their head without a line of the grid between; returns the others."""
    rest: list[Boundary] = []
    when, at = None, 0
    for new in boundaries:
        point, registers = new.point, new.registers
        head = heads.get(point)
        if new.at is not when:
            when = new.at
            at = (when - EPOCH) // SECOND
        if (
            head is None
            or not (start := head.boundary) < at <= start - start % length + length
            or new.meter != head.meter
            or len(registers) != len(head.counts)
            or start >= head.factor_until
        ):
            rest.append(new)
            continue
        shifted = [registers[obis] * scale for obis, scale in head.columns if obis in registers]
        counts = list(map(int, shifted))
        grown = [one - before for one, before in zip(counts, head.counts, strict=False)]
        # A finer digit than before, another register, a fall, or more than can be.
        if len(counts) != len(registers) or counts != shifted or min(grown) < 0 or max(grown) > head.most:
            rest.append(new)
            continue
        number, skew_s, source = numbers[point], new.skew_s, new.source
        read_us = at * US + round(skew_s * US)
        raw = (
            at // BUCKET_S, number, at, revision, 1, read_us, head.meter_number, source, head.layout,
            head.form % tuple(counts), skew_s,
        )  # fmt: skip
        add_raw((*raw, checksum_raw(*raw)))
        memory = head.memory or source == "memory"
        seen = new.observed
        interval = (
            start // BUCKET_S, number, start, revision, at - start, head.layout, head.form % tuple(grown), head.factor,
            MEMORY if memory else MEASURED, None, "memory" if memory else source,
            skew_s if abs(skew_s) > abs(head.skew_s) else head.skew_s,
            seen.demand_max_kw, seen.voltage_min_v, seen.voltage_mean_v, seen.voltage_max_v, seen.power_factor,
        )  # fmt: skip
        add_interval((*interval, checksum_interval(*interval)))
        head.boundary, head.counts, head.skew_s, head.memory = at, counts, skew_s, source == "memory"
    return rest
