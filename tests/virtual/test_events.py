"""A virtual DL/T 645 meter remembers what happened to it, and says so as its edition does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from meter_batch_engine.model.quantity import BY_KEY
from meter_batch_engine.protocol.dlt645.item import decode_item
from meter_batch_engine.protocol.dlt645.load_record import LoadRequest
from meter_batch_engine.protocol.modbus.profile import HEADER_FILE, HEADER_WORDS, decode_header
from meter_batch_virtual.config import parse_fleet
from meter_batch_virtual.fault import parse_fault
from meter_batch_virtual.meter import Dlt645VirtualMeter, ModbusMeter, virtual_meter

from .test_episode import NOON, Clock

type Make = Callable[..., tuple[Dlt645VirtualMeter, Clock]]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A meter with faults, and the fleet's clock."""

    def made(*faults: dict[str, Any], template: str = "generic/dlt645-3ph", load: str = "workshop") -> Any:
        text = (
            '[[line]]\nname = "a"\nlisten = "tcp://127.0.0.1:0"\nprotocol = "mixed"\n[[line.meter]]\n'
            f'address = "000000000001"\ntemplate = "{template}"\nload = "{load}"\n'
        )
        fleet = parse_fleet(text, tmp_path / "fleet.toml")
        clock = Clock()
        meter = virtual_meter(fleet.lines[0].meters[0], clock, fleet.utc_offset, 9600)
        meter.faults.reload(tuple(parse_fault(one, "here") for one in faults), 0)
        return meter, clock

    return made


def counts(meter: Dlt645VirtualMeter, di: str) -> list[Any]:
    return [one.value for one in decode_item(di, meter.item(di) or b"", meter.variant)]


def times(data: bytes | None) -> list[datetime | None]:
    """Start and end of a record."""
    assert data is not None
    found = [data[at : at + 6][::-1].hex() for at in (0, 6)]
    return [None if not int(one) else datetime.strptime(one, "%y%m%d%H%M%S").replace(tzinfo=UTC) for one in found]


LOCAL = NOON + timedelta(hours=8)


def test_a_lost_phase_is_counted_while_it_lasts_and_recorded_with_its_times(make: Make) -> None:
    meter, clock = make({"kind": "phase_lost", "phase": 2, "from_s": 600, "to_s": 4200})
    assert counts(meter, "03040000") == [0] * 6
    clock.passed_s = 1800
    assert counts(meter, "03040000") == [0, 0, 1, 20, 0, 0]
    assert times(meter.item("03040201")) == [LOCAL + timedelta(seconds=600), None]
    assert counts(meter, "04000505") == [("phase_failure",)] and counts(meter, "04000504") == [()]
    clock.passed_s = 7200
    assert counts(meter, "03040000") == [0, 0, 1, 60, 0, 0]
    assert times(meter.item("03040201")) == [LOCAL + timedelta(seconds=600), LOCAL + timedelta(seconds=4200)]
    assert times(meter.item("03040202")) == [None, None], "there was one only"
    assert counts(meter, "04000505") == [()]
    record = meter.item("03040201") or b""
    since, until = (NOON + timedelta(seconds=one) for one in (600, 4200))
    obis = BY_KEY["energy_import"].obis
    gained = meter.values(until, [obis])[obis] - meter.values(since, [obis])[obis]  # type: ignore[operator]
    assert Decimal(int(record[12:16][::-1].hex())) / 100 == gained > 0


def test_what_began_and_ended_while_nobody_asked_is_remembered(make: Make) -> None:
    sag = {"kind": "voltage", "factor": 0.7}
    meter, clock = make(
        *({**sag, "from_s": at, "to_s": at + 120} for at in (600, 1800)),
        {"kind": "voltage", "factor": 1.2, "from_s": 3000, "to_s": 3060},
    )
    clock.passed_s = 7200
    assert counts(meter, "03020000") == [2, 4] * 3
    assert counts(meter, "03030000") == [1, 1] * 3
    assert times(meter.item("03020102"))[0] == LOCAL + timedelta(seconds=600), "1 is the newest"


@pytest.mark.parametrize("seen_in_between", [True, False])
def test_a_load_that_nobody_saw_is_counted_all_the_same(make: Make, seen_in_between: bool) -> None:
    meter, clock = make({"kind": "load", "factor": 3, "from_s": 600, "to_s": 4200})
    if seen_in_between:
        for at in range(0, 7200, 60):
            clock.passed_s = at
            meter.item("00010000")
    clock.passed_s = 7200
    alone, _ = make()
    obis = BY_KEY["energy_import"].obis
    at = NOON + timedelta(seconds=7200)
    more = meter.values(at, [obis])[obis] - alone.values(at, [obis])[obis]  # type: ignore[operator]
    begun, ended = (alone.values(NOON + timedelta(seconds=one), [obis])[obis] for one in (600, 4200))
    assert more == pytest.approx(2 * (ended - begun), abs=Decimal("0.05"))  # type: ignore[operator]


def test_a_reboot_is_a_power_down_and_a_reversed_transformer_reverse_power(make: Make) -> None:
    meter, clock = make({"kind": "reboot", "from_s": 100}, {"kind": "reversed", "from_s": 600, "to_s": 900})
    clock.passed_s = 3600
    assert counts(meter, "03110000") == [1]
    assert times(meter.item("03110001")) == [LOCAL + timedelta(seconds=one) for one in (100, 115)]
    assert counts(meter, "030E0000") == [1, 5] * 3


