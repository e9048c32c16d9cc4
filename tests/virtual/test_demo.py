"""The demo's fleet file and its import list describe the same site."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from meter_batch_engine.model.point import PROTOCOLS
from meter_batch_engine.model.quantity import BY_KEY
from meter_batch_virtual.config import FleetConfig, parse_fleet
from meter_batch_virtual.demo import LINES, demo_fleet, line_count
from meter_batch_virtual.fleet import VirtualFleet


def site(meters: int, language: str = "en", ports: tuple[int, ...] = ()) -> tuple[FleetConfig, list[dict[str, str]]]:
    toml, points = demo_fleet(meters, ports, folder=Path("/tmp/demo"), language=language)
    rows = list(csv.DictReader(io.StringIO(points)))
    return parse_fleet(toml, Path("fleet.toml")), [row for row in rows if not row["formula"]]


@pytest.mark.parametrize("language", ["en", "zh-Hans"])
def test_each_site_has_a_virtual_point_of_what_a_feeder_measures_and_nobody_behind_it(language: str) -> None:
    rows = list(csv.DictReader(io.StringIO(demo_fleet(200, folder=Path("/tmp/demo"), language=language)[1])))
    virtual = [row for row in rows if row["formula"]]
    assert len(virtual) == line_count(200) // LINES
    for row in virtual:
        feeder, *behind = row["formula"].split("; ")
        assert {name.removeprefix("- ") for name in behind} == {one["name"] for one in rows if one["parent"] == feeder}
        assert not row["line"] and row["area"]


@pytest.mark.parametrize("language", ["en", "zh-Hans"])
@pytest.mark.parametrize("meters", [64, 60, 300])
def test_every_meter_is_a_point_on_the_same_line_with_the_same_address_template_and_serial(
    meters: int, language: str
) -> None:
    config, rows = site(meters, language)
    simulated = [
        (meter.name, line.name, meter.address, meter.template.id, meter.serial, meter.template.protocol)
        for line in config.lines
        for meter in line.meters
    ]
    assert simulated == [
        tuple(row[key] for key in ("name", "line", "address", "template", "serial", "protocol")) for row in rows
    ]
    assert len(rows) == meters
    assert {row["protocol"] for row in rows} <= set(PROTOCOLS)
    names = [row["name"] for row in rows]
    assert len(set(names)) == meters
    assert [row for row in rows if row["parent"] and row["parent"] not in names] == []
    assert all(row["area"] for row in rows)


def test_the_site_has_what_the_demo_must_show() -> None:
    config, rows = site(64)
    assert len(config.lines) == LINES
    wires = {(line.protocol, line.baud if line.is_wired else 0, line.listen.partition(":")[0]) for line in config.lines}
    assert wires == {
        ("modbus-tcp", 0, "tcp"),
        ("dlt645-2007", 2400, "tcp"),
        ("dlt645-2007", 9600, "tcp"),
        ("mixed", 9600, "tcp"),
        ("modbus-rtu", 9600, "pty"),
    }
    mixed = next(line for line in config.lines if line.protocol == "mixed")
    assert mixed.parity == "E" and len({meter.template.protocol for meter in mixed.meters}) == 2
    dead = [
        meter for line in config.lines for meter in line.meters if any(one.kind == "silent" for one in meter.faults)
    ]
    assert len(dead) == 2
    assert sum(bool(line.faults) for line in config.lines) == 1
    assert sum(row["ct"] != "1" for row in rows) >= 10
    assert [row["name"] for row in rows if not row["parent"]] == ["Main incomer"]
    assert len({meter.template.id for line in config.lines for meter in line.meters}) >= 10
    assert {meter.load for line in config.lines for meter in line.meters} >= {
        "office",
        "workshop",
        "chiller",
        "night",
        "pv",
    }


def test_most_meters_of_the_demo_can_give_their_year_at_once() -> None:
    """They are on lines without wire time and think for a millisecond at most; the others keep minutes."""
    config, rows = site(66)
    quick = [line for line in config.lines if not line.is_wired]
    assert [line.name for line in quick] == ["Substation", "Workshop"]
    meters = [meter for line in quick for meter in line.meters]
    assert (len(meters), len(rows)) == (38, 66)
    assert all(meter.memory and meter.turnround_s + meter.jitter_s <= 0.001 for meter in meters)
    assert all(meter.template.protocol == "modbus" for meter in meters)
    kept = {
        meter.load_period_min for line in config.lines for meter in line.meters if meter.template.protocol != "modbus"
    }
    assert kept == {1}


def test_ports_are_used_in_order_and_free_ones_are_found() -> None:
    config, _ = site(64, ports=(20001, 20002))
    assert [line.listen for line in config.lines[:2]] == ["tcp://127.0.0.1:20001", "tcp://127.0.0.1:20002"]
    assert len({line.listen for line in site(1000)[0].lines}) == line_count(1000)
    assert max(len(line.meters) for line in site(1000)[0].lines) <= 32


def test_feeders_measure_what_the_meters_behind_them_do() -> None:
    """By the week and within a tenth: loads differ by the hour, and days by chance."""
    config, rows = site(64)
    fleet = VirtualFleet(config)
    until = datetime(2026, 11, 23, tzinfo=UTC)
    net = BY_KEY["energy_net"].obis
    ratios = {row["name"]: int(row["ct"]) for row in rows}
    used = {
        meter.config.name: ratios[meter.config.name]
        * float(
            meter.physics.registers(until, [net])[net] - meter.physics.registers(until - timedelta(days=7), [net])[net]
        )
        for _, meter in fleet.meters
    }
    for parent in {row["parent"] for row in rows if row["parent"]}:
        behind = sum(used[row["name"]] for row in rows if row["parent"] == parent)
        assert 0.9 < used[parent] / behind < 1.25, parent


def test_feeders_are_calm_within_minutes() -> None:
    config, rows = site(66)
    parents = {row["parent"] for row in rows if row["parent"]}
    since = datetime(2026, 11, 25, 2, 0, tzinfo=UTC)
    feeders = [meter for _, meter in VirtualFleet(config).meters if meter.config.name in parents]
    assert len(feeders) == len(parents)
    for meter in feeders:
        powers = [sum(meter.physics.instant(since + timedelta(seconds=10 * step)).active) for step in range(90)]
        assert max(powers) - min(powers) < 0.11 * abs(sum(powers) / len(powers)), meter.config.name


def test_no_two_meters_of_the_demo_show_the_same_power() -> None:
    at = datetime(2026, 11, 25, 2, 7, tzinfo=UTC)
    powers = [sum(meter.physics.instant(at).active) for _, meter in VirtualFleet(site(66)[0]).meters]
    assert len(set(powers)) == len(powers)
