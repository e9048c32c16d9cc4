"""What the points of a total cost: which are billed together, what they used, and what there is to say about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation

from meter_batch_engine.errors import ConfigError
from meter_batch_engine.model.point import Point

from .bill import Use, bill, cost, lacking
from .facts import Bill, Cost, Demand, Note
from .split import Measured, Terms
from .tariff import Tariff

CONTRACT, CAPACITY = "contract_kw", "transformer_kva"
"""Attributes of points that a demand charge goes by."""
ZERO = Decimal(0)


def cost_of(
    data: Measured,
    points: Mapping[str, Point],
    members: Mapping[str, Terms],
    tariffs: Mapping[str, Tariff],
    *,
    monthly: bool,
) -> tuple[Cost | None, list[Note]]:
    """The bills of the members of a total, those of one tariff together. None where none has a tariff and energy."""
    bills: list[Bill] = []
    notes: list[Note] = []
    for tariff in data.tariffs:
        mine = [one for one, some in members.items() if tariffs.get(one) is tariff and data.kwh([some]) is not None]
        if not mine:
            continue
        use = _use(data, points, {one: members[one] for one in mine}, tariff)
        bills.append(bill(tariff, use, monthly=monthly))
        notes += [one for one in _notes(tariff, use, monthly=monthly) if one not in notes]
    if not bills:
        return None, notes
    return cost(bills, next(one for one in data.tariffs if one.id == bills[0].tariff)), notes


def attribute_sum(points: Mapping[str, Point], ids: Iterable[str], key: str) -> Decimal | None:
    """The sum of an attribute of points; None where none has it. ConfigError for what is no number."""
    found = []
    for id_ in ids:
        text = points[id_].attributes.get(key, "").strip()
        if not text:
            continue
        try:
            value = Decimal(text)
            good = value.is_finite() and value >= 0
        except InvalidOperation:
            good = False
        if not good:
            raise ConfigError(f'meter "{points[id_].name}" has {key} "{text}", which is no number; write 550')
        found.append(value)
    return sum(found, ZERO) if found else None


def _use(data: Measured, points: Mapping[str, Point], members: Mapping[str, Terms], tariff: Tariff) -> Use:
    some: Sequence[Terms] = list(members.values())
    charge = tariff.versions[tariff.version_of(data.period.first) or 0].demand
    minutes = 15 if charge is None else charge.minutes
    if charge is not None and charge.feeds == "separate" and len(some) > 1:
        each = [data.demand([one], 1, minutes) for one in some]
        there = [one.max_kw for one in each if one.max_kw is not None]
        demand = Demand(sum(there, ZERO) if there else None, None, max(one.minutes for one in each))
    else:
        demand = data.demand(some, 10, minutes)
    return Use(
        points=tuple(members),
        by_version=data.split(tariff, some),
        demand=demand,
        power_factor=data.power_factor(some),
        contract_kw=attribute_sum(points, members, CONTRACT),
        transformer_kva=attribute_sum(points, members, CAPACITY),
    )


def _notes(tariff: Tariff, use: Use, *, monthly: bool) -> list[Note]:
    found = []
    if monthly and (attribute := lacking(tariff, use)) is not None:
        found.append(Note("no_contract", {"tariff": tariff.id, "attribute": attribute}))
    first, *later = sorted({place for place, _ in use.by_version})
    for place in later:
        day = tariff.versions[place].since.isoformat()
        found.append(Note("tariff_changed", {"tariff": tariff.id, "day": day}))
    version = tariff.versions[first]
    fixed = any(one.per_month is not None for one in version.charges)
    if not monthly and (version.demand or version.power_factor_standard or fixed):
        found.append(Note("monthly_charges"))
    return found
