"""What meters' memories answer, and what is believed of it."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from meter_batch_engine.errors import AbsentRegister, DecodeError
from meter_batch_engine.fleet.clock import MeterClock, WallClock
from meter_batch_engine.fleet.memory import Asked, Kind, placed, sane
from meter_batch_engine.fleet.memory_dlt645 import Dlt645Memory, salvaged
from meter_batch_engine.line import LineSettings
from meter_batch_engine.line import Reply as LineReply
from meter_batch_engine.model.point import InstalledMeter, Multiplier, Point
from meter_batch_engine.protocol.dlt645.exchange import Data
from meter_batch_engine.protocol.dlt645.load_record import LoadRecord, encode_records
from meter_batch_engine.template import load

IMPORT, EXPORT, REACTIVE = "1-0:1.8.0", "1-0:2.8.0", "1-0:3.8.0"
T0 = datetime(2026, 11, 25, 4, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
TEMPLATE = load("generic/dlt645-3ph")
TWICE = ("2:00", "2:15", "2:30", "2:45")
LOAD = Kind("load_record", "load_record", 900)


def series(*values, obis=IMPORT):
    return [(T0 + n * QUARTER, {obis: Decimal(value)}) for n, value in enumerate(values) if value is not None]


def left(stored):
    return [str(registers[IMPORT]) for _, registers in stored if IMPORT in registers]


def right_clock():
    return MeterClock(WallClock())


def everything(_):
    return True


# --- what is believed


def test_records_out_of_order_are_put_in_order_and_doubles_dropped():
    stored = series("1.00", "2.00", "3.00")
    assert sane([stored[2], stored[0], stored[1], stored[0]], TEMPLATE, 900) == stored


@pytest.mark.parametrize(
    ("values", "believed"),
    [
        (("10.00", "11.00", "999999.00", "12.00", "13.00"), ["10.00", "11.00", "12.00", "13.00"]),
        (("10.00", "11.00", "3.00", "12.00", "13.00"), ["10.00", "11.00", "12.00", "13.00"]),
        (("10.00", "-1.00", "12.00"), ["10.00", "12.00"]),
        (("999998.00", "999999.50", "1.00", "2.00"), ["999998.00", "999999.50", "1.00", "2.00"]),
        (("80000.00", "80001.00", "0.00", "1.00"), ["80000.00", "80001.00", "0.00", "1.00"]),
        (("10.00", "2000000.00"), ["10.00"]),
        (("10.00", None, None, None, "80.00"), ["10.00", "80.00"]),
    ],
)
def test_values_that_cannot_be_are_dropped_and_registers_that_began_again_are_kept(values, believed):
    assert left(sane(series(*values), TEMPLATE, 900)) == believed


def test_a_bad_value_of_one_register_does_not_cost_the_others():
    stored = [
        (T0 + n * QUARTER, {IMPORT: Decimal(one), EXPORT: Decimal(two)})
        for n, (one, two) in enumerate([("1", "5"), ("2", "1"), ("3", "6"), ("4", "7")])
    ]
    assert [dict(one) for _, one in sane(stored, TEMPLATE, 900)] == [
        {IMPORT: 1, EXPORT: 5},
        {IMPORT: 2},
        {IMPORT: 3, EXPORT: 6},
        {IMPORT: 4, EXPORT: 7},
    ]


# --- where they belong


def test_a_record_of_a_right_clock_stands_at_its_boundary_without_skew():
    records = placed(series("1.00", "2.00"), LOAD, right_clock(), 900, None, everything)
    assert [(one.boundary, one.skew_s) for one in records] == [(T0, 0), (T0 + QUARTER, 0)]
    assert records[0].readings[0].at == T0


@pytest.mark.parametrize(("offset", "moved", "skew"), [(120, 0, -120), (-400, 0, 400), (500, -1, 400), (-3600, 4, 0)])
def test_a_wrong_clock_gives_records_their_true_boundary_and_the_rest_as_skew(offset, moved, skew):
    clock = right_clock()
    clock.note(T0, offset)
    (record,) = placed(series("1.00"), LOAD, clock, 900, None, everything)
    assert (record.boundary, record.skew_s) == (T0 + moved * QUARTER, skew)
    assert record.readings[0].at == T0 - timedelta(seconds=offset)


def test_records_between_boundaries_and_those_that_nobody_wants_are_left_out():
    stored = [(T0 + timedelta(minutes=5 * n), {IMPORT: Decimal(n)}) for n in range(7)]
    fine = Kind("profile 300", "profile", 300)
    records = placed(stored, fine, right_clock(), 900, None, lambda at: at > T0.timestamp())
    assert [one.boundary for one in records] == [T0 + QUARTER, T0 + 2 * QUARTER]


def test_records_are_multiplied_by_what_was_valid_at_their_time():
    point = Point(
        "p", "P", (InstalledMeter(T0, "x"),), (), (Multiplier(T0, Decimal(10)), Multiplier(T0 + QUARTER, Decimal(20)))
    )
    records = placed(series("1.00", "2.00", "3.00"), LOAD, right_clock(), 900, point, everything)
    assert [one.readings[0].value for one in records] == [Decimal("10.00"), Decimal("40.00"), Decimal("60.00")]


# --- DL/T 645


def memory(zone="Asia/Shanghai", template=TEMPLATE, baud=2400, dst=False):
    energies = frozenset(one.obis for one in template.registers if one.group == "energy")
    line = LineSettings(baud=baud, parity="E")
    made = Dlt645Memory(Asked("202500000001", template, line, energies), MeterClock(WallClock(ZoneInfo(zone), dst)))
    made.known = True
    return made


def said(talk, answers):
    """What a talk comes to when the meter answers this to its questions."""
    question = next(talk)
    try:
        while True:
            exchange = question()
            answer = answers(exchange)
            if isinstance(answer, Exception):
                question = talk.throw(answer)
            else:
                question = talk.send(LineReply(Data("202500000001", exchange.di, answer), T0, 0.05, 0.3))
    except StopIteration as end:
        return end.value


def clock_of(made, answers):
    said(made.clock_question().talk(), answers)
    return made.clock.newest


def bcd(text):
    return bytes.fromhex(text)[::-1]


def test_a_clock_is_read_in_one_question_or_in_two_where_the_meter_does_not_know_that():
    whole = {"0400010C": bcd("26112503") + bcd("120130")}
    assert clock_of(memory(), lambda exchange: whole[exchange.di]).offset_s == pytest.approx(90, abs=1)
    parts = {"04000101": bcd("26112503"), "04000102": bcd("120130")}
    found = clock_of(memory(), lambda exchange: parts.get(exchange.di, AbsentRegister("no")))
    assert found.offset_s == pytest.approx(90, abs=1)


def test_a_date_that_was_read_before_midnight_does_not_go_with_a_time_after_it():
    dates = iter(("26112502", "26112603"))

    def answers(exchange):
        if exchange.di == "0400010C":
            return AbsentRegister("no")
        return bcd("000005") if exchange.di == "04000102" else bcd(next(dates))

    assert clock_of(memory(), answers).offset_s == pytest.approx(12 * 3600 + 5, abs=1)


def test_an_answer_of_which_the_meter_forgot_the_rest_is_begun_again_and_its_records_not_given_up():
    made, asked = memory(), []
    data = encode_records([record(0, "1.00", 0, 0, 0)])

    def talk():
        question = next(talking)
        while True:
            exchange = question()
            asked.append(type(exchange).__name__)
            more = len(asked) in (1, 3)
            if len(asked) == 2:
                question = talking.throw(AbsentRegister("no"))
                continue
            part = data[:10] if more else data[10:]
            answer = Data("202500000001", exchange.di, part, more, 0 if more else 1)
            question = talking.send(LineReply(answer, T0, 0.05, 0.3))

    talking = load_question(made).talk()
    with pytest.raises(StopIteration) as end:
        talk()
    assert asked == ["ReadData", "ReadNext", "ReadData", "ReadNext"]
    assert end.value.value == [(T0, {IMPORT: 1, EXPORT: 0, REACTIVE: 0, "1-0:4.8.0": 0})]


def record(minutes, *values, bad=False):
    numbers = tuple(None if one is None else Decimal(one) for one in values)
    shown = (T0 + timedelta(hours=8, minutes=minutes)).replace(tzinfo=None)
    return LoadRecord(shown, {4: numbers}, bad)


def load_question(made, count=6):
    kind = made.kinds(int(T0.timestamp()) + 86_400, 900)[0]
    return made.question(kind, int(T0.timestamp()), count, (0, 0))


def test_load_records_give_the_four_registers_of_class_4():
    made = memory()
    data = encode_records([record(0, "1.00", "0.50", "-0.25", "0"), record(15, "2.00", "0.50", "0.75", "0")])
    stored = said(load_question(made).talk(), lambda exchange: data)
    assert stored[1] == (
        T0 + QUARTER,
        dict(zip((IMPORT, EXPORT, REACTIVE, "1-0:4.8.0"), map(Decimal, ("2.00", "0.50", "0.75", "0.00")), strict=True)),
    )


def test_records_that_the_meter_marks_as_bad_and_values_that_are_not_fitted_are_left_out():
    made = memory()
    data = encode_records([record(0, "1", "1", "1", "1", bad=True), record(15, "2.00", None, None, None)])
    assert said(load_question(made).talk(), lambda exchange: data) == [(T0 + QUARTER, {IMPORT: Decimal("2.00")})]


def test_one_damaged_record_does_not_spoil_the_others_of_an_answer():
    whole = [encode_records([record(15 * n, n, 0, 0, 0)]) for n in range(4)]
    damaged = bytearray(whole[1])
    damaged[12] ^= 0x40
    assert [int(one.value("energy_import")) for one in salvaged(whole[0] + damaged + whole[2] + whole[3])] == [0, 2, 3]
    with pytest.raises(DecodeError):
        salvaged(bytes(damaged))


def test_a_question_keeps_the_wire_for_one_frame_at_2400_baud_and_for_some_at_9600():
    for baud, most in ((1200, 6), (2400, 6), (9600, 30)):
        made = memory(baud=baud)
        kind = made.kinds(int(T0.timestamp()), 900)[0]
        assert made.most(kind) == pytest.approx(most, abs=6 if baud == 9600 else 0)


def test_a_freeze_stands_where_its_own_label_says_not_where_it_was_expected():
    made = memory()
    daily = next(one for one in made.kinds(int(T0.timestamp()), 900) if one.name == "daily")
    label, number = daily.numbers[4]
    energies = {"01": "0034120000", "02": "0000000000", "03": "0000000000", "04": "0000000000"}

    def answers(exchange):
        assert exchange.di.endswith(f"{number:02X}")
        if exchange.di[4:6] == "00":
            return bytes.fromhex("2611190000")[::-1]
        return bytes.fromhex(energies[exchange.di[4:6]][:8])[::-1]

    stored = said(made.question(daily, label, 1, (0, 0)).talk(), answers)
    assert stored == [
        (datetime(2026, 11, 18, 16, tzinfo=UTC), {IMPORT: Decimal("3412.00"), EXPORT: 0, REACTIVE: 0, "1-0:4.8.0": 0})
    ]


def test_a_column_that_the_meter_does_not_have_is_asked_for_once():
    made, asked = memory(), []

    def answers(exchange):
        asked.append(exchange.di)
        if exchange.di[4:6] == "00":
            return bytes.fromhex("2611250000")[::-1]
        return AbsentRegister("no") if exchange.di[4:6] in ("03", "04") else bytes(4)

    daily = next(one for one in made.kinds(int(T0.timestamp()), 900) if one.name == "daily")
    for label, _ in daily.numbers[:2]:
        assert said(made.question(daily, label, 1, (0, 0)).talk(), answers)
    assert asked == ["05060001", "05060101", "05060201", "05060301", "05060401", "05060002", "05060102", "05060202"]


def test_what_is_refused_by_number_is_not_asked_for_by_a_higher_one():
    made = memory()
    now = int(T0.timestamp())
    daily = next(one for one in made.kinds(now, 900) if one.name == "daily")
    question = made.question(daily, daily.numbers[30][0], 1, (5, 10))
    assert made.refused(question) == (0, 10)
    daily = next(one for one in made.kinds(now, 900) if one.name == "daily")
    assert len(daily.numbers) == 30


def test_billing_days_of_the_site_are_the_labels_of_settlements():
    made = memory()
    made._billing = (15, 8)
    monthly = next(one for one in made.kinds(int(T0.timestamp()), 900) if one.name == "monthly")
    assert [datetime.fromtimestamp(one, UTC) for one, _ in monthly.numbers[:2]] == [
        datetime(2026, 11, 15, 0, tzinfo=UTC),
        datetime(2026, 10, 15, 0, tzinfo=UTC),
    ]
    question = made.question(monthly, monthly.numbers[1][0], 1, (0, 0))
    answers = {"00010002": bytes.fromhex("00341200")}
    ((label, registers),) = said(question.talk(), lambda exchange: answers.get(exchange.di, bytes(4)))
    assert (label, registers[IMPORT]) == (datetime(2026, 10, 15, tzinfo=UTC), Decimal("1234.00"))


def test_the_edition_of_1997_keeps_two_billing_days():
    template = load("generic/dlt645-1997-3ph")
    made = memory(template=template)
    (monthly,) = made.kinds(int(T0.timestamp()), 900)
    asked = []

    def answers(exchange):
        asked.append(exchange.di)
        return bytes(4)

    for label, _ in monthly.numbers:
        said(made.question(monthly, label, 1, (0, 0)).talk(), answers)
    assert asked == ["9410", "9420", "9510", "9520", "9810", "9820", "9910", "9920"]


def test_in_the_hour_that_comes_twice_records_are_asked_for_from_before_it():
    made = memory("Europe/Berlin", dst=True, baud=9600)
    kind = Kind("load_record", "load_record", 900)
    second = datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
    asked = []

    def answers(exchange):
        asked.append(exchange.request)
        shown = [datetime.fromisoformat(f"2026-10-25 0{text}") for text in ("1:45", *2 * TWICE)]
        return encode_records([LoadRecord(at, {4: (Decimal(n), None, None, None)}) for n, at in enumerate(shown)])

    question = made.question(kind, int(second.timestamp()), 2, (0, 0))
    stored = said(question.talk(), answers)
    assert (second, {IMPORT: Decimal(7)}) in stored
    assert stored[1][0] == datetime(2026, 10, 25, 0, 0, tzinfo=UTC)
    assert stored[5][0] == datetime(2026, 10, 25, 1, 0, tzinfo=UTC)
