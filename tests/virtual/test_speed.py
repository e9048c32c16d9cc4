"""With a quick clock everything that goes by time goes by the fleet's: energies, demands, memory, events, clocks."""

from __future__ import annotations

import time
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
from meter_batch_virtual.fleet import VirtualFleet
from meter_batch_virtual.meter import Dlt645VirtualMeter, ModbusMeter

SPEED = 360_000.0
"""A hundred hours a second: a day passes in a quarter of one."""
FLEET = """
[[line]]
name = "hall"
listen = "tcp://127.0.0.1:0"
protocol = "mixed"
[[line.meter]]
address = "000012345678"
template = "generic/dlt645-3ph"
load = "workshop"
clock_drift_ppm = 100
faults = [{ kind = "phase_lost", phase = 1, from_s = 0.05, to_s = 0.15 }]
[[line.meter]]
address = 3
template = "eastron/sdm630"
"""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> VirtualFleet:
    """Half a second after its start: fifty hours."""
    running = VirtualFleet(parse_fleet(FLEET, Path(tmp_path_factory.mktemp("f")) / "fleet.toml"), speed=SPEED)
    time.sleep(max(0.0, 0.5 - running.clock.since_start_s()))
    running.clock.hold(True)
    return running


@pytest.fixture
def meter(fleet: VirtualFleet) -> Dlt645VirtualMeter:
    (found,) = (one for _, one in fleet.meters if isinstance(one, Dlt645VirtualMeter))
    return found


def said(meter: Dlt645VirtualMeter, di: str) -> list[Any]:
    return [one.value for one in decode_item(di, meter.item(di) or b"", "2007")]


def test_the_clock_runs_so_much_faster_and_drifts_by_it(fleet: VirtualFleet, meter: Dlt645VirtualMeter) -> None:
    passed = fleet.clock.now() - fleet.clock.started_at
    assert passed >= timedelta(hours=50)
    gained = meter.wall(fleet.clock.now()).replace(tzinfo=UTC) - (fleet.clock.now() + timedelta(hours=8))
    assert gained == pytest.approx(passed * 1e-4, abs=timedelta(milliseconds=1))


def test_what_is_kept_is_kept_at_the_times_of_that_clock(fleet: VirtualFleet, meter: Dlt645VirtualMeter) -> None:
    wall = meter.wall(fleet.clock.now())
    newest = wall.replace(minute=wall.minute // 15 * 15, second=0, microsecond=0)
    (record,) = meter.load_records(LoadRequest(4, "newest", 1)) or ()
    assert record.at == newest
    assert said(meter, "05060001") == [wall.replace(hour=0, minute=0, second=0, microsecond=0)]
    energies = [said(meter, f"050601{number:02X}")[0] for number in (3, 2, 1)] + said(meter, "00010000")
    assert energies == sorted(energies) and energies[0] < energies[2], "days passed while it ran"


def test_demands_are_of_the_periods_that_passed(fleet: VirtualFleet, meter: Dlt645VirtualMeter) -> None:
    now = fleet.clock.now()
    local = now.astimezone(UTC) + timedelta(hours=8)
    ended = local.replace(minute=local.minute // 15 * 15, second=0, microsecond=0) - timedelta(hours=8)
    mean = meter.physics.mean_kw(ended - timedelta(minutes=15), ended)
    # The meter counts no demand of a lost phase otherwise; that is long over.
    assert float(said(meter, "02800004")[0]) == pytest.approx(mean, abs=2e-4)
    (maximum,) = decode_item("01010000", meter.item("01010000") or b"", "2007")
    assert maximum.at is None or maximum.at <= meter.wall(now)


def test_an_event_lasts_as_long_by_the_meters_clock(fleet: VirtualFleet, meter: Dlt645VirtualMeter) -> None:
    count, minutes = said(meter, "03040000")[:2]
    assert (count, minutes) == (1, 600), "a tenth of a second is ten hours"
    record = meter.item("03040101") or b""
    began = datetime.strptime(record[:6][::-1].hex(), "%y%m%d%H%M%S").replace(tzinfo=UTC)
    expected = fleet.clock.started_at + timedelta(hours=5)
    assert abs(began - timedelta(hours=8) - expected) < timedelta(seconds=5)


def test_a_modbus_meter_keeps_its_profile_by_it_too(fleet: VirtualFleet) -> None:
    (meter,) = (one for _, one in fleet.meters if isinstance(one, ModbusMeter))
    header = decode_header(meter.read_file(HEADER_FILE, 0, HEADER_WORDS))
    assert abs(header.now - fleet.clock.now()) < timedelta(seconds=1)
    obis = BY_KEY["energy_import"].obis
    begun, now = (meter.values(at, [obis])[obis] for at in (fleet.clock.started_at, fleet.clock.now()))
    assert isinstance(begun, Decimal) and isinstance(now, Decimal) and now > begun
