"""How large ten years of a thousand meters are, how quickly they are read, and what encryption costs.

Really built: one month of 1,000 meters at 15 min, ten years of 100 (quick: of 20) meters at 15 min, and ten years of
1,000 meters by the day, whose roll-ups are as large as those of 15 min. The data are noisy and no
month repeats another: random loads, one meter in five with a sun of its own, reactive power either way, transformer
ratios at every fourth meter, two in a hundred intervals estimated, late revisions. DuckDB and pandas read the same rows
from plain Parquet files (one a month, as they write them by default) in the same run.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from meter_batch_analytics.archive import read
from meter_batch_analytics.archive.keys import KeyFile
from meter_batch_analytics.archive.manifest import Month, Part
from meter_batch_analytics.archive.schema import ENERGIES, NAME, ROWS
from meter_batch_analytics.archive.store import Archive, by_points
from meter_batch_analytics.periods import Resolution

from .figure import Figure

METERS = 1000
DECADE_METERS, QUICK_METERS = 100, 20
YEARS = range(2016, 2026)
ROWS_OF_TEN_YEARS = METERS * 4 * 24 * (365 * 10 + 3)
ZONE = "Europe/Berlin"
REPEATS = 5
NAME_ = "archive"


def run(*, full: bool) -> list[Figure]:
    """Minutes: files are really written."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="meter-batch-archive-") as name:
        folder = Path(name)
        figures += _month(folder)
        figures += _roll_ups(folder)
        figures += _decade(folder, DECADE_METERS if full else QUICK_METERS)
    return figures


def _month(folder: Path) -> list[Figure]:
    """A full-size month, plain and encrypted."""
    figures = []
    table = rows_of_month(2026, 1, range(METERS))
    key = KeyFile(folder / "key")
    key.create()
    times: dict[str, float] = {}
    archives = {}
    kinds: tuple[tuple[str, KeyFile | None], ...] = (("plain", None), ("encrypted", key))
    for kind, keys in kinds:
        with Archive(folder / kind, time_zone=ZONE, keys=keys, writing=True) as archive:
            times[kind] = _cpu(partial(put, archive, [("2026-01", table)]))[0]
        archives[kind] = Archive(folder / kind, keys=keys)
    base = archives["plain"].manifest.months["2026-01"].base
    assert base is not None
    whole = sum(entry.bytes for entry in archives["plain"].manifest.files())
    encrypted = sum(entry.bytes for entry in archives["encrypted"].manifest.files())
    a_row = whole / table.num_rows
    note = f"{METERS} meters × a month really built, {table.num_rows:,} rows, roll-ups included"
    figures.append(_figure("bytes a row", a_row, "B", None, note))
    figures.append(
        _figure(
            "ten years of 1,000 meters", a_row * ROWS_OF_TEN_YEARS / 1e9, "GB", 3.5, "that month × rows of ten years"
        )
    )
    since, until = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)

    def whole_month(archive: Archive) -> int:
        return sum(one.num_rows for one in read.rows(archive, None, since, until))

    def one_meter(archive: Archive) -> int:
        return sum(one.num_rows for one in read.rows(archive, [point_id(500)], since, until, VALUES))

    def fleet(archive: Archive) -> int:
        return sum(one.num_rows for one in read.rows(archive, None, since, until, VALUES))

    def totals(archive: Archive) -> int:
        return sum(one.num_rows for one in read.periods(archive, None, since, until, "month"))

    cpu, wall = _best(lambda: fleet(archives["plain"]))
    figures.append(
        _figure("fleet's month at 15 min, CPU", cpu, "s", 1.0, f"energy of {METERS} meters; wall {wall:.2f} s")
    )
    cpu, wall = _best(lambda: totals(archives["plain"]))
    figures.append(_figure("fleet's month, totals a meter, CPU", cpu, "s", 1.0, f"{METERS} meters; wall {wall:.3f} s"))
    cpu, wall = _best(lambda: one_meter(archives["plain"]))
    figures.append(
        _figure(
            "one meter of 1,000, a month × 120, CPU", cpu * 120, "s", 0.3, f"a full-size file; wall {wall * 120:.2f} s"
        )
    )
    figures += _readers(folder, archives["plain"], table)
    program = (
        "import sys; from datetime import UTC, datetime; from pathlib import Path\n"
        "from meter_batch_analytics.archive import read, store\n"
        "archive = store.Archive(sys.argv[1])\n"
        "for _ in read.rows(archive, None, datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)): pass\n"
        "status = Path('/proc/self/status').read_text()\n"
        # getrusage would tell the peak of the process that started this one
        "print(int(status.split('VmHWM:')[1].split()[0]) / 1024)"
    )
    command = [sys.executable, "-c", program, str(folder / "plain")]
    peak = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    note = "a process that streams the fleet's month, all columns; its libraries included"
    figures.append(_figure("memory peak of reading", peak, "MB", None, note))
    plain, _ = _best(lambda: whole_month(archives["plain"]))
    hidden, _ = _best(lambda: whole_month(archives["encrypted"]))
    written = times["encrypted"] / times["plain"]
    figures.append(
        _figure("encryption: read", hidden / plain, "×", None, f"all columns of the month; plain {plain:.2f} s")
    )
    figures.append(_figure("encryption: write", written, "×", None, f"plain {times['plain']:.1f} s of CPU"))
    figures.append(_figure("encryption: size", encrypted / whole, "×", None, "the same month"))
    return figures


