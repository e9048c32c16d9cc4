"""Rows of the file ↔ values. The only module that knows what stands in a column. Needs the file only for its names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from ..model.interval import Interval, Quality
from ..model.obis import Obis
from .closer import (
    EDITED,
    ESTIMATED,
    KNOWN_FLAGS,
    MEASURED,
    MEMORY,
    SUSPECT,
    WITHDRAWN,
    Count,
    Record,
    Row,
    Seen,
)
from .record import Observed, instant
from .shape import Columns
from .store import BUCKET_S, Store, checksum_interval, checksum_raw

type Raw = tuple[Any, ...]

_QUALITIES = (
    (MEASURED, Quality.MEASURED),
    (MEMORY, Quality.METER_MEMORY),
    (ESTIMATED, Quality.ESTIMATED),
    (EDITED, Quality.EDITED),
    (SUSPECT, Quality.SUSPECT),
    (WITHDRAWN, Quality.WITHDRAWN),
)
KNOWN = KNOWN_FLAGS | EDITED
FLAGS = {bits: frozenset(name for bit, name in _QUALITIES if bits & bit) for bits in range(64)}
"""Qualities by the bits of a row."""


class Names:
    """Points, meters and layouts by number, as the file has them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.forget()

    def forget(self) -> None:
        """Reads all anew, because a transaction was undone."""
        self.points = {text: number for number, text in self._store.texts("point", "id").items()}
        self.ids = {number: text for text, number in self.points.items()}
        self.meters = self._store.texts("meter", "id")
        self._meter_numbers = {text: number for number, text in self.meters.items()}
        layouts = self._store.texts("layout", "registers")
        self.layouts = {number: columns_from(text) for number, text in layouts.items()}
        self._layout_numbers = {columns: number for number, columns in self.layouts.items()}

    def point(self, id_: str) -> int:
        """The number of a point."""
        if (number := self.points.get(id_)) is None:
            number = self.points[id_] = self._store.number("point", "id", id_)
            self.ids[number] = id_
        return number

    def meter(self, id_: str) -> int:
        """The number of a meter."""
        if (number := self._meter_numbers.get(id_)) is None:
            number = self._meter_numbers[id_] = self._store.number("meter", "id", id_)
            self.meters[number] = id_
        return number

    def layout(self, columns: Columns) -> int:
        """The number of a layout."""
        if (number := self._layout_numbers.get(columns)) is None:
            text = " ".join(f"{obis}/{exponent}" for obis, exponent in columns)
            number = self._layout_numbers[columns] = self._store.number("layout", "registers", text)
            self.layouts[number] = columns
        return number


def columns_from(text: str) -> Columns:
    """The inverse of how layouts are written."""
    pairs = (one.rpartition("/") for one in text.split())
    return tuple((obis, int(exponent)) for obis, _, exponent in pairs)


def columns_of(values: Mapping[Obis, Count]) -> tuple[Columns, str]:
    """Layout and text of counts."""
    ordered = sorted(values.items())
    return tuple([(obis, count[1]) for obis, count in ordered]), " ".join([str(count[0]) for _, count in ordered])


def values_from(columns: Columns, text: str) -> dict[Obis, Count]:
    """The inverse of `columns_of`."""
    return {obis: (int(one), exponent) for (obis, exponent), one in zip(columns, text.split(), strict=True)}


def seen_of(observed: Observed) -> Seen:
    """As closer and file have it."""
    return (
        observed.demand_max_kw,
        observed.voltage_min_v,
        observed.voltage_mean_v,
        observed.voltage_max_v,
        observed.power_factor,
    )


def raw_row(names: Names, point: int, record: Record, revision: int, used: int) -> Raw:
    """A row of `raw`."""
    columns, text = columns_of(record.values)
    row = (
        record.boundary // BUCKET_S, point, record.boundary, revision, used, record.read_us,
        names.meter(record.meter), record.source, names.layout(columns), text, record.skew_s,
    )  # fmt: skip
    return (*row, checksum_raw(*row))


def records_from(
    names: Names, rows: Iterable[Raw], void: Mapping[int, int], ends: Mapping[Obis, Count]
) -> list[Record]:
    """The records that count, by boundary. `void`: boundary → the revision that took back what it had before."""
    found: dict[int, Record] = {}
    for _, _, boundary, revision, used, read_us, meter, source, layout, text, skew_s, _ in rows:
        if not used or void.get(boundary, 0) > revision:
            continue
        values = values_from(names.layouts[layout], text)
        known = found.get(boundary)
        if known is not None and used == 1:
            values = {**values, **known.values}
            found[boundary] = Record(
                boundary, known.read_us, known.meter, known.source, values, ends, skew_s=known.skew_s
            )
        else:
            found[boundary] = Record(boundary, read_us, names.meters[meter], source, values, ends, skew_s=skew_s)
    return list(found.values())


def interval_row(names: Names, point: int, row: Row, factor: str, revision: int) -> Raw:
    """A row of `interval`."""
    columns, text = columns_of(row.counts)
    made = (
        row.start // BUCKET_S, point, row.start, revision, row.length, names.layout(columns), text, factor,
        row.flags, row.rule, row.source, row.skew_s, *row.seen,
    )  # fmt: skip
    return (*made, checksum_interval(*made))


def newest(rows: Iterable[Raw], *, final: bool) -> list[Raw]:
    """Of rows by start and revision, the one of each start that counts: of machines alone, or edited where it is."""
    machine: dict[int, Raw] = {}
    edited: dict[int, Raw] = {}
    for row in rows:
        (edited if row[8] & EDITED else machine)[row[2]] = row
    if final and edited:
        machine |= {start: row for start, row in edited.items() if not row[8] & WITHDRAWN}
        return [machine[start] for start in sorted(machine)]
    return list(machine.values())


def row_from(names: Names, raw: Raw) -> Row:
    """A machine's row, for the closer."""
    counts = values_from(names.layouts[raw[5]], raw[6])
    return Row(raw[2], raw[4], counts, raw[8], raw[9], raw[10], raw[11], raw[12:17])


def interval_from(names: Names, raw: Raw) -> Interval:
    """As everybody else sees it: × the multiplier, with names."""
    _, point, start, revision, length, layout, text, factor, flags, rule, source, skew_s, *_ = raw
    max_kw, v_min, v_mean, v_max, pf = raw[12:17]
    times = Decimal(factor)
    energies = {
        obis: Decimal(int(one)).scaleb(exponent) * times
        for (obis, exponent), one in zip(names.layouts[layout], text.split(), strict=True)
    }
    known = length if flags & KNOWN and not flags & WITHDRAWN else 0
    return Interval(
        names.ids[point], instant(start), length, energies, FLAGS[flags], revision, source, skew_s, rule,
        max_kw, v_min, v_mean, v_max, pf, known, (int(known > 0), 1),
    )  # fmt: skip
