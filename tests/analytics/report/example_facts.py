"""Facts of a small plant, for whoever makes pages of them: whole, plausible and the same at every call.

`monthly()` and `daily()` have everything; `bare()` is of a month that is not over, of a meter with two days of
history, without a tariff; `empty()` knows nothing at all.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from zoneinfo import ZoneInfo

from meter_batch_analytics.report.facts import (
    AlarmFacts,
    Balance,
    Bill,
    Compared,
    Cost,
    CostLine,
    CostPart,
    DayFacts,
    Demand,
    Facts,
    GroupFacts,
    HourFacts,
    Note,
    PointFacts,
    PowerFactor,
    TariffPeriod,
    Total,
)

ZONE = ZoneInfo("Asia/Shanghai")
START = datetime(2026, 10, 1, tzinfo=ZONE)
END = datetime(2026, 11, 1, tzinfo=ZONE)
PERIODS = (
    TariffPeriod("peak", {"en": "Peak", "zh-Hans": "峰"}),
    TariffPeriod("flat", {"en": "Flat", "zh-Hans": "平"}),
    TariffPeriod("valley", {"en": "Valley", "zh-Hans": "谷"}),
)
PRICES = {"peak": Decimal("0.984"), "flat": Decimal("0.600"), "valley": Decimal("0.246")}
SHARES = {"peak": Decimal("0.36"), "flat": Decimal("0.40"), "valley": Decimal("0.24")}
METERS = (
    # id, name, area, parent, kWh of the month
    ("main", "Incomer 10 kV", "Substation", None, "128640.48"),
    ("lathe3", "Lathe 3", "Workshop 1", "main", "18211.36"),
    ("press", "Press line", "Workshop 1", "main", "41950.72"),
    ("chiller2", "冷水机组 2 号", "Utilities", "main", "33002.08"),
    ("compressor", "Air compressor station with a rather long name", "Utilities", "main", "24118.24"),
    ("office", "Office", "Administration", "main", "7340.16"),
    ("charger", "Vehicle charging", None, "main", "1204.00"),
)
HOLIDAYS = {date(2026, 10, day) for day in range(1, 8)}


def money(value: Decimal) -> Decimal:
    return value.quantize(Decimal("0.01"), ROUND_HALF_UP)


def _split(kwh: Decimal) -> dict[str, Decimal]:
    first = {key: (kwh * share).quantize(Decimal("0.01")) for key, share in SHARES.items()}
    return first | {"valley": kwh - first["peak"] - first["flat"]}


def _compared(kwh: Decimal, period: str, factor: str, days: int) -> Compared:
    other = (kwh * Decimal(factor)).quantize(Decimal("0.01"))
    alike = (kwh * Decimal(factor) * Decimal("0.97")).quantize(Decimal("0.01"))
    return Compared(
        period, other, kwh, float(kwh / other) - 1, 0.998, alike, kwh, float(kwh / alike) - 1, days,
    )  # fmt: skip


def _both(kwh: Decimal, monthly: bool) -> tuple[Compared, Compared]:
    if monthly:
        return _compared(kwh, "2026-09", "0.945", 31), _compared(kwh, "2025-10", "1.083", 31)
    return _compared(kwh, "2026-10-14", "0.98", 1), _compared(kwh, "2025-10-15", "1.04", 1)


def _demand(kwh: Decimal, hours: int, contract: str | None = None) -> Demand:
    peak = (kwh / hours * Decimal("2.35")).quantize(Decimal("0.01"))
    at = datetime(2026, 10, 15, 10, 30, tzinfo=ZONE)
    top = tuple((at + timedelta(minutes=15 * (n * 7 % 10)), peak - n * Decimal("1.16")) for n in range(10))
    factor = float(kwh / hours / peak)
    return Demand(peak, at, 15, top, None if contract is None else Decimal(contract), factor)


def _factor(kwh: Decimal, standard: str | None = None) -> PowerFactor:
    lagging, leading = (
        (kwh * Decimal("0.46")).quantize(Decimal("0.01")),
        (kwh * Decimal("0.09")).quantize(Decimal("0.01")),
    )
    return PowerFactor(
        lagging, leading, Decimal("0.88"), Decimal("0.91"),
        None if standard is None else Decimal(standard), None if standard is None else Decimal("1.0"),
    )  # fmt: skip


def _bill(kwh: Decimal, split: dict[str, Decimal], demand: Demand, monthly: bool) -> Cost:
    parts = tuple(CostPart(key, split[key], PRICES[key], split[key] * PRICES[key]) for key in PRICES)
    energy = money(sum((one.amount for one in parts), Decimal(0)))
    funds = money(kwh * Decimal("0.0293"))
    lines = [
        CostLine("energy", {}, kwh, "kWh", None, energy, parts),
        CostLine(
            "funds", {"en": "Government funds", "zh-Hans": "政府性基金及附加"}, kwh, "kWh", Decimal("0.0293"), funds
        ),
    ]
    if monthly:
        assert demand.max_kw is not None
        basic = money(demand.max_kw * 40)
        lines.append(CostLine("demand", {}, demand.max_kw, "kW", Decimal(40), basic))
        base = energy + basic
        lines.append(CostLine("power_factor", {}, Decimal("1.0"), "%", None, money(base / 100), base=base))
    total = sum((one.amount for one in lines), Decimal(0))
    methods = {"actual": lines[-2].amount, "contract": Decimal("18000.00"), "capacity": Decimal("20000.00")}
    bill = Bill(
        "example", {"en": "Industrial, two-part, 10 kV", "zh-Hans": "工商业两部制 10 千伏"}, ("main",), kwh,
        tuple(lines), total, demand, _factor(kwh, "0.90"), "actual" if monthly else None, methods if monthly else {},
        money(kwh * Decimal("0.6")),
    )  # fmt: skip
    return Cost("CNY", 2, (bill,), bill.lines, total, (total / kwh).quantize(Decimal("0.0001"), ROUND_HALF_UP))


def _day_kwh(day: date) -> Decimal:
    if day in HOLIDAYS:
        return Decimal("2215.36")
    return Decimal("2890.16") if day.weekday() > 5 else Decimal("4700.08") + day.day * Decimal("13.44")


def _day_class(day: date) -> str:
    if day in HOLIDAYS:
        return "holiday"
    return "rest" if day.weekday() > 4 and day != date(2026, 10, 10) else "work"


def _hours(first: datetime, days: int) -> tuple[HourFacts, ...]:
    found = []
    for number in range(24 * days):
        at = first + timedelta(hours=number)
        share = Decimal(22 + (30 if 8 <= at.hour < 18 else 0) + at.hour % 5).scaleb(-3)
        kwh = (_day_kwh(at.date()) * share).quantize(Decimal("0.01"))
        key = (
            "peak" if 10 <= at.hour < 14 or 17 <= at.hour < 21 else "valley" if at.hour < 7 or at.hour == 23 else "flat"
        )
        alike = (kwh * Decimal("0.96")).quantize(Decimal("0.01")) if days == 1 else None
        found.append(HourFacts(at, kwh, {key: kwh}, 1.0, alike))
    return tuple(found)


def _alarms(monthly: bool) -> tuple[AlarmFacts, ...]:
    at = datetime(2026, 10, 15, 10, 31, tzinfo=ZONE)
    found = (
        AlarmFacts("a1", "demand_over_contract", "critical", "returned_unacknowledged", "point", "main",
                   "Incomer 10 kV", at, at + timedelta(minutes=14), 462.4, 450.0, 471.2, "kW", 0, None),
        AlarmFacts("a2", "over_voltage", "warning", "acknowledged", "point", "lathe3", "Lathe 3",
                   at - timedelta(days=3), at - timedelta(days=3, hours=-2), 243.1, 235.4, 244.0, "V", 1, None),
        AlarmFacts("a3", "line_lost", "critical", "normal", "line", "l1", "Line 1",
                   at - timedelta(days=8), at - timedelta(days=8, minutes=-42), None, None, None, "", 0, None),
        AlarmFacts("a4", "communication_lost", "warning", "normal", "point", "press", "Press line",
                   at - timedelta(days=8), at - timedelta(days=8, minutes=-42), None, None, None, "", 0, "a3"),
        AlarmFacts("a5", "low_power_factor", "warning", "unacknowledged", "point", "chiller2", "冷水机组 2 号",
                   at - timedelta(days=9), None, 0.83, 0.9, 0.79, "", 0, None),
    )  # fmt: skip
    return found if monthly else found[:1]


def _made(monthly: bool) -> Facts:
    day = date(2026, 10, 15)
    scale = Decimal(1) if monthly else Decimal("0.0379")
    hours = 744 if monthly else 24
    kwh = {id_: (Decimal(text) * scale).quantize(Decimal("0.01")) for id_, _, _, _, text in METERS}
    total = kwh["main"]
    demand = _demand(total, hours, "450")
    cost = _bill(total, _split(total), demand, monthly)
    points = []
    for id_, name, area, parent, _ in METERS:
        mine, split = kwh[id_], _split(kwh[id_])
        energy = money(sum((split[key] * PRICES[key] for key in PRICES), mine * Decimal("0.0293")))
        points.append(PointFacts(
            id_, name, area, "Line 1" if id_ != "office" else "Line 2", parent, False, id_ == "main", mine, split,
            Decimal(0), float(mine / total), *_both(mine, monthly), _demand(mine, hours), _factor(mine),
            0.913 if id_ == "press" else 0.9994, 0.061 if id_ == "press" else 0.0,
            datetime(2026, 10, 3, 9, tzinfo=ZONE) if monthly and id_ == "charger" else None, "example", energy,
        ))  # fmt: skip
    points.sort(key=lambda one: (one.area is None, one.area or "", one.name))

    def groups(key: str) -> tuple[GroupFacts, ...]:
        found = []
        for name in sorted({getattr(one, key) for one in points if getattr(one, key)}):
            inside = [one for one in points if getattr(one, key) == name]
            members = [one for one in inside if one.parent not in {other.id for other in inside}]
            mine = sum((one.kwh for one in members if one.kwh is not None), Decimal(0))
            money_ = sum((one.energy_cost for one in members if one.energy_cost is not None), Decimal(0))
            found.append(GroupFacts(
                name, tuple(one.id for one in inside), tuple(one.id for one in members), mine, _split(mine),
                float(mine / total), *_both(mine, monthly), min(one.completeness for one in members),
                max(one.estimated_share for one in members), money_,
            ))  # fmt: skip
        return tuple(found)

    children = tuple(id_ for id_, _, _, parent, _ in METERS if parent)
    inside = sum((kwh[one] for one in children), Decimal(0))
    balance = Balance("main", total, children, inside, total - inside, float((total - inside) / total))
    start, end = (START, END) if monthly else (datetime(2026, 10, 15, tzinfo=ZONE), datetime(2026, 10, 16, tzinfo=ZONE))
    days = [start.date() + timedelta(days=number) for number in range(31 if monthly else 1)]
    return Facts(
        "monthly" if monthly else "daily", "2026-10" if monthly else day.isoformat(), start, end, "Asia/Shanghai",
        end + timedelta(hours=7), True, end,
        Total(("main",), total, _split(total), Decimal(0), *_both(total, monthly), demand, _factor(total, "0.90"),
              0.9994, 0.0002, (balance,)),
        tuple(points), groups("area"), groups("line"), PERIODS, cost,
        tuple(DayFacts(one, _day_class(one), _day_kwh(one), _split(_day_kwh(one)), 0.94 if one.day == 9 else 1.0,
                       0.05 if one.day == 9 else 0.0, _day_kwh(one) / 10) for one in days),
        _hours(start, len(days)), _alarms(monthly),
        (Note("estimates", {"share": 0.0002, "points": 1}), Note("history_begins", {"points": 1})) if monthly else (),
    )  # fmt: skip


def monthly() -> Facts:
    return _made(True)


def daily() -> Facts:
    return _made(False)


def bare() -> Facts:
    """A month that is not over, one meter with two days of history, no tariff."""
    whole = monthly()
    made = datetime(2026, 10, 9, 10, 20, tzinfo=ZONE)
    unknown = Compared("2026-09", None, Decimal("412.50"), None, 0.0)
    demand = replace(_demand(Decimal("412.50"), 48), contract_kw=None, load_factor=None)
    factor = PowerFactor(None, None, None, None)
    last_year = replace(unknown, period="2025-10")
    since = datetime(2026, 10, 7, 9, tzinfo=ZONE)
    point = replace(
        whole.points[0], parent=None, in_total=True, kwh=Decimal("412.50"), by_period={}, share=1.0, previous=unknown,
        last_year=last_year, demand=demand, power_factor=factor, completeness=0.242, estimated_share=0.0,
        since=since, tariff=None, energy_cost=None,
    )  # fmt: skip
    total = replace(
        whole.total, members=(point.id,), kwh=point.kwh, by_period={}, previous=unknown, last_year=last_year,
        demand=demand, power_factor=factor, completeness=0.242, estimated_share=0.0, balances=(),
    )  # fmt: skip
    days = tuple(
        replace(one, by_period={}) if one.day.day in (7, 8) else
        replace(one, kwh=None, by_period={}, completeness=0.0, demand_max_kw=None)
        for one in whole.days[:9]
    )  # fmt: skip
    return replace(
        whole, made_at=made, over=False, until=made, total=total, points=(point,), areas=(), lines=(),
        tariff_periods=(), cost=None, days=days, alarms=(),
        hours=tuple(replace(one, by_period={}) for one in whole.hours[144:192]),
        notes=(
            Note("not_over", {"until": made.isoformat()}), Note("no_tariff"), Note("history_begins", {"points": 1})
        ),
    )  # fmt: skip


def empty() -> Facts:
    """Nothing is known of the period."""
    found = bare()
    nothing = replace(found.total.previous, this_kwh=None)
    last_year = replace(nothing, period="2025-10")
    demand = Demand(None, None, 15)
    point = replace(
        found.points[0], kwh=None, export_kwh=None, share=None, previous=nothing, last_year=last_year, demand=demand,
        completeness=0.0, since=None,
    )  # fmt: skip
    total = replace(
        found.total, kwh=None, export_kwh=None, previous=nothing, last_year=last_year, demand=demand, completeness=0.0
    )
    return replace(
        found, over=True, until=found.end, made_at=found.end, total=total, points=(point,), hours=(),
        days=tuple(replace(one, kwh=None, completeness=0.0, demand_max_kw=None) for one in found.days),
        notes=(Note("no_data"), Note("no_tariff")),
    )  # fmt: skip
