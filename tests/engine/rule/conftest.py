"""A site of a few points whose values the tests say, second by second."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any

import pytest

from meter_batch_engine import (
    BY_KEY,
    Alarms,
    Change,
    Finding,
    Flag,
    InstalledMeter,
    Multiplier,
    Override,
    Point,
    Reading,
    Route,
    RuleBook,
    Subject,
    load_rules,
)

BEGIN = datetime(2026, 11, 2, 8, tzinfo=UTC)
KEYS = (
    *("energy_import", "energy_export", "active_power", "reactive_power", "power_factor"),
    *(f"{what}_l{phase}" for what in ("voltage", "current") for phase in (1, 2, 3)),
)


class Site:
    """Alarms of points, and a clock in seconds since the tests' beginning."""

    def __init__(self, *overrides: Override, rules: RuleBook | None = None) -> None:
        ids = count(1)
        self.alarms = Alarms(rules or load_rules(), overrides, new_id=lambda: f"f{next(ids)}")
        self.subjects: dict[str, Subject] = {}
        self.changes: list[Change] = []

    def at(self, second: float) -> datetime:
        return BEGIN + timedelta(seconds=second)

    def add(
        self,
        point: str = "p1",
        keys: Iterable[str] = KEYS,
        *,
        line: str | None = "east",
        area: str | None = None,
        ratio: tuple[int, int] = (1, 1),
        second: float = 0,
        **attributes: str,
    ) -> Site:
        multipliers = () if ratio == (1, 1) else (Multiplier(BEGIN, Decimal(ratio[0]), Decimal(ratio[1])),)
        made = Point(
            point,
            point,
            (InstalledMeter(BEGIN, "eastron/sdm630"),),
            (Route("east", "modbus", "1"),),
            multipliers,
            attributes=attributes,
        )
        self.subjects[point] = Subject(made, area, line, frozenset(BY_KEY[key].obis for key in keys))
        return self.put(second)

    def put(self, second: float = 0) -> Site:
        self.took(self.alarms.set_points(self.subjects, self.at(second)))
        return self

    def took(self, changes: list[Change]) -> list[Change]:
        self.changes += changes
        return changes

    def read(self, second: float, point: str = "p1", /, flags: Iterable[Flag] = (), **values: Any) -> list[Change]:
        """What a meter says at a second."""
        at = self.at(second)
        readings = [Reading(BY_KEY[key].obis, value, at, frozenset(flags)) for key, value in values.items()]
        return self.took(self.alarms.readings(at, {point: readings}))

    def volts(self, second: float, one: float, two: float = 230.0, three: float = 230.0) -> list[Change]:
        return self.read(second, voltage_l1=one, voltage_l2=two, voltage_l3=three)

    def settle(self, volts: float = 230.0, point: str = "p1", before: float = 0) -> Site:
        """The readings from which the nominal voltage is inferred."""
        for second in (before - 30, before - 20, before - 10):
            self.read(second, point, **{f"voltage_l{phase}": volts for phase in (1, 2, 3)})
        return self

    def link(self, second: float, *silent: str, connected: bool = True, line: str = "east") -> list[Change]:
        problem = None if connected else "no way"
        return self.took(self.alarms.links(self.at(second), line, connected, frozenset(silent), problem))

    def tick(self, second: float) -> list[Change]:
        return self.took(self.alarms.tick(self.at(second)))

    def every(self, seconds: Iterable[float], say: Callable[[float], list[Change]]) -> list[Change]:
        return [change for second in seconds for change in say(second)]

    def kinds(self) -> list[str]:
        return [one.kind for one in self.alarms.active() if one.active]

    def the(self, kind: str, subject: str = "p1") -> Finding:
        found = [one for one in self.alarms.active() if (one.kind, one.subject) == (kind, subject)]
        assert len(found) == 1, f"{kind} at {subject}: {len(found)} findings"
        return found[0]

    def told(self) -> list[tuple[str, str]]:
        """Kinds and subjects of all notifications so far."""
        return [(one.finding.kind, one.finding.subject) for one in self.changes if one.notify]


@pytest.fixture
def site() -> type[Site]:
    return Site
