"""What a virtual meter kept for an instant is what it measured when its clock showed that instant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meter_batch_engine.model.quantity import BY_KEY
from meter_batch_engine.protocol.dlt645.item import decode_item
from meter_batch_engine.protocol.dlt645.load_record import LoadRequest
from meter_batch_engine.protocol.modbus.profile import (
    FIRST_DAY,
    HEADER_FILE,
    HEADER_WORDS,
    MOST,
    NOT_RECORDED,
    Profile,
    ProfileHeader,
    decode_header,
)
from meter_batch_engine.protocol.modbus.server import ModbusException
from meter_batch_engine.template import available, load, shown
from meter_batch_virtual.clock import FleetClock, MeterClock
from meter_batch_virtual.config import parse_fleet
from meter_batch_virtual.energies import ENERGIES
from meter_batch_virtual.load import Load
from meter_batch_virtual.meter import Dlt645VirtualMeter, ModbusMeter, VirtualMeter, virtual_meter
from meter_batch_virtual.physics import Physics
from meter_batch_virtual.profile import _digits

NOW = datetime(2026, 11, 26, 3, 7, 11, tzinfo=UTC)
UTC_OFFSET = timedelta(hours=8)
IMPORT = BY_KEY["energy_import"].obis
MODBUS = [id for id in available() if load(id).protocol == "modbus" and IMPORT in load(id).by_obis]


class Stopped(FleetClock):
    """A fleet's clock that shows what a test says."""

    def __init__(self) -> None:
        super().__init__(hold=True)
        self.started_at = NOW
        self.passed_s = 0.0

    def now(self) -> datetime:
        return self.at_s(self.passed_s)

    def since_start_s(self) -> float:
        return self.passed_s


def meter_of(template: str, clock: FleetClock, **keys: object) -> VirtualMeter:
    modbus = load(template).protocol == "modbus"
    address = '"000012345678"' if not modbus else "7"
    table = "".join(
        f"{key} = {str(value).lower() if isinstance(value, bool) else value}\n" for key, value in keys.items()
    )
    (line,) = parse_fleet(
        '[[line]]\nname = "a"\nlisten = "tcp://127.0.0.1:0"\nprotocol = "mixed"\n'
        f'[[line.meter]]\naddress = {address}\ntemplate = "{template}"\n{table}',
        Path("fleet.toml"),
    ).lines
    return virtual_meter(line.meters[0], clock, UTC_OFFSET, 9600)


def modbus_meter(clock: FleetClock, template: str = "eastron/sdm630", **keys: object) -> ModbusMeter:
    meter = meter_of(template, clock, **keys)
    assert isinstance(meter, ModbusMeter)
    return meter


def dlt645_meter(clock: FleetClock, template: str = "generic/dlt645-3ph", **keys: object) -> Dlt645VirtualMeter:
    meter = meter_of(template, clock, **keys)
    assert isinstance(meter, Dlt645VirtualMeter)
    return meter


def header(meter: ModbusMeter) -> ProfileHeader:
    return decode_header(meter.read_file(HEADER_FILE, 0, HEADER_WORDS))


def records(
    meter: ModbusMeter, profile: Profile, label: datetime, count: int = 1
) -> list[tuple[datetime, dict[str, Decimal]]]:
    file, record = profile.place(label)
    return profile.decode(meter.read_file(file, record, count * profile.words_per_record), label)


def frozen(meter: Dlt645VirtualMeter, di: str) -> Decimal | None:
    data = meter.item(di)
    value = None if data is None else decode_item(di, data, "2007")[0].value
    assert value is None or isinstance(value, Decimal)
    return value


# --- the clock


@given(
    offset_s=st.floats(-500_000, 500_000),
    drift_ppm=st.floats(-1000, 1000),
    set_by=st.lists(st.tuples(st.integers(1, 50_000), st.integers(-600, 600)), max_size=4),
    passed_s=st.integers(-40_000_000, 300_000),
)
def test_a_clock_knows_when_it_showed_what(
    offset_s: float, drift_ppm: float, set_by: list[tuple[int, int]], passed_s: int
) -> None:
    clock = MeterClock(offset_s, drift_ppm, NOW)
    at = NOW
    for after_s, by_s in set_by:
        at += timedelta(seconds=after_s)
        clock.set(at, clock.shown(at) + timedelta(seconds=by_s))
    asked = NOW + timedelta(seconds=passed_s)
    found = clock.instant(clock.shown(asked))
    # A label that was shown twice belongs to the later time.
    assert found is not None and found >= asked - timedelta(milliseconds=1)
    assert abs(clock.shown(found) - clock.shown(asked)) < timedelta(milliseconds=1)


