"""What apps read of a site: curves of points and groups, and daily values; as numpy arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa

from ..archive.rows import BITS, codes_of
from ..periods import Resolution, edges, zone_of
from ..session import Session
from .curves import ADDITIVE, Curve, Group, Quantity
from .days import Days

type Told = Callable[[float], None]
"""Is told how far it is, 0 to 1; may raise to end the work."""

_COLUMNS: dict[Quantity, tuple[str, str | None]] = {
    "energy": ("energy_import_kwh", "energy_gross_kwh"),
    "power": ("demand_mean_kw", None),
    "power_max": ("demand_max_kw", None),
    "reactive": ("reactive_energy_import_kvarh", "reactive_energy_gross_kvarh"),
    "voltage": ("voltage_mean_v", None),
    "power_factor": ("power_factor", None),
}
SLOT_MS, DAY_MS = 900_000, 86_400_000
GRACE_MS = 600_000
"""What is younger is not missed yet."""


class Reader:
    """Reads for one session; what all pages ask of it is remembered."""

    def __init__(self, session: Session) -> None:
        self.session, self.site = session, session.site
        self.zone: ZoneInfo = zone_of(self.site.time_zone)
        self._first: dict[str, int] | None = None
        self._last: dict[str, int] = {}
        self._begins: dict[str, int] = {}
        self._days: dict[Any, Days] = {}

    # --- points and time ---

    def today(self) -> date:
        """Today at the site."""
        return self.session.now().astimezone(self.zone).date()

    def due(self) -> datetime:
        """The last boundary whose values have had the time to arrive."""
        now = (int(self.session.now().timestamp() * 1000) - GRACE_MS) // SLOT_MS * SLOT_MS
        return datetime.fromtimestamp(now / 1000, UTC)

    def midnight(self, day: date) -> datetime:
        """The instant at which a day of the site begins."""
        return datetime(day.year, day.month, day.day, tzinfo=self.zone).astimezone(UTC)

    def wall(self, ms: Any) -> Any:
        """Instants (milliseconds) as wall clock of the site: datetime64."""
        ms = np.asarray(ms, np.int64)
        if not len(ms):
            return ms.astype("datetime64[ms]")
        # The offset is looked up once an hour; no clock changes between.
        hours, which = np.unique(ms // 3_600_000, return_inverse=True)
        offset = (
            np.array([self._offset(int(one)) for one in hours], np.int64) if len(hours) < 64 else self._offsets(hours)
        )
        return (ms + offset[which] * 1000).astype("datetime64[ms]")

    def _offset(self, hour: int) -> int:
        found = datetime.fromtimestamp(hour * 3600, UTC).astimezone(self.zone).utcoffset()
        return int(found.total_seconds()) if found else 0

    def _offsets(self, hours: Any) -> Any:
        """Offsets of many hours: looked up by days, and by hours only on days whose ends differ."""
        days = np.unique(hours // 24)
        ends = {int(one): self._offset(int(one) * 24) for one in (*days, *(days + 1))}
        found = np.array([ends[int(one)] for one in hours // 24], np.int64)
        for day in days:
            if ends[int(day)] != ends[int(day) + 1]:
                mine = hours // 24 == day
                found[mine] = [self._offset(int(one)) for one in hours[mine]]
        return found

    def instant(self, wall: str) -> datetime:
        """The instant of a text of wall clock, as a zoomed axis tells it."""
        found = datetime.fromisoformat(wall.replace(" ", "T")[:19])
        return found.replace(tzinfo=self.zone).astimezone(UTC)

    def firsts(self) -> dict[str, int]:
        """When each point's record begins, to the month: milliseconds. Points without a record are not in it."""
        if self._first is None:
            found: dict[str, int] = {}
            begin, end = datetime(2000, 1, 2, tzinfo=UTC), self.session.now() + timedelta(days=1)
            for table in self.site.tables(since=begin, until=end, resolution="month", quantities=["energy_import"]):
                codes, names = codes_of(table["point"])
                start = table["start"].cast(pa.int64()).to_numpy()
                for place, name in enumerate(names):
                    if len(mine := start[codes == place]):
                        found[str(name)] = min(found.get(str(name), 1 << 62), int(mine.min()))
                        self._last[str(name)] = max(self._last.get(str(name), 0), int(mine.max()))
            self._first = found
        return self._first

    def lasts(self) -> dict[str, int]:
        """When the last month begins of which something is known of each point: milliseconds."""
        self.firsts()
        return self._last

    def first_day(self) -> date:
        """The first day (to the month) of all that is known; today where nothing is."""
        found = self.firsts()
        if not found:
            return self.today()
        return datetime.fromtimestamp(min(found.values()) / 1000, UTC).astimezone(self.zone).date()

    # --- daily values ---

    def days(self, points: Sequence[str], first: date, last: date, told: Told = lambda _: None) -> Days:
        """Daily values from the first day to the last, both included; what is not due yet is left out."""
        key = (tuple(points), first, last, int(self.session.now().timestamp()) // 300)
        if key not in self._days:
            while len(self._days) >= 6:
                del self._days[next(iter(self._days))]
            self._days[key] = self.read_days(tuple(points), first, last, told)
        return self._days[key]

    def read_days(self, points: tuple[str, ...], first: date, last: date, told: Told = lambda _: None) -> Days:
        """The same, without remembering."""
        due = self.due()
        last = min(last, (due - timedelta(milliseconds=1)).astimezone(self.zone).date())
        begin, after = self.midnight(first), self.midnight(last + timedelta(days=1))
        end = max(min(after, self.session.now()), begin + timedelta(seconds=1))
        borders = edges(begin, after, "day", self.zone) if after > begin else np.array([0], np.int64)
        days = tuple(first + timedelta(days=number) for number in range(len(borders) - 1))
        shape = (len(points), len(days))
        kwh, kvarh, demand = (np.full(shape, np.nan) for _ in range(3))
        known, flags = np.zeros(shape), np.zeros(shape, np.uint8)
        places = {point: row for row, point in enumerate(points)}
        if days and points:
            wanted: list[tuple[str, Sequence[str]]] = [("energy_import", points)]
            if plain := self._without_import(points, begin, end):
                wanted.append(("energy_gross", plain))
            for energy, mine in wanted:
                keys = [energy, energy.replace("energy", "reactive_energy")]
                for table in self.site.tables(
                    list(mine), since=begin, until=end, resolution="day", quantities=keys, progress=told
                ):  # fmt: skip
                    codes, names = codes_of(table["point"])
                    row = np.array([places.get(str(one), -1) for one in names], np.int64)[codes]
                    start = table["start"].cast(pa.int64()).to_numpy()
                    column = np.searchsorted(borders, start, side="right") - 1
                    there = _numbers(table, f"{energy}_kwh")
                    kwh[row, column] = np.where(np.isnan(there), kwh[row, column], there)
                    there = _numbers(table, f"{keys[1]}_kvarh")
                    kvarh[row, column] = np.where(np.isnan(there), kvarh[row, column], there)
                    demand[row, column] = _numbers(table, "demand_max_kw")
                    known[row, column] = _numbers(table, "completeness")
                    flags[row, column] = _bits(table)
        # Today is only due as far as it has come.
        now = int(due.timestamp() * 1000)
        if days and borders[-1] > now > borders[-2]:
            known[:, -1] = np.minimum(known[:, -1] * (borders[-1] - borders[-2]) / (now - borders[-2]), 1.0)
            borders[-1] = now
        return Days(points, days, borders, kwh, kvarh, demand, known, flags, self._since(points, borders, kwh, known))

    def _without_import(self, points: Sequence[str], begin: datetime, end: datetime) -> list[str]:
        """Measured points whose meters know no import: a month's look is enough."""
        found = set()
        since = max(begin, end - timedelta(days=62))
        for table in self.site.tables(
            list(points), since=since, until=end, resolution="month", quantities=["energy_import"]
        ):  # fmt: skip
            codes, names = codes_of(table["point"])
            there = np.bincount(codes, np.isfinite(_numbers(table, "energy_import_kwh")), len(names))
            # A dictionary may hold names of which there is no row.
            rows = np.bincount(codes, minlength=len(names))
            found |= {name for name, row, count in zip(names, rows, there, strict=True) if row and not count}
        known = self.site.points
        return sorted(one for one in found if one in known and not known[one].virtual)

    def _since(self, points: Sequence[str], borders: Any, kwh: Any, known: Any) -> Any:
        """The day on which each record begins, if within these days; else the first, or after the last. The first day
        of a record is taken as whole: nobody missed what was before it.
        """
        found = np.zeros(len(points), np.int64)
        begun = self.begins(points, int(borders[0]), int(borders[-1]))
        for row, point in enumerate(points):
            there = np.flatnonzero(np.isfinite(kwh[row]) | (known[row] > 0))
            if point not in begun:
                found[row] = len(borders) - 1
            elif begun[point] >= borders[0]:
                found[row] = there[0] if len(there) else len(borders) - 1
                if len(there):
                    known[row, there[0]] = 1.0 if known[row, there[0]] > 0 else 0.0
        return found

    def begins(self, points: Sequence[str], begin: int, end: int) -> dict[str, int]:
        """When each record begins (milliseconds): to the day where that is between begin and end, else to the month."""
        firsts = self.firsts()
        near: dict[int, list[str]] = {}
        for point in points:
            month = firsts.get(point)
            if month is not None and point not in self._begins and begin - 31 * DAY_MS < month < end:
                near.setdefault(month, []).append(point)
        for month, some in near.items():
            since = datetime.fromtimestamp(month / 1000, UTC)
            until = since + timedelta(days=31, hours=2)
            for table in self.site.tables(
                some, since=since, until=until, resolution="day", quantities=["energy_import"]
            ):  # fmt: skip
                codes, names = codes_of(table["point"])
                start = table["start"].cast(pa.int64()).to_numpy()
                for place, name in enumerate(names):
                    if len(mine := start[codes == place]):
                        self._begins[str(name)] = min(self._begins.get(str(name), 1 << 62), int(mine.min()))
        return {one: self._begins.get(one, firsts[one]) for one in points if one in firsts}

    def _due(self, group: Group, start: Any) -> Any:
        """How many members of a group have a record by each time; at least one."""
        if len(group.points) == 1 or not len(start):
            return np.ones(len(start))
        begun = self.begins(group.points, int(start[0]), int(start[-1]) + DAY_MS)
        times = np.sort([begun[one] for one in group.points if one in begun])
        return np.maximum(np.searchsorted(times, start, side="right"), 1)

    # --- curves ---

    def curves(
        self, groups: Sequence[Group], begin: datetime, end: datetime, resolution: Resolution, quantity: Quantity,
        told: Told = lambda _: None,
    ) -> list[Curve]:  # fmt: skip
        """The quantity of every group; by intervals of a quarter of an hour or what the meters have, or by periods.

        Energies, reactive energies and mean powers of a group are sums; its highest power is the highest sum of an
        interval; voltages are the lowest, the mean and the highest of all; power factors are weighted by energy.
        """
        end = min(end, self.session.now())
        if end <= begin or not groups:
            return []
        summed = quantity == "power_max" and any(len(one.points) > 1 for one in groups)
        if (quantity in ("energy", "power") and resolution in ("interval", "hour")) or summed:
            return self._summed(groups, begin, end, resolution, quantity, told)
        return self._tabled(groups, begin, end, resolution, quantity, told)

    def slots(
        self, groups: Sequence[Group], begin: datetime, end: datetime, told: Told = lambda _: None
    ) -> tuple[Any, int, Any, Any, Any, Any] | None:
        """Start, length (s), kWh, known share, covered share and flags of all intervals: arrays of groups × slots; None
        if empty.
        """
        parts = list(
            self.site.sums([one.points for one in groups], begin, min(end, self.session.now()), progress=told)
        )  # fmt: skip
        if not parts:
            return None
        step = max(one.length_s for one in parts)
        found = [coarser(one, step) for one in parts]
        start, kwh, known, covered, flags = (
            np.concatenate([one[place] for one in found], axis=-1) for place in range(5)
        )
        return start, step, kwh, known, covered, flags

    def _summed(
        self, groups: Sequence[Group], begin: datetime, end: datetime, resolution: Resolution, quantity: Quantity,
        told: Told,
    ) -> list[Curve]:  # fmt: skip
        read = self.slots(groups, begin, end, told)
        if read is None:
            return []
        start, step, kwh, known, covered, flags = read
        # Not over the whole slot, which may have begun only.
        with np.errstate(invalid="ignore", divide="ignore"):
            power = kwh * 3600 / (covered * step)
        if resolution == "interval":
            value = kwh if quantity == "energy" else power
            stop = start + step * 1000
        else:
            borders = edges(begin, end, resolution, self.zone)
            slot = np.searchsorted(borders, start, side="right") - 1
            first = np.flatnonzero(np.r_[True, slot[1:] != slot[:-1]])
            # A period whose intervals are not all there is known in part only.
            share = (
                np.add.reduceat(known, first, axis=1) * step * 1000 / (borders[slot[first] + 1] - borders[slot[first]])
            )
            there = np.isfinite(kwh)
            count = np.add.reduceat(there, first, axis=1)
            energy = np.where(count > 0, np.add.reduceat(np.where(there, kwh, 0), first, axis=1), np.nan)
            with np.errstate(invalid="ignore", divide="ignore"):
                mean = energy * 3600 / (np.add.reduceat(covered, first, axis=1, dtype=np.float64) * step)
            if quantity == "power_max":
                value = np.maximum.reduceat(np.where(there, power, -np.inf), first, axis=1)
                value = np.where(np.isfinite(value), value, np.nan)
            else:
                value = energy if quantity == "energy" else mean
            flags = np.bitwise_or.reduceat(flags, first, axis=1)
            known, start, stop = np.minimum(share, 1.0), borders[slot[first]], borders[slot[first] + 1]
        found = [
            Curve(group, start, stop, value[row], None, None, known[row], flags[row])
            for row, group in enumerate(groups)
        ]
        return found if resolution == "interval" else [self._running(one) for one in found]

    def _tabled(
        self, groups: Sequence[Group], begin: datetime, end: datetime, resolution: Resolution, quantity: Quantity,
        told: Told,
    ) -> list[Curve]:  # fmt: skip
        chosen = sorted({point for group in groups for point in group.points})
        column, other = _COLUMNS[quantity]
        keys = ["energy_import"] if quantity not in ("energy", "reactive") else [column.rsplit("_", 1)[0]]
        tables = [
            one
            for one in self.site.tables(
                chosen, since=begin, until=end, resolution=resolution, quantities=keys, progress=told
            )
            if one.num_rows
        ]
        if not tables:
            return []
        whole = pa.concat_tables(tables).unify_dictionaries()
        if other is not None and (plain := self._without_import(chosen, begin, end)):
            more = [
                one.rename_columns([column if name == other else name for name in one.column_names])
                for one in self.site.tables(
                    plain, since=begin, until=end, resolution=resolution, quantities=[other.rsplit("_", 1)[0]]
                )
            ]
            beside = pa.array([one not in plain for one in whole["point"].cast(pa.string()).to_pylist()])
            whole = pa.concat_tables([whole.filter(beside), *more]).unify_dictionaries()
        found = [self._grouped(group, whole, quantity, column) for group in groups]
        return [self._running(one) for one in found]

    def _running(self, curve: Curve) -> Curve:
        """The period that is not over is due only as far as it has come."""
        due = int(self.due().timestamp() * 1000)
        if len(curve.start) and curve.start[-1] < due < curve.end[-1]:
            share = (curve.end[-1] - curve.start[-1]) / (due - curve.start[-1])
            curve.known[-1] = min(1.0, float(curve.known[-1]) * share)
        return curve

    def _grouped(self, group: Group, table: pa.Table, quantity: Quantity, column: str) -> Curve:
        codes, names = codes_of(table["point"])
        mine = np.isin(codes, [place for place, name in enumerate(names) if name in set(group.points)])
        start = table["start"].cast(pa.int64()).to_numpy()[mine]
        stop = table["end"].cast(pa.int64()).to_numpy()[mine]
        value = _numbers(table, column)[mine]
        share = _numbers(table, "completeness")[mine]
        flags = _bits(table)[mine]
        times, which = np.unique(start, return_inverse=True)
        ends = np.zeros(len(times), np.int64)
        np.maximum.at(ends, which, stop)
        bits = np.zeros(len(times), np.uint8)
        np.bitwise_or.at(bits, which, flags)
        known = np.minimum(np.bincount(which, share, len(times)) / self._due(group, times), 1.0)
        there = np.isfinite(value)
        low = high = None
        if quantity in ADDITIVE:
            found = np.bincount(which[there], value[there], len(times))
        elif quantity == "power_max":
            found = _extreme(np.maximum, which[there], value[there], len(times))
        else:
            weight = np.ones(len(value))
            if quantity == "power_factor":
                energy = _numbers(table, "energy_import_kwh")[mine]
                weight = np.where(np.isfinite(energy), np.abs(energy), 0) + 1e-12
            sums = np.bincount(which[there], (value * weight)[there], len(times))
            found = sums / np.maximum(np.bincount(which[there], weight[there], len(times)), 1e-300)
            if quantity == "voltage":
                below, above = _numbers(table, "voltage_min_v")[mine], _numbers(table, "voltage_max_v")[mine]
                low = _extreme(np.minimum, which[np.isfinite(below)], below[np.isfinite(below)], len(times))
                high = _extreme(np.maximum, which[np.isfinite(above)], above[np.isfinite(above)], len(times))
        found = np.where(np.bincount(which[there], minlength=len(times)) > 0, found, np.nan)
        return Curve(group, times, ends, found, low, high, known, bits)


def coarser(part: Any, step: int) -> tuple[Any, Any, Any, Any, Any]:
    """Slots of a month at a longer step, a multiple of theirs: start, kWh, known share, covered share and flags."""
    if part.length_s == step:
        return part.start, part.kwh, part.known, part.covered, part.flags
    slot = part.start // (step * 1000)
    first = np.flatnonzero(np.r_[True, slot[1:] != slot[:-1]])
    there = np.isfinite(part.kwh)
    kwh = np.add.reduceat(np.where(there, part.kwh, 0), first, axis=1)
    kwh = np.where(np.add.reduceat(there, first, axis=1) > 0, kwh, np.nan)
    known, covered = (np.add.reduceat(one, first, axis=1) * part.length_s / step for one in (part.known, part.covered))
    return slot[first] * step * 1000, kwh, known, covered, np.bitwise_or.reduceat(part.flags, first, axis=1)


def _extreme(find: Any, which: Any, values: Any, count: int) -> Any:
    found = np.full(count, -np.inf if find is np.maximum else np.inf)
    find.at(found, which, values)
    return np.where(np.isfinite(found), found, np.nan)


def _numbers(table: pa.Table, name: str) -> Any:
    return table[name].to_numpy().astype(np.float64)


def _bits(table: pa.Table) -> Any:
    """Flags as bits."""
    codes, names = codes_of(table["flags"])
    known: dict[str, int] = {str(quality): bit for quality, bit in BITS.items()}
    bits = np.array([sum(known.get(one, 0) for one in str(name).split()) for name in names] or [0], np.uint8)
    return bits[codes] if len(codes) else np.array([], np.uint8)
