"""Parquet files of an archive: written durably with all that the manifest says of them, read by row group."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..errors import ArchiveError
from . import durable
from .keys import Crypto
from .manifest import FileEntry
from .rollup import at
from .schema import MARK, VERSION, encoding, present, version_of

POINTS_IN_GROUP = 10
"""Points in a row group: few enough to read one meter quickly, enough for the footer to stay small."""
MOST_FOOTERS = 150
"""Footers that are kept, so that asking again is quicker: ten years and some."""


class Files:
    """The files below a folder."""

    def __init__(self, folder: Path, crypto: Crypto | None = None) -> None:
        self.folder, self.crypto = Path(folder), crypto
        self._footers: OrderedDict[str, Any] = OrderedDict()

    def write(self, path: str, groups: Iterable[pa.Table], schema: pa.Schema) -> FileEntry | None:
        """Writes one row group a table; None, and no file, where there is not one row."""
        groups = iter(groups)
        first = next((one for one in groups if one.num_rows), None)
        if first is None:
            return None
        summary = _Summary()
        whole = self.folder / path

        def work(sink: durable.Sink) -> None:
            crypto = {} if self.crypto is None else {"encryption_properties": self.crypto.encryption(path)}
            with pq.ParquetWriter(sink, schema, **encoding(schema), **crypto) as writer:
                for table in _chain(first, groups):
                    if table.num_rows:
                        summary.add(table)
                        writer.write_table(table, table.num_rows)
                writer.add_key_value_metadata({MARK: str(VERSION)})

        # One of that name may have been refused just now.
        self._footers.pop(path, None)
        with durable.failures(whole):
            checksum = durable.write(whole, work)
            size = whole.stat().st_size
        return FileEntry(
            path, VERSION, checksum, size, summary.rows, at(summary.first).isoformat(), at(summary.last).isoformat(),
            (summary.least, summary.greatest),
        )  # fmt: skip

    def write_text(self, path: str, text: str) -> None:
        """A text in a file that is encrypted as all others are."""
        whole = self.folder / path
        crypto = {} if self.crypto is None else {"encryption_properties": self.crypto.encryption(path)}
        with durable.failures(whole):
            durable.write(whole, lambda sink: pq.write_table(pa.table({"text": [text]}), sink, **crypto))

    def read_text(self, path: str) -> str | None:
        """The inverse; None where there is none."""
        whole = self.folder / path
        if not whole.exists():
            return None
        crypto = {} if self.crypto is None else {"decryption_properties": self.crypto.decryption(path)}
        with durable.failures(whole), damage(path), pq.ParquetFile(whole, **crypto) as file:
            return str(file.read()["text"][0].as_py())

    @contextmanager
    def open(self, entry: FileEntry, schema: pa.Schema) -> Iterator[OpenFile]:
        """Opens a file; ArchiveError, with its name, where it is missing, damaged or newer."""
        whole = self.folder / entry.path
        names = [field.name for field in schema if pa.types.is_dictionary(field.type)]
        crypto = {} if self.crypto is None else {"decryption_properties": self.crypto.decryption(entry.path)}
        with durable.failures(whole), damage(entry.path):
            if not whole.exists():
                raise FileNotFoundError(2, "missing", str(whole))
            footer = self._footers.get(entry.path)
            with pq.ParquetFile(
                whole, metadata=footer, memory_map=True, pre_buffer=False, read_dictionary=names, **crypto
            ) as file:
                if footer is None:
                    version_of(file.metadata.metadata, entry.path)
                    self._remember(entry.path, file.metadata)
                yield OpenFile(file)

    def _remember(self, path: str, footer: Any) -> None:
        """Files never change once they have their name, so their footers can be kept; those of a key may not."""
        if self.crypto is None:
            self._footers[path] = footer
            if len(self._footers) > MOST_FOOTERS:
                self._footers.popitem(last=False)

    def read(
        self,
        entry: FileEntry,
        schema: pa.Schema,
        points: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:
        """Rows of points (sorted; None for all), in the present schema or the wanted columns of it."""
        with self.open(entry, schema) as file:
            tables = list(file.groups(schema, points, columns))
        wanted = wanted_of(schema, columns)
        return pa.concat_tables(tables) if tables else wanted.empty_table()


class OpenFile:
    """An opened file."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._metadata = file.metadata

    def __len__(self) -> int:
        """The number of row groups."""
        return int(self._metadata.num_row_groups)

    def reach(self, group: int) -> tuple[str, str]:
        """First and last point of a row group."""
        statistics = self._metadata.row_group(group).column(0).statistics
        return statistics.min, statistics.max

    def groups(
        self, schema: pa.Schema, points: Sequence[str] | None, columns: Sequence[str] | None = None
    ) -> Iterator[pa.Table]:
        """The row groups that hold any of these points, with only their rows."""
        wanted = wanted_of(schema, columns)
        names = [name for name in wanted.names if name in self._file.schema_arrow.names]
        if points is None:
            numbers = list(range(len(self)))
        else:
            numbers = sorted({number for point in points for number in self._holding(point)})
        for number in numbers:
            table = present(self._file.read_row_groups([number], columns=names, use_threads=False), wanted)
            if points is not None:
                table = _only(table, points)
            if table.num_rows:
                yield table

    def _holding(self, point: str) -> range:
        every = range(len(self))
        first = bisect_left(every, point, key=lambda group: self.reach(group)[1])
        return range(first, bisect_right(every, point, lo=first, key=lambda group: self.reach(group)[0]))


