"""The demo as its user sees it: live, equal to the truth to the last digit shown, and gone when it is stopped."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from playwright.sync_api import Page

from meter_batch_virtual.config import load_fleet
from meter_batch_virtual.fleet import VirtualFleet

from ..conftest import ROOT
from .conftest import Demo, free_port, start_demo

ENTITY = 0.0005
"""An entity rounds to three decimals or fewer, and a phone's table once more."""
NUMBER = re.compile(r"-?[\d,]*\d(?:\.\d+)?")
OBIS = {
    # a single-phase meter keeps the first code of each
    "voltage": ("1-0:12.7.0", "1-0:32.7.0", "1-0:52.7.0", "1-0:72.7.0"),
    "current": ("1-0:11.7.0", "1-0:31.7.0", "1-0:51.7.0", "1-0:71.7.0"),
    "active_power": ("1-0:16.7.0",),
    "reactive_power": ("1-0:131.7.0",),
    "energy_import": ("1-0:1.8.0",),
}
SCALED = {"current", "active_power", "reactive_power", "energy_import"}


def true_values(demo: Demo, name: str, quantity: str) -> list[float]:
    """What the screen must show: the meter's registers, at the primary side of its current transformer."""
    truth = demo.truth()[name]
    assert float(demo.points()[name]["ct"]) == truth["ct"]
    ratio = truth["ct"] if quantity in SCALED else 1
    return [float(truth["registers"][obis]) * ratio for obis in OBIS[quantity] if obis in truth["registers"]]


def shown(text: str) -> list[tuple[float, float]]:
    """The numbers of a cell, each with half a unit of its last digit."""
    found = []
    for match in NUMBER.finditer(text):
        digits = len(match[0].partition(".")[2])
        found.append((float(match[0].replace(",", "")), 0.5 * 10**-digits))
    return found


def agree(text: str, truth: list[float]) -> bool:
    """True where a cell shows exactly the true values, rounded to the digits it has."""
    numbers = shown(text)
    return len(numbers) == len(truth) and all(
        abs(number - value) <= half * 1.0001 + ENTITY for (number, half), value in zip(numbers, truth, strict=True)
    )


def rows(page: Page) -> dict[str, list[str]]:
    """The tables on screen: cells by meter name."""
    page.locator("hui-markdown-card table:visible td").first.wait_for(timeout=60_000)
    page.wait_for_timeout(2_000)
    found: dict[str, list[str]] = {}
    for card in page.locator("hui-markdown-card table:visible").all():
        for line in card.locator("tbody tr").all():
            cells = [cell.inner_text() for cell in line.locator("td").all()]
            found[cells[0]] = cells[1:]
    return found


def dead(demo: Demo) -> set[str]:
    """The meters that the fleet file says are silent."""
    fleet = (demo.folder / "fleet.toml").read_text(encoding="utf-8")
    return {
        block.partition('name = "')[2].partition('"')[0]
        for block in fleet.split("[[line.meter]]")
        if '"silent"' in block
    }


def test_at_least_sixty_meters_on_six_lines_are_live(demo: Demo) -> None:
    states = demo.ask("/api/states")
    live = [
        s for s in states if s["entity_id"].startswith("sensor.") and s["attributes"].get("device_class") == "voltage"
    ]
    assert len(demo.truth()) >= 60
    assert len(demo.ports()) - 1 + 1 >= 6
    assert len(dead(demo)) == 2
    assert sum(1 for state in live if state["state"] not in ("unknown", "unavailable")) >= 60


@pytest.mark.parametrize("width", [1440, 390])
def test_u_i_p_and_q_on_screen_equal_the_truth_file(demo: Demo, open_page: Callable[..., Page], width: int) -> None:
    page = open_page("/meter-batch/table", width)
    table = rows(page)
    assert set(table) == set(demo.truth())
    wrong = []
    for name, cells in table.items():
        if name in dead(demo):
            assert not shown(" ".join(cells)), f"{name} is dead and shows {cells}"
            continue
        if width == 1440:
            parts = {
                "voltage": " ".join(cells[0:3]),
                "current": " ".join(cells[3:6]),
                "active_power": cells[6],
                "reactive_power": cells[7],
                "energy_import": cells[9],
            }
        else:
            parts = dict(zip(("voltage", "current", "active_power", "reactive_power"), cells, strict=True))
        wrong += [
            (name, quantity, text, truth)
            for quantity, text in parts.items()
            if not agree(text, truth := true_values(demo, name, quantity))
        ]
    assert wrong == []


