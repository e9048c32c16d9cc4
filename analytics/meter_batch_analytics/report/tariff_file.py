"""Tariffs from TOML files, checked to the last key. Errors name file, table and key, and say what to write."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

from meter_batch_engine.errors import ConfigError
from meter_batch_engine.model.day import DayCalendar, DayClass

from .facts import TariffPeriod
from .tariff import (
    DAY_MINUTES,
    DEFAULT,
    Basis,
    Charge,
    DayPlan,
    DemandCharge,
    Excess,
    Tariff,
    Tariffs,
    Version,
    power_factor_tables,
)
from .toml_table import Table, load_table, meant

EXAMPLES = Path(__file__).with_name("tariffs")
EXCESSES = ("added_to_measured", "twice_over_contract", "measured", "none")
_SPAN = re.compile(r"(\d\d?):(\d\d)-(\d\d?):(\d\d)")
_DAY = re.compile(r"(\d\d?)-(\d\d?)")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_LEAP = [date(2024, 1, 1) + timedelta(days=number) for number in range(366)]
_CLASSES = tuple(one.value for one in DayClass)


def load_tariff(file: Path) -> Tariff:
    """The tariff of a file; its id is the file's name without ending. ConfigError says what to write instead."""
    top = load_table(file, "tariff file")
    country = top.choice("country", ("CN", ""), "") or None
    currency = top.take("currency", '"CNY"', needed=True)
    if not isinstance(currency, str) or not re.fullmatch(r"[A-Z]{3}", currency):
        raise top.wrong("currency", f'is {currency!r} and must be a code of three letters; write currency = "CNY"')
    name, digits, periods = top.names("name"), top.whole("digits", 2, (0, 2, 3)), _periods(top)
    keys = tuple(one.key for one in periods)
    versions = [_version(one, keys) for one in top.tables("version", needed=True)]
    for one, other in pairwise(versions):
        if one.since >= other.since:
            raise top.wrong(
                None, f"the [[version]] from {other.since} stands after the one from {one.since}: oldest first"
            )
    top.done()
    return Tariff(file.stem, name, currency, digits, country, periods, tuple(versions), DayCalendar(country))


def load_tariffs(folder: Path) -> Tariffs:
    """All tariffs of a folder; `default.toml` is that of points that name none. Without a folder there are none.

    A file that is wrong stops no other: what is wrong with it is in `broken`.
    """
    found: dict[str, Tariff] = {}
    broken: dict[str, str] = {}
    for file in sorted(folder.glob("*.toml")):
        try:
            found[file.stem] = load_tariff(file)
        except ConfigError as error:
            # People who read this know no folder of the server.
            broken[file.stem] = str(error).replace(str(file), file.name)
    return Tariffs(found.get(DEFAULT), found, broken)


def _periods(top: Table) -> tuple[TariffPeriod, ...]:
    table = top.table("periods")
    if table is None:
        top.meant("periods")
        raise top.wrong(
            None, 'there is no [periods]; write one with a line a period: peak = { en = "Peak", "zh-Hans" = "峰" }'
        )
    found = []
    for key, value in table.rest().items():
        again = Table(table.file, table.place, {key: value})
        if not _NAME.fullmatch(key):
            raise again.wrong(key, "is no name of a period; write letters, as in peak")
        found.append(TariffPeriod(key, again.names(key)))
    if not found:
        raise table.wrong(None, "there is no period")
    return tuple(found)


def _version(table: Table, periods: tuple[str, ...]) -> Version:
    since = _date(table, "from", table.take("from", "2026-01-01", needed=True))
    table.place = f"[[version]] from {since}"
    base = table.number("base", '"0.60"')
    prices, ratios = table.table("prices"), table.table("ratios")
    if (prices is None) == (ratios is None):
        table.meant("prices", "ratios")
        raise table.wrong(
            None, 'write either prices = { peak = "0.98", … } or base = "0.60" and ratios = { peak = "1.64", … }'
        )
    if ratios is not None and base is None:
        raise table.wrong("base", 'is missing; ratios are of it: write base = "0.60"')
    found = _by_period(prices or cast(Table, ratios), periods)
    if ratios is not None:
        assert base is not None
        found = {key: base * ratio for key, ratio in found.items()}
    plans = tuple(_plan(one, periods) for one in table.tables("day", needed=True))
    _whole_year(table, plans)
    demand = table.table("demand")
    standard, kind = _power_factor(table.table("power_factor"))
    charges = tuple(_charge(one) for one in table.tables("charge"))
    keys = [one.key for one in charges]
    for key in keys:
        if keys.count(key) > 1 or key in ("energy", "demand", "power_factor"):
            raise table.wrong("charge", f'has the key "{key}" twice, or it is one of energy, demand, power_factor')
    table.done()
    return Version(
        since, found, base if base is not None else found.get("flat"), plans,
        None if demand is None else _demand(demand), standard, kind, charges,
    )  # fmt: skip