def _readers(folder: Path, archive: Archive, table: pa.Table) -> list[Figure]:
    """One meter of 1,000: other readers on this layout, and on plain Parquet, × 120 months."""
    import duckdb
    import pandas as pd
    import polars as pl

    base = archive.manifest.months["2026-01"].base
    assert base is not None
    ours, plain = str(archive.folder / base.rows.path), str(folder / "plain.parquet")
    pq.write_table(_as_peers_have_it(table), plain)
    point = point_id(500)

    def duck(path: str) -> Any:
        with duckdb.connect() as base:
            base.execute("SET threads = 2")
            return base.execute(f"SELECT start, energy_import FROM '{path}' WHERE point = '{point}'").fetchnumpy()

    calls: dict[str, Callable[[], Any]] = {
        "polars, this layout": lambda: pl.scan_parquet(ours).filter(pl.col("point") == point).select(VALUES).collect(),
        "DuckDB, this layout": lambda: duck(ours),
        "DuckDB, plain Parquet": lambda: duck(plain),
        "pandas, plain Parquet": lambda: pd.read_parquet(
            plain, columns=["start", "energy_import"], filters=[("point", "==", point)]
        ),
    }
    figures = []
    for name, call in calls.items():
        cpu, wall = _best(call)
        note = f"one meter of 1,000, a month × 120; wall {wall * 120:.2f} s"
        figures.append(_figure(f"{name}, CPU", cpu * 120, "s", None, note))
    return figures


def _roll_ups(folder: Path) -> list[Figure]:
    """Ten years of 1,000 meters by the day: their roll-ups are those of any finer interval."""
    with Archive(folder / "days", time_zone=ZONE, writing=True) as archive:
        for year in YEARS:
            put(
                archive,
                (
                    (f"{year}-{month:02d}", rows_of_month(year, month, range(METERS), minutes=1440))
                    for month in range(1, 13)
                ),
            )
    archive = Archive(folder / "days")
    since, until = datetime(2015, 12, 31, 23, tzinfo=UTC), datetime(2025, 12, 31, 23, tzinfo=UTC)
    figures = []
    for name, target, points, resolution in ROLLED_UP:
        cpu, wall = _best(partial(_drained, archive, points, since, until, resolution))
        figures.append(_figure(f"{name}, CPU", cpu, "s", target, f"{METERS} meters in the archive; wall {wall:.3f} s"))
    return figures


def _drained(
    archive: Archive, points: list[str] | None, since: datetime, until: datetime, resolution: Resolution
) -> int:
    return sum(one.num_rows for one in read.periods(archive, points, since, until, resolution))


VALUES = ["point", "start", "length_s", "energy_import", "step", "exponent", "flags"]


