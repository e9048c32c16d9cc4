"""A tariff says what each kilowatt-hour costs; a golden bill is met to the cent; a wrong file is told what to write."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_batch_analytics.report.bill import Use, bill
from meter_batch_analytics.report.facts import Demand, PowerFactor
from meter_batch_analytics.report.tariff import Tariff, adjustment_percent, rounded_power_factor
from meter_batch_analytics.report.tariff_file import examples, load_tariff, load_tariffs
from meter_batch_engine.errors import ConfigError

from .steel import TARIFF

QUARTER = timedelta(minutes=15)


def tariff_of(folder: Path, text: str, name: str = "t") -> Tariff:
    file = folder / f"{name}.toml"
    file.write_text(text, encoding="utf-8")
    return load_tariff(file)


@pytest.fixture(scope="session")
def steel(shared_dir: Path) -> list[tuple[datetime, Decimal, Decimal, Decimal]]:
    """Start, kWh, lagging and leading kvarh of each quarter of an hour."""
    import pyarrow.parquet as pq

    table = pq.read_table(shared_dir / "data/uci_steel/steel.parquet")
    columns = [
        table[name].to_pylist()
        for name in ("ts", "Usage_kWh", "Lagging_Current_Reactive_Power_kVarh", "Leading_Current_Reactive_Power_kVarh")
    ]
    return [(at - QUARTER, *(Decimal(repr(one)) for one in row)) for at, *row in zip(*columns, strict=True)]


@pytest.fixture(scope="session")
def golden(shared_dir: Path) -> dict[str, object]:
    return json.loads((shared_dir / "data/uci_steel/golden_tariff.json").read_text(encoding="utf-8"))


def test_the_golden_bill_of_a_steel_plant_is_met_to_the_cent(steel, golden, tmp_path: Path) -> None:
    by_basis = {
        basis: tariff_of(tmp_path, TARIFF.replace("BASIS", basis), basis)
        for basis in ("actual", "contract", "capacity")
    }
    tariff = by_basis["actual"]
    sums: dict[str, dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    greatest: dict[str, Decimal] = defaultdict(Decimal)
    for start, kwh, lagging, leading in steel:
        month = f"{start:%Y-%m}"
        sums[month][tariff.period_at(start.date(), start.hour * 60 + start.minute)] += kwh
        sums[month]["lagging"] += lagging
        sums[month]["leading"] += leading
        greatest[month] = max(greatest[month], kwh * 4)
    year: dict[str, Decimal] = defaultdict(Decimal)
    for expected in golden["months"]:
        found = sums[expected["month"]]
        kwh = found["peak"] + found["flat"] + found["valley"]
        reactive = found["lagging"] + found["leading"]
        use = Use(
            ("p",),
            {(0, key): found[key] for key in ("peak", "flat", "valley")},
            Demand(greatest[expected["month"]], None, 15),
            PowerFactor(
                found["lagging"], found["leading"], rounded_power_factor(kwh, reactive),
                rounded_power_factor(kwh, found["lagging"]),
            ),
        )  # fmt: skip
        bills = {basis: bill(one, use, monthly=True) for basis, one in by_basis.items()}
        lines = {basis: {line.key: line for line in one.lines} for basis, one in bills.items()}
        cheaper = min(("actual", "capacity"), key=lambda basis: lines[basis]["demand"].amount)
        said = {
            "kwh": kwh, "peak": found["peak"], "flat": found["flat"], "valley": found["valley"],
            "kvarh_lag": found["lagging"], "kvarh_lead": found["leading"],
            "pf_lag_only": use.power_factor.lagging_only, "pf_abs_sum": use.power_factor.value,
            "pf_adj_pct": bills["actual"].power_factor.adjustment_percent,
            "max_demand_kw": use.demand.max_kw,
            "energy_charge": lines["actual"]["energy"].amount,
            "basic_by_actual_demand": bills["actual"].demand_methods["actual"],
            "basic_by_contract_550kw": lines["contract"]["demand"].amount,
            "basic_by_capacity": bills["actual"].demand_methods["capacity"],
            "pf_adj_money": lines[cheaper]["power_factor"].amount,
            "flat_price_equivalent": bills["actual"].flat_cost,
        }  # fmt: skip
        for key, value in said.items():
            assert value == Decimal(str(expected[key])), (expected["month"], key)
        for one in bills.values():
            assert one.total == sum(line.amount for line in one.lines)
            assert sum(part.amount for part in one.lines[0].parts).quantize(Decimal("0.01"), ROUND_HALF_UP) == (
                one.lines[0].amount
            )
        for key in golden["year"]:
            year[key] += said[key]
    # The printed amounts add up to the year's, which was rounded once: at most half a cent for each month apart.
    for key, value in golden["year"].items():
        assert abs(year[key] - Decimal(str(value))) <= Decimal("0.06"), key


def test_power_factor_tables_are_those_of_the_notice(golden) -> None:
    for one in golden["pf_table_points"]:
        standard, value = (Decimal(str(one[key])) for key in ("standard", "pf"))
        found = adjustment_percent(standard.quantize(Decimal("0.01")), value.quantize(Decimal("0.01")), "CN-1983-215")
        assert found == Decimal(str(one["percent"])), one


@pytest.mark.parametrize(
    ("excess", "kw", "billed"),
    [
        ("added_to_measured", "577.5", "550"),  # 105 % exactly
        ("added_to_measured", "600", "622.5"),
        ("twice_over_contract", "600", "595"),
        ("measured", "600", "600"),
        ("none", "600", "550"),
        ("measured", "500", "550"),
    ],
)
def test_what_is_above_the_contract_is_billed_as_the_switch_says(
    excess: str, kw: str, billed: str, tmp_path: Path
) -> None:
    text = TARIFF.replace("BASIS", "contract").replace("added_to_measured", excess)
    use = Use(("p",), {(0, "flat"): Decimal(1000)}, Demand(Decimal(kw), None, 15), PowerFactor(None, None, None, None))
    line = next(one for one in bill(tariff_of(tmp_path, text), use, monthly=True).lines if one.key == "demand")
    assert (line.quantity, line.price, line.amount) == (Decimal(billed), 40, Decimal(billed) * 40)


@pytest.mark.parametrize(("kwh", "price"), [("207999", "40"), ("208000", "36")])
def test_much_use_of_a_transformer_makes_demand_cheaper(kwh: str, price: str, tmp_path: Path) -> None:
    tariff = tariff_of(tmp_path, TARIFF.replace("BASIS", "actual"))  # 800 kVA × 260 kWh
    use = Use(("p",), {(0, "flat"): Decimal(kwh)}, Demand(Decimal(500), None, 15), PowerFactor(None, None, None, None))
    found = bill(tariff, use, monthly=True)
    assert next(one.price for one in found.lines if one.key == "demand") == Decimal(price)
    assert found.demand_methods["capacity"] == 800 * 25
    assert "power_factor" not in [one.key for one in found.lines]  # nothing is known of it


@given(st.integers(0, 100), st.sampled_from(["0.80", "0.85", "0.90"]))
def test_a_better_power_factor_never_costs_more(hundredths: int, standard: str) -> None:
    worse, better = Decimal(hundredths).scaleb(-2), Decimal(min(hundredths + 1, 100)).scaleb(-2)
    found = [adjustment_percent(Decimal(standard), one, "CN-1983-215") for one in (worse, better)]
    assert found[0] >= found[1]
    assert adjustment_percent(Decimal(standard), Decimal(standard), "CN-1983-215") == 0


def test_the_examples_that_come_with_the_program_are_right_and_cover_every_day() -> None:
    found = {name: load_tariff(file) for name, file in examples().items()}
    assert set(found) == {"china-industrial", "simple"}
    for tariff in found.values():
        for number in range(3 * 366):
            spans = tariff.spans(date(2026, 1, 1) + timedelta(days=number))
            assert [first for first, _, _ in spans] == [0, *(last for _, last, _ in spans[:-1])]
            assert spans[-1][1] == 24 * 60
    china = found["china-industrial"]
    assert china.period_at(date(2026, 7, 6), 11 * 60) == "sharp"
    assert china.period_at(date(2026, 10, 1), 11 * 60) == "deep"  # National Day
    assert china.period_at(date(2026, 10, 10), 11 * 60) == "peak"  # a Saturday that is worked
    assert china.versions[0].prices["sharp"] == Decimal("1.28125")


def test_versions_apply_from_their_day_on(tmp_path: Path) -> None:
    text = TARIFF.replace("BASIS", "actual")
    second = text[text.index("[[version]]") :].replace("2018-01-01", "2018-07-01").replace('"0.60"', '"0.70"')
    tariff = tariff_of(tmp_path, text + second.replace("10:00-14:00", "11:00-14:00"))
    assert tariff.version_of(date(2018, 6, 30)) == 0 and tariff.version_of(date(2018, 7, 1)) == 1
    assert tariff.period_at(date(2018, 6, 30), 630) == "peak" and tariff.period_at(date(2018, 7, 1), 630) == "flat"
    assert tariff.versions[1].prices["peak"] == Decimal("1.148")
    with pytest.raises(ConfigError, match=r"no prices for 2017-12-31: its first version is valid from 2018-01-01"):
        tariff.spans(date(2017, 12, 31))


def test_single_days_count_before_months_and_seasons_may_reach_over_the_new_year(tmp_path: Path) -> None:
    plan = TARIFF[TARIFF.index("[[version.day]]") : TARIFF.index("[version.demand]")]
    text = TARIFF.replace("BASIS", "actual").replace(
        plan,
        '[[version.day]]\nseason = ["11-15", "02-29"]\notherwise = "peak"\n'
        '[[version.day]]\nseason = ["03-01", "11-14"]\notherwise = "flat"\n'
        '[[version.day]]\ndates = [2018-07-20]\nhours = { peak = ["00:00-12:00"] }\notherwise = "valley"\n',
    )
    tariff = tariff_of(tmp_path, text)
    assert [tariff.period_at(date(2018, *day), 0) for day in ((1, 1), (11, 14), (11, 15), (7, 20))] == (
        ["peak", "flat", "peak", "peak"]
    )
    assert tariff.period_at(date(2018, 7, 20), 720) == "valley"


CHARGE = '[[version.charge]]\nkey = "{}"\nname = {{ en = "a", "zh-Hans" = "a" }}\nper_kwh = 1\n'
WRONG = [
    ('currency = "CNY"', "", r't\.toml: "currency" is missing; write currency = "CNY"'),
    ('currency = "CNY"', 'currency = "yuan"', '"currency" is \'yuan\' and must be a code of three letters'),
    ("[periods]", "[period]", r'"period" is not known here; did you mean "periods"\?'),
    ('peak = { en = "Peak", "zh-Hans" = "峰" }', 'peak = { en = "Peak" }', "must be a name in both"),
    ("from = 2018-01-01", 'from = "2018"', "\"from\" is '2018' and must be a day without quotes"),
    ('base = "0.60"', "", r'\[\[version\]\] from 2018-01-01: "base" is missing; ratios are of it'),
    ('valley = "0.41"', 'vally = "0.41"', r'\[version\.ratios\]: "vally" is not known here; did you mean "valley"\?$'),
    (', valley = "0.41"', "", r'from 2018-01-01, \[version\.ratios\]: "valley" is missing; write valley'),
    ('"1.64"', '"a lot"', r"\[version\.ratios\]: \"peak\" is 'a lot' and must be a number"),
    ('["23:00-07:00"]', '["23:00-06:00"]', None),
    ('otherwise = "flat"', "", r'"hours" 07:00 to 10:00 is in no period: add it to one, or write otherwise'),
    ('"17:00-21:00"]', '"13:00-21:00"]', r'"hours" 13:00 to 14:00 is in peak and in peak'),
    ('["23:00-07:00"]', '["20:00-07:00"]', r'"hours" 20:00 to 21:00 is in peak and in valley'),
    ('["23:00-07:00"]', '["23:00-25:00"]', r"'23:00-25:00', which is no stretch of a day"),
    ("valley = [", "night = [", r'"night" is no period of this tariff; there are peak, flat, valley'),
    ("[[version.day]]", "[[version.day]]\nmonths = [1, 2]", r"no \[\[version.day\]\] is for work days about 03-01"),
    ("[[version.day]]", '[[version.day]]\notherwise = "flat"\n[[version.day]]', "1 and 2 are both for work days"),
    ("[[version.day]]", "[[version.day]]\nmonths = [13]", r': \[\[version\]\] from 2018-01-01, \[\[version\.day\]\] 1'),
    ("valley = [", "vally = [", r'1, \[version\.day\.hours\]: "vally" is no period of this tariff; did you mean "val'),
    ("allowance = 1.05", "alowance = 1.05", r'\[version\.demand\]: "alowance" is not known here; did you mean "allow'),
    ("[version.demand]", "[version.demnd]", r'2018-01-01: "demnd" is not known here; did you mean "demand"\?'),
    ("[[version]]", "[[version]]\nfrom_ = 1\nbases = 2", r'"from_" is not known here; did you mean "from"\?'),
    ("[[version.day]]", '[[version.day]]\non = ["sunday"]', r'"on" is .* must be a list of work, rest, holiday'),
    ("[[version.day]]", '[[version.day]]\nseason = ["summer"]', r'"season" is .* write season'),
    ('basis = "BASIS"', "", r'\[version\.demand\]: "basis" is missing; write basis = "actual"'),
    ('basis = "BASIS"', 'basis = "guess"', r"\"basis\" is 'guess' and must be one of actual, contract, capacity"),
    ('per_kw = "40"', "", r'\[version\.demand\]: "per_kw" is missing; write per_kw = "40"'),
    ("allowance = 1.05", "allowance = 0.5", r'"allowance" is .* at least 1'),
    ("standard = 0.90", "standard = 0.91", r'"standard" is 0.91 and must be one of 0.90, 0.85, 0.80'),
    ("standard = 0.90", "standard = 0.90\nstandart = 1", r'"standart" is not known here; did you mean "standard"\?$'),
    ("standard = 0.90", "standard = 0.90\ncolour = 1", r'"colour" is not known here; there are table, standard'),
    ("[version.power_factor]", '[[version.charge]]\nkey = "a"\n[version.power_factor]', r'charge\]\] 1: "name" is'),
    ("[version.power_factor]", CHARGE.format("energy") + "[version.power_factor]", "twice, or it is one of energy"),
    ("[version.power_factor]", CHARGE.format("a") * 2 + "[version.power_factor]", "twice, or it is one of energy"),
    ("name =", "nam =", r'"nam" is not known here; did you mean "name"\?'),
    ("name =", "# =", r'"name" is missing'),
    ("[[version]]", "[[version]", "is no TOML"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "said"), WRONG, ids=[str(number) for number in range(len(WRONG))])
def test_a_wrong_file_is_told_where_and_what_to_write(old: str, new: str, said: str | None, tmp_path: Path) -> None:
    assert old in TARIFF
    text = TARIFF.replace(old, new, 1).replace("BASIS", "actual")
    if said is None:
        tariff_of(tmp_path, text)  # what is not named falls to `otherwise`
        return
    with pytest.raises(ConfigError, match=said) as error:
        tariff_of(tmp_path, text)
    assert str(tmp_path / "t.toml") in str(error.value)


def test_a_folder_has_a_default_and_others_by_name(tmp_path: Path) -> None:
    assert load_tariffs(tmp_path / "none").default is None
    tariff_of(tmp_path, TARIFF.replace("BASIS", "actual"), "default")
    tariff_of(tmp_path, TARIFF.replace("BASIS", "capacity"), "office")
    found = load_tariffs(tmp_path)
    assert found.default is not None and found.default.id == "default"
    assert found.named_so("office", "p").id == "office"
    with pytest.raises(
        ConfigError, match=r'"Lathe 3" has the tariff "x", and there is no tariffs/x\.toml; there are: default'
    ):
        found.named_so("x", "Lathe 3")
    (tmp_path / "bad.toml").write_text("[[version]]\nform = 2018-01-01\n", encoding="utf-8")
    again = load_tariffs(tmp_path)
    assert set(again.named) == {"default", "office"} and again.default == found.default
    with pytest.raises(ConfigError, match=r'bad\.toml: "currency" is missing; write currency = "CNY"'):
        again.named_so("bad")
    with pytest.raises(ConfigError, match=r'tariff "x" was asked for, and there is no .* bad, default, office'):
        again.named_so("x")
    with pytest.raises(ConfigError, match="there is no tariff file"):
        load_tariff(tmp_path / "y.toml")