def _by_period(table: Table, periods: tuple[str, ...]) -> dict[str, Decimal]:
    values = {key: table.number(key, '"0.60"', needed=True, least="-1000") for key in periods}
    table.done()
    return cast(dict[str, Decimal], values)


def _plan(table: Table, periods: tuple[str, ...]) -> DayPlan:
    months = table.take("months", "[7, 8, 9]")
    season = table.take("season", '["06-15", "09-15"]')
    dates = table.take("dates", "[2026-10-01]")
    classes = table.take("on", '["work"]')
    if sum(one is not None for one in (months, season, dates)) > 1 or (dates is not None and classes is not None):
        raise table.wrong(None, "has more than one of months, season, dates; `dates` goes with none of the others")
    if months is not None and (
        not isinstance(months, list) or not months or not all(type(one) is int and 1 <= one <= 12 for one in months)
    ):
        raise table.wrong("months", f"is {months!r} and must be a list of 1 to 12; write months = [7, 8, 9]")
    if classes is not None and (not isinstance(classes, list) or not classes or not set(classes) <= set(_CLASSES)):
        raise table.wrong("on", f"is {classes!r} and must be a list of {', '.join(_CLASSES)}")
    if dates is not None and (not isinstance(dates, list) or not dates):
        raise table.wrong("dates", f"is {dates!r} and must be a list of days; write dates = [2026-10-01]")
    whole = range(1, 13) if months is None and season is None and dates is None else months or ()
    plan = DayPlan(
        frozenset(whole),
        None if season is None else _season(table, season),
        frozenset(_date(table, "dates", one) for one in dates or ()),
        frozenset(DayClass(one) for one in classes or _CLASSES),
        _spans(table, periods),
    )
    table.done()
    return plan


