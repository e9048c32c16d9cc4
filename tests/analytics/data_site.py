"""A data folder of the analytics server in small: archive, mirror with gaps and alarms, as `serve` keeps them.

Six points on two lines, 60 days of quarters of an hour from 1 August 2026 in Shanghai, plausible and the same at every
run: "p1" Chiller (Workshop, 40 kW at work), "p2" Compressor (Workshop; reactive), "p3" Canteen (Office; by tariff),
"p4" 办公楼 (Office), "p5" Spare (registers stand still, began on 20 September), "main" the incoming supply, of which
the others are children; "rest" is virtual: main less all others. Of p2 two days in August are missing, of p3 one day is
estimated.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

from meter_batch_analytics.archive.store import Archive
from meter_batch_analytics.mirror import ALARMS, GAPS, REGISTRY, Mirror
from meter_batch_analytics.session import Identity
from meter_batch_engine.model.interval import Changes, Interval, Quality
from meter_batch_engine.model.point import InstalledMeter, Point, Route, Term
from meter_batch_engine.wire import RegistrySnapshot, encode_registry

ZONE = "Asia/Shanghai"
SHANGHAI = ZoneInfo(ZONE)
BEGIN = datetime(2026, 8, 1, tzinfo=SHANGHAI)
DAYS = 60
END = BEGIN + timedelta(days=DAYS)
NOW = datetime(2026, 9, 30, 0, 5, tzinfo=SHANGHAI).astimezone(UTC)
"""Five minutes after the last interval."""
QUARTER = timedelta(minutes=15)
IMPORT, REACTIVE, EXPORT = "1-0:1.8.0", "1-0:3.8.0", "1-0:2.8.0"
POINTS = {
    "main": ("Incoming supply", "Substation", 0.0),
    "p1": ("Chiller", "Workshop", 40.0),
    "p2": ("Compressor", "Workshop", 22.0),
    "p3": ("Canteen", "Office", 9.0),
    "p4": ("办公楼", "Office", 15.0),
    "p5": ("Spare", "Office", 0.0),
}
LOST = (datetime(2026, 8, 12, tzinfo=SHANGHAI), datetime(2026, 8, 14, tzinfo=SHANGHAI))
"""Of p2: nothing is known."""
GUESSED = (datetime(2026, 9, 3, tzinfo=SHANGHAI), datetime(2026, 9, 4, tzinfo=SHANGHAI))
"""Of p3: estimated."""
ALL = Identity("u-admin", "Administrator", True, "en", None)
SOME = Identity("u-office", "王芳", False, "zh-Hans", frozenset({"p3", "p4"}))


def registry() -> RegistrySnapshot:
    always = datetime(2020, 1, 1, tzinfo=UTC)
    attributes = {"main": {"contract_kw": "120", "transformer_kva": "160"}, "p1": {"floor_area_m2": "400"}}
    points = {
        id_: Point(
            id_, name, (InstalledMeter(always, "virtual/meter"),),
            (Route("l1" if place < 4 else "l2", "modbus", str(place + 1)),),
            area=area.lower(), parent=None if id_ == "main" else "main", attributes=attributes.get(id_, {}),
        )
        for place, (id_, (name, area, _)) in enumerate(POINTS.items())
    }  # fmt: skip
    others = [id_ for id_ in POINTS if id_ != "main"]
    points["rest"] = Point(
        "rest",
        "Unaccounted for",
        (),
        (),
        area="substation",
        formula=(Term(1, "main"), *(Term(-1, one) for one in others)),
    )
    areas = {id_: area for id_, (_, area, _) in POINTS.items()} | {"rest": "Substation"}
    return RegistrySnapshot(points, areas, {"l1": "Line 1", "l2": "Line 2"}, ZONE, 1, site="North works")


def power_kw(point: str, at: datetime) -> float:
    """Mean power of the quarter that begins then."""
    local = at.astimezone(SHANGHAI)
    if point == "main":
        return sum(power_kw(one, at) for one in POINTS if one != "main") * 1.03
    level = POINTS[point][2]
    if not level:
        return 0.0
    hour = local.hour + local.minute / 60
    shape = 0.15 + 0.85 * max(0.0, math.sin(math.pi * (hour - 6) / 14)) if 6 <= hour < 20 else 0.15
    week = 0.35 if local.weekday() >= 5 else 1.0
    wobble = 1 + 0.08 * math.sin(local.toordinal() * 1.7 + hour * 0.9 + level)
    return level * shape * week * wobble


def intervals(days: int = DAYS) -> Iterator[Interval]:
    for number in range(days * 96):
        start = BEGIN.astimezone(UTC) + number * QUARTER
        for id_ in POINTS:
            if id_ == "p2" and LOST[0] <= start < LOST[1]:
                continue
            if id_ == "p5" and start < datetime(2026, 9, 20, tzinfo=SHANGHAI):
                continue
            kw = power_kw(id_, start)
            guessed = id_ == "p3" and GUESSED[0] <= start < GUESSED[1]
            energies = {IMPORT: Decimal(round(kw / 4 * 1000)).scaleb(-3), EXPORT: Decimal(0)}
            if id_ != "p4":
                energies[REACTIVE] = Decimal(round(kw / 4 * 1000 * (0.75 if id_ == "p2" else 0.3))).scaleb(-3)
            flags = frozenset({Quality.ESTIMATED if guessed else Quality.MEASURED})
            mean = 229.0 + math.sin(number / 7.0)
            yield Interval(
                id_, start, 900, energies, flags, 1, "estimate" if guessed else "poll",
                known_s=0 if guessed else 900, parts=(int(not guessed), 1),
                **({} if guessed else {
                    "demand_max_kw": round(kw * 1.1, 3), "power_factor": 0.8 if id_ == "p2" else 0.958,
                    "voltage_min_v": round(mean - 2, 1), "voltage_mean_v": round(mean, 1),
                    "voltage_max_v": round(mean + 2, 1),
                }),
            )  # fmt: skip


def gaps() -> list[dict[str, object]]:
    """As `meter_batch/gaps/list` answers."""
    return [
        {
            "point": "p2", "name": "Compressor", "since": LOST[0].astimezone(UTC).isoformat(),
            "until": LOST[1].astimezone(UTC).isoformat(), "reason": "meter", "missing": 192, "recoverable_until": None,
        },
        {
            "point": "p4", "name": "办公楼", "since": (NOW - timedelta(hours=2)).isoformat(), "until": None,
            "reason": "line", "missing": 8, "recoverable_until": (NOW + timedelta(days=10)).isoformat(),
        },
    ]  # fmt: skip


def alarms() -> dict[str, object] | None:
    """As `GET /api/meter_batch/alarms` answers: one of p2 that has gone, one of the line of p4 that lasts."""
    from meter_batch_engine.model.finding import AlarmState, Finding, Severity
    from meter_batch_engine.wire import encode_findings

    at = datetime(2026, 9, 10, 6, tzinfo=UTC)
    findings = [
        Finding(
            id="f1", kind="low_power_factor", subject_kind="point", subject="p2", severity=Severity.WARNING,
            since=at, until=at + timedelta(hours=3), state=AlarmState.NORMAL, value=0.82, limit=0.85, extreme=0.79,
            unit="", phase=0, cause=None, facts={}, acknowledged_at=at + timedelta(hours=1),
            acknowledged_by="Administrator", shelved_until=None, comment=None,
        ),
        Finding(
            id="f2", kind="line_lost", subject_kind="line", subject="l2", severity=Severity.CRITICAL,
            since=NOW - timedelta(hours=2), until=None, state=AlarmState.UNACKNOWLEDGED, value=None, limit=None,
            extreme=None, unit="", phase=0, cause=None, facts={}, acknowledged_at=None, acknowledged_by=None,
            shelved_until=None, comment=None,
        ),
    ]  # fmt: skip
    return encode_findings(findings, [])


def build(folder: Path, days: int = DAYS) -> Path:
    """Writes it through the real archive (about a second); returns the folder, which is what `--data` names."""
    with Archive(folder / "archive", time_zone=ZONE, writing=True) as archive:
        archive.keep_registry(registry())
        archive.take("archive", Changes(1, list(intervals(days))))
        archive.compact()
    mirror = Mirror(folder / "mirror")
    mirror.keep(REGISTRY, encode_registry(registry()), NOW)
    mirror.keep(GAPS, gaps(), NOW)
    with suppress(ImportError):  # until findings travel
        mirror.keep(ALARMS, alarms(), NOW)
    return folder