def _only(table: pa.Table, points: Sequence[str]) -> pa.Table:
    """The rows of points, of a table that is sorted by point: a slice where it is one point."""
    if len(points) > 1:
        return table.filter(pc.is_in(table["point"], pa.array(points, pa.string())))
    names = table["point"].combine_chunks()
    code = names.dictionary.index(points[0]).as_py()
    places = np.flatnonzero(names.indices.to_numpy() == code)
    return table.slice(int(places[0]), len(places)) if len(places) else table.slice(0, 0)


def wanted_of(schema: pa.Schema, columns: Sequence[str] | None) -> pa.Schema:
    """The schema with these columns only, in its own order."""
    return schema if columns is None else pa.schema([field for field in schema if field.name in columns])


@contextmanager
def damage(path: str) -> Iterator[None]:
    """What the reader of Parquet says of a damaged file, as ArchiveError."""
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowKeyError, UnicodeDecodeError) as error:
        raise _damaged(path, error) from error
    except OSError as error:
        if error.errno is None:
            raise _damaged(path, error) from error
        raise


def _damaged(path: str, error: Exception) -> ArchiveError:
    return ArchiveError(f"{path} is damaged, or its key is another one: {str(error).splitlines()[0]}")


class _Summary:
    """What the manifest says of rows."""

    def __init__(self) -> None:
        self.rows = 0
        self.first = self.least = 2**62
        self.last = self.greatest = -(2**62)

    def add(self, table: pa.Table) -> None:
        """Counts rows."""
        self.rows += table.num_rows
        reach = pc.min_max(table["start"].cast(pa.int64())).as_py()
        self.first, self.last = min(self.first, reach["min"]), max(self.last, reach["max"])
        if "revision" in table.column_names:
            reach = pc.min_max(table["revision"]).as_py()
            self.least, self.greatest = min(self.least, reach["min"]), max(self.greatest, reach["max"])
        else:
            self.least = self.greatest = 0


def _chain(first: pa.Table, others: Iterator[pa.Table]) -> Iterator[pa.Table]:
    yield first
    yield from others


def same(one: pa.Table, other: pa.Table) -> bool:
    """Whether two tables say the same, however their names are numbered."""
    return bool(_plain(one).equals(_plain(other)))


def _plain(table: pa.Table) -> pa.Table:
    return table.cast(
        pa.schema([
            pa.field(field.name, pa.string() if pa.types.is_dictionary(field.type) else field.type, field.nullable)
            for field in table.schema
        ])
    )  # fmt: skip