def _season(table: Table, found: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    matches = [_DAY.fullmatch(str(one)) for one in found] if isinstance(found, list) and len(found) == 2 else []
    days = [(int(one[1]), int(one[2])) for one in matches if one is not None]
    if len(days) != 2 or not set(days) <= {(one.month, one.day) for one in _LEAP}:
        raise table.wrong(
            "season", f'is {found!r} and must be the first and last day; write season = ["06-15", "09-15"]'
        )
    return days[0], days[1]


def _spans(table: Table, periods: tuple[str, ...]) -> tuple[tuple[int, int, str], ...]:
    """The periods of a day in order. ConfigError for a gap, an overlap and an unknown period."""
    hours = table.table("hours")
    otherwise = table.take("otherwise", f'"{periods[0]}"')
    if otherwise is not None and otherwise not in periods:
        raise table.wrong("otherwise", f"is {otherwise!r} and must be one of {', '.join(periods)}")
    found: list[tuple[int, int, str]] = []
    for key, texts in (hours.rest() if hours is not None else {}).items():
        assert hours is not None
        if key not in periods:
            known = meant(key, periods) or f"; there are {', '.join(periods)}"
            raise hours.wrong(key, f"is no period of this tariff{known}")
        if not isinstance(texts, list):
            raise hours.wrong(key, f'is {texts!r} and must be a list; write {key} = ["10:00-14:00"]')
        for text in texts:
            found += [(*span, key) for span in _span(hours, key, text)]
    found.sort()
    whole: list[tuple[int, int, str]] = []
    done = 0
    for first, last, key in [*found, (DAY_MINUTES, DAY_MINUTES, "")]:
        if first < done:
            raise table.wrong(
                "hours",
                f"{_clock(first)} to {_clock(min(done, last))} is in {whole[-1][2]} and in {key}: write it in one",
            )
        if first > done:
            if otherwise is None:
                raise table.wrong(
                    "hours",
                    f"{_clock(done)} to {_clock(first)} is in no period: add it to one, "
                    f'or write otherwise = "{periods[-1]}"',
                )
            whole.append((done, first, otherwise))
        if key:
            whole.append((first, last, key))
        done = max(done, last)
    return tuple(whole)


def _span(table: Table, key: str, text: Any) -> list[tuple[int, int]]:
    match = _SPAN.fullmatch(text.replace(" ", "")) if isinstance(text, str) else None
    numbers = [int(one) for one in match.groups()] if match else []
    if match:
        first, last = numbers[0] * 60 + numbers[1], numbers[2] * 60 + numbers[3]
        if numbers[1] < 60 and numbers[3] < 60 and first < DAY_MINUTES and last <= DAY_MINUTES and first != last:
            return (
                [(first, last)]
                if first < last
                else [one for one in ((first, DAY_MINUTES), (0, last)) if one[0] < one[1]]
            )
    raise table.wrong(key, f'has {text!r}, which is no stretch of a day; write "10:00-14:00" (24:00 is its end)')


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def _whole_year(table: Table, plans: tuple[DayPlan, ...]) -> None:
    """ConfigError where a day of the year has no plan, or two."""
    for day in _LEAP:
        for day_class in DayClass:
            found = [number for number, plan in enumerate(plans, 1) if plan.covers(day, day_class)]
            if len(found) == 1:
                continue
            what = f"{day_class.value} days about {day:%m-%d}"
            if not found:
                raise table.wrong(None, f"no [[version.day]] is for {what}: add one, or widen its months, season or on")
            raise table.wrong(
                None, f"[[version.day]] {found[0]} and {found[1]} are both for {what}: narrow one of them"
            )


def _demand(table: Table) -> DemandCharge:
    basis = cast(Basis, table.choice("basis", ("actual", "contract", "capacity")))
    # The one that is needed is taken last: the other, which looks like it, is no misspelling.
    if basis == "capacity":
        per_kw = table.number("per_kw", '"40"')
        per_kva = table.number("per_kva", '"25"', needed=True)
    else:
        per_kva = table.number("per_kva", '"25"')
        per_kw = table.number("per_kw", '"40"', needed=True)
    found = DemandCharge(
        basis,
        per_kw,
        per_kva,
        table.number("contract_kw", '"550"'),
        table.number("transformer_kva", '"800"'),
        table.whole("minutes", 15, (15, 30, 60)),
        table.number("allowance", '"1.05"', least="1") or Decimal("1.05"),
        cast(Excess, table.choice("excess", EXCESSES, EXCESSES[0])),
        table.number("discount_from_kwh_per_kva", '"260"'),
        table.number("discount", '"0.9"', least="0.01", most="1") or Decimal("0.9"),
        cast(Any, table.choice("feeds", ("together", "separate"), "together")),
    )  # fmt: skip
    table.done()
    return found


def _power_factor(table: Table | None) -> tuple[Decimal | None, str | None]:
    if table is None:
        return None, None
    kind = table.choice("table", tuple(power_factor_tables()), "CN-1983-215")
    standard = table.number("standard", '"0.90"', needed=True)
    allowed = power_factor_tables()[kind]["reward"]
    assert standard is not None
    if f"{standard:.2f}" not in allowed or standard != Decimal(f"{standard:.2f}"):
        raise table.wrong("standard", f"is {standard} and must be one of {', '.join(allowed)}")
    table.done()
    return standard, kind


def _charge(table: Table) -> Charge:
    key = table.take("key", '"funds"', needed=True)
    if not isinstance(key, str) or not _NAME.fullmatch(key):
        raise table.wrong("key", f'is {key!r} and must be letters; write key = "funds"')
    found = Charge(
        key, table.names("name"), table.number("per_kwh", '"0.03"', least="-1000"),
        table.number("per_month", '"50"', least="-1e9"), table.number("percent", '"13"', least="-100", most="1000"),
        table.flag("in_power_factor", False),
    )  # fmt: skip
    if sum(one is not None for one in (found.per_kwh, found.per_month, found.percent)) != 1:
        raise table.wrong(None, 'write one of per_kwh = "0.03", per_month = "50", percent = "13"')
    if found.percent is not None and found.in_power_factor:
        raise table.wrong("in_power_factor", "goes with per_kwh and per_month only")
    table.done()
    return found


def _date(table: Table, key: str, found: Any) -> date:
    if type(found) is date:
        return found
    raise table.wrong(key, f"is {found!r} and must be a day without quotes, as 2026-01-01")


def examples() -> Mapping[str, Path]:
    """The example tariffs that come with the program, by name."""
    return {file.stem: file for file in sorted(EXAMPLES.glob("*.toml"))}
