"""Whatever a meter refuses, a few questions find out why, no register is lost, and the next of its model profits."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import lru_cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meter_batch_engine.errors import ConfigError
from meter_batch_engine.fleet import Lessons, PollMeter
from meter_batch_engine.fleet.lessons import Models, applied
from meter_batch_engine.fleet.meter import Meter
from meter_batch_engine.fleet.refusal import by_address, contiguous, find_causes
from meter_batch_engine.fleet.request import timing
from meter_batch_engine.fleet.turnround import Preamble
from meter_batch_engine.line import LineSettings
from meter_batch_engine.model.quantity import BY_KEY
from meter_batch_engine.template import load, plan
from meter_batch_engine.template.planner import cost

MODELS = ("eastron/sdm630", "acrel/adl3000", "carlo-gavazzi/em340", "chint/dtsu666", "abb/b23")
LINE = LineSettings()
B23 = "abb/b23"
FREQUENCY = BY_KEY["frequency"].obis


class Firmware:
    """What a meter refuses: registers that it lacks, some of the holes of its model, and requests that are too long."""

    def __init__(self, template, absent=(), holes=(), longest=125):
        self.longest = longest
        self.walls = set(holes)
        for one in template.registers:
            if one.obis in absent:
                self.walls |= {(one.locator.function, at) for at in range(one.locator.address, one.locator.end)}
        self.asked = []

    def answers(self, request):
        self.asked.append(request)
        return request.count <= self.longest and not any(
            (request.function, at) in self.walls for at in range(request.address, request.address + request.count)
        )


@lru_cache
def holes(template):
    """(function, first address) of each stretch between registers."""
    found = []
    for function in {one.locator.function for one in template.registers}:
        those = by_address([one for one in template.registers if one.locator.function == function])
        end = those[0].locator.end
        for one in those[1:]:
            if one.locator.address > end:
                found.append((function, end))
            end = max(end, one.locator.end)
    return found


def read(meter, firmware, request):
    """As the reader does it; the registers that were given."""
    given, left = set(), [request]
    while left:
        part = left.pop(0)
        if firmware.answers(part):
            meter.gave(part)
            given |= {one.obis for one in part.registers}
            continue
        template, done = meter.template, set()
        search = find_causes(
            part, meter.longest, lambda words, not_over, t=template, f=part.function: contiguous(t, f, words, not_over)
        )
        try:
            question = next(search)
            while True:
                if answered := firmware.answers(question):
                    meter.gave(question)
                    done |= {one.obis for one in question.registers}
                question = search.send(answered)
        except StopIteration as end:
            causes = end.value
        meter.learn(causes, None, 0.0)
        given |= done
        rest = {one.obis for one in part.registers} - done - causes.absent
        left = [*(meter.requests(rest) if rest else ()), *left]
    return given


def best_s(template, firmware, absent):
    """The fewest seconds for one who knows what the meter refuses."""
    known = Lessons(template.id, max_words=min(firmware.longest, 125), refused=frozenset(absent))
    cuts = {(f, at) for f, at in firmware.walls}
    fitting = applied(template, replace(known, cuts=frozenset(cuts)))
    cost_of = timing(LINE, template, 0.05)
    return sum(cost(one, cost_of) for one in plan(fitting, None, cost_of))


@pytest.mark.parametrize("model", MODELS)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_whatever_a_meter_refuses_the_best_plan_is_found_with_few_questions_and_no_register_is_lost(model, data):
    template = load(model)
    every = [one.obis for one in template.registers]
    absent = data.draw(st.sets(st.sampled_from(every), max_size=4))
    refused = data.draw(st.sets(st.sampled_from(holes(template)), max_size=4)) if holes(template) else set()
    longest = data.draw(st.sampled_from([125, 60, 40, 30, 21, 20, 16, 11, 10, 8, 5, 4]))
    firmware = Firmware(template, absent, refused, longest)
    meter = Meter(PollMeter("1", "1", template, "1", "modbus"), LINE, 1.0)
    plans = []
    for _ in range(12):
        given_now = set()
        for request in meter.requests(meter.wanted(("fast", "slow", "energy"))):
            given_now |= read(meter, firmware, request)
        # Each round gives all that the meter has.
        assert given_now == set(every) - absent
        plans.append(meter.requests(meter.wanted(("fast", "slow", "energy"))))
    assert meter.absent == absent
    # Nothing is refused any more, and nobody who knew all could ask in less time.
    assert all(firmware.answers(one) for one in plans[-1])
    cost_of = timing(LINE, template, 0.05)
    assert sum(cost(one, cost_of) for one in plans[-1]) <= best_s(template, firmware, absent) + 1e-9
    registers = len(every)
    needed = 12 * len(plans[-1]) + len(plans[-1])
    questions = len(firmware.asked) - needed
    causes = len(absent) + len(refused) + 3
    assert questions <= (causes + 1) * (2 * math.log2(registers) + 4), (questions, causes)


@given(
    st.integers(1, 250) | st.none(),
    st.frozensets(st.tuples(st.sampled_from([3, 4]), st.integers(0, 65535))),
    st.frozensets(st.sampled_from([FREQUENCY, BY_KEY["voltage_l1"].obis])),
    st.frozensets(st.sampled_from(["0201FF00", "9010"])),
    st.sampled_from([None, 0, 4]),
)
def test_lessons_come_back_from_json_as_they_were(max_words, cuts, refused, lone, preamble):
    lessons = Lessons("a/b", max_words, cuts, refused, lone, preamble, 0.0625, 0.0125)
    assert Lessons.from_dict(json.loads(json.dumps(lessons.as_dict()))) == lessons


@pytest.mark.parametrize(
    "made",
    [
        {},
        {"version": 2, "model": "a"},
        {"version": 1, "model": "a", "cuts": [[1]]},
        {"version": 1, "model": "a", "refused": ["x"]},
        {"version": 1, "model": "a", "max_words": "many"},
    ],
)
def test_anything_else_is_no_lessons_and_said_so(made):
    with pytest.raises(ConfigError):
        Lessons.from_dict(made)


LACKS = Lessons("m", refused=frozenset({FREQUENCY}), max_words=20)


def test_the_only_meter_of_a_model_speaks_for_it_and_of_several_two_must_agree():
    models = Models()
    models.vote("1", LACKS, tested=True)
    assert models.start("m").shape == LACKS.shape
    models = Models()
    models.vote("1", Lessons("m"), tested=True)
    models.vote("2", LACKS, tested=True)
    assert models.start("m").shape == Lessons("m").shape
    models.vote("3", replace(LACKS, max_words=30), tested=True)
    assert models.start("m") == replace(LACKS, max_words=30)


def test_what_was_known_holds_until_whoever_was_asked_for_everything_denies_it():
    models = Models({"m": LACKS})
    models.vote("1", LACKS, tested=False)
    assert models.start("m") == LACKS and models.news() == {}
    models.vote("1", Lessons("m"), tested=True)
    assert models.start("m").shape == Lessons("m").shape
    assert models.news() == {"m": models.start("m")} and models.news() == {}


def test_the_next_meter_of_a_model_is_read_well_from_its_first_request_on(polled, sim_meter):
    lacking = frozenset({"frequency", "current_l2"})
    site = polled([sim_meter("1", B23, absent=lacking, longest=30)], 60, fast_s=5)
    lessons = {model: one for report in site.reports for model, one in report.lessons.items()}
    assert lessons[B23].refused == {BY_KEY[key].obis for key in lacking}
    meter = sim_meter("7", B23, absent=lacking, longest=30)
    site = polled([meter], 20, fast_s=5, lessons=lessons)
    assert meter.refusals == [] and len(meter.asked) >= 3
    assert site.last("7").keys() == {one.quantity.key for one in meter.template.registers} - lacking


def test_a_second_meter_on_the_same_line_profits_too(polled, sim_meter):
    lacking = frozenset({"frequency"})
    meters = [sim_meter("1", B23, absent=lacking), sim_meter("2", B23, absent=lacking)]

    def both(site):
        site.poll.set_meters(site.poll_meters())

    polled(meters, 60, fast_s=5, events=[(30, both)], poll=lambda site: site.poll_meters()[:1])
    assert meters[0].refusals and not meters[1].refusals


def test_a_meter_whose_firmware_can_more_is_read_whole_again_within_a_day_and_the_lesson_is_dropped(polled, sim_meter):
    wrong = Lessons("eastron/sdm630", refused=frozenset({FREQUENCY}), max_words=10)
    meter = sim_meter("1", delay_s=lambda: 0.01)
    site = polled([meter], 90_500, fast_s=600, slow_s=3600, interval_s=3600, budget=0, lessons={wrong.model: wrong})
    assert site.last("1")["frequency"].value == pytest.approx(50.01)
    seen = [report.lessons[wrong.model] for report in site.reports if report.lessons]
    assert seen[-1].shape == Lessons(wrong.model).shape
    whole = polled([sim_meter("1")], 1250, fast_s=600).meters["1"].asked
    assert len([at for at in meter.asked if at > 89_990]) <= len(whole)


def test_a_register_that_was_refused_while_a_meter_started_is_missed_for_a_minute_only(polled, sim_meter):
    meter = sim_meter("1", absent=frozenset({"frequency"}))

    def grown_up(site):
        meter.absent, meter._image = frozenset(), None

    site = polled([meter, sim_meter("2")], 120, fast_s=5, events=[(10, grown_up)])
    first = next(
        (report.at - site.reports[0].at).total_seconds()
        for report in site.reports
        for one in report.readings.get("1", ())
        if one.obis == FREQUENCY
    )
    assert first < 75


def test_blocks_that_a_model_lacks_are_remembered(polled, sim_meter):
    meters = [sim_meter("1".zfill(12), "generic/dlt645-3ph", absent=frozenset({"voltage_l1"}))]
    site = polled(meters, 120, line=LineSettings(baud=2400, parity="E"))
    lessons = {model: one for report in site.reports for model, one in report.lessons.items()}
    assert lessons["generic/dlt645-3ph"].lone == {"0201FF00"}
    other = sim_meter("2".zfill(12), "generic/dlt645-3ph", absent=frozenset({"voltage_l1"}))
    site = polled([other], 60, line=LineSettings(baud=2400, parity="E"), lessons=lessons)
    assert not any(bytes.fromhex("33 32 34 35") in sent[1] for sent in site.wire.sent)
    assert site.last(other.address).keys() >= {"voltage_l2", "voltage_l3", "energy_import"}


# --- FE bytes

FE = LineSettings(baud=2400, parity="E", preamble=4)


def with_preamble(site):
    return [sent[1].startswith(b"\xfe") for sent in site.wire.sent]


def test_fe_bytes_are_dropped_once_a_meter_answers_without(polled, sim_meter):
    site = polled([sim_meter("1".zfill(12), "generic/dlt645-1ph")], 120, line=FE, fast_s=5, budget=0)
    asked = with_preamble(site)
    assert asked[:3] == [True] * 3 and not any(asked[3:])
    assert site.failures("1".zfill(12)) == []
    lessons = {model: one for report in site.reports for model, one in report.lessons.items()}
    assert lessons["generic/dlt645-1ph"].preamble == 0
    site = polled([sim_meter("2".zfill(12), "generic/dlt645-1ph")], 20, line=FE, lessons=lessons)
    # Its memory is asked without them too.
    assert not any(with_preamble(site))


def test_a_meter_that_needs_fe_bytes_loses_one_exchange_and_keeps_them(polled, sim_meter):
    meter = sim_meter("1".zfill(12), "generic/dlt645-1ph", needs_preamble=True)
    site = polled([meter], 600, line=FE, fast_s=5, budget=0)
    assert with_preamble(site).count(False) <= 2 and site.line.counters.timeouts <= 2
    assert site.failures(meter.address) == [] and site.last(meter.address)
    lessons = {model: one for report in site.reports for model, one in report.lessons.items()}
    assert lessons["generic/dlt645-1ph"].preamble == 4
    other = sim_meter("2".zfill(12), "generic/dlt645-1ph", needs_preamble=True)
    site = polled([other], 60, line=FE, lessons=lessons, budget=0)
    assert all(with_preamble(site)) and site.line.counters.timeouts == 0


def test_modbus_never_gets_fe_bytes(polled, sim_meter):
    assert not any(with_preamble(polled([sim_meter("1")], 10, line=LineSettings(preamble=4))))


@given(st.lists(st.booleans(), min_size=1, max_size=400), st.booleans())
def test_whatever_gets_lost_a_meter_that_needs_fe_bytes_goes_without_only_a_few_times(lost, needs):
    preamble, misses = Preamble(4), 0
    for number, gone in enumerate(lost):
        sent = preamble.bytes
        if gone or (needs and not sent):
            misses += not gone
            preamble.missed(sent, float(number))
        else:
            preamble.answered(sent, float(number))
    # Nothing that is lost by chance makes it try more often.
    assert misses <= 2


# --- turn-round


def test_a_model_that_is_known_to_be_quick_makes_dead_meters_cheap_from_the_first_question_on(polled, sim_meter):
    quick = Lessons("eastron/sdm630", turnround_s=0.03, jitter_s=0.005)

    def first_cycle(**settings):
        meters = [sim_meter(str(unit), alive=unit > 5) for unit in range(1, 11)]
        return polled(meters, 30, first_turnround_s=1.0, **settings).times("10")[0]

    assert first_cycle(lessons={quick.model: quick}) < 0.6 * first_cycle()


def test_a_meter_slower_than_its_model_is_not_lost(polled, sim_meter):
    quick = Lessons("eastron/sdm630", turnround_s=0.03, jitter_s=0.005)
    site = polled([sim_meter("1", delay_s=lambda: 0.8)], 60, fast_s=5, lessons={quick.model: quick})
    assert len(site.times("1")) >= 9
