"""Fixtures of the integration's tests: a Home Assistant with ours in it, and small pieces to test with."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from homeassistant.components import file_upload
from homeassistant.config_entries import ConfigEntryDisabler
from homeassistant.core import HomeAssistant
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.meter_batch.const import DOMAIN
from custom_components.meter_batch.engine.model.point import InstalledMeter, Multiplier, Point, Route
from custom_components.meter_batch.registry import ALWAYS
from meter_batch_virtual.config import parse_fleet
from meter_batch_virtual.fleet import VirtualFleet

HERE = Path(__file__).parent

# Else all processes of tests share one folder, and the first that ends removes it.
file_upload.TEMP_DIR_NAME += f"-{os.getpid()}"

# The plugin sets it to INFO: every statement would be written out.
logging.getLogger("sqlalchemy.engine").setLevel(logging.WARNING)


@pytest.fixture(autouse=True)
def _integration_is_found(request: pytest.FixtureRequest) -> None:
    # The recorder must be there before Home Assistant is.
    if "recorder_mock" in request.fixturenames:
        request.getfixturevalue("recorder_mock")
    if "hass" in request.fixturenames:
        request.getfixturevalue("enable_custom_integrations")


@pytest.fixture(autouse=True)
def _own_config_folder(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """The operation log goes to a folder of this test alone."""
    if "hass" in request.fixturenames:
        hass: HomeAssistant = request.getfixturevalue("hass")
        hass.config.config_dir = str(tmp_path)
        hass.config.allowlist_external_dirs = {str(tmp_path)}


def make_point(id_: str = "p1", name: str = "Hall 1", address: str = "1", line: str = "l1", **more: Any) -> Point:
    """A point with a Modbus meter."""
    values: dict[str, Any] = {
        "id": id_,
        "name": name,
        "meters": (InstalledMeter(ALWAYS, more.pop("template", "eastron/sdm630"), more.pop("serial", None)),),
        "routes": (Route(line, more.pop("protocol", "modbus"), address),),
    }
    if "ct" in more:
        values["multipliers"] = (Multiplier(ALWAYS, Decimal(more.pop("ct"))),)
    return Point(**{**values, **more})


@pytest.fixture
def now() -> datetime:
    return datetime(2026, 7, 1, 10, 0, tzinfo=UTC)


@pytest.fixture
def add_line(hass: HomeAssistant) -> Iterator[Callable[..., MockConfigEntry]]:
    """Makes config entries of lines, not set up."""

    def make(title: str = "East", **data: Any) -> MockConfigEntry:
        entry = MockConfigEntry(
            domain=DOMAIN,
            title=title,
            entry_id=data.pop("entry_id", None) or f"line_{title.lower()}",
            options=data.pop("options", {}),
            disabled_by=ConfigEntryDisabler.USER if data.pop("disabled", False) else None,
            unique_id=f"tcp://127.0.0.1:{data.get('port', 502)}",
            data={"link": "tcp", "host": "127.0.0.1", "port": 502, "protocol": "modbus-tcp", **data},
        )
        entry.add_to_hass(hass)
        return entry

    return make


type StartFleet = Callable[..., Awaitable[VirtualFleet]]


@pytest.fixture
async def start_fleet(socket_enabled: None, tmp_path: Path) -> AsyncIterator[StartFleet]:
    """Starts virtual fleets from TOML, held unless told otherwise, and stops them after the test."""
    running: list[VirtualFleet] = []

    async def start(toml: str, *, hold: bool = True) -> VirtualFleet:
        fleet = VirtualFleet(parse_fleet(toml, tmp_path / "fleet.toml"), hold=hold)
        await fleet.start()
        running.append(fleet)
        return fleet

    yield start
    for fleet in running:
        await fleet.stop()


def port_of(fleet: VirtualFleet, line: int = 0) -> int:
    """The port a line of a fleet listens on."""
    return int(fleet.lines[line].where.rpartition(":")[2])


async def wait_for[T](what: Callable[[], T], seconds: float = 15.0) -> T:
    """Waits until something holds; fails with the last answer."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not (answer := what()):
        assert asyncio.get_running_loop().time() < deadline, f"waited in vain, last answer: {answer!r}"
        await asyncio.sleep(0.05)
    return answer