def test_labels_that_a_clock_jumped_over_never_were_and_repeated_ones_are_the_later() -> None:
    clock = MeterClock(-300, 0, NOW)
    later = NOW + timedelta(hours=1)
    clock.set(later, later)  # five minutes forward
    assert clock.instant(later - timedelta(minutes=2)) is None
    assert clock.instant(later - timedelta(minutes=6)) == later - timedelta(minutes=1)
    again = later + timedelta(hours=1)
    clock.set(again, again - timedelta(minutes=10))
    twice = again - timedelta(minutes=4)
    assert clock.instant(twice) == twice + timedelta(minutes=10)


# --- bulk


@given(
    seed=st.integers(0, 2**32),
    shape=st.sampled_from(["office", "workshop", "chiller", "night", "pv", "constant"]),
    phases=st.sampled_from([1, 3]),
    tariffs=st.integers(1, 4),
    resolution=st.sampled_from([Decimal("0.01"), Decimal("0.001"), Decimal("0.1")]),
    start_s=st.integers(-3 * 86_400, 700 * 86_400),
    step_s=st.sampled_from([60, 900, 901, 3600, 40_000]),
    shift_us=st.integers(0, 10**6),
)
def test_many_at_once_are_the_same_to_the_digit_as_one_by_one(
    seed: int, shape: str, phases: int, tariffs: int, resolution: Decimal, start_s: int, step_s: int, shift_us: int
) -> None:
    def physics() -> Physics:
        return Physics(seed, shape, phases, tariffs=tariffs, resolution_kwh=resolution)

    registers = [ENERGIES[f"1-0:{c}.8.0"] for c in (1, 2, 3, 4, 15, 16)]
    first = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(seconds=start_s, microseconds=shift_us)
    instants = [first + number * timedelta(seconds=step_s) for number in range(40)]
    one_by_one = physics()
    assert physics().totals(registers, instants) == [
        tuple(int(one_by_one.energy(register, at) / resolution) for register in registers) for at in instants
    ]


def test_a_load_that_rests_on_weekends_is_counted_in_bulk_too() -> None:
    rest = {"weekday": [1.0] * 24, "weekend": [0.0] * 24, "tan_phi": 0.5, "noise": 0.0}
    physics = Physics(7)
    physics.load = Load("rest", rest | {"day_spread": 0.1, "season": 0.1, "ripple": 0.1, "ripple_periods": 3})
    saturday = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
    ((count,),) = physics.totals([ENERGIES[IMPORT]], [saturday])
    assert count * physics.resolution_kwh == physics.energy(ENERGIES[IMPORT], saturday) > 0


@pytest.mark.parametrize("template", MODBUS)
@given(counts=st.lists(st.one_of(st.integers(0, 10**7), st.integers(0, 10**10)), min_size=1, max_size=10))
def test_a_profile_shows_an_energy_as_the_register_of_the_model_does(template: str, counts: list[int]) -> None:
    from meter_batch_virtual.meter import resolution_kwh

    model = load(template)
    resolution = resolution_kwh(model)
    for key in ("energy_import", "reactive_energy_export", "energy_gross"):
        obis = BY_KEY[key].obis
        if obis in model.by_obis:
            exponent, digits = _digits(model, obis, resolution)
            for count in counts:
                register = shown(model, {obis: count * resolution}, [obis])[obis]
                expected = Decimal(str(register)).scaleb(-exponent)
                assert digits(count) == (expected if expected <= MOST else NOT_RECORDED), (key, count)


# --- Modbus


def test_the_header_tells_the_clock_and_two_profiles_of_the_energies_that_the_model_has() -> None:
    meter = modbus_meter(Stopped(), clock_offset_s=90)
    found = header(meter)
    assert found.now == NOW.replace(microsecond=0) + timedelta(seconds=90)
    assert [(one.period_s, one.days) for one in found.profiles] == [(900, 366), (60, 3)]
    assert [column.obis for column in found.profiles[0].columns] == [f"1-0:{c}.8.0" for c in (1, 2, 3, 4)]
    assert [column.obis for column in header(modbus_meter(Stopped(), "janitza/b23")).profiles[0].columns] == [
        "1-0:1.8.0",
        "1-0:2.8.0",
    ]