def test_an_event_is_labelled_by_the_meters_own_clock(make: Make) -> None:
    meter, clock = make({"kind": "clock_jump", "from_s": 60, "jump_s": -7200}, {"kind": "reboot", "from_s": 100})
    clock.passed_s = 200
    assert counts(meter, "04000102")[0] == (LOCAL + timedelta(seconds=200 - 7200)).time()
    assert times(meter.item("03110001"))[0] == LOCAL + timedelta(seconds=100 - 7200)


@pytest.mark.parametrize("jump_s", [3600, -3600])
def test_a_clock_that_leaps_labels_what_comes_after_it_otherwise(make: Make, jump_s: int) -> None:
    meter, clock = make({"kind": "clock_jump", "from_s": 600, "jump_s": jump_s})
    for at, wrong_s in ((0, 0), (599, 0), (600, jump_s), (7200, jump_s)):
        clock.passed_s = at
        assert meter.wall(clock.now()) == LOCAL.replace(tzinfo=None) + timedelta(seconds=at + wrong_s)
    kept = LOCAL.replace(tzinfo=None) + timedelta(hours=2, seconds=jump_s)
    assert [one.at for one in meter.load_records(LoadRequest(4, "newest", 1)) or ()] == [kept]


def test_a_modbus_meter_shows_the_leap_in_its_profile(tmp_path: Path) -> None:
    text = (
        '[[line]]\nname = "a"\nlisten = "tcp://127.0.0.1:0"\nprotocol = "modbus-tcp"\n[[line.meter]]\naddress = 1\n'
        'template = "eastron/sdm630"\nfaults = [{ kind = "clock_jump", from_s = 60, jump_s = 86400 }]\n'
    )
    fleet = parse_fleet(text, tmp_path / "fleet.toml")
    clock = Clock()
    meter = virtual_meter(fleet.lines[0].meters[0], clock, fleet.utc_offset, 9600)
    assert isinstance(meter, ModbusMeter)
    for at, wrong_s in ((0, 0), (60, 86_400), (90, 86_400)):
        clock.passed_s = at
        header = decode_header(meter.read_file(HEADER_FILE, 0, HEADER_WORDS))
        assert header.now == NOON + timedelta(seconds=at + wrong_s)


def test_the_edition_of_1997_tells_phase_failures(make: Make) -> None:
    meter, clock = make(
        {"kind": "phase_lost", "phase": 3, "from_s": 600, "to_s": 1200}, template="generic/dlt645-1997-3ph"
    )
    clock.passed_s = 3600
    assert counts(meter, "B310") == [1] and counts(meter, "B312") == [0] and counts(meter, "B323") == [10]
    assert counts(meter, "B333") == [f"{LOCAL + timedelta(seconds=600):%m%d%H%M}"]
    assert counts(meter, "B343") == [f"{LOCAL + timedelta(seconds=1200):%m%d%H%M}"]


def test_another_meter_knows_nothing_of_it(make: Make) -> None:
    meter, clock = make({"kind": "reboot", "from_s": 100}, {"kind": "swap", "from_s": 600})
    clock.passed_s = 300
    assert counts(meter, "03110000") == [1]
    clock.passed_s = 700
    assert counts(meter, "03110000") == [0]


def test_every_demand_has_its_maximum_of_this_and_of_past_months(make: Make) -> None:
    meter, _ = make(load="pv")
    for kind in range(1, 0x0B):
        values = [
            decode_item(f"01{kind:02X}00{number:02X}", meter.item(f"01{kind:02X}00{number:02X}") or b"", "2007")
            for number in range(13)
        ]
        assert all(one[0].value is not None for one in values)
        for number, (one,) in enumerate(values):
            if one.value:
                assert one.at is not None and one.at <= LOCAL.replace(tzinfo=None)
                months = LOCAL.year * 12 + LOCAL.month - number - (one.at.year * 12 + one.at.month)
                # A period that ends at midnight belongs to the month before.
                assert months == 0 or (months == -1 and (one.at.day, one.at.hour, one.at.minute) == (1, 0, 0)), kind
    assert decode_item("01020000", meter.item("01020000") or b"", "2007")[0].value, "it exports"
    phases = [counts(meter, f"01{kind}0000")[0] for kind in ("16", "2A", "3E")]
    assert sum(phases) == pytest.approx(counts(meter, "01020000")[0], abs=Decimal("0.0002"))


def test_the_log_of_settings_tells_the_time_before_and_after(make: Make) -> None:
    meter, clock = make()
    clock.passed_s = 60
    operator, wanted = "78563412", (LOCAL + timedelta(days=3)).replace(tzinfo=None)
    value = bytes.fromhex(f"{wanted:%y%m%d}{wanted.isoweekday() % 7:02d}")[::-1]
    assert meter.command(0x14, bytes.fromhex("01010004" + "04000000" + operator) + value) == b""
    who, rest = decode_item("03300401", meter.item("03300401") or b"", "2007")
    assert who.value == "12345678" and isinstance(rest.value, bytes)
    assert times(rest.value) == [LOCAL + timedelta(seconds=60), LOCAL + timedelta(days=3, seconds=60)]
    assert counts(meter, "03300000") == [1]
    (programmed, content) = decode_item("03300001", meter.item("03300001") or b"", "2007")
    assert programmed.value == (LOCAL + timedelta(seconds=60)).replace(tzinfo=None)
    assert isinstance(content.value, bytes) and content.value[:8] == bytes.fromhex(operator + "01010004")
