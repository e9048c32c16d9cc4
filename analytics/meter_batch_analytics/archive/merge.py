"""Base and parts of a month become its rows, streamed: the last word on an interval counts, the withdrawn are gone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import batched

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .files import POINTS_IN_GROUP, Files
from .manifest import Month
from .rollup import starts_of
from .rows import WITHDRAWN, Tables, codes_of
from .schema import OTHER, ROWS

_ORIGIN = "origin"


def rows_of(
    files: Files, month: Month, points: Sequence[str] | None, columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """The valid rows of points (sorted; None for all) of a month by point and start, about one row group a table."""
    if not month.parts:
        if month.base:
            with files.open(month.base.rows, ROWS) as file:
                yield from file.groups(ROWS, points, columns)
        return
    if columns is not None:
        columns = [*columns, *({"point", "start", "flags"} - set(columns))]
    for tables in _together(files, month, points, columns):
        yield winners(tables)


def tables_of_month(files: Files, month: Month, wanted: Sequence[str] | None = None) -> Iterator[Tables]:
    """The valid rows of points (sorted; None for all), with their other registers, by row groups of a new base."""
    late = [None if part.other is None else files.read(part.other, OTHER) for part in month.parts]
    rows, beside = ROWS.empty_table(), OTHER.empty_table()
    for tables in _together(files, month, wanted, None):
        more = winners(tables, origin=True)
        points = sorted(pc.unique(more["point"]).to_pylist())
        others = list(late)
        if month.base is not None:
            base = month.base.other
            others.insert(0, None if base is None else files.read(base, OTHER, points))
        beside = pa.concat_tables([beside, _belonging(more, others)])
        rows = pa.concat_tables([rows, more.drop_columns([_ORIGIN])])
        names = sorted(pc.unique(rows.unify_dictionaries()["point"]).to_pylist())
        while len(names) > POINTS_IN_GROUP:
            first, names = names[:POINTS_IN_GROUP], names[POINTS_IN_GROUP:]
            yield _of(rows, first), _of(beside, first)
            rows, beside = _of(rows, names), _of(beside, names)
    if rows.num_rows:
        yield rows, beside


def _of(table: pa.Table, points: Sequence[str]) -> pa.Table:
    return table.filter(pc.is_in(table["point"], pa.array(points, pa.string())))


def winners(tables: Sequence[pa.Table], *, origin: bool = False, withdrawn: bool = False) -> pa.Table:
    """Of tables in the order in which they replace each other: one row a point and start, sorted."""
    whole = pa.concat_tables(tables).unify_dictionaries()
    order = np.repeat(np.arange(len(tables)), [one.num_rows for one in tables])
    if origin:
        whole = whole.append_column(_ORIGIN, pa.array(order))
    codes, _ = codes_of(whole["point"])
    starts = starts_of(whole)
    # Within a table the later row is the later word: lexsort is stable.
    sorted_ = np.lexsort((order, starts, codes))
    codes, starts = codes[sorted_], starts[sorted_]
    last = np.r_[(codes[1:] != codes[:-1]) | (starts[1:] != starts[:-1]), True] if len(codes) else np.zeros(0, bool)
    if not withdrawn:
        last &= (whole["flags"].to_numpy()[sorted_] & WITHDRAWN) == 0
    return whole.take(pa.array(sorted_[last]))


def _together(
    files: Files, month: Month, points: Sequence[str] | None, columns: Sequence[str] | None
) -> Iterator[list[pa.Table]]:
    """By about one row group of the base: its rows, and what the parts say of its points. Parts are in memory."""
    parts = [files.read(one.rows, ROWS, points, columns) for one in month.parts]
    if month.base is None:
        if parts:
            yield from _cut(parts)
        return
    with files.open(month.base.rows, ROWS) as file:
        before = ""
        for table in file.groups(ROWS, points, columns):
            last = pc.max(table["point"].cast(pa.string())).as_py()
            yield [table, *(_between(one, before, last) for one in parts)]
            before = last
    rest = [_between(one, before, None) for one in parts]
    if any(one.num_rows for one in rest):
        empty = rest[0].slice(0, 0)
        for tables in _cut(rest):
            yield [empty, *tables]


def _cut(parts: Sequence[pa.Table]) -> Iterator[list[pa.Table]]:
    """Parts by groups of points."""
    names = sorted(set[str]().union(*(pc.unique(one["point"]).to_pylist() for one in parts)))
    for some in batched(names, POINTS_IN_GROUP, strict=False):
        wanted = pa.array(some, pa.string())
        yield [one.filter(pc.is_in(one["point"], wanted)) for one in parts]


def _between(table: pa.Table, after: str, until: str | None) -> pa.Table:
    names = table["point"].cast(pa.string())
    keep = pc.greater(names, after)
    if until is not None:
        keep = pc.and_(keep, pc.less_equal(names, until))
    return table.filter(keep)


def _belonging(rows: pa.Table, others: Sequence[pa.Table | None]) -> pa.Table:
    """The other registers of those rows that won, by point, start and register."""
    found = []
    for origin, other in enumerate(others):
        mine = rows.filter(pc.equal(rows[_ORIGIN], origin))
        if other is not None and other.num_rows and mine.num_rows:
            keys = mine.select(["point", "start"]).set_column(0, "point", mine["point"].cast(pa.string()))
            plain = other.set_column(0, "point", other["point"].cast(pa.string())).set_column(
                2, "register", other["register"].cast(pa.string())
            )
            found.append(plain.join(keys, ["point", "start"], join_type="inner", use_threads=False))
    if not found:
        return OTHER.empty_table()
    whole = pa.concat_tables(found).sort_by([("point", "ascending"), ("start", "ascending"), ("register", "ascending")])
    for number, name in ((0, "point"), (2, "register")):
        whole = whole.set_column(number, OTHER.field(name), whole[name].dictionary_encode())
    return whole.select(OTHER.names).cast(OTHER)
