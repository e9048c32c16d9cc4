"""What the energy, power and power factor of a month, or the energy of a day, cost by a tariff. Pure, exact.

Nothing is rounded before an amount is printed: each line half up to the currency's digits, and the total is the sum of
the lines as printed. Orders: energy, charges by energy, demand, fixed charges, power factor, taxes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Decimal

from .facts import Bill, Cost, CostLine, CostPart, Demand, PowerFactor
from .tariff import DemandCharge, Tariff, Version, adjustment_percent

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Use:
    """What points used together."""

    points: tuple[str, ...]
    by_version: Mapping[tuple[int, str], Decimal]
    """kWh by place of the tariff's version and period."""
    demand: Demand
    power_factor: PowerFactor
    contract_kw: Decimal | None = None
    """Of the points' attributes, added."""
    transformer_kva: Decimal | None = None

    @property
    def kwh(self) -> Decimal:
        """All of it."""
        return sum(self.by_version.values(), ZERO)


def bill(tariff: Tariff, use: Use, *, monthly: bool) -> Bill:
    """The bill; of a day energy and what goes with it, of a month all. The oldest version used sets monthly charges."""
    places = sorted({place for place, _ in use.by_version}) or [len(tariff.versions) - 1]
    version, kwh = tariff.versions[places[0]], use.kwh
    energy = _energy(tariff, use)
    lines = [_line(tariff, "energy", kwh, "kWh", None, sum((one.amount for one in energy), ZERO), energy)]
    base = sum((one.amount for one in energy), ZERO)
    for charge in version.charges:
        if charge.per_kwh is not None:
            amount = kwh * charge.per_kwh
            lines.append(_line(tariff, charge.key, kwh, "kWh", charge.per_kwh, amount, name=charge.name))
            base += amount if charge.in_power_factor else ZERO
    methods: dict[str, Decimal] = {}
    power_factor = use.power_factor
    basis = None
    if monthly:
        for key, (quantity, unit, price) in _demand_methods(version, use).items():
            methods[key] = _rounded(tariff, quantity * price)
            assert version.demand is not None
            if key == version.demand.basis:
                basis = key
                lines.append(_line(tariff, "demand", quantity, unit, price, quantity * price))
                base += quantity * price
        for charge in version.charges:
            if charge.per_month is not None:
                lines.append(
                    _line(tariff, charge.key, Decimal(1), "month", charge.per_month, charge.per_month, name=charge.name)
                )
                base += charge.per_month if charge.in_power_factor else ZERO
        if version.power_factor_standard is not None and version.power_factor_table is not None:
            power_factor = replace(power_factor, standard=version.power_factor_standard)
            if power_factor.value is not None:
                percent = adjustment_percent(
                    version.power_factor_standard, power_factor.value, version.power_factor_table
                )
                power_factor = replace(power_factor, adjustment_percent=percent)
                line = _line(tariff, "power_factor", percent, "%", None, base * percent / 100)
                lines.append(replace(line, base=_rounded(tariff, base)))
    for charge in version.charges:
        if charge.percent is not None:
            before = sum((one.amount for one in lines), ZERO)
            line = _line(tariff, charge.key, charge.percent, "%", None, before * charge.percent / 100, name=charge.name)
            lines.append(replace(line, base=before))
    demand = replace(use.demand, contract_kw=_contract_kw(version.demand, use))
    flat = None if version.base is None else _rounded(tariff, kwh * version.base)
    total = sum((one.amount for one in lines), ZERO)
    return Bill(
        tariff.id, tariff.name, use.points, kwh, tuple(lines), total, demand, power_factor, basis, methods, flat
    )  # fmt: skip


def energy_cost(tariff: Tariff, by_version: Mapping[tuple[int, str], Decimal]) -> Decimal:
    """What energy costs with all charges a kWh; without demand, power factor, fixed charges and taxes."""
    amount = ZERO
    for (place, period), kwh in by_version.items():
        version = tariff.versions[place]
        besides = sum((one.per_kwh for one in version.charges if one.per_kwh is not None), ZERO)
        amount += kwh * (version.prices[period] + besides)
    return _rounded(tariff, amount)