@pytest.mark.parametrize("template", MODBUS)
@settings(max_examples=30)
@given(
    offset_s=st.integers(-90_000, 90_000),
    drift_ppm=st.sampled_from([0.0, 0.0, 35.5, -120.0]),
    back=st.integers(0, 366 * 96 - 20),
    minutes=st.booleans(),
    count=st.integers(1, 15),
    shape=st.sampled_from(["pv", "office"]),
)
def test_a_profile_says_what_the_meter_measured_when_its_clock_showed_that_label(
    template: str, offset_s: int, drift_ppm: float, back: int, minutes: bool, count: int, shape: str
) -> None:
    meter = modbus_meter(Stopped(), template, clock_offset_s=offset_s, clock_drift_ppm=drift_ppm, load=f'"{shape}"')
    found = header(meter)
    profile = found.profiles[minutes]
    period = timedelta(seconds=profile.period_s)
    back %= profile.days * profile.records_per_day - 20
    newest = FIRST_DAY + (found.now - FIRST_DAY) // period * period
    label = newest - max(back, count - 1) * period
    count = min(count, profile.records_per_day - profile.place(label)[1])
    read = records(meter, profile, label, min(count, 121 // profile.words_per_record))
    assert read[0][0] == label
    # The clock's own equation, solved here once more: label = at + offset + (at − start) · drift.
    rate = drift_ppm / 1e6
    for at_label, registers in read:
        since_s = ((at_label - NOW).total_seconds() - offset_s) / (1 + rate)
        at = NOW + timedelta(seconds=since_s)
        within = [meter.physics.registers(at + timedelta(microseconds=us), registers) for us in (-200, 0, 200)]
        seen = [shown(meter.template, one) for one in within]
        for obis, value in registers.items():
            allowed = {Decimal(str(one[obis])) for one in (seen if rate else seen[1:2])}
            assert value in allowed, (at_label, obis)


def test_what_is_not_yet_and_what_is_no_longer_kept_is_not_there() -> None:
    meter = modbus_meter(Stopped())
    year, minute = header(meter).profiles
    newest = NOW.replace(minute=0, second=0, microsecond=0)
    assert [at for at, _ in records(meter, year, newest - timedelta(minutes=15), 4)] == [
        newest - timedelta(minutes=15),
        newest,
    ]
    assert records(meter, year, newest + timedelta(minutes=15), 4) == []
    assert len(records(meter, minute, newest + timedelta(minutes=7))) == 1
    assert records(meter, minute, newest + timedelta(minutes=8)) == []
    midnight = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
    for profile in (year, minute):
        assert records(meter, profile, midnight - timedelta(days=profile.days))
        for gone in (midnight - timedelta(days=profile.days + 1), midnight + timedelta(days=1)):
            with pytest.raises(ModbusException) as refused:
                records(meter, profile, gone)
            assert refused.value.code == 2
    for file, record in ((year.first_file + 9000, 96), (minute.place(midnight)[0], 1435), (2, 0), (HEADER_FILE, 1)):
        with pytest.raises(ModbusException) as refused:
            meter.read_file(file, record, 80)
        assert refused.value.code == 2


def test_every_day_and_both_profiles_have_their_own_values_however_they_are_asked_for() -> None:
    meter = modbus_meter(Stopped())
    year, minute = header(meter).profiles
    midnight = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
    for days, profile in ((1, year), (2, year), (2, minute), (1, minute), (1, year), (40, year), (2, year)):
        label = midnight - timedelta(days=days)
        ((_, registers),) = records(meter, profile, label)
        assert registers == shown(meter.template, meter.physics.registers(label, registers))


def test_records_come_with_time_and_do_not_change() -> None:
    clock = Stopped()
    meter = modbus_meter(clock)
    profile = header(meter).profiles[1]
    label = NOW.replace(second=0) + timedelta(minutes=1)
    assert records(meter, profile, label) == []
    clock.passed_s = 49
    (first,) = records(meter, profile, label)
    clock.passed_s = 5000
    assert records(meter, profile, label) == [first]


@pytest.mark.parametrize("where", ["memory = false\n", ""])
def test_a_meter_without_memory_does_not_know_files(where: str) -> None:
    meter = modbus_meter(Stopped(), memory=False) if where else modbus_meter(Stopped(), "acrel/acr10r")
    with pytest.raises(ModbusException) as refused:
        meter.read_file(HEADER_FILE, 0, HEADER_WORDS)
    assert refused.value.code == 1


def test_a_meter_after_a_swap_has_only_its_own_memory_since_it_came() -> None:
    clock = Stopped()
    faults = '[{ kind = "swap", from_s = 3600 }]'
    meter, other = modbus_meter(clock, faults=faults), dlt645_meter(clock, faults=faults, load_period_min=1)
    before = NOW.replace(minute=0, second=0)
    profile = header(meter).profiles[1]
    old = records(meter, profile, before)
    assert old and frozen(other, "05060101") is not None
    clock.passed_s = 7200
    came = (NOW + timedelta(hours=1)).replace(second=0)
    assert records(meter, profile, before) == []
    assert records(meter, profile, came) == []
    ((label, registers),) = records(meter, profile, came + timedelta(minutes=1))
    assert registers[IMPORT] == shown(meter.template, meter.physics.registers(label, [IMPORT]))[IMPORT]
    assert frozen(other, "05060101") is None, "no midnight has passed since"
    assert frozen(other, "05040102") is None and frozen(other, "05040101") is not None
    assert frozen(other, "00010001") is None
    found = other.load_records(LoadRequest(4, "earliest", 1))
    assert found is not None and found[0].at == (came + timedelta(minutes=1) + UTC_OFFSET).replace(tzinfo=None)


def test_counters_read_zero_while_a_meter_starts_again_but_its_memory_stays() -> None:
    clock = Stopped()
    meter = modbus_meter(clock, faults='[{ kind = "reboot" }]')
    assert list(meter.read(4, 72, 2)) == [0, 0]
    ((_, registers),) = records(meter, header(meter).profiles[0], NOW.replace(minute=0, second=0))
    assert registers[IMPORT] > 0
    other = dlt645_meter(clock, faults='[{ kind = "reboot" }]')
    assert frozen(other, "00010000") == 0
    for di in ("00010001", "05060101", "05040101"):
        value = frozen(other, di)
        assert value is not None and value > 0


# --- DL/T 645


def labels(meter: Dlt645VirtualMeter, request: LoadRequest) -> Iterator[tuple[datetime, Decimal]]:
    for record in meter.load_records(request) or ():
        value = record.value("energy_import")
        assert value is not None
        yield record.at.replace(tzinfo=UTC) - UTC_OFFSET, value


@given(
    offset_s=st.integers(-90_000, 90_000),
    period=st.sampled_from([1, 5, 15, 60]),
    days=st.integers(0, 24),
    count=st.integers(1, 40),
)
def test_load_records_freezes_and_billing_days_are_labelled_by_the_meters_clock(
    offset_s: int, period: int, days: int, count: int
) -> None:
    meter = dlt645_meter(Stopped(), clock_offset_s=offset_s, load_period_min=period)
    shift = timedelta(seconds=offset_s)
    wall = meter.wall(NOW)
    at = wall.replace(minute=0, second=0) - timedelta(days=days, hours=3)
    found = list(labels(meter, LoadRequest(4, "at", count, at)))
    assert len(found) == min(count, (wall - at) // timedelta(minutes=period) + 1)
    for number, (label, value) in enumerate(found):
        assert label + UTC_OFFSET == at.replace(tzinfo=UTC) + number * timedelta(minutes=period)
        assert value == meter.physics.energy(ENERGIES[IMPORT], label - shift)
    between = next(labels(meter, LoadRequest(4, "at", 1, at - timedelta(seconds=30))))
    assert between[0] + UTC_OFFSET == at.replace(tzinfo=UTC), "never one from before"
    (newest,) = labels(meter, LoadRequest(4, "newest", 1))
    assert timedelta() <= wall - (newest[0] + UTC_OFFSET).replace(tzinfo=None) < timedelta(minutes=period)
    midnight = wall.replace(hour=0, minute=0, second=0).replace(tzinfo=UTC) - timedelta(days=days)
    hour = wall.replace(minute=0, second=0).replace(tzinfo=UTC) - timedelta(hours=days)
    month = wall.replace(day=1, hour=0, minute=0, second=0).replace(tzinfo=UTC)
    for di, label in ((f"050601{days + 1:02X}", midnight), (f"050401{days + 1:02X}", hour), ("00010001", month)):
        assert frozen(meter, di) == meter.physics.energy(ENERGIES[IMPORT], label - UTC_OFFSET - shift), di


def test_the_time_of_a_maximum_demand_is_that_of_the_meters_clock() -> None:
    meter = dlt645_meter(Stopped(), clock_offset_s=-600)
    data = meter.item("01010000")
    assert data is not None
    (found,) = decode_item("01010000", data, "2007")
    month = NOW.replace(day=1, hour=0, minute=10, second=0) - UTC_OFFSET
    demand, ended_at = meter.physics.maximum_demand(month, NOW)
    assert ended_at is not None and found.value == demand
    assert found.at == (ended_at + UTC_OFFSET - timedelta(minutes=10)).replace(tzinfo=None)


@pytest.mark.parametrize("period", [1, 15, 60])
def test_a_meter_tells_its_period_and_how_far_back_it_goes(period: int) -> None:
    meter = dlt645_meter(Stopped(), load_period_min=period)
    for word in range(2, 8):
        assert frozen(meter, f"04000A0{word}") == period
    ((oldest, _),) = labels(meter, LoadRequest(4, "earliest", 1))
    kept = timedelta(minutes=period) * 366 * 96
    assert timedelta() <= NOW - min(kept, timedelta(days=366)) - oldest < timedelta(minutes=period)


def test_after_a_broadcast_old_records_keep_their_labels_and_new_ones_are_right() -> None:
    clock = Stopped()
    meter = dlt645_meter(clock, load_period_min=1, clock_offset_s=-240)
    before = list(labels(meter, LoadRequest(4, "newest", 10)))
    assert before[-1][0] == NOW.replace(second=0) - timedelta(minutes=4)
    meter.set_clock((NOW + UTC_OFFSET).replace(tzinfo=None))
    clock.passed_s = 180
    after = list(labels(meter, LoadRequest(4, "newest", 6)))
    true = [NOW.replace(second=0) + timedelta(minutes=minute) for minute in (-6, -5, -4, 1, 2, 3)]
    assert [label for label, _ in after] == true, "four labels were never shown"
    assert after[:3] == before[-3:]
    for label, value in after[3:]:
        assert value == meter.physics.energy(ENERGIES[IMPORT], label)
    # Back by two minutes on the next day: what was written over stands for the later time.
    clock.passed_s += 86_400
    now = clock.now()
    meter.set_clock((now + UTC_OFFSET - timedelta(minutes=2)).replace(tzinfo=None))
    clock.passed_s += 240
    label = now.replace(second=0)
    ((found, value),) = labels(meter, LoadRequest(4, "at", 1, (label + UTC_OFFSET).replace(tzinfo=None)))
    assert (found, value) == (label, meter.physics.energy(ENERGIES[IMPORT], label + timedelta(minutes=2)))


def test_a_dlt645_meter_without_memory_measures_and_keeps_nothing() -> None:
    meter = dlt645_meter(Stopped(), memory=False)
    assert frozen(meter, "00010000")
    assert [frozen(meter, di) for di in ("00010001", "05060101", "05040101")] == [None, None, None]
    assert meter.load_records(LoadRequest(4, "newest", 1)) is None


# --- speed


def read_days(meter: ModbusMeter, profile: Profile, days: Sequence[int]) -> int:
    count = 0
    step = 121 // profile.words_per_record
    for day in days:
        file, _ = profile.place(NOW.replace(hour=0, minute=0, second=0) - timedelta(days=day))
        for record in range(0, profile.records_per_day, step):
            own = min(step, profile.records_per_day - record)
            count += len(meter.read_file(file, record, own * profile.words_per_record)) // profile.words_per_record
    return count


def test_a_year_of_a_profile_is_quick_to_reckon() -> None:
    """The promise is 60 µs a record on the project's machine; ten times that would be another algorithm."""
    import time

    meter = modbus_meter(Stopped(), load='"pv"')
    (profile, _) = header(meter).profiles
    begun = time.process_time()
    count = read_days(meter, profile, range(1, 60))
    assert (time.process_time() - begun) / count < 600e-6