def _decade(folder: Path, meters: int) -> list[Figure]:
    """Ten years: the product beside DuckDB and pandas on plain Parquet."""
    import duckdb
    import pandas as pd

    plain = folder / "peers"
    plain.mkdir()
    with Archive(folder / "decade", time_zone=ZONE, writing=True) as archive:
        for year in YEARS:
            tables = [(f"{year}-{month:02d}", rows_of_month(year, month, range(meters))) for month in range(1, 13)]
            put(archive, tables)
            for name, table in tables:
                pq.write_table(_as_peers_have_it(table), plain / f"{name}.parquet")
    archive = Archive(folder / "decade")
    size = sum(entry.bytes for entry in archive.manifest.files())
    count = sum(month.rows for month in archive.manifest.months.values())
    since, until = datetime(2015, 12, 31, 23, tzinfo=UTC), datetime(2025, 12, 31, 23, tzinfo=UTC)
    point = point_id(meters // 2)
    glob = str(plain / "*.parquet")
    may = "2021-05"

    def sql(text: str) -> Callable[[], Any]:
        def call() -> Any:
            with duckdb.connect() as base:
                base.execute("SET threads = 2")
                return base.execute(text).fetchnumpy()

        return call

    def in_pandas(columns: list[str], filters: Any, by: Any = None) -> Any:
        frame = pd.read_parquet(plain, columns=columns, filters=filters)
        return frame if by is None else by(frame)

    def monthly(frame: Any) -> Any:
        at = frame["start"].dt.tz_convert(ZONE).dt.tz_localize(None).dt.to_period("M")
        return frame.groupby(["point", at])["energy_import"].sum()

    def daily(frame: Any) -> Any:
        return frame.groupby(frame["start"].dt.tz_convert(ZONE).dt.normalize())["energy_import"].sum()

    whole = (datetime(2021, 5, 1, tzinfo=UTC), datetime(2021, 6, 1, tzinfo=UTC))
    asked: dict[str, tuple[float | None, Callable[[], Any], Callable[[], Any], Callable[[], Any]]] = {
        "one meter, ten years at 15 min": (
            0.3,
            lambda: list(read.rows(archive, [point], since, until, VALUES)),
            sql(f"SELECT start, energy_import FROM '{glob}' WHERE point = '{point}' ORDER BY start"),
            lambda: in_pandas(["start", "energy_import"], [("point", "==", point)]),
        ),
        "one meter, ten years by day": (
            0.1,
            lambda: list(read.periods(archive, [point], since, until, "day")),
            sql(
                f"SELECT date_trunc('day', timezone('{ZONE}', start)) AS d, sum(energy_import) FROM '{glob}' "
                f"WHERE point = '{point}' GROUP BY d"
            ),
            lambda: in_pandas(["start", "energy_import"], [("point", "==", point)], daily),
        ),
        "fleet, a month at 15 min": (
            None,
            lambda: list(read.rows(archive, None, *whole, VALUES)),
            sql(f"SELECT point, start, energy_import FROM '{plain / may}.parquet' ORDER BY point, start"),
            lambda: pd.read_parquet(plain / f"{may}.parquet", columns=["point", "start", "energy_import"]),
        ),
        "fleet, monthly totals of ten years": (
            0.5,
            lambda: list(read.periods(archive, None, since, until, "month")),
            sql(
                f"SELECT point, date_trunc('month', timezone('{ZONE}', start)) AS m, sum(energy_import) "
                f"FROM '{glob}' GROUP BY point, m"
            ),
            lambda: in_pandas(["point", "start", "energy_import"], None, monthly),
        ),
    }
    figures = [
        _figure(
            "decade: bytes a row", size / count, "B", None, f"{meters} meters × ten years really built, {count:,} rows"
        )
    ]
    for name, (target, ours, ducks, pandas_) in asked.items():
        cpu, wall = _best(ours)
        note = f"{meters} meters; wall {wall:.3f} s"
        figures.append(_figure(f"{name}, CPU", cpu, "s", target, note))
        for peer, call in (("DuckDB", ducks), ("pandas", pandas_)):
            other, other_wall = _best(call, 2)
            note = f"{peer} on plain Parquet: {other:.2f} s of CPU, wall {other_wall:.2f} s"
            figures.append(_figure(f"{name}, CPU / {peer}", cpu / other, "×", None, note))
    return figures


ROLLED_UP: tuple[tuple[str, float, list[str] | None, Resolution], ...] = (
    ("fleet of 1,000, monthly totals of ten years", 0.5, None, "month"),
    ("one meter of 1,000, ten years by day", 0.1, [f"01k6bench{500:017d}"], "day"),
)


def put(archive: Archive, tables: Iterable[tuple[str, pa.Table]]) -> None:
    """Months as if their intervals had been taken, and compacted: without the way through Python objects."""
    for name, table in tables:
        entry = archive.files.write(f"recent/{name}.parquet", by_points(table), ROWS)
        assert entry is not None
        months = archive.manifest.months | {name: Month(parts=(Part(entry),))}
        archive._commit(archive.manifest.next(months=months))
    archive.compact()


def point_id(number: int) -> str:
    """As long as the ids of real points."""
    return f"01k6bench{number:017d}"


def rows_of_month(year: int, month: int, meters: range, minutes: int = 15) -> pa.Table:
    """Rows (`schema.ROWS`) of a month, by point and start; each meter and month has noise of its own."""
    first = np.datetime64(f"{year}-{month:02d}")
    starts = np.arange(first, first + 1, np.timedelta64(minutes, "m")).astype("datetime64[ms]").astype(np.int64)
    tables = [_rows_of_meter(one, year * 12 + month, starts) for one in meters]
    count = len(starts)
    columns: dict[str, Any] = {key: np.concatenate([one[key] for one in tables]) for key in tables[0]}
    points = pa.array([point_id(one) for one in meters])
    columns["point"] = pa.DictionaryArray.from_arrays(
        pa.array(np.repeat(np.arange(len(meters), dtype=np.int32), count)), points
    )
    columns["start"] = np.tile(starts, len(meters))
    memory = columns.pop("memory").astype(np.int32)
    columns["source"] = pa.DictionaryArray.from_arrays(pa.array(memory), pa.array(["poll", "memory"]))
    columns["rule"] = pa.nulls(len(memory), NAME)
    return pa.table([pa.array(columns[field.name]).cast(field.type) for field in ROWS], schema=ROWS)


def _rows_of_meter(meter: int, month: int, starts: Any) -> dict[str, Any]:
    noise = np.random.default_rng((meter, month))
    size = np.exp(np.random.default_rng(meter).normal(3.3, 1.0))
    quarter = (starts // 900_000) % 96
    weekday = (starts // 86_400_000 + 3) % 7
    count = len(starts)
    angle = quarter / 96 * 2 * np.pi
    power = size * (1 + 0.8 * np.sin(angle - 2)) * np.where(weekday < 5, 1, 0.6) * np.exp(noise.normal(0, 0.25, count))
    sun = (meter % 5 == 0) * np.maximum(0, -np.cos(angle)) * size * 0.5 * np.exp(noise.normal(0, 0.3, count))
    factor = np.clip(0.93 + noise.normal(0, 0.02, count), 0.5, 1)
    reactive = power * np.tan(np.arccos(factor))
    leading = noise.random(count) < 0.1
    ratio = 80 if meter % 4 == 0 else 1
    powers = dict(
        zip(ENERGIES, (power, sun, np.where(leading, 0, reactive), np.where(leading, reactive, 0)), strict=True)
    )
    # Registers of 0.01 kWh, their differences × the ratio: as a ledger has them.
    energies = {
        key: np.diff(np.floor(np.cumsum(np.r_[0, one * 25]))).astype(np.int64) * ratio for key, one in powers.items()
    }
    late = noise.random(count) < 0.02
    mean = 230 + noise.normal(0, 1.5, count)
    return energies | {
        "length_s": np.full(count, 900),
        "step": np.ones(count, np.int64),
        "exponent": np.full(count, -2),
        "demand_max_w": np.round(power * ratio * (1 + np.abs(noise.normal(0.2, 0.1, count))) * 1000).astype(np.int64),
        "voltage_mean_dv": np.round(mean * 10).astype(np.int64),
        "voltage_below_dv": np.round(np.abs(noise.normal(1, 0.5, count)) * 10).astype(np.int64),
        "voltage_above_dv": np.round(np.abs(noise.normal(1, 0.5, count)) * 10).astype(np.int64),
        "power_factor_pm": np.round(factor * 1000).astype(np.int64),
        "flags": np.where(late, 4, 1),
        "revision": starts // 300_000 - 4_800_000 + late * noise.integers(0, 1000, count),
        "known_s": np.where(late, 0, 900),
        "skew_s": noise.integers(0, 7, count),
        "memory": late,
    }


def _as_peers_have_it(table: pa.Table) -> pa.Table:
    factor = 10.0 ** table["exponent"].to_numpy().astype(float)
    columns = {"point": table["point"].cast(pa.string()), "start": table["start"]}
    columns |= {key: pa.array(table[key].to_numpy() * factor) for key in ENERGIES}
    columns["demand_max_kw"] = pa.array(table["demand_max_w"].to_numpy() / 1000)
    columns["voltage_mean_v"] = pa.array(table["voltage_mean_dv"].to_numpy() / 10)
    return pa.table(columns)


def _cpu(call: Callable[[], Any]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.process_time() - cpu, time.perf_counter() - wall


def _best(call: Callable[[], Any], repeats: int = REPEATS) -> tuple[float, float]:
    """Medians of CPU and wall seconds, after one call that warms the file cache."""
    call()
    found = [_cpu(call) for _ in range(repeats)]
    return median(one[0] for one in found), median(one[1] for one in found)


def _figure(name: str, value: float, unit: str, target: float | None, note: str) -> Figure:
    return Figure(NAME_, name, value, unit, "lower", target, note)