def cost(bills: Sequence[Bill], tariff: Tariff) -> Cost:
    """Several bills of one currency as one. `tariff`: any of theirs."""
    keys = dict.fromkeys(line.key for one in bills for line in one.lines)
    lines = tuple(_together([line for one in bills for line in one.lines if line.key == key]) for key in keys)
    total, kwh = sum((one.total for one in bills), ZERO), sum((one.kwh for one in bills), ZERO)
    mean = (total / kwh).quantize(Decimal("0.0001"), ROUND_HALF_UP) if kwh else None
    return Cost(tariff.currency, tariff.digits, tuple(bills), lines, total, mean)


def lacking(tariff: Tariff, use: Use) -> str | None:
    """The attribute without which the demand charge cannot be told; None where nothing lacks."""
    charge = tariff.versions[min((place for place, _ in use.by_version), default=0)].demand
    if charge is None or charge.basis == "actual":
        return None
    if charge.basis == "contract":
        return "contract_kw" if _contract_kw(charge, use) is None else None
    return "transformer_kva" if _kva(charge, use) is None else None


def _energy(tariff: Tariff, use: Use) -> tuple[CostPart, ...]:
    parts = []
    for period in tariff.periods:
        for place, version in enumerate(tariff.versions):
            kwh = use.by_version.get((place, period.key))
            if kwh is not None:
                price = version.prices[period.key]
                parts.append(CostPart(period.key, kwh, price, kwh * price))
    return tuple(parts)


def _demand_methods(version: Version, use: Use) -> dict[str, tuple[Decimal, str, Decimal]]:
    """Quantity, unit and price by basis, of those that can be told."""
    charge = version.demand
    if charge is None:
        return {}
    found: dict[str, tuple[Decimal, str, Decimal]] = {}
    kva, contract, measured = _kva(charge, use), _contract_kw(charge, use), use.demand.max_kw
    if charge.per_kw is not None and measured is not None:
        price = charge.per_kw
        least = charge.discount_from_kwh_per_kva
        if least is not None and kva and use.kwh / kva >= least:
            price *= charge.discount
        found["actual"] = (measured, "kW", price)
        if contract is not None:
            found["contract"] = (_billed_kw(charge, contract, measured), "kW", price)
    if charge.per_kva is not None and kva is not None:
        found["capacity"] = (kva, "kVA", charge.per_kva)
    return found


def _billed_kw(charge: DemandCharge, contract: Decimal, measured: Decimal) -> Decimal:
    """The kilowatts that a contract for maximum demand bills (国家电网财〔2016〕633号)."""
    over = measured - charge.allowance * contract
    if over <= 0 or charge.excess == "none":
        return contract
    if charge.excess == "measured":
        return measured
    return measured + over if charge.excess == "added_to_measured" else contract + 2 * over


def _contract_kw(charge: DemandCharge | None, use: Use) -> Decimal | None:
    return use.contract_kw if charge is None or charge.contract_kw is None else charge.contract_kw


def _kva(charge: DemandCharge, use: Use) -> Decimal | None:
    return use.transformer_kva if charge.transformer_kva is None else charge.transformer_kva


def _line(
    tariff: Tariff,
    key: str,
    quantity: Decimal,
    unit: str,
    price: Decimal | None,
    amount: Decimal,
    parts: tuple[CostPart, ...] = (),
    name: Mapping[str, str] | None = None,
) -> CostLine:
    return CostLine(key, name or {}, quantity, unit, price, _rounded(tariff, amount), parts)


def _together(lines: Sequence[CostLine]) -> CostLine:
    first = lines[0]
    if len(lines) == 1:
        return first
    sums: dict[tuple[str, Decimal], Decimal] = {}
    for part in (part for one in lines for part in one.parts):
        sums[part.period, part.price] = sums.get((part.period, part.price), ZERO) + part.kwh
    parts = tuple(CostPart(period, kwh, price, kwh * price) for (period, price), kwh in sums.items())
    alike = first.unit == "kWh"
    return replace(
        first,
        quantity=_sum(one.quantity for one in lines) if alike else None,
        price=first.price if all(one.price == first.price for one in lines) else None,
        amount=sum((one.amount for one in lines), ZERO),
        parts=parts,
        base=_sum(one.base for one in lines),
    )


def _sum(values: Iterable[Decimal | None]) -> Decimal | None:
    there = [one for one in values if one is not None]
    return sum(there, ZERO) if there else None


def _rounded(tariff: Tariff, amount: Decimal) -> Decimal:
    return amount.quantize(Decimal(1).scaleb(-tariff.digits), ROUND_HALF_UP)
