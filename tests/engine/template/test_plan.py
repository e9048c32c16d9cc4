"""A plan is the cheapest one there is, proved against all others."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meter_batch_engine.template import Dlt645Request, ModbusRequest, ModbusWords, Template, Timing, cost, load, plan
from meter_batch_engine.template.loader import parse

KEYS = ["voltage_l1", "voltage_l2", "voltage_l3", "current_l1", "current_l2", "current_l3", "frequency", "power_factor"]


def template(sizes: list[int], gaps: list[int], holes: bool, max_words: int, functions: list[int]) -> Template:
    rows, address = [], 100
    for key, size, gap, function in zip(KEYS, sizes, gaps, functions, strict=False):
        address += gap
        kind = {1: "int16", 2: "float32", 4: "int64"}[size]
        rows.append(f'{{ key = "{key}", address = {address}, type = "{kind}", function = {function} }},')
        address += size
    text = (
        'vendor = "A"\nmodel = "B"\nprotocol = "modbus"\nphases = 3\n'
        f"modbus = {{ holes = {str(holes).lower()}, max_words = {max_words} }}\n"
        "register = [" + "\n".join(rows) + "]"
    )
    return parse(text, "a/b", "b.toml")


def cheapest(template: Template, wanted: set[str], timing: Timing) -> float:
    """The least seconds over all partitions of the registers into runs, by trying them all."""
    known = {
        (one.locator.function, address)
        for one in template.registers
        if isinstance(one.locator, ModbusWords)
        for address in range(one.locator.address, one.locator.end)
    }
    total = 0.0
    for function in (3, 4):
        spans = sorted(
            (one.locator.address, one.locator.end)
            for one in template.registers
            if isinstance(one.locator, ModbusWords) and one.locator.function == function and one.obis in wanted
        )
        best = float("inf")
        for cuts in range(1 << max(0, len(spans) - 1)):
            runs = [[spans[0]]] if spans else []
            for place, span in enumerate(spans[1:]):
                if cuts >> place & 1:
                    runs.append([span])
                else:
                    runs[-1].append(span)
            seconds, legal = 0.0, True
            for run in runs:
                words = range(run[0][0], run[-1][1])
                legal &= len(words) <= template.modbus.max_words
                legal &= template.modbus.holes or all((function, one) in known for one in words)
                seconds += timing.seconds(8, 5 + 2 * len(words))
            if legal:
                best = min(best, seconds)
        total += best
    return total


@settings(max_examples=200)
@given(
    sizes=st.lists(st.sampled_from([1, 2, 4]), min_size=len(KEYS), max_size=len(KEYS)),
    gaps=st.lists(st.integers(0, 60), min_size=len(KEYS), max_size=len(KEYS)),
    functions=st.lists(st.sampled_from([3, 4]), min_size=len(KEYS), max_size=len(KEYS)),
    wanted=st.sets(st.sampled_from(range(len(KEYS))), min_size=1),
    holes=st.booleans(),
    max_words=st.integers(4, 125),
    baud=st.sampled_from([1200, 2400, 9600, 19200, 115200]),
    turnround_s=st.sampled_from([0.005, 0.05, 0.2]),
)
def test_no_other_plan_takes_less_time(
    sizes: list[int],
    gaps: list[int],
    functions: list[int],
    wanted: set[int],
    holes: bool,
    max_words: int,
    baud: int,
    turnround_s: float,
) -> None:
    made = template(sizes, gaps, holes, max_words, functions)
    timing = Timing(baud, 11, 38.5 / baud, turnround_s)
    obis = {made.registers[number].obis for number in wanted}
    planned = sum(cost(one, timing) for one in plan(made, obis, timing))
    assert planned == pytest.approx(cheapest(made, obis, timing))


def test_a_request_runs_over_registers_that_nobody_wants_but_the_model_has() -> None:
    made = template([2, 2, 2], [0, 0, 0], False, 125, [3, 3, 3])
    first, _, last = (one.obis for one in made.registers)
    (request,) = plan(made, [first, last])
    assert isinstance(request, ModbusRequest)
    assert (request.address, request.count, len(request.registers)) == (100, 6, 2)


def test_slow_lines_split_at_wide_holes_and_quick_ones_read_over_them() -> None:
    made = template([2, 2], [0, 40], True, 125, [3, 3])
    assert len(plan(made, None, Timing(2400, 11, 0.016, 0.02))) == 2
    assert len(plan(made, None, Timing(115200, 11, 0.002, 0.05))) == 1
    assert len(plan(made, None, Timing(0))) == 1


def test_the_same_question_gives_the_same_plan_object() -> None:
    made = load("eastron/sdm630")
    assert plan(made, ["1-0:1.8.0"], Timing()) is plan(made, ("1-0:1.8.0",), Timing())


def test_registers_that_the_model_lacks_are_left_out() -> None:
    assert plan(load("acrel/acr10r"), ["1-0:1.8.0"]) == ()


def test_blocks_are_asked_where_they_are_cheaper() -> None:
    made = load("generic/dlt645-3ph")

    def asked(wanted: list[str], timing: Timing) -> list[str]:
        return [one.di for one in plan(made, wanted, timing) if isinstance(one, Dlt645Request)]

    slow_meter, quick_wire = Timing(2400, 11, 0.02, 0.2), Timing(19200, 11, 0.002, 0.0)
    phases = ["1-0:32.7.0", "1-0:52.7.0", "1-0:72.7.0"]
    assert asked(phases, slow_meter) == ["0201FF00"]
    assert asked(phases[:1], slow_meter) == ["02010100"]
    assert asked(["1-0:1.8.0"], quick_wire) == ["00010000"]
    assert asked(["1-0:1.8.0", "1-0:1.8.1"], slow_meter) == ["0001FF00"]


def test_seventeen_values_of_a_dlt645_meter_take_seven_requests() -> None:
    """U, I of three phases, P, PF with their totals, P's twin Q's total, frequency, energy."""
    made = load("generic/dlt645-3ph")
    wanted = [
        *(f"1-0:{c}.7.0" for c in (32, 52, 72, 31, 51, 71, 16, 36, 56, 76, 13, 33, 53, 73, 131, 14)),
        "1-0:1.8.0",
    ]
    requests = plan(made, wanted, Timing(2400, 11, 0.02, 0.05))
    assert [one.di for one in requests if isinstance(one, Dlt645Request)] == [
        "0201FF00",
        "0202FF00",
        "0203FF00",
        "02040000",
        "0206FF00",
        "02800002",
        "00010000",
    ]
