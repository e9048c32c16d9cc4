"""The short way: the next boundary of a point of which all is as usual becomes a record and an interval.

No lookup in the file, and of decimal arithmetic one product a register: this is what every quarter of an hour costs a
thousand points, and what each record of a meter's memory costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from math import nan
from operator import itemgetter, mul, sub
from zlib import crc32

from ..model.obis import Obis
from ..model.quantity import QUANTITIES, Kind
from .book import Book
from .closer import MEASURED, MEMORY, MOST_PER_HOUR, US, Record
from .record import EPOCH, NOTHING, SECOND, Boundary
from .rows import Names, Raw, columns_of
from .store import BUCKET_S, pack_interval, pack_raw


@dataclass(slots=True)
class Head:
    """The newest record of a point, ready for the next one."""

    boundary: int
    meter: str
    meter_number: int
    layout: int
    values_of: Callable[[Mapping[Obis, Decimal]], tuple[Decimal, ...]]
    """The registers in the order of the layout; KeyError where one is missing."""
    scales: tuple[Decimal, ...]
    """Counts a unit."""
    counts: tuple[int, ...]
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
    columns, text = columns_of(record.values)
    if not columns or any(exponent > 0 or QUANTITIES[obis].kind is Kind.BALANCE for obis, exponent in columns):
        return None
    names_ = [obis for obis, _ in columns]
    one = itemgetter(*names_)
    return Head(
        record.boundary,
        record.meter,
        names.meter(record.meter),
        names.layout(columns),
        one if len(columns) > 1 else lambda registers: (one(registers),),
        tuple(Decimal(10**-exponent) for _, exponent in columns),
        tuple(map(int, text.split())),
        MOST_PER_HOUR * min(10**-exponent for _, exponent in columns),
        " ".join(["%d"] * len(columns)),
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
        try:
            values = head.values_of(registers)
        except KeyError:
            rest.append(new)
            continue
        shifted = tuple(map(mul, values, head.scales, strict=True))
        counts = tuple(map(int, shifted))
        grown = tuple(map(sub, counts, head.counts, strict=True))
        # A finer digit than before, a fall, or more than can be.
        if counts != shifted or min(grown) < 0 or max(grown) > head.most:
            rest.append(new)
            continue
        number, layout, skew_s, source, seen = numbers[point], head.layout, new.skew_s, new.source, new.observed
        # Checksums as in store, without the cost of a call.
        read_us, text, bucket, meter = (
            at * US + round(skew_s * US),
            head.form % counts,
            at // BUCKET_S,
            head.meter_number,
        )
        packed = pack_raw(bucket, number, at, revision, 1, read_us, meter, layout, skew_s)
        add_raw(
            (
                bucket, number, at, revision, 1, read_us, meter, source, layout, text, skew_s,
                crc32(packed + f"{source} {text}".encode()),
            )
        )  # fmt: skip
        flags, head_memory = MEASURED, source == "memory"
        if head.memory or head_memory:
            flags, source = MEMORY, "memory"
        worst = skew_s if abs(skew_s) > abs(head.skew_s) else head.skew_s
        text, bucket, long, factor = head.form % grown, start // BUCKET_S, at - start, head.factor
        if seen is NOTHING:
            power = low = mean = high = pf = None
            packed = pack_interval(bucket, number, start, revision, long, layout, flags, worst, nan, nan, nan, nan, nan)
        else:
            power, low, mean = seen.demand_max_kw, seen.voltage_min_v, seen.voltage_mean_v
            high, pf = seen.voltage_max_v, seen.power_factor
            shown = [nan if one is None else one for one in (power, low, mean, high, pf)]
            packed = pack_interval(bucket, number, start, revision, long, layout, flags, worst, *shown)
        add_interval(
            (
                bucket, number, start, revision, long, layout, text, factor, flags, None, source, worst,
                power, low, mean, high, pf, crc32(packed + f"{text} {factor} None {source}".encode()),
            )
        )  # fmt: skip
        head.boundary, head.counts, head.skew_s, head.memory = at, counts, skew_s, head_memory
    return rest