def test_the_table_fits_a_phone_without_scrolling_sideways(demo: Demo, open_page: Callable[..., Page]) -> None:
    page = open_page("/meter-batch/table", 390)
    rows(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_every_area_has_curves_and_hourly_bars(demo: Demo, open_page: Callable[..., Page]) -> None:
    page = open_page("/meter-batch/curves", 1440)
    page.locator("hui-statistics-graph-card").first.wait_for(timeout=60_000)
    areas = {row["area"] for row in demo.points().values()}
    assert page.locator("hui-history-graph-card").count() == len(areas)
    assert page.locator("hui-statistics-graph-card").count() == len(areas)


def test_the_overview_names_the_dead_meters(demo: Demo, open_page: Callable[..., Page]) -> None:
    page = open_page("/meter-batch/overview", 1440)
    page.locator("hui-markdown-card li").first.wait_for(timeout=60_000)
    text = " ".join(page.locator("hui-markdown-card li").all_inner_texts())
    for name in dead(demo):
        assert name in text


@pytest.mark.timeout(400)
def test_it_starts_with_a_year_of_history_that_equals_what_the_meters_counted(tmp_path: Path) -> None:
    """Out of the memory of the meters on lines without wire time, to the last digit."""
    demo = start_demo(tmp_path / "year", "--meters", "12")
    try:
        config = load_fleet(demo.folder / "fleet.toml")
        fleet = VirtualFleet(config)
        until = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        since = until - timedelta(days=364)
        asked = {
            "since": since.isoformat(), "until": until.isoformat(), "resolution": "month", "time_zone": "UTC",
            "lines": [line.name for line in config.lines if line.protocol == "modbus-tcp"],
        }  # fmt: skip
        answer = demo.ask("/api/services/meter_batch/get_history?return_response", asked)["service_response"]
        found = {one["name"]: one["rows"] for one in answer["points"].values()}
        meters = [meter for line, meter in fleet.meters if line.protocol == "modbus-tcp" and not meter.config.faults]
        assert len(meters) >= 6
        for meter in meters:
            rows = found[meter.config.name]
            assert len(rows) in (12, 13) and all(row["completeness"] == 1 for row in rows[1:-1])
            for obis, key in (("1-0:1.8.0", "energy_import"), ("1-0:2.8.0", "energy_export")):
                if obis in meter.template.by_obis:
                    counted = Decimal(meter.truth(until)[obis]) - Decimal(meter.truth(since)[obis])
                    summed = sum(Decimal(repr(row[key])) for row in rows)
                    assert summed == counted * Decimal(str(meter.config.ct)), (meter.config.name, key)
    finally:
        demo.process.send_signal(signal.SIGINT)
        demo.process.wait(60)


def test_when_it_is_stopped_nothing_is_left(tmp_path: Path) -> None:
    demo = start_demo(tmp_path / "small", "--no-wait", "--meters", "12")
    ports = demo.ports()
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(60) == 0
    for port in ports:
        with socket.socket() as one:
            assert one.connect_ex(("127.0.0.1", port)) != 0, f"port {port} is still open"
    left = subprocess.run(["pgrep", "-f", str(demo.folder)], capture_output=True, text=True, check=False)
    assert left.stdout == ""


def test_a_folder_that_is_not_the_demos_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    done = subprocess.run(
        [ROOT / "script" / "demo", "--fresh", "--folder", tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "choose another --folder" in done.stderr
    assert [one.name for one in tmp_path.iterdir()] == ["thesis.txt"]


def test_killed_half_way_it_leaves_no_orphan_and_comes_up_the_next_time(tmp_path: Path) -> None:
    command = [ROOT / "script" / "demo", "--json", "--meters", "12", "--folder", tmp_path / "demo"]
    first = subprocess.Popen([*command, "--port", str(free_port())], stderr=subprocess.PIPE, text=True)
    assert first.stderr
    while not first.stderr.readline().startswith("3/"):
        assert first.poll() is None
    first.kill()
    first.wait(10)
    deadline = time.monotonic() + 20
    while subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, check=False).stdout:
        assert time.monotonic() < deadline, "something of the demo is still running"
        time.sleep(0.5)
    again = start_demo(tmp_path / "demo", "--no-wait", "--meters", "12")
    again.process.send_signal(signal.SIGINT)
    assert again.process.wait(60) == 0
